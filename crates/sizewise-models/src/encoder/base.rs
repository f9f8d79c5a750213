//! What does an encoder look like to whoever trains it further?
//!
//! The same files that the run-time form reads, as plain floating point matrices under the names that they have in the
//! files, so that what training changed can be written back under them. Bytes are multiplied by their scales.

use super::{
    config::{Activation, Config, Pooling},
    folder::EncoderFiles,
    layers::{Names, Source, pooled_layers},
    shape::LayerShape,
};
use crate::error::{Error, Result};

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
    /// Its name in the file, without `.weight` and `.bias`.
    pub name: String,
    /// `[outputs, inputs]`
    pub weight: Vec<f32>,
    /// `[outputs]`
    pub bias: Vec<f32>,
}

/// A layer normalisation.
#[derive(Debug, Clone)]
pub struct BaseNorm {
    /// Its name in the file, without `.weight` and `.bias`.
    pub name: String,
    /// `[hidden]`
    pub weight: Vec<f32>,
    /// `[hidden]`
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
    /// After attention.
    pub attention_norm: BaseNorm,
    /// `[intermediate, hidden]`
    pub up: BaseMatrix,
    /// `[hidden, intermediate]`
    pub down: BaseMatrix,
    /// After the feed-forward matrices.
    pub norm: BaseNorm,
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
        let names = Names::of(&config).ok_or_else(|| Error::Unsupported {
            file: "config.json".into(),
            problem: "this build trains bert, distilbert, roberta and xlm-roberta further, not modernbert"
                .into(),
        })?;
        let hidden = config.hidden;
        let matrix = |name: String, outputs: usize, inputs: usize| -> Result<BaseMatrix> {
            Ok(BaseMatrix {
                weight: source.float_matrix(&format!("{name}.weight"), outputs, inputs)?,
                bias: source.floats(&format!("{name}.bias"), &[outputs])?,
                name: source.name(&name),
            })
        };
        let norm = |name: String| -> Result<BaseNorm> {
            Ok(BaseNorm {
                weight: source.floats(&format!("{name}.weight"), &[hidden])?,
                bias: source.floats(&format!("{name}.bias"), &[hidden])?,
                name: source.name(&name),
            })
        };
        let layer = |number: usize| -> Result<BaseLayer> {
            let name = |part: &str| format!("{}.{number}.{part}", names.layer);
            let shape = LayerShape::read(&source, &config, names, number)?;
            let (attended, intermediate) = (shape.heads * (hidden / config.heads), shape.intermediate);
            Ok(BaseLayer {
                shape,
                query: matrix(name(names.query), attended, hidden)?,
                key: matrix(name(names.key), attended, hidden)?,
                value: matrix(name(names.value), attended, hidden)?,
                attention_out: matrix(name(names.attention_out), hidden, attended)?,
                attention_norm: norm(name(names.attention_norm))?,
                up: matrix(name(names.up), intermediate, hidden)?,
                down: matrix(name(names.down), hidden, intermediate)?,
                norm: norm(name(names.norm))?,
            })
        };
        Ok(Self {
            words: source.float_matrix(config.family.words(), config.vocabulary, hidden)?,
            positions: source.positions(&config)?,
            norm: norm("embeddings.LayerNorm".into())?,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            shape: EncoderShape {
                hidden,
                layers: config.layers,
                heads: config.heads,
                intermediate: config.intermediate,
                vocabulary: config.vocabulary,
                positions: config.positions,
                activation: config.activation,
                epsilon: config.epsilon,
                pooling: config.pooling,
                pooled: pooled_layers(config.layers),
            },
        })
    }
}
