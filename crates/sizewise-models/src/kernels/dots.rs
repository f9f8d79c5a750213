//! What are the products of one vector with many, in bytes?
//!
//! The vector's bytes are unsigned, as those of activations are, and the rows' are signed. With the vector neural network
//! instructions of AVX-512, four rows side by side, added up together in the end; elsewhere the compiler makes good code of the plain
//! loop. Sums of integers are the same in any order.

#![allow(unsafe_code)]

use super::widest;

/// Bytes that are multiplied at once; vectors are filled up to a multiple of this, rows with zeros.
pub(crate) const STEP: usize = 64;
/// The longest vector: no sum of so many products leaves 32 bits.
pub(crate) const LONGEST: usize = 1 << 16;
/// Bytes of the vector that the plain loop widens at a time.
const WIDENED: usize = 512;
/// Rows side by side.
#[cfg(target_arch = "x86_64")]
const ROWS: usize = 4;

/// Stores the product of each row with the vector. `rows` is `[sums, vector]`
///
/// **Bounds.** The length of the vector is a multiple of [`STEP`] and at most [`LONGEST`], else all sums are zero.
pub(crate) fn dots(rows: &[i8], vector: &[u8], sums: &mut [i32]) {
    let length = vector.len();
    if length == 0 || length > LONGEST || !length.is_multiple_of(STEP) || rows.len() < sums.len() * length {
        return sums.fill(0);
    }
    #[cfg(target_arch = "x86_64")]
    if super::vnni::is_here_with_bytes() {
        // SAFETY: the machine has the instructions, and the lengths were looked at above.
        return unsafe { wide(rows, vector, sums) };
    }
    widest(
        #[inline(always)]
        || plain(rows, vector, sums),
    );
}

#[inline(always)]
fn plain(rows: &[i8], vector: &[u8], sums: &mut [i32]) {
    sums.fill(0);
    for (part, bytes) in vector.chunks(WIDENED).enumerate() {
        // Widened once for all rows.
        let mut widened = [0i16; WIDENED];
        widened.iter_mut().zip(bytes).for_each(|(wide, byte)| *wide = i16::from(*byte));
        let widened = widened.get(..bytes.len()).unwrap_or_default();
        for (sum, row) in sums.iter_mut().zip(rows.chunks_exact(vector.len())) {
            let row = row.iter().skip(part * WIDENED);
            *sum += row.zip(widened).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum::<i32>();
        }
    }
}

/// # Safety
/// The machine has AVX-512F, VL and VNNI. The length of `vector` is a multiple of 64, above zero, and `rows` holds as many of them as
/// there are sums.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512vnni")]
unsafe fn wide(rows: &[i8], vector: &[u8], sums: &mut [i32]) {
    use std::arch::x86_64::{
        _mm_add_epi32, _mm_mask_storeu_epi32, _mm256_add_epi32, _mm256_castsi256_si128,
        _mm256_extracti128_si256, _mm512_add_epi32, _mm512_castsi512_si256, _mm512_dpbusd_epi32,
        _mm512_extracti64x4_epi64, _mm512_loadu_si512, _mm512_setzero_si512, _mm512_unpackhi_epi32,
        _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    };
    let length = vector.len();
    for (number, sums) in sums.chunks_mut(ROWS).enumerate() {
        let mut totals = [_mm512_setzero_si512(); ROWS];
        // Where there are fewer rows left, the last one stands for those that are missing.
        let starts: [usize; ROWS] =
            std::array::from_fn(|row| (number * ROWS + row.min(sums.len() - 1)) * length);
        for step in (0..length).step_by(STEP) {
            // SAFETY: `step + 64` is at most the vector's length, and `start` is where a row of this length begins.
            let (own, others) = unsafe {
                let own = _mm512_loadu_si512(vector.as_ptr().add(step).cast());
                (own, starts.map(|start| _mm512_loadu_si512(rows.as_ptr().add(start + step).cast())))
            };
            for (total, other) in totals.iter_mut().zip(others) {
                *total = _mm512_dpbusd_epi32(*total, own, other);
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
        let mask = u8::MAX >> (8 - sums.len());
        // SAFETY: only as many numbers are written as the slice holds.
        unsafe { _mm_mask_storeu_epi32(sums.as_mut_ptr(), mask, whole) };
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
                // The largest and the least are often among them.
                (((state >> 33) % 384) as i16 - 64).clamp(0, 255) as u8
            };
            let vector: Vec<u8> = (0..steps * STEP).map(|_| next()).collect();
            let rows: Vec<i8> = (0..count * vector.len()).map(|_| next().wrapping_sub(128) as i8).collect();
            let (mut sums, mut expected) = (vec![7; count], vec![0; count]);
            dots(&rows, &vector, &mut sums);
            plain(&rows, &vector, &mut expected);
            prop_assert_eq!(sums, expected);
        }
    }

    #[test]
    fn extremes_are_multiplied_as_they_are() {
        for (byte, weight) in [(u8::MAX, i8::MIN), (u8::MAX, i8::MAX), (0, i8::MIN)] {
            let mut sums = [0];
            dots(&[weight; LONGEST], &[byte; LONGEST], &mut sums);
            assert_eq!(sums, [i32::from(byte) * i32::from(weight) * LONGEST as i32]);
        }
        for length in [0, STEP - 1, LONGEST + STEP] {
            let mut sums = [7];
            dots(&vec![1; length], &vec![1; length], &mut sums);
            assert_eq!(sums, [0]);
        }
    }
}
