//! How does a batch of texts go through an encoder?
//!
//! All tokens of all texts are one tall matrix; only attention looks at one text at a time. The plain loops here are
//! written so that the compiler turns them into vector instructions of whatever the machine has.

use super::{
    config::{Activation, Pooling},
    layers::{Layer, Norm, Stack, Table},
};
use crate::kernels::{Kernel, Scratch};

/// Buffers that are reused from batch to batch.
#[derive(Debug)]
pub(super) struct Workspace {
    /// `[tokens, hidden]`
    hidden: Vec<f32>,
    /// `[tokens, 3 · hidden]`
    query_key_value: Vec<f32>,
    /// `[tokens, hidden]`
    context: Vec<f32>,
    /// `[tokens, hidden]`
    update: Vec<f32>,
    /// `[tokens, intermediate]`
    wide: Vec<f32>,
    /// `[tokens of one text]`
    scores: Vec<f32>,
    scratch: Scratch,
}

impl Workspace {
    pub(super) fn new(kernel: Kernel) -> Self {
        Self {
            hidden: Vec::new(),
            query_key_value: Vec::new(),
            context: Vec::new(),
            update: Vec::new(),
            wide: Vec::new(),
            scores: Vec::new(),
            scratch: Scratch::new(kernel),
        }
    }
}

impl Stack {
    /// Embeds texts given as ids, special ones included. `[texts, dimensions]`
    ///
    /// Every id must have an embedding and every text at most as many tokens as there are positions.
    pub(super) fn forward(&self, texts: &[&[u32]], workspace: &mut Workspace) -> Vec<f32> {
        let arch = pulp::Arch::new();
        let mut pooled = vec![0.0; texts.len() * self.dimensions()];
        arch.dispatch(
            #[inline(always)]
            || self.embed_tokens(texts, &mut workspace.hidden),
        );
        for number in 0..=self.layers.len() {
            if let Some(layer) = number.checked_sub(1).and_then(|below| self.layers.get(below)) {
                self.run_layer(layer, texts, workspace, arch);
            }
            if let Some(part) = self.pooled.iter().position(|pooled| *pooled == number) {
                arch.dispatch(
                    #[inline(always)]
                    || self.pool(texts, &workspace.hidden, part, &mut pooled),
                );
            }
        }
        pooled.chunks_exact_mut(self.dimensions()).for_each(to_unit_length);
        pooled
    }

    #[inline(always)]
    fn embed_tokens(&self, texts: &[&[u32]], hidden: &mut Vec<f32>) {
        let size = self.config.hidden;
        hidden.clear();
        for text in texts {
            for (id, position) in text.iter().zip(self.positions.chunks_exact(size)) {
                let begin = hidden.len();
                hidden.extend_from_slice(position);
                let id = *id as usize;
                let Some(row) = hidden.get_mut(begin..) else { continue };
                match &self.words {
                    Table::Float(values) => {
                        let word = values.get(id * size..(id + 1) * size).unwrap_or_default();
                        row.iter_mut().zip(word).for_each(|(sum, value)| *sum += value);
                    }
                    Table::Bytes(values, scales) => {
                        let word = values.get(id * size..(id + 1) * size).unwrap_or_default();
                        let scale = scales.get(id).copied().unwrap_or(0.0);
                        row.iter_mut().zip(word).for_each(|(sum, value)| *sum += scale * f32::from(*value));
                    }
                }
            }
        }
        self.norm.apply(hidden);
    }

    fn run_layer(&self, layer: &Layer, texts: &[&[u32]], workspace: &mut Workspace, arch: pulp::Arch) {
        let Workspace { hidden, query_key_value, context, update, wide, scores, scratch } = workspace;
        layer.query_key_value.apply(hidden, query_key_value, scratch);
        context.resize(hidden.len(), 0.0);
        arch.dispatch(
            #[inline(always)]
            || self.attend(texts, query_key_value, context, scores),
        );
        layer.attention_out.apply(context, update, scratch);
        arch.dispatch(
            #[inline(always)]
            || add_and_norm(hidden, update, &layer.attention_norm),
        );
        layer.up.apply(hidden, wide, scratch);
        let activation = self.activation();
        arch.dispatch(
            #[inline(always)]
            || activate(activation, wide),
        );
        layer.down.apply(wide, update, scratch);
        arch.dispatch(
            #[inline(always)]
            || add_and_norm(hidden, update, &layer.norm),
        );
    }

    /// Scaled dot-product attention (Vaswani et al. 2017) within each text.
    #[inline(always)]
    fn attend(&self, texts: &[&[u32]], query_key_value: &[f32], context: &mut [f32], scores: &mut Vec<f32>) {
        let (hidden, heads) = (self.config.hidden, self.config.heads);
        let size = hidden / heads;
        let scale = 1.0 / (size as f32).sqrt();
        let mut first = 0;
        for text in texts {
            let Some(rows) = query_key_value.get(first * 3 * hidden..(first + text.len()) * 3 * hidden)
            else {
                return;
            };
            let Some(out) = context.get_mut(first * hidden..(first + text.len()) * hidden) else { return };
            for head in 0..heads {
                let part = |row: &[f32], which: usize| -> std::ops::Range<usize> {
                    let begin = which * hidden + head * size;
                    begin..(begin + size).min(row.len())
                };
                for (query_row, out_row) in rows.chunks_exact(3 * hidden).zip(out.chunks_exact_mut(hidden)) {
                    let query = query_row.get(part(query_row, 0)).unwrap_or_default();
                    scores.clear();
                    for row in rows.chunks_exact(3 * hidden) {
                        let key = row.get(part(row, 1)).unwrap_or_default();
                        scores.push(crate::static_head::dot(query, key) * scale);
                    }
                    softmax(scores);
                    let Some(out) = out_row.get_mut(head * size..(head + 1) * size) else { return };
                    out.fill(0.0);
                    for (weight, row) in scores.iter().zip(rows.chunks_exact(3 * hidden)) {
                        let value = row.get(part(row, 2)).unwrap_or_default();
                        out.iter_mut().zip(value).for_each(|(sum, value)| *sum += weight * value);
                    }
                }
            }
            first += text.len();
        }
    }

    /// Writes one pooled layer, of unit length, into its part of every text's vector.
    #[inline(always)]
    fn pool(&self, texts: &[&[u32]], hidden: &[f32], part: usize, pooled: &mut [f32]) {
        let size = self.config.hidden;
        let mut first = 0;
        for (text, row) in texts.iter().zip(pooled.chunks_exact_mut(self.dimensions())) {
            let tokens = match self.pooling() {
                Pooling::Mean => text.len(),
                Pooling::Cls => 1,
            };
            let rows = hidden.get(first * size..(first + tokens) * size).unwrap_or_default();
            if let Some(out) = row.get_mut(part * size..(part + 1) * size) {
                for token in rows.chunks_exact(size) {
                    out.iter_mut().zip(token).for_each(|(sum, value)| *sum += value);
                }
                to_unit_length(out);
            }
            first += text.len();
        }
    }
}

impl Norm {
    #[inline(always)]
    fn apply(&self, rows: &mut [f32]) {
        let size = self.weight.len();
        for row in rows.chunks_exact_mut(size) {
            let mean = sum(row) / size as f32;
            row.iter_mut().for_each(|value| *value -= mean);
            let variance = crate::static_head::dot(row, row) / size as f32;
            let scale = 1.0 / (variance + self.epsilon).sqrt();
            for ((value, weight), bias) in row.iter_mut().zip(&self.weight).zip(&self.bias) {
                *value = *value * scale * weight + bias;
            }
        }
    }
}

#[inline(always)]
fn add_and_norm(hidden: &mut [f32], update: &[f32], norm: &Norm) {
    hidden.iter_mut().zip(update).for_each(|(sum, value)| *sum += value);
    norm.apply(hidden);
}

#[inline(always)]
fn sum(values: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let chunks = values.chunks_exact(16);
    let tail: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += value);
    }
    sums.iter().sum::<f32>() + tail
}

/// Makes a vector unit length; a zero vector stays as it is.
pub(super) fn to_unit_length(values: &mut [f32]) {
    let length = crate::static_head::dot(values, values).sqrt();
    if length > 0.0 {
        values.iter_mut().for_each(|value| *value /= length);
    }
}

#[inline(always)]
fn softmax(scores: &mut [f32]) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = exp(*score - largest));
    let scale = 1.0 / sum(scores);
    scores.iter_mut().for_each(|score| *score *= scale);
}

#[inline(always)]
fn activate(activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Relu => values.iter_mut().for_each(|x| *x = x.max(0.0)),
        Activation::Gelu => {
            values.iter_mut().for_each(|x| *x *= 0.5 * (1.0 + erf(*x * std::f32::consts::FRAC_1_SQRT_2)))
        }
        Activation::GeluTanh => values.iter_mut().for_each(|x| {
            let inner = 0.797_884_6 * (*x + 0.044_715 * *x * *x * *x);
            // 1 + tanh(y) = 2 / (1 + exp(-2 y))
            *x /= 1.0 + exp(-2.0 * inner);
        }),
    }
}

/// The error function, to 1.5 · 10⁻⁷ (Abramowitz and Stegun 1964, 7.1.26).
#[inline(always)]
fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let series =
        t * (0.254_829_6 + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    let value = 1.0 - series * exp(-x * x);
    value.copysign(x)
}

/// The exponential function, to about 3 · 10⁻⁷ relative: a power of two by its bits times a polynomial of the rest
/// (coefficients after Cephes, Moshier 1989). Unlike the library's, it becomes vector instructions.
#[inline(always)]
fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let n = (x * std::f32::consts::LOG2_E + 12_582_912.0) - 12_582_912.0;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.0
        + r * (1.0
            + r * (0.5 + r * (0.166_666_66 + r * (0.041_665_795 + r * (0.008_333_452 + r * 0.001_388_9)))));
    let power = f32::from_bits(((n as i32 + 127) << 23) as u32);
    p * power
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::layers::Linear;

    #[test]
    fn the_exponential_is_close_everywhere() {
        for i in -8_700..8_800 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() <= 1e-6 * exact, "{x}: {} {exact}", exp(x));
        }
    }

    #[test]
    fn the_error_function_has_its_published_values() {
        // NIST Digital Library of Mathematical Functions, table 7.
        for (x, expected) in
            [(0.0, 0.0), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (2.0, 0.995_322_3), (-1.0, -0.842_700_8)]
        {
            assert!((erf(x) - expected).abs() < 1e-6, "{x}: {}", erf(x));
        }
    }

    #[test]
    fn a_linear_layer_is_a_product_and_a_bias() {
        let layer =
            Linear::Float { weights: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], bias: vec![0.5, -0.5], inputs: 3 };
        let mut out = Vec::new();
        layer.apply(&[1.0, 0.0, 1.0, 0.0, 1.0, 0.0], &mut out, &mut Scratch::new(Kernel::Portable));
        assert_eq!(out, [4.5, 9.5, 2.5, 4.5]);
    }
}
