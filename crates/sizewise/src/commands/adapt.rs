//! `sizewise train TASK --adapt`: how is the encoder trained before the tiers are fitted, and what does it buy?
//!
//! The checkpoint lies in `.sizewise/adapt/TASK` until the release is published, so that Ctrl-C or a power cut costs one
//! epoch.

use crate::{
    cli::{AdaptMethod, AdaptPrecision, Train},
    clock,
    error::{Error, Result},
    project::Project,
    screen::Screen,
    table::percent,
};
use serde::{Deserialize, Serialize};
use sizewise_contract::{Task, Tier};
use sizewise_learn::{
    adapt::{self, Adaptation, EpochSummary, Method, Plan, Precision, Progress, SPLIT_RULE, Settings, Watch},
    dataset::TrainingRows,
    train::{TierSummary, TrainSummary, Unseen},
};
use sizewise_models::{
    builtin,
    encoder::{BaseWeights, Encoder, EncoderFiles},
};
use std::{
    fmt::Write,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Rank of low-rank changes unless another is asked for.
const RANK: u16 = 16;

/// An adapted encoder and what tells how good it is.
pub(super) struct AdaptedEncoder {
    pub(super) encoder: Encoder,
    /// Its files, or those of the encoder that its adapter changes; none where that is the built-in one.
    pub(super) files: Option<EncoderFiles<Vec<u8>>>,
    /// What was changed, where that is kept beside the encoder.
    pub(super) adapter: Option<Vec<u8>>,
    pub(super) checkpoint: PathBuf,
    /// Of a small table: those that judge it.
    folds: Vec<Encoder>,
    adapted: Adaptation,
}

/// What adapting came to.
#[derive(Debug, Serialize)]
pub(super) struct AdaptSummary {
    /// Rows that the encoder learnt from.
    trained_rows: usize,
    /// Rows that it, or the encoder of their fold, never saw: calibrators and the plan of a certificate are fitted to them.
    unseen_rows: usize,
    /// One entry per epoch; the first is the encoder as it was.
    epochs: Vec<EpochSummary>,
    seconds: f64,
    #[serde(flatten)]
    pub(super) origin: Origin,
    /// The encoder tier of each question with the encoder as it was, judged on the same rows.
    frozen: Vec<Option<TierSummary>>,
}

/// Which rows an adapted encoder has not seen.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Origin {
    /// Decides the rows that were set aside.
    pub(super) seed: u64,
    /// Whether rows were set aside; of a small table each row teaches.
    pub(super) set_aside: bool,
    /// By which rule; a release from before rules had numbers has 0.
    #[serde(default)]
    pub(super) split_rule: u8,
    /// The epoch whose weights were kept.
    pub(super) best_epoch: usize,
}

/// Adapts an encoder, the built-in one unless another is given.
pub(super) fn run(
    project: &Project,
    (task, rows): (&Task, &TrainingRows),
    (arguments, method, threads): (&Train, AdaptMethod, usize),
    own: Option<&EncoderFiles<Vec<u8>>>,
    screen: &Screen,
) -> Result<AdaptedEncoder> {
    if arguments.adapt.as_adapter && method != AdaptMethod::Lora {
        return Err(Error::usage("--as-adapter keeps low-rank changes: it goes with --adapt lora"));
    }
    let base: EncoderFiles<&[u8]> = match own {
        Some(files) => files.as_ref(),
        None => builtin::encoder_files(),
    };
    let plan = Plan::of(rows, arguments.seed);
    let layers = BaseWeights::read(&base)?.shape.layers;
    let settings = settings((task, rows), (arguments, method, threads), layers);
    let checkpoint = project.store_folder().join("adapt").join(&task.name);
    let (bar, stop) = (screen.progress(), screen.stop());
    let told = AtomicUsize::new(0);
    let progress = |progress: &Progress| {
        let epoch_of_all = (progress.training - 1) * settings.epochs + progress.epoch;
        if told.swap(epoch_of_all, Ordering::Relaxed) != epoch_of_all {
            bar.end();
            screen.remark(&epoch(progress, settings.epochs));
        }
        bar.at("adapt", progress.step as usize, progress.steps as usize);
    };
    let watch = Watch {
        progress: &progress,
        stop: &stop,
        checkpoint: Some(&checkpoint),
        resume: arguments.adapt.resume,
    };
    let adapted = adapt::adapt(&base, (task, rows, plan), (&settings, arguments.balance), &watch);
    bar.end();
    if matches!(adapted, Err(sizewise_learn::Error::Interrupted)) {
        screen.remark(epochs_kept(arguments.adapt.resume));
    }
    let adapted = adapted?;
    if arguments.adapt.as_adapter {
        let folds = adapted.fold_adapters(&base, threads)?;
        let made = adapted.serving.adapter(&base)?;
        let encoder = made.encoder()?.with_threads(threads);
        let files = own.map(|_| made.base);
        return Ok(AdaptedEncoder {
            encoder,
            files,
            adapter: Some(made.adapter),
            checkpoint,
            folds,
            adapted,
        });
    }
    let folds = adapted.fold_encoders(&base, threads)?;
    let files = adapted.serving.files(&base)?;
    let encoder = Encoder::from_files(&files.as_ref())?.with_threads(threads);
    Ok(AdaptedEncoder { encoder, files: Some(files), adapter: None, checkpoint, folds, adapted })
}

/// How to go on after an interruption; `resumes` is what the command that was interrupted does with such epochs.
pub(super) fn epochs_kept(resumes: bool) -> &'static str {
    match resumes {
        true => "Finished epochs are kept: the same command goes on behind them.",
        false => "Finished epochs are kept: the same command with --resume goes on behind them.",
    }
}

/// One line when an epoch begins.
fn epoch(progress: &Progress, epochs: usize) -> String {
    let before = progress
        .accuracy
        .map_or_else(String::new, |share| format!(", {} of the rows set aside right so far", percent(share)));
    let left = clock::duration(progress.seconds_left);
    let training = match progress.trainings {
        0 | 1 => String::new(),
        all => format!("training {} of {all}, ", progress.training),
    };
    format!("adapt: {training}epoch {} of {epochs}{before}, {left} to go", progress.epoch)
}

fn settings(
    (task, rows): (&Task, &TrainingRows),
    (arguments, method, threads): (&Train, AdaptMethod, usize),
    layers: usize,
) -> Settings {
    let asked = &arguments.adapt;
    let method = match method {
        AdaptMethod::Head => Method::Head,
        AdaptMethod::Lora => Settings::lora(usize::from(asked.rank.unwrap_or(RANK))),
        AdaptMethod::Last => Method::LastLayers(layers.div_ceil(3)),
        AdaptMethod::Full => Method::Full,
    };
    let classes = task.questions.iter().map(|question| question.class_values().len()).max().unwrap_or(1);
    let mut settings =
        Settings { seed: arguments.seed, threads, ..Settings::new(method, rows.len(), classes) };
    settings.epochs = asked.epochs.map_or(settings.epochs, usize::from);
    settings.batch = asked.batch.map_or(settings.batch, usize::from);
    settings.learning_rate = asked.learning_rate.unwrap_or(settings.learning_rate);
    settings.precision = match asked.precision {
        Some(AdaptPrecision::F32) => Precision::Float32,
        Some(AdaptPrecision::Bf16) => Precision::BFloat16,
        None => settings.precision,
    };
    settings
}

impl AdaptedEncoder {
    /// The rows by which the encoder may be judged.
    pub(super) fn unseen(&self) -> Option<Unseen<'_>> {
        self.adapted.unseen(&self.folds)
    }

    /// What adapting came to, beside the encoder as it was.
    pub(super) fn summary(&self, seed: u64, frozen: &TrainSummary) -> AdaptSummary {
        let Adaptation { serving, folds, .. } = &self.adapted;
        AdaptSummary {
            trained_rows: serving.trained_rows,
            unseen_rows: self.adapted.unseen_rows(),
            epochs: serving.epochs.clone(),
            seconds: serving.seconds + folds.iter().map(|fold| fold.seconds).sum::<f64>(),
            origin: Origin {
                seed,
                set_aside: folds.is_empty(),
                split_rule: SPLIT_RULE,
                best_epoch: serving.best_epoch,
            },
            frozen: encoder_tiers(frozen).map(|tier| tier.cloned()).collect(),
        }
    }
}

/// The encoder tier of each question.
fn encoder_tiers(summary: &TrainSummary) -> impl Iterator<Item = Option<&TierSummary>> {
    summary.questions.iter().map(|question| question.tiers.iter().find(|tier| tier.tier == Tier::Encoder))
}

impl AdaptSummary {
    /// What adapting bought, a line a question.
    pub(super) fn text(&self, now: &TrainSummary) -> String {
        let mut out = format!(
            "Adapted the encoder to {} rows in {}, epoch {} of {} kept; judged on {} rows by encoders that never saw them:\n",
            self.trained_rows,
            clock::duration(self.seconds),
            self.origin.best_epoch,
            self.epochs.len().saturating_sub(1),
            self.unseen_rows,
        );
        for ((question, now), before) in now.questions.iter().zip(encoder_tiers(now)).zip(&self.frozen) {
            if let (Some(now), Some(before)) = (now, before) {
                let _ = writeln!(
                    out,
                    "  {}: {} right, {} frozen ({:+.1} points); {} answered within the promise, {} frozen ({:+.1} points)",
                    question.question,
                    percent(now.accuracy.value),
                    percent(before.accuracy.value),
                    (now.accuracy.value - before.accuracy.value) * 100.0,
                    percent(now.coverage_at_promise),
                    percent(before.coverage_at_promise),
                    (now.coverage_at_promise - before.coverage_at_promise) * 100.0,
                );
                if now.accuracy.value < before.accuracy.value {
                    out.push_str("  It bought nothing here: train without --adapt.\n");
                }
            }
        }
        out.push('\n');
        out
    }
}
