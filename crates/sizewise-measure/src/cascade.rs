//! What would a cascade answer at a threshold, and how often wrongly?

use serde::{Deserialize, Serialize};
use sizewise_contract::Tier;

/// What one tier would have answered to a row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TierOutcome {
    /// The tier.
    pub tier: Tier,
    /// How sure it was.
    pub confidence: f64,
    /// Whether its answer was right; an answer to an out-of-scope row never is.
    pub right: bool,
}

/// What every tier would have answered to one row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowOutcome {
    /// The tiers, cheapest first.
    pub tiers: Vec<TierOutcome>,
    /// Whether the row is out of scope.
    pub out_of_scope: bool,
    /// How many rows of the traffic it stands for: above one for a kind that the table has too few of.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

fn is_one(weight: &f64) -> bool {
    *weight == 1.0
}

impl RowOutcome {
    /// What the cascade answers: the first tier that is sure enough.
    #[must_use]
    pub fn answer_at(&self, threshold: f64) -> Option<&TierOutcome> {
        self.tiers.iter().find(|tier| tier.confidence >= threshold)
    }

    /// The outcome when only some tiers may answer.
    #[must_use]
    pub fn only(&self, tiers: &[Tier]) -> Self {
        let kept = self.tiers.iter().filter(|outcome| tiers.contains(&outcome.tier)).copied().collect();
        Self { tiers: kept, out_of_scope: self.out_of_scope, weight: self.weight }
    }
}

/// Counts at one threshold.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Point {
    /// The threshold.
    pub threshold: f64,
    /// Rows answered.
    pub answered: u64,
    /// Answered rows that are wrong.
    pub wrong: u64,
    /// Sum of one minus the confidence over the answered rows: the errors that the tiers expect.
    pub expected_wrong: f64,
    /// Rows that each tier answers, in the order of the tiers met.
    pub by_tier: Vec<(Tier, u64)>,
}

impl Point {
    /// Share of answered rows that are wrong; 0 without any.
    #[must_use]
    pub fn risk(&self) -> f64 {
        self.wrong as f64 / self.answered.max(1) as f64
    }
}

/// Sums at one threshold, each row counted by its weight.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sums {
    /// The threshold.
    pub threshold: f64,
    /// Rows answered.
    pub answered: f64,
    /// Answered rows that are wrong.
    pub wrong: f64,
    /// The errors that the tiers expect among the answered rows.
    pub expected_wrong: f64,
    /// Rows that each tier answers.
    by_tier: Vec<(Tier, f64)>,
}

/// Counts what a cascade answers at each of some thresholds, every row once.
///
/// **Bounds.** Time is rows × (log thresholds + 1) + thresholds.
#[must_use]
pub fn curve(rows: &[RowOutcome], thresholds: &[f64]) -> Vec<Point> {
    let count = |sum: f64| sum.round().max(0.0) as u64;
    sums(rows, thresholds, |_| 1.0)
        .into_iter()
        .map(|sums| Point {
            threshold: sums.threshold,
            answered: count(sums.answered),
            wrong: count(sums.wrong),
            expected_wrong: sums.expected_wrong,
            by_tier: sums.by_tier.into_iter().map(|(tier, rows)| (tier, count(rows))).collect(),
        })
        .collect()
}

/// The same with every row counted by its weight.
#[must_use]
pub fn weighted_curve(rows: &[RowOutcome], thresholds: &[f64]) -> Vec<Sums> {
    sums(rows, thresholds, |row| row.weight)
}

fn sums(rows: &[RowOutcome], thresholds: &[f64], weight: impl Fn(&RowOutcome) -> f64) -> Vec<Sums> {
    let mut order: Vec<usize> = (0..thresholds.len()).collect();
    order.sort_by(|a, b| thresholds[*a].total_cmp(&thresholds[*b]));
    let sorted: Vec<f64> = order.iter().map(|i| thresholds[*i]).collect();
    let mut tiers: Vec<Tier> = rows.iter().flat_map(|row| row.tiers.iter().map(|t| t.tier)).collect();
    tiers.sort_unstable();
    tiers.dedup();
    // Differences between neighbouring thresholds, summed up at the end: answers by tier, wrong ones, expected wrong ones.
    let width = tiers.len() + 2;
    let mut changes = vec![0.0f64; (sorted.len() + 1) * width];
    for row in rows {
        let weight = weight(row);
        // A tier answers for thresholds above every cheaper tier's confidence and up to its own.
        let mut from = 0;
        for outcome in &row.tiers {
            let to = sorted.partition_point(|threshold| *threshold <= outcome.confidence);
            if to <= from {
                continue;
            }
            let tier = tiers.iter().position(|tier| *tier == outcome.tier).unwrap_or(0);
            for (at, sign) in [(from, weight), (to, -weight)] {
                changes[at * width + tier] += sign;
                changes[at * width + width - 2] += if outcome.right { 0.0 } else { sign };
                changes[at * width + width - 1] += sign * (1.0 - outcome.confidence);
            }
            from = to;
        }
    }
    let mut found = vec![Sums::default(); thresholds.len()];
    let mut running = vec![0.0f64; width];
    for (position, (original, threshold)) in order.iter().zip(&sorted).enumerate() {
        running.iter_mut().zip(&changes[position * width..]).for_each(|(sum, change)| *sum += change);
        let by_tier: Vec<(Tier, f64)> = tiers.iter().copied().zip(running.iter().copied()).collect();
        found[*original] = Sums {
            threshold: *threshold,
            answered: by_tier.iter().map(|(_, rows)| rows).sum::<f64>().max(0.0),
            wrong: running[width - 2].max(0.0),
            expected_wrong: running[width - 1].max(0.0),
            by_tier,
        };
    }
    found
}

/// Area under the risk–coverage curve: the mean risk when rows are answered in the order of their confidence
/// (Geifman and El-Yaniv 2017). Looks at the last tier alone.
#[must_use]
pub fn area_under_risk_coverage(rows: &[RowOutcome]) -> f64 {
    let mut last: Vec<&TierOutcome> = rows.iter().filter_map(|row| row.tiers.last()).collect();
    last.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    let (mut wrong, mut area) = (0.0, 0.0);
    for (position, outcome) in last.iter().enumerate() {
        wrong += f64::from(u8::from(!outcome.right));
        area += wrong / (position + 1) as f64;
    }
    area / last.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outcome(tier: Tier, confidence: f64, right: bool) -> TierOutcome {
        TierOutcome { tier, confidence, right }
    }

    #[test]
    fn the_first_tier_that_is_sure_enough_answers() {
        let row = RowOutcome {
            tiers: vec![outcome(Tier::Static, 0.7, false), outcome(Tier::Encoder, 0.9, true)],
            out_of_scope: false,
            weight: 1.0,
        };
        assert_eq!(row.answer_at(0.6).map(|t| t.tier), Some(Tier::Static));
        assert_eq!(row.answer_at(0.8).map(|t| t.tier), Some(Tier::Encoder));
        assert_eq!(row.answer_at(0.95), None);
    }

    proptest! {
        #[test]
        fn the_curve_counts_what_a_plain_count_gives(
            rows in prop::collection::vec(((0.0f64..1.0), any::<bool>(), (0.0f64..1.0), any::<bool>(), 1u8..4), 0..40),
            thresholds in prop::collection::vec(0.0f64..1.0, 1..20),
        ) {
            let rows: Vec<RowOutcome> = rows
                .into_iter()
                .map(|(a, x, b, y, weight)| RowOutcome {
                    tiers: vec![outcome(Tier::Static, a, x), outcome(Tier::Encoder, b, y)],
                    out_of_scope: false,
                    weight: f64::from(weight),
                })
                .collect();
            // A row of weight three is three rows.
            let repeated: Vec<RowOutcome> =
                rows.iter().flat_map(|row| std::iter::repeat_n(row.clone(), row.weight as usize)).collect();
            for (sums, point) in weighted_curve(&rows, &thresholds).iter().zip(curve(&repeated, &thresholds)) {
                prop_assert!((sums.answered - point.answered as f64).abs() < 1e-9);
                prop_assert!((sums.wrong - point.wrong as f64).abs() < 1e-9);
                prop_assert!((sums.expected_wrong - point.expected_wrong).abs() < 1e-9);
            }
            for (point, threshold) in curve(&rows, &thresholds).iter().zip(&thresholds) {
                let answers: Vec<&TierOutcome> = rows.iter().filter_map(|row| row.answer_at(*threshold)).collect();
                prop_assert_eq!(point.answered, answers.len() as u64);
                prop_assert_eq!(point.wrong, answers.iter().filter(|a| !a.right).count() as u64);
                let expected: f64 = answers.iter().map(|a| 1.0 - a.confidence).sum();
                prop_assert!((point.expected_wrong - expected).abs() < 1e-9);
            }
        }
    }
}
