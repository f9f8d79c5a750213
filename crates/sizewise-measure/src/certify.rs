//! Does the promise hold, and may we say so?
//!
//! Fixed-sequence testing of thresholds (Learn then Test, Angelopoulos et al. 2021): a [`Plan`] fixes the thresholds and
//! their order on development rows; [`Plan::run`] then looks at the locked rows once. For each threshold the hypothesis
//! "the served error is above the promise" is tested by the exact binomial tail, from strict to loose, until a test
//! fails. The loosest threshold that passed is served.
//!
//! **The guarantee.** With probability at least 1 − δ over the draw of the locked rows, the served error on the
//! population they were drawn from is at most the promise. It rests on three things: the rows are an independent sample
//! of that population, nothing in them (neither labels nor inputs) had a part in models, calibration or plan, and each
//! start's tests stop at the first failure. It does not rest on the confidences being calibrated: bad ones cost
//! coverage, never truth.
//!
//! **The start.** One that is too strict has too few rows to reject anything, one that is too loose has too many errors. The
//! confidences of the development rows predict, for every threshold, the chance to reject there; but locked rows are
//! often harder than development rows. So the start is chosen to bear the most: the expected error is raised by a
//! factor until only one threshold would still be rejected with 95 % chance, and the test begins there, with all of δ. Then
//! it walks to looser thresholds, one per cent of coverage at a time. Splitting δ between a loose and a strict start
//! instead loses coverage where both would have passed, and everything where the rows are a little harder than both expect.

use crate::{
    binomial,
    cascade::{Point, RowOutcome, Sums, curve, weighted_curve},
};
use sizewise_contract::{
    Tier, Verdict,
    certificate::{Counts, ThresholdTest},
    task::Promise,
};

/// Chance to reject that a start must have.
const START_POWER: f64 = 0.95;
/// Chance that rows to label are asked for.
const ASKED_POWER: f64 = 0.80;
/// Factors by which locked rows may be harder than development rows: so many, up to so much, at equal ratios.
const FACTORS: (u32, f64) = (40, 30.0);
/// Error that the start allows for on top: no set of development rows shows an error rate of nothing.
const SLACK: f64 = 0.005;
/// Steps of coverage between neighbouring thresholds.
const STEPS: usize = 100;
/// Coverage below which an answer is not worth a cascade.
const LEAST_COVERAGE: f64 = 0.02;
/// Most locked rows that it makes sense to ask for.
const MOST_ROWS: u64 = 10_000_000;

/// What is tested, in which order, fixed before the locked rows are seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Thresholds from strict to loose.
    thresholds: Vec<f64>,
    /// Where the test begins.
    start: usize,
    max_served_error: f64,
    confidence: f64,
    /// The risk that one opening may spend.
    level: f64,
    /// What the development rows expect at each threshold.
    expected: Vec<Expected>,
    /// What the development rows predict.
    pub prediction: Prediction,
}

/// What the development rows predict about a test of the promise.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The chance to certify, from 0 to 1.
    pub chance: f64,
    /// The coverage to expect where the test begins; it ends there or at more.
    pub coverage: f64,
}

/// What came of the test.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// The loosest threshold at which the promise was shown to hold.
    pub threshold: Option<f64>,
    /// Counts at that threshold, or else at the last one tested.
    pub counts: Counts,
    /// Every test in order.
    pub tests: Vec<ThresholdTest>,
}

/// What some rows say about a threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Expected {
    /// Share of the rows that is answered.
    coverage: f64,
    /// The error that the confidences expect among the answers.
    error: f64,
    /// Answered rows, scaled so that all weights sum to the number of rows.
    answered: u64,
    /// Wrong ones among them, scaled alike.
    wrong: u64,
}

impl Expected {
    fn of(sums: &Sums, (rows, weight): (usize, f64)) -> Self {
        let scale = rows as f64 / weight.max(1e-9);
        Self {
            coverage: sums.answered / weight.max(1e-9),
            error: sums.expected_wrong / sums.answered.max(1e-9),
            answered: (sums.answered * scale).round() as u64,
            wrong: (sums.wrong * scale).round() as u64,
        }
    }

    /// The chance to reject with so many locked rows, if answers are wrong at a rate.
    fn power(&self, rate: f64, locked: u64, (error, level): (f64, f64)) -> f64 {
        let answered = (locked as f64 * self.coverage).floor() as u64;
        let rate = rate.clamp(1e-6, 1.0);
        binomial::most_errors(answered, error, level).map_or(0.0, |most| binomial::cdf(most, answered, rate))
    }
}

impl Plan {
    /// Fixes thresholds and start on development rows, for a test on `locked_rows` rows.
    ///
    /// **Determinism.** Depends on the arguments alone.
    #[must_use]
    pub fn new(development: &[RowOutcome], locked_rows: u64, promise: &Promise) -> Self {
        let thresholds = thresholds(development);
        let weight = development.iter().map(|row| row.weight).sum();
        let expected: Vec<Expected> = weighted_curve(development, &thresholds)
            .iter()
            .map(|sums| Expected::of(sums, (development.len(), weight)))
            .collect();
        let level = (1.0 - promise.confidence) / f64::from(promise.openings.max(1));
        let limits = (promise.max_served_error, level);
        let start = start(&expected, locked_rows, limits);
        let prediction = expected.get(start).map_or(Prediction { chance: 0.0, coverage: 0.0 }, |expected| {
            Prediction { chance: chance(expected, locked_rows, limits), coverage: expected.coverage }
        });
        Self {
            thresholds,
            start,
            max_served_error: promise.max_served_error,
            confidence: promise.confidence,
            level,
            expected,
            prediction,
        }
    }

    /// Locked rows for a chance of 80 %; none when no number of rows would do, because the error expected at every
    /// threshold is above the promise.
    #[must_use]
    pub fn rows_needed(&self) -> Option<u64> {
        let limits = (self.max_served_error, self.level);
        let predicted = least_rows(|locked| {
            let begin = self.expected.get(start(&self.expected, locked, limits));
            begin.is_some_and(|begin| chance(begin, locked, limits) >= ASKED_POWER)
        });
        // Few development rows leave so much open that no number of locked rows has that chance: then by what is expected.
        predicted.or_else(|| {
            least_rows(|locked| self.expected.iter().any(|e| e.power(e.error, locked, limits) >= ASKED_POWER))
        })
    }

    /// Tests the promise on the locked rows, in the order that was fixed.
    #[must_use]
    pub fn run(&self, locked: &[RowOutcome]) -> Outcome {
        let points = curve(locked, &self.thresholds);
        let mut tests = Vec::new();
        let mut served: Option<usize> = None;
        let mut last = None;
        for (position, point) in points.iter().enumerate().skip(self.start) {
            let p_value = if point.answered == 0 {
                1.0
            } else {
                binomial::cdf(point.wrong, point.answered, self.max_served_error)
            };
            let rejected = p_value <= self.level;
            tests.push(ThresholdTest {
                threshold: point.threshold,
                answered: point.answered,
                wrong: point.wrong,
                p_value,
                level: self.level,
                rejected,
            });
            last = Some(position);
            if !rejected {
                break;
            }
            served = Some(position);
        }
        let shown = served.or(last).and_then(|position| points.get(position));
        Outcome {
            verdict: if served.is_some() {
                Verdict::Certified
            } else {
                self.explain(&points, locked.len() as u64)
            },
            threshold: served.and_then(|position| self.thresholds.get(position)).copied(),
            counts: self.counts(shown, locked),
            tests,
        }
    }

    fn counts(&self, point: Option<&Point>, locked: &[RowOutcome]) -> Counts {
        let point = point.cloned().unwrap_or_default();
        Counts {
            rows: locked.len() as u64,
            answered: point.answered,
            wrong: point.wrong,
            out_of_scope: locked.iter().filter(|row| row.out_of_scope).count() as u64,
            served_error_bound: binomial::upper_bound(point.wrong, point.answered, self.confidence),
            by_tier: point.by_tier.into_iter().filter(|(_, count)| *count > 0).collect::<Vec<(Tier, u64)>>(),
        }
    }

    /// Why nothing was certified: the evidence speaks against the promise, or there is too little of it.
    fn explain(&self, points: &[Point], rows: u64) -> Verdict {
        let error = self.max_served_error;
        let useful = || {
            points
                .iter()
                .filter(|point| point.answered as f64 >= LEAST_COVERAGE * rows as f64 && point.answered >= 20)
        };
        let refuted = useful().count() > 0
            && useful().all(|point| binomial::lower_bound(point.wrong, point.answered, 0.95) > error);
        if refuted {
            let reason =
                format!("at every useful threshold the served error is above {error}, with 95 % confidence");
            return Verdict::Refused { reason };
        }
        let limits = (error, self.level);
        let enough = |more: u64| {
            points.iter().any(|point| {
                // As if the next row were half wrong: a handful of faultless rows is not yet a faultless model.
                let rate = (point.wrong as f64 + 0.5) / (point.answered + 1) as f64;
                let coverage = point.answered as f64 / rows.max(1) as f64;
                let seen = Expected { coverage, error: rate, answered: point.answered, wrong: point.wrong };
                seen.power(rate, rows + more, limits) >= ASKED_POWER
            })
        };
        match least_rows(enough) {
            Some(label_more) => Verdict::InsufficientEvidence { label_more },
            None => Verdict::Refused {
                reason: format!(
                    "at every threshold the error seen is at or above {:.1} %; more rows would not help",
                    error * 100.0
                ),
            },
        }
    }
}

/// The loosest threshold among those that would still be rejected with the development rows' errors raised the most.
fn start(expected: &[Expected], locked: u64, limits: (f64, f64)) -> usize {
    let (steps, most) = FACTORS;
    let factor = |step: u32| most.powf(f64::from(step) / f64::from(steps - 1));
    let bears =
        |e: &Expected, step: u32| e.power(e.error * factor(step) + SLACK, locked, limits) >= START_POWER;
    // The chance falls as the error is raised, so the largest factor borne is found by halving.
    let borne = |e: &Expected| {
        let (mut low, mut high) = (0, steps);
        while low < high {
            let middle = low + (high - low) / 2;
            if bears(e, middle) { low = middle + 1 } else { high = middle }
        }
        low
    };
    let most = expected.iter().map(borne).max().unwrap_or(0);
    if most > 0 {
        return expected.iter().rposition(|e| borne(e) == most).unwrap_or(0);
    }
    let chance = |e: &Expected| e.power(e.error, locked, limits);
    let best = expected.iter().enumerate().max_by(|(_, a), (_, b)| chance(a).total_cmp(&chance(b)));
    best.map_or(0, |(position, _)| position)
}

/// Thresholds at equal steps of the coverage of development rows, from strict to loose.
pub(crate) fn thresholds(development: &[RowOutcome]) -> Vec<f64> {
    let best = |row: &RowOutcome| row.tiers.iter().map(|tier| tier.confidence).fold(0.0, f64::max);
    let mut sorted: Vec<(f64, f64)> = development.iter().map(|row| (best(row), row.weight)).collect();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let total: f64 = sorted.iter().map(|(_, weight)| weight).sum();
    let step = total / STEPS.min(sorted.len()).max(1) as f64;
    let (mut covered, mut next) = (0.0, step);
    let mut thresholds = Vec::with_capacity(STEPS);
    for (confidence, weight) in sorted {
        covered += weight;
        if covered >= next - 1e-9 * total {
            thresholds.push(confidence);
            next = covered + step;
        }
    }
    thresholds.dedup();
    thresholds
}

/// The chance to reject at a threshold, averaged over what the labels of the development rows leave open about the true
/// rate (a Beta posterior that begins with one pseudo-row of the expected rate).
fn chance(expected: &Expected, locked: u64, limits: (f64, f64)) -> f64 {
    const SLICES: u32 = 40;
    let slice = |number: u32| {
        let share = (f64::from(number) + 0.5) / f64::from(SLICES);
        let rate = binomial::upper_bound(expected.wrong, expected.answered + 1, share);
        expected.power(rate, locked, limits)
    };
    (0..SLICES).map(slice).sum::<f64>() / f64::from(SLICES)
}

/// The smallest number of rows that is enough, to two digits.
fn least_rows(enough: impl Fn(u64) -> bool) -> Option<u64> {
    let mut high = 32;
    while !enough(high) {
        high *= 2;
        if high > MOST_ROWS {
            return None;
        }
    }
    let mut low = high / 2;
    while high - low > (high / 100).max(1) {
        let middle = low + (high - low) / 2;
        if enough(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cascade::TierOutcome, random::Random};

    /// Rows whose confidence is drawn from 0.5 to 1, mostly near 1, and whose true chance to be right is
    /// `truth(confidence)`.
    fn rows(random: &mut Random, count: usize, truth: impl Fn(f64) -> f64) -> Vec<RowOutcome> {
        (0..count)
            .map(|_| {
                let confidence = 1.0 - random.uniform().powi(3) / 2.0;
                let right = random.uniform() < truth(confidence);
                RowOutcome {
                    tiers: vec![TierOutcome { tier: Tier::Static, confidence, right }],
                    out_of_scope: false,
                    weight: 1.0,
                }
            })
            .collect()
    }

    /// The true served error at a threshold, by integration.
    fn risk(threshold: f64, truth: impl Fn(f64) -> f64) -> f64 {
        let steps = 2_000;
        let last = (2.0 * (1.0 - threshold.max(0.5))).cbrt();
        let confidence = |i: u32| 1.0 - (last * (f64::from(i) + 0.5) / f64::from(steps)).powi(3) / 2.0;
        (0..steps).map(|i| 1.0 - truth(confidence(i))).sum::<f64>() / f64::from(steps)
    }

    fn promise(max_served_error: f64) -> Promise {
        Promise { max_served_error, ..Promise::default() }
    }

    /// A name, a promise, and the chance to be right at each confidence.
    type Law = (&'static str, f64, fn(f64) -> f64);
    const RUNS: u32 = 600;

    /// The share of resamples whose certificate is false, for some law of truth.
    fn false_share(error: f64, truth: impl Fn(f64) -> f64 + Copy) -> (f64, f64) {
        let mut random = Random::new(99);
        let (runs, mut wrong, mut certified) = (RUNS, 0, 0);
        for _ in 0..runs {
            let plan = Plan::new(&rows(&mut random, 400, truth), 500, &promise(error));
            let outcome = plan.run(&rows(&mut random, 500, truth));
            if let Some(threshold) = outcome.threshold {
                certified += 1;
                wrong += u32::from(risk(threshold, truth) > error);
            }
        }
        (f64::from(wrong) / f64::from(runs), f64::from(certified) / f64::from(runs))
    }

    #[test]
    fn a_certificate_is_false_at_most_as_often_as_promised() {
        // Three standard errors at 5 %.
        let allowed = 0.05 + 3.0 * (0.05f64 * 0.95 / f64::from(RUNS)).sqrt();
        let laws: [Law; 5] = [
            ("calibrated", 0.05, |c| c),
            ("overconfident", 0.05, |c| c - 0.06),
            ("useless confidence, exactly at the promise", 0.05, |_| 0.95),
            ("worse the surer", 0.05, |c| 1.45 - c),
            ("a cliff in the middle", 0.03, |c| if c > 0.9 { 0.99 } else { 0.6 }),
        ];
        for (name, error, truth) in laws {
            let (wrong, _) = false_share(error, truth);
            assert!(wrong <= allowed, "{name}: {wrong}");
        }
    }

    #[test]
    fn a_good_model_is_certified_nearly_always_and_covers_much() {
        let (_, certified) = false_share(0.05, |c| c);
        assert!(certified > 0.9, "{certified}");
    }

    #[test]
    fn too_few_rows_ask_for_more_and_a_bad_model_is_refused() {
        let mut random = Random::new(5);
        let good = |c: f64| c;
        let plan = Plan::new(&rows(&mut random, 400, good), 40, &promise(0.02));
        assert!(
            plan.prediction.chance < 0.2 && plan.rows_needed().is_some_and(|n| n > 149),
            "{:?}",
            plan.prediction
        );
        let outcome = plan.run(&rows(&mut random, 40, |_| 1.0));
        assert!(
            matches!(outcome.verdict, Verdict::InsufficientEvidence { label_more } if label_more > 50),
            "{:?}",
            outcome.verdict
        );
        let bad = |_: f64| 0.6;
        let plan = Plan::new(&rows(&mut random, 400, bad), 500, &promise(0.02));
        assert!(matches!(plan.run(&rows(&mut random, 500, bad)).verdict, Verdict::Refused { .. }));
    }

    #[test]
    fn the_chance_said_before_is_the_share_that_comes_true() {
        let mut random = Random::new(8);
        let truth = |c: f64| c;
        let (mut said, mut came) = (0.0, 0.0);
        for _ in 0..300 {
            let plan = Plan::new(&rows(&mut random, 2_000, truth), 200, &promise(0.03));
            said += plan.prediction.chance / 300.0;
            came += f64::from(u8::from(plan.run(&rows(&mut random, 200, truth)).threshold.is_some())) / 300.0;
        }
        assert!((said - came).abs() < 0.15, "said {said}, came {came}");
    }

    #[test]
    fn without_rows_nothing_is_certified() {
        let plan = Plan::new(&[], 0, &promise(0.05));
        assert_eq!(plan.run(&[]).threshold, None);
        assert_eq!(plan.rows_needed(), None);
    }
}
