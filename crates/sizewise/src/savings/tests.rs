//! Does a saving follow from bills and probes, and is none claimed without them?

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use super::{Savings, savings, text};
use crate::project::Project;
use sizewise_contract::{
    Answer, Bill, ContentHash, Disposition, EscalationReason, Probe, Record, Reference, Step, StoredInput,
    Tier,
    answer::{EscalatedTo, RemoteUse},
    units::{MicroUsd, UnixMillis},
};
use sizewise_measure::random::Random;
use sizewise_store::{Entry, Recorder, Store};

const TASK: &str = r#"
schema = 1
name = "desk"
[[question]]
name = "urgent"
type = "predicate"
[cascade]
remote = "larger"
[savings]
usd_per_label = 0.5
"#;
const SETTINGS: &str = r#"
[provider.larger]
url = "https://models.example/v1"
model = "big"
price_in = 2
price_out = 8
[provider.cheap]
url = "https://models.example/v1"
model = "small"
price_in = 0.2
price_out = 0.8
[provider.unpriced]
url = "http://127.0.0.1:9/v1"
model = "own"
"#;

struct Desk {
    folder: tempfile::TempDir,
    project: Project,
    store: Store,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("tasks/desk")).unwrap();
        std::fs::write(folder.path().join("tasks/desk/task.toml"), TASK).unwrap();
        std::fs::write(folder.path().join("sizewise.toml"), SETTINGS).unwrap();
        let project = Project::find(Some(folder.path())).unwrap();
        let store = Store::open(&project.store_folder()).unwrap();
        Self { folder, project, store }
    }

    fn keep(&self, entries: Vec<Entry>) {
        let recorder = Recorder::start(self.store.folder()).unwrap();
        assert!(recorder.keep(entries, |kept| assert!(kept)));
    }

    fn savings(&self, named: Option<&str>) -> Savings {
        let task = self.project.task("desk").unwrap();
        savings((&self.project, &self.store), &task, named, (30, 100_000)).unwrap()
    }
}

fn bill(text: &str) -> Bill {
    // As providers count: about four bytes a token, some more for the prompt around the text.
    let (read, written) = (150 + text.len() as u64 / 4, 8);
    Bill { provider: "larger".into(), micro_usd: MicroUsd(read * 2 + written * 8), read, written }
}

fn entry(number: usize, text: &str, (asked, drawn): (bool, Option<f64>)) -> Entry {
    let id = format!("d_{number}");
    let at = crate::clock::now();
    let remote = RemoteUse {
        provider: "larger".into(),
        model: "big".into(),
        attempts: 1,
        recalled: None,
        problem: None,
    };
    let step = |tier, confidence| Step { tier, value: "no".into(), confidence, novelty: 0.0, elapsed_us: 40 };
    let mut path = vec![step(Tier::Static, Some(0.9))];
    path.extend(asked.then(|| step(Tier::Remote, None)));
    let answer = Answer {
        question: "urgent".into(),
        disposition: Disposition::Answered,
        value: "no".into(),
        class: 0,
        confidence: (!asked).then_some(0.9),
        threshold: None,
        probabilities: vec![0.9, 0.1],
        tier: if asked { Tier::Remote } else { Tier::Static },
        certified: false,
        handed_on: asked.then_some(EscalationReason::BelowThreshold),
        remote: asked.then_some(remote),
        path,
    };
    let probe = drawn.map(|probability| Probe {
        decision: id.clone(),
        task: "desk".into(),
        question: "urgent".into(),
        release: ContentHash::of(b"release"),
        at,
        probability,
        weight: 1.0,
        group: None,
        reference: Reference::Remote,
        path: Vec::new(),
    });
    Entry {
        record: Some(Record {
            id: id.clone(),
            task: "desk".into(),
            release: ContentHash::of(b"release"),
            at,
            input: StoredInput::Redacted(text.into()),
            answers: vec![answer],
            elapsed_us: 50,
            key_id: None,
        }),
        bill: asked.then(|| bill(text)),
        probe_bill: drawn.map(|_| (id, bill(text))),
        probes: probe.into_iter().collect(),
        ..Entry::default()
    }
}

#[test]
fn what_everything_would_have_cost_lies_in_the_interval_and_bills_are_exact() {
    let desk = Desk::new();
    let mut random = Random::new(11);
    let (mut truth, mut billed, mut entries) = (0.0, 0, Vec::new());
    for number in 0..3_000 {
        let text = "where is my parcel and when ".repeat(1 + random.below(9));
        let asked = random.below(10) == 0;
        let probability = if number % 2 == 0 { 0.2 } else { 0.1 };
        let drawn = (!asked && random.uniform() < probability).then_some(probability);
        truth += bill(&text).micro_usd.0 as f64;
        billed += if asked || drawn.is_some() { bill(&text).micro_usd.0 } else { 0 };
        entries.push(entry(number, &text, (asked, drawn)));
    }
    desk.keep(entries);
    let found = desk.savings(Some("cheap"));
    assert_eq!((found.decisions, found.left_out), (3_000, 0));
    assert_eq!(found.spent.micro_usd, Some(i64::try_from(billed).unwrap()));
    let [larger, cheap] = &found.against[..] else { panic!("{found:?}") };
    assert!(larger.enough, "{larger:?}");
    for (against, truth) in [(larger, truth), (cheap, truth / 10.0)] {
        let (low, high) = (against.cost.low as f64, against.cost.high as f64);
        assert!(low <= truth && truth <= high, "{against:?}: {truth}");
        assert!((against.cost.micro_usd.unwrap() as f64 / truth - 1.0).abs() < 0.02, "{against:?}: {truth}");
        assert!(high - low < 0.35 * truth, "{against:?}");
    }
    assert!(larger.saved.low > 0 && larger.saved_share.unwrap() > 0.5, "{larger:?}");
    // Ten per cent of requests: their share of cost is what was billed for them, and not their number.
    assert!((0.05..0.2).contains(&larger.escalated_share_of_cost.unwrap()));
    assert!(cheap.why.contains("named by you"));
    let told = text(&found);
    assert!(
        told.contains("usd_per_error under [savings] is not said") && told.contains("energy is not counted"),
        "{told}"
    );
    drop(desk.folder);
}

#[test]
fn without_probes_no_saving_is_claimed_and_the_bounds_say_so() {
    let desk = Desk::new();
    let before = desk.savings(None);
    assert!(text(&before).contains("there is nothing to compare"));
    desk.keep((0..50).map(|number| entry(number, "where is it", (false, None))).collect());
    let bound = desk.savings(None).against.remove(0);
    assert_eq!((bound.enough, bound.basis, bound.cost.micro_usd, bound.cost.low), (false, "bound", None, 0));
    desk.keep((50..60).map(|number| entry(number, "where is it", (true, None))).collect());
    let found = desk.savings(None);
    let escalated = &found.against[0];
    assert_eq!((escalated.enough, escalated.basis), (false, "escalations"));
    assert!(escalated.cost.micro_usd.is_some() && text(&found).contains("saved            not claimed"));
    let free = desk.savings(Some("unpriced")).against.remove(1);
    assert!(free.note.contains("no prices"), "{free:?}");
    let task = desk.project.task("desk").unwrap();
    let unknown = savings((&desk.project, &desk.store), &task, Some("cheep"), (30, 100)).unwrap_err();
    assert!(unknown.to_string().contains("did you mean `cheap`"), "{unknown}");
}

#[test]
fn what_is_not_known_on_one_side_is_left_out_on_both() {
    let desk = Desk::new();
    let mut old = entry(1, "asked before bills were kept", (true, None));
    old.bill = None;
    let mut unkept = entry(2, "not kept", (false, None));
    unkept.record.as_mut().unwrap().input = StoredInput::Nothing;
    let mut waits = entry(3, "nobody knows", (false, None));
    waits.record.as_mut().unwrap().answers[0].disposition =
        Disposition::Escalated { reason: EscalationReason::OutOfScope, to: EscalatedTo::Person };
    desk.keep(vec![old, unkept, waits, entry(4, "here", (false, None))]);
    let found = desk.savings(None);
    assert_eq!((found.decisions, found.left_out, found.asked), (4, 2, 1));
    assert!(found.until >= found.since && found.since > UnixMillis(0));
}
