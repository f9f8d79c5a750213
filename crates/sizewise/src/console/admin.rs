//! Who may call, whom may tasks ask, and what does it cost?

use super::{Console, Who, json, overview::provider};
use crate::{
    commands::spending,
    error::{Error, Result},
};
use serde::Deserialize;
use serde_json::{Value, json};
use sizewise_contract::Code;
use sizewise_models::remote::ProviderState;
use sizewise_store::{Rights, Role};
use std::collections::BTreeMap;

/// Days of spending that are shown, of all payers together.
const LINES: usize = 400;
/// Longest name of a key. `characters`
const NAME: usize = 200;

/// A key that is wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKeyAsked {
    name: String,
    rights: Rights,
}

impl Console {
    /// Keys, teams, providers, money.
    ///
    /// # Errors
    /// Fails when the store cannot be read.
    pub(crate) fn admin(&self, states: &BTreeMap<String, ProviderState>) -> Result<Vec<u8>> {
        let settings = self.project.settings();
        let mut spending = spending::spending(&self.store)?;
        spending.days.truncate(LINES);
        spending.also.truncate(LINES);
        let residencies = self.providers.residencies();
        let described = |(name, settings): (&String, &sizewise_models::remote::ProviderSettings)| {
            let state = states.get(name);
            let mut told = state.map_or_else(|| json!({ "provider": name }), |state| provider(name, state));
            if let Value::Object(told) = &mut told {
                told.insert("url".into(), settings.url.clone().into());
                told.insert("model".into(), settings.model.clone().into());
                told.insert("residency".into(), residencies.get(name.as_str()).copied().into());
                told.insert("budget".into(), json!(settings.budget));
                told.insert("priced".into(), settings.price_in.is_some().into());
                told.insert("price_in".into(), json!(settings.price_in));
                told.insert("price_out".into(), json!(settings.price_out));
                told.insert("priced_on".into(), settings.priced_on.clone().into());
            }
            told
        };
        let team = |(name, team): (&String, &crate::project::TeamSettings)| {
            json!({
                "team": name, "requests_per_minute": team.requests_per_minute,
                "tokens_per_minute": team.tokens_per_minute, "budget": team.budget,
            })
        };
        json(&json!({
            "keys": self.store.keys()?,
            "tasks": self.project.task_names()?,
            "teams": settings.team.iter().map(team).collect::<Vec<_>>(),
            "providers": settings.provider.iter().map(described).collect::<Vec<_>>(),
            "oidc": settings.oidc.as_ref().map(|oidc| oidc.issuer.clone()),
            "spending": spending,
        }))
    }

    /// Makes a key; the reply is the only place that ever holds it.
    ///
    /// # Errors
    /// Fails when it names what is not there, or would lock everybody out.
    pub(crate) fn create_key(&self, asked: &NewKeyAsked, who: &Who) -> Result<Vec<u8>> {
        let settings = self.project.settings();
        let refused = |message: &str, hint: &str| Error::Policy {
            message: message.into(),
            code: Code::RequestInvalid,
            hint: hint.into(),
        };
        let name = asked.name.trim();
        if name.is_empty() || name.chars().count() > NAME {
            return Err(refused("the key has no name", "say who or what it is for"));
        }
        let known = self.project.task_names()?;
        if let Some(name) = asked.rights.tasks.iter().flatten().find(|name| !known.contains(name)) {
            return Err(refused(&format!("no task is called `{name}`"), "the list of tasks has them all"));
        }
        if let Some(team) = asked.rights.team.as_ref().filter(|team| !settings.team.contains_key(*team)) {
            return Err(refused(
                &format!("no team is called `{team}`"),
                "describe it in sizewise.toml as [team.NAME]",
            ));
        }
        let operator =
            |key: &sizewise_store::KeyInfo| key.revoked_at.is_none() && key.rights.role == Role::Operator;
        let open = settings.oidc.is_none() && !self.store.keys()?.iter().any(operator);
        if open && asked.rights.role != Role::Operator {
            return Err(refused(
                "the first key closes the server, and nobody could run it from here any more",
                "make one for an operator first",
            ));
        }
        let key = self.store.acting_as(&who.actor()).create_key(name, &asked.rights)?;
        json(&json!({ "id": key.id, "key": key.key }))
    }

    /// Revokes a key, for good.
    ///
    /// # Errors
    /// Fails when there is no such key, or it is the one that asks.
    pub(crate) fn revoke_key(&self, id: &str, who: &Who) -> Result<Vec<u8>> {
        if who.id() == Some(id) {
            return Err(Error::Policy {
                message: "this is the key that you came in with".into(),
                code: Code::RequestInvalid,
                hint: "come in with another one to revoke it".into(),
            });
        }
        match self.store.acting_as(&who.actor()).revoke_key(id) {
            // Told apart from the key of whoever asks, which is well.
            Err(error @ sizewise_store::Error::UnknownKey { .. }) => {
                return Err(Error::Policy {
                    message: error.to_string(),
                    code: Code::RequestInvalid,
                    hint: "the list of keys has them all".into(),
                });
            }
            outcome => outcome?,
        }
        json(&json!({ "revoked": id }))
    }
}
