//! Do certificates that are made again without new labels keep the promise after the mix of classes has changed?
//!
//! A quarter of the training rows is kept from training: the table of what the static tier says of each class, and the
//! development rows. The test rows are the population: 1,500 gold rows are drawn from them at their own mix, 5,000 requests without labels at
//! a mix drawn from a Dirichlet distribution, all with replacement, so that the served error under the new mix is known exactly.

use crate::public::{Outcome, Row, Set, World};
use sizewise_contract::{ClassLabel, Label as _, Tier, task::Promise};
use sizewise_learn::train::Judged;
use sizewise_measure::{
    cascade::RowOutcome,
    certify::Plan,
    mix::{Confusion, Labelled, Seen, remake},
    random::Random,
};

const GOLD: usize = 1_500;
const REQUESTS: usize = 5_000;
const MIXES: usize = 100;
/// From which confidence the static tier counts as sure: the answers of the table are a class, sure or not.
const SURE: f64 = 0.7;
const CONCENTRATIONS: [f64; 4] = [0.1, 0.3, 1.0, 10.0];

pub(crate) fn run(world: &World, resamples: usize) -> Outcome<()> {
    println!(
        "\nClass mix drawn {resamples} times from a Dirichlet distribution; promise 5 %, {GOLD} gold rows of the old mix, {REQUESTS} requests without labels"
    );
    println!(
        "{:<12}{:>14}{:>12}{:>12}{:>12}{:>14}{:>12}{:>12}{:>12}{:>14}{:>12}",
        "",
        "concentration",
        "mix error",
        "old broken",
        "its cover",
        "worst error",
        "remade",
        "kept",
        "coverage",
        "worst error",
        "gold worth"
    );
    for set in [world.banking77()?, world.clinc150()?].into_iter().flatten() {
        let study = Study::of(world, &set)?;
        for concentration in CONCENTRATIONS {
            study.report(concentration, resamples);
        }
    }
    Ok(())
}

/// What is known before any shift, and the population.
struct Study {
    name: &'static str,
    classes: usize,
    development: Vec<Labelled>,
    table: Confusion,
    /// The population, with what the static tier says.
    pool: Vec<(Labelled, usize)>,
    /// Rows of the population by class.
    of: Vec<Vec<usize>>,
}

/// One resample.
struct Run {
    mix_error: f64,
    /// Coverage and error of the old threshold under the new mix.
    old: Option<(f64, f64)>,
    /// The same of the threshold that was made again.
    remade: Option<(f64, f64)>,
    effective: f64,
}

impl Study {
    fn of(world: &World, set: &Set) -> Outcome<Self> {
        let mut rows: Vec<Row> = set.train.clone();
        Random::new(5).shuffle(&mut rows);
        let kept = rows.split_off(rows.len() * 3 / 4);
        let (task, trained) = world.train(set, &rows, 1)?;
        let outside = set.classes.len();
        let classes = outside + usize::from(set.train.iter().any(|(_, label)| label.is_none()));
        let labelled = |rows: &[Row]| -> Outcome<Vec<(Labelled, usize)>> {
            let judged: Vec<Judged> = world.judged(set, &task, &trained, rows)?;
            let row = |(judged, example): (Judged, &sizewise_contract::Example<sizewise_contract::Gold>)| {
                let label = example.labels.first()?.as_ref()?.class_label();
                let said = judged.judgements.iter().find(|judgement| judgement.tier == Tier::Static)?;
                let answer = said.class * 2 + usize::from(said.confidence >= SURE);
                let class = match label {
                    ClassLabel::Class(class) => usize::from(class),
                    ClassLabel::OutOfScope => outside,
                };
                Some((Labelled { class, outcome: judged.outcome? }, answer))
            };
            let examples = set.examples(rows)?;
            Ok(judged.into_iter().zip(&examples).filter_map(row).collect())
        };
        let mut table = Confusion::new(classes, outside * 2);
        let development = labelled(&kept)?;
        development.iter().for_each(|(row, answer)| table.add(row.class, *answer));
        let pool = labelled(&set.test)?;
        let mut of = vec![Vec::new(); classes];
        pool.iter().enumerate().for_each(|(at, (row, _))| of[row.class].push(at));
        let development = development.into_iter().map(|(row, _)| row).collect();
        Ok(Self { name: set.name, classes, development, table, pool, of })
    }

    /// Coverage and served error of a threshold under a mix, exactly.
    fn truth(&self, threshold: f64, mix: &[f64]) -> (f64, f64) {
        let (mut answered, mut wrong) = (0.0, 0.0);
        for (rows, share) in self.of.iter().zip(mix) {
            for row in rows {
                if let Some(answer) = self.pool[*row].0.outcome.answer_at(threshold) {
                    answered += share / rows.len() as f64;
                    wrong += if answer.right { 0.0 } else { share / rows.len() as f64 };
                }
            }
        }
        (answered, wrong / answered.max(1e-12))
    }

    fn run(&self, concentration: f64, seed: u64) -> Run {
        let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9) ^ 0x51f7);
        let mix = dirichlet(self.classes, concentration, &mut random);
        let gold: Vec<Labelled> =
            (0..GOLD).map(|_| self.pool[random.below(self.pool.len())].0.clone()).collect();
        let mut seen = Seen::new(
            self.pool.iter().map(|(_, answer)| answer + 1).max().unwrap_or(0).max(2 * self.classes),
        );
        let sums: Vec<f64> = mix
            .iter()
            .scan(0.0, |sum, share| {
                *sum += share;
                Some(*sum)
            })
            .collect();
        for _ in 0..REQUESTS {
            let at = random.uniform();
            let class = sums.partition_point(|sum| *sum <= at).min(self.classes - 1);
            let rows = &self.of[class];
            seen.add(self.pool[rows[random.below(rows.len())]].1);
        }
        let promise = Promise::default();
        let plain =
            |rows: &[Labelled]| rows.iter().map(|row| row.outcome.clone()).collect::<Vec<RowOutcome>>();
        let old = Plan::new(&plain(&self.development), GOLD as u64, &promise).run(&plain(&gold)).threshold;
        let mixes = self.table.mixes(&seen, MIXES, seed);
        let again = remake(&self.development, &gold, &mixes, &promise);
        let mix_error = mixes[0].iter().zip(&mix).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0;
        Run {
            mix_error,
            old: old.map(|threshold| self.truth(threshold, &mix)),
            remade: again.threshold.map(|threshold| self.truth(threshold, &mix)),
            effective: again.effective_rows,
        }
    }

    fn report(&self, concentration: f64, resamples: usize) {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let runs: Vec<Run> = std::thread::scope(|scope| {
            let started: Vec<_> = (0..threads)
                .map(|first| {
                    scope.spawn(move || {
                        let seeds = (first..resamples).step_by(threads);
                        seeds.map(|seed| self.run(concentration, seed as u64 + 1)).collect::<Vec<_>>()
                    })
                })
                .collect();
            started.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
        });
        let all = runs.len().max(1) as f64;
        let promise = Promise::default().max_served_error;
        let broken = |of: fn(&Run) -> Option<(f64, f64)>| {
            runs.iter().filter(|run| of(run).is_some_and(|(_, error)| error > promise)).count() as f64 / all
        };
        let coverage = |of: fn(&Run) -> Option<(f64, f64)>| {
            runs.iter().map(|run| of(run).map_or(0.0, |(coverage, _)| coverage)).sum::<f64>() / all
        };
        let worst = |of: fn(&Run) -> Option<(f64, f64)>| {
            runs.iter().filter_map(of).map(|(_, error)| error).fold(0.0, f64::max)
        };
        let remade = runs.iter().filter(|run| run.remade.is_some()).count();
        println!(
            "{:<12}{:>14}{:>12.3}{:>12.3}{:>12.3}{:>14.4}{:>12}{:>12.3}{:>12.3}{:>14.4}{:>12.0}",
            self.name,
            concentration,
            runs.iter().map(|run| run.mix_error).sum::<f64>() / all,
            broken(|run| run.old),
            coverage(|run| run.old),
            worst(|run| run.old),
            remade,
            1.0 - broken(|run| run.remade),
            coverage(|run| run.remade),
            worst(|run| run.remade),
            runs.iter().map(|run| run.effective).sum::<f64>() / all,
        );
    }
}

/// Shares drawn from the symmetric Dirichlet distribution.
fn dirichlet(classes: usize, concentration: f64, random: &mut Random) -> Vec<f64> {
    let draws: Vec<f64> = (0..classes).map(|_| gamma(concentration, random)).collect();
    let sum: f64 = draws.iter().sum();
    draws.iter().map(|draw| draw / sum.max(1e-300)).collect()
}

/// A gamma number (Marsaglia and Tsang 2000), by one of a larger shape where the shape is below one.
fn gamma(shape: f64, random: &mut Random) -> f64 {
    if shape < 1.0 {
        let boost = (1.0 - random.uniform()).powf(1.0 / shape);
        return gamma(shape + 1.0, random) * boost;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let (u, v) = (1.0 - random.uniform(), random.uniform());
        let normal = (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos();
        let cube = (1.0 + c * normal).powi(3);
        if cube > 0.0 && (1.0 - random.uniform()).ln() < 0.5 * normal * normal + d - d * cube + d * cube.ln()
        {
            return d * cube;
        }
    }
}
