//! How are matrices of brain floating point numbers (bfloat16) multiplied on this machine?
//!
//! Weights and activations keep eight bits of precision and the whole range of exponents, products are summed in 32-bit
//! floating point numbers. The order of the sums is the processor's own, so kernels agree to rounding and not to the bit;
//! on one machine a row's result does not depend on the rows beside it.

use super::{Block, STEP, Scratch, TILE, TILE_ROWS, aligned::Aligned, widest};
use crate::{memory::InMemory, products::Order};

/// Outputs that are computed side by side.
const PANEL: usize = super::PANEL;
/// Rows that share one pass over a panel.
const BLOCK: usize = super::BLOCK;
/// Inputs that one instruction multiplies and sums into one output.
pub(super) const BRAIN_GROUP: usize = 2;
/// Inputs are padded to a multiple of this: those in a row of a tile.
pub(super) const BRAIN_STEP: usize = STEP / 2;
/// Numbers of a tile.
pub(super) const BRAIN_TILE: usize = TILE / 2;
/// Numbers of the four tiles of a panel at one step.
pub(super) const BRAIN_PANEL_STEP: usize = PANEL * BRAIN_STEP;

/// One panel's share of the work.
pub(super) type BrainBlock<'a> = Block<'a, u16, u16, f32>;

/// Weights of a linear layer, arranged for the kernels.
#[derive(Debug, Clone)]
pub(crate) struct PackedBrains {
    inputs: usize,
    outputs: usize,
    /// Tiles. `[panels, steps, 4, 16 groups, 16 outputs, 2 inputs]`, padded with zeros.
    packed: Aligned<u16>,
    /// `[outputs]`
    bias: Vec<f32>,
}

/// Rows of activations in brain floating point.
#[derive(Debug)]
pub(crate) struct BrainRows {
    /// Tiles. `[rows / 16, steps, 16 rows, 32 inputs]`, zero beyond the last input; what lies beyond the last row is never
    /// used.
    values: Aligned<u16>,
    rows: usize,
    inputs: usize,
}

impl PackedBrains {
    /// Arranges weights, given as bits. `weights` is `[outputs, inputs]`, `bias` is `[outputs]`.
    pub(crate) fn new(weights: &[u16], bias: Vec<f32>) -> Self {
        let (outputs, packed) = (bias.len(), Aligned::new());
        let mut arranged = Self { inputs: 0, outputs: 0, packed, bias: Vec::new() };
        arranged.make_room(weights.len() / outputs.max(1), outputs);
        arranged.arrange_columns(weights, |bits| bits);
        arranged.bias = bias;
        arranged
    }

    /// Zeros for a layer of another shape: buffers keep what was there, and what fills up must be zero.
    fn make_room(&mut self, inputs: usize, outputs: usize) {
        (self.inputs, self.outputs) = (inputs, outputs);
        self.bias = vec![0.0; outputs];
        self.packed.set_length(outputs.div_ceil(PANEL) * inputs.div_ceil(BRAIN_STEP) * BRAIN_PANEL_STEP);
        self.packed.fill(0);
    }

    /// Takes and arranges weights anew, without a bias. `weights` is `[inputs, outputs]`; what does not fill a row or a column is
    /// left out.
    pub(crate) fn arrange(&mut self, weights: &[f32], inputs: usize, order: Order) {
        let outputs = weights.len() / inputs.max(1);
        if (inputs, outputs) != (self.inputs, self.outputs) {
            self.make_room(inputs, outputs);
        }
        widest(
            #[inline(always)]
            || match order {
                Order::Rows => self.arrange_rows(weights),
                Order::Columns => self.arrange_columns(weights, round),
            },
        );
    }

    /// Two inputs of many outputs at a time.
    #[inline(always)]
    fn arrange_rows(&mut self, weights: &[f32]) {
        let steps = self.inputs.div_ceil(BRAIN_STEP);
        let rows = weights.get(..self.inputs * self.outputs).unwrap_or_default();
        let nothing = vec![0.0; self.outputs];
        for (pair, rows) in rows.chunks(BRAIN_GROUP * self.outputs.max(1)).enumerate() {
            let (even, odd) = rows.split_at(self.outputs);
            let odd = if odd.is_empty() { &nothing } else { odd };
            let (step, group) = (pair / 16, pair % 16);
            for (number, (even, odd)) in even.chunks(16).zip(odd.chunks(16)).enumerate() {
                let (panel, tile) = (number / 4, number % 4);
                let first =
                    (panel * steps + step) * BRAIN_PANEL_STEP + tile * BRAIN_TILE + group * BRAIN_STEP;
                let slots = self.packed.get_mut(first..first + BRAIN_STEP).unwrap_or_default();
                for (slots, values) in slots.as_chunks_mut().0.iter_mut().zip(even.iter().zip(odd)) {
                    *slots = round_both(*values.0, *values.1);
                }
            }
        }
    }

    /// All inputs of one output at a time.
    #[inline(always)]
    fn arrange_columns<T: Copy>(&mut self, weights: &[T], bits: impl Fn(T) -> u16) {
        let steps = self.inputs.div_ceil(BRAIN_STEP);
        let columns = weights.chunks_exact(self.inputs.max(1)).take(self.outputs);
        for (output, column) in columns.enumerate() {
            let (panel, tile, lane) = (output / PANEL, output % PANEL / 16, output % 16);
            for (step, inputs) in column.chunks(BRAIN_STEP).enumerate() {
                let first =
                    (panel * steps + step) * BRAIN_PANEL_STEP + tile * BRAIN_TILE + lane * BRAIN_GROUP;
                let groups = self.packed.get_mut(first..).unwrap_or_default().chunks_mut(BRAIN_STEP);
                for (slots, group) in groups.zip(inputs.chunks(BRAIN_GROUP)) {
                    slots.iter_mut().zip(group).for_each(|(slot, weight)| *slot = bits(*weight));
                }
            }
        }
    }

    /// Inputs of the layer.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Outputs of the layer.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Stores activations · weightsᵀ + bias in `out`, `[rows, outputs]`, number by number in the way that `store` says.
    #[inline]
    pub(crate) fn multiply(
        &self,
        rows: &BrainRows,
        out: &mut [f32],
        scratch: &mut Scratch,
        store: impl Fn(&mut f32, f32) + Copy,
    ) {
        let steps = self.inputs.div_ceil(BRAIN_STEP);
        if rows.rows == 0 || steps == 0 || rows.inputs != self.inputs || out.len() != rows.rows * self.outputs
        {
            return;
        }
        let Scratch { kernel, brain_sums: sums, .. } = scratch;
        sums.set_length(BLOCK * PANEL);
        let _tiles = kernel.begin();
        for (panel, weights) in self.packed.chunks_exact(steps * BRAIN_PANEL_STEP).enumerate() {
            let columns = panel * PANEL..self.outputs.min((panel + 1) * PANEL);
            let Some(bias) = self.bias.get(columns.clone()) else { return };
            for (number, activations) in rows.values.chunks(2 * steps * BRAIN_TILE).enumerate() {
                let begin = number * BLOCK;
                let end = rows.rows.min(begin + BLOCK);
                kernel.run_brains(Block { activations, rows: end - begin, weights, steps, sums });
                let Some(out) = out.get_mut(begin * self.outputs..end * self.outputs) else { return };
                widest(
                    #[inline(always)]
                    || {
                        for (out, sums) in out.chunks_exact_mut(self.outputs).zip(sums.chunks_exact(PANEL)) {
                            let slots = out.get_mut(columns.clone()).unwrap_or_default();
                            for ((value, sum), bias) in slots.iter_mut().zip(sums).zip(bias) {
                                store(value, sum + bias);
                            }
                        }
                    },
                );
            }
        }
    }
}

impl BrainRows {
    pub(crate) fn new() -> Self {
        Self { values: Aligned::new(), rows: 0, inputs: 0 }
    }

    /// Rounds rows of `inputs` numbers; what was here before is gone.
    pub(crate) fn set(&mut self, activations: &[f32], inputs: usize) {
        let steps = inputs.div_ceil(BRAIN_STEP);
        self.rows = activations.len() / inputs.max(1);
        self.inputs = inputs;
        self.values.set_length(self.rows.div_ceil(TILE_ROWS) * steps * BRAIN_TILE);
        widest(
            #[inline(always)]
            || {
                for (number, row) in activations.chunks_exact(inputs.max(1)).enumerate() {
                    let first = number / TILE_ROWS * steps * BRAIN_TILE + number % TILE_ROWS * BRAIN_STEP;
                    let tiles = self.values.get_mut(first..).unwrap_or_default().chunks_mut(BRAIN_TILE);
                    for (slots, values) in tiles.zip(row.chunks(BRAIN_STEP)) {
                        let slots = slots.get_mut(..BRAIN_STEP).unwrap_or_default();
                        for (slot, value) in slots.iter_mut().zip(values) {
                            *slot = round(*value);
                        }
                        // Weights are zero there, but zero times what is left of other rows may not be.
                        slots.get_mut(values.len()..).unwrap_or_default().fill(0);
                    }
                }
            },
        );
    }

    /// Rounds rows of `inputs` numbers that lie column after column; what was here before is gone, and what does not fill a column is
    /// left out.
    pub(crate) fn set_columns(&mut self, activations: &[f32], inputs: usize) {
        let steps = inputs.div_ceil(BRAIN_STEP);
        self.rows = activations.len() / inputs.max(1);
        self.inputs = inputs;
        self.values.set_length(self.rows.div_ceil(TILE_ROWS) * steps * BRAIN_TILE);
        let activations = activations.get(..self.rows * inputs).unwrap_or_default();
        let rows = self.rows.max(1);
        let nothing = vec![0.0; rows];
        widest(
            #[inline(always)]
            || {
                // A tile is zero beyond the last input, and filled from pieces of columns that fit into a cache line.
                for (step, columns) in activations.chunks(BRAIN_STEP * rows).take(steps).enumerate() {
                    for first in (0..rows).step_by(TILE_ROWS) {
                        let tile = (first / TILE_ROWS * steps + step) * BRAIN_TILE;
                        let tile = self.values.get_mut(tile..tile + BRAIN_TILE).unwrap_or_default();
                        if columns.len() < BRAIN_STEP * rows {
                            tile.fill(0);
                        }
                        for (pair, columns) in columns.chunks(BRAIN_GROUP * rows).enumerate() {
                            let (even, odd) = columns.split_at(rows);
                            let odd = if odd.is_empty() { &nothing } else { odd };
                            let [even, odd] =
                                [even, odd].map(|column| column.get(first..).unwrap_or_default());
                            let mut both = [[0; BRAIN_GROUP]; TILE_ROWS];
                            for (both, values) in both.iter_mut().zip(even.iter().zip(odd)) {
                                *both = round_both(*values.0, *values.1);
                            }
                            for (slots, both) in tile.chunks_exact_mut(BRAIN_STEP).zip(&both) {
                                let slots = slots.as_chunks_mut().0;
                                slots.iter_mut().skip(pair).take(1).for_each(|slot| *slot = *both);
                            }
                        }
                    }
                }
            },
        );
    }
}

/// The bits of the nearest brain floating point number, ties to even.
#[inline(always)]
fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// Two numbers that one instruction multiplies.
#[inline(always)]
fn round_both(first: f32, second: f32) -> [u16; BRAIN_GROUP] {
    let both = u32::from(round(first)) | u32::from(round(second)) << 16;
    // One store.
    [both as u16, (both >> 16) as u16]
}

/// Sums the products of a block in plain loops.
#[inline(always)]
pub(super) fn run(block: &mut BrainBlock<'_>) {
    let Block { activations, rows, weights, steps, ref mut sums } = *block;
    let float = |bits: u16| f32::from_bits(u32::from(bits) << 16);
    for (row, sums) in sums.chunks_exact_mut(PANEL).take(rows).enumerate() {
        sums.fill(0.0);
        let first = row / TILE_ROWS * steps * BRAIN_TILE + row % TILE_ROWS * BRAIN_STEP;
        let row = activations.get(first..).unwrap_or_default().chunks(BRAIN_TILE);
        for (row, weights) in row.zip(weights.chunks_exact(BRAIN_PANEL_STEP)) {
            for (sums, weights) in sums.chunks_exact_mut(16).zip(weights.chunks_exact(BRAIN_TILE)) {
                for (group, weights) in row.chunks_exact(BRAIN_GROUP).zip(weights.chunks_exact(BRAIN_STEP)) {
                    let &[a, b] = group else { continue };
                    let (a, b) = (float(a), float(b));
                    for (sum, weights) in sums.iter_mut().zip(weights.chunks_exact(BRAIN_GROUP)) {
                        let &[w, x] = weights else { continue };
                        *sum += a * float(w) + b * float(x);
                    }
                }
            }
        }
    }
}

impl InMemory for PackedBrains {
    fn held_bytes(&self) -> usize {
        self.packed.held_bytes() + self.bias.held_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Kernel;
    use proptest::prelude::*;

    /// Rows, weights and bias of pseudo-random numbers.
    fn numbers(seed: u64, count: usize) -> Vec<f32> {
        let mut state = seed;
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as f32 / 1e9 - 1.0
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    proptest! {
        #[test]
        fn every_kernel_is_within_rounding_of_the_exact_product(
            rows in 1usize..70,
            inputs in 1usize..200,
            outputs in 1usize..140,
            seed: u64,
        ) {
            let (activations, weights) = (numbers(seed, rows * inputs), numbers(!seed, outputs * inputs));
            let bits: Vec<u16> = weights.iter().map(|weight| round(*weight)).collect();
            let packed = PackedBrains::new(&bits, vec![0.5; outputs]);
            let mut rounded = BrainRows::new();
            // What other rows leave behind must not matter.
            rounded.set(&vec![f32::INFINITY; 128 * 256], 256);
            rounded.set(&activations, inputs);
            let exact = |value: &f32| f64::from(f32::from_bits(u32::from(round(*value)) << 16));
            let activations: Vec<f64> = activations.iter().map(exact).collect();
            let weights: Vec<f64> = weights.iter().map(exact).collect();
            let mut expected = Vec::new();
            for row in activations.chunks(inputs) {
                for weights in weights.chunks(inputs) {
                    let products = || row.iter().zip(weights).map(|(a, w)| a * w);
                    let size = 0.5 + products().map(f64::abs).sum::<f64>();
                    // Every addition may lose half a unit in the last place of what was summed so far.
                    let bound = size * f64::from(f32::EPSILON) * (inputs + 2) as f64 / 2.0;
                    expected.push((0.5 + products().sum::<f64>(), bound));
                }
            }
            for kernel in Kernel::available() {
                let mut out = vec![f32::NAN; rows * outputs];
                let store = |slot: &mut f32, value| *slot = value;
                packed.multiply(&rounded, &mut out, &mut Scratch::new(kernel), store);
                for (found, (sum, bound)) in out.iter().zip(&expected) {
                    prop_assert!((f64::from(*found) - sum).abs() <= *bound, "{kernel:?} {found} {sum}");
                }
            }
        }
    }

    #[test]
    fn rounding_is_that_of_the_library() {
        for value in numbers(7, 10_000).into_iter().chain([0.0, -0.0, 1e-40, 3e38, f32::INFINITY]) {
            assert_eq!(round(value), half::bf16::from_f32(value).to_bits(), "{value}");
        }
    }
}
