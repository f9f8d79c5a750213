//! How is feedback given, and how do promises stand?
//!
//! `POST /v1/tasks/{task}/feedback` with `{"decision": …, "question": …, "label": …}`; `GET /v1/tasks/{task}/evidence`.

use super::{
    error::WireError,
    json::{self, Text},
};
use serde::{Deserialize, Serialize};
use sizewise_contract::{
    NewKind, PromiseChange, PromiseState, Reference, Task, TrialMode,
    task::{Live, Promise},
};
use sizewise_engine::{Feedback, LookCounts, MixStanding, Standing, TaskInfo, TrialStanding};
use sizewise_measure::watch::{Interval, PathPoint};
use sizewise_store::{Fed, RenewalInfo};

/// Times of learning again that are told.
pub const RENEWALS: usize = 10;

/// The body of feedback.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request<'a> {
    #[serde(borrow)]
    decision: Text<'a>,
    #[serde(borrow, default)]
    question: Option<Text<'a>>,
    #[serde(borrow)]
    label: Text<'a>,
}

impl<'a> Request<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// Names the field that is not of the protocol's shape.
    pub fn read(body: &'a [u8]) -> Result<Self, WireError> {
        json::read(body)
    }

    /// What the engine is told.
    #[must_use]
    pub fn feedback(&self, task: &Task, key_id: Option<&str>) -> Feedback {
        Feedback {
            task: task.name.clone(),
            decision: self.decision.to_string(),
            question: self.question.as_ref().map(|question| question.0.to_string()),
            label: self.label.to_string(),
            key_id: key_id.map(str::to_owned),
        }
    }
}

/// Writes what became of feedback.
#[must_use]
pub fn fed(feedback: &Feedback, fed: Fed) -> Vec<u8> {
    #[derive(Serialize)]
    struct Told<'a> {
        decision: &'a str,
        label: &'a str,
        became: Fed,
    }
    let told = Told { decision: &feedback.decision, label: &feedback.label, became: fed };
    serde_json::to_vec(&told).unwrap_or_default()
}

/// What is known of a task's promises.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// How promises are watched.
    pub rules: Live,
    /// How they stand.
    pub standings: Vec<Standing>,
    /// What changed, oldest first.
    pub changes: Vec<PromiseChange>,
    /// The release that is tried beside it.
    pub trial: Option<TrialStanding>,
    /// New kinds of input, the latest first.
    pub kinds: Vec<NewKind>,
    /// What came of looking for them; none where nobody does.
    pub looks: Option<LookCounts>,
    /// How the mixes of classes stand.
    pub mixes: Vec<MixStanding>,
    /// The latest times that the task learnt again, the latest first.
    pub renewals: Vec<RenewalInfo>,
}

/// Writes how the promises of a task stand.
#[must_use]
pub fn evidence(info: &TaskInfo, evidence: &Evidence) -> Vec<u8> {
    serde_json::to_vec(&report(info, evidence)).unwrap_or_default()
}

/// How the promises of a task stand.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    /// The task.
    pub task: &'a str,
    /// The release in force.
    pub release: String,
    /// Share of the answers that are probes.
    pub probe_share: f64,
    /// Who is asked about them.
    pub reference: Reference,
    /// One entry per question.
    pub questions: Vec<QuestionReport<'a>>,
    /// New kinds of input, the latest first.
    pub new_kinds: &'a [NewKind],
    /// What a running server has looked at for them; none where nobody looks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looks: Option<Looks>,
    /// The latest times that the task learnt again, the latest first.
    pub renewals: &'a [RenewalInfo],
    /// The release that is tried beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial: Option<TrialReport<'a>>,
}

/// What a running server has looked at.
#[derive(Debug, Serialize)]
pub struct Looks {
    /// Requests since the release was loaded.
    pub looked: u64,
    /// Requests that were to be looked at and were not, as too much waited.
    pub dropped: u64,
}

/// A release on trial, and how the promises of a canary stand.
#[derive(Debug, Serialize)]
pub struct TrialReport<'a> {
    /// The release.
    pub release: String,
    /// How it is tried.
    pub mode: TrialMode,
    /// Share of the requests.
    pub share: f64,
    /// Since when, in milliseconds since 1970.
    pub begun_at: i64,
    /// One entry per question with a certificate; none of a shadow.
    pub questions: Vec<QuestionReport<'a>>,
}

/// How one promise stands.
#[derive(Debug, Serialize)]
pub struct QuestionReport<'a> {
    /// The question.
    pub question: &'a str,
    /// What was promised.
    pub promise: Promise,
    /// `kept`, `in_doubt`, `broken`, or `unwatched` where there is no certificate.
    pub state: &'static str,
    /// Since when, in milliseconds since 1970; none where it never changed.
    pub since: Option<i64>,
    /// Who is asked about probes.
    pub reference: Reference,
    /// From which confidence answers are given.
    pub threshold: Thresholds,
    /// How many probes there are.
    pub probes: Probes,
    /// The share of wrong answers among those that would be served, since the state last changed.
    pub served_error: Bounds,
    /// How that came to be.
    pub path: &'a [PathPoint],
    /// What changed, oldest first, under earlier releases as well.
    pub changes: Vec<Change<'a>>,
    /// Parts of the traffic that callers name.
    pub groups: Vec<Group<'a>>,
    /// The mix of classes; none where nobody can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mix: Option<Mix<'a>>,
}

/// How the mix of classes stands.
#[derive(Debug, Serialize)]
pub struct Mix<'a> {
    /// Latest requests that it was estimated from.
    pub seen: u64,
    /// Share of the requests that would have to be of another class for the mix to be the certified one; none where too few were seen.
    pub distance: Option<f64>,
    /// The largest such share that estimates have without any change.
    pub usual: Option<f64>,
    /// Whether it has changed.
    pub changed: bool,
    /// Classes that grew most.
    pub grown: Vec<Grown<'a>>,
    /// Gold rows that the certificate rests on; none where too few requests were seen.
    pub gold_rows: Option<u64>,
    /// From which confidence gold rows prove the promise under the mix of now, where it has changed; none is insufficient evidence.
    pub threshold: Option<f64>,
    /// What the gold rows, counted by what their classes have become, say of that threshold; none where they prove nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    /// Classes whose labels are worth most now, where it has changed.
    pub label_next: &'a [String],
}

/// What is to be expected of a threshold under the mix of now.
#[derive(Debug, Serialize)]
pub struct Expected {
    /// Share of the requests that is answered.
    pub coverage: f64,
    /// Share of these answers that is wrong.
    pub served_error: f64,
    /// How many rows that count alike the gold rows are worth.
    pub effective_rows: f64,
}

/// A class that grew.
#[derive(Debug, Serialize)]
pub struct Grown<'a> {
    /// The class.
    pub class: &'a str,
    /// Its share when it was certified.
    pub certified: f64,
    /// Its share now.
    pub now: f64,
    /// The lower end of the interval of 95 % that counts leave open; none where the mix has not changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// Its upper end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// Gold rows of it.
    pub gold_rows: u64,
}

fn mix(standing: &MixStanding) -> Mix<'_> {
    let found = standing.found.as_ref();
    let remade = found.and_then(|found| found.remade.as_ref());
    let grown = found.iter().flat_map(|found| &found.grown);
    Mix {
        seen: standing.seen,
        distance: found.map(|found| found.shift.distance),
        usual: found.map(|found| found.shift.usual),
        changed: found.is_some_and(|found| found.shift.changed),
        grown: grown
            .map(|one| Grown {
                class: &one.class,
                certified: one.certified,
                now: one.now,
                low: one.range.map(|(low, _)| low),
                high: one.range.map(|(_, high)| high),
                gold_rows: one.gold,
            })
            .collect(),
        gold_rows: found.map(|found| found.gold),
        threshold: remade.and_then(|remade| remade.threshold),
        expected: remade.filter(|remade| remade.threshold.is_some()).map(|remade| Expected {
            coverage: remade.coverage,
            served_error: remade.served_error,
            effective_rows: remade.effective_rows,
        }),
        label_next: found.map_or(&[], |found| &found.label_next),
    }
}

/// From which confidence answers are given.
#[derive(Debug, Serialize)]
pub struct Thresholds {
    /// What was certified.
    pub certified: Option<f64>,
    /// What holds now; none where nothing is answered.
    pub now: Option<f64>,
}

/// How many probes there are.
#[derive(Debug, Serialize)]
pub struct Probes {
    /// Drawn.
    pub drawn: u64,
    /// With a truth.
    pub labelled: u64,
    /// Without one yet.
    pub waiting: u64,
}

/// An interval and how sure it is.
#[derive(Debug, Serialize)]
pub struct Bounds {
    /// The interval.
    #[serde(flatten)]
    pub interval: Interval,
    /// With which probability it holds, at every moment.
    pub confidence: f64,
}

/// One change of a state.
#[derive(Debug, Serialize)]
pub struct Change<'a> {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// The state before.
    pub from: PromiseState,
    /// The state after.
    pub to: PromiseState,
    /// The threshold from then on; none where nothing is answered.
    pub threshold: Option<f64>,
    /// Why.
    pub reason: &'a str,
    /// The part of the traffic; none for all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<&'a str>,
    /// The release whose promise it was.
    pub release: String,
}

/// A part of the traffic.
#[derive(Debug, Serialize)]
pub struct Group<'a> {
    /// What callers call it.
    pub group: &'a str,
    /// How the promise stands there.
    pub state: PromiseState,
    /// The threshold there; none where nothing is answered.
    pub threshold: Option<f64>,
    /// Probes with a truth.
    pub labelled: u64,
    /// The share of wrong answers there.
    #[serde(flatten)]
    pub interval: Interval,
}

/// Puts together how the promises of a task stand.
#[must_use]
pub fn report<'a>(info: &'a TaskInfo, evidence: &'a Evidence) -> Report<'a> {
    let reference = evidence.rules.reference;
    let questions = info.task.questions.iter().map(|question| {
        let standing = evidence.standings.iter().find(|standing| standing.question == question.name);
        let promise = info.task.promise_of(question);
        match standing {
            Some(standing) => watched(standing, evidence, (info, &evidence.mixes)),
            None => QuestionReport {
                question: &question.name,
                promise,
                state: "unwatched",
                since: None,
                reference,
                threshold: Thresholds { certified: None, now: None },
                probes: Probes { drawn: 0, labelled: 0, waiting: 0 },
                served_error: Bounds {
                    interval: Interval { estimate: None, low: 0.0, high: 1.0 },
                    confidence: promise.confidence,
                },
                path: &[],
                changes: Vec::new(),
                groups: Vec::new(),
                mix: None,
            },
        }
    });
    Report {
        task: &info.task.name,
        release: info.release.to_string(),
        probe_share: evidence.rules.probe_share,
        reference,
        questions: questions.collect(),
        trial: evidence.trial.as_ref().map(|tried| TrialReport {
            release: tried.trial.release.to_string(),
            mode: tried.trial.mode,
            share: tried.trial.share,
            begun_at: tried.trial.begun_at.0,
            questions: tried.standings.iter().map(|one| watched(one, evidence, (&tried.info, &[]))).collect(),
        }),
        new_kinds: &evidence.kinds,
        renewals: &evidence.renewals,
        looks: evidence.looks.map(|counts| Looks { looked: counts.looked, dropped: counts.dropped }),
    }
}

/// A promise that is watched. Mixes are those of the release in force: a canary is not held to them.
fn watched<'a>(
    standing: &'a Standing,
    evidence: &'a Evidence,
    (info, mixes): (&TaskInfo, &'a [MixStanding]),
) -> QuestionReport<'a> {
    let of_question = |change: &&PromiseChange| change.question == standing.question;
    let changes = evidence.changes.iter().filter(of_question).map(|change| Change {
        at: change.at.0,
        from: change.from,
        to: change.to,
        threshold: change.threshold,
        reason: &change.reason,
        group: change.group.as_deref(),
        release: change.release.to_string(),
    });
    let changes: Vec<_> = changes.collect();
    let own = mixes.iter().find(|mix| mix.question == standing.question);
    let stricter =
        own.and_then(|mix| mix.found.as_ref()).and_then(|found| found.stricter_than(standing.certified));
    let release = info.release.to_string();
    let since = changes.iter().rev().find(|change| change.group.is_none() && change.release == release);
    let groups = standing.groups.iter().map(|group| Group {
        group: &group.group,
        state: group.state,
        threshold: group.threshold,
        labelled: group.told,
        interval: group.served_error,
    });
    QuestionReport {
        question: &standing.question,
        promise: standing.promise,
        state: standing.state.name(),
        since: since.map(|change| change.at),
        reference: evidence.rules.reference,
        threshold: Thresholds {
            certified: Some(standing.certified),
            now: standing.threshold.map(|now| stricter.map_or(now, |stricter| now.max(stricter))),
        },
        probes: Probes {
            drawn: standing.probes.drawn,
            labelled: standing.probes.told,
            waiting: standing.probes.drawn.saturating_sub(standing.probes.told),
        },
        served_error: Bounds { interval: standing.served_error, confidence: standing.promise.confidence },
        path: &standing.path,
        groups: groups.collect(),
        mix: own.map(mix),
        changes,
    }
}
