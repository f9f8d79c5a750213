//! How does somebody's own request reach a provider unchanged, and what may be tried when that fails?
//!
//! Until the first byte of an answer is there, another try costs the caller nothing but time: the same provider again, or the next.
//! From then on there is one stream, and whoever passes it on watches whether it ends. What the provider says of the request itself
//! (wrong, filtered) goes back as it came; only a request that is too long for one model is offered to the next.

use super::{
    client::Incoming,
    deliver::{Held, Manner, Money, PATIENCE, TRIES, TRIES_OF_MANY, pause, reserve},
    dialect::{Usage, wait},
    events::{Events, Streams},
    hedge::Hedge,
    provider::Provider,
    trace::{Calling, Trace},
};
use bytes::Bytes;
use hyper::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde_json::Value;
use sizewise_contract::units::MicroUsd;
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::Poll,
    time::Instant,
};
use tokio::sync::OwnedSemaphorePermit;

/// Largest answer that is no stream.
const ANSWER_BYTES: usize = 32 << 20;
/// Bytes of a stream from which on no more of it is waited for before they are handed on.
const TOGETHER: usize = 16 << 10;

/// A request of somebody's own.
pub struct Relayable {
    /// Its path below the provider's address, for a model of this name.
    pub path: Box<dyn Fn(&str) -> String + Send + Sync>,
    /// How its answer streams; none where it comes whole.
    pub streams: Option<Streams>,
    /// Its body for a model of this name.
    pub body: Box<dyn Fn(&str) -> Bytes + Send + Sync>,
    /// Most tokens that it lets a model write.
    pub most_written: u64,
    /// What is asked for: `chat`, `generate_content` or `embeddings`.
    pub operation: &'static str,
    /// Where its calls belong in what the caller traces; none where nobody does.
    pub trace: Option<Trace>,
}

/// A provider with the model that is asked there.
pub type Target = (Arc<Provider>, String);

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// All of it, or the events that a stream began with.
    pub begun: Bytes,
    /// What follows, of a stream.
    pub rest: Option<Stream>,
    /// The provider.
    pub provider: String,
    /// Calls made, failed ones included.
    pub attempts: u32,
}

/// The rest of a stream.
#[derive(Debug)]
pub struct Stream {
    incoming: Incoming,
    events: Events,
    /// How it ended, found out while events before that were still to be told.
    ended: Option<Result<(), String>>,
    bill: Bill,
    patience: std::time::Duration,
}

/// What a call was allowed to cost, to be settled.
#[derive(Debug)]
struct Bill {
    held: Held,
    provider: Arc<Provider>,
    most: MicroUsd,
    most_read: u64,
    calling: Option<Calling>,
    /// Leave to make a call, given back with the last byte.
    _permit: OwnedSemaphorePermit,
}

/// Why nothing came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotRelayed {
    /// The kind.
    pub kind: Why,
    /// In words, without a text of the request.
    pub problem: String,
    /// Calls made.
    pub attempts: u32,
}

/// The kinds of having nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The budget does not hold it.
    Budget,
    /// No provider answered in time, or none could.
    Unavailable,
}

/// What one call came to.
enum Tried {
    Answer(Box<Answer>),
    /// The provider speaks of the request itself; another may see it otherwise.
    TooLong(Box<Answer>),
    Failed {
        problem: String,
        wait: Option<std::time::Duration>,
        again: bool,
    },
}

/// Sends a request to the first target that answers it.
///
/// # Errors
/// Fails when none does before the deadline.
pub async fn relay(
    targets: &[Target],
    request: &Relayable,
    (money, deadline): (&Arc<dyn Money>, Instant),
) -> Result<Answer, NotRelayed> {
    let attempts = AtomicU32::new(0);
    let paid = (money, deadline);
    let ended = |answer: Box<Answer>| Answer { attempts: attempts.load(Ordering::Relaxed), ..*answer };
    let mut first: Option<(Why, String)> = None;
    let mut too_long: Option<Box<Answer>> = None;
    for (position, target) in targets.iter().enumerate() {
        let second = targets.get(position + 1).unwrap_or(target);
        // A call that is cut off ends here, before anybody is told of the other.
        let came = {
            let manner = Manner::Turn(targets.len() - position - 1);
            let turn = pin!(one(target, request, paid, (manner, &attempts)));
            match Hedge::of(&target.0, &second.0) {
                None => [Some(turn.await), None],
                Some(hedge) => {
                    let other = Box::pin(one(second, request, paid, (Manner::Hedge, &attempts)));
                    let (first, other) = hedge.race(turn, other, answers).await;
                    // Its turn is still to come: what it said before that is no reason yet.
                    [first, other.filter(answers)]
                }
            }
        };
        for came in came.into_iter().flatten() {
            match came {
                Ok(Tried::Answer(answer))
                    if answer.status.is_success() || too_long.is_none() && first.is_none() =>
                {
                    return Ok(ended(answer));
                }
                Ok(Tried::TooLong(answer)) => {
                    too_long.get_or_insert(answer);
                }
                // What a stand-in says of a request that was meant for another is not the caller's answer.
                Ok(Tried::Answer(answer)) => {
                    first.get_or_insert((Why::Unavailable, format!("{} refuses it", answer.provider)));
                }
                Ok(Tried::Failed { problem, .. }) => {
                    first.get_or_insert((Why::Unavailable, problem));
                }
                Err(why) => {
                    first.get_or_insert(why);
                }
            }
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    if let Some(answer) = too_long {
        return Ok(ended(answer));
    }
    let (kind, problem) = first.unwrap_or((Why::Unavailable, "no provider is named".into()));
    Err(NotRelayed { kind, problem, attempts: attempts.load(Ordering::Relaxed) })
}

/// Whether it is an answer that a caller can use.
fn answers(tried: &Result<Tried, (Why, String)>) -> bool {
    matches!(tried, Ok(Tried::Answer(answer)) if answer.status.is_success())
}

/// Tries one target while that makes sense.
async fn one(
    (provider, model): &Target,
    request: &Relayable,
    (money, deadline): (&Arc<dyn Money>, Instant),
    (manner, attempts): (Manner, &AtomicU32),
) -> Result<Tried, (Why, String)> {
    let (others, hedges) = manner.facts();
    let (path, body) = ((request.path)(model), (request.body)(model));
    let most_read = body.len() as u64 + 1_024;
    let most = provider.prices().of(most_read, request.most_written);
    let unavailable = |problem: &str| (Why::Unavailable, problem.to_owned());
    let mut tries = 0;
    loop {
        // While another could be asked, a provider whose places are all taken is not waited for long.
        let waited = if others > 0 { deadline.min(Instant::now() + PATIENCE) } else { deadline };
        let permit = tokio::time::timeout_at(waited.into(), provider.permit()).await;
        let permit = permit.ok().flatten().ok_or_else(|| unavailable("all of its places are taken"))?;
        let leave = match provider.breaker().leave(Instant::now()) {
            Ok(leave) => leave,
            // Short pauses are waited for; a longer one is the caller's to know of.
            Err(at) if others == 0 && !hedges && at < Instant::now() + PATIENCE && at < deadline => {
                drop(permit);
                tokio::time::sleep_until(at.into()).await;
                continue;
            }
            Err(_) => {
                return Err(unavailable("it failed too often, or wants to be left alone for a while"));
            }
        };
        let held = reserve(money, provider.name(), most, deadline)
            .await
            .map_err(|problem| (Why::Budget, problem.to_owned()))?;
        if tries == 0 && !hedges {
            provider.breaker().earn();
        }
        tries += 1;
        attempts.fetch_add(1, Ordering::Relaxed);
        let left = deadline.saturating_duration_since(Instant::now());
        let until = Instant::now() + provider.relay_timeout().min(if others > 0 { left / 2 } else { left });
        let asked = (request.operation, model.as_str());
        let calling = request.trace.as_ref().map(|trace| trace.calls(provider, asked, until));
        let bill = Bill { held, provider: Arc::clone(provider), most, most_read, calling, _permit: permit };
        provider.counts(1, 0);
        let called = call(provider, request, (&path, body.clone()), bill);
        let tried = tokio::time::timeout_at(until.into(), called).await.unwrap_or_else(|_| Tried::Failed {
            problem: "it did not answer in time".into(),
            wait: None,
            again: true,
        });
        let Tried::Failed { problem, wait, again } = tried else {
            leave.worked();
            return Ok(tried);
        };
        provider.failed(leave, &problem, wait);
        let pause = wait.unwrap_or_else(|| pause(tries));
        let silent = Instant::now() >= until;
        let passed_over = hedges || others > 0 && (pause > PATIENCE || silent);
        let most_tries = if others > 0 { TRIES_OF_MANY } else { TRIES };
        let gone = Instant::now() + pause >= deadline;
        if !again || tries >= most_tries || passed_over || gone || !provider.breaker().pays_retry() {
            return Ok(Tried::Failed { problem, wait, again });
        }
        tokio::time::sleep(pause).await;
    }
}

async fn call(
    provider: &Arc<Provider>,
    request: &Relayable,
    (path, body): (&str, Bytes),
    mut bill: Bill,
) -> Tried {
    // A bill that is dropped stays taken out where something was sent, and is put back where nothing was.
    let failed = |problem: String| Tried::Failed { problem, wait: None, again: true };
    let incoming = match provider.send((path, bill.calling.as_ref()), body, bill.held.sent()).await {
        Ok(incoming) => incoming,
        Err(broken) => {
            bill.failed();
            if !broken.sent {
                bill.settle(MicroUsd(0));
            }
            return failed(broken.problem);
        }
    };
    let (status, headers) = (incoming.status, incoming.headers.clone());
    if let Some(calling) = &mut bill.calling {
        calling.replied(status.as_u16());
    }
    let is_stream = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("text/event-stream"));
    let answer = |begun: Bytes, rest: Option<Stream>| {
        Box::new(Answer {
            status,
            headers: headers.clone(),
            begun,
            rest,
            provider: provider.name().to_owned(),
            attempts: 0,
        })
    };
    match (status.as_u16(), request.streams, is_stream) {
        (200, Some(streams), true) => begin(incoming, Events::new(streams), (bill, provider))
            .await
            .map_or_else(failed, |(begun, rest)| Tried::Answer(answer(begun, rest))),
        (200..=299, ..) => match incoming.whole(ANSWER_BYTES).await {
            Ok(body) if serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok() => {
                let seen = Usage { read: bill.most_read, written: body.len() as u64 };
                let (usage, model) = said(&body);
                if let Some(calling) = &mut bill.calling {
                    calling.answered(model, usage);
                }
                bill.settle_used(usage, seen);
                Tried::Answer(answer(body.into(), None))
            }
            Ok(_) => {
                bill.failed();
                failed("its answer is no JSON".into())
            }
            Err(broken) => {
                bill.failed();
                failed(broken.problem)
            }
        },
        (code, ..) => {
            let retry_after = headers.get("retry-after").and_then(|value| value.to_str().ok()).and_then(wait);
            let body = incoming.whole(ANSWER_BYTES).await.unwrap_or_default();
            let problem = format!("it answered with status {code}");
            // A gateway that gave up may have handed the call on.
            if !matches!(code, 502 | 504) {
                bill.settle(MicroUsd(0));
            }
            match code {
                408 | 409 | 425 | 429 | 500..=599 => {
                    Tried::Failed { problem, wait: retry_after, again: true }
                }
                // Our key, our account or our address: nothing that the caller could mend.
                300..=399 | 401..=404 | 407 => Tried::Failed { problem, wait: None, again: false },
                _ => {
                    let too_long = is_too_long(&body);
                    let answer = answer(body.into(), None);
                    if too_long { Tried::TooLong(answer) } else { Tried::Answer(answer) }
                }
            }
        }
    }
}

/// Waits for the first event: until then another provider could still be asked.
async fn begin(
    mut incoming: Incoming,
    mut events: Events,
    (mut bill, provider): (Bill, &Arc<Provider>),
) -> Result<(Bytes, Option<Stream>), String> {
    let mut whole = Vec::new();
    loop {
        let fed = match incoming.chunk().await {
            Ok(Some(chunk)) => events.feed(&chunk, &mut whole).map_err(str::to_owned),
            Ok(None) => Err("its stream ended before it began".into()),
            Err(broken) => Err(broken.problem),
        };
        match fed {
            Ok(()) if whole.is_empty() => {}
            Ok(()) => {
                let patience = provider.relay_timeout();
                bill.calling.iter_mut().for_each(Calling::streams);
                return Ok((whole.into(), Some(Stream { incoming, events, ended: None, bill, patience })));
            }
            Err(problem) => {
                bill.failed();
                return Err(problem);
            }
        }
    }
}

impl Stream {
    /// The next whole events; none where the stream has ended as its protocol ends.
    ///
    /// # Errors
    /// Says why it goes no further: it must then be told to whoever reads along.
    pub async fn next(&mut self) -> Result<Option<Bytes>, String> {
        let next = self.following().await;
        if next.is_err() {
            self.bill.failed();
        }
        next
    }

    async fn following(&mut self) -> Result<Option<Bytes>, String> {
        let mut whole = Vec::new();
        while self.ended.is_none() && whole.len() < TOGETHER {
            let chunk = if whole.is_empty() {
                tokio::time::timeout(self.patience, self.incoming.chunk())
                    .await
                    .map_err(|_| "the stream stalled".to_owned())?
            } else {
                // What has come already goes on with it: every piece handed on costs a call of the system.
                match within_a_turn(self.incoming.chunk()).await {
                    Some(chunk) => chunk,
                    None => break,
                }
            };
            self.ended = match chunk {
                Ok(Some(chunk)) => {
                    self.events.feed(&chunk, &mut whole).err().map(|problem| Err(problem.into()))
                }
                Ok(None) if !self.events.has_ended() => Some(Err("the stream stopped before its end".into())),
                Err(broken) if !self.events.has_ended() => Some(Err(broken.problem)),
                Ok(None) | Err(_) => Some(Ok(())),
            };
        }
        match &self.ended {
            Some(ended) if whole.is_empty() => ended.clone().map(|()| None),
            _ => Ok(Some(whole.into())),
        }
    }

    /// Whether its end mark has come, though its reader may have left at that.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.events.has_ended()
    }

    /// Puts down what the stream has cost, as far as it came.
    pub fn settle(mut self) -> MicroUsd {
        let (usage, said) = (self.events.usage(), self.events.said());
        if let (Some(calling), true) = (&mut self.bill.calling, self.events.has_ended()) {
            calling.answered(None, usage);
        }
        let bound = Usage { read: self.bill.most_read, written: said };
        // A stream that was cut off may go on being written on the other side.
        let told = self.events.has_ended().then(|| usage.unwrap_or(bound));
        self.bill.settle_used(told, bound)
    }
}

/// What a future comes to, if it does so before whoever else can go on has gone on once.
async fn within_a_turn<T>(future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut turns) = (pin!(future), 0..2);
    std::future::poll_fn(|context| match (future.as_mut().poll(context), turns.next()) {
        (Poll::Ready(value), _) => Poll::Ready(Some(value)),
        (Poll::Pending, Some(0)) => {
            context.waker().wake_by_ref();
            Poll::Pending
        }
        (Poll::Pending, _) => Poll::Ready(None),
    })
    .await
}

impl Bill {
    /// Puts down what these tokens cost; the bound where nobody says how many they were. `seen` is what there was at least.
    fn settle_used(self, usage: Option<Usage>, seen: Usage) -> MicroUsd {
        let cost = usage.map_or(self.most, |usage| self.provider.prices().of(usage.read, usage.written));
        self.held.count(usage.unwrap_or(seen).total());
        self.held.settle(cost);
        cost
    }

    fn settle(self, cost: MicroUsd) {
        self.held.settle(cost);
    }

    /// Tells whoever traces that the other side failed.
    fn failed(&mut self) {
        self.calling.iter_mut().for_each(Calling::failed);
    }
}

/// The tokens and the model of a whole answer, in the words of any of the protocols.
fn said(body: &[u8]) -> (Option<Usage>, Option<String>) {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let model = value.get("model").or(value.get("modelVersion")).and_then(Value::as_str);
    (usage(&value), model.map(str::to_owned))
}

fn usage(value: &Value) -> Option<Usage> {
    let usage = value.get("usage").or(value.get("usageMetadata"))?;
    let count = |names: [&str; 3]| names.iter().find_map(|name| usage.get(*name)).and_then(Value::as_u64);
    let beside = |name: &str| usage.get(name).and_then(Value::as_u64).unwrap_or(0);
    Some(Usage {
        read: count(["prompt_tokens", "input_tokens", "promptTokenCount"])?
            .saturating_add(beside("cache_creation_input_tokens"))
            .saturating_add(beside("cache_read_input_tokens")),
        // Embeddings write nothing.
        written: count(["completion_tokens", "output_tokens", "candidatesTokenCount"])
            .unwrap_or(0)
            .saturating_add(beside("thoughtsTokenCount")),
    })
}

/// Whether an error speaks of the length of the request.
fn is_too_long(body: &[u8]) -> bool {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = value.get("error").unwrap_or(&value);
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default().to_lowercase();
    text("code") == "context_length_exceeded"
        || ["context length", "context window", "prompt is too long", "too many tokens"]
            .iter()
            .any(|words| text("message").contains(words))
}
