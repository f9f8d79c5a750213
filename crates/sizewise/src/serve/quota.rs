//! How much may a caller still ask for?
//!
//! Rates are buckets that fill evenly and hold a minute's worth: whoever was quiet may come at once, and over any longer time nobody
//! gets more than their rate. Tokens are counted after a call, when they are known: a bucket may go below empty, and what is passed on then waits for it;
//! what tasks hand on is counted and not held up.
//! Money is in purses, which say no before a call is made. All of it is of larger models and of requests; what a local tier answers
//! costs no tokens and no money.

use sizewise_contract::units::MicroUsd;
use sizewise_engine::{Ledger, Purse};
use sizewise_models::remote::{Money, Reserve};
use sizewise_store::{Holder, Rights};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Somebody who holds a key, with what they share.
#[derive(Debug)]
pub struct Member {
    /// Who it is.
    pub holder: Arc<Holder>,
    /// Their own limits, and those of their team.
    pub quotas: Vec<Arc<Quota>>,
}

/// The limits of a key or of a team.
#[derive(Debug)]
pub struct Quota {
    whose: String,
    requests: Option<Bucket>,
    purse: Arc<Counted>,
}

/// A purse that also counts tokens.
#[derive(Debug)]
struct Counted {
    ledger: Arc<Ledger>,
    tokens: Option<Bucket>,
}

/// What a quota said no to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exhausted {
    /// In words.
    pub(super) problem: String,
    /// From when on it makes sense to ask again.
    pub(super) wait: Duration,
}

impl Member {
    /// What it may do.
    #[must_use]
    pub fn rights(&self) -> &Rights {
        &self.holder.rights
    }

    /// Those who have to pay for larger models.
    pub(super) fn purses(&self) -> Vec<Purse> {
        let purse = |quota: &Arc<Quota>| Purse::of(Arc::<Counted>::clone(&quota.purse));
        self.quotas.iter().map(purse).collect()
    }

    /// Whether tokens are left for a call to a larger model.
    pub(super) fn check_tokens(&self, now: Instant) -> Result<(), Exhausted> {
        for quota in &self.quotas {
            quota.purse.tokens.as_ref().map_or(Ok(()), |tokens| {
                tokens.has_any(now).map_err(|wait| quota.exhausted("tokens", tokens, wait))
            })?;
        }
        Ok(())
    }

    /// Counts one request, of the key and of its team, or of neither.
    pub(super) fn take(&self, now: Instant) -> Result<(), Exhausted> {
        for (position, quota) in self.quotas.iter().enumerate() {
            let Some(requests) = &quota.requests else { continue };
            if let Err(wait) = requests.take(now) {
                let before = self.quotas.iter().take(position);
                before.filter_map(|quota| quota.requests.as_ref()).for_each(|bucket| bucket.add(1.0));
                return Err(quota.exhausted("requests", requests, wait));
            }
        }
        Ok(())
    }
}

impl Quota {
    /// The limits of `whose`, who pays from `ledger`.
    #[must_use]
    pub fn new(
        whose: impl Into<String>,
        ledger: Arc<Ledger>,
        (requests, tokens): (Option<u32>, Option<u32>),
    ) -> Arc<Self> {
        // As on the command line: 0 is no limit.
        let (requests, tokens) = (requests.filter(|most| *most > 0), tokens.filter(|most| *most > 0));
        let purse = Arc::new(Counted { ledger, tokens: tokens.map(Bucket::full) });
        Arc::new(Self { whose: whose.into(), requests: requests.map(Bucket::full), purse })
    }

    fn exhausted(&self, what: &str, bucket: &Bucket, wait: Duration) -> Exhausted {
        let problem = format!("{} has used up its {} {what} a minute", self.whose, bucket.per_minute);
        Exhausted { problem, wait }
    }
}

impl Money for Counted {
    fn reserve_at_hand(&self, provider: &str, most: MicroUsd) -> Option<u64> {
        self.ledger.reserve_at_hand(provider, most)
    }

    fn reserve(&self, provider: &str, most: MicroUsd) -> Reserve {
        self.ledger.reserve(provider, most)
    }

    fn settle(&self, reservation: u64, cost: MicroUsd) {
        self.ledger.settle(reservation, cost);
    }

    fn count(&self, tokens: u64) {
        if let Some(bucket) = &self.tokens {
            bucket.add(-(tokens as f64));
        }
    }
}

/// Holds up to a minute's worth, and fills evenly.
#[derive(Debug)]
struct Bucket {
    per_minute: u32,
    /// What is in it, and since when that is known.
    level: Mutex<(f64, Instant)>,
}

impl Bucket {
    fn full(per_minute: u32) -> Self {
        Self { per_minute, level: Mutex::new((f64::from(per_minute), Instant::now())) }
    }

    fn filled<T>(&self, now: Instant, then: impl FnOnce(&mut f64) -> T) -> T {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let (held, since) = &mut *level;
        let came = now.saturating_duration_since(*since).as_secs_f64() / 60.0 * f64::from(self.per_minute);
        *held = (*held + came).min(f64::from(self.per_minute));
        *since = (*since).max(now);
        then(held)
    }

    /// Until so much is in it.
    fn wait(&self, missing: f64) -> Duration {
        let seconds = missing * 60.0 / f64::from(self.per_minute.max(1));
        Duration::from_secs_f64(seconds.clamp(0.0, 3_600.0))
    }

    fn take(&self, now: Instant) -> Result<(), Duration> {
        self.filled(now, |held| {
            if *held < 1.0 {
                return Err(self.wait(1.0 - *held));
            }
            *held -= 1.0;
            Ok(())
        })
    }

    fn has_any(&self, now: Instant) -> Result<(), Duration> {
        self.filled(now, |held| if *held > 0.0 { Ok(()) } else { Err(self.wait(1.0 - *held)) })
    }

    fn add(&self, amount: f64) {
        self.level.lock().unwrap_or_else(PoisonError::into_inner).0 += amount;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;
    use sizewise_engine::Ledgers;
    use sizewise_store::Store;

    fn member(limits: &[(Option<u32>, Option<u32>)]) -> (tempfile::TempDir, Member) {
        let folder = tempfile::tempdir().unwrap();
        let ledgers = Ledgers::start(Arc::new(Store::open(folder.path()).unwrap()));
        let quota = |(number, limits): (usize, &(Option<u32>, Option<u32>))| {
            Quota::new(
                format!("number {number}"),
                ledgers.ledger(format!("key/{number}"), Vec::new()),
                *limits,
            )
        };
        let quotas = limits.iter().enumerate().map(quota).collect();
        let holder = Arc::new(Holder { id: "key-1".into(), rights: Rights::default() });
        (folder, Member { holder, quotas })
    }

    #[test]
    fn a_minutes_worth_may_come_at_once_and_then_as_fast_as_the_bucket_fills() {
        let (_folder, member) = member(&[(Some(60), None)]);
        let begun = Instant::now() + Duration::from_secs(1);
        assert!((0..60).all(|_| member.take(begun).is_ok()));
        let refused = member.take(begun).unwrap_err();
        assert_eq!(refused.problem, "number 0 has used up its 60 requests a minute");
        assert!(refused.wait <= Duration::from_secs(1) && refused.wait > Duration::from_millis(900));
        let later = begun + Duration::from_secs(2);
        assert_eq!([(); 4].map(|()| member.take(later).is_ok()), [true, true, false, false]);
        assert!(member.take(begun).is_err(), "a clock that goes back fills nothing");
    }

    #[test]
    fn what_the_team_refuses_is_not_taken_from_the_key() {
        let (_folder, member) = member(&[(Some(3), None), (Some(1), None)]);
        let now = Instant::now();
        assert!(member.take(now).is_ok());
        for _ in 0..5 {
            assert!(member.take(now).unwrap_err().problem.starts_with("number 1"));
        }
        let level = member.quotas[0].requests.as_ref().unwrap().level.lock().unwrap().0;
        assert!((1.9..2.1).contains(&level), "{level}");
    }

    #[test]
    fn tokens_are_counted_when_they_are_known_and_then_waited_for() {
        let (_folder, member) = member(&[(None, Some(600))]);
        let now = Instant::now();
        for purse in member.purses() {
            purse.money.count(1_200);
        }
        let refused = member.check_tokens(now).unwrap_err();
        assert!(refused.wait > Duration::from_secs(59) && refused.wait < Duration::from_secs(62));
        assert!(member.check_tokens(now + Duration::from_secs(61)).is_ok());
        assert!(member.take(now).is_ok(), "what a local tier answers needs no tokens");
    }
}
