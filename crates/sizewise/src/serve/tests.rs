//! Does the server as a whole, over a real socket, do what its parts promise?

mod harness;
mod limits;
mod matrix;
mod sign_in;
mod stopping;

use super::*;
use harness::{Behaviour, Keys, Reply, call, get, path_of, post, start};
use routes::{Guard, ROUTES};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const QUESTIONS: &str = r#"[{"type":"choice","name":"team","instructions":"?","choices":[{"value":"returns"},{"value":"billing"},{"value":"delivery"}]},{"type":"predicate","name":"urgent","instructions":"?"}]"#;

fn decisions_body(model: &str) -> String {
    format!(r#"{{"model":"{model}","input":"where is it","questions":{QUESTIONS}}}"#)
}

#[test]
fn every_route_that_is_not_open_asks_for_a_key_once_one_exists() {
    let server = start(Settings::default(), Keys::One, Behaviour::Answers);
    for route in ROUTES {
        let path = path_of(route, "support");
        let json = "content-type: application/json\r\n";
        let body = if path.ends_with("/login") { r#"{"key":"right"}"# } else { "{}" };
        let ask = |headers: &str| call(&server, route.method, &path, &format!("{json}{headers}"), body);
        let without = ask("");
        let wrong = ask("authorization: Bearer wrong\r\n");
        let right = ask("authorization: Bearer right\r\n");
        match route.guard {
            // Nobody signs in here at an identity provider.
            Guard::Open if path.contains("/api/sign") => {
                assert!([403, 404].contains(&without.status), "{path}")
            }
            Guard::Open => assert!([200, 308].contains(&without.status), "{path}"),
            _ => {
                assert_eq!((without.status, without.error_code()), (401, "key_missing".into()), "{path}");
                assert_eq!((wrong.status, wrong.error_code()), (401, "key_invalid".into()), "{path}");
                assert_eq!(without.header("www-authenticate"), Some("Bearer"), "{path}");
                assert_ne!(right.status, 401, "{path}");
            }
        }
        assert_eq!(ask("x-api-key: right\r\n").status, right.status);
    }
}

#[test]
fn the_openapi_document_has_every_route_and_no_other() {
    let document: Value = serde_json::from_str(endpoints::OPENAPI).expect("the document is JSON");
    let mut documented = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys().filter(|key| *key != "parameters") {
            documented.insert((method.to_uppercase(), path.clone()));
            let operation = &methods[method];
            assert!(operation["operationId"].is_string() && operation["summary"].is_string(), "{path}");
            let open = operation["security"] == json!([]);
            let route = ROUTES.iter().find(|route| route.path == path).expect("a route of the table");
            assert_eq!(open, route.guard == Guard::Open, "{path}");
        }
    }
    let routed = ROUTES.iter().map(|route| (route.method.to_owned(), route.path.to_owned())).collect();
    assert_eq!(documented, routed);
}

#[test]
fn every_reference_of_the_openapi_document_leads_somewhere() {
    let document: Value = serde_json::from_str(endpoints::OPENAPI).expect("the document is JSON");
    let mut open = vec![&document];
    let mut followed = 0;
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    let target = document.pointer(reference.trim_start_matches('#'));
                    assert!(target.is_some(), "{reference}");
                    followed += 1;
                }
                open.extend(map.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    assert!(followed > 20);
}

#[test]
fn every_header_about_decisions_is_documented_and_the_other_way_round() {
    let document: Value = serde_json::from_str(endpoints::OPENAPI).expect("the document is JSON");
    let documented: BTreeSet<&str> =
        document["components"]["headers"].as_object().expect("headers").keys().map(String::as_str).collect();
    let handed_on = crate::wire::testing::answered_remotely(0);
    let sent = crate::wire::headers::of(&[handed_on]).into_iter().map(|(name, _)| name).collect();
    assert_eq!(documented, sent);
}

#[test]
fn a_decision_says_in_its_headers_how_it_was_made() {
    let server = start(Settings::default(), Keys::None, Behaviour::Answers);
    let reply = post(&server, "/v1/decisions", &decisions_body("support"));
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.json()["answers"][0]["choice"], "delivery");
    for (name, value) in [
        ("content-type", "application/json"),
        ("x-sizewise-task", "support"),
        ("x-sizewise-certified", "true"),
        ("x-sizewise-tier", "static,static"),
        ("x-sizewise-confidence", "0.8750,0.9375"),
        ("x-sizewise-threshold", "0.7500,0.7500"),
        ("x-sizewise-decision-id", "d-1"),
        ("x-request-id", "d-1"),
        ("x-typesafe-request-id", "d-1"),
        ("x-sizewise-elapsed-us", "12"),
        ("x-sizewise-cost-micro-usd", "0"),
    ] {
        assert_eq!(reply.header(name), Some(value), "{name}");
    }
    assert_eq!(reply.header("x-sizewise-escalated"), None);
}

#[test]
fn every_reply_has_a_name_and_it_is_the_callers_where_that_is_one() {
    let server = start(Settings::default(), Keys::None, Behaviour::Answers);
    let ask = |headers: &str| {
        let reply = call(&server, "POST", "/v1/decisions", headers, &decisions_body("support"));
        reply.header("x-request-id").map(str::to_owned)
    };
    assert_eq!(ask("x-request-id: mine/7:b\r\n").as_deref(), Some("mine/7:b"));
    let long = format!("x-request-id: {}\r\n", "a".repeat(129));
    for odd in ["x-request-id: two words\r\n", "x-request-id: a\"b\r\n", "x-request-id:\r\n", &long] {
        assert_eq!(ask(odd).as_deref(), Some("d-1"), "{odd}");
    }
    let names: BTreeSet<String> = ["/healthz", "/nothing", "/v1/models", "/metrics"]
        .into_iter()
        .map(|path| get(&server, path).header("x-request-id").expect("a name").to_owned())
        .collect();
    assert!(
        names.len() == 4 && names.iter().all(|name| name.starts_with("r_") && name.len() == 18),
        "{names:?}"
    );
}

#[test]
fn every_protocol_says_in_its_own_way_that_nobody_is_sure_enough() {
    let server = start(Settings::default(), Keys::None, Behaviour::Escalates);
    let reply = post(&server, "/v1/decisions", &decisions_body("support"));
    assert_eq!(reply.json()["answers"][0], json!({"type": "refusal", "name": "team"}));
    assert_eq!(reply.header("x-sizewise-escalated"), Some("below_threshold,-"));
    let body = r#"{"model":"support","state":"x","questions":{"team":{"type":"choice","criteria":{"billing":null,"delivery":null,"returns":null}}}}"#;
    let reply = post(&server, "/v1/systemone", body);
    assert_eq!(reply.json()["answers"]["team"]["type"], "refusal");
    let body = r#"{"model":"support","messages":[{"role":"user","content":"x"}]}"#;
    let reply = post(&server, "/v1/chat/completions", body);
    assert!(reply.json()["choices"][0]["message"]["refusal"].is_string());
    let reply = post(&server, "/v1/tasks/support/decide", r#"{"input":"x","questions":["team"]}"#);
    assert_eq!(reply.json()["answers"][0]["disposition"]["is"], "escalated");
    let text = get(&server, "/metrics").body;
    let counted = r#"sizewise_answers_total{task="support",tier="static",disposition="below_threshold"} 4"#;
    assert!(text.lines().any(|line| line == counted), "{text}");
}

#[test]
fn a_stream_is_sent_as_events() {
    let server = start(Settings::default(), Keys::None, Behaviour::Answers);
    let body = r#"{"model":"support","messages":[{"role":"user","content":"x"}],"stream":true}"#;
    let reply = post(&server, "/v1/chat/completions", body);
    assert_eq!(reply.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(reply.header("x-sizewise-task"), Some("support"));
    assert!(reply.body.ends_with("data: [DONE]\n\n"));
}

#[test]
fn tasks_are_listed_as_models_and_as_tasks() {
    let server = start(Settings::default(), Keys::None, Behaviour::Answers);
    assert_eq!(get(&server, "/v1/models").json()["data"][0]["id"], "support");
    assert_eq!(get(&server, "/v1/models/support").json()["object"], "model");
    assert_eq!(get(&server, "/v1/tasks").json()["tasks"][0]["questions"][0]["values"][1], "delivery");
    assert_eq!(get(&server, "/v1/tasks/support").json()["name"], "support");
    assert_eq!(get(&server, "/v1/tasks/support/certificate").json()["certificates"], json!([]));
    for path in ["/v1/models/supprt", "/v1/tasks/supprt", "/v1/tasks/supprt/certificate"] {
        let reply = get(&server, path);
        assert_eq!((reply.status, reply.error_code()), (404, "unknown_task".into()), "{path}");
        let message = reply.json()["error"]["message"].clone();
        assert_eq!(message, "no task is called `supprt`; did you mean `support`?");
    }
}

#[test]
fn each_mistake_has_its_status_and_names_its_param() {
    let server = start(Settings::default(), Keys::None, Behaviour::Answers);
    let check = |reply: Reply, status: u16, code: &str, param: Value| {
        let error = reply.json()["error"].clone();
        assert_eq!(
            (reply.status, &error["code"], &error["param"]),
            (status, &json!(code), &param),
            "{}",
            reply.body
        );
    };
    check(post(&server, "/v1/decisions", &decisions_body("nobody")), 404, "unknown_task", json!("model"));
    check(post(&server, "/v1/decisions", "{"), 400, "request_invalid", Value::Null);
    check(post(&server, "/v1/decisions", ""), 400, "request_invalid", Value::Null);
    check(post(&server, "/v1/decisions", r#"{"model":7}"#), 400, "request_invalid", json!("model"));
    let other = decisions_body("support").replace("billing", "sales");
    check(post(&server, "/v1/decisions", &other), 400, "unknown_question", json!("questions[0].choices"));
    check(
        post(&server, "/v1/tasks/support/decide", r#"{"inputs":["x","fails"]}"#),
        400,
        "input_invalid",
        json!("inputs[1]"),
    );
    check(get(&server, "/v2"), 404, "unknown_route", Value::Null);
    let wrong_method = get(&server, "/v1/decisions");
    assert_eq!(wrong_method.header("allow"), Some("POST"));
    check(wrong_method, 405, "method_not_allowed", Value::Null);
    let system_one = post(&server, "/v1/systemone", r#"{"model":"support","state":5,"questions":{}}"#);
    assert_eq!(system_one.json()["detail"][0]["loc"], json!(["body", "state"]));
    check(system_one, 400, "request_invalid", json!("state"));
}

#[test]
fn what_failed_inside_is_told_without_its_particulars() {
    let server = start(Settings::default(), Keys::None, Behaviour::Fails);
    let reply = post(&server, "/v1/decisions", &decisions_body("support"));
    assert_eq!(reply.status, 500);
    assert!(!reply.body.contains("secret"), "{}", reply.body);
}

#[test]
fn a_page_from_elsewhere_cannot_use_a_server_without_keys() {
    let server = start(Settings::default(), Keys::None, Behaviour::Answers);
    for headers in ["origin: https://evil.example\r\n", "origin: null\r\n"] {
        let reply = call(&server, "POST", "/v1/decisions", headers, &decisions_body("support"));
        assert_eq!((reply.status, reply.error_code()), (403, "origin_refused".into()), "{headers}");
        assert_eq!(reply.header("access-control-allow-origin"), None);
    }
    let rebound =
        harness::raw(&server, b"GET /v1/models HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n");
    assert_eq!(rebound.status, 403);
    let keyed = start(Settings::default(), Keys::One, Behaviour::Answers);
    let headers = "origin: https://desk.example\r\nx-api-key: right\r\n";
    assert_eq!(call(&keyed, "POST", "/v1/decisions", headers, &decisions_body("support")).status, 200);
}

#[test]
fn an_address_for_others_is_not_served_without_keys() {
    let settings = Settings { bind: ([0, 0, 0, 0], 0).into(), ..Settings::default() };
    let decider = Arc::new(harness::Fake::new(Behaviour::Answers));
    let error =
        Server::bind(settings.clone(), Arc::new(Keys::None), Arc::clone(&decider)).err().expect("no keys");
    assert_eq!(error.code(), Code::KeysNeeded);
    assert!(Server::bind(settings, Arc::new(Keys::One), decider).is_ok());
}

#[test]
fn an_address_that_is_taken_is_named() {
    let server = start(Settings::default(), Keys::None, Behaviour::Answers);
    let settings = Settings { bind: server.address, ..Settings::default() };
    let decider = Arc::new(harness::Fake::new(Behaviour::Answers));
    let error = Server::bind(settings, Arc::new(Keys::None), decider).err().expect("taken");
    assert_eq!(error.code(), Code::AddressUnavailable);
    assert!(error.to_string().contains(&server.address.to_string()));
}

/// Whatever some request may need is part of every request's future, which is moved several times.
#[test]
fn a_request_takes_little_room_while_it_is_answered() {
    fn bytes<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }
    let bytes = bytes(super::Serving::<sizewise_engine::Engine>::answer);
    assert!(bytes <= 6_144, "{bytes}");
}
