//! How are the records of decisions written, fast and for good?
//!
//! One thread writes. It takes whatever waits, up to a limit, writes it in one transaction, and only then tells those
//! who wait. A question of which a caller is told that a person will look at it is synced to the disk first; records alone are handed to the system,
//! so a killed process loses none, and only the loss of power can take the last moments' records. Under load many
//! decisions share one transaction.

use crate::{
    Store, bills, database,
    error::{Error, Result},
    keys, probes,
};
use rusqlite::{Connection, OptionalExtension, params};
use sizewise_contract::{Bill, Probe, QueuedItem, Record, units::UnixMillis};
use std::{
    path::Path,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
    time::Duration,
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

/// Entries that may wait; more are refused, so that a slow disk is noticed instead of filling memory.
const WAITING: usize = 8_192;
/// Entries in one transaction.
const TOGETHER: usize = 1_024;
/// How long the writer waits for company where the last entries came together: a transaction costs several times what an entry does.
const COMPANY: Duration = Duration::from_micros(200);

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

type Told = Box<dyn FnOnce(bool) + Send>;

/// Writes records on a thread of its own.
#[derive(Debug)]
pub struct Recorder {
    sender: Option<SyncSender<(Vec<Entry>, Told)>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Begins to write into the store of a folder.
    ///
    /// # Errors
    /// Fails when the store cannot be opened.
    pub fn start(folder: &Path) -> Result<Self> {
        let connection = database::open(&folder.join(database::FILE))?;
        let secret = keys::secret(folder)?;
        let (sender, receiver) = sync_channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("records".into())
            .spawn(move || write_all((connection, &secret), &receiver))
            .map_err(|cause| Error::file(folder, cause))?;
        Ok(Self { sender: Some(sender), thread: Some(thread) })
    }

    /// Hands over what some decisions leave behind; `told` is called with whether it is on disk. False when too much waits
    /// already: nothing is then kept and `told` is not called.
    #[must_use]
    pub fn keep(&self, entries: Vec<Entry>, told: impl FnOnce(bool) + Send + 'static) -> bool {
        let Some(sender) = &self.sender else { return false };
        match sender.try_send((entries, Box::new(told))) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

impl Drop for Recorder {
    /// Waits until everything that was handed over is on disk.
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_all((mut connection, secret): (Connection, &[u8; 32]), receiver: &Receiver<(Vec<Entry>, Told)>) {
    // As the database was opened.
    let mut synced = true;
    let mut together = false;
    while let Ok(first) = receiver.recv() {
        let mut batch = vec![first];
        if together {
            std::thread::sleep(COMPANY);
        }
        while batch.len() < TOGETHER
            && let Ok(next) = receiver.try_recv()
        {
            batch.push(next);
        }
        together = batch.len() > 1;
        let entries = || batch.iter().flat_map(|(entries, _)| entries);
        let sync = entries().any(|entry| entry.promised);
        let kept = match set_sync(&connection, &mut synced, sync)
            .and_then(|()| write((&mut connection, secret), entries()))
        {
            Ok(()) => true,
            Err(error) => {
                eprintln!("records could not be written: {error}");
                false
            }
        };
        batch.into_iter().for_each(|(_, told)| told(kept));
    }
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
    entries: impl Iterator<Item = &'a Entry>,
) -> Result<()> {
    let transaction = database::begin(connection)?;
    {
        let mut record = transaction.prepare_cached(
            "INSERT INTO records (id, task, at, record, subject) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        let mut queue = transaction.prepare_cached(
            "INSERT INTO queue (decision, question, task, at, item, state, subject, why)
             VALUES (?1, ?2, ?3, ?4, ?5, 'waiting', ?6, ?7)",
        )?;
        for entry in entries {
            let subject = entry.subject.as_ref().map(|subject| keys::subject(secret, subject));
            if let Some(kept) = &entry.record {
                record.execute(params![kept.id, kept.task, kept.at.0, json(kept)?, subject])?;
            }
            for item in &entry.queued {
                queue.execute(params![
                    item.decision,
                    item.question,
                    item.task,
                    item.at.0,
                    json(item)?,
                    subject,
                    item.why.name()
                ])?;
            }
            for probe in &entry.probes {
                probes::insert(&transaction, probe, subject)?;
            }
            let own = entry.record.as_ref().zip(entry.bill.as_ref());
            if let Some((record, bill)) = own {
                bills::insert(&transaction, (&record.id, false), bill)?;
            }
            if let Some((decision, bill)) = &entry.probe_bill {
                bills::insert(&transaction, (decision, true), bill)?;
            }
            for (decision, question, truth) in &entry.told {
                probes::tell(&transaction, (decision, question), truth)?;
            }
        }
    }
    Ok(transaction.commit()?)
}

fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|_| Error::Internal("a record has a JSON form"))
}

impl Store {
    /// The record of a decision.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn record(&self, id: &str) -> Result<Option<Record>> {
        let connection = self.connection();
        let text: Option<String> = connection
            .query_row("SELECT record FROM records WHERE id = ?1", [id], |row| row.get(0))
            .optional()?;
        text.map(|text| {
            serde_json::from_str(&text).map_err(|_| Error::Internal("a stored record is readable"))
        })
        .transpose()
    }

    /// The latest records of a task, the latest first. Their cost does not grow with what is kept.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn latest_records(&self, task: &str, limit: usize) -> Result<Vec<Record>> {
        let connection = self.connection();
        let mut statement = connection
            .prepare_cached("SELECT record FROM records WHERE task = ?1 ORDER BY at DESC LIMIT ?2")?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![task, limit], |row| row.get::<_, String>(0))?;
        let read = |text: String| {
            serde_json::from_str(&text).map_err(|_| Error::Internal("a stored record is readable"))
        };
        rows.map(|text| read(text?)).collect()
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
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT record FROM records WHERE task = ?1 AND at >= ?2 AND (at > ?2 OR id > ?3) ORDER BY at, id LIMIT ?4",
        )?;
        let given = params![task, after.0.0, after.1, i64::try_from(limit).unwrap_or(i64::MAX)];
        let rows = statement.query_map(given, |row| row.get::<_, String>(0))?;
        let read = |text: String| {
            serde_json::from_str(&text).map_err(|_| Error::Internal("a stored record is readable"))
        };
        rows.map(|text| read(text?)).collect()
    }

    /// How many records a task has.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn count_records(&self, task: &str) -> Result<u64> {
        let connection = self.connection();
        let count: i64 =
            connection.query_row("SELECT count(*) FROM records WHERE task = ?1", [task], |row| row.get(0))?;
        Ok(count as u64)
    }
}
