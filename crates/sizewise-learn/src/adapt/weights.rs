//! Where do an encoder's trainable weights lie, and which of them move?
//!
//! The layers' weights are one long vector, so that gradients, optimiser, sums over threads and checkpoints are plain
//! loops. Embedding tables stay as they are: a word that few rows have would be torn from those that mean the same.
//!
//! Low-rank adapters (LoRA, Hu et al. 2021) are merged into the weights after every step, which costs a hundredth of the
//! step; forward and backward passes then run at full speed, and the result needs no merging.

use super::{
    brains::Brains,
    matrix::{add_product, add_rows, matrix},
};
use crate::fit::Random;
use ndarray::s;
use sizewise_models::encoder::{
    BaseLayer, BaseMatrix, BaseNorm, BaseWeights, EncoderShape, LoraChange, LoraMatrix,
};
use std::{collections::BTreeMap, ops::Range};

/// Linear layers of a layer.
const LINEAR: usize = 4;

/// Which weights of the encoder are trained.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// None: only a head on the frozen vectors.
    Head,
    /// Low-rank changes of some matrices.
    Lora {
        /// Rank of a change.
        rank: usize,
        /// A change counts `alpha / rank` times.
        alpha: f32,
        /// The matrices of every layer that change.
        matrices: Vec<LoraMatrix>,
    },
    /// Everything in the topmost layers.
    LastLayers(usize),
    /// Everything in all layers.
    Full,
}

/// A linear layer's place in the vector of weights.
#[derive(Debug, Clone)]
pub(super) struct LinearPlace {
    /// `[outputs, inputs]`
    pub(super) weight: Range<usize>,
    /// `[outputs]`; empty where the encoder has none.
    pub(super) bias: Range<usize>,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) layer: usize,
    /// Its place among those of all layers.
    pub(super) number: usize,
}

/// A normalisation's place.
#[derive(Debug, Clone)]
pub(super) struct NormPlace {
    pub(super) weight: Range<usize>,
    pub(super) bias: Range<usize>,
}

/// One layer's places.
#[derive(Debug, Clone)]
pub(super) struct LayerPlaces {
    pub(super) query_key_value: LinearPlace,
    pub(super) attention_out: LinearPlace,
    pub(super) attention_norm: Option<NormPlace>,
    pub(super) up: LinearPlace,
    pub(super) down: LinearPlace,
    pub(super) norm: NormPlace,
    pub(super) final_norm: Option<NormPlace>,
    /// From the first weight of the layer on.
    pub(super) begin: usize,
}

impl LayerPlaces {
    /// All linear layers, in their order.
    pub(super) fn linear(&self) -> [&LinearPlace; LINEAR] {
        [&self.query_key_value, &self.attention_out, &self.up, &self.down]
    }

    fn linear_mut(&mut self) -> [&mut LinearPlace; LINEAR] {
        [&mut self.query_key_value, &mut self.attention_out, &mut self.up, &mut self.down]
    }
}

/// A low-rank change of one matrix.
#[derive(Debug, Clone)]
struct Adapter {
    layer: usize,
    matrix: LoraMatrix,
    /// Where the matrix lies in the vector of weights. `[outputs, inputs]`
    weight: Range<usize>,
    inputs: usize,
    /// Where the factor that reads the inputs lies among the parameters. `[rank, inputs]`
    down: Range<usize>,
    /// Where the factor that writes the outputs lies. `[outputs, rank]`
    up: Range<usize>,
}

/// What is trained, as one vector of parameters.
#[derive(Debug, Clone)]
enum Parameters {
    Nothing,
    /// The weights from here to the end.
    From(usize),
    /// Factors of low-rank changes, the rank, and how often a change counts.
    LowRank(Vec<Adapter>, usize, f32),
}

/// The weights of all layers and the rule that says which of them move.
#[derive(Debug, Clone)]
pub(super) struct Weights {
    pub(super) values: Vec<f32>,
    pub(super) layers: Vec<LayerPlaces>,
    parameters: Parameters,
    /// As they were before training.
    base: Vec<f32>,
}

fn place(values: &mut Vec<f32>, parts: &[&[f32]]) -> Range<usize> {
    let begin = values.len();
    parts.iter().for_each(|part| values.extend_from_slice(part));
    begin..values.len()
}

fn linear(values: &mut Vec<f32>, parts: &[&BaseMatrix], inputs: usize) -> LinearPlace {
    let weights: Vec<&[f32]> = parts.iter().map(|part| part.weight.as_slice()).collect();
    let biases: Vec<&[f32]> = parts.iter().map(|part| part.bias.as_slice()).collect();
    // Where it stands is said when all of a layer are there.
    LinearPlace {
        weight: place(values, &weights),
        bias: place(values, &biases),
        inputs,
        outputs: parts.iter().map(|part| part.outputs).sum(),
        layer: 0,
        number: 0,
    }
}

fn norm(values: &mut Vec<f32>, from: &BaseNorm) -> NormPlace {
    NormPlace { weight: place(values, &[&from.weight]), bias: place(values, &[&from.bias]) }
}

impl Weights {
    /// Lays out the layers of an encoder.
    pub(super) fn new(base: &BaseWeights, method: &Method) -> Self {
        let EncoderShape { hidden, heads, .. } = base.shape;
        let mut values = Vec::new();
        let mut layers: Vec<LayerPlaces> = base
            .layers
            .iter()
            .map(|layer| LayerPlaces {
                begin: values.len(),
                query_key_value: linear(&mut values, &[&layer.query, &layer.key, &layer.value], hidden),
                attention_out: linear(
                    &mut values,
                    &[&layer.attention_out],
                    hidden / heads.max(1) * layer.shape.heads,
                ),
                attention_norm: layer.attention_norm.as_ref().map(|of| norm(&mut values, of)),
                up: linear(&mut values, &[&layer.up], hidden),
                down: linear(&mut values, &[&layer.down], layer.shape.intermediate),
                norm: norm(&mut values, &layer.norm),
                final_norm: final_norm(layer).map(|of| norm(&mut values, of)),
            })
            .collect();
        for (number, layer) in layers.iter_mut().enumerate() {
            for (place, linear) in layer.linear_mut().into_iter().enumerate() {
                (linear.layer, linear.number) = (number, number * LINEAR + place);
            }
        }
        let parameters = match method {
            Method::Head => Parameters::Nothing,
            Method::Full => Parameters::From(0),
            Method::LastLayers(count) => {
                let first = layers.get(layers.len().saturating_sub(*count));
                Parameters::From(first.map_or(values.len(), |layer| layer.begin))
            }
            Method::Lora { rank, alpha, matrices } => {
                let rank = (*rank).clamp(1, hidden);
                Parameters::LowRank(adapters(&layers, matrices, rank), rank, alpha / rank as f32)
            }
        };
        Self { base: values.clone(), values, layers, parameters }
    }

    /// How many parameters are trained.
    pub(super) fn parameters(&self) -> usize {
        match &self.parameters {
            Parameters::Nothing => 0,
            Parameters::From(first) => self.values.len() - first,
            Parameters::LowRank(adapters, ..) => adapters.last().map_or(0, |adapter| adapter.up.end),
        }
    }

    /// The lowest layer that is trained; as many as there are layers where none is.
    pub(super) fn first_trained(&self) -> usize {
        match &self.parameters {
            Parameters::Nothing => self.layers.len(),
            Parameters::From(first) => {
                self.layers.iter().position(|l| l.begin >= *first).unwrap_or(self.layers.len())
            }
            Parameters::LowRank(..) => 0,
        }
    }

    /// The parameters before the first step: the weights themselves, or changes of nothing.
    pub(super) fn initial(&self, seed: u64) -> Vec<f32> {
        match &self.parameters {
            Parameters::Nothing => Vec::new(),
            Parameters::From(first) => self.base.get(*first..).unwrap_or_default().to_vec(),
            Parameters::LowRank(adapters, ..) => {
                let mut random = Random(seed ^ 0x10_7a);
                let mut parameters = vec![0.0; self.parameters()];
                for adapter in adapters {
                    // Uniform with the deviation 1 / √inputs; the other factor is zero, so nothing changes yet.
                    let width = (3.0 / adapter.inputs.max(1) as f32).sqrt();
                    let values = parameters.get_mut(adapter.down.clone()).unwrap_or_default();
                    values.iter_mut().for_each(|value| {
                        *value = (random.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0) * width;
                    });
                }
                parameters
            }
        }
    }

    /// Whether a parameter's matrix may shrink: all of a low-rank change, and matrices, but no bias and no normalisation.
    pub(super) fn decayed(&self) -> Vec<Range<usize>> {
        match &self.parameters {
            Parameters::Nothing => Vec::new(),
            Parameters::From(first) => {
                let matrices = self.layers.iter().flat_map(|layer| layer.linear().map(|l| l.weight.clone()));
                matrices
                    .filter(|range| range.start >= *first)
                    .map(|range| range.start - first..range.end - first)
                    .collect()
            }
            Parameters::LowRank(..) => std::iter::once(0..self.parameters()).collect(),
        }
    }

    /// Takes over the parameters.
    pub(super) fn take(&mut self, parameters: &[f32]) {
        match &self.parameters {
            Parameters::Nothing => {}
            Parameters::From(first) => {
                let values = self.values.get_mut(*first..).unwrap_or_default();
                values.iter_mut().zip(parameters).for_each(|(to, from)| *to = *from);
            }
            Parameters::LowRank(adapters, rank, factor) => {
                for adapter in adapters {
                    let (Some(values), Some(base), Some(up), Some(down)) = (
                        self.values.get_mut(adapter.weight.clone()),
                        self.base.get(adapter.weight.clone()),
                        parameters.get(adapter.up.clone()),
                        parameters.get(adapter.down.clone()),
                    ) else {
                        continue;
                    };
                    values.copy_from_slice(base);
                    add_product(*factor, matrix(up, *rank), matrix(down, adapter.inputs), values);
                }
            }
        }
    }

    /// The low-rank changes that these parameters are; none where something else is trained.
    pub(super) fn changes(&self, parameters: &[f32]) -> Option<Vec<LoraChange>> {
        let Parameters::LowRank(adapters, rank, factor) = &self.parameters else { return None };
        let change = |adapter: &Adapter| {
            let up = parameters.get(adapter.up.clone())?;
            Some(LoraChange {
                layer: adapter.layer,
                matrix: adapter.matrix,
                rank: *rank,
                down: parameters.get(adapter.down.clone())?.to_vec(),
                up: up.iter().map(|value| factor * value).collect(),
            })
        };
        adapters.iter().map(change).collect()
    }

    pub(super) fn slice(&self, range: &Range<usize>) -> &[f32] {
        self.values.get(range.clone()).unwrap_or_default()
    }

    /// Adds the gradient of a linear layer to that of the parameters. `inputs` is `[tokens, inputs]`, `slopes`, the gradient
    /// of its outputs, is `[tokens, outputs]`.
    pub(super) fn add_linear(
        &self,
        gradient: &mut [f32],
        (place, parameters): (&LinearPlace, &[f32]),
        (inputs, slopes): (&[f32], &[f32]),
        brains: Option<&Brains>,
    ) {
        let outputs = place.outputs;
        match &self.parameters {
            Parameters::From(first) if place.weight.start >= *first => {
                let out = gradient.get_mut(place.weight.start - first..place.weight.end - first);
                match (out, brains) {
                    (Some(out), Some(brains)) => brains.add_gradient(place, slopes, inputs, out),
                    (Some(out), None) => {
                        let slopes = matrix(slopes, outputs).reversed_axes();
                        add_product(1.0, slopes, matrix(inputs, place.inputs), out);
                    }
                    (None, _) => {}
                }
                let bias = gradient.get_mut(place.bias.start - first..place.bias.end - first);
                if let Some(out) = bias.filter(|bias| !bias.is_empty()) {
                    add_rows(slopes, out);
                }
            }
            Parameters::LowRank(adapters, rank, factor) => {
                let inside = |adapter: &&Adapter| {
                    adapter.weight.start >= place.weight.start && adapter.weight.end <= place.weight.end
                };
                for adapter in adapters.iter().filter(inside) {
                    let (Some(up), Some(down)) =
                        (parameters.get(adapter.up.clone()), parameters.get(adapter.down.clone()))
                    else {
                        continue;
                    };
                    let from = (adapter.weight.start - place.weight.start) / place.inputs.max(1);
                    let to = (adapter.weight.end - place.weight.start) / place.inputs.max(1);
                    let all = matrix(slopes, outputs);
                    if to > all.ncols() {
                        continue;
                    }
                    let slopes = all.slice(s![.., from..to]);
                    let inputs = matrix(inputs, place.inputs);
                    let mut narrow = vec![0.0; inputs.nrows() * rank];
                    add_product(*factor, inputs, matrix(down, adapter.inputs).reversed_axes(), &mut narrow);
                    if let Some(out) = gradient.get_mut(adapter.up.clone()) {
                        add_product(1.0, slopes.reversed_axes(), matrix(&narrow, *rank), out);
                    }
                    narrow.fill(0.0);
                    add_product(*factor, slopes, matrix(up, *rank), &mut narrow);
                    if let Some(out) = gradient.get_mut(adapter.down.clone()) {
                        add_product(1.0, matrix(&narrow, *rank).reversed_axes(), inputs, out);
                    }
                }
            }
            _ => {}
        }
    }

    /// Where a normalisation's gradient goes, if it is trained; that of its bias is empty where it has none.
    pub(super) fn norm_gradient<'a>(
        &self,
        gradient: &'a mut [f32],
        place: &NormPlace,
    ) -> Option<(&'a mut [f32], &'a mut [f32])> {
        let Parameters::From(first) = self.parameters else { return None };
        let begin = place.weight.start.checked_sub(first)?;
        let both = gradient.get_mut(begin..place.bias.end - first)?;
        Some(both.split_at_mut(place.weight.len()))
    }

    /// The changed tensors under their names in the files.
    pub(super) fn tensors(&self, base: &BaseWeights) -> BTreeMap<String, Vec<f32>> {
        let mut tensors: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        // Matrices of one name lie there one below the other.
        let mut add = |name: &str, weight: &Range<usize>, bias: &Range<usize>| {
            tensors.entry(format!("{name}.weight")).or_default().extend_from_slice(self.slice(weight));
            if !bias.is_empty() {
                tensors.entry(format!("{name}.bias")).or_default().extend_from_slice(self.slice(bias));
            }
        };
        for (layer, places) in base.layers.iter().zip(&self.layers).skip(self.first_trained()) {
            for (number, part) in [&layer.query, &layer.key, &layer.value].into_iter().enumerate() {
                let place = &places.query_key_value;
                let third = |range: &Range<usize>| {
                    let size = range.len() / 3;
                    range.start + number * size..range.start + (number + 1) * size
                };
                add(&part.name, &third(&place.weight), &third(&place.bias));
            }
            for (part, place) in [
                (&layer.attention_out, &places.attention_out),
                (&layer.up, &places.up),
                (&layer.down, &places.down),
            ] {
                add(&part.name, &place.weight, &place.bias);
            }
            for (part, place) in [
                (layer.attention_norm.as_ref(), places.attention_norm.as_ref()),
                (Some(&layer.norm), Some(&places.norm)),
                (final_norm(layer), places.final_norm.as_ref()),
            ] {
                if let (Some(part), Some(place)) = (part, place) {
                    add(&part.name, &place.weight, &place.bias);
                }
            }
        }
        tensors
    }
}

/// What is behind the last layer of an encoder that normalises first.
fn final_norm(layer: &BaseLayer) -> Option<&BaseNorm> {
    layer.pre_norm.as_ref().and_then(|own| own.final_norm.as_ref())
}

/// The low-rank changes of all layers, their factors one after the other.
fn adapters(layers: &[LayerPlaces], matrices: &[LoraMatrix], rank: usize) -> Vec<Adapter> {
    let mut adapters: Vec<Adapter> = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        for which in matrices {
            let (place, third) = match which {
                LoraMatrix::Query => (&layer.query_key_value, Some(0)),
                LoraMatrix::Key => (&layer.query_key_value, Some(1)),
                LoraMatrix::Value => (&layer.query_key_value, Some(2)),
                LoraMatrix::AttentionOut => (&layer.attention_out, None),
                LoraMatrix::Up => (&layer.up, None),
                LoraMatrix::Down => (&layer.down, None),
            };
            let weight = third.map_or_else(
                || place.weight.clone(),
                |third: usize| {
                    let size = place.weight.len() / 3;
                    place.weight.start + third * size..place.weight.start + (third + 1) * size
                },
            );
            let begin = adapters.last().map_or(0, |before| before.up.end);
            let middle = begin + rank * place.inputs;
            let outputs = weight.len() / place.inputs.max(1);
            adapters.push(Adapter {
                layer: number,
                matrix: *which,
                weight,
                inputs: place.inputs,
                down: begin..middle,
                up: middle..middle + outputs * rank,
            });
        }
    }
    adapters
}
