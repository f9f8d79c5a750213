//! What does a word mean where it stands?
//!
//! The encoder that comes with the program reads the text beside the hashed features: what is behind two of its layers for every word
//! tells a name that nobody has listed from a rare word. It takes about a millisecond for a short text, so it is asked for what is to
//! leave the house. The encoder is loaded when the first text is read closely.

use super::{
    decode::Links,
    features::{ROWS, Reading},
};
use crate::{
    builtin,
    encoder::Encoder,
    error::{Error, Result},
    tagger::TAGS,
    tensors::{self, Output, Tensors},
};
use std::{ops::Range, sync::LazyLock};

const FORMAT: &str = "sizewise.close-reader.v1";
const FILE: &str = "close.safetensors";
/// Layers of the encoder that are read.
const LAYERS: [usize; 2] = [2, 4];
const HIDDEN: usize = 384;
/// Length of what is known of a word.
pub const WIDTH: usize = LAYERS.len() * HIDDEN;
/// What 1 is in the bytes of a word's vector.
pub const UNIT: f32 = 32.0;
/// Word pieces of one word that are read; more say nothing more.
const PIECES: usize = 12;
/// Word pieces that the encoder reads at once, and words that neighbouring parts share on either side.
const ROOM: usize = 320;
const SHARED: usize = 12;

static BUILT_IN: LazyLock<Option<CloseReader>> = LazyLock::new(|| {
    let encoder = builtin::encoder().ok()?.with_threads(1);
    CloseReader::from_bytes(include_bytes!("../../weights/tagger/close.safetensors"), encoder).ok()
});

/// Spans that somebody has found, with the name of what they are.
type Known<'a> = &'a [(Range<usize>, &'a str)];

/// The encoder, and what it says for every tag.
#[derive(Debug)]
pub struct CloseReader {
    encoder: Encoder,
    /// `[ROWS, TAGS]`
    rows: Vec<i8>,
    /// What a byte of `rows` is.
    unit: f32,
    /// `[WIDTH, TAGS]`
    vectors: Vec<f32>,
    pub(super) links: Links,
}

impl CloseReader {
    /// The one that comes with the program; none where the program was built from damaged files. The first call loads the encoder.
    #[must_use]
    pub fn built_in() -> Option<&'static Self> {
        BUILT_IN.as_ref()
    }

    /// Reads a close reader from its file; `encoder` is the one that it was fitted with.
    ///
    /// # Errors
    /// Fails when the bytes are damaged or of another format.
    pub fn from_bytes(bytes: &[u8], encoder: Encoder) -> Result<Self> {
        let file = Tensors::parse(FILE, bytes)?;
        file.expect_format(FORMAT)?;
        let unit = file.floats("unit", &[1])?.first().copied().unwrap_or(0.0);
        let links = Links::new(file.floats("links", &[TAGS + 1, TAGS])?)
            .ok_or(Error::Internal("links have a fixed shape"))?;
        Ok(Self {
            encoder,
            rows: file.bytes("rows", &[ROWS, TAGS])?,
            unit,
            vectors: file.floats("vectors", &[WIDTH, TAGS])?,
            links,
        })
    }

    /// Writes a close reader. `rows` is `[ROWS, TAGS]` in units of `unit`; `vectors` is `[WIDTH, TAGS]`; `links` is `[TAGS + 1, TAGS]`.
    ///
    /// # Errors
    /// Fails when shapes do not fit.
    pub fn to_bytes(rows: &[i8], unit: f32, vectors: &[f32], links: &[f32]) -> Result<Vec<u8>> {
        tensors::write(
            FORMAT,
            &[
                Output::bytes("rows", &[ROWS, TAGS], rows),
                Output::floats("unit", &[1], &[unit]),
                Output::floats("vectors", &[WIDTH, TAGS], vectors),
                Output::floats("links", &[TAGS + 1, TAGS], links),
            ],
        )
    }

    /// What rows and vectors say of every word, `[words, TAGS]`. None where the encoder cannot read the text.
    pub(super) fn score(
        &self,
        text: &str,
        reading: &Reading,
        known: Known<'_>,
        scores: &mut Vec<[f32; TAGS]>,
    ) -> Option<()> {
        let vectors = word_vectors(&self.encoder, text, &reading.words, known).ok()?;
        scores.clear();
        for (word, vector) in vectors.chunks_exact(WIDTH).enumerate() {
            let mut counts = [0i32; TAGS];
            for row in reading.rows(word) {
                let start = *row as usize * TAGS;
                let row = self.rows.get(start..start + TAGS).unwrap_or_default();
                counts.iter_mut().zip(row).for_each(|(sum, weight)| *sum += i32::from(*weight));
            }
            let mut sums = [0.0f32; TAGS];
            for (value, weights) in vector.iter().zip(self.vectors.chunks_exact(TAGS)) {
                let value = f32::from(*value);
                sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += value * weight);
            }
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum = *sum / UNIT + count as f32 * self.unit;
            }
            scores.push(sums);
        }
        Some(())
    }
}

/// What the encoder knows of words where they stand, `[words, WIDTH]`, in units of 1 / [`UNIT`]: the mean over a word's pieces, every
/// layer scaled to a mean square of 1. What somebody has found already is read as the name of what it is.
///
/// **Bounds**: a long text is read in parts that overlap, so that time is linear in its length.
///
/// **Determinism**: the same bytes on every machine.
///
/// # Errors
/// Fails when the encoder is not the one that comes with the program.
pub fn word_vectors(
    encoder: &Encoder,
    text: &str,
    words: &[Range<usize>],
    known: Known<'_>,
) -> Result<Vec<i8>> {
    let mut pieces: Vec<Vec<u32>> = Vec::with_capacity(words.len());
    for word in words {
        let mut ids = Vec::new();
        match known.binary_search_by_key(&word.start, |(span, _)| span.start) {
            Ok(which) => {
                let name = known.get(which).map_or("", |(_, name)| name);
                encoder.tokenizer().encode_into(&name.to_lowercase().replace('_', " "), &mut ids);
            }
            Err(_) => encoder.tokenizer().encode_into(text.get(word.clone()).unwrap_or_default(), &mut ids),
        }
        ids.truncate(PIECES);
        pieces.push(ids);
    }
    let mut vectors = Vec::with_capacity(words.len() * WIDTH);
    let mut kept = 0;
    while kept < words.len() {
        let from = kept.saturating_sub(SHARED);
        let (mut ids, mut to) = (vec![encoder.tokenizer().cls()], from);
        while let Some(next) = pieces.get(to).filter(|next| ids.len() + next.len() < ROOM) {
            ids.extend_from_slice(next);
            to += 1;
        }
        ids.push(encoder.tokenizer().sep());
        let until = if to == words.len() { to } else { to.saturating_sub(SHARED).max(kept + 1) };
        let tokens = encoder.token_vectors(&ids, &LAYERS)?;
        let mut tokens = tokens.chunks_exact(WIDTH).skip(1);
        for (place, pieces) in pieces.iter().enumerate().take(until).skip(from) {
            let mut sum = [0.0f32; WIDTH];
            for token in tokens.by_ref().take(pieces.len()) {
                sum.iter_mut().zip(token).for_each(|(sum, value)| *sum += value);
            }
            if place >= kept {
                vectors.extend(sum.chunks_exact(HIDDEN).flat_map(in_bytes));
            }
        }
        kept = until;
    }
    Ok(vectors)
}

fn in_bytes(layer: &[f32]) -> impl Iterator<Item = i8> {
    let squares: f32 = layer.iter().map(|value| value * value).sum();
    let scale = UNIT / (squares / HIDDEN as f32).sqrt().max(1e-6);
    layer.iter().map(move |value| (value * scale).round().clamp(-127.0, 127.0) as i8)
}
