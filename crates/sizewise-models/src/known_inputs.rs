//! What do the inputs look like that a release knows, as bytes?
//!
//! Numbers of one space of vectors (the encoder's, or the static tier's): linear discriminants of classes, and rows that nothing was
//! fitted to. What they are for is `measure::kinds`; here is their file alone.

use crate::{
    error::Result,
    memory::InMemory,
    tensors::{self, Output, Tensors},
};

/// Name and version of the file format.
const FORMAT: &str = "sizewise-known-inputs/1";

/// The known inputs of one space.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownInputs {
    /// Length of the vectors.
    pub width: usize,
    /// Inverse of the covariance within classes. `[width, width]`
    pub precision: Vec<f32>,
    /// `[classes, width]`
    pub directions: Vec<f32>,
    /// `[classes]`
    pub offsets: Vec<f32>,
    /// Rows that neither the encoder nor anything here was fitted to, rounded to brain floating point in the file. `[references, width]`
    pub references: Vec<f32>,
}

impl KnownInputs {
    /// Writes the numbers as bytes.
    ///
    /// # Errors
    /// Fails where a length does not fit the others.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let (width, classes) = (self.width.max(1), self.offsets.len());
        let references = self.references.len() / width;
        tensors::write(
            FORMAT,
            &[
                Output::floats("precision", &[width, width], &self.precision),
                Output::floats("directions", &[classes, width], &self.directions),
                Output::floats("offsets", &[classes], &self.offsets),
                Output::brains("references", &[references, width], &self.references),
            ],
        )
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// Fails when the bytes are damaged, naming the tensor.
    pub fn from_bytes(file: &str, bytes: &[u8]) -> Result<Self> {
        let tensors = Tensors::parse(file, bytes)?;
        tensors.expect_format(FORMAT)?;
        match (tensors.shape("directions")?.as_slice(), tensors.shape("references")?.as_slice()) {
            (&[classes, width], &[references, _]) if width > 0 && classes > 0 && references > 0 => Ok(Self {
                width,
                precision: tensors.floats("precision", &[width, width])?,
                directions: tensors.floats("directions", &[classes, width])?,
                offsets: tensors.floats("offsets", &[classes])?,
                references: tensors.floats("references", &[references, width])?,
            }),
            other => Err(tensors.damaged(format!("its tensors have shapes {other:?}"))),
        }
    }
}

impl InMemory for KnownInputs {
    fn held_bytes(&self) -> usize {
        let tables = [&self.precision, &self.directions, &self.offsets, &self.references];
        tables.iter().map(|table| table.held_bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> KnownInputs {
        KnownInputs {
            width: 2,
            precision: vec![1.0, 0.0, 0.0, 1.0],
            directions: vec![0.5, 0.25, -0.5, 1.0],
            offsets: vec![0.1, 0.2],
            references: vec![0.5, -0.25, 1.0, 0.0, 0.125, 2.0],
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_cut_bytes_are_refused() {
        let bytes = known().to_bytes().unwrap();
        assert_eq!(KnownInputs::from_bytes("known", &bytes).unwrap(), known());
        for length in [0, 10, bytes.len() - 1] {
            assert!(KnownInputs::from_bytes("known", &bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn lengths_that_do_not_fit_each_other_are_refused() {
        assert!(KnownInputs { offsets: vec![0.1], ..known() }.to_bytes().is_err());
        let none = KnownInputs { references: Vec::new(), ..known() }.to_bytes().unwrap();
        assert!(KnownInputs::from_bytes("known", &none).is_err());
    }
}
