//! Does a watch doubt in time, and seldom for nothing?

#![allow(clippy::unwrap_used, reason = "a test")]

use super::*;
use crate::{cascade::TierOutcome, random::Random};
use sizewise_contract::Tier;

const PROMISE: Promise =
    Promise { max_served_error: 0.05, confidence: 0.95, openings: 1, p95_latency_ms: None };

/// An answer of one tier, the surer the seldomer wrong where `tells` says so.
fn answer(random: &mut Random, rate: f64, tells: bool) -> RowOutcome {
    let confidence = 0.8 + 0.2 * random.uniform();
    let rate = if tells { rate * 2.0 * (1.0 - confidence) / 0.2 } else { rate };
    let right = random.uniform() >= rate;
    RowOutcome {
        tiers: vec![TierOutcome { tier: Tier::Encoder, confidence, right }],
        out_of_scope: false,
        weight: 1.0,
    }
}

fn tell(watch: &mut Watch, random: &mut Random, (rate, tells): (f64, bool), answers: usize) -> Vec<Change> {
    (0..answers).filter_map(|at| watch.tell(&answer(random, rate, tells), at as i64)).collect()
}

#[test]
fn a_promise_that_holds_is_seldom_called_broken_and_doubts_end() {
    let (mut broken, mut doubted) = (0, 0);
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let mut watch = Watch::new(&PROMISE, 0.8);
        let changes = tell(&mut watch, &mut random, (0.03, true), 6_000);
        broken += u32::from(changes.iter().any(|change| change.to == PromiseState::Broken));
        doubted += u32::from(!changes.is_empty());
        if let Some(last) = changes.last().filter(|last| last.to == PromiseState::Kept) {
            assert_eq!(last.threshold, Some(0.8));
        }
    }
    assert!(broken <= 5, "{broken} of 100");
    assert!(doubted <= 30, "{doubted} of 100");
}

#[test]
fn twice_the_promised_error_is_doubted_after_about_a_hundred_answers() {
    let mut delays: Vec<usize> = (0..100)
        .map(|seed| {
            let mut random = Random::new(seed);
            let mut watch = Watch::new(&PROMISE, 0.8);
            tell(&mut watch, &mut random, (0.03, true), 500);
            (1..5_000).find(|_| watch.tell(&answer(&mut random, 0.1, true), 0).is_some()).unwrap()
        })
        .collect();
    delays.sort_unstable();
    assert!(delays[50] <= 150, "{}", delays[50]);
}

#[test]
fn where_sure_answers_are_good_the_threshold_rises_and_falls_again_by_evidence() {
    let mut random = Random::new(7);
    let mut watch = Watch::new(&PROMISE, 0.8);
    let changes = tell(&mut watch, &mut random, (0.1, true), 3_000);
    assert_eq!(changes[0].to, PromiseState::InDoubt);
    let raised = watch.threshold().unwrap();
    assert!(raised > 0.8, "{raised}");
    assert_ne!(watch.state(), PromiseState::Broken);
    // What is served there keeps the promise.
    assert!(0.1 * (1.0 - raised) / 0.2 <= 0.06, "{raised}");
    let changes = tell(&mut watch, &mut random, (0.02, true), 6_000);
    assert_eq!(changes.last().map(|change| change.to), Some(PromiseState::Kept), "{changes:?}");
    assert_eq!(watch.threshold(), Some(0.8));
}

#[test]
fn where_no_confidence_helps_nothing_is_answered_and_only_evidence_opens_again() {
    let mut random = Random::new(9);
    let mut watch = Watch::new(&PROMISE, 0.8);
    let changes = tell(&mut watch, &mut random, (0.3, false), 2_000);
    assert!(!changes.is_empty());
    assert_eq!(watch.threshold(), None);
    assert_ne!(watch.state(), PromiseState::Kept);
    let changes = tell(&mut watch, &mut random, (0.01, false), 3_000);
    assert_eq!((watch.state(), watch.threshold()), (PromiseState::Kept, Some(0.8)), "{changes:?}");
}

#[test]
fn a_path_of_any_length_is_drawn_with_few_points() {
    let mut random = Random::new(11);
    let mut watch = Watch::new(&PROMISE, 0.8);
    tell(&mut watch, &mut random, (0.03, true), 5_000);
    assert!((POINTS / 2..=POINTS).contains(&watch.path().len()), "{}", watch.path().len());
    assert!(watch.path().windows(2).all(|pair| pair[0].n < pair[1].n));
}
