//! The application: the command line, the HTTP server, settings and the wiring of the crates below it.

pub mod cli;
mod clock;
pub mod commands;
pub mod error;
mod evaluation;
mod html;
pub mod project;
pub mod screen;
pub mod serve;
mod table;
pub mod wire;
