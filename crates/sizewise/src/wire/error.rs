//! What is wrong with a request, and how does each protocol say so?
//!
//! The OpenAI protocols and our own say `{"error": {"message", "type", "param", "code"}}`. System One adds `detail`, a
//! list whose entries name the place as a path. `code` is always a name of the contract's table, but in Gemini's shape, where it is the
//! status and the name stands in `details`.

use serde::Serialize;
use sizewise_contract::{Code, Diagnose, Fault};
use std::{borrow::Cow, time::Duration};

/// Whose shape an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `/v1/decisions`, `/v1/chat/completions`, `/v1/models` and everything of our own.
    OpenAi,
    /// `/v1/systemone`.
    SystemOne,
    /// `/v1/messages`.
    Anthropic,
    /// `/v1beta/models/…`.
    Gemini,
}

/// Why a request gets no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WireError {
    code: Code,
    message: String,
    param: Option<String>,
    hint: Option<String>,
    wait: Option<Duration>,
}

impl WireError {
    /// An error with its code, the place it speaks of and what is wrong there.
    #[must_use]
    pub fn new(code: Code, param: Option<String>, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), param, hint: None, wait: None }
    }

    /// A request that is not of the shape its protocol asks for.
    #[must_use]
    pub fn request(param: Option<String>, message: impl Into<String>) -> Self {
        Self::new(Code::RequestInvalid, param, message)
    }

    /// The same error with a way out.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error, where it is known from when on to ask again.
    #[must_use]
    pub fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// From when on to ask again.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        self.wait
    }

    /// The same error about another place.
    #[must_use]
    pub fn with_param(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    /// An error of the engine; `input` is where the protocol keeps its input.
    #[must_use]
    pub fn of_engine(error: &sizewise_engine::Error, input: impl Fn(usize) -> String) -> Self {
        use sizewise_engine::Error;
        let (param, message) = match error {
            Error::UnknownTask { .. } | Error::NotTrained { .. } => {
                (Some("model".to_owned()), error.to_string())
            }
            Error::Input { position, problem } => (Some(input(*position)), problem.clone()),
            Error::InputTooLong { position, .. } | Error::TooManyPieces { position, .. } => {
                (Some(input(*position)), error.to_string())
            }
            Error::TooManyInputs { .. } => (Some("inputs".to_owned()), error.to_string()),
            _ => (None, error.to_string()),
        };
        Self { code: error.code(), message, param, hint: error.hint(), wait: None }
    }

    /// What is wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where it is wrong.
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        self.param.as_deref()
    }

    /// The JSON body that says so.
    ///
    /// What failed inside the machine is not told to callers: it may name files. They get the meaning of the code, and
    /// the log gets the message.
    #[must_use]
    pub fn body(&self, protocol: Protocol, status: u16) -> Vec<u8> {
        let facts = self.code.facts();
        let message: Cow<'_, str> = match (&self.hint, facts.fault) {
            (_, Fault::Internal) => facts.meaning.into(),
            (Some(hint), _) => format!("{}; {hint}", self.message).into(),
            (None, _) => self.message.as_str().into(),
        };
        if protocol == Protocol::Gemini {
            let told = serde_json::json!({
                "error": { "code": status, "message": message, "status": google_status(status), "details": [{ "reason": facts.name }] }
            });
            return told.to_string().into_bytes();
        }
        let detail = (protocol == Protocol::SystemOne)
            .then(|| vec![Detail { loc: location(self.param()), msg: &message, kind: facts.name }]);
        let body = Body {
            // Their clients look for it.
            kind: (protocol == Protocol::Anthropic).then_some("error"),
            error: Inner {
                message: &message,
                kind: type_name(self.code),
                param: self.param(),
                code: facts.name,
                retry: facts.retry,
            },
            detail,
        };
        // Strings and flags always have a JSON form.
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

impl Diagnose for WireError {
    fn code(&self) -> Code {
        self.code
    }

    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    error: Inner<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Vec<Detail<'a>>>,
}

#[derive(Serialize)]
struct Inner<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'a str>,
    code: &'static str,
    retry: bool,
}

#[derive(Serialize)]
struct Detail<'a> {
    loc: Vec<Location<'a>>,
    msg: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Location<'a> {
    Key(&'a str),
    Index(usize),
}

/// The families of errors that clients of the OpenAI protocols know.
/// The name that Google's interfaces have for an HTTP status (google.rpc.Code).
fn google_status(status: u16) -> &'static str {
    match status {
        400 | 405 | 413 | 415 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        408 => "DEADLINE_EXCEEDED",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        _ => "INTERNAL",
    }
}

fn type_name(code: Code) -> &'static str {
    match (code, code.facts().fault) {
        (Code::KeyMissing | Code::KeyInvalid, _) => "authentication_error",
        (Code::RateLimited, _) => "rate_limit_error",
        (_, Fault::Caller) => "invalid_request_error",
        (_, Fault::Policy) => "permission_error",
        (_, Fault::Overload) => "overloaded_error",
        (_, Fault::Upstream | Fault::Internal) => "server_error",
    }
}

/// `questions.team.criteria[2]` as the path `["body", "questions", "team", "criteria", 2]`.
fn location(param: Option<&str>) -> Vec<Location<'_>> {
    let mut path = vec![Location::Key("body")];
    for step in param.into_iter().flat_map(|param| param.split(['.', '['])).filter(|step| !step.is_empty()) {
        let index = step.strip_suffix(']').and_then(|digits| digits.parse().ok());
        path.push(index.map_or(Location::Key(step), Location::Index));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn body(error: &WireError, protocol: Protocol) -> Value {
        serde_json::from_slice(&error.body(protocol, 404)).expect("an error body is JSON")
    }

    #[test]
    fn the_openai_shape_names_the_param_and_the_code() {
        let error = WireError::request(Some("questions[2].choices".into()), "wrong").with_hint("do this");
        assert_eq!(
            body(&error, Protocol::OpenAi),
            json!({"error": {"message": "wrong; do this", "type": "invalid_request_error",
                "param": "questions[2].choices", "code": "request_invalid", "retry": false}})
        );
    }

    #[test]
    fn system_one_gets_the_place_as_a_path() {
        let error = WireError::request(Some("questions.team.criteria[2]".into()), "wrong");
        assert_eq!(
            body(&error, Protocol::SystemOne)["detail"],
            json!([{"loc": ["body", "questions", "team", "criteria", 2], "msg": "wrong", "type": "request_invalid"}])
        );
    }

    #[test]
    fn what_failed_inside_is_not_told_to_callers() {
        let error = WireError::new(Code::StoreUnavailable, None, "cannot open /srv/secret.db");
        let told = body(&error, Protocol::OpenAi)["error"].clone();
        assert_eq!(told["message"], "the store is locked, full or unreachable");
        assert_eq!(told["type"], "server_error");
        assert_eq!(told["retry"], true);
    }

    #[test]
    fn every_code_has_a_family() {
        for facts in sizewise_contract::error::CODES {
            let told = body(&WireError::new(facts.code, None, "x"), Protocol::OpenAi);
            assert_eq!(told["error"]["code"], facts.name);
            assert!(
                told["error"]["type"].as_str().is_some_and(|name| name.ends_with("_error")),
                "{}",
                facts.name
            );
        }
    }
}
