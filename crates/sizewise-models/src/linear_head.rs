//! What does the encoder tier answer to one question?
//!
//! One linear layer over the encoder's embedding, which was shifted and scaled as it was in training.

use crate::{
    error::Result,
    kernels::widest,
    memory::InMemory,
    tensors::{self, Output, Tensors},
};

/// Name and version of the file format.
const FORMAT: &str = "sizewise-linear-head/1";

/// A linear layer over an embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearHead {
    dimensions: usize,
    /// `[classes, dimensions]`
    weights: Vec<f32>,
    /// `[classes]`
    bias: Vec<f32>,
}

impl LinearHead {
    /// Makes a head that reads raw embeddings from one that was fitted to standardised ones, (x − mean) / scale.
    /// `weights` is `[dimensions, classes]`, `mean` is `[dimensions]`.
    #[must_use]
    pub fn from_standardised(weights: &[f32], bias: &[f32], mean: &[f32], scale: f32) -> Self {
        let (classes, dimensions) = (bias.len().max(1), mean.len());
        let mut turned = vec![0.0; weights.len()];
        let mut shifted = bias.to_vec();
        for (dimension, (row, mean)) in weights.chunks_exact(classes).zip(mean).enumerate() {
            for (class, (weight, bias)) in row.iter().zip(&mut shifted).enumerate() {
                if let Some(slot) = turned.get_mut(class * dimensions + dimension) {
                    *slot = weight / scale;
                }
                *bias -= weight * mean / scale;
            }
        }
        Self { dimensions, weights: turned, bias: shifted }
    }

    /// Multiplies its logits: the same answers, surer or less sure.
    #[must_use]
    pub fn sharpened(mut self, by: f32) -> Self {
        self.weights.iter_mut().chain(&mut self.bias).for_each(|value| *value *= by);
        self
    }

    /// Classes it tells apart.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.bias.len()
    }

    /// Length of the embeddings it reads.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Computes the logits of one embedding. `[classes]`
    pub fn logits(&self, embedding: &[f32], logits: &mut [f32]) {
        widest(
            #[inline(always)]
            || {
                let rows = self.weights.chunks_exact(self.dimensions.max(1));
                for ((logit, row), bias) in logits.iter_mut().zip(rows).zip(&self.bias) {
                    *logit = bias + crate::static_head::dot(row, embedding);
                }
            },
        );
    }

    /// Writes the head as bytes.
    ///
    /// # Errors
    /// Fails only where a rule inside is broken.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        tensors::write(
            FORMAT,
            &[
                Output::floats("weights", &[self.classes(), self.dimensions], &self.weights),
                Output::floats("bias", &[self.classes()], &self.bias),
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
        match tensors.shape("weights")?.as_slice() {
            &[classes, dimensions] if classes > 0 => Ok(Self {
                dimensions,
                weights: tensors.floats("weights", &[classes, dimensions])?,
                bias: tensors.floats("bias", &[classes])?,
            }),
            other => {
                Err(tensors
                    .damaged(format!("tensor `weights` has shape {other:?}, not [classes, dimensions]")))
            }
        }
    }
}

impl InMemory for LinearHead {
    fn held_bytes(&self) -> usize {
        self.weights.held_bytes() + self.bias.held_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standardising_is_folded_into_the_weights() {
        let head = LinearHead::from_standardised(&[1.0, 0.0, 0.0, 2.0], &[0.5, -0.5], &[1.0, 2.0], 0.5);
        let mut logits = [0.0; 2];
        head.logits(&[2.0, 3.0], &mut logits);
        // Standardised: (2, 2).
        assert!((logits[0] - 2.5).abs() < 1e-6 && (logits[1] - 3.5).abs() < 1e-6, "{logits:?}");
        assert_eq!(LinearHead::from_bytes("head", &head.to_bytes().unwrap()).unwrap(), head);
    }

    #[test]
    fn a_sharpened_head_has_its_logits_multiplied() {
        let head = LinearHead::from_standardised(&[1.0, 0.5, 0.25, 2.0], &[0.5, -0.5], &[1.0, 2.0], 1.0);
        let (mut plain, mut sharp) = ([0.0; 2], [0.0; 2]);
        head.logits(&[2.0, 3.0], &mut plain);
        head.sharpened(2.0).logits(&[2.0, 3.0], &mut sharp);
        assert_eq!(sharp, plain.map(|logit| 2.0 * logit));
    }
}
