//! `sizewise serve`: which tasks are served, and what changes while they are?

use super::{
    DONE,
    trained::{store, threads},
};
use crate::{
    cli::Serve,
    clock,
    error::{Error, Result},
    observe::{Bounds, Observer},
    project::{Observe, Project},
    providers::{PATIENCE, Providers},
    screen::Screen,
    serve::{self, KeyCheck, Settings},
};
use sizewise_contract::{Code, Diagnose, units::UnixMillis};
use sizewise_engine::Engine;
use sizewise_store::{KeyRing, ObservedBounds, Store};
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
        ..Settings::default()
    };
    serving.run(settings, screen, |address| {
        screen.remark(&format!("serving on http://{address} (Ctrl-C stops)"))
    })?;
    Ok(DONE)
}

/// An engine with its store and keys.
pub(super) struct Serving {
    store: Arc<Store>,
    engine: Arc<Engine>,
    keys: Arc<Keys>,
    names: Vec<String>,
    project: Project,
    providers: Providers,
    problems: Vec<(String, sizewise_engine::Error)>,
    /// Tasks whose larger model may not be asked, and why.
    unasked: Vec<(String, Error)>,
}

struct Keys(KeyRing);

impl KeyCheck for Keys {
    fn any(&self) -> bool {
        self.0.any()
    }

    fn verify(&self, key: &str) -> Option<String> {
        self.0.verify(key)
    }
}

impl Serving {
    /// Loads the releases in force of all tasks of a project.
    pub(super) fn start(project: &Project, workers: usize, allow_uncertified: bool) -> Result<Self> {
        let store = Arc::new(store(project)?);
        let names = project.task_names()?;
        let settings =
            sizewise_engine::Settings { allow_uncertified, encoder_workers: workers, record: true };
        let engine = Arc::new(Engine::start(Arc::clone(&store), settings)?);
        let problems = engine.load(&names);
        let providers = Providers::new(project);
        let (escalations, unasked) = providers.escalations(project, &names, (&store, PATIENCE));
        engine.escalate_to(escalations);
        let keys = Arc::new(Keys(store.key_ring()?));
        Ok(Self { store, engine, keys, names, project: project.clone(), providers, problems, unasked })
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
            _ if relayed.is_empty() => None,
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
            let certified = info.certificates.iter().filter(|c| c.verdict.is_certified()).count();
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
        self.tell_larger(screen);
        tell_unasked(screen, &self.unasked);
        for name in self.providers.unpriced() {
            screen.remark(&format!(
                "provider {name} has no prices, so what it costs is neither known nor limited (price_in, price_out)"
            ));
        }
        Ok(())
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
        let Some(relay) = self.providers.relay(settings, &self.store)? else { return Ok(None) };
        if settings.observe == Observe::Off {
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
        let stop = screen.stop();
        let ended = AtomicBool::new(false);
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| self.watch(&ended, screen));
            let shutdown = async {
                while !stop.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            let keys: Arc<dyn KeyCheck> = Arc::<Keys>::clone(&self.keys);
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

    /// Puts new releases and keys to use, and erases records that are too old.
    fn watch(&self, ended: &AtomicBool, screen: &Screen) {
        let mut seen = self.store.mark().ok();
        let mut rules = self.rules();
        let mut troubles: BTreeMap<String, String> = BTreeMap::new();
        let mut swept: Option<Instant> = None;
        while !ended.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
            match self.store.mark() {
                Ok(mark) if seen != Some(mark) => {
                    for (name, error) in self.engine.load(&self.names) {
                        screen.remark(&format!("{name} stays as it was: {error}"));
                    }
                    match self.keys.0.reload(&self.store) {
                        Ok(()) => seen = Some(mark),
                        Err(error) => screen.remark(&format!("keys stay as they were: {error}")),
                    }
                }
                Ok(_) => {}
                Err(error) => screen.remark(&format!("the store cannot be read: {error}")),
            }
            for (name, state) in self.engine.providers() {
                if let Some(problem) = state.problem.filter(|problem| troubles.get(&name) != Some(problem)) {
                    screen.remark(&format!("provider {name}: {problem}"));
                    troubles.insert(name, problem);
                }
            }
            let now = self.rules();
            if now != rules {
                let (escalations, unasked) =
                    self.providers.escalations(&self.project, &self.names, (&self.store, PATIENCE));
                self.tell_larger(screen);
                tell_unasked(screen, &unasked);
                self.engine.escalate_to(escalations);
                rules = now;
            }
            if swept.is_none_or(|at| at.elapsed() > SWEEP) {
                self.sweep(screen);
                swept = Some(Instant::now());
            }
        }
    }

    /// When each task file was last written: its rules for larger models hold from then on.
    fn rules(&self) -> Vec<Option<std::time::SystemTime>> {
        let file = |name: &String| self.project.task_folder(name).join("task.toml");
        let written = |name| std::fs::metadata(file(name)).and_then(|facts| facts.modified()).ok();
        self.names.iter().map(written).collect()
    }

    fn sweep(&self, screen: &Screen) {
        let kept = i64::from(self.project.settings().relay.days_kept()) * 86_400_000;
        if let Err(error) = self.store.forget_observed(UnixMillis(clock::now().0 - kept)) {
            screen.remark(&format!("old relayed calls could not be erased: {error}"));
        }
        for info in self.engine.tasks() {
            let kept = i64::from(info.task.privacy.retention_days) * 86_400_000;
            let before = UnixMillis(clock::now().0 - kept);
            if let Err(error) = self.store.erase_before(&info.task.name, before) {
                screen.remark(&format!("old records of {} could not be erased: {error}", info.task.name));
            }
        }
    }
}

/// Says whose larger model is not asked, and why.
fn tell_unasked(screen: &Screen, unasked: &[(String, Error)]) {
    for (name, error) in unasked {
        let hint = error.hint().map_or(String::new(), |hint| format!(" — {hint}"));
        screen.remark(&format!("{name} asks no larger model: {error}{hint}"));
    }
}
