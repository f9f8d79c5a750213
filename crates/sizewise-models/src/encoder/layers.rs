//! What do an encoder's files hold?
//!
//! Families name their tensors differently; here they become one stack of layers. A matrix is floating point,
//! brain floating point, bytes with one scale per output (`NAME.scale`), or 4 bits that stand for such bytes ([`crate::nibbles`]), told
//! by its type in the file.

use super::{
    config::{Config, Family, Pooling},
    folder::EncoderFiles,
    pre_norm::{PreNorm, Rotary},
    shape::LayerShape,
};
use crate::{
    error::{Error, Result},
    kernels::{BrainRows, Kernel, PackedBrains, PackedWeights, Rounded, Scratch, widest},
    memory::{InMemory, each},
    tensors::Tensors,
};
use ndarray::{ArrayView2, ArrayViewMut2, linalg::general_mat_mul};
use safetensors::Dtype;
use std::sync::Arc;

/// Most tokens of a text that are read at once, whatever a model allows: attention takes their square.
pub(super) const MOST_TOKENS: usize = 512;

/// All weights of an encoder.
#[derive(Debug)]
pub(super) struct Stack {
    pub(super) config: Config,
    pub(super) words: Table,
    /// Position embeddings, the first token type's added. `[positions, hidden]`
    pub(super) positions: Vec<f32>,
    pub(super) norm: Norm,
    pub(super) layers: Vec<Layer>,
}

/// One transformer layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) heads: usize,
    pub(super) query_key_value: Linear,
    pub(super) attention_out: Linear,
    /// After attention, or before it; none where what it reads is normalised already.
    pub(super) attention_norm: Option<Norm>,
    pub(super) up: Linear,
    pub(super) down: Linear,
    pub(super) norm: Norm,
    /// What a layer has that normalises before it computes; none for the others.
    pub(super) pre_norm: Option<PreNorm<Norm>>,
}

/// A layer normalisation (Ba et al. 2016).
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) epsilon: f32,
}

/// An embedding table that stays in the form of its file.
#[derive(Debug)]
pub(super) enum Table {
    /// `[rows, hidden]`
    Float(Vec<f32>),
    /// The bits of brain floating point numbers. `[rows, hidden]`
    Brains(Vec<u16>),
    /// `[rows, hidden]` and `[rows]`
    Bytes(Vec<i8>, Vec<f32>),
}

/// A linear layer.
#[derive(Debug)]
pub(super) enum Linear {
    /// Weights `[outputs, inputs]` and bias `[outputs]`.
    Float { weights: Vec<f32>, bias: Vec<f32>, inputs: usize },
    /// Brain floating point numbers, arranged for the kernels.
    Brains(PackedBrains),
    /// Bytes, arranged for the kernels.
    Bytes(PackedWeights),
}

/// What a multiplication needs beside its operands, reused from layer to layer.
#[derive(Debug)]
pub(super) struct Products {
    rounded: Rounded,
    brains: BrainRows,
    scratch: Scratch,
    /// `[tokens, outputs]`
    floats: Vec<f32>,
}

impl Products {
    pub(super) fn new(kernel: Kernel) -> Self {
        let (rounded, brains) = (Rounded::new(), BrainRows::new());
        Self { rounded, brains, scratch: Scratch::new(kernel), floats: Vec::new() }
    }
}

impl Linear {
    pub(super) fn outputs(&self) -> usize {
        match self {
            Self::Bytes(packed) => packed.outputs(),
            Self::Brains(packed) => packed.outputs(),
            Self::Float { bias, .. } => bias.len(),
        }
    }

    /// Multiplies what lies far beyond the other inputs of a text's token by itself, where the weights are bytes. It is for what
    /// reads the states of tokens first: attention is where the error of a few channels reaches every token.
    fn with_outliers_apart(self) -> Self {
        match self {
            Self::Bytes(packed) => Self::Bytes(packed.with_outliers_apart()),
            other => other,
        }
    }

    /// Stores inputs · weightsᵀ + bias number by number in the way that `store` says. `rows` is `[tokens, inputs]`; `out` is
    /// `[tokens, outputs]`. The closure must be marked `#[inline(always)]`.
    pub(super) fn apply(
        &self,
        rows: &[f32],
        out: &mut [f32],
        products: &mut Products,
        store: impl Fn(&mut f32, f32) + Copy,
    ) {
        let Products { rounded, brains, scratch, floats } = products;
        match self {
            Self::Bytes(packed) => {
                rounded.set(rows, packed);
                packed.multiply(rounded, out, scratch, store);
            }
            Self::Brains(packed) => {
                brains.set(rows, packed.inputs());
                packed.multiply(brains, out, scratch, store);
            }
            Self::Float { weights, bias, inputs } => {
                let (tokens, outputs) = (rows.len() / (*inputs).max(1), bias.len());
                floats.clear();
                (0..tokens).for_each(|_| floats.extend_from_slice(bias));
                let shapes = (
                    ArrayView2::from_shape((tokens, *inputs), rows),
                    ArrayView2::from_shape((outputs, *inputs), weights),
                    ArrayViewMut2::from_shape((tokens, outputs), floats.as_mut_slice()),
                );
                // The shapes hold by construction: weights were checked when they were read.
                if let (Ok(rows), Ok(weights), Ok(mut product)) = shapes {
                    general_mat_mul(1.0, &rows, &weights.t(), 1.0, &mut product);
                }
                widest(
                    #[inline(always)]
                    || out.iter_mut().zip(floats.iter()).for_each(|(slot, value)| store(slot, *value)),
                );
            }
        }
    }
}

impl Stack {
    pub(super) fn load(files: &EncoderFiles<&[u8]>) -> Result<Self> {
        let config = Config::parse(files.config, files.pooling)?;
        let source = Source::open(files, &config)?;
        let words = source.table(config.family.words(), config.vocabulary, config.hidden)?;
        let names = Names::of(&config);
        let norm = source.norm(names, names.embeddings_norm, &config)?;
        let pre_norms = match &config.family {
            Family::ModernBert(modern) => {
                PreNorm::of(modern, &config, source.norm(names, FINAL_NORM, &config)?)
            }
            _ => Vec::new(),
        };
        let mut pre_norms = pre_norms.into_iter();
        let layer = |number| source.layer((&config, names), number, pre_norms.next());
        let layers = (0..config.layers).map(layer).collect::<Result<_>>()?;
        let positions = source.positions(&config)?;
        Ok(Self { words, positions, norm, layers, config })
    }

    pub(super) fn is_in_bytes(&self) -> bool {
        let is = |linear: &Linear| matches!(linear, Linear::Bytes(_));
        let layer = |layer: &Layer| {
            [&layer.query_key_value, &layer.attention_out, &layer.up, &layer.down].into_iter().all(is)
        };
        self.layers.iter().all(layer)
    }

    pub(super) fn vocabulary(&self) -> usize {
        self.config.vocabulary
    }

    pub(super) fn positions(&self) -> usize {
        self.config.positions
    }

    pub(super) fn pooling(&self) -> Pooling {
        self.config.pooling
    }
}

/// The layers whose outputs are pooled, in the order of the vector's parts; 0 is the embedding layer.
///
/// Lower layers keep what the last one has traded for similarity: together they separate classes better, and handing them out
/// costs nothing.
pub(super) fn pooled_layers(layers: usize) -> Vec<usize> {
    match layers {
        few @ 0..3 => vec![few],
        many => vec![many, many * 2 / 3, many / 3, 0],
    }
}

/// Where each family keeps the parts of layer `{}`.
pub(super) struct Names {
    pub(super) layer: &'static str,
    pub(super) query: &'static str,
    pub(super) key: &'static str,
    pub(super) value: &'static str,
    pub(super) attention_out: &'static str,
    pub(super) attention_norm: &'static str,
    pub(super) up: &'static str,
    pub(super) down: &'static str,
    pub(super) norm: &'static str,
    /// After the embeddings.
    pub(super) embeddings_norm: &'static str,
    /// Matrices that `query` holds, one below the other: it alone, or keys and values too.
    pub(super) stacked: usize,
    /// Rows of `up` for each number between the feed-forward matrices.
    pub(super) gated: usize,
    /// Whether matrices and norms have biases.
    pub(super) has_biases: bool,
}

impl Names {
    /// The names of a family.
    pub(super) fn of(config: &Config) -> &'static Self {
        match config.family {
            Family::DistilBert => &DISTIL,
            Family::Bert | Family::Roberta { .. } => &BERT,
            Family::ModernBert(_) => &MODERN,
        }
    }

    /// The norm at a layer's attention; the first layer of a family that normalises first reads what is normalised already.
    pub(super) fn attention_norm(&self, layer: usize) -> Option<&'static str> {
        (self.gated == 1 || layer > 0).then_some(self.attention_norm)
    }
}

/// What is behind the last layer of a family that normalises first.
pub(super) const FINAL_NORM: &str = "final_norm";

const BERT: Names = Names {
    layer: "encoder.layer",
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attention_out: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    norm: "output.LayerNorm",
    embeddings_norm: "embeddings.LayerNorm",
    stacked: 1,
    gated: 1,
    has_biases: true,
};

const DISTIL: Names = Names {
    layer: "transformer.layer",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attention_out: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    norm: "output_layer_norm",
    embeddings_norm: "embeddings.LayerNorm",
    stacked: 1,
    gated: 1,
    has_biases: true,
};

const MODERN: Names = Names {
    layer: "layers",
    query: "attn.Wqkv",
    key: "attn.Wqkv",
    value: "attn.Wqkv",
    attention_out: "attn.Wo",
    attention_norm: "attn_norm",
    up: "mlp.Wi",
    down: "mlp.Wo",
    norm: "mlp_norm",
    embeddings_norm: "embeddings.norm",
    stacked: 3,
    gated: 2,
    has_biases: false,
};

/// Some files put the family's name before every tensor.
fn find_prefix(files: &[Tensors<'_>], family: &'static str, words: &str) -> Result<&'static str> {
    let known = ["", family];
    let found = known.iter().find(|prefix| {
        let name = format!("{prefix}{words}");
        files.iter().any(|file| file.has(&name))
    });
    found.copied().ok_or_else(|| Error::File {
        file: "*.safetensors".into(),
        problem: format!("no tensor `{words}`, with or without `{family}` before it"),
    })
}

/// The tensors of all files under one naming.
pub(super) struct Source<'a> {
    files: Vec<Tensors<'a>>,
    prefix: &'static str,
}

impl<'a> Source<'a> {
    pub(super) fn open(files: &EncoderFiles<&'a [u8]>, config: &Config) -> Result<Self> {
        let parsed = files
            .weights
            .iter()
            .map(|(name, bytes)| Tensors::parse(name, bytes))
            .collect::<Result<Vec<_>>>()?;
        let (family, words) = (config.family.prefix(), config.family.words());
        Ok(Self { prefix: find_prefix(&parsed, family, words)?, files: parsed })
    }

    /// Position embeddings, the first token type's added; zeros where positions turn what attention compares. `[positions, hidden]`
    pub(super) fn positions(&self, config: &Config) -> Result<Vec<f32>> {
        let hidden = config.hidden;
        if matches!(config.family, Family::ModernBert(_)) {
            return Ok(vec![0.0; config.positions.min(MOST_TOKENS) * hidden]);
        }
        let first = match config.family {
            Family::Roberta { first_position } => first_position,
            _ => 0,
        };
        let name = "embeddings.position_embeddings.weight";
        let mut positions = self.floats(name, &[first + config.positions, hidden])?;
        positions.drain(..first * hidden);
        if !matches!(config.family, Family::DistilBert) {
            let types = self.file_of("embeddings.token_type_embeddings.weight")?;
            let name = self.name("embeddings.token_type_embeddings.weight");
            let rows = types.shape(&name)?.first().copied().unwrap_or(0);
            let types = types.floats(&name, &[rows, hidden])?;
            for row in positions.chunks_exact_mut(hidden) {
                row.iter_mut().zip(&types).for_each(|(sum, value)| *sum += value);
            }
        }
        Ok(positions)
    }

    pub(super) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn file_of(&self, name: &str) -> Result<&Tensors<'a>> {
        let full = self.name(name);
        let found = self.files.iter().find(|file| file.has(&full));
        found.ok_or_else(|| Error::File {
            file: "*.safetensors".into(),
            problem: format!("no tensor `{full}`"),
        })
    }

    /// The rows and columns of a matrix, whatever its form.
    pub(super) fn shape(&self, name: &str) -> Result<Vec<usize>> {
        self.file_of(name)?.matrix_shape(&self.name(name))
    }

    pub(super) fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.file_of(name)?.floats(&self.name(name), shape)
    }

    /// The bias of a matrix or a norm; zeros where the family has none. `[outputs]`
    pub(super) fn bias(&self, names: &Names, name: &str, outputs: usize) -> Result<Vec<f32>> {
        match names.has_biases {
            true => self.floats(&format!("{name}.bias"), &[outputs]),
            false => Ok(vec![0.0; outputs]),
        }
    }

    fn norm(&self, names: &Names, name: &str, config: &Config) -> Result<Norm> {
        let weight = self.floats(&format!("{name}.weight"), &[config.hidden])?;
        Ok(Norm { weight, bias: self.bias(names, name, config.hidden)?, epsilon: config.epsilon })
    }

    fn is_bytes(&self, name: &str) -> Result<bool> {
        self.file_of(name)?.is_in_bytes(&self.name(name))
    }

    fn is_of(&self, name: &str, dtype: Dtype) -> Result<bool> {
        Ok(self.file_of(name)?.dtype(&self.name(name))? == dtype)
    }

    fn brains(&self, name: &str, rows: usize, columns: usize) -> Result<Vec<u16>> {
        self.file_of(name)?.brains(&self.name(name), &[rows, columns])
    }

    fn bytes(&self, name: &str, rows: usize, columns: usize) -> Result<(Vec<i8>, Vec<f32>)> {
        self.file_of(name)?.matrix_bytes(&self.name(name), (rows, columns))
    }

    /// A matrix as floating point numbers, whatever its form. `[rows, columns]`
    pub(super) fn float_matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Vec<f32>> {
        self.file_of(name)?.matrix_floats(&self.name(name), (rows, columns))
    }

    fn table(&self, name: &str, rows: usize, columns: usize) -> Result<Table> {
        if self.is_bytes(name)? {
            let (values, scales) = self.bytes(name, rows, columns)?;
            return Ok(Table::Bytes(values, scales));
        }
        if self.is_of(name, Dtype::BF16)? {
            return Ok(Table::Brains(self.brains(name, rows, columns)?));
        }
        Ok(Table::Float(self.floats(name, &[rows, columns])?))
    }

    /// One linear layer out of several that read the same inputs, stacked.
    fn linear(&self, of: &Names, names: &[String], (outputs, inputs): (usize, usize)) -> Result<Linear> {
        let biases = names.iter().map(|name| self.bias(of, name, outputs));
        let bias = biases.collect::<Result<Vec<_>>>()?.concat();
        let weight_names: Vec<String> = names.iter().map(|name| format!("{name}.weight")).collect();
        let are = |is: &dyn Fn(&String) -> Result<bool>| -> Result<bool> {
            Ok(weight_names.iter().map(is).collect::<Result<Vec<_>>>()?.into_iter().all(|is| is))
        };
        if are(&|name| self.is_of(name, Dtype::BF16))? {
            let parts = weight_names.iter().map(|name| self.brains(name, outputs, inputs));
            let weights = parts.collect::<Result<Vec<_>>>()?.concat();
            return Ok(Linear::Brains(PackedBrains::new(&weights, bias)));
        }
        if are(&|name| self.is_bytes(name))? {
            let (mut weights, mut scales) = (Vec::new(), Vec::new());
            for name in &weight_names {
                let (part, part_scales) = self.bytes(name, outputs, inputs)?;
                weights.extend(part);
                scales.extend(part_scales);
            }
            return Ok(Linear::Bytes(PackedWeights::new(&weights, scales, bias)));
        }
        let mut weights = Vec::with_capacity(outputs * names.len() * inputs);
        for name in &weight_names {
            weights.extend(self.floats(name, &[outputs, inputs])?);
        }
        Ok(Linear::Float { weights, bias, inputs })
    }

    fn layer(
        &self,
        (config, names): (&Config, &Names),
        number: usize,
        pre_norm: Option<PreNorm<Norm>>,
    ) -> Result<Layer> {
        let name = |part: &str| format!("{}.{number}.{part}", names.layer);
        let LayerShape { heads, intermediate } = LayerShape::read(self, config, names, number)?;
        let (hidden, attended) = (config.hidden, heads * (config.hidden / config.heads));
        let linear = |parts: &[&str], outputs: usize, inputs: usize| {
            let parts: Vec<String> = parts.iter().map(|part| name(part)).collect();
            self.linear(names, &parts, (outputs, inputs))
        };
        let query_key_value = match names.stacked {
            1 => linear(&[names.query, names.key, names.value], attended, hidden)?,
            stacked => linear(&[names.query], stacked * attended, hidden)?,
        };
        let attention_norm = names.attention_norm(number);
        Ok(Layer {
            heads,
            query_key_value: query_key_value.with_outliers_apart(),
            attention_out: linear(&[names.attention_out], hidden, attended)?,
            attention_norm: attention_norm.map(|part| self.norm(names, &name(part), config)).transpose()?,
            up: linear(&[names.up], names.gated * intermediate, hidden)?,
            down: linear(&[names.down], hidden, intermediate)?,
            norm: self.norm(names, &name(names.norm), config)?,
            pre_norm,
        })
    }
}

impl InMemory for Stack {
    fn held_bytes(&self) -> usize {
        let layers = each(&self.layers, self.layers.capacity(), |layer| {
            let products = [&layer.query_key_value, &layer.attention_out, &layer.up, &layer.down];
            let last = layer.pre_norm.as_ref().and_then(|own| own.final_norm.as_ref());
            let norms = layer.attention_norm.iter().chain(last).chain([&layer.norm]);
            products.iter().map(|product| product.held_bytes()).sum::<usize>()
                + norms.map(Norm::held_bytes).sum::<usize>()
        });
        // Layers with the same angles share them.
        let mut angles: Vec<&Arc<Rotary>> =
            self.layers.iter().filter_map(|layer| layer.pre_norm.as_ref().map(|own| &own.rotary)).collect();
        angles.sort_by_key(|angles| Arc::as_ptr(angles));
        angles.dedup_by(|a, b| Arc::ptr_eq(a, b));
        let angles: usize = angles.iter().map(|angles| angles.held_bytes()).sum();
        let rest = self.positions.held_bytes() + self.norm.held_bytes();
        self.words.held_bytes() + rest + layers + angles
    }
}

impl InMemory for Norm {
    fn held_bytes(&self) -> usize {
        self.weight.held_bytes() + self.bias.held_bytes()
    }
}

impl InMemory for Table {
    fn held_bytes(&self) -> usize {
        match self {
            Self::Float(rows) => rows.held_bytes(),
            Self::Brains(rows) => rows.held_bytes(),
            Self::Bytes(rows, scales) => rows.held_bytes() + scales.held_bytes(),
        }
    }
}

impl InMemory for Linear {
    fn held_bytes(&self) -> usize {
        match self {
            Self::Float { weights, bias, .. } => weights.held_bytes() + bias.held_bytes(),
            Self::Brains(packed) => packed.held_bytes(),
            Self::Bytes(packed) => packed.held_bytes(),
        }
    }
}
