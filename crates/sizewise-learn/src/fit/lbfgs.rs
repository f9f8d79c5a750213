//! How is a linear head fitted to an encoder's embeddings?
//!
//! Multinomial logistic regression with an L2 penalty, solved to convergence by L-BFGS (Nocedal 1980; Liu and Nocedal
//! 1989) with a backtracking line search. The objective is convex, so the answer does not depend on a seed.

use super::{Target, softmax_in_place};
use ndarray::{ArrayView2, ArrayViewMut2, linalg::general_mat_mul};
use sizewise_models::widest;
use std::sync::atomic::{AtomicBool, Ordering};

/// Pairs of steps and gradient changes that are remembered.
const MEMORY: usize = 10;
/// Rows whose logits are held at once.
const BLOCK: usize = 512;

/// The rows to fit to.
#[derive(Debug, Clone, Copy)]
pub struct Examples<'a> {
    /// Row after row. `[rows, dimensions]`
    pub embeddings: &'a [f32],
    /// Length of a row.
    pub dimensions: usize,
    /// What each row teaches. `[rows]`
    pub targets: &'a [Target],
    /// How much a row of each class counts. `[classes]`
    pub class_weights: &'a [f32],
}

/// How a head is fitted.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Strength of the L2 penalty on the weights; the bias is free.
    pub l2: f32,
    /// Most iterations.
    pub iterations: u32,
    /// Converged when the objective falls by less than this share of itself.
    pub tolerance: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { l2: 1e-3, iterations: 100, tolerance: 1e-5 }
    }
}

/// A fitted head.
#[derive(Debug, Clone)]
pub struct Head {
    /// `[dimensions, classes]`
    pub weights: Vec<f32>,
    /// `[classes]`
    pub bias: Vec<f32>,
}

/// Fits a head. Returns none when `stop` was raised on the way.
#[must_use]
pub fn fit(
    examples: Examples<'_>,
    settings: &Settings,
    progress: &(dyn Fn(u32) + Sync),
    stop: &AtomicBool,
) -> Option<Head> {
    let classes = examples.class_weights.len();
    let mut problem = Problem::new(examples, settings);
    let mut point = vec![0.0f32; (examples.dimensions + 1) * classes];
    let mut gradient = vec![0.0f32; point.len()];
    let mut value = problem.value_and_gradient(&point, &mut gradient);
    let mut memory = Memory::default();
    for iteration in 0..settings.iterations {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        let direction = memory.direction(&gradient);
        let Some(step) = problem.search(&point, &direction, value, &gradient) else { break };
        memory.remember(difference(&step.point, &point), difference(&step.gradient, &gradient));
        let fell = value - step.value;
        (point, gradient, value) = (step.point, step.gradient, step.value);
        progress(iteration + 1);
        if fell <= settings.tolerance * value.abs() {
            break;
        }
    }
    let bias = point.split_off(examples.dimensions * classes);
    Some(Head { weights: point, bias })
}

/// The objective with its buffers.
struct Problem<'a> {
    examples: Examples<'a>,
    settings: &'a Settings,
    classes: usize,
    /// `[BLOCK, classes]`
    logits: Vec<f32>,
}

struct Step {
    point: Vec<f32>,
    gradient: Vec<f32>,
    value: f64,
}

impl<'a> Problem<'a> {
    fn new(examples: Examples<'a>, settings: &'a Settings) -> Self {
        let classes = examples.class_weights.len();
        Self { examples, settings, classes, logits: vec![0.0; BLOCK * classes] }
    }

    /// Mean weighted cross-entropy plus the penalty; the gradient is written to `gradient`. `[dimensions + 1, classes]`
    fn value_and_gradient(&mut self, point: &[f32], gradient: &mut [f32]) -> f64 {
        let Examples { embeddings, dimensions, targets, class_weights } = self.examples;
        let (weights, bias) = point.split_at(dimensions * self.classes);
        let (weight_gradient, bias_gradient) = gradient.split_at_mut(dimensions * self.classes);
        weight_gradient.fill(0.0);
        bias_gradient.fill(0.0);
        let rows = targets.len().max(1) as f32;
        let mut loss = 0.0f64;
        for (rows_in, targets) in embeddings.chunks(BLOCK * dimensions.max(1)).zip(targets.chunks(BLOCK)) {
            let classes = self.classes;
            let Some(logits) = self.logits.get_mut(..targets.len() * classes) else { return f64::NAN };
            let shapes = (
                ArrayView2::from_shape((targets.len(), dimensions), rows_in),
                ArrayView2::from_shape((dimensions, classes), weights),
                ArrayViewMut2::from_shape((targets.len(), classes), &mut *logits),
            );
            let (Ok(rows_view), Ok(weights_view), Ok(mut logits_view)) = shapes else { return f64::NAN };
            general_mat_mul(1.0, &rows_view, &weights_view, 0.0, &mut logits_view);
            loss += widest(
                #[inline(always)]
                || residuals(logits, bias, (targets, class_weights, rows), (classes, bias_gradient)),
            );
            let shapes = (
                ArrayView2::from_shape((targets.len(), classes), &*logits),
                ArrayViewMut2::from_shape((dimensions, classes), &mut *weight_gradient),
            );
            let (Ok(residuals_view), Ok(mut gradient_view)) = shapes else { return f64::NAN };
            general_mat_mul(1.0, &rows_view.t(), &residuals_view, 1.0, &mut gradient_view);
        }
        let l2 = self.settings.l2;
        let mut squares = 0.0f64;
        for (slope, weight) in weight_gradient.iter_mut().zip(weights) {
            *slope += l2 * weight;
            squares += f64::from(weight * weight);
        }
        loss + f64::from(l2) / 2.0 * squares
    }

    /// Backtracks until the objective falls enough (Armijo's rule).
    fn search(&mut self, point: &[f32], direction: &[f32], value: f64, gradient: &[f32]) -> Option<Step> {
        let slope = dot(gradient, direction);
        if slope >= 0.0 {
            return None;
        }
        let mut length = 1.0f32;
        for _ in 0..20 {
            let candidate: Vec<f32> = point.iter().zip(direction).map(|(x, d)| x + length * d).collect();
            let mut slopes = vec![0.0; point.len()];
            let found = self.value_and_gradient(&candidate, &mut slopes);
            if found <= value + 1e-4 * f64::from(length) * slope {
                return Some(Step { point: candidate, gradient: slopes, value: found });
            }
            length *= 0.5;
        }
        None
    }
}

/// Turns logits into residuals and returns the loss; adds the bias's gradient.
#[inline(always)]
fn residuals(
    logits: &mut [f32],
    bias: &[f32],
    (targets, class_weights, rows): (&[Target], &[f32], f32),
    (classes, bias_gradient): (usize, &mut [f32]),
) -> f64 {
    let mut loss = 0.0f64;
    for (row, target) in logits.chunks_exact_mut(classes).zip(targets) {
        row.iter_mut().zip(bias).for_each(|(logit, bias)| *logit += bias);
        let wanted: f32 = match target {
            Target::Class(class) => row.get(usize::from(*class)).copied().unwrap_or(0.0),
            Target::NoClass => row.iter().sum::<f32>() / classes as f32,
        };
        let weight = match target {
            Target::Class(class) => class_weights.get(usize::from(*class)).copied().unwrap_or(1.0),
            Target::NoClass => 1.0,
        } / rows;
        let normaliser = softmax_in_place(row);
        loss += f64::from((normaliser - wanted) * weight);
        for (class, (probability, slope)) in row.iter_mut().zip(bias_gradient.iter_mut()).enumerate() {
            *probability = (*probability - target.probability(class, classes)) * weight;
            *slope += *probability;
        }
    }
    loss
}

/// The last steps and how the gradient changed along them.
#[derive(Default)]
struct Memory {
    pairs: std::collections::VecDeque<(Vec<f32>, Vec<f32>, f64)>,
}

impl Memory {
    fn remember(&mut self, step: Vec<f32>, change: Vec<f32>) {
        let curvature = dot(&step, &change);
        // A pair without positive curvature would spoil the approximation.
        if curvature > 1e-12 {
            self.pairs.push_back((step, change, curvature));
            if self.pairs.len() > MEMORY {
                self.pairs.pop_front();
            }
        }
    }

    /// The two-loop recursion (Nocedal 1980).
    fn direction(&self, gradient: &[f32]) -> Vec<f32> {
        let mut direction: Vec<f32> = gradient.iter().map(|slope| -slope).collect();
        let mut shares = Vec::with_capacity(self.pairs.len());
        for (step, change, curvature) in self.pairs.iter().rev() {
            let share = dot(step, &direction) / curvature;
            add(&mut direction, change, -share);
            shares.push(share);
        }
        let scale = match self.pairs.back() {
            Some((_, change, curvature)) => curvature / dot(change, change),
            // The first step moves the weights by about one in all.
            None => 1.0 / dot(gradient, gradient).sqrt().max(1e-12),
        };
        direction.iter_mut().for_each(|value| *value *= scale as f32);
        for ((step, change, curvature), share) in self.pairs.iter().zip(shares.iter().rev()) {
            let correction = dot(change, &direction) / curvature;
            add(&mut direction, step, share - correction);
        }
        direction
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.chunks(1024)
        .zip(b.chunks(1024))
        .map(|(a, b)| f64::from(a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>()))
        .sum()
}

fn add(sums: &mut [f32], values: &[f32], scale: f64) {
    let scale = scale as f32;
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += scale * value);
}

fn difference(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(x, y)| x - y).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::Random;

    /// Three noisy clouds.
    fn clouds(rows: usize) -> (Vec<f32>, Vec<Target>) {
        let mut random = Random(11);
        let mut noise = || (0..6).map(|_| random.below(1000) as f32 / 1000.0).sum::<f32>() - 3.0;
        let (mut embeddings, mut targets) = (Vec::new(), Vec::new());
        for row in 0..rows {
            let class = row % 3;
            embeddings.extend((0..4).map(|d| noise() + if d == class { 1.5 } else { 0.0 }));
            targets.push(Target::Class(class as u16));
        }
        (embeddings, targets)
    }

    fn examples<'a>((embeddings, targets): &'a (Vec<f32>, Vec<Target>)) -> Examples<'a> {
        Examples { embeddings, dimensions: 4, targets, class_weights: &[1.0; 3] }
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_objective() {
        let data = clouds(60);
        let settings = Settings { l2: 0.1, ..Settings::default() };
        let mut problem = Problem::new(examples(&data), &settings);
        let point: Vec<f32> = (0..15).map(|i| (i as f32 * 0.7).sin() * 0.3).collect();
        let (mut gradient, mut unused) = (vec![0.0; 15], vec![0.0; 15]);
        problem.value_and_gradient(&point, &mut gradient);
        for i in 0..15 {
            let mut nudged = |by: f32| {
                let mut moved = point.clone();
                moved[i] += by;
                problem.value_and_gradient(&moved, &mut unused)
            };
            let slope = (nudged(1e-2) - nudged(-1e-2)) / 2e-2;
            assert!((slope - f64::from(gradient[i])).abs() < 1e-3, "{i}: {slope} {}", gradient[i]);
        }
    }

    #[test]
    fn at_the_solution_the_gradient_is_nearly_zero() {
        let data = clouds(300);
        let settings = Settings { l2: 1e-2, tolerance: 1e-9, ..Settings::default() };
        let head = fit(examples(&data), &settings, &|_| (), &AtomicBool::new(false)).unwrap();
        let point = [head.weights, head.bias].concat();
        let mut gradient = vec![0.0; point.len()];
        Problem::new(examples(&data), &settings).value_and_gradient(&point, &mut gradient);
        assert!(dot(&gradient, &gradient).sqrt() < 2e-3, "{gradient:?}");
    }
}
