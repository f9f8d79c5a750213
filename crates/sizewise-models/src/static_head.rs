//! What does the static tier answer to one question?
//!
//! One linear layer over the vocabulary's n-grams and the mean static embedding. Each n-gram has one row of 8-bit weights
//! with a scale, so the weights of a text fit into a few cache lines; the dense part has 8 bits as well.

use crate::{
    class_vectors::{ClassVectors, ROUNDER},
    error::Result,
    kernels::{LONGEST_DOTS, MOST_ROWS, WeightedRows, prefetch},
    memory::InMemory,
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
                Output::longs("hashes", &[self.len()], &self.hashes()),
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
        Ok(Self::from_parts(&tensors.longs("hashes", &shape)?, tensors.floats("idf", &shape)?, unseen))
    }
}

/// Numbers that one instruction takes, on the widest machines.
const LANES: usize = 16;
/// From so many classes on, rows are filled up to whole lanes; below, the filling would be most of the row.
const FILLED_FROM: usize = 9;

/// A linear layer over sparse and dense features. Rows are filled with zeros up to `stride`.
#[derive(Debug, Clone)]
pub struct StaticHead {
    classes: usize,
    /// Length of a row.
    stride: usize,
    /// `[rows, stride]`
    sparse: Vec<i8>,
    /// `[rows]`
    scales: Vec<f32>,
    /// What the mean embedding's elements count for each class.
    dense: ClassVectors,
    dimensions: usize,
    /// `[classes]`
    bias: Vec<f32>,
    /// Mean static embedding of each class's training rows, of unit length; an output for what is outside of the classes has none.
    centroids: ClassVectors,
}

impl StaticHead {
    /// Rounds a fitted layer to 8 bits. `sparse` is `[rows, classes]`, `dense` is `[dimensions, classes]`, `centroids`
    /// is `[centroids, dimensions]`.
    #[must_use]
    pub fn quantize(sparse: &[f32], dense: &[f32], bias: Vec<f32>, centroids: &[f32]) -> Self {
        let classes = bias.len().max(1);
        let mut scales = Vec::with_capacity(sparse.len() / classes);
        let mut rounded = Vec::with_capacity(sparse.len());
        for row in sparse.chunks_exact(classes) {
            let largest = row.iter().fold(0.0f32, |largest, weight| largest.max(weight.abs()));
            let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
            scales.push(scale);
            rounded.extend(row.iter().map(|weight| (weight / scale).round() as i8));
        }
        Self::filled(&rounded, scales, dense, bias, centroids)
    }

    /// Brings the parts into the form that runs. `sparse` is `[rows, classes]`, the rest is as in [`Self::quantize`].
    fn filled(sparse: &[i8], scales: Vec<f32>, dense: &[f32], bias: Vec<f32>, centroids: &[f32]) -> Self {
        let classes = bias.len().max(1);
        let stride = if classes < FILLED_FROM { classes } else { classes.next_multiple_of(LANES) };
        let dimensions = dense.len() / classes;
        Self {
            classes,
            stride,
            sparse: fill(sparse, classes, stride),
            scales,
            dense: ClassVectors::new(&turned(dense, classes), dimensions),
            dimensions,
            bias,
            centroids: ClassVectors::new(centroids, dimensions),
        }
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

    /// The logits of one text. `values` are those of the vocabulary, `embedding` is `[dimensions]`.
    #[must_use]
    pub fn logits(&self, values: &[(u32, f32)], embedding: &[f32]) -> Vec<f32> {
        // The rows lie apart from one another; while they come, the dense part is computed.
        values.iter().for_each(|(row, _)| prefetch(self.row(*row)));
        let mut sums = Vec::with_capacity(self.stride);
        sums.extend_from_slice(&self.bias);
        sums.resize(self.stride, 0.0);
        self.dense.add_products(embedding, &mut sums);
        self.add_rows(values, &mut sums);
        sums.truncate(self.classes);
        sums
    }

    /// Adds the n-grams' weights. What each counts is rounded to a byte, from nothing to the largest of the text.
    fn add_rows(&self, values: &[(u32, f32)], sums: &mut [f32]) {
        let count =
            |(row, value): &(u32, f32)| value * self.scales.get(*row as usize).copied().unwrap_or(0.0);
        // Several at a time, as none of them waits for another.
        let mut lanes = [0.0f32; 8];
        for values in values.chunks(lanes.len()) {
            for (lane, value) in lanes.iter_mut().zip(values) {
                let count = count(value);
                *lane = if count > *lane { count } else { *lane };
            }
        }
        let largest = lanes.into_iter().fold(0.0, f32::max);
        if largest <= 1e-30 || largest >= 1e30 {
            return;
        }
        let (inverse, scale) = (255.0 / largest, largest / 255.0);
        for values in values.chunks(MOST_ROWS) {
            // The integer is in the low bits: nothing counts more than the largest.
            let weights =
                values.iter().map(|value| (value.0, (count(value) * inverse + ROUNDER).to_bits() as u8));
            WeightedRows::new(weights).add_to(&self.sparse, scale, sums);
        }
    }

    /// The weights of an n-gram; none of one that is not known.
    #[inline(always)]
    fn row(&self, row: u32) -> &[i8] {
        let at = row as usize * self.stride;
        self.sparse.get(at..at + self.stride).unwrap_or_default()
    }

    /// The largest cosine between the text's embedding (of unit length) and any class's centroid, and the cosine with
    /// the centroid of `class`.
    #[must_use]
    pub fn centroid_cosines(&self, embedding: &[f32], class: usize) -> (f32, f32) {
        let mut cosines = vec![0.0f32; self.centroids.count()];
        self.centroids.add_products(embedding, &mut cosines);
        let best = cosines.iter().copied().fold(-1.0, f32::max);
        (best, cosines.get(class).copied().unwrap_or(-1.0))
    }

    /// Writes the head as bytes.
    ///
    /// # Errors
    /// Fails only where a rule inside is broken.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let dense = turned(&self.dense.to_floats(), self.dimensions);
        tensors::write(
            HEAD_FORMAT,
            &[
                Output::bytes("sparse", &[self.rows(), self.classes], &unfill(&self.sparse, self)),
                Output::floats("scales", &[self.rows()], &self.scales),
                Output::floats("dense", &[self.dimensions, self.classes], &dense),
                Output::floats("bias", &[self.classes], &self.bias),
                Output::floats(
                    "centroids",
                    &[self.centroids.count(), self.dimensions],
                    &self.centroids.to_floats(),
                ),
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
        if dimensions > LONGEST_DOTS {
            return Err(tensors.damaged(format!(
                "tensor `dense` has {dimensions} dimensions; at most {LONGEST_DOTS} are read"
            )));
        }
        let scales = tensors.floats("scales", &[rows])?;
        if let Some(row) = scales.iter().position(|scale| !scale.is_finite() || *scale < 0.0) {
            return Err(
                tensors.damaged(format!("tensor `scales` has no scale at {row}: below zero or no number"))
            );
        }
        Ok(Self::filled(
            &tensors.bytes("sparse", &[rows, classes])?,
            scales,
            &tensors.floats("dense", &[dimensions, classes])?,
            tensors.floats("bias", &[classes])?,
            &tensors.floats("centroids", &[centroids, dimensions])?,
        ))
    }
}

/// A matrix with rows for columns. `matrix` is `[rows, columns]`
fn turned(matrix: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| matrix.iter().skip(column).step_by(columns).copied()).collect()
}

/// Fills rows up to `stride`.
fn fill<T: Copy + Default>(rows: &[T], classes: usize, stride: usize) -> Vec<T> {
    let mut filled = Vec::with_capacity(rows.len() / classes * stride);
    for row in rows.chunks_exact(classes) {
        filled.extend_from_slice(row);
        filled.resize(filled.len() + stride - classes, T::default());
    }
    filled
}

/// Takes out what [`fill`] put in.
fn unfill<T: Copy>(rows: &[T], head: &StaticHead) -> Vec<T> {
    rows.chunks_exact(head.stride).flat_map(|row| row.iter().take(head.classes).copied()).collect()
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

impl InMemory for StaticHead {
    fn held_bytes(&self) -> usize {
        let dense = self.dense.held_bytes() + self.centroids.held_bytes();
        self.sparse.held_bytes() + self.scales.held_bytes() + self.bias.held_bytes() + dense
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> StaticHead {
        let sparse = [1.0, -0.5, 0.25, 0.0, 0.0, 0.0, 0.1, 0.2, 0.3];
        StaticHead::quantize(
            &sparse,
            &[0.5, 0.0, -0.5, 1.0, 1.0, 1.0],
            vec![0.1, 0.2, 0.3],
            &[1.0, 0.0, 0.0, 1.0, 0.6, 0.8],
        )
    }

    #[test]
    fn logits_are_those_of_the_layer_up_to_rounding() {
        let logits = head().logits(&[(0, 2.0), (2, 1.0), (99, 5.0)], &[1.0, 0.5]);
        for (found, expected) in logits.iter().zip([
            0.1 + 2.0 + 0.1 + 0.5 + 0.5,
            0.2 - 1.0 + 0.2 + 0.5,
            0.3 + 0.5 + 0.3 - 0.5 + 0.5,
        ]) {
            assert!((found - expected).abs() < 0.02, "{found} {expected}");
        }
    }

    #[test]
    fn any_number_of_classes_gives_what_plain_sums_give() {
        for classes in [1, 2, 8, 9, 16, 17, 63, 64, 65, 77, 130] {
            let number = |i: usize| ((i * 7_919) % 255) as f32 / 127.0 - 1.0;
            let sparse: Vec<f32> = (0..5 * classes).map(number).collect();
            let dense: Vec<f32> = (0..3 * classes).map(|i| number(i + 13)).collect();
            let bias: Vec<f32> = (0..classes).map(|i| number(i + 29)).collect();
            let centroids: Vec<f32> = (0..3 * classes).map(|i| number(i + 31)).collect();
            let head = StaticHead::quantize(&sparse, &dense, bias.clone(), &centroids);
            let head = StaticHead::from_bytes("head", &head.to_bytes().unwrap()).unwrap();
            let (values, embedding) = ([(4, 0.5), (1, 1.5)], [0.25, -0.5, 0.75]);
            let logits = head.logits(&values, &embedding);
            let cosine = |class: usize| -> f32 {
                embedding.iter().zip(&centroids[class * 3..]).map(|(x, y)| x * y).sum()
            };
            for class in 0..classes {
                let sum = values.iter().map(|(row, value)| value * sparse[*row as usize * classes + class]);
                let products = embedding.iter().zip(dense.iter().skip(class).step_by(classes));
                let plain = bias[class] + sum.sum::<f32>() + products.map(|(x, y)| x * y).sum::<f32>();
                assert!((logits[class] - plain).abs() < 0.03, "{classes} classes, {class}: {plain}");
                let (best, own) = head.centroid_cosines(&embedding, class);
                assert!((own - cosine(class)).abs() < 0.01, "{classes} classes, {class}");
                assert!((0..classes).all(|other| cosine(other) <= best + 0.01));
            }
        }
    }

    #[test]
    fn centroids_tell_how_near_a_text_is() {
        let (best, own) = head().centroid_cosines(&[0.6, 0.8], 0);
        assert!((best - 1.0).abs() < 0.01 && (own - 0.6).abs() < 0.01);
    }

    #[test]
    fn head_and_vocabulary_survive_writing() {
        let again = StaticHead::from_bytes("head", &head().to_bytes().unwrap()).unwrap();
        assert_eq!(head().logits(&[(0, 1.0)], &[0.3, 0.1]), again.logits(&[(0, 1.0)], &[0.3, 0.1]));
        assert_eq!(again.to_bytes().unwrap(), head().to_bytes().unwrap());
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
