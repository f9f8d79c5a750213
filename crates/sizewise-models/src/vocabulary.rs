//! Which n-grams does a model know, and how much does each of them count in a text?
//!
//! A table from hash to row number, built once from the training rows. A text becomes two blocks of tf-idf values (words
//! and character runs), each of unit length, so that neither block drowns the other.

use crate::{
    memory::InMemory,
    ngrams::{Block, Ngrams},
};

/// The n-grams of the training rows.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    /// The hash of every row. `[rows]`
    hashes: Vec<u64>,
    /// Inverse document frequency of every row. `[rows]`
    idf: Vec<f32>,
    /// Upper half of the hash and row plus one, by open addressing; 0 where free.
    slots: Vec<(u32, u32)>,
    /// What an n-gram counts that no training row had.
    unseen_idf: f32,
}

/// A text as rows and values. Reused from text to text.
#[derive(Debug, Default, Clone)]
pub struct Features {
    /// Rows and values, words first, then runs; sorted by row within a block.
    pub values: Vec<(u32, f32)>,
    /// Share of the text's words and pairs (weighted by idf) that the training rows had too.
    pub seen_words: f32,
    /// The same for character runs.
    pub seen_runs: f32,
    /// How many words the text has.
    pub word_count: usize,
    ngrams: Ngrams,
    rows: Vec<u32>,
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
        Self::from_parts(hashes, weights, idf(0.0))
    }

    /// Puts a stored vocabulary together again.
    #[must_use]
    pub fn from_parts(hashes: Vec<u64>, idf: Vec<f32>, unseen_idf: f32) -> Self {
        let mut vocabulary = Self {
            slots: vec![(0, 0); (hashes.len() * 2).next_power_of_two().max(2)],
            hashes,
            idf,
            unseen_idf,
        };
        for position in 0..vocabulary.hashes.len() {
            let Some(&hash) = vocabulary.hashes.get(position) else { continue };
            if let Err(free) = vocabulary.find(hash)
                && let Some(slot) = vocabulary.slots.get_mut(free)
            {
                *slot = ((hash >> 32) as u32, position as u32 + 1);
            }
        }
        vocabulary
    }

    /// How many n-grams it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether it knows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// The hash of every row. `[rows]`
    #[must_use]
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
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

    /// The row of a hash, or the free slot where it would stand.
    #[inline]
    fn find(&self, hash: u64) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let tag = (hash >> 32) as u32;
        let mut at = hash as usize & mask;
        // At most half of the slots are taken, so the search ends.
        while let Some(&(found, row)) = self.slots.get(at) {
            if row == 0 {
                return Err(at);
            }
            if found == tag {
                return Ok(row - 1);
            }
            at = (at + 1) & mask;
        }
        Err(0)
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
        let rows = &mut features.rows;
        rows.clear();
        rows.extend(hashes.iter().filter_map(|hash| self.find(*hash).ok()));
        let unseen = (hashes.len() - rows.len()) as f32 * self.unseen_idf;
        rows.sort_unstable();
        let first = features.values.len();
        let (mut squares, mut seen) = (0.0f32, 0.0f32);
        for same in rows.chunk_by(|a, b| a == b) {
            let Some(&row) = same.first() else { continue };
            let idf = self.idf.get(row as usize).copied().unwrap_or(0.0);
            let value = idf * (1.0 + if same.len() > 1 { (same.len() as f32).ln() } else { 0.0 });
            seen += idf * same.len() as f32;
            squares += value * value;
            features.values.push((row, value));
        }
        if squares > 0.0 {
            let scale = 1.0 / squares.sqrt();
            features.values.iter_mut().skip(first).for_each(|(_, value)| *value *= scale);
        }
        if seen + unseen > 0.0 { seen / (seen + unseen) } else { 0.0 }
    }
}

impl InMemory for Vocabulary {
    fn held_bytes(&self) -> usize {
        self.hashes.held_bytes() + self.idf.held_bytes() + self.slots.held_bytes()
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
    fn every_hash_is_found_again() {
        let counted: Vec<(u64, u32)> =
            (0..50_000u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15), 1)).collect();
        let vocabulary = Vocabulary::new(&counted, 10);
        assert!(counted.iter().enumerate().all(|(row, (hash, _))| vocabulary.find(*hash) == Ok(row as u32)));
    }
}
