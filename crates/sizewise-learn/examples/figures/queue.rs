//! How many labels, in the order of the review queue, are worth as much as 1,000 given at random?
//!
//! A small model begins with five labels a class. Traffic comes in 500 requests at a time (the training rows, in random order); what
//! the model is not sure of waits, a tenth of it drawn for the audit, and people label 50 of those that wait, the audit's among them and
//! counted. Then both models are fitted again and judge what waits. Random labelling gives a label to 1,000 of the same requests.
//! The models are quick heads on the vectors of encoder and static tier; accuracy is that of the first, on official test rows in scope.

use crate::{
    public::{Outcome, Set, World},
    quality::mean,
};
use sizewise_contract::{Embed as _, Embeddings, task::Overflow};
use sizewise_learn::{
    teach::quick::{Quick, Vectors},
    worth::{Waiting, Weights, audited, order},
};
use sizewise_measure::random::Random;
use std::{sync::atomic::AtomicBool, time::Instant};

const START: usize = 5;
const RANDOM: usize = 1_000;
const HOPED: usize = 600;
const MOST: usize = 1_000;
const ROUND: usize = 50;
const ARRIVING: usize = 500;
const AUDIT: f64 = 0.1;
/// Requests that the model is as sure of are answered and do not wait.
const SURE: f64 = 0.95;
const SEEDS: [u64; 3] = [1, 2, 3];

pub(crate) fn run(world: &World) -> Outcome<()> {
    println!(
        "\nLabels by the value of the queue that reach what {RANDOM} random ones reach, after {START} a class (test rows in scope, mean of {} seeds)",
        SEEDS.len()
    );
    println!(
        "{:<24}{:>8}{:>14}{:>13}{:>15}{:>14}{:>15}{:>15}",
        "",
        "start",
        "1,000 random",
        "600 random",
        "600 as they came",
        "600 by value",
        "labels needed",
        "ms for an order"
    );
    let only = std::env::var("SIZEWISE_SETS").unwrap_or_else(|_| "bclp".into());
    for name in only.chars() {
        let set = match name {
            'b' => world.banking77()?,
            'c' => world.clinc150()?,
            'l' => world.languages()?,
            _ => world.polarity()?,
        };
        let Some(set) = set else { continue };
        let data = Data::of(world, &set)?;
        let runs = data.runs(Weights::default());
        data.tell(set.name, &runs);
    }
    Ok(())
}

/// Weights on trial, on training rows of BANKING77 alone.
pub(crate) fn trial(world: &World) -> Outcome<()> {
    let Some(set) = world.banking77()? else { return Ok(()) };
    let mut train = set.train.clone();
    Random::new(3).shuffle(&mut train);
    let test = train.split_off(train.len() * 3 / 4);
    let set = Set { train, test, ..set };
    let data = Data::of(world, &set)?;
    for (disagreement, novelty) in [(0.0, 0.0), (0.15, 0.0), (0.3, 0.0), (0.15, 0.3)] {
        let runs = data.runs(Weights { disagreement, novelty, ..Weights::default() });
        data.tell(&format!("disagree {disagreement} new {novelty}"), &runs);
    }
    Ok(())
}

/// A set's texts as vectors of both tiers, training rows first.
struct Data {
    encoder: Vectors,
    fixed: Vectors,
    /// The encoder's last layer, of unit length. `[rows, width]`
    near: Vec<f32>,
    width: usize,
    truth: Vec<u16>,
    train: usize,
    classes: usize,
}

struct Run {
    start: f64,
    random: f64,
    random_at_hoped: f64,
    arrived_at_hoped: f64,
    curve: Vec<(usize, f64)>,
    order_ms: f64,
}

impl Data {
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
        let embeddings = world.encoder().embed(&texts, Overflow::HeadTail)?;
        let width = world.encoder().last_layer_dimensions();
        let mut near = Vec::with_capacity(texts.len() * width);
        for row in embeddings.rows() {
            let length = row[..width].iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-9);
            near.extend(row[..width].iter().map(|value| value / length));
        }
        let fixed = world.static_embeddings();
        let mut means = Embeddings { dimensions: fixed.dimensions(), ..Embeddings::default() };
        let (mut ids, mut mean) = (Vec::new(), Vec::new());
        for text in &texts {
            fixed.embed_into(text, &mut ids, &mut mean);
            means.values.extend(&mean);
            means.tokens.push(ids.len() as u32);
        }
        let fixed = Vectors::new(&means, means.dimensions);
        let encoder = Vectors::new(&embeddings, width);
        Ok(Self { encoder, fixed, near, width, truth, train, classes: set.classes.len() })
    }

    fn vector(&self, row: usize) -> &[f32] {
        &self.near[row * self.width..(row + 1) * self.width]
    }

    fn runs(&self, weights: Weights) -> Vec<Run> {
        std::thread::scope(|scope| {
            let started: Vec<_> =
                SEEDS.iter().map(|seed| scope.spawn(move || self.run(*seed, weights))).collect();
            started.into_iter().filter_map(|run| run.join().ok().flatten()).collect()
        })
    }

    fn labelled(&self, rows: &[usize]) -> Vec<(usize, u16)> {
        rows.iter().map(|row| (*row, self.truth[*row])).collect()
    }

    fn fit(&self, vectors: &Vectors, rows: &[usize]) -> Option<Quick> {
        Quick::fit(vectors, &self.labelled(rows), self.classes, &AtomicBool::new(false))
    }

    fn accuracy(&self, rows: &[usize]) -> Option<f64> {
        let test: Vec<usize> = (self.train..self.truth.len()).collect();
        Some(self.fit(&self.encoder, rows)?.accuracy(&self.encoder, &self.labelled(&test)))
    }

    /// Answers of a head with their probabilities.
    fn answers(&self, head: &Quick, vectors: &Vectors, rows: &[usize]) -> Vec<(usize, f32)> {
        let all = head.probabilities(vectors, rows);
        let best = |row: &[f32]| {
            row.iter()
                .copied()
                .enumerate()
                .fold((0, 0.0), |best, (class, p)| if p > best.1 { (class, p) } else { best })
        };
        all.chunks_exact(self.classes).map(best).collect()
    }

    fn run(&self, seed: u64, weights: Weights) -> Option<Run> {
        let mut stream: Vec<usize> = (0..self.train).collect();
        Random::new(seed).shuffle(&mut stream);
        let mut counts = vec![0usize; self.classes];
        let (start, stream): (Vec<usize>, Vec<usize>) = stream.into_iter().partition(|row| {
            let count = &mut counts[usize::from(self.truth[*row])];
            *count += 1;
            *count <= START
        });
        let with = |more: &[usize]| [&start[..], more].concat();
        let mut run = Run {
            start: self.accuracy(&start)?,
            random: self.accuracy(&with(&stream[..RANDOM]))?,
            random_at_hoped: self.accuracy(&with(&stream[..HOPED]))?,
            arrived_at_hoped: 0.0,
            curve: Vec::new(),
            order_ms: 0.0,
        };
        let mut bought: Vec<usize> = Vec::new();
        // Each with the round in which it came.
        let mut waiting: Vec<(usize, usize)> = Vec::new();
        let mut as_they_came: Vec<usize> = Vec::new();
        let mut arriving = stream.chunks(ARRIVING);
        let mut head = self.fit(&self.encoder, &start)?;
        for round in 0.. {
            let new = arriving.next().unwrap_or_default();
            let sure = self.answers(&head, &self.encoder, new);
            let unsure =
                new.iter().zip(&sure).filter(|(_, (_, p))| f64::from(*p) < SURE).map(|(row, _)| *row);
            let unsure: Vec<usize> = unsure.collect();
            as_they_came.extend(&unsure);
            waiting.extend(unsure.into_iter().map(|row| (row, round)));
            let fixed = self.fit(&self.fixed, &with(&bought))?;
            let rows: Vec<usize> = waiting.iter().map(|(row, _)| *row).collect();
            let (ours, others) =
                (self.answers(&head, &self.encoder, &rows), self.answers(&fixed, &self.fixed, &rows));
            let known = with(&bought);
            let items: Vec<Waiting<'_>> = waiting
                .iter()
                .zip(ours.iter().zip(&others))
                .map(|((row, came), (ours, others))| Waiting {
                    confidence: f64::from(ours.1),
                    novelty: if weights.novelty > 0.0 { self.novelty(*row, &known) } else { 0.0 },
                    disagreement: ours.0 != others.0,
                    cost: 1.0,
                    // A round is a day.
                    age_days: (round - came) as f64,
                    audit: audited(&row.to_string(), &seed.to_le_bytes(), AUDIT),
                    vector: Some(self.vector(*row)),
                })
                .collect();
            let began = Instant::now();
            let next = order(&items, ROUND, weights, seed);
            run.order_ms = run.order_ms.max(began.elapsed().as_secs_f64() * 1e3);
            if next.is_empty() {
                break;
            }
            bought.extend(next.iter().map(|place| rows[*place]));
            let taken: std::collections::HashSet<usize> = bought.iter().copied().collect();
            waiting.retain(|(row, _)| !taken.contains(row));
            head = self.fit(&self.encoder, &with(&bought))?;
            let test: Vec<usize> = (self.train..self.truth.len()).collect();
            run.curve.push((bought.len(), head.accuracy(&self.encoder, &self.labelled(&test))));
            if bought.len() >= MOST {
                break;
            }
        }
        as_they_came.truncate(HOPED);
        run.arrived_at_hoped = self.accuracy(&with(&as_they_came))?;
        Some(run)
    }

    fn novelty(&self, row: usize, known: &[usize]) -> f64 {
        let own = self.vector(row);
        let near = |other: &usize| own.iter().zip(self.vector(*other)).map(|(a, b)| a * b).sum::<f32>();
        f64::from(1.0 - known.iter().map(near).fold(-1.0, f32::max))
    }

    fn tell(&self, name: &str, runs: &[Run]) {
        let of = |value: fn(&Run) -> f64| mean(&runs.iter().map(value).collect::<Vec<_>>());
        let random = of(|run| run.random);
        let at = |labels: usize| -> Vec<f64> {
            runs.iter()
                .filter_map(|run| run.curve.iter().find(|(l, _)| *l == labels))
                .map(|(_, a)| *a)
                .collect()
        };
        let reached = (ROUND..=MOST)
            .step_by(ROUND)
            .find(|labels| at(*labels).len() == runs.len() && mean(&at(*labels)) >= random);
        println!(
            "{name:<24}{:>8.4}{random:>14.4}{:>13.4}{:>15.4}{:>14.4}{:>15}{:>15.0}",
            of(|run| run.start),
            of(|run| run.random_at_hoped),
            of(|run| run.arrived_at_hoped),
            mean(&at(HOPED)),
            reached.map_or_else(|| format!("over {MOST}"), |labels| labels.to_string()),
            of(|run| run.order_ms),
        );
    }
}
