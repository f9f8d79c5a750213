//! How does a release answer texts here, and how fast?
//!
//! The steps of the engine's cascade without its requests, records and queues, on one thread: what is timed is the models.

use super::meter::{Meter, Spent};
use crate::{
    commands::trained::Trained,
    error::{Error, Result},
};
use sizewise_contract::{Decide, Embed, Evidence, Judgement, StaticFeatures, Tier};
use sizewise_models::static_reader::StaticReader;
use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

/// About how long one turn asks texts one by one, and all of them in batches.
const SINGLE_SECONDS: f64 = 0.5;
const BATCH_SECONDS: f64 = 0.7;
const SINGLES: (usize, usize) = (20, 2_000);
const BATCHED: (usize, usize) = (64, 100_000);
/// Texts of one batch.
const BATCH: usize = 512;
/// Texts that are answered before anything is timed.
const WARM_UP: usize = 10;

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// One tier answers everything.
    Tier(Tier),
    /// The first tier that is sure enough.
    Cascade,
}

impl Way {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tier(tier) => tier.name(),
            Self::Cascade => "cascade",
        }
    }
}

/// One way of answering with one release, and what its turns took.
pub(super) struct Runner<'a> {
    pub(super) trained: &'a Trained,
    pub(super) way: Way,
    /// One threshold a question.
    limits: &'a [f64],
    texts: &'a [&'a str],
    stop: &'a AtomicBool,
    reader: StaticReader,
    singles: usize,
    batched: usize,
    pub(super) turns: Vec<Turn>,
}

/// What one turn came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// A decision in batches.
    pub(super) each: Spent,
}

impl<'a> Runner<'a> {
    /// Warms up, and finds out how many texts make a turn.
    pub(super) fn new(
        (trained, way, limits): (&'a Trained, Way, &'a [f64]),
        texts: &'a [&'a str],
        stop: &'a AtomicBool,
    ) -> Result<Self> {
        let reader = StaticReader::default();
        let mut runner =
            Self { trained, way, limits, texts, stop, reader, singles: 0, batched: 0, turns: Vec::new() };
        let began = Instant::now();
        let warm_up: Vec<&str> = texts.iter().cycle().take(WARM_UP).copied().collect();
        for text in &warm_up {
            runner.answer(&[text])?;
        }
        let each = began.elapsed().as_secs_f64().max(1e-7) / WARM_UP as f64;
        let many =
            |seconds: f64, (least, most): (usize, usize)| ((seconds / each) as usize).clamp(least, most);
        (runner.singles, runner.batched) = (many(SINGLE_SECONDS, SINGLES), many(BATCH_SECONDS, BATCHED));
        Ok(runner)
    }

    /// Takes one turn.
    pub(super) fn turn(&mut self, meter: &Meter) -> Result<()> {
        let texts = self.texts;
        let times = self.singles()?;
        let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
        let all: Vec<&str> = texts.iter().cycle().take(self.batched).copied().collect();
        let start = meter.start();
        for batch in all.chunks(BATCH) {
            self.answer(batch)?;
        }
        let spent = meter.spent(&start);
        let count = all.len() as f64;
        let each = Spent { core_seconds: spent.core_seconds / count, joules: spent.joules / count };
        self.turns.push(Turn { p50_us: at(0.5), p99_us: at(0.99), each });
        Ok(())
    }

    /// How many microseconds texts take that are asked one by one, from the least up.
    pub(super) fn singles(&mut self) -> Result<Vec<f64>> {
        let mut times = Vec::with_capacity(self.singles);
        for text in self.texts.iter().cycle().take(self.singles) {
            let began = Instant::now();
            self.answer(&[text])?;
            times.push(began.elapsed().as_secs_f64() * 1e6);
        }
        times.sort_by(f64::total_cmp);
        Ok(times)
    }

    fn answer(&mut self, texts: &[&str]) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let mut heard = Vec::with_capacity(texts.len());
        for text in texts {
            heard.push(self.ask_static(text)?);
        }
        let open: Vec<(&str, &Vec<Option<Judgement>>)> = texts
            .iter()
            .zip(&heard)
            .filter(|(_, heard)| (0..heard.len()).any(|question| self.is_open(question, heard)))
            .map(|(text, heard)| (*text, heard))
            .collect();
        let Some(encoder) = self.trained.encoder().filter(|_| !open.is_empty()) else {
            black_box(heard);
            return Ok(());
        };
        let asked: Vec<&str> = open.iter().map(|(text, _)| *text).collect();
        let embedded = encoder.embed(&asked, self.trained.task.input.on_overflow)?;
        for ((text, heard), embedding) in open.iter().zip(embedded.rows()) {
            let trained = self.trained;
            let features = self.reader.read(trained.static_embeddings(), &trained.models().vocabulary, text);
            for (question, models) in trained.models().questions.iter().enumerate() {
                if let Some(tier) = &models.encoder_tier
                    && is_open((self.way, self.limits), question, heard)
                {
                    let earlier = heard.get(question).and_then(Option::as_ref).map(std::slice::from_ref);
                    let evidence = evidence(text, features, Some(embedding), earlier.unwrap_or_default());
                    black_box(tier.decide(evidence)?);
                }
            }
        }
        Ok(())
    }

    /// What the static tier thinks of every question, where it has one.
    fn ask_static(&mut self, text: &str) -> Result<Vec<Option<Judgement>>> {
        let trained = self.trained;
        let features = self.reader.read(trained.static_embeddings(), &trained.models().vocabulary, text);
        let ask = |models: &sizewise_models::package::QuestionModels| match &models.static_tier {
            Some(tier) => Ok(Some(tier.decide(evidence(text, features, None, &[]))?)),
            None => Ok(None),
        };
        trained.models().questions.iter().map(ask).collect()
    }

    fn is_open(&self, question: usize, heard: &[Option<Judgement>]) -> bool {
        is_open((self.way, self.limits), question, heard)
    }
}

/// Whether the encoder has to be asked.
fn is_open((way, limits): (Way, &[f64]), question: usize, heard: &[Option<Judgement>]) -> bool {
    match (way, heard.get(question).and_then(Option::as_ref)) {
        (Way::Tier(tier), _) => tier == Tier::Encoder,
        (Way::Cascade, Some(judgement)) => {
            limits.get(question).is_none_or(|limit| judgement.confidence < *limit)
        }
        (Way::Cascade, None) => true,
    }
}

fn evidence<'a>(
    text: &'a str,
    features: StaticFeatures<'a>,
    embedding: Option<&'a [f32]>,
    earlier: &'a [Judgement],
) -> Evidence<'a> {
    Evidence { text, features: Some(features), embedding, earlier }
}
