//! What does a tier think of an input, and how sure may it be?
//!
//! A tier is a head with a calibrator. The signals that the calibrator reads are computed here and nowhere else, so that
//! what was fitted is what runs.

use crate::{
    calibrator::Calibrator,
    encoder::exp,
    error::{Error, Result},
    kernels::widest,
    linear_head::LinearHead,
    neighbours::Neighbours,
    static_head::StaticHead,
};
use sizewise_contract::{Decide, Evidence, Judgement, StaticFeatures, Tier, units::MicroUsd};
use std::sync::Arc;

/// What the static tier notices about its own answer, in the order of [`static_signals`].
pub const STATIC_SIGNALS: &[&str] = &[
    "log-odds of the best class",
    "log-odds against the second class",
    "entropy",
    "words seen in training",
    "character runs seen in training",
    "cosine to the nearest class",
    "cosine to the answered class",
    "log of the word count",
];

/// What the encoder tier notices about its own answer, in the order of [`encoder_signals`].
pub const ENCODER_SIGNALS: &[&str] = &[
    "log-odds of the best class",
    "log-odds against the second class",
    "entropy",
    "cosine to the nearest training row",
    "mean cosine to the nearest training rows",
    "share of the nearest rows with the same answer",
    "log-odds of the static tier for the same answer",
    "static tier agrees",
    "words the static tier knows",
    "log of the word count",
];

/// Those that measure likeness to the training rows.
pub const LIKENESS_SIGNALS: &[&str] =
    &["words seen in training", "character runs seen in training", "cosine to the nearest training row"];

/// Nearest training rows that are asked for their label.
pub const VOTERS: usize = 10;
/// Label of a training row that belongs to no class.
pub const NO_CLASS: u16 = u16::MAX;

/// Probabilities of one head: the question's classes and what is outside of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// One probability per class of the question. With the probability of being outside they sum to one. `[classes]`
    pub inside: Vec<f32>,
    /// The class this head would answer.
    pub best: usize,
    /// Its log-odds against everything else.
    pub best_log_odds: f32,
    /// Its log-odds against the next most probable class, the outside included.
    pub margin: f32,
    /// In units of the largest possible one.
    pub entropy: f32,
}

impl Scores {
    /// Reads a head's logits, the last of which may stand for "none of the classes". `[classes]` or `[classes + 1]`
    #[must_use]
    pub fn of(logits: &[f32], classes: usize) -> Self {
        Self::of_owned(logits.to_vec(), classes)
    }

    /// [`Self::of`], in the logits' own room.
    fn of_owned(mut logits: Vec<f32>, classes: usize) -> Self {
        let (mut total, mut entropy, mut most) = (0.0, 0.0, 0.0);
        widest(
            #[inline(always)]
            || {
                let largest = lanes(&logits, f32::NEG_INFINITY, f32::max);
                let mut parts = [0.0f32; LANES];
                let mut weighted = [0.0f32; LANES];
                for logits in logits.chunks_mut(LANES) {
                    for ((part, weighted), logit) in parts.iter_mut().zip(&mut weighted).zip(logits) {
                        let below = *logit - largest;
                        *logit = exp_or_zero(below);
                        *part += *logit;
                        // A part that is zero counts nothing, however far below.
                        *weighted += *logit * if below < -LEAST { -LEAST } else { below };
                    }
                }
                total = parts.iter().sum::<f32>();
                // The sum of p · ln p, where ln p is how far a logit is below the largest, less the logarithm of the total.
                entropy = total.ln() - weighted.iter().sum::<f32>() / total;
                logits.iter_mut().for_each(|value| *value /= total);
                most = lanes(logits.get(..classes).unwrap_or_default(), 0.0, f32::max);
            },
        );
        let mut inside = logits;
        let entropy = entropy / (inside.len().max(2) as f32).ln();
        let candidates = inside.get(..classes).unwrap_or_default();
        let best = if total.is_finite() {
            candidates.iter().rposition(|p| *p == most).unwrap_or(0)
        } else {
            let candidates = candidates.iter().enumerate();
            candidates.max_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(class, _)| class)
        };
        let (mut top, mut second, mut rest) = (0.0, 0.0f32, 0.0f32);
        if let Some(best) = inside.get_mut(best) {
            top = std::mem::take(best);
        }
        widest(
            #[inline(always)]
            || {
                second = lanes(&inside, 0.0, f32::max);
                rest = lanes(&inside, 0.0, |a, b| a + b);
            },
        );
        if let Some(best) = inside.get_mut(best) {
            *best = top;
        }
        inside.truncate(classes);
        Self { best, best_log_odds: log_ratio(top, rest), margin: log_ratio(top, second), entropy, inside }
    }

    /// The probability that none of the classes is right; 0 where the head does not know an outside.
    #[must_use]
    pub fn outside(&self) -> f32 {
        (1.0 - sum(&self.inside)).clamp(0.0, 1.0)
    }

    /// The probabilities of the classes, given that one of them is right. `[classes]`
    #[must_use]
    pub fn given_inside(&self) -> Vec<f32> {
        self.clone().into_given_inside()
    }

    /// [`Self::given_inside`], in the probabilities' own room.
    fn into_given_inside(mut self) -> Vec<f32> {
        let total = sum(&self.inside).max(1e-30);
        self.inside.iter_mut().for_each(|p| *p /= total);
        self.inside
    }
}

/// Numbers that are added or compared side by side; each is the same on every machine, however wide its vectors.
const LANES: usize = 16;
/// Logarithms of probabilities below this one's are this one's: -ln 10⁻³⁰.
const LEAST: f32 = 69.077_55;

/// Folds all numbers into one, sixteen side by side.
#[inline(always)]
fn lanes(values: &[f32], begin: f32, fold: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [begin; LANES];
    for values in values.chunks(LANES) {
        lanes.iter_mut().zip(values).for_each(|(lane, value)| *lane = fold(*lane, *value));
    }
    lanes.into_iter().fold(begin, fold)
}

fn sum(values: &[f32]) -> f32 {
    widest(
        #[inline(always)]
        || lanes(values, 0.0, |a, b| a + b),
    )
}

/// The exponential function of what is zero or less, as the library's for what is no number.
#[inline(always)]
fn exp_or_zero(x: f32) -> f32 {
    let power = if x < -87.0 { 0.0 } else { exp(x) };
    if x.is_nan() { x } else { power }
}

/// Bounded, so that one signal cannot decide everything.
fn log_ratio(a: f32, b: f32) -> f32 {
    (a.max(1e-9).ln() - b.max(1e-9).ln()).clamp(-12.0, 12.0)
}

/// The signals of [`STATIC_SIGNALS`].
#[must_use]
pub fn static_signals(scores: &Scores, head: &StaticHead, features: StaticFeatures<'_>) -> Vec<f32> {
    let (nearest, own) = head.centroid_cosines(features.embedding, scores.best);
    vec![
        scores.best_log_odds,
        scores.margin,
        scores.entropy,
        features.seen_words,
        features.seen_runs,
        nearest,
        own,
        (features.word_count.max(1) as f32).ln(),
    ]
}

/// The training rows that an encoder tier compares an input with.
#[derive(Debug, Clone)]
pub struct LabelledNeighbours {
    /// The rows.
    pub neighbours: Arc<Neighbours>,
    /// The class of every training row, [`NO_CLASS`] for none. `[training rows]`
    pub classes: Arc<[u16]>,
}

/// What the nearest training rows say about an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Votes {
    nearest: f32,
    mean: f32,
    same: f32,
}

impl LabelledNeighbours {
    /// Asks the rows nearest to an embedding about an answer; a training row leaves itself out.
    #[must_use]
    pub fn votes(&self, embedding: &[f32], answer: usize, except: Option<u32>) -> Votes {
        let found = self.neighbours.nearest(embedding, VOTERS, except);
        let total: f32 = found.iter().map(|n| n.cosine.max(0.0)).sum::<f32>().max(1e-9);
        let agrees =
            |row: u32| self.classes.get(row as usize).is_some_and(|class| usize::from(*class) == answer);
        Votes {
            nearest: found.first().map_or(0.0, |n| n.cosine),
            mean: found.iter().map(|n| n.cosine).sum::<f32>() / found.len().max(1) as f32,
            same: found.iter().filter(|n| agrees(n.row)).map(|n| n.cosine.max(0.0)).sum::<f32>() / total,
        }
    }
}

/// The signals of [`ENCODER_SIGNALS`]. `earlier` is what the static tier thought, where there is one.
#[must_use]
pub fn encoder_signals(
    scores: &Scores,
    votes: Votes,
    earlier: Option<&Judgement>,
    features: StaticFeatures<'_>,
) -> Vec<f32> {
    let same = earlier.and_then(|judgement| judgement.probabilities.get(scores.best)).copied().unwrap_or(0.5);
    vec![
        scores.best_log_odds,
        scores.margin,
        scores.entropy,
        votes.nearest,
        votes.mean,
        votes.same,
        log_ratio(same, 1.0 - same),
        f32::from(u8::from(earlier.is_some_and(|judgement| judgement.class == scores.best))),
        features.seen_words,
        (features.word_count.max(1) as f32).ln(),
    ]
}

/// The static tier of one question.
#[derive(Debug)]
pub struct StaticTier {
    /// Its layer.
    pub head: StaticHead,
    /// How sure it may be.
    pub calibrator: Calibrator,
    /// Classes of the question.
    pub classes: usize,
}

/// The encoder tier of one question.
#[derive(Debug)]
pub struct EncoderTier {
    /// Its layer.
    pub head: LinearHead,
    /// How sure it may be.
    pub calibrator: Calibrator,
    /// Classes of the question.
    pub classes: usize,
    /// What it compares inputs with.
    pub neighbours: LabelledNeighbours,
    /// Share of the static tier in this tier's log-probabilities, from 0 to 1.
    pub blend: f32,
}

impl Decide for StaticTier {
    type Error = Error;

    fn tier(&self) -> Tier {
        Tier::Static
    }

    fn decide(&self, evidence: Evidence<'_>) -> Result<Judgement> {
        let features =
            evidence.features.ok_or(Error::Internal("the static tier is asked with its features"))?;
        let logits = self.head.logits(features.values, features.embedding);
        let scores = Scores::of_owned(logits, self.classes);
        let signals = static_signals(&scores, &self.head, features);
        Ok(Judgement {
            tier: Tier::Static,
            class: scores.best,
            confidence: self.calibrator.confidence(&signals),
            novelty: scores.outside().max(1.0 - features.seen_words),
            probabilities: scores.into_given_inside(),
            cost: MicroUsd(0),
        })
    }
}

impl Decide for EncoderTier {
    type Error = Error;

    fn tier(&self) -> Tier {
        Tier::Encoder
    }

    fn decide(&self, evidence: Evidence<'_>) -> Result<Judgement> {
        let embedding =
            evidence.embedding.ok_or(Error::Internal("the encoder tier is asked with an embedding"))?;
        let features =
            evidence.features.ok_or(Error::Internal("the encoder tier is asked with the static features"))?;
        let mut logits = vec![0.0; self.head.classes()];
        self.head.logits(embedding, &mut logits);
        let earlier = evidence.earlier.iter().find(|judgement| judgement.tier == Tier::Static);
        blend(&mut logits, earlier, self.blend);
        let scores = Scores::of_owned(logits, self.classes);
        let votes = self.neighbours.votes(embedding, scores.best, None);
        let signals = encoder_signals(&scores, votes, earlier, features);
        Ok(Judgement {
            tier: Tier::Encoder,
            class: scores.best,
            confidence: self.calibrator.confidence(&signals),
            novelty: scores.outside().max(1.0 - votes.nearest).clamp(0.0, 1.0),
            probabilities: scores.into_given_inside(),
            cost: MicroUsd(0),
        })
    }
}

/// Mixes what the static tier thought into logits: a weighted mean of log-probabilities over the question's classes.
pub fn blend(logits: &mut [f32], earlier: Option<&Judgement>, share: f32) {
    let Some(earlier) = earlier.filter(|_| share > 0.0) else { return };
    let inside = logits.get_mut(..earlier.probabilities.len()).unwrap_or_default();
    for (logit, probability) in inside.iter_mut().zip(&earlier.probabilities) {
        *logit = (1.0 - share) * *logit + share * probability.max(1e-9).ln();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_keep_the_outside_apart() {
        let scores = Scores::of(&[2.0, 1.0, 0.0, 3.0], 3);
        assert_eq!((scores.best, scores.inside.len()), (0, 3));
        assert!(scores.inside.iter().sum::<f32>() < 0.5 && scores.margin < 0.0);
        assert!((scores.given_inside().iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }

    /// The same by the library's functions, one class after the other.
    fn plain(logits: &[f32], classes: usize) -> Scores {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
        let total: f32 = powers.iter().sum();
        let all: Vec<f32> = powers.iter().map(|power| power / total).collect();
        let entropy =
            -all.iter().map(|p| p * p.max(1e-30).ln()).sum::<f32>() / (all.len().max(2) as f32).ln();
        let inside = all.iter().take(classes).enumerate();
        let best = inside.max_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(class, _)| class);
        let others = || all.iter().enumerate().filter(|(class, _)| *class != best).map(|(_, p)| *p);
        let top = all.get(best).copied().unwrap_or(0.0);
        Scores {
            best,
            best_log_odds: log_ratio(top, others().sum()),
            margin: log_ratio(top, others().fold(0.0, f32::max)),
            entropy,
            inside: all.into_iter().take(classes).collect(),
        }
    }

    fn check(logits: &[f32], classes: usize) {
        let (found, expected) = (Scores::of(logits, classes), plain(logits, classes));
        let near = |a: f32, b: f32| (a - b).abs() <= 2e-5 * (1.0 + b.abs()) || (a.is_nan() && b.is_nan());
        assert_eq!((found.best, found.inside.len()), (expected.best, expected.inside.len()), "{logits:?}");
        assert!(found.inside.iter().zip(&expected.inside).all(|(a, b)| near(*a, *b)), "{logits:?}");
        for (a, b) in [
            (found.best_log_odds, expected.best_log_odds),
            (found.margin, expected.margin),
            (found.entropy, expected.entropy),
        ] {
            assert!(near(a, b), "{logits:?}: {a} {b}");
        }
    }

    #[test]
    fn scores_are_those_of_the_plain_formulas() {
        for classes in [1, 2, 3, 15, 16, 17, 77, 150] {
            let logit = |i: usize| ((i * 7_919 % 1_009) as f32 / 90.0 - 5.0) * (1 + i % 3) as f32;
            let logits: Vec<f32> = (0..=classes).map(logit).collect();
            check(&logits, classes);
            check(&logits[..classes], classes);
        }
    }

    #[test]
    fn scores_of_strange_logits_are_those_of_the_plain_formulas() {
        const INF: f32 = f32::INFINITY;
        for logits in [
            &[0.0, 0.0][..],
            &[0.0, -500.0, -1e30],
            &[0.0, -INF],
            &[3.0, f32::NAN, 1.0],
            &[f32::NAN, f32::NAN],
            &[INF, 1.0],
            &[-INF, -INF],
            &[1e38, -1e38],
            &[1.0],
        ] {
            check(logits, logits.len());
            check(logits, logits.len() - 1);
        }
    }

    #[test]
    fn signals_have_one_name_each() {
        let head = StaticHead::quantize(&[], &[0.0; 4], vec![0.0, 0.0], &[1.0, 0.0, 0.0, 1.0]);
        let scores = Scores::of(&[1.0, 0.0], 2);
        let features = StaticFeatures {
            values: &[],
            embedding: &[1.0, 0.0],
            seen_words: 0.5,
            seen_runs: 0.5,
            word_count: 3,
        };
        assert_eq!(static_signals(&scores, &head, features).len(), STATIC_SIGNALS.len());
        let votes = Votes { nearest: 0.5, mean: 0.4, same: 1.0 };
        assert_eq!(encoder_signals(&scores, votes, None, features).len(), ENCODER_SIGNALS.len());
    }

    #[test]
    fn training_rows_do_not_vote_for_themselves() {
        let vectors = [1.0, 0.0, 0.0, 1.0].map(|x: f32| x * 0.2);
        let neighbours = LabelledNeighbours {
            neighbours: Arc::new(Neighbours::new(&vectors, 2)),
            classes: Arc::new([0, NO_CLASS]),
        };
        assert_eq!(neighbours.votes(&[0.2, 0.0], 0, None).nearest, 1.0);
        assert_eq!(neighbours.votes(&[0.2, 0.0], 0, Some(0)).same, 0.0);
    }
}
