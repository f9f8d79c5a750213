//! How does the TypeSafe System One protocol ask a task, and what is it told?
//!
//! `POST /v1/systemone`. The reference is the public `typesafe-sdk` Python package. `model` names the task; `state` is
//! a text, an array of texts, or an object whose keys are the task's fields.
//!
//! The protocol has no word for "nobody is sure enough". Its client skips answers of a `type` that it does not know and
//! parses the rest, so such a question is answered `{"type": "refusal", "reason": …}`: it is absent from the client's
//! `choices`, `nouls` and `scores`, and cannot be mistaken for an answer. Probabilities with a low confidence would parse
//! as well, but a program that reads `.choice` alone would act on them.

use super::{
    asked::{self, Asked, Placed, Plan},
    decisions::{expected_level, probability_of_yes},
    error::WireError,
    input::{Field, Input},
    json::{self, AtMost, Pairs, Text},
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{
        IgnoredAny, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};
use sizewise_contract::{
    Answer, Decision, Disposition, Question as TaskQuestion, QuestionKind, Task, limits,
};
use sizewise_engine::InputValue;
use std::{borrow::Cow, fmt};

/// The body of a request.
#[derive(Debug, Deserialize)]
pub struct Request<'a> {
    /// Names the task.
    #[serde(borrow)]
    pub model: Text<'a>,
    #[serde(borrow)]
    state: Input<'a>,
    #[serde(borrow)]
    questions: Pairs<'a, Question<'a>, { limits::QUESTIONS }>,
    #[serde(default)]
    assets: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Question<'a> {
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(borrow, default)]
    instructions: Option<Input<'a>>,
    #[serde(borrow, default)]
    criteria: Option<Criteria<'a>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Noul,
    Choice,
    Score,
}

/// What the answers of a question stand for: options by name, or levels in order.
#[derive(Debug)]
enum Criteria<'a> {
    Options(Pairs<'a, IgnoredAny, { limits::CHOICES }>),
    Levels(AtMost<Field<'a>, { *limits::SCORE_LEVELS.end() }>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Criteria<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CriteriaVisitor;
        impl<'de> Visitor<'de> for CriteriaVisitor {
            type Value = Criteria<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of options or an array of levels")
            }

            fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Criteria<'de>, A::Error> {
                Pairs::deserialize(MapAccessDeserializer::new(entries)).map(Criteria::Options)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Criteria<'de>, A::Error> {
                AtMost::deserialize(SeqAccessDeserializer::new(items)).map(Criteria::Levels)
            }
        }
        deserializer.deserialize_any(CriteriaVisitor)
    }
}

impl<'a> Request<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// Names the field that is not of the protocol's shape.
    pub fn read(body: &'a [u8]) -> Result<Self, WireError> {
        let request: Self = json::read(body)?;
        if request.assets.is_some() {
            return Err(WireError::request(Some("assets".into()), "images cannot be read by this task"));
        }
        if request.questions.0.is_empty() {
            return Err(WireError::request(Some("questions".into()), "at least one question is needed"));
        }
        Ok(request)
    }

    /// What the task has to read.
    ///
    /// # Errors
    /// Names the part of `state` that cannot be read.
    pub fn input(&self, task: &Task) -> Result<InputValue, WireError> {
        self.state.clone().read(task, "state")
    }

    /// Matches the questions to those of the task.
    ///
    /// # Errors
    /// Fails on the first question that is malformed or that the task does not ask.
    pub fn plan(&self, task: &Task) -> Result<Plan, WireError> {
        let asked: Result<Vec<Asked<'_>>, WireError> = self
            .questions
            .0
            .iter()
            .map(|(id, question)| question.asked(id, task).map_err(|error| error.within(id)))
            .collect();
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
            .filter_map(|((id, question), placed)| {
                let answer = decision.answers.get(placed.answer)?;
                let asked = task.questions.iter().find(|asked| asked.name == answer.question)?;
                Some((&**id, WireAnswer::of(question, asked, placed, answer)))
            })
            .collect();
        let response = Response {
            model: &task.name,
            answers: Object(answers),
            usage: Usage { input_tokens: decision.input_tokens, output_tokens: 0 },
        };
        // Strings and finite numbers always have a JSON form.
        serde_json::to_vec(&response).unwrap_or_default()
    }
}

/// What is wrong with a question, before its place is known.
struct Malformed {
    field: &'static str,
    message: String,
}

impl Malformed {
    fn within(self, id: &str) -> WireError {
        WireError::request(Some(format!("questions.{id}.{}", self.field)), self.message)
    }
}

impl Question<'_> {
    fn asked<'q>(&'q self, id: &'q str, task: &Task) -> Result<Asked<'q>, Malformed> {
        let wrong = |message: &str| Err(Malformed { field: "criteria", message: message.to_owned() });
        let (kind, values) = match (self.kind, &self.criteria) {
            (Kind::Noul, None | Some(Criteria::Options(_))) => (QuestionKind::Predicate, Vec::new()),
            (Kind::Noul, Some(Criteria::Levels(_))) => {
                return wrong("expected an object with `true` and `false`");
            }
            (Kind::Choice, Some(Criteria::Options(options))) => {
                (QuestionKind::Choice, options.0.iter().map(|(value, _)| value.0.clone()).collect())
            }
            (Kind::Choice, Some(Criteria::Levels(_))) => return wrong("expected an object of options"),
            (Kind::Score, Some(Criteria::Levels(levels))) => {
                (QuestionKind::Score, level_labels(&levels.0, task)?)
            }
            (Kind::Score, Some(Criteria::Options(_))) => return wrong("expected an array of levels"),
            (Kind::Choice | Kind::Score, None) => return wrong("missing field `criteria`"),
        };
        let instructions = match &self.instructions {
            Some(Input::Text(text)) => Some(&**text),
            _ => None,
        };
        let place = format!("questions.{id}");
        Ok(Asked { name: Some(id), instructions, kind, values, place, values_field: "criteria" })
    }
}

/// The label of each level; this protocol only has descriptions, so a level may also be named by its description.
fn level_labels<'q>(levels: &'q [Field<'_>], task: &Task) -> Result<Vec<Cow<'q, str>>, Malformed> {
    levels
        .iter()
        .map(|level| {
            let Field::Text(text) = level else {
                let message =
                    "a level that is not a text cannot be matched to a level of the task".to_owned();
                return Err(Malformed { field: "criteria", message });
            };
            let known = task.questions.iter().flat_map(|question| &question.levels);
            let described = known.clone().find(|known| known.description == **text);
            Ok(match described {
                Some(known) if !task.questions.iter().flat_map(|q| &q.levels).any(|k| k.label == **text) => {
                    Cow::Owned(known.label.clone())
                }
                _ => Cow::Borrowed(&**text),
            })
        })
        .collect()
}

#[derive(Serialize)]
struct Response<'a> {
    model: &'a str,
    answers: Object<&'a str, WireAnswer<'a>>,
    usage: Usage,
}

#[derive(Serialize)]
struct Usage {
    input_tokens: u64,
    output_tokens: u64,
}

/// Pairs, written as an object in their order.
struct Object<K, V>(Vec<(K, V)>);

impl<K: Serialize, V: Serialize> Serialize for Object<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireAnswer<'a> {
    Noul { noul: f64 },
    Choice { choice: &'a str, confidence: f64, probabilities: Object<&'a str, f32> },
    Score { score: f64, confidence: f64, legend: Object<usize, &'a str>, probabilities: Object<usize, f32> },
    Refusal { reason: &'static str },
}

impl<'a> WireAnswer<'a> {
    fn of(question: &'a Question<'a>, asked: &TaskQuestion, placed: &Placed, answer: &'a Answer) -> Self {
        if let Disposition::Escalated { reason, .. } = answer.disposition {
            return Self::Refusal { reason: reason.name() };
        }
        let in_order = placed.in_order(&answer.probabilities);
        match (asked.kind, &question.criteria) {
            (QuestionKind::Choice, Some(Criteria::Options(options))) => Self::Choice {
                choice: &answer.value,
                confidence: answer.stated_confidence(),
                probabilities: Object(options.0.iter().map(|(value, _)| &**value).zip(in_order).collect()),
            },
            (QuestionKind::Score, Some(Criteria::Levels(levels))) => Self::Score {
                score: expected_level(placed, answer),
                confidence: answer.stated_confidence(),
                legend: Object(
                    levels
                        .0
                        .iter()
                        .map(|level| match level {
                            Field::Text(text) => &**text,
                            _ => "",
                        })
                        .enumerate()
                        .collect(),
                ),
                probabilities: Object(in_order.enumerate().collect()),
            },
            _ => Self::Noul { noul: probability_of_yes(answer) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{escalated, support_decision, support_task};
    use serde_json::{Value, json};

    const BODY: &str = r#"{"model":"support","state":{"message":"where is it"},"questions":{
        "mood":{"type":"score","instructions":"?","criteria":["calm","cross","Shouts"]},
        "urgent":{"type":"noul","instructions":"?","criteria":{"true":"harm","false":null}},
        "dept":{"type":"choice","criteria":{"returns":null,"billing":"Invoices","delivery":{"a":1}}}}}"#;

    fn answer(decision: &Decision) -> Value {
        let task = support_task();
        let request = Request::read(BODY.as_bytes()).expect("valid");
        let plan = request.plan(&task).expect("fits");
        let mut ordered = decision.clone();
        let order = plan.questions.clone().expect("another order than the task's");
        ordered.answers = order.iter().map(|asked| decision.answers[asked.0].clone()).collect();
        serde_json::from_slice(&request.answer(&task, &plan, &ordered)).expect("JSON")
    }

    #[test]
    fn answers_are_keyed_and_ordered_as_asked() {
        let answer = answer(&support_decision());
        assert_eq!(
            answer,
            json!({
                "model": "support",
                "answers": {
                    "mood": {"type": "score", "score": 1.0, "confidence": 0.75,
                        "legend": {"0": "calm", "1": "cross", "2": "Shouts"},
                        "probabilities": {"0": 0.25, "1": 0.5, "2": 0.25}},
                    "urgent": {"type": "noul", "noul": 0.0625},
                    "dept": {"type": "choice", "choice": "delivery", "confidence": 0.875,
                        "probabilities": {"returns": 0.125, "billing": 0.25, "delivery": 0.625}},
                },
                "usage": {"input_tokens": 7, "output_tokens": 0},
            })
        );
        let keys: Vec<&String> = answer["answers"].as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["mood", "urgent", "dept"]);
    }

    #[test]
    fn an_escalated_question_has_a_type_that_the_client_skips() {
        let answer = answer(&escalated(1));
        assert_eq!(answer["answers"]["urgent"], json!({"type": "refusal", "reason": "below_threshold"}));
        assert_eq!(answer["answers"]["dept"]["choice"], "delivery");
    }

    #[test]
    fn each_mistake_names_its_param() {
        let task = support_task();
        let with = |questions: &str| format!(r#"{{"model":"support","state":"x","questions":{questions}}}"#);
        for (body, param, message) in [
            (with("{}"), "questions", "at least one question is needed"),
            (with("[]"), "questions", "invalid type: sequence, expected an object"),
            (
                with(r#"{"a":{"type":"box"}}"#),
                "questions.a.type",
                "unknown variant `box`, expected one of `noul`, `choice`, `score`",
            ),
            (with(r#"{"a":{"type":"choice"}}"#), "questions.a.criteria", "missing field `criteria`"),
            (
                with(r#"{"a":{"type":"choice","criteria":["x"]}}"#),
                "questions.a.criteria",
                "expected an object of options",
            ),
            (
                with(r#"{"a":{"type":"score","criteria":{"x":null}}}"#),
                "questions.a.criteria",
                "expected an array of levels",
            ),
            (
                with(r#"{"a":{"type":"score","criteria":[{"x":1}]}}"#),
                "questions.a.criteria",
                "a level that is not a text cannot be matched to a level of the task",
            ),
            (
                with(r#"{"urgent":{"type":"noul"}},"assets":{}"#),
                "assets",
                "images cannot be read by this task",
            ),
            (
                with(r#"{"angry":{"type":"noul"}}"#),
                "questions.angry",
                "task `support` has no predicate `angry` with these values",
            ),
            (r#"{"model":"support","questions":{}}"#.to_owned(), "state", "missing field `state`"),
        ] {
            let error = match Request::read(body.as_bytes()) {
                Err(error) => error,
                Ok(request) => request.plan(&task).expect_err(&body),
            };
            assert_eq!((error.param(), error.message()), (Some(param), message), "{body}");
        }
    }

    #[test]
    fn a_state_with_a_field_missing_is_refused_by_name() {
        let body = r#"{"model":"support","state":{"text":"x"},"questions":{"urgent":{"type":"noul"}}}"#;
        let error =
            Request::read(body.as_bytes()).expect("valid").input(&support_task()).expect_err("no field");
        assert_eq!(error.param(), Some("state.message"));
    }
}
