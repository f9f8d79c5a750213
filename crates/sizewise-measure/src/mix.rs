//! What has the mix of classes become, and which threshold still keeps the promise under it?
//!
//! Where only the shares of the classes have changed (label shift: what inputs of a class look like has not), labels made
//! before still prove something. [`Seen`] counts what a tier says of live inputs, [`Confusion`] how often it says so of each
//! class, and [`Confusion::mix`] finds the shares that make the counts likeliest (the maximum-likelihood form of Saerens et
//! al. 2002, on answers in place of probabilities; Lipton et al. 2018 invert the same table). [`remake`] then counts each gold row
//! by what its class has become and tests thresholds anew.
//!
//! **The test.** With ε the promise, n gold rows, n_k of class k, and q_k the share of class k now, a row has the value
//! z = 1 − ε if it is answered wrongly, −ε if rightly, 0 if not at all, and the promise is broken where Σ q_k E[z | k] > 0. For rows of
//! class k with weight w_k = q_k n / n_k the product of 1 − λ (w_k z + c) over all rows, c = (1 − ε) Σ q_k over classes without a
//! gold row, has then an expectation of at most 1: given the classes, its logarithm's expectation is below
//! Σ n_k log(1 − λ (w_k E[z | k] + c)) ≤ n log(1 − λ Σ q_k (…)) ≤ 0, and so for the expectation itself by the same inequality. So a
//! product of 1/δ or more has a chance of at most δ (Markov; Waudby-Smith and Ramdas 2024 for betting on means). It is exact
//! in the gold rows, however unequal the weights. λ and the order of thresholds are fixed on development rows, and the walk
//! from strict to loose stops at the first failure, as in `certify`.
//!
//! **The mix is not known but estimated.** A fifth of the risk is spent on it: the test must pass under all but a small share
//! of resampled mixes ([`Confusion::mixes`]: counts of live answers and of the table drawn anew). That part is asymptotic in the number of
//! live inputs, and it rests on label shift being what happened: a new kind of input is found by other means.

use crate::{
    cascade::{RowOutcome, curve},
    certify,
    random::Random,
};
use serde::{Deserialize, Serialize};
use sizewise_contract::task::Promise;

/// Part of the risk that the estimated mix may spend.
const MIX_PART: f64 = 0.2;
/// Rows that are added to every class of the table, spread over all answers: no answer is impossible.
const SMOOTHING: f64 = 0.5;
/// Most steps towards the likeliest mix.
const STEPS: usize = 200;
/// Steps from the likeliest mix to that of resampled counts, which is near.
const STEPS_AGAIN: usize = 40;
/// Development rows that all classes together lend to each class's rates.
const LENT: f64 = 10.0;
/// Stakes that are tried on development rows, as parts of the largest possible one.
const STAKES: [f64; 8] = [0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 0.95];
/// How much harder than development rows gold rows may be where the stake and the start are chosen: a factor and a rate on top.
const HARDER: (f64, f64) = (1.3, 0.005);

/// From which confidence a tier's answer counts as sure.
pub const SURE: f64 = 0.7;
/// Mixes of counts as they would be without a change: a change is what none of them looks like.
const USUAL: usize = 100;
/// How far a mix may move before it is a change, as the share of requests that would have to be of another class.
pub const MOVED: f64 = 0.05;

/// The number of an answer: its class, and whether the tier was sure of it.
#[must_use]
pub fn answer(class: usize, confidence: f64) -> usize {
    class * 2 + usize::from(confidence >= SURE)
}

/// How far the mix of live inputs is from the one that was certified.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// The likeliest shares of the classes now. `[classes]`
    pub mix: Vec<f64>,
    /// Share of the requests that would have to be of another class for the mixes to be the same.
    pub distance: f64,
    /// The largest such distance among a hundred estimates from counts without any change.
    pub usual: f64,
    /// Whether it is further than by chance, and far enough to matter.
    pub changed: bool,
}

/// Half the sum of the differences of two mixes.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0
}

/// How often a tier says what of inputs of each class, on rows that it did not learn from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Confusion {
    answers: usize,
    /// Answers with their counts, by class. `[classes]`
    rows: Vec<Vec<(usize, f64)>>,
}

/// How often a tier said what of live inputs.
///
/// **Bounds.** One number an answer, however many inputs there were.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seen(Vec<f64>);

impl Seen {
    /// Begins with nothing.
    #[must_use]
    pub fn new(answers: usize) -> Self {
        Self(vec![0.0; answers])
    }

    /// Counts one answer; one that is out of range is passed over.
    pub fn add(&mut self, answer: usize) {
        if let Some(count) = self.0.get_mut(answer) {
            *count += 1.0;
        }
    }

    /// How many inputs were seen.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.0.iter().sum()
    }
}

impl Confusion {
    /// Begins an empty table of `classes` (one more where inputs may be outside of them) and kinds of `answers`: a tier's
    /// class, or its class and whether it was sure.
    #[must_use]
    pub fn new(classes: usize, answers: usize) -> Self {
        Self { answers, rows: vec![Vec::new(); classes] }
    }

    /// Counts one labelled row; one that is out of range is passed over.
    pub fn add(&mut self, class: usize, answer: usize) {
        let Some(row) = self.rows.get_mut(class).filter(|_| answer < self.answers) else { return };
        match row.iter_mut().find(|(at, _)| *at == answer) {
            Some((_, count)) => *count += 1.0,
            None => row.push((answer, 1.0)),
        }
    }

    /// The shares of the classes that make the live answers likeliest; equal ones without any.
    #[must_use]
    pub fn mix(&self, seen: &Seen) -> Vec<f64> {
        let start = vec![1.0 / self.rows.len().max(1) as f64; self.rows.len()];
        self.climb(&seen.0, start, STEPS)
    }

    /// The likeliest mix, and `count` mixes of counts drawn anew: what the counts leave open.
    ///
    /// **Determinism.** Depends on the arguments alone. **Bounds.** Time is `count` × (filled cells of the table + classes + answers).
    #[must_use]
    pub fn mixes(&self, seen: &Seen, count: usize, seed: u64) -> Vec<Vec<f64>> {
        let likeliest = self.mix(seen);
        let mut random = Random::new(seed ^ 0x313c);
        let mut all = Vec::with_capacity(count + 1);
        for _ in 0..count {
            let counts: Vec<f64> = seen.0.iter().map(|count| poisson(*count, &mut random)).collect();
            let again = |row: &Vec<(usize, f64)>| {
                row.iter().map(|(answer, count)| (*answer, poisson(*count, &mut random))).collect()
            };
            let table = Self { answers: self.answers, rows: self.rows.iter().map(again).collect() };
            // A share of nothing would stay nothing for ever.
            let least = 0.05 / self.rows.len().max(1) as f64;
            let start = likeliest.iter().map(|share| share.max(least)).collect();
            all.push(table.climb(&counts, start, STEPS_AGAIN));
        }
        all.insert(0, likeliest);
        all
    }

    /// How far live answers say that the mix has moved from the one that was certified. The estimate of many shares from few counts is never
    /// exactly right, so it is compared with estimates from counts that the certified mix would have given.
    ///
    /// **Determinism.** Depends on the arguments alone.
    #[must_use]
    pub fn shift(&self, seen: &Seen, certified: &[f64], seed: u64) -> Shift {
        let mix = self.mix(seen);
        let moved = distance(&mix, certified);
        let unchanged = self.expected(certified, seen.total());
        let estimates = self.mixes(&unchanged, USUAL, seed);
        let usual = estimates.iter().skip(1).map(|mix| distance(mix, certified)).fold(0.0, f64::max);
        Shift { mix, distance: moved, usual, changed: moved > usual && moved > MOVED }
    }

    /// What so many inputs of a mix would be answered.
    fn expected(&self, mix: &[f64], total: f64) -> Seen {
        let mut counts = vec![0.0; self.answers];
        for (row, share) in self.rows.iter().zip(mix) {
            let scale = 1.0 / (row.iter().map(|(_, count)| count).sum::<f64>() + SMOOTHING);
            let rest = SMOOTHING * scale / self.answers.max(1) as f64;
            counts.iter_mut().for_each(|count| *count += total * share * rest);
            for (answer, count) in row {
                if let Some(slot) = counts.get_mut(*answer) {
                    *slot += total * share * scale * count;
                }
            }
        }
        Seen(counts)
    }

    /// Expectation maximisation over the shares.
    fn climb(&self, counts: &[f64], mut mix: Vec<f64>, steps: usize) -> Vec<f64> {
        let total: f64 = counts.iter().sum();
        let sum: f64 = mix.iter().sum();
        mix.iter_mut().for_each(|share| *share /= sum.max(1e-12));
        if total <= 0.0 {
            return mix;
        }
        // P(answer | class) is a sparse part and the same small rest for every answer.
        let scales: Vec<f64> = self
            .rows
            .iter()
            .map(|row| 1.0 / (row.iter().map(|(_, count)| count).sum::<f64>() + SMOOTHING))
            .collect();
        let rests: Vec<f64> =
            scales.iter().map(|scale| scale * SMOOTHING / self.answers.max(1) as f64).collect();
        let mut expected = vec![0.0; self.answers];
        for _ in 0..steps {
            let rest: f64 = mix.iter().zip(&rests).map(|(share, rest)| share * rest).sum();
            expected.iter_mut().for_each(|value| *value = rest);
            for ((row, share), scale) in self.rows.iter().zip(&mix).zip(&scales) {
                for (answer, count) in row {
                    if let Some(value) = expected.get_mut(*answer) {
                        *value += share * scale * count;
                    }
                }
            }
            let ratio = |answer: usize| {
                let (seen, expected) = (counts.get(answer), expected.get(answer));
                seen.zip(expected).map_or(0.0, |(seen, expected)| seen / (total * expected.max(1e-12)))
            };
            let everywhere: f64 = (0..self.answers).map(ratio).sum();
            let mut moved = 0.0;
            for (((row, share), scale), rest) in self.rows.iter().zip(&mut mix).zip(&scales).zip(&rests) {
                let factor = row.iter().map(|(answer, count)| scale * count * ratio(*answer)).sum::<f64>()
                    + rest * everywhere;
                moved += (*share * (factor - 1.0)).abs();
                *share *= factor;
            }
            let sum: f64 = mix.iter().sum();
            mix.iter_mut().for_each(|share| *share /= sum.max(1e-12));
            if moved < 1e-5 {
                break;
            }
        }
        mix
    }
}

/// A Poisson number: by waiting times where the mean is small, else the rounded normal one.
fn poisson(mean: f64, random: &mut Random) -> f64 {
    if mean <= 0.0 {
        return 0.0;
    }
    if mean > 60.0 {
        let normal = (0..12).map(|_| random.uniform()).sum::<f64>() - 6.0;
        return (mean + mean.sqrt() * normal).round().max(0.0);
    }
    let (mut left, mut count) = (mean, 0.0);
    loop {
        left += (1.0 - random.uniform()).ln();
        if left < 0.0 {
            return count;
        }
        count += 1.0;
    }
}

/// A row that a person labelled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Labelled {
    /// Its class; the number of classes for one that is outside of them.
    pub class: usize,
    /// What the tiers would have answered.
    pub outcome: RowOutcome,
}

/// What is kept of a certificate's rows, so that its promise can be tested again under another mix: numbers alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MixRows {
    /// Classes; one more where inputs may be outside of them.
    pub classes: usize,
    /// Kinds of answers of the static tier ([`answer`]).
    pub answers: usize,
    /// Development rows.
    pub development: Vec<Development>,
    /// The locked rows that were opened.
    pub gold: Vec<Labelled>,
}

/// A development row, with the number of the static tier's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Development {
    /// The row.
    pub row: Labelled,
    /// What the static tier said.
    pub said: usize,
}

impl MixRows {
    /// The shares of the classes among the gold rows; none without any. `[classes]`
    #[must_use]
    pub fn shares(&self) -> Option<Vec<f64>> {
        let counts = class_counts(&self.gold, self.classes);
        let all: f64 = counts.iter().sum();
        (all > 0.0).then(|| counts.iter().map(|count| count / all).collect())
    }
}

/// What came of testing the promise under another mix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Remade {
    /// The loosest threshold at which the promise was shown to hold; none is insufficient evidence.
    pub threshold: Option<f64>,
    /// Share of requests that gold rows, weighted, say is answered there.
    pub coverage: f64,
    /// Share of these answers that they say is wrong.
    pub served_error: f64,
    /// How many equally weighted rows the gold rows are worth under the likeliest mix.
    pub effective_rows: f64,
    /// Share of the requests whose class has no gold row.
    pub without_gold: f64,
    /// Classes whose labels are worth most now, first the one with the most traffic for each gold row.
    pub label_next: Vec<usize>,
    /// How many thresholds were tested.
    pub tested: usize,
}

/// Rows by class at one threshold.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    rows: f64,
    right: f64,
    wrong: f64,
}

/// Tests the promise on gold rows as if their classes had the shares of each of some mixes, of which the first is the
/// likeliest ([`Confusion::mixes`]). Order of thresholds and stakes are fixed on development rows.
///
/// **Bounds.** Time is rows × log thresholds + thresholds × classes × mixes. **Determinism.** Depends on the arguments alone.
#[must_use]
pub fn remake(development: &[Labelled], gold: &[Labelled], mixes: &[Vec<f64>], promise: &Promise) -> Remade {
    let classes = mixes.first().map_or(0, Vec::len);
    let error = promise.max_served_error;
    let level = (1.0 - promise.confidence) / f64::from(promise.openings.max(1));
    let counts = class_counts(gold, classes);
    let weights: Vec<Weights> = mixes.iter().map(|mix| Weights::of(mix, &counts, error)).collect();
    let mut remade = Remade {
        threshold: None,
        coverage: 0.0,
        served_error: 0.0,
        effective_rows: weights.first().map_or(0.0, |weights| weights.effective(&counts)),
        without_gold: weights.first().map_or(0.0, |weights| weights.without),
        label_next: weights.first().map_or_else(Vec::new, Weights::heaviest),
        tested: 0,
    };
    let Some(likeliest) = weights.first() else { return remade };
    let thresholds = order(development, mixes.first().map_or(&[][..], |mix| mix), classes);
    let expected = tallies(development, classes, &thresholds);
    let plans: Vec<Stake> =
        expected.iter().map(|tally| Stake::best(tally, likeliest, &counts, error)).collect();
    let needed = -((1.0 - MIX_PART) * level).ln();
    let start = (0..plans.len())
        .max_by(|a, b| plans[*a].clearance(needed).total_cmp(&plans[*b].clearance(needed)))
        .unwrap_or(0);
    let found = tallies(gold, classes, &thresholds);
    for (position, (tally, plan)) in found.iter().zip(&plans).enumerate().skip(start) {
        remade.tested += 1;
        let mut worths: Vec<f64> =
            weights.iter().map(|weights| weights.log_worth(tally, plan.part, error)).collect();
        worths.sort_by(f64::total_cmp);
        let passed_over = (MIX_PART * level * worths.len() as f64).floor() as usize;
        if worths.get(passed_over).is_none_or(|worth| *worth < needed) {
            break;
        }
        let sum = |of: fn(&Tally) -> f64| -> f64 {
            tally.iter().zip(&likeliest.of).map(|(tally, weight)| weight * of(tally)).sum()
        };
        let (right, wrong) = (sum(|tally| tally.right), sum(|tally| tally.wrong));
        remade.threshold = thresholds.get(position).copied();
        remade.coverage = (right + wrong) / gold.len().max(1) as f64;
        remade.served_error = wrong / (right + wrong).max(1e-9);
    }
    remade
}

/// Thresholds from strict to loose, at equal steps of the coverage that development rows have under a mix.
fn order(development: &[Labelled], mix: &[f64], classes: usize) -> Vec<f64> {
    let counts = class_counts(development, classes);
    let row = |row: &Labelled| {
        let share = mix.get(row.class).copied().unwrap_or(0.0);
        let count: f64 = counts.get(row.class).copied().unwrap_or(1.0);
        RowOutcome { weight: (share / count.max(1.0)).max(1e-9), ..row.outcome.clone() }
    };
    certify::thresholds(&development.iter().map(row).collect::<Vec<_>>())
}

fn class_counts(rows: &[Labelled], classes: usize) -> Vec<f64> {
    let mut counts = vec![0.0; classes];
    for row in rows {
        if let Some(count) = counts.get_mut(row.class) {
            *count += 1.0;
        }
    }
    counts
}

/// Counts by threshold and class. `[thresholds][classes]`
fn tallies(rows: &[Labelled], classes: usize, thresholds: &[f64]) -> Vec<Vec<Tally>> {
    let mut of: Vec<Vec<RowOutcome>> = vec![Vec::new(); classes];
    for row in rows {
        if let Some(rows) = of.get_mut(row.class) {
            rows.push(row.outcome.clone());
        }
    }
    let mut all = vec![Vec::with_capacity(classes); thresholds.len()];
    for rows in of {
        for (all, point) in all.iter_mut().zip(curve(&rows, thresholds)) {
            all.push(Tally {
                rows: rows.len() as f64,
                right: point.answered.saturating_sub(point.wrong) as f64,
                wrong: point.wrong as f64,
            });
        }
    }
    all
}

/// What each gold row of a class counts under a mix.
#[derive(Debug)]
struct Weights {
    /// `[classes]`
    of: Vec<f64>,
    /// Share of the classes without a gold row.
    without: f64,
    /// What that costs each row.
    cost: f64,
    /// The largest stake that cannot lose everything.
    most: f64,
}

impl Weights {
    fn of(mix: &[f64], counts: &[f64], error: f64) -> Self {
        let total: f64 = counts.iter().sum();
        let weight = |(share, count): (&f64, &f64)| if *count > 0.0 { share * total / count } else { 0.0 };
        let of: Vec<f64> = mix.iter().zip(counts).map(weight).collect();
        let without: f64 =
            mix.iter().zip(counts).filter(|(_, count)| **count <= 0.0).map(|(share, _)| share).sum();
        let cost = (1.0 - error) * without;
        let largest = of.iter().copied().fold(0.0, f64::max);
        let most = 1.0 / ((1.0 - error) * largest + cost).max(1e-9);
        Self { of, without, cost, most }
    }

    fn effective(&self, counts: &[f64]) -> f64 {
        let sum = |power: i32| -> f64 {
            self.of.iter().zip(counts).map(|(weight, count)| count * weight.powi(power)).sum()
        };
        sum(1).powi(2) / sum(2).max(1e-9)
    }

    fn heaviest(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.of.len()).filter(|class| self.of[*class] > 1.0).collect();
        order.sort_by(|a, b| self.of[*b].total_cmp(&self.of[*a]));
        order.truncate(10);
        order
    }

    /// The logarithms of a row's factor: answered rightly, answered wrongly, not answered.
    fn factors(&self, weight: f64, part: f64, error: f64) -> [f64; 3] {
        let stake = part * self.most;
        [weight * error - self.cost, -weight * (1.0 - error) - self.cost, -self.cost]
            .map(|gain| (stake * gain).max(-0.999_999).ln_1p())
    }

    /// The logarithm of the product over all rows.
    fn log_worth(&self, tallies: &[Tally], part: f64, error: f64) -> f64 {
        let worth = |(tally, weight): (&Tally, &f64)| {
            let [right, wrong, none] = self.factors(*weight, part, error);
            tally.right * right + tally.wrong * wrong + (tally.rows - tally.right - tally.wrong) * none
        };
        tallies.iter().zip(&self.of).map(worth).sum()
    }
}

/// What is staked at a threshold, and what development rows expect of it.
#[derive(Debug, Clone, Copy)]
struct Stake {
    /// Part of the largest possible stake.
    part: f64,
    mean: f64,
    deviation: f64,
}

impl Stake {
    /// By how many deviations the expected product is beyond what is needed.
    fn clearance(&self, needed: f64) -> f64 {
        (self.mean - needed) / self.deviation.max(0.5)
    }

    fn best(development: &[Tally], weights: &Weights, counts: &[f64], error: f64) -> Self {
        let sum = |of: fn(&Tally) -> f64| development.iter().map(of).sum::<f64>();
        let all = sum(|tally| tally.rows).max(1.0);
        let (right, wrong) = (sum(|tally| tally.right) / all, sum(|tally| tally.wrong) / all);
        let expect = |part: f64| {
            let mut stake = Self { part, mean: 0.0, deviation: 0.0 };
            for ((tally, weight), count) in development.iter().zip(&weights.of).zip(counts) {
                let rows = tally.rows + LENT;
                let wrong = (tally.wrong + LENT * wrong) / rows;
                let right = (tally.right + LENT * right) / rows;
                let harder = (wrong * HARDER.0 + HARDER.1 * (right + wrong)).min(right + wrong);
                let chances = [right + wrong - harder, harder, 1.0 - right - wrong];
                let factors = weights.factors(*weight, part, error);
                let mean: f64 = chances.iter().zip(&factors).map(|(chance, value)| chance * value).sum();
                let square: f64 =
                    chances.iter().zip(&factors).map(|(chance, value)| chance * value * value).sum();
                stake.mean += count * mean;
                stake.deviation += count * (square - mean * mean).max(0.0);
            }
            stake.deviation = stake.deviation.sqrt();
            stake
        };
        let stakes = STAKES.map(expect);
        let best = stakes.into_iter().max_by(|a, b| a.mean.total_cmp(&b.mean));
        best.unwrap_or(Self { part: 0.1, mean: 0.0, deviation: 1.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cascade::TierOutcome;
    use proptest::prelude::*;
    use sizewise_contract::Tier;

    /// Rows of a class that a tier answers with a confidence near its true chance to be right.
    fn rows(
        count: usize,
        classes: usize,
        wrong: impl Fn(usize) -> f64,
        random: &mut Random,
    ) -> Vec<Labelled> {
        let mut row = |_| {
            let class = random.below(classes);
            let rate = wrong(class) * 2.0 * random.uniform();
            let right = random.uniform() >= rate;
            let tiers = vec![TierOutcome { tier: Tier::Static, confidence: 1.0 - rate, right }];
            Labelled { class, outcome: RowOutcome { tiers, out_of_scope: false, weight: 1.0 } }
        };
        (0..count).map(&mut row).collect()
    }

    fn table(classes: usize, rows: usize, right: f64, random: &mut Random) -> Confusion {
        let mut table = Confusion::new(classes, classes);
        for class in 0..classes {
            (0..rows).for_each(|_| table.add(class, said(class, classes, right, random)));
        }
        table
    }

    fn said(class: usize, classes: usize, right: f64, random: &mut Random) -> usize {
        if random.uniform() < right { class } else { random.below(classes) }
    }

    #[test]
    fn the_mix_is_found_from_answers_that_are_often_wrong() {
        let mut random = Random::new(4);
        let table = table(4, 400, 0.7, &mut random);
        let mix = [0.55, 0.3, 0.1, 0.05];
        let mut seen = Seen::new(4);
        for _ in 0..6_000 {
            let at = random.uniform();
            let class = mix
                .iter()
                .scan(0.0, |sum, share| {
                    *sum += share;
                    Some(*sum)
                })
                .position(|sum| at < sum);
            seen.add(said(class.unwrap_or(3), 4, 0.7, &mut random));
        }
        let found = table.mix(&seen);
        for (found, truth) in found.iter().zip(mix) {
            assert!((found - truth).abs() < 0.035, "{found} for {truth}");
        }
        let mixes = table.mixes(&seen, 60, 1);
        assert_eq!(mixes[0], found);
        for (class, truth) in mix.iter().enumerate() {
            let drawn: Vec<f64> = mixes[1..].iter().map(|mix| mix[class]).collect();
            let (low, high) = drawn.iter().fold((1.0f64, 0.0f64), |(l, h), v| (l.min(*v), h.max(*v)));
            assert!(low < *truth && *truth < high, "{low} {high} for {truth}");
        }
    }

    #[test]
    fn a_mix_that_moved_is_told_from_one_that_is_only_estimated_badly() {
        let mut random = Random::new(12);
        let certified = [0.4, 0.3, 0.2, 0.1];
        let moved = [0.2, 0.3, 0.2, 0.3];
        let mut changed = [0, 0];
        for run in 0..60u64 {
            let table = table(4, 60, 0.7, &mut random);
            for (mix, changed) in [certified, moved].into_iter().zip(&mut changed) {
                let mut seen = Seen::new(4);
                for _ in 0..1_500 {
                    let at = random.uniform();
                    let mut sum = 0.0;
                    let class = mix.iter().position(|share| {
                        sum += share;
                        at < sum
                    });
                    seen.add(said(class.unwrap_or(3), 4, 0.7, &mut random));
                }
                let shift = table.shift(&seen, &certified, run);
                assert!((shift.mix.iter().sum::<f64>() - 1.0).abs() < 1e-9 && shift.distance <= 1.0);
                *changed += usize::from(shift.changed);
            }
        }
        assert!(changed[0] <= 3 && changed[1] >= 54, "{changed:?}");
    }

    #[test]
    fn a_promise_that_is_broken_under_the_mix_is_made_again_no_more_often_than_allowed() {
        // At every threshold below 1 the fourth class is wrong in 30 % of its rows, and confident all the same.
        let wrong = |class: usize| if class == 3 { 0.3 } else { 0.004 };
        let mut random = Random::new(6);
        let lying = |rows: Vec<Labelled>| -> Vec<Labelled> {
            let lie = |mut row: Labelled| {
                row.outcome.tiers.iter_mut().for_each(|tier| tier.confidence = 0.9);
                row
            };
            rows.into_iter().map(lie).collect()
        };
        let development = lying(rows(1_000, 4, wrong, &mut random));
        // The served error is 0.0508: just above the promise.
        let mix = vec![vec![0.28, 0.28, 0.28, 0.16]];
        let promise = Promise::default();
        let made = (0..400).filter(|_| {
            let gold = lying(rows(600, 4, wrong, &mut random));
            remake(&development, &gold, &mix, &promise).threshold.is_some()
        });
        assert!(made.count() <= 20);
    }

    #[test]
    fn what_holds_under_the_new_mix_is_certified_and_what_has_no_labels_is_not() {
        let wrong = |class: usize| if class == 3 { 0.2 } else { 0.004 };
        let mut random = Random::new(8);
        let (development, gold) = (rows(1_000, 4, wrong, &mut random), rows(800, 4, wrong, &mut random));
        let promise = Promise::default();
        let good = remake(&development, &gold, &[vec![0.4, 0.4, 0.18, 0.02]], &promise);
        assert!(good.threshold.is_some() && good.coverage > 0.8 && good.served_error < 0.03, "{good:?}");
        let bad = remake(&development, &gold, &[vec![0.0, 0.1, 0.0, 0.9]], &promise);
        assert!(bad.threshold.is_none_or(|_| bad.coverage < good.coverage), "{bad:?}");
        assert_eq!(bad.label_next.first(), Some(&3));
        let without: Vec<Labelled> = gold.iter().filter(|row| row.class != 3).cloned().collect();
        let unknown = remake(&development, &without, &[vec![0.2, 0.2, 0.2, 0.4]], &promise);
        assert_eq!(unknown.threshold, None);
        assert!((unknown.without_gold - 0.4).abs() < 1e-9);
        assert_eq!(remake(&[], &[], &[vec![0.5, 0.5]], &promise).threshold, None);
    }

    proptest! {
        #[test]
        fn mixes_are_shares_whatever_was_counted(
            cells in prop::collection::vec((0usize..5, 0usize..7), 0..80),
            seen in prop::collection::vec(0usize..8, 0..200),
        ) {
            let mut table = Confusion::new(4, 6);
            cells.iter().for_each(|(class, answer)| table.add(*class, *answer));
            let mut counted = Seen::new(6);
            seen.iter().for_each(|answer| counted.add(*answer));
            prop_assert_eq!(counted.total() as usize, seen.iter().filter(|answer| **answer < 6).count());
            for mix in table.mixes(&counted, 5, 3) {
                prop_assert!((mix.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                prop_assert!(mix.iter().all(|share| (0.0..=1.0 + 1e-9).contains(share)));
            }
        }

        /// The worth of the gold rows is a fair bet or worse: its expectation under a broken promise is at most 1.
        #[test]
        fn the_expected_worth_under_a_broken_promise_is_at_most_one(
            mix in prop::collection::vec(0.01f64..1.0, 3),
            rates in prop::collection::vec((0.0f64..1.0, 0.0f64..0.4), 3),
            counts in prop::collection::vec(0u8..60, 3),
            part in 0.01f64..0.95,
            error in 0.01f64..0.2,
        ) {
            let sum: f64 = mix.iter().sum();
            let mix: Vec<f64> = mix.iter().map(|share| share / sum).collect();
            let counts: Vec<f64> = counts.iter().map(|count| f64::from(*count)).collect();
            // Answered with the first chance, wrongly with the second of those.
            let harm: f64 = mix.iter().zip(&rates).map(|(q, (a, w))| q * a * (w - error)).sum();
            prop_assume!(harm >= 0.0 && counts.iter().sum::<f64>() > 0.0);
            let weights = Weights::of(&mix, &counts, error);
            // Rows are independent, so the expectation of the product is the product of expectations.
            let log: f64 = weights.of.iter().zip(&counts).zip(&rates).map(|((weight, count), (a, w))| {
                let [right, wrong, none] = weights.factors(*weight, part, error).map(f64::exp);
                count * (a * (1.0 - w) * right + a * w * wrong + (1.0 - a) * none).ln()
            }).sum();
            prop_assert!(log <= 1e-9, "{log}");
        }
    }
}
