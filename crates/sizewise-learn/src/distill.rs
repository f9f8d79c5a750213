//! How does an encoder become a table of static embeddings?
//!
//! Without any data: every word piece goes through the encoder alone, the outputs are centred and reduced to their
//! principal directions, and each row is weighted by how rare its piece is (after model2vec, Tulkens and van Dongen
//! 2024; weights after Arora et al. 2017, with the rank in the vocabulary standing for the frequency).

use crate::error::{Error, Result, at};
use sizewise_models::{
    builtin::NOT_STATED,
    encoder::{Encoder, EncoderFiles},
    static_embeddings::StaticEmbeddings,
};
use std::path::Path;

/// Length of the static embeddings.
const DIMENSIONS: usize = 256;
/// Pieces that go through the encoder at once.
const CHUNK: usize = 4_096;
/// The constant `a` of the weight a / (a + p).
const SMOOTH: f64 = 1e-4;

/// Distils static embeddings from the encoder in `folder` and writes them to `output`.
///
/// # Errors
/// Fails when the encoder cannot be read or the folder cannot be written.
pub fn static_embeddings(
    folder: &Path,
    output: &Path,
    notice: &str,
    progress: &dyn Fn(usize, usize),
) -> Result<()> {
    let tokenizer = EncoderFiles::read(folder)?.tokenizer;
    let encoder = Encoder::load(folder)?.with_last_layer_only();
    let ids = encoder.tokenizer().ids();
    let size = encoder.dimensions();
    let mut vectors: Vec<f32> = Vec::with_capacity(ids * size);
    for first in (0..ids).step_by(CHUNK) {
        let frame = |id: usize| vec![encoder.tokenizer().cls(), id as u32, encoder.tokenizer().sep()];
        let sequences: Vec<Vec<u32>> = (first..(first + CHUNK).min(ids)).map(frame).collect();
        vectors.extend(encoder.embed_ids(&sequences)?.values);
        progress(vectors.len() / size, ids);
    }
    let reduced = principal_parts(&mut vectors, size, DIMENSIONS.min(size));
    let weighted = weight_by_rank(reduced, DIMENSIONS.min(size), ids);
    let table = StaticEmbeddings::table_to_bytes(&weighted, DIMENSIONS.min(size))?;
    StaticEmbeddings::from_files(&table, &tokenizer)?;
    std::fs::create_dir_all(output).map_err(at(output))?;
    let write =
        |name: &str, bytes: &[u8]| std::fs::write(output.join(name), bytes).map_err(at(&output.join(name)));
    write("embeddings.safetensors", &table)?;
    write("NOTICE", notice.as_bytes())
}

/// Projects centred rows on their first principal directions. `[rows, size]` to `[rows, kept]`
fn principal_parts(rows: &mut [f32], size: usize, kept: usize) -> Vec<f32> {
    let count = (rows.len() / size).max(1);
    let mut mean = vec![0.0f64; size];
    for row in rows.chunks_exact(size) {
        mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    for row in rows.chunks_exact_mut(size) {
        row.iter_mut().zip(&mean).for_each(|(value, sum)| *value -= (sum / count as f64) as f32);
    }
    let view = ndarray::ArrayView2::from_shape((count, size), &*rows);
    let Ok(view) = view else { return Vec::new() };
    let covariance = view.t().dot(&view);
    let square: Vec<f64> = covariance.iter().map(|value| f64::from(*value) / count as f64).collect();
    let directions = eigenvectors(square, size);
    let flat: Vec<f32> = directions.iter().take(kept).flatten().map(|value| *value as f32).collect();
    let Ok(directions) = ndarray::ArrayView2::from_shape((kept, size), &flat) else { return Vec::new() };
    view.dot(&directions.t()).iter().copied().collect()
}

/// Eigenvectors of a symmetric matrix, largest eigenvalue first, by cyclic Jacobi rotations (Golub and Van Loan 2013,
/// section 8.5). The sign of each is fixed so that its largest entry is positive.
fn eigenvectors(mut matrix: Vec<f64>, size: usize) -> Vec<Vec<f64>> {
    let mut vectors = vec![0.0; size * size];
    (0..size).for_each(|i| vectors[i * size + i] = 1.0);
    for _ in 0..30 {
        let off: f64 = (0..size)
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| matrix[i * size + j].powi(2))
            .sum();
        let diagonal: f64 = (0..size).map(|i| matrix[i * size + i].powi(2)).sum();
        if off <= 1e-18 * diagonal {
            break;
        }
        for p in 0..size {
            for q in p + 1..size {
                rotate(&mut matrix, &mut vectors, size, (p, q));
            }
        }
    }
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|a, b| matrix[b * size + b].total_cmp(&matrix[a * size + a]));
    let vector = |row: usize| {
        let vector: Vec<f64> = vectors[row * size..(row + 1) * size].to_vec();
        let largest = vector
            .iter()
            .copied()
            .fold(0.0f64, |best, value| if value.abs() > best.abs() { value } else { best });
        vector.into_iter().map(|value| value * largest.signum()).collect()
    };
    order.into_iter().map(vector).collect()
}

/// Makes entry (p, q) zero. Eigenvectors are kept as rows, so that every inner loop runs along memory.
fn rotate(matrix: &mut [f64], vectors: &mut [f64], size: usize, (p, q): (usize, usize)) {
    let apq = matrix[p * size + q];
    if apq.abs() < 1e-300 {
        return;
    }
    let theta = (matrix[q * size + q] - matrix[p * size + p]) / (2.0 * apq);
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    let turn = |a: &mut f64, b: &mut f64| {
        let (x, y) = (*a, *b);
        *a = c * x - s * y;
        *b = s * x + c * y;
    };
    let turn_rows = |values: &mut [f64]| {
        let (upper, lower) = values.split_at_mut(q * size);
        upper[p * size..(p + 1) * size].iter_mut().zip(&mut lower[..size]).for_each(|(a, b)| turn(a, b));
    };
    turn_rows(matrix);
    turn_rows(vectors);
    for row in matrix.chunks_exact_mut(size) {
        let (mut a, mut b) = (row[p], row[q]);
        turn(&mut a, &mut b);
        (row[p], row[q]) = (a, b);
    }
}

/// Weighs each row by a / (a + p), where p is the share that Zipf's law gives to its rank.
fn weight_by_rank(mut rows: Vec<f32>, size: usize, ids: usize) -> Vec<f32> {
    let harmonic: f64 = (1..=ids).map(|rank| 1.0 / rank as f64).sum();
    for (id, row) in rows.chunks_exact_mut(size.max(1)).enumerate() {
        let share = 1.0 / ((id + 1) as f64 * harmonic);
        let weight = (SMOOTH / (SMOOTH + share)) as f32;
        row.iter_mut().for_each(|value| *value *= weight);
    }
    rows
}

/// A line about an encoder that ends up in derived weights.
///
/// # Errors
/// Fails when the folder's card cannot be read.
pub fn attribution(folder: &Path, what: &str) -> Result<String> {
    let card = folder.join("README.md");
    let licence = match std::fs::read_to_string(&card) {
        Ok(text) => {
            text.lines().take(40).find_map(|line| line.strip_prefix("license:").map(|l| l.trim().to_owned()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(cause) => return Err(Error::FileSystem { path: card, cause }),
    };
    let name =
        folder.file_name().map_or_else(|| "an encoder".into(), |name| name.to_string_lossy().into_owned());
    Ok(format!(
        "Derived from `{name}` by `sizewise models {what}`.\nLicence of the original: {}.\n",
        licence.as_deref().unwrap_or(NOT_STATED)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_direction_is_the_one_of_largest_spread() {
        let mut rows: Vec<f32> = (0..100)
            .flat_map(|i| {
                let x = i as f32 - 49.5;
                [3.0 * x, 4.0 * x, (i % 2) as f32]
            })
            .collect();
        let reduced = principal_parts(&mut rows, 3, 1);
        assert!((reduced[0].abs() - 49.5 * 5.0).abs() < 0.1, "{}", reduced[0]);
    }

    #[test]
    fn eigenvectors_are_orthonormal_and_belong_to_the_matrix() {
        let matrix = vec![4.0, 1.0, 0.5, 1.0, 3.0, 0.2, 0.5, 0.2, 1.0];
        let vectors = eigenvectors(matrix.clone(), 3);
        for (i, a) in vectors.iter().enumerate() {
            for (j, b) in vectors.iter().enumerate() {
                let product: f64 = a.iter().zip(b).map(|(x, y)| x * y).sum();
                assert!((product - f64::from(u8::from(i == j))).abs() < 1e-9);
            }
            let image: Vec<f64> = (0..3).map(|r| (0..3).map(|c| matrix[r * 3 + c] * a[c]).sum()).collect();
            let value: f64 = image.iter().zip(a).map(|(x, y)| x * y).sum();
            assert!(image.iter().zip(a).all(|(x, y)| (x - value * y).abs() < 1e-9));
        }
    }

    #[test]
    fn frequent_pieces_count_less() {
        let rows = weight_by_rank(vec![1.0; 10_000], 1, 10_000);
        assert!(rows[0] < 0.01 && rows[9_999] > 0.8, "{} {}", rows[0], rows[9_999]);
    }
}
