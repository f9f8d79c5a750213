//! What of relayed calls is kept, and how does it stay within bounds?
//!
//! A place is what is constant about a call: the program, the model, the prompt. Its calls and their cost are counted for as long as
//! it is known; of the calls themselves the newest are kept, so many of a place and so many bytes in all. What a place and a call
//! look like is the business of whoever writes and reads them: here they are texts.

use crate::{
    Store,
    audit::{self, Act},
    database,
    error::Result,
};
use rusqlite::{Connection, Transaction, params};
use serde_json::json;
use sizewise_contract::units::{MicroUsd, UnixMillis};
use std::{collections::BTreeMap, path::Path};

/// The tables.
pub(crate) const TABLES: &str = "
CREATE TABLE places (
    id        TEXT PRIMARY KEY,              -- hash of what is constant
    place     TEXT NOT NULL,
    first_at  INTEGER NOT NULL,
    last_at   INTEGER NOT NULL,
    calls     INTEGER NOT NULL,              -- all of them, those that are no longer kept included
    micro_usd INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE observed (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    place  TEXT NOT NULL REFERENCES places (id),
    at     INTEGER NOT NULL,
    call   TEXT NOT NULL,
    size   INTEGER NOT NULL
) STRICT;
CREATE INDEX observed_of_place ON observed (place, number);
CREATE INDEX observed_by_time ON observed (at);
";

/// Most places; calls from further ones are not kept.
const PLACES: usize = 10_000;
/// Calls that are erased at once where there are too many bytes.
const ERASED_TOGETHER: i64 = 500;

/// A relayed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedCall {
    /// Names the place that it came from.
    pub place_id: String,
    /// What is constant about it.
    pub place: String,
    /// When it came.
    pub at: UnixMillis,
    /// What differs.
    pub call: String,
    /// What it cost.
    pub micro_usd: MicroUsd,
}

/// A place with what is counted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedPlace {
    /// Its name.
    pub id: String,
    /// What is constant about its calls, as the latest one showed it.
    pub place: String,
    /// When the first call came.
    pub first_at: UnixMillis,
    /// When the latest came.
    pub last_at: UnixMillis,
    /// Calls in all.
    pub calls: u64,
    /// What they have cost in all.
    pub micro_usd: MicroUsd,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedBounds {
    /// Most calls of one place.
    pub rows: u64,
    /// Most bytes of all calls.
    pub bytes: u64,
}

/// Keeps calls, on a connection of its own.
#[derive(Debug)]
pub struct SiteWriter {
    connection: Connection,
    bounds: ObservedBounds,
    /// Calls that are kept, by place.
    kept: BTreeMap<String, u64>,
    bytes: u64,
}

impl SiteWriter {
    /// Begins to write into the store of a folder.
    ///
    /// # Errors
    /// Fails when the store cannot be opened.
    pub fn open(folder: &Path, bounds: ObservedBounds) -> Result<Self> {
        let connection = database::open(&folder.join(database::FILE))?;
        // The latest calls may be lost with the power: nothing hangs on them.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let mut writer = Self { connection, bounds, kept: BTreeMap::new(), bytes: 0 };
        writer.count()?;
        Ok(writer)
    }

    /// Counts anew what is kept: somebody else may have erased some of it.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn count(&mut self) -> Result<()> {
        let mut statement = self.connection.prepare(
            "SELECT id, count(number), coalesce(sum(size), 0) FROM places LEFT JOIN observed ON observed.place = places.id GROUP BY id",
        )?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, unsigned(row, 1)?, unsigned(row, 2)?)))?;
        (self.kept, self.bytes) = (BTreeMap::new(), 0);
        for row in rows {
            let (place, kept, bytes) = row?;
            self.kept.insert(place, kept);
            self.bytes += bytes;
        }
        Ok(())
    }

    /// Keeps calls, and erases the oldest where there are too many. Returns how many were not kept, as there are too many places.
    ///
    /// # Errors
    /// Fails when the database cannot be written; nothing is then kept.
    pub fn write(&mut self, calls: &[ObservedCall]) -> Result<u64> {
        let (mut kept, mut bytes, mut refused) = (self.kept.clone(), self.bytes, 0);
        let transaction = database::begin(&mut self.connection)?;
        for call in calls {
            if !kept.contains_key(&call.place_id) && kept.len() >= PLACES {
                refused += 1;
                continue;
            }
            insert(&transaction, call)?;
            *kept.entry(call.place_id.clone()).or_default() += 1;
            bytes += call.call.len() as u64;
        }
        let full: Vec<(String, u64)> = kept
            .iter()
            .filter(|(_, rows)| **rows > self.bounds.rows)
            .map(|(place, rows)| (place.clone(), *rows - self.bounds.rows))
            .collect();
        for (place, many) in full {
            let erased = erase(
                &transaction,
                "DELETE FROM observed WHERE number IN (SELECT number FROM observed WHERE place = ?1 ORDER BY number LIMIT ?2)
                 RETURNING place, size",
                params![place, signed(many)],
            )?;
            settle(&erased, (&mut kept, &mut bytes));
        }
        while bytes > self.bounds.bytes {
            let erased = erase(
                &transaction,
                "DELETE FROM observed WHERE number IN (SELECT number FROM observed ORDER BY number LIMIT ?1)
                 RETURNING place, size",
                params![ERASED_TOGETHER],
            )?;
            if erased.is_empty() {
                break;
            }
            settle(&erased, (&mut kept, &mut bytes));
        }
        transaction.commit()?;
        (self.kept, self.bytes) = (kept, bytes);
        Ok(refused)
    }
}

fn insert(transaction: &Transaction<'_>, call: &ObservedCall) -> Result<()> {
    let mut place = transaction.prepare_cached(
        "INSERT INTO places (id, place, first_at, last_at, calls, micro_usd) VALUES (?1, ?2, ?3, ?3, 1, ?4)
         ON CONFLICT (id) DO UPDATE SET place = excluded.place, first_at = min(first_at, excluded.first_at),
             last_at = max(last_at, excluded.last_at), calls = calls + 1, micro_usd = micro_usd + excluded.micro_usd",
    )?;
    place.execute(params![call.place_id, call.place, call.at.0, signed(call.micro_usd.0)])?;
    let mut row =
        transaction.prepare_cached("INSERT INTO observed (place, at, call, size) VALUES (?1, ?2, ?3, ?4)")?;
    row.execute(params![call.place_id, call.at.0, call.call, signed(call.call.len() as u64)])?;
    Ok(())
}

fn erase(
    transaction: &Transaction<'_>,
    statement: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<(String, u64)>> {
    let mut statement = transaction.prepare_cached(statement)?;
    let rows = statement.query_map(parameters, |row| Ok((row.get(0)?, unsigned(row, 1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn settle(erased: &[(String, u64)], (kept, bytes): (&mut BTreeMap<String, u64>, &mut u64)) {
    for (place, size) in erased {
        if let Some(rows) = kept.get_mut(place) {
            *rows = rows.saturating_sub(1);
        }
        *bytes = bytes.saturating_sub(*size);
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|number| u64::try_from(number).unwrap_or(0))
}

impl Store {
    /// The places that calls came from, the dearest first.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn places(&self) -> Result<Vec<ObservedPlace>> {
        let connection = self.connection();
        let mut statement = connection.prepare(
            "SELECT id, place, first_at, last_at, calls, micro_usd FROM places ORDER BY micro_usd DESC, calls DESC, id",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(ObservedPlace {
                id: row.get(0)?,
                place: row.get(1)?,
                first_at: UnixMillis(row.get(2)?),
                last_at: UnixMillis(row.get(3)?),
                calls: unsigned(row, 4)?,
                micro_usd: MicroUsd(unsigned(row, 5)?),
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The calls of a place that are kept, oldest first, each with its moment.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn observed(&self, place_id: &str) -> Result<Vec<(UnixMillis, String)>> {
        let connection = self.connection();
        let mut statement =
            connection.prepare("SELECT at, call FROM observed WHERE place = ?1 ORDER BY number")?;
        let rows = statement.query_map([place_id], |row| Ok((UnixMillis(row.get(0)?), row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Erases calls from before a moment, and places that have not called since. Returns how many calls were erased.
    ///
    /// # Errors
    /// Fails when the database cannot be written.
    pub fn forget_observed(&self, before: UnixMillis) -> Result<usize> {
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        let erased = transaction.execute("DELETE FROM observed WHERE at < ?1", [before.0])?;
        transaction.execute(
            "DELETE FROM places WHERE last_at < ?1 AND id NOT IN (SELECT place FROM observed)",
            [before.0],
        )?;
        if erased > 0 {
            let detail = json!({ "before": before, "relayed": erased });
            audit::append(&transaction, &self.actor, Act::new("records.expired", "", detail))?;
        }
        transaction.commit()?;
        Ok(erased)
    }
}

/// Removes every call that holds a text, and every place whose constant part does, with all of its calls. Says how many calls went.
pub(crate) fn erase_holding(transaction: &Transaction<'_>, text: &str) -> Result<u64> {
    // As it stands, and as JSON writes it.
    let written = serde_json::Value::from(text).to_string();
    let written = written.get(1..written.len() - 1).unwrap_or(text);
    let holds = |column: &str| format!("(instr({column}, ?1) > 0 OR instr({column}, ?2) > 0)");
    let places = format!("SELECT id FROM places WHERE {}", holds("place"));
    let calls = format!("DELETE FROM observed WHERE {} OR place IN ({places})", holds("call"));
    let erased = transaction.execute(&calls, [text, written])?;
    transaction.execute(&format!("DELETE FROM places WHERE {}", holds("place")), [text, written])?;
    Ok(erased as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(place: &str, at: i64, call: &str) -> ObservedCall {
        ObservedCall {
            place_id: place.into(),
            place: format!("what {place} is"),
            at: UnixMillis(at),
            call: call.into(),
            micro_usd: MicroUsd(10),
        }
    }

    #[test]
    fn the_newest_calls_are_kept_and_all_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let bounds = ObservedBounds { rows: 3, bytes: 1_000 };
        let mut writer = SiteWriter::open(folder.path(), bounds).unwrap();
        for at in 0..5 {
            writer.write(&[call("a", at, &format!("call {at}")), call("b", at, "x")]).unwrap();
        }
        let kept: Vec<String> = store.observed("a").unwrap().into_iter().map(|(_, call)| call).collect();
        assert_eq!(kept, ["call 2", "call 3", "call 4"]);
        let places = store.places().unwrap();
        assert_eq!((places[0].calls, places[0].micro_usd), (5, MicroUsd(50)));
        assert_eq!((places[0].first_at, places[0].last_at), (UnixMillis(0), UnixMillis(4)));
        // Whoever begins anew counts what is there.
        let mut again = SiteWriter::open(folder.path(), bounds).unwrap();
        again.write(&[call("a", 9, "call 9")]).unwrap();
        assert_eq!(store.observed("a").unwrap().len(), 3);
    }

    #[test]
    fn all_calls_together_stay_within_their_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut writer =
            SiteWriter::open(folder.path(), ObservedBounds { rows: 100_000, bytes: 20_000 }).unwrap();
        for at in 0..300 {
            writer.write(&[call("a", at, &"a".repeat(50)), call("b", at, &"b".repeat(50))]).unwrap();
        }
        let bytes: usize = ["a", "b"]
            .iter()
            .flat_map(|place| store.observed(place).unwrap())
            .map(|(_, call)| call.len())
            .sum();
        assert!(bytes > 0 && bytes <= 20_000, "{bytes}");
        assert_eq!(store.places().unwrap()[0].calls, 300);
    }

    #[test]
    fn a_text_is_erased_from_calls_and_from_what_is_constant_about_them() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut writer = SiteWriter::open(folder.path(), ObservedBounds { rows: 10, bytes: 1_000 }).unwrap();
        let json = serde_json::Value::from("they say \"Ada\"\nLovelace").to_string();
        writer.write(&[call("a", 1, &json), call("a", 2, "somebody else"), call("b", 3, "x")]).unwrap();
        let erased = |text: &str| store.erase(crate::Whose::Holding(text)).unwrap().relayed;
        assert_eq!((erased("\"Ada\"\nLovelace"), erased("\"Ada\"\nLovelace")), (1, 0));
        assert_eq!(erased("what b is"), 1);
        let left: Vec<String> = store.places().unwrap().into_iter().map(|place| place.id).collect();
        assert_eq!(left, ["a"]);
    }

    #[test]
    fn what_is_old_is_forgotten_with_the_place_that_it_came_from() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut writer = SiteWriter::open(folder.path(), ObservedBounds { rows: 10, bytes: 1_000 }).unwrap();
        writer.write(&[call("old", 1, "x"), call("both", 1, "y"), call("both", 100, "z")]).unwrap();
        assert_eq!(store.forget_observed(UnixMillis(50)).unwrap(), 2);
        let places: Vec<String> = store.places().unwrap().into_iter().map(|place| place.id).collect();
        assert_eq!(places, ["both"]);
        assert_eq!(store.observed("both").unwrap(), [(UnixMillis(100), "z".to_owned())]);
    }
}
