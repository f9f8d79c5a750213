//! What does adapting the encoder to a task buy, what does rounding it cost, and does the plan of its certificate hold?
//!
//! Settings are the defaults; `ADAPT` changes them for a trial, as in `ADAPT=method=lora,epochs=3,rate=5e-4`, and `SETS`
//! names the sets. Trials are judged on the training rows that the encoder has not seen, never on test rows.

use crate::{
    public::{Outcome, Row, Set, World},
    quality::{accuracy, inside, mean, ranking},
};
use sizewise_contract::Tier;
use sizewise_learn::{
    adapt::{self, Adaptation, Method, Plan, Precision, Progress, Settings, Split, Watch},
    train::Unseen,
};
use sizewise_measure::random::Random;
use sizewise_models::{builtin, encoder::Encoder};
use std::{sync::atomic::AtomicBool, time::Instant};

fn settings(rows: usize, classes: usize, seed: u64) -> Outcome<Settings> {
    let wanted = std::env::var("ADAPT").unwrap_or_default();
    settings_of(&wanted, (rows, classes, seed))
}

fn settings_of(wanted: &str, (rows, classes, seed): (usize, usize, u64)) -> Outcome<Settings> {
    let pairs = || wanted.split(',').filter_map(|pair| pair.split_once('='));
    let find = |name: &str| pairs().find(|(key, _)| *key == name).map(|(_, value)| value);
    let rank = find("rank").map_or(Ok(16), str::parse)?;
    let method = match find("method") {
        Some("lora") => Settings::lora(rank),
        Some("head") => Method::Head,
        Some(last) if last.starts_with("last") => Method::LastLayers(last[4..].parse()?),
        _ => Method::Full,
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut settings = Settings { seed, threads, ..Settings::new(method, rows, classes) };
    for (key, value) in pairs() {
        match key {
            "epochs" => settings.epochs = value.parse()?,
            "rate" => settings.learning_rate = value.parse()?,
            "head" => settings.head_learning_rate = value.parse()?,
            "batch" => settings.batch = value.parse()?,
            "dropout" => settings.dropout = value.parse()?,
            "precision" if value == "float" => settings.precision = Precision::Float32,
            "smoothing" => settings.label_smoothing = value.parse()?,
            "decay" => settings.weight_decay = value.parse()?,
            "kept" => settings.kept_change = value.parse()?,
            "temperature" => settings.temperature = Some(value.parse()?).filter(|t| *t > 0.0),
            _ => {}
        }
    }
    Ok(settings)
}

pub(crate) fn wanted(world: &World) -> Outcome<Vec<Set>> {
    let names = std::env::var("SETS").unwrap_or_else(|_| "BANKING77,CLINC150".into());
    let sets = [world.banking77()?, world.clinc150()?].into_iter().flatten();
    Ok(sets.filter(|set| names.split(',').any(|name| name == set.name)).collect())
}

pub(crate) fn adapted(set: &Set, rows: &[Row], seed: u64) -> Outcome<Adaptation> {
    adapted_with(set, rows, &settings(rows.len(), set.classes.len(), seed)?)
}

fn adapted_with(set: &Set, rows: &[Row], settings: &Settings) -> Outcome<Adaptation> {
    let (task, rows) = (set.task()?, set.training_rows(rows)?);
    let plan = Plan::of(&rows, settings.seed);
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let progress = |progress: &Progress| {
        if progress.step.is_multiple_of(50) {
            eprintln!(
                "  training {} of {} step {}/{} epoch {} loss {:.4} {:.0} s, {:.0} s to go",
                progress.training,
                progress.trainings,
                progress.step,
                progress.steps,
                progress.epoch,
                progress.loss,
                began.elapsed().as_secs_f64(),
                progress.seconds_left
            );
        }
    };
    let watch = Watch { progress: &progress, stop: &stop, checkpoint: None, resume: false };
    let adapted = adapt::adapt(&builtin::encoder_files(), (&task, &rows, plan), (settings, false), &watch)?;
    for one in adapted.folds.iter().chain([&adapted.serving]) {
        for (number, epoch) in one.epochs.iter().enumerate() {
            println!(
                "  {} rows, epoch {number}: loss {:.4}, held-out {} of {}, {:.1} s{}",
                one.trained_rows,
                epoch.loss,
                epoch.right,
                epoch.held_out,
                epoch.seconds,
                if number == one.best_epoch { ", kept" } else { "" }
            );
        }
    }
    Ok(adapted)
}

/// Accuracy on unseen rows, test accuracy and ranking of out-of-scope rows of a world's encoder tier.
fn judged(world: &World, set: &Set, rows: &[Row], seen: (u64, Option<Unseen<'_>>)) -> Outcome<[f64; 3]> {
    let (task, trained) = world.train_with(set, rows, seen)?;
    let test = world.judge(set, &task, &trained, &set.test)?;
    Ok([
        accuracy(&trained.development[0], Tier::Encoder),
        accuracy(&test, Tier::Encoder),
        ranking(&test, Tier::Encoder).unwrap_or(f64::NAN),
    ])
}

pub(crate) fn run(world: &World) -> Outcome<()> {
    println!("\nAdapting the built-in encoder, all training rows; encoder tier; official test");
    for set in wanted(world)? {
        let tried = adapted(&set, &set.train, 1)?;
        let base = builtin::encoder_files();
        let (bytes, floats) = (tried.serving.files(&base)?, tried.serving.float_files(&base)?);
        // The same rows judge the encoder as it was, also where it stayed so.
        let unseen = tried.plan.splits.last().map(|split| Unseen::Rows(&split.unseen));
        let mut rows = vec![("frozen", judged(world, &set, &set.train, (1, unseen))?)];
        for (name, files) in [("adapted, 8 bits", &bytes), ("adapted, float32", &floats)] {
            let other = world.with_encoder(Encoder::from_files(&files.as_ref())?)?;
            rows.push((name, judged(&other, &set, &set.train, (1, unseen))?));
        }
        println!(
            "{}: {} rows in training, {} never seen, adapted in {:.0} s",
            set.name,
            tried.serving.trained_rows,
            tried.unseen_rows(),
            tried.serving.seconds
        );
        println!("  {:<20}{:>14}{:>10}{:>12}", "", "unseen rows", "test", "oos AUROC");
        for (name, [seen, test, oos]) in rows {
            println!("  {name:<20}{seen:>14.4}{test:>10.4}{oos:>12.4}");
        }
    }
    Ok(())
}

/// Settings side by side, from `ADAPT` with semicolons between them, on a draw of so many rows a label (`TRIAL=rows,judged,seed`;
/// 0 are all that are not judged), judged on other training rows.
pub(crate) fn trial(world: &World) -> Outcome<()> {
    let numbers = std::env::var("TRIAL").unwrap_or_else(|_| "8,500,1".into());
    let numbers: Vec<usize> = numbers.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let (many, judged, seed) = (numbers[0], numbers[1], numbers[2] as u64);
    for set in wanted(world)? {
        let mut others = set.few(usize::MAX, seed ^ 0xff);
        let rows = match many {
            0 => others.split_off(judged.min(others.len())),
            many => set.few(many, seed),
        };
        let mut all = rows.clone();
        let known: std::collections::HashSet<&str> = rows.iter().map(|(text, _)| text.as_str()).collect();
        others.retain(|(text, _)| !known.contains(text.as_str()));
        others.truncate(judged);
        all.extend(others);
        let (task, table) = (set.task()?, set.training_rows(&all)?);
        let split = Split {
            unseen: (0..all.len()).map(|row| row >= rows.len()).collect(),
            train: (0..rows.len()).collect(),
            choose: true,
        };
        let plan = Plan { splits: vec![split], folds: Vec::new() };
        let stop = AtomicBool::new(false);
        let watch = Watch { progress: &|_| (), stop: &stop, checkpoint: None, resume: false };
        for wanted in std::env::var("ADAPT").unwrap_or_default().split(';') {
            let settings = settings_of(wanted, (rows.len(), set.classes.len(), seed))?;
            let base = builtin::encoder_files();
            let Adaptation { serving: adapted, .. } =
                adapt::adapt(&base, (&task, &table, plan.clone()), (&settings, false), &watch)?;
            let curve: Vec<String> = adapted
                .epochs
                .iter()
                .map(|epoch| format!("{:.3}", epoch.accuracy().unwrap_or(0.0)))
                .collect();
            println!("{} {wanted}: {} in {:.0} s", set.name, curve.join(" "), adapted.seconds);
        }
    }
    Ok(())
}

/// Settings side by side as they serve: trained on all training rows but so many (`TRIAL=judged,seed`), which then judge accuracy and
/// certificates; before them the encoder as it was.
pub(crate) fn cascade_trial(world: &World) -> Outcome<()> {
    const PROMISES: [f64; 3] = [0.02, 0.03, 0.05];
    let numbers = std::env::var("TRIAL").unwrap_or_else(|_| "2000,1".into());
    let numbers: Vec<usize> = numbers.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let (judged, seed) = (numbers[0], numbers[1] as u64);
    for set in wanted(world)? {
        let mut judging = set.train.clone();
        Random::new(seed ^ 0xff).shuffle(&mut judging);
        let rows = judging.split_off(judged.min(judging.len()));
        let report = |name: &str, world: &World, unseen: Option<Unseen<'_>>| -> Outcome<()> {
            let (task, trained) = world.train_with(&set, &rows, (seed, unseen))?;
            let pool = world.judge(&set, &task, &trained, &judging)?;
            println!(
                "  {name}: {:.4} right of the development rows, {:.4} of those that judge",
                accuracy(&trained.development[0], Tier::Encoder),
                accuracy(&pool, Tier::Encoder)
            );
            let draws = (judging.len() / 2, 200);
            crate::certificates::report(&set, (&pool, &trained.development[0]), draws, &PROMISES);
            Ok(())
        };
        report("frozen", world, None)?;
        for wanted in std::env::var("ADAPT").unwrap_or_default().split(';') {
            let settings = settings_of(wanted, (rows.len(), set.classes.len(), seed))?;
            let tried = adapted_with(&set, &rows, &settings)?;
            let encoder = Encoder::from_files(&tried.serving.files(&builtin::encoder_files())?.as_ref())?;
            report(wanted, &world.with_encoder(encoder)?, tried.unseen(&[]))?;
        }
    }
    Ok(())
}

pub(crate) fn few_shot(world: &World) -> Outcome<()> {
    println!(
        "\nAdapting to eight examples a label, official test, in-scope rows; encoder tier (mean of 3 seeds)"
    );
    for set in wanted(world)? {
        let (mut frozen, mut found, mut seconds) = (Vec::new(), Vec::new(), Vec::new());
        for seed in [1, 2, 3] {
            let rows = set.few(8, seed);
            let tried = adapted(&set, &rows, seed)?;
            let base = builtin::encoder_files();
            let folds = tried.fold_encoders(&base, 1)?;
            let other = world.with_encoder(Encoder::from_files(&tried.serving.files(&base)?.as_ref())?)?;
            for (world, unseen, into) in
                [(world, None, &mut frozen), (&other, tried.unseen(&folds), &mut found)]
            {
                let (task, trained) = world.train_with(&set, &rows, (seed, unseen))?;
                into.push(accuracy(&world.judge(&set, &task, &trained, &inside(&set))?, Tier::Encoder));
            }
            let all = tried.folds.iter().chain([&tried.serving]);
            seconds.push(all.map(|one| one.seconds).sum());
            eprintln!(
                "  seed {seed}: frozen {:.4}, adapted {:.4}",
                mean(&frozen[frozen.len() - 1..]),
                mean(&found[found.len() - 1..])
            );
        }
        println!(
            "{:<24} frozen {:.4}, adapted {:.4}, in {:.0} s",
            set.name,
            mean(&frozen),
            mean(&found),
            mean(&seconds)
        );
    }
    Ok(())
}

/// The certificate's plan, once from rows that the encoder has not seen and once from all rows, as if it had not seen them.
pub(crate) fn plan(world: &World, resamples: usize) -> Outcome<()> {
    println!("\nCertificates of an adapted encoder, by the rows that plan and calibrators were fitted to");
    for set in wanted(world)? {
        let tried = adapted(&set, &set.train, 1)?;
        let files = tried.serving.files(&builtin::encoder_files())?;
        let world = world.with_encoder(Encoder::from_files(&files.as_ref())?)?;
        for (name, unseen) in [("unseen rows", tried.unseen(&[])), ("all rows", None)] {
            println!("plan from {name}:");
            let (task, trained) = world.train_with(&set, &set.train, (1, unseen))?;
            let pool = world.judge(&set, &task, &trained, &set.test)?;
            let rows = (pool.as_slice(), trained.development[0].as_slice());
            crate::certificates::report(&set, rows, (1_500, resamples), &[0.02, 0.03, 0.05]);
        }
    }
    Ok(())
}
