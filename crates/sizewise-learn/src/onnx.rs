//! What does an encoder look like to programs that read ONNX?
//!
//! One graph of operator set 17 in floating point: `input_ids` and `attention_mask` go in, `last_hidden_state` and
//! `sentence_embedding` come out, pooled as the encoder's files say and of unit length. Texts stand at the left of a batch,
//! padding at their right. Bytes are multiplied by their scales, so the graph computes what the encoder computes but for the
//! rounding of activations. Matrices are stored turned round, as the graph multiplies them. A ModernBERT's graph takes as many tokens as
//! this program reads at once.

mod wire;

use crate::error::{Error, Result};
use sizewise_models::encoder::{
    Activation, BaseLayer, BaseMatrix, BaseNorm, BaseWeights, EncoderFiles, EncoderShape, Pooling, PreNorm,
};
use std::{borrow::Cow, collections::BTreeSet};
use wire::{Attribute, Axis, Graph};

/// Protocol buffers end at two gigabytes.
const MOST_BYTES: usize = 2_000_000_000;
/// Added to the score of padding: after the exponential nothing is left of it.
const MASKED: f32 = -1e9;

/// The graph of an encoder as the bytes of a `.onnx` file.
///
/// # Errors
/// Fails when a file is damaged, of a family that this build cannot run, or larger than ONNX allows.
pub fn graph(files: &EncoderFiles<&[u8]>) -> Result<Vec<u8>> {
    let weights = BaseWeights::read(files)?;
    check_size(&weights.shape)?;
    let mut writer = Writer { graph: Graph::default(), shape: &weights.shape, kinds: BTreeSet::new() };
    writer.write(&weights);
    Ok(writer.graph.into_model("encoder"))
}

fn check_size(shape: &EncoderShape) -> Result<()> {
    let layer = 4 * shape.hidden * shape.hidden + 2 * shape.hidden * shape.intermediate;
    let tables = (shape.vocabulary + shape.positions).saturating_mul(shape.hidden);
    let bytes = shape.layers.saturating_mul(layer).saturating_add(tables).saturating_mul(4);
    if bytes > MOST_BYTES {
        return Err(Error::Model(sizewise_models::Error::Unsupported {
            file: "*.safetensors".into(),
            problem: format!(
                "its weights take {:.1} GB as floating point numbers; one ONNX file holds 2 GB",
                bytes as f64 / 1e9
            ),
        }));
    }
    Ok(())
}

struct Writer<'a> {
    graph: Graph,
    shape: &'a EncoderShape,
    /// Whose angles are in the graph.
    kinds: BTreeSet<&'static str>,
}

/// The name of the shape in which each of so many heads stands by itself.
fn heads_shape(heads: usize) -> String {
    format!("shape.heads.{heads}")
}

/// The name of the shape in which what so many heads write stands side by side.
fn attended_shape(heads: usize) -> String {
    format!("shape.attended.{heads}")
}

/// Layers of one kind share their angles.
fn kind(own: &PreNorm<BaseNorm>) -> &'static str {
    if own.window.is_some() { "window" } else { "whole" }
}

/// A part of what has one name in the encoder's file, under a name of its own.
fn with_part<'m>(matrix: &'m BaseMatrix, part: Option<&str>) -> Cow<'m, BaseMatrix> {
    match part {
        None => Cow::Borrowed(matrix),
        Some(part) => Cow::Owned(BaseMatrix { name: format!("{}.{part}", matrix.name), ..matrix.clone() }),
    }
}

impl Writer<'_> {
    fn write(&mut self, weights: &BaseWeights) {
        let free = [Axis::Free("texts"), Axis::Free("tokens")];
        let hidden = Axis::Fixed(self.shape.hidden);
        self.graph.input("input_ids", &free);
        self.graph.input("attention_mask", &free);
        self.graph.output("last_hidden_state", &[free[0], free[1], hidden]);
        self.graph.output("sentence_embedding", &[free[0], hidden]);
        self.constants(weights);
        self.embeddings(weights);
        self.positions(weights);
        let mut below = "embedded".to_owned();
        for (number, layer) in weights.layers.iter().enumerate() {
            let is_last = number + 1 == weights.layers.len();
            let output = if is_last { "last_hidden_state".to_owned() } else { format!("layer.{number}") };
            self.layer(layer, number, (&below, &output));
            below = output;
        }
        self.pool();
    }

    fn constants(&mut self, weights: &BaseWeights) {
        let shape = self.shape;
        let size = shape.hidden / shape.heads;
        let mut numbers = vec![
            ("one", 1.0),
            ("masked", MASKED),
            ("least_norm", 1e-12),
            ("attention_scale", 1.0 / (size as f32).sqrt()),
        ];
        // Runtimes complain about constants that nothing reads.
        numbers.extend_from_slice(match shape.activation {
            Activation::Relu => &[],
            Activation::Gelu => &[("half", 0.5), ("square_root_of_two", std::f32::consts::SQRT_2)],
            // The last is the square root of 2 / π.
            Activation::GeluTanh => &[("half", 0.5), ("cubic", 0.044_715), ("tanh_scale", 0.797_884_6)],
        });
        for (name, value) in numbers {
            self.graph.floats(name, &[], std::iter::once(value));
        }
        self.graph.integers("axis.0", &[0]);
        self.graph.integers("axis.1", &[1]);
        self.graph.integers("axes.heads", &[1, 2]);
        // Layers may have fewer heads than others. Zero: as it was.
        for heads in weights.layers.iter().map(|layer| layer.shape.heads).collect::<BTreeSet<_>>() {
            self.graph.integers(&heads_shape(heads), &[0, 0, heads as i64, size as i64]);
            self.graph.integers(&attended_shape(heads), &[0, 0, (heads * size) as i64]);
        }
    }

    /// Word embeddings and positions, normalised; the mask in both forms.
    fn embeddings(&mut self, weights: &BaseWeights) {
        let shape = self.shape;
        self.graph.floats("words", &[shape.vocabulary, shape.hidden], weights.words.iter().copied());
        self.op("Gather", &["words", "input_ids"], "word_vectors");
        let last = [("start", Attribute::Integer(1)), ("end", Attribute::Integer(2))];
        self.graph.node("Shape", (&["input_ids"], "tokens"), &last);
        if weights.layers.iter().any(|layer| layer.pre_norm.is_none()) {
            let table = [shape.positions, shape.hidden];
            self.graph.floats("positions", &table, weights.positions.iter().copied());
            self.op("Slice", &["positions", "axis.0", "tokens", "axis.0"], "position_vectors");
            self.op("Add", &["word_vectors", "position_vectors"], "embedding_sum");
            self.norm(&weights.norm, ("embedding_sum", "embedded"));
        } else {
            self.norm(&weights.norm, ("word_vectors", "embedded"));
        }
        self.graph.node("Cast", (&["attention_mask"], "mask"), &[("to", Attribute::Integer(1))]);
        self.op("Sub", &["one", "mask"], "padding");
        self.op("Mul", &["padding", "masked"], "padding_scores");
        self.op("Unsqueeze", &["padding_scores", "axes.heads"], "mask_scores");
    }

    /// Where an encoder turns queries and keys by their positions: the angles, and what a window hides.
    fn positions(&mut self, weights: &BaseWeights) {
        let positions = self.shape.positions;
        let size = self.shape.hidden / self.shape.heads;
        for own in weights.layers.iter().filter_map(|layer| layer.pre_norm.as_ref()) {
            let kind = kind(own);
            if !self.kinds.insert(kind) {
                continue;
            }
            for (name, table) in ["cosines", "sines"].into_iter().zip(own.rotary.tables()) {
                let (all, seen) = (format!("{name}.{kind}"), format!("{name}.{kind}.seen"));
                self.graph.floats(&all, &[positions, size], table.into_iter());
                self.op("Slice", &[&all, "axis.0", "tokens", "axis.0"], &seen);
            }
            let Some(window) = own.window else { continue };
            let score = |(from, to): (usize, usize)| if from.abs_diff(to) > window { MASKED } else { 0.0 };
            let pairs = (0..positions).flat_map(|from| (0..positions).map(move |to| (from, to)));
            self.graph.floats("window", &[positions, positions], pairs.map(score));
            self.op("Slice", &["window", "axis.0", "tokens", "axis.0"], "window.rows");
            self.op("Slice", &["window.rows", "axis.0", "tokens", "axis.1"], "window.seen");
            self.op("Add", &["mask_scores", "window.seen"], "mask_scores.window");
        }
        if self.kinds.is_empty() {
            return;
        }
        // (a, b) becomes (-b, a).
        let half = size / 2;
        let turned = (0..size).flat_map(|from| {
            (0..size).map(move |to| match from {
                _ if from == to + half => -1.0,
                _ if from + half == to => 1.0,
                _ => 0.0,
            })
        });
        self.graph.floats("quarter_turn", &[size, size], turned);
    }

    /// Turns what every token has in every head by the token's position.
    fn rotate(&mut self, own: &PreNorm<BaseNorm>, input: &str, output: &str) {
        let name = |part: &str| format!("{output}.{part}");
        let [cosines, sines] = ["cosines", "sines"].map(|table| format!("{table}.{}.seen", kind(own)));
        self.op("Mul", &[input, &cosines], &name("along"));
        self.op("MatMul", &[input, "quarter_turn"], &name("across"));
        self.op("Mul", &[&name("across"), &sines], &name("across.share"));
        self.op("Add", &[&name("along"), &name("across.share")], output);
    }

    fn layer(&mut self, layer: &BaseLayer, number: usize, (below, output): (&str, &str)) {
        let name = |part: &str| format!("layer.{number}.{part}");
        let own = layer.pre_norm.as_ref();
        let read = match (own, &layer.attention_norm) {
            (Some(_), Some(norm)) => {
                self.norm(norm, (below, &name("read")));
                name("read")
            }
            _ => below.to_owned(),
        };
        for (matrix, part, order) in [
            (&layer.query, "query", [0, 2, 1, 3]),
            (&layer.key, "key", [0, 2, 3, 1]),
            (&layer.value, "value", [0, 2, 1, 3]),
        ] {
            let [flat, split, turned] =
                [part.to_owned(), format!("{part}.split"), format!("{part}.heads")].map(|part| name(&part));
            self.linear(&with_part(matrix, own.map(|_| part)), (&read, &flat));
            self.op("Reshape", &[&flat, &heads_shape(layer.shape.heads)], &split);
            let Some(own) = own.filter(|_| part != "value") else {
                self.turn(&split, &turned, &order);
                continue;
            };
            let [plain, placed] = ["plain", "placed"].map(|step| name(&format!("{part}.{step}")));
            self.turn(&split, &plain, &[0, 2, 1, 3]);
            if part == "key" {
                self.rotate(own, &plain, &placed);
                self.turn(&placed, &turned, &[0, 1, 3, 2]);
            } else {
                self.rotate(own, &plain, &turned);
            }
        }
        let [products, scaled, scores, shares] = ["products", "scaled", "scores", "shares"].map(name);
        self.op("MatMul", &[&name("query.heads"), &name("key.heads")], &products);
        self.op("Mul", &[&products, "attention_scale"], &scaled);
        let hidden = own.and_then(|own| own.window).map_or("mask_scores", |_| "mask_scores.window");
        self.op("Add", &[&scaled, hidden], &scores);
        self.graph.node("Softmax", (&[&scores], &shares), &[("axis", Attribute::Integer(-1))]);
        let [seen, turned, context, attention] = ["seen", "seen.turned", "context", "attention"].map(name);
        self.op("MatMul", &[&shares, &name("value.heads")], &seen);
        self.turn(&seen, &turned, &[0, 2, 1, 3]);
        self.op("Reshape", &[&turned, &attended_shape(layer.shape.heads)], &context);
        self.linear(&layer.attention_out, (&context, &attention));
        let [middle, active, narrow, sum] = ["middle", "active", "narrow", "sum"].map(name);
        match own {
            None => {
                let [attention_sum, wide] = ["attention.sum", "wide"].map(name);
                self.op("Add", &[&attention, below], &attention_sum);
                if let Some(norm) = &layer.attention_norm {
                    self.norm(norm, (&attention_sum, &middle));
                }
                self.linear(&layer.up, (&middle, &wide));
                self.activation(&wide, &active);
                self.linear(&layer.down, (&active, &narrow));
                self.op("Add", &[&narrow, &middle], &sum);
                self.norm(&layer.norm, (&sum, output));
            }
            Some(own) => {
                let fed = name("fed");
                self.op("Add", &[&attention, below], &middle);
                self.norm(&layer.norm, (&middle, &fed));
                self.gated(&layer.up, (&fed, &active));
                self.linear(&layer.down, (&active, &narrow));
                match &own.final_norm {
                    None => self.op("Add", &[&narrow, &middle], output),
                    Some(norm) => {
                        self.op("Add", &[&narrow, &middle], &sum);
                        self.norm(norm, (&sum, output));
                    }
                }
            }
        }
    }

    /// The first feed-forward matrix where its lower half gates the activation of the upper one.
    fn gated(&mut self, up: &BaseMatrix, (input, output): (&str, &str)) {
        let name = |part: &str| format!("{output}.{part}");
        let (weight, gate_weight) = up.weight.split_at(up.weight.len() / 2);
        let (bias, gate_bias) = up.bias.split_at(up.bias.len() / 2);
        for (part, weight, bias) in [("wide", weight, bias), ("gates", gate_weight, gate_bias)] {
            let half = BaseMatrix {
                name: format!("{}.{part}", up.name),
                weight: weight.to_vec(),
                bias: bias.to_vec(),
                outputs: up.outputs / 2,
            };
            self.linear(&half, (input, &name(part)));
        }
        self.activation(&name("wide"), &name("active"));
        self.op("Mul", &[&name("active"), &name("gates")], output);
    }

    fn activation(&mut self, input: &str, output: &str) {
        let name = |part: &str| format!("{output}.{part}");
        match self.shape.activation {
            Activation::Relu => return self.op("Relu", &[input], output),
            Activation::Gelu => {
                self.op("Div", &[input, "square_root_of_two"], &name("scaled"));
                self.op("Erf", &[&name("scaled")], &name("curve"));
            }
            Activation::GeluTanh => {
                self.op("Mul", &[input, input], &name("square"));
                self.op("Mul", &[&name("square"), "cubic"], &name("part"));
                self.op("Add", &[&name("part"), "one"], &name("factor"));
                self.op("Mul", &[&name("factor"), input], &name("bent"));
                self.op("Mul", &[&name("bent"), "tanh_scale"], &name("scaled"));
                self.op("Tanh", &[&name("scaled")], &name("curve"));
            }
        }
        self.op("Add", &[&name("curve"), "one"], &name("gate"));
        self.op("Mul", &[input, &name("gate")], &name("double"));
        self.op("Mul", &[&name("double"), "half"], output);
    }

    fn pool(&mut self) {
        match self.shape.pooling {
            Pooling::Mean => {
                let keep = [("keepdims", Attribute::Integer(0))];
                self.graph.integers("axis.2", &[2]);
                self.op("Unsqueeze", &["mask", "axis.2"], "mask_of_vectors");
                self.op("Mul", &["last_hidden_state", "mask_of_vectors"], "kept");
                self.graph.node("ReduceSum", (&["kept", "axis.1"], "total"), &keep);
                self.graph.node("ReduceSum", (&["mask_of_vectors", "axis.1"], "count"), &keep);
                self.op("Div", &["total", "count"], "pooled");
            }
            Pooling::Cls => {
                self.op("Slice", &["last_hidden_state", "axis.0", "axis.1", "axis.1"], "first");
                self.op("Squeeze", &["first", "axis.1"], "pooled");
            }
        }
        let last = [("axes", Attribute::Integers(&[-1])), ("keepdims", Attribute::Integer(1))];
        self.graph.node("ReduceL2", (&["pooled"], "norm"), &last);
        self.op("Max", &["norm", "least_norm"], "safe_norm");
        self.op("Div", &["pooled", "safe_norm"], "sentence_embedding");
    }

    /// A linear layer. The weights of a file are `[outputs, inputs]`, those of the graph `[inputs, outputs]`.
    fn linear(&mut self, matrix: &BaseMatrix, (input, output): (&str, &str)) {
        let BaseMatrix { name, weight, bias, outputs } = matrix;
        let inputs = weight.len() / outputs.max(&1);
        let [weights, biases] = ["weight", "bias"].map(|part| format!("{name}.{part}"));
        let column = |input: usize| weight.iter().skip(input).step_by(inputs.max(1)).copied();
        self.graph.floats(&weights, &[inputs, *outputs], (0..inputs).flat_map(column));
        if bias.is_empty() {
            return self.op("MatMul", &[input, &weights], output);
        }
        self.graph.floats(&biases, &[*outputs], bias.iter().copied());
        let product = format!("{output}.product");
        self.op("MatMul", &[input, &weights], &product);
        self.op("Add", &[&product, &biases], output);
    }

    fn norm(&mut self, norm: &BaseNorm, (input, output): (&str, &str)) {
        let BaseNorm { name, weight, bias } = norm;
        let [weights, biases] = ["weight", "bias"].map(|part| format!("{name}.{part}"));
        self.graph.floats(&weights, &[weight.len()], weight.iter().copied());
        let mut inputs = vec![input, weights.as_str()];
        if !bias.is_empty() {
            self.graph.floats(&biases, &[bias.len()], bias.iter().copied());
            inputs.push(&biases);
        }
        let attributes =
            [("axis", Attribute::Integer(-1)), ("epsilon", Attribute::Float(self.shape.epsilon))];
        self.graph.node("LayerNormalization", (&inputs, output), &attributes);
    }

    fn turn(&mut self, input: &str, output: &str, order: &[i64]) {
        self.graph.node("Transpose", (&[input], output), &[("perm", Attribute::Integers(order))]);
    }

    fn op(&mut self, kind: &str, inputs: &[&str], output: &str) {
        self.graph.node(kind, (inputs, output), &[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sizewise_models::builtin;

    #[test]
    fn the_built_in_encoder_has_a_graph_of_its_size() {
        let bytes = graph(&builtin::encoder_files()).unwrap();
        // Four bytes a weight: 30522 words, 512 positions, six layers of 384 and 1536.
        let least = 4 * (384 * (30_522 + 512) + 6 * (4 * 384 * 384 + 2 * 384 * 1536));
        assert!((least..least + 200_000).contains(&bytes.len()), "{} for {least}", bytes.len());
        let has = |name: &str| bytes.windows(name.len()).any(|part| part == name.as_bytes());
        assert!(has("sentence_embedding") && has("LayerNormalization") && has("attention_mask"));
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let mut files = builtin::encoder_files();
        let modern =
            br#"{"model_type":"modernbert","vocab_size":9,"max_position_embeddings":9,"hidden_size":8,
            "num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":9,"hidden_activation":"gelu"}"#;
        files.config = modern;
        let error = graph(&files).unwrap_err().to_string();
        assert!(error.contains("modernbert") || error.contains("tok_embeddings"), "{error}");
        let shape = EncoderShape {
            hidden: 4_096,
            layers: 48,
            heads: 8,
            intermediate: 16_384,
            vocabulary: 250_000,
            positions: 512,
            activation: Activation::Gelu,
            epsilon: 1e-5,
            pooling: Pooling::Mean,
            pooled: vec![48],
        };
        assert!(check_size(&shape).unwrap_err().to_string().contains("one ONNX file holds 2 GB"));
    }
}
