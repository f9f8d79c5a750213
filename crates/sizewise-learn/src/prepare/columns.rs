//! Which column is what?
//!
//! Guessed from a sample of rows and the columns' names; the user's word goes before any guess, and every guess is shown.

use super::{Options, find_column};
use crate::{
    error::{Error, Result},
    table::TableReader,
};
use serde::Serialize;
use sizewise_contract::limits;
use std::collections::BTreeMap;

/// Rows that are looked at to tell the columns apart.
const SAMPLED_ROWS: u64 = 20_000;
/// Names that texts usually have.
const TEXT_NAMES: &[&str] = &[
    "text",
    "message",
    "body",
    "query",
    "utterance",
    "content",
    "question",
    "sentence",
    "comment",
    "description",
    "input",
    "request",
    "review",
];
/// Names that titles of texts usually have.
const TITLE_NAMES: &[&str] = &["subject", "title", "headline", "summary"];
/// Names that labels usually have.
const LABEL_NAMES: &[&str] = &[
    "label",
    "labels",
    "category",
    "class",
    "intent",
    "team",
    "topic",
    "queue",
    "department",
    "urgent",
    "urgency",
    "priority",
    "sentiment",
    "severity",
    "type",
    "tag",
    "target",
    "answer",
    "spam",
    "language",
    "lang",
    "route",
    "gold",
];
/// Words that mean "none of the classes".
const OUT_OF_SCOPE: &[&str] =
    &["oos", "out_of_scope", "out-of-scope", "out of scope", "none", "n/a", "outofscope"];

/// What a column was taken for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnGuess {
    /// The column.
    pub column: String,
    /// What it is.
    pub role: Role,
    /// Why, in a few words.
    pub because: String,
}

/// What a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Read by the models.
    Input,
    /// Holds the labels of a question.
    Label,
    /// Keeps rows together.
    Group,
    /// Orders rows.
    Time,
    /// Each of its values is judged for itself.
    Slice,
    /// Not used.
    Ignored,
}

/// The shape of a label column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelGuess {
    /// One of several values.
    Choice,
    /// Yes or no; the pair as written where it is not yes/no, true/false or 1/0.
    Predicate(Option<(String, String)>),
    /// Ordered levels, lowest first.
    Score(Vec<String>),
}

/// The columns that the task uses.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) guesses: Vec<ColumnGuess>,
    pub(super) text: Vec<String>,
    pub(super) labels: Vec<String>,
    pub(super) group: Option<String>,
    pub(super) time: Option<String>,
    /// Columns that are judged value by value.
    pub(super) slices: Vec<String>,
}

/// Where the plan's columns stand in one table.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) text: Vec<usize>,
    pub(super) labels: Vec<usize>,
    pub(super) group: Option<usize>,
    pub(super) time: Option<usize>,
    /// Those that are not written for another reason anyway.
    pub(super) slices: Vec<usize>,
}

impl Plan {
    pub(super) fn places(&self, table: &TableReader) -> Result<Places> {
        let find = |name: &String| find_column(table, name);
        Ok(Places {
            text: self.text.iter().map(find).collect::<Result<_>>()?,
            labels: self.labels.iter().map(find).collect::<Result<_>>()?,
            group: self.group.as_ref().map(find).transpose()?,
            time: self.time.as_ref().map(find).transpose()?,
            slices: self.only_slices().map(find).collect::<Result<_>>()?,
        })
    }

    /// A slice may be an input, the group or the time as well; a column is written once.
    fn only_slices(&self) -> impl Iterator<Item = &String> {
        let other = |name: &String| {
            self.text.contains(name) || self.group.as_ref() == Some(name) || self.time.as_ref() == Some(name)
        };
        self.slices.iter().filter(move |name| !other(name))
    }

    /// The columns of the splits, in order.
    pub(super) fn written_columns(&self) -> Vec<String> {
        let others = self.group.iter().chain(&self.time).chain(self.only_slices());
        self.text.iter().chain(&self.labels).chain(others).cloned().collect()
    }
}

/// What one column looks like.
#[derive(Debug, Default)]
struct Look {
    filled: u64,
    words: u64,
    chars: u64,
    values: BTreeMap<String, u64>,
    /// More different values than a label column can have.
    overflowed: bool,
}

impl Look {
    fn see(&mut self, cell: &str) {
        let cell = cell.trim();
        if cell.is_empty() {
            return;
        }
        self.filled += 1;
        self.words += cell.split_whitespace().count() as u64;
        self.chars += cell.chars().count() as u64;
        if self.overflowed || cell.len() > limits::NAME_BYTES {
            self.overflowed = true;
            self.values.clear();
        } else {
            *self.values.entry(cell.to_owned()).or_default() += 1;
            self.overflowed = self.values.len() > limits::CHOICES + 1;
        }
    }

    fn mean_words(&self) -> f64 {
        self.words as f64 / self.filled.max(1) as f64
    }

    /// Few values, each seen several times on average.
    fn looks_like_label(&self) -> bool {
        let values = self.values.len() as u64;
        !self.overflowed
            && (2..=self.filled / 2).contains(&values)
            && (values <= 20 || self.filled / values >= 4)
            && self.mean_words() < 6.0
    }
}

/// Decides which columns the task uses.
pub(super) fn plan(options: &Options) -> Result<Plan> {
    let mut table = TableReader::open(&options.from)?;
    let columns = table.columns().to_vec();
    let mut looks: Vec<Look> = columns.iter().map(|_| Look::default()).collect();
    let (mut row, mut rows) = (Vec::new(), 0);
    while rows < SAMPLED_ROWS && table.next_row(&mut row)?.is_some() {
        looks.iter_mut().zip(&row).for_each(|(look, cell)| look.see(cell));
        rows += 1;
    }
    let unusable = |problem: &str, hint: &str| Error::Unusable {
        path: options.from.clone(),
        problem: problem.to_owned(),
        hint: Some(format!("{hint}; its columns are: {}", columns.join(", "))),
    };
    if rows == 0 {
        return Err(unusable("it has a header but no rows", "add labelled rows"));
    }
    let others = options.group.iter().chain(&options.time).chain(&options.slices);
    for named in options.text.iter().chain(&options.labels).chain(others) {
        find_column(&table, named)?;
    }
    let text =
        if options.text.is_empty() { guess_text(&columns, &looks, options) } else { options.text.clone() };
    if text.is_empty() {
        return Err(unusable("no text column was found", "name it with --text"));
    }
    let labels = if options.labels.is_empty() {
        guess_labels(&columns, &looks, &text, options)
    } else {
        options.labels.clone()
    };
    if labels.is_empty() {
        return Err(unusable("no label column was found", "name it with --label"));
    }
    if let Some(both) = labels.iter().find(|label| text.contains(label)) {
        return Err(unusable(
            &format!("column `{both}` cannot be both input and label"),
            "name other columns",
        ));
    }
    if let Some(both) = labels.iter().find(|label| options.slices.contains(label)) {
        return Err(unusable(
            &format!("column `{both}` holds labels and cannot be a slice"),
            "name what is known of a request",
        ));
    }
    let (group, time, slices) = (options.group.clone(), options.time.clone(), options.slices.clone());
    let mut plan = Plan { guesses: vec![], text, labels, group, time, slices };
    plan.guesses = columns.iter().zip(&looks).map(|(column, look)| explain(column, look, &plan)).collect();
    Ok(plan)
}

fn is_named(column: &str, names: &[&str]) -> bool {
    let lower = column.to_lowercase();
    names.iter().any(|name| lower == *name || lower.split(['_', '-', ' ', '.']).any(|part| part == *name))
}

fn guess_text(columns: &[String], looks: &[Look], options: &Options) -> Vec<String> {
    let free = |column: &String| {
        !options.labels.contains(column)
            && options.group.as_ref() != Some(column)
            && options.time.as_ref() != Some(column)
            && !options.slices.contains(column)
    };
    let candidates = || columns.iter().zip(looks).filter(|(column, look)| free(column) && look.filled > 0);
    let best = candidates()
        .filter(|(column, look)| {
            is_named(column, TEXT_NAMES) || (look.mean_words() >= 2.0 && !look.looks_like_label())
        })
        .max_by(|(a, look_a), (b, look_b)| {
            let weight = |column: &str, look: &Look| {
                look.mean_words() * if is_named(column, TEXT_NAMES) { 3.0 } else { 1.0 }
            };
            weight(a, look_a).total_cmp(&weight(b, look_b))
        })
        .map(|(column, _)| column.clone());
    let title = candidates()
        .find(|(column, look)| {
            is_named(column, TITLE_NAMES)
                && look.mean_words() >= 1.5
                && !look.looks_like_label()
                && Some(*column) != best.as_ref()
        })
        .map(|(column, _)| column.clone());
    title.into_iter().chain(best).collect()
}

fn guess_labels(columns: &[String], looks: &[Look], text: &[String], options: &Options) -> Vec<String> {
    let candidates: Vec<&String> = columns
        .iter()
        .zip(looks)
        .filter(|(column, look)| {
            !text.contains(column)
                && options.group.as_ref() != Some(column)
                && options.time.as_ref() != Some(column)
                && !options.slices.contains(column)
                && (look.looks_like_label()
                    || (is_named(column, LABEL_NAMES) && !look.overflowed && look.values.len() >= 2))
        })
        .map(|(column, _)| column)
        .collect();
    let named: Vec<String> =
        candidates.iter().filter(|column| is_named(column, LABEL_NAMES)).map(|c| (*c).clone()).collect();
    match named.is_empty() {
        false => named,
        true => candidates.into_iter().take(1).cloned().collect(),
    }
}

fn explain(column: &String, look: &Look, plan: &Plan) -> ColumnGuess {
    let (role, because) = if plan.text.contains(column) {
        (Role::Input, format!("{:.0} words on average", look.mean_words()))
    } else if plan.labels.contains(column) {
        (Role::Label, format!("{} values", look.values.len()))
    } else if plan.group.as_ref() == Some(column) {
        (Role::Group, "as you said".into())
    } else if plan.time.as_ref() == Some(column) {
        (Role::Time, "as you said".into())
    } else if plan.slices.contains(column) {
        (Role::Slice, "as you said".into())
    } else if look.filled == 0 {
        (Role::Ignored, "empty".into())
    } else if look.looks_like_label() {
        let hint = format!("{} values: could be labels, --label {column} adds it", look.values.len());
        (Role::Ignored, hint)
    } else {
        (Role::Ignored, "neither text nor labels".into())
    };
    ColumnGuess { column: column.clone(), role, because }
}

/// The label that means "none of the classes", if there is one.
pub(super) fn out_of_scope_label<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut values = values.into_iter();
    values.find(|value| OUT_OF_SCOPE.contains(&value.to_lowercase().as_str())).map(str::to_owned)
}

/// Tells the type of a question by the values of its column.
pub(super) fn label_shape(values: &[&str]) -> LabelGuess {
    let lower: Vec<String> = values.iter().map(|value| value.to_lowercase()).collect();
    if let [a, b] = lower.as_slice() {
        let pairs = [("yes", "no"), ("true", "false"), ("1", "0"), ("y", "n"), ("t", "f")];
        for (position, (yes, no)) in pairs.iter().enumerate() {
            if let Some(swapped) = [(a, b), (b, a)].iter().position(|(x, y)| x == yes && y == no) {
                let as_written = values
                    .get(swapped)
                    .zip(values.get(1 - swapped))
                    .map(|(y, n)| ((*y).to_owned(), (*n).to_owned()));
                return LabelGuess::Predicate(as_written.filter(|_| position > 2));
            }
        }
    }
    for order in [
        &["low", "medium", "high", "critical"][..],
        &["low", "normal", "high", "urgent"],
        &["negative", "neutral", "positive"],
    ] {
        let present: Vec<String> = order
            .iter()
            .filter_map(|level| lower.iter().position(|v| v == level).and_then(|i| values.get(i)))
            .map(|v| (*v).to_owned())
            .collect();
        if present.len() == values.len() && present.len() >= 3 {
            return LabelGuess::Score(present);
        }
    }
    let mut numbers: Vec<i64> = values.iter().filter_map(|value| value.parse().ok()).collect();
    numbers.sort_unstable();
    let consecutive = numbers.windows(2).all(|pair| matches!(pair, [a, b] if b - a == 1));
    if numbers.len() == values.len()
        && consecutive
        && (3..=*limits::SCORE_LEVELS.end()).contains(&numbers.len())
    {
        return LabelGuess::Score(numbers.iter().map(i64::to_string).collect());
    }
    LabelGuess::Choice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_of_a_question_is_told_by_its_values() {
        assert_eq!(label_shape(&["No", "Yes"]), LabelGuess::Predicate(None));
        assert_eq!(label_shape(&["N", "Y"]), LabelGuess::Predicate(Some(("Y".into(), "N".into()))));
        assert_eq!(
            label_shape(&["High", "Low", "Medium"]),
            LabelGuess::Score(vec!["Low".into(), "Medium".into(), "High".into()])
        );
        assert_eq!(
            label_shape(&["3", "1", "2"]),
            LabelGuess::Score(vec!["1".into(), "2".into(), "3".into()])
        );
        assert_eq!(label_shape(&["1", "7"]), LabelGuess::Choice);
        assert_eq!(label_shape(&["billing", "delivery"]), LabelGuess::Choice);
    }

    #[test]
    fn a_column_is_known_by_a_part_of_its_name() {
        assert!(is_named("Message Body", TEXT_NAMES));
        assert!(is_named("gold_label", LABEL_NAMES));
        assert!(!is_named("labelled_by_whom", LABEL_NAMES));
    }
}
