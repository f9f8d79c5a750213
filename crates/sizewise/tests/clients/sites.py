"""Is a task found in what a program asks, and how good is the small model that is made of it?

`sites.py BINARY SHARED [CALLS [NOISE]]`: a provider of our own that knows the labels of BANKING77, a program that asks it through
`sizewise serve` with the public packages, then `discover`, `init --from-site`, `train` and `evaluate` on the official test rows.
The first stage runs in the environment of the clients (see run.py), with `--program URL FILE`.
"""

import concurrent.futures
import csv
import hashlib
import http.server
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import threading

import upstream

BEFORE, AFTER = "A customer of a bank writes: ", "\nAnswer with the name of the intent alone."
SYSTEM = "You sort messages to a bank by what the customer wants."


def program(url: str, asked: str) -> int:
    """What somebody's program does: one call for each line, every third streamed."""
    import anthropic
    import openai

    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    letters = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)
    texts = json.loads(pathlib.Path(asked).read_text())

    def sort(job):
        place, text = job
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": BEFORE + text + AFTER}]
        if place % 3:
            return client.chat.completions.create(model="large", messages=messages).choices[0].message.content
        with client.chat.completions.create(model="large", messages=messages, stream=True) as stream:
            return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    def triage(text):
        schema = {"type": "object", "properties": {"urgent": {"type": "boolean"}, "mood": {"enum": ["angry", "calm"]}, "why": {"type": "string"}}}
        form = {"format": {"type": "json_schema", "name": "triage", "schema": schema}}
        return client.responses.create(model="large", instructions="Judge the message.", input=text, text=form).output_text

    def rate(text):
        messages = [{"role": "user", "content": text}]
        return letters.messages.create(model="letters", max_tokens=20, system="Rate the message from 1 to 5.", messages=messages)

    def sum_up(text):
        messages = [{"role": "user", "content": f"Sum up: {text}"}]
        return client.chat.completions.create(model="large", messages=messages, extra_headers={"x-sizewise-site": "summaries"})

    def private(text):
        messages = [{"role": "user", "content": f"Private: {text}"}]
        return client.chat.completions.create(model="large", messages=messages, extra_headers={"x-sizewise-observe": "off"})

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(sort, enumerate(texts)))
        for job in (triage, rate, sum_up, private):
            list(pool.map(job, texts[:100]))
    assert all(answers), "a call was not answered"
    return 0


class Upstream(upstream.Upstream):
    labels: dict = {}
    noise = 0.0
    lock = threading.Lock()
    random = random.Random(7)

    def label(self, text: str) -> str:
        with self.lock:
            wrong = self.random.random() < self.noise
            return self.random.choice(sorted(set(self.labels.values()))) if wrong else self.labels[text]

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        usage = {"prompt_tokens": 60, "completion_tokens": 6, "total_tokens": 66, "input_tokens": 60, "output_tokens": 6}
        frame = {"id": "c1", "created": 1, "model": "large-0613"}
        if self.path.endswith("/responses"):
            digest = hashlib.sha256(asked["input"].encode()).digest()
            said = json.dumps({"urgent": digest[0] < 80, "mood": ["calm", "angry"][digest[1] % 2], "why": asked["input"][:20]})
            part = {"type": "output_text", "text": said, "annotations": []}
            message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]}
            details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
            more = {"tool_choice": "auto", "tools": [], "parallel_tool_calls": True}
            return self.whole({**frame, "object": "response", "created_at": 1, "status": "completed", "output": [message], "usage": {**usage, **details}, **more})
        if self.path.endswith("/messages"):
            level = 1 + len(asked["messages"][0]["content"]) % 5
            return self.whole({"id": "m1", "type": "message", "role": "assistant", "model": "letters-1", "stop_sequence": None,
                               "stop_reason": "end_turn", "content": [{"type": "text", "text": f"{level}"}], "usage": usage})
        text = asked["messages"][-1]["content"]
        said = self.label(text[len(BEFORE):-len(AFTER)]) if text.startswith(BEFORE) else f"In short: {text[8:60]}"
        if not asked.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
            return self.whole({**frame, "object": "chat.completion", "choices": [choice], "usage": usage})
        frame["object"] = "chat.completion.chunk"
        parts = [said[:5], said[5:]]
        chunks = [{"index": 0, "delta": {"content": part}, "finish_reason": None} for part in parts]
        chunks.append({"index": 0, "delta": {}, "finish_reason": "stop"})
        events = [f"data: {json.dumps({**frame, 'choices': [chunk]})}\n\n" for chunk in chunks]
        return self.stream([*events, "data: [DONE]\n\n"])


def rows(path: pathlib.Path) -> list:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run_step(sizewise: list, step: list, check: bool = True):
    print(f"\n$ sizewise {' '.join(step)}", flush=True)
    subprocess.run([*sizewise, *step], check=check)


def true_label(text):
    """The label of a text that was recorded without what is personal in it."""
    if text in Upstream.labels:
        return Upstream.labels[text]
    form = re.compile(".+".join(re.escape(part) for part in re.split(r"<[A-Z_]+_\d+>", text)), re.DOTALL)
    return next(label for known, label in Upstream.labels.items() if form.fullmatch(known))


def main() -> int:
    import run

    binary, shared = sys.argv[1], pathlib.Path(sys.argv[2])
    calls = int(sys.argv[3]) if len(sys.argv) > 3 else 2_000
    Upstream.noise = float(sys.argv[4]) if len(sys.argv) > 4 else 0.0
    train = rows(shared / "banking77" / "train.csv")
    Upstream.labels = {row["text"]: row["category"] for row in train}
    random.Random(1).shuffle(train)
    # One call in twenty asks what was asked before.
    texts = [row["text"] for row in train[: calls - calls // 20]]
    texts += random.Random(2).choices(texts, k=calls - len(texts))
    upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        project = pathlib.Path(folder)
        url = f'url = "http://127.0.0.1:{upstream.server_address[1]}/v1"\nprice_in = 2.50\nprice_out = 10.00\n'
        (project / "sizewise.toml").write_text(
            f'[provider.large]\nmodel = "large-1"\n{url}[provider.letters]\nmodel = "letters-1"\ndialect = "anthropic"\n{url}'
            '[relay]\nproviders = ["large", "letters"]\nbudget = { usd_per_day = 100.00 }\nobserve = "redacted"\n'
        )
        (project / "asked.json").write_text(json.dumps(texts))
        with run.Server(binary, folder) as address:
            asking = [str(run.environment()), __file__, "--program", address, str(project / "asked.json")]
            subprocess.run(asking, check=True)
        sizewise = [binary, "--quiet", "--project", folder]
        found = subprocess.run([*sizewise, "discover", "-o", "json"], capture_output=True, text=True, check=True)
        site = json.loads(found.stdout)["sites"][0]["id"]
        test = project / "test.csv"
        with test.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["text", "answer"])
            table.writerows((row["text"], row["category"]) for row in rows(shared / "banking77" / "test.csv"))
        for step in (
            ["discover"],
            ["discover", "--show", site],
            ["init", "intent", "--from-site", site],
            ["train", "intent"],
            ["evaluate", "intent", "--against", str(test), "--mistakes", "0"],
        ):
            run_step(sizewise, step)
        # People label what waits for them; the true labels do it here.
        to_label = project / "tasks" / "intent" / "data" / "to-label.csv"
        waiting = [row["text"] for row in rows(to_label)]
        with to_label.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["text", "answer"])
            table.writerows((text, true_label(text)) for text in waiting)
        run_step(sizewise, ["init", "intent", "--from-site", site, "--gold", str(to_label), "--force"])
        run_step(sizewise, ["train", "intent"])
        # Too little evidence is an answer, too.
        run_step(sizewise, ["certify", "intent"], check=False)
        run_step(sizewise, ["evaluate", "intent", "--against", str(test), "--mistakes", "0"])
    return 0


if __name__ == "__main__":
    sys.exit(program(*sys.argv[2:4]) if sys.argv[1] == "--program" else main())
