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
    compact::{self, Head},
    database,
    error::{Error, Result},
    ids::random_digits,
};
use rusqlite::{Connection, Transaction, params};
use sizewise_contract::{ContentHash, Record};
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

/// The first byte of an entry; no line of JSON, which earlier builds wrote, begins with it.
const ENTRY: u8 = 1;
/// What stands before an entry's subject and record: [`ENTRY`], whether it has a subject, and the length of its record.
const FRONT: usize = 6;

/// A record as it stands in a journal and in its row.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    subject: Option<&'a [u8; 32]>,
    /// Its compact form.
    record: &'a [u8],
}

impl<'a> Line<'a> {
    /// Writes a record, and whom it is about, behind what is there.
    pub(crate) fn push(record: &Record, subject: Option<&[u8; 32]>, bytes: &mut Vec<u8>) -> Result<()> {
        bytes.extend([ENTRY, u8::from(subject.is_some()), 0, 0, 0, 0]);
        let length = bytes.len() - FRONT + 2..bytes.len();
        bytes.extend(subject.into_iter().flatten());
        let begin = bytes.len();
        compact::push(record, bytes)?;
        let written =
            u32::try_from(bytes.len() - begin).map_err(|_| Error::Internal("a record is below 4 GiB"))?;
        if let Some(place) = bytes.get_mut(length) {
            place.copy_from_slice(&written.to_le_bytes());
        }
        Ok(())
    }

    /// Takes the first of what [`Self::push`] wrote; none where it is cut off, so that nobody was told of it.
    fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let (front, rest) = bytes.split_first_chunk::<FRONT>()?;
        let [ENTRY, of_somebody, length @ ..] = front else { return None };
        let (subject, rest) = match of_somebody {
            0 => (None, rest),
            _ => rest.split_first_chunk::<32>().map(|(subject, rest)| (Some(subject), rest))?,
        };
        let (record, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        *bytes = rest;
        Some(Self { subject, record })
    }

    pub(crate) fn insert(&self, transaction: &Transaction<'_>) -> Result<()> {
        let Some(Head { id, task, at }) = compact::head(self.record) else { return Ok(()) };
        // A line may be taken over whose row was written before its journal could be emptied.
        transaction
            .prepare_cached(
                "INSERT INTO records (id, task, at, record, subject) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (id) DO NOTHING",
            )?
            .execute(params![id, task, at, self.record, self.subject])?;
        Ok(())
    }
}

/// Brings what stands in a journal into the database, up to where it was cut off.
pub(crate) fn insert(mut bytes: &[u8], transaction: &Transaction<'_>) -> Result<()> {
    while !bytes.is_empty() {
        if let Some(line) = Line::take(&mut bytes) {
            line.insert(transaction)?;
            continue;
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (line, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
        bytes = rest;
        if let Some((record, subject)) = earlier(line) {
            let mut again = Vec::new();
            Line::push(&record, subject.as_ref(), &mut again)?;
            Line::take(&mut again.as_slice()).map_or(Ok(()), |line| line.insert(transaction))?;
        }
    }
    Ok(())
}

/// Reads a line of an earlier build: whom it is about in hexadecimal digits or `-`, a space, and JSON.
fn earlier(line: &[u8]) -> Option<(Record, Option<[u8; 32]>)> {
    let (subject, record) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    let subject = if subject == "-" { None } else { Some(*ContentHash::parse(subject)?.as_bytes()) };
    Some((serde_json::from_str(record).ok()?, subject))
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
        insert(&bytes, &transaction)?;
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
        ids.iter().for_each(|id| Line::push(&record(id), subject.as_ref(), &mut bytes).unwrap());
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
            let expected = cut / first;
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
        let (good, last) = (lines(&["d_1"], None), lines(&["d_3"], None));
        let of_earlier = format!("- {}\n", serde_json::to_string(&record("d_2")).unwrap());
        let noise = b"\0\0\0\n- {}\nzz {\"id\":1}\n\xff\xfe\n".as_slice();
        let no_record = [ENTRY, 0, 3, 0, 0, 0, 7, 7, 7];
        let noise = [
            noise,
            &good,
            of_earlier.as_bytes(),
            &no_record,
            &last,
            b"- [1,",
            &[ENTRY, 1, 255, 255, 255, 255],
        ]
        .concat();
        std::fs::write(folder.path().join("gone.journal"), noise).unwrap();
        assert_eq!(store.count_records("desk").unwrap(), 3);
        assert_eq!(store.record("d_2").unwrap().unwrap(), record("d_2"), "as an earlier build left it");
    }
}
