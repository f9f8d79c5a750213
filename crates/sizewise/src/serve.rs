//! How does a request over HTTP become a reply?
//!
//! ```text
//!   connection ─► route ─► admit ─────────► body ──────► endpoint ─────► reply
//!   limits,       one      host, key,       bounded,     wire ⇄ engine   status, headers,
//!   timeouts      table    free places      decompressed                 counted, logged
//! ```
//!
//! [`Serving::answer`] is that row, and each step is a module of that name. There is one table of routes
//! ([`routes::ROUTES`]) and one place where requests are admitted ([`admit`]): a route is open only where the table says so.
//! HTTP/1.1 is spoken through `hyper` without a framework on top: the table already holds what a router and its
//! middleware would, and the documentation, the metrics and the tests read it too.

mod access_log;
mod admit;
mod body;
mod connections;
mod console;
mod endpoints;
mod metrics;
mod quota;
mod relay;
mod reply;
pub mod routes;
mod settings;
pub mod status;

pub use admit::KeyCheck;
pub use connections::{Drained, Server, run};
pub use metrics::QueueDepth;
pub use quota::{Member, Quota};
pub use relay::Relay;
pub use settings::{ServeError, Settings};

use crate::{
    learner,
    telemetry::{RequestSpan, Traced},
    wire::{
        WireError,
        live::{self, Evidence},
    },
};
use access_log::{Line, Log};
use hyper::{Request, Response, body::Incoming, http::request::Parts};
use metrics::Metrics;
use reply::{Body, REQUEST_ID, Reply, is_request_id};
use routes::Found;
use sizewise_contract::{Code, Decision, Diagnose, Fault};
use sizewise_engine::{Engine, Feedback, LookCounts, Standing, TaskInfo, TrialStanding};
use sizewise_models::{
    neighbours::Neighbour,
    remote::{ProviderState, Trace},
};
use sizewise_store::Fed;
use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::Semaphore;

/// What the server needs of an engine.
pub trait Decider: Send + Sync + 'static {
    /// Decides every input of a request.
    fn decide(
        &self,
        request: sizewise_engine::Request,
    ) -> impl Future<Output = Result<Vec<Decision>, sizewise_engine::Error>> + Send;

    /// One task that is served.
    ///
    /// # Errors
    /// Fails when no task of that name is served.
    fn task(&self, name: &str) -> Result<TaskInfo, sizewise_engine::Error>;

    /// The tasks that are served.
    fn tasks(&self) -> Vec<TaskInfo>;

    /// Takes in what somebody says about a decision. May wait for the disk.
    ///
    /// # Errors
    /// Says what is wrong with it.
    fn feedback(&self, feedback: &Feedback) -> Result<Fed, sizewise_engine::Error> {
        let (task, decision) = (feedback.task.clone(), feedback.decision.clone());
        Err(sizewise_engine::Error::UnknownDecision { task, decision })
    }

    /// Serves what is in force of a task now, at once. May wait for the disk.
    ///
    /// # Errors
    /// Fails when it cannot be loaded; what was served before is then served on.
    fn take_up(&self, _task: &str) -> Result<(), sizewise_engine::Error> {
        Ok(())
    }

    /// How the promises of a task stand. May wait for the disk.
    ///
    /// # Errors
    /// Fails when no task of that name is served.
    fn evidence(&self, task: &str) -> Result<Evidence, sizewise_engine::Error> {
        let rules = self.task(task)?.task.live.clone();
        Ok(Evidence {
            rules,
            standings: Vec::new(),
            changes: Vec::new(),
            trial: None,
            kinds: Vec::new(),
            looks: None,
            mixes: Vec::new(),
            renewals: Vec::new(),
        })
    }

    /// The training rows most like a text, nearest first; none where nobody knows.
    fn nearest(
        &self,
        _task: &str,
        _text: &str,
        _count: usize,
    ) -> impl Future<Output = Result<Vec<Neighbour>, sizewise_engine::Error>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// The releases that are tried beside those that are served.
    fn trials(&self) -> Vec<TrialStanding> {
        Vec::new()
    }

    /// How the promises of a task stand, for the metrics; nothing of a task that is not there.
    fn standings(&self, _task: &str) -> Vec<Standing> {
        Vec::new()
    }

    /// What came of looking for new kinds of input; none where nobody looks.
    fn look_counts(&self, _task: &str) -> Option<LookCounts> {
        None
    }

    /// The providers of larger models, by name, and how each is doing.
    fn providers(&self) -> BTreeMap<String, ProviderState> {
        BTreeMap::new()
    }

    /// How much waits in each queue, for the metrics.
    fn queue_depths(&self) -> Vec<QueueDepth> {
        Vec::new()
    }
}

impl Decider for Engine {
    async fn decide(
        &self,
        request: sizewise_engine::Request,
    ) -> Result<Vec<Decision>, sizewise_engine::Error> {
        Self::decide(self, request).await
    }

    fn task(&self, name: &str) -> Result<TaskInfo, sizewise_engine::Error> {
        Self::task(self, name)
    }

    fn tasks(&self) -> Vec<TaskInfo> {
        Self::tasks(self)
    }

    fn feedback(&self, feedback: &Feedback) -> Result<Fed, sizewise_engine::Error> {
        Self::feedback(self, feedback)
    }

    fn take_up(&self, task: &str) -> Result<(), sizewise_engine::Error> {
        Self::take_up(self, task)
    }

    fn evidence(&self, task: &str) -> Result<Evidence, sizewise_engine::Error> {
        Ok(Evidence {
            rules: self.watching(task)?,
            standings: self.standings(task)?,
            changes: self.promise_changes(task)?,
            trial: self.trials()?.into_iter().find(|one| one.trial.task == task),
            kinds: self.kinds(task)?,
            looks: self.look_counts(task),
            mixes: self.mixes(task),
            renewals: learner::for_callers(self.renewals(task, live::RENEWALS)?),
        })
    }

    fn trials(&self) -> Vec<TrialStanding> {
        // A store that cannot be read is told of elsewhere.
        Self::trials(self).unwrap_or_default()
    }

    async fn nearest(
        &self,
        task: &str,
        text: &str,
        count: usize,
    ) -> Result<Vec<Neighbour>, sizewise_engine::Error> {
        Self::nearest(self, task, text, count).await
    }

    fn standings(&self, task: &str) -> Vec<Standing> {
        // A store that cannot be read is told of elsewhere.
        Self::standings(self, task).unwrap_or_default()
    }

    fn look_counts(&self, task: &str) -> Option<LookCounts> {
        Self::look_counts(self, task)
    }

    fn providers(&self) -> BTreeMap<String, ProviderState> {
        Self::providers(self)
    }

    fn queue_depths(&self) -> Vec<QueueDepth> {
        let encoder = QueueDepth { queue: "encoder".into(), waiting: self.waiting_tokens() as u64 };
        // A store that cannot be read is told of elsewhere.
        let review = self.review_queue().unwrap_or_default();
        let review = review
            .into_iter()
            .map(|depth| QueueDepth { queue: format!("review/{}", depth.task), waiting: depth.waiting });
        std::iter::once(encoder).chain(review).collect()
    }
}

/// A server and everything that its requests share.
pub(crate) struct Serving<D> {
    decider: Arc<D>,
    keys: Arc<dyn KeyCheck>,
    settings: Settings,
    metrics: Metrics,
    sessions: console::session::Sessions,
    log: Log,
    /// Free places for requests that are worked on.
    places: Semaphore,
    /// Bytes of bodies that may still be held in memory.
    free_body_bytes: AtomicUsize,
    draining: AtomicBool,
    stopping: AtomicBool,
    /// When the server started, in seconds since 1970.
    started: u64,
}

impl<D: Decider> Serving<D> {
    fn new(settings: Settings, keys: Arc<dyn KeyCheck>, decider: Arc<D>) -> Self {
        Self {
            metrics: Metrics::new(),
            sessions: console::session::Sessions::new(),
            log: Log::to_stderr(settings.access_log),
            places: Semaphore::new(settings.concurrent_requests.min(Semaphore::MAX_PERMITS)),
            free_body_bytes: AtomicUsize::new(settings.body_budget_bytes),
            draining: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            started: unix_seconds(),
            settings,
            keys,
            decider,
        }
    }

    /// Answers one request; whatever happens, it is counted.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let begun = Instant::now();
        let (parts, body) = request.into_parts();
        let found = routes::find(&parts.method, parts.uri.path());
        let telemetry = self.settings.telemetry.as_ref().filter(|_| found.traced().is_some());
        let (traced, trace) = telemetry.and_then(|telemetry| telemetry.begin(&parts.headers)).unzip();
        let mut line = Line::default();
        line.traced = traced.is_some();
        let outcome = {
            let passed = pin!(self.pass(&found, (&parts, trace), body, &mut line));
            tokio::time::timeout(self.patience(&found), passed).await
        };
        let outcome = outcome.unwrap_or_else(|_| {
            Err(WireError::new(Code::Overloaded, None, "the request took longer than the limit")
                .with_hint("try again, or send fewer inputs at once"))
        });
        let mut reply = console::guarded(
            outcome.unwrap_or_else(|error| {
                line.code = Some(error.code());
                if error.code().facts().fault == Fault::Internal {
                    self.log.error(found.label(), &error);
                }
                Reply::error(&error, found.protocol(), found.allowed())
            }),
            &found,
        );
        let elapsed = begun.elapsed();
        self.metrics.count(found.number(), reply.status(), elapsed);
        line.status = reply.status();
        line.elapsed = elapsed;
        line.request_id = reply.named(parts.headers.get(REQUEST_ID).filter(|name| is_request_id(name)));
        self.log.access(found.label(), &parts.method, &line);
        if let Some(traced) = traced {
            self.tell(traced, &found, line);
        }
        reply.into_response()
    }

    /// Tells whoever traces of a request that is answered.
    fn tell(&self, traced: Traced, found: &Found<'_>, line: Line) {
        let (Some(telemetry), Some(route)) = (&self.settings.telemetry, found.traced()) else { return };
        telemetry.answered(RequestSpan {
            traced,
            elapsed: line.elapsed,
            route,
            status: line.status.as_u16(),
            code: line.code.map(Code::name),
            request_id: line.request_id,
            key_id: line.key_id,
            decided: line.decided,
        });
    }

    async fn pass(
        &self,
        found: &Found<'_>,
        (parts, trace): (&Parts, Option<Trace>),
        body: Incoming,
        line: &mut Line,
    ) -> Result<Reply, WireError> {
        let route = found.route()?;
        let caller = admit::admit(self, route, &parts.headers)?;
        line.key_id = caller.key_id().map(str::to_owned);
        let body = body::read(body, &parts.headers, self).await?;
        let asked = endpoints::Asked {
            serving: self,
            caller: &caller,
            body: &body,
            headers: &parts.headers,
            query: parts.uri.query(),
            method: &parts.method,
            trace: trace.as_ref(),
        };
        endpoints::answer(&asked, route.endpoint, found.param(), line).await
    }

    /// Until when a request must be answered: larger models may take longer than anything here.
    fn patience(&self, found: &Found<'_>) -> Duration {
        match found {
            Found::Route(_, route, _) if self.settings.relay.is_some() && route.endpoint.may_relay() => {
                self.settings.request_timeout.max(relay::PATIENCE)
            }
            Found::Route(_, route, _) => console::patience(route)
                .map_or(self.settings.request_timeout, |long| long.max(self.settings.request_timeout)),
            _ => self.settings.request_timeout,
        }
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests;
