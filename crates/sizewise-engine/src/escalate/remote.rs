//! What does a larger model say to what no local tier may answer?
//!
//! One call for each input, about all of its open questions. What may not leave is not sent; what may leave redacted is sent
//! redacted; every call is paid from the task's budget. Whatever goes wrong, the question goes on to whom it would have gone without.

use super::Answered;
use crate::{
    Purse, Purses, Request,
    admit::Admitted,
    protect,
    recall::{Recall, Remembered},
    served::Served,
};
use sizewise_contract::{
    Answer, ClassLabel, ContentHash, Disposition, EscalationReason, Question, Step, Task, Tier,
    answer::{RemoteProblem, RemoteUse},
    task::MayLeave,
    units::MicroUsd,
};
use sizewise_models::remote::{
    Delivered, Money, Provider, Question as Asked, Trace, Undelivered, deliver, questions,
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Inputs of one request about which a larger model is asked at the same time.
const TOGETHER: usize = 16;

/// Who is asked for a task what no local tier may answer, and on which terms.
#[derive(Debug, Clone)]
pub struct Escalation {
    /// The providers, in the order in which they are asked.
    pub targets: Vec<Arc<Provider>>,
    /// Whether inputs may be sent to a provider that is not in the house.
    pub may_leave: MayLeave,
    /// Answers that are remembered, where the task allows it.
    pub recall: Option<Arc<Recall>>,
    /// What calls are paid from.
    pub money: Arc<dyn Money>,
    /// Until when an answer must have come, from when the request began.
    pub patience: Duration,
}

type Labels = BTreeMap<String, String>;

/// Asks about every input that has open questions, all at the same time.
pub(super) async fn ask(
    (escalation, request): (&Escalation, &Request),
    served: &Served,
    admitted: &Admitted,
    answered: &mut [Answered],
    begun: Instant,
) {
    let open = |answer: &Answer| !answer.answered();
    if !answered.iter().any(|input| input.answers.iter().any(open)) {
        return;
    }
    let may_leave = match escalation.may_leave {
        MayLeave::Never => false,
        // What cannot be searched is not sent.
        MayLeave::Redacted => protect::can_redact(),
        MayLeave::Yes => true,
    };
    let allowed: Vec<Arc<Provider>> =
        escalation.targets.iter().filter(|target| target.is_on_premises() || may_leave).cloned().collect();
    if allowed.is_empty() {
        for answer in answered.iter_mut().flat_map(|input| &mut input.answers).filter(|answer| open(answer)) {
            let first = escalation.targets.first();
            answer.remote = first.map(|target| RemoteUse {
                provider: target.name().to_owned(),
                model: target.model().to_owned(),
                attempts: 0,
                problem: Some(RemoteProblem::MayNotLeave),
            });
        }
        return;
    }
    // One text for all of them: what the strictest rule lets any of them have.
    let stays = allowed.iter().all(|target| target.is_on_premises());
    let as_it_is = stays || escalation.may_leave == MayLeave::Yes;
    let task_pays = Purse::of(Arc::clone(&escalation.money));
    let money = Purses::together(std::iter::once(task_pays).chain(request.purses.iter().cloned()).collect());
    let deadline = begun + escalation.patience;
    let mut open_inputs = answered
        .iter()
        .zip(&admitted.texts)
        .enumerate()
        .map(|(position, (input, text))| {
            let names = input.answers.iter().filter(|answer| open(answer)).map(|a| a.question.clone());
            (position, names.collect::<Vec<String>>(), text)
        })
        .filter(|(_, names, _)| !names.is_empty())
        .collect::<Vec<_>>()
        .into_iter();
    // Dropped with the request: then every call under way is cut off.
    let mut calls = JoinSet::new();
    loop {
        // Not all at once: other requests want to be served as well.
        while calls.len() < TOGETHER
            && let Some((position, names, text)) = open_inputs.next()
        {
            let text = if as_it_is { text.clone() } else { protect::redact(text) };
            let task = Arc::clone(&served.info.task);
            let trace = request.trace.clone();
            let (targets, money, recall) = (allowed.clone(), Arc::clone(&money), escalation.recall.clone());
            // What is remembered is the text as it came: two that are redacted alike are not the same.
            let key = recall.as_ref().map(|_| {
                Recall::key(
                    request.key_id.as_deref(),
                    served.info.release,
                    &names,
                    admitted.texts.get(position).map_or("", String::as_str),
                )
            });
            calls.spawn(async move {
                let asked = Instant::now();
                let ask = one(&task, &names, (&text, trace), (&targets, &money, deadline));
                let delivered = match recall.zip(key) {
                    Some((recall, key)) => recalled(&recall, key, (ask, deadline)).await,
                    None => ask.await,
                };
                (position, delivered, asked.elapsed().as_micros() as u64)
            });
        }
        let Some(ended) = calls.join_next().await else { break };
        let Ok((position, delivered, elapsed_us)) = ended else { continue };
        if let Some(input) = answered.get_mut(position) {
            input.cost = input.cost.saturating_add(delivered.cost);
            for answer in input.answers.iter_mut().filter(|answer| open(answer)) {
                take(answer, &served.info.task, &delivered, elapsed_us);
            }
        }
    }
}

/// What was said before, or what is said now; callers who ask the same wait for one answer.
async fn recalled(
    recall: &Recall,
    key: ContentHash,
    (ask, deadline): (impl Future<Output = Delivered<Labels>>, Instant),
) -> Delivered<Labels> {
    let turn = tokio::time::timeout_at(deadline.into(), recall.turn(key)).await;
    if let Some(Remembered { labels, provider, model }) = recall.get(&key) {
        return Delivered { answer: Ok(labels), provider, model, attempts: 0, cost: MicroUsd(0) };
    }
    let delivered = ask.await;
    if let Ok(labels) = &delivered.answer {
        let (provider, model) = (delivered.provider.clone(), delivered.model.clone());
        recall.put(key, Remembered { labels: labels.clone(), provider, model });
    }
    drop(turn);
    delivered
}

async fn one(
    task: &Task,
    names: &[String],
    (text, trace): (&str, Option<Trace>),
    (targets, money, deadline): (&[Arc<Provider>], &Arc<dyn Money>, Instant),
) -> Delivered<Labels> {
    let asked: Vec<&Question> =
        names.iter().filter_map(|name| task.question(name)).map(|(_, question)| question).collect();
    let question = Asked {
        messages: questions::messages(&asked, text),
        schema: questions::schema(&asked),
        typed: questions::typed(&asked),
        most_tokens: questions::longest_answer(&asked),
        trace,
    };
    let accept = |content: &str| questions::read(&asked, content);
    deliver(targets, &question, &accept, (money, deadline)).await
}

/// Puts what came back into an answer.
fn take(answer: &mut Answer, task: &Task, delivered: &Delivered<Labels>, elapsed_us: u64) {
    let Disposition::Escalated { reason, to } = answer.disposition else { return };
    let said = match &delivered.answer {
        Ok(labels) => {
            let question = task.question(&answer.question).map(|(_, question)| question);
            let label = labels.get(&answer.question).zip(question);
            match label.and_then(|(label, question)| question.class_label(label)) {
                Some(ClassLabel::Class(class)) => Ok(usize::from(class)),
                Some(ClassLabel::OutOfScope) => Err(RemoteProblem::OutOfScope),
                None => Err(RemoteProblem::OffContract),
            }
        }
        Err(why) => Err(match why.kind {
            Undelivered::Budget => RemoteProblem::BudgetSpent,
            Undelivered::Unavailable => RemoteProblem::Unavailable,
            Undelivered::Refused => RemoteProblem::Refused,
            Undelivered::OffContract => RemoteProblem::OffContract,
        }),
    };
    answer.remote = Some(RemoteUse {
        provider: delivered.provider.clone(),
        model: delivered.model.clone(),
        attempts: delivered.attempts,
        problem: said.err(),
    });
    match said {
        Ok(class) => {
            let values = task.question(&answer.question).map_or_else(Vec::new, |(_, q)| q.class_values());
            answer.value = values.get(class).copied().unwrap_or_default().to_owned();
            answer.class = class;
            answer.confidence = None;
            answer.probabilities = (0..values.len()).map(|at| f32::from(u8::from(at == class))).collect();
            answer.tier = Tier::Remote;
            answer.certified = false;
            answer.handed_on = Some(reason);
            answer.disposition = Disposition::Answered;
            answer.path.push(Step {
                tier: Tier::Remote,
                value: answer.value.clone(),
                confidence: None,
                novelty: 0.0,
                elapsed_us,
            });
        }
        Err(RemoteProblem::OutOfScope) => {
            answer.disposition = Disposition::Escalated { reason: EscalationReason::OutOfScope, to };
        }
        Err(_) => {}
    }
}
