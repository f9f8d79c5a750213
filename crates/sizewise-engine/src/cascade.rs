//! What does the smallest model that is sure enough say?
//!
//! The static tier is asked about every input, on the spot. What it is not sure of goes to the encoder in one batch:
//! one pass for all of an input's questions.

use crate::{
    admit::Admitted,
    error::Error,
    served::{Asked, Served},
};
use sizewise_contract::{Decide, Embeddings, Evidence, Judgement, StaticFeatures};
use sizewise_models::{batching::Seat, neighbours::Neighbour, static_reader::StaticReader};
use std::{cell::RefCell, time::Instant};
use tokio::sync::oneshot;

thread_local! {
    /// Buffers of this thread.
    static READER: RefCell<StaticReader> = RefCell::default();
}

/// What the tiers thought of one question about one input, cheapest first.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// The judgements of the tiers that may answer.
    pub(crate) tiers: Vec<(Judgement, u64)>,
    /// What the static tier thought, where it may not answer but the encoder tier listens to it.
    heard: Vec<Judgement>,
}

impl Judged {
    /// Whether the last tier asked is sure enough.
    pub(crate) fn is_sure(&self, limit: f64) -> bool {
        self.tiers.last().is_some_and(|(judgement, _)| judgement.confidence >= limit)
    }
}

/// What came of asking the local tiers.
pub(crate) struct Outcome {
    /// Input after input, question after question in the order asked.
    pub(crate) judged: Vec<Vec<Judged>>,
    /// Word pieces that the encoder read of each input.
    pub(crate) tokens: Vec<u64>,
    /// Whether each input is of a kind that the release does not know.
    pub(crate) new: Vec<bool>,
    /// By what each input is compared with others, where the encoder has read it.
    pub(crate) vectors: Vec<Option<Vec<f32>>>,
}

/// Asks the tiers, cheapest first, until one is sure enough.
pub(crate) async fn run(served: &Served, admitted: &Admitted) -> Result<Outcome, Error> {
    let kinds = served.kinds.as_ref().map(|kinds| (kinds, kinds.fences()));
    let inputs = admitted.texts.len();
    let mut outcome = Outcome {
        judged: Vec::with_capacity(inputs),
        tokens: vec![0; inputs],
        new: vec![false; inputs],
        vectors: vec![None; inputs],
    };
    // What the static tier may answer and yet looks like a new kind.
    let mut near = vec![false; inputs];
    for (text, near) in admitted.texts.iter().zip(&mut near) {
        outcome.judged.push(with_features(served, text, |features| {
            *near = kinds.as_ref().is_some_and(|(kinds, fences)| kinds.is_near(fences, features.embedding));
            ask_static(served, &admitted.questions, (text, features))
        })?);
    }
    let Some(seat) = &served.encoder else { return Ok(outcome) };
    let is_open = |position: usize, found: &Judged| {
        let asked = admitted.questions.get(position).and_then(|question| served.asked.get(*question));
        let limit = admitted.limits.get(position).copied().unwrap_or(f64::INFINITY);
        asked.is_some_and(|asked| asked.encoder_may && !found.is_sure(limit))
    };
    let open: Vec<usize> = outcome
        .judged
        .iter()
        .zip(&near)
        .enumerate()
        .filter(|(_, (found, near))| {
            **near || found.iter().enumerate().any(|(position, found)| is_open(position, found))
        })
        .map(|(input, _)| input)
        .collect();
    if open.is_empty() {
        return Ok(outcome);
    }
    let begun = Instant::now();
    let texts: Vec<&str> =
        open.iter().filter_map(|input| admitted.texts.get(*input)).map(String::as_str).collect();
    let (told, embedded) = oneshot::channel();
    seat.submit(&texts, served.info.task.input.on_overflow, |found| drop(told.send(found)))
        .map_err(|error| named(error, (&open, &texts), seat))?;
    let embedded: Embeddings =
        embedded.await.map_err(|_| Error::Model(sizewise_models::Error::ShuttingDown))??;
    let each = begun.elapsed().as_micros() as u64 / open.len() as u64;
    for (((input, text), embedding), count) in
        open.iter().zip(texts).zip(embedded.rows()).zip(&embedded.tokens)
    {
        if let Some(slot) = outcome.tokens.get_mut(*input) {
            *slot = u64::from(*count);
        }
        if let Some((kinds, fences)) = &kinds
            && let Some(vector) = kinds.vector(embedding)
            && let (Some(new), Some(slot)) = (outcome.new.get_mut(*input), outcome.vectors.get_mut(*input))
        {
            *new = kinds.is_new(fences, &vector);
            *slot = Some(vector);
        }
        let Some(found) = outcome.judged.get_mut(*input) else { continue };
        let unsure: Vec<bool> =
            found.iter().enumerate().map(|(position, found)| is_open(position, found)).collect();
        with_features(served, text, |features| {
            for ((question, found), unsure) in admitted.questions.iter().zip(found.iter_mut()).zip(unsure) {
                if unsure {
                    ask_encoder(served, *question, (text, features, embedding), (found, each))?;
                }
            }
            Ok(())
        })?;
    }
    Ok(outcome)
}

/// Says which input is too long.
fn named(error: sizewise_models::Error, (inputs, texts): (&[usize], &[&str]), seat: &Seat) -> Error {
    let sizewise_models::Error::TooLong { limit, .. } = error else { return error.into() };
    let sizes = texts.iter().map(|text| seat.encoder().count_tokens(text));
    let long = inputs.iter().zip(sizes).find(|(_, tokens)| *tokens > limit);
    long.map_or(error.into(), |(position, tokens)| Error::TooManyPieces {
        position: *position,
        tokens,
        limit,
    })
}

fn ask_static(
    served: &Served,
    questions: &[usize],
    (text, features): (&str, StaticFeatures<'_>),
) -> Result<Vec<Judged>, Error> {
    let begun = Instant::now();
    let mut judged = Vec::with_capacity(questions.len());
    for question in questions {
        let mut found = Judged::default();
        let tier = served.models.questions.get(*question).and_then(|models| models.static_tier.as_ref());
        let Some(Asked { static_may, .. }) = served.asked.get(*question) else {
            return Err(Error::Internal("every question that was admitted exists"));
        };
        if let Some(tier) = tier {
            let evidence = Evidence { text, features: Some(features), embedding: None, earlier: &[] };
            let judgement = tier.decide(evidence)?;
            match static_may {
                true => found.tiers.push((judgement, begun.elapsed().as_micros() as u64)),
                false => found.heard.push(judgement),
            }
        }
        judged.push(found);
    }
    Ok(judged)
}

fn ask_encoder(
    served: &Served,
    question: usize,
    (text, features, embedding): (&str, StaticFeatures<'_>, &[f32]),
    (found, elapsed_us): (&mut Judged, u64),
) -> Result<(), Error> {
    let models = served.models.questions.get(question);
    let Some(tier) = models.and_then(|models| models.encoder_tier.as_ref()) else { return Ok(()) };
    let earlier: Vec<Judgement> =
        found.heard.iter().chain(found.tiers.iter().map(|(judgement, _)| judgement)).cloned().collect();
    let evidence = Evidence { text, features: Some(features), embedding: Some(embedding), earlier: &earlier };
    found.tiers.push((tier.decide(evidence)?, elapsed_us));
    Ok(())
}

fn with_features<T>(
    served: &Served,
    text: &str,
    read: impl FnOnce(StaticFeatures<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    READER.with_borrow_mut(|reader| {
        read(reader.read(&served.static_embeddings, &served.models.vocabulary, text))
    })
}

/// The training rows most like a text.
pub(crate) async fn nearest(served: &Served, text: &str, count: usize) -> Result<Vec<Neighbour>, Error> {
    let near = served.models.questions.iter().find_map(|models| models.encoder_tier.as_ref());
    let (Some(near), Some(seat)) = (near, &served.encoder) else { return Ok(Vec::new()) };
    let (told, embedded) = oneshot::channel();
    seat.submit(&[text], served.info.task.input.on_overflow, |found| drop(told.send(found)))?;
    let embedded = embedded.await.map_err(|_| Error::Model(sizewise_models::Error::ShuttingDown))??;
    Ok(near.neighbours.neighbours.nearest(&embedded.values, count, None))
}
