//! Is what larger models were paid put down beside the decision that they were asked about?

use super::{
    CLEAR, STRANGE,
    desk::{Desk, TASK, ask},
    provider::{Does, Scripted},
};
use sizewise_contract::{
    Bill, Reference,
    task::Live,
    task::MayLeave,
    units::{MicroUsd, UnixMillis},
};
use sizewise_engine::{Escalation, Ledgers};
use sizewise_store::Whose;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

#[tokio::test]
async fn what_was_escalated_and_what_was_probed_each_have_their_bill_and_it_goes_with_the_record() {
    let desk = Desk::trained(TASK);
    desk.certify(0.5);
    let scripted = Scripted::plays(&[Does::Says(r#"{"team":"billing","urgent":"yes"}"#)]).await;
    let engine = desk.engine(true);
    let ledgers = Ledgers::start(Arc::clone(&desk.store));
    let escalation = Escalation {
        targets: vec![Arc::clone(&scripted.provider)],
        may_leave: MayLeave::Never,
        recall: None,
        money: ledgers.ledger("desk", Vec::new()),
        patience: Duration::from_secs(5),
    };
    engine.escalate_to(BTreeMap::from([("desk".to_owned(), escalation)]));
    let rules =
        Live { probe_share: 1.0, probes_per_day: 1_000_000, reference: Reference::Remote, look_share: 0.0 };
    engine.watch_by(BTreeMap::from([("desk".to_owned(), rules)]));
    let local = engine.decide(ask(CLEAR)).await.unwrap().remove(0);
    let strange = engine.decide(ask(STRANGE)).await.unwrap().remove(0);
    let start = (UnixMillis(0), String::new());
    let billed = || desk.store.billed_after("desk", &start, 10).unwrap();
    let begun = Instant::now();
    while !billed().iter().any(|one| one.record.id == local.id && one.probe.is_some()) {
        assert!(begun.elapsed() < Duration::from_secs(10), "the probe's bill never came");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let bill = Bill { provider: "primary".into(), micro_usd: MicroUsd(120), read: 100, written: 10 };
    let of = |id: &str| billed().into_iter().find(|one| one.record.id == id).unwrap();
    // Sure of everything here: asked behind the caller's back alone.
    assert!(local.answers.iter().all(|answer| answer.remote.is_none()));
    assert_eq!((of(&local.id).escalated, of(&local.id).probe), (None, Some(bill.clone())));
    assert!(of(&local.id).drawn.is_some_and(|probability| probability > 0.0));
    assert_eq!(
        of(&strange.id).escalated,
        strange.answers.iter().any(|answer| answer.remote.is_some()).then_some(bill)
    );
    desk.store.erase(Whose::Decision(&local.id)).unwrap();
    assert!(billed().iter().all(|one| one.record.id != local.id));
    assert!(desk.store.moment_of_latest("desk", 1).unwrap().is_some());
    assert_eq!(desk.store.moment_of_latest("desk", 9).unwrap(), None);
    desk.store.erase_before("desk", UnixMillis(i64::MAX)).unwrap();
    assert!(billed().is_empty());
}
