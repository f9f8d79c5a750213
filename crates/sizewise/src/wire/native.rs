//! How does our own protocol ask a task, and what is it told?
//!
//! `POST /v1/tasks/{task}/decide` with `{"input": …}` or `{"inputs": [ … ]}`, and `"questions": [ … ]` for some of them;
//! an input is a text or an object of fields. The reply is all that is known of each decision. `value` is null where the
//! question was escalated, so that nobody uses by accident what nobody is sure of; `suggestion` is always there.

use super::{
    asked::{describe, kind_name},
    error::WireError,
    input::Input,
    json::{self, AtMost, Text},
};
use serde::{Deserialize, Serialize};
use sizewise_contract::{
    Answer, Certificate, Code, Decision, Disposition, EscalationReason, QuestionKind, Task,
    answer::RemoteUse, did_you_mean, limits,
};
use sizewise_engine::{InputValue, QuestionRef, TaskInfo};

/// The body of a request.
#[derive(Debug, Deserialize)]
pub struct Request<'a> {
    #[serde(borrow, default)]
    input: Option<Input<'a>>,
    #[serde(borrow, default)]
    inputs: Option<AtMost<Input<'a>, { limits::INPUTS_PER_REQUEST }>>,
    #[serde(borrow, default)]
    questions: Option<AtMost<Text<'a>, { limits::QUESTIONS }>>,
}

/// What to ask the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What the task has to read.
    pub inputs: Vec<InputValue>,
    /// The questions to answer; none is all of them in order.
    pub questions: Option<Vec<QuestionRef>>,
    /// Whether the reply is a list.
    pub many: bool,
}

impl Plan {
    /// Where the request keeps one of its inputs.
    #[must_use]
    pub fn place(&self, position: usize) -> String {
        if self.many { format!("inputs[{position}]") } else { "input".to_owned() }
    }
}

impl<'a> Request<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// Names the field that is not of the protocol's shape.
    pub fn read(body: &'a [u8]) -> Result<Self, WireError> {
        json::read(body)
    }

    /// Turns the request into what the engine is asked.
    ///
    /// # Errors
    /// Names the input or question that the task cannot read or does not ask.
    pub fn plan(self, task: &Task) -> Result<Plan, WireError> {
        let questions = self.questions.map(|names| read_questions(&names.0, task)).transpose()?;
        let (inputs, many) = match (self.input, self.inputs) {
            (Some(input), None) => (vec![input.read(task, "input")?], false),
            (None, Some(inputs)) => {
                let read =
                    |(position, input): (usize, Input<'_>)| input.read(task, &format!("inputs[{position}]"));
                (inputs.0.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?, true)
            }
            (Some(_), Some(_)) => {
                return Err(WireError::request(
                    Some("inputs".into()),
                    "either `input` or `inputs`, not both",
                ));
            }
            (None, None) => {
                return Err(WireError::request(Some("input".into()), "missing field `input`"));
            }
        };
        if inputs.is_empty() {
            return Err(WireError::request(Some("inputs".into()), "at least one input is needed"));
        }
        Ok(Plan { inputs, questions, many })
    }
}

fn read_questions(names: &[Text<'_>], task: &Task) -> Result<Vec<QuestionRef>, WireError> {
    let mut refs: Vec<QuestionRef> = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let place = Some(format!("questions[{index}]"));
        let Some((position, _)) = task.question(name) else {
            let near = did_you_mean(name, task.questions.iter().map(|question| question.name.as_str()));
            let near = near.map_or(String::new(), |near| format!("did you mean `{near}`? "));
            let asks: Vec<String> = task.questions.iter().take(20).map(describe).collect();
            let written: String = name.chars().take(60).collect();
            return Err(WireError::new(
                Code::UnknownQuestion,
                place,
                format!("task `{}` has no question `{written}`", task.name),
            )
            .with_hint(format!("{near}it asks {}", asks.join(", "))));
        };
        if refs.contains(&QuestionRef(position)) {
            return Err(WireError::request(place, "the question stands twice"));
        }
        refs.push(QuestionRef(position));
    }
    match refs.is_empty() {
        true => Err(WireError::request(Some("questions".into()), "at least one question is needed")),
        false => Ok(refs),
    }
}

/// Writes the reply to a request.
#[must_use]
pub fn answer(task: &Task, plan: &Plan, decisions: &[Decision]) -> Vec<u8> {
    let decisions: Vec<WireDecision<'_>> =
        decisions.iter().map(|decision| WireDecision::of(task, decision)).collect();
    // Strings and finite numbers always have a JSON form.
    match decisions.as_slice() {
        [only] if !plan.many => serde_json::to_vec(only),
        _ => serde_json::to_vec(&Decisions { decisions: &decisions }),
    }
    .unwrap_or_default()
}

#[derive(Serialize)]
struct Decisions<'a> {
    decisions: &'a [WireDecision<'a>],
}

#[derive(Serialize)]
struct WireDecision<'a> {
    id: &'a str,
    task: &'a str,
    release: String,
    certified: bool,
    answers: Vec<WireAnswer<'a>>,
    elapsed_us: u64,
    cost_micro_usd: u64,
    input_tokens: u64,
}

#[derive(Serialize)]
struct WireAnswer<'a> {
    question: &'a str,
    #[serde(rename = "type")]
    kind: Option<&'static str>,
    value: Option<&'a str>,
    suggestion: &'a str,
    confidence: Option<f64>,
    threshold: Option<f64>,
    certified: bool,
    disposition: &'a Disposition,
    #[serde(skip_serializing_if = "Option::is_none")]
    handed_on: Option<EscalationReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<&'a RemoteUse>,
    tier: &'static str,
    probabilities: Vec<Probability<'a>>,
    path: &'a [sizewise_contract::Step],
}

#[derive(Serialize)]
struct Probability<'a> {
    value: &'a str,
    probability: f32,
}

impl<'a> WireDecision<'a> {
    fn of(task: &'a Task, decision: &'a Decision) -> Self {
        Self {
            id: &decision.id,
            task: &decision.task,
            release: decision.release.to_string(),
            certified: decision.certified,
            answers: decision.answers.iter().map(|answer| WireAnswer::of(task, answer)).collect(),
            elapsed_us: decision.elapsed_us,
            cost_micro_usd: decision.cost_micro_usd.0,
            input_tokens: decision.input_tokens,
        }
    }
}

impl<'a> WireAnswer<'a> {
    fn of(task: &'a Task, answer: &'a Answer) -> Self {
        let question = task.question(&answer.question).map(|(_, question)| question);
        let values = question.map_or(Vec::new(), |question| question.class_values());
        Self {
            question: &answer.question,
            kind: question.map(|question| kind_name(question.kind)),
            value: answer.answered().then_some(answer.value.as_str()),
            suggestion: &answer.value,
            confidence: answer.confidence,
            threshold: answer.threshold,
            certified: answer.certified,
            disposition: &answer.disposition,
            handed_on: answer.handed_on,
            remote: answer.remote.as_ref(),
            tier: answer.tier.name(),
            probabilities: values
                .into_iter()
                .zip(&answer.probabilities)
                .map(|(value, probability)| Probability { value, probability: *probability })
                .collect(),
            path: &answer.path,
        }
    }
}

/// Writes what is known of one task.
#[must_use]
pub fn task(info: &TaskInfo) -> Vec<u8> {
    serde_json::to_vec(&WireTask::of(info)).unwrap_or_default()
}

/// Writes what is known of all tasks.
#[must_use]
pub fn tasks(infos: &[TaskInfo]) -> Vec<u8> {
    serde_json::to_vec(&Tasks { tasks: infos.iter().map(WireTask::of).collect() }).unwrap_or_default()
}

/// Writes the certificates of one task.
#[must_use]
pub fn certificates(info: &TaskInfo) -> Vec<u8> {
    let certificates = Certificates {
        task: &info.task.name,
        release: info.release.to_string(),
        certified: info.certified,
        certificates: &info.certificates,
    };
    serde_json::to_vec(&certificates).unwrap_or_default()
}

#[derive(Serialize)]
struct Tasks<'a> {
    tasks: Vec<WireTask<'a>>,
}

#[derive(Serialize)]
struct WireTask<'a> {
    name: &'a str,
    release: String,
    contract: String,
    certified: bool,
    fields: &'a [String],
    questions: Vec<WireQuestion<'a>>,
    promise: sizewise_contract::task::Promise,
}

#[derive(Serialize)]
struct WireQuestion<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    instructions: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<&'a str>,
}

impl<'a> WireTask<'a> {
    fn of(info: &'a TaskInfo) -> Self {
        let task = &*info.task;
        let questions = task.questions.iter().map(|question| WireQuestion {
            name: &question.name,
            kind: kind_name(question.kind),
            instructions: &question.instructions,
            values: match question.kind {
                QuestionKind::Predicate => Vec::new(),
                QuestionKind::Choice | QuestionKind::Score => question.class_values(),
            },
        });
        Self {
            name: &task.name,
            release: info.release.to_string(),
            contract: task.contract_hash().to_string(),
            certified: info.certified,
            fields: &task.input.fields,
            questions: questions.collect(),
            promise: task.promise,
        }
    }
}

#[derive(Serialize)]
struct Certificates<'a> {
    task: &'a str,
    release: String,
    certified: bool,
    certificates: &'a [Certificate],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{escalated, support_decision, support_task};
    use serde_json::{Value, json};

    fn plan(body: &str) -> Result<Plan, (String, String)> {
        Request::read(body.as_bytes())
            .and_then(|request| request.plan(&support_task()))
            .map_err(|error| (error.param().unwrap_or_default().to_owned(), error.message().to_owned()))
    }

    #[test]
    fn one_or_many_inputs_and_some_questions_are_read() {
        let one = plan(r#"{"input":"x","questions":["urgent"]}"#).expect("valid");
        assert_eq!(one.questions, Some(vec![QuestionRef(1)]));
        assert!(!one.many);
        let many = plan(r#"{"inputs":["x",{"message":"y"}]}"#).expect("valid");
        assert_eq!(many.inputs.len(), 2);
        assert_eq!(many.place(1), "inputs[1]");
    }

    #[test]
    fn each_mistake_names_its_param() {
        for (body, param, message) in [
            ("{}", "input", "missing field `input`"),
            (r#"{"input":"x","inputs":["x"]}"#, "inputs", "either `input` or `inputs`, not both"),
            (r#"{"inputs":[]}"#, "inputs", "at least one input is needed"),
            (
                r#"{"inputs":["x",7]}"#,
                "inputs[1]",
                "invalid type: integer `7`, expected a string or an object of fields",
            ),
            (r#"{"inputs":["x",{"text":"y"}]}"#, "inputs[1].message", "the field is missing"),
            (
                r#"{"input":"x","questions":["urgency"]}"#,
                "questions[0]",
                "task `support` has no question `urgency`",
            ),
            (r#"{"input":"x","questions":["urgent","urgent"]}"#, "questions[1]", "the question stands twice"),
            (r#"{"input":"x","questions":[]}"#, "questions", "at least one question is needed"),
        ] {
            assert_eq!(plan(body), Err((param.to_owned(), message.to_owned())), "{body}");
        }
    }

    #[test]
    fn an_escalated_question_has_a_suggestion_and_no_value() {
        let plan = plan(r#"{"input":"x"}"#).expect("valid");
        let told: Value =
            serde_json::from_slice(&answer(&support_task(), &plan, &[escalated(0)])).expect("JSON");
        let team = &told["answers"][0];
        assert_eq!(team["value"], Value::Null);
        assert_eq!(team["suggestion"], "delivery");
        assert_eq!(
            team["disposition"],
            json!({"is": "escalated", "reason": "below_threshold", "to": "person"})
        );
        assert_eq!(told["answers"][1]["value"], "no");
        assert_eq!(told["answers"][1]["probabilities"][1]["value"], "yes");
    }

    #[test]
    fn many_inputs_get_a_list_even_of_one() {
        let plan = plan(r#"{"inputs":["x"]}"#).expect("valid");
        let told: Value =
            serde_json::from_slice(&answer(&support_task(), &plan, &[support_decision()])).expect("JSON");
        assert_eq!(told["decisions"][0]["id"], "d-1");
    }
}
