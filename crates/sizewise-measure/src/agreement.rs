//! How often do two people who do not see each other say the same, and how much of that is chance?

use crate::metrics::{Estimate, bootstrap};

/// Cohen's kappa of answers by class, with a percentile interval over resamples of the questions; none without any, or where both always
/// say one and the same class, as chance alone would then agree as well.
///
/// **Source.** Cohen (1960), "A coefficient of agreement for nominal scales".
#[must_use]
pub fn kappa(pairs: &[(usize, usize)]) -> Option<Estimate> {
    let (_, chance) = agreement(pairs)?;
    (chance < 1.0).then(|| {
        bootstrap(pairs, |pairs| match agreement(pairs) {
            Some((agreed, chance)) if chance < 1.0 => (agreed - chance) / (1.0 - chance),
            // A resample of one class says nothing against them.
            _ => 1.0,
        })
    })
}

/// The share that agrees, and the share that would if both said their classes as often and knew nothing.
fn agreement(pairs: &[(usize, usize)]) -> Option<(f64, f64)> {
    let classes = pairs.iter().map(|(a, b)| a.max(b) + 1).max()?;
    let mut said = vec![[0.0f64; 2]; classes];
    let mut agreed = 0.0;
    for (a, b) in pairs {
        agreed += f64::from(u8::from(a == b));
        for (place, class) in [(0, a), (1, b)] {
            if let Some(counts) = said.get_mut(*class) {
                counts[place] += 1.0;
            }
        }
    }
    let count = pairs.len() as f64;
    let chance = said.iter().map(|[a, b]| a * b).sum::<f64>() / (count * count);
    Some((agreed / count, chance))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;
    use crate::random::Random;

    #[test]
    fn kappa_is_what_the_table_of_the_definition_says() {
        // Twenty and fifteen alike, five and ten not: agreement 0.70, chance 0.50, kappa 0.4.
        let table = [((0, 0), 20), ((0, 1), 5), ((1, 0), 10), ((1, 1), 15)];
        let pairs: Vec<(usize, usize)> =
            table.iter().flat_map(|(pair, count)| std::iter::repeat_n(*pair, *count)).collect();
        let found = kappa(&pairs).unwrap();
        assert!((found.value - 0.4).abs() < 1e-12, "{found:?}");
        assert!(found.low > 0.05 && found.low < 0.3 && found.high > 0.5 && found.high < 0.75, "{found:?}");
    }

    #[test]
    fn the_interval_holds_the_truth_about_as_often_as_it_says() {
        // Two who know four of five answers each and guess the rest among three: kappa is 0.64 of what both know.
        let mut missed = 0;
        for seed in 0..200 {
            let mut random = Random::new(seed + 1);
            let pairs: Vec<(usize, usize)> = (0..200)
                .map(|_| {
                    let truth = random.below(3);
                    let mut says = || if random.uniform() < 0.8 { truth } else { random.below(3) };
                    (says(), says())
                })
                .collect();
            let found = kappa(&pairs).unwrap();
            missed += u32::from(!(found.low <= 0.64 && 0.64 <= found.high));
        }
        assert!(missed <= 22, "{missed} of 200");
    }

    #[test]
    fn nothing_is_said_where_nothing_could_differ() {
        assert_eq!(kappa(&[]), None);
        assert_eq!(kappa(&[(1, 1), (1, 1)]), None);
    }
}
