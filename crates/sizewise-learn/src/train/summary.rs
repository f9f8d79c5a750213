//! What did each tier buy?

use serde::Serialize;
use sizewise_contract::{Question, Task, Tier};
use sizewise_measure::{
    cascade::{RowOutcome, curve},
    metrics::Share,
};

/// What training a task came to.
#[derive(Debug, Clone, Serialize)]
pub struct TrainSummary {
    /// Training rows.
    pub rows: usize,
    /// What texts that a teacher wrote were worth, where there are some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<WrittenSummary>,
    /// One entry per question.
    pub questions: Vec<QuestionSummary>,
    /// How long it took.
    pub seconds: f64,
}

/// What training a question came to.
#[derive(Debug, Clone, Serialize)]
pub struct QuestionSummary {
    /// The question.
    pub question: String,
    /// The error that its promise allows.
    pub max_served_error: f64,
    /// One entry per tier, cheapest first.
    pub tiers: Vec<TierSummary>,
    /// What it came to when the encoder taught the static tier, where that was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distilled: Option<Distilled>,
}

/// Whether a static tier that the encoder teaches too makes the better cascade.
#[derive(Debug, Clone, Serialize)]
pub struct Distilled {
    /// Texts that the encoder was asked about.
    pub texts: usize,
    /// Whether the tiers are those that were made with it.
    pub kept: bool,
    /// The tiers that were made the other way.
    pub otherwise: Vec<TierSummary>,
}

/// What texts that a teacher wrote were worth.
#[derive(Debug, Clone, Serialize)]
pub struct WrittenSummary {
    /// The texts.
    pub texts: usize,
    /// For how much of a row each counts; 0 where nothing is learnt from them.
    pub weight: f64,
    /// The ways that were tried, the one without them first.
    pub tried: Vec<WrittenWay>,
}

/// One way to count written texts, judged on rows that people sent.
#[derive(Debug, Clone, Serialize)]
pub struct WrittenWay {
    /// For how much of a row each counts.
    pub weight: f64,
    /// Share of those rows that are answered rightly, every row answered.
    pub right: Share,
    /// Share of them that the cascade would answer within the promise.
    pub answered_within_promise: f64,
}

impl QuestionSummary {
    /// What tells two ways to make the tiers apart: how much the cascade would answer within the promise, then how often its last
    /// tier is right.
    pub(crate) fn worth(&self) -> (f64, f64) {
        self.tiers.last().map_or((0.0, 0.0), |last| (last.coverage_at_promise, last.accuracy.value))
    }
}

/// What one tier bought, judged on rows it was not fitted to.
#[derive(Debug, Clone, Serialize)]
pub struct TierSummary {
    /// The tier.
    pub tier: Tier,
    /// Share of its answers to in-scope rows that are right, every row answered.
    pub accuracy: Share,
    /// Coverage of the cascade up to this tier at the promised error, as the cross-fitted answers show it.
    pub coverage_at_promise: f64,
    /// How long it took to fit.
    pub seconds: f64,
}

pub(crate) fn question(
    task: &Task,
    question: &Question,
    outcomes: &[RowOutcome],
    seconds: (f64, f64),
) -> QuestionSummary {
    let max_served_error = task.promise_of(question).max_served_error;
    let mut tiers: Vec<Tier> =
        outcomes.iter().flat_map(|row| row.tiers.iter().map(|outcome| outcome.tier)).collect();
    tiers.sort_unstable();
    tiers.dedup();
    let summary = |position: usize| {
        let upto = tiers.get(..=position).unwrap_or_default();
        let tier = upto.last().copied().unwrap_or(Tier::Static);
        let inside = outcomes.iter().filter(|row| !row.out_of_scope);
        let answers: Vec<bool> =
            inside.filter_map(|row| row.tiers.iter().find(|o| o.tier == tier)).map(|o| o.right).collect();
        let right = answers.iter().filter(|right| **right).count() as u64;
        let cut: Vec<RowOutcome> = outcomes.iter().map(|row| row.only(upto)).collect();
        TierSummary {
            tier,
            accuracy: Share::new(right, answers.len() as u64),
            coverage_at_promise: reach(&cut, max_served_error),
            seconds: if tier == Tier::Encoder { seconds.1 } else { seconds.0 },
        }
    };
    QuestionSummary {
        question: question.name.clone(),
        max_served_error,
        tiers: (0..tiers.len()).map(summary).collect(),
        distilled: None,
    }
}

/// The largest coverage at which the observed error is at most `max_served_error`. No guarantee: that is what
/// certifying is for.
pub(crate) fn reach(rows: &[RowOutcome], max_served_error: f64) -> f64 {
    let thresholds: Vec<f64> =
        (0..1_000).map(|step| 1.0 / (1.0 + (-(f64::from(step) / 100.0 - 2.0)).exp())).collect();
    let points = curve(rows, &thresholds);
    let answered =
        points.iter().filter(|point| point.risk() <= max_served_error).map(|point| point.answered).max();
    answered.unwrap_or(0) as f64 / rows.len().max(1) as f64
}
