//! What does the command say of what it bought?

use super::{TeachResult, check::GoldCheck};
use crate::{
    screen::Screen,
    table::{Align, Table, percent, with_interval},
};
use sizewise_contract::units::MicroUsd;
use std::fmt::Write;

pub(super) fn all(result: &TeachResult, screen: &Screen) -> String {
    let mut out = String::new();
    // Writing into a String cannot fail.
    let _ = write_all(&mut out, result, screen);
    out
}

/// How good the teacher is, and a warning where that is not good enough.
pub(in crate::commands) fn check(found: &GoldCheck, screen: &Screen) -> String {
    let mut out = String::new();
    let _ = write_check(&mut out, found, screen);
    out
}

fn write_all(out: &mut String, result: &TeachResult, screen: &Screen) -> std::fmt::Result {
    let pool = &result.pool;
    writeln!(out, "{}", screen.bold("Texts"))?;
    writeln!(out, "  {:>7} rows, {} of them to choose from", pool.rows, result.to_choose_from)?;
    for (count, what) in [
        (pool.copies, "left out: the same text as an earlier row"),
        (pool.unusable, "left out: without a text, or with one that is too long"),
        (pool.locked, "left out: the text is locked, or was opened by a certificate"),
        (pool.dev, "left out: the text of a development row"),
        (pool.trained, "left out: the text of a training row"),
        (pool.bought, "have been asked about earlier"),
    ] {
        if count > 0 {
            writeln!(out, "  {count:>7} {what}")?;
        }
    }
    if result.ended == "dry_run" {
        return write_dry_run(out, result);
    }
    write_check(out, &result.check, screen)?;
    if !result.rounds.is_empty() {
        writeln!(out, "\n{}", screen.bold("Rounds"))?;
        let mut table = Table::new(&[
            ("labels", Align::Right),
            ("quick model, development rows", Align::Right),
            ("next round adds", Align::Right),
            ("spent", Align::Right),
        ]);
        for round in &result.rounds {
            table.row([
                round.point.labels.to_string(),
                if round.point.of == 0 { "–".into() } else { percent(round.accuracy) },
                round.expected_gain.map_or_else(|| "–".into(), percent),
                round.spent.to_string(),
            ]);
        }
        write!(out, "{}", table.render())?;
    }
    let why = match result.ended {
        "gain" => "another round is not expected to be worth it",
        "labels" => "as many were asked for as --labels says",
        "budget" => "the budget does not hold another call",
        "stopped" => "stopped; call again to go on",
        _ => "every text was asked about",
    };
    writeln!(out, "\n{} labels for {} ({why})", result.labels, money(result))?;
    if result.unanswered > 0 {
        writeln!(
            out,
            "{} texts got no answer that fits the task; they are not asked about again",
            result.unanswered
        )?;
    }
    if result.labels > 0 {
        writeln!(
            out,
            "Next: sizewise train {0} (it learns from tasks/{0}/data/teacher.jsonl too)",
            result.task
        )?;
    }
    Ok(())
}

fn money(result: &TeachResult) -> String {
    match result.budget {
        Some(budget) => format!("{} of {budget}", result.spent),
        None => "nothing that prices were given for".into(),
    }
}

fn write_dry_run(out: &mut String, result: &TeachResult) -> std::fmt::Result {
    let most = result.most_for_one_text.unwrap_or_default();
    if let Some(budget) = result.budget {
        let all = result.to_choose_from as u64;
        let for_all = MicroUsd(most.0.saturating_mul(all));
        writeln!(
            out,
            "\nOne text costs at most {most}, all of them {for_all}; the bill is usually a quarter of that."
        )?;
        writeln!(out, "The budget is {budget}; {} of it is spent.", result.spent)?;
    }
    writeln!(out, "Nothing was sent. Without --dry-run, {} at {} is asked.", result.model, result.server)
}

fn write_check(out: &mut String, found: &GoldCheck, screen: &Screen) -> std::fmt::Result {
    if found.check.is_empty() {
        return writeln!(
            out,
            "\nThe teacher was not checked: there are no development rows, or --gold-check is 0"
        );
    }
    writeln!(out, "\n{}", screen.bold("The teacher on development rows"))?;
    for check in &found.check {
        let right = &check.right;
        writeln!(
            out,
            "  {}: {} of {} right, {}",
            check.question,
            right.count,
            right.of,
            with_interval(right)
        )?;
        if right.of > 0 && 1.0 - right.value > check.max_served_error {
            let told = format!(
                "its error of {} is above the {} that the task promises: what learns from it can hardly be better",
                percent(1.0 - right.value),
                percent(check.max_served_error)
            );
            writeln!(out, "    {}", screen.bad(&told))?;
        }
    }
    match found.check_unanswered {
        0 => Ok(()),
        count => writeln!(out, "  {count} of them got no answer that fits the task"),
    }
}
