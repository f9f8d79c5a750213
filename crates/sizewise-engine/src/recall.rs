//! Was this asked before?
//!
//! What a larger model said of an input is remembered for as long as the task allows, in memory alone, for the caller whose key asked and
//! for the release that was in force. Callers who ask the same at the same time wait for one answer.

mod similar;

pub(crate) use similar::Rule;
pub use similar::{LabelledText, Similarity};

use crate::served::Served;
use similar::Memory;
use sizewise_contract::ContentHash;
use sizewise_models::neighbours::UnitVector;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Most answers that are remembered; the oldest go first.
const MOST: usize = 50_000;

/// From so many locks on those that nobody holds are looked for.
const UNDER_WAY: usize = 1_024;

/// Answers of a larger model to one task.
#[derive(Debug)]
pub struct Recall {
    lifetime: Duration,
    state: Mutex<State>,
    /// The same by what texts are like, where that is wanted.
    similar: Option<Mutex<Memory>>,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<ContentHash, (Instant, Remembered)>,
    /// In the order in which they came.
    order: VecDeque<(Instant, ContentHash)>,
    under_way: HashMap<ContentHash, Arc<tokio::sync::Mutex<()>>>,
}

/// What a larger model said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) provider: String,
    pub(crate) model: String,
}

impl Recall {
    /// Nothing yet; what comes is remembered for so long.
    #[must_use]
    pub fn new(lifetime: Duration) -> Self {
        Self { lifetime, state: Mutex::default(), similar: None }
    }

    /// The same, with answers given to texts that are much alike as well.
    #[must_use]
    pub fn with_similar(self, wanted: bool) -> Self {
        Self { similar: wanted.then(Mutex::default), ..self }
    }

    /// What is compared of a text, and how alike another must be; none where nothing may be given again to these questions.
    pub(crate) async fn likeness(
        &self,
        served: &Served,
        names: &[String],
        text: &str,
    ) -> Option<(UnitVector, f64)> {
        self.similar.as_ref()?;
        let places = names.iter().filter_map(|name| served.info.task.question(name)).map(|(place, _)| place);
        let least = served.similar.get()?.of(places)?;
        Some((similar::vector(served, text).await?, least))
    }

    /// What was said of a text much like one.
    pub(crate) fn similar(
        &self,
        owner: &ContentHash,
        names: &[String],
        (vector, least): &(UnitVector, f64),
    ) -> Option<Remembered> {
        let memory = self.similar.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        memory.nearest((owner, names), (vector, *least), self.lifetime)
    }

    /// Remembers what was said by what its text is like.
    pub(crate) fn keep_similar(&self, owner: ContentHash, vector: UnitVector, said: Remembered) {
        if let Some(memory) = &self.similar {
            memory.lock().unwrap_or_else(PoisonError::into_inner).keep(owner, vector, said, self.lifetime);
        }
    }

    /// Whose answers they are: one caller's, to one release.
    pub(crate) fn owner(caller: Option<&str>, release: ContentHash) -> ContentHash {
        let mut hash = ContentHash::builder();
        hash.field(caller.unwrap_or_default().as_bytes());
        hash.field(release.as_bytes());
        hash.finish()
    }

    /// What names a question: who asks, which release, which questions, which text.
    pub(crate) fn key(
        caller: Option<&str>,
        release: ContentHash,
        questions: &[String],
        text: &str,
    ) -> ContentHash {
        let mut hash = ContentHash::builder();
        hash.field(caller.unwrap_or_default().as_bytes());
        hash.field(release.as_bytes());
        hash.field(&(questions.len() as u64).to_le_bytes());
        for question in questions {
            hash.field(question.as_bytes());
        }
        hash.field(text.as_bytes());
        hash.finish()
    }

    /// What was said, where it is remembered.
    pub(crate) fn get(&self, key: &ContentHash) -> Option<Remembered> {
        let mut state = self.state();
        let (since, remembered) = state.known.get(key)?;
        if since.elapsed() < self.lifetime {
            return Some(remembered.clone());
        }
        state.known.remove(key);
        None
    }

    /// Remembers what was said.
    pub(crate) fn put(&self, key: ContentHash, remembered: Remembered) {
        let mut state = self.state();
        let now = Instant::now();
        state.known.insert(key, (now, remembered));
        state.order.push_back((now, key));
        while state.order.len() > MOST
            || state.order.front().is_some_and(|(since, _)| since.elapsed() >= self.lifetime)
        {
            let Some((since, oldest)) = state.order.pop_front() else { break };
            // It may have been said anew since.
            if state.known.get(&oldest).is_some_and(|(known, _)| *known == since) {
                state.known.remove(&oldest);
            }
        }
    }

    /// Waits until nobody else asks the same.
    pub(crate) async fn turn(&self, key: ContentHash) -> Turn<'_> {
        let lock = {
            let mut state = self.state();
            // Callers who left while they waited leave locks behind that nobody holds.
            if state.under_way.len() >= UNDER_WAY {
                state.under_way.retain(|_, lock| Arc::strong_count(lock) > 1);
            }
            Arc::clone(state.under_way.entry(key).or_default())
        };
        let guard = Arc::clone(&lock).lock_owned().await;
        Turn { recall: self, key, lock, _guard: guard }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn of one caller.
pub(crate) struct Turn<'a> {
    recall: &'a Recall,
    key: ContentHash,
    lock: Arc<tokio::sync::Mutex<()>>,
    _guard: tokio::sync::OwnedMutexGuard<()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.recall.state();
        // This turn's two, and the one in the table: nobody else waits.
        if Arc::strong_count(&self.lock) <= 3 {
            state.under_way.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    fn said(label: &str) -> Remembered {
        let labels = BTreeMap::from([("team".to_owned(), label.to_owned())]);
        Remembered { labels, provider: "primary".into(), model: "m".into() }
    }

    #[test]
    fn only_the_same_caller_release_questions_and_text_are_the_same() {
        let release = ContentHash::of(b"release");
        let names = ["team".to_owned()];
        let key = Recall::key(Some("k1"), release, &names, "where is it");
        for other in [
            Recall::key(None, release, &names, "where is it"),
            Recall::key(Some("k2"), release, &names, "where is it"),
            Recall::key(Some("k1"), ContentHash::of(b"next"), &names, "where is it"),
            Recall::key(Some("k1"), release, &["team".into(), "urgent".into()], "where is it"),
            Recall::key(Some("k1"), release, &[], "teamwhere is it"),
            Recall::key(Some("k1"), release, &names, "where is it?"),
        ] {
            assert_ne!(key, other);
        }
        assert_eq!(key, Recall::key(Some("k1"), release, &names, "where is it"));
    }

    #[test]
    fn what_is_old_or_too_much_is_forgotten() {
        let key = |number: usize| ContentHash::of(&number.to_le_bytes());
        let short = Recall::new(Duration::ZERO);
        short.put(key(0), said("billing"));
        assert_eq!(short.get(&key(0)), None);
        assert_eq!(short.state().known.len(), 0);
        let long = Recall::new(Duration::from_secs(60));
        (0..MOST + 10).for_each(|number| long.put(key(number), said("billing")));
        assert_eq!((long.get(&key(9)), long.get(&key(10))), (None, Some(said("billing"))));
        let state = long.state();
        assert_eq!((state.known.len(), state.order.len()), (MOST, MOST));
    }

    #[tokio::test]
    async fn turns_come_one_after_the_other_and_leave_nothing_behind() {
        let recall = Arc::new(Recall::new(Duration::from_secs(60)));
        let key = ContentHash::of(b"same");
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let callers: Vec<_> = (0..20)
            .map(|_| {
                let (recall, asked) = (Arc::clone(&recall), Arc::clone(&asked));
                tokio::spawn(async move {
                    let _turn = recall.turn(key).await;
                    if recall.get(&key).is_none() {
                        asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        recall.put(key, said("billing"));
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert!(recall.state().under_way.is_empty());
    }
}
