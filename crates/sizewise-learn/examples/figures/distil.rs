//! What does a static tier gain from an encoder that teaches it?
//!
//! `SETS` names the sets, `TEACHER` the folder of another encoder than the built-in one; with `TEACHER=adapted` it is first adapted to the
//! training rows, in the way that `ADAPT` says. With `TRIAL=1` four fifths of the training
//! rows teach and the others judge: what is chosen is chosen by them, as test rows tell no more once they have.

use super::{
    adapt::{adapted, wanted},
    public::{Outcome, Row, Set, World},
    quality::{accuracy, inside},
};
use sizewise_contract::{Task, Tier};
use sizewise_models::{builtin, encoder::Encoder};
use std::{path::Path, time::Instant};

/// Of a static tier alone, and of one below an encoder; then of both with half of the labels, the other half as texts without.
pub(crate) fn run(world: &World) -> Outcome<()> {
    println!(
        "\nStatic tier with labels alone, and taught by the encoder too (seed 1; official test, in-scope rows)"
    );
    println!(
        "{:<24}{:<10}{:>8}{:>10}{:>10}{:>10}{:>10}{:>8}{:>10}",
        "", "cascade", "rows", "texts", "static", "taught", "encoder", "kept", "seconds"
    );
    let teacher = std::env::var("TEACHER").ok();
    let is_trial = std::env::var("TRIAL").is_ok();
    for mut set in wanted(world)? {
        if is_trial {
            let (judging, teaching): (Vec<_>, Vec<_>) =
                std::mem::take(&mut set.train).into_iter().enumerate().partition(|(row, _)| row % 5 == 0);
            set.train = teaching.into_iter().map(|(_, row)| row).collect();
            set.test = judging.into_iter().map(|(_, row)| row).collect();
        }
        let encoder = match teacher.as_deref() {
            None => None,
            Some("adapted") => {
                let files = adapted(&set, &set.train, 1)?.serving.files(&builtin::encoder_files())?;
                Some(Encoder::from_files(&files.as_ref())?)
            }
            Some(folder) => Some(Encoder::load(Path::new(folder))?),
        };
        let taught = encoder.map(|encoder| world.with_encoder(encoder)).transpose()?;
        let world = taught.as_ref().unwrap_or(world);
        let alone = set.task_with("[cascade]\ntiers = [\"static\"]\n")?;
        let both = set.task()?;
        let rows = || set.train.iter().enumerate();
        let half: Vec<Row> = rows().filter(|(row, _)| row % 2 == 0).map(|(_, row)| row.clone()).collect();
        let texts: Vec<String> =
            rows().filter(|(row, _)| row % 2 == 1).map(|(_, (text, _))| text.clone()).collect();
        line(world, &set, ("static", &alone), (&set.train, &[]))?;
        if is_trial || teacher.is_some() {
            continue;
        }
        line(world, &set, ("both", &both), (&set.train, &[]))?;
        line(world, &set, ("static", &alone), (&half, &texts))?;
        line(world, &set, ("both", &both), (&half, &texts))?;
    }
    Ok(())
}

fn line(
    world: &World,
    set: &Set,
    (name, task): (&str, &Task),
    (rows, unlabelled): (&[Row], &[String]),
) -> Outcome<()> {
    let plain = world.train_task(set, task, rows, 1)?;
    let began = Instant::now();
    let taught = world.train_distilled(set, task, (rows, unlabelled), 1)?;
    let seconds = began.elapsed().as_secs_f64();
    let test = inside(set);
    let of = |trained, tier| -> Outcome<f64> { Ok(accuracy(&world.judge(set, task, trained, &test)?, tier)) };
    let distilled = taught.summary.questions[0].distilled.as_ref();
    println!(
        "{:<24}{name:<10}{:>8}{:>10}{:>10.4}{:>10.4}{:>10.4}{:>8}{seconds:>8.0} s",
        set.name,
        rows.len(),
        distilled.map_or(0, |distilled| distilled.texts),
        of(&plain, Tier::Static)?,
        of(&taught, Tier::Static)?,
        of(&taught, Tier::Encoder)?,
        distilled.is_some_and(|distilled| distilled.kept),
    );
    Ok(())
}
