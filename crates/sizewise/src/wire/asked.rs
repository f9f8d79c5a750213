//! Which of the task's questions does a request's question mean?
//!
//! Both decision protocols carry their questions along, because the models they were made for know no tasks. Here the
//! questions are the task's, so each one that comes in is matched: by name; else by the same instructions; else by its
//! type and values, where only one question of the task has them. A named predicate of a task with several questions
//! is never matched by its type alone: every predicate looks alike, and the answer would be to another question.

use super::error::WireError;
use sizewise_contract::{Code, Question, QuestionKind, Task, did_you_mean};
use sizewise_engine::QuestionRef;
use std::{borrow::Cow, collections::HashMap};

/// How many questions, and values of each, a message lists.
const LISTED: usize = 20;

/// A question of a request, whatever the protocol.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// Its name, where it has one.
    pub name: Option<&'a str>,
    /// What it asks in words, where they are plain text.
    pub instructions: Option<&'a str>,
    /// Its type.
    pub kind: QuestionKind,
    /// The values or levels in the order of the request; none for a predicate.
    pub values: Vec<Cow<'a, str>>,
    /// Where the question stands, as `questions[2]`.
    pub place: String,
    /// The field that lists the values, as `choices`.
    pub values_field: &'static str,
}

/// The questions to put to the engine, and where each answer goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The questions to answer; none is all of them in order.
    pub questions: Option<Vec<QuestionRef>>,
    /// One per question of the request, in its order.
    pub placed: Vec<Placed>,
}

/// Where the answer to one question of a request is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Position among the engine's answers.
    pub answer: usize,
    /// The class of each value of the request; none where both have the same order. [`OUTSIDE`] is the class of the label for what is
    /// outside of every class: it may be asked for, and is never the answer, as nobody is sure of such an input.
    pub order: Option<Vec<usize>>,
}

/// No class.
const OUTSIDE: usize = usize::MAX;

impl Placed {
    /// The probabilities in the order of the request. `[values]`
    pub fn in_order<'p>(&'p self, probabilities: &'p [f32]) -> impl Iterator<Item = f32> + 'p {
        let asked = self.order.as_ref().map_or(probabilities.len(), Vec::len);
        (0..asked).map(move |place| {
            let class = self.order.as_ref().map_or(Some(place), |order| order.get(place).copied());
            class.and_then(|class| probabilities.get(class)).copied().unwrap_or_default()
        })
    }

    /// Where a class stands in the order of the request.
    #[must_use]
    pub fn place_of(&self, class: usize) -> Option<usize> {
        self.order.as_ref().map_or(Some(class), |order| order.iter().position(|c| *c == class))
    }
}

/// Matches all questions of a request.
///
/// # Errors
/// Fails on the first question that the task does not ask, and lists what it asks.
pub fn plan(task: &Task, asked: &[Asked<'_>]) -> Result<Plan, WireError> {
    let mut refs: Vec<QuestionRef> = Vec::with_capacity(asked.len());
    let mut placed = Vec::with_capacity(asked.len());
    for question in asked {
        let (position, order) = find(task, question)?;
        let answer = refs.iter().position(|known| known.0 == position).unwrap_or_else(|| {
            refs.push(QuestionRef(position));
            refs.len() - 1
        });
        placed.push(Placed { answer, order });
    }
    let all = refs.len() == task.questions.len() && refs.iter().enumerate().all(|(i, known)| known.0 == i);
    Ok(Plan { questions: (!all).then_some(refs), placed })
}

type Found = (usize, Option<Vec<usize>>);

fn find(task: &Task, asked: &Asked<'_>) -> Result<Found, WireError> {
    if let Some((position, question)) = asked.name.and_then(|name| task.question(name)) {
        return by_name(task, asked, question).map(|order| (position, order));
    }
    let fitting = || {
        task.questions.iter().enumerate().filter_map(|(position, question)| {
            (question.kind == asked.kind).then_some(())?;
            match_values(question, &asked.values).ok().map(|order| (position, question, order))
        })
    };
    let said = asked.instructions.map(str::trim).filter(|text| !text.is_empty());
    if let Some((position, _, order)) =
        fitting().find(|(_, question, _)| said.is_some_and(|text| question.instructions.trim() == text))
    {
        return Ok((position, order));
    }
    let by_type_alone =
        asked.kind != QuestionKind::Predicate || asked.name.is_none() || task.questions.len() == 1;
    let mut candidates = fitting().filter(|_| by_type_alone);
    match (candidates.next(), candidates.next()) {
        (Some((position, _, order)), None) => Ok((position, order)),
        (Some((_, first, _)), Some((_, second, _))) => Err(ambiguous(task, asked, first, second)),
        (None, _) => Err(unknown(task, asked)),
    }
}

fn by_name(task: &Task, asked: &Asked<'_>, question: &Question) -> Result<Option<Vec<usize>>, WireError> {
    if question.kind != asked.kind {
        return Err(WireError::new(
            Code::UnknownQuestion,
            Some(format!("{}.type", asked.place)),
            format!(
                "question `{}` of task `{}` is a {}, not a {}",
                question.name,
                task.name,
                kind_name(question.kind),
                kind_name(asked.kind)
            ),
        ));
    }
    match_values(question, &asked.values).map_err(|difference| {
        WireError::new(
            Code::UnknownQuestion,
            Some(format!("{}.{}", asked.place, asked.values_field)),
            format!("question `{}` of task `{}` has other values: {difference}", question.name, task.name),
        )
        .with_hint(format!("it asks {}", describe(question)))
    })
}

fn ambiguous(task: &Task, asked: &Asked<'_>, first: &Question, second: &Question) -> WireError {
    WireError::new(
        Code::UnknownQuestion,
        Some(format!("{}.name", asked.place)),
        format!("`{}` and `{}` of task `{}` both fit this question", first.name, second.name, task.name),
    )
    .with_hint("name the one that is meant")
}

fn unknown(task: &Task, asked: &Asked<'_>) -> WireError {
    let called = asked.name.map_or(String::new(), |name| format!(" `{}`", shorten(name)));
    let near = asked.name.and_then(|name| did_you_mean(name, task.questions.iter().map(|q| q.name.as_str())));
    let hint = near.map_or(String::new(), |name| format!("did you mean `{name}`? "));
    WireError::new(
        Code::UnknownQuestion,
        Some(asked.place.clone()),
        format!("task `{}` has no {}{called} with these values", task.name, kind_name(asked.kind)),
    )
    .with_hint(format!("{hint}it asks {}", listed(task.questions.iter().map(describe))))
}

/// Finds the class of each value; the difference in words where the sets differ.
fn match_values(question: &Question, values: &[Cow<'_, str>]) -> Result<Option<Vec<usize>>, String> {
    if question.kind == QuestionKind::Predicate {
        return Ok(None);
    }
    let classes = question.class_values();
    if classes.len() == values.len() && classes.iter().zip(values).all(|(class, value)| *class == &**value) {
        return Ok(None);
    }
    let index: HashMap<&str, usize> = classes.iter().enumerate().map(|(i, class)| (*class, i)).collect();
    let mut used = vec![false; classes.len()];
    let mut order = Vec::with_capacity(values.len());
    let mut strange = Vec::new();
    for value in values {
        match index.get(&**value).and_then(|class| used.get_mut(*class).map(|used| (*class, used))) {
            Some((class, used)) if !*used => {
                *used = true;
                order.push(class);
            }
            Some(_) => return Err(format!("`{}` stands twice", shorten(value))),
            None if question.out_of_scope_label.as_deref() == Some(&**value) && !order.contains(&OUTSIDE) => {
                order.push(OUTSIDE);
            }
            None => strange.push(format!("`{}`", shorten(value))),
        }
    }
    let missing: Vec<String> = classes
        .iter()
        .zip(&used)
        .filter(|(_, used)| !**used)
        .map(|(class, _)| format!("`{class}`"))
        .collect();
    match (strange.is_empty(), missing.is_empty()) {
        (true, true) => Ok(Some(order)),
        (false, true) => Err(format!("unknown {}", listed(strange))),
        (true, false) => Err(format!("missing {}", listed(missing))),
        (false, false) => Err(format!("unknown {}; missing {}", listed(strange), listed(missing))),
    }
}

/// One question in words: what a caller has to send to ask it.
#[must_use]
pub fn describe(question: &Question) -> String {
    let kind = kind_name(question.kind);
    match question.kind {
        QuestionKind::Predicate => format!("{kind} `{}`", question.name),
        QuestionKind::Choice | QuestionKind::Score => {
            let values = listed(question.class_values().into_iter().map(shorten));
            format!("{kind} `{}` ({values})", question.name)
        }
    }
}

/// The name of a type of question on the wire.
#[must_use]
pub fn kind_name(kind: QuestionKind) -> &'static str {
    match kind {
        QuestionKind::Choice => "choice",
        QuestionKind::Predicate => "predicate",
        QuestionKind::Score => "score",
    }
}

fn listed(items: impl IntoIterator<Item = String>) -> String {
    let mut items = items.into_iter();
    let shown: Vec<String> = items.by_ref().take(LISTED).collect();
    match items.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn shorten(text: &str) -> String {
    let mut shown: String = text.chars().take(60).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::support_task;
    use proptest::prelude::*;
    use sizewise_contract::Diagnose;

    fn asked<'a>(name: Option<&'a str>, kind: QuestionKind, values: &[&'a str]) -> Asked<'a> {
        Asked {
            name,
            instructions: None,
            kind,
            values: values.iter().map(|value| Cow::Borrowed(*value)).collect(),
            place: "questions[0]".into(),
            values_field: "choices",
        }
    }

    fn failure(task: &Task, question: Asked<'_>) -> (String, String) {
        let error = plan(task, &[question]).expect_err("does not fit");
        assert_eq!(error.code(), Code::UnknownQuestion);
        (
            error.param().unwrap_or_default().to_owned(),
            format!("{error}; {}", error.hint().unwrap_or_default()),
        )
    }

    #[test]
    fn all_questions_in_order_are_asked_as_a_whole() {
        let task = support_task();
        let both = [
            asked(Some("team"), QuestionKind::Choice, &["billing", "delivery", "returns"]),
            asked(Some("urgent"), QuestionKind::Predicate, &[]),
            asked(Some("mood"), QuestionKind::Score, &["calm", "cross", "furious"]),
        ];
        let plan = plan(&task, &both).expect("fits");
        assert_eq!(plan.questions, None);
        assert_eq!(plan.placed[1], Placed { answer: 1, order: None });
    }

    #[test]
    fn values_in_another_order_give_probabilities_in_that_order() {
        let question = asked(Some("team"), QuestionKind::Choice, &["returns", "billing", "delivery"]);
        let plan = plan(&support_task(), &[question.clone(), question]).expect("fits");
        assert_eq!(plan.questions, Some(vec![QuestionRef(0)]), "the same question twice is asked once");
        assert_eq!(plan.placed[0].in_order(&[0.5, 0.3, 0.2]).collect::<Vec<_>>(), [0.2, 0.5, 0.3]);
        assert_eq!(plan.placed[1].place_of(0), Some(1));
    }

    #[test]
    fn the_label_for_what_is_outside_may_be_asked_for_and_has_no_probability() {
        let mut task = support_task();
        task.questions[0].out_of_scope_label = Some("none".into());
        let with = |values: &[&'static str]| asked(Some("team"), QuestionKind::Choice, values);
        let fits = plan(&task, &[with(&["billing", "none", "delivery", "returns"])]).expect("fits");
        assert_eq!(fits.placed[0].in_order(&[0.5, 0.3, 0.2]).collect::<Vec<_>>(), [0.5, 0.0, 0.3, 0.2]);
        assert_eq!(fits.placed[0].place_of(1), Some(2));
        let (_, message) = failure(&task, with(&["billing", "none", "none", "delivery", "returns"]));
        assert!(message.contains("unknown `none`"), "{message}");
    }

    #[test]
    fn a_question_without_a_known_name_is_found_by_its_values() {
        let task = support_task();
        let by_values = asked(Some("department"), QuestionKind::Choice, &["billing", "delivery", "returns"]);
        assert_eq!(plan(&task, &[by_values]).expect("fits").questions, Some(vec![QuestionRef(0)]));
        let by_type = asked(None, QuestionKind::Predicate, &[]);
        assert_eq!(plan(&task, &[by_type]).expect("fits").questions, Some(vec![QuestionRef(1)]));
        let mut by_words = asked(Some("hurry"), QuestionKind::Predicate, &[]);
        by_words.instructions = Some(" Does waiting a day do harm? ");
        assert_eq!(plan(&task, &[by_words]).expect("fits").questions, Some(vec![QuestionRef(1)]));
    }

    #[test]
    fn a_predicate_of_another_name_is_not_taken_for_the_only_predicate() {
        let (param, message) = failure(&support_task(), asked(Some("angry"), QuestionKind::Predicate, &[]));
        assert_eq!(param, "questions[0]");
        assert_eq!(
            message,
            "task `support` has no predicate `angry` with these values; it asks choice `team` (billing, delivery, \
             returns), predicate `urgent`, score `mood` (calm, cross, furious)"
        );
        let mut alone = support_task();
        alone.questions.remove(0);
        alone.questions.pop();
        assert!(plan(&alone, &[asked(Some("angry"), QuestionKind::Predicate, &[])]).is_ok());
    }

    #[test]
    fn two_fitting_questions_are_not_guessed_between() {
        let mut task = support_task();
        let mut second = task.questions[1].clone();
        second.name = "legal".into();
        task.questions.push(second);
        let (param, message) = failure(&task, asked(None, QuestionKind::Predicate, &[]));
        assert_eq!(param, "questions[0].name");
        assert!(message.contains("`urgent` and `legal`"), "{message}");
    }

    #[test]
    fn other_values_are_listed_with_what_is_missing() {
        let question = asked(Some("team"), QuestionKind::Choice, &["billing", "sales", "returns"]);
        let (param, message) = failure(&support_task(), question);
        assert_eq!(param, "questions[0].choices");
        assert!(message.contains("unknown `sales`; missing `delivery`"), "{message}");
        let twice = asked(Some("team"), QuestionKind::Choice, &["billing", "billing", "returns"]);
        assert!(failure(&support_task(), twice).1.contains("`billing` stands twice"));
        let (param, _) = failure(&support_task(), asked(Some("urgent"), QuestionKind::Score, &[]));
        assert_eq!(param, "questions[0].type");
    }

    proptest! {
        #[test]
        fn any_order_of_the_values_is_undone(order in Just(vec![0usize, 1, 2]).prop_shuffle()) {
            let names = ["billing", "delivery", "returns"];
            let values: Vec<&str> = order.iter().map(|i| names[*i]).collect();
            let plan = plan(&support_task(), &[asked(Some("team"), QuestionKind::Choice, &values)]).expect("fits");
            let seen: Vec<f32> = plan.placed[0].in_order(&[0.0, 1.0, 2.0]).collect();
            prop_assert_eq!(seen, order.iter().map(|i| *i as f32).collect::<Vec<_>>());
        }
    }
}
