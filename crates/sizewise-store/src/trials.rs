//! Which release is tried beside the one in force, and what came of it?
//!
//! A task has one trial under way at most; those that ended stay. What is counted belongs to a trial and to the release that was in
//! force, and is added up, so several servers may count. Of inputs that a shadow answered otherwise, the decision's name is kept and
//! nothing of the input: its record has that, as far as the task lets it be kept, and an erasure finds it there.

use crate::{
    Store,
    audit::{self, Act},
    database,
    error::{Error, Result},
    ids,
    releases::{self, Release},
};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde_json::json;
use sizewise_contract::{
    Certificate, Comparison, ContentHash, Difference, Question, Task, Trial, TrialMode, trial::noticed,
    units::UnixMillis,
};

/// What version 9 of the database has and version 8 had not.
pub(crate) const TABLES: &str = "
CREATE TABLE trials (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    task          TEXT NOT NULL,
    release       TEXT NOT NULL REFERENCES releases (id),
    mode          TEXT NOT NULL CHECK (mode IN ('shadow', 'canary')),
    share         REAL NOT NULL,
    salt          INTEGER NOT NULL,
    begun_at      INTEGER NOT NULL,
    begun_by      TEXT NOT NULL,
    ended_at      INTEGER,
    ended_because TEXT
) STRICT;
CREATE UNIQUE INDEX trials_under_way ON trials (task) WHERE ended_at IS NULL;

CREATE TABLE trial_counts (
    trial  INTEGER NOT NULL REFERENCES trials (number),
    live   TEXT NOT NULL,                    -- the release that was in force
    counts TEXT NOT NULL,                    -- JSON
    PRIMARY KEY (trial, live)
) STRICT, WITHOUT ROWID;

CREATE TABLE trial_differences (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    trial      INTEGER NOT NULL REFERENCES trials (number),
    decision   TEXT NOT NULL,
    at         INTEGER NOT NULL,
    difference TEXT NOT NULL                 -- JSON
) STRICT;
CREATE INDEX trial_differences_of_trial ON trial_differences (trial, number);
CREATE INDEX trial_differences_of_decision ON trial_differences (decision);
";

/// Differences that are kept of a trial; the latest.
pub const DIFFERENCES_KEPT: u32 = 200;

const COLUMNS: &str = "number, task, release, mode, share, salt, begun_at, begun_by, ended_at, ended_because";

impl Store {
    /// Begins to try a release beside the one in force. A trial of the same release that is under way ends with it, so that a shadow becomes
    /// a canary, or a share another, in one step.
    ///
    /// # Errors
    /// Fails when another release is tried already, the release is in force or damaged, or a canary has no certificate, is refused by a
    /// gate, or has another contract than the release in force; nothing is then changed.
    pub fn begin_trial(&self, task: &str, name: &str, (mode, share): (TrialMode, f64)) -> Result<Trial> {
        let wanted = self.release(task, name)?;
        self.check_parts(&wanted)?;
        let no = |problem: String| Error::NotTried { release: wanted.id, problem };
        if !(share > 0.0 && share <= 1.0) {
            return Err(no("its share of the requests is not above 0 and at most 1".into()));
        }
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        let live = releases::current(&transaction, task)?;
        let live = live.map_or(Ok(None), |id| releases::load(&transaction, &id))?;
        let Some(live) = live else { return Err(no("no release is in force beside it".into())) };
        if live.id == wanted.id {
            return Err(no("it is in force".into()));
        }
        if mode == TrialMode::Canary
            && let Some(problem) = keeps_from_answering(&live, &wanted)
        {
            return Err(no(problem));
        }
        if let Some(under_way) = trial(&transaction, task, true)? {
            if under_way.release != wanted.id {
                return Err(no(format!(
                    "release {} is tried already; end that first: sizewise trial end {task}",
                    under_way.release.short()
                )));
            }
            close(&transaction, &self.actor, &under_way, "begun anew")?;
        }
        let earlier: Option<i64> = transaction
            .query_row(
                "SELECT salt FROM trials WHERE release = ?1 AND task = ?2 ORDER BY number DESC LIMIT 1",
                params![wanted.id.to_string(), task],
                |row| row.get(0),
            )
            .optional()?;
        let salt = match earlier {
            Some(salt) => salt,
            None => ids::random_bits()?.cast_signed(),
        };
        let begun = Trial {
            number: 0,
            task: task.to_owned(),
            release: wanted.id,
            mode,
            share,
            salt,
            begun_at: ids::now(),
            begun_by: self.actor.clone(),
            ended_at: None,
            ended_because: None,
        };
        let named = wanted.id.to_string();
        transaction.execute(
            "INSERT INTO trials (task, release, mode, share, salt, begun_at, begun_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![task, named, mode.name(), share, salt, begun.begun_at.0, begun.begun_by],
        )?;
        let begun = Trial { number: transaction.last_insert_rowid(), ..begun };
        let detail = json!({
            "task": task, "mode": mode, "share": share, "beside": live.id, "trial": begun.number,
        });
        audit::append(&transaction, &self.actor, Act::new("trial.begun", &named, detail))?;
        transaction.commit()?;
        Ok(begun)
    }

    /// Ends the trial of a task that is under way. Says which one.
    ///
    /// # Errors
    /// Fails when none is.
    pub fn end_trial(&self, task: &str, because: &str) -> Result<Trial> {
        self.end(task, None, because)?.ok_or_else(|| Error::NoTrial { task: task.to_owned() })
    }

    /// Ends a trial unless it has ended already. Says whether it had not.
    ///
    /// # Errors
    /// Fails when the database cannot be written.
    pub fn end_this_trial(&self, ended: &Trial, because: &str) -> Result<bool> {
        Ok(self.end(&ended.task, Some(ended.number), because)?.is_some())
    }

    fn end(&self, task: &str, number: Option<i64>, because: &str) -> Result<Option<Trial>> {
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        let under_way = trial(&transaction, task, true)?;
        let Some(under_way) = under_way.filter(|trial| number.is_none_or(|number| trial.number == number))
        else {
            return Ok(None);
        };
        close(&transaction, &self.actor, &under_way, because)?;
        transaction.commit()?;
        Ok(Some(under_way))
    }

    /// The trial of a task that is under way.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn trial(&self, task: &str) -> Result<Option<Trial>> {
        trial(&self.connection(), task, true)
    }

    /// The trial of a task that was begun last, under way or ended.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn latest_trial(&self, task: &str) -> Result<Option<Trial>> {
        trial(&self.connection(), task, false)
    }

    /// What came of a trial, by the release that was in force.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn comparisons(&self, number: i64) -> Result<Vec<(ContentHash, Comparison)>> {
        let connection = self.connection();
        let mut statement =
            connection.prepare_cached("SELECT live, counts FROM trial_counts WHERE trial = ?1")?;
        let rows = statement
            .query_map([number], |row| Ok((releases::hash_in(row, 0)?, row.get::<_, String>(1)?)))?;
        rows.map(|row| {
            let (live, counts) = row?;
            Ok((live, serde_json::from_str(&counts).map_err(|_| UNREADABLE)?))
        })
        .collect()
    }

    /// The latest inputs that a shadow answered otherwise, the latest first.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn differences(&self, number: i64, limit: usize) -> Result<Vec<Difference>> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT difference FROM trial_differences WHERE trial = ?1 ORDER BY number DESC LIMIT ?2",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![number, limit], |row| row.get::<_, String>(0))?;
        rows.map(|text| serde_json::from_str(&text?).map_err(|_| UNREADABLE)).collect()
    }

    /// Adds what was counted of a trial beside a release in force, with the inputs that were answered otherwise. Those whose records are gone
    /// are not kept.
    ///
    /// # Errors
    /// Fails when the database cannot be written; nothing is then added.
    pub fn count_trial(
        &self,
        (number, live): (i64, &ContentHash),
        counted: &Comparison,
        differences: &[Difference],
    ) -> Result<()> {
        let mut connection = self.with_records()?;
        let transaction = database::begin(&mut connection)?;
        let before: Option<String> = transaction
            .query_row(
                "SELECT counts FROM trial_counts WHERE trial = ?1 AND live = ?2",
                params![number, live.to_string()],
                |row| row.get(0),
            )
            .optional()?;
        let mut sum: Comparison = match before {
            Some(text) => serde_json::from_str(&text).map_err(|_| UNREADABLE)?,
            None => Comparison::default(),
        };
        sum.add(counted);
        transaction.execute(
            "INSERT INTO trial_counts (trial, live, counts) VALUES (?1, ?2, ?3)
             ON CONFLICT (trial, live) DO UPDATE SET counts = ?3",
            params![number, live.to_string(), text_of(&sum)?],
        )?;
        for one in differences {
            transaction
                .prepare_cached(
                    "INSERT INTO trial_differences (trial, decision, at, difference) SELECT ?1, ?2, ?3, ?4
                     WHERE EXISTS (SELECT 1 FROM records WHERE id = ?2)",
                )?
                .execute(params![number, one.decision, one.at.0, text_of(one)?])?;
        }
        if !differences.is_empty() {
            transaction.execute(
                "DELETE FROM trial_differences WHERE trial = ?1 AND number <= (SELECT number FROM trial_differences
                 WHERE trial = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
                params![number, DIFFERENCES_KEPT],
            )?;
        }
        Ok(transaction.commit()?)
    }
}

const UNREADABLE: Error = Error::Internal("what is stored of a trial is readable");

fn text_of<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|_| Error::Internal("what is kept of a trial has a JSON form"))
}

/// What keeps a release from answering in place of the one in force; none where nothing does.
fn keeps_from_answering(live: &Release, wanted: &Release) -> Option<String> {
    let proven = |certificate: &&Certificate| certificate.verdict.is_certified();
    if !wanted.certificates.iter().any(|certificate| proven(&certificate)) {
        return Some("none of its questions is certified, and a canary answers callers".into());
    }
    if wanted.certificates.iter().filter(proven).any(|certificate| !certificate.may_answer()) {
        return Some("a gate refuses it, and a canary answers callers".into());
    }
    match (Task::parse(&live.manifest.task_file), Task::parse(&wanted.manifest.task_file)) {
        (Ok(own), Ok(other)) => noticed(&own, &other).or_else(|| misread(&own, &other)).map(|what| {
            format!("callers would meet another contract: {what}; a shadow may have one, a canary may not")
        }),
        _ => Some("its task file cannot be read by this build".into()),
    }
}

/// Whether a release answers callers of a task on trial.
pub(crate) fn is_tried(connection: &Connection, task: &str, release: &ContentHash) -> Result<bool> {
    Ok(trial(connection, task, true)?
        .is_some_and(|one| one.release == *release && one.mode == TrialMode::Canary))
}

/// The first question whose labels are spelled otherwise: what people say of it would be no evidence.
fn misread(live: &Task, tried: &Task) -> Option<String> {
    let both = live.questions.iter().zip(&tried.questions);
    let other = |(own, other): &(&Question, &Question)| {
        own.labels != other.labels || own.out_of_scope_label != other.out_of_scope_label
    };
    both.into_iter().find(other).map(|(own, _)| format!("people spell labels of `{}` otherwise", own.name))
}

/// The trial of a task that is under way, or the one that was begun last.
fn trial(connection: &Connection, task: &str, under_way: bool) -> Result<Option<Trial>> {
    let which = if under_way { "AND ended_at IS NULL" } else { "" };
    let query = format!("SELECT {COLUMNS} FROM trials WHERE task = ?1 {which} ORDER BY number DESC LIMIT 1");
    Ok(connection.prepare_cached(&query)?.query_row([task], read).optional()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Trial> {
    let mode: String = row.get(3)?;
    Ok(Trial {
        number: row.get(0)?,
        task: row.get(1)?,
        release: releases::hash_in(row, 2)?,
        mode: if mode == TrialMode::Canary.name() { TrialMode::Canary } else { TrialMode::Shadow },
        share: row.get(4)?,
        salt: row.get(5)?,
        begun_at: UnixMillis(row.get(6)?),
        begun_by: row.get(7)?,
        ended_at: row.get::<_, Option<i64>>(8)?.map(UnixMillis),
        ended_because: row.get(9)?,
    })
}

fn close(transaction: &Transaction<'_>, actor: &str, ended: &Trial, because: &str) -> Result<()> {
    transaction.execute(
        "UPDATE trials SET ended_at = ?2, ended_because = ?3 WHERE number = ?1",
        params![ended.number, ids::now().0, because],
    )?;
    let named = ended.release.to_string();
    let detail = json!({ "task": ended.task, "mode": ended.mode, "because": because, "trial": ended.number });
    audit::append(transaction, actor, Act::new("trial.ended", &named, detail)).map(drop)
}

/// What a switch to another release means for a trial that is under way: it ends where its release is the one, and where a canary
/// would answer under another contract than the new release.
pub(crate) fn follow(
    transaction: &Transaction<'_>,
    actor: &str,
    task: &str,
    now: &ContentHash,
) -> Result<()> {
    let Some(under_way) = trial(transaction, task, true)? else { return Ok(()) };
    if under_way.release == *now {
        return close(transaction, actor, &under_way, "put in force");
    }
    if under_way.mode == TrialMode::Shadow {
        return Ok(());
    }
    let (live, tried) = (releases::load(transaction, now)?, releases::load(transaction, &under_way.release)?);
    let (Some(live), Some(tried)) = (live, tried) else { return Ok(()) };
    match keeps_from_answering(&live, &tried) {
        Some(problem) => {
            close(transaction, actor, &under_way, &format!("another release was put in force: {problem}"))
        }
        None => Ok(()),
    }
}

/// Takes away what is kept of the decisions whose records have a value in a column; to be called before the records go.
pub(crate) fn forget(
    transaction: &Transaction<'_>,
    value: &dyn rusqlite::ToSql,
    records: &str,
) -> Result<()> {
    let query = format!(
        "DELETE FROM trial_differences WHERE decision = ?1 OR decision IN (SELECT id FROM records WHERE {records} = ?1)"
    );
    transaction.execute(&query, [value])?;
    Ok(())
}
