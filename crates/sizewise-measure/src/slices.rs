//! For whom does the promise hold less than for the others?
//!
//! Locked rows that share a value of a column (a language, a segment) are counted by themselves, at the threshold that is served. All
//! intervals of a certificate hold together with the promise's confidence: the risk is divided by their number (Bonferroni), as every
//! interval is shown and tests that share risk (Holm) have none. Rates have the exact interval of Clopper and Pearson; the difference
//! of two coverages joins the ends of two such intervals as Newcombe (1998, method 10) joins Wilson's.

use crate::{binomial, cascade::RowOutcome};
use sizewise_contract::{Interval, Slice, SliceVerdict};
use std::collections::BTreeMap;

/// The chance that as many rows as are asked for settle the question.
const ASKED_POWER: f64 = 0.8;
/// More rows than these are nothing that one asks people for.
const MOST_ROWS: u64 = 1_000_000;
/// How many rows the rate of all others counts for, where that of a slice is guessed: a slice without an error is not without errors.
const PRIOR_ROWS: f64 = 2.0;

/// What slices are measured by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measure {
    /// From which confidence an answer is given.
    pub threshold: f64,
    /// The largest share of served answers that may be wrong.
    pub max_served_error: f64,
    /// The confidence of each interval by itself.
    pub confidence: f64,
}

/// The confidence of each interval by itself, so that those of so many slices, and one more, all hold together but for `risk`.
#[must_use]
pub fn confidence_of_each(risk: f64, slices: usize) -> f64 {
    // Three for each slice: its served error, its coverage, and how much less of it is answered.
    1.0 - risk / (3 * slices + 1) as f64
}

/// How many values the columns have. One list a column, one cell a row.
#[must_use]
pub fn count(columns: &[Vec<String>]) -> usize {
    let values = |cells: &Vec<String>| cells.iter().collect::<std::collections::BTreeSet<_>>().len();
    columns.iter().map(values).sum()
}

/// Counts the rows of every value of every column. `cells` stand as `rows` do.
///
/// **Bounds.** The intervals hold for a threshold that other rows chose. One that these rows chose among few, as a certificate's, has
/// seen few errors at it, which makes an interval miss a slice that is worse a little more often than said and never convicts one more
/// often; the tests below measure both.
#[must_use]
pub fn judge(columns: &[(&str, Vec<&str>)], rows: &[RowOutcome], measure: Measure) -> Vec<Slice> {
    let all = rows.iter().fold(Tally::default(), |all, row| all.with(row, measure.threshold));
    let mut slices = Vec::new();
    for (column, cells) in columns {
        let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
        for (row, value) in rows.iter().zip(cells) {
            let tally = tallies.entry(*value).or_default();
            *tally = tally.with(row, measure.threshold);
        }
        slices
            .extend(tallies.into_iter().map(|(value, tally)| slice((column, value), (tally, all), measure)));
    }
    slices
}

/// Rows outside every class, compared with the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outside {
    /// Rows outside every class.
    pub rows: u64,
    /// Share of them that are answered.
    pub answered: Interval,
    /// By how much less of them is answered than of all other rows.
    pub gap: Interval,
}

/// How often rows outside every class are answered; none where there are no such rows.
#[must_use]
pub fn outside(rows: &[RowOutcome], measure: Measure) -> Option<Outside> {
    let tally = |outside: bool| {
        let of_kind = rows.iter().filter(|row| row.out_of_scope == outside);
        of_kind.fold(Tally::default(), |tally, row| tally.with(row, measure.threshold))
    };
    let (own, other) = (tally(true), tally(false));
    (own.rows > 0).then(|| Outside {
        rows: own.rows,
        answered: rate(own.answered, own.rows, measure.confidence),
        gap: gap(own, other, measure.confidence),
    })
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    rows: u64,
    answered: u64,
    wrong: u64,
}

impl Tally {
    fn with(self, row: &RowOutcome, threshold: f64) -> Self {
        let answer = row.answer_at(threshold);
        Self {
            rows: self.rows + 1,
            answered: self.answered + u64::from(answer.is_some()),
            wrong: self.wrong + u64::from(answer.is_some_and(|answer| !answer.right)),
        }
    }

    fn without(self, part: Self) -> Self {
        Self {
            rows: self.rows.saturating_sub(part.rows),
            answered: self.answered.saturating_sub(part.answered),
            wrong: self.wrong.saturating_sub(part.wrong),
        }
    }
}

fn slice((column, value): (&str, &str), (own, all): (Tally, Tally), measure: Measure) -> Slice {
    let served_error = rate(own.wrong, own.answered, measure.confidence);
    let coverage_gap = gap(own, all.without(own), measure.confidence);
    let verdict = if served_error.low > measure.max_served_error {
        SliceVerdict::WorseThanPromised
    } else if own.answered > 0 && served_error.high <= measure.max_served_error {
        SliceVerdict::AsPromised
    } else {
        SliceVerdict::NotEnoughRows { label_more: label_more(own, all, measure) }
    };
    Slice {
        column: column.to_owned(),
        value: value.to_owned(),
        rows: own.rows,
        answered: own.answered,
        wrong: own.wrong,
        coverage: rate(own.answered, own.rows, measure.confidence),
        served_error,
        coverage_gap,
        confidence: measure.confidence,
        verdict,
        answers_less: coverage_gap.low > 0.0,
    }
}

fn rate(count: u64, of: u64, confidence: f64) -> Interval {
    if of == 0 {
        return Interval { value: 0.0, low: 0.0, high: 1.0 };
    }
    let (low, high) = binomial::interval(count, of, confidence);
    Interval { value: count as f64 / of as f64, low, high }
}

/// By how much less of some rows is answered than of others.
fn gap(own: Tally, other: Tally, confidence: f64) -> Interval {
    if own.rows == 0 || other.rows == 0 {
        return Interval { value: 0.0, low: -1.0, high: 1.0 };
    }
    let (own, other) =
        (rate(own.answered, own.rows, confidence), rate(other.answered, other.rows, confidence));
    let value = other.value - own.value;
    Interval {
        value,
        low: value - (other.value - other.low).hypot(own.high - own.value),
        high: value + (other.high - other.value).hypot(own.value - own.low),
    }
}

/// About how many more rows of a slice would settle how it stands to the promise.
fn label_more(own: Tally, all: Tally, measure: Measure) -> Option<u64> {
    let usual = all.wrong as f64 / all.answered.max(1) as f64;
    let error = (own.wrong as f64 + PRIOR_ROWS * usual) / (own.answered as f64 + PRIOR_ROWS);
    let covered = all.answered as f64 / all.rows.max(1) as f64;
    let coverage = (own.answered as f64 + PRIOR_ROWS * covered) / (own.rows as f64 + PRIOR_ROWS);
    let end = (1.0 - measure.confidence) / 2.0;
    let settles = |rows: u64| chance_to_settle(rows, error, (measure.max_served_error, end)) >= ASKED_POWER;
    let answers = least(own.answered.max(1), settles)?;
    let rows = (answers as f64 / coverage.max(1e-9)).ceil();
    (rows <= MOST_ROWS as f64).then(|| (rows as u64).saturating_sub(own.rows).max(1))
}

/// The chance that so many answers, wrong at this rate, show on which side of the promise the rate is.
fn chance_to_settle(answers: u64, error: f64, (promise, end): (f64, f64)) -> f64 {
    if error <= promise {
        return binomial::most_errors(answers, promise, end)
            .map_or(0.0, |most| binomial::cdf(most, answers, error));
    }
    // The fewest wrong answers that convict: of the promised rate they come with less than `end`.
    let convicts = |wrong: u64| 1.0 - binomial::cdf(wrong - 1, answers, promise) < end;
    if !convicts(answers) {
        return 0.0;
    }
    let (mut low, mut high) = (1, answers);
    while low < high {
        let middle = low + (high - low) / 2;
        if convicts(middle) { high = middle } else { low = middle + 1 }
    }
    1.0 - binomial::cdf(low - 1, answers, error)
}

/// About the least number for which something holds that holds for large numbers; none where it would take too many.
fn least(begin: u64, holds: impl Fn(u64) -> bool) -> Option<u64> {
    let mut high = begin;
    while !holds(high) {
        if high >= MOST_ROWS {
            return None;
        }
        high = high.saturating_mul(2).min(MOST_ROWS);
    }
    let mut low = begin.max(high / 2);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;
    use crate::{cascade::TierOutcome, certify::Plan, random::Random};
    use proptest::prelude::*;
    use sizewise_contract::{Tier, task::Promise};

    const MEASURE: Measure = Measure { threshold: 0.5, max_served_error: 0.05, confidence: 0.99 };

    fn row(confidence: f64, right: bool) -> RowOutcome {
        let tiers = vec![TierOutcome { tier: Tier::Static, confidence, right }];
        RowOutcome { tiers, out_of_scope: false, weight: 1.0 }
    }

    /// Rows of one value: answered and right, answered and wrong, escalated.
    fn rows(counts: [usize; 3]) -> Vec<RowOutcome> {
        let [right, wrong, open] = counts;
        let of = |n, row: RowOutcome| std::iter::repeat_n(row, n);
        of(right, row(0.9, true)).chain(of(wrong, row(0.9, false))).chain(of(open, row(0.1, true))).collect()
    }

    fn two(first: [usize; 3], second: [usize; 3]) -> Vec<Slice> {
        let (a, b) = (rows(first), rows(second));
        let cells = std::iter::repeat_n("a", a.len()).chain(std::iter::repeat_n("b", b.len())).collect();
        judge(&[("language", cells)], &[a, b].concat(), MEASURE)
    }

    #[test]
    fn a_slice_is_as_promised_or_worse_only_where_its_whole_interval_is() {
        let [good, bad] = &two([990, 10, 0], [70, 30, 0])[..] else { panic!("two values") };
        assert_eq!((good.verdict, bad.verdict), (SliceVerdict::AsPromised, SliceVerdict::WorseThanPromised));
        assert_eq!((bad.rows, bad.answered, bad.wrong), (100, 100, 30));
        assert!(!good.answers_less && !bad.answers_less);
        // The ends of the exact 99 % interval of 30 in 100, by bisection of sums of `math.comb` terms in Python.
        let Interval { low, high, .. } = bad.served_error;
        assert!((low - 0.189015).abs() < 1e-5 && (high - 0.430614).abs() < 1e-5, "{low} {high}");
    }

    #[test]
    fn a_small_slice_says_how_many_rows_would_settle_it() {
        let slices = two([990, 10, 0], [9, 1, 10]);
        let SliceVerdict::NotEnoughRows { label_more: Some(more) } = slices[1].verdict else {
            panic!("{slices:?}")
        };
        assert!((50..5_000).contains(&more), "{more}");
        assert!(slices[1].answers_less, "half of it is escalated: {:?}", slices[1].coverage_gap);
        let [_, empty] = &two([990, 10, 0], [0, 0, 3])[..] else { panic!("two values") };
        assert!(matches!(empty.verdict, SliceVerdict::NotEnoughRows { .. }));
    }

    #[test]
    fn as_many_rows_as_are_asked_for_settle_it_as_often_as_said() {
        let (mut random, end) = (Random::new(3), 0.005);
        for error in [0.01, 0.15] {
            let needed = least(1, |n| chance_to_settle(n, error, (0.05, end)) >= ASKED_POWER).unwrap();
            let settled = (0..1_000).filter(|_| {
                let wrong = (0..needed).filter(|_| random.uniform() < error).count() as u64;
                let found = rate(wrong, needed, 1.0 - 2.0 * end);
                found.low > 0.05 || found.high <= 0.05
            });
            let settled = settled.count();
            assert!((760..=900).contains(&settled), "{error}: {needed} rows settled {settled} of 1000");
        }
    }

    /// Rows of ten slices, two of them more often wrong than the others at the same confidence. Gives each its slice.
    fn traffic(random: &mut Random, count: usize, harm: f64) -> (Vec<RowOutcome>, Vec<&'static str>) {
        const NAMES: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let one = |_| {
            let (slice, confidence) = (random.below(10), random.uniform());
            let wrong = random.uniform() < chance_of_error(slice, confidence, harm);
            (row(confidence, !wrong), NAMES[slice])
        };
        (0..count).map(one).unzip()
    }

    fn chance_of_error(slice: usize, confidence: f64, harm: f64) -> f64 {
        0.08 * (1.0 - confidence) * if slice < 2 { harm } else { 1.0 }
    }

    #[test]
    fn all_intervals_hold_together_as_often_as_promised_at_the_threshold_a_certificate_chose() {
        let (mut random, promise) = (Random::new(17), Promise::default());
        let (mut runs, mut missed, mut convicted, mut innocent) = (0, 0, 0, 0);
        let confidence = confidence_of_each(1.0 - promise.confidence, 10);
        for _ in 0..300 {
            let harm = 4.0;
            let (development, _) = traffic(&mut random, 1_000, harm);
            let (locked, cells) = traffic(&mut random, 4_000, harm);
            let outcome = Plan::new(&development, 4_000, &promise).run(&locked);
            let Some(threshold) = outcome.threshold else { continue };
            let measure = Measure { threshold, max_served_error: promise.max_served_error, confidence };
            runs += 1;
            let slices = judge(&[("letter", cells)], &locked, measure);
            // The mean of a line over the answered confidences is its value in their middle.
            let truth = |place: usize| chance_of_error(place, 0.5 * (threshold + 1.0), harm);
            let misses = |(place, slice): (usize, &Slice)| {
                let (error, covered) = (truth(place), 1.0 - threshold);
                !(slice.served_error.low..=slice.served_error.high).contains(&error)
                    || !(slice.coverage_gap.low..=slice.coverage_gap.high).contains(&0.0)
                    || !(slice.coverage.low..=slice.coverage.high).contains(&covered)
            };
            missed += u32::from(slices.iter().enumerate().any(misses));
            let worse = |place: usize| truth(place) > promise.max_served_error;
            let is_convicted = |slice: &Slice| slice.verdict == SliceVerdict::WorseThanPromised;
            convicted += slices.iter().enumerate().filter(|(p, s)| is_convicted(s) && worse(*p)).count();
            innocent += slices.iter().enumerate().filter(|(p, s)| is_convicted(s) && !worse(*p)).count();
        }
        assert!(runs > 200, "{runs}");
        // Five in a hundred were allowed.
        assert!(f64::from(missed) <= 0.05 * f64::from(runs), "{missed} of {runs} runs missed a truth");
        assert!(innocent <= 3, "{innocent} slices were convicted that keep the promise");
        assert!(convicted > 50, "{convicted} were convicted that do not");
    }

    #[test]
    fn rows_outside_are_compared_with_the_others() {
        let mut all = rows([80, 0, 20]);
        assert_eq!(outside(&all, MEASURE), None);
        let strays = rows([0, 5, 95]).into_iter().map(|row| RowOutcome { out_of_scope: true, ..row });
        all.extend(strays);
        let found = outside(&all, MEASURE).unwrap();
        assert!(found.rows == 100 && found.answered.value == 0.05 && found.gap.low > 0.5, "{found:?}");
    }

    proptest! {
        #[test]
        fn counts_add_up_and_intervals_hold_what_was_counted(
            values in prop::collection::vec((0usize..4, 0.0f64..1.0, any::<bool>()), 0..200),
            threshold in 0.0f64..1.0,
        ) {
            let rows: Vec<RowOutcome> = values.iter().map(|(_, sure, right)| row(*sure, *right)).collect();
            let names = ["", "de", "en", "fr"];
            let cells: Vec<&str> = values.iter().map(|(place, ..)| names[*place]).collect();
            let found = judge(&[("one", cells.clone()), ("again", cells)], &rows, Measure { threshold, ..MEASURE });
            for column in ["one", "again"] {
                let of: Vec<&Slice> = found.iter().filter(|slice| slice.column == column).collect();
                prop_assert_eq!(of.iter().map(|slice| slice.rows).sum::<u64>(), rows.len() as u64);
            }
            for slice in &found {
                prop_assert!(slice.wrong <= slice.answered && slice.answered <= slice.rows);
                for interval in [slice.coverage, slice.served_error, slice.coverage_gap] {
                    prop_assert!(interval.low <= interval.value + 1e-9 && interval.value <= interval.high + 1e-9);
                }
                let worse = slice.verdict == SliceVerdict::WorseThanPromised;
                prop_assert_eq!(worse, slice.served_error.low > 0.05);
            }
        }
    }
}
