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
        Self { tiers: kept, out_of_scope: self.out_of_scope }
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

/// Counts what a cascade answers at each of some thresholds.
///
/// **Bounds.** Time is rows × (log thresholds + 1) + thresholds.
#[must_use]
pub fn curve(rows: &[RowOutcome], thresholds: &[f64]) -> Vec<Point> {
    let mut order: Vec<usize> = (0..thresholds.len()).collect();
    order.sort_by(|a, b| thresholds[*a].total_cmp(&thresholds[*b]));
    let sorted: Vec<f64> = order.iter().map(|i| thresholds[*i]).collect();
    let mut tiers: Vec<Tier> = rows.iter().flat_map(|row| row.tiers.iter().map(|t| t.tier)).collect();
    tiers.sort_unstable();
    tiers.dedup();
    // Differences between neighbouring thresholds, summed up at the end.
    let width = tiers.len();
    let mut answered = vec![0i64; (sorted.len() + 1) * width];
    let mut wrong = vec![0i64; sorted.len() + 1];
    let mut expected = vec![0.0f64; sorted.len() + 1];
    for row in rows {
        // A tier answers for thresholds above every cheaper tier's confidence and up to its own.
        let mut from = 0;
        for outcome in &row.tiers {
            let to = sorted.partition_point(|threshold| *threshold <= outcome.confidence);
            if to <= from {
                continue;
            }
            let tier = tiers.iter().position(|tier| *tier == outcome.tier).unwrap_or(0);
            answered[from * width + tier] += 1;
            answered[to * width + tier] -= 1;
            if !outcome.right {
                wrong[from] += 1;
                wrong[to] -= 1;
            }
            expected[from] += 1.0 - outcome.confidence;
            expected[to] -= 1.0 - outcome.confidence;
            from = to;
        }
    }
    let mut points = vec![Point::default(); thresholds.len()];
    let (mut by_tier, mut wrong_sum, mut expected_sum) = (vec![0i64; width], 0i64, 0.0f64);
    for (position, (original, threshold)) in order.iter().zip(&sorted).enumerate() {
        by_tier.iter_mut().zip(&answered[position * width..]).for_each(|(sum, change)| *sum += change);
        wrong_sum += wrong[position];
        expected_sum += expected[position];
        points[*original] = Point {
            threshold: *threshold,
            answered: by_tier.iter().sum::<i64>() as u64,
            wrong: wrong_sum as u64,
            expected_wrong: expected_sum.max(0.0),
            by_tier: tiers.iter().copied().zip(by_tier.iter().map(|count| *count as u64)).collect(),
        };
    }
    points
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
        };
        assert_eq!(row.answer_at(0.6).map(|t| t.tier), Some(Tier::Static));
        assert_eq!(row.answer_at(0.8).map(|t| t.tier), Some(Tier::Encoder));
        assert_eq!(row.answer_at(0.95), None);
    }

    proptest! {
        #[test]
        fn the_curve_counts_what_a_plain_count_gives(
            rows in prop::collection::vec(((0.0f64..1.0), any::<bool>(), (0.0f64..1.0), any::<bool>()), 0..40),
            thresholds in prop::collection::vec(0.0f64..1.0, 1..20),
        ) {
            let rows: Vec<RowOutcome> = rows
                .into_iter()
                .map(|(a, x, b, y)| RowOutcome { tiers: vec![outcome(Tier::Static, a, x), outcome(Tier::Encoder, b, y)], out_of_scope: false })
                .collect();
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
