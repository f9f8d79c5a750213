//! How do the tokens of one text look at one another?
//!
//! Scaled dot-product attention (Vaswani et al. 2017), one head at a time. Keys are turned so that the scores of sixteen
//! tokens are sixteen lanes; four queries share every key and value that is read.

use super::floats::{exp, sum};
use crate::kernels::widest;

/// Lanes that are computed together.
const LANES: usize = 16;
/// Queries that share one pass.
const QUERIES: usize = 4;
/// Score of a lane beyond the last token: its weight is zero.
const NOWHERE: f32 = f32::NEG_INFINITY;

/// Buffers that are reused from head to head.
#[derive(Debug, Default)]
pub(super) struct Attention {
    /// The keys of one head, turned. `[size of a head, lanes]`
    keys: Vec<f32>,
    /// The values of one head, padded to whole lanes. `[tokens, width]`
    values: Vec<f32>,
    /// Four queries of one head, scaled. `[QUERIES, size of a head]`
    queries: Vec<f32>,
    /// What four queries take of every token. `[QUERIES, lanes]`
    weights: Vec<f32>,
}

/// Where one head lies in a row of queries, keys and values.
#[derive(Clone, Copy)]
struct Head {
    hidden: usize,
    first: usize,
    size: usize,
}

impl Head {
    /// Its part of a row: 0 for the query, 1 for the key, 2 for the value.
    #[inline(always)]
    fn part(self, row: &[f32], which: usize) -> &[f32] {
        let first = which * self.hidden + self.first;
        row.get(first..first + self.size).unwrap_or_default()
    }
}

impl Attention {
    /// `rows` is `[tokens, 3 · hidden]`, queries, keys and values side by side; `out` is `[tokens, hidden]`.
    pub(super) fn attend(&mut self, rows: &[f32], out: &mut [f32], (hidden, heads): (usize, usize)) {
        let size = hidden / heads;
        widest(
            #[inline(always)]
            || {
                for head in 0..heads {
                    self.attend_head(rows, out, Head { hidden, first: head * size, size });
                }
            },
        );
    }

    #[inline(always)]
    fn attend_head(&mut self, rows: &[f32], out: &mut [f32], head: Head) {
        let Head { hidden, first, size } = head;
        let tokens = rows.len() / (3 * hidden);
        let (lanes, width) = (tokens.next_multiple_of(LANES), size.next_multiple_of(LANES));
        self.arrange(rows, head, (lanes, width));
        let scale = 1.0 / (size as f32).sqrt();
        for (rows, out) in rows.chunks(QUERIES * 3 * hidden).zip(out.chunks_mut(QUERIES * hidden)) {
            for (row, query) in rows.chunks_exact(3 * hidden).zip(self.queries.chunks_exact_mut(size)) {
                query.iter_mut().zip(head.part(row, 0)).for_each(|(to, from)| *to = from * scale);
            }
            for first in (0..lanes).step_by(LANES) {
                let scores = product(&self.queries, (&self.keys, lanes), first);
                for (scores, weights) in scores.iter().zip(self.weights.chunks_exact_mut(lanes)) {
                    if let Some(slot) = weights.get_mut(first..first + LANES) {
                        slot.copy_from_slice(scores);
                    }
                }
            }
            for weights in self.weights.chunks_exact_mut(lanes) {
                if let Some(beyond) = weights.get_mut(tokens..) {
                    beyond.fill(NOWHERE);
                }
                softmax(weights);
            }
            for lane in (0..width).step_by(LANES) {
                let sums = product(&self.weights, (&self.values, width), lane);
                let wanted = LANES.min(size - lane);
                for (sums, out) in sums.iter().zip(out.chunks_exact_mut(hidden)) {
                    let slot = out.get_mut(first + lane..first + lane + wanted).unwrap_or_default();
                    slot.iter_mut().zip(sums).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }

    /// Lays out one head's keys and values for [`product`].
    #[inline(always)]
    fn arrange(&mut self, rows: &[f32], head: Head, (lanes, width): (usize, usize)) {
        for (buffer, length) in [
            (&mut self.keys, head.size * lanes),
            (&mut self.values, lanes * width),
            (&mut self.queries, QUERIES * head.size),
            (&mut self.weights, QUERIES * lanes),
        ] {
            buffer.clear();
            buffer.resize(length, 0.0);
        }
        let rows = rows.chunks_exact(3 * head.hidden);
        for ((token, row), values) in rows.enumerate().zip(self.values.chunks_exact_mut(width)) {
            for (key, turned) in head.part(row, 1).iter().zip(self.keys.chunks_exact_mut(lanes)) {
                if let Some(slot) = turned.get_mut(token) {
                    *slot = *key;
                }
            }
            values.iter_mut().zip(head.part(row, 2)).for_each(|(to, from)| *to = *from);
        }
    }
}

/// Sixteen columns, from `first` on, of the product of four rows with a matrix of rows `stride` apart.
#[inline(always)]
fn product(rows: &[f32], (matrix, stride): (&[f32], usize), first: usize) -> [[f32; LANES]; QUERIES] {
    let (mut a, mut b, mut c, mut d) = ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
    let length = rows.len() / QUERIES;
    let (upper, lower) = rows.split_at(2 * length);
    let ((w, x), (y, z)) = (upper.split_at(length), lower.split_at(length));
    let factors = w.iter().zip(x).zip(y.iter().zip(z));
    for (row, ((w, x), (y, z))) in matrix.chunks_exact(stride).zip(factors) {
        let Some(columns) = row.get(first..).and_then(|row| row.first_chunk::<LANES>()) else { break };
        for (lane, value) in columns.iter().enumerate() {
            a[lane] = w.mul_add(*value, a[lane]);
            b[lane] = x.mul_add(*value, b[lane]);
            c[lane] = y.mul_add(*value, c[lane]);
            d[lane] = z.mul_add(*value, d[lane]);
        }
    }
    [a, b, c, d]
}

/// Turns scores into weights. The length is a multiple of sixteen.
#[inline(always)]
fn softmax(scores: &mut [f32]) {
    let mut largest = [f32::NEG_INFINITY; LANES];
    for chunk in scores.chunks_exact(LANES) {
        for (most, score) in largest.iter_mut().zip(chunk) {
            *most = if *score > *most { *score } else { *most };
        }
    }
    let largest = largest.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = exp(*score - largest));
    let scale = 1.0 / sum(scores);
    scores.iter_mut().for_each(|score| *score *= scale);
}
