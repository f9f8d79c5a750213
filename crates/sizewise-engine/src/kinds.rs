//! Is this input of a kind that the release does not know?
//!
//! ```text
//!   some decisions, by chance ─► looks ─► watch ─► a kind is proposed ─► fence ─► inputs within it are handed on
//! ```
//!
//! A fence has two borders: what the static tier would answer and lies within the one in its space is read by the encoder, and what lies
//! within the encoder's is answered by nobody here, until a person dismisses the kind or a release knows it. Vectors of single inputs stay in
//! memory. What outlives a restart is the middle of a kind, where the task keeps anything at all.

mod looks;

pub(crate) use looks::{Drawn, Looks};

use crate::{error::Error, served::TaskInfo};
use sizewise_contract::{ContentHash, KindState, NewKind};
use sizewise_measure::kinds::{Border, Cluster, Known, KnownParts, WINDOW, Watch, middle};
use sizewise_models::{
    known_inputs::KnownInputs,
    package::{self, TaskModels},
};
use sizewise_store::{Middle, Store};
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Share of known inputs that the encoder's border may hand on, and that the static tier's may send to the encoder.
const LOST: f64 = 0.1;
const SENT: f64 = 0.2;
/// Looks after which borders are drawn anew.
const PACE: u64 = 50;
/// Decisions that are kept as typical of a kind.
const TYPICAL: usize = 200;
/// Kinds of a task that are heeded; the latest.
const KINDS: usize = 64;
/// A release knows a kind where a class of it lies at less than this part of the distance of before, in squares.
const NEARER: f64 = 0.5;

/// What is known of a release's inputs, and the new kinds that were found beside them.
#[derive(Debug)]
pub(crate) struct Kinds {
    encoder: Known,
    fixed: Known,
    /// The encoder, as vectors of another one mean nothing here.
    space: ContentHash,
    fences: RwLock<Arc<[Fence]>>,
    state: Mutex<State>,
    looked: AtomicU64,
    dropped: AtomicU64,
}

/// Where one kind ends.
#[derive(Debug, Clone)]
pub(crate) struct Fence {
    id: i64,
    encoder: Border,
    fixed: Border,
}

#[derive(Debug, Default)]
struct State {
    watch: Watch,
    /// The store's name for each cluster of the watch, and what became of it.
    found: Vec<(i64, KindState)>,
    /// What was looked at lately.
    recent: VecDeque<Recent>,
    next: u64,
}

#[derive(Debug)]
struct Recent {
    number: u64,
    decision: String,
    fixed: Vec<f32>,
}

/// An input that was looked at.
pub(crate) struct Seen {
    pub(crate) decision: String,
    /// By the encoder's last layer, of unit length.
    pub(crate) vector: Vec<f32>,
    /// By the static embeddings.
    pub(crate) fixed: Vec<f32>,
    /// Whether anything of it may be kept.
    pub(crate) kept: bool,
}

/// What the looks at a task's requests came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LookCounts {
    /// Requests that were looked at since the release was loaded.
    pub looked: u64,
    /// Requests that were drawn and passed over, as too much waited.
    pub dropped: u64,
    /// Kinds that are proposed now.
    pub proposed: u64,
}

impl Kinds {
    /// Takes what a release has for it out of its models; none where it has nothing that a new kind could be told by.
    pub(crate) fn of(models: &mut TaskModels) -> Option<Self> {
        let package::Known { encoder, fixed } = models.known.take()?;
        Some(Self {
            encoder: known(encoder)?,
            fixed: known(fixed)?,
            space: models.encoder?,
            fences: RwLock::new(Arc::from([])),
            state: Mutex::default(),
            looked: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        })
    }

    /// Where kinds end now.
    pub(crate) fn fences(&self) -> Arc<[Fence]> {
        Arc::clone(&self.fences.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the encoder has to read what the static tier would answer.
    pub(crate) fn is_near(&self, fences: &[Fence], fixed: &[f32]) -> bool {
        self.fixed.within_any(fences.iter().map(|fence| &fence.fixed), fixed)
    }

    /// The vector by which inputs are compared, of unit length; none where the encoder is another one.
    pub(crate) fn vector(&self, embedding: &[f32]) -> Option<Vec<f32>> {
        let part = embedding.get(..self.encoder.width())?;
        let length = part.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-9);
        Some(part.iter().map(|value| value / length).collect())
    }

    /// Whether an input is of a kind that is proposed.
    pub(crate) fn is_new(&self, fences: &[Fence], vector: &[f32]) -> bool {
        self.encoder.within_any(fences.iter().map(|fence| &fence.encoder), vector)
    }

    /// What the looks came to.
    pub(crate) fn counts(&self) -> LookCounts {
        LookCounts {
            looked: self.looked.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            proposed: self.fences().len() as u64,
        }
    }

    /// Counts a request that was drawn and passed over.
    fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets every single input.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        state.watch.forget();
        state.recent.clear();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Heeds what the store has of a task's kinds: what was proposed before, by whom ever, and what people said since. With `settles`, kinds
    /// that this release knows or cannot tell are closed.
    pub(crate) fn heed(&self, store: &Store, info: &TaskInfo, settles: bool) -> Result<(), Error> {
        let mut state = self.state();
        let mut fences: Vec<Fence> = Vec::new();
        let before = self.fences();
        for kept in store.kinds(&info.task.name, KINDS)?.into_iter().rev() {
            let kind = kept.kind;
            if !matches!(kind.state, KindState::Proposed | KindState::Dismissed) {
                continue;
            }
            let place = state.found.iter().position(|(id, _)| *id == kind.id);
            if let Some(slot) = place.and_then(|place| state.found.get_mut(place)) {
                slot.1 = kind.state;
            } else {
                let middle = kept.middle.filter(|middle| self.can_tell(middle));
                let is_proposed = kind.state == KindState::Proposed;
                let problem = match &middle {
                    None => {
                        Some((KindState::Lost, "what it looks like was not kept, or is of another encoder"))
                    }
                    Some(middle) if is_proposed && self.knows(middle, &kind, info) => {
                        Some((KindState::Known, "a release has a class where it lies"))
                    }
                    Some(_) => None,
                };
                if let Some((became, why)) = problem {
                    if settles && is_proposed {
                        store.settle_kind(&info.task.name, kind.id, became, why)?;
                    }
                    continue;
                }
                let Some(middle) = middle else { continue };
                state.watch.resume(&self.encoder, &middle.encoder, middle.rows, kind.share);
                state.found.push((kind.id, kind.state));
                if is_proposed {
                    fences.push(self.fence(kind.id, &middle));
                }
                continue;
            }
            if kind.state == KindState::Proposed
                && let Some(fence) = before.iter().find(|fence| fence.id == kind.id)
            {
                fences.push(fence.clone());
            }
        }
        self.put_up(fences);
        Ok(())
    }

    /// Whether inputs can be compared with a middle.
    fn can_tell(&self, middle: &Middle) -> bool {
        middle.space == self.space
            && middle.encoder.len() == self.encoder.width()
            && middle.fixed.len() == self.fixed.width()
            && middle.encoder.iter().chain(&middle.fixed).all(|value| value.is_finite())
            && middle.rows >= 1.0
    }

    /// Whether a class of this release lies where a kind that an earlier one did not know has its middle.
    fn knows(&self, middle: &Middle, kind: &NewKind, info: &TaskInfo) -> bool {
        let distance = self.encoder.distance(&middle.encoder);
        kind.release != info.release && distance.is_some_and(|now| now < NEARER * middle.distance)
    }

    fn fence(&self, id: i64, middle: &Middle) -> Fence {
        Fence {
            id,
            encoder: self.encoder.border_around(&middle.encoder, middle.rows, LOST),
            fixed: self.fixed.border_around(&middle.fixed, middle.rows, SENT),
        }
    }

    fn put_up(&self, fences: Vec<Fence>) {
        *self.fences.write().unwrap_or_else(PoisonError::into_inner) = fences.into();
    }

    /// Looks at an input; hands out the kind that is proposed because of it.
    fn look(&self, store: &Store, info: &TaskInfo, seen: Seen) -> Result<Option<NewKind>, Error> {
        self.looked.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        let is_found = state.watch.look(&self.encoder, number, &seen.vector);
        if state.watch.latest() == Some(number) {
            state.recent.push_back(Recent { number, decision: seen.decision, fixed: seen.fixed });
            if state.recent.len() > WINDOW {
                state.recent.pop_front();
            }
        }
        let mut new = None;
        if is_found && let Some(cluster) = state.watch.clusters().last() {
            let mut kind = NewKind {
                id: 0,
                task: info.task.name.clone(),
                release: info.release,
                at: crate::settle::now(),
                state: KindState::Proposed,
                looks: cluster.looks,
                share: cluster.share,
                known_share: cluster.known_share,
            };
            let (middle, members) = self.kept(&state, cluster, seen.kept);
            // Heeded even where it cannot be written down: its inputs are answered wrongly meanwhile.
            let put_down = store.propose_kind(&kind, middle.as_ref(), &members);
            kind.id = put_down.as_ref().copied().unwrap_or(0);
            state.found.push((kind.id, KindState::Proposed));
            self.draw_borders(&state);
            put_down?;
            new = Some(kind);
        } else if state.watch.looks().is_multiple_of(PACE) {
            self.draw_borders(&state);
            for (cluster, (id, became)) in state.watch.clusters().iter().zip(&state.found) {
                if *became == KindState::Proposed && !cluster.members.is_empty() {
                    let (middle, members) = self.kept(&state, cluster, seen.kept);
                    store.refresh_kind(*id, cluster.share, middle.as_ref(), &members)?;
                }
            }
        }
        Ok(new)
    }

    /// Draws the borders of what is proposed around what came lately; those of kinds of which nothing came stay.
    fn draw_borders(&self, state: &State) {
        let before = self.fences();
        let mut fences = Vec::new();
        for (cluster, (id, became)) in state.watch.clusters().iter().zip(&state.found) {
            if *became != KindState::Proposed {
                continue;
            }
            match self.middle(state, cluster) {
                Some(middle) => {
                    let encoder = self.encoder.border_near(&state.watch.vectors(cluster), LOST);
                    fences.push(Fence { encoder, ..self.fence(*id, &middle) });
                }
                None => fences.extend(before.iter().find(|fence| fence.id == *id).cloned()),
            }
        }
        self.put_up(fences);
    }

    /// The middle of what came lately of a kind; none where nothing did.
    fn middle(&self, state: &State, cluster: &Cluster) -> Option<Middle> {
        let (encoder, rows) = middle(&state.watch.vectors(cluster), self.encoder.width());
        let of: HashMap<u64, &Recent> = state.recent.iter().map(|recent| (recent.number, recent)).collect();
        let members = cluster.members.iter().filter_map(|number| of.get(number));
        let own: Vec<f32> = members.flat_map(|recent| recent.fixed.iter().copied()).collect();
        let (fixed, _) = middle(&own, self.fixed.width());
        let distance = self.encoder.distance(&encoder)?;
        (rows > 0.0).then_some(Middle { space: self.space, encoder, fixed, rows, distance })
    }

    /// What the store gets of a kind.
    fn kept(&self, state: &State, cluster: &Cluster, kept: bool) -> (Option<Middle>, Vec<String>) {
        if !kept {
            return (None, Vec::new());
        }
        let of: HashMap<u64, &Recent> = state.recent.iter().map(|recent| (recent.number, recent)).collect();
        let members = cluster.members.iter().filter_map(|number| of.get(number));
        let typical = members.take(TYPICAL).map(|recent| recent.decision.clone()).collect();
        (self.middle(state, cluster), typical)
    }
}

fn known(inputs: KnownInputs) -> Option<Known> {
    let KnownInputs { width, precision, directions, offsets, references } = inputs;
    Known::of_parts(KnownParts { width, precision, directions, offsets, references })
}
