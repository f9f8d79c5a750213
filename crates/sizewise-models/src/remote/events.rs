//! Did a stream end as its protocol ends, or did it only stop?
//!
//! Reads server-sent events as they pass and hands on whole ones only, so that nothing half said is ever followed by something
//! else. A stream that stops before its end mark, or says what is no event of its protocol, is a failure that somebody must tell.

use super::{
    dialect::Usage,
    skim::{length, members, value},
};
use serde_json::{Value, value::RawValue};
use std::borrow::Cow;

/// Largest event.
const EVENT_BYTES: usize = 4 << 20;

/// How a protocol streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// Chunks, then `[DONE]`.
    Chat,
    /// Typed events, the last of which says that the response is complete, incomplete or failed.
    Responses,
    /// Typed events up to `message_stop`.
    Messages,
    /// Parts of a reply, the last of which says why it is the last.
    Generate,
}

/// A stream as it passes.
#[derive(Debug)]
pub struct Events {
    streams: Streams,
    /// The beginning of an event that is not whole yet.
    pending: Vec<u8>,
    /// How much of it was searched for its end.
    searched: usize,
    ended: bool,
    usage: Option<Usage>,
    /// Tokens that a model wrote for itself, where they are not among those of its answer.
    thought: u64,
    /// Bytes of what the model said.
    said: u64,
}

impl Events {
    /// A stream of which nothing has come.
    #[must_use]
    pub fn new(streams: Streams) -> Self {
        Self { streams, pending: Vec::new(), searched: 0, ended: false, usage: None, thought: 0, said: 0 }
    }

    /// Whether the end mark has come.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The tokens, where the stream has said them.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.usage.map(|usage| Usage { written: usage.written.saturating_add(self.thought), ..usage })
    }

    /// Bytes of what the model said: no token is shorter.
    #[must_use]
    pub fn said(&self) -> u64 {
        self.said
    }

    /// Takes the next bytes and adds the events that are whole now to `whole`, as they came.
    ///
    /// # Errors
    /// Says what is no event of the protocol; nothing of it is handed on.
    pub fn feed(&mut self, bytes: &[u8], whole: &mut Vec<u8>) -> Result<(), &'static str> {
        self.pending.extend_from_slice(bytes);
        let mut done = 0;
        while let Some(end) = self.end_of_event(done) {
            let pending = std::mem::take(&mut self.pending);
            let event = pending.get(done..end).unwrap_or_default();
            let read = self.read(event);
            if read.is_ok() {
                whole.extend_from_slice(event);
            }
            self.pending = pending;
            read?;
            (done, self.searched) = (end, end);
        }
        if self.pending.len() - done > EVENT_BYTES {
            return Err("an event of the stream is too large");
        }
        self.pending.drain(..done);
        self.searched = self.pending.len().saturating_sub(3);
        Ok(())
    }

    /// Just behind the empty line that ends the event at `from`.
    fn end_of_event(&self, from: usize) -> Option<usize> {
        let start = from.max(self.searched.min(self.pending.len()));
        let rest = self.pending.get(start..)?;
        let ends = |window: &[u8]| window.starts_with(b"\n\n") || window.starts_with(b"\n\r\n");
        let at = (0..rest.len()).find(|at| rest.get(*at..).is_some_and(ends))?;
        let length = if rest.get(at + 1) == Some(&b'\n') { 2 } else { 3 };
        Some(start + at + length)
    }

    fn read(&mut self, event: &[u8]) -> Result<(), &'static str> {
        let text = std::str::from_utf8(event).map_err(|_| "an event of the stream is no text")?;
        let mut data = Cow::Borrowed("");
        for part in text.lines().filter_map(|line| line.strip_prefix("data:")) {
            let part = part.strip_prefix(' ').unwrap_or(part);
            if data.is_empty() { data = Cow::Borrowed(part) } else { data.to_mut().push_str(part) }
        }
        match (&*data, self.streams) {
            // A comment that keeps the connection alive.
            ("", _) => return Ok(()),
            ("[DONE]", Streams::Chat) => {
                self.ended = true;
                return Ok(());
            }
            _ => {}
        }
        let broken = |_: serde_json::Error| "an event of the stream is no JSON";
        let says = |member: Option<&str>| member.is_some_and(|member| member != "null");
        match self.streams {
            Streams::Chat => {
                let [error, usage, choices] =
                    members(&data, ["error", "usage", "choices"]).map_err(broken)?;
                // An error that the provider tells is an end that nobody takes for success.
                self.ended |= says(error);
                self.tokens(value(usage).as_ref(), ["prompt_tokens", "completion_tokens"]);
                self.said += length(choices, &["delta"]);
            }
            Streams::Responses => {
                let [kind, response, delta] =
                    members(&data, ["type", "response", "delta"]).map_err(broken)?;
                let ends = ["response.completed", "response.incomplete", "response.failed", "error"];
                self.ended |= is_one_of(kind, &ends);
                let usage = response.and_then(|response| members(response, ["usage"]).ok()?[0]);
                self.tokens(value(usage).as_ref(), ["input_tokens", "output_tokens"]);
                self.said += length(delta, &[]);
            }
            Streams::Generate => {
                let names = ["error", "usageMetadata", "candidates", "promptFeedback"];
                let [error, usage, candidates, feedback] = members(&data, names).map_err(broken)?;
                // A prompt that is filtered has no candidate, and nothing follows.
                let blocked = feedback.and_then(|told| members(told, ["blockReason"]).ok()?[0]);
                self.ended |= says(blocked) || says(error);
                let parts: Vec<&RawValue> =
                    candidates.and_then(|all| serde_json::from_str(all).ok()).unwrap_or_default();
                let finished =
                    |part: &&RawValue| members(part.get(), ["finishReason"]).is_ok_and(|[why]| says(why));
                self.ended |= parts.iter().any(finished);
                let usage = value(usage);
                self.tokens(usage.as_ref(), ["promptTokenCount", "candidatesTokenCount"]);
                // Thoughts are counted apart and paid for alike.
                let thought = usage.and_then(|usage| usage.get("thoughtsTokenCount").and_then(Value::as_u64));
                self.thought = self.thought.max(thought.unwrap_or(0));
                self.said += length(candidates, &["content", "parts"]);
            }
            Streams::Messages => {
                let names = ["type", "message", "usage", "delta"];
                let [kind, message, usage, delta] = members(&data, names).map_err(broken)?;
                self.ended |= is_one_of(kind, &["message_stop", "error"]);
                let usage = message.and_then(|message| members(message, ["usage"]).ok()?[0]).or(usage);
                self.tokens(value(usage).as_ref(), ["input_tokens", "output_tokens"]);
                self.said += length(delta, &[]);
            }
        }
        Ok(())
    }

    /// Keeps the larger of what was said before and what is said now: counts grow as a stream goes on.
    fn tokens(&mut self, usage: Option<&Value>, [read, written]: [&str; 2]) {
        let Some(usage) = usage.filter(|usage| usage.is_object()) else { return };
        let count = |name: &str| usage.get(name).and_then(Value::as_u64).unwrap_or(0);
        // What Anthropic's cache took part in is told apart, and paid for.
        let cached = count("cache_creation_input_tokens").saturating_add(count("cache_read_input_tokens"));
        let known = self.usage.unwrap_or(Usage { read: 0, written: 0 });
        let (read, written) =
            (known.read.max(count(read).saturating_add(cached)), known.written.max(count(written)));
        self.usage = Some(Usage { read, written });
    }
}

/// Whether a member is one of some texts.
fn is_one_of(member: Option<&str>, texts: &[&str]) -> bool {
    member
        .and_then(|member| serde_json::from_str::<Cow<'_, str>>(member).ok())
        .is_some_and(|text| texts.contains(&&*text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    const CHAT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"hel\"}}]}\n\n: ping\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\r\n\r\ndata: [DONE]\n\n";

    #[test]
    fn whole_events_pass_as_they_came_however_the_bytes_are_cut() {
        for size in 1..CHAT.len() {
            let mut events = Events::new(Streams::Chat);
            let mut passed = Vec::new();
            for part in CHAT.as_bytes().chunks(size) {
                events.feed(part, &mut passed).unwrap();
                assert!(passed.is_empty() || passed.ends_with(b"\n"), "{size}");
            }
            assert_eq!(passed, CHAT.as_bytes(), "{size}");
            assert!(events.has_ended());
            assert_eq!((events.usage(), events.said()), (Some(Usage { read: 7, written: 2 }), 3));
        }
    }

    #[test]
    fn only_the_end_mark_ends_a_stream() {
        let ends = |streams: Streams, text: &str| {
            let mut events = Events::new(streams);
            events.feed(text.as_bytes(), &mut Vec::new()).map(|()| events.has_ended())
        };
        assert_eq!(ends(Streams::Chat, "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n"), Ok(false));
        assert_eq!(ends(Streams::Chat, "data: {\"error\":{\"message\":\"busy\"}}\n\n"), Ok(true));
        assert_eq!(
            ends(Streams::Messages, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"),
            Ok(true)
        );
        assert_eq!(ends(Streams::Messages, "data: [DONE]\n\n"), Err("an event of the stream is no JSON"));
        assert_eq!(ends(Streams::Responses, "data: {\"type\":\"response.incomplete\"}\n\n"), Ok(true));
        assert_eq!(
            ends(
                Streams::Generate,
                "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}\r\n\r\n"
            ),
            Ok(false)
        );
        assert_eq!(
            ends(Streams::Generate, "data: {\"candidates\":[{\"finishReason\":\"STOP\"}]}\n\n"),
            Ok(true)
        );
        assert_eq!(
            ends(Streams::Generate, "data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}\n\n"),
            Ok(true)
        );
        assert!(ends(Streams::Chat, "data: {\"choi\n\n").is_err());
    }

    #[test]
    fn what_a_model_thinks_is_counted_where_it_is_told_apart() {
        let mut events = Events::new(Streams::Generate);
        let said = br#"data: {"candidates":[{"content":{"parts":[{"text":"abc"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":2,"thoughtsTokenCount":40}}"#;
        events.feed(&[said.as_slice(), b"\n\n"].concat(), &mut Vec::new()).unwrap();
        assert_eq!((events.usage(), events.said()), (Some(Usage { read: 7, written: 42 }), 3));
    }

    #[test]
    fn nothing_of_a_broken_event_is_handed_on() {
        let (mut events, mut passed) = (Events::new(Streams::Chat), Vec::new());
        events.feed(b"data: {}\n\ndata: {\"cho", &mut passed).unwrap();
        assert!(events.feed(b"oops\n\n", &mut passed).is_err());
        assert_eq!(passed, b"data: {}\n\n");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_fail_otherwise_than_by_saying_so(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400), cut in 1usize..50) {
            let mut events = Events::new(Streams::Messages);
            let mut passed = Vec::new();
            for part in bytes.chunks(cut) {
                if events.feed(part, &mut passed).is_err() {
                    break;
                }
            }
            proptest::prop_assert!(bytes.starts_with(&passed));
        }
    }
}
