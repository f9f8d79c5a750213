//! How is a decision written as a chat completion, whole or as a stream?
//!
//! A stream carries what the client's parser expects: a chunk with the role, one with the content (or the refusal), one
//! with the finish reason, one with the usage where it was asked for, and `[DONE]`. The decision is made before the first
//! byte is sent, so the chunks leave together, and headers and errors are as for a whole reply.

use super::{Delivery, Plan, schema::Shape};
use serde::Serialize;
use serde_json::{Map, Value};
use sizewise_contract::{
    Answer, Decision, Disposition,
    answer::{EscalatedTo, EscalationReason},
};

/// The bytes of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A JSON body.
    Whole(Vec<u8>),
    /// Server-sent events.
    Stream(Vec<u8>),
}

/// Writes a decision as a completion; `created` is in seconds since 1970.
#[must_use]
pub fn write(plan: &Plan, decision: &Decision, created: u64) -> Reply {
    let message = Message::of(&plan.shape, decision);
    let frame = Frame {
        id: format!("chatcmpl-{}", decision.id),
        created,
        model: &decision.task,
        system_fingerprint: format!("sizewise-{}", decision.release.short()),
    };
    let usage = Usage {
        prompt_tokens: decision.input_tokens,
        completion_tokens: 0,
        total_tokens: decision.input_tokens,
    };
    match plan.delivery {
        Delivery::Whole => Reply::Whole(whole(&frame, &message, usage)),
        Delivery::Stream { usage: asked } => Reply::Stream(stream(&frame, &message, asked.then_some(usage))),
    }
}

/// What the assistant says; one of both is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Message {
    content: Option<String>,
    refusal: Option<String>,
}

impl Message {
    fn of(shape: &Shape, decision: &Decision) -> Self {
        match shape {
            Shape::Value => match decision.answers.first() {
                Some(answer) if answer.answered() => Self::content(answer.value.clone()),
                _ => Self::refusal(decision),
            },
            Shape::Object(properties) => {
                let mut object = Map::new();
                for (property, answer) in properties.iter().zip(&decision.answers) {
                    let form = match (answer.answered(), property.nullable) {
                        (true, _) => property.forms.get(answer.class).cloned(),
                        (false, true) => Some(Value::Null),
                        (false, false) => None,
                    };
                    let Some(form) = form else { return Self::refusal(decision) };
                    object.insert(property.key.clone(), form);
                }
                if !decision.answers.iter().any(Answer::answered) {
                    return Self::refusal(decision);
                }
                Self::content(Value::Object(object).to_string())
            }
        }
    }

    fn content(text: String) -> Self {
        Self { content: Some(text), refusal: None }
    }

    fn refusal(decision: &Decision) -> Self {
        let reasons: Vec<String> = decision.answers.iter().filter_map(why_not).collect();
        Self { content: None, refusal: Some(format!("No certified answer: {}.", reasons.join("; "))) }
    }
}

fn why_not(answer: &Answer) -> Option<String> {
    let Disposition::Escalated { reason, to } = answer.disposition else { return None };
    let why = match (reason, answer.threshold) {
        (EscalationReason::NotCertified, _) | (_, None) => "nothing is certified for it".to_owned(),
        (EscalationReason::PromiseInDoubt, _) => "its promise is in doubt".to_owned(),
        (EscalationReason::NewKind, _) => "the input is of a new kind that no release knows".to_owned(),
        (EscalationReason::OutOfScope, _) => "the input is unlike everything it has learnt from".to_owned(),
        (EscalationReason::BelowThreshold, Some(threshold)) => {
            format!("confidence {:.3} is below the {threshold:.3} needed", answer.stated_confidence())
        }
    };
    let next = match to {
        EscalatedTo::Person => ", waits for a person",
        EscalatedTo::None => "",
    };
    Some(format!("`{}`, {why}{next}", answer.question))
}

/// What every object of one completion carries.
struct Frame<'a> {
    id: String,
    created: u64,
    model: &'a str,
    system_fingerprint: String,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

#[derive(Serialize)]
struct Completion<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'a str,
    choices: Vec<C>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: Spoken<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Spoken<'a> {
    role: &'static str,
    #[serde(flatten)]
    message: &'a Message,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: Delta<'a>,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
}

impl<'a> Frame<'a> {
    fn with<C>(&'a self, object: &'static str, choices: Vec<C>, usage: Option<Usage>) -> Completion<'a, C> {
        Completion {
            id: &self.id,
            object,
            created: self.created,
            model: self.model,
            system_fingerprint: &self.system_fingerprint,
            choices,
            usage,
        }
    }
}

fn whole(frame: &Frame<'_>, message: &Message, usage: Usage) -> Vec<u8> {
    let spoken = Spoken { role: "assistant", message };
    let choice = Choice { index: 0, message: spoken, logprobs: None, finish_reason: "stop" };
    // Strings and numbers always have a JSON form.
    serde_json::to_vec(&frame.with("chat.completion", vec![choice], Some(usage))).unwrap_or_default()
}

fn stream(frame: &Frame<'_>, message: &Message, usage: Option<Usage>) -> Vec<u8> {
    let first =
        Delta { role: Some("assistant"), content: message.content.as_ref().map(|_| ""), refusal: None };
    let said = Delta { role: None, content: message.content.as_deref(), refusal: message.refusal.as_deref() };
    let mut events = Vec::with_capacity(1_024);
    let mut event = |choices: Vec<ChunkChoice<'_>>, usage: Option<Usage>| {
        let chunk = frame.with("chat.completion.chunk", choices, usage);
        events.extend_from_slice(b"data: ");
        events.extend(serde_json::to_vec(&chunk).unwrap_or_default());
        events.extend_from_slice(b"\n\n");
    };
    for (delta, finish_reason) in [(first, None), (said, None), (Delta::default(), Some("stop"))] {
        event(vec![ChunkChoice { index: 0, delta, logprobs: None, finish_reason }], None);
    }
    if usage.is_some() {
        event(Vec::new(), usage);
    }
    events.extend_from_slice(b"data: [DONE]\n\n");
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{
        chat::Request,
        testing::{escalated, support_decision, support_task},
    };
    use serde_json::json;

    fn reply(extra: &str, decision: &Decision) -> Reply {
        let body = format!(r#"{{"model":"support","messages":[{{"role":"user","content":"x"}}]{extra}}}"#);
        let plan = Request::read(body.as_bytes()).and_then(|request| request.plan(&support_task()));
        write(&plan.expect("valid"), decision, 1_700_000_000)
    }

    fn message(extra: &str, decision: &Decision) -> Value {
        let Reply::Whole(bytes) = reply(extra, decision) else { panic!("not a stream") };
        let value: Value = serde_json::from_slice(&bytes).expect("JSON");
        value["choices"][0]["message"].clone()
    }

    #[test]
    fn a_completion_has_all_that_clients_read() {
        let Reply::Whole(bytes) = reply("", &support_decision()) else { panic!("not a stream") };
        let value: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(
            value,
            json!({
                "id": "chatcmpl-d-1", "object": "chat.completion", "created": 1_700_000_000, "model": "support",
                "system_fingerprint": value["system_fingerprint"],
                "choices": [{"index": 0, "finish_reason": "stop", "logprobs": null, "message": {
                    "role": "assistant", "refusal": null,
                    "content": "{\"team\":\"delivery\",\"urgent\":false,\"mood\":\"cross\"}",
                }}],
                "usage": {"prompt_tokens": 7, "completion_tokens": 0, "total_tokens": 7},
            })
        );
    }

    #[test]
    fn one_question_is_answered_by_its_value_alone() {
        let mut decision = support_decision();
        decision.answers.truncate(1);
        assert_eq!(Message::of(&Shape::Value, &decision), Message::content("delivery".into()));
    }

    #[test]
    fn what_nobody_is_sure_of_is_a_refusal_with_the_reason() {
        assert_eq!(
            message("", &escalated(0)),
            json!({"role": "assistant", "content": null, "refusal": "No certified answer: `team`, \
                confidence 0.500 is below the 0.750 needed, waits for a person."})
        );
    }

    #[test]
    fn a_property_that_may_be_null_is_null_and_the_others_are_answered() {
        let schema = r#","response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{
            "type":"object","properties":{
                "team":{"anyOf":[{"type":"string"},{"type":"null"}]},"urgent":{"type":["boolean","null"]}}}}}"#;
        let pair = |team: bool, urgent: bool| {
            let mut decision = support_decision();
            let unsure = escalated(0).answers[0].disposition.clone();
            decision.answers.truncate(2);
            for (index, unsure_here) in [team, urgent].into_iter().enumerate() {
                if unsure_here {
                    decision.answers[index].disposition = unsure.clone();
                }
            }
            message(schema, &decision)
        };
        assert_eq!(pair(true, false)["content"], r#"{"team":null,"urgent":false}"#);
        assert_eq!(pair(true, true)["content"], Value::Null);
        assert!(pair(true, true)["refusal"].as_str().is_some_and(|text| text.contains("`urgent`")));
    }

    #[test]
    fn a_stream_is_a_row_of_chunks_and_an_end() {
        let extra = r#","stream":true,"stream_options":{"include_usage":true}"#;
        let Reply::Stream(bytes) = reply(extra, &support_decision()) else { panic!("a stream") };
        let text = String::from_utf8(bytes).expect("UTF-8");
        let events: Vec<&str> = text.split_terminator("\n\n").collect();
        assert!(events.iter().all(|event| event.starts_with("data: ") && !event.contains('\n')));
        let chunk = |index: usize| -> Value { serde_json::from_str(&events[index][6..]).expect("JSON") };
        assert_eq!(chunk(0)["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
        assert_eq!(
            chunk(1)["choices"][0]["delta"],
            json!({"content": "{\"team\":\"delivery\",\"urgent\":false,\"mood\":\"cross\"}"})
        );
        assert_eq!(chunk(2)["choices"][0]["finish_reason"], "stop");
        assert_eq!(chunk(3)["choices"], json!([]));
        assert_eq!(chunk(3)["usage"]["total_tokens"], 7);
        assert_eq!(events[4], "data: [DONE]");
        assert_eq!(events.len(), 5);
    }
}
