//! Why could something not be kept or found again?

use sizewise_contract::{Code, ContentHash, Diagnose};
use std::path::{Path, PathBuf};

/// Why something could not be kept or found again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the store could not be read or written.
    #[error("{}: {cause}", path.display())]
    FileSystem {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// The database is damaged or of another version.
    #[error("{}: {problem}", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The database said no.
    #[error("the store's database: {0}")]
    Database(#[from] rusqlite::Error),
    /// A part of a release is missing or its bytes are not those it is named after.
    #[error("object {}: {problem}", hash.short())]
    Object {
        /// The name of the part.
        hash: ContentHash,
        /// What is wrong.
        problem: String,
    },
    /// No release of the task has that name.
    #[error("task `{task}` has no release {name}")]
    UnknownRelease {
        /// The task.
        task: String,
        /// The name asked for.
        name: String,
    },
    /// A release may not be put in force.
    #[error("release {} is not put in force: {problem}", release.short())]
    NotPromoted {
        /// The release.
        release: ContentHash,
        /// Why.
        problem: &'static str,
    },
    /// A release may not be tried.
    #[error("release {} is not tried: {problem}", release.short())]
    NotTried {
        /// The release.
        release: ContentHash,
        /// Why.
        problem: String,
    },
    /// No release of the task is tried.
    #[error("no release of task `{task}` is tried")]
    NoTrial {
        /// The task.
        task: String,
    },
    /// There is no earlier release to go back to.
    #[error("task `{task}` has no earlier release")]
    NothingEarlier {
        /// The task.
        task: String,
    },
    /// The locked rows were opened as often as the promise planned.
    #[error(
        "the locked rows of task `{task}` have been opened as often as the promise planned ({opened} of {planned})"
    )]
    OpeningsSpent {
        /// The task.
        task: String,
        /// How often they were opened.
        opened: u32,
        /// How often they might be.
        planned: u32,
    },
    /// The promise plans another number of openings than when the rows were first opened.
    #[error(
        "the locked rows of task `{task}` were first opened as one of {first} planned times; the promise now plans {planned}"
    )]
    PlanChanged {
        /// The task.
        task: String,
        /// What was planned first.
        first: u32,
        /// What is planned now.
        planned: u32,
    },
    /// Nothing of that name waits in the queue.
    #[error("no question of decision `{decision}` waits for an answer")]
    NotWaiting {
        /// The decision's id.
        decision: String,
    },
    /// A renewal runs in another process.
    #[error("another renewal runs in this project")]
    AnotherRenewal,
    /// The same person has answered it before.
    #[error("this person has answered the question of decision `{decision}` before")]
    SaidBefore {
        /// The decision's id.
        decision: String,
    },
    /// Two people differ, and this one may not decide.
    #[error("two people differ about decision `{decision}`: it waits for somebody who may decide")]
    NotTheirs {
        /// The decision's id.
        decision: String,
    },
    /// Somebody said something else of the decision before.
    #[error("`{said}` was said before of question `{question}` of decision `{decision}`")]
    SaidOtherwise {
        /// The decision's id.
        decision: String,
        /// The question.
        question: String,
        /// What was said.
        said: String,
    },
    /// The decision has more than one open question.
    #[error("decision `{decision}` has several open questions: {}", questions.join(", "))]
    SeveralWaiting {
        /// The decision's id.
        decision: String,
        /// The questions.
        questions: Vec<String>,
    },
    /// No key has that id.
    #[error("there is no key `{id}`")]
    UnknownKey {
        /// The id.
        id: String,
    },
    /// An entry of the audit log cannot even be read.
    #[error("entry {sequence} of the audit log was changed: it is not of an entry's form")]
    Entry {
        /// Its place.
        sequence: i64,
    },
    /// A rule inside the store was broken.
    #[error("internal: {0}")]
    Internal(&'static str),
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn file(path: &Path, cause: std::io::Error) -> Self {
        Self::FileSystem { path: path.to_owned(), cause }
    }
}

impl Diagnose for Error {
    fn code(&self) -> Code {
        match self {
            Self::FileSystem { .. } => Code::FileSystem,
            Self::Damaged { .. } | Self::Entry { .. } => Code::StoreDamaged,
            Self::Database(cause) => match cause.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                    Code::StoreDamaged
                }
                _ => Code::StoreUnavailable,
            },
            Self::Object { .. } => Code::ReleaseDamaged,
            Self::UnknownRelease { .. } | Self::NothingEarlier { .. } => Code::NotTrained,
            Self::NotPromoted { .. } => Code::NotCertified,
            Self::NotTried { .. } | Self::NoTrial { .. } => Code::NotTried,
            Self::OpeningsSpent { .. } | Self::PlanChanged { .. } => Code::LockedRowsSpent,
            Self::NotWaiting { .. } | Self::SeveralWaiting { .. } | Self::SaidBefore { .. } => {
                Code::InputInvalid
            }
            Self::NotTheirs { .. } => Code::NotAllowed,
            Self::AnotherRenewal => Code::InputInvalid,
            Self::SaidOtherwise { .. } => Code::AnsweredOtherwise,
            Self::UnknownKey { .. } => Code::KeyInvalid,
            Self::Internal(_) => Code::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Damaged { path, .. } => format!(
                "put {} back from a backup, or move it away and train again: tasks and their data lie elsewhere",
                path.display()
            ),
            Self::Database(_) => match self.code() {
                Code::StoreDamaged => "put the store back from a backup, or move it away and train again".into(),
                _ => "another process may hold it; try again, and look at the free space of the disk".into(),
            },
            Self::Object { .. } => {
                "run `sizewise rollback TASK` to an earlier release, or `sizewise train TASK` to make it again".into()
            }
            Self::FileSystem { path, cause } => match cause.kind() {
                std::io::ErrorKind::PermissionDenied => format!("let this user write {}", path.display()),
                _ => format!("look at {} and the free space of its disk", path.display()),
            },
            Self::NothingEarlier { task } => {
                format!("`sizewise show {task}` lists its releases; name one: sizewise rollback {task} RELEASE")
            }
            Self::NotPromoted { .. } => {
                "`sizewise certify TASK --release RELEASE` tests it; what a gate refuses can be overridden with --override REASON".into()
            }
            Self::NoTrial { task } => format!("begin one: sizewise trial begin {task} RELEASE --shadow"),
            Self::UnknownRelease { task, .. } => format!("`sizewise show {task}` lists them"),
            Self::OpeningsSpent { .. } => {
                "rows that were looked at prove nothing new: add newly labelled rows to your table and run `sizewise init \
                 TASK --from TABLE --force`; only rows that were never opened are locked then"
                    .into()
            }
            Self::PlanChanged { first, .. } => format!(
                "the risk was divided by that number: put openings = {first} back in [promise] of the task file"
            ),
            Self::NotWaiting { .. } => "`sizewise queue list` shows what waits".into(),
            Self::AnotherRenewal => "`sizewise renew TASK --status` says how far it is; one runs at a time".into(),
            Self::SaidBefore { .. } => "two people are asked so that they do not see each other: it waits for another one".into(),
            Self::NotTheirs { .. } => "an operator decides, or adjudicate = \"anyone\" under [people] lets every third person".into(),
            Self::Entry { .. } => "somebody wrote into the database past this program: put it back from a backup".into(),
            Self::SaidOtherwise { .. } => "what a person said stands; `sizewise erase --decision ID` takes it back with all that was kept".into(),
            Self::SeveralWaiting { .. } => "say which one with --question".into(),
            Self::UnknownKey { .. } => "`sizewise keys list` shows them".into(),
            _ => return None,
        })
    }
}
