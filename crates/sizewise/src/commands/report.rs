//! `sizewise report`: how is a release shown to somebody who was not there?

mod print;

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
use std::path::{Path, PathBuf};

/// Mistakes that the report lists for each question.
const MISTAKES: usize = 40;

pub(super) fn run(project: &Project, arguments: &Report, screen: &Screen) -> Result<u8> {
    let trained = load(project, &arguments.task)?;
    let evaluation = measure(project, &trained, (arguments.against.as_deref(), MISTAKES), screen)?;
    let path = screen.file().unwrap_or_else(|| PathBuf::from(format!("{}-report.html", arguments.task)));
    let page = html::report(&trained.task, &trained.release, &evaluation);
    let is_pdf = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("pdf"));
    let bytes = match is_pdf {
        true => print::pdf(&page, &path)?,
        false => write(&path, page.as_bytes()).map(|()| page.len())?,
    };
    #[derive(Serialize)]
    struct Written {
        file: PathBuf,
        bytes: usize,
    }
    let written = Written { file: path, bytes };
    screen.result("report", &written, || {
        format!(
            "{} ({} kB); it opens {}. It quotes inputs as they are: keep it as you keep them\n",
            written.file.display(),
            written.bytes / 1_000,
            if is_pdf { "wherever PDF does" } else { "in any browser, offline" }
        )
    });
    Ok(DONE)
}

/// Writes a file whole, or leaves what was there.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    std::fs::write(&part, bytes)
        .and_then(|()| std::fs::rename(&part, path))
        .map_err(|cause| Error::file(path, cause))
}
