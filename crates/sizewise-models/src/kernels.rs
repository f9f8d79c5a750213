//! How are 8-bit matrices multiplied on this machine?
//!
//! Activations are rounded row by row to unsigned bytes around 128, weights are signed bytes with one scale per output,
//! products are summed in 32-bit integers. The integer part is exact, so every kernel gives the same bits and a release
//! answers alike on every machine. The folder beside this file is the one place with `unsafe` code: the vector and tile
//! kernels read through pointers, and every length they rely on is asserted here.

mod choice;
mod portable;
#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod vnni;
mod wide;

pub use choice::Kernel;
pub use wide::widest;

/// Outputs that are computed side by side: four vectors of sixteen, four tiles.
const PANEL: usize = 64;
/// Inputs that one instruction multiplies and sums into one output.
const GROUP: usize = 4;
/// Inputs are padded to a multiple of this: the bytes in a row of a tile.
const STEP: usize = 64;
/// Rows are padded to a multiple of this: the rows of a tile.
const TILE_ROWS: usize = 16;
/// Rows that share one pass over a panel: two tiles.
const BLOCK: usize = 2 * TILE_ROWS;

/// Weights of a linear layer, arranged for the kernels.
#[derive(Debug, Clone)]
pub(crate) struct PackedWeights {
    inputs: usize,
    outputs: usize,
    /// `[panels, stride / 4, 64, 4]`, padded with zeros.
    packed: Vec<i8>,
    /// 128 times the sum of each output's weights: what the offset of the activations adds. `[outputs]`
    offsets: Vec<i32>,
    /// `[outputs]`
    scales: Vec<f32>,
    /// `[outputs]`
    bias: Vec<f32>,
}

/// Rounded activations and sums. Reused from layer to layer.
#[derive(Debug)]
pub(crate) struct Scratch {
    kernel: Kernel,
    /// `[rows, stride]`, rows padded to whole tiles.
    rounded: Vec<u8>,
    row_scales: Vec<f32>,
    /// `[BLOCK, PANEL]`
    sums: Vec<i32>,
}

/// One panel's share of the work: rounded rows, and where their sums go.
struct Block<'a> {
    /// `[rows, stride]`, at most [`BLOCK`] rows, padded to whole tiles.
    bytes: &'a [u8],
    /// How many of the rows are real.
    rows: usize,
    /// `[stride / 4, 64, 4]`
    weights: &'a [i8],
    stride: usize,
    /// `[BLOCK, PANEL]`; rows beyond the real ones may be overwritten.
    sums: &'a mut [i32],
}

impl PackedWeights {
    /// Arranges weights. `weights` is `[outputs, inputs]`, `scales` and `bias` are `[outputs]`.
    pub(crate) fn new(weights: &[i8], scales: Vec<f32>, bias: Vec<f32>) -> Self {
        let outputs = scales.len();
        let inputs = weights.len() / outputs.max(1);
        let (groups, panels) = (inputs.next_multiple_of(STEP) / GROUP, outputs.div_ceil(PANEL));
        let mut packed = vec![0i8; panels * groups * PANEL * GROUP];
        let mut offsets = vec![0i32; outputs];
        for (output, (row, offset)) in weights.chunks_exact(inputs.max(1)).zip(&mut offsets).enumerate() {
            let (panel, lane) = (output / PANEL, output % PANEL);
            for (input, weight) in row.iter().enumerate() {
                let at = ((panel * groups + input / GROUP) * PANEL + lane) * GROUP + input % GROUP;
                if let Some(slot) = packed.get_mut(at) {
                    *slot = *weight;
                }
            }
            *offset = row.iter().map(|weight| i32::from(*weight)).sum::<i32>() * 128;
        }
        Self { inputs, outputs, packed, offsets, scales, bias }
    }

    /// Inputs of the layer.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Outputs of the layer.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// out = activations · weightsᵀ + bias. `activations` is `[rows, inputs]`, `out` is `[rows, outputs]`.
    pub(crate) fn multiply(&self, activations: &[f32], out: &mut [f32], scratch: &mut Scratch) {
        let rows = activations.len() / self.inputs.max(1);
        let stride = self.inputs.next_multiple_of(STEP);
        if rows == 0 || stride == 0 || out.len() != rows * self.outputs {
            return;
        }
        scratch.round(activations, rows, (self.inputs, stride));
        let Scratch { kernel, rounded, row_scales, sums } = scratch;
        sums.resize(BLOCK * PANEL, 0);
        let _tiles = kernel.begin();
        for (panel, weights) in self.packed.chunks_exact(stride * PANEL).enumerate() {
            let first = panel * PANEL;
            let columns = first..self.outputs.min(first + PANEL);
            for (number, bytes) in rounded.chunks(BLOCK * stride).enumerate() {
                let begin = number * BLOCK;
                let block = Block { bytes, rows: BLOCK.min(rows - begin), weights, stride, sums };
                let end = begin + block.rows;
                kernel.run(block);
                self.write_out(columns.clone(), (begin..end, sums, row_scales), out);
            }
        }
    }

    /// Turns sums back into floating point numbers.
    fn write_out(
        &self,
        columns: std::ops::Range<usize>,
        (rows, sums, row_scales): (std::ops::Range<usize>, &[i32], &[f32]),
        out: &mut [f32],
    ) {
        let (Some(scales), Some(offsets), Some(bias)) = (
            self.scales.get(columns.clone()),
            self.offsets.get(columns.clone()),
            self.bias.get(columns.clone()),
        ) else {
            return;
        };
        widest(
            #[inline(always)]
            || {
                for (row, sums) in rows.clone().zip(sums.chunks_exact(PANEL)) {
                    let begin = row * self.outputs;
                    let (Some(row_scale), Some(out)) =
                        (row_scales.get(row), out.get_mut(begin + columns.start..begin + columns.end))
                    else {
                        return;
                    };
                    let columns = scales.iter().zip(offsets).zip(bias);
                    for ((value, sum), ((scale, offset), bias)) in out.iter_mut().zip(sums).zip(columns) {
                        *value = (sum - offset) as f32 * (row_scale * scale) + bias;
                    }
                }
            },
        );
    }
}

impl Scratch {
    pub(crate) fn new(kernel: Kernel) -> Self {
        Self { kernel, rounded: Vec::new(), row_scales: Vec::new(), sums: Vec::new() }
    }

    /// Rounds rows of `inputs` numbers to rows of `stride` bytes.
    fn round(&mut self, activations: &[f32], rows: usize, (inputs, stride): (usize, usize)) {
        let Self { rounded, row_scales, .. } = self;
        rounded.clear();
        rounded.resize(rows.next_multiple_of(TILE_ROWS) * stride, 128);
        row_scales.clear();
        widest(
            #[inline(always)]
            || {
                for (row, bytes) in activations.chunks_exact(inputs).zip(rounded.chunks_exact_mut(stride)) {
                    row_scales.push(round_row(row, bytes));
                }
            },
        );
    }
}

/// Rounds a row to bytes around 128 and returns the scale.
#[inline(always)]
fn round_row(row: &[f32], bytes: &mut [u8]) -> f32 {
    let largest = row.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    if largest == 0.0 {
        return 1.0;
    }
    let inverse = 127.0 / largest;
    for (byte, value) in bytes.iter_mut().zip(row) {
        // Adding 1.5 · 2²³ rounds to the nearest integer and leaves it in the low bits.
        let shifted = value * inverse + 12_582_912.0;
        *byte = (shifted.to_bits() as u8).wrapping_add(128);
    }
    largest / 127.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_product_is_close_to_the_exact_one() {
        let (rows, inputs, outputs) = (7, 33, 70);
        let value = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 50.0;
        let activations: Vec<f32> = (0..rows * inputs).map(value).collect();
        let weights: Vec<i8> = (0..outputs * inputs).map(|i| ((i * 53 % 255) as i16 - 127) as i8).collect();
        let packed = PackedWeights::new(&weights, vec![0.01; outputs], vec![0.5; outputs]);
        let mut out = vec![0.0; rows * outputs];
        packed.multiply(&activations, &mut out, &mut Scratch::new(Kernel::Portable));
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
                .map(|kernel| {
                    let mut out = vec![0.0; rows * outputs];
                    packed.multiply(&activations, &mut out, &mut Scratch::new(kernel));
                    out
                })
                .collect();
            prop_assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }
}
