//! How is a graph written in ONNX's form?
//!
//! The few messages of `onnx.proto` (ONNX 1.12, IR version 8) that a graph of plain operators needs, in protocol buffers'
//! encoding: a tag of field number and kind before every value, lengths before texts and messages.

/// Version of the format, the one that came with operator set 17.
const IR_VERSION: u64 = 8;
/// The operators: 17 is the first with LayerNormalization.
const OPERATOR_SET: u64 = 17;
const FLOAT: u64 = 1;
const INT64: u64 = 7;

/// A message under construction.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn integer(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    fn message(self, field: u64, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }
}

/// What an operator takes beside its inputs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attribute<'a> {
    /// One whole number.
    Integer(i64),
    /// One number.
    Float(f32),
    /// Whole numbers.
    Integers(&'a [i64]),
}

/// The size of an axis of a graph's input or output.
#[derive(Debug, Clone, Copy)]
pub(super) enum Axis {
    /// Whatever comes; equal where the names are equal.
    Free(&'static str),
    /// Always so many.
    Fixed(usize),
}

/// A graph under construction.
#[derive(Debug, Default)]
pub(super) struct Graph {
    fields: Message,
}

impl Graph {
    /// Adds an operator with one output.
    pub(super) fn node(
        &mut self,
        kind: &str,
        (inputs, output): (&[&str], &str),
        attributes: &[(&str, Attribute<'_>)],
    ) {
        let mut node = inputs.iter().fold(Message::default(), |node, input| node.text(1, input));
        node = node.text(2, output).text(3, output).text(4, kind);
        for (name, value) in attributes {
            let attribute = Message::default().text(1, name);
            let attribute = match value {
                Attribute::Float(value) => attribute.float(2, *value).integer(20, 1),
                Attribute::Integer(value) => attribute.integer(3, *value as u64).integer(20, 2),
                Attribute::Integers(values) => {
                    values.iter().fold(attribute, |all, value| all.integer(8, *value as u64)).integer(20, 7)
                }
            };
            node = node.message(5, &attribute);
        }
        self.add(1, &node);
    }

    /// Adds a constant of floating point numbers.
    pub(super) fn floats(&mut self, name: &str, shape: &[usize], values: impl Iterator<Item = f32>) {
        self.constant((name, FLOAT), shape, values.flat_map(f32::to_le_bytes).collect());
    }

    /// Adds a constant of whole numbers in a row.
    pub(super) fn integers(&mut self, name: &str, values: &[i64]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant((name, INT64), &[values.len()], bytes);
    }

    fn constant(&mut self, (name, kind): (&str, u64), shape: &[usize], bytes: Vec<u8>) {
        let tensor = shape.iter().fold(Message::default(), |tensor, size| tensor.integer(1, *size as u64));
        self.add(5, &tensor.integer(2, kind).text(8, name).bytes(9, &bytes));
    }

    /// Names an input of whole numbers.
    pub(super) fn input(&mut self, name: &str, shape: &[Axis]) {
        self.add(11, &value(name, INT64, shape));
    }

    /// Names an output of floating point numbers.
    pub(super) fn output(&mut self, name: &str, shape: &[Axis]) {
        self.add(12, &value(name, FLOAT, shape));
    }

    fn add(&mut self, field: u64, message: &Message) {
        self.fields = std::mem::take(&mut self.fields).message(field, message);
    }

    /// The whole file.
    pub(super) fn into_model(self, name: &str) -> Vec<u8> {
        let graph = self.fields.text(2, name);
        let operators = Message::default().text(1, "").integer(2, OPERATOR_SET);
        let model = Message::default().integer(1, IR_VERSION).text(2, "sizewise");
        model.text(3, env!("CARGO_PKG_VERSION")).message(7, &graph).message(8, &operators).0
    }
}

/// A name with type and shape.
fn value(name: &str, kind: u64, shape: &[Axis]) -> Message {
    let shape = shape.iter().fold(Message::default(), |shape, axis| {
        let axis = match axis {
            Axis::Fixed(size) => Message::default().integer(1, *size as u64),
            Axis::Free(name) => Message::default().text(2, name),
        };
        shape.message(1, &axis)
    });
    let tensor = Message::default().integer(1, kind).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of `onnx` 1.23: `helper.make_node("Gather", ["a", "b"], ["c"], name="c", axis=1)`.
    #[test]
    fn a_node_is_written_as_the_onnx_package_writes_it() {
        let mut graph = Graph::default();
        graph.node("Gather", (&["a", "b"], "c"), &[("axis", Attribute::Integer(1))]);
        let node =
            b"\x0a\x01a\x0a\x01b\x12\x01c\x1a\x01c\x22\x06Gather\x2a\x0b\x0a\x04axis\x18\x01\xa0\x01\x02";
        assert_eq!(graph.fields.0, [&[0x0a, node.len() as u8], &node[..]].concat());
    }

    #[test]
    fn numbers_of_every_size_and_sign_are_written() {
        assert_eq!(Message::default().integer(1, 300).0, [8, 0xac, 2]);
        assert_eq!(Message::default().integer(1, -1i64 as u64).0.len(), 11);
        assert_eq!(Message::default().float(2, 1.0).0, [0x15, 0, 0, 0x80, 0x3f]);
    }
}
