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
mod kinds;
mod ledger;
mod live;
mod mix;
mod probe;
mod protect;
mod purses;
mod recall;
mod request;
mod served;
mod settle;
mod shadow;
mod trials;

pub use error::Error;
pub use escalate::{Escalation, prompt};
pub use feedback::Feedback;
pub use kinds::LookCounts;
pub use ledger::{Ledger, Ledgers};
pub use live::{GroupStanding, Standing, standings, standings_of};
pub use mix::{Grown, MixFound, MixStanding, mixes};
pub use protect::{
    Finding, FoundBy, PersonalData, Redacted, can_redact, find as find_personal_data,
    find_quickly as find_personal_data_quickly, redact, redact_by_rules, redact_quickly, redacted,
};
pub use purses::{Purse, Purses};
pub use recall::{LabelledText, Recall, Similarity};
pub use request::{InputValue, QuestionRef, Request};
pub use served::{ENCODER_ADAPTER, ENCODER_PARTS, TaskInfo, encoder_adapter, encoder_files};
pub use trials::{EndedTrial, TrialStanding};

use admit::Admitted;
use cascade::Outcome;
use catalogue::Catalogue;
use kinds::{Drawn, Looks};
use probe::Drawer;
use served::Served;
use settle::{Draws, Settled};
use sizewise_contract::{
    Decision, NewKind, PromiseChange, did_you_mean,
    task::{Live as LiveRules, StoreInput},
};
use sizewise_models::{neighbours::Neighbour, remote::ProviderState};
use sizewise_store::{Entry, QueueDepth, Recorder, RenewalInfo, Store};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
    time::Instant,
};
use trials::{Part, Trials};

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
    /// Looks for new kinds of input, where decisions leave anything behind.
    looks: Option<Looks>,
    /// How promises stand.
    live: live::Live,
    drawer: Drawer,
    /// How promises are watched, by task.
    watching: RwLock<BTreeMap<String, LiveRules>>,
    /// By task.
    escalations: RwLock<Arc<BTreeMap<String, Arc<Escalation>>>>,
    /// By task.
    keeping: RwLock<BTreeMap<String, StoreInput>>,
    /// Releases that are tried beside those that are served; none where nobody asked for that.
    trials: OnceLock<Trials>,
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
        let looks = match settings.record {
            true => Some(Looks::start(Arc::clone(&store), sizewise_store::random_bits()?)?),
            false => None,
        };
        Ok(Self {
            catalogue: Catalogue::new(settings.encoder_workers),
            tasks: RwLock::default(),
            loading: Mutex::default(),
            store,
            settings,
            recorder,
            looks,
            escalations: RwLock::default(),
            keeping: RwLock::default(),
            live: live::Live::default(),
            drawer,
            watching: RwLock::default(),
            trials: OnceLock::new(),
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
        problems.extend(self.take_up_trials(None));
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
        match self.take_up_trials(Some(name)).pop() {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// From now on tries releases beside those that are served, where the store says so. Returns what could not be loaded, by task.
    ///
    /// # Errors
    /// Fails when the system gives no thread.
    pub fn run_trials(&self) -> Result<Vec<(String, Error)>, Error> {
        let _one = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if self.trials.get().is_none() {
            let _ = self.trials.set(Trials::start(&self.store)?);
        }
        Ok(self.take_up_trials(None))
    }

    fn take_up_trials(&self, only: Option<&str>) -> Vec<(String, Error)> {
        let Some(trials) = self.trials.get() else { return Vec::new() };
        trials.refresh((&self.store, &self.catalogue, self.settings), &self.served(), only)
    }

    /// The trials that this engine takes part in.
    ///
    /// # Errors
    /// Fails when the store cannot be read.
    pub fn trials(&self) -> Result<Vec<TrialStanding>, Error> {
        self.trials.get().map_or(Ok(Vec::new()), |trials| trials.standings(&self.store))
    }

    /// The trials that [`Self::read_evidence`] has ended since the last call.
    #[must_use]
    pub fn ended_trials(&self) -> Vec<EndedTrial> {
        self.trials.get().map_or_else(Vec::new, Trials::ended)
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

    /// Reads what references said since the last time. What follows for the promises holds from now on, and is handed out. A canary whose
    /// promise is not kept ends ([`Self::ended_trials`]).
    ///
    /// # Errors
    /// Fails when the store cannot be read or written; promises then stand as they did.
    pub fn read_evidence(&self) -> Result<Vec<PromiseChange>, Error> {
        let served = self.served();
        for served in served.values() {
            if let Some(kinds) = &served.kinds {
                kinds.heed(&self.store, &served.info, self.settings.record)?;
            }
        }
        let mut changes = self.live.read(&self.store, served.values())?;
        if let Some(trials) = self.trials.get() {
            let _one = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
            changes.extend(trials.read(&self.store)?);
        }
        Ok(changes)
    }

    /// Estimates the mixes of classes anew, from the records of late. What follows for thresholds holds from now on, and is handed out.
    ///
    /// # Errors
    /// Fails when the store cannot be read or written.
    pub fn read_mixes(&self) -> Result<Vec<PromiseChange>, Error> {
        let mut changes = Vec::new();
        for served in self.served().values() {
            changes.extend(self.live.heed_mixes(&self.store, served, mixes(&self.store, &served.info)?)?);
        }
        Ok(changes)
    }

    /// How the mixes of a task's classes stood when they were last looked at.
    #[must_use]
    pub fn mixes(&self, task: &str) -> Vec<MixStanding> {
        self.live.mixes(task)
    }

    /// The latest times that a task learnt again, the latest first.
    ///
    /// # Errors
    /// Fails when the store cannot be read.
    pub fn renewals(&self, task: &str, limit: usize) -> Result<Vec<RenewalInfo>, Error> {
        Ok(self.store.renewals(task, limit)?)
    }

    /// The new kinds of input that were found since the last time; inputs of them are handed on from then on.
    #[must_use]
    pub fn new_kinds(&self) -> Vec<NewKind> {
        self.looks.as_ref().map_or_else(Vec::new, Looks::found)
    }

    /// What came of the looks at a task's requests; none where its release has nothing that a new kind could be told by.
    #[must_use]
    pub fn look_counts(&self, task: &str) -> Option<LookCounts> {
        Some(self.served().get(task)?.kinds.as_ref()?.counts())
    }

    /// Waits until everything that was drawn before has been looked at.
    pub fn finish_looks(&self) {
        self.looks.iter().for_each(Looks::finish);
    }

    /// Forgets the single inputs that were looked at, as somebody was erased. What was proposed stays.
    pub fn forget_looks(&self) {
        self.served().values().filter_map(|served| served.kinds.as_ref()).for_each(|kinds| kinds.forget());
    }

    /// The new kinds of input of a task, the latest first, at most a hundred.
    ///
    /// # Errors
    /// Fails when the store cannot be read.
    pub fn kinds(&self, task: &str) -> Result<Vec<NewKind>, Error> {
        Ok(self.store.kinds(task, 100)?.into_iter().map(|kept| kept.kind).collect())
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
    pub async fn decide(&self, mut request: Request) -> Result<Vec<Decision>, Error> {
        let begun = Instant::now();
        let live = self.find(&request.task)?;
        let mut part = self.trials.get().and_then(|trials| trials.part(&live, &request));
        let (served, (admitted, mut judged)) = self.judge(live, part.as_mut(), &request).await?;
        let vectors = std::mem::take(&mut judged.vectors);
        let larger = self.larger(&request.task);
        let asked = (larger.as_deref(), &request);
        let answers = escalate::escalate(&served, &admitted, judged, asked, begun).await;
        let rules = self.rules(&served);
        let possible = probe::can_be_asked(rules.reference, admitted.keep, larger.as_deref());
        let draws = Draws { drawer: &self.drawer, rules: &rules, possible };
        let recorder = self.recorder.as_deref();
        let settled =
            settle::settle(recorder, &served, (&admitted, answers), (&request, begun, &draws)).await?;
        if let Some(looks) = self.looks.as_ref().filter(|_| !request.dry_run) {
            let decisions = &settled.decisions;
            looks.draw(&served, Drawn { admitted: &admitted, decisions, vectors, rules: &rules });
        }
        if let (Some(trials), Some(part)) = (self.trials.get(), part) {
            trials.follow(part, &mut request, &settled.decisions);
        }
        if let Some(larger) = larger.filter(|_| !settled.to_ask.is_empty()) {
            self.ask_reference(larger, &served, (request, admitted), &settled);
        }
        Ok(settled.decisions)
    }

    /// Asks the local tiers of whoever answers: the canary, where the request is one of its share, and the release in force.
    async fn judge(
        &self,
        live: Arc<Served>,
        part: Option<&mut Part>,
        request: &Request,
    ) -> Result<(Arc<Served>, (Admitted, Outcome)), Error> {
        let Some((canary, part)) = part.and_then(|part| Some((Arc::clone(part.canary()?), part))) else {
            let judged = self.judge_by(&live, request).await?;
            return Ok((live, judged));
        };
        if let Ok(judged) = self.judge_by(&canary, request).await {
            return Ok((canary, judged));
        }
        // Nobody loses an answer to a trial; what fails here, too, is told.
        let judged = self.judge_by(&live, request).await?;
        part.hand_back(request.inputs.len());
        Ok((live, judged))
    }

    async fn judge_by(&self, served: &Served, request: &Request) -> Result<(Admitted, Outcome), Error> {
        let admitted = admit::admit(served, request, (self.kept(served), &served.limits()))?;
        let judged = cascade::run(served, &admitted).await?;
        Ok((admitted, judged))
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
                let (told, bill) = probe::ask_larger((&larger, &request), &served, admitted, answers).await;
                let bill = bill.map(|bill| (id.clone(), bill));
                let told = told.into_iter().map(|(question, truth)| (id.clone(), question, truth)).collect();
                // Where it cannot be written, the probe stays one whose truth is not known.
                let _ = recorder.keep(vec![Entry { told, probe_bill: bill, ..Entry::default() }], |_| {});
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
