//! How does what the server does become traces that others can read, without any request waiting for it?
//!
//! ```text
//!   request ─► span ──────────► room? ─► exporter, one thread
//!   call    ─► span             else     batches, OTLP as JSON over HTTP,
//!              no text in it    dropped  tried again for a while
//! ```
//!
//! A span says which route, task, tier, model, how long and how many tokens: nothing of what was asked or answered, and there is no setting
//! that would change that. Callers' `traceparent` is taken up and handed on to providers.

mod otlp;

use crate::{
    error::{Error, Result},
    project::Project,
    secrets,
};
use hyper::HeaderMap;
use serde::Deserialize;
use sizewise_contract::{Decision, Disposition};
use sizewise_models::remote::{Call, Context, Post, Spans, Trace, random};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

/// Spans that may wait to be exported.
const WAITING: usize = 4_096;
/// Spans of one call to the collector.
const BATCH: usize = 512;
/// For how long a batch is filled.
const TICK: Duration = Duration::from_secs(1);
/// Until when the collector must have answered; once the server stops, soon.
const PATIENCE: Duration = Duration::from_secs(5);
const LAST_PATIENCE: Duration = Duration::from_secs(2);
/// How often a batch is tried, and the first wait in between, which doubles.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait, whatever the collector asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Where collectors take traces.
const PATH: &str = "/v1/traces";

/// Where traces go.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TelemetrySettings {
    /// The collector, as `http://HOST:4318`; spans go to `/v1/traces` below it.
    pub otlp: String,
    /// What each call to it carries; `env:NAME` and `file:PATH` stand for what is found there.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Share of the requests that are traced; a caller who traces decides for its own.
    #[serde(default = "all")]
    pub share: f64,
    /// Whether its name may lead to a private network, unprotected where it begins with `http://`.
    #[serde(default)]
    pub private: bool,
    /// What the program is called there.
    #[serde(default = "service")]
    pub service: String,
}

fn all() -> f64 {
    1.0
}

fn service() -> String {
    "sizewise".into()
}

/// One span, to be exported.
#[derive(Debug)]
enum Span {
    Request(Box<RequestSpan>),
    Call(Box<Call>),
}

/// What is told of a request.
#[derive(Debug)]
pub(crate) struct RequestSpan {
    /// Its place, and that of whoever asked.
    pub(crate) traced: Traced,
    /// How long it took.
    pub(crate) elapsed: Duration,
    /// The method and path of its route.
    pub(crate) route: (&'static str, &'static str),
    /// The status of the reply.
    pub(crate) status: u16,
    /// What was wrong, by its name in the table of errors.
    pub(crate) code: Option<&'static str>,
    /// What the reply is called.
    pub(crate) request_id: String,
    /// The public id of the key.
    pub(crate) key_id: Option<String>,
    /// What was decided.
    pub(crate) decided: Option<Decided>,
}

/// What is told of decisions.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    task: String,
    release: String,
    decision_id: Option<String>,
    decisions: usize,
    certified: bool,
    tiers: Vec<&'static str>,
    reasons: Vec<&'static str>,
    cost_micro_usd: u64,
    input_tokens: u64,
}

/// A request that is traced.
#[derive(Debug, Clone)]
pub(crate) struct Traced {
    pub(crate) context: Context,
    parent: Option<u64>,
    begun: SystemTime,
}

/// Hands spans to a collector.
#[derive(Debug)]
pub struct Telemetry {
    /// None once it ends.
    queue: Option<SyncSender<Span>>,
    /// Up to which random number a request is traced.
    share: u64,
    counts: Arc<Counts>,
    exporter: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Counts {
    exported: AtomicU64,
    dropped: AtomicU64,
    stopping: AtomicBool,
}

impl Telemetry {
    /// What the project's settings ask for; none where they ask for nothing.
    ///
    /// # Errors
    /// Fails when the collector's address or a header is none, or a secret cannot be read.
    pub fn start(project: &Project) -> Result<Option<Arc<Self>>> {
        let Some(settings) = &project.settings().telemetry else { return Ok(None) };
        let wrong = |problem: String| Error::usage(format!("[telemetry]: {problem}"));
        if !(0.0..=1.0).contains(&settings.share) {
            return Err(wrong("share is from 0 to 1".into()));
        }
        let mut headers = Vec::new();
        for (name, value) in &settings.headers {
            let is_named = value.starts_with("env:") || value.starts_with("file:");
            let value = if is_named { secrets::key(value, project.root())? } else { value.clone() };
            headers.push((name.clone(), value));
        }
        let address = settings.otlp.trim_end_matches('/');
        let address = address.strip_suffix(PATH).unwrap_or(address);
        let post = Post::new(address, settings.private, &headers).map_err(wrong)?;
        let (queue, waiting) = sync_channel(WAITING);
        let counts = Arc::<Counts>::default();
        let exporter =
            Exporter { post, service: settings.service.clone(), counts: Arc::clone(&counts), told: None };
        let exporter = std::thread::Builder::new()
            .name("telemetry".into())
            .spawn(move || exporter.run(&waiting))
            .map_err(|error| wrong(error.to_string()))?;
        // The cast saturates: a share of 1 is every number.
        let share = (settings.share * u64::MAX as f64) as u64;
        Ok(Some(Arc::new(Self { queue: Some(queue), share, counts, exporter: Mutex::new(Some(exporter)) })))
    }

    /// Begins to trace a request; none where neither the caller nor chance asks for it.
    pub(crate) fn begin(self: &Arc<Self>, headers: &HeaderMap) -> Option<(Traced, Trace)> {
        let header = headers.get("traceparent").and_then(|value| value.to_str().ok());
        let parent = header.and_then(Context::read);
        let context = match parent {
            Some(parent) => parent.child(),
            None if self.share > 0 && random() <= self.share => Context::new(true),
            None => return None,
        };
        let spans: Arc<dyn Spans> = Arc::<Self>::clone(self);
        let traced = Traced { context, parent: parent.map(|one| one.span_id), begun: SystemTime::now() };
        Some((traced, Trace::new(context, spans)))
    }

    /// Tells of a request that is answered.
    pub(crate) fn answered(&self, span: RequestSpan) {
        if span.traced.context.sampled {
            self.hand_over(Span::Request(Box::new(span)));
        }
    }

    /// Spans that were exported, and those that were dropped.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.counts.exported.load(Ordering::Relaxed), self.counts.dropped.load(Ordering::Relaxed))
    }

    fn hand_over(&self, span: Span) {
        if self.queue.as_ref().is_none_or(|queue| queue.try_send(span).is_err()) {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Spans for Telemetry {
    fn ended(&self, call: Call) {
        self.hand_over(Span::Call(Box::new(call)));
    }
}

impl Drop for Telemetry {
    /// What waits is exported, as far as the collector takes it soon.
    fn drop(&mut self) {
        self.counts.stopping.store(true, Ordering::Relaxed);
        drop(self.queue.take());
        if let Some(exporter) = self.exporter.lock().unwrap_or_else(PoisonError::into_inner).take() {
            exporter.thread().unpark();
            let _ = exporter.join();
        }
    }
}

impl Decided {
    /// What is told of some decisions; none where there is none.
    pub(crate) fn of(decisions: &[Decision]) -> Option<Self> {
        let first = decisions.first()?;
        let mut told = Self {
            task: first.task.clone(),
            release: first.release.short().to_string(),
            decision_id: (decisions.len() == 1).then(|| first.id.clone()),
            decisions: decisions.len(),
            certified: decisions.iter().all(|decision| decision.certified),
            ..Self::default()
        };
        for decision in decisions {
            told.cost_micro_usd = told.cost_micro_usd.saturating_add(decision.cost_micro_usd.0);
            told.input_tokens = told.input_tokens.saturating_add(decision.input_tokens);
            for answer in &decision.answers {
                note(&mut told.tiers, answer.tier.name());
                match (&answer.disposition, answer.handed_on) {
                    (Disposition::Escalated { reason, .. }, _) => note(&mut told.reasons, reason.name()),
                    (Disposition::Answered, Some(reason)) => note(&mut told.reasons, reason.name()),
                    (Disposition::Answered, None) => {}
                }
            }
        }
        Some(told)
    }
}

/// Each once.
fn note(names: &mut Vec<&'static str>, name: &'static str) {
    if !names.contains(&name) {
        names.push(name);
    }
}

/// The thread that tells the collector.
struct Exporter {
    post: Post,
    service: String,
    counts: Arc<Counts>,
    /// The trouble that was told last.
    told: Option<String>,
}

impl Exporter {
    fn run(mut self, waiting: &Receiver<Span>) {
        while let Ok(first) = waiting.recv() {
            let mut batch = vec![first];
            let until = Instant::now() + TICK;
            while batch.len() < BATCH {
                match waiting.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(span) => batch.push(span),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
            }
            self.export(&batch);
        }
    }

    /// Tells the collector of some spans, again after a while where that may help.
    fn export(&mut self, batch: &[Span]) {
        if self.is_stopping() && self.told.is_some() {
            // Whoever did not take the last batch is not waited for at the end.
            self.counts.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
            return;
        }
        let body = otlp::write(&self.service, batch);
        let mut wait = FIRST_WAIT;
        for tried in 1..=TRIES {
            let patience = if self.is_stopping() { LAST_PATIENCE } else { PATIENCE };
            let asked = match self.post.send(PATH, body.clone(), patience) {
                Ok(said) if (200..=299).contains(&said.status) => {
                    self.counts.exported.fetch_add(batch.len() as u64, Ordering::Relaxed);
                    self.told = None;
                    return;
                }
                // Those that the protocol says to try again (OTLP 1.x, "Failures").
                Ok(said) if matches!(said.status, 429 | 502..=504) => {
                    self.tell(format!("the collector answers with status {}", said.status));
                    said.wait_s.map(Duration::from_secs)
                }
                Ok(said) => {
                    self.tell(format!("the collector refuses them with status {}", said.status));
                    break;
                }
                Err(problem) => {
                    self.tell(problem);
                    None
                }
            };
            if tried == TRIES || self.is_stopping() {
                break;
            }
            std::thread::park_timeout(asked.unwrap_or(wait).min(LONGEST_WAIT));
            wait *= 2;
        }
        self.counts.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
    }

    fn is_stopping(&self) -> bool {
        self.counts.stopping.load(Ordering::Relaxed)
    }

    /// Says what is wrong, once.
    fn tell(&mut self, problem: String) {
        if self.told.as_ref() != Some(&problem) {
            eprintln!("traces are not taken: {problem}");
            self.told = Some(problem);
        }
    }
}
