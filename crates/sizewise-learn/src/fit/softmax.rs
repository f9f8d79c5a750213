//! How is a softmax layer fitted to rows of sparse and dense features?
//!
//! Adagrad (Duchi et al. 2011) on small batches: rare n-grams keep a large step while common ones settle, no learning
//! rate has to be tuned to the task, and the result depends on the seed alone. One fit runs on one core;
//! cross-fitting runs several fits side by side, which keeps every one of them deterministic.

use super::{Random, Target, softmax_in_place};
use sizewise_models::widest;
use std::sync::atomic::{AtomicBool, Ordering};

/// One row's features. Reused from row to row.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// Indices and values of the sparse features.
    pub sparse: Vec<(u32, f32)>,
    /// The dense features. `[dense]`
    pub dense: Vec<f32>,
}

/// Hands out the features of rows.
pub trait Rows: Sync {
    /// How many rows there are.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Replaces `row` by the features of the row at `position`.
    fn features(&self, position: usize, row: &mut Row);
}

/// The shape of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Sparse features.
    pub sparse: usize,
    /// Dense features.
    pub dense: usize,
    /// Classes.
    pub classes: usize,
}

/// How a layer is fitted.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How often every row is seen.
    pub epochs: u32,
    /// Rows per step.
    pub batch: usize,
    /// Size of the first steps.
    pub learning_rate: f32,
    /// Pull towards zero.
    pub l2: f32,
    /// Decides the order of the rows.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { epochs: 15, batch: 32, learning_rate: 0.05, l2: 1e-6, seed: 0 }
    }
}

/// A fitted layer.
#[derive(Debug, Clone)]
pub struct Layer {
    /// `[sparse, classes]`
    pub sparse: Vec<f32>,
    /// `[dense, classes]`
    pub dense: Vec<f32>,
    /// `[classes]`
    pub bias: Vec<f32>,
    /// The shape of the above.
    pub shape: Shape,
}

/// The rows to fit to.
pub struct Examples<'a> {
    /// Where their features come from.
    pub rows: &'a dyn Rows,
    /// Which of the rows to use, and what each teaches.
    pub targets: &'a [(u32, Target)],
    /// How much a row of each class counts. `[classes]`
    pub class_weights: &'a [f32],
    /// What rows teach in place of their target, where they do.
    pub taught: Option<&'a dyn Taught>,
}

/// A teacher's opinions of rows.
pub trait Taught: Sync {
    /// Writes the wanted probability of each class; false where the row's target is what it teaches. `[classes]`
    fn wanted(&self, row: u32, target: Target, wanted: &mut [f32]) -> bool;
}

/// Fits a layer. Returns none when `stop` was raised on the way.
#[must_use]
pub fn fit(
    examples: &Examples<'_>,
    shape: Shape,
    settings: &Settings,
    progress: &(dyn Fn(u32) + Sync),
    stop: &AtomicBool,
) -> Option<Layer> {
    let mut fitter = Fitter::new(shape, settings);
    let mut order: Vec<u32> = (0..u32::try_from(examples.targets.len()).ok()?).collect();
    let mut random = Random(settings.seed ^ 0x51_2e_f1_7a);
    for epoch in 0..settings.epochs {
        random.shuffle(&mut order);
        for batch in order.chunks(settings.batch.max(1)) {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            fitter.step(examples, batch);
        }
        progress(epoch + 1);
    }
    Some(fitter.layer)
}

/// The layer with what Adagrad remembers, and the gradient of one batch.
struct Fitter {
    layer: Layer,
    /// Sums of squared gradients, shaped like the layer.
    squares: Layer,
    settings: Settings,
    rows: Vec<Row>,
    /// `[batch, classes]`
    residuals: Vec<f32>,
    /// The slot of each sparse feature in this batch's gradient, from 1; 0 when it is not in the batch.
    slots: Vec<u32>,
    touched: Vec<u32>,
    /// `[touched, classes]`
    sparse_gradient: Vec<f32>,
    /// `[dense, classes]`
    dense_gradient: Vec<f32>,
    bias_gradient: Vec<f32>,
    /// What one row teaches. `[classes]`
    wanted: Vec<f32>,
}

impl Layer {
    fn zero(shape: Shape) -> Self {
        Self {
            sparse: vec![0.0; shape.sparse * shape.classes],
            dense: vec![0.0; shape.dense * shape.classes],
            bias: vec![0.0; shape.classes],
            shape,
        }
    }

    /// Computes the logits of one row. `[classes]`
    pub fn logits(&self, row: &Row, logits: &mut [f32]) {
        widest(
            #[inline(always)]
            || self.logits_inner(row, logits),
        );
    }

    #[inline(always)]
    fn logits_inner(&self, row: &Row, logits: &mut [f32]) {
        let classes = self.shape.classes;
        logits.copy_from_slice(&self.bias);
        for &(feature, value) in &row.sparse {
            let start = feature as usize * classes;
            if let Some(weights) = self.sparse.get(start..start + classes) {
                add_scaled(logits, weights, value);
            }
        }
        for (&value, weights) in row.dense.iter().zip(self.dense.chunks_exact(classes)) {
            add_scaled(logits, weights, value);
        }
    }
}

#[inline(always)]
fn add_scaled(sums: &mut [f32], weights: &[f32], scale: f32) {
    for (sum, weight) in sums.iter_mut().zip(weights) {
        *sum += scale * weight;
    }
}

impl Fitter {
    fn new(shape: Shape, settings: &Settings) -> Self {
        Self {
            layer: Layer::zero(shape),
            squares: Layer::zero(shape),
            settings: settings.clone(),
            rows: Vec::new(),
            residuals: Vec::new(),
            slots: vec![0; shape.sparse],
            touched: Vec::new(),
            sparse_gradient: Vec::new(),
            dense_gradient: vec![0.0; shape.dense * shape.classes],
            bias_gradient: vec![0.0; shape.classes],
            wanted: vec![0.0; shape.classes],
        }
    }

    fn step(&mut self, examples: &Examples<'_>, batch: &[u32]) {
        let classes = self.layer.shape.classes;
        self.rows.resize_with(self.rows.len().max(batch.len()), Row::default);
        self.residuals.clear();
        self.residuals.resize(batch.len() * classes, 0.0);
        self.dense_gradient.fill(0.0);
        self.bias_gradient.fill(0.0);
        for (slot, &position) in batch.iter().enumerate() {
            let Some(&(row, target)) = examples.targets.get(position as usize) else { continue };
            let (Some(features), Some(residuals)) =
                (self.rows.get_mut(slot), self.residuals.get_mut(slot * classes..(slot + 1) * classes))
            else {
                continue;
            };
            examples.rows.features(row as usize, features);
            let weight = match target {
                Target::Class(class) => {
                    examples.class_weights.get(usize::from(class)).copied().unwrap_or(1.0)
                }
                Target::NoClass => 1.0,
            } / batch.len() as f32;
            if !examples.taught.is_some_and(|taught| taught.wanted(row, target, &mut self.wanted)) {
                let target =
                    |(class, wanted): (usize, &mut f32)| *wanted = target.probability(class, classes);
                self.wanted.iter_mut().enumerate().for_each(target);
            }
            widest(
                #[inline(always)]
                || {
                    self.layer.logits_inner(features, residuals);
                    softmax_in_place(residuals);
                    for (residual, wanted) in residuals.iter_mut().zip(&self.wanted) {
                        *residual = (*residual - wanted) * weight;
                    }
                },
            );
        }
        widest(
            #[inline(always)]
            || {
                self.gather(batch.len());
                self.apply();
            },
        );
    }

    /// Adds up the gradient of the batch.
    #[inline(always)]
    fn gather(&mut self, batch: usize) {
        let classes = self.layer.shape.classes;
        self.touched.clear();
        for (row, residuals) in self.rows.iter().take(batch).zip(self.residuals.chunks_exact(classes)) {
            for &(feature, value) in &row.sparse {
                let Some(slot) = self.slots.get_mut(feature as usize) else { continue };
                if *slot == 0 {
                    self.touched.push(feature);
                    *slot = self.touched.len() as u32;
                    let needed = self.touched.len() * classes;
                    if self.sparse_gradient.len() < needed {
                        self.sparse_gradient.resize(needed, 0.0);
                    }
                    if let Some(fresh) = self.sparse_gradient.get_mut(needed - classes..needed) {
                        fresh.fill(0.0);
                    }
                }
                let start = (*slot as usize - 1) * classes;
                if let Some(gradient) = self.sparse_gradient.get_mut(start..start + classes) {
                    add_scaled(gradient, residuals, value);
                }
            }
            for (&value, gradient) in row.dense.iter().zip(self.dense_gradient.chunks_exact_mut(classes)) {
                add_scaled(gradient, residuals, value);
            }
            add_scaled(&mut self.bias_gradient, residuals, 1.0);
        }
    }

    /// Takes one step of Adagrad.
    #[inline(always)]
    fn apply(&mut self) {
        let classes = self.layer.shape.classes;
        let Settings { learning_rate, l2, .. } = self.settings;
        for (&feature, gradient) in self.touched.iter().zip(self.sparse_gradient.chunks_exact(classes)) {
            let start = feature as usize * classes;
            if let (Some(weights), Some(squares), Some(slot)) = (
                self.layer.sparse.get_mut(start..start + classes),
                self.squares.sparse.get_mut(start..start + classes),
                self.slots.get_mut(feature as usize),
            ) {
                adagrad(weights, squares, gradient, (learning_rate, l2));
                *slot = 0;
            }
        }
        adagrad(&mut self.layer.dense, &mut self.squares.dense, &self.dense_gradient, (learning_rate, l2));
        adagrad(&mut self.layer.bias, &mut self.squares.bias, &self.bias_gradient, (learning_rate, 0.0));
    }
}

#[inline(always)]
fn adagrad(weights: &mut [f32], squares: &mut [f32], gradient: &[f32], (rate, l2): (f32, f32)) {
    for ((weight, square), gradient) in weights.iter_mut().zip(squares).zip(gradient) {
        let slope = gradient + l2 * *weight;
        *square += slope * slope;
        *weight -= rate * slope / (square.sqrt() + 1e-6);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows whose class is told by one sparse feature, in noise.
    struct Planted {
        rows: Vec<Row>,
    }

    impl Rows for Planted {
        fn len(&self) -> usize {
            self.rows.len()
        }
        fn features(&self, position: usize, row: &mut Row) {
            row.clone_from(&self.rows[position]);
        }
    }

    fn planted(rows: usize, classes: usize) -> (Planted, Vec<(u32, Target)>) {
        let mut random = Random(7);
        let mut targets = Vec::new();
        let rows = (0..rows)
            .map(|position| {
                let class = random.below(classes);
                targets.push((position as u32, Target::Class(class as u16)));
                let mut sparse = vec![(class as u32, 0.5)];
                sparse.extend((0..5).map(|_| ((classes + random.below(200)) as u32, 0.3)));
                Row { sparse, dense: vec![class as f32 / classes as f32, random.below(100) as f32 / 100.0] }
            })
            .collect();
        (Planted { rows }, targets)
    }

    fn fit_planted(seed: u64) -> (Layer, Planted, Vec<(u32, Target)>) {
        let (rows, targets) = planted(600, 5);
        let shape = Shape { sparse: 205, dense: 2, classes: 5 };
        let examples = Examples { rows: &rows, targets: &targets, class_weights: &[1.0; 5], taught: None };
        let layer = fit(
            &examples,
            shape,
            &Settings { seed, ..Settings::default() },
            &|_| (),
            &AtomicBool::new(false),
        )
        .unwrap();
        (layer, rows, targets)
    }

    #[test]
    fn a_planted_signal_is_found() {
        let (layer, rows, targets) = fit_planted(1);
        let mut logits = vec![0.0; 5];
        let right = targets.iter().filter(|(row, target)| {
            layer.logits(&rows.rows[*row as usize], &mut logits);
            let best = (0..5).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
            *target == Target::Class(best as u16)
        });
        assert!(right.count() >= 595);
    }

    #[test]
    fn the_same_seed_gives_the_same_layer_bit_for_bit() {
        assert_eq!(fit_planted(3).0.sparse, fit_planted(3).0.sparse);
        assert_ne!(fit_planted(3).0.sparse, fit_planted(4).0.sparse);
    }

    #[test]
    fn a_raised_stop_ends_the_fit() {
        let (rows, targets) = planted(10, 2);
        let examples = Examples { rows: &rows, targets: &targets, class_weights: &[1.0; 2], taught: None };
        let shape = Shape { sparse: 205, dense: 2, classes: 2 };
        assert!(fit(&examples, shape, &Settings::default(), &|_| (), &AtomicBool::new(true)).is_none());
    }
}
