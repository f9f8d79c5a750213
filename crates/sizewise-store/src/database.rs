//! How is the database opened, made and checked?

use crate::error::{Error, Result};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use std::{path::Path, time::Duration};

/// Name of the database in the store's folder.
pub(crate) const FILE: &str = "store.db";
/// Version of the tables below; `PRAGMA user_version` of the file.
const VERSION: i64 = 5;
/// How long a call waits for another process.
const PATIENCE: Duration = Duration::from_secs(10);

const TABLES: &str = "
CREATE TABLE releases (
    id        TEXT PRIMARY KEY,              -- hash of the manifest
    task      TEXT NOT NULL,
    manifest  TEXT NOT NULL,
    stored_at INTEGER NOT NULL,
    number    INTEGER NOT NULL               -- grows with every training of a task
) STRICT;
CREATE INDEX releases_of_task ON releases (task, number);

CREATE TABLE certificates (
    release     TEXT NOT NULL REFERENCES releases (id),
    question    TEXT NOT NULL,
    certificate TEXT NOT NULL,
    PRIMARY KEY (release, question)
) STRICT;

-- The last row of a task says which release is in force.
CREATE TABLE switches (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    task    TEXT NOT NULL,
    release TEXT NOT NULL REFERENCES releases (id),
    at      INTEGER NOT NULL,
    reason  TEXT NOT NULL
) STRICT;
CREATE INDEX switches_of_task ON switches (task, number);

-- Written before the locked rows are looked at: whoever looked has spent an opening, come what may.
CREATE TABLE openings (
    number       INTEGER PRIMARY KEY AUTOINCREMENT,
    task         TEXT NOT NULL,
    locked_rows  TEXT NOT NULL,
    release      TEXT NOT NULL REFERENCES releases (id),
    at           INTEGER NOT NULL,
    planned      INTEGER NOT NULL,
    certificates TEXT
) STRICT;

CREATE TABLE records (
    id     TEXT PRIMARY KEY,
    task   TEXT NOT NULL,
    at     INTEGER NOT NULL,
    record TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX records_of_task ON records (task, at);

CREATE TABLE queue (
    decision    TEXT NOT NULL,
    question    TEXT NOT NULL,
    task        TEXT NOT NULL,
    at          INTEGER NOT NULL,
    item        TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('waiting', 'answered', 'skipped')),
    answer      TEXT,
    answered_at INTEGER,
    PRIMARY KEY (decision, question)
) STRICT, WITHOUT ROWID;
CREATE INDEX queue_by_state ON queue (state, task, at);

CREATE TABLE models (
    name  TEXT PRIMARY KEY,
    model TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE keys (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    digest     BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
";

/// What version 3 has and version 2 had not.
const SPENDING: &str = "
-- Settled, and summed up: a line for each day.
CREATE TABLE spent (
    task      TEXT NOT NULL,
    provider  TEXT NOT NULL,
    day       TEXT NOT NULL,                 -- UTC, as 2026-01-31
    micro_usd INTEGER NOT NULL,
    calls     INTEGER NOT NULL,
    PRIMARY KEY (task, provider, day)
) STRICT, WITHOUT ROWID;

-- Taken out and not settled: calls under way, and those of processes that ended before their calls did.
CREATE TABLE reserved (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    task      TEXT NOT NULL,
    provider  TEXT NOT NULL,
    day       TEXT NOT NULL,
    micro_usd INTEGER NOT NULL
) STRICT;
CREATE INDEX reserved_of_task ON reserved (task, day);
";

/// The version that [`TABLES`] make.
const OLDEST: i64 = 2;
/// What each later version added.
const STEPS: [(i64, &str); 2] = [(3, SPENDING), (5, crate::sites::TABLES)];

/// Opens a database, making its tables when the file is new.
pub(crate) fn open(path: &Path) -> Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let named = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
            Error::Damaged { path: path.to_owned(), problem: error.to_string() }
        }
        _ => Error::Database(error),
    };
    let mut connection = Connection::open_with_flags(path, flags).map_err(named)?;
    connection.busy_timeout(PATIENCE)?;
    // FULL syncs the write-ahead log at every commit: what was acknowledged survives the loss of power.
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
             PRAGMA trusted_schema = OFF; PRAGMA cache_size = -8000;",
        )
        .map_err(named)?;
    let making = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(named)?;
    let version: i64 = making.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(named)?;
    if version != 0 && !(OLDEST..=VERSION).contains(&version) {
        return Err(Error::Damaged {
            path: path.to_owned(),
            problem: format!("its version is {version}; this build reads {VERSION}"),
        });
    }
    if version == 0 {
        making.execute_batch(TABLES).map_err(named)?;
    }
    if version != VERSION {
        for (_, tables) in STEPS.iter().filter(|(added_in, _)| version < *added_in) {
            making.execute_batch(tables).map_err(named)?;
        }
        making.pragma_update(None, "user_version", VERSION)?;
    }
    making.commit()?;
    Ok(connection)
}

/// Begins to write. At once, not at the first change: a transaction that has read and then wants to write is refused,
/// without waiting, when somebody else wrote in between.
pub(crate) fn begin(connection: &mut Connection) -> Result<Transaction<'_>> {
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

/// Reads every page and lists what is damaged.
pub(crate) fn check(connection: &Connection) -> Result<Vec<String>> {
    let mut statement = connection.prepare("PRAGMA integrity_check(20)")?;
    let lines =
        statement.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}
