//! How often were locked rows looked at, and what came of it?
//!
//! An opening is written down, durably, before the rows are looked at. Whoever is killed in between has spent it.

use crate::{
    Store,
    audit::{self, Act},
    database,
    error::{Error, Result},
    ids, releases,
};
use rusqlite::params;
use serde::Serialize;
use serde_json::{Value, json};
use sizewise_contract::{Certificate, ContentHash, units::UnixMillis};

/// The right to look at locked rows once.
#[derive(Debug)]
#[must_use = "an opening is spent, whether its certificates are kept or not"]
pub struct Opening {
    number: i64,
    task: String,
    release: ContentHash,
    /// Whether the release waits for somebody to put it in force, whatever it proves.
    waits: bool,
    /// Which opening of these rows this is, from 1.
    pub ordinal: u32,
    /// When.
    pub at: UnixMillis,
}

/// One opening, for lists.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpeningInfo {
    /// The rows.
    pub locked_rows: ContentHash,
    /// The release that was tested.
    pub release: ContentHash,
    /// When.
    pub at: UnixMillis,
    /// Whether it came to an end.
    pub finished: bool,
}

impl Opening {
    /// The same, of a release that waits for somebody to put it in force.
    pub fn that_waits(self, waits: bool) -> Self {
        Self { waits, ..self }
    }
}

impl Store {
    /// Writes down that the locked rows are about to be looked at, as one of `planned` times. `known` is what is known from
    /// elsewhere, as certificates outlive a store: how often they have been opened, and how often that was planned.
    ///
    /// # Errors
    /// Fails when they have been opened as often as was planned, or when the plan is not the one that the first opening
    /// had: the risk of the promise was divided by that.
    pub fn begin_opening(
        &self,
        task: &str,
        locked_rows: &ContentHash,
        release: &ContentHash,
        (planned, known): (u32, Option<(u32, u32)>),
    ) -> Result<Opening> {
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        let (opened, first): (u32, Option<u32>) = transaction.query_row(
            "SELECT count(*), min(planned) FROM openings WHERE task = ?1 AND locked_rows = ?2",
            params![task, locked_rows.to_string()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let opened = opened.max(known.map_or(0, |(opened, _)| opened));
        if let Some(first) = first.or(known.map(|(_, planned)| planned)).filter(|first| *first != planned) {
            return Err(Error::PlanChanged { task: task.to_owned(), first, planned });
        }
        if opened >= planned {
            return Err(Error::OpeningsSpent { task: task.to_owned(), opened, planned });
        }
        let at = ids::now();
        transaction.execute(
            "INSERT INTO openings (task, locked_rows, release, at, planned) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![task, locked_rows.to_string(), release.to_string(), at.0, planned],
        )?;
        let number = transaction.last_insert_rowid();
        let detail = json!({ "task": task, "release": release, "opening": opened + 1, "planned": planned });
        let rows = locked_rows.to_string();
        audit::append(&transaction, &self.actor, Act::new("locked_rows.opened", &rows, detail))?;
        transaction.commit()?;
        Ok(Opening {
            number,
            task: task.to_owned(),
            release: *release,
            waits: false,
            ordinal: opened + 1,
            at,
        })
    }

    /// Keeps what came of an opening and, in the same step, puts the release in force when no gate refuses and it proves at
    /// least what the one in force proves. Says whether the release is in force now.
    ///
    /// # Errors
    /// Fails when it cannot be written; the opening is spent all the same.
    pub fn finish_opening(&self, opening: Opening, certificates: &[Certificate]) -> Result<bool> {
        let json = |value: &Certificate| {
            serde_json::to_string(value).map_err(|_| Error::Internal("a certificate has a JSON form"))
        };
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        let release = opening.release;
        for certificate in certificates {
            transaction.execute(
                "INSERT INTO certificates (release, question, certificate) VALUES (?1, ?2, ?3)
                 ON CONFLICT (release, question) DO UPDATE SET certificate = excluded.certificate",
                params![release.to_string(), certificate.question, json(certificate)?],
            )?;
        }
        let all = certificates.iter().map(json).collect::<Result<Vec<_>>>()?;
        transaction.execute(
            "UPDATE openings SET certificates = ?2 WHERE number = ?1",
            params![opening.number, format!("[{}]", all.join(","))],
        )?;
        let verdicts: serde_json::Map<String, Value> =
            certificates.iter().map(|one| (one.question.clone(), json!(one.verdict))).collect();
        let detail = json!({ "task": opening.task, "opening": opening.ordinal, "verdicts": verdicts });
        let tested = release.to_string();
        audit::append(&transaction, &self.actor, Act::new("release.tested", &tested, detail))?;
        let in_force = releases::current(&transaction, &opening.task)?;
        let proven = |questions: &[Certificate]| -> Vec<String> {
            questions.iter().filter(|c| c.may_answer()).map(|c| c.question.clone()).collect()
        };
        let now = match &in_force {
            Some(other) if *other != release => proven(&releases::certificates(&transaction, other)?),
            _ => Vec::new(),
        };
        let new = proven(certificates);
        let refused = certificates.iter().any(|c| c.verdict.is_certified() && !c.may_answer());
        let better = !opening.waits && !refused && now.iter().all(|question| new.contains(question));
        if better {
            releases::switch(&transaction, &self.actor, (&opening.task, &release), "certified")?;
        }
        transaction.commit()?;
        Ok(better || in_force == Some(release))
    }

    /// The openings of a task's locked rows, oldest first.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn openings(&self, task: &str) -> Result<Vec<OpeningInfo>> {
        let connection = self.connection();
        let mut statement = connection.prepare(
            "SELECT locked_rows, release, at, certificates IS NOT NULL FROM openings WHERE task = ?1 ORDER BY number",
        )?;
        let hash = |text: String| ContentHash::parse(&text).ok_or(rusqlite::Error::InvalidQuery);
        let rows = statement.query_map([task], |row| {
            Ok(OpeningInfo {
                locked_rows: hash(row.get(0)?)?,
                release: hash(row.get(1)?)?,
                at: UnixMillis(row.get(2)?),
                finished: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
