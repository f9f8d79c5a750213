//! What is a task?
//!
//! A contract in a file: what comes in, what is asked of it, what is promised about the answers, and under which
//! rules. [`Task::parse`] reads it; everything that hangs on a task quotes its [`Task::contract_hash`].

mod beside;
mod parse;

pub use beside::{Adjudicate, People, Savings};
pub use parse::TaskError;

use crate::{example::ClassLabel, hash::ContentHash, live::Reference, tier::Tier, units::Dollars};
use serde::{Deserialize, Serialize};

/// The contract of one task, as its file says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Version of the format; now 1.
    pub schema: u32,
    /// Names the task in commands and as `model` on the wire.
    pub name: String,
    /// What comes in.
    #[serde(default)]
    pub input: Input,
    /// What is asked.
    #[serde(rename = "question")]
    pub questions: Vec<Question>,
    /// Where the examples are.
    #[serde(default)]
    pub data: Data,
    /// What is promised of every question that has no promise of its own.
    #[serde(default)]
    pub promise: Promise,
    /// Which tiers may answer.
    #[serde(default)]
    pub cascade: Cascade,
    /// What may be kept and what may leave.
    #[serde(default)]
    pub privacy: Privacy,
    /// How the promise is watched once served.
    #[serde(default)]
    pub live: Live,
    /// What remote models may cost.
    #[serde(default, skip_serializing_if = "Budget::is_unset")]
    pub budget: Budget,
    /// What is needed to say what the task saves.
    #[serde(default, skip_serializing_if = "Savings::is_unset")]
    pub savings: Savings,
    /// How people work on what waits for them.
    #[serde(default, skip_serializing_if = "People::is_unset")]
    pub people: People,
}

/// What comes in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// The fields that are read, in order; each a column of the tables and a key of a structured request.
    pub fields: Vec<String>,
    /// What happens to an input that is longer than a model reads.
    pub on_overflow: Overflow,
}

impl Default for Input {
    fn default() -> Self {
        Self { fields: vec!["text".into()], on_overflow: Overflow::default() }
    }
}

/// What happens to an input that is longer than a model reads; never anything silent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// It is an error.
    #[default]
    Error,
    /// The model reads it in windows and the windows are averaged.
    Window,
    /// The model reads the beginning and the end.
    HeadTail,
}

/// One typed thing that a task asks of its input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Names the question in answers.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: QuestionKind,
    /// What is asked, in words: for people, and for the language models of later tiers.
    #[serde(default)]
    pub instructions: String,
    /// The column that holds the labels, where it is not called like the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// The values of a `choice`, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Choice>,
    /// The levels of a `score`, from the lowest up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<Level>,
    /// The labels that mean yes and no in the data of a `predicate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PredicateLabels>,
    /// What an input outside all classes gets: `escalate`, or a value of its own.
    #[serde(default, skip_serializing_if = "OutOfScope::is_default")]
    pub out_of_scope: OutOfScope,
    /// The label that marks out-of-scope rows in the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_scope_label: Option<String>,
    /// A promise of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promise: Option<Promise>,
}

/// The types of question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuestionKind {
    /// One of several values.
    Choice,
    /// Yes or no.
    Predicate,
    /// One of several ordered levels.
    Score,
}

/// One value of a `choice`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// The value, as in the data and in answers.
    pub value: String,
    /// What it stands for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// One level of a `score`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// The label, as in the data and in answers.
    pub label: String,
    /// What it stands for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// The labels that mean yes and no in the data of a `predicate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredicateLabels {
    /// Means yes.
    pub yes: String,
    /// Means no.
    pub no: String,
}

/// What an input outside all classes gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OutOfScope {
    /// It goes on to the next tier, at last to a person.
    #[default]
    Escalate,
    /// It is answered with this value, which is then a class like any other.
    Value(String),
}

impl OutOfScope {
    fn is_default(&self) -> bool {
        *self == Self::Escalate
    }
}

impl Serialize for OutOfScope {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Escalate => "escalate",
            Self::Value(value) => value,
        })
    }
}

impl<'de> Deserialize<'de> for OutOfScope {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(if text == "escalate" { Self::Escalate } else { Self::Value(text) })
    }
}

/// Where the examples are; paths are relative to the task file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// Rows to fit on.
    pub train: String,
    /// Gold rows that fix calibration and the order of thresholds.
    pub dev: String,
    /// Gold rows that only `certify` opens.
    pub locked: String,
    /// Who labelled the training rows. Development and locked rows are always gold.
    pub train_labels: LabelSource,
    /// A column whose values never stand on both sides of a split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// A column with the time; the locked rows are then the latest part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Columns of the tables (a language, a segment) whose every value is judged for itself when the locked rows are opened.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<String>,
    /// Share of the traffic that is out of scope, where training rows hold fewer such rows than the traffic does.
    /// Calibration and the plan of a certificate weigh them accordingly; the certificate itself counts rows as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_of_scope_share: Option<f64>,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            train: "data/train.csv".into(),
            dev: "data/dev.csv".into(),
            locked: "data/locked.csv".into(),
            train_labels: LabelSource::Gold,
            group: None,
            time: None,
            slices: Vec::new(),
            out_of_scope_share: None,
        }
    }
}

/// Who labelled the training rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelSource {
    /// People checked them.
    #[default]
    Gold,
    /// A model gave them.
    Teacher,
}

/// What is promised about the answers that are given without escalating.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Promise {
    /// The largest share of served answers that may be wrong.
    pub max_served_error: f64,
    /// How sure the certificate must be of that.
    pub confidence: f64,
    /// How often the locked rows may be opened in all; the allowed risk is divided among the openings.
    pub openings: u32,
    /// 95 of 100 local answers come within this many milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95_latency_ms: Option<u32>,
}

impl Default for Promise {
    fn default() -> Self {
        Self { max_served_error: 0.05, confidence: 0.95, openings: 1, p95_latency_ms: None }
    }
}

/// Which tiers may answer, and who gets the rest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cascade {
    /// The local tiers, cheapest first, or `auto`.
    pub tiers: Tiers,
    /// The provider, by its name in the settings, whose model is asked what no local tier may answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// For how many hours a remote model's answer to the same input is remembered, in memory alone; not at all unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall_hours: Option<u32>,
    /// Whether such an answer is given to inputs much like that one as well, as far as development rows show how much that must be.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub recall_similar: bool,
    /// Who gets what no model may answer.
    pub escalate_to: EscalateTo,
}

/// The local tiers of a cascade.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Tiers {
    /// Whatever `train` finds to be worth its cost.
    #[default]
    #[serde(with = "auto_word")]
    Auto,
    /// These.
    List(Vec<Tier>),
}

/// Reads and writes the one word `auto`.
mod auto_word {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("auto")
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "auto" { Ok(()) } else { Err(D::Error::custom("expected \"auto\" or a list of tiers")) }
    }
}

impl Tiers {
    /// The tiers that may be fitted, cheapest first.
    #[must_use]
    pub fn allowed(&self) -> Vec<Tier> {
        match self {
            Self::Auto => vec![Tier::Static, Tier::Encoder],
            Self::List(tiers) => tiers.clone(),
        }
    }
}

/// Who gets what no model may answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EscalateTo {
    /// A person, by way of the review queue.
    #[default]
    Person,
    /// Nobody: the task abstains.
    None,
}

/// What may be kept and what may leave the premises.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Privacy {
    /// Whether inputs may be sent to a model elsewhere.
    pub may_leave: MayLeave,
    /// What is kept of an input.
    pub store: StoreInput,
    /// After how many days records are erased.
    pub retention_days: u32,
}

impl Default for Privacy {
    fn default() -> Self {
        Self { may_leave: MayLeave::Never, store: StoreInput::Redacted, retention_days: 30 }
    }
}

/// Whether inputs may be sent to a model elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MayLeave {
    /// Never.
    #[default]
    Never,
    /// With personal data replaced.
    Redacted,
    /// As they are.
    Yes,
}

/// What is kept of an input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreInput {
    /// Nothing.
    Nothing,
    /// The text with personal data replaced.
    #[default]
    Redacted,
    /// The text as it came.
    Full,
}

/// How the promise is watched once served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Live {
    /// Share of locally answered requests that are also put before the reference.
    pub probe_share: f64,
    /// Most of them a day; the share is less where more would be drawn.
    pub probes_per_day: u32,
    /// Who says what would have been right.
    pub reference: Reference,
    /// Share of all requests that are looked at for new kinds of input, at most ten a second in the mean.
    pub look_share: f64,
}

impl Default for Live {
    fn default() -> Self {
        Self { probe_share: 0.02, probes_per_day: 100, reference: Reference::Person, look_share: 1.0 }
    }
}

/// What remote models may cost; a limit that is not set does not bind. Days and months are those of UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Dollars a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_per_day: Option<Dollars>,
    /// Dollars a month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_per_month: Option<Dollars>,
    /// Dollars in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_total: Option<Dollars>,
}

impl Budget {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

impl Task {
    /// The hash of everything that decides what is asked and promised.
    ///
    /// Where the data lies, by which columns it is looked at, how long records are kept, how often probes are sent, which remote model gets the rest and what it may
    /// cost may change without making another contract of it.
    #[must_use]
    pub fn contract_hash(&self) -> ContentHash {
        let contract = (
            self.schema,
            &self.name,
            &self.input,
            &self.questions,
            &self.promise,
            &Cascade { remote: None, recall_hours: None, recall_similar: false, ..self.cascade.clone() },
            self.data.train_labels,
        );
        // Every part has a JSON form: there are no maps in a task.
        serde_json::to_vec(&contract).map_or_else(|_| ContentHash::of(b""), |bytes| ContentHash::of(&bytes))
    }

    /// The question of this name with its position.
    #[must_use]
    pub fn question(&self, name: &str) -> Option<(usize, &Question)> {
        self.questions.iter().enumerate().find(|(_, question)| question.name == name)
    }

    /// The promise that holds for a question.
    #[must_use]
    pub fn promise_of(&self, question: &Question) -> Promise {
        question.promise.unwrap_or(self.promise)
    }
}

impl Question {
    /// The column that holds the labels.
    #[must_use]
    pub fn label_column(&self) -> &str {
        self.column.as_deref().unwrap_or(&self.name)
    }

    /// The values of the classes, in contract order: the order of every vector of probabilities.
    #[must_use]
    pub fn class_values(&self) -> Vec<&str> {
        match self.kind {
            QuestionKind::Choice => {
                let own = self.choices.iter().map(|choice| choice.value.as_str());
                let outside = match &self.out_of_scope {
                    OutOfScope::Value(value) if !self.choices.iter().any(|c| c.value == *value) => {
                        Some(value.as_str())
                    }
                    _ => None,
                };
                own.chain(outside).collect()
            }
            QuestionKind::Predicate => vec!["no", "yes"],
            QuestionKind::Score => self.levels.iter().map(|level| level.label.as_str()).collect(),
        }
    }

    /// Reads a label as the tables spell it; none where it is unknown to the question.
    ///
    /// Surrounding space is ignored; case is not, because two choices may differ by it.
    #[must_use]
    pub fn class_label(&self, written: &str) -> Option<ClassLabel> {
        let written = written.trim();
        if self.out_of_scope_label.as_deref() == Some(written) {
            return Some(match &self.out_of_scope {
                OutOfScope::Escalate => ClassLabel::OutOfScope,
                OutOfScope::Value(value) => {
                    self.class_values().iter().position(|v| v == value).and_then(class_at)?
                }
            });
        }
        match (self.kind, &self.labels) {
            (QuestionKind::Predicate, Some(labels)) if written == labels.yes => Some(ClassLabel::Class(1)),
            (QuestionKind::Predicate, Some(labels)) if written == labels.no => Some(ClassLabel::Class(0)),
            (QuestionKind::Predicate, Some(_)) => None,
            (QuestionKind::Predicate, None) => match written.to_ascii_lowercase().as_str() {
                "yes" | "true" | "1" => Some(ClassLabel::Class(1)),
                "no" | "false" | "0" => Some(ClassLabel::Class(0)),
                _ => None,
            },
            _ => self.class_values().iter().position(|value| *value == written).and_then(class_at),
        }
    }
}

fn class_at(index: usize) -> Option<ClassLabel> {
    u16::try_from(index).ok().map(ClassLabel::Class)
}
