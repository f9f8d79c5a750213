//! How much would another round of labels buy?
//!
//! Errors fall with the number of labels about as a power of it (Hestness et al. 2017). One round's gain on a few hundred rows is
//! mostly chance; a line through all rounds, on logarithms, is less so.

use serde::Serialize;

/// What a model reaches after so many labels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// Labels bought.
    pub labels: usize,
    /// Development rows that it answers rightly.
    pub right: usize,
    /// Development rows.
    pub of: usize,
}

impl Point {
    /// Share of the rows that it answers rightly.
    #[must_use]
    pub fn accuracy(self) -> f64 {
        self.right as f64 / self.of.max(1) as f64
    }
}

/// Fewest rounds that a line is drawn through.
const FEWEST: usize = 3;

/// By how much the accuracy is expected to grow from the last point to this many labels, after `known` rows that had labels
/// before; none where there are too few rounds to say.
#[must_use]
pub fn expected_gain(points: &[Point], known: usize, labels: usize) -> Option<f64> {
    // Early rounds teach the course of the curve, but the last ones lie nearer to what comes: a window of six.
    let recent = points.get(points.len().saturating_sub(6)..)?;
    if recent.len() < FEWEST || recent.iter().any(|point| point.of == 0) {
        return None;
    }
    let place = |labels: usize| ((labels + known).max(1) as f64).ln();
    let error = |point: &Point| (((point.of - point.right) as f64 + 0.5) / (point.of as f64 + 1.0)).ln();
    let count = recent.len() as f64;
    let mean_x = recent.iter().map(|point| place(point.labels)).sum::<f64>() / count;
    let mean_y = recent.iter().map(error).sum::<f64>() / count;
    let spread: f64 = recent.iter().map(|point| (place(point.labels) - mean_x).powi(2)).sum();
    let shared: f64 =
        recent.iter().map(|point| (place(point.labels) - mean_x) * (error(point) - mean_y)).sum();
    let slope = (shared / spread.max(1e-12)).min(0.0);
    let at = |labels: usize| (mean_y + slope * (place(labels) - mean_x)).exp();
    let last = recent.last()?.labels;
    Some((at(last) - at(labels)).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(error: impl Fn(f64) -> f64) -> Vec<Point> {
        [100, 200, 400, 800]
            .map(|labels| Point {
                labels,
                right: 10_000 - (error(labels as f64) * 10_000.0) as usize,
                of: 10_000,
            })
            .to_vec()
    }

    #[test]
    fn a_power_law_is_continued_and_a_flat_curve_promises_nothing() {
        let falling = curve(|n| n.powf(-0.5));
        let gain = expected_gain(&falling, 0, 1_600).unwrap();
        assert!((gain - (800f64.powf(-0.5) - 1_600f64.powf(-0.5))).abs() < 1e-3, "{gain}");
        assert_eq!(expected_gain(&curve(|_| 0.1), 0, 1_600), Some(0.0));
        assert_eq!(expected_gain(&curve(|n| n / 10_000.0), 0, 1_600), Some(0.0), "never a loss");
        assert_eq!(expected_gain(&falling[..2], 0, 400), None);
        assert!(expected_gain(&falling, 5_000, 1_600).unwrap() > 0.0);
    }

    #[test]
    fn nothing_wrong_is_no_reason_to_stop_counting() {
        let perfect = vec![Point { labels: 10, right: 50, of: 50 }; 3];
        assert_eq!(expected_gain(&perfect, 0, 20), Some(0.0));
        assert_eq!(expected_gain(&[Point { labels: 0, right: 0, of: 0 }; 4], 0, 20), None);
    }
}
