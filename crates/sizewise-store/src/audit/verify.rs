//! Is the log the one that was written, entry by entry?
//!
//! Entries prove nothing by themselves: whoever can write the file can write all of it anew. What proves is a head that was written down
//! elsewhere, or an export of an earlier day; both are compared here, without the database and without this program's word for anything.

use super::{AuditEntry, commitment, merkle};
use serde::{Deserialize, Serialize};
use sizewise_contract::ContentHash;
use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    str::FromStr,
};

/// Size and root of a log: written `SIZE:ROOT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// How many entries it stands for.
    pub size: u64,
    /// The root of the Merkle tree of their hashes.
    pub root: ContentHash,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.size, self.root)
    }
}

impl FromStr for Head {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "a head is SIZE:ROOT, as `sizewise audit head` prints it";
        let (size, root) = text.trim().split_once(':').ok_or(wrong)?;
        Ok(Self { size: size.parse().map_err(|_| wrong)?, root: ContentHash::parse(root).ok_or(wrong)? })
    }
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
#[non_exhaustive]
pub enum Finding {
    /// The entry's hash is not that of what it says.
    Changed {
        /// The entry.
        sequence: u64,
    },
    /// What the entry says of a person is not what it was committed to.
    PersonalChanged {
        /// The entry.
        sequence: u64,
    },
    /// Entries are gone, those from `first` to `last`.
    Removed {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// The entry is there a second time: somebody put one in.
    Inserted {
        /// The entry.
        sequence: u64,
    },
    /// The entry does not stand in its place.
    Moved {
        /// The entry.
        sequence: u64,
    },
    /// The entry is another one than in the earlier export.
    Replaced {
        /// The entry.
        sequence: u64,
    },
    /// The log is shorter than the head says.
    Shortened {
        /// How many entries the head stands for.
        size: u64,
        /// How many there are.
        entries: u64,
    },
    /// The first entries, as many as the head stands for, are not those that it was made of.
    OtherHead {
        /// How many.
        size: u64,
        /// Their root as it is now.
        root: ContentHash,
    },
    /// A guard of the database, which keeps entries as they are, is gone.
    GuardGone {
        /// Its name.
        guard: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { sequence } => {
                write!(f, "entry {sequence} was changed: its hash is not that of what it says")
            }
            Self::PersonalChanged { sequence } => {
                write!(
                    f,
                    "entry {sequence} was changed: what it says of a person is not what it was committed to"
                )
            }
            Self::Removed { first, last } if first == last => write!(f, "entry {first} was removed"),
            Self::Removed { first, last } => write!(f, "entries {first} to {last} were removed"),
            Self::Inserted { sequence } => write!(f, "a second entry {sequence} was put in"),
            Self::Moved { sequence } => write!(f, "entry {sequence} does not stand in its place"),
            Self::Replaced { sequence } => write!(f, "entry {sequence} is not the one of the earlier export"),
            Self::Shortened { size, entries } => {
                write!(
                    f,
                    "entries {entries} to {} were removed: the head stands for {size}",
                    size.saturating_sub(1)
                )
            }
            Self::OtherHead { size, root } => {
                write!(f, "the first {size} entries are not those of the head: their root is now {root}")
            }
            Self::GuardGone { guard } => write!(f, "the database has lost its guard {guard}"),
        }
    }
}

/// What came of reading a whole log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditReport {
    /// The log's head as it is now.
    pub head: Head,
    /// Entries whose personal part was erased.
    pub erased: u64,
    /// Whether a head or an earlier export was compared with; without, nobody can see that a whole log was written anew or that its
    /// end is missing.
    pub anchored: bool,
    /// What is not as it was written, in the order of the log.
    pub findings: Vec<Finding>,
}

impl AuditReport {
    /// Reads a log and compares it with a head and an export of an earlier day, where they are given.
    #[must_use]
    pub fn of(entries: &[AuditEntry], head: Option<&Head>, earlier: Option<&[AuditEntry]>) -> Self {
        let mut findings = order(entries);
        findings.extend(entries.iter().filter_map(content));
        let leaves: Vec<ContentHash> = entries.iter().map(AuditEntry::own_leaf).collect();
        let by_sequence: HashMap<u64, &AuditEntry> =
            entries.iter().rev().map(|entry| (entry.sequence, entry)).collect();
        for before in earlier.into_iter().flatten() {
            match by_sequence.get(&before.sequence) {
                Some(now) if now.own_leaf() == before.own_leaf() => {}
                Some(_) => findings.push(Finding::Replaced { sequence: before.sequence }),
                None => findings.push(Finding::Removed { first: before.sequence, last: before.sequence }),
            }
        }
        if let Some(head) = head {
            match usize::try_from(head.size).ok().and_then(|size| leaves.get(..size)) {
                Some(first) if merkle::root(first) == head.root => {}
                Some(first) => {
                    findings.push(Finding::OtherHead { size: head.size, root: merkle::root(first) })
                }
                None => findings.push(Finding::Shortened { size: head.size, entries: leaves.len() as u64 }),
            }
        }
        findings.dedup();
        Self {
            head: Head { size: leaves.len() as u64, root: merkle::root(&leaves) },
            erased: entries
                .iter()
                .filter(|entry| entry.commitment.is_some() && entry.personal.is_none())
                .count() as u64,
            anchored: head.is_some() || earlier.is_some(),
            findings,
        }
    }
}

/// Whether every entry stands where its number says, once.
fn order(entries: &[AuditEntry]) -> Vec<Finding> {
    let all: BTreeSet<u64> = entries.iter().map(|entry| entry.sequence).collect();
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new();
    let mut expected = 0;
    for entry in entries {
        let sequence = entry.sequence;
        if !seen.insert(sequence) {
            findings.push(Finding::Inserted { sequence });
            continue;
        }
        if sequence < expected {
            findings.push(Finding::Moved { sequence });
            continue;
        }
        // What stands between here and there is either gone, or further down.
        let mut first = expected;
        while first < sequence {
            let gap = all.range(first..sequence).next().copied().unwrap_or(sequence);
            if gap > first {
                findings.push(Finding::Removed { first, last: gap - 1 });
            }
            first = gap + 1;
        }
        expected = sequence.saturating_add(1);
    }
    findings
}

fn content(entry: &AuditEntry) -> Option<Finding> {
    let sequence = entry.sequence;
    if entry.own_leaf() != entry.leaf {
        return Some(Finding::Changed { sequence });
    }
    let kept = match (&entry.commitment, &entry.salt, &entry.personal) {
        (Some(committed), Some(salt), Some(said)) => commitment(salt, said) == *committed,
        // Erased, or never there.
        (_, None, None) => true,
        _ => false,
    };
    (!kept).then_some(Finding::PersonalChanged { sequence })
}

/// Shows that one entry is in the log of a head, without the rest of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InclusionProof {
    /// The entry.
    pub entry: AuditEntry,
    /// The head that it is shown for.
    pub head: Head,
    /// The hashes beside the way from the entry up to the root, the lowest first.
    pub path: Vec<ContentHash>,
}

impl InclusionProof {
    /// The proof for an entry; none where the log has no such entry.
    #[must_use]
    pub fn of(entries: &[AuditEntry], sequence: u64) -> Option<Self> {
        let index = usize::try_from(sequence).ok()?;
        let leaves: Vec<ContentHash> = entries.iter().map(AuditEntry::own_leaf).collect();
        let path = merkle::path(&leaves, index)?;
        let head = Head { size: leaves.len() as u64, root: merkle::root(&leaves) };
        Some(Self { entry: entries.get(index)?.clone(), head, path })
    }

    /// Whether the entry is in the log that this head stands for.
    #[must_use]
    pub fn holds(&self, head: &Head) -> bool {
        let (Ok(index), Ok(size)) = (usize::try_from(self.entry.sequence), usize::try_from(head.size)) else {
            return false;
        };
        let root = merkle::climbed(&self.entry.own_leaf(), index, size, &self.path);
        content(&self.entry).is_none() && root == Some(head.root)
    }
}
