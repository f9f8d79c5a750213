//! Into which pieces does a Unigram model cut a word?
//!
//! Every piece has a log-probability, and the cut with the largest sum is taken (Kudo 2018), by Viterbi's algorithm in one
//! pass over the characters. What no piece covers costs ten more than the rarest piece, as in SentencePiece.

use super::{metaspace::Metaspace, section::Section, trie::Trie};
use crate::{
    error::{Error, Result},
    memory::InMemory,
};
use serde::{Deserialize, de::IgnoredAny};
use sizewise_contract::limits;
use std::collections::HashSet;

/// What an unknown character costs beyond the rarest piece.
const UNKNOWN_PENALTY: f64 = 10.0;

/// A Unigram model.
#[derive(Debug)]
pub(super) struct Unigram {
    pieces: Trie,
    /// Log-probabilities. `[ids]`
    scores: Vec<f64>,
    unknown: u32,
    unknown_score: f64,
    words: Metaspace,
}

/// The best cut that ends at one place.
#[derive(Debug, Clone, Copy)]
struct Best {
    score: f64,
    /// Where its last piece begins.
    begin: usize,
    id: u32,
}

/// The `model` section.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelJson {
    /// Was read before.
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    vocab: Vec<(String, f64)>,
    unk_id: Option<u32>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    fuse_unk: Option<bool>,
}

impl Unigram {
    /// Reads the `model` section; `special` tokens match no text.
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
        let unsupported =
            |problem: &str| Error::Unsupported { file: file.to_owned(), problem: problem.to_owned() };
        let json: ModelJson =
            serde_json::from_str(model).map_err(|error| damaged(format!("model: {error}")))?;
        if json.byte_fallback {
            return Err(unsupported("model.byte_fallback is true; this build runs Unigram without it"));
        }
        if json.fuse_unk == Some(false) {
            return Err(unsupported("model.fuse_unk is false; this build joins unknown neighbours"));
        }
        let unknown = json.unk_id.ok_or_else(|| unsupported("model.unk_id is missing"))?;
        let ids = json.vocab.len();
        if ids > limits::VOCABULARY || unknown as usize >= ids {
            return Err(damaged(format!(
                "model.vocab has {ids} pieces and model.unk_id is {unknown}; at most {} are read",
                limits::VOCABULARY
            )));
        }
        let lowest = json.vocab.iter().map(|(_, score)| *score).fold(f64::INFINITY, f64::min);
        let known = json.vocab.iter().zip(0..).map(|((piece, _), id)| (piece.as_str(), id));
        let pieces = Trie::new((file, "model.vocab"), known.filter(|(piece, _)| !special.contains(piece)))?;
        let unigram = Self {
            pieces,
            scores: json.vocab.iter().map(|(_, score)| *score).collect(),
            unknown,
            unknown_score: lowest - UNKNOWN_PENALTY,
            words: Metaspace::parse(file, pre_tokenizer)?,
        };
        Ok((unigram, ids))
    }

    /// The id of what no piece covers.
    pub(super) fn unknown(&self) -> u32 {
        self.unknown
    }

    /// Appends the ids of a text.
    pub(super) fn encode_into(&self, text: &str, ids: &mut Vec<u32>) {
        let mut best = Vec::new();
        self.words.for_each_word(text, |word| self.cut(word, &mut best, ids));
    }

    /// Appends the ids of one word. `best` is a buffer.
    fn cut(&self, word: &str, best: &mut Vec<Option<Best>>, ids: &mut Vec<u32>) {
        best.clear();
        best.resize(word.len() + 1, None);
        for (begin, c) in word.char_indices() {
            let so_far = best.get(begin).copied().flatten().map_or(0.0, |best| best.score);
            let rest = word.as_bytes().get(begin..).unwrap_or_default();
            let mut covers_character = false;
            let mut offer = |length: usize, score: f64, id: u32| {
                if let Some(slot) = best.get_mut(begin + length)
                    && slot.is_none_or(|best| so_far + score > best.score)
                {
                    *slot = Some(Best { score: so_far + score, begin, id });
                }
            };
            for (length, id) in self.pieces.prefixes(rest) {
                covers_character |= length == c.len_utf8();
                offer(length, self.scores.get(id as usize).copied().unwrap_or(self.unknown_score), id);
            }
            if !covers_character {
                offer(c.len_utf8(), self.unknown_score, self.unknown);
            }
        }
        let first = ids.len();
        let mut end = word.len();
        while let Some(last) = best.get(end).copied().flatten() {
            // Unknown neighbours are one.
            if last.id != self.unknown || ids.len() == first || ids.last() != Some(&self.unknown) {
                ids.push(last.id);
            }
            end = last.begin;
        }
        if let Some(added) = ids.get_mut(first..) {
            added.reverse();
        }
    }
}

impl InMemory for Unigram {
    fn held_bytes(&self) -> usize {
        self.pieces.held_bytes() + self.scores.held_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn parse(model: &Value) -> Result<Unigram> {
        let pre = json!({"type":"Metaspace","replacement":"▁","prepend_scheme":"always"});
        let section = Section::of("t", "pre_tokenizer", &pre).unwrap();
        let special = HashSet::from(["<s>", "<unk>"]);
        Unigram::parse("t", &model.to_string(), section.as_ref(), &special).map(|(unigram, _)| unigram)
    }

    fn small() -> Value {
        json!({"type":"Unigram","unk_id":1,"vocab":[["<s>",0.0],["<unk>",0.0],["▁",-2.0],["a",-3.0],["b",-3.5],
            ["ab",-4.0],["▁a",-4.5],["aba",-5.0],["é",-6.0],["s",-7.0]]})
    }

    fn encode(text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        parse(&small()).unwrap().encode_into(text, &mut ids);
        ids
    }

    #[test]
    fn the_likeliest_cut_is_taken() {
        assert_eq!(encode("ab"), [2, 5]);
        assert_eq!(encode("a é"), [6, 2, 8]);
        assert_eq!(encode("aaba"), [6, 7]);
        assert!(encode("").is_empty());
    }

    #[test]
    fn unknown_neighbours_are_one_and_special_tokens_are_text() {
        assert_eq!(encode("xyz a"), [2, 1, 6]);
        assert_eq!(encode("<s>"), [2, 1, 9, 1]);
    }

    #[test]
    fn what_cannot_run_is_named() {
        for (key, value, expected) in [
            ("byte_fallback", json!(true), "model.byte_fallback is true"),
            ("unk_id", Value::Null, "model.unk_id is missing"),
            ("unk_id", json!(10), "10 pieces and model.unk_id is 10"),
            ("vocab", json!([["a"]]), "model: invalid length"),
            ("vocab", json!({"a":1}), "model: invalid type"),
        ] {
            let mut model = small();
            model[key] = value;
            let error = parse(&model).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_megabyte_without_a_space_ends_soon() {
        assert!(encode(&"aabxé".repeat(180_000)).len() > 180_000);
    }

    proptest! {
        #[test]
        fn no_other_cut_is_likelier(word in "[ab]{1,10}") {
            let unigram = parse(&small()).unwrap();
            let mut ids = Vec::new();
            unigram.cut(&word, &mut Vec::new(), &mut ids);
            let found: f64 = ids.iter().map(|id| unigram.scores[*id as usize]).sum();
            // The best sum over all cuts, straight from the definition.
            let mut sums = vec![f64::NEG_INFINITY; word.len() + 1];
            sums[0] = 0.0;
            for end in 1..=word.len() {
                for begin in 0..end {
                    let piece = &word[begin..end];
                    let known = ["a", "b", "ab", "aba"].into_iter().zip([-3.0, -3.5, -4.0, -5.0]);
                    if let Some((_, score)) = known.into_iter().find(|(known, _)| *known == piece) {
                        sums[end] = sums[end].max(sums[begin] + score);
                    }
                }
            }
            prop_assert!((found - sums[word.len()]).abs() < 1e-9);
        }
    }
}
