//! Who is asked about a waiting question, what are they shown, and how do they agree?
//!
//! Which questions two people answer, and after which the model's suggestion is shown, is drawn by their ids alone: nobody can choose them.
//! Probes, and questions that two answer, are never shown with a suggestion before it is measured what that does.

#[cfg(test)]
mod tests;

use crate::error::Result;
use serde::Serialize;
use sizewise_contract::{
    ContentHash, QueuedItem, StoredInput, Waits,
    task::{Adjudicate, People},
    units::UnixMillis,
};
use sizewise_measure::{
    agreement::kappa,
    metrics::{Estimate, Share},
};
use sizewise_store::{Became, PersonLabel, Role, Said, Stage, Store};
use std::collections::BTreeMap;

/// Answers that agreement is computed of, the latest.
const READ: usize = 20_000;

/// Somebody who answers.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    /// How the store names them.
    pub(crate) name: String,
    pub(crate) role: Role,
}

impl Person {
    /// Whether they decide where two others differ.
    pub(crate) fn adjudicates(&self, people: &People) -> bool {
        self.role == Role::Operator || people.adjudicate == Adjudicate::Anyone
    }
}

/// A waiting question as one person may see it.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    pub(crate) decision: String,
    pub(crate) task: String,
    pub(crate) question: String,
    pub(crate) at: UnixMillis,
    pub(crate) input: StoredInput,
    pub(crate) why: Waits,
    /// What the model would say, where that may be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) suggestion: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) confidence: Option<f64>,
    /// What this person chose before the suggestion was shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first: Option<Chosen>,
    /// What the two said who differ, for whoever decides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) differ: Vec<Chosen>,
}

/// What somebody chose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Chosen {
    /// None where they cannot say.
    pub(crate) answer: Option<String>,
}

/// What came of an answer.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    /// `gold`, `dropped`, `second`, `disputed`, or `suggested` where the answer is to be looked at again.
    pub(crate) became: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) suggestion: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) confidence: Option<f64>,
}

/// Whether a question is of a share of all; by its id, so nobody can choose it.
fn drawn(item: &QueuedItem, share: f64, what: &str) -> bool {
    let named = format!("{what}\n{}\n{}", item.decision, item.question);
    let hash = ContentHash::of(named.as_bytes());
    let bits = hash.as_bytes().iter().take(6).fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    (bits as f64) < share * (1u64 << 48) as f64
}

fn is_double(people: &People, item: &QueuedItem) -> bool {
    drawn(item, people.double_share, "double")
}

/// A probe is judged without any suggestion, so that what it shows is nobody's but the person's.
fn is_suggested(people: &People, item: &QueuedItem) -> bool {
    item.why != Waits::Probe && drawn(item, people.suggestion_share, "suggestion")
}

/// A waiting question as a person may see it; none where they have answered it.
pub(crate) fn shown(
    store: &Store,
    (people, person): (&People, &Person),
    item: QueuedItem,
) -> Result<Option<Shown>> {
    let place = match store.place(&item, &person.name) {
        // Somebody settled it since it was looked up.
        Err(sizewise_store::Error::NotWaiting { .. }) => return Ok(None),
        place => place?,
    };
    if place.answered {
        return Ok(None);
    }
    let hidden = item.why == Waits::Probe || place.stage != Stage::Open || is_double(people, &item);
    let (first, suggestion) = match place.begun {
        Some((first, suggestion)) => (Some(Chosen { answer: first }), Some(suggestion)),
        None if hidden || is_suggested(people, &item) => (None, None),
        None => (None, Some(item.suggestion)),
    };
    let differ = if person.adjudicates(people) { place.differ } else { Vec::new() };
    Ok(Some(Shown {
        decision: item.decision,
        task: item.task,
        question: item.question,
        at: item.at,
        input: item.input,
        why: item.why,
        confidence: suggestion.as_ref().map(|_| item.confidence),
        suggestion,
        first,
        differ: differ.into_iter().map(|answer| Chosen { answer }).collect(),
    }))
}

/// Takes a person's answer in; `after` says that it is the one after the suggestion.
pub(crate) fn answer(
    store: &Store,
    (people, person): (&People, &Person),
    item: &QueuedItem,
    (answer, after): (Option<&str>, bool),
) -> Result<Outcome> {
    let place = store.place(item, &person.name)?;
    let measured = place.stage == Stage::Open && !place.answered && is_suggested(people, item);
    if place.begun.is_some() && !after || measured && place.begun.is_none() {
        if place.begun.is_none() {
            store.choose_first(item, &person.name, answer)?;
        }
        let (suggestion, confidence) = (Some(item.suggestion.clone()), Some(item.confidence));
        return Ok(Outcome { became: "suggested", suggestion, confidence });
    }
    let said = Said {
        person: &person.name,
        answer,
        double: is_double(people, item),
        adjudicates: person.adjudicates(people),
    };
    let became = match store.label(item, &said)? {
        Became::Gold => "gold",
        Became::Dropped => "dropped",
        Became::Second => "second",
        Became::Disputed => "disputed",
    };
    Ok(Outcome { became, suggestion: None, confidence: None })
}

/// How people who answer a task's questions agree, and what suggestions do to them.
#[derive(Debug, Serialize)]
pub(crate) struct Agreement {
    pub(crate) task: String,
    /// Questions that wait for a second person, and for a third one.
    pub(crate) waits_for_second: u64,
    pub(crate) waits_for_third: u64,
    pub(crate) questions: Vec<OfQuestion>,
    pub(crate) suggestions: Suggestions,
}

/// Agreement about one question of a task.
#[derive(Debug, Serialize)]
pub(crate) struct OfQuestion {
    pub(crate) question: String,
    #[serde(flatten)]
    pub(crate) all: Alike,
    pub(crate) pairs: Vec<OfPair>,
}

/// Agreement of two people.
#[derive(Debug, Serialize)]
pub(crate) struct OfPair {
    pub(crate) people: [String; 2],
    #[serde(flatten)]
    pub(crate) all: Alike,
}

/// How often two said the same before either saw a suggestion.
#[derive(Debug, Serialize)]
pub(crate) struct Alike {
    pub(crate) alike: Share,
    /// Cohen's kappa; none where nothing could differ.
    pub(crate) kappa: Option<Estimate>,
}

/// The pull of suggestions.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Suggestions {
    /// Answers before which one was shown.
    pub(crate) shown: u64,
    /// Of those whose first choice was another one, changed to the suggestion.
    pub(crate) changed_to_it: Option<Share>,
    /// Of the changed ones that somebody without a suggestion answered as well: the suggestion was right.
    pub(crate) it_was_right: Option<Share>,
    /// Of the same: the first choice was right.
    pub(crate) first_was_right: Option<Share>,
}

/// What is known of the people who answer a task's questions.
pub(crate) fn agreement(store: &Store, task: &str) -> Result<Agreement> {
    let labels = store.person_labels(task, READ)?;
    let (waits_for_second, waits_for_third) = store.unsettled(task)?;
    let mut pairs: BTreeMap<&str, Vec<(&PersonLabel, &PersonLabel)>> = BTreeMap::new();
    let same = |a: &PersonLabel, b: &PersonLabel| a.decision == b.decision && a.question == b.question;
    for of_one in labels.chunk_by(same) {
        let at = |place| of_one.iter().find(|label| label.place == place);
        if let (Some(first), Some(second)) = (at(1), at(2)) {
            pairs.entry(&first.question).or_default().push((first, second));
        }
    }
    let questions = pairs.into_iter().map(|(question, pairs)| {
        let mut by_people: BTreeMap<[&str; 2], Vec<(&PersonLabel, &PersonLabel)>> = BTreeMap::new();
        for (first, second) in &pairs {
            // A pair is the same whoever was asked first.
            let (a, b) = if first.person <= second.person { (first, second) } else { (second, first) };
            by_people.entry([&a.person, &b.person]).or_default().push((a, b));
        }
        OfQuestion {
            question: question.to_owned(),
            all: alike(&pairs),
            pairs: by_people
                .into_iter()
                .map(|(people, pairs)| OfPair { people: people.map(str::to_owned), all: alike(&pairs) })
                .collect(),
        }
    });
    let questions = questions.collect();
    let suggestions = suggestions(&labels, same);
    Ok(Agreement { task: task.to_owned(), waits_for_second, waits_for_third, questions, suggestions })
}

fn alike(pairs: &[(&PersonLabel, &PersonLabel)]) -> Alike {
    let mut classes: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    for (a, b) in pairs {
        for label in [a, b] {
            let next = classes.len();
            classes.entry(label.first.as_deref()).or_insert(next);
        }
    }
    let class = |label: &PersonLabel| classes.get(&label.first.as_deref()).copied().unwrap_or_default();
    let pairs: Vec<(usize, usize)> = pairs.iter().map(|(a, b)| (class(a), class(b))).collect();
    let agreed = pairs.iter().filter(|(a, b)| a == b).count() as u64;
    Alike { alike: Share::new(agreed, pairs.len() as u64), kappa: kappa(&pairs) }
}

fn suggestions(labels: &[PersonLabel], same: impl Fn(&PersonLabel, &PersonLabel) -> bool) -> Suggestions {
    let shown = labels.iter().filter(|label| label.suggested.is_some()).count() as u64;
    let (mut contrary, mut changed, mut judged, mut right, mut first_right) = (0, 0, 0, 0, 0);
    for of_one in labels.chunk_by(same) {
        for label in of_one.iter().filter(|label| label.suggested.is_some() && label.first != label.suggested)
        {
            contrary += 1;
            if label.said != label.suggested {
                continue;
            }
            changed += 1;
            let another = |other: &&PersonLabel| other.person != label.person && other.suggested.is_none();
            if let (Some(settled), true) = (&label.settled, of_one.iter().any(|other| another(&other))) {
                judged += 1;
                right += u64::from(label.suggested.as_ref() == Some(settled));
                first_right += u64::from(label.first.as_ref() == Some(settled));
            }
        }
    }
    let share = |count, of| (of > 0).then(|| Share::new(count, of));
    Suggestions {
        shown,
        changed_to_it: share(changed, contrary),
        it_was_right: share(right, judged),
        first_was_right: share(first_right, judged),
    }
}
