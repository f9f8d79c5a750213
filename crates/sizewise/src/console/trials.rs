//! How does a release do that is tried, and who may begin, promote or end it?

use super::{Console, Who, json};
use crate::{
    commands::{gates, trial},
    error::Result,
};
use serde::Deserialize;
use serde_json::json;
use sizewise_contract::TrialMode;

/// What is to be done about a trial.
#[derive(Debug, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum TrialAsked {
    /// Begins one.
    Begin {
        /// The release, or the beginning of its hash.
        release: String,
        mode: TrialMode,
        /// Share of the requests.
        share: Option<f64>,
    },
    /// Ends the one that is under way.
    End,
    /// Puts the release that is tried in force, under the rules of `sizewise promote`.
    Promote,
}

impl Console {
    /// What is known of the trial of a task.
    ///
    /// # Errors
    /// Fails when there is no such task for them.
    pub(crate) fn trial(&self, name: &str, who: &Who) -> Result<Vec<u8>> {
        self.check(name, who)?;
        let mut shown = trial::shown(&self.store, name)?;
        if !who.reads_texts() {
            shown.differences.iter_mut().for_each(|one| one.text = None);
        }
        json(&shown)
    }

    /// Begins, ends or promotes.
    ///
    /// # Errors
    /// Fails when the release may not be tried, or none is.
    pub(crate) fn act_on_trial(&self, name: &str, asked: &TrialAsked, who: &Who) -> Result<Vec<u8>> {
        self.check(name, who)?;
        let store = self.store.acting_as(&who.actor());
        match asked {
            TrialAsked::Begin { release, mode, share } => {
                let (trial, unanswered) =
                    trial::start((&self.project, &store), name, (release, *mode, *share))?;
                json(&json!({ "trial": trial, "unanswered": unanswered }))
            }
            TrialAsked::End => json(&json!({ "trial": store.end_trial(name, "ended in the console")? })),
            TrialAsked::Promote => {
                let under_way = store.trial(name)?;
                let none = || sizewise_store::Error::NoTrial { task: name.to_owned() };
                let tried = under_way.ok_or_else(none)?.release.to_string();
                gates::release::check_again(&store, &self.project, &store.release(name, &tried)?)?;
                json(&json!({ "release": store.promote(name, &tried, None)?.id }))
            }
        }
    }
}
