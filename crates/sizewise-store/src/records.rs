//! How are the records of decisions written, fast and for good?
//!
//! A record alone is a line in a journal before its decision is told, and comes into the database with others after it. Whatever is more
//! than a record (a question that waits for a person, a probe, a bill) is in the database before anybody is told of it; what a caller is
//! told that a person will look at is also synced to the disk. One thread writes: a killed process loses nothing of what it told, and only
//! the loss of power can take the last moments' records.

use crate::{
    Store, bills,
    compact::Kept,
    database,
    error::{Error, Result},
    journal::{self, Journal, Line},
    keys, probes,
};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use sizewise_contract::{Bill, Probe, QueuedItem, Record, units::UnixMillis};
use std::{
    fs::File,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// What version 8 of the database has and version 7 had not. Records are some thousand bytes: in the order of their coming three or four
/// share a page, where a table ordered by their names gave each a page of its own.
pub(crate) const TABLE: &str = "
CREATE TABLE records_in_order (
    number  INTEGER PRIMARY KEY,
    id      TEXT NOT NULL UNIQUE,
    task    TEXT NOT NULL,
    at      INTEGER NOT NULL,
    record  TEXT NOT NULL,
    subject BLOB                             -- keyed hash of whom the input is about, where the caller said so
) STRICT;
INSERT INTO records_in_order (id, task, at, record, subject) SELECT id, task, at, record, subject FROM records ORDER BY id;
DROP TABLE records;
ALTER TABLE records_in_order RENAME TO records;
CREATE INDEX records_of_task ON records (task, at, id);
CREATE INDEX records_of_subject ON records (subject) WHERE subject IS NOT NULL;
";

/// What version 15 has and version 14 had not: records in few bytes, beside those in JSON of earlier builds, and a smaller index. No row is
/// written anew, however many there are.
pub(crate) const COMPACT: &str = "
ALTER TABLE records ADD COLUMN compact BLOB;  -- where it is there, `record` is empty
DROP INDEX records_of_task;
CREATE INDEX records_of_task ON records (task, at);
";

/// Entries that may wait to be told of; more are refused, so that a slow disk is noticed instead of filling memory.
const WAITING: usize = 8_192;
/// What may stand in a journal and not in the database. `bytes`
const BEHIND: usize = 64 << 20;
/// Room for most records. `bytes`
const ROOM: usize = 512;
/// Entries in one transaction.
const TOGETHER: usize = 1_024;
/// How long the writer waits for company where the last entries came together: a transaction costs several times what an entry does.
const COMPANY: Duration = Duration::from_micros(200);
/// From one transaction of records that nobody waits for to the next.
const PACE: Duration = Duration::from_millis(20);
/// From one attempt to the next where the database takes nothing.
const AGAIN: Duration = Duration::from_millis(100);
/// Attempts before what stands in a journal is left to whoever comes next, once no more is handed over.
const LAST_ATTEMPTS: usize = 3;

/// What one decision leaves behind.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// Its record.
    pub record: Option<Record>,
    /// Its questions that wait for a person.
    pub queued: Vec<QueuedItem>,
    /// Whether the caller is told that a person will look; the entry is then synced to the disk.
    pub promised: bool,
    /// Questions that were drawn to be put before the reference.
    pub probes: Vec<Probe>,
    /// What the reference said about earlier ones: decision, question, truth.
    pub told: Vec<(String, String, String)>,
    /// What asking a larger model for its caller came to.
    pub bill: Option<Bill>,
    /// What asking a larger model about an earlier decision, as a probe, came to.
    pub probe_bill: Option<(String, Bill)>,
    /// Whom the input is about, as the caller calls them; only a keyed hash of it is written.
    pub subject: Option<String>,
}

impl Entry {
    /// Whether it is a record alone.
    fn is_plain(&self) -> bool {
        let Self { record, queued, promised, probes, told, bill, probe_bill, subject: _ } = self;
        let alone = queued.is_empty() && probes.is_empty() && told.is_empty();
        record.is_some() && alone && !promised && bill.is_none() && probe_bill.is_none()
    }
}

type Told = Box<dyn FnOnce(bool) + Send>;

/// Writes records on a thread of its own.
#[derive(Debug)]
pub struct Recorder {
    desk: Arc<Desk>,
    secret: [u8; 32],
    thread: Option<JoinHandle<()>>,
}

/// Where what is to be written is handed over.
#[derive(Debug)]
struct Desk {
    state: Mutex<State>,
    work: Condvar,
}

struct State {
    journal: Journal,
    /// What stands in the journal's current file.
    lines: Vec<u8>,
    /// The size of all that stands in journals. `bytes`
    behind: usize,
    waiting: Vec<(Vec<Entry>, Told)>,
    /// Whether the writer has nothing to do.
    idle: bool,
    ended: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (bytes, waiting) = (self.lines.len(), self.waiting.len());
        formatter
            .debug_struct("State")
            .field("bytes", &bytes)
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to write, and takes it; none once it has ended.
    fn take(&self, (last, together): (Option<Instant>, bool)) -> Option<Batch> {
        let mut state = self.state();
        while state.lines.is_empty() && state.waiting.is_empty() {
            if state.ended {
                return None;
            }
            state.idle = true;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.idle = false;
        while state.waiting.is_empty() && !state.ended && state.behind < BEHIND / 2 {
            let left = last.map_or(Duration::ZERO, |last| PACE.saturating_sub(last.elapsed()));
            if left.is_zero() {
                break;
            }
            state = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if together && !state.waiting.is_empty() && !state.ended {
            drop(state);
            std::thread::sleep(COMPANY);
            state = self.state();
        }
        let several = state.waiting.len().min(TOGETHER);
        let entries = state.waiting.drain(..several).collect();
        let lines = std::mem::take(&mut state.lines);
        let filled = if lines.is_empty() { None } else { Some(state.journal.turn()) };
        Some(Batch { entries, lines, filled })
    }
}

/// What is written at once.
struct Batch {
    entries: Vec<(Vec<Entry>, Told)>,
    lines: Vec<u8>,
    /// The file that the lines stand in, and its length.
    filled: Option<(Arc<File>, usize)>,
}

impl Recorder {
    /// Begins to write into the store of a folder.
    ///
    /// # Errors
    /// Fails when the store cannot be opened.
    pub fn start(folder: &Path) -> Result<Self> {
        let mut connection = database::open(&folder.join(database::FILE))?;
        let secret = keys::secret(folder)?;
        for left in journal::settled(folder)? {
            left.take_over(&mut connection)?;
        }
        journal::clean(folder)?;
        let state = State {
            journal: Journal::begin(folder)?,
            lines: Vec::new(),
            behind: 0,
            waiting: Vec::new(),
            idle: false,
            ended: false,
        };
        let desk = Arc::new(Desk { state: Mutex::new(state), work: Condvar::new() });
        let of_thread = Arc::clone(&desk);
        let thread = std::thread::Builder::new()
            .name("records".into())
            .spawn(move || write_all((connection, &secret), &of_thread))
            .map_err(|cause| Error::file(folder, cause))?;
        Ok(Self { desk, secret, thread: Some(thread) })
    }

    /// Hands over what some decisions leave behind; `told` is called with whether it outlives a kill of this process. False when
    /// too much waits already: nothing is then kept and `told` is not called.
    #[must_use]
    pub fn keep(&self, entries: Vec<Entry>, told: impl FnOnce(bool) + Send + 'static) -> bool {
        if entries.iter().all(Entry::is_plain) {
            return self.put_down(&entries, told);
        }
        let mut state = self.desk.state();
        if state.waiting.len() >= WAITING || state.behind >= BEHIND {
            return false;
        }
        state.waiting.push((entries, Box::new(told)));
        // The writer may wait for more records: whoever waits to be told goes first.
        if state.waiting.len() == 1 {
            self.desk.work.notify_one();
        }
        true
    }

    /// Writes records into the journal.
    fn put_down(&self, entries: &[Entry], told: impl FnOnce(bool)) -> bool {
        let mut bytes = Vec::with_capacity(entries.len() * ROOM);
        for entry in entries {
            let subject = entry.subject.as_ref().map(|subject| keys::subject(&self.secret, subject));
            let Some(record) = &entry.record else { continue };
            if Line::push(record, subject.as_ref(), &mut bytes).is_err() {
                told(false);
                return true;
            }
        }
        let mut state = self.desk.state();
        if state.behind + bytes.len() > BEHIND {
            return false;
        }
        let kept = match state.journal.append(&bytes) {
            Ok(()) => {
                state.lines.extend_from_slice(&bytes);
                state.behind += bytes.len();
                true
            }
            Err(error) => {
                eprintln!("records could not be written: {error}");
                false
            }
        };
        if state.idle || state.behind >= BEHIND / 2 {
            self.desk.work.notify_one();
        }
        drop(state);
        told(kept);
        true
    }
}

impl Drop for Recorder {
    /// Waits until everything that was handed over is in the database.
    fn drop(&mut self) {
        self.desk.state().ended = true;
        self.desk.work.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_all((mut connection, secret): (Connection, &[u8; 32]), desk: &Desk) {
    // As the database was opened.
    let mut synced = true;
    let (mut last, mut together) = (None, false);
    while let Some(Batch { entries, lines, filled }) = desk.take((last, together)) {
        last = Some(Instant::now());
        together = entries.len() > 1;
        let all = || entries.iter().flat_map(|(entries, _)| entries);
        let sync = all().any(|entry| entry.promised);
        let kept = told_of(
            set_sync(&connection, &mut synced, sync)
                .and_then(|()| write((&mut connection, secret), &lines, all())),
        );
        entries.into_iter().for_each(|(_, told)| told(kept));
        let Some((file, length)) = filled else { continue };
        // Whoever handed these over was told that they are kept.
        let (mut written, mut attempts) = (kept, 0);
        while !written {
            attempts += usize::from(desk.state().ended);
            if attempts > LAST_ATTEMPTS {
                return;
            }
            // Nothing can be kept for those who wait, and they are not to wait with it.
            let refused = std::mem::take(&mut desk.state().waiting);
            refused.into_iter().for_each(|(_, told)| told(false));
            std::thread::sleep(AGAIN);
            written = told_of(write((&mut connection, secret), &lines, std::iter::empty()));
        }
        // What is not emptied is taken over twice at worst, the second time without effect.
        told_of(file.set_len(0).map_err(|cause| Error::file(Path::new(database::FILE), cause)));
        desk.state().behind -= length;
    }
    desk.state().journal.end();
}

/// Says what went wrong, where something did, and whether nothing did.
fn told_of(written: Result<()>) -> bool {
    written.inspect_err(|error| eprintln!("records could not be written: {error}")).is_ok()
}

/// Chooses whether commits wait for the disk.
fn set_sync(connection: &Connection, now: &mut bool, wanted: bool) -> Result<()> {
    if *now != wanted {
        connection.pragma_update(None, "synchronous", if wanted { "FULL" } else { "NORMAL" })?;
        *now = wanted;
    }
    Ok(())
}

fn write<'a>(
    (connection, secret): (&mut Connection, &[u8; 32]),
    lines: &[u8],
    entries: impl Iterator<Item = &'a Entry>,
) -> Result<()> {
    let transaction = database::begin(connection)?;
    journal::insert(lines, &transaction)?;
    entries.into_iter().try_for_each(|entry| write_entry(&transaction, secret, entry))?;
    Ok(transaction.commit()?)
}

fn write_entry(transaction: &Transaction<'_>, secret: &[u8; 32], entry: &Entry) -> Result<()> {
    let subject = entry.subject.as_ref().map(|subject| keys::subject(secret, subject));
    if let Some(record) = &entry.record {
        let mut line = Vec::with_capacity(ROOM);
        Line::push(record, subject.as_ref(), &mut line)?;
        journal::insert(&line, transaction)?;
    }
    let mut queue = transaction.prepare_cached(
        "INSERT INTO queue (decision, question, task, at, item, state, subject, why)
         VALUES (?1, ?2, ?3, ?4, ?5, 'waiting', ?6, ?7)",
    )?;
    for item in &entry.queued {
        let text = serde_json::to_string(item).map_err(|_| Error::Internal("a question has a JSON form"))?;
        let why = item.why.name();
        queue.execute(params![item.decision, item.question, item.task, item.at.0, text, subject, why])?;
    }
    for probe in &entry.probes {
        probes::insert(transaction, probe, subject)?;
    }
    if let Some((record, bill)) = entry.record.as_ref().zip(entry.bill.as_ref()) {
        bills::insert(transaction, (&record.id, false), bill)?;
    }
    if let Some((decision, bill)) = &entry.probe_bill {
        bills::insert(transaction, (decision, true), bill)?;
    }
    for (decision, question, truth) in &entry.told {
        probes::tell(transaction, (decision, question), truth)?;
    }
    Ok(())
}

/// The records that cannot be read, the first twenty.
pub(crate) fn unreadable(connection: &Connection) -> Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT id, coalesce(compact, record) FROM records")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        if found.len() < 20 && row.get::<_, Kept>(1).is_err() {
            found.push(format!("record {} cannot be read", row.get::<_, String>(0)?));
        }
    }
    Ok(found)
}

impl Store {
    /// The record of a decision.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn record(&self, id: &str) -> Result<Option<Record>> {
        let connection = self.with_records()?;
        let record: Option<Kept> = connection
            .query_row("SELECT coalesce(compact, record) FROM records WHERE id = ?1", [id], |row| row.get(0))
            .optional()?;
        Ok(record.map(|Kept(record)| record))
    }

    /// The latest records of a task, the latest first. Their cost does not grow with what is kept.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn latest_records(&self, task: &str, limit: usize) -> Result<Vec<Record>> {
        let connection = self.with_records()?;
        let mut statement = connection.prepare_cached(
            "SELECT coalesce(compact, record) FROM records WHERE task = ?1 ORDER BY at DESC LIMIT ?2",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![task, limit], |row| row.get(0))?;
        rows.map(|record| record.map(|Kept(record)| record))
            .collect::<rusqlite::Result<_>>()
            .map_err(Error::from)
    }

    /// Records of a task after one that is named by its moment and id, in their order.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn records_after(
        &self,
        task: &str,
        after: &(UnixMillis, String),
        limit: usize,
    ) -> Result<Vec<Record>> {
        let connection = self.with_records()?;
        let mut statement = connection.prepare_cached(
            "SELECT coalesce(compact, record) FROM records WHERE task = ?1 AND at >= ?2 AND (at > ?2 OR id > ?3) ORDER BY at, id LIMIT ?4",
        )?;
        let given = params![task, after.0.0, after.1, i64::try_from(limit).unwrap_or(i64::MAX)];
        let rows = statement.query_map(given, |row| row.get(0))?;
        rows.map(|record| record.map(|Kept(record)| record))
            .collect::<rusqlite::Result<_>>()
            .map_err(Error::from)
    }

    /// How many records a task has.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn count_records(&self, task: &str) -> Result<u64> {
        let connection = self.with_records()?;
        let count: i64 =
            connection.query_row("SELECT count(*) FROM records WHERE task = ?1", [task], |row| row.get(0))?;
        Ok(count as u64)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;
    use sizewise_contract::{ContentHash, StoredInput};
    use std::sync::mpsc;

    fn entry(id: &str, promised: bool) -> Entry {
        let record = Record {
            id: id.into(),
            task: "desk".into(),
            release: ContentHash::of(b"r"),
            at: UnixMillis(1),
            input: StoredInput::Nothing,
            answers: vec![],
            elapsed_us: 1,
            key_id: None,
        };
        Entry { record: Some(record), promised, ..Entry::default() }
    }

    #[test]
    fn a_database_that_takes_nothing_loses_nothing_and_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let recorder = Recorder::start(folder.path()).unwrap();
        let (told, heard) = mpsc::channel();
        let keep = |id: &str, promised| {
            let told = told.clone();
            assert!(recorder.keep(vec![entry(id, promised)], move |kept| told.send(kept).unwrap()));
            heard.recv_timeout(Duration::from_secs(5)).unwrap()
        };
        store.connection().execute_batch("ALTER TABLE records RENAME TO elsewhere").unwrap();
        assert!(keep("d_1", false), "it stands in the journal");
        assert!(!keep("d_2", true), "nobody is told that a person will look");
        assert!(!keep("d_3", true));
        store.connection().execute_batch("ALTER TABLE elsewhere RENAME TO records").unwrap();
        assert_eq!(store.count_records("desk").unwrap(), 1);
        assert!(keep("d_4", true) && store.record("d_1").unwrap().is_some());
    }
}
