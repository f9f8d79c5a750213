"""Writes the tables of one public set: prepare.py SET DATA-FOLDER OUTPUT-FOLDER; gives train.csv and, where there is one, gold.csv."""

import csv
import json
import pathlib
import sys

LANGUAGES = "dan nob nno swe isl deu nld afr spa glg por cat ita fra ron ces slk pol hrv srp".split()


def write(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["text", "label"])
        table.writerows(rows)


def banking77(data):
    def part(name):
        with open(data / "banking77" / name, newline="", encoding="utf-8") as file:
            return [(row["text"], row["category"]) for row in csv.DictReader(file)]

    return part("train.csv"), part("test.csv")


def clinc150(data):
    parts = json.loads((data / "clinc150" / "data_full.json").read_text(encoding="utf-8"))

    def rows(*names):
        return [(text, label) for name in names for text, label in parts[name]]

    return rows("train", "oos_train", "oos_val"), rows("test", "oos_test")


def sentence_polarity(data):
    folder = data / "sentence-polarity"
    rows = []
    for name, label in [("rt-polarity.pos", "positive"), ("rt-polarity.neg", "negative")]:
        text = (folder / name).read_text(encoding="utf-8", errors="replace")
        rows += [(line.strip(), label) for line in text.splitlines() if line.strip()]
    return rows, None


def languages(data):
    rows = []
    for language in LANGUAGES:
        text = (data / "tatoeba-langid" / f"tatoeba.{language}-eng.{language}").read_text(encoding="utf-8")
        rows += [(line.strip(), language) for line in text.splitlines() if line.strip()]
    return rows, None


SETS = {"banking77": banking77, "clinc150": clinc150, "sentence-polarity": sentence_polarity, "languages": languages}

if __name__ == "__main__":
    name, data, output = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    train, gold = SETS[name](data)
    output.mkdir(parents=True, exist_ok=True)
    write(output / "train.csv", train)
    if gold:
        write(output / "gold.csv", gold)
