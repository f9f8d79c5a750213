//! Who is it that presents a key, and whose limits are theirs?
//!
//! A key is one of ours, or a token of an identity provider. Each holder has a purse and rates of its own, and shares those of its team. Both live as long as their limits stay as they are, so that
//! nobody starts anew because somebody else's key was changed.

use crate::{
    clock,
    oidc::Oidc,
    project::TeamSettings,
    providers::limits,
    serve::{KeyCheck, Member, Quota},
};
use sizewise_engine::Ledgers;
use sizewise_store::{Holder, KeyRing, Store};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

/// Everybody who may call a server.
#[derive(Debug)]
pub(crate) struct Members {
    ring: KeyRing,
    oidc: Option<Arc<Oidc>>,
    ledgers: Arc<Ledgers>,
    teams: BTreeMap<String, Arc<Quota>>,
    /// Those who have called, by key.
    known: RwLock<HashMap<String, Arc<Member>>>,
}

impl Members {
    /// The holders of these keys and of an identity provider's tokens, in these teams.
    pub(crate) fn new(
        (ring, oidc): (KeyRing, Option<Arc<Oidc>>),
        ledgers: Arc<Ledgers>,
        teams: &BTreeMap<String, TeamSettings>,
    ) -> Self {
        let quota = |(name, team): (&String, &TeamSettings)| {
            let ledger = ledgers.ledger(format!("team/{name}"), limits(team.budget));
            let rates = (team.requests_per_minute, team.tokens_per_minute);
            (name.clone(), Quota::new(format!("team `{name}`"), ledger, rates))
        };
        let teams = teams.iter().map(quota).collect();
        Self { ring, oidc, ledgers, teams, known: RwLock::default() }
    }

    /// Reads the keys again.
    pub(crate) fn reload(&self, store: &Store) -> Result<(), sizewise_store::Error> {
        self.ring.reload(store)
    }

    /// Fetches the keys of the identity provider where it is time to. May wait for the network.
    ///
    /// # Errors
    /// Says why they cannot be had.
    pub(crate) fn refresh(&self) -> Result<(), String> {
        self.oidc.as_ref().map_or(Ok(()), |oidc| oidc.refresh())
    }

    fn known(&self, holder: Arc<Holder>) -> Option<Arc<Member>> {
        let same = |member: &&Arc<Member>| member.holder == holder;
        if let Some(known) =
            self.known.read().unwrap_or_else(PoisonError::into_inner).get(&holder.id).filter(same)
        {
            return Some(Arc::clone(known));
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&holder.id).filter(same) {
            return Some(Arc::clone(known));
        }
        let rights = &holder.rights;
        let ledger = self.ledgers.ledger(format!("key/{}", holder.id), limits(rights.budget));
        let rates = (rights.requests_per_minute, rights.tokens_per_minute);
        let mut quotas = vec![Quota::new("the API key", ledger, rates)];
        if let Some(team) = &rights.team {
            // A team that is not described may limit more than nothing would: nobody is let in by a slip of the pen.
            quotas.push(Arc::clone(self.teams.get(team)?));
        }
        let member = Arc::new(Member { holder: Arc::clone(&holder), quotas });
        known.insert(holder.id.clone(), Arc::clone(&member));
        Some(member)
    }
}

impl KeyCheck for Members {
    fn any(&self) -> bool {
        self.oidc.is_some() || self.ring.any()
    }

    fn verify(&self, key: &str) -> Option<Arc<Member>> {
        let holder = match &self.oidc {
            // A key of ours has no dots, a token has two.
            Some(oidc) if key.contains('.') => oidc.verify(key, clock::now().0.div_euclid(1_000)),
            _ => self.ring.verify(key),
        };
        holder.and_then(|holder| self.known(holder))
    }

    fn by_id(&self, id: &str) -> Option<Arc<Member>> {
        self.ring.holder(id).and_then(|holder| self.known(holder))
    }

    fn member(&self, holder: Arc<Holder>) -> Option<Arc<Member>> {
        self.known(holder)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;
    use sizewise_store::Rights;

    #[test]
    fn limits_stay_what_they_are_until_they_are_changed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let rights = |team: &str| Rights { team: Some(team.into()), ..Rights::default() };
        let key = store.create_key("first", &rights("care")).unwrap();
        let other = store.create_key("second", &rights("nobody")).unwrap();
        let teams = BTreeMap::from([("care".to_owned(), TeamSettings::default())]);
        let ledgers = Ledgers::start(Arc::clone(&store));
        let members = Members::new((store.key_ring().unwrap(), None), ledgers, &teams);
        let first = members.verify(&key.key).unwrap();
        assert_eq!(first.quotas.len(), 2);
        assert!(members.verify(&other.key).is_none(), "its team is not described");
        store.revoke_key(&other.id).unwrap();
        members.reload(&store).unwrap();
        assert!(Arc::ptr_eq(&first, &members.verify(&key.key).unwrap()), "its rights are the same");
        store.change_key(&key.id, &Rights::default()).unwrap();
        members.reload(&store).unwrap();
        assert_eq!(members.verify(&key.key).unwrap().quotas.len(), 1);
    }
}
