//! Why could nothing be learnt?

use sizewise_contract::{Code, Diagnose};
use std::path::PathBuf;

/// Why nothing could be learnt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A table cannot be opened or decoded.
    #[error("{}: {problem}", path.display())]
    Unreadable {
        /// The table.
        path: PathBuf,
        /// What is wrong, with the line where there is one.
        problem: String,
        /// The way out.
        hint: Option<String>,
    },
    /// A table was read but cannot be used as it is.
    #[error("{}: {problem}", path.display())]
    Unusable {
        /// The table.
        path: PathBuf,
        /// What is wrong, with the row where there is one.
        problem: String,
        /// The way out.
        hint: Option<String>,
    },
    /// A file is not a task file.
    #[error("{}: {problem}", path.display())]
    TaskFile {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the key where there is one.
        problem: String,
        /// The way out.
        hint: Option<String>,
    },
    /// Too few labelled rows for what is asked.
    #[error("{what}: {found} rows, at least {needed} are needed")]
    TooFewExamples {
        /// What the rows were for.
        what: String,
        /// How many there are.
        found: usize,
        /// How many it takes.
        needed: usize,
    },
    /// A text has more word pieces than the encoder reads.
    #[error("{what} row {row}: the text has {tokens} word pieces; the encoder reads at most {limit}")]
    LongText {
        /// Which rows.
        what: &'static str,
        /// The row, from 1.
        row: u64,
        /// Its word pieces.
        tokens: usize,
        /// Most that are read.
        limit: usize,
    },
    /// The locked rows are not the ones that were set aside.
    #[error("{}: the locked rows have changed since they were set aside", path.display())]
    LockedRowsChanged {
        /// The table.
        path: PathBuf,
    },
    /// No variant of an encoder keeps to the bound.
    #[error("no variant keeps to the bound: the least are {ms:.2} ms a text, {share_of_time:.2} of the time, {:.1} MB", *bytes as f64 / 1e6)]
    OutOfBound {
        /// The fastest one's time.
        ms: f64,
        /// The same as a share of the whole encoder's.
        share_of_time: f64,
        /// The smallest one's size.
        bytes: u64,
    },
    /// A file could not be read or written.
    #[error("{}: {cause}", path.display())]
    FileSystem {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// A model failed.
    #[error(transparent)]
    Model(#[from] sizewise_models::Error),
    /// The user stopped the work.
    #[error("interrupted; what was finished is kept")]
    Interrupted,
    /// A rule inside the program was broken.
    #[error("internal: {0}")]
    Internal(&'static str),
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Diagnose for Error {
    fn code(&self) -> Code {
        match self {
            Self::Unreadable { .. } => Code::DataUnreadable,
            Self::Unusable { .. } => Code::DataInvalid,
            Self::TaskFile { .. } => Code::TaskFileInvalid,
            Self::TooFewExamples { .. } => Code::TooFewExamples,
            Self::LongText { .. } => Code::InputTooLong,
            Self::LockedRowsChanged { .. } => Code::LockedRowsChanged,
            Self::OutOfBound { .. } => Code::PromiseImpossible,
            Self::FileSystem { .. } => Code::FileSystem,
            Self::Model(cause) => cause.code(),
            Self::Interrupted => Code::Interrupted,
            Self::Internal(_) => Code::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { hint, .. } | Self::Unusable { hint, .. } | Self::TaskFile { hint, .. } => {
                hint.clone()
            }
            Self::TooFewExamples { .. } => {
                Some("label more rows of it, or take it out of the choices together with its rows".into())
            }
            Self::LockedRowsChanged { .. } => Some(
                "put the original file back, or run `sizewise init --force` to set new rows aside".into(),
            ),
            Self::LongText { .. } => Some(
                "set on_overflow = \"head-tail\" or \"window\" in [input] of the task file, or shorten the text".into(),
            ),
            Self::OutOfBound { .. } => Some("allow more, or train the task with `--encoder` and a smaller encoder".into()),
            Self::FileSystem { path, cause } => Some(file_hint(path, cause)),
            Self::Model(cause) => cause.hint(),
            _ => None,
        }
    }
}

/// What helps when a file cannot be read or written.
#[must_use]
pub fn file_hint(path: &std::path::Path, cause: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match cause.kind() {
        ErrorKind::NotFound => match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) if !folder.exists() => format!("there is no folder {}", folder.display()),
            _ => "check the name; a path begins in the current folder".into(),
        },
        ErrorKind::PermissionDenied => "let this user read and write it".into(),
        ErrorKind::IsADirectory => "name a file in it".into(),
        ErrorKind::StorageFull => "make room on the disk".into(),
        _ => "check the path and the disk it is on".into(),
    }
}

/// Names the file in an error of the file system.
pub(crate) fn at(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    move |cause| Error::FileSystem { path: path.to_owned(), cause }
}
