//! How is independent work spread over the cores without changing its result?

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

/// Runs `count` jobs on up to `threads` threads and returns their results in order; none as soon as one gives none.
pub(crate) fn run<T: Send>(
    count: usize,
    threads: usize,
    job: impl Fn(usize) -> Option<T> + Sync,
) -> Option<Vec<T>> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<T>>> = Mutex::new((0..count).map(|_| None).collect());
    let work = || loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return;
        }
        let result = job(number);
        if result.is_none() {
            next.store(count, Ordering::Relaxed);
        }
        if let Ok(mut results) = results.lock()
            && let Some(slot) = results.get_mut(number)
        {
            *slot = result;
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(count).max(1) {
            scope.spawn(work);
        }
        work();
    });
    results.into_inner().ok()?.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_on_any_number_of_threads() {
        for threads in [1, 2, 7] {
            assert_eq!(run(20, threads, |i| Some(i * i)), Some((0..20).map(|i| i * i).collect()));
        }
        assert_eq!(run(20, 3, |i| (i != 11).then_some(i)), None);
    }
}
