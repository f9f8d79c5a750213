//! What can rules find, without knowing any names?
//!
//! One pattern, most specific first. What must come to an end before it counts is bounded, so that time stays linear in the text whatever
//! it holds: else every short match would wait for a long one that never comes. A checksum decides what a number is.

use super::{
    checks::{is_card, is_iban, is_ip, is_national_id},
    kinds::PersonalData,
};
use regex::{Captures, Regex, RegexBuilder};
use std::{ops::Range, sync::LazyLock};

/// How much a rule's word counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Strength {
    /// A form that little else has: any long number, a date in digits. Gives way to whoever knows better.
    Form,
    /// The words around say what it is.
    Context,
    /// Checksum, prefix or structure: certain.
    Certain,
}

static PATTERN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let pattern = r#"(?x)
        (?P<secret>-----BEGIN\ [A-Z\ ]{0,40}PRIVATE\ KEY-----[A-Za-z0-9+/=\s]*(?:-----END\ [A-Z\ ]{0,40}PRIVATE\ KEY-----)?
            | (?-u:\b)(?:sk-|[rs]k_(?:live|test)_|sw_|gh[oprsu]_|github_pat_|glpat-|xox[abeprs]-|AIza|ya29\.|hf_|npm_|pypi-|SG\.|dop_v1_|shpat_)[A-Za-z0-9_\-]{12,}
            | (?-u:\b)A[KS]IA[0-9A-Z]{16}(?-u:\b)
            | (?-u:\b)eyJ[A-Za-z0-9_\-]{8,400}\.[A-Za-z0-9_\-]{8,}(?:\.[A-Za-z0-9_\-]*)?
            | (?i:(?-u:\b)(?:password|passwort|passphrase|api[\ _\-]?key|secret|token)\s{0,3}(?::|=|\ is\ )\s{0,3}["']?[^\s"']{4,}))
      | (?P<email>[^\s@<>()\[\],;:"']{1,64}@[^\s@<>()\[\],;:"']{1,128}[^\s@<>()\[\],;:"'.!?])
      | (?P<url>(?i:https?|ftp)://[^\s<>"']+[^\s<>"'.,;:!?)\]}]
            | (?i-u:\bwww\.)[^\s<>"']+[^\s<>"'.,;:!?)\]}]
            | (?-u:\b)(?:[A-Za-z0-9][A-Za-z0-9-]{0,62}\.){1,4}(?i-u:com|org|net|info|biz|edu|gov|io|de|fr|es|it|nl|be|ch|at|uk|eu|pl|cz|se|no|dk|fi|pt|ru|ua|jp|cn|in|br|mx|au|ca|us|nz|za|tk|tv|app|dev|online|shop|xyz)(?-u:\b)(?:/[^\s<>"']*[^\s<>"'.,;:!?)\]}])?)
      | (?P<iban>(?-u:\b)[A-Za-z]{2}[0-9]{2}(?:[\ -]?[A-Za-z0-9]{2,4}){3,8}(?-u:\b))
      | (?P<ip>(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?:(?:[0-9]{1,3}\.){3}[0-9]{1,3})?
            | (?-u:\b)(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?-u:\b))
      | (?P<ssn>(?-u:\b)[0-9]{3}-[0-9]{2}-[0-9]{4}(?-u:\b))
      | (?P<national>(?-u:\b)(?:[0-9]{8}-?[A-Z] | [XYZ]-?[0-9]{7}-?[A-Z] | [A-Z]{6}[0-9]{2}[A-Z][0-9]{2}[A-Z][0-9]{3}[A-Z]
            | [0-9]{6}[-+A][0-9]{3}[0-9A-Y] | [A-Z]{2}\ ?[0-9]{2}\ ?[0-9]{2}\ ?[0-9]{2}\ ?[A-D]
            | [12]\ [0-9]{2}\ [0-9]{2}\ [0-9]{2}\ [0-9]{3}\ [0-9]{3}\ [0-9]{2}
            | [0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2} | [0-9]{6}[-+][0-9]{4})(?-u:\b))
      | (?i:(?-u:\b)(?:driver'?s?|driving)(?:\ |')?\ ?licen[cs]e(?:\ (?:number|no\.?|nr\.?|id))?(?:\ is|:|\ \#)?\ {0,2})(?P<license>[A-Z0-9][A-Z0-9-]{3,19}[0-9](?-u:\b))
      | (?i:(?-u:\b)(?:zip|postal|post)\ ?(?:code)?(?:\ is|:)?\ {0,2})(?P<zip>(?:[0-9]{3,5}(?:[\ -][0-9]{2,4})?|[A-Z]{1,2}[0-9][0-9A-Z]?\ [0-9][A-Z]{2}|[A-Z][0-9][A-Z]\ [0-9][A-Z][0-9])(?-u:\b))
      | (?i:(?-u:\b)age[d]?(?:\ is|:|\ of)?\ {1,2})(?P<age>1?[0-9]{1,2}(?-u:\b))
      | (?P<old>(?-u:\b)1?[0-9]{1,2})(?i:(?:\ |-)?(?:years?|yrs?)?(?:\ |-)?(?:-old|\ old|\ of\ age)|\ ?y/?o)(?-u:\b)
      | (?P<date>(?-u:\b)(?:[0-9]{1,2}[/.\-][0-9]{1,2}[/.\-](?:[0-9]{4}|[0-9]{2})|[0-9]{4}[/.\-][0-9]{1,2}[/.\-][0-9]{1,2}
            (?:[\ T][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?Z?)?)(?-u:\b)
            | (?i-u:\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec)[a-z]{0,6}\.?)\ [0-9]{1,2}(?:st|nd|rd|th)?,?\ [0-9]{4}(?-u:\b)
            | (?-u:\b)[0-9]{1,2}(?:st|nd|rd|th|\.)?\ (?:of\ )?(?i-u:(?:jan|feb|mar|apr|may|mai|jun|jul|aug|sep|sept|oct|okt|nov|dec|dez)[a-z]{0,6}\.?),?\ [0-9]{4}(?-u:\b))
      | (?P<number>\+?\(?\d(?:[\ ()./x-]{0,2}\d){6,24})
      | (?P<code>(?-u:\b)[A-Z]{1,3}[0-9]{6,}(?-u:\b))
    "#;
    RegexBuilder::new(pattern).size_limit(1 << 24).build().ok()
});

type Rule = (&'static str, PersonalData, Strength);

const RULES: [Rule; 13] = [
    ("secret", PersonalData::Secret, Strength::Certain),
    ("email", PersonalData::EmailAddress, Strength::Certain),
    ("url", PersonalData::Url, Strength::Certain),
    ("iban", PersonalData::IbanCode, Strength::Certain),
    ("ip", PersonalData::IpAddress, Strength::Certain),
    ("ssn", PersonalData::UsSsn, Strength::Certain),
    ("national", PersonalData::NationalId, Strength::Certain),
    ("license", PersonalData::DriverLicense, Strength::Context),
    ("zip", PersonalData::ZipCode, Strength::Context),
    ("age", PersonalData::Age, Strength::Context),
    ("old", PersonalData::Age, Strength::Context),
    ("date", PersonalData::DateTime, Strength::Form),
    ("number", PersonalData::Number, Strength::Form),
];

/// Words without which a secret has no name.
static NAMES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    RegexBuilder::new("(?i:pass(?:word|wort|phrase)|api[ _-]?key|secret|token)").build().ok()
});

/// Whether any rule could match: most texts hold no digit and no sign that a rule needs, and are told at a glance.
fn may_match(text: &str) -> bool {
    let mut word = 0;
    let mut before = b' ';
    for byte in text.bytes() {
        // Characters beyond ASCII may be digits, spaces or letters of another case.
        if byte.is_ascii_digit() || !byte.is_ascii() || matches!(byte, b'@' | b':' | b'_') {
            return true;
        }
        // A domain; the dashes around a private key; the prefix of a key with what follows it.
        let begins = (before == b'.' && !byte.is_ascii_whitespace()) || (before == b'-' && byte == b'-');
        if begins || word > 14 {
            return true;
        }
        word = if byte.is_ascii_whitespace() { 0 } else { word + 1 };
        before = byte;
    }
    word > 14 || NAMES.as_ref().is_none_or(|names| names.is_match(text))
}

/// What rules find, in order, none overlapping another. None where the text cannot be searched.
pub(super) fn by_rules(text: &str) -> Option<Vec<(Range<usize>, PersonalData, Strength)>> {
    let pattern = PATTERN.as_ref()?;
    if !may_match(text) {
        return Some(Vec::new());
    }
    Some(pattern.captures_iter(text).filter_map(|captures| judged(&captures)).collect())
}

fn judged(captures: &Captures<'_>) -> Option<(Range<usize>, PersonalData, Strength)> {
    let named = RULES.iter().find_map(|rule| captures.name(rule.0).map(|found| (rule, found)));
    let Some(((_, kind, strength), found)) = named else {
        return captures.get(0).map(|code| (code.range(), PersonalData::Number, Strength::Form));
    };
    let (kind, strength) = match *kind {
        PersonalData::IbanCode if !is_iban(found.as_str()) => (PersonalData::Number, Strength::Form),
        PersonalData::NationalId if !is_national_id(found.as_str()) => (PersonalData::Number, Strength::Form),
        PersonalData::Number if is_card(found.as_str()) => (PersonalData::CreditCard, Strength::Certain),
        PersonalData::IpAddress if !is_ip(found.as_str()) => {
            // Else a time of day, or a version.
            let digits = found.as_str().bytes().filter(u8::is_ascii_digit).count();
            return (digits >= 7).then(|| (found.range(), PersonalData::Number, Strength::Form));
        }
        kind => (kind, *strength),
    };
    Some((found.range(), kind, strength))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_sentences_are_told_at_a_glance() {
        assert!(!may_match(
            "My card was charged twice for the same order, and I need it back before Friday."
        ));
        assert!(may_match("my password is hunter"));
    }

    proptest! {
        #[test]
        fn what_is_told_at_a_glance_holds_nothing_that_a_rule_finds(
            parts in proptest::collection::vec(
                prop_oneof![
                    "[a-zA-Z]{1,8}", "[ .,:;'/=@_+-]{1,3}", "[0-9]{1,4}",
                    Just("password is ".to_owned()), Just("API-key=".to_owned()), Just("sk-".to_owned()), Just("AKIA".to_owned()),
                    Just("www.".to_owned()), Just("http://".to_owned()), Just("-----BEGIN A PRIVATE KEY-----".to_owned()),
                    Just("eyJ".to_owned()), Just(".com".to_owned()), Just("post code is ".to_owned()), Just("aged ".to_owned()),
                    Just("::".to_owned()), Just("hf_".to_owned()), "[A-Z]{16}", "[ſK٣]",
                ],
                0..12,
            ),
        ) {
            let text = parts.concat();
            let found = PATTERN.as_ref().unwrap().captures_iter(&text).filter_map(|found| judged(&found)).count();
            prop_assert!(may_match(&text) || found == 0, "{text:?}");
        }
    }
}
