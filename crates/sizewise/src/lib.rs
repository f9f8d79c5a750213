//! How do the crates below become one program?
//!
//! The application: the command line, the HTTP server with its wire formats, settings and wiring.

pub mod alerts;
pub mod cli;
mod clock;
pub mod commands;
mod console;
pub mod error;
mod evaluation;
mod html;
mod kinds;
pub mod learner;
mod likeness;
mod members;
pub mod observe;
pub mod oidc;
mod people;
mod prices;
pub mod project;
mod providers;
mod review;
mod savings;
pub mod screen;
mod secrets;
pub mod serve;
mod shift;
mod table;
pub mod telemetry;
pub mod wire;
