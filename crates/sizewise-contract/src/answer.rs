//! What was answered, by whom, and why not by somebody cheaper?

use crate::{hash::ContentHash, tier::Tier, units::MicroUsd};
use serde::{Deserialize, Serialize};

/// The answers to one input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Names this decision in records, feedback and the review queue.
    pub id: String,
    /// The task that was asked.
    pub task: String,
    /// The release that answered.
    pub release: ContentHash,
    /// Whether every question was answered under a certificate in force.
    pub certified: bool,
    /// One answer per question asked, in the order asked.
    pub answers: Vec<Answer>,
    /// From admission to answer.
    pub elapsed_us: u64,
    /// What the answers cost.
    pub cost_micro_usd: MicroUsd,
    /// Word pieces read by a model that counts them; 0 when none was asked.
    pub input_tokens: u64,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The question's name.
    pub question: String,
    /// Answered here, or handed on.
    pub disposition: Disposition,
    /// The class that the last tier asked would answer, by its value; given even when it is not trusted.
    pub value: String,
    /// Its index among the classes.
    pub class: usize,
    /// The calibrated probability that `value` is right.
    pub confidence: f64,
    /// From which confidence an answer is given; none when no threshold was certified.
    pub threshold: Option<f64>,
    /// One probability per class, in contract order. `[classes]`
    pub probabilities: Vec<f32>,
    /// The last tier that was asked.
    pub tier: Tier,
    /// Whether this question's threshold comes from a certificate in force.
    pub certified: bool,
    /// Every tier that was asked, cheapest first.
    pub path: Vec<Step>,
}

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Disposition {
    /// The value may be used.
    Answered,
    /// The value may not be used: nobody here is sure enough.
    Escalated {
        /// Why no local tier answered.
        reason: EscalationReason,
        /// Who has it now: a person, or nobody.
        to: EscalatedTo,
    },
}

/// Why no local tier answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EscalationReason {
    /// The confidence of every tier stayed below the threshold.
    BelowThreshold,
    /// The input looks like nothing in the training set.
    OutOfScope,
    /// The question has no certificate, and the settings allow no answer without one.
    NotCertified,
}

impl EscalationReason {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BelowThreshold => "below_threshold",
            Self::OutOfScope => "out_of_scope",
            Self::NotCertified => "not_certified",
        }
    }
}

/// Who has an escalated question now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EscalatedTo {
    /// It waits in the review queue.
    Person,
    /// Nobody: the task abstains.
    None,
}

/// One tier that was asked on the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The tier.
    pub tier: Tier,
    /// The class it would have answered, by its value.
    pub value: String,
    /// How sure it was.
    pub confidence: f64,
    /// How unlike the training set it found the input, from 0 to 1.
    pub novelty: f32,
    /// How long it took.
    pub elapsed_us: u64,
}

impl Answer {
    /// Whether the value may be used.
    #[must_use]
    pub fn answered(&self) -> bool {
        self.disposition == Disposition::Answered
    }
}
