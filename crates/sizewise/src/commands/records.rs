//! `sizewise records`: what did a task answer, as a table that other programs read?

use super::{DONE, trained::store};
use crate::{
    cli::Records,
    clock,
    error::{Error, Result},
    project::Project,
    screen::Screen,
};
use serde::Serialize;
use serde_json::{Value, json};
use sizewise_contract::{Disposition, Record, StoredInput, answer::EscalatedTo, units::UnixMillis};
use sizewise_learn::table::{TableWriter, TableWriterOptions};
use sizewise_store::{GoldAnswer, Store};
use std::{collections::BTreeMap, path::Path, sync::atomic::Ordering};

const COLUMNS: [&str; 17] = [
    "decision",
    "at",
    "question",
    "input",
    "answered",
    "value",
    "confidence",
    "threshold",
    "tier",
    "reason",
    "waits_for",
    "provider",
    "certified",
    "truth",
    "release",
    "elapsed_us",
    "key",
];
/// Records that are held at once.
const PAGE: usize = 2_000;
const DAY_MS: i64 = 86_400_000;

#[derive(Serialize)]
struct Exported {
    file: String,
    records: u64,
    rows: u64,
}

pub(super) fn run(project: &Project, arguments: &Records, screen: &Screen) -> Result<u8> {
    project.task(&arguments.task)?;
    let store = store(project)?;
    let file = screen
        .file()
        .ok_or_else(|| Error::usage("say where to: -o records.csv (or .tsv, .jsonl, .parquet)"))?;
    if file.exists() && !arguments.force {
        return Err(Error::Exists {
            path: file,
            hint: "choose another name, or replace it with --force".into(),
        });
    }
    let from = arguments.days.map_or(0, |days| clock::now().0 - i64::from(days) * DAY_MS);
    let truths = truths(&store, &arguments.task)?;
    let columns: Vec<String> = COLUMNS.iter().map(|name| (*name).to_owned()).collect();
    let mut table = TableWriter::create(&file, &columns, &TableWriterOptions::default())?;
    let spreadsheet = is_for_spreadsheets(&file);
    let mut exported = Exported { file: file.display().to_string(), records: 0, rows: 0 };
    let (progress, stop) = (screen.progress(), screen.stop());
    let mut last = (UnixMillis(from), String::new());
    loop {
        let page = store.records_after(&arguments.task, &last, PAGE)?;
        let Some(end) = page.last() else { break };
        last = (end.at, end.id.clone());
        for record in &page {
            exported.records += 1;
            for row in rows(record, &truths) {
                exported.rows += 1;
                let row = if spreadsheet { row.map(harmless) } else { row };
                table.write_values(&row)?;
            }
        }
        progress.at("writing records", exported.records as usize, exported.records as usize);
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
    }
    table.finish()?;
    screen.result("records", &exported, || {
        format!("{} records with {} answers in {}.\n", exported.records, exported.rows, exported.file)
    });
    Ok(DONE)
}

type Truths = BTreeMap<(String, String), String>;

/// What people said, by decision and question.
fn truths(store: &Store, task: &str) -> Result<Truths> {
    let said = store.gold(task)?.into_iter();
    Ok(said.map(|GoldAnswer { item, answer, .. }| ((item.decision, item.question), answer)).collect())
}

/// A row for each answer of a record.
fn rows<'r>(record: &'r Record, truths: &'r Truths) -> impl Iterator<Item = [Value; COLUMNS.len()]> + 'r {
    let input = match &record.input {
        StoredInput::Nothing => Value::Null,
        StoredInput::Redacted(text) | StoredInput::Full(text) => json!(text),
    };
    record.answers.iter().map(move |answer| {
        let (reason, waits_for) = match answer.disposition {
            Disposition::Answered => (answer.handed_on.map(|reason| reason.name()), None),
            Disposition::Escalated { reason, to } => {
                (Some(reason.name()), (to == EscalatedTo::Person).then_some("person"))
            }
        };
        let truth = truths.get(&(record.id.clone(), answer.question.clone()));
        [
            json!(record.id),
            json!(record.at.0),
            json!(answer.question),
            input.clone(),
            json!(answer.answered()),
            json!(answer.value),
            json!(answer.confidence),
            json!(answer.threshold),
            json!(answer.tier.name()),
            json!(reason),
            json!(waits_for),
            json!(answer.remote.as_ref().map(|remote| &remote.provider)),
            json!(answer.certified),
            json!(truth),
            json!(record.release.to_string()),
            json!(record.elapsed_us),
            json!(record.key_id),
        ]
    })
}

fn is_for_spreadsheets(file: &Path) -> bool {
    file.extension().is_some_and(|end| end == "csv" || end == "tsv")
}

/// Text that a spreadsheet would run as a formula, made text again by an apostrophe before it.
fn harmless(cell: Value) -> Value {
    match cell {
        Value::String(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => {
            json!(format!("'{text}"))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spreadsheet_would_run_is_text() {
        for dangerous in ["=HYPERLINK(\"http://x\")", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1"] {
            let Value::String(text) = harmless(json!(dangerous)) else { panic!("a text stays one") };
            assert!(text.starts_with('\''), "{text}");
        }
        assert_eq!(harmless(json!("where is my card")), json!("where is my card"));
        assert_eq!(harmless(json!(-0.5)), json!(-0.5));
    }
}
