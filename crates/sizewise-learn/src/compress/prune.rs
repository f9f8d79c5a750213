//! Which heads, neurons and layers stay, and what do the files look like without the others?
//!
//! Layers are kept so that each third of the smaller stack ends where that third of the whole one ended: pooled layers then
//! mean the same in both. Heads and neurons go in blocks that fill whole panels of the kernels, least important first over all
//! layers together, so a layer that matters less becomes narrower; every layer keeps at least one block of either.

use crate::{
    adapt::recover::Importance,
    error::{Error, Result},
};
use serde_json::Value;
use sizewise_models::{
    encoder::{BaseLayer, BaseMatrix, BaseNorm, BaseWeights, EncoderFiles, EncoderShape},
    tensors::{self, Dtype, Output, Tensors},
};

/// Columns of a panel of the kernels.
const PANEL: usize = 64;
/// Widths are counted in eighths of the whole.
pub(crate) const EIGHTHS: usize = 8;

/// How much of an encoder is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct Outline {
    /// Layers.
    pub layers: usize,
    /// Eighths of the heads and neurons of the kept layers.
    pub eighths: usize,
}

/// What is kept of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptLayer {
    /// Its number in the whole encoder.
    pub(crate) from: usize,
    /// Ascending.
    pub(crate) heads: Vec<usize>,
    /// Ascending.
    pub(crate) neurons: Vec<usize>,
}

/// The layers that a stack of `layers` keeps of one of `all`, given which layers either pools (last first, 0 the embeddings).
fn kept_layers(whole: &[usize], small: &[usize]) -> Vec<usize> {
    let mut kept = Vec::new();
    let ends = whole.iter().zip(small).rev();
    let (mut below, mut small_below) = (0, 0);
    for (&end, &small_end) in ends {
        let (span, count) = (end - below, small_end - small_below);
        // The last layer of each of `count` parts of the span.
        kept.extend((1..=count).map(|part| below + (part * span).div_ceil(count) - 1));
        (below, small_below) = (end, small_end);
    }
    kept
}

/// Chooses what is kept.
pub(crate) fn choose(
    base: &BaseWeights,
    outline: Outline,
    importance: &Importance,
) -> Result<Vec<KeptLayer>> {
    let shape = &base.shape;
    let small = EncoderShape::pooled_of(outline.layers);
    if outline.layers == 0 || outline.layers > shape.layers || small.len() != shape.pooled.len() {
        return Err(Error::Internal("a smaller encoder pools as many layers as the whole one"));
    }
    let layers = kept_layers(&shape.pooled, &small);
    let size = shape.hidden / shape.heads.max(1);
    let part = |parts: &[Vec<f64>]| -> Vec<Vec<f64>> {
        layers.iter().filter_map(|layer| parts.get(*layer)).cloned().collect()
    };
    // Small encoders have blocks of an eighth.
    let heads_of_panel = (1..=shape.heads).find(|count| (count * size).is_multiple_of(PANEL)).unwrap_or(1);
    let head_block = heads_of_panel.min(shape.heads / 4).max(1);
    let neuron_block = PANEL.min(shape.intermediate / EIGHTHS).max(1);
    let heads = strongest(&part(&importance.heads), head_block, outline.eighths);
    let neurons = strongest(&part(&importance.neurons), neuron_block, outline.eighths);
    let kept = layers.into_iter().zip(heads).zip(neurons);
    Ok(kept.map(|((from, heads), neurons)| KeptLayer { from, heads, neurons }).collect())
}

/// Of every layer the parts to keep, in blocks: the best blocks of all layers together, and the best of every layer.
fn strongest(scores: &[Vec<f64>], block: usize, eighths: usize) -> Vec<Vec<usize>> {
    if eighths >= EIGHTHS {
        return scores.iter().map(|scores| (0..scores.len()).collect()).collect();
    }
    // A layer's parts, best first, in blocks; a later block is never better than an earlier one of its layer.
    let sorted: Vec<Vec<usize>> = scores
        .iter()
        .map(|scores| {
            let mut order: Vec<usize> = (0..scores.len()).collect();
            let score = |part: &usize| scores.get(*part).copied().unwrap_or(0.0);
            order.sort_by(|a, b| score(b).total_cmp(&score(a)).then(a.cmp(b)));
            order
        })
        .collect();
    let mut blocks: Vec<(f64, usize, usize)> = Vec::new();
    for (layer, (order, scores)) in sorted.iter().zip(scores).enumerate() {
        for (number, parts) in order.chunks(block).enumerate() {
            let mean = parts.iter().filter_map(|part| scores.get(*part)).sum::<f64>() / parts.len() as f64;
            blocks.push((if number == 0 { f64::INFINITY } else { mean }, layer, number));
        }
    }
    let wanted = (blocks.len() * eighths).div_ceil(EIGHTHS).max(scores.len());
    blocks.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut kept = vec![Vec::new(); scores.len()];
    for (_, layer, number) in blocks.into_iter().take(wanted) {
        if let (Some(kept), Some(parts)) =
            (kept.get_mut(layer), sorted.get(layer).and_then(|order| order.chunks(block).nth(number)))
        {
            kept.extend_from_slice(parts);
        }
    }
    kept.iter_mut().for_each(|parts| parts.sort_unstable());
    kept
}

/// The files of an encoder of which only these parts are left. Kept layers are in floating point.
pub(crate) fn cut(
    files: &EncoderFiles<&[u8]>,
    base: &BaseWeights,
    kept: &[KeptLayer],
) -> Result<EncoderFiles<Vec<u8>>> {
    let mut outputs = Vec::new();
    for (name, bytes) in &files.weights {
        let file = Tensors::parse(name, bytes)?;
        for tensor in file.names().iter().filter(|tensor| !tensor.contains(".layer.")) {
            outputs.extend(copied(&file, tensor)?);
        }
    }
    let size = base.shape.hidden / base.shape.heads.max(1);
    for (to, kept) in kept.iter().enumerate() {
        let layer =
            base.layers.get(kept.from).ok_or(Error::Internal("a kept layer is one of the encoder"))?;
        let rename =
            |name: &str| name.replacen(&format!(".layer.{}.", kept.from), &format!(".layer.{to}."), 1);
        outputs.extend(cut_layer(layer, kept, (size, base.shape.hidden), &rename));
    }
    Ok(EncoderFiles {
        config: with_layers(files.config, kept, base)?,
        tokenizer: files.tokenizer.to_vec(),
        pooling: files.pooling.map(<[u8]>::to_vec),
        prompts: files.prompts.map(<[u8]>::to_vec),
        weights: vec![("model.safetensors".into(), tensors::write("sizewise-pruned-encoder/1", &outputs)?)],
    })
}

/// A tensor as it is; none where nobody reads it.
pub(crate) fn copied(file: &Tensors<'_>, tensor: &str) -> Result<Option<Output>> {
    let shape = file.shape(tensor)?;
    Ok(match file.dtype(tensor)? {
        Dtype::I8 | Dtype::U8 => Some(file.copy(tensor)?),
        Dtype::I64 => None,
        _ => Some(Output::floats(tensor, &shape, &file.floats(tensor, &shape)?)),
    })
}

fn cut_layer(
    layer: &BaseLayer,
    kept: &KeptLayer,
    (size, hidden): (usize, usize),
    rename: &dyn Fn(&str) -> String,
) -> Vec<Output> {
    let attended: Vec<usize> = kept.heads.iter().flat_map(|head| head * size..(head + 1) * size).collect();
    let mut outputs = Vec::new();
    let mut add = |matrix: &BaseMatrix, rows: Option<&[usize]>, columns: Option<&[usize]>| {
        let inputs = matrix.weight.len() / matrix.bias.len().max(1);
        let all_rows: Vec<usize> = (0..matrix.bias.len()).collect();
        let rows = rows.unwrap_or(&all_rows);
        let mut weight = Vec::new();
        for row in rows {
            let row = matrix.weight.get(row * inputs..(row + 1) * inputs).unwrap_or_default();
            match columns {
                None => weight.extend_from_slice(row),
                Some(columns) => weight.extend(columns.iter().filter_map(|column| row.get(*column))),
            }
        }
        let bias: Vec<f32> = rows.iter().filter_map(|row| matrix.bias.get(*row)).copied().collect();
        let name = rename(&matrix.name);
        let width = columns.map_or(inputs, <[usize]>::len);
        outputs.push(Output::floats(&format!("{name}.weight"), &[rows.len(), width], &weight));
        outputs.push(Output::floats(&format!("{name}.bias"), &[rows.len()], &bias));
    };
    for matrix in [&layer.query, &layer.key, &layer.value] {
        add(matrix, Some(&attended), None);
    }
    add(&layer.attention_out, None, Some(&attended));
    add(&layer.up, Some(&kept.neurons), None);
    add(&layer.down, None, Some(&kept.neurons));
    let mut add_norm = |norm: &BaseNorm| {
        let name = rename(&norm.name);
        outputs.push(Output::floats(&format!("{name}.weight"), &[hidden], &norm.weight));
        outputs.push(Output::floats(&format!("{name}.bias"), &[hidden], &norm.bias));
    };
    add_norm(&layer.attention_norm);
    add_norm(&layer.norm);
    outputs
}

/// The configuration of the smaller stack. Where all layers are equally narrow in their feed-forward part it says so, which
/// other programs understand too; fewer heads have no name there.
fn with_layers(config: &[u8], kept: &[KeptLayer], base: &BaseWeights) -> Result<Vec<u8>> {
    let mut json = parse(config)?;
    set(&mut json, &["num_hidden_layers", "n_layers"], kept.len());
    let wide = kept.first().map_or(0, |layer| layer.neurons.len());
    if kept.iter().all(|layer| layer.neurons.len() == wide) && wide < base.shape.intermediate {
        set(&mut json, &["intermediate_size", "hidden_dim"], wide);
    }
    serde_json::to_vec_pretty(&json).map_err(|_| Error::Internal("a configuration has a JSON form"))
}

pub(crate) fn parse(bytes: &[u8]) -> Result<serde_json::Map<String, Value>> {
    serde_json::from_slice(bytes).map_err(|_| Error::Internal("the file was read before"))
}

/// Gives the key that is there another value.
pub(crate) fn set(json: &mut serde_json::Map<String, Value>, keys: &[&str], value: usize) {
    for key in keys {
        if let Some(slot) = json.get_mut(*key) {
            *slot = Value::from(value);
        }
    }
}
