//! What waits for a person, and what did people say?
//!
//! An answer given here was given by a person: it is gold.

use crate::{
    Store,
    audit::{self, Act},
    database,
    error::{Error, Result},
    ids,
};
use rusqlite::params;
use serde::Serialize;
use serde_json::json;
use sizewise_contract::QueuedItem;

/// What waits for one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueDepth {
    /// The task.
    pub task: String,
    /// Questions that wait.
    pub waiting: u64,
}

/// A question that a person answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GoldAnswer {
    /// What was asked.
    pub item: QueuedItem,
    /// What the person said, as written.
    pub answer: String,
}

impl Store {
    /// What waits, oldest first.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn waiting(&self, task: Option<&str>, limit: usize) -> Result<Vec<QueuedItem>> {
        let connection = self.connection();
        let mut statement = connection.prepare(
            "SELECT item FROM queue WHERE state = 'waiting' AND (?1 IS NULL OR task = ?1) ORDER BY at, decision LIMIT ?2",
        )?;
        let rows = statement.query_map(params![task, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            row.get::<_, String>(0)
        })?;
        rows.map(|text| read(&text?)).collect()
    }

    /// What has waited longest for a task. Its cost does not grow with what waits.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn waiting_longest(&self, task: &str, limit: usize) -> Result<Vec<QueuedItem>> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT item FROM queue WHERE state = 'waiting' AND task = ?1 ORDER BY at, decision, question LIMIT ?2",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![task, limit], |row| row.get::<_, String>(0))?;
        rows.map(|text| read(&text?)).collect()
    }

    /// How much waits for a task, counted up to `most`.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn waiting_up_to(&self, task: &str, most: u32) -> Result<u32> {
        let query =
            "SELECT count(*) FROM (SELECT 1 FROM queue WHERE state = 'waiting' AND task = ?1 LIMIT ?2)";
        Ok(self.connection().query_row(query, params![task, most], |row| row.get(0))?)
    }

    /// How much waits, by task.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn queue_depths(&self) -> Result<Vec<QueueDepth>> {
        let connection = self.connection();
        let mut statement = connection.prepare(
            "SELECT task, count(*) FROM queue WHERE state = 'waiting' GROUP BY task ORDER BY task",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(QueueDepth { task: row.get(0)?, waiting: row.get::<_, i64>(1)? as u64 })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The open question of a decision.
    ///
    /// # Errors
    /// Fails when none of that name waits, or several do and none is named.
    pub fn waiting_question(&self, decision: &str, question: Option<&str>) -> Result<QueuedItem> {
        let connection = self.connection();
        let mut statement = connection.prepare(
            "SELECT item FROM queue WHERE state = 'waiting' AND decision = ?1 AND (?2 IS NULL OR question = ?2)",
        )?;
        let rows = statement.query_map(params![decision, question], |row| row.get::<_, String>(0))?;
        let mut items = rows.map(|text| read(&text?)).collect::<Result<Vec<_>>>()?;
        match items.len() {
            0 => Err(Error::NotWaiting { decision: decision.to_owned() }),
            1 => Ok(items.remove(0)),
            _ => Err(Error::SeveralWaiting {
                decision: decision.to_owned(),
                questions: items.into_iter().map(|item| item.question).collect(),
            }),
        }
    }

    /// Writes a person's answer down; none means that the person could not say.
    ///
    /// # Errors
    /// Fails when the question does not wait any more.
    pub fn answer(&self, item: &QueuedItem, answer: Option<&str>) -> Result<()> {
        let state = if answer.is_some() { "answered" } else { "skipped" };
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        let changed = transaction.execute(
            "UPDATE queue SET state = ?3, answer = ?4, answered_at = ?5
             WHERE decision = ?1 AND question = ?2 AND state = 'waiting'",
            params![item.decision, item.question, state, answer, ids::now().0],
        )?;
        if changed != 1 {
            return Err(Error::NotWaiting { decision: item.decision.clone() });
        }
        let subject = transaction.query_row(
            "SELECT subject FROM queue WHERE decision = ?1 AND question = ?2",
            params![item.decision, item.question],
            |row| row.get(0),
        )?;
        let action = if answer.is_some() { "queue.answered" } else { "queue.skipped" };
        let detail = json!({ "task": item.task, "question": item.question });
        let mut act = Act::new(action, &item.decision, detail);
        // What somebody's input is taken for is said of that person.
        act.personal = answer.map(|answer| (json!({ "answer": answer }), subject));
        audit::append(&transaction, &self.actor, act)?;
        Ok(transaction.commit()?)
    }

    /// Everything that people answered for a task, oldest first.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn gold(&self, task: &str) -> Result<Vec<GoldAnswer>> {
        let connection = self.connection();
        let mut statement = connection.prepare(
            "SELECT item, answer FROM queue WHERE state = 'answered' AND task = ?1 ORDER BY answered_at, decision",
        )?;
        let rows =
            statement.query_map([task], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        rows.map(|row| {
            let (item, answer) = row?;
            Ok(GoldAnswer { item: read(&item)?, answer })
        })
        .collect()
    }
}

fn read(text: &str) -> Result<QueuedItem> {
    serde_json::from_str(text).map_err(|_| Error::Internal("a stored question is readable"))
}
