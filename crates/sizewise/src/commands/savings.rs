//! `sizewise savings`: what would the same traffic have cost without this task?

use super::{DONE, trained::store};
use crate::{cli::SavingsAsked, error::Result, project::Project, savings, screen::Screen};

/// Decisions that are looked at, the latest.
const MOST: usize = 1_000_000;

pub(super) fn run(project: &Project, arguments: &SavingsAsked, screen: &Screen) -> Result<u8> {
    let task = project.task(&arguments.task)?;
    let store = store(project)?;
    let against = arguments.against.as_deref();
    let found = savings::savings((project, &store), &task, against, (arguments.days, MOST))?;
    screen.result("savings", &found, || savings::text(&found));
    Ok(DONE)
}
