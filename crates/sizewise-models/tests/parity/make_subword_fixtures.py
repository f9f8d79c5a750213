"""What do the public packages answer for byte-level BPE and Unigram, and for the encoders that read them?

Writes the fixtures that `tests/parity.rs` reads, beside this file:

  subword-texts.json            texts, and their ids under each of six tokenizers
  bpe-old.json, unigram-*.json  tokenizers that no model folder below has
  roberta/, xlm-roberta/, modernbert/
                                tiny models with random weights, in the form of `make_fixtures.py`

The tokenizers are trained here on text written here, and the table of characters in `xlm-roberta/tokenizer.json` is made
here from Unicode's data in Python. Expected ids and embeddings come from the packages alone. Run it as `make_fixtures.py`:

  VENV/bin/python crates/sizewise-models/tests/parity/make_subword_fixtures.py
"""

import json
import struct
import unicodedata

import tokenizers
import torch
import transformers
from make_fixtures import EMBEDDED, HERE, LONG, TEXTS, WORDS, write, write_model
from tokenizers import AddedToken, models, normalizers, pre_tokenizers, processors, trainers

ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
# Most pieces of one text; the trained vocabularies are small and cut finely.
POSITIONS = 64
BERT = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]

# What those of `make_fixtures.py` leave out: what splitting rules and tables of characters turn on.
MORE = [
    "I've they'll we're don't he'd I'm it's 's 't 'S DON'T o'clock ''s",
    " 've got   many    spaces     here      and       more        ",
    "a  b   c    d     e                        f",
    "tabs\t\tand\n\nlines \n \t mixed \r\n end",
    "x" * 300,
    "supercalifragilisticexpialidocious" * 8,
    "lostlostlostlost cardcardcardcardcard",
    "https://example.org/path/to?query=1&other=%20two#part user@example.org",
    "C:\\Users\\name\\file_name-v2.tar.gz /usr/local/bin",
    "1234567890 3.14159 1,000,000 1e-9 0x1F \u0661\u0662\u0663 \u2167 \u00bd \u00b2 \u2460 \u0967\u0968",
    "\u24b6\u24d0 \U0001f150 \u2c7c \u1d2c \u02b0 \u00aa\u00ba \u0345 \u0903",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0637\u0627\u0642\u062a\u064a \u0636\u0627\u0639\u062a \ufdfa \ufefb",
    "\u0e1a\u0e31\u0e15\u0e23\u0e02\u0e2d\u0e07\u0e09\u0e31\u0e19\u0e2b\u0e32\u0e22 \u0e01\u0e33\u0e41\u0e1e\u0e07",
    "\u0915\u094d\u0937\u0924\u094d\u0930\u093f\u092f \u0939\u093f\u0928\u094d\u0926\u0940",
    "\ud55c\uad6d\uc5b4 \uce74\ub4dc \u1112\u1161\u11ab \uff76\uff70\uff84\uff9e",
    "\u6211\u7684\u5361\u4e22\u4e86\uff0c\u600e\u4e48\u529e\uff1f\u3000\u30ab\u30fc\u30c9\u3092\u7d1b\u5931\u3057\u307e\u3057\u305f\u3002",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea \u2764\ufe0f \u0031\ufe0f\u20e3",
    "e\u0301a\u0300o\u0302 n\u0303 a\u0323\u0307 e\u0301\u0301 \u0301e",
    "a\u200db a\u200cb a\u200bb a\ufeffb a\u00adb \u202eb",
    "\uff21\uff22\uff23 \uff11\uff12 \ufb01 \ufb03 \u2122 \u33c4 \u3392 \u2167 \u212b",
    "\u00a0nbsp\u00a0\u00a0two\u2003em\u3000wide\u2028line\u0085next\u180evowel",
    "\x00\x01\x02 \x1b[31m \x7f \x80\x9f \x0b\x0c",
    "\u2581already \u2581\u2581twice a\u2581b \u2581",
    "|||EMAIL_ADDRESS||| me |||IP|||",
    "\r\n",
    "\u0600\u0661 \u0e33 \r\u0301",
    "\U0010ffff \U0001f9ff \ufffd \ue000",
]

# Special tokens in a text are text: byte-level BPE reads them as the package does when it is told so.
NAMED = ["<s> my </s> card <mask><unk> <pad>", "[CLS] my [SEP] card [UNK] [MASK] [PAD]", "<s>", "  <mask>  x"]

CORPUS = [
    "my card was lost yesterday and I have not received the new card that I ordered",
    "what happens when the payment was declined but the money has left my account?",
    "please cancel the transfer; it's the wrong amount, and they've charged me twice",
    "how long does it take until my top-up arrives, and why is it still pending?",
    "I don't recognise this transaction of 39.90 from last week, somebody stole my card",
    "the exchange rate that you applied is wrong, we're asking for our money back",
    "wo ist meine Karte? Ich habe sie gestern verloren und brauche eine neue",
    "\u00bfd\u00f3nde est\u00e1 mi tarjeta? la perd\u00ed ayer, necesito una nueva",
    "j'ai perdu ma carte hier, o\u00f9 est-ce que je peux en commander une nouvelle ?",
    "\u6211\u7684\u5361\u4e22\u4e86\uff0c\u600e\u4e48\u529e\uff1f\u6211\u7684\u65b0\u5361\u8fd8\u6ca1\u6709\u5230",
    "\u043c\u043e\u044f \u043a\u0430\u0440\u0442\u0430 \u043f\u043e\u0442\u0435\u0440\u044f\u043d\u0430, \u0433\u0434\u0435 \u043d\u043e\u0432\u0430\u044f \u043a\u0430\u0440\u0442\u0430",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0637\u0627\u0642\u062a\u064a \u0636\u0627\u0639\u062a",
    "\u0e1a\u0e31\u0e15\u0e23\u0e02\u0e2d\u0e07\u0e09\u0e31\u0e19\u0e2b\u0e32\u0e22",
    "for x in items:\n    print(x)  # a comment\n\treturn 42\n",
]


def corpus() -> list[str]:
    return CORPUS * 4 + [" ".join(WORDS)] + EMBEDDED + [LONG]


def around(made: tokenizers.Tokenizer, begin: str, end: str):
    special = [(name, made.token_to_id(name)) for name in (begin, end)]
    return processors.TemplateProcessing(single=f"{begin} $A {end}", pair=f"{begin} $A {end} $B:1 {end}:1", special_tokens=special)


def bpe(special: list[str], add_prefix_space: bool, normalizer=None, size: int = 520) -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    if normalizer is not None:
        made.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        corpus(), trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    )
    return made


def unigram(normalizer, pre_tokenizer) -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.Unigram())
    made.normalizer, made.pre_tokenizer = normalizer, pre_tokenizer
    made.train_from_iterator(
        corpus(), trainers.UnigramTrainer(vocab_size=420, special_tokens=ROBERTA, unk_token="<unk>", show_progress=False)
    )
    made.post_processor = around(made, "<s>", "</s>")
    return made


def replacements() -> dict[str, str]:
    """Some of what SentencePiece replaces: compatibility forms, decomposed letters, controls, space of every kind."""
    found = {}
    for first, last in [(0xA0, 0x17F), (0x1E00, 0x1E20), (0x2000, 0x200A), (0x2100, 0x217F), (0x2460, 0x2473), (0x3000, 0x3000),
                        (0x3380, 0x33D0), (0xFB00, 0xFB06), (0xFDFA, 0xFDFA), (0xFEFB, 0xFEFB), (0xFF01, 0xFF9F)]:
        for c in map(chr, range(first, last + 1)):
            for form in (c, unicodedata.normalize("NFD", c)):
                if unicodedata.normalize("NFKC", form) != form:
                    found[form] = unicodedata.normalize("NFKC", form)
    for c in "\t\n\r\x0b\x0c\u2028\u2029\u0085\u00a0":
        found[c] = " "
    for c in "\x01\x02\x07\x1b\x7f\u200b\u200c\u200e\u202e\ufeff\u00ad":
        found[c] = ""
    found["\r\n"] = " "
    return found


def charsmap(table: dict[str, str]) -> bytes:
    """A double array in the layout of Darts-clone: label in bits 0-7 and 31, a leaf's mark in bit 8, the offset from bit 10 on."""
    strings, begins = b"", {}
    for text in sorted(set(table.values())):
        begins[text] = len(strings)
        strings += text.encode() + b"\0"
    trie: dict = {}
    for key, text in table.items():
        node = trie
        for byte in key.encode():
            node = node.setdefault(byte, {})
        node[0] = begins[text]
    units, taken, bases = {0: 0}, {0}, {0}

    def place(at: int, node: dict) -> None:
        labels = sorted(node)
        base = next(b for b in range(1, 1 << 20) if b not in bases and not any(b ^ label in taken for label in labels))
        bases.add(base)
        taken.update(base ^ label for label in labels)
        units[at] = units.get(at, 0) | ((at ^ base) << 10) | ((0 in node) << 8)
        for label in labels:
            if label == 0:
                units[base] = node[0] | 1 << 31
            else:
                units[base ^ label] = label
                place(base ^ label, node[label])

    place(0, trie)
    size = (max(taken) // 256 + 1) * 256
    packed = b"".join(struct.pack("<I", units.get(at, 0)) for at in range(size))
    return struct.pack("<I", len(packed)) + packed + strings


def old_form(made: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """As files of some years ago: merges as lines, an unknown token that hides bytes without a piece, whole words first."""
    file = json.loads(made.to_str())
    file["model"]["merges"] = [" ".join(pair) for pair in file["model"]["merges"]]
    for c in "qzQZ~":
        del file["model"]["vocab"][c]
    file["model"]["merges"] = [
        line for line in file["model"]["merges"] if all(part in file["model"]["vocab"] for part in (*line.split(), line.replace(" ", "")))
    ]
    file["model"] |= {"unk_token": "<unk>", "fuse_unk": True, "ignore_merges": True}
    return file


def main() -> None:
    torch.set_num_threads(1)
    roberta = bpe(ROBERTA, add_prefix_space=False)
    roberta.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    prefixed = bpe(ROBERTA, add_prefix_space=True)
    prefixed.post_processor = around(prefixed, "<s>", "</s>")
    modern = bpe(BERT, add_prefix_space=False, normalizer=normalizers.NFC())
    modern.add_tokens([AddedToken("|||EMAIL_ADDRESS|||", normalized=False), AddedToken("|||IP|||", normalized=True)])
    modern.add_tokens([AddedToken(" " * length, normalized=True) for length in range(24, 1, -1)])
    modern.add_tokens([AddedToken("Caf\u00e9", normalized=True), AddedToken("[unused0]", normalized=False)])
    modern.post_processor = around(modern, "[CLS]", "[SEP]")
    space = pre_tokenizers.WhitespaceSplit()
    metaspace = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    xlm = unigram(normalizers.Precompiled(charsmap(replacements())), pre_tokenizers.Sequence([space, metaspace]))
    steps = unigram(
        normalizers.Sequence([
            normalizers.Replace("``", '"'), normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(),
            normalizers.Replace(tokenizers.Regex(" {2,}"), " "), normalizers.Strip(left=False, right=True),
        ]),
        metaspace,
    )
    never = unigram(
        normalizers.Sequence([normalizers.NFC(), normalizers.Prepend("_")]),
        pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="never", split=False),
    )
    made = {
        "roberta": ("roberta/tokenizer.json", roberta), "bpe-old": ("bpe-old.json", prefixed),
        "modernbert": ("modernbert/tokenizer.json", modern), "xlm-roberta": ("xlm-roberta/tokenizer.json", xlm),
        "unigram-steps": ("unigram-steps.json", steps), "unigram-never": ("unigram-never.json", never),
    }
    for file, one in made.values():
        (HERE / file).parent.mkdir(exist_ok=True)
        one.save(str(HERE / file), pretty=False)
    (HERE / "bpe-old.json").write_text(json.dumps(old_form(prefixed), ensure_ascii=False, separators=(",", ":")))
    made["bpe-old"] = ("bpe-old.json", tokenizers.Tokenizer.from_file(str(HERE / "bpe-old.json")))
    texts = []
    for text in TEXTS + MORE + NAMED:
        row = {"text": text}
        for name, (_, one) in made.items():
            if "<" in text and text in NAMED and isinstance(one.model, models.Unigram):
                continue
            one.encode_special_tokens = True
            row[name] = one.encode(text).ids
        texts.append(row)
    versions = {package.__name__: package.__version__ for package in (tokenizers, transformers, torch)}
    files = {name: {"file": file} for name, (file, _) in made.items()}
    write(HERE / "subword-texts.json", {"made_with": versions, "tokenizers": files, "texts": texts})

    # Positions begin after the padding's id.
    shape = dict(hidden_size=32, num_attention_heads=4, intermediate_size=48, max_position_embeddings=POSITIONS + 2,
                 initializer_range=0.3, type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2, layer_norm_eps=1e-5)
    torch.manual_seed(20240613)
    model = transformers.RobertaModel(
        transformers.RobertaConfig(vocab_size=roberta.get_vocab_size(), num_hidden_layers=2, **shape), add_pooling_layer=False
    )
    write_model(HERE / "roberta", model, lambda model: model, roberta, "hidden_act", POSITIONS)
    torch.manual_seed(20240614)
    model = transformers.XLMRobertaForMaskedLM(
        transformers.XLMRobertaConfig(vocab_size=xlm.get_vocab_size(), num_hidden_layers=3, **shape)
    )
    write_model(HERE / "xlm-roberta", model, lambda model: model.roberta, xlm, "hidden_act", POSITIONS)
    torch.manual_seed(20240615)
    model = transformers.ModernBertModel(
        transformers.ModernBertConfig(
            vocab_size=modern.get_vocab_size(), hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=48,
            max_position_embeddings=POSITIONS, initializer_range=0.3, local_attention=8, global_attn_every_n_layers=3,
            pad_token_id=3, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2,
        )
    )
    write_model(HERE / "modernbert", model, lambda model: model, modern, "hidden_activation", POSITIONS)


if __name__ == "__main__":
    main()
