//! Where does a call to a provider belong in what its caller traces, and what is told of it?
//!
//! A caller who traces says so in `traceparent` (W3C Trace Context). Each call to a provider is a span of its own below the request's and
//! carries its own `traceparent` on. What is told of a call is who was asked, how long it took, how many tokens it had and in which of a few
//! fixed ways it failed: never a text, nor what a provider says of one.

use super::{dialect::Usage, provider::Provider};
use hyper::header::HeaderValue;
use std::{
    cell::Cell,
    fmt::{Debug, Write as _},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// Longest name of a model that is told.
const NAME_BYTES: usize = 128;

/// A place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace_id: u128,
    /// The span.
    pub span_id: u64,
    /// Whether what belongs to it is exported.
    pub sampled: bool,
}

/// Whoever is told of calls that have ended.
pub trait Spans: Send + Sync + Debug {
    /// One call has ended; waits for nothing.
    fn ended(&self, call: Call);
}

/// A request that is traced, on its way through the program.
#[derive(Debug, Clone)]
pub struct Trace {
    context: Context,
    spans: Arc<dyn Spans>,
}

/// What is told of one call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its own place.
    pub context: Context,
    /// The request's span.
    pub parent: u64,
    /// When it began.
    pub begun: SystemTime,
    /// How long it took, of a stream to its last event.
    pub elapsed: Duration,
    /// The provider.
    pub provider: Arc<Provider>,
    /// What was asked for: `chat`, `generate_content`, `embeddings`, `decide`.
    pub operation: &'static str,
    /// The model that was asked for.
    pub model: String,
    /// The status of the reply, where one came.
    pub status: Option<u16>,
    /// What came of it, or which of a few kinds of failure.
    pub outcome: Result<Answered, &'static str>,
}

/// What is told of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answered {
    /// The model that answered, as the provider calls it.
    pub model: Option<String>,
    /// Its tokens.
    pub usage: Option<Usage>,
}

impl Context {
    /// A place in a trace of its own.
    #[must_use]
    pub fn new(sampled: bool) -> Self {
        let trace_id = u128::from(random()) << 64 | u128::from(random());
        Self { trace_id, span_id: random(), sampled }
    }

    /// A place below this one.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span_id: random(), ..self }
    }

    /// Reads a `traceparent`; none where it is not one.
    ///
    /// Source: W3C Trace Context, 3.2. A later version is read by its first four parts.
    #[must_use]
    pub fn read(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let mut hex = |length: usize| {
            let part = parts.next()?;
            let digits = part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            (part.len() == length && digits).then_some(part)
        };
        let (version, trace_id, span_id, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let rest = parts.next().is_some();
        if version == "ff" || version == "00" && rest {
            return None;
        }
        let trace_id = u128::from_str_radix(trace_id, 16).ok().filter(|id| *id != 0)?;
        let span_id = u64::from_str_radix(span_id, 16).ok().filter(|id| *id != 0)?;
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        Some(Self { trace_id, span_id, sampled })
    }

    /// As `traceparent` says it.
    #[must_use]
    pub fn header(self) -> String {
        let mut text = String::with_capacity(55);
        // Writing to a string cannot fail.
        let _ =
            write!(text, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled));
        text
    }
}

impl Trace {
    /// A request at this place, whose calls are told to `spans`.
    #[must_use]
    pub fn new(context: Context, spans: Arc<dyn Spans>) -> Self {
        Self { context, spans }
    }

    /// Begins a call.
    pub(super) fn calls(
        &self,
        provider: &Arc<Provider>,
        (operation, model): (&'static str, &str),
        until: Instant,
    ) -> Calling {
        let call = Call {
            context: self.context.child(),
            parent: self.context.span_id,
            begun: SystemTime::now(),
            elapsed: Duration::ZERO,
            provider: Arc::clone(provider),
            operation,
            // Callers name models, too.
            model: if is_name(model) { model.to_owned() } else { "_OTHER".into() },
            status: None,
            outcome: Err("cancelled"),
        };
        Calling {
            call: Some(call),
            begun: Instant::now(),
            until: Some(until),
            spans: Arc::clone(&self.spans),
        }
    }
}

/// A call under way; told of when it ends, however it does.
#[derive(Debug)]
pub(super) struct Calling {
    call: Option<Call>,
    begun: Instant,
    /// Until when it is waited for, while it can be too late.
    until: Option<Instant>,
    spans: Arc<dyn Spans>,
}

impl Calling {
    /// What the provider is told of its place.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let call = self.call.as_ref()?;
        HeaderValue::from_str(&call.context.header()).ok()
    }

    /// Notes the head of a reply.
    pub(super) fn replied(&mut self, status: u16) {
        if let Some(call) = &mut self.call {
            call.status = Some(status);
        }
        if !(200..=299).contains(&status) {
            self.failed();
        }
    }

    /// Notes that a stream has begun: from then on it may take as long as it takes.
    pub(super) fn streams(&mut self) {
        self.until = None;
    }

    /// Notes that it was answered.
    pub(super) fn answered(&mut self, model: Option<String>, usage: Option<Usage>) {
        if let Some(call) = &mut self.call {
            call.outcome = Ok(Answered { model: model.filter(|model| is_name(model)), usage });
        }
    }

    /// Notes that it failed on the other side.
    pub(super) fn failed(&mut self) {
        if let Some(call) = &mut self.call {
            call.outcome = Err(match call.status {
                None => "connection_failed",
                Some(200..=299) => "invalid_response",
                Some(_) => "refused",
            });
        }
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        if let Some(mut call) = self.call.take().filter(|call| call.context.sampled) {
            call.elapsed = self.begun.elapsed();
            if call.outcome == Err("cancelled") && self.until.is_some_and(|until| Instant::now() >= until) {
                call.outcome = Err("timeout");
            }
            self.spans.ended(call);
        }
    }
}

/// Whether it can be the name of a model: what a provider says there goes into traces.
fn is_name(model: &str) -> bool {
    let sign = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@-+".contains(&byte);
    !model.is_empty() && model.len() <= NAME_BYTES && model.bytes().all(sign)
}

/// Sixty-four bits that are not zero; told apart, not kept secret.
///
/// Source: SplitMix64 (Steele, Lea and Flood 2014), begun anew on each thread where the standard library's random keys say.
#[must_use]
pub fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(Instant::now()));
    }
    let mut bits = STATE.with(|state| {
        state.set(state.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        state.get()
    });
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits ^ bits >> 31).max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_traceparent_is_read_as_the_recommendation_has_it() {
        // The example of W3C Trace Context, 3.2.3.
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let read = Context::read(header).unwrap();
        let expected = Context {
            trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
            span_id: 0x00f0_67aa_0ba9_02b7,
            sampled: true,
        };
        assert_eq!((read, read.header().as_str()), (expected, header));
        assert!(Context::read(&format!("cc{}-more", &header[2..])).is_some(), "a later version");
        for wrong in [
            "",
            &format!("{header}-more"),
            &header[1..],
            &header.to_uppercase(),
            &format!("ff{}", &header[2..]),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
        ] {
            assert_eq!(Context::read(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_caller_sends_is_read_or_refused(header in "\\PC{0,80}", sampled: bool) {
            let _ = Context::read(&header);
            let context = Context::new(sampled);
            prop_assert_eq!(Context::read(&context.header()), Some(context));
            prop_assert_ne!(context.child().span_id, context.span_id);
        }
    }
}
