//! What is the product of bytes, in plain loops? The reference for all other kernels.

use super::{Block, GROUP, PANEL};

/// Sums the products of a block.
#[inline(always)]
pub(super) fn run(block: &mut Block<'_>) {
    let Block { bytes, rows, weights, stride, ref mut sums } = *block;
    for (row, sums) in bytes.chunks_exact(stride).take(rows).zip(sums.chunks_exact_mut(PANEL)) {
        sums.fill(0);
        for (group, weights) in row.chunks_exact(GROUP).zip(weights.chunks_exact(PANEL * GROUP)) {
            let &[a, b, c, d] = group else { continue };
            let [a, b, c, d] = [a, b, c, d].map(i32::from);
            for (sum, weights) in sums.iter_mut().zip(weights.chunks_exact(GROUP)) {
                let &[w, x, y, z] = weights else { continue };
                let [w, x, y, z] = [w, x, y, z].map(i32::from);
                *sum += a * w + b * x + c * y + d * z;
            }
        }
    }
}
