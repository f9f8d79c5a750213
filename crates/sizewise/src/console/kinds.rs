//! What does the console show of new kinds of input, and what can be done about one there?

use super::{Console, Who, json};
use crate::{error::Result, kinds};
use serde::Deserialize;

/// What is to become of a kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "do")]
pub(crate) enum KindJudged {
    /// It is none.
    Dismiss {
        /// Which.
        kind: i64,
        /// Why.
        reason: String,
    },
    /// Its inputs are to be labelled.
    Label {
        /// Which.
        kind: i64,
    },
}

impl Console {
    /// The new kinds of input of a task.
    ///
    /// # Errors
    /// Fails when there is no such task for them.
    pub(crate) fn kinds(&self, name: &str, who: &Who) -> Result<Vec<u8>> {
        self.check(name, who)?;
        json(&kinds::view(&self.store, name, who.reads_texts())?)
    }

    /// Does what somebody decided about a kind.
    ///
    /// # Errors
    /// Fails when no such kind is proposed.
    pub(crate) fn judge_kind(&self, name: &str, judged: &KindJudged, who: &Who) -> Result<Vec<u8>> {
        self.check(name, who)?;
        let store = self.store.acting_as(&who.actor());
        match judged {
            KindJudged::Dismiss { kind, reason } => {
                kinds::dismiss(&store, name, *kind, reason)?;
                json(&serde_json::json!({ "kind": kind, "state": "dismissed" }))
            }
            KindJudged::Label { kind } => {
                let waiting = kinds::label(&store, name, *kind)?;
                json(&serde_json::json!({ "kind": kind, "waiting": waiting }))
            }
        }
    }
}
