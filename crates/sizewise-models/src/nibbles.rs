//! How is a matrix stored in 4 bits a weight, and which bytes does it stand for?
//!
//! A weight is the number of one of sixteen levels, two numbers to a byte. Along the inputs, every group of 32 weights has a step, a
//! signed byte that multiplies their levels, and every output has one scale. Level times step is rounded to a byte again: what is read
//! is an ordinary 8-bit matrix, the same bits on every machine, so speed and memory are those of 8 bits and only the file is shorter,
//! by 4.25 bits a weight in place of 8.
//!
//! The levels are those of 4-bit NormalFloat, denser around zero, where most weights are. Sixteen equally spaced ones, with a step of
//! the same kind, lose more on the matrices of the built-in encoder (0.84 % of the squared weights in place of 0.65 %), and levels fitted
//! to each matrix gain a thirtieth of that.
//!
//! **Source.** Dettmers et al. 2023 (QLoRA), appendix E; the scale of scales is their double quantization.

use crate::{
    error::Result,
    tensors::{Dtype, Output, Tensors},
};

/// Weights that share a step.
pub const GROUP: usize = 32;
/// What the sixteen numbers stand for at the largest step, 127.
pub const LEVELS: [i8; 16] = [-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127];

/// What the names of tensors end in that belong to a matrix: scales of rows, steps of groups.
const PARTS: [&str; 2] = [".scale", ".steps"];

/// The byte that a number stands for at a step: level · step / 127, rounded to the nearest.
#[must_use]
pub fn byte(number: u8, step: i8) -> i8 {
    let level = LEVELS.get(usize::from(number & 15)).copied().unwrap_or(0);
    let product = i32::from(level) * i32::from(step);
    // 63 is half of 127, rounded down; 127 is odd, so nothing lies in the middle.
    ((product + 63 * product.signum()) / 127).clamp(-127, 127) as i8
}

impl Tensors<'_> {
    /// The rows and columns of a matrix, whatever its form; other tensors have no two lengths.
    ///
    /// # Errors
    /// Fails when there is none of this name.
    pub fn matrix_shape(&self, name: &str) -> Result<Vec<usize>> {
        let mut shape = self.shape(name)?;
        if let (Dtype::U8, [_, pairs]) = (self.dtype(name)?, shape.as_mut_slice()) {
            *pairs = pairs.saturating_mul(2);
        }
        Ok(shape)
    }

    /// Whether a matrix is stored as bytes or in 4 bits: [`Self::matrix_bytes`] reads it.
    ///
    /// # Errors
    /// Fails when there is none of this name.
    pub fn is_in_bytes(&self, name: &str) -> Result<bool> {
        Ok(matches!(self.dtype(name)?, Dtype::I8 | Dtype::U8))
    }

    /// Whether a tensor belongs to a matrix of this file, as the scales of its rows or the steps of its groups.
    #[must_use]
    pub fn is_part(&self, name: &str) -> bool {
        PARTS.iter().any(|part| name.strip_suffix(part).is_some_and(|matrix| self.has(matrix)))
    }

    /// A matrix of bytes or of 4 bits as it is, with what belongs to it, to be written again.
    ///
    /// # Errors
    /// Fails when there is none of this name.
    pub fn copied(&self, name: &str) -> Result<Vec<Output>> {
        let parts = PARTS.iter().map(|part| format!("{name}{part}")).filter(|part| self.has(part));
        std::iter::once(name.to_owned()).chain(parts).map(|tensor| self.copy(&tensor)).collect()
    }

    /// A matrix of bytes or of 4 bits, as bytes `[rows, columns]` with the scales of its rows.
    ///
    /// # Errors
    /// Fails when a part is missing, of another type or shape, or a scale is not finite.
    pub fn matrix_bytes(&self, name: &str, (rows, columns): (usize, usize)) -> Result<(Vec<i8>, Vec<f32>)> {
        let scales = |tensors: &Self| tensors.floats(&format!("{name}.scale"), &[rows]);
        if self.dtype(name)? != Dtype::U8 {
            return Ok((self.bytes(name, &[rows, columns])?, scales(self)?));
        }
        if !columns.is_multiple_of(2) {
            return Err(
                self.damaged(format!("tensor `{name}` is in 4 bits, with {columns} columns: an odd number"))
            );
        }
        let pairs = self.octets(name, &[rows, columns / 2])?;
        let steps = self.bytes(&format!("{name}.steps"), &[rows, columns.div_ceil(GROUP)])?;
        let mut bytes = Vec::with_capacity(rows * columns);
        let in_rows =
            pairs.chunks_exact((columns / 2).max(1)).zip(steps.chunks_exact(columns.div_ceil(GROUP).max(1)));
        for (pairs, steps) in in_rows {
            for (pairs, step) in pairs.chunks(GROUP / 2).zip(steps) {
                bytes.extend(pairs.iter().flat_map(|pair| [byte(pair & 15, *step), byte(pair >> 4, *step)]));
            }
        }
        Ok((bytes, scales(self)?))
    }

    /// A matrix as floating point numbers, whatever its form. `[rows, columns]`
    ///
    /// # Errors
    /// As [`Self::matrix_bytes`].
    pub fn matrix_floats(&self, name: &str, (rows, columns): (usize, usize)) -> Result<Vec<f32>> {
        if !self.is_in_bytes(name)? {
            return self.floats(name, &[rows, columns]);
        }
        let (values, scales) = self.matrix_bytes(name, (rows, columns))?;
        let rows = values.chunks_exact(columns.max(1)).zip(&scales);
        Ok(rows.flat_map(|(row, scale)| row.iter().map(move |value| f32::from(*value) * scale)).collect())
    }
}

/// A matrix of 4 bits to be written: the numbers of levels `[rows, columns]`, the steps of groups, the scales of rows. An even number of
/// columns.
#[must_use]
pub fn outputs(name: &str, (numbers, steps, scales): (&[u8], &[i8], &[f32])) -> [Output; 3] {
    let rows = scales.len();
    let pairs: Vec<u8> = numbers
        .chunks(2)
        .map(|pair| pair.iter().rev().fold(0, |pair, number| pair << 4 | number & 15))
        .collect();
    let width = |length: usize| length / rows.max(1);
    [
        Output::octets(name, &[rows, width(pairs.len())], &pairs),
        Output::bytes(&format!("{name}.steps"), &[rows, width(steps.len())], steps),
        Output::floats(&format!("{name}.scale"), &[rows], scales),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::write;
    use proptest::prelude::*;

    const COLUMNS: usize = GROUP + 4;

    fn file() -> Vec<u8> {
        let numbers: Vec<u8> = (0..2 * COLUMNS).map(|at| (at * 7 % 16) as u8).collect();
        write("t", &outputs("m", (&numbers, &[127, -3, 0, 40], &[0.5, 2.0]))).unwrap()
    }

    #[test]
    fn a_level_at_the_largest_step_is_itself_and_every_byte_is_the_nearest_to_its_product() {
        for number in 0..16u8 {
            assert_eq!(byte(number, 127), LEVELS[usize::from(number)]);
            for step in -128..=127i8 {
                let exact = f64::from(LEVELS[usize::from(number)]) * f64::from(step) / 127.0;
                assert_eq!(
                    f64::from(byte(number, step)),
                    exact.round().clamp(-127.0, 127.0),
                    "{number} {step}"
                );
            }
        }
    }

    #[test]
    fn two_numbers_lie_in_a_byte_and_steps_follow_the_columns() {
        let file = file();
        let tensors = Tensors::parse("t", &file).unwrap();
        assert_eq!(tensors.matrix_shape("m").unwrap(), [2, COLUMNS]);
        let (bytes, scales) = tensors.matrix_bytes("m", (2, COLUMNS)).unwrap();
        let step = |at: usize| [127, -3, 0, 40][at / COLUMNS * 2 + at % COLUMNS / GROUP];
        let expected: Vec<i8> = (0..2 * COLUMNS).map(|at| byte((at * 7 % 16) as u8, step(at))).collect();
        assert_eq!((bytes, scales), (expected, vec![0.5, 2.0]));
        assert!(tensors.is_part("m.steps") && tensors.is_part("m.scale") && !tensors.is_part("m"));
        assert_eq!(write("t", &tensors.copied("m").unwrap()).unwrap(), file);
        assert!(tensors.copy_rows("m", &[2]).unwrap_err().to_string().contains("`m` has 2 rows"));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let numbers = vec![1u8; 2 * COLUMNS];
        let [pairs, steps, scales] = outputs("m", (&numbers, &[1; 4], &[1.0; 2]));
        let narrow = Output::bytes("m.steps", &[2, 1], &[1; 2]);
        let floats = Output::floats("m.steps", &[2, 2], &[1.0; 4]);
        let broken = Output::floats("m.scale", &[2], &[f32::INFINITY; 2]);
        let short = Output::octets("m", &[2, 3], &[0; 6]);
        let again = || outputs("m", (&numbers, &[1; 4], &[1.0; 2]));
        let [pairs_again, steps_again, scales_again] = again();
        for (tensors, expected) in [
            (vec![pairs, scales], "no tensor `m.steps`"),
            (vec![pairs_again, narrow, scales_again], "`m.steps` has shape [2, 1], not [2, 2]"),
            (vec![again().into_iter().next().unwrap(), floats], "`m.steps` holds F32, not I8"),
            (vec![again().into_iter().next().unwrap(), steps, broken], "`m.scale` holds inf"),
            (vec![again().into_iter().next().unwrap(), steps_again], "no tensor `m.scale`"),
            (vec![short], "`m` has shape [2, 3], not [2, 18]"),
        ] {
            let file = write("t", &tensors).unwrap();
            let error = Tensors::parse("t", &file).unwrap().matrix_floats("m", (2, COLUMNS)).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        let file = file();
        let odd = Tensors::parse("t", &file).unwrap().matrix_bytes("m", (2, COLUMNS - 1)).unwrap_err();
        assert!(odd.to_string().contains("an odd number"), "{odd}");
    }

    #[test]
    fn a_file_cut_off_anywhere_is_refused() {
        let bytes = file();
        for length in 0..bytes.len() {
            assert!(Tensors::parse("t", &bytes[..length]).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_flipped_byte_makes_the_reader_panic(at in 0usize..1_000, value: u8) {
            let mut bytes = file();
            let at = at % bytes.len();
            bytes[at] = value;
            if let Ok(tensors) = Tensors::parse("t", &bytes) {
                let _ = (tensors.matrix_floats("m", (2, COLUMNS)), tensors.matrix_shape("m"));
            }
        }
    }
}
