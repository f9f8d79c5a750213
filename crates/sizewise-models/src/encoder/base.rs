//! What does an encoder look like to whoever trains it further?
//!
//! The same files that the run-time form reads, as plain floating point matrices under the names that they have in the
//! files, so that what training changed can be written back under them. Bytes are multiplied by their scales.

use super::{
    config::{Activation, Config, Family, Pooling},
    folder::EncoderFiles,
    layers::{FINAL_NORM, Names, Source, pooled_layers},
    pre_norm::PreNorm,
    shape::LayerShape,
};
use crate::error::Result;

/// Sizes and kinds of an encoder's parts.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderShape {
    /// Length of a token's vector.
    pub hidden: usize,
    /// Transformer layers.
    pub layers: usize,
    /// Attention heads of a layer that has all of them; a divisor of `hidden`.
    pub heads: usize,
    /// Length of the vector between the two feed-forward matrices, where nothing was taken from it.
    pub intermediate: usize,
    /// Rows of the word embeddings.
    pub vocabulary: usize,
    /// Rows of the position embeddings.
    pub positions: usize,
    /// Between the two feed-forward matrices.
    pub activation: Activation,
    /// What layer normalisation adds to a variance.
    pub epsilon: f32,
    /// How token vectors become one vector.
    pub pooling: Pooling,
    /// The layers whose outputs are pooled, in the order of the vector's parts; 0 is the embedding layer.
    pub pooled: Vec<usize>,
}

/// A linear layer.
#[derive(Debug, Clone)]
pub struct BaseMatrix {
    /// Its name in the file, without `.weight` and `.bias`. Matrices of one name lie there one below the other.
    pub name: String,
    /// `[outputs, inputs]`
    pub weight: Vec<f32>,
    /// `[outputs]`; empty where the family has none.
    pub bias: Vec<f32>,
    /// Numbers that it writes.
    pub outputs: usize,
}

/// A layer normalisation.
#[derive(Debug, Clone)]
pub struct BaseNorm {
    /// Its name in the file, without `.weight` and `.bias`.
    pub name: String,
    /// `[hidden]`
    pub weight: Vec<f32>,
    /// `[hidden]`; empty where the family has none.
    pub bias: Vec<f32>,
}

/// One transformer layer.
#[derive(Debug, Clone)]
pub struct BaseLayer {
    /// Its own heads and its own `intermediate`; `attended` below is heads · size of a head.
    pub shape: LayerShape,
    /// `[attended, hidden]`
    pub query: BaseMatrix,
    /// `[attended, hidden]`
    pub key: BaseMatrix,
    /// `[attended, hidden]`
    pub value: BaseMatrix,
    /// `[hidden, attended]`
    pub attention_out: BaseMatrix,
    /// After attention, or before it; none where what it reads is normalised already.
    pub attention_norm: Option<BaseNorm>,
    /// `[intermediate, hidden]`, with gates below them twice as many rows.
    pub up: BaseMatrix,
    /// `[hidden, intermediate]`
    pub down: BaseMatrix,
    /// After the feed-forward matrices, or before them.
    pub norm: BaseNorm,
    /// What a layer has that normalises before it computes; none for the others.
    pub pre_norm: Option<PreNorm<BaseNorm>>,
}

/// All weights of an encoder in floating point.
#[derive(Debug, Clone)]
pub struct BaseWeights {
    /// Sizes and kinds.
    pub shape: EncoderShape,
    /// Word embeddings. `[vocabulary, hidden]`
    pub words: Vec<f32>,
    /// Position embeddings, the first token type's added. `[positions, hidden]`
    pub positions: Vec<f32>,
    /// After the embeddings.
    pub norm: BaseNorm,
    /// From the lowest up.
    pub layers: Vec<BaseLayer>,
}

impl BaseMatrix {
    /// The three matrices of which this one is made, one below the other.
    fn in_three(self) -> [Self; 3] {
        let part = |values: &[f32], number: usize| {
            let size = values.len() / 3;
            values.get(number * size..(number + 1) * size).unwrap_or_default().to_vec()
        };
        [0, 1, 2].map(|number| Self {
            name: self.name.clone(),
            weight: part(&self.weight, number),
            bias: part(&self.bias, number),
            outputs: self.outputs / 3,
        })
    }
}

impl EncoderShape {
    /// The layers that a stack of so many pools, in the order of the vector's parts; 0 is the embedding layer.
    #[must_use]
    pub fn pooled_of(layers: usize) -> Vec<usize> {
        pooled_layers(layers)
    }
}

impl BaseWeights {
    /// Reads the weights of an encoder.
    ///
    /// # Errors
    /// Fails when a file is damaged or of a kind that this build cannot run; the message names file and key.
    pub fn read(files: &EncoderFiles<&[u8]>) -> Result<Self> {
        let config = Config::parse(files.config, files.pooling)?;
        let source = Source::open(files, &config)?;
        let names = Names::of(&config);
        let hidden = config.hidden;
        let bias = |name: &str, outputs: usize| match names.has_biases {
            true => source.bias(names, name, outputs),
            false => Ok(Vec::new()),
        };
        let matrix = |name: String, outputs: usize, inputs: usize| -> Result<BaseMatrix> {
            Ok(BaseMatrix {
                weight: source.float_matrix(&format!("{name}.weight"), outputs, inputs)?,
                bias: bias(&name, outputs)?,
                name: source.name(&name),
                outputs,
            })
        };
        let norm = |name: String| -> Result<BaseNorm> {
            Ok(BaseNorm {
                weight: source.floats(&format!("{name}.weight"), &[hidden])?,
                bias: bias(&name, hidden)?,
                name: source.name(&name),
            })
        };
        let layer = |number: usize, pre_norm: Option<PreNorm<BaseNorm>>| -> Result<BaseLayer> {
            let name = |part: &str| format!("{}.{number}.{part}", names.layer);
            let shape = LayerShape::read(&source, &config, names, number)?;
            let (attended, intermediate) = (shape.heads * (hidden / config.heads), shape.intermediate);
            let [query, key, value] = match names.stacked {
                1 => [
                    matrix(name(names.query), attended, hidden)?,
                    matrix(name(names.key), attended, hidden)?,
                    matrix(name(names.value), attended, hidden)?,
                ],
                stacked => matrix(name(names.query), stacked * attended, hidden)?.in_three(),
            };
            Ok(BaseLayer {
                shape,
                query,
                key,
                value,
                attention_out: matrix(name(names.attention_out), hidden, attended)?,
                attention_norm: names.attention_norm(number).map(|part| norm(name(part))).transpose()?,
                up: matrix(name(names.up), names.gated * intermediate, hidden)?,
                down: matrix(name(names.down), hidden, intermediate)?,
                norm: norm(name(names.norm))?,
                pre_norm,
            })
        };
        let pre_norms = match &config.family {
            Family::ModernBert(modern) => PreNorm::of(modern, &config, norm(FINAL_NORM.into())?),
            _ => Vec::new(),
        };
        let mut pre_norms = pre_norms.into_iter();
        let layers = (0..config.layers).map(|number| layer(number, pre_norms.next()));
        let layers = layers.collect::<Result<_>>()?;
        let positions = source.positions(&config)?;
        Ok(Self {
            words: source.float_matrix(config.family.words(), config.vocabulary, hidden)?,
            norm: norm(names.embeddings_norm.into())?,
            layers,
            shape: EncoderShape {
                hidden,
                layers: config.layers,
                heads: config.heads,
                intermediate: config.intermediate,
                vocabulary: config.vocabulary,
                positions: positions.len() / hidden,
                activation: config.activation,
                epsilon: config.epsilon,
                pooling: config.pooling,
                pooled: pooled_layers(config.layers),
            },
            positions,
        })
    }
}
