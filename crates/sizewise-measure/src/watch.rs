//! Is the promise still kept?
//!
//! A [`Watch`] takes in, one by one, answers that were drawn at random and whose truth became known, and says how the promise stands:
//!
//! ```text
//!             detector ≥ alarm                      capital against "kept" ≥ 1/δ
//!    kept ───────────────────────► in doubt ────────────────────────────────────► broken
//!      ▲       threshold rises     │  ▲   └ again: it rises further                 │ nothing is answered
//!      └───────────────────────────┘  └─────────────────────────────────────────────┘
//!         capital against "more than ε is wrong" ≥ m/δ, for the loosest of m thresholds
//! ```
//!
//! **In doubt** is a precaution: its alarm ([`Detector`]) is quick, and wrong at most once in [`ALARM`] answers in the mean, even where the
//! error is exactly what was promised. **Broken** is a finding: over a promise's whole lifetime it is said wrongly with probability δ at most
//! ([`Lifetime`], Ville's inequality). **Kept** again is a finding, too: each threshold has a capital of its own against "more than ε is wrong from
//! here on", begun when the doubt arose, and a share of δ. (From strict to loose, as a certificate is made, would cost no shares, but strict
//! thresholds see few answers, and all others would wait for them.)
//! All of it is a fold over the answers: whoever reads them again in the same order comes to the same state.

mod betting;
mod interval;

pub use betting::{Against, Detector, Lifetime};
pub use interval::{Interval, Sequence};

use crate::cascade::RowOutcome;
use serde::{Deserialize, Serialize};
use sizewise_contract::{PromiseState, task::Promise};
use std::collections::VecDeque;

/// Mean number of answers until a false doubt, where the error is exactly what was promised.
pub const ALARM: f64 = 2_000.0;
/// Shares of the traffic that the thresholds of a doubt still answer, loosest first; after them nothing is.
const SHARES: [f64; 5] = [0.8, 0.6, 0.4, 0.2, 0.1];
/// Answers that are remembered to choose thresholds by.
const REMEMBERED: usize = 1_000;
/// Points of the path that is drawn.
const POINTS: usize = 200;

/// Watches one promise about one question.
#[derive(Debug, Clone)]
pub struct Watch {
    limit: f64,
    delta: f64,
    state: PromiseState,
    /// Thresholds, loosest first; the first is the certified one, the last one lets nothing through.
    ladder: Vec<f64>,
    rung: usize,
    detector: Detector,
    harm: Lifetime,
    /// One for each rung but the last, since the doubt arose.
    recovery: Vec<Lifetime>,
    recent: VecDeque<RowOutcome>,
    suspicion: Suspicion,
    served: Sequence,
    told: u64,
    path: Path,
}

/// What a watch found out.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The state before.
    pub from: PromiseState,
    /// The state from now on.
    pub to: PromiseState,
    /// From which confidence answers are given from now on; none where nothing is.
    pub threshold: Option<f64>,
    /// Why, in one sentence.
    pub reason: String,
}

/// One point of the path of the evidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PathPoint {
    /// Answers told until then.
    pub n: u64,
    /// When the last of them was told, in milliseconds since 1970.
    pub at: i64,
    /// The share of wrong ones among those that would be served, since the state last changed.
    #[serde(flatten)]
    pub interval: Interval,
}

impl Watch {
    /// Begins to watch a promise that was certified at a threshold.
    #[must_use]
    pub fn new(promise: &Promise, threshold: f64) -> Self {
        Self::with_risk(promise.max_served_error, 1.0 - promise.confidence, threshold)
    }

    /// The same for one of many parts of the traffic, the `nth` from 1: the risk is shared out among them.
    #[must_use]
    pub fn of_group(promise: &Promise, threshold: f64, nth: u32) -> Self {
        let nth = f64::from(nth.max(1));
        Self::with_risk(promise.max_served_error, (1.0 - promise.confidence) / (nth * (nth + 1.0)), threshold)
    }

    fn with_risk(limit: f64, delta: f64, threshold: f64) -> Self {
        let limit = limit.clamp(1e-6, 0.999);
        let delta = delta.clamp(1e-9, 0.5);
        Self {
            limit,
            delta,
            state: PromiseState::Kept,
            ladder: vec![threshold],
            rung: 0,
            detector: Detector::new(limit),
            harm: Lifetime::new(Against::Kept, limit),
            recovery: Vec::new(),
            recent: VecDeque::new(),
            suspicion: Suspicion::default(),
            served: Sequence::new(delta),
            told: 0,
            path: Path::default(),
        }
    }

    /// How the promise stands.
    #[must_use]
    pub fn state(&self) -> PromiseState {
        self.state
    }

    /// From which confidence answers are given; none where nothing is.
    #[must_use]
    pub fn threshold(&self) -> Option<f64> {
        self.ladder.get(self.rung).copied().filter(|threshold| threshold.is_finite())
    }

    /// The threshold whose answers the interval is about: the one in force, and where nothing is answered the certified one.
    fn shown(&self) -> Option<f64> {
        self.threshold().or_else(|| self.ladder.first().copied())
    }

    /// Answers taken in that the certificate covers.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.told
    }

    /// The share of wrong answers among those that are served, since the state last changed; where nothing is answered, among those that
    /// the certificate would let through.
    #[must_use]
    pub fn served_error(&self) -> Interval {
        self.served.interval()
    }

    /// How the interval came to be, oldest first.
    #[must_use]
    pub fn path(&self) -> &[PathPoint] {
        &self.path.points
    }

    /// Takes in one answer that was drawn, by its weight, and when its truth was told (milliseconds since 1970).
    ///
    /// **Bounds.** Time is some hundred multiplications and logarithms.
    ///
    /// **Determinism.** Depends on the answers and their order alone.
    pub fn tell(&mut self, outcome: &RowOutcome, at: i64) -> Option<Change> {
        // What the certificate does not cover is no part of its promise.
        self.ladder.first().and_then(|certified| outcome.answer_at(*certified))?;
        let weight = outcome.weight.clamp(0.0, 1.0);
        self.told += 1;
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(outcome.clone());
        self.suspicion.age();
        if let Some(answer) = self.threshold().and_then(|threshold| outcome.answer_at(threshold)) {
            let told = (!answer.right, weight);
            self.detector.tell(told);
            self.harm.tell(told);
            self.suspicion.tell(told, self.limit);
        }
        if let Some(answer) = self.shown().and_then(|threshold| outcome.answer_at(threshold)) {
            self.served.tell((!answer.right, weight));
        }
        for (recovery, threshold) in self.recovery.iter_mut().zip(&self.ladder) {
            if let Some(answer) = outcome.answer_at(*threshold) {
                recovery.tell((!answer.right, weight));
            }
        }
        self.path.note(PathPoint { n: self.told, at, interval: self.served.interval() });
        let from = self.state;
        let reason = self.judge()?;
        Some(Change { from, to: self.state, threshold: self.threshold(), reason })
    }

    fn judge(&mut self) -> Option<String> {
        let limit = self.limit * 100.0;
        let enough = 1.0 / self.delta;
        if self.harm.capital() >= enough {
            self.doubt_begins();
            self.state = PromiseState::Broken;
            self.harm = Lifetime::new(Against::Kept, self.limit);
            self.moves_to(self.ladder.len() - 1);
            return Some(format!(
                "more than {limit:.1} % of the answers are wrong; nothing is answered until evidence shows otherwise"
            ));
        }
        if self.detector.statistic() >= ALARM {
            self.doubt_begins();
            self.state = PromiseState::InDoubt;
            self.moves_to(self.safer_rung());
            return Some(format!("of the latest answers more than {limit:.1} % seem to be wrong"));
        }
        let shared_out = enough * self.recovery.len() as f64;
        let proven = |rung: &usize| self.recovery.get(*rung).is_some_and(|one| one.capital() >= shared_out);
        let reached = (0..self.rung).find(proven)?;
        self.moves_to(reached);
        self.state = if reached == 0 { PromiseState::Kept } else { PromiseState::InDoubt };
        if reached == 0 {
            self.ladder.truncate(1);
            self.recovery.clear();
        }
        Some(format!(
            "from this confidence on at most {limit:.1} % are wrong, as answers since the doubt arose show"
        ))
    }

    /// Chooses the thresholds of a doubt, unless there is one already.
    fn doubt_begins(&mut self) {
        if self.state != PromiseState::Kept {
            return;
        }
        let surest = |row: &RowOutcome| row.tiers.iter().map(|tier| tier.confidence).fold(0.0, f64::max);
        let mut sure: Vec<f64> = self.recent.iter().map(surest).collect();
        sure.sort_by(f64::total_cmp);
        for share in SHARES {
            let threshold =
                sure.get((sure.len() as f64 * (1.0 - share)) as usize).copied().unwrap_or(f64::INFINITY);
            if self.ladder.last().is_some_and(|last| threshold > *last) {
                self.ladder.push(threshold);
            }
        }
        self.recovery = self.ladder.iter().map(|_| Lifetime::new(Against::Exceeded, self.limit)).collect();
        self.ladder.push(f64::INFINITY);
    }

    /// The loosest threshold above the present one at which the answers since things seem to have gone wrong were good enough.
    fn safer_rung(&self) -> usize {
        let since = self.recent.len().saturating_sub(self.suspicion.answers_since());
        let good = |threshold: f64| {
            let (mut wrong, mut weights) = (0.5 * self.limit.min(0.1) / 0.1, 1.0);
            for row in self.recent.range(since..) {
                if let Some(answer) = row.answer_at(threshold) {
                    weights += row.weight;
                    wrong += row.weight * f64::from(u8::from(!answer.right));
                }
            }
            wrong / weights <= self.limit
        };
        let last = self.ladder.len() - 1;
        (self.rung + 1..last).find(|rung| self.ladder.get(*rung).is_some_and(|t| good(*t))).unwrap_or(last)
    }

    fn moves_to(&mut self, rung: usize) {
        self.rung = rung;
        self.detector = Detector::new(self.limit);
        self.suspicion = Suspicion::default();
        self.served = Sequence::new(self.delta);
    }
}

/// Since when things seem to go wrong: a cumulated sum for twice the promised error (Page 1954).
#[derive(Debug, Clone, Default)]
struct Suspicion {
    sum: f64,
    since: usize,
}

impl Suspicion {
    fn age(&mut self) {
        self.since += 1;
    }

    fn tell(&mut self, (wrong, weight): (bool, f64), limit: f64) {
        let rate = (2.0 * limit).min((1.0 + limit) / 2.0);
        let ratio = if wrong { (rate / limit).ln() } else { ((1.0 - rate) / (1.0 - limit)).ln() };
        if self.sum <= 0.0 {
            *self = Self { sum: 0.0, since: 1 };
        }
        self.sum += weight * ratio;
    }

    fn answers_since(&self) -> usize {
        self.since
    }
}

/// Points at even distances, fewer where there would be too many.
#[derive(Debug, Clone, Default)]
struct Path {
    points: Vec<PathPoint>,
    step: u64,
}

impl Path {
    fn note(&mut self, point: PathPoint) {
        self.step = self.step.max(1);
        if !point.n.is_multiple_of(self.step) {
            return;
        }
        self.points.push(point);
        if self.points.len() > POINTS {
            self.step *= 2;
            let step = self.step;
            self.points.retain(|point| point.n.is_multiple_of(step));
        }
    }
}

#[cfg(test)]
mod tests;
