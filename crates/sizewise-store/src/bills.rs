//! What did asking a larger model about each input come to?
//!
//! A bill is written with the record of its decision, or after it where the call was a probe's, and goes when the record goes: it says
//! nothing of a text, and nothing is known from it that the record does not tell. Sums of money for budgets are kept elsewhere
//! ([`crate::spending`]) and stay.

use crate::{Store, compact::Kept, error::Result};
use rusqlite::{Row, Transaction, params};
use sizewise_contract::{
    Bill, Record,
    units::{MicroUsd, UnixMillis},
};

/// What version 10 of the database has and version 9 had not.
pub(crate) const TABLES: &str = "
CREATE TABLE bills (
    decision  TEXT NOT NULL,
    probe     INTEGER NOT NULL,              -- whether it was asked behind the caller's back
    task      TEXT NOT NULL,
    at        INTEGER NOT NULL,              -- of the decision
    provider  TEXT NOT NULL,
    micro_usd INTEGER NOT NULL,
    read      INTEGER NOT NULL,              -- tokens
    written   INTEGER NOT NULL,
    PRIMARY KEY (decision, probe)
) STRICT, WITHOUT ROWID;
CREATE INDEX bills_of_task ON bills (task, at);
";

/// A decision with what larger models asked for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Billed {
    /// Its record.
    pub record: Record,
    /// What was asked for its caller.
    pub escalated: Option<Bill>,
    /// With which probability it was drawn to be asked of the larger model behind the caller's back; none where it was not drawn.
    pub drawn: Option<f64>,
    /// What that came to, once it is known.
    pub probe: Option<Bill>,
}

/// Writes a bill down; a decision whose record is gone gets none.
pub(crate) fn insert(
    transaction: &Transaction<'_>,
    (decision, probe): (&str, bool),
    bill: &Bill,
) -> Result<()> {
    let stored = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    transaction
        .prepare_cached(
            "INSERT INTO bills (decision, probe, task, at, provider, micro_usd, read, written)
             SELECT id, ?2, task, at, ?3, ?4, ?5, ?6 FROM records WHERE id = ?1 ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            decision,
            probe,
            bill.provider,
            stored(bill.micro_usd.0),
            stored(bill.read),
            stored(bill.written)
        ])?;
    Ok(())
}

/// Takes the bills of records away that are about to go, by a column of records.
pub(crate) fn remove(transaction: &Transaction<'_>, value: &dyn rusqlite::ToSql, column: &str) -> Result<()> {
    let query = format!("DELETE FROM bills WHERE decision IN (SELECT id FROM records WHERE {column} = ?1)");
    transaction.execute(&query, [value])?;
    Ok(())
}

impl Store {
    /// Records of a task after one that is named by its moment and id, in their order, with their bills.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn billed_after(
        &self,
        task: &str,
        after: &(UnixMillis, String),
        limit: usize,
    ) -> Result<Vec<Billed>> {
        let connection = self.with_records()?;
        let mut statement = connection.prepare_cached(
            "SELECT coalesce(r.compact, r.record), e.provider, e.micro_usd, e.read, e.written, p.provider, p.micro_usd, p.read, p.written,
                    (SELECT max(probability) FROM probes WHERE probes.decision = r.id AND reference = '\"remote\"')
             FROM records r
             LEFT JOIN bills e ON e.decision = r.id AND e.probe = 0
             LEFT JOIN bills p ON p.decision = r.id AND p.probe = 1
             WHERE r.task = ?1 AND r.at >= ?2 AND (r.at > ?2 OR r.id > ?3) ORDER BY r.at, r.id LIMIT ?4",
        )?;
        let given = params![task, after.0.0, after.1, i64::try_from(limit).unwrap_or(i64::MAX)];
        let rows = statement.query_map(given, |row| {
            Ok((row.get::<_, Kept>(0)?, bill(row, 1)?, bill(row, 5)?, row.get::<_, Option<f64>>(9)?))
        })?;
        rows.map(|row| {
            let (Kept(record), escalated, probe, drawn) = row?;
            Ok(Billed { record, escalated, drawn, probe })
        })
        .collect()
    }

    /// The moment before which all but the latest so many records of a task were decided; none where there are fewer.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn moment_of_latest(&self, task: &str, count: usize) -> Result<Option<UnixMillis>> {
        use rusqlite::OptionalExtension;
        let connection = self.with_records()?;
        let place = i64::try_from(count.saturating_sub(1)).unwrap_or(i64::MAX);
        let query = "SELECT at FROM records WHERE task = ?1 ORDER BY at DESC LIMIT 1 OFFSET ?2";
        let moment = connection.query_row(query, params![task, place], |row| row.get(0)).optional()?;
        Ok(moment.map(UnixMillis))
    }

    /// How many answers people have given to questions of a task since a moment.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn answered_since(&self, task: &str, since: UnixMillis) -> Result<u64> {
        // Each answer of each person, and those from before they were kept apart.
        let query = "SELECT (SELECT count(*) FROM labels WHERE task = ?1 AND place > 0 AND at >= ?2)
                          + (SELECT count(*) FROM queue WHERE task = ?1 AND state = 'answered' AND answered_at >= ?2 AND why != 'feedback'
                             AND NOT EXISTS (SELECT 1 FROM labels WHERE labels.decision = queue.decision
                                             AND labels.question = queue.question))";
        let count: i64 = self.connection().query_row(query, params![task, since.0], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }
}

fn bill(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Bill>> {
    let amount =
        |place: usize| row.get::<_, Option<i64>>(place).map(|found| found.unwrap_or(0).unsigned_abs());
    let Some(provider) = row.get(at)? else { return Ok(None) };
    Ok(Some(Bill {
        provider,
        micro_usd: MicroUsd(amount(at + 1)?),
        read: amount(at + 2)?,
        written: amount(at + 3)?,
    }))
}
