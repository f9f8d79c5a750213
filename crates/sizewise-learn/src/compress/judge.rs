//! How good, how fast and how large is one variant of an encoder?
//!
//! Accuracy is that of linear heads fitted to the rows that a variant recovered on, and judged on rows that it never saw; so it
//! says nothing about the rest of the tier, and variants can be compared row by row. The vectors are those that serve: 8 or
//! 4 bits, vocabulary trimmed. Time is that of one text after the other on one thread, in turns with the whole encoder, the best of a few
//! rounds: what else the machine does then falls on neither.

use crate::{
    error::{Error, Result},
    fit::{Target, lbfgs},
    train::{Labels, Standard},
};
use sizewise_contract::{Embed, Embeddings, Example, Label, Task};
use sizewise_measure::metrics::{Estimate, Share};
use sizewise_models::encoder::Encoder;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

/// Texts that are timed.
const TIMED: usize = 96;
/// Rounds of timing.
const ROUNDS: usize = 5;
/// Most rows that heads are fitted to, and most that judge.
const MOST_ROWS: usize = 20_000;
/// Texts that are embedded before anybody asks whether to stop.
const CHUNK: usize = 1_024;

/// The difference of two accuracies on the same rows, with its 95 % interval.
///
/// **Source.** Paired proportions with Wald's interval (Agresti 2002, 10.1.1).
pub(crate) fn difference(now: &[bool], before: &[bool]) -> Estimate {
    let rows = now.len().min(before.len()).max(1) as f64;
    let gained = now.iter().zip(before).filter(|(now, before)| **now && !**before).count() as f64;
    let lost = now.iter().zip(before).filter(|(now, before)| !**now && **before).count() as f64;
    let value = (gained - lost) / rows;
    let deviation = ((gained + lost) / rows - value * value).max(0.0).sqrt() / rows.sqrt();
    Estimate { value, low: value - 1.96 * deviation, high: value + 1.96 * deviation }
}

/// Rows that judge variants.
pub(crate) struct Judge<'a> {
    texts: Vec<&'a str>,
    /// Labels of the rows of `texts`, one entry a question.
    labels: Vec<Labels>,
    /// Whether a row of `texts` judges; the others are fitted to.
    judges: Vec<bool>,
    task: &'a Task,
    balance: bool,
    threads: usize,
    stop: &'a AtomicBool,
}

impl<'a> Judge<'a> {
    pub(crate) fn new<L: Label + Clone>(
        (task, examples, unseen): (&'a Task, &'a [Example<L>], &[bool]),
        (balance, threads, stop): (bool, usize, &'a AtomicBool),
    ) -> Self {
        // Even samples of large tables.
        let thinned = |rows: Vec<usize>| -> Vec<usize> {
            let kept = rows.len().min(MOST_ROWS);
            (0..kept).filter_map(|at| rows.get(at * rows.len() / kept.max(1))).copied().collect()
        };
        let unseen = |row: &usize| unseen.get(*row).copied().unwrap_or(false);
        let (judging, fitted): (Vec<usize>, Vec<usize>) = (0..examples.len()).partition(unseen);
        let mut rows: Vec<(usize, bool)> = thinned(judging).into_iter().map(|row| (row, true)).collect();
        rows.extend(thinned(fitted).into_iter().map(|row| (row, false)));
        let kept: Vec<Example<L>> = rows.iter().filter_map(|(row, _)| examples.get(*row)).cloned().collect();
        Self {
            texts: rows.iter().filter_map(|(row, _)| Some(examples.get(*row)?.text.as_str())).collect(),
            labels: (0..task.questions.len()).map(|question| Labels::new(task, question, &kept)).collect(),
            judges: rows.iter().map(|(_, judges)| *judges).collect(),
            task,
            balance,
            threads,
            stop,
        }
    }

    /// Rows that judge.
    pub(crate) fn rows(&self) -> usize {
        self.judges.iter().filter(|judges| **judges).count()
    }

    /// Whether each answer to a judging row within the classes is right, question after question.
    pub(crate) fn answers(&self, encoder: &Encoder) -> Result<Vec<bool>> {
        let mut all = Embeddings { dimensions: Embed::dimensions(encoder), ..Default::default() };
        for texts in self.texts.chunks(CHUNK) {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let part = encoder.embed(texts, self.task.input.on_overflow)?;
            all.values.extend(part.values);
            all.tokens.extend(part.tokens);
        }
        let parts = all.dimensions / encoder.last_layer_dimensions().max(1);
        let standard = Standard::of(&all, parts);
        let rows: Vec<Vec<f32>> = all
            .rows()
            .map(|row| row.iter().zip(&standard.mean).map(|(x, mean)| (x - mean) / standard.scale).collect())
            .collect();
        let answers = crate::train::jobs::run(self.labels.len(), self.threads, |question| {
            self.question(self.labels.get(question)?, &rows)
        });
        Ok(answers.ok_or(Error::Interrupted)?.concat())
    }

    fn question(&self, labels: &Labels, rows: &[Vec<f32>]) -> Option<Vec<bool>> {
        let (mut embeddings, mut targets, mut judging) = (Vec::new(), Vec::new(), Vec::new());
        for (row, target) in labels.labelled() {
            let vector = rows.get(row)?;
            if self.judges.get(row).copied()? {
                judging.push((vector, usize::from(target)));
            } else {
                embeddings.extend_from_slice(vector);
                targets.push(Target::Class(target));
            }
        }
        let dimensions = rows.first().map_or(0, Vec::len);
        let weights = labels.class_weights(self.balance);
        let examples = lbfgs::Examples {
            embeddings: &embeddings,
            dimensions,
            targets: &targets,
            class_weights: &weights,
        };
        let head = lbfgs::fit(examples, &lbfgs::Settings::default(), &|_| (), self.stop)?;
        let inside = judging.into_iter().filter(|(_, target)| *target < labels.classes);
        let right = inside.map(|(vector, target)| {
            let mut logits = head.bias.clone();
            for (value, weights) in vector.iter().zip(head.weights.chunks_exact(logits.len().max(1))) {
                logits.iter_mut().zip(weights).for_each(|(logit, weight)| *logit += value * weight);
            }
            // As the tier answers: the best of the classes, whatever the output for what is outside of them says.
            logits.truncate(labels.classes);
            let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            best.map(|(best, _)| best) == Some(target)
        });
        Some(right.collect())
    }
}

/// The share of answers that are right.
pub(crate) fn share(answers: &[bool]) -> Share {
    Share::new(answers.iter().filter(|right| **right).count() as u64, answers.len() as u64)
}

/// Milliseconds of a text on one thread: of a variant, and of the whole encoder in turns with it.
pub(crate) fn time(
    (variant, whole): (&Encoder, &Encoder),
    texts: &[&str],
    overflow: sizewise_contract::task::Overflow,
) -> Result<(f64, f64)> {
    let step = (texts.len() / TIMED).max(1);
    let texts: Vec<&str> = texts.iter().step_by(step).take(TIMED).copied().collect();
    let round = |encoder: &Encoder| -> Result<f64> {
        let began = Instant::now();
        for text in &texts {
            encoder.embed(&[text], overflow)?;
        }
        Ok(began.elapsed().as_secs_f64() * 1e3 / texts.len().max(1) as f64)
    };
    let (mut best, mut best_whole) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        best = best.min(round(variant)?);
        best_whole = best_whole.min(round(whole)?);
    }
    Ok((best, best_whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_that_of_the_rows_that_changed() {
        let before = [true, true, true, false, false, true, true, true];
        let now = [true, false, true, true, true, true, true, true];
        let found = difference(&now, &before);
        assert!((found.value - 1.0 / 8.0).abs() < 1e-12);
        // Three of eight changed: variance 3/8 − 1/64.
        let half = 1.96 * ((3.0 / 8.0 - 1.0 / 64.0) / 8.0f64).sqrt();
        assert!(
            (found.high - found.value - half).abs() < 1e-12 && (found.value - found.low - half).abs() < 1e-12
        );
        let same = difference(&now, &now);
        assert_eq!((same.value, same.low, same.high), (0.0, 0.0, 0.0));
    }
}
