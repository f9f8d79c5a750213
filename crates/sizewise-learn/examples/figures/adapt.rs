//! What does adapting the encoder to a task buy, what does rounding it cost, and does the plan of its certificate hold?
//!
//! Settings are the defaults; `ADAPT` changes them for a trial, as in `ADAPT=method=lora,epochs=3,rate=5e-4`, and `SETS`
//! names the sets. Trials are judged on the training rows that the encoder has not seen, never on test rows.

use crate::{
    public::{Outcome, Row, Set, World},
    quality::{accuracy, inside, mean, ranking},
};
use sizewise_contract::Tier;
use sizewise_learn::adapt::{self, Adapted, Method, Progress, Settings, Split, Watch};
use sizewise_models::{builtin, encoder::Encoder};
use std::{sync::atomic::AtomicBool, time::Instant};

/// What adapting came to.
struct Tried {
    adapted: Adapted,
    split: Split,
}

fn settings(rows: usize, classes: usize, seed: u64) -> Outcome<Settings> {
    let wanted = std::env::var("ADAPT").unwrap_or_default();
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
            "smoothing" => settings.label_smoothing = value.parse()?,
            "decay" => settings.weight_decay = value.parse()?,
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

fn adapted(set: &Set, rows: &[Row], seed: u64) -> Outcome<Tried> {
    let settings = settings(rows.len(), set.classes.len(), seed)?;
    let (task, rows) = (set.task()?, set.training_rows(rows)?);
    let split = Split::of(&rows, seed);
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let progress = |progress: &Progress| {
        if progress.step.is_multiple_of(50) {
            eprintln!(
                "  step {}/{} epoch {} loss {:.4} {:.0} s, {:.0} s to go",
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
    let adapted =
        adapt::adapt(&builtin::encoder_files(), (&task, &rows, &split), (&settings, false), &watch)?;
    for (number, epoch) in adapted.epochs.iter().enumerate() {
        println!(
            "  epoch {number}: loss {:.4}, held-out {} of {}, {:.1} s{}",
            epoch.loss,
            epoch.right,
            epoch.held_out,
            epoch.seconds,
            if number == adapted.best_epoch { ", kept" } else { "" }
        );
    }
    Ok(Tried { adapted, split })
}

/// Accuracy on unseen rows, test accuracy and ranking of out-of-scope rows of a world's encoder tier.
fn judged(world: &World, set: &Set, rows: &[Row], (seed, unseen): (u64, &[bool])) -> Outcome<[f64; 3]> {
    let (task, trained) = world.train_with(set, rows, (seed, Some(unseen)))?;
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
        let unseen = tried.split.unseen.as_slice();
        let base = builtin::encoder_files();
        let bytes = tried.adapted.files(&base)?;
        let floats = tried.adapted.float_files(&base)?;
        let rows = [
            ("frozen", judged(world, &set, &set.train, (1, unseen))?),
            (
                "adapted, 8 bits",
                judged(
                    &world.with_encoder(Encoder::from_files(&bytes.as_ref())?)?,
                    &set,
                    &set.train,
                    (1, unseen),
                )?,
            ),
            (
                "adapted, float32",
                judged(
                    &world.with_encoder(Encoder::from_files(&floats.as_ref())?)?,
                    &set,
                    &set.train,
                    (1, unseen),
                )?,
            ),
        ];
        println!(
            "{}: {} rows in training, {} never seen, adapted in {:.0} s",
            set.name,
            tried.adapted.trained_rows,
            unseen.iter().filter(|unseen| **unseen).count(),
            tried.adapted.seconds
        );
        println!("  {:<20}{:>14}{:>10}{:>12}", "", "unseen rows", "test", "oos AUROC");
        for (name, [seen, test, oos]) in rows {
            println!("  {name:<20}{seen:>14.4}{test:>10.4}{oos:>12.4}");
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
            let files = tried.adapted.files(&builtin::encoder_files())?;
            let other = world.with_encoder(Encoder::from_files(&files.as_ref())?)?;
            for (world, unseen, into) in
                [(world, None, &mut frozen), (&other, Some(tried.split.unseen.as_slice()), &mut found)]
            {
                let (task, trained) = world.train_with(&set, &rows, (seed, unseen))?;
                into.push(accuracy(&world.judge(&set, &task, &trained, &inside(&set))?, Tier::Encoder));
            }
            seconds.push(tried.adapted.seconds);
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
        let files = tried.adapted.files(&builtin::encoder_files())?;
        let world = world.with_encoder(Encoder::from_files(&files.as_ref())?)?;
        for (name, unseen) in [("unseen rows", Some(tried.split.unseen.as_slice())), ("all rows", None)] {
            println!("plan from {name}:");
            let (task, trained) = world.train_with(&set, &set.train, (1, unseen))?;
            let pool = world.judge(&set, &task, &trained, &set.test)?;
            crate::certificates::report(
                &set,
                (&pool, &trained.development[0]),
                (1_500, resamples),
                &[0.02, 0.03, 0.05],
            );
        }
    }
    Ok(())
}
