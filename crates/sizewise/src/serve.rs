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

use crate::wire::WireError;
use access_log::{Line, Log};
use hyper::{Request, Response, body::Incoming, http::request::Parts};
use metrics::Metrics;
use reply::{Body, Reply};
use routes::Found;
use sizewise_contract::{Code, Decision, Diagnose, Fault};
use sizewise_engine::{Engine, TaskInfo};
use sizewise_models::{neighbours::Neighbour, remote::ProviderState};
use std::{
    collections::BTreeMap,
    future::Future,
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

    /// The training rows most like a text, nearest first; none where nobody knows.
    fn nearest(
        &self,
        _task: &str,
        _text: &str,
        _count: usize,
    ) -> impl Future<Output = Result<Vec<Neighbour>, sizewise_engine::Error>> + Send {
        std::future::ready(Ok(Vec::new()))
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

    async fn nearest(
        &self,
        task: &str,
        text: &str,
        count: usize,
    ) -> Result<Vec<Neighbour>, sizewise_engine::Error> {
        Self::nearest(self, task, text, count).await
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
        let mut line = Line::default();
        let passed = self.pass(&found, &parts, body, &mut line);
        let outcome = match tokio::time::timeout(self.patience(&found), passed).await {
            Ok(outcome) => outcome,
            Err(_) => Err(WireError::new(Code::Overloaded, None, "the request took longer than the limit")
                .with_hint("try again, or send fewer inputs at once")),
        };
        let reply = console::guarded(
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
        self.log.access(found.label(), &parts.method, &line);
        reply.into_response()
    }

    async fn pass(
        &self,
        found: &Found<'_>,
        parts: &Parts,
        body: Incoming,
        line: &mut Line,
    ) -> Result<Reply, WireError> {
        let route = found.route()?;
        let caller = admit::admit(self, route, &parts.headers)?;
        line.key_id = caller.key_id().map(str::to_owned);
        let body = body::read(body, &parts.headers, self).await?;
        let (headers, method) = (&parts.headers, &parts.method);
        let asked = endpoints::Asked { serving: self, caller: &caller, body: &body, headers, method };
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
