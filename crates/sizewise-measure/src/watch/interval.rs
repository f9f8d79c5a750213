//! Between which bounds does the share of wrong answers lie, whenever one looks?
//!
//! A confidence sequence (Waudby-Smith and Ramdas 2024): for each candidate rate m two capitals bet against it, one that more is wrong
//! and one that less is; what neither has ruined is in the interval. With probability 1 − δ it holds the rate at every moment,
//! as long as the rate stays the same; when it does not, the interval is begun anew (see the module above).

use serde::{Deserialize, Serialize};

/// Candidate rates.
const CANDIDATES: usize = 128;
/// Most of the capital that one bet may lose.
const BOLDEST: f64 = 0.75;

/// An estimate with its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The weighted mean; none before the first answer.
    pub estimate: Option<f64>,
    /// The lower bound.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
}

/// A confidence sequence for a share.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequence {
    delta: f64,
    /// Logarithms of the two capitals of each candidate.
    capital: Vec<[f64; 2]>,
    answers: f64,
    weights: f64,
    wrong: f64,
    /// Running sum of squares about the mean, for the size of the bets.
    squares: f64,
    bounds: (f64, f64),
}

impl Sequence {
    /// Begins, for intervals that hold with probability 1 − `delta`.
    #[must_use]
    pub fn new(delta: f64) -> Self {
        Self {
            delta: delta.clamp(1e-9, 0.5),
            capital: vec![[0.0; 2]; CANDIDATES + 1],
            answers: 0.0,
            weights: 0.0,
            wrong: 0.0,
            squares: 0.0,
            bounds: (0.0, 1.0),
        }
    }

    /// Takes one answer in: whether it was wrong, and its weight.
    ///
    /// **Bounds.** Time is the number of candidates, 129.
    pub fn tell(&mut self, (wrong, weight): (bool, f64)) {
        let value = f64::from(u8::from(wrong));
        // Half an answer of either kind before the first one keeps the bets bounded.
        let mean = (self.wrong + 0.5) / (self.weights + 1.0);
        let variance = (self.squares + 0.25) / (self.answers + 1.0);
        let log = (2.0 / self.delta).ln();
        let size =
            (2.0 * log / (variance * (self.answers + 1.0) * (self.answers + 2.0).ln()).max(1e-12)).sqrt();
        for (at, capital) in self.capital.iter_mut().enumerate() {
            let rate = candidate(at);
            let more = size.min(BOLDEST / rate.max(1e-9));
            let less = size.min(BOLDEST / (1.0 - rate).max(1e-9));
            capital[0] += (1.0 + more * weight * (value - rate)).ln();
            capital[1] += (1.0 - less * weight * (value - rate)).ln();
        }
        self.answers += 1.0;
        self.weights += weight;
        self.wrong += weight * value;
        self.squares += (value - mean).powi(2);
        let ruin = (2.0 / self.delta).ln();
        // What was once excluded stays so.
        let open =
            |at: &usize| self.capital.get(*at).is_some_and(|capital| capital.iter().all(|log| *log < ruin));
        let low = (0..=CANDIDATES).find(open);
        let high = (0..=CANDIDATES).rev().find(open);
        if let (Some(low), Some(high)) = (low, high) {
            // A candidate stands for the rates up to its neighbours.
            let (low, high) = (candidate(low.saturating_sub(1)), candidate((high + 1).min(CANDIDATES)));
            self.bounds = (self.bounds.0.max(low), self.bounds.1.min(high).max(self.bounds.0.max(low)));
        }
    }

    /// The interval now.
    #[must_use]
    pub fn interval(&self) -> Interval {
        let estimate = (self.weights > 0.0).then(|| self.wrong / self.weights);
        Interval { estimate, low: self.bounds.0, high: self.bounds.1 }
    }
}

/// Candidates are denser where rates are small, as promises are.
fn candidate(at: usize) -> f64 {
    (at as f64 / CANDIDATES as f64).powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn intervals_hold_the_rate_at_every_moment_and_narrow() {
        for rate in [0.01, 0.05, 0.3] {
            let (mut missed, mut widths) = (0, 0.0);
            for seed in 0..200 {
                let mut random = Random::new(seed + 1);
                let mut sequence = Sequence::new(0.05);
                let mut held = true;
                for _ in 0..2_000 {
                    sequence.tell((random.uniform() < rate, 1.0));
                    let interval = sequence.interval();
                    held &= interval.low <= rate && rate <= interval.high;
                }
                missed += u32::from(!held);
                widths += sequence.interval().high - sequence.interval().low;
            }
            assert!(missed <= 10, "{rate}: {missed} of 200");
            assert!(
                widths / 200.0 < 8.0 * (rate * (1.0 - rate) / 2_000.0).sqrt() + 0.03,
                "{rate}: {}",
                widths / 200.0
            );
        }
    }

    #[test]
    fn answers_that_were_drawn_more_often_count_less() {
        // Half of the answers are of a kind that is always wrong and drawn four times as often.
        let mut random = Random::new(5);
        let mut sequence = Sequence::new(0.05);
        for _ in 0..4_000 {
            let often = random.uniform() < 0.8;
            sequence.tell((often, if often { 0.25 } else { 1.0 }));
        }
        let interval = sequence.interval();
        assert!((interval.estimate.unwrap() - 0.5).abs() < 0.05, "{interval:?}");
        assert!(interval.low < 0.5 && interval.high > 0.5, "{interval:?}");
    }
}
