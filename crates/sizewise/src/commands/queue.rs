//! `sizewise queue`: what waits for a person, and what did people say?

mod agreement;

use super::{DONE, trained::store};
use crate::{
    cli::Queue,
    clock,
    error::{Error, Result},
    people::{self, Chosen, Outcome, Person, Shown},
    project::Project,
    review,
    screen::Screen,
    table::shortened,
};
use serde::Serialize;
use sizewise_contract::{QueuedItem, StoredInput, Waits, did_you_mean};
use sizewise_learn::table::{TableWriter, TableWriterOptions};
use sizewise_store::{GoldAnswer, QueueDepth, Role, Store};
use std::{collections::BTreeMap, fmt::Write};

pub(super) fn run(project: &Project, what: &Queue, screen: &Screen) -> Result<u8> {
    let store = store(project)?;
    if !matches!(what, Queue::Export { .. }) {
        screen.without_file()?;
    }
    match what {
        Queue::List { task, limit, by } => {
            list((project, &store), (task.as_deref(), *limit), &person(&store, by.as_deref()), screen)
        }
        Queue::Answer { decision, label, question, by, after } => {
            let item = store.waiting_question(decision, question.as_deref())?;
            let label = checked(project, &item, label)?;
            let person = person(&store, by.as_deref());
            answer((project, &store), &item, (&person, Some(&label), *after), screen)
        }
        Queue::Skip { decision, question, by, after } => {
            let item = store.waiting_question(decision, question.as_deref())?;
            let person = person(&store, by.as_deref());
            answer((project, &store), &item, (&person, None, *after), screen)
        }
        Queue::Agreement { task } => agreement::run(project, &store, task, screen),
        Queue::Export { task, force } => export(project, &store, (task, *force), screen),
    }
}

/// Whoever types a command runs the server, or says whose answer they bring.
fn person(store: &Store, by: Option<&str>) -> Person {
    Person { name: by.unwrap_or(store.actor()).to_owned(), role: Role::Operator }
}

fn list(
    (project, store): (&Project, &Store),
    (task, limit): (Option<&str>, usize),
    person: &Person,
    screen: &Screen,
) -> Result<u8> {
    #[derive(Serialize)]
    struct Waiting {
        waiting: Vec<QueueDepth>,
        items: Vec<Shown>,
    }
    let items = match task {
        Some(task) => review::next(store, (task, &project.task(task)?.people), person, limit)?,
        None => {
            let mut found = Vec::new();
            for item in store.waiting(None, limit)? {
                // Where the task is gone, as tasks are unless they say otherwise.
                let people = project.task(&item.task).map(|task| task.people).unwrap_or_default();
                found.extend(people::shown(store, (&people, person), item)?);
            }
            found
        }
    };
    let found = Waiting { waiting: store.queue_depths()?, items };
    screen.result("queue list", &found, || {
        let mut out = String::new();
        for item in &found.items {
            let said = said(item);
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

fn said(item: &Shown) -> String {
    let chosen =
        |chosen: &Chosen| chosen.answer.as_ref().map_or("cannot say".to_owned(), |a| format!("`{a}`"));
    let suggested = item.suggestion.as_ref().zip(item.confidence);
    match (&item.first, suggested, item.differ.as_slice()) {
        (Some(first), Some((suggestion, confidence)), _) => format!(
            "you chose {}; the model would say `{suggestion}` ({confidence:.3}): answer once more with --after",
            chosen(first)
        ),
        (_, Some((suggestion, confidence)), _) => {
            format!("the model would say `{suggestion}` ({confidence:.3})")
        }
        (_, None, [one, other]) => {
            format!("two people differ: {}, {}; you decide", chosen(one), chosen(other))
        }
        // Whoever is to judge should not be told.
        _ if item.why == Waits::Probe => "drawn at random, to see whether the promise is kept".to_owned(),
        _ => "answered without the model's suggestion".to_owned(),
    }
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

fn answer(
    (project, store): (&Project, &Store),
    item: &QueuedItem,
    (person, answer, after): (&Person, Option<&str>, bool),
    screen: &Screen,
) -> Result<u8> {
    #[derive(Serialize)]
    struct Answered<'a> {
        decision: &'a str,
        question: &'a str,
        answer: Option<&'a str>,
        #[serde(flatten)]
        outcome: Outcome,
    }
    let people = project.task(&item.task)?.people;
    let outcome = people::answer(store, (&people, person), item, (answer, after))?;
    let answered = Answered { decision: &item.decision, question: &item.question, answer, outcome };
    screen.result("queue answer", &answered, || {
        let (decision, question) = (&item.decision, &item.question);
        let said = answer.map_or("not answered".to_owned(), |label| format!("`{label}`"));
        match answered.outcome.became {
            "gold" => format!("{decision}: `{question}` is {said}. It is a gold row now.\n"),
            "dropped" => format!("{decision}: `{question}` is dropped without an answer.\n"),
            "second" => format!("{decision}: `{question}` is {said} for you. It waits for a second person.\n"),
            "disputed" => format!("{decision}: `{question}` is {said} for you, and another person differs. It waits for a third one.\n"),
            _ => format!(
                "{decision}: you chose {said}; the model would say `{}`. Both choices are kept: answer once more with --after, the same or another.\n",
                item.suggestion
            ),
        }
    });
    Ok(DONE)
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
