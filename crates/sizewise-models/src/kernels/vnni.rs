//! How are bytes multiplied with AVX-512 and its neural network instructions?

#![allow(unsafe_code)]

use super::{Block, GROUP, PANEL, PANEL_STEP, STEP, TILE, TILE_ROWS};
use std::arch::x86_64::{
    __m512i, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_si512,
    _mm512_storeu_si512,
};

/// Whether this processor has the instructions.
pub(super) fn is_here() -> bool {
    std::arch::is_x86_feature_detected!("avx512vnni") && std::arch::is_x86_feature_detected!("avx512f")
}

/// Whether it has those for single bytes and for shorter vectors as well.
pub(super) fn is_here_with_bytes() -> bool {
    use std::arch::is_x86_feature_detected as has;
    is_here() && has!("avx512bw") && has!("avx512vl")
}

/// Sums the products of a block whose lengths [`super::Kernel::run`] has checked.
pub(super) fn run(block: Block<'_>) {
    let Block { activations, rows, weights, steps, sums } = block;
    for (number, bytes) in activations.chunks_exact(steps * TILE).enumerate() {
        let mut first = 0;
        let real = rows.saturating_sub(number * TILE_ROWS).min(TILE_ROWS);
        while first < real {
            // Passes of about the same height: six rows' sums fit into registers, and few rows would wait for their own.
            let passes = (real - first).div_ceil(6);
            let count = (real - first).div_ceil(passes);
            let bytes = bytes.get(first * STEP..).unwrap_or_default();
            let sums = sums.get_mut((number * TILE_ROWS + first) * PANEL..).unwrap_or_default();
            // SAFETY: the kernel was chosen because `is_here`. `bytes` begins at row `first` of a row of tiles and `first +
            // count` is at most 16; `sums` has at least `count` rows of 64, and `weights` has `steps · 4096` elements, as
            // `Kernel::run` asserted.
            unsafe {
                match count {
                    1 => sum_rows::<1>(bytes, weights, steps, sums),
                    2 => sum_rows::<2>(bytes, weights, steps, sums),
                    3 => sum_rows::<3>(bytes, weights, steps, sums),
                    4 => sum_rows::<4>(bytes, weights, steps, sums),
                    5 => sum_rows::<5>(bytes, weights, steps, sums),
                    _ => sum_rows::<6>(bytes, weights, steps, sums),
                }
            }
            first += count;
        }
    }
}

/// Multiplies `R` rows with one panel: `R · 4` sums of sixteen stay in registers over the whole length.
///
/// # Safety
/// The machine has AVX-512F and VNNI; `bytes` begins at a row of a row of tiles that has `R - 1` rows below it, so it holds
/// `(steps - 1) · 1024 + R · 64`; `weights` holds `steps · 4096` and `sums` at least `R · 64` elements.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn sum_rows<const R: usize>(bytes: &[u8], weights: &[i8], steps: usize, sums: &mut [i32]) {
    debug_assert!(bytes.len() >= (steps - 1) * TILE + R * STEP && sums.len() >= R * PANEL);
    debug_assert!(weights.len() == steps * PANEL_STEP);
    let mut totals = [[_mm512_setzero_si512(); 4]; R];
    for step in 0..steps {
        for group in 0..STEP / GROUP {
            // SAFETY: step < steps and group < 16, so the four vectors lie within the four tiles of this step.
            let columns: [__m512i; 4] = unsafe {
                let at = weights.as_ptr().add(step * PANEL_STEP + group * STEP);
                [
                    _mm512_loadu_si512(at.cast()),
                    _mm512_loadu_si512(at.add(TILE).cast()),
                    _mm512_loadu_si512(at.add(2 * TILE).cast()),
                    _mm512_loadu_si512(at.add(3 * TILE).cast()),
                ]
            };
            for (row, totals) in totals.iter_mut().enumerate() {
                // SAFETY: row < R, step < steps and group < 16, so the four bytes lie within `bytes`.
                let four = unsafe {
                    let at = bytes.as_ptr().add(step * TILE + row * STEP + group * GROUP);
                    at.cast::<i32>().read_unaligned()
                };
                let spread = _mm512_set1_epi32(four);
                for (total, column) in totals.iter_mut().zip(columns) {
                    *total = _mm512_dpbusd_epi32(*total, spread, column);
                }
            }
        }
    }
    for (row, totals) in totals.iter().enumerate() {
        for (part, total) in totals.iter().enumerate() {
            // SAFETY: row < R and part < 4, so the sixteen sums lie within `sums`.
            unsafe { _mm512_storeu_si512(sums.as_mut_ptr().add(row * PANEL + part * 16).cast(), *total) };
        }
    }
}
