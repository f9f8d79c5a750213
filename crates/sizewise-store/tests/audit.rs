//! Does every act leave its entry, and is whatever is done to the log afterwards seen and named?

#![allow(clippy::unwrap_used, reason = "a test")]

use proptest::prelude::*;
use rusqlite::Connection;
use sizewise_contract::{ContentHash, QueuedItem, StoredInput, Task, Waits, units::UnixMillis};
use sizewise_store::{
    AuditEntry, AuditReport, Entry, Finding, Head, InclusionProof, Model, NewRelease, Recorder, Rights,
    Store, Whose,
};

const TASK: &str = "schema = 1\nname = \"support\"\n[[question]]\nname = \"team\"\ntype = \"choice\"\nchoices = [{ value = \"a\" }, { value = \"b\" }]\n";

fn release(store: &Store, bytes: &[u8]) -> ContentHash {
    let task = Task::parse(TASK).unwrap();
    let parts = [("head".to_owned(), bytes.to_vec())];
    let new = NewRelease {
        task_file: TASK,
        task: &task,
        training_rows: ContentHash::of(b"rows"),
        locked_rows: ContentHash::of(b"locked"),
        parts: &parts,
        made_by: "test",
    };
    store.publish(new).unwrap().id
}

fn ask_a_person(store: &Store, decision: &str, person: Option<&str>) -> QueuedItem {
    let item = QueuedItem {
        decision: decision.into(),
        task: "support".into(),
        question: "team".into(),
        at: UnixMillis(7),
        input: StoredInput::Full(format!("what {decision} was about")),
        suggestion: "a".into(),
        confidence: 0.4,
        why: Waits::Unsure,
    };
    let recorder = Recorder::start(store.folder()).unwrap();
    let entry = Entry { queued: vec![item.clone()], subject: person.map(str::to_owned), ..Entry::default() };
    assert!(recorder.keep(vec![entry], |kept| assert!(kept)));
    drop(recorder);
    item
}

/// A store in which something of everything was done.
fn busy(folder: &std::path::Path) -> Store {
    let store = Store::open(folder).unwrap();
    store.note_start(serde_json::json!({ "tasks": {} })).unwrap();
    let key = store.create_key("Ada Lovelace", &Rights::default()).unwrap();
    store.revoke_key(&key.id).unwrap();
    store.revoke_key(&key.id).unwrap();
    let first = release(&store, b"1");
    let second = release(&store, b"2");
    let opening = store.begin_opening("support", &ContentHash::of(b"locked"), &second, (1, None)).unwrap();
    store.finish_opening(opening, &[]).unwrap();
    store.rollback("support", Some(&first.to_string())).unwrap();
    let model = Model {
        name: "encoder".into(),
        source: "/home/ada".into(),
        revision: None,
        licence: None,
        at: UnixMillis(1),
        files: vec![],
    };
    store.add_model(&model).unwrap();
    store.remove_model(&model).unwrap();
    store.answer(&ask_a_person(&store, "d_1", Some("ada")), Some("b")).unwrap();
    store.answer(&ask_a_person(&store, "d_2", None), None).unwrap();
    store
}

fn actions(store: &Store) -> Vec<String> {
    store.audit().unwrap().into_iter().map(|entry| entry.action).collect()
}

#[test]
fn every_act_leaves_one_entry_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let store = busy(folder.path());
    let expected = [
        "log.begun",
        "server.started",
        "key.made",
        "key.revoked",
        "release.made",
        "release.in_force",
        "release.made",
        "release.in_force",
        "locked_rows.opened",
        "release.tested",
        "release.in_force",
        "model.added",
        "model.removed",
        "queue.answered",
        "queue.skipped",
    ];
    assert_eq!(actions(&store), expected);
    assert_eq!(store.erase_before("support", UnixMillis(8)).unwrap(), 1);
    assert_eq!(store.erase_before("support", UnixMillis(8)).unwrap(), 0);
    assert_eq!(actions(&store)[15..], ["records.expired"]);
    // That nothing was there to erase is worth an entry: somebody asked for it.
    assert_eq!(store.erase(Whose::Subject("nobody")).unwrap().entry, 16);
    assert_eq!(actions(&store)[16..], ["erased"]);
    let text = serde_json::to_string(&store.audit().unwrap()).unwrap();
    for private in ["Ada Lovelace", "/home/ada", "\"ada\"", "was about"] {
        assert!(!text.contains(private), "{private} stands in {text}");
    }
    assert!(store.audit().unwrap().iter().all(|entry| entry.actor.starts_with("cli")));
    let report = AuditReport::of(&store.audit().unwrap(), Some(&store.audit_head().unwrap()), None);
    assert_eq!(report.findings, []);
}

#[test]
fn erasing_a_person_blanks_what_is_said_of_them_and_keeps_every_proof() {
    let folder = tempfile::tempdir().unwrap();
    let store = busy(folder.path());
    let (before, head) = (store.audit().unwrap(), store.audit_head().unwrap());
    let proof = InclusionProof::of(&before, 13).unwrap();
    assert_eq!(before[13].personal, Some(serde_json::json!({ "answer": "b" })));
    let erased = store.erase(Whose::Subject("ada")).unwrap();
    assert_eq!((erased.queued, erased.gold, erased.entries_blanked, erased.entry), (1, 1, 1, 15));
    assert!(erased.log_emptied);
    let after = store.audit().unwrap();
    assert_eq!((after[13].personal.clone(), after[13].salt.clone()), (None, None));
    let report = AuditReport::of(&after, Some(&head), Some(&before));
    assert_eq!((report.findings, report.erased, report.head.size), (vec![], 1, 16));
    let now = InclusionProof::of(&after, 13).unwrap();
    assert!(proof.holds(&head) && now.holds(&report.head) && !now.holds(&head));
    assert_eq!(store.erase(Whose::Subject("ada")).unwrap().queued, 0);
    assert!(store.gold("support").unwrap().is_empty());
}

#[test]
fn the_database_refuses_to_change_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let before = busy(folder.path()).audit().unwrap();
    let database = Connection::open(folder.path().join("store.db")).unwrap();
    for change in [
        "DELETE FROM audit WHERE sequence = 3",
        "DELETE FROM audit",
        "UPDATE audit SET actor = 'cli:somebody' WHERE sequence = 3",
        "UPDATE audit SET salt = x'00' WHERE sequence = 13",
        "UPDATE audit SET sequence = 99 WHERE sequence = 14",
        "INSERT INTO audit SELECT 99, at, actor, action, object, detail, commitment, leaf, salt, personal, subject FROM audit
         WHERE sequence = 3",
        "INSERT OR REPLACE INTO audit SELECT sequence, at, 'cli:somebody', action, object, detail, commitment, leaf, salt, personal,
         subject FROM audit WHERE sequence = 3",
    ] {
        let refused = database.execute(change, []).unwrap_err().to_string();
        assert!(refused.contains("the audit log"), "{change}: {refused}");
    }
    assert_eq!(Store::open(folder.path()).unwrap().audit().unwrap(), before);
    // What blanks is let through, and is all that is.
    assert_eq!(
        database.execute("UPDATE audit SET salt = NULL, personal = NULL, subject = NULL", []).unwrap(),
        15
    );
}

#[test]
fn whoever_writes_past_the_guards_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let store = busy(folder.path());
    let head = store.audit_head().unwrap();
    let database = Connection::open(folder.path().join("store.db")).unwrap();
    database.execute_batch("DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_not_shortened").unwrap();
    assert_eq!(store.missing_guards().unwrap(), ["audit_is_not_changed", "audit_is_not_shortened"]);
    let findings = |head: Option<&Head>| AuditReport::of(&store.audit().unwrap(), head, None).findings;
    database.execute("UPDATE audit SET actor = 'cli:somebody' WHERE sequence = 2", []).unwrap();
    database.execute("UPDATE audit SET personal = '{\"answer\":\"a\"}' WHERE sequence = 13", []).unwrap();
    database.execute("DELETE FROM audit WHERE sequence BETWEEN 4 AND 6", []).unwrap();
    assert_eq!(
        findings(None),
        [
            Finding::Removed { first: 4, last: 6 },
            Finding::Changed { sequence: 2 },
            Finding::PersonalChanged { sequence: 13 }
        ]
    );
    // The end of a log, cut off, is missed by nobody but who knows its head.
    database.execute("DELETE FROM audit WHERE sequence > 3", []).unwrap();
    assert_eq!(findings(None), [Finding::Changed { sequence: 2 }]);
    assert!(findings(Some(&head)).contains(&Finding::Shortened { size: 15, entries: 4 }));
}

/// Entries as an export has them.
fn exported(count: u64) -> Vec<AuditEntry> {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    for number in 1..count {
        store.note_start(serde_json::json!({ "start": number })).unwrap();
    }
    store.audit().unwrap()
}

/// An entry that is whole in itself, as somebody who can write everything anew would make it.
fn forged(entry: &AuditEntry) -> AuditEntry {
    let folder = tempfile::tempdir().unwrap();
    let other = Store::open(folder.path()).unwrap();
    for _ in 0..entry.sequence {
        other.note_start(serde_json::json!({ "forged": true })).unwrap();
    }
    let made = other.audit().unwrap().pop().unwrap();
    assert_eq!(made.sequence, entry.sequence);
    made
}

#[test]
fn a_log_written_anew_is_seen_by_its_head_and_named_by_an_earlier_export() {
    let before = exported(9);
    let head = AuditReport::of(&before, None, None).head;
    let mut after = before.clone();
    after[5] = forged(&before[5]);
    let alone = AuditReport::of(&after, None, None);
    assert_eq!((alone.findings, alone.anchored), (vec![], false));
    let with_head = AuditReport::of(&after, Some(&head), None);
    assert!(matches!(with_head.findings[..], [Finding::OtherHead { size: 9, .. }]));
    assert_eq!(AuditReport::of(&after, None, Some(&before)).findings, [Finding::Replaced { sequence: 5 }]);
    assert_eq!(
        AuditReport::of(&before[..7], None, Some(&before)).findings,
        [Finding::Removed { first: 7, last: 7 }, Finding::Removed { first: 8, last: 8 }]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_done_to_an_export_is_named(how in 0u8..5, one in 0usize..9, other in 0usize..9, letter in 0usize..200) {
        static EXPORT: std::sync::OnceLock<Vec<AuditEntry>> = std::sync::OnceLock::new();
        let before = EXPORT.get_or_init(|| exported(9));
        let head = AuditReport::of(before, None, None).head;
        let mut after = before.clone();
        let sequence = one as u64;
        let named = match how {
            0 => {
                drop(after.remove(one));
                if one == 8 { Finding::Shortened { size: 9, entries: 8 } } else { Finding::Removed { first: sequence, last: sequence } }
            }
            1 => {
                after.insert(other, before[one].clone());
                Finding::Inserted { sequence }
            }
            2 if one != other => {
                let entry = after.remove(one);
                after.insert(other, entry);
                // Where an entry went down, or others did not wait for it.
                if one < other { Finding::Moved { sequence } } else { Finding::Moved { sequence: other as u64 } }
            }
            3 => {
                // Another letter of its text.
                let text = serde_json::to_string(&before[one]).unwrap();
                let at = text.char_indices().filter(|(_, c)| c.is_ascii_lowercase()).nth(letter % 60).unwrap().0;
                let changed = if &text[at..=at] == "a" { "b" } else { "a" };
                let text = format!("{}{changed}{}", &text[..at], &text[at + 1..]);
                // Another letter in the name of a field is no entry any more.
                let Ok(entry) = serde_json::from_str(&text) else { return Ok(()) };
                after[one] = entry;
                Finding::Changed { sequence }
            }
            _ => {
                after[one].at.0 += 1;
                Finding::Changed { sequence }
            }
        };
        if after != *before {
            let findings = AuditReport::of(&after, Some(&head), None).findings;
            prop_assert!(findings.contains(&named), "{named:?} is not among {findings:?}");
        }
    }
}
