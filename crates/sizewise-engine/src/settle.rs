//! What does a decision leave behind?
//!
//! The answer is given only once its record is written, and the questions it queues are on disk: whoever was told that a
//! person will look at something can rely on it.

use crate::{admit::Admitted, error::Error, escalate::Answered, protect, request::Request, served::Served};
use sizewise_contract::{
    Answer, Decision, Disposition, QueuedItem, Record, StoredInput, answer::EscalatedTo, units::UnixMillis,
};
use sizewise_store::{Entry, Recorder, new_id};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// Names the decisions, writes what the task lets them leave behind, and hands them out.
pub(crate) async fn settle(
    recorder: Option<&Recorder>,
    served: &Served,
    (admitted, answered): (Admitted, Vec<Answered>),
    (request, begun): (&Request, Instant),
) -> Result<Vec<Decision>, Error> {
    let info = &served.info;
    let elapsed_us = begun.elapsed().as_micros() as u64 / answered.len().max(1) as u64;
    let mut decisions = Vec::with_capacity(answered.len());
    for Answered { answers, tokens, cost } in answered {
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
    if let Some(recorder) = recorder.filter(|_| !request.dry_run) {
        let at = now();
        let entries = admitted
            .texts
            .iter()
            .zip(&decisions)
            .map(|(text, decision)| entry(decision, protect::kept(text, admitted.keep), at, request));
        keep(recorder, entries.collect()).await?;
    }
    Ok(decisions)
}

fn entry(decision: &Decision, input: StoredInput, at: UnixMillis, request: &Request) -> Entry {
    let waits = |answer: &&Answer| {
        matches!(answer.disposition, Disposition::Escalated { to: EscalatedTo::Person, .. })
    };
    let queued = decision.answers.iter().filter(waits).map(|answer| QueuedItem {
        decision: decision.id.clone(),
        task: decision.task.clone(),
        question: answer.question.clone(),
        at,
        input: input.clone(),
        suggestion: answer.value.clone(),
        confidence: answer.confidence.unwrap_or(0.0),
    });
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

fn now() -> UnixMillis {
    UnixMillis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64)
}
