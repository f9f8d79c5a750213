//! `sizewise init TASK --from-site SITE`: how does a call site become a task?

use super::super::{
    DONE,
    discover::{find, sites},
    trained::store,
};
use crate::{cli::Init, clock, error::Result, project::Project, screen::Screen};
use sizewise_contract::units::{Dollars, UnixMillis};
use sizewise_learn::{
    opened::Texts,
    sites::{FromSite, Site, Written, write},
};
use std::fmt::Write;

pub(super) fn run(project: &Project, (arguments, named): (&Init, &str), screen: &Screen) -> Result<u8> {
    let site = find(sites(&store(project)?)?, named)?;
    let opened_in: Vec<_> = project.task_names()?.iter().map(|name| project.task_folder(name)).collect();
    let settings = project.settings();
    let provider = &site.facts.provider;
    let from = FromSite {
        name: &arguments.task,
        max_served_error: arguments.max_served_error,
        remote: settings.provider.contains_key(provider).then_some(provider.as_str()),
        budget: budget(project),
        gold: arguments.gold.as_deref(),
        opened: Texts::opened(&opened_in)?,
        day: &|at: UnixMillis| clock::date(u64::try_from(at.0 / 1_000).unwrap_or(0)),
    };
    let written = write(&site, &from, &project.task_folder(&arguments.task))?;
    screen.result("init", &written, || {
        let mut out = String::new();
        // Writing into a String cannot fail.
        let _ = write_text(&mut out, (&site, &written), (project, &arguments.task), screen);
        out
    });
    Ok(DONE)
}

/// The limits of relayed calls: what the task may spend on the same provider is never more than was allowed already.
fn budget(project: &Project) -> Vec<(&'static str, String)> {
    let relay = project.settings().relay.budget;
    let limits = [
        ("usd_per_day", relay.usd_per_day),
        ("usd_per_month", relay.usd_per_month),
        ("usd_total", relay.usd_total),
    ];
    let written = |Dollars(amount): Dollars| {
        let cents = amount.0 % 10_000 == 0;
        let (whole, part) = (amount.0 / 1_000_000, amount.0 % 1_000_000);
        if cents { format!("{whole}.{:02}", part / 10_000) } else { format!("\"{whole}.{part:06}\"") }
    };
    limits.into_iter().filter_map(|(key, limit)| Some((key, written(limit?)))).collect()
}

fn write_text(
    out: &mut String,
    (site, written): (&Site, &Written),
    (project, task): (&Project, &str),
    screen: &Screen,
) -> std::fmt::Result {
    writeln!(out, "{}", screen.bold("Questions"))?;
    for asked in &written.questions {
        let labels = asked.kind.labels().len();
        match asked.kind.is_question() {
            true => writeln!(out, "  {}: {} of {labels} labels", asked.name, asked.kind.name())?,
            false => writeln!(out, "  {}: left out, as it is {}", asked.name, asked.kind.name())?,
        }
    }
    if !written.rare.is_empty() {
        let rare: Vec<&str> = written.rare.iter().map(|(_, label)| label.as_str()).collect();
        writeln!(out, "  left out, as fewer than two texts have them: {}", rare.join(", "))?;
    }
    writeln!(out, "\n{}", screen.bold("Rows"))?;
    writeln!(out, "  {:>7} calls, {} different texts", written.calls, written.texts)?;
    writeln!(out, "  {:>7} to learn from: what the model answered, as a teacher's labels", written.examples)?;
    if written.repeated > 0 {
        let kept = match written.contradicted {
            0 => "all of them were always answered alike".to_owned(),
            count => format!(
                "{count} were not always answered alike, and keep what more than half of their answers say"
            ),
        };
        writeln!(out, "  {:>7} texts came more than once; {kept}", written.repeated)?;
    }
    if written.without_answer > 0 {
        writeln!(
            out,
            "  {:>7} texts left out: no answer of theirs is a label that can be learnt",
            written.without_answer
        )?;
    }
    let gold = written.gold;
    if gold.dev + gold.locked > 0 {
        writeln!(out, "  {:>7} for development, labelled by people", gold.dev)?;
        writeln!(out, "  {:>7} locked, labelled by people: only `sizewise certify` opens them", gold.locked)?;
    }
    let shown =
        |path: &std::path::Path| path.strip_prefix(project.root()).unwrap_or(path).display().to_string();
    writeln!(out, "\nWrote {}. Read it, then run: sizewise train {task}", shown(&written.task_file))?;
    if site.template != sizewise_learn::sites::Template::default() {
        writeln!(
            out,
            "The task reads what stands in the place of {{text}} in the prompt: send it that alone, and no prompt."
        )?;
    }
    if gold.locked == 0 {
        let name = site.facts.name.as_deref().unwrap_or(&site.id);
        writeln!(
            out,
            "\nA teacher's labels train and certify nothing: the model that gave them may be wrong, and nobody has looked. Fill in\n\
             labels in {} (a few hundred will do), then run:\n  \
             sizewise init {task} --from-site {name} --gold {} --force",
            shown(&written.to_label),
            shown(&written.to_label)
        )?;
        writeln!(
            out,
            "or serve the task: what it is not sure of goes to a person, and `sizewise queue export {task} -o gold.csv` makes such a table."
        )?;
    }
    Ok(())
}
