//! How do Messages ask for JSON, and where do they put it?
//!
//! A schema is the input of a single tool that the model must call; its input is the answer.

use super::{Ask, NO_TEMPERATURE, Reply, Usage, apart, printable};
use serde::Deserialize;
use serde_json::{Value, json};

/// Name of the tool that takes the answer.
const TOOL: &str = "answer";

pub(super) fn body(ask: &Ask<'_>, unknown: u8) -> Value {
    let (system, others) = apart(ask);
    let message = |(role, content): &&(&str, String)| json!({ "role": role, "content": content });
    let mut body = json!({
        "model": ask.model,
        "max_tokens": ask.most_tokens,
        "system": system,
        "messages": others.iter().map(message).collect::<Vec<_>>(),
        "tools": [{ "name": TOOL, "description": "Takes the answer.", "input_schema": ask.schema }],
        "tool_choice": { "type": "tool", "name": TOOL },
    });
    if let Some(body) = body.as_object_mut()
        && unknown & NO_TEMPERATURE == 0
    {
        body.insert("temperature".into(), 0.into());
    }
    body
}

#[derive(Deserialize)]
struct ReplyJson {
    id: Option<String>,
    model: Option<String>,
    #[serde(default)]
    content: Vec<Block>,
    stop_reason: Option<String>,
    usage: Option<Tokens>,
}

#[derive(Deserialize)]
struct Block {
    text: Option<String>,
    input: Option<Value>,
}

/// Counts that were not made are null.
#[derive(Deserialize)]
struct Tokens {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

pub(super) fn read(body: &[u8]) -> Result<Reply, &'static str> {
    let reply: ReplyJson = serde_json::from_slice(body).map_err(|_| "the reply is not that of a message")?;
    let input = reply.content.iter().find_map(|block| block.input.as_ref()).map(Value::to_string);
    let text = || reply.content.iter().filter_map(|block| block.text.as_deref()).collect::<String>();
    Ok(Reply {
        content: input.unwrap_or_else(text),
        usage: reply.usage.and_then(|tokens| {
            let cached = [tokens.cache_creation_input_tokens, tokens.cache_read_input_tokens];
            Some(Usage {
                read: tokens.input_tokens? + cached.into_iter().flatten().sum::<u64>(),
                written: tokens.output_tokens?,
            })
        }),
        request: reply.id.as_deref().map(printable),
        model: reply.model.as_deref().map(printable),
        cut_off: reply.stop_reason.as_deref() == Some("max_tokens"),
    })
}
