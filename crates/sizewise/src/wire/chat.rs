//! How does a chat completion ask a task, and what is it told?
//!
//! `POST /v1/chat/completions`, for programs that already classify with a prompt. `model` names the task and the input is
//! the text of the last user message. System and developer messages, and the turns before, are data that cannot change
//! what the task asks; they are left aside. The reply is the value for a task with one question, and a JSON object for one
//! with several; under `response_format` it is a JSON object that satisfies the schema ([`schema`]). What nobody here is
//! sure of is a `refusal` with the reason; a schema that lets a property be null gets null for it instead.
//!
//! What cannot be done is refused by name: several completions, tools, token probabilities, anything but text.

pub mod reply;
pub mod schema;

use super::{
    error::WireError,
    json::{self, AtMost, Text, TextOrParts},
};
use schema::Shape;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use sizewise_contract::{Code, Task};
use sizewise_engine::{InputValue, QuestionRef};

/// Most messages, and most parts of one.
const MESSAGES: usize = 2_000;
/// Most tools that are counted before they are refused.
const TOOLS: usize = 1_000;

/// The body of a request. Sampling settings (`temperature`, `max_tokens`, …) change nothing here and are ignored.
#[derive(Debug, Deserialize)]
pub struct Request<'a> {
    /// Names the task.
    #[serde(borrow)]
    pub model: Text<'a>,
    #[serde(borrow)]
    messages: AtMost<Message<'a>, MESSAGES>,
    #[serde(borrow, default)]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    n: Option<u64>,
    #[serde(default)]
    tools: Option<AtMost<IgnoredAny, TOOLS>>,
    #[serde(default)]
    functions: Option<AtMost<IgnoredAny, TOOLS>>,
    #[serde(default)]
    logprobs: Option<bool>,
    #[serde(borrow, default)]
    modalities: Option<AtMost<Text<'a>, 10>>,
    #[serde(borrow, default)]
    user: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Text<'a>,
    #[serde(borrow, default)]
    content: Option<TextOrParts<'a, Part<'a>, MESSAGES>>,
}

#[derive(Debug, Deserialize)]
struct Part<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
struct ResponseFormat<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    json_schema: Option<NamedSchema<'a>>,
}

#[derive(Debug, Deserialize)]
struct NamedSchema<'a> {
    #[serde(borrow, default)]
    schema: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

/// What to ask the engine, and how to write the reply.
#[derive(Debug)]
pub struct Plan {
    /// What the task has to read.
    pub input: InputValue,
    /// The questions to answer; none is all of them in order.
    pub questions: Option<Vec<QuestionRef>>,
    /// The shape of the reply.
    pub shape: Shape,
    /// How it is sent.
    pub delivery: Delivery,
}

/// How a reply is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// As one JSON body.
    Whole,
    /// As server-sent events.
    Stream {
        /// Whether a last event tells the usage.
        usage: bool,
    },
}

impl<'a> Request<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// Names the field that is not of the protocol's shape, or asks for what a task cannot do.
    pub fn read(body: &'a [u8]) -> Result<Self, WireError> {
        let request: Self = json::read(body)?;
        request.refuse_what_no_task_does()?;
        Ok(request)
    }

    /// Whom the request is about: the end user, as the protocol has it.
    #[must_use]
    pub fn subject(&self) -> Option<String> {
        self.user.as_deref().map(str::trim).filter(|user| !user.is_empty()).map(str::to_owned)
    }

    /// Turns the request into what the engine is asked.
    ///
    /// # Errors
    /// Fails where no user message carries text, and where the task cannot satisfy the schema.
    pub fn plan(&self, task: &Task) -> Result<Plan, WireError> {
        let input = self.input()?;
        let shape = self.shape(task)?;
        let questions = shape.questions(task);
        let delivery = match (self.stream, &self.stream_options) {
            (Some(true), options) => {
                Delivery::Stream { usage: options.as_ref().is_some_and(|o| o.include_usage == Some(true)) }
            }
            _ => Delivery::Whole,
        };
        Ok(Plan { input, questions, shape, delivery })
    }

    fn refuse_what_no_task_does(&self) -> Result<(), WireError> {
        let refused = |param: &str, message: &str, hint: &str| {
            Err(WireError::request(Some(param.to_owned()), message).with_hint(hint))
        };
        if self.n.is_some_and(|n| n != 1) {
            return refused("n", "a task gives one answer", "leave `n` out");
        }
        if self.tools.as_ref().is_some_and(|tools| !tools.0.is_empty()) {
            return refused("tools", "a task calls no tools", "leave `tools` out");
        }
        if self.functions.as_ref().is_some_and(|functions| !functions.0.is_empty()) {
            return refused("functions", "a task calls no functions", "leave `functions` out");
        }
        if self.logprobs == Some(true) {
            return refused(
                "logprobs",
                "a task writes no tokens and has no token probabilities",
                "read the header x-sizewise-confidence, or ask /v1/decisions",
            );
        }
        if self.modalities.as_ref().is_some_and(|list| list.0.iter().any(|kind| &**kind != "text")) {
            return refused("modalities", "a task answers in text only", "leave `modalities` out");
        }
        Ok(())
    }

    fn input(&self) -> Result<InputValue, WireError> {
        let user = self.messages.0.iter().enumerate().rev().find(|(_, message)| &*message.role == "user");
        let Some((index, message)) = user else {
            return Err(WireError::new(
                Code::InputInvalid,
                Some("messages".into()),
                "there is no user message",
            ));
        };
        let place = format!("messages[{index}].content");
        match &message.content {
            Some(TextOrParts::Text(text)) => Ok(InputValue::Text(text.0.clone().into_owned())),
            Some(TextOrParts::Parts(parts)) => {
                let texts: Result<Vec<&str>, WireError> =
                    parts.iter().enumerate().map(|(i, part)| part.read(&format!("{place}[{i}]"))).collect();
                Ok(InputValue::Text(texts?.join("\n")))
            }
            None => Err(WireError::new(Code::InputInvalid, Some(place), "the user message has no content")),
        }
    }

    fn shape(&self, task: &Task) -> Result<Shape, WireError> {
        let Some(format) = &self.response_format else { return Ok(Shape::plain(task)) };
        match (&*format.kind, &format.json_schema) {
            ("text", _) => Ok(Shape::plain(task)),
            ("json_object", _) => Ok(Shape::object(task)),
            ("json_schema", Some(NamedSchema { schema: Some(schema) })) => {
                Shape::of_schema(schema.get(), task)
            }
            ("json_schema", Some(NamedSchema { schema: None })) => Ok(Shape::object(task)),
            ("json_schema", None) => Err(WireError::request(
                Some("response_format.json_schema".into()),
                "missing field `json_schema`",
            )),
            _ => Err(WireError::request(
                Some("response_format.type".into()),
                "expected `text`, `json_object` or `json_schema`",
            )),
        }
    }
}

impl Part<'_> {
    fn read(&self, place: &str) -> Result<&str, WireError> {
        match (&*self.kind, &self.text) {
            ("text", Some(text)) => Ok(text),
            ("text", None) => Err(WireError::request(Some(format!("{place}.text")), "missing field `text`")),
            ("image_url" | "input_audio" | "file", _) => Err(WireError::new(
                Code::InputInvalid,
                Some(place.to_owned()),
                "only text can be read by this task",
            )
            .with_hint("send text")),
            _ => Err(WireError::request(
                Some(format!("{place}.type")),
                "expected `text`, `image_url`, `input_audio` or `file`",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::support_task;

    fn plan(body: &str) -> Result<Plan, (String, String)> {
        Request::read(body.as_bytes())
            .and_then(|request| request.plan(&support_task()))
            .map_err(|error| (error.param().unwrap_or_default().to_owned(), error.message().to_owned()))
    }

    fn with(extra: &str) -> String {
        format!(r#"{{"model":"support","messages":[{{"role":"user","content":"hi"}}],{extra}}}"#)
    }

    #[test]
    fn whom_it_is_about_is_the_end_user_where_one_is_named() {
        let user = |user: &str| {
            let body = with(&format!("\"user\":{user}"));
            Request::read(body.as_bytes()).map(|request| request.subject())
        };
        assert_eq!(user("\" customer-17 \""), Ok(Some("customer-17".to_owned())));
        assert_eq!(user("\"\""), Ok(None));
        assert_eq!(user("null"), Ok(None));
        assert!(user("17").is_err());
    }

    #[test]
    fn the_last_user_message_is_the_input() {
        let body = r#"{"model":"support","temperature":0,"messages":[
            {"role":"system","content":"Say billing."},{"role":"user","content":"first"},
            {"role":"assistant","content":null,"tool_calls":[]},
            {"role":"user","content":[{"type":"text","text":"second"},{"type":"text","text":"part"}]},
            {"role":"developer","content":"Say returns."}]}"#;
        let plan = plan(body).expect("valid");
        assert_eq!(plan.input, InputValue::Text("second\npart".into()));
        assert_eq!(plan.questions, None);
        assert_eq!(plan.delivery, Delivery::Whole);
    }

    #[test]
    fn a_stream_is_asked_for_with_or_without_usage() {
        let delivery = |extra: &str| plan(&with(extra)).expect("valid").delivery;
        assert_eq!(delivery(r#""stream":true"#), Delivery::Stream { usage: false });
        assert_eq!(
            delivery(r#""stream":true,"stream_options":{"include_usage":true}"#),
            Delivery::Stream { usage: true }
        );
        assert_eq!(delivery(r#""stream":false,"stream_options":null"#), Delivery::Whole);
    }

    #[test]
    fn each_mistake_names_its_param() {
        let message = |message: &str| format!(r#"{{"model":"support","messages":[{message}]}}"#);
        for (body, param, problem) in [
            (r#"{"messages":[]}"#.to_owned(), "model", "missing field `model`"),
            (message(""), "messages", "there is no user message"),
            (message(r#"{"role":"user"}"#), "messages[0].content", "the user message has no content"),
            (message(r#"{"content":"x"}"#), "messages[0].role", "missing field `role`"),
            (
                message(r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}"#),
                "messages[0].content[0]",
                "only text can be read by this task",
            ),
            (
                message(r#"{"role":"user","content":[{"type":"text"}]}"#),
                "messages[0].content[0].text",
                "missing field `text`",
            ),
            (with(r#""n":2"#), "n", "a task gives one answer"),
            (with(r#""tools":[{"type":"function"}]"#), "tools", "a task calls no tools"),
            (with(r#""functions":[{}]"#), "functions", "a task calls no functions"),
            (
                with(r#""logprobs":true"#),
                "logprobs",
                "a task writes no tokens and has no token probabilities",
            ),
            (with(r#""modalities":["text","audio"]"#), "modalities", "a task answers in text only"),
            (with(r#""stream":"yes""#), "stream", "invalid type: string \"yes\", expected a boolean"),
            (
                with(r#""response_format":{"type":"xml"}"#),
                "response_format.type",
                "expected `text`, `json_object` or `json_schema`",
            ),
            (
                with(r#""response_format":{"type":"json_schema"}"#),
                "response_format.json_schema",
                "missing field `json_schema`",
            ),
        ] {
            assert_eq!(plan(&body).err(), Some((param.to_owned(), problem.to_owned())), "{body}");
        }
        assert!(plan(&with(r#""n":1,"tools":[],"logprobs":false,"modalities":["text"]"#)).is_ok());
    }
}
