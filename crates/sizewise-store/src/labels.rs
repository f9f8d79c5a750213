//! What did each person say of a question, before it was settled and gold?
//!
//! Most questions are put before one person. Some are put before two who do not see each other's answers; where they differ, a third one
//! who sees both decides. Whoever is shown the model's suggestion has chosen before: both choices are kept. A question waits until it
//! is settled, and only then is it gold, and told of a probe.

use crate::{
    Store,
    audit::{self, Act},
    database,
    error::{Error, Result},
    ids, probes,
    queue::read,
};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Serialize;
use serde_json::json;
use sizewise_contract::QueuedItem;

/// What version 11 of the database has and version 10 had not.
pub(crate) const TABLES: &str = "
CREATE TABLE labels (
    decision  TEXT NOT NULL,
    question  TEXT NOT NULL,
    task      TEXT NOT NULL,
    person    TEXT NOT NULL,
    place     INTEGER NOT NULL,              -- 1 and 2: asked without seeing the other; 3: saw both; 0: not done yet
    at        INTEGER NOT NULL,
    first     TEXT,                          -- none where the person cannot say
    said      TEXT,                          -- after the suggestion, where one was shown
    suggested TEXT,                          -- what was shown after the first choice
    PRIMARY KEY (decision, question, person)
) STRICT, WITHOUT ROWID;
CREATE INDEX labels_of_task ON labels (task, at);

ALTER TABLE queue ADD COLUMN stage TEXT NOT NULL DEFAULT 'open'; -- then, where two are asked, 'second' and perhaps 'disputed'
CREATE INDEX queue_by_stage ON queue (task, stage, at) WHERE state = 'waiting' AND stage != 'open';
";

/// Whom a waiting question waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Anybody.
    Open,
    /// A second person, who does not see what the first one said.
    Second,
    /// A third person, who sees what the two said.
    Disputed,
}

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// The question is settled: its answer is gold.
    Gold,
    /// The question is settled without an answer.
    Dropped,
    /// It waits for a second person.
    Second,
    /// Two differ: it waits for a third person.
    Disputed,
}

/// A person's answer.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// Who says it.
    pub person: &'a str,
    /// What they say; none where they cannot say.
    pub answer: Option<&'a str>,
    /// Whether the question is to be put before a second person.
    pub double: bool,
    /// Whether this person may decide between two who differ.
    pub adjudicates: bool,
}

/// How a waiting question stands for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Whom it waits for.
    pub stage: Stage,
    /// Whether the person has answered it.
    pub answered: bool,
    /// What the person chose first and was shown then, where they have not said what they say now.
    pub begun: Option<(Option<String>, String)>,
    /// What the others said, where two differ; for whoever decides.
    pub differ: Vec<Option<String>>,
}

/// What a person said of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonLabel {
    /// The decision.
    pub decision: String,
    /// The question.
    pub question: String,
    /// The person.
    pub person: String,
    /// 1 and 2 where asked without seeing the other's answer, 3 for whoever decided between them.
    pub place: u8,
    /// The first choice.
    pub first: Option<String>,
    /// What was said in the end.
    pub said: Option<String>,
    /// What was shown in between, if anything.
    pub suggested: Option<String>,
    /// What the question was settled as; none while it waits, or where nobody could say.
    pub settled: Option<String>,
}

impl Store {
    /// Writes down what a person chose first, before the model's suggestion is shown to them.
    ///
    /// # Errors
    /// Fails when the question does not wait for a first answer any more, or the person has answered it.
    pub fn choose_first(&self, item: &QueuedItem, person: &str, first: Option<&str>) -> Result<()> {
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        if stage(&transaction, item)? != Stage::Open {
            return Err(Error::NotWaiting { decision: item.decision.clone() });
        }
        let new = transaction.execute(
            "INSERT INTO labels (decision, question, task, person, place, at, first, suggested)
             VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
            params![item.decision, item.question, item.task, person, ids::now().0, first, item.suggestion],
        )?;
        if new == 0 {
            return Err(Error::SaidBefore { decision: item.decision.clone() });
        }
        Ok(transaction.commit()?)
    }

    /// Takes a person's answer to a waiting question in.
    ///
    /// # Errors
    /// Fails when the question does not wait any more, the person has answered it before, or two differ and the person may not decide.
    pub fn label(&self, item: &QueuedItem, said: &Said<'_>) -> Result<Became> {
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        let stage = stage(&transaction, item)?;
        let place = match stage {
            Stage::Open => 1,
            Stage::Second => 2,
            Stage::Disputed if said.adjudicates => 3,
            Stage::Disputed => return Err(Error::NotTheirs { decision: item.decision.clone() }),
        };
        let changed = transaction.execute(
            "INSERT INTO labels (decision, question, task, person, place, at, first, said)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)
             ON CONFLICT (decision, question, person) DO UPDATE SET place = ?5, at = ?6, said = ?7 WHERE place = 0",
            params![item.decision, item.question, item.task, said.person, place, ids::now().0, said.answer],
        )?;
        if changed == 0 {
            return Err(Error::SaidBefore { decision: item.decision.clone() });
        }
        let other = match stage {
            Stage::Second => transaction.query_row(
                "SELECT said FROM labels WHERE decision = ?1 AND question = ?2 AND place = 1",
                [&item.decision, &item.question],
                |row| row.get::<_, Option<String>>(0),
            )?,
            Stage::Open | Stage::Disputed => None,
        };
        let became = match stage {
            Stage::Open if said.double => Became::Second,
            Stage::Second if other.as_deref() != said.answer => Became::Disputed,
            _ if said.answer.is_some() => Became::Gold,
            _ => Became::Dropped,
        };
        match became {
            Became::Gold | Became::Dropped => settle(&transaction, (item, said.answer), &self.actor)?,
            Became::Second | Became::Disputed => {
                let stage = if became == Became::Second { "second" } else { "disputed" };
                transaction.execute(
                    "UPDATE queue SET stage = ?3 WHERE decision = ?1 AND question = ?2",
                    [&item.decision, &item.question, stage],
                )?;
                // Without the answer: whoever is asked next may read the log.
                let detail = json!({ "task": item.task, "question": item.question, "waits_for": stage });
                audit::append(&transaction, &self.actor, Act::new("queue.labelled", &item.decision, detail))?;
            }
        }
        transaction.commit()?;
        Ok(became)
    }

    /// How a waiting question stands for a person.
    ///
    /// # Errors
    /// Fails when the question does not wait any more.
    pub fn place(&self, item: &QueuedItem, person: &str) -> Result<Place> {
        // Each of these reads stands for itself: whoever answers is told by `label` if something came in between.
        let connection = self.connection();
        let stage = stage(&connection, item)?;
        let own: Option<(u8, Option<String>, Option<String>)> = connection
            .query_row(
                "SELECT place, first, suggested FROM labels WHERE decision = ?1 AND question = ?2 AND person = ?3",
                [&item.decision, &item.question, person],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .optional()?;
        let mut differ = Vec::new();
        if stage == Stage::Disputed {
            let mut said = connection.prepare_cached(
                "SELECT said FROM labels WHERE decision = ?1 AND question = ?2 AND place IN (1, 2) ORDER BY said",
            )?;
            let rows = said.query_map([&item.decision, &item.question], |row| row.get(0))?;
            differ = rows.collect::<rusqlite::Result<_>>()?;
        }
        let begun = match &own {
            Some((0, first, suggested)) => Some((first.clone(), suggested.clone().unwrap_or_default())),
            _ => None,
        };
        Ok(Place { stage, answered: own.is_some_and(|(place, ..)| place > 0), begun, differ })
    }

    /// What waits of a task for a person other than those who answered it, who also decides between two where `adjudicates` says so;
    /// oldest first.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn waiting_for_another(
        &self,
        task: &str,
        (person, adjudicates): (&str, bool),
        limit: usize,
    ) -> Result<Vec<QueuedItem>> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT item FROM queue WHERE state = 'waiting' AND task = ?1 AND stage != 'open' AND (?3 OR stage = 'second')
               AND NOT EXISTS (SELECT 1 FROM labels WHERE labels.decision = queue.decision
                               AND labels.question = queue.question AND person = ?2 AND place > 0)
             ORDER BY stage, at, decision LIMIT ?4",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows =
            statement.query_map(params![task, person, adjudicates, limit], |row| row.get::<_, String>(0))?;
        rows.map(|text| read(&text?)).collect()
    }

    /// How many questions of a task wait for a second person, and how many for a third one.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn unsettled(&self, task: &str) -> Result<(u64, u64)> {
        let query =
            "SELECT coalesce(sum(stage = 'second'), 0), coalesce(sum(stage = 'disputed'), 0) FROM queue
                     WHERE state = 'waiting' AND task = ?1 AND stage != 'open'";
        let counts = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let (second, disputed) = self.connection().query_row(query, [task], counts)?;
        Ok((second.unsigned_abs(), disputed.unsigned_abs()))
    }

    /// What people said of the questions of a task that two were asked about or whose suggestion was shown, the latest so many answers,
    /// those of one question together.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn person_labels(&self, task: &str, limit: usize) -> Result<Vec<PersonLabel>> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT l.decision, l.question, l.person, l.place, l.first, l.said, l.suggested,
                    (SELECT answer FROM queue q WHERE q.decision = l.decision AND q.question = l.question AND q.state = 'answered')
             FROM (SELECT * FROM labels WHERE task = ?1 AND place > 0 ORDER BY at DESC LIMIT ?2) l
             WHERE l.suggested IS NOT NULL OR EXISTS (SELECT 1 FROM labels o WHERE o.decision = l.decision
                   AND o.question = l.question AND o.person != l.person AND o.place > 0)
             ORDER BY l.decision, l.question, l.place",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![task, limit], |row| {
            Ok(PersonLabel {
                decision: row.get(0)?,
                question: row.get(1)?,
                person: row.get(2)?,
                place: row.get(3)?,
                first: row.get(4)?,
                said: row.get(5)?,
                suggested: row.get(6)?,
                settled: row.get(7)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

fn stage(connection: &Connection, item: &QueuedItem) -> Result<Stage> {
    let stage: Option<String> = connection
        .query_row(
            "SELECT stage FROM queue WHERE decision = ?1 AND question = ?2 AND state = 'waiting'",
            [&item.decision, &item.question],
            |row| row.get(0),
        )
        .optional()?;
    match stage.as_deref() {
        Some("open") => Ok(Stage::Open),
        Some("second") => Ok(Stage::Second),
        Some("disputed") => Ok(Stage::Disputed),
        _ => Err(Error::NotWaiting { decision: item.decision.clone() }),
    }
}

/// Closes a question: what is said of it now holds.
fn settle(
    transaction: &Transaction<'_>,
    (item, answer): (&QueuedItem, Option<&str>),
    actor: &str,
) -> Result<()> {
    let state = if answer.is_some() { "answered" } else { "skipped" };
    let subject = transaction.query_row(
        "UPDATE queue SET state = ?3, answer = ?4, answered_at = ?5
         WHERE decision = ?1 AND question = ?2 RETURNING subject",
        params![item.decision, item.question, state, answer, ids::now().0],
        |row| row.get(0),
    )?;
    if let Some(answer) = answer {
        probes::tell(transaction, (&item.decision, &item.question), answer)?;
    }
    let action = if answer.is_some() { "queue.answered" } else { "queue.skipped" };
    let detail = json!({ "task": item.task, "question": item.question });
    let mut act = Act::new(action, &item.decision, detail);
    // What somebody's input is taken for is said of that person.
    act.personal = answer.map(|answer| (json!({ "answer": answer }), subject));
    audit::append(transaction, actor, act)?;
    Ok(())
}

/// Takes away what people said of questions that are about to go, by a column of the queue.
pub(crate) fn remove(transaction: &Transaction<'_>, value: &dyn rusqlite::ToSql, column: &str) -> Result<()> {
    let query = format!(
        "DELETE FROM labels WHERE EXISTS (SELECT 1 FROM queue WHERE queue.decision = labels.decision
         AND queue.question = labels.question AND queue.{column} = ?1)"
    );
    transaction.execute(&query, [value])?;
    Ok(())
}
