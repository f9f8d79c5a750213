//! How does an encoder become two or four times smaller?
//!
//! Every matrix becomes brain floating point numbers, or signed bytes with one scale per output row, chosen so that the row's
//! largest weight is 127. Biases and normalisations stay as they are. The result is an ordinary encoder folder.

use crate::error::{Error, Result, at};
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

/// The weights of a file in floating point: 8-bit matrices are multiplied by their scales, the rest stays as it is.
///
/// # Errors
/// Fails when the file is damaged.
pub fn to_floats(file: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let tensors = Tensors::parse(file, bytes)?;
    let mut outputs = Vec::new();
    for name in tensors.names() {
        if name.strip_suffix(".scale").is_some_and(|matrix| tensors.has(matrix)) {
            continue;
        }
        let shape = tensors.shape(&name)?;
        let values = match (tensors.dtype(&name)?, shape.as_slice()) {
            (Dtype::I8, &[rows, columns]) => {
                let scales = tensors.floats(&format!("{name}.scale"), &[rows])?;
                let values = tensors.bytes(&name, &shape)?;
                let scaled = values.chunks_exact(columns.max(1)).zip(scales);
                scaled
                    .flat_map(|(row, scale)| row.iter().map(move |value| f32::from(*value) * scale))
                    .collect()
            }
            (Dtype::I64, _) => continue,
            _ => tensors.floats(&name, &shape)?,
        };
        outputs.push(Output::floats(&name, &shape, &values));
    }
    // The value that the public libraries look for.
    Ok(tensors::write("pt", &outputs)?)
}

/// The weights of an encoder in 8 bits, some tensors replaced by new values under their names. What is 8-bit already and not
/// replaced keeps its bytes.
pub(crate) fn weights(files: &EncoderFiles<&[u8]>, replaced: &BTreeMap<String, Vec<f32>>) -> Result<Vec<u8>> {
    let mut outputs = Vec::new();
    for (name, bytes) in &files.weights {
        let tensors = Tensors::parse(name, bytes)?;
        for tensor in tensors.names() {
            if !is_read(&tensor) {
                continue;
            }
            let shape = tensors.shape(&tensor)?;
            let new = replaced.get(&tensor);
            let scale = format!("{tensor}.scale");
            if let (None, &[rows, _], true) = (new, shape.as_slice(), tensors.has(&scale)) {
                outputs.push(Output::bytes(&tensor, &shape, &tensors.bytes(&tensor, &shape)?));
                outputs.push(Output::floats(&scale, &[rows], &tensors.floats(&scale, &[rows])?));
                continue;
            }
            if tensor.strip_suffix(".scale").is_some_and(|matrix| tensors.has(matrix)) {
                continue;
            }
            let values = match new {
                Some(values) => values.clone(),
                None => tensors.floats(&tensor, &shape)?,
            };
            match shape.as_slice() {
                &[rows, columns] if !keeps_precision(&tensor) => {
                    let (quantized, scales) = rows_to_bytes(&values, columns);
                    outputs.push(Output::bytes(&tensor, &shape, &quantized));
                    outputs.push(Output::floats(&scale, &[rows], &scales));
                }
                _ => outputs.push(Output::floats(&tensor, &shape, &values)),
            }
        }
    }
    Ok(tensors::write("sizewise-int8-encoder/1", &outputs)?)
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
