//! Which commands say what was done and answered, what is no longer kept, and what is taken out of a text?

use clap::{Args, Subcommand};
use sizewise_store::Head;
use std::path::PathBuf;

/// New kinds of input.
#[derive(Debug, Args)]
pub struct Kinds {
    /// The task.
    pub task: String,
    /// Say of this one that it is none: its inputs are answered again as before.
    #[arg(long, value_name = "ID", requires = "reason")]
    pub dismiss: Option<i64>,
    /// Why it is none; the audit log keeps it.
    #[arg(long, value_name = "WHY", requires = "dismiss")]
    pub reason: Option<String>,
    /// Put the questions about inputs of this one before people, ahead of all others.
    #[arg(long, value_name = "ID", conflicts_with = "dismiss")]
    pub label: Option<i64>,
}

/// The audit log.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// What was done, the latest last.
    List {
        /// At most this many, the latest.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Print size and root of the log: write them down somewhere else, and nobody changes an entry of before unseen.
    Head,
    /// Read the whole log, or an exported one, and name every entry that was changed, removed, put in or moved. Needs no network, and for
    /// a file no project.
    Verify(Verify),
    /// Show that one entry is in the log of a head, to somebody who does not have the rest of it (-o FILE keeps it).
    Prove {
        /// The entry's number.
        entry: u64,
    },
    /// Write the log to -o FILE (.jsonl), one entry a line.
    Export {
        /// Replace the file if it exists.
        #[arg(long)]
        force: bool,
    },
}

/// Verifies a log.
#[derive(Debug, Args)]
pub struct Verify {
    /// What `export` or `prove` wrote; by default the project's own log.
    pub file: Option<PathBuf>,
    /// A head that `audit head` or a server's start printed earlier.
    #[arg(long, value_name = "SIZE:ROOT")]
    pub head: Option<Head>,
    /// An earlier export: its entries must all be there as they were, and those that are not are named.
    #[arg(long, value_name = "FILE")]
    pub earlier: Option<PathBuf>,
}

/// Erases what was kept of somebody.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Erase {
    /// All that callers said to be about this subject (`x-sizewise-subject`, or `user` of a chat).
    #[arg(long, value_name = "ID")]
    pub subject: Option<String>,
    /// One decision.
    #[arg(long, value_name = "ID")]
    pub decision: Option<String>,
    /// Every kept input that holds this text, letter by letter.
    #[arg(long, value_name = "TEXT")]
    pub holding: Option<String>,
}

/// Exports records.
#[derive(Debug, Args)]
pub struct Records {
    /// The task.
    pub task: String,
    /// Only those of the last so many days.
    #[arg(long, value_name = "N")]
    pub days: Option<u32>,
    /// Replace the file if it exists.
    #[arg(long)]
    pub force: bool,
}

/// Takes personal data out of a text.
#[derive(Debug, Args)]
pub struct Redact {
    /// The text; `-` reads it from standard input.
    #[arg(default_value = "-")]
    pub file: PathBuf,
    /// Write what was taken out to this new file, which only you may read.
    #[arg(long, value_name = "FILE")]
    pub map: Option<PathBuf>,
    /// Put back what the map holds, into the same text or into whatever speaks of its placeholders.
    #[arg(long, requires = "map")]
    pub restore: bool,
}

/// Compares what a task cost with what others would have.
#[derive(Debug, Args)]
pub struct SavingsAsked {
    /// The task.
    pub task: String,
    /// A provider of sizewise.toml that could do all of it: compared beside the task's larger model.
    #[arg(long, value_name = "PROVIDER")]
    pub against: Option<String>,
    /// How many days back; records are kept as long as `retention_days` says.
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3_650))]
    pub days: u32,
}
