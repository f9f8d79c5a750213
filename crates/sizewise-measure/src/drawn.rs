//! How large is a sum of which only some parts, drawn at random, were seen?
//!
//! Each part has a size that is known of all of them, and a share of its size that is seen where the part was drawn, with a
//! probability that was fixed before. What is wanted is the sum of sizes times shares over all parts. A bet against a candidate for
//! that sum multiplies `1 + c·w·(x/m − 1)` over what was drawn, with weights `w` of size over probability. Its expectation is a
//! product over all parts whose exponents sum to nothing where the candidate is right, so it is at most one: draws are independent
//! and nothing whatever is asked of sizes, shares or their order. A mean of several stakes `c` is such a bet as well.
//!
//! **Source.** Waudby-Smith and Ramdas (2024), with Horvitz and Thompson's weights (1952) in the place of replacement.

use serde::Serialize;

/// Stakes that are bet at the same time: halves of one another.
const STAKES: u32 = 10;
/// Steps of bisection for a bound.
const STEPS: u32 = 32;

/// A part that was drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// Its size; none is negative.
    pub size: f64,
    /// With which probability it was drawn.
    pub probability: f64,
    /// The share of it, from 0 to 1; none where it was drawn and nobody could see it.
    pub share: Option<f64>,
}

/// A sum with its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sum {
    /// The estimate; none where nothing was seen.
    pub estimate: Option<f64>,
    /// The lower bound.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
}

/// The sum over parts whose sizes come to `whole`, of which these were drawn, in an interval that holds it with probability
/// 1 − `delta`.
///
/// **Bounds.** What was drawn and not seen counts as nothing for the lower bound and as the whole of it for the upper one. Weights are
/// bounded by the largest that was drawn. Time is about six hundred times the number of drawn parts.
#[must_use]
pub fn sum(whole: f64, drawn: &[Part], delta: f64) -> Sum {
    let usable = |part: &&Part| part.size > 0.0 && part.probability > 0.0;
    let weight = |part: &Part| part.size / part.probability;
    let largest = drawn.iter().filter(usable).map(weight).fold(0.0, f64::max);
    if whole <= 0.0 || largest <= 0.0 {
        return Sum { estimate: (whole <= 0.0).then_some(0.0), low: 0.0, high: whole.max(0.0) };
    }
    let seen = |unseen: f64| -> Vec<(f64, f64)> {
        let pair = |part: &Part| (weight(part) / largest, part.share.unwrap_or(unseen).clamp(0.0, 1.0));
        drawn.iter().filter(usable).map(pair).collect()
    };
    let ruin = (2.0 / delta.clamp(1e-9, 0.5)).ln();
    let low = bound(&seen(0.0), ruin);
    let missing: Vec<(f64, f64)> =
        seen(1.0).into_iter().map(|(weight, share)| (weight, 1.0 - share)).collect();
    let high = 1.0 - bound(&missing, ruin);
    let known = drawn.iter().filter(usable).filter_map(|part| Some((weight(part), part.share?)));
    let (weights, total) = known.fold((0.0, 0.0), |(weights, total), (weight, share)| {
        (weights + weight, total + weight * share.clamp(0.0, 1.0))
    });
    let estimate = (weights > 0.0).then(|| whole * (total / weights).clamp(low, high.max(low)));
    Sum { estimate, low: whole * low, high: whole * high.max(low) }
}

/// The least mean that is not refuted by a bet that it is larger.
fn bound(seen: &[(f64, f64)], ruin: f64) -> f64 {
    let (mut refuted, mut open) = (0.0, 1.0);
    for _ in 0..STEPS {
        let candidate = f64::midpoint(refuted, open);
        if capital(seen, candidate) >= ruin { refuted = candidate } else { open = candidate }
    }
    refuted
}

/// The logarithm of what a bet has come to that the mean is larger.
fn capital(seen: &[(f64, f64)], mean: f64) -> f64 {
    let logs = (0..STAKES).map(|halvings| {
        let stake = 0.99 * 0.5f64.powi(halvings as i32);
        seen.iter().map(|(weight, share)| (stake * weight * (share / mean - 1.0)).ln_1p()).sum::<f64>()
    });
    let logs: Vec<f64> = logs.collect();
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let parts: f64 = logs.iter().map(|log| (log - most).exp()).sum();
    most + (parts / f64::from(STAKES)).ln()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;
    use crate::random::Random;

    /// A traffic whose inputs grow, cost more of their bound at its end, and are drawn more or less often as days pass.
    fn traffic(random: &mut Random, parts: usize, probability: f64) -> (f64, f64, Vec<Part>) {
        let (mut whole, mut truth, mut drawn) = (0.0, 0.0, Vec::new());
        for at in 0..parts {
            let late = at as f64 / parts as f64;
            let size = (1.0 + late) * (0.2 + random.uniform());
            let share = (0.2 + 0.1 * late + 0.1 * (random.uniform() - 0.5)).clamp(0.0, 1.0);
            let probability = probability * if at % 1_000 < 500 { 1.0 } else { 0.4 };
            whole += size;
            truth += size * share;
            if random.uniform() < probability {
                drawn.push(Part { size, probability, share: Some(share) });
            }
        }
        (whole, truth, drawn)
    }

    #[test]
    fn the_interval_holds_the_sum_as_often_as_promised_and_narrows_with_draws() {
        let mut widths = Vec::new();
        for probability in [0.01, 0.05, 0.15] {
            let (mut missed, mut width) = (0, 0.0);
            for seed in 0..400 {
                let mut random = Random::new(7 + seed);
                let (whole, truth, drawn) = traffic(&mut random, 4_000, probability);
                let found = sum(whole, &drawn, 0.05);
                missed += u32::from(!(found.low <= truth && truth <= found.high));
                width += (found.high - found.low) / truth / 400.0;
            }
            assert!(missed <= 20, "{probability}: {missed} of 400");
            widths.push(width);
        }
        assert!(widths[0] > widths[1] && widths[1] > widths[2] && widths[2] < 0.25, "{widths:?}");
    }

    #[test]
    fn shares_of_nothing_or_all_are_covered_as_well() {
        // The hardest case for an interval that trusts the spread of what it saw: one part in fifty costs all, the rest nothing.
        let mut missed = 0;
        for seed in 0..400 {
            let mut random = Random::new(900 + seed);
            let (mut truth, mut drawn) = (0.0, Vec::new());
            for at in 0..2_000 {
                let share = f64::from(u8::from(at % 50 == 0));
                truth += share;
                if random.uniform() < 0.02 {
                    drawn.push(Part { size: 1.0, probability: 0.02, share: Some(share) });
                }
            }
            let found = sum(2_000.0, &drawn, 0.05);
            missed += u32::from(!(found.low <= truth && truth <= found.high));
        }
        assert!(missed <= 20, "{missed} of 400");
    }

    #[test]
    fn what_nobody_could_see_widens_the_interval_both_ways() {
        let part = |share| Part { size: 1.0, probability: 0.5, share };
        let seen: Vec<Part> = (0..200).map(|_| part(Some(0.25))).collect();
        let mut unseen = seen.clone();
        unseen.extend((0..50).map(|_| part(None)));
        let (all, some) = (sum(400.0, &seen, 0.05), sum(500.0, &unseen, 0.05));
        assert!(
            (all.estimate.unwrap() - 100.0).abs() < 1e-9 && (some.estimate.unwrap() - 125.0).abs() < 1e-9
        );
        assert!(
            some.low / 500.0 < all.low / 400.0 && some.high / 500.0 > all.high / 400.0,
            "{all:?} {some:?}"
        );
    }

    #[test]
    fn nothing_drawn_says_nothing() {
        assert_eq!(sum(10.0, &[], 0.05), Sum { estimate: None, low: 0.0, high: 10.0 });
        assert_eq!(sum(0.0, &[], 0.05), Sum { estimate: Some(0.0), low: 0.0, high: 0.0 });
    }
}
