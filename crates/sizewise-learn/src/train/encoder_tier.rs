//! How is an encoder tier fitted?
//!
//! A linear head on the encoder's vectors, blended with what the static tier thought, and a calibrator. Where rows are few, what
//! a class is called counts as rows of it too; how many is decided, like the blend, by the cross-fitted answers.

use super::{Labels, Shared, Tools, Unseen, embed, folds::Folds, jobs, static_tier};
use crate::{
    calibrate::{self, Observation},
    error::{Error, Result},
    fit::{Target, lbfgs},
};
use sizewise_contract::{
    Embed, Embeddings, Judgement, Question, Tier,
    task::{Overflow, QuestionKind},
};
use sizewise_measure::cascade::{RowOutcome, TierOutcome};
use sizewise_models::{
    encoder::Encoder,
    linear_head::LinearHead,
    neighbours::Neighbours,
    tiers::{ENCODER_SIGNALS, EncoderTier, LabelledNeighbours, NO_CLASS, Scores, blend, encoder_signals},
};
use std::time::Instant;

/// Shares of the static tier in this tier's answer that are tried.
const BLENDS: [f32; 4] = [0.0, 0.15, 0.3, 0.45];

/// Most rows that the encoder reads in training; of a larger table an even sample. Half as many cost half a point of accuracy
/// at most, and the memory for their vectors stays below a few hundred megabytes.
const MOST_ENCODED: usize = 40_000;

/// How often what a class is called counts as one of its rows: tried where rows are few.
const NAMED: [usize; 3] = [0, 1, 4];
/// From so many rows a class on names teach nothing more.
const NAMED_BELOW: usize = 32;

/// What the classes of a question are called, in words.
pub(crate) fn names(question: &Question) -> Vec<String> {
    let spaced = |value: &str| value.replace(['_', '-', '/'], " ").to_lowercase();
    let name = |value: &&str| match question.choices.iter().find(|choice| choice.value == *value) {
        Some(choice) if !choice.description.is_empty() => {
            format!("{}: {}", spaced(value), choice.description)
        }
        _ => spaced(value),
    };
    match question.kind {
        QuestionKind::Choice => question.class_values().iter().map(name).collect(),
        // "yes" and a level say little about the texts that they are given to.
        QuestionKind::Predicate | QuestionKind::Score => Vec::new(),
    }
}

/// The rows that the encoder reads.
pub(crate) fn sample(rows: usize) -> Vec<usize> {
    let kept = rows.min(MOST_ENCODED);
    (0..kept).map(|position| position * rows / kept).collect()
}

/// What the tier is fitted to.
pub(crate) struct Data<'a> {
    /// Training rows that the encoder read, in order. `[encoded]`
    pub(crate) rows: &'a [usize],
    /// `[encoded, dimensions]`
    pub(crate) embeddings: &'a Embeddings,
    pub(crate) neighbours: &'a Shared<Neighbours>,
    pub(crate) folds: &'a Folds,
    /// What the cross-fitted static tier thought. `[rows]`
    pub(crate) earlier: &'a [Option<Judgement>],
    pub(crate) features: &'a static_tier::Corpus<'a>,
    /// The rows that tell how good the encoder is; none where all do.
    pub(crate) unseen: Option<Unseen<'a>>,
    /// What the encoder of each fold sees, where every fold has its own.
    pub(crate) views: &'a [View],
}

/// What the encoder of one fold sees.
pub(crate) struct View {
    /// Of all rows. `[encoded, dimensions]`
    embeddings: Embeddings,
    /// The rows that it learnt from.
    neighbours: Shared<Neighbours>,
}

/// Lets the encoder of each fold read the rows.
pub(crate) fn views(
    texts: &[&str],
    rows: &[usize],
    (overflow, tools): (Overflow, Tools<'_>),
) -> Result<Vec<View>> {
    let Some(Unseen::Folds { of, encoders }) = tools.unseen else { return Ok(Vec::new()) };
    let texts: Vec<&str> = rows.iter().filter_map(|row| texts.get(*row)).copied().collect();
    let view = |(fold, encoder)| {
        let embeddings = embed(encoder, &texts, overflow, tools)?;
        let learnt = |(row, _): &(&usize, &[f32])| of.get(**row).is_some_and(|of| usize::from(*of) != fold);
        let part = encoder.last_layer_dimensions();
        let learnt: Vec<(&usize, &[f32])> = rows.iter().zip(embeddings.rows()).filter(learnt).collect();
        let last: Vec<f32> = learnt.iter().flat_map(|(_, row)| row.iter().take(part)).copied().collect();
        let rows: Vec<usize> = learnt.iter().map(|(row, _)| **row).collect();
        let neighbours = Shared::new(Neighbours::new(&last, part).renumbered(&rows));
        Ok(View { embeddings, neighbours })
    };
    encoders.iter().enumerate().map(view).collect()
}

/// A row that the encoder read and that answers the question.
#[derive(Clone, Copy)]
struct Encoded {
    position: usize,
    row: usize,
    target: u16,
}

impl Data<'_> {
    /// Rows that answer the question, and the texts that were written beside them.
    fn all<'b>(&'b self, labels: &'b Labels) -> impl Iterator<Item = Encoded> + 'b {
        self.rows.iter().enumerate().filter_map(|(position, row)| {
            let target = (*labels.targets.get(*row)?)?;
            Some(Encoded { position, row: *row, target })
        })
    }

    fn labelled<'b>(&'b self, labels: &'b Labels) -> impl Iterator<Item = Encoded> + 'b {
        self.all(labels).filter(|encoded| encoded.row < labels.rows)
    }

    /// Whether a row is one that the head without this fold must not know.
    fn holds(&self, fold: usize, row: usize) -> bool {
        match self.unseen {
            Some(Unseen::Folds { of, .. }) => self.folds.holds_as(of, fold, row),
            _ => self.folds.holds(fold, row),
        }
    }

    /// Those of them whose answers tell how good the tier is: the ones that the encoder itself has not learnt from.
    fn judged<'b>(&'b self, labels: &'b Labels) -> impl Iterator<Item = Encoded> + 'b {
        let unseen = |row: usize| match self.unseen {
            Some(Unseen::Rows(unseen)) => unseen.get(row).copied().unwrap_or(false),
            _ => true,
        };
        self.labelled(labels).filter(move |encoded| unseen(encoded.row))
    }

    /// How many folds the heads are cross-fitted on; where encoders have folds, on theirs.
    fn folds(&self) -> usize {
        if self.views.is_empty() { self.folds.count } else { self.views.len() }
    }

    fn fold(&self, row: usize) -> Option<usize> {
        match self.unseen {
            Some(Unseen::Folds { of, .. }) => of.get(row).copied().map(usize::from),
            _ => self.folds.of.get(row).copied().map(usize::from),
        }
    }

    /// The vectors that the head without a fold reads.
    fn embeddings(&self, fold: usize) -> &Embeddings {
        self.views.get(fold).map_or(self.embeddings, |view| &view.embeddings)
    }

    fn embedding(&self, fold: usize, position: usize) -> Option<&[f32]> {
        let all = self.embeddings(fold);
        all.values.get(position * all.dimensions..(position + 1) * all.dimensions)
    }
}

/// A fitted tier and what its cross-fitted forms thought of the training rows.
pub(crate) struct Fitted {
    pub(crate) tier: EncoderTier,
    /// Confidence and class of each labelled row's cross-fitted answer. `[labelled]`
    answers: Vec<(f64, usize)>,
    pub(crate) seconds: f64,
}

/// The rows that every question's tier compares inputs with: the last layer's part of the embeddings.
pub(crate) fn neighbours(all: &Embeddings, rows: &[usize], tools: Tools<'_>) -> Shared<Neighbours> {
    let part = tools.encoder.map_or(all.dimensions, |encoder| encoder.last_layer_dimensions());
    let last: Vec<f32> = all.rows().flat_map(|row| row.iter().take(part)).copied().collect();
    Shared::new(Neighbours::new(&last, part).renumbered(rows))
}

/// Fits the encoder tier of one question.
pub(crate) fn fit(data: &Data<'_>, labels: &Labels, tools: Tools<'_>) -> Result<Fitted> {
    let began = Instant::now();
    let folds = data.folds();
    let layers = tools.encoder.map_or(1, |e| e.dimensions() / e.last_layer_dimensions().max(1));
    let standards: Vec<Standard> = match data.views {
        [] => vec![Standard::of(data.embeddings, layers); folds + 1],
        _ => (0..=folds).map(|fold| Standard::of(data.embeddings(fold), layers)).collect(),
    };
    let named = named(data, labels, (folds, tools))?;
    let ways = if named.is_empty() { 1 } else { NAMED.len() };
    let done = std::sync::atomic::AtomicUsize::new(0);
    let heads = jobs::run(ways * (folds + 1), tools.threads, |job| {
        // The largest fit, on all rows, goes first so that no core waits for it at the end.
        let (way, number) = (job / (folds + 1), (job + folds) % (folds + 1));
        let names = (named.get(number).map_or(&[][..], |names| names), NAMED.get(way).copied()?);
        let head = fit_head(data, labels, standards.get(number)?, (number, names, tools))?;
        let done = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        (tools.progress)("encoder head", done, ways * (folds + 1));
        Some((way, number, head))
    });
    let mut heads = heads.ok_or(Error::Interrupted)?;
    heads.sort_by_key(|(way, number, _)| (*way, *number));
    let mut best: Option<(f64, f32, LinearHead, Vec<Vec<f32>>)> = None;
    for _ in 0..ways {
        let rest = heads.split_off((folds + 1).min(heads.len()));
        let (_, _, head) = heads.pop().ok_or(Error::Internal("the last fit is on all rows"))?;
        let logits = held_out_logits(data, labels, &heads)?;
        let (loss, share) = best_blend(data, labels, &logits);
        if best.as_ref().is_none_or(|(least, ..)| loss < *least) {
            best = Some((loss, share, head, logits));
        }
        heads = rest;
    }
    let (_, share, head, logits) = best.ok_or(Error::Internal("one way is tried at least"))?;
    let classes = labels
        .targets
        .iter()
        .map(|target| target.filter(|t| usize::from(*t) < labels.classes).unwrap_or(NO_CLASS))
        .collect();
    let near = LabelledNeighbours { neighbours: Shared::clone(data.neighbours), classes };
    let observed = observe(data, labels, (&logits, share, &near), tools)?;
    let observations: Vec<Observation> =
        observed.iter().map(|(observation, _)| observation.clone()).collect();
    let calibrator = calibrate::fit(ENCODER_SIGNALS, &observations);
    let answers = observed.iter().map(|(o, class)| (calibrator.confidence(&o.signals), *class)).collect();
    let tier = EncoderTier { head, calibrator, classes: labels.classes, neighbours: near, blend: share };
    Ok(Fitted { tier, answers, seconds: began.elapsed().as_secs_f64() })
}

/// What the classes are called, as each fold's encoder and at last the one that serves reads it; nothing where the rows say it
/// well enough. `[folds + 1][classes, dimensions]`
fn named(data: &Data<'_>, labels: &Labels, (folds, tools): (usize, Tools<'_>)) -> Result<Vec<Vec<f32>>> {
    let (Some(encoder), false) = (tools.encoder, labels.names.is_empty()) else { return Ok(Vec::new()) };
    if data.labelled(labels).count() >= NAMED_BELOW * labels.classes {
        return Ok(Vec::new());
    }
    let texts: Vec<&str> = labels.names.iter().map(String::as_str).collect();
    let read = |encoder: &Encoder| Ok(encoder.embed(&texts, Overflow::HeadTail)?.values);
    match tools.unseen {
        Some(Unseen::Folds { encoders, .. }) => encoders.iter().chain([encoder]).map(read).collect(),
        _ => Ok(vec![read(encoder)?; folds + 1]),
    }
}

/// How embeddings are shifted and scaled for the fit: the mean of each dimension, and one scale for all.
#[derive(Debug, Clone)]
pub(crate) struct Standard {
    /// `[dimensions]`
    pub(crate) mean: Vec<f32>,
    pub(crate) scale: f32,
}

impl Standard {
    pub(crate) fn applied(&self, row: &[f32]) -> impl Iterator<Item = f32> {
        row.iter().zip(&self.mean).map(|(value, mean)| (value - mean) / self.scale)
    }

    pub(crate) fn of(embeddings: &Embeddings, layers: usize) -> Self {
        let rows = embeddings.tokens.len().max(1) as f64;
        let mut mean = vec![0.0f64; embeddings.dimensions];
        let mut square = vec![0.0f64; embeddings.dimensions];
        for row in embeddings.rows() {
            for ((value, mean), square) in row.iter().zip(&mut mean).zip(&mut square) {
                *mean += f64::from(*value) / rows;
                *square += f64::from(*value).powi(2) / rows;
            }
        }
        let deviation: f64 =
            mean.iter().zip(&square).map(|(mean, square)| (square - mean * mean).max(0.0).sqrt()).sum();
        let scale = deviation / embeddings.dimensions.max(1) as f64 * (layers.max(1) as f64).sqrt();
        Self { mean: mean.iter().map(|value| *value as f32).collect(), scale: scale.max(1e-6) as f32 }
    }
}

/// Fits one head on all labelled rows outside a fold; the number after the last fold stands for all rows.
fn fit_head(
    data: &Data<'_>,
    labels: &Labels,
    standard: &Standard,
    (number, (names, often), tools): (usize, (&[f32], usize), Tools<'_>),
) -> Option<LinearHead> {
    let dimensions = data.embeddings.dimensions;
    let used = |row: usize| number == data.folds() || !data.holds(number, row);
    let mut rows = Vec::new();
    let mut targets = Vec::new();
    for Encoded { position, row, target } in data.all(labels).filter(|encoded| used(encoded.row)) {
        for _ in 0..labels.times(row) {
            rows.extend(standard.applied(data.embedding(number, position)?));
            targets.push(Target::Class(target));
        }
    }
    for _ in 0..often {
        for (class, name) in names.chunks_exact(dimensions.max(1)).enumerate() {
            rows.extend(standard.applied(name));
            targets.push(Target::Class(class as u16));
        }
    }
    let weights = labels.class_weights(tools.balance);
    let examples =
        lbfgs::Examples { embeddings: &rows, dimensions, targets: &targets, class_weights: &weights };
    let head = lbfgs::fit(examples, &lbfgs::Settings::default(), &|_| (), tools.stop)?;
    Some(LinearHead::from_standardised(&head.weights, &head.bias, &standard.mean, standard.scale))
}

/// What the heads think of the rows they were not fitted to. One row of logits per labelled row.
fn held_out_logits(
    data: &Data<'_>,
    labels: &Labels,
    heads: &[(usize, usize, LinearHead)],
) -> Result<Vec<Vec<f32>>> {
    let logits = |Encoded { position, row, .. }: Encoded| {
        let fold = data.fold(row)?;
        let (_, _, head) = heads.get(fold)?;
        let mut logits = vec![0.0; labels.outputs];
        head.logits(data.embedding(fold, position)?, &mut logits);
        Some(logits)
    };
    data.judged(labels)
        .map(|row| logits(row).ok_or(Error::Internal("every labelled row has an embedding and a head")))
        .collect()
}

/// The share of the static tier that makes the held-out answers likeliest, after the loss at that share.
fn best_blend(data: &Data<'_>, labels: &Labels, logits: &[Vec<f32>]) -> (f64, f32) {
    let loss = |share: f32| -> f64 {
        let inside = |encoded: &Encoded| usize::from(encoded.target) < labels.classes;
        let rows = data.judged(labels).zip(logits).filter(|(encoded, _)| inside(encoded));
        rows.map(|(Encoded { row, target, .. }, logits)| {
            let mut mixed = logits.clone();
            blend(&mut mixed, data.earlier.get(row).and_then(Option::as_ref), share);
            let scores = Scores::of(&mixed, labels.classes);
            -f64::from(scores.given_inside().get(usize::from(target)).copied().unwrap_or(0.0).max(1e-9).ln())
        })
        .sum()
    };
    BLENDS
        .into_iter()
        .map(|share| (loss(share), share))
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .unwrap_or_default()
}

/// What the tier would have noticed about each held-out answer, and the answer.
fn observe(
    data: &Data<'_>,
    labels: &Labels,
    (logits, share, near): (&[Vec<f32>], f32, &LabelledNeighbours),
    tools: Tools<'_>,
) -> Result<Vec<(Observation, usize)>> {
    let labelled: Vec<Encoded> = data.judged(labels).collect();
    let views: Vec<LabelledNeighbours> = data
        .views
        .iter()
        .map(|view| LabelledNeighbours {
            neighbours: Shared::clone(&view.neighbours),
            classes: Shared::clone(&near.classes),
        })
        .collect();
    let chunk = labelled.len().div_ceil(64).max(1);
    let parts = jobs::run(labelled.len().div_ceil(chunk), tools.threads, |part| {
        let mut reader = static_tier::Reader::default();
        let range = part * chunk..((part + 1) * chunk).min(labelled.len());
        let rows = labelled.get(range.clone())?.iter().zip(logits.get(range)?);
        rows.map(|(Encoded { position, row, target }, logits)| {
            let earlier = data.earlier.get(*row)?.as_ref();
            let mut mixed = logits.clone();
            blend(&mut mixed, earlier, share);
            let scores = Scores::of(&mixed, labels.classes);
            let fold = data.fold(*row)?;
            let near = views.get(fold).unwrap_or(near);
            let votes = near.votes(data.embedding(fold, *position)?, scores.best, Some(*row as u32));
            let signals = data.features.with_held_out(*row, &mut reader, |features| {
                encoder_signals(&scores, votes, earlier, features)
            })?;
            let right = usize::from(*target) == scores.best;
            let observation = Observation { signals, right, weight: labels.weight(*target) };
            Some((observation, scores.best))
        })
        .collect::<Option<Vec<_>>>()
    });
    Ok(parts.ok_or(Error::Internal("every labelled row has features"))?.into_iter().flatten().collect())
}

impl Fitted {
    /// Adds the cross-fitted answers to those of the static tier, and leaves out the rows that the encoder did not read.
    pub(crate) fn add_outcomes(&self, data: &Data<'_>, labels: &Labels, outcomes: &mut Vec<RowOutcome>) {
        let mut all = labels.labelled().zip(outcomes.drain(..));
        let mut both = Vec::with_capacity(self.answers.len());
        for (Encoded { row, target, .. }, (confidence, class)) in data.judged(labels).zip(&self.answers) {
            let Some((_, mut outcome)) = all.find(|((labelled, _), _)| *labelled == row) else { break };
            let right = usize::from(target) == *class;
            outcome.tiers.push(TierOutcome { tier: Tier::Encoder, confidence: *confidence, right });
            both.push(outcome);
        }
        drop(all);
        *outcomes = both;
    }
}
