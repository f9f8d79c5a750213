//! How do gradients move parameters?
//!
//! AdamW (Loshchilov and Hutter 2019) after clipping the gradient's length (Pascanu et al. 2013), with a rate that rises
//! linearly and falls linearly to zero. Sums run over blocks of fixed size, so nothing hangs on the number of threads.

use crate::train::jobs;
use sizewise_models::widest;
use std::{ops::Range, sync::Mutex};

const FIRST_DECAY: f32 = 0.9;
const SECOND_DECAY: f32 = 0.999;
const EPSILON: f32 = 1e-8;
/// Longest gradient.
const LONGEST: f64 = 1.0;
/// Parameters that one thread takes at once.
const BLOCK: usize = 1 << 16;

/// A run of parameters that are treated alike.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) range: Range<usize>,
    /// Learning rate at its highest.
    pub(super) rate: f32,
    /// By how much of the rate a parameter shrinks in a step.
    pub(super) decay: f32,
}

/// What AdamW remembers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Optimizer {
    pub(super) first: Vec<f32>,
    pub(super) second: Vec<f32>,
    /// Steps that were taken.
    pub(super) steps: u64,
}

/// The share of the highest rate at a step, from 0.
pub(super) fn schedule(step: u64, warm_up: u64, steps: u64) -> f32 {
    if step < warm_up {
        return (step + 1) as f32 / warm_up as f32;
    }
    let left = steps.saturating_sub(step) as f32;
    left / steps.saturating_sub(warm_up).max(1) as f32
}

impl Optimizer {
    pub(super) fn new(parameters: usize) -> Self {
        Self { first: vec![0.0; parameters], second: vec![0.0; parameters], steps: 0 }
    }

    /// Takes one step; `share` is that of the highest rate.
    pub(super) fn step(
        &mut self,
        parameters: &mut [f32],
        gradient: &[f32],
        groups: &[Group],
        (share, threads): (f32, usize),
    ) {
        let blocks: Vec<&[f32]> = gradient.chunks(BLOCK).collect();
        let squares = jobs::run(blocks.len(), threads, |block| {
            let values = blocks.get(block)?;
            Some(values.chunks(1024).map(|part| f64::from(super::floats::dot(part, part))).sum::<f64>())
        });
        let length = squares.unwrap_or_default().iter().sum::<f64>().sqrt();
        let clip = if length > LONGEST { (LONGEST / length) as f32 } else { 1.0 };
        self.steps += 1;
        let power = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let corrections = (1.0 - FIRST_DECAY.powi(power), 1.0 - SECOND_DECAY.powi(power));
        // Each block is cut out once, so that threads can change their own.
        let mut work = Vec::new();
        let mut rest = (parameters, gradient, self.first.as_mut_slice(), self.second.as_mut_slice());
        for group in groups {
            let mut left = group.range.len().min(rest.0.len());
            while left > 0 {
                let size = left.min(BLOCK);
                let (p, p_rest) = rest.0.split_at_mut(size);
                let (g, g_rest) = rest.1.split_at(size);
                let (m, m_rest) = rest.2.split_at_mut(size);
                let (v, v_rest) = rest.3.split_at_mut(size);
                work.push(Mutex::new((p, g, m, v, group.rate * share, group.decay)));
                rest = (p_rest, g_rest, m_rest, v_rest);
                left -= size;
            }
        }
        let moved = jobs::run(work.len(), threads, |number| {
            let mut block = work.get(number)?.lock().ok()?;
            let (p, g, m, v, rate, decay) = &mut *block;
            widest(
                #[inline(always)]
                || {
                    let moments = m.iter_mut().zip(v.iter_mut());
                    for ((parameter, slope), (first, second)) in p.iter_mut().zip(g.iter()).zip(moments) {
                        let slope = slope * clip;
                        *first = FIRST_DECAY * *first + (1.0 - FIRST_DECAY) * slope;
                        *second = SECOND_DECAY * *second + (1.0 - SECOND_DECAY) * slope * slope;
                        let move_by = (*first / corrections.0) / ((*second / corrections.1).sqrt() + EPSILON);
                        *parameter -= *rate * (move_by + *decay * *parameter);
                    }
                },
            );
            Some(())
        });
        debug_assert!(moved.is_some(), "no block fails");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_moves_every_parameter_by_the_rate() {
        let mut parameters = vec![1.0f32, -2.0, 3.0];
        let groups =
            [Group { range: 0..2, rate: 0.1, decay: 0.0 }, Group { range: 2..3, rate: 0.1, decay: 0.5 }];
        Optimizer::new(3).step(&mut parameters, &[0.3, -0.2, 0.1], &groups, (1.0, 1));
        for (found, expected) in parameters.iter().zip([0.9, -1.9, 2.9 - 0.1 * 0.5 * 3.0]) {
            assert!((found - expected).abs() < 1e-5, "{parameters:?}");
        }
    }

    #[test]
    fn the_rate_rises_and_falls_to_zero() {
        let rates: Vec<f32> = (0..10).map(|step| schedule(step, 2, 10)).collect();
        assert_eq!(rates[0], 0.5);
        assert_eq!(rates[1], 1.0);
        assert_eq!(rates[2], 1.0);
        assert!(rates.windows(2).skip(2).all(|pair| pair[1] < pair[0]) && rates[9] < 0.2);
    }
}
