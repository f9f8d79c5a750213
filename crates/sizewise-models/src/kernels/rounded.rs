//! How are activations rounded to bytes?
//!
//! Row by row, from the least to the largest number: a few channels lie far to one side, and bytes around a fixed middle would
//! waste half of their steps. Where the weights ask for it, a number far beyond all others of its row is taken out and
//! multiplied by itself, as bytes that reach to it would leave the others few steps (after Dettmers et al. 2022).

use super::{GROUP, PANEL, PANEL_STEP, PackedWeights, STEP, TILE, TILE_ROWS, aligned::Aligned, widest};

/// Rows of activations as bytes, each row with its scale and the byte that stands for zero.
#[derive(Debug)]
pub(crate) struct Rounded {
    /// Tiles. `[rows / 16, steps, 16 rows, 64 inputs]`; what lies beyond the last row and the last input is never used.
    pub(super) bytes: Aligned<u8>,
    /// `[rows]`
    pub(super) scales: Vec<f32>,
    /// The bytes of zero. `[rows]`
    pub(super) zeros: Vec<i32>,
    /// What was taken out, by rows.
    outliers: Vec<Outlier>,
    pub(super) inputs: usize,
}

/// A number far beyond the others of its row, for which the byte of zero stands.
#[derive(Debug, Clone, Copy)]
struct Outlier {
    row: usize,
    input: usize,
    /// In steps of the row's scale.
    steps: i32,
}

/// So many times the mean of what its sixteen lanes hold at most a number of a row is taken out.
const FAR: f32 = 2.5;
/// Most numbers that are taken out of a row; where more are far, all stay.
const MOST_OUTLIERS: usize = 4;
/// The largest outlier in steps: its products with bytes leave room for the others in 32 bits.
const MOST_STEPS: f32 = (1 << 20) as f32;

impl Rounded {
    pub(crate) fn new() -> Self {
        Self { bytes: Aligned::new(), scales: Vec::new(), zeros: Vec::new(), outliers: Vec::new(), inputs: 0 }
    }

    /// Rounds rows as these weights read them; what was here before is gone.
    pub(crate) fn set(&mut self, activations: &[f32], weights: &PackedWeights) {
        let (inputs, apart) = (weights.inputs, weights.outliers_apart);
        widest(
            #[inline(always)]
            || {
                self.begin(activations.len() / inputs.max(1), inputs);
                for row in activations.chunks_exact(inputs.max(1)) {
                    self.push(row, apart);
                }
            },
        );
    }

    /// Empties it and makes room for so many rows.
    #[inline(always)]
    pub(crate) fn begin(&mut self, rows: usize, inputs: usize) {
        self.bytes.set_length(rows.div_ceil(TILE_ROWS) * inputs.div_ceil(STEP) * TILE);
        self.scales.clear();
        self.zeros.clear();
        self.outliers.clear();
        self.inputs = inputs;
    }

    /// Rounds one more row, as long as there is room.
    #[inline(always)]
    pub(crate) fn push(&mut self, row: &[f32], apart: bool) {
        let (tiles, in_tile) = (self.scales.len() / TILE_ROWS, self.scales.len() % TILE_ROWS);
        let first = tiles * self.inputs.div_ceil(STEP) * TILE + in_tile * STEP;
        let Shape { least, most, far } = if apart { Shape::without_far(row) } else { Shape::of(row) };
        let width = most - least;
        let scale = if width > 1e-30 { width / 254.0 } else { 1.0 };
        let inverse = 1.0 / scale;
        // Rounded up, so that the least is at most one step above byte 0 and the largest at byte 255 or below.
        let zero = (-least * inverse).ceil();
        let place = |input: usize| first + input / STEP * TILE + input % STEP;
        let tiles = self.bytes.get_mut(first..).unwrap_or_default().chunks_mut(TILE);
        for (bytes, values) in tiles.zip(row.chunks(STEP)) {
            for (byte, value) in bytes.iter_mut().zip(values) {
                // Adding 1.5 · 2²³ rounds to the nearest integer and leaves it in the low bits.
                *byte = (value * inverse + (12_582_912.0 + zero)).to_bits() as u8;
            }
        }
        for (input, value) in far.into_iter().flatten() {
            let steps = (value * inverse).clamp(-MOST_STEPS, MOST_STEPS).round_ties_even() as i32;
            self.outliers.push(Outlier { row: self.scales.len(), input, steps });
            if let Some(byte) = self.bytes.get_mut(place(input)) {
                *byte = zero as u8;
            }
        }
        self.scales.push(scale);
        self.zeros.push(zero as i32);
    }

    /// Adds the products of what was taken out of some rows with a panel of weights to the sums of these rows. `sums` is
    /// `[BLOCK, PANEL]`
    #[inline]
    pub(super) fn add_outliers(&self, rows: std::ops::Range<usize>, weights: &[i8], sums: &mut [i32]) {
        let first = self.outliers.partition_point(|outlier| outlier.row < rows.start);
        let outliers = self.outliers.get(first..).unwrap_or_default();
        let end = outliers.partition_point(|outlier| outlier.row < rows.end);
        let outliers = outliers.get(..end).unwrap_or_default();
        if outliers.is_empty() {
            return;
        }
        widest(
            #[inline(always)]
            || {
                for Outlier { row, input, steps } in outliers {
                    let begin = input / STEP * PANEL_STEP + input % STEP / GROUP * STEP;
                    // The byte of this input among the four of its group, moved to the top of them.
                    let shift = 24 - 8 * (input % GROUP) as u32;
                    let tiles = weights.get(begin..).unwrap_or_default().chunks(TILE);
                    let sums = sums.get_mut((row - rows.start) * PANEL..).unwrap_or_default();
                    for (tile, sums) in tiles.zip(sums.chunks_mut(TILE_ROWS).take(PANEL / TILE_ROWS)) {
                        let (groups, _) = tile.as_chunks::<GROUP>();
                        for (sum, group) in sums.iter_mut().zip(groups) {
                            let weight = i32::from_le_bytes(group.map(|weight| weight as u8)) << shift >> 24;
                            *sum += weight * steps;
                        }
                    }
                }
            },
        );
    }
}

/// Numbers that are looked at side by side.
const LANES: usize = 16;

/// How the numbers of a row lie.
struct Shape {
    /// The least, at most zero.
    least: f32,
    /// The largest, at least zero.
    most: f32,
    /// Those beyond, with their positions.
    far: [Option<(usize, f32)>; MOST_OUTLIERS],
}

impl Shape {
    /// All numbers.
    #[inline(always)]
    fn of(row: &[f32]) -> Self {
        Lanes::of(row).shape()
    }

    /// Without those that are far from the others.
    #[inline(always)]
    fn without_far(row: &[f32]) -> Self {
        let lanes = Lanes::of(row);
        let all = lanes.shape();
        let (low, high) = lanes.limits();
        if all.least >= low && all.most <= high {
            return all;
        }
        let is_far = |value: f32| value < low || value > high;
        let (mut far, mut found) = ([None; MOST_OUTLIERS], 0);
        let mut near = Lanes::default();
        for (number, chunk) in row.chunks(LANES).enumerate() {
            let mut kept = [0.0f32; LANES];
            let mut beyond = 0;
            for (slot, value) in kept.iter_mut().zip(chunk) {
                *slot = if is_far(*value) { 0.0 } else { *value };
                beyond |= u32::from(is_far(*value));
            }
            near.add(&kept);
            if beyond == 0 {
                continue;
            }
            for (lane, value) in chunk.iter().enumerate().filter(|(_, value)| is_far(**value)) {
                let Some(slot) = far.get_mut(found) else { return all };
                *slot = Some((number * LANES + lane, *value));
                found += 1;
            }
        }
        Self { far, ..near.shape() }
    }
}

/// The least and the largest number so far, lane by lane, zero among them.
#[derive(Default, Clone, Copy)]
struct Lanes {
    least: [f32; LANES],
    most: [f32; LANES],
}

/// Chains of comparisons that do not wait for each other.
const CHAINS: usize = 4;

impl Lanes {
    /// Of a whole row.
    #[inline(always)]
    fn of(row: &[f32]) -> Self {
        let (chunks, rest) = row.as_chunks::<LANES>();
        let (rounds, left) = chunks.as_chunks::<CHAINS>();
        let mut chains = [Self::default(); CHAINS];
        for round in rounds {
            chains.iter_mut().zip(round).for_each(|(chain, chunk)| chain.add(chunk));
        }
        chains.iter_mut().zip(left).for_each(|(chain, chunk)| chain.add(chunk));
        let mut last = [0.0f32; LANES];
        last.iter_mut().zip(rest).for_each(|(slot, value)| *slot = *value);
        let [mut all, others @ ..] = chains;
        all.add(&last);
        for other in others {
            all.add(&other.least);
            all.add(&other.most);
        }
        all
    }

    #[inline(always)]
    fn add(&mut self, values: &[f32; LANES]) {
        for ((least, most), value) in self.least.iter_mut().zip(&mut self.most).zip(values) {
            *least = if *value < *least { *value } else { *least };
            *most = if *value > *most { *value } else { *most };
        }
    }

    /// Between which numbers one is not far.
    #[inline(always)]
    fn limits(&self) -> (f32, f32) {
        let share = FAR / LANES as f32;
        (share * self.least.iter().sum::<f32>(), share * self.most.iter().sum::<f32>())
    }

    #[inline(always)]
    fn shape(&self) -> Shape {
        let Self { mut least, mut most } = *self;
        // Half against half: a chain of sixteen would be as long as reading the row.
        for half in [8, 4, 2, 1] {
            let (low, high) = least.split_at_mut(half);
            low.iter_mut().zip(high).for_each(|(a, b)| *a = if *b < *a { *b } else { *a });
            let (low, high) = most.split_at_mut(half);
            low.iter_mut().zip(high).for_each(|(a, b)| *a = if *b > *a { *b } else { *a });
        }
        let ([least, ..], [most, ..]) = (least, most);
        Shape { least, most, far: [None; MOST_OUTLIERS] }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kernel, PackedWeights, Scratch};
    use super::*;

    /// The largest error of a product, in shares of the largest exact one.
    fn error(rows: &[Vec<f32>], apart: bool, taken_out: usize) -> f32 {
        let (inputs, outputs) = (rows[0].len(), 70);
        let weights: Vec<i8> = (0..outputs * inputs).map(|i| ((i * 53 % 255) as i16 - 127) as i8).collect();
        let packed = weights_of(&weights, outputs, apart);
        let mut rounded = Rounded::new();
        rounded.set(&rows.concat(), &packed);
        assert_eq!(rounded.outliers.len(), taken_out);
        let mut results = Vec::new();
        for kernel in Kernel::available() {
            let mut out = vec![0.0; rows.len() * outputs];
            packed.multiply(&rounded, &mut out, &mut Scratch::new(kernel), |slot, value| *slot = value);
            results.push(out);
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "every kernel gives the same bits");
        let (mut worst, mut most) = (0.0f32, 0.0f32);
        for (row, out) in rows.iter().zip(results[0].chunks(outputs)) {
            for (found, weights) in out.iter().zip(weights.chunks(inputs)) {
                let products = row.iter().zip(weights).map(|(x, w)| x * f32::from(*w) * 0.01);
                let exact = products.sum::<f32>() + 0.5;
                worst = worst.max((found - exact).abs());
                most = most.max(exact.abs());
            }
        }
        worst / most
    }

    fn weights_of(weights: &[i8], outputs: usize, apart: bool) -> PackedWeights {
        let packed = PackedWeights::new(weights, vec![0.01; outputs], vec![0.5; outputs]);
        if apart { packed.with_outliers_apart() } else { packed }
    }

    fn row(number: usize) -> Vec<f32> {
        (0..384).map(|i| ((i * 37 + number * 11) % 101) as f32 / 50.0 - 1.0).collect()
    }

    #[test]
    fn numbers_far_beyond_the_others_leave_these_their_steps() {
        let mut rows: Vec<Vec<f32>> = (0..37).map(row).collect();
        assert!(error(&rows, true, 0) < 0.02);
        // The first and the last of a row, of a group and of a step, in the first and in the last row.
        for (row, inputs) in
            [(0, &[0, 383][..]), (15, &[3]), (16, &[63, 64]), (32, &[130]), (36, &[1, 2, 66, 381])]
        {
            inputs.iter().for_each(|input| rows[row][*input] = if input % 2 == 0 { 40.0 } else { -40.0 });
        }
        let (among, apart) = (error(&rows, false, 0), error(&rows, true, 10));
        assert!(apart * 10.0 < among, "{apart} {among}");
    }

    #[test]
    fn where_many_are_far_all_stay() {
        let mut rows = vec![row(0)];
        (0..5).for_each(|input| rows[0][input * 7] = 40.0);
        assert!(error(&rows, true, 0) < 0.05);
    }

    #[test]
    fn numbers_of_any_size_are_bounded() {
        for far in [f32::MAX, f32::MIN, f32::INFINITY, f32::NAN, 1e20] {
            let mut rows = row(0);
            rows[5] = far;
            let mut rounded = Rounded::new();
            rounded.set(&rows, &weights_of(&vec![1; rows.len()], 1, true));
            assert!(rounded.outliers.iter().all(|outlier| outlier.steps.abs() <= MOST_STEPS as i32), "{far}");
        }
    }
}
