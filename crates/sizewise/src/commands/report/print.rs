//! How does a page become a PDF?
//!
//! A browser of this machine prints it: nothing else sets type and plots as the page does. It gets a profile of its own that is removed
//! afterwards, and the page loads nothing, by its own policy.

use crate::error::{Error, Result};
use sizewise_contract::Code;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Names under which browsers that print lie in the path, and where else some are.
const NAMES: [&str; 8] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "msedge",
    "microsoft-edge",
    "brave-browser",
];
const PLACES: [&str; 3] = [
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
];
/// How long a browser may take.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(20);

/// Prints a page into a file; returns its size in bytes.
///
/// # Errors
/// Fails where no browser is found, or it does not print. No part of a file is then left.
pub(super) fn pdf(page: &str, path: &Path) -> Result<usize> {
    let browser = browser().ok_or_else(|| refused("no browser that prints was found"))?;
    let folder = Folder::new()?;
    let html = folder.0.join("report.html");
    let printed = folder.0.join("report.pdf");
    std::fs::write(&html, page).map_err(|cause| Error::file(&html, cause))?;
    let mut command = Command::new(&browser);
    command
        .args([
            "--headless",
            "--disable-gpu",
            "--no-pdf-header-footer",
            "--no-first-run",
            "--disable-extensions",
        ])
        .arg(joined("--user-data-dir=", &folder.0.join("profile")))
        .arg(joined("--print-to-pdf=", &printed))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if is_root() {
        // A browser refuses to run as root in its sandbox; what it shows here is ours and runs no script.
        command.arg("--no-sandbox");
    }
    let mut child =
        command.arg(joined("file://", &html)).spawn().map_err(|cause| Error::file(&browser, cause))?;
    let begun = Instant::now();
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if begun.elapsed() < PATIENCE => std::thread::sleep(LOOK),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
        }
    };
    let bytes = std::fs::read(&printed).ok().filter(|bytes| bytes.starts_with(b"%PDF-"));
    let Some(bytes) = bytes.filter(|_| ended.is_some_and(|status| status.success())) else {
        return Err(refused(&format!("{} printed nothing", browser.display())));
    };
    super::write(path, &bytes)?;
    Ok(bytes.len())
}

fn refused(problem: &str) -> Error {
    Error::Policy {
        message: problem.to_owned(),
        code: Code::FileSystem,
        hint: "install chromium, or name a file that ends with .html (-o report.html) and print it from any browser".into(),
    }
}

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let named = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    named.chain(PLACES.iter().map(PathBuf::from)).find(|file| file.is_file())
}

fn joined(begins: &str, path: &Path) -> OsString {
    let mut all = OsString::from(begins);
    all.push(path);
    all
}

#[cfg(unix)]
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|of| of.uid() == 0)
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

/// A folder that only its owner can read, and that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let name = sizewise_store::new_id("sizewise-report-")?;
        let path = std::env::temp_dir().join(name);
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path).map_err(|cause| Error::file(&path, cause))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
