//! Is a hard budget ever overspent, whoever calls at the same time and whoever is killed in between?
//!
//! ```text
//! cargo run --release -p sizewise-engine --example budget_schedules -- [SCHEDULES]     # 10,000 unless said
//! ```
//!
//! A schedule is one budget that three processes of two threads each spend at the same time. Half of the processes are killed at a random
//! moment, calls that were sent and never settled included. Before a call is "sent" its true cost goes to a journal, which is what a
//! provider would bill; the budget is overspent where the journal of a schedule holds more than its limit.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a program that judges")]

use sizewise_contract::units::MicroUsd;
use sizewise_engine::Ledgers;
use sizewise_models::remote::{Money, Reserve};
use sizewise_store::{Limit, Period, Store};
use std::{
    collections::HashMap,
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

/// Schedules that the same three processes go through.
const TOGETHER: u64 = 50;
const PROCESSES: u64 = 3;
const THREADS: u64 = 2;
const CALLS: u64 = 8;

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

/// What may be spent in a schedule; every process knows it without being told.
fn budget(schedule: u64) -> u64 {
    200 + Chance(schedule).below(3_000)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [mode, folder, first, seed] if mode == "spend" => {
            spend(Path::new(folder), first.parse().unwrap(), seed.parse().unwrap());
        }
        [] => judge(10_000),
        [schedules] => judge(schedules.parse().expect("how many schedules")),
        _ => panic!("budget_schedules [SCHEDULES]"),
    }
}

/// One process: goes through its schedules, some of whose calls are never settled.
fn spend(folder: &Path, first: u64, seed: u64) {
    let store = Arc::new(Store::open(folder).unwrap());
    let ledgers = Ledgers::start(store);
    let journal = OpenOptions::new().append(true).create(true).open(folder.join("journal")).unwrap();
    for schedule in first..first + TOGETHER {
        let limit = Limit { period: Period::Total, most: MicroUsd(budget(schedule)) };
        let ledger = ledgers.ledger(format!("schedule-{schedule}"), vec![limit]);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (ledger, journal) = (Arc::clone(&ledger), &journal);
                scope.spawn(move || {
                    let mut chance = Chance(seed ^ (schedule << 8) ^ thread);
                    for _ in 0..CALLS {
                        let most = 1 + chance.below(400);
                        let held = ledger
                            .reserve_at_hand("primary", MicroUsd(most))
                            .map_or_else(|| ledger.reserve("primary", MicroUsd(most)), Reserve::Held);
                        let Reserve::Held(held) = held else { continue };
                        let cost = chance.below(most + 1);
                        // One write, so that lines of several processes do not mix.
                        let mut journal = journal;
                        journal.write_all(format!("{schedule} {cost}\n").as_bytes()).unwrap();
                        match chance.below(10) {
                            0 => {}
                            _ => ledger.settle(held, MicroUsd(cost)),
                        }
                    }
                });
            }
        });
    }
}

fn judge(schedules: u64) {
    // In memory where the system has such a folder: what is judged is the order of things, not the disk.
    let memory = PathBuf::from("/dev/shm");
    let folder = match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    };
    drop(Store::open(folder.path()).unwrap());
    let mut chance = Chance(7);
    let (mut killed, begun) = (0, Instant::now());
    for first in (0..schedules).step_by(usize::try_from(TOGETHER).unwrap()) {
        let mut processes: Vec<_> = (0..PROCESSES)
            .map(|process| {
                let seed = (first << 16 | process).to_string();
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.args(["spend", folder.path().to_str().unwrap(), &first.to_string(), &seed]);
                (command.stdin(Stdio::null()).spawn().unwrap(), chance.below(2) == 0)
            })
            .collect();
        for (process, is_killed) in &mut processes {
            if *is_killed {
                std::thread::sleep(Duration::from_millis(chance.below(40)));
                if process.try_wait().unwrap().is_none() {
                    process.kill().unwrap();
                    killed += 1;
                }
            }
        }
        for (process, is_killed) in &mut processes {
            let status = process.wait().unwrap();
            assert!(*is_killed || status.success(), "a process failed");
        }
    }
    let mut billed: HashMap<u64, u64> = HashMap::new();
    let mut calls = 0;
    for line in std::fs::read_to_string(folder.path().join("journal")).unwrap_or_default().lines() {
        let (schedule, cost) = line.split_once(' ').unwrap();
        *billed.entry(schedule.parse().unwrap()).or_default() += cost.parse::<u64>().unwrap();
        calls += 1;
    }
    let overspent = billed.iter().filter(|(schedule, billed)| **billed > budget(**schedule)).count();
    let mut known: HashMap<String, u64> = HashMap::new();
    for spent in Store::open(folder.path()).unwrap().spending().unwrap() {
        *known.entry(spent.payer).or_default() += spent.micro_usd.0;
    }
    let unknown = billed
        .iter()
        .filter(|(schedule, billed)| {
            known.get(&format!("schedule-{schedule}")).copied().unwrap_or(0) < **billed
        })
        .count();
    let mut used: Vec<u64> =
        billed.iter().map(|(schedule, billed)| billed * 100 / budget(*schedule).max(1)).collect();
    used.sort_unstable();
    println!(
        "{schedules} schedules, {calls} calls, {killed} of {} processes killed, {:.0} s",
        schedules.div_ceil(TOGETHER) * PROCESSES,
        begun.elapsed().as_secs_f64()
    );
    println!("budgets overspent:                     {overspent}");
    println!("bills above what the ledger knows of:  {unknown}");
    println!("share of the budget billed, median:    {} %", used.get(used.len() / 2).copied().unwrap_or(0));
    assert_eq!((overspent, unknown), (0, 0));
}
