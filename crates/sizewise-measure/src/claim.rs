//! Is the claim itself true?
//!
//! A certificate says that at most a share δ of certificates are false. That can be measured: draw the gold rows anew many
//! times from a labelled pool, certify, and look at the rows that were not drawn.

use crate::{binomial, cascade::RowOutcome, certify::Plan, random::Random};
use serde::Serialize;
use sizewise_contract::{Tier, task::Promise};

/// What many resamples showed.
#[derive(Debug, Clone, Serialize)]
pub struct Claim {
    /// How often gold rows were drawn.
    pub resamples: usize,
    /// How many of them certified.
    pub certified: usize,
    /// Mean coverage on the remaining rows, 0 where nothing was certified.
    pub mean_coverage: f64,
    /// Mean share of the remaining rows that each tier answered.
    pub mean_by_tier: Vec<(Tier, f64)>,
    /// Mean error among the answered remaining rows, over the certified.
    pub mean_error: f64,
    /// Share of resamples whose certificate has an error above the promise on the remaining rows, sampling included.
    pub above: f64,
    /// Share of resamples whose certificate has so many errors on the remaining rows that a rate at the promise would
    /// give them with at most 5 % chance: above the promise beyond what sampling of those rows explains.
    pub above_beyond_sampling: f64,
    /// Share of resamples whose certificate has an error above the promise on the whole pool, taken as the population.
    pub above_in_pool: f64,
}

/// Draws `gold` rows from `pool` many times and certifies each time with the same plan.
#[must_use]
pub fn test(
    pool: &[RowOutcome],
    development: &[RowOutcome],
    (gold, resamples): (usize, usize),
    promise: &Promise,
    seed: u64,
) -> Claim {
    let plan = Plan::new(development, gold as u64, promise);
    let mut random = Random::new(seed);
    let mut order: Vec<usize> = (0..pool.len()).collect();
    let mut claim = Claim {
        resamples,
        certified: 0,
        mean_coverage: 0.0,
        mean_by_tier: Vec::new(),
        mean_error: 0.0,
        above: 0.0,
        above_beyond_sampling: 0.0,
        above_in_pool: 0.0,
    };
    let once = 1.0 / resamples.max(1) as f64;
    for _ in 0..resamples {
        random.shuffle(&mut order);
        let (drawn, rest) = order.split_at(gold.min(order.len()));
        let locked: Vec<RowOutcome> = drawn.iter().map(|row| pool[*row].clone()).collect();
        let Some(threshold) = plan.run(&locked).threshold else { continue };
        let count = |rows: &mut dyn Iterator<Item = &RowOutcome>, by_tier: &mut Vec<(Tier, f64)>| {
            let (mut answered, mut wrong, mut all) = (0u64, 0u64, 0u64);
            for row in rows {
                all += 1;
                if let Some(answer) = row.answer_at(threshold) {
                    answered += 1;
                    wrong += u64::from(!answer.right);
                    match by_tier.iter_mut().find(|(tier, _)| *tier == answer.tier) {
                        Some((_, share)) => *share += 1.0,
                        None => by_tier.push((answer.tier, 1.0)),
                    }
                }
            }
            (answered, wrong, all)
        };
        let mut by_tier = Vec::new();
        let (answered, wrong, all) = count(&mut rest.iter().map(|row| &pool[*row]), &mut by_tier);
        let rate = |wrong: u64, answered: u64| wrong as f64 / answered.max(1) as f64;
        claim.certified += 1;
        claim.mean_coverage += once * answered as f64 / all.max(1) as f64;
        claim.mean_error += rate(wrong, answered);
        for (tier, rows) in by_tier {
            let share = once * rows / all.max(1) as f64;
            match claim.mean_by_tier.iter_mut().find(|(found, _)| *found == tier) {
                Some((_, sum)) => *sum += share,
                None => claim.mean_by_tier.push((tier, share)),
            }
        }
        let error = promise.max_served_error;
        if rate(wrong, answered) > error {
            claim.above += once;
        }
        if wrong > 0 && 1.0 - binomial::cdf(wrong - 1, answered, error) <= 0.05 {
            claim.above_beyond_sampling += once;
        }
        let (answered, wrong, _) = count(&mut pool.iter(), &mut Vec::new());
        if rate(wrong, answered) > error {
            claim.above_in_pool += once;
        }
    }
    claim.mean_error /= claim.certified.max(1) as f64;
    claim.mean_by_tier.sort_by_key(|(tier, _)| *tier);
    claim
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cascade::TierOutcome;

    #[test]
    fn a_calibrated_pool_keeps_the_claim() {
        let mut random = Random::new(2);
        let mut rows = |count: usize| -> Vec<RowOutcome> {
            (0..count)
                .map(|_| {
                    let confidence = 1.0 - 0.3 * random.uniform();
                    let right = random.uniform() < confidence;
                    RowOutcome {
                        tiers: vec![TierOutcome { tier: Tier::Static, confidence, right }],
                        out_of_scope: false,
                        weight: 1.0,
                    }
                })
                .collect()
        };
        let (pool, development) = (rows(3_000), rows(2_000));
        let claim = test(&pool, &development, (1_500, 200), &Promise::default(), 1);
        assert!(claim.certified > 150 && claim.mean_coverage > 0.1, "{claim:?}");
        assert!(claim.above_beyond_sampling <= 0.05, "{claim:?}");
    }
}
