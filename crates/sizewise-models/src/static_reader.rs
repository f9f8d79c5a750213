//! What does the static tier read of a text?
//!
//! The rows of a task's vocabulary and the mean of the built-in static embeddings, into buffers that are used again.

use crate::{
    static_embeddings::StaticEmbeddings,
    vocabulary::{Features, Vocabulary},
};
use sizewise_contract::StaticFeatures;

/// Reads one text after the other.
#[derive(Debug, Default)]
pub struct StaticReader {
    features: Features,
    ids: Vec<u32>,
    mean: Vec<f32>,
}

impl StaticReader {
    /// The features of a text, until the next one is read.
    pub fn read(
        &mut self,
        embeddings: &StaticEmbeddings,
        vocabulary: &Vocabulary,
        text: &str,
    ) -> StaticFeatures<'_> {
        vocabulary.read(text, &mut self.features);
        embeddings.embed_into(text, &mut self.ids, &mut self.mean);
        StaticFeatures {
            values: &self.features.values,
            embedding: &self.mean,
            seen_words: self.features.seen_words,
            seen_runs: self.features.seen_runs,
            word_count: self.features.word_count,
        }
    }
}
