//! Into which word pieces does an encoder's tokenizer cut a text?
//!
//! BERT's own way (Devlin et al. 2019): clean, lower-case, strip accents, split at space and punctuation, then greedily
//! take the longest known piece. Written here because it must take microseconds, while the public `tokenizers` library,
//! whose results it must equal, builds strings and alignments on the way.
//!
//! One difference is on purpose: a text that contains `[SEP]` or another special token is cut like any other text.
//! What a user writes is data and never steers the model.

mod pieces;

use crate::{
    error::{Error, Result},
    memory::InMemory,
};
use pieces::Pieces;
use serde::Deserialize;
use sizewise_contract::limits;
use std::collections::HashMap;
use unicode_categories::UnicodeCategories;
use unicode_normalization::UnicodeNormalization;

/// A tokenizer as its `tokenizer.json` describes it.
#[derive(Debug)]
pub struct WordPiece {
    /// Pieces that begin a word.
    first: Pieces,
    /// Pieces that go on with one, without their `##`.
    next: Pieces,
    lowercase: bool,
    strip_accents: bool,
    word_chars: usize,
    unknown: u32,
    cls: u32,
    sep: u32,
    /// One past the largest id.
    ids: usize,
}

impl WordPiece {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// Fails when the file is damaged, larger than the limits, or describes another kind of tokenizer; the message names
    /// the key.
    pub fn from_tokenizer_json(file: &str, bytes: &[u8]) -> Result<Self> {
        let damaged = |problem: String| Error::File { file: file.to_owned(), problem };
        if bytes.len() > limits::TOKENIZER_BYTES {
            return Err(damaged(format!(
                "{} bytes; at most {} are read",
                bytes.len(),
                limits::TOKENIZER_BYTES
            )));
        }
        let json: TokenizerJson =
            serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        json.check_kind(file)?;
        let vocabulary = json.model.vocab;
        if vocabulary.len() > limits::VOCABULARY {
            return Err(damaged(format!(
                "model.vocab has {} pieces; at most {} are read",
                vocabulary.len(),
                limits::VOCABULARY
            )));
        }
        let special = |name: &str| {
            vocabulary.get(name).copied().ok_or_else(|| damaged(format!("model.vocab has no `{name}`")))
        };
        let (unknown, cls, sep) = (special(&json.model.unk_token)?, special("[CLS]")?, special("[SEP]")?);
        let prefix = json.model.continuing_subword_prefix;
        let ids = vocabulary.values().max().map_or(0, |id| *id as usize + 1);
        if ids > limits::VOCABULARY {
            return Err(damaged(format!(
                "model.vocab has the id {}; the largest allowed is {}",
                ids - 1,
                limits::VOCABULARY - 1
            )));
        }
        let (next, first): (Vec<_>, Vec<_>) = vocabulary
            .iter()
            .partition(|(piece, _)| piece.starts_with(&prefix) && piece.len() > prefix.len());
        Ok(Self {
            first: Pieces::new(first.iter().map(|(piece, id)| (piece.as_bytes(), **id))),
            next: Pieces::new(
                next.iter()
                    .map(|(piece, id)| (piece.as_bytes().get(prefix.len()..).unwrap_or_default(), **id)),
            ),
            lowercase: json.normalizer.lowercase,
            strip_accents: json.normalizer.strip_accents.unwrap_or(json.normalizer.lowercase),
            word_chars: json.model.max_input_chars_per_word,
            unknown,
            cls,
            sep,
            ids,
        })
    }

    /// The id that begins every input.
    #[must_use]
    pub fn cls(&self) -> u32 {
        self.cls
    }

    /// The id that ends every input.
    #[must_use]
    pub fn sep(&self) -> u32 {
        self.sep
    }

    /// The id of what cannot be cut into known pieces.
    #[must_use]
    pub fn unknown(&self) -> u32 {
        self.unknown
    }

    /// One past the largest id.
    #[must_use]
    pub fn ids(&self) -> usize {
        self.ids
    }

    /// Appends the ids of a text, without the special ones around it.
    pub fn encode_into(&self, text: &str, ids: &mut Vec<u32>) {
        let mut word = Vec::with_capacity(32);
        if text.is_ascii() {
            self.encode_ascii(text.as_bytes(), &mut word, ids);
        } else {
            self.encode_chars(text, &mut word, ids);
        }
    }

    fn encode_ascii(&self, text: &[u8], word: &mut Vec<u8>, ids: &mut Vec<u32>) {
        for &byte in text {
            match KINDS.get(usize::from(byte)) {
                Some(Kind::Letter) => {
                    word.push(if self.lowercase { byte.to_ascii_lowercase() } else { byte });
                }
                Some(Kind::Space) => self.cut(word, ids),
                Some(Kind::Mark) => {
                    self.cut(word, ids);
                    word.push(byte);
                    self.cut(word, ids);
                }
                Some(Kind::Dropped) | None => {}
            }
        }
        self.cut(word, ids);
    }

    fn encode_chars(&self, text: &str, word: &mut Vec<u8>, ids: &mut Vec<u32>) {
        let cleaned = text.chars().filter(|c| !is_dropped(*c));
        if self.strip_accents {
            let stripped = cleaned.nfd().filter(|c| !c.is_mark_nonspacing());
            self.encode_clean(stripped, word, ids);
        } else {
            self.encode_clean(cleaned, word, ids);
        }
    }

    fn encode_clean(&self, chars: impl Iterator<Item = char>, word: &mut Vec<u8>, ids: &mut Vec<u32>) {
        let push = |c: char, word: &mut Vec<u8>| {
            let mut buffer = [0; 4];
            word.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
        };
        for c in chars {
            if c.is_whitespace() {
                self.cut(word, ids);
            } else if c.is_ascii_punctuation() || c.is_punctuation() || is_han(c) {
                self.cut(word, ids);
                push(c, word);
                self.cut(word, ids);
            } else if self.lowercase {
                c.to_lowercase().for_each(|c| push(c, word));
            } else {
                push(c, word);
            }
        }
        self.cut(word, ids);
    }

    /// Cuts one word into pieces and empties it.
    fn cut(&self, word: &mut Vec<u8>, ids: &mut Vec<u32>) {
        if word.is_empty() {
            return;
        }
        let begin = ids.len();
        let too_long = word.len() > self.word_chars
            && std::str::from_utf8(word).map_or(0, |w| w.chars().count()) > self.word_chars;
        let mut rest: &[u8] = word;
        let mut pieces = &self.first;
        while !rest.is_empty() && !too_long {
            let Some((id, length)) = pieces.longest(rest) else { break };
            ids.push(id);
            rest = rest.get(length..).unwrap_or_default();
            pieces = &self.next;
        }
        if !rest.is_empty() {
            ids.truncate(begin);
            ids.push(self.unknown);
        }
        word.clear();
    }
}

/// What BERT's cleaning drops: control characters that are no space, and the replacement character.
fn is_dropped(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => false,
        '\0' | '\u{fffd}' => true,
        c => c.is_other(),
    }
}

/// Han characters, each of which is a word of its own.
fn is_han(c: char) -> bool {
    matches!(u32::from(c),
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F | 0x2B740..=0x2B81F
        | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}

/// What a byte of a text in ASCII does to a word.
#[derive(Clone, Copy)]
enum Kind {
    /// Belongs to it.
    Letter,
    /// Ends it.
    Space,
    /// Ends it and is a word of its own.
    Mark,
    /// Nothing: control characters are dropped without ending the word.
    Dropped,
}

/// The kind of every byte.
const KINDS: [Kind; 128] = {
    let mut kinds = [Kind::Dropped; 128];
    let mut byte = 0u8;
    while byte < 128 {
        if byte.is_ascii_alphanumeric() {
            kinds[byte as usize] = Kind::Letter;
        } else if byte.is_ascii_punctuation() {
            kinds[byte as usize] = Kind::Mark;
        } else if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            kinds[byte as usize] = Kind::Space;
        }
        byte += 1;
    }
    kinds
};

/// The part of a `tokenizer.json` that is read.
#[derive(Deserialize)]
struct TokenizerJson {
    normalizer: NormalizerJson,
    pre_tokenizer: KindJson,
    model: ModelJson,
}

#[derive(Deserialize)]
struct NormalizerJson {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default = "yes")]
    lowercase: bool,
    #[serde(default = "yes")]
    clean_text: bool,
    #[serde(default = "yes")]
    handle_chinese_chars: bool,
    #[serde(default)]
    strip_accents: Option<bool>,
}

#[derive(Deserialize)]
struct KindJson {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct ModelJson {
    /// Older files leave it out.
    #[serde(rename = "type", default = "word_piece")]
    kind: String,
    #[serde(default = "unk")]
    unk_token: String,
    #[serde(default = "two_hashes")]
    continuing_subword_prefix: String,
    #[serde(default = "hundred")]
    max_input_chars_per_word: usize,
    vocab: HashMap<String, u32>,
}

fn yes() -> bool {
    true
}
fn word_piece() -> String {
    "WordPiece".into()
}
fn unk() -> String {
    "[UNK]".into()
}
fn two_hashes() -> String {
    "##".into()
}
fn hundred() -> usize {
    100
}

impl TokenizerJson {
    fn check_kind(&self, file: &str) -> Result<()> {
        let normalizer = &self.normalizer;
        let found = [
            ("model.type", self.model.kind.as_str(), "WordPiece"),
            ("normalizer.type", &normalizer.kind, "BertNormalizer"),
            ("pre_tokenizer.type", &self.pre_tokenizer.kind, "BertPreTokenizer"),
            ("normalizer.clean_text", if normalizer.clean_text { "true" } else { "false" }, "true"),
            (
                "normalizer.handle_chinese_chars",
                if normalizer.handle_chinese_chars { "true" } else { "false" },
                "true",
            ),
        ];
        match found.iter().find(|(_, found, expected)| found != expected) {
            Some((key, found, expected)) => Err(Error::Unsupported {
                file: file.to_owned(),
                problem: format!("{key} is `{found}`; this build runs `{expected}`"),
            }),
            None => Ok(()),
        }
    }
}

impl InMemory for WordPiece {
    fn held_bytes(&self) -> usize {
        self.first.held_bytes() + self.next.held_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A tokenizer of a handful of pieces.
    fn small() -> WordPiece {
        let pieces = [
            "[PAD]", "[UNK]", "[CLS]", "[SEP]", "lost", "card", "##s", "un", "##lost", "!", "[", "]", "sep",
            "我", "cafe", "a", "##b",
        ];
        let vocabulary: HashMap<&str, usize> =
            pieces.iter().enumerate().map(|(id, piece)| (*piece, id)).collect();
        let json = serde_json::json!({
            "normalizer": { "type": "BertNormalizer" },
            "pre_tokenizer": { "type": "BertPreTokenizer" },
            "model": { "type": "WordPiece", "vocab": vocabulary }
        });
        WordPiece::from_tokenizer_json("t", json.to_string().as_bytes()).unwrap()
    }

    fn encode(text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        small().encode_into(text, &mut ids);
        ids
    }

    #[test]
    fn the_longest_piece_is_taken_first() {
        assert_eq!(encode("Lost CARDS!"), [4, 5, 6, 9]);
        assert_eq!(encode("unlost unx"), [7, 8, 1]);
        assert_eq!(encode(&format!("a{}", "b".repeat(99))).len(), 100);
        assert_eq!(encode(&format!("a{}", "b".repeat(100))), [1]);
    }

    #[test]
    fn accents_go_and_han_characters_stand_alone() {
        assert_eq!(encode("Café"), [14]);
        assert_eq!(encode("我我lost"), [13, 13, 4]);
        assert_eq!(encode("lo\u{ad}st \u{200b}"), [4]);
    }

    #[test]
    fn special_tokens_in_a_text_are_text() {
        assert_eq!(encode("[SEP]"), [10, 12, 11]);
    }

    #[test]
    fn another_kind_of_tokenizer_is_named() {
        for (from, to) in [("WordPiece", "BPE"), ("BertNormalizer", "NFC"), ("BertPreTokenizer", "ByteLevel")]
        {
            let json = r#"{"normalizer":{"type":"BertNormalizer"},"pre_tokenizer":{"type":"BertPreTokenizer"},"model":{"type":"WordPiece","vocab":{}}}"#;
            let error = WordPiece::from_tokenizer_json("t", json.replace(from, to).as_bytes()).unwrap_err();
            assert!(error.to_string().contains(&format!("`{to}`; this build runs `{from}`")), "{error}");
        }
        assert!(WordPiece::from_tokenizer_json("t", b"{").unwrap_err().to_string().contains("EOF"));
    }

    proptest! {
        #[test]
        fn ascii_and_unicode_paths_agree(text in "[ -~\t\n]{0,60}") {
            let tokenizer = small();
            let (mut ascii, mut unicode, mut word) = (Vec::new(), Vec::new(), Vec::new());
            tokenizer.encode_into(&text, &mut ascii);
            tokenizer.encode_chars(&text, &mut word, &mut unicode);
            prop_assert_eq!(ascii, unicode);
        }

        #[test]
        fn any_text_can_be_cut(text in "\\PC{0,80}|[\0-\u{2f}]{0,40}") {
            encode(&text);
        }
    }
}
