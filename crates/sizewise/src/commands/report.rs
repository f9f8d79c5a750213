//! `sizewise report`: how is a release shown to somebody who was not there?

use super::{
    DONE,
    evaluate::{load, measure},
};
use crate::{
    cli::Report,
    error::{Error, Result},
    html,
    project::Project,
    screen::Screen,
};
use serde::Serialize;
use std::path::PathBuf;

/// Mistakes that the report lists for each question.
const MISTAKES: usize = 40;

pub(super) fn run(project: &Project, arguments: &Report, screen: &Screen) -> Result<u8> {
    let trained = load(project, &arguments.task)?;
    let evaluation = measure(project, &trained, (arguments.against.as_deref(), MISTAKES), screen)?;
    let path = screen.file().unwrap_or_else(|| PathBuf::from(format!("{}-report.html", arguments.task)));
    let page = html::report(&trained.task, &trained.release, &evaluation);
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    std::fs::write(&part, page.as_bytes())
        .and_then(|()| std::fs::rename(&part, &path))
        .map_err(|cause| Error::file(&path, cause))?;
    #[derive(Serialize)]
    struct Written {
        file: PathBuf,
        bytes: usize,
    }
    let written = Written { file: path, bytes: page.len() };
    screen.result("report", &written, || {
        format!(
            "{} ({} kB); it opens in any browser, offline. It quotes inputs as they are: keep it as you keep them\n",
            written.file.display(),
            written.bytes / 1_000
        )
    });
    Ok(DONE)
}
