//! What are the products of a text's vector with one vector per class?
//!
//! In 16-bit integers: the tables of a task stay half as large as in floating point, two products are summed by one instruction,
//! and sums of integers are the same on every machine in any order. A vector's length is at least 2¹⁴ steps, so that what rounding loses is far
//! below what 8-bit weights beside it lose.
//!
//! A class's scale is a power of two, so that the floating point numbers in a file are exactly those that run, and reading and writing
//! them again changes no bit.

use crate::{
    kernels::{DOTS_STEP, dots, widest},
    memory::InMemory,
    static_head::dot,
};

/// The longest vector in steps of its scale. By Cauchy and Schwarz no sum of products of two such vectors, nor of some of their
/// elements, leaves 32 bits.
const LONGEST: f32 = 32_767.0;
/// The largest element: far beyond any weight, and far enough within what floating point holds to be rounded.
const LARGEST: f64 = 1e30;
/// Classes whose products are computed before they are turned into floating point.
const BLOCK: usize = 128;
/// Adding it rounds a number of moderate size to the nearest integer and leaves that in the low bits: 1.5 · 2²³.
const ROUNDER: f32 = 12_582_912.0;

/// One vector per class, of any length.
#[derive(Debug, Clone)]
pub(crate) struct ClassVectors {
    dimensions: usize,
    /// `dimensions`, filled up for [`dots`].
    width: usize,
    /// `[classes, width]`
    steps: Vec<i16>,
    /// What one step of a class is worth, a power of two. `[classes]`
    scales: Vec<f32>,
}

/// A text's vector in integers.
#[derive(Debug)]
pub(crate) struct RoundedVector {
    steps: Vec<i16>,
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
            steps: Vec::with_capacity(classes * width),
            scales: Vec::with_capacity(classes),
        };
        for vector in vectors.chunks_exact(dimensions) {
            let scale = round(vector, &mut rounded.steps);
            rounded.scales.push(scale);
            rounded.steps.resize(rounded.scales.len() * width, 0);
        }
        rounded
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.scales.len()
    }

    /// The vectors as they are written, exactly those that run. `[classes, dimensions]`
    pub(crate) fn to_floats(&self) -> Vec<f32> {
        let rows = self.steps.chunks_exact(self.width).zip(&self.scales);
        let floats = |(row, scale): (&[i16], &f32)| -> Vec<f32> {
            row.iter().take(self.dimensions).map(|steps| f32::from(*steps) * scale).collect()
        };
        rows.flat_map(floats).collect()
    }

    /// Adds the product of a text's vector with each class's to `sums`. `[classes]`
    pub(crate) fn add_products(&self, vector: &[f32], sums: &mut [f32]) {
        let vector = RoundedVector::new(vector, self.width);
        let rows = self.steps.chunks(BLOCK * self.width).zip(self.scales.chunks(BLOCK));
        for (sums, (rows, scales)) in sums.chunks_mut(BLOCK).zip(rows) {
            let mut products = [0i32; BLOCK];
            let Some(products) = products.get_mut(..scales.len()) else { continue };
            dots(rows, &vector.steps, products);
            widest(
                #[inline(always)]
                || {
                    for (sum, (product, scale)) in sums.iter_mut().zip(products.iter().zip(scales)) {
                        *sum += *product as f32 * (vector.scale * scale);
                    }
                },
            );
        }
    }
}

impl RoundedVector {
    /// Rounds a vector of any length; one that is not finite counts as zero.
    fn new(vector: &[f32], width: usize) -> Self {
        let mut steps = vec![0i16; width];
        let mut scale = 0.0;
        widest(
            #[inline(always)]
            || {
                let length = dot(vector, vector).sqrt();
                if length > 1e-30 && length < 1e30 {
                    scale = length / LONGEST;
                    let inverse = LONGEST / length;
                    for (step, value) in steps.iter_mut().zip(vector) {
                        // The integer is in the low bits: no element is longer than the vector.
                        *step = (value * inverse + ROUNDER).to_bits() as i16;
                    }
                }
            },
        );
        Self { steps, scale }
    }
}

/// Appends a vector in steps of the least power of two for which it is not too long, and returns that.
fn round(vector: &[f32], steps: &mut Vec<i16>) -> f32 {
    let finite =
        |value: &f32| if value.is_finite() { f64::from(*value).clamp(-LARGEST, LARGEST) } else { 0.0 };
    let length = vector.iter().map(|value| finite(value).powi(2)).sum::<f64>().sqrt();
    let begin = steps.len();
    let mut exponent = (exponent(length / f64::from(LONGEST)) + 1).clamp(-126, 113);
    // The largest first, so that vectors that were rounded before are found to fit again.
    while exponent > -126 && length <= f64::from(LONGEST) * power_of_two(exponent - 1) {
        exponent -= 1;
    }
    loop {
        let scale = power_of_two(exponent);
        steps.truncate(begin);
        steps.extend(vector.iter().map(|value| (finite(value) / scale).round() as i16));
        let squares = steps.iter().skip(begin).map(|steps| i64::from(*steps).pow(2)).sum::<i64>();
        // Rounding may lengthen a vector beyond the bound.
        if squares <= (LONGEST as i64).pow(2) || exponent >= 113 {
            return scale as f32;
        }
        exponent += 1;
    }
}

/// The exponent of two in a number.
fn exponent(value: f64) -> i32 {
    ((value.to_bits() >> 52) & 0x7ff) as i32 - 1_023
}

fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1_023) as u64) << 52)
}

impl InMemory for ClassVectors {
    fn held_bytes(&self) -> usize {
        self.steps.held_bytes() + self.scales.held_bytes()
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
            let length = |vector: &[f32]| vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            for (sum, vector) in sums.iter().zip(vectors.chunks(dimensions)) {
                let plain: f64 = vector.iter().zip(&text).map(|(a, b)| f64::from(a * b)).sum();
                let bound = 5e-4 * length(vector) * length(&text) + 1e-6;
                prop_assert!((f64::from(*sum) - 0.5 - plain).abs() <= bound, "{} {}", sum, plain);
            }
        }

        #[test]
        fn any_vector_is_rounded_within_its_bound(vector in proptest::collection::vec(any::<f32>(), 1..40)) {
            let rounded = ClassVectors::new(&vector, vector.len());
            let squares: i64 = rounded.steps.iter().map(|steps| i64::from(*steps).pow(2)).sum();
            prop_assert!(squares <= (LONGEST as i64).pow(2));
            prop_assert!(rounded.to_floats().iter().all(|value| value.is_finite()));
            let mut sums = [0.0];
            rounded.add_products(&vector, &mut sums);
        }
    }

    #[test]
    fn a_vector_of_one_element_and_of_none_is_itself() {
        let rounded = ClassVectors::new(&[1.0, 0.0, 0.0, 0.0, 0.0, -4.0], 3);
        assert_eq!(rounded.to_floats(), [1.0, 0.0, 0.0, 0.0, 0.0, -4.0]);
        let mut sums = [0.0; 2];
        rounded.add_products(&[0.0, 0.0, 0.5], &mut sums);
        assert_eq!(sums, [0.0, -2.0]);
        assert_eq!(ClassVectors::new(&[], 3).count(), 0);
    }

    #[test]
    fn a_table_takes_no_more_than_floating_point_numbers_do() {
        let vectors = ClassVectors::new(&vec![0.5; 77 * 256], 256);
        assert!(vectors.held_bytes() < 77 * 256 * 2 + 77 * 8);
    }
}
