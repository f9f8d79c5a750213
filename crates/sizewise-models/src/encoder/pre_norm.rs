//! How does a batch of texts go through one layer of a ModernBERT?
//!
//! Unlike BERT's, the layer normalises what goes into attention and feed-forward, turns queries and keys by their position
//! (Su et al. 2021), looks only at a window in most layers, and gates its feed-forward half by the other half (Shazeer 2020).

use super::{
    adapter::add_changes,
    config::{Activation, Config},
    floats::{exp, gelu, gelu_tanh, sum},
    forward::{Batch, Workspace, add},
    layers::{Layer, MOST_TOKENS, Norm, Stack},
    modern::Modern,
};
use crate::{kernels::widest, memory::InMemory, static_head::dot};
use std::sync::Arc;

/// What such a layer has beyond BERT's, with norms in one form or another.
#[derive(Debug, Clone)]
pub struct PreNorm<N> {
    /// Turns queries and keys.
    pub rotary: Arc<Rotary>,
    /// How far a token looks to either side; none for the whole text.
    pub window: Option<usize>,
    /// After the last layer.
    pub final_norm: Option<N>,
}

/// Rotary positions: every pair of numbers half a head apart is turned by an angle.
#[derive(Debug)]
pub struct Rotary {
    /// `[positions, size of a head / 2]`
    cosines: Vec<f32>,
    /// `[positions, size of a head / 2]`
    sines: Vec<f32>,
    half: usize,
}

impl<N> PreNorm<N> {
    /// What each layer of a ModernBERT has.
    pub(super) fn of(modern: &Modern, config: &Config, final_norm: N) -> Vec<Self> {
        let positions = config.positions.min(MOST_TOKENS);
        let rotary = |theta: f32| Arc::new(Rotary::new(theta, positions, config.hidden / config.heads));
        let (global, local) = (rotary(modern.global_theta), rotary(modern.local_theta));
        let layer = |sees_all: &bool| Self {
            rotary: if *sees_all { global.clone() } else { local.clone() },
            window: (!sees_all).then_some(modern.window),
            final_norm: None,
        };
        let mut layers: Vec<Self> = modern.sees_all.iter().map(layer).collect();
        if let Some(last) = layers.last_mut() {
            last.final_norm = Some(final_norm);
        }
        layers
    }
}

impl Rotary {
    /// The angles of so many positions, for heads of `size` numbers.
    pub(super) fn new(theta: f32, positions: usize, size: usize) -> Self {
        let half = size / 2;
        let frequency = |pair: usize| 1.0 / theta.powf(2.0 * pair as f32 / size as f32);
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let angles =
            || (0..positions).flat_map(|position| frequencies.iter().map(move |f| position as f32 * f));
        Self { cosines: angles().map(f32::cos).collect(), sines: angles().map(f32::sin).collect(), half }
    }

    /// Cosines and sines of every number of a head, both halves alike. `[positions, size of a head]` each
    #[must_use]
    pub fn tables(&self) -> [Vec<f32>; 2] {
        [&self.cosines, &self.sines]
            .map(|half| half.chunks_exact(self.half).flat_map(|row| row.iter().chain(row)).copied().collect())
    }

    /// Turns the queries and keys of one text. `rows` is `[tokens, 3 · width]`.
    pub fn turn(&self, rows: &mut [f32], width: usize) {
        widest(
            #[inline(always)]
            || self.turn_by(1.0, rows, width),
        );
    }

    /// Turns them back, or the slopes of turned ones into those of what was turned.
    pub fn turn_back(&self, rows: &mut [f32], width: usize) {
        widest(
            #[inline(always)]
            || self.turn_by(-1.0, rows, width),
        );
    }

    #[inline(always)]
    fn turn_by(&self, direction: f32, rows: &mut [f32], width: usize) {
        let angles = self.cosines.chunks_exact(self.half).zip(self.sines.chunks_exact(self.half));
        for (row, (cosines, sines)) in rows.chunks_exact_mut(3 * width).zip(angles) {
            let (turned, _) = row.split_at_mut(2 * width);
            for head in turned.chunks_exact_mut(2 * self.half) {
                let (first, second) = head.split_at_mut(self.half);
                for ((a, b), (cos, sin)) in first.iter_mut().zip(second).zip(cosines.iter().zip(sines)) {
                    let sin = direction * sin;
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        }
    }
}

impl Stack {
    /// Runs one layer over all texts.
    pub(super) fn run_pre_norm_layer(
        &self,
        (number, layer, pre): (usize, &Layer, &PreNorm<Norm>),
        batch: &Batch<'_>,
        workspace: &mut Workspace,
    ) {
        let Workspace { hidden, query_key_value, context, update, wide, attention, products, narrow } =
            workspace;
        let changed = &batch.changed;
        let size = self.config.hidden;
        // What the heads of this layer write: fewer numbers than `size` where some were taken away.
        let attended = size / self.config.heads * layer.heads;
        let tokens = hidden.len() / size;
        normalised(hidden, update, layer.attention_norm.as_ref());
        query_key_value.resize(tokens * 3 * attended, 0.0);
        layer.query_key_value.apply(update, query_key_value, products, set);
        add_changes(
            changed,
            (number, |changes| &changes.query_key_value),
            (0, update),
            (query_key_value, 3 * attended),
            narrow,
        );
        context.resize(tokens * attended, 0.0);
        let mut rest = (query_key_value.as_mut_slice(), context.as_mut_slice());
        for text in batch.texts {
            let (rows, below) = rest.0.split_at_mut(text.len() * 3 * attended);
            let (out, out_below) = rest.1.split_at_mut(text.len() * attended);
            pre.rotary.turn(rows, attended);
            match pre.window.filter(|window| text.len() > window + 1) {
                None => attention.attend(rows, out, (attended, layer.heads)),
                Some(window) => widest(
                    #[inline(always)]
                    || attend_near(rows, out, (attended, layer.heads), window),
                ),
            }
            rest = (below, out_below);
        }
        layer.attention_out.apply(context, hidden, products, add);
        add_changes(
            changed,
            (number, |changes| &changes.attention_out),
            (0, context),
            (hidden, size),
            narrow,
        );
        normalised(hidden, update, Some(&layer.norm));
        let width = layer.up.outputs();
        wide.resize(tokens * width, 0.0);
        layer.up.apply(update, wide, products, set);
        add_changes(changed, (number, |changes| &changes.up), (0, update), (wide, width), narrow);
        let activation = self.config.activation;
        widest(
            #[inline(always)]
            || gate(wide, width / 2, activation),
        );
        layer.down.apply(wide, hidden, products, add);
        add_changes(changed, (number, |changes| &changes.down), (0, wide), (hidden, size), narrow);
        if let Some(norm) = &pre.final_norm {
            widest(
                #[inline(always)]
                || norm.apply(hidden),
            );
        }
    }
}

/// Replaces `out` by the rows, normalised where there is a norm.
fn normalised(rows: &[f32], out: &mut Vec<f32>, norm: Option<&Norm>) {
    out.clear();
    out.extend_from_slice(rows);
    if let Some(norm) = norm {
        widest(
            #[inline(always)]
            || norm.apply(out),
        );
    }
}

/// How a product is stored: in place of what was there.
#[inline(always)]
fn set(slot: &mut f32, value: f32) {
    *slot = value;
}

/// Multiplies the activated first half of every row with the second, and keeps the products.
/// `[tokens, 2 · intermediate]` to `[tokens, intermediate]`
#[inline(always)]
fn gate(wide: &mut Vec<f32>, intermediate: usize, activation: Activation) {
    for row in wide.chunks_exact_mut(2 * intermediate) {
        let (first, second) = row.split_at_mut(intermediate);
        match activation {
            Activation::Relu => first.iter_mut().for_each(|x| *x = x.max(0.0)),
            Activation::Gelu => first.iter_mut().for_each(|x| *x = gelu(*x)),
            Activation::GeluTanh => first.iter_mut().for_each(|x| *x = gelu_tanh(*x)),
        }
        first.iter_mut().zip(second).for_each(|(value, gate)| *value *= *gate);
    }
    let tokens = wide.len() / (2 * intermediate);
    for token in 1..tokens {
        let begin = token * 2 * intermediate;
        wide.copy_within(begin..begin + intermediate, token * intermediate);
    }
    wide.truncate(tokens * intermediate);
}

/// Attention in which a token sees only those at most `window` away. `rows` is `[tokens, 3 · hidden]`, `out` is
/// `[tokens, hidden]`.
#[inline(always)]
fn attend_near(rows: &[f32], out: &mut [f32], (hidden, heads): (usize, usize), window: usize) {
    let size = hidden / heads;
    let scale = 1.0 / (size as f32).sqrt();
    let tokens = rows.len() / (3 * hidden);
    let part = |token: usize, which: usize, head: usize| {
        let begin = token * 3 * hidden + which * hidden + head * size;
        rows.get(begin..begin + size).unwrap_or_default()
    };
    let mut weights = Vec::with_capacity(2 * window.min(tokens) + 1);
    for (token, out) in out.chunks_exact_mut(hidden).enumerate() {
        let near = token.saturating_sub(window)..token.saturating_add(window).saturating_add(1).min(tokens);
        for (head, out) in out.chunks_exact_mut(size).enumerate() {
            weights.clear();
            weights.extend(near.clone().map(|other| scale * dot(part(token, 0, head), part(other, 1, head))));
            let largest = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            weights.iter_mut().for_each(|score| *score = exp(*score - largest));
            let share = 1.0 / sum(&weights);
            out.fill(0.0);
            for (weight, other) in weights.iter().zip(near.clone()) {
                let weight = weight * share;
                out.iter_mut().zip(part(other, 2, head)).for_each(|(sum, value)| *sum += weight * value);
            }
        }
    }
}

impl InMemory for Rotary {
    fn held_bytes(&self) -> usize {
        self.cosines.held_bytes() + self.sines.held_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::attention::Attention;

    #[test]
    fn a_window_over_the_whole_text_is_plain_attention() {
        let (hidden, heads, tokens) = (8, 2, 21);
        let rows: Vec<f32> =
            (0..tokens * 3 * hidden).map(|i| ((i * 37 % 101) as f32 - 50.0) / 25.0).collect();
        let (mut near, mut all) = (vec![0.0; tokens * hidden], vec![0.0; tokens * hidden]);
        attend_near(&rows, &mut near, (hidden, heads), usize::MAX);
        Attention::default().attend(&rows, &mut all, (hidden, heads));
        assert!(near.iter().zip(&all).all(|(a, b)| (a - b).abs() < 1e-5));
        let mut alone = vec![0.0; tokens * hidden];
        attend_near(&rows, &mut alone, (hidden, heads), 0);
        assert!((alone[hidden] - rows[3 * hidden + 2 * hidden]).abs() < 1e-6);
    }

    #[test]
    fn turning_keeps_lengths_and_what_two_positions_say_to_each_other() {
        let rotary = Rotary::new(100.0, 8, 4);
        let row: Vec<f32> = (0..12).map(|i| i as f32 - 5.0).collect();
        let mut rows = row.repeat(8);
        rotary.turn(&mut rows, 4);
        assert_eq!(rows[..12], row);
        let at = |token: usize, which: usize| &rows[token * 12 + which * 4..][..4];
        assert!((dot(at(1, 0), at(3, 1)) - dot(at(5, 0), at(7, 1))).abs() < 1e-4);
        assert!((dot(at(6, 0), at(6, 0)) - dot(&row[..4], &row[..4])).abs() < 1e-4);
        rotary.turn_back(&mut rows, 4);
        assert!(rows.iter().zip(row.repeat(8)).all(|(back, value)| (back - value).abs() < 1e-5));
    }
}
