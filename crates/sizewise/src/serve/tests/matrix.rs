//! Is every cell of routes × callers as promised?
//!
//! `cargo test -p sizewise --lib -- --nocapture every_route_answers` prints the matrix.

use super::{
    harness::{Behaviour, Keys, Reply, Running, call, path_of, session, start},
    *,
};
use console::View;
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
    /// The session of a key that may do everything, from a page of this server.
    Session,
    /// The same, sent by a page from elsewhere.
    CrossSite,
    /// The same, sent by who knows what.
    NoOrigin,
    /// The session of a key that answers what waits for people.
    Reviewer,
}

const CASES: [(Case, &str); 11] = [
    (Case::NoKey, "no key"),
    (Case::WrongKey, "wrong key"),
    (Case::OtherTenant, "other tenant"),
    (Case::WrongRole, "wrong role"),
    (Case::Oversize, "oversize"),
    (Case::WrongType, "wrong type"),
    (Case::ForeignId, "foreign id"),
    (Case::Session, "session"),
    (Case::CrossSite, "cross site"),
    (Case::NoOrigin, "no origin"),
    (Case::Reviewer, "reviewer"),
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
        Endpoint::Console(view) => match view {
            View::Login => r#"{"key":"right"}"#,
            View::Try => r#"{"input":"x"}"#,
            View::Answer => r#"{"decision":"d","question":"urgent","answer":"yes"}"#,
            View::Switch => r#"{"release":"0123456789"}"#,
            View::JudgeKind => r#"{"do":"label","kind":1}"#,
            View::ActOnTrial => r#"{"do":"end"}"#,
            View::Erase => r#"{"by":"decision","whose":"d"}"#,
            View::CreateKey => r#"{"name":"x","rights":{"role":"operator"}}"#,
            View::Log | View::Verify | View::SignIn | View::Logout | View::RevokeKey => "{}",
            _ => "",
        }
        .into(),
        _ => String::new(),
    }
}

fn ask(server: &Running, route: &Route, case: Case) -> Reply {
    let name = if case == Case::ForeignId { "elsewhere" } else { "support" };
    let path = path_of(route, name);
    let own = "sec-fetch-site: same-origin\r\n";
    let key = match case {
        Case::NoKey => String::new(),
        Case::WrongKey => "authorization: Bearer wrong\r\n".into(),
        Case::OtherTenant => "authorization: Bearer stranger\r\n".into(),
        Case::WrongRole if route.guard == Guard::Watches => "authorization: Bearer caller\r\n".into(),
        Case::WrongRole => "authorization: Bearer monitor\r\n".into(),
        Case::Session => session(server, "right") + own,
        Case::CrossSite => {
            session(server, "right") + "sec-fetch-site: cross-site\r\norigin: https://evil.example\r\n"
        }
        Case::NoOrigin => session(server, "right"),
        Case::Reviewer => session(server, "reviewer") + own,
        _ => "authorization: Bearer right\r\n".into(),
    };
    let kind = match case {
        Case::WrongType => "content-type: application/xml\r\n",
        _ if route.method == "POST" => "content-type: application/json\r\n",
        _ => "",
    };
    let body = match case {
        Case::Oversize => " ".repeat(MOST + 1),
        _ => body(route.endpoint, name),
    };
    call(server, route.method, &path, &format!("{key}{kind}"), &body)
}

/// What the table, the guards and the kind of the endpoint promise.
fn promised(route: &Route, case: Case) -> (u16, &'static str) {
    let names_a_task = match route.endpoint {
        Endpoint::Console(_) => route.path.contains("{task}"),
        _ => route.path.contains('{') || route.method == "POST",
    };
    // What is passed on goes to a provider; here is none.
    let passes_on = route.endpoint.may_relay() && route.endpoint != Endpoint::Chat;
    let in_console = console::is_of_console(route);
    let reads = route.method == "GET";
    // What the console says to a request that is let in; its store is empty.
    let let_in = match route.endpoint {
        Endpoint::Console(View::Redirect) => (308, ""),
        Endpoint::Console(View::Answer) => (400, "input_invalid"),
        Endpoint::Console(View::Switch) => (404, "not_trained"),
        Endpoint::Console(View::RevokeKey | View::JudgeKind | View::ActOnTrial) => (400, "request_invalid"),
        _ => (200, ""),
    };
    match case {
        // A body that nobody reads does no harm, but is not taken either.
        Case::Oversize => (413, "body_too_large"),
        Case::WrongType if route.method == "POST" && route.guard == Guard::Open => (415, "media_unsupported"),
        Case::CrossSite if route.endpoint == Endpoint::Console(View::Login) => (403, "origin_refused"),
        // Nobody signs in here; who does not say that they are a page of this server is not told so much.
        Case::Session | Case::Reviewer if route.endpoint == Endpoint::Console(View::SignIn) => {
            (404, "unknown_route")
        }
        _ if route.endpoint == Endpoint::Console(View::SignIn) => (403, "origin_refused"),
        _ if route.endpoint == Endpoint::Console(View::SignedIn) => (404, "unknown_route"),
        Case::ForeignId if route.endpoint == Endpoint::Console(View::Asset) => (404, "unknown_route"),
        _ if route.guard == Guard::Open => let_in,
        // A session does nothing but in the console, and there from its own page.
        Case::Session | Case::CrossSite | Case::NoOrigin | Case::Reviewer if !reads && !in_console => {
            (401, "key_missing")
        }
        Case::CrossSite | Case::NoOrigin if !reads => (403, "origin_refused"),
        Case::Reviewer if !matches!(route.guard, Guard::Enters | Guard::Labels) => (403, "not_allowed"),
        Case::Session | Case::CrossSite | Case::NoOrigin | Case::Reviewer if passes_on => {
            (404, "unknown_route")
        }
        Case::Session | Case::CrossSite | Case::NoOrigin | Case::Reviewer => let_in,
        Case::NoKey => (401, "key_missing"),
        Case::WrongKey => (401, "key_invalid"),
        Case::WrongRole => (403, "not_allowed"),
        Case::WrongType if route.method == "POST" => (415, "media_unsupported"),
        Case::OtherTenant if matches!(route.guard, Guard::Watches | Guard::Labels | Guard::Runs) => {
            (403, "not_allowed")
        }
        _ if passes_on => (404, "unknown_route"),
        Case::OtherTenant | Case::ForeignId if names_a_task => (404, "unknown_task"),
        _ => let_in,
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
