//! What is left of a person, or of a day, once it is erased?
//!
//! Nothing in any byte of the store: rows are deleted and overwritten with zeros, the database is written anew where earlier changes
//! could have left copies in its unused parts, and the write-ahead log is emptied. Entries of the audit log keep what was done and lose
//! what they say of the person; their hashes stay, so proofs stay valid.

use crate::{
    Store,
    audit::{self, Act},
    bills,
    compact::Kept,
    database,
    error::{Error, Result},
    keys, kinds, labels, probes, sites, trials,
};
use rusqlite::{Transaction, params};
use serde::Serialize;
use serde_json::json;
use sizewise_contract::{StoredInput, units::UnixMillis};

/// Up to which size the database is written anew by the way; while it is, decisions wait with their records. `bytes`
const BY_THE_WAY: u64 = 64 << 20;

/// Whose traces are erased.
#[derive(Debug, Clone, Copy)]
pub enum Whose<'a> {
    /// Those of the inputs that callers said to be about this subject, as they call them.
    Subject(&'a str),
    /// Those of one decision.
    Decision(&'a str),
    /// Those of every input that was kept and holds this text, and of every relayed call that does.
    Holding(&'a str),
}

/// What an erasure removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// Records of decisions.
    pub records: u64,
    /// Questions of the review queue, open or closed.
    pub queued: u64,
    /// Those of them that people had answered: gold rows.
    pub gold: u64,
    /// Relayed calls.
    pub relayed: u64,
    /// Entries of the audit log that lost what they say of the person.
    pub entries_blanked: u64,
    /// Place of the entry that tells of it in the audit log, also where nothing was there to erase.
    pub entry: u64,
    /// Whether the write-ahead log could be emptied; if not, somebody was reading, and the next erasure or `retain` does it.
    pub log_emptied: bool,
}

impl Store {
    /// Erases what was kept of somebody, in every task.
    ///
    /// # Errors
    /// Fails when the database cannot be written; nothing is then erased, unless the failure came while its file was cleaned.
    pub fn erase(&self, whose: Whose<'_>) -> Result<Erased> {
        let subject = match whose {
            Whose::Subject(id) => Some(keys::subject(&keys::secret(self.folder())?, id)),
            Whose::Decision(_) | Whose::Holding(_) => None,
        };
        let mut connection = self.with_records()?;
        let transaction = database::begin(&mut connection)?;
        let mut erased = Erased::default();
        let (by, object) = match whose {
            Whose::Subject(_) => ("subject", ""),
            Whose::Decision(id) => ("decision", id),
            Whose::Holding(_) => ("text", ""),
        };
        match (whose, subject) {
            (Whose::Holding(text), _) => {
                for id in holding(&transaction, text)? {
                    remove(&transaction, &mut erased, (&id, "id", "decision", "object"))?;
                }
                erased.relayed = sites::erase_holding(&transaction, text)?;
            }
            (Whose::Decision(id), _) => remove(&transaction, &mut erased, (&id, "id", "decision", "object"))?,
            (Whose::Subject(_), subject) => {
                remove(&transaction, &mut erased, (&subject, "subject", "subject", "subject"))?;
            }
        }
        let detail = json!({
            "by": by, "records": erased.records, "queued": erased.queued, "gold": erased.gold,
            "relayed": erased.relayed, "entries_blanked": erased.entries_blanked,
        });
        erased.entry = audit::append(&transaction, &self.actor, Act::new("erased", object, detail))?;
        transaction.commit()?;
        // Even where no row was there: an interrupted erasure may have come this far.
        database::rewrite(&connection)?;
        erased.log_emptied = database::empty_log(&connection)?;
        Ok(erased)
    }

    /// Erases a task's records, and questions that nobody answered, from before a moment. Says how many rows went.
    ///
    /// # Errors
    /// Fails when the database cannot be written.
    pub fn erase_before(&self, task: &str, moment: UnixMillis) -> Result<u64> {
        let mut connection = self.with_records()?;
        let transaction = database::begin(&mut connection)?;
        transaction.execute(
            "DELETE FROM trial_differences WHERE at < ?2 AND trial IN (SELECT number FROM trials WHERE task = ?1)",
            params![task, moment.0],
        )?;
        transaction.execute("DELETE FROM bills WHERE task = ?1 AND at < ?2", params![task, moment.0])?;
        kinds::leave(&transaction, "task = ?1 AND at < ?2", params![task, moment.0])?;
        let records = transaction
            .execute("DELETE FROM records WHERE task = ?1 AND at < ?2", params![task, moment.0])?;
        transaction.execute(
            "DELETE FROM labels WHERE task = ?1 AND EXISTS (SELECT 1 FROM queue WHERE queue.decision = labels.decision
             AND queue.question = labels.question AND queue.at < ?2 AND state != 'answered')",
            params![task, moment.0],
        )?;
        let queued = transaction.execute(
            "DELETE FROM queue WHERE task = ?1 AND at < ?2 AND state != 'answered'",
            params![task, moment.0],
        )?;
        if records + queued > 0 {
            let detail = json!({ "before": moment, "records": records, "queued": queued });
            audit::append(&transaction, &self.actor, Act::new("records.expired", task, detail))?;
        }
        transaction.commit()?;
        Ok((records + queued) as u64)
    }

    /// Makes deleted rows vanish from every byte of the database: writes it anew and empties its write-ahead log. A database above 64
    /// MiB is written anew only where `whole` says so, as writers wait meanwhile. Says whether both were done.
    ///
    /// # Errors
    /// Fails when the database cannot be written.
    pub fn clean(&self, whole: bool) -> Result<bool> {
        let connection = self.connection();
        let rewritten = whole || database::size(&connection)? <= BY_THE_WAY;
        if rewritten {
            database::rewrite(&connection)?;
        }
        Ok(database::empty_log(&connection)? && rewritten)
    }

    /// The tasks that have left records or questions, those that are no more included.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn recorded_tasks(&self) -> Result<Vec<String>> {
        let connection = self.with_records()?;
        let mut statement =
            connection.prepare("SELECT task FROM records UNION SELECT task FROM queue ORDER BY task")?;
        let names = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        Ok(names)
    }
}

/// Removes the rows whose columns (of records, of the queue, of the audit log) hold a value.
fn remove(
    transaction: &Transaction<'_>,
    erased: &mut Erased,
    (value, records, queue, log): (&dyn rusqlite::ToSql, &str, &str, &str),
) -> Result<()> {
    let delete = |from: String| transaction.execute(&from, [value]).map(|rows| rows as u64);
    // Before the questions go, as theirs are the decisions that the log's entries name.
    erased.entries_blanked += audit::blank(transaction, value, log)? as u64;
    trials::forget(transaction, value, records)?;
    bills::remove(transaction, value, records)?;
    kinds::leave(transaction, &format!("{records} = ?1"), [value])?;
    erased.records += delete(format!("DELETE FROM records WHERE {records} = ?1"))?;
    probes::blank(transaction, value, queue)?;
    labels::remove(transaction, value, queue)?;
    let gold = delete(format!("DELETE FROM queue WHERE {queue} = ?1 AND state = 'answered'"))?;
    erased.gold += gold;
    erased.queued += gold + delete(format!("DELETE FROM queue WHERE {queue} = ?1"))?;
    Ok(())
}

/// The decisions whose inputs were kept and hold a text.
fn holding(transaction: &Transaction<'_>, text: &str) -> Result<Vec<String>> {
    let holds = |input: &StoredInput| match input {
        StoredInput::Nothing => false,
        StoredInput::Redacted(kept) | StoredInput::Full(kept) => kept.contains(text),
    };
    let mut found = Vec::new();
    let mut records = transaction.prepare("SELECT id, coalesce(compact, record) FROM records")?;
    for row in records.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))? {
        let (id, Kept(record)) = row?;
        if holds(&record.input) {
            found.push(id);
        }
    }
    let mut questions = transaction.prepare("SELECT decision, json_extract(item, '$.input') FROM queue")?;
    for row in questions.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))? {
        let (id, input) = row?;
        let input =
            serde_json::from_str(&input).map_err(|_| Error::Internal("a stored input is readable"))?;
        if holds(&input) {
            found.push(id);
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}
