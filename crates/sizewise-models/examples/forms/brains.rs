//! What are an encoder's weights in brain floating point?
//!
//! What `sizewise models quantize --to bf16` writes, made in memory: matrices become brain floating point numbers, those of 8 and 4 bits
//! after their scales were multiplied in.

use sizewise_models::{
    Result,
    encoder::{Encoder, EncoderFiles},
    tensors::{self, Dtype, Output, Tensors},
};

/// The encoder of these files with its matrices in brain floating point.
pub(crate) fn in_brains(files: &EncoderFiles<&[u8]>) -> Result<Encoder> {
    let mut outputs = Vec::new();
    for (file, bytes) in &files.weights {
        let tensors = Tensors::parse(file, bytes)?;
        for name in tensors.names().iter().filter(|name| !tensors.is_part(name)) {
            let shape = tensors.matrix_shape(name)?;
            match (tensors.dtype(name)?, shape.as_slice()) {
                (Dtype::I64, _) => {}
                (_, &[rows, columns]) => {
                    outputs.push(Output::brains(
                        name,
                        &shape,
                        &tensors.matrix_floats(name, (rows, columns))?,
                    ));
                }
                _ => outputs.push(Output::floats(name, &shape, &tensors.floats(name, &shape)?)),
            }
        }
    }
    let weights = tensors::write("pt", &outputs)?;
    Encoder::from_files(&EncoderFiles {
        weights: vec![("model.safetensors".into(), weights.as_slice())],
        ..files.clone()
    })
}
