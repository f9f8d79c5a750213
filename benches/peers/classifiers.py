"""How good, fast and large are public classifiers next to our tiers, on the same official splits and one thread?

`classifiers` calls this in an environment of its own. Every program is fitted on the official training rows, answers the
official test rows, and is timed answering all of them in batches, in turns; medians over rounds are printed, in texts a second
of time on the core. Settings are the usual ones of each program; where there is a choice, the strength of a logistic head is
chosen on a tenth of the training rows. Training rows whose text is also a test row are left out for all.
"""

import argparse
import csv
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FEW = 8
SETFIT_STEPS = 400


def size_of(path):
    path = Path(path)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def pickled(thing):
    import pickle

    return len(pickle.dumps(thing))


def head(vectors, labels):
    """A logistic head whose strength is chosen on a tenth of the rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split

    fit = lambda c, x, y: LogisticRegression(C=c, max_iter=1000).fit(x, y)
    if len(labels) < 2_000:
        return fit(10.0, vectors, labels)
    x, held_x, y, held_y = train_test_split(vectors, labels, test_size=0.1, random_state=0, stratify=labels)
    best = max([1.0, 10.0, 100.0], key=lambda c: fit(c, x, y).score(held_x, held_y))
    return fit(best, vectors, labels)


def fast_text(texts, labels, context):
    import fasttext

    clean = lambda text: " ".join(text.lower().split())
    file = context.folder / "fasttext.txt"
    file.write_text("".join(f"__label__{label} {clean(text)}\n" for text, label in zip(texts, labels)))
    model = fasttext.train_supervised(
        str(file), epoch=50, lr=0.5, wordNgrams=2, minn=2, maxn=5, bucket=200_000, dim=100, thread=1, verbose=0
    )
    out = context.folder / "fasttext.bin"
    model.save_model(str(out))
    # The list form; the form for one text does not run with numpy 2.
    return lambda asked: [found[0][9:] for found in model.predict([clean(text) for text in asked])[0]], size_of(out)


def ngrams(texts, labels, _context):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    runs = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, min_df=2)
    model = make_pipeline(make_union(words, runs), LogisticRegression(C=10.0, max_iter=300))
    model.fit(texts, labels)
    return lambda asked: list(model.predict(asked)), pickled(model)


def static_vectors(texts, labels, context):
    import model2vec
    from model2vec.distill import distill

    where = Context.distilled
    if not where.exists():
        distill(model_name=str(context.model), pca_dims=256).save_pretrained(str(where))
    embeddings = model2vec.StaticModel.from_pretrained(str(where))
    encode = lambda asked: embeddings.encode(list(asked), use_multiprocessing=False)
    fitted = head(encode(texts), labels)
    return lambda asked: list(fitted.predict(encode(asked))), size_of(where) + pickled(fitted)


def sentence_vectors(texts, labels, context):
    import sentence_transformers
    import torch

    torch.set_num_threads(1)
    encoder = sentence_transformers.SentenceTransformer(str(context.model), device="cpu")
    encode = lambda asked: encoder.encode(list(asked), batch_size=64, show_progress_bar=False)
    fitted = head(encode(texts), labels)
    return lambda asked: list(fitted.predict(encode(asked))), size_of(context.model) + pickled(fitted)


def set_fit(texts, labels, context):
    import torch
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    torch.set_num_threads(1)
    model = SetFitModel.from_pretrained(str(context.model), device="cpu")
    arguments = TrainingArguments(
        output_dir=str(context.folder / "setfit"), batch_size=16, num_epochs=1, max_steps=SETFIT_STEPS,
        save_strategy="no", report_to="none", show_progress_bar=False, use_amp=False,
    )  # fmt: skip
    rows = Dataset.from_dict({"text": list(texts), "label": list(labels)})
    Trainer(model=model, args=arguments, train_dataset=rows).train()
    where = context.folder / "setfit-model"
    model.save_pretrained(str(where))
    return lambda asked: [str(found) for found in model.predict(list(asked), batch_size=64)], size_of(where)


def ours(texts, labels, context, test):
    """Our tiers through the program itself: the test rows are the development rows, which no tier is fitted on."""
    project = Path(tempfile.mkdtemp(dir=context.folder))
    (project / "tasks").mkdir()

    def write(name, rows):
        with open(project / name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *rows])

    write("train.csv", zip(texts, labels))
    write("test.csv", test)
    run = lambda *arguments: subprocess.run(
        [context.ours, "--quiet", "--project", str(project), "-o", "json", *arguments], check=True, capture_output=True
    ).stdout
    table = [str(project / name) for name in ("train.csv", "test.csv")]
    run("init", "task", "--from", table[0], "--gold", table[1], "--label", "label", "--text", "text",
        "--locked-share", "0.001", "--dev-share", "0.99", "--keep-case")  # fmt: skip
    run("train", "task", "--threads", "1")
    return run


PEERS = {
    "fastText": (fast_text, False),
    "n-grams + logistic regression": (ngrams, False),
    "model2vec + logistic regression": (static_vectors, False),
    "sentence-transformers + logistic regression": (sentence_vectors, False),
    "setfit": (set_fit, True),
}


def data_sets(shared):
    clean = lambda text: " ".join(text.split())
    banking = []
    for part in ("train", "test"):
        with open(shared / f"data/banking77/{part}.csv", newline="", encoding="utf-8") as file:
            banking.append([(clean(row["text"]), row["category"]) for row in csv.DictReader(file)])
    clinc = json.loads((shared / "data/clinc150/data_full.json").read_text(encoding="utf-8"))
    clinc = [[(clean(text), label) for text, label in clinc[part]] for part in ("train", "test")]
    found = {}
    for name, (train, test) in {"BANKING77": banking, "CLINC150": clinc}.items():
        asked = {text for text, _ in test}
        found[name] = [row for row in train if row[0] not in asked], test
    return found


def few(rows):
    """So many rows of every label."""
    rows, counts, kept = list(rows), {}, []
    random.Random(0).shuffle(rows)
    for text, label in rows:
        counts[label] = counts.get(label, 0) + 1
        if counts[label] <= FEW:
            kept.append((text, label))
    return kept


def timed(predict, texts):
    began = time.process_time()
    answers = predict(texts)
    return answers, len(texts) / (time.process_time() - began)


def compare(name, rows, test, is_few, context, arguments):
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    asked, truth = [text for text, _ in test], [label for _, label in test]
    peers, skipped, out = {}, [], []
    for peer, (make, only_few) in PEERS.items():
        wanted = arguments.only.lower() in peer.lower()
        if wanted and (is_few or not only_few):
            began = time.monotonic()
            print(f"  fitting {peer} on {len(rows)} rows", file=sys.stderr)
            try:
                peers[peer] = (*make(texts, labels, context), [], time.monotonic() - began)
            except Exception as problem:
                skipped.append(f"skipped: {peer}: {type(problem).__name__}: {str(problem)[:200]}")
    for _ in range(arguments.rounds):
        for peer, (predict, _, rates, _) in peers.items():
            answers, rate = timed(predict, asked)
            rates.append(rate)
            out = [line for line in out if line[0] != peer]
            right = sum(str(answer) == label for answer, label in zip(answers, truth))
            out.append((peer, right / len(truth), statistics.median(rates), peers[peer][1], peers[peer][3]))
    if arguments.only.lower() in "sizewise":
        print(f"  fitting Sizewise on {len(rows)} rows", file=sys.stderr)
        began = time.monotonic()
        run = ours(texts, labels, context, test)
        took = time.monotonic() - began
        found = json.loads(run("bench", "task", "--rounds", str(max(5, arguments.rounds))))
        if found["rows"] != len(test):
            skipped.append(f"note: our tiers answered {found['rows']} of {len(test)} test rows: the others are repetitions")
        for tier in found["releases"][0]["tiers"]:
            accuracy = tier["questions"][0]["accuracy"]["value"]
            size = tier["own_bytes"] + tier["shared_bytes"]
            out.append((f"Sizewise {tier['name']}", accuracy, tier["decisions_per_core_second"], size, took))
    how_many = f", {FEW} of every label" if is_few else ""
    print(f"\n{name}: {len(rows)} training rows{how_many}, {len(test)} test rows, one thread, medians of {arguments.rounds} rounds")
    print(f"{'':<46}{'right':>8}{'texts/s':>10}{'size, MB':>10}{'fitted in, s':>14}")
    for peer, accuracy, rate, size, took in out:
        print(f"{peer:<46}{accuracy:>8.3f}{rate:>10.0f}{size / 1e6:>10.1f}{took:>14.0f}")
    print("\n".join(skipped), flush=True)


class Context:
    """Where things are."""

    # Knows nothing of the data: once is enough.
    distilled = Path(tempfile.mkdtemp()) / "model2vec"

    def __init__(self, arguments):
        self.folder = Path(tempfile.mkdtemp())
        self.model = arguments.shared / "models/all-MiniLM-L6-v2"
        self.ours = os.path.abspath(arguments.ours)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="programs whose name holds this word")
    parser.add_argument("--data", default="", help="one of the data sets")
    parser.add_argument("--rows", type=int, default=0, help="only so many training and test rows: to try the script")
    arguments = parser.parse_args()
    for name, (train, test) in data_sets(arguments.shared).items():
        if arguments.data.lower() not in name.lower():
            continue
        if arguments.rows:
            labels = sorted({label for _, label in train})[:5]
            train, test = ([row for row in rows if row[1] in labels] for rows in (train, test))
            train, test = (random.Random(0).sample(rows, min(len(rows), arguments.rows)) for rows in (train, test))
        for is_few, rows in [(False, train), (True, few(train))]:
            compare(name, rows, test, is_few, Context(arguments), arguments)


main()
