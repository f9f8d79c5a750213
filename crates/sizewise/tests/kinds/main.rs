//! Does the real server notice a class that nobody trained, hand its inputs on, and do with it what people say?

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[path = "../canary/server.rs"]
#[allow(dead_code, reason = "the canaries need more of it")]
mod server;

use serde_json::{Value, json};
use server::{Place, Server};
use std::{
    fmt::Write,
    path::Path,
    time::{Duration, Instant},
};

const NEW: &str = "business_sales";
/// Rows of the task's table.
const TRAINED: usize = 2_000;
/// Inputs in one request.
const TOGETHER: usize = 60;

/// The bundled example without what is outside of the teams: lines of the table, and whether each is of the new team.
fn example() -> Vec<(String, bool)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("example/tickets.csv");
    let mut table = sizewise_learn::table::TableReader::open(&file).unwrap();
    let place = |name: &str| table.columns().iter().position(|column| column == name).unwrap();
    let (text, team) = (place("message"), place("team"));
    let (mut rows, mut row) = (Vec::new(), Vec::new());
    while table.next_row(&mut row).unwrap().is_some() {
        if row[team] != "out_of_scope" {
            rows.push((format!("{}\u{1f}{}", row[text], row[team]), row[team] == NEW));
        }
    }
    rows
}

fn texts(rows: &[(String, bool)], new: bool) -> Vec<String> {
    let of = rows.iter().filter(|(_, is_new)| *is_new == new);
    of.map(|(row, _)| row.split('\u{1f}').next().unwrap().to_owned()).collect()
}

fn body(reply: &[u8]) -> String {
    let text = String::from_utf8_lossy(reply);
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}

fn post(server: &Server, path: &str, value: &Value) -> Value {
    let head = format!("POST {path} HTTP/1.1\r\ncontent-type: application/json\r\n");
    let (status, reply) = server.send(&head, value.to_string().as_bytes());
    assert_eq!(status, 200, "{path}: {}", body(&reply));
    serde_json::from_str(&body(&reply)).unwrap()
}

fn get(server: &Server, path: &str) -> String {
    let (status, reply) = server.send(&format!("GET {path} HTTP/1.1\r\n"), b"");
    assert_eq!(status, 200, "{path}");
    body(&reply)
}

fn metric(server: &Server, name: &str) -> u64 {
    let name = format!("{name}{{task=\"desk\"}} ");
    let metrics = get(server, "/metrics");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |value| value.parse().unwrap())
}

/// Share of some texts that is handed on as new, and whether the header says so.
fn handed_on(server: &Server, texts: &[String]) -> f64 {
    let mut count = 0;
    for texts in texts.chunks(TOGETHER) {
        let told = post(server, "/v1/tasks/desk/decide", &json!({ "inputs": texts }));
        count += told.to_string().matches("\"new_kind\"").count();
    }
    count as f64 / texts.len() as f64
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_new_team_is_proposed_shown_labelled_and_dismissed() {
    let rows = example();
    let (new, known) = (texts(&rows, true), texts(&rows, false));
    let bare = tempfile::tempdir().unwrap();
    std::fs::write(bare.path().join("sizewise.toml"), "").unwrap();
    let place = Place::new(bare.path(), Vec::new());
    let mut table = String::from("text,team\n");
    for (row, _) in rows.iter().filter(|(_, is_new)| !is_new).take(TRAINED) {
        let (text, team) = row.split_once('\u{1f}').unwrap();
        writeln!(table, "\"{}\",{team}", text.replace('"', "\"\"")).unwrap();
    }
    std::fs::write(place.project().join("known.csv"), table).unwrap();
    place.run(&["init", "desk", "--from", "known.csv"], 0);
    place.run(&["train", "desk", "--threads", "2"], 0);
    let server = place.serve(&["--allow-uncertified"]);
    let live = &known[TRAINED..];
    let mut sent = 0;
    let mut both = (new.iter().take(150).cycle(), live.iter().cycle());
    while sent < 1_200 && metric(&server, "sizewise_new_kinds") == 0 {
        let texts: Vec<&String> = (0..TOGETHER)
            .map(|at| if at % 3 == 0 { both.0.next() } else { both.1.next() }.unwrap())
            .collect();
        sent += texts.len() as u64;
        post(&server, "/v1/tasks/desk/decide", &json!({ "inputs": texts }));
        wait_for("the looks are done", || {
            metric(&server, "sizewise_looks_total") + metric(&server, "sizewise_looks_dropped_total") >= sent
        });
    }
    assert_ne!(metric(&server, "sizewise_new_kinds"), 0, "after {sent}");
    assert_eq!(metric(&server, "sizewise_looks_dropped_total"), 0);
    let (of_new, of_known) = (handed_on(&server, &new[150..]), handed_on(&server, &live[..120]));
    assert!(of_new > 0.5 && of_known < 0.1, "{of_new} {of_known}");

    // People see it, with words and examples; programs see it without.
    let shown: Value = serde_json::from_str(&place.ask(&["kinds", "desk", "-o", "json"])).unwrap();
    // The first that was proposed stands last.
    let kind = shown["kinds"].as_array().unwrap().last().unwrap();
    let id = kind["id"].as_i64().unwrap();
    assert_eq!((&shown["watched"], &kind["state"]), (&json!(true), &json!("proposed")), "{shown}");
    assert_eq!(kind["examples"].as_array().unwrap().len(), 10);
    assert!(kind["label"].as_str().is_some_and(|label| !label.is_empty()), "{shown}");
    let told = place.ask(&["kinds", "desk"]);
    assert!(told.contains(&format!("--dismiss {id} --reason WHY")), "{told}");
    assert!(place.ask(&["evidence", "desk"]).contains("a new kind of input"));
    let evidence: Value = serde_json::from_str(&get(&server, "/v1/tasks/desk/evidence")).unwrap();
    let told = evidence["new_kinds"].as_array().unwrap().last().unwrap();
    assert_eq!((&told["id"], told.get("examples")), (&kind["id"], None));
    let seen: Value = serde_json::from_str(&get(&server, "/console/api/tasks/desk/kinds")).unwrap();
    assert_eq!(seen["kinds"].as_array().unwrap().last().unwrap()["id"], kind["id"]);

    // Its inputs come first to whoever labels.
    let labelled = post(&server, "/console/api/tasks/desk/kinds", &json!({ "do": "label", "kind": id }));
    assert!(labelled["waiting"].as_u64() > Some(5), "{labelled}");
    let queue: Value = serde_json::from_str(&place.ask(&["queue", "list", "desk", "-o", "json"])).unwrap();
    assert_eq!(queue["items"][0]["why"], "new_kind", "{queue}");

    // Until somebody says that it is none, and why.
    place.run(&["kinds", "desk", "--dismiss", &id.to_string(), "--reason", "a fair, over on Sunday"], 0);
    wait_for("the server heeds it", || {
        // A team may write of more than one thing.
        let shown: Value = serde_json::from_str(&get(&server, "/console/api/tasks/desk/kinds")).unwrap();
        for kind in shown["kinds"].as_array().unwrap().iter().filter(|kind| kind["state"] == "proposed") {
            let judged = json!({ "do": "dismiss", "kind": kind["id"], "reason": "the same fair" });
            post(&server, "/console/api/tasks/desk/kinds", &judged);
        }
        metric(&server, "sizewise_new_kinds") == 0
    });
    assert_eq!(handed_on(&server, &new[150..]), 0.0);
    place.run(&["kinds", "desk", "--dismiss", &id.to_string(), "--reason", "again"], 2);
    let log = place.ask(&["audit", "list", "--limit", "30", "-o", "json"]);
    for act in ["kind.proposed", "kind.queued", "kind.dismissed", "a fair, over on Sunday"] {
        assert!(log.contains(act), "{act}: {log}");
    }
    server.stop();
}
