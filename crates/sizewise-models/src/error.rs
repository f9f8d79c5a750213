//! Why can a model not be loaded or run?

use sizewise_contract::{Code, Diagnose};
use std::path::PathBuf;

/// Why a model cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model or tokenizer file is damaged or hostile.
    #[error("{file}: {problem}")]
    File {
        /// The file.
        file: String,
        /// What is wrong, with the tensor or key.
        problem: String,
    },
    /// A model is of a kind that this build cannot run.
    #[error("{file}: {problem}")]
    Unsupported {
        /// The file.
        file: String,
        /// The key and what it holds.
        problem: String,
    },
    /// A file could not be read.
    #[error("{}: {cause}", path.display())]
    FileSystem {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// A place that models are fetched from did not answer as it should.
    #[error("{address}: {problem}")]
    Remote {
        /// What was asked.
        address: String,
        /// What is wrong.
        problem: String,
    },
    /// A server with language models does not answer, and a person has to act.
    #[error("{address}: {problem}")]
    Refused {
        /// What was asked.
        address: String,
        /// What is wrong.
        problem: String,
        /// The way out.
        way_out: String,
    },
    /// The user stopped the work.
    #[error("interrupted; what was finished is kept")]
    Interrupted,
    /// An input is longer than the model reads.
    #[error("the input has {tokens} word pieces; the encoder reads at most {limit}")]
    TooLong {
        /// Word pieces of the input.
        tokens: usize,
        /// Most that are read.
        limit: usize,
    },
    /// More inputs are waiting than the queue holds.
    #[error("the encoder has {waiting} word pieces waiting, as many as its queue holds")]
    Overloaded {
        /// Word pieces waiting.
        waiting: usize,
    },
    /// The model is being shut down.
    #[error("the encoder is shutting down")]
    ShuttingDown,
    /// A rule inside the program was broken.
    #[error("internal: {0}")]
    Internal(&'static str),
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Diagnose for Error {
    fn code(&self) -> Code {
        match self {
            Self::File { .. } => Code::ModelFileInvalid,
            Self::Unsupported { .. } => Code::ModelUnsupported,
            Self::FileSystem { .. } => Code::FileSystem,
            Self::Remote { .. } | Self::Refused { .. } => Code::SourceUnavailable,
            Self::Interrupted => Code::Interrupted,
            Self::TooLong { .. } => Code::InputTooLong,
            Self::Overloaded { .. } => Code::Overloaded,
            Self::ShuttingDown => Code::ShuttingDown,
            Self::Internal(_) => Code::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::File { .. } => Some("fetch the file anew, or train the task again".into()),
            Self::Unsupported { .. } => {
                Some("use a BERT, MiniLM, DistilBERT, RoBERTa, XLM-RoBERTa or ModernBERT folder with the tokenizer.json it came with".into())
            }
            Self::TooLong { .. } => {
                Some("set on_overflow = \"window\" or \"head-tail\" in the task file, or send less".into())
            }
            Self::FileSystem { .. } => {
                Some("name a folder that holds config.json, tokenizer.json and *.safetensors".into())
            }
            Self::Remote { .. } => Some(
                "check the name and the network, then run the command again: it goes on where it stopped"
                    .into(),
            ),
            Self::Refused { way_out, .. } => Some(way_out.clone()),
            Self::Overloaded { .. } => Some("try again in a moment".into()),
            _ => None,
        }
    }
}
