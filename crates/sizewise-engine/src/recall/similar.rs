//! Was something asked before that is so much like this that its answer may be given again?
//!
//! How much that must be is found for each release on development rows that the release itself would hand on, by the test of
//! [`sizewise_measure::similar`]; until it is found, and where it cannot be shown, nothing is given again. Only what a larger model said of a
//! text itself is remembered here, so answers never wander from like to like.
//!
//! Development rows are as the traffic was. One similar text in ten is therefore asked about all the same, and where a bet on such checks
//! shows more of them wrong than was promised, nothing more is given again under that release.

use super::Remembered;
use crate::{Engine, Error, InputValue, Request, admit, cascade, live::TaskLimits, served::Served};
use sizewise_contract::{
    ClassLabel, ContentHash,
    limits::INPUTS_PER_REQUEST,
    task::{Promise, StoreInput},
};
use sizewise_measure::{
    similar::{Outcome, Pair, Split, test},
    watch::{Against, Lifetime},
};
use sizewise_models::{batching::Seat, neighbours::UnitVector};
use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// Most texts that are remembered so, of all callers of a task; the oldest go first. Each takes some 400 bytes, and all are looked at.
const MOST: usize = 10_000;

/// One in so many similar texts is asked about all the same.
const CHECKED: u64 = 10;

/// From which likeness on answers may be given again, and what checks of them say since.
#[derive(Debug)]
pub(crate) struct Rule {
    questions: Vec<Question>,
    drawn: AtomicU64,
}

#[derive(Debug)]
struct Question {
    least: Option<f64>,
    /// The capital from which on a bet against the promise has won.
    enough: f64,
    against: Mutex<Lifetime>,
}

impl Rule {
    fn new(found: &[Similarity]) -> Self {
        let question = |found: &Similarity| Question {
            least: found.outcome.threshold,
            enough: 1.0 / (1.0 - found.promise.confidence).max(f64::EPSILON),
            against: Mutex::new(Lifetime::new(Against::Kept, found.promise.max_served_error)),
        };
        Self { questions: found.iter().map(question).collect(), drawn: AtomicU64::new(0) }
    }

    /// The likeness that all of these questions ask for; none where one of them allows nothing.
    pub(crate) fn of(&self, questions: impl Iterator<Item = usize>) -> Option<f64> {
        let mut least = f64::NEG_INFINITY;
        for question in questions {
            let question = self.questions.get(question).filter(|question| !question.is_refuted())?;
            least = least.max(question.least?);
        }
        least.is_finite().then_some(least)
    }

    /// Whether the next similar text is asked about all the same, to see whether the answer to its like was right.
    pub(crate) fn draws_check(&self) -> bool {
        (self.drawn.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(CHECKED)
    }

    /// Takes in what a check said of one question. Too many wrong ones, by a bet against the promise, and nothing is given again.
    pub(crate) fn tell(&self, question: usize, wrong: bool) {
        if let Some(question) = self.questions.get(question) {
            question.against.lock().unwrap_or_else(PoisonError::into_inner).tell((wrong, 1.0));
        }
    }

    /// The questions whose checks spoke against them, by position.
    fn refuted(&self) -> impl Iterator<Item = usize> {
        let refuted = |(place, question): (usize, &Question)| question.is_refuted().then_some(place);
        self.questions.iter().enumerate().filter_map(refuted)
    }
}

impl Question {
    fn is_refuted(&self) -> bool {
        self.against.lock().unwrap_or_else(PoisonError::into_inner).capital() >= self.enough
    }
}

/// What was found of one question.
#[derive(Debug, Clone, PartialEq)]
pub struct Similarity {
    /// Its name.
    pub question: String,
    /// Its promise.
    pub promise: Promise,
    /// Development rows that the release hands on.
    pub handed_on: usize,
    /// What came of the test.
    pub outcome: Outcome,
}

/// A text with what people say of it, question after question.
pub type LabelledText = (String, Vec<Option<ClassLabel>>);

/// What larger models said, by what it was said of.
#[derive(Debug, Default)]
pub(super) struct Memory(VecDeque<Kept>);

#[derive(Debug)]
struct Kept {
    since: Instant,
    /// Whose it is, and of which release.
    owner: ContentHash,
    vector: UnitVector,
    said: Remembered,
}

impl Memory {
    /// What was said of the text most like this one, if it is like enough and says something to all of these questions.
    pub(super) fn nearest(
        &self,
        (owner, names): (&ContentHash, &[String]),
        (vector, least): (&UnitVector, f64),
        lifetime: Duration,
    ) -> Option<Remembered> {
        let fits = |kept: &&Kept| {
            kept.owner == *owner
                && kept.since.elapsed() < lifetime
                && names.iter().all(|name| kept.said.labels.contains_key(name))
        };
        let kept: Vec<&Kept> = self.0.iter().filter(fits).collect();
        let (place, cosine) = vector.nearest(kept.iter().map(|kept| &kept.vector))?;
        (f64::from(cosine) >= least).then(|| kept.get(place).map(|kept| kept.said.clone())).flatten()
    }

    pub(super) fn keep(
        &mut self,
        owner: ContentHash,
        vector: UnitVector,
        said: Remembered,
        lifetime: Duration,
    ) {
        while self.0.len() >= MOST || self.0.front().is_some_and(|kept| kept.since.elapsed() >= lifetime) {
            self.0.pop_front();
        }
        self.0.push_back(Kept { since: Instant::now(), owner, vector, said });
    }
}

/// What is compared of a text: the encoder's last layer, as for neighbours.
pub(crate) async fn vector(served: &Served, text: &str) -> Option<UnitVector> {
    let seat = served.encoder.as_ref()?;
    vectors(seat, &[text], served).await.ok()?.pop()
}

async fn vectors(seat: &Seat, texts: &[&str], served: &Served) -> Result<Vec<UnitVector>, Error> {
    let (told, embedded) = oneshot::channel();
    seat.submit(texts, served.info.task.input.on_overflow, |found| drop(told.send(found)))?;
    let embedded = embedded.await.map_err(|_| Error::Model(sizewise_models::Error::ShuttingDown))??;
    let dimensions = seat.encoder().last_layer_dimensions();
    Ok(embedded.rows().map(|row| UnitVector::of(row.get(..dimensions).unwrap_or(row))).collect())
}

impl Engine {
    /// Whether it is known of a task's release how much alike two texts must be.
    #[must_use]
    pub fn knows_similarity(&self, task: &str) -> bool {
        self.find(task).is_ok_and(|served| served.similar.get().is_some())
    }

    /// The questions of a task whose answers were given again to similar texts until checks showed too many of them wrong.
    #[must_use]
    pub fn refuted_similarity(&self, task: &str) -> Vec<String> {
        let Ok(served) = self.find(task) else { return Vec::new() };
        let questions = &served.info.task.questions;
        let refuted = served.similar.get().into_iter().flat_map(Rule::refuted);
        refuted.filter_map(|place| questions.get(place)).map(|question| question.name.clone()).collect()
    }

    /// Finds how much alike two texts must be for the answer to one to stand for the other, by rows that people labelled and that neither
    /// taught nor certified this release; from then on such answers are given again. None where that was found meanwhile.
    ///
    /// # Errors
    /// Fails when no task of that name is served, or a row cannot be read: nothing is then given again.
    pub async fn find_similarity(
        &self,
        task: &str,
        rows: &[LabelledText],
    ) -> Result<Option<Vec<Similarity>>, Error> {
        let served = self.find(task)?;
        if served.similar.get().is_some() {
            return Ok(None);
        }
        let questions = &served.info.task.questions;
        let mut handed_on: Vec<Vec<Row>> = questions.iter().map(|_| Vec::new()).collect();
        if let Some(seat) = &served.encoder {
            for chunk in rows.chunks(INPUTS_PER_REQUEST.min(64)) {
                judge(&served, seat, chunk, &mut handed_on).await?;
            }
        }
        let found: Vec<Similarity> = questions
            .iter()
            .zip(&handed_on)
            .map(|(question, rows)| {
                let promise = served.info.task.promise_of(question);
                let outcome = tested(rows, &promise);
                Similarity { question: question.name.clone(), promise, handed_on: rows.len(), outcome }
            })
            .collect();
        let _ = served.similar.set(Rule::new(&found));
        Ok(Some(found))
    }
}

/// A row that is handed on.
struct Row {
    /// Has nothing to do with its label.
    number: u64,
    vector: UnitVector,
    label: ClassLabel,
}

/// Adds the rows that the release hands on, question by question.
async fn judge(
    served: &Served,
    seat: &Seat,
    rows: &[LabelledText],
    handed_on: &mut [Vec<Row>],
) -> Result<(), Error> {
    let inputs = rows.iter().map(|(text, _)| InputValue::Text(text.clone())).collect();
    let request = Request { inputs, ..Request::default() };
    // Under the certificate alone: what evidence against it hands on is given nothing again.
    let certified = TaskLimits::default();
    let admitted = admit::admit(served, &request, (StoreInput::Nothing, &certified))?;
    let judged = cascade::run(served, &admitted).await?.judged;
    let texts: Vec<&str> = admitted.texts.iter().map(String::as_str).collect();
    let vectors = vectors(seat, &texts, served).await?;
    for (((text, labels), judged), vector) in rows.iter().zip(judged).zip(vectors) {
        let number = ContentHash::of(text.as_bytes());
        let number = number.as_bytes().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        for (question, found) in judged.iter().enumerate() {
            let Some(asked) = served.asked.get(question) else { continue };
            let leaves = !asked.may_answer || !found.is_sure(asked.limit);
            let (Some(rows), Some(Some(label)), true) =
                (handed_on.get_mut(question), labels.get(question), leaves)
            else {
                continue;
            };
            rows.push(Row { number, vector: vector.clone(), label: *label });
        }
    }
    Ok(())
}

fn tested(rows: &[Row], promise: &Promise) -> Outcome {
    let split = Split::by(&rows.iter().map(|row| row.number).collect::<Vec<u64>>());
    let of = |places: &[usize]| -> Vec<&Row> { places.iter().filter_map(|place| rows.get(*place)).collect() };
    let (remembered, planned, asked) = (of(&split.remembered), of(&split.planned), of(&split.tested));
    let quarter: Vec<&Row> = remembered.iter().step_by(4).copied().collect();
    let pairs = |asked: &[&Row], remembered: &[&Row]| -> Vec<Pair> {
        let pair = |row: &&Row| {
            let (place, cosine) = row.vector.nearest(remembered.iter().map(|one| &one.vector))?;
            let same = remembered.get(place).is_some_and(|one| one.label == row.label);
            Some(Pair { likeness: f64::from(cosine), same })
        };
        asked.iter().filter_map(pair).collect()
    };
    let sets = [pairs(&asked, &remembered), pairs(&asked, &quarter)];
    test(&pairs(&planned, &remembered), &sets, promise, rows.len() as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;
    use std::collections::BTreeMap;

    fn said(names: &[&str]) -> Remembered {
        let labels: BTreeMap<String, String> =
            names.iter().map(|name| ((*name).to_owned(), "billing".to_owned())).collect();
        Remembered { labels, provider: "primary".into(), model: "m".into() }
    }

    /// A vector in a plane, spread over enough dimensions that no entry is cut.
    fn vector(x: f32, y: f32) -> UnitVector {
        let values: Vec<f32> = [x, y].iter().flat_map(|value| [value / 4.0; 16]).collect();
        UnitVector::of(&values)
    }

    #[test]
    fn only_what_the_same_caller_asked_of_the_same_questions_comes_back() {
        let (hour, known) = (Duration::from_secs(3_600), vector(0.6, 0.8));
        let (mine, theirs) = (ContentHash::of(b"mine"), ContentHash::of(b"theirs"));
        let mut memory = Memory::default();
        memory.keep(mine, known.clone(), said(&["team"]), hour);
        let find = |memory: &Memory, owner, names: &[&str], vector: &UnitVector, least, hours| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            memory.nearest((owner, &names), (vector, least), hours).is_some()
        };
        let near = vector(0.62, 0.784);
        assert!(find(&memory, &mine, &["team"], &near, 0.99, hour));
        assert!(!find(&memory, &mine, &["team"], &vector(0.8, 0.6), 0.99, hour));
        assert!(!find(&memory, &theirs, &["team"], &near, 0.5, hour));
        assert!(!find(&memory, &mine, &["team", "urgent"], &near, 0.5, hour));
        assert!(!find(&memory, &mine, &["team"], &near, 0.5, Duration::ZERO));
        for _ in 0..MOST {
            memory.keep(theirs, known.clone(), said(&["team"]), hour);
        }
        assert!(!find(&memory, &mine, &["team"], &near, 0.5, hour), "the oldest have gone");
    }

    fn rule(least: &[Option<f64>]) -> Rule {
        let promise = Promise { max_served_error: 0.1, confidence: 0.95, ..Promise::default() };
        let found = least.iter().map(|threshold| Similarity {
            question: "team".into(),
            promise,
            handed_on: 0,
            outcome: Outcome { threshold: *threshold, asked: 0, hits: 0, wrong: 0, rows_needed: None },
        });
        Rule::new(&found.collect::<Vec<_>>())
    }

    #[test]
    fn a_question_that_allows_nothing_allows_nothing_to_those_asked_with_it() {
        let rule = rule(&[Some(0.9), None, Some(0.95)]);
        assert_eq!(rule.of([0, 2].into_iter()), Some(0.95));
        assert_eq!(rule.of([0, 1].into_iter()), None);
        assert_eq!(rule.of(std::iter::empty()), None);
        assert_eq!(rule.of([7].into_iter()), None);
    }

    #[test]
    fn checks_that_find_too_many_wrong_end_it_for_their_question_alone() {
        let rule = rule(&[Some(0.9), Some(0.8)]);
        // As many wrong as promised: nothing happens.
        (0..500).for_each(|check| rule.tell(0, check % 10 == 0));
        assert_eq!(rule.of([0].into_iter()), Some(0.9));
        (0..40).for_each(|check| rule.tell(0, check % 2 == 0));
        assert_eq!((rule.of([0].into_iter()), rule.of([1].into_iter())), (None, Some(0.8)));
        assert_eq!(rule.refuted().collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn a_tenth_is_checked() {
        let rule = rule(&[Some(0.9)]);
        assert_eq!((0..1_000).filter(|_| rule.draws_check()).count(), 100);
    }
}
