//! How are questions put to a model that answers typed questions, and which labels do its answers stand for?
//!
//! Two protocols do: Decisions (`/v1/decisions` of the `openai` package) and System One (`/v1/systemone` of `typesafe-sdk`). Both take
//! the questions as they are, so there is no prompt, no schema and nothing to repair. The server of another Sizewise speaks both: a small
//! one at the edge hands on to a larger one in the house.

use super::{Ask, Reply, Usage, printable, responses::Tokens};
use crate::remote::questions::Typed;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sizewise_contract::QuestionKind;
use std::collections::BTreeMap;

/// The text that the questions are about.
fn input<'a>(ask: &'a Ask<'_>) -> &'a str {
    ask.messages.iter().find(|(role, _)| *role == "user").map_or("", |(_, said)| said)
}

pub(super) fn decisions_body(ask: &Ask<'_>) -> Value {
    let question = |asked: &Typed| {
        let mut question = json!({ "name": asked.key, "instructions": asked.instructions });
        let (kind, values) = match asked.kind {
            QuestionKind::Predicate => ("predicate", None),
            QuestionKind::Choice => ("choice", Some(("choices", "value"))),
            QuestionKind::Score => ("score", Some(("levels", "label"))),
        };
        if let Some(map) = question.as_object_mut() {
            map.insert("type".into(), kind.into());
            if let Some((list, name)) = values {
                let value = |(value, described): &(String, String)| match described.as_str() {
                    "" => json!({ name: value }),
                    described => json!({ name: value, "description": described }),
                };
                map.insert(list.into(), asked.values.iter().map(value).collect());
            }
        }
        question
    };
    json!({
        "model": ask.model,
        "input": input(ask),
        "questions": ask.typed.iter().map(question).collect::<Vec<_>>(),
    })
}

pub(super) fn system_one_body(ask: &Ask<'_>) -> Value {
    let question = |asked: &Typed| {
        let said = |described: &str, value: &str| {
            Value::from(if described.is_empty() { value.to_owned() } else { described.to_owned() })
        };
        let question = match asked.kind {
            QuestionKind::Predicate => json!({ "type": "noul", "instructions": asked.instructions }),
            QuestionKind::Choice => {
                let options =
                    asked.values.iter().map(|(value, described)| (value.clone(), said(described, value)));
                json!({ "type": "choice", "instructions": asked.instructions, "criteria": options.collect::<Map<_, _>>() })
            }
            QuestionKind::Score => {
                let levels = asked.values.iter().map(|(value, described)| said(described, value));
                json!({ "type": "score", "instructions": asked.instructions, "criteria": levels.collect::<Vec<_>>() })
            }
        };
        (asked.key.clone(), question)
    };
    json!({
        "model": ask.model,
        "state": input(ask),
        "questions": ask.typed.iter().map(question).collect::<Map<_, _>>(),
    })
}

#[derive(Deserialize)]
struct ReplyJson<A> {
    id: Option<String>,
    model: Option<String>,
    answers: A,
    usage: Option<Tokens>,
}

/// What is read of an answer, in either protocol.
#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "type")]
    kind: String,
    choice: Option<Value>,
    /// Of yes, in Decisions.
    probability: Option<f64>,
    /// The same in System One.
    noul: Option<f64>,
    probabilities: Option<Value>,
}

pub(super) fn read_decisions(body: &[u8], typed: &[Typed]) -> Result<Reply, &'static str> {
    let reply: ReplyJson<Vec<Answer>> =
        serde_json::from_slice(body).map_err(|_| "the reply is not that of a decision")?;
    // In the order of the questions: with one of them missing nobody knows whose the others are.
    if reply.answers.len() != typed.len() {
        return Err("the reply has not one answer for each question");
    }
    let labels =
        typed.iter().zip(&reply.answers).filter_map(|(asked, answer)| label(asked, answer)).collect();
    Ok(told(labels, (reply.id, reply.model, reply.usage)))
}

pub(super) fn read_system_one(body: &[u8], typed: &[Typed]) -> Result<Reply, &'static str> {
    let reply: ReplyJson<BTreeMap<String, Answer>> =
        serde_json::from_slice(body).map_err(|_| "the reply is not that of System One")?;
    let answer = |asked: &Typed| label(asked, reply.answers.get(&asked.key)?);
    let labels = typed.iter().filter_map(answer).collect();
    Ok(told(labels, (reply.id, reply.model, reply.usage)))
}

/// The labels, as a model would have said them that was asked for JSON. A question without an answer, or refused, is not there.
fn told(
    labels: Map<String, Value>,
    (id, model, usage): (Option<String>, Option<String>, Option<Tokens>),
) -> Reply {
    Reply {
        content: Value::Object(labels).to_string(),
        usage: usage.map(Usage::from),
        request: id.as_deref().map(printable),
        model: model.as_deref().map(printable),
        cut_off: false,
    }
}

fn label(asked: &Typed, answer: &Answer) -> Option<(String, Value)> {
    let value = |place: usize| asked.values.get(place).map(|(value, _)| value.clone());
    let label = match (asked.kind, answer.kind.as_str()) {
        (QuestionKind::Predicate, "predicate" | "noul") => {
            let yes = answer.probability.or(answer.noul)?;
            value(usize::from(yes >= 0.5))?
        }
        (QuestionKind::Choice, "choice") => answer.choice.as_ref()?.as_str()?.to_owned(),
        (QuestionKind::Score, "score") => value(likeliest(answer.probabilities.as_ref()?)?)?,
        _ => return None,
    };
    Some((asked.key.clone(), label.into()))
}

/// The level with the largest probability: of a list of them, or of an object from their number.
fn likeliest(probabilities: &Value) -> Option<usize> {
    let place = |level: &Value| level.as_u64().or_else(|| level.as_str()?.parse().ok());
    let pairs: Vec<(u64, f64)> = match probabilities {
        Value::Array(items) => items
            .iter()
            .filter_map(|item| Some((place(item.get("value")?)?, item.get("probability")?.as_f64()?)))
            .collect(),
        Value::Object(map) => {
            map.iter().filter_map(|(level, share)| Some((level.parse().ok()?, share.as_f64()?))).collect()
        }
        _ => return None,
    };
    let best = pairs.into_iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
    usize::try_from(best.0).ok()
}
