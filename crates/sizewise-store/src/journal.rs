//! Where does a record wait between its answer and the database?
//!
//! ```text
//!   answer ─► a line in a journal ─► whoever asked is told
//!                  └─ fifty times a second at most ─► one transaction ─► the journal is emptied
//! ```
//!
//! A line that was handed to the system outlives the process that wrote it, and costs a hundredth of a transaction. A journal is two
//! files, one of which is written while the other is emptied; its process holds a lock on both. Whoever wants records waits until those
//! that stood in journals are in the database, so nobody sees less than was acknowledged; what a process left that is gone is taken over
//! by whoever comes first.

use crate::{
    database,
    error::{Error, Result},
    ids::random_digits,
};
use rusqlite::{Connection, Transaction, params};
use sizewise_contract::Record;
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// How the names of journals end.
const ENDING: &str = "journal";
/// For how long a live process may keep lines in a journal; it waits ten seconds for the database itself.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often is looked whether it has emptied it.
const LOOK: Duration = Duration::from_millis(1);

/// Room for most records. `bytes`
pub(crate) const ROOM: usize = 2_048;

/// A record as it is written: its line in a journal, and its row.
#[derive(Debug)]
pub(crate) struct Line {
    id: String,
    task: String,
    at: i64,
    record: String,
    subject: Option<[u8; 32]>,
}

impl Line {
    pub(crate) fn of(record: &Record, subject: Option<[u8; 32]>) -> Result<Self> {
        let text = serde_json::to_string(record).map_err(|_| Error::Internal("a record has a JSON form"))?;
        Ok(Self { id: record.id.clone(), task: record.task.clone(), at: record.at.0, record: text, subject })
    }

    /// Adds it to what is written: whom it is about, and the record.
    pub(crate) fn push(&self, bytes: &mut Vec<u8>) {
        match &self.subject {
            Some(subject) => bytes.extend(subject.iter().flat_map(|byte| format!("{byte:02x}").into_bytes())),
            None => bytes.push(b'-'),
        }
        bytes.push(b' ');
        bytes.extend_from_slice(self.record.as_bytes());
        bytes.push(b'\n');
    }

    /// Reads what [`Self::push`] wrote; none where it was cut off, so that nobody was told of it.
    fn read(line: &str) -> Option<Self> {
        let (subject, text) = line.split_once(' ')?;
        let subject = match subject {
            "-" => None,
            hex => {
                let mut bytes = [0; 32];
                for (place, byte) in bytes.iter_mut().enumerate() {
                    *byte = u8::from_str_radix(hex.get(place * 2..place * 2 + 2)?, 16).ok()?;
                }
                Some(bytes)
            }
        };
        Self::of(&serde_json::from_str(text).ok()?, subject).ok()
    }

    pub(crate) fn insert(&self, transaction: &Transaction<'_>) -> Result<()> {
        // A line may be taken over whose row was written before its journal could be emptied.
        transaction
            .prepare_cached(
                "INSERT INTO records (id, task, at, record, subject) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (id) DO NOTHING",
            )?
            .execute(params![self.id, self.task, self.at, self.record, self.subject])?;
        Ok(())
    }
}

/// The journal of one process.
#[derive(Debug)]
pub(crate) struct Journal {
    paths: [PathBuf; 2],
    files: [Arc<File>; 2],
    /// Which is written.
    current: usize,
    /// Its length. `bytes`
    length: u64,
}

impl Journal {
    pub(crate) fn begin(folder: &Path) -> Result<Self> {
        let [(first, one), (second, two)] = [make(folder)?, make(folder)?];
        Ok(Self { paths: [first, second], files: [Arc::new(one), Arc::new(two)], current: 0, length: 0 })
    }

    /// Hands lines to the system, all or none.
    pub(crate) fn append(&mut self, lines: &[u8]) -> std::io::Result<()> {
        let mut file: &File = &self.files[self.current];
        match file.write_all(lines) {
            Ok(()) => self.length += lines.len() as u64,
            Err(cause) => {
                // A full disk may have taken some of it.
                file.set_len(self.length)?;
                return Err(cause);
            }
        }
        Ok(())
    }

    /// Writes into the other file from now on. Returns the one that is to be emptied once its lines are in the database, with its
    /// length; the other must have been.
    pub(crate) fn turn(&mut self) -> (Arc<File>, usize) {
        let filled = (Arc::clone(&self.files[self.current]), self.length as usize);
        (self.current, self.length) = (1 - self.current, 0);
        filled
    }

    /// Removes it, as nothing is in it any more.
    pub(crate) fn end(&self) {
        for path in &self.paths {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A new file, locked.
fn make(folder: &Path) -> Result<(PathBuf, File)> {
    loop {
        let path = folder.join(format!("{}.{ENDING}", random_digits(16)?));
        let failed = |cause| Error::file(&path, cause);
        let mut options = OpenOptions::new();
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.read(true).append(true).create_new(true).open(&path).map_err(failed)?;
        file.lock().map_err(failed)?;
        // Somebody who cleans up may have come between.
        if path.exists() {
            return Ok((path, file));
        }
    }
}

/// Waits until what stands in the journals of a store is in its database, and returns those of processes that are gone.
pub(crate) fn settled(folder: &Path) -> Result<Vec<Left>> {
    let mut left = Vec::new();
    let until = Instant::now() + PATIENCE;
    for (path, length) in filled(folder)? {
        loop {
            match std::fs::metadata(&path) {
                // It was emptied, and has perhaps been filled again since.
                Ok(now) if now.len() < length => break,
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => break,
                _ => {}
            }
            if let Some(file) = locked(&path)? {
                left.push(Left { path, file });
                break;
            }
            if Instant::now() > until {
                let problem = "its process does not bring its records into the database";
                return Err(Error::file(&path, std::io::Error::new(std::io::ErrorKind::TimedOut, problem)));
            }
            std::thread::sleep(LOOK);
        }
    }
    Ok(left)
}

/// A journal whose process is gone, locked.
#[derive(Debug)]
pub(crate) struct Left {
    path: PathBuf,
    file: File,
}

impl Left {
    /// Brings its lines into the database, and removes it.
    pub(crate) fn take_over(mut self, connection: &mut Connection) -> Result<()> {
        let failed = |cause| Error::file(&self.path, cause);
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes).map_err(failed)?;
        let transaction = database::begin(connection)?;
        for line in bytes.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()) {
            if let Some(line) = Line::read(line) {
                line.insert(&transaction)?;
            }
        }
        transaction.commit()?;
        // Whoever waits for its lock finds nothing in it.
        self.file.set_len(0).map_err(failed)?;
        std::fs::remove_file(&self.path).map_err(failed)
    }
}

/// Removes what is empty and nobody's.
pub(crate) fn clean(folder: &Path) -> Result<()> {
    for (path, _) in all(folder)? {
        if let Some(file) = locked(&path)?
            && file.metadata().is_ok_and(|found| found.len() == 0)
        {
            std::fs::remove_file(&path).map_err(|cause| Error::file(&path, cause))?;
        }
    }
    Ok(())
}

/// A journal, if its process is gone.
fn locked(path: &Path) -> Result<Option<File>> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(Error::file(path, cause)),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(cause)) => Err(Error::file(path, cause)),
    }
}

/// The journals in a folder that hold something, with their lengths.
fn filled(folder: &Path) -> Result<Vec<(PathBuf, u64)>> {
    Ok(all(folder)?.into_iter().filter(|(_, length)| *length > 0).collect())
}

fn all(folder: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|cause| Error::file(folder, cause))? {
        let entry = entry.map_err(|cause| Error::file(folder, cause))?;
        let path = entry.path();
        // One that was removed meanwhile holds nothing.
        if path.extension().is_some_and(|ending| ending == ENDING)
            && let Ok(known) = entry.metadata()
        {
            found.push((path, known.len()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;
    use crate::Store;
    use sizewise_contract::{ContentHash, StoredInput, units::UnixMillis};

    fn record(id: &str) -> Record {
        Record {
            id: id.into(),
            task: "desk".into(),
            release: ContentHash::of(b"r"),
            at: UnixMillis(1),
            input: StoredInput::Full("a line\nand \"another\" \u{2028}".into()),
            answers: vec![],
            elapsed_us: 1,
            key_id: None,
        }
    }

    fn lines(ids: &[&str], subject: Option<[u8; 32]>) -> Vec<u8> {
        let mut bytes = Vec::new();
        ids.iter().for_each(|id| Line::of(&record(id), subject).unwrap().push(&mut bytes));
        bytes
    }

    #[test]
    fn what_a_process_left_is_taken_over_up_to_where_it_was_cut_off_and_once() {
        let whole = lines(&["d_1", "d_2", "d_3"], Some([0xa7; 32]));
        let first = lines(&["d_1"], Some([0xa7; 32])).len();
        for cut in (0..=whole.len()).step_by(7).chain([first - 1, first, whole.len()]) {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path()).unwrap();
            for name in ["gone.journal", "other.journal"] {
                std::fs::write(folder.path().join(name), &whole[..cut]).unwrap();
            }
            let expected = if cut == whole.len() { 3 } else { (cut + 1) / first };
            assert_eq!(store.count_records("desk").unwrap(), expected as u64, "{cut}");
            assert!(store.record("d_1").unwrap().is_none_or(|kept| kept == record("d_1")));
            clean(folder.path()).unwrap();
            assert!(all(folder.path()).unwrap().is_empty(), "{cut}");
        }
    }

    #[test]
    fn lines_of_a_live_process_are_waited_for_and_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut journal = Journal::begin(folder.path()).unwrap();
        clean(folder.path()).unwrap();
        assert_eq!(store.count_records("desk").unwrap(), 0);
        journal.append(&lines(&["d_1"], None)).unwrap();
        let filled = journal.turn();
        journal.append(&lines(&["d_2"], None)).unwrap();
        let waiting = std::thread::spawn({
            let folder = folder.path().to_owned();
            move || settled(&folder).unwrap().len()
        });
        std::thread::sleep(Duration::from_millis(30));
        assert!(!waiting.is_finished());
        filled.0.set_len(0).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        assert!(!waiting.is_finished(), "the other file is waited for as well");
        journal.turn().0.set_len(0).unwrap();
        journal.append(&lines(&["d"], None)).unwrap();
        assert_eq!(waiting.join().unwrap(), 0);
        drop((journal, filled));
        assert_eq!(store.count_records("desk").unwrap(), 1, "now it is gone");
    }

    #[test]
    fn bytes_that_are_no_lines_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let good = lines(&["d_1"], None);
        let noise = [b"\0\0\0\n- {}\nzz {\"id\":1}\n\xff\xfe\n".as_slice(), &good, b"- [1,"].concat();
        std::fs::write(folder.path().join("gone.journal"), noise).unwrap();
        assert_eq!(store.count_records("desk").unwrap(), 1);
    }
}
