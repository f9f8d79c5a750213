//! What does a request leave on standard error?
//!
//! One line of JSON with route, status, time, key id, task and decision id; never anything of what was asked or answered.
//! A thread of its own writes, so that a slow terminal or pipe holds up nobody: when it falls behind, lines are dropped
//! and counted.

use crate::{telemetry::Decided, wire::WireError};
use hyper::{Method, StatusCode};
use serde::Serialize;
use sizewise_contract::{Code, Decision, Diagnose};
use std::{
    io::Write,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Lines that may wait to be written.
const WAITING: usize = 4_096;

/// What is learned about a request on its way.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) key_id: Option<String>,
    pub(super) code: Option<Code>,
    pub(super) status: StatusCode,
    pub(super) elapsed: Duration,
    task: Option<String>,
    decision_id: Option<String>,
    decisions: usize,
    /// Whether somebody traces the request; what was decided is then told there, too.
    pub(super) traced: bool,
    pub(super) decided: Option<Decided>,
    pub(super) request_id: String,
}

impl Line {
    /// Notes the decisions of a request.
    pub(super) fn of_decisions(&mut self, decisions: &[Decision]) {
        self.decisions = decisions.len();
        if self.traced {
            self.decided = Decided::of(decisions);
        }
        if let Some(first) = decisions.first() {
            self.task = Some(first.task.clone());
            self.decision_id = Some(first.id.clone());
        }
    }
}

/// The log of a server.
pub(super) struct Log {
    lines: Option<SyncSender<String>>,
    writer: Option<JoinHandle<()>>,
    access: bool,
    dropped: AtomicU64,
}

#[derive(Serialize)]
struct AccessLine<'a> {
    at_ms: u128,
    level: &'static str,
    route: &'a str,
    method: &'a str,
    status: u16,
    elapsed_us: u128,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision_id: Option<&'a str>,
    decisions: usize,
}

#[derive(Serialize)]
struct ErrorLine<'a> {
    at_ms: u128,
    level: &'static str,
    route: &'a str,
    code: &'static str,
    message: &'a str,
}

impl Log {
    /// Writes to standard error; lines about requests only where `access` is set, errors of our own always.
    pub(super) fn to_stderr(access: bool) -> Self {
        Self::to(std::io::stderr(), access)
    }

    fn to(mut sink: impl Write + Send + 'static, access: bool) -> Self {
        let (lines, waiting) = sync_channel::<String>(WAITING);
        let writer = std::thread::Builder::new().name("log".into()).spawn(move || {
            for line in waiting {
                // Nobody is left to be told when standard error is closed.
                let _ = writeln!(sink, "{line}");
            }
        });
        // Without its thread the log stays silent; the server itself can still serve.
        let writer = writer.ok();
        Self { lines: writer.is_some().then_some(lines), writer, access, dropped: AtomicU64::new(0) }
    }

    /// Notes a request.
    pub(super) fn access(&self, route: &'static str, method: &Method, line: &Line) {
        if !self.access {
            return;
        }
        self.write(&AccessLine {
            at_ms: unix_millis(),
            level: "info",
            route,
            method: method.as_str(),
            status: line.status.as_u16(),
            elapsed_us: line.elapsed.as_micros(),
            request_id: &line.request_id,
            key_id: line.key_id.as_deref(),
            code: line.code.map(Code::name),
            task: line.task.as_deref(),
            decision_id: line.decision_id.as_deref(),
            decisions: line.decisions,
        });
    }

    /// Notes an error that is not the caller's; its message goes nowhere else.
    pub(super) fn error(&self, route: &'static str, error: &WireError) {
        self.write(&ErrorLine {
            at_ms: unix_millis(),
            level: "error",
            route,
            code: error.code().name(),
            message: error.message(),
        });
    }

    /// Lines that were dropped because the writer fell behind.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn write<T: Serialize>(&self, line: &T) {
        let (Some(lines), Ok(line)) = (&self.lines, serde_json::to_string(line)) else { return };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = lines.try_send(line) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        drop(self.lines.take());
        if let Some(writer) = self.writer.take() {
            // The writer ends once it has written what waits.
            let _ = writer.join();
        }
    }
}

fn unix_millis() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::support_decision;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(access: bool) -> String {
        let sink = Sink::default();
        let log = Log::to(sink.clone(), access);
        let elapsed = Duration::from_micros(120);
        let mut line = Line { key_id: Some("key-1".into()), elapsed, ..Line::default() };
        line.of_decisions(&[support_decision()]);
        log.access("/v1/decisions", &Method::POST, &line);
        log.error("/v1/decisions", &WireError::new(Code::Internal, None, "broken"));
        drop(log);
        let bytes = sink.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn a_line_says_who_asked_which_task_and_nothing_of_the_answer() {
        let text = written(true);
        let line: serde_json::Value =
            serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
        assert_eq!(line["decision_id"], "d-1");
        assert_eq!(line["elapsed_us"], 120);
        assert_eq!(line["key_id"], "key-1");
        assert!(!text.contains("delivery"), "{text}");
    }

    #[test]
    fn errors_of_our_own_are_noted_even_without_an_access_log() {
        let text = written(false);
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains("\"message\":\"broken\""), "{text}");
    }
}
