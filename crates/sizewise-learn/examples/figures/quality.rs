//! How accurate is each tier, how well does it rank out-of-scope rows, and how long does it take to fit?

use crate::public::{Outcome, Set, World};
use sizewise_contract::Tier;
use sizewise_measure::{cascade::RowOutcome, metrics};
use std::time::Instant;

const SEEDS: [u64; 3] = [1, 2, 3];

/// Share of in-scope rows that a tier answers rightly.
pub(crate) fn accuracy(rows: &[RowOutcome], tier: Tier) -> f64 {
    let inside: Vec<bool> = rows
        .iter()
        .filter(|row| !row.out_of_scope)
        .filter_map(|row| row.tiers.iter().find(|o| o.tier == tier))
        .map(|o| o.right)
        .collect();
    inside.iter().filter(|right| **right).count() as f64 / inside.len().max(1) as f64
}

/// How well a tier's confidence ranks in-scope rows above out-of-scope ones.
pub(crate) fn ranking(rows: &[RowOutcome], tier: Tier) -> Option<f64> {
    let scores = |outside: bool| -> Vec<f64> {
        rows.iter()
            .filter(|row| row.out_of_scope == outside)
            .filter_map(|row| row.tiers.iter().find(|o| o.tier == tier))
            .map(|o| o.confidence)
            .collect()
    };
    metrics::auroc(&scores(false), &scores(true)).map(|estimate| estimate.value)
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

pub(crate) fn run(world: &World) -> Outcome<()> {
    println!("\nAll training rows, official test (mean of {} seeds)", SEEDS.len());
    println!(
        "{:<24}{:>10}{:>10}{:>14}{:>14}{:>12}{:>12}",
        "", "static", "encoder", "oos static", "oos encoder", "fit static", "fit head"
    );
    for set in [world.banking77()?, world.clinc150()?].into_iter().flatten() {
        let mut found: Vec<[f64; 6]> = Vec::new();
        for seed in SEEDS {
            let (task, trained) = world.train(&set, &set.train, seed)?;
            let rows = world.judge(&set, &task, &trained, &set.test)?;
            let seconds = |tier| {
                trained.summary.questions[0].tiers.iter().find(|t| t.tier == tier).map_or(0.0, |t| t.seconds)
            };
            found.push([
                accuracy(&rows, Tier::Static),
                accuracy(&rows, Tier::Encoder),
                ranking(&rows, Tier::Static).unwrap_or(f64::NAN),
                ranking(&rows, Tier::Encoder).unwrap_or(f64::NAN),
                seconds(Tier::Static),
                seconds(Tier::Encoder),
            ]);
        }
        let column = |i: usize| mean(&found.iter().map(|row| row[i]).collect::<Vec<_>>());
        println!(
            "{:<24}{:>10.4}{:>10.4}{:>14.4}{:>14.4}{:>10.1} s{:>10.1} s",
            set.name,
            column(0),
            column(1),
            column(2),
            column(3),
            column(4),
            column(5)
        );
    }
    Ok(())
}

pub(crate) fn few_shot(world: &World) -> Outcome<()> {
    println!("\nEight examples a label, official test, in-scope rows (mean of {} seeds)", SEEDS.len());
    println!("{:<24}{:>10}{:>10}{:>12}", "", "static", "encoder", "seconds");
    for set in [world.banking77()?, world.clinc150()?].into_iter().flatten() {
        let mut found: Vec<[f64; 3]> = Vec::new();
        for seed in SEEDS {
            let began = Instant::now();
            let (task, trained) = world.train(&set, &set.few(8, seed), seed)?;
            let rows = world.judge(&set, &task, &trained, &inside(&set))?;
            found.push([
                accuracy(&rows, Tier::Static),
                accuracy(&rows, Tier::Encoder),
                began.elapsed().as_secs_f64(),
            ]);
        }
        let column = |i: usize| mean(&found.iter().map(|row| row[i]).collect::<Vec<_>>());
        println!("{:<24}{:>10.4}{:>10.4}{:>10.1} s", set.name, column(0), column(1), column(2));
    }
    Ok(())
}

pub(crate) fn inside(set: &Set) -> Vec<crate::public::Row> {
    set.test.iter().filter(|(_, label)| label.is_some()).cloned().collect()
}
