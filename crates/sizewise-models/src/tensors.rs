//! Are these bytes the tensors they claim to be?
//!
//! A checked view of a safetensors file: every tensor is asked for by name, type and shape, and what does not fit is an
//! error that names it. The layout itself (offsets, overlaps, sizes) is checked by the `safetensors` crate before
//! anything is read.

use crate::error::{Error, Result};
pub use safetensors::Dtype;
use safetensors::{SafeTensors, tensor::TensorView};
use std::collections::HashMap;

/// The tensors of one file.
pub struct Tensors<'a> {
    file: String,
    tensors: SafeTensors<'a>,
    metadata: HashMap<String, String>,
}

impl std::fmt::Debug for Tensors<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tensors").field("file", &self.file).finish_non_exhaustive()
    }
}

impl<'a> Tensors<'a> {
    /// Checks the layout of a file; `file` is its name for messages.
    ///
    /// # Errors
    /// Fails when the bytes are no safetensors file.
    pub fn parse(file: &str, bytes: &'a [u8]) -> Result<Self> {
        let damaged = |problem: String| Error::File { file: file.to_owned(), problem };
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| damaged(error.to_string()))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| damaged(error.to_string()))?;
        Ok(Self { file: file.to_owned(), tensors, metadata: metadata.metadata().clone().unwrap_or_default() })
    }

    /// An entry of the file's metadata.
    ///
    /// # Errors
    /// Fails when there is no such entry.
    pub fn metadata(&self, key: &str) -> Result<&str> {
        self.metadata
            .get(key)
            .map(String::as_str)
            .ok_or_else(|| self.damaged(format!("its metadata has no `{key}`")))
    }

    /// Checks that the file is of one of our own formats.
    ///
    /// # Errors
    /// Fails for another format or a version that this build cannot read.
    pub fn expect_format(&self, format: &str) -> Result<()> {
        let found = self.metadata("format")?;
        if found == format {
            Ok(())
        } else {
            Err(self.damaged(format!("its format is `{found}`, not `{format}`")))
        }
    }

    /// The names of all tensors, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.tensors.names().into_iter().map(ToString::to_string).collect();
        names.sort();
        names
    }

    /// Whether a tensor of this name is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.tensors.tensor(name).is_ok()
    }

    /// The shape of a tensor.
    ///
    /// # Errors
    /// Fails when there is none of this name.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>> {
        Ok(self.view(name)?.shape().to_vec())
    }

    /// The type of a tensor.
    ///
    /// # Errors
    /// Fails when there is none of this name.
    pub fn dtype(&self, name: &str) -> Result<Dtype> {
        Ok(self.view(name)?.dtype())
    }

    /// A tensor of floating point numbers of 32, 16 or brain-16 bits, as 32-bit ones.
    ///
    /// # Errors
    /// Fails when it is missing, of another type or shape, or holds a number that is not finite.
    pub fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let view = self.checked(name, shape)?;
        let data = view.data();
        let pairs = || data.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => {
                data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
            Dtype::F16 => pairs().map(|bits| half::f16::from_bits(bits).to_f32()).collect(),
            Dtype::BF16 => pairs().map(|bits| half::bf16::from_bits(bits).to_f32()).collect(),
            other => {
                return Err(
                    self.damaged(format!("tensor `{name}` holds {other:?}, not floating point numbers"))
                );
            }
        };
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(self.damaged(format!(
                "tensor `{name}` holds {} at {at}",
                values.get(at).copied().unwrap_or(0.0)
            ))),
            None => Ok(values),
        }
    }

    /// The bits of a tensor of brain floating point numbers.
    ///
    /// # Errors
    /// Fails when it is missing, of another type or shape, or holds a number that is not finite.
    pub fn brains(&self, name: &str, shape: &[usize]) -> Result<Vec<u16>> {
        let view = self.typed(name, shape, Dtype::BF16)?;
        let bits: Vec<u16> = view.data().chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
        match bits.iter().position(|bits| !half::bf16::from_bits(*bits).is_finite()) {
            Some(at) => {
                Err(self.damaged(format!("tensor `{name}` holds a number at {at} that is not finite")))
            }
            None => Ok(bits),
        }
    }

    /// A tensor of 8-bit integers.
    ///
    /// # Errors
    /// Fails when it is missing or of another type or shape.
    pub fn bytes(&self, name: &str, shape: &[usize]) -> Result<Vec<i8>> {
        let view = self.typed(name, shape, Dtype::I8)?;
        Ok(view.data().iter().map(|byte| *byte as i8).collect())
    }

    /// A tensor of unsigned 8-bit integers.
    ///
    /// # Errors
    /// Fails when it is missing or of another type or shape.
    pub fn octets(&self, name: &str, shape: &[usize]) -> Result<Vec<u8>> {
        Ok(self.typed(name, shape, Dtype::U8)?.data().to_vec())
    }

    /// A tensor of unsigned 64-bit integers.
    ///
    /// # Errors
    /// Fails when it is missing or of another type or shape.
    pub fn longs(&self, name: &str, shape: &[usize]) -> Result<Vec<u64>> {
        let view = self.typed(name, shape, Dtype::U64)?;
        let long = |b: &[u8]| b.try_into().map(u64::from_le_bytes).unwrap_or_default();
        Ok(view.data().chunks_exact(8).map(long).collect())
    }

    /// A tensor of unsigned 32-bit integers.
    ///
    /// # Errors
    /// Fails when it is missing or of another type or shape.
    pub fn integers(&self, name: &str, shape: &[usize]) -> Result<Vec<u32>> {
        let view = self.typed(name, shape, Dtype::U32)?;
        let integer = |b: &[u8]| b.try_into().map(u32::from_le_bytes).unwrap_or_default();
        Ok(view.data().chunks_exact(4).map(integer).collect())
    }

    /// A tensor as it is, to be written again.
    ///
    /// # Errors
    /// Fails when there is none of this name.
    pub fn copy(&self, name: &str) -> Result<Output> {
        let view = self.view(name)?;
        let (shape, data) = (view.shape().to_vec(), view.data().to_vec());
        Ok(Output { name: name.to_owned(), dtype: view.dtype(), shape, data })
    }

    /// Some rows of a tensor as they are, to be written again.
    ///
    /// # Errors
    /// Fails when there is none of this name or it has no such row.
    pub fn copy_rows(&self, name: &str, rows: &[u32]) -> Result<Output> {
        let mut tensor = self.copy(name)?;
        let count = tensor.shape.first().copied().unwrap_or(0);
        let size = tensor.data.len() / count.max(1);
        let row = |row: &u32| tensor.data.get(*row as usize * size..(*row as usize + 1) * size);
        let data = rows.iter().map(row).collect::<Option<Vec<&[u8]>>>();
        let data =
            data.ok_or_else(|| self.damaged(format!("tensor `{name}` has {count} rows, too few")))?.concat();
        if let Some(first) = tensor.shape.first_mut() {
            *first = rows.len();
        }
        tensor.data = data;
        Ok(tensor)
    }

    fn typed(&self, name: &str, shape: &[usize], dtype: Dtype) -> Result<TensorView<'_>> {
        let view = self.checked(name, shape)?;
        if view.dtype() == dtype {
            return Ok(view);
        }
        Err(self.damaged(format!("tensor `{name}` holds {:?}, not {dtype:?}", view.dtype())))
    }

    fn checked(&self, name: &str, shape: &[usize]) -> Result<TensorView<'_>> {
        let view = self.view(name)?;
        if view.shape() == shape {
            return Ok(view);
        }
        Err(self.damaged(format!("tensor `{name}` has shape {:?}, not {shape:?}", view.shape())))
    }

    fn view(&self, name: &str) -> Result<TensorView<'_>> {
        self.tensors.tensor(name).map_err(|_| self.damaged(format!("it has no tensor `{name}`")))
    }

    /// An error about this file.
    pub(crate) fn damaged(&self, problem: String) -> Error {
        Error::File { file: self.file.clone(), problem }
    }
}

/// A tensor to be written.
#[derive(Debug)]
pub struct Output {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl Output {
    /// The same under another name.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Floating point numbers of 32 bits.
    #[must_use]
    pub fn floats(name: &str, shape: &[usize], values: &[f32]) -> Self {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { name: name.into(), dtype: Dtype::F32, shape: shape.to_vec(), data }
    }

    /// Floating point numbers rounded to brain floating point.
    #[must_use]
    pub fn brains(name: &str, shape: &[usize], values: &[f32]) -> Self {
        let data = values.iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes()).collect();
        Self { name: name.into(), dtype: Dtype::BF16, shape: shape.to_vec(), data }
    }

    /// 8-bit integers.
    #[must_use]
    pub fn bytes(name: &str, shape: &[usize], values: &[i8]) -> Self {
        let data = values.iter().map(|value| *value as u8).collect();
        Self { name: name.into(), dtype: Dtype::I8, shape: shape.to_vec(), data }
    }

    /// Unsigned 8-bit integers.
    #[must_use]
    pub fn octets(name: &str, shape: &[usize], values: &[u8]) -> Self {
        Self { name: name.into(), dtype: Dtype::U8, shape: shape.to_vec(), data: values.to_vec() }
    }

    /// Unsigned 64-bit integers.
    #[must_use]
    pub fn longs(name: &str, shape: &[usize], values: &[u64]) -> Self {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { name: name.into(), dtype: Dtype::U64, shape: shape.to_vec(), data }
    }

    /// Unsigned 32-bit integers.
    #[must_use]
    pub fn integers(name: &str, shape: &[usize], values: &[u32]) -> Self {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { name: name.into(), dtype: Dtype::U32, shape: shape.to_vec(), data }
    }
}

/// Writes tensors and metadata as one safetensors file.
///
/// **Determinism.** The same tensors give the same bytes: tensors are sorted by the format, and only one metadata key is
/// written, because the order of several is not fixed.
///
/// # Errors
/// Fails when a tensor's data does not fill its shape.
pub fn write(format: &str, tensors: &[Output]) -> Result<Vec<u8>> {
    let broken = |error: safetensors::SafeTensorError| Error::File {
        file: format.to_owned(),
        problem: error.to_string(),
    };
    let views = tensors
        .iter()
        .map(|t| TensorView::new(t.dtype, t.shape.clone(), &t.data).map(|view| (t.name.as_str(), view)))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(broken)?;
    let metadata = HashMap::from([("format".to_owned(), format.to_owned())]);
    safetensors::serialize(views, Some(metadata)).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file() -> Vec<u8> {
        write("test/1", &[Output::floats("a", &[2, 1], &[1.0, 2.0]), Output::bytes("b", &[3], &[-1, 0, 1])])
            .unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let bytes = file();
        let tensors = Tensors::parse("f", &bytes).unwrap();
        tensors.expect_format("test/1").unwrap();
        assert_eq!(tensors.floats("a", &[2, 1]).unwrap(), [1.0, 2.0]);
        assert_eq!(tensors.bytes("b", &[3]).unwrap(), [-1, 0, 1]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let bytes = file();
        let tensors = Tensors::parse("f", &bytes).unwrap();
        let message = |result: Result<Vec<f32>>| result.unwrap_err().to_string();
        assert!(message(tensors.floats("a", &[1, 2])).contains("tensor `a` has shape [2, 1], not [1, 2]"));
        assert!(message(tensors.floats("b", &[3])).contains("tensor `b` holds I8"));
        assert!(message(tensors.floats("c", &[3])).contains("no tensor `c`"));
        let nan = write("t", &[Output::floats("n", &[1], &[f32::NAN])]).unwrap();
        assert!(message(Tensors::parse("f", &nan).unwrap().floats("n", &[1])).contains("holds NaN at 0"));
    }

    #[test]
    fn a_file_cut_off_anywhere_is_refused() {
        let bytes = file();
        for length in 0..bytes.len() {
            assert!(Tensors::parse("f", &bytes[..length]).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_flipped_byte_makes_the_reader_panic(at in 0usize..200, value: u8) {
            let mut bytes = file();
            let at = at % bytes.len();
            bytes[at] = value;
            if let Ok(tensors) = Tensors::parse("f", &bytes) {
                let _ = (tensors.floats("a", &[2, 1]), tensors.bytes("b", &[3]));
            }
        }
    }
}
