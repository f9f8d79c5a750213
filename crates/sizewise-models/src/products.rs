//! How are the large matrices of training multiplied on processors that have instructions for it?
//!
//! In brain floating point (bfloat16), summed in 32 bits: what is multiplied keeps eight bits of precision and the whole range of
//! exponents, which gradients need (Kalamkar et al. 2019), and what is added up keeps all of them. The weights themselves stay
//! with whoever trains them, in 32 bits.

use crate::kernels::{BrainRows, Kernel, PackedBrains, Scratch};

/// How the numbers of a matrix `[m, n]` lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Row after row.
    Rows,
    /// Column after column.
    Columns,
}

/// The right side of products, arranged for the processor.
#[derive(Debug, Clone)]
pub struct RightSide(PackedBrains);

/// What multiplies. One for each thread.
#[derive(Debug)]
pub struct Products {
    left: BrainRows,
    scratch: Scratch,
}

impl RightSide {
    /// A matrix without numbers.
    #[must_use]
    pub fn new() -> Self {
        Self(PackedBrains::new(&[], Vec::new()))
    }

    /// Takes the numbers of a matrix of so many rows; what does not fill a row or a column is left out.
    pub fn set(&mut self, values: &[f32], rows: usize, order: Order) {
        self.0.arrange(values, rows, order);
    }
}

impl Default for RightSide {
    fn default() -> Self {
        Self::new()
    }
}

impl Products {
    /// Whether this machine is faster with these products than with those of 32-bit numbers.
    #[must_use]
    pub fn pay() -> bool {
        Kernel::best() != Kernel::Portable && Kernel::best().has_brains()
    }

    /// Makes what the fastest kernel of this machine needs.
    #[must_use]
    pub fn new() -> Self {
        Self { left: BrainRows::new(), scratch: Scratch::new(Kernel::best()) }
    }

    /// out += left · right. `left` is `[m, k]`, `right` is `[k, n]`, `out` is `[m, n]`; sizes that do not fit leave it as it is.
    pub fn add(&mut self, (left, order): (&[f32], Order), right: &RightSide, out: &mut [f32]) {
        let shared = right.0.inputs();
        match order {
            Order::Rows => self.left.set(left, shared),
            Order::Columns => self.left.set_columns(left, shared),
        }
        right.0.multiply(&self.left, out, &mut self.scratch, |slot, value| *slot += value);
    }
}

impl Default for Products {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that brain floating point holds exactly, so that products of few of them are exact too.
    fn numbers(count: usize, step: usize) -> Vec<f32> {
        (0..count).map(|i| (i * step % 31) as f32 - 15.0).collect()
    }

    fn turned(values: &[f32], columns: usize) -> Vec<f32> {
        (0..columns).flat_map(|column| values.iter().skip(column).step_by(columns).copied()).collect()
    }

    #[test]
    fn products_are_right_in_every_order_and_buffers_can_be_used_again() {
        let (mut products, mut right) = (Products::new(), RightSide::new());
        for (m, k, n) in [(1, 1, 1), (70, 45, 130), (3, 100, 5), (33, 2, 64), (16, 32, 17)] {
            let (a, b) = (numbers(m * k, 7), numbers(k * n, 11));
            let mut expected = vec![1.0f32; m * n];
            for (row, out) in expected.chunks_exact_mut(n).enumerate() {
                for (column, out) in out.iter_mut().enumerate() {
                    *out += (0..k).map(|i| a[row * k + i] * b[i * n + column]).sum::<f32>();
                }
            }
            for (b, right_order) in [(b.clone(), Order::Rows), (turned(&b, n), Order::Columns)] {
                right.set(&b, k, right_order);
                for (a, left_order) in [(a.clone(), Order::Rows), (turned(&a, k), Order::Columns)] {
                    let mut out = vec![1.0; m * n];
                    products.add((&a, left_order), &right, &mut out);
                    assert_eq!(out, expected, "{m} {k} {n} {left_order:?} {right_order:?}");
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let (mut products, mut right) = (Products::new(), RightSide::new());
        right.set(&[1.0; 6], 2, Order::Rows);
        let mut out = [5.0; 5];
        products.add((&[1.0; 4], Order::Rows), &right, &mut out);
        products.add((&[], Order::Columns), &RightSide::new(), &mut out);
        assert_eq!(out, [5.0; 5]);
        let mut out = [0.0; 9];
        products.add((&[1.0; 7], Order::Columns), &right, &mut out);
        assert_eq!(out, [2.0; 9], "the seventh number is left out");
    }
}
