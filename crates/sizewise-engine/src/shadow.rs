//! What would the release on trial have answered, and how is that counted without anybody waiting for it?
//!
//! One thread judges copies of requests that were answered, after the answer: local tiers alone, so that it costs no money, asks no
//! person and leaves no record. It waits for an encoder that others wait for, and what it cannot keep up with is dropped and counted.
//! Counts are added to the store every few seconds and when the engine ends; a killed process loses the last seconds of them.

use crate::{
    admit, cascade,
    error::Error,
    escalate,
    request::{InputValue, QuestionRef, Request},
    served::Served,
    settle,
    trials::Running,
};
use sizewise_contract::{
    Answer, Comparison, ContentHash, Decision, Difference, Step, Tier, task::StoreInput,
};
use sizewise_store::{DIFFERENCES_KEPT, Store};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Requests that may wait to be judged once more.
const WAITING: usize = 1_024;
/// Memory that their inputs may take. `bytes`
const WAITING_BYTES: usize = 16 << 20;
/// How often counts are added to the store.
const FLUSH: Duration = Duration::from_secs(2);
/// How long a busy encoder is waited for, and how often it is looked at.
const PATIENCE: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_millis(1);

/// Judges on a thread of its own.
#[derive(Debug)]
pub(crate) struct Shadow {
    queue: Option<SyncSender<Work>>,
    bytes: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
    tallies: Arc<Mutex<Vec<Arc<Tally>>>>,
    thread: Option<JoinHandle<()>>,
}

/// What is counted of one trial beside one release in force, until it is in the store.
#[derive(Debug)]
pub(crate) struct Tally {
    number: i64,
    live: ContentHash,
    counted: Mutex<(Comparison, VecDeque<Difference>)>,
    /// Inputs, dropped and failed ones since the engine started.
    seen: [AtomicU64; 3],
}

/// A request that was answered and is to be judged once more.
#[derive(Debug)]
pub(crate) struct Work {
    running: Arc<Running>,
    inputs: Vec<InputValue>,
    group: Option<String>,
    /// Questions by name, in the order asked.
    questions: Vec<String>,
    answered: Vec<Answered>,
    bytes: usize,
}

/// What the release in force made of one input.
#[derive(Debug)]
struct Answered {
    decision: String,
    answers: Vec<Said>,
    took_us: u64,
}

#[derive(Debug)]
struct Said {
    value: String,
    confidence: Option<f64>,
    answered: bool,
}

impl Work {
    /// Takes the inputs of a request that was answered.
    pub(crate) fn new(running: Arc<Running>, request: &mut Request, decisions: &[Decision]) -> Self {
        let inputs = std::mem::take(&mut request.inputs);
        let questions = decisions.first().map(|decision| {
            decision.answers.iter().map(|answer| answer.question.clone()).collect::<Vec<_>>()
        });
        let said = |answer: &Answer| Said {
            value: answer.value.clone(),
            confidence: answer.confidence,
            answered: is_local(answer),
        };
        let answered = decisions.iter().map(|decision| Answered {
            decision: decision.id.clone(),
            answers: decision.answers.iter().map(said).collect(),
            took_us: took(&decision.answers),
        });
        Self {
            bytes: inputs.iter().map(size).sum(),
            answered: answered.collect(),
            questions: questions.unwrap_or_default(),
            group: request.group.clone(),
            inputs,
            running,
        }
    }
}

fn size(input: &InputValue) -> usize {
    match input {
        InputValue::Text(text) => text.len(),
        InputValue::Fields(fields) => fields.iter().map(|(name, value)| name.len() + value.len()).sum(),
    }
}

/// Whether a local tier answered, and no larger model.
fn is_local(answer: &Answer) -> bool {
    answer.answered() && answer.tier != Tier::Remote
}

/// How long the local tiers took for one input: each is asked once, for all questions together.
fn took(answers: &[Answer]) -> u64 {
    let steps = || answers.iter().flat_map(|answer| &answer.path);
    let of = |tier: Tier| steps().filter(|step: &&Step| step.tier == tier).map(|step| step.elapsed_us).max();
    [Tier::Static, Tier::Encoder].into_iter().filter_map(of).sum()
}

impl Shadow {
    pub(crate) fn start(store: Arc<Store>) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|_| Error::Internal("the system gives a thread of its own for shadows"))?;
        let (queue, waiting) = sync_channel(WAITING);
        let (bytes, stopping, tallies) =
            (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<_>>>::default());
        let worker = Worker {
            store,
            runtime,
            bytes: Arc::clone(&bytes),
            stopping: Arc::clone(&stopping),
            tallies: Arc::clone(&tallies),
        };
        let thread = std::thread::Builder::new()
            .name("shadow".into())
            .spawn(move || worker.run(&waiting))
            .map_err(|_| Error::Internal("the system gives a thread of its own for shadows"))?;
        Ok(Self { queue: Some(queue), bytes, stopping, tallies, thread: Some(thread) })
    }

    /// Counts of a trial beside a release in force.
    pub(crate) fn tally(&self, number: i64, live: ContentHash) -> Arc<Tally> {
        let tally = Arc::new(Tally { number, live, counted: Mutex::default(), seen: Default::default() });
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.push(Arc::clone(&tally));
        tally
    }

    /// Hands a request over, or counts that it was too much. Waits for nobody.
    pub(crate) fn judge(&self, work: Work) {
        let (tally, inputs, bytes) = (Arc::clone(&work.running.tally), work.inputs.len(), work.bytes);
        let held = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let taken = held + bytes <= WAITING_BYTES
            && self.queue.as_ref().is_some_and(|queue| queue.try_send(work).is_ok());
        if !taken {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            tally.leave_out(inputs);
        }
    }
}

impl Drop for Shadow {
    /// Writes down what was counted; what still waits is dropped, as nobody waits for it.
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    store: Arc<Store>,
    runtime: tokio::runtime::Runtime,
    bytes: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
    tallies: Arc<Mutex<Vec<Arc<Tally>>>>,
}

impl Worker {
    fn run(&self, waiting: &Receiver<Work>) {
        let mut flushed = Instant::now();
        loop {
            match waiting.recv_timeout(FLUSH.saturating_sub(flushed.elapsed())) {
                Ok(work) => {
                    self.bytes.fetch_sub(work.bytes, Ordering::Relaxed);
                    self.take(&work);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if flushed.elapsed() >= FLUSH {
                self.flush();
                flushed = Instant::now();
            }
        }
        self.flush();
    }

    fn take(&self, work: &Work) {
        let (served, tally) = (&work.running.served, &work.running.tally);
        if self.stopping.load(Ordering::Relaxed) || !self.is_free(served) {
            return tally.leave_out(work.inputs.len());
        }
        match self.runtime.block_on(judge(served, work)) {
            Ok(judged) => {
                for (answered, answers) in work.answered.iter().zip(&judged) {
                    tally.compare(&work.questions, answered, answers);
                }
            }
            // Others wait for the encoder, or there is no room in its queue.
            Err(Error::Model(sizewise_models::Error::Overloaded { .. })) => {
                tally.leave_out(work.inputs.len())
            }
            Err(_) => tally.fail(work.inputs.len()),
        }
    }

    /// Whether nobody else waits for the encoder, or soon will not.
    fn is_free(&self, served: &Served) -> bool {
        let Some(encoder) = &served.encoder else { return true };
        let begun = Instant::now();
        while encoder.waiting_tokens() > 0 {
            if begun.elapsed() > PATIENCE || self.stopping.load(Ordering::Relaxed) {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    }

    /// Adds what was counted to the store. What cannot be written is counted on, and tried again.
    fn flush(&self) {
        let tallies = self.lock().clone();
        for tally in tallies {
            let (counted, differences) = std::mem::take(&mut *tally.lock());
            if counted.is_empty() {
                continue;
            }
            let (first, second) = differences.as_slices();
            let kept = [first, second].concat();
            if let Err(error) = self.store.count_trial((tally.number, &tally.live), &counted, &kept) {
                eprintln!("counts of a trial could not be written: {error}");
                let mut held = tally.lock();
                held.0.add(&counted);
                held.1 = differences;
            }
        }
        // Nobody counts any more on those that are held here alone, and what they held is written.
        self.lock().retain(|tally| Arc::strong_count(tally) > 1 || !tally.lock().0.is_empty());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Tally>>> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the release on trial says to each input, question after question in the order asked; none where it asks no such question.
async fn judge(served: &Arc<Served>, work: &Work) -> Result<Vec<Vec<Option<Answer>>>, Error> {
    let known: Vec<Option<usize>> = work
        .questions
        .iter()
        .map(|name| served.info.task.question(name).map(|(position, _)| position))
        .collect();
    let request = Request {
        task: served.info.task.name.clone(),
        inputs: work.inputs.clone(),
        questions: Some(known.iter().flatten().map(|position| QuestionRef(*position)).collect()),
        group: work.group.clone(),
        dry_run: true,
        ..Request::default()
    };
    let begun = Instant::now();
    let admitted = admit::admit(served, &request, (StoreInput::Nothing, &served.limits()))?;
    let outcome = cascade::run(served, &admitted).await?;
    let answered = escalate::escalate(served, &admitted, outcome, (None, &request), begun).await;
    let in_order = |answers: Vec<Answer>| {
        let mut answers = answers.into_iter();
        known.iter().map(|position| position.and_then(|_| answers.next())).collect()
    };
    Ok(answered.into_iter().map(|one| in_order(one.answers)).collect())
}

impl Tally {
    /// Counts decisions of either release of a canary.
    pub(crate) fn count(&self, decisions: &[Decision], canary: bool) {
        self.see(0, decisions.len());
        let mut held = self.lock();
        let counted = &mut held.0;
        for decision in decisions {
            counted.inputs += 1;
            let took = took(&decision.answers);
            if canary {
                counted.trial_took.count(took)
            } else {
                counted.live_took.count(took)
            }
            for answer in &decision.answers {
                let of = counted.of(&answer.question);
                let arm = if canary { &mut of.trial } else { &mut of.live };
                arm.count(is_local(answer));
            }
        }
    }

    /// Counts what both releases made of one input.
    fn compare(&self, questions: &[String], live: &Answered, trial: &[Option<Answer>]) {
        self.see(0, 1);
        let mut held = self.lock();
        let (counted, differences) = &mut *held;
        counted.inputs += 1;
        counted.live_took.count(live.took_us);
        let judged: Vec<Answer> = trial.iter().flatten().cloned().collect();
        counted.trial_took.count(took(&judged));
        for ((question, said), answer) in questions.iter().zip(&live.answers).zip(trial) {
            let of = counted.of(question);
            of.live.count(said.answered);
            let Some(answer) = answer else { continue };
            of.trial.count(is_local(answer));
            if !(said.answered && is_local(answer)) {
                continue;
            }
            of.both += 1;
            of.agree += u64::from(said.value == answer.value);
            if said.value == answer.value {
                continue;
            }
            if differences.len() >= DIFFERENCES_KEPT as usize {
                differences.pop_front();
            }
            differences.push_back(Difference {
                decision: live.decision.clone(),
                question: question.clone(),
                at: settle::now(),
                live: self.live,
                live_value: said.value.clone(),
                live_confidence: said.confidence,
                trial_value: answer.value.clone(),
                trial_confidence: answer.confidence,
            });
        }
    }

    /// Counts inputs that could not be kept up with.
    fn leave_out(&self, inputs: usize) {
        self.see(1, inputs);
        self.lock().0.dropped += inputs as u64;
    }

    /// Counts inputs that the release on trial failed at.
    pub(crate) fn fail(&self, inputs: usize) {
        self.see(2, inputs);
        self.lock().0.failed += inputs as u64;
    }

    /// Inputs, dropped and failed ones since the engine started.
    pub(crate) fn seen(&self) -> [u64; 3] {
        self.seen.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    fn see(&self, which: usize, inputs: usize) {
        if let Some(count) = self.seen.get(which) {
            count.fetch_add(inputs as u64, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Comparison, VecDeque<Difference>)> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
