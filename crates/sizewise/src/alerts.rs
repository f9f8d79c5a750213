//! Who is told when a promise comes into doubt, breaks or is kept again, when that ends a trial, and when a new kind of input comes?
//!
//! A server of the user's choice, by a short JSON message, and mailboxes, by a letter; neither has anything of an input. Each way has a thread
//! of its own, so that none waits for the other. What nobody takes is tried again for a while and then said on standard error: the audit log has
//! every change, so no message is the only trace of one.

mod ways;

use crate::{
    error::{Error, Result},
    project::Project,
};
use serde::{Deserialize, Serialize};
use sizewise_contract::{NewKind, PromiseChange, Trial};
use sizewise_engine::EndedTrial;
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
pub use ways::EmailSettings;
use ways::Way;

/// Messages that may wait to be sent.
const WAITING: usize = 256;
/// Times that one message is sent until somebody takes it, and the first pause between them; each is twice the one before.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_secs(1);
/// How often a pause looks whether the server stops.
const LOOK: Duration = Duration::from_millis(100);

/// Rules for Prometheus about what `/metrics` tells.
pub(crate) const RULES: &str = include_str!("alerts.yml");

/// Who is told.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct AlertSettings {
    /// The address that gets a `POST` for each change.
    pub webhook: Option<String>,
    /// Headers of each call; values may be named as `env:NAME` or `file:PATH`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Whether its name may lead to a private network.
    #[serde(default)]
    pub private: bool,
    /// Who gets a letter for each change.
    pub email: Option<EmailSettings>,
}

/// Sends messages on threads of its own, one for each way.
#[derive(Debug)]
pub(crate) struct Alerts {
    ways: Vec<(SyncSender<Arc<Told>>, JoinHandle<()>)>,
    stopping: Arc<AtomicBool>,
}

/// What somebody is told.
#[derive(Debug, Serialize)]
#[serde(tag = "event")]
enum Told {
    #[serde(rename = "promise.changed")]
    Promise {
        #[serde(flatten)]
        change: Box<PromiseChange>,
        /// One line for people, for services that show one.
        text: String,
    },
    #[serde(rename = "kind.proposed")]
    Kind {
        #[serde(flatten)]
        kind: Box<NewKind>,
        text: String,
    },
    #[serde(rename = "trial.ended")]
    Trial {
        #[serde(flatten)]
        trial: Box<Trial>,
        because: String,
        text: String,
    },
}

impl Told {
    fn task(&self) -> &str {
        match self {
            Self::Promise { change, .. } => &change.task,
            Self::Kind { kind, .. } => &kind.task,
            Self::Trial { trial, .. } => &trial.task,
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Promise { text, .. } | Self::Kind { text, .. } | Self::Trial { text, .. } => text,
        }
    }

    /// What a letter about it is about.
    fn subject(&self) -> String {
        match self {
            Self::Promise { change, .. } => {
                let state = change.to.name().replace('_', " ");
                format!("Sizewise: promise of {}/{} is {state}", change.task, change.question)
            }
            Self::Kind { kind, .. } => format!("Sizewise: new kind of input in {}", kind.task),
            Self::Trial { trial, .. } => format!("Sizewise: trial of {} has ended", trial.task),
        }
    }
}

impl Alerts {
    /// What the project's settings ask for; none where they ask for nothing.
    ///
    /// # Errors
    /// Fails when the address or a header is none, or a secret cannot be read.
    pub(crate) fn start(project: &Project) -> Result<Option<Self>> {
        let Some(settings) = &project.settings().alerts else { return Ok(None) };
        let stopping = Arc::new(AtomicBool::new(false));
        let mut ways = Vec::new();
        for way in Way::of(settings, project.root())? {
            let (queue, waiting) = sync_channel(WAITING);
            let stop = Arc::clone(&stopping);
            let sender = std::thread::Builder::new()
                .name("alerts".into())
                .spawn(move || send_all(&way, &waiting, &stop))
                .map_err(|error| Error::usage(format!("[alerts]: {error}")))?;
            ways.push((queue, sender));
        }
        Ok(Some(Self { ways, stopping }))
    }

    /// Tells of a change, without waiting.
    pub(crate) fn tell(&self, change: &PromiseChange) {
        self.send(Told::Promise { change: Box::new(change.clone()), text: told(change) });
    }

    /// Tells of a trial that evidence has ended, without waiting.
    pub(crate) fn tell_ended(&self, ended: &EndedTrial) {
        let EndedTrial { trial, because } = ended.clone();
        self.send(Told::Trial { trial: Box::new(trial), because, text: told_ended(ended) });
    }

    /// Tells of a new kind of input, without waiting.
    pub(crate) fn tell_kind(&self, kind: &NewKind) {
        self.send(Told::Kind { kind: Box::new(kind.clone()), text: told_kind(kind) });
    }

    fn send(&self, message: Told) {
        let message = Arc::new(message);
        if self.ways.iter().any(|(queue, _)| queue.try_send(Arc::clone(&message)).is_err()) {
            eprintln!("alerts: too many wait; one about {} is only in the audit log", message.task());
        }
    }
}

impl Drop for Alerts {
    /// What waits is sent once more, and not tried again.
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        let (queues, senders): (Vec<_>, Vec<_>) = self.ways.drain(..).unzip();
        drop(queues);
        for sender in senders {
            let _ = sender.join();
        }
    }
}

fn send_all(way: &Way, waiting: &Receiver<Arc<Told>>, stop: &AtomicBool) {
    while let Ok(message) = waiting.recv() {
        let mut pause = PAUSE;
        for left in (0..TRIES).rev() {
            let Err(problem) = way.send(&message) else { break };
            if left == 0 || stop.load(Ordering::Relaxed) {
                eprintln!("alerts: {} did not take the one about {}: {problem}", way.name(), message.task());
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

/// The end of a trial in one sentence.
pub(crate) fn told_ended(ended: &EndedTrial) -> String {
    let EndedTrial { trial, because } = ended;
    format!(
        "{}: release {} is not tried any more: {because}; the release in force answers every request",
        trial.task,
        trial.release.short()
    )
}

/// A new kind of input in one sentence.
pub(crate) fn told_kind(kind: &NewKind) -> String {
    format!(
        "a new kind of input came to {}: {:.1} % of what was looked at; it is handed on (sizewise kinds {})",
        kind.task,
        kind.share * 100.0,
        kind.task
    )
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
