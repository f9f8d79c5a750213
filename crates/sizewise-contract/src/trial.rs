//! How is a release tried before it is put in force, and what is known of it then?
//!
//! As a *shadow* it answers the requests of the release in force once more, behind their callers' backs, and is compared. As a
//! *canary* it answers a share of them in its place. What is counted says which release was in force, so that no comparison mixes two.

use crate::{
    hash::ContentHash,
    task::{Question, Task},
    units::UnixMillis,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Buckets of [`Times`] in which a time doubles.
const STEPS: f64 = 4.0;
/// Buckets of [`Times`]: up to a minute.
const BUCKETS: usize = 104;

/// How a release is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialMode {
    /// It answers behind the callers' backs and nobody sees it.
    Shadow,
    /// It answers a share of the requests.
    Canary,
}

impl TrialMode {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Canary => "canary",
        }
    }
}

/// A release that is tried beside the one in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Its place among all trials.
    pub number: i64,
    /// The task.
    pub task: String,
    /// The release.
    pub release: ContentHash,
    /// How it is tried.
    pub mode: TrialMode,
    /// Share of the requests that it answers.
    pub share: f64,
    /// Decides which subjects are in that share; trials of one release have the same, so that a larger share holds the smaller.
    #[serde(skip)]
    pub salt: i64,
    /// Since when.
    pub begun_at: UnixMillis,
    /// Who began it.
    pub begun_by: String,
    /// When it ended; none while it is under way.
    pub ended_at: Option<UnixMillis>,
    /// Why it ended.
    pub ended_because: Option<String>,
}

/// What came of a trial beside one release in force.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// By question.
    pub questions: BTreeMap<String, Compared>,
    /// Inputs that a shadow judged, or that either release of a canary answered.
    pub inputs: u64,
    /// Inputs that a shadow could not keep up with.
    pub dropped: u64,
    /// Inputs that a shadow failed at.
    pub failed: u64,
    /// How long the local tiers of the release in force took for an input.
    pub live_took: Times,
    /// How long those of the release on trial took.
    pub trial_took: Times,
}

/// What came of one question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// By the release in force.
    pub live: Arm,
    /// By the release on trial.
    pub trial: Arm,
    /// Inputs that both answered, of those that a shadow was asked about as well.
    pub both: u64,
    /// Those of them that both answered alike.
    pub agree: u64,
}

/// What one release made of a question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arm {
    /// Inputs that it was asked about.
    pub asked: u64,
    /// Those of them that its local tiers answered.
    pub answered: u64,
}

/// How long something took, counted in buckets.
///
/// **Bounds.** An eighth-power of two to either side, which is about 9 %.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Times(BTreeMap<u8, u64>);

/// An input that a shadow answered otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The decision of the release in force; its record has the input, as far as that is kept.
    pub decision: String,
    /// The question.
    pub question: String,
    /// When.
    pub at: UnixMillis,
    /// The release that was in force.
    pub live: ContentHash,
    /// What it answered.
    pub live_value: String,
    /// How sure it was.
    pub live_confidence: Option<f64>,
    /// What the release on trial would have answered.
    pub trial_value: String,
    /// How sure it was.
    pub trial_confidence: Option<f64>,
}

impl Comparison {
    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Self) {
        for (name, counted) in &other.questions {
            let own = self.questions.entry(name.clone()).or_default();
            own.live.add(counted.live);
            own.trial.add(counted.trial);
            own.both += counted.both;
            own.agree += counted.agree;
        }
        self.inputs += other.inputs;
        self.dropped += other.dropped;
        self.failed += other.failed;
        self.live_took.add(&other.live_took);
        self.trial_took.add(&other.trial_took);
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inputs + self.dropped + self.failed == 0
    }

    /// What was counted of a question, to be counted on.
    pub fn of(&mut self, question: &str) -> &mut Compared {
        self.questions.entry(question.to_owned()).or_default()
    }
}

impl Arm {
    /// Counts one input.
    pub fn count(&mut self, answered: bool) {
        self.asked += 1;
        self.answered += u64::from(answered);
    }

    fn add(&mut self, other: Self) {
        self.asked += other.asked;
        self.answered += other.answered;
    }
}

impl Times {
    /// Counts one time. `microseconds`
    pub fn count(&mut self, took_us: u64) {
        let bucket = (STEPS * (took_us.max(1) as f64).log2()).floor();
        let bucket = (bucket as usize).min(BUCKETS - 1) as u8;
        *self.0.entry(bucket).or_default() += 1;
    }

    /// The time within which a share of what was counted was done. `microseconds`
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let all: u64 = self.0.values().sum();
        let wanted = ((all as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.0.iter().find_map(|(bucket, count)| {
            seen += count;
            (seen >= wanted).then_some(*bucket)
        })?;
        Some(((f64::from(bucket) + 0.5) / STEPS).exp2().round() as u64)
    }

    fn add(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            *self.0.entry(*bucket).or_default() += count;
        }
    }
}

/// Why a release with one contract may not answer in place of one with another: the first thing that a caller would notice. None
/// where nobody would.
#[must_use]
pub fn noticed(live: &Task, trial: &Task) -> Option<String> {
    if live.input.fields != trial.input.fields {
        return Some(format!(
            "it reads {} and the release in force {}",
            trial.input.fields.join(", "),
            live.input.fields.join(", ")
        ));
    }
    let names = |task: &Task| {
        task.questions.iter().map(|question| question.name.clone()).collect::<Vec<_>>().join(", ")
    };
    if names(live) != names(trial) {
        return Some(format!("it asks {} and the release in force {}", names(trial), names(live)));
    }
    live.questions.iter().zip(&trial.questions).find_map(|(own, other)| {
        let (promised, would) = (live.promise_of(own), trial.promise_of(other));
        if !is_alike(own, other) {
            return Some(format!("`{}` has other answers than in the release in force", own.name));
        }
        let is_looser =
            would.max_served_error > promised.max_served_error || would.confidence < promised.confidence;
        is_looser.then(|| format!("it promises less of `{}` than the release in force", own.name))
    })
}

fn is_alike(own: &Question, other: &Question) -> bool {
    own.kind == other.kind
        && own.class_values() == other.class_values()
        && own.out_of_scope == other.out_of_scope
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    const TASK: &str = "schema = 1\nname = \"desk\"\n[[question]]\nname = \"team\"\ntype = \"choice\"\nchoices = [{ value = \"a\" }, { value = \"b\" }]\n[promise]\nmax_served_error = 0.02\n";

    #[test]
    fn a_time_is_told_to_a_tenth() {
        let mut times = Times::default();
        for took in [0, 90, 100, 110, 5_000] {
            times.count(took);
        }
        let middle = times.quantile(0.5).unwrap() as f64;
        assert!((90.0..=112.0).contains(&middle), "{middle}");
        let most = times.quantile(1.0).unwrap() as f64;
        assert!((4_500.0..=5_500.0).contains(&most), "{most}");
        assert_eq!(Times::default().quantile(0.5), None);
        times.count(u64::MAX);
        assert!(times.quantile(1.0).unwrap() > 50_000_000);
    }

    #[test]
    fn what_was_counted_in_two_places_adds_up() {
        let mut one = Comparison { inputs: 2, dropped: 1, ..Comparison::default() };
        one.of("team").live.count(true);
        one.of("team").both += 1;
        one.live_took.count(100);
        let mut two = Comparison { inputs: 1, ..Comparison::default() };
        two.of("team").live.count(false);
        two.of("urgent").trial.count(true);
        one.add(&two);
        assert_eq!((one.inputs, one.dropped, one.questions.len()), (3, 1, 2));
        assert_eq!(one.questions["team"].live, Arm { asked: 2, answered: 1 });
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Comparison>(&text).unwrap(), one);
        assert!(!one.is_empty() && Comparison::default().is_empty());
    }

    #[test]
    fn a_caller_notices_other_fields_questions_answers_and_promises() {
        let live = Task::parse(TASK).unwrap();
        let with = |from: &str, to: &str| noticed(&live, &Task::parse(&TASK.replace(from, to)).unwrap());
        assert_eq!(with("0.02", "0.02"), None);
        assert_eq!(with("0.02", "0.01"), None);
        for (from, to, why) in [
            ("0.02", "0.05", "promises less of `team`"),
            ("value = \"b\"", "value = \"c\"", "`team` has other answers"),
            ("name = \"team\"", "name = \"group\"", "asks group"),
            ("[promise]", "[input]\nfields = [\"subject\"]\n[promise]", "reads subject"),
        ] {
            let told = with(from, to).unwrap_or_default();
            assert!(told.contains(why), "{told}");
        }
    }
}
