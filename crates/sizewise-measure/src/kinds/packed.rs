//! How are the numbers that tell known inputs from new ones held in little memory?
//!
//! Every served task has them and few ever ask: a symmetric matrix has each number once, and rows are brain floating point, which the
//! release's file has anyway.

use super::known::dot;
use half::bf16;

/// A symmetric matrix.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Symmetric {
    width: usize,
    /// The lower triangle, row after row. `[width × (width + 1) / 2]`
    lower: Vec<f32>,
}

impl Symmetric {
    /// Keeps the lower triangle. `matrix` is `[width, width]`.
    pub(super) fn new(matrix: &[f32], width: usize) -> Self {
        let mut lower = Vec::with_capacity(width * (width + 1) / 2);
        for (row, length) in matrix.chunks_exact(width.max(1)).zip(1..) {
            lower.extend(row.iter().take(length));
        }
        Self { width, lower }
    }

    /// The lower triangle's rows, the first of one number.
    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        (0..self.width).filter_map(|row| {
            let first = row * (row + 1) / 2;
            self.lower.get(first..=first + row)
        })
    }

    /// The product with a vector. `[width]`
    pub(super) fn times(&self, vector: &[f32]) -> Vec<f32> {
        let mut product = vec![0.0f32; self.width];
        for (at, row) in self.rows().enumerate() {
            let Some((diagonal, left)) = row.split_last() else { continue };
            let value = vector.get(at).copied().unwrap_or(0.0);
            product.iter_mut().zip(left).for_each(|(sum, number)| *sum += number * value);
            if let Some(sum) = product.get_mut(at) {
                *sum += diagonal * value + dot(left, vector.get(..at).unwrap_or_default());
            }
        }
        product
    }

    /// All numbers. `[width, width]`
    pub(super) fn whole(&self) -> Vec<f32> {
        let mut whole = vec![0.0; self.width * self.width];
        for (at, row) in self.rows().enumerate() {
            for (other, number) in row.iter().enumerate() {
                for place in [at * self.width + other, other * self.width + at] {
                    if let Some(slot) = whole.get_mut(place) {
                        *slot = *number;
                    }
                }
            }
        }
        whole
    }
}

/// Rows of numbers of eight bits each behind the point.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rows {
    width: usize,
    /// The upper halves of 32-bit floating point numbers. `[rows, width]`
    bits: Vec<u16>,
}

impl Rows {
    /// Rounds rows. `rows` is `[rows, width]`.
    pub(super) fn new(rows: &[f32], width: usize) -> Self {
        Self { width, bits: rows.iter().map(|value| bf16::from_f32(*value).to_bits()).collect() }
    }

    /// The products of all rows with a vector.
    pub(super) fn products<'r>(&'r self, vector: &'r [f32]) -> impl Iterator<Item = f32> + 'r {
        let mut row = vec![0.0; self.width];
        self.bits.chunks_exact(self.width.max(1)).map(move |bits| {
            row.iter_mut().zip(bits).for_each(|(value, bits)| *value = float(*bits));
            dot(&row, vector)
        })
    }

    /// Every row. `[width]` each.
    pub(super) fn iter(&self) -> impl Iterator<Item = Vec<f32>> + '_ {
        self.bits.chunks_exact(self.width.max(1)).map(|bits| bits.iter().map(|bits| float(*bits)).collect())
    }

    /// All numbers. `[rows, width]`
    pub(super) fn whole(&self) -> Vec<f32> {
        self.bits.iter().map(|bits| float(*bits)).collect()
    }
}

#[inline(always)]
fn float(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn a_symmetric_matrix_is_held_whole_and_multiplies() {
        let mut random = Random::new(3);
        for width in [1, 2, 17, 40] {
            let mut matrix = vec![0.0f32; width * width];
            for row in 0..width {
                for column in 0..=row {
                    let number = random.uniform() as f32 - 0.5;
                    matrix[row * width + column] = number;
                    matrix[column * width + row] = number;
                }
            }
            let vector: Vec<f32> = (0..width).map(|_| random.uniform() as f32).collect();
            let held = Symmetric::new(&matrix, width);
            assert_eq!(held.whole(), matrix);
            assert_eq!(held.lower.len(), width * (width + 1) / 2);
            for (found, row) in held.times(&vector).iter().zip(matrix.chunks_exact(width)) {
                assert!((found - dot(row, &vector)).abs() < 1e-5, "{width}");
            }
        }
    }

    #[test]
    fn rows_are_rounded_once() {
        let mut random = Random::new(4);
        let rows: Vec<f32> = (0..6 * 20).map(|_| random.uniform() as f32 - 0.5).collect();
        let held = Rows::new(&rows, 20);
        let rounded = held.whole();
        assert!(rows.iter().zip(&rounded).all(|(value, held)| (value - held).abs() <= value.abs() / 256.0));
        assert_eq!(Rows::new(&rounded, 20), held);
        assert_eq!(held.iter().flatten().collect::<Vec<_>>(), rounded);
        let products: Vec<f32> = held.products(&rows[..20]).collect();
        assert_eq!(products, rounded.chunks_exact(20).map(|row| dot(row, &rows[..20])).collect::<Vec<_>>());
    }
}
