//! Which linear head does an encoder tier get?
//!
//! Layers that lie deeper tell more of what is meant and less of how it is said, and how much of either a question needs differs
//! from task to task. So heads are fitted in several ways: with earlier layers counting less or as much, with weights held back
//! more or less, and, where rows are few, with what a class is called as rows of it. The answers to held-out rows decide.

use super::{Data, Encoded};
use crate::{
    error::{Error, Result},
    fit::{Target, lbfgs},
    train::{Labels, Tools, Unseen, jobs},
};
use sizewise_contract::{Embed, Embeddings, Judgement, task::Overflow};
use sizewise_models::{
    encoder::Encoder,
    linear_head::LinearHead,
    tiers::{Scores, blend},
};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Shares of the static tier in this tier's answer that are tried.
const BLENDS: [f32; 4] = [0.0, 0.15, 0.3, 0.45];
/// What logits are multiplied with to be as sure as they are right: tried.
const SHARPNESS: [f32; 5] = [0.7, 1.0, 1.4, 2.0, 2.8];

/// How much a layer counts beside the one after it, and the strength of the penalty on weights: tried.
const WAYS: [(f32, f32); 4] = [(1.0, 1e-3), (1.0, 4e-3), (0.7, 4e-3), (0.5, 4e-3)];
/// How often what a class is called counts as one of its rows: tried where rows are few, the first of them with every other way.
const NAMED: [usize; 3] = [1, 0, 4];
/// From so many rows a class on names teach nothing more.
const NAMED_BELOW: usize = 32;
/// So many held-out rows tell which way is best, or all.
const TRIAL_ROWS: usize = 500;

/// A fitted head.
pub(super) struct Chosen {
    pub(super) head: LinearHead,
    /// What heads that were fitted so without a fold think of its rows. `[judged]`
    pub(super) logits: Vec<Vec<f32>>,
    /// The static tier's share in the answer.
    pub(super) share: f32,
}

/// How a head is fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Way {
    decay: f32,
    l2: f32,
    named: usize,
}

/// A way, and what came of it.
struct Tried {
    way: Way,
    /// Heads without each of the first folds.
    heads: Vec<LinearHead>,
    /// Of the answers to their rows.
    loss: f64,
}

/// How the answer is made of a head's logits.
#[derive(Debug, Clone, Copy)]
struct Mix {
    sharpness: f32,
    share: f32,
}

/// Fits heads in several ways and chooses one.
pub(super) fn choose(data: &Data<'_>, labels: &Labels, tools: Tools<'_>) -> Result<Chosen> {
    let folds = data.folds();
    let layers = tools.encoder.map_or(1, |e| e.dimensions() / e.last_layer_dimensions().max(1));
    let standards: Vec<Standard> = match data.views {
        [] => vec![Standard::of(data.embeddings, layers); folds + 1],
        _ => (0..=folds).map(|fold| Standard::of(data.embeddings(fold), layers)).collect(),
    };
    let named = named(data, labels, (folds, tools))?;
    let with_names = !named.is_empty();
    let ways = WAYS.into_iter().filter(|(decay, _)| layers > 1 || *decay >= 1.0);
    let first = if with_names { NAMED[0] } else { 0 };
    let ways: Vec<Way> = ways.map(|(decay, l2)| Way { decay, l2, named: first }).collect();
    let trials = data.trials(labels);
    let more = if with_names { NAMED.len() - 1 } else { 0 };
    let all = (ways.len() + more) * trials + folds + 1 - trials;
    let fits = Fits { data, labels, tools, standards, named, layers, done: AtomicUsize::new(0), all };
    let mut found = best(fits.tried(&ways, trials)?)?;
    if with_names {
        let way = found.way;
        let mut others = fits.tried(&NAMED.map(|named| Way { named, ..way })[1..], trials)?;
        others.push(found);
        found = best(others)?;
    }
    let Tried { way, mut heads, .. } = found;
    // The largest fit, on all rows, goes first so that no core waits for it at the end.
    let number = |job: usize| if job == 0 { folds } else { trials + job - 1 };
    let rest = jobs::run(folds + 1 - trials, tools.threads, |job| fits.head(way, number(job)));
    let mut rest = rest.ok_or(Error::Interrupted)?.into_iter();
    let head = rest.next().ok_or(Error::Internal("one fit is on all rows"))?;
    heads.extend(rest);
    let mut logits = held_out_logits(data, labels, &heads)?;
    let (_, Mix { sharpness, share }) = best_mix(data, labels, (folds, &logits));
    logits.iter_mut().flatten().for_each(|logit| *logit *= sharpness);
    Ok(Chosen { head: head.sharpened(sharpness), logits, share })
}

/// The way whose held-out answers are likeliest.
fn best(tried: Vec<Tried>) -> Result<Tried> {
    let best = tried.into_iter().min_by(|a, b| a.loss.total_cmp(&b.loss));
    best.ok_or(Error::Internal("one way is tried at least"))
}

impl Data<'_> {
    /// How many folds are enough to tell which way is best.
    fn trials(&self, labels: &Labels) -> usize {
        let folds = self.folds();
        let mut rows = vec![0; folds];
        for fold in self.judged(labels).filter_map(|encoded| self.fold(encoded.row)) {
            if let Some(rows) = rows.get_mut(fold) {
                *rows += 1;
            }
        }
        let mut sum = 0;
        let enough = rows.iter().position(|rows| {
            sum += rows;
            sum >= TRIAL_ROWS
        });
        enough.map_or(folds, |last| last + 1)
    }

    /// Judged rows of the first folds.
    fn judged_in<'b>(
        &'b self,
        labels: &'b Labels,
        folds: usize,
    ) -> impl Iterator<Item = (usize, Encoded)> + 'b {
        let fold = |encoded: Encoded| Some((self.fold(encoded.row)?, encoded));
        self.judged(labels).filter_map(fold).filter(move |(fold, _)| *fold < folds)
    }
}

/// What heads are fitted to.
struct Fits<'a> {
    data: &'a Data<'a>,
    labels: &'a Labels,
    tools: Tools<'a>,
    /// `[folds + 1]`
    standards: Vec<Standard>,
    /// `[folds + 1][classes, dimensions]`
    named: Vec<Vec<f32>>,
    layers: usize,
    done: AtomicUsize,
    all: usize,
}

impl Fits<'_> {
    /// Fits heads without each of the first folds in every way, and judges them.
    fn tried(&self, ways: &[Way], folds: usize) -> Result<Vec<Tried>> {
        let heads = jobs::run(ways.len() * folds, self.tools.threads, |job| {
            self.head(*ways.get(job / folds)?, job % folds)
        });
        let mut heads = heads.ok_or(Error::Interrupted)?.into_iter();
        let tried = ways.iter().map(|way| {
            let heads: Vec<LinearHead> = heads.by_ref().take(folds).collect();
            let logits = held_out_logits(self.data, self.labels, &heads)?;
            let (loss, _) = best_mix(self.data, self.labels, (folds, &logits));
            Ok(Tried { way: *way, heads, loss })
        });
        tried.collect()
    }

    /// Fits a head on all labelled rows outside a fold; the number after the last fold stands for all rows.
    fn head(&self, way: Way, number: usize) -> Option<LinearHead> {
        let Self { data, labels, tools, .. } = self;
        let dimensions = data.embeddings.dimensions;
        let standard = self.standards.get(number)?;
        let counts = layer_counts(dimensions, (self.layers, way.decay));
        let weighed = |row: &[f32]| {
            standard.applied(row).zip(&counts).map(|(value, count)| value * count).collect::<Vec<f32>>()
        };
        let used = |row: usize| number == data.folds() || !data.holds(number, row);
        let mut rows = Vec::new();
        let mut targets = Vec::new();
        for Encoded { position, row, target } in data.all(labels).filter(|encoded| used(encoded.row)) {
            let vector = weighed(data.embedding(number, position)?);
            for _ in 0..labels.times(row) {
                rows.extend_from_slice(&vector);
                targets.push(Target::Class(target));
            }
        }
        let names = self.named.get(number).map_or(&[][..], |names| names);
        for _ in 0..way.named {
            for (class, name) in names.chunks_exact(dimensions.max(1)).enumerate() {
                rows.extend(weighed(name));
                targets.push(Target::Class(class as u16));
            }
        }
        let weights = labels.class_weights(tools.balance);
        let examples =
            lbfgs::Examples { embeddings: &rows, dimensions, targets: &targets, class_weights: &weights };
        let settings = lbfgs::Settings { l2: way.l2, ..lbfgs::Settings::default() };
        let mut head = lbfgs::fit(examples, &settings, &|_| (), tools.stop)?;
        for (weights, count) in head.weights.chunks_exact_mut(head.bias.len().max(1)).zip(&counts) {
            weights.iter_mut().for_each(|weight| *weight *= count);
        }
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        (tools.progress)("encoder head", done, self.all);
        Some(LinearHead::from_standardised(&head.weights, &head.bias, &standard.mean, standard.scale))
    }
}

/// How much each dimension counts: the layers' parts stand one after the other from the last layer on, and all together count
/// as much as if they counted alike. `[dimensions]`
fn layer_counts(dimensions: usize, (layers, decay): (usize, f32)) -> Vec<f32> {
    let layers = layers.max(1);
    let counts: Vec<f32> = (0..layers).map(|layer| decay.powi(layer as i32)).collect();
    let scale = (layers as f32 / counts.iter().map(|count| count * count).sum::<f32>()).sqrt();
    let part = dimensions.div_ceil(layers).max(1);
    (0..dimensions).map(|at| counts.get(at / part).copied().unwrap_or(1.0) * scale).collect()
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

/// What the heads of the first folds think of the rows they were not fitted to. `[judged rows of these folds][outputs]`
fn held_out_logits(data: &Data<'_>, labels: &Labels, heads: &[LinearHead]) -> Result<Vec<Vec<f32>>> {
    let logits = |(fold, Encoded { position, .. }): (usize, Encoded)| {
        let mut logits = vec![0.0; labels.outputs];
        heads.get(fold)?.logits(data.embedding(fold, position)?, &mut logits);
        Some(logits)
    };
    data.judged_in(labels, heads.len())
        .map(|row| logits(row).ok_or(Error::Internal("every labelled row has an embedding and a head")))
        .collect()
}

/// The mix that makes the held-out answers of the first folds likeliest, after their loss.
fn best_mix(data: &Data<'_>, labels: &Labels, (folds, logits): (usize, &[Vec<f32>])) -> (f64, Mix) {
    let loss = |mix: Mix| -> f64 {
        let rows = data.judged_in(labels, folds).zip(logits);
        let inside = rows.filter(|((_, encoded), _)| usize::from(encoded.target) < labels.classes);
        let losses = inside.map(|((_, Encoded { row, target, .. }), logits)| {
            let mixed = mix.of(logits, data.earlier.get(row).and_then(Option::as_ref));
            let scores = Scores::of(&mixed, labels.classes);
            -f64::from(scores.given_inside().get(usize::from(target)).copied().unwrap_or(0.0).max(1e-9).ln())
        });
        losses.sum()
    };
    let mixes = SHARPNESS.into_iter().flat_map(|sharpness| BLENDS.map(|share| Mix { sharpness, share }));
    let losses = mixes.map(|mix| (loss(mix), mix));
    losses.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f64::INFINITY, Mix { sharpness: 1.0, share: 0.0 }))
}

impl Mix {
    /// A row's logits, and what the static tier thought of it.
    fn of(self, logits: &[f32], earlier: Option<&Judgement>) -> Vec<f32> {
        let mut mixed: Vec<f32> = logits.iter().map(|logit| logit * self.sharpness).collect();
        blend(&mut mixed, earlier, self.share);
        mixed
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_count_less_the_earlier_and_all_together_alike() {
        assert_eq!(layer_counts(4, (2, 1.0)), [1.0; 4]);
        let counts = layer_counts(8, (4, 0.5));
        assert!(counts.windows(2).step_by(2).all(|pair| pair[0] == pair[1]), "{counts:?}");
        assert!((counts[0] / counts[2] - 2.0).abs() < 1e-6 && (counts[0] / counts[6] - 8.0).abs() < 1e-5);
        let squares: f32 = counts.iter().map(|count| count * count).sum();
        assert!((squares - 8.0).abs() < 1e-5, "{squares}");
    }
}
