//! When did a task learn again, why, and how far did it come?
//!
//! One renewal runs at a time in a project, in a process of its own that holds a lock on a file: the system frees it however the process
//! ends, so one that is said to run and holds no lock was interrupted.

use crate::{
    Store,
    audit::{self, Act},
    database,
    error::{Error, Result},
    ids,
};
use rusqlite::{Connection, params};
use serde::Serialize;
use serde_json::json;
use sizewise_contract::{ContentHash, units::UnixMillis};
use std::{
    fs::{File, TryLockError},
    time::{Duration, Instant},
};

/// What version 12 of the database has and version 11 had not.
pub(crate) const TABLES: &str = "
CREATE TABLE renewals (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    task     TEXT NOT NULL,
    why      TEXT NOT NULL,
    state    TEXT NOT NULL,
    step     TEXT NOT NULL,
    begun_at INTEGER NOT NULL,
    ended_at INTEGER,
    release  TEXT,
    told     TEXT
) STRICT;
CREATE INDEX renewals_of_task ON renewals (task, number);
";

/// What a renewal does, one after the other.
pub const RENEWAL_STEPS: [&str; 3] = ["dividing rows", "training", "certifying"];

const LOCK_FILE: &str = "renewal.lock";
/// How long a renewal waits for the lock.
const PATIENCE: Duration = Duration::from_millis(500);

/// One time that a task learnt again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RenewalInfo {
    /// Its number.
    pub number: i64,
    /// The task.
    pub task: String,
    /// Why it was begun.
    pub why: String,
    /// `running`, `certified`, `refused`, `too_little`, `failed` or `interrupted`.
    pub state: String,
    /// What it does, or did last.
    pub step: String,
    /// When it began.
    pub begun_at: UnixMillis,
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
    /// The release that it made.
    pub release: Option<String>,
    /// What is to be said of how it ended.
    pub told: Option<String>,
}

/// A renewal that runs in this process.
#[derive(Debug)]
pub struct RunningRenewal {
    number: i64,
    task: String,
    _lock: File,
}

impl Store {
    /// Begins a renewal of a task; those that are said to run and do not are said to have been interrupted.
    ///
    /// # Errors
    /// Fails when another one runs, or the database cannot be written.
    pub fn begin_renewal(&self, task: &str, why: &str) -> Result<RunningRenewal> {
        // Whoever only looks holds the lock for a moment, too.
        let deadline = Instant::now() + PATIENCE;
        let lock = loop {
            match self.renewal_lock()? {
                Some(lock) => break lock,
                None if Instant::now() >= deadline => return Err(Error::AnotherRenewal),
                None => std::thread::sleep(PATIENCE / 20),
            }
        };
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        interrupted(&transaction)?;
        transaction.execute(
            "INSERT INTO renewals (task, why, state, step, begun_at) VALUES (?1, ?2, 'running', ?4, ?3)",
            params![task, why, ids::now().0, RENEWAL_STEPS[0]],
        )?;
        let number = transaction.last_insert_rowid();
        let detail = json!({ "why": why, "renewal": number });
        audit::append(&transaction, &self.actor, Act::new("renewal.begun", task, detail))?;
        transaction.commit()?;
        Ok(RunningRenewal { number, task: task.to_owned(), _lock: lock })
    }

    /// Says what a renewal does now.
    ///
    /// # Errors
    /// Fails when the database cannot be written.
    pub fn note_renewal(&self, renewal: &RunningRenewal, step: &str) -> Result<()> {
        let query = "UPDATE renewals SET step = ?2 WHERE number = ?1";
        self.connection().execute(query, params![renewal.number, step])?;
        Ok(())
    }

    /// Says how a renewal ended, and with which release.
    ///
    /// # Errors
    /// Fails when the database cannot be written.
    pub fn end_renewal(
        &self,
        renewal: RunningRenewal,
        state: &str,
        (release, told): (Option<ContentHash>, Option<&str>),
    ) -> Result<()> {
        let release = release.map(|release| release.to_string());
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        transaction.execute(
            "UPDATE renewals SET state = ?2, ended_at = ?3, release = ?4, told = ?5 WHERE number = ?1",
            params![renewal.number, state, ids::now().0, release, told],
        )?;
        let detail = json!({ "renewal": renewal.number, "state": state, "release": release });
        audit::append(&transaction, &self.actor, Act::new("renewal.ended", &renewal.task, detail))?;
        Ok(transaction.commit()?)
    }

    /// The latest renewals of a task, the latest first.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn renewals(&self, task: &str, limit: usize) -> Result<Vec<RenewalInfo>> {
        let said_to_run = "SELECT EXISTS (SELECT 1 FROM renewals WHERE state = 'running')";
        let said_to_run: bool = self.connection().query_row(said_to_run, [], |row| row.get(0))?;
        // Held for the moment of the look alone; whoever begins meanwhile asks again.
        let free = if said_to_run { self.renewal_lock()? } else { None };
        let connection = self.connection();
        if free.is_some() {
            interrupted(&connection)?;
        }
        let mut statement = connection.prepare_cached(
            "SELECT number, task, why, state, step, begun_at, ended_at, release, told FROM renewals
             WHERE task = ?1 ORDER BY number DESC LIMIT ?2",
        )?;
        let rows = statement.query_map(params![task, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            Ok(RenewalInfo {
                number: row.get(0)?,
                task: row.get(1)?,
                why: row.get(2)?,
                state: row.get(3)?,
                step: row.get(4)?,
                begun_at: UnixMillis(row.get(5)?),
                ended_at: row.get::<_, Option<i64>>(6)?.map(UnixMillis),
                release: row.get(7)?,
                told: row.get(8)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Whether a renewal of any task runs.
    ///
    /// # Errors
    /// Fails when the lock cannot be looked at.
    pub fn renewal_runs(&self) -> Result<bool> {
        Ok(self.renewal_lock()?.is_none())
    }

    /// The lock of renewals; none while one runs.
    fn renewal_lock(&self) -> Result<Option<File>> {
        let path = self.folder().join(LOCK_FILE);
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|cause| Error::file(&path, cause))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(cause)) => Err(Error::file(&path, cause)),
        }
    }
}

fn interrupted(connection: &Connection) -> Result<()> {
    let query = "UPDATE renewals SET state = 'interrupted', ended_at = ?1 WHERE state = 'running'";
    connection.execute(query, [ids::now().0])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    #[test]
    fn one_runs_at_a_time_and_what_ended_without_a_word_was_interrupted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let running = store.begin_renewal("support", "7 days have passed").unwrap();
        store.note_renewal(&running, "training").unwrap();
        let other = Store::open(folder.path()).unwrap();
        assert!(matches!(other.begin_renewal("desk", "asked for"), Err(Error::AnotherRenewal)));
        let found = other.renewals("support", 9).unwrap();
        assert_eq!((found[0].state.as_str(), found[0].step.as_str()), ("running", "training"));
        // As if its process were killed.
        drop(running);
        let found = other.renewals("support", 9).unwrap();
        assert_eq!((found[0].state.as_str(), found[0].ended_at.is_some()), ("interrupted", true));
        let again = other.begin_renewal("support", "it was interrupted").unwrap();
        other.end_renewal(again, "too_little", (None, Some("label more"))).unwrap();
        let found = store.renewals("support", 9).unwrap();
        assert_eq!((found.len(), found[0].state.as_str()), (2, "too_little"));
        assert_eq!(found[0].told.as_deref(), Some("label more"));
        let log = store.audit().unwrap();
        let acts: Vec<&str> = log.iter().map(|entry| entry.action.as_str()).collect();
        assert_eq!(acts.iter().filter(|act| act.starts_with("renewal.")).count(), 3, "{acts:?}");
    }
}
