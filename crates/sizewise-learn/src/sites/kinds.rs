//! What kind of thing is answered at a call site?
//!
//! Decided by what was answered, not by what was asked: few distinct short answers are a choice, yes and no a predicate, a few small
//! integers a score. A JSON object, or what a tool is called with, is a question for each of its fields.

use super::{Fixed, Said, template};
use serde::Serialize;
use serde_json::{Map, Value};
use sizewise_contract::limits;
use std::collections::{BTreeMap, BTreeSet};

/// Share of the answers that must have a form for it to be the form of all.
const NEARLY_ALL: f64 = 0.9;
/// Longest answer that can be a label, in characters and in words.
const LABEL: (usize, usize) = (80, 10);
/// Labels are at most this share of the answers: what is nearly always new is no label.
const LABELS_OF_ANSWERS: f64 = 0.2;
/// Levels lie this close together at most.
const LEVELS: i64 = 10;
/// How deep objects in objects are looked into.
const DEPTH: usize = 3;
/// Most fields of an object.
const FIELDS: usize = 50;
/// Most words of what stands before every label, as in "Answer: billing".
const LEAD_WORDS: usize = 3;

/// One thing that is answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Asked {
    /// What the answer calls it; `answer` where it is the whole answer.
    pub name: String,
    /// What kind of thing it is.
    #[serde(flatten)]
    pub kind: Kind,
    /// Answers that are none of the labels.
    pub other: usize,
}

/// The kinds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// One of several labels.
    Choice {
        /// Each with how often it was given, the most frequent first.
        labels: Vec<(String, usize)>,
    },
    /// Yes or no, in the words that were used.
    Predicate {
        /// Yes and no, with how often each was given.
        labels: Vec<(String, usize)>,
    },
    /// A level.
    Score {
        /// From the lowest up, with how often each was given.
        labels: Vec<(String, usize)>,
    },
    /// Always the same.
    Constant {
        /// It, with how often it was given.
        labels: Vec<(String, usize)>,
    },
    /// Anything: no task of those that there are.
    Free,
}

/// What is answered, and each row's answers. `[rows][questions]`
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// The questions.
    pub asked: Vec<Asked>,
    /// The label of each row; none where it has none.
    pub labels: Vec<Vec<Option<String>>>,
}

impl Kind {
    /// Whether a task can ask it.
    #[must_use]
    pub fn is_question(&self) -> bool {
        matches!(self, Self::Choice { .. } | Self::Predicate { .. } | Self::Score { .. })
    }

    /// The labels, with how often each was given.
    #[must_use]
    pub fn labels(&self) -> &[(String, usize)] {
        match self {
            Self::Choice { labels }
            | Self::Predicate { labels }
            | Self::Score { labels }
            | Self::Constant { labels } => labels,
            Self::Free => &[],
        }
    }

    /// Leaves labels out. What then has no choice left is free.
    pub(super) fn keep(&mut self, is_kept: impl Fn(&str) -> bool) {
        let least = match self {
            Self::Choice { labels } | Self::Score { labels } | Self::Predicate { labels } => {
                labels.retain(|(label, _)| is_kept(label));
                labels.len()
            }
            Self::Constant { .. } | Self::Free => return,
        };
        if least < 2 {
            *self = Self::Free;
        }
    }

    /// In a word.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Choice { .. } => "choice",
            Self::Predicate { .. } => "predicate",
            Self::Score { .. } => "score",
            Self::Constant { .. } => "constant",
            Self::Free => "free",
        }
    }
}

/// An answer as one text, to tell answers apart.
pub(super) fn plain(said: &Said) -> String {
    match (&said.text, said.calls.first()) {
        (_, Some(called)) => format!("{} {}", called.name, called.arguments),
        (Some(text), None) => label_of(text),
        (None, None) => String::new(),
    }
}

/// Finds out what some answers to the same prompt answer.
pub(super) fn answers(said: &[&Said], fixed: &Fixed) -> Answers {
    let columns = columns(said, fixed);
    let mut answers = Answers { asked: Vec::new(), labels: vec![Vec::new(); said.len()] };
    for column in columns {
        let (kind, labels) = typed(&column);
        let other =
            labels.iter().zip(&column.values).filter(|(label, value)| label.is_none() && value.is_some());
        let other = if kind == Kind::Free { 0 } else { other.count() };
        answers.asked.push(Asked { name: column.name, kind, other });
        for (row, label) in answers.labels.iter_mut().zip(labels) {
            row.push(label);
        }
    }
    answers
}

/// One field of all answers.
struct Column {
    name: String,
    /// `[rows]`
    values: Vec<Option<String>>,
    /// What the schema lets it be.
    allowed: Vec<String>,
}

fn columns(said: &[&Said], fixed: &Fixed) -> Vec<Column> {
    let nearly_all = |count: usize| count > 0 && count as f64 >= NEARLY_ALL * said.len() as f64;
    let tools: BTreeSet<&str> =
        said.iter().filter_map(|said| said.calls.first()).map(|call| call.name.as_str()).collect();
    let calling = said.iter().filter(|said| !said.calls.is_empty()).count();
    if tools.len() > 1
        || (tools.len() == 1
            && !nearly_all(calling)
            && (calling as f64) > (1.0 - NEARLY_ALL) * said.len() as f64)
    {
        // Which tool is called is the decision; what each takes is another matter.
        let name =
            |said: &&Said| Some(said.calls.first().map_or("none", |call| call.name.as_str()).to_owned());
        let allowed = fixed.tools.iter().map(|tool| tool.name.clone()).collect();
        return vec![Column { name: "tool".into(), values: said.iter().map(name).collect(), allowed }];
    }
    if nearly_all(calling) {
        let schema = fixed.tools.iter().find(|tool| tools.contains(tool.name.as_str()));
        let objects = said.iter().map(|said| said.calls.first()?.arguments.as_object().cloned());
        return fields(&objects.collect::<Vec<_>>(), schema.map(|tool| &tool.parameters));
    }
    let objects: Vec<Option<Map<String, Value>>> =
        said.iter().map(|said| object_in(said.text.as_deref()?)).collect();
    if nearly_all(objects.iter().flatten().count()) {
        return fields(&objects, fixed.schema.as_ref());
    }
    let texts: Vec<Option<&str>> = said.iter().map(|said| said.text.as_deref()).collect();
    let distinct: BTreeSet<&str> = texts.iter().flatten().copied().collect();
    let lead = template::shared(distinct.iter().map(|text| template::tokens(text).into_iter())).concat();
    let lead = lead.rfind(':').map_or("", |end| lead.get(..=end).unwrap_or_default()).to_owned();
    let lead =
        if template::words(&lead).count() <= LEAD_WORDS && distinct.len() > 1 { lead } else { String::new() };
    let value =
        |text: &Option<&str>| text.map(|text| label_of(text.strip_prefix(lead.as_str()).unwrap_or(text)));
    vec![Column { name: "answer".into(), values: texts.iter().map(value).collect(), allowed: Vec::new() }]
}

/// A column for each field that holds one value.
fn fields(objects: &[Option<Map<String, Value>>], schema: Option<&Value>) -> Vec<Column> {
    let mut names: Vec<String> = Vec::new();
    let mut rows: Vec<BTreeMap<String, String>> = Vec::new();
    for object in objects {
        let mut row = BTreeMap::new();
        if let Some(object) = object {
            flatten("", object, DEPTH, &mut row);
        }
        for name in row.keys() {
            if !names.contains(name) && names.len() < FIELDS {
                names.push(name.clone());
            }
        }
        rows.push(row);
    }
    let column = |name: String| Column {
        values: rows.iter().map(|row| row.get(&name).cloned()).collect(),
        allowed: schema.map(|schema| allowed(schema, &name)).unwrap_or_default(),
        name,
    };
    names.into_iter().map(column).collect()
}

fn flatten(prefix: &str, object: &Map<String, Value>, depth: usize, found: &mut BTreeMap<String, String>) {
    for (name, value) in object {
        let name = format!("{prefix}{name}");
        let said = match value {
            Value::String(text) => label_of(text),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Object(inner) if depth > 1 => {
                flatten(&format!("{name}."), inner, depth - 1, found);
                continue;
            }
            // Lists, and what is not said.
            _ => continue,
        };
        found.insert(name, said);
    }
}

/// The values that a JSON schema lets a field have; none where it says none.
fn allowed(schema: &Value, name: &str) -> Vec<String> {
    let mut at = schema;
    for part in name.split('.') {
        let Some(inner) = resolved(schema, at).get("properties").and_then(|fields| fields.get(part)) else {
            return Vec::new();
        };
        at = inner;
    }
    let values = resolved(schema, at).get("enum").and_then(Value::as_array).into_iter().flatten();
    values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

/// What a part of a schema stands for, where it only refers to another.
fn resolved<'s>(whole: &'s Value, part: &'s Value) -> &'s Value {
    let reference = part.get("$ref").or_else(|| part.get("allOf")?.get(0)?.get("$ref"));
    let pointer = reference.and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
    pointer.and_then(|pointer| whole.pointer(pointer)).unwrap_or(part)
}

/// The JSON object that an answer is, also in a block of code.
fn object_in(text: &str) -> Option<Map<String, Value>> {
    let text = text.trim();
    let inner = text.strip_prefix("```json").or_else(|| text.strip_prefix("```"));
    let inner = inner.map_or(text, |inner| inner.trim_end_matches("```")).trim();
    serde_json::from_str(inner).ok()
}

/// An answer without what models put around a label.
fn label_of(text: &str) -> String {
    let mut text = text.trim();
    loop {
        let inner = text
            .trim_matches(|c: char| matches!(c, '"' | '\'' | '`' | '*' | '“' | '”') || c.is_whitespace())
            .trim_end_matches('.');
        if inner == text || inner.is_empty() {
            return text.to_owned();
        }
        text = inner;
    }
}

/// The kind of a column, and the label of each row.
fn typed(column: &Column) -> (Kind, Vec<Option<String>>) {
    let none = || (Kind::Free, vec![None; column.values.len()]);
    let given: Vec<&String> = column.values.iter().flatten().collect();
    let usual = usual_spellings(&given, &column.allowed);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for value in &given {
        if let Some(label) = usual.get(&value.to_lowercase()) {
            *counts.entry(label).or_default() += 1;
        }
    }
    // What was said once is an accident where most is said again and again.
    let least = if given.len() >= 20 { 2 } else { 1 };
    counts.retain(|label, count| {
        (*count >= least || column.allowed.iter().any(|one| one == label)) && fits(label)
    });
    let labelled: usize = counts.values().sum();
    let most = ((given.len() as f64 * LABELS_OF_ANSWERS) as usize).clamp(2, limits::CHOICES);
    let listed = !column.allowed.is_empty();
    if given.is_empty()
        || (labelled as f64) < NEARLY_ALL * given.len() as f64
        || (!listed && counts.len() > most)
        || counts.is_empty()
    {
        return none();
    }
    let labels = column.values.iter().map(|value| {
        let label = usual.get(&value.as_ref()?.to_lowercase())?;
        counts.contains_key(label.as_str()).then(|| label.clone())
    });
    let labels: Vec<Option<String>> = labels.collect();
    let counted = |label: &str| (label.to_owned(), counts.get(label).copied().unwrap_or(0));
    if counts.len() == 1 {
        return (Kind::Constant { labels: counts.keys().map(|label| counted(label)).collect() }, labels);
    }
    if let Some((yes, no)) = yes_and_no(&counts) {
        return (Kind::Predicate { labels: vec![counted(&yes), counted(&no)] }, labels);
    }
    if let Some(levels) = levels(&counts) {
        return (Kind::Score { labels: levels.iter().map(|level| counted(level)).collect() }, labels);
    }
    let mut choices: Vec<(String, usize)> = counts.keys().map(|label| counted(label)).collect();
    choices.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    (Kind::Choice { labels: choices }, labels)
}

/// For each answer in lower case its most frequent spelling, or that of the schema.
fn usual_spellings(given: &[&String], allowed: &[String]) -> BTreeMap<String, String> {
    let mut spellings: BTreeMap<String, BTreeMap<&str, usize>> = BTreeMap::new();
    for value in given {
        *spellings.entry(value.to_lowercase()).or_default().entry(value).or_default() += 1;
    }
    let usual = |(folded, counts): (String, BTreeMap<&str, usize>)| {
        let listed = allowed.iter().find(|one| one.to_lowercase() == folded).map(String::as_str);
        let usual =
            listed.or_else(|| counts.into_iter().max_by_key(|(_, count)| *count).map(|(value, _)| value))?;
        Some((folded, usual.to_owned()))
    };
    spellings.into_iter().filter_map(usual).collect()
}

fn fits(label: &str) -> bool {
    let (characters, words) = LABEL;
    !label.trim().is_empty()
        && label.len() <= limits::NAME_BYTES
        && label.chars().count() <= characters
        && label.split_whitespace().count() <= words
        && !label.chars().any(char::is_control)
        && label == label.trim()
}

fn yes_and_no(counts: &BTreeMap<&str, usize>) -> Option<(String, String)> {
    let pairs = [("yes", "no"), ("true", "false"), ("y", "n"), ("1", "0")];
    let find = |wanted: &str| {
        counts.keys().find(|label| label.to_lowercase() == wanted).map(|label| (*label).to_owned())
    };
    if counts.len() != 2 {
        return None;
    }
    pairs.iter().find_map(|(yes, no)| find(yes).zip(find(no)))
}

/// The labels in order, where they are a few integers close together.
fn levels(counts: &BTreeMap<&str, usize>) -> Option<Vec<String>> {
    let mut levels: Vec<(i64, String)> =
        counts.keys().map(|label| Some((label.parse().ok()?, (*label).to_owned()))).collect::<Option<_>>()?;
    levels.sort();
    let (least, most) = (levels.first()?.0, levels.last()?.0);
    let close = most - least <= LEVELS && limits::SCORE_LEVELS.contains(&levels.len());
    close.then(|| levels.into_iter().map(|(_, label)| label).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sites::{Called, Tool};
    use serde_json::json;

    const TEAMS: [&str; 3] = ["a", "b", "c"];

    fn text(text: &str) -> Said {
        Said { text: Some(text.into()), calls: Vec::new() }
    }

    fn found(said: &[Said], fixed: &Fixed) -> Answers {
        answers(&said.iter().collect::<Vec<_>>(), fixed)
    }

    fn many(each: &[&str]) -> Vec<Said> {
        (0..40).map(|row| text(each[row % each.len()])).collect()
    }

    #[test]
    fn few_short_answers_are_a_choice_however_they_are_dressed() {
        let mut said = many(&["billing", "Billing.", "**delivery**", "\"returns\"", "billing"]);
        said.push(text("I cannot say, as the message is empty"));
        let Answers { asked, labels } = found(&said, &Fixed::default());
        let Kind::Choice { labels: choices } = &asked[0].kind else { panic!("{asked:?}") };
        assert_eq!(choices[..2], [("billing".to_owned(), 24), ("delivery".to_owned(), 8)]);
        assert_eq!(
            (asked[0].other, labels[1][0].as_deref(), labels[40][0].as_deref()),
            (1, Some("billing"), None)
        );
        let led = found(&many(&["Label: billing", "Label: delivery"]), &Fixed::default());
        assert_eq!(led.labels[0][0].as_deref(), Some("billing"));
    }

    #[test]
    fn yes_and_no_are_a_predicate_and_small_integers_a_score() {
        let kinds = |each: &[&str]| found(&many(each), &Fixed::default()).asked[0].kind.clone();
        assert_eq!(kinds(&["Yes.", "no", "no"]).labels()[0].0, "Yes");
        assert!(matches!(kinds(&["Yes.", "no", "No"]), Kind::Predicate { .. }));
        let Kind::Score { labels } = kinds(&["3", "1", "2", "2"]) else { panic!("a score") };
        assert_eq!(labels.iter().map(|(label, _)| label.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
        assert!(matches!(kinds(&["100", "2000", "30000"]), Kind::Choice { .. }));
        assert!(matches!(kinds(&["fine"]), Kind::Constant { .. }));
        let free: Vec<Said> = (0..40).map(|row| text(&format!("a summary of message {row}"))).collect();
        assert_eq!(found(&free, &Fixed::default()).asked[0].kind, Kind::Free);
    }

    #[test]
    fn an_object_is_a_question_for_each_field_with_one_value() {
        let said: Vec<Said> = (0..40)
            .map(|row| {
                let team = ["billing", "delivery"][row % 2];
                let object = json!({"team": team, "urgent": row % 3 == 0, "why": format!("because of {row}"),
                    "tags": ["a"], "grade": {"level": row % 4}});
                text(&format!("```json\n{object}\n```"))
            })
            .collect();
        let schema = json!({"properties": {"team": {"$ref": "#/$defs/Team"}}, "$defs": {"Team": {"enum": ["Billing", "delivery", "returns"]}}});
        let fixed = Fixed { schema: Some(schema), ..Fixed::default() };
        let Answers { asked, labels } = found(&said, &fixed);
        let kinds: Vec<(&str, &str)> = asked.iter().map(|one| (one.name.as_str(), one.kind.name())).collect();
        assert_eq!(
            kinds,
            [("grade.level", "score"), ("team", "choice"), ("urgent", "predicate"), ("why", "free")]
        );
        assert_eq!(labels[0], [Some("0".into()), Some("Billing".into()), Some("true".into()), None]);
    }

    #[test]
    fn what_a_tool_is_called_with_is_asked_or_which_tool_is_called() {
        let call = |name: &str, arguments: Value| Said {
            text: None,
            calls: vec![Called { name: name.into(), arguments }],
        };
        let tool = |name: &str| Tool {
            name: name.into(),
            parameters: json!({"properties": {"team": {"enum": ["a", "b", "c"]}}}),
        };
        let fixed = Fixed { tools: vec![tool("sort"), tool("drop")], ..Fixed::default() };
        let sorted: Vec<Said> = (0..12).map(|row| call("sort", json!({"team": TEAMS[row % 3]}))).collect();
        let asked = found(&sorted, &fixed).asked;
        assert_eq!((asked[0].name.as_str(), asked[0].kind.labels().len()), ("team", 3));
        let mixed: Vec<Said> =
            (0..12).map(|row| call(["sort", "drop"][row % 2], json!({"x": row}))).collect();
        let asked = found(&mixed, &fixed).asked;
        assert_eq!((asked.len(), asked[0].name.as_str(), asked[0].kind.name()), (1, "tool", "choice"));
    }

    proptest::proptest! {
        #[test]
        fn a_label_is_one_of_those_that_are_listed(texts in proptest::collection::vec("[a-cA-C.\"* ]{0,3}|\\PC{0,20}", 1..60)) {
            let said: Vec<Said> = texts.iter().map(|one| text(one)).collect();
            let Answers { asked, labels } = found(&said, &Fixed::default());
            proptest::prop_assert_eq!(labels.len(), said.len());
            for row in &labels {
                for (asked, label) in asked.iter().zip(row) {
                    if let Some(label) = label {
                        proptest::prop_assert!(asked.kind.labels().iter().any(|(known, _)| known == label));
                    }
                }
            }
        }
    }
}
