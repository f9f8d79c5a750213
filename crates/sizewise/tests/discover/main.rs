//! Does a program that has no task find one, from its first call to the small model's answer?
//!
//! A provider of our own and the real server: calls in three protocols, whole and streamed, are recorded; `discover` finds what is asked,
//! `init` makes a task of it, `train` a model; and what people label afterwards is gold.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod provider;
#[path = "../failover/server.rs"]
#[allow(dead_code, reason = "the other test calls more of it")]
mod server;

use provider::{Provider, TICKETS, team_of};
use serde_json::{Value, json};
use server::Server;
use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

const ASKED: usize = 180;

fn ticket(row: usize) -> String {
    format!("{}, my order is number {}", TICKETS[row % TICKETS.len()].0, row / TICKETS.len())
}

fn prompt(row: usize) -> String {
    format!("Which team should read this? \"{}\" Answer with its name alone.", ticket(row))
}

/// What the program asks: tickets, half of them streamed, some again; a form with two questions; a level; a free text.
fn ask_all(server: &Server) -> usize {
    let mut recorded = 0;
    let chat = |text: &str, stream: bool| {
        json!({"model": "primary", "stream": stream, "messages": [{"role": "user", "content": text}]})
            .to_string()
    };
    for row in (0..ASKED).chain(0..20) {
        let heard = server.post("/v1/chat/completions", &chat(&prompt(row), row % 2 == 0));
        assert_eq!(heard.status, 200, "{}", heard.body);
        recorded += 1;
    }
    for row in 0..40 {
        let schema = json!({"type": "object", "properties": {"urgent": {"type": "boolean"}}});
        let form = json!({"model": "primary", "instructions": "Judge the ticket.", "input": ticket(row),
            "text": {"format": {"type": "json_schema", "name": "form", "schema": schema}}});
        assert_eq!(server.post("/v1/responses", &form.to_string()).status, 200);
        let letter = json!({"model": "letters", "max_tokens": 5, "stream": row % 2 == 0, "system": "Rate it from 1 to 3.",
            "messages": [{"role": "user", "content": ticket(row)}]});
        assert_eq!(server.post("/v1/messages", &letter.to_string()).status, 200);
        let free = chat(&format!("Sum up: {}", ticket(row)), false);
        let named = "x-sizewise-site: summaries\r\n";
        assert_eq!(server.post_with("/v1/chat/completions", named, &free).status, 200);
        recorded += 3;
    }
    // Nothing of these: not wanted, refused by the provider, broken off, no decision.
    let off = "x-sizewise-observe: off\r\n";
    assert_eq!(server.post_with("/v1/chat/completions", off, &chat("a secret", false)).status, 200);
    assert_eq!(server.post("/v1/chat/completions", &chat("refuse this", false)).status, 400);
    assert!(server.post("/v1/chat/completions", &chat("break this off", true)).body.contains("broke off"));
    let embed = json!({"model": "primary", "input": "x"}).to_string();
    assert_eq!(server.post("/v1/embeddings", &embed).status, 200);
    recorded
}

fn counted(server: &Server, name: &str) -> u64 {
    let metrics = server.get("/metrics").body;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    line.unwrap_or_else(|| panic!("{name} is missing")).parse().unwrap()
}

fn sizewise(folder: &Path, arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_sizewise"))
        .args(arguments)
        .args(["-o", "json"])
        .current_dir(folder)
        .env_remove("SIZEWISE_PROJECT")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&said).unwrap()
}

#[test]
fn a_program_without_a_task_gets_one() {
    let provider = Provider::start();
    let settings = format!(
        "{}[relay]\nproviders = [\"primary\", \"letters\"]\nbudget = {{ usd_per_day = 5 }}\nobserve = \"redacted\"\n",
        provider.settings()
    );
    let server = Server::start(&settings);
    let folder = server.folder.path();
    let expected = ask_all(&server) as u64;
    let begun = Instant::now();
    while counted(&server, "sizewise_observed_calls_total") < expected {
        assert!(begun.elapsed() < Duration::from_secs(30), "the calls are not recorded");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(counted(&server, "sizewise_observed_calls_total"), expected, "and no more than those");
    assert_eq!(counted(&server, "sizewise_observed_dropped_total"), 0);

    let found = sizewise(folder, &["discover"]);
    let sites = found["sites"].as_array().unwrap();
    let kinds: Vec<(String, u64)> = sites
        .iter()
        .map(|site| {
            let asked = site["questions"].as_array().unwrap();
            let kinds = asked.iter().map(|one| format!("{}: {}", one["name"], one["kind"]).replace('"', ""));
            (kinds.collect::<Vec<_>>().join(", "), site["calls"].as_u64().unwrap())
        })
        .collect();
    for (kind, calls) in [
        ("answer: choice", 200),
        ("urgent: predicate, why: free", 40),
        ("answer: score", 40),
        ("answer: free", 40),
    ] {
        assert!(kinds.contains(&(kind.to_owned(), calls)), "{kind} is not among {kinds:?}");
    }
    let site = &sites[0];
    assert_eq!(site["template"]["before"], "Which team should read this? \"");
    assert_eq!((site["distinct"].as_u64(), site["repeats"]["texts"].as_u64()), (Some(180), Some(20)));
    assert_eq!(
        site["micro_usd"].as_u64(),
        Some(200 * 70),
        "fifty tokens read at a dollar a million, ten written at two"
    );
    let all = found.to_string() + &sizewise(folder, &["discover", "--show", "summaries"]).to_string();
    assert!(all.contains("summaries") && !all.contains("secret"), "{all}");

    let id = site["id"].as_str().unwrap();
    let made = sizewise(folder, &["init", "tickets", "--from-site", id]);
    assert_eq!((made["examples"].as_u64(), made["repeated"].as_u64()), (Some(180), Some(20)));
    sizewise(folder, &["train", "tickets", "--threads", "1"]);
    let checked: String =
        (0..60).map(|row| format!("\"so, {}\",{}\n", ticket(row * 3), team_of(&ticket(row * 3)))).collect();
    std::fs::write(folder.join("checked.csv"), format!("text,answer\n{checked}")).unwrap();
    let judged = sizewise(folder, &["evaluate", "tickets", "--against", "checked.csv"]);
    let tiers = judged["questions"][0]["tiers"].as_array().unwrap();
    assert!(
        tiers.len() == 2 && tiers.iter().all(|tier| tier["accuracy"]["value"].as_f64() > Some(0.95)),
        "{judged}"
    );

    // What people labelled becomes gold, is no longer learnt from, and can be certified on.
    let gold: String =
        (0..120).map(|row| format!("\"{}\",{}\n", ticket(row), team_of(&ticket(row)))).collect();
    std::fs::write(folder.join("gold.csv"), format!("text,answer\n{gold}")).unwrap();
    let again = sizewise(folder, &["init", "tickets", "--from-site", id, "--gold", "gold.csv", "--force"]);
    let (dev, locked) = (again["gold"]["dev"].as_u64().unwrap(), again["gold"]["locked"].as_u64().unwrap());
    assert!(dev + locked == 120 && dev > 10 && locked > 60, "{again}");
    let trained = sizewise(folder, &["train", "tickets", "--threads", "1"]);
    assert_eq!(trained["summary"]["rows"].as_u64(), Some(60), "{trained}");
}
