//! From which likeness on may an answer of a larger model be given again, for each task that wants that?
//!
//! Found while the server runs, on the development rows beside the task file, for the release and certificate in force: nothing is kept of it, so
//! it cannot be that of another release, and a server that has no such rows gives nothing again.

use crate::project::Project;
use sizewise_contract::Label;
use sizewise_engine::{Engine, LabelledText, Similarity};
use sizewise_learn::dataset::read_gold;

/// Looks at every task that wants it and has not been looked at since its release or certificate changed; says what was found.
pub(crate) fn look(project: &Project, engine: &Engine, names: &[String]) -> Vec<String> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return Vec::new() };
    let mut told = Vec::new();
    for name in names {
        let Ok(task) = project.task(name) else { continue };
        let served = engine.task(name).is_ok();
        if !task.cascade.recall_similar || !served || engine.knows_similarity(name) {
            continue;
        }
        let file = project.task_folder(name).join(&task.data.dev);
        let rows = match read_gold(&task, &file) {
            Ok(rows) => rows,
            Err(error) => {
                told.push(format!("{name} gives no answer again to similar texts: {error}"));
                continue;
            }
        };
        let rows: Vec<LabelledText> = rows
            .examples
            .into_iter()
            .map(|row| {
                (row.text, row.labels.iter().map(|label| label.as_ref().map(Label::class_label)).collect())
            })
            .collect();
        match runtime.block_on(engine.find_similarity(name, &rows)) {
            Ok(Some(found)) => told.extend(found.iter().map(|one| tell(name, one))),
            Ok(None) => {}
            Err(error) => told.push(format!("{name} gives no answer again to similar texts: {error}")),
        }
    }
    told
}

/// Says of which questions checks ended it.
pub(crate) fn ended(engine: &Engine, names: &[String]) -> Vec<String> {
    let mut told = Vec::new();
    for name in names {
        for question in engine.refuted_similarity(name) {
            told.push(format!(
                "{name}, {question}: too many answers that were given to similar texts were wrong; none is given again under this release"
            ));
        }
    }
    told
}

fn tell(name: &str, found: &Similarity) -> String {
    let Similarity { question, promise, handed_on, outcome } = found;
    let (error, sure) = (100.0 * promise.max_served_error, 100.0 * promise.confidence);
    match (outcome.threshold, outcome.rows_needed) {
        (Some(threshold), _) => format!(
            "{name}, {question}: answers of a larger model are given again from a likeness of {threshold:.3} on: at most {error} % of them wrong, {sure} % sure ({} of {} on development rows)",
            outcome.wrong, outcome.hits
        ),
        (None, Some(rows)) => format!(
            "{name}, {question}: no answer is given again to similar texts: {handed_on} development rows that are handed on are too few to show that at most {error} % would be wrong; about {rows} would do"
        ),
        (None, None) => format!(
            "{name}, {question}: no answer is given again to similar texts: of those most alike among {handed_on} development rows too many have different labels for at most {error} % wrong"
        ),
    }
}
