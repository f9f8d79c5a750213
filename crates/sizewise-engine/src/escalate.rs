//! Who gets what no local tier may answer?
//!
//! First a larger model, where the task names a provider; then a person, or nobody.

mod remote;

pub use remote::{Escalation, prompt};

use crate::{
    Request,
    admit::Admitted,
    cascade::{Judged, Outcome},
    served::{Asked, Served},
};
use sizewise_contract::{
    Answer, Bill, Disposition, EscalationReason, Step, Task,
    answer::EscalatedTo,
    task::{EscalateTo, StoreInput},
    units::MicroUsd,
};
use std::{sync::Arc, time::Instant};

/// From which novelty an input that nobody is sure of counts as outside of what the task knows.
const OUTSIDE: f32 = 0.5;

/// The answers to one input.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) answers: Vec<Answer>,
    pub(crate) tokens: u64,
    /// What remote models took, or may have taken.
    pub(crate) cost: MicroUsd,
    /// The call that was made about it, with everything that was tried.
    pub(crate) bill: Option<Bill>,
}

/// Turns what the tiers thought into answers, and hands on what may not be answered.
pub(crate) async fn escalate(
    served: &Arc<Served>,
    admitted: &Admitted,
    outcome: Outcome,
    (larger, request): (Option<&Escalation>, &Request),
    begun: Instant,
) -> Vec<Answered> {
    let mut answered = locally(served, admitted, outcome);
    if let Some(larger) = larger {
        remote::ask((larger, request), served, admitted, &mut answered, begun).await;
    }
    answered
}

/// What a larger model says now to every question that is open: nothing is given again, and nothing remembered.
pub(crate) async fn ask_larger(
    (larger, request): (&Escalation, &Request),
    served: &Arc<Served>,
    admitted: &Admitted,
    answered: &mut [Answered],
) {
    let afresh = Escalation { recall: None, ..larger.clone() };
    remote::ask((&afresh, request), served, admitted, answered, Instant::now()).await;
}

/// Whether an answer was not given here because its input is of a new kind.
pub(crate) fn is_of_new_kind(answer: &Answer) -> bool {
    let reason = match answer.disposition {
        Disposition::Escalated { reason, .. } => Some(reason),
        Disposition::Answered => answer.handed_on,
    };
    reason == Some(EscalationReason::NewKind)
}

/// What the local tiers may answer, and who gets the rest.
fn locally(served: &Served, admitted: &Admitted, outcome: Outcome) -> Vec<Answered> {
    let to = target(&served.info.task, admitted.keep);
    let answer = |((question, limit), judged): ((&usize, &f64), Judged), is_new: bool| {
        let asked = served.asked.get(*question)?;
        let name = &served.info.task.questions.get(*question)?.name;
        answer(name, (asked, *limit, is_new), judged, to)
    };
    let inputs = outcome.judged.into_iter().zip(outcome.tokens).zip(outcome.new);
    inputs
        .map(|((judged, tokens), is_new)| Answered {
            answers: admitted
                .questions
                .iter()
                .zip(&admitted.limits)
                .zip(judged)
                .filter_map(|asked| answer(asked, is_new))
                .collect(),
            tokens,
            cost: MicroUsd(0),
            bill: None,
        })
        .collect()
}

/// A person can only answer what was kept for them.
fn target(task: &Task, keep: StoreInput) -> EscalatedTo {
    match (task.cascade.escalate_to, keep) {
        (EscalateTo::Person, StoreInput::Redacted | StoreInput::Full) => EscalatedTo::Person,
        _ => EscalatedTo::None,
    }
}

fn answer(
    name: &str,
    (asked, limit, is_new): (&Asked, f64, bool),
    mut judged: Judged,
    to: EscalatedTo,
) -> Option<Answer> {
    let sure = judged.is_sure(limit);
    let would_be_sure = judged.tiers.iter().any(|(judgement, _)| judgement.confidence >= asked.limit);
    let value = |class: usize| asked.values.get(class).cloned().unwrap_or_default();
    let path = judged
        .tiers
        .iter()
        .map(|(judgement, elapsed_us)| Step {
            tier: judgement.tier,
            value: value(judgement.class),
            confidence: Some(judgement.confidence),
            novelty: judgement.novelty,
            elapsed_us: *elapsed_us,
        })
        .collect();
    let (last, _) = judged.tiers.pop()?;
    let reason = match () {
        () if !asked.may_answer => Some(EscalationReason::NotCertified),
        () if is_new => Some(EscalationReason::NewKind),
        () if sure => None,
        () if would_be_sure => Some(EscalationReason::PromiseInDoubt),
        () if last.novelty >= OUTSIDE || last.confidence == 0.0 => Some(EscalationReason::OutOfScope),
        () => Some(EscalationReason::BelowThreshold),
    };
    Some(Answer {
        question: name.to_owned(),
        disposition: reason.map_or(Disposition::Answered, |reason| Disposition::Escalated { reason, to }),
        value: value(last.class),
        class: last.class,
        confidence: Some(last.confidence),
        threshold: asked.certified.map(|certified| if limit.is_finite() { limit } else { certified }),
        probabilities: last.probabilities,
        tier: last.tier,
        certified: asked.certified.is_some(),
        handed_on: None,
        remote: None,
        path,
    })
}
