//! What does a request ask, and what of it is the same from call to call?
//!
//! The three protocols say the same things in different places: what the model is told first, the tools, the form of the answer, and
//! the messages. What is no text (an image, an earlier response that is only referred to) makes a request one that no small model
//! could answer: it is not recorded.

use super::Protocol;
use serde_json::Value;
use sizewise_learn::sites::{Fixed, Tool};

/// A request in the words of no protocol.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Heard {
    pub(super) fixed: Fixed,
    /// What varies: the user's message, or all that was said so far.
    pub(super) text: String,
}

/// Reads a request; none where it asks no single decision about a text.
pub(super) fn read(protocol: Protocol, request: &Value) -> Option<Heard> {
    let (mut told, schema) = match protocol {
        Protocol::Chat => {
            if request.get("n").and_then(Value::as_u64).is_some_and(|n| n > 1) {
                return None;
            }
            let format = request.get("response_format");
            (Vec::new(), format.and_then(|format| format.get("json_schema")?.get("schema")))
        }
        Protocol::Responses => {
            if ["previous_response_id", "conversation", "prompt"].iter().any(|key| is_set(request, key)) {
                return None;
            }
            let format = request.get("text").and_then(|text| text.get("format"));
            (texts(request.get("instructions"))?, format.and_then(|format| format.get("schema")))
        }
        Protocol::Messages => (texts(request.get("system"))?, None),
    };
    let mut said = Vec::new();
    let key = if protocol == Protocol::Responses { "input" } else { "messages" };
    match request.get(key)? {
        Value::String(text) => said.push(("user".to_owned(), text.clone())),
        Value::Array(items) => {
            for item in items {
                let (role, text) = message(item)?;
                match role.as_str() {
                    "system" | "developer" => told.push(text),
                    _ => said.push((role, text)),
                }
            }
        }
        _ => return None,
    }
    let text = match said.as_slice() {
        [] => return None,
        [(role, text)] if role == "user" => text.clone(),
        // A template that the messages have in common is found later, examples for the model among them.
        several => {
            several.iter().map(|(role, text)| format!("[{role}]\n{text}")).collect::<Vec<_>>().join("\n")
        }
    };
    let fixed = Fixed { system: told.join("\n\n"), tools: tools(request), schema: schema.cloned() };
    (!text.trim().is_empty()).then_some(Heard { fixed, text })
}

fn is_set(request: &Value, key: &str) -> bool {
    request.get(key).is_some_and(|value| !value.is_null())
}

fn message(item: &Value) -> Option<(String, String)> {
    let role = item.get("role").and_then(Value::as_str);
    let Some(role) = role else {
        // A tool that was called, and what it returned, as Responses has them.
        let kind = item.get("type").and_then(Value::as_str)?;
        return kind.starts_with("function_call").then(|| (kind.to_owned(), item.to_string()));
    };
    let mut parts = match item.get("content") {
        None | Some(Value::Null) => Vec::new(),
        content => texts(content)?,
    };
    parts.extend(item.get("tool_calls").map(Value::to_string));
    Some((role.to_owned(), parts.join("\n")))
}

/// The texts of a content: a text, or parts of which each is one. None where a part is none.
fn texts(content: Option<&Value>) -> Option<Vec<String>> {
    match content {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::String(text)) => Some(vec![text.clone()]),
        Some(Value::Array(parts)) => parts.iter().map(part).collect(),
        Some(_) => None,
    }
}

fn part(part: &Value) -> Option<String> {
    match part.get("type").and_then(Value::as_str)? {
        "text" | "input_text" | "output_text" => Some(part.get("text")?.as_str()?.to_owned()),
        "tool_use" | "tool_result" => Some(part.to_string()),
        _ => None,
    }
}

/// The tools of all three protocols, and the functions that came before them.
fn tools(request: &Value) -> Vec<Tool> {
    let listed = ["tools", "functions"].iter().filter_map(|key| request.get(*key)?.as_array()).flatten();
    let tool = |tool: &Value| {
        let inner = tool.get("function").unwrap_or(tool);
        let parameters = inner.get("parameters").or_else(|| inner.get("input_schema"));
        let name = inner.get("name")?.as_str()?.to_owned();
        Some(Tool { name, parameters: parameters.cloned().unwrap_or_default() })
    };
    listed.filter_map(tool).collect()
}
