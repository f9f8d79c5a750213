//! `sizewise list`, `show` and `rollback`: which tasks are there, and which of their releases are in force?

use super::{DONE, trained::store};
use crate::{
    cli::{Rollback, TaskName},
    clock,
    error::{Error, Result},
    project::Project,
    screen::Screen,
    table::{Align, Table, percent},
};
use serde::Serialize;
use sizewise_contract::{Certificate, ContentHash, Verdict, units::UnixMillis};
use sizewise_store::{OpeningInfo, Release, Store, Switch};
use std::fmt::Write;

#[derive(Serialize)]
struct Listed {
    tasks: Vec<Line>,
}

#[derive(Serialize)]
pub(crate) struct Line {
    pub(crate) task: String,
    /// Why the task file cannot be read.
    pub(crate) problem: Option<String>,
    pub(crate) release: Option<ContentHash>,
    pub(crate) questions: Vec<Standing>,
    waiting: u64,
}

/// How one question stands.
#[derive(Serialize)]
pub(crate) struct Standing {
    pub(crate) question: String,
    max_served_error: Option<f64>,
    pub(crate) certified: bool,
    coverage: Option<f64>,
}

pub(super) fn run(project: &Project, screen: &Screen) -> Result<u8> {
    let mut listed = Listed { tasks: Vec::new() };
    let names = project.task_names()?;
    if names.is_empty() {
        // Looking leaves nothing behind.
        screen.result("list", &listed, || list_text(project, &listed, screen));
        return Ok(DONE);
    }
    let store = store(project)?;
    let waiting = store.queue_depths()?;
    for name in names {
        let depth = waiting.iter().find(|depth| depth.task == name).map_or(0, |depth| depth.waiting);
        listed.tasks.push(line(project, &store, name, depth)?);
    }
    screen.result("list", &listed, || list_text(project, &listed, screen));
    Ok(DONE)
}

/// How one task stands, of which so much waits.
pub(crate) fn line(project: &Project, store: &Store, name: String, waiting: u64) -> Result<Line> {
    let release = store.in_force(&name)?;
    let (problem, questions) = match project.task(&name) {
        Err(error) => (Some(error.to_string()), Vec::new()),
        Ok(task) => {
            let standing = |question: &sizewise_contract::Question| {
                let certificate = release.as_ref().and_then(|release| release.certificate(&question.name));
                Standing {
                    question: question.name.clone(),
                    max_served_error: Some(task.promise_of(question).max_served_error),
                    certified: certificate.is_some(),
                    coverage: certificate.map(coverage),
                }
            };
            (None, task.questions.iter().map(standing).collect())
        }
    };
    Ok(Line { task: name, problem, release: release.map(|release| release.id), questions, waiting })
}

fn coverage(certificate: &Certificate) -> f64 {
    certificate.counts.answered as f64 / certificate.counts.rows.max(1) as f64
}

fn list_text(project: &Project, listed: &Listed, screen: &Screen) -> String {
    if listed.tasks.is_empty() {
        return format!(
            "No tasks in {}. Make one: sizewise init NAME --from FILE, or try sizewise quickstart\n",
            project.root().display()
        );
    }
    let mut table = Table::new(&[
        ("task", Align::Left),
        ("question", Align::Left),
        ("promise", Align::Right),
        ("standing", Align::Left),
        ("coverage", Align::Right),
        ("release", Align::Left),
        ("waiting", Align::Right),
    ]);
    for line in &listed.tasks {
        let release = line.release.map_or("–".to_owned(), |release| release.short());
        if let Some(problem) = &line.problem {
            table.row([
                line.task.clone(),
                screen.bad(problem),
                String::new(),
                String::new(),
                String::new(),
                release,
                String::new(),
            ]);
            continue;
        }
        for question in &line.questions {
            let standing = match (line.release.is_some(), question.certified) {
                (_, true) => "certified",
                (true, false) => "not certified",
                (false, false) => "not trained",
            };
            table.row([
                line.task.clone(),
                question.question.clone(),
                question.max_served_error.map_or(String::new(), |error| format!("≤ {}", percent(error))),
                standing.to_owned(),
                question.coverage.map_or("–".to_owned(), percent),
                release.clone(),
                line.waiting.to_string(),
            ]);
        }
    }
    table.render()
}

#[derive(Serialize)]
pub(crate) struct Shown {
    pub(crate) task: sizewise_contract::Task,
    contract: ContentHash,
    in_force: Option<ContentHash>,
    /// Whether the task file is the one that the release in force was made from.
    pub(crate) file_is_in_force: bool,
    certificates: Vec<Certificate>,
    pub(crate) releases: Vec<ReleaseLine>,
    pub(crate) history: Vec<Switch>,
    openings: Vec<OpeningInfo>,
    /// Where they were counted, which takes the longer the more there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<u64>,
}

#[derive(Serialize)]
pub(crate) struct ReleaseLine {
    release: ContentHash,
    made_at: UnixMillis,
    certified: Vec<String>,
    bytes: u64,
}

/// What is known of a task; its records are not counted.
pub(crate) fn shown(project: &Project, store: &Store, name: &str) -> Result<Shown> {
    let task = project.task(name)?;
    let in_force = store.in_force(&task.name)?;
    let line = |release: Release| ReleaseLine {
        release: release.id,
        made_at: release.manifest.made_at,
        certified: release
            .certificates
            .iter()
            .filter(|certificate| certificate.may_answer())
            .map(|certificate| certificate.question.clone())
            .collect(),
        bytes: release.manifest.parts.iter().map(|part| part.size).sum(),
    };
    Ok(Shown {
        contract: task.contract_hash(),
        in_force: in_force.as_ref().map(|release| release.id),
        file_is_in_force: in_force
            .as_ref()
            .is_some_and(|release| release.manifest.contract == task.contract_hash()),
        certificates: in_force.map_or(Vec::new(), |release| release.certificates),
        releases: store.releases(&task.name)?.into_iter().map(line).collect(),
        history: store.history(&task.name)?,
        openings: store.openings(&task.name)?,
        records: None,
        task,
    })
}

pub(super) fn show(project: &Project, arguments: &TaskName, screen: &Screen) -> Result<u8> {
    let store = store(project)?;
    let mut shown = shown(project, &store, &arguments.task)?;
    shown.records = Some(store.count_records(&shown.task.name)?);
    screen.result("show", &shown, || show_text(&shown, screen));
    Ok(DONE)
}

fn show_text(shown: &Shown, screen: &Screen) -> String {
    let mut out = String::new();
    let _ = write_shown(&mut out, shown, screen);
    out
}

fn write_shown(out: &mut String, shown: &Shown, screen: &Screen) -> std::fmt::Result {
    let task = &shown.task;
    writeln!(out, "{}, contract {}", screen.bold(&task.name), shown.contract.short())?;
    writeln!(out, "  reads {}", task.input.fields.join(", "))?;
    for question in &task.questions {
        let promise = task.promise_of(question);
        let certificate = shown.certificates.iter().find(|certificate| certificate.question == question.name);
        let standing = match certificate.map(|certificate| &certificate.verdict) {
            None => "not put to the test".to_owned(),
            Some(Verdict::Certified) if certificate.is_some_and(|certificate| !certificate.may_answer()) => {
                "certified, but not answered: a gate refuses it".to_owned()
            }
            Some(Verdict::Certified) => certificate.map_or(String::new(), |certificate| {
                format!(
                    "certified at threshold {:.4}, coverage {}",
                    certificate.threshold.unwrap_or(1.0),
                    percent(coverage(certificate))
                )
            }),
            Some(Verdict::Refused { .. }) => "refused".to_owned(),
            Some(Verdict::InsufficientEvidence { label_more }) => {
                format!("insufficient evidence, label {label_more} more")
            }
        };
        writeln!(
            out,
            "  asks {} ({} classes): at most {} wrong, {:.0} % sure: {standing}",
            question.name,
            question.class_values().len(),
            percent(promise.max_served_error),
            promise.confidence * 100.0
        )?;
    }
    if shown.in_force.is_some() && !shown.file_is_in_force {
        writeln!(
            out,
            "  {} the task file has changed since; run `sizewise train {}`",
            screen.bad("!"),
            task.name
        )?;
    }
    writeln!(out, "  {} records, kept {} days", shown.records.unwrap_or(0), task.privacy.retention_days)?;
    let mut table = Table::new(&[
        ("release", Align::Left),
        ("made", Align::Left),
        ("certified", Align::Left),
        ("size", Align::Right),
        ("", Align::Left),
    ]);
    for release in shown.releases.iter().rev().take(10) {
        let mark = if Some(release.release) == shown.in_force { "in force" } else { "" };
        let certified = match release.certified.is_empty() {
            true => "–".to_owned(),
            false => release.certified.join(", "),
        };
        let size = format!("{:.1} MB", release.bytes as f64 / 1e6);
        table.row([
            release.release.short(),
            clock::minute(release.made_at),
            certified,
            size,
            mark.to_owned(),
        ]);
    }
    if shown.releases.is_empty() {
        return writeln!(out, "\nNo release yet. Run: sizewise train {}", task.name);
    }
    writeln!(out, "\n{}", table.render().trim_end())?;
    writeln!(out, "\nPut in force")?;
    for switch in shown.history.iter().rev().take(10) {
        writeln!(out, "  {}  {}  {}", clock::minute(switch.at), switch.release.short(), switch.reason)?;
    }
    for opening in &shown.openings {
        let ended = if opening.finished { "" } else { ", never finished" };
        writeln!(
            out,
            "Locked rows {} opened {} for release {}{ended}",
            opening.locked_rows.short(),
            clock::minute(opening.at),
            opening.release.short()
        )?;
    }
    Ok(())
}

pub(super) fn rollback(project: &Project, arguments: &Rollback, screen: &Screen) -> Result<u8> {
    #[derive(Serialize)]
    struct Back<'a> {
        task: &'a str,
        release: ContentHash,
        certified: bool,
    }
    let name = project.task(&arguments.task)?.name;
    let store: Store = store(project)?;
    if store.in_force(&name)?.is_none() {
        return Err(Error::NotTrained { task: name });
    }
    let release = store.rollback(&name, arguments.release.as_deref())?;
    let certified = release.certificates.iter().any(|certificate| certificate.may_answer());
    screen.result("rollback", &Back { task: &name, release: release.id, certified }, || {
        let proof = if certified { "" } else { " It has no certificate." };
        format!(
            "Release {} is in force again; running servers notice within a second.{proof}\n",
            release.id.short()
        )
    });
    Ok(DONE)
}
