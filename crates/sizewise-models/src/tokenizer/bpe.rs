//! Into which pieces does byte-level BPE cut a word?
//!
//! Byte pair encoding (Sennrich et al. 2016) over bytes (Radford et al. 2019): the pair of neighbours that was learned
//! first is merged, as long as there is one. Candidates wait in a heap and pieces form a linked list, so a word of n bytes
//! takes O(n log n) however long it is.

use super::{byte_level, section::Section};
use crate::{
    error::{Error, Result},
    memory::{InMemory, table_of},
};
use serde::{Deserialize, de::IgnoredAny};
use sizewise_contract::limits;
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
};

/// Byte-level BPE.
#[derive(Debug)]
pub(super) struct Bpe {
    /// The piece of every single byte.
    bytes: Vec<Option<u32>>,
    /// How every byte is written in `whole`.
    written: Vec<char>,
    /// Two neighbours, when they are merged and into what.
    merges: HashMap<(u32, u32), Merge>,
    /// Words that are one piece whatever the merges say.
    whole: HashMap<String, u32>,
    unknown: Option<u32>,
    fuse_unknown: bool,
    add_prefix_space: bool,
}

#[derive(Debug, Clone, Copy)]
struct Merge {
    rank: u32,
    merged: u32,
}

/// One piece of a word, in a linked list.
#[derive(Debug, Clone, Copy)]
struct Piece {
    id: u32,
    before: usize,
    after: usize,
    /// Whether the piece before has taken it.
    gone: bool,
}

/// No neighbour.
const NONE: usize = usize::MAX;

/// The `model` section.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelJson {
    /// Was read before.
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    vocab: HashMap<String, u32>,
    merges: Vec<MergeJson>,
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    fuse_unk: bool,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

/// A merge in either of two spellings.
#[derive(Deserialize)]
#[serde(untagged)]
enum MergeJson {
    Line(String),
    Pair([String; 2]),
}

impl MergeJson {
    fn pair(&self) -> Option<(&str, &str)> {
        match self {
            Self::Pair([left, right]) => Some((left, right)),
            Self::Line(line) => line.split_once(' ').filter(|(_, right)| !right.contains(' ')),
        }
    }
}

impl Bpe {
    /// Reads the `model` section; words that are `special` tokens are never taken as a whole.
    ///
    /// # Errors
    /// Fails when it is damaged or asks for what this build does not run, with the key. The second value is one past the
    /// largest id.
    pub(super) fn parse(
        file: &str,
        model: &str,
        pre_tokenizer: Option<&Section<'_>>,
        special: &HashSet<&str>,
    ) -> Result<(Self, usize)> {
        let damaged = |problem: String| Error::File { file: file.to_owned(), problem };
        let json: ModelJson =
            serde_json::from_str(model).map_err(|error| damaged(format!("model: {error}")))?;
        json.check(file)?;
        let ids = json.vocab.values().max().map_or(0, |id| *id as usize + 1);
        let mut merges = HashMap::with_capacity(json.merges.len());
        let mut merged = String::new();
        for (rank, merge) in json.merges.iter().enumerate() {
            let (left, right) =
                merge.pair().ok_or_else(|| damaged(format!("model.merges[{rank}] is no pair of pieces")))?;
            merged.clear();
            merged.extend([left, right]);
            let id = |piece: &str| json.vocab.get(piece).copied();
            let (Some(left), Some(right), Some(merged)) = (id(left), id(right), id(&merged)) else {
                return Err(damaged(format!("model.merges[{rank}] has a piece that model.vocab lacks")));
            };
            merges.insert((left, right), Merge { rank: rank as u32, merged });
        }
        let unknown = match &json.unk_token {
            None => None,
            Some(token) => Some(
                json.vocab
                    .get(token)
                    .copied()
                    .ok_or_else(|| damaged("model.unk_token is not in model.vocab".into()))?,
            ),
        };
        let written: Vec<char> = (0..=255).map(byte_level::written).collect();
        let bytes = written.iter().map(|c| json.vocab.get(c.encode_utf8(&mut [0; 4]) as &str).copied());
        let mut bpe = Self {
            bytes: bytes.collect(),
            written,
            merges,
            whole: HashMap::new(),
            unknown,
            fuse_unknown: json.fuse_unk,
            add_prefix_space: prefix_space(file, pre_tokenizer)?,
        };
        if json.ignore_merges {
            bpe.whole = json.vocab;
            bpe.whole.retain(|piece, _| !special.contains(piece.as_str()));
        }
        Ok((bpe, ids))
    }

    /// The id of a byte that has no piece; none where such bytes are left out.
    pub(super) fn unknown(&self) -> Option<u32> {
        self.unknown
    }

    /// Appends the ids of a text.
    pub(super) fn encode_into(&self, text: &str, ids: &mut Vec<u32>) {
        let spaced;
        let text = if self.add_prefix_space && !text.is_empty() && !text.starts_with(' ') {
            spaced = format!(" {text}");
            &spaced
        } else {
            text
        };
        let mut word_space = Word::default();
        for word in byte_level::words(text) {
            if !self.whole.is_empty() {
                let written: String =
                    word.bytes().filter_map(|byte| self.written.get(usize::from(byte))).collect();
                if let Some(id) = self.whole.get(&written) {
                    ids.push(*id);
                    continue;
                }
            }
            word_space.cut(word.as_bytes(), self, ids);
        }
    }

    fn merge(&self, left: u32, right: u32) -> Option<Merge> {
        self.merges.get(&(left, right)).copied()
    }
}

/// Buffers for one word.
#[derive(Debug, Default)]
struct Word {
    pieces: Vec<Piece>,
    /// Rank, place and result of merges that may be done, the earliest learned and then leftmost first.
    waiting: BinaryHeap<Reverse<(u32, usize, u32)>>,
}

impl Word {
    /// Appends the pieces of one word.
    fn cut(&mut self, word: &[u8], bpe: &Bpe, ids: &mut Vec<u32>) {
        self.begin(word, bpe);
        self.waiting.clear();
        for at in 1..self.pieces.len() {
            self.offer(at - 1, at, bpe);
        }
        while let Some(Reverse((_, at, merged))) = self.waiting.pop() {
            self.merge(at, merged, bpe);
        }
        ids.extend(self.pieces.iter().filter(|piece| !piece.gone).map(|piece| piece.id));
    }

    /// One piece a byte; unknown ones as the file says.
    fn begin(&mut self, word: &[u8], bpe: &Bpe) {
        self.pieces.clear();
        let mut after_unknown = false;
        for byte in word {
            let known = bpe.bytes.get(usize::from(*byte)).copied().flatten();
            let fused = known.is_none() && after_unknown && bpe.fuse_unknown;
            after_unknown = known.is_none();
            if let Some(id) = known.or(bpe.unknown).filter(|_| !fused) {
                let at = self.pieces.len();
                let before = at.checked_sub(1).unwrap_or(NONE);
                self.pieces.push(Piece { id, before, after: at + 1, gone: false });
            }
        }
        if let Some(last) = self.pieces.last_mut() {
            last.after = NONE;
        }
    }

    /// Merges the piece at `at` with the next one, unless one of them has changed since that was planned.
    fn merge(&mut self, at: usize, merged: u32, bpe: &Bpe) {
        let Some(left) = self.pieces.get(at).copied().filter(|piece| !piece.gone) else { return };
        let Some(right) = self.pieces.get(left.after).copied() else { return };
        if bpe.merge(left.id, right.id).is_none_or(|merge| merge.merged != merged) {
            return;
        }
        if let Some(piece) = self.pieces.get_mut(left.after) {
            piece.gone = true;
        }
        if let Some(piece) = self.pieces.get_mut(at) {
            (piece.id, piece.after) = (merged, right.after);
        }
        if let Some(piece) = self.pieces.get_mut(right.after) {
            piece.before = at;
        }
        self.offer(left.before, at, bpe);
        self.offer(at, right.after, bpe);
    }

    /// Plans the merge of two neighbours, where there is one.
    fn offer(&mut self, left: usize, right: usize, bpe: &Bpe) {
        if let (Some(a), Some(b)) = (self.pieces.get(left), self.pieces.get(right))
            && let Some(merge) = bpe.merge(a.id, b.id)
        {
            self.waiting.push(Reverse((merge.rank, left, merge.merged)));
        }
    }
}

impl ModelJson {
    fn check(&self, file: &str) -> Result<()> {
        let is_some = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let refused = [
            ("dropout", self.dropout.is_some_and(|share| share != 0.0)),
            ("continuing_subword_prefix", is_some(&self.continuing_subword_prefix)),
            ("end_of_word_suffix", is_some(&self.end_of_word_suffix)),
            ("byte_fallback", self.byte_fallback),
        ];
        if let Some((key, _)) = refused.iter().find(|(_, is_set)| *is_set) {
            let problem = format!("model.{key} is set; this build runs byte-level BPE without it");
            return Err(Error::Unsupported { file: file.to_owned(), problem });
        }
        let largest = self.vocab.values().max().copied().unwrap_or(0) as usize;
        for (key, found) in [("vocab", self.vocab.len()), ("vocab", largest), ("merges", self.merges.len())] {
            if found > limits::VOCABULARY {
                let problem = format!("model.{key} reaches {found}; at most {} is read", limits::VOCABULARY);
                return Err(Error::File { file: file.to_owned(), problem });
            }
        }
        Ok(())
    }
}

/// Reads the `pre_tokenizer` section, which must be byte-level.
fn prefix_space(file: &str, section: Option<&Section<'_>>) -> Result<bool> {
    let Some(section) = section else {
        let problem = "pre_tokenizer is missing; this build runs BPE with ByteLevel".to_owned();
        return Err(Error::Unsupported { file: file.to_owned(), problem });
    };
    if section.kind()? != "ByteLevel" {
        return Err(section.unknown_kind("BPE with ByteLevel"));
    }
    section.only(&["add_prefix_space", "trim_offsets", "use_regex"])?;
    if !section.flag("use_regex", true)? {
        return Err(section.unsupported("use_regex", "is false; this build splits words by GPT-2's rule"));
    }
    section.flag("add_prefix_space", true)
}

impl InMemory for Bpe {
    fn held_bytes(&self) -> usize {
        let words: usize = self.whole.keys().map(String::capacity).sum();
        let pieces = self.bytes.held_bytes() + self.written.held_bytes();
        pieces + table_of(&self.merges) + table_of(&self.whole) + words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn parse(model: &Value) -> Result<Bpe> {
        let pre = json!({"type":"ByteLevel","add_prefix_space":false});
        let section = Section::of("t", "pre_tokenizer", &pre).unwrap();
        Bpe::parse("t", &model.to_string(), section.as_ref(), &HashSet::from(["<s>"])).map(|(bpe, _)| bpe)
    }

    fn vocabulary(pieces: &[&str]) -> Value {
        pieces
            .iter()
            .enumerate()
            .map(|(id, piece)| ((*piece).to_owned(), json!(id)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    fn small(more: &Value) -> Value {
        let mut model = json!({"type":"BPE","unk_token":"<unk>",
            "vocab": vocabulary(&["<unk>", "a", "b", "c", "ab", "bc", "abc", "aa", "aaaa", "abab", "Ġ", "Ġa", "<s>"]),
            "merges":["b c", "a b", ["a", "bc"], "a a", "aa aa", ["ab", "ab"], "Ġ a"]});
        let (model_entries, more) = (model.as_object_mut().unwrap(), more.as_object().unwrap());
        model_entries.extend(more.clone());
        model
    }

    fn encode(model: &Value, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        parse(model).unwrap().encode_into(text, &mut ids);
        ids
    }

    /// The definition: the pair that was learned first, leftmost first, until there is none.
    fn slowly(bpe: &Bpe, word: &str) -> Vec<u32> {
        let mut ids: Vec<u32> = word.bytes().map(|byte| bpe.bytes[usize::from(byte)].unwrap()).collect();
        while let Some((_, at, merged)) = (1..ids.len())
            .filter_map(|at| bpe.merge(ids[at - 1], ids[at]).map(|m| (m.rank, at, m.merged)))
            .min()
        {
            ids[at - 1] = merged;
            ids.remove(at);
        }
        ids
    }

    #[test]
    fn pairs_are_merged_in_the_order_they_were_learned() {
        let model = small(&json!({}));
        assert_eq!(encode(&model, "abc"), [6]);
        assert_eq!(encode(&model, "aaaaa a"), [8, 1, 11]);
        assert_eq!(encode(&model, "axxb"), [1, 0, 0, 2]);
        assert_eq!(encode(&small(&json!({"fuse_unk":true})), "axxb"), [1, 0, 2]);
        assert_eq!(encode(&small(&json!({"unk_token":null})), "axxb"), [4]);
        assert!(encode(&model, "").is_empty());
    }

    #[test]
    fn a_whole_word_may_go_before_merges_but_no_special_token() {
        let odd = json!({"ignore_merges":true,"merges":[]});
        assert_eq!(encode(&small(&odd), "abc abab"), [6, 10, 1, 2, 1, 2]);
        assert!(parse(&small(&odd)).unwrap().whole.contains_key("abc"));
        assert!(!parse(&small(&odd)).unwrap().whole.contains_key("<s>"));
    }

    #[test]
    fn what_cannot_run_is_named() {
        for (more, expected) in [
            (json!({"dropout":0.1}), "model.dropout is set"),
            (json!({"byte_fallback":true}), "model.byte_fallback is set"),
            (json!({"end_of_word_suffix":"</w>"}), "model.end_of_word_suffix is set"),
            (json!({"merges":["a b c"]}), "model.merges[0] is no pair"),
            (json!({"merges":["a z"]}), "model.merges[0] has a piece that model.vocab lacks"),
            (json!({"unk_token":"?"}), "model.unk_token is not in"),
            (json!({"vocab":{"a":4294967295u32}}), "model.vocab reaches 4294967295"),
            (json!({"vocab":{"a":-1}}), "model: invalid value"),
        ] {
            let error = parse(&small(&more)).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_megabyte_without_a_space_ends_soon() {
        let text = "abcaab".repeat(170_000);
        assert!(!encode(&small(&json!({})), &text).is_empty());
        // Merges that lead back to where they came from end as well: each takes a piece away.
        let cyclic = json!({"vocab":{"a":0,"aa":0,"<unk>":1},"merges":["a a"]});
        assert_eq!(encode(&small(&cyclic), &"a".repeat(1 << 20)), [0]);
    }

    proptest! {
        #[test]
        fn the_heap_does_what_the_definition_says(word in "[abc]{1,24}") {
            let bpe = parse(&small(&json!({}))).unwrap();
            let mut ids = Vec::new();
            bpe.encode_into(&word, &mut ids);
            prop_assert_eq!(ids, slowly(&bpe, &word));
        }
    }
}
