"""How long does a step of full fine-tuning take, ours and PyTorch's?

Both read the same rows of BANKING77 in batches of 32: forward with dropout, a linear head on four pooled layers, cross-entropy
with label smoothing, backward, clipping, AdamW. Both in float32 and with products of bfloat16 (PyTorch's `autocast`). Rounds
alternate; medians over all steps of all rounds.
"""

import argparse
import csv
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import torch
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModel, AutoTokenizer

BATCH = 32
POOLED = (6, 4, 2, 1)


def batches(rows, pad):
    """Padded to the longest row of each batch."""
    for first in range(0, len(rows), BATCH):
        part = rows[first : first + BATCH]
        longest = max(len(ids) for ids, _ in part)
        ids = torch.tensor([ids + [pad] * (longest - len(ids)) for ids, _ in part])
        mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in part])
        yield ids, mask, torch.tensor([label for _, label in part])


def theirs(folder, rows, pad, classes, precision):
    """Milliseconds of every step but the first."""
    torch.manual_seed(1)
    model = AutoModel.from_pretrained(folder, attention_probs_dropout_prob=0.0).train()
    # As in ours, embeddings stay as they are.
    for parameter in model.embeddings.parameters():
        parameter.requires_grad_(False)
    head = torch.nn.Linear(model.config.hidden_size * len(POOLED), classes)
    parameters = [p for p in [*model.parameters(), *head.parameters()] if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, foreach=True)
    steps = []
    for ids, mask, labels in batches(rows, pad):
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            hidden = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        share = mask[:, :, None].float()
        parts = [normalize((hidden[layer].float() * share).sum(1) / share.sum(1), dim=1) for layer in POOLED]
        loss = cross_entropy(head(torch.cat(parts, 1)), labels, label_smoothing=0.1)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        steps.append((time.perf_counter() - began) * 1e3)
    return steps[1:]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shared", type=pathlib.Path, required=True)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    folder = asked.shared / "models" / "all-MiniLM-L6-v2"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with open(asked.shared / "data" / "banking77" / "train.csv", newline="", encoding="utf-8") as file:
        table = list(csv.reader(file))[1:]
    names = {name: number for number, name in enumerate(sorted({label for _, label in table}))}
    # An even sample, one step more than is counted.
    wanted = (asked.steps + 1) * BATCH
    table = [table[position * len(table) // wanted] for position in range(wanted)]
    rows = [(tokenizer(text, truncation=True, max_length=256)["input_ids"], names[label]) for text, label in table]
    found = {(name, precision): [] for precision in ("f32", "bf16") for name in ("sizewise", "PyTorch " + torch.__version__)}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(rows, file)
        file.flush()
        for _ in range(asked.rounds):
            for (name, precision), steps in found.items():
                if name == "sizewise":
                    command = [asked.ours, file.name, "--threads", str(asked.threads), "--precision", precision]
                    steps += json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                else:
                    steps += theirs(folder, rows, tokenizer.pad_token_id, len(names), precision)
    print(f"A step of {BATCH} rows of BANKING77, {asked.threads} threads, {asked.rounds} rounds, AdamW")
    print(f"{'':<24}{'median':>12}{'fastest':>12}")
    for (name, precision), steps in found.items():
        print(f"{name + ', ' + precision:<24}{statistics.median(steps):>9.1f} ms{min(steps):>9.1f} ms")


if __name__ == "__main__":
    main()
