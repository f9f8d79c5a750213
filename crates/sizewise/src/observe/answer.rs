//! What did the model answer?
//!
//! Whole answers and streams come to the same. An answer that was cut off or refused decides nothing and is not recorded.

use super::Protocol;
use serde_json::Value;
use sizewise_learn::sites::{Called, Said};
use std::collections::BTreeMap;

/// Bytes of a request or an answer that make a token, where nobody has counted.
const BYTES_PER_TOKEN: usize = 4;

/// An answer in the words of no protocol.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Answered {
    pub(super) said: Said,
    /// The model, as the provider calls it.
    pub(super) model: String,
    pub(super) request: Option<String>,
    /// Tokens that were read and written.
    pub(super) usage: Option<(u64, u64)>,
}

/// The tokens of a call, and whether they are guessed from its bytes.
pub(super) fn usage_or_guess(
    usage: Option<(u64, u64)>,
    (asked, answered): (usize, usize),
) -> (u64, u64, bool) {
    let guess = |bytes: usize| bytes.div_ceil(BYTES_PER_TOKEN) as u64;
    usage.map_or((guess(asked), guess(answered), true), |(read, written)| (read, written, false))
}

/// Reads an answer; none where it decides nothing.
pub(super) fn read(protocol: Protocol, bytes: &[u8], streamed: bool) -> Option<Answered> {
    let value = match (streamed, protocol) {
        (false, _) => serde_json::from_slice(bytes).ok()?,
        (true, Protocol::Chat) => whole_chat(&events(bytes)),
        (true, Protocol::Responses) => {
            let is_end = |event: &Value| text(event, "type") == Some("response.completed");
            events(bytes).into_iter().find(is_end)?.get("response")?.clone()
        }
        (true, Protocol::Messages) => whole_message(&events(bytes)),
    };
    let said = match protocol {
        Protocol::Chat => of_chat(&value)?,
        Protocol::Responses => of_response(&value)?,
        Protocol::Messages => of_message(&value)?,
    };
    let counted = value.get("usage").filter(|usage| usage.is_object());
    let count = |names: [&str; 2]| names.iter().find_map(|name| counted?.get(*name)?.as_u64());
    let cached = ["cache_creation_input_tokens", "cache_read_input_tokens"].iter();
    let cached = cached.filter_map(|name| counted?.get(*name)?.as_u64()).fold(0, u64::saturating_add);
    let read = count(["prompt_tokens", "input_tokens"]).map(|read| read.saturating_add(cached));
    let is_something = said.text.is_some() || !said.calls.is_empty();
    is_something.then(|| Answered {
        said,
        model: text(&value, "model").unwrap_or_default().to_owned(),
        request: text(&value, "id").map(str::to_owned),
        usage: read.zip(count(["completion_tokens", "output_tokens"])),
    })
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key)?.as_str()
}

fn of_chat(value: &Value) -> Option<Said> {
    let choice = value.get("choices")?.get(0)?;
    if !matches!(text(choice, "finish_reason"), None | Some("stop" | "tool_calls" | "function_call")) {
        return None;
    }
    let message = choice.get("message")?;
    if text(message, "refusal").is_some() {
        return None;
    }
    let tools = message.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
    let functions = tools.filter_map(|call| call.get("function")).chain(message.get("function_call"));
    Some(Said { text: spoken(text(message, "content")), calls: functions.filter_map(called).collect() })
}

fn of_response(value: &Value) -> Option<Said> {
    if text(value, "status").is_some_and(|status| status != "completed") {
        return None;
    }
    let mut said = Said::default();
    let mut words = String::new();
    for item in value.get("output")?.as_array()? {
        match text(item, "type")? {
            "message" => {
                for part in item.get("content")?.as_array()? {
                    match text(part, "type")? {
                        "output_text" => words.push_str(text(part, "text")?),
                        _ => return None,
                    }
                }
            }
            "function_call" => said.calls.extend(called(item)),
            _ => {}
        }
    }
    said.text = spoken(Some(&words));
    Some(said)
}

fn of_message(value: &Value) -> Option<Said> {
    if !matches!(text(value, "stop_reason"), Some("end_turn" | "tool_use" | "stop_sequence")) {
        return None;
    }
    let mut said = Said::default();
    let mut words = String::new();
    for part in value.get("content")?.as_array()? {
        match text(part, "type")? {
            "text" => words.push_str(text(part, "text")?),
            "tool_use" => said.calls.push(Called {
                name: text(part, "name")?.to_owned(),
                arguments: part.get("input").cloned().unwrap_or_default(),
            }),
            _ => {}
        }
    }
    said.text = spoken(Some(&words));
    Some(said)
}

fn spoken(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty()).map(str::to_owned)
}

/// A function with its arguments, which come as a text.
fn called(function: &Value) -> Option<Called> {
    let arguments = text(function, "arguments").and_then(|text| serde_json::from_str(text).ok());
    Some(Called { name: text(function, "name")?.to_owned(), arguments: arguments.unwrap_or_default() })
}

/// The JSON of each event of a stream.
fn events(bytes: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    let data = |event: &str| {
        let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
        lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<String>()
    };
    text.split("\n\n").filter_map(|event| serde_json::from_str(&data(event)).ok()).collect()
}

/// The answer that chunks come to. A stream that tells an error comes to none.
fn whole_chat(events: &[Value]) -> Value {
    let (mut whole, mut words, mut reason) = (serde_json::Map::new(), String::new(), Value::Null);
    let mut refusal = Value::Null;
    let mut calls: BTreeMap<u64, (String, String)> = BTreeMap::new();
    for event in events {
        if event.get("error").is_some_and(|error| !error.is_null()) {
            return Value::Null;
        }
        for key in ["id", "model", "usage"] {
            if let Some(value) = event.get(key).filter(|value| !value.is_null()) {
                whole.insert(key.into(), value.clone());
            }
        }
        let Some(choice) = event.get("choices").and_then(|choices| choices.get(0)) else { continue };
        if let Some(told) = choice.get("finish_reason").filter(|told| !told.is_null()) {
            reason = told.clone();
        }
        let Some(delta) = choice.get("delta") else { continue };
        words.push_str(text(delta, "content").unwrap_or_default());
        if let Some(told) = text(delta, "refusal") {
            refusal = told.into();
        }
        for call in delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            let place = call.get("index").and_then(Value::as_u64).unwrap_or(0);
            let (name, arguments) = calls.entry(place).or_default();
            let Some(function) = call.get("function") else { continue };
            name.push_str(text(function, "name").unwrap_or_default());
            arguments.push_str(text(function, "arguments").unwrap_or_default());
        }
    }
    let function =
        |(name, arguments)| serde_json::json!({"function": {"name": name, "arguments": arguments}});
    let calls: Vec<Value> = calls.into_values().map(function).collect();
    let message = serde_json::json!({"content": words, "refusal": refusal, "tool_calls": calls});
    whole.insert("choices".into(), serde_json::json!([{"message": message, "finish_reason": reason}]));
    whole.into()
}

/// The message that events come to. A stream that tells an error comes to none.
fn whole_message(events: &[Value]) -> Value {
    let mut whole = serde_json::Map::new();
    let mut parts: BTreeMap<u64, (Value, String)> = BTreeMap::new();
    for event in events {
        let place = event.get("index").and_then(Value::as_u64).unwrap_or(0);
        match text(event, "type").unwrap_or_default() {
            "error" => return Value::Null,
            "message_start" => {
                whole = event.get("message").and_then(Value::as_object).cloned().unwrap_or_default()
            }
            "content_block_start" => {
                let part = event.get("content_block").cloned().unwrap_or_default();
                parts.insert(place, (part, String::new()));
            }
            "content_block_delta" => {
                let Some((delta, (_, said))) = event.get("delta").zip(parts.get_mut(&place)) else {
                    continue;
                };
                said.push_str(text(delta, "text").or(text(delta, "partial_json")).unwrap_or_default());
            }
            "message_delta" => {
                if let Some(reason) = event.get("delta").and_then(|delta| delta.get("stop_reason")) {
                    whole.insert("stop_reason".into(), reason.clone());
                }
                // What was counted at the beginning stands where the end says nothing of it.
                let counted = event.get("usage").and_then(Value::as_object).cloned().unwrap_or_default();
                let usage = whole.entry("usage").or_insert_with(|| Value::Object(serde_json::Map::new()));
                if let Some(usage) = usage.as_object_mut() {
                    usage.extend(counted.into_iter().filter(|(_, count)| !count.is_null()));
                }
            }
            _ => {}
        }
    }
    let part = |(mut part, said): (Value, String)| {
        let is_tool = text(&part, "type") == Some("tool_use");
        if let Some(part) = part.as_object_mut() {
            match is_tool {
                true => part.insert("input".into(), serde_json::from_str(&said).unwrap_or_default()),
                false => part.insert("text".into(), said.into()),
            };
        }
        part
    };
    whole.insert("content".into(), parts.into_values().map(part).collect::<Vec<_>>().into());
    whole.into()
}
