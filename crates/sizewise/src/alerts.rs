//! Who is told when a promise comes into doubt, breaks or is kept again?
//!
//! A server of the user's choice, by a short JSON message without anything of an input. One thread sends, what nobody takes is tried again for
//! a while and then said on standard error: the audit log has every change, so no message is the only trace of one.

use crate::{
    error::{Error, Result},
    project::Project,
    secrets,
};
use serde::{Deserialize, Serialize};
use sizewise_contract::PromiseChange;
use sizewise_models::remote::Post;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Messages that may wait to be sent.
const WAITING: usize = 256;
/// Times that one message is sent until somebody takes it, and the first pause between them; each is twice the one before.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a pause looks whether the server stops.
const LOOK: Duration = Duration::from_millis(100);

/// Rules for Prometheus about what `/metrics` tells.
pub(crate) const RULES: &str = include_str!("alerts.yml");

/// Who is told.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct AlertSettings {
    /// The address that gets a `POST` for each change.
    pub webhook: String,
    /// Headers of each call; values may be named as `env:NAME` or `file:PATH`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Whether its name may lead to a private network.
    #[serde(default)]
    pub private: bool,
}

/// Sends messages on a thread of its own.
#[derive(Debug)]
pub(crate) struct Alerts {
    queue: Option<SyncSender<PromiseChange>>,
    stopping: Arc<AtomicBool>,
    sender: Option<JoinHandle<()>>,
}

#[derive(Serialize)]
struct Message<'a> {
    event: &'static str,
    #[serde(flatten)]
    change: &'a PromiseChange,
    /// One line for people, for services that show one.
    text: String,
}

impl Alerts {
    /// What the project's settings ask for; none where they ask for nothing.
    ///
    /// # Errors
    /// Fails when the address or a header is none, or a secret cannot be read.
    pub(crate) fn start(project: &Project) -> Result<Option<Self>> {
        let Some(settings) = &project.settings().alerts else { return Ok(None) };
        let wrong = |problem: String| Error::usage(format!("[alerts]: {problem}"));
        let mut headers = Vec::new();
        for (name, value) in &settings.headers {
            let is_named = value.starts_with("env:") || value.starts_with("file:");
            let value = if is_named { secrets::key(value, project.root())? } else { value.clone() };
            headers.push((name.clone(), value));
        }
        let begins = settings.webhook.find("://").map_or(0, |at| at + 3);
        let path = settings.webhook.get(begins..).and_then(|rest| rest.find('/'));
        let (server, path) = settings.webhook.split_at(path.map_or(settings.webhook.len(), |at| begins + at));
        let post = Post::new(server, settings.private, &headers).map_err(wrong)?;
        let path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
        let (queue, waiting) = sync_channel(WAITING);
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let sender = std::thread::Builder::new()
            .name("alerts".into())
            .spawn(move || send_all((&post, &path), &waiting, &stop))
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Some(Self { queue: Some(queue), stopping, sender: Some(sender) }))
    }

    /// Tells of a change, without waiting.
    pub(crate) fn tell(&self, change: &PromiseChange) {
        let taken = self.queue.as_ref().is_some_and(|queue| queue.try_send(change.clone()).is_ok());
        if !taken {
            eprintln!("alerts: too many wait; one about {} is only in the audit log", change.task);
        }
    }
}

impl Drop for Alerts {
    /// What waits is sent once more, and not tried again.
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        drop(self.queue.take());
        if let Some(sender) = self.sender.take() {
            let _ = sender.join();
        }
    }
}

fn send_all((post, path): (&Post, &str), waiting: &Receiver<PromiseChange>, stop: &AtomicBool) {
    while let Ok(change) = waiting.recv() {
        let message = Message { event: "promise.changed", change: &change, text: told(&change) };
        let Ok(body) = serde_json::to_vec(&message) else { continue };
        let mut pause = PAUSE;
        for left in (0..TRIES).rev() {
            let problem = match post.send(path, body.clone(), PATIENCE) {
                Ok(said) if said.status < 300 => break,
                Ok(said) => format!("it answered with status {}", said.status),
                Err(problem) => problem,
            };
            if left == 0 || stop.load(Ordering::Relaxed) {
                eprintln!("alerts: the webhook did not take the one about {}: {problem}", change.task);
                break;
            }
            let mut rest = pause;
            while !rest.is_zero() && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(LOOK.min(rest));
                rest = rest.saturating_sub(LOOK);
            }
            pause *= 2;
        }
    }
}

/// A change in one sentence.
pub(crate) fn told(change: &PromiseChange) -> String {
    let group = change.group.as_ref().map_or(String::new(), |group| format!(" in {group}"));
    let threshold = change.threshold.map_or("nothing is answered here now".to_owned(), |threshold| {
        format!("answers are given from confidence {threshold:.4} on")
    });
    let (task, question, state) = (&change.task, &change.question, change.to.name().replace('_', " "));
    format!("promise of {task}/{question}{group} is {state}: {}; {threshold}", change.reason)
}
