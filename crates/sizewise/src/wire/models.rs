//! How are the tasks listed to clients that ask for models?
//!
//! Both protocols have `GET /v1/models` and read different keys of its body, so one body carries both: `data` as the
//! OpenAI client reads it, `models` as the System One client does.

use crate::clock::date;
use serde::Serialize;
use sizewise_contract::Task;
use sizewise_engine::TaskInfo;

/// Writes the list: tasks, and providers that may be called by name; `started` is when the server started, in seconds since 1970.
#[must_use]
pub fn list(infos: &[TaskInfo], callable: &[&str], started: u64) -> Vec<u8> {
    let list = List {
        object: "list",
        data: infos
            .iter()
            .map(|info| Model::of(info, started))
            .chain(callable.iter().map(|name| Model::callable(name, started)))
            .collect(),
        models: infos.iter().map(|info| Described::of(info, started)).collect(),
    };
    // Strings and numbers always have a JSON form.
    serde_json::to_vec(&list).unwrap_or_default()
}

/// Writes a provider that may be called by name as the OpenAI client reads it.
#[must_use]
pub fn callable(name: &str, started: u64) -> Vec<u8> {
    serde_json::to_vec(&Model::callable(name, started)).unwrap_or_default()
}

/// Writes one entry as the OpenAI client reads it.
#[must_use]
pub fn one(info: &TaskInfo, started: u64) -> Vec<u8> {
    serde_json::to_vec(&Model::of(info, started)).unwrap_or_default()
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
    models: Vec<Described<'a>>,
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certified: Option<bool>,
}

#[derive(Serialize)]
struct Described<'a> {
    name: &'a str,
    description: String,
    release_date: String,
}

impl<'a> Model<'a> {
    fn of(info: &'a TaskInfo, started: u64) -> Self {
        Self {
            id: &info.task.name,
            object: "model",
            created: created(info, started),
            owned_by: "sizewise",
            release: Some(info.release.to_string()),
            certified: Some(info.certified),
        }
    }

    fn callable(name: &'a str, started: u64) -> Self {
        Self {
            id: name,
            object: "model",
            created: started,
            owned_by: "provider",
            release: None,
            certified: None,
        }
    }
}

impl<'a> Described<'a> {
    fn of(info: &'a TaskInfo, started: u64) -> Self {
        Self {
            name: &info.task.name,
            description: description(&info.task),
            release_date: date(created(info, started)),
        }
    }
}

/// When the task was last put to the test; a task without certificates is as old as the server.
fn created(info: &TaskInfo, started: u64) -> u64 {
    let opened = info.certificates.iter().map(|certificate| certificate.opened_at.0).max();
    opened.and_then(|millis| u64::try_from(millis / 1_000).ok()).unwrap_or(started)
}

fn description(task: &Task) -> String {
    let questions: Vec<String> = task
        .questions
        .iter()
        .map(|question| match question.instructions.trim() {
            "" => question.name.clone(),
            words => format!("{}: {words}", question.name),
        })
        .collect();
    questions.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::support_task;
    use serde_json::Value;
    use sizewise_contract::ContentHash;
    use std::sync::Arc;

    #[test]
    fn one_body_serves_both_clients() {
        let info = TaskInfo {
            task: Arc::new(support_task()),
            release: ContentHash::of(b"r"),
            certificates: Arc::new([]),
            certified: false,
        };
        let told: Value = serde_json::from_slice(&list(&[info], &["primary"], 86_400)).expect("JSON");
        assert_eq!(told["object"], "list");
        assert_eq!(told["data"][0]["id"], "support");
        assert_eq!(told["data"][0]["created"], 86_400);
        assert_eq!(told["models"][0]["name"], "support");
        assert_eq!(told["models"][0]["release_date"], "1970-01-02");
    }
}
