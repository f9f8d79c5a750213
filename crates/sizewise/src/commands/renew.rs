//! `sizewise renew`: how is a promise earned anew with what people answered since?
//!
//! Rows that were drawn at random from the traffic become the new development and locked rows; all other answers, and the rows that
//! proved before, teach. Then `train` and `certify` run as ever. The release in force stays until its successor is certified.

use super::{TOO_LITTLE, certify, train, trained::store};
use crate::{
    cli::{Certify, Renew},
    clock,
    error::{Error, Result},
    learner::{self, LearnPromote},
    project::Project,
    screen::Screen,
};
use serde::Serialize;
use sizewise_contract::{ContentHash, PromiseState, StoredInput, Task, units::UnixMillis};
use sizewise_learn::{
    dataset::{Locked, TrainingRows, read_gold},
    renew::{Answered, Renewal, finish, renew},
    train::rows_hash,
};
use sizewise_store::{GoldAnswer, RENEWAL_STEPS, RenewalInfo, Store};
use std::collections::BTreeMap;

/// How the rows were divided.
#[derive(Serialize)]
struct Divided {
    task: String,
    /// From when on drawn rows prove, in milliseconds since 1970; none where all do.
    since: Option<UnixMillis>,
    /// Drawn, and nobody answered them yet: were they other than the rest, the locked rows would not be like the traffic.
    unanswered: u64,
    #[serde(flatten)]
    rows: Renewal,
}

pub(super) fn run(project: &Project, arguments: &Renew, screen: &Screen) -> Result<u8> {
    let name = &arguments.train.task;
    let task = project.task(name)?;
    let store = store(project)?;
    if arguments.status {
        return status((project, &store), name, screen);
    }
    if arguments.dry_run {
        return steps((project, &store, &task), arguments, (screen, &|_| Ok(()))).map(|(code, _)| code);
    }
    let running = store.begin_renewal(name, arguments.because.as_deref().unwrap_or("it was asked for"))?;
    let note = |step: &str| Ok(store.note_renewal(&running, step)?);
    let outcome = steps((project, &store, &task), arguments, (screen, &note));
    let (state, release, told) = match &outcome {
        Ok((super::DONE, release)) => ("certified", *release, ended(&store, name, *release)?),
        Ok((TOO_LITTLE, None)) => {
            let told = "too few drawn rows have an answer: sizewise queue list shows them first";
            ("too_little", None, Some(told.to_owned()))
        }
        Ok((TOO_LITTLE, release)) => ("too_little", *release, None),
        Ok((_, release)) => ("refused", *release, None),
        Err(Error::Interrupted) => ("interrupted", None, None),
        Err(error) => ("failed", None, Some(error.to_string())),
    };
    store.end_renewal(running, state, (release, told.as_deref()))?;
    outcome.map(|(code, _)| code)
}

/// What is to be done with a certified release.
fn ended(store: &Store, task: &str, release: Option<ContentHash>) -> Result<Option<String>> {
    let in_force = store.in_force(task)?.map(|release| release.id);
    Ok(match release {
        Some(release) if in_force != Some(release) => {
            Some(format!("it waits for: sizewise promote {task} {}", release.short()))
        }
        _ => None,
    })
}

fn status((project, store): (&Project, &Store), name: &str, screen: &Screen) -> Result<u8> {
    #[derive(Serialize)]
    struct Status {
        task: String,
        by_itself: String,
        renewals: Vec<RenewalInfo>,
    }
    let renewals = store.renewals(name, 20)?;
    let by_itself = learner::waits(&learner::of(project, name));
    let status = Status { task: name.to_owned(), by_itself, renewals };
    screen.result("renew", &status, || {
        let mut out = format!("{} learns again by itself: {}\n", status.task, status.by_itself);
        for one in &status.renewals {
            let step = if one.state == "running" { format!(", {}", one.step) } else { String::new() };
            let line =
                format!("  {}  {}{step} ({})\n", clock::minute(one.begun_at), learner::told(one), one.why);
            out.push_str(&line);
        }
        if status.renewals.is_empty() {
            out.push_str("It has not learnt again yet.\n");
        }
        out
    });
    Ok(super::DONE)
}

/// Says what is done now.
type Note<'n> = dyn Fn(&str) -> Result<()> + 'n;

/// Divides, trains and certifies; the release where one was made.
fn steps(
    (project, store, task): (&Project, &Store, &Task),
    arguments: &Renew,
    (screen, note): (&Screen, &Note<'_>),
) -> Result<(u8, Option<ContentHash>)> {
    let name = &task.name;
    let folder = project.task_folder(name);
    if finish(task, &folder)? {
        screen.remark("An earlier call divided the rows: it goes on from there.");
    }
    let locked = Locked::find(task, &folder)?;
    let opened = store.openings(name)?.iter().any(|opening| opening.locked_rows == locked.hash());
    if opened {
        let since = if arguments.all_drawn { None } else { doubted_since(store, name)? };
        let answered = answered(store, task, since)?;
        let planned = renew(task, &folder, &answered, false)?;
        let release = store.in_force(name)?.map(|release| release.id);
        let from = since.unwrap_or(UnixMillis(0));
        let unanswered = release.map_or(Ok(0), |release| store.untold_probes(&release, from))?;
        let divided = Divided { task: name.clone(), since, unanswered, rows: planned };
        screen.result("renew", &divided, || text(&divided));
        if arguments.dry_run || (!divided.rows.suffices() && !arguments.anyway) {
            return Ok((if divided.rows.suffices() { super::DONE } else { TOO_LITTLE }, None));
        }
        renew(task, &folder, &answered, true)?;
    } else if arguments.dry_run {
        screen.remark("The rows were divided before, and nobody has opened the locked ones: `renew` trains and certifies.");
        return Ok((super::DONE, None));
    }
    note(RENEWAL_STEPS[1])?;
    let steps = screen.for_part();
    let release = match made_before(project, store, task)? {
        Some(made) => {
            screen.remark(&format!("Release {} was made of these rows before.", made.short()));
            made
        }
        None => train::make(project, &arguments.train, &steps)?.0.id,
    };
    let certify = Certify {
        task: name.clone(),
        dry_run: false,
        anyway: arguments.anyway,
        release: Some(release.to_string()),
        reason: None,
        wait: arguments.because.is_some() && learner::of(project, name).promote == LearnPromote::ByHand,
    };
    note(RENEWAL_STEPS[2])?;
    certify::run(project, &certify, &steps).map(|code| (code, Some(release)))
}

/// Since when the promises of the release in force are not simply kept any more.
fn doubted_since(store: &Store, task: &str) -> Result<Option<UnixMillis>> {
    let (info, standings) = sizewise_engine::standings(store, task)?;
    if standings.iter().all(|standing| standing.state == PromiseState::Kept) {
        return Ok(None);
    }
    let changes = store.promise_changes(task, 1_000)?;
    let of_release = changes.iter().filter(|change| change.release == info.release && change.group.is_none());
    // The last time that a question went from kept to something else.
    Ok(of_release.filter(|change| change.from == PromiseState::Kept).map(|change| change.at).next_back())
}

/// What people answered, an entry for each input that was kept.
fn answered(store: &Store, task: &Task, since: Option<UnixMillis>) -> Result<Vec<Answered>> {
    let mut inputs: BTreeMap<String, Answered> = BTreeMap::new();
    for GoldAnswer { item, answer, drawn } in store.gold(&task.name)? {
        let (StoredInput::Redacted(text) | StoredInput::Full(text)) = item.input else { continue };
        let Some((position, _)) = task.question(&item.question) else { continue };
        let proves = drawn && since.is_none_or(|since| item.at >= since);
        let labels = vec![None; task.questions.len()];
        let entry = inputs.entry(item.decision).or_insert(Answered { text, labels, proves: true });
        entry.proves &= proves;
        if let Some(label) = entry.labels.get_mut(position) {
            *label = Some(answer);
        }
    }
    Ok(inputs.into_values().collect())
}

/// What an earlier call made of the same contract and rows, and nobody has certified.
fn made_before(project: &Project, store: &Store, task: &Task) -> Result<Option<ContentHash>> {
    let folder = project.task_folder(&task.name);
    let dev = read_gold(task, &folder.join(&task.data.dev))?;
    let rows = rows_hash(&TrainingRows::read(task, &folder)?, &dev);
    let made = store.releases(&task.name)?.into_iter().rev().find(|release| {
        release.manifest.contract == task.contract_hash()
            && release.manifest.training_rows == rows
            && release.certificates.is_empty()
    });
    Ok(made.map(|release| release.id))
}

fn text(divided: &Divided) -> String {
    let rows = &divided.rows;
    let mut out = format!(
        "{} rows answered by people are new ({} were known).\n{:>7} to learn from, with those that proved before\n\
         {:>7} for development and {} locked: drawn at random from the traffic{}\n",
        rows.new,
        rows.known,
        rows.train,
        rows.dev,
        rows.locked,
        if divided.since.is_some() { " since the promise came into doubt" } else { "" }
    );
    if divided.unanswered > 0 {
        out.push_str(&format!(
            "{} that were drawn wait for an answer; what is locked is like the traffic only once they have one.\n",
            divided.unanswered
        ));
    }
    if !rows.suffices() {
        out.push_str(&format!(
            "Too few to prove anything: {} locked rows at least. Answer what was drawn (sizewise queue list {}), it comes first; or --anyway.\n",
            rows.least_locked, divided.task
        ));
    }
    out
}
