//! How are bytes multiplied on processors that have AVX2 and not AVX-512?
//!
//! Two ways. Where the processor has the neural network instructions in their 256-bit form (AVX-VNNI), four products are
//! summed at once. Elsewhere bytes are widened to 16 bits and multiplied in pairs: the instruction that takes bytes as they
//! are (`vpmaddubsw`) saturates its sums at 16 bits, and results would no longer be exact.

#![allow(unsafe_code)]

use super::{Block, GROUP, PANEL, PANEL_STEP, STEP, TILE, TILE_ROWS};
use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm_set1_epi32, _mm256_add_epi32, _mm256_cvtepi8_epi16, _mm256_cvtepu8_epi16,
    _mm256_dpbusd_avx_epi32, _mm256_hadd_epi32, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_permute4x64_epi64, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_storeu_si256,
};

/// Rows that share one pass over the weights: as many as have their sums in registers.
const ROWS: usize = 3;

/// Whether this processor has the vectors.
pub(super) fn is_here() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

/// Whether it multiplies bytes in them.
pub(super) fn has_vnni() -> bool {
    is_here() && std::arch::is_x86_feature_detected!("avxvnni")
}

/// Where a pass reads and writes.
#[derive(Clone, Copy)]
struct Pass {
    /// The first row.
    bytes: *const u8,
    /// The first tile of the panel that is read.
    weights: *const i8,
    /// The first row's sums for that tile.
    sums: *mut i32,
    steps: usize,
}

/// Sums the products of a block whose lengths [`super::Kernel::run`] has checked, widening every byte.
pub(super) fn run(block: Block<'_>) {
    // SAFETY: the kernel was chosen because `is_here`, and `in_passes` gives out passes that lie within the block.
    in_passes(block, 1, |rows, pass| unsafe {
        match rows {
            1 => widened::<1>(pass),
            2 => widened::<2>(pass),
            _ => widened::<ROWS>(pass),
        }
    });
}

/// The same with the instructions of AVX-VNNI.
pub(super) fn run_vnni(block: Block<'_>) {
    // SAFETY: the kernel was chosen because `has_vnni`, and `in_passes` gives out passes that lie within the block.
    in_passes(block, 2, |rows, pass| unsafe {
        match rows {
            1 => summed::<1>(pass),
            2 => summed::<2>(pass),
            _ => summed::<ROWS>(pass),
        }
    });
}

/// Cuts a block into passes of one to three rows and so many tiles of outputs.
#[inline]
fn in_passes(block: Block<'_>, tiles: usize, mut pass: impl FnMut(usize, Pass)) {
    let Block { activations, rows, weights, steps, sums } = block;
    assert!(activations.len().is_multiple_of(steps * TILE) && weights.len() == steps * PANEL_STEP);
    assert!(rows <= activations.len() / (steps * TILE) * TILE_ROWS && sums.len() >= rows * PANEL);
    let mut first = 0;
    while first < rows {
        let (number, in_tile) = (first / TILE_ROWS, first % TILE_ROWS);
        let count = ROWS.min(rows - first).min(TILE_ROWS - in_tile);
        for tile in (0..PANEL / 16).step_by(tiles) {
            // SAFETY: `first` is a row of the block, so its bytes begin within `activations` and its sums within `sums`;
            // there are four tiles in a panel. `count` rows are below one another in one row of tiles.
            let at = unsafe {
                Pass {
                    bytes: activations.as_ptr().add(number * steps * TILE + in_tile * STEP),
                    weights: weights.as_ptr().add(tile * TILE),
                    sums: sums.as_mut_ptr().add(first * PANEL + tile * 16),
                    steps,
                }
            };
            pass(count, at);
        }
        first += count;
    }
}

/// Multiplies `R` rows with one tile of outputs. Sums of two neighbouring inputs stay apart until the end.
///
/// # Safety
/// The machine has AVX2. From `bytes` on there are `R` rows of a row of `steps` tiles, from `weights` on one tile of every
/// four, `steps` times, and from `sums` on `R` rows of 64 of which the first sixteen may be written.
#[target_feature(enable = "avx2")]
unsafe fn widened<const R: usize>(Pass { bytes, weights, sums, steps }: Pass) {
    let mut totals = [[_mm256_setzero_si256(); 4]; R];
    for step in 0..steps {
        for group in 0..STEP / GROUP {
            let mut rows = [_mm256_setzero_si256(); R];
            for (row, values) in rows.iter_mut().enumerate() {
                // SAFETY: row < R, step < steps and group < 16, so the four bytes lie within the rows.
                let four = unsafe {
                    bytes.add(step * TILE + row * STEP + group * GROUP).cast::<i32>().read_unaligned()
                };
                *values = _mm256_cvtepu8_epi16(_mm_set1_epi32(four));
            }
            for part in 0..4 {
                // SAFETY: step < steps, group < 16 and part < 4, so the sixteen bytes lie within the tile of this step.
                let column = unsafe {
                    let at = weights.add(step * PANEL_STEP + group * STEP + part * 16);
                    _mm256_cvtepi8_epi16(_mm_loadu_si128(at.cast()))
                };
                for (totals, row) in totals.iter_mut().zip(&rows) {
                    totals[part] = _mm256_add_epi32(totals[part], _mm256_madd_epi16(*row, column));
                }
            }
        }
    }
    for (row, [a, b, c, d]) in totals.into_iter().enumerate() {
        for (half, (a, b)) in [(a, b), (c, d)].into_iter().enumerate() {
            // Adding neighbours leaves the halves of the two vectors interleaved by 64 bits.
            let ordered = _mm256_permute4x64_epi64::<0b1101_1000>(_mm256_hadd_epi32(a, b));
            // SAFETY: row < R and half < 2, so the eight sums lie within the first sixteen of the row.
            unsafe { _mm256_storeu_si256(sums.add(row * PANEL + half * 8).cast(), ordered) };
        }
    }
}

/// Multiplies `R` rows with two tiles of outputs.
///
/// # Safety
/// The machine has AVX2 and AVX-VNNI. As for [`widened`], with two tiles of every four and 32 sums.
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn summed<const R: usize>(Pass { bytes, weights, sums, steps }: Pass) {
    let mut totals = [[_mm256_setzero_si256(); 4]; R];
    for step in 0..steps {
        for group in 0..STEP / GROUP {
            let mut rows = [_mm256_setzero_si256(); R];
            for (row, values) in rows.iter_mut().enumerate() {
                // SAFETY: row < R, step < steps and group < 16, so the four bytes lie within the rows.
                let four = unsafe {
                    bytes.add(step * TILE + row * STEP + group * GROUP).cast::<i32>().read_unaligned()
                };
                *values = _mm256_set1_epi32(four);
            }
            for part in 0..4 {
                // SAFETY: step < steps, group < 16 and part < 4, so the 32 bytes lie within the two tiles of this step.
                let column: __m256i = unsafe {
                    let at = weights.add(step * PANEL_STEP + part / 2 * TILE + group * STEP + part % 2 * 32);
                    _mm256_loadu_si256(at.cast())
                };
                for (totals, row) in totals.iter_mut().zip(&rows) {
                    totals[part] = _mm256_dpbusd_avx_epi32(totals[part], *row, column);
                }
            }
        }
    }
    for (row, totals) in totals.iter().enumerate() {
        for (part, total) in totals.iter().enumerate() {
            // SAFETY: row < R and part < 4, so the eight sums lie within the first 32 of the row.
            unsafe { _mm256_storeu_si256(sums.add(row * PANEL + part * 8).cast(), *total) };
        }
    }
}
