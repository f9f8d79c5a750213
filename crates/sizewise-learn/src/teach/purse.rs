//! How is no more spent than was allowed, whatever happens between a call and its bill?
//!
//! Before a call the most that it can cost is taken out and written down, durably; after it, what it did cost. What was taken
//! out and never settled, because the program or the machine stopped, counts as spent. All is integers.

use crate::error::{Error, Result, at};
use serde::{Deserialize, Serialize};
use sizewise_contract::units::MicroUsd;
use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// One line of the ledger.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// Taken out for a call.
    Reserved { call: u64, micro_usd: MicroUsd },
    /// What the call cost.
    Settled { call: u64, micro_usd: MicroUsd },
}

/// The money for one task's teacher, and the file that says where it went.
#[derive(Debug)]
pub struct Purse {
    path: PathBuf,
    budget: MicroUsd,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    /// Settled, and reserved by earlier runs that never settled.
    spent: MicroUsd,
    open: HashMap<u64, MicroUsd>,
    next: u64,
}

/// Money taken out for one call.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Reserved {
    call: u64,
    /// How much.
    pub amount: MicroUsd,
}

impl Purse {
    /// Opens the ledger, with what earlier runs have spent.
    ///
    /// # Errors
    /// Fails when the file cannot be read or written, or another program has it open.
    pub fn open(path: &Path, budget: MicroUsd) -> Result<Self> {
        let mut file = File::options().create(true).read(true).append(true).open(path).map_err(at(path))?;
        if file.try_lock().is_err() {
            return Err(Error::Unusable {
                path: path.to_owned(),
                problem: "another program spends from it".into(),
                hint: Some("wait until that `sizewise teach` is done".into()),
            });
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(at(path))?;
        if text.last().is_some_and(|end| *end != b'\n') {
            // A write that was cut off: the call it was for was never made, or counts as reserved.
            file.write_all(b"\n").map_err(at(path))?;
        }
        let (spent, next) = read(&text);
        file.sync_all().map_err(at(path))?;
        Ok(Self {
            path: path.to_owned(),
            budget,
            state: Mutex::new(State { file, spent, open: HashMap::new(), next }),
        })
    }

    /// Takes out the most that a call can cost; none when the budget does not hold it.
    ///
    /// # Errors
    /// Fails when the ledger cannot be written; then the call must not be made.
    pub fn reserve(&self, most: MicroUsd) -> Result<Option<Reserved>> {
        let mut state = self.state();
        let committed = state.open.values().fold(state.spent, |sum, open| sum.saturating_add(*open));
        if committed.saturating_add(most) > self.budget {
            return Ok(None);
        }
        let call = state.next;
        state.next += 1;
        self.write(&mut state, &Line::Reserved { call, micro_usd: most }, true)?;
        state.open.insert(call, most);
        Ok(Some(Reserved { call, amount: most }))
    }

    /// Writes down what a call cost. A server that charges more than the bound has broken it; the truth is written all the same.
    ///
    /// # Errors
    /// Fails when the ledger cannot be written; the reservation then counts as spent.
    pub fn settle(&self, reserved: Reserved, cost: MicroUsd) -> Result<()> {
        let mut state = self.state();
        // Where this line is lost, the reservation stands: no need to wait for the disk.
        self.write(&mut state, &Line::Settled { call: reserved.call, micro_usd: cost }, false)?;
        state.open.remove(&reserved.call);
        state.spent = state.spent.saturating_add(cost);
        Ok(())
    }

    /// What is spent, with what is taken out at the moment.
    #[must_use]
    pub fn spent(&self) -> MicroUsd {
        let state = self.state();
        state.open.values().fold(state.spent, |sum, open| sum.saturating_add(*open))
    }

    /// Whether calls are under way.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        !self.state().open.is_empty()
    }

    /// What may be spent in all.
    #[must_use]
    pub fn budget(&self) -> MicroUsd {
        self.budget
    }

    fn write(&self, state: &mut State, line: &Line, durable: bool) -> Result<()> {
        let mut text = serde_json::to_vec(line).map_err(|_| Error::Internal("a line has a JSON form"))?;
        text.push(b'\n');
        let written = state.file.write_all(&text);
        written.and_then(|()| if durable { state.file.sync_data() } else { Ok(()) }).map_err(at(&self.path))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a ledger says is spent, and the number of its next call.
fn read(text: &[u8]) -> (MicroUsd, u64) {
    let (mut calls, mut next): (HashMap<u64, MicroUsd>, u64) = (HashMap::new(), 0);
    for line in text.split(|byte| *byte == b'\n') {
        match serde_json::from_slice::<Line>(line) {
            Ok(Line::Reserved { call, micro_usd } | Line::Settled { call, micro_usd }) => {
                calls.insert(call, micro_usd);
                next = next.max(call.saturating_add(1));
            }
            Err(_) => continue,
        }
    }
    (calls.values().fold(MicroUsd(0), |sum, cost| sum.saturating_add(*cost)), next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sizewise_contract::units::{Prices, dollars};

    #[test]
    fn dollars_are_read_exactly_and_prices_round_up() {
        for (text, expected) in [
            ("5.00", Some(5_000_000)),
            ("$0.15", Some(150_000)),
            (".000001", Some(1)),
            ("7", Some(7_000_000)),
            ("0.0000001", None),
            ("-1", None),
            ("1e3", None),
            (".", None),
            ("", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(dollars(text), expected.map(MicroUsd), "{text}");
        }
        let prices = Prices { read: MicroUsd(150_000), written: MicroUsd(600_000) };
        assert_eq!(prices.of(1_000_000, 0), MicroUsd(150_000));
        assert_eq!(prices.of(1, 0), MicroUsd(1));
        assert_eq!(prices.of(100, 10), MicroUsd(21));
        let endless = Prices { read: MicroUsd(u64::MAX), written: MicroUsd(u64::MAX) };
        assert_eq!(endless.of(u64::MAX, u64::MAX), MicroUsd(u64::MAX));
        assert!(Prices::default().is_free());
    }

    #[test]
    fn two_programs_do_not_spend_from_one_purse() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spend.jsonl");
        let purse = Purse::open(&path, MicroUsd(10)).unwrap();
        assert!(Purse::open(&path, MicroUsd(10)).unwrap_err().to_string().contains("another program"));
        drop(purse);
        Purse::open(&path, MicroUsd(10)).unwrap();
    }

    #[test]
    fn many_threads_together_stay_within_the_budget() {
        let folder = tempfile::tempdir().unwrap();
        let purse = Purse::open(&folder.path().join("spend.jsonl"), MicroUsd(1_000)).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while let Some(reserved) = purse.reserve(MicroUsd(90)).unwrap() {
                        assert!(purse.spent() <= purse.budget());
                        purse.settle(reserved, MicroUsd(30)).unwrap();
                    }
                });
            }
        });
        assert!(purse.spent() <= MicroUsd(1_000) && purse.spent() > MicroUsd(900), "{}", purse.spent());
    }

    /// What happens next: a call begins, the call at a place ends, or everything stops and some bytes that were not yet
    /// durable are lost.
    #[derive(Debug, Clone)]
    enum Event {
        Begin { most: u64 },
        End { which: usize, share: u64 },
        Crash { lost: usize },
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            4 => (1u64..300).prop_map(|most| Event::Begin { most }),
            3 => (any::<usize>(), 0u64..=100).prop_map(|(which, share)| Event::End { which, share }),
            1 => (0usize..200).prop_map(|lost| Event::Crash { lost }),
        ];
        proptest::collection::vec(event, 1..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_order_of_calls_and_crashes_spends_more_than_the_budget(events in events(), budget in 0u64..2_000) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("spend.jsonl");
            let mut purse = Purse::open(&path, MicroUsd(budget)).unwrap();
            // What the provider really charges: the full bound for calls that were under way in a crash.
            let (mut charged, mut durable) = (0u64, 0u64);
            let mut under_way: Vec<Reserved> = Vec::new();
            for event in events {
                match event {
                    Event::Begin { most } => {
                        if let Some(reserved) = purse.reserve(MicroUsd(most)).unwrap() {
                            durable = std::fs::metadata(&path).unwrap().len();
                            under_way.push(reserved);
                        }
                    }
                    Event::End { which, share } if !under_way.is_empty() => {
                        let reserved = under_way.swap_remove(which % under_way.len());
                        let cost = reserved.amount.0 * share / 100;
                        charged += cost;
                        purse.settle(reserved, MicroUsd(cost)).unwrap();
                    }
                    Event::End { .. } => {}
                    Event::Crash { lost } => {
                        charged += under_way.drain(..).map(|reserved| reserved.amount.0).sum::<u64>();
                        drop(purse);
                        let bytes = std::fs::read(&path).unwrap();
                        let kept = (bytes.len().saturating_sub(lost) as u64).max(durable) as usize;
                        std::fs::write(&path, &bytes[..kept.min(bytes.len())]).unwrap();
                        purse = Purse::open(&path, MicroUsd(budget)).unwrap();
                        durable = std::fs::metadata(&path).unwrap().len();
                    }
                }
                let pending: u64 = under_way.iter().map(|reserved| reserved.amount.0).sum();
                prop_assert!(charged + pending <= budget, "{charged} and {pending} of {budget}");
                prop_assert!(purse.spent().0 >= charged + pending);
            }
        }
    }
}
