//! Does what references say of probes keep its order, count once, and outlive whose it was?

#![allow(clippy::unwrap_used, reason = "a test")]

use sizewise_contract::{
    Answer, ContentHash, Disposition, Probe, ProbeStep, PromiseChange, PromiseState, QueuedItem, Record,
    Reference, StoredInput, Tier, Waits, units::UnixMillis,
};
use sizewise_store::{Entry, Fed, Recorder, Store, Whose};

fn release() -> ContentHash {
    ContentHash::of(b"release")
}

fn answer() -> Answer {
    Answer {
        question: "team".into(),
        disposition: Disposition::Answered,
        value: "billing".into(),
        class: 0,
        confidence: Some(0.9),
        threshold: Some(0.8),
        probabilities: vec![0.9, 0.1],
        tier: Tier::Static,
        certified: true,
        handed_on: None,
        remote: None,
        path: Vec::new(),
    }
}

/// A decision that was drawn, and waits for a person where `waits` says so.
fn entry(decision: &str, input: StoredInput, waits: bool) -> Entry {
    let queued = QueuedItem {
        decision: decision.into(),
        task: "support".into(),
        question: "team".into(),
        at: UnixMillis(5),
        input: input.clone(),
        suggestion: "billing".into(),
        confidence: 0.9,
        why: Waits::Probe,
    };
    let probe = Probe {
        decision: decision.into(),
        task: "support".into(),
        question: "team".into(),
        release: release(),
        at: UnixMillis(5),
        probability: 0.02,
        weight: 1.0,
        group: Some("de".into()),
        reference: Reference::Person,
        path: vec![ProbeStep { tier: Tier::Static, value: "billing".into(), confidence: 0.9 }],
    };
    let record = Record {
        id: decision.into(),
        task: "support".into(),
        release: release(),
        at: UnixMillis(5),
        input,
        answers: vec![answer()],
        elapsed_us: 9,
        key_id: None,
    };
    Entry {
        record: Some(record),
        queued: if waits { vec![queued] } else { Vec::new() },
        probes: vec![probe],
        subject: Some("anna@example.org".into()),
        ..Entry::default()
    }
}

fn keep(store: &Store, entries: Vec<Entry>) {
    let recorder = Recorder::start(store.folder()).unwrap();
    assert!(recorder.keep(entries, |kept| assert!(kept)));
    drop(recorder);
}

fn full(text: &str) -> StoredInput {
    StoredInput::Full(text.into())
}

#[test]
fn what_people_and_models_say_is_told_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    keep(
        &store,
        vec![
            entry("d_1", full("one"), true),
            entry("d_2", full("two"), true),
            entry("d_3", full("three"), false),
        ],
    );
    let counts = || store.probe_counts(&release(), "team").unwrap();
    assert_eq!((counts().drawn, counts().told), (3, 0));
    let mark = store.mark().unwrap();
    // Probes come first, and the second is answered first.
    let item = store.waiting_question("d_2", None).unwrap();
    store.answer(&item, Some("delivery")).unwrap();
    assert_ne!(store.mark().unwrap(), mark);
    let told = ("d_3".to_owned(), "team".to_owned(), "billing".to_owned());
    keep(&store, vec![Entry { told: vec![told.clone(), told], ..Entry::default() }]);
    let record = store.record("d_1").unwrap().unwrap();
    assert_eq!(store.feedback(&record, "team", "billing", Some("k_1")).unwrap(), Fed::Answered);
    assert_eq!(store.feedback(&record, "team", "billing", None).unwrap(), Fed::Known);
    let refused = store.feedback(&record, "team", "delivery", None).unwrap_err().to_string();
    assert!(refused.contains("`billing` was said before"), "{refused}");
    let told = store.told_probes(&release(), "team", 0).unwrap();
    let said: Vec<(i64, &str)> = told.iter().map(|probe| (probe.told, probe.truth.as_str())).collect();
    assert_eq!(said, [(1, "delivery"), (2, "billing"), (3, "billing")]);
    assert_eq!(told[0].path[0].value, "billing");
    assert_eq!(store.told_probes(&release(), "team", 2).unwrap().len(), 1);
    assert_eq!((counts().drawn, counts().told), (3, 3));
    assert_eq!(store.gold("support").unwrap().len(), 2);
    assert!(store.waiting(None, 9).unwrap().is_empty());
}

#[test]
fn feedback_nobody_asked_for_is_gold_where_the_input_was_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let without_probe = |decision: &str, input| Entry { probes: Vec::new(), ..entry(decision, input, false) };
    keep(&store, vec![without_probe("d_1", full("one")), without_probe("d_2", StoredInput::Nothing)]);
    let record = |id: &str| store.record(id).unwrap().unwrap();
    assert_eq!(store.feedback(&record("d_1"), "team", "delivery", None).unwrap(), Fed::Kept);
    assert_eq!(store.feedback(&record("d_2"), "team", "delivery", None).unwrap(), Fed::Counted);
    assert!(store.feedback(&record("d_1"), "urgent", "yes", None).is_err());
    let gold = store.gold("support").unwrap();
    assert_eq!((gold.len(), gold[0].answer.as_str(), gold[0].item.why), (1, "delivery", Waits::Feedback));
    assert!(store.told_probes(&release(), "team", 0).unwrap().is_empty());
    let last = store.audit().unwrap().pop().unwrap();
    assert_eq!((last.action.as_str(), &last.detail["probe"]), ("feedback.given", &false.into()));
}

#[test]
fn an_erased_person_leaves_a_count_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    keep(&store, vec![entry("d_1", full("one"), true)]);
    store.answer(&store.waiting_question("d_1", None).unwrap(), Some("delivery")).unwrap();
    let erased = store.erase(Whose::Subject("anna@example.org")).unwrap();
    assert_eq!((erased.records, erased.gold), (1, 1));
    assert_eq!(store.told_probes(&release(), "team", 0).unwrap().len(), 1);
    let bytes = std::fs::read(folder.path().join("store.db")).unwrap();
    let holds = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
    assert!(holds(b"billing") && !holds(b"\"one\""));
    let probe = entry("d_1", full("again"), false);
    keep(&store, vec![probe]);
    assert_eq!(store.probe_counts(&release(), "team").unwrap().drawn, 2);
}

#[test]
fn a_change_of_a_promise_is_written_once_whoever_finds_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let change = PromiseChange {
        task: "support".into(),
        question: "team".into(),
        release: release(),
        group: None,
        at: UnixMillis(9),
        told: 120,
        from: PromiseState::Kept,
        to: PromiseState::InDoubt,
        threshold: Some(0.97),
        reason: "of the latest answers more than 5 % seem to be wrong".into(),
    };
    assert!(store.note_promise(&change).unwrap());
    assert!(!store.note_promise(&change).unwrap());
    assert_eq!(store.promise_changes("support", 10).unwrap(), [change]);
    let written = store.audit().unwrap().iter().filter(|entry| entry.action == "promise.changed").count();
    assert_eq!(written, 1);
}
