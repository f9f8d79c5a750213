//! What is the engine asked?

use crate::Purse;
use sizewise_models::remote::Trace;
use std::collections::BTreeMap;

/// Some inputs for one task, from one caller.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The task's name.
    pub task: String,
    /// What comes in, each to be decided on its own.
    pub inputs: Vec<InputValue>,
    /// The questions to answer, in the order of the answers; none asks all of the task's questions.
    pub questions: Option<Vec<QuestionRef>>,
    /// Whom the inputs are about, as the caller calls them; kept as a keyed hash alone, so that they can be found and erased.
    pub subject: Option<String>,
    /// Which part of the traffic the inputs are of, as the caller calls it; promises are watched in each.
    pub group: Option<String>,
    /// Public id of the API key that asks.
    pub key_id: Option<String>,
    /// Who has to pay for larger models besides the task: the key, its team.
    pub purses: Vec<Purse>,
    /// Whether inputs nobody here is sure of may enter the review queue; a dry run leaves nothing behind.
    pub dry_run: bool,
    /// Where calls to larger models belong in what the caller traces; none where nobody does.
    pub trace: Option<Trace>,
}

/// Position of a question in its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QuestionRef(pub usize);

/// One input as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputValue {
    /// One text; for a task with several fields it is read as all of them joined.
    Text(String),
    /// Named fields; every field of the task must be there.
    Fields(BTreeMap<String, String>),
}

impl InputValue {
    /// Renders the input as the text that models read: its fields in contract order, one a line.
    ///
    /// # Errors
    /// Returns the name of the first field of the task that is missing.
    pub fn render<'a>(&self, fields: &'a [String]) -> Result<String, &'a str> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::Fields(values) => {
                let mut text = String::new();
                for field in fields {
                    let value = values.get(field).ok_or(field.as_str())?;
                    if !text.is_empty() {
                        text.push('\n');
                    }
                    text.push_str(value);
                }
                Ok(text)
            }
        }
    }
}
