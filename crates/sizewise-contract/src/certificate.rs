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
    /// What became of the rows of each value of the columns in `[data] slices`, at the served threshold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<Slice>,
    /// What else stands between a promise that holds and an answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
    /// Who lets it answer although a gate refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overridden: Option<Override>,
}

impl Certificate {
    /// Whether answers may be given under this certificate: the promise holds, and no gate refuses that nobody overrode.
    #[must_use]
    pub fn may_answer(&self) -> bool {
        self.verdict.is_certified() && (self.overridden.is_some() || !self.is_refused())
    }

    /// Whether a gate refuses, overridden or not.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.gates.iter().any(|gate| gate.result == GateResult::Refuse)
    }
}

/// Rows that have one value of a column in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// The column.
    pub column: String,
    /// The value; empty where the cells are.
    pub value: String,
    /// Rows of it.
    pub rows: u64,
    /// Those that are answered.
    pub answered: u64,
    /// Those that are answered wrongly.
    pub wrong: u64,
    /// Share of its rows that are answered.
    pub coverage: Interval,
    /// Share of its answers that are wrong.
    pub served_error: Interval,
    /// By how much less of it is answered than of all other rows.
    pub coverage_gap: Interval,
    /// The confidence of each of these intervals by itself: so high that all of the certificate hold together.
    pub confidence: f64,
    /// How its answers compare with the promise.
    pub verdict: SliceVerdict,
    /// Whether clearly less of it is answered than of all other rows.
    pub answers_less: bool,
}

/// A value with the ends of its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// What was counted.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// How the answers of a slice compare with the promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum SliceVerdict {
    /// The whole interval of its served error lies within the promise.
    AsPromised,
    /// The whole interval lies above the promise.
    WorseThanPromised,
    /// The promise lies inside of the interval.
    NotEnoughRows {
        /// About how many more locked rows of the slice would settle it with 80 % chance; none where no number would.
        label_more: Option<u64>,
    },
}

/// One thing beside the promise that is looked at before answers are given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// What is looked at.
    pub name: GateName,
    /// What was found, as one sentence without its full stop.
    pub found: String,
    /// What follows.
    pub result: GateResult,
    /// What a person can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// What gates look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateName {
    /// Whether the promise holds for every slice.
    Slices,
    /// Whether rows outside every class are answered less often than others.
    OutOfScope,
    /// Whether answers come as fast as was promised.
    Latency,
    /// Whether the release's parts are those that its manifest names.
    Parts,
    /// Whether its models take no more memory than is allowed.
    Memory,
    /// Whether its models may be used, by what their makers say.
    Licence,
    /// Whether it names all it takes to make it again, as far as that can be seen without doing so.
    Reproducibility,
}

impl GateName {
    /// The name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Slices => "slices",
            Self::OutOfScope => "out of scope",
            Self::Latency => "latency",
            Self::Parts => "parts",
            Self::Memory => "memory",
            Self::Licence => "licence",
            Self::Reproducibility => "reproducibility",
        }
    }
}

/// What follows from what a gate found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateResult {
    /// Nothing speaks against answering.
    Pass,
    /// The evidence speaks against it.
    Refuse,
    /// There is too little evidence to say; it is let through, and said.
    NotEnough,
}

impl GateResult {
    /// The result for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Refuse => "refuse",
            Self::NotEnough => "not enough rows",
        }
    }
}

/// Somebody's decision to let a release answer although a gate refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// Why, in their words.
    pub reason: String,
    /// Who.
    pub actor: String,
    /// When.
    pub at: UnixMillis,
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
