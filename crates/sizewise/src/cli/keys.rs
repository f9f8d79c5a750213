//! What does `sizewise keys` take?

use clap::{Args, Subcommand};
use sizewise_contract::units::Dollars;

/// The API keys.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make a key; its secret is shown once.
    Create {
        /// Who or what will use it.
        name: String,
        /// What it may do.
        #[command(flatten)]
        rights: KeyRights,
    },
    /// Give a key other rights; what is not named stays as it is.
    Change {
        /// The key's public id.
        id: String,
        /// What it may do.
        #[command(flatten)]
        rights: KeyRights,
    },
    /// List the keys, without secrets.
    List,
    /// Revoke a key for good.
    Revoke {
        /// The key's public id.
        id: String,
    },
}

/// What a key may do, and how much of it. Larger models alone cost tokens and money.
#[derive(Debug, Clone, Args)]
pub struct KeyRights {
    /// What its holder is there for [default: caller].
    #[arg(long, value_enum)]
    pub role: Option<KeyRole>,
    /// The only tasks that it may ask, with commas between them; `all` or `none`.
    #[arg(long, value_name = "TASKS", value_delimiter = ',')]
    pub tasks: Option<Vec<String>>,
    /// The only providers that it may call by name, with commas between them; `all` or `none`.
    #[arg(long, value_name = "PROVIDERS", value_delimiter = ',')]
    pub models: Option<Vec<String>>,
    /// The team whose limits it shares: [team.NAME] in sizewise.toml; `none` takes it out of one.
    #[arg(long, value_name = "NAME")]
    pub team: Option<String>,
    /// Most requests a minute; 0 lifts the limit.
    #[arg(long, value_name = "N")]
    pub requests_per_minute: Option<u32>,
    /// Most tokens a minute; 0 lifts the limit.
    #[arg(long, value_name = "N")]
    pub tokens_per_minute: Option<u32>,
    /// Most dollars a day; `none` lifts the limit.
    #[arg(long, value_name = "USD")]
    pub usd_per_day: Option<Limit>,
    /// Most dollars a month; `none` lifts the limit.
    #[arg(long, value_name = "USD")]
    pub usd_per_month: Option<Limit>,
    /// Most dollars in all; `none` lifts the limit.
    #[arg(long, value_name = "USD")]
    pub usd_total: Option<Limit>,
}

/// What the holder of a key is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum KeyRole {
    /// Asks tasks and models.
    Caller,
    /// Reads the metrics, and nothing else.
    Monitor,
    /// Answers what waits for people, in the console, and nothing else.
    Reviewer,
    /// Everything.
    Operator,
}

/// A limit in dollars, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(pub Option<Dollars>);

impl std::str::FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|dollars| Self(Some(dollars))) }
    }
}
