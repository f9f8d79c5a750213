//! Is there one trial of a task at most, does it end where it must, and is what was counted of it all there?

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use sizewise_contract::{
    Certificate, Comparison, ContentHash, Difference, Gate, GateName, GateResult, Record, StoredInput, Task,
    TrialMode, Verdict, certificate::Counts, task::Promise, units::UnixMillis,
};
use sizewise_store::{DIFFERENCES_KEPT, Entry, Error, NewRelease, Recorder, Release, Store, Whose};

const TASK: &str = "schema = 1\nname = \"support\"\n[[question]]\nname = \"team\"\ntype = \"choice\"\nchoices = [{ value = \"a\" }, { value = \"b\" }]\n";
const SHADOW: (TrialMode, f64) = (TrialMode::Shadow, 1.0);
const CANARY: (TrialMode, f64) = (TrialMode::Canary, 0.1);

fn publish(store: &Store, text: &str, weights: &[u8]) -> Release {
    let parts = [("head".to_owned(), weights.to_vec())];
    let task = Task::parse(text).unwrap();
    let new = NewRelease {
        task_file: text,
        task: &task,
        training_rows: ContentHash::of(b"rows"),
        locked_rows: ContentHash::of(b"locked"),
        parts: &parts,
        made_by: "test",
    };
    store.publish(new).unwrap()
}

fn certify(store: &Store, release: &Release, gates: Vec<Gate>) {
    let hash = ContentHash::of(&release.id.as_bytes()[..]);
    let certificate = Certificate {
        schema: 1,
        task: "support".into(),
        question: "team".into(),
        promise: Promise::default(),
        threshold: Some(0.9),
        verdict: Verdict::Certified,
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
        gates,
        overridden: None,
    };
    let opening = store.begin_opening("support", &hash, &release.id, (1, None)).unwrap();
    store.finish_opening(opening, &[certificate]).unwrap();
}

/// A certified release in force, and two more that are certified.
fn three(folder: &std::path::Path) -> (Store, [Release; 3]) {
    let store = Store::open(folder).unwrap();
    let releases = [b"1", b"2", b"3"].map(|weights| {
        let release = publish(&store, TASK, weights);
        certify(&store, &release, vec![]);
        release
    });
    store.rollback("support", Some(&releases[0].id.to_string())).unwrap();
    (store, releases)
}

fn refused(store: &Store, release: &Release, how: (TrialMode, f64)) -> String {
    match store.begin_trial("support", &release.id.to_string(), how) {
        Err(Error::NotTried { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

fn audited(store: &Store) -> Vec<(String, String)> {
    let entries = store.audit().unwrap().into_iter();
    let of_trials = entries.filter(|entry| entry.action.starts_with("trial."));
    of_trials
        .map(|entry| (entry.action, entry.detail["because"].as_str().unwrap_or_default().to_owned()))
        .collect()
}

#[test]
fn a_shadow_becomes_a_canary_of_the_same_subjects_and_ends_when_it_is_put_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let (store, [first, second, third]) = three(folder.path());
    let mark = store.mark().unwrap();
    let begin = |release: &Release, how| {
        store.acting_as("ada").begin_trial("support", &release.id.to_string()[..12], how)
    };
    let shadow = begin(&second, SHADOW).unwrap();
    assert_ne!(store.mark().unwrap(), mark);
    assert_eq!(store.trial("support").unwrap(), Some(shadow.clone()));
    assert_eq!((shadow.begun_by.as_str(), shadow.mode, shadow.ended_at), ("ada", TrialMode::Shadow, None));
    assert!(refused(&store, &third, SHADOW).contains("is tried already"));
    let canary = begin(&second, CANARY).unwrap();
    let more = begin(&second, (TrialMode::Canary, 0.5)).unwrap();
    assert!(shadow.number < canary.number && canary.number < more.number);
    assert_eq!((canary.salt, more.salt), (shadow.salt, shadow.salt));
    // Another release with the same contract changes nothing about it.
    store.rollback("support", Some(&third.id.to_string())).unwrap();
    assert_eq!(store.trial("support").unwrap().unwrap().number, more.number);
    let mark = store.mark().unwrap();
    store.promote("support", &second.id.to_string(), None).unwrap();
    assert_ne!(store.mark().unwrap(), mark);
    assert_eq!(store.trial("support").unwrap(), None);
    let ended = store.latest_trial("support").unwrap().unwrap();
    assert_eq!((ended.number, ended.ended_because.as_deref()), (more.number, Some("put in force")));
    assert!(matches!(store.end_trial("support", "enough"), Err(Error::NoTrial { .. })));
    let other = begin(&first, SHADOW).unwrap();
    assert_ne!(other.salt, more.salt);
    assert!(store.end_this_trial(&other, "seen enough").unwrap());
    assert!(!store.end_this_trial(&other, "seen enough").unwrap());
    let told: Vec<(String, String)> = audited(&store);
    let told: Vec<(&str, &str)> =
        told.iter().map(|(act, because)| (act.as_str(), because.as_str())).collect();
    let expected = [
        ("trial.begun", ""),
        ("trial.ended", "begun anew"),
        ("trial.begun", ""),
        ("trial.ended", "begun anew"),
        ("trial.begun", ""),
        ("trial.ended", "put in force"),
        ("trial.begun", ""),
        ("trial.ended", "seen enough"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_canary_needs_a_certificate_open_gates_and_the_contract_that_callers_know() {
    let folder = tempfile::tempdir().unwrap();
    let (store, [first, second, _]) = three(folder.path());
    assert_eq!(refused(&store, &first, CANARY), "it is in force");
    for share in [0.0, 1.01, f64::NAN] {
        assert!(refused(&store, &second, (TrialMode::Canary, share)).contains("share"));
    }
    let unproven = publish(&store, TASK, b"unproven");
    assert!(refused(&store, &unproven, CANARY).contains("certified"));
    let gated = publish(&store, TASK, b"gated");
    let found = "language de is worse".into();
    certify(
        &store,
        &gated,
        vec![Gate { name: GateName::Slices, found, result: GateResult::Refuse, hint: None }],
    );
    assert!(refused(&store, &gated, CANARY).contains("gate"));
    let other = publish(&store, &TASK.replace("\"b\"", "\"c\""), b"other");
    certify(&store, &other, vec![]);
    store.rollback("support", Some(&first.id.to_string())).unwrap();
    let problem = refused(&store, &other, CANARY);
    assert!(
        problem.contains("another contract") && problem.contains("`team` has other answers"),
        "{problem}"
    );
    // A shadow may be anything that is whole.
    for release in [&unproven, &gated, &other] {
        store.begin_trial("support", &release.id.to_string(), SHADOW).unwrap();
        store.end_trial("support", "looked at").unwrap();
    }
    assert_eq!(store.latest_trial("support").unwrap().unwrap().release, other.id);
    // A canary ends when what it answers beside gets another contract.
    store.begin_trial("support", &second.id.to_string(), CANARY).unwrap();
    store.rollback("support", Some(&other.id.to_string())).unwrap();
    assert_eq!(store.trial("support").unwrap(), None);
    let (_, because) = audited(&store).pop().unwrap();
    assert!(because.contains("another contract"), "{because}");
}

fn difference(decision: &str, at: i64) -> Difference {
    Difference {
        decision: decision.into(),
        question: "team".into(),
        at: UnixMillis(at),
        live: ContentHash::of(b"live"),
        live_value: "a".into(),
        live_confidence: Some(0.9),
        trial_value: "b".into(),
        trial_confidence: Some(0.8),
    }
}

#[test]
fn counts_add_up_and_what_is_erased_is_in_no_difference() {
    let folder = tempfile::tempdir().unwrap();
    let (store, [first, second, _]) = three(folder.path());
    let trial = store.begin_trial("support", &second.id.to_string(), SHADOW).unwrap();
    let recorder = Recorder::start(store.folder()).unwrap();
    let record = |id: String, at: i64| Entry {
        record: Some(Record {
            id,
            task: "support".into(),
            release: first.id,
            at: UnixMillis(at),
            input: StoredInput::Full("about ada".into()),
            answers: vec![],
            elapsed_us: 9,
            key_id: None,
        }),
        subject: Some(if at < 10 { "ada" } else { "bob" }.into()),
        ..Entry::default()
    };
    let kept = i64::from(DIFFERENCES_KEPT);
    let ids: Vec<(String, i64)> = (0..kept + 50).map(|at| (format!("d_{at}"), at)).collect();
    let entries = ids.iter().map(|(id, at)| record(id.clone(), *at)).collect();
    assert!(recorder.keep(entries, |kept| assert!(kept)));
    drop(recorder);
    let mut counted = Comparison { inputs: 3, dropped: 1, ..Comparison::default() };
    counted.of("team").live.count(true);
    let first_ones: Vec<Difference> = ids.iter().take(60).map(|(id, at)| difference(id, *at)).collect();
    store.count_trial((trial.number, &first.id), &counted, &first_ones).unwrap();
    store.count_trial((trial.number, &first.id), &counted, &[difference("d_gone", 1)]).unwrap();
    store.count_trial((trial.number, &second.id), &counted, &[]).unwrap();
    let found = store.comparisons(trial.number).unwrap();
    let beside = |release: &Release| found.iter().find(|(live, _)| *live == release.id).unwrap().1.clone();
    assert_eq!((beside(&first).inputs, beside(&first).questions["team"].live.answered), (6, 2));
    assert_eq!((beside(&second).inputs, found.len()), (3, 2));
    let differences = || store.differences(trial.number, 1_000).unwrap();
    assert_eq!((differences().len(), differences()[0].decision.as_str()), (60, "d_59"));
    store.erase(Whose::Subject("ada")).unwrap();
    assert_eq!(differences().len(), 50);
    store.erase(Whose::Decision("d_20")).unwrap();
    assert_eq!(differences().len(), 49);
    store.erase_before("support", UnixMillis(25)).unwrap();
    assert_eq!(differences().len(), 35);
    let rest: Vec<Difference> = ids.iter().skip(60).map(|(id, at)| difference(id, *at)).collect();
    store.count_trial((trial.number, &first.id), &Comparison::default(), &rest).unwrap();
    assert_eq!((differences().len() as i64, differences()[0].at), (kept, UnixMillis(kept + 49)));
}
