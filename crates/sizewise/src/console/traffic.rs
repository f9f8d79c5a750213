//! What became of a task's latest requests?
//!
//! The latest records alone are read: a view costs the same, however many are kept.

use super::{Console, Who, json};
use crate::{commands, error::Result, savings};
use serde::Serialize;
use serde_json::json;
use sizewise_contract::{Answer, Diagnose, Disposition, Record, StoredInput, Tier, units::UnixMillis};
use sizewise_measure::metrics::Share;
use std::collections::BTreeMap;

/// Records that are read.
const READ: usize = 500;
/// Decisions that a saving is computed of, the latest, and how many days they may be old.
const COMPARED: (u32, usize) = (30, 5_000);
/// Decisions that are listed one by one.
const LISTED: usize = 25;

#[derive(Serialize)]
struct Traffic {
    records: usize,
    /// At most so many are looked at.
    most: usize,
    since: Option<UnixMillis>,
    until: Option<UnixMillis>,
    median_us: Option<u64>,
    p95_us: Option<u64>,
    questions: Vec<Fate>,
    latest: Vec<Line>,
}

/// What became of one question.
#[derive(Default, Serialize)]
struct Fate {
    question: String,
    answered: Option<Share>,
    /// Answers by the tier that gave them.
    by_tier: Vec<(Tier, u64)>,
    /// Why the others went on.
    reasons: Vec<(&'static str, u64)>,
}

#[derive(Serialize)]
struct Line {
    id: String,
    at: UnixMillis,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    elapsed_us: u64,
    answers: Vec<Short>,
}

#[derive(Serialize)]
struct Short {
    question: String,
    value: String,
    confidence: Option<f64>,
    tier: Tier,
    answered: bool,
}

impl Console {
    /// What the latest decisions of a task would have cost without it.
    ///
    /// # Errors
    /// Fails when there is no such task for them, or the settings name a provider that is not described.
    pub(crate) fn savings(&self, name: &str, who: &Who) -> Result<Vec<u8>> {
        let task = self.task(name, who)?;
        json(&savings::savings((&self.project, &self.store), &task, None, COMPARED)?)
    }

    /// In what the latest inputs of a task differ from the rows that its release was judged on, or what is in the way of saying so.
    ///
    /// # Errors
    /// Fails when there is no such task for them.
    pub(crate) fn shift(&self, name: &str, who: &Who) -> Result<Vec<u8>> {
        let task = self.task(name, who)?;
        match commands::shift::measure((&self.project, &self.store), &task) {
            Ok(shift) => json(&json!({ "state": "ready", "shift": shift })),
            Err(error) => {
                json(&json!({ "state": "missing", "problem": error.to_string(), "hint": error.hint() }))
            }
        }
    }

    /// What became of the latest requests of a task.
    ///
    /// # Errors
    /// Fails when there is no such task for them.
    pub(crate) fn traffic(&self, name: &str, who: &Who) -> Result<Vec<u8>> {
        self.check(name, who)?;
        let records = self.store.latest_records(name, READ)?;
        let mut elapsed: Vec<u64> = records.iter().map(|record| record.elapsed_us).collect();
        elapsed.sort_unstable();
        let at =
            |share: usize| elapsed.get((elapsed.len() * share / 100).min(elapsed.len().saturating_sub(1)));
        json(&Traffic {
            records: records.len(),
            most: READ,
            since: records.last().map(|record| record.at),
            until: records.first().map(|record| record.at),
            median_us: at(50).copied(),
            p95_us: at(95).copied(),
            questions: fates(&records),
            latest: records.into_iter().take(LISTED).map(|record| line(record, who.reads_texts())).collect(),
        })
    }
}

fn fates(records: &[Record]) -> Vec<Fate> {
    let mut order: Vec<&str> = Vec::new();
    let mut by_question: BTreeMap<&str, Vec<&Answer>> = BTreeMap::new();
    for answer in records.iter().flat_map(|record| &record.answers) {
        let answers = by_question.entry(&answer.question).or_default();
        if answers.is_empty() {
            order.push(&answer.question);
        }
        answers.push(answer);
    }
    order.into_iter().filter_map(|name| by_question.get(name).map(|answers| fate(name, answers))).collect()
}

fn fate(question: &str, answers: &[&Answer]) -> Fate {
    let mut by_tier: BTreeMap<Tier, u64> = BTreeMap::new();
    let mut reasons: BTreeMap<&'static str, u64> = BTreeMap::new();
    for answer in answers {
        let reason = match answer.disposition {
            Disposition::Escalated { reason, .. } => Some(reason),
            Disposition::Answered => answer.handed_on,
        };
        if answer.answered() {
            *by_tier.entry(answer.tier).or_default() += 1;
        }
        if let Some(reason) = reason {
            *reasons.entry(reason.name()).or_default() += 1;
        }
    }
    let answered = answers.iter().filter(|answer| answer.answered()).count() as u64;
    Fate {
        question: question.to_owned(),
        answered: Some(Share::new(answered, answers.len() as u64)),
        by_tier: by_tier.into_iter().collect(),
        reasons: reasons.into_iter().collect(),
    }
}

fn line(record: Record, texts: bool) -> Line {
    let text = match record.input {
        StoredInput::Redacted(text) | StoredInput::Full(text) if texts => Some(text),
        _ => None,
    };
    let short = |answer: Answer| Short {
        answered: answer.answered(),
        question: answer.question,
        value: answer.value,
        confidence: answer.confidence,
        tier: answer.tier,
    };
    Line {
        id: record.id,
        at: record.at,
        text,
        elapsed_us: record.elapsed_us,
        answers: record.answers.into_iter().map(short).collect(),
    }
}
