//! What does the encoder teach the static tier?
//!
//! Labelled rows are few and the encoder knows what words mean. So every row is varied (words left out, a stretch of it alone, half of
//! it beside half of another row), texts that nobody labelled are added where there are some, the encoder's heads say what they
//! think of each, and the static tier learns those opinions beside the labels (after Tang et al. 2019, who did so for recurrent
//! networks).
//!
//! A static head that must not know a fold learns from variations of the other folds' rows, as judged by an encoder head that
//! does not know that fold either.

use super::{Labels, Tools, embed, encoder_tier::Standard, folds::Folds, jobs};
use crate::{
    error::{Error, Result},
    fit::{Random, Target, lbfgs, softmax::Taught, softmax_in_place},
};
use sizewise_contract::{Embed, Embeddings, task::Overflow};
use sizewise_models::{encoder::Encoder, linear_head::LinearHead};
use std::sync::atomic::Ordering;

/// Variations of a row.
const COPIES: usize = 8;
/// Words of all variations together, so that the encoder reads them in about a minute on two cores.
const MOST_WORDS: usize = 1_200_000;
/// Most texts without labels that are learnt from; of more an even sample.
const MOST_UNLABELLED: usize = 100_000;
/// Most rows that the encoder's heads are fitted to; of more an even sample.
const MOST_ROWS: usize = 20_000;
/// Classes that an opinion names; the others share what is left.
const NAMED: usize = 8;
/// Texts that the encoder reads at once.
const CHUNK: usize = 2_048;
/// Shortest stretch of a text that is taken alone, in words.
const LEAST_WORDS: usize = 3;
/// The fold of a text that was made from no row.
const NO_FOLD: u8 = u8::MAX;

/// Who teaches the static tier, and from what beside the rows.
#[derive(Clone, Copy)]
pub struct Distil<'a> {
    /// The encoder whose heads are asked. Where it was adapted, rows that it has not seen judge the tiers.
    pub encoder: &'a Encoder,
    /// Texts without labels, none of them locked.
    pub unlabelled: &'a [String],
}

/// What the static tier of every question learns beside the rows' labels.
#[derive(Default)]
pub(crate) struct Lessons {
    pub(crate) texts: Vec<String>,
    /// The fold of the row that each text was made from. `[texts]`
    folds: Vec<u8>,
    /// One entry per question.
    opinions: Vec<Opinions>,
}

/// What the heads of one question think of the texts.
struct Opinions {
    /// The likeliest outputs with their probabilities. `[heads, texts, named_each]`
    named: Vec<(u16, f32)>,
    named_each: usize,
    outputs: usize,
}

/// The lessons of one head of one question.
pub(crate) struct Lesson<'a> {
    opinions: &'a Opinions,
    texts: usize,
    head: usize,
    /// The row of the first text.
    first: u32,
}

impl Lessons {
    /// Varies the rows and asks the encoder's heads about every variation and every text without a label.
    pub(crate) fn of(
        distil: Distil<'_>,
        texts: &[&str],
        (labels, folds): (&[Labels], &Folds),
        (overflow, tools): (Overflow, Tools<'_>),
    ) -> Result<Self> {
        let kept = texts.len().min(MOST_ROWS);
        let rows: Vec<usize> = (0..kept).map(|position| position * texts.len() / kept).collect();
        let read: Vec<&str> = rows.iter().filter_map(|row| texts.get(*row)).copied().collect();
        let embeddings = embed(distil.encoder, &read, overflow, tools)?;
        let heads = labels
            .iter()
            .map(|labels| heads((distil.encoder, &embeddings), &rows, (labels, folds), tools))
            .collect::<Result<Vec<_>>>()?;
        let mut lessons = Self::default();
        lessons.vary(&read, &rows, folds, tools.seed);
        let all = distil.unlabelled.len();
        for position in 0..all.min(MOST_UNLABELLED) {
            lessons.texts.extend(distil.unlabelled.get(position * all / all.min(MOST_UNLABELLED)).cloned());
            lessons.folds.push(NO_FOLD);
        }
        lessons.ask(distil.encoder, (&heads, labels), (overflow, tools))?;
        Ok(lessons)
    }

    /// The texts that a head without this fold may learn from, by position.
    pub(crate) fn allowed(&self, fold: usize) -> impl Iterator<Item = usize> {
        self.folds.iter().enumerate().filter(move |(_, of)| usize::from(**of) != fold).map(|(text, _)| text)
    }

    /// What a head of a question learns, where the first text stands behind so many rows.
    pub(crate) fn lesson(&self, question: usize, head: usize, rows: usize) -> Option<Lesson<'_>> {
        let opinions = self.opinions.get(question)?;
        Some(Lesson { opinions, texts: self.texts.len(), head, first: u32::try_from(rows).ok()? })
    }

    fn vary(&mut self, texts: &[&str], rows: &[usize], folds: &Folds, seed: u64) {
        let mut random = Random(seed ^ 0xd15_7111);
        let split: Vec<(u8, Vec<&str>)> = rows
            .iter()
            .zip(texts)
            .filter_map(|(row, text)| Some((*folds.of.get(*row)?, text.split_whitespace().collect())))
            .collect();
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); folds.count];
        for (position, (fold, _)) in split.iter().enumerate() {
            if let Some(members) = members.get_mut(usize::from(*fold)) {
                members.push(position);
            }
        }
        let words: usize = split.iter().map(|(_, words)| words.len()).sum();
        let copies = COPIES.min(MOST_WORDS / words.max(1));
        for (fold, words) in &split {
            for _ in 0..copies {
                let fellows = members.get(usize::from(*fold)).map_or(&[][..], Vec::as_slice);
                let other = fellows
                    .get(random.below(fellows.len().max(1)))
                    .and_then(|other| split.get(*other))
                    .map_or(&[][..], |(_, words)| words.as_slice());
                self.texts.push(vary(words, other, &mut random));
                self.folds.push(*fold);
            }
        }
    }

    fn ask(
        &mut self,
        encoder: &Encoder,
        (heads, labels): (&[Vec<LinearHead>], &[Labels]),
        (overflow, tools): (Overflow, Tools<'_>),
    ) -> Result<()> {
        let texts = self.texts.len();
        let mut all: Vec<Opinions> = heads
            .iter()
            .zip(labels)
            .map(|(heads, labels)| {
                let named_each = NAMED.min(labels.outputs);
                let named = vec![(0, 0.0); heads.len() * texts * named_each];
                Opinions { named, named_each, outputs: labels.outputs }
            })
            .collect();
        for (number, chunk) in self.texts.chunks(CHUNK).enumerate() {
            if tools.stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let chunk: Vec<&str> = chunk.iter().map(String::as_str).collect();
            let embedded = encoder.embed(&chunk, overflow)?;
            for (opinions, heads) in all.iter_mut().zip(heads) {
                let found = jobs::run(heads.len(), tools.threads, |head| {
                    Some(likeliest(heads.get(head)?, &embedded, opinions))
                });
                let found = found.ok_or(Error::Internal("every head has an opinion"))?;
                for (head, found) in found.into_iter().enumerate() {
                    let at = (head * texts + number * CHUNK) * opinions.named_each;
                    if let Some(place) = opinions.named.get_mut(at..at + found.len()) {
                        place.copy_from_slice(&found);
                    }
                }
            }
            (tools.progress)("ask the encoder", (number * CHUNK + chunk.len()).min(texts), texts);
        }
        self.opinions = all;
        Ok(())
    }
}

/// One variation of a text.
fn vary(words: &[&str], other: &[&str], random: &mut Random) -> String {
    match random.below(4) {
        0 | 1 => {
            let share = 10 + random.below(25);
            let kept: Vec<&str> = words.iter().copied().filter(|_| random.below(100) >= share).collect();
            if kept.is_empty() { words.join(" ") } else { kept.join(" ") }
        }
        2 => {
            let length = LEAST_WORDS + random.below(words.len().saturating_sub(LEAST_WORDS).max(1));
            let length = length.min(words.len());
            let begin = random.below(words.len() - length + 1);
            words.get(begin..begin + length).unwrap_or_default().join(" ")
        }
        _ => {
            let head = words.get(..words.len().div_ceil(2)).unwrap_or_default();
            let tail = other.get(other.len() / 2..).unwrap_or_default();
            [head, tail].concat().join(" ")
        }
    }
}

/// Fits a head without each fold, and at last one on all rows.
fn heads(
    (encoder, embeddings): (&Encoder, &Embeddings),
    rows: &[usize],
    (labels, folds): (&Labels, &Folds),
    tools: Tools<'_>,
) -> Result<Vec<LinearHead>> {
    let layers = encoder.dimensions() / encoder.last_layer_dimensions().max(1);
    let standard = Standard::of(embeddings, layers);
    let weights = labels.class_weights(tools.balance);
    let heads = jobs::run(folds.count + 1, tools.threads, |number| {
        let mut values = Vec::new();
        let mut targets = Vec::new();
        for (row, embedding) in rows.iter().zip(embeddings.rows()) {
            let target = labels.targets.get(*row).copied().flatten();
            if let (Some(target), false) = (target, folds.holds(number, *row)) {
                values.extend(standard.applied(embedding));
                targets.push(Target::Class(target));
            }
        }
        let examples = lbfgs::Examples {
            embeddings: &values,
            dimensions: embeddings.dimensions,
            targets: &targets,
            class_weights: &weights,
        };
        let head = lbfgs::fit(examples, &lbfgs::Settings::default(), &|_| (), tools.stop)?;
        Some(LinearHead::from_standardised(&head.weights, &head.bias, &standard.mean, standard.scale))
    });
    heads.ok_or(Error::Interrupted)
}

/// The likeliest outputs of each text. `[texts, named_each]`
fn likeliest(head: &LinearHead, embedded: &Embeddings, opinions: &Opinions) -> Vec<(u16, f32)> {
    let mut logits = vec![0.0; opinions.outputs];
    let mut found = Vec::with_capacity(embedded.tokens.len() * opinions.named_each);
    for row in embedded.rows() {
        head.logits(row, &mut logits);
        softmax_in_place(&mut logits);
        let mut order: Vec<(u16, f32)> = (0u16..).zip(logits.iter().copied()).collect();
        if opinions.named_each < order.len() {
            order.select_nth_unstable_by(opinions.named_each - 1, |a, b| b.1.total_cmp(&a.1));
            order.truncate(opinions.named_each);
        }
        found.extend(order);
    }
    found
}

impl Taught for Lesson<'_> {
    fn wanted(&self, row: u32, wanted: &mut [f32]) -> bool {
        let Some(text) = row.checked_sub(self.first) else { return false };
        let Opinions { named, named_each, outputs } = self.opinions;
        let at = (self.head * self.texts + text as usize) * named_each;
        let named = named.get(at..at + named_each).unwrap_or_default();
        let left = 1.0 - named.iter().map(|(_, share)| share).sum::<f32>();
        let others = outputs.saturating_sub(named.len());
        wanted.fill(if others > 0 { left.max(0.0) / others as f32 } else { 0.0 });
        for (output, share) in named {
            if let Some(slot) = wanted.get_mut(usize::from(*output)) {
                *slot = *share;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variation_is_never_empty_and_holds_only_words_of_its_rows() {
        let mut random = Random(7);
        let (words, other) = (["card", "was", "charged", "twice"], ["where", "is", "it"]);
        for _ in 0..200 {
            let text = vary(&words, &other, &mut random);
            assert!(!text.is_empty());
            assert!(text.split(' ').all(|word| words.contains(&word) || other.contains(&word)));
        }
        assert_eq!(vary(&["one"], &[], &mut random), "one");
    }

    #[test]
    fn a_head_without_a_fold_learns_from_no_text_of_that_fold() {
        let folds = Folds { of: vec![0, 1, 0, 1], count: 2, sources: Vec::new() };
        let mut lessons = Lessons::default();
        lessons.vary(&["a b c", "d e f", "g h i", "j k l"], &[0, 1, 2, 3], &folds, 1);
        lessons.texts.push("m n o".into());
        lessons.folds.push(NO_FOLD);
        let without_first: Vec<&str> =
            lessons.allowed(0).filter_map(|text| lessons.texts.get(text)).map(String::as_str).collect();
        assert_eq!(without_first.len(), 2 * COPIES + 1);
        let of_first = |word: &str| "abcghi".contains(word);
        assert!(without_first.iter().all(|text| text.split(' ').all(|word| !of_first(word))));
        assert_eq!(lessons.allowed(2).count(), 4 * COPIES + 1);
    }

    #[test]
    fn an_opinion_shares_what_it_does_not_name() {
        let opinions = Opinions { named: vec![(2, 0.6), (0, 0.2)], named_each: 2, outputs: 4 };
        let lesson = Lesson { opinions: &opinions, texts: 1, head: 0, first: 10 };
        let mut wanted = [0.0; 4];
        assert!(!lesson.wanted(9, &mut wanted));
        assert!(lesson.wanted(10, &mut wanted));
        assert!(wanted.iter().zip([0.2, 0.1, 0.6, 0.1]).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
