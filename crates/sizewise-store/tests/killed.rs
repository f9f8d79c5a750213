//! Does a process that is killed at any moment lose anything it acknowledged?
//!
//! The test runs itself as a child that writes records and publishes releases, printing what was acknowledged; it kills
//! the child at a random moment and then looks for all of it.

#![allow(clippy::unwrap_used, reason = "a test")]

use sizewise_contract::{ContentHash, Record, StoredInput, Task, units::UnixMillis};
use sizewise_store::{Entry, NewRelease, Recorder, Store, new_id};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

const FOLDER: &str = "SIZEWISE_TEST_STORE";
const ROUNDS: u64 = 12;
const TASK: &str = "schema = 1\nname = \"support\"\n[[question]]\nname = \"team\"\ntype = \"choice\"\nchoices = [{ value = \"a\" }, { value = \"b\" }]\n";

fn record(id: String) -> Record {
    Record {
        id,
        task: "support".into(),
        release: ContentHash::of(b"r"),
        at: UnixMillis(1),
        input: StoredInput::Full("x".repeat(200)),
        answers: vec![],
        elapsed_us: 1,
        key_id: None,
    }
}

fn write_for_ever(folder: &Path) {
    let store = Store::open(folder).unwrap();
    let recorder = Recorder::start(folder).unwrap();
    let task = Task::parse(TASK).unwrap();
    let say = |line: String| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
    };
    for round in 0u64.. {
        let ids: Vec<String> = (0..20).map(|_| new_id("d_").unwrap()).collect();
        for id in ids {
            let entry = Entry { record: Some(record(id.clone())), ..Entry::default() };
            assert!(recorder.keep(vec![entry], move |kept| {
                assert!(kept);
                say(format!("record {id}"));
            }));
        }
        let weights: Vec<u8> = round.to_le_bytes().iter().cycle().take(300_000).copied().collect();
        let parts =
            [("head".to_owned(), weights), ("models.json".to_owned(), round.to_string().into_bytes())];
        let new = NewRelease {
            task_file: TASK,
            task: &task,
            training_rows: ContentHash::of(b"rows"),
            locked_rows: ContentHash::of(b"locked"),
            parts: &parts,
            made_by: "test",
        };
        say(format!("release {}", store.publish(new).unwrap().id));
    }
}

#[test]
fn what_was_acknowledged_survives_the_kill() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return write_for_ever(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut records, mut releases) = (0, 0);
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "what_was_acknowledged_survives_the_kill", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).collect::<Vec<String>>()
        });
        std::thread::sleep(Duration::from_millis(120 + round * 37 % 230));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for line in reader.join().unwrap() {
            match line.split_once(' ') {
                Some(("record", id)) => {
                    assert!(store.record(id).unwrap().is_some(), "{id} was acknowledged and is gone");
                    records += 1;
                }
                Some(("release", id)) if id.len() == 64 => {
                    let known = store.releases("support").unwrap();
                    assert!(known.iter().any(|release| release.id.to_string() == id), "{id} is gone");
                    releases += 1;
                }
                _ => {}
            }
        }
        // Whatever is in force is whole.
        if let Some(release) = store.in_force("support").unwrap() {
            for part in &release.manifest.parts {
                store.part(&release, &part.name).unwrap();
            }
        }
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
    }
    assert!(records > 100 && releases > 5, "the child did some work: {records} records, {releases} releases");
}
