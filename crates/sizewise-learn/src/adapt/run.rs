//! How does training go from the first step to the last?
//!
//! A batch is dealt into parts of fixed size, each of which goes forward and back on one thread; their gradients are
//! added in order. The result therefore hangs on the seed and not on the number of threads.

use super::{
    Adapted, Rows, Settings, Watch,
    checkpoint::State,
    network::{Dropout, Network, Tape},
    objective::{Objective, standard},
    optimizer::{Group, Optimizer, schedule},
};
use crate::{
    error::{Error, Result},
    fit::{Random, Target},
    train::{Standard, jobs},
};
use sizewise_contract::ContentHash;
use std::{
    collections::BTreeMap,
    sync::{Mutex, atomic::Ordering},
    time::Instant,
};

/// Texts of a batch that go through the encoder together on one thread.
const PART: usize = 16;
/// Texts that are embedded together where nothing is learnt.
const EMBEDDED_TOGETHER: usize = 32;
/// Rows of one class that stand together in a batch of the contrastive loss.
const FELLOWS: usize = 4;
/// Share of the steps in which the rate rises.
const WARM_UP: f64 = 0.1;
/// With fewer held-out rows the last weights are kept: the best of several small counts is chance.
const FEWEST_HELD_OUT: usize = 100;

/// What one epoch came to; the first entry of a list is the encoder as it was.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct EpochSummary {
    /// Mean loss of its batches; 0 before the first epoch.
    pub loss: f64,
    /// Held-out answers that are right.
    pub right: usize,
    /// Held-out answers.
    pub held_out: usize,
    /// How long it took.
    pub seconds: f64,
}

/// Where training stands.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Steps taken, and of how many.
    pub step: u64,
    /// All steps.
    pub steps: u64,
    /// The epoch under way, from 1.
    pub epoch: usize,
    /// The training under way, from 1, and of how many: small tables need several.
    pub training: usize,
    /// All trainings.
    pub trainings: usize,
    /// Mean loss of the epoch's batches so far.
    pub loss: f64,
    /// Share of held-out rows that was answered rightly after the epoch before.
    pub accuracy: Option<f64>,
    /// How long it will still take at the pace so far.
    pub seconds_left: f64,
}

impl EpochSummary {
    /// Share of the held-out answers that are right.
    #[must_use]
    pub fn accuracy(&self) -> Option<f64> {
        (self.held_out > 0).then(|| self.right as f64 / self.held_out as f64)
    }
}

pub(super) struct Run<'a> {
    pub(super) network: Network,
    pub(super) rows: &'a Rows<'a>,
    pub(super) settings: &'a Settings,
    pub(super) watch: &'a Watch<'a>,
    pub(super) fingerprint: ContentHash,
}

impl<'a> Run<'a> {
    /// Trains, or goes on from a checkpoint.
    pub(super) fn train(mut self) -> Result<Adapted> {
        let began = Instant::now();
        let mut state = match self.watch.checkpoint.filter(|_| self.watch.resume) {
            Some(folder) => State::read(folder, self.fingerprint)?,
            None => None,
        };
        let mut objective = self.objective(state.as_ref())?;
        let mut state = match state.take() {
            Some(state) => state,
            None => self.begin(&mut objective)?,
        };
        if state.parameters.len() != self.network.weights.parameters() + objective.parameters() {
            return Err(Error::Internal("a checkpoint fits what made it"));
        }
        let steps_per_epoch = self.rows.train.len().div_ceil(self.settings.batch.max(1)) as u64;
        let pace = Pace {
            began: Instant::now(),
            from: state.optimizer.steps,
            steps: steps_per_epoch * self.settings.epochs as u64,
        };
        let mut gradients = Gradients::default();
        while state.epochs.len() <= self.settings.epochs && self.network.weights.parameters() > 0 {
            self.epoch(&mut state, &objective, (&pace, &mut gradients))?;
            if let Some(folder) = self.watch.checkpoint {
                state.write(folder, self.fingerprint)?;
            }
        }
        let best = std::mem::take(&mut state.best);
        let kept = if state.best_epoch == 0 { 0.0 } else { self.settings.kept_change };
        let parameters = self.take_change(&best, kept);
        Ok(Adapted {
            tensors: self.network.weights.tensors(&self.network.base),
            changes: self.network.weights.changes(&parameters),
            trained_rows: self.rows.train.len(),
            epochs: state.epochs,
            best_epoch: state.best_epoch,
            seconds: began.elapsed().as_secs_f64(),
        })
    }

    fn objective(&self, state: Option<&State>) -> Result<Objective<'a>> {
        let dimensions = self.network.dimensions();
        let standard = state.map_or_else(
            || Standard { mean: vec![0.0; dimensions], scale: 1.0 },
            |state| Standard { mean: state.mean.clone(), scale: state.scale },
        );
        if standard.mean.len() != dimensions {
            return Err(Error::Internal("a checkpoint fits what made it"));
        }
        Ok(Objective {
            questions: self.rows.questions,
            dimensions,
            smoothing: self.settings.label_smoothing,
            temperature: self.settings.temperature,
            standard,
        })
    }

    /// The state before the first step: heads fitted to the encoder as it is.
    fn begin(&self, objective: &mut Objective<'_>) -> Result<State> {
        let began = Instant::now();
        let vectors = self.embed(&self.rows.train)?;
        objective.standard = standard(&vectors, objective.dimensions, self.network.base.shape.pooled.len());
        let heads =
            objective.fit_heads(&self.rows.train, &vectors, self.watch.stop).ok_or(Error::Interrupted)?;
        let (right, held_out) =
            objective.right(&self.rows.held_out, &self.embed(&self.rows.held_out)?, &heads);
        let mut parameters = self.network.weights.initial(self.settings.seed);
        parameters.extend(heads);
        Ok(State {
            optimizer: Optimizer::new(parameters.len()),
            epochs: vec![EpochSummary { loss: 0.0, right, held_out, seconds: began.elapsed().as_secs_f64() }],
            best: parameters.clone(),
            best_epoch: 0,
            parameters,
            mean: objective.standard.mean.clone(),
            scale: objective.standard.scale,
        })
    }

    fn epoch(
        &mut self,
        state: &mut State,
        objective: &Objective<'_>,
        (pace, gradients): (&Pace, &mut Gradients),
    ) -> Result<()> {
        let began = Instant::now();
        let number = state.epochs.len();
        let order = self.order(number);
        let groups = self.groups(state.parameters.len());
        let accuracy = state.epochs.last().and_then(EpochSummary::accuracy);
        self.take(&state.parameters);
        let (mut loss, mut batches) = (0.0, 0u64);
        for batch in order.chunks(self.settings.batch.max(1)) {
            if self.watch.stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            loss += self.step(state, objective, (batch, gradients))?;
            let share = schedule(state.optimizer.steps, pace.warm_up(), pace.steps);
            let gradient = gradients.sum(self.settings.threads)?;
            state.optimizer.step(&mut state.parameters, gradient, &groups, (share, self.settings.threads));
            self.take(&state.parameters);
            batches += 1;
            (self.watch.progress)(&Progress {
                step: state.optimizer.steps,
                steps: pace.steps,
                epoch: number,
                training: 1,
                trainings: 1,
                loss: loss / batches as f64,
                accuracy,
                seconds_left: pace.seconds_left(state.optimizer.steps),
            });
        }
        if self.settings.kept_change < 1.0 {
            self.take_change(&state.parameters, self.settings.kept_change);
        }
        let judged = self.rows.choose || number == self.settings.epochs;
        let (right, held_out) = if judged { self.judge(state, objective)? } else { (0, 0) };
        let summary = EpochSummary {
            loss: loss / batches.max(1) as f64,
            right,
            held_out,
            seconds: began.elapsed().as_secs_f64(),
        };
        let best = state.epochs.get(state.best_epoch).map_or(0, |best| best.right);
        // Of equals the later one has seen more.
        if !self.rows.choose || held_out < FEWEST_HELD_OUT || right >= best {
            state.best_epoch = number;
            state.best.clone_from(&state.parameters);
        }
        state.epochs.push(summary);
        Ok(())
    }

    fn take(&mut self, parameters: &[f32]) {
        let encoder = parameters.get(..self.network.weights.parameters()).unwrap_or_default();
        self.network.take(encoder);
    }

    /// Goes a share of the way from the weights as they were to trained ones (Wortsman et al. 2022: what lies between is often
    /// better than either end, on rows unlike the training rows above all); returns where that is.
    fn take_change(&mut self, parameters: &[f32], share: f32) -> Vec<f32> {
        let trained = parameters.get(..self.network.weights.parameters()).unwrap_or_default();
        let before = self.network.weights.initial(self.settings.seed);
        let between: Vec<f32> = before.iter().zip(trained).map(|(a, b)| a + share * (b - a)).collect();
        self.network.take(&between);
        between
    }

    /// Held-out answers that are right, and of how many.
    fn judge(&self, state: &State, objective: &Objective<'_>) -> Result<(usize, usize)> {
        if self.rows.held_out.is_empty() {
            return Ok((0, 0));
        }
        let vectors = self.embed(&self.rows.held_out)?;
        if self.settings.temperature.is_none() && self.settings.kept_change >= 1.0 {
            let heads = state.parameters.get(self.network.weights.parameters()..).unwrap_or_default();
            return Ok(objective.right(&self.rows.held_out, &vectors, heads));
        }
        let known = self.embed(&self.rows.train)?;
        let objective = Objective {
            standard: standard(&known, objective.dimensions, self.network.base.shape.pooled.len()),
            questions: objective.questions,
            ..*objective
        };
        let heads =
            objective.fit_heads(&self.rows.train, &known, self.watch.stop).ok_or(Error::Interrupted)?;
        Ok(objective.right(&self.rows.held_out, &vectors, &heads))
    }

    /// Which parameters are treated alike.
    fn groups(&self, count: usize) -> Vec<Group> {
        let Settings { learning_rate: rate, weight_decay: decay, head_learning_rate, .. } = *self.settings;
        let encoder = self.network.weights.parameters();
        let (mut groups, mut at) = (Vec::new(), 0);
        for range in self.network.weights.decayed() {
            groups.push(Group { range: at..range.start, rate, decay: 0.0 });
            at = range.end;
            groups.push(Group { range, rate, decay });
        }
        groups.push(Group { range: at..encoder, rate, decay: 0.0 });
        groups.push(Group { range: encoder..count, rate: head_learning_rate, decay: 0.0 });
        groups
    }

    /// The order of the training rows in an epoch.
    fn order(&self, epoch: usize) -> Vec<usize> {
        let mut random = Random(self.settings.seed ^ (epoch as u64) << 32);
        let mut rows = self.rows.train.clone();
        random.shuffle(&mut rows);
        if self.settings.temperature.is_none() {
            return rows;
        }
        // The contrastive loss needs fellows in a batch: groups of one class, in random order.
        let mut classes: BTreeMap<Option<u16>, Vec<usize>> = BTreeMap::new();
        for row in rows {
            let target = self.rows.questions.first().and_then(|q| q.targets.get(row).copied().flatten());
            let class = match target {
                Some(Target::Class(class)) => Some(class),
                _ => None,
            };
            classes.entry(class).or_default().push(row);
        }
        let mut groups: Vec<Vec<usize>> =
            classes.values().flat_map(|rows| rows.chunks(FELLOWS).map(<[usize]>::to_vec)).collect();
        random.shuffle(&mut groups);
        groups.concat()
    }

    /// Goes forward and back with a batch and returns its loss.
    fn step(
        &self,
        state: &State,
        objective: &Objective<'_>,
        (batch, gradients): (&[usize], &mut Gradients),
    ) -> Result<f64> {
        let threads = self.settings.threads;
        let parts = self.parts(batch);
        let tapes = jobs::run(parts.len(), threads, |number| {
            let part = parts.get(number)?;
            let position = state.optimizer.steps.wrapping_mul(1_000_003) ^ number as u64;
            let mut dropout =
                Dropout { share: self.settings.dropout, random: Random(self.settings.seed ^ position << 8) };
            Some(self.network.forward(&self.ids(part), &mut dropout))
        });
        let tapes: Vec<Tape> = tapes.ok_or(Error::Internal("a forward pass has a result"))?;
        let rows: Vec<usize> = parts.concat();
        let vectors: Vec<f32> = tapes.iter().flat_map(|tape| tape.pooled.iter().copied()).collect();
        let encoder = self.network.weights.parameters();
        let (parameters, heads) = state.parameters.split_at(encoder.min(state.parameters.len()));
        let mut slopes = vec![0.0; vectors.len()];
        let mut head_gradient = vec![0.0; heads.len()];
        let loss = objective.loss(&rows, (&vectors, &mut slopes), (heads, &mut head_gradient));
        gradients.parts.resize_with(parts.len(), Mutex::default);
        let mut begin = 0;
        let ranges: Vec<_> = parts
            .iter()
            .map(|part| {
                let range = begin * objective.dimensions..(begin + part.len()) * objective.dimensions;
                begin += part.len();
                range
            })
            .collect();
        let back = jobs::run(parts.len(), threads, |number| {
            let mut gradient = gradients.parts.get(number)?.lock().ok()?;
            gradient.clear();
            gradient.resize(state.parameters.len(), 0.0);
            self.network.backward(
                tapes.get(number)?,
                slopes.get(ranges.get(number)?.clone())?,
                parameters,
                &mut gradient,
            );
            if number == 0 {
                gradient.get_mut(encoder..)?.copy_from_slice(&head_gradient);
            }
            Some(())
        });
        back.map(|_| loss).ok_or(Error::Internal("a backward pass has a result"))
    }

    /// Deals the texts of a batch, longest first, into parts that take about as long.
    fn parts(&self, batch: &[usize]) -> Vec<Vec<usize>> {
        let count = batch.len().div_ceil(PART).max(1);
        let mut sorted = batch.to_vec();
        sorted.sort_by_key(|row| std::cmp::Reverse(self.rows.ids.get(*row).map_or(0, Vec::len)));
        let mut parts = vec![Vec::new(); count];
        for (position, row) in sorted.into_iter().enumerate() {
            // There and back again, so that no part gets the longer one every time.
            let lap = position % (2 * count);
            if let Some(part) = parts.get_mut(lap.min(2 * count - 1 - lap)) {
                part.push(row);
            }
        }
        parts
    }

    fn ids(&self, rows: &[usize]) -> Vec<&[u32]> {
        rows.iter().filter_map(|row| self.rows.ids.get(*row).map(Vec::as_slice)).collect()
    }

    /// The vectors of rows, without dropout. `[rows, dimensions]`
    fn embed(&self, rows: &[usize]) -> Result<Vec<f32>> {
        let chunks: Vec<&[usize]> = rows.chunks(EMBEDDED_TOGETHER).collect();
        let vectors = jobs::run(chunks.len(), self.settings.threads, |number| {
            if self.watch.stop.load(Ordering::Relaxed) {
                return None;
            }
            let mut dropout = Dropout { share: 0.0, random: Random(0) };
            Some(self.network.forward(&self.ids(chunks.get(number)?), &mut dropout).pooled)
        });
        Ok(vectors.ok_or(Error::Interrupted)?.concat())
    }
}

/// The gradient of every part of a batch. Reused from step to step.
#[derive(Default)]
pub(super) struct Gradients {
    pub(super) parts: Vec<Mutex<Vec<f32>>>,
}

impl Gradients {
    /// Adds up the parts in their order, into the first.
    pub(super) fn sum(&mut self, threads: usize) -> Result<&[f32]> {
        const BLOCK: usize = 1 << 16;
        let poisoned = |_| Error::Internal("a thread panicked");
        let mut parts = self.parts.iter_mut();
        let Some(first) = parts.next() else { return Ok(&[]) };
        let first = first.get_mut().map_err(poisoned)?;
        let others: Vec<&[f32]> = parts
            .map(|part| part.get_mut().map(|part| part.as_slice()))
            .collect::<std::result::Result<_, _>>()
            .map_err(poisoned)?;
        let blocks: Vec<Mutex<&mut [f32]>> = first.chunks_mut(BLOCK).map(Mutex::new).collect();
        let added = jobs::run(blocks.len(), threads, |number| {
            let mut block = blocks.get(number)?.lock().ok()?;
            for other in &others {
                let values = other.get(number * BLOCK..number * BLOCK + block.len())?;
                block.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
            Some(())
        });
        added.ok_or(Error::Internal("parts have the same length"))?;
        drop(blocks);
        Ok(first)
    }
}

/// How fast training goes.
pub(super) struct Pace {
    pub(super) began: Instant,
    pub(super) from: u64,
    pub(super) steps: u64,
}

impl Pace {
    pub(super) fn warm_up(&self) -> u64 {
        ((self.steps as f64 * WARM_UP) as u64).max(1)
    }

    pub(super) fn seconds_left(&self, step: u64) -> f64 {
        let done = step.saturating_sub(self.from).max(1) as f64;
        self.began.elapsed().as_secs_f64() / done * self.steps.saturating_sub(step) as f64
    }
}
