//! What does a test of serving need? A small task, trained and published.

use sizewise_contract::{Certificate, ContentHash, Task, Verdict, certificate::Counts, units::UnixMillis};
use sizewise_engine::{Engine, InputValue, Request, Settings};
use sizewise_learn::{
    dataset::{TrainingRows, read_gold},
    train::{self, Tools},
};
use sizewise_models::builtin;
use sizewise_store::{NewRelease, Release, Store};
use std::{
    fmt::Write,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

pub(crate) const TASK: &str = r#"
schema = 1
name = "desk"
[[question]]
name = "team"
type = "choice"
choices = [{ value = "billing" }, { value = "delivery" }]
[[question]]
name = "urgent"
type = "predicate"
"#;

/// Messages of two teams; every third is urgent.
fn rows() -> String {
    let mut table = String::from("text,team,urgent\n");
    for i in 0..90 {
        let (team, what) = match i % 2 {
            0 => (
                "billing",
                ["the invoice is wrong", "you charged my card twice", "please refund the payment"],
            ),
            _ => {
                ("delivery", ["the parcel is lost", "my order never arrived", "the courier left no package"])
            }
        };
        let (urgent, when) =
            if i % 3 == 0 { ("yes", "today, it is urgent") } else { ("no", "when you have time") };
        writeln!(table, "\"{} number {i} {when}\",{team},{urgent}", what[i % 3]).unwrap();
    }
    table
}

/// A task that was trained and published.
pub(crate) struct Desk {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: Arc<Store>,
    pub(crate) release: Release,
}

impl Desk {
    pub(crate) fn trained(task_text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&folder.path().join("store")).unwrap());
        let release = publish(&store, folder.path(), task_text, 1);
        Self { folder, store, release }
    }

    /// Attaches a certificate for the first question.
    pub(crate) fn certify(&self, threshold: f64) {
        attach(&self.store, &self.release, threshold);
    }

    pub(crate) fn engine(&self, allow_uncertified: bool) -> Engine {
        let settings = Settings { allow_uncertified, encoder_workers: 1, record: true };
        let engine = Engine::start(Arc::clone(&self.store), settings).unwrap();
        assert!(engine.load(&["desk".into()]).is_empty());
        engine
    }
}

pub(crate) fn publish(store: &Store, folder: &Path, task_text: &str, seed: u64) -> Release {
    publish_table(store, folder, (task_text, &rows()), seed)
}

/// One that learnt that every message is for the other team.
pub(crate) fn publish_contrary(store: &Store, folder: &Path) -> Release {
    let contrary =
        rows().replace(",billing,", ",?,").replace(",delivery,", ",billing,").replace(",?,", ",delivery,");
    publish_table(store, folder, (TASK, &contrary), 1)
}

/// Trains on a table, which stands for the development rows as well.
pub(crate) fn publish_table(
    store: &Store,
    folder: &Path,
    (task_text, table): (&str, &str),
    seed: u64,
) -> Release {
    std::fs::create_dir_all(folder.join("data")).unwrap();
    for name in ["train", "dev", "locked"] {
        std::fs::write(folder.join(format!("data/{name}.csv")), table).unwrap();
    }
    let task = Task::parse(task_text).unwrap();
    let rows = TrainingRows::read(&task, folder).unwrap();
    let dev = read_gold(&task, &folder.join("data/dev.csv")).unwrap();
    let (encoder, static_embeddings) = (builtin::encoder().unwrap(), builtin::static_embeddings().unwrap());
    let tools = Tools {
        static_embeddings: &static_embeddings,
        encoder: Some(&encoder),
        threads: 2,
        seed,
        balance: false,
        progress: &|_, _, _| (),
        stop: &AtomicBool::new(false),
        unseen: None,
        distil: None,
    };
    let trained = train::train(&task, &rows, &dev, tools).unwrap();
    let parts: Vec<(String, Vec<u8>)> =
        trained.models.to_parts().unwrap().into_iter().map(|part| (part.name, part.bytes)).collect();
    let new = NewRelease {
        task_file: task_text,
        task: &task,
        training_rows: trained.development_hash,
        locked_rows: ContentHash::of(b"locked"),
        parts: &parts,
        made_by: "test",
    };
    store.publish(new).unwrap()
}

pub(crate) fn attach(store: &Store, release: &Release, threshold: f64) {
    let rows = ContentHash::of(&release.id.as_bytes()[..]);
    let certificate = Certificate {
        schema: 1,
        task: "desk".into(),
        question: "team".into(),
        promise: Default::default(),
        verdict: Verdict::Certified,
        threshold: Some(threshold),
        counts: Counts::default(),
        tests: vec![],
        chance_before: 1.0,
        openings_planned: 1,
        opening: 1,
        opened_at: UnixMillis(1),
        contract: release.manifest.contract,
        locked_rows: rows,
        development_rows: rows,
        models: release.models(),
        slices: vec![],
        gates: vec![],
        overridden: None,
    };
    let opening = store.begin_opening("desk", &rows, &release.id, (1, None)).unwrap();
    store.finish_opening(opening, &[certificate]).unwrap();
}

pub(crate) fn ask(text: &str) -> Request {
    Request { task: "desk".into(), inputs: vec![InputValue::Text(text.into())], ..Request::default() }
}
