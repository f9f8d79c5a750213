//! `sizewise kinds`: which new kinds of input came, and what is to become of one?

use super::{DONE, trained::store};
use crate::{
    cli::Kinds,
    clock,
    error::Result,
    kinds::{self, Seen, View},
    project::Project,
    screen::Screen,
    table::{percent, shortened},
};
use serde_json::json;
use std::fmt::Write;

pub(super) fn run(project: &Project, arguments: &Kinds, screen: &Screen) -> Result<u8> {
    let task = &arguments.task;
    project.task(task)?;
    let store = store(project)?;
    if let Some(id) = arguments.dismiss {
        kinds::dismiss(&store, task, id, arguments.reason.as_deref().unwrap_or_default())?;
        screen.result("kinds dismiss", &json!({ "task": task, "kind": id, "state": "dismissed" }), || {
            format!("Kind {id} is dismissed; running servers answer its inputs as before within a second.\n")
        });
        return Ok(DONE);
    }
    if let Some(id) = arguments.label {
        let waiting = kinds::label(&store, task, id)?;
        screen.result("kinds label", &json!({ "task": task, "kind": id, "waiting": waiting }), || {
            format!("{waiting} questions about inputs of kind {id} wait, ahead of all others: sizewise queue list {task}\n")
        });
        return Ok(DONE);
    }
    let view = kinds::view(&store, task, true)?;
    screen.result("kinds", &view, || {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = text(&mut out, &view);
        out
    });
    Ok(DONE)
}

fn text(out: &mut String, view: &View) -> std::fmt::Result {
    let task = &view.task;
    if !view.watched {
        writeln!(
            out,
            "Nobody looks for new kinds of input of {task}: its release in force has nothing that they could be told by. It needs an encoder \
             tier and some hundred rows that the encoder has not learnt from: sizewise train {task}"
        )?;
    }
    if view.kinds.is_empty() {
        return writeln!(out, "No new kind of input was proposed.");
    }
    view.kinds.iter().try_for_each(|seen| one(out, task, seen))
}

fn one(out: &mut String, task: &str, seen: &Seen) -> std::fmt::Result {
    let kind = &seen.kind;
    writeln!(
        out,
        "kind {}: {}, since {} (release {}){}",
        kind.id,
        kind.state.name(),
        clock::minute(kind.at),
        kind.release.short(),
        seen.label.as_ref().map_or(String::new(), |label| format!("; it might be called {label}"))
    )?;
    writeln!(
        out,
        "  {} of what was looked at, at most {} of the training rows; proposed after {} looks",
        percent(kind.share),
        percent(kind.known_share),
        kind.looks
    )?;
    if !seen.words.is_empty() {
        writeln!(out, "  words     {}", seen.words.join(", "))?;
    }
    for example in seen.examples.iter().flatten() {
        writeln!(out, "  {}  {}", example.decision, shortened(&example.text, 90))?;
    }
    if kind.state == sizewise_contract::KindState::Proposed {
        writeln!(
            out,
            "  its inputs are handed on until a release knows it: sizewise kinds {task} --label {id}, or --dismiss {id} --reason WHY",
            id = kind.id
        )?;
    }
    Ok(())
}
