//! Does a release on trial answer what it may, mix with nothing, cost nobody anything, and end when its evidence says so?

use crate::{
    CLEAR,
    desk::{Desk, TASK, ask, attach, publish, publish_contrary},
};
use sizewise_contract::{ContentHash, Trial, TrialMode};
use sizewise_engine::{Engine, Feedback, InputValue, Request};
use sizewise_store::Release;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

fn begin(desk: &Desk, release: &Release, mode: TrialMode, share: f64) -> Trial {
    desk.store.begin_trial("desk", &release.id.to_string(), (mode, share)).unwrap()
}

/// An engine that takes part in trials.
fn trying(desk: &Desk) -> Engine {
    let engine = desk.engine(false);
    assert!(engine.run_trials().unwrap().is_empty());
    engine
}

fn from(subject: &str) -> Request {
    Request { subject: Some(subject.into()), ..ask(CLEAR) }
}

async fn release_for(engine: &Engine, request: Request) -> ContentHash {
    let decisions = engine.decide(request).await.unwrap();
    assert!(decisions.iter().all(|decision| decision.release == decisions[0].release), "mixed");
    decisions[0].release
}

#[tokio::test]
async fn a_canary_answers_its_share_by_subject_and_whole_requests_until_it_is_put_in_force() {
    let desk = Desk::trained(TASK);
    desk.certify(0.5);
    let second = publish(&desk.store, desk.folder.path(), TASK, 2);
    attach(&desk.store, &second, 0.75);
    desk.store.rollback("desk", Some(&desk.release.id.to_string())).unwrap();
    let engine = trying(&desk);
    begin(&desk, &second, TrialMode::Canary, 0.4);
    assert!(engine.load(&["desk".into()]).is_empty());
    let subjects: Vec<String> = (0..60).map(|n| format!("customer-{n}")).collect();
    let mut first = BTreeMap::new();
    for subject in &subjects {
        first.insert(subject, release_for(&engine, from(subject)).await);
    }
    let by_canary = first.values().filter(|release| **release == second.id).count();
    assert!((10..40).contains(&by_canary), "{by_canary}");
    // Another engine over the same store, as another server or a restart, comes to the same.
    let other = trying(&desk);
    for subject in &subjects {
        assert_eq!(release_for(&other, from(subject)).await, first[subject]);
    }
    // Without a subject chance decides, and each request is answered by one release alone.
    let inputs = vec![InputValue::Text(CLEAR.into()), InputValue::Text("the parcel is lost".into())];
    let mut seen = BTreeMap::new();
    for _ in 0..40 {
        let request = Request { inputs: inputs.clone(), ..ask(CLEAR) };
        *seen.entry(release_for(&engine, request).await).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    // What is tried in the console is asked of the release in force.
    for subject in &subjects {
        let dry = Request { dry_run: true, ..from(subject) };
        assert_eq!(release_for(&engine, dry).await, desk.release.id);
    }
    let [standing] = &engine.trials().unwrap()[..] else { panic!("one trial") };
    assert_eq!((standing.trial.share, standing.counted), (0.4, [60 + 80, 0, 0]));
    let decision = engine.decide(from(subjects.iter().find(|s| first[s] == second.id).unwrap())).await;
    let decision = decision.unwrap().remove(0);
    assert_eq!((decision.release, decision.answers[0].threshold), (second.id, Some(0.75)));
    assert_eq!(desk.store.record(&decision.id).unwrap().unwrap().release, second.id);
    desk.store.promote("desk", &second.id.to_string(), None).unwrap();
    engine.take_up("desk").unwrap();
    assert!(engine.trials().unwrap().is_empty());
    for subject in &subjects {
        assert_eq!(release_for(&engine, from(subject)).await, second.id);
    }
    let number = desk.store.latest_trial("desk").unwrap().unwrap().number;
    drop((engine, other));
    let [(live, counted)] = &desk.store.comparisons(number).unwrap()[..] else { panic!("one comparison") };
    let team = counted.questions["team"];
    assert_eq!((*live, counted.inputs, team.live.asked + team.trial.asked), (desk.release.id, 201, 201));
    assert!(team.trial.answered > 0 && counted.trial_took.quantile(0.5).is_some() && team.both == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn switches_under_a_canary_fail_no_request_and_mix_none() {
    let desk = Desk::trained(TASK);
    desk.certify(0.5);
    let second = publish(&desk.store, desk.folder.path(), TASK, 2);
    attach(&desk.store, &second, 0.75);
    let threshold = |release: &ContentHash| if *release == desk.release.id { 0.5 } else { 0.75 };
    let engine = Arc::new(trying(&desk));
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
    for swap in 0..40 {
        let live = desk.store.in_force("desk").unwrap().unwrap().id;
        let other = if live == second.id { &desk.release } else { &second };
        begin(&desk, other, TrialMode::Canary, 1.0);
        engine.take_up("desk").unwrap();
        assert_eq!(release_for(&engine, ask(CLEAR)).await, other.id);
        if swap % 2 == 0 {
            desk.store.promote("desk", &other.id.to_string(), None).unwrap();
            assert!(engine.load(&["desk".into()]).is_empty());
            assert_eq!(release_for(&engine, ask(CLEAR)).await, other.id);
        } else {
            desk.store.end_trial("desk", "enough").unwrap();
            engine.take_up("desk").unwrap();
            assert_eq!(release_for(&engine, ask(CLEAR)).await, live);
        }
    }
    ended.store(true, Ordering::Relaxed);
    for asked in asking {
        let seen = asked.await.unwrap();
        assert!(!seen.is_empty());
        assert!(seen.iter().all(|(release, found)| *found == threshold(release)));
    }
}

#[tokio::test]
async fn a_canary_whose_promise_weakens_ends_by_itself_and_its_evidence_is_its_own() {
    let desk = Desk::trained(&format!("{TASK}\n[live]\nprobe_share = 1.0\nprobes_per_day = 1000000000\n"));
    desk.certify(0.5);
    let text = desk.release.manifest.task_file.clone();
    let second = publish(&desk.store, desk.folder.path(), &text, 2);
    attach(&desk.store, &second, 0.5);
    desk.store.rollback("desk", Some(&desk.release.id.to_string())).unwrap();
    begin(&desk, &second, TrialMode::Canary, 0.5);
    let engine = trying(&desk);
    assert!(engine.read_evidence().unwrap().is_empty());
    let mut told = 0;
    let mut changes = Vec::new();
    while engine.trials().unwrap().len() == 1 {
        let decision = engine.decide(ask(CLEAR)).await.unwrap().remove(0);
        // What the canary answers is wrong, as people say; what the release in force answers is right.
        let label = if decision.release == second.id { "delivery" } else { "billing" };
        let feedback = Feedback {
            task: "desk".into(),
            decision: decision.id,
            question: Some("team".into()),
            label: label.into(),
            key_id: None,
        };
        engine.feedback(&feedback).unwrap();
        changes.extend(engine.read_evidence().unwrap());
        told += 1;
        assert!(told < 400, "the canary goes on although everything is wrong");
    }
    assert!(!changes.is_empty() && changes.iter().all(|change| change.release == second.id));
    let [ended] = &engine.ended_trials()[..] else { panic!("it is told once") };
    assert!(ended.because.contains("its promise about `team` is"), "{}", ended.because);
    assert!(engine.ended_trials().is_empty());
    assert_eq!(desk.store.trial("desk").unwrap(), None);
    let last = desk.store.audit().unwrap().pop().unwrap();
    assert_eq!(
        (last.action.as_str(), last.detail["because"].as_str()),
        ("trial.ended", Some(&*ended.because))
    );
    for _ in 0..20 {
        assert_eq!(release_for(&engine, ask(CLEAR)).await, desk.release.id);
    }
    assert!(engine.standings("desk").unwrap().iter().all(|standing| standing.state.name() == "kept"));
    // It cannot come back on the same evidence.
    begin(&desk, &second, TrialMode::Canary, 0.5);
    assert!(engine.load(&["desk".into()]).is_empty());
    engine.read_evidence().unwrap();
    assert!(engine.trials().unwrap().is_empty());
}

#[tokio::test]
async fn a_shadow_is_compared_behind_the_callers_back_and_leaves_no_text_of_its_own() {
    let desk = Desk::trained(TASK);
    desk.certify(0.5);
    let contrary = publish_contrary(&desk.store, desk.folder.path());
    attach(&desk.store, &contrary, 0.5);
    desk.store.rollback("desk", Some(&desk.release.id.to_string())).unwrap();
    let trial = begin(&desk, &contrary, TrialMode::Shadow, 1.0);
    let engine = trying(&desk);
    let mut decided = Vec::new();
    for n in 0..30 {
        decided.push(engine.decide(ask(&format!("{CLEAR} of number {n}"))).await.unwrap().remove(0));
    }
    assert!(decided.iter().all(|decision| decision.release == desk.release.id));
    let waiting = desk.store.waiting(None, 1_000).unwrap();
    let records = desk.store.count_records("desk").unwrap();
    // Whatever waits is judged before the counts are read.
    while engine.trials().unwrap()[0].counted != [30, 0, 0] {
        tokio::task::yield_now().await;
    }
    drop(engine);
    let [(live, counted)] = &desk.store.comparisons(trial.number).unwrap()[..] else { panic!("one") };
    let team = counted.questions["team"];
    assert_eq!((*live, counted.inputs, counted.dropped, counted.failed), (desk.release.id, 30, 0, 0));
    assert_eq!((team.live.asked, team.trial.asked), (30, 30));
    assert!(team.both > 0 && team.agree == 0, "{team:?}");
    let differences = desk.store.differences(trial.number, 1_000).unwrap();
    assert_eq!(differences.len() as u64, team.both);
    let one = differences.last().unwrap();
    assert_eq!((one.live_value.as_str(), one.trial_value.as_str()), ("billing", "delivery"));
    assert!(decided.iter().any(|decision| decision.id == one.decision));
    // It asked nobody, and left nothing but counts and the names of decisions.
    assert_eq!(desk.store.waiting(None, 1_000).unwrap().len(), waiting.len());
    assert_eq!(desk.store.count_records("desk").unwrap(), records);
    let text = serde_json::to_string(&differences).unwrap();
    assert!(!text.contains("refund"), "{text}");
    assert_eq!(desk.store.probe_counts(&contrary.id, "team").unwrap().drawn, 0);
}
