//! Which training examples are most like this input?
//!
//! Exact search over 8-bit unit vectors: ten thousand rows take a fraction of a millisecond, and no index can be wrong.

use crate::{
    error::Result,
    kernels::widest,
    memory::InMemory,
    tensors::{self, Output, Tensors},
};

/// Name and version of the file format.
const FORMAT: &str = "sizewise-neighbours/1";
/// Most rows that are kept; of a larger training set an even sample stands for the rest.
pub const NEIGHBOUR_ROWS: usize = 20_000;

/// Training rows as unit vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbours {
    dimensions: usize,
    /// `[rows, dimensions]`
    vectors: Vec<i8>,
    /// Position of each row among the training rows. `[rows]`
    rows: Vec<u32>,
    /// One over the length of each rounded vector. `[rows]`
    scales: Vec<f32>,
}

/// One training row with its cosine to the input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// Position among the training rows.
    pub row: u32,
    /// Cosine, from -1 to 1.
    pub cosine: f32,
}

impl Neighbours {
    /// Keeps unit vectors. `vectors` is `[rows, dimensions]`.
    #[must_use]
    pub fn new(vectors: &[f32], dimensions: usize) -> Self {
        let dimensions = dimensions.max(1);
        let total = vectors.len() / dimensions;
        let kept = total.min(NEIGHBOUR_ROWS);
        let rows: Vec<u32> = (0..kept).map(|position| (position * total / kept.max(1)) as u32).collect();
        let kept_vectors = rows
            .iter()
            .filter_map(|row| vectors.get(*row as usize * dimensions..(*row as usize + 1) * dimensions));
        let rounded = kept_vectors.flatten().map(|value| round(*value)).collect();
        Self::from_parts(dimensions, rounded, rows)
    }

    fn from_parts(dimensions: usize, vectors: Vec<i8>, rows: Vec<u32>) -> Self {
        let scales = vectors.chunks_exact(dimensions).map(scale_of).collect();
        Self { dimensions, vectors, rows, scales }
    }

    /// Numbers the rows anew, where the vectors were those of some training rows only. `training_rows` is `[vectors]`.
    #[must_use]
    pub fn renumbered(mut self, training_rows: &[usize]) -> Self {
        for row in &mut self.rows {
            *row = training_rows.get(*row as usize).map_or(*row, |row| *row as u32);
        }
        self
    }

    /// How many rows are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The `count` nearest rows, nearest first, leaving out the row at `except` (a row's own position).
    #[must_use]
    pub fn nearest(&self, embedding: &[f32], count: usize, except: Option<u32>) -> Vec<Neighbour> {
        let count = count.min(self.len());
        let query: Vec<i8> = embedding.iter().take(self.dimensions).map(|value| round(*value)).collect();
        let mut found: Vec<Neighbour> = Vec::with_capacity(count + 1);
        widest(
            #[inline(always)]
            || {
                let own_scale = scale_of(&query);
                let rows = self.rows.iter().zip(&self.scales);
                for (vector, (&row, scale)) in self.vectors.chunks_exact(self.dimensions).zip(rows) {
                    let cosine = dot(vector, &query) as f32 * scale * own_scale;
                    let last = found.last().map_or(f32::NEG_INFINITY, |worst| worst.cosine);
                    if (found.len() < count || cosine > last) && Some(row) != except {
                        let at = found.partition_point(|other| other.cosine >= cosine);
                        found.insert(at, Neighbour { row, cosine });
                        found.truncate(count);
                    }
                }
            },
        );
        found
    }

    /// Writes the rows as bytes.
    ///
    /// # Errors
    /// Fails only where a rule inside is broken.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        tensors::write(
            FORMAT,
            &[
                Output::bytes("vectors", &[self.len(), self.dimensions], &self.vectors),
                Output::integers("rows", &[self.len()], &self.rows),
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
        match tensors.shape("vectors")?.as_slice() {
            &[rows, dimensions] if dimensions > 0 => Ok(Self::from_parts(
                dimensions,
                tensors.bytes("vectors", &[rows, dimensions])?,
                tensors.integers("rows", &[rows])?,
            )),
            other => {
                Err(tensors.damaged(format!("tensor `vectors` has shape {other:?}, not [rows, dimensions]")))
            }
        }
    }
}

/// One vector, rounded as those of [`Neighbours`] are.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitVector {
    values: Box<[i8]>,
    /// One over the length of the rounded vector.
    scale: f32,
}

impl UnitVector {
    /// Rounds a unit vector.
    #[must_use]
    pub fn of(values: &[f32]) -> Self {
        let values: Box<[i8]> = values.iter().map(|value| round(*value)).collect();
        let scale = scale_of(&values);
        Self { values, scale }
    }

    /// The place of the vector most like this one, the first of equals, with its cosine.
    pub fn nearest<'v>(&self, mut others: impl Iterator<Item = &'v Self>) -> Option<(usize, f32)> {
        widest(
            #[inline(always)]
            || {
                let mut best: Option<(usize, f32)> = None;
                for (place, other) in others.by_ref().enumerate() {
                    let cosine = dot(&self.values, &other.values) as f32 * self.scale * other.scale;
                    if best.is_none_or(|(_, known)| cosine > known) {
                        best = Some((place, cosine));
                    }
                }
                best
            },
        )
    }
}

/// Entries of unit vectors of some hundred dimensions rarely exceed a quarter; larger ones are cut.
const SCALE: f32 = 127.0 * 4.0;

fn round(value: f32) -> i8 {
    (value * SCALE).round().clamp(-127.0, 127.0) as i8
}

/// One over the length of a rounded vector.
#[inline(always)]
fn scale_of(vector: &[i8]) -> f32 {
    1.0 / (dot(vector, vector).max(1) as f32).sqrt()
}

#[inline(always)]
fn dot(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(x, y)| i32::from(i16::from(*x) * i16::from(*y))).sum()
}

impl InMemory for Neighbours {
    fn held_bytes(&self) -> usize {
        self.vectors.held_bytes() + self.rows.held_bytes() + self.scales.held_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unit vectors that turn slowly in a space of 64 dimensions.
    fn circle(count: usize) -> Vec<f32> {
        (0..count)
            .flat_map(|i| {
                let angle = i as f32 * 0.01;
                (0..64).map(move |d| if d % 2 == 0 { angle.cos() } else { angle.sin() } / 32f32.sqrt())
            })
            .collect()
    }

    #[test]
    fn the_nearest_rows_come_first() {
        let vectors = circle(300);
        let neighbours = Neighbours::new(&vectors, 64);
        let found = neighbours.nearest(&vectors[100 * 64..101 * 64], 3, Some(100));
        assert!(
            found.iter().all(|n| (90..=110).contains(&n.row) && n.row != 100 && n.cosine > 0.99),
            "{found:?}"
        );
        assert!(found.windows(2).all(|pair| pair[0].cosine >= pair[1].cosine));
        assert_eq!(Neighbours::from_bytes("n", &neighbours.to_bytes().unwrap()).unwrap(), neighbours);
    }

    #[test]
    fn a_vector_alone_is_compared_as_rows_are() {
        let vectors = circle(300);
        let alone: Vec<UnitVector> = vectors.chunks_exact(64).map(UnitVector::of).collect();
        let neighbours = Neighbours::new(&vectors, 64);
        for row in [0usize, 100, 299] {
            let others = alone.iter().enumerate().filter(|(place, _)| *place != row).map(|(_, one)| one);
            let (place, cosine) = alone[row].nearest(others).unwrap();
            let expected = neighbours.nearest(&vectors[row * 64..row * 64 + 64], 1, Some(row as u32))[0];
            assert_eq!(place + usize::from(place >= row), expected.row as usize);
            assert!((cosine - expected.cosine).abs() < 1e-6, "{cosine} and {}", expected.cosine);
        }
        assert_eq!(alone[0].nearest(std::iter::empty()), None);
    }

    #[test]
    fn a_large_training_set_is_sampled_evenly() {
        let neighbours = Neighbours::new(&vec![0.1; 50_000 * 2], 2);
        assert_eq!(neighbours.len(), NEIGHBOUR_ROWS);
        assert_eq!(neighbours.rows.last(), Some(&49_997));
    }
}
