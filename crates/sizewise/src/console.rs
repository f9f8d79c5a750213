//! What does the console show, and what can be done in it?
//!
//! The same values that the commands print, for a browser: nothing is computed in two ways. Every view is bounded, whatever the
//! store holds; what takes long is done once, behind the view ([`measured`], [`sites`]). Who may see what is decided before it
//! comes here ([`crate::serve`]); what is left to decide here is whose task it is and whether texts are shown.

mod admin;
mod kinds;
mod log;
mod measured;
mod overview;
mod renewals;
mod review;
mod sites;
mod traffic;
mod trials;

pub(crate) use admin::NewKeyAsked;
pub(crate) use kinds::KindJudged;
pub(crate) use log::{EraseAsked, LogAsked, VerifyAsked};
pub(crate) use review::Answered;
pub(crate) use trials::TrialAsked;

use crate::{
    commands::{decide, list},
    error::{Error, Result},
    project::Project,
    providers::Providers,
};
use measured::Measured;
use serde::Serialize;
use sites::Sites;
use sizewise_contract::{ContentHash, Task};
use sizewise_models::neighbours::Neighbour;
use sizewise_store::{Holder, Role, Store};
use std::sync::Arc;

/// Releases and switches that a view shows; the latest.
const RELEASES: usize = 50;

/// What the console knows of a project.
#[derive(Debug)]
pub struct Console {
    project: Project,
    store: Store,
    providers: Providers,
    measured: Arc<Measured>,
    sites: Arc<Sites>,
}

/// Who looks; nobody in particular where keys are not needed.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    holder: Option<Arc<Holder>>,
}

impl Who {
    pub(crate) fn new(holder: Option<Arc<Holder>>) -> Self {
        Self { holder }
    }

    /// What they are there for.
    pub(crate) fn role(&self) -> Role {
        self.holder.as_ref().map_or(Role::Operator, |holder| holder.rights.role)
    }

    /// The public id of their key.
    pub(crate) fn id(&self) -> Option<&str> {
        self.holder.as_ref().map(|holder| holder.id.as_str())
    }

    /// Whether a task is there for them.
    pub(crate) fn may_see(&self, task: &str) -> bool {
        self.holder.as_ref().is_none_or(|holder| holder.rights.allow_task(task))
    }

    /// Whether they may read what was asked and what rows say. Whoever only calls a task has no business with others' texts.
    fn reads_texts(&self) -> bool {
        self.role() == Role::Operator
    }

    /// How the audit log names them.
    fn actor(&self) -> String {
        self.id().map_or_else(|| "console".to_owned(), |id| format!("console:{id}"))
    }
}

impl Console {
    /// The console of a project, with a connection to its store of its own: long views hold up no request.
    ///
    /// # Errors
    /// Fails when the store cannot be opened.
    pub fn open(project: &Project) -> Result<Self> {
        Ok(Self {
            store: Store::open(&project.store_folder())?,
            providers: Providers::new(project),
            project: project.clone(),
            measured: Arc::default(),
            sites: Arc::default(),
        })
    }

    /// The contract of a task that is there for somebody.
    fn task(&self, name: &str, who: &Who) -> Result<Task> {
        self.check(name, who)?;
        self.project.task(name)
    }

    /// Somebody else's task is not there.
    pub(crate) fn check(&self, name: &str, who: &Who) -> Result<()> {
        let known = self.project.task_names()?;
        if who.may_see(name) && known.iter().any(|task| task == name) {
            return Ok(());
        }
        Err(sizewise_engine::Error::UnknownTask { name: name.chars().take(100).collect(), meant: None }
            .into())
    }

    /// What is known of one task: contract, certificates, releases.
    ///
    /// # Errors
    /// Fails when there is no such task for them, or it cannot be read.
    pub(crate) fn shown(&self, name: &str, who: &Who) -> Result<Vec<u8>> {
        self.check(name, who)?;
        let mut shown = list::shown(&self.project, &self.store, name)?;
        let older = shown.releases.len().saturating_sub(RELEASES);
        shown.releases.drain(..older);
        let older = shown.history.len().saturating_sub(RELEASES);
        shown.history.drain(..older);
        json(&shown)
    }

    /// Puts a release in force.
    ///
    /// # Errors
    /// Fails when there is no such release, or it is damaged.
    pub(crate) fn switch(&self, name: &str, release: &str, who: &Who) -> Result<Vec<u8>> {
        #[derive(Serialize)]
        struct Switched {
            release: ContentHash,
            certified: bool,
        }
        self.check(name, who)?;
        let release = self.store.acting_as(&who.actor()).rollback(name, Some(release))?;
        let certified = release.certificates.iter().any(|certificate| certificate.may_answer());
        json(&Switched { release: release.id, certified })
    }

    /// The training rows of these places, where they are still there and may be read.
    ///
    /// # Errors
    /// Fails when the rows cannot be read.
    pub(crate) fn nearest(&self, name: &str, near: &[Neighbour], who: &Who) -> Result<Vec<decide::Near>> {
        let task = self.task(name, who)?;
        if !who.reads_texts() || near.is_empty() {
            return Ok(Vec::new());
        }
        // The rows that the release was fitted on, in their order, or others: then these are not the nearest.
        let release =
            self.store.in_force(name)?.ok_or_else(|| Error::NotTrained { task: name.to_owned() })?;
        if release.manifest.contract != task.contract_hash() {
            return Ok(Vec::new());
        }
        decide::training_rows(&self.project, &task, near)
    }
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|_| sizewise_engine::Error::Internal("a view has a JSON form").into())
}
