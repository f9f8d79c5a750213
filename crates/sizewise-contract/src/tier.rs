//! Which kind of model may answer, and what does every kind have in common?
//!
//! A cascade is a list of tiers from the cheapest up. Whatever a tier is inside, it reads [`Evidence`] and
//! returns a [`Judgement`] whose confidence is calibrated, so that one threshold serves them all.

use crate::{error::Diagnose, units::MicroUsd};
use serde::{Deserialize, Serialize};

/// One kind of model, in the order of cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// What the user knows for certain.
    Rules,
    /// Hashed n-grams and static token embeddings under one linear layer; microseconds.
    Static,
    /// A transformer encoder with a linear head; milliseconds.
    Encoder,
    /// A local generative model, constrained to the contract.
    Generator,
    /// A model behind somebody's protocol.
    Remote,
    /// A person, by way of the review queue.
    Person,
}

impl Tier {
    /// The name in task files, answers and records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::Static => "static",
            Self::Encoder => "encoder",
            Self::Generator => "generator",
            Self::Remote => "remote",
            Self::Person => "person",
        }
    }
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What is known about one input when a tier is asked.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The rendered input.
    pub text: &'a str,
    /// What the static tier reads, computed once for all questions.
    pub features: Option<StaticFeatures<'a>>,
    /// The encoder's embedding, once somebody has paid for it. `[dimensions]`, unit length.
    pub embedding: Option<&'a [f32]>,
    /// What the cheaper tiers thought of the same question, cheapest first.
    pub earlier: &'a [Judgement],
}

/// What the static tier reads of one input.
#[derive(Debug, Clone, Copy)]
pub struct StaticFeatures<'a> {
    /// Rows of the task's vocabulary with their values.
    pub values: &'a [(u32, f32)],
    /// Mean static embedding, of unit length. `[dimensions]`
    pub embedding: &'a [f32],
    /// Share of the words and pairs of words that training rows had too.
    pub seen_words: f32,
    /// The same for runs of characters.
    pub seen_runs: f32,
    /// How many words the input has.
    pub word_count: usize,
}

/// What one tier thinks about one question.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The tier that thought so.
    pub tier: Tier,
    /// One probability per class of the question, summing to one. `[classes]`
    pub probabilities: Vec<f32>,
    /// The class this tier would answer.
    pub class: usize,
    /// The calibrated probability that `class` is right; low for inputs unlike anything in training.
    pub confidence: f64,
    /// How unlike the training set the input is: 0 like it, 1 nothing like it.
    pub novelty: f32,
    /// What asking cost.
    pub cost: MicroUsd,
}

/// Answers one question about one input.
pub trait Decide: Send + Sync {
    /// The error of this kind of model.
    type Error: Diagnose + Send + Sync + 'static;

    /// The tier this model stands on.
    fn tier(&self) -> Tier;

    /// Judges one input.
    ///
    /// # Errors
    /// Fails when the input cannot be read by this model or a part of the evidence that it needs is missing.
    fn decide(&self, evidence: Evidence<'_>) -> Result<Judgement, Self::Error>;
}

/// Unit-length vectors, one row per text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Embeddings {
    /// Row after row. `[texts, dimensions]`
    pub values: Vec<f32>,
    /// Length of one row.
    pub dimensions: usize,
    /// Word pieces that were read for each text, special ones included. `[texts]`
    pub tokens: Vec<u32>,
}

impl Embeddings {
    /// The rows in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.dimensions.max(1))
    }
}

/// Turns texts into vectors.
pub trait Embed: Send + Sync {
    /// The error of this kind of model.
    type Error: Diagnose + Send + Sync + 'static;

    /// Length of the vectors.
    fn dimensions(&self) -> usize;

    /// Embeds texts, in order.
    ///
    /// # Errors
    /// Fails when a text is longer than the model reads and the overflow rule forbids cutting it.
    fn embed(&self, texts: &[&str], overflow: crate::task::Overflow) -> Result<Embeddings, Self::Error>;
}

/// Writes text after a prompt. The local generator and remote models will implement it.
pub trait Generate: Send + Sync {
    /// The error of this kind of model.
    type Error: Diagnose + Send + Sync + 'static;

    /// Continues a prompt by at most `max_tokens` tokens.
    ///
    /// # Errors
    /// Fails when the model cannot read the prompt or cannot be reached.
    fn generate(&self, prompt: &str, max_tokens: u32) -> Result<String, Self::Error>;
}
