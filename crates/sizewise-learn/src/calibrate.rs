//! How is a calibrator fitted?
//!
//! Logistic regression of "was the answer right" on standardised signals, by iteratively reweighted least squares with
//! a small ridge, on rows that did not train the tier. Two pseudo-rows, one right and one wrong, keep it finite when
//! every answer was right.

use sizewise_models::{
    calibrator::{Calibrator, SignalWeight},
    tiers::LIKENESS_SIGNALS,
};

/// One answer that a tier gave to a row it was not trained on.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// What the tier noticed, in its own order. `[signals]`
    pub signals: Vec<f32>,
    /// Whether the answer was right.
    pub right: bool,
    /// How much the row counts.
    pub weight: f64,
}

/// Ridge on standardised weights, in units of rows.
const RIDGE: f64 = 1.0;
const ITERATIONS: usize = 50;
/// Share of the right answers that may fall below the floor of a signal that measures likeness to the training rows.
const BELOW_FLOOR: f64 = 0.004;

/// Fits a calibrator for a tier whose signals have these names.
///
/// **Determinism.** Depends on nothing but the observations and their order.
#[must_use]
pub fn fit(names: &[&str], observations: &[Observation]) -> Calibrator {
    let mut calibrator = standardiser(names, observations);
    let rows: Vec<Vec<f64>> = observations.iter().map(|observation| row(&calibrator, observation)).collect();
    let size = names.len() + 1;
    let mut weights = vec![0.0; size];
    for _ in 0..ITERATIONS {
        let (mut hessian, mut gradient) = penalty(&weights);
        let pseudo = [(true, 1.0), (false, 1.0)].map(|(right, weight)| (unit_row(size), right, weight));
        let real = rows.iter().cloned().zip(observations).map(|(row, o)| (row, o.right, o.weight));
        for (row, right, weight) in real.chain(pseudo) {
            let odds: f64 = row.iter().zip(&weights).map(|(x, w)| x * w).sum();
            let probability = 1.0 / (1.0 + (-odds).exp());
            let residual = (f64::from(u8::from(right)) - probability) * weight;
            let curvature = (probability * (1.0 - probability)).max(1e-9) * weight;
            for (i, x) in row.iter().enumerate() {
                if let Some(slope) = gradient.get_mut(i) {
                    *slope += residual * x;
                }
                for (entry, y) in hessian.iter_mut().skip(i * size).zip(&row) {
                    *entry += curvature * x * y;
                }
            }
        }
        let Some(step) = solve(hessian, gradient) else { break };
        // A full Newton step may overshoot where the answers are almost all right.
        let largest = step.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        let scale = if largest > 2.0 { 2.0 / largest } else { 1.0 };
        weights.iter_mut().zip(&step).for_each(|(weight, change)| *weight += scale * change);
        if largest < 1e-9 {
            break;
        }
    }
    calibrator.bias = weights.last().copied().unwrap_or(0.0);
    calibrator.signals.iter_mut().zip(weights).for_each(|(signal, weight)| signal.weight = weight);
    calibrator
}

fn standardiser(names: &[&str], observations: &[Observation]) -> Calibrator {
    let total: f64 = observations.iter().map(|o| o.weight).sum::<f64>().max(1e-9);
    let moment = |position: usize, power: i32, around: f64| {
        let value = |o: &Observation| {
            o.signals.get(position).copied().filter(|v| v.is_finite()).map_or(around, f64::from)
        };
        observations.iter().map(|o| o.weight * (value(o) - around).powi(power)).sum::<f64>() / total
    };
    let signals = names.iter().enumerate().map(|(position, name)| {
        let mean = moment(position, 1, 0.0);
        let deviation = moment(position, 2, mean).sqrt();
        SignalWeight {
            name: (*name).to_owned(),
            mean,
            deviation: if deviation > 1e-9 { deviation } else { 1.0 },
            weight: 0.0,
            least: LIKENESS_SIGNALS.contains(name).then(|| floor(position, observations)).flatten(),
        }
    });
    Calibrator { signals: signals.collect(), bias: 0.0 }
}

/// A tenth below the value of a signal under which almost no right answer falls; none where no answer was right. The
/// tenth is for what changes between the cross-fitted tiers, whose answers these are, and the one fitted on all rows.
fn floor(position: usize, observations: &[Observation]) -> Option<f64> {
    let right = observations.iter().filter(|observation| observation.right);
    let mut values: Vec<f32> =
        right.filter_map(|o| o.signals.get(position)).copied().filter(|v| v.is_finite()).collect();
    values.sort_by(f32::total_cmp);
    let lowest = f64::from(*values.get((values.len() as f64 * BELOW_FLOOR) as usize)?);
    Some(lowest - lowest.abs() / 10.0)
}

/// Standardised signals and a one for the bias.
fn row(calibrator: &Calibrator, observation: &Observation) -> Vec<f64> {
    let signals = calibrator.signals.iter().zip(&observation.signals);
    let values = signals
        .map(|(signal, value)| if value.is_finite() { signal.standardise(f64::from(*value)) } else { 0.0 });
    values.chain([1.0]).collect()
}

fn unit_row(size: usize) -> Vec<f64> {
    let mut row = vec![0.0; size];
    if let Some(last) = row.last_mut() {
        *last = 1.0;
    }
    row
}

/// The ridge's part of the Hessian and the gradient; the bias is free.
fn penalty(weights: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let size = weights.len();
    let mut hessian = vec![0.0; size * size];
    let mut gradient = vec![0.0; size];
    for (i, weight) in weights.iter().enumerate().take(size.saturating_sub(1)) {
        if let (Some(entry), Some(slope)) = (hessian.get_mut(i * size + i), gradient.get_mut(i)) {
            *entry = RIDGE;
            *slope = -RIDGE * weight;
        }
    }
    (hessian, gradient)
}

/// Solves a small symmetric positive system by Cholesky's decomposition.
fn solve(matrix: Vec<f64>, right: Vec<f64>) -> Option<Vec<f64>> {
    let size = right.len();
    let mut lower: Vec<Vec<f64>> = Vec::with_capacity(size);
    for (i, row) in matrix.chunks_exact(size).enumerate() {
        let mut current: Vec<f64> = Vec::with_capacity(size);
        for (j, entry) in row.iter().enumerate().take(i + 1) {
            let above = if j == i { &current } else { lower.get(j)? };
            let sum: f64 = current.iter().zip(above).take(j).map(|(a, b)| a * b).sum();
            current.push(if j == i {
                let square = entry - sum;
                if square <= 0.0 {
                    return None;
                }
                square.sqrt()
            } else {
                (entry - sum) / above.get(j)?
            });
        }
        lower.push(current);
    }
    let mut forward: Vec<f64> = Vec::with_capacity(size);
    for (row, value) in lower.iter().zip(&right) {
        let sum: f64 = row.iter().zip(&forward).map(|(a, b)| a * b).sum();
        forward.push((value - sum) / row.last()?);
    }
    let mut solution = vec![0.0; size];
    for i in (0..size).rev() {
        let sum: f64 = (i + 1..size).filter_map(|k| Some(lower.get(k)?.get(i)? * solution.get(k)?)).sum();
        *solution.get_mut(i)? = (forward.get(i)? - sum) / lower.get(i)?.get(i)?;
    }
    Some(solution)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::Random;

    #[test]
    fn the_solver_solves() {
        let solution = solve(vec![4.0, 2.0, 2.0, 3.0], vec![10.0, 8.0]).unwrap();
        assert!((solution[0] - 1.75).abs() < 1e-12 && (solution[1] - 1.5).abs() < 1e-12);
        assert_eq!(solve(vec![0.0], vec![1.0]), None);
    }

    #[test]
    fn a_planted_logistic_law_is_recovered() {
        let mut random = Random(5);
        let mut uniform = || random.below(1_000_000) as f64 / 1e6;
        let observations: Vec<Observation> = (0..20_000)
            .map(|_| {
                let (a, b) = (uniform() * 4.0 - 2.0, uniform() * 4.0 - 2.0);
                let right = uniform() < 1.0 / (1.0 + (-(1.5 * a - 0.8 * b + 0.5)).exp());
                Observation { signals: vec![a as f32, b as f32], right, weight: 1.0 }
            })
            .collect();
        let calibrator = fit(&["a", "b"], &observations);
        for (a, b) in [(1.0, 0.0), (-1.0, 1.0), (0.0, 0.0)] {
            let expected = 1.0 / (1.0 + (-(1.5f64 * a - 0.8 * b + 0.5)).exp());
            let found = calibrator.confidence(&[a as f32, b as f32]);
            assert!((found - expected).abs() < 0.02, "{found} {expected}");
        }
    }

    #[test]
    fn what_is_unlike_all_training_rows_is_never_confident() {
        let name = LIKENESS_SIGNALS[0];
        let observations: Vec<Observation> = (0..1_000)
            .map(|i| Observation { signals: vec![0.5 + i as f32 / 2_000.0], right: true, weight: 1.0 })
            .collect();
        let calibrator = fit(&[name], &observations);
        assert!(calibrator.confidence(&[0.7]) > 0.9);
        assert_eq!(calibrator.confidence(&[0.4]), 0.0);
    }

    #[test]
    fn without_a_single_wrong_answer_the_confidence_stays_below_one() {
        let observations: Vec<Observation> = (0..50)
            .map(|i| Observation { signals: vec![i as f32 / 50.0], right: true, weight: 1.0 })
            .collect();
        let confidence = fit(&["top"], &observations).confidence(&[1.0]);
        assert!(confidence > 0.9 && confidence < 0.999, "{confidence}");
        assert!(fit(&["top"], &[]).confidence(&[1.0]) > 0.4);
    }
}
