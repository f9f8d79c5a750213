//! `sizewise init`: how does a table become a task?

mod site;

use super::DONE;
use crate::{
    cli::Init,
    error::{Error, Result},
    project::Project,
    screen::Screen,
    table::{Align, Table, percent},
};
use sizewise_contract::{limits, task::LabelSource};
use sizewise_learn::{
    opened::Texts,
    prepare::{self, Findings, Options, Prepared, Role, Shares},
};
use std::fmt::Write;

pub(super) fn run(project: &Project, arguments: &Init, screen: &Screen) -> Result<u8> {
    check_name(&arguments.task)?;
    let folder = project.task_folder(&arguments.task);
    if folder.join("task.toml").exists() && !arguments.force {
        return Err(Error::Exists {
            path: folder.join("task.toml"),
            hint:
                "choose another name, or replace the task with --force: its locked rows are then drawn anew"
                    .into(),
        });
    }
    if !(arguments.max_served_error > 0.0 && arguments.max_served_error < 1.0) {
        return Err(Error::usage("--max-served-error must lie between 0 and 1; 0.05 is five in a hundred"));
    }
    if let Some(named) = &arguments.from_site {
        return site::run(project, (arguments, named), screen);
    }
    let Some(from) = &arguments.from else {
        return Err(Error::usage("say what the task is made of: --from TABLE or --from-site SITE"));
    };
    for (name, share) in [("--locked-share", arguments.locked_share), ("--dev-share", arguments.dev_share)] {
        if share.is_some_and(|share| !(0.0..1.0).contains(&share)) {
            return Err(Error::usage(format!("{name} must lie between 0 and 1")));
        }
    }
    for (name, columns) in
        [("--text", &arguments.text), ("--label", &arguments.labels), ("--slice", &arguments.slices)]
    {
        if let Some(twice) = columns.iter().enumerate().find(|(i, column)| columns[..*i].contains(column)) {
            return Err(Error::usage(format!("{name} {} stands twice", twice.1)));
        }
    }
    if let Some(both) = arguments.labels.iter().find(|column| arguments.text.contains(column)) {
        return Err(Error::usage(format!("`{both}` cannot be both an input and a label")));
    }
    let shares = Shares { locked: arguments.locked_share, dev: arguments.dev_share };
    if !shares.leave_some() {
        return Err(Error::usage("--locked-share and --dev-share leave no rows to learn from"));
    }
    let opened_in: Vec<_> = project.task_names()?.iter().map(|name| project.task_folder(name)).collect();
    let options = Options {
        name: arguments.task.clone(),
        from: from.clone(),
        gold: arguments.gold.clone(),
        text: arguments.text.clone(),
        labels: arguments.labels.clone(),
        out_of_scope: arguments.out_of_scope.clone(),
        group: arguments.group.clone(),
        time: arguments.time.clone(),
        slices: arguments.slices.clone(),
        label_source: if arguments.teacher { LabelSource::Teacher } else { LabelSource::Gold },
        max_served_error: arguments.max_served_error,
        shares,
        seed: arguments.seed,
        keep_case: arguments.keep_case,
        opened: Texts::opened(&opened_in)?,
    };
    let prepared = prepare::prepare(&options, &folder)?;
    screen.result("init", &prepared, || text(&prepared, arguments, screen));
    Ok(DONE)
}

/// A name becomes a folder, a part of URLs and the `model` of requests.
fn check_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !name.is_empty() && name.len() <= limits::NAME_BYTES && name.chars().all(fits) {
        return Ok(());
    }
    Err(Error::usage(format!("`{name}` cannot name a task: use a-z, 0-9, - and _, as in support-desk")))
}

fn text(prepared: &Prepared, arguments: &Init, screen: &Screen) -> String {
    let mut text = String::new();
    let _ = write_text(&mut text, prepared, arguments, screen);
    text
}

fn write_text(out: &mut String, prepared: &Prepared, arguments: &Init, screen: &Screen) -> std::fmt::Result {
    let findings = &prepared.findings;
    writeln!(out, "{}", screen.bold("Columns"))?;
    let mut columns =
        Table::new(&[("column", Align::Left), ("taken for", Align::Left), ("because", Align::Left)]);
    for guess in &prepared.columns {
        columns.row([guess.column.clone(), role(guess.role).to_owned(), guess.because.clone()]);
    }
    write!(out, "{}", columns.render())?;
    for (question, classes) in &findings.classes {
        let total: u64 = classes.values().sum();
        writeln!(out, "\n{} ({} labels, {total} rows)", screen.bold(question), classes.len())?;
        let mut sorted: Vec<_> = classes.iter().collect();
        sorted.sort_by(|a, b| b.1.cmp(a.1));
        let mut table =
            Table::new(&[("label", Align::Left), ("rows", Align::Right), ("share", Align::Right)]);
        for (label, rows) in sorted.iter().take(15) {
            table.row([(*label).clone(), rows.to_string(), percent(**rows as f64 / total.max(1) as f64)]);
        }
        write!(out, "{}", table.render())?;
        if sorted.len() > 15 {
            writeln!(out, "  … and {} more", sorted.len() - 15)?;
        }
    }
    write_findings(out, findings, screen)?;
    let splits = &prepared.splits;
    writeln!(out, "\n{}", screen.bold("Rows"))?;
    writeln!(out, "  {:>7} to learn from", splits.train)?;
    writeln!(out, "  {:>7} for development", splits.dev)?;
    writeln!(out, "  {:>7} locked: only `sizewise certify` opens them", splits.locked)?;
    if splits.left_out > 0 {
        writeln!(
            out,
            "  {:>7} left out: without text, or with the text or group of a gold row",
            splits.left_out
        )?;
    }
    if splits.opened > 0 {
        writeln!(
            out,
            "  {:>7} of them were opened by an earlier certificate: they prove nothing new and are not locked again",
            splits.opened
        )?;
    }
    writeln!(
        out,
        "\nWrote {}. Read it, then run: sizewise train {}",
        prepared.task_file.display(),
        arguments.task
    )
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Input => "input",
        Role::Label => "labels of a question",
        Role::Group => "group, never on both sides of a split",
        Role::Time => "time; the latest rows are locked",
        Role::Slice => "slices, each judged for itself",
        Role::Ignored => "nothing",
    }
}

fn write_findings(out: &mut String, findings: &Findings, screen: &Screen) -> std::fmt::Result {
    writeln!(out, "\n{}", screen.bold("Findings"))?;
    let languages: Vec<String> =
        findings.languages.iter().map(|(name, rows)| format!("{name} {rows}")).collect();
    if !languages.is_empty() {
        writeln!(out, "  languages, by a sample: {}", languages.join(", "))?;
    }
    let mut noted = false;
    let mut note = |out: &mut String, count: u64, what: &str| {
        if count == 0 {
            return Ok(());
        }
        noted = true;
        writeln!(out, "  {count} {what}")
    };
    note(out, findings.empty_inputs, "rows without text, left out")?;
    note(out, findings.oversized_inputs, "rows with a text of more than 256 KiB, left out")?;
    note(
        out,
        findings.long_inputs,
        "texts are longer than the encoder reads at once; it will read their head and tail (on_overflow)",
    )?;
    note(out, findings.duplicates, "duplicates; copies stay on one side of every split")?;
    note(out, findings.conflicts.len() as u64, "times the same text under two labels:")?;
    for conflict in findings.conflicts.iter().take(5) {
        let ((a, b), (left, right)) = (conflict.rows, &conflict.labels);
        writeln!(out, "      rows {a} and {b}, {}: {left} and {right}", conflict.question)?;
    }
    note(out, findings.near_duplicate_count, "times nearly the same text under two labels:")?;
    for near in findings.near_duplicates.iter().take(5) {
        let ((a, b), (left, right)) = (near.rows, &near.labels);
        writeln!(
            out,
            "      rows {a} and {b}, {}: {left} and {right}, {:.0} % alike",
            near.question,
            near.similarity * 100.0
        )?;
    }
    for variant in &findings.spellings {
        noted = true;
        let others: Vec<String> =
            variant.others.iter().map(|(label, rows)| format!("`{label}` ({rows})")).collect();
        writeln!(
            out,
            "  `{}` is also written {}; joined (--keep-case keeps them apart)",
            variant.usual,
            others.join(", ")
        )?;
    }
    for (list, what) in [
        (
            &findings.rare,
            "labels with too few rows to learn or to test (add rows, or take them out of the table, and init again)",
        ),
        (&findings.only_in_gold, "labels that only the gold rows have"),
    ] {
        if !list.is_empty() {
            noted = true;
            writeln!(out, "  {what}: {}", list.join(", "))?;
        }
    }
    if findings.unlabelled.iter().any(|rows| *rows > 0) {
        noted = true;
        let counts: Vec<String> = findings
            .classes
            .iter()
            .zip(&findings.unlabelled)
            .filter(|(_, rows)| **rows > 0)
            .map(|((question, _), rows)| format!("{question} {rows}"))
            .collect();
        writeln!(out, "  rows without a label: {}", counts.join(", "))?;
    }
    if !noted {
        writeln!(out, "  nothing odd about {} rows", findings.rows)?;
    }
    Ok(())
}
