//! The application: the command line, the HTTP server, settings and the wiring of the crates below it.

pub mod serve;
pub mod wire;
