//! How does somebody's own request to a larger model pass through?
//!
//! Byte for byte, but for the model's name. Until an answer begins it may be tried again, or elsewhere; a stream that has begun ends
//! as its protocol ends or with an error event of that protocol, never in silence. A caller who leaves cuts the call off.

use super::{
    admit::{Caller, SUBJECT},
    reply::{Body, Reply},
};
use crate::{
    observe::{self, Answering, Asking, Observer, Protocol, Watch},
    wire::WireError,
};
use hyper::{
    body::Bytes,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use sizewise_contract::{Code, did_you_mean};
use sizewise_engine::{Purse, Purses};
use sizewise_models::remote::{
    Answer, Dialect, Money, Provider, ProviderState, Relayable, Stream, Streams, Target, Trace, Why, relay,
};
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Until when an answer must have begun, or come whole.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);
/// What a model may write where a request says nothing, in tokens.
const MOST_WRITTEN: u64 = 32_768;
/// For how long a piece waits for its reader.
const SLOW_READER: Duration = Duration::from_secs(60);
/// Pieces of a stream that wait for a slow reader.
const PIECES: usize = 16;
/// Headers of an answer that go back with it.
const KEPT: [&str; 3] = ["content-type", "x-request-id", "request-id"];

/// What programs may call by name.
#[derive(Debug)]
pub struct Relay {
    routes: BTreeMap<String, Vec<Arc<Provider>>>,
    money: Arc<dyn Money>,
    observer: Option<Arc<Observer>>,
}

/// A request that passes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passing {
    Chat,
    Responses,
    Embeddings,
    Messages,
    Generate,
    StreamGenerate,
}

/// Who asks.
#[derive(Clone, Copy)]
pub(super) struct From<'r> {
    pub(super) caller: &'r Caller<'r>,
    pub(super) headers: &'r HeaderMap,
    /// Where the request belongs in what its caller traces.
    pub(super) trace: Option<&'r Trace>,
}

/// What is looked at of a request; all else passes unread.
#[derive(Debug, Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    max_tokens: Option<u64>,
    #[serde(default)]
    max_completion_tokens: Option<u64>,
    #[serde(default)]
    max_output_tokens: Option<u64>,
    #[serde(default)]
    n: Option<u64>,
    #[serde(default, rename = "generationConfig", alias = "generation_config")]
    generation: Option<Generation>,
}

/// The same of `generateContent`, which keeps it apart.
#[derive(Debug, Default, Deserialize)]
struct Generation {
    #[serde(default, rename = "maxOutputTokens", alias = "max_output_tokens")]
    most_written: Option<u64>,
    #[serde(default, rename = "candidateCount", alias = "candidate_count")]
    candidates: Option<u64>,
}

impl Passing {
    /// The protocol that a provider must speak, the path there, and how an answer streams.
    fn facts(self) -> (Dialect, &'static str, Option<Streams>) {
        match self {
            Self::Chat => (Dialect::OpenAi, "/chat/completions", Some(Streams::Chat)),
            Self::Responses => (Dialect::OpenAi, "/responses", Some(Streams::Responses)),
            Self::Embeddings => (Dialect::OpenAi, "/embeddings", None),
            Self::Messages => (Dialect::Anthropic, "/messages", Some(Streams::Messages)),
            Self::Generate => (Dialect::Gemini, "/models/{model}:generateContent", None),
            Self::StreamGenerate => {
                (Dialect::Gemini, "/models/{model}:streamGenerateContent?alt=sse", Some(Streams::Generate))
            }
        }
    }

    /// Most tokens that a request lets a model write. A bound that its protocol does not know binds nobody.
    fn most_written(self, head: &Head<'_>) -> u64 {
        let generation = head.generation.as_ref();
        let (bounds, copies) = match self {
            Self::Embeddings => return 0,
            Self::Chat => ([head.max_tokens, head.max_completion_tokens], head.n),
            Self::Responses => ([head.max_output_tokens, None], None),
            Self::Messages => ([head.max_tokens, None], None),
            Self::Generate | Self::StreamGenerate => {
                ([generation.and_then(|g| g.most_written), None], generation.and_then(|g| g.candidates))
            }
        };
        let written = bounds.into_iter().flatten().max().unwrap_or(MOST_WRITTEN);
        written.saturating_mul(copies.unwrap_or(1).max(1))
    }

    /// The protocol of a request that may ask for a decision, where such are recorded.
    fn protocol(self) -> Option<Protocol> {
        match self {
            Self::Chat => Some(Protocol::Chat),
            Self::Responses => Some(Protocol::Responses),
            Self::Messages => Some(Protocol::Messages),
            Self::Embeddings | Self::Generate | Self::StreamGenerate => None,
        }
    }

    /// What a stream says that goes no further.
    fn error_event(self, problem: &str) -> Bytes {
        let message = serde_json::Value::from(format!("the stream broke off: {problem}"));
        let event = match self {
            Self::Messages => format!(
                "event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"api_error\",\"message\":{message}}}}}\n\n"
            ),
            Self::Responses => format!(
                "event: error\ndata: {{\"type\":\"error\",\"code\":\"source_unavailable\",\"message\":{message},\"param\":null}}\n\n"
            ),
            Self::Generate | Self::StreamGenerate => format!(
                "data: {{\"error\":{{\"code\":503,\"message\":{message},\"status\":\"UNAVAILABLE\"}}}}\n\n"
            ),
            Self::Chat | Self::Embeddings => format!(
                "data: {{\"error\":{{\"message\":{message},\"type\":\"server_error\",\"param\":null,\"code\":\"source_unavailable\"}}}}\n\n"
            ),
        };
        event.into()
    }
}

/// The model that a request names, where it can be read.
pub(super) fn model_of(body: &[u8]) -> Option<String> {
    let head: Head<'_> = serde_json::from_slice(body).ok()?;
    serde_json::from_str(head.model?.get()).ok()
}

impl Relay {
    /// Providers by the names under which they may be called, each with those that stand in for it.
    #[must_use]
    pub fn new(routes: BTreeMap<String, Vec<Arc<Provider>>>, money: Arc<dyn Money>) -> Self {
        Self { routes, money, observer: None }
    }

    /// The same relay, with what passes through recorded.
    pub(crate) fn observed_by(self, observer: Observer) -> Self {
        Self { observer: Some(Arc::new(observer)), ..self }
    }

    /// Calls that were recorded, and calls that should have been and were not; none where nothing is.
    pub(super) fn observed(&self) -> Option<(u64, u64)> {
        self.observer.as_ref().map(|observer| observer.counts())
    }

    /// Begins to watch a call, unless its caller asks that nothing be recorded.
    fn watch(
        &self,
        passing: Passing,
        (model, body): (&str, &[u8]),
        (headers, key_id): (&HeaderMap, Option<&str>),
    ) -> Option<Watch> {
        let (observer, protocol) = (self.observer.as_ref()?, passing.protocol()?);
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if header(observe::OBSERVE).is_some_and(|wish| wish.trim().eq_ignore_ascii_case("off")) {
            return None;
        }
        // What is about somebody is erased by their name, and relayed calls have none.
        if header(SUBJECT).is_some() || names_a_user(body) {
            return None;
        }
        let site = header(observe::SITE).and_then(observe::named);
        let asking = Asking { protocol, model: model.to_owned(), site, key_id: key_id.map(str::to_owned) };
        observer.watch(asking, body)
    }

    /// The names that may be called.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.routes.keys().map(String::as_str)
    }

    /// Whether a request with this `model` is for a provider that is there for the caller: `NAME` or `NAME/MODEL`.
    pub(super) fn knows(&self, model: &str, caller: &Caller<'_>) -> bool {
        let name = model.split_once('/').map_or(model, |(name, _)| name);
        self.routes.contains_key(name) && caller.may_call(name)
    }

    /// The providers that may be called, those that stand in included, and how each is doing.
    pub(super) fn states(&self) -> impl Iterator<Item = (String, ProviderState)> {
        self.routes.values().flatten().map(|provider| (provider.name().to_owned(), provider.state()))
    }

    fn targets(&self, model: &str, dialect: Dialect, caller: &Caller<'_>) -> Result<Vec<Target>, WireError> {
        let (name, own) = model.split_once('/').map_or((model, None), |(name, own)| (name, Some(own)));
        let unknown = || {
            let hint = match did_you_mean(name, self.names().filter(|known| caller.may_call(known))) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "GET /v1/models lists what may be called".into(),
            };
            let shown: String = name.chars().take(100).collect();
            WireError::new(
                Code::UnknownTask,
                Some("model".into()),
                format!("no task is called `{shown}`, and no provider that may be called"),
            )
            .with_hint(hint)
        };
        let chain = self.routes.get(name).filter(|_| caller.may_call(name)).ok_or_else(unknown)?;
        let speaks = |provider: &Provider| match provider.dialect() {
            Dialect::Responses => dialect == Dialect::OpenAi,
            own => own == dialect,
        };
        let first_speaks = chain.first().is_some_and(|first| speaks(first));
        // Whoever stands in for another does so for everybody who may call that one; alone, it is called by those who may.
        let there = |provider: &Provider| first_speaks || caller.may_call(provider.name());
        let spoken = chain.iter().enumerate().filter(|(_, provider)| speaks(provider) && there(provider));
        if let (Some(own), Some(first)) = (own, chain.first())
            && !first.offers(own)
        {
            let shown: String = own.chars().take(100).collect();
            return Err(WireError::request(
                Some("model".into()),
                format!("what `{shown}` costs at `{name}` is not known"),
            )
            .with_hint("whoever runs the server can list it under `models` of the provider"));
        }
        let targets: Vec<Target> = spoken
            .map(|(position, provider)| {
                // Those that stand in know another's models by no name.
                let model = own.filter(|_| position == 0).unwrap_or(provider.model());
                (Arc::clone(provider), model.to_owned())
            })
            .collect();
        if targets.is_empty() {
            return Err(WireError::request(
                Some("model".into()),
                format!("`{name}` does not speak this protocol"),
            )
            .with_hint(
                "call it under the path of its own protocol, where it has one that programs may use",
            ));
        }
        Ok(targets)
    }

    /// Sends a request on and brings back what comes of it.
    ///
    /// # Errors
    /// Says what is wrong with the request, or that nobody answers it.
    pub(super) async fn pass(
        &self,
        passing: Passing,
        (named, body): (Option<&str>, &[u8]),
        from: From<'_>,
    ) -> Result<Reply, WireError> {
        let From { caller, headers, trace } = from;
        let head: Head<'_> = serde_json::from_slice(body)
            .map_err(|error| WireError::request(None, format!("the body cannot be read: {error}")))?;
        let (model, place) = match named {
            Some(model) => (model.to_owned(), None),
            None => {
                let (model, place) = model_in(body, &head)?;
                (model, Some(place))
            }
        };
        caller.check_tokens()?;
        let (dialect, path, streams) = passing.facts();
        let targets = self.targets(&model, dialect, caller)?;
        // Where the path names the model, all of the body is in front of nothing.
        let place = place.unwrap_or(body.len()..body.len());
        let (front, back) = (body.get(..place.start), body.get(place.end..));
        let (front, back) = (front.unwrap_or_default().to_vec(), back.unwrap_or_default().to_vec());
        let in_body = named.is_none();
        let request = Relayable {
            path: Box::new(move |model| path.replace("{model}", model)),
            streams: streams.filter(|_| head.stream == Some(true) || passing == Passing::StreamGenerate),
            body: Box::new(move |model| {
                let name = if in_body { serde_json::Value::from(model).to_string() } else { String::new() };
                [front.as_slice(), name.as_bytes(), back.as_slice()].concat().into()
            }),
            most_written: passing.most_written(&head),
            operation: if passing == Passing::Embeddings { "embeddings" } else { dialect.convention().1 },
            trace: trace.cloned(),
        };
        let deadline = Instant::now() + PATIENCE;
        let watch = self.watch(passing, (&model, body), (headers, caller.key_id()));
        let purses = std::iter::once(Purse::of(Arc::clone(&self.money))).chain(caller.purses());
        let money = Purses::together(purses.collect());
        match relay(&targets, &request, (&money, deadline)).await {
            Ok(answer) => {
                let watch = watch.and_then(|watch| answered(watch, &answer, &targets));
                Ok(reply(answer, passing, watch))
            }
            Err(why) => {
                let (code, way_out) = match why.kind {
                    Why::Budget => (
                        Code::BudgetSpent,
                        "whoever runs the server can raise it: under [relay], of the provider, the key or its team",
                    ),
                    Why::Unavailable => (Code::SourceUnavailable, "it was tried as often as makes sense"),
                };
                let calls = if why.attempts == 1 { "call" } else { "calls" };
                Err(WireError::new(
                    code,
                    None,
                    format!("no provider answered after {} {calls}: {}", why.attempts, why.problem),
                )
                .with_hint(way_out))
            }
        }
    }
}

/// Whether a body says whom it is about.
fn names_a_user(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct About {
        user: Option<serde::de::IgnoredAny>,
        safety_identifier: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<About>(body)
        .is_ok_and(|about| about.user.is_some() || about.safety_identifier.is_some())
}

/// The model that a body names, and where it does.
fn model_in(body: &[u8], head: &Head<'_>) -> Result<(String, Range<usize>), WireError> {
    let wrong = || WireError::request(Some("model".into()), "`model` is missing or no text");
    let raw = head.model.ok_or_else(wrong)?;
    let model = serde_json::from_str(raw.get()).map_err(|_| wrong())?;
    let place = place_of(body, raw.get())
        .ok_or_else(|| WireError::new(Code::Internal, None, "the model's name is part of the body"))?;
    Ok((model, place))
}

/// Where a part of a text stands in it.
fn place_of(body: &[u8], part: &str) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
    (start + part.len() <= body.len()).then(|| start..start + part.len())
}

/// A call that was answered well, with who did; any other is not recorded.
fn answered(mut watch: Watch, answer: &Answer, targets: &[Target]) -> Option<Watch> {
    let (provider, model) = targets.iter().find(|(provider, _)| provider.name() == answer.provider)?;
    let (provider, model, prices) = (answer.provider.clone(), model.clone(), provider.prices());
    watch.answered_by(Answering { provider, model, prices }, answer.rest.is_some());
    answer.status.is_success().then_some(watch)
}

fn reply(answer: Answer, passing: Passing, watch: Option<Watch>) -> Reply {
    let mut headers = HeaderMap::new();
    for name in KEPT {
        if let Some(value) = answer.headers.get(name) {
            headers.insert(HeaderName::from_static(name), value.clone());
        }
    }
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    if let Ok(provider) = HeaderValue::from_str(&answer.provider) {
        headers.insert("x-sizewise-provider", provider);
    }
    headers.insert("x-sizewise-attempts", HeaderValue::from(answer.attempts));
    let body = match answer.rest {
        None => {
            if let Some(mut watch) = watch {
                watch.piece(&answer.begun);
                watch.ended();
            }
            Body::Whole(answer.begun.into())
        }
        Some(rest) => {
            let (sender, receiver) = mpsc::channel(PIECES);
            tokio::spawn(pump((answer.begun, rest), (sender, passing), watch));
            Body::Stream(receiver)
        }
    };
    Reply::relayed(answer.status, body, headers)
}

/// Hands a stream on until it ends, breaks, or nobody reads it any more.
async fn pump(
    (begun, mut rest): (Bytes, Stream),
    (sender, passing): (mpsc::Sender<Bytes>, Passing),
    mut watch: Option<Watch>,
) {
    let mut next = Some(begun);
    while let Some(piece) = next {
        if let Some(watch) = &mut watch {
            watch.piece(&piece);
        }
        // A reader who does not read must not keep the provider's connection.
        let sent = tokio::time::timeout(SLOW_READER, sender.send(piece)).await;
        if !matches!(sent, Ok(Ok(()))) {
            break;
        }
        let following = tokio::select! {
            following = rest.next() => following,
            () = sender.closed() => break,
        };
        next = match following {
            Ok(piece) => piece,
            Err(problem) => {
                watch = None;
                let told = sender.send(passing.error_event(&problem));
                let _ = tokio::time::timeout(SLOW_READER, told).await;
                None
            }
        };
    }
    if rest.has_ended() {
        watch.into_iter().for_each(Watch::ended);
    }
    rest.settle();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    #[test]
    fn only_the_models_name_is_replaced() {
        let body =
            br#"{ "messages":[{"role":"user","content":"model"}],  "model" : "primary/m\u002d9" , "x":1e3}"#;
        let head: Head<'_> = serde_json::from_slice(body).unwrap();
        let place = place_of(body, head.model.unwrap().get()).unwrap();
        assert_eq!(&body[place], br#""primary/m\u002d9""#);
        assert_eq!(model_of(body).as_deref(), Some("primary/m-9"));
        assert_eq!(
            model_of(br#"{"model":"a","model":"b"}"#),
            None,
            "a name that stands twice could be read twice"
        );
        assert_eq!(model_of(br#"{"model":7}"#), None);
    }

    #[test]
    fn what_breaks_off_says_so_in_the_words_of_its_protocol() {
        for passing in [Passing::Chat, Passing::Responses, Passing::Messages, Passing::StreamGenerate] {
            let event = passing.error_event("a \"quote\"");
            let text = std::str::from_utf8(&event).unwrap();
            let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
            let value: serde_json::Value = serde_json::from_str(data).unwrap();
            assert!(value.to_string().contains("broke off") && text.ends_with("\n\n"));
            let mut events = sizewise_models::remote::Events::new(passing.facts().2.unwrap());
            events.feed(&event, &mut Vec::new()).unwrap();
            assert!(events.has_ended(), "nobody takes it for success");
        }
    }
}
