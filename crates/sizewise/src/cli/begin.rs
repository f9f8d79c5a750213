//! What do the commands take that a task begins with?

use clap::Args;
use std::path::PathBuf;

/// Makes a task of a table, or of a call site.
#[derive(Debug, Args)]
pub struct Init {
    /// The task's name: a-z, 0-9, - and _.
    pub task: String,
    /// The labelled rows: .csv, .tsv, .jsonl or .parquet.
    #[arg(long, value_name = "FILE", required_unless_present = "from_site")]
    pub from: Option<PathBuf>,
    /// A call site that `discover` lists, by its id or name. What the larger model answered there becomes the labels; they are a
    /// teacher's and prove nothing: --gold names rows that people labelled.
    #[arg(
        long,
        value_name = "SITE",
        conflicts_with_all = [
            "from", "text", "labels", "out_of_scope", "group", "time", "slices", "teacher", "locked_share", "dev_share", "keep_case",
        ]
    )]
    pub from_site: Option<String>,
    /// Rows that people checked, kept apart; without it they are drawn from --from.
    #[arg(long, value_name = "FILE")]
    pub gold: Option<PathBuf>,
    /// An input column; repeat for several. Guessed when absent.
    #[arg(long = "text", value_name = "COLUMN")]
    pub text: Vec<String>,
    /// A label column, one question each; repeat for several. Guessed when absent.
    #[arg(long = "label", value_name = "COLUMN")]
    pub labels: Vec<String>,
    /// The label that marks rows outside every class.
    #[arg(long, value_name = "LABEL")]
    pub out_of_scope: Option<String>,
    /// A column (a customer, a thread) whose values must not stand on both sides of a split.
    #[arg(long, value_name = "COLUMN")]
    pub group: Option<String>,
    /// A column with the time: the locked rows are then the latest.
    #[arg(long, value_name = "COLUMN")]
    pub time: Option<String>,
    /// A column (a language, a segment) whose every value is judged for itself by `certify`; repeat for several.
    #[arg(long = "slice", value_name = "COLUMN")]
    pub slices: Vec<String>,
    /// The labels of --from were given by a model, not checked by people. Needs --gold.
    #[arg(long, requires = "gold")]
    pub teacher: bool,
    /// The largest share of served answers that may be wrong.
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    pub max_served_error: f64,
    /// Share of the rows that is locked for the certificate; by default 0.35, and no more than 20,000 rows.
    #[arg(long, value_name = "SHARE")]
    pub locked_share: Option<f64>,
    /// Share of the rows that becomes development rows; by default 0.1, and no more than 5,000 rows.
    #[arg(long, value_name = "SHARE")]
    pub dev_share: Option<f64>,
    /// Decides which rows are locked.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Keep labels apart that differ only by case.
    #[arg(long)]
    pub keep_case: bool,
    /// Replace a task of the same name. Its locked rows are drawn anew.
    #[arg(long)]
    pub force: bool,
}

/// Lists call sites: what programs ask larger models through the server, where `observe` under [relay] is set.
#[derive(Debug, Args)]
pub struct Discover {
    /// One site by its id or name: its prompt, its labels and a few of its calls, personal data masked.
    #[arg(long, value_name = "SITE")]
    pub show: Option<String>,
    /// Most sites that are listed.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub limit: usize,
}
