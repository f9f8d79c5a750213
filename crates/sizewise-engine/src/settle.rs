//! What does a decision leave behind?
//!
//! The answer is given only once its record is written, and the questions it queues are on disk: whoever was told that a
//! person will look at something can rely on it. Some decisions are drawn to be put before the reference as well.

use crate::{
    admit::Admitted,
    error::Error,
    escalate::Answered,
    probe::{self, Drawer},
    protect,
    request::Request,
    served::Served,
};
use sizewise_contract::{
    Answer, Decision, Disposition, QueuedItem, Record, Reference, StoredInput, Waits, answer::EscalatedTo,
    task::Live, units::UnixMillis,
};
use sizewise_store::{Entry, Recorder, new_id};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// Names the decisions, writes what the task lets them leave behind, and hands them out.
pub(crate) async fn settle(
    recorder: Option<&Recorder>,
    served: &Served,
    (admitted, answered): (&Admitted, Vec<Answered>),
    (request, begun, draws): (&Request, Instant, &Draws<'_>),
) -> Result<Settled, Error> {
    let info = &served.info;
    let elapsed_us = begun.elapsed().as_micros() as u64 / answered.len().max(1) as u64;
    let mut decisions = Vec::with_capacity(answered.len());
    let mut bills = Vec::with_capacity(answered.len());
    for Answered { answers, tokens, cost, bill } in answered {
        bills.push(bill);
        decisions.push(Decision {
            id: new_id("d_")?,
            task: info.task.name.clone(),
            release: info.release,
            certified: answers.iter().all(|answer| answer.certified),
            answers,
            elapsed_us,
            cost_micro_usd: cost,
            input_tokens: tokens,
        });
    }
    let mut to_ask = Vec::new();
    if let Some(recorder) = recorder.filter(|_| !request.dry_run) {
        let at = now();
        let mut entries = Vec::with_capacity(decisions.len());
        for (position, (text, decision)) in admitted.texts.iter().zip(&decisions).enumerate() {
            let mut entry = entry(decision, protect::kept(text, admitted.keep), at, request);
            entry.bill = bills.get_mut(position).and_then(Option::take);
            if draws.put_down(served, (decision, &mut entry), (admitted.doubted, at), request) {
                to_ask.push(position);
            }
            entries.push(entry);
        }
        keep(recorder, entries).await?;
    }
    Ok(Settled { decisions, to_ask })
}

/// Decisions, and which of them the larger model is to be asked about as well, by their position.
pub(crate) struct Settled {
    pub(crate) decisions: Vec<Decision>,
    pub(crate) to_ask: Vec<usize>,
}

/// How probes are drawn.
pub(crate) struct Draws<'d> {
    pub(crate) drawer: &'d Drawer,
    pub(crate) rules: &'d Live,
    /// Whether the reference can be asked at all.
    pub(crate) possible: bool,
}

impl Draws<'_> {
    /// Draws, and puts what was drawn into a decision's entry. Says whether the larger model is yet to be asked.
    fn put_down(
        &self,
        served: &Served,
        (decision, entry): (&Decision, &mut Entry),
        (doubted, at): (bool, UnixMillis),
        request: &Request,
    ) -> bool {
        let covered = |answer| probe::covers(served, answer);
        if !self.possible || !decision.answers.iter().any(covered) {
            return false;
        }
        let Some(probability) = self.drawer.draw(&decision.task, self.rules, (doubted, at)) else {
            return false;
        };
        let reference = self.rules.reference;
        let drawn = (decision.id.as_str(), decision.answers.as_slice());
        entry.probes =
            probe::of_decision(served, drawn, (probability, at), (reference, request.group.as_deref()));
        let mut to_ask = false;
        for answer in decision.answers.iter().filter(|answer| probe::covers(served, answer)) {
            match (reference, probe::said(served, answer)) {
                // It was asked already, as nothing here was sure enough.
                (Reference::Remote, Some(truth)) => {
                    entry.told.push((decision.id.clone(), answer.question.clone(), truth));
                }
                (Reference::Remote, None) => to_ask = true,
                (Reference::Person, _) => {
                    let waiting = entry.queued.iter_mut().find(|item| item.question == answer.question);
                    if let Some(waiting) = waiting {
                        waiting.why = Waits::Probe;
                    } else if let Some(record) = &entry.record {
                        let input = record.input.clone();
                        entry
                            .queued
                            .push(QueuedItem { why: Waits::Probe, ..queued(decision, answer, (at, input)) });
                    }
                }
            }
        }
        to_ask
    }
}

fn entry(decision: &Decision, input: StoredInput, at: UnixMillis, request: &Request) -> Entry {
    let waits = |answer: &&Answer| {
        matches!(answer.disposition, Disposition::Escalated { to: EscalatedTo::Person, .. })
    };
    let queued =
        decision.answers.iter().filter(waits).map(|answer| queued(decision, answer, (at, input.clone())));
    Entry {
        queued: queued.collect(),
        subject: request.subject.clone(),
        record: Some(Record {
            id: decision.id.clone(),
            task: decision.task.clone(),
            release: decision.release,
            at,
            answers: decision.answers.clone(),
            elapsed_us: decision.elapsed_us,
            key_id: request.key_id.clone(),
            input,
        }),
        promised: decision.answers.iter().any(|answer| waits(&answer)),
        ..Entry::default()
    }
}

fn queued(decision: &Decision, answer: &Answer, (at, input): (UnixMillis, StoredInput)) -> QueuedItem {
    QueuedItem {
        decision: decision.id.clone(),
        task: decision.task.clone(),
        question: answer.question.clone(),
        at,
        input,
        suggestion: answer.value.clone(),
        confidence: answer.confidence.unwrap_or(0.0),
        why: Waits::Unsure,
    }
}

async fn keep(recorder: &Recorder, entries: Vec<Entry>) -> Result<(), Error> {
    let (told, kept) = oneshot::channel();
    if !recorder.keep(entries, |kept| _ = told.send(kept)) {
        return Err(Error::RecordsBehind);
    }
    match kept.await {
        Ok(true) => Ok(()),
        _ => Err(Error::NotRecorded),
    }
}

pub(crate) fn now() -> UnixMillis {
    UnixMillis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64)
}
