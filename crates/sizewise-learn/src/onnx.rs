//! What does an encoder look like to programs that read ONNX?
//!
//! One graph of operator set 17 in floating point: `input_ids` and `attention_mask` go in, `last_hidden_state` and
//! `sentence_embedding` come out, pooled as the encoder's files say and of unit length. Texts stand at the left of a batch,
//! padding at their right. Bytes are multiplied by their scales, so the graph computes what the encoder computes but for the
//! rounding of activations. Matrices are stored turned round, as the graph multiplies them.

mod wire;

use crate::error::{Error, Result};
use sizewise_models::encoder::{
    Activation, BaseLayer, BaseMatrix, BaseNorm, BaseWeights, EncoderFiles, EncoderShape, Pooling,
};
use wire::{Attribute, Axis, Graph};

/// Protocol buffers end at two gigabytes.
const MOST_BYTES: usize = 2_000_000_000;
/// Added to the score of padding: after the exponential nothing is left of it.
const MASKED: f32 = -1e9;

/// The graph of an encoder as the bytes of a `.onnx` file.
///
/// # Errors
/// Fails when a file is damaged, of a family that this build does not write (ModernBERT), or larger than ONNX allows.
pub fn graph(files: &EncoderFiles<&[u8]>) -> Result<Vec<u8>> {
    let weights = BaseWeights::read(files).map_err(|error| match error {
        sizewise_models::Error::Unsupported { file, problem } if problem.contains("modernbert") => {
            let problem =
                "this build writes bert, distilbert, roberta and xlm-roberta as ONNX, not modernbert".into();
            sizewise_models::Error::Unsupported { file, problem }
        }
        other => other,
    })?;
    check_size(&weights.shape)?;
    let mut writer = Writer { graph: Graph::default(), shape: &weights.shape };
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
}

impl Writer<'_> {
    fn write(&mut self, weights: &BaseWeights) {
        let free = [Axis::Free("texts"), Axis::Free("tokens")];
        let hidden = Axis::Fixed(self.shape.hidden);
        self.graph.input("input_ids", &free);
        self.graph.input("attention_mask", &free);
        self.graph.output("last_hidden_state", &[free[0], free[1], hidden]);
        self.graph.output("sentence_embedding", &[free[0], hidden]);
        self.constants();
        self.embeddings(weights);
        let mut below = "embedded".to_owned();
        for (number, layer) in weights.layers.iter().enumerate() {
            let is_last = number + 1 == weights.layers.len();
            let output = if is_last { "last_hidden_state".to_owned() } else { format!("layer.{number}") };
            self.layer(layer, number, (&below, &output));
            below = output;
        }
        self.pool();
    }

    fn constants(&mut self) {
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
        // Zero: as it was.
        self.graph.integers("shape.heads", &[0, 0, shape.heads as i64, size as i64]);
        self.graph.integers("shape.hidden", &[0, 0, shape.hidden as i64]);
    }

    /// Word embeddings and positions, normalised; the mask in both forms.
    fn embeddings(&mut self, weights: &BaseWeights) {
        let shape = self.shape;
        self.graph.floats("words", &[shape.vocabulary, shape.hidden], weights.words.iter().copied());
        self.graph.floats("positions", &[shape.positions, shape.hidden], weights.positions.iter().copied());
        self.op("Gather", &["words", "input_ids"], "word_vectors");
        let last = [("start", Attribute::Integer(1)), ("end", Attribute::Integer(2))];
        self.graph.node("Shape", (&["input_ids"], "tokens"), &last);
        self.op("Slice", &["positions", "axis.0", "tokens", "axis.0"], "position_vectors");
        self.op("Add", &["word_vectors", "position_vectors"], "embedding_sum");
        self.norm(&weights.norm, ("embedding_sum", "embedded"));
        self.graph.node("Cast", (&["attention_mask"], "mask"), &[("to", Attribute::Integer(1))]);
        self.op("Sub", &["one", "mask"], "padding");
        self.op("Mul", &["padding", "masked"], "padding_scores");
        self.op("Unsqueeze", &["padding_scores", "axes.heads"], "mask_scores");
    }

    fn layer(&mut self, layer: &BaseLayer, number: usize, (below, output): (&str, &str)) {
        let name = |part: &str| format!("layer.{number}.{part}");
        for (matrix, part, order) in [
            (&layer.query, "query", [0, 2, 1, 3]),
            (&layer.key, "key", [0, 2, 3, 1]),
            (&layer.value, "value", [0, 2, 1, 3]),
        ] {
            let (flat, split, turned) =
                (name(part), name(&format!("{part}.split")), name(&format!("{part}.heads")));
            self.linear(matrix, (below, &flat));
            self.op("Reshape", &[&flat, "shape.heads"], &split);
            self.turn(&split, &turned, &order);
        }
        let [products, scaled, scores, shares] = ["products", "scaled", "scores", "shares"].map(name);
        self.op("MatMul", &[&name("query.heads"), &name("key.heads")], &products);
        self.op("Mul", &[&products, "attention_scale"], &scaled);
        self.op("Add", &[&scaled, "mask_scores"], &scores);
        self.graph.node("Softmax", (&[&scores], &shares), &[("axis", Attribute::Integer(-1))]);
        let [seen, turned, context, attention] = ["seen", "seen.turned", "context", "attention"].map(name);
        self.op("MatMul", &[&shares, &name("value.heads")], &seen);
        self.turn(&seen, &turned, &[0, 2, 1, 3]);
        self.op("Reshape", &[&turned, "shape.hidden"], &context);
        self.linear(&layer.attention_out, (&context, &attention));
        let [attention_sum, middle] = ["attention.sum", "middle"].map(name);
        self.op("Add", &[&attention, below], &attention_sum);
        self.norm(&layer.attention_norm, (&attention_sum, &middle));
        let [wide, active, narrow, sum] = ["wide", "active", "narrow", "sum"].map(name);
        self.linear(&layer.up, (&middle, &wide));
        self.activation(&wide, &active);
        self.linear(&layer.down, (&active, &narrow));
        self.op("Add", &[&narrow, &middle], &sum);
        self.norm(&layer.norm, (&sum, output));
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
        let BaseMatrix { name, weight, bias } = matrix;
        let outputs = bias.len();
        let inputs = weight.len() / outputs.max(1);
        let [weights, biases] = ["weight", "bias"].map(|part| format!("{name}.{part}"));
        let column = |input: usize| weight.iter().skip(input).step_by(inputs.max(1)).copied();
        self.graph.floats(&weights, &[inputs, outputs], (0..inputs).flat_map(column));
        self.graph.floats(&biases, &[outputs], bias.iter().copied());
        let product = format!("{output}.product");
        self.op("MatMul", &[input, &weights], &product);
        self.op("Add", &[&product, &biases], output);
    }

    fn norm(&mut self, norm: &BaseNorm, (input, output): (&str, &str)) {
        let BaseNorm { name, weight, bias } = norm;
        let [weights, biases] = ["weight", "bias"].map(|part| format!("{name}.{part}"));
        self.graph.floats(&weights, &[weight.len()], weight.iter().copied());
        self.graph.floats(&biases, &[bias.len()], bias.iter().copied());
        let attributes =
            [("axis", Attribute::Integer(-1)), ("epsilon", Attribute::Float(self.shape.epsilon))];
        self.graph.node("LayerNormalization", (&[input, &weights, &biases], output), &attributes);
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
