//! How is money counted as fast as calls are made, and still never too much of it spent?
//!
//! Money is taken out of the store in blocks, on disk before the first call is paid from one, and handed out to calls from memory.
//! What calls did cost is put down twice a second, and a block that nobody uses goes back. Were the program to end at any moment, the
//! rest of its blocks would count as spent: a budget can seem used up too early, never too late.

use sizewise_contract::units::{MicroUsd, UnixMillis};
use sizewise_models::remote::{Money, Reserve};
use sizewise_store::{Limit, Settled, Store};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How many calls a block should pay for; less where the budget holds less.
const CALLS: [u64; 3] = [64, 8, 1];
/// Between two times of putting down.
const TICK: Duration = Duration::from_millis(500);

/// Everybody's money: puts down what calls have cost, of all payers together.
#[derive(Debug)]
pub struct Ledgers {
    store: Arc<Store>,
    all: Mutex<Vec<Weak<Ledger>>>,
    /// One at a time puts down.
    putting: Mutex<()>,
}

impl Ledgers {
    /// Those that `store` keeps. What they hold goes back when their last user is gone.
    #[must_use]
    pub fn start(store: Arc<Store>) -> Arc<Self> {
        let ledgers = Arc::new(Self { store, all: Mutex::default(), putting: Mutex::default() });
        let watched = Arc::downgrade(&ledgers);
        // Where no thread can be had, blocks are put down at the end alone.
        let _ = std::thread::Builder::new().name("ledger".into()).spawn(move || {
            loop {
                std::thread::sleep(TICK);
                match watched.upgrade() {
                    Some(ledgers) => ledgers.put_down(),
                    None => return,
                }
            }
        });
        ledgers
    }

    /// The money of one payer: a task, or whoever else has a purse of its own.
    #[must_use]
    pub fn ledger(self: &Arc<Self>, payer: impl Into<String>, limits: Vec<Limit>) -> Arc<Ledger> {
        let ledger = Arc::new(Ledger {
            ledgers: Arc::clone(self),
            payer: payer.into(),
            limits,
            state: Mutex::default(),
            writing: Mutex::default(),
        });
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| one.strong_count() > 0);
        all.push(Arc::downgrade(&ledger));
        ledger
    }

    /// Puts down what calls have cost so far, and gives back what nobody uses.
    pub fn put_down(&self) {
        let _one = self.putting.lock().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<Arc<Ledger>> = {
            let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter().filter_map(Weak::upgrade).collect()
        };
        let writing: Vec<MutexGuard<'_, ()>> = all.iter().map(|ledger| ledger.writing()).collect();
        let changes: Vec<(&Arc<Ledger>, Vec<Change>)> =
            all.iter().map(|ledger| (ledger, ledger.changes(false))).collect();
        let parts: Vec<Settled> = changes.iter().flat_map(|(_, changes)| changes).map(|c| c.0).collect();
        if self.store.settle_parts(&parts).is_err() {
            for (ledger, changes) in &changes {
                ledger.take_back(changes);
            }
        }
        drop(writing);
    }
}

/// The money of one payer.
#[derive(Debug)]
pub struct Ledger {
    ledgers: Arc<Ledgers>,
    payer: String,
    limits: Vec<Limit>,
    state: Mutex<State>,
    /// One at a time changes blocks in the store.
    writing: Mutex<()>,
}

/// What is to be put down of a block, and which one it is.
type Change = (Settled, (String, i64));

#[derive(Debug, Default)]
struct State {
    /// By provider and day since 1970.
    blocks: HashMap<(String, i64), Block>,
    calls: HashMap<u64, Call>,
    next: u64,
}

/// What is taken out of the store. `left + open + spent` is what the store holds for it.
#[derive(Debug)]
struct Block {
    /// Its number there.
    number: u64,
    left: MicroUsd,
    /// Handed out to calls under way.
    open: MicroUsd,
    /// Not put down yet.
    spent: MicroUsd,
    calls: u64,
    /// Whether a call was paid from it since the last tick.
    used: bool,
}

#[derive(Debug)]
struct Call {
    block: (String, i64),
    most: MicroUsd,
}

impl Ledger {
    /// Puts down what calls have cost so far, of this payer and all others.
    pub fn put_down(&self) {
        self.ledgers.put_down();
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out of memory what is to be put down; whoever asks holds [`Self::writing`].
    fn changes(&self, at_the_end: bool) -> Vec<Change> {
        let today = today();
        let mut changed = Vec::new();
        self.state().blocks.retain(|(provider, day), block| {
            let idle = block.open == MicroUsd(0) && (!std::mem::take(&mut block.used) || *day < today);
            let gone = idle || at_the_end;
            let cost = std::mem::take(&mut block.spent);
            let calls = std::mem::take(&mut block.calls);
            if gone || calls > 0 {
                let rest = if gone { block.open } else { block.left.saturating_add(block.open) };
                let settled = Settled { reservation: block.number, cost, calls, rest };
                changed.push((settled, (provider.clone(), *day)));
            }
            !gone
        });
        changed
    }

    /// What could not be put down waits for the next time; what is gone from memory stays taken out in the store.
    fn take_back(&self, changes: &[Change]) {
        let mut state = self.state();
        for (settled, key) in changes {
            if let Some(block) = state.blocks.get_mut(key) {
                block.spent = block.spent.saturating_add(settled.cost);
                block.calls += settled.calls;
            }
        }
    }

    /// Gives back what no call under way needs.
    fn give_back(&self) {
        let _one = self.writing();
        let mut changes = Vec::new();
        for (key, block) in &mut self.state().blocks {
            let (cost, calls) = (std::mem::take(&mut block.spent), std::mem::take(&mut block.calls));
            block.left = MicroUsd(0);
            changes.push((Settled { reservation: block.number, cost, calls, rest: block.open }, key.clone()));
        }
        let parts: Vec<Settled> = changes.iter().map(|(settled, _)| *settled).collect();
        if self.ledgers.store.settle_parts(&parts).is_err() {
            self.take_back(&changes);
        }
    }
}

impl Money for Ledger {
    fn reserve_at_hand(&self, provider: &str, most: MicroUsd) -> Option<u64> {
        let key = (provider.to_owned(), today());
        let mut state = self.state();
        let block = state.blocks.get_mut(&key).filter(|block| block.left >= most)?;
        block.left.0 -= most.0;
        block.open = block.open.saturating_add(most);
        block.used = true;
        let number = state.next;
        state.next += 1;
        state.calls.insert(number, Call { block: key, most });
        Some(number)
    }

    fn reserve(&self, provider: &str, most: MicroUsd) -> Reserve {
        for last in [false, true] {
            {
                let _one = self.writing();
                // Somebody else may have fetched a block meanwhile.
                if let Some(number) = self.reserve_at_hand(provider, most) {
                    return Reserve::Held(number);
                }
                let key = (provider.to_owned(), today());
                let day = UnixMillis::of_day(key.1).day();
                let known = self.state().blocks.get(&key).map(|block| block.number);
                for calls in CALLS {
                    let amount = MicroUsd(most.0.saturating_mul(calls));
                    let payer = (self.payer.as_str(), provider, day.as_str());
                    match self.ledgers.store.enlarge_money(payer, (known, amount), &self.limits) {
                        Ok(None) => {}
                        Err(_) => return Reserve::Broken,
                        Ok(Some(number)) => {
                            let mut state = self.state();
                            let block = state.blocks.entry(key.clone()).or_insert(Block {
                                number,
                                left: MicroUsd(0),
                                open: MicroUsd(0),
                                spent: MicroUsd(0),
                                calls: 0,
                                used: true,
                            });
                            // What was given back to the last micro-dollar has a new number.
                            block.number = number;
                            block.left = block.left.saturating_add(amount);
                            break;
                        }
                    }
                }
                if let Some(number) = self.reserve_at_hand(provider, most) {
                    return Reserve::Held(number);
                }
            }
            if last {
                break;
            }
            // What other blocks hold without need may be what is missing.
            self.give_back();
        }
        Reserve::Spent
    }

    fn settle(&self, reservation: u64, cost: MicroUsd) {
        let mut state = self.state();
        let Some(Call { block, most }) = state.calls.remove(&reservation) else { return };
        let Some(block) = state.blocks.get_mut(&block) else { return };
        block.open.0 = block.open.0.saturating_sub(most.0);
        // A provider that charges more than the bound has broken it; the truth is put down all the same.
        let rest = block.left.saturating_add(most);
        block.left = MicroUsd(rest.0.saturating_sub(cost.0));
        block.spent = block.spent.saturating_add(cost);
        block.calls += u64::from(cost > MicroUsd(0));
        block.used = true;
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let parts: Vec<Settled> = self.changes(true).into_iter().map(|(settled, _)| settled).collect();
        let _ = self.ledgers.store.settle_parts(&parts);
    }
}

fn today() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(now.as_millis()).unwrap_or(i64::MAX)).day_number()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

    use super::*;
    use sizewise_store::Period;

    fn ledger(store: &Arc<Store>, most: u64) -> Arc<Ledger> {
        let limits = vec![Limit { period: Period::Total, most: MicroUsd(most) }];
        Ledgers::start(Arc::clone(store)).ledger("desk", limits)
    }

    fn spent(store: &Store) -> (u64, u64) {
        let all = store.spending().unwrap();
        (all.iter().map(|spent| spent.micro_usd.0).sum(), all.iter().map(|spent| spent.calls).sum())
    }

    #[test]
    fn calls_are_paid_from_memory_and_put_down_to_the_last_micro_dollar() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let ledger = ledger(&store, 100_000);
        assert_eq!(ledger.reserve_at_hand("primary", MicroUsd(100)), None);
        let Reserve::Held(first) = ledger.reserve("primary", MicroUsd(100)) else { panic!("there is money") };
        assert_eq!(spent(&store), (6_400, 0), "a block is taken out before the first call");
        let second = ledger.reserve_at_hand("primary", MicroUsd(100)).unwrap();
        ledger.settle(first, MicroUsd(70));
        ledger.settle(first, MicroUsd(70));
        ledger.settle(second, MicroUsd(0));
        ledger.put_down();
        assert_eq!(spent(&store), (6_400, 1), "the rest of the block is still held");
        ledger.put_down();
        assert_eq!(spent(&store), (70, 1), "nobody used it since");
        drop(ledger);
        assert_eq!(spent(&store), (70, 1));
    }

    #[test]
    fn a_program_that_ends_leaves_its_open_calls_as_spent() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let first = ledger(&store, 1_000);
        let Reserve::Held(done) = first.reserve("primary", MicroUsd(300)) else { panic!("there is money") };
        let Reserve::Held(_) = first.reserve("primary", MicroUsd(300)) else { panic!("there is money") };
        first.settle(done, MicroUsd(10));
        drop(first);
        assert_eq!(spent(&store), (310, 1));
        let second = ledger(&store, 1_000);
        assert_eq!(second.reserve("primary", MicroUsd(691)), Reserve::Spent);
        let Reserve::Held(_) = second.reserve("primary", MicroUsd(690)) else { panic!("so much is left") };
        // The program is killed: nothing is put down any more.
        std::mem::forget(second);
        assert_eq!(spent(&store).0, 1_000);
    }

    #[test]
    fn what_one_provider_holds_without_need_pays_another() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let ledger = ledger(&store, 1_000);
        let Reserve::Held(call) = ledger.reserve("primary", MicroUsd(100)) else { panic!("there is money") };
        ledger.settle(call, MicroUsd(100));
        assert_eq!(spent(&store).0, 800, "eight calls at once");
        let Reserve::Held(_) = ledger.reserve("second", MicroUsd(900)) else { panic!("it is only held") };
        assert_eq!(ledger.reserve("second", MicroUsd(1)), Reserve::Spent);
    }

    #[test]
    fn callers_who_come_together_never_get_more_than_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let ledgers = [ledger(&store, 20_000), ledger(&store, 20_000)];
        let taken: u64 = std::thread::scope(|scope| {
            let caller = |number: u64| {
                let ledger = &ledgers[(number % 2) as usize];
                let mut taken = 0;
                for call in 0..400 {
                    let most = 7 + (call * 13 + number * 5) % 90;
                    let held = ledger
                        .reserve_at_hand("primary", MicroUsd(most))
                        .map_or_else(|| ledger.reserve("primary", MicroUsd(most)), Reserve::Held);
                    let Reserve::Held(held) = held else { continue };
                    let cost = if call % 3 == 0 { most } else { most / 2 };
                    ledger.settle(held, MicroUsd(cost));
                    taken += cost;
                }
                taken
            };
            let callers: Vec<_> = (0..8).map(|number| scope.spawn(move || caller(number))).collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).sum()
        });
        drop(ledgers);
        // The thread that puts down may be at it just now, and is then the last user.
        let begun = std::time::Instant::now();
        while spent(&store).0 != taken && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(spent(&store).0, taken);
        assert!(taken <= 20_000 && taken > 19_000, "{taken}");
    }
}
