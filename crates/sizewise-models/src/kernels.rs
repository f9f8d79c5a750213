//! How are 8-bit matrices multiplied on this machine?
//!
//! Activations are rounded row by row to unsigned bytes ([`rounded`]). Weights are signed bytes with one scale per output,
//! products are summed in 32-bit integers. The integer part is exact, so every kernel gives the same bits and a release
//! answers alike on every machine. The folder beside this file is the one place with `unsafe` code: the vector and
//! tile kernels read through pointers, and every length they rely on is asserted here.

mod aligned;
#[cfg(target_arch = "x86_64")]
mod avx2;
mod brains;
mod choice;
mod dots;
mod portable;
mod prefetch;
mod rounded;
mod rows;
#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod vnni;
mod wide;
#[cfg(target_arch = "x86_64")]
mod wide_brains;

pub(crate) use brains::{BrainRows, PackedBrains};
pub use choice::Kernel;
pub(crate) use dots::{LONGEST as LONGEST_DOTS, STEP as DOTS_STEP, dots};
pub(crate) use prefetch::prefetch;
pub(crate) use rounded::Rounded;
pub(crate) use rows::{MOST as MOST_ROWS, WeightedRows};
pub use wide::widest;

pub(crate) use aligned::Aligned;

use crate::memory::InMemory;

/// Outputs that are computed side by side: four vectors of sixteen, four tiles.
const PANEL: usize = 64;
/// Inputs that one instruction multiplies and sums into one output.
const GROUP: usize = 4;
/// Inputs are padded to a multiple of this: the bytes in a row of a tile.
const STEP: usize = 64;
/// Rows are padded to a multiple of this: the rows of a tile.
const TILE_ROWS: usize = 16;
/// Bytes of a tile. Those of activations are `[16 rows, 64 inputs]`, those of weights `[16 groups, 16 outputs, 4 inputs]`;
/// each lies in one piece, so that reading a tile is reading on.
const TILE: usize = TILE_ROWS * STEP;
/// Bytes of the four tiles of a panel at one step.
const PANEL_STEP: usize = PANEL * STEP;
/// Rows that share one pass over a panel: two tiles.
const BLOCK: usize = 2 * TILE_ROWS;

/// Weights of a linear layer, arranged for the kernels.
#[derive(Debug, Clone)]
pub(crate) struct PackedWeights {
    inputs: usize,
    outputs: usize,
    /// Tiles. `[panels, steps, 4, 16 groups, 16 outputs, 4 inputs]`, padded with zeros.
    packed: Aligned<i8>,
    /// The sum of each output's weights: what one step of the activations' offset adds. `[outputs]`
    weight_sums: Vec<i32>,
    /// `[outputs]`
    scales: Vec<f32>,
    /// `[outputs]`
    bias: Vec<f32>,
    /// Whether activations far beyond the others of their row are multiplied apart.
    outliers_apart: bool,
}

/// What a multiplication needs beside its operands.
#[derive(Debug)]
pub(crate) struct Scratch {
    kernel: Kernel,
    /// `[BLOCK, PANEL]`
    sums: Aligned<i32>,
    /// `[BLOCK, PANEL]`
    brain_sums: Aligned<f32>,
}

/// One panel's share of the work: rounded rows, and where their sums go.
struct Block<'a, A = u8, W = i8, S = i32> {
    /// One or two rows of tiles.
    activations: &'a [A],
    /// How many of the rows are real.
    rows: usize,
    /// A panel.
    weights: &'a [W],
    /// Tiles side by side in a row of tiles.
    steps: usize,
    /// `[BLOCK, PANEL]`; rows beyond the real ones may be overwritten.
    sums: &'a mut [S],
}

impl PackedWeights {
    /// Arranges weights. `weights` is `[outputs, inputs]`, `scales` and `bias` are `[outputs]`.
    pub(crate) fn new(weights: &[i8], scales: Vec<f32>, bias: Vec<f32>) -> Self {
        let outputs = scales.len();
        let inputs = weights.len() / outputs.max(1);
        let (steps, panels) = (inputs.div_ceil(STEP), outputs.div_ceil(PANEL));
        let mut packed = Aligned::zeros(panels * steps * PANEL_STEP);
        let mut weight_sums = vec![0i32; outputs];
        for (output, (row, sum)) in weights.chunks_exact(inputs.max(1)).zip(&mut weight_sums).enumerate() {
            let (panel, tile, lane) = (output / PANEL, output % PANEL / 16, output % 16);
            for (step, inputs) in row.chunks(STEP).enumerate() {
                let first = (panel * steps + step) * PANEL_STEP + tile * TILE + lane * GROUP;
                let groups = packed.get_mut(first..).unwrap_or_default().chunks_mut(STEP);
                for (slots, group) in groups.zip(inputs.chunks(GROUP)) {
                    slots.iter_mut().zip(group).for_each(|(slot, weight)| *slot = *weight);
                }
            }
            *sum = row.iter().map(|weight| i32::from(*weight)).sum();
        }
        Self { inputs, outputs, packed, weight_sums, scales, bias, outliers_apart: false }
    }

    /// Has activations far beyond the others of their row multiplied apart: closer, and some per cent slower.
    pub(crate) fn with_outliers_apart(self) -> Self {
        Self { outliers_apart: true, ..self }
    }

    /// Outputs of the layer.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Stores activations · weightsᵀ + bias in `out`, `[rows, outputs]`, number by number in the way that `store` says.
    #[inline]
    pub(crate) fn multiply(
        &self,
        rounded: &Rounded,
        out: &mut [f32],
        scratch: &mut Scratch,
        store: impl Fn(&mut f32, f32) + Copy,
    ) {
        let rows = rounded.scales.len();
        let steps = self.inputs.div_ceil(STEP);
        if rows == 0 || steps == 0 || rounded.inputs != self.inputs || out.len() != rows * self.outputs {
            return;
        }
        let Scratch { kernel, sums, .. } = scratch;
        sums.set_length(BLOCK * PANEL);
        let _tiles = kernel.begin();
        for (panel, weights) in self.packed.chunks_exact(steps * PANEL_STEP).enumerate() {
            let first = panel * PANEL;
            let columns = first..self.outputs.min(first + PANEL);
            for (number, activations) in rounded.bytes.chunks(2 * steps * TILE).enumerate() {
                let begin = number * BLOCK;
                let end = rows.min(begin + BLOCK);
                kernel.run(Block { activations, rows: end - begin, weights, steps, sums });
                rounded.add_outliers(begin..end, weights, sums);
                let Some(scales) = rounded.scales.get(begin..end) else { return };
                let Some(zeros) = rounded.zeros.get(begin..end) else { return };
                let Some(out) = out.get_mut(begin * self.outputs..end * self.outputs) else { return };
                self.write_out(columns.clone(), (sums, scales, zeros), out, store);
            }
        }
    }

    /// Turns sums back into floating point numbers.
    #[inline]
    fn write_out(
        &self,
        columns: std::ops::Range<usize>,
        (sums, row_scales, zeros): (&[i32], &[f32], &[i32]),
        out: &mut [f32],
        store: impl Fn(&mut f32, f32) + Copy,
    ) {
        let (Some(scales), Some(weight_sums), Some(bias)) = (
            self.scales.get(columns.clone()),
            self.weight_sums.get(columns.clone()),
            self.bias.get(columns.clone()),
        ) else {
            return;
        };
        widest(
            #[inline(always)]
            || {
                let rows = out.chunks_exact_mut(self.outputs).zip(sums.chunks_exact(PANEL));
                for ((out, sums), (row_scale, zero)) in rows.zip(row_scales.iter().zip(zeros)) {
                    let Some(out) = out.get_mut(columns.clone()) else { return };
                    let columns = scales.iter().zip(weight_sums).zip(bias);
                    for ((value, sum), ((scale, weights), bias)) in out.iter_mut().zip(sums).zip(columns) {
                        store(value, (sum - zero * weights) as f32 * (row_scale * scale) + bias);
                    }
                }
            },
        );
    }
}

impl Scratch {
    pub(crate) fn new(kernel: Kernel) -> Self {
        Self { kernel, sums: Aligned::new(), brain_sums: Aligned::new() }
    }
}

impl InMemory for PackedWeights {
    fn held_bytes(&self) -> usize {
        let rows = self.weight_sums.held_bytes() + self.scales.held_bytes() + self.bias.held_bytes();
        self.packed.held_bytes() + rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn product(packed: &PackedWeights, activations: &[f32], kernel: Kernel) -> Vec<f32> {
        let mut rounded = Rounded::new();
        rounded.set(activations, packed);
        let mut out = vec![0.0; activations.len() / packed.inputs * packed.outputs()];
        packed.multiply(&rounded, &mut out, &mut Scratch::new(kernel), |slot, value| *slot = value);
        out
    }

    #[test]
    fn a_product_is_close_to_the_exact_one() {
        let (rows, inputs, outputs) = (7, 33, 70);
        let value = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 50.0;
        let activations: Vec<f32> = (0..rows * inputs).map(value).collect();
        let weights: Vec<i8> = (0..outputs * inputs).map(|i| ((i * 53 % 255) as i16 - 127) as i8).collect();
        let packed = PackedWeights::new(&weights, vec![0.01; outputs], vec![0.5; outputs]);
        let out = product(&packed, &activations, Kernel::Portable);
        for row in 0..rows {
            for output in 0..outputs {
                let exact: f32 = (0..inputs)
                    .map(|i| activations[row * inputs + i] * f32::from(weights[output * inputs + i]) * 0.01)
                    .sum::<f32>()
                    + 0.5;
                assert!((out[row * outputs + output] - exact).abs() < 0.1, "{row} {output}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_kernel_gives_the_same_bits(rows in 1usize..70, inputs in 1usize..200, outputs in 1usize..140, seed: u64) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u32
            };
            let activations: Vec<f32> = (0..rows * inputs).map(|_| next() as f32 / 1e9 - 1.0).collect();
            let weights: Vec<i8> = (0..outputs * inputs).map(|_| (next() % 255) as u8 as i8).collect();
            let packed = PackedWeights::new(&weights, vec![0.01; outputs], vec![0.0; outputs]);
            let results: Vec<Vec<f32>> = Kernel::available()
                .into_iter()
                .map(|kernel| product(&packed, &activations, kernel))
                .collect();
            prop_assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }
}
