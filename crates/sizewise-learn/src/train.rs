//! How does a task get its models?
//!
//! For every question: cross-fit each tier (fit it on some folds, let it answer the fold it has not seen), calibrate it
//! on those answers, then fit it once more on all rows. The cross-fitted answers are also the development rows on which
//! a certificate's thresholds are ordered, together with the answers to the development table.

mod distil;
mod encoder_tier;
pub(crate) mod folds;
pub(crate) mod jobs;
mod known;
mod static_tier;
mod summary;
mod vary;
mod written;

pub use distil::Distil;
pub(crate) use encoder_tier::Standard;
pub use summary::{Distilled, QuestionSummary, TierSummary, TrainSummary, WrittenSummary, WrittenWay};

use crate::{
    dataset::{Dataset, TrainingRows, check_length},
    error::{Error, Result},
};
use distil::Lessons;
use folds::Folds;
use sizewise_contract::{
    ContentHash, Decide, Embed, Evidence, Example, Gold, Label, Question, StaticFeatures, Task, Tier,
    task::Overflow,
};
use sizewise_measure::cascade::{RowOutcome, TierOutcome};
use sizewise_models::{
    encoder::Encoder,
    neighbours::Neighbours,
    package::{QuestionModels, TaskModels},
    static_embeddings::StaticEmbeddings,
    static_reader::StaticReader,
};
use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};
use written::Written;

/// Fewest rows that a class needs to be learnt.
pub const LEAST_ROWS_PER_CLASS: usize = 2;
/// Rows that are judged at once.
const JUDGED_TOGETHER: usize = 4_096;
/// How much the static embedding counts beside the two blocks of n-grams.
pub(crate) const STATIC_SCALE: f32 = 4.0;

/// What training works with.
#[derive(Clone, Copy)]
pub struct Tools<'a> {
    /// Static embeddings.
    pub static_embeddings: &'a StaticEmbeddings,
    /// The encoder, for tasks whose cascade may have one.
    pub encoder: Option<&'a Encoder>,
    /// Threads to use.
    pub threads: usize,
    /// Decides folds and the order of rows.
    pub seed: u64,
    /// Whether rare classes count for more than their rows.
    pub balance: bool,
    /// Told what is done: a step's name, how much of it, and of how much.
    pub progress: &'a (dyn Fn(&str, usize, usize) + Sync),
    /// Raised when the user wants to stop.
    pub stop: &'a AtomicBool,
    /// The rows that tell how good the encoder is, where it was adapted to the task: on those that it learnt from its answers
    /// look better than they are.
    pub unseen: Option<Unseen<'a>>,
    /// Who teaches the static tier beside the rows; kept for a question where that makes the better cascade.
    pub distil: Option<Distil<'a>>,
}

/// Rows that an adapted encoder has not learnt from.
#[derive(Clone, Copy)]
pub enum Unseen<'a> {
    /// Some of the rows. `[rows]`
    Rows(&'a [bool]),
    /// All of them, each by the encoder of its fold, which learnt from the other folds.
    Folds {
        /// `[rows]`
        of: &'a [u8],
        /// `[folds]`
        encoders: &'a [Encoder],
    },
}

/// A trained task.
#[derive(Debug)]
pub struct Trained {
    /// Its models.
    pub models: TaskModels,
    /// Cross-fitted answers to the training rows and answers to the development rows, by question.
    pub development: Vec<Vec<RowOutcome>>,
    /// Hash of training and development rows.
    pub development_hash: ContentHash,
    /// What each tier bought.
    pub summary: TrainSummary,
}

/// Trains a task on its training rows; `dev` are gold rows that may be looked at.
///
/// **Determinism.** The same rows, seed and tools give the same bytes, on any number of threads.
///
/// # Errors
/// Fails when a class has too few rows, an input is longer than the task allows, or the user stopped the work.
pub fn train(task: &Task, rows: &TrainingRows, dev: &Dataset<Gold>, tools: Tools<'_>) -> Result<Trained> {
    match rows {
        TrainingRows::Gold(rows) => train_on(task, (rows, &[]), dev, tools),
        TrainingRows::Teacher(rows) => train_on(task, (rows, &[]), dev, tools),
        TrainingRows::Mixed(rows) => {
            let (own, written) = written::apart(rows);
            train_on(task, (&own, &written), dev, tools)
        }
    }
}

/// What the rows come to with the written texts counted in one way.
struct Attempt {
    models: TaskModels,
    /// Cross-fitted answers to the rows and answers to the development rows. `[questions]`
    development: Vec<Vec<RowOutcome>>,
    summaries: Vec<QuestionSummary>,
}

fn train_on<L: Label>(
    task: &Task,
    (rows, written): (&Dataset<L>, &[Written]),
    dev: &Dataset<Gold>,
    tools: Tools<'_>,
) -> Result<Trained> {
    let began = Instant::now();
    for (position, question) in task.questions.iter().enumerate() {
        check_classes(question, position, &rows.examples)?;
    }
    check_lengths(task, &rows.examples, ("training", tools))?;
    check_lengths(task, &dev.examples, ("development", tools))?;
    let texts: Vec<&str> = rows.examples.iter().map(|example| example.text.as_str()).collect();
    let mut folds = Folds::assign(&rows.examples, tools.seed);
    let tiers = task.cascade.tiers.allowed();
    let encoded = encoder_tier::sample(texts.len());
    let embeddings = match (tiers.contains(&Tier::Encoder), tools.encoder) {
        (true, Some(encoder)) => {
            let texts: Vec<&str> = encoded.iter().filter_map(|row| texts.get(*row)).copied().collect();
            Some(embed(encoder, &texts, task.input.on_overflow, tools)?)
        }
        (true, None) => {
            return Err(Error::Internal("a task with an encoder tier is trained with an encoder"));
        }
        (false, _) => None,
    };
    let neighbours = embeddings.as_ref().map(|all| encoder_tier::neighbours(all, &encoded, tools));
    let labels: Vec<Labels> =
        (0..task.questions.len()).map(|position| Labels::new(task, position, &rows.examples)).collect();
    let lessons = match tools.distil {
        Some(distil) => {
            Some(Lessons::of(distil, &texts, (&labels, &folds), (task.input.on_overflow, tools))?)
        }
        None => None,
    };
    let known = embeddings.as_ref().and_then(|all| {
        let part = tools.encoder.map_or(all.dimensions, Encoder::last_layer_dimensions);
        known::known(&texts, (&encoded, all, part), &labels, tools)
    });
    let desk = Desk {
        task,
        dev,
        tools,
        neighbours: neighbours.as_ref(),
        lessons: lessons.as_ref(),
        known: known.as_ref(),
    };
    let read = Read { texts, encoded, embeddings };
    let plain = desk.attempt(&read, &labels, &folds)?;
    let (best, summary) = match written.is_empty() {
        true => (plain, None),
        false => {
            folds.sources = written::sources(&rows.examples, written);
            let beside = read.beside(written, (task.input.on_overflow, tools))?;
            let mut ways = vec![(0, plain)];
            for often in written::ways(rows.examples.len()) {
                let labels: Vec<Labels> =
                    labels.iter().enumerate().map(|(at, own)| own.beside(written, at, *often)).collect();
                ways.push((*often, desk.attempt(&beside, &labels, &folds)?));
            }
            let (best, summary) = written::best(task, ways, written.len())?;
            (best, Some(summary))
        }
    };
    let summary = TrainSummary {
        rows: rows.examples.len(),
        written: summary,
        questions: best.summaries,
        seconds: began.elapsed().as_secs_f64(),
    };
    let development_hash = hash_of(rows.hash, dev.hash);
    Ok(Trained { models: best.models, development: best.development, development_hash, summary })
}

/// The texts that are learnt from, and what the encoder made of them.
struct Read<'a> {
    texts: Vec<&'a str>,
    /// Texts that the encoder read.
    encoded: Vec<usize>,
    embeddings: Option<sizewise_contract::Embeddings>,
}

impl<'a> Read<'a> {
    /// The same with written texts behind the rows.
    fn beside(&self, written: &'a [Written], (overflow, tools): (Overflow, Tools<'_>)) -> Result<Self> {
        let more: Vec<&str> = written.iter().map(|row| row.text.as_str()).collect();
        let embeddings = match (&self.embeddings, tools.encoder) {
            (Some(own), Some(encoder)) => {
                let read = embed(encoder, &more, overflow, tools)?;
                let mut all = own.clone();
                all.values.extend(read.values);
                all.tokens.extend(read.tokens);
                Some(all)
            }
            _ => None,
        };
        let encoded = self.encoded.iter().copied().chain((0..more.len()).map(|at| self.texts.len() + at));
        let texts: Vec<&str> = self.texts.iter().copied().chain(more.iter().copied()).collect();
        Ok(Self { texts, encoded: encoded.collect(), embeddings })
    }
}

/// What every attempt is made with.
struct Desk<'a> {
    task: &'a Task,
    dev: &'a Dataset<Gold>,
    tools: Tools<'a>,
    /// Of the rows alone: what was written is no neighbour of anything that people sent.
    neighbours: Option<&'a Shared<Neighbours>>,
    lessons: Option<&'a Lessons>,
    known: Option<&'a sizewise_models::package::Known>,
}

impl Desk<'_> {
    /// Fits every question's tiers and judges the development rows with them.
    fn attempt(&self, read: &Read<'_>, labels: &[Labels], folds: &Folds) -> Result<Attempt> {
        let (task, tools) = (self.task, self.tools);
        let corpus = static_tier::Corpus::new(&read.texts, folds, tools);
        let views = match &read.embeddings {
            Some(_) => encoder_tier::views(&read.texts, &read.encoded, (task.input.on_overflow, tools))?,
            None => Vec::new(),
        };
        let ground = Ground {
            task,
            corpus: &corpus,
            encoded: &read.encoded,
            read: read.embeddings.as_ref().zip(self.neighbours),
            folds,
            views: &views,
            tools,
        };
        let (mut questions, mut development, mut summaries) = (Vec::new(), Vec::new(), Vec::new());
        for (position, labels) in labels.iter().enumerate() {
            let mut made = ground.question(position, labels, None)?;
            if let Some(lessons) = self.lessons {
                let taught = ground.question(position, labels, Some(lessons))?;
                made = made.or(taught, lessons.texts.len());
            }
            questions.push(made.models);
            summaries.push(made.summary);
            development.push(made.outcomes);
        }
        let vocabulary = corpus.into_vocabulary();
        let encoder = tools.encoder.filter(|_| read.embeddings.is_some()).map(Encoder::hash);
        let static_embeddings = tools.static_embeddings.hash();
        let known = self.known.cloned();
        let models = TaskModels { vocabulary, static_embeddings, encoder, questions, known };
        let on_dev = judge(task, &models, &self.dev.examples, tools)?;
        for (all, more) in development.iter_mut().zip(on_dev) {
            let mut more: Vec<RowOutcome> = more.into_iter().filter_map(|judged| judged.outcome).collect();
            let outside = more.iter().filter(|row| row.out_of_scope).count();
            let weight = outside_weight(task, more.len() - outside, outside);
            more.iter_mut().filter(|row| row.out_of_scope).for_each(|row| row.weight = weight);
            all.extend(more);
        }
        Ok(Attempt { models, development, summaries })
    }
}

/// What names the rows that a release was made of.
#[must_use]
pub fn rows_hash(rows: &TrainingRows, dev: &Dataset<Gold>) -> ContentHash {
    let rows = match rows {
        TrainingRows::Gold(rows) => rows.hash,
        TrainingRows::Teacher(rows) => rows.hash,
        TrainingRows::Mixed(rows) => rows.hash,
    };
    hash_of(rows, dev.hash)
}

fn hash_of(rows: ContentHash, dev: ContentHash) -> ContentHash {
    let mut hash = ContentHash::builder();
    hash.field(rows.as_bytes());
    hash.field(dev.as_bytes());
    hash.finish()
}

/// What the tiers of every question are fitted to.
struct Ground<'a> {
    task: &'a Task,
    corpus: &'a static_tier::Corpus<'a>,
    /// Rows that the encoder read.
    encoded: &'a [usize],
    /// What it made of them, where the cascade has an encoder.
    read: Option<(&'a sizewise_contract::Embeddings, &'a Shared<Neighbours>)>,
    folds: &'a Folds,
    views: &'a [encoder_tier::View],
    tools: Tools<'a>,
}

/// One question's tiers, and how good they are.
struct Made {
    models: QuestionModels,
    outcomes: Vec<RowOutcome>,
    summary: QuestionSummary,
}

impl Ground<'_> {
    /// Fits the tiers of one question.
    fn question(&self, position: usize, labels: &Labels, lessons: Option<&Lessons>) -> Result<Made> {
        let (task, tools) = (self.task, self.tools);
        let question = task.questions.get(position).ok_or(Error::Internal("a question has a position"))?;
        // The encoder tier reads what the static tier thought, so the latter is always fitted.
        let lessons = lessons.map(|lessons| (lessons, position));
        let fitted = static_tier::fit(self.corpus, labels, lessons, tools)?;
        let mut outcomes = fitted.outcomes(labels);
        let static_seconds = fitted.seconds;
        let mut encoder_seconds = 0.0;
        let encoder_tier = match self.read {
            Some((embeddings, neighbours)) => {
                let data = encoder_tier::Data {
                    rows: self.encoded,
                    embeddings,
                    neighbours,
                    folds: self.folds,
                    earlier: &fitted.judgements,
                    features: self.corpus,
                    unseen: tools.unseen,
                    views: self.views,
                };
                let fitted = encoder_tier::fit(&data, labels, tools)?;
                fitted.add_outcomes(&data, labels, &mut outcomes);
                encoder_seconds = fitted.seconds;
                Some(fitted.tier)
            }
            None => None,
        };
        if !task.cascade.tiers.allowed().contains(&Tier::Static) {
            outcomes.iter_mut().for_each(|row| *row = row.only(&[Tier::Encoder]));
        }
        let summary = summary::question(task, question, &outcomes, (static_seconds, encoder_seconds));
        let models = QuestionModels {
            name: question.name.clone(),
            classes: labels.classes,
            static_tier: Some(fitted.tier),
            encoder_tier,
        };
        Ok(Made { models, outcomes, summary })
    }
}

impl Made {
    /// The better of two ways to make a question's tiers, the second of which had the static tier taught.
    fn or(mut self, mut taught: Self, texts: usize) -> Self {
        let kept = taught.summary.worth() > self.summary.worth();
        let (made, other) = if kept { (&mut taught, &mut self) } else { (&mut self, &mut taught) };
        let otherwise = std::mem::take(&mut other.summary.tiers);
        made.summary.distilled = Some(Distilled { texts, kept, otherwise });
        if kept { taught } else { self }
    }
}

/// Names the first row that the encoder cannot read.
fn check_lengths<L>(
    task: &Task,
    rows: &[Example<L>],
    (what, tools): (&'static str, Tools<'_>),
) -> Result<()> {
    let encoder = tools.encoder.filter(|_| task.cascade.tiers.allowed().contains(&Tier::Encoder));
    rows.iter().try_for_each(|example| check_length(what, example.row, &example.text, (task, encoder)))
}

/// Every class of a question must have rows to learn from.
fn check_classes<L: Label>(question: &Question, position: usize, examples: &[Example<L>]) -> Result<()> {
    let values = question.class_values();
    let mut counts = vec![0usize; values.len()];
    for class in examples.iter().filter_map(|example| example.class_label(position)?.class()) {
        if let Some(count) = counts.get_mut(class) {
            *count += 1;
        }
    }
    match values.iter().zip(&counts).find(|(_, count)| **count < LEAST_ROWS_PER_CLASS) {
        Some((value, found)) => Err(Error::TooFewExamples {
            what: format!("class `{value}` of question `{}`", question.name),
            found: *found,
            needed: LEAST_ROWS_PER_CLASS,
        }),
        None => Ok(()),
    }
}

/// The labels of one question.
#[derive(Clone)]
pub(crate) struct Labels {
    /// Classes of the question.
    pub(crate) classes: usize,
    /// Outputs of a head: one more than there are classes when there are rows outside of them.
    pub(crate) outputs: usize,
    /// The target of every row, and of every text that was written beside the rows; none where it does not answer the
    /// question. `[rows + written]`
    pub(crate) targets: Vec<Option<u16>>,
    /// Rows that people sent: they alone tell how good a tier is.
    pub(crate) rows: usize,
    /// How often such a row counts where a written text counts once.
    pub(crate) often: usize,
    /// How many rows of the traffic a row outside of the classes stands for.
    pub(crate) outside_weight: f64,
    /// What each class is called, in words; empty where that says nothing. `[classes]`
    pub(crate) names: Vec<String>,
}

impl Labels {
    pub(crate) fn new<L: Label>(task: &Task, position: usize, examples: &[Example<L>]) -> Self {
        let question = &task.questions[position];
        let classes = question.class_values().len();
        let outside = classes as u16;
        let target = |example: &Example<L>| {
            example.class_label(position).map(|label| label.class().map_or(outside, |class| class as u16))
        };
        let targets: Vec<Option<u16>> = examples.iter().map(target).collect();
        let outputs = classes + usize::from(targets.contains(&Some(outside)));
        let outside = targets.iter().filter(|target| **target == Some(outside)).count();
        let inside = targets.iter().flatten().count() - outside;
        let outside_weight = outside_weight(task, inside, outside);
        let names = encoder_tier::names(question);
        let rows = targets.len();
        Self { classes, outputs, targets, rows, often: 1, outside_weight, names }
    }

    /// The same with written texts behind the rows, each of which counts for more than one of them.
    fn beside(&self, written: &[Written], position: usize, often: usize) -> Self {
        let target = |row: &Written| row.classes.get(position).copied().flatten();
        let targets = self.targets.iter().copied().chain(written.iter().map(target)).collect();
        Self { targets, often, ..self.clone() }
    }

    /// How often a row counts.
    pub(crate) fn times(&self, row: usize) -> usize {
        if row < self.rows { self.often } else { 1 }
    }

    /// How many rows of the traffic a row with this target stands for.
    pub(crate) fn weight(&self, target: u16) -> f64 {
        if usize::from(target) == self.classes { self.outside_weight } else { 1.0 }
    }

    /// How much each output counts in a fit. Balanced: by the square root of how rare it is, so that a rare class is heard
    /// and yet does not outvote its rows.
    pub(crate) fn class_weights(&self, balance: bool) -> Vec<f32> {
        if !balance {
            return vec![1.0; self.outputs];
        }
        let mut counts = vec![0.0f32; self.outputs];
        for target in self.targets.iter().flatten() {
            if let Some(count) = counts.get_mut(usize::from(*target)) {
                *count += 1.0;
            }
        }
        let mean = counts.iter().sum::<f32>() / self.outputs.max(1) as f32;
        counts.iter().map(|count| (mean / count.max(1.0)).sqrt()).collect()
    }

    /// Rows that answer the question, with their targets.
    pub(crate) fn labelled(&self) -> impl Iterator<Item = (usize, u16)> {
        self.learnt().take_while(|(row, _)| *row < self.rows)
    }

    /// The same, and the texts that were written beside them.
    pub(crate) fn learnt(&self) -> impl Iterator<Item = (usize, u16)> {
        self.targets.iter().enumerate().filter_map(|(row, target)| target.map(|target| (row, target)))
    }
}

/// How many rows of the traffic a row outside of the classes stands for, where the task says how many of them there are.
fn outside_weight(task: &Task, inside: usize, outside: usize) -> f64 {
    match task.data.out_of_scope_share {
        Some(share) if outside > 0 => share / (1.0 - share) * inside as f64 / outside as f64,
        _ => 1.0,
    }
}

fn embed(
    encoder: &Encoder,
    texts: &[&str],
    overflow: Overflow,
    tools: Tools<'_>,
) -> Result<sizewise_contract::Embeddings> {
    const CHUNK: usize = 1_024;
    let mut all =
        sizewise_contract::Embeddings { dimensions: Embed::dimensions(encoder), ..Default::default() };
    for chunk in texts.chunks(CHUNK) {
        if tools.stop.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let part = encoder.embed(chunk, overflow)?;
        all.values.extend(part.values);
        all.tokens.extend(part.tokens);
        (tools.progress)("encode", all.tokens.len(), texts.len());
    }
    Ok(all)
}

/// What the tiers of one question thought of one row.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Position of the row.
    pub row: usize,
    /// One judgement per tier, cheapest first.
    pub judgements: Vec<sizewise_contract::Judgement>,
    /// Whether each tier was right; none where the row does not answer the question.
    pub outcome: Option<RowOutcome>,
}

/// Lets every tier of a task judge rows. One list per question.
///
/// # Errors
/// Fails when an input is longer than the task allows or the user stopped the work.
pub fn judge(
    task: &Task,
    models: &TaskModels,
    rows: &[Example<Gold>],
    tools: Tools<'_>,
) -> Result<Vec<Vec<Judged>>> {
    check_lengths(task, rows, ("table", tools))?;
    let mut judged: Vec<Vec<Judged>> = vec![Vec::with_capacity(rows.len()); models.questions.len()];
    // The vectors of one chunk at a time: a large table would not fit into memory.
    for (number, chunk) in rows.chunks(JUDGED_TOGETHER).enumerate() {
        judge_chunk(task, models, (number * JUDGED_TOGETHER, chunk), tools, &mut judged)?;
        (tools.progress)("judge", (number * JUDGED_TOGETHER + chunk.len()).min(rows.len()), rows.len());
    }
    Ok(judged)
}

fn judge_chunk(
    task: &Task,
    models: &TaskModels,
    (first, rows): (usize, &[Example<Gold>]),
    tools: Tools<'_>,
    judged: &mut [Vec<Judged>],
) -> Result<()> {
    if tools.stop.load(std::sync::atomic::Ordering::Relaxed) {
        return Err(Error::Interrupted);
    }
    let embeddings = match (models.encoder.is_some(), tools.encoder) {
        (true, Some(encoder)) => {
            let texts: Vec<&str> = rows.iter().map(|example| example.text.as_str()).collect();
            Some(encoder.embed(&texts, task.input.on_overflow)?)
        }
        _ => None,
    };
    let allowed = task.cascade.tiers.allowed();
    let mut reader = StaticReader::default();
    for (position, example) in rows.iter().enumerate() {
        let features = reader.read(tools.static_embeddings, &models.vocabulary, &example.text);
        let embedding = embeddings
            .as_ref()
            .and_then(|all| all.values.get(position * all.dimensions..(position + 1) * all.dimensions));
        for (question, (models, judged)) in models.questions.iter().zip(judged.iter_mut()).enumerate() {
            let judgements = judge_question(models, (&example.text, features, embedding), &allowed)?;
            let outcome = example.class_label(question).map(|label| RowOutcome {
                tiers: judgements
                    .iter()
                    .map(|j| TierOutcome {
                        tier: j.tier,
                        confidence: j.confidence,
                        right: label.class() == Some(j.class),
                    })
                    .collect(),
                out_of_scope: label.class().is_none(),
                weight: 1.0,
            });
            judged.push(Judged { row: first + position, judgements, outcome });
        }
    }
    Ok(())
}

/// What every tier of a question that may answer thinks of one text.
fn judge_question(
    models: &QuestionModels,
    (text, features, embedding): (&str, StaticFeatures<'_>, Option<&[f32]>),
    allowed: &[Tier],
) -> Result<Vec<sizewise_contract::Judgement>> {
    let mut judgements = Vec::with_capacity(2);
    let evidence = |earlier| Evidence { text, features: Some(features), embedding, earlier };
    if let Some(tier) = &models.static_tier {
        judgements.push(tier.decide(evidence(&[]))?);
    }
    if let (Some(tier), Some(_)) = (&models.encoder_tier, embedding) {
        let judgement = tier.decide(evidence(&judgements))?;
        judgements.push(judgement);
    }
    judgements.retain(|judgement| allowed.contains(&judgement.tier));
    Ok(judgements)
}

/// Shares models between threads that fit.
pub(crate) type Shared<T> = Arc<T>;
