//! Are the call sites found that a program has, and is what is made of one what `train` reads?

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use super::*;
use crate::{
    dataset::TrainingRows,
    opened::Texts,
    table::TableReader,
    teach::answers::{CHECK_FILE, read_answers},
};
use sizewise_contract::Task;
use std::path::Path;

const TICKETS: [(&str, &str); 6] = [
    ("my card was charged twice", "billing"),
    ("where is my parcel", "delivery"),
    ("the invoice shows the wrong amount", "billing"),
    ("the courier never came", "delivery"),
    ("I want to send the tent back", "returns"),
    ("how do I return the shoes", "returns"),
];

fn call(text: String, said: &str, at: i64) -> Call {
    Call {
        text,
        said: Said { text: Some(said.into()), calls: Vec::new() },
        asked: "m-1".into(),
        model: "m-1-0613".into(),
        request: Some(format!("r{at}")),
        latency_us: 1_000 * (at.unsigned_abs() + 1),
        micro_usd: 10,
        is_estimate: at % 2 == 1,
        at: UnixMillis(at),
    }
}

fn place(id: &str, system: &str, kept: Vec<Call>) -> Place {
    Place {
        id: id.into(),
        facts: Facts {
            protocol: "chat".into(),
            provider: "primary".into(),
            model: "primary".into(),
            fixed: Fixed { system: system.into(), ..Fixed::default() },
            ..Facts::default()
        },
        calls: kept.len() as u64 * 2,
        micro_usd: MicroUsd(kept.len() as u64 * 20),
        first_at: UnixMillis(0),
        last_at: UnixMillis(1_000),
        kept,
    }
}

/// Sixty tickets; of two texts the same again, one of them answered otherwise.
fn tickets() -> Vec<Call> {
    let mut kept: Vec<Call> = (0..60)
        .map(|row| {
            let (text, team) = TICKETS[row % 6];
            call(format!("Which team? Ticket: {text}, case {}", row / 6), team, row as i64)
        })
        .collect();
    let again = |said: &str, at| call("Which team? Ticket: where is my parcel, case 0".into(), said, at);
    kept.extend([again("delivery", 60), again("billing", 61), again("delivery", 62)]);
    let tie = |said: &str, at| call("Which team? Ticket: hello".into(), said, at);
    kept.extend([tie("returns", 63), tie("billing", 64)]);
    kept
}

#[test]
fn a_program_with_one_prompt_is_a_site_with_its_money_and_its_question() {
    let sites = discover(vec![
        place("cheap", "", vec![call("hi".into(), "hello you", 0)]),
        place("p", "You route tickets.", tickets()),
    ]);
    let site = &sites[0];
    assert_eq!((site.calls, site.micro_usd, site.kept), (130, MicroUsd(1_300), 65));
    assert_eq!((site.distinct, site.examples), (61, 61));
    assert_eq!(site.repeats, Repeats { texts: 2, alike: 0 });
    assert_eq!(site.template.before, "Which team? Ticket: ");
    assert_eq!(site.rows[0].text, "my card was charged twice, case 0");
    assert_eq!(site.prompt(), "You route tickets.\n\nWhich team? Ticket: {text}");
    assert!(matches!(&site.questions[0].kind, Kind::Choice { labels } if labels.len() == 3));
    assert!(site.is_task && site.worth_waiting_for == 300 - 61);
    assert!(!sites[1].is_task, "one call says nothing");
    assert_eq!(discover(vec![place("p", "You route tickets.", tickets())])[0].id, site.id, "the name stays");
}

#[test]
fn a_prompt_that_differs_from_call_to_call_is_one_site() {
    let places = (0..30)
        .map(|row| {
            let (text, team) = TICKETS[row % 6];
            place(
                &format!("p{row}"),
                &format!("Route this ticket of the shop: {text}, case {row}. Say the team."),
                vec![call("go".into(), team, 1)],
            )
        })
        .collect();
    let sites = discover(places);
    assert_eq!((sites.len(), sites[0].kept, sites[0].calls), (1, 30, 60));
    assert_eq!(sites[0].template.before, "[system]\nRoute this ticket of the shop: ");
    assert!(sites[0].is_task);
}

#[test]
fn prompts_that_read_nearly_the_same_point_at_each_other() {
    let rows = |said: [&str; 2]| {
        (0..20).map(|row| call(format!("text {row} here"), said[row % 2], 1)).collect::<Vec<_>>()
    };
    let sites = discover(vec![
        place("a", "You decide whether a message of the shop is urgent for Acme.", rows(["yes", "no"])),
        place("b", "You decide whether a message of the shop is urgent for Globex.", rows(["yes", "no"])),
        place("c", "Name the language of the text.", rows(["de", "fr"])),
    ]);
    let alike = |id: &str| sites.iter().find(|site| site.id == id).unwrap().alike.clone();
    assert_eq!((alike("a"), alike("b"), alike("c")), (vec!["b".to_owned()], vec!["a".to_owned()], vec![]));
}

fn made(folder: &Path, gold: Option<&Path>) -> (Written, Task) {
    let sites = discover(vec![place("p", "You route \"tickets\".", tickets())]);
    let from = FromSite {
        name: "desk",
        max_served_error: 0.05,
        remote: Some("primary"),
        budget: vec![("usd_per_day", "2.50".into())],
        gold,
        opened: Texts::default(),
        day: &|_| "2026-01-02".into(),
    };
    let written = write(&sites[0], &from, folder).unwrap();
    let task = Task::parse(&std::fs::read_to_string(&written.task_file).unwrap()).unwrap();
    (written, task)
}

#[test]
fn a_site_becomes_a_task_whose_labels_are_a_teachers() {
    let folder = tempfile::tempdir().unwrap();
    let (written, task) = made(folder.path(), None);
    assert_eq!(
        (written.texts, written.examples, written.without_answer),
        (61, 60, 1),
        "a tie teaches nothing"
    );
    assert_eq!((written.repeated, written.contradicted), (2, 2));
    assert_eq!(task.questions[0].class_values(), ["billing", "delivery", "returns"]);
    assert_eq!(task.cascade.remote.as_deref(), Some("primary"));
    assert_eq!(task.questions[0].instructions, "You route \"tickets\".\n\nWhich team? Ticket: {text}");
    let TrainingRows::Teacher(rows) = TrainingRows::read(&task, folder.path()).unwrap() else {
        panic!("a teacher's rows")
    };
    assert_eq!(rows.examples.len(), 60);
    let parcel = rows.examples.iter().find(|row| row.text == "where is my parcel, case 0").unwrap();
    let given = parcel.labels[0].as_ref().unwrap();
    assert_eq!((given.label.class(), &*given.source), (Some(1), "m-1-0613 2026-01-02"));
    assert_eq!(crate::dataset::Locked::find(&task, folder.path()).unwrap().rows(), 0);
}

#[test]
fn rows_that_people_labelled_become_gold_and_are_learnt_from_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let (written, task) = made(folder.path(), None);
    // Somebody labels half of what waits.
    let mut table = TableReader::open(&written.to_label).unwrap();
    let (mut row, mut filled) = (Vec::new(), String::from("text,answer\n"));
    let mut count = 0;
    while table.next_row(&mut row).unwrap().is_some() {
        count += 1;
        filled += &format!("\"{}\",{}\n", row[0], if count % 2 == 0 { "billing" } else { "" });
    }
    assert_eq!(count, 61);
    std::fs::write(&written.to_label, &filled).unwrap();
    let (again, _) = made(folder.path(), Some(&written.to_label));
    assert_eq!(again.gold.dev + again.gold.locked, 30);
    assert!(again.gold.locked > again.gold.dev && again.gold.dev > 0, "{:?}", again.gold);
    assert_eq!(std::fs::read_to_string(&written.to_label).unwrap(), filled, "what people wrote stays");
    let rows = TrainingRows::read(&task, folder.path()).unwrap();
    assert!(rows.len() <= 31, "{}", rows.len());
    let checked = read_answers(&folder.path().join(CHECK_FILE)).unwrap();
    assert!(
        checked.len() as u64 <= again.gold.dev && !checked.is_empty(),
        "the teacher is judged by development rows"
    );
    std::fs::write(&written.to_label, "text,answer\nhi,biling\n").unwrap();
    let sites = discover(vec![place("p", "", tickets())]);
    let from = FromSite {
        name: "desk",
        max_served_error: 0.05,
        remote: None,
        budget: Vec::new(),
        gold: Some(&written.to_label),
        opened: Texts::default(),
        day: &|_| String::new(),
    };
    let error = write(&sites[0], &from, folder.path()).unwrap_err();
    assert!(error.to_string().contains("`biling` is no answer"), "{error}");
}
