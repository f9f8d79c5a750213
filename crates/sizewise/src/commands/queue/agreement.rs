//! `sizewise queue agreement`: how often do two people say the same, and what do suggestions do to them?

use crate::{
    commands::DONE,
    error::Result,
    people::{self, Agreement, Alike},
    project::Project,
    screen::Screen,
    table::{Align, Table, percent, with_interval},
};
use sizewise_measure::metrics::Share;
use sizewise_store::Store;
use std::fmt::Write;

pub(super) fn run(project: &Project, store: &Store, name: &str, screen: &Screen) -> Result<u8> {
    let task = project.task(name)?;
    let found = people::agreement(store, name)?;
    screen.result("queue agreement", &found, || {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = text(&mut out, &found, task.people.double_share);
        out
    });
    Ok(DONE)
}

fn text(out: &mut String, found: &Agreement, double_share: f64) -> std::fmt::Result {
    writeln!(
        out,
        "Of the questions of {} {} are put before two people. {} wait for the second one, {} for a third one who decides.",
        found.task,
        percent(double_share),
        found.waits_for_second,
        found.waits_for_third
    )?;
    if found.questions.is_empty() {
        writeln!(out, "No question has two answers yet (double_share under [people] in the task file).")?;
    } else {
        let mut table = Table::new(&[
            ("question", Align::Left),
            ("people", Align::Left),
            ("questions", Align::Right),
            ("alike", Align::Left),
            ("kappa", Align::Left),
        ]);
        for question in &found.questions {
            table.row(line(&question.question, "all", &question.all));
            for pair in &question.pairs {
                table.row(line("", &pair.people.join(", "), &pair.all));
            }
        }
        write!(out, "{}", table.render())?;
        writeln!(
            out,
            "First choices, before any suggestion; intervals of 95 %, those of kappa by resampling."
        )?;
    }
    let pull = &found.suggestions;
    if pull.shown > 0 {
        let share = |share: &Option<Share>| share.as_ref().map_or("none yet".to_owned(), told);
        writeln!(out, "\nThe model's suggestion was shown after {} first choices.", pull.shown)?;
        writeln!(out, "  changed to it, where it was another     {}", share(&pull.changed_to_it))?;
        writeln!(
            out,
            "  of those that another person answered:  it was right {}",
            share(&pull.it_was_right)
        )?;
        writeln!(
            out,
            "                                          the first choice was {}",
            share(&pull.first_was_right)
        )?;
    }
    Ok(())
}

fn told(share: &Share) -> String {
    format!("{}, {} of {}", with_interval(share), share.count, share.of)
}

fn line(question: &str, people: &str, alike: &Alike) -> [String; 5] {
    let kappa = alike.kappa.as_ref().map_or("not defined".to_owned(), |kappa| {
        format!("{:.2} ({:.2}\u{2013}{:.2})", kappa.value, kappa.low, kappa.high)
    });
    [question.to_owned(), people.to_owned(), alike.alike.of.to_string(), with_interval(&alike.alike), kappa]
}
