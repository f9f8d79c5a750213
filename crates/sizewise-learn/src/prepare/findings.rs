//! What is odd about the rows?
//!
//! Duplicates, the same text under different labels, nearly the same text under different labels, labels in several
//! spellings, classes with hardly any rows, and the languages. Found in one pass that keeps fingerprints, not texts.

use super::{
    Counts, Options, PlannedRow,
    columns::Plan,
    near::{NEARLY, Sketch, similarity, sketch},
};
use crate::error::{Error, Result};
use serde::Serialize;
use sizewise_contract::limits;
use sizewise_models::encoder::Encoder;
use std::collections::{BTreeMap, HashMap};

/// Near-duplicates that are listed; the count covers all.
const LISTED: usize = 50;
/// Rows whose fingerprints are compared; beyond that the comparison is left out for rows that come later.
const COMPARED_ROWS: usize = 400_000;
/// Min-hashes that make one band.
const BAND: usize = 4;
/// Rows whose language is guessed.
const LANGUAGE_ROWS: u64 = 5_000;

/// What is odd about the rows.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Findings {
    /// Rows in all.
    pub rows: u64,
    /// Rows without any text; they are left out.
    pub empty_inputs: u64,
    /// Rows with a text longer than any input may be; they are left out.
    pub oversized_inputs: u64,
    /// Rows with more word pieces than the built-in encoder reads at once.
    pub long_inputs: u64,
    /// Rows whose text, case and punctuation aside, was seen before.
    pub duplicates: u64,
    /// The same text under different labels.
    pub conflicts: Vec<Conflict>,
    /// Nearly the same text under different labels; at most the first 50.
    pub near_duplicates: Vec<NearDuplicate>,
    /// How many of those there are.
    pub near_duplicate_count: u64,
    /// Labels that stand in several spellings.
    pub spellings: Vec<SpellingVariants>,
    /// Rows of each label, by question.
    pub classes: Vec<(String, Counts)>,
    /// Rows without a label, by question.
    pub unlabelled: Vec<u64>,
    /// Labels with fewer rows than a class needs, as `question: label (rows)`.
    pub rare: Vec<String>,
    /// Labels that only the gold rows have, as `question: label (rows)`.
    pub only_in_gold: Vec<String>,
    /// Rows of each language, as far as short texts tell it.
    pub languages: Counts,
}

/// The same text under different labels.
#[derive(Debug, Clone, Serialize)]
pub struct Conflict {
    /// The question that is answered differently.
    pub question: String,
    /// The rows, from 1.
    pub rows: (u64, u64),
    /// Their labels.
    pub labels: (String, String),
}

/// Nearly the same text under different labels.
#[derive(Debug, Clone, Serialize)]
pub struct NearDuplicate {
    /// The question that is answered differently.
    pub question: String,
    /// The rows, from 1.
    pub rows: (u64, u64),
    /// Their labels.
    pub labels: (String, String),
    /// How alike the texts are, from 0 to 1.
    pub similarity: f64,
}

/// One label in several spellings.
#[derive(Debug, Clone, Serialize)]
pub struct SpellingVariants {
    /// The question.
    pub question: String,
    /// The spelling that is kept.
    pub usual: String,
    /// The others, with their rows.
    pub others: Vec<(String, u64)>,
}

impl Findings {
    /// The spelling of a label that the splits use.
    pub(super) fn usual_spelling<'a>(&'a self, question: usize, label: &'a str) -> &'a str {
        let name = self.classes.get(question).map(|(name, _)| name);
        let variant = self
            .spellings
            .iter()
            .find(|v| Some(&v.question) == name && v.others.iter().any(|(other, _)| other == label));
        variant.map_or(label, |v| v.usual.as_str())
    }
}

/// What the split needs to know about a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowFacts {
    /// Hash of the text with case and punctuation aside: equal texts stay on one side.
    pub(super) text_key: u64,
    /// Hash of the labels, for stratification.
    pub(super) stratum: u64,
    /// The row has no text, or one that is longer than any input may be.
    pub(super) unusable: bool,
}

#[derive(Debug)]
struct Seen {
    row: u64,
    labels: Vec<u32>,
    sketch: Sketch,
}

/// The language of a text (ISO 639-3); none where it is too short or too mixed to tell.
#[must_use]
pub fn language(text: &str) -> Option<&'static str> {
    whatlang::detect(text).filter(whatlang::Info::is_reliable).map(|info| info.lang().code())
}

/// A spelling with its rows and its rows among the training rows.
type Spelling<'a> = (&'a String, (u64, u64));

/// Collects findings row by row.
pub(super) struct Collector {
    questions: Vec<String>,
    findings: Findings,
    /// Every spelling of every label with its rows and its rows among the training rows.
    labels: Vec<BTreeMap<String, (u64, u64)>>,
    label_numbers: Vec<HashMap<String, u32>>,
    seen: Vec<Seen>,
    by_text: HashMap<u64, usize>,
    bands: HashMap<u64, Vec<u32>>,
    encoder: Encoder,
}

impl Collector {
    pub(super) fn new(plan: &Plan, encoder: Encoder) -> Self {
        let questions = plan.labels.clone();
        Self {
            findings: Findings { unlabelled: vec![0; questions.len()], ..Findings::default() },
            labels: vec![BTreeMap::new(); questions.len()],
            label_numbers: vec![HashMap::new(); questions.len()],
            questions,
            seen: Vec::new(),
            by_text: HashMap::new(),
            bands: HashMap::new(),
            encoder,
        }
    }

    pub(super) fn see(&mut self, row: &PlannedRow<'_>, is_gold: bool) -> Result<RowFacts> {
        self.findings.rows += 1;
        let normal = normalise(&row.text);
        let text_key = fnv(normal.as_bytes(), 0);
        let stratum = row.labels.iter().fold(0, |key, label| fnv(folded(label).as_bytes(), key));
        let empty = row.text.trim().is_empty();
        let oversized = row.text.len() > limits::INPUT_BYTES;
        let facts = RowFacts { text_key, stratum, unusable: empty || oversized };
        if facts.unusable {
            self.findings.empty_inputs += u64::from(empty);
            self.findings.oversized_inputs += u64::from(oversized);
            return Ok(facts);
        }
        let limit = self.encoder.token_limit();
        // No word piece is shorter than a byte.
        let long = row.text.len() + 2 > limit && self.encoder.count_tokens(&row.text) > limit;
        self.findings.long_inputs += u64::from(long);
        let mut numbers = Vec::with_capacity(row.labels.len());
        for (question, label) in row.labels.iter().enumerate() {
            numbers.push(self.count_label(question, label, is_gold)?);
        }
        if self.findings.rows <= LANGUAGE_ROWS
            && let Some(language) = language(&row.text)
        {
            *self.findings.languages.entry(language.to_owned()).or_default() += 1;
        }
        self.compare(row.number, numbers, &normal, text_key);
        Ok(facts)
    }

    /// Counts a label and returns its number plus one; 0 stands for no label.
    fn count_label(&mut self, question: usize, label: &str, is_gold: bool) -> Result<u32> {
        let broken = Error::Internal("every question has its counters");
        if label.is_empty() {
            *self.findings.unlabelled.get_mut(question).ok_or(broken)? += 1;
            return Ok(0);
        }
        let counts = self.labels.get_mut(question).ok_or(broken)?;
        if counts.len() > 4 * limits::CHOICES && !counts.contains_key(label) {
            // Far beyond any task: the last pass reports it; memory stays bounded.
            return Ok(0);
        }
        let entry = counts.entry(label.to_owned()).or_default();
        entry.0 += 1;
        entry.1 += u64::from(!is_gold);
        let numbers =
            self.label_numbers.get_mut(question).ok_or(Error::Internal("every question has its counters"))?;
        let next = u32::try_from(numbers.len() + 1).unwrap_or(u32::MAX);
        // Case and the width of blanks aside, so that spellings of one label do not conflict with each other.
        Ok(*numbers.entry(folded(label)).or_insert(next))
    }

    fn compare(&mut self, row: u64, labels: Vec<u32>, normal: &str, text_key: u64) {
        if let Some(earlier) = self.by_text.get(&text_key).and_then(|&index| self.seen.get(index)) {
            self.findings.duplicates += 1;
            if let Some(question) = differs(&earlier.labels, &labels) {
                let (first, second) =
                    (self.label_of(question, &earlier.labels), self.label_of(question, &labels));
                let name = self.questions.get(question).cloned().unwrap_or_default();
                self.findings.conflicts.push(Conflict {
                    question: name,
                    rows: (earlier.row, row),
                    labels: (first, second),
                });
            }
            return;
        }
        if self.seen.len() >= COMPARED_ROWS {
            return;
        }
        let sketch = sketch(normal);
        let index = self.seen.len();
        let mut best: Option<(f64, usize)> = None;
        for (band, hashes) in sketch.chunks_exact(BAND).enumerate() {
            let key = hashes.iter().fold(band as u64 + 1, |key, hash| fnv(&hash.to_le_bytes(), key));
            let bucket = self.bands.entry(key).or_default();
            for &other in bucket.iter().rev().take(8) {
                let Some(earlier) = self.seen.get(other as usize) else { continue };
                if differs(&earlier.labels, &labels).is_some() {
                    let alike = similarity(&earlier.sketch, &sketch);
                    if alike >= NEARLY && best.is_none_or(|(found, _)| alike > found) {
                        best = Some((alike, other as usize));
                    }
                }
            }
            bucket.push(u32::try_from(index).unwrap_or(u32::MAX));
        }
        if let Some((similarity, other)) = best {
            self.note_near_duplicate(similarity, other, row, &labels);
        }
        self.by_text.insert(text_key, index);
        self.seen.push(Seen { row, labels, sketch });
    }

    fn note_near_duplicate(&mut self, similarity: f64, other: usize, row: u64, labels: &[u32]) {
        self.findings.near_duplicate_count += 1;
        let Some(earlier) = self.seen.get(other) else { return };
        let Some(question) = differs(&earlier.labels, labels) else { return };
        if self.findings.near_duplicates.len() < LISTED {
            let found = NearDuplicate {
                question: self.questions.get(question).cloned().unwrap_or_default(),
                rows: (earlier.row, row),
                labels: (self.label_of(question, &earlier.labels), self.label_of(question, labels)),
                similarity,
            };
            self.findings.near_duplicates.push(found);
        }
    }

    fn label_of(&self, question: usize, labels: &[u32]) -> String {
        let number = labels.get(question).copied().unwrap_or(0);
        let known = self.label_numbers.get(question).into_iter().flatten();
        known.into_iter().find(|(_, n)| **n == number).map_or_else(String::new, |(label, _)| label.clone())
    }

    /// Settles the spellings and counts the classes.
    pub(super) fn finish(mut self, options: &Options) -> Result<Findings> {
        for (question, spellings) in self.questions.iter().zip(&self.labels) {
            let mut groups: BTreeMap<String, Vec<Spelling<'_>>> = BTreeMap::new();
            for (label, counts) in spellings {
                let key = if options.keep_case { label.clone() } else { folded(label) };
                groups.entry(key).or_default().push((label, *counts));
            }
            if groups.len() > limits::CHOICES {
                return Err(Error::Unusable {
                    path: options.from.clone(),
                    problem: format!(
                        "column `{question}` has more than {} different labels",
                        limits::CHOICES
                    ),
                    hint: Some("name the label column with --label".into()),
                });
            }
            let mut classes = Counts::new();
            for mut variants in groups.into_values() {
                variants.sort_by_key(|(label, (rows, _))| (std::cmp::Reverse(*rows), (*label).clone()));
                let rows: u64 = variants.iter().map(|(_, (rows, _))| rows).sum();
                let in_training: u64 = variants.iter().map(|(_, (_, rows))| rows).sum();
                let Some(((usual, _), others)) = variants.split_first() else { continue };
                classes.insert((*usual).clone(), rows);
                if !others.is_empty() {
                    let others = others.iter().map(|(label, (rows, _))| ((*label).clone(), *rows)).collect();
                    self.findings.spellings.push(SpellingVariants {
                        question: question.clone(),
                        usual: (*usual).clone(),
                        others,
                    });
                }
                if in_training == 0 {
                    self.findings.only_in_gold.push(format!("{question}: {usual} ({rows})"));
                } else if rows < 8 {
                    self.findings.rare.push(format!("{question}: {usual} ({rows})"));
                }
            }
            self.findings.classes.push((question.clone(), classes));
        }
        Ok(self.findings)
    }
}

/// A label with case and the kind and number of its blanks aside.
fn folded(label: &str) -> String {
    label.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// The first question that two rows answer differently.
fn differs(a: &[u32], b: &[u32]) -> Option<usize> {
    a.iter().zip(b).position(|(a, b)| a != b && *a != 0 && *b != 0)
}

/// Hash of a text with case and punctuation aside.
pub(super) fn text_key(text: &str) -> u64 {
    fnv(normalise(text).as_bytes(), 0)
}

/// Lower case, letters and digits, single spaces.
pub(super) fn normalise(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() {
            normal.push(c);
        } else if !normal.ends_with(' ') && !normal.is_empty() {
            normal.push(' ');
        }
    }
    normal.truncate(normal.trim_end().len());
    normal
}

/// FNV-1a with a seed and a final mix, so that low bits are usable.
pub(super) fn fnv(bytes: &[u8], seed: u64) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash =
        bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_punctuation_do_not_make_another_text() {
        assert_eq!(normalise("  Hello,   WORLD!! "), "hello world");
        assert_eq!(normalise("¿Dónde está mi pedido?"), "dónde está mi pedido");
        assert_eq!(normalise("…"), "");
    }
}
