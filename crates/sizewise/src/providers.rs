//! Which larger models may be asked, for which task, and on which terms?
//!
//! Providers stand in `sizewise.toml` as `[provider.NAME]`; a task names one as `remote` under `[cascade]`. They live as long as
//! the program does, so that what is known of their troubles is not forgotten when a task file changes.

use crate::{
    error::{Error, Result},
    prices,
    project::{Project, RelaySettings},
    secrets,
    serve::Relay,
};
use sizewise_contract::{
    Code, Task, did_you_mean,
    task::{Budget, MayLeave},
    units::Dollars,
};
use sizewise_engine::{Escalation, Ledgers, Purse, Purses, Recall};
use sizewise_models::remote::{Provider, ProviderSettings, Residency};
use sizewise_store::{Limit, Period};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Until when an answer must have come where a caller waits; shorter than the server waits for itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);
/// Longest chain of providers that stand in for one another.
const CHAIN: usize = 8;
/// Whose money relayed calls are paid from; no task can have this name.
const RELAY: &str = "(relay)";

/// The providers of a project.
#[derive(Debug)]
pub(crate) struct Providers {
    root: PathBuf,
    settings: BTreeMap<String, ProviderSettings>,
    /// Those that somebody has needed: a key that nobody needs may be missing.
    made: Mutex<BTreeMap<String, Arc<Provider>>>,
    /// The purses of those that have a budget of their own.
    purses: Mutex<BTreeMap<String, Purse>>,
}

/// Whom a task may ask, and for how much.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) targets: Vec<Arc<Provider>>,
    pub(crate) limits: Vec<Limit>,
}

/// Who is asked for each task, and what is wrong with those that were to ask somebody.
pub(crate) type Escalations = (BTreeMap<String, Escalation>, Vec<(String, Error)>);

impl Providers {
    /// Those that the project's settings describe.
    pub(crate) fn new(project: &Project) -> Self {
        let settings = project.settings().provider.clone();
        Self { root: project.root().to_owned(), settings, made: Mutex::default(), purses: Mutex::default() }
    }

    /// Every provider that was needed so far.
    pub(crate) fn all(&self) -> Vec<Arc<Provider>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Those of them that say nothing of what they cost, though they are somebody else's.
    pub(crate) fn unpriced(&self) -> Vec<String> {
        let unpriced = |one: &Arc<Provider>| {
            !one.is_on_premises() && self.settings.get(one.name()).is_some_and(|s| s.price_in.is_none())
        };
        self.all().iter().filter(|one| unpriced(one)).map(|one| one.name().to_owned()).collect()
    }

    /// Those of them whose prices are the program's own, with their date.
    pub(crate) fn priced_by_table(&self) -> Vec<(String, String)> {
        let dated = |one: &Arc<Provider>| {
            let settings = self.settings.get(one.name())?;
            let as_of = prices::date(settings)?;
            Some((one.name().to_owned(), as_of.to_owned()))
        };
        self.all().iter().filter_map(dated).collect()
    }

    /// Where texts are that each of the described providers gets, as the settings say.
    pub(crate) fn residencies(&self) -> BTreeMap<&str, &str> {
        fn residency(settings: &ProviderSettings) -> &str {
            match &settings.residency {
                Some(Residency::OnPremises) => "on-premises",
                Some(Residency::Elsewhere(place)) => place,
                None => "not said",
            }
        }
        self.settings.iter().map(|(name, settings)| (name.as_str(), residency(settings))).collect()
    }

    /// The provider of this name. Its key is read when it is first needed, and shown nowhere.
    fn provider(&self, name: &str, place: &str) -> Result<(Arc<Provider>, Option<&String>)> {
        let settings = find(&self.settings, name, place)?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = made.get(name) {
            return Ok((Arc::clone(known), settings.fallback.as_ref()));
        }
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
            return Err(Error::usage(format!("[provider.{name}]: use a-z, 0-9, - and _ in its name")));
        }
        let key = match &settings.key {
            Some(named) => Some(secrets::key(named, &self.root)?),
            None => None,
        };
        let mut whole = settings.clone();
        for value in whole.headers.values_mut() {
            // A secret may be named here as well.
            if value.starts_with("env:") || value.starts_with("file:") {
                *value = secrets::key(value, &self.root)?;
            }
        }
        let provider = Provider::new(name, &whole, key.as_deref()).map_err(sizewise_engine::Error::Model)?;
        let provider = Arc::new(provider);
        made.insert(name.to_owned(), Arc::clone(&provider));
        Ok((provider, settings.fallback.as_ref()))
    }

    /// Who is asked for each of these tasks, as their files say now; tasks that name nobody are left out, and so are those that
    /// name somebody who may not be asked: what cannot be read never lets anything leave.
    pub(crate) fn escalations(
        &self,
        project: &Project,
        tasks: &[String],
        paid: (&Arc<Ledgers>, Duration),
    ) -> Escalations {
        let (mut found, mut problems) = (BTreeMap::new(), Vec::new());
        for name in tasks {
            match project.task(name).and_then(|task| self.escalation(&task, paid)) {
                Ok(Some(escalation)) => drop(found.insert(name.clone(), escalation)),
                Ok(None) => {}
                Err(error) => problems.push((name.clone(), error)),
            }
        }
        (found, problems)
    }

    /// Who is asked for one task, for commands that serve no other.
    pub(crate) fn only(
        &self,
        project: &Project,
        name: &str,
        paid: (&Arc<Ledgers>, Duration),
    ) -> Result<BTreeMap<String, Escalation>> {
        let (found, problems) = self.escalations(project, &[name.to_owned()], paid);
        problems.into_iter().next().map_or(Ok(found), |(_, error)| Err(error))
    }

    /// What programs may call by name, paid from `ledgers`.
    pub(crate) fn relay(&self, settings: &RelaySettings, ledgers: &Arc<Ledgers>) -> Result<Option<Relay>> {
        let mut routes = BTreeMap::new();
        let mut purses = BTreeMap::new();
        let limits = limits(settings.budget);
        for name in &settings.providers {
            let targets = self.chain(name, "[relay] providers")?;
            if let Some(paid) = self.unlimited(&targets, &limits) {
                return Err(Error::Policy {
                    message: format!("provider `{}` costs money, and [relay] has no budget", paid.name()),
                    code: Code::MayNotLeave,
                    hint: "say what it may cost at most: budget = { usd_per_month = 20.00 } under [relay]"
                        .into(),
                });
            }
            purses.extend(self.purses(&targets, ledgers));
            routes.insert(name.clone(), targets);
        }
        if routes.is_empty() {
            return Ok(None);
        }
        let own = Purse::of(ledgers.ledger(RELAY, limits));
        let money = Purses::together(std::iter::once(own).chain(purses.into_values()).collect());
        Ok(Some(Relay::new(routes, money)))
    }

    /// The first that costs money though neither these limits nor its own bind it.
    fn unlimited<'t>(&self, targets: &'t [Arc<Provider>], limits: &[Limit]) -> Option<&'t Arc<Provider>> {
        let bound = |name: &str| self.settings.get(name).is_some_and(|settings| !settings.budget.is_unset());
        let unbound = |target: &&Arc<Provider>| !target.prices().is_free() && !bound(target.name());
        targets.iter().find(unbound).filter(|_| limits.is_empty())
    }

    /// The purses of those that have a budget of their own, whoever calls them.
    fn purses(&self, targets: &[Arc<Provider>], ledgers: &Arc<Ledgers>) -> BTreeMap<String, Purse> {
        let mut known = self.purses.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = BTreeMap::new();
        for name in targets.iter().map(|target| target.name().to_owned()) {
            let Some(settings) = self.settings.get(&name).filter(|settings| !settings.budget.is_unset())
            else {
                continue;
            };
            let purse = known.entry(name.clone()).or_insert_with(|| Purse {
                provider: Some(name.clone()),
                money: ledgers.ledger(format!("provider/{name}"), limits(settings.budget)),
            });
            found.insert(name, purse.clone());
        }
        found
    }

    /// A provider and those that stand in for it.
    fn chain(&self, first: &String, place: &str) -> Result<Vec<Arc<Provider>>> {
        let mut targets: Vec<Arc<Provider>> = Vec::new();
        let mut next = Some(first);
        while let Some(name) = next {
            let (provider, fallback) = self.provider(name, place)?;
            if targets.iter().any(|known| known.name() == name) || targets.len() == CHAIN {
                break;
            }
            targets.push(provider);
            next = fallback;
        }
        Ok(targets)
    }

    /// Who is asked for a task, and paid from `ledgers`.
    fn escalation(
        &self,
        task: &Task,
        (ledgers, patience): (&Arc<Ledgers>, Duration),
    ) -> Result<Option<Escalation>> {
        let Some(Terms { targets, limits }) = self.terms(task)? else { return Ok(None) };
        let own = Purse::of(ledgers.ledger(task.name.clone(), limits));
        let purses = self.purses(&targets, ledgers).into_values();
        let money = Purses::together(std::iter::once(own).chain(purses).collect());
        let hours = task.cascade.recall_hours.map(|hours| Duration::from_secs(3_600 * u64::from(hours)));
        let recall =
            hours.map(|lifetime| Arc::new(Recall::new(lifetime).with_similar(task.cascade.recall_similar)));
        Ok(Some(Escalation { targets, may_leave: task.privacy.may_leave, recall, money, patience }))
    }

    /// Who may be asked for a task, and what that may cost.
    pub(crate) fn terms(&self, task: &Task) -> Result<Option<Terms>> {
        let Some(first) = &task.cascade.remote else { return Ok(None) };
        let targets = self.chain(first, &format!("task `{}`: cascade.remote", task.name))?;
        let terms = |message: String, hint: String| Error::Policy { message, code: Code::MayNotLeave, hint };
        if task.privacy.may_leave == MayLeave::Never && !targets.iter().any(|target| target.is_on_premises())
        {
            return Err(terms(
                format!("task `{}` names provider `{first}`, but its texts may not leave", task.name),
                "set may_leave = \"redacted\" or \"yes\" under [privacy] in the task file, or residency = \"on-premises\" for a provider in the house".into(),
            ));
        }
        let limits = limits(task.budget);
        if let Some(paid) = self.unlimited(&targets, &limits) {
            return Err(terms(
                format!("provider `{}` costs money, and task `{}` has no budget", paid.name(), task.name),
                "say what it may cost at most: usd_per_month = 20.00 under [budget] in the task file".into(),
            ));
        }
        Ok(Some(Terms { targets, limits }))
    }
}

/// The limits that a budget sets.
pub(crate) fn limits(budget: Budget) -> Vec<Limit> {
    let limits = [
        (Period::Day, budget.usd_per_day),
        (Period::Month, budget.usd_per_month),
        (Period::Total, budget.usd_total),
    ];
    let limit = |(period, most): (Period, Option<Dollars>)| Some(Limit { period, most: most?.0 });
    limits.into_iter().filter_map(limit).collect()
}

fn find<'a, T>(known: &'a BTreeMap<String, T>, name: &str, place: &str) -> Result<&'a T> {
    known.get(name).ok_or_else(|| {
        let hint = match did_you_mean(name, known.keys().map(String::as_str)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("describe it in sizewise.toml under [provider.{name}], with url and model"),
        };
        Error::Policy {
            message: format!("{place}: no provider is called `{name}`"),
            code: Code::RequestInvalid,
            hint,
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;
    use sizewise_contract::Diagnose;

    const TASK: &str = "schema = 1\nname = \"desk\"\n[[question]]\nname = \"urgent\"\ntype = \"predicate\"\n";
    const SETTINGS: &str = r#"
        [provider.primary]
        url = "https://models.example/v1"
        model = "m-1"
        price_in = 0.15
        price_out = 0.6
        fallback = "house"
        [provider.house]
        url = "http://127.0.0.1:9/v1"
        model = "m-2"
        fallback = "primary"
    "#;

    const ASKS: &str =
        "[cascade]\nremote = \"primary\"\n[privacy]\nmay_leave = \"yes\"\n[budget]\nusd_total = 1\n";

    fn terms(settings: &str, task: &str) -> Result<Option<Terms>> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("sizewise.toml"), settings).unwrap();
        let project = Project::find(Some(folder.path()))?;
        let providers = Providers::new(&project);
        providers.terms(&Task::parse(&format!("{TASK}{task}")).unwrap())
    }

    #[test]
    fn a_task_gets_its_provider_those_that_stand_in_for_it_and_its_limits() {
        let task = "[cascade]\nremote = \"primary\"\n[budget]\nusd_per_day = 1\nusd_total = \"2.5\"\n[privacy]\nmay_leave = \"redacted\"\n";
        let found = terms(SETTINGS, task).unwrap().unwrap();
        let names: Vec<&str> = found.targets.iter().map(|target| target.name()).collect();
        assert_eq!(names, ["primary", "house"]);
        let limits: Vec<(Period, u64)> =
            found.limits.iter().map(|limit| (limit.period, limit.most.0)).collect();
        assert_eq!(limits, [(Period::Day, 1_000_000), (Period::Total, 2_500_000)]);
        assert!(terms(SETTINGS, "").unwrap().is_none());
    }

    #[test]
    fn what_would_leak_or_cost_without_end_is_refused_before_it_is_served() {
        let refused = |settings: &str, task: &str| {
            let error = terms(settings, task).unwrap_err();
            format!("{error} | {}", error.hint().unwrap_or_default())
        };
        let never = SETTINGS.replace("fallback = \"house\"", "");
        for (settings, task, expected) in [
            (SETTINGS, "[cascade]\nremote = \"primry\"\n", "did you mean `primary`"),
            (SETTINGS, "[cascade]\nremote = \"primary\"\n[privacy]\nmay_leave = \"yes\"\n", "has no budget"),
            (never.as_str(), "[cascade]\nremote = \"primary\"\n", "may not leave"),
            (&SETTINGS.replace("\"house\"", "\"nobody\""), ASKS, "no provider is called `nobody`"),
            (&SETTINGS.replace("https://models", "ftp://models"), ASKS, "neither https"),
            (&SETTINGS.replace("price_out = 0.6", ""), ASKS, "prices is missing"),
            (
                &SETTINGS.replace("price_in = 0.15", "price_in = 0.15\nkey = \"sk-123\""),
                ASKS,
                "a key is named, never written",
            ),
            (
                &SETTINGS.replace("model = \"m-2\"", "model = \"m-2\"\nheaders = { host = \"x\" }"),
                ASKS,
                "no header that may be set",
            ),
        ] {
            let told = refused(settings, task);
            assert!(told.contains(expected) && !told.contains("sk-123"), "{told}");
        }
    }
}
