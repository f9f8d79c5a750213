//! Has the mix of classes changed since a question was certified, and what does that do to its promise?
//!
//! What the static tier said of the latest requests stands in their records, one number each. With how often it says what of each class
//! (development rows) they tell the mix (`measure::mix`); the gold rows' outcomes, counted by what their class has become, tell which threshold keeps the
//! promise under it. Nobody has to label anything for that, unless classes have grown that few gold rows are of.

use crate::{error::Error, served::TaskInfo};
use sizewise_contract::{Question, Record, Tier};
use sizewise_measure::mix::{Confusion, MixRows, Remade, Seen, Shift, answer, remake};
use sizewise_store::Store;

/// Latest records that are looked at.
const LATEST: usize = 5_000;
/// Fewest of them that tell anything.
const FEWEST: f64 = 300.0;
/// Mixes that leave open what counts leave open.
const MIXES: usize = 100;
/// Classes that are named.
const NAMED: usize = 5;

/// How the mix of a question's classes stands.
#[derive(Debug, Clone, PartialEq)]
pub struct MixStanding {
    /// The question.
    pub question: String,
    /// Requests that it was estimated from; fewer than three hundred tell nothing.
    pub seen: u64,
    /// What is known of it; none where too little was seen.
    pub found: Option<MixFound>,
}

/// What is known of a mix.
#[derive(Debug, Clone, PartialEq)]
pub struct MixFound {
    /// How far it is from the certified one.
    pub shift: Shift,
    /// Classes that grew most.
    pub grown: Vec<Grown>,
    /// Gold rows of all classes.
    pub gold: u64,
    /// What came of testing the promise again, where the mix has changed.
    pub remade: Option<Remade>,
    /// Classes whose labels are worth most now.
    pub label_next: Vec<String>,
}

/// A class that grew.
#[derive(Debug, Clone, PartialEq)]
pub struct Grown {
    /// The value.
    pub class: String,
    /// Its share when it was certified: that of the gold rows.
    pub certified: f64,
    /// Its share now.
    pub now: f64,
    /// Between which shares nineteen of twenty mixes have it that counts leave open; none where the mix has not changed.
    pub range: Option<(f64, f64)>,
    /// Gold rows of it.
    pub gold: u64,
}

impl MixFound {
    /// From which confidence the promise was shown to hold under the mix of now, where that is stricter than what was certified.
    #[must_use]
    pub fn stricter_than(&self, certified: f64) -> Option<f64> {
        let remade = self.remade.as_ref().and_then(|remade| remade.threshold);
        remade.filter(|threshold| *threshold > certified)
    }
}

/// How the mixes of a task's certified questions stand; nothing of a question of which no numbers were kept.
///
/// # Errors
/// Fails when the store cannot be read.
pub fn mixes(store: &Store, info: &TaskInfo) -> Result<Vec<MixStanding>, Error> {
    let mut standings = Vec::new();
    let mut records: Option<Vec<Record>> = None;
    for question in &info.task.questions {
        let Some(rows) = store.mix_rows::<MixRows>(&info.release, &question.name)? else { continue };
        if records.is_none() {
            records = Some(store.latest_records(&info.task.name, LATEST)?);
        }
        let of_release = records.iter().flatten().filter(|record| record.release == info.release);
        let seen = seen(of_release, question, rows.answers);
        let promise = info.task.promise_of(question);
        let found = (seen.total() >= FEWEST).then(|| found(&rows, &seen, question, &promise)).flatten();
        standings.push(MixStanding { question: question.name.clone(), seen: seen.total() as u64, found });
    }
    Ok(standings)
}

/// What the static tier said.
fn seen<'r>(records: impl Iterator<Item = &'r Record>, question: &Question, answers: usize) -> Seen {
    let values = question.class_values();
    let mut seen = Seen::new(answers);
    for answered in records.flat_map(|record| &record.answers).filter(|one| one.question == question.name) {
        let own = answered.path.iter().find(|step| step.tier == Tier::Static);
        let class = own.and_then(|step| values.iter().position(|value| *value == step.value));
        if let Some((class, confidence)) = class.zip(own.and_then(|step| step.confidence)) {
            seen.add(answer(class, confidence));
        }
    }
    seen
}

fn found(
    rows: &MixRows,
    seen: &Seen,
    question: &Question,
    promise: &sizewise_contract::task::Promise,
) -> Option<MixFound> {
    let certified = rows.shares()?;
    let mut table = Confusion::new(rows.classes, rows.answers);
    rows.development.iter().for_each(|one| table.add(one.row.class, one.said));
    let shift = table.shift(seen, &certified, 1);
    let values = question.class_values();
    let name = |class: usize| values.get(class).map_or("out_of_scope", |value| *value).to_owned();
    let mixes = if shift.changed { table.mixes(seen, MIXES, 1) } else { Vec::new() };
    let remade = shift.changed.then(|| {
        let development: Vec<_> = rows.development.iter().map(|one| one.row.clone()).collect();
        remake(&development, &rows.gold, &mixes, promise)
    });
    let mut grown: Vec<(usize, f64, f64)> = certified
        .iter()
        .zip(&shift.mix)
        .enumerate()
        .map(|(class, (then, now))| (class, *then, *now))
        .collect();
    grown.sort_by(|a, b| (b.2 - b.1).total_cmp(&(a.2 - a.1)));
    let grown = grown.into_iter().filter(|(_, then, now)| now > then).take(NAMED);
    let grown = grown.map(|(class, certified, now)| Grown {
        class: name(class),
        certified,
        now,
        range: range(mixes.get(1..).unwrap_or_default(), class),
        gold: rows.gold.iter().filter(|row| row.class == class).count() as u64,
    });
    let next = remade.iter().flat_map(|remade| remade.label_next.iter().take(NAMED));
    Some(MixFound {
        grown: grown.collect(),
        gold: rows.gold.len() as u64,
        label_next: next.map(|class| name(*class)).collect(),
        remade,
        shift,
    })
}

/// The middle nineteen of twenty shares that a class has in some mixes; none without any.
fn range(mixes: &[Vec<f64>], class: usize) -> Option<(f64, f64)> {
    let mut shares: Vec<f64> = mixes.iter().filter_map(|mix| mix.get(class).copied()).collect();
    shares.sort_by(f64::total_cmp);
    let left_out = shares.len() / 40;
    let low = shares.get(left_out)?;
    let high = shares.get(shares.len().checked_sub(left_out + 1)?)?;
    Some((*low, *high))
}
