//! What if an answer takes longer than usual: who else is asked, and whose answer counts?
//!
//! After a delay that the provider's settings name, the same question goes out once more: to the provider that stands in, or to the
//! same one where nobody does. The first good answer counts and the other call is cut off. A second call is paid for as a retry is, out
//! of the tenth that first calls have earned, and has a reservation of its own; what was cut off counts as spent.

use super::provider::Provider;
use std::{future::Future, pin::pin, time::Duration};

/// The second call that may be made.
#[derive(Debug)]
pub(super) struct Hedge<'t> {
    first: &'t Provider,
    second: &'t Provider,
    after: Duration,
}

impl<'t> Hedge<'t> {
    /// Asks `second` as well when `first` takes long; none where the settings say nothing of it.
    pub(super) fn of(first: &'t Provider, second: &'t Provider) -> Option<Self> {
        first.hedge_after().map(|after| Self { first, second, after })
    }

    /// Waits for the first call, or for both once the first takes long, until one is good; a call that is not needed is cut off.
    ///
    /// Returns what came of the first and of the second call, as far as each came to an end.
    pub(super) async fn race<T>(
        &self,
        first: impl Future<Output = T>,
        second: impl Future<Output = T>,
        good: impl Fn(&T) -> bool,
    ) -> (Option<T>, Option<T>) {
        let may = || {
            let may = self.second.has_room() && self.first.breaker().pays_retry();
            if may {
                self.second.counts_hedge();
            }
            may
        };
        second_after((first, second), self.after, may, good).await
    }
}

async fn second_after<T>(
    (first, second): (impl Future<Output = T>, impl Future<Output = T>),
    after: Duration,
    may: impl FnOnce() -> bool,
    good: impl Fn(&T) -> bool,
) -> (Option<T>, Option<T>) {
    let mut first = pin!(first);
    if let Ok(done) = tokio::time::timeout(after, first.as_mut()).await {
        return (Some(done), None);
    }
    if !may() {
        return (Some(first.await), None);
    }
    let mut second = pin!(second);
    tokio::select! {
        done = first.as_mut() => match good(&done) {
            true => (Some(done), None),
            false => (Some(done), Some(second.await)),
        },
        done = second.as_mut() => match good(&done) {
            true => (None, Some(done)),
            false => (Some(first.await), Some(done)),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "a test")]

    use super::*;
    use crate::remote::ProviderSettings;
    use std::cell::Cell;
    use tokio::time::{Instant, sleep};

    const AFTER: Duration = Duration::from_millis(100);

    async fn says(after_ms: u64, what: Result<u8, u8>) -> Result<u8, u8> {
        sleep(Duration::from_millis(after_ms)).await;
        what
    }

    type Both = (Option<Result<u8, u8>>, Option<Result<u8, u8>>);

    async fn both(
        first: (u64, Result<u8, u8>),
        second: (u64, Result<u8, u8>),
        may: bool,
    ) -> (Both, u128, bool) {
        let (begun, asked) = (Instant::now(), Cell::new(false));
        let second = async {
            asked.set(true);
            says(second.0, second.1).await
        };
        let came = second_after((says(first.0, first.1), second), AFTER, || may, Result::is_ok).await;
        (came, begun.elapsed().as_millis(), asked.get())
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_is_asked_after_the_delay_alone_and_the_first_good_answer_counts() {
        // What the first and the second call do, whether a second may be made; what comes of it and after how long.
        let cases = [
            ((99, Ok(1)), (0, Ok(2)), true, ((Some(Ok(1)), None), 99, false)),
            ((99, Err(1)), (0, Ok(2)), true, ((Some(Err(1)), None), 99, false)),
            ((900, Ok(1)), (50, Ok(2)), true, ((None, Some(Ok(2))), 150, true)),
            ((120, Ok(1)), (50, Ok(2)), true, ((Some(Ok(1)), None), 120, true)),
            ((900, Ok(1)), (50, Err(2)), true, ((Some(Ok(1)), Some(Err(2))), 900, true)),
            ((120, Err(1)), (50, Ok(2)), true, ((Some(Err(1)), Some(Ok(2))), 150, true)),
            ((900, Ok(1)), (50, Ok(2)), false, ((Some(Ok(1)), None), 900, false)),
        ];
        for (first, second, may, expected) in cases {
            assert_eq!(both(first, second, may).await, expected, "{first:?} {second:?} {may}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn second_calls_stay_within_a_tenth_of_the_first_ones_and_go_nowhere_that_rests() {
        let settings = ProviderSettings {
            hedge_after_ms: Some(100),
            ..serde_json::from_str(r#"{ "url": "http://127.0.0.1:9", "model": "m" }"#).expect("settings")
        };
        let provider = |name: &str| Provider::new(name, &settings, None).expect("a provider");
        let (first, second, resting) = (provider("first"), provider("second"), provider("resting"));
        resting.breaker().hold(std::time::Instant::now() + Duration::from_secs(60));
        let race = async |second: &Provider| {
            let hedge = Hedge::of(&first, second).expect("it hedges");
            hedge.race(says(900, Ok(1)), says(900, Ok(2)), Result::is_ok).await
        };
        race(&resting).await;
        assert_eq!(resting.state().hedges, 0);
        while first.breaker().pays_retry() {}
        for _ in 0..100 {
            first.breaker().earn();
            race(&second).await;
        }
        assert_eq!(second.state().hedges, 10);
    }
}
