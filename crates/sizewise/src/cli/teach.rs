//! What do the commands take that a language model is paid for?

use clap::Args;
use sizewise_contract::units::Dollars;
use std::path::PathBuf;

/// Whom to ask, and what it may cost.
#[derive(Debug, Args)]
pub struct TeacherCall {
    /// The model, as its server calls it; by default `model` under [teacher] in sizewise.toml, as all that follows.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// A server of the OpenAI protocol: all before /chat/completions, as https://HOST/v1.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Where the key is. It is read, sent to that server, and neither shown nor kept.
    #[arg(long, value_name = "env:NAME|file:PATH")]
    pub key: Option<String>,
    /// Most dollars that the task's teacher may cost, in all calls of `teach` and `write` together.
    #[arg(long, value_name = "DOLLARS")]
    pub budget: Option<Dollars>,
    /// Dollars for a million tokens that are read.
    #[arg(long, value_name = "DOLLARS")]
    pub price_in: Option<Dollars>,
    /// Dollars for a million tokens that are written.
    #[arg(long, value_name = "DOLLARS")]
    pub price_out: Option<Dollars>,
    /// How many development rows tell how good the teacher is.
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub gold_check: usize,
    /// Calls at the same time; by default 4.
    #[arg(long, value_name = "N")]
    pub parallel: Option<usize>,
    /// Most tokens of an answer; by default what the longest one takes. Models that think before they answer need more.
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<u32>,
    /// The provider's terms allow to train on what its models say; asked once for each provider.
    #[arg(long)]
    pub accept_terms: bool,
    /// Only say what could be asked and what it would cost; send nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// Buys labels.
#[derive(Debug, Args)]
pub struct Teach {
    /// The task.
    pub task: String,
    /// Texts without labels: .csv, .tsv, .jsonl or .parquet with the task's input columns.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// Whom to ask.
    #[command(flatten)]
    pub teacher: TeacherCall,
    /// Most texts of the table that are asked about.
    #[arg(long, value_name = "N")]
    pub labels: Option<usize>,
    /// No further round is bought that is expected to add less than this share of right answers.
    #[arg(long, default_value_t = 0.002, value_name = "SHARE")]
    pub least_gain: f64,
    /// Decides which texts cover the table.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Has texts written.
#[derive(Debug, Args)]
pub struct Write {
    /// The task.
    pub task: String,
    /// Rows that every label is to have: what one with fewer lacks is written.
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub per_label: u16,
    /// New messages after a few training rows, one training row in other words, or both in turns.
    #[arg(long, value_enum, default_value_t = Manners::Both)]
    pub how: Manners,
    /// Whom to ask.
    #[command(flatten)]
    pub teacher: TeacherCall,
    /// Decides which training rows the teacher is shown.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// How texts come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Manners {
    /// Messages of their own.
    New,
    /// A training row in other words.
    Paraphrase,
    /// Both in turns.
    Both,
}
