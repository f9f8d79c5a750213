//! `sizewise evidence`: are the promises of a task still kept?

use super::{DONE, REFUSED, trained::store};
use crate::{
    cli::TaskName,
    clock,
    error::Result,
    project::Project,
    screen::Screen,
    table::{Align, Table, percent},
    wire::live::{Evidence, QuestionReport, Report, report},
};
use sizewise_contract::{PromiseState, Reference, units::UnixMillis};
use sizewise_measure::watch::Interval;
use std::fmt::Write;

/// Changes that are shown.
const SHOWN: usize = 10;

pub(super) fn run(project: &Project, arguments: &TaskName, screen: &Screen) -> Result<u8> {
    let rules = project.task(&arguments.task)?.live;
    let store = store(project)?;
    let (info, standings) = sizewise_engine::standings(&store, &arguments.task)?;
    let changes = store.promise_changes(&arguments.task, 1_000)?;
    let broken = standings.iter().any(|standing| standing.state == PromiseState::Broken);
    let evidence = Evidence { rules, standings, changes };
    let report = report(&info, &evidence);
    screen.result("evidence", &report, || {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = text(&mut out, &report);
        out
    });
    Ok(if broken { REFUSED } else { DONE })
}

fn text(out: &mut String, report: &Report<'_>) -> std::fmt::Result {
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
