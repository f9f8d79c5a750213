//! Which waiting questions does a person get next?
//!
//! What others have begun first, as it is not gold before it is settled; then what somebody asked for, a new kind of input; then what was
//! drawn at random: it tells how the promise stands, and is no evidence unless all of it is answered. Then what teaches most
//! (`learn::worth`): unsure, judged differently by two tiers, long waited for, and not twenty ways of asking the same.

use crate::{
    clock,
    error::Result,
    people::{self, Person, Shown},
};
use sizewise_contract::{QueuedItem, Record, StoredInput, Tier, Waits, task::People};
use sizewise_learn::worth::{Waiting, Weights, order};
use sizewise_models::{builtin, static_embeddings::StaticEmbeddings};
use sizewise_store::Store;
use std::{collections::BTreeSet, sync::OnceLock};

/// Questions that are weighed against each other: the latest, as they are like the traffic of today.
const WEIGHED: usize = 1_000;
const DAY_MS: f64 = 86_400_000.0;

/// What a person should look at next, at most so many, as they may see it.
pub(crate) fn next(
    store: &Store,
    (task, people): (&str, &People),
    person: &Person,
    count: usize,
) -> Result<Vec<Shown>> {
    let mut found = Vec::new();
    for item in chosen(store, task, (&person.name, person.adjudicates(people)), count)? {
        found.extend(people::shown(store, (people, person), item)?);
    }
    Ok(found)
}

fn chosen(store: &Store, task: &str, person: (&str, bool), count: usize) -> Result<Vec<QueuedItem>> {
    let mut chosen = store.waiting_for_another(task, person, count)?;
    chosen.extend(store.waiting_longest(task, Waits::NewKind, count - chosen.len())?);
    chosen.extend(store.waiting_longest(task, Waits::Probe, count - chosen.len())?);
    let rest = count - chosen.len();
    if rest > 0 {
        let items = store.waiting_latest(task, WEIGHED.max(rest))?;
        chosen.extend(by_worth(store, items, rest)?);
    }
    Ok(chosen)
}

fn by_worth(store: &Store, mut items: Vec<QueuedItem>, count: usize) -> Result<Vec<QueuedItem>> {
    static EMBEDDINGS: OnceLock<Option<StaticEmbeddings>> = OnceLock::new();
    items.sort_by(|a, b| (a.at.0, &a.decision).cmp(&(b.at.0, &b.decision)));
    // Without them, questions are only not grouped.
    let embeddings = EMBEDDINGS.get_or_init(|| builtin::static_embeddings().ok());
    let now = clock::now().0;
    let vectors: Vec<Option<Vec<f32>>> = items.iter().map(|item| vector(embeddings.as_ref(), item)).collect();
    let mut waiting = Vec::with_capacity(items.len());
    for (item, vector) in items.iter().zip(&vectors) {
        let record = store.record(&item.decision)?;
        waiting.push(Waiting {
            confidence: item.confidence,
            novelty: 0.0,
            disagreement: record.is_some_and(|record| disagree(&record, &item.question)),
            cost: 1.0,
            age_days: (now - item.at.0).max(0) as f64 / DAY_MS,
            audit: false,
            vector: vector.as_deref(),
        });
    }
    let places = order(&waiting, count, Weights::default(), 1);
    let mut items: Vec<Option<QueuedItem>> = items.into_iter().map(Some).collect();
    Ok(places.into_iter().filter_map(|place| items.get_mut(place)?.take()).collect())
}

fn vector(embeddings: Option<&StaticEmbeddings>, item: &QueuedItem) -> Option<Vec<f32>> {
    let (StoredInput::Redacted(text) | StoredInput::Full(text)) = &item.input else { return None };
    let (mut ids, mut vector) = (Vec::new(), Vec::new());
    embeddings?.embed_into(text, &mut ids, &mut vector);
    Some(vector)
}

/// Whether two local tiers would have answered differently.
fn disagree(record: &Record, question: &str) -> bool {
    let answer = record.answers.iter().find(|answer| answer.question == question);
    let steps = answer.iter().flat_map(|answer| &answer.path).filter(|step| step.tier != Tier::Remote);
    steps.map(|step| step.value.as_str()).collect::<BTreeSet<_>>().len() > 1
}
