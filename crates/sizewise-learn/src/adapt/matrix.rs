//! How are matrices of 32-bit numbers multiplied in training?
//!
//! By `ndarray`, on one thread: training spreads texts over the cores, not matrices. A kernel of our own that the compiler
//! turns into vector instructions was ten times slower; `gemm` was a fifth faster and would be one more tree of packages.

use ndarray::{ArrayView2, ArrayViewMut2, linalg::general_mat_mul};

/// A matrix whose rows lie one after the other; what does not fill a row is left out.
pub(super) fn matrix(values: &[f32], columns: usize) -> ArrayView2<'_, f32> {
    let rows = values.len() / columns.max(1);
    let whole = values.get(..rows * columns).unwrap_or_default();
    // The number of values fits by construction.
    ArrayView2::from_shape((rows, columns), whole).unwrap_or_else(|_| ArrayView2::from(&[[0.0; 0]; 0]))
}

/// out += factor · left · right. `left` is `[m, k]`, `right` is `[k, n]`, `out` is `[m, n]`; sizes that do not fit leave it
/// as it is.
pub(super) fn add_product(
    factor: f32,
    left: ArrayView2<'_, f32>,
    right: ArrayView2<'_, f32>,
    out: &mut [f32],
) {
    let (rows, columns) = (left.nrows(), right.ncols());
    if left.ncols() != right.nrows() {
        return;
    }
    if let Ok(mut out) = ArrayViewMut2::from_shape((rows, columns), out) {
        general_mat_mul(factor, &left, &right, 1.0, &mut out);
    }
}

/// Adds up the rows of a matrix.
pub(super) fn add_rows(rows: &[f32], sums: &mut [f32]) {
    for row in rows.chunks_exact(sums.len().max(1)) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
}
