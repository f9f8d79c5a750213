//! How does attention learn?
//!
//! Scaled dot-product attention (Vaswani et al. 2017), one text and one head at a time, with the weights kept for the way
//! back. Everything is a sum of scaled rows, which becomes vector instructions for short texts too.

use super::floats::{dot, exp};
use sizewise_models::widest;
use std::ops::Range;

/// Sizes of one attention.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub(super) hidden: usize,
    pub(super) heads: usize,
    /// How far a token looks to either side; none for the whole text.
    pub(super) window: Option<usize>,
}

/// Buffers that are reused from head to head.
#[derive(Debug, Default)]
struct Buffers {
    /// `[size, tokens]`
    turned: Vec<f32>,
    /// `[tokens]`
    row: Vec<f32>,
}

/// One head's part of a row of queries, keys and values.
#[inline(always)]
fn part(rows: &[f32], stride: usize, row: usize, (first, size): (usize, usize)) -> &[f32] {
    rows.get(row * stride + first..row * stride + first + size).unwrap_or_default()
}

#[inline(always)]
fn part_mut(rows: &mut [f32], stride: usize, row: usize, (first, size): (usize, usize)) -> &mut [f32] {
    rows.get_mut(row * stride + first..row * stride + first + size).unwrap_or_default()
}

#[inline(always)]
fn add_scaled(sums: &mut [f32], values: &[f32], scale: f32) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += scale * value);
}

/// Lays out a part of all rows so that one dimension of all tokens lies together. `[size, tokens]`
#[inline(always)]
fn turn(rows: &[f32], stride: usize, (first, size): (usize, usize), turned: &mut Vec<f32>) {
    let tokens = rows.len() / stride;
    turned.resize(tokens * size, 0.0);
    for token in 0..tokens {
        for (slots, value) in turned.chunks_exact_mut(tokens).zip(part(rows, stride, token, (first, size))) {
            if let Some(slot) = slots.get_mut(token) {
                *slot = *value;
            }
        }
    }
}

/// row += factors · turned. `factors` is `[size]`, `turned` is `[size, tokens]`.
#[inline(always)]
fn scores(factors: &[f32], turned: &[f32], row: &mut [f32]) {
    row.fill(0.0);
    for (factor, values) in factors.iter().zip(turned.chunks_exact(row.len().max(1))) {
        add_scaled(row, values, *factor);
    }
}

impl Heads {
    fn size(self) -> usize {
        self.hidden / self.heads.max(1)
    }

    /// The tokens that one looks at.
    #[inline(always)]
    fn near(self, token: usize, tokens: usize) -> Range<usize> {
        let window = self.window.unwrap_or(tokens);
        token.saturating_sub(window)..token.saturating_add(window).saturating_add(1).min(tokens)
    }

    /// Attends within one text. `rows` is `[tokens, 3 · hidden]`, queries, keys and values side by side; `out` is
    /// `[tokens, hidden]`; the weights are added to `kept`. `[heads, tokens, tokens]`
    pub(super) fn attend(self, rows: &[f32], out: &mut [f32], kept: &mut Vec<f32>) {
        let mut buffers = Buffers::default();
        widest(
            #[inline(always)]
            || self.attend_inner(rows, out, kept, &mut buffers),
        );
    }

    #[inline(always)]
    fn attend_inner(self, rows: &[f32], out: &mut [f32], kept: &mut Vec<f32>, buffers: &mut Buffers) {
        let (hidden, size, stride) = (self.hidden, self.size(), 3 * self.hidden);
        let tokens = rows.len() / stride.max(1);
        let scale = 1.0 / (size as f32).sqrt();
        out.fill(0.0);
        for first in (0..self.heads).map(|head| head * size) {
            turn(rows, stride, (hidden + first, size), &mut buffers.turned);
            buffers.row.resize(tokens, 0.0);
            for token in 0..tokens {
                let row = buffers.row.as_mut_slice();
                scores(part(rows, stride, token, (first, size)), &buffers.turned, row);
                let near = self.near(token, tokens);
                let (before, rest) = row.split_at_mut(near.start);
                let (seen, behind) = rest.split_at_mut(near.len());
                before.iter_mut().chain(behind).for_each(|score| *score = 0.0);
                let largest = seen
                    .iter()
                    .fold(f32::NEG_INFINITY, |most, score| if *score > most { *score } else { most });
                seen.iter_mut().for_each(|score| *score = exp((*score - largest) * scale));
                let total = 1.0 / seen.iter().sum::<f32>();
                row.iter_mut().for_each(|weight| *weight *= total);
                let out = part_mut(out, hidden, token, (first, size));
                for (other, weight) in row.iter().enumerate() {
                    add_scaled(out, part(rows, stride, other, (2 * hidden + first, size)), *weight);
                }
                kept.extend_from_slice(row);
            }
        }
    }

    /// Turns the gradient of [`Self::attend`]'s outputs into that of its rows. `slopes` is `[tokens, hidden]`, `weights` is
    /// `[heads, tokens, tokens]`, `out` is `[tokens, 3 · hidden]` and zero.
    pub(super) fn backward(self, rows: &[f32], weights: &[f32], slopes: &[f32], out: &mut [f32]) {
        let mut buffers = Buffers::default();
        widest(
            #[inline(always)]
            || self.backward_inner(rows, weights, slopes, (out, &mut buffers)),
        );
    }

    #[inline(always)]
    fn backward_inner(
        self,
        rows: &[f32],
        weights: &[f32],
        slopes: &[f32],
        (out, buffers): (&mut [f32], &mut Buffers),
    ) {
        let (hidden, size, stride) = (self.hidden, self.size(), 3 * self.hidden);
        let tokens = rows.len() / stride.max(1);
        let scale = 1.0 / (size as f32).sqrt();
        let mut all = weights.chunks_exact(tokens.max(1));
        for first in (0..self.heads).map(|head| head * size) {
            let [query, key, value] = [first, hidden + first, 2 * hidden + first].map(|at| (at, size));
            turn(rows, stride, value, &mut buffers.turned);
            buffers.row.resize(tokens, 0.0);
            for token in 0..tokens {
                let Some(weights) = all.next() else { return };
                let slope = part(slopes, hidden, token, (first, size));
                // The gradient of the weights, then that of the scores before the softmax.
                scores(slope, &buffers.turned, &mut buffers.row);
                let mean = dot(&buffers.row, weights);
                for (slope, weight) in buffers.row.iter_mut().zip(weights) {
                    *slope = weight * (*slope - mean) * scale;
                }
                for (other, (score_slope, weight)) in buffers.row.iter().zip(weights).enumerate() {
                    add_scaled(part_mut(out, stride, other, value), slope, *weight);
                    add_scaled(
                        part_mut(out, stride, token, query),
                        part(rows, stride, other, key),
                        *score_slope,
                    );
                    add_scaled(
                        part_mut(out, stride, other, key),
                        part(rows, stride, token, query),
                        *score_slope,
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::Random;

    #[test]
    fn slopes_of_attention_are_those_of_the_function() {
        for window in [None, Some(1)] {
            check(Heads { hidden: 6, heads: 2, window });
        }
    }

    fn check(heads: Heads) {
        let mut random = Random(3);
        let mut numbers = |count: usize| -> Vec<f32> {
            (0..count).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect()
        };
        let (rows, wanted) = (numbers(5 * 18), numbers(5 * 6));
        let loss = |rows: &[f32]| {
            let mut out = vec![0.0; 30];
            heads.attend(rows, &mut out, &mut Vec::new());
            out.iter().zip(&wanted).map(|(x, y)| f64::from(x * y)).sum::<f64>()
        };
        let (mut out, mut kept, mut slopes) = (vec![0.0; 30], Vec::new(), vec![0.0; 90]);
        heads.attend(&rows, &mut out, &mut kept);
        heads.backward(&rows, &kept, &wanted, &mut slopes);
        for i in 0..rows.len() {
            let nudged = |by: f32| {
                let mut moved = rows.clone();
                moved[i] += by;
                loss(&moved)
            };
            let exact = (nudged(1e-2) - nudged(-1e-2)) / 2e-2;
            assert!((exact - f64::from(slopes[i])).abs() < 1e-3, "{i}: {exact} {}", slopes[i]);
        }
    }
}
