//! `sizewise doctor` and `lint`: is everything as it must be, and if not, what helps?

use super::{
    DONE, audit,
    trained::{Trained, threads},
};
use crate::{
    cli::Lint,
    error::{Error, Result},
    project::{Project, SETTINGS_FILE},
    providers::Providers,
    screen::Screen,
};
use serde::Serialize;
use sizewise_contract::{
    Diagnose, QuestionKind, Task,
    task::{EscalateTo, LabelSource, StoreInput},
};
use sizewise_learn::dataset::{Locked, TrainingRows, read_gold};
use sizewise_models::Kernel;
use sizewise_store::Store;
use std::net::TcpListener;

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    what: String,
    /// `ok`, `note` or `wrong`.
    state: State,
    found: String,
    /// The way out.
    help: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    Note,
    Wrong,
}

#[derive(Serialize)]
struct Checked {
    checks: Vec<Check>,
    wrong: usize,
}

fn ok(what: impl Into<String>, found: impl Into<String>) -> Check {
    Check { what: what.into(), state: State::Ok, found: found.into(), help: None }
}

fn note(what: impl Into<String>, found: impl Into<String>, help: impl Into<String>) -> Check {
    Check { what: what.into(), state: State::Note, found: found.into(), help: Some(help.into()) }
}

fn wrong(what: impl Into<String>, error: &dyn Diagnose) -> Check {
    Check { what: what.into(), state: State::Wrong, found: error.to_string(), help: error.hint() }
}

pub(super) fn run(project: &Project, screen: &Screen) -> Result<u8> {
    let mut checks = machine(project);
    let store = project_checks(project, &mut checks)?;
    for name in project.task_names()? {
        task(project, store.as_ref(), &name, &mut checks);
    }
    Ok(finish("doctor", checks, screen))
}

/// Checks task files alone.
pub(super) fn lint(project: &Project, arguments: &Lint, screen: &Screen) -> Result<u8> {
    let names = match &arguments.task {
        Some(name) => vec![project.task(name).map(|task| task.name).or_else(|error| match error {
            Error::UnknownTask { .. } => Err(error),
            _ => Ok(name.clone()),
        })?],
        None => project.task_names()?,
    };
    let mut checks = Vec::new();
    for name in &names {
        match project.task(name) {
            Err(error) => checks.push(wrong(name, &error)),
            Ok(task) => {
                let before = checks.len();
                contract(&task, &mut checks);
                remote(project, &task, &mut checks);
                if checks.len() == before {
                    checks.push(ok(name, "nothing to say about its task file"));
                }
            }
        }
    }
    if names.is_empty() {
        checks.push(note("tasks", "there are none", "sizewise init NAME --from FILE makes one"));
    }
    Ok(finish("lint", checks, screen))
}

fn finish(command: &str, checks: Vec<Check>, screen: &Screen) -> u8 {
    let wrong = checks.iter().filter(|check| check.state == State::Wrong).count();
    let checked = Checked { checks, wrong };
    screen.result(command, &checked, || {
        let mut out = String::new();
        for check in &checked.checks {
            let mark = match check.state {
                State::Ok => screen.good("ok   "),
                State::Note => screen.bold("note "),
                State::Wrong => screen.bad("wrong"),
            };
            out += &format!("{mark}  {}: {}\n", check.what, check.found);
            if let Some(help) = &check.help {
                out += &format!("         way out: {help}\n");
            }
        }
        out
    });
    if wrong > 0 { 1 } else { DONE }
}

fn machine(project: &Project) -> Vec<Check> {
    let mut checks = vec![ok("program", format!("sizewise {}", env!("CARGO_PKG_VERSION")))];
    checks.push(match Kernel::best() {
        Kernel::Portable => note(
            "processor",
            format!("{} threads; the encoder runs on portable code", threads()),
            "a processor with AVX-512 VNNI or AMX runs it several times faster; results are the same",
        ),
        fast => ok("processor", format!("{} threads; the encoder runs on {}", threads(), fast.name())),
    });
    match sizewise_models::builtin::encoder().and_then(|_| sizewise_models::builtin::static_embeddings()) {
        Ok(_) => checks.push(ok("built-in models", "8-bit MiniLM-L6 and static embeddings load")),
        Err(error) => checks.push(wrong("built-in models", &error)),
    }
    let bind = project.settings().serve.bind;
    checks.push(match TcpListener::bind(bind) {
        Ok(_) => ok("address", format!("{bind} is free")),
        Err(error) => note("address", format!("{bind}: {error}"), "serve on another one with --bind ADDRESS"),
    });
    checks
}

fn project_checks(project: &Project, checks: &mut Vec<Check>) -> Result<Option<Store>> {
    let root = project.root();
    let settings = root.join(SETTINGS_FILE);
    let found = if settings.is_file() { "with settings of its own" } else { "with default settings" };
    checks.push(match project.exists() {
        true => ok("project", format!("{}, {found}", root.display())),
        false => note(
            "project",
            format!("{} holds none", root.display()),
            "`sizewise init TASK --from TABLE` makes one here; --project DIR names another",
        ),
    });
    if !Store::exists(&project.store_folder()) {
        checks.push(note("store", "there is none yet", "`sizewise train` makes it"));
        return Ok(None);
    }
    let store = match Store::open(&project.store_folder()) {
        Ok(store) => store,
        Err(error) => {
            checks.push(wrong("store", &error));
            return Ok(None);
        }
    };
    match store.check() {
        Ok(problems) if problems.is_empty() => {
            checks.push(ok("store", "every page and every object is whole"))
        }
        Ok(problems) => checks.extend(problems.into_iter().map(|problem| {
            Check {
                what: "store".into(),
                state: State::Wrong,
                found: problem,
                help: Some(
                    "`sizewise rollback TASK` to a whole release, or `sizewise train TASK` to make it again"
                        .into(),
                ),
            }
        })),
        Err(error) => checks.push(wrong("store", &error)),
    }
    match audit::findings(&store) {
        Ok(findings) if findings.is_empty() => {
            let found = format!("every entry is whole; head {}", store.audit_head()?);
            checks.push(ok("audit log", found));
        }
        Ok(findings) => checks.extend(findings.into_iter().map(|finding| Check {
            what: "audit log".into(),
            state: State::Wrong,
            found: finding.to_string(),
            help: Some(
                "somebody wrote into the database past this program: put it back from a backup".into(),
            ),
        })),
        Err(error) => checks.push(wrong("audit log", &error)),
    }
    let keys = store.keys()?.iter().filter(|key| key.revoked_at.is_none()).count();
    checks.push(match (keys, project.settings().serve.bind.ip().is_loopback()) {
        (0, false) => note(
            "keys",
            "there are none, and the address is not this machine's own",
            "sizewise keys create NAME",
        ),
        (0, true) => ok("keys", "none; the server answers this machine alone"),
        (some, _) => ok("keys", format!("{some} in use")),
    });
    let waiting: u64 = store.queue_depths()?.iter().map(|depth| depth.waiting).sum();
    if waiting > 0 {
        checks.push(note("queue", format!("{waiting} questions wait for a person"), "sizewise queue list"));
    }
    Ok(Some(store))
}

fn task(project: &Project, store: Option<&Store>, name: &str, checks: &mut Vec<Check>) {
    let task = match project.task(name) {
        Ok(task) => task,
        Err(error) => return checks.push(wrong(name, &error)),
    };
    contract(&task, checks);
    remote(project, &task, checks);
    let folder = project.task_folder(name);
    match TrainingRows::read(&task, &folder).and_then(|_| read_gold(&task, &folder.join(&task.data.dev))) {
        Ok(_) => {}
        Err(error) => checks.push(wrong(format!("{name}: data"), &error)),
    }
    match Locked::find(&task, &folder) {
        Ok(locked) => checks.push(ok(
            format!("{name}: locked rows"),
            format!("{} rows, as they were set aside", locked.rows()),
        )),
        Err(error) => checks.push(wrong(format!("{name}: locked rows"), &error)),
    }
    let Some(store) = store else { return };
    let what = format!("{name}: release");
    let release = match store.in_force(name) {
        Err(error) => return checks.push(wrong(what, &error)),
        Ok(None) => return checks.push(note(what, "none", format!("sizewise train {name}"))),
        Ok(Some(release)) => release,
    };
    let short = release.id.short();
    let same = release.manifest.contract == task.contract_hash();
    let certified =
        task.questions.iter().filter(|question| release.certificate(&question.name).is_some()).count();
    match Trained::load(store, release) {
        Err(error) => checks.push(wrong(what, &error)),
        Ok(_) if !same => checks.push(note(
            what,
            format!("{short} was made before the task file changed"),
            format!("sizewise train {name}, then sizewise certify {name}"),
        )),
        Ok(_) if certified < task.questions.len() => checks.push(note(
            what,
            format!("{short} loads; {certified} of {} questions are certified", task.questions.len()),
            format!("sizewise certify {name}"),
        )),
        Ok(_) => checks.push(ok(what, format!("{short} loads, every question certified"))),
    }
}

/// Whether the larger model that a task hands on to can be asked.
fn remote(project: &Project, task: &Task, checks: &mut Vec<Check>) {
    if task.cascade.remote.is_none() {
        return;
    }
    let what = format!("{}: [cascade] remote", task.name);
    match Providers::new(project).terms(task) {
        Ok(Some(found)) => {
            let names: Vec<&str> = found.targets.iter().map(|target| target.name()).collect();
            checks.push(ok(what, format!("what is left goes to {}", names.join(", then "))));
        }
        Ok(None) => {}
        Err(error) => checks.push(wrong(what, &error)),
    }
}

/// What a careful reader would say about a task file that breaks no rule.
fn contract(task: &Task, checks: &mut Vec<Check>) {
    let name = &task.name;
    if task.cascade.escalate_to == EscalateTo::Person && task.privacy.store == StoreInput::Nothing {
        checks.push(note(
            format!("{name}: [privacy]"),
            "store = \"nothing\" keeps no input, so nothing can be put before a person: the task abstains",
            "store = \"redacted\", or escalate_to = \"none\" to say so openly",
        ));
    }
    for question in &task.questions {
        let promise = task.promise_of(question);
        let what = format!("{name}: {}", question.name);
        if promise.max_served_error >= 0.2 {
            checks.push(note(
                &what,
                format!("max_served_error = {} lets one answer in five be wrong", promise.max_served_error),
                "0.05 is usual",
            ));
        }
        if promise.openings > 5 {
            checks.push(note(
                &what,
                format!(
                    "openings = {} leaves each opening a small part of the risk, which costs coverage",
                    promise.openings
                ),
                "plan as many as you will need, and label new rows for later ones",
            ));
        }
        if question.kind == QuestionKind::Choice
            && question.choices.iter().all(|choice| choice.description.is_empty())
        {
            checks.push(note(
                &what,
                "no choice has a description",
                "add descriptions: people in the queue and the language models of later tiers read them",
            ));
        }
    }
    if task.data.train_labels == LabelSource::Teacher {
        checks.push(note(
            format!("{name}: [data]"),
            "the training labels were given by a model; development and locked rows must be checked by people",
            "nothing to do where they are",
        ));
    }
}
