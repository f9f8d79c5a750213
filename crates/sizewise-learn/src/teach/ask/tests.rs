//! Does the teacher get its texts asked, paid and kept, whatever the server does?

use super::*;
use crate::teach::answers::Answers;
use serde_json::json;
use sizewise_contract::units::MicroUsd;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
};

const TASK: &str = "schema = 1\nname = \"desk\"\n[[question]]\nname = \"team\"\ntype = \"choice\"\ninstructions = \"Which team?\"\nchoices = [{ value = \"billing\", description = \"Invoices\" }, { value = \"delivery\" }]\nout_of_scope_label = \"none\"\n[[question]]\nname = \"urgent\"\ntype = \"predicate\"\n";
const PRICES: Prices = Prices { read: MicroUsd(1_000_000), written: MicroUsd(1_000_000) };

/// What the server does with a text: the text says it. Each counts how often it was asked.
fn play(stream: &mut TcpStream, turns: &Mutex<BTreeMap<String, usize>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while reader.read_line(&mut head).unwrap() > 2 {}
    let lower = head.to_lowercase();
    let Some(length) = lower.lines().find_map(|line| line.strip_prefix("content-length: ")) else { return };
    let mut body = vec![0; length.trim().parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let text = body["messages"][1]["content"].as_str().unwrap().to_owned();
    let turn = {
        let mut turns = turns.lock().unwrap();
        let turn = turns.entry(text.clone()).or_default();
        *turn += 1;
        *turn
    };
    let good = r#"{"team":"billing","urgent":"no"}"#;
    let (status, said) = match (text.split(' ').next().unwrap(), turn) {
        ("busy", 1 | 2) => ("429 Too Many\r\nretry-after: 0", ""),
        ("failing", 1) => ("500 Oops\r\nretry-after: 0", ""),
        ("down", _) => ("503 Down\r\nretry-after: 0", ""),
        ("chatty", 1) => ("200 OK", "Sure! It is billing."),
        ("other", 1) => ("200 OK", r#"{"team":"sales","urgent":"no"}"#),
        ("hopeless", _) => ("200 OK", r#"{"team":"sales","urgent":"no"}"#),
        ("refused", _) => ("400 Bad", ""),
        ("locked", _) => ("401 No", ""),
        ("strange", _) => (
            "200 OK",
            r#"```json
{"urgent": true, "team": "none"}
```"#,
        ),
        _ => ("200 OK", good),
    };
    let reply = json!({
        "id": "r1", "model": "m-1",
        "choices": [{ "message": { "content": said } }],
        "usage": { "prompt_tokens": 40, "completion_tokens": 10 },
    });
    let body = if status.starts_with("200") { reply.to_string() } else { String::new() };
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = stream.write_all((head + &body).as_bytes());
}

type Turns = Arc<Mutex<BTreeMap<String, usize>>>;

fn server() -> (Chat, Turns) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/v1", listener.local_addr().unwrap());
    let turns: Turns = Arc::default();
    let kept = Arc::clone(&turns);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let turns = Arc::clone(&kept);
            std::thread::spawn(move || play(&mut stream.unwrap(), &turns));
        }
    });
    (Chat::new(&address, None, Duration::from_secs(20)).unwrap(), turns)
}

/// Asks texts with a budget; what came of it, the answers and what was spent.
fn asked(texts: &[&str], budget: u64) -> (Result<Ended>, Vec<TeacherAnswer>, MicroUsd, Turns) {
    let folder = tempfile::tempdir().unwrap();
    let task = Task::parse(TASK).unwrap();
    let (chat, turns) = server();
    let purse = Purse::open(&folder.path().join("spent.jsonl"), MicroUsd(budget)).unwrap();
    let path = folder.path().join("teacher.jsonl");
    let (answers, _) = Answers::open(&path).unwrap();
    let stop = AtomicBool::new(false);
    let teacher = Teacher {
        task: &task,
        chat: &chat,
        model: "m",
        purse: &purse,
        prices: PRICES,
        most_tokens: None,
        date: "2026-01-02",
        parallel: 4,
        first_wait: Duration::from_millis(1),
        stop: &stop,
    };
    let ended = teacher.ask(texts, &str::to_owned, &|answer| answers.keep(&answer));
    (ended, crate::teach::answers::read_answers(&path).unwrap(), purse.spent(), turns)
}

#[test]
fn trouble_is_waited_out_and_odd_answers_are_asked_for_once_more() {
    let texts = [
        "plain one",
        "busy two",
        "failing three",
        "chatty four",
        "other five",
        "hopeless six",
        "refused seven",
        "strange eight",
    ];
    let (ended, answers, spent, turns) = asked(&texts, 1_000_000);
    assert_eq!(ended.unwrap(), Ended::Done);
    assert_eq!(answers.len(), texts.len());
    let task = Task::parse(TASK).unwrap();
    for answer in &answers {
        let known = answer.class_labels(&task).iter().flatten().count();
        let unanswered = ["hopeless six", "refused seven"].contains(&answer.text.as_str());
        assert_eq!(
            (known, answer.problem.is_some()),
            if unanswered { (0, true) } else { (2, false) },
            "{answer:?}"
        );
    }
    let hopeless = answers.iter().find(|answer| answer.text == "hopeless six").unwrap();
    assert!(hopeless.problem.as_deref().unwrap().contains("sales"), "{hopeless:?}");
    let strange = answers.iter().find(|answer| answer.text == "strange eight").unwrap();
    assert_eq!(strange.labels["team"], "none");
    let turns = turns.lock().unwrap();
    let times: Vec<usize> = texts.iter().map(|text| turns[*text]).collect();
    assert_eq!(times, [1, 3, 2, 2, 2, 2, 1, 1]);
    // Ten calls were answered; calls that were refused cost nothing.
    assert_eq!(spent, MicroUsd(10 * 50));
}

#[test]
fn nothing_is_asked_beyond_the_budget() {
    let texts: Vec<String> = (0..40).map(|i| format!("plain {i}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (ended, answers, spent, turns) = asked(&texts, 2_500);
    assert_eq!(ended.unwrap(), Ended::Budget);
    assert!(
        spent <= MicroUsd(2_500) && !answers.is_empty() && answers.len() < 40,
        "{} for {spent}",
        answers.len()
    );
    assert_eq!(turns.lock().unwrap().len(), answers.len());
}

#[test]
fn a_server_that_stays_down_or_locked_ends_the_work_with_a_way_out() {
    for (text, problem, way_out) in [("down one", "503 (8 times)", "later"), ("locked one", "401", "--key")] {
        let (ended, answers, spent, _) = asked(&["plain zero", text], 1_000_000);
        let error = ended.unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
        assert!(sizewise_contract::Diagnose::hint(&error).unwrap().contains(way_out));
        assert!(answers.len() <= 1 && spent <= MicroUsd(50));
    }
}
