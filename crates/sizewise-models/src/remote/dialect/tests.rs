//! Do requests and replies of every dialect say what was meant? The replies follow the providers' public references.

#![allow(clippy::unwrap_used, reason = "a test")]

use super::*;
use serde_json::json;

fn ask(schema: &Value) -> Ask<'_> {
    static MESSAGES: std::sync::LazyLock<Vec<(&'static str, String)>> = std::sync::LazyLock::new(|| {
        vec![("system", "label".into()), ("user", "where is it".into()), ("assistant", "?".into())]
    });
    Ask { model: "m", messages: &MESSAGES, schema, typed: &[], most_tokens: 9 }
}

fn heard(dialect: Dialect, status: u16, body: &str) -> Result<Reply, (Trouble, u8)> {
    let body = Some(body.as_bytes());
    dialect.read(Heard { status, request: None, retry_after: Some("7"), body }, &[])
}

#[test]
fn every_dialect_carries_question_schema_limit_and_key_in_its_own_way() {
    let schema = json!({"type": "object"});
    let openai = Dialect::OpenAi.body(&ask(&schema), 0);
    assert_eq!(openai["response_format"]["json_schema"]["schema"], schema);
    assert_eq!((&openai["max_tokens"], &openai["messages"][0]["role"]), (&json!(9), &json!("system")));
    let anthropic = Dialect::Anthropic.body(&ask(&schema), 0);
    assert_eq!((&anthropic["system"], &anthropic["tools"][0]["input_schema"]), (&json!("label"), &schema));
    assert_eq!(anthropic["messages"][0], json!({"role": "user", "content": "where is it"}));
    let gemini = Dialect::Gemini.body(&ask(&schema), 0);
    assert_eq!(gemini["generationConfig"]["responseJsonSchema"], schema);
    assert_eq!(gemini["contents"][1]["role"], "model");
    for (dialect, header) in [
        (Dialect::OpenAi, ("authorization", "Bearer k".to_owned())),
        (Dialect::Anthropic, ("x-api-key", "k".to_owned())),
        (Dialect::Gemini, ("x-goog-api-key", "k".to_owned())),
    ] {
        assert!(dialect.headers(Some("k")).contains(&header), "{dialect:?}");
    }
    assert_eq!(Dialect::Gemini.path("g-1"), "/models/g-1:generateContent");
}

#[test]
fn every_dialect_says_what_the_model_said_and_what_it_took() {
    let stored = [
        (
            Dialect::OpenAi,
            r#"{"id":"r","model":"m-1","choices":[{"message":{"content":"{\"team\":\"a\"}"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#,
        ),
        (
            Dialect::Anthropic,
            r#"{"id":"r","type":"message","model":"m-1","content":[{"type":"tool_use","id":"t","name":"answer","input":{"team":"a"}}],"stop_reason":"tool_use","usage":{"input_tokens":5,"cache_read_input_tokens":2,"output_tokens":3}}"#,
        ),
        (
            Dialect::Gemini,
            r#"{"responseId":"r","modelVersion":"m-1","candidates":[{"content":{"role":"model","parts":[{"text":"hm","thought":true},{"text":"{\"team\":\"a\"}"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":1,"thoughtsTokenCount":2}}"#,
        ),
    ];
    for (dialect, body) in stored {
        let reply = heard(dialect, 200, body).unwrap();
        let said: Value = serde_json::from_str(&reply.content).unwrap();
        assert_eq!(said, json!({"team": "a"}), "{dialect:?}");
        assert_eq!(reply.usage, Some(Usage { read: 7, written: 3 }), "{dialect:?}");
        assert_eq!((reply.model.as_deref(), reply.request.as_deref()), (Some("m-1"), Some("r")));
        assert!(!reply.cut_off);
    }
}

#[test]
fn a_response_is_asked_for_and_read_as_its_protocol_has_it() {
    let schema = json!({"type": "object"});
    let body = Dialect::Responses.body(&ask(&schema), 0);
    assert_eq!(body["text"]["format"]["schema"], schema);
    assert_eq!((&body["store"], &body["max_output_tokens"]), (&json!(false), &json!(9)));
    assert_eq!(body["input"][1], json!({"role": "user", "content": "where is it"}));
    let stored = r#"{"id":"r","object":"response","status":"completed","model":"m-1","output":[{"type":"reasoning","id":"x","summary":[]},{"type":"message","role":"assistant","content":[{"type":"output_text","text":"{\"team\":\"a\"}","annotations":[]}]}],"usage":{"input_tokens":7,"output_tokens":3,"total_tokens":10}}"#;
    let reply = heard(Dialect::Responses, 200, stored).unwrap();
    assert_eq!((reply.content.as_str(), reply.cut_off), (r#"{"team":"a"}"#, false));
    assert_eq!(reply.usage, Some(Usage { read: 7, written: 3 }));
    let cut = heard(Dialect::Responses, 200, &stored.replace("completed", "incomplete")).unwrap();
    assert!(cut.cut_off);
    assert!(heard(Dialect::Responses, 200, &stored.replace("completed", "failed")).is_err());
}

#[test]
fn typed_questions_are_asked_as_they_are_and_their_answers_become_labels() {
    let task = sizewise_contract::Task::parse(
        "schema = 1\nname = \"desk\"\n[[question]]\nname = \"team\"\ntype = \"choice\"\ninstructions = \"Which team?\"\nchoices = [{ value = \"billing\", description = \"Invoices\" }, { value = \"delivery\" }]\nout_of_scope_label = \"none\"\n[[question]]\nname = \"urgent\"\ntype = \"predicate\"\nlabels = { yes = \"ja\", no = \"nein\" }\n[[question]]\nname = \"mood\"\ntype = \"score\"\nlevels = [{ label = \"bad\" }, { label = \"fair\" }, { label = \"good\" }]\n",
    )
    .unwrap();
    let questions: Vec<_> = task.questions.iter().collect();
    let typed = crate::remote::questions::typed(&questions);
    let schema = json!({});
    let ask = Ask { typed: &typed, ..ask(&schema) };
    let body = Dialect::Decisions.body(&ask, 0);
    assert_eq!(body["input"], "where is it");
    assert_eq!(
        body["questions"][0],
        json!({"type": "choice", "name": "team", "instructions": "Which team?", "choices": [
            {"value": "billing", "description": "Invoices"}, {"value": "delivery"}, {"value": "none", "description": "none of the others fits"}]})
    );
    assert_eq!(body["questions"][2]["levels"][1], json!({"label": "fair"}));
    let said = |dialect: Dialect, body: &str| {
        let heard = Heard { status: 200, request: None, retry_after: None, body: Some(body.as_bytes()) };
        let reply = dialect.read(heard, &typed).unwrap();
        serde_json::from_str::<Value>(&reply.content).unwrap()
    };
    let all = json!({"team": "none", "urgent": "ja", "mood": "good"});
    let stored = r#"{"model":"m","answers":[{"type":"choice","name":"team","choice":"none","confidence":0.9,"probabilities":[]},{"type":"predicate","name":"urgent","probability":0.7},{"type":"score","name":"mood","score":1.6,"confidence":0.6,"probabilities":[{"value":0,"label":"bad","probability":0.1},{"value":1,"label":"fair","probability":0.2},{"value":2,"label":"good","probability":0.7}]}],"usage":{"input_tokens":7,"output_tokens":0,"total_tokens":7}}"#;
    assert_eq!(said(Dialect::Decisions, stored), all);
    let body = Dialect::SystemOne.body(&ask, 0);
    assert_eq!(body["state"], "where is it");
    assert_eq!(body["questions"]["urgent"], json!({"type": "noul", "instructions": "urgent"}));
    assert_eq!(body["questions"]["mood"]["criteria"], json!(["bad", "fair", "good"]));
    let stored = r#"{"model":"m","answers":{"team":{"type":"choice","choice":"none","confidence":0.9,"probabilities":{}},"urgent":{"type":"noul","noul":0.7},"mood":{"type":"score","score":1.6,"confidence":0.6,"legend":{},"probabilities":{"0":0.1,"2":0.7,"1":0.2}}},"usage":{"input_tokens":7,"output_tokens":0}}"#;
    assert_eq!(said(Dialect::SystemOne, stored), all);
    let refused = r#"{"model":"m","answers":{"team":{"type":"refusal","reason":"below_threshold"},"urgent":{"type":"noul","noul":0.2}}}"#;
    assert_eq!(said(Dialect::SystemOne, refused), json!({"urgent": "nein"}));
}

#[test]
fn what_breaks_off_or_holds_nothing_may_have_cost() {
    for dialect in [
        Dialect::OpenAi,
        Dialect::Anthropic,
        Dialect::Gemini,
        Dialect::Responses,
        Dialect::Decisions,
        Dialect::SystemOne,
    ] {
        let (trouble, _) = heard(dialect, 200, "{\"choices\"").unwrap_err();
        assert!(trouble.may_cost && trouble.then == Then::Later(None));
        let broken = Heard { status: 200, request: None, retry_after: None, body: None };
        assert!(dialect.read(broken, &[]).unwrap_err().0.may_cost);
    }
}

#[test]
fn every_status_says_what_can_be_done() {
    let then = |status, body: &str| heard(Dialect::OpenAi, status, body).unwrap_err().0.then;
    assert_eq!(then(429, ""), Then::Later(Some(Duration::from_secs(7))));
    assert_eq!(then(503, "<html>"), Then::Later(Some(Duration::from_secs(7))));
    assert_eq!(
        then(400, r#"{"error":{"code":"context_length_exceeded","message":"too long"}}"#),
        Then::NotThis
    );
    for status in [401, 402, 403, 404, 307, 418] {
        assert!(matches!(then(status, ""), Then::Never { .. }), "{status}");
    }
    let refused =
        |word: &str| heard(Dialect::OpenAi, 400, &format!(r#"{{"error":{{"message":"use {word}"}}}}"#));
    for (word, unknown) in [
        ("max_completion_tokens", NEW_LIMIT),
        ("no temperature", NO_TEMPERATURE),
        ("no response_format", NO_SCHEMA),
    ] {
        let (trouble, learnt) = refused(word).unwrap_err();
        assert_eq!((trouble.then, learnt), (Then::AtOnce, unknown), "{word}");
    }
    assert!(heard(Dialect::OpenAi, 504, "").unwrap_err().0.may_cost);
}

#[test]
fn waits_are_seconds_or_dates_and_never_endless() {
    assert_eq!(wait("2"), Some(Duration::from_secs(2)));
    assert_eq!(wait("99999"), Some(LONGEST_WAIT));
    assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
    assert_eq!((wait("soon"), wait("NaN")), (None, None));
    // Golden values from `date -u -d … +%s`.
    assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
    assert_eq!(date("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
}
