//! What waits for a person of one task, and what does the person say?

use super::{Console, Who, json, overview::COUNTED};
use crate::{
    commands::queue,
    error::Result,
    people::{self, Outcome, Person, Shown},
    review,
};
use serde::{Deserialize, Serialize};
use sizewise_contract::{Question, QuestionKind};

/// Questions that are shown at once.
const SHOWN: usize = 50;

#[derive(Serialize)]
struct Queue<'t> {
    task: &'t str,
    /// Up to [`COUNTED`].
    waiting: u32,
    more: bool,
    questions: Vec<Asked<'t>>,
    items: Vec<Shown>,
}

/// A question with what it may be answered.
#[derive(Serialize)]
struct Asked<'t> {
    name: &'t str,
    #[serde(rename = "type")]
    kind: QuestionKind,
    instructions: &'t str,
    labels: Vec<LabelOf<'t>>,
}

#[derive(Serialize)]
struct LabelOf<'t> {
    value: &'t str,
    description: &'t str,
}

/// What a person says to a question.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answered {
    decision: String,
    question: String,
    /// None where the person cannot say.
    answer: Option<String>,
    /// Whether it is the answer after the model's suggestion was shown.
    #[serde(default)]
    after: bool,
}

/// What came of an answer.
#[derive(Serialize)]
struct Told {
    waiting: u32,
    more: bool,
    #[serde(flatten)]
    outcome: Outcome,
}

/// Keys tell people apart; without any there is one person.
fn person(who: &Who) -> Person {
    Person { name: who.actor(), role: who.role() }
}

impl Console {
    /// What has waited longest for a task.
    ///
    /// # Errors
    /// Fails when there is no such task for them.
    pub(crate) fn queue(&self, name: &str, who: &Who) -> Result<Vec<u8>> {
        let task = self.task(name, who)?;
        let waiting = self.store.waiting_up_to(name, COUNTED + 1)?;
        json(&Queue {
            task: name,
            waiting: waiting.min(COUNTED),
            more: waiting > COUNTED,
            questions: task.questions.iter().map(asked).collect(),
            items: review::next(&self.store, (name, &task.people), &person(who), SHOWN)?,
        })
    }

    /// How people who answer a task's questions agree.
    ///
    /// # Errors
    /// Fails when there is no such task for them.
    pub(crate) fn agreement(&self, name: &str, who: &Who) -> Result<Vec<u8>> {
        self.check(name, who)?;
        json(&people::agreement(&self.store, name)?)
    }

    /// Writes a person's answer down; it is gold once the question is settled.
    ///
    /// # Errors
    /// Fails when nothing of that name waits any more, or the question knows no such answer.
    pub(crate) fn answer(&self, name: &str, said: &Answered, who: &Who) -> Result<Vec<u8>> {
        let task = self.task(name, who)?;
        let item = self.store.waiting_question(&said.decision, Some(&said.question))?;
        // A decision's id leads to no other task than the one that was asked for.
        if item.task != name {
            return Err(sizewise_store::Error::NotWaiting { decision: said.decision.clone() }.into());
        }
        let label = said.answer.as_deref().map(|label| queue::checked(&self.project, &item, label));
        let label = label.transpose()?;
        let store = self.store.acting_as(&who.actor());
        let given = (label.as_deref(), said.after);
        let outcome = people::answer(&store, (&task.people, &person(who)), &item, given)?;
        let waiting = self.store.waiting_up_to(name, COUNTED + 1)?;
        json(&Told { waiting: waiting.min(COUNTED), more: waiting > COUNTED, outcome })
    }
}

fn asked(question: &Question) -> Asked<'_> {
    let described = |value| {
        let choice = question.choices.iter().find(|choice| choice.value == value);
        let level = question.levels.iter().find(|level| level.label == value);
        let description =
            choice.map(|one| one.description.as_str()).or(level.map(|one| one.description.as_str()));
        LabelOf { value, description: description.unwrap_or_default() }
    };
    let outside = question.out_of_scope_label.as_deref();
    let outside = outside.map(|value| LabelOf { value, description: "belongs to none of the others" });
    Asked {
        name: &question.name,
        kind: question.kind,
        instructions: &question.instructions,
        labels: question.class_values().into_iter().map(described).chain(outside).collect(),
    }
}
