//! How are floating point numbers treated between the matrices?
//!
//! Plain loops, written so that the compiler makes vector instructions of them, and all of them inlined into
//! [`crate::kernels::widest`]. No loop adds in an order that hangs on the machine.

use super::{config::Activation, layers::Norm};
use crate::static_head::dot;

/// Adding it rounds a number of moderate size to the nearest integer and leaves that in the low bits: 1.5 · 2²³.
const ROUNDER: f32 = 12_582_912.0;

impl Norm {
    /// Normalises every row.
    #[inline(always)]
    pub(super) fn apply(&self, rows: &mut [f32]) {
        let size = self.weight.len();
        for row in rows.chunks_exact_mut(size) {
            let mean = sum(row) / size as f32;
            row.iter_mut().for_each(|value| *value -= mean);
            let variance = dot(row, row) / size as f32;
            let scale = 1.0 / (variance + self.epsilon).sqrt();
            for ((value, weight), bias) in row.iter_mut().zip(&self.weight).zip(&self.bias) {
                *value = *value * scale * weight + bias;
            }
        }
    }
}

/// The sum, in sixteen parts.
#[inline(always)]
pub(super) fn sum(values: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let chunks = values.chunks_exact(16);
    let tail: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += value);
    }
    sums.iter().sum::<f32>() + tail
}

/// Makes a vector unit length; a zero vector stays as it is.
pub(super) fn to_unit_length(values: &mut [f32]) {
    let length = dot(values, values).sqrt();
    if length > 0.0 {
        values.iter_mut().for_each(|value| *value /= length);
    }
}

#[inline(always)]
pub(super) fn activate(activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Relu => values.iter_mut().for_each(|x| *x = x.max(0.0)),
        Activation::Gelu => {
            values.iter_mut().for_each(|x| *x *= 0.5 * (1.0 + erf(*x * std::f32::consts::FRAC_1_SQRT_2)))
        }
        Activation::GeluTanh => values.iter_mut().for_each(|x| {
            let inner = 0.797_884_6 * (*x + 0.044_715 * *x * *x * *x);
            // 1 + tanh(y) = 2 / (1 + exp(-2 y))
            *x /= 1.0 + exp(-2.0 * inner);
        }),
    }
}

/// The error function, to 1.5 · 10⁻⁷ (Abramowitz and Stegun 1964, 7.1.26).
#[inline(always)]
fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let series =
        t * (0.254_829_6 + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    let value = 1.0 - series * exp(-x * x);
    value.copysign(x)
}

/// The exponential function, to about 3 · 10⁻⁷ relative: a power of two by its bits times a polynomial of the rest
/// (coefficients after Cephes, Moshier 1989). Unlike the library's, it becomes vector instructions.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Comparisons in this form are one instruction each; `clamp` is several, for what is not a number.
    let x = if x > -87.0 { x } else { -87.0 };
    let x = if x < 88.0 { x } else { 88.0 };
    let rounded = x * std::f32::consts::LOG2_E + ROUNDER;
    let n = rounded - ROUNDER;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.0
        + r * (1.0
            + r * (0.5 + r * (0.166_666_66 + r * (0.041_665_795 + r * (0.008_333_452 + r * 0.001_388_9)))));
    // The integer in the low bits of `rounded`, put where the exponent of a number is.
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    p * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_close_everywhere() {
        for i in -8_700..8_800 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() <= 1e-6 * exact, "{x}: {} {exact}", exp(x));
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37 && exp(-1e30) < 1e-37);
    }

    #[test]
    fn the_error_function_has_its_published_values() {
        // NIST Digital Library of Mathematical Functions, table 7.
        for (x, expected) in
            [(0.0, 0.0), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (2.0, 0.995_322_3), (-1.0, -0.842_700_8)]
        {
            assert!((erf(x) - expected).abs() < 1e-6, "{x}: {}", erf(x));
        }
    }
}
