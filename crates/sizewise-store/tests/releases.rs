//! Is the release in force always a whole one, and is an opening always counted?

#![allow(clippy::unwrap_used, reason = "a test")]

use sizewise_contract::{
    Certificate, ContentHash, Task, Verdict, certificate::Counts, task::Promise, units::UnixMillis,
};
use sizewise_store::{Error, NewRelease, Release, Store};

const TASK: &str = "schema = 1\nname = \"support\"\n[[question]]\nname = \"team\"\ntype = \"choice\"\nchoices = [{ value = \"a\" }, { value = \"b\" }]\n";

fn publish(store: &Store, weights: &[u8]) -> Release {
    let parts = [("models.json".to_owned(), b"{}".to_vec()), ("head".to_owned(), weights.to_vec())];
    let task = Task::parse(TASK).unwrap();
    let new = NewRelease {
        task_file: TASK,
        task: &task,
        training_rows: ContentHash::of(b"rows"),
        locked_rows: ContentHash::of(b"locked"),
        parts: &parts,
        made_by: "test",
    };
    store.publish(new).unwrap()
}

fn certificate(release: &Release, verdict: Verdict) -> Certificate {
    let hash = ContentHash::of(b"x");
    Certificate {
        schema: 1,
        task: "support".into(),
        question: "team".into(),
        promise: Promise::default(),
        threshold: verdict.is_certified().then_some(0.9),
        verdict,
        counts: Counts::default(),
        tests: vec![],
        chance_before: 0.9,
        openings_planned: 1,
        opening: 1,
        opened_at: UnixMillis(1),
        contract: release.manifest.contract,
        locked_rows: hash,
        development_rows: hash,
        models: release.models(),
        slices: vec![],
        gates: vec![],
        overridden: None,
    }
}

fn certify(store: &Store, release: &Release, rows: &[u8], verdict: Verdict) -> bool {
    let opening = store.begin_opening("support", &ContentHash::of(rows), &release.id, (1, None)).unwrap();
    store.finish_opening(opening, &[certificate(release, verdict)]).unwrap()
}

#[test]
fn a_new_release_waits_until_it_proves_what_the_old_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.in_force("support").unwrap(), None);
    let first = publish(&store, b"1");
    let second = publish(&store, b"2");
    assert_eq!(store.in_force("support").unwrap().unwrap().id, second.id, "neither proves anything");
    assert!(certify(&store, &second, b"rows 1", Verdict::Certified));
    let third = publish(&store, b"3");
    assert_eq!(store.in_force("support").unwrap().unwrap().id, second.id);
    assert_eq!(store.latest("support").unwrap().unwrap().id, third.id);
    assert!(!certify(&store, &third, b"rows 2", Verdict::InsufficientEvidence { label_more: 9 }));
    assert_eq!(store.in_force("support").unwrap().unwrap().id, second.id);
    let fourth = publish(&store, b"4");
    assert!(certify(&store, &fourth, b"rows 3", Verdict::Certified));
    let now = store.in_force("support").unwrap().unwrap();
    assert_eq!((now.id, now.certificate("team").unwrap().threshold), (fourth.id, Some(0.9)));
    assert_eq!(store.rollback("support", None).unwrap().id, second.id);
    assert_eq!(store.rollback("support", Some(&first.id.to_string()[..12])).unwrap().id, first.id);
    assert!(matches!(store.rollback("support", Some("zzzz")), Err(Error::UnknownRelease { .. })));
    assert_eq!(store.history("support").unwrap().len(), 5);
}

#[test]
fn a_damaged_part_is_found_and_never_put_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let first = publish(&store, b"first weights");
    let second = publish(&store, b"second weights");
    let part = first.manifest.parts.iter().find(|part| part.name == "head").unwrap();
    let digits = part.hash.to_string();
    let path = folder.path().join("objects").join(&digits[..2]).join(&digits[2..]);
    std::fs::write(&path, b"first weightz").unwrap();
    assert!(matches!(store.part(&first, "head"), Err(Error::Object { .. })));
    assert!(matches!(store.rollback("support", None), Err(Error::Object { .. })));
    assert_eq!(store.in_force("support").unwrap().unwrap().id, second.id);
    assert_eq!(store.check().unwrap().len(), 1);
}

#[test]
fn locked_rows_open_as_often_as_planned_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let rows = ContentHash::of(b"locked");
    let release = publish(&Store::open(folder.path()).unwrap(), b"1");
    {
        // Whoever stops after this has spent the opening.
        let store = Store::open(folder.path()).unwrap();
        let _spent = store.begin_opening("support", &rows, &release.id, (2, None)).unwrap();
    }
    let store = Store::open(folder.path()).unwrap();
    let second = store.begin_opening("support", &rows, &release.id, (2, None)).unwrap();
    assert_eq!(second.ordinal, 2);
    let changed = store.begin_opening("support", &rows, &release.id, (3, None));
    assert!(matches!(changed, Err(Error::PlanChanged { first: 2, planned: 3, .. })));
    let third = store.begin_opening("support", &rows, &release.id, (2, None));
    assert!(matches!(third, Err(Error::OpeningsSpent { opened: 2, planned: 2, .. })));
    assert!(!store.openings("support").unwrap()[0].finished);
    // A certificate tells another store the same.
    let other = ContentHash::of(b"other rows");
    let known = store.begin_opening("support", &other, &release.id, (1, Some((1, 1))));
    assert!(matches!(known, Err(Error::OpeningsSpent { opened: 1, planned: 1, .. })));
    let changed = store.begin_opening("support", &other, &release.id, (5, Some((1, 1))));
    assert!(matches!(changed, Err(Error::PlanChanged { first: 1, planned: 5, .. })));
}

#[test]
fn a_damaged_database_is_named_with_a_way_out() {
    use sizewise_contract::{Code, Diagnose};
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(folder.path()).unwrap());
    let path = folder.path().join("store.db");
    for damage in [&b"not a database at all, but long enough to be read as one"[..], &[0xff; 4096]] {
        std::fs::write(&path, damage).unwrap();
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(folder.path().join(format!("store.db{suffix}")));
        }
        let error = Store::open(folder.path()).unwrap_err();
        assert_eq!(error.code(), Code::StoreDamaged, "{error}");
        assert!(error.to_string().contains("store.db") && error.hint().is_some());
    }
}

#[test]
fn what_a_gate_refuses_goes_in_force_only_with_a_reason_that_is_audited() {
    use sizewise_contract::{Gate, GateName, GateResult};
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let first = publish(&store, b"the first");
    assert!(certify(&store, &first, b"rows of the first", Verdict::Certified));
    let second = publish(&store, b"the second");
    let mut refused = certificate(&second, Verdict::Certified);
    let found = "language de: 30 of 100 answers wrong".into();
    refused.gates.push(Gate { name: GateName::Slices, found, result: GateResult::Refuse, hint: None });
    let rows = ContentHash::of(b"rows of the second");
    let opening = store.begin_opening("support", &rows, &second.id, (1, None)).unwrap();
    assert!(!store.finish_opening(opening, &[refused]).unwrap());
    let name = second.id.to_string();
    assert!(matches!(store.promote("support", &name, None), Err(Error::NotPromoted { .. })));
    assert!(matches!(store.promote("support", &name, Some(" ")), Err(Error::NotPromoted { .. })));
    assert_eq!(store.in_force("support").unwrap().unwrap().id, first.id);
    // Gone back to by another way, it answers nothing all the same.
    assert!(store.rollback("support", Some(&name)).unwrap().certificate("team").is_none());
    store.rollback("support", Some(&first.id.to_string())).unwrap();
    let promoted = store.acting_as("ada").promote("support", &name, Some("people look at German")).unwrap();
    assert!(promoted.certificate("team").is_some());
    let now = store.in_force("support").unwrap().unwrap();
    assert_eq!((now.id, now.certificate("team").is_some()), (second.id, true));
    let overridden = now.certificates[0].overridden.as_ref().unwrap();
    assert_eq!((overridden.actor.as_str(), overridden.reason.as_str()), ("ada", "people look at German"));
}

#[test]
fn a_release_that_is_looked_at_again_keeps_an_override_only_for_what_was_overridden() {
    use sizewise_contract::{Gate, GateName, GateResult};
    let gate = |name, result| Gate { name, found: "it was measured".into(), result, hint: None };
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let first = publish(&store, b"the first");
    assert!(certify(&store, &first, b"rows of the first", Verdict::Certified));
    let second = publish(&store, b"the second");
    let mut refused = certificate(&second, Verdict::Certified);
    refused.gates.push(gate(GateName::Latency, GateResult::Refuse));
    let opening = store.begin_opening("support", &ContentHash::of(b"2"), &second.id, (1, None)).unwrap();
    store.finish_opening(opening, &[refused]).unwrap();
    let (id, look) = (second.id.to_string(), |release: &Release, gates: &[Gate]| {
        store.look_again(release, &[("team".into(), gates.to_vec()), ("other".into(), vec![])]).unwrap()
    });
    store.promote("support", &id, Some("slow is well")).unwrap();
    store.rollback("support", None).unwrap();
    let again = look(&second, &[gate(GateName::Memory, GateResult::Pass)]);
    assert!(again.certificates[0].may_answer(), "what was overridden is as it was");
    let again = look(&second, &[gate(GateName::Memory, GateResult::Refuse)]);
    assert!(!again.certificates[0].may_answer() && again.certificates[0].overridden.is_none());
    assert_eq!(store.release("support", &id).unwrap().certificates, again.certificates);
    assert!(store.promote("support", &id, None).is_err());
    // What answers callers is told of, and goes on.
    let told = look(&first, &[gate(GateName::Licence, GateResult::Refuse)]);
    assert!(told.certificates[0].is_refused());
    assert!(store.in_force("support").unwrap().unwrap().certificate("team").is_some());
    let cured = look(&second, &[gate(GateName::Memory, GateResult::Pass)]);
    assert!(!cured.certificates[0].may_answer(), "latency refuses, and its override is gone");
}
