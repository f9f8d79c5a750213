//! `sizewise evidence`: are the promises of a task still kept?

use super::{DONE, REFUSED, trained::store};
use crate::{
    cli::TaskName,
    clock,
    error::Result,
    kinds, learner,
    project::Project,
    screen::Screen,
    table::{Align, Table, percent},
    wire::live::{self, Evidence, Mix, QuestionReport, Report, report},
};
use sizewise_contract::{KindState, PromiseState, Reference, TrialMode, units::UnixMillis};
use sizewise_engine::TrialStanding;
use sizewise_measure::watch::Interval;
use sizewise_store::Store;
use std::fmt::Write;

/// Changes that are shown.
const SHOWN: usize = 10;

pub(super) fn run(project: &Project, arguments: &TaskName, screen: &Screen) -> Result<u8> {
    let rules = project.task(&arguments.task)?.live;
    let store = store(project)?;
    let (info, standings) = sizewise_engine::standings(&store, &arguments.task)?;
    let changes = store.promise_changes(&arguments.task, 1_000)?;
    let broken = standings.iter().any(|standing| standing.state == PromiseState::Broken);
    let trial = trial(&store, &arguments.task)?;
    let kinds = store.kinds(&arguments.task, 100)?.into_iter().map(|kept| kept.kind).collect();
    let mixes = sizewise_engine::mixes(&store, &info)?;
    let watched = kinds::is_watched(&store, &arguments.task)?;
    let renewals = store.renewals(&arguments.task, live::RENEWALS)?;
    let evidence = Evidence { rules, standings, changes, kinds, looks: None, mixes, renewals, trial };
    let report = report(&info, &evidence);
    screen.result("evidence", &report, || {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = text(&mut out, &report, watched);
        out
    });
    Ok(if broken { REFUSED } else { DONE })
}

/// The release that is tried beside the one in force, with the standing of a canary.
fn trial(store: &Store, task: &str) -> Result<Option<TrialStanding>> {
    let Some(trial) = store.trial(task)? else { return Ok(None) };
    let release = store.release(task, &trial.release.to_string())?;
    let (info, standings) = sizewise_engine::standings_of(store, release)?;
    let standings = if trial.mode == TrialMode::Canary { standings } else { Vec::new() };
    Ok(Some(TrialStanding { trial, info, standings, counted: [0; 3] }))
}

fn text(out: &mut String, report: &Report<'_>, watched: bool) -> std::fmt::Result {
    let who = match report.reference {
        Reference::Person => "a person",
        Reference::Remote => "the larger model",
    };
    writeln!(
        out,
        "Of what is answered here {} is also put before {who}, drawn at random (release {}).",
        percent(report.probe_share),
        report.release.get(..12).unwrap_or_default()
    )?;
    for question in &report.questions {
        one(out, report.task, question)?;
    }
    if let Some(trial) = &report.trial {
        writeln!(
            out,
            "\nRelease {} is tried as a {} of {} beside it: sizewise trial show {}",
            trial.release.get(..12).unwrap_or_default(),
            trial.mode.name(),
            percent(trial.share),
            report.task
        )?;
        for question in &trial.questions {
            one(out, report.task, question)?;
        }
    }
    let proposed = report.new_kinds.iter().filter(|kind| kind.state == KindState::Proposed);
    for kind in proposed {
        writeln!(
            out,
            "\na new kind of input: {} of what was looked at, since {}; its inputs are handed on: sizewise kinds {}",
            percent(kind.share),
            clock::minute(kind.at),
            report.task
        )?;
    }
    if let Some(latest) = report.renewals.first() {
        writeln!(
            out,
            "\nlearnt again {}: {}; sizewise renew {} --status tells more",
            clock::minute(latest.begun_at),
            learner::told(latest),
            report.task
        )?;
    }
    if !watched {
        writeln!(out, "\nnobody looks for new kinds of input: sizewise kinds {} says why", report.task)?;
    }
    Ok(())
}

fn one(out: &mut String, task: &str, question: &QuestionReport<'_>) -> std::fmt::Result {
    writeln!(out, "\n{task}/{}: {}", question.question, question.state.replace('_', " "))?;
    let Some(certified) = question.threshold.certified else {
        return writeln!(out, "  nothing is certified for it: sizewise certify {task}");
    };
    let promise = &question.promise;
    writeln!(
        out,
        "  promised     at most {} of the answers wrong, with {} confidence",
        percent(promise.max_served_error),
        percent(promise.confidence)
    )?;
    match question.threshold.now {
        Some(now) if now > certified => {
            writeln!(
                out,
                "  answered     from confidence {now:.4} on, in place of the {certified:.4} certified"
            )?;
        }
        Some(_) => writeln!(out, "  answered     from confidence {certified:.4} on, as certified")?,
        None => writeln!(out, "  answered     nothing; {certified:.4} was certified")?,
    }
    let probes = &question.probes;
    writeln!(
        out,
        "  probes       {} drawn, of {} the truth is known, {} wait",
        probes.drawn, probes.labelled, probes.waiting
    )?;
    writeln!(out, "  wrong        {}", interval(&question.served_error.interval))?;
    if let Some(mix) = &question.mix {
        mixed(out, mix)?;
    }
    for change in question.changes.iter().rev().take(SHOWN).rev() {
        let group = change.group.map_or(String::new(), |group| format!(" in {group}"));
        writeln!(
            out,
            "  {}  release {}{group}: {} \u{2192} {}: {}",
            clock::minute(UnixMillis(change.at)),
            change.release.get(..12).unwrap_or_default(),
            change.from.name().replace('_', " "),
            change.to.name().replace('_', " "),
            change.reason
        )?;
    }
    if !question.groups.is_empty() {
        let mut table = Table::new(&[
            ("  part of the traffic", Align::Left),
            ("state", Align::Left),
            ("probes", Align::Right),
            ("wrong", Align::Left),
        ]);
        for group in &question.groups {
            let state = group.state.name().replace('_', " ");
            table.row([
                format!("  {}", group.group),
                state,
                group.labelled.to_string(),
                interval(&group.interval),
            ]);
        }
        out.push_str(&table.render());
    }
    if probes.waiting > 0 && question.reference == Reference::Person {
        writeln!(out, "  people answer probes first: sizewise queue list {task}")?;
    }
    Ok(())
}

fn mixed(out: &mut String, mix: &Mix<'_>) -> std::fmt::Result {
    let (Some(distance), Some(usual)) = (mix.distance, mix.usual) else {
        return writeln!(out, "  mix          {} requests are too few to tell the mix of classes", mix.seen);
    };
    let grown: Vec<String> = mix
        .grown
        .iter()
        .map(|one| {
            let ends = one.low.zip(one.high);
            let ends =
                ends.map_or(String::new(), |(low, high)| format!(" ({} to {})", percent(low), percent(high)));
            format!("{} {} \u{2192} {}{ends}", one.class, percent(one.certified), percent(one.now))
        })
        .collect();
    if !mix.changed {
        return writeln!(
            out,
            "  mix          as certified, as far as {} requests tell ({} of them seem to be of another class; by chance up to {})",
            mix.seen,
            percent(distance),
            percent(usual)
        );
    }
    writeln!(
        out,
        "  mix          {} of {} requests are of another class than when it was certified: {}",
        percent(distance),
        mix.seen,
        grown.join(", ")
    )?;
    match mix.threshold {
        Some(threshold) => writeln!(
            out,
            "               under this mix the gold rows prove the promise from confidence {threshold:.4} on"
        ),
        None => writeln!(
            out,
            "               the gold rows prove nothing under this mix: label more of {}",
            mix.label_next.join(", ")
        ),
    }
}

fn interval(interval: &Interval) -> String {
    match interval.estimate {
        Some(estimate) => format!(
            "{} (between {} and {}, whenever one looks)",
            percent(estimate),
            percent(interval.low),
            percent(interval.high)
        ),
        None => "not known yet".into(),
    }
}
