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
    /// The class that the last tier that said something would answer, by its value; given even when it is not trusted.
    pub value: String,
    /// Its index among the classes.
    pub class: usize,
    /// The calibrated probability that `value` is right; none for the answer of a remote model, which nobody has calibrated.
    pub confidence: Option<f64>,
    /// From which confidence an answer is given; none when no threshold was certified.
    pub threshold: Option<f64>,
    /// One probability per class, in contract order; of a remote model all of it on what it said. `[classes]`
    pub probabilities: Vec<f32>,
    /// The last tier that said something.
    pub tier: Tier,
    /// Whether this question's threshold comes from a certificate in force; what a remote model answers stands under none.
    pub certified: bool,
    /// Why no local tier answered, where a remote model did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_on: Option<EscalationReason>,
    /// What came of asking a remote model, where one was to be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteUse>,
    /// Every tier that was asked, cheapest first.
    pub path: Vec<Step>,
}

/// What came of asking a remote model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteUse {
    /// The provider that was asked last, by its name in the settings.
    pub provider: String,
    /// The model that answered, as the provider calls it.
    pub model: String,
    /// Calls that were made, to every provider together; none where the answer was remembered.
    pub attempts: u32,
    /// Whose answer it is, where it was remembered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recalled: Option<Recalled>,
    /// Why it gave no answer that may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<RemoteProblem>,
}

/// Whose answer a remembered one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recalled {
    /// That to the same input.
    Same,
    /// That to an input so much alike that the answer may stand for this one's.
    Similar,
}

impl Recalled {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Similar => "similar",
        }
    }
}

/// Why a remote model gave no answer that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemoteProblem {
    /// The input may not leave for any of the task's providers.
    MayNotLeave,
    /// The budget does not hold another call.
    BudgetSpent,
    /// No provider answered in time, or all of them failed.
    Unavailable,
    /// The providers refuse this input: too long, or filtered.
    Refused,
    /// What came back is no answer that the contract knows, twice.
    OffContract,
    /// The model says that the input is outside of every class.
    OutOfScope,
}

impl RemoteProblem {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MayNotLeave => "may_not_leave",
            Self::BudgetSpent => "budget_spent",
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
            Self::OffContract => "off_contract",
            Self::OutOfScope => "out_of_scope",
        }
    }
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
    /// A tier was sure enough for the certificate, but the promise is in doubt, or broken.
    PromiseInDoubt,
    /// The question has no certificate, and the settings allow no answer without one.
    NotCertified,
    /// The input is of a new kind that is proposed to people: the release knows no such inputs.
    NewKind,
}

impl EscalationReason {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BelowThreshold => "below_threshold",
            Self::OutOfScope => "out_of_scope",
            Self::PromiseInDoubt => "promise_in_doubt",
            Self::NotCertified => "not_certified",
            Self::NewKind => "new_kind",
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
    /// How sure it was; none for a remote model.
    pub confidence: Option<f64>,
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

    /// The confidence, or for a model that has none the probability that it gave itself: for protocols that know nothing
    /// but a number.
    #[must_use]
    pub fn stated_confidence(&self) -> f64 {
        let own = || self.probabilities.get(self.class).copied().map_or(0.0, f64::from);
        self.confidence.unwrap_or_else(own)
    }
}
