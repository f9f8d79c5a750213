//! Does anything that was said in confidence stand where the privacy settings do not allow it?
//!
//! The real server is told keys, prompts and personal data that stand nowhere else, on every route, with a provider behind it that says
//! back whatever it hears; then every byte that the program wrote is searched for them:
//! `cargo test -p sizewise --test canary -- --nocapture` prints what was found, by kind and by privacy setting.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod collector;
mod provider;
mod search;
mod server;

use collector::Collector;
use provider::Provider;
use search::{Search, card, files, random, word};
use server::{Place, Server};
use std::{collections::BTreeMap, fs, path::Path};

const RELAYED: [(&str, &str); 4] = [
    ("/v1/chat/completions", r#""messages":[{"role":"user","content":"TEXT"}]"#),
    ("/v1/responses", r#""input":"TEXT""#),
    ("/v1/embeddings", r#""input":"TEXT""#),
    ("/v1/messages", r#""max_tokens":9,"messages":[{"role":"user","content":"TEXT"}]"#),
];
const QUESTION: &str =
    r#"{"type":"choice","name":"label","choices":[{"value":"bill"},{"value":"ship"},{"value":"tech"}]}"#;

/// What may be kept of inputs: a name, the settings' line, the task file's word.
struct Mode {
    name: &'static str,
    settings: &'static str,
    store: &'static str,
    /// The canaries that may stand in the database.
    allowed: &'static [&'static str],
}

const MODES: [Mode; 4] = [
    Mode {
        name: "full",
        settings: "",
        store: "full",
        allowed: &["prompt", "e-mail address", "card number", "secret in the prompt"],
    },
    Mode { name: "redacted", settings: "", store: "redacted", allowed: &["prompt"] },
    Mode { name: "nothing", settings: "", store: "nothing", allowed: &[] },
    Mode {
        name: "zero retention",
        settings: "[serve]\nzero_retention = true\n",
        store: "full",
        allowed: &[],
    },
];

/// Kinds of canaries. The key of a caller comes from the program itself.
const KINDS: [&str; 24] = [
    "key of a caller",
    "wrong key of a caller",
    "key of a provider",
    "header for a provider",
    "header for a collector",
    "prompt",
    "e-mail address",
    "card number",
    "secret in the prompt",
    "system message",
    "relayed prompt",
    "words of a larger model",
    "subject in the header",
    "subject as user",
    "header",
    "cookie",
    "program's name",
    "query",
    "path",
    "model that is not there",
    "question that is not there",
    "body that is no JSON",
    "input that is too long",
    "rows of a batch",
];

/// What nobody may hear back, not even who said it.
const NEVER_SAID: [&str; 9] = [
    "key of a caller",
    "wrong key of a caller",
    "key of a provider",
    "header for a provider",
    "header for a collector",
    "subject in the header",
    "header",
    "cookie",
    "program's name",
];

struct Canaries(BTreeMap<&'static str, String>);

impl Canaries {
    fn new() -> Self {
        let fresh = |kind: &&'static str| match *kind {
            "card number" => (*kind, card()),
            "prompt" => (*kind, word()),
            kind => (kind, random()),
        };
        Self(KINDS.iter().map(fresh).collect())
    }

    fn get(&self, kind: &str) -> &str {
        &self.0[kind]
    }

    /// What a customer writes.
    fn text(&self) -> String {
        format!(
            "where is my parcel {} the courier is late, write to {}@bank.example, my card is {} and my key is sk-{}",
            self.get("prompt"),
            self.get("e-mail address"),
            self.get("card number"),
            self.get("secret in the prompt")
        )
    }

    /// The head of a request with everything that callers put there.
    fn head(&self, method: &str, path: &str, key: &str) -> String {
        format!(
            "{method} {path} HTTP/1.1\r\nauthorization: Bearer {key}\r\nx-sizewise-subject: {}\r\nx-trace: {}\r\n\
             traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\ntracestate: x={}\r\nx-request-id: not one {}\r\ncookie: session={}\r\n\
             user-agent: {}\r\ncontent-type: application/json\r\n",
            self.get("subject in the header"),
            self.get("header"),
            self.get("header"),
            self.get("header"),
            self.get("cookie"),
            self.get("program's name")
        )
    }
}

/// A project with a task whose rows are told apart by their words.
fn trained() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let words = [
        ("bill", ["invoice", "refund", "charge", "payment"]),
        ("ship", ["parcel", "courier", "delivery", "late"]),
        ("tech", ["crash", "login", "screen", "error"]),
    ];
    let row = |i: usize| {
        let (label, words) = &words[i % 3];
        format!(
            "{} {} please {} again n{i},{label}\n",
            words[i / 3 % 4],
            words[(i / 3 + 1) % 4],
            words[i / 5 % 4]
        )
    };
    let table: String = (0..240).map(row).collect();
    fs::write(folder.path().join("rows.csv"), format!("text,label\n{table}")).unwrap();
    fs::create_dir(folder.path().join("tasks")).unwrap();
    let place = Place::new(folder.path(), vec![]);
    place.run(&["init", "desk", "--from", "rows.csv", "--max-served-error", "0.2"], 0);
    place.run(&["train", "desk"], 0);
    let made = tempfile::tempdir().unwrap();
    server::copy(&place.project(), made.path());
    made
}

/// What was said, to be searched: what it is, its bytes, and who may hear it.
struct Said {
    place: String,
    bytes: Vec<u8>,
    own: bool,
}

/// Everything that one caller can say on every route; every reply with the status that it must have.
fn talk(server: &Server, canaries: &Canaries, key: &str) -> Vec<Said> {
    let text = canaries.text();
    let json = |text: &str| serde_json::Value::from(text).to_string();
    let (mut said, mut wrong) = (Vec::new(), Vec::new());
    let mut send = |status: u16, method: &str, path: &str, body: &str| {
        let (found, bytes) = server.send(&canaries.head(method, path, key), body.as_bytes());
        if found != status {
            let told = String::from_utf8_lossy(&bytes);
            wrong.push(format!(
                "{method} {path} {}: {found}, not {status}: {told}",
                &body[..body.len().min(200)]
            ));
        }
        said.push(Said { place: format!("reply of {path}"), bytes, own: true });
    };
    for wish in ["", " please-fail", " please-refuse"] {
        let text = json(&format!("{text}{wish}"));
        send(200, "POST", "/v1/tasks/desk/decide", &format!(r#"{{"input":{text}}}"#));
        // Whoever fails is asked again and again, which takes its time: once is enough.
        if wish == " please-fail" {
            send(
                503,
                "POST",
                "/v1/chat/completions",
                &chat_with("chat-fail", canaries.get("relayed prompt")),
            );
            continue;
        }
        send(200, "POST", "/v1/tasks/desk/decide", &format!(r#"{{"inputs":[{text},{{"text":{text}}}]}}"#));
        send(
            200,
            "POST",
            "/v1/decisions",
            &format!(r#"{{"model":"desk","input":{text},"questions":[{QUESTION}]}}"#),
        );
        let state = format!(
            r#"{{"model":"desk","state":{{"text":{text}}},"questions":{{"label":{{"type":"choice","criteria":{{"bill":null,"ship":null,"tech":null}}}}}}}}"#
        );
        send(200, "POST", "/v1/systemone", &state);
        for stream in [false, true] {
            let chat = format!(
                r#"{{"model":"desk","stream":{stream},"user":"{}","messages":[{{"role":"system","content":"{}"}},{{"role":"user","content":{text}}}]}}"#,
                canaries.get("subject as user"),
                canaries.get("system message")
            );
            send(200, "POST", "/v1/chat/completions", &chat);
        }
        for (path, rest) in RELAYED {
            // Whoever fails too often is left alone, so each wish has a provider of its own.
            let provider = format!(
                "{}{}",
                if path == "/v1/messages" { "messages" } else { "chat" },
                wish.replace(" please", "")
            );
            let rest = rest.replace("TEXT", &format!("{}{wish}", canaries.get("relayed prompt")));
            let status = if wish.is_empty() { 200 } else { 400 };
            send(status, "POST", path, &format!(r#"{{"model":"{provider}",{rest}}}"#));
            if path != "/v1/embeddings" {
                let streamed = if path == "/v1/chat/completions" || !wish.is_empty() { status } else { 200 };
                send(streamed, "POST", path, &format!(r#"{{"model":"{provider}","stream":true,{rest}}}"#));
            }
        }
    }
    let unknown = canaries.get("model that is not there");
    send(404, "POST", "/v1/chat/completions", &format!(r#"{{"model":"{unknown}","messages":[]}}"#));
    send(404, "POST", "/v1/embeddings", &format!(r#"{{"model":"{unknown}","input":"x"}}"#));
    send(404, "POST", &format!("/v1/tasks/{unknown}/decide"), r#"{"input":"x"}"#);
    let asked = format!(r#"{{"input":"x","questions":["{}"]}}"#, canaries.get("question that is not there"));
    send(400, "POST", "/v1/tasks/desk/decide", &asked);
    let broken = canaries.get("body that is no JSON");
    for body in [
        format!("{{\"input\":\"{broken}"),
        format!("{{\"input\":{{\"text\":{{\"{broken}\":1}}}}}}"),
        broken.to_owned(),
    ] {
        send(400, "POST", "/v1/tasks/desk/decide", &body);
        send(400, "POST", "/v1/decisions", &body);
        send(400, "POST", "/v1/messages", &body);
    }
    let long = format!("{} {}", canaries.get("input that is too long"), "x".repeat(300_000));
    send(400, "POST", "/v1/tasks/desk/decide", &format!(r#"{{"input":"{long}"}}"#));
    send(
        413,
        "POST",
        "/v1/tasks/desk/decide",
        &format!(r#"{{"input":"{}{}"}}"#, long, "x".repeat(9_000_000)),
    );
    send(404, "GET", &format!("/v1/{}", canaries.get("path")), "");
    send(405, "PUT", &format!("/v1/decisions?secret={}", canaries.get("query")), "");
    send(200, "GET", &format!("/v1/models?secret={}", canaries.get("query")), "");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    said
}

/// A chat with a provider that fails.
fn chat_with(provider: &str, text: &str) -> String {
    format!(r#"{{"model":"{provider}","messages":[{{"role":"user","content":"{text} please-fail"}}]}}"#)
}

/// What callers without the right key hear, and what the server says of itself.
fn listen(server: &Server, canaries: &Canaries, key: &str) -> Vec<Said> {
    let mut said = Vec::new();
    let mut hear = |status: u16, place: &str, head: String, body: &str| {
        let (found, bytes) = server.send(&head, body.as_bytes());
        assert_eq!(found, status, "{place} {}", String::from_utf8_lossy(&bytes));
        said.push(Said { place: format!("{place}, to somebody else"), bytes, own: false });
    };
    let wrong = format!("sw_{}_{}", "0".repeat(10), canaries.get("wrong key of a caller"));
    hear(401, "a wrong key", canaries.head("POST", "/v1/decisions", &wrong), &canaries.text());
    for path in
        ["/metrics", "/healthz", "/readyz", "/openapi.json", "/v1/models", "/v1/tasks", "/v1/tasks/desk"]
    {
        hear(200, path, format!("GET {path} HTTP/1.1\r\nauthorization: Bearer {key}\r\n"), "");
    }
    let post = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n")
    };
    hear(
        200,
        "a decision",
        post("/v1/tasks/desk/decide"),
        r#"{"input":"the screen has an error please-refuse"}"#,
    );
    hear(503, "a failed chat", post("/v1/chat/completions"), &chat_with("chat-fail", "what I ask"));
    hear(400, "no JSON", post("/v1/decisions"), "{");
    said
}

/// What was found of each kind where it may not stand, with the places; and how many bytes were searched.
#[derive(Default)]
struct Found {
    leaks: BTreeMap<&'static str, Vec<String>>,
    kept: BTreeMap<&'static str, usize>,
    bytes: usize,
}

impl Found {
    fn search(&mut self, canaries: &Canaries, root: &Path, said: &[Said], allowed: &[&str]) {
        let kinds: Vec<&'static str> = canaries.0.keys().copied().collect();
        let search = Search::of(canaries.0.values().map(String::as_str));
        for (path, bytes) in files(root) {
            self.bytes += bytes.len();
            let database =
                path.starts_with("project/.sizewise") && path.to_string_lossy().contains("store.db");
            for (number, form) in search.find(&bytes) {
                match database && allowed.contains(&kinds[number]) {
                    true => *self.kept.entry(kinds[number]).or_default() += 1,
                    false => self.leak(kinds[number], format!("{} ({form})", path.display())),
                }
            }
        }
        for one in said {
            self.bytes += one.bytes.len();
            for (number, form) in search.find(&one.bytes) {
                if !one.own || NEVER_SAID.contains(&kinds[number]) {
                    self.leak(kinds[number], format!("{} ({form})", one.place));
                }
            }
        }
    }

    fn leak(&mut self, kind: &'static str, place: String) {
        let places = self.leaks.entry(kind).or_default();
        if !places.contains(&place) {
            places.push(place);
        }
    }
}

fn settings(mode: &Mode, provider: &Provider, collector: &Collector) -> String {
    let one = |name: &str, dialect: &str| {
        format!(
            "[provider.{name}]\nurl = \"http://{}/{name}/v1\"\nmodel = \"m\"\ndialect = \"{dialect}\"\nresidency = \"eu\"\ntimeout_s = 2\n\
             key = \"env:CANARY_KEY\"\nheaders = {{ x-org = \"env:CANARY_HEADER\" }}\n",
            provider.address
        )
    };
    let names = ["", "-fail", "-refuse"].map(|wish| (format!("chat{wish}"), format!("messages{wish}")));
    let all: String =
        names.iter().map(|(chat, messages)| one(chat, "openai") + &one(messages, "anthropic")).collect();
    let called: Vec<String> =
        names.iter().map(|(chat, messages)| format!("\"{chat}\", \"{messages}\"")).collect();
    format!(
        "{}[telemetry]\notlp = \"http://{}\"\nheaders = {{ x-collector = \"env:CANARY_COLLECTOR\" }}\n{}{all}[relay]\nproviders = [{}]\n",
        mode.settings,
        collector.address,
        one("primary", "openai"),
        called.join(", ")
    )
}

/// Runs everything under one setting.
fn run(mode: &Mode, trained: &Path) -> Found {
    let mut canaries = Canaries::new();
    let words = canaries.get("words of a larger model").to_owned();
    let provider = Provider::start(words, canaries.get("key of a provider").to_owned());
    let collector = Collector::start();
    let environment = vec![
        ("CANARY_KEY", canaries.get("key of a provider").to_owned()),
        ("CANARY_HEADER", canaries.get("header for a provider").to_owned()),
        ("CANARY_COLLECTOR", canaries.get("header for a collector").to_owned()),
    ];
    let place = Place::new(trained, environment);
    fs::write(place.project().join("sizewise.toml"), settings(mode, &provider, &collector)).unwrap();
    let file = place.project().join("tasks/desk/task.toml");
    let task = fs::read_to_string(&file).unwrap();
    let rules = task
        .replace("may_leave = \"never\"", "may_leave = \"yes\"")
        .replace("store = \"redacted\"", &format!("store = \"{}\"", mode.store));
    assert!(rules.contains("[cascade]") && rules != task, "{task}");
    fs::write(&file, rules.replace("[cascade]", "[cascade]\nremote = \"primary\"\nrecall_hours = 1"))
        .unwrap();
    let created = |name: &str| {
        let told: serde_json::Value =
            serde_json::from_str(&place.ask(&["-o", "json", "keys", "create", "--role", "operator", name]))
                .unwrap();
        told["key"].as_str().unwrap().to_owned()
    };
    let (own, other) = (created("caller"), created("somebody else"));
    canaries.0.insert("key of a caller", own.rsplit('_').next().unwrap().to_owned());

    let mut found = Found::default();
    // Files of the user's own lie elsewhere.
    let tables = tempfile::tempdir().unwrap();
    let (rows, answers) = (tables.path().join("rows.csv"), tables.path().join("answers.csv"));
    fs::write(&rows, format!("text\nthe parcel is late {}\n", canaries.get("rows of a batch"))).unwrap();
    for (round, flags) in [&[][..], &["--allow-uncertified"]].into_iter().enumerate() {
        let server = place.serve(flags);
        let mut said = talk(&server, &canaries, &own);
        said.extend(listen(&server, &canaries, &other));
        place.run(
            &[
                "batch",
                "desk",
                rows.to_str().unwrap(),
                "-o",
                answers.to_str().unwrap(),
                "--force",
                "--allow-uncertified",
            ],
            0,
        );
        if round == 0 {
            server.stop();
            // What waited was exported.
            let told = collector.bodies();
            let told = String::from_utf8_lossy(&told);
            for span in ["POST /v1/decisions", "POST /v1/messages", "chat m", "sizewise.task", "error.type"] {
                assert!(told.contains(span), "{span} is in no trace");
            }
            assert!(collector.heads().contains(canaries.get("header for a collector")));
        } else {
            // Whatever the server looks at twice a second, it has looked at.
            std::thread::sleep(std::time::Duration::from_millis(1_200));
            server.kill();
        }
        said.push(Said { place: "traces".into(), bytes: collector.bodies(), own: false });
        found.search(&canaries, place.root.path(), &said, mode.allowed);
    }
    for command in
        [&["list"][..], &["show", "desk"], &["spending"], &["keys", "list"], &["audit", "list"], &["doctor"]]
    {
        place.run(command, 0);
    }
    // What servers printed when they started still holds, and says under which rules they ran.
    let said = fs::read_to_string(place.root.path().join("said/server.err")).unwrap();
    let heads: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("audit log: head ")).collect();
    assert_eq!(heads.len(), 2, "{said}");
    heads.iter().for_each(|head| place.run(&["audit", "verify", "--head", head], 0));
    let log: serde_json::Value = serde_json::from_str(&place.ask(&["-o", "json", "audit", "list"])).unwrap();
    let started =
        log["entries"].as_array().unwrap().iter().rfind(|entry| entry["action"] == "server.started").unwrap();
    assert_eq!(started["detail"]["providers"]["primary"], "eu");
    assert_eq!(started["detail"]["tasks"]["desk"]["may_leave"], "yes");
    found.search(&canaries, place.root.path(), &[], mode.allowed);
    // The search looks in the right places, and all of it was said.
    for kind in mode.allowed {
        assert!(found.kept.contains_key(kind), "{kind} is kept under `{}` and was not found", mode.name);
    }
    for kind in [
        "key of a provider",
        "header for a provider",
        "prompt",
        "e-mail address",
        "card number",
        "relayed prompt",
    ] {
        assert!(provider.heard().contains(canaries.get(kind)), "the provider was not told: {kind}");
    }
    // A person is erased while a server runs that remembers them.
    let server = place.serve(&[]);
    for kind in ["subject in the header", "subject as user"] {
        let erased = place.ask(&["-o", "json", "erase", "--subject", canaries.get(kind)]);
        assert!(erased.contains("\"log_emptied\": true"), "{erased}");
    }
    server.kill();
    found.search(&canaries, place.root.path(), &[], &[]);
    found
}

#[test]
fn nothing_said_in_confidence_stands_where_it_may_not() {
    let trained = trained();
    let found: Vec<Found> = std::thread::scope(|scope| {
        let running: Vec<_> = MODES.iter().map(|mode| scope.spawn(|| run(mode, trained.path()))).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    print!("{:<28}", "found where not allowed");
    MODES.iter().for_each(|mode| print!("{:>16}", mode.name));
    println!();
    let mut total = 0;
    for kind in KINDS {
        print!("{kind:<28}");
        for found in &found {
            let count = found.leaks.get(kind).map_or(0, Vec::len);
            total += count;
            print!("{count:>16}");
        }
        println!();
    }
    let bytes: usize = found.iter().map(|found| found.bytes).sum();
    println!("{:.0} MB searched, each canary in {} forms", bytes as f64 / 1e6, search::forms("canary").len());
    println!("canaries found where policy does not allow: {total}");
    let leaks: Vec<String> = found
        .iter()
        .zip(&MODES)
        .flat_map(|(found, mode)| {
            found.leaks.iter().map(move |(kind, places)| format!("{}: {kind}: {places:?}", mode.name))
        })
        .collect();
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}
