//! What does compressing the encoder for a task cost, in accuracy, and what does it save, in time and bytes?
//!
//! The search is the command's own; test rows are read once, for the chosen variant. `SETS` names the sets. `COMPRESS` changes
//! settings for a trial, as in `COMPRESS=layers=3,eighths=8,epochs=4,rate=3e-4` or `mb=9` for a bound of bytes; trials go with `NO_TEST=1`, which leaves them to training
//! rows that the variant has not seen.

use crate::{
    adapt::wanted,
    public::{Outcome, Set, World},
};
use sizewise_learn::compress::{self, Bound, Compressed, Outline, Progress, Settings, Watch};
use sizewise_models::{builtin, encoder::Encoder};
use std::sync::{Mutex, atomic::AtomicBool};

fn settings(trial: &str) -> Outcome<Settings> {
    let mut settings = Settings::new(Bound { share_of_time: Some(0.5), ..Bound::default() });
    settings.threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut layers, mut eighths) = (None, 8);
    for (key, value) in trial.split(',').filter_map(|pair| pair.split_once('=')) {
        match key {
            "layers" => layers = Some(value.parse()?),
            "eighths" => eighths = value.parse()?,
            "epochs" => settings.epochs = Some(value.parse()?),
            "rate" => settings.learning_rate = value.parse()?,
            "whole" => settings.whole_of = value.parse()?,
            "share" => settings.bound.share_of_time = Some(value.parse()?),
            "mb" => {
                settings.bound =
                    Bound { max_bytes: Some((value.parse::<f64>()? * 1e6) as u64), ..Bound::default() }
            }
            _ => return Err(format!("COMPRESS: no setting is called {key}").into()),
        }
    }
    settings.only = layers.map(|layers| Outline { layers, eighths });
    Ok(settings)
}

fn compressed(set: &Set, settings: &Settings) -> Outcome<Compressed> {
    let (task, rows) = (set.task()?, set.training_rows(&set.train)?);
    let unseen = compress::unseen(&rows, settings.seed);
    let stop = AtomicBool::new(false);
    let told = Mutex::new((String::new(), 0));
    let progress = |progress: &Progress| {
        let tenth = progress.done * 10 / progress.of.max(1);
        if let Ok(mut told) = told.lock()
            && *told != (progress.step.clone(), tenth)
        {
            *told = (progress.step.clone(), tenth);
            let left = progress.seconds_left.map_or_else(String::new, |left| format!(", {left:.0} s to go"));
            eprintln!("  {}: {} of {}{left}", progress.step, progress.done, progress.of);
        }
    };
    let watch = Watch { progress: &progress, stop: &stop, checkpoint: None, resume: false };
    Ok(compress::compress(&builtin::encoder_files(), (&task, &rows, &unseen), settings, &watch)?)
}

/// Accuracy of linear heads on the official test: of the whole encoder, the chosen variant, and the variant before rounding.
fn tested(set: &Set, found: &Compressed, threads: usize) -> Outcome<Vec<(&'static str, f64)>> {
    let task = set.task()?;
    let all = [set.train.clone(), set.test.clone()].concat();
    let judging: Vec<bool> = (0..all.len()).map(|row| row >= set.train.len()).collect();
    let mut encoders =
        vec![("whole", builtin::encoder()?), ("taken", Encoder::from_files(&found.files.as_ref())?)];
    if let Some(floats) = &found.floats {
        encoders.push(("taken, float32, all words", Encoder::from_files(&floats.as_ref())?));
    }
    let references: Vec<&Encoder> = encoders.iter().map(|(_, encoder)| encoder).collect();
    let answers = compress::judge((&task, &set.training_rows(&all)?, &judging), &references, threads)?;
    let share = |answers: Vec<bool>| {
        answers.iter().filter(|right| **right).count() as f64 / answers.len().max(1) as f64
    };
    Ok(encoders.iter().map(|(name, _)| *name).zip(answers.into_iter().map(share)).collect())
}

pub(crate) fn run(world: &World) -> Outcome<()> {
    let trial = std::env::var("COMPRESS").unwrap_or_default();
    println!(
        "\nCompressing the built-in encoder to half of its time, judged on training rows that it never saw"
    );
    for set in wanted(world)? {
        let settings = settings(&trial)?;
        let found = compressed(&set, &settings)?;
        println!(
            "{}: recovered on {} texts, judged on {} rows, {:.0} s",
            set.name, found.texts, found.judging_rows, found.seconds
        );
        println!(
            "  {:<36}{:>6}{:>8}{:>8}{:>10}{:>8}{:>10}{:>30}",
            "", "bits", "MB", "words", "ms", "share", "accuracy", "difference"
        );
        for variant in &found.variants {
            let difference = variant.difference.map_or_else(String::new, |found| {
                let [value, low, high] = [found.value, found.low, found.high].map(|share| share * 100.0);
                format!("{value:+.2} ({low:+.2} to {high:+.2})")
            });
            println!(
                "  {:<36}{:>6}{:>8.1}{:>8}{:>10.3}{:>8.2}{:>10.4}{:>30}{}",
                variant.outline.to_string(),
                variant.bits,
                variant.bytes as f64 / 1e6,
                variant.vocabulary,
                variant.ms,
                variant.share_of_time,
                variant.accuracy.map_or(f64::NAN, |share| share.value),
                difference,
                if variant.chosen { "  taken" } else { "" }
            );
        }
        if std::env::var_os("NO_TEST").is_none() {
            let tested = tested(&set, &found, settings.threads)?;
            let told: Vec<String> = tested.iter().map(|(name, share)| format!("{name} {share:.4}")).collect();
            println!("  official test, linear heads alone: {}", told.join("; "));
        }
    }
    Ok(())
}
