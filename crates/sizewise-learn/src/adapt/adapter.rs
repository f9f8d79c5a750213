//! How is what a task changed kept beside an encoder in place of a copy of it?
//!
//! Low-rank changes leave the matrices as they were: a server then has these once for all tasks, in memory and in batches. What is judged
//! is what serves, the base in 8 bits and the changes beside it, which rounds a little less than changed matrices in 8 bits do.

use super::{
    Adaptation, Adapted,
    matrix::{add_product, matrix},
};
use crate::{
    error::{Error, Result},
    quantize,
};
use sizewise_models::encoder::{
    BaseLayer, BaseMatrix, BaseWeights, Encoder, EncoderFiles, LoraChange, LoraMatrix, adapter_changes,
    adapter_to_bytes,
};
use std::collections::{BTreeMap, BTreeSet};

/// An encoder that was adapted, as what it was and what was changed.
#[derive(Debug)]
pub struct AdapterFiles {
    /// The encoder as it was, in 8 bits; the same bytes for every task that begins with the same files.
    pub base: EncoderFiles<Vec<u8>>,
    /// What was changed.
    pub adapter: Vec<u8>,
}

impl Adapted {
    /// The encoder as what it was and what was changed.
    ///
    /// # Errors
    /// Fails when more than low-rank changes were trained, or the files are not those that it was adapted from.
    pub fn adapter(&self, base: &EncoderFiles<&[u8]>) -> Result<AdapterFiles> {
        let changes = self.changes.as_deref().ok_or(Error::Internal("an adapter is of low rank"))?;
        let base = in_8_bits(base)?;
        let adapter = adapter_to_bytes(base.as_ref().hash(), changes)?;
        let files = AdapterFiles { base, adapter };
        // A model that cannot be loaded again must not be handed out.
        files.encoder()?;
        Ok(files)
    }
}

impl AdapterFiles {
    /// The encoder.
    ///
    /// # Errors
    /// Fails when a file is damaged.
    pub fn encoder(&self) -> Result<Encoder> {
        Ok(Encoder::from_files(&self.base.as_ref())?.with_adapter(&self.adapter)?)
    }
}

impl Adaptation {
    /// The encoders of all folds, to judge with, in the form of [`Adapted::adapter`].
    ///
    /// # Errors
    /// As there.
    pub fn fold_adapters(&self, base: &EncoderFiles<&[u8]>, threads: usize) -> Result<Vec<Encoder>> {
        let encoder = |adapted: &Adapted| Ok(adapted.adapter(base)?.encoder()?.with_threads(threads));
        self.folds.iter().map(encoder).collect()
    }
}

/// Files as they are where their matrices are bytes already, else in 8 bits.
fn in_8_bits(files: &EncoderFiles<&[u8]>) -> Result<EncoderFiles<Vec<u8>>> {
    let weights = match files.is_in_bytes()? {
        true => files.weights.iter().map(|(name, bytes)| (name.clone(), bytes.to_vec())).collect(),
        false => vec![("model.safetensors".into(), quantize::weights(files, &BTreeMap::new())?)],
    };
    Ok(EncoderFiles { weights, ..owned(files) })
}

/// All but the weights.
fn owned(files: &EncoderFiles<&[u8]>) -> EncoderFiles<Vec<u8>> {
    EncoderFiles {
        config: files.config.to_vec(),
        tokenizer: files.tokenizer.to_vec(),
        pooling: files.pooling.map(<[u8]>::to_vec),
        prompts: files.prompts.map(<[u8]>::to_vec),
        weights: Vec::new(),
    }
}

/// An encoder with what was changed in its matrices themselves, in 8 bits: for whoever goes on with it, and for other programs.
///
/// # Errors
/// Fails when a file is damaged or the adapter is one of another encoder.
pub fn merge(base: &EncoderFiles<&[u8]>, adapter: &[u8]) -> Result<EncoderFiles<Vec<u8>>> {
    Encoder::from_files(base)?.with_adapter(adapter)?;
    let mut weights = BaseWeights::read(base)?;
    let mut names = BTreeSet::new();
    for LoraChange { layer, matrix: which, rank, down, up } in adapter_changes(adapter)? {
        let layer = weights.layers.get_mut(layer).ok_or(Error::Internal("an adapter fits its encoder"))?;
        let target = matrix_of(layer, which);
        let inputs = down.len() / rank.max(1);
        add_product(1.0, matrix(&up, rank), matrix(&down, inputs), &mut target.weight);
        names.insert(target.name.clone());
    }
    // Matrices of one name lie there one below the other.
    let mut changed: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for layer in &mut weights.layers {
        for which in LoraMatrix::ALL {
            let matrix = matrix_of(layer, which);
            if names.contains(&matrix.name) {
                changed.entry(format!("{}.weight", matrix.name)).or_default().append(&mut matrix.weight);
            }
        }
    }
    let weights = vec![("model.safetensors".into(), quantize::weights(base, &changed)?)];
    Ok(EncoderFiles { weights, ..owned(base) })
}

fn matrix_of(layer: &mut BaseLayer, which: LoraMatrix) -> &mut BaseMatrix {
    match which {
        LoraMatrix::Query => &mut layer.query,
        LoraMatrix::Key => &mut layer.key,
        LoraMatrix::Value => &mut layer.value,
        LoraMatrix::AttentionOut => &mut layer.attention_out,
        LoraMatrix::Up => &mut layer.up,
        LoraMatrix::Down => &mut layer.down,
    }
}
