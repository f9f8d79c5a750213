//! What do people see of new kinds of input, and what can they do about one?
//!
//! Names and examples come from what records keep: of a task that keeps nothing there are shares and dates alone. A kind's words are those
//! that its inputs have more often than the other records of late; the first two make the label that is proposed.

use crate::error::{Error, Result};
use serde::Serialize;
use sizewise_contract::{KindState, NewKind, Record, StoredInput, units::UnixMillis};
use sizewise_store::{KeptKind, Store};
use std::collections::{HashMap, HashSet};

/// Kinds that are shown; the latest.
const SHOWN: usize = 20;
/// Inputs of a kind that its words are drawn from, and other records that they are compared with.
const OWN: usize = 200;
const OTHERS: usize = 500;
/// Inputs that are shown.
const EXAMPLES: usize = 10;
/// Words that are named.
const WORDS: usize = 6;

/// The part of a release without which nothing new can be told.
const PART: &str = "known/encoder";

/// The new kinds of a task.
#[derive(Debug, Serialize)]
pub(crate) struct View {
    pub(crate) task: String,
    /// Whether the release in force has what new kinds are told by.
    pub(crate) watched: bool,
    /// The latest first.
    pub(crate) kinds: Vec<Seen>,
}

/// One kind.
#[derive(Debug, Serialize)]
pub(crate) struct Seen {
    #[serde(flatten)]
    pub(crate) kind: NewKind,
    /// What it might be called; none where no text is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) label: Option<String>,
    /// What its inputs say more often than others.
    pub(crate) words: Vec<String>,
    /// Some of its inputs, the most typical first; none for those who may not read texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) examples: Option<Vec<Example>>,
}

/// One input of a kind.
#[derive(Debug, Serialize)]
pub(crate) struct Example {
    pub(crate) decision: String,
    pub(crate) at: UnixMillis,
    pub(crate) text: String,
}

/// Whether new kinds of input can be told by the release of a task that is in force.
pub(crate) fn is_watched(store: &Store, task: &str) -> Result<bool> {
    let release = store.in_force(task)?;
    Ok(release.is_some_and(|release| release.manifest.parts.iter().any(|part| part.name == PART)))
}

/// The new kinds of a task, with texts where those may be read.
pub(crate) fn view(store: &Store, task: &str, texts: bool) -> Result<View> {
    let kinds = store.kinds(task, SHOWN)?;
    let others = if kinds.is_empty() || !texts { Vec::new() } else { store.latest_records(task, OTHERS)? };
    let kinds = kinds.into_iter().map(|kept| seen(store, kept, texts.then_some(&*others)));
    Ok(View {
        task: task.to_owned(),
        watched: is_watched(store, task)?,
        kinds: kinds.collect::<Result<_>>()?,
    })
}

fn seen(store: &Store, kept: KeptKind, others: Option<&[Record]>) -> Result<Seen> {
    let kind = kept.kind;
    let Some(others) = others else {
        return Ok(Seen { kind, label: None, words: Vec::new(), examples: None });
    };
    let records = store.kind_records(kind.id, OWN)?;
    let ids: HashSet<&str> = records.iter().map(|record| record.id.as_str()).collect();
    let own: Vec<&str> = records.iter().filter_map(text).collect();
    let others: Vec<&str> =
        others.iter().filter(|record| !ids.contains(record.id.as_str())).filter_map(text).collect();
    let words = words(&own, &others);
    let label = words.get(..words.len().min(2)).filter(|words| !words.is_empty());
    let example = |record: &Record| {
        let text = text(record)?.to_owned();
        Some(Example { decision: record.id.clone(), at: record.at, text })
    };
    Ok(Seen {
        label: label.map(|words| words.join("_")),
        examples: Some(records.iter().filter_map(example).take(EXAMPLES).collect()),
        words,
        kind,
    })
}

fn text(record: &Record) -> Option<&str> {
    match &record.input {
        StoredInput::Nothing => None,
        StoredInput::Redacted(text) | StoredInput::Full(text) => Some(text),
    }
}

/// What some texts say more often than others do, the most telling first: by the weighted log-odds of being in a text.
fn words(own: &[&str], others: &[&str]) -> Vec<String> {
    let (here, there) = (counts(own), counts(others));
    let odds = |count: f64, all: usize| ((count + 0.5) / (all as f64 - count + 0.5)).ln();
    let least = (own.len() as f64 / 10.0).max(2.0);
    let mut found: Vec<(f64, String)> = here
        .into_iter()
        .filter(|(_, count)| *count >= least)
        .map(|(word, count)| {
            let elsewhere = there.get(&word).copied().unwrap_or(0.0);
            let more = odds(count, own.len()) - odds(elsewhere, others.len());
            // In how many deviations: what is in two texts alone says little.
            (more / (1.0 / (count + 0.5) + 1.0 / (elsewhere + 0.5)).sqrt(), word)
        })
        .filter(|(worth, _)| *worth > 1.0)
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    found.into_iter().take(WORDS).map(|(_, word)| word).collect()
}

/// In how many texts each word is.
fn counts(texts: &[&str]) -> HashMap<String, f64> {
    let mut counts = HashMap::new();
    for text in texts {
        // What stands for personal data says nothing of a kind.
        let plain = text.split_inclusive('>').map(|part| part.split('<').next().unwrap_or_default());
        let words: HashSet<String> = plain
            .flat_map(|part| part.split(|c: char| !c.is_alphanumeric()))
            .filter(|word| word.chars().count() >= 3 && word.chars().all(char::is_alphabetic))
            .map(str::to_lowercase)
            .collect();
        words.into_iter().for_each(|word| *counts.entry(word).or_insert(0.0) += 1.0);
    }
    counts
}

/// Says of a kind that it is none: its inputs are answered again as before.
pub(crate) fn dismiss(store: &Store, task: &str, id: i64, reason: &str) -> Result<()> {
    if reason.trim().is_empty() {
        return Err(Error::usage("say why it is none: the audit log keeps the reason".to_owned()));
    }
    match store.settle_kind(task, id, KindState::Dismissed, reason.trim())? {
        true => Ok(()),
        false => Err(nothing(task, id)),
    }
}

/// Puts a kind's inputs before people, ahead of all others; says how many questions wait.
pub(crate) fn label(store: &Store, task: &str, id: i64) -> Result<u64> {
    let kinds = store.kinds(task, SHOWN)?;
    if !kinds.iter().any(|kept| kept.kind.id == id && kept.kind.state == KindState::Proposed) {
        return Err(nothing(task, id));
    }
    Ok(store.queue_kind(task, id)?)
}

fn nothing(task: &str, id: i64) -> Error {
    Error::usage(format!("no kind {id} is proposed for {task}: `sizewise kinds {task}` lists them"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_kind_are_those_that_others_have_not() {
        let own = [
            "Where can I buy a gift voucher?",
            "my voucher does not work <PERSON_1>",
            "is the gift voucher valid",
            "Voucher, please! <PERSON_2>",
        ];
        let others = [
            "where is my parcel",
            "is the invoice right",
            "can I pay later, please",
            "my card does not work",
        ];
        let found = words(&own, &others);
        assert_eq!(&found[..2], ["voucher", "gift"], "{found:?}");
        assert!(!found.iter().any(|word| word == "person" || word == "where"), "{found:?}");
        assert!(words(&[], &others).is_empty() && words(&own[..1], &others).is_empty());
    }
}
