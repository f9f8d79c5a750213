//! What are an encoder's weights in brain floating point?
//!
//! What `sizewise models quantize --to bf16` writes, made in memory: matrices become brain floating point numbers, 8-bit
//! ones after their scales were multiplied in.

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
        for name in tensors.names() {
            let shape = tensors.shape(&name)?;
            let scale = format!("{name}.scale");
            match (tensors.dtype(&name)?, shape.as_slice()) {
                (Dtype::I8, &[rows, columns]) => {
                    let scales = tensors.floats(&scale, &[rows])?;
                    let values = tensors.bytes(&name, &shape)?;
                    let rows = values.chunks_exact(columns.max(1)).zip(scales);
                    let values: Vec<f32> = rows
                        .flat_map(|(row, scale)| row.iter().map(move |v| f32::from(*v) * scale))
                        .collect();
                    outputs.push(Output::brains(&name, &shape, &values));
                }
                (Dtype::I64, _) => {}
                (_, &[_, _]) => outputs.push(Output::brains(&name, &shape, &tensors.floats(&name, &shape)?)),
                _ => outputs.push(Output::floats(&name, &shape, &tensors.floats(&name, &shape)?)),
            }
        }
    }
    let weights = tensors::write("pt", &outputs)?;
    Encoder::from_files(&EncoderFiles {
        weights: vec![("model.safetensors".into(), weights.as_slice())],
        ..files.clone()
    })
}
