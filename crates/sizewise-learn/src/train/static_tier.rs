//! How is a static tier fitted?

use super::{Labels, STATIC_SCALE, Shared, Tools, distil::Lessons, folds::Folds, jobs};
use crate::{
    calibrate::{self, Observation},
    error::{Error, Result},
    fit::{
        Target,
        softmax::{self, Layer, Row, Rows, Settings, Shape, Taught},
    },
};
use sizewise_contract::{Judgement, StaticFeatures, Tier};
use sizewise_measure::cascade::{RowOutcome, TierOutcome};
use sizewise_models::{
    calibrator::Calibrator,
    ngrams::Ngrams,
    static_embeddings::StaticEmbeddings,
    static_head::StaticHead,
    tiers::{STATIC_SIGNALS, Scores, StaticTier, static_signals},
    vocabulary::{Features, Vocabulary},
};
use std::{cell::RefCell, collections::HashMap, time::Instant};

/// From so many rows on an n-gram must stand in two of them to be kept.
const PRUNED_FROM: usize = 2_000;
/// Most n-grams of a task, so that heads of any number of classes stay small.
const MOST_NGRAMS: usize = 200_000;
/// Most n-grams that are counted at once; when there are more, those seen once so far are dropped.
const MOST_COUNTED: usize = 8_000_000;
/// Rows whose features are kept in memory; of more rows they are read anew in every epoch.
const KEPT_ROWS: usize = 50_000;
/// Epochs where the encoder teaches too: there are several times the texts.
const TAUGHT_EPOCHS: u32 = 5;

/// The texts with the vocabulary of every fold's complement and of all rows.
pub(crate) struct Corpus<'a> {
    texts: &'a [&'a str],
    embeddings: &'a StaticEmbeddings,
    folds: &'a Folds,
    /// The vocabulary without each fold, and that of all rows last.
    vocabularies: Vec<Shared<Vocabulary>>,
}

/// A fitted tier and what its cross-fitted forms thought of the training rows.
pub(crate) struct Fitted {
    pub(crate) tier: StaticTier,
    /// `[rows]`, none where a row does not answer the question.
    pub(crate) judgements: Vec<Option<Judgement>>,
    pub(crate) seconds: f64,
}

impl<'a> Corpus<'a> {
    pub(crate) fn new(texts: &'a [&'a str], folds: &'a Folds, tools: Tools<'a>) -> Self {
        let vocabulary = |number: usize| {
            let rows = (0..texts.len()).filter(|row| number == folds.count || !folds.holds(number, *row));
            Some(Shared::new(count(rows.filter_map(|row| texts.get(row).copied()))))
        };
        let vocabularies = jobs::run(folds.count + 1, tools.threads, vocabulary).unwrap_or_default();
        Self { texts, embeddings: tools.static_embeddings, folds, vocabularies }
    }

    pub(crate) fn into_vocabulary(mut self) -> Vocabulary {
        let last = self.vocabularies.pop().unwrap_or_else(|| Shared::new(Vocabulary::new(&[], 0)));
        Shared::try_unwrap(last).unwrap_or_else(|shared| (*shared).clone())
    }

    fn vocabulary(&self, number: usize) -> Result<&Shared<Vocabulary>> {
        self.vocabularies.get(number).ok_or(Error::Internal("every fold has a vocabulary"))
    }

    /// Hands the cross-fitted features of a row to `with`: those of the vocabulary that has not seen its fold.
    pub(crate) fn with_held_out<T>(
        &self,
        row: usize,
        reader: &mut Reader,
        with: impl FnOnce(StaticFeatures<'_>) -> T,
    ) -> Option<T> {
        let fold = usize::from(*self.folds.of.get(row)?);
        let vocabulary = self.vocabularies.get(fold)?;
        reader.read(vocabulary, self.embeddings, self.texts.get(row)?);
        Some(with(reader.features()))
    }
}

/// Counts the n-grams of texts.
fn count<'a>(texts: impl Iterator<Item = &'a str>) -> Vocabulary {
    let mut counts: HashMap<u64, (u32, u32)> = HashMap::new();
    let mut ngrams = Ngrams::default();
    let mut rows = 0u32;
    for text in texts {
        rows += 1;
        ngrams.read(text);
        for hash in ngrams.words.iter().chain(&ngrams.runs) {
            // Counts rows, not occurrences: the second entry remembers the last row that counted.
            let entry = counts.entry(*hash).or_insert((0, 0));
            if entry.1 != rows {
                *entry = (entry.0 + 1, rows);
            }
        }
        if counts.len() > MOST_COUNTED {
            counts.retain(|_, (count, _)| *count > 1);
        }
    }
    let least = if rows as usize >= PRUNED_FROM { 2 } else { 1 };
    let mut kept: Vec<(u64, u32)> = counts
        .into_iter()
        .map(|(hash, (count, _))| (hash, count))
        .filter(|(_, count)| *count >= least)
        .collect();
    if kept.len() > MOST_NGRAMS {
        kept.sort_unstable_by_key(|(hash, count)| (std::cmp::Reverse(*count), *hash));
        kept.truncate(MOST_NGRAMS);
    }
    kept.sort_unstable();
    Vocabulary::new(&kept, rows as usize)
}

/// Buffers for reading one text.
#[derive(Default)]
pub(crate) struct Reader {
    features: Features,
    ids: Vec<u32>,
    mean: Vec<f32>,
}

impl Reader {
    fn read(&mut self, vocabulary: &Vocabulary, embeddings: &StaticEmbeddings, text: &str) {
        vocabulary.read(text, &mut self.features);
        embeddings.embed_into(text, &mut self.ids, &mut self.mean);
    }

    fn features(&self) -> StaticFeatures<'_> {
        StaticFeatures {
            values: &self.features.values,
            embedding: &self.mean,
            seen_words: self.features.seen_words,
            seen_runs: self.features.seen_runs,
            word_count: self.features.word_count,
        }
    }
}

/// Hands features to the optimiser: from memory while they fit, read anew otherwise.
struct TextRows<'a> {
    corpus: &'a Corpus<'a>,
    /// Texts behind the rows.
    taught: &'a [String],
    vocabulary: &'a Vocabulary,
    kept: Option<Vec<Row>>,
}

thread_local! {
    static READER: RefCell<Reader> = RefCell::default();
}

impl<'a> TextRows<'a> {
    fn new(corpus: &'a Corpus<'a>, taught: &'a [String], vocabulary: &'a Vocabulary) -> Self {
        let mut rows = Self { corpus, taught, vocabulary, kept: None };
        if rows.len() <= KEPT_ROWS {
            let mut kept = vec![Row::default(); rows.len()];
            kept.iter_mut().enumerate().for_each(|(position, row)| rows.features(position, row));
            rows.kept = Some(kept);
        }
        rows
    }
}

impl Rows for TextRows<'_> {
    fn len(&self) -> usize {
        self.corpus.texts.len() + self.taught.len()
    }

    fn features(&self, position: usize, row: &mut Row) {
        if let Some(kept) = self.kept.as_ref().and_then(|kept| kept.get(position)) {
            row.clone_from(kept);
            return;
        }
        let taught = || self.taught.get(position.checked_sub(self.corpus.texts.len())?).map(String::as_str);
        let text = self.corpus.texts.get(position).copied().or_else(taught).unwrap_or_default();
        READER.with_borrow_mut(|reader| {
            reader.read(self.vocabulary, self.corpus.embeddings, text);
            row.sparse.clone_from(&reader.features.values);
            row.dense.clear();
            row.dense.extend(reader.mean.iter().map(|value| value * STATIC_SCALE));
        });
    }
}

/// Epochs fall with the number of rows, so that small sets converge and large ones end.
fn epochs(rows: usize) -> u32 {
    ((150_000.0 / rows.max(1) as f64).round() as u32).clamp(4, 60)
}

/// Fits the static tier of one question, with what the encoder teaches of it where it does.
pub(crate) fn fit(
    corpus: &Corpus<'_>,
    labels: &Labels,
    lessons: Option<(&Lessons, usize)>,
    tools: Tools<'_>,
) -> Result<Fitted> {
    let began = Instant::now();
    let folds = corpus.folds.count;
    let done = std::sync::atomic::AtomicUsize::new(0);
    let each = if lessons.is_some() { TAUGHT_EPOCHS } else { epochs(corpus.texts.len()) };
    let all_epochs = each as usize * (folds + 1);
    let heads = jobs::run(folds + 1, tools.threads, |number| {
        // The largest fit, on all rows, goes first so that no core waits for it at the end.
        let number = (number + folds) % (folds + 1);
        let head = fit_head(corpus, (labels, lessons), number, tools, &|_| {
            let done = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            (tools.progress)("static", done.min(all_epochs), all_epochs);
        })?;
        Some((number, head))
    });
    let mut heads = heads.ok_or(Error::Interrupted)?;
    heads.sort_by_key(|(number, _)| *number);
    let (_, head) = heads.pop().ok_or(Error::Internal("the last fit is on all rows"))?;
    let mut tier =
        StaticTier { head, calibrator: Calibrator { signals: vec![], bias: 0.0 }, classes: labels.classes };
    let mut reader = Reader::default();
    let mut observations = Vec::new();
    let mut held_out: Vec<Option<(Scores, Vec<f32>, f32)>> = vec![None; corpus.texts.len()];
    for (row, target) in labels.labelled() {
        let fold = corpus.folds.of.get(row).copied().unwrap_or(0);
        let (_, head) = heads.get(usize::from(fold)).ok_or(Error::Internal("every fold has a head"))?;
        let found = corpus.with_held_out(row, &mut reader, |features| {
            let scores = Scores::of(&head.logits(features.values, features.embedding), labels.classes);
            let signals = static_signals(&scores, head, features);
            let novelty = scores.outside().max(1.0 - features.seen_words);
            (scores, signals, novelty)
        });
        let (scores, signals, novelty) = found.ok_or(Error::Internal("every row has a fold"))?;
        observations.push(Observation {
            signals: signals.clone(),
            right: usize::from(target) == scores.best,
            weight: labels.weight(target),
        });
        if let Some(slot) = held_out.get_mut(row) {
            *slot = Some((scores, signals, novelty));
        }
    }
    tier.calibrator = calibrate::fit(STATIC_SIGNALS, &observations);
    let judgement = |(scores, signals, novelty): (Scores, Vec<f32>, f32)| Judgement {
        tier: Tier::Static,
        class: scores.best,
        confidence: tier.calibrator.confidence(&signals),
        novelty,
        probabilities: scores.given_inside(),
        cost: Default::default(),
    };
    let judgements = held_out.into_iter().map(|found| found.map(judgement)).collect();
    Ok(Fitted { tier, judgements, seconds: began.elapsed().as_secs_f64() })
}

/// Fits one head on all rows outside a fold; the number after the last fold stands for all rows.
fn fit_head(
    corpus: &Corpus<'_>,
    (labels, lessons): (&Labels, Option<(&Lessons, usize)>),
    number: usize,
    tools: Tools<'_>,
    progress: &(dyn Fn(u32) + Sync),
) -> Option<StaticHead> {
    let vocabulary = corpus.vocabulary(number).ok()?;
    let taught = lessons.map_or(&[][..], |(lessons, _)| &lessons.texts);
    let rows = TextRows::new(corpus, taught, vocabulary);
    let used = |row: usize| number == corpus.folds.count || !corpus.folds.holds(number, row);
    let mut targets: Vec<(u32, Target)> = labels
        .learnt()
        .filter(|(row, _)| used(*row))
        .flat_map(|(row, target)| std::iter::repeat_n((row as u32, Target::Class(target)), labels.times(row)))
        .collect();
    let shape =
        Shape { sparse: vocabulary.len(), dense: corpus.embeddings.dimensions(), classes: labels.outputs };
    let centroids = centroids(&rows, &targets, labels.classes, shape.dense);
    let mut epochs = epochs(targets.len());
    let mut lesson = None;
    if let Some((lessons, question)) = lessons {
        let first = corpus.texts.len();
        targets.extend(lessons.allowed(number).map(|text| ((first + text) as u32, Target::NoClass)));
        epochs = TAUGHT_EPOCHS;
        lesson = Some(lessons.lesson(question, number, first)?);
    }
    let settings = Settings { epochs, seed: tools.seed, ..Settings::default() };
    let weights = labels.class_weights(tools.balance);
    let taught = lesson.as_ref().map(|lesson| lesson as &dyn Taught);
    let examples = softmax::Examples { rows: &rows, targets: &targets, class_weights: &weights, taught };
    let layer = softmax::fit(&examples, shape, &settings, progress, tools.stop)?;
    let Layer { sparse, mut dense, bias, .. } = layer;
    // Inputs come with unit length when the model runs; the scale of training goes into the weights.
    dense.iter_mut().for_each(|weight| *weight *= STATIC_SCALE);
    Some(StaticHead::quantize(&sparse, &dense, bias, &centroids))
}

/// The mean static embedding of each class, of unit length. `[classes, dimensions]`
fn centroids(rows: &TextRows<'_>, targets: &[(u32, Target)], classes: usize, dimensions: usize) -> Vec<f32> {
    let mut centroids = vec![0.0f32; classes * dimensions];
    let mut row = Row::default();
    for (position, target) in targets {
        let Target::Class(class) = target else { continue };
        rows.features(*position as usize, &mut row);
        if let Some(sum) =
            centroids.get_mut(usize::from(*class) * dimensions..(usize::from(*class) + 1) * dimensions)
        {
            sum.iter_mut().zip(&row.dense).for_each(|(sum, value)| *sum += value);
        }
    }
    for centroid in centroids.chunks_exact_mut(dimensions.max(1)) {
        let length = centroid.iter().map(|value| value * value).sum::<f32>().sqrt();
        if length > 0.0 {
            centroid.iter_mut().for_each(|value| *value /= length);
        }
    }
    centroids
}

impl Fitted {
    /// Whether the cross-fitted answers were right. One entry per labelled row.
    pub(crate) fn outcomes(&self, labels: &Labels) -> Vec<RowOutcome> {
        labels
            .labelled()
            .filter_map(|(row, target)| {
                let judgement = self.judgements.get(row)?.as_ref()?;
                let right = usize::from(target) == judgement.class;
                let tiers = vec![TierOutcome { tier: Tier::Static, confidence: judgement.confidence, right }];
                let out_of_scope = usize::from(target) == labels.classes;
                Some(RowOutcome { tiers, out_of_scope, weight: labels.weight(target) })
            })
            .collect()
    }
}
