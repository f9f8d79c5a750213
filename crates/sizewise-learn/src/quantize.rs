//! How does an encoder become two, four or eight times smaller?
//!
//! Every matrix becomes brain floating point numbers, signed bytes with one scale per output row, chosen so that the row's
//! largest weight is 127, or 4 bits a weight. Biases and normalisations stay as they are. The result is an ordinary encoder folder.

mod nibbles;

use crate::error::{Error, Result, at};
use nibbles::Nibbles;
use sizewise_models::{
    encoder::EncoderFiles,
    tensors::{self, Dtype, Output, Tensors},
};
use std::{collections::BTreeMap, path::Path};

/// What matrices become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Signed bytes with one scale per output: a quarter of the size, for the byte kernels.
    Bytes,
    /// Brain floating point numbers: half of the size, and close to what they were.
    Brains,
    /// 4 bits a weight: an eighth of the size. They become bytes when they are loaded, for the same kernels.
    Nibbles,
}

/// Writes a copy of the encoder in `folder` to `output`, in another form.
///
/// # Errors
/// Fails when the encoder cannot be read or the folder cannot be written.
pub fn encoder(folder: &Path, output: &Path, form: Form, notice: &str) -> Result<()> {
    let files = EncoderFiles::read(folder)?;
    let weights = match form {
        Form::Bytes => weights(&files.as_ref(), &BTreeMap::new())?,
        Form::Brains => brains(&files.as_ref())?,
        Form::Nibbles => in_4_bits(&files.as_ref())?,
    };
    // A model that cannot be loaded again must not be written.
    sizewise_models::encoder::Encoder::from_files(&EncoderFiles {
        config: &files.config,
        tokenizer: &files.tokenizer,
        pooling: files.pooling.as_deref(),
        prompts: files.prompts.as_deref(),
        weights: vec![("model.safetensors".into(), &weights)],
    })?;
    std::fs::create_dir_all(output).map_err(at(output))?;
    let write =
        |name: &str, bytes: &[u8]| std::fs::write(output.join(name), bytes).map_err(at(&output.join(name)));
    write("config.json", &files.config)?;
    write("tokenizer.json", &slim_tokenizer(&files.tokenizer)?)?;
    if let Some(pooling) = &files.pooling {
        std::fs::create_dir_all(output.join("1_Pooling")).map_err(at(output))?;
        write("1_Pooling/config.json", pooling)?;
    }
    if let Some(prompts) = &files.prompts {
        write("config_sentence_transformers.json", prompts)?;
    }
    write("model.safetensors", &weights)?;
    write("NOTICE", notice.as_bytes())
}

/// The weights of a file in floating point: matrices of 8 and 4 bits are multiplied by their scales, the rest stays as it is.
///
/// # Errors
/// Fails when the file is damaged.
pub fn to_floats(file: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let tensors = Tensors::parse(file, bytes)?;
    let mut outputs = Vec::new();
    for name in tensors.names() {
        if tensors.is_part(&name) || tensors.dtype(&name)? == Dtype::I64 {
            continue;
        }
        let shape = tensors.matrix_shape(&name)?;
        let values = match shape.as_slice() {
            &[rows, columns] => tensors.matrix_floats(&name, (rows, columns))?,
            _ => tensors.floats(&name, &shape)?,
        };
        outputs.push(Output::floats(&name, &shape, &values));
    }
    // The value that the public libraries look for.
    Ok(tensors::write("pt", &outputs)?)
}

/// The weights of an encoder in 8 bits, some tensors replaced by new values under their names. What is in 8 or 4 bits already and not
/// replaced keeps its bytes.
pub(crate) fn weights(files: &EncoderFiles<&[u8]>, replaced: &BTreeMap<String, Vec<f32>>) -> Result<Vec<u8>> {
    rewritten(files, "sizewise-int8-encoder/1", |tensors, tensor, shape| {
        in_8_bits(tensors, (tensor, shape), replaced.get(tensor))
    })
}

/// The weights of an encoder in 4 bits. What is in 4 bits already keeps its bytes; a matrix with an odd number of columns is in 8.
pub(crate) fn in_4_bits(files: &EncoderFiles<&[u8]>) -> Result<Vec<u8>> {
    rewritten(files, "sizewise-int4-encoder/1", |tensors, tensor, shape| match *shape {
        [rows, columns]
            if columns.is_multiple_of(2)
                && !keeps_precision(tensor)
                && tensors.dtype(tensor)? != Dtype::U8 =>
        {
            let values = tensors.matrix_floats(tensor, (rows, columns))?;
            Ok(Nibbles::of(&values, columns).outputs(tensor).into())
        }
        _ => in_8_bits(tensors, (tensor, shape), None),
    })
}

/// The tensors of all files that are read, each stored in the way that `store` says, with what belongs to it.
fn rewritten(
    files: &EncoderFiles<&[u8]>,
    format: &str,
    store: impl Fn(&Tensors<'_>, &str, &[usize]) -> Result<Vec<Output>>,
) -> Result<Vec<u8>> {
    let mut outputs = Vec::new();
    for (name, bytes) in &files.weights {
        let tensors = Tensors::parse(name, bytes)?;
        for tensor in tensors.names().iter().filter(|tensor| is_read(tensor) && !tensors.is_part(tensor)) {
            outputs.extend(store(&tensors, tensor, &tensors.matrix_shape(tensor)?)?);
        }
    }
    Ok(tensors::write(format, &outputs)?)
}

/// A matrix as bytes with the scales of its rows, another tensor as it is.
fn in_8_bits(
    tensors: &Tensors<'_>,
    (tensor, shape): (&str, &[usize]),
    replaced: Option<&Vec<f32>>,
) -> Result<Vec<Output>> {
    if replaced.is_none() && tensors.is_in_bytes(tensor)? {
        return Ok(tensors.copied(tensor)?);
    }
    let values = match replaced {
        Some(values) => values.clone(),
        None => tensors.floats(tensor, shape)?,
    };
    Ok(match *shape {
        [rows, columns] if !keeps_precision(tensor) => {
            let (quantized, scales) = rows_to_bytes(&values, columns);
            let bytes = Output::bytes(tensor, shape, &quantized);
            vec![bytes, Output::floats(&format!("{tensor}.scale"), &[rows], &scales)]
        }
        _ => vec![Output::floats(tensor, shape, &values)],
    })
}

/// The weights of an encoder in brain floating point.
fn brains(files: &EncoderFiles<&[u8]>) -> Result<Vec<u8>> {
    let mut outputs = Vec::new();
    for (name, bytes) in &files.weights {
        let floats = to_floats(name, bytes)?;
        let tensors = Tensors::parse(name, &floats)?;
        for tensor in tensors.names().iter().filter(|tensor| is_read(tensor)) {
            let shape = tensors.shape(tensor)?;
            let values = tensors.floats(tensor, &shape)?;
            outputs.push(if shape.len() == 2 && !keeps_precision(tensor) {
                Output::brains(tensor, &shape, &values)
            } else {
                Output::floats(tensor, &shape, &values)
            });
        }
    }
    // The value that the public libraries look for.
    Ok(tensors::write("pt", &outputs)?)
}

/// Buffers of positions and the pooling head are never read.
fn is_read(tensor: &str) -> bool {
    !tensor.ends_with("position_ids") && !tensor.contains("pooler.")
}

/// Positions and token types are few and are added up at loading.
fn keeps_precision(tensor: &str) -> bool {
    tensor.contains("position_embeddings") || tensor.contains("token_type_embeddings")
}

fn rows_to_bytes(values: &[f32], columns: usize) -> (Vec<i8>, Vec<f32>) {
    let (mut bytes, mut scales) = (Vec::with_capacity(values.len()), Vec::new());
    for row in values.chunks_exact(columns.max(1)) {
        let largest = row.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
        bytes.extend(row.iter().map(|value| (value / scale).round() as i8));
        scales.push(scale);
    }
    (bytes, scales)
}

/// The parts of a `tokenizer.json` that decide the ids, without padding and truncation, which belong to a caller.
pub(crate) fn slim_tokenizer(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut json: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(bytes).map_err(|_| Error::Internal("the tokenizer was read before"))?;
    json.retain(|key, _| {
        ["version", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model"]
            .contains(&key.as_str())
    });
    serde_json::to_vec(&json).map_err(|_| Error::Internal("a tokenizer has a JSON form"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_weight_moves_by_more_than_half_a_step() {
        let values: Vec<f32> = (0..200).map(|i| ((i * 37 % 101) as f32 - 50.0) / 17.0).collect();
        let (bytes, scales) = rows_to_bytes(&values, 20);
        for (i, (value, byte)) in values.iter().zip(bytes).enumerate() {
            assert!((value - f32::from(byte) * scales[i / 20]).abs() <= scales[i / 20] * 0.5001);
        }
    }
}
