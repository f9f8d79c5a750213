//! Does the live evidence doubt in time, and seldom for nothing, over a year of traffic?
//!
//! Requests are drawn from test rows that neither models nor calibration have seen; a fiftieth of them are probes whose truth is told. In one
//! year nothing happens; in the other the served error doubles after a hundred days, as right answers become wrong at random.

use crate::public::{Outcome, Set, World};
use sizewise_contract::{PromiseState, task::Promise};
use sizewise_measure::{binomial, cascade::RowOutcome, certify::Plan, random::Random, watch::Watch};

/// Probes of a quiet year: a thousand requests a day, a fiftieth of them.
const PROBES: usize = 7_300;
/// After so many of them the error doubles.
const QUIET: usize = 2_000;
/// Requests for each probe, and while the promise is in doubt.
const PER_PROBE: [f64; 2] = [50.0, 10.0];
/// Rows that certify.
const GOLD: usize = 1_500;

pub(crate) fn run(world: &World, resamples: usize) -> Outcome<()> {
    println!(
        "\nA year of traffic with 2 % probes, {resamples} times; certificates at 95 % on {GOLD} gold rows, those that hold"
    );
    println!(
        "{:<12}{:>8}{:>7}{:>9}{:>9}{:>10}{:>9} |{:>9}{:>9}{:>8}{:>10}{:>9}",
        "",
        "promise",
        "runs",
        "broken",
        "doubted",
        "coverage",
        "error",
        "doubled",
        "probes",
        "test",
        "error",
        "coverage"
    );
    for set in [world.banking77()?, world.clinc150()?].into_iter().flatten() {
        let (task, trained) = world.train(&set, &set.train, 1)?;
        let pool = world.judge(&set, &task, &trained, &set.test)?;
        for max_served_error in [0.02, 0.03, 0.05] {
            let promise = Promise { max_served_error, ..Promise::default() };
            report(&set, (&pool, &trained.development[0]), &promise, resamples);
        }
    }
    println!(
        "broken, doubted: shares of runs; coverage and error of the whole year; doubled: median error after the change; probes: median of those that are covered until in \
         doubt; test: rows of the best test of the same change with half a chance (exact binomial at 5 %, told when it began)"
    );
    Ok(())
}

/// What a pool answers at a threshold.
struct At {
    coverage: f64,
    error: f64,
}

fn at(pool: &[RowOutcome], threshold: Option<f64>) -> At {
    let Some(threshold) = threshold else { return At { coverage: 0.0, error: 0.0 } };
    let answers = pool.iter().filter_map(|row| row.answer_at(threshold));
    let (answered, wrong) = answers.fold((0u32, 0u32), |(n, k), a| (n + 1, k + u32::from(!a.right)));
    At {
        coverage: f64::from(answered) / pool.len() as f64,
        error: f64::from(wrong) / f64::from(answered.max(1)),
    }
}

/// One year.
struct Year {
    broken: bool,
    doubted: bool,
    /// Probes that the certificate covers from the change until the promise was in doubt; none where it was before.
    delay: Option<f64>,
    coverage: f64,
    error: f64,
}

fn year(pool: &[RowOutcome], (promise, threshold): (&Promise, f64), harm: f64, random: &mut Random) -> Year {
    let mut watch = Watch::new(promise, threshold);
    let mut year = Year { broken: false, doubted: false, delay: None, coverage: 0.0, error: 0.0 };
    let (mut requests, mut served, mut wrong) = (0.0, 0.0, 0.0);
    let mut now = at(pool, Some(threshold));
    let (mut probes, mut since, mut kept) = (0, 0.0, true);
    while requests < PROBES as f64 * PER_PROBE[0] {
        let spoilt = if probes >= QUIET { harm } else { 0.0 };
        let passed = PER_PROBE[usize::from(watch.state() != PromiseState::Kept)];
        requests += passed;
        served += passed * now.coverage;
        wrong += passed * now.coverage * (now.error + (1.0 - now.error) * spoilt);
        let Some(row) = pool.get(random.below(pool.len())) else { break };
        let mut row = row.clone();
        // Either all tiers of a row are spoilt, or none.
        let spoil = random.uniform() < spoilt;
        row.tiers.iter_mut().for_each(|tier| tier.right &= !spoil);
        probes += 1;
        if probes == QUIET {
            kept = watch.state() == PromiseState::Kept;
        }
        since += f64::from(u8::from(probes > QUIET && row.answer_at(threshold).is_some()));
        if let Some(change) = watch.tell(&row, probes as i64) {
            year.broken |= change.to == PromiseState::Broken;
            year.doubted = true;
            if probes > QUIET && kept {
                year.delay = year.delay.or(Some(since));
            }
            now = at(pool, watch.threshold());
        }
    }
    year.coverage = served / requests;
    year.error = wrong / f64::max(served, 1.0);
    year
}

fn report(
    set: &Set,
    (pool, development): (&[RowOutcome], &[RowOutcome]),
    promise: &Promise,
    resamples: usize,
) {
    let mut random = Random::new(17);
    let plan = Plan::new(development, GOLD as u64, promise);
    let (mut quiet, mut harmed, mut doubled) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..resamples {
        let mut rows = pool.to_vec();
        random.shuffle(&mut rows);
        rows.truncate(GOLD);
        let Some(threshold) = plan.run(&rows).threshold else { continue };
        let here = at(pool, Some(threshold));
        if here.error > promise.max_served_error {
            continue;
        }
        quiet.push(year(pool, (promise, threshold), 0.0, &mut random));
        let harm = here.error / (1.0 - here.error);
        harmed.push(year(pool, (promise, threshold), harm, &mut random));
        doubled.push(2.0 * here.error);
    }
    if quiet.is_empty() {
        println!(
            "{:<12}{:>6.0} %{:>7}   nothing is certified",
            set.name,
            promise.max_served_error * 100.0,
            0
        );
        return;
    }
    let runs = quiet.len() as f64;
    let share = |has: fn(&Year) -> bool| quiet.iter().filter(|year| has(year)).count() as f64 / runs;
    let mean = |years: &[Year], of: fn(&Year) -> f64| years.iter().map(of).sum::<f64>() / years.len() as f64;
    let error = median(doubled);
    let delays: Vec<f64> = harmed.iter().filter_map(|year| year.delay).collect();
    println!(
        "{:<12}{:>6.0} %{:>7}{:>9.3}{:>9.3}{:>10.3}{:>9.4} |{:>9.4}{:>9.0}{:>8}{:>10.4}{:>9.3}",
        set.name,
        promise.max_served_error * 100.0,
        quiet.len(),
        share(|year| year.broken),
        share(|year| year.doubted),
        mean(&quiet, |year| year.coverage),
        mean(&quiet, |year| year.error),
        error,
        median(delays),
        fixed_test(promise.max_served_error, error).map_or("–".into(), |rows| rows.to_string()),
        mean(&harmed, |year| year.error),
        mean(&harmed, |year| year.coverage),
    );
}

/// Rows of the smallest exact test of "at most `limit` is wrong" at 5 % that has half a chance where `error` is.
fn fixed_test(limit: f64, error: f64) -> Option<u64> {
    if error <= limit {
        return None;
    }
    (5..200_000u64).find(|rows| {
        // The least number of errors that such a test rejects at.
        let (mut low, mut high) = (0, *rows);
        while low < high {
            let middle = (low + high) / 2;
            if middle > 0 && 1.0 - binomial::cdf(middle - 1, *rows, limit) <= 0.05 {
                high = middle
            } else {
                low = middle + 1
            }
        }
        1.0 - binomial::cdf(low.saturating_sub(1), *rows, error) >= 0.5
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
