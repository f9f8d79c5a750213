//! What does a model that is fitted in seconds think of a text?
//!
//! A linear head on the encoder's vectors: good enough to tell which text to ask about next, which label to doubt, and what
//! another round of labels would buy. Tiers are fitted by `train`; nothing of this serves.

use crate::{
    fit::{Target, lbfgs},
    train::Standard,
};
use ndarray::{ArrayView2, ArrayViewMut2, linalg::general_mat_mul};
use sizewise_contract::Embeddings;
use std::sync::atomic::AtomicBool;

/// Rows whose scores are computed at once.
const BLOCK: usize = 1_024;

/// The vectors of texts, in the two forms that are needed here.
#[derive(Debug, Clone)]
pub struct Vectors {
    /// Shifted and scaled for a fit. `[rows, dimensions]`
    values: Vec<f32>,
    dimensions: usize,
    /// The last layer, of unit length, for distances. `[rows, near_dimensions]`
    near: Vec<f32>,
    near_dimensions: usize,
}

impl Vectors {
    /// Prepares embeddings whose rows begin with the last layer's `last_layer` values.
    #[must_use]
    pub fn new(embeddings: &Embeddings, last_layer: usize) -> Self {
        let dimensions = embeddings.dimensions;
        let near_dimensions = last_layer.clamp(1, dimensions.max(1));
        let standard = Standard::of(embeddings, dimensions / near_dimensions);
        let mut values = Vec::with_capacity(embeddings.values.len());
        let mut near = Vec::with_capacity(embeddings.tokens.len() * near_dimensions);
        for row in embeddings.rows() {
            values
                .extend(row.iter().zip(&standard.mean).map(|(value, mean)| (value - mean) / standard.scale));
            let last = row.iter().take(near_dimensions);
            let length = last.clone().map(|value| value * value).sum::<f32>().sqrt().max(1e-9);
            near.extend(last.map(|value| value / length));
        }
        Self { values, dimensions, near, near_dimensions }
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.near.len() / self.near_dimensions.max(1)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.near.is_empty()
    }

    /// The last layer of some rows, one after the other. `[rows, near_dimensions]`
    pub(super) fn near_of(&self, rows: &[usize]) -> Vec<f32> {
        gathered(&self.near, self.near_dimensions, rows)
    }

    pub(super) fn near_dimensions(&self) -> usize {
        self.near_dimensions
    }
}

fn gathered(values: &[f32], width: usize, rows: &[usize]) -> Vec<f32> {
    let mut all = Vec::with_capacity(rows.len() * width);
    rows.iter().filter_map(|row| values.get(row * width..(row + 1) * width)).for_each(|row| all.extend(row));
    all
}

/// A fitted head.
#[derive(Debug, Clone)]
pub struct Quick {
    head: lbfgs::Head,
    classes: usize,
}

impl Quick {
    /// Fits a head to rows with their classes; none when `stop` was raised.
    #[must_use]
    pub fn fit(
        vectors: &Vectors,
        labelled: &[(usize, u16)],
        classes: usize,
        stop: &AtomicBool,
    ) -> Option<Self> {
        let rows: Vec<usize> = labelled.iter().map(|(row, _)| *row).collect();
        let targets: Vec<Target> = labelled.iter().map(|(_, class)| Target::Class(*class)).collect();
        let embeddings = gathered(&vectors.values, vectors.dimensions, &rows);
        let examples = lbfgs::Examples {
            embeddings: &embeddings,
            dimensions: vectors.dimensions,
            targets: &targets,
            class_weights: &vec![1.0; classes],
        };
        // Not to the last digit: a hundredth of a point decides nothing here.
        let settings = lbfgs::Settings { iterations: 60, tolerance: 2e-4, ..lbfgs::Settings::default() };
        Some(Self { head: lbfgs::fit(examples, &settings, &|_| (), stop)?, classes })
    }

    /// The probability of every class for some rows. `[rows, classes]`
    #[must_use]
    pub fn probabilities(&self, vectors: &Vectors, rows: &[usize]) -> Vec<f32> {
        let mut all = vec![0.0; rows.len() * self.classes];
        for (rows, out) in rows.chunks(BLOCK).zip(all.chunks_mut(BLOCK * self.classes.max(1))) {
            let inputs = gathered(&vectors.values, vectors.dimensions, rows);
            let shapes = (
                ArrayView2::from_shape((rows.len(), vectors.dimensions), &inputs),
                ArrayView2::from_shape((vectors.dimensions, self.classes), &self.head.weights),
                ArrayViewMut2::from_shape((rows.len(), self.classes), &mut *out),
            );
            if let (Ok(inputs), Ok(weights), Ok(mut logits)) = shapes {
                general_mat_mul(1.0, &inputs, &weights, 0.0, &mut logits);
            }
            for row in out.chunks_exact_mut(self.classes.max(1)) {
                row.iter_mut().zip(&self.head.bias).for_each(|(logit, bias)| *logit += bias);
                crate::fit::softmax_in_place(row);
            }
        }
        all
    }

    /// By how much the likeliest class of each row is ahead of the next one. `[rows]`
    #[must_use]
    pub fn margins(&self, vectors: &Vectors, rows: &[usize]) -> Vec<f32> {
        self.probabilities(vectors, rows).chunks_exact(self.classes.max(1)).map(margin).collect()
    }

    /// Share of labelled rows that it answers rightly.
    #[must_use]
    pub fn accuracy(&self, vectors: &Vectors, labelled: &[(usize, u16)]) -> f64 {
        self.right(vectors, labelled) as f64 / labelled.len().max(1) as f64
    }

    /// How many of the labelled rows it answers rightly.
    #[must_use]
    pub fn right(&self, vectors: &Vectors, labelled: &[(usize, u16)]) -> usize {
        let rows: Vec<usize> = labelled.iter().map(|(row, _)| *row).collect();
        let all = self.probabilities(vectors, &rows);
        let answers = all.chunks_exact(self.classes.max(1)).map(best);
        answers.zip(labelled).filter(|((answer, _), (_, class))| *answer == usize::from(*class)).count()
    }
}

/// The likeliest class with its probability.
pub(super) fn best(probabilities: &[f32]) -> (usize, f32) {
    let better = |best: (usize, f32), (class, p): (usize, &f32)| if *p > best.1 { (class, *p) } else { best };
    probabilities.iter().enumerate().fold((0, f32::NEG_INFINITY), better)
}

/// By how much the likeliest class is ahead of the next one.
pub(super) fn margin(probabilities: &[f32]) -> f32 {
    let (mut first, mut second) = (0.0f32, 0.0f32);
    for p in probabilities {
        if *p > first {
            second = first;
            first = *p;
        } else if *p > second {
            second = *p;
        }
    }
    first - second
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use sizewise_measure::random::Random;

    /// Clouds of points, one a class: the vectors and the class of each row.
    pub(crate) fn clouds(rows: usize, classes: usize, spread: f32) -> (Vectors, Vec<u16>) {
        let mut random = Random::new(5);
        let dimensions = 8;
        let mut noise = || (0..6).map(|_| random.uniform() as f32 - 0.5).sum::<f32>() * spread;
        let truth: Vec<u16> = (0..rows).map(|row| (row % classes) as u16).collect();
        let mut embeddings = Embeddings { dimensions, ..Embeddings::default() };
        for class in &truth {
            let one = |d: usize| if d == usize::from(*class) { 2.0 } else { 0.0 };
            embeddings.values.extend((0..dimensions).map(|d| one(d) + noise()));
            embeddings.tokens.push(1);
        }
        (Vectors::new(&embeddings, dimensions), truth)
    }

    #[test]
    fn a_head_learns_clouds_and_knows_its_margin() {
        let (vectors, truth) = clouds(300, 3, 0.3);
        let labelled: Vec<(usize, u16)> = truth.iter().copied().enumerate().collect();
        let quick = Quick::fit(&vectors, &labelled[..100], 3, &AtomicBool::new(false)).unwrap();
        assert!(quick.accuracy(&vectors, &labelled[100..]) > 0.98);
        let all = quick.probabilities(&vectors, &[0, 1, 2]);
        assert!(all.chunks(3).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-4));
        assert!((margin(&[0.2, 0.5, 0.3]) - 0.2).abs() < 1e-6);
        assert_eq!(best(&[0.2, 0.5, 0.3]), (1, 0.5));
        assert!(Quick::fit(&vectors, &labelled, 3, &AtomicBool::new(true)).is_none());
    }
}
