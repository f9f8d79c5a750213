//! How many labels, chosen by `teach`, are worth as much as 5,000 drawn by chance?
//!
//! Gold labels stand in for a perfect teacher, and with a tenth of them replaced at random for a real one. The accuracy, in both
//! arms, is that of the quick head that chooses (a linear layer on the encoder's vectors), on test rows in scope. Where labels
//! are wrong our arm sets doubted ones aside, as `train` does: as many as a check on fifty rows says are wrong.

use crate::{
    public::{Outcome, Set, World},
    quality::mean,
};
use sizewise_contract::{Embed as _, task::Overflow};
use sizewise_learn::teach::{
    noise,
    quick::{Quick, Vectors},
    select,
};
use sizewise_measure::random::Random;
use std::{sync::atomic::AtomicBool, time::Instant};

/// Rows that are drawn by chance.
const DRAWN: usize = 5_000;
/// Labels that are hoped to be worth as much.
const HOPED: usize = 2_500;
/// No more labels than these are bought.
const MOST: usize = 4_000;
/// Texts of the first round; each later one has a quarter of what is labelled.
const FIRST: usize = 300;
/// Rows that tell how often the teacher is wrong.
const CHECKED: usize = 50;
const SEEDS: [u64; 2] = [1, 2];

/// A set's texts as vectors, training rows first.
struct Embedded {
    vectors: Vectors,
    truth: Vec<u16>,
    train: usize,
    classes: usize,
}

/// What one run reached.
#[derive(Default)]
struct Run {
    drawn: f64,
    drawn_pruned: f64,
    /// Accuracy after so many labels.
    curve: Vec<(usize, f64)>,
    at_hoped: f64,
    at_hoped_unpruned: f64,
}

pub(crate) fn run(world: &World) -> Outcome<()> {
    println!(
        "\nLabels that reach what {DRAWN} random ones reach (quick head, test rows in scope, mean of {} seeds)",
        SEEDS.len()
    );
    println!(
        "{:<24}{:>7}{:>14}{:>16}{:>14}{:>18}{:>16}",
        "", "wrong", "5,000 random", "doubted aside", "2,500 chosen", "doubted aside", "labels needed"
    );
    let only = std::env::var("SIZEWISE_SETS").unwrap_or_else(|_| "bclpg".into());
    for name in only.chars() {
        let set = match name {
            'b' => world.banking77()?,
            'c' => world.clinc150()?,
            'l' => world.languages()?,
            'g' => world.logs()?,
            _ => world.polarity()?,
        };
        let Some(set) = set else { continue };
        let began = Instant::now();
        let data = Embedded::of(world, &set)?;
        for wrong in [0.0, 0.1] {
            let runs: Vec<Run> = std::thread::scope(|scope| {
                let started: Vec<_> = SEEDS
                    .map(|seed| {
                        scope.spawn({
                            let data = &data;
                            move || data.run(wrong, seed)
                        })
                    })
                    .into();
                started.into_iter().filter_map(|run| run.join().ok().flatten()).collect()
            });
            tell(set.name, wrong, &runs);
        }
        eprintln!("  {}: {:.0} s", set.name, began.elapsed().as_secs_f64());
    }
    Ok(())
}

fn tell(name: &str, wrong: f64, runs: &[Run]) {
    let of = |value: fn(&Run) -> f64| mean(&runs.iter().map(value).collect::<Vec<_>>());
    let drawn = of(|run| run.drawn);
    let mut steps: Vec<usize> =
        runs.iter().flat_map(|run| run.curve.iter().map(|(labels, _)| *labels)).collect();
    steps.sort_unstable();
    steps.dedup();
    let reached = steps.into_iter().find(|labels| {
        let at: Vec<f64> = runs
            .iter()
            .filter_map(|run| run.curve.iter().find(|(l, _)| l == labels))
            .map(|(_, a)| *a)
            .collect();
        at.len() == runs.len() && mean(&at) >= drawn
    });
    let needed = reached.map_or_else(|| format!("over {MOST}"), |labels| format!("{labels}"));
    println!(
        "{name:<24}{:>6.0}%{drawn:>14.4}{:>16.4}{:>14.4}{:>18.4}{needed:>16}",
        wrong * 100.0,
        of(|run| run.drawn_pruned),
        of(|run| run.at_hoped_unpruned),
        of(|run| run.at_hoped)
    );
}

impl Embedded {
    fn of(world: &World, set: &Set) -> Outcome<Self> {
        let (mut texts, mut truth, mut train) = (Vec::new(), Vec::new(), 0);
        for (is_train, rows) in [(true, &set.train), (false, &set.test)] {
            for (text, label) in rows {
                let Some(label) = label else { continue };
                texts.push(text.as_str());
                truth.push(set.classes.binary_search(label).map_err(|_| "unknown label")? as u16);
                train += usize::from(is_train);
            }
        }
        let encoder = world.encoder();
        let embeddings = encoder.embed(&texts, Overflow::HeadTail)?;
        let vectors = Vectors::new(&embeddings, encoder.last_layer_dimensions());
        Ok(Self { vectors, truth, train, classes: set.classes.len() })
    }

    /// Both arms with one seed.
    fn run(&self, wrong: f64, seed: u64) -> Option<Run> {
        let stop = AtomicBool::new(false);
        let mut random = Random::new(seed);
        let teacher = self.teacher(wrong, &mut random);
        let label =
            |rows: &[usize]| -> Vec<(usize, u16)> { rows.iter().map(|row| (*row, teacher[*row])).collect() };
        let mut order: Vec<usize> = (0..self.train).collect();
        random.shuffle(&mut order);
        let errs = order.iter().rev().take(CHECKED).filter(|row| teacher[**row] != self.truth[**row]).count();
        let known_wrong = errs as f64 / CHECKED as f64;
        let mut run = Run::default();
        (run.drawn, run.drawn_pruned) =
            self.both(&label(&order[..DRAWN.min(order.len())]), known_wrong, &stop)?;
        let mut bought: Vec<usize> = Vec::new();
        while bought.len() < MOST {
            let mut have = vec![false; self.train];
            bought.iter().for_each(|row| have[*row] = true);
            let pool: Vec<usize> = (0..self.train).filter(|row| !have[*row]).collect();
            let chosen = if bought.is_empty() {
                select::coverage(&self.vectors, &pool, &[], FIRST, seed)
            } else {
                let quick = Quick::fit(&self.vectors, &label(&bought), self.classes, &stop)?;
                let next = bought.len() + bought.len() / 4;
                let next = if bought.len() < HOPED { next.min(HOPED) } else { next };
                let margins = quick.margins(&self.vectors, &pool);
                select::uncertain(&self.vectors, &pool, &margins, next.min(MOST) - bought.len(), seed)
            };
            if chosen.is_empty() {
                break;
            }
            bought.extend(chosen);
            // Far from the goal nothing is worth a cross-fit.
            if bought.len() < 1_000 {
                continue;
            }
            let (plain, pruned) = self.both(&label(&bought), known_wrong, &stop)?;
            run.curve.push((bought.len(), pruned));
            if bought.len() == HOPED {
                (run.at_hoped_unpruned, run.at_hoped) = (plain, pruned);
            }
            if bought.len() >= HOPED && pruned >= run.drawn + 0.002 {
                break;
            }
        }
        Some(run)
    }

    /// Labels of which some are wrong.
    fn teacher(&self, wrong: f64, random: &mut Random) -> Vec<u16> {
        let said = |class: &u16| {
            let other = random.below(self.classes - 1) as u16;
            let other = if other >= *class { other + 1 } else { other };
            if random.uniform() < wrong { other } else { *class }
        };
        self.truth.iter().map(said).collect()
    }

    /// Accuracy with all labels, and with doubted ones set aside.
    fn both(&self, labelled: &[(usize, u16)], wrong: f64, stop: &AtomicBool) -> Option<(f64, f64)> {
        let test: Vec<(usize, u16)> =
            (self.train..self.truth.len()).map(|row| (row, self.truth[row])).collect();
        let accuracy = |labelled: &[(usize, u16)]| {
            Some(Quick::fit(&self.vectors, labelled, self.classes, stop)?.accuracy(&self.vectors, &test))
        };
        let plain = accuracy(labelled)?;
        let doubts = noise::doubts(&self.vectors, labelled, &|_| false, (self.classes, wrong), stop)?;
        if doubts.is_empty() {
            return Some((plain, plain));
        }
        let doubted: std::collections::HashSet<usize> = doubts.iter().map(|doubt| doubt.place).collect();
        let kept = labelled.iter().enumerate().filter(|(place, _)| !doubted.contains(place));
        Some((plain, accuracy(&kept.map(|(_, labelled)| *labelled).collect::<Vec<_>>())?))
    }
}
