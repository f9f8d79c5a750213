//! When may the answer to one question stand for that to another one like it?
//!
//! Rows that people labelled are split into what is remembered and what is asked. Each row that is asked is compared with the one most like it
//! among the remembered: a *hit* at threshold t is a pair at least that alike, and *wrong* is a hit whose two rows have different labels. From a
//! start that is chosen on some of the asked rows, looser and looser thresholds are tested on the others, each by the exact binomial tail, until
//! one fails (fixed-sequence testing, as for certificates: [`crate::certify`]).
//!
//! **The guarantee.** Given what is remembered, the tested rows are independent draws, so with the promise's confidence at most its error of the
//! hits on further draws is wrong, as far as the remembered answers themselves are right. What is remembered later is another draw, and grows;
//! so every threshold must pass with all and with a quarter of it.

use crate::binomial;
use sizewise_contract::task::Promise;

/// Thresholds from strict to loose.
const LIKENESS: [f64; 101] = likeness();
/// How many times the rows are asked for at most, when it is said how many are missing, and by which factor more are tried.
const MOST_TIMES: f64 = 1_000.0;
const STEP: f64 = 1.1;
/// Chance that rows to label are asked for.
const ASKED_POWER: f64 = 0.80;

const fn likeness() -> [f64; 101] {
    let mut all = [0.0; 101];
    let mut place = 0;
    while place < all.len() {
        all[place] = 0.999 - place as f64 * 0.005;
        place += 1;
    }
    all
}

/// A row that is asked, beside the remembered one that is most like it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// How alike they are, at most 1.
    pub likeness: f64,
    /// Whether their labels are the same.
    pub same: bool,
}

/// Which rows are remembered, which choose the start, and which test, by position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Half of the rows.
    pub remembered: Vec<usize>,
    /// A sixth.
    pub planned: Vec<usize>,
    /// A third.
    pub tested: Vec<usize>,
}

/// What came of the test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// From which likeness on an answer may be used again; none where that was not shown.
    pub threshold: Option<f64>,
    /// Rows that were asked.
    pub asked: u64,
    /// Hits at that threshold, or else where the test began.
    pub hits: u64,
    /// Wrong ones among them.
    pub wrong: u64,
    /// Rows in all for a chance of 80 %; none when more rows are not expected to help.
    pub rows_needed: Option<u64>,
}

impl Split {
    /// Splits rows by a number that has nothing to do with their labels, such as a hash of the text.
    #[must_use]
    pub fn by(numbers: &[u64]) -> Self {
        let mut order: Vec<usize> = (0..numbers.len()).collect();
        order.sort_by_key(|place| (numbers.get(*place).copied(), *place));
        let (mut remembered, mut planned, mut tested) = (Vec::new(), Vec::new(), Vec::new());
        for (number, place) in order.into_iter().enumerate() {
            match number % 6 {
                0 | 2 | 4 => remembered.push(place),
                1 => planned.push(place),
                _ => tested.push(place),
            }
        }
        Self { remembered, planned, tested }
    }
}

/// Hits and wrong ones among them.
fn hits(pairs: &[Pair], threshold: f64) -> (u64, u64) {
    let hits = pairs.iter().filter(|pair| pair.likeness >= threshold);
    hits.fold((0, 0), |(hits, wrong), pair| (hits + 1, wrong + u64::from(!pair.same)))
}

/// The chance that so many hits show the promise, if they are wrong as often as some were.
fn power(hits: u64, (seen, wrong): (u64, u64), (error, level): (f64, f64)) -> f64 {
    let rate = (wrong as f64 + 0.5) / (seen as f64 + 1.0);
    binomial::most_errors(hits, error, level).map_or(0.0, |most| binomial::cdf(most, hits, rate))
}

/// Tests from which likeness on answers may be used again. `tested` are the same rows beside several sets of remembered ones.
///
/// **Determinism.** Depends on the arguments alone.
#[must_use]
pub fn test(planned: &[Pair], tested: &[Vec<Pair>], promise: &Promise, rows: u64) -> Outcome {
    let limits = (promise.max_served_error, 1.0 - promise.confidence);
    let asked = tested.iter().map(Vec::len).min().unwrap_or(0) as u64;
    let times = asked as f64 / planned.len().max(1) as f64;
    let mut start = (0, 0.0);
    for (place, threshold) in LIKENESS.iter().enumerate() {
        let seen = hits(planned, *threshold);
        let power = power((seen.0 as f64 * times) as u64, seen, limits);
        // Of equals the strictest.
        if power > start.1 {
            start = (place, power);
        }
    }
    let mut outcome = Outcome { threshold: None, asked, hits: 0, wrong: 0, rows_needed: None };
    for (step, threshold) in LIKENESS.iter().skip(start.0).enumerate() {
        let counts = tested.iter().map(|pairs| hits(pairs, *threshold));
        let shown = |(hits, wrong): (u64, u64)| hits > 0 && binomial::cdf(wrong, hits, limits.0) <= limits.1;
        let passed = !tested.is_empty() && counts.clone().all(shown);
        if passed || step == 0 {
            // Told is the set with the fewest hits beside the most wrong ones.
            (outcome.hits, outcome.wrong) =
                counts.min_by_key(|(hits, wrong)| (*hits, u64::MAX - *wrong)).unwrap_or((0, 0));
        }
        if !passed {
            break;
        }
        outcome.threshold = Some(*threshold);
    }
    if outcome.threshold.is_none() {
        outcome.rows_needed = rows_needed(planned, tested, limits, rows);
    }
    outcome
}

fn rows_needed(planned: &[Pair], tested: &[Vec<Pair>], limits: (f64, f64), rows: u64) -> Option<u64> {
    let all: Vec<Pair> = planned.iter().chain(tested.iter().flatten()).copied().collect();
    let of_tested = tested.first().map_or(0, Vec::len) as f64 / all.len().max(1) as f64;
    let seen: Vec<(u64, u64)> = LIKENESS.iter().map(|threshold| hits(&all, *threshold)).collect();
    // Beyond its own promise a rate of wrong hits is shown by no number of rows.
    let hopeful = |(hits, wrong): &&(u64, u64)| (*wrong as f64) < limits.0 * *hits as f64;
    let enough = |times: f64| {
        seen.iter().filter(hopeful).any(|seen| {
            let expected = (seen.0 as f64 * of_tested * times) as u64;
            power(expected, *seen, limits) >= ASKED_POWER
        })
    };
    let mut times = 1.0;
    while times <= MOST_TIMES {
        times *= STEP;
        if enough(times) {
            return Some((rows as f64 * times).ceil() as u64);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use proptest::prelude::*;

    /// Pairs whose chance to differ falls with their likeness.
    fn drawn(count: usize, seed: u64) -> Vec<Pair> {
        let mut random = Random::new(seed);
        let pair = |_| {
            let likeness = 0.5 + random.uniform() / 2.0;
            Pair { likeness, same: random.uniform() >= wrong_at(likeness) }
        };
        (0..count).map(pair).collect()
    }

    fn wrong_at(likeness: f64) -> f64 {
        (1.0 - likeness) * 0.3
    }

    /// The share of wrong hits from a likeness on, over all that can be drawn.
    fn truth(threshold: f64) -> f64 {
        // The mean over the likenesses above, which are all as likely.
        wrong_at((1.0 + threshold.max(0.5)) / 2.0)
    }

    #[test]
    fn at_most_so_many_thresholds_are_looser_than_the_promise_allows() {
        let promise = Promise { max_served_error: 0.05, confidence: 0.9, ..Promise::default() };
        let mut loose = 0;
        let mut shown = 0;
        for seed in 0..1_000 {
            let (planned, tested) = (drawn(200, 2 * seed), drawn(400, 2 * seed + 1));
            let found = test(&planned, &[tested], &promise, 1_200);
            shown += u64::from(found.threshold.is_some());
            loose += u64::from(found.threshold.is_some_and(|threshold| truth(threshold) > 0.05));
        }
        // One in ten is allowed; beyond what chance does to a thousand draws of it, none.
        assert!(shown > 300, "{shown}");
        assert!(loose <= 130, "{loose} of 1000");
    }

    #[test]
    fn what_is_never_the_same_opens_nothing_and_asks_for_no_rows() {
        let pairs = vec![Pair { likeness: 0.9, same: false }; 400];
        let found = test(&pairs, std::slice::from_ref(&pairs), &Promise::default(), 1_200);
        assert_eq!((found.threshold, found.rows_needed), (None, None));
    }

    #[test]
    fn too_few_rows_say_how_many_would_do() {
        let pairs = vec![Pair { likeness: 0.9, same: true }; 40];
        let found = test(&pairs[..20], std::slice::from_ref(&pairs), &Promise::default(), 120);
        assert_eq!((found.threshold, found.asked), (None, 40));
        let needed = found.rows_needed.expect("more rows help");
        assert!((177..1_000).contains(&needed), "{needed}");
        let more = vec![pairs[0]; needed as usize / 3];
        assert!(
            test(&more[..needed as usize / 6], std::slice::from_ref(&more), &Promise::default(), needed)
                .threshold
                .is_some()
        );
    }

    #[test]
    fn every_set_of_remembered_rows_must_pass() {
        let good = vec![Pair { likeness: 0.9, same: true }; 400];
        let bad = vec![Pair { likeness: 0.9, same: false }; 400];
        assert!(test(&good, &[good.clone(), good.clone()], &Promise::default(), 1_200).threshold.is_some());
        assert_eq!(test(&good, &[good.clone(), bad], &Promise::default(), 1_200).threshold, None);
        assert_eq!(test(&good, &[], &Promise::default(), 1_200).threshold, None);
    }

    proptest! {
        #[test]
        fn every_row_has_one_part(numbers in proptest::collection::vec(0u64..50, 0..200)) {
            let split = Split::by(&numbers);
            let mut all = [split.remembered.clone(), split.planned.clone(), split.tested.clone()].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..numbers.len()).collect::<Vec<_>>());
            prop_assert!(split.remembered.len() + 1 >= split.planned.len() + split.tested.len());
        }
    }
}
