//! How does an encoder become better at one task?
//!
//! ```text
//!   rows ─► plan ─► unseen rows: which epoch is best, calibration and plan ─────────► train
//!             └► training rows ─► forward ─► loss ─► backward ─► AdamW ─► 8 bits ──────┘
//! ```
//!
//! Fine-tuning of all layers or some, or low-rank changes, on the cores at hand: weights and sums in 32 bits, the products of large
//! matrices in bfloat16 where the processor is faster with it. The result is an ordinary 8-bit encoder.
//!
//! **Why some rows are never seen.** Calibrators, and with them the plan of a certificate, are fitted to answers that the
//! tiers give to rows they have not seen. Cross-fitting a head does not help when the encoder below it has seen every row: its
//! vectors of training rows are drawn to their classes, the head's answers to them look too good, and a certificate's test would
//! begin at a threshold that it cannot reject. So of a large table some rows are set aside before anything else; equal
//! texts and groups stay together. The static tier and all heads still learn from every row, and the heads' cross-fitted answers
//! to rows that the encoder has not seen are what new rows will get.
//!
//! **The same rows say which of a few epochs is best**, which favours the answers that are calibrated on by less than chance moves
//! them. Rows of their own for it cost more: with 5,752 rows of BANKING77 to learn from and 640 others to choose by, adapting was
//! refused; with 7,002, and the thousand unseen ones to choose by, it gained 0.65 points on rows of neither.
//!
//! **Small tables are crossed.** With fewer than two thousand rows each of them is needed to learn from. There three encoders,
//! each trained without a third of the rows, give the answers to that third, and a fourth that has seen all rows serves. What is
//! calibrated are then answers of encoders that had a third fewer rows than the one that serves, which errs on the safe side; four
//! trainings of few rows are still short. Where the three answer their thirds worse than the encoder as it was, it stays as it was.

mod adapter;
mod attention;
mod brains;
mod checkpoint;
mod floats;
mod matrix;
mod network;
mod objective;
mod optimizer;
mod plan;
pub(crate) mod recover;
mod run;
#[cfg(test)]
pub(crate) mod tests;
mod weights;

pub use adapter::{AdapterFiles, merge};
pub use objective::Question;
pub use plan::{Plan, SPLIT_RULE, Split};
pub use run::{EpochSummary, Progress};
pub use sizewise_models::encoder::LoraMatrix;
pub use weights::Method;

use crate::{
    dataset::TrainingRows,
    error::{Error, Result},
    fit::Target,
    quantize,
    train::{Labels, Unseen},
};
use network::Network;
use run::Run;
use sizewise_contract::{ContentHash, Example, Label, Task, task::Overflow};
use sizewise_models::{
    encoder::{BaseWeights, Encoder, EncoderFiles, LoraChange},
    products::Products,
    tensors::{self, Output},
};
use std::{collections::BTreeMap, path::Path, sync::atomic::AtomicBool};

/// Most word pieces of a text that training reads: attention's memory grows with their square.
const MOST_TOKENS: usize = 256;
/// With at most so many rows a class, pairs teach more than labels.
const FEW_PER_CLASS: usize = 16;

/// The numbers that the layers' matrices are multiplied in; weights and sums have 32 bits in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits.
    Float32,
    /// 16 bits with the exponents of 32 (brain floating point).
    BFloat16,
}

impl Precision {
    /// The faster one on this machine.
    #[must_use]
    pub fn of_this_machine() -> Self {
        if Products::pay() { Self::BFloat16 } else { Self::Float32 }
    }
}

/// How an encoder is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What is trained.
    pub method: Method,
    /// How often every row is seen.
    pub epochs: usize,
    /// The encoder's learning rate at its highest.
    pub learning_rate: f32,
    /// The heads'.
    pub head_learning_rate: f32,
    /// Rows of one step.
    pub batch: usize,
    /// How much weights shrink in a step, in learning rates.
    pub weight_decay: f32,
    /// Share of the target that goes to all classes alike.
    pub label_smoothing: f32,
    /// Share of the activations that are dropped.
    pub dropout: f32,
    /// Temperature of the contrastive loss, where pairs of rows teach in place of heads.
    pub temperature: Option<f32>,
    /// Share of the way from the weights as they were to the trained ones at which the encoder ends.
    pub kept_change: f32,
    /// What matrices are multiplied in.
    pub precision: Precision,
    /// Decides splits, order and dropout.
    pub seed: u64,
    /// Threads to use; the result does not depend on it.
    pub threads: usize,
}

impl Settings {
    /// Where to begin with so many rows of so many classes.
    #[must_use]
    pub fn new(method: Method, rows: usize, classes: usize) -> Self {
        let few = rows <= FEW_PER_CLASS * classes;
        let low_rank = matches!(method, Method::Lora { .. });
        Self {
            // Pairs of few rows are soon learnt: at this rate the third epoch onwards lost what the second had won. Otherwise small
            // tables take more epochs for as many steps; large ones learn what there is in fewer.
            epochs: match (few, rows) {
                (true, _) => 2,
                (_, 0..5_000) => 8,
                (_, 5_000..30_000) => 5,
                _ => 3,
            },
            learning_rate: if low_rank { 1e-3 } else { 1e-4 },
            head_learning_rate: 1e-3,
            batch: if few { 64 } else { 32 },
            weight_decay: 0.01,
            label_smoothing: 0.1,
            dropout: 0.1,
            temperature: few.then_some(0.1),
            kept_change: 1.0,
            precision: Precision::of_this_machine(),
            method,
            seed: 1,
            threads: 1,
        }
    }

    /// The usual low-rank changes: all matrices of every layer, counted twice.
    #[must_use]
    pub fn lora(rank: usize) -> Method {
        let matrices = vec![
            LoraMatrix::Query,
            LoraMatrix::Key,
            LoraMatrix::Value,
            LoraMatrix::AttentionOut,
            LoraMatrix::Up,
            LoraMatrix::Down,
        ];
        Method::Lora { rank, alpha: 2.0 * rank as f32, matrices }
    }
}

/// Who watches a training.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Told after every step.
    pub progress: &'a (dyn Fn(&Progress) + Sync),
    /// Raised when the user wants to stop.
    pub stop: &'a AtomicBool,
    /// The folder of the checkpoint that is written after every epoch.
    pub checkpoint: Option<&'a Path>,
    /// Goes on from the checkpoint where there is one.
    pub resume: bool,
}

/// Rows as the training reads them.
#[derive(Debug)]
pub struct Rows<'a> {
    /// Word pieces, special ones included. `[rows]`
    pub ids: &'a [Vec<u32>],
    /// One entry per question.
    pub questions: &'a [Question],
    /// The rows to learn from.
    pub train: Vec<usize>,
    /// The rows that are judged after an epoch.
    pub held_out: Vec<usize>,
    /// Whether they say which epoch is best; else the last is kept and they are judged after it alone.
    pub choose: bool,
}

/// An adapted encoder.
#[derive(Debug)]
pub struct Adapted {
    /// The changed tensors, by their names in the files.
    tensors: BTreeMap<String, Vec<f32>>,
    /// What changed them, where it was of low rank.
    changes: Option<Vec<LoraChange>>,
    /// Rows that it learnt from.
    pub trained_rows: usize,
    /// One entry per epoch; the first is the encoder as it was.
    pub epochs: Vec<EpochSummary>,
    /// The epoch whose weights were kept.
    pub best_epoch: usize,
    /// How long it took.
    pub seconds: f64,
}

/// An encoder that serves, and what tells how good it is.
#[derive(Debug)]
pub struct Adaptation {
    /// The rows of each training.
    pub plan: Plan,
    /// The encoder that serves.
    pub serving: Adapted,
    /// For each fold of a small table, an encoder that has learnt from the other folds.
    pub folds: Vec<Adapted>,
}

/// Adapts an encoder to the questions of a task.
///
/// **Determinism.** On one machine the same rows, settings and base weights give the same bytes, on any number of threads and with
/// any number of interruptions.
///
/// # Errors
/// Fails when the encoder cannot be trained, a checkpoint does not fit, or the user stopped the work; what was finished is in
/// the checkpoint.
pub fn adapt(
    base: &EncoderFiles<&[u8]>,
    (task, rows, plan): (&Task, &TrainingRows, Plan),
    (settings, balance): (&Settings, bool),
    watch: &Watch<'_>,
) -> Result<Adaptation> {
    let count = plan.splits.len();
    let mut found = Vec::with_capacity(count);
    for (number, split) in plan.splits.iter().enumerate() {
        let folder = watch.checkpoint.map(|folder| match number + 1 == count {
            true => folder.to_owned(),
            false => folder.join(format!("fold-{}", number + 1)),
        });
        let progress = |progress: &Progress| {
            (watch.progress)(&Progress { training: number + 1, trainings: count, ..*progress })
        };
        let watch = Watch { progress: &progress, checkpoint: folder.as_deref(), ..*watch };
        // Where the folds' encoders became worse, so would the one that serves.
        let settings = match found.is_empty() || plan::pays(&found) {
            true => settings,
            false => &Settings { epochs: 0, ..settings.clone() },
        };
        let adapted = match rows {
            TrainingRows::Gold(rows) => {
                adapt_to(base, (task, &rows.examples, split), (settings, balance), &watch)
            }
            TrainingRows::Teacher(rows) => {
                adapt_to(base, (task, &rows.examples, split), (settings, balance), &watch)
            }
            TrainingRows::Mixed(rows) => {
                adapt_to(base, (task, &rows.examples, split), (settings, balance), &watch)
            }
        };
        found.push(adapted?);
    }
    let serving = found.pop().ok_or(Error::Internal("a plan has a training"))?;
    Ok(Adaptation { plan, serving, folds: found })
}

impl Adaptation {
    /// The rows that tell how good the encoder is; none where it stayed as it was, as then all do. `folds` are the encoders of
    /// [`Self::folds`].
    #[must_use]
    pub fn unseen<'a>(&'a self, folds: &'a [Encoder]) -> Option<Unseen<'a>> {
        match (self.serving.best_epoch, self.plan.splits.last()) {
            (0, _) | (_, None) => None,
            (_, Some(split)) if folds.is_empty() => Some(Unseen::Rows(&split.unseen)),
            (_, Some(_)) => Some(Unseen::Folds { of: &self.plan.folds, encoders: folds }),
        }
    }

    /// How many rows tell how good the encoder is.
    #[must_use]
    pub fn unseen_rows(&self) -> usize {
        match self.plan.splits.last() {
            Some(split) if self.folds.is_empty() => split.unseen.iter().filter(|unseen| **unseen).count(),
            _ => self.plan.folds.len(),
        }
    }

    /// The encoders of all folds, to judge with.
    ///
    /// # Errors
    /// Fails when the files are not those that they were adapted from.
    pub fn fold_encoders(&self, base: &EncoderFiles<&[u8]>, threads: usize) -> Result<Vec<Encoder>> {
        let encoder = |adapted: &Adapted| {
            Ok(Encoder::from_files(&adapted.files(base)?.as_ref())?.with_threads(threads))
        };
        self.folds.iter().map(encoder).collect()
    }
}

fn adapt_to<L: Label>(
    base: &EncoderFiles<&[u8]>,
    (task, examples, split): (&Task, &[Example<L>], &Split),
    (settings, balance): (&Settings, bool),
    watch: &Watch<'_>,
) -> Result<Adapted> {
    let encoder = Encoder::from_files(base)?;
    let ids = examples.iter().map(|example| ids(&encoder, &example.text)).collect::<Result<Vec<_>>>()?;
    drop(encoder);
    let questions: Vec<Question> = (0..task.questions.len())
        .map(|position| {
            let labels = Labels::new(task, position, examples);
            let targets = labels.targets.iter().map(|target| target.map(Target::Class)).collect();
            Question { class_weights: labels.class_weights(balance), targets }
        })
        .collect();
    let rows = Rows {
        ids: &ids,
        questions: &questions,
        train: split.train.clone(),
        held_out: split.judged(),
        choose: split.choose,
    };
    train(base, &rows, settings, watch)
}

/// Trains an encoder on rows of word pieces.
///
/// # Errors
/// As [`adapt`].
pub fn train(
    base: &EncoderFiles<&[u8]>,
    rows: &Rows<'_>,
    settings: &Settings,
    watch: &Watch<'_>,
) -> Result<Adapted> {
    let weights = BaseWeights::read(base)?;
    let (vocabulary, positions) = (weights.shape.vocabulary, weights.shape.positions);
    let fits = |ids: &Vec<u32>| {
        !ids.is_empty() && ids.len() <= positions && ids.iter().all(|id| (*id as usize) < vocabulary)
    };
    if !rows.ids.iter().all(fits) {
        return Err(Error::Internal("every word piece has an embedding"));
    }
    let fingerprint = fingerprint(base, rows, settings);
    let network =
        Network::new(weights, &settings.method).with_precision(settings.precision, settings.threads);
    Run { network, rows, settings, watch, fingerprint }.train()
}

/// The first word pieces of a text, special ones included.
pub(crate) fn ids(encoder: &Encoder, text: &str) -> Result<Vec<u32>> {
    let (windows, _) = encoder.sequences(&[text], Overflow::HeadTail)?;
    let mut ids = windows.into_iter().next().unwrap_or_default();
    if ids.len() > MOST_TOKENS {
        ids.truncate(MOST_TOKENS - 1);
        ids.push(encoder.tokenizer().sep());
    }
    Ok(ids)
}

/// What a checkpoint must have been made with.
fn fingerprint(base: &EncoderFiles<&[u8]>, rows: &Rows<'_>, settings: &Settings) -> ContentHash {
    let mut hash = ContentHash::builder();
    hash.field(base.hash().as_bytes());
    let same_on_any_number = Settings { threads: 0, ..settings.clone() };
    hash.field(format!("{same_on_any_number:?}").as_bytes());
    for ids in rows.ids {
        hash.field(&ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>());
    }
    for question in rows.questions {
        hash.field(format!("{:?} {:?}", question.targets, question.class_weights).as_bytes());
    }
    hash.field(format!("{:?} {:?}", rows.train, rows.held_out).as_bytes());
    hash.finish()
}

impl Adapted {
    /// The encoder's files with its changed weights in 8 bits.
    ///
    /// # Errors
    /// Fails when the files are not those that it was adapted from.
    pub fn files(&self, base: &EncoderFiles<&[u8]>) -> Result<EncoderFiles<Vec<u8>>> {
        let weights = quantize::weights(base, &self.tensors)?;
        self.with_weights(base, weights)
    }

    /// The encoder's files in floating point, to tell what rounding costs.
    ///
    /// # Errors
    /// Fails when the files are not those that it was adapted from.
    pub fn float_files(&self, base: &EncoderFiles<&[u8]>) -> Result<EncoderFiles<Vec<u8>>> {
        let mut outputs = Vec::new();
        for (name, bytes) in &base.weights {
            let file = tensors::Tensors::parse(name, bytes)?;
            for tensor in file.names() {
                if tensor.ends_with("position_ids") || tensor.contains("pooler.") || file.is_part(&tensor) {
                    continue;
                }
                let shape = file.matrix_shape(&tensor)?;
                let values = match (self.tensors.get(&tensor), shape.as_slice()) {
                    (Some(values), _) => values.clone(),
                    (None, &[rows, columns]) => file.matrix_floats(&tensor, (rows, columns))?,
                    _ => file.floats(&tensor, &shape)?,
                };
                outputs.push(Output::floats(&tensor, &shape, &values));
            }
        }
        self.with_weights(base, tensors::write("sizewise-float-encoder/1", &outputs)?)
    }

    fn with_weights(&self, base: &EncoderFiles<&[u8]>, weights: Vec<u8>) -> Result<EncoderFiles<Vec<u8>>> {
        let files = EncoderFiles {
            config: base.config.to_vec(),
            tokenizer: quantize::slim_tokenizer(base.tokenizer)?,
            pooling: base.pooling.map(<[u8]>::to_vec),
            prompts: base.prompts.map(<[u8]>::to_vec),
            weights: vec![("model.safetensors".into(), weights)],
        };
        // A model that cannot be loaded again must not be handed out.
        Encoder::from_files(&files.as_ref())?;
        Ok(files)
    }
}
