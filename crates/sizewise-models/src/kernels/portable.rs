//! What is the product of bytes, in plain loops? The reference for all other kernels.

use super::{Block, GROUP, PANEL, PANEL_STEP, STEP, TILE, TILE_ROWS};

/// Sums the products of a block.
#[inline(always)]
pub(super) fn run(block: &mut Block<'_>) {
    let Block { activations, rows, weights, steps, ref mut sums } = *block;
    for (row, sums) in sums.chunks_exact_mut(PANEL).take(rows).enumerate() {
        sums.fill(0);
        let first = row / TILE_ROWS * steps * TILE + row % TILE_ROWS * STEP;
        let row = activations.get(first..).unwrap_or_default().chunks(TILE);
        for (row, weights) in row.zip(weights.chunks_exact(PANEL_STEP)) {
            for (sums, weights) in sums.chunks_exact_mut(16).zip(weights.chunks_exact(TILE)) {
                for (group, weights) in row.chunks_exact(GROUP).take(16).zip(weights.chunks_exact(STEP)) {
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
    }
}
