//! Do views of a store show what they are asked for, and no more?

#![allow(clippy::unwrap_used, reason = "a test")]

use sizewise_contract::{ContentHash, QueuedItem, Record, StoredInput, units::UnixMillis};
use sizewise_store::{Entry, Recorder, Rights, Store};

fn entry(task: &str, at: i64) -> Entry {
    let (id, at) = (format!("d-{task}-{at}"), UnixMillis(at));
    let record = Record {
        id: id.clone(),
        task: task.into(),
        release: ContentHash::of(b"r"),
        at,
        input: StoredInput::Nothing,
        answers: Vec::new(),
        elapsed_us: 1,
        key_id: None,
    };
    let item = QueuedItem {
        decision: id,
        task: task.into(),
        question: "team".into(),
        at,
        input: StoredInput::Nothing,
        suggestion: "a".into(),
        confidence: 0.5,
    };
    Entry { record: Some(record), queued: vec![item], subject: None }
}

fn filled(folder: &std::path::Path) -> Store {
    let store = Store::open(folder).unwrap();
    let recorder = Recorder::start(folder).unwrap();
    // Not in the order of time, and of two tasks.
    let entries = [5, 1, 4, 2, 3].into_iter().flat_map(|at| [entry("desk", at), entry("other", at + 100)]);
    assert!(recorder.keep(entries.collect(), |kept| assert!(kept)));
    drop(recorder);
    store
}

#[test]
fn the_latest_records_and_the_oldest_questions_of_one_task_come_first() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path());
    let times = |records: Vec<Record>| records.iter().map(|record| record.at.0).collect::<Vec<_>>();
    assert_eq!(times(store.latest_records("desk", 3).unwrap()), [5, 4, 3]);
    assert_eq!(times(store.latest_records("nothing", 3).unwrap()), [0i64; 0]);
    let waiting = store.waiting_longest("desk", 2).unwrap();
    assert_eq!(waiting.iter().map(|item| item.at.0).collect::<Vec<_>>(), [1, 2]);
    store.answer(&waiting[0], Some("a")).unwrap();
    assert_eq!(store.waiting_longest("desk", 2).unwrap()[0].at.0, 2);
    assert_eq!((store.waiting_up_to("desk", 100).unwrap(), store.waiting_up_to("desk", 3).unwrap()), (4, 3));
    assert_eq!(store.waiting_up_to("nothing", 3).unwrap(), 0);
}

#[test]
fn no_view_scans_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path()));
    let database = rusqlite::Connection::open(folder.path().join("store.db")).unwrap();
    for query in [
        "SELECT record FROM records WHERE task = 'a' ORDER BY at DESC LIMIT 9",
        "SELECT item FROM queue WHERE state = 'waiting' AND task = 'a' ORDER BY at, decision, question LIMIT 9",
        "SELECT count(*) FROM (SELECT 1 FROM queue WHERE state = 'waiting' AND task = 'a' LIMIT 9)",
    ] {
        let mut plan = database.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
        let steps: Vec<String> = plan.query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
        let told = steps.join("; ");
        assert!(
            told.contains("USING") && !told.contains("TEMP B-TREE") && !told.contains("SCAN records"),
            "{told}"
        );
        assert!(!told.contains("SCAN queue"), "{told}");
    }
}

#[test]
fn the_log_is_read_by_pages_and_by_words() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let key = store.create_key("gateway", &Rights::default()).unwrap();
    store.acting_as("console:k").revoke_key(&key.id).unwrap();
    let page = |before, words: &str, limit| -> Vec<u64> {
        let entries = store.audit_page(before, words, limit).unwrap();
        entries.iter().map(|entry| entry.sequence).collect()
    };
    assert_eq!(page(None, "", 2), [2, 1]);
    assert_eq!(page(Some(1), "", 2), [0]);
    assert_eq!((page(None, "KEY.Revoked", 9), page(None, "console:k", 9)), (vec![2], vec![2]));
    // A mark of another language of patterns is a character like any other.
    assert_eq!(page(None, "%", 9), [0u64; 0]);
    assert_eq!(page(None, "nobody did this", 9), [0u64; 0]);
    assert_eq!(store.audit_size().unwrap(), 3);
    assert_eq!(
        store.audit().unwrap(),
        store.audit_page(None, "", 9).unwrap().into_iter().rev().collect::<Vec<_>>()
    );
}
