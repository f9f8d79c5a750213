//! How are bytes multiplied with AVX-512 and its neural network instructions?

#![allow(unsafe_code)]

use super::{Block, GROUP, PANEL};
use std::arch::x86_64::{
    __m512i, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_si512,
    _mm512_storeu_si512,
};

/// Rows whose sums fit into registers.
const ROWS: usize = 6;

/// Whether this processor has the instructions.
pub(super) fn is_here() -> bool {
    std::arch::is_x86_feature_detected!("avx512vnni") && std::arch::is_x86_feature_detected!("avx512f")
}

/// Sums the products of a block whose lengths [`super::Kernel::run`] has checked.
pub(super) fn run(block: Block<'_>) {
    let Block { bytes, rows, weights, stride, sums } = block;
    let real = bytes.chunks(ROWS * stride).zip(sums.chunks_mut(ROWS * PANEL));
    for (number, (bytes, sums)) in real.enumerate() {
        let left = rows.saturating_sub(number * ROWS).min(ROWS);
        // SAFETY: the kernel was chosen because `is_here`. `bytes` has at least `left` rows of `stride`, `sums` at least
        // `left` rows of 64, and `weights` has `stride · 64` elements, as `Kernel::run` asserted.
        unsafe {
            match left {
                1 => sum_rows::<1>(bytes, weights, stride, sums),
                2 => sum_rows::<2>(bytes, weights, stride, sums),
                3 => sum_rows::<3>(bytes, weights, stride, sums),
                4 => sum_rows::<4>(bytes, weights, stride, sums),
                5 => sum_rows::<5>(bytes, weights, stride, sums),
                6 => sum_rows::<6>(bytes, weights, stride, sums),
                _ => return,
            }
        }
    }
}

/// Multiplies `R` rows with one panel: `R · 4` sums of sixteen stay in registers over the whole length.
///
/// # Safety
/// The machine has AVX-512F and VNNI; `bytes` holds `R · stride`, `weights` holds `stride · 64` and `sums` holds at
/// least `R · 64` elements; `stride` is a multiple of four.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn sum_rows<const R: usize>(bytes: &[u8], weights: &[i8], stride: usize, sums: &mut [i32]) {
    debug_assert!(bytes.len() >= R * stride && weights.len() == stride * PANEL && sums.len() >= R * PANEL);
    let mut totals = [[_mm512_setzero_si512(); 4]; R];
    for group in 0..stride / GROUP {
        // SAFETY: group < stride / 4, so the four vectors lie within `weights`.
        let columns: [__m512i; 4] = unsafe {
            let at = weights.as_ptr().add(group * PANEL * GROUP);
            [
                _mm512_loadu_si512(at.cast()),
                _mm512_loadu_si512(at.add(64).cast()),
                _mm512_loadu_si512(at.add(128).cast()),
                _mm512_loadu_si512(at.add(192).cast()),
            ]
        };
        for (row, totals) in totals.iter_mut().enumerate() {
            // SAFETY: row < R and group < stride / 4, so the four bytes lie within `bytes`.
            let four =
                unsafe { bytes.as_ptr().add(row * stride + group * GROUP).cast::<i32>().read_unaligned() };
            let spread = _mm512_set1_epi32(four);
            for (total, column) in totals.iter_mut().zip(columns) {
                *total = _mm512_dpbusd_epi32(*total, spread, column);
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
