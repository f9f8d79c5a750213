//! How much would somebody have won who bet against a hypothesis?
//!
//! Whoever bets against a true hypothesis at fair odds is expected to win nothing, whenever they stop: the capital is an e-process, and the
//! chance that it ever reaches 1/δ is at most δ (Ville 1939). Each bet here is on one answer whose truth became known: it multiplies
//! the capital by 1 + λ·w·(x − ε) (against "at most a share ε is wrong") or 1 + λ·w·(ε − x) (against "more than that is"), where x is 1 for a wrong
//! answer and w ≤ 1 makes up for answers that were drawn more often than others. Nobody knows the true rate, so the capital is divided
//! among stakes λ, each the best one for some rate (Waudby-Smith and Ramdas 2024).

/// Which hypothesis is bet against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// "At most a share ε is wrong": wins where more is.
    Kept,
    /// "At least a share ε is wrong": wins where less is.
    Exceeded,
}

/// Rates that the stakes are made for, as multiples of ε.
const WORSE: [f64; 5] = [1.25, 1.5, 2.0, 3.0, 5.0];
const BETTER: [f64; 5] = [0.9, 0.75, 0.5, 0.25, 0.05];
/// Largest rate that a stake is made for.
const LARGEST: f64 = 0.95;

/// Five stakes with what each turns an answer into.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stakes {
    stakes: [f64; 5],
    limit: f64,
    sign: f64,
}

impl Stakes {
    fn new(against: Against, limit: f64) -> Self {
        let (rates, sign) = match against {
            Against::Kept => (WORSE, 1.0),
            Against::Exceeded => (BETTER, -1.0),
        };
        // The stake of the likelihood ratio of `rate` to `limit`.
        let stake = |times: f64| {
            let rate = (times * limit).min(LARGEST.max(limit));
            (rate - limit).abs() / (limit * (1.0 - limit))
        };
        Self { stakes: rates.map(stake), limit, sign }
    }

    fn factor(&self, stake: f64, (wrong, weight): (bool, f64)) -> f64 {
        (1.0 + stake * weight * self.sign * (f64::from(u8::from(wrong)) - self.limit)).max(0.0)
    }
}

/// Capital against a hypothesis over a whole lifetime, also where it only becomes false on the way.
///
/// The capital is divided among all moments at which one could begin to bet, most of it to the early ones: moment s (from 0) gets
/// 1/((k+1)(k+2)) · 2⁻ᵏ of it, where k = ⌊log₂(s+1)⌋. What has not begun stays as it is, so the whole is an e-process.
#[derive(Debug, Clone, PartialEq)]
pub struct Lifetime {
    stakes: Stakes,
    capital: [f64; 5],
    /// Share of the capital that has not begun.
    waiting: f64,
    moments: u64,
}

impl Lifetime {
    /// Begins with a capital of 1.
    #[must_use]
    pub fn new(against: Against, limit: f64) -> Self {
        Self { stakes: Stakes::new(against, limit), capital: [0.0; 5], waiting: 1.0, moments: 0 }
    }

    /// Bets on one answer.
    pub fn tell(&mut self, answer: (bool, f64)) {
        let block = (self.moments + 1).ilog2();
        let begins = 1.0 / (f64::from(block + 1) * f64::from(block + 2)) / (1u64 << block) as f64;
        let begins = begins.min(self.waiting);
        self.waiting -= begins;
        self.moments += 1;
        let stakes = self.stakes;
        for (capital, stake) in self.capital.iter_mut().zip(stakes.stakes) {
            *capital = (*capital + begins / 5.0) * stakes.factor(stake, answer);
            // Far beyond any use, and never infinite.
            *capital = capital.min(1e100);
        }
    }

    /// The capital now.
    #[must_use]
    pub fn capital(&self) -> f64 {
        self.waiting + self.capital.iter().sum::<f64>()
    }
}

/// Watches for the moment from which more than ε is wrong (Shiryaev and Roberts; as an e-detector: Shin, Ramdas and Rinaldo 2024).
///
/// Before each answer somebody begins to bet anew with a capital of 1; the statistic is the sum of what all of them have. As long as the
/// hypothesis holds its mean grows by at most 1 an answer, so the mean number of answers until it first reaches c is at least c.
#[derive(Debug, Clone, PartialEq)]
pub struct Detector {
    stakes: Stakes,
    sums: [f64; 5],
}

impl Detector {
    /// Begins to watch.
    #[must_use]
    pub fn new(limit: f64) -> Self {
        Self { stakes: Stakes::new(Against::Kept, limit), sums: [0.0; 5] }
    }

    /// Bets on one answer.
    pub fn tell(&mut self, answer: (bool, f64)) {
        let stakes = self.stakes;
        for (sum, stake) in self.sums.iter_mut().zip(stakes.stakes) {
            *sum = ((*sum + 1.0) * stakes.factor(stake, answer)).min(1e100);
        }
    }

    /// What all who bet have together, in the mean over the stakes.
    #[must_use]
    pub fn statistic(&self) -> f64 {
        self.sums.iter().sum::<f64>() / 5.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use proptest::prelude::*;

    #[test]
    fn the_moments_share_out_no_more_than_there_is() {
        let mut lifetime = Lifetime::new(Against::Kept, 0.05);
        for _ in 0..100_000 {
            // Answers without weight change nothing.
            lifetime.tell((true, 0.0));
        }
        assert!((lifetime.capital() - 1.0).abs() < 1e-9, "{}", lifetime.capital());
        assert!(lifetime.waiting > 0.0);
    }

    #[test]
    fn a_true_hypothesis_is_seldom_lost_against_however_long_one_looks() {
        for (against, rate) in [(Against::Kept, 0.05), (Against::Kept, 0.03), (Against::Exceeded, 0.05)] {
            let mut lost = 0;
            for seed in 0..400 {
                let mut random = Random::new(seed);
                let mut lifetime = Lifetime::new(against, 0.05);
                let ever = (0..3_000).any(|_| {
                    lifetime.tell((random.uniform() < rate, 1.0));
                    lifetime.capital() >= 20.0
                });
                lost += u32::from(ever);
            }
            // At most 5 %, and nearly always far less.
            assert!(lost <= 20, "{against:?} at {rate}: {lost} of 400");
        }
    }

    #[test]
    fn alarms_come_no_sooner_in_the_mean_than_is_said() {
        let mut sum = 0;
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut detector = Detector::new(0.05);
            sum += (1..=20_000)
                .find(|_| {
                    detector.tell((random.uniform() < 0.05, 1.0));
                    detector.statistic() >= 500.0
                })
                .unwrap_or(20_000);
        }
        assert!(sum / 200 >= 500, "{}", sum / 200);
    }

    proptest! {
        #[test]
        fn the_mean_of_a_bet_on_a_rate_at_the_limit_is_no_gain(
            limit in 0.001f64..0.5, weight in 0.01f64..1.0, kept in any::<bool>(),
        ) {
            let against = if kept { Against::Kept } else { Against::Exceeded };
            let stakes = Stakes::new(against, limit);
            for stake in stakes.stakes {
                let mean = limit * stakes.factor(stake, (true, weight)) + (1.0 - limit) * stakes.factor(stake, (false, weight));
                prop_assert!((mean - 1.0).abs() < 1e-9, "{mean}");
                prop_assert!(stakes.factor(stake, (true, weight)) >= 0.0);
            }
        }
    }
}
