"""Is a cascade served within its promise, its budget and its privacy rule while the larger model behind it fails?

`escalation.py SIZEWISE TRAIN TEST` makes, certifies and serves a task, sends every test row over HTTP, and prints what was promised
beside what came. Exit code 1 where something was not kept.
"""

import concurrent.futures
import csv
import http.client
import json
import math
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import threading

import failing
import run

SIZEWISE, TRAIN, TEST = sys.argv[1:4]
# How often the larger model is right: better than the cascade, and not perfect.
RIGHT = 0.97
PRICE_IN, PRICE_OUT = 0.15, 0.60
# What must not leave, in the words of some callers.
SECRETS = ["4111 1111 1111 1111", "jo.miller@example.com", "DE89 3704 0044 0532 0130 00", "192.168.17.23", "sk-live-9f8e7d6c5b4a39281706"]
STRANGE = "I do not know what this is about, {}, and my hamster plays the trumpet"


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        label = next(name for name in reader.fieldnames if name != "text")
        return label, [(row["text"], row[label]) for row in reader]


def upper_bound(wrong, of, confidence=0.95):
    """Largest share that `wrong` of `of` leaves possible: Clopper and Pearson 1934, one side."""

    def at_most(share):
        return sum(
            math.exp(math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1) + k * math.log(share) + (of - k) * math.log1p(-share))
            for k in range(wrong + 1)
        )

    low, high = wrong / of, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if at_most(middle) > 1 - confidence else (low, middle)
    return high


def cli(project, *words):
    done = subprocess.run([SIZEWISE, "--quiet", "--project", str(project), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"sizewise {' '.join(words)}: {done.stderr or done.stdout}")
    return done.stdout


class Asking(threading.local):
    connection = None


ASKING = Asking()


def decide(url, text):
    """The decision on one text, as its one answer; None where the server gave an error."""
    host = url.removeprefix("http://")
    for attempt in (0, 1):
        if ASKING.connection is None:
            ASKING.connection = http.client.HTTPConnection(host, timeout=60)
        try:
            ASKING.connection.request("POST", "/v1/tasks/desk/decide", json.dumps({"input": text}), {"content-type": "application/json"})
            reply = ASKING.connection.getresponse()
            body = json.loads(reply.read())
            return body["answers"][0] if reply.status == 200 else None
        except (http.client.HTTPException, ConnectionError):
            ASKING.connection = None
            if attempt:
                raise


def ask_all(url, texts):
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda text: decide(url, text), texts))


def is_answered(answer):
    return answer["disposition"]["is"] == "answered"


def main():
    label, test = rows(TEST)
    # Tables often stand in the order of their classes, and traffic does not: a server that watches would take each class for a changed mix.
    random.Random(11).shuffle(test)
    model = failing.Model(dict(test), RIGHT)
    address = failing.start(model)
    broken = []

    def told(what, promised, came, kept):
        print(f"{what:<58} {promised:>14} {came:>14}  {'kept' if kept else 'BROKEN'}")
        if not kept:
            broken.append(what)

    with tempfile.TemporaryDirectory() as folder:
        project = pathlib.Path(folder)
        (project / "tasks").mkdir()
        one = f'dialect = "openai"\nprice_in = {PRICE_IN}\nprice_out = {PRICE_OUT}\ntimeout_s = 2\nresidency = "elsewhere"\n'
        (project / "sizewise.toml").write_text(
            f'[provider.first]\nurl = "{address}/first/v1"\nmodel = "large-1"\nfallback = "second"\n{one}'
            f'[provider.second]\nurl = "{address}/second/v1"\nmodel = "large-2"\n{one}'
        )
        cli(project, "init", "desk", "--from", TRAIN, "--text", "text", "--label", label)
        cli(project, "train", "desk")
        cli(project, "certify", "desk")
        file = project / "tasks" / "desk" / "task.toml"
        text = re.sub(r"^# remote = .*$", 'remote = "first"', file.read_text(), flags=re.MULTILINE)
        text = re.sub(r'^may_leave = .*$', 'may_leave = "redacted"', text, flags=re.MULTILINE)
        file.write_text(text + "\n[budget]\nusd_total = 1.00\n")
        promise = float(re.search(r"^max_served_error = ([0-9.]+)", text, flags=re.MULTILINE).group(1))
        with run.Server(SIZEWISE, str(project)) as url:
            answers = ask_all(url, [text for text, _ in test])
            secret_texts = [STRANGE.format(secret) for secret in SECRETS for _ in range(20)]
            secret_answers = ask_all(url, secret_texts)
        answered = [(answer, gold) for answer, (_, gold) in zip(answers, test) if answer and is_answered(answer)]
        local = [(answer, gold) for answer, gold in answered if answer["certified"]]
        remote = [(answer, gold) for answer, gold in answered if not answer["certified"]]
        wrong = sum(answer["value"] != gold for answer, gold in local)
        print(f"{len(test)} rows over HTTP; the larger model was called {sum(model.played.values())} times and failed in {len(failing.FAILURES)} ways:")
        for kind, count in sorted(model.played.items(), key=lambda pair: -pair[1]):
            print(f"  {count:>5}  {kind}")
        print(f"\n{'':<58} {'promised':>14} {'came':>14}")
        failed = sum(answer is None for answer in answers + secret_answers)
        told("requests that got an error", 0, failed, failed == 0)
        told("served error of what the local tiers answered", f"≤ {promise:.1%}", f"{wrong / len(local):.1%}", wrong / len(local) <= promise)
        unplayed = [kind for kind in failing.FAILURES if not model.played[kind]]
        told("ways of failing that were played", len(failing.FAILURES), len(failing.FAILURES) - len(unplayed), not unplayed)
        leaked = sum(secret in body for secret in SECRETS for body in model.received)
        told("personal data that reached the larger model", 0, leaked, leaked == 0)
        whole = sum(answer["value"] == gold for answer, gold in remote)
        told("answers of the larger model that are right", f"> {RIGHT - 0.1:.0%}", f"{whole / max(1, len(remote)):.1%}", whole > (RIGHT - 0.1) * len(remote))
        spending = json.loads(cli(project, "spending", "-o", "json"))["micro_usd"]
        billed = math.ceil(model.billable_tokens[0] * PRICE_IN + model.billable_tokens[1] * PRICE_OUT)
        told("spent, as the ledger has it", "≤ $1.00", f"${spending / 1e6:.6f}", spending <= 1_000_000)
        told("what the larger model could bill, within what was spent", f"≤ ${spending / 1e6:.6f}", f"${billed / 1e6:.6f}", billed <= spending)

        # Almost nothing is left: local tiers go on, and the rest is for people.
        limit = spending + 3_000
        file.write_text(file.read_text().replace("usd_total = 1.00", f"usd_total = {limit / 1e6:.6f}"))
        with run.Server(SIZEWISE, str(project)) as url:
            later = ask_all(url, [text for text, _ in test[:1500]])
        spent = json.loads(cli(project, "spending", "-o", "json"))["micro_usd"]
        told("spent once the budget is nearly gone", f"≤ ${limit / 1e6:.6f}", f"${spent / 1e6:.6f}", spent <= limit)
        def in_house(answer):
            return answer is not None and is_answered(answer) and answer["certified"]

        # What a server raises its threshold for meanwhile is not the budget's doing.
        def sure(answer):
            return answer is None or answer["confidence"] is not None and answer["confidence"] >= answer["threshold"]

        held = sum(in_house(before) and not in_house(after) and sure(after) for before, after in zip(answers, later))
        served = sum(in_house(after) for after in later)
        told("answers of local tiers that a spent budget held up", 0, held, held == 0 and served > len(later) // 2)
        refused = sum(bool(answer) and (answer.get("remote") or {}).get("problem") == "budget_spent" for answer in later)
        told("questions that say that the budget is spent", "> 0", refused, refused > 0)

        right = sum(answer["value"] == gold for answer, gold in answered)
        print(f"\nanswered in the house {len(local) / len(test):.1%} (95 % sure: at most {upper_bound(wrong, len(local)):.1%} wrong), by the larger model {len(remote) / len(test):.1%}, "
              f"left for a person {1 - len(answered) / len(test):.1%}; right of all answered {right / len(answered):.1%}")
    print("all kept" if not broken else f"broken: {', '.join(broken)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
