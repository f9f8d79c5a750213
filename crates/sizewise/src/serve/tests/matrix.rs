//! Is every cell of routes × callers as promised?
//!
//! `cargo test -p sizewise --lib -- --nocapture every_route_answers` prints the matrix.

use super::{
    harness::{Behaviour, Keys, Reply, Running, call, start},
    *,
};
use routes::{Endpoint, Guard, ROUTES, Route};

/// What is done to a route.
#[derive(Clone, Copy, PartialEq)]
enum Case {
    NoKey,
    WrongKey,
    /// A key for other tasks and models.
    OtherTenant,
    /// A key whose role is not there for the route.
    WrongRole,
    /// A body above the limit.
    Oversize,
    /// A body of a kind that is not read.
    WrongType,
    /// A task that is not there.
    ForeignId,
}

const CASES: [(Case, &str); 7] = [
    (Case::NoKey, "no key"),
    (Case::WrongKey, "wrong key"),
    (Case::OtherTenant, "other tenant"),
    (Case::WrongRole, "wrong role"),
    (Case::Oversize, "oversize"),
    (Case::WrongType, "wrong type"),
    (Case::ForeignId, "foreign id"),
];

const MOST: usize = 4_096;

/// A request about `model` that the endpoint would answer.
fn body(endpoint: Endpoint, model: &str) -> String {
    match endpoint {
        Endpoint::Decisions => decisions_body(model),
        Endpoint::SystemOne => format!(
            r#"{{"model":"{model}","state":"x","questions":{{"team":{{"type":"choice","criteria":{{"billing":null,"delivery":null,"returns":null}}}}}}}}"#
        ),
        Endpoint::Chat | Endpoint::Messages => {
            format!(r#"{{"model":"{model}","max_tokens":9,"messages":[{{"role":"user","content":"x"}}]}}"#)
        }
        Endpoint::Responses | Endpoint::Embeddings => format!(r#"{{"model":"{model}","input":"x"}}"#),
        Endpoint::Decide => r#"{"input":"x"}"#.into(),
        Endpoint::Feedback => r#"{"decision":"d_1","label":"billing"}"#.into(),
        Endpoint::Generate | Endpoint::StreamGenerate => r#"{"contents":[{"parts":[{"text":"x"}]}]}"#.into(),
        _ => String::new(),
    }
}

fn ask(server: &Running, route: &Route, case: Case) -> Reply {
    let name = if case == Case::ForeignId { "elsewhere" } else { "support" };
    let path = route.path.replace("{task}", name).replace("{model}", name);
    let key = match case {
        Case::NoKey => "",
        Case::WrongKey => "authorization: Bearer wrong\r\n",
        Case::OtherTenant => "authorization: Bearer stranger\r\n",
        Case::WrongRole if route.guard == Guard::Watches => "authorization: Bearer caller\r\n",
        Case::WrongRole => "authorization: Bearer monitor\r\n",
        _ => "authorization: Bearer right\r\n",
    };
    let kind = if case == Case::WrongType { "content-type: application/xml\r\n" } else { "" };
    let body = match case {
        Case::Oversize => " ".repeat(MOST + 1),
        _ => body(route.endpoint, name),
    };
    call(server, route.method, &path, &format!("{key}{kind}"), &body)
}

/// What the table, the guards and the kind of the endpoint promise.
fn promised(route: &Route, case: Case) -> (u16, &'static str) {
    let names_a_task = route.path.contains('{') || route.method == "POST";
    // What is passed on goes to a provider; here is none.
    let passes_on = route.endpoint.may_relay() && route.endpoint != Endpoint::Chat;
    match case {
        // A body that nobody reads does no harm, but is not taken either.
        Case::Oversize => (413, "body_too_large"),
        _ if route.guard == Guard::Open => (200, ""),
        Case::NoKey => (401, "key_missing"),
        Case::WrongKey => (401, "key_invalid"),
        Case::WrongRole => (403, "not_allowed"),
        Case::WrongType if route.method == "POST" => (415, "media_unsupported"),
        Case::OtherTenant if route.guard == Guard::Watches => (403, "not_allowed"),
        _ if passes_on => (404, "unknown_route"),
        Case::OtherTenant | Case::ForeignId if names_a_task => (404, "unknown_task"),
        _ => (200, ""),
    }
}

#[test]
fn every_route_answers_every_caller_as_promised() {
    let settings = Settings { body_bytes: MOST, ..Settings::default() };
    let server = start(settings, Keys::One, Behaviour::Answers);
    let mut broken = Vec::new();
    println!("{:<51}{}", "", CASES.map(|(_, name)| format!("{name:<14}")).concat());
    for route in ROUTES {
        let mut line = format!("{:<5}{:<46}", route.method, route.path);
        for (case, name) in CASES {
            let reply = ask(&server, route, case);
            let (status, code) = promised(route, case);
            let told = if reply.status < 400 { String::new() } else { reply.error_code() };
            line.push_str(&format!("{:<14}", reply.status));
            if (reply.status, told.as_str()) != (status, code) {
                broken.push(format!("{} × {name}: {} {told}, not {status} {code}", route.path, reply.status));
            }
        }
        println!("{line}");
    }
    let cells = ROUTES.len() * CASES.len();
    println!("{} of {cells} cells as promised", cells - broken.len());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn what_is_not_theirs_is_not_there_in_any_list_or_hint() {
    let server = start(Settings::default(), Keys::One, Behaviour::Answers);
    let get = |path: &str| call(&server, "GET", path, "authorization: Bearer stranger\r\n", "");
    assert_eq!(get("/v1/models").json()["data"], json!([]));
    assert_eq!(get("/v1/tasks").json()["tasks"], json!([]));
    let close = get("/v1/tasks/supprt").body;
    assert!(!close.contains("support"), "{close}");
    assert_eq!(get("/v1/tasks/support").body.replace("support", "nothing"), get("/v1/tasks/nothing").body);
}
