//! Do two people answer without each other, and is nothing gold before it is settled?

#![allow(clippy::unwrap_used, reason = "a test")]

use sizewise_contract::{QueuedItem, StoredInput, Waits, units::UnixMillis};
use sizewise_store::{Became, Entry, Error, Recorder, Said, Stage, Store, Whose};

fn item(decision: &str) -> QueuedItem {
    QueuedItem {
        decision: decision.into(),
        task: "support".into(),
        question: "team".into(),
        at: UnixMillis(7),
        input: StoredInput::Full("where is my parcel".into()),
        suggestion: "delivery".into(),
        confidence: 0.4,
        why: Waits::Unsure,
    }
}

fn store(decisions: &[&str]) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let recorder = Recorder::start(folder.path()).unwrap();
    let queued = decisions.iter().map(|decision| item(decision)).collect();
    let entry = Entry { queued, subject: Some("anna".into()), ..Entry::default() };
    assert!(recorder.keep(vec![entry], |kept| assert!(kept)));
    drop(recorder);
    (folder, store)
}

fn says<'a>(person: &'a str, answer: Option<&'a str>) -> Said<'a> {
    Said { person, answer, double: true, adjudicates: false }
}

#[test]
fn what_two_say_alike_is_gold_and_not_before() {
    let (_folder, store) = store(&["d_1"]);
    let one = item("d_1");
    assert_eq!(store.label(&one, &says("ann", Some("billing"))).unwrap(), Became::Second);
    assert!(store.gold("support").unwrap().is_empty());
    assert_eq!(store.waiting_longest("support", Waits::Unsure, 9).unwrap(), []);
    let left = |person: &str| store.waiting_for_another("support", (person, true), 9).unwrap().len();
    assert_eq!((left("ann"), left("bob")), (0, 1));
    assert!(matches!(store.label(&one, &says("ann", Some("billing"))), Err(Error::SaidBefore { .. })));
    // Nothing of what the first one said is in the log yet.
    let log = serde_json::to_string(&store.audit().unwrap()).unwrap();
    assert!(log.contains("queue.labelled") && !log.contains("billing"), "{log}");
    assert_eq!(store.place(&one, "bob").unwrap().differ, []);
    assert_eq!(store.label(&one, &says("bob", Some("billing"))).unwrap(), Became::Gold);
    assert_eq!(store.gold("support").unwrap()[0].answer, "billing");
    assert_eq!(store.answered_since("support", UnixMillis(0)).unwrap(), 2);
    assert!(matches!(store.label(&one, &says("eve", Some("billing"))), Err(Error::NotWaiting { .. })));
}

#[test]
fn where_two_differ_a_third_who_may_decides_and_sees_both() {
    let (_folder, store) = store(&["d_1"]);
    let one = item("d_1");
    store.label(&one, &says("ann", Some("billing"))).unwrap();
    assert_eq!(store.label(&one, &says("bob", None)).unwrap(), Became::Disputed);
    assert_eq!(store.unsettled("support").unwrap(), (0, 1));
    assert!(store.waiting_for_another("support", ("eve", false), 9).unwrap().is_empty());
    assert!(matches!(store.label(&one, &says("eve", Some("delivery"))), Err(Error::NotTheirs { .. })));
    let place = store.place(&one, "eve").unwrap();
    assert_eq!((place.stage, place.differ), (Stage::Disputed, vec![None, Some("billing".into())]));
    let decides = |person| Said { adjudicates: true, ..says(person, Some("delivery")) };
    assert!(matches!(store.label(&one, &decides("ann")), Err(Error::SaidBefore { .. })), "one of the two");
    assert_eq!(store.label(&one, &decides("eve")).unwrap(), Became::Gold);
    let said = store.person_labels("support", 99).unwrap();
    let places: Vec<(&str, u8)> = said.iter().map(|one| (one.person.as_str(), one.place)).collect();
    assert_eq!(places, [("ann", 1), ("bob", 2), ("eve", 3)]);
    assert!(said.iter().all(|one| one.settled.as_deref() == Some("delivery")));
}

#[test]
fn both_choices_around_a_suggestion_are_kept_and_go_with_the_person() {
    let (_folder, store) = store(&["d_1", "d_2"]);
    let one = item("d_1");
    let single = |answer| Said { double: false, ..says("ann", Some(answer)) };
    store.choose_first(&one, "ann", Some("billing")).unwrap();
    assert!(matches!(store.choose_first(&one, "ann", Some("delivery")), Err(Error::SaidBefore { .. })));
    let begun = store.place(&one, "ann").unwrap().begun;
    assert_eq!(begun, Some((Some("billing".into()), "delivery".into())));
    assert!(store.gold("support").unwrap().is_empty());
    assert_eq!(store.label(&one, &single("delivery")).unwrap(), Became::Gold);
    let said = store.person_labels("support", 99).unwrap().remove(0);
    let choices = (said.first.as_deref(), said.said.as_deref(), said.suggested.as_deref());
    assert_eq!(choices, (Some("billing"), Some("delivery"), Some("delivery")));
    store.label(&item("d_2"), &says("ann", Some("billing"))).unwrap();
    store.erase(Whose::Subject("anna")).unwrap();
    assert!(store.person_labels("support", 99).unwrap().is_empty());
    assert_eq!(store.answered_since("support", UnixMillis(0)).unwrap(), 0);
}
