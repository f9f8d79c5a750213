//! How do Chat Completions ask for JSON, and where do they put it?

use super::{Ask, NEW_LIMIT, NO_SCHEMA, NO_TEMPERATURE, Reply, Usage, printable};
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) fn body(ask: &Ask<'_>, unknown: u8) -> Value {
    let message = |(role, content): &(&str, String)| json!({ "role": role, "content": content });
    let mut body = json!({
        "model": ask.model,
        "messages": ask.messages.iter().map(message).collect::<Vec<_>>(),
    });
    if let Some(body) = body.as_object_mut() {
        if unknown & NO_SCHEMA == 0 {
            let schema = json!({ "name": "labels", "strict": true, "schema": ask.schema });
            body.insert("response_format".into(), json!({ "type": "json_schema", "json_schema": schema }));
        }
        let limit = if unknown & NEW_LIMIT > 0 { "max_completion_tokens" } else { "max_tokens" };
        body.insert(limit.into(), ask.most_tokens.into());
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
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
    refusal: Option<String>,
}

pub(super) fn read(body: &[u8]) -> Result<Reply, &'static str> {
    let reply: ReplyJson = serde_json::from_slice(body).map_err(|_| "the reply is not that of a chat")?;
    let choice = reply.choices.into_iter().next().ok_or("the reply holds no answer")?;
    Ok(Reply {
        // A refusal is an answer too: one that no contract knows.
        content: choice.message.content.or(choice.message.refusal).unwrap_or_default(),
        usage: reply.usage,
        request: reply.id.as_deref().map(printable),
        model: reply.model.as_deref().map(printable),
        cut_off: choice.finish_reason.as_deref() == Some("length"),
    })
}
