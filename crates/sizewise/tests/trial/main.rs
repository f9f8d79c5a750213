//! Does a release that is tried beside the one in force reach callers, records and metrics of a real server as it should?

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[allow(dead_code, reason = "other tests use all of it")]
#[path = "../canary/server.rs"]
mod server;

mod gates;

use serde_json::{Value, json};
use server::{Place, Server};
use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A project with two certified releases of one contract. Hands out their names, the one in force last.
fn two_releases() -> (Place, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let words = [
        ("bill", ["invoice", "refund", "charge", "payment"]),
        ("ship", ["parcel", "courier", "delivery", "late"]),
        ("tech", ["crash", "login", "screen", "error"]),
    ];
    let row = |i: usize| {
        let (label, words) = &words[i % 3];
        let (first, second, third) = (words[i / 3 % 4], words[(i / 3 + 1) % 4], words[i / 5 % 4]);
        format!("{first} {second} please {third} again n{i},{label}\n")
    };
    let table: String = (0..480).map(row).collect();
    fs::write(folder.path().join("rows.csv"), format!("text,label\n{table}")).unwrap();
    fs::create_dir(folder.path().join("tasks")).unwrap();
    let place = Place::new(folder.path(), vec![]);
    place.run(&["init", "desk", "--from", "rows.csv", "--max-served-error", "0.2"], 0);
    let file = place.project().join("tasks/desk/task.toml");
    fs::write(&file, fs::read_to_string(&file).unwrap().replace("openings = 1", "openings = 2")).unwrap();
    for seed in ["1", "2"] {
        place.run(&["train", "desk", "--seed", seed], 0);
        place.run(&["certify", "desk"], 0);
    }
    let shown = asked(&place, &["show", "desk", "-o", "json"]);
    let releases: Vec<&str> =
        shown["releases"].as_array().unwrap().iter().map(|one| one["release"].as_str().unwrap()).collect();
    let in_force = shown["in_force"].as_str().unwrap();
    let [other] = releases.iter().filter(|one| **one != in_force).collect::<Vec<_>>()[..] else {
        panic!("two releases: {releases:?}")
    };
    (place, (*other).to_owned(), in_force.to_owned())
}

fn asked(place: &Place, arguments: &[&str]) -> Value {
    serde_json::from_str(&place.ask(arguments)).unwrap()
}

fn send(server: &Server, method: &str, path: &str, extra: &str, body: &Value) -> (u16, String) {
    let head = format!("{method} {path} HTTP/1.1\r\ncontent-type: application/json\r\n{extra}");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (status, reply) = server.send(&head, body.as_bytes());
    (status, String::from_utf8(reply).unwrap())
}

/// Asks for two decisions in one request, and hands out the one release that made both.
fn decide(server: &Server, subject: Option<&str>) -> String {
    let subject = subject.map_or(String::new(), |subject| format!("x-sizewise-subject: {subject}\r\n"));
    let body = json!({ "inputs": ["please refund the invoice again", "the parcel of the courier is late"] });
    let (status, reply) = send(server, "POST", "/v1/tasks/desk/decide", &subject, &body);
    assert_eq!(status, 200, "{reply}");
    let named = reply.lines().find_map(|line| line.strip_prefix("x-sizewise-release: ")).unwrap().to_owned();
    let text = reply.split_once("\r\n\r\n").unwrap().1;
    let told: Value = serde_json::from_str(text).unwrap();
    let decisions = told["decisions"].as_array().unwrap();
    assert_eq!(decisions.len(), 2);
    assert!(decisions.iter().all(|one| one["release"].as_str() == Some(&named)), "mixed: {reply}");
    named
}

/// Asks until something holds, and hands it out.
fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} never came");
    }
}

#[test]
fn a_release_is_shadow_canary_and_in_force_while_a_server_answers() {
    let (place, tried, live) = two_releases();
    let server = place.serve(&[]);
    assert_eq!(decide(&server, None), live);
    let get = |path: &str| send(&server, "GET", path, "", &Value::Null).1;
    let shown = || asked(&place, &["trial", "show", "desk", "-o", "json"]);

    // A shadow, which nobody sees.
    place.run(&["trial", "begin", "desk", &tried[..12], "--shadow"], 0);
    until("a comparison", || {
        assert_eq!(decide(&server, None), live);
        shown()["comparison"]["inputs"].as_u64().filter(|inputs| *inputs > 0)
    });
    let told = shown();
    assert_eq!((told["beside"].as_str(), told["comparison"]["failed"].as_u64()), (Some(&*live), Some(0)));
    let question = &told["comparison"]["questions"][0];
    assert_eq!(question["live_answered"]["of"], question["trial_answered"]["of"]);
    assert!(question["alike"]["of"].as_u64().unwrap() > 0, "{question}");

    // A canary: the same subjects always, and each request by one release.
    place.run(&["trial", "begin", "desk", &tried, "--canary", "--share", "0.5"], 0);
    until("an answer of the canary", || (decide(&server, None) == tried).then_some(()));
    let subjects: Vec<String> = (0..24).map(|n| format!("customer-{n}")).collect();
    let answers = || -> Vec<String> { subjects.iter().map(|one| decide(&server, Some(one))).collect() };
    let first = answers();
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 2);
    assert_eq!(answers(), first);
    let metrics = get("/metrics");
    for (name, release) in [("sizewise_trial_share", &tried), ("sizewise_decisions_total", &live)] {
        let line = metrics.lines().find(|line| line.starts_with(name) && line.contains(&release[..12]));
        assert!(line.is_some(), "{name} of {release} is not in {metrics}");
    }
    let evidence: Value =
        serde_json::from_str(get("/v1/tasks/desk/evidence").split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(evidence["trial"]["release"].as_str(), Some(&*tried));
    assert_eq!(evidence["trial"]["questions"][0]["state"].as_str(), Some("kept"));

    // In the console: put in force, which ends the trial, and whoever asks then is answered by it.
    let path = "/console/api/tasks/desk/trial";
    let (status, reply) = send(&server, "POST", path, "", &json!({ "act": "promote" }));
    assert_eq!(status, 200, "{reply}");
    for subject in &subjects {
        assert_eq!(decide(&server, Some(subject)), tried);
    }
    let told = shown();
    assert_eq!(told["trial"]["ended_because"].as_str(), Some("put in force"));
    assert_eq!(told["promises"].as_array().unwrap().len(), 1);
    let (status, reply) = send(&server, "POST", path, "", &json!({ "act": "end" }));
    assert!(status == 409 && reply.contains("not_tried"), "{reply}");
    let begin = json!({ "act": "begin", "release": live, "mode": "canary", "share": 1.0 });
    assert_eq!(send(&server, "POST", path, "", &begin).0, 200);
    assert_eq!(decide(&server, None), live);
    assert_eq!(send(&server, "POST", path, "", &json!({ "act": "end" })).0, 200);
    assert_eq!(decide(&server, None), tried);

    // What cannot be tried is told with a way out.
    place.run(&["trial", "begin", "desk", &tried, "--shadow"], 1);
    place.run(&["trial", "end", "desk"], 1);
    server.stop();
    let log = place.ask(&["audit", "list", "-o", "json"]);
    assert!(log.contains("trial.begun") && log.contains("trial.ended"), "{log}");
}
