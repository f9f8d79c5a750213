//! What does the product reach on the public data sets?
//!
//! `cargo run --release -p sizewise-learn --example figures -- [NAME…] [--resamples N]`; without a name, all of [`FIGURES`].
//!
//! Reads the folder in `SIZEWISE_SHARED` (default `../shared`) and skips, by name, what is not there.

mod adapt;
mod certificates;
mod compress;
mod distil;
mod kinds;
mod public;
mod quality;
mod queue;
mod shift;
mod similar;
mod speed;
mod teach;
mod year;

use public::{Outcome, World};
use std::{path::PathBuf, process::ExitCode};

/// Prints figures; the number is that of the resamples.
type Figure = fn(&World, usize) -> Outcome<()>;

/// Every figure by its name.
const FIGURES: [(&str, Figure); 15] = [
    ("quality", |world, _| quality::run(world)),
    ("few-shot", |world, _| quality::few_shot(world)),
    ("distil", |world, _| distil::run(world)),
    ("certificates", certificates::run),
    ("similar", similar::run),
    ("year", year::run),
    ("static", |world, _| speed::run(world)),
    ("adapt", |world, _| adapt::run(world)),
    ("adapt-few", |world, _| adapt::few_shot(world)),
    ("adapt-plan", adapt::plan),
    ("compress", |world, _| compress::run(world)),
    ("teach", |world, _| teach::run(world)),
    ("kinds", |world, resamples| kinds::run(world, resamples.min(40))),
    ("shift", shift::run),
    ("queue", |world, _| queue::run(world)),
];
/// What is printed only where it is asked for by name: settings on trial, judged on training rows.
const TRIALS: [(&str, Figure); 3] = [
    ("adapt-trial", |world, _| adapt::trial(world)),
    ("adapt-cascade", |world, _| adapt::cascade_trial(world)),
    ("queue-trial", |world, _| queue::trial(world)),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut resamples, mut asked) = (200, Vec::new());
    while let Some(argument) = arguments.next() {
        let known = FIGURES.iter().chain(&TRIALS).find(|(name, _)| *name == argument);
        match (known, argument.as_str()) {
            (Some(figure), _) => asked.push(figure),
            (None, "--resamples") => match arguments.next().and_then(|number| number.parse().ok()) {
                Some(number) => resamples = number,
                None => return usage(),
            },
            _ => return usage(),
        }
    }
    let shared =
        std::env::var_os("SIZEWISE_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    let asked = if asked.is_empty() { FIGURES.iter().collect() } else { asked };
    let run = || -> Outcome<()> {
        let world = World::open(&shared)?;
        asked.iter().try_for_each(|(_, figure)| figure(&world, resamples))
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    let names: Vec<&str> = FIGURES.iter().chain(&TRIALS).map(|(name, _)| *name).collect();
    eprintln!("usage: figures [{}]… [--resamples N]; without a name, all figures", names.join("|"));
    ExitCode::from(2)
}
