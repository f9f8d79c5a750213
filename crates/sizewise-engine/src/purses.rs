//! Who all must be able to pay for a call?
//!
//! The task, the key, its team, the provider's own limit: each has a purse, and a call is made when every one of them holds it. What
//! one purse refuses is put back into those that were asked before it.

use sizewise_contract::units::MicroUsd;
use sizewise_models::remote::{Money, Reserve};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// One of those who pay.
#[derive(Debug, Clone)]
pub struct Purse {
    /// The only provider that it pays for; none where it pays for all.
    pub provider: Option<String>,
    /// Its money.
    pub money: Arc<dyn Money>,
}

impl Purse {
    /// A purse for calls to anybody.
    #[must_use]
    pub fn of(money: Arc<dyn Money>) -> Self {
        Self { provider: None, money }
    }
}

/// Several purses, each of which must hold a call.
#[derive(Debug)]
pub struct Purses {
    all: Vec<Purse>,
    /// What was taken out of which purse, by call.
    open: Mutex<HashMap<u64, Vec<(usize, u64)>>>,
    next: AtomicU64,
}

impl Purses {
    /// These together; one alone stays what it is.
    #[must_use]
    pub fn together(mut all: Vec<Purse>) -> Arc<dyn Money> {
        match all.as_slice() {
            [Purse { provider: None, .. }] => all.swap_remove(0).money,
            _ => Arc::new(Self { all, open: Mutex::default(), next: AtomicU64::new(0) }),
        }
    }

    /// Asks one purse after the other.
    fn take(&self, provider: &str, ask: impl Fn(&Arc<dyn Money>) -> Reserve) -> Reserve {
        let mut taken = Vec::with_capacity(self.all.len());
        for (position, purse) in self.all.iter().enumerate() {
            if purse.provider.as_ref().is_some_and(|only| only != provider) {
                continue;
            }
            match ask(&purse.money) {
                Reserve::Held(number) => taken.push((position, number)),
                refused => {
                    self.settle_parts(&taken, MicroUsd(0));
                    return refused;
                }
            }
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(number, taken);
        Reserve::Held(number)
    }

    fn settle_parts(&self, taken: &[(usize, u64)], cost: MicroUsd) {
        for (position, number) in taken {
            if let Some(purse) = self.all.get(*position) {
                purse.money.settle(*number, cost);
            }
        }
    }
}

impl Money for Purses {
    fn reserve_at_hand(&self, provider: &str, most: MicroUsd) -> Option<u64> {
        let ask = |money: &Arc<dyn Money>| {
            money.reserve_at_hand(provider, most).map_or(Reserve::Spent, Reserve::Held)
        };
        match self.take(provider, ask) {
            Reserve::Held(number) => Some(number),
            Reserve::Spent | Reserve::Broken => None,
        }
    }

    fn reserve(&self, provider: &str, most: MicroUsd) -> Reserve {
        self.take(provider, |money| {
            let at_hand = money.reserve_at_hand(provider, most);
            at_hand.map_or_else(|| money.reserve(provider, most), Reserve::Held)
        })
    }

    fn settle(&self, reservation: u64, cost: MicroUsd) {
        let taken = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&reservation);
        self.settle_parts(&taken.unwrap_or_default(), cost);
    }

    fn count(&self, tokens: u64) {
        for purse in &self.all {
            purse.money.count(tokens);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

    use super::*;
    use crate::Ledgers;
    use sizewise_store::{Limit, Period, Store};

    fn spent(store: &Store, payer: &str) -> u64 {
        let all = store.spending().unwrap();
        all.iter().filter(|spent| spent.payer == payer).map(|spent| spent.micro_usd.0).sum()
    }

    #[test]
    fn a_call_is_paid_by_all_or_by_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let ledgers = Ledgers::start(Arc::clone(&store));
        let purse = |payer: &str, most: u64| {
            let limit = Limit { period: Period::Total, most: MicroUsd(most) };
            Purse::of(ledgers.ledger(payer, vec![limit]))
        };
        let house = Purse { provider: Some("house".into()), ..purse("provider/house", 50) };
        let money = Purses::together(vec![purse("desk", 1_000), purse("key/a", 300), house]);
        let held = |provider: &str, most: u64| money.reserve(provider, MicroUsd(most));
        let Reserve::Held(first) = held("primary", 200) else { panic!("there is money") };
        assert_eq!(held("primary", 101), Reserve::Spent, "the key has 100 left");
        assert_eq!(held("house", 51), Reserve::Spent, "the provider's own limit");
        let Reserve::Held(second) = held("house", 50) else { panic!("there is money") };
        money.settle(first, MicroUsd(150));
        money.settle(first, MicroUsd(150));
        money.settle(second, MicroUsd(20));
        drop(money);
        ledgers.put_down();
        for (payer, expected) in [("desk", 170), ("key/a", 170), ("provider/house", 20)] {
            assert_eq!(spent(&store, payer), expected, "{payer}");
        }
    }
}
