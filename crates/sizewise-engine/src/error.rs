//! Why could a request not be decided?

use sizewise_contract::{Code, ContentHash, Diagnose, limits};

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
    /// No decision of that name is kept of the task.
    #[error("task `{task}` keeps no decision `{decision}`")]
    UnknownDecision {
        /// The task.
        task: String,
        /// The decision asked for.
        decision: String,
    },
    /// The decision answered no such question, or several and none was named.
    #[error("decision `{decision}` answered {}", answered.join(", "))]
    WhichQuestion {
        /// The decision.
        decision: String,
        /// The questions that it answered.
        answered: Vec<String>,
    },
    /// The question knows no such label.
    #[error("`{label}` is no answer to `{question}`")]
    UnknownLabel {
        /// The question.
        question: String,
        /// What was said.
        label: String,
        /// Labels that it knows, or the closest one.
        known: Vec<String>,
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
    /// An input has more word pieces than the encoder reads.
    #[error("input {position} has {tokens} word pieces; the encoder reads at most {limit}")]
    TooManyPieces {
        /// Which of the inputs, from 0.
        position: usize,
        /// Its word pieces.
        tokens: usize,
        /// Most that are read.
        limit: usize,
    },
    /// More inputs than one request may carry.
    #[error("{count} inputs in one request; at most {} are read", limits::INPUTS_PER_REQUEST)]
    TooManyInputs {
        /// How many came.
        count: usize,
    },
    /// A release cannot be served.
    #[error("release {}: {problem}", release.short())]
    Release {
        /// The release.
        release: ContentHash,
        /// What is wrong with it.
        problem: String,
    },
    /// A release was made with models that this build does not have.
    #[error("the release was made with other {what} than this build has")]
    OtherBuild {
        /// Which models.
        what: &'static str,
    },
    /// More records wait to be written than the limit allows.
    #[error("more records wait to be written than the limit allows")]
    RecordsBehind,
    /// The record could not be written, so the answer is not given.
    #[error("the record of the decision could not be written")]
    NotRecorded,
    /// A model failed.
    #[error(transparent)]
    Model(#[from] sizewise_models::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] sizewise_store::Error),
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
            Self::UnknownDecision { .. } => Code::UnknownDecision,
            Self::WhichQuestion { .. } => Code::UnknownQuestion,
            Self::UnknownLabel { .. } => Code::InputInvalid,
            Self::Input { .. } | Self::TooManyInputs { .. } => Code::InputInvalid,
            Self::InputTooLong { .. } | Self::TooManyPieces { .. } => Code::InputTooLong,
            Self::Release { .. } | Self::OtherBuild { .. } => Code::ReleaseDamaged,
            Self::RecordsBehind => Code::Overloaded,
            Self::NotRecorded => Code::StoreUnavailable,
            Self::Model(cause) => cause.code(),
            Self::Store(cause) => cause.code(),
            Self::Internal(_) => Code::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownTask { meant: Some(meant), .. } => Some(format!("did you mean `{meant}`?")),
            Self::UnknownTask { .. } => Some("`sizewise list` shows the tasks of this project".into()),
            Self::NotTrained { name } => Some(format!("run `sizewise train {name}` first")),
            Self::InputTooLong { .. } => Some("send the part that matters, or split the input".into()),
            Self::TooManyPieces { .. } => Some(
                "send less, or set on_overflow = \"window\" or \"head-tail\" in the task file and train again".into(),
            ),
            Self::UnknownDecision { .. } => {
                Some("every answer names its decision; records are erased after the task's `retention_days`".into())
            }
            Self::WhichQuestion { .. } => Some("name one of these as `question`".into()),
            Self::UnknownLabel { known, .. } => match known.as_slice() {
                [only] => Some(format!("did you mean `{only}`?")),
                _ => Some(format!("it takes {}", known.join(", "))),
            },
            Self::Input { .. } => Some("send a text, or every field that the task reads".into()),
            Self::TooManyInputs { .. } => Some("split the request, or use `sizewise batch`".into()),
            Self::Release { .. } | Self::OtherBuild { .. } => {
                Some("run `sizewise train TASK` to make it again with this build".into())
            }
            Self::NotRecorded => {
                Some("look at the free space of the disk; the server's log says more".into())
            }
            Self::Model(cause) => cause.hint(),
            Self::Store(cause) => cause.hint(),
            _ => None,
        }
    }
}
