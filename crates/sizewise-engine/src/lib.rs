//! How does one request become a decision?
//!
//! ```text
//!   request ─► admit ─► protect ─► cascade ─► escalate? ─► settle ─► decision
//!              inputs,   what may   static,    to a         record,
//!              questions be kept    encoder    person       queue
//! ```
//!
//! [`Engine::decide`] is that flow, one line a step, and each step is a module of that name. Nothing here is
//! special to one task, one protocol or one provider: the application turns wire formats into [`Request`]s.

mod error;
mod request;

pub use error::Error;
pub use request::{InputValue, QuestionRef, Request};

use sizewise_contract::{Certificate, ContentHash, Decision, Task};
use std::sync::Arc;

/// What is known about one task that is served.
#[derive(Debug, Clone)]
pub struct TaskInfo {
    /// The contract of the release in force.
    pub task: Arc<Task>,
    /// The release in force.
    pub release: ContentHash,
    /// One certificate per question that was put to the test.
    pub certificates: Arc<[Certificate]>,
    /// Whether every question has a certificate in force.
    pub certified: bool,
}

/// Serves tasks: holds their releases in memory and decides requests.
#[derive(Debug)]
pub struct Engine {}

impl Engine {
    /// Decides every input of a request.
    ///
    /// # Errors
    /// Fails as a whole when the task, a question or one of the inputs cannot be read: nothing is then recorded.
    pub async fn decide(&self, _request: Request) -> Result<Vec<Decision>, Error> {
        Err(Error::Internal("being written"))
    }

    /// The tasks that are served, by name.
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskInfo> {
        Vec::new()
    }

    /// One task that is served.
    ///
    /// # Errors
    /// Fails when no task of that name is served.
    pub fn task(&self, name: &str) -> Result<TaskInfo, Error> {
        Err(Error::UnknownTask { name: name.to_owned(), meant: None })
    }
}
