//! Which new kinds of input were found, and what did people say of them?
//!
//! What is kept of a kind is its middle, a mean over inputs, and which decisions were typical of it: an erasure takes a decision out of the
//! list, and records that expire leave it, too. Of a task that may keep nothing, neither is written down.

use crate::{
    Store,
    audit::{self, Act},
    compact::Kept,
    database,
    error::{Error, Result},
    ids,
};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sizewise_contract::{
    ContentHash, KindState, NewKind, QueuedItem, Record, StoredInput, Waits, units::UnixMillis,
};

/// What the database has for them.
pub(crate) const TABLES: &str = "
CREATE TABLE kinds (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    task        TEXT NOT NULL,
    release     TEXT NOT NULL,
    at          INTEGER NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('proposed', 'dismissed', 'known', 'lost')),
    changed     INTEGER NOT NULL,            -- grows with every change of a state
    looks       INTEGER NOT NULL,
    share       REAL NOT NULL,
    known_share REAL NOT NULL,
    middle      TEXT                         -- JSON; none where nothing may be kept
) STRICT;
CREATE INDEX kinds_of_task ON kinds (task, id);
CREATE INDEX kinds_by_change ON kinds (changed);

CREATE TABLE kind_members (
    kind     INTEGER NOT NULL REFERENCES kinds (id),
    place    INTEGER NOT NULL,               -- the most typical first
    decision TEXT NOT NULL,
    PRIMARY KEY (kind, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX kind_members_of_decision ON kind_members (decision);
";

/// A kind with what is kept of it.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptKind {
    /// The kind.
    pub kind: NewKind,
    /// Its middle; none where nothing may be kept.
    pub middle: Option<Middle>,
}

/// The middle of a kind's inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Middle {
    /// The encoder that its vectors are of.
    pub space: ContentHash,
    /// By the encoder's last layer.
    pub encoder: Vec<f32>,
    /// By the static embeddings.
    pub fixed: Vec<f32>,
    /// Of how many inputs.
    pub rows: f64,
    /// From the nearest class of the release that did not know it, in squares.
    pub distance: f64,
}

const COLUMNS: &str = "id, task, release, at, state, looks, share, known_share, middle";

impl Store {
    /// Proposes a kind to people; its own id and moment are not read. Returns its id.
    ///
    /// # Errors
    /// Fails when the database cannot be written.
    pub fn propose_kind(&self, kind: &NewKind, middle: Option<&Middle>, members: &[String]) -> Result<i64> {
        let middle = middle.map(written).transpose()?;
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        transaction.execute(
            "INSERT INTO kinds (task, release, at, state, changed, looks, share, known_share, middle)
             VALUES (?1, ?2, ?3, 'proposed', (SELECT coalesce(max(changed), 0) + 1 FROM kinds), ?4, ?5, ?6, ?7)",
            params![
                kind.task,
                kind.release.to_string(),
                ids::now().0,
                i64::try_from(kind.looks).unwrap_or(i64::MAX),
                kind.share,
                kind.known_share,
                middle
            ],
        )?;
        let id = transaction.last_insert_rowid();
        put_members(&transaction, id, members)?;
        let detail = json!({ "task": kind.task, "kind": id, "share": kind.share, "looks": kind.looks });
        audit::append(
            &transaction,
            &self.actor,
            Act::new("kind.proposed", &kind.release.to_string(), detail),
        )?;
        transaction.commit()?;
        Ok(id)
    }

    /// Keeps what is known now of a kind that is proposed.
    ///
    /// # Errors
    /// Fails when the database cannot be written.
    pub fn refresh_kind(
        &self,
        id: i64,
        share: f64,
        middle: Option<&Middle>,
        members: &[String],
    ) -> Result<()> {
        let middle = middle.map(written).transpose()?;
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        let changed = transaction.execute(
            "UPDATE kinds SET share = ?2, middle = ?3 WHERE id = ?1 AND state = 'proposed'",
            params![id, share, middle],
        )?;
        if changed == 1 {
            put_members(&transaction, id, members)?;
        }
        Ok(transaction.commit()?)
    }

    /// The kinds of a task, the latest first, at most so many.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn kinds(&self, task: &str, limit: usize) -> Result<Vec<KeptKind>> {
        let connection = self.connection();
        let query = format!("SELECT {COLUMNS} FROM kinds WHERE task = ?1 ORDER BY id DESC LIMIT ?2");
        let mut statement = connection.prepare_cached(&query)?;
        let rows = statement.query_map(params![task, i64::try_from(limit).unwrap_or(i64::MAX)], parts)?;
        rows.map(|row| read(row?)).collect()
    }

    /// The decisions that are most typical of a kind, as far as they are kept: their records.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn kind_records(&self, id: i64, limit: usize) -> Result<Vec<Record>> {
        let connection = self.with_records()?;
        let mut statement = connection.prepare_cached(
            "SELECT coalesce(compact, record) FROM kind_members JOIN records ON records.id = decision WHERE kind = ?1 ORDER BY place LIMIT ?2",
        )?;
        let rows =
            statement.query_map(params![id, i64::try_from(limit).unwrap_or(i64::MAX)], |row| row.get(0))?;
        rows.map(|record| record.map(|Kept(record)| record))
            .collect::<rusqlite::Result<_>>()
            .map_err(Error::from)
    }

    /// Says what became of a kind that is proposed, and why. Says whether it was.
    ///
    /// # Errors
    /// Fails when the database cannot be written.
    pub fn settle_kind(&self, task: &str, id: i64, state: KindState, reason: &str) -> Result<bool> {
        let action = match state {
            KindState::Proposed => return Ok(false),
            KindState::Dismissed => "kind.dismissed",
            KindState::Known => "kind.known",
            KindState::Lost => "kind.lost",
        };
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        let release: Option<String> = transaction
            .query_row(
                "UPDATE kinds SET state = ?3, changed = (SELECT max(changed) + 1 FROM kinds)
                 WHERE task = ?1 AND id = ?2 AND state = 'proposed' RETURNING release",
                params![task, id, state.name()],
                |row| row.get(0),
            )
            .optional()?;
        let Some(release) = release else { return Ok(false) };
        let detail = json!({ "task": task, "kind": id, "reason": reason });
        audit::append(&transaction, &self.actor, Act::new(action, &release, detail))?;
        transaction.commit()?;
        Ok(true)
    }

    /// Puts the questions about a kind's most typical inputs before people, ahead of all others, as far as the inputs are kept. Returns how
    /// many wait now.
    ///
    /// # Errors
    /// Fails when the database cannot be written.
    pub fn queue_kind(&self, task: &str, id: i64) -> Result<u64> {
        let records = self.kind_records(id, usize::MAX)?;
        let mut connection = self.connection();
        let transaction = database::begin(&mut connection)?;
        let mut waiting = 0;
        for record in records.iter().filter(|record| record.task == task) {
            for answer in &record.answers {
                waiting += transaction.execute(
                    "UPDATE queue SET why = 'new_kind', item = json_set(item, '$.why', 'new_kind')
                     WHERE decision = ?1 AND question = ?2 AND state = 'waiting' AND why IN ('unsure', 'new_kind')",
                    params![record.id, answer.question],
                )?;
                if record.input == StoredInput::Nothing {
                    continue;
                }
                let item = QueuedItem {
                    decision: record.id.clone(),
                    task: record.task.clone(),
                    question: answer.question.clone(),
                    at: record.at,
                    input: record.input.clone(),
                    suggestion: answer.value.clone(),
                    confidence: answer.confidence.unwrap_or(0.0),
                    why: Waits::NewKind,
                };
                let text = serde_json::to_string(&item)
                    .map_err(|_| Error::Internal("a question has a JSON form"))?;
                waiting += transaction.execute(
                    "INSERT INTO queue (decision, question, task, at, item, state, subject, why)
                     SELECT ?1, ?2, ?3, ?4, ?5, 'waiting', subject, 'new_kind' FROM records WHERE id = ?1
                     ON CONFLICT DO NOTHING",
                    params![record.id, answer.question, record.task, record.at.0, text],
                )?;
            }
        }
        let detail = json!({ "task": task, "kind": id, "questions": waiting });
        audit::append(&transaction, &self.actor, Act::new("kind.queued", task, detail))?;
        transaction.commit()?;
        Ok(waiting as u64)
    }
}

fn put_members(transaction: &Transaction<'_>, id: i64, members: &[String]) -> Result<()> {
    transaction.prepare_cached("DELETE FROM kind_members WHERE kind = ?1")?.execute([id])?;
    let mut insert =
        transaction.prepare_cached("INSERT INTO kind_members (kind, place, decision) VALUES (?1, ?2, ?3)")?;
    for (place, decision) in members.iter().enumerate() {
        insert.execute(params![id, i64::try_from(place).unwrap_or(i64::MAX), decision])?;
    }
    Ok(())
}

/// Takes decisions out of the lists of kinds, before their records go: those that a condition on records picks.
pub(crate) fn leave(
    transaction: &Transaction<'_>,
    condition: &str,
    given: impl rusqlite::Params,
) -> Result<()> {
    let query =
        format!("DELETE FROM kind_members WHERE decision IN (SELECT id FROM records WHERE {condition})");
    transaction.execute(&query, given)?;
    Ok(())
}

fn written(middle: &Middle) -> Result<String> {
    serde_json::to_string(middle).map_err(|_| Error::Internal("a middle has a JSON form"))
}

type Parts = (NewKind, String, String, Option<String>);

fn parts(row: &Row<'_>) -> rusqlite::Result<Parts> {
    let kind = NewKind {
        id: row.get(0)?,
        task: row.get(1)?,
        release: ContentHash::of(b""),
        at: UnixMillis(row.get(3)?),
        state: KindState::Proposed,
        looks: row.get::<_, i64>(5)?.unsigned_abs(),
        share: row.get(6)?,
        known_share: row.get(7)?,
    };
    Ok((kind, row.get(2)?, row.get(4)?, row.get(8)?))
}

fn read((kind, release, state, middle): Parts) -> Result<KeptKind> {
    let release: ContentHash =
        ContentHash::parse(&release).ok_or(Error::Internal("a stored release has a name"))?;
    let states = [KindState::Proposed, KindState::Dismissed, KindState::Known, KindState::Lost];
    let state = states.into_iter().find(|known| known.name() == state);
    let state = state.ok_or(Error::Internal("a stored kind has a state"))?;
    // Of a form that this build does not know, it is as if it had not been kept.
    let middle = middle.and_then(|text| serde_json::from_str(&text).ok());
    Ok(KeptKind { kind: NewKind { release, state, ..kind }, middle })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;
    use crate::{Entry, Recorder, Whose};
    use sizewise_contract::{Answer, Disposition, Tier};

    fn kind() -> NewKind {
        NewKind {
            id: 0,
            task: "desk".into(),
            release: ContentHash::of(b"release"),
            at: UnixMillis(0),
            state: KindState::Proposed,
            looks: 400,
            share: 0.1,
            known_share: 0.004,
        }
    }

    fn record(id: &str) -> Record {
        let answer = Answer {
            question: "team".into(),
            disposition: Disposition::Answered,
            value: "billing".into(),
            class: 0,
            confidence: Some(0.9),
            threshold: None,
            probabilities: vec![],
            tier: Tier::Static,
            certified: false,
            handed_on: None,
            remote: None,
            path: vec![],
        };
        Record {
            id: id.into(),
            task: "desk".into(),
            release: ContentHash::of(b"release"),
            at: UnixMillis(5),
            answers: vec![answer],
            elapsed_us: 1,
            key_id: None,
            input: StoredInput::Full(format!("text of {id}")),
        }
    }

    fn store(folder: &std::path::Path) -> Store {
        let store = Store::open(folder).unwrap();
        let recorder = Recorder::start(folder).unwrap();
        let entry = |id| Entry { record: Some(record(id)), ..Entry::default() };
        let (told, kept) = std::sync::mpsc::channel();
        assert!(recorder.keep(["d_a", "d_b", "d_c"].map(entry).into(), move |done| told.send(done).unwrap()));
        assert!(kept.recv().unwrap());
        store
    }

    fn middle(rows: f64) -> Middle {
        let space = ContentHash::of(b"encoder");
        Middle { space, encoder: vec![0.5, 0.25], fixed: vec![1.0], rows, distance: 40.0 }
    }

    fn members(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn a_kind_is_proposed_kept_up_to_date_and_dismissed_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let before = store.mark().unwrap();
        let id =
            store.propose_kind(&kind(), Some(&middle(1.0)), &members(&["d_b", "d_a", "d_gone"])).unwrap();
        assert_ne!(store.mark().unwrap(), before);
        store.refresh_kind(id, 0.2, Some(&middle(2.0)), &members(&["d_c", "d_b"])).unwrap();
        let kept = store.kinds("desk", 10).unwrap();
        assert_eq!((kept.len(), kept[0].kind.share, &kept[0].middle), (1, 0.2, &Some(middle(2.0))));
        let typical: Vec<String> =
            store.kind_records(id, 10).unwrap().into_iter().map(|record| record.id).collect();
        assert_eq!(typical, ["d_c", "d_b"]);
        assert!(!store.settle_kind("other", id, KindState::Dismissed, "no").unwrap());
        assert!(store.settle_kind("desk", id, KindState::Dismissed, "a sale, over soon").unwrap());
        assert!(!store.settle_kind("desk", id, KindState::Dismissed, "again").unwrap());
        store.refresh_kind(id, 0.9, None, &[]).unwrap();
        let kept = store.kinds("desk", 10).unwrap();
        assert_eq!((kept[0].kind.state, kept[0].kind.share), (KindState::Dismissed, 0.2));
        let log = store.audit().unwrap();
        let acts: Vec<&str> = log.iter().map(|entry| entry.action.as_str()).collect();
        assert_eq!(&acts[acts.len() - 2..], ["kind.proposed", "kind.dismissed"]);
    }

    #[test]
    fn its_inputs_wait_for_people_ahead_of_others_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let id = store.propose_kind(&kind(), None, &members(&["d_a", "d_c"])).unwrap();
        assert_eq!(store.queue_kind("desk", id).unwrap(), 2);
        let waiting = store.waiting_longest("desk", Waits::NewKind, 10).unwrap();
        assert_eq!(waiting.len(), 2);
        store.answer(&waiting[0], Some("returns")).unwrap();
        assert_eq!(store.queue_kind("desk", id).unwrap(), 1);
        assert_eq!(store.gold("desk").unwrap().len(), 1);
        assert!(!store.gold("desk").unwrap()[0].drawn);
    }

    #[test]
    fn who_is_erased_is_taken_out_of_the_list() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let id = store.propose_kind(&kind(), None, &members(&["d_a", "d_b", "d_c"])).unwrap();
        store.erase(Whose::Decision("d_b")).unwrap();
        let left = |store: &Store| -> i64 {
            let query = "SELECT count(*) FROM kind_members WHERE kind = ?1";
            store.connection().query_row(query, [id], |row| row.get(0)).unwrap()
        };
        assert_eq!(left(&store), 2);
        store.erase_before("desk", UnixMillis(100)).unwrap();
        assert_eq!(left(&store), 0);
    }
}
