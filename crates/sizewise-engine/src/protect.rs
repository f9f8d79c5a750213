//! What of an input may be kept?

use regex::{Captures, Regex, RegexBuilder};
use sizewise_contract::{StoredInput, task::StoreInput};
use std::sync::LazyLock;

/// What is replaced, most specific first. Linear time in the input, whatever it holds.
static PATTERN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let pattern = r#"(?x)
        (?P<email>[^\s@<>()\[\],;:"']+@[^\s@<>()\[\],;:"']+[^\s@<>()\[\],;:"'.!?])
      | (?P<url>https?://\S+)
      | (?P<iban>(?-u:\b)[A-Z]{2}[0-9]{2}(?:[\ -]?[A-Z0-9]{2,4}){3,8}(?-u:\b))
      | (?P<number>\+?\d(?:[\ ()./-]{0,2}\d){6,24})
    "#;
    RegexBuilder::new(pattern).size_limit(1 << 22).build().ok()
});

/// Replaces e-mail addresses, links, account numbers and any run of seven or more digits.
///
/// What cannot be searched is replaced as a whole: nothing is kept by mistake.
#[must_use]
pub fn redact(text: &str) -> String {
    let Some(pattern) = PATTERN.as_ref() else { return "[WITHHELD]".to_owned() };
    let name = |found: &Captures<'_>| {
        let kinds = [("email", "[EMAIL]"), ("url", "[URL]"), ("iban", "[IBAN]"), ("number", "[NUMBER]")];
        kinds.into_iter().find(|(kind, _)| found.name(kind).is_some()).map_or("[WITHHELD]", |(_, name)| name)
    };
    pattern.replace_all(text, |found: &Captures<'_>| name(found).to_owned()).into_owned()
}

/// The input as far as it may be kept.
pub(crate) fn kept(text: &str, rule: StoreInput) -> StoredInput {
    match rule {
        StoreInput::Nothing => StoredInput::Nothing,
        StoreInput::Redacted => StoredInput::Redacted(redact(text)),
        StoreInput::Full => StoredInput::Full(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_long_numbers_are_replaced_and_the_matter_stays() {
        for (text, expected) in [
            ("write to ann.lee+shop@mail.example.org please", "write to [EMAIL] please"),
            ("my card 4111 1111 1111 1111 was charged 49.90", "my card [NUMBER] was charged 49.90"),
            ("call +49 (30) 901820 or 030/9018-20", "call [NUMBER] or [NUMBER]"),
            ("to DE89 3704 0044 0532 0130 00, order F-20418", "to [IBAN], order F-20418"),
            ("see https://example.org/t?token=abc it broke", "see [URL] it broke"),
            ("ordered 2 tents on 3 May", "ordered 2 tents on 3 May"),
        ] {
            assert_eq!(redact(text), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_seven_digits_survive_together(text in ".{0,80}", number in "[0-9]{7,20}") {
            let kept = redact(&format!("{text} {number} {text}"));
            proptest::prop_assert!(!kept.contains(&number));
        }
    }
}
