//! When is a provider left alone, and when is it tried again?
//!
//! After several failures in a row nothing is sent for a while; then one call alone goes ahead to see, and the others wait for what
//! becomes of it. Whoever is asked to wait waits for everybody. Retries are paid from what first calls have earned, so that a
//! provider in trouble is not given a tenth more work than it has.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Failures in a row after which a provider is left alone.
const FAILURES: u32 = 5;
/// For how long, the first time; each further time it is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// For how long at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Between two looks while one call has gone ahead to see.
const LOOK: Duration = Duration::from_millis(100);
/// What a first call earns towards a retry, in tenths.
const EARNED: u32 = 1;
/// What a retry costs, in tenths.
const RETRY: u32 = 10;
/// What may be saved at most, in tenths; also what one begins with.
const SAVED: u32 = 100;

/// The state of one provider.
#[derive(Debug)]
pub(super) struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    failures: u32,
    pauses: u32,
    /// Nothing is sent before.
    until: Option<Instant>,
    /// One call is under way to see.
    probing: bool,
    savings: u32,
}

/// Leave to call, to be given back with what became of it.
#[derive(Debug)]
pub(super) struct Leave<'a> {
    breaker: &'a Breaker,
    probe: bool,
    told: bool,
}

impl Breaker {
    pub(super) fn new() -> Self {
        let state = State { failures: 0, pauses: 0, until: None, probing: false, savings: SAVED };
        Self { state: Mutex::new(state) }
    }

    /// Leave to call now.
    ///
    /// # Errors
    /// While the provider is left alone: when to ask again.
    pub(super) fn leave(&self, now: Instant) -> Result<Leave<'_>, Instant> {
        let mut state = self.state();
        let probe = match state.until {
            Some(until) if now < until => return Err(until),
            Some(_) if state.probing => return Err(now + LOOK),
            Some(_) => true,
            None => false,
        };
        state.probing |= probe;
        Ok(Leave { breaker: self, probe, told: false })
    }

    /// Whether calls are let through.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.state().until.is_some_and(|until| now < until)
    }

    /// Counts a first call towards the retries.
    pub(super) fn earn(&self) {
        let mut state = self.state();
        state.savings = (state.savings + EARNED).min(SAVED);
    }

    /// Whether a retry is paid for; takes its price.
    pub(super) fn pays_retry(&self) -> bool {
        let mut state = self.state();
        let paid = state.savings >= RETRY;
        if paid {
            state.savings -= RETRY;
        }
        paid
    }

    /// Leaves the provider alone until a moment, as it asked.
    pub(super) fn hold(&self, until: Instant) {
        let mut state = self.state();
        if state.until.is_none_or(|known| known < until) {
            state.until = Some(until);
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leave<'_> {
    /// It answered, be it with a refusal of this input.
    pub(super) fn worked(mut self) {
        self.told = true;
        let mut state = self.breaker.state();
        // A call from before says nothing of a pause that began after it.
        if self.probe || state.until.is_none() {
            (state.failures, state.pauses, state.until) = (0, 0, None);
        }
        state.probing &= !self.probe;
    }

    /// It failed in a way that says something about the next call.
    pub(super) fn failed(mut self, now: Instant) {
        self.told = true;
        let mut state = self.breaker.state();
        state.failures += 1;
        state.probing &= !self.probe;
        // Those that were under way when a pause began do not make it longer.
        if self.probe || (state.until.is_none() && state.failures >= FAILURES) {
            let pause = FIRST_PAUSE.saturating_mul(1 << state.pauses.min(8)).min(LONGEST_PAUSE);
            state.pauses += 1;
            state.until = Some(state.until.map_or(now + pause, |known| known.max(now + pause)));
        }
    }
}

impl Drop for Leave<'_> {
    /// A call that was given up says nothing; another may go to see.
    fn drop(&mut self) {
        if self.probe && !self.told {
            self.breaker.state().probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    #[test]
    fn after_failures_in_a_row_one_call_alone_goes_to_see() {
        let (breaker, now) = (Breaker::new(), Instant::now());
        for _ in 0..FAILURES {
            breaker.leave(now).unwrap().failed(now);
        }
        assert_eq!(breaker.leave(now).unwrap_err(), now + FIRST_PAUSE);
        assert!(breaker.is_open(now));
        let later = now + FIRST_PAUSE;
        let probe = breaker.leave(later).unwrap();
        assert_eq!(breaker.leave(later).unwrap_err(), later + LOOK, "a second one waits");
        probe.failed(later);
        assert!(breaker.leave(later + FIRST_PAUSE).is_err(), "the pause has doubled");
        let again = later + 2 * FIRST_PAUSE;
        drop(breaker.leave(again).unwrap());
        breaker.leave(again).unwrap().worked();
        assert!(breaker.leave(again).is_ok() && breaker.leave(again).is_ok());
    }

    #[test]
    fn a_success_in_between_forgets_failures() {
        let (breaker, now) = (Breaker::new(), Instant::now());
        for _ in 0..100 {
            for _ in 1..FAILURES {
                breaker.leave(now).unwrap().failed(now);
            }
            breaker.leave(now).unwrap().worked();
        }
        assert!(!breaker.is_open(now));
    }

    #[test]
    fn calls_that_were_under_way_neither_lengthen_a_pause_nor_end_it() {
        let (breaker, now) = (Breaker::new(), Instant::now());
        let mut under_way: Vec<_> = (0..20).map(|_| breaker.leave(now).unwrap()).collect();
        let late = under_way.pop().unwrap();
        under_way.into_iter().for_each(|leave| leave.failed(now));
        assert_eq!(breaker.leave(now).unwrap_err(), now + FIRST_PAUSE);
        late.worked();
        assert!(breaker.is_open(now));
        breaker.hold(now + 10 * FIRST_PAUSE);
        assert_eq!(breaker.leave(now).unwrap_err(), now + 10 * FIRST_PAUSE);
    }

    #[test]
    fn retries_stay_within_a_tenth_of_the_calls() {
        let breaker = Breaker::new();
        while breaker.pays_retry() {}
        let mut retries = 0;
        for _ in 0..1_000 {
            breaker.earn();
            retries += u32::from(breaker.pays_retry());
        }
        assert_eq!(retries, 100);
    }
}
