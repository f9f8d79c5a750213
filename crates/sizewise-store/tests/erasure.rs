//! Is what was erased in no byte of any file any more?

#![allow(clippy::unwrap_used, reason = "a test")]

use sizewise_contract::{ContentHash, QueuedItem, Record, StoredInput, Waits, units::UnixMillis};
use sizewise_store::{Entry, Erased, Recorder, Store, Whose};
use std::path::Path;

/// Words that stand in the inputs about a person, and nowhere else.
fn mark(person: usize) -> String {
    format!("canary-of-person-{person:03}-")
}

/// Numbers that look random and are the same every time.
fn numbers() -> impl FnMut(usize) -> usize {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    }
}

/// Records of every size, of forty persons in turn, so that pages fill, split and spill over.
fn fill(store: &Store, count: usize) {
    let recorder = Recorder::start(store.folder()).unwrap();
    let mut next = numbers();
    for number in 0..count {
        let person = number % 40;
        let input = StoredInput::Full(mark(person).repeat(1 + next(120)));
        let id = format!("d_{:05}", next(100_000));
        let record = Record {
            id: format!("{id}-{number}"),
            task: ["support", "loans"][number % 2].into(),
            release: ContentHash::of(b"r"),
            at: UnixMillis(number as i64),
            input: input.clone(),
            answers: vec![],
            elapsed_us: 1,
            key_id: None,
        };
        let queued = QueuedItem {
            decision: record.id.clone(),
            task: record.task.clone(),
            question: "team".into(),
            at: record.at,
            input,
            suggestion: "a".into(),
            confidence: 0.4,
            why: Waits::Unsure,
        };
        let entry = Entry {
            record: Some(record),
            queued: if number % 3 == 0 { vec![queued] } else { vec![] },
            subject: (person < 20).then(|| format!("person-{person}@bank.example")),
            ..Entry::default()
        };
        assert!(recorder.keep(vec![entry], |kept| assert!(kept)));
    }
}

/// How often some bytes stand in the files of a folder.
fn found(folder: &Path, wanted: &str) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            count += found(&path, wanted);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            count += bytes.windows(wanted.len()).filter(|window| *window == wanted.as_bytes()).count();
        }
    }
    count
}

#[test]
fn a_person_is_in_no_byte_once_erased_and_the_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    fill(&store, 2_000);
    // Somebody else has the database open, as a server does.
    let server = Store::open(folder.path()).unwrap();
    assert!(found(folder.path(), &mark(7)) > 1_000 && found(folder.path(), "person-7@bank") == 0);
    let item = store
        .waiting(None, 1_000)
        .unwrap()
        .into_iter()
        .find(|item| input(&item.input).starts_with(&mark(7)))
        .unwrap();
    store.answer(&item, Some("b")).unwrap();
    let erased = store.erase(Whose::Subject("person-7@bank.example")).unwrap();
    let Erased { records, queued, gold, relayed: _, entries_blanked, entry, log_emptied } = erased;
    assert_eq!((records, gold, entries_blanked, entry, log_emptied), (50, 1, 1, 2, true));
    assert!((15..18).contains(&queued), "{queued}");
    assert_eq!(found(folder.path(), &mark(7)), 0);
    // Whoever was not named to be somebody is found by what they wrote.
    let erased = store.erase(Whose::Holding(&mark(33))).unwrap();
    assert_eq!((erased.records, found(folder.path(), &mark(33))), (50, 0));
    let left = server.count_records("support").unwrap() + server.count_records("loans").unwrap();
    assert_eq!(left, 1_900);
    assert!(found(folder.path(), &mark(8)) > 1_000);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

fn input(input: &StoredInput) -> String {
    match input {
        StoredInput::Full(text) | StoredInput::Redacted(text) => text.clone(),
        StoredInput::Nothing => String::new(),
    }
}

#[test]
fn one_decision_is_erased_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    fill(&store, 40);
    let item = store.waiting(None, 1).unwrap().remove(0);
    let erased = store.erase(Whose::Decision(&item.decision)).unwrap();
    assert_eq!((erased.records, erased.queued, erased.entry), (1, 1, 1));
    assert_eq!(store.record(&item.decision).unwrap(), None);
    assert_eq!(store.erase(Whose::Decision(&item.decision)).unwrap().records, 0);
}

#[test]
fn what_is_too_old_is_in_no_byte_after_cleaning() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    fill(&store, 1_000);
    for task in ["support", "loans"] {
        // The first 960 are too old; what is left holds no persons but the last ones.
        assert!(store.erase_before(task, UnixMillis(960)).unwrap() > 480);
    }
    assert_eq!(store.recorded_tasks().unwrap(), ["loans", "support"]);
    assert!(store.clean(false).unwrap());
    let copies: Vec<usize> = (0..40).map(|person| found(folder.path(), &mark(person))).collect();
    let mut expected = vec![0; 40];
    for item in store.waiting(None, 100).unwrap() {
        let text = input(&item.input);
        let person: usize = text[17..20].parse().unwrap();
        expected[person] += text.matches(&mark(person)).count();
    }
    // Every person has one record left, and some a question.
    for person in 0..40 {
        assert!(
            copies[person] > expected[person] && copies[person] <= expected[person] + 120,
            "{person} {copies:?}"
        );
    }
}
