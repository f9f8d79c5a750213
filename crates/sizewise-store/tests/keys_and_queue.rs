//! Do keys open only what they should, and does the queue keep what people say?

use sizewise_contract::{QueuedItem, StoredInput, Waits, units::UnixMillis};
use sizewise_store::{Entry, Error, Recorder, Rights, Role, Store};
use std::sync::mpsc;

fn item(decision: &str, question: &str) -> QueuedItem {
    QueuedItem {
        decision: decision.into(),
        task: "support".into(),
        question: question.into(),
        at: UnixMillis(7),
        input: StoredInput::Full("where is my parcel".into()),
        suggestion: "delivery".into(),
        confidence: 0.4,
        why: Waits::Unsure,
    }
}

#[test]
fn a_key_has_the_rights_that_it_was_given_last() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let rights = Rights { tasks: Some(vec!["desk".into()]), team: Some("care".into()), ..Rights::default() };
    let key = store.create_key("the mail gateway", &rights).unwrap();
    let ring = store.key_ring().unwrap();
    let held = |ring: &sizewise_store::KeyRing| ring.verify(&key.key).unwrap().rights.clone();
    assert_eq!(held(&ring), rights);
    assert!(
        held(&ring).allow_task("desk") && !held(&ring).allow_task("other") && held(&ring).allow_model("any")
    );
    let rights = Rights { role: Role::Monitor, models: Some(Vec::new()), ..Rights::default() };
    store.change_key(&key.id, &rights).unwrap();
    ring.reload(&store).unwrap();
    assert_eq!(held(&ring), rights);
    assert!(!held(&ring).allow_model("any"));
    assert_eq!(store.keys().unwrap()[0].rights, rights);
    store.revoke_key(&key.id).unwrap();
    assert!(matches!(store.change_key(&key.id, &rights), Err(Error::UnknownKey { .. })));
}

#[test]
fn a_key_of_a_version_without_rights_may_do_everything() {
    let folder = tempfile::tempdir().unwrap();
    let key = Store::open(folder.path()).unwrap().create_key("old", &Rights::default()).unwrap();
    let database = rusqlite::Connection::open(folder.path().join("store.db")).unwrap();
    database.execute_batch(
            "ALTER TABLE keys DROP COLUMN rights; DROP TABLE kind_members; DROP TABLE kinds; DROP TABLE mix_rows; DROP TABLE bills; DROP TABLE labels; DROP TABLE renewals; DROP INDEX queue_by_stage;
             ALTER TABLE queue DROP COLUMN stage; DROP TABLE observed; DROP TABLE places; DROP TABLE probes;
             DROP TABLE probe_counts; DROP TABLE promise_changes; DROP TABLE trial_counts; DROP TABLE trial_differences; DROP TABLE trials;
             DROP INDEX queue_by_reason; ALTER TABLE queue DROP COLUMN why;
             PRAGMA user_version = 4;",
        ).unwrap();
    drop(database);
    let store = Store::open(folder.path()).unwrap();
    let holder = store.key_ring().unwrap().verify(&key.key).unwrap();
    assert_eq!(holder.rights, Rights { role: Role::Operator, ..Rights::default() });
}

#[test]
fn a_key_opens_until_it_is_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let ring = store.key_ring().unwrap();
    assert!(!ring.any());
    let key = store.create_key("the mail gateway", &Rights::default()).unwrap();
    let other = Store::open(folder.path()).unwrap().create_key("another", &Rights::default()).unwrap();
    ring.reload(&store).unwrap();
    assert_eq!(ring.verify(&key.key).map(|holder| holder.id.clone()).as_ref(), Some(&key.id));
    for wrong in [
        "",
        "sw_",
        "sw__",
        &key.key[..key.key.len() - 1],
        &format!("{}0", key.key),
        &key.key.replace(&key.id, &other.id),
        &key.key.to_uppercase(),
    ] {
        assert_eq!(ring.verify(wrong), None, "{wrong}");
    }
    store.revoke_key(&key.id).unwrap();
    ring.reload(&store).unwrap();
    assert_eq!(ring.verify(&key.key), None);
    assert!(ring.any());
    assert!(matches!(store.revoke_key("nobody"), Err(Error::UnknownKey { .. })));
    let database = std::fs::read(folder.path().join("store.db-wal")).unwrap();
    let own = key.key.rsplit('_').next().unwrap().as_bytes();
    assert!(
        !database.windows(own.len()).any(|window| window == own),
        "the secret is nowhere in the database"
    );
}

#[test]
fn answers_of_people_are_kept_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let recorder = Recorder::start(folder.path()).unwrap();
    let (told, kept) = mpsc::channel();
    let queued = vec![item("d_1", "team"), item("d_1", "urgent"), item("d_2", "team")];
    assert!(recorder.keep(vec![Entry { queued, ..Entry::default() }], move |ok| told.send(ok).unwrap()));
    assert!(kept.recv().unwrap());
    assert_eq!(store.queue_depths().unwrap()[0].waiting, 3);
    assert!(matches!(store.waiting_question("d_1", None), Err(Error::SeveralWaiting { .. })));
    let urgent = store.waiting_question("d_1", Some("urgent")).unwrap();
    store.answer(&urgent, Some("yes")).unwrap();
    assert!(matches!(store.answer(&urgent, Some("no")), Err(Error::NotWaiting { .. })));
    store.answer(&store.waiting_question("d_2", None).unwrap(), None).unwrap();
    assert_eq!(store.waiting(Some("support"), 10).unwrap().len(), 1);
    let gold = store.gold("support").unwrap();
    assert_eq!((gold.len(), gold[0].answer.as_str()), (1, "yes"));
}

#[test]
fn what_is_old_is_erased_but_not_what_people_said() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let recorder = Recorder::start(folder.path()).unwrap();
    let queued = vec![item("d_1", "team"), item("d_2", "team")];
    assert!(recorder.keep(vec![Entry { queued, ..Entry::default() }], |_| ()));
    drop(recorder);
    store.answer(&store.waiting_question("d_1", None).unwrap(), Some("delivery")).unwrap();
    assert_eq!(store.erase_before("support", UnixMillis(8)).unwrap(), 1);
    assert_eq!(store.gold("support").unwrap().len(), 1);
}
