//! What was done here, is its log whole, where does data lie, and how is somebody erased?

use super::{Console, Who, json};
use crate::{
    commands::{audit, privacy},
    error::{Error, Result},
};
use serde::Deserialize;
use serde_json::{Value, json};
use sizewise_contract::Task;
use sizewise_store::{AuditReport, Head, Whose};

/// Entries that are shown at once.
const SHOWN: usize = 100;

/// Which entries are wanted. Asked for in a body: what is looked for may be somebody's name, and paths end up in logs.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogAsked {
    before: Option<u64>,
    words: String,
}

/// With which head the log is compared.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct VerifyAsked {
    head: String,
}

/// Whose traces go.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by", content = "whose")]
pub(crate) enum EraseAsked {
    Subject(String),
    Decision(String),
    Text(String),
}

impl Console {
    /// Entries of the audit log, the latest first.
    ///
    /// # Errors
    /// Fails when the log cannot be read.
    pub(crate) fn log(&self, asked: &LogAsked) -> Result<Vec<u8>> {
        let entries = self.store.audit_page(asked.before, asked.words.trim(), SHOWN)?;
        let more = entries.len() == SHOWN;
        json(&json!({ "size": self.store.audit_size()?, "entries": entries, "more": more }))
    }

    /// Whether the log is the one that was written.
    ///
    /// # Errors
    /// Fails when the log or the head cannot be read.
    pub(crate) fn verify(&self, asked: &VerifyAsked) -> Result<Vec<u8>> {
        let head = match asked.head.trim() {
            "" => None,
            text => Some(
                text.parse::<Head>()
                    .map_err(|_| Error::usage("a head is SIZE:ROOT, as `sizewise audit head` prints it"))?,
            ),
        };
        let mut report = AuditReport::of(&self.store.audit()?, head.as_ref(), None);
        report.findings.extend(audit::guards(&self.store)?);
        let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        json(&json!({
            "head": report.head.to_string(), "entries": report.head.size, "erased": report.erased,
            "anchored": report.anchored, "findings": findings,
        }))
    }

    /// What is kept of inputs, where, for how long, and where it may go.
    ///
    /// # Errors
    /// Fails when the project cannot be read.
    pub(crate) fn data_map(&self) -> Result<Vec<u8>> {
        let names = self.project.task_names()?;
        let relay = &self.project.settings().relay;
        let budget = |task: Task| json!({ "task": task.name, "fields": task.input.fields, "escalate_to": task.cascade.escalate_to });
        let tasks: Vec<Value> =
            names.iter().filter_map(|name| self.project.task(name).ok()).map(budget).collect();
        json(&json!({
            "folder": self.store.folder().display().to_string(),
            "rules": privacy::at_start(&self.project, &names, &self.providers),
            "tasks": tasks,
            "relay_days": relay.days_kept(),
        }))
    }

    /// Erases what was kept of somebody.
    ///
    /// # Errors
    /// Fails when nobody is named, or the store cannot be written.
    pub(crate) fn erase(&self, asked: &EraseAsked, who: &Who) -> Result<Vec<u8>> {
        let whose = match asked {
            EraseAsked::Subject(id) => Whose::Subject(id.trim()),
            EraseAsked::Decision(id) => Whose::Decision(id.trim()),
            EraseAsked::Text(text) => Whose::Holding(text),
        };
        if matches!(whose, Whose::Subject("") | Whose::Decision("") | Whose::Holding("")) {
            return Err(Error::usage("what is empty names nobody"));
        }
        json(&self.store.acting_as(&who.actor()).erase(whose)?)
    }
}
