//! `sizewise queue`: what waits for a person, and what did people say?

use super::{DONE, trained::store};
use crate::{
    cli::Queue,
    clock,
    error::{Error, Result},
    project::Project,
    review,
    screen::Screen,
    table::shortened,
};
use serde::Serialize;
use sizewise_contract::{QueuedItem, StoredInput, Waits, did_you_mean};
use sizewise_learn::table::{TableWriter, TableWriterOptions};
use sizewise_store::{GoldAnswer, QueueDepth, Store};
use std::{collections::BTreeMap, fmt::Write};

pub(super) fn run(project: &Project, what: &Queue, screen: &Screen) -> Result<u8> {
    let store = store(project)?;
    if !matches!(what, Queue::Export { .. }) {
        screen.without_file()?;
    }
    match what {
        Queue::List { task, limit } => {
            if let Some(name) = task {
                project.task(name)?;
            }
            list(&store, (task.as_deref(), *limit), screen)
        }
        Queue::Answer { decision, label, question } => {
            let item = store.waiting_question(decision, question.as_deref())?;
            let label = checked(project, &item, label)?;
            store.answer(&item, Some(&label))?;
            done(&item, Some(&label), screen);
            Ok(DONE)
        }
        Queue::Skip { decision, question } => {
            let item = store.waiting_question(decision, question.as_deref())?;
            store.answer(&item, None)?;
            done(&item, None, screen);
            Ok(DONE)
        }
        Queue::Export { task, force } => export(project, &store, (task, *force), screen),
    }
}

fn list(store: &Store, (task, limit): (Option<&str>, usize), screen: &Screen) -> Result<u8> {
    #[derive(Serialize)]
    struct Waiting {
        waiting: Vec<QueueDepth>,
        items: Vec<QueuedItem>,
    }
    let items = match task {
        Some(task) => review::next(store, task, limit)?,
        None => store.waiting(None, limit)?,
    };
    let found = Waiting { waiting: store.queue_depths()?, items };
    screen.result("queue list", &found, || {
        let mut out = String::new();
        for item in &found.items {
            let said = match item.why {
                // Whoever is to judge should not be told.
                Waits::Probe => "drawn at random, to see whether the promise is kept".to_owned(),
                _ => format!("the model would say `{}` ({:.3})", item.suggestion, item.confidence),
            };
            let _ = writeln!(
                out,
                "{}  {}  {}/{}\n    {}\n    {said}",
                item.decision,
                clock::minute(item.at),
                item.task,
                item.question,
                input(&item.input),
            );
        }
        let total: u64 = found.waiting.iter().map(|depth| depth.waiting).sum();
        let _ = match found.items.first() {
            None => writeln!(out, "Nothing waits."),
            Some(item) => writeln!(
                out,
                "\n{} of {total} that wait. Answer one: sizewise queue answer {} LABEL --question {}\n\
                 (`sizewise show {}` lists the labels; `sizewise queue skip` drops what fits none)",
                found.items.len(),
                item.decision,
                item.question,
                item.task
            ),
        };
        out
    });
    Ok(DONE)
}

fn input(input: &StoredInput) -> String {
    match input {
        StoredInput::Nothing => "(the input was not kept)".into(),
        StoredInput::Redacted(text) | StoredInput::Full(text) => shortened(text, 400),
    }
}

/// A person's answer must be one that the question knows.
pub(crate) fn checked(project: &Project, item: &QueuedItem, label: &str) -> Result<String> {
    let task = project.task(&item.task)?;
    let Some((_, question)) = task.question(&item.question) else {
        return Err(Error::usage(format!("task `{}` no longer asks `{}`", item.task, item.question)));
    };
    let known: Vec<&str> =
        question.class_values().into_iter().chain(question.out_of_scope_label.as_deref()).collect();
    if question.class_label(label.trim()).is_some() {
        return Ok(label.trim().to_owned());
    }
    let meant = did_you_mean(label, known.iter().copied())
        .map_or_else(|| format!("it takes {}", known.join(", ")), |meant| format!("did you mean `{meant}`?"));
    Err(Error::usage(format!("`{label}` is no answer to `{}`; {meant}", item.question)))
}

fn done(item: &QueuedItem, answer: Option<&str>, screen: &Screen) {
    #[derive(Serialize)]
    struct Answered<'a> {
        decision: &'a str,
        question: &'a str,
        answer: Option<&'a str>,
    }
    let answered = Answered { decision: &item.decision, question: &item.question, answer };
    screen.result("queue answer", &answered, || match answer {
        Some(label) => {
            format!("{}: `{}` is `{label}`. It is a gold row now.\n", item.decision, item.question)
        }
        None => format!("{}: `{}` is dropped without an answer.\n", item.decision, item.question),
    });
}

/// Writes one row per input, with a column for the text, called as the task calls it, and one per question.
fn export(project: &Project, store: &Store, (name, force): (&str, bool), screen: &Screen) -> Result<u8> {
    let task = project.task(name)?;
    let file =
        screen.file().ok_or_else(|| Error::usage("say where to: -o gold.csv (or .jsonl, .parquet)"))?;
    if file.exists() && !force {
        return Err(Error::Exists {
            path: file,
            hint: "choose another name, or replace it with --force".into(),
        });
    }
    // The texts of several fields were put together when they were asked; they come out so, under the first one's name.
    let text_column = task.input.fields.first().map_or("text", String::as_str).to_owned();
    let mut rows: BTreeMap<String, (String, BTreeMap<String, String>)> = BTreeMap::new();
    let mut without_text = 0usize;
    for GoldAnswer { item, answer, .. } in store.gold(name)? {
        match item.input {
            StoredInput::Nothing => without_text += 1,
            StoredInput::Redacted(text) | StoredInput::Full(text) => {
                rows.entry(item.decision)
                    .or_insert_with(|| (text, BTreeMap::new()))
                    .1
                    .insert(item.question, answer);
            }
        }
    }
    let mut columns = vec!["decision".to_owned(), text_column];
    columns.extend(task.questions.iter().map(|question| question.label_column().to_owned()));
    let mut table = TableWriter::create(&file, &columns, &TableWriterOptions::default())?;
    for (decision, (text, answers)) in &rows {
        let mut row = vec![decision.clone(), text.clone()];
        row.extend(task.questions.iter().map(|q| answers.get(&q.name).cloned().unwrap_or_default()));
        table.write(&row)?;
    }
    table.finish()?;
    #[derive(Serialize)]
    struct Exported {
        file: String,
        rows: usize,
        without_text: usize,
    }
    let exported = Exported { file: file.display().to_string(), rows: rows.len(), without_text };
    screen.result("queue export", &exported, || {
        let lost = match without_text {
            0 => String::new(),
            some => format!(" {some} answers belong to inputs that were not kept."),
        };
        format!("{} gold rows in {}.{lost}\n", exported.rows, exported.file)
    });
    Ok(DONE)
}
