//! What do callers say would have been right?
//!
//! Callers tell what they come to know: a ticket was moved to another team, a person corrected a field. It becomes a gold row. It
//! is evidence for the promise only where the decision was drawn as a probe: what people happen to complain about is no sample.

use crate::{Engine, error::Error};
use sizewise_contract::{Question, Record, did_you_mean};
use sizewise_store::Fed;

/// What somebody says about a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback {
    /// The task.
    pub task: String,
    /// The decision.
    pub decision: String,
    /// The question; may be left out where the decision answered one.
    pub question: Option<String>,
    /// What would have been right, as tables spell it.
    pub label: String,
    /// Public id of the API key that says so.
    pub key_id: Option<String>,
}

impl Engine {
    /// Takes in what somebody says about a decision.
    ///
    /// # Errors
    /// Fails when no such decision is kept, the label is none of the question's, or something else was said before.
    pub fn feedback(&self, feedback: &Feedback) -> Result<Fed, Error> {
        let info = self.task(&feedback.task)?;
        let unknown = || Error::UnknownDecision {
            task: info.task.name.clone(),
            decision: feedback.decision.chars().take(100).collect(),
        };
        let record = self.store.record(&feedback.decision)?;
        let record = record.filter(|record| record.task == info.task.name).ok_or_else(unknown)?;
        let question = question(&record, feedback.question.as_deref())?;
        let asked = info.task.question(&question).map(|(_, asked)| asked).ok_or_else(unknown)?;
        let label = feedback.label.trim();
        if asked.class_label(label).is_none() {
            return Err(unknown_label(asked, label));
        }
        Ok(self.store.feedback(&record, &question, label, feedback.key_id.as_deref())?)
    }
}

fn question(record: &Record, named: Option<&str>) -> Result<String, Error> {
    let answered: Vec<String> = record.answers.iter().map(|answer| answer.question.clone()).collect();
    let found = match (named, answered.as_slice()) {
        (Some(named), _) => answered.iter().find(|question| *question == named),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    found
        .cloned()
        .ok_or_else(|| Error::WhichQuestion { decision: record.id.clone(), answered: answered.clone() })
}

fn unknown_label(question: &Question, label: &str) -> Error {
    let known: Vec<&str> =
        question.class_values().into_iter().chain(question.out_of_scope_label.as_deref()).collect();
    let near = did_you_mean(label, known.iter().copied());
    Error::UnknownLabel {
        question: question.name.clone(),
        label: label.chars().take(100).collect(),
        known: match near {
            Some(near) => vec![near.to_owned()],
            None => known.iter().take(20).map(|known| (*known).to_owned()).collect(),
        },
    }
}
