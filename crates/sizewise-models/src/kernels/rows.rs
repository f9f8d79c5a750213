//! What is the sum of some rows of a table, each times a weight, in bytes?
//!
//! With the vector neural network instructions of AVX-512, four rows are laid into one another, so that one instruction multiplies and
//! sums four bytes of sixteen columns; elsewhere the compiler makes good code of the plain loop. Sums of integers are the same in any
//! order.

#![allow(unsafe_code)]

use super::widest;

/// Most rows in one call; no sum of so many products of bytes leaves the 24 bits that floating point holds as they are.
pub(crate) const MOST: usize = 128;

/// Rows of a table, each with a weight.
#[derive(Debug)]
pub(crate) struct WeightedRows {
    rows: [u32; MOST],
    weights: [u8; MOST],
    count: usize,
}

impl WeightedRows {
    /// Takes the first [`MOST`] of some rows with their weights.
    #[inline(always)]
    pub(crate) fn new(weighted: impl Iterator<Item = (u32, u8)>) -> Self {
        let mut taken = Self { rows: [0; MOST], weights: [0; MOST], count: 0 };
        for ((row, weight), taken_one) in taken.rows.iter_mut().zip(&mut taken.weights).zip(weighted) {
            (*row, *weight) = taken_one;
            taken.count += 1;
        }
        taken
    }

    /// Adds the sum of the rows to `sums`, each number times `scale`. `table` is `[rows, sums]`; a row that it does not have counts
    /// nothing.
    pub(crate) fn add_to(&self, table: &[i8], scale: f32, sums: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        if super::vnni::is_here_with_bytes() {
            // SAFETY: the machine has the instructions.
            return unsafe { self.wide(table, scale, sums) };
        }
        widest(
            #[inline(always)]
            || self.plain(table, scale, sums),
        );
    }

    /// In floating point, which holds sums of so few products as they are.
    #[inline(always)]
    fn plain(&self, table: &[i8], scale: f32, sums: &mut [f32]) {
        let columns = sums.len();
        let (fours, _) = self.rows.as_chunks::<4>();
        let (weights, _) = self.weights.as_chunks::<4>();
        for (block, sums) in sums.chunks_mut(BLOCK).enumerate() {
            let mut totals = [0.0f32; BLOCK];
            // What fills up the last four has no weight.
            for (rows, weights) in fours.iter().zip(weights).take(self.count.div_ceil(4)) {
                let [p, q, r, s] = rows.map(|row| {
                    let begin = row as usize * columns + block * BLOCK;
                    table
                        .get(begin..begin + sums.len())
                        .unwrap_or(NOTHING.get(..sums.len()).unwrap_or_default())
                });
                let [a, b, c, d] = weights.map(f32::from);
                let rows = p.iter().zip(q).zip(r.iter().zip(s));
                for (total, ((p, q), (r, s))) in totals.iter_mut().zip(rows) {
                    *total +=
                        (a * f32::from(*p) + b * f32::from(*q)) + (c * f32::from(*r) + d * f32::from(*s));
                }
            }
            for (sum, total) in sums.iter_mut().zip(totals) {
                *sum += total * scale;
            }
        }
    }

    /// # Safety
    /// The machine has AVX-512F, BW and VNNI.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn wide(&self, table: &[i8], scale: f32, sums: &mut [f32]) {
        use std::arch::x86_64::{
            _mm512_add_ps, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_mask_storeu_ps,
            _mm512_maskz_loadu_epi8, _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps,
            _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_unpackhi_epi8, _mm512_unpackhi_epi16,
            _mm512_unpacklo_epi8, _mm512_unpacklo_epi16,
        };
        let columns = sums.len();
        let (fours, _) = self.rows.as_chunks::<4>();
        let (weights, _) = self.weights.as_chunks::<4>();
        let scale = _mm512_set1_ps(scale);
        for (block, sums) in sums.chunks_mut(BLOCK).enumerate() {
            // As many ones as there are columns.
            let mask = u64::MAX >> (BLOCK - sums.len());
            let mut totals = [_mm512_setzero_si512(); 4];
            // What fills up the last four has no weight.
            for (rows, weights) in fours.iter().zip(weights).take(self.count.div_ceil(4)) {
                let [a, b, c, d] = rows.map(|row| {
                    let begin = row as usize * columns + block * BLOCK;
                    match table.get(begin..begin + sums.len()) {
                        // SAFETY: only as many bytes are read as the slice holds.
                        Some(bytes) => unsafe { _mm512_maskz_loadu_epi8(mask, bytes.as_ptr()) },
                        None => _mm512_setzero_si512(),
                    }
                });
                // In each quarter of sixteen columns: four columns at a time, each with its four rows.
                let (ab, cd) = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
                let (ef, gh) = (_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d));
                let columns = [
                    _mm512_unpacklo_epi16(ab, cd),
                    _mm512_unpackhi_epi16(ab, cd),
                    _mm512_unpacklo_epi16(ef, gh),
                    _mm512_unpackhi_epi16(ef, gh),
                ];
                let weights = _mm512_set1_epi32(i32::from_le_bytes(*weights));
                for (total, column) in totals.iter_mut().zip(columns) {
                    *total = _mm512_dpbusd_epi32(*total, weights, column);
                }
            }
            // A quarter of each of the four belongs to sixteen columns in a row.
            let [a, b, c, d] = totals;
            let (ab, cd) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0x44>(c, d));
            let (ef, gh) = (_mm512_shuffle_i32x4::<0xee>(a, b), _mm512_shuffle_i32x4::<0xee>(c, d));
            let sixteens = [
                _mm512_shuffle_i32x4::<0x88>(ab, cd),
                _mm512_shuffle_i32x4::<0xdd>(ab, cd),
                _mm512_shuffle_i32x4::<0x88>(ef, gh),
                _mm512_shuffle_i32x4::<0xdd>(ef, gh),
            ];
            for (sixteen, sums) in sixteens.into_iter().zip(sums.chunks_mut(16)) {
                let mask = u16::MAX >> (16 - sums.len());
                let products = _mm512_mul_ps(_mm512_cvtepi32_ps(sixteen), scale);
                // SAFETY: only as many numbers are read and written as the slice holds.
                unsafe {
                    let before = _mm512_maskz_loadu_ps(mask, sums.as_ptr());
                    _mm512_mask_storeu_ps(sums.as_mut_ptr(), mask, _mm512_add_ps(before, products));
                }
            }
        }
    }
}

/// Columns that are summed side by side.
const BLOCK: usize = 64;
/// A row that a table does not have.
const NOTHING: [i8; BLOCK] = [0; BLOCK];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_copy_gives_the_sums_of_plain_loops(
            columns in 1usize..200,
            rows in 1usize..20,
            count in 0usize..MOST + 9,
            seed: u32,
        ) {
            let mut state = u64::from(seed);
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // The largest and the least are often among them.
                (((state >> 33) % 384) as i16 - 64).clamp(0, 255) as u8
            };
            let table: Vec<i8> = (0..rows * columns).map(|_| next().wrapping_sub(128) as i8).collect();
            let weighted: Vec<(u32, u8)> = (0..count).map(|at| ((at * 7 % (rows + 1)) as u32, next())).collect();
            let (mut sums, mut plain) = (vec![0.5; columns], vec![0.5; columns]);
            let taken = WeightedRows::new(weighted.iter().copied());
            taken.add_to(&table, 0.01, &mut sums);
            taken.plain(&table, 0.01, &mut plain);
            prop_assert_eq!(&sums, &plain);
            for (column, sum) in sums.iter().enumerate() {
                let product = |(row, weight): &(u32, u8)| {
                    let byte = table.get(*row as usize * columns + column).copied().unwrap_or(0);
                    i64::from(byte) * i64::from(*weight)
                };
                let exact: i64 = weighted.iter().take(MOST).map(product).sum();
                prop_assert!((f64::from(*sum) - 0.5 - exact as f64 * 0.01).abs() < 0.05, "{} {}", sum, exact);
            }
        }
    }

    #[test]
    fn rows_that_a_table_does_not_have_count_nothing() {
        let mut sums = [1.0; 3];
        let rows = [(u32::MAX, 255), (1, 2), (2, 9)];
        WeightedRows::new(rows.into_iter()).add_to(&[9, 9, 9, 1, -128, 127], 1.0, &mut sums);
        assert_eq!(sums, [3.0, -255.0, 255.0]);
    }
}
