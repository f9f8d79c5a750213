//! Why could a request not be decided?

use sizewise_contract::{Code, Diagnose, limits};

/// Why a request could not be decided.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No task of that name is served.
    #[error("no task is called `{name}`")]
    UnknownTask {
        /// The name asked for.
        name: String,
        /// The closest task that is served.
        meant: Option<String>,
    },
    /// The task exists but has no release.
    #[error("task `{name}` has no release yet")]
    NotTrained {
        /// The task.
        name: String,
    },
    /// The task asks no such question.
    #[error("task `{task}` has no question {position}")]
    UnknownQuestion {
        /// The task.
        task: String,
        /// The position asked for.
        position: usize,
    },
    /// An input cannot be read.
    #[error("input {position}: {problem}")]
    Input {
        /// Which of the inputs, from 0.
        position: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// An input is longer than the limit.
    #[error("input {position} has {size} bytes; at most {} are read", limits::INPUT_BYTES)]
    InputTooLong {
        /// Which of the inputs, from 0.
        position: usize,
        /// Its size.
        size: usize,
    },
    /// More inputs than one request may carry.
    #[error("{count} inputs in one request; at most {} are read", limits::INPUTS_PER_REQUEST)]
    TooManyInputs {
        /// How many came.
        count: usize,
    },
    /// A part of the release or a model failed.
    #[error("{0}")]
    Model(Box<dyn Diagnose + Send + Sync>),
    /// The store failed.
    #[error("{0}")]
    Store(Box<dyn Diagnose + Send + Sync>),
    /// A rule inside the engine was broken.
    #[error("internal: {0}")]
    Internal(&'static str),
}

impl Diagnose for Error {
    fn code(&self) -> Code {
        match self {
            Self::UnknownTask { .. } => Code::UnknownTask,
            Self::NotTrained { .. } => Code::NotTrained,
            Self::UnknownQuestion { .. } => Code::UnknownQuestion,
            Self::Input { .. } | Self::TooManyInputs { .. } => Code::InputInvalid,
            Self::InputTooLong { .. } => Code::InputTooLong,
            Self::Model(cause) | Self::Store(cause) => cause.code(),
            Self::Internal(_) => Code::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownTask { meant: Some(meant), .. } => Some(format!("did you mean `{meant}`?")),
            Self::UnknownTask { .. } => Some("`sizewise list` shows the tasks of this project".into()),
            Self::NotTrained { name } => Some(format!("run `sizewise train {name}` first")),
            Self::InputTooLong { .. } => Some("send the part that matters, or split the input".into()),
            Self::TooManyInputs { .. } => Some("split the request, or use `sizewise batch`".into()),
            Self::Model(cause) | Self::Store(cause) => cause.hint(),
            _ => None,
        }
    }
}
