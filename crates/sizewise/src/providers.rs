//! Which larger models may be asked, for which task, and on which terms?
//!
//! Providers stand in `sizewise.toml` as `[provider.NAME]`; a task names one as `remote` under `[cascade]`. They live as long as
//! the program does, so that what is known of their troubles is not forgotten when a task file changes.

use crate::{
    error::{Error, Result},
    project::{Project, RelaySettings},
    secrets,
    serve::Relay,
};
use sizewise_contract::{
    Code, Task, did_you_mean,
    task::{Budget, MayLeave},
    units::Dollars,
};
use sizewise_engine::{Escalation, Ledger};
use sizewise_models::remote::{Provider, ProviderSettings};
use sizewise_store::{Limit, Period, Store};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Until when an answer must have come where a caller waits; shorter than the server waits for itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);
/// Longest chain of providers that stand in for one another.
const CHAIN: usize = 8;
/// Whose money relayed calls are paid from; no task can have this name.
const RELAY: &str = "(relay)";

/// The providers of a project.
#[derive(Debug)]
pub(crate) struct Providers {
    known: BTreeMap<String, (Arc<Provider>, Option<String>)>,
}

impl Providers {
    /// Reads them from the project's settings. Their keys are read now, and shown nowhere.
    pub(crate) fn new(project: &Project) -> Result<Self> {
        let mut known = BTreeMap::new();
        let settings = &project.settings().provider;
        for (name, one) in settings {
            if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
                return Err(Error::usage(format!("[provider.{name}]: use a-z, 0-9, - and _ in its name")));
            }
            let key = match &one.key {
                Some(named) => Some(secrets::key(named, project.root())?),
                None => None,
            };
            let provider = Provider::new(name, one, key.as_deref()).map_err(sizewise_engine::Error::Model)?;
            if let Some(next) = &one.fallback {
                find(settings, next, &format!("[provider.{name}] fallback"))?;
            }
            known.insert(name.clone(), (Arc::new(provider), one.fallback.clone()));
        }
        Ok(Self { known })
    }

    /// Every provider.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.known.values().map(|(provider, _)| provider)
    }

    /// Who is asked for each of these tasks, as their files say now; tasks that name nobody are left out.
    pub(crate) fn escalations(
        &self,
        project: &Project,
        tasks: &[String],
        patience: Duration,
    ) -> Result<BTreeMap<String, Escalation>> {
        let mut found = BTreeMap::new();
        for name in tasks {
            let task = project.task(name)?;
            if let Some(escalation) = self.escalation(&task, patience)? {
                found.insert(name.clone(), escalation);
            }
        }
        Ok(found)
    }

    /// What programs may call by name, paid from `store`.
    pub(crate) fn relay(&self, settings: &RelaySettings, store: &Arc<Store>) -> Result<Option<Relay>> {
        let mut routes = BTreeMap::new();
        let limits = limits(settings.budget);
        for name in &settings.providers {
            let targets = self.chain(name, "[relay] providers")?;
            if let Some(paid) = targets.iter().find(|target| !target.prices().is_free())
                && limits.is_empty()
            {
                return Err(Error::Policy {
                    message: format!("provider `{}` costs money, and [relay] has no budget", paid.name()),
                    code: Code::MayNotLeave,
                    hint: "say what it may cost at most: budget = { usd_per_month = 20.00 } under [relay]"
                        .into(),
                });
            }
            routes.insert(name.clone(), targets);
        }
        let ledger = Ledger { store: Arc::clone(store), task: RELAY.into(), limits };
        Ok((!routes.is_empty()).then(|| Relay::new(routes, Arc::new(ledger))))
    }

    /// A provider and those that stand in for it.
    fn chain(&self, first: &String, place: &str) -> Result<Vec<Arc<Provider>>> {
        let mut targets: Vec<Arc<Provider>> = Vec::new();
        let mut next = Some(first);
        while let Some(name) = next {
            let (provider, fallback) = find(&self.known, name, place)?;
            if targets.iter().any(|known| known.name() == name) || targets.len() == CHAIN {
                break;
            }
            targets.push(Arc::clone(provider));
            next = fallback.as_ref();
        }
        Ok(targets)
    }

    /// Who is asked for a task.
    pub(crate) fn escalation(&self, task: &Task, patience: Duration) -> Result<Option<Escalation>> {
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
        if let Some(paid) = targets.iter().find(|target| !target.prices().is_free())
            && limits.is_empty()
        {
            return Err(terms(
                format!("provider `{}` costs money, and task `{}` has no budget", paid.name(), task.name),
                "say what it may cost at most: usd_per_month = 20.00 under [budget] in the task file".into(),
            ));
        }
        let may_leave = task.privacy.may_leave;
        Ok(Some(Escalation { targets, may_leave, limits, patience }))
    }
}

fn limits(budget: Budget) -> Vec<Limit> {
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

/// Whether a provider says what it costs, where it is somebody else's.
pub(crate) fn unpriced(settings: &ProviderSettings, provider: &Provider) -> bool {
    settings.price_in.is_none() && !provider.is_on_premises()
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

    fn escalation(settings: &str, task: &str) -> Result<Option<Escalation>> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("sizewise.toml"), settings).unwrap();
        let project = Project::find(Some(folder.path()))?;
        Providers::new(&project)?.escalation(&Task::parse(&format!("{TASK}{task}")).unwrap(), PATIENCE)
    }

    #[test]
    fn a_task_gets_its_provider_those_that_stand_in_for_it_and_its_limits() {
        let task = "[cascade]\nremote = \"primary\"\n[budget]\nusd_per_day = 1\nusd_total = \"2.5\"\n[privacy]\nmay_leave = \"redacted\"\n";
        let found = escalation(SETTINGS, task).unwrap().unwrap();
        let names: Vec<&str> = found.targets.iter().map(|target| target.name()).collect();
        assert_eq!(names, ["primary", "house"]);
        let limits: Vec<(Period, u64)> =
            found.limits.iter().map(|limit| (limit.period, limit.most.0)).collect();
        assert_eq!(limits, [(Period::Day, 1_000_000), (Period::Total, 2_500_000)]);
        assert!(escalation(SETTINGS, "").unwrap().is_none());
    }

    #[test]
    fn what_would_leak_or_cost_without_end_is_refused_before_it_is_served() {
        let refused = |settings: &str, task: &str| {
            let error = escalation(settings, task).unwrap_err();
            format!("{error} | {}", error.hint().unwrap_or_default())
        };
        let never = SETTINGS.replace("fallback = \"house\"", "");
        for (settings, task, expected) in [
            (SETTINGS, "[cascade]\nremote = \"primry\"\n", "did you mean `primary`"),
            (SETTINGS, "[cascade]\nremote = \"primary\"\n[privacy]\nmay_leave = \"yes\"\n", "has no budget"),
            (never.as_str(), "[cascade]\nremote = \"primary\"\n", "may not leave"),
            (&SETTINGS.replace("\"house\"", "\"nobody\""), "", "no provider is called `nobody`"),
            (&SETTINGS.replace("https://models", "ftp://models"), "", "neither https"),
            (&SETTINGS.replace("price_out = 0.6", ""), "", "prices is missing"),
            (
                &SETTINGS.replace("price_in = 0.15", "price_in = 0.15\nkey = \"sk-123\""),
                "",
                "a key is named, never written",
            ),
            (
                &SETTINGS.replace("model = \"m-2\"", "model = \"m-2\"\nheaders = { host = \"x\" }"),
                "",
                "no header that may be set",
            ),
        ] {
            let told = refused(settings, task);
            assert!(told.contains(expected) && !told.contains("sk-123"), "{told}");
        }
    }
}
