"""How fast are public programs with the same encoder on the same texts and one thread, next to ours?

`run` calls this in an environment of its own. Every round gives each program its turn; medians over rounds are printed.
Texts are sorted by length and put into batches of BATCH, which suits all of them; tokenizing is part of every time.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BATCH = 64
ONE_BY_ONE = 100


class Python:
    """A program that runs in this process: a tokenizer and a function from ids and mask to hidden states."""

    def __init__(self, tokenizer, forward):
        self.tokenizer, self.forward = tokenizer, forward

    def embed(self, texts):
        encoded = self.tokenizer.encode_batch(texts)
        ids = np.array([text.ids for text in encoded], dtype=np.int64)
        mask = np.array([text.attention_mask for text in encoded], dtype=np.int64)
        hidden = self.forward(ids, mask)
        mean = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def vectors(self, texts):
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        out = np.empty((len(texts), 384), dtype=np.float32)
        for first in range(0, len(order), BATCH):
            part = order[first : first + BATCH]
            out[part] = self.embed([texts[i] for i in part])
        return out

    def measure(self, texts, _file):
        times = []
        for text in texts[:ONE_BY_ONE]:
            began = time.perf_counter()
            self.embed([text])
            times.append((time.perf_counter() - began) * 1e3)
        began = time.perf_counter()
        self.vectors(texts)
        return {"p50_ms": statistics.median(times), "texts_per_s": len(texts) / (time.perf_counter() - began)}


class Program:
    """A program of its own that prints JSON; `pick` finds the figures in it."""

    def __init__(self, command, pick):
        self.command, self.pick = command, pick

    def measure(self, _texts, file):
        command = [part.replace("TEXTS", file) for part in self.command]
        environment = {**os.environ, "RAYON_NUM_THREADS": "1"}
        found = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return self.pick(json.loads(found.stdout))


def torch_peers(model, tokenizer):
    import torch
    import transformers

    torch.set_num_threads(1)
    names = f"PyTorch {torch.__version__.split('+')[0]}"
    found = {}
    for name, dtype in [("fp32", torch.float32), ("bf16", torch.bfloat16)]:
        network = transformers.AutoModel.from_pretrained(model, dtype=dtype).eval()

        def forward(ids, mask, network=network):
            with torch.inference_mode():
                states = network(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
                return states.last_hidden_state.float().numpy()

        found[f"{names} {name}"] = Python(tokenizer, forward)
    return found


def onnx_peers(model, tokenizer, folder):
    import onnx
    import onnxruntime
    import torch
    import transformers
    from onnxruntime.quantization import QuantType, quantize_dynamic

    class Plain(torch.nn.Module):
        """Ids and mask in, hidden states out: all that is exported."""

        def __init__(self):
            super().__init__()
            self.network = transformers.AutoModel.from_pretrained(model, attn_implementation="eager")

        def forward(self, ids, mask):
            return self.network(input_ids=ids, attention_mask=mask).last_hidden_state

    network = Plain().eval()
    whole, small = str(folder / "fp32.onnx"), str(folder / "int8.onnx")
    ids = torch.ones((2, 8), dtype=torch.int64)
    free = {0: "texts", 1: "tokens"}
    torch.onnx.export(
        network,
        (ids, ids),
        whole,
        input_names=["input_ids", "attention_mask"],
        output_names=["hidden"],
        dynamic_axes={"input_ids": free, "attention_mask": free, "hidden": free},
        dynamo=False,
    )
    try:
        # What onnxruntime's own documents ask for: join attention, normalisation and activation before quantizing.
        from onnxruntime.transformers.optimizer import optimize_model

        optimize_model(whole, model_type="bert", num_heads=12, hidden_size=384).save_model_to_file(whole)
    except Exception as problem:
        print(f"not joined before quantizing: {problem}", file=sys.stderr)
    # Joined operators are unknown to shape inference; all that they give is float.
    kinds = {"DefaultTensorType": onnx.TensorProto.FLOAT}
    quantize_dynamic(whole, small, weight_type=QuantType.QInt8, per_channel=True, extra_options=kinds)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    found = {}
    for name, file in [("fp32", whole), ("int8", small)]:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

        def forward(ids, mask, session=session):
            return session.run(["hidden"], {"input_ids": ids, "attention_mask": mask})[0]

        found[f"onnxruntime {onnxruntime.__version__} {name}"] = Python(tokenizer, forward)
    return found


def texts_of(shared, rows):
    with open(shared / "data/banking77/test.csv", newline="", encoding="utf-8") as file:
        banking = [" ".join(row["text"].split()) for row in csv.DictReader(file)]
    clinc = json.loads((shared / "data/clinc150/data_full.json").read_text(encoding="utf-8"))
    clinc = [" ".join(text.split()) for text, _ in clinc["test"]]
    step = lambda texts: texts[:: max(1, len(texts) // rows)][:rows]
    return {"BANKING77": step(banking), "CLINC150": step(clinc)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--candle", default="")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--title", default="")
    arguments = parser.parse_args()
    model = arguments.shared / "models/all-MiniLM-L6-v2"
    folder = Path(tempfile.mkdtemp())

    peers, skipped, best = {}, [], None
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(512)
    tokenizer.enable_padding()
    for name, make in [
        ("PyTorch", lambda: torch_peers(model, tokenizer)),
        ("onnxruntime", lambda: onnx_peers(model, tokenizer, folder)),
    ]:
        try:
            peers.update(make())
        except Exception as problem:
            skipped.append(f"skipped: {name}: {problem}")
    if arguments.candle:
        command = [arguments.candle, str(model), "TEXTS", str(BATCH)]
        peers["candle fp32"] = Program(command, lambda found: found)
    # The first round of a new process is its warm-up, as this process's first round is for the programs in it.
    ours = [arguments.ours, "--json", "--rounds", "3", "--texts", "TEXTS", "--kernel"]
    short = folder / "short"
    short.write_text("where is it\n")
    for kernel in ("AMX", "AVX-512 VNNI", "AVX2"):
        here = [str(short) if part == "TEXTS" else part for part in [*ours, kernel]]
        if subprocess.run(here, capture_output=True).returncode == 0:
            peers[f"Sizewise int8, {kernel}"] = Program([*ours, kernel], lambda found, k=kernel: found["kernels"][k])
            best = best or kernel

    for name, texts in texts_of(arguments.shared, arguments.rows).items():
        file = str(folder / f"{name}.txt")
        Path(file).write_text("\n".join(texts) + "\n", encoding="utf-8")
        found = {peer: [] for peer in peers}
        for _ in range(arguments.rounds):
            for peer, program in peers.items():
                found[peer].append(program.measure(texts, file))
        words = sum(len(text.split()) for text in texts) / len(texts)
        print(f"\n{name}: {len(texts)} texts of {words:.1f} words, one thread, medians of {arguments.rounds} rounds {arguments.title}")
        print(f"{'':<30}{'p50 of one text, ms':>22}{'texts/s':>10}")
        for peer, rounds in found.items():
            p50, rate = (statistics.median(one[key] for one in rounds) for key in ("p50_ms", "texts_per_s"))
            print(f"{peer:<30}{p50:>22.2f}{rate:>10.0f}")
        exact = next((peer for peer in peers if peer.endswith("fp32") and isinstance(peers[peer], Python)), None)
        if exact:
            vectors = str(folder / "vectors")
            command = [file if part == "TEXTS" else part for part in [*ours, best or "portable"]]
            subprocess.run([*command, "--vectors", vectors], check=True, capture_output=True)
            found_here = np.fromfile(vectors, dtype="<f4").reshape(len(texts), -1)
            cosines = (found_here * peers[exact].vectors(texts)).sum(1)
            print(f"cosine of our vectors to those of {exact}: least {cosines.min():.4f}, median {np.median(cosines):.4f}")
    print("\n".join(skipped))


if __name__ == "__main__":
    main()
