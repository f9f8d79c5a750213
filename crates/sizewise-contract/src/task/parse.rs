//! Is this text a task file, and if not, what exactly is wrong with it?
//!
//! Three passes: TOML, then keys against the format (so that a misspelt key gets a suggestion), then the rules that no
//! type can express. Every message names the place.

use super::{Cascade, Data, Input, Live, OutOfScope, Privacy, Promise, Question, QuestionKind, Task, Tiers};
use crate::{
    error::{Code, Diagnose, did_you_mean},
    limits,
    tier::Tier,
};
use std::collections::BTreeSet;

/// Why a text is not a task file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// Larger than a task file may be.
    #[error("the task file has {size} bytes; at most {} are read", limits::TASK_FILE_BYTES)]
    TooLarge {
        /// Size found.
        size: usize,
    },
    /// Not TOML, or a value of the wrong type.
    #[error("{0}")]
    Syntax(String),
    /// A key that the format does not know.
    #[error("unknown key `{key}` in {place}")]
    UnknownKey {
        /// The key as written.
        key: String,
        /// The table it stands in.
        place: String,
        /// The key that was probably meant.
        meant: Option<String>,
        /// Every key of that table.
        known: Vec<&'static str>,
    },
    /// A rule that no type can express.
    #[error("{place}: {problem}")]
    Rule {
        /// The key.
        place: String,
        /// What is wrong with its value.
        problem: String,
    },
}

impl Diagnose for TaskError {
    fn code(&self) -> Code {
        Code::TaskFileInvalid
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownKey { meant: Some(meant), .. } => Some(format!("did you mean `{meant}`?")),
            Self::UnknownKey { known, .. } => Some(format!("known here: {}", known.join(", "))),
            _ => None,
        }
    }
}

impl Task {
    /// Reads a task file.
    ///
    /// # Errors
    /// Fails on the first thing that is wrong, naming its place and, for a misspelt key, what was probably meant.
    pub fn parse(text: &str) -> Result<Self, TaskError> {
        if text.len() > limits::TASK_FILE_BYTES {
            return Err(TaskError::TooLarge { size: text.len() });
        }
        let table: toml::Table = text.parse().map_err(syntax)?;
        check_keys(&table)?;
        let task: Self = toml::from_str(text).map_err(syntax)?;
        check_rules(&task)?;
        Ok(task)
    }
}

fn syntax(error: toml::de::Error) -> TaskError {
    TaskError::Syntax(error.to_string().trim_end().to_owned())
}

/// The keys of each table of the format. A test holds this list against the types.
const KEYS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "schema", "name", "input", "question", "data", "promise", "cascade", "privacy", "live", "budget",
            "savings", "people",
        ],
    ),
    ("input", &["fields", "on_overflow"]),
    (
        "question",
        &[
            "name",
            "type",
            "instructions",
            "column",
            "choices",
            "levels",
            "labels",
            "out_of_scope",
            "out_of_scope_label",
            "promise",
        ],
    ),
    ("question.choices", &["value", "description"]),
    ("question.levels", &["label", "description"]),
    ("question.labels", &["yes", "no"]),
    ("question.promise", &["max_served_error", "confidence", "openings", "p95_latency_ms"]),
    ("data", &["train", "dev", "locked", "train_labels", "group", "time", "slices", "out_of_scope_share"]),
    ("promise", &["max_served_error", "confidence", "openings", "p95_latency_ms"]),
    ("cascade", &["tiers", "remote", "recall_hours", "recall_similar", "escalate_to"]),
    ("privacy", &["may_leave", "store", "retention_days"]),
    ("live", &["probe_share", "probes_per_day", "reference", "look_share"]),
    ("budget", &["usd_per_day", "usd_per_month", "usd_total"]),
    ("people", &["double_share", "suggestion_share", "adjudicate"]),
    ("savings", &["acceptable", "usd_per_label", "minutes_per_label", "usd_per_error", "usd_per_core_hour"]),
];

fn check_keys(table: &toml::Table) -> Result<(), TaskError> {
    check_table("", table)
}

fn check_table(place: &str, table: &toml::Table) -> Result<(), TaskError> {
    let Some((_, known)) = KEYS.iter().find(|(name, _)| *name == place) else { return Ok(()) };
    for (key, value) in table {
        if !known.contains(&key.as_str()) {
            return Err(TaskError::UnknownKey {
                key: key.clone(),
                place: if place.is_empty() { "the task file".into() } else { format!("[{place}]") },
                meant: did_you_mean(key, known.iter().copied()).map(str::to_owned),
                known: known.to_vec(),
            });
        }
        let inner = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
        match value {
            toml::Value::Table(table) => check_table(&inner, table)?,
            toml::Value::Array(items) => {
                items
                    .iter()
                    .filter_map(toml::Value::as_table)
                    .try_for_each(|table| check_table(&inner, table))?;
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn rule(place: impl Into<String>, problem: impl Into<String>) -> TaskError {
    TaskError::Rule { place: place.into(), problem: problem.into() }
}

fn check_rules(task: &Task) -> Result<(), TaskError> {
    let Task {
        schema,
        name,
        input,
        questions,
        data,
        promise,
        cascade,
        privacy: Privacy { .. },
        live,
        budget: _,
        savings,
        people,
    } = task;
    if *schema != 1 {
        return Err(rule("schema", format!("this build reads schema 1, not {schema}")));
    }
    check_task_name(name)?;
    check_input(input)?;
    check_data(data)?;
    check_slices(&data.slices, questions)?;
    check_promise("promise", promise)?;
    check_cascade(cascade)?;
    check_live(live)?;
    savings.check()?;
    people.check()?;
    if questions.is_empty() || questions.len() > limits::QUESTIONS {
        return Err(rule("question", format!("a task asks 1 to {} questions", limits::QUESTIONS)));
    }
    let mut names = BTreeSet::new();
    for question in questions {
        check_question(question)?;
        if !names.insert(&question.name) {
            return Err(rule("question.name", format!("`{}` stands twice", question.name)));
        }
        if input.fields.iter().any(|field| field == question.label_column()) {
            return Err(rule(
                format!("question `{}`", question.name),
                "its label column is also an input field, which would give the answer away",
            ));
        }
    }
    Ok(())
}

/// A task's name becomes a folder, a `model` and part of a URL, so it is kept plain.
fn check_task_name(name: &str) -> Result<(), TaskError> {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    if name.is_empty() || name.len() > 64 || !plain || !name.as_bytes()[0].is_ascii_alphanumeric() {
        return Err(rule(
            "name",
            format!(
                "`{}` is not 1 to 64 of a-z, 0-9, - and _, beginning with a letter or digit",
                name.escape_debug()
            ),
        ));
    }
    Ok(())
}

fn check_label(place: &str, label: &str) -> Result<(), TaskError> {
    if label.trim().is_empty() {
        return Err(rule(place, "an empty name"));
    }
    if label.len() > limits::NAME_BYTES {
        return Err(rule(
            place,
            format!("a name of {} bytes; at most {} are allowed", label.len(), limits::NAME_BYTES),
        ));
    }
    if label != label.trim() || label.chars().any(char::is_control) {
        return Err(rule(
            place,
            format!("`{}` begins or ends with space or holds a control character", label.escape_debug()),
        ));
    }
    Ok(())
}

fn check_input(input: &Input) -> Result<(), TaskError> {
    if input.fields.is_empty() {
        return Err(rule("input.fields", "a task reads at least one field"));
    }
    let mut seen = BTreeSet::new();
    for field in &input.fields {
        check_label("input.fields", field)?;
        if !seen.insert(field) {
            return Err(rule("input.fields", format!("`{field}` stands twice")));
        }
    }
    Ok(())
}

fn check_data(data: &Data) -> Result<(), TaskError> {
    for (key, path) in [("data.train", &data.train), ("data.dev", &data.dev), ("data.locked", &data.locked)] {
        let windows_drive = path.as_bytes().get(1) == Some(&b':');
        if path.is_empty()
            || path.starts_with(['/', '\\'])
            || windows_drive
            || path.split(['/', '\\']).any(|p| p == "..")
        {
            return Err(rule(key, format!("`{path}` is not a path below the task file")));
        }
    }
    if data.locked == data.train || data.locked == data.dev {
        return Err(rule("data.locked", "the locked rows must be in a file of their own"));
    }
    if data.out_of_scope_share.is_some_and(|share| !(share > 0.0 && share < 1.0)) {
        return Err(rule("data.out_of_scope_share", "must lie between 0 and 1; 0.1 is one input in ten"));
    }
    Ok(())
}

fn check_slices(slices: &[String], questions: &[Question]) -> Result<(), TaskError> {
    for (number, column) in slices.iter().enumerate() {
        let problem = if column.trim().is_empty() {
            "a column has a name".to_owned()
        } else if slices.iter().take(number).any(|earlier| earlier == column) {
            format!("`{column}` stands twice")
        } else if questions.iter().any(|question| question.label_column() == column) {
            format!("`{column}` holds labels, and nobody knows those of a request; name what is known of it")
        } else {
            continue;
        };
        return Err(rule("data.slices", problem));
    }
    Ok(())
}

fn check_promise(place: &str, promise: &Promise) -> Result<(), TaskError> {
    let inside = |value: f64| value > 0.0 && value < 1.0;
    if !inside(promise.max_served_error) {
        return Err(rule(
            format!("{place}.max_served_error"),
            "must lie between 0 and 1; 0.02 is two in a hundred",
        ));
    }
    if !inside(promise.confidence) {
        return Err(rule(format!("{place}.confidence"), "must lie between 0 and 1; 0.95 is usual"));
    }
    if !(1..=100).contains(&promise.openings) {
        return Err(rule(format!("{place}.openings"), "must be 1 to 100"));
    }
    Ok(())
}

fn check_cascade(cascade: &Cascade) -> Result<(), TaskError> {
    if let Some(provider) = &cascade.remote {
        check_label("cascade.remote", provider)?;
    }
    if cascade.recall_hours.is_some_and(|hours| !(1..=720).contains(&hours)) {
        return Err(rule("cascade.recall_hours", "must be 1 to 720; leave it out to remember nothing"));
    }
    if cascade.recall_similar && cascade.recall_hours.is_none() {
        return Err(rule(
            "cascade.recall_similar",
            "needs recall_hours: what is not remembered is like nothing",
        ));
    }
    let Tiers::List(tiers) = &cascade.tiers else { return Ok(()) };
    if tiers.is_empty() || !tiers.is_sorted_by(|a, b| a < b) {
        return Err(rule("cascade.tiers", "list each tier once, cheapest first"));
    }
    match tiers.iter().find(|tier| !matches!(tier, Tier::Static | Tier::Encoder)) {
        Some(Tier::Remote) => Err(rule(
            "cascade.tiers",
            "a remote model is not fitted: name its provider beside the tiers, as remote = \"primary\"",
        )),
        Some(tier) => Err(rule(
            "cascade.tiers",
            format!("`{tier}` cannot be fitted by this version: static and encoder can"),
        )),
        None => Ok(()),
    }
}

fn check_live(live: &Live) -> Result<(), TaskError> {
    let shares = [("live.probe_share", live.probe_share), ("live.look_share", live.look_share)];
    match shares.iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
        Some((name, _)) => Err(rule(*name, "must lie between 0 and 1")),
        None => Ok(()),
    }
}

fn check_question(question: &Question) -> Result<(), TaskError> {
    check_label("question.name", &question.name)?;
    let place = format!("question `{}`", question.name);
    let is = |kind| question.kind == kind;
    if !question.choices.is_empty() && !is(QuestionKind::Choice) {
        return Err(rule(&place, "only a choice has `choices`"));
    }
    if !question.levels.is_empty() && !is(QuestionKind::Score) {
        return Err(rule(&place, "only a score has `levels`"));
    }
    if question.labels.is_some() && !is(QuestionKind::Predicate) {
        return Err(rule(&place, "only a predicate has `labels`"));
    }
    let allowed = match question.kind {
        QuestionKind::Choice => 2..=limits::CHOICES,
        QuestionKind::Predicate => 2..=2,
        QuestionKind::Score => limits::SCORE_LEVELS,
    };
    let values = question.class_values();
    if !allowed.contains(&values.len()) {
        return Err(rule(
            &place,
            format!("{} classes; {} to {} are allowed", values.len(), allowed.start(), allowed.end()),
        ));
    }
    let mut seen = BTreeSet::new();
    for value in values {
        check_label(&place, value)?;
        if !seen.insert(value) {
            return Err(rule(&place, format!("`{value}` stands twice")));
        }
        if question.out_of_scope == OutOfScope::Escalate
            && question.out_of_scope_label.as_deref() == Some(value)
        {
            return Err(rule(&place, format!("`{value}` is both a class and the out-of-scope label")));
        }
    }
    if let OutOfScope::Value(value) = &question.out_of_scope {
        if !is(QuestionKind::Choice) {
            return Err(rule(
                &place,
                "only a choice can answer out-of-scope inputs with a value; use `escalate`",
            ));
        }
        check_label(&place, value)?;
    }
    question.promise.iter().try_for_each(|promise| check_promise(&format!("{place}.promise"), promise))
}

#[cfg(test)]
mod tests {
    use super::super::{Choice, Level, PredicateLabels};
    use super::*;
    use crate::example::ClassLabel;
    use crate::{
        task::{Budget, People, Savings},
        units::{Dollars, MicroUsd},
    };
    use proptest::prelude::*;

    const SMALL: &str = r#"
schema = 1
name = "support"

[[question]]
name = "team"
type = "choice"
choices = [ { value = "billing" }, { value = "delivery", description = "Parcels" } ]
out_of_scope_label = "none"

[[question]]
name = "urgent"
type = "predicate"
"#;

    fn problem(text: &str) -> String {
        let error = Task::parse(text).unwrap_err();
        format!("{error}{}", error.hint().map(|hint| format!(" — {hint}")).unwrap_or_default())
    }

    #[test]
    fn a_small_file_is_read_with_its_defaults() {
        let task = Task::parse(SMALL).unwrap();
        assert_eq!(task.questions[0].class_values(), ["billing", "delivery"]);
        assert_eq!(task.questions[1].class_values(), ["no", "yes"]);
        assert_eq!(task.cascade.tiers, Tiers::Auto);
        assert_eq!(task.promise.max_served_error, 0.05);
    }

    #[test]
    fn labels_are_read_as_the_tables_spell_them() {
        let task = Task::parse(SMALL).unwrap();
        let (_, team) = task.question("team").unwrap();
        assert_eq!(team.class_label(" delivery "), Some(ClassLabel::Class(1)));
        assert_eq!(team.class_label("Delivery"), None);
        assert_eq!(team.class_label("none"), Some(ClassLabel::OutOfScope));
        assert_eq!(task.questions[1].class_label("TRUE"), Some(ClassLabel::Class(1)));
    }

    #[test]
    fn a_misspelt_key_gets_a_suggestion() {
        assert_eq!(
            problem(&format!("{SMALL}\n[promise]\nmax_server_error = 0.1")),
            "unknown key `max_server_error` in [promise] — did you mean `max_served_error`?"
        );
        assert!(
            problem(&SMALL.replace("choices", "options")).contains("unknown key `options` in [question]")
        );
        assert!(
            problem(&SMALL.replace("description", "descr1ption")).contains("did you mean `description`?")
        );
    }

    #[test]
    fn each_broken_rule_names_its_place() {
        for (from, to, expected) in [
            ("name = \"support\"", "name = \"../x\"", "name: `../x` is not"),
            ("schema = 1", "schema = 2", "schema: this build reads schema 1"),
            ("\"delivery\"", "\"billing\"", "`billing` stands twice"),
            ("\"delivery\"", "\" \"", "an empty name"),
            ("\"none\"", "\"billing\"", "both a class and the out-of-scope label"),
            ("name = \"urgent\"", "name = \"team\"", "`team` stands twice"),
            ("name = \"urgent\"", "name = \"text\"", "give the answer away"),
            ("type = \"predicate\"", "type = \"predicat\"", "unknown variant `predicat`"),
            ("type = \"predicate\"", "type = \"score\"", "0 classes; 2 to 10"),
        ] {
            let message = problem(&SMALL.replace(from, to));
            assert!(message.contains(expected), "{message}");
        }
        for (table, expected) in [
            ("[data]\ntrain = \"/etc/passwd\"", "data.train: `/etc/passwd` is not a path below"),
            ("[data]\nlocked = \"a/../../b\"", "data.locked"),
            ("[data]\nlocked = \"data/dev.csv\"", "file of their own"),
            ("[data]\nslices = [\"lang\", \"lang\"]", "data.slices: `lang` stands twice"),
            ("[data]\nslices = [\"team\"]", "data.slices: `team` holds labels"),
            ("[promise]\nconfidence = 1.5", "promise.confidence"),
            ("[cascade]\ntiers = [\"encoder\", \"static\"]", "cheapest first"),
            ("[cascade]\ntiers = [\"static\", \"remote\"]", "not fitted: name its provider"),
            ("[live]\nprobe_share = 7", "probe_share"),
            ("[savings]\nacceptable = [\"a\", \"a\"]", "savings.acceptable: name each provider once"),
            ("[savings]\nminutes_per_label = 0", "savings.minutes_per_label"),
            ("[people]\ndouble_share = 2", "people.double_share"),
            ("[live]\nlook_share = -0.1", "look_share"),
        ] {
            let message = problem(&format!("{SMALL}\n{table}"));
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn moving_the_data_keeps_the_contract_and_changing_the_promise_does_not() {
        let task = Task::parse(SMALL).unwrap();
        let moved = Task::parse(&format!("{SMALL}\n[data]\ntrain = \"rows.csv\"")).unwrap();
        let bolder = Task::parse(&format!("{SMALL}\n[promise]\nmax_served_error = 0.01")).unwrap();
        let remote =
            "[cascade]\nremote = \"primary\"\n[budget]\nusd_per_day = 2.50\n[privacy]\nmay_leave = \"yes\"";
        let escalates = Task::parse(&format!("{SMALL}\n{remote}")).unwrap();
        assert_eq!(task.contract_hash(), moved.contract_hash());
        assert_eq!(task.contract_hash(), escalates.contract_hash());
        assert_eq!(escalates.budget.usd_per_day, Some(Dollars(MicroUsd(2_500_000))));
        assert_ne!(task.contract_hash(), bolder.contract_hash());
    }

    /// A task in which every optional part is present.
    fn full() -> Task {
        let promise = Promise { p95_latency_ms: Some(50), ..Promise::default() };
        let question = Question {
            name: "team".into(),
            kind: QuestionKind::Choice,
            instructions: "Which?".into(),
            column: Some("queue".into()),
            choices: vec![Choice { value: "a".into(), description: "A".into() }],
            levels: vec![Level { label: "low".into(), description: "L".into() }],
            labels: Some(PredicateLabels { yes: "y".into(), no: "n".into() }),
            out_of_scope: OutOfScope::Value("other".into()),
            out_of_scope_label: Some("none".into()),
            promise: Some(promise),
        };
        Task {
            schema: 1,
            name: "full".into(),
            input: Input::default(),
            questions: vec![question],
            data: Data {
                group: Some("customer".into()),
                slices: vec!["language".into()],
                time: Some("at".into()),
                out_of_scope_share: Some(0.1),
                ..Data::default()
            },
            promise,
            cascade: Cascade {
                remote: Some("primary".into()),
                recall_hours: Some(1),
                recall_similar: true,
                ..Cascade::default()
            },
            privacy: Privacy::default(),
            live: Live::default(),
            budget: Budget {
                usd_per_day: Some(Dollars(MicroUsd(1))),
                usd_per_month: Some(Dollars(MicroUsd(2))),
                usd_total: Some(Dollars(MicroUsd(3))),
            },
            savings: Savings {
                acceptable: vec!["cheap".into()],
                usd_per_label: Some(Dollars(MicroUsd(4))),
                minutes_per_label: Some(0.5),
                usd_per_error: Some(Dollars(MicroUsd(5))),
                usd_per_core_hour: Some(Dollars(MicroUsd(6))),
            },
            people: People { double_share: 0.1, ..People::default() },
        }
    }

    #[test]
    fn the_list_of_keys_is_the_list_of_fields() {
        fn compare(place: &str, table: &toml::Table) {
            let (_, known) = KEYS
                .iter()
                .find(|(name, _)| *name == place)
                .unwrap_or_else(|| panic!("[{place}] is not listed"));
            let fields: BTreeSet<&str> = table.keys().map(String::as_str).collect();
            assert_eq!(fields, known.iter().copied().collect(), "[{place}]");
            for (key, value) in table {
                let inner = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                let tables =
                    value.as_array().into_iter().flatten().chain([value]).filter_map(toml::Value::as_table);
                tables.for_each(|table| compare(&inner, table));
            }
        }
        compare("", &toml::Table::try_from(full()).unwrap());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let task = Task::parse(SMALL).unwrap();
        assert_eq!(Task::parse(&toml::to_string(&task).unwrap()).unwrap(), task);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
            let _ = Task::parse(&text);
            let _ = Task::parse(&format!("{SMALL}\n{text}"));
        }
    }
}
