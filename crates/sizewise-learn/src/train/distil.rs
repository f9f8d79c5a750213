//! What does the encoder teach the static tier?
//!
//! Labelled rows are few and the encoder knows what words mean. So every row is varied ([`super::vary`]), texts that nobody labelled
//! are added where there are some, the encoder's heads say what they think of each, and the static tier learns those opinions, of the rows
//! themselves half their opinion and half the label (after Tang et al. 2019, who did so for recurrent networks).
//!
//! A static head that must not know a fold learns from variations of the other folds' rows, as judged by an encoder head that
//! does not know that fold either.

use super::{
    Labels, Tools, embed,
    encoder_tier::Standard,
    folds::Folds,
    jobs,
    vary::{Synonyms, Varied, vary},
};
use crate::{
    error::{Error, Result},
    fit::{Target, lbfgs, softmax::Taught, softmax_in_place},
};
use sizewise_contract::{Embed, Embeddings, task::Overflow};
use sizewise_models::{encoder::Encoder, linear_head::LinearHead};
use std::sync::atomic::Ordering;

/// What a row's label counts beside what the encoder thinks of the row.
const LABEL: f32 = 0.5;
/// Most texts without labels that are learnt from; of more an even sample.
const MOST_UNLABELLED: usize = 100_000;
/// Most rows that the encoder's heads are fitted to; of more an even sample.
const MOST_ROWS: usize = 20_000;
/// Classes that an opinion names; the others share what is left.
const NAMED: usize = 8;
/// Texts that the encoder reads at once.
const CHUNK: usize = 2_048;
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
    /// Of the texts, one entry per question.
    opinions: Vec<Opinions>,
    /// Of the rows that the heads were fitted to, one entry per question.
    of_rows: Vec<Opinions>,
    /// Their places among them, from 1; 0 for rows that nobody was asked about. `[rows]`
    asked: Vec<u32>,
}

/// What the heads of one question think of the texts.
struct Opinions {
    /// The likeliest outputs with their probabilities. `[heads, texts, named_each]`
    named: Vec<(u16, f32)>,
    named_each: usize,
    outputs: usize,
    texts: usize,
}

/// The lessons of one head of one question.
pub(crate) struct Lesson<'a> {
    opinions: &'a Opinions,
    of_rows: &'a Opinions,
    asked: &'a [u32],
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
        let mut lessons = Self { asked: vec![0; texts.len()], ..Self::default() };
        for (row, place) in rows.iter().zip(1..) {
            lessons.asked.iter_mut().skip(*row).take(1).for_each(|slot| *slot = place);
        }
        lessons.of_rows = opinions(&heads, labels, read.len());
        hear((&heads, &mut lessons.of_rows), (&embeddings, 0), tools)?;
        let varied: Vec<Varied<'_>> = rows
            .iter()
            .zip(&read)
            .filter_map(|(row, text)| {
                let classes = labels.iter().map(|labels| labels.targets.get(*row).copied().flatten());
                Some(Varied::new(text, *folds.of.get(*row)?, classes.collect()))
            })
            .collect();
        let synonyms = Synonyms::among(&read, tools.static_embeddings, tools.threads);
        for (text, fold) in vary(&varied, &synonyms, tools.seed) {
            lessons.texts.push(text);
            lessons.folds.push(fold);
        }
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
        let (opinions, of_rows) = (self.opinions.get(question)?, self.of_rows.get(question)?);
        Some(Lesson { opinions, of_rows, asked: &self.asked, head, first: u32::try_from(rows).ok()? })
    }

    fn ask(
        &mut self,
        encoder: &Encoder,
        (heads, labels): (&[Vec<LinearHead>], &[Labels]),
        (overflow, tools): (Overflow, Tools<'_>),
    ) -> Result<()> {
        let texts = self.texts.len();
        let mut all = opinions(heads, labels, texts);
        for (number, chunk) in self.texts.chunks(CHUNK).enumerate() {
            if tools.stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let chunk: Vec<&str> = chunk.iter().map(String::as_str).collect();
            let embedded = encoder.embed(&chunk, overflow)?;
            hear((heads, &mut all), (&embedded, number * CHUNK), tools)?;
            (tools.progress)("ask the encoder", (number * CHUNK + chunk.len()).min(texts), texts);
        }
        self.opinions = all;
        Ok(())
    }
}

/// Room for what the heads of every question think of so many texts.
fn opinions(heads: &[Vec<LinearHead>], labels: &[Labels], texts: usize) -> Vec<Opinions> {
    let of = |(heads, labels): (&Vec<LinearHead>, &Labels)| {
        let named_each = NAMED.min(labels.outputs);
        let named = vec![(0, 0.0); heads.len() * texts * named_each];
        Opinions { named, named_each, outputs: labels.outputs, texts }
    };
    heads.iter().zip(labels).map(of).collect()
}

/// Puts down what the heads of every question think of embedded texts, the first of which has this place.
fn hear(
    (heads, all): (&[Vec<LinearHead>], &mut [Opinions]),
    (embedded, first): (&Embeddings, usize),
    tools: Tools<'_>,
) -> Result<()> {
    for (opinions, heads) in all.iter_mut().zip(heads) {
        let found = jobs::run(heads.len(), tools.threads, |head| {
            Some(likeliest(heads.get(head)?, embedded, opinions))
        });
        let found = found.ok_or(Error::Internal("every head has an opinion"))?;
        for (head, found) in found.into_iter().enumerate() {
            let at = (head * opinions.texts + first) * opinions.named_each;
            if let Some(place) = opinions.named.get_mut(at..at + found.len()) {
                place.copy_from_slice(&found);
            }
        }
    }
    Ok(())
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

impl Opinions {
    /// What a head thinks of a text, what it does not name shared among the other outputs.
    fn of(&self, head: usize, text: usize, wanted: &mut [f32]) {
        let at = (head * self.texts + text) * self.named_each;
        let named = self.named.get(at..at + self.named_each).unwrap_or_default();
        let left = 1.0 - named.iter().map(|(_, share)| share).sum::<f32>();
        let others = self.outputs.saturating_sub(named.len());
        wanted.fill(if others > 0 { left.max(0.0) / others as f32 } else { 0.0 });
        for (output, share) in named {
            if let Some(slot) = wanted.get_mut(usize::from(*output)) {
                *slot = *share;
            }
        }
    }
}

impl Taught for Lesson<'_> {
    fn wanted(&self, row: u32, target: Target, wanted: &mut [f32]) -> bool {
        if let Some(text) = row.checked_sub(self.first) {
            self.opinions.of(self.head, text as usize, wanted);
            return true;
        }
        let place = self.asked.get(row as usize).and_then(|place| place.checked_sub(1));
        let (Some(place), Target::Class(class)) = (place, target) else { return false };
        self.of_rows.of(self.head, place as usize, wanted);
        for (output, share) in wanted.iter_mut().enumerate() {
            let label = f32::from(u8::from(output == usize::from(class)));
            *share = LABEL * label + (1.0 - LABEL) * *share;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_without_a_fold_learns_from_no_text_of_that_fold() {
        let lessons = Lessons {
            texts: ["a", "b", "c", "d"].map(str::to_owned).to_vec(),
            folds: vec![0, 1, 0, NO_FOLD],
            ..Lessons::default()
        };
        assert_eq!(lessons.allowed(0).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(lessons.allowed(2).count(), 4);
    }

    #[test]
    fn an_opinion_shares_what_it_does_not_name_and_a_label_counts_beside_that_of_a_row() {
        let opinions = |named: Vec<(u16, f32)>| Opinions { named, named_each: 2, outputs: 4, texts: 1 };
        let (of_texts, of_rows) = (opinions(vec![(2, 0.6), (0, 0.2)]), opinions(vec![(1, 0.8), (3, 0.2)]));
        let lesson = Lesson { opinions: &of_texts, of_rows: &of_rows, asked: &[0, 1], head: 0, first: 2 };
        let mut wanted = [0.0; 4];
        assert!(!lesson.wanted(0, Target::Class(1), &mut wanted), "nobody was asked about the first row");
        assert!(lesson.wanted(1, Target::Class(3), &mut wanted));
        assert!(wanted.iter().zip([0.0, 0.4, 0.0, 0.6]).all(|(a, b)| (a - b).abs() < 1e-6), "{wanted:?}");
        assert!(lesson.wanted(2, Target::NoClass, &mut wanted));
        assert!(wanted.iter().zip([0.2, 0.1, 0.6, 0.1]).all(|(a, b)| (a - b).abs() < 1e-6), "{wanted:?}");
    }
}
