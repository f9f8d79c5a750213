//! How are some requests looked at, behind everybody's back?
//!
//! By chance, whatever tier answered: a share, and of each task at most ten a second after the first two thousand, as a look costs about what
//! an answer of the encoder does. One thread looks; what it cannot keep up with is dropped and counted, whether the encoder has read it
//! already or not, as the looks would no longer be alike else.

use super::Seen;
use crate::{admit::Admitted, error::Error, served::Served};
use sizewise_contract::{
    Decision, NewKind,
    task::{Live, StoreInput},
};
use sizewise_measure::random::Random;
use sizewise_store::Store;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Instant,
};

/// Looks that may wait.
const WAITING: usize = 512;
/// Most looks a second at a task's requests, and how many may be made up for.
const A_SECOND: f64 = 10.0;
const AT_ONCE: f64 = 2_000.0;
/// Word pieces before the encoder from which on nothing is looked at: requests come first.
const BUSY: usize = 8_192;

/// Looks at requests on a thread of its own.
#[derive(Debug)]
pub(crate) struct Looks {
    pace: Mutex<Pace>,
    sender: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<()>>,
    found: Arc<Mutex<Vec<NewKind>>>,
}

/// Which requests are looked at: knows when they come and nothing else of them.
#[derive(Debug)]
struct Pace {
    random: Random,
    /// By task: looks that may still be made, and when that was counted.
    left: BTreeMap<String, (f64, Instant)>,
}

impl Pace {
    fn draws(&mut self, task: &str, share: f64, now: Instant) -> bool {
        if self.random.uniform() >= share {
            return false;
        }
        if !self.left.contains_key(task) {
            self.left.insert(task.to_owned(), (AT_ONCE, now));
        }
        let Some((left, at)) = self.left.get_mut(task) else { return false };
        *left = (*left + A_SECOND * now.saturating_duration_since(*at).as_secs_f64()).min(AT_ONCE);
        *at = now;
        let may = *left >= 1.0;
        *left -= f64::from(u8::from(may));
        may
    }
}

#[derive(Debug)]
enum Message {
    Look(Box<Look>),
    /// Everything before it was looked at.
    Told(SyncSender<()>),
}

#[derive(Debug)]
struct Look {
    served: Arc<Served>,
    decision: String,
    text: String,
    /// What the encoder made of it, where it has read it.
    vector: Option<Vec<f32>>,
    kept: bool,
}

/// What some of are looked at.
pub(crate) struct Drawn<'d> {
    pub(crate) admitted: &'d Admitted,
    pub(crate) decisions: &'d [Decision],
    /// What the encoder made of each input, where it has read it.
    pub(crate) vectors: Vec<Option<Vec<f32>>>,
    pub(crate) rules: &'d Live,
}

impl Looks {
    /// Begins, with random bits of the system.
    pub(crate) fn start(store: Arc<Store>, seed: u64) -> Result<Self, Error> {
        let found = Arc::new(Mutex::new(Vec::new()));
        let (sender, receiver) = sync_channel(WAITING);
        let told = Arc::clone(&found);
        let thread = std::thread::Builder::new()
            .name("looks".into())
            .spawn(move || look_at_all(&store, &receiver, &told))
            .map_err(|_| Error::Internal("the system gives a thread"))?;
        let pace = Mutex::new(Pace { random: Random::new(seed), left: BTreeMap::new() });
        Ok(Self { pace, sender: Some(sender), thread: Some(thread), found })
    }

    /// Draws some of these decisions and hands them over.
    pub(crate) fn draw(&self, served: &Arc<Served>, drawn: Drawn<'_>) {
        let (Some(kinds), Some(sender)) = (&served.kinds, &self.sender) else { return };
        let now = Instant::now();
        let inputs = drawn.admitted.texts.iter().zip(drawn.decisions).zip(drawn.vectors);
        for ((text, decision), vector) in inputs {
            let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
            if !pace.draws(&decision.task, drawn.rules.look_share, now) {
                continue;
            }
            drop(pace);
            let look = Look {
                served: Arc::clone(served),
                decision: decision.id.clone(),
                text: text.clone(),
                vector,
                kept: drawn.admitted.keep != StoreInput::Nothing,
            };
            match sender.try_send(Message::Look(Box::new(look))) {
                Ok(()) => {}
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => kinds.drop_one(),
            }
        }
    }

    /// Waits until everything that was handed over before has been looked at.
    pub(crate) fn finish(&self) {
        let (told, done) = sync_channel(1);
        if let Some(sender) = &self.sender
            && sender.send(Message::Told(told)).is_ok()
        {
            let _ = done.recv();
        }
    }

    /// The kinds that were found since the last time.
    pub(crate) fn found(&self) -> Vec<NewKind> {
        std::mem::take(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Looks {
    /// Finishes what waits.
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn look_at_all(store: &Store, waiting: &Receiver<Message>, told: &Mutex<Vec<NewKind>>) {
    let (mut ids, mut fixed) = (Vec::new(), Vec::new());
    while let Ok(message) = waiting.recv() {
        let look = match message {
            Message::Look(look) => *look,
            Message::Told(done) => {
                let _ = done.send(());
                continue;
            }
        };
        let served = Arc::clone(&look.served);
        let (Some(kinds), Some(seat)) = (&served.kinds, &served.encoder) else { continue };
        if seat.waiting_tokens() > BUSY {
            kinds.drop_one();
            continue;
        }
        served.static_embeddings.embed_into(&look.text, &mut ids, &mut fixed);
        let Some(vector) = look.vector.or_else(|| read(&served, &look.text)) else {
            kinds.drop_one();
            continue;
        };
        let seen = Seen { decision: look.decision, vector, fixed: fixed.clone(), kept: look.kept };
        match kinds.look(store, &served.info, seen) {
            Ok(new) => told.lock().unwrap_or_else(PoisonError::into_inner).extend(new),
            Err(error) => eprintln!("a new kind of input could not be written down: {error}"),
        }
    }
}

/// What the encoder makes of a text that it has not read yet.
fn read(served: &Served, text: &str) -> Option<Vec<f32>> {
    let (told, embedded) = sync_channel(1);
    let seat = served.encoder.as_ref()?;
    seat.submit(&[text], served.info.task.input.on_overflow, move |found| drop(told.send(found))).ok()?;
    served.kinds.as_ref()?.vector(&embedded.recv().ok()?.ok()?.values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn so_many_are_looked_at_at_once_and_ten_a_second_from_then_on() {
        let mut pace = Pace { random: Random::new(3), left: BTreeMap::new() };
        let begun = Instant::now();
        let mut draws = |task: &str, share: f64, requests: usize, second: u64| {
            let now = begun + Duration::from_secs(second);
            (0..requests).filter(|_| pace.draws(task, share, now)).count()
        };
        assert_eq!(draws("desk", 1.0, 5_000, 0), 2_000);
        assert_eq!((draws("desk", 1.0, 5_000, 3), draws("desk", 1.0, 5_000, 3)), (30, 0));
        assert_eq!(draws("other", 0.0, 5_000, 3), 0, "nothing is drawn at a share of zero");
        assert!((400..600).contains(&draws("other", 0.5, 1_000, 3)));
        assert_eq!(draws("desk", 1.0, 5_000, 100_000), 2_000, "no more is made up for");
    }
}
