//! What does the command line say when something went wrong, and how does it end?

use sizewise_contract::{Code, Diagnose, Fault};
use std::path::{Path, PathBuf};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The call makes no sense.
    #[error("{message}")]
    Usage {
        /// What is wrong with it.
        message: String,
    },
    /// The project has no such task.
    #[error("no task is called `{name}` in {}", folder.display())]
    UnknownTask {
        /// The name asked for.
        name: String,
        /// The project.
        folder: PathBuf,
        /// The way out.
        hint: String,
    },
    /// A file or folder could not be read or written.
    #[error("{}: {cause}", path.display())]
    FileSystem {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// Something that already exists would be overwritten.
    #[error("{} exists", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
        /// The way out.
        hint: String,
    },
    /// The task has no release.
    #[error("task `{task}` has no release yet")]
    NotTrained {
        /// The task.
        task: String,
    },
    /// The locked rows were not opened, as it would hardly have led to a certificate.
    #[error("the locked rows stay closed: the chance to certify is {:.0} %, and an opening is spent for good", chance * 100.0)]
    StaysClosed {
        /// The best chance of any question, from 0 to 1.
        chance: f64,
        /// The way out.
        hint: String,
    },
    /// A rule of the task or the operator forbids it.
    #[error("{message}")]
    Policy {
        /// What is forbidden.
        message: String,
        /// The code of the rule.
        code: Code,
        /// The way out.
        hint: String,
    },
    /// Learning failed.
    #[error(transparent)]
    Learn(#[from] sizewise_learn::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] sizewise_store::Error),
    /// A decision failed.
    #[error(transparent)]
    Engine(#[from] sizewise_engine::Error),
    /// A model failed.
    #[error(transparent)]
    Model(#[from] sizewise_models::Error),
    /// The server failed.
    #[error(transparent)]
    Serve(#[from] crate::serve::ServeError),
    /// The user stopped the work.
    #[error("interrupted; what was finished is kept")]
    Interrupted,
}

/// A result of the application.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The call makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into() }
    }

    /// A file could not be read or written.
    pub(crate) fn file(path: &Path, cause: std::io::Error) -> Self {
        Self::FileSystem { path: path.to_owned(), cause }
    }

    /// The exit code of the process.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } | Self::UnknownTask { .. } | Self::Exists { .. } => 2,
            Self::StaysClosed { .. } => 101,
            Self::Interrupted => 130,
            _ if self.code() == Code::Interrupted => 130,
            _ if self.code().facts().fault == Fault::Caller
                && matches!(self.code(), Code::TaskFileInvalid) =>
            {
                2
            }
            _ => 1,
        }
    }
}

impl Diagnose for Error {
    fn code(&self) -> Code {
        match self {
            Self::Usage { .. } => Code::RequestInvalid,
            Self::UnknownTask { .. } => Code::UnknownTask,
            Self::FileSystem { .. } | Self::Exists { .. } => Code::FileSystem,
            Self::NotTrained { .. } => Code::NotTrained,
            Self::Policy { code, .. } => *code,
            Self::StaysClosed { .. } => Code::TooFewExamples,
            Self::Learn(cause) => cause.code(),
            Self::Store(cause) => cause.code(),
            Self::Engine(cause) => cause.code(),
            Self::Model(cause) => cause.code(),
            Self::Serve(cause) => cause.code(),
            Self::Interrupted => Code::Interrupted,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownTask { hint, .. }
            | Self::Exists { hint, .. }
            | Self::StaysClosed { hint, .. }
            | Self::Policy { hint, .. } => Some(hint.clone()),
            Self::FileSystem { path, cause } => Some(sizewise_learn::error::file_hint(path, cause)),
            Self::NotTrained { task } => Some(format!("run `sizewise train {task}`")),
            Self::Learn(cause) => cause.hint(),
            Self::Store(cause) => cause.hint(),
            Self::Engine(cause) => cause.hint(),
            Self::Model(cause) => cause.hint(),
            Self::Serve(cause) => cause.hint(),
            _ => None,
        }
    }
}
