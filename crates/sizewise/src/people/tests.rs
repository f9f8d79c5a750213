//! Are shares drawn by ids alone, is nothing shown that would choose for somebody, and is agreement counted as it is?

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use super::{Person, agreement, answer, drawn, shown};
use sizewise_contract::{
    QueuedItem, StoredInput, Waits,
    task::{Adjudicate, People},
    units::UnixMillis,
};
use sizewise_store::{Entry, Recorder, Role, Store};

fn item(decision: &str, why: Waits) -> QueuedItem {
    QueuedItem {
        decision: decision.into(),
        task: "desk".into(),
        question: "team".into(),
        at: UnixMillis(7),
        input: StoredInput::Full("where is my parcel".into()),
        suggestion: "delivery".into(),
        confidence: 0.4,
        why,
    }
}

fn store(items: &[QueuedItem]) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let recorder = Recorder::start(folder.path()).unwrap();
    assert!(recorder.keep(vec![Entry { queued: items.to_vec(), ..Entry::default() }], |kept| assert!(kept)));
    drop(recorder);
    (folder, store)
}

fn person(name: &str, role: Role) -> Person {
    Person { name: name.into(), role }
}

#[test]
fn shares_hang_on_the_id_alone_and_on_nothing_of_each_other() {
    let items: Vec<QueuedItem> = (0..20_000).map(|n| item(&format!("d_{n}"), Waits::Unsure)).collect();
    let count = |hit: &dyn Fn(&QueuedItem) -> bool| items.iter().filter(|item| hit(item)).count();
    let double = |item: &QueuedItem| drawn(item, 0.1, "double");
    let suggested = |item: &QueuedItem| drawn(item, 0.1, "suggestion");
    assert!((1_850..2_150).contains(&count(&double)) && (1_850..2_150).contains(&count(&suggested)));
    assert!((140..260).contains(&count(&|item| double(item) && suggested(item))));
    assert_eq!((count(&|item| drawn(item, 0.0, "x")), count(&|item| drawn(item, 1.0, "x"))), (0, 20_000));
    // A larger share holds those of a smaller one: a setting that grows asks nobody anew.
    assert!(items.iter().filter(|item| double(item)).all(|item| drawn(item, 0.2, "double")));
}

#[test]
fn a_suggestion_is_shown_after_the_first_choice_and_never_with_a_probe() {
    let (_folder, store) = store(&[item("d_1", Waits::Unsure), item("d_2", Waits::Probe)]);
    let ann = person("ann", Role::Reviewer);
    let all = People { suggestion_share: 1.0, ..People::default() };
    let none = People::default();
    let seen = |people: &People, one: QueuedItem| shown(&store, (people, &ann), one).unwrap().unwrap();
    assert!(seen(&none, item("d_1", Waits::Unsure)).suggestion.is_some());
    assert!(seen(&all, item("d_1", Waits::Unsure)).suggestion.is_none());
    for people in [&all, &none] {
        assert!(seen(people, item("d_2", Waits::Probe)).suggestion.is_none());
    }
    let one = item("d_1", Waits::Unsure);
    let says = |label: &str, after| answer(&store, (&all, &ann), &one, (Some(label), after)).unwrap();
    let first = says("billing", false);
    assert_eq!((first.became, first.suggestion.as_deref()), ("suggested", Some("delivery")));
    // Sent twice by a browser: it is still the first choice.
    assert_eq!(says("billing", false).became, "suggested");
    let begun = seen(&all, one.clone());
    assert_eq!(begun.first.unwrap().answer.as_deref(), Some("billing"));
    assert_eq!(says("delivery", true).became, "gold");
    let probe = item("d_2", Waits::Probe);
    assert_eq!(answer(&store, (&all, &ann), &probe, (Some("billing"), false)).unwrap().became, "gold");
    let pull = agreement(&store, "desk").unwrap().suggestions;
    assert_eq!((pull.shown, pull.changed_to_it.unwrap().count), (1, 1));
    assert!(pull.it_was_right.is_none(), "nobody else has answered it");
}

#[test]
fn a_question_that_somebody_settled_meanwhile_is_shown_to_nobody() {
    let one = item("d_1", Waits::Unsure);
    let (_folder, store) = store(std::slice::from_ref(&one));
    let people = People::default();
    let (ann, bob) = (person("ann", Role::Reviewer), person("bob", Role::Reviewer));
    assert_eq!(answer(&store, (&people, &ann), &one, (Some("billing"), false)).unwrap().became, "gold");
    assert!(shown(&store, (&people, &bob), one).unwrap().is_none());
}

#[test]
fn two_differ_a_third_decides_and_all_of_it_is_counted() {
    let items: Vec<QueuedItem> = (0..40).map(|n| item(&format!("d_{n:02}"), Waits::Unsure)).collect();
    let (_folder, store) = store(&items);
    let people = People { double_share: 1.0, suggestion_share: 1.0, adjudicate: Adjudicate::Operator };
    let (ann, bob, eve) =
        (person("ann", Role::Reviewer), person("bob", Role::Reviewer), person("eve", Role::Operator));
    for (number, one) in items.iter().enumerate() {
        let truth = if number % 2 == 0 { "billing" } else { "delivery" };
        let says = |who: &Person, label: &str, after| {
            answer(&store, (&people, who), one, (Some(label), after)).unwrap().became
        };
        // Ann follows the suggestion away from what was right in ten of twenty, Bob never sees one.
        assert_eq!(says(&ann, truth, false), "suggested");
        let after = if truth == "billing" && number < 20 { "delivery" } else { truth };
        assert_eq!(says(&ann, after, true), "second");
        assert!(shown(&store, (&people, &ann), one.clone()).unwrap().is_none());
        let for_bob = shown(&store, (&people, &bob), one.clone()).unwrap().unwrap();
        assert!(for_bob.suggestion.is_none() && for_bob.differ.is_empty());
        let became = says(&bob, truth, false);
        assert_eq!(became, if after == truth { "gold" } else { "disputed" });
        if became == "disputed" {
            assert!(shown(&store, (&people, &bob), one.clone()).unwrap().is_none());
            let said = shown(&store, (&people, &eve), one.clone()).unwrap().unwrap().differ;
            assert_eq!(said.len(), 2);
            assert_eq!(says(&eve, truth, false), "gold");
        }
    }
    let found = agreement(&store, "desk").unwrap();
    let [team] = &found.questions[..] else { panic!("{found:?}") };
    // First choices: before the suggestion they were alike.
    assert_eq!((team.all.alike.count, team.all.alike.of, team.pairs.len()), (40, 40, 1));
    assert!((team.all.kappa.as_ref().unwrap().value - 1.0).abs() < 1e-12);
    assert_eq!(team.pairs[0].people, ["ann", "bob"]);
    let pull = found.suggestions;
    let [changed, right, first] =
        [pull.changed_to_it, pull.it_was_right, pull.first_was_right].map(Option::unwrap);
    assert_eq!((pull.shown, changed.count, changed.of), (40, 10, 20));
    assert_eq!((right.count, right.of, first.count, first.of), (0, 10, 10, 10));
}
