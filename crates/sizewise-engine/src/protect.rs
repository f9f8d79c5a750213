//! What of an input may be kept, and what may leave?
//!
//! ```text
//!   text ─► rules (checksums, prefixes, forms) ─┐
//!        └► tagger (names, places, …) ──────────┴─► find ─► redacted ─► restore
//!           with the encoder where it is to leave
//! ```

mod checks;
mod find;
mod kinds;
mod redacted;
mod rules;
#[cfg(test)]
mod tests;

pub use find::{Finding, FoundBy, find, find_quickly};
pub use kinds::PersonalData;
pub use redacted::Redacted;

use sizewise_contract::{StoredInput, task::StoreInput};

/// Whether texts can be searched for what is personal: false only where the program was built from damaged files. The encoder is not
/// loaded for this: where it cannot be, a text is replaced as a whole.
#[must_use]
pub fn can_redact() -> bool {
    find_quickly("").is_some()
}

/// Takes out of a text whatever personal data is found in it, by rules and by the tagger with the encoder. None where it cannot be searched: then nothing
/// of it may leave.
#[must_use]
pub fn redacted(text: &str) -> Option<Redacted> {
    find(text).map(|found| Redacted::new(text, Some(&found)))
}

/// The same, as text alone. What cannot be searched is replaced as a whole: nothing leaves by mistake.
#[must_use]
pub fn redact(text: &str) -> String {
    Redacted::new(text, find(text).as_deref()).into_text()
}

/// The same without the encoder, for texts that are kept and of which there are too many to read closely.
#[must_use]
pub fn redact_quickly(text: &str) -> String {
    Redacted::new(text, find_quickly(text).as_deref()).into_text()
}

/// The same by rules alone: names stay readable.
#[must_use]
pub fn redact_by_rules(text: &str) -> String {
    Redacted::new(text, find::find_by_rules(text).as_deref()).into_text()
}

/// The input as far as it may be kept. Records stay in the house and are learned from, so that rules suffice: names stay readable.
pub(crate) fn kept(text: &str, rule: StoreInput) -> StoredInput {
    match rule {
        StoreInput::Nothing => StoredInput::Nothing,
        StoreInput::Redacted => StoredInput::Redacted(redact_by_rules(text)),
        StoreInput::Full => StoredInput::Full(text.to_owned()),
    }
}
