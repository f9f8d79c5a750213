//! Which shape does one layer have?
//!
//! A layer may have fewer heads and a narrower feed-forward part than `config.json` says: what compression took away. Heads
//! and width are read from the tensors themselves; the size of a head stays that of the configuration.

use super::{
    config::Config,
    folder::EncoderFiles,
    layers::{Names, Source, Stack},
};
use crate::error::{Error, Result};

/// The sizes of a layer that may differ from layer to layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerShape {
    /// Attention heads.
    pub heads: usize,
    /// Length of the vector between the two feed-forward matrices.
    pub intermediate: usize,
}

impl LayerShape {
    /// What the configuration says of every layer.
    pub(super) fn whole(config: &Config) -> Self {
        Self { heads: config.heads, intermediate: config.intermediate }
    }

    /// What the tensors of a layer say, within what the configuration allows.
    pub(super) fn read(source: &Source<'_>, config: &Config, names: &Names, layer: usize) -> Result<Self> {
        let rows = |part: &str, (unit, most): (usize, usize)| {
            let name = format!("{}.{layer}.{part}.weight", names.layer);
            let shape = source.shape(&name)?;
            match shape.as_slice() {
                &[rows, hidden]
                    if hidden == config.hidden && rows > 0 && rows <= most && rows.is_multiple_of(unit) =>
                {
                    Ok(rows / unit)
                }
                _ => {
                    let rows = if unit == 1 { "rows".to_owned() } else { format!("rows in {unit}s") };
                    Err(Error::File {
                        file: "*.safetensors".into(),
                        problem: format!(
                            "tensor `{}` has shape {shape:?}; it must have up to {most} {rows} of {}",
                            source.name(&name),
                            config.hidden
                        ),
                    })
                }
            }
        };
        Ok(Self {
            heads: rows(
                names.query,
                (names.stacked * (config.hidden / config.heads), names.stacked * config.hidden),
            )?,
            intermediate: rows(names.up, (names.gated, names.gated * config.intermediate))?,
        })
    }
}

impl EncoderFiles<&[u8]> {
    /// The layers, from 0, that are narrower than `config.json` says. Other programs cannot read an encoder that has any.
    ///
    /// # Errors
    /// Fails when a file is damaged or of a kind that this build cannot run.
    pub fn narrowed_layers(&self) -> Result<Vec<usize>> {
        let config = Config::parse(self.config, self.pooling)?;
        let source = Source::open(self, &config)?;
        let names = Names::of(&config);
        let mut narrowed = Vec::new();
        for layer in 0..config.layers {
            if LayerShape::read(&source, &config, names, layer)? != LayerShape::whole(&config) {
                narrowed.push(layer);
            }
        }
        Ok(narrowed)
    }

    /// Whether all matrices are bytes, or numbers of 4 bits that become bytes: as they are, for whatever is added to them.
    ///
    /// # Errors
    /// Fails when a file is damaged or of a kind that this build cannot run.
    pub fn is_in_bytes(&self) -> Result<bool> {
        Ok(Stack::load(self)?.is_in_bytes())
    }
}
