//! Does the Decisions protocol read what its clients send and say what they can read?

use super::*;
use crate::wire::testing::{escalated, support_decision, support_task};
use proptest::prelude::*;
use serde_json::json;

const QUESTIONS: &str = r#"[
    {"type":"choice","name":"team","instructions":"?","choices":[{"value":"returns"},{"value":"billing"},{"value":"delivery"}]},
    {"type":"predicate","instructions":[{"type":"input_text","text":"?"}]},
    {"type":"score","name":"mood","instructions":"?","levels":[{"label":"calm"},{"label":"cross"},{"label":"furious"}]}
]"#;

fn body(input: &str, questions: &str) -> String {
    format!(r#"{{"model":"support","input":{input},"questions":{questions},"prompt_cache_key":"x"}}"#)
}

fn failure(body: &str) -> (String, String) {
    let task = support_task();
    let error = match Request::read(body.as_bytes()) {
        Err(error) => error,
        Ok(request) => match request.input(&task) {
            Err(error) => error,
            Ok(_) => request.plan(&task).expect_err(body),
        },
    };
    (error.param().unwrap_or_default().to_owned(), error.message().to_owned())
}

#[test]
fn answers_come_in_the_order_and_values_of_the_request() {
    let task = support_task();
    let body = body("\"where is it\"", QUESTIONS);
    let request = Request::read(body.as_bytes()).expect("valid");
    assert_eq!(request.input(&task).expect("text"), InputValue::Text("where is it".into()));
    let plan = request.plan(&task).expect("fits");
    let answer: serde_json::Value =
        serde_json::from_slice(&request.answer(&task, &plan, &support_decision())).expect("JSON");
    assert_eq!(
        answer,
        json!({
            "model": "support",
            "answers": [
                {"type": "choice", "name": "team", "choice": "delivery", "confidence": 0.875, "probabilities": [
                    {"value": "returns", "probability": 0.125},
                    {"value": "billing", "probability": 0.25},
                    {"value": "delivery", "probability": 0.625},
                ]},
                {"type": "predicate", "name": null, "probability": 0.0625},
                {"type": "score", "name": "mood", "score": 1.0, "confidence": 0.75, "probabilities": [
                    {"value": 0, "label": "calm", "probability": 0.25},
                    {"value": 1, "label": "cross", "probability": 0.5},
                    {"value": 2, "label": "furious", "probability": 0.25},
                ]},
            ],
            "usage": {
                "input_tokens": 7,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": 0,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 7,
            },
        })
    );
}

#[test]
fn an_escalated_question_is_a_refusal_and_the_others_are_answered() {
    let task = support_task();
    let body = body("\"x\"", QUESTIONS);
    let request = Request::read(body.as_bytes()).expect("valid");
    let plan = request.plan(&task).expect("fits");
    let answer: serde_json::Value =
        serde_json::from_slice(&request.answer(&task, &plan, &escalated(0))).expect("JSON");
    assert_eq!(answer["answers"][0], json!({"type": "refusal", "name": "team"}));
    assert_eq!(answer["answers"][1]["type"], "predicate");
}

#[test]
fn boolean_values_stay_booleans() {
    let mut task = support_task();
    task.questions.truncate(1);
    let value =
        |value: &str| sizewise_contract::task::Choice { value: value.into(), description: String::new() };
    task.questions[0].choices = vec![value("false"), value("true")];
    let asked = r#"[{"type":"choice","instructions":"?","choices":[{"value":true},{"value":false}]}]"#;
    let body = body("\"x\"", asked);
    let request = Request::read(body.as_bytes()).expect("valid");
    let plan = request.plan(&task).expect("fits");
    let mut decision = support_decision();
    decision.answers.truncate(1);
    decision.answers[0].probabilities = vec![0.25, 0.75];
    decision.answers[0].value = "true".into();
    let answer: serde_json::Value =
        serde_json::from_slice(&request.answer(&task, &plan, &decision)).expect("JSON");
    assert_eq!(answer["answers"][0]["choice"], json!(true));
    assert_eq!(answer["answers"][0]["probabilities"][0], json!({"value": true, "probability": 0.75}));
    let both = self::body(
        "\"x\"",
        r#"[{"type":"choice","instructions":"?","choices":[{"value":true},{"value":"true"}]}]"#,
    );
    let request = Request::read(both.as_bytes()).expect("valid");
    assert!(request.plan(&task).is_err(), "`true` and \"true\" are two values, and the task has one of them");
}

#[test]
fn user_messages_are_joined_and_the_rest_is_left_aside() {
    let items = r#"[
        {"role":"system","content":"Answer billing, always."},
        {"role":"user","type":"message","content":"one"},
        {"role":"assistant","content":[{"type":"output_text","text":"?"}]},
        {"type":"function_call","call_id":"1","name":"f","arguments":"{}"},
        {"role":"user","content":[{"type":"input_text","text":"two"},{"type":"input_text","text":"three"}]}
    ]"#;
    let body = body(items, QUESTIONS);
    let request = Request::read(body.as_bytes()).expect("valid");
    assert_eq!(request.input(&support_task()).expect("text"), InputValue::Text("one\ntwo\nthree".into()));
}

#[test]
fn a_json_part_gives_the_fields() {
    let items = r#"[{"role":"user","content":[{"type":"input_json","data":{"message":"hi","x":1}}]}]"#;
    let body = body(items, QUESTIONS);
    let request = Request::read(body.as_bytes()).expect("valid");
    let fields = std::collections::BTreeMap::from([("message".to_owned(), "hi".to_owned())]);
    assert_eq!(request.input(&support_task()).expect("fields"), InputValue::Fields(fields));
}

#[test]
fn each_mistake_names_its_param() {
    let with_question = |question: &str| body("\"x\"", &format!("[{question}]"));
    let with_input = |input: &str| body(input, QUESTIONS);
    for (body, param, message) in [
        (r#"{"input":"x","questions":[]}"#.to_owned(), "model", "missing field `model`"),
        (body("\"x\"", "[]"), "questions", "at least one question is needed"),
        (
            with_question(r#"{"type":"rank"}"#),
            "questions[0].type",
            "unknown variant `rank`, expected one of `predicate`, `choice`, `score`",
        ),
        (
            with_question(r#"{"type":"choice","name":"team"}"#),
            "questions[0].choices",
            "missing field `choices`",
        ),
        (with_question(r#"{"type":"score","name":"mood"}"#), "questions[0].levels", "missing field `levels`"),
        (
            with_question(r#"{"type":"choice","choices":[{"value":1}]}"#),
            "questions[0].choices[0].value",
            "invalid type: integer `1`, expected a string or a boolean",
        ),
        (with_input("5"), "input", "invalid type: integer `5`, expected a string or an array"),
        (with_input("[]"), "input", "no user message carries text"),
        (with_input(r#"[{"role":"system","content":"x"}]"#), "input", "no user message carries text"),
        (
            with_input(r#"[{"role":"robot","content":"x"}]"#),
            "input[0].role",
            "expected `user`, `developer`, `system` or `assistant`",
        ),
        (with_input(r#"[{"role":"user"}]"#), "input[0].content", "missing field `content`"),
        (
            with_input(r#"[{"role":"user","content":[{"type":"input_image","image_url":"x"}]}]"#),
            "input[0].content[0]",
            "images cannot be read by this task",
        ),
        (
            with_input(r#"[{"role":"user","content":[{"type":"input_json","data":{"body":"x"}}]}]"#),
            "input[0].content[0].data.message",
            "the field is missing",
        ),
        (
            with_input(
                r#"[{"role":"user","content":[{"type":"input_text","text":"x"},{"type":"input_json","data":{}}]}]"#,
            ),
            "input[0].content[1].data",
            "JSON beside other text cannot be read as one input",
        ),
    ] {
        assert_eq!(failure(&body), (param.to_owned(), message.to_owned()), "{body}");
    }
}

proptest! {
    #[test]
    fn a_request_with_a_piece_cut_out_ends_in_an_answer_or_an_error(from in 0usize..700, length in 1usize..60) {
        let whole = body(r#"[{"role":"user","content":[{"type":"input_text","text":"x"}]}]"#, QUESTIONS);
        let mut bytes = whole.into_bytes();
        let from = from.min(bytes.len());
        let until = (from + length).min(bytes.len());
        bytes.drain(from..until);
        let task = support_task();
        if let Ok(request) = Request::read(&bytes) {
            let _ = request.input(&task);
            if let Ok(plan) = request.plan(&task) {
                let answer = request.answer(&task, &plan, &support_decision());
                prop_assert!(serde_json::from_slice::<serde_json::Value>(&answer).is_ok());
            }
        }
    }
}
