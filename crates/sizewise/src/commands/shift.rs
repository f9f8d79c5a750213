//! `sizewise shift`: in what do the latest inputs differ from those that the release was judged on?

use super::{
    DONE,
    trained::{open_rows, store},
};
use crate::{
    cli::TaskName,
    error::{Error, Result},
    project::Project,
    screen::Screen,
    shift,
};
use sizewise_contract::Task;
use sizewise_store::Store;

pub(super) fn run(project: &Project, arguments: &TaskName, screen: &Screen) -> Result<u8> {
    let task = project.task(&arguments.task)?;
    let store = store(project)?;
    let found = measure((project, &store), &task)?;
    screen.result("shift", &found, || shift::text(&found));
    Ok(DONE)
}

/// The same for those who look at pages.
pub(crate) fn measure((project, store): (&Project, &Store), task: &Task) -> Result<shift::Shift> {
    let release = store.in_force(&task.name)?.ok_or_else(|| Error::NotTrained { task: task.name.clone() })?;
    let rows = open_rows(project, task, None)?.rows;
    let texts: Vec<String> = rows.examples.into_iter().map(|example| example.text).collect();
    shift::shift(store, task, &release, &texts)
}
