//! `sizewise serve`: which tasks are served, and what changes while they are?

use super::{
    DONE, privacy,
    trained::{store, threads},
};
use crate::{
    alerts::{self, Alerts},
    cli::Serve,
    console::Console,
    error::{Error, Result},
    learner::Learner,
    likeness,
    members::Members,
    observe::{Bounds, Observer},
    oidc::{Oidc, sign_in::SignIn},
    project::{Observe, Project},
    providers::{PATIENCE, Providers},
    screen::Screen,
    serve::{self, KeyCheck, Settings},
    table::percent,
    telemetry::Telemetry,
};
use sizewise_contract::{Code, Diagnose, PromiseChange, task::Live};
use sizewise_engine::{Engine, Ledgers};
use sizewise_store::{ObservedBounds, Store};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// How often the store is looked at for new releases and keys.
const LOOK: Duration = Duration::from_millis(500);
/// How often the mix of classes is estimated.
const ESTIMATE: Duration = Duration::from_secs(600);
/// How often old records are erased.
const SWEEP: Duration = Duration::from_secs(3_600);

pub(super) fn run(project: &Project, arguments: &Serve, screen: &Screen) -> Result<u8> {
    let settings = &project.settings().serve;
    let workers = arguments.workers.or(settings.workers).unwrap_or_else(threads).max(1);
    let allow_uncertified = arguments.allow_uncertified || settings.allow_uncertified;
    let mut serving = Serving::start(project, workers, allow_uncertified)?;
    serving.tell(screen, allow_uncertified)?;
    let settings = Settings {
        bind: arguments.bind.unwrap_or(settings.bind),
        workers: NonZeroUsize::new(workers).unwrap_or(NonZeroUsize::MIN),
        access_log: arguments.access_log || settings.access_log,
        relay: serving.relay()?,
        telemetry: Telemetry::start(project)?,
        ..Settings::default()
    };
    serving.run(settings, screen, |address| {
        screen.remark(&format!("serving on http://{address}, with a console at /console/ (Ctrl-C stops)"))
    })?;
    Ok(DONE)
}

/// How people sign in to the console, where settings say so.
fn sign_in(project: &Project, oidc: Option<&Arc<Oidc>>) -> Result<Option<Arc<SignIn>>> {
    let settings = project.settings();
    let wanted = settings.oidc.as_ref().and_then(|oidc| oidc.sign_in.as_ref());
    let Some((oidc, wanted)) = oidc.zip(wanted) else { return Ok(None) };
    let place = (settings.serve.address.as_deref(), project.root());
    Ok(Some(Arc::new(SignIn::new(Arc::clone(oidc), wanted, place)?)))
}

/// An engine with its store and keys.
pub(super) struct Serving {
    store: Arc<Store>,
    engine: Arc<Engine>,
    ledgers: Arc<Ledgers>,
    members: Arc<Members>,
    /// How people sign in to the console.
    sign_in: Option<Arc<SignIn>>,
    names: Vec<String>,
    project: Project,
    providers: Providers,
    problems: Vec<(String, sizewise_engine::Error)>,
    /// Tasks whose larger model may not be asked, and why.
    unasked: Vec<(String, Error)>,
    /// Who is told when a promise changes.
    alerts: Option<Alerts>,
}

impl Serving {
    /// Loads the releases in force of all tasks of a project.
    pub(super) fn start(project: &Project, workers: usize, allow_uncertified: bool) -> Result<Self> {
        let store = Arc::new(store(project)?);
        let names = project.task_names()?;
        let settings =
            sizewise_engine::Settings { allow_uncertified, encoder_workers: workers, record: true };
        let engine = Arc::new(Engine::start(Arc::clone(&store), settings)?);
        let mut problems = engine.load(&names);
        problems.extend(engine.run_trials()?);
        let providers = Providers::new(project);
        let ledgers = Ledgers::start(Arc::clone(&store));
        let (escalations, unasked) = providers.escalations(project, &names, (&ledgers, PATIENCE));
        engine.escalate_to(escalations);
        engine.keep(privacy::keeping(project, &names));
        engine.watch_by(watching(project, &names));
        let alerts = Alerts::start(project)?;
        for change in engine.read_evidence()? {
            alerts.iter().for_each(|alerts| alerts.tell(&change));
        }
        for ended in engine.ended_trials() {
            alerts.iter().for_each(|alerts| alerts.tell_ended(&ended));
        }
        let teams = &project.settings().team;
        let oidc = project.settings().oidc.as_ref().map(|settings| Arc::new(Oidc::new(settings)));
        let sign_in = sign_in(project, oidc.as_ref())?;
        let members = Arc::new(Members::new((store.key_ring()?, oidc), Arc::clone(&ledgers), teams));
        let project = project.clone();
        Ok(Self {
            store,
            engine,
            ledgers,
            members,
            sign_in,
            names,
            project,
            providers,
            problems,
            unasked,
            alerts,
        })
    }

    /// Says which tasks are served, and which are not and why.
    fn tell(&mut self, screen: &Screen, allow_uncertified: bool) -> Result<()> {
        let tasks = self.engine.tasks();
        let relayed = &self.project.settings().relay.providers;
        if tasks.is_empty() && relayed.is_empty() && !self.problems.is_empty() {
            return Err(self.problems.swap_remove(0).1.into());
        }
        for (name, error) in &self.problems {
            let hint = error.hint().map_or(String::new(), |hint| format!(" — {hint}"));
            screen.remark(&format!("not served: {name}: {error}{hint}"));
        }
        if tasks.is_empty() && relayed.is_empty() {
            return Err(Error::Policy {
                message: "there is no task to serve".into(),
                code: Code::NotTrained,
                hint: "run `sizewise init`, `train` and `certify` first, or `sizewise quickstart`".into(),
            });
        }
        if !relayed.is_empty() {
            screen.remark(&format!("passing on to {} what is asked of them by name", relayed.join(", ")));
        }
        let how = match self.project.settings().relay.observe {
            _ if relayed.is_empty() || self.project.settings().serve.zero_retention => None,
            Observe::Off => None,
            Observe::Redacted => Some("personal data masked"),
            Observe::Full => Some("as they are"),
        };
        if let Some(how) = how {
            let days = self.project.settings().relay.days_kept();
            screen.remark(&format!(
                "recording these calls, {how}, for {days} days: `sizewise discover` says what is asked again and again"
            ));
        }
        for info in tasks {
            let certified = info.certificates.iter().filter(|c| c.may_answer()).count();
            let told = match (info.certified, allow_uncertified) {
                (true, _) => "certified".to_owned(),
                (false, true) => format!(
                    "{certified} of {} questions certified; the others answer, and say so",
                    info.task.questions.len()
                ),
                (false, false) => format!(
                    "{certified} of {} questions certified; the others escalate everything (--allow-uncertified lets them answer)",
                    info.task.questions.len()
                ),
            };
            screen.remark(&format!("serving {} (release {}): {told}", info.task.name, info.release.short()));
        }
        self.tell_trials(screen, &mut BTreeMap::new());
        self.tell_larger(screen);
        tell_unasked(screen, &self.unasked);
        let teams = &self.project.settings().team;
        for key in self.store.keys()?.iter().filter(|key| key.revoked_at.is_none()) {
            if let Some(team) = key.rights.team.as_ref().filter(|team| !teams.contains_key(*team)) {
                screen.remark(&format!("key {} is refused: sizewise.toml has no [team.{team}]", key.id));
            }
        }
        for (name, as_of) in self.providers.priced_by_table() {
            screen.remark(&format!("provider {name} is taken to cost what `sizewise prices` says ({as_of})"));
        }
        for name in self.providers.unpriced() {
            screen.remark(&format!(
                "provider {name} has no prices, so what it costs is neither known nor limited (price_in, price_out)"
            ));
        }
        Ok(())
    }

    /// Says which releases are tried, where that was not said before.
    fn tell_trials(&self, screen: &Screen, told: &mut BTreeMap<String, i64>) {
        let trials = self.engine.trials().unwrap_or_default();
        told.retain(|task, _| trials.iter().any(|one| one.trial.task == *task));
        for one in trials.iter().map(|one| &one.trial) {
            if told.insert(one.task.clone(), one.number) != Some(one.number) {
                let (release, mode, share) = (one.release.short(), one.mode.name(), percent(one.share));
                screen.remark(&format!("{}: release {release} is tried as a {mode} of {share}", one.task));
            }
        }
    }

    fn tell_larger(&self, screen: &Screen) {
        for name in &self.names {
            let terms = self.project.task(name).and_then(|task| self.providers.terms(&task));
            let Ok(Some(terms)) = terms else { continue };
            let targets: Vec<String> = terms
                .targets
                .iter()
                .map(|target| format!("{} ({} on {})", target.name(), target.model(), target.host()))
                .collect();
            screen.remark(&format!("{name} hands what it is not sure of to {}", targets.join(", then ")));
        }
    }

    /// What programs may call by name.
    fn relay(&self) -> Result<Option<Arc<serve::Relay>>> {
        let settings = &self.project.settings().relay;
        let Some(relay) = self.providers.relay(settings, &self.ledgers)? else { return Ok(None) };
        if settings.observe == Observe::Off || self.project.settings().serve.zero_retention {
            return Ok(Some(Arc::new(relay)));
        }
        let kept = ObservedBounds {
            rows: settings.observe_rows.unwrap_or(20_000),
            bytes: settings.observe_mb.unwrap_or(512).saturating_mul(1 << 20),
        };
        let bounds = Bounds { redacted: settings.observe == Observe::Redacted, kept };
        let observer = Observer::start(&self.project.store_folder(), bounds)?;
        Ok(Some(Arc::new(relay.observed_by(observer))))
    }

    /// Serves until the user stops the program.
    pub(super) fn run(
        &self,
        settings: Settings,
        screen: &Screen,
        ready: impl FnOnce(SocketAddr),
    ) -> Result<()> {
        let console = Some(Arc::new(Console::open(&self.project)?));
        let settings = Settings { console, sign_in: self.sign_in.clone(), ..settings };
        // What a panic says may hold a piece of an input.
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map_or_else(String::new, ToString::to_string);
            eprintln!(
                "a request panicked at {place}; what it said is left out, as it may hold what was asked"
            );
        }));
        self.store.note_start(privacy::at_start(&self.project, &self.names, &self.providers))?;
        // Logs of servers lie elsewhere: whoever changes what was done before now would have to change them, too.
        screen.remark(&format!("audit log: head {}", self.store.audit_head()?));
        let stop = screen.stop();
        let ended = AtomicBool::new(false);
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| self.watch(&ended, screen));
            scope.spawn(|| self.identify(&ended, screen));
            let shutdown = async {
                while !stop.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            let keys: Arc<dyn KeyCheck> = Arc::<Members>::clone(&self.members);
            let outcome = serve::run(settings, keys, Arc::clone(&self.engine), ready, shutdown);
            ended.store(true, Ordering::Relaxed);
            outcome
        });
        let drained = outcome?;
        match drained.cut {
            0 => screen.remark("stopped; every request was answered"),
            cut => screen.remark(&format!("stopped; {cut} connections did not finish in time")),
        }
        Ok(())
    }

    /// Keeps the keys of the identity provider as they are there; apart from all else, as it may be slow.
    fn identify(&self, ended: &AtomicBool, screen: &Screen) {
        let mut told: Option<String> = None;
        while !ended.load(Ordering::Relaxed) {
            if let Err(problem) = self.members.refresh()
                && told.as_ref() != Some(&problem)
            {
                screen.remark(&format!("keys of the identity provider: {problem}"));
                told = Some(problem);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Puts new releases and keys to use, and erases records that are too old.
    fn watch(&self, ended: &AtomicBool, screen: &Screen) {
        let mut seen = self.store.mark().ok();
        let mut rules = self.rules();
        let mut troubles: BTreeMap<String, String> = BTreeMap::new();
        let mut trials = self.trials_now();
        let mut swept: Option<Instant> = None;
        let mut learner = Learner::new(&self.project, &self.names);
        let mut estimated: Option<Instant> = None;
        let mut look = true;
        let mut likened: Vec<String> = Vec::new();
        while !ended.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
            let mut forget = false;
            match self.store.mark() {
                Ok(mark) if seen != Some(mark) => {
                    // Somebody was erased: what larger models said is remembered no longer.
                    forget = seen.is_some_and(|seen| seen[4] != mark[4]);
                    look = true;
                    for (name, error) in self.engine.load(&self.names) {
                        screen.remark(&format!("{name} stays as it was: {error}"));
                    }
                    self.read_evidence(screen);
                    self.tell_trials(screen, &mut trials);
                    match self.members.reload(&self.store) {
                        Ok(()) => seen = Some(mark),
                        Err(error) => screen.remark(&format!("keys stay as they were: {error}")),
                    }
                }
                Ok(_) => {}
                Err(error) => screen.remark(&format!("the store cannot be read: {error}")),
            }
            if forget {
                self.engine.forget_looks();
            }
            self.tell_kinds(screen);
            let relayed = self.providers.all().into_iter().map(|one| (one.name().to_owned(), one.state()));
            for (name, state) in relayed.collect::<BTreeMap<_, _>>() {
                if let Some(problem) = state.problem.filter(|problem| troubles.get(&name) != Some(problem)) {
                    screen.remark(&format!("provider {name}: {}", own_words(&problem)));
                    troubles.insert(name, problem);
                }
            }
            let now = self.rules();
            look |= now != rules;
            if now != rules || forget {
                self.engine.keep(privacy::keeping(&self.project, &self.names));
                self.engine.watch_by(watching(&self.project, &self.names));
                let (escalations, unasked) =
                    self.providers.escalations(&self.project, &self.names, (&self.ledgers, PATIENCE));
                self.tell_larger(screen);
                tell_unasked(screen, &unasked);
                self.engine.escalate_to(escalations);
                rules = now;
            }
            // After what was erased is forgotten, as it can take a second.
            if std::mem::take(&mut look) {
                let found = likeness::look(&self.project, &self.engine, &self.names);
                found.iter().filter(|told| !likened.contains(told)).for_each(|told| screen.remark(told));
                likened = if found.is_empty() { likened } else { found };
            }
            let over = likeness::ended(&self.engine, &self.names);
            over.iter().filter(|told| !likened.contains(told)).for_each(|told| screen.remark(told));
            likened.extend(over.into_iter().filter(|told| !likened.contains(told)).collect::<Vec<_>>());
            learner.look(&self.store, screen);
            if estimated.is_none_or(|at| at.elapsed() > ESTIMATE) {
                match self.engine.read_mixes() {
                    Ok(changes) => {
                        self.tell_changes(&changes, screen);
                    }
                    Err(error) => screen.remark(&format!("the mix of classes is not known: {error}")),
                }
                estimated = Some(Instant::now());
            }
            if swept.is_none_or(|at| at.elapsed() > SWEEP) {
                self.sweep(screen);
                swept = Some(Instant::now());
            }
        }
    }

    /// The trials under way, by task.
    fn trials_now(&self) -> BTreeMap<String, i64> {
        let trials = self.engine.trials().unwrap_or_default();
        trials.into_iter().map(|one| (one.trial.task, one.trial.number)).collect()
    }

    /// Lets promises stand as the evidence says now, and says what changed.
    fn read_evidence(&self, screen: &Screen) {
        match self.engine.read_evidence() {
            Ok(changes) => {
                self.tell_changes(&changes, screen);
            }
            Err(error) => screen.remark(&format!("promises stand as they did: {error}")),
        }
        for ended in self.engine.ended_trials() {
            screen.remark(&alerts::told_ended(&ended));
            self.alerts.iter().for_each(|alerts| alerts.tell_ended(&ended));
        }
    }

    fn tell_changes(&self, changes: &[PromiseChange], screen: &Screen) {
        for change in changes {
            screen.remark(&alerts::told(change));
            self.alerts.iter().for_each(|alerts| alerts.tell(change));
        }
    }

    fn tell_kinds(&self, screen: &Screen) {
        for kind in self.engine.new_kinds() {
            screen.remark(&alerts::told_kind(&kind));
            self.alerts.iter().for_each(|alerts| alerts.tell_kind(&kind));
        }
    }

    /// When each task file was last written: its rules for larger models hold from then on.
    fn rules(&self) -> Vec<Option<std::time::SystemTime>> {
        let file = |name: &String| self.project.task_folder(name).join("task.toml");
        let written = |name| std::fs::metadata(file(name)).and_then(|facts| facts.modified()).ok();
        self.names.iter().map(written).collect()
    }

    fn sweep(&self, screen: &Screen) {
        let swept = privacy::expire(&self.project, &self.store)
            .and_then(|expired| Ok((expired.iter().any(|one| one.rows > 0)) && !self.store.clean(false)?));
        match swept {
            Ok(false) => {}
            Ok(true) => screen.remark(
                "old records are erased; free pages of the database may hold copies until `sizewise retain` writes it anew",
            ),
            Err(error) => screen.remark(&format!("old records could not be erased: {error}")),
        }
    }
}

/// How promises are watched, as task files say now.
fn watching(project: &Project, names: &[String]) -> BTreeMap<String, Live> {
    let rules = |name: &String| Some((name.clone(), project.task(name).ok()?.live));
    names.iter().filter_map(rules).collect()
}

/// A provider's trouble without what it said itself: that may be what it was told, and has no place in a log.
fn own_words(problem: &str) -> &str {
    match problem.split_once(": ") {
        Some((own, _)) if own.starts_with("it answered with status") => own,
        _ => problem,
    }
}

/// Says whose larger model is not asked, and why.
fn tell_unasked(screen: &Screen, unasked: &[(String, Error)]) {
    for (name, error) in unasked {
        let hint = error.hint().map_or(String::new(), |hint| format!(" — {hint}"));
        screen.remark(&format!("{name} asks no larger model: {error}{hint}"));
    }
}
