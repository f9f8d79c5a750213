//! What does a Sizewise task ask, promise and answer?
//!
//! This crate is the vocabulary that every other crate speaks: the task file, its questions, examples and
//! their labels, decisions with the path that led to them, certificates, error codes, units and limits. It does no
//! I/O: nothing here opens a file, a socket or a clock.
//!
//! ```text
//!   task.toml ─► Task ─► Question ─► Class            what is asked
//!                 └────► Promise                       what is promised
//!   Example<Gold> · Example<Teacher>                   what people and models said
//!   Evidence ─► Decide ─► Judgement ─► Answer ─► Decision   what one tier thinks, what is answered
//!   Certificate                                        what was proven
//!   Probe ─► PromiseState                              what is known of it since
//!   Trial ─► Comparison                                what is known of a release before it is in force
//! ```

pub mod answer;
pub mod certificate;
pub mod error;
pub mod example;
pub mod hash;
pub mod limits;
pub mod live;
pub mod record;
pub mod task;
pub mod tier;
pub mod trial;
pub mod units;

pub use answer::{Answer, Decision, Disposition, EscalationReason, Step};
pub use certificate::{Certificate, Gate, GateName, GateResult, Interval, Slice, SliceVerdict, Verdict};
pub use error::{Code, Diagnose, Fault, did_you_mean};
pub use example::{ClassLabel, Example, Gold, Label, Teacher};
pub use hash::ContentHash;
pub use live::{KindState, NewKind, Probe, ProbeStep, PromiseChange, PromiseState, Reference, ToldProbe};
pub use record::{Bill, QueuedItem, Record, StoredInput, Waits};
pub use task::{Question, QuestionKind, Task};
pub use tier::{Decide, Embed, Embeddings, Evidence, Generate, Judgement, StaticFeatures, Tier};
pub use trial::{Comparison, Difference, Trial, TrialMode};
