//! `sizewise compress`: how small and fast may a task's encoder be, and what does that cost?
//!
//! The checkpoints lie in `.sizewise/compress/TASK`, one folder for each outline, until the release is published. The release
//! is made as `train --adapt` makes one: calibrated on rows that the encoder never saw, and to be certified before it is in force where a
//! certified one is.

use super::{
    DONE,
    adapt::{Origin, epochs_kept},
    distil, models,
    recipe::{self, ModelUsed, Recipe},
    train::{Made, json, text as trained_text},
    trained::{ADAPTED, COMPRESSED, store, threads, whole_encoder_files},
};
use crate::{
    cli::Compress,
    clock,
    error::{Error, Result},
    project::Project,
    screen::Screen,
    table::{Align, Table, percent, with_interval},
};
use serde::Serialize;
use sizewise_contract::{ContentHash, Task, Tier};
use sizewise_learn::{
    adapt::SPLIT_RULE,
    compress::{self, Bound, Compressed, Progress, Settings, Variant, Watch},
    dataset::{Locked, TrainingRows, read_gold},
    train::{self, Tools, TrainSummary, Unseen},
};
use sizewise_models::{
    builtin,
    encoder::{Encoder, EncoderFiles},
};
use sizewise_store::Release;
use std::{fmt::Write, sync::Mutex};

/// Of the encoder's time, where no bound is given.
const SHARE_OF_TIME: f64 = 0.5;

#[derive(Serialize)]
struct CompressResult<'a> {
    task: &'a str,
    release: ContentHash,
    in_force: bool,
    #[serde(flatten)]
    found: &'a CompressSummary,
    summary: &'a TrainSummary,
}

/// What compressing came to, kept with the release.
#[derive(Serialize)]
struct CompressSummary {
    bound: Bound,
    /// Texts that variants recovered on.
    texts: usize,
    /// Rows that no variant saw: they judge, and calibrators and the plan of a certificate are fitted to them.
    unseen_rows: usize,
    seconds: f64,
    variants: Vec<Variant>,
}

pub(super) fn run(project: &Project, arguments: &Compress, screen: &Screen) -> Result<u8> {
    make(project, arguments, screen).map(|_| DONE)
}

/// Makes a release, tells what came of it, and returns both.
pub(super) fn make(
    project: &Project,
    arguments: &Compress,
    screen: &Screen,
) -> Result<(Release, TrainSummary)> {
    let task = project.task(&arguments.task)?;
    if !task.cascade.tiers.allowed().contains(&Tier::Encoder) {
        return Err(Error::usage("the task's cascade has no encoder tier to compress"));
    }
    let folder = project.task_folder(&task.name);
    let file = folder.join("task.toml");
    let task_file = std::fs::read_to_string(&file).map_err(|cause| Error::file(&file, cause))?;
    let rows = TrainingRows::read(&task, &folder)?;
    let dev = read_gold(&task, &folder.join(&task.data.dev))?;
    let locked = Locked::find(&task, &folder)?;
    let settings = settings(arguments);
    let own = match &arguments.encoder {
        Some(named) => {
            let files = models::encoder_files(project, named)?;
            let used = ModelUsed::named_encoder(&store(project)?, named, &files)?;
            Some((files, used))
        }
        None => adapted(project, (&task, train::rows_hash(&rows, &dev)), settings.seed, screen)?,
    };
    let (own, used) = own.unzip();
    let used = used.unwrap_or_else(ModelUsed::builtin_encoder);
    let base: EncoderFiles<&[u8]> = match &own {
        Some(files) => files.as_ref(),
        None => builtin::encoder_files(),
    };
    // What was written teaches the tiers alone: beside rows that judge the encoder it might give them away.
    let sent = rows.without_written();
    let unseen = compress::unseen(&sent, settings.seed);
    let checkpoint = project.store_folder().join("compress").join(&task.name);
    if !arguments.resume {
        // What an earlier run left is not gone on with.
        let _ = std::fs::remove_dir_all(&checkpoint);
    }
    let found = {
        let bar = screen.progress();
        let told = Told { screen, bar: &bar, step: Mutex::default() };
        let stop = screen.stop();
        let watch = Watch {
            progress: &|progress| told.at(progress),
            stop: &stop,
            checkpoint: Some(&checkpoint),
            resume: arguments.resume,
        };
        let found = compress::compress(&base, (&task, &sent, &unseen), &settings, &watch);
        bar.end();
        if matches!(found, Err(sizewise_learn::Error::Interrupted)) {
            screen.remark(epochs_kept(arguments.resume));
        }
        found?
    };
    let encoder = Encoder::from_files(&found.files.as_ref())?.with_threads(settings.threads);
    let static_embeddings = builtin::static_embeddings()?;
    let used = vec![ModelUsed::static_embeddings(&static_embeddings), used];
    let recipe = Recipe::of_compress(arguments, (&task, &folder), used)?;
    let whole = Encoder::from_files(&base)?.with_threads(settings.threads);
    let unlabelled = distil::unlabelled(project, &task, (&arguments.distil, &whole), screen)?;
    let (progress, stop) = (screen.progress(), screen.stop());
    let tools = Tools {
        static_embeddings: &static_embeddings,
        encoder: Some(&encoder),
        threads: settings.threads,
        seed: settings.seed,
        balance: settings.balance,
        progress: &|step, done, of| progress.at(step, done, of),
        stop: &stop,
        unseen: Some(Unseen::Rows(&unseen)),
        distil: unlabelled.as_deref().map(|unlabelled| train::Distil { encoder: &whole, unlabelled }),
    };
    let trained = train::train(&task, &rows, &dev, tools)?;
    progress.end();
    let Compressed { files, variants, texts, judging_rows, seconds, .. } = found;
    let found =
        CompressSummary { bound: settings.bound, texts, unseen_rows: judging_rows, seconds, variants };
    let parts = vec![(COMPRESSED.to_owned(), json(&found)?)];
    let made = Made {
        task: &task,
        task_file: &task_file,
        trained: &trained,
        locked: &locked,
        encoder: Some(files),
        adapter: None,
        recipe,
        parts,
    };
    let (release, in_force) = made.publish(project)?;
    // The release holds what came of it; a folder that stays behind only takes room.
    let _ = std::fs::remove_dir_all(checkpoint);
    let result = CompressResult {
        task: &task.name,
        release: release.id,
        in_force,
        found: &found,
        summary: &trained.summary,
    };
    screen.result("compress", &result, || {
        found.text()
            + &distil::text(&trained.summary)
            + &trained_text(&task, &release, (&trained.summary, in_force), screen)
    });
    Ok((release, trained.summary))
}

/// The encoder that the task's latest release was made with, where it was adapted to the same rows and has not seen those that
/// judge here.
fn adapted(
    project: &Project,
    (task, rows): (&Task, ContentHash),
    seed: u64,
    screen: &Screen,
) -> Result<Option<(EncoderFiles<Vec<u8>>, ModelUsed)>> {
    let store = store(project)?;
    let Some(release) = store.latest(&task.name)? else { return Ok(None) };
    let part = release.manifest.parts.iter().any(|part| part.name == ADAPTED);
    let same = release.manifest.contract == task.contract_hash() && release.manifest.training_rows == rows;
    if !part || !same {
        return Ok(None);
    }
    let Ok(origin) = serde_json::from_slice::<Origin>(&store.part(&release, ADAPTED)?) else {
        return Ok(None);
    };
    let why_not = match origin {
        Origin { best_epoch: 0, .. } => return Ok(None),
        Origin { set_aside: false, .. } => "has learnt from every row, so none is left to judge by",
        Origin { seed: other, .. } if other != seed => "was adapted with another --seed",
        Origin { split_rule, .. } if split_rule != SPLIT_RULE => "was adapted when other rows were set aside",
        _ => {
            screen.remark(&format!("Beginning with the adapted encoder of release {}.", release.id.short()));
            let Some(files) = whole_encoder_files(&store, &release)? else { return Ok(None) };
            let used = recipe::encoder_of(&store, &release, files.as_ref().hash())?;
            return Ok(Some((files, used)));
        }
    };
    screen.remark(&format!(
        "The encoder of release {} {why_not}: beginning with the built-in one.",
        release.id.short()
    ));
    Ok(None)
}

fn settings(arguments: &Compress) -> Settings {
    let unbound = arguments.max_ms.is_none() && arguments.max_mb.is_none();
    let bound = Bound {
        max_ms: arguments.max_ms,
        max_bytes: arguments.max_mb.map(|mb| (mb * 1e6) as u64),
        share_of_time: arguments.share_of_time.or(unbound.then_some(SHARE_OF_TIME)),
    };
    Settings {
        epochs: arguments.epochs.map(usize::from),
        balance: arguments.balance,
        seed: arguments.seed,
        threads: arguments.threads.unwrap_or_else(threads).max(1),
        ..Settings::new(bound)
    }
}

/// Says which step is under way.
struct Told<'a> {
    screen: &'a Screen,
    bar: &'a crate::screen::Progress,
    step: Mutex<String>,
}

impl Told<'_> {
    fn at(&self, progress: &Progress) {
        if let Ok(mut step) = self.step.lock()
            && *step != progress.step
        {
            self.bar.end();
            let left = progress
                .seconds_left
                .map_or_else(String::new, |left| format!(", about {} to go", clock::duration(left)));
            self.screen.remark(&format!("compress: {}{left}", progress.step));
            step.clone_from(&progress.step);
        }
        if progress.of > 1 {
            self.bar.at("compress", progress.done as usize, progress.of as usize);
        }
    }
}

impl CompressSummary {
    /// One line a variant.
    fn text(&self) -> String {
        let mut out = format!(
            "Variants of the encoder, recovered on {} texts and judged on {} rows that none of them saw ({}):\n",
            self.texts,
            self.unseen_rows,
            clock::duration(self.seconds)
        );
        let mut table = Table::new(&[
            ("variant", Align::Left),
            ("MB", Align::Right),
            ("ms a text", Align::Right),
            ("of the time", Align::Right),
            ("right, of all in scope", Align::Left),
            ("beside the whole", Align::Left),
            ("", Align::Left),
        ]);
        let whole = self.variants.first().map_or(0, |variant| variant.vocabulary);
        for variant in &self.variants {
            let trimmed = if variant.vocabulary < whole { ", vocabulary trimmed" } else { "" };
            let bits = if variant.bits < 8 { format!(", {} bits", variant.bits) } else { String::new() };
            let difference = variant.difference.map_or_else(
                || "as it is".to_owned(),
                |found| {
                    let [value, low, high] = [found.value, found.low, found.high].map(|share| share * 100.0);
                    format!("{value:+.1} points ({low:+.1} to {high:+.1})")
                },
            );
            let told = match (variant.chosen, variant.within) {
                (true, _) => "taken",
                (_, true) => "within the bound",
                _ => "",
            };
            table.row([
                format!("{}{trimmed}{bits}", variant.outline),
                format!("{:.1}", variant.bytes as f64 / 1e6),
                format!("{:.2}", variant.ms),
                percent(variant.share_of_time),
                variant.accuracy.as_ref().map_or_else(String::new, with_interval),
                difference,
                told.to_owned(),
            ]);
        }
        out.push_str(&table.render());
        let _ = writeln!(out);
        out
    }
}
