//! How does one request become a decision?
//!
//! ```text
//!   request ─► admit ─► cascade ─► escalate ─► settle ─► decision
//!              inputs,  static,    larger      protect, record,
//!              questions encoder   model,      queue, probe
//!              limits              person         │
//!                ▲                                ▼
//!                └───────── live ◄──── what people and larger models say of probes
//! ```
//!
//! [`Engine::decide`] is that flow, one line a step, and each step is a module of that name. Nothing here is
//! special to one task, one protocol or one provider: the application turns wire formats into [`Request`]s.

mod admit;
mod cascade;
mod catalogue;
mod error;
mod escalate;
mod feedback;
mod ledger;
mod live;
mod probe;
mod protect;
mod purses;
mod recall;
mod request;
mod served;
mod settle;

pub use error::Error;
pub use escalate::Escalation;
pub use feedback::Feedback;
pub use ledger::{Ledger, Ledgers};
pub use live::{GroupStanding, Standing, standings};
pub use protect::{
    Finding, FoundBy, PersonalData, Redacted, can_redact, find as find_personal_data,
    find_quickly as find_personal_data_quickly, redact, redact_by_rules, redact_quickly, redacted,
};
pub use purses::{Purse, Purses};
pub use recall::Recall;
pub use request::{InputValue, QuestionRef, Request};
pub use served::{ENCODER_PARTS, TaskInfo, encoder_files};

use admit::Admitted;
use catalogue::Catalogue;
use probe::Drawer;
use served::Served;
use settle::{Draws, Settled};
use sizewise_contract::{
    Decision, PromiseChange, did_you_mean,
    task::{Live as LiveRules, StoreInput},
};
use sizewise_models::{neighbours::Neighbour, remote::ProviderState};
use sizewise_store::{Entry, QueueDepth, Recorder, Store};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Instant,
};

/// How an engine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Questions without a certificate are answered too, and every such answer says so.
    pub allow_uncertified: bool,
    /// Threads that run the encoder.
    pub encoder_workers: usize,
    /// Whether decisions leave records; without, nothing is written and nothing is queued.
    pub record: bool,
}

type Tasks = BTreeMap<String, Arc<Served>>;

/// Serves tasks: holds their releases in memory and decides requests.
#[derive(Debug)]
pub struct Engine {
    store: Arc<Store>,
    settings: Settings,
    catalogue: Catalogue,
    tasks: RwLock<Arc<Tasks>>,
    /// One at a time may load tasks.
    loading: Mutex<()>,
    recorder: Option<Arc<Recorder>>,
    /// How promises stand.
    live: live::Live,
    drawer: Drawer,
    /// How promises are watched, by task.
    watching: RwLock<BTreeMap<String, LiveRules>>,
    /// By task.
    escalations: RwLock<Arc<BTreeMap<String, Arc<Escalation>>>>,
    /// By task.
    keeping: RwLock<BTreeMap<String, StoreInput>>,
}

impl Engine {
    /// Starts an engine that serves no task yet; [`Self::load`] loads them.
    ///
    /// # Errors
    /// Fails when the store cannot be written.
    pub fn start(store: Arc<Store>, settings: Settings) -> Result<Self, Error> {
        if !protect::can_redact() {
            return Err(Error::Internal("the rules that find personal data can be read"));
        }
        let recorder = if settings.record { Some(Arc::new(Recorder::start(store.folder())?)) } else { None };
        let drawer = Drawer::new(sizewise_store::random_bits()?);
        Ok(Self {
            catalogue: Catalogue::new(settings.encoder_workers)?,
            tasks: RwLock::default(),
            loading: Mutex::default(),
            store,
            settings,
            recorder,
            escalations: RwLock::default(),
            keeping: RwLock::default(),
            live: live::Live::default(),
            drawer,
            watching: RwLock::default(),
        })
    }

    /// Serves the releases in force of these tasks, and no others. A task whose release did not change stays as it is; one
    /// whose release cannot be loaded keeps its old one. Requests under way finish with the release they began with.
    ///
    /// Returns what could not be loaded, by task.
    pub fn load(&self, names: &[String]) -> Vec<(String, Error)> {
        let _one = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.served();
        let mut after = Tasks::new();
        let mut problems = Vec::new();
        for name in names {
            let old = before.get(name);
            match Served::load(&self.store, name, &self.catalogue, (self.settings, old)) {
                Ok(served) => drop(after.insert(name.clone(), served)),
                Err(error) => {
                    after.extend(old.map(|old| (name.clone(), Arc::clone(old))));
                    problems.push((name.clone(), error));
                }
            }
        }
        *self.tasks.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(after);
        problems
    }

    /// Serves the release of one task that is in force now, if the task is served; the others stay as they are.
    ///
    /// # Errors
    /// Fails when the release cannot be loaded; the old one is then served on.
    pub fn take_up(&self, name: &str) -> Result<(), Error> {
        let _one = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.served();
        let Some(old) = before.get(name) else { return Ok(()) };
        let served = Served::load(&self.store, name, &self.catalogue, (self.settings, Some(old)))?;
        let mut after = Tasks::clone(&before);
        after.insert(name.to_owned(), served);
        *self.tasks.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(after);
        Ok(())
    }

    /// From now on hands what no local tier may answer to these larger models, by task. Requests under way finish with those they
    /// began with.
    pub fn escalate_to(&self, escalations: BTreeMap<String, Escalation>) {
        let escalations = escalations.into_iter().map(|(name, one)| (name, Arc::new(one))).collect();
        *self.escalations.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(escalations);
    }

    /// From now on keeps this much of inputs, by task; of a task that is not named, what the contract of its release says.
    pub fn keep(&self, rules: BTreeMap<String, StoreInput>) {
        *self.keeping.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// From now on watches promises so, by task; of a task that is not named, as the contract of its release says.
    pub fn watch_by(&self, rules: BTreeMap<String, LiveRules>) {
        *self.watching.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// Reads what references said since the last time. What follows for the promises holds from now on, and is handed out.
    ///
    /// # Errors
    /// Fails when the store cannot be read or written; promises then stand as they did.
    pub fn read_evidence(&self) -> Result<Vec<PromiseChange>, Error> {
        self.live.read(&self.store, self.served().values())
    }

    /// How the promises of a task stand: an entry for each question that has a certificate.
    ///
    /// # Errors
    /// Fails when no task of that name is served or the store cannot be read.
    pub fn standings(&self, task: &str) -> Result<Vec<Standing>, Error> {
        self.find(task)?;
        self.live.standings(&self.store, task)
    }

    /// What changed about a task's promises, oldest first, at most a thousand of the latest.
    ///
    /// # Errors
    /// Fails when the store cannot be read.
    pub fn promise_changes(&self, task: &str) -> Result<Vec<PromiseChange>, Error> {
        Ok(self.store.promise_changes(task, 1_000)?)
    }

    /// How promises of a task are watched.
    ///
    /// # Errors
    /// Fails when no task of that name is served.
    pub fn watching(&self, task: &str) -> Result<LiveRules, Error> {
        let served = self.find(task)?;
        Ok(self.rules(&served))
    }

    /// Decides every input of a request.
    ///
    /// # Errors
    /// Fails as a whole when the task, a question or one of the inputs cannot be read: nothing is then recorded.
    pub async fn decide(&self, request: Request) -> Result<Vec<Decision>, Error> {
        let begun = Instant::now();
        let served = self.find(&request.task)?;
        let admitted = admit::admit(&served, &request, (self.kept(&served), &served.limits()))?;
        let judged = cascade::run(&served, &admitted).await?;
        let larger = self.larger(&request.task);
        let asked = (larger.as_deref(), &request);
        let answers = escalate::escalate(&served, &admitted, judged, asked, begun).await;
        let rules = self.rules(&served);
        let possible = probe::can_be_asked(rules.reference, admitted.keep, larger.as_deref());
        let draws = Draws { drawer: &self.drawer, rules: &rules, possible };
        let recorder = self.recorder.as_deref();
        let settled =
            settle::settle(recorder, &served, (&admitted, answers), (&request, begun, &draws)).await?;
        if let Some(larger) = larger.filter(|_| !settled.to_ask.is_empty()) {
            self.ask_reference(larger, &served, (request, admitted), &settled);
        }
        Ok(settled.decisions)
    }

    /// Asks the larger model about probes, behind the caller's back and at the task's expense.
    fn ask_reference(
        &self,
        larger: Arc<Escalation>,
        served: &Arc<Served>,
        (request, admitted): (Request, Admitted),
        settled: &Settled,
    ) {
        let Some(recorder) = self.recorder.clone() else { return };
        let request = Arc::new(Request { inputs: Vec::new(), purses: Vec::new(), ..request });
        for position in &settled.to_ask {
            let (Some(decision), Some(text)) =
                (settled.decisions.get(*position), admitted.texts.get(*position))
            else {
                continue;
            };
            let covered = decision.answers.iter().filter(|answer| probe::covers(served, answer));
            let answers: Vec<_> = covered.cloned().collect();
            let admitted = Admitted { texts: vec![text.clone()], ..admitted.clone() };
            let (id, served, larger, request, recorder) = (
                decision.id.clone(),
                Arc::clone(served),
                Arc::clone(&larger),
                Arc::clone(&request),
                Arc::clone(&recorder),
            );
            tokio::spawn(async move {
                let told = probe::ask_larger((&larger, &request), &served, admitted, answers).await;
                let told = told.into_iter().map(|(question, truth)| (id.clone(), question, truth)).collect();
                // Where it cannot be written, the probe stays one whose truth is not known.
                let _ = recorder.keep(vec![Entry { told, ..Entry::default() }], |_| {});
            });
        }
    }

    /// The tasks that are served, by name.
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskInfo> {
        self.served().values().map(|served| served.info.clone()).collect()
    }

    /// One task that is served.
    ///
    /// # Errors
    /// Fails when no task of that name is served.
    pub fn task(&self, name: &str) -> Result<TaskInfo, Error> {
        Ok(self.find(name)?.info.clone())
    }

    /// The training rows most like a text, nearest first, by their position among the training rows. Empty for a task
    /// without an encoder tier.
    ///
    /// # Errors
    /// Fails when no task of that name is served or the text is too long.
    pub async fn nearest(&self, task: &str, text: &str, count: usize) -> Result<Vec<Neighbour>, Error> {
        let served = self.find(task)?;
        cascade::nearest(&served, text, count).await
    }

    /// What waits for people, by task.
    ///
    /// # Errors
    /// Fails when the store cannot be read.
    pub fn review_queue(&self) -> Result<Vec<QueueDepth>, Error> {
        Ok(self.store.queue_depths()?)
    }

    /// The providers that tasks hand on to, by name, and how each is doing.
    #[must_use]
    pub fn providers(&self) -> BTreeMap<String, ProviderState> {
        let escalations = Arc::clone(&self.escalations.read().unwrap_or_else(PoisonError::into_inner));
        let targets = escalations.values().flat_map(|escalation| &escalation.targets);
        targets.map(|target| (target.name().to_owned(), target.state())).collect()
    }

    /// Word pieces that wait for an encoder.
    #[must_use]
    pub fn waiting_tokens(&self) -> usize {
        self.catalogue.waiting_tokens()
    }

    fn served(&self) -> Arc<Tasks> {
        Arc::clone(&self.tasks.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn larger(&self, task: &str) -> Option<Arc<Escalation>> {
        self.escalations.read().unwrap_or_else(PoisonError::into_inner).get(task).map(Arc::clone)
    }

    fn kept(&self, served: &Served) -> StoreInput {
        let keeping = self.keeping.read().unwrap_or_else(PoisonError::into_inner);
        keeping.get(&served.info.task.name).copied().unwrap_or(served.info.task.privacy.store)
    }

    fn rules(&self, served: &Served) -> LiveRules {
        let watching = self.watching.read().unwrap_or_else(PoisonError::into_inner);
        watching.get(&served.info.task.name).unwrap_or(&served.info.task.live).clone()
    }

    fn find(&self, name: &str) -> Result<Arc<Served>, Error> {
        let tasks = self.served();
        tasks.get(name).cloned().ok_or_else(|| Error::UnknownTask {
            name: name.chars().take(100).collect(),
            meant: did_you_mean(name, tasks.keys().map(String::as_str)).map(str::to_owned),
        })
    }
}
