//! How are brain floating point numbers multiplied with AVX-512?

#![allow(unsafe_code)]

use super::{
    Block, PANEL, TILE_ROWS,
    brains::{BRAIN_GROUP, BRAIN_PANEL_STEP, BRAIN_STEP, BRAIN_TILE, BrainBlock},
};
use std::{
    arch::x86_64::{
        __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_ps,
        _mm512_storeu_ps,
    },
    mem::transmute,
};

/// Whether this processor has the instructions.
pub(super) fn is_here() -> bool {
    std::arch::is_x86_feature_detected!("avx512bf16") && std::arch::is_x86_feature_detected!("avx512f")
}

/// Sums the products of a block whose lengths [`super::Kernel::run_brains`] has checked.
pub(super) fn run(block: BrainBlock<'_>) {
    let Block { activations, rows, weights, steps, sums } = block;
    for (number, rows_of_tiles) in activations.chunks_exact(steps * BRAIN_TILE).enumerate() {
        let mut first = 0;
        let real = rows.saturating_sub(number * TILE_ROWS).min(TILE_ROWS);
        while first < real {
            // As for bytes: passes of about the same height, at most six rows.
            let passes = (real - first).div_ceil(6);
            let count = (real - first).div_ceil(passes);
            let rows = rows_of_tiles.get(first * BRAIN_STEP..).unwrap_or_default();
            let sums = sums.get_mut((number * TILE_ROWS + first) * PANEL..).unwrap_or_default();
            // SAFETY: `run_brains` chose this kernel because `is_here`. `rows` begins at row `first` of a row of tiles and
            // `first + count` is at most 16; `sums` has at least `count` rows of 64, and `weights` has `steps · 2048`
            // elements, as `run_brains` asserted.
            unsafe {
                match count {
                    1 => sum_rows::<1>(rows, weights, steps, sums),
                    2 => sum_rows::<2>(rows, weights, steps, sums),
                    3 => sum_rows::<3>(rows, weights, steps, sums),
                    4 => sum_rows::<4>(rows, weights, steps, sums),
                    5 => sum_rows::<5>(rows, weights, steps, sums),
                    _ => sum_rows::<6>(rows, weights, steps, sums),
                }
            }
            first += count;
        }
    }
}

/// Multiplies `R` rows with one panel: `R · 4` sums of sixteen stay in registers over the whole length.
///
/// # Safety
/// The machine has AVX-512F and BF16; `rows` begins at a row of a row of tiles that has `R - 1` rows below it, so it holds
/// `(steps - 1) · 512 + R · 32`; `weights` holds `steps · 2048` and `sums` at least `R · 64` elements.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn sum_rows<const R: usize>(rows: &[u16], weights: &[u16], steps: usize, sums: &mut [f32]) {
    debug_assert!(rows.len() >= (steps - 1) * BRAIN_TILE + R * BRAIN_STEP && sums.len() >= R * PANEL);
    debug_assert!(weights.len() == steps * BRAIN_PANEL_STEP);
    let mut totals = [[_mm512_setzero_ps(); 4]; R];
    for step in 0..steps {
        for group in 0..BRAIN_STEP / BRAIN_GROUP {
            // SAFETY: step < steps and group < 16, so the four vectors lie within the four tiles of this step; any bits are
            // brain floating point numbers.
            let columns: [__m512bh; 4] = unsafe {
                let at = weights.as_ptr().add(step * BRAIN_PANEL_STEP + group * BRAIN_STEP);
                [
                    transmute::<__m512i, __m512bh>(_mm512_loadu_si512(at.cast())),
                    transmute::<__m512i, __m512bh>(_mm512_loadu_si512(at.add(BRAIN_TILE).cast())),
                    transmute::<__m512i, __m512bh>(_mm512_loadu_si512(at.add(2 * BRAIN_TILE).cast())),
                    transmute::<__m512i, __m512bh>(_mm512_loadu_si512(at.add(3 * BRAIN_TILE).cast())),
                ]
            };
            for (row, totals) in totals.iter_mut().enumerate() {
                // SAFETY: row < R, step < steps and group < 16, so the two numbers lie within `rows`; any bits are brain
                // floating point numbers.
                let spread: __m512bh = unsafe {
                    let at = rows.as_ptr().add(step * BRAIN_TILE + row * BRAIN_STEP + group * BRAIN_GROUP);
                    transmute::<__m512i, __m512bh>(_mm512_set1_epi32(at.cast::<i32>().read_unaligned()))
                };
                for (total, column) in totals.iter_mut().zip(columns) {
                    *total = _mm512_dpbf16_ps(*total, spread, column);
                }
            }
        }
    }
    for (row, totals) in totals.iter().enumerate() {
        for (part, total) in totals.iter().enumerate() {
            // SAFETY: row < R and part < 4, so the sixteen sums lie within `sums`.
            unsafe { _mm512_storeu_ps(sums.as_mut_ptr().add(row * PANEL + part * 16), *total) };
        }
    }
}
