//! What is a good vector?
//!
//! One from which linear heads tell the classes of all questions (cross-entropy, label smoothing after Szegedy et al. 2016),
//! or, with few rows, one that is near those of its class and far from others (supervised contrastive loss, Khosla et al.
//! 2020; for few examples after SetFit, Tunstall et al. 2022). The gradient of either goes back into the encoder.

use super::{
    floats::dot,
    matrix::{add_product, add_rows, matrix},
};
use crate::{
    fit::{Target, lbfgs, softmax_in_place},
    train::Standard,
};
use sizewise_contract::Embeddings;
use sizewise_models::widest;
use std::sync::atomic::AtomicBool;

/// The labels of one question.
#[derive(Debug, Clone)]
pub struct Question {
    /// What each row teaches; none where it does not answer the question. `[rows]`
    pub targets: Vec<Option<Target>>,
    /// How much a row of each output counts; its length is the number of outputs. `[outputs]`
    pub class_weights: Vec<f32>,
}

/// The losses, with what was learnt about the vectors before training.
#[derive(Debug)]
pub(super) struct Objective<'a> {
    pub(super) questions: &'a [Question],
    pub(super) dimensions: usize,
    /// Share of the target that goes to all outputs alike.
    pub(super) smoothing: f32,
    /// Temperature of the contrastive loss, where that takes the place of heads.
    pub(super) temperature: Option<f32>,
    /// How vectors are shifted and scaled before the heads read them.
    pub(super) standard: Standard,
}

impl Objective<'_> {
    /// Parameters of all heads: of each question `[dimensions, outputs]`, then `[outputs]`.
    pub(super) fn parameters(&self) -> usize {
        self.questions.iter().map(|question| (self.dimensions + 1) * question.class_weights.len()).sum()
    }

    /// Fits the heads to vectors: where training begins (Kumar et al. 2022: a fitted head does not tear the features).
    /// None when `stop` was raised.
    pub(super) fn fit_heads(&self, rows: &[usize], vectors: &[f32], stop: &AtomicBool) -> Option<Vec<f32>> {
        let mut heads = Vec::with_capacity(self.parameters());
        let standardised = self.standardised(vectors);
        for question in self.questions {
            let (mut kept, mut targets) = (Vec::new(), Vec::new());
            for (row, vector) in rows.iter().zip(standardised.chunks_exact(self.dimensions.max(1))) {
                if let Some(target) = question.targets.get(*row).copied().flatten() {
                    kept.extend_from_slice(vector);
                    targets.push(target);
                }
            }
            let examples = lbfgs::Examples {
                embeddings: &kept,
                dimensions: self.dimensions,
                targets: &targets,
                class_weights: &question.class_weights,
            };
            let head = lbfgs::fit(examples, &lbfgs::Settings::default(), &|_| (), stop)?;
            heads.extend(head.weights);
            heads.extend(head.bias);
        }
        Some(heads)
    }

    fn standardised(&self, vectors: &[f32]) -> Vec<f32> {
        let means = self.standard.mean.iter().cycle();
        vectors.iter().zip(means).map(|(value, mean)| (value - mean) / self.standard.scale).collect()
    }

    fn logits(&self, standardised: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f32> {
        let rows = standardised.len() / self.dimensions.max(1);
        let mut logits = Vec::with_capacity(rows * bias.len());
        (0..rows).for_each(|_| logits.extend_from_slice(bias));
        add_product(1.0, matrix(standardised, self.dimensions), matrix(weights, bias.len()), &mut logits);
        logits
    }

    /// How many answers are right, and of how many.
    pub(super) fn right(&self, rows: &[usize], vectors: &[f32], heads: &[f32]) -> (usize, usize) {
        let standardised = self.standardised(vectors);
        let (mut right, mut all, mut rest) = (0, 0, heads);
        for question in self.questions {
            let outputs = question.class_weights.len();
            let Some((weights, below)) = rest.split_at_checked(self.dimensions * outputs) else { break };
            let Some((bias, below)) = below.split_at_checked(outputs) else { break };
            rest = below;
            let logits = self.logits(&standardised, weights, bias);
            for (row, logits) in rows.iter().zip(logits.chunks_exact(outputs.max(1))) {
                let Some(Target::Class(class)) = question.targets.get(*row).copied().flatten() else {
                    continue;
                };
                let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(best, _)| best);
                right += usize::from(best == Some(usize::from(class)));
                all += 1;
            }
        }
        (right, all)
    }

    /// The loss of a batch, and the gradient of its vectors; adds that of the heads. `vectors` and `slopes` are
    /// `[batch, dimensions]`.
    pub(super) fn loss(
        &self,
        rows: &[usize],
        (vectors, slopes): (&[f32], &mut [f32]),
        (heads, gradient): (&[f32], &mut [f32]),
    ) -> f64 {
        match self.temperature {
            Some(temperature) => {
                let each = self.questions.iter().map(|question| {
                    contrast(question, rows, (vectors, &mut *slopes), (self.dimensions, temperature))
                });
                each.sum()
            }
            None => self.head_loss(rows, (vectors, slopes), (heads, gradient)),
        }
    }

    fn head_loss(
        &self,
        rows: &[usize],
        (vectors, slopes): (&[f32], &mut [f32]),
        (heads, gradient): (&[f32], &mut [f32]),
    ) -> f64 {
        let standardised = self.standardised(vectors);
        let (mut loss, mut rest, mut gradients) = (0.0, heads, gradient);
        for question in self.questions {
            let outputs = question.class_weights.len();
            let Some((weights, below)) = rest.split_at_checked(self.dimensions * outputs) else { break };
            let Some((bias, below)) = below.split_at_checked(outputs) else { break };
            let Some((weight_slopes, others)) = gradients.split_at_mut_checked(self.dimensions * outputs)
            else {
                break;
            };
            let Some((bias_slopes, others)) = others.split_at_mut_checked(outputs) else { break };
            (rest, gradients) = (below, others);
            let mut logits = self.logits(&standardised, weights, bias);
            loss += widest(
                #[inline(always)]
                || residuals(question, rows, &mut logits, self.smoothing),
            );
            add_product(
                1.0,
                matrix(&standardised, self.dimensions).reversed_axes(),
                matrix(&logits, outputs),
                weight_slopes,
            );
            add_rows(&logits, bias_slopes);
            let turned = matrix(weights, outputs).reversed_axes();
            add_product(1.0 / self.standard.scale, matrix(&logits, outputs), turned, slopes);
        }
        loss
    }
}

/// Turns logits into the gradient of the loss by them and returns the loss, a mean over the rows of the batch.
#[inline(always)]
fn residuals(question: &Question, rows: &[usize], logits: &mut [f32], smoothing: f32) -> f64 {
    let outputs = question.class_weights.len();
    let mut loss = 0.0f64;
    for (row, logits) in rows.iter().zip(logits.chunks_exact_mut(outputs.max(1))) {
        let Some(target) = question.targets.get(*row).copied().flatten() else {
            logits.fill(0.0);
            continue;
        };
        let weight = match target {
            Target::Class(class) => question.class_weights.get(usize::from(class)).copied().unwrap_or(1.0),
            Target::NoClass => 1.0,
        } / rows.len() as f32;
        let even = smoothing / outputs as f32;
        let wanted = |class: usize| (1.0 - smoothing) * target.probability(class, outputs) + even;
        let mean: f32 = logits.iter().enumerate().map(|(class, logit)| wanted(class) * logit).sum();
        loss += f64::from((softmax_in_place(logits) - mean) * weight);
        for (class, probability) in logits.iter_mut().enumerate() {
            *probability = (*probability - wanted(class)) * weight;
        }
    }
    loss
}

/// The supervised contrastive loss of one question on unit vectors, and its gradient: the mean over rows that have a fellow in
/// the batch. Rows of no class are only there to be kept away from.
fn contrast(
    question: &Question,
    rows: &[usize],
    (vectors, slopes): (&[f32], &mut [f32]),
    (dimensions, temperature): (usize, f32),
) -> f64 {
    let target = |row: &usize| match question.targets.get(*row).copied().flatten() {
        Some(Target::Class(class)) => Some(class),
        _ => None,
    };
    let classes: Vec<Option<u16>> = rows.iter().map(target).collect();
    let vector = |row: usize| vectors.get(row * dimensions..(row + 1) * dimensions).unwrap_or_default();
    let fellows = |anchor: usize| {
        let class = classes.get(anchor).copied().flatten();
        let same = move |other: usize, of: &Option<u16>| other != anchor && of.is_some() && *of == class;
        classes.iter().enumerate().map(move |(other, of)| same(other, of)).collect::<Vec<bool>>()
    };
    let anchors: Vec<(usize, Vec<bool>)> =
        (0..rows.len()).map(|a| (a, fellows(a))).filter(|(_, same)| same.contains(&true)).collect();
    let count = anchors.len().max(1) as f32;
    let mut loss = 0.0f64;
    // The gradient by every pair's similarity.
    let mut pairs = vec![0.0f32; rows.len() * rows.len()];
    for (anchor, same) in &anchors {
        let mut scores: Vec<f32> =
            (0..rows.len()).map(|other| dot(vector(*anchor), vector(other)) / temperature).collect();
        if let Some(own) = scores.get_mut(*anchor) {
            *own = f32::NEG_INFINITY;
        }
        let many = same.iter().filter(|same| **same).count() as f32;
        let mean =
            scores.iter().zip(same).filter(|(_, same)| **same).map(|(score, _)| score).sum::<f32>() / many;
        loss += f64::from((softmax_in_place(&mut scores) - mean) / count);
        let into = pairs.chunks_exact_mut(rows.len()).nth(*anchor).unwrap_or_default();
        for ((slope, probability), same) in into.iter_mut().zip(&scores).zip(same) {
            *slope = (probability - f32::from(u8::from(*same)) / many) / (count * temperature);
        }
    }
    let pairs = matrix(&pairs, rows.len());
    add_product(1.0, pairs, matrix(vectors, dimensions), slopes);
    add_product(1.0, pairs.reversed_axes(), matrix(vectors, dimensions), slopes);
    loss
}

/// Shift and scale of vectors, as the encoder tier's fit takes them.
pub(super) fn standard(vectors: &[f32], dimensions: usize, parts: usize) -> Standard {
    let rows = vectors.len() / dimensions.max(1);
    Standard::of(&Embeddings { values: vectors.to_vec(), dimensions, tokens: vec![0; rows] }, parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::Random;

    fn numbers(count: usize) -> Vec<f32> {
        let mut random = Random(9);
        (0..count).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect()
    }

    fn questions() -> Vec<Question> {
        let class = |class| Some(Target::Class(class));
        vec![
            Question {
                targets: vec![class(0), class(1), class(1), class(0), Some(Target::NoClass), None],
                class_weights: vec![1.0, 2.0],
            },
            Question {
                targets: vec![class(2), None, class(1), class(2), class(0), class(1)],
                class_weights: vec![1.0; 3],
            },
        ]
    }

    #[test]
    fn slopes_of_both_losses_are_those_of_the_function() {
        let questions = questions();
        let rows: Vec<usize> = (0..6).collect();
        for temperature in [None, Some(0.5)] {
            let objective = Objective {
                questions: &questions,
                dimensions: 4,
                smoothing: 0.1,
                temperature,
                standard: Standard { mean: vec![0.1, 0.2, -0.1, 0.0], scale: 0.7 },
            };
            let (vectors, heads) = (numbers(24), numbers(objective.parameters()));
            let loss = |vectors: &[f32], heads: &[f32]| {
                let (mut slopes, mut gradient) = (vec![0.0; 24], vec![0.0; heads.len()]);
                objective.loss(&rows, (vectors, &mut slopes), (heads, &mut gradient))
            };
            let (mut slopes, mut gradient) = (vec![0.0; 24], vec![0.0; heads.len()]);
            objective.loss(&rows, (&vectors, &mut slopes), (&heads, &mut gradient));
            let nudged = |values: &[f32], at: usize, by: f32| {
                let mut moved = values.to_vec();
                moved[at] += by;
                moved
            };
            for (i, slope) in slopes.iter().enumerate() {
                let exact = (loss(&nudged(&vectors, i, 1e-2), &heads)
                    - loss(&nudged(&vectors, i, -1e-2), &heads))
                    / 2e-2;
                assert!((exact - f64::from(*slope)).abs() < 1e-3, "{temperature:?} {i}: {exact} {slope}");
            }
            for (i, slope) in gradient.iter().enumerate() {
                let exact = (loss(&vectors, &nudged(&heads, i, 1e-2))
                    - loss(&vectors, &nudged(&heads, i, -1e-2)))
                    / 2e-2;
                assert!((exact - f64::from(*slope)).abs() < 1e-3, "head {i}: {exact} {slope}");
            }
        }
    }
}
