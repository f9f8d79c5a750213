//! What does `sizewise trial` take?

use clap::{Args, Subcommand};

/// Tries a release beside the one in force. What a trial knows is counted by running servers.
#[derive(Debug, Subcommand)]
pub enum Trials {
    /// Begin to try a release; running servers notice within a second.
    Begin(BeginTrial),
    /// End the trial; requests go back to the release in force at once.
    End {
        /// The task.
        task: String,
        /// Why; it stands in the audit log.
        #[arg(long, value_name = "TEXT", default_value = "ended by hand")]
        reason: String,
    },
    /// Compare the release on trial with the one in force. Exit code 100 where evidence ended the trial.
    Show {
        /// The task.
        task: String,
    },
}

/// Begins a trial.
#[derive(Debug, Args)]
pub struct BeginTrial {
    /// The task.
    pub task: String,
    /// The release, or the beginning of its hash.
    pub release: String,
    /// It answers the same requests behind the callers' backs, local tiers alone, and is compared.
    #[arg(long, required_unless_present = "canary", conflicts_with = "canary")]
    pub shadow: bool,
    /// It answers a share of the requests; it must be certified and have the contract of the release in force.
    #[arg(long)]
    pub canary: bool,
    /// Which share of the requests [default: 1 for a shadow, 0.1 for a canary].
    #[arg(long, value_name = "SHARE")]
    pub share: Option<f64>,
}
