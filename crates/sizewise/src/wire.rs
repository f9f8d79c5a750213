//! How does a request in somebody's protocol become a request to a task, and a decision an answer in it?
//!
//! ```text
//!   bytes ─► json::read ─► protocol's request ─► asked::plan, input ─► engine Request
//!   Decision ─► protocol's answer ─► bytes                └────► error: code, param, way out
//! ```
//!
//! Everything here is pure: bytes and a [`sizewise_contract::Task`] go in, a [`sizewise_engine::Request`] comes out; a
//! decision goes in, bytes come out. No socket, no clock, no engine. One module per protocol, and none knows another.

pub mod asked;
pub mod chat;
pub mod decisions;
pub mod error;
pub mod headers;
pub mod input;
pub mod json;
pub mod live;
pub mod models;
pub mod native;
pub mod systemone;
#[cfg(test)]
pub(crate) mod testing;

pub use error::{Protocol, WireError};
