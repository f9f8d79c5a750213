//! Does a program that calls a larger model through the server get an answer, or an honest error, whatever the provider does?
//!
//! The kinds of failure are those of the public FailoverBench suite, played by a provider of our own against the real server:
//! `cargo test -p sizewise --test failover -- --nocapture` prints a line for each.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod limits;
mod provider;
mod server;
mod traces;

use provider::Provider;
use server::{Heard, Server};
use std::time::{Duration, Instant};

/// A failure with what must come of it.
struct Scenario {
    name: &'static str,
    stream: bool,
    /// Whether another provider stands in for the first.
    stands_in: bool,
    /// Within which time.
    within: Duration,
    /// What must hold of the answer and of the calls to the first and second provider.
    holds: fn(&Heard, usize, usize) -> bool,
}

const SOON: Duration = Duration::from_millis(1_500);
const LATER: Duration = Duration::from_secs(7);

fn answered_by(heard: &Heard, who: &str) -> bool {
    heard.status == 200 && heard.body.contains(who) && !heard.body.contains("\"error\"")
}

fn complete_stream_by(heard: &Heard, who: &str) -> bool {
    answered_by(heard, who) && heard.body.trim_end().ends_with("data: [DONE]")
}

/// What had come before, then an error, and no mark of a good end.
fn broken_stream(heard: &Heard) -> bool {
    let last = heard.body.trim_end().lines().last().unwrap_or_default().to_owned();
    heard.status == 200
        && heard.body.contains("first ")
        && last.starts_with("data: {\"error\"")
        && !heard.body.contains("[DONE]")
}

const fn whole(
    name: &'static str,
    stands_in: bool,
    within: Duration,
    holds: fn(&Heard, usize, usize) -> bool,
) -> Scenario {
    Scenario { name, stream: false, stands_in, within, holds }
}

const fn stream(
    name: &'static str,
    stands_in: bool,
    within: Duration,
    holds: fn(&Heard, usize, usize) -> bool,
) -> Scenario {
    Scenario { name, stream: true, stands_in, within, holds }
}

/// The names are what the provider plays.
const SCENARIOS: [Scenario; 14] = [
    whole("429-retry-after", false, Duration::from_secs(3), |heard, first, _| {
        answered_by(heard, "first") && first == 2 && heard.elapsed >= Duration::from_secs(1)
    }),
    whole("429-lasting", true, SOON, |heard, _, second| answered_by(heard, "second") && second == 1),
    whole("500-once", false, SOON, |heard, first, _| {
        answered_by(heard, "first") && first == 2 && heard.header("x-sizewise-attempts") == Some("2")
    }),
    whole("503-lasting", true, SOON, |heard, first, second| {
        answered_by(heard, "second") && first <= 2 && second == 1
    }),
    whole("reset", true, SOON, |heard, _, _| answered_by(heard, "")),
    whole("silence", true, LATER, |heard, first, _| answered_by(heard, "second") && first == 1),
    stream("slow-first-token", true, LATER, |heard, _, _| complete_stream_by(heard, "second")),
    stream("cut-stream", true, SOON, |heard, _, second| broken_stream(heard) && second == 0),
    stream("stalled-stream", true, LATER, |heard, _, _| broken_stream(heard)),
    stream("malformed-chunk", true, SOON, |heard, _, _| {
        broken_stream(heard) && !heard.body.contains("{oops")
    }),
    stream("missing-end-mark", true, SOON, |heard, _, _| broken_stream(heard)),
    whole("context-length", true, SOON, |heard, first, second| {
        answered_by(heard, "second") && (first, second) == (1, 1)
    }),
    whole("content-filter", true, SOON, |heard, first, second| {
        heard.status == 400 && heard.body.contains("content_filter") && (first, second) == (1, 0)
    }),
    whole("fallback-rejects", true, SOON, |heard, _, second| {
        heard.status == 503 && heard.body.contains("source_unavailable") && second == 1
    }),
];

#[test]
fn every_failure_ends_with_an_answer_or_with_an_honest_error() {
    let provider = Provider::start();
    let mut settings = String::new();
    for scenario in &SCENARIOS {
        settings += &provider.settings(scenario.name, scenario.stands_in);
    }
    settings += &provider.settings("flapping", true);
    settings += &provider.settings("accounting", true);
    let names = SCENARIOS.iter().map(|s| s.name).chain(["flapping", "accounting"]);
    let names: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
    settings += &format!("[relay]\nproviders = [{}]\nbudget = {{ usd_total = 100 }}\n", names.join(", "));
    let server = Server::start(&settings);
    let mut failed = Vec::new();
    let mut told = |name: &str, passed: bool, elapsed: Duration, detail: &str| {
        println!("{:<18} {:>6} ms  {}", name, elapsed.as_millis(), if passed { "passed" } else { "FAILED" });
        if !passed {
            failed.push(format!("{name}: {detail}"));
        }
    };
    for scenario in &SCENARIOS {
        let heard = server.chat(scenario.name, scenario.stream);
        let (first, second) = provider.calls(scenario.name);
        let passed = (scenario.holds)(&heard, first, second) && heard.elapsed < scenario.within;
        told(scenario.name, passed, heard.elapsed, &format!("{first} and {second} calls, {heard:?}"));
    }
    let begun = Instant::now();
    let all: Vec<Heard> = (0..30).map(|_| server.chat("flapping", false)).collect();
    let passed = all.iter().all(|heard| answered_by(heard, ""));
    told("flapping", passed, begun.elapsed(), &format!("{:?}", provider.calls("flapping")));
    let heard = server.chat("accounting", false);
    // A gateway that gave up may have handed the call on: the failed call stands with the most that it could cost, the good one
    // with what it took.
    let counted = |(failed_one, good): (u64, u64)| good == 120 && failed_one > 120;
    let begun = Instant::now();
    let (failed_one, good) = loop {
        let spent = server.spending();
        let spent = (spent("accounting"), spent("accounting-second"));
        // What calls have cost is put down twice a second.
        if counted(spent) || begun.elapsed() > Duration::from_secs(5) {
            break spent;
        }
    };
    let passed = answered_by(&heard, "second") && counted((failed_one, good));
    told("accounting", passed, heard.elapsed, &format!("{failed_one} and {good} micro-dollars, {heard:?}"));
    println!("{} of 16", 16 - failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn what_takes_long_is_asked_for_once_more_before_its_first_byte() {
    let provider = Provider::start();
    let hedged = |name: &str, stands_in: bool| {
        provider.settings(name, stands_in).replacen("timeout_s", "hedge_after_ms = 50\ntimeout_s", 1)
    };
    let server = Server::start(
        &(hedged("hedged", true)
            + &hedged("hedged-stream", true)
            + &hedged("silent-once", false)
            + &hedged("plain", true)
            + "[relay]\nproviders = [\"hedged\", \"hedged-stream\", \"silent-once\", \"plain\"]\nbudget = { usd_total = 1 }\n"),
    );
    for (name, stream, who, calls, attempts) in [
        ("hedged", false, "second", (1, 1), "2"),
        ("hedged-stream", true, "second", (1, 1), "2"),
        ("silent-once", false, "first", (2, 0), "2"),
        ("plain", false, "first", (1, 0), "1"),
    ] {
        let heard = server.chat(name, stream);
        let whole = if stream { complete_stream_by(&heard, who) } else { answered_by(&heard, who) };
        assert!(whole && heard.elapsed < Duration::from_secs(1), "{name}: {heard:?}");
        assert_eq!(
            (provider.calls(name), heard.header("x-sizewise-attempts")),
            (calls, Some(attempts)),
            "{name}"
        );
    }
    // The first call may have been handed on: it stands with the most that it could cost.
    let begun = Instant::now();
    loop {
        let spent = server.spending();
        let (first, second) = (spent("hedged"), spent("hedged-second"));
        if first > 120 && second == 120 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{first} and {second} micro-dollars");
    }
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("sizewise_provider_hedges_total{provider=\"silent-once\"} 1"), "{metrics}");
}

#[test]
fn requests_pass_unchanged_and_what_cannot_pass_says_why() {
    let provider = Provider::start();
    let settings = provider.settings("plain", false)
        + "models = [\"other-1\"]\n[relay]\nproviders = [\"plain\"]\nbudget = { usd_total = 0.1 }\n";
    let server = Server::start(&settings);
    let body = r#"{ "messages":[{"role":"user","content":"h\u00e9"}], "model":"plain/other-1", "seed":1e3, "odd":{"z":1,"a":[]} }"#;
    let heard = server.post("/v1/chat/completions", body);
    assert_eq!(heard.status, 200, "{heard:?}");
    assert_eq!(provider.last_body("plain"), body.replace("plain/other-1", "other-1"));
    assert_eq!(heard.header("x-sizewise-provider"), Some("plain"));
    for (path, body, status, expected) in [
        ("/v1/chat/completions", r#"{"model":"plian","messages":[]}"#, 404, "plian"),
        ("/v1/chat/completions", r#"{"messages":[]}"#, 400, "model"),
        ("/v1/chat/completions", r#"{"model":"plain/dear-1","messages":[]}"#, 400, "is not known"),
        ("/v1/embeddings", r#"{"model":"plan","input":"x"}"#, 404, "did you mean `plain`"),
        ("/v1/messages", r#"{"model":"plain","messages":[]}"#, 400, "does not speak this protocol"),
        (
            "/v1/chat/completions",
            r#"{"model":"plain","messages":[],"max_tokens":900000}"#,
            429,
            "budget_spent",
        ),
    ] {
        let heard = server.post(path, body);
        assert_eq!(heard.status, status, "{path} {heard:?}");
        assert!(heard.body.contains(expected), "{path} {heard:?}");
    }
    assert!(server.get("/v1/models").body.contains("\"plain\""));
}

#[test]
fn a_reader_who_leaves_a_stream_is_heard_by_the_provider() {
    let provider = Provider::start();
    let settings = provider.settings("endless", false)
        + "[relay]\nproviders = [\"endless\"]\nbudget = { usd_total = 1 }\n";
    let server = Server::start(&settings);
    server.leave_after_first_piece("endless");
    let begun = Instant::now();
    while provider.left("endless") == 0 {
        assert!(begun.elapsed() < Duration::from_secs(5), "the provider still writes");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
}
