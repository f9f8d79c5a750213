//! What was done here, by whom, in which order?
//!
//! Acts are written down, decisions are not: whoever changed what the server says, who may call it, what is kept or what was proven.
//! An entry is appended in the transaction of the act that it records, by the function of the store that does it, so no caller can
//! forget and no act is there without its entry. The hashes of all entries make a Merkle tree ([`merkle`]); whoever wrote its head
//! (size and root) down somewhere else can tell at any time, offline, whether an entry from before was changed, removed, moved or put
//! in ([`verify`]).
//!
//! What an entry says of a person stands apart from the rest, which holds only its salted hash: erasing the person blanks text and
//! salt, and every hash stays as it was. The database itself refuses any other change.

pub(crate) mod merkle;
mod verify;

pub use verify::{AuditReport, Finding, Head, InclusionProof};

use crate::{
    Store, database,
    error::{Error, Result},
    ids,
};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sizewise_contract::{ContentHash, units::UnixMillis};

/// What version 4 of the database has and version 3 had not.
pub(crate) const TABLES: &str = "
-- Append-only: the triggers below let nothing else pass but the erasure of what an entry says of a person.
CREATE TABLE audit (
    sequence   INTEGER PRIMARY KEY,          -- from 0, without gaps
    at         INTEGER NOT NULL,
    actor      TEXT NOT NULL,
    action     TEXT NOT NULL,
    object     TEXT NOT NULL,
    detail     TEXT NOT NULL,                -- JSON, never anything of an input
    commitment BLOB,                         -- salted hash of what is said of a person, where anything is
    leaf       BLOB NOT NULL,
    salt       BLOB,                         -- these three are blanked by an erasure
    personal   TEXT,
    subject    BLOB                          -- keyed hash of whom it is about, where the caller said so
) STRICT;
CREATE INDEX audit_erasures ON audit (sequence) WHERE action = 'erased';
CREATE TRIGGER audit_is_appended_to BEFORE INSERT ON audit
WHEN NEW.sequence IS NOT (SELECT coalesce(max(sequence) + 1, 0) FROM audit)
BEGIN SELECT RAISE(ABORT, 'entries of the audit log come one after the other'); END;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
WHEN NOT (NEW.sequence IS OLD.sequence AND NEW.at IS OLD.at AND NEW.actor IS OLD.actor AND NEW.action IS OLD.action
    AND NEW.object IS OLD.object AND NEW.detail IS OLD.detail AND NEW.commitment IS OLD.commitment AND NEW.leaf IS OLD.leaf
    AND NEW.salt IS NULL AND NEW.personal IS NULL AND NEW.subject IS NULL)
BEGIN SELECT RAISE(ABORT, 'entries of the audit log do not change'); END;
CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'entries of the audit log are not removed'); END;

ALTER TABLE records ADD COLUMN subject BLOB;  -- keyed hash of whom the input is about, where the caller said so
ALTER TABLE queue ADD COLUMN subject BLOB;
CREATE INDEX records_of_subject ON records (subject) WHERE subject IS NOT NULL;
CREATE INDEX queue_of_subject ON queue (subject) WHERE subject IS NOT NULL;
";

/// The triggers that keep entries as they are.
const TRIGGERS: [&str; 3] = ["audit_is_appended_to", "audit_is_not_changed", "audit_is_not_shortened"];

/// One entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEntry {
    /// Its place, from 0.
    pub sequence: u64,
    /// When.
    pub at: UnixMillis,
    /// Who: `cli:` and the user of this machine who called the program.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To what: a release, a key, a decision, …
    pub object: String,
    /// What else there is to say; never anything of an input.
    pub detail: Value,
    /// The salted hash of what the entry says of a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commitment: Option<ContentHash>,
    /// The salt, in hexadecimal digits; blanked by an erasure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// What the entry says of a person; blanked by an erasure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personal: Option<Value>,
    /// Hash of all the rest.
    pub leaf: ContentHash,
}

impl AuditEntry {
    /// The hash that the entry must have: of the JSON array of its sequence, time, actor, action, object, detail and commitment, in
    /// this order and without blanks, after a zero byte.
    pub(crate) fn own_leaf(&self) -> ContentHash {
        let whole = (
            self.sequence,
            self.at,
            &self.actor,
            &self.action,
            &self.object,
            &self.detail,
            self.commitment.as_ref(),
        );
        // All of it has a JSON form; nothing would be the hash of nothing, which no entry has.
        merkle::leaf(&serde_json::to_vec(&whole).unwrap_or_default())
    }
}

/// The hash of a salt and, behind it, the JSON text of what is said of a person.
pub(crate) fn commitment(salt: &str, personal: &Value) -> ContentHash {
    let mut hash = ContentHash::builder();
    hash.update(salt.as_bytes());
    hash.update(personal.to_string().as_bytes());
    hash.finish()
}

/// Something that is done, before it is written down.
pub(crate) struct Act<'a> {
    pub(crate) action: &'static str,
    pub(crate) object: &'a str,
    pub(crate) detail: Value,
    /// What is said of a person, and the keyed hash of who it is, where that is known.
    pub(crate) personal: Option<(Value, Option<[u8; 32]>)>,
}

impl<'a> Act<'a> {
    pub(crate) fn new(action: &'static str, object: &'a str, detail: Value) -> Self {
        Self { action, object, detail, personal: None }
    }
}

/// Writes an act down, within the transaction that does it, and returns the entry's place.
pub(crate) fn append(transaction: &Transaction<'_>, actor: &str, act: Act<'_>) -> Result<u64> {
    let next: i64 =
        transaction.query_row("SELECT coalesce(max(sequence) + 1, 0) FROM audit", [], |row| row.get(0))?;
    let (personal, subject) = act.personal.map_or((None, None), |(said, who)| (Some(said), who));
    let salt = match personal {
        Some(_) => Some(ContentHash::of(&random()?).to_string()),
        None => None,
    };
    let mut entry = AuditEntry {
        sequence: u64::try_from(next).map_err(|_| Error::Internal("entries count from 0"))?,
        at: ids::now(),
        actor: actor.to_owned(),
        action: act.action.to_owned(),
        object: act.object.to_owned(),
        detail: act.detail,
        commitment: salt.as_ref().zip(personal.as_ref()).map(|(salt, said)| commitment(salt, said)),
        salt,
        personal,
        leaf: ContentHash::of(b""),
    };
    entry.leaf = entry.own_leaf();
    transaction.execute(
        "INSERT INTO audit (sequence, at, actor, action, object, detail, commitment, leaf, salt, personal, subject)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            next,
            entry.at.0,
            entry.actor,
            entry.action,
            entry.object,
            entry.detail.to_string(),
            entry.commitment.as_ref().map(ContentHash::as_bytes),
            entry.leaf.as_bytes(),
            entry.salt.as_ref().map(String::as_bytes),
            entry.personal.as_ref().map(Value::to_string),
            subject
        ],
    )?;
    Ok(entry.sequence)
}

fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    ids::fill(&mut bytes)?;
    Ok(bytes)
}

/// Begins the log of a database, which may be older than its log.
pub(crate) fn begin(transaction: &Transaction<'_>, version: i64) -> Result<()> {
    let count = |table: &str| {
        transaction.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0))
    };
    let detail = match version {
        0 => json!({ "store": "new" }),
        _ => json!({
            "store": format!("of version {version}, which kept no log"),
            "releases": count("releases")?, "openings": count("openings")?, "keys": count("keys")?,
        }),
    };
    append(transaction, &actor(), Act::new("log.begun", "", detail)).map(drop)
}

/// Who runs this program: the name that the environment gives, and the number that the system does.
pub(crate) fn actor() -> String {
    let named = ["USER", "LOGNAME", "USERNAME"].iter().find_map(|name| std::env::var(name).ok());
    let plain = |c: &char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '@' | '\\');
    let named: String = named.unwrap_or_default().chars().filter(plain).take(64).collect();
    match (named.as_str(), uid()) {
        ("", None) => "cli".into(),
        ("", Some(uid)) => format!("cli:{uid}"),
        (name, None) => format!("cli:{name}"),
        (name, Some(uid)) => format!("cli:{name}({uid})"),
    }
}

#[cfg(target_os = "linux")]
fn uid() -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").ok().map(|facts| facts.uid())
}

#[cfg(not(target_os = "linux"))]
fn uid() -> Option<u32> {
    None
}

/// Blanks what entries say of a person, or of a decision. Says of how many.
pub(crate) fn blank(
    transaction: &Transaction<'_>,
    whom: &dyn rusqlite::ToSql,
    column: &str,
) -> Result<usize> {
    let query = format!(
        "UPDATE audit SET salt = NULL, personal = NULL, subject = NULL WHERE {column} = ?1 AND personal IS NOT NULL"
    );
    Ok(transaction.execute(&query, [whom])?)
}

impl Store {
    /// Writes down that a server starts, and under which rules.
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub fn note_start(&self, rules: Value) -> Result<u64> {
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        let sequence = append(&transaction, &self.actor, Act::new("server.started", "", rules))?;
        transaction.commit()?;
        Ok(sequence)
    }

    /// The log, in the order in which it lies in the database.
    ///
    /// # Errors
    /// Fails when the database cannot be read, or an entry is not of an entry's form.
    pub fn audit(&self) -> Result<Vec<AuditEntry>> {
        let connection = self.connection();
        let mut statement = connection.prepare(
            "SELECT sequence, at, actor, action, object, detail, commitment, leaf, salt, personal FROM audit ORDER BY sequence",
        )?;
        let rows = statement.query_map([], |row| Ok(entry(row)))?.collect::<rusqlite::Result<Vec<_>>>()?;
        rows.into_iter().collect()
    }

    /// How many entries the log has.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn audit_size(&self) -> Result<u64> {
        let query = "SELECT coalesce(max(sequence) + 1, 0) FROM audit";
        Ok(self.connection().query_row(query, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
    }

    /// The latest entries before a place of the log, the latest first, that hold some words in who, what, to what or the rest.
    ///
    /// # Errors
    /// Fails when the database cannot be read, or an entry is not of an entry's form.
    pub fn audit_page(&self, before: Option<u64>, words: &str, limit: usize) -> Result<Vec<AuditEntry>> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT sequence, at, actor, action, object, detail, commitment, leaf, salt, personal FROM audit
             WHERE sequence < ?1 AND (?2 = '' OR
               instr(lower(actor || ' ' || action || ' ' || object || ' ' || detail || ' ' || coalesce(personal, '')), lower(?2)))
             ORDER BY sequence DESC LIMIT ?3",
        )?;
        let before = before.and_then(|place| i64::try_from(place).ok()).unwrap_or(i64::MAX);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement
            .query_map(params![before, words, limit], |row| Ok(entry(row)))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        rows.into_iter().collect()
    }

    /// The head of the log as it is now: what an auditor writes down elsewhere.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn audit_head(&self) -> Result<Head> {
        let leaves: Vec<ContentHash> = self.audit()?.iter().map(|entry| entry.leaf).collect();
        Ok(Head { size: leaves.len() as u64, root: merkle::root(&leaves) })
    }

    /// Which of the guards that keep entries as they are is not there any more.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn missing_guards(&self) -> Result<Vec<&'static str>> {
        let connection = self.connection();
        let there = |name: &&'static str| trigger(&connection, name);
        TRIGGERS.iter().map(|name| Ok((*name, there(name)?))).filter_map(absent).collect()
    }
}

fn absent(found: Result<(&'static str, bool)>) -> Option<Result<&'static str>> {
    match found {
        Ok((_, true)) => None,
        Ok((name, false)) => Some(Ok(name)),
        Err(error) => Some(Err(error)),
    }
}

fn trigger(connection: &Connection, name: &str) -> Result<bool> {
    let query = "SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'audit' AND name = ?1";
    let written = connection.query_row(query, [name], |row| row.get::<_, String>(0)).optional()?;
    // One of the same name that does something else is none.
    Ok(written.is_some_and(|sql| TABLES.contains(&sql)))
}

fn entry(row: &Row<'_>) -> Result<AuditEntry> {
    let sequence: i64 = row.get(0)?;
    let damaged = || Error::Entry { sequence };
    let value = |text: String| serde_json::from_str::<Value>(&text).map_err(|_| damaged());
    let hash = |bytes: Vec<u8>| {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        ContentHash::parse(&digits).ok_or_else(damaged)
    };
    let salt = row.get::<_, Option<Vec<u8>>>(8)?.map(|bytes| String::from_utf8(bytes).map_err(|_| damaged()));
    Ok(AuditEntry {
        sequence: u64::try_from(sequence).map_err(|_| damaged())?,
        at: UnixMillis(row.get(1)?),
        actor: row.get(2)?,
        action: row.get(3)?,
        object: row.get(4)?,
        detail: value(row.get(5)?)?,
        commitment: row.get::<_, Option<Vec<u8>>>(6)?.map(hash).transpose()?,
        leaf: hash(row.get(7)?)?,
        salt: salt.transpose()?,
        personal: row.get::<_, Option<String>>(9)?.map(value).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_that_anybody_computes_from_an_export() {
        // Made with Python: hashlib.sha256 of the bytes that the documents name, json.dumps without blanks and with ensure_ascii=False.
        let (salt, said) = ("ab".repeat(32), json!({ "answer": "Lieferung für Jörg" }));
        let committed = commitment(&salt, &said);
        assert_eq!(committed.to_string(), "aab67883520fe29823108e9f1737f2c2269ae8a66bfd8d13be9d7418985f428a");
        let entry = AuditEntry {
            sequence: 13,
            at: UnixMillis(1_700_000_000_000),
            actor: "cli:ada(1000)".into(),
            action: "queue.answered".into(),
            object: "d_1".into(),
            detail: json!({ "task": "support", "question": "team" }),
            commitment: Some(committed),
            salt: Some(salt),
            personal: Some(said),
            leaf: committed,
        };
        assert_eq!(
            entry.own_leaf().to_string(),
            "19701f7bba96336c329d6eaed7d6cdedabb57a02e59a87d3b437891cb87ea373"
        );
    }
}
