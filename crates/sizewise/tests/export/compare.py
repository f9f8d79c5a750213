"""Does an exported graph give the vectors that our own program gives for the same weights?

    compare.py GRAPH-FOLDER TEXTS VECTORS

GRAPH-FOLDER is what `sizewise models export NAME --format onnx` wrote, TEXTS has one text a line, VECTORS our vectors of them
as little-endian float32. Runs in the public onnxruntime package with the public tokenizers package; texts go through in
batches of mixed length, so that padding is tried too. What does not run here is named.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import tokenizers

LEAST_COSINE = 0.9999
BATCH = 16


def main():
    folder, texts, vectors = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    texts = texts.read_text(encoding="utf-8").splitlines()
    ours = np.fromfile(vectors, dtype="<f4").reshape(len(texts), -1)
    try:
        import onnx

        onnx.checker.check_model(str(folder / "model.onnx"), full_check=True)
        print(f"onnx.checker {onnx.__version__}: the graph is well formed")
    except ImportError:
        print("skipped: onnx.checker: the onnx package is not installed")
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # RoBERTa's first positions are none that a token can have.
    tokenizer.enable_truncation(min(512, config["max_position_embeddings"] - 2 * ("roberta" in config["model_type"])))
    tokenizer.enable_padding()
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    worst = 1.0
    for first in range(0, len(texts), BATCH):
        encoded = tokenizer.encode_batch(texts[first : first + BATCH])
        feed = {
            "input_ids": np.array([text.ids for text in encoded], dtype=np.int64),
            "attention_mask": np.array([text.attention_mask for text in encoded], dtype=np.int64),
        }
        hidden, embedding = session.run(["last_hidden_state", "sentence_embedding"], feed)
        assert hidden.shape[:2] == feed["input_ids"].shape, hidden.shape
        lengths = np.linalg.norm(embedding, axis=1)
        assert np.allclose(lengths, 1.0, atol=1e-5), lengths
        cosines = (embedding * ours[first : first + BATCH]).sum(1)
        worst = min(worst, float(cosines.min()))
    print(f"onnxruntime {onnxruntime.__version__}: {len(texts)} texts, least cosine to our vectors {worst:.6f}")
    if not worst >= LEAST_COSINE:
        sys.exit(f"the exported graph gives other vectors: cosine {worst}, at least {LEAST_COSINE} is wanted")


main()
