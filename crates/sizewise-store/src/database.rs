//! How is the database opened, made and checked?

use crate::{
    audit,
    error::{Error, Result},
};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use std::{path::Path, time::Duration};

/// Name of the database in the store's folder.
pub(crate) const FILE: &str = "store.db";
/// What each version added, oldest first; `PRAGMA user_version` of the file says which one it has.
const VERSIONS: [(i64, &str); 14] = [
    (2, TABLES),
    (3, SPENDING),
    (4, audit::TABLES),
    (5, RIGHTS),
    (6, crate::sites::TABLES),
    (7, crate::probes::TABLES),
    (8, crate::records::TABLE),
    (9, crate::trials::TABLES),
    (10, crate::bills::TABLES),
    (11, crate::labels::TABLES),
    (12, crate::renewals::TABLES),
    (13, crate::kinds::TABLES),
    (14, crate::mixes::TABLES),
    (15, crate::records::COMPACT),
];
/// The version that this build makes.
const NEWEST: i64 = VERSIONS[VERSIONS.len() - 1].0;
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
    task      TEXT NOT NULL,                 -- who pays: a task, or key/ID, team/NAME, provider/NAME
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

/// What version 5 has and version 4 had not. Whoever had a key before keys had rights could do everything.
const RIGHTS: &str = "ALTER TABLE keys ADD COLUMN rights TEXT NOT NULL DEFAULT '{\"role\":\"operator\"}';";

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
    // FULL syncs the write-ahead log at every commit: what was acknowledged survives the loss of power. What is deleted is overwritten
    // with zeros, and nothing is put into temporary files.
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
             PRAGMA trusted_schema = OFF; PRAGMA cache_size = -8000; PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY;",
        )
        .map_err(named)?;
    let making = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(named)?;
    let version: i64 = making.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(named)?;
    if version == 1 || !(0..=NEWEST).contains(&version) {
        return Err(Error::Damaged {
            path: path.to_owned(),
            problem: format!("its version is {version}; this build reads {NEWEST}"),
        });
    }
    for (_, tables) in VERSIONS.iter().filter(|(added, _)| *added > version) {
        making.execute_batch(tables).map_err(named)?;
    }
    if version < 4 {
        audit::begin(&making, version)?;
    }
    if version < NEWEST {
        making.pragma_update(None, "user_version", NEWEST)?;
    }
    making.commit()?;
    Ok(connection)
}

/// Begins to write. At once, not at the first change: a transaction that has read and then wants to write is refused,
/// without waiting, when somebody else wrote in between.
pub(crate) fn begin(connection: &mut Connection) -> Result<Transaction<'_>> {
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

/// Moves what the write-ahead log holds into the database and empties it, so that nothing stays in it that was deleted. Says whether it
/// could: somebody who reads for longer than [`PATIENCE`] keeps it.
pub(crate) fn empty_log(connection: &Connection) -> Result<bool> {
    Ok(connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))? == 0)
}

/// Writes the whole database anew, without what earlier changes left in the unused parts of its pages.
pub(crate) fn rewrite(connection: &Connection) -> Result<()> {
    Ok(connection.execute_batch("VACUUM")?)
}

/// Size of the database without its write-ahead log. `bytes`
pub(crate) fn size(connection: &Connection) -> Result<u64> {
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    Ok(pragma("page_count")?.unsigned_abs() * pragma("page_size")?.unsigned_abs())
}

/// Reads every page and lists what is damaged.
pub(crate) fn check(connection: &Connection) -> Result<Vec<String>> {
    let mut statement = connection.prepare("PRAGMA integrity_check(20)")?;
    let lines =
        statement.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    /// A database as builds of those versions made it, with something in it.
    fn old(folder: &Path, version: i64) {
        let database = Connection::open(folder.join(FILE)).unwrap();
        for (_, tables) in VERSIONS.iter().filter(|(added, _)| *added <= version) {
            database.execute_batch(tables).unwrap();
        }
        database
            .execute_batch(
                "INSERT INTO keys (id, name, digest, created_at) VALUES ('k', 'gateway', zeroblob(32), 1)",
            )
            .unwrap();
        database.pragma_update(None, "user_version", version).unwrap();
    }

    #[test]
    fn databases_of_earlier_versions_are_taken_over_with_what_they_hold() {
        for version in [2, 3] {
            let folder = tempfile::tempdir().unwrap();
            old(folder.path(), version);
            for _ in 0..2 {
                let store = crate::Store::open(folder.path()).unwrap();
                assert_eq!(store.keys().unwrap().len(), 1);
                let log = store.audit().unwrap();
                assert_eq!((log.len(), log[0].action.as_str()), (1, "log.begun"), "version {version}");
                assert_eq!((&log[0].detail["keys"], &log[0].detail["releases"]), (&1.into(), &0.into()));
                assert_eq!(store.missing_guards().unwrap(), Vec::<&str>::new());
            }
        }
    }

    #[test]
    fn records_of_an_earlier_version_are_taken_over_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        old(folder.path(), 7);
        let database = Connection::open(folder.path().join(FILE)).unwrap();
        for id in ["d_2", "d_1", "d_3"] {
            let row = (id, "support", 5, "{}", [1u8; 32]);
            database.execute("INSERT INTO records VALUES (?1, ?2, ?3, ?4, ?5)", row).unwrap();
        }
        drop(database);
        let database = open(&folder.path().join(FILE)).unwrap();
        let mut rows =
            database.prepare("SELECT id, at, record, subject FROM records ORDER BY number").unwrap();
        let rows: Vec<(String, i64, String, [u8; 32])> = rows
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .unwrap()
            .collect::<rusqlite::Result<_>>()
            .unwrap();
        let expected = ["d_1", "d_2", "d_3"].map(|id| (id.to_owned(), 5, "{}".to_owned(), [1; 32]));
        assert_eq!(rows, expected);
        assert_eq!(check(&database).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn databases_of_other_versions_are_left_alone() {
        for version in [1, NEWEST + 1, -1] {
            let folder = tempfile::tempdir().unwrap();
            old(folder.path(), 3);
            Connection::open(folder.path().join(FILE))
                .unwrap()
                .pragma_update(None, "user_version", version)
                .unwrap();
            let refused = open(&folder.path().join(FILE)).unwrap_err().to_string();
            assert!(refused.contains(&format!("its version is {version}")), "{refused}");
        }
    }
}
