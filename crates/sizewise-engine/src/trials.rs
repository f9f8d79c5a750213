//! Which release answers a request while another one is tried?
//!
//! The trial of a task stands beside what is served and changes nothing about it: a canary takes whole requests, a shadow gets a copy of
//! those that were answered. Each goes with the one release in force that it was loaded beside, so that neither a switch nor the end of
//! a trial can mix two releases: a request looks once, and whoever it found answers all of it.

use crate::{
    Settings,
    catalogue::Catalogue,
    error::Error,
    live::{Live, Standing},
    request::Request,
    served::{Served, TaskInfo},
    shadow::{Shadow, Tally, Work},
};
use sizewise_contract::{
    ContentHash, Decision, PromiseChange, PromiseState, Trial, TrialMode, trial::noticed,
};
use sizewise_measure::random::Random;
use sizewise_store::Store;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

/// A trial that this engine takes part in.
#[derive(Debug, Clone)]
pub struct TrialStanding {
    /// The trial.
    pub trial: Trial,
    /// Its release.
    pub info: TaskInfo,
    /// How the promises of a canary stand; nothing of a shadow, which promises nobody anything.
    pub standings: Vec<Standing>,
    /// Inputs counted since the engine started, those that a shadow could not keep up with, and those that the release failed at.
    pub counted: [u64; 3],
}

/// A trial that its live evidence has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedTrial {
    /// The trial.
    pub trial: Trial,
    /// Why it ended.
    pub because: String,
}

/// The trials of all tasks.
#[derive(Debug)]
pub(crate) struct Trials {
    running: RwLock<Arc<BTreeMap<String, Arc<Running>>>>,
    random: Mutex<Random>,
    /// How the promises of canaries stand.
    live: Live,
    shadow: Shadow,
    ended: Mutex<Vec<EndedTrial>>,
}

/// One trial with its models in memory.
#[derive(Debug)]
pub(crate) struct Running {
    trial: Trial,
    pub(crate) served: Arc<Served>,
    /// The release in force that it goes with.
    beside: ContentHash,
    pub(crate) tally: Arc<Tally>,
}

/// What a request has to do with a trial.
#[derive(Debug)]
pub(crate) struct Part {
    running: Arc<Running>,
    role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The canary answers it.
    Canary,
    /// The release in force answers it, and is counted beside the canary.
    Beside,
    /// The release in force answers it, and the shadow judges it afterwards.
    Shadowed,
}

impl Trials {
    pub(crate) fn start(store: &Arc<Store>) -> Result<Self, Error> {
        Ok(Self {
            running: RwLock::default(),
            random: Mutex::new(Random::new(sizewise_store::random_bits()?)),
            live: Live::default(),
            shadow: Shadow::start(Arc::clone(store))?,
            ended: Mutex::default(),
        })
    }

    /// Takes up the trials that are under way, of one task or of all that are served. Returns what could not be loaded.
    pub(crate) fn refresh(
        &self,
        (store, catalogue, settings): (&Store, &Catalogue, Settings),
        served: &BTreeMap<String, Arc<Served>>,
        only: Option<&str>,
    ) -> Vec<(String, Error)> {
        let before = self.running();
        let mut after = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, live) in served {
            let old = before.get(name);
            if only.is_some_and(|only| only != name) {
                after.extend(old.map(|old| (name.clone(), Arc::clone(old))));
                continue;
            }
            match self.load((store, catalogue, settings), live, old) {
                Ok(found) => after.extend(found.map(|found| (name.clone(), found))),
                Err(error) => problems.push((name.clone(), error)),
            }
        }
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(after);
        problems
    }

    fn load(
        &self,
        (store, catalogue, settings): (&Store, &Catalogue, Settings),
        live: &Arc<Served>,
        old: Option<&Arc<Running>>,
    ) -> Result<Option<Arc<Running>>, Error> {
        let Some(trial) = store.trial(&live.info.task.name)? else { return Ok(None) };
        let beside = live.info.release;
        // Put in force just now; what ended it is about to be read.
        if trial.release == beside {
            return Ok(None);
        }
        let release = store.release(&trial.task, &trial.release.to_string())?;
        let known = old.map(|old| &old.served);
        let served = Served::of(store, release, catalogue, (settings, known))?;
        if let Some(old) = old
            && old.trial == trial
            && old.beside == beside
            && Arc::ptr_eq(&old.served, &served)
        {
            return Ok(Some(Arc::clone(old)));
        }
        if trial.mode == TrialMode::Canary
            && let Some(problem) = noticed(&live.info.task, &served.info.task)
        {
            return Err(Error::Release { release: trial.release, problem });
        }
        let tally = self.shadow.tally(trial.number, beside);
        Ok(Some(Arc::new(Running { trial, served, beside, tally })))
    }

    /// What a request to a release in force has to do with a trial beside it.
    pub(crate) fn part(&self, live: &Served, request: &Request) -> Option<Part> {
        if request.dry_run {
            return None;
        }
        let running = self.running().get(&request.task).map(Arc::clone)?;
        if running.beside != live.info.release {
            return None;
        }
        let drawn = match (&request.subject, running.trial.mode) {
            // The same subject is answered by the same release as long as the trial lasts.
            (Some(subject), TrialMode::Canary) => place_of(subject, running.trial.salt),
            _ => self.random.lock().unwrap_or_else(PoisonError::into_inner).uniform(),
        };
        let role = match (running.trial.mode, drawn < running.trial.share) {
            (TrialMode::Canary, true) => Role::Canary,
            (TrialMode::Canary, false) => Role::Beside,
            (TrialMode::Shadow, true) => Role::Shadowed,
            (TrialMode::Shadow, false) => return None,
        };
        Some(Part { running, role })
    }

    /// Counts what was decided, and hands a copy of it to the shadow. Takes the inputs, which nobody needs any more.
    pub(crate) fn follow(&self, part: Part, request: &mut Request, decisions: &[Decision]) {
        let Part { running, role } = part;
        match role {
            Role::Canary | Role::Beside => running.tally.count(decisions, role == Role::Canary),
            Role::Shadowed => self.shadow.judge(Work::new(running, request, decisions)),
        }
    }

    /// Reads what was told of canaries since the last time. One whose promise is in doubt or broken ends at once.
    pub(crate) fn read(&self, store: &Store) -> Result<Vec<PromiseChange>, Error> {
        let running = self.running();
        let canaries = || running.values().filter(|one| one.trial.mode == TrialMode::Canary);
        let changes = self.live.read(store, canaries().map(|one| &one.served))?;
        for one in canaries() {
            let standings = self.live.standings(store, &one.trial.task)?;
            let Some(because) = standings.iter().find_map(weakened) else { continue };
            // Whatever the store says, nobody is answered by it any more.
            self.drop_running(one);
            if store.end_this_trial(&one.trial, &because)? {
                let ended = EndedTrial { trial: one.trial.clone(), because };
                self.ended.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
            }
        }
        Ok(changes)
    }

    fn drop_running(&self, gone: &Running) {
        let mut running = self.running.write().unwrap_or_else(PoisonError::into_inner);
        let mut after = BTreeMap::clone(&running);
        after.retain(|_, one| one.trial.number != gone.trial.number);
        *running = Arc::new(after);
    }

    /// The trials that evidence has ended since the last time somebody asked.
    pub(crate) fn ended(&self) -> Vec<EndedTrial> {
        std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn standings(&self, store: &Store) -> Result<Vec<TrialStanding>, Error> {
        let standing = |one: &Arc<Running>| {
            Ok(TrialStanding {
                trial: one.trial.clone(),
                info: one.served.info.clone(),
                standings: match one.trial.mode {
                    TrialMode::Canary => self.live.standings(store, &one.trial.task)?,
                    TrialMode::Shadow => Vec::new(),
                },
                counted: one.tally.seen(),
            })
        };
        self.running().values().map(standing).collect()
    }

    fn running(&self) -> Arc<BTreeMap<String, Arc<Running>>> {
        Arc::clone(&self.running.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Part {
    /// The canary, where it is the one that answers.
    pub(crate) fn canary(&self) -> Option<&Arc<Served>> {
        (self.role == Role::Canary).then_some(&self.running.served)
    }

    /// The canary failed, and the release in force answers in its place.
    pub(crate) fn hand_back(&mut self, inputs: usize) {
        self.role = Role::Beside;
        self.running.tally.fail(inputs);
    }
}

/// What speaks against a canary, in one sentence; none where its promise is kept everywhere.
fn weakened(standing: &Standing) -> Option<String> {
    let told = |state: PromiseState| state.name().replace('_', " ");
    if standing.state != PromiseState::Kept {
        return Some(format!("its promise about `{}` is {}", standing.question, told(standing.state)));
    }
    let group = standing.groups.iter().find(|group| group.state != PromiseState::Kept)?;
    Some(format!("its promise about `{}` is {} in {}", standing.question, told(group.state), group.group))
}

/// Where a subject stands between 0 and 1: anywhere, and always there.
fn place_of(subject: &str, salt: i64) -> f64 {
    let mut builder = ContentHash::builder();
    builder.field(&salt.to_le_bytes());
    builder.field(subject.as_bytes());
    let hash = builder.finish();
    let first = hash.as_bytes().iter().take(8).fold(0u64, |bits, byte| (bits << 8) | u64::from(*byte));
    (first >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_spread_evenly_and_stay_where_they_are() {
        let places: Vec<f64> = (0..20_000).map(|n| place_of(&format!("customer-{n}"), 7)).collect();
        for share in [0.01, 0.1, 0.5] {
            let within = places.iter().filter(|place| **place < share).count() as f64 / 20_000.0;
            assert!((within - share).abs() < 0.012, "{share}: {within}");
        }
        assert_eq!(place_of("customer-3", 7).to_bits(), places.get(3).map_or(0, |place| place.to_bits()));
        assert_ne!(place_of("customer-3", 8).to_bits(), place_of("customer-3", 7).to_bits());
    }
}
