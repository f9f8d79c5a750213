//! How are 8-bit matrices multiplied on this machine?
//!
//! Activations are rounded row by row to unsigned bytes around 128, weights are signed bytes with one scale per output,
//! products are summed in 32-bit integers. The integer part is exact, so every kernel gives the same bits and a release
//! answers alike on every machine. This is the one module with `unsafe` code: the vector kernel reads through pointers.

#![allow(unsafe_code)]

/// Outputs that are computed side by side: four vectors of sixteen.
const PANEL: usize = 64;
/// Inputs that one instruction multiplies and sums.
const GROUP: usize = 4;
/// Rows that share one pass over a panel.
const ROWS: usize = 6;

/// Weights of a linear layer, arranged for the kernels.
#[derive(Debug, Clone)]
pub(crate) struct PackedWeights {
    inputs: usize,
    outputs: usize,
    /// `[panels, inputs / 4, 64, 4]`, padded with zeros.
    packed: Vec<i8>,
    /// 128 times the sum of each output's weights: what the offset of the activations adds. `[outputs]`
    offsets: Vec<i32>,
    /// `[outputs]`
    scales: Vec<f32>,
    /// `[outputs]`
    bias: Vec<f32>,
}

/// Rounded activations and sums. Reused from layer to layer.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    rounded: Vec<u8>,
    row_scales: Vec<f32>,
    sums: Vec<i32>,
}

impl PackedWeights {
    /// Arranges weights. `weights` is `[outputs, inputs]`, `scales` and `bias` are `[outputs]`.
    pub(crate) fn new(weights: &[i8], scales: Vec<f32>, bias: Vec<f32>) -> Self {
        let outputs = scales.len();
        let inputs = weights.len() / outputs.max(1);
        let (groups, panels) = (inputs.div_ceil(GROUP), outputs.div_ceil(PANEL));
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
        self.multiply_with(Kernel::best(), activations, out, scratch);
    }

    fn multiply_with(&self, kernel: Kernel, activations: &[f32], out: &mut [f32], scratch: &mut Scratch) {
        let rows = activations.len() / self.inputs.max(1);
        let stride = self.inputs.next_multiple_of(GROUP);
        let Scratch { rounded, row_scales, sums } = scratch;
        rounded.clear();
        rounded.resize(rows * stride, 128);
        row_scales.clear();
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for (row, bytes) in
                    activations.chunks_exact(self.inputs.max(1)).zip(rounded.chunks_exact_mut(stride.max(1)))
                {
                    row_scales.push(round_row(row, bytes));
                }
            },
        );
        let panel_bytes = stride * PANEL;
        for (panel, weights) in self.packed.chunks_exact(panel_bytes.max(1)).enumerate() {
            let first = panel * PANEL;
            let width = PANEL.min(self.outputs - first);
            for (block, bytes) in rounded.chunks(ROWS * stride.max(1)).enumerate() {
                let block_rows = bytes.len() / stride.max(1);
                sums.clear();
                sums.resize(ROWS * PANEL, 0);
                kernel.run(bytes, weights, stride, sums);
                let columns = Columns { first, width };
                let range = block * ROWS..block * ROWS + block_rows;
                self.write_out(columns, (range, sums, row_scales), out);
            }
        }
    }

    /// Turns sums back into floating point numbers.
    fn write_out(
        &self,
        columns: Columns,
        (rows, sums, row_scales): (std::ops::Range<usize>, &[i32], &[f32]),
        out: &mut [f32],
    ) {
        let Columns { first, width } = columns;
        let (Some(scales), Some(offsets), Some(bias)) = (
            self.scales.get(first..first + width),
            self.offsets.get(first..first + width),
            self.bias.get(first..first + width),
        ) else {
            return;
        };
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for (row, sums) in rows.zip(sums.chunks_exact(PANEL)) {
                    let (Some(row_scale), Some(out)) = (
                        row_scales.get(row),
                        out.get_mut(row * self.outputs + first..row * self.outputs + first + width),
                    ) else {
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

struct Columns {
    first: usize,
    width: usize,
}

/// What the byte kernels run on here.
#[must_use]
pub fn kernel_name() -> &'static str {
    match Kernel::best() {
        Kernel::Portable => "portable",
        #[cfg(target_arch = "x86_64")]
        Kernel::Vnni => "AVX-512 VNNI",
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

/// The ways to sum byte products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    /// Plain loops: the reference.
    Portable,
    /// AVX-512 with the vector neural network instructions.
    #[cfg(target_arch = "x86_64")]
    Vnni,
}

impl Kernel {
    /// The fastest that this machine has.
    fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx512vnni") && std::arch::is_x86_feature_detected!("avx512f")
        {
            return Self::Vnni;
        }
        Self::Portable
    }

    /// Adds the products of up to six rows with one panel to `sums`. `bytes` is `[rows, stride]`, `weights` is
    /// `[stride / 4, 64, 4]`, `sums` is `[6, 64]`.
    fn run(self, bytes: &[u8], weights: &[i8], stride: usize, sums: &mut [i32]) {
        assert!(
            weights.len() == stride * PANEL && sums.len() == ROWS * PANEL && stride.is_multiple_of(GROUP)
        );
        assert!(stride > 0 && bytes.len().is_multiple_of(stride) && bytes.len() <= ROWS * stride);
        match self {
            Self::Portable => pulp::Arch::new().dispatch(
                #[inline(always)]
                || portable(bytes, weights, stride, sums),
            ),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni => {
                let rows = bytes.len() / stride;
                // SAFETY: `best` found the features; the assertions above give every pointer the length that `vnni` reads
                // and writes: `rows · stride` bytes, `stride · 64` weights and `6 · 64 ≥ rows · 64` sums.
                unsafe {
                    match rows {
                        1 => x86::vnni::<1>(bytes, weights, stride, sums),
                        2 => x86::vnni::<2>(bytes, weights, stride, sums),
                        3 => x86::vnni::<3>(bytes, weights, stride, sums),
                        4 => x86::vnni::<4>(bytes, weights, stride, sums),
                        5 => x86::vnni::<5>(bytes, weights, stride, sums),
                        6 => x86::vnni::<6>(bytes, weights, stride, sums),
                        _ => {}
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn portable(bytes: &[u8], weights: &[i8], stride: usize, sums: &mut [i32]) {
    for (row, sums) in bytes.chunks_exact(stride).zip(sums.chunks_exact_mut(PANEL)) {
        for (group, weights) in row.chunks_exact(GROUP).zip(weights.chunks_exact(PANEL * GROUP)) {
            let &[a, b, c, d] = group else { continue };
            let [a, b, c, d] = [a, b, c, d].map(i32::from);
            for (sum, weights) in sums.iter_mut().zip(weights.chunks_exact(GROUP)) {
                let &[w, x, y, z] = weights else { continue };
                let [w, x, y, z] = [w, x, y, z].map(i32::from);
                *sum += a * w + b * x + c * y + d * z;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{GROUP, PANEL};
    use std::arch::x86_64::{
        __m512i, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_si512,
        _mm512_storeu_si512,
    };

    /// Multiplies `R` rows with one panel: `R · 4` sums of sixteen stay in registers over the whole length.
    ///
    /// # Safety
    /// The machine has AVX-512F and VNNI; `bytes` holds `R · stride`, `weights` holds `stride · 64` and `sums` holds at
    /// least `R · 64` elements; `stride` is a multiple of four.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) unsafe fn vnni<const R: usize>(bytes: &[u8], weights: &[i8], stride: usize, sums: &mut [i32]) {
        let mut totals = [[_mm512_setzero_si512(); 4]; R];
        for group in 0..stride / GROUP {
            // SAFETY: group < stride / 4, so the four vectors lie within `weights`.
            let columns: [__m512i; 4] = unsafe {
                let at = weights.as_ptr().add(group * PANEL * GROUP);
                [
                    _mm512_loadu_si512(at.cast()),
                    _mm512_loadu_si512(at.add(64).cast()),
                    _mm512_loadu_si512(at.add(128).cast()),
                    _mm512_loadu_si512(at.add(192).cast()),
                ]
            };
            for (row, totals) in totals.iter_mut().enumerate() {
                // SAFETY: row < R and group < stride / 4, so the four bytes lie within `bytes`.
                let four = unsafe {
                    bytes.as_ptr().add(row * stride + group * GROUP).cast::<i32>().read_unaligned()
                };
                let spread = _mm512_set1_epi32(four);
                for (total, column) in totals.iter_mut().zip(columns) {
                    *total = _mm512_dpbusd_epi32(*total, spread, column);
                }
            }
        }
        for (row, totals) in totals.iter().enumerate() {
            for (part, total) in totals.iter().enumerate() {
                // SAFETY: row < R and part < 4, so the sixteen sums lie within `sums`.
                unsafe { _mm512_storeu_si512(sums.as_mut_ptr().add(row * PANEL + part * 16).cast(), *total) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kernels() -> Vec<Kernel> {
        let mut kernels = vec![Kernel::Portable];
        kernels.extend([Kernel::best()].into_iter().filter(|best| *best != Kernel::Portable));
        kernels
    }

    #[test]
    fn a_product_is_close_to_the_exact_one() {
        let (rows, inputs, outputs) = (7, 33, 70);
        let value = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 50.0;
        let activations: Vec<f32> = (0..rows * inputs).map(value).collect();
        let weights: Vec<i8> = (0..outputs * inputs).map(|i| ((i * 53 % 255) as i16 - 127) as i8).collect();
        let packed = PackedWeights::new(&weights, vec![0.01; outputs], vec![0.5; outputs]);
        let mut out = vec![0.0; rows * outputs];
        packed.multiply(&activations, &mut out, &mut Scratch::default());
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
        fn every_kernel_gives_the_same_bits(rows in 1usize..14, inputs in 1usize..70, outputs in 1usize..140, seed: u64) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u32
            };
            let activations: Vec<f32> = (0..rows * inputs).map(|_| next() as f32 / 1e9 - 1.0).collect();
            let weights: Vec<i8> = (0..outputs * inputs).map(|_| (next() % 255) as u8 as i8).collect();
            let packed = PackedWeights::new(&weights, vec![0.01; outputs], vec![0.0; outputs]);
            let results: Vec<Vec<f32>> = kernels()
                .into_iter()
                .map(|kernel| {
                    let mut out = vec![0.0; rows * outputs];
                    packed.multiply_with(kernel, &activations, &mut out, &mut Scratch::default());
                    out
                })
                .collect();
            prop_assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }
}
