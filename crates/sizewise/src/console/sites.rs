//! Which call sites are shown, without reading every recorded call for every view?
//!
//! They are looked for behind the view, at most once a minute; until they are known the view says so.

use super::{Console, json};
use crate::{commands::discover, error::Result, project::Observe};
use serde_json::{Value, json};
use sizewise_contract::Diagnose;
use sizewise_store::Store;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Sites that are shown, the dearest.
const SHOWN: usize = 200;
/// How long what was found is shown.
const FRESH: Duration = Duration::from_secs(60);

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Sites {
    found: Mutex<Found>,
}

#[derive(Debug, Default, Clone)]
struct Found {
    running: bool,
    at: Option<Instant>,
    told: Option<Arc<Value>>,
}

impl Console {
    /// The call sites, the dearest first.
    ///
    /// # Errors
    /// Never but for what has no JSON form.
    pub(crate) fn call_sites(&self) -> Result<Vec<u8>> {
        let told = {
            let mut found = self.sites.found.lock().unwrap_or_else(PoisonError::into_inner);
            if !found.running && found.at.is_none_or(|at| at.elapsed() > FRESH) {
                found.running = self.look();
            }
            found.told.clone()
        };
        let relay = &self.project.settings().relay;
        json(&json!({
            "state": if told.is_some() { "ready" } else { "looking" },
            "recorded": relay.observe != Observe::Off && !relay.providers.is_empty(),
            "found": told.as_deref(),
        }))
    }

    /// Begins to look. Says whether it could.
    fn look(&self) -> bool {
        let (folder, sites) = (self.store.folder().to_owned(), Arc::clone(&self.sites));
        let work = move || {
            let told = found(&folder).unwrap_or_else(
                |error| json!({ "problem": error.to_string(), "hint": error.hint(), "sites": [] }),
            );
            let fresh = Found { running: false, at: Some(Instant::now()), told: Some(Arc::new(told)) };
            *sites.found.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        };
        std::thread::Builder::new().name("call sites".into()).spawn(work).is_ok()
    }
}

fn found(folder: &std::path::Path) -> Result<Value> {
    let sites = discover::sites(&Store::open(folder)?)?;
    let listed: Vec<_> = sites.iter().take(SHOWN).map(discover::listed).collect();
    Ok(json!({ "sites": listed, "left_out": sites.len().saturating_sub(SHOWN) }))
}
