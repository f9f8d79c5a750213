//! How does a batch of texts go through an encoder that learns, and how does the error come back?
//!
//! The same steps as the run-time form, with everything kept that the backward pass reads. Texts are packed one after the
//! other, so nothing is computed for padding.

use super::{
    Precision,
    attention::Heads,
    brains::Brains,
    floats::{NormTape, activate, activate_backward, dot, gate, gate_backward, norm, norm_backward},
    matrix::{add_product, matrix},
    weights::{LinearPlace, Method, NormPlace, Weights},
};
use crate::fit::Random;
use sizewise_models::{
    encoder::{BaseLayer, BaseWeights, Pooling},
    widest,
};

/// An encoder in its training form.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) base: BaseWeights,
    pub(super) weights: Weights,
    /// Where products are of brain floating point numbers.
    brains: Option<Brains>,
    threads: usize,
}

/// What the backward pass reads.
#[derive(Debug, Default)]
pub(super) struct Tape {
    /// Tokens of each text.
    lengths: Vec<usize>,
    /// The embedding layer's output. `[tokens, hidden]`
    hidden: Vec<f32>,
    layers: Vec<LayerTape>,
    /// Each text's vector, of unit length. `[texts, dimensions]`
    pub(super) pooled: Vec<f32>,
    /// One over the length of each part before it was made one. `[texts, parts]`
    scales: Vec<f32>,
}

/// One layer's part of it.
#[derive(Debug, Default)]
struct LayerTape {
    /// What attention reads, where it is not what the layer below wrote. `[tokens, hidden]`
    read: Option<Vec<f32>>,
    /// Queries and keys turned by their positions, where the encoder does. `[tokens, 3 · attended]`, where `attended` is what the layer's
    /// heads write
    query_key_value: Vec<f32>,
    /// Of all texts one after the other, each `[heads, tokens, tokens]`.
    attention: Vec<f32>,
    /// `[tokens, attended]`
    context: Vec<f32>,
    /// What dropout did to the output of attention: 0, or one over the share that is kept. `[tokens, hidden]`
    attention_kept: Vec<f32>,
    attention_norm: Option<NormTape>,
    /// Between attention and the feed-forward matrices. `[tokens, hidden]`
    middle: Vec<f32>,
    /// What the feed-forward matrices read, where it is not `middle`. `[tokens, hidden]`
    fed: Option<Vec<f32>>,
    /// Before the activation. `[tokens, intermediate]`, with gates twice as many
    before: Vec<f32>,
    /// After it. `[tokens, intermediate]`
    wide: Vec<f32>,
    /// As above, of the feed-forward matrices' output.
    wide_kept: Vec<f32>,
    norm: NormTape,
    final_norm: Option<NormTape>,
    /// `[tokens, hidden]`
    out: Vec<f32>,
}

/// Dropout (Srivastava et al. 2014) of a share of all activations.
#[derive(Debug)]
pub(super) struct Dropout {
    pub(super) share: f32,
    pub(super) random: Random,
}

impl Dropout {
    /// Sets a share of the values to zero and enlarges the others; returns the factors, none where nothing is dropped.
    fn apply(&mut self, values: &mut [f32]) -> Vec<f32> {
        // In steps of 1/256: one random byte decides about one value.
        let dropped = (self.share * 256.0).round().clamp(0.0, 255.0) as u8;
        if dropped == 0 {
            return Vec::new();
        }
        let factor = 256.0 / (256.0 - f32::from(dropped));
        let mut kept = Vec::with_capacity(values.len() + 8);
        while kept.len() < values.len() {
            let bytes = self.random.next().to_le_bytes();
            kept.extend(bytes.map(|byte| if byte < dropped { 0.0 } else { factor }));
        }
        kept.truncate(values.len());
        scale_by(values, &kept);
        kept
    }
}

/// Multiplies each value by its factor; no factors mean ones.
fn scale_by(values: &mut [f32], factors: &[f32]) {
    values.iter_mut().zip(factors).for_each(|(value, factor)| *value *= factor);
}

fn add(sums: &mut [f32], values: &[f32]) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}

impl Network {
    pub(super) fn new(base: BaseWeights, method: &Method) -> Self {
        let weights = Weights::new(&base, method);
        Self { base, weights, brains: None, threads: 1 }
    }

    /// Multiplies the layers' matrices in a precision, and arranges them on so many threads.
    pub(super) fn with_precision(mut self, precision: Precision, threads: usize) -> Self {
        self.threads = threads;
        self.brains = (precision == Precision::BFloat16).then(|| {
            let mut brains = Brains::default();
            brains.take(&self.weights, 0, threads);
            brains
        });
        self
    }

    /// Takes over the parameters.
    pub(super) fn take(&mut self, parameters: &[f32]) {
        self.weights.take(parameters);
        if let Some(brains) = &mut self.brains {
            brains.take(&self.weights, self.weights.first_trained(), self.threads);
        }
    }

    /// Length of the vectors.
    pub(super) fn dimensions(&self) -> usize {
        self.base.shape.hidden * self.base.shape.pooled.len()
    }

    /// Embeds texts given as ids, special ones included.
    pub(super) fn forward(&self, texts: &[&[u32]], dropout: &mut Dropout) -> Tape {
        let shape = &self.base.shape;
        let mut tape = Tape {
            lengths: texts.iter().map(|text| text.len()).collect(),
            pooled: vec![0.0; texts.len() * self.dimensions()],
            scales: vec![0.0; texts.len() * shape.pooled.len()],
            ..Tape::default()
        };
        let mut hidden = self.embed(texts);
        let _ = norm(&mut hidden, (&self.base.norm.weight, &self.base.norm.bias), shape.epsilon);
        dropout.apply(&mut hidden);
        tape.hidden = hidden;
        self.pool(&mut tape, 0);
        for layer in 0..self.weights.layers.len() {
            let next = self.layer_forward(layer, &tape, dropout);
            tape.layers.push(next);
            self.pool(&mut tape, layer + 1);
        }
        tape
    }

    fn embed(&self, texts: &[&[u32]]) -> Vec<f32> {
        let size = self.base.shape.hidden;
        let mut hidden = Vec::new();
        for text in texts {
            for (id, position) in text.iter().zip(self.base.positions.chunks_exact(size)) {
                let at = *id as usize * size;
                let word = self.base.words.get(at..at + size).unwrap_or_default();
                hidden.extend(position.iter().zip(word).map(|(a, b)| a + b));
            }
        }
        hidden
    }

    fn linear(&self, place: &LinearPlace, rows: &[f32]) -> Vec<f32> {
        let (bias, tokens) = (self.weights.slice(&place.bias), rows.len() / place.inputs.max(1));
        let mut out = match bias {
            [] => vec![0.0; tokens * place.outputs],
            _ => bias.repeat(tokens),
        };
        match &self.brains {
            Some(brains) => brains.add_forward(place, rows, &mut out),
            None => {
                let weights = matrix(self.weights.slice(&place.weight), place.inputs);
                add_product(1.0, matrix(rows, place.inputs), weights.reversed_axes(), &mut out);
            }
        }
        out
    }

    fn norm(&self, place: &NormPlace, rows: &mut [f32]) -> NormTape {
        let both = (self.weights.slice(&place.weight), self.weights.slice(&place.bias));
        norm(rows, both, self.base.shape.epsilon)
    }

    /// The heads of a layer, and the numbers that they write.
    fn heads(&self, layer: &BaseLayer) -> Heads {
        let (shape, heads) = (&self.base.shape, layer.shape.heads);
        let window = layer.pre_norm.as_ref().and_then(|own| own.window);
        Heads { hidden: shape.hidden / shape.heads.max(1) * heads, heads, window }
    }

    fn layer_forward(&self, number: usize, tape: &Tape, dropout: &mut Dropout) -> LayerTape {
        let mut found = LayerTape::default();
        let (Some(base), Some(places), Some(inputs)) =
            (self.base.layers.get(number), self.weights.layers.get(number), tape.output(number))
        else {
            return found;
        };
        let heads = self.heads(base);
        let hidden = heads.hidden;
        let pre_norm = base.pre_norm.as_ref();
        if let (Some(_), Some(place)) = (pre_norm, &places.attention_norm) {
            let read = found.read.insert(inputs.to_vec());
            found.attention_norm = Some(self.norm(place, read));
        }
        found.query_key_value = self.linear(&places.query_key_value, found.read.as_deref().unwrap_or(inputs));
        found.context = vec![0.0; found.query_key_value.len() / 3];
        let mut rest = (found.query_key_value.as_mut_slice(), found.context.as_mut_slice());
        for length in &tape.lengths {
            let (rows, below) = rest.0.split_at_mut(length * 3 * hidden);
            let (out, out_below) = rest.1.split_at_mut(length * hidden);
            if let Some(own) = pre_norm {
                own.rotary.turn(rows, hidden);
            }
            heads.attend(rows, out, &mut found.attention);
            rest = (below, out_below);
        }
        found.middle = self.linear(&places.attention_out, &found.context);
        found.attention_kept = dropout.apply(&mut found.middle);
        add(&mut found.middle, inputs);
        if let (None, Some(place)) = (pre_norm, &places.attention_norm) {
            found.attention_norm = Some(self.norm(place, &mut found.middle));
        }
        if pre_norm.is_some() {
            let fed = found.fed.insert(found.middle.clone());
            found.norm = self.norm(&places.norm, fed);
        }
        let activation = self.base.shape.activation;
        found.before = self.linear(&places.up, found.fed.as_ref().unwrap_or(&found.middle));
        match pre_norm {
            None => activate(activation, &found.before, &mut found.wide),
            Some(_) => gate(activation, (&found.before, places.down.inputs), &mut found.wide),
        }
        found.out = self.linear(&places.down, &found.wide);
        found.wide_kept = dropout.apply(&mut found.out);
        add(&mut found.out, &found.middle);
        if pre_norm.is_none() {
            found.norm = self.norm(&places.norm, &mut found.out);
        }
        found.final_norm = places.final_norm.as_ref().map(|place| self.norm(place, &mut found.out));
        found
    }

    /// Tokens of a text that its vector is the mean of.
    fn pooled_tokens(&self, length: usize) -> usize {
        match self.base.shape.pooling {
            Pooling::Mean => length,
            Pooling::Cls => 1,
        }
    }

    /// How much of the vector each part is: parts of unit length side by side, together of unit length again.
    fn part_scale(&self) -> f32 {
        1.0 / (self.base.shape.pooled.len() as f32).sqrt()
    }

    /// Writes a pooled layer into its part of every text's vector.
    fn pool(&self, tape: &mut Tape, layer: usize) {
        let shape = &self.base.shape;
        let Some(part) = shape.pooled.iter().position(|pooled| *pooled == layer) else { return };
        let (size, parts) = (shape.hidden, shape.pooled.len());
        let mut pooled = std::mem::take(&mut tape.pooled);
        let mut scales = std::mem::take(&mut tape.scales);
        if let Some(rows) = tape.output(layer) {
            let mut first = 0;
            let texts = pooled.chunks_exact_mut(size * parts).zip(scales.chunks_exact_mut(parts));
            for (length, (vector, scales)) in tape.lengths.iter().zip(texts) {
                let end = first + self.pooled_tokens(*length);
                let tokens = rows.get(first * size..end * size).unwrap_or_default();
                if let Some(out) = vector.get_mut(part * size..(part + 1) * size) {
                    tokens.chunks_exact(size).for_each(|token| add(out, token));
                    let length = dot(out, out).sqrt().max(f32::MIN_POSITIVE);
                    let scale = self.part_scale() / length;
                    out.iter_mut().for_each(|value| *value *= scale);
                    scales.iter_mut().skip(part).take(1).for_each(|slot| *slot = 1.0 / length);
                }
                first += length;
            }
        }
        (tape.pooled, tape.scales) = (pooled, scales);
    }

    /// Adds a pooled layer's share of the gradient of the vectors to that of its tokens.
    fn pool_backward(&self, tape: &Tape, slopes: &[f32], layer: usize, out: &mut [f32]) {
        let shape = &self.base.shape;
        let Some(part) = shape.pooled.iter().position(|pooled| *pooled == layer) else { return };
        let (size, parts, share) = (shape.hidden, shape.pooled.len(), self.part_scale());
        let mut first = 0;
        let vectors = tape.pooled.chunks_exact(size * parts).zip(slopes.chunks_exact(size * parts));
        for ((length, scales), (vector, slopes)) in
            tape.lengths.iter().zip(tape.scales.chunks_exact(parts)).zip(vectors)
        {
            let place = part * size..(part + 1) * size;
            if let (Some(vector), Some(slopes), Some(scale)) =
                (vector.get(place.clone()), slopes.get(place), scales.get(part))
            {
                // Only what is across a unit vector changes its direction.
                let along = dot(vector, slopes) / (share * share);
                let across: Vec<f32> = vector
                    .iter()
                    .zip(slopes)
                    .map(|(value, slope)| (slope - value * along) * scale * share)
                    .collect();
                let end = first + self.pooled_tokens(*length);
                let tokens = out.get_mut(first * size..end * size).unwrap_or_default();
                tokens.chunks_exact_mut(size).for_each(|token| add(token, &across));
            }
            first += length;
        }
    }

    /// Adds the gradient of the parameters, given that of the vectors. `slopes` is `[texts, dimensions]`.
    pub(super) fn backward(&self, tape: &Tape, slopes: &[f32], parameters: &[f32], gradient: &mut [f32]) {
        let mut current = vec![0.0; tape.hidden.len()];
        let first = self.weights.first_trained();
        for number in (first..self.weights.layers.len()).rev() {
            widest(
                #[inline(always)]
                || self.pool_backward(tape, slopes, number + 1, &mut current),
            );
            let below =
                self.layer_backward(number, tape, (&mut current, number > first), (parameters, gradient));
            current = below;
        }
    }

    /// Turns the gradient of a layer's outputs into that of its inputs.
    fn layer_backward(
        &self,
        number: usize,
        tape: &Tape,
        (slopes, wanted_below): (&mut [f32], bool),
        (parameters, gradient): (&[f32], &mut [f32]),
    ) -> Vec<f32> {
        let (Some(base), Some(places), Some(kept), Some(inputs)) = (
            self.base.layers.get(number),
            self.weights.layers.get(number),
            tape.layers.get(number),
            tape.output(number),
        ) else {
            return Vec::new();
        };
        let (weights, brains) = (&self.weights, self.brains.as_ref());
        let pre_norm = base.pre_norm.as_ref();
        if let (Some(place), Some(kept)) = (&places.final_norm, &kept.final_norm) {
            self.norm_backward(slopes, (place, kept), gradient);
        }
        if pre_norm.is_none() {
            self.norm_backward(slopes, (&places.norm, &kept.norm), gradient);
        }
        let mut update = slopes.to_vec();
        scale_by(&mut update, &kept.wide_kept);
        weights.add_linear(gradient, (&places.down, parameters), (&kept.wide, &update), brains);
        let mut wide = self.linear_backward(&places.down, &update, Vec::new());
        let activation = self.base.shape.activation;
        match pre_norm {
            None => activate_backward(activation, &kept.before, &mut wide),
            Some(_) => wide = gate_backward(activation, (&kept.before, places.down.inputs), wide),
        }
        let fed = kept.fed.as_ref().unwrap_or(&kept.middle);
        weights.add_linear(gradient, (&places.up, parameters), (fed, &wide), brains);
        let mut middle = match pre_norm {
            None => self.linear_backward(&places.up, &wide, slopes.to_vec()),
            Some(_) => {
                let mut middle = self.linear_backward(&places.up, &wide, Vec::new());
                self.norm_backward(&mut middle, (&places.norm, &kept.norm), gradient);
                add(&mut middle, slopes);
                middle
            }
        };
        let attention_norm = places.attention_norm.as_ref().zip(kept.attention_norm.as_ref());
        if let (None, Some(norm)) = (pre_norm, attention_norm) {
            self.norm_backward(&mut middle, norm, gradient);
        }
        let mut update = middle.clone();
        scale_by(&mut update, &kept.attention_kept);
        weights.add_linear(gradient, (&places.attention_out, parameters), (&kept.context, &update), brains);
        let context = self.linear_backward(&places.attention_out, &update, Vec::new());
        let rows = self.attention_backward(base, (tape, kept), &context);
        let read = kept.read.as_deref().unwrap_or(inputs);
        weights.add_linear(gradient, (&places.query_key_value, parameters), (read, &rows), brains);
        match (pre_norm, attention_norm) {
            (Some(_), Some(norm)) => {
                let mut read = self.linear_backward(&places.query_key_value, &rows, Vec::new());
                self.norm_backward(&mut read, norm, gradient);
                add(&mut middle, &read);
                middle
            }
            _ if wanted_below => self.linear_backward(&places.query_key_value, &rows, middle),
            _ => middle,
        }
    }

    /// Turns the gradient of what attention writes into that of the queries, keys and values before they were turned.
    fn attention_backward(
        &self,
        base: &BaseLayer,
        (tape, kept): (&Tape, &LayerTape),
        context: &[f32],
    ) -> Vec<f32> {
        let heads = self.heads(base);
        let hidden = heads.hidden;
        let mut rows = vec![0.0; kept.query_key_value.len()];
        let (mut at, mut weights_at) = (0, 0);
        for length in &tape.lengths {
            let many = heads.heads * length * length;
            if let (Some(forward), Some(attention), Some(slopes), Some(out)) = (
                kept.query_key_value.get(at * 3 * hidden..(at + length) * 3 * hidden),
                kept.attention.get(weights_at..weights_at + many),
                context.get(at * hidden..(at + length) * hidden),
                rows.get_mut(at * 3 * hidden..(at + length) * 3 * hidden),
            ) {
                heads.backward(forward, attention, slopes, out);
                if let Some(own) = &base.pre_norm {
                    own.rotary.turn_back(out, hidden);
                }
            }
            (at, weights_at) = (at + length, weights_at + many);
        }
        rows
    }

    /// Turns the gradient of a normalisation's outputs into that of its inputs, in place, and adds that of its weights.
    fn norm_backward(
        &self,
        slopes: &mut [f32],
        (place, kept): (&NormPlace, &NormTape),
        gradient: &mut [f32],
    ) {
        let into = self.weights.norm_gradient(gradient, place);
        norm_backward(slopes, kept, self.weights.slice(&place.weight), into);
    }

    /// Adds the gradient of a linear layer's inputs to `sums`; empty sums mean zeros.
    fn linear_backward(&self, place: &LinearPlace, slopes: &[f32], mut sums: Vec<f32>) -> Vec<f32> {
        let outputs = place.outputs.max(1);
        sums.resize(slopes.len() / outputs * place.inputs, 0.0);
        match &self.brains {
            Some(brains) => brains.add_back(place, slopes, &mut sums),
            None => {
                let weights = matrix(self.weights.slice(&place.weight), place.inputs);
                add_product(1.0, matrix(slopes, outputs), weights, &mut sums);
            }
        }
        sums
    }
}

impl Tape {
    /// The output of a layer, from 1; 0 is the embedding layer.
    fn output(&self, layer: usize) -> Option<&[f32]> {
        match layer.checked_sub(1) {
            None => Some(&self.hidden),
            Some(below) => self.layers.get(below).map(|layer| layer.out.as_slice()),
        }
    }
}
