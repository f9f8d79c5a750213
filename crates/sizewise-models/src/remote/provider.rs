//! Who answers on the other side, on which terms, and how is it doing?

use super::{
    breaker::{Breaker, Leave},
    client::{Broken, Client, Incoming},
    dialect::{Ask, Dialect, Heard, Reply, Then, Trouble},
    reach::Reach,
    trace::Calling,
};
use crate::error::{Error, Result};
use bytes::Bytes;
use hyper::{
    Method,
    header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT},
};
use serde::Deserialize;
use sizewise_contract::{
    task::Budget,
    units::{Dollars, Prices},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Largest reply that is read.
const REPLY_BYTES: usize = 1 << 20;
/// Longest key, in bytes.
const KEY_BYTES: usize = 4_096;
/// Tokens of a request that are not in its bytes, at most: what separates its messages.
const FRAME_TOKENS: u64 = 64;
/// A call that was given that much less than its time was given its time.
const HASTE: Duration = Duration::from_millis(50);
/// Names of headers that a provider's own may not replace.
const OURS: [&str; 6] =
    ["host", "content-length", "transfer-encoding", "connection", "content-type", "authorization"];

/// A provider as the settings describe it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    /// All before the path of a call, as `https://HOST/v1`.
    pub url: String,
    /// The model that answers, as the provider calls it.
    pub model: String,
    /// Other models that programs may name, at the same prices; where it costs nothing any may be named.
    #[serde(default)]
    pub models: Vec<String>,
    /// Its protocol: `openai` (also every server that speaks its shape), `anthropic`, `gemini`, `responses`, `decisions` or `systemone`.
    #[serde(default)]
    pub dialect: Dialect,
    /// Where the key is: `env:NAME` or `file:PATH`.
    #[serde(default)]
    pub key: Option<String>,
    /// Where texts are that it gets: `on-premises`, `eu`, `us` or another word. Without it a server of this machine is taken to be in
    /// the house and any other not; a gateway on this machine that hands on to somebody else wants to be labelled.
    #[serde(default)]
    pub residency: Option<Residency>,
    /// Dollars for a million tokens that are read.
    #[serde(default)]
    pub price_in: Option<Dollars>,
    /// Dollars for a million tokens that are written.
    #[serde(default)]
    pub price_out: Option<Dollars>,
    /// The day from which these prices are, as its owner writes it; it is shown beside them.
    #[serde(default)]
    pub priced_on: Option<String>,
    /// Seconds until one call is given up; unless said 20 for a question of a task, and 120 for what is passed on, which may be long.
    #[serde(default)]
    pub timeout_s: Option<u32>,
    /// What it may cost, whoever calls it.
    #[serde(default)]
    pub budget: Budget,
    /// Calls at the same time; 32 unless said. More wait.
    #[serde(default)]
    pub concurrent: Option<usize>,
    /// Most tokens of an answer; by default what the longest label takes. Models that think before they answer need more.
    #[serde(default)]
    pub max_tokens: Option<u32>,
    /// The provider that is asked when this one fails.
    #[serde(default)]
    pub fallback: Option<String>,
    /// Milliseconds without an answer after which a second call is made: to `fallback`, or to this provider again where there is none. The
    /// first good answer counts. Both calls may cost; never unless said.
    #[serde(default)]
    pub hedge_after_ms: Option<u32>,
    /// Whether its name may lead to a private network.
    #[serde(default)]
    pub private: bool,
    /// Headers that every call carries beside ours.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// Where texts are that a provider gets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum Residency {
    /// In the house: they do not leave.
    OnPremises,
    /// Elsewhere, as the operator calls it.
    Elsewhere(String),
}

impl From<String> for Residency {
    fn from(text: String) -> Self {
        if text == "on-premises" { Self::OnPremises } else { Self::Elsewhere(text) }
    }
}

/// A provider that is called.
#[derive(Debug)]
pub struct Provider {
    name: String,
    model: String,
    models: Vec<String>,
    dialect: Dialect,
    client: Client,
    headers: Vec<(HeaderName, HeaderValue)>,
    residency: Option<Residency>,
    prices: Prices,
    timeout: Duration,
    relay_timeout: Duration,
    hedge_after: Option<Duration>,
    most_tokens: Option<u32>,
    permits: Arc<Semaphore>,
    breaker: Breaker,
    /// Words that its model does not take.
    unknown: AtomicU8,
    calls: AtomicU64,
    failures: AtomicU64,
    hedges: AtomicU64,
    /// Why the last call that failed did so; nothing that a provider says of a text is in it.
    problem: Mutex<Option<String>>,
}

/// How a provider is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderState {
    /// Calls so far.
    pub calls: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Those of them that were made because another took long.
    pub hedges: u64,
    /// Whether it is left alone for now.
    pub resting: bool,
    /// Why the last call that failed did so.
    pub problem: Option<String>,
}

impl Provider {
    /// A provider of this name; `key` is what `settings.key` leads to.
    ///
    /// # Errors
    /// Fails when the address is none, a key would cross the network unprotected, or a header is none. No message shows a key.
    pub fn new(name: &str, settings: &ProviderSettings, key: Option<&str>) -> Result<Self> {
        let refused = |problem: &str, way_out: &str| Error::Refused {
            address: format!("provider `{name}`"),
            problem: problem.into(),
            way_out: way_out.into(),
        };
        let reach = settings.private.then_some(Reach::Private);
        let client = Client::new(&settings.url, reach)
            .map_err(|problem| refused(problem, "write url = \"https://HOST/v1\""))?;
        let is_none = |key: &str| {
            key.is_empty() || key.len() > KEY_BYTES || !key.bytes().all(|b| (0x21..0x7f).contains(&b))
        };
        if key.is_some_and(is_none) {
            return Err(refused("the key is empty, or holds what no key does", "look at what `key` names"));
        }
        let guarded = client.is_https() || super::chat::is_this_machine(client.host());
        if !guarded && settings.residency != Some(Residency::OnPremises) {
            return Err(refused("texts and keys would cross the network unprotected", "use https://"));
        }
        let mut headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (USER_AGENT, HeaderValue::from_static(concat!("sizewise/", env!("CARGO_PKG_VERSION")))),
        ];
        let own = settings.headers.iter().map(|(name, value)| (name.as_str(), value.clone(), false));
        let ours = settings.dialect.headers(key).into_iter().map(|(name, value)| (name, value, true));
        for (header, value, ours) in ours.chain(own) {
            let wrong = || refused(&format!("`{header}` is no header that may be set"), "look at [headers]");
            let name: HeaderName = header.parse().map_err(|_| wrong())?;
            if !ours && OURS.contains(&name.as_str()) {
                return Err(wrong());
            }
            let mut value = HeaderValue::from_str(&value).map_err(|_| wrong())?;
            value.set_sensitive(true);
            headers.push((name, value));
        }
        let (read, written) = (settings.price_in, settings.price_out);
        if read.is_some() != written.is_some() {
            return Err(refused(
                "one of its two prices is missing",
                "give price_in and price_out, in dollars for a million tokens",
            ));
        }
        let amount = |dollars: Option<Dollars>| dollars.map_or_else(Default::default, |dollars| dollars.0);
        let seconds = |said: u32| Duration::from_secs(u64::from(said.clamp(1, 600)));
        Ok(Self {
            name: name.to_owned(),
            model: settings.model.clone(),
            models: settings.models.clone(),
            dialect: settings.dialect,
            client,
            headers,
            residency: settings.residency.clone(),
            prices: Prices { read: amount(read), written: amount(written) },
            timeout: seconds(settings.timeout_s.unwrap_or(20)),
            relay_timeout: seconds(settings.timeout_s.unwrap_or(120)),
            hedge_after: settings.hedge_after_ms.map(|said| Duration::from_millis(u64::from(said))),
            most_tokens: settings.max_tokens,
            permits: Arc::new(Semaphore::new(settings.concurrent.unwrap_or(32).clamp(1, 4_096))),
            breaker: Breaker::new(),
            unknown: AtomicU8::new(0),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            hedges: AtomicU64::new(0),
            problem: Mutex::default(),
        })
    }

    /// Its name in the settings.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its model, as it calls it.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The host that is called.
    #[must_use]
    pub fn host(&self) -> &str {
        self.client.host()
    }

    /// The port that is called.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.client.port()
    }

    /// Whether what it gets stays in the house.
    #[must_use]
    pub fn is_on_premises(&self) -> bool {
        match &self.residency {
            Some(residency) => *residency == Residency::OnPremises,
            None => super::chat::is_this_machine(self.client.host()),
        }
    }

    /// What its tokens cost.
    #[must_use]
    pub fn prices(&self) -> Prices {
        self.prices
    }

    /// Most tokens of an answer, where the settings say so.
    #[must_use]
    pub fn most_tokens(&self) -> Option<u32> {
        self.most_tokens
    }

    /// How it is doing.
    #[must_use]
    pub fn state(&self) -> ProviderState {
        ProviderState {
            calls: self.calls.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            hedges: self.hedges.load(Ordering::Relaxed),
            resting: self.breaker.is_open(Instant::now()),
            problem: self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Most tokens that asking a question once reads and writes.
    #[must_use]
    pub fn most(&self, question: &super::Question) -> (u64, u64) {
        let most_tokens = self.most_tokens.unwrap_or(question.most_tokens);
        let super::Question { messages, schema, typed, .. } = question;
        let ask = Ask { model: &self.model, messages, schema, typed, most_tokens };
        (self.most_read(&ask), u64::from(most_tokens))
    }

    /// Most tokens that a question can count for: no token is shorter than a byte.
    pub(super) fn most_read(&self, ask: &Ask<'_>) -> u64 {
        let body = self.dialect.body(ask, self.unknown.load(Ordering::Relaxed)).to_string();
        body.len() as u64 + FRAME_TOKENS * (ask.messages.len() as u64 + 1)
    }

    /// Sends somebody's own request.
    pub(super) async fn send(
        &self,
        (path, calling): (&str, Option<&Calling>),
        body: Bytes,
        sent: &AtomicBool,
    ) -> std::result::Result<Incoming, Broken> {
        let Some(traced) = calling.and_then(Calling::header) else {
            return self.client.send((Method::POST, path), &self.headers, body, sent).await;
        };
        let mut headers = self.headers.clone();
        headers.push((HeaderName::from_static("traceparent"), traced));
        self.client.send((Method::POST, path), &headers, body, sent).await
    }

    /// Whether a program may name this model of it: what another costs is not known where it is not listed.
    #[must_use]
    pub fn offers(&self, model: &str) -> bool {
        self.prices.is_free() || model == self.model || self.models.iter().any(|known| known == model)
    }

    /// Its protocol.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Counts calls, and failures among them.
    pub(super) fn counts(&self, calls: u64, failures: u64) {
        self.calls.fetch_add(calls, Ordering::Relaxed);
        self.failures.fetch_add(failures, Ordering::Relaxed);
    }

    /// Counts a call that is made because another takes long.
    pub(super) fn counts_hedge(&self) {
        self.hedges.fetch_add(1, Ordering::Relaxed);
    }

    /// After which time another is asked as well.
    pub(super) fn hedge_after(&self) -> Option<Duration> {
        self.hedge_after
    }

    /// Whether a call could be made now without waiting.
    pub(super) fn has_room(&self) -> bool {
        self.permits.available_permits() > 0 && !self.breaker.is_open(Instant::now())
    }

    pub(super) fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The same for what is passed on; between two pieces of a stream as well.
    pub(super) fn relay_timeout(&self) -> Duration {
        self.relay_timeout
    }

    /// Leave to make one of the calls that run at the same time.
    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }

    /// Asks once, until a moment; `sent` is raised before the first byte goes out. A call that was given less time than the provider
    /// is due says nothing of it when that runs out.
    pub(super) async fn call(
        &self,
        ask: &Ask<'_>,
        until: Instant,
        (leave, sent): (Leave<'_>, &AtomicBool),
        calling: &mut Option<Calling>,
    ) -> std::result::Result<Reply, Trouble> {
        self.counts(1, 0);
        let due = until.saturating_duration_since(Instant::now()) + HASTE >= self.timeout;
        let Ok(outcome) = tokio::time::timeout_at(until.into(), self.exchange(ask, sent, calling)).await
        else {
            let problem = "it did not answer in time".to_owned();
            if due {
                self.failed(leave, &problem, None);
            }
            let may_cost = sent.load(Ordering::Relaxed);
            return Err(Trouble { problem, may_cost, then: Then::Later(None) });
        };
        if let Some(calling) = calling {
            match &outcome {
                Ok(reply) => calling.answered(reply.model.clone(), reply.usage),
                Err(_) => calling.failed(),
            }
        }
        match &outcome {
            Ok(_) | Err(Trouble { then: Then::NotThis | Then::AtOnce, .. }) => leave.worked(),
            Err(Trouble { problem, then, .. }) => {
                let wait = if let Then::Later(wait) = then { *wait } else { None };
                self.failed(leave, problem, wait);
            }
        }
        outcome
    }

    /// Remembers a failure, and for how long the provider wants to be left alone.
    pub(super) fn failed(&self, leave: Leave<'_>, problem: &str, wait: Option<Duration>) {
        self.counts(0, 1);
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem.to_owned());
        let now = Instant::now();
        leave.failed(now);
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            self.breaker.hold(now + wait);
        }
    }

    async fn exchange(
        &self,
        ask: &Ask<'_>,
        sent: &AtomicBool,
        calling: &mut Option<Calling>,
    ) -> std::result::Result<Reply, Trouble> {
        let unknown = self.unknown.load(Ordering::Relaxed);
        let body = Bytes::from(self.dialect.body(ask, unknown).to_string());
        let path = self.dialect.path(ask.model);
        let reply = self.send((&path, calling.as_ref()), body, sent).await.map_err(broken)?;
        let (status, headers) = (reply.status.as_u16(), reply.headers.clone());
        if let Some(calling) = calling {
            calling.replied(status);
        }
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let body = reply.whole(REPLY_BYTES).await;
        let heard = Heard {
            status,
            request: header("x-request-id").or_else(|| header("request-id")),
            retry_after: header("retry-after"),
            body: body.as_deref().ok(),
        };
        self.dialect.read(heard, ask.typed).map_err(|(mut trouble, learnt)| {
            if trouble.then == Then::AtOnce && learnt & !unknown == 0 {
                trouble.then = Then::NotThis;
            }
            self.unknown.fetch_or(learnt, Ordering::Relaxed);
            trouble
        })
    }
}

fn broken(broken: Broken) -> Trouble {
    Trouble { problem: broken.problem, may_cost: broken.sent, then: Then::Later(None) }
}
