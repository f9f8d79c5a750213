//! Which commands put questions before people, and take their answers?

use clap::Subcommand;

/// The review queue.
#[derive(Debug, Subcommand)]
pub enum Queue {
    /// What waits, oldest first.
    List {
        /// The task; all of them when absent.
        task: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// For whom: questions that they have answered are left out. By default whoever types this.
        #[arg(long, value_name = "PERSON")]
        by: Option<String>,
    },
    /// Answer one question; settled, the answer becomes a gold row.
    Answer {
        /// The decision's id.
        decision: String,
        /// The right answer.
        label: String,
        /// The question, where the decision left several open.
        #[arg(long)]
        question: Option<String>,
        /// Whose answer it is; by default that of whoever types this.
        #[arg(long, value_name = "PERSON")]
        by: Option<String>,
        /// It is the answer after the model's suggestion was shown.
        #[arg(long)]
        after: bool,
    },
    /// Drop one question without an answer.
    Skip {
        /// The decision's id.
        decision: String,
        /// The question, where the decision left several open.
        #[arg(long)]
        question: Option<String>,
        /// Whose answer it is; by default that of whoever types this.
        #[arg(long, value_name = "PERSON")]
        by: Option<String>,
        /// It is the answer after the model's suggestion was shown.
        #[arg(long)]
        after: bool,
    },
    /// How often two people say the same, and what the model's suggestions do to them.
    Agreement {
        /// The task.
        task: String,
    },
    /// Write the gold rows that people's answers made to -o FILE (.csv, .jsonl or .parquet).
    Export {
        /// The task.
        task: String,
        /// Replace the file if it exists.
        #[arg(long)]
        force: bool,
    },
}
