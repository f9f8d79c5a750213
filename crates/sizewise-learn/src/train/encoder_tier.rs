//! How is an encoder tier fitted?
//!
//! A linear head on the encoder's vectors ([`head`]), blended with what the static tier thought, and a calibrator.

mod head;

pub(crate) use head::Standard;

use self::head::Chosen;
use super::{Labels, Shared, Tools, Unseen, embed, folds::Folds, jobs, static_tier};
use crate::{
    calibrate::{self, Observation},
    error::{Error, Result},
};
use sizewise_contract::{
    Embeddings, Judgement, Question, Tier,
    task::{Overflow, QuestionKind},
};
use sizewise_measure::cascade::{RowOutcome, TierOutcome};
use sizewise_models::{
    neighbours::Neighbours,
    tiers::{ENCODER_SIGNALS, EncoderTier, LabelledNeighbours, NO_CLASS, Scores, blend, encoder_signals},
};
use std::time::Instant;

/// Most rows that the encoder reads in training; of a larger table an even sample. Half as many cost half a point of accuracy
/// at most, and the memory for their vectors stays below a few hundred megabytes.
const MOST_ENCODED: usize = 40_000;

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
    let Chosen { head, logits, share } = head::choose(data, labels, tools)?;
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
