"""What do the public `tokenizers` and `transformers` packages answer, so that this crate can be held against it?

Writes the fixtures that `tests/parity.rs` reads, beside this file:

  texts.json                  texts, and their ids under each of four normalizers
  keeps-accents.json          tokenizers that no model folder below has
  strips-accents-cased.json
  bert/, distilbert/          tiny models with random weights: config.json, tokenizer.json, model.safetensors, and
                              expected.json with the float32 embeddings that PyTorch computes

The vocabulary, the texts and the weights (from fixed seeds) are made here; nothing comes from a published model. The
expected ids and embeddings come from the packages alone. Run it again only to change what is tested:

  python3 -m venv VENV && VENV/bin/pip install torch transformers tokenizers
  VENV/bin/python crates/sizewise-models/tests/parity/make_fixtures.py

The versions that made the committed files are in `texts.json`.
"""

import json
import pathlib
import string

import tokenizers
import torch
import transformers
from tokenizers import models, normalizers, pre_tokenizers, processors

HERE = pathlib.Path(__file__).resolve().parent
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
POSITIONS = 48

# Normalizers by name, and the file that holds the tokenizer. Without a value, accents follow the case.
VARIANTS = {
    "uncased": ("bert/tokenizer.json", {"lowercase": True, "strip_accents": None}),
    "cased": ("distilbert/tokenizer.json", {"lowercase": False, "strip_accents": None}),
    "keeps-accents": ("keeps-accents.json", {"lowercase": True, "strip_accents": False}),
    "strips-accents-cased": ("strips-accents-cased.json", {"lowercase": False, "strip_accents": True}),
}

TEXTS = [
    # Nothing, or nothing that stays.
    "",
    " ",
    "\t\n\r  \u00a0\u3000\u2028",
    "\u200b\u200d\ufeff\u00ad",
    "\u0301\u0308",
    "\0\ufffd\x07",
    # Plain words, upper case, digits.
    "my card was lost yesterday",
    "My Card Was LOST Yesterday!",
    "I STILL have not received THE new card that I ordered",
    "order 4711 cost $39.90, not 93,09",
    "unlosted relosting cardings",
    "a b c x y z",
    "Zq9x8w7v",
    # Punctuation.
    "wait... what?!?! no--really",
    "((([[[{{{<<<>>>}}}]]])))",
    "don't, can't & won't; e-mail: a_b+c@d.org #1 ~50% \\ ^ | ` = \"x\"",
    "[CLS] my [SEP] card [UNK] [MASK] [PAD]",
    "## ##ing ###card card##ing",
    "\u201cquoted\u201d \u2018single\u2019 \u2014 dash \u2013 and \u2026 more",
    "\u00bfd\u00f3nde est\u00e1 mi tarjeta? \u00a1ayuda!",
    "price \u20ac5 \u00a35 \u00b15 5\u00d75 5\u00b0 \u00a7 5 \u00b6 \u00b7",
    "a\u00abb\u00bbc\u2039d\u203ae\u3008f\u3009\u2329g\u232a\u037eh\u0387i\u1fefj",
    # Space of every kind.
    "card\u00a0lost\u2003now\u202fhere\u3000too\u2028line\u2029end",
    "card\tlost\nnow\r\nhere\x0btoo\x0cend",
    "card\x85lost\x1cnow\x1fhere",
    "  leading and trailing  ",
    "card\u1680lost\u180enow\u205fhere",
    # What is dropped.
    "ca\u200brd lo\u200dst no\ufeffw he\u00adre",
    "ca\0rd lo\ufffdst\x07 no\x1bw \x7fhere",
    "\u202eright to left\u202c \u2066isolate\u2069",
    "private \ue000 use \U000f0000 and unassigned \u0378 \U000e0041",
    "ascii with\x01 control\x02s only",
    # Accents and combining marks.
    "Caf\u00e9 na\u00efve r\u00e9sum\u00e9 \u00c9COLE",
    "Cafe\u0301 nai\u0308ve re\u0301sume\u0301",
    "\u1ea4\u1ec7\u1edb \u01d6 \u1e69 s\u0323\u0307 s\u0307\u0323",
    "z\u0351\u0346a\u0334l\u0353g\u0360o\u0489",
    "\u00c5ngstr\u00f6m \u212bngstr\u00f6m \u2126 \u212a",
    "Stra\u00dfe STRASSE \u1e9e \u00f8re \u0141\u00f3d\u017a \u00e6 \u0153 \ufb01ne",
    # Case that is not one to one.
    "\u0130stanbul I\u0307stanbul \u0131s\u0131 ISI",
    "\u039f\u0394\u039f\u03a3 \u03a3\u039f\u03a6\u03af\u03b1 \u1f88 \u0391\u0345",
    "\u01c5 \u01c4 \u01c6 \u1e9e \ufb03 \u0149",
    "\u2160\u2161 \u24b6 \uff21\uff22\uff23 \uff01\uff1f",
    # Han and its neighbours.
    "\u6211\u7684\u5361\u4e22\u4e86",
    "\u6211lost\u6211\u7684card\u4e861",
    "\u6211\u7684\u5361\u4e22\u4e86\uff0c\u600e\u4e48\u529e\uff1f\u3002\u300c\u597d\u300d",
    "\u6211\u0301\u7684\u0308a\u0301\u5361",
    "\uf900\u8c48 \ufa0e \U0002f800\u4e3d",
    # Both sides of every border of what counts as Han; letters show whether a word is split there.
    "a\u33ffb c\u3400d e\u4dbff g\u4dc0h i\u4e00j k\u9fffl m\ua000n o\uf900p q\ufad9r s\ufb00t",
    "a\U0001fffdb c\U00020000d e\U0002a6d6f g\U0002a6e0h i\U0002a700j k\U0002b734l m\U0002b740n o\U0002b81dp",
    "a\U0002b820b c\U0002b91fd e\U0002b920f g\U0002cea1h i\U0002ceb0j k\U0002f800l m\U0002fa1dn o\U0002fa20p q\U00030000r",
    "\u30ab\u30fc\u30c9\u3092\u306a\u304f\u3057\u307e\u3057\u305f \u304c\u30ac\uff76\uff9e \u3005\u3007",
    "\ud55c\uad6d\uc5b4 \uce74\ub4dc \u1112\u1161\u11ab",
    # Other scripts.
    "\u041c\u043e\u044f \u043a\u0430\u0440\u0442\u0430 \u041f\u041e\u0422\u0415\u0420\u042f\u041d\u0410 \u0439\u0419 \u0451\u0401",
    "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd \u0645\u064e\u0631\u0652\u062d\u064e\u0628\u064b\u0627 \u061f \u0660\u0661",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0915\u093c \u0958 \u0964 \u0995\u09cb",
    "\u0e44\u0e17\u0e22 \u0e01\u0e33 \u0e02\u0e36\u0e49\u0e19",
    # Emoji.
    "great \U0001f44d\U0001f3fd thanks \u2615\ufe0f!",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea 1\ufe0f\u20e3 \u2764",
    "card\U0001f44dlost\u2615\u2615",
    "\U0001d49c\U0001d4b7 \U00010400\U00010428 \U0001e922",
    # Long words: at, below and above the limit of characters, in one and in several bytes each.
    "c" * 99 + " " + "d" * 100 + " " + "e" * 101,
    "\u0434" * 100 + " " + "\u0434" * 101,
    "\u00e9" * 60 + " " + "e\u0301" * 60 + " " + "\u0130" * 51 + " " + "\u0130" * 100,
    "lost" * 25 + " " + "lost" * 25 + "s",
    "x" * 99 + "!" + "x" * 101 + "\u00ad" + "\u00ad" * 100 + "y",
]

# Embedded: short and long ones, of known and of unknown pieces.
EMBEDDED = [
    "",
    "my card was lost yesterday",
    "My Card Was LOST Yesterday!",
    "order 4711 cost $39.90, not 93,09",
    "wait... what?!?! no--really",
    "Caf\u00e9 na\u00efve r\u00e9sum\u00e9 \u00c9COLE",
    "\u0130stanbul I\u0307stanbul \u0131s\u0131 ISI",
    "\u6211\u7684\u5361\u4e22\u4e86\uff0c\u600e\u4e48\u529e\uff1f\u3002\u300c\u597d\u300d",
    "\u041c\u043e\u044f \u043a\u0430\u0440\u0442\u0430 \u041f\u041e\u0422\u0415\u0420\u042f\u041d\u0410 \u0439\u0419 \u0451\u0401",
    "great \U0001f44d\U0001f3fd thanks \u2615\ufe0f!",
    "I STILL have not received THE new card that I ordered, please help me now: it was lost in the post, or not sent",
]

# Too long for the models: read in windows.
LONG = "my card was lost yesterday, I ordered a new one and have still not received it! " * 6

WORDS = """
    my card was lost yesterday still have not received the new that ordered order cost wait what no really quoted single
    dash and more price now here too line end leading trailing right to left great thanks please help me it in post or sent
    cafe caf\u00e9 naive resume ecole istanbul isi strasse fine Card Was LOST My Yesterday The I
""".split()
CONTINUATIONS = "s ed ing er ly ings est un re lost card fe ve me \u00e9 \u00ef \u00df \u0131 \u0307 \u0301".split()


def vocabulary() -> dict[str, int]:
    """About 400 pieces, in an order that never changes."""
    pieces = list(SPECIAL)
    pieces += string.digits + string.ascii_lowercase + string.ascii_uppercase + string.punctuation
    pieces += [f"##{c}" for c in string.digits + string.ascii_lowercase + string.ascii_uppercase]
    pieces += "\u00bf\u00a1\u201c\u201d\u2018\u2019\u2014\u2013\u2026\u20ac\u00a3\u00a7\u00b7\u00ab\u00bb\u3008\u3009\u3002\uff0c\uff1f\u300c\u300d"
    pieces += "\u00e9\u00e8\u00fc\u00f6\u00e5\u00f1\u00df\u00f8\u00e6\u0130\u0131\u0142\u0153\u01c6\ufb01\u212b\u2126\u03c9\u03c3\u03bf\u0301\u0307"
    pieces += "\u6211\u7684\u5361\u4e22\u4e86\u600e\u4e48\u529e\u597d\u8c48\uf900\u4e3d\ufa0e\U00020000\u3007\u30ab\u30ac\u304b\u304c"
    pieces += "\ud55c\u1112\uce74\u1100\u1111\u110f\u0434\u043a\u043c\u041c\u043f\u0438\u0439\u0435\u0451\u05e9\u0645\u0939\u0915\u0e44\u0e01"
    pieces += "\U0001f44d\u2615\u2764\U0001f468\u1161"
    pieces += [f"##{c}" for c in "\u043e\u044f\u0430\u0440\u0442\u0434\u0435\u043d\u0439\u0438\u03b4\u03bf\u03c3\u03c2\u03c6\u03b9\u03b1"]
    pieces += [f"##{c}" for c in "\u1161\u11ab\u110f\u30fc\u30c8\u3099\U0001f3fd\ufe0f\u200d\U0001f44d\u2615\u05dc\u05d5\u0631\u0e22\u0e17"]
    pieces += WORDS + [f"##{piece}" for piece in CONTINUATIONS]
    return {piece: id for id, piece in enumerate(dict.fromkeys(pieces))}


def tokenizer(settings: dict) -> tokenizers.Tokenizer:
    vocab = vocabulary()
    made = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    made.add_special_tokens(SPECIAL)
    made.normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, **settings)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocab[name]) for name in ("[CLS]", "[SEP]")],
    )
    return made


def write(path: pathlib.Path, value: dict) -> None:
    """Every list on a line of its own, so that a change shows as the texts it touches; invisible characters escaped."""

    def lines(value, indent: str) -> str:
        nested = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        if not any(isinstance(inner, (dict, list)) for inner in nested):
            return json.dumps(value, separators=(",", ":"))
        deeper = indent + " "
        if isinstance(value, dict):
            inner = [f"{deeper}{json.dumps(key)}:{lines(part, deeper)}" for key, part in value.items()]
            return "{\n" + ",\n".join(inner) + f"\n{indent}}}"
        return "[\n" + ",\n".join(deeper + lines(part, deeper) for part in value) + f"\n{indent}]"

    path.write_text(lines(value, "") + "\n")


def write_ids(made: dict[str, tokenizers.Tokenizer]) -> None:
    texts = []
    for text in TEXTS:
        row = {"text": text}
        for name, one in made.items():
            # What a user writes is data: special tokens in it are read as text.
            one.encode_special_tokens = True
            row[name] = one.encode(text).ids
            one.enable_truncation(16)
            row[f"{name} in 16"] = one.encode(text).ids
            one.no_truncation()
        # Cut ids are worth their bytes only where something was cut.
        texts.append({key: value for key, value in row.items() if key == "text" or "in 16" not in key or len(value) == 16})
    versions = {package.__name__: package.__version__ for package in (tokenizers, transformers, torch)}
    files = {name: {"file": file, **settings} for name, (file, settings) in VARIANTS.items()}
    write(HERE / "texts.json", {"made_with": versions, "tokenizers": files, "texts": texts})


def randomise(model: torch.nn.Module) -> None:
    """Fresh models have zero biases and unit norms, which would hide that a bias or norm is never applied."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0.0, 0.1)
            elif "norm" in name.lower():
                parameter.normal_(1.0, 0.2)


def numbers(rows: torch.Tensor) -> list:
    return [[float(f"{value:.7g}") for value in row] for row in rows.double().tolist()]


def hidden_states(base: torch.nn.Module, sequences: list[list[int]]) -> list[list[torch.Tensor]]:
    """Of every sequence by itself, so that padding has no part in it: all layers from the embeddings up."""
    found = []
    with torch.no_grad():
        for ids in sequences:
            out = base(input_ids=torch.tensor([ids]), output_hidden_states=True)
            found.append([layer[0] for layer in out.hidden_states])
    return found


def mean_rows(states: list[list[torch.Tensor]], layer: int) -> torch.Tensor:
    return torch.stack([layers[layer].mean(dim=0) for layers in states])


def write_model(folder: pathlib.Path, model, base_of, made: tokenizers.Tokenizer, activation_key: str, positions: int = POSITIONS) -> None:
    model.eval()
    randomise(model)
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    (folder / "generation_config.json").unlink(missing_ok=True)
    base = base_of(model)
    made.encode_special_tokens = True
    sequences = [made.encode(text).ids for text in EMBEDDED]
    states = hidden_states(base, sequences)
    layers = len(states[0]) - 1
    made.enable_truncation(positions)
    long = made.encode(LONG)
    windows = [long.ids] + [more.ids for more in long.overflowing]
    made.no_truncation()
    # Windows of a long text are averaged by their length, each of unit length before.
    rows = torch.nn.functional.normalize(mean_rows(hidden_states(base, windows), -1), dim=1)
    weights = torch.tensor([[float(len(ids))] for ids in windows])
    expected = {
        "texts": EMBEDDED,
        "ids": sequences,
        # Mean-pooled, not scaled: [layer from the last to the embeddings, text, hidden]
        "layers": [numbers(mean_rows(states, layer)) for layer in range(layers, -1, -1)],
        "first_token": numbers(torch.stack([layer[-1][0] for layer in states])),
        "long": {
            "text": LONG,
            "windows": windows,
            "embedding": numbers((rows * weights).sum(dim=0, keepdim=True))[0],
        },
        "activations": {},
    }
    for name in ("gelu_new", "relu"):
        config = base.config.to_dict() | {activation_key: name}
        other = type(base)(type(base.config).from_dict(config))
        missing, unexpected = other.load_state_dict(base.state_dict(), strict=False)
        # The new model may have a pooling head on top, which has no part in token vectors.
        assert not unexpected and all(key.startswith("pooler.") for key in missing), (missing, unexpected)
        other.eval()
        expected["activations"][name] = numbers(mean_rows(hidden_states(other, sequences), -1))
    write(folder / "expected.json", expected)


def main() -> None:
    torch.set_num_threads(1)
    made = {name: tokenizer(settings) for name, (_, settings) in VARIANTS.items()}
    for name, (file, _) in VARIANTS.items():
        (HERE / file).parent.mkdir(exist_ok=True)
        made[name].save(str(HERE / file), pretty=False)
    write_ids(made)
    size = len(vocabulary())
    # Weights far from zero make every layer move the vectors; the usual 0.02 leaves them at the embeddings.
    torch.manual_seed(20240611)
    bert = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=size, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48,
            max_position_embeddings=POSITIONS, initializer_range=0.3, hidden_act="gelu",
        ),
        add_pooling_layer=False,
    )
    write_model(HERE / "bert", bert, lambda model: model, made["uncased"], "hidden_act")
    torch.manual_seed(20240612)
    # With a head on top, so that the family's name stands before every tensor.
    distilbert = transformers.DistilBertForMaskedLM(
        transformers.DistilBertConfig(
            vocab_size=size, dim=32, n_layers=2, n_heads=4, hidden_dim=48,
            max_position_embeddings=POSITIONS, initializer_range=0.3, activation="gelu",
        )
    )
    write_model(HERE / "distilbert", distilbert, lambda model: model.distilbert, made["cased"], "activation")


if __name__ == "__main__":
    main()
