//! What are the products of a text's vector with one vector per class?
//!
//! In bytes: the tables of a task stay small enough for the cache nearest to the processor, and one instruction sums sixty-four
//! products. What rounding loses is as much as the 8-bit weights of n-grams beside it lose. Sums of integers are the same on every
//! machine in any order.
//!
//! A class's scale has few enough digits that the floating point numbers in a file are exactly those that run, and reading and writing
//! them again changes no bit.

use crate::{
    kernels::{Aligned, DOTS_STEP, dots, widest},
    memory::InMemory,
};

/// The largest byte of a vector, either way.
const MOST: f32 = 127.0;
/// The byte of a text's vector that stands for zero.
const ZERO: i32 = 128;
/// The largest element: far beyond any weight, and far enough within what floating point holds to be rounded.
const LARGEST: f32 = 1e30;
/// A class whose largest element is less than this is zero.
const LEAST: f32 = 1e-30;
/// Bits that a scale leaves free, so that its product with a byte is exact.
const FREE_BITS: u32 = (1 << 8) - 1;
/// Classes whose products are computed before they are turned into floating point.
const BLOCK: usize = 128;
/// Adding it rounds a number of moderate size to the nearest integer and leaves that in the low bits: 1.5 · 2²³.
pub(crate) const ROUNDER: f32 = 12_582_912.0;

/// One vector per class, of any length.
#[derive(Debug, Clone)]
pub(crate) struct ClassVectors {
    dimensions: usize,
    /// `dimensions`, filled up for [`dots`].
    width: usize,
    /// `[classes, width]`
    bytes: Aligned<i8>,
    /// What [`ZERO`] in every byte of a text's vector would add to a class's product. `[classes]`
    offsets: Vec<i32>,
    /// What one step of a class is worth. `[classes]`
    scales: Vec<f32>,
}

/// A text's vector in bytes.
#[derive(Debug)]
struct RoundedVector {
    bytes: Vec<u8>,
    scale: f32,
}

impl ClassVectors {
    /// Rounds vectors. `vectors` is `[classes, dimensions]`; what is not finite counts as zero, and none is larger than
    /// [`LARGEST`].
    pub(crate) fn new(vectors: &[f32], dimensions: usize) -> Self {
        let dimensions = dimensions.max(1);
        let (classes, width) = (vectors.len() / dimensions, dimensions.next_multiple_of(DOTS_STEP));
        let mut rounded = Self {
            dimensions,
            width,
            bytes: Aligned::zeros(classes * width),
            offsets: Vec::with_capacity(classes),
            scales: Vec::with_capacity(classes),
        };
        for (vector, bytes) in vectors.chunks_exact(dimensions).zip(rounded.bytes.chunks_exact_mut(width)) {
            rounded.scales.push(round(vector, bytes));
            rounded.offsets.push(bytes.iter().fold(0, |sum, byte| sum.wrapping_add(ZERO * i32::from(*byte))));
        }
        rounded
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.scales.len()
    }

    /// The vectors as they are written, exactly those that run. `[classes, dimensions]`
    pub(crate) fn to_floats(&self) -> Vec<f32> {
        let rows = self.bytes.chunks_exact(self.width).zip(&self.scales);
        let floats = |(row, scale): (&[i8], &f32)| -> Vec<f32> {
            row.iter().take(self.dimensions).map(|byte| f32::from(*byte) * scale).collect()
        };
        rows.flat_map(floats).collect()
    }

    /// Adds the product of a text's vector with each class's to `sums`. `[classes]`
    pub(crate) fn add_products(&self, vector: &[f32], sums: &mut [f32]) {
        let vector = RoundedVector::new(vector, self.width);
        let classes = self.scales.chunks(BLOCK).zip(self.offsets.chunks(BLOCK));
        let rows = self.bytes.chunks(BLOCK * self.width).zip(classes);
        for (sums, (rows, (scales, offsets))) in sums.chunks_mut(BLOCK).zip(rows) {
            let mut products = [0i32; BLOCK];
            let Some(products) = products.get_mut(..scales.len()) else { continue };
            dots(rows, &vector.bytes, products);
            widest(
                #[inline(always)]
                || {
                    let classes = products.iter().zip(offsets).zip(scales);
                    for (sum, ((product, offset), scale)) in sums.iter_mut().zip(classes) {
                        *sum += (*product - *offset) as f32 * (vector.scale * scale);
                    }
                },
            );
        }
    }
}

impl RoundedVector {
    /// Rounds a vector of any length; one that is not finite counts as zero.
    fn new(vector: &[f32], width: usize) -> Self {
        let mut bytes = vec![ZERO as u8; width];
        let mut scale = 0.0;
        widest(
            #[inline(always)]
            || {
                let largest = largest_of(vector);
                if largest > LEAST && largest < LARGEST {
                    scale = largest / MOST;
                    let inverse = MOST / largest;
                    for (byte, value) in bytes.iter_mut().zip(vector) {
                        // The integer is in the low bits: no element is larger than the largest.
                        *byte = (value * inverse + (ROUNDER + ZERO as f32)).to_bits() as u8;
                    }
                }
            },
        );
        Self { bytes, scale }
    }
}

/// How large the largest element is, either way; no number where one is none. Without their signs, floating point numbers are in the
/// order of their bits.
#[inline(always)]
pub(crate) fn largest_of(vector: &[f32]) -> f32 {
    let mut lanes = [0u32; 32];
    for values in vector.chunks(32) {
        lanes.iter_mut().zip(values).for_each(|(lane, value)| *lane = (*lane).max(value.abs().to_bits()));
    }
    f32::from_bits(lanes.into_iter().fold(0, u32::max))
}

/// Rounds a vector to steps of a scale that makes its largest element as large as a byte, and returns the scale.
fn round(vector: &[f32], bytes: &mut [i8]) -> f32 {
    let finite = |value: &f32| if value.is_finite() { value.clamp(-LARGEST, LARGEST) } else { 0.0 };
    let largest = vector.iter().map(|value| finite(value).abs()).fold(0.0, f32::max);
    let scale = if largest < LEAST { 0.0 } else { rounded_up(f64::from(largest) / f64::from(MOST)) };
    if scale > 0.0 {
        for (byte, value) in bytes.iter_mut().zip(vector) {
            *byte = (f64::from(finite(value)) / f64::from(scale)).round() as i8;
        }
    }
    scale
}

/// The least number that is no less and leaves [`FREE_BITS`] free. The largest element of a vector rounded by it is again exactly 127
/// such steps, so that a vector that was rounded before finds its scale again.
fn rounded_up(scale: f64) -> f32 {
    let near = scale as f32;
    let bits = near.to_bits() + u32::from(f64::from(near) < scale);
    f32::from_bits((bits + FREE_BITS) & !FREE_BITS)
}

impl InMemory for ClassVectors {
    fn held_bytes(&self) -> usize {
        self.bytes.held_bytes() + self.offsets.held_bytes() + self.scales.held_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn products_are_those_of_plain_sums_and_writing_changes_no_bit(
            classes in 1usize..140,
            dimensions in 1usize..70,
            size in -30i32..30,
            seed: u32,
        ) {
            let mut state = u64::from(seed);
            let mut next = |size: i32| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                ((state >> 33) as f32 / 2f32.powi(30) - 1.0) * 2f32.powi(size)
            };
            let vectors: Vec<f32> = (0..classes * dimensions).map(|i| next(size + (i % 5) as i32)).collect();
            let text: Vec<f32> = (0..dimensions).map(|_| next(-3)).collect();
            let rounded = ClassVectors::new(&vectors, dimensions);
            prop_assert_eq!(rounded.count(), classes);
            let again = ClassVectors::new(&rounded.to_floats(), dimensions);
            prop_assert_eq!(again.to_floats(), rounded.to_floats());
            let (mut sums, mut same) = (vec![0.5; classes], vec![0.5; classes]);
            rounded.add_products(&text, &mut sums);
            again.add_products(&text, &mut same);
            prop_assert_eq!(&sums, &same);
            for (sum, vector) in sums.iter().zip(vectors.chunks(dimensions)) {
                let plain: f64 = vector.iter().zip(&text).map(|(a, b)| f64::from(a * b)).sum();
                // Half a step of either, times the sum of the other, at most.
                let sum_of = |vector: &[f32]| vector.iter().map(|x| f64::from(x.abs())).sum::<f64>();
                let most = |vector: &[f32]| f64::from(vector.iter().fold(0.0f32, |most, x| most.max(x.abs())));
                let bound = (most(vector) * sum_of(&text) + most(&text) * sum_of(vector)) / 250.0 + 1e-6;
                prop_assert!((f64::from(*sum) - 0.5 - plain).abs() <= bound, "{} {}", sum, plain);
            }
        }

        #[test]
        fn any_vector_is_rounded_within_its_bound(vector in proptest::collection::vec(any::<f32>(), 1..40)) {
            let rounded = ClassVectors::new(&vector, vector.len());
            prop_assert!(rounded.bytes.iter().all(|byte| *byte > i8::MIN));
            let again = ClassVectors::new(&rounded.to_floats(), vector.len());
            prop_assert_eq!(&*again.bytes, &*rounded.bytes);
            prop_assert!(rounded.to_floats().iter().all(|value| value.is_finite()));
            let mut sums = [0.0];
            rounded.add_products(&vector, &mut sums);
        }
    }

    #[test]
    fn a_vector_of_one_element_and_of_none_is_itself() {
        let rounded = ClassVectors::new(&[1.0, 0.0, 0.0, 0.0, 0.0, -4.0], 3);
        let near =
            |found: &[f32], expected: &[f32]| found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-4);
        assert!(near(&rounded.to_floats(), &[1.0, 0.0, 0.0, 0.0, 0.0, -4.0]));
        let mut sums = [0.0; 2];
        rounded.add_products(&[0.0, 0.0, 0.5], &mut sums);
        assert!(near(&sums, &[0.0, -2.0]));
        assert_eq!(ClassVectors::new(&[], 3).count(), 0);
    }

    #[test]
    fn a_table_takes_a_quarter_of_what_floating_point_numbers_do() {
        let vectors = ClassVectors::new(&vec![0.5; 77 * 256], 256);
        assert!(vectors.held_bytes() < 77 * 256 + 77 * 16);
    }
}
