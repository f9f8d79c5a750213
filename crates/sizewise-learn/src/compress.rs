//! How does an encoder become as small as a task allows?
//!
//! ```text
//!   encoder ─► importance ─► candidates: fewer layers, heads, neurons ─► the widest of each depth within the bound
//!                                                                            │
//!   variants ◄─ judged on rows they never saw ◄─ 8 or 4 bits, vocabulary ◄─ recovery (distilled from the whole)
//! ```
//!
//! No variant is taken to be equal to the encoder that it came from: each is judged again, row by row beside it, and its calibrators and
//! the plan of a certificate are fitted to rows that its recovery has not seen, as after adapting.

mod judge;
pub(crate) mod prune;
mod search;
#[cfg(test)]
mod tests;
mod vocabulary;

pub use prune::Outline;
pub use search::{Bound, Compressed, Progress, Settings, Variant, Watch, compress, judge};

use crate::{adapt::Split, dataset::TrainingRows};

/// The rows that a compressed encoder never sees: those that an adapted one would not. `[rows]`
#[must_use]
pub fn unseen(rows: &TrainingRows, seed: u64) -> Vec<bool> {
    Split::of(rows, seed).unseen
}
