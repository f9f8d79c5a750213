//! When does a task learn again, and how far is it?

use super::{Console, Who, json};
use crate::{
    error::Result,
    learner::{self, LearnPromote},
};
use serde::Serialize;
use sizewise_store::{RENEWAL_STEPS, RenewalInfo};

/// Renewals that are shown, the latest.
const SHOWN: usize = 20;

#[derive(Serialize)]
struct Renewals {
    /// When it does so by itself, in words.
    by_itself: String,
    /// What becomes of what it made.
    promote: LearnPromote,
    /// What a renewal does, one after the other.
    steps: [&'static str; 3],
    renewals: Vec<RenewalInfo>,
}

impl Console {
    /// When a task learnt again and does so by itself.
    ///
    /// # Errors
    /// Fails when there is no such task for them.
    pub(crate) fn renewals(&self, name: &str, who: &Who) -> Result<Vec<u8>> {
        self.check(name, who)?;
        let learn = learner::of(&self.project, name);
        let renewals = self.store.renewals(name, SHOWN)?;
        let renewals = if who.reads_texts() { renewals } else { learner::for_callers(renewals) };
        json(&Renewals {
            by_itself: learner::waits(&learn),
            promote: learn.promote,
            steps: RENEWAL_STEPS,
            renewals,
        })
    }
}
