//! What are the products of one vector with many, in 16-bit integers?
//!
//! The compiler makes good code of the plain loop for 256 bits. For 512 it multiplies halves of a vector and adds whole ones, which
//! takes three times as long as need be, so that is written out here: four rows side by side, added up together in the end. Sums of
//! integers are the same in any order.

#![allow(unsafe_code)]

use super::widest;

/// Numbers that are multiplied at once; vectors are filled with zeros up to a multiple of this.
pub(crate) const STEP: usize = 32;
/// Rows side by side.
const ROWS: usize = 4;

/// Stores the product of each row with the vector. `rows` is `[sums, vector]`
///
/// **Bounds.** No sum may leave 32 bits. The length of the vector is a multiple of [`STEP`], else all sums are zero.
pub(crate) fn dots(rows: &[i16], vector: &[i16], sums: &mut [i32]) {
    let length = vector.len();
    if length == 0 || !length.is_multiple_of(STEP) || rows.len() < sums.len() * length {
        return sums.fill(0);
    }
    #[cfg(target_arch = "x86_64")]
    if super::wide::is_512() {
        // SAFETY: the machine has the instructions, and the lengths were looked at above.
        return unsafe { wide(rows, vector, sums) };
    }
    widest(
        #[inline(always)]
        || plain(rows, vector, sums),
    );
}

#[inline(always)]
fn plain(rows: &[i16], vector: &[i16], sums: &mut [i32]) {
    for (sum, row) in sums.iter_mut().zip(rows.chunks_exact(vector.len())) {
        *sum = row.iter().zip(vector).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
    }
}

/// # Safety
/// The machine has AVX-512 with BW. The length of `vector` is a multiple of 32, above zero, and `rows` holds as many of them as there
/// are sums.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn wide(rows: &[i16], vector: &[i16], sums: &mut [i32]) {
    use std::arch::x86_64::{
        _mm_add_epi32, _mm_storeu_si128, _mm256_add_epi32, _mm256_castsi256_si128, _mm256_extracti128_si256,
        _mm512_add_epi32, _mm512_castsi512_si256, _mm512_extracti64x4_epi64, _mm512_loadu_si512,
        _mm512_madd_epi16, _mm512_setzero_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
        _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    };
    let length = vector.len();
    for (number, sums) in sums.chunks_mut(ROWS).enumerate() {
        let mut totals = [_mm512_setzero_si512(); ROWS];
        // Where there are fewer rows left, the last one stands for those that are missing.
        let starts: [usize; ROWS] =
            std::array::from_fn(|row| (number * ROWS + row.min(sums.len() - 1)) * length);
        for step in (0..length).step_by(STEP) {
            // SAFETY: `step + 32` is at most the vector's length, and `start` is where a row of this length begins.
            let (own, others) = unsafe {
                let own = _mm512_loadu_si512(vector.as_ptr().add(step).cast());
                (own, starts.map(|start| _mm512_loadu_si512(rows.as_ptr().add(start + step).cast())))
            };
            for (total, other) in totals.iter_mut().zip(others) {
                *total = _mm512_add_epi32(*total, _mm512_madd_epi16(own, other));
            }
        }
        let [a, b, c, d] = totals;
        // In each quarter: a, b, a, b and c, d, c, d; then a, b, c, d.
        let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        let quarters = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
        let halves =
            _mm256_add_epi32(_mm512_castsi512_si256(quarters), _mm512_extracti64x4_epi64::<1>(quarters));
        let whole = _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
        let mut four = [0i32; ROWS];
        // SAFETY: `four` has room for four numbers of 32 bits.
        unsafe { _mm_storeu_si128(four.as_mut_ptr().cast(), whole) };
        sums.iter_mut().zip(four).for_each(|(sum, total)| *sum = total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_copy_gives_the_sums_of_plain_loops(count in 1usize..40, steps in 1usize..10, seed: u32) {
            let mut state = u64::from(seed);
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // The largest and the least are often among them, and no sum leaves 32 bits.
                (((state >> 33) % 5_001) as i16).saturating_sub(2_500)
            };
            let vector: Vec<i16> = (0..steps * STEP).map(|_| next()).collect();
            let rows: Vec<i16> = (0..count * vector.len()).map(|_| next()).collect();
            let (mut sums, mut expected) = (vec![7; count], vec![0; count]);
            dots(&rows, &vector, &mut sums);
            plain(&rows, &vector, &mut expected);
            prop_assert_eq!(sums, expected);
        }
    }

    #[test]
    fn extremes_are_multiplied_as_they_are() {
        let mut vector = [0; STEP];
        (vector[0], vector[31]) = (i16::MIN, i16::MAX);
        let mut row = [0; STEP];
        (row[0], row[31]) = (i16::MAX, 1);
        let mut sums = [0];
        dots(&row, &vector, &mut sums);
        assert_eq!(sums, [i32::from(i16::MIN) * i32::from(i16::MAX) + i32::from(i16::MAX)]);
        dots(&row, &vector[1..], &mut sums);
        assert_eq!(sums, [0]);
    }
}
