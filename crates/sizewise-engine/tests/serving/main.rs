//! Does a served task answer what its certificate allows, and nothing else?

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use sizewise_contract::{
    Code, ContentHash, Decision, Diagnose, Disposition, EscalationReason, StoredInput, Tier,
    answer::EscalatedTo, task::StoreInput,
};
use sizewise_engine::{InputValue, QuestionRef, Request};
use sizewise_store::Whose;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

mod bills;
mod desk;
mod escalation;
mod kinds;
mod mix;
mod provider;
mod trials;

use desk::{Desk, TASK, ask, attach, publish};

const CLEAR: &str = "you charged my card twice, please refund the payment";
const STRANGE: &str = "which moon of jupiter would suit a bagpipe concert";

#[tokio::test]
async fn a_certified_question_is_answered_and_the_other_one_is_not() {
    let desk = Desk::trained(TASK);
    desk.certify(0.5);
    let decision = desk.engine(false).decide(ask(CLEAR)).await.unwrap().remove(0);
    let [team, urgent] = &decision.answers[..] else { panic!("two answers") };
    assert_eq!((team.disposition.clone(), team.value.as_str()), (Disposition::Answered, "billing"));
    assert_eq!((team.threshold, team.certified, team.tier), (Some(0.5), true, Tier::Static));
    let reason = EscalationReason::NotCertified;
    assert_eq!(urgent.disposition, Disposition::Escalated { reason, to: EscalatedTo::Person });
    assert!(!decision.certified);
    let allowed = desk.engine(true).decide(ask(CLEAR)).await.unwrap().remove(0);
    assert!(!allowed.certified && !allowed.answers[1].certified && allowed.answers[1].threshold.is_none());
}

#[tokio::test]
async fn what_nobody_is_sure_of_goes_through_every_tier_to_a_person() {
    let desk = Desk::trained(TASK);
    desk.certify(0.999_999);
    let engine = desk.engine(false);
    let request = Request { questions: Some(vec![QuestionRef(0)]), ..ask(STRANGE) };
    let decision = engine.decide(request).await.unwrap().remove(0);
    let [team] = &decision.answers[..] else { panic!("one answer") };
    let tiers: Vec<Tier> = team.path.iter().map(|step| step.tier).collect();
    assert_eq!(tiers, [Tier::Static, Tier::Encoder]);
    // No training row is out of scope and every one is easy: likeness alone says that this is neither.
    assert_eq!(team.confidence, Some(0.0));
    let reason = EscalationReason::OutOfScope;
    assert_eq!(team.disposition, Disposition::Escalated { reason, to: EscalatedTo::Person });
    assert!(!team.answered() && decision.input_tokens > 0);
    let waiting = desk.store.waiting(Some("desk"), 10).unwrap();
    assert_eq!((waiting.len(), waiting[0].decision.as_str()), (1, decision.id.as_str()));
    assert_eq!(waiting[0].input, StoredInput::Redacted(STRANGE.into()));
    let record = desk.store.record(&decision.id).unwrap().unwrap();
    assert_eq!(record.answers, decision.answers);
}

#[tokio::test]
async fn what_is_kept_changes_without_another_release_and_whom_it_is_about_can_be_erased() {
    let desk = Desk::trained(TASK);
    let engine = desk.engine(false);
    let asked = Request { subject: Some("customer-17".into()), ..ask(STRANGE) };
    let kept = engine.decide(asked.clone()).await.unwrap().remove(0);
    engine.keep([("desk".to_owned(), StoreInput::Nothing)].into());
    let not_kept = engine.decide(asked).await.unwrap().remove(0);
    assert_eq!(desk.store.record(&kept.id).unwrap().unwrap().input, StoredInput::Redacted(STRANGE.into()));
    assert_eq!(desk.store.record(&not_kept.id).unwrap().unwrap().input, StoredInput::Nothing);
    let to = |decision: &Decision| match &decision.answers[0].disposition {
        Disposition::Escalated { to, .. } => *to,
        Disposition::Answered => panic!("nobody is sure"),
    };
    assert_eq!((to(&kept), to(&not_kept)), (EscalatedTo::Person, EscalatedTo::None));
    let erased = desk.store.erase(Whose::Subject("customer-17")).unwrap();
    assert_eq!((erased.records, desk.store.record(&kept.id).unwrap()), (2, None));
    assert!(desk.store.waiting(None, 10).unwrap().is_empty());
}

#[tokio::test]
async fn what_is_kept_is_what_the_task_allows() {
    let desk = Desk::trained(&format!("{TASK}\n[privacy]\nstore = \"nothing\"\n"));
    let engine = desk.engine(false);
    let decision = engine.decide(ask(STRANGE)).await.unwrap().remove(0);
    assert_eq!(desk.store.record(&decision.id).unwrap().unwrap().input, StoredInput::Nothing);
    // Nothing can be put before a person that was not kept, so nothing is said to be.
    let nobody = |answer: &sizewise_contract::Answer| {
        matches!(answer.disposition, Disposition::Escalated { to: EscalatedTo::None, .. })
    };
    assert!(decision.answers.iter().all(nobody));
    assert!(desk.store.waiting(None, 10).unwrap().is_empty());
    drop(engine);
    let files = std::fs::read_dir(desk.folder.path().join("store")).unwrap().flatten();
    for file in files.filter(|entry| entry.path().is_file()) {
        let bytes = std::fs::read(file.path()).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"bagpipe"), "{}", file.path().display());
    }
    let dry = Request { dry_run: true, ..ask(CLEAR) };
    let before = desk.store.count_records("desk").unwrap();
    desk.engine(false).decide(dry).await.unwrap();
    assert_eq!(desk.store.count_records("desk").unwrap(), before);
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_refused_as_a_whole() {
    let desk = Desk::trained(TASK);
    let engine = desk.engine(true);
    let refused = async |request: Request| engine.decide(request).await.unwrap_err();
    let error = refused(Request { task: "dsk".into(), ..ask(CLEAR) }).await;
    assert_eq!((error.code(), error.hint().unwrap().as_str()), (Code::UnknownTask, "did you mean `desk`?"));
    let inputs = vec![InputValue::Text(CLEAR.into()), InputValue::Text("  ".into())];
    let error = refused(Request { inputs, ..ask(CLEAR) }).await;
    assert!(error.to_string().starts_with("input 1:"), "{error}");
    let error = refused(ask(&"word ".repeat(60_000))).await;
    assert_eq!(error.code(), Code::InputTooLong);
    let error = refused(Request { questions: Some(vec![QuestionRef(7)]), ..ask(CLEAR) }).await;
    assert_eq!(error.code(), Code::UnknownQuestion);
    assert_eq!(desk.store.count_records("desk").unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn switching_releases_under_load_fails_no_request_and_mixes_none() {
    let desk = Desk::trained(TASK);
    desk.certify(0.5);
    let second = publish(&desk.store, desk.folder.path(), TASK, 2);
    attach(&desk.store, &second, 0.75);
    let threshold = |release: &ContentHash| if *release == desk.release.id { 0.5 } else { 0.75 };
    let engine = Arc::new(desk.engine(false));
    let ended = Arc::new(AtomicBool::new(false));
    let asking: Vec<_> = (0..2)
        .map(|_| {
            let (engine, ended) = (Arc::clone(&engine), Arc::clone(&ended));
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while !ended.load(Ordering::Relaxed) {
                    let decision = engine.decide(ask(CLEAR)).await.unwrap().remove(0);
                    seen.push((decision.release, decision.answers[0].threshold.unwrap()));
                }
                seen
            })
        })
        .collect();
    for swap in 0..50 {
        desk.store.rollback("desk", None).unwrap();
        if swap % 2 == 0 {
            assert!(engine.load(&["desk".into()]).is_empty());
        } else {
            engine.take_up("desk").unwrap();
        }
        // The evidence about the one before is not read anew yet, and is none about this one.
        let decision = engine.decide(ask(CLEAR)).await.unwrap().remove(0);
        assert_eq!(decision.release, desk.store.in_force("desk").unwrap().unwrap().id);
        assert_eq!(decision.answers[0].threshold, Some(threshold(&decision.release)));
        assert!(engine.read_evidence().unwrap().is_empty());
    }
    ended.store(true, Ordering::Relaxed);
    for asked in asking {
        let seen = asked.await.unwrap();
        assert!(!seen.is_empty());
        assert!(seen.iter().all(|(release, found)| *found == threshold(release)));
    }
}
