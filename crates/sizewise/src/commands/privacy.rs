//! What may be kept of a task's inputs, and for how long?
//!
//! The task file says so as it is now, not the release that was made from an earlier state of it; `zero_retention` in the settings goes
//! before every task file.

use crate::{
    error::Result,
    project::{Observe, Project},
    providers::Providers,
};
use serde::Serialize;
use serde_json::{Value, json};
use sizewise_contract::{
    Task,
    task::{Privacy, StoreInput},
    units::UnixMillis,
};
use sizewise_store::Store;
use std::collections::BTreeMap;

/// How much is kept of the inputs of each task. Of a task whose file cannot be read: nothing.
pub(super) fn keeping(project: &Project, names: &[String]) -> BTreeMap<String, StoreInput> {
    let rule = |name: &String| match project.task(name) {
        Ok(task) if !project.settings().serve.zero_retention => task.privacy.store,
        _ => StoreInput::Nothing,
    };
    names.iter().map(|name| (name.clone(), rule(name))).collect()
}

/// What went of a task, or of the calls that were passed on.
#[derive(Debug, Serialize)]
pub(super) struct Expired {
    pub(super) task: String,
    /// After so many days rows go.
    pub(super) days: u32,
    pub(super) rows: u64,
}

/// Erases the rows of every task that are older than the task keeps them, of tasks that are no more as well.
pub(super) fn expire(project: &Project, store: &Store) -> Result<Vec<Expired>> {
    let mut expired = Vec::new();
    for task in store.recorded_tasks()? {
        let days = retention(project, store, &task)?;
        let before = crate::clock::now().0 - i64::from(days) * 86_400_000;
        expired.push(Expired { rows: store.erase_before(&task, UnixMillis(before))?, days, task });
    }
    let days = project.settings().relay.days_kept();
    let before = crate::clock::now().0 - i64::from(days) * 86_400_000;
    let rows = store.forget_observed(UnixMillis(before))? as u64;
    if rows > 0 {
        expired.push(Expired { task: "relayed calls".into(), days, rows });
    }
    Ok(expired)
}

/// For how many days a task's rows are kept: as its file says; where there is none, or it cannot be read, as its last release did.
fn retention(project: &Project, store: &Store, name: &str) -> Result<u32> {
    if let Ok(task) = project.task(name) {
        return Ok(task.privacy.retention_days);
    }
    let last = store.latest(name)?.and_then(|release| Task::parse(&release.manifest.task_file).ok());
    Ok(last.map_or(Privacy::default(), |task| task.privacy).retention_days)
}

/// The rules under which a server starts, for the audit log.
pub(crate) fn at_start(project: &Project, names: &[String], providers: &Providers) -> Value {
    let settings = project.settings();
    let keeping = keeping(project, names);
    let task = |name: &String| {
        let told = project.task(name).map_or(Value::Null, |task| {
            json!({
                "store": keeping.get(name), "retention_days": task.privacy.retention_days,
                "may_leave": task.privacy.may_leave, "remote": task.cascade.remote,
            })
        });
        (name.clone(), told)
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "zero_retention": settings.serve.zero_retention,
        "tasks": names.iter().map(task).collect::<serde_json::Map<_, _>>(),
        "providers": providers.residencies(),
        "relay": settings.relay.providers,
        "observe": if settings.serve.zero_retention { Observe::Off } else { settings.relay.observe },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;
    use sizewise_contract::{ContentHash, Record, StoredInput};
    use sizewise_store::{Entry, Recorder};

    const TASK: &str = "schema = 1\nname = \"desk\"\n[[question]]\nname = \"urgent\"\ntype = \"predicate\"\n[privacy]\nstore = \"full\"\n";

    #[test]
    fn the_settings_go_before_the_task_file_and_a_file_that_cannot_be_read_keeps_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("tasks/desk")).unwrap();
        let kept = |settings: &str, task: &str| {
            std::fs::write(folder.path().join("sizewise.toml"), settings).unwrap();
            std::fs::write(folder.path().join("tasks/desk/task.toml"), task).unwrap();
            let project = Project::find(Some(folder.path())).unwrap();
            keeping(&project, &["desk".into()])["desk"]
        };
        assert_eq!(kept("", TASK), StoreInput::Full);
        assert_eq!(kept("[serve]\nzero_retention = true\n", TASK), StoreInput::Nothing);
        assert_eq!(kept("", &TASK.replace("full", "ful")), StoreInput::Nothing);
    }

    fn record(task: &str, days_ago: i64) -> Record {
        Record {
            id: format!("{task}-{days_ago}"),
            task: task.into(),
            release: ContentHash::of(b"r"),
            at: UnixMillis(crate::clock::now().0 - days_ago * 86_400_000 - 60_000),
            input: StoredInput::Nothing,
            answers: vec![],
            elapsed_us: 1,
            key_id: None,
        }
    }

    #[test]
    fn rows_go_when_the_task_file_says_so_and_those_of_tasks_that_are_no_more_go_too() {
        let folder = tempfile::tempdir().unwrap();
        let write = |days: u32| {
            let task = format!("{TASK}retention_days = {days}\n");
            std::fs::write(folder.path().join("tasks/desk/task.toml"), task).unwrap();
        };
        std::fs::create_dir_all(folder.path().join("tasks/desk")).unwrap();
        write(365);
        let project = Project::find(Some(folder.path())).unwrap();
        let store = Store::open(&project.store_folder()).unwrap();
        let recorder = Recorder::start(&project.store_folder()).unwrap();
        let rows = ["desk", "gone"].into_iter().flat_map(|task| [1, 6, 8, 40].map(|days| record(task, days)));
        let entries = rows.map(|row| Entry { record: Some(row), ..Entry::default() }).collect();
        assert!(recorder.keep(entries, |kept| assert!(kept)));
        drop(recorder);
        let gone = || -> Vec<(String, u32, u64)> {
            let expired = expire(&project, &store).unwrap();
            expired.into_iter().map(|one| (one.task, one.days, one.rows)).collect()
        };
        assert_eq!(gone(), [("desk".into(), 365, 0), ("gone".into(), 30, 1)]);
        write(7);
        assert_eq!(gone(), [("desk".into(), 7, 2), ("gone".into(), 30, 0)]);
        assert_eq!((store.count_records("desk").unwrap(), store.count_records("gone").unwrap()), (2, 3));
    }
}
