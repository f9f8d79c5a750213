//! What does the static tier answer to one question?
//!
//! One linear layer over the vocabulary's n-grams and the mean static embedding. Each n-gram has one row of 8-bit weights
//! with a scale, so the weights of a text fit into a few cache lines; the dense part stays in full precision.

use crate::{
    error::Result,
    kernels::widest,
    tensors::{self, Output, Tensors},
    vocabulary::Vocabulary,
};

/// Name and version of the file format of a vocabulary.
const VOCABULARY_FORMAT: &str = "sizewise-vocabulary/1";
/// Name and version of the file format of a head.
const HEAD_FORMAT: &str = "sizewise-static-head/1";

impl Vocabulary {
    /// Writes the vocabulary as bytes.
    ///
    /// # Errors
    /// Fails only where a rule inside is broken.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        tensors::write(
            VOCABULARY_FORMAT,
            &[
                Output::longs("hashes", &[self.len()], self.hashes()),
                Output::floats("idf", &[self.len()], self.idf()),
                Output::floats("unseen_idf", &[1], &[self.unseen_idf()]),
            ],
        )
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// Fails when the bytes are damaged, naming the tensor.
    pub fn from_bytes(file: &str, bytes: &[u8]) -> Result<Self> {
        let tensors = Tensors::parse(file, bytes)?;
        tensors.expect_format(VOCABULARY_FORMAT)?;
        let shape = tensors.shape("hashes")?;
        let unseen = tensors.floats("unseen_idf", &[1])?.first().copied().unwrap_or(1.0);
        Ok(Self::from_parts(tensors.longs("hashes", &shape)?, tensors.floats("idf", &shape)?, unseen))
    }
}

/// A linear layer over sparse and dense features.
#[derive(Debug, Clone)]
pub struct StaticHead {
    classes: usize,
    /// `[rows, classes]`
    sparse: Vec<i8>,
    /// `[rows]`
    scales: Vec<f32>,
    /// `[dimensions, classes]`
    dense: Vec<f32>,
    dimensions: usize,
    /// `[classes]`
    bias: Vec<f32>,
    /// Mean static embedding of each class's training rows, of unit length; an output for what is outside of the classes
    /// has none. `[centroids, dimensions]`
    centroids: Vec<f32>,
}

impl StaticHead {
    /// Rounds a fitted layer to 8 bits. `sparse` is `[rows, classes]`, `dense` is `[dimensions, classes]`, `centroids`
    /// is `[centroids, dimensions]`.
    #[must_use]
    pub fn quantize(sparse: &[f32], dense: Vec<f32>, bias: Vec<f32>, centroids: Vec<f32>) -> Self {
        let classes = bias.len().max(1);
        let mut scales = Vec::with_capacity(sparse.len() / classes);
        let mut rounded = Vec::with_capacity(sparse.len());
        for row in sparse.chunks_exact(classes) {
            let largest = row.iter().fold(0.0f32, |largest, weight| largest.max(weight.abs()));
            let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
            scales.push(scale);
            rounded.extend(row.iter().map(|weight| (weight / scale).round() as i8));
        }
        let dimensions = dense.len() / classes;
        Self { classes, sparse: rounded, scales, dense, dimensions, bias, centroids }
    }

    /// Classes it tells apart.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// N-grams it has weights for.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.scales.len()
    }

    /// Computes the logits of one text. `values` are those of the vocabulary, `embedding` is `[dimensions]`, `logits`
    /// is `[classes]`.
    pub fn logits(&self, values: &[(u32, f32)], embedding: &[f32], logits: &mut [f32]) {
        widest(
            #[inline(always)]
            || {
                let classes = self.classes;
                logits.iter_mut().zip(&self.bias).for_each(|(logit, bias)| *logit = *bias);
                for &(row, value) in values {
                    let row = row as usize;
                    if let (Some(weights), Some(scale)) =
                        (self.sparse.get(row * classes..(row + 1) * classes), self.scales.get(row))
                    {
                        let scale = value * scale;
                        logits
                            .iter_mut()
                            .zip(weights)
                            .for_each(|(logit, weight)| *logit += scale * f32::from(*weight));
                    }
                }
                for (value, weights) in embedding.iter().zip(self.dense.chunks_exact(classes)) {
                    logits.iter_mut().zip(weights).for_each(|(logit, weight)| *logit += value * weight);
                }
            },
        );
    }

    /// The largest cosine between the text's embedding (of unit length) and any class's centroid, and the cosine with
    /// the centroid of `class`.
    #[must_use]
    pub fn centroid_cosines(&self, embedding: &[f32], class: usize) -> (f32, f32) {
        widest(
            #[inline(always)]
            || {
                let (mut best, mut own) = (-1.0f32, -1.0f32);
                for (index, centroid) in self.centroids.chunks_exact(self.dimensions.max(1)).enumerate() {
                    let cosine = dot(centroid, embedding);
                    best = best.max(cosine);
                    if index == class {
                        own = cosine;
                    }
                }
                (best, own)
            },
        )
    }

    /// Writes the head as bytes.
    ///
    /// # Errors
    /// Fails only where a rule inside is broken.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let size = self.dimensions.max(1);
        tensors::write(
            HEAD_FORMAT,
            &[
                Output::bytes("sparse", &[self.rows(), self.classes], &self.sparse),
                Output::floats("scales", &[self.rows()], &self.scales),
                Output::floats("dense", &[self.dimensions, self.classes], &self.dense),
                Output::floats("bias", &[self.classes], &self.bias),
                Output::floats("centroids", &[self.centroids.len() / size, size], &self.centroids),
            ],
        )
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// Fails when the bytes are damaged, naming the tensor.
    pub fn from_bytes(file: &str, bytes: &[u8]) -> Result<Self> {
        let tensors = Tensors::parse(file, bytes)?;
        tensors.expect_format(HEAD_FORMAT)?;
        let (rows, classes) = match tensors.shape("sparse")?.as_slice() {
            &[rows, classes] if classes > 0 => (rows, classes),
            other => {
                return Err(
                    tensors.damaged(format!("tensor `sparse` has shape {other:?}, not [rows, classes]"))
                );
            }
        };
        let dimensions = tensors.shape("dense")?.first().copied().unwrap_or(0);
        let centroids = tensors.shape("centroids")?.first().copied().unwrap_or(0);
        if centroids > classes {
            return Err(tensors.damaged(format!("{centroids} centroids for {classes} classes")));
        }
        Ok(Self {
            classes,
            sparse: tensors.bytes("sparse", &[rows, classes])?,
            scales: tensors.floats("scales", &[rows])?,
            dense: tensors.floats("dense", &[dimensions, classes])?,
            dimensions,
            bias: tensors.floats("bias", &[classes])?,
            centroids: tensors.floats("centroids", &[centroids, dimensions])?,
        })
    }
}

/// Eight partial sums, so that the compiler may keep them in one register.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let (a_chunks, b_chunks) = (a.chunks_exact(16), b.chunks_exact(16));
    let tail: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for (sum, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f32>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> StaticHead {
        let sparse = [1.0, -0.5, 0.25, 0.0, 0.0, 0.0, 0.1, 0.2, 0.3];
        StaticHead::quantize(
            &sparse,
            vec![0.5, 0.0, -0.5, 1.0, 1.0, 1.0],
            vec![0.1, 0.2, 0.3],
            vec![1.0, 0.0, 0.0, 1.0, 0.6, 0.8],
        )
    }

    #[test]
    fn logits_are_those_of_the_layer_up_to_rounding() {
        let mut logits = [0.0; 3];
        head().logits(&[(0, 2.0), (2, 1.0), (99, 5.0)], &[1.0, 0.5], &mut logits);
        for (found, expected) in logits.iter().zip([
            0.1 + 2.0 + 0.1 + 0.5 + 0.5,
            0.2 - 1.0 + 0.2 + 0.5,
            0.3 + 0.5 + 0.3 - 0.5 + 0.5,
        ]) {
            assert!((found - expected).abs() < 0.02, "{found} {expected}");
        }
    }

    #[test]
    fn centroids_tell_how_near_a_text_is() {
        let (best, own) = head().centroid_cosines(&[0.6, 0.8], 0);
        assert!((best - 1.0).abs() < 1e-6 && (own - 0.6).abs() < 1e-6);
    }

    #[test]
    fn head_and_vocabulary_survive_writing() {
        let (mut before, mut after) = ([0.0; 3], [0.0; 3]);
        let again = StaticHead::from_bytes("head", &head().to_bytes().unwrap()).unwrap();
        head().logits(&[(0, 1.0)], &[0.3, 0.1], &mut before);
        again.logits(&[(0, 1.0)], &[0.3, 0.1], &mut after);
        assert_eq!(before, after);
        let vocabulary = Vocabulary::new(&[(1 << 40, 1), (7, 3)], 10);
        let again = Vocabulary::from_bytes("vocabulary", &vocabulary.to_bytes().unwrap()).unwrap();
        assert_eq!((again.hashes(), again.idf()), (vocabulary.hashes(), vocabulary.idf()));
        assert!(
            StaticHead::from_bytes("head", &vocabulary.to_bytes().unwrap())
                .unwrap_err()
                .to_string()
                .contains("its format is")
        );
    }
}
