//! How does a batch of texts go through an encoder?
//!
//! All tokens of all texts are one tall matrix; only attention looks at one text at a time.

use super::{
    adapter::{Changed, add_changes},
    attention::Attention,
    config::{Activation, Pooling},
    floats::{gelu, gelu_tanh, to_unit_length},
    layers::{Layer, Norm, Products, Stack, Table},
};
use crate::kernels::{Kernel, widest};

/// Tokens that go through both feed-forward matrices together: few enough for what is between the two to stay in the
/// cache, enough to make reading the matrices worth while.
const FEED_ROWS: usize = 64;

/// Texts that go through an encoder together.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    /// Their ids, special ones included.
    pub(super) texts: &'a [&'a [u32]],
    /// The tokens that tasks change.
    pub(super) changed: Vec<Changed<'a>>,
}

/// Buffers that are reused from batch to batch.
#[derive(Debug)]
pub(super) struct Workspace {
    /// `[tokens, hidden]`
    pub(super) hidden: Vec<f32>,
    /// `[tokens, 3 · hidden]`
    pub(super) query_key_value: Vec<f32>,
    /// `[tokens, hidden]`
    pub(super) context: Vec<f32>,
    /// What a layer reads that normalises first. `[tokens, hidden]`
    pub(super) update: Vec<f32>,
    /// `[FEED_ROWS, intermediate]`; all tokens of a layer that normalises first.
    pub(super) wide: Vec<f32>,
    pub(super) attention: Attention,
    pub(super) products: Products,
    /// What low-rank changes read from a few tokens.
    pub(super) narrow: Vec<f32>,
}

impl Workspace {
    pub(super) fn new(kernel: Kernel) -> Self {
        Self {
            hidden: Vec::new(),
            query_key_value: Vec::new(),
            context: Vec::new(),
            update: Vec::new(),
            wide: Vec::new(),
            attention: Attention::default(),
            products: Products::new(kernel),
            narrow: Vec::new(),
        }
    }
}

impl Stack {
    /// Embeds texts given as ids, special ones included, from these layers. `[texts, layers · hidden]`
    ///
    /// Every id must have an embedding and every text at most as many tokens as there are positions.
    pub(super) fn forward(&self, batch: &Batch<'_>, layers: &[usize], workspace: &mut Workspace) -> Vec<f32> {
        let width = layers.len() * self.config.hidden;
        let mut pooled = vec![0.0; batch.texts.len() * width];
        self.run(batch, workspace, |number, hidden| {
            if let Some(part) = layers.iter().position(|layer| *layer == number) {
                widest(
                    #[inline(always)]
                    || self.pool(batch.texts, hidden, part, (&mut pooled, width)),
                );
            }
        });
        pooled.chunks_exact_mut(width).for_each(to_unit_length);
        pooled
    }

    /// Runs all layers and shows what is behind each of them, `[tokens, hidden]`; 0 is behind the embeddings.
    pub(super) fn run(
        &self,
        batch: &Batch<'_>,
        workspace: &mut Workspace,
        mut behind: impl FnMut(usize, &[f32]),
    ) {
        widest(
            #[inline(always)]
            || self.embed_tokens(batch.texts, &mut workspace.hidden),
        );
        for number in 0..=self.layers.len() {
            let below = number.checked_sub(1);
            if let Some((below, layer)) = below.and_then(|below| Some((below, self.layers.get(below)?))) {
                match &layer.pre_norm {
                    None => self.run_layer((below, layer), batch, workspace),
                    Some(pre) => self.run_pre_norm_layer((below, layer, pre), batch, workspace),
                }
            }
            behind(number, &workspace.hidden);
        }
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
                    Table::Brains(values) => {
                        let word = values.get(id * size..(id + 1) * size).unwrap_or_default();
                        let float = |bits: u16| f32::from_bits(u32::from(bits) << 16);
                        row.iter_mut().zip(word).for_each(|(sum, bits)| *sum += float(*bits));
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

    fn run_layer(&self, (number, layer): (usize, &Layer), batch: &Batch<'_>, workspace: &mut Workspace) {
        let Workspace { hidden, query_key_value, context, wide, attention, products, narrow, .. } = workspace;
        let changed = &batch.changed;
        let size = self.config.hidden;
        // What the heads of this layer write: fewer numbers than `size` where some were taken away.
        let attended = size / self.config.heads * layer.heads;
        let tokens = hidden.len() / size;
        query_key_value.resize(tokens * 3 * attended, 0.0);
        context.resize(tokens * attended, 0.0);
        layer.query_key_value.apply(
            hidden,
            query_key_value,
            products,
            #[inline(always)]
            |slot, value| *slot = value,
        );
        add_changes(
            changed,
            (number, |changes| &changes.query_key_value),
            (0, hidden),
            (query_key_value, 3 * attended),
            narrow,
        );
        let mut rest = (query_key_value.as_slice(), context.as_mut_slice());
        for text in batch.texts {
            let (rows, below) = rest.0.split_at(text.len() * 3 * attended);
            let (out, out_below) = rest.1.split_at_mut(text.len() * attended);
            attention.attend(rows, out, (attended, layer.heads));
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
        if let Some(norm) = &layer.attention_norm {
            normalise(norm, hidden);
        }
        for (chunk, rows) in hidden.chunks_mut(FEED_ROWS * size).enumerate() {
            let (first, width) = (chunk * FEED_ROWS, layer.up.outputs());
            wide.resize(rows.len() / size * width, 0.0);
            if changed.is_empty() {
                self.feed_up(layer, rows, wide, products);
            } else {
                layer.up.apply(
                    rows,
                    wide,
                    products,
                    #[inline(always)]
                    |slot, value| *slot = value,
                );
                add_changes(changed, (number, |changes| &changes.up), (first, rows), (wide, width), narrow);
                self.activate(wide);
            }
            layer.down.apply(wide, rows, products, add);
            add_changes(changed, (number, |changes| &changes.down), (first, wide), (rows, size), narrow);
            normalise(&layer.norm, rows);
        }
    }

    /// The activation alone, where something was added before it.
    fn activate(&self, values: &mut [f32]) {
        let activation = self.config.activation;
        widest(
            #[inline(always)]
            || match activation {
                Activation::Relu => values.iter_mut().for_each(|value| *value = value.max(0.0)),
                Activation::Gelu => values.iter_mut().for_each(|value| *value = gelu(*value)),
                Activation::GeluTanh => values.iter_mut().for_each(|value| *value = gelu_tanh(*value)),
            },
        );
    }

    /// The first feed-forward matrix and the activation; a copy of the loop for each activation.
    fn feed_up(&self, layer: &Layer, rows: &[f32], wide: &mut [f32], products: &mut Products) {
        match self.config.activation {
            Activation::Relu => layer.up.apply(
                rows,
                wide,
                products,
                #[inline(always)]
                |slot, value| *slot = value.max(0.0),
            ),
            Activation::Gelu => layer.up.apply(
                rows,
                wide,
                products,
                #[inline(always)]
                |slot, value| *slot = gelu(value),
            ),
            Activation::GeluTanh => layer.up.apply(
                rows,
                wide,
                products,
                #[inline(always)]
                |slot, value| *slot = gelu_tanh(value),
            ),
        }
    }

    /// Writes one pooled layer, of unit length, into its part of every text's vector.
    #[inline(always)]
    fn pool(&self, texts: &[&[u32]], hidden: &[f32], part: usize, (pooled, width): (&mut [f32], usize)) {
        let size = self.config.hidden;
        let mut first = 0;
        for (text, row) in texts.iter().zip(pooled.chunks_exact_mut(width)) {
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

/// How an update is stored: on top of what it updates.
#[inline(always)]
pub(super) fn add(slot: &mut f32, value: f32) {
    *slot += value;
}

fn normalise(norm: &Norm, rows: &mut [f32]) {
    widest(
        #[inline(always)]
        || norm.apply(rows),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::layers::Linear;

    #[test]
    fn a_linear_layer_is_a_product_and_a_bias() {
        let layer =
            Linear::Float { weights: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], bias: vec![0.5, -0.5], inputs: 3 };
        let mut out = [1.0; 4];
        layer.apply(&[1.0, 0.0, 1.0, 0.0, 1.0, 0.0], &mut out, &mut Products::new(Kernel::Portable), add);
        assert_eq!(out, [5.5, 10.5, 3.5, 5.5]);
    }
}
