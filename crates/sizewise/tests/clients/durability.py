"""Is anything lost or mixed while releases are switched under load, while the server is killed?

`durability.py SIZEWISE TABLE [--swaps N] [--canaries N] [--shadows N] [--kills N] [--seed N]` makes and certifies two releases of a task of the bundled
example, switches between them under load, tries one as a canary of the other and puts it in force or not, kills the server at random moments under load, and
prints what was promised beside what came. Zero leaves a part out. Exit code 1 where something was not kept.
"""

import argparse
import collections
import csv
import http.client
import json
import pathlib
import random
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import run

TASK = "support"
TEXTS = 400
CLIENTS = 6
# Answers that must have come of a release before the next one is put in force.
SEEN = 3
# From the first request to the kill, at most. Seconds.
LONGEST = 0.25
# One kill in so many comes while the server starts.
AT_START = 10

broken = []


def told(what, promised, came, kept):
    print(f"{what:<76} {promised:>8} {came:>12}  {'kept' if kept else 'BROKEN'}", flush=True)
    if not kept:
        broken.append(what)


def none_of(what, found):
    told(what, "0", f"{len(found):,}", not found)
    for one in found[:3]:
        print(f"    {one}")


class Project:
    """A task with two certified releases."""

    def __init__(self, binary, folder, table):
        self.binary, self.folder = binary, folder
        self.cli("init", TASK, "--from", table)
        file = self.folder / "tasks" / TASK / "task.toml"
        # Two openings for two releases; rows are few, so the promise is loose.
        text = file.read_text().replace("openings = 1", "openings = 2")
        # The same few texts over and over look like a new kind of input, which would be handed on.
        text = re.sub(r"^look_share = .*$", "look_share = 0.0", text, flags=re.MULTILINE)
        file.write_text(re.sub(r"^max_served_error = .*$", "max_served_error = 0.1", text, flags=re.MULTILINE))
        self.releases = []
        for seed in ("1", "2"):
            self.cli("train", TASK, "--seed", seed)
            self.cli("certify", TASK)
            with self.server() as url:
                self.releases.append(Client(url).get(f"/v1/tasks/{TASK}/certificate")["release"])

    def cli(self, *words):
        done = subprocess.run([self.binary, "--quiet", "--project", str(self.folder), *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"sizewise {' '.join(words)}: {done.stderr or done.stdout}")
        return done.stdout

    def server(self):
        return run.Server(self.binary, str(self.folder))

    def database(self):
        """What is at rest, read beside the server and never written."""
        return sqlite3.connect(f"file:{self.folder / '.sizewise' / 'store.db'}?mode=ro", uri=True, timeout=30)


class Refused(Exception):
    pass


class Client:
    """One connection. What it hands out was acknowledged: a whole reply with status 200."""

    def __init__(self, url):
        self.connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
        self.subject = None

    def get(self, path):
        return self.send("GET", path, None)

    def post(self, path, body):
        return self.send("POST", path, json.dumps(body))

    def send(self, method, path, body):
        headers = {"content-type": "application/json"} if body else {}
        if self.subject:
            headers["x-sizewise-subject"] = self.subject
        self.connection.request(method, path, body, headers)
        reply = self.connection.getresponse()
        text = reply.read()
        if reply.status != 200:
            raise Refused(f"{method} {path}: {reply.status} {text[:200]!r}")
        return json.loads(text)

    def decide(self, text):
        return self.post(f"/v1/tasks/{TASK}/decide", {"input": text})

    def decide_all(self, texts, subject):
        """One request about several texts."""
        self.subject = subject
        return self.post(f"/v1/tasks/{TASK}/decide", {"inputs": texts})["decisions"]


def said(decision):
    """What must be the same whenever a release is asked the same text, by question, beside the threshold that held."""
    return {
        a["question"]: (a.get("threshold"), (a["value"], a["suggestion"], a["confidence"], a["disposition"], a["certified"]))
        for a in decision["answers"]
    }


def differs(expected, decision, compared):
    """Whether a release says something else than when it was asked alone. Its threshold rises while the mix of classes in the traffic is
    another one, and then another tier may answer: what was said under another threshold is not compared, and counted apart."""
    found = said(decision)
    same = [question for question in expected if expected[question][0] == found[question][0]]
    compared["answers"] += len(same)
    compared["under a raised threshold"] += len(expected) - len(same)
    return any(expected[question] != found[question] for question in same)


def enough(compared):
    """A comparison that compares little proves nothing."""
    share = compared["answers"] / max(1, sum(compared.values()))
    told("share of the answers that could be compared", "≥ 50 %", f"{share:.0%}", share >= 0.5)


def gone(error):
    """Whether a connection ended, as it does when the server is killed."""
    return isinstance(error, (OSError, http.client.HTTPException))


# Switching under load.


def answers_of_both(project, texts):
    """What each release answers, asked alone."""
    table = {}
    for release in project.releases:
        project.cli("rollback", TASK, release)
        with project.server() as url:
            client = Client(url)
            for text in texts:
                decision = client.decide(text)
                assert decision["release"] == release, "a server that starts serves what is in force"
                table[release, text] = said(decision)
    return table


def swaps(project, texts, count):
    table = answers_of_both(project, texts)
    differ = sum(table[project.releases[0], text] != table[project.releases[1], text] for text in texts)
    values = sum(
        [one[:2] for one in table[project.releases[0], text]] != [one[:2] for one in table[project.releases[1], text]] for text in texts
    )
    print(f"two certified releases, {len(texts)} texts: {differ} are answered differently by them, {values} with another value")
    failed, mixed, late, latencies = [], [], [], []
    came, compared = collections.Counter(), collections.Counter()
    state = {"over": False, "since": 0.0, "release": None}

    def asks(seed):
        order = random.Random(seed)
        client = Client(url)
        while not state["over"]:
            text = order.choice(texts)
            # In force and acknowledged before this request began; none while a switch is under way.
            expected, since = state["release"], state["since"]
            begun = time.monotonic()
            try:
                decision = client.decide(text)
            except (Refused, OSError, http.client.HTTPException) as error:
                failed.append(repr(error))
                client = Client(url)
                continue
            latencies.append(time.monotonic() - begun)
            release = decision["release"]
            if (release, text) not in table or differs(table[release, text], decision, compared):
                mixed.append((release, text, said(decision), table.get((release, text))))
            if expected and state["since"] == since and release != expected:
                late.append((expected, release))
            came[release] += 1

    with project.server() as url:
        threads = [threading.Thread(target=asks, args=(seed,)) for seed in range(CLIENTS)]
        for thread in threads:
            thread.start()
        operator = Client(url)
        in_force, made, begun = project.releases[1], collections.Counter(), time.monotonic()
        for number in range(count):
            in_force = next(one for one in project.releases if one != in_force)
            state["release"], state["since"] = None, time.monotonic()
            before = came[in_force]
            # Every tenth is made by another process, which the server finds out by itself.
            if number % 10 == 9:
                project.cli("rollback", TASK, in_force)
                made["by the command line"] += 1
            else:
                operator.post(f"/console/api/tasks/{TASK}/release", {"release": in_force})
                state["release"] = in_force
                made["in the console"] += 1
            patience = time.monotonic() + 30
            while came[in_force] < before + SEEN:
                if time.monotonic() > patience:
                    raise SystemExit(f"swap {number}: the server never answered by {in_force}")
                time.sleep(0.0005)
        seconds = time.monotonic() - begun
        state["over"] = True
        for thread in threads:
            thread.join()
    ways = ", ".join(f"{number} {way}" for way, number in made.items())
    latencies.sort()
    print(
        f"{count:,} swaps ({ways}), each seen in at least {SEEN} answers, in {seconds:.0f} s; {len(latencies):,} requests over {CLIENTS} connections, "
        f"p50 {1e3 * latencies[len(latencies) // 2]:.1f} ms, p99 {1e3 * latencies[len(latencies) * 99 // 100]:.1f} ms"
    )
    none_of(f"{count:,} swaps under load: failed requests", failed)
    enough(compared)
    none_of(f"{count:,} swaps under load: answers that are not those of the release they name", mixed)
    none_of("answers of the release before, to requests after the switch was acknowledged", late)


# Trying a release on a share of the requests, under load.


def canaries(project, texts, count, seed):
    """Each swap begins as a canary of the release that is not in force and ends with it put in force, or not."""
    table, subjects = answers_of_both(project, texts), [f"customer-{number}" for number in range(200)]
    failed, mixed, strayed, late, told, compared = [], [], [], [], collections.Counter(), collections.Counter()
    # What is known for sure: whichever release may answer; every switch counts one up before and one after.
    state = {"over": False, "step": 0, "may": set(project.releases)}

    def asks(number):
        order = random.Random(seed + number)
        client = Client(url)
        while not state["over"]:
            chosen, subject = order.sample(texts, 2), order.choice([None, *order.sample(subjects, 3)])
            step, may = state["step"], set(state["may"])
            try:
                decisions = client.decide_all(chosen, subject)
            except (Refused, OSError, http.client.HTTPException) as error:
                failed.append(repr(error))
                client = Client(url)
                continue
            releases = {decision["release"] for decision in decisions}
            if len(releases) > 1 or any(differs(table[d["release"], text], d, compared) for d, text in zip(decisions, chosen, strict=True)):
                mixed.append((releases, chosen))
            release = decisions[0]["release"]
            if state["step"] == step and not step % 2:
                if release not in may:
                    late.append((may, release))
                # While one canary lasts, a subject has one release.
                elif subject and len(may) == 2 and homes.setdefault((step, subject), release) != release:
                    strayed.append((step, subject))
            told[release] += 1

    with project.server() as url:
        homes = {}
        operator = Client(url)
        live = operator.get(f"/v1/tasks/{TASK}/certificate")["release"]
        act = lambda body: operator.post(f"/console/api/tasks/{TASK}/trial", body)  # noqa: E731
        state["may"] = {live}
        threads = [threading.Thread(target=asks, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        begun, promoted = time.monotonic(), 0

        def switch(body, may):
            # Odd while nobody knows yet who answers.
            state["step"] += 1
            act(body)
            state["may"] = may
            state["step"] += 1
            seen, patience = sum(told.values()), time.monotonic() + 30
            while sum(told.values()) < seen + 2 * SEEN:
                if time.monotonic() > patience:
                    raise SystemExit("the server answers no more")
                time.sleep(0.0005)

        for number in range(count):
            other = next(one for one in project.releases if one != live)
            switch({"act": "begin", "release": other, "mode": "canary", "share": (0.1, 0.5, 0.9)[number % 3]}, set(project.releases))
            if number % 2:
                switch({"act": "end"}, {live})
            else:
                switch({"act": "promote"}, {other})
                live, promoted = other, promoted + 1
        seconds = time.monotonic() - begun
        state["over"] = True
        for thread in threads:
            thread.join()
    print(f"{count:,} canaries of 10, 50 and 90 %, {promoted:,} of them put in force, in {seconds:.0f} s; {sum(told.values()):,} requests of two inputs each")
    none_of(f"{count:,} canaries under load: failed requests", failed)
    enough(compared)
    none_of(f"{count:,} canaries under load: requests with answers of two releases, or not those of the one they name", mixed)
    none_of("subjects that changed their release while a canary lasted", strayed)
    none_of("answers of a release that could not answer any more, or not yet", late)


# What a shadow costs those who are answered.


def shadows(project, texts, rounds):
    """One caller after the other, with and without a shadow of every request, in turn."""
    took, waited, judged = collections.defaultdict(list), collections.defaultdict(list), collections.Counter()
    with project.database() as database:
        (earlier,) = database.execute("SELECT coalesce(max(number), 0) FROM trials").fetchone()
    with project.server() as url:
        client = Client(url)
        live = client.get(f"/v1/tasks/{TASK}/certificate")["release"]
        other = next(one for one in project.releases if one != live)
        for number in range(2 * rounds):
            way = ("without", "with")[(number + number // 2) % 2]
            if way == "with":
                client.post(f"/console/api/tasks/{TASK}/trial", {"act": "begin", "release": other, "mode": "shadow", "share": 1})
            inside, outside = [], []
            for text in texts:
                begun = time.perf_counter()
                inside.append(client.decide(text)["elapsed_us"])
                outside.append(1e6 * (time.perf_counter() - begun))
            took[way].append(statistics.median(inside))
            waited[way].append(statistics.median(outside))
            if way == "with":
                client.post(f"/console/api/tasks/{TASK}/trial", {"act": "end"})
    # The server has ended, and written down what it counted.
    with project.database() as database:
        for (counts,) in database.execute("SELECT counts FROM trial_counts WHERE trial > ?", [earlier]):
            for name in ("inputs", "dropped", "failed"):
                judged[name] += json.loads(counts)[name]
    sent = rounds * len(texts)
    print(f"{2 * rounds} rounds of {len(texts)} requests, one by one, with and without a shadow in turn; of {sent:,} it judged {judged['inputs']:,}, dropped {judged['dropped']:,}, failed at {judged['failed']:,}")
    for what, found in (("inside the server", took), ("for the caller", waited)):
        without, beside = statistics.median(found["without"]), statistics.median(found["with"])
        spread = max(found["without"]) / min(found["without"]) - 1
        print(f"p50 {what}: {without:,.0f} µs without, {beside:,.0f} µs with a shadow ({beside / without - 1:+.1%}); rounds without one differ by {spread:.1%}")
    told("inputs that a shadow neither judged nor counted as dropped or failed", "0", f"{sent - sum(judged.values()):,}", sent == sum(judged.values()))


# Killing under load.


class Kept:
    """What was acknowledged."""

    def __init__(self):
        self.decisions, self.labels = {}, {}
        self.refused, self.lost = [], []

    def check(self, database, decisions, labels):
        """Whether all of it is there."""
        for id, decision in decisions.items():
            if not database.execute("SELECT 1 FROM records WHERE id = ?", [id]).fetchone():
                self.lost.append(f"decision {id}")
            for answer in decision["answers"]:
                if answer["disposition"].get("to") != "person":
                    continue
                if not database.execute("SELECT 1 FROM queue WHERE decision = ? AND question = ?", [id, answer["question"]]).fetchone():
                    self.lost.append(f"question {id}/{answer['question']} for a person")
        for (id, question), (label, action) in labels.items():
            if database.execute("SELECT answer FROM queue WHERE decision = ? AND question = ?", [id, question]).fetchone() != (label,):
                self.lost.append(f"label {id}/{question}")

    def compare(self, project):
        """Whether every decision says what its caller was told, as anybody may export it."""
        file = project.folder / "records.jsonl"
        project.cli("records", TASK, "-o", str(file), "--force")
        written = collections.defaultdict(list)
        with file.open(encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                written[row["decision"]].append((row["question"], row["value"], row["confidence"]))
        for id, decision in self.decisions.items():
            # A record has what the models would say, also where a person is to say it.
            if written[id] != [(a["question"], a["suggestion"], a["confidence"]) for a in decision["answers"]]:
                self.lost.append(f"answers of decision {id}")


class Round:
    """One life of a server: whoever asks and labels until it is killed."""

    def __init__(self, url, texts, classes, earlier, seed):
        self.url, self.texts, self.classes, self.earlier = url, texts, classes, earlier
        self.decisions, self.labels, self.refused = {}, {}, []
        self.random = random.Random(seed)
        work = [self.asks] * (CLIENTS - 2) + [self.feeds, self.labels_queue]
        self.threads = [threading.Thread(target=self.until_gone, args=(one,)) for one in work]
        for thread in self.threads:
            thread.start()

    def until_gone(self, work):
        try:
            work(Client(self.url))
        except Exception as error:  # noqa: BLE001 - whatever ends a client is either the kill or told
            if not gone(error):
                self.refused.append(repr(error))

    def join(self):
        for thread in self.threads:
            thread.join()

    def label(self, question, suggestion):
        """Mostly what was answered: labels that contradict it would break the promise, and nothing would be answered any more."""
        return suggestion if self.random.random() < 0.98 else self.random.choice(self.classes[question])

    def asks(self, client):
        while True:
            decision = client.decide(self.random.choice(self.texts))
            self.decisions[decision["id"]] = decision

    def feeds(self, client):
        while True:
            known = list(self.decisions.values())[-20:] or self.earlier
            answered = [(one, a["question"], a["value"]) for one in known for a in one["answers"] if a["disposition"]["is"] == "answered"]
            if not answered:
                # Asks on, so that it notices when the server is gone.
                client.get("/healthz")
                continue
            decision, question, value = self.random.choice(answered)
            label = self.label(question, value)
            try:
                client.post(f"/v1/tasks/{TASK}/feedback", {"decision": decision["id"], "question": question, "label": label})
            except Refused as error:
                # Something else was said of it before.
                if ": 409 " not in str(error):
                    raise
                continue
            self.labels[decision["id"], question] = (label, "feedback.given")

    def labels_queue(self, client):
        while True:
            for item in client.get(f"/console/api/queue/{TASK}")["items"][:8]:
                label = self.label(item["question"], item.get("suggestion") or self.classes[item["question"]][0])
                try:
                    client.post(f"/console/api/queue/{TASK}", {"decision": item["decision"], "question": item["question"], "answer": label})
                except Refused as error:
                    # What was drawn at random may have been answered by its caller meanwhile.
                    if "waits for an answer" not in str(error):
                        raise
                    continue
                self.labels[item["decision"], item["question"]] = (label, "queue.answered")
            client.get("/healthz")


def kills(project, texts, classes, count, seed):
    moments = random.Random(seed)
    kept, earlier, begun, at_start = Kept(), [], time.monotonic(), 0
    last = None
    for number in range(count):
        if number % AT_START == AT_START - 1:
            starting = subprocess.Popen(
                [project.binary, "--project", str(project.folder), "serve", "--bind", "127.0.0.1:0"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(moments.uniform(0, LONGEST))
            starting.kill()
            starting.wait()
            at_start += 1
            continue
        server = project.server()
        # What the life before acknowledged, read while this one lives.
        if last:
            with project.database() as database:
                kept.check(database, last.decisions, last.labels)
        last = Round(server.url, texts, classes, earlier, seed + number)
        time.sleep(moments.uniform(0, LONGEST))
        server.process.kill()
        last.join()
        server.process.wait()
        server.process.stdout.close()
        kept.refused.extend(last.refused)
        kept.decisions.update({id: {"id": id, "answers": decision["answers"]} for id, decision in last.decisions.items()})
        kept.labels.update(last.labels)
        earlier = list(last.decisions.values())[-50:]
    seconds = time.monotonic() - begun

    # All of it once more at the end, and as everybody may see it.
    with project.server() as url:
        with project.database() as database:
            kept.check(database, kept.decisions, kept.labels)
            kept.compare(project)
            damaged = [line for (line,) in database.execute("PRAGMA integrity_check") if line != "ok"]
        client = Client(url)
        unknown = []
        for (id, question), (label, action) in moments.sample(sorted(kept.labels.items()), min(500, len(kept.labels))):
            fed = client.post(f"/v1/tasks/{TASK}/feedback", {"decision": id, "question": question, "label": label})
            if fed["became"] != "known":
                unknown.append((id, question, fed))
    log = project.folder / "log.jsonl"
    project.cli("audit", "export", "-o", str(log))
    entries = collections.Counter()
    with log.open(encoding="utf-8") as file:
        for line in file:
            entry = json.loads(line)
            if entry["action"] in ("feedback.given", "queue.answered"):
                entries[entry["object"], entry["detail"]["question"], entry["action"]] += 1
    unwritten = [(id, question) for (id, question), (_, action) in kept.labels.items() if not entries[id, question, action]]
    verified = subprocess.run([project.binary, "--project", str(project.folder), "audit", "verify"], capture_output=True, text=True, check=False)
    with project.database() as database:
        labelled = set(database.execute("SELECT decision, question FROM queue WHERE state = 'answered'"))
    acted = {(id, question) for id, question, _ in entries}
    gold = project.folder / "gold.csv"
    project.cli("queue", "export", TASK, "-o", str(gold))
    with gold.open(newline="", encoding="utf-8") as file:
        exported = sum(bool(row[question]) for row in csv.DictReader(file) for question in classes if question in row)

    print(
        f"{count:,} SIGKILLs at random moments in {seconds:.0f} s, {at_start} of them while the server started; acknowledged: "
        f"{len(kept.decisions):,} decisions, {len(kept.labels):,} labels"
    )
    enough = len(kept.decisions) >= 10 * (count - at_start) and len(kept.labels) >= count - at_start
    told("acknowledged before a kill, on average", "≥ 10; 1", f"{len(kept.decisions) / count:.0f}; {len(kept.labels) / count:.0f}", enough)
    none_of("requests refused while the server lived", kept.refused)
    none_of(f"{count:,} SIGKILLs under load: acknowledged decisions, queued questions and labels lost", kept.lost)
    none_of(f"{count:,} SIGKILLs under load: acknowledged labels without an audit entry", unwritten)
    none_of("labels without an audit entry, or entries without a label, acknowledged or not", sorted(labelled ^ acted))
    none_of("acknowledged labels that the server does not know, of those it was told again", unknown)
    told("labels in `queue export`", f"{len(labelled):,}", f"{exported:,}", exported == len(labelled))
    told("`audit verify`", "whole", "whole" if verified.returncode == 0 else "damaged", verified.returncode == 0)
    none_of("damage that the database finds in itself", damaged)


def main():
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("sizewise")
    words.add_argument("table")
    words.add_argument("--swaps", type=int, default=1000)
    words.add_argument("--canaries", type=int, default=500)
    words.add_argument("--shadows", type=int, default=10)
    words.add_argument("--kills", type=int, default=1000)
    words.add_argument("--seed", type=int, default=1)
    asked = words.parse_args()
    with open(asked.table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    texts = random.Random(asked.seed).sample(sorted({row["message"] for row in rows}), TEXTS)
    classes = {"team": sorted({row["team"] for row in rows if row["team"] != "out_of_scope"}), "urgent": ["no", "yes"]}
    print(f"{'':<76} {'promised':>8} {'came':>12}")
    if asked.swaps or asked.canaries or asked.shadows or asked.kills:
        with tempfile.TemporaryDirectory() as folder:
            project = Project(asked.sizewise, pathlib.Path(folder), asked.table)
            if asked.swaps:
                swaps(project, texts, asked.swaps)
            if asked.canaries:
                canaries(project, texts, asked.canaries, asked.seed)
            if asked.shadows:
                shadows(project, texts, asked.shadows)
            if asked.kills:
                kills(project, texts, classes, asked.kills, asked.seed)
    print("all kept" if not broken else f"broken: {', '.join(broken)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
