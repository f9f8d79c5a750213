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
const ENDING: &str = "entries";
/// How those of builds ended that wrote lines of JSON; such a build does not take over what it cannot read.
const EARLIER: &str = "journal";
/// For how long a live process may keep lines in a journal; it waits ten seconds for the database itself.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often is looked whether it has emptied it.
const LOOK: Duration = Duration::from_millis(1);

/// What an entry begins with.
const ENTRY: [u8; 4] = *b"\xf5rec";
/// What stands before an entry's subject and record: [`ENTRY`], a checksum of all that follows it, the length of the record, and whether
/// it has a subject.
const FRONT: usize = 13;
/// Where the checksum begins, and what it is of.
const SUM: usize = 4;
const SUMMED: usize = 8;

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
        let broken = || Error::Internal("a record has the form of an entry");
        let begin = bytes.len();
        bytes.extend(ENTRY);
        bytes.extend([0; FRONT - ENTRY.len()]);
        bytes.extend(subject.into_iter().flatten());
        let before = bytes.len();
        compact::push(record, bytes)?;
        let length = u32::try_from(bytes.len() - before).map_err(|_| broken())?;
        let entry = bytes.get_mut(begin..).ok_or_else(broken)?;
        let facts = entry.get_mut(SUMMED..FRONT).ok_or_else(broken)?;
        facts.copy_from_slice(&[&length.to_le_bytes()[..], &[u8::from(subject.is_some())]].concat());
        let sum = crc32fast::hash(entry.get(SUMMED..).unwrap_or_default());
        entry.get_mut(SUM..SUMMED).ok_or_else(broken)?.copy_from_slice(&sum.to_le_bytes());
        Ok(())
    }

    /// Takes the first of what [`Self::push`] wrote; none where it is cut off or damaged.
    fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let summed = bytes.strip_prefix(&ENTRY)?;
        let (sum, facts) = summed.split_first_chunk::<{ SUMMED - SUM }>()?;
        let (length, rest) = facts.split_first_chunk::<4>()?;
        let (of_somebody, rest) = rest.split_first()?;
        let (subject, rest) = match of_somebody {
            0 => (None, rest),
            _ => rest.split_first_chunk::<32>().map(|(subject, rest)| (Some(subject), rest))?,
        };
        let (record, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let whole = facts.get(..facts.len() - rest.len())?;
        if crc32fast::hash(whole) != u32::from_le_bytes(*sum) {
            return None;
        }
        *bytes = rest;
        Some(Self { subject, record })
    }

    fn insert(&self, transaction: &Transaction<'_>) -> Result<()> {
        let Some(Head { id, task, at }) = compact::head(self.record) else { return Ok(()) };
        // A line may be taken over whose row was written before its journal could be emptied.
        transaction
            .prepare_cached(
                "INSERT INTO records (id, task, at, record, subject, compact) VALUES (?1, ?2, ?3, '', ?4, ?5)
                 ON CONFLICT (id) DO NOTHING",
            )?
            .execute(params![id, task, at, self.subject, self.record])?;
        Ok(())
    }
}

/// Brings entries into the database; what is cut off or damaged is passed over, up to the next that is whole. Returns how many bytes were.
pub(crate) fn insert(mut bytes: &[u8], transaction: &Transaction<'_>) -> Result<usize> {
    let mut passed_over = 0;
    while !bytes.is_empty() {
        if let Some(line) = Line::take(&mut bytes) {
            line.insert(transaction)?;
            continue;
        }
        let next = bytes.windows(ENTRY.len()).skip(1).position(|begin| begin == ENTRY);
        let (passed, rest) = bytes.split_at(next.map_or(bytes.len(), |next| next + 1));
        passed_over += passed.len();
        bytes = rest;
    }
    Ok(passed_over)
}

/// Brings the lines of an earlier build into the database: whom each is about in hexadecimal digits or `-`, a space, and JSON.
fn insert_earlier(bytes: &[u8], transaction: &Transaction<'_>) -> Result<()> {
    let read = |line: &[u8]| {
        let (subject, record) = std::str::from_utf8(line).ok()?.split_once(' ')?;
        let subject = if subject == "-" { None } else { Some(*ContentHash::parse(subject)?.as_bytes()) };
        Some((serde_json::from_str::<Record>(record).ok()?, subject))
    };
    let mut entry = Vec::new();
    for (record, subject) in bytes.split(|byte| *byte == b'\n').filter_map(read) {
        entry.clear();
        Line::push(&record, subject.as_ref(), &mut entry)?;
        insert(&entry, transaction)?;
    }
    Ok(())
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
        if self.path.extension().is_some_and(|ending| ending == EARLIER) {
            insert_earlier(&bytes, &transaction)?;
        } else {
            let passed_over = insert(&bytes, &transaction)?;
            // The last one may have been cut off before anybody was told of it.
            if passed_over > 0 {
                eprintln!(
                    "{}: {passed_over} bytes are cut off or damaged and were left out",
                    self.path.display()
                );
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
        if path.extension().is_some_and(|ending| ending == ENDING || ending == EARLIER)
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
            for name in ["gone.entries", "other.entries"] {
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
    fn what_is_damaged_is_passed_over_and_nothing_else() {
        let whole = [lines(&["d_1"], None), lines(&["d_2"], Some([3; 32])), lines(&["d_3"], None)].concat();
        let (begin, end) = (lines(&["d_1"], None).len(), whole.len() - lines(&["d_3"], None).len());
        let kept = |bytes: &[u8]| {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path()).unwrap();
            std::fs::write(folder.path().join("gone.entries"), bytes).unwrap();
            let found = ["d_1", "d_2", "d_3"].map(|id| store.record(id).unwrap());
            assert!(found.iter().flatten().all(|found| *found == record(&found.id)));
            assert_eq!(store.check().unwrap(), Vec::<String>::new());
            found.map(|found| found.is_some())
        };
        for place in (begin..end).step_by(5).chain(begin..begin + FRONT) {
            for value in [0, 0xff, whole[place] ^ 1] {
                let mut damaged = whole.clone();
                damaged[place] = value;
                let whole = damaged == whole;
                assert_eq!(kept(&damaged), [true, whole, true], "{place}, {value}");
            }
        }
        let mut blank = whole.clone();
        blank[begin + 6..end].fill(0);
        assert_eq!(kept(&blank), [true, false, true]);
        let noise = [b"\0\0\0\n- {}\n\xf5rec\xf5re".as_slice(), &whole, b"\xf5rec\0\0"].concat();
        assert_eq!(kept(&noise), [true; 3]);
    }

    #[test]
    fn lines_of_an_earlier_build_are_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let line = |id: &str| format!("- {}\n", serde_json::to_string(&record(id)).unwrap());
        let of_somebody = format!("{} {}", ContentHash::of(b"s"), line("d_2").trim_start_matches("- "));
        let noise = format!("- {{}}\n{}zz {{\"id\":1}}\n{of_somebody}- [1,", line("d_1"));
        std::fs::write(folder.path().join("gone.journal"), noise).unwrap();
        assert_eq!(store.count_records("desk").unwrap(), 2);
        assert_eq!(store.record("d_2").unwrap().unwrap(), record("d_2"));
    }
}
