//! How does `generateContent` ask for JSON, and where does it put it?

use super::{Ask, NO_SCHEMA, NO_TEMPERATURE, Reply, Usage, apart, printable};
use serde::Deserialize;
use serde_json::{Map, Value, json};

pub(super) fn body(ask: &Ask<'_>, unknown: u8) -> Value {
    let (system, others) = apart(ask);
    let content = |(role, said): &&(&str, String)| json!({ "role": if *role == "assistant" { "model" } else { "user" }, "parts": [{ "text": said }] });
    let mut settings = Map::new();
    settings.insert("maxOutputTokens".into(), ask.most_tokens.into());
    settings.insert("responseMimeType".into(), "application/json".into());
    if unknown & NO_SCHEMA == 0 {
        settings.insert("responseJsonSchema".into(), ask.schema.clone());
    }
    if unknown & NO_TEMPERATURE == 0 {
        settings.insert("temperature".into(), 0.into());
    }
    json!({
        "systemInstruction": { "parts": [{ "text": system }] },
        "contents": others.iter().map(content).collect::<Vec<_>>(),
        "generationConfig": settings,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReplyJson {
    #[serde(default)]
    candidates: Vec<Candidate>,
    usage_metadata: Option<Tokens>,
    model_version: Option<String>,
    response_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    content: Option<Content>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    parts: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    text: String,
    #[serde(default)]
    thought: bool,
}

/// Counts of nothing are left out.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tokens {
    prompt_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
}

pub(super) fn read(body: &[u8]) -> Result<Reply, &'static str> {
    let reply: ReplyJson =
        serde_json::from_slice(body).map_err(|_| "the reply is not that of generateContent")?;
    // A filtered prompt has no candidate: an answer that no contract knows.
    let candidate = reply.candidates.into_iter().next();
    let cut_off = candidate.as_ref().is_some_and(|c| c.finish_reason.as_deref() == Some("MAX_TOKENS"));
    let parts = candidate.and_then(|candidate| candidate.content).map_or_else(Vec::new, |c| c.parts);
    Ok(Reply {
        content: parts.into_iter().filter(|part| !part.thought).map(|part| part.text).collect(),
        usage: reply.usage_metadata.and_then(|tokens| {
            let written = [tokens.candidates_token_count, tokens.thoughts_token_count];
            Some(Usage { read: tokens.prompt_token_count?, written: written.into_iter().flatten().sum() })
        }),
        request: reply.response_id.as_deref().map(printable),
        model: reply.model_version.as_deref().map(printable),
        cut_off,
    })
}
