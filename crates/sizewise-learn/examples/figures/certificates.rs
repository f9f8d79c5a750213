//! How much is certified, and are the certificates true, over many draws of the gold rows?

use crate::public::{Outcome, Set, World};
use sizewise_contract::{Tier, task::Promise};
use sizewise_measure::{cascade::RowOutcome, claim};

pub(crate) fn run(world: &World, resamples: usize) -> Outcome<()> {
    println!(
        "\nCertificates at 95 % on gold rows drawn {resamples} times from the test rows; coverage and error on the rows not drawn"
    );
    println!(
        "{:<24}{:>6}{:>9}{:>11}{:>10}{:>10}{:>9}{:>9}{:>16}{:>9}",
        "",
        "gold",
        "promise",
        "certified",
        "coverage",
        "static",
        "error",
        "above",
        "beyond sampling",
        "in pool"
    );
    let sets: [(Option<Set>, usize, &[f64]); 4] = [
        (world.banking77()?, 1_500, &[0.02, 0.03, 0.05]),
        (world.clinc150()?, 1_500, &[0.02, 0.03, 0.05]),
        (world.polarity()?, 1_500, &[0.02, 0.03, 0.05, 0.1]),
        (world.languages()?, 1_500, &[0.02, 0.03, 0.05]),
    ];
    for (set, gold, promises) in sets {
        let Some(set) = set else { continue };
        let (task, trained) = world.train(&set, &set.train, 1)?;
        let pool = world.judge(&set, &task, &trained, &set.test)?;
        report(&set, (&pool, &trained.development[0]), (gold, resamples), promises);
    }
    Ok(())
}

pub(crate) fn report(
    set: &Set,
    (pool, development): (&[RowOutcome], &[RowOutcome]),
    (gold, resamples): (usize, usize),
    promises: &[f64],
) {
    for max_served_error in promises {
        let promise = Promise { max_served_error: *max_served_error, ..Promise::default() };
        let found = claim::test(pool, development, (gold, resamples), &promise, 11);
        let by_static = found
            .mean_by_tier
            .iter()
            .find(|(tier, _)| *tier == Tier::Static)
            .map_or(0.0, |(_, share)| *share);
        println!(
            "{:<24}{:>6}{:>8.0} %{:>11}{:>10.3}{:>10.3}{:>9.4}{:>9.3}{:>16.3}{:>9.3}",
            set.name,
            gold,
            max_served_error * 100.0,
            found.certified,
            found.mean_coverage,
            by_static,
            found.mean_error,
            found.above,
            found.above_beyond_sampling,
            found.above_in_pool,
        );
    }
}
