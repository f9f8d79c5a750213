//! How does the tagger of names, places and the like learn?
//!
//! ```text
//!   templates and lists ─► compose (texts with what is in them) ─► fit (perceptron) ─► weights as bytes
//! ```
//!
//! Every text is made up from templates and lists that were written for this project; no text of anybody else is read.

mod close;
mod compose;
mod draft;
mod fill;
mod fit;
mod groups;
mod invent;
mod numbers;
mod places;

pub use compose::{Composer, Part};
pub use draft::Made;
pub use groups::Alike;

use sizewise_models::{
    Result,
    encoder::Encoder,
    tagger::{Knowledge, Tagger},
};

/// Seed of the texts to learn from.
const SEED: u64 = 20_240_611;

/// Makes a tagger's file from so many texts. `written` are texts without personal data.
///
/// **Determinism**: the same arguments give the same bytes.
///
/// # Errors
/// Fails only where the program was built from damaged files.
pub fn fit(part: Part, texts: usize, alike: &Alike, written: &[String]) -> Result<Vec<u8>> {
    let groups = alike.by_hash();
    let knowledge = Knowledge::new(groups.iter().copied().collect());
    let mut composer = Composer::new(part, SEED, alike, written);
    let mut fit = fit::Fit::new();
    for _ in 0..texts {
        fit.learn(&knowledge, &composer.text());
    }
    let (weights, links) = fit.averaged();
    Tagger::to_bytes(&groups, &weights, &links)
}

/// Makes a close reader's file from so many texts, none of which the tagger learned from.
///
/// **Determinism**: the same arguments give the same bytes.
///
/// # Errors
/// Fails only where the program was built from damaged files.
pub fn fit_closely(
    part: Part,
    texts: usize,
    alike: &Alike,
    (written, encoder): (&[String], &Encoder),
) -> Result<Vec<u8>> {
    let knowledge = Knowledge::new(alike.by_hash().iter().copied().collect());
    let mut composer = Composer::new(part, SEED + 1, alike, written);
    let mut fit = close::CloseFit::new(encoder, texts);
    for _ in 0..texts {
        fit.learn(&knowledge, &composer.text())?;
    }
    fit.bytes()
}
