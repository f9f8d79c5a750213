//! Which commands are there, and what do they take?

mod begin;
mod keys;
mod queue;
mod records;
mod teach;
mod trials;

pub use begin::{Discover, Init};
pub use keys::{KeyRights, KeyRole, Keys, Limit};
pub use queue::Queue;
pub use records::{Audit, Erase, Kinds, Records, Redact, SavingsAsked, Verify};
pub use teach::{Manners, Teach, TeacherCall, Write};
pub use trials::{BeginTrial, Trials};

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Runs every task on the smallest language model that reliably does it, and proves that it does.
#[derive(Debug, Parser)]
#[command(
    name = "sizewise",
    version,
    arg_required_else_help = true,
    after_help = "Begin with `sizewise quickstart`, or `sizewise init NAME --from tickets.csv`.\n\n\
        Exit codes: 0 done · 1 failed · 2 wrong call · 100 promise or gate refused · 101 too little evidence to certify"
)]
pub struct Cli {
    /// `json` for programs, `text` for people, or the file to write; may be given twice (`-o out.csv -o json`).
    #[arg(short = 'o', long = "output", global = true, value_name = "json|text|FILE")]
    pub output: Vec<Output>,
    /// The project folder; by default the nearest one with `tasks/` or `sizewise.toml`, from here upwards.
    #[arg(long, global = true, env = "SIZEWISE_PROJECT", value_name = "DIR")]
    pub project: Option<PathBuf>,
    /// No progress and no remarks on standard error.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// One value of `-o`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Plain text on standard output.
    Text,
    /// One JSON document of a stable shape on standard output.
    Json,
    /// The file that the command writes.
    File(PathBuf),
}

impl std::str::FromStr for Output {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "text" => Self::Text,
            "json" => Self::Json,
            path => Self::File(path.into()),
        })
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a task of a table (guess columns and labels, check the rows, set the locked gold rows aside) or of a call site.
    Init(Init),
    /// List what programs ask larger models again and again, by money: tasks that wait to be found.
    Discover(Discover),
    /// From a table to a certified cascade in one go: split, adapt, distil, compress, certify, measure.
    Make(Make),
    /// Fit the tiers, smallest first, and say what each one bought.
    Train(Train),
    /// Make a task's encoder smaller and faster, and judge every variant again.
    Compress(Compress),
    /// Buy labels for texts from a language model, as few as will do.
    Teach(Teach),
    /// Have a language model write texts for labels with few rows; what copies a gold row or fails a second look is thrown away.
    Write(Write),
    /// Open the locked rows once and test the promise on them.
    Certify(Certify),
    /// Learn again from what people answered since, and earn the promise anew on rows drawn from the traffic.
    Renew(Renew),
    /// Measure a release on the development rows or on a table of yours.
    Evaluate(Evaluate),
    /// Measure what every tier costs and gives: speed, quality, size, memory, energy.
    Bench(Bench),
    /// Answer over HTTP: all certified tasks, on the protocols that clients already speak.
    Serve(Serve),
    /// Answer one input in the terminal and show the path to the answer.
    Decide(Decide),
    /// Answer every row of a table into another one: `sizewise batch TASK in.csv -o out.csv`.
    Batch(Batch),
    /// Write one HTML file that shows the promise, its proof and the errors (-o FILE names it; a .pdf is printed by this machine's browser).
    Report(Report),
    /// Check this machine and project, each line with a way out.
    Doctor,
    /// List the project's tasks.
    List,
    /// Show one task: contract, release, certificates.
    Show(TaskName),
    /// Check task files without touching anything.
    Lint(Lint),
    /// Whether a task's promises are still kept: what people or the larger model said of answers drawn at random.
    Evidence(TaskName),
    /// New kinds of input that came, with examples and a name for each; dismiss one, or have it labelled.
    Kinds(Kinds),
    /// The questions that wait for a person.
    #[command(subcommand)]
    Queue(Queue),
    /// Print rules for Prometheus that tell when a promise is in doubt or broken, probes wait, or requests fail.
    AlertRules,
    /// Write what a task answered to -o FILE (.csv, .tsv, .jsonl or .parquet), a row for each answer, with what people said of it.
    Records(Records),
    /// Take personal data out of a text, as `may_leave = "redacted"` does, and put it back.
    Redact(Redact),
    /// In what the latest inputs differ from the rows that the release was judged on: languages, lengths, and what confidence is worth.
    Shift(TaskName),
    /// What remote models have cost, by task, provider and day.
    Spending,
    /// What providers ask for their models, as far as this program knows, with dates.
    Prices,
    /// What the same traffic would have cost with the larger model, or with another one, and how sure that is.
    Savings(SavingsAsked),
    /// The API keys of the server.
    #[command(subcommand)]
    Keys(Keys),
    /// Try a release beside the one in force: unseen, or on a share of the requests.
    #[command(subcommand)]
    Trial(Trials),
    /// Put a certified release in force.
    Promote(Promote),
    /// Put an earlier release back in force.
    Rollback(Rollback),
    /// What was done here: a log that only grows, and that anybody can verify offline.
    #[command(subcommand)]
    Audit(Audit),
    /// Erase what was kept of somebody, in every byte.
    ///
    /// Records, questions that wait for people, and their answers go. The database is written anew: a running server's records wait for
    /// that, about a second for 50 MB of it; from 400 MB on, stop the server first. The audit log keeps that it was done, and its proofs.
    Erase(Erase),
    /// Erase what tasks keep no longer, now; a server does so every hour.
    Retain,
    /// Bring, keep, export and derive models.
    #[command(subcommand)]
    Models(Models),
    /// All of the above on the bundled example, narrated; ends serving.
    Quickstart(Quickstart),
}

/// A task by its name.
#[derive(Debug, Args)]
pub struct TaskName {
    /// The task.
    pub task: String,
}

/// Fits the tiers.
#[derive(Debug, Args)]
pub struct Train {
    /// The task.
    pub task: String,
    /// Decides the order of rows and folds.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads; by default one per core.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Let rare classes count for more than their rows.
    #[arg(long)]
    pub balance: bool,
    /// An encoder in place of the built-in one: a model of the project (`models list`), or a folder with config.json,
    /// tokenizer.json and *.safetensors.
    #[arg(long, value_name = "NAME|DIR")]
    pub encoder: Option<PathBuf>,
    /// What becomes of a teacher's labels that the other rows contradict.
    #[arg(long, value_name = "WHAT", default_value = "set-aside")]
    pub doubted: Doubted,
    /// How the encoder is adapted to the task before the tiers are fitted.
    #[command(flatten)]
    pub adapt: Adapt,
    /// Whether the encoder teaches the static tier.
    #[command(flatten)]
    pub distil: Distil,
}

/// Lets the encoder teach the static tier.
#[derive(Debug, Default, Args)]
pub struct Distil {
    /// Let the encoder teach the static tier about varied rows, too; kept for a question where it makes the better cascade.
    #[arg(long)]
    pub distil: bool,
    /// Texts without labels that it teaches about as well: .csv, .tsv, .jsonl or .parquet with the task's input columns.
    #[arg(long, value_name = "FILE", requires = "distil")]
    pub unlabelled: Option<PathBuf>,
}

/// Makes a task's models in one go: `init`, `train --adapt --distil`, `compress`, `certify` and `bench --all`. The compressed
/// encoder is taken where it answers as much within the promise. Typed again after Ctrl-C, it goes on where it was.
#[derive(Debug, Args)]
pub struct Make {
    /// The task's name; one that is there keeps its file and its split.
    pub task: String,
    /// The labelled rows of a new task: .csv, .tsv, .jsonl or .parquet.
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Rows that people checked, kept apart; without it they are drawn from --from.
    #[arg(long, value_name = "FILE", requires = "from")]
    pub gold: Option<PathBuf>,
    /// An input column; repeat for several. Guessed when absent.
    #[arg(long = "text", value_name = "COLUMN", requires = "from")]
    pub text: Vec<String>,
    /// A label column, one question each; repeat for several. Guessed when absent.
    #[arg(long = "label", value_name = "COLUMN", requires = "from")]
    pub labels: Vec<String>,
    /// The label that marks rows outside every class.
    #[arg(long, value_name = "LABEL", requires = "from")]
    pub out_of_scope: Option<String>,
    /// The largest share of served answers that may be wrong.
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    pub max_served_error: f64,
    /// What of the encoder is trained on the task.
    #[arg(long, value_name = "METHOD", default_value = "lora")]
    pub adapt: AdaptMethod,
    /// Texts without labels that the encoder teaches the static tier about: .csv, .tsv, .jsonl or .parquet.
    #[arg(long, value_name = "FILE")]
    pub unlabelled: Option<PathBuf>,
    /// Most of the time that the encoder takes as it is.
    #[arg(long, default_value_t = 0.5, value_name = "SHARE", value_parser = above_zero)]
    pub share_of_time: f64,
    /// Most coverage within the promise that the compressed encoder may cost; the whole one is taken beyond that.
    #[arg(long, default_value_t = 0.01, value_name = "SHARE", value_parser = positive)]
    pub most_loss: f64,
    /// Decides splits, folds and the order of rows.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads; by default one per core.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Make everything anew, whatever an earlier call left.
    #[arg(long)]
    pub again: bool,
}

/// What becomes of labels that are doubted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Doubted {
    /// They are not learnt from, and counted.
    SetAside,
    /// The same, and each is shown.
    List,
    /// They are learnt from like the others.
    Keep,
}

/// Adapts the encoder to the task.
#[derive(Debug, Default, Args)]
pub struct Adapt {
    /// Train the encoder itself on the task: all of it, its last layers, low-rank changes (lora), or only a head on it.
    #[arg(long = "adapt", value_name = "METHOD", num_args = 0..=1, default_missing_value = "full")]
    pub method: Option<AdaptMethod>,
    /// How often every row is seen; by default it hangs on their number.
    #[arg(long, value_name = "N", requires = "method", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub epochs: Option<u16>,
    /// The encoder's learning rate at its highest.
    #[arg(long, value_name = "RATE", requires = "method", value_parser = learning_rate)]
    pub learning_rate: Option<f32>,
    /// The rank of low-rank changes.
    #[arg(long, value_name = "N", requires = "method", value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub rank: Option<u16>,
    /// Rows of one step.
    #[arg(long, value_name = "N", requires = "method", value_parser = clap::value_parser!(u16).range(1..=4_096))]
    pub batch: Option<u16>,
    /// The numbers that matrices are multiplied in; by default the faster ones on this machine. Weights and sums have 32 bits in both.
    #[arg(long, value_name = "NUMBERS", requires = "method")]
    pub precision: Option<AdaptPrecision>,
    /// Keep low-rank changes (--adapt lora) beside the encoder in place of a changed copy: tasks with the same encoder then share it, in
    /// memory and in batches. Less than a megabyte a task, and a text takes longer.
    #[arg(long, requires = "method")]
    pub as_adapter: bool,
    /// Go on where an interrupted adaptation was.
    #[arg(long, requires = "method")]
    pub resume: bool,
}

/// The numbers that matrices are multiplied in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum AdaptPrecision {
    /// 32 bits.
    F32,
    /// 16 bits with the exponents of 32 (bfloat16).
    Bf16,
}

/// What of the encoder is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum AdaptMethod {
    /// Only a head: the encoder stays as it is.
    Head,
    /// Low-rank changes of its matrices.
    Lora,
    /// A third of its layers, from the top.
    Last,
    /// All layers.
    Full,
}

fn learning_rate(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(rate) if rate > 0.0 && rate <= 1.0 => Ok(rate),
        _ => Err("a learning rate is a number above 0 and at most 1, as 1e-4".into()),
    }
}

/// Makes the encoder smaller: fewer layers, heads, neurons and word pieces. Every variant is judged again, and the task is trained with
/// the most accurate one within the bound.
#[derive(Debug, Args)]
pub struct Compress {
    /// The task.
    pub task: String,
    /// Most milliseconds that the encoder may take for a text on one thread of this machine.
    #[arg(long, value_name = "MS", value_parser = above_zero)]
    pub max_ms: Option<f64>,
    /// Most megabytes that the encoder's files may have.
    #[arg(long, value_name = "MB", value_parser = above_zero)]
    pub max_mb: Option<f64>,
    /// Most of the time that the encoder takes as it is; 0.5 unless another bound is given.
    #[arg(long, value_name = "SHARE", value_parser = above_zero)]
    pub share_of_time: Option<f64>,
    /// How often recovery sees every text; by default it hangs on their number.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub epochs: Option<u16>,
    /// Decides splits and the order of rows.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads; by default one per core.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Let rare classes count for more than their rows.
    #[arg(long)]
    pub balance: bool,
    /// The encoder to begin with: a model of the project (`models list`), or a folder with config.json, tokenizer.json and
    /// *.safetensors. It must not have learnt from this task's rows. By default the one that `train --adapt` made with the same
    /// --seed, where it set rows aside; else the built-in one.
    #[arg(long, value_name = "NAME|DIR")]
    pub encoder: Option<PathBuf>,
    /// Whether the encoder teaches the static tier.
    #[command(flatten)]
    pub distil: Distil,
    /// Go on where an interrupted run was.
    #[arg(long)]
    pub resume: bool,
}

fn above_zero(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("a bound is a number above 0".into()),
    }
}

/// Tests the promise.
#[derive(Debug, Args)]
pub struct Certify {
    /// The task.
    pub task: String,
    /// Only say the chance; open nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Open the rows even when no question has a chance of one half.
    #[arg(long)]
    pub anyway: bool,
    /// The release, or the beginning of its hash; by default the latest.
    #[arg(long, value_name = "RELEASE")]
    pub release: Option<String>,
    /// Put the release in force although a gate refuses it, for this reason; both stand in the audit log.
    #[arg(long = "override", value_name = "REASON")]
    pub reason: Option<String>,
    /// However it is certified, let it wait for `promote`.
    #[arg(long)]
    pub wait: bool,
}

/// Learns again. Typed again after Ctrl-C, it goes on where it was.
#[derive(Debug, Args)]
pub struct Renew {
    /// How the tiers are fitted.
    #[command(flatten)]
    pub train: Train,
    /// Only say how the rows would be divided; change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Go on with fewer rows to lock than make sense, and open them whatever the chance.
    #[arg(long)]
    pub anyway: bool,
    /// Rows drawn before the promise came into doubt prove, too; by default only those since, as the traffic may have changed.
    #[arg(long)]
    pub all_drawn: bool,
    /// Only say when the task learnt again, how far it is, and when it does so by itself.
    #[arg(long)]
    pub status: bool,
    /// Why a server begins it: the release then waits to be put in force unless `promote` under [learn.TASK] says otherwise.
    #[arg(long, value_name = "WHY", hide = true)]
    pub because: Option<String>,
}

/// Measures a release.
#[derive(Debug, Args)]
pub struct Evaluate {
    /// The task.
    pub task: String,
    /// A table with inputs and gold labels; by default the development rows.
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// How many of the surest mistakes to show.
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub mistakes: usize,
}

/// Measures what every tier costs and gives.
#[derive(Debug, Args)]
pub struct Bench {
    /// The task.
    pub task: String,
    /// A table with inputs and gold labels; by default the development rows. Locked and fitted rows are left out.
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Every release that is kept, beside the one in force.
    #[arg(long)]
    pub all: bool,
    /// How often everything takes its turn; medians are shown.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(5..=1_000))]
    pub rounds: u16,
    /// What an hour of one core costs, in US dollars.
    #[arg(long, default_value_t = 0.04, value_name = "USD", value_parser = positive)]
    pub price_per_core_hour: f64,
    /// What a busy core draws, where the machine does not tell.
    #[arg(long, default_value_t = 8.0, value_name = "WATTS", value_parser = positive)]
    pub watts_per_core: f64,
    /// Also write a page with the tables and a plot; it opens in any browser, offline.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number >= 0.0 && number.is_finite() => Ok(number),
        _ => Err("a number of 0 or more, as 0.04".into()),
    }
}

/// Answers over HTTP.
#[derive(Debug, Args)]
pub struct Serve {
    /// Address and port.
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<std::net::SocketAddr>,
    /// Worker threads; by default one per core.
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// Let tasks without a certificate answer; every such answer says so.
    #[arg(long)]
    pub allow_uncertified: bool,
    /// One line a request on standard error, without content.
    #[arg(long)]
    pub access_log: bool,
}

/// Answers one input.
#[derive(Debug, Args)]
pub struct Decide {
    /// The task.
    pub task: String,
    /// The input; `-` reads standard input.
    pub input: String,
    /// How many of the nearest training examples to show.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub nearest: usize,
    /// Keep a record, and queue what nobody here is sure of, as the server would.
    #[arg(long)]
    pub record: bool,
    /// Let questions without a certificate answer, and say so.
    #[arg(long)]
    pub allow_uncertified: bool,
}

/// Answers every row of a table.
#[derive(Debug, Args)]
pub struct Batch {
    /// The task.
    pub task: String,
    /// The rows: .csv, .tsv, .jsonl or .parquet with the task's input columns.
    pub input: PathBuf,
    /// Replace an existing output.
    #[arg(long)]
    pub force: bool,
    /// Let a task without a certificate answer; every such answer says so.
    #[arg(long)]
    pub allow_uncertified: bool,
}

/// Writes the report.
#[derive(Debug, Args)]
pub struct Report {
    /// The task.
    pub task: String,
    /// A table with inputs and gold labels; by default the development rows.
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
}

/// Checks task files.
#[derive(Debug, Args)]
pub struct Lint {
    /// The task; all of them when absent.
    pub task: Option<String>,
}

/// Puts a certified release in force. Its memory, its licences and how it was made are looked at again, under [gates] in sizewise.toml as it
/// is now. Exit code 100 where a gate refuses it.
#[derive(Debug, Args)]
pub struct Promote {
    /// The task.
    pub task: String,
    /// The release, or the beginning of its hash.
    pub release: String,
    /// Put it in force although a gate refuses it, for this reason; both stand in the audit log.
    #[arg(long = "override", value_name = "REASON")]
    pub reason: Option<String>,
}

/// Puts an earlier release back.
#[derive(Debug, Args)]
pub struct Rollback {
    /// The task.
    pub task: String,
    /// The release, or the beginning of its hash; by default the one before.
    pub release: Option<String>,
}

/// The form of an encoder's matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WeightForm {
    /// Signed bytes with one scale per output.
    Int8,
    /// Brain floating point numbers.
    Bf16,
    /// 4 bits a weight: an eighth of the size. They are read as signed bytes, and cost more accuracy than those.
    Int4,
}

/// Brings, keeps and derives models.
#[derive(Debug, Subcommand)]
pub enum Models {
    /// Bring an encoder into the project: from a folder, an archive (.tar, .tar.gz) or a hub (owner/name[@revision]).
    Pull(Pull),
    /// List the project's models.
    List,
    /// Show where a model came from, its licence and its files.
    Show {
        /// The model.
        name: String,
    },
    /// Take a model off the list, and give back the room of files that nothing else uses.
    Rm {
        /// The model.
        name: String,
    },
    /// Read every byte of every model, or of one, and compare it with what came.
    Verify {
        /// The model; all of them without it.
        name: Option<String>,
    },
    /// Write a model, the encoder of a task's release, or the built-in one (minilm-l6-int8), to -o DIR for other programs.
    Export {
        /// The model or task.
        name: String,
        /// What is written: floating point safetensors, or an ONNX graph in floating point that pools as well.
        #[arg(long, value_enum, default_value_t = ExportFormat::Safetensors)]
        format: ExportFormat,
        /// Leave 8-bit weights as they are; only this program reads those.
        #[arg(long)]
        as_is: bool,
    },
    /// Write a smaller copy of an encoder folder to -o DIR.
    Quantize {
        /// The encoder: config.json, tokenizer.json, *.safetensors.
        encoder: PathBuf,
        /// What matrices become: bytes (a quarter of the size), bfloat16 (half of it, closer to what they were) or 4 bits a weight (an eighth).
        #[arg(long, value_enum, default_value_t = WeightForm::Int8)]
        to: WeightForm,
    },
    /// Distil static token embeddings from an encoder, without any data, to -o DIR.
    DistilStatic {
        /// The encoder: config.json, tokenizer.json, *.safetensors.
        encoder: PathBuf,
    },
}

/// The form of an exported model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ExportFormat {
    /// The folder that the public transformers and sentence-transformers libraries read.
    Safetensors,
    /// One graph: `input_ids` and `attention_mask` to `last_hidden_state` and `sentence_embedding`.
    Onnx,
}

/// Where a model comes from.
#[derive(Debug, Args)]
pub struct Pull {
    /// A folder, an archive, or a repository of a hub: owner/name or owner/name@revision.
    pub source: String,
    /// What the model is called here; by default the last part of the source.
    #[arg(long)]
    pub name: Option<String>,
    /// The hub's address; by default `hub` under [models] in sizewise.toml. HF_TOKEN is sent to it when set.
    #[arg(long, value_name = "URL", env = "HF_ENDPOINT")]
    pub hub: Option<String>,
    /// Replace a model of the same name.
    #[arg(long)]
    pub force: bool,
}

/// The guided tour.
#[derive(Debug, Args)]
pub struct Quickstart {
    /// Where the example project is put.
    #[arg(long, default_value = "sizewise-quickstart", value_name = "DIR")]
    pub folder: PathBuf,
    /// Stop before serving.
    #[arg(long)]
    pub no_serve: bool,
    /// Address and port to serve on.
    #[arg(long, default_value = "127.0.0.1:8484")]
    pub bind: std::net::SocketAddr,
}
