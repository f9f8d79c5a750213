//! Does a changed mix of classes raise the threshold at once, and by no label?

use crate::desk::{Desk, TASK, ask};
use sizewise_contract::{PromiseState, Tier};
use sizewise_measure::{
    cascade::{RowOutcome, TierOutcome},
    mix::{Development, Labelled, MixRows, answer},
};

/// Rows of two classes: the first is always right, of the second half is right and sure, and of the rest two in five are wrong.
fn rows(count: usize) -> Vec<Development> {
    let row = |at: usize| {
        let class = at % 2;
        let (confidence, right) = match (class, at / 2 % 10) {
            (0, _) | (1, 0..5) => (0.99, true),
            (_, place) => (0.9, place < 8),
        };
        let tiers = vec![TierOutcome { tier: Tier::Static, confidence, right }];
        let row = Labelled { class, outcome: RowOutcome { tiers, out_of_scope: false, weight: 1.0 } };
        Development { row, said: answer(if right { class } else { 1 - class }, confidence) }
    };
    (0..count).map(row).collect()
}

#[tokio::test]
async fn a_class_that_is_often_wrong_and_grows_raises_the_threshold() {
    let desk = Desk::trained(TASK);
    desk.certify(0.5);
    let gold = rows(1_200).into_iter().map(|one| one.row).collect();
    let kept = MixRows { classes: 2, answers: 4, development: rows(1_200), gold };
    desk.store.keep_mix_rows(&desk.release.id, "team", &kept).unwrap();
    let engine = desk.engine(false);
    engine.read_evidence().unwrap();
    // Before anything came, nothing is known and nothing changes.
    assert!(engine.read_mixes().unwrap().is_empty());
    assert_eq!((engine.mixes("desk")[0].seen, &engine.mixes("desk")[0].found), (0, &None));
    for at in 0..320 {
        engine.decide(ask(&format!("the parcel is lost, number {at}"))).await.unwrap();
    }
    let changes = engine.read_mixes().unwrap();
    assert_eq!(changes.len(), 1, "{:?}", engine.mixes("desk"));
    let raised = changes[0].threshold.unwrap();
    assert!(raised > 0.9 && raised <= 0.99, "{raised}");
    assert_eq!((changes[0].from, changes[0].to), (PromiseState::Kept, PromiseState::Kept));
    let found = engine.mixes("desk")[0].found.clone().unwrap();
    assert!(found.shift.changed && found.grown[0].class == "delivery", "{found:?}");
    let (grown, (low, high)) = (&found.grown[0], found.grown[0].range.unwrap());
    assert!(low <= grown.now && grown.now <= high && low > grown.certified, "{grown:?}");
    assert_eq!((grown.gold, found.gold), (600, 1_200));
    assert_eq!(found.stricter_than(0.5), Some(raised));
    let answered = engine.decide(ask("the parcel is lost")).await.unwrap().remove(0);
    assert_eq!(answered.answers[0].threshold, Some(raised));
    // Said once, and it stays where the evidence of probes is read again.
    assert!(engine.read_mixes().unwrap().is_empty());
    engine.read_evidence().unwrap();
    let answered = engine.decide(ask("the parcel is lost")).await.unwrap().remove(0);
    assert_eq!(answered.answers[0].threshold, Some(raised));
    assert_eq!(desk.store.promise_changes("desk", 10).unwrap(), changes);
}
