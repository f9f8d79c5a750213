//! What does a larger model say to what no local tier may answer?
//!
//! One call for each input, about all of its open questions. What may not leave is not sent; what may leave redacted is sent
//! redacted; every call is paid from the task's budget. Whatever goes wrong, the question goes on to whom it would have gone without.

use super::{Answered, is_of_new_kind};
use crate::{
    Purse, Purses, Request,
    admit::Admitted,
    protect,
    recall::{Recall, Remembered, Rule},
    served::Served,
};
use sizewise_contract::{
    Answer, Bill, ClassLabel, ContentHash, Disposition, EscalationReason, Question, Step, Task, Tier,
    answer::{Recalled, RemoteProblem, RemoteUse},
    task::MayLeave,
    units::MicroUsd,
};
use sizewise_models::remote::{
    Delivered, Money, Provider, Question as Asked, Trace, Undelivered, Usage, deliver, questions,
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
    served: &Arc<Served>,
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
                recalled: None,
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
    // How alike is alike enough was shown of what the certificates hand on, and of nothing else.
    let similar = admitted.is_as_certified(|question| served.asked.get(question).map(|asked| asked.limit));
    let handed_on_as_new = |input: &Answered| input.answers.iter().any(is_of_new_kind);
    let new: Vec<bool> = answered.iter().map(handed_on_as_new).collect();
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
            let came = admitted.texts.get(position).map_or("", String::as_str);
            let recall = recall.map(|recall| {
                let (caller, release) = (request.key_id.as_deref(), served.info.release);
                let key = Recall::key(caller, release, &names, came);
                let owner = Recall::owner(caller, release);
                let similar = similar && new.get(position) == Some(&false);
                (recall, Recollection { key, owner, names: names.clone(), text: came.to_owned(), similar })
            });
            let served = Arc::clone(served);
            calls.spawn(async move {
                let asked = Instant::now();
                let ask = one(&task, &names, (&text, trace), (&targets, &money, deadline));
                let delivered = match recall {
                    Some((recall, asked)) => recalled(&recall, (&served, &asked), (ask, deadline)).await,
                    None => (ask.await, None),
                };
                (position, delivered, asked.elapsed().as_micros() as u64)
            });
        }
        let Some(ended) = calls.join_next().await else { break };
        let Ok((position, delivered, elapsed_us)) = ended else { continue };
        if let Some(input) = answered.get_mut(position) {
            input.cost = input.cost.saturating_add(delivered.0.cost);
            input.bill = bill(&delivered.0);
            for answer in input.answers.iter_mut().filter(|answer| open(answer)) {
                take(answer, &served.info.task, &delivered, elapsed_us);
            }
        }
    }
}

/// What was said before, or what is said now; callers who ask the same wait for one answer.
async fn recalled(
    recall: &Recall,
    (served, asked): (&Served, &Recollection),
    (ask, deadline): (impl Future<Output = Delivered<Labels>>, Instant),
) -> (Delivered<Labels>, Option<Recalled>) {
    let Recollection { key, owner, names, text, similar } = asked;
    let again = |Remembered { labels, provider, model }: Remembered, how: Recalled| {
        let (attempts, cost, usage) = (0, MicroUsd(0), Usage::default());
        (Delivered { answer: Ok(labels), provider, model, attempts, cost, usage }, Some(how))
    };
    let turn = tokio::time::timeout_at(deadline.into(), recall.turn(*key)).await;
    if let Some(said) = recall.get(key) {
        return again(said, Recalled::Same);
    }
    let likeness = match similar {
        true => tokio::time::timeout_at(deadline.into(), recall.likeness(served, names, text)).await,
        false => Ok(None),
    };
    let likeness = likeness.ok().flatten();
    let like = likeness.as_ref().and_then(|likeness| recall.similar(owner, names, likeness));
    let rule = served.similar.get().filter(|_| like.is_some());
    let delivered = match like {
        Some(said) if !rule.is_some_and(Rule::draws_check) => return again(said, Recalled::Similar),
        Some(said) => {
            let delivered = ask.await;
            let Ok(labels) = &delivered.answer else { return again(said, Recalled::Similar) };
            for name in names {
                if let (Some(rule), Some((place, _))) = (rule, served.info.task.question(name)) {
                    rule.tell(place, labels.get(name) != said.labels.get(name));
                }
            }
            delivered
        }
        None => ask.await,
    };
    if let Ok(labels) = &delivered.answer {
        let (provider, model) = (delivered.provider.clone(), delivered.model.clone());
        let said = Remembered { labels: labels.clone(), provider, model };
        if let Some((vector, _)) = likeness {
            recall.keep_similar(*owner, vector, said.clone());
        }
        recall.put(*key, said);
    }
    drop(turn);
    (delivered, None)
}

/// What is looked up among remembered answers.
struct Recollection {
    key: ContentHash,
    owner: ContentHash,
    names: Vec<String>,
    text: String,
    /// Whether a similar text will do.
    similar: bool,
}

/// What a larger model is asked about a text.
#[must_use]
pub fn prompt(asked: &[&Question], text: &str) -> Asked {
    Asked {
        messages: questions::messages(asked, text),
        schema: questions::schema(asked),
        typed: questions::typed(asked),
        most_tokens: questions::longest_answer(asked),
        trace: None,
    }
}

/// What calls came to, where any were made.
fn bill(delivered: &Delivered<Labels>) -> Option<Bill> {
    (delivered.attempts > 0).then(|| Bill {
        provider: delivered.provider.clone(),
        micro_usd: delivered.cost,
        read: delivered.usage.read,
        written: delivered.usage.written,
    })
}

async fn one(
    task: &Task,
    names: &[String],
    (text, trace): (&str, Option<Trace>),
    (targets, money, deadline): (&[Arc<Provider>], &Arc<dyn Money>, Instant),
) -> Delivered<Labels> {
    let asked: Vec<&Question> =
        names.iter().filter_map(|name| task.question(name)).map(|(_, question)| question).collect();
    let question = Asked { trace, ..prompt(&asked, text) };
    let accept = |content: &str| questions::read(&asked, content);
    deliver(targets, &question, &accept, (money, deadline)).await
}

/// Puts what came back into an answer.
fn take(
    answer: &mut Answer,
    task: &Task,
    (delivered, recalled): &(Delivered<Labels>, Option<Recalled>),
    elapsed_us: u64,
) {
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
        recalled: *recalled,
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
