//! How sure may a tier be?
//!
//! A calibrator turns what a tier noticed about its own answer (its signals) into the probability that the answer is
//! right. It is a logistic function of a few standardised signals: few enough parameters to be fitted on some hundred
//! rows, and monotone in each signal, so that it cannot oscillate where there are no rows.
//!
//! Where every training row is easy there are no errors to learn caution from, and where none is out of scope nothing says
//! what is. So the signals that measure likeness to the training rows have a floor, whatever the other signals say.

use crate::memory::{InMemory, each};
use serde::{Deserialize, Serialize};

/// Maps signals to a confidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibrator {
    /// One entry per signal, in the order in which the tier gives them.
    pub signals: Vec<SignalWeight>,
    /// The log-odds where every signal is at its mean.
    pub bias: f64,
}

/// What one signal counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalWeight {
    /// Its name, for people.
    pub name: String,
    /// Mean over the rows that fitted the calibrator.
    pub mean: f64,
    /// Standard deviation over them.
    pub deviation: f64,
    /// Change of the log-odds per standard deviation.
    pub weight: f64,
    /// Below this the input is unlike all that was right in training, and no answer to it is confident at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least: Option<f64>,
}

impl Calibrator {
    /// The probability that an answer with these signals is right.
    ///
    /// **Bounds.** Below 1; 0 where a signal is less than the least that was right in training, else above 0. A signal further than five standard deviations from its mean counts as
    /// five: beyond what was seen, more of a good sign proves no more.
    #[must_use]
    pub fn confidence(&self, signals: &[f32]) -> f64 {
        let strange = |(signal, value): (&SignalWeight, &f32)| {
            signal.least.is_some_and(|least| f64::from(*value) < least)
        };
        if self.signals.iter().zip(signals).any(strange) {
            return 0.0;
        }
        let odds = self.signals.iter().zip(signals).fold(self.bias, |odds, (signal, value)| {
            let value = if value.is_finite() { f64::from(*value) } else { signal.mean };
            odds + signal.weight * signal.standardise(value)
        });
        1.0 / (1.0 + (-odds.clamp(-30.0, 30.0)).exp())
    }
}

impl SignalWeight {
    /// The value in standard deviations from the mean, at most five either way.
    #[must_use]
    pub fn standardise(&self, value: f64) -> f64 {
        ((value - self.mean) / self.deviation.max(1e-9)).clamp(-5.0, 5.0)
    }
}

impl InMemory for Calibrator {
    fn held_bytes(&self) -> usize {
        each(&self.signals, self.signals.capacity(), |signal| signal.name.held_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn calibrator() -> Calibrator {
        let signal = |name: &str, weight| SignalWeight {
            name: name.into(),
            mean: 0.5,
            deviation: 0.2,
            weight,
            least: None,
        };
        Calibrator { signals: vec![signal("top", 2.0), signal("novelty", -1.0)], bias: 1.0 }
    }

    #[test]
    fn at_the_mean_only_the_bias_counts() {
        let expected = 1.0 / (1.0 + (-1.0f64).exp());
        assert!((calibrator().confidence(&[0.5, 0.5]) - expected).abs() < 1e-12);
        assert!((calibrator().confidence(&[f32::NAN, 0.5]) - expected).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn every_confidence_is_a_probability_and_grows_with_a_good_sign(a: f32, b: f32, c: f32) {
            let confidence = calibrator().confidence(&[a, c]);
            prop_assert!(confidence > 0.0 && confidence < 1.0);
            if a <= b {
                prop_assert!(calibrator().confidence(&[b, c]) >= confidence);
            }
        }
    }
}
