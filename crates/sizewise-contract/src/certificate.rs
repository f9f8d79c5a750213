//! What came of testing a promise on the locked gold rows?
//!
//! A certificate is a plain file: whoever holds the locked rows, the release and this file can count again.

use crate::{hash::ContentHash, task::Promise, tier::Tier, units::UnixMillis};
use serde::{Deserialize, Serialize};

/// The outcome of testing one question's promise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// Version of this format; now 1.
    pub schema: u32,
    /// The task.
    pub task: String,
    /// The question whose promise was tested.
    pub question: String,
    /// What was promised before the rows were opened.
    pub promise: Promise,
    /// What came of it.
    pub verdict: Verdict,
    /// From which confidence an answer is given; only when certified.
    pub threshold: Option<f64>,
    /// What was counted at the served threshold (or, when not certified, at the last threshold tested).
    pub counts: Counts,
    /// Every test in the order it was made.
    pub tests: Vec<ThresholdTest>,
    /// The chance to certify that was printed before the rows were opened, from 0 to 1.
    pub chance_before: f64,
    /// How many openings of the locked rows were planned; each spends an equal part of the allowed risk.
    pub openings_planned: u32,
    /// Which of them this was, from 1.
    pub opening: u32,
    /// When the rows were opened.
    pub opened_at: UnixMillis,
    /// Hash of the contract that was tested.
    pub contract: ContentHash,
    /// Hash of the locked rows.
    pub locked_rows: ContentHash,
    /// Hash of the rows that fixed the order of thresholds.
    pub development_rows: ContentHash,
    /// Hash of the models and calibration that were tested.
    pub models: ContentHash,
}

/// What the locked rows showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Verdict {
    /// The promise holds with the stated confidence.
    Certified,
    /// The evidence speaks against the promise at every useful threshold.
    Refused {
        /// Why, as one sentence.
        reason: String,
    },
    /// The rows neither show nor refute it.
    InsufficientEvidence {
        /// About how many more gold rows would settle it with 80 % chance.
        label_more: u64,
    },
}

impl Verdict {
    /// Whether answers may be given under this certificate.
    #[must_use]
    pub fn is_certified(&self) -> bool {
        matches!(self, Self::Certified)
    }
}

/// Counts at one threshold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Locked rows in all.
    pub rows: u64,
    /// Rows that would be answered.
    pub answered: u64,
    /// Answered rows whose answer is wrong; an answered out-of-scope row is wrong.
    pub wrong: u64,
    /// Rows among all that are out of scope.
    pub out_of_scope: u64,
    /// Upper bound of the served error at the promised confidence (exact binomial).
    pub served_error_bound: f64,
    /// How many each tier answered, cheapest first.
    pub by_tier: Vec<(Tier, u64)>,
}

/// One test of the hypothesis "the served error at this threshold is above the promise".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThresholdTest {
    /// The threshold.
    pub threshold: f64,
    /// Rows answered at it.
    pub answered: u64,
    /// Wrong ones among them.
    pub wrong: u64,
    /// P[Binomial(answered, promise) ≤ wrong].
    pub p_value: f64,
    /// The level it was tested at.
    pub level: f64,
    /// Whether the hypothesis was rejected, that is: the promise shown to hold.
    pub rejected: bool,
}
