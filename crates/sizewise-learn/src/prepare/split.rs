//! Which row goes into which split?
//!
//! Rows with the same text or the same group stay together; every combination of labels is divided in the same
//! proportion; and the choice hangs on the rows and the seed alone, not on their order in the file. With a time column
//! the locked rows are the latest instead: the test then looks like the future.

use super::{
    Options, PlannedRow,
    findings::{RowFacts, fnv},
};
use crate::opened::Texts;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// How gold rows are divided; a share that is not given is one that serves tables of every size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// Share of the gold rows that is locked. Of a table without gold rows of its own, share of all rows.
    pub locked: Option<f64>,
    /// Share that becomes development rows.
    pub dev: Option<f64>,
}

impl Shares {
    /// Shares where none are given.
    const LOCKED: f64 = 0.35;
    const DEV: f64 = 0.1;
    /// Rows beyond which more prove or choose hardly better, and are of more use to learn from.
    const ENOUGH_LOCKED: f64 = 20_000.0;
    const ENOUGH_DEV: f64 = 5_000.0;

    /// The shares of locked and of development rows in a table.
    fn of_table(self, rows: u64) -> (f64, f64) {
        let rows = rows.max(1) as f64;
        (
            self.locked.unwrap_or(Self::LOCKED.min(Self::ENOUGH_LOCKED / rows)),
            self.dev.unwrap_or(Self::DEV.min(Self::ENOUGH_DEV / rows)),
        )
    }

    /// The same where a file holds gold rows alone, all of which are for one or the other.
    fn of_gold(self) -> (f64, f64) {
        let (locked, dev) = (self.locked.unwrap_or(Self::LOCKED), self.dev.unwrap_or(Self::DEV));
        (locked / (locked + dev), dev / (locked + dev))
    }

    /// Whether rows are left to learn from.
    #[must_use]
    pub fn leave_some(self) -> bool {
        self.locked.unwrap_or(Self::LOCKED) + self.dev.unwrap_or(Self::DEV) < 1.0
    }
}

/// How many rows went where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitSizes {
    /// Rows to fit on.
    pub train: u64,
    /// Gold rows for development.
    pub dev: u64,
    /// Gold rows that only `certify` opens.
    pub locked: u64,
    /// Rows without text, and training rows that share text or group with gold rows.
    pub left_out: u64,
    /// Rows that would have been locked, had they not been opened before.
    #[serde(default)]
    pub opened: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Split {
    Train = 0,
    Dev = 1,
    Locked = 2,
}

/// Rows that must stay together.
#[derive(Debug, Default)]
struct Unit {
    rows: u64,
    stratum: u64,
    gold: bool,
    opened: bool,
    latest: String,
}

/// Collects what is needed to divide the rows.
pub(super) struct Splitter<'a> {
    seed: u64,
    opened: &'a Texts,
    shares: Shares,
    by_time: bool,
    /// Whether gold rows come from a file of their own.
    own_gold: bool,
    /// The unit of every row and whether the row is gold; none for rows without text.
    rows: Vec<Option<(u64, bool)>>,
    units: BTreeMap<u64, Unit>,
    /// Texts seen in some group: the same text in two groups ties the groups together.
    joined: HashMap<u64, u64>,
}

impl<'a> Splitter<'a> {
    pub(super) fn new(options: &'a Options) -> Self {
        Self {
            seed: options.seed,
            opened: &options.opened,
            shares: options.shares,
            by_time: options.time.is_some(),
            own_gold: options.gold.is_some(),
            rows: Vec::new(),
            units: BTreeMap::new(),
            joined: HashMap::new(),
        }
    }

    pub(super) fn see(&mut self, row: &PlannedRow<'_>, facts: RowFacts, is_gold: bool) {
        if facts.unusable {
            self.rows.push(None);
            return;
        }
        let own_key = match row.group.filter(|group| !group.is_empty()) {
            Some(group) => fnv(group.as_bytes(), 1),
            None => facts.text_key,
        };
        let key = self.join(own_key, facts.text_key);
        self.rows.push(Some((key, is_gold)));
        let unit = self.units.entry(key).or_default();
        if unit.rows == 0 {
            unit.stratum = facts.stratum;
        }
        unit.rows += 1;
        unit.gold |= is_gold;
        unit.opened |= self.opened.has_key(facts.text_key);
        if let Some(time) = row.time.filter(|time| *time > unit.latest.as_str()) {
            unit.latest = time.to_owned();
        }
    }

    /// The root of a unit after tying the row's group to the text's unit (union-find with path halving).
    fn join(&mut self, group: u64, text: u64) -> u64 {
        let a = self.root(group);
        let b = self.root(text);
        if a != b {
            let (kept, dropped) = (a.min(b), a.max(b));
            self.joined.insert(dropped, kept);
            if let Some(unit) = self.units.remove(&dropped) {
                let target = self.units.entry(kept).or_default();
                target.stratum = if target.rows == 0 { unit.stratum } else { target.stratum };
                target.rows += unit.rows;
                target.gold |= unit.gold;
                target.opened |= unit.opened;
                target.latest = target.latest.clone().max(unit.latest);
            }
        }
        a.min(b)
    }

    fn root(&self, mut key: u64) -> u64 {
        while let Some(&next) = self.joined.get(&key) {
            key = next;
        }
        key
    }

    pub(super) fn assign(self) -> Assignment {
        let candidates = self.units.iter().filter(|(_, unit)| unit.gold || !self.own_gold);
        let mut strata: BTreeMap<u64, Vec<(u64, &Unit)>> = BTreeMap::new();
        for (key, unit) in candidates {
            let stratum = if self.by_time { 0 } else { unit.stratum };
            strata.entry(stratum).or_default().push((*key, unit));
        }
        let (locked_share, dev_share) = match self.own_gold {
            true => self.shares.of_gold(),
            false => self.shares.of_table(self.units.values().map(|unit| unit.rows).sum()),
        };
        let (mut splits, mut opened): (HashMap<u64, Split>, u64) = (HashMap::new(), 0);
        for units in strata.values_mut() {
            if self.by_time {
                units.sort_by(|(a, unit_a), (b, unit_b)| unit_b.latest.cmp(&unit_a.latest).then(a.cmp(b)));
            } else {
                units.sort_by_key(|(key, _)| fnv(&key.to_le_bytes(), self.seed));
            }
            let rows: u64 = units.iter().map(|(_, unit)| unit.rows).sum();
            // A stratum with one row cannot be tested; rounding to nearest keeps larger ones in proportion.
            let locked_quota = (rows as f64 * locked_share).round() as u64;
            let dev_quota = (rows as f64 * dev_share).round() as u64;
            let mut taken = 0;
            for (key, unit) in units {
                let split = if taken < locked_quota && !unit.opened {
                    Split::Locked
                } else if (taken >= locked_quota && taken < locked_quota + dev_quota) || self.own_gold {
                    Split::Dev
                } else {
                    Split::Train
                };
                if taken < locked_quota && unit.opened {
                    // Rows that are still closed move up into their place.
                    opened += unit.rows;
                } else {
                    taken += unit.rows;
                }
                splits.insert(*key, split);
            }
        }
        let split_of = |(key, is_gold): (u64, bool)| match splits.get(&self.root(key)) {
            // A training row that shares text or group with gold rows would give their answers away.
            Some(_) if self.own_gold && !is_gold => None,
            Some(split) => Some(*split),
            None => Some(Split::Train),
        };
        Assignment { opened, rows: self.rows.iter().map(|row| row.and_then(split_of)).collect() }
    }
}

/// The split of every row, in the order of the files.
pub(super) struct Assignment {
    opened: u64,
    rows: Vec<Option<Split>>,
}

impl Assignment {
    pub(super) fn split_of(&self, position: usize) -> Option<Split> {
        self.rows.get(position).copied().flatten()
    }

    pub(super) fn sizes(&self) -> SplitSizes {
        let count = |split| self.rows.iter().filter(|row| **row == split).count() as u64;
        SplitSizes {
            train: count(Some(Split::Train)),
            dev: count(Some(Split::Dev)),
            locked: count(Some(Split::Locked)),
            left_out: count(None),
            opened: self.opened,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Shares;

    #[test]
    fn large_tables_lock_no_more_than_a_certificate_needs() {
        assert_eq!(Shares::default().of_table(10_000), (0.35, 0.1));
        assert_eq!(Shares::default().of_table(1_000_000), (0.02, 0.005));
        let given = Shares { locked: Some(0.5), dev: None };
        assert_eq!(given.of_table(1_000_000), (0.5, 0.005));
        assert!(!Shares { locked: Some(0.9), dev: Some(0.1) }.leave_some());
    }
}
