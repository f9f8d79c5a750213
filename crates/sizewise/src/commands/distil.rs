//! `--distil`: from which texts does the encoder teach the static tier?

use crate::{cli::Distil, error::Result, project::Project, screen::Screen, table::percent};
use sizewise_contract::Task;
use sizewise_learn::{teach::pool::Pool, train::TrainSummary};
use sizewise_models::encoder::Encoder;
use std::fmt::Write;

/// The texts without labels, where it is asked for: none that is locked or was opened, none of the development rows.
pub(super) fn unlabelled(
    project: &Project,
    task: &Task,
    (asked, encoder): (&Distil, &Encoder),
    screen: &Screen,
) -> Result<Option<Vec<String>>> {
    if !asked.distil {
        return Ok(None);
    }
    let Some(table) = &asked.unlabelled else { return Ok(Some(Vec::new())) };
    let names = project.task_names()?;
    let folders: Vec<_> = names.iter().map(|name| project.task_folder(name)).collect();
    let pool = Pool::read(task, (&project.task_folder(&task.name), &folders), table, encoder)?;
    let left_out = pool.locked + pool.dev;
    if left_out > 0 {
        screen.remark(&format!(
            "{left_out} texts of {} are left out: locked, opened or development rows hold them.",
            table.display()
        ));
    }
    Ok(Some(pool.texts))
}

/// What it came to, a line a question.
pub(super) fn text(summary: &TrainSummary) -> String {
    let mut out = String::new();
    for question in &summary.questions {
        let Some(distilled) = &question.distilled else { continue };
        let (taught, plain) = match distilled.kept {
            true => (&question.tiers, &distilled.otherwise),
            false => (&distilled.otherwise, &question.tiers),
        };
        let _ = write!(
            out,
            "  {}: the encoder taught the static tier on {} texts",
            question.question, distilled.texts
        );
        for (taught, plain) in taught.iter().zip(plain) {
            let _ = write!(
                out,
                "; {} {} right and {} answered within the promise, {} and {} without",
                taught.tier,
                percent(taught.accuracy.value),
                percent(taught.coverage_at_promise),
                percent(plain.accuracy.value),
                percent(plain.coverage_at_promise),
            );
        }
        out.push_str(if distilled.kept { ": kept.\n" } else { ": not kept.\n" });
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
}
