//! Which variants of an encoder are tried, and which one is taken?
//!
//! Time and size do not hang on what weights hold, so every outline is measured before anything is trained: of each depth the
//! widest one within the bound is a candidate, and only candidates recover. The most accurate one is taken.

use super::{
    judge::{Judge, difference, share, time},
    prune::{self, EIGHTHS, Outline},
    vocabulary,
};
use crate::{
    adapt::{
        self,
        recover::{self, Importance, Recovered, Recovery},
    },
    dataset::TrainingRows,
    error::{Error, Result},
    quantize,
    train::jobs,
};
use serde::Serialize;
use sizewise_contract::{Example, Label, Task};
use sizewise_measure::metrics::{Estimate, Share};
use sizewise_models::{
    encoder::{BaseWeights, Encoder, EncoderFiles, EncoderShape},
    tensors::{Dtype, Output, Tensors, write},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::Instant,
};

/// Texts that importance is scored on.
const SCORED: usize = 512;
/// Most texts that an encoder recovers on.
const MOST_TEXTS: usize = 20_000;
/// Texts that it sees at all, over all epochs: on BANKING77 so many leave a quarter of a point between half of the encoder and all of it.
const TEXTS_SEEN: usize = 24_000;
/// Fewest and most epochs.
const EPOCHS: (usize, usize) = (2, 40);
/// The narrowest outline, in eighths.
const NARROWEST: usize = 2;
/// From so many layers on a stack is made of four pooled layers.
const FEWEST_LAYERS: usize = 3;

/// What the chosen variant must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Bound {
    /// Milliseconds of a text on one thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ms: Option<f64>,
    /// Bytes of all files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Of the whole encoder's time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_of_time: Option<f64>,
}

/// How an encoder is compressed.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What must be kept to.
    pub bound: Bound,
    /// How often recovery sees every text; by default it hangs on their number.
    pub epochs: Option<usize>,
    /// Recovery's learning rate at its highest.
    pub learning_rate: f32,
    /// One of so many texts is left whole in recovery; the others are spliced.
    pub whole_of: usize,
    /// Only this outline is tried, where one is given.
    pub only: Option<Outline>,
    /// Whether rare classes count for more than their rows.
    pub balance: bool,
    /// Decides splits, order and splices.
    pub seed: u64,
    /// Threads to use; the result does not depend on it.
    pub threads: usize,
}

impl Settings {
    /// Where to begin.
    #[must_use]
    pub fn new(bound: Bound) -> Self {
        Self {
            bound,
            epochs: None,
            learning_rate: 5e-4,
            whole_of: 2,
            only: None,
            balance: false,
            seed: 1,
            threads: 1,
        }
    }
}

/// Where the work stands.
#[derive(Debug, Clone)]
pub struct Progress {
    /// What is done: a step, and of which outline.
    pub step: String,
    /// How much of it.
    pub done: u64,
    /// Of how much.
    pub of: u64,
    /// How long this step and those like it will still take, where that is known.
    pub seconds_left: Option<f64>,
}

/// Who watches.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Told whenever something is done.
    pub progress: &'a (dyn Fn(&Progress) + Sync),
    /// Raised when the user wants to stop.
    pub stop: &'a AtomicBool,
    /// The folder with a checkpoint for each outline.
    pub checkpoint: Option<&'a Path>,
    /// Goes on from the checkpoints where there are some.
    pub resume: bool,
}

/// One variant of an encoder, measured.
#[derive(Debug, Clone, Serialize)]
pub struct Variant {
    /// Layers, and eighths of their heads and neurons.
    #[serde(flatten)]
    pub outline: Outline,
    /// Rows of the word embeddings.
    pub vocabulary: usize,
    /// Bits of a weight.
    pub bits: u8,
    /// Of all files.
    pub bytes: u64,
    /// Of a text on one thread.
    pub ms: f64,
    /// Of the whole encoder's time, measured in turns.
    pub share_of_time: f64,
    /// Mean squared distance to the whole encoder's vectors at the end of recovery, where it was trained.
    pub distance: Option<f64>,
    /// Of linear heads on rows that the variant never saw; none where it was not tried.
    pub accuracy: Option<Share>,
    /// To the whole encoder, on the same rows.
    pub difference: Option<Estimate>,
    /// Whether it keeps to the bound.
    pub within: bool,
    /// Whether it was taken.
    pub chosen: bool,
}

/// What compressing came to.
#[derive(Debug)]
pub struct Compressed {
    /// Files of the chosen variant.
    pub files: EncoderFiles<Vec<u8>>,
    /// The same before rounding and trimming, to tell what they cost; none where nothing was trained.
    pub floats: Option<EncoderFiles<Vec<u8>>>,
    /// All variants that were tried, the whole encoder first.
    pub variants: Vec<Variant>,
    /// Texts that it recovered on.
    pub texts: usize,
    /// Rows that judged.
    pub judging_rows: usize,
    /// How long it took.
    pub seconds: f64,
}

impl Compressed {
    /// The variant that was taken.
    #[must_use]
    pub fn chosen(&self) -> Option<&Variant> {
        self.variants.iter().find(|variant| variant.chosen)
    }
}

/// Compresses an encoder for a task. It never sees the rows that are `unseen`: they judge it.
///
/// **Determinism.** Training is the same on any number of threads and with any number of interruptions; which outlines keep to a bound of
/// time is measured.
///
/// # Errors
/// Fails when the encoder cannot be trained, no variant keeps to the bound, a checkpoint does not fit, or the user stopped the work.
pub fn compress(
    base: &EncoderFiles<&[u8]>,
    (task, rows, unseen): (&Task, &TrainingRows, &[bool]),
    settings: &Settings,
    watch: &Watch<'_>,
) -> Result<Compressed> {
    match rows {
        TrainingRows::Gold(rows) => Search::new(base, (task, &rows.examples, unseen), settings, watch)?.run(),
        TrainingRows::Teacher(rows) => {
            Search::new(base, (task, &rows.examples, unseen), settings, watch)?.run()
        }
        TrainingRows::Mixed(rows) => {
            Search::new(base, (task, &rows.examples, unseen), settings, watch)?.run()
        }
    }
}

/// Which answers of linear heads are right: heads are fitted to the rows that do not judge, on each encoder's vectors. One list an
/// encoder, an entry a judging row within the classes, question after question.
///
/// # Errors
/// Fails when a text is longer than the task allows.
pub fn judge(
    (task, rows, judging): (&Task, &TrainingRows, &[bool]),
    encoders: &[&Encoder],
    threads: usize,
) -> Result<Vec<Vec<bool>>> {
    let stop = AtomicBool::new(false);
    let judge = match rows {
        TrainingRows::Gold(rows) => Judge::new((task, &rows.examples, judging), (false, 1, &stop)),
        TrainingRows::Teacher(rows) => Judge::new((task, &rows.examples, judging), (false, 1, &stop)),
        TrainingRows::Mixed(rows) => Judge::new((task, &rows.examples, judging), (false, 1, &stop)),
    };
    let found = jobs::run(encoders.len(), threads, |number| Some(judge.answers(encoders.get(number)?)));
    found.ok_or(Error::Internal("every encoder is judged"))?.into_iter().collect()
}

struct Search<'a> {
    base: &'a EncoderFiles<&'a [u8]>,
    weights: BaseWeights,
    whole: Encoder,
    /// Texts that recovery may see.
    texts: Vec<&'a str>,
    /// The same as word pieces.
    ids: Vec<Vec<u32>>,
    judge: Judge<'a>,
    task: &'a Task,
    settings: &'a Settings,
    watch: &'a Watch<'a>,
    began: Instant,
}

/// What is kept of an encoder, trained.
struct Trained {
    outline: Outline,
    distance: Option<f64>,
    /// None where nothing was trained.
    floats: Option<EncoderFiles<Vec<u8>>>,
}

/// A variant with its files.
struct Tried {
    variant: Variant,
    files: EncoderFiles<Vec<u8>>,
    floats: Option<EncoderFiles<Vec<u8>>>,
}

impl<'a> Search<'a> {
    fn new<L: Label>(
        base: &'a EncoderFiles<&'a [u8]>,
        (task, examples, unseen): (&'a Task, &'a [Example<L>], &[bool]),
        settings: &'a Settings,
        watch: &'a Watch<'a>,
    ) -> Result<Self> {
        let whole = Encoder::from_files(base)?;
        let seen: Vec<usize> =
            (0..examples.len()).filter(|row| !unseen.get(*row).copied().unwrap_or(false)).collect();
        let kept = seen.len().min(MOST_TEXTS);
        let texts: Vec<&str> = (0..kept)
            .filter_map(|at| Some(examples.get(*seen.get(at * seen.len() / kept.max(1))?)?.text.as_str()))
            .collect();
        let ids = texts.iter().map(|text| adapt::ids(&whole, text)).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            weights: BaseWeights::read(base)?,
            whole: whole.with_threads(settings.threads),
            base,
            judge: Judge::new((task, examples, unseen), (settings.balance, settings.threads, watch.stop)),
            texts,
            ids,
            task,
            settings,
            watch,
            began: Instant::now(),
        })
    }

    fn run(self) -> Result<Compressed> {
        self.say("judge the whole encoder", (0, 1), None);
        let before = self.judge.answers(&self.whole)?;
        let whole = Trained { outline: whole_outline(&self.weights.shape), distance: None, floats: None };
        let mut tried = self.variants(whole, (self.base, quantized(self.base)?), &before)?;
        let importance = self.importance()?;
        let candidates = self.candidates(&importance)?;
        let work: usize = candidates.iter().map(|(outline, _)| outline.layers * outline.eighths).sum();
        let mut done = 0;
        for (outline, cut) in &candidates {
            let own = outline.layers * outline.eighths;
            let recovered = self.recovered(*outline, cut, (work - done) as f64 / own.max(1) as f64)?;
            let rounded = with_weights(&cut.as_ref(), quantize::weights(&cut.as_ref(), &recovered.tensors)?)?;
            let floats = with_tensors(cut, &recovered.tensors)?;
            let distance = recovered.distances.last().copied();
            let trained = Trained { outline: *outline, distance, floats: Some(floats.clone()) };
            tried.extend(self.variants(trained, (&floats.as_ref(), rounded), &before)?);
            done += own;
        }
        self.take(tried)
    }

    fn say(&self, step: &str, (done, of): (u64, u64), seconds_left: Option<f64>) {
        (self.watch.progress)(&Progress { step: step.to_owned(), done, of, seconds_left });
    }

    fn importance(&self) -> Result<Importance> {
        let step = (self.ids.len() / SCORED).max(1);
        let some: Vec<Vec<u32>> = self.ids.iter().step_by(step).take(SCORED).cloned().collect();
        let progress = |progress: &adapt::Progress| {
            let left = Some(progress.seconds_left);
            self.say("score heads and neurons", (progress.step, progress.steps), left);
        };
        let watch =
            adapt::Watch { progress: &progress, stop: self.watch.stop, checkpoint: None, resume: false };
        recover::importance(self.base, &some, (self.settings.seed, self.settings.threads), &watch)
    }

    /// Of every depth the widest outline within the bound, with the files of what is left.
    fn candidates(&self, importance: &Importance) -> Result<Vec<(Outline, EncoderFiles<Vec<u8>>)>> {
        let cut = |outline: Outline| -> Result<EncoderFiles<Vec<u8>>> {
            let kept = prune::choose(&self.weights, outline, importance)?;
            prune::cut(self.base, &self.weights, &kept)
        };
        if let Some(only) = self.settings.only {
            return Ok(vec![(only, cut(only)?)]);
        }
        let mut candidates = Vec::new();
        for layers in depths(&self.weights.shape) {
            // Time is measured, so an interrupted search might choose another width: what has begun goes on.
            let begun = (NARROWEST..=EIGHTHS).map(|eighths| Outline { layers, eighths });
            let begun = begun.rev().find(|outline| {
                self.watch.resume && self.folder(*outline).is_some_and(|folder| folder.exists())
            });
            if let Some(outline) = begun {
                candidates.push((outline, cut(outline)?));
                continue;
            }
            for eighths in (NARROWEST..=EIGHTHS).rev() {
                let outline = Outline { layers, eighths };
                if outline == whole_outline(&self.weights.shape) {
                    continue;
                }
                let files = cut(outline)?;
                let rounded =
                    with_weights(&files.as_ref(), quantize::weights(&files.as_ref(), &BTreeMap::new())?)?;
                let (variant, _) = self.measured(outline, &rounded)?;
                let forms = self.forms(&files.as_ref(), rounded)?;
                let smallest = forms.iter().map(bytes).min().unwrap_or(variant.bytes);
                if self.within(&Variant { bytes: smallest, ..variant }) {
                    candidates.push((outline, files));
                    break;
                }
            }
        }
        Ok(candidates)
    }

    /// Where an outline's checkpoint lies.
    fn folder(&self, Outline { layers, eighths }: Outline) -> Option<PathBuf> {
        self.watch.checkpoint.map(|folder| folder.join(format!("{layers}-layers-{eighths}-eighths")))
    }

    /// Trains what is left; `share` is how much work is left in units of this one's.
    fn recovered(&self, outline: Outline, cut: &EncoderFiles<Vec<u8>>, share: f64) -> Result<Recovered> {
        let folder = self.folder(outline);
        let name = format!("recover {outline}");
        let progress = |progress: &adapt::Progress| {
            let all =
                progress.steps as f64 / (progress.steps - progress.step.min(progress.steps)).max(1) as f64;
            let left = progress.seconds_left * (1.0 + (share - 1.0) * all);
            self.say(&name, (progress.step, progress.steps), Some(left));
        };
        let watch = adapt::Watch {
            progress: &progress,
            stop: self.watch.stop,
            checkpoint: folder.as_deref(),
            resume: self.watch.resume,
        };
        let epochs = (TEXTS_SEEN / self.ids.len().max(1)).clamp(EPOCHS.0, EPOCHS.1);
        let settings = Recovery {
            epochs: self.settings.epochs.unwrap_or(epochs),
            learning_rate: self.settings.learning_rate,
            batch: 32,
            weight_decay: 0.01,
            whole_of: self.settings.whole_of,
            seed: self.settings.seed,
            threads: self.settings.threads,
        };
        recover::recover(&self.whole, &cut.as_ref(), &self.ids, &settings, &watch)
    }

    /// What is kept of an encoder, in each of its forms.
    fn variants(
        &self,
        trained: Trained,
        (exact, rounded): (&EncoderFiles<&[u8]>, EncoderFiles<Vec<u8>>),
        before: &[bool],
    ) -> Result<Vec<Tried>> {
        let Trained { outline, distance, floats } = trained;
        let files = self.forms(exact, rounded)?;
        let measured = files
            .iter()
            .map(|files| self.measured(outline, files))
            .collect::<Result<Vec<(Variant, Encoder)>>>()?;
        // The first of the whole encoder's is the one that the others stand beside.
        let known = distance.is_none().then(|| before.to_vec());
        self.say(&format!("judge {outline}"), (0, 1), None);
        let answers = jobs::run(measured.len(), self.settings.threads, |number| {
            let (_, encoder) = measured.get(number)?;
            Some(match known.clone().filter(|_| number == 0) {
                Some(answers) => Ok(answers),
                None => self.judge.answers(encoder),
            })
        });
        let answers = answers.ok_or(Error::Internal("every variant is judged"))?;
        let mut tried = Vec::new();
        for (number, ((files, (variant, _)), answers)) in
            files.into_iter().zip(measured).zip(answers).enumerate()
        {
            let answers = answers?;
            let is_whole = known.is_some() && number == 0;
            let variant = Variant {
                distance,
                accuracy: Some(share(&answers)),
                difference: (!is_whole).then(|| difference(&answers, before)),
                within: self.within(&variant),
                ..variant
            };
            tried.push(Tried { variant, files, floats: floats.clone() });
        }
        Ok(tried)
    }

    /// The forms of an encoder: in 8 bits with all of the vocabulary, and with that of the task where it can be trimmed, and in 4 bits
    /// with the smaller of the two. `exact` are the weights before they were `rounded` to 8 bits: those in 4 bits are made of them.
    fn forms(
        &self,
        exact: &EncoderFiles<&[u8]>,
        rounded: EncoderFiles<Vec<u8>>,
    ) -> Result<Vec<EncoderFiles<Vec<u8>>>> {
        let trimmed = vocabulary::trim(&rounded.as_ref(), &self.ids)?;
        let exact_trimmed = vocabulary::trim(exact, &self.ids)?;
        let smaller = exact_trimmed.as_ref().map_or_else(|| exact.clone(), EncoderFiles::as_ref);
        let four = with_weights(&smaller, quantize::in_4_bits(&smaller)?)?;
        Ok(std::iter::once(rounded).chain(trimmed).chain(std::iter::once(four)).collect())
    }

    fn measured(&self, outline: Outline, files: &EncoderFiles<Vec<u8>>) -> Result<(Variant, Encoder)> {
        let encoder = Encoder::from_files(&files.as_ref())?.with_threads(self.settings.threads);
        self.say("measure", (0, 1), None);
        let (ms, whole_ms) = time((&encoder, &self.whole), &self.texts, self.task.input.on_overflow)?;
        let variant = Variant {
            outline,
            vocabulary: encoder.tokenizer().ids(),
            bits: bits(files)?,
            bytes: bytes(files),
            ms,
            share_of_time: ms / whole_ms.max(f64::MIN_POSITIVE),
            distance: None,
            accuracy: None,
            difference: None,
            within: false,
            chosen: false,
        };
        Ok((variant, encoder))
    }

    fn within(&self, variant: &Variant) -> bool {
        let bound = self.settings.bound;
        bound.max_ms.is_none_or(|most| variant.ms <= most)
            && bound.max_bytes.is_none_or(|most| variant.bytes <= most)
            && bound.share_of_time.is_none_or(|most| variant.share_of_time <= most)
    }

    /// Of the variants within the bound the most accurate one; of equals the faster.
    fn take(&self, mut tried: Vec<Tried>) -> Result<Compressed> {
        let right = |tried: &Tried| tried.variant.accuracy.map_or(0, |accuracy| accuracy.count);
        let best = tried
            .iter()
            .enumerate()
            .filter(|(_, tried)| tried.variant.within)
            .max_by(|(_, a), (_, b)| right(a).cmp(&right(b)).then(b.variant.ms.total_cmp(&a.variant.ms)));
        let Some(best) = best.map(|(best, _)| best) else {
            let least = |of: fn(&Variant) -> f64| {
                tried.iter().map(|tried| of(&tried.variant)).fold(f64::INFINITY, f64::min)
            };
            return Err(Error::OutOfBound {
                ms: least(|variant| variant.ms),
                bytes: least(|variant| variant.bytes as f64) as u64,
                share_of_time: least(|variant| variant.share_of_time),
            });
        };
        tried.iter_mut().enumerate().for_each(|(at, tried)| tried.variant.chosen = at == best);
        let variants = tried.iter().map(|tried| tried.variant.clone()).collect();
        let chosen = tried.swap_remove(best);
        Ok(Compressed {
            files: chosen.files,
            floats: chosen.floats,
            variants,
            texts: self.ids.len(),
            judging_rows: self.judge.rows(),
            seconds: self.began.elapsed().as_secs_f64(),
        })
    }
}

/// Depths that are tried: all layers, two thirds of them and half of them.
fn depths(shape: &EncoderShape) -> Vec<usize> {
    let all = shape.layers;
    let mut depths = vec![all];
    if shape.pooled.len() > 1 {
        depths.extend(
            [(all * 2).div_ceil(3), all.div_ceil(2)].into_iter().filter(|depth| *depth >= FEWEST_LAYERS),
        );
    }
    depths.dedup();
    depths
}

fn whole_outline(shape: &EncoderShape) -> Outline {
    Outline { layers: shape.layers, eighths: EIGHTHS }
}

fn bytes(files: &EncoderFiles<Vec<u8>>) -> u64 {
    let weights: usize = files.weights.iter().map(|(_, bytes)| bytes.len()).sum();
    let others =
        [Some(&files.config), Some(&files.tokenizer), files.pooling.as_ref(), files.prompts.as_ref()];
    (weights + others.into_iter().flatten().map(Vec::len).sum::<usize>()) as u64
}

/// Bits of a weight.
fn bits(files: &EncoderFiles<Vec<u8>>) -> Result<u8> {
    for (name, bytes) in &files.weights {
        let file = Tensors::parse(name, bytes)?;
        for tensor in file.names() {
            if file.dtype(&tensor)? == Dtype::U8 {
                return Ok(4);
            }
        }
    }
    Ok(8)
}

/// The whole encoder in 8 bits.
fn quantized(base: &EncoderFiles<&[u8]>) -> Result<EncoderFiles<Vec<u8>>> {
    with_weights(base, quantize::weights(base, &BTreeMap::new())?)
}

/// The same files with other weights and a tokenizer that holds only what is read.
fn with_weights(files: &EncoderFiles<&[u8]>, weights: Vec<u8>) -> Result<EncoderFiles<Vec<u8>>> {
    Ok(EncoderFiles {
        config: files.config.to_vec(),
        tokenizer: quantize::slim_tokenizer(files.tokenizer)?,
        pooling: files.pooling.map(<[u8]>::to_vec),
        prompts: files.prompts.map(<[u8]>::to_vec),
        weights: vec![("model.safetensors".into(), weights)],
    })
}

/// The same files with new tensors in floating point.
fn with_tensors(
    files: &EncoderFiles<Vec<u8>>,
    tensors: &BTreeMap<String, Vec<f32>>,
) -> Result<EncoderFiles<Vec<u8>>> {
    let mut outputs = Vec::new();
    for (name, bytes) in &files.weights {
        let floats = quantize::to_floats(name, bytes)?;
        let file = Tensors::parse(name, &floats)?;
        for tensor in file.names() {
            let shape = file.shape(&tensor)?;
            match tensors.get(&tensor) {
                Some(values) => outputs.push(Output::floats(&tensor, &shape, values)),
                None => outputs.push(Output::floats(&tensor, &shape, &file.floats(&tensor, &shape)?)),
            }
        }
    }
    with_weights(&files.as_ref(), write("sizewise-float-encoder/1", &outputs)?)
}

impl std::fmt::Display for Outline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} layers", self.layers)?;
        match self.eighths {
            EIGHTHS => Ok(()),
            eighths => write!(f, ", {eighths}/{EIGHTHS} of heads and neurons"),
        }
    }
}
