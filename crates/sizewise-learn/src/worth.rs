//! Which waiting question is worth a person's next answer?
//!
//! A queue grows with the traffic and people answer a part of it. [`order`] puts first what teaches most: questions of which the
//! tiers are unsure, on which they disagree, that are unlike what has a label, and whose like is costly or has waited. The first
//! of them are grouped by their vectors and one of each group comes before the second of any, so that twenty ways to say the
//! same are not asked in a row (as `teach::select` does for a model that teaches).
//!
//! **Labels chosen by value are no evidence**: they say how wrong the task is where it is unsure. So an audit share of what waits
//! is drawn when it arrives ([`audited`], by a keyed hash of its id: nothing about the question has a part in it), keeps its place in the order of arrival, and is
//! dealt evenly among the others, unmarked. Only those labels, with their recorded share, say something about the queue as a whole.

use crate::teach::select::{Clusters, Points};
use sizewise_contract::ContentHash;
use sizewise_measure::random::Random;

/// Questions that are looked at for one that is taken.
const CANDIDATES: usize = 4;
/// Most questions that are grouped at once.
const GROUPED: usize = 4_000;

/// What is known of a question that waits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Waiting<'a> {
    /// The confidence of the answer that the last tier asked would have given, from 0 to 1.
    pub confidence: f64,
    /// How unlike the training rows it is, from 0 to 1.
    pub novelty: f64,
    /// Whether two tiers would have answered differently.
    pub disagreement: bool,
    /// What one more of its kind costs while it escalates, beside the mean of what waits: 1 where nothing is known.
    pub cost: f64,
    /// How long it has waited, in days.
    pub age_days: f64,
    /// Whether it was drawn for the audit when it arrived ([`audited`]).
    pub audit: bool,
    /// Its vector, of unit length, where an encoder read it.
    pub vector: Option<&'a [f32]>,
}

/// How much each reason counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// Added where tiers disagree, in units of certain doubt.
    pub disagreement: f64,
    /// Added for an input that is like nothing seen.
    pub novelty: f64,
    /// Added for each thirty days of waiting.
    pub month: f64,
}

impl Default for Weights {
    /// Chosen on training rows of BANKING77 (`figures -- queue-trial`).
    fn default() -> Self {
        Self { disagreement: 0.15, novelty: 0.0, month: 0.5 }
    }
}

impl Waiting<'_> {
    /// What an answer to it is worth, 0 for one about which nothing is in doubt.
    #[must_use]
    pub fn value(&self, weights: Weights) -> f64 {
        let unit = |value: f64| if value.is_finite() { value.clamp(0.0, 1.0) } else { 0.0 };
        let doubt = 1.0 - unit(self.confidence);
        let disagreement = if self.disagreement { weights.disagreement } else { 0.0 };
        let months = if self.age_days.is_finite() { (self.age_days / 30.0).clamp(0.0, 12.0) } else { 0.0 };
        let cost = if self.cost.is_finite() { self.cost.clamp(0.1, 10.0) } else { 1.0 };
        // The square root: a kind that costs ten times as much is not asked ten times as often.
        (doubt + disagreement + weights.novelty * unit(self.novelty)) * cost.sqrt() + weights.month * months
    }
}

/// Whether a question belongs to the audit share, decided by its id and a secret of the task alone.
///
/// **Determinism.** The same id, secret and share always give the same.
#[must_use]
pub fn audited(id: &str, secret: &[u8], share: f64) -> bool {
    let mut hash = ContentHash::builder();
    hash.field(secret);
    hash.field(id.as_bytes());
    let hash = hash.finish();
    let first = hash.as_bytes().iter().take(8).fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    let drawn = (first >> 11) as f64 / (1u64 << 53) as f64;
    drawn < share
}

/// The next `count` questions for people, most valuable first, those of the audit dealt evenly among them. `items` are in the order
/// of their arrival; returns places in it.
///
/// **Bounds.** Time is items + 4 × count² × length of a vector, at most 4,000 grouped. **Determinism.** Depends on the arguments alone.
#[must_use]
pub fn order(items: &[Waiting<'_>], count: usize, weights: Weights, seed: u64) -> Vec<usize> {
    let (audit, valued): (Vec<usize>, Vec<usize>) =
        (0..items.len()).partition(|place| items.get(*place).is_some_and(|item| item.audit));
    let count = count.min(items.len());
    // As large a part of the answers as of what waits: the audit neither hurries nor lags.
    let audits = (count as f64 * audit.len() as f64 / items.len().max(1) as f64).round() as usize;
    let audits = audits
        .clamp(usize::from(!audit.is_empty() && count > 1), audit.len())
        .max(count.saturating_sub(valued.len()));
    let audits = audits.min(count);
    let chosen = valuable(items, valued, count - audits, (weights, seed));
    deal(&chosen, audit.get(..audits).unwrap_or_default())
}

fn valuable(
    items: &[Waiting<'_>],
    places: Vec<usize>,
    count: usize,
    (weights, seed): (Weights, u64),
) -> Vec<usize> {
    let mut valued: Vec<(f64, usize)> =
        places.into_iter().filter_map(|place| Some((items.get(place)?.value(weights), place))).collect();
    valued.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    valued.truncate((count * CANDIDATES).min(GROUPED.max(count)));
    let width = valued.iter().find_map(|(_, place)| items.get(*place)?.vector).map_or(0, <[f32]>::len);
    let vector = |place: usize| items.get(place)?.vector.filter(|vector| vector.len() == width && width > 0);
    let (grouped, alone): (Vec<_>, Vec<_>) = valued.iter().partition(|(_, place)| vector(*place).is_some());
    if valued.len() <= count || grouped.len() < 2 {
        return valued.into_iter().take(count).map(|(_, place)| place).collect();
    }
    let values: Vec<f32> =
        grouped.iter().filter_map(|(_, place)| vector(*place)).flatten().copied().collect();
    // Those without a vector take their part of the places.
    let groups = (count * grouped.len()).div_ceil(valued.len());
    let mut random = Random::new(seed ^ 0x9e7);
    let clusters = Clusters::of(Points { values: &values, width }, &[], groups, &mut random);
    let rows: Vec<usize> = (0..grouped.len()).collect();
    let cost = |place: usize| grouped.get(place).map_or(0.0, |(value, _)| -*value as f32);
    let mut chosen: Vec<(f64, usize)> =
        clusters.take(cost, &rows).into_iter().filter_map(|row| grouped.get(row).copied()).collect();
    chosen.extend(alone.iter().take(count - chosen.len().min(count)));
    chosen.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    chosen.truncate(count);
    chosen.into_iter().map(|(_, place)| place).collect()
}

/// Puts the second list's places evenly among those of the first.
fn deal(first: &[usize], second: &[usize]) -> Vec<usize> {
    let all = first.len() + second.len();
    let (mut first, mut second, mut dealt, audits) = (first.iter(), second.iter(), 0, second.len());
    (0..all)
        .filter_map(|position| {
            // The middle of its stretch: neither always first nor always last.
            let due = ((position as f64 + 0.5) * audits as f64 / all as f64).round() as usize;
            let next = if due > dealt { second.next().inspect(|_| dealt += 1) } else { None };
            next.or_else(|| first.next()).or_else(|| second.next()).copied()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn waiting(confidence: f64) -> Waiting<'static> {
        Waiting {
            confidence,
            novelty: 0.0,
            disagreement: false,
            cost: 1.0,
            age_days: 0.0,
            audit: false,
            vector: None,
        }
    }

    #[test]
    fn twenty_ways_to_say_the_same_are_not_asked_in_a_row() {
        let near: Vec<[f32; 2]> = (0..40).map(|i| [1.0, i as f32 * 1e-3]).collect();
        let far: Vec<[f32; 2]> =
            (0..40).map(|i| [(i as f32 * 0.15).cos(), (i as f32 * 0.15).sin()]).collect();
        let item = |confidence: f64, vector| Waiting { vector: Some(vector), ..waiting(confidence) };
        let items: Vec<Waiting<'_>> =
            near.iter().map(|v| item(0.1, &v[..])).chain(far.iter().map(|v| item(0.2, &v[..]))).collect();
        let chosen = order(&items, 20, Weights::default(), 1);
        let alike = chosen.iter().filter(|place| **place < 40).count();
        assert!((1..=6).contains(&alike), "{alike} of 20 say the same");
        assert!(chosen[0] < 40, "the least sure comes first");
    }

    #[test]
    fn doubt_disagreement_cost_and_age_each_raise_the_value() {
        let weights = Weights::default();
        let base = waiting(0.6);
        let more = [
            Waiting { confidence: 0.3, ..base },
            Waiting { disagreement: true, ..base },
            Waiting { cost: 4.0, ..base },
            Waiting { age_days: 30.0, ..base },
        ];
        for item in more {
            assert!(item.value(weights) > base.value(weights), "{item:?}");
        }
        let broken = Waiting {
            confidence: f64::NAN,
            novelty: f64::NAN,
            cost: f64::INFINITY,
            age_days: f64::NAN,
            ..base
        };
        assert!(broken.value(weights).is_finite());
    }

    #[test]
    fn the_audit_is_drawn_at_its_share_by_nothing_but_the_id() {
        let drawn = (0..20_000).filter(|i| audited(&format!("decision-{i}"), b"secret", 0.1)).count();
        assert!((1_870..=2_130).contains(&drawn), "{drawn}");
        assert!(!audited("x", b"secret", 0.0) && audited("x", b"secret", 1.0));
    }

    proptest! {
        #[test]
        fn an_order_names_each_once_and_gives_the_audit_its_part(
            items in prop::collection::vec((0.0f64..1.0, any::<bool>(), prop::bool::weighted(0.2), prop::option::of(0u8..20)), 0..120),
            count in 0usize..60,
        ) {
            let vectors: Vec<[f32; 2]> = (0..20).map(|i| [(i as f32).cos(), (i as f32).sin()]).collect();
            let items: Vec<Waiting<'_>> = items
                .iter()
                .map(|(confidence, disagreement, audit, vector)| Waiting {
                    disagreement: *disagreement,
                    audit: *audit,
                    vector: vector.and_then(|v| vectors.get(usize::from(v))).map(|v| &v[..]),
                    ..waiting(*confidence)
                })
                .collect();
            let chosen = order(&items, count, Weights::default(), 3);
            prop_assert_eq!(chosen.len(), count.min(items.len()));
            prop_assert_eq!(chosen.iter().collect::<BTreeSet<_>>().len(), chosen.len());
            prop_assert_eq!(&chosen, &order(&items, count, Weights::default(), 3));
            // Audited ones come in the order of their arrival, whatever their value, and as often as they are there.
            let audits: Vec<usize> = chosen.iter().copied().filter(|place| items[*place].audit).collect();
            let waiting: Vec<usize> = (0..items.len()).filter(|place| items[*place].audit).collect();
            prop_assert_eq!(&audits[..], &waiting[..audits.len()]);
            let part = chosen.len() as f64 * waiting.len() as f64 / items.len().max(1) as f64;
            prop_assert!((audits.len() as f64 - part).abs() <= 1.0 + 1e-9, "{} for {part}", audits.len());
        }
    }
}
