//! What does a text mean, in a microsecond?
//!
//! A table of one vector per word piece, distilled from an encoder; a text is the mean of its pieces (Arora et al. 2017
//! for the weighting, Tulkens and van Dongen 2024 for the distillation). Rows are bytes with a scale that already holds
//! the piece's weight.

use crate::{
    error::{Error, Result},
    kernels::widest,
    memory::InMemory,
    tensors::{self, Output, Tensors},
    wordpiece::WordPiece,
};
use sizewise_contract::ContentHash;

/// Name and version of the file format.
const FORMAT: &str = "sizewise-static-embeddings/1";

/// Static embeddings with the tokenizer they belong to.
#[derive(Debug)]
pub struct StaticEmbeddings {
    tokenizer: WordPiece,
    dimensions: usize,
    /// `[ids, dimensions]`
    rows: Vec<i8>,
    /// `[ids]`
    scales: Vec<f32>,
    hash: ContentHash,
}

impl StaticEmbeddings {
    /// Puts static embeddings together from the bytes of their table and their tokenizer.
    ///
    /// # Errors
    /// Fails when either is damaged or they do not fit each other.
    pub fn from_files(table: &[u8], tokenizer: &[u8]) -> Result<Self> {
        let tensors = Tensors::parse("static embeddings", table)?;
        tensors.expect_format(FORMAT)?;
        let tokenizer_hash = ContentHash::of(tokenizer);
        let tokenizer = WordPiece::from_tokenizer_json("tokenizer.json", tokenizer)?;
        let (ids, dimensions) = match tensors.shape("rows")?.as_slice() {
            &[ids, dimensions] if dimensions > 0 && dimensions <= 4_096 => (ids, dimensions),
            other => {
                return Err(
                    tensors.damaged(format!("tensor `rows` has shape {other:?}, not [ids, dimensions]"))
                );
            }
        };
        if tokenizer.ids() > ids {
            return Err(tensors.damaged(format!("it has {ids} rows for {} word pieces", tokenizer.ids())));
        }
        let mut hash = ContentHash::builder();
        hash.field(table);
        hash.field(tokenizer_hash.as_bytes());
        Ok(Self {
            tokenizer,
            dimensions,
            rows: tensors.bytes("rows", &[ids, dimensions])?,
            scales: tensors.floats("scales", &[ids])?,
            hash: hash.finish(),
        })
    }

    /// Writes a table as bytes. `vectors` is `[ids, dimensions]`.
    ///
    /// # Errors
    /// Fails only where a rule inside is broken.
    pub fn table_to_bytes(vectors: &[f32], dimensions: usize) -> Result<Vec<u8>> {
        let (mut rows, mut scales) = (Vec::with_capacity(vectors.len()), Vec::new());
        for vector in vectors.chunks_exact(dimensions.max(1)) {
            let largest = vector.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            let scale = if largest > 0.0 { largest / 127.0 } else { 0.0 };
            rows.extend(
                vector.iter().map(|value| if scale > 0.0 { (value / scale).round() as i8 } else { 0 }),
            );
            scales.push(scale);
        }
        if rows.len() != vectors.len() {
            return Err(Error::Internal("a table has whole rows"));
        }
        tensors::write(
            FORMAT,
            &[
                Output::bytes("rows", &[scales.len(), dimensions], &rows),
                Output::floats("scales", &[scales.len()], &scales),
            ],
        )
    }

    /// Hash of table and tokenizer: what a release was fitted with.
    #[must_use]
    pub fn hash(&self) -> ContentHash {
        self.hash
    }

    /// Length of the vectors.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Replaces `mean` by the text's vector, of unit length, or zero where no piece is known. `ids` is a buffer.
    pub fn embed_into(&self, text: &str, ids: &mut Vec<u32>, mean: &mut Vec<f32>) {
        ids.clear();
        self.tokenizer.encode_into(text, ids);
        mean.clear();
        mean.resize(self.dimensions, 0.0);
        ids.retain(|id| *id != self.tokenizer.unknown());
        widest(
            #[inline(always)]
            || {
                // Four rows at a time: a sum is read and written once for them.
                let (fours, rest) = ids.as_chunks::<4>();
                for four in fours {
                    let [(a, p), (b, q), (c, r), (d, s)] = four.map(|id| self.row(id));
                    let rows = p.iter().zip(q).zip(r.iter().zip(s));
                    for (sum, ((p, q), (r, s))) in mean.iter_mut().zip(rows) {
                        *sum +=
                            (a * f32::from(*p) + b * f32::from(*q)) + (c * f32::from(*r) + d * f32::from(*s));
                    }
                }
                for id in rest {
                    let (scale, row) = self.row(*id);
                    mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += scale * f32::from(*value));
                }
                let length = crate::static_head::dot(mean, mean).sqrt();
                if length > 0.0 {
                    let inverse = 1.0 / length;
                    mean.iter_mut().for_each(|value| *value *= inverse);
                }
            },
        );
    }

    /// A piece's vector with what it is multiplied by; a piece that the table does not have counts nothing.
    #[inline(always)]
    fn row(&self, id: u32) -> (f32, &[i8]) {
        let at = id as usize * self.dimensions;
        match (self.rows.get(at..at + self.dimensions), self.scales.get(id as usize)) {
            (Some(row), Some(scale)) => (*scale, row),
            _ => (0.0, self.rows.get(..self.dimensions).unwrap_or_default()),
        }
    }
}

impl InMemory for StaticEmbeddings {
    fn held_bytes(&self) -> usize {
        self.tokenizer.held_bytes() + self.rows.held_bytes() + self.scales.held_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENIZER: &str = r#"{"normalizer":{"type":"BertNormalizer"},"pre_tokenizer":{"type":"BertPreTokenizer"},
        "model":{"type":"WordPiece","vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":2,"lost":3,"card":4}}}"#;

    fn embeddings() -> StaticEmbeddings {
        let table = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 4.0];
        StaticEmbeddings::from_files(
            &StaticEmbeddings::table_to_bytes(&table, 2).unwrap(),
            TOKENIZER.as_bytes(),
        )
        .unwrap()
    }

    #[test]
    fn a_text_is_the_mean_of_its_pieces() {
        let (mut ids, mut mean) = (Vec::new(), Vec::new());
        embeddings().embed_into("Lost card", &mut ids, &mut mean);
        assert!((mean[0] - 0.6).abs() < 1e-6 && (mean[1] - 0.8).abs() < 1e-6, "{mean:?}");
        embeddings().embed_into("zebra", &mut ids, &mut mean);
        assert_eq!(mean, [0.0, 0.0]);
    }

    #[test]
    fn a_table_too_small_for_its_tokenizer_is_refused() {
        let table = StaticEmbeddings::table_to_bytes(&[1.0; 4], 2).unwrap();
        let error = StaticEmbeddings::from_files(&table, TOKENIZER.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("2 rows for 5 word pieces"), "{error}");
    }
}
