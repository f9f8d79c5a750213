//! What is recorded of relayed calls, without any of them waiting for it?
//!
//! ```text
//!   relay ─► watch ─────────► room? ─► writer, one thread
//!            keeps the bytes   else     reads the protocol, masks personal
//!            as they pass      dropped  data, names the place, writes
//! ```
//!
//! A call that is relayed costs one copy of its bytes. All else happens on the writer's thread; where that is behind, or a second has
//! brought so many that it would take more than a small part of a core, calls are dropped and counted. Only what was answered well and to its end is recorded, and nothing of a caller who asks for that.

mod answer;
mod request;
mod writer;

pub(crate) use writer::Bounds;

use crate::error::Result;
use answer::{Answered, usage_or_guess};
use request::Heard;
use serde_json::Value;
use sizewise_contract::units::{MicroUsd, Prices, UnixMillis};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Calls that may wait for the writer.
const WAITING: usize = 4_096;
/// Calls that are recorded in a second. The writer needs some 50 µs for one, so that it takes a twentieth of a core at most.
const MOST_A_SECOND: u64 = 1_000;
/// Bytes of calls that may wait.
const WAITING_BYTES: usize = 64 << 20;
/// Largest request and largest answer (as it streams) that are recorded.
const MOST_BYTES: usize = 256 << 10;
/// Names a site outright.
pub(crate) const SITE: &str = "x-sizewise-site";
/// With `off`: nothing is recorded.
pub(crate) const OBSERVE: &str = "x-sizewise-observe";
/// Longest name of a site.
const NAME_BYTES: usize = 100;

/// The protocols that decisions are asked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Chat,
    Responses,
    Messages,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Messages => "messages",
        }
    }
}

/// Records relayed calls.
#[derive(Debug)]
pub(crate) struct Observer {
    sender: SyncSender<Option<Box<Exchange>>>,
    thread: Option<JoinHandle<()>>,
    counts: Arc<Counts>,
    started: Instant,
    /// The second that is being counted, and its calls.
    second: (AtomicU64, AtomicU64),
}

/// What became of calls.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    kept: AtomicU64,
    dropped: AtomicU64,
    waiting_bytes: AtomicUsize,
}

/// Who asks what.
#[derive(Debug, Clone)]
pub(crate) struct Asking {
    pub(crate) protocol: Protocol,
    /// The model, as the program names it.
    pub(crate) model: String,
    pub(crate) site: Option<String>,
    pub(crate) key_id: Option<String>,
}

/// Who answered.
#[derive(Debug, Clone)]
pub(crate) struct Answering {
    pub(crate) provider: String,
    /// The model, as the provider was asked for it.
    pub(crate) model: String,
    pub(crate) prices: Prices,
}

/// A call with its answer, both as they passed.
#[derive(Debug)]
struct Exchange {
    asking: Asking,
    answering: Answering,
    request: Vec<u8>,
    answer: Vec<u8>,
    streamed: bool,
    at: UnixMillis,
    latency: Duration,
}

/// A call under way.
#[derive(Debug)]
pub(crate) struct Watch {
    observer: Arc<Observer>,
    begun: Instant,
    exchange: Box<Exchange>,
    /// Too large to be recorded.
    lost: bool,
}

impl Observer {
    /// Begins to record into the store of a folder.
    ///
    /// # Errors
    /// Fails when the store cannot be opened.
    pub(crate) fn start(folder: &Path, bounds: Bounds) -> Result<Self> {
        let counts = Arc::<Counts>::default();
        let (sender, receiver) = sync_channel(WAITING);
        let writer = writer::Writer::open(folder, bounds, Arc::clone(&counts))?;
        let thread = std::thread::Builder::new()
            .name("observe".into())
            .spawn(move || writer.run(&receiver))
            .map_err(|cause| crate::error::Error::file(folder, cause))?;
        let second = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { sender, thread: Some(thread), counts, started: Instant::now(), second })
    }

    /// Calls that were recorded, and calls that should have been and were not.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.counts.kept.load(Ordering::Relaxed), self.counts.dropped.load(Ordering::Relaxed))
    }

    /// Begins to watch a call; none where this second has had its calls.
    pub(crate) fn watch(self: &Arc<Self>, asking: Asking, request: &[u8]) -> Option<Watch> {
        if !self.has_room() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let lost = request.len() > MOST_BYTES;
        let answering =
            Answering { provider: String::new(), model: String::new(), prices: Prices::default() };
        Some(Watch {
            observer: Arc::clone(self),
            begun: Instant::now(),
            lost,
            exchange: Box::new(Exchange {
                asking,
                answering,
                request: if lost { Vec::new() } else { request.to_vec() },
                answer: Vec::new(),
                streamed: false,
                at: crate::clock::now(),
                latency: Duration::ZERO,
            }),
        })
    }

    /// Counts a call, and whether its second has room for it. At the turn of a second a few more may get in.
    fn has_room(&self) -> bool {
        let now = self.started.elapsed().as_secs();
        let (second, calls) = &self.second;
        if second.swap(now, Ordering::Relaxed) != now {
            calls.store(0, Ordering::Relaxed);
        }
        calls.fetch_add(1, Ordering::Relaxed) < MOST_A_SECOND
    }

    fn hand_over(&self, exchange: Box<Exchange>) {
        let bytes = exchange.bytes();
        let waiting = self.counts.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        if waiting + bytes > WAITING_BYTES || self.sender.try_send(Some(exchange)).is_err() {
            self.counts.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Observer {
    /// Waits until everything that was handed over is written.
    fn drop(&mut self) {
        let _ = self.sender.send(None);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Watch {
    /// The answer has begun.
    pub(crate) fn answered_by(&mut self, answering: Answering, streamed: bool) {
        (self.exchange.answering, self.exchange.streamed) = (answering, streamed);
    }

    /// A piece of the answer.
    pub(crate) fn piece(&mut self, piece: &[u8]) {
        if self.lost || self.exchange.answer.len() + piece.len() > MOST_BYTES {
            self.lost = true;
            self.exchange.answer = Vec::new();
        } else {
            self.exchange.answer.extend_from_slice(piece);
        }
    }

    /// The answer has come to its end, as its protocol ends; whatever ends otherwise is not recorded.
    pub(crate) fn ended(mut self) {
        self.exchange.latency = self.begun.elapsed();
        if self.lost {
            self.observer.counts.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            self.observer.hand_over(self.exchange);
        }
    }
}

impl Exchange {
    fn bytes(&self) -> usize {
        self.request.len() + self.answer.len()
    }

    /// What was asked and answered; none where it is no decision about a text, or cannot be read.
    fn read(&self) -> Option<(Heard, Answered)> {
        let request: Value = serde_json::from_slice(&self.request).ok()?;
        let heard = request::read(self.asking.protocol, &request)?;
        let answer = answer::read(self.asking.protocol, &self.answer, self.streamed)?;
        Some((heard, answer))
    }

    /// What it cost, and whether that is a guess.
    fn cost(&self, heard: &Heard, answered: &Answered) -> (MicroUsd, bool) {
        let called = answered.said.calls.iter().map(|called| called.arguments.to_string().len());
        let said = answered.said.text.as_ref().map_or(0, String::len) + called.sum::<usize>();
        let told = heard.text.len() + heard.fixed.system.len();
        let (read, written, guessed) = usage_or_guess(answered.usage, (told, said));
        (self.answering.prices.of(read, written), guessed)
    }
}

/// What the recorder would write of one relayed call, as JSON: what is the same from call to call, and the rest. None where it is no decision
/// about a text. The server records through its relay alone; this is for tests of what strangers can send.
#[must_use]
pub fn recorded(
    protocol: &str,
    request: &[u8],
    (answer, streamed): (&[u8], bool),
    redacted: bool,
) -> Option<(String, String)> {
    let all = [Protocol::Chat, Protocol::Responses, Protocol::Messages];
    let protocol = all.into_iter().find(|one| one.name() == protocol)?;
    let prices = Prices { read: MicroUsd(150_000), written: MicroUsd(600_000) };
    let exchange = Exchange {
        asking: Asking { protocol, model: "primary".into(), site: None, key_id: None },
        answering: Answering { provider: "primary".into(), model: "m".into(), prices },
        request: request.to_vec(),
        answer: answer.to_vec(),
        streamed,
        at: UnixMillis(0),
        latency: Duration::ZERO,
    };
    writer::row(&exchange, redacted).map(|row| (row.place, row.call))
}

/// The name that a program gives a site.
pub(crate) fn named(header: &str) -> Option<String> {
    let name = header.trim();
    let fits =
        !name.is_empty() && name.len() <= NAME_BYTES && name.bytes().all(|b| (0x21..0x7f).contains(&b));
    fits.then(|| name.to_owned())
}

#[cfg(test)]
mod tests;
