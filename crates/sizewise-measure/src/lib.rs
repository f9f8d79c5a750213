//! How good is it, and how sure may we be of that?
//!
//! ```text
//!   outcomes of rows ─► cascade (risk and coverage) ─► plan (from development rows) ─► run (on locked rows) ─► verdict
//!                    └► metrics with intervals, calibration, ranking
//! ```
//!
//! Pure functions: nothing here reads a file, a clock or a random device.

pub mod advice;
pub mod agreement;
pub mod binomial;
pub mod cascade;
pub mod certify;
pub mod claim;
pub mod drawn;
pub mod kinds;
pub mod metrics;
pub mod mix;
pub mod random;
pub mod similar;
pub mod slices;
pub mod watch;
