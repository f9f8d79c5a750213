//! Which numbers describe a model's answers, and between which bounds do they lie?

use crate::{binomial, random::Random};
use serde::Serialize;

/// A share with its exact 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// How many.
    pub count: u64,
    /// Of how many.
    pub of: u64,
    /// The share.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Share {
    /// A share with its interval.
    #[must_use]
    pub fn new(count: u64, of: u64) -> Self {
        let (low, high) = if of == 0 { (0.0, 1.0) } else { binomial::interval(count, of, 0.95) };
        Self { count, of, value: count as f64 / of.max(1) as f64, low, high }
    }
}

/// What became of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassRow {
    /// The class's value.
    pub class: String,
    /// Rows that belong to it.
    pub rows: u64,
    /// Of the rows answered with it, those that belong to it.
    pub precision: Share,
    /// Of its rows, those answered with it.
    pub recall: Share,
    /// Harmonic mean of the two.
    pub f1: f64,
}

/// One row's truth and answer by class index; none stands for out of scope.
pub type Pair = (Option<usize>, usize);

/// The table of classes.
#[must_use]
pub fn class_table(pairs: &[Pair], classes: &[&str]) -> Vec<ClassRow> {
    let mut counts = vec![(0u64, 0u64, 0u64); classes.len()];
    for (truth, answer) in pairs {
        if let Some(count) = truth.and_then(|truth| counts.get_mut(truth)) {
            count.0 += 1;
            count.2 += u64::from(*truth == Some(*answer));
        }
        if let Some(count) = counts.get_mut(*answer) {
            count.1 += 1;
        }
    }
    let row = |(class, (rows, answered, right)): (&&str, (u64, u64, u64))| {
        let (precision, recall) = (Share::new(right, answered), Share::new(right, rows));
        let sum = precision.value + recall.value;
        let f1 = if sum > 0.0 { 2.0 * precision.value * recall.value / sum } else { 0.0 };
        ClassRow { class: (*class).to_owned(), rows, precision, recall, f1 }
    };
    classes.iter().zip(counts).map(row).collect()
}

/// Mean F1 over the classes that have rows.
#[must_use]
pub fn macro_f1(table: &[ClassRow]) -> f64 {
    let with_rows: Vec<f64> = table.iter().filter(|row| row.rows > 0).map(|row| row.f1).collect();
    with_rows.iter().sum::<f64>() / with_rows.len().max(1) as f64
}

/// One bin of a reliability diagram.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Mean confidence of its rows.
    pub confidence: f64,
    /// Share of its rows that are right.
    pub right: Share,
}

/// A reliability diagram with bins of equal mass. `rows` are confidences with whether the answer was right.
#[must_use]
pub fn reliability(rows: &[(f64, bool)], bins: usize) -> Vec<Bin> {
    let mut sorted = rows.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let bins = bins.clamp(1, sorted.len().max(1));
    (0..bins)
        .filter_map(|bin| {
            let part = sorted.get(bin * sorted.len() / bins..(bin + 1) * sorted.len() / bins)?;
            let right = part.iter().filter(|(_, right)| *right).count() as u64;
            let mean = part.iter().map(|(confidence, _)| confidence).sum::<f64>() / part.len().max(1) as f64;
            (!part.is_empty()).then(|| Bin { confidence: mean, right: Share::new(right, part.len() as u64) })
        })
        .collect()
}

/// Expected calibration error over bins of equal mass (Nguyen and O'Connor 2015).
#[must_use]
pub fn calibration_error(rows: &[(f64, bool)]) -> f64 {
    let bins = reliability(rows, 15);
    let total: u64 = bins.iter().map(|bin| bin.right.of).sum();
    bins.iter().map(|bin| (bin.confidence - bin.right.value).abs() * bin.right.of as f64).sum::<f64>()
        / total.max(1) as f64
}

/// Mean squared difference between confidence and truth (Brier 1950).
#[must_use]
pub fn brier(rows: &[(f64, bool)]) -> f64 {
    rows.iter().map(|(confidence, right)| (confidence - f64::from(u8::from(*right))).powi(2)).sum::<f64>()
        / rows.len().max(1) as f64
}

/// A value with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// The chance that a positive scores above a negative, ties counting half, with DeLong's interval (DeLong et al. 1988;
/// Sun and Xu 2014 for the fast form). None unless there are at least two of each.
#[must_use]
pub fn auroc(positives: &[f64], negatives: &[f64]) -> Option<Estimate> {
    if positives.len() < 2 || negatives.len() < 2 {
        return None;
    }
    let placements = |of: &[f64], among: &[f64]| -> Vec<f64> {
        let mut sorted = among.to_vec();
        sorted.sort_by(f64::total_cmp);
        let place = |score: &f64| {
            let below = sorted.partition_point(|other| other < score);
            let up_to = sorted.partition_point(|other| other <= score);
            (below as f64 + (up_to - below) as f64 / 2.0) / sorted.len() as f64
        };
        of.iter().map(place).collect()
    };
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let variance = |values: &[f64], mean: f64| {
        values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64
    };
    let over = placements(positives, negatives);
    let under = placements(negatives, positives);
    let value = mean(&over);
    let spread = (variance(&over, value) / over.len() as f64
        + variance(&under, 1.0 - value) / under.len() as f64)
        .sqrt();
    Some(Estimate { value, low: (value - 1.96 * spread).max(0.0), high: (value + 1.96 * spread).min(1.0) })
}

/// A statistic of rows with its percentile interval over 200 resamples of the rows (Efron 1979), from a fixed seed.
#[must_use]
pub fn bootstrap<T: Clone>(rows: &[T], statistic: impl Fn(&[T]) -> f64) -> Estimate {
    const RESAMPLES: usize = 200;
    let value = statistic(rows);
    if rows.is_empty() {
        return Estimate { value, low: value, high: value };
    }
    let mut random = Random::new(1);
    let mut resampled = rows.to_vec();
    let values: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            resampled.iter_mut().for_each(|slot| slot.clone_from(&rows[random.below(rows.len())]));
            statistic(&resampled)
        })
        .collect();
    let at = |share: f64| quantile(&values, share).unwrap_or(value);
    Estimate { value, low: at(0.025).min(value), high: at(0.975).max(value) }
}

/// The value below which a share of the values lies; values need not be sorted. None without any.
#[must_use]
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let position = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1);
    sorted.get(position.min(sorted.len().saturating_sub(1))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_class_table_counts_hits_misses_and_strays() {
        let pairs = [(Some(0), 0), (Some(0), 1), (Some(1), 1), (None, 1)];
        let table = class_table(&pairs, &["a", "b"]);
        assert_eq!((table[0].precision.value, table[0].recall.value), (1.0, 0.5));
        assert!((table[1].precision.value - 1.0 / 3.0).abs() < 1e-12);
        assert!((macro_f1(&table) - (2.0 / 3.0 + 0.5) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn a_calibrated_set_has_little_calibration_error() {
        let rows: Vec<(f64, bool)> =
            (0..10_000).map(|i| (f64::from(i % 100) / 100.0, (i / 100) < i % 100)).collect();
        assert!(calibration_error(&rows) < 0.02);
        assert!(calibration_error(&rows.iter().map(|(c, _)| (*c, true)).collect::<Vec<_>>()) > 0.4);
        assert_eq!(reliability(&rows, 10).len(), 10);
    }

    #[test]
    fn ranking_has_its_textbook_values() {
        // Positives 0.8, 0.6, 0.4; negatives 0.5, 0.3: five of six pairs are in order.
        let found = auroc(&[0.8, 0.6, 0.4], &[0.5, 0.3]).unwrap();
        assert!((found.value - 5.0 / 6.0).abs() < 1e-12);
        assert_eq!(auroc(&[1.0, 1.0], &[1.0, 1.0]).unwrap().value, 0.5);
        assert_eq!(auroc(&[1.0], &[0.0, 0.5]), None);
    }

    #[test]
    fn quantiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(
            (quantile(&values, 0.5), quantile(&values, 0.99), quantile(&[], 0.5)),
            (Some(50.0), Some(99.0), None)
        );
    }

    proptest! {
        #[test]
        fn ranking_is_symmetric(a in prop::collection::vec(0.0f64..1.0, 2..30), b in prop::collection::vec(0.0f64..1.0, 2..30)) {
            let (forth, back) = (auroc(&a, &b).unwrap(), auroc(&b, &a).unwrap());
            prop_assert!((forth.value + back.value - 1.0).abs() < 1e-9);
            prop_assert!(forth.low <= forth.value && forth.value <= forth.high);
        }
    }
}
