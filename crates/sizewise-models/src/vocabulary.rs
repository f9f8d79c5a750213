//! Which n-grams does a model know, and how much does each of them count in a text?
//!
//! A table from hash to row number, built once from the training rows. A text becomes two blocks of tf-idf values (words
//! and character runs), each of unit length, so that neither block drowns the other.

mod buckets;

use crate::{
    kernels::widest,
    memory::InMemory,
    ngrams::{Block, Ngrams},
};
use buckets::Buckets;

/// The n-grams of the training rows.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    /// Inverse document frequency of every row. `[rows]`
    idf: Vec<f32>,
    /// The hash of every row, and where it is found.
    buckets: Buckets,
    /// What an n-gram counts that no training row had.
    unseen_idf: f32,
}

/// A text as rows and values. Reused from text to text.
#[derive(Debug, Default, Clone)]
pub struct Features {
    /// Rows and values, words first, then runs; each row once within a block, in the order of the text.
    pub values: Vec<(u32, f32)>,
    /// Share of the text's words and pairs (weighted by idf) that the training rows had too.
    pub seen_words: f32,
    /// The same for character runs.
    pub seen_runs: f32,
    /// How many words the text has.
    pub word_count: usize,
    ngrams: Ngrams,
    rows: Vec<u32>,
    /// Rows with how often they stand in a block, and where they are in this list; see [`count`].
    counted: Vec<(u32, u32)>,
    places: Vec<u32>,
}

impl Vocabulary {
    /// Builds a vocabulary from hashes and the number of training rows that had each.
    ///
    /// **Determinism.** Rows are numbered in the order given.
    #[must_use]
    pub fn new(counted: &[(u64, u32)], training_rows: usize) -> Self {
        let idf = |rows_with: f32| ((1.0 + training_rows as f32) / (1.0 + rows_with)).ln() + 1.0;
        let hashes: Vec<u64> = counted.iter().map(|(hash, _)| *hash).collect();
        let weights = counted.iter().map(|(_, rows_with)| idf(*rows_with as f32)).collect();
        Self::from_parts(&hashes, weights, idf(0.0))
    }

    /// Puts a stored vocabulary together again.
    #[must_use]
    pub fn from_parts(hashes: &[u64], idf: Vec<f32>, unseen_idf: f32) -> Self {
        Self { buckets: Buckets::new(hashes), idf, unseen_idf }
    }

    /// How many n-grams it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.idf.len()
    }

    /// Whether it knows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.idf.is_empty()
    }

    /// The hash of every row. `[rows]`
    #[must_use]
    pub fn hashes(&self) -> Vec<u64> {
        self.buckets.hashes()
    }

    /// The inverse document frequency of every row. `[rows]`
    #[must_use]
    pub fn idf(&self) -> &[f32] {
        &self.idf
    }

    /// What an n-gram counts that no training row had.
    #[must_use]
    pub fn unseen_idf(&self) -> f32 {
        self.unseen_idf
    }

    /// Replaces `features` by those of `text`.
    pub fn read(&self, text: &str, features: &mut Features) {
        let mut ngrams = std::mem::take(&mut features.ngrams);
        ngrams.read(text);
        features.values.clear();
        features.word_count = ngrams.word_count;
        features.seen_words = self.read_block(&ngrams, Block::Word, features);
        features.seen_runs = self.read_block(&ngrams, Block::Run, features);
        features.ngrams = ngrams;
    }

    fn read_block(&self, ngrams: &Ngrams, block: Block, features: &mut Features) -> f32 {
        let hashes = match block {
            Block::Word => &ngrams.words,
            Block::Run => &ngrams.runs,
        };
        let Features { values, rows, counted, places, .. } = features;
        places.resize(places.len().max(self.idf.len()), 0);
        rows.resize(rows.len().max(hashes.len()), 0);
        counted.resize(counted.len().max(hashes.len()), (0, 0));
        let first = values.len();
        let (mut seen, mut known) = (0.0f32, 0);
        widest(
            #[inline(always)]
            || {
                known = self.buckets.find_all(hashes, rows);
                let distinct = count(rows.get(..known).unwrap_or_default(), places, counted);
                let counted = counted.get(..distinct).unwrap_or_default();
                values.extend(counted.iter().map(|(row, times)| {
                    let idf = self.idf.get(*row as usize).copied().unwrap_or(0.0);
                    seen += idf * *times as f32;
                    (*row, idf * weight_of(*times))
                }));
                let values = values.get_mut(first..).unwrap_or_default();
                let squares: f32 = values.iter().map(|(_, value)| value * value).sum();
                if squares > 0.0 {
                    let scale = 1.0 / squares.sqrt();
                    values.iter_mut().for_each(|(_, value)| *value *= scale);
                }
            },
        );
        let unseen = (hashes.len() - known) as f32 * self.unseen_idf;
        if seen + unseen > 0.0 { seen / (seen + unseen) } else { 0.0 }
    }
}

/// Counts how often each row stands in `rows`: `counted` begins with each of them once, in the order in which they came first.
/// Returns how many they are.
///
/// `places` says where in `counted` a row was put last, and `counted` says whether that was for this text, so that nothing need be
/// cleared (Briggs and Torczon 1993). What was put there for an earlier text seldom is the same row, so that the processor guesses
/// right where a row is new.
#[inline(always)]
fn count(rows: &[u32], places: &mut [u32], counted: &mut [(u32, u32)]) -> usize {
    let mut distinct = 0;
    for row in rows {
        let Some(place) = places.get_mut(*row as usize) else { continue };
        match counted.get_mut(*place as usize) {
            Some((old, times)) if *old == *row && (*place as usize) < distinct => *times += 1,
            _ => {
                *place = distinct as u32;
                if let Some(slot) = counted.get_mut(distinct) {
                    *slot = (*row, 1);
                }
                distinct += 1;
            }
        }
    }
    distinct
}

/// What an n-gram counts that a text has several times: one more than the logarithm.
#[inline(always)]
fn weight_of(times: u32) -> f32 {
    const FEW: [f32; 5] = [1.0, 1.0, 1.693_147_2, 2.098_612_3, 2.386_294_4];
    FEW.get(times as usize).copied().unwrap_or_else(|| 1.0 + (times as f32).ln())
}

impl InMemory for Vocabulary {
    fn held_bytes(&self) -> usize {
        self.idf.held_bytes() + self.buckets.held_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn vocabulary(texts: &[&str]) -> Vocabulary {
        let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
        for text in texts {
            let mut ngrams = Ngrams::default();
            ngrams.read(text);
            let unique: std::collections::BTreeSet<u64> =
                ngrams.words.iter().chain(&ngrams.runs).copied().collect();
            unique.into_iter().for_each(|hash| *counts.entry(hash).or_default() += 1);
        }
        Vocabulary::new(&counts.into_iter().collect::<Vec<_>>(), texts.len())
    }

    #[test]
    fn each_block_has_unit_length() {
        let vocabulary = vocabulary(&["where is my card", "my card was stolen"]);
        let mut features = Features::default();
        vocabulary.read("my my card", &mut features);
        let length: f32 = features.values.iter().map(|(_, value)| value * value).sum();
        assert!((length - 2.0).abs() < 1e-5, "{length}");
    }

    #[test]
    fn what_was_never_seen_shows_as_unseen() {
        let vocabulary = vocabulary(&["where is my card", "my card was stolen"]);
        let mut features = Features::default();
        vocabulary.read("where is my card", &mut features);
        assert_eq!((features.seen_words, features.seen_runs), (1.0, 1.0));
        vocabulary.read("quick bumblebees", &mut features);
        assert_eq!((features.seen_words, features.values.len()), (0.0, 0));
        vocabulary.read("", &mut features);
        assert_eq!(features.word_count, 0);
    }

    #[test]
    fn a_reader_serves_several_vocabularies_and_counts_as_a_sorted_list_does() {
        let large = vocabulary(&["where is my card", "my card was stolen", "the card of my card"]);
        let small = vocabulary(&["the the the parrot", "a parrot"]);
        let mut features = Features::default();
        for text in
            ["my my card my card", "the parrot of the parrot", "", "card", "the card the card the parrot"]
        {
            for vocabulary in [&large, &small, &large] {
                vocabulary.read(text, &mut features);
                let mut ngrams = Ngrams::default();
                ngrams.read(text);
                let mut expected = Vec::new();
                for hashes in [&ngrams.words, &ngrams.runs] {
                    let mut times: BTreeMap<u32, f32> = BTreeMap::new();
                    for hash in hashes {
                        let row = vocabulary.hashes().iter().position(|other| other == hash);
                        row.into_iter().for_each(|row| *times.entry(row as u32).or_default() += 1.0);
                    }
                    let weight =
                        |(row, times): (u32, f32)| (row, vocabulary.idf()[row as usize] * (1.0 + times.ln()));
                    let block: Vec<(u32, f32)> = times.into_iter().map(weight).collect();
                    let length = block.iter().map(|(_, value)| value * value).sum::<f32>().sqrt();
                    expected.extend(block.into_iter().map(|(row, value)| (row, value / length)));
                }
                let mut found = features.values.clone();
                found.sort_by_key(|(row, _)| *row);
                expected.sort_by_key(|(row, _)| *row);
                assert_eq!(found.len(), expected.len(), "{text}");
                for ((row, value), (other, expected)) in found.iter().zip(&expected) {
                    assert!(
                        row == other && (value - expected).abs() < 1e-5,
                        "{text}: {row} {value} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn repeats_count_by_their_logarithm() {
        for times in 1..50 {
            assert!((weight_of(times) - (1.0 + (times as f32).ln())).abs() < 1e-6);
        }
    }
}
