//! How does the OpenAI Decisions protocol ask a task, and what is it told?
//!
//! `POST /v1/decisions`. The reference is the public `openai` Python package, resource `client.decisions`.
//! `model` names the task. The input is the string, or the texts of all user messages joined by a line end; a single
//! `input_json` part gives the task's fields. Messages of other roles and tool calls are context that no task was trained
//! on: they are read for their shape and otherwise left aside. What nobody here is sure of is a `refusal`.

use super::{
    asked::{self, Asked, Placed, Plan},
    error::WireError,
    input::Input,
    json::{self, AtMost, Text, TextOrParts},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, Visitor},
};
use sizewise_contract::{Answer, Code, Decision, Question as TaskQuestion, QuestionKind, Task, limits};
use sizewise_engine::InputValue;
use std::{borrow::Cow, fmt};

/// Most items of `input`, and most parts of one.
const ITEMS: usize = 2_000;

/// The body of a request.
#[derive(Debug, Deserialize)]
pub struct Request<'a> {
    /// Names the task.
    #[serde(borrow)]
    pub model: Text<'a>,
    #[serde(borrow)]
    input: TextOrParts<'a, Item<'a>, ITEMS>,
    #[serde(borrow)]
    questions: AtMost<Question<'a>, { limits::QUESTIONS }>,
}

#[derive(Debug, Deserialize)]
struct Item<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    role: Option<Text<'a>>,
    #[serde(borrow, default)]
    content: Option<TextOrParts<'a, Part<'a>, ITEMS>>,
}

#[derive(Debug, Deserialize)]
struct Part<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default)]
    data: Option<Input<'a>>,
}

#[derive(Debug, Deserialize)]
struct Question<'a> {
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    instructions: Option<TextOrParts<'a, IgnoredAny, ITEMS>>,
    #[serde(borrow, default)]
    choices: Option<AtMost<Choice<'a>, { limits::CHOICES }>>,
    #[serde(borrow, default)]
    levels: Option<AtMost<Level<'a>, { *limits::SCORE_LEVELS.end() }>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Predicate,
    Choice,
    Score,
}

#[derive(Debug, Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    value: Value<'a>,
}

#[derive(Debug, Deserialize)]
struct Level<'a> {
    #[serde(borrow)]
    label: Text<'a>,
}

/// A value of a choice; `"true"` and `true` are two values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Text(Cow<'a, str>),
    Bool(bool),
}

impl<'a> Value<'a> {
    /// The value as a task spells it.
    fn spelled(&self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => text.clone(),
            Self::Bool(true) => Cow::Borrowed("true"),
            Self::Bool(false) => Cow::Borrowed("false"),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;
        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = Value<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a boolean")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
                Ok(Value::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
                Ok(Value::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value<'de>, E> {
                Ok(Value::Bool(value))
            }
        }
        deserializer.deserialize_any(ValueVisitor)
    }
}

impl<'a> Request<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// Names the field that is not of the protocol's shape.
    pub fn read(body: &'a [u8]) -> Result<Self, WireError> {
        let request: Self = json::read(body)?;
        if request.questions.0.is_empty() {
            return Err(WireError::request(Some("questions".into()), "at least one question is needed"));
        }
        Ok(request)
    }

    /// What the task has to read.
    ///
    /// # Errors
    /// Fails on images, on unknown items, and where no user message carries text.
    pub fn input(&self, task: &Task) -> Result<InputValue, WireError> {
        match &self.input {
            TextOrParts::Text(text) => Ok(InputValue::Text(text.0.clone().into_owned())),
            TextOrParts::Parts(items) => read_items(items, task),
        }
    }

    /// Matches the questions to those of the task.
    ///
    /// # Errors
    /// Fails on the first question that is malformed or that the task does not ask.
    pub fn plan(&self, task: &Task) -> Result<Plan, WireError> {
        let asked: Result<Vec<Asked<'_>>, WireError> =
            self.questions.0.iter().enumerate().map(|(index, question)| question.asked(index)).collect();
        asked::plan(task, &asked?)
    }

    /// The body of the answer.
    #[must_use]
    pub fn answer(&self, task: &Task, plan: &Plan, decision: &Decision) -> Vec<u8> {
        let answers = self
            .questions
            .0
            .iter()
            .zip(&plan.placed)
            .filter_map(|(question, placed)| {
                let answer = decision.answers.get(placed.answer)?;
                let asked = task.questions.iter().find(|asked| asked.name == answer.question)?;
                Some(WireAnswer::of(question, asked, placed, answer))
            })
            .collect();
        let response = Response { model: &task.name, answers, usage: Usage::of(decision.input_tokens) };
        // Strings and finite numbers always have a JSON form.
        serde_json::to_vec(&response).unwrap_or_default()
    }
}

impl Question<'_> {
    fn asked(&self, index: usize) -> Result<Asked<'_>, WireError> {
        let place = format!("questions[{index}]");
        let missing = |field: &str| {
            Err(WireError::request(Some(format!("{place}.{field}")), format!("missing field `{field}`")))
        };
        let (kind, values, values_field) = match (self.kind, &self.choices, &self.levels) {
            (Kind::Predicate, _, _) => (QuestionKind::Predicate, Vec::new(), "choices"),
            (Kind::Choice, Some(choices), _) => {
                let values = choices.0.iter().map(|choice| choice.value.spelled()).collect();
                (QuestionKind::Choice, values, "choices")
            }
            (Kind::Score, _, Some(levels)) => {
                let values = levels.0.iter().map(|level| level.label.0.clone()).collect();
                (QuestionKind::Score, values, "levels")
            }
            (Kind::Choice, None, _) => return missing("choices"),
            (Kind::Score, _, None) => return missing("levels"),
        };
        let instructions = match &self.instructions {
            Some(TextOrParts::Text(text)) => Some(&**text),
            _ => None,
        };
        Ok(Asked { name: self.name.as_deref(), instructions, kind, values, place, values_field })
    }
}

fn read_items(items: &[Item<'_>], task: &Task) -> Result<InputValue, WireError> {
    let mut texts: Vec<&str> = Vec::new();
    let mut data: Option<(String, &Input<'_>)> = None;
    for (index, item) in items.iter().enumerate() {
        if !item.is_from_user(index)? {
            continue;
        }
        match &item.content {
            Some(TextOrParts::Text(text)) => texts.push(text),
            Some(TextOrParts::Parts(parts)) => {
                for (part_index, part) in parts.iter().enumerate() {
                    let place = format!("input[{index}].content[{part_index}]");
                    match part.read(&place)? {
                        Piece::Text(text) => texts.push(text),
                        Piece::Data(value) => {
                            if data.replace((format!("{place}.data"), value)).is_some() {
                                return Err(mixed(place));
                            }
                        }
                    }
                }
            }
            None => {
                let place = Some(format!("input[{index}].content"));
                return Err(WireError::request(place, "missing field `content`"));
            }
        }
    }
    match data {
        Some((place, _)) if !texts.is_empty() => Err(mixed(place)),
        Some((place, value)) => value.clone().read(task, &place),
        None if texts.is_empty() => {
            Err(WireError::new(Code::InputInvalid, Some("input".into()), "no user message carries text"))
        }
        None => Ok(InputValue::Text(texts.join("\n"))),
    }
}

fn mixed(place: String) -> WireError {
    WireError::new(Code::InputInvalid, Some(place), "JSON beside other text cannot be read as one input")
        .with_hint("send either text or one `input_json` part whose keys are the task's fields")
}

impl Item<'_> {
    fn is_from_user(&self, index: usize) -> Result<bool, WireError> {
        match (self.kind.as_deref().unwrap_or("message"), self.role.as_deref()) {
            ("message", Some("user")) => Ok(true),
            ("message", Some("system" | "developer" | "assistant"))
            | (
                "function_call" | "function_call_output" | "custom_tool_call" | "custom_tool_call_output",
                _,
            ) => Ok(false),
            ("message", _) => Err(WireError::request(
                Some(format!("input[{index}].role")),
                "expected `user`, `developer`, `system` or `assistant`",
            )),
            _ => Err(WireError::request(
                Some(format!("input[{index}].type")),
                "expected a message, a function call or output, or a custom tool call or output",
            )),
        }
    }
}

enum Piece<'p> {
    Text(&'p str),
    Data(&'p Input<'p>),
}

impl Part<'_> {
    fn read(&self, place: &str) -> Result<Piece<'_>, WireError> {
        match (&*self.kind, &self.text, &self.data) {
            ("input_text", Some(text), _) => Ok(Piece::Text(text)),
            ("input_text", None, _) => {
                Err(WireError::request(Some(format!("{place}.text")), "missing field `text`"))
            }
            ("input_json", _, Some(data)) => Ok(Piece::Data(data)),
            ("input_json", _, None) => {
                Err(WireError::request(Some(format!("{place}.data")), "missing field `data`"))
            }
            ("input_image", _, _) => Err(WireError::new(
                Code::InputInvalid,
                Some(place.to_owned()),
                "images cannot be read by this task",
            )
            .with_hint("send text")),
            _ => Err(WireError::request(
                Some(format!("{place}.type")),
                "expected `input_text`, `input_json` or `input_image`",
            )),
        }
    }
}

#[derive(Serialize)]
struct Response<'a> {
    model: &'a str,
    answers: Vec<WireAnswer<'a>>,
    usage: Usage,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireAnswer<'a> {
    Predicate {
        name: Option<&'a str>,
        probability: f64,
    },
    Choice {
        name: Option<&'a str>,
        choice: Cow<'a, Value<'a>>,
        confidence: f64,
        probabilities: Vec<ChoiceProbability<'a>>,
    },
    Score {
        name: Option<&'a str>,
        score: f64,
        confidence: f64,
        probabilities: Vec<LevelProbability<'a>>,
    },
    Refusal {
        name: Option<&'a str>,
    },
}

#[derive(Serialize)]
struct ChoiceProbability<'a> {
    value: &'a Value<'a>,
    probability: f32,
}

#[derive(Serialize)]
struct LevelProbability<'a> {
    value: usize,
    label: &'a str,
    probability: f32,
}

impl<'a> WireAnswer<'a> {
    fn of(question: &'a Question<'a>, asked: &TaskQuestion, placed: &Placed, answer: &'a Answer) -> Self {
        let name = question.name.as_deref();
        if !answer.answered() {
            return Self::Refusal { name };
        }
        match asked.kind {
            QuestionKind::Predicate => Self::Predicate { name, probability: probability_of_yes(answer) },
            QuestionKind::Choice => {
                let choices = question.choices.as_ref().map_or(&[][..], |choices| &choices.0);
                let chosen = placed.place_of(answer.class).and_then(|place| choices.get(place));
                Self::Choice {
                    name,
                    choice: chosen.map_or_else(
                        || Cow::Owned(Value::Text(Cow::Borrowed(&answer.value))),
                        |choice| Cow::Borrowed(&choice.value),
                    ),
                    confidence: answer.stated_confidence(),
                    probabilities: choices
                        .iter()
                        .zip(placed.in_order(&answer.probabilities))
                        .map(|(choice, probability)| ChoiceProbability { value: &choice.value, probability })
                        .collect(),
                }
            }
            QuestionKind::Score => {
                let levels = question.levels.as_ref().map_or(&[][..], |levels| &levels.0);
                Self::Score {
                    name,
                    score: expected_level(placed, answer),
                    confidence: answer.stated_confidence(),
                    probabilities: levels
                        .iter()
                        .zip(placed.in_order(&answer.probabilities))
                        .enumerate()
                        .map(|(value, (level, probability))| LevelProbability {
                            value,
                            label: &level.label,
                            probability,
                        })
                        .collect(),
                }
            }
        }
    }
}

/// The calibrated probability of yes: the confidence when the answer is yes, what is left of it when it is no.
pub(super) fn probability_of_yes(answer: &Answer) -> f64 {
    if answer.class == 1 { answer.stated_confidence() } else { 1.0 - answer.stated_confidence() }
}

/// The mean level under the probabilities, levels counted from 0 in the order of the request.
pub(super) fn expected_level(placed: &Placed, answer: &Answer) -> f64 {
    placed
        .in_order(&answer.probabilities)
        .enumerate()
        .map(|(level, probability)| level as f64 * f64::from(probability))
        .sum()
}

#[derive(Serialize)]
struct Usage {
    input_tokens: u64,
    input_tokens_details: InputTokens,
    output_tokens: u64,
    output_tokens_details: OutputTokens,
    total_tokens: u64,
}

#[derive(Serialize)]
struct InputTokens {
    cached_tokens: u64,
    cache_write_tokens: u64,
}

#[derive(Serialize)]
struct OutputTokens {
    reasoning_tokens: u64,
}

impl Usage {
    fn of(input_tokens: u64) -> Self {
        Self {
            input_tokens,
            input_tokens_details: InputTokens { cached_tokens: 0, cache_write_tokens: 0 },
            output_tokens: 0,
            output_tokens_details: OutputTokens { reasoning_tokens: 0 },
            total_tokens: input_tokens,
        }
    }
}

#[cfg(test)]
mod tests;
