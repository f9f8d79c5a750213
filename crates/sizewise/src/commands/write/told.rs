//! What does the command say of what was written?

use super::WriteResult;
use crate::{
    commands::teach::told::check,
    screen::Screen,
    table::{Align, Table},
};
use std::fmt::Write;

/// Labels that are shown one by one.
const SHOWN: usize = 20;

pub(super) fn all(result: &WriteResult, screen: &Screen) -> String {
    let mut out = String::new();
    // Writing into a String cannot fail.
    let _ = write_all(&mut out, result, screen);
    out
}

fn write_all(out: &mut String, result: &WriteResult, screen: &Screen) -> std::fmt::Result {
    if !result.too_few.is_empty() {
        let shown = result.too_few.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        writeln!(
            out,
            "Nothing is written for labels with fewer than two rows that may be shown: {shown}{}",
            more(result.too_few.len())
        )?;
    }
    if result.labels.is_empty() {
        writeln!(out, "No other label has fewer than {} rows: nothing is to be written.", result.per_label)?;
    }
    if let Some(planned) = &result.planned {
        writeln!(
            out,
            "{} labels have fewer than {} rows; they lack {} texts, which are written in {} calls or more.",
            result.labels.len(),
            result.per_label,
            planned.texts,
            planned.calls
        )?;
        if let Some(budget) = result.budget {
            writeln!(
                out,
                "That costs at most {} where nothing is thrown away and asked for again, with a second look at every text; the budget is {budget}, and {} of it is spent.",
                planned.at_most, result.spent
            )?;
        }
        return writeln!(
            out,
            "Nothing was sent. Without --dry-run, {} at {} is asked.",
            result.model, result.server
        );
    }
    if result.labels.is_empty() {
        return Ok(());
    }
    write!(out, "{}", check(&result.check, screen))?;
    writeln!(out, "\n{}", screen.bold("Texts"))?;
    let mut table = Table::new(&[
        ("question", Align::Left),
        ("label", Align::Left),
        ("rows", Align::Right),
        ("written", Align::Right),
        ("kept", Align::Right),
    ]);
    for label in result.labels.iter().take(SHOWN) {
        table.row([
            label.question.clone(),
            label.label.clone(),
            label.rows.to_string(),
            label.written.to_string(),
            label.kept.to_string(),
        ]);
    }
    write!(out, "{}", table.render())?;
    if result.labels.len() > SHOWN {
        writeln!(out, "  {}", more(result.labels.len()).trim())?;
    }
    writeln!(out, "\n  {:>7} written", result.written)?;
    let left = &result.left_out;
    for (count, what) in [
        (left.unusable, "thrown away: empty, too long, or with a placeholder in it"),
        (left.locked, "thrown away: too near to a locked or opened row"),
        (left.dev, "thrown away: too near to a development row"),
        (left.answered, "thrown away: too near to a row that a person answered"),
        (left.training, "thrown away: too near to a training row"),
        (left.written, "thrown away: too near to one that was written before"),
        (left.contradicted, "thrown away: asked again, the teacher gave another label"),
        (left.unanswered, "thrown away: asked again, it gave no answer that fits"),
        (result.open, "not looked at yet"),
        (result.kept, "kept"),
    ] {
        if count > 0 {
            writeln!(out, "  {count:>7} {what}")?;
        }
    }
    let why = match result.ended {
        "budget" => "the budget does not hold another call",
        "stopped" => "stopped; call again to go on",
        "repeats" => "some labels still lack texts: what was written for them was thrown away too often",
        _ => "every label has its rows",
    };
    let money = match result.budget {
        Some(budget) => format!("{} of {budget}", result.spent),
        None => "nothing that prices were given for".into(),
    };
    writeln!(out, "\nThe task's teacher has cost {money} ({why})")?;
    if result.kept > 0 {
        writeln!(
            out,
            "Next: sizewise train {0} (it learns from tasks/{0}/data/written.jsonl if that helps on rows that people sent)",
            result.task
        )?;
    }
    Ok(())
}

fn more(all: usize) -> String {
    match all.saturating_sub(SHOWN) {
        0 => String::new(),
        left => format!(" and {left} more"),
    }
}
