//! What does the product reach on the public data sets?
//!
//! `cargo run --release -p sizewise-learn --example figures -- [quality|few-shot|certificates|adapt|adapt-few|adapt-plan|teach] [--resamples N]`
//!
//! Reads the folder in `SIZEWISE_SHARED` (default `../shared`) and skips, by name, what is not there.

mod adapt;
mod certificates;
mod public;
mod quality;
mod teach;

use std::{path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let shared =
        std::env::var_os("SIZEWISE_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    let resamples = arguments
        .iter()
        .position(|a| a == "--resamples")
        .and_then(|at| arguments.get(at + 1)?.parse().ok())
        .unwrap_or(200);
    let known = ["quality", "few-shot", "certificates", "adapt", "adapt-few", "adapt-plan", "teach"];
    let (figures, others): (Vec<&str>, Vec<&str>) =
        arguments.iter().map(String::as_str).partition(|argument| known.contains(argument));
    if others.iter().any(|argument| *argument != "--resamples" && argument.parse::<usize>().is_err()) {
        eprintln!("usage: figures [{}] [--resamples N]; without a name, all of them", known.join("|"));
        return ExitCode::from(2);
    }
    let asked = |name: &str| figures.is_empty() || figures.contains(&name);
    let run = || -> Result<(), Box<dyn std::error::Error>> {
        let world = public::World::open(&shared)?;
        if asked("quality") {
            quality::run(&world)?;
        }
        if asked("few-shot") {
            quality::few_shot(&world)?;
        }
        if asked("certificates") {
            certificates::run(&world, resamples)?;
        }
        if asked("adapt") {
            adapt::run(&world)?;
        }
        if asked("adapt-few") {
            adapt::few_shot(&world)?;
        }
        if asked("adapt-plan") {
            adapt::plan(&world, resamples)?;
        }
        if asked("teach") {
            teach::run(&world)?;
        }
        Ok(())
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
