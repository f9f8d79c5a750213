//! How do requests that arrive together share one pass of the encoder?
//!
//! Texts wait in one queue. A free worker takes what is there, as much as fills a batch but no more than its share, and
//! runs it; nobody waits for a batch to fill up. So one request alone is as fast as it can be, and the busier the
//! server, the larger the batches. Tasks whose encoders differ by an adapter alone wait in the same queue.

use crate::{
    encoder::{Adapter, BATCH_TOKENS, Encoder, Sequence, merge_windows},
    error::{Error, Result},
};
use sizewise_contract::{Embed, Embeddings, task::Overflow};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

/// Word pieces that may wait; more are refused. About ten seconds of work for one core.
const WAITING_TOKENS: usize = 1 << 17;

type Told = Box<dyn FnOnce(Result<Embeddings>) + Send>;

/// An encoder behind a queue, with workers of its own.
#[derive(Debug)]
pub struct Batcher {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    encoder: Encoder,
    queue: Mutex<Queue>,
    wake: Condvar,
    workers: usize,
    waiting_tokens: AtomicUsize,
    most_waiting: usize,
}

#[derive(Debug, Default)]
struct Queue {
    sequences: VecDeque<Waiting>,
    closed: bool,
}

/// One window of one text.
#[derive(Debug)]
struct Waiting {
    ids: Vec<u32>,
    /// What the task that asks changes of the encoder.
    adapter: Option<Arc<Adapter>>,
    request: Arc<Pending>,
    position: usize,
}

/// A request whose windows are being embedded.
struct Pending {
    state: Mutex<State>,
}

struct State {
    parts: Embeddings,
    owners: Vec<usize>,
    texts: usize,
    missing: usize,
    told: Option<Told>,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pending")
    }
}

impl Batcher {
    /// Starts workers, each on a thread of its own.
    ///
    /// # Errors
    /// Fails when the system gives no threads.
    pub fn start(encoder: Encoder, workers: usize) -> Result<Self> {
        Self::start_with(encoder, workers, WAITING_TOKENS)
    }

    fn start_with(encoder: Encoder, workers: usize, most_waiting: usize) -> Result<Self> {
        let workers = workers.max(1);
        let shared = Arc::new(Shared {
            encoder: encoder.with_threads(1),
            queue: Mutex::default(),
            wake: Condvar::new(),
            workers,
            waiting_tokens: AtomicUsize::new(0),
            most_waiting,
        });
        let threads = (0..workers).map(|_| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("encoder".into())
                .spawn(move || shared.work())
                .map_err(|_| Error::Internal("the system gives a thread"))
        });
        Ok(Self { workers: threads.collect::<Result<_>>()?, shared })
    }

    /// The place of a task that has this encoder without an adapter.
    #[must_use]
    pub fn seat(self: &Arc<Self>) -> Seat {
        Seat { encoder: self.shared.encoder.without_adapter(), batcher: Arc::clone(self) }
    }

    /// Word pieces that wait.
    #[must_use]
    pub fn waiting_tokens(&self) -> usize {
        self.shared.waiting_tokens.load(Ordering::Relaxed)
    }

    fn submit(
        &self,
        (texts, adapter): (&[&str], Option<&Arc<Adapter>>),
        overflow: Overflow,
        told: impl FnOnce(Result<Embeddings>) + Send + 'static,
    ) -> Result<()> {
        let (sequences, owners) = self.shared.encoder.sequences(texts, overflow)?;
        let tokens: usize = sequences.iter().map(Vec::len).sum();
        let dimensions = Embed::dimensions(&self.shared.encoder);
        let parts = Embeddings {
            values: vec![0.0; sequences.len() * dimensions],
            dimensions,
            tokens: sequences.iter().map(|ids| ids.len() as u32).collect(),
        };
        let missing = sequences.len();
        let state = State { parts, owners, texts: texts.len(), missing, told: Some(Box::new(told)) };
        let request = Arc::new(Pending { state: Mutex::new(state) });
        if missing == 0 {
            request.finish(Ok(()));
            return Ok(());
        }
        let mut queue = self.shared.queue();
        if queue.closed {
            return Err(Error::ShuttingDown);
        }
        let waiting = self.shared.waiting_tokens.load(Ordering::Relaxed);
        if waiting > 0 && waiting + tokens > self.shared.most_waiting {
            return Err(Error::Overloaded { waiting });
        }
        self.shared.waiting_tokens.fetch_add(tokens, Ordering::Relaxed);
        queue.sequences.extend(sequences.into_iter().enumerate().map(|(position, ids)| Waiting {
            ids,
            adapter: adapter.cloned(),
            request: Arc::clone(&request),
            position,
        }));
        drop(queue);
        match missing {
            1 => self.shared.wake.notify_one(),
            _ => self.shared.wake.notify_all(),
        }
        Ok(())
    }
}

/// A task's place at a batcher: its encoder's adapter changes the texts that it hands over.
#[derive(Debug)]
pub struct Seat {
    encoder: Encoder,
    batcher: Arc<Batcher>,
}

impl Seat {
    /// The task's encoder.
    #[must_use]
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Word pieces that wait, of all tasks at this encoder.
    #[must_use]
    pub fn waiting_tokens(&self) -> usize {
        self.batcher.waiting_tokens()
    }

    /// A place at the same batcher for a task that changes the encoder.
    ///
    /// # Errors
    /// Fails when the bytes are no adapter, or one of another encoder.
    pub fn with_adapter(&self, bytes: &[u8]) -> Result<Self> {
        Ok(Self { encoder: self.encoder.with_adapter(bytes)?, batcher: Arc::clone(&self.batcher) })
    }

    /// Hands texts over; `told` gets their embeddings, in order, on a worker's thread.
    ///
    /// # Errors
    /// Fails at once, without calling `told`, when a text is too long or too much waits already.
    pub fn submit(
        &self,
        texts: &[&str],
        overflow: Overflow,
        told: impl FnOnce(Result<Embeddings>) + Send + 'static,
    ) -> Result<()> {
        self.batcher.submit((texts, self.encoder.adapter()), overflow, told)
    }
}

impl Drop for Batcher {
    /// Finishes what waits.
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(batch) = self.next_batch() {
            let sequences: Vec<Sequence<'_>> = batch
                .iter()
                .map(|waiting| Sequence { ids: &waiting.ids, adapter: waiting.adapter.as_deref() })
                .collect();
            match self.encoder.embed_sequences(&sequences) {
                Ok(found) => {
                    for (row, waiting) in found.rows().zip(&batch) {
                        waiting.request.put(waiting.position, row);
                    }
                }
                Err(_) => batch.iter().for_each(|waiting| {
                    waiting.request.finish(Err(Error::Internal("checked ids can be embedded")))
                }),
            }
        }
    }

    /// Waits for work; none once the queue is closed and empty.
    fn next_batch(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.queue();
        while queue.sequences.is_empty() {
            if queue.closed {
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let share = queue.sequences.len().div_ceil(self.workers);
        let (mut batch, mut tokens) = (Vec::new(), 0);
        while batch.len() < share
            && let Some(next) = queue.sequences.front()
            && (batch.is_empty() || tokens + next.ids.len() <= BATCH_TOKENS)
        {
            tokens += next.ids.len();
            batch.extend(queue.sequences.pop_front());
        }
        self.waiting_tokens.fetch_sub(tokens, Ordering::Relaxed);
        Some(batch)
    }
}

impl Pending {
    fn put(&self, position: usize, row: &[f32]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let dimensions = state.parts.dimensions;
        if let Some(slot) = state.parts.values.get_mut(position * dimensions..(position + 1) * dimensions) {
            slot.copy_from_slice(row);
        }
        state.missing = state.missing.saturating_sub(1);
        let done = state.missing == 0;
        drop(state);
        if done {
            self.finish(Ok(()));
        }
    }

    fn finish(&self, outcome: Result<()>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(told) = state.told.take() else { return };
        let parts = std::mem::take(&mut state.parts);
        let (owners, texts) = (std::mem::take(&mut state.owners), state.texts);
        drop(state);
        told(outcome.map(|()| merge_windows(parts, &owners, texts)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;
    use std::sync::mpsc::channel;

    #[test]
    fn every_request_gets_its_own_embeddings_however_they_are_batched() {
        let alone = builtin::encoder().unwrap().with_threads(1);
        let batcher = Arc::new(Batcher::start(builtin::encoder().unwrap(), 3).unwrap());
        let seat = batcher.seat();
        let long = "word ".repeat(700);
        let texts: Vec<String> =
            (0..40).map(|i| format!("question {i} {}", "about it ".repeat(i % 9))).collect();
        let (sender, receiver) = channel();
        for (number, pair) in texts.chunks(2).enumerate() {
            let (a, b) = (pair[0].as_str(), if number % 7 == 0 { long.as_str() } else { pair[1].as_str() });
            let sender = sender.clone();
            seat.submit(&[a, b], Overflow::Window, move |found| sender.send((number, found)).unwrap())
                .unwrap();
        }
        for _ in 0..texts.len() / 2 {
            let (number, found) = receiver.recv().unwrap();
            let b = if number % 7 == 0 { long.as_str() } else { texts[number * 2 + 1].as_str() };
            let expected = alone.embed(&[&texts[number * 2], b], Overflow::Window).unwrap();
            assert_eq!(found.unwrap(), expected);
        }
        assert_eq!(batcher.waiting_tokens(), 0);
    }

    #[test]
    fn too_long_and_too_much_are_refused_at_once_and_the_rest_is_finished() {
        let batcher = Arc::new(Batcher::start_with(builtin::encoder().unwrap(), 1, 3_000).unwrap());
        let seat = batcher.seat();
        let long = "word ".repeat(600);
        let refused = seat.submit(&[&long], Overflow::Error, |_| panic!("refused"));
        assert!(matches!(refused, Err(Error::TooLong { .. })));
        let (sender, receiver) = channel();
        let many: Vec<&str> = std::iter::repeat_n("some words to be embedded", 50).collect();
        let mut accepted = 0;
        while seat
            .submit(&many, Overflow::Error, {
                let sender = sender.clone();
                move |found| sender.send(found.unwrap().tokens.len()).unwrap()
            })
            .is_ok()
        {
            accepted += 1;
        }
        drop(sender);
        drop((seat, batcher));
        assert!(accepted > 5, "{accepted}");
        assert_eq!(receiver.iter().collect::<Vec<_>>(), vec![50; accepted]);
    }
}
