//! Who said that this is the right answer?
//!
//! A label a person checked is [`Gold`]; a label a model gave is [`Teacher`]. They are two types, so that no function
//! can take one for the other: a certificate can be made from `Example<Gold>` alone.

use serde::{Deserialize, Serialize};

/// One class of a question, or none of them.
///
/// Classes are the values of a `choice`, no and yes of a `predicate`, the levels of a `score`, in contract order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassLabel {
    /// The class with this index.
    Class(u16),
    /// The input belongs to none of the classes; answering it would be wrong.
    OutOfScope,
}

impl ClassLabel {
    /// The index of the class, unless the input is out of scope.
    #[must_use]
    pub fn class(self) -> Option<usize> {
        match self {
            Self::Class(index) => Some(usize::from(index)),
            Self::OutOfScope => None,
        }
    }
}

/// A label of either kind.
pub trait Label: Clone + Send + Sync {
    /// What the label says.
    fn class_label(&self) -> ClassLabel;
}

/// A label that a person checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gold(pub ClassLabel);

/// A label that a model gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Teacher {
    /// What the model said.
    pub label: ClassLabel,
    /// Which model said it, and when, as its provider names it.
    pub source: std::sync::Arc<str>,
}

impl Label for Gold {
    fn class_label(&self) -> ClassLabel {
        self.0
    }
}

impl Label for Teacher {
    fn class_label(&self) -> ClassLabel {
        self.label
    }
}

/// An input with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Example<L> {
    /// Position in its table, from 1 and without the header: what a message to the user names.
    pub row: u64,
    /// The rendered input.
    pub text: String,
    /// One label per question of the task; none where the row does not answer it. `[questions]`
    pub labels: Vec<Option<L>>,
    /// Rows of one group never stand on both sides of a split.
    pub group: Option<String>,
    /// When the input came in; as written in the table, compared as text.
    pub time: Option<String>,
}

impl<L: Label> Example<L> {
    /// What the label of one question says.
    #[must_use]
    pub fn class_label(&self, question: usize) -> Option<ClassLabel> {
        self.labels.get(question)?.as_ref().map(Label::class_label)
    }
}
