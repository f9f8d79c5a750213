//! How do the tokens of one text look at one another?
//!
//! Scaled dot-product attention (Vaswani et al. 2017), one head at a time, sixteen queries at a time. Their scores lie side
//! by side, so that the softmax never adds across the lanes of a vector; keys and values are read where they are.

use super::floats::exp;
use crate::kernels::widest;

/// Queries that are computed together.
const LANES: usize = 16;
/// Keys that share one pass over the queries.
const KEYS: usize = 8;
/// Queries that share one pass over the values.
const QUERIES: usize = 4;

/// Buffers that are reused from head to head.
#[derive(Debug, Default)]
pub(super) struct Attention {
    /// Sixteen queries of one head, scaled and turned. `[size of a head]`
    queries: Vec<[f32; LANES]>,
    /// What sixteen queries take of every token. `[tokens]`
    weights: Vec<[f32; LANES]>,
    /// One over the sum of each query's weights.
    inverse: [f32; LANES],
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
        self.queries.resize(size, [0.0; LANES]);
        self.weights.resize(rows.len() / (3 * hidden), [0.0; LANES]);
        widest(
            #[inline(always)]
            || {
                for head in 0..heads {
                    let head = Head { hidden, first: head * size, size };
                    let blocks = rows.chunks(LANES * 3 * hidden).zip(out.chunks_mut(LANES * hidden));
                    for (queries, out) in blocks {
                        self.turn(queries, head);
                        self.weigh(rows, head);
                        self.gather(rows, out, head);
                    }
                }
            },
        );
    }

    /// Lays out the queries of up to sixteen rows; lanes beyond the last hold what they held.
    #[inline(always)]
    fn turn(&mut self, rows: &[f32], head: Head) {
        let scale = 1.0 / (head.size as f32).sqrt();
        for (lane, row) in rows.chunks_exact(3 * head.hidden).enumerate().take(LANES) {
            for (turned, value) in self.queries.iter_mut().zip(head.part(row, 0)) {
                turned[lane] = value * scale;
            }
        }
    }

    /// Scores of all tokens, and the softmax but for its last division.
    #[inline(always)]
    fn weigh(&mut self, rows: &[f32], head: Head) {
        let length = 3 * head.hidden;
        for (rows, weights) in rows.chunks(KEYS * length).zip(self.weights.chunks_mut(KEYS)) {
            // Where keys are missing the first one stands in for them; nobody reads their scores.
            let mut keys = [head.part(rows, 1); KEYS];
            for (key, row) in keys.iter_mut().zip(rows.chunks_exact(length)) {
                *key = head.part(row, 1);
            }
            let scores = score(&self.queries, keys);
            for (weights, scores) in weights.iter_mut().zip(&scores) {
                *weights = *scores;
            }
        }
        let mut largest = [f32::NEG_INFINITY; LANES];
        for scores in &self.weights {
            for (most, score) in largest.iter_mut().zip(scores) {
                *most = if *score > *most { *score } else { *most };
            }
        }
        let mut sums = [0.0f32; LANES];
        for scores in &mut self.weights {
            for ((score, most), sum) in scores.iter_mut().zip(&largest).zip(&mut sums) {
                *score = exp(*score - most);
                *sum += *score;
            }
        }
        for (inverse, sum) in self.inverse.iter_mut().zip(&sums) {
            *inverse = 1.0 / sum;
        }
    }

    /// The weighted means of all values.
    #[inline(always)]
    fn gather(&self, rows: &[f32], out: &mut [f32], head: Head) {
        let Head { hidden, first, size } = head;
        for (block, out) in out.chunks_mut(QUERIES * hidden).enumerate() {
            let lane = block * QUERIES;
            for column in (0..size).step_by(LANES) {
                let begin = 2 * hidden + first + column;
                let sums = weighted_sums(&self.weights, (rows, 3 * hidden, begin), lane);
                let wanted = first + column..first + size.min(column + LANES);
                for (number, (sums, out)) in sums.iter().zip(out.chunks_exact_mut(hidden)).enumerate() {
                    let inverse = self.inverse.get(lane + number).copied().unwrap_or(0.0);
                    let slots = out.get_mut(wanted.clone()).unwrap_or_default();
                    slots.iter_mut().zip(sums).for_each(|(slot, sum)| *slot = sum * inverse);
                }
            }
        }
    }
}

/// Scores of sixteen queries with eight keys. The sums have names because the compiler keeps named ones in registers.
#[inline(always)]
fn score(queries: &[[f32; LANES]], keys: [&[f32]; KEYS]) -> [[f32; LANES]; KEYS] {
    let [mut a, mut b, mut c, mut d] = [[0.0f32; LANES]; 4];
    let [mut e, mut f, mut g, mut h] = [[0.0f32; LANES]; 4];
    let [i, j, k, l, m, n, o, p] = keys;
    let upper = i.iter().zip(j).zip(k.iter().zip(l));
    let lower = m.iter().zip(n).zip(o.iter().zip(p));
    for (query, (((i, j), (k, l)), ((m, n), (o, p)))) in queries.iter().zip(upper.zip(lower)) {
        for (lane, query) in query.iter().enumerate() {
            a[lane] = query.mul_add(*i, a[lane]);
            b[lane] = query.mul_add(*j, b[lane]);
            c[lane] = query.mul_add(*k, c[lane]);
            d[lane] = query.mul_add(*l, d[lane]);
            e[lane] = query.mul_add(*m, e[lane]);
            f[lane] = query.mul_add(*n, f[lane]);
            g[lane] = query.mul_add(*o, g[lane]);
            h[lane] = query.mul_add(*p, h[lane]);
        }
    }
    [a, b, c, d, e, f, g, h]
}

/// Sixteen columns of the values, weighted for four queries from `lane` on. Rows are `length` long, the columns begin at
/// `begin`; what lies beyond a head is nobody's.
#[inline(always)]
fn weighted_sums(
    weights: &[[f32; LANES]],
    (rows, length, begin): (&[f32], usize, usize),
    lane: usize,
) -> [[f32; LANES]; QUERIES] {
    let [mut a, mut b, mut c, mut d] = [[0.0f32; LANES]; QUERIES];
    for (row, weights) in rows.chunks_exact(length).zip(weights) {
        let Some([w, x, y, z]) = weights.get(lane..).and_then(|weights| weights.first_chunk::<QUERIES>())
        else {
            break;
        };
        let values = row.get(begin..).unwrap_or_default();
        let mut padded = [0.0f32; LANES];
        let values = match values.first_chunk::<LANES>() {
            Some(values) => values,
            None => {
                padded.iter_mut().zip(values).for_each(|(to, from)| *to = *from);
                &padded
            }
        };
        for (lane, value) in values.iter().enumerate() {
            a[lane] = value.mul_add(*w, a[lane]);
            b[lane] = value.mul_add(*x, b[lane]);
            c[lane] = value.mul_add(*y, c[lane]);
            d[lane] = value.mul_add(*z, d[lane]);
        }
    }
    [a, b, c, d]
}
