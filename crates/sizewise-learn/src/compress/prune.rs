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
    encoder::{BaseLayer, BaseMatrix, BaseWeights, EncoderFiles, EncoderShape},
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
    let mut layers = kept_layers(&shape.pooled, &small);
    // The first layer alone has no norm of its own in a family that normalises first, so it stays the first.
    if base.layers.first().is_some_and(|layer| layer.attention_norm.is_none()) {
        layers.iter_mut().take(1).for_each(|first| *first = 0);
    }
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
    let stem = stem(base)?;
    for (name, bytes) in &files.weights {
        let file = Tensors::parse(name, bytes)?;
        for tensor in file.names().iter().filter(|tensor| !tensor.starts_with(&stem)) {
            outputs.extend(copied(&file, tensor)?);
        }
    }
    for (to, kept) in kept.iter().enumerate() {
        let layer =
            base.layers.get(kept.from).ok_or(Error::Internal("a kept layer is one of the encoder"))?;
        let rename = |name: &str| match name.strip_prefix(&format!("{stem}{}.", kept.from)) {
            Some(part) => format!("{stem}{to}.{part}"),
            None => name.to_owned(),
        };
        outputs.extend(cut_layer(layer, kept, &base.shape, &rename));
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

/// What the names of all layers' tensors begin with, up to the layer's number.
fn stem(base: &BaseWeights) -> Result<String> {
    let first = base.layers.first().map_or("", |layer| layer.norm.name.as_str());
    let before = first.split_once(".0.").map(|(before, _)| format!("{before}."));
    before.ok_or(Error::Internal("the first layer has number 0"))
}

/// A matrix of which some rows and columns are kept.
struct Cut<'a> {
    matrix: &'a BaseMatrix,
    rows: Vec<usize>,
    columns: Option<&'a [usize]>,
}

fn cut_layer(
    layer: &BaseLayer,
    kept: &KeptLayer,
    shape: &EncoderShape,
    rename: &dyn Fn(&str) -> String,
) -> Vec<Output> {
    let size = shape.hidden / shape.heads.max(1);
    let attended: Vec<usize> = kept.heads.iter().flat_map(|head| head * size..(head + 1) * size).collect();
    // Gates lie below what they gate.
    let gates = kept.neurons.iter().map(|neuron| layer.shape.intermediate + neuron);
    let gates: Vec<usize> = gates.filter(|_| layer.pre_norm.is_some()).collect();
    let all = |matrix: &BaseMatrix| (0..matrix.outputs).collect::<Vec<usize>>();
    let some = |matrix| Cut { matrix, rows: attended.clone(), columns: None };
    let cuts = [
        vec![some(&layer.query), some(&layer.key), some(&layer.value)],
        vec![Cut { matrix: &layer.attention_out, rows: all(&layer.attention_out), columns: Some(&attended) }],
        vec![Cut { matrix: &layer.up, rows: [kept.neurons.as_slice(), &gates].concat(), columns: None }],
        vec![Cut { matrix: &layer.down, rows: all(&layer.down), columns: Some(&kept.neurons) }],
    ];
    let mut outputs = Vec::new();
    // Matrices of one name lie there one below the other.
    for cuts in cuts.iter().flat_map(|cuts| cuts.chunk_by(|a, b| a.matrix.name == b.matrix.name)) {
        let Some(Cut { matrix, columns, .. }) = cuts.first() else { continue };
        let name = rename(&matrix.name);
        let rows: usize = cuts.iter().map(|cut| cut.rows.len()).sum();
        let width = columns.map_or(matrix.weight.len() / matrix.outputs.max(1), <[usize]>::len);
        let weight: Vec<f32> = cuts.iter().flat_map(Cut::weight).collect();
        outputs.push(Output::floats(&format!("{name}.weight"), &[rows, width], &weight));
        let bias: Vec<f32> = cuts.iter().flat_map(Cut::bias).collect();
        if !bias.is_empty() {
            outputs.push(Output::floats(&format!("{name}.bias"), &[rows], &bias));
        }
    }
    for norm in layer.attention_norm.iter().chain([&layer.norm]) {
        let name = rename(&norm.name);
        outputs.push(Output::floats(&format!("{name}.weight"), &[shape.hidden], &norm.weight));
        if !norm.bias.is_empty() {
            outputs.push(Output::floats(&format!("{name}.bias"), &[shape.hidden], &norm.bias));
        }
    }
    outputs
}

impl Cut<'_> {
    fn weight(&self) -> Vec<f32> {
        let inputs = self.matrix.weight.len() / self.matrix.outputs.max(1);
        let mut weight = Vec::new();
        for row in &self.rows {
            let row = self.matrix.weight.get(row * inputs..(row + 1) * inputs).unwrap_or_default();
            match self.columns {
                None => weight.extend_from_slice(row),
                Some(columns) => weight.extend(columns.iter().filter_map(|column| row.get(*column))),
            }
        }
        weight
    }

    fn bias(&self) -> Vec<f32> {
        self.rows.iter().filter_map(|row| self.matrix.bias.get(*row)).copied().collect()
    }
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
    let sees = |kept: &KeptLayer| base.layers.get(kept.from)?.pre_norm.as_ref().map(|own| own.window);
    let windows: Option<Vec<_>> = kept.iter().map(sees).collect();
    if let Some(windows) = windows {
        // Which layers see the whole text no longer follows from their numbers.
        let kinds = windows.iter().map(|window| match window {
            None => Value::from("full_attention"),
            Some(_) => Value::from("sliding_attention"),
        });
        json.insert("layer_types".into(), kinds.collect());
        json.remove("global_attn_every_n_layers");
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
