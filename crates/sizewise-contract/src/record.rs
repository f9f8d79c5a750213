//! What does one request leave behind?
//!
//! As little as the task's privacy setting says. A record never holds a key, only the public id of one.

use crate::{
    answer::Answer,
    hash::ContentHash,
    units::{MicroUsd, UnixMillis},
};
use serde::{Deserialize, Serialize};

/// What one decision left behind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The decision's id.
    pub id: String,
    /// The task.
    pub task: String,
    /// The release that answered.
    pub release: ContentHash,
    /// When it was decided.
    pub at: UnixMillis,
    /// The input, as far as it may be kept.
    pub input: StoredInput,
    /// The answers with their paths.
    pub answers: Vec<Answer>,
    /// From admission to answer.
    pub elapsed_us: u64,
    /// Public id of the API key that asked; none on loopback without keys.
    pub key_id: Option<String>,
}

/// What asking a larger model about one input came to, everything that was tried included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    /// The provider that was called last, by its name in the settings.
    pub provider: String,
    /// What it cost, or may have cost.
    pub micro_usd: MicroUsd,
    /// Tokens that were read, as far as providers said.
    pub read: u64,
    /// Tokens that were written, as far as providers said.
    pub written: u64,
}

/// An input, as far as the task's `privacy.store` lets it be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kept", content = "text")]
pub enum StoredInput {
    /// Nothing of it.
    Nothing,
    /// The text with personal data replaced.
    Redacted(String),
    /// The text as it came.
    Full(String),
}

/// A question that waits for a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueuedItem {
    /// The decision it belongs to.
    pub decision: String,
    /// The task.
    pub task: String,
    /// The question.
    pub question: String,
    /// Since when it waits.
    pub at: UnixMillis,
    /// The input, as far as it may be kept; a person cannot answer what was not kept.
    pub input: StoredInput,
    /// What the last tier would have said, by its value.
    pub suggestion: String,
    /// How sure it was.
    pub confidence: f64,
    /// Why it waits.
    #[serde(default)]
    pub why: Waits,
}

/// Why a question waits for a person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waits {
    /// Nobody here was sure enough, and somebody was told that a person will look.
    #[default]
    Unsure,
    /// It was drawn at random, to see whether the promise is kept.
    Probe,
    /// It is of a new kind of input that somebody wants labelled.
    NewKind,
    /// It never waited: whoever asked said of their own accord what would have been right.
    Feedback,
}

impl Waits {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unsure => "unsure",
            Self::Probe => "probe",
            Self::NewKind => "new_kind",
            Self::Feedback => "feedback",
        }
    }
}
