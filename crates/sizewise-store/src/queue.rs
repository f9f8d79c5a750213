//! What waits for a person, and what did people say?
//!
//! An answer given here was given by a person: it is gold.

use crate::{
    Store,
    audit::{self, Act},
    database,
    error::{Error, Result},
    ids,
    labels::Said,
    probes,
};
use rusqlite::{OptionalExtension, params};
use serde::Serialize;
use serde_json::json;
use sizewise_contract::{QueuedItem, Record, StoredInput, Waits};

/// What waits for one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueDepth {
    /// The task.
    pub task: String,
    /// Questions that wait.
    pub waiting: u64,
}

/// What became of a label that somebody gave for a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fed {
    /// It answered a question that waited; a gold row now.
    Answered,
    /// It is kept as a gold row.
    Kept,
    /// Nothing of the input was kept, so there is no row; where the decision was a probe, it counts as evidence.
    Counted,
    /// The same was said before.
    Known,
}

/// A question that a person answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GoldAnswer {
    /// What was asked.
    pub item: QueuedItem,
    /// What the person said, as written.
    pub answer: String,
    /// Whether the decision was drawn at random.
    pub drawn: bool,
}

impl Store {
    /// What waits: what was drawn at random first, then by age.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn waiting(&self, task: Option<&str>, limit: usize) -> Result<Vec<QueuedItem>> {
        let connection = self.connection();
        let mut statement = connection.prepare(
            "SELECT item FROM queue WHERE state = 'waiting' AND (?1 IS NULL OR task = ?1) ORDER BY why, at, decision LIMIT ?2",
        )?;
        let rows = statement.query_map(params![task, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            row.get::<_, String>(0)
        })?;
        rows.map(|text| read(&text?)).collect()
    }

    /// What nobody has answered of a task and waits for one reason, oldest first.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn waiting_longest(&self, task: &str, why: Waits, limit: usize) -> Result<Vec<QueuedItem>> {
        let query =
            "SELECT item FROM queue WHERE state = 'waiting' AND stage = 'open' AND task = ?1 AND why = ?2
                     ORDER BY at, decision, question LIMIT ?3";
        self.items(query, params![task, why.name(), i64::try_from(limit).unwrap_or(i64::MAX)])
    }

    /// What nobody has answered of a task and waits because no model was sure, the latest.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn waiting_latest(&self, task: &str, limit: usize) -> Result<Vec<QueuedItem>> {
        let query = "SELECT item FROM queue WHERE state = 'waiting' AND stage = 'open' AND task = ?1 AND why = 'unsure'
                     ORDER BY at DESC, decision DESC LIMIT ?2";
        self.items(query, params![task, i64::try_from(limit).unwrap_or(i64::MAX)])
    }

    fn items(&self, query: &str, given: impl rusqlite::Params) -> Result<Vec<QueuedItem>> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(query)?;
        let rows = statement.query_map(given, |row| row.get::<_, String>(0))?;
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

    /// Writes down the answer of whoever acts, as the only person who is asked; none means that they cannot say.
    ///
    /// # Errors
    /// Fails when the question does not wait any more, or they have answered it before.
    pub fn answer(&self, item: &QueuedItem, answer: Option<&str>) -> Result<()> {
        let said = Said { person: &self.actor, answer, double: false, adjudicates: true };
        self.label(item, &said).map(|_| ())
    }

    /// Takes in what somebody says would have been right, whom nobody asked. `by` is the public id of the key that says so.
    ///
    /// # Errors
    /// Fails when the decision did not answer the question, or something else was said before.
    pub fn feedback(&self, record: &Record, question: &str, label: &str, by: Option<&str>) -> Result<Fed> {
        let Some(answer) = record.answers.iter().find(|answer| answer.question == question) else {
            return Err(Error::NotWaiting { decision: record.id.clone() });
        };
        let mut connection = self.with_records()?;
        let transaction = database::begin(&mut connection)?;
        let before: Option<(String, Option<String>)> = transaction
            .query_row(
                "SELECT state, answer FROM queue WHERE decision = ?1 AND question = ?2",
                params![record.id, question],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        let fed = match before {
            Some((_, Some(said))) if said == label => return Ok(Fed::Known),
            Some((_, Some(said))) => {
                return Err(Error::SaidOtherwise {
                    decision: record.id.clone(),
                    question: question.to_owned(),
                    said,
                });
            }
            Some(_) => {
                transaction.execute(
                    "UPDATE queue SET state = 'answered', answer = ?3, answered_at = ?4 WHERE decision = ?1 AND question = ?2",
                    params![record.id, question, label, ids::now().0],
                )?;
                Fed::Answered
            }
            None if record.input == StoredInput::Nothing => Fed::Counted,
            None => {
                let item = QueuedItem {
                    decision: record.id.clone(),
                    task: record.task.clone(),
                    question: question.to_owned(),
                    at: record.at,
                    input: record.input.clone(),
                    suggestion: answer.value.clone(),
                    confidence: answer.confidence.unwrap_or(0.0),
                    why: Waits::Feedback,
                };
                let text = serde_json::to_string(&item)
                    .map_err(|_| Error::Internal("a question has a JSON form"))?;
                transaction.execute(
                    "INSERT INTO queue (decision, question, task, at, item, state, answer, answered_at, subject, why)
                     SELECT ?1, ?2, ?3, ?4, ?5, 'answered', ?6, ?7, subject, ?8 FROM records WHERE id = ?1",
                    params![
                        record.id,
                        question,
                        record.task,
                        record.at.0,
                        text,
                        label,
                        ids::now().0,
                        item.why.name()
                    ],
                )?;
                Fed::Kept
            }
        };
        let told = probes::tell(&transaction, (&record.id, question), label)?;
        let subject = transaction
            .query_row("SELECT subject FROM records WHERE id = ?1", [&record.id], |row| row.get(0))
            .optional()?
            .flatten();
        let detail = json!({ "task": record.task, "question": question, "by": by, "probe": told });
        let mut act = Act::new("feedback.given", &record.id, detail);
        act.personal = Some((json!({ "answer": label }), subject));
        audit::append(&transaction, &self.actor, act)?;
        transaction.commit()?;
        Ok(fed)
    }

    /// Everything that people answered for a task, oldest first.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn gold(&self, task: &str) -> Result<Vec<GoldAnswer>> {
        let connection = self.connection();
        let mut statement = connection.prepare(
            "SELECT item, answer, EXISTS (SELECT 1 FROM probes WHERE probes.decision = queue.decision AND probes.question = queue.question)
             FROM queue WHERE state = 'answered' AND task = ?1 ORDER BY answered_at, decision",
        )?;
        let rows = statement.query_map([task], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?))
        })?;
        rows.map(|row| {
            let (item, answer, drawn) = row?;
            Ok(GoldAnswer { item: read(&item)?, answer, drawn })
        })
        .collect()
    }
}

pub(crate) fn read(text: &str) -> Result<QueuedItem> {
    serde_json::from_str(text).map_err(|_| Error::Internal("a stored question is readable"))
}
