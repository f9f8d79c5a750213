//! What was drawn to be put before a reference, and what came of it?
//!
//! A probe is written in the transaction of its decision's record. What the reference says is *told*, in an order that never
//! changes: whoever reads the told probes again comes to the same state of the promise. Erasing a person takes from a probe
//! whose it was and leaves what it counts for.

use crate::{
    Store,
    audit::{self, Act},
    database,
    error::{Error, Result},
    ids,
};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Serialize;
use serde_json::json;
use sizewise_contract::{ContentHash, Probe, PromiseChange, ToldProbe, units::UnixMillis};

/// What version 7 of the database has and version 6 had not.
pub(crate) const TABLES: &str = "
CREATE TABLE probes (
    number      INTEGER PRIMARY KEY,
    decision    TEXT,                        -- blanked by an erasure, as is the subject
    subject     BLOB,
    task        TEXT NOT NULL,
    question    TEXT NOT NULL,
    release     TEXT NOT NULL,
    at          INTEGER NOT NULL,
    probability REAL NOT NULL,
    weight      REAL NOT NULL,
    part        TEXT,                        -- of the traffic
    reference   TEXT NOT NULL,
    path        TEXT NOT NULL,               -- JSON
    truth       TEXT,
    told        INTEGER UNIQUE,              -- counts over all tasks
    told_at     INTEGER
) STRICT;
CREATE UNIQUE INDEX probes_of_decision ON probes (decision, question) WHERE decision IS NOT NULL;
CREATE INDEX probes_told ON probes (release, question, told) WHERE told IS NOT NULL;
CREATE INDEX probes_untold ON probes (release, at) WHERE told IS NULL;
CREATE INDEX probes_of_subject ON probes (subject) WHERE subject IS NOT NULL;

-- So that nobody has to count.
CREATE TABLE probe_counts (
    release  TEXT NOT NULL,
    question TEXT NOT NULL,
    drawn    INTEGER NOT NULL,
    told     INTEGER NOT NULL,
    PRIMARY KEY (release, question)
) STRICT, WITHOUT ROWID;

CREATE TABLE promise_changes (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    task     TEXT NOT NULL,
    release  TEXT NOT NULL,
    question TEXT NOT NULL,
    part     TEXT NOT NULL,                  -- of the traffic; empty for all of it
    told     INTEGER NOT NULL,
    change   TEXT NOT NULL,                  -- JSON
    UNIQUE (release, question, part, told)
) STRICT;
CREATE INDEX promise_changes_of_task ON promise_changes (task, number);

ALTER TABLE queue ADD COLUMN why TEXT NOT NULL DEFAULT 'unsure';
CREATE INDEX queue_by_reason ON queue (state, task, why, at);
";

/// How many probes of a question were drawn, and of how many the truth is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ProbeCounts {
    /// Drawn.
    pub drawn: u64,
    /// With a truth.
    pub told: u64,
}

/// Writes probes down, with the keyed hash of whom the input is about.
pub(crate) fn insert(transaction: &Transaction<'_>, probe: &Probe, subject: Option<[u8; 32]>) -> Result<()> {
    let release = probe.release.to_string();
    transaction
        .prepare_cached(
            "INSERT INTO probes (decision, subject, task, question, release, at, probability, weight, part, reference, path)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            probe.decision,
            subject,
            probe.task,
            probe.question,
            release,
            probe.at.0,
            probe.probability,
            probe.weight,
            probe.group,
            serde_json::to_string(&probe.reference).map_err(|_| UNWRITABLE)?,
            serde_json::to_string(&probe.path).map_err(|_| UNWRITABLE)?
        ])?;
    count(transaction, (&release, &probe.question), (1, 0))
}

const UNWRITABLE: Error = Error::Internal("a probe has a JSON form");

fn count(
    transaction: &Transaction<'_>,
    (release, question): (&str, &str),
    (drawn, told): (i64, i64),
) -> Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO probe_counts (release, question, drawn, told) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (release, question) DO UPDATE SET drawn = drawn + ?3, told = told + ?4",
        )?
        .execute(params![release, question, drawn, told])?;
    Ok(())
}

/// Notes what the reference said of a decision's question, where it is a probe whose truth was not known. Says whether it was.
pub(crate) fn tell(
    transaction: &Transaction<'_>,
    (decision, question): (&str, &str),
    truth: &str,
) -> Result<bool> {
    let release: Option<String> = transaction
        .prepare_cached(
            "UPDATE probes SET truth = ?3, told = (SELECT coalesce(max(told), 0) + 1 FROM probes), told_at = ?4
             WHERE decision = ?1 AND question = ?2 AND told IS NULL RETURNING release",
        )?
        .query_row(params![decision, question, truth, ids::now().0], |row| row.get(0))
        .optional()?;
    match release {
        Some(release) => count(transaction, (&release, question), (0, 1)).map(|()| true),
        None => Ok(false),
    }
}

/// Takes from probes whose they were.
pub(crate) fn blank(
    transaction: &Transaction<'_>,
    value: &dyn rusqlite::ToSql,
    column: &str,
) -> Result<usize> {
    let query = format!("UPDATE probes SET decision = NULL, subject = NULL WHERE {column} = ?1");
    Ok(transaction.execute(&query, [value])?)
}

impl Store {
    /// The probes of a release's question that were told after a place, in the order in which they were told: at most ten thousand, the
    /// next after the last of them.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn told_probes(&self, release: &ContentHash, question: &str, after: i64) -> Result<Vec<ToldProbe>> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT told, told_at, weight, part, path, truth FROM probes
             WHERE release = ?1 AND question = ?2 AND told > ?3 ORDER BY told LIMIT 10000",
        )?;
        let rows = statement.query_map(params![release.to_string(), question, after], |row| {
            let path: String = row.get(4)?;
            let probe = ToldProbe {
                told: row.get(0)?,
                told_at: UnixMillis(row.get(1)?),
                weight: row.get(2)?,
                group: row.get(3)?,
                path: Vec::new(),
                truth: row.get(5)?,
            };
            Ok((probe, path))
        })?;
        rows.map(|row| {
            let (mut probe, path) = row?;
            probe.path =
                serde_json::from_str(&path).map_err(|_| Error::Internal("a stored probe is readable"))?;
            Ok(probe)
        })
        .collect()
    }

    /// How many probes of a release's question there are.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn probe_counts(&self, release: &ContentHash, question: &str) -> Result<ProbeCounts> {
        let connection = self.connection();
        let found = connection
            .query_row(
                "SELECT drawn, told FROM probe_counts WHERE release = ?1 AND question = ?2",
                params![release.to_string(), question],
                |row| {
                    let (drawn, told): (i64, i64) = (row.get(0)?, row.get(1)?);
                    Ok(ProbeCounts { drawn: drawn.unsigned_abs(), told: told.unsigned_abs() })
                },
            )
            .optional()?;
        Ok(found.unwrap_or_default())
    }

    /// How many probes of a task's release were drawn since a moment and wait for a truth, over all questions.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn untold_probes(&self, release: &ContentHash, since: UnixMillis) -> Result<u64> {
        let connection = self.connection();
        let count: i64 = connection.query_row(
            "SELECT count(*) FROM probes WHERE release = ?1 AND told IS NULL AND at >= ?2",
            params![release.to_string(), since.0],
            |row| row.get(0),
        )?;
        Ok(count.unsigned_abs())
    }

    /// Writes a change of a promise down, once: whoever finds it again changes nothing. Says whether it was new.
    ///
    /// # Errors
    /// Fails when the database cannot be written.
    pub fn note_promise(&self, change: &PromiseChange) -> Result<bool> {
        let text = serde_json::to_string(change).map_err(|_| UNWRITABLE)?;
        let release = change.release.to_string();
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        let new = transaction.execute(
            "INSERT INTO promise_changes (task, release, question, part, told, change) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO NOTHING",
            params![
                change.task,
                release,
                change.question,
                change.group.as_deref().unwrap_or(""),
                change.told,
                text
            ],
        )?;
        if new > 0 {
            let detail = json!({
                "task": change.task, "question": change.question, "group": change.group, "from": change.from,
                "to": change.to, "threshold": change.threshold, "probe": change.told,
            });
            audit::append(&transaction, &self.actor, Act::new("promise.changed", &release, detail))?;
        }
        transaction.commit()?;
        Ok(new > 0)
    }

    /// The changes of a task's promises, oldest first, at most so many of the latest.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn promise_changes(&self, task: &str, limit: usize) -> Result<Vec<PromiseChange>> {
        let connection = self.connection();
        read_changes(&connection, task, limit)
    }
}

fn read_changes(connection: &Connection, task: &str, limit: usize) -> Result<Vec<PromiseChange>> {
    let mut statement = connection
        .prepare_cached("SELECT change FROM promise_changes WHERE task = ?1 ORDER BY number DESC LIMIT ?2")?;
    let texts = statement
        .query_map(params![task, i64::try_from(limit).unwrap_or(i64::MAX)], |row| row.get::<_, String>(0))?;
    let mut changes = texts
        .map(|text| {
            serde_json::from_str(&text?)
                .map_err(|_| Error::Internal("a stored change of a promise is readable"))
        })
        .collect::<Result<Vec<_>>>()?;
    changes.reverse();
    Ok(changes)
}
