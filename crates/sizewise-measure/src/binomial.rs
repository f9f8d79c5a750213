//! What do counts say about a rate?
//!
//! Exact binomial tails by the regularised incomplete beta function, and the intervals that follow from them.

/// Natural logarithm of the gamma function, to about 10⁻¹⁴ relative (Lanczos 1964, g = 7, nine terms).
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let base = x + 7.5;
    let series = TERMS
        .iter()
        .enumerate()
        .fold(0.999_999_999_999_809_9, |sum, (i, term)| sum + term / (x + i as f64 + 1.0));
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * base.ln() - base + series.ln()
}

/// The regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22, evaluated by Lentz's
/// method).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(a, b, x) / a
    } else {
        1.0 - front * fraction(b, a, 1.0 - x) / b
    }
}

fn fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let keep = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / keep(1.0 - (a + b) * x / (a + 1.0));
    let mut result = d;
    // Converges in about the square root of max(a, b) steps.
    for step in 1..20_000 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / keep(1.0 + even * d);
        c = keep(1.0 + even / c);
        result *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / keep(1.0 + odd * d);
        c = keep(1.0 + odd / c);
        let change = d * c;
        result *= change;
        if (change - 1.0).abs() < 1e-15 {
            break;
        }
    }
    result
}

/// P[Binomial(n, p) ≤ k].
#[must_use]
pub fn cdf(k: u64, n: u64, p: f64) -> f64 {
    if k >= n || p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return 0.0;
    }
    incomplete_beta((n - k) as f64, k as f64 + 1.0, 1.0 - p)
}

/// The largest rate that `k` of `n` does not refute: the one-sided upper bound at this confidence (Clopper and Pearson
/// 1934).
#[must_use]
pub fn upper_bound(k: u64, n: u64, confidence: f64) -> f64 {
    if k >= n {
        return 1.0;
    }
    bisect(|p| cdf(k, n, p) > 1.0 - confidence)
}

/// The smallest rate that `k` of `n` does not refute: the one-sided lower bound at this confidence.
#[must_use]
pub fn lower_bound(k: u64, n: u64, confidence: f64) -> f64 {
    if k == 0 || n == 0 {
        return 0.0;
    }
    // P[X ≥ k] ≤ 1 − confidence for every smaller rate.
    bisect(|p| 1.0 - cdf(k - 1, n, p) < 1.0 - confidence)
}

/// The exact two-sided interval.
#[must_use]
pub fn interval(k: u64, n: u64, confidence: f64) -> (f64, f64) {
    let one_sided = 0.5 + confidence / 2.0;
    (lower_bound(k, n, one_sided), upper_bound(k, n, one_sided))
}

/// The point where a condition that holds for small values stops to hold.
fn bisect(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if holds(middle) { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// The largest number of errors among `n` that still rejects "the rate is above `p`" at this level; none if even zero
/// errors do not.
#[must_use]
pub fn most_errors(n: u64, p: f64, level: f64) -> Option<u64> {
    let nothing = (n as f64 * (-p).ln_1p()).exp();
    if nothing > level {
        return None;
    }
    if nothing < 1e-280 {
        return most_errors_by_bisection(n, p, level);
    }
    // Adding up the probabilities one by one is cheaper than inverting the tail.
    let odds = p / (1.0 - p);
    let (mut k, mut mass, mut tail) = (0, nothing, nothing);
    while k < n {
        mass *= (n - k) as f64 / (k + 1) as f64 * odds;
        tail += mass;
        if tail > level {
            break;
        }
        k += 1;
    }
    Some(k)
}

fn most_errors_by_bisection(n: u64, p: f64, level: f64) -> Option<u64> {
    let (mut low, mut high) = (0, n);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if cdf(middle, n, p) <= level { low = middle } else { high = middle - 1 }
    }
    Some(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use proptest::prelude::*;

    #[test]
    fn tails_have_the_values_of_an_independent_implementation() {
        // Exact rational sums with Python's `fractions`, rounded.
        for (k, n, p, expected) in [
            (0, 149, 0.02, 0.049_281_9),
            (3, 10, 0.5, 0.171_875),
            (5, 200, 0.05, 0.062_338_0),
            (20, 1_000, 0.03, 0.033_200_0),
        ] {
            let found = cdf(k, n, p);
            let exact: f64 = (0..=k)
                .map(|i| ln_choose(n, i) + i as f64 * p.ln() + (n - i) as f64 * (1.0 - p).ln())
                .map(f64::exp)
                .sum();
            assert!((found - exact).abs() < 1e-10, "{k} {n} {p}: {found} {exact}");
            assert!((found - expected).abs() < 2e-3, "{k} {n} {p}: {found} {expected}");
        }
    }

    fn ln_choose(n: u64, k: u64) -> f64 {
        (1..=k).map(|i| ((n - k + i) as f64).ln() - (i as f64).ln()).sum()
    }

    #[test]
    fn without_an_error_a_promise_of_two_percent_needs_149_rows() {
        assert_eq!(most_errors(149, 0.02, 0.05), Some(0));
        assert_eq!(most_errors(148, 0.02, 0.05), None);
    }

    #[test]
    fn large_counts_are_exact_too() {
        // The normal limit with continuity correction.
        let found = cdf(100_000, 5_000_000, 0.02);
        assert!((found - 0.500_85).abs() < 1e-3, "{found}");
    }

    #[test]
    fn the_interval_covers_as_often_as_it_says() {
        let mut random = Random::new(1);
        for p in [0.02, 0.3] {
            let covered = (0..2_000).filter(|_| {
                let k = (0..120).filter(|_| random.uniform() < p).count() as u64;
                let (low, high) = interval(k, 120, 0.9);
                low <= p && p <= high
            });
            assert!(covered.count() >= 1_780);
        }
    }

    proptest! {
        #[test]
        fn both_ways_to_the_most_errors_agree(n in 1u64..3_000, p in 0.005f64..0.2, level in 0.005f64..0.2) {
            if let Some(most) = most_errors(n, p, level) {
                prop_assert_eq!(Some(most), most_errors_by_bisection(n, p, level));
                prop_assert!(cdf(most, n, p) <= level + 1e-12 && cdf(most + 1, n, p) > level - 1e-12);
            }
        }

        #[test]
        fn bounds_invert_the_tail(n in 1u64..3_000, share in 0.0f64..1.0, confidence in 0.5f64..0.999) {
            let k = (n as f64 * share) as u64;
            let upper = upper_bound(k, n, confidence);
            prop_assert!(k >= n || (cdf(k, n, upper) - (1.0 - confidence)).abs() < 1e-9);
            let (low, high) = interval(k, n, confidence);
            prop_assert!(low <= k as f64 / n as f64 && k as f64 / n as f64 <= high);
        }

        #[test]
        fn more_errors_never_make_a_promise_likelier(n in 1u64..2_000, k in 0u64..2_000, p in 0.001f64..0.999) {
            prop_assert!(cdf(k, n, p) <= cdf(k + 1, n, p) + 1e-12);
            prop_assert!((0.0..=1.0 + 1e-12).contains(&cdf(k, n, p)));
        }
    }
}
