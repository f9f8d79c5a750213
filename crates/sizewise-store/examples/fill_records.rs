//! Fills a store with records and waiting questions, to see what views of it cost.
//!
//! `fill_records FOLDER TASK COUNT`: through the recorder, as a server writes them, so that a million take a minute.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "an example")]

use sizewise_contract::{
    Answer, ContentHash, Disposition, EscalationReason, QueuedItem, Record, Step, StoredInput, Tier,
    answer::EscalatedTo, units::UnixMillis,
};
use sizewise_store::{Entry, Recorder, Store, new_id};
use std::{path::Path, sync::mpsc, time::Instant};

/// Records that are handed over at once.
const TOGETHER: usize = 4_000;
/// One question in so many waits for a person.
const WAITS: usize = 10;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, task, count] = arguments.as_slice() else {
        println!("fill_records FOLDER TASK COUNT");
        return;
    };
    let count: usize = count.parse().unwrap();
    let folder = Path::new(folder);
    let release = Store::open(folder).unwrap().in_force(task).unwrap().unwrap().id;
    let recorder = Recorder::start(folder).unwrap();
    let (begun, (told, heard)) = (Instant::now(), mpsc::channel());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    for first in (0..count).step_by(TOGETHER) {
        let entries =
            (first..count.min(first + TOGETHER)).map(|row| entry(task, release, (row, count), now)).collect();
        let told = told.clone();
        assert!(recorder.keep(entries, move |kept| told.send(kept).unwrap()));
        assert!(heard.recv().unwrap());
    }
    println!("{count} records in {:.0} s", begun.elapsed().as_secs_f64());
}

fn entry(task: &str, release: ContentHash, (row, count): (usize, usize), now: i64) -> Entry {
    let id = new_id("d_").unwrap();
    let at = UnixMillis(now - ((count - row) as i64) * 1_000);
    let text = format!("message {row}: my order has not arrived, and nobody answers the telephone");
    let waits = row % WAITS == 0;
    let answers = ["team", "urgent"].map(|question| answer(question, waits && question == "team"));
    let item = QueuedItem {
        decision: id.clone(),
        task: task.into(),
        question: "team".into(),
        at,
        input: StoredInput::Full(text.clone()),
        suggestion: "billing".into(),
        confidence: 0.5,
    };
    let record = Record {
        id,
        task: task.into(),
        release,
        at,
        input: StoredInput::Full(text),
        answers: answers.into(),
        elapsed_us: 900 + (row % 700) as u64,
        key_id: None,
    };
    Entry { record: Some(record), queued: if waits { vec![item] } else { Vec::new() }, subject: None }
}

fn answer(question: &str, waits: bool) -> Answer {
    let escalated =
        Disposition::Escalated { reason: EscalationReason::BelowThreshold, to: EscalatedTo::Person };
    let (value, tier) = ("billing".to_owned(), Tier::Static);
    let step = Step { tier, value: value.clone(), confidence: Some(0.9), novelty: 0.1, elapsed_us: 80 };
    Answer {
        question: question.into(),
        disposition: if waits { escalated } else { Disposition::Answered },
        value,
        class: 0,
        confidence: Some(0.9),
        threshold: Some(0.8),
        probabilities: vec![0.9, 0.1],
        tier,
        certified: true,
        handed_on: None,
        remote: None,
        path: vec![step],
    }
}
