//! How are floating point numbers treated between the matrices?
//!
//! Plain loops, written so that the compiler makes vector instructions of them, and all of them inlined into
//! [`crate::kernels::widest`]. No loop adds in an order that hangs on the machine.

use super::layers::Norm;
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

/// x · Φ(x), to 10⁻⁶ (Hendrycks and Gimpel 2016). Φ is a half and an odd polynomial up to the bound, where it is one or zero
/// to that precision; no division and no exponential, which would take longer than a matrix does.
#[inline(always)]
pub(super) fn gelu(x: f32) -> f32 {
    const BOUND: f32 = 5.5;
    let inside = if x < BOUND { x } else { BOUND };
    let inside = if inside > -BOUND { inside } else { -BOUND };
    // From -1 to 1: powers of a number around zero do not cancel one another.
    let u = (inside * inside).mul_add(2.0 / (BOUND * BOUND), -1.0);
    // (Φ(x) - 1/2) / x by u, least largest error of x · Φ(x) (iterated weighted least squares on Chebyshev nodes).
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = GELU;
    let p = n.mul_add(u, m).mul_add(u, l).mul_add(u, k).mul_add(u, j).mul_add(u, i).mul_add(u, h);
    let p = p.mul_add(u, g).mul_add(u, f).mul_add(u, e).mul_add(u, d).mul_add(u, c).mul_add(u, b);
    let p = p.mul_add(u, a);
    x * inside.mul_add(p, 0.5)
}

const GELU: [f32; 14] = [
    0.128_551_95,
    -0.064_171_97,
    0.047_735_486,
    -0.038_804_796,
    0.032_115_586,
    -0.025_942_007,
    0.020_017_724,
    -0.015_368_319,
    0.011_455_917,
    -0.006_311_251,
    0.002_439_732_7,
    -0.002_492_717_5,
    0.002_607_432_2,
    -0.000_923_692,
];

/// The approximation of [`gelu`] by the hyperbolic tangent.
#[inline(always)]
pub(super) fn gelu_tanh(x: f32) -> f32 {
    let inner = 0.797_884_6 * (x + 0.044_715 * x * x * x);
    // 1 + tanh(y) = 2 / (1 + exp(-2 y))
    x / (1.0 + exp(-2.0 * inner))
}

/// The exponential function, to about 3 · 10⁻⁷ relative: a power of two by its bits times a polynomial of the rest
/// (coefficients after Cephes, Moshier 1989). Unlike the library's, it becomes vector instructions.
#[inline(always)]
#[must_use]
pub fn exp(x: f32) -> f32 {
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
    fn the_activation_has_its_exact_values() {
        // x · Φ(x) with Φ from the NIST Digital Library of Mathematical Functions, tables of erf.
        for (x, expected) in [
            (0.0, 0.0),
            (0.5, 0.345_731_2),
            (1.0, 0.841_344_7),
            (2.0, 1.954_499_7),
            (-1.0, -0.158_655_3),
            (-3.0, -0.004_049_7),
            (-8.0, 0.0),
            (8.0, 8.0),
            (100.0, 100.0),
        ] {
            assert!((gelu(x) - expected).abs() < 3e-6_f32.max(1e-6 * x), "{x}: {}", gelu(x));
        }
        assert!(gelu(-100.0).abs() < 1e-4);
    }
}
