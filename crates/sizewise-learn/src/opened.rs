//! Which rows have been looked at, so that they can prove nothing any more?
//!
//! Rows are remembered by their texts, in a file beside the splits: it outlives a store, a new `init` of the task, and the
//! file of locked rows itself.

use crate::error::{Result, at};
use std::{
    collections::HashSet,
    io::Write,
    path::{Path, PathBuf},
};

/// Name of the file, beside the splits: one hash a line, in hexadecimal.
pub const OPENED_FILE: &str = "data/opened.txt";

/// Hashes of texts, with case and punctuation aside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    keys: HashSet<u64>,
}

impl Texts {
    /// What was opened for the tasks in these folders.
    ///
    /// # Errors
    /// Fails when a file is there and cannot be read.
    pub fn opened(task_folders: &[PathBuf]) -> Result<Self> {
        let mut keys = HashSet::new();
        for folder in task_folders {
            let path = folder.join(OPENED_FILE);
            match std::fs::read_to_string(&path) {
                Ok(text) => keys.extend(text.lines().filter_map(|line| u64::from_str_radix(line, 16).ok())),
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
                Err(cause) => return Err(at(&path)(cause)),
            }
        }
        Ok(Self { keys })
    }

    /// Adds a text.
    pub fn insert(&mut self, text: &str) {
        self.keys.insert(crate::prepare::text_key(text));
    }

    /// Whether a text is one of them.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        self.has_key(crate::prepare::text_key(text))
    }

    pub(crate) fn has_key(&self, key: u64) -> bool {
        self.keys.contains(&key)
    }

    /// Writes down, durably, that these texts are about to be looked at.
    ///
    /// # Errors
    /// Fails when the file cannot be written; then nothing may be opened.
    pub fn remember(&self, task_folder: &Path) -> Result<()> {
        let path = task_folder.join(OPENED_FILE);
        let known = Self::opened(&[task_folder.to_owned()])?;
        let mut new: Vec<u64> = self.keys.difference(&known.keys).copied().collect();
        new.sort_unstable();
        let mut lines: String = new.iter().map(|key| format!("{key:016x}\n")).collect();
        let mut file = std::fs::File::options().create(true).append(true).open(&path).map_err(at(&path))?;
        if std::fs::read(&path).map_err(at(&path))?.last().is_some_and(|end| *end != b'\n') {
            // An earlier write was cut off; what it was for was never opened.
            lines.insert(0, '\n');
        }
        file.write_all(lines.as_bytes()).and_then(|()| file.sync_all()).map_err(at(&path))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    #[test]
    fn what_was_opened_is_known_again() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        let mut texts = Texts::default();
        texts.insert("Where is my parcel?");
        texts.remember(folder.path()).unwrap();
        // A write that was cut off in the middle of a line spoils no later one.
        let path = folder.path().join(OPENED_FILE);
        let mut cut = std::fs::read_to_string(&path).unwrap();
        cut.push_str("zz0");
        std::fs::write(&path, cut).unwrap();
        texts.insert("Another one");
        texts.remember(folder.path()).unwrap();
        let opened = Texts::opened(&[folder.path().to_owned(), folder.path().join("none")]).unwrap();
        assert_eq!(opened, texts);
        assert!(opened.contains("where is my parcel"));
        assert!(!opened.contains("where is your parcel"));
        let lines = std::fs::read_to_string(folder.path().join(OPENED_FILE)).unwrap();
        assert_eq!(lines.lines().count(), 3);
    }
}
