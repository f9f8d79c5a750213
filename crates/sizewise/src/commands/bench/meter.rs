//! How much time and energy does work take?
//!
//! Time on the core is read from the system's accounts of this thread, so that other programs on the machine do not count;
//! where there are none the clock is read. Energy is what the processor's own counters say, for the whole package and
//! whatever else runs on it; where they cannot be read (most cloud machines) it is a model: time on the core times a stated
//! number of watts.

use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

const COUNTERS: &str = "/sys/class/powercap";

/// Where figures of energy come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EnergySource {
    /// The processor's counters.
    Measured,
    /// Time on the core times watts.
    Modelled,
}

/// Reads time and energy.
#[derive(Debug)]
pub(super) struct Meter {
    counters: Vec<Counter>,
    watts_per_core: f64,
}

/// One processor package.
#[derive(Debug)]
struct Counter {
    file: PathBuf,
    /// Where it begins anew, in microjoules.
    range: u64,
}

/// A moment to measure from.
#[derive(Debug)]
pub(super) struct Start {
    at: Instant,
    on_core: Option<u64>,
    energy: Vec<Option<u64>>,
}

/// What some work took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spent {
    pub(super) core_seconds: f64,
    pub(super) joules: f64,
}

impl Meter {
    pub(super) fn new(watts_per_core: f64) -> Self {
        Self { counters: counters(Path::new(COUNTERS)), watts_per_core }
    }

    pub(super) fn energy_source(&self) -> EnergySource {
        if self.counters.is_empty() { EnergySource::Modelled } else { EnergySource::Measured }
    }

    /// Whether time on the core is known, and not only the clock's.
    pub(super) fn knows_core_time() -> bool {
        on_core().is_some()
    }

    pub(super) fn start(&self) -> Start {
        let energy = self.counters.iter().map(|counter| number(&counter.file)).collect();
        Start { at: Instant::now(), on_core: on_core(), energy }
    }

    pub(super) fn spent(&self, start: &Start) -> Spent {
        let clock = start.at.elapsed().as_secs_f64();
        let core_seconds = match (start.on_core, on_core()) {
            // The accounts may lag behind by a tick; work too short for them is timed by the clock.
            (Some(before), Some(now)) if now > before => (now - before) as f64 / 1e9,
            _ => clock,
        };
        let joules = match self.energy_source() {
            EnergySource::Modelled => core_seconds * self.watts_per_core,
            EnergySource::Measured => {
                let passed =
                    self.counters.iter().zip(&start.energy).filter_map(|(counter, before)| {
                        Some(counter.passed((*before)?, number(&counter.file)?))
                    });
                passed.sum::<u64>() as f64 / 1e6
            }
        };
        Spent { core_seconds, joules }
    }
}

impl Counter {
    /// Microjoules between two readings, at most one turn of the counter apart.
    fn passed(&self, before: u64, now: u64) -> u64 {
        if now >= before { now - before } else { self.range.saturating_sub(before).saturating_add(now) }
    }
}

/// The counters of whole packages that may be read.
fn counters(folder: &Path) -> Vec<Counter> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let packages = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        // `intel-rapl:0` is a package, `intel-rapl:0:1` a part of it; AMD's processors use the same names.
        if !name.starts_with("intel-rapl:") || name.matches(':').count() != 1 {
            return None;
        }
        let file = entry.path().join("energy_uj");
        number(&file)?;
        Some(Counter { range: number(&entry.path().join("max_energy_range_uj")).unwrap_or(0), file })
    });
    packages.collect()
}

fn number(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Nanoseconds that this thread has had a core.
fn on_core() -> Option<u64> {
    let accounts = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    accounts.split_whitespace().next()?.parse().ok().filter(|time| *time > 0)
}

/// Bytes of this process that are in memory; none where the system does not tell.
pub(super) fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_packages_are_found_and_their_turns_counted() {
        let folder = tempfile::tempdir().unwrap();
        for (name, energy) in [("intel-rapl:0", "900"), ("intel-rapl:0:0", "7"), ("dtpm", "5")] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join("energy_uj"), energy).unwrap();
            std::fs::write(folder.path().join(name).join("max_energy_range_uj"), "1000\n").unwrap();
        }
        let found = counters(folder.path());
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].passed(900, 950), found[0].passed(900, 30)), (50, 130));
        assert!(counters(Path::new("/does/not/exist")).is_empty());
    }

    #[test]
    fn modelled_energy_is_time_times_watts() {
        let meter = Meter { counters: Vec::new(), watts_per_core: 5.0 };
        let spent = meter.spent(&meter.start());
        assert!((spent.joules - 5.0 * spent.core_seconds).abs() < 1e-12);
        assert_eq!(meter.energy_source(), EnergySource::Modelled);
    }
}
