//! How does the Responses protocol ask for JSON, and where does it put it?

use super::{Ask, NO_SCHEMA, NO_TEMPERATURE, Reply, Usage, printable};
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) fn body(ask: &Ask<'_>, unknown: u8) -> Value {
    let message = |(role, content): &(&str, String)| json!({ "role": role, "content": content });
    let mut body = json!({
        "model": ask.model,
        "input": ask.messages.iter().map(message).collect::<Vec<_>>(),
        "max_output_tokens": ask.most_tokens,
        // Nothing is kept on the other side for later.
        "store": false,
    });
    if let Some(body) = body.as_object_mut() {
        if unknown & NO_SCHEMA == 0 {
            let format =
                json!({ "type": "json_schema", "name": "labels", "strict": true, "schema": ask.schema });
            body.insert("text".into(), json!({ "format": format }));
        }
        if unknown & NO_TEMPERATURE == 0 {
            body.insert("temperature".into(), 0.into());
        }
    }
    body
}

#[derive(Deserialize)]
struct ReplyJson {
    id: Option<String>,
    model: Option<String>,
    status: Option<String>,
    #[serde(default)]
    output: Vec<Item>,
    usage: Option<Tokens>,
}

/// Messages are read; what a model thinks or calls is passed over.
#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    content: Option<Vec<Part>>,
}

/// A refusal is an answer too: one that no contract knows.
#[derive(Deserialize)]
struct Part {
    #[serde(default, alias = "refusal")]
    text: String,
}

#[derive(Deserialize)]
pub(super) struct Tokens {
    input_tokens: u64,
    output_tokens: u64,
}

impl From<Tokens> for Usage {
    fn from(tokens: Tokens) -> Self {
        Self { read: tokens.input_tokens, written: tokens.output_tokens }
    }
}

pub(super) fn read(body: &[u8]) -> Result<Reply, &'static str> {
    let reply: ReplyJson = serde_json::from_slice(body).map_err(|_| "the reply is not a response")?;
    if reply.status.as_deref() == Some("failed") {
        return Err("the response failed");
    }
    let messages = reply.output.into_iter().filter(|item| item.kind == "message");
    Ok(Reply {
        content: messages.flat_map(|item| item.content.unwrap_or_default()).map(|part| part.text).collect(),
        usage: reply.usage.map(Usage::from),
        request: reply.id.as_deref().map(printable),
        model: reply.model.as_deref().map(printable),
        cut_off: reply.status.as_deref() == Some("incomplete"),
    })
}
