//! What do the functions between the matrices do, forward and backward?
//!
//! The forward halves compute as the run-time form does. Plain loops, all inlined into [`sizewise_models::widest`].

pub(super) use sizewise_models::encoder::exp;
use sizewise_models::{encoder::Activation, widest};

/// What the backward pass of a layer normalisation needs.
#[derive(Debug, Default)]
pub(super) struct NormTape {
    /// Rows of mean 0 and variance 1. `[tokens, hidden]`
    normalised: Vec<f32>,
    /// One over each row's deviation. `[tokens]`
    scales: Vec<f32>,
}

/// The sum of products, in sixteen parts.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let (left, right) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in left.0.iter().zip(right.0) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let tail: f32 = left.1.iter().zip(right.1).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + tail
}

#[inline(always)]
fn sum(values: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let (chunks, tail) = values.as_chunks::<16>();
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += value);
    }
    sums.iter().sum::<f32>() + tail.iter().sum::<f32>()
}

/// Normalises every row in place (Ba et al. 2016). `rows` is `[tokens, hidden]`; no bias means zeros.
pub(super) fn norm(rows: &mut [f32], (weight, bias): (&[f32], &[f32]), epsilon: f32) -> NormTape {
    let size = weight.len().max(1);
    let mut tape = NormTape { normalised: Vec::with_capacity(rows.len()), scales: Vec::new() };
    widest(
        #[inline(always)]
        || {
            for row in rows.chunks_exact_mut(size) {
                let mean = sum(row) / size as f32;
                row.iter_mut().for_each(|value| *value -= mean);
                let variance = dot(row, row) / size as f32;
                let scale = 1.0 / (variance + epsilon).sqrt();
                row.iter_mut().for_each(|value| *value *= scale);
                tape.normalised.extend_from_slice(row);
                tape.scales.push(scale);
                row.iter_mut().zip(weight).for_each(|(value, weight)| *value *= weight);
                row.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
            }
        },
    );
    tape
}

/// Turns the gradient of a normalisation's outputs into that of its inputs, in place, and adds the gradients of its weights
/// where they are wanted.
pub(super) fn norm_backward(
    slopes: &mut [f32],
    tape: &NormTape,
    weight: &[f32],
    mut wanted: Option<(&mut [f32], &mut [f32])>,
) {
    let size = weight.len().max(1);
    widest(
        #[inline(always)]
        || {
            let rows = slopes.chunks_exact_mut(size).zip(tape.normalised.chunks_exact(size));
            for ((slopes, normalised), scale) in rows.zip(&tape.scales) {
                if let Some((weight_slopes, bias_slopes)) = &mut wanted {
                    let products = slopes.iter().zip(normalised).map(|(slope, value)| slope * value);
                    weight_slopes.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
                    bias_slopes.iter_mut().zip(slopes.iter()).for_each(|(sum, slope)| *sum += slope);
                }
                slopes.iter_mut().zip(weight).for_each(|(slope, weight)| *slope *= weight);
                let mean = sum(slopes) / size as f32;
                let along = dot(slopes, normalised) / size as f32;
                for (slope, value) in slopes.iter_mut().zip(normalised) {
                    *slope = (*slope - mean - value * along) * scale;
                }
            }
        },
    );
}

/// Writes the activation of `before` to `after`.
pub(super) fn activate(activation: Activation, before: &[f32], after: &mut Vec<f32>) {
    after.clear();
    after.resize(before.len(), 0.0);
    widest(
        #[inline(always)]
        || {
            let pairs = after.iter_mut().zip(before);
            match activation {
                Activation::Relu => pairs.for_each(|(y, x)| *y = x.max(0.0)),
                Activation::Gelu => pairs.for_each(|(y, x)| *y = x * normal_share(*x)),
                Activation::GeluTanh => pairs.for_each(|(y, x)| *y = x * tanh_share(*x)),
            }
        },
    );
}

/// Multiplies slopes by the derivative of the activation at `before`.
pub(super) fn activate_backward(activation: Activation, before: &[f32], slopes: &mut [f32]) {
    const DENSITY: f32 = 0.398_942_3;
    widest(
        #[inline(always)]
        || {
            let pairs = slopes.iter_mut().zip(before);
            match activation {
                Activation::Relu => pairs.for_each(|(slope, x)| *slope *= f32::from(u8::from(*x > 0.0))),
                Activation::Gelu => pairs.for_each(|(slope, x)| {
                    *slope *= normal_share(*x) + x * DENSITY * exp(-0.5 * x * x);
                }),
                Activation::GeluTanh => pairs.for_each(|(slope, x)| {
                    let share = tanh_share(*x);
                    let inner = 0.797_884_6 * (1.0 + 3.0 * 0.044_715 * x * x);
                    *slope *= share + x * 2.0 * share * (1.0 - share) * inner;
                }),
            }
        },
    );
}

/// Writes the activation of the first half of every row of `before`, times the second half, to `after`.
/// `[tokens, 2 · width]` to `[tokens, width]`
pub(super) fn gate(activation: Activation, (before, width): (&[f32], usize), after: &mut Vec<f32>) {
    let [first, second] = halves(before, width);
    activate(activation, &first, after);
    after.iter_mut().zip(second).for_each(|(value, gate)| *value *= gate);
}

/// Turns the gradient of [`gate`]'s outputs into that of `before`.
pub(super) fn gate_backward(
    activation: Activation,
    (before, width): (&[f32], usize),
    mut slopes: Vec<f32>,
) -> Vec<f32> {
    let [first, second] = halves(before, width);
    let mut active = Vec::new();
    activate(activation, &first, &mut active);
    active.iter_mut().zip(&slopes).for_each(|(value, slope)| *value *= slope);
    slopes.iter_mut().zip(second).for_each(|(slope, gate)| *slope *= gate);
    activate_backward(activation, &first, &mut slopes);
    let rows = slopes.chunks_exact(width.max(1)).zip(active.chunks_exact(width.max(1)));
    rows.flat_map(|(first, second)| first.iter().chain(second).copied()).collect()
}

/// The first and the second halves of all rows. `rows` is `[tokens, 2 · width]`.
fn halves(rows: &[f32], width: usize) -> [Vec<f32>; 2] {
    let half = |number: usize| {
        let halves = rows.chunks_exact(width.max(1)).skip(number).step_by(2);
        halves.flatten().copied().collect()
    };
    [half(0), half(1)]
}

/// Φ(x), the share of a normal distribution below x, by the error function to 1.5 · 10⁻⁷ (Abramowitz and Stegun 1964, 7.1.26).
#[inline(always)]
fn normal_share(x: f32) -> f32 {
    let z = x * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z.abs());
    let series =
        t * (0.254_829_6 + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    let value = 1.0 - series * exp(-z * z);
    0.5 * (1.0 + value.copysign(z))
}

/// (1 + tanh(y)) / 2 of GELU's approximation.
#[inline(always)]
fn tanh_share(x: f32) -> f32 {
    let inner = 0.797_884_6 * (x + 0.044_715 * x * x * x);
    1.0 / (1.0 + exp(-2.0 * inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_of_activations_are_those_of_the_functions() {
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu] {
            for x in [-3.0f32, -1.1, -0.3, 0.2, 0.9, 2.5] {
                let at = |x: f32| {
                    let mut out = Vec::new();
                    activate(activation, &[x], &mut out);
                    out[0]
                };
                let exact = (at(x + 1e-2) - at(x - 1e-2)) / 2e-2;
                let mut slope = [1.0];
                activate_backward(activation, &[x], &mut slope);
                assert!((slope[0] - exact).abs() < 1e-3, "{activation:?} {x}: {} {exact}", slope[0]);
            }
        }
    }

    #[test]
    fn slopes_of_a_normalisation_are_those_of_the_function() {
        let (weight, bias) = ([0.5, 1.5, -1.0, 2.0], [0.1, 0.0, -0.2, 0.3]);
        let wanted = [0.3f32, -0.7, 0.2, 1.1, -0.4, 0.6, 0.9, -1.3];
        let inputs = [0.2f32, -1.0, 0.7, 0.4, 1.2, 0.1, -0.6, 0.5];
        let loss = |inputs: &[f32], weight: &[f32; 4], bias: &[f32; 4]| {
            let mut rows = inputs.to_vec();
            norm(&mut rows, (weight, bias), 1e-12);
            dot(&rows, &wanted)
        };
        let mut rows = inputs.to_vec();
        let tape = norm(&mut rows, (&weight, &bias), 1e-12);
        let (mut w, mut b) = ([0.0; 4], [0.0; 4]);
        let mut slopes = wanted.to_vec();
        norm_backward(&mut slopes, &tape, &weight, Some((&mut w, &mut b)));
        for i in 0..8 {
            let nudged = |by: f32| {
                let mut moved = inputs;
                moved[i] += by;
                loss(&moved, &weight, &bias)
            };
            assert!(((nudged(1e-2) - nudged(-1e-2)) / 2e-2 - slopes[i]).abs() < 2e-3, "{i}");
        }
        for i in 0..4 {
            let (mut up, mut down) = (weight, weight);
            up[i] += 1e-2;
            down[i] -= 1e-2;
            assert!(((loss(&inputs, &up, &bias) - loss(&inputs, &down, &bias)) / 2e-2 - w[i]).abs() < 1e-3);
            let (mut up, mut down) = (bias, bias);
            up[i] += 1e-2;
            down[i] -= 1e-2;
            assert!(
                ((loss(&inputs, &weight, &up) - loss(&inputs, &weight, &down)) / 2e-2 - b[i]).abs() < 1e-3
            );
        }
    }
}
