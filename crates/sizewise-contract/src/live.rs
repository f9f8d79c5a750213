//! What is known of a promise after it was made?
//!
//! Some requests that were answered here are put before a reference as well, drawn at random with a probability that is written down:
//! probes. What the reference says is the live evidence.

use crate::{hash::ContentHash, tier::Tier, units::UnixMillis};
use serde::{Deserialize, Serialize};

/// How a promise stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromiseState {
    /// Nothing speaks against it.
    #[default]
    Kept,
    /// The evidence weakens: answers are given from a higher confidence on only.
    InDoubt,
    /// More is wrong than was promised, with the confidence of the promise: nothing is answered here.
    Broken,
}

impl PromiseState {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::InDoubt => "in_doubt",
            Self::Broken => "broken",
        }
    }
}

/// Who says what would have been right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reference {
    /// A person, by way of the review queue.
    #[default]
    Person,
    /// The task's larger model, whose word is a teacher's.
    Remote,
}

/// A question about an input that was drawn to be put before the reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// The decision it belongs to.
    pub decision: String,
    /// The task.
    pub task: String,
    /// The question.
    pub question: String,
    /// The release that judged.
    pub release: ContentHash,
    /// When.
    pub at: UnixMillis,
    /// With which probability it was drawn.
    pub probability: f64,
    /// The least probability of any answer at that moment, divided by its own: what makes up for being drawn more often.
    pub weight: f64,
    /// Which part of the traffic it is of, as the caller says.
    pub group: Option<String>,
    /// Who is asked.
    pub reference: Reference,
    /// What each local tier would have answered, cheapest first.
    pub path: Vec<ProbeStep>,
}

/// What one tier would have answered to a probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeStep {
    /// The tier.
    pub tier: Tier,
    /// The class, by its value.
    pub value: String,
    /// How sure it was.
    pub confidence: f64,
}

/// A probe about which the reference has spoken.
#[derive(Debug, Clone, PartialEq)]
pub struct ToldProbe {
    /// In which place it was told, over all tasks.
    pub told: i64,
    /// When it was told.
    pub told_at: UnixMillis,
    /// Its weight.
    pub weight: f64,
    /// Its part of the traffic.
    pub group: Option<String>,
    /// What each local tier would have answered, cheapest first.
    pub path: Vec<ProbeStep>,
    /// What the reference said, as tables spell it.
    pub truth: String,
}

/// One change of a promise's state or of the threshold in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PromiseChange {
    /// The task.
    pub task: String,
    /// The question.
    pub question: String,
    /// The release whose promise it is.
    pub release: ContentHash,
    /// The part of the traffic; none for all of it.
    pub group: Option<String>,
    /// When the evidence came that decided it.
    pub at: UnixMillis,
    /// The place of that evidence.
    pub told: i64,
    /// The state before.
    pub from: PromiseState,
    /// The state from then on.
    pub to: PromiseState,
    /// From which confidence answers are given from then on; none where nothing is.
    pub threshold: Option<f64>,
    /// Why, in one sentence.
    pub reason: String,
}

/// What became of a new kind of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KindState {
    /// It is proposed to people: inputs of it are handed on.
    Proposed,
    /// A person said that it is none.
    Dismissed,
    /// A release knows it now.
    Known,
    /// Nobody can tell its inputs any more: the server that found it keeps nothing, or the encoder is another one.
    Lost,
}

impl KindState {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Dismissed => "dismissed",
            Self::Known => "known",
            Self::Lost => "lost",
        }
    }
}

/// A new kind of input that was found in the traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewKind {
    /// Names it, over all tasks.
    pub id: i64,
    /// The task.
    pub task: String,
    /// The release that did not know it.
    pub release: ContentHash,
    /// Since when it is proposed.
    pub at: UnixMillis,
    /// What became of it.
    pub state: KindState,
    /// After how many looks it was proposed.
    pub looks: u64,
    /// Share of the inputs looked at lately that are of it.
    pub share: f64,
    /// The share of the training rows that look like it, at most.
    pub known_share: f64,
}
