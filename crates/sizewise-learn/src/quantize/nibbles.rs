//! Which of sixteen levels, and which step of its group, does each weight of a matrix get?
//!
//! A row's scale makes its largest weight 127, as in 8 bits. A group's step is tried around the one that puts its largest weight on the
//! outermost level, with either sign, as the levels are not symmetric; the one with the least squared error is taken. The error counted is
//! that of the bytes that will be read, rounding among it.

use sizewise_models::{
    nibbles::{self, GROUP, LEVELS, byte},
    tensors::Output,
};

/// Steps that are tried with either sign, in parts of the one that leaves the largest weight as it is.
const TRIED: [f32; 8] = [0.8, 0.86, 0.9, 0.94, 0.97, 1.0, 1.04, 1.1];

/// A matrix in 4 bits.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Nibbles {
    /// `[rows, columns]`
    pub(super) numbers: Vec<u8>,
    /// `[rows, columns / GROUP]`, rounded up.
    pub(super) steps: Vec<i8>,
    /// `[rows]`
    pub(super) scales: Vec<f32>,
}

impl Nibbles {
    /// Rounds the rows of a matrix.
    pub(super) fn of(values: &[f32], columns: usize) -> Self {
        let nearest = nearest();
        let mut found =
            Self { numbers: Vec::with_capacity(values.len()), steps: Vec::new(), scales: Vec::new() };
        for row in values.chunks_exact(columns.max(1)) {
            let largest = row.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            // Weights so small that no step divides them are none.
            let scale = if largest / 127.0 >= f32::MIN_POSITIVE { largest / 127.0 } else { 1.0 };
            for group in row.chunks(GROUP) {
                found.group(group, scale, &nearest);
            }
            found.scales.push(scale);
        }
        found
    }

    /// As tensors of this name.
    pub(super) fn outputs(&self, name: &str) -> [Output; 3] {
        nibbles::outputs(name, (&self.numbers, &self.steps, &self.scales))
    }

    /// Adds a group with the best of the steps.
    fn group(&mut self, group: &[f32], scale: f32, nearest: &[u8; 255]) {
        let units: Vec<f32> = group.iter().map(|value| value / scale).collect();
        let largest = units.iter().fold(0.0f32, |largest, unit| largest.max(unit.abs()));
        let (mut best, mut numbers) = ((f32::INFINITY, 1i8), Vec::new());
        for part in TRIED.iter().flat_map(|part| [*part, -part]) {
            let step = (largest * part).round().clamp(-127.0, 127.0);
            let step = if step == 0.0 { 1.0 } else { step };
            let tried: Vec<u8> = units
                .iter()
                .map(|unit| {
                    let place = (unit * 127.0 / step).round().clamp(-127.0, 127.0) + 127.0;
                    nearest.get(place as usize).copied().unwrap_or(0)
                })
                .collect();
            let off =
                units.iter().zip(&tried).map(|(unit, number)| unit - f32::from(byte(*number, step as i8)));
            let error: f32 = off.map(|off| off * off).sum();
            if error < best.0 {
                (best, numbers) = ((error, step as i8), tried);
            }
        }
        self.steps.push(best.1);
        self.numbers.extend(numbers);
    }
}

/// The nearest level of each place from -127 to 127.
fn nearest() -> [u8; 255] {
    std::array::from_fn(|place| {
        let distance = |number: &usize| {
            LEVELS.get(*number).map_or(i32::MAX, |level| (i32::from(*level) - (place as i32 - 127)).abs())
        };
        (0..LEVELS.len()).min_by_key(distance).unwrap_or(0) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::Random;
    use sizewise_models::tensors::{Tensors, write};

    /// Numbers that are about normally distributed, with groups of different width and a row of zeros.
    fn matrix(rows: usize, columns: usize) -> Vec<f32> {
        let mut random = Random(5);
        let mut normal = || (0..12).map(|_| random.below(1_000) as f32 / 1_000.0 - 0.5).sum::<f32>();
        let value = |at: usize| if at < columns { 0.0 } else { normal() * (1 + at / GROUP % 3) as f32 };
        (0..rows * columns).map(value).collect()
    }

    fn squares(values: impl Iterator<Item = f32>) -> f32 {
        values.map(|value| value * value).sum()
    }

    #[test]
    fn what_is_stored_in_4_bits_is_read_as_the_bytes_that_were_chosen() {
        // A last group that is not full, and rows that end in the middle of one.
        let (rows, columns) = (9, 2 * GROUP + 6);
        let values = matrix(rows, columns);
        let found = Nibbles::of(&values, columns);
        let file = write("t", &found.outputs("m")).unwrap();
        let tensors = Tensors::parse("t", &file).unwrap();
        assert_eq!(tensors.matrix_shape("m").unwrap(), [rows, columns]);
        let (bytes, scales) = tensors.matrix_bytes("m", (rows, columns)).unwrap();
        let groups = columns.div_ceil(GROUP);
        for (at, read) in bytes.iter().enumerate() {
            let step = found.steps[at / columns * groups + at % columns / GROUP];
            assert_eq!(*read, byte(found.numbers[at], step), "{at}");
        }
        assert_eq!(scales, found.scales);
        let floats = tensors.matrix_floats("m", (rows, columns)).unwrap();
        let off = squares(values.iter().zip(&floats).map(|(value, read)| value - read));
        assert!(off < 0.015 * squares(values.iter().copied()), "{off}");
        assert!(floats[..columns].iter().all(|value| *value == 0.0));
    }

    #[test]
    fn the_built_in_encoder_loses_two_thirds_of_a_percent() {
        let (name, bytes) = &sizewise_models::builtin::encoder_files().weights[0];
        let tensors = Tensors::parse(name, bytes).unwrap();
        let matrix = "encoder.layer.3.intermediate.dense.weight";
        let shape = tensors.matrix_shape(matrix).unwrap();
        let values = tensors.matrix_floats(matrix, (shape[0], shape[1])).unwrap();
        let found = Nibbles::of(&values, shape[1]);
        let file = write("t", &found.outputs("m")).unwrap();
        let read = Tensors::parse("t", &file).unwrap().matrix_floats("m", (shape[0], shape[1])).unwrap();
        let off = squares(values.iter().zip(&read).map(|(value, read)| value - read));
        let share = off / squares(values.iter().copied());
        assert!((0.005..0.0075).contains(&share), "{share}");
    }
}
