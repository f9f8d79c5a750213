//! What of an input may be kept?

use regex::{Regex, RegexBuilder};
use sizewise_contract::{StoredInput, task::StoreInput};
use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::Range,
    sync::LazyLock,
};

/// What is found, most specific first. Linear time in the input, whatever it holds.
static PATTERN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let pattern = r#"(?x)
        (?P<secret>-----BEGIN\ [A-Z\ ]{0,40}PRIVATE\ KEY-----[A-Za-z0-9+/=\s]*(?:-----END\ [A-Z\ ]{0,40}PRIVATE\ KEY-----)?
            | (?-u:\b)(?:sk-|sw_|gh[oprsu]_|github_pat_|glpat-|xox[abeprs]-|AIza|hf_)[A-Za-z0-9_\-]{12,}
            | (?-u:\b)A[KS]IA[0-9A-Z]{16}(?-u:\b)
            | (?-u:\b)eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}(?:\.[A-Za-z0-9_\-]*)?
            | (?i:(?-u:\b)(?:password|passwort|passphrase|api[\ _\-]?key|secret|token)\s{0,3}(?::|=|\ is\ )\s{0,3}["']?[^\s"']{4,}))
      | (?P<email>[^\s@<>()\[\],;:"']+@[^\s@<>()\[\],;:"']+[^\s@<>()\[\],;:"'.!?])
      | (?P<url>https?://\S+)
      | (?P<iban>(?-u:\b)[A-Z]{2}[0-9]{2}(?:[\ -]?[A-Z0-9]{2,4}){3,8}(?-u:\b))
      | (?P<ip>(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?:(?:[0-9]{1,3}\.){3}[0-9]{1,3})?
            | (?-u:\b)(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?-u:\b))
      | (?P<ssn>(?-u:\b)[0-9]{3}-[0-9]{2}-[0-9]{4}(?-u:\b))
      | (?P<date>(?-u:\b)(?:[0-9]{1,2}[/.\-][0-9]{1,2}[/.\-](?:[0-9]{4}|[0-9]{2})|[0-9]{4}[/.\-][0-9]{1,2}[/.\-][0-9]{1,2})(?-u:\b))
      | (?P<number>\+?\(?\d(?:[\ ()./x-]{0,2}\d){6,24})
      | (?P<code>(?-u:\b)[A-Z]{1,3}[0-9]{6,}(?-u:\b))
    "#;
    RegexBuilder::new(pattern).size_limit(1 << 23).build().ok()
});

/// The kinds of personal data that rules find, by the names that Presidio gives them where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PersonalData {
    /// A key, a token or a password.
    Secret,
    /// An e-mail address.
    EmailAddress,
    /// A link.
    Url,
    /// An account number with a checksum that holds.
    IbanCode,
    /// An address of a machine.
    IpAddress,
    /// A card number with a checksum that holds.
    CreditCard,
    /// A social security number of the US.
    UsSsn,
    /// A date in digits.
    DateTime,
    /// A telephone number, or any other run of seven or more digits.
    Number,
}

impl PersonalData {
    /// The name that Presidio gives it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Secret => "SECRET",
            Self::EmailAddress => "EMAIL_ADDRESS",
            Self::Url => "URL",
            Self::IbanCode => "IBAN_CODE",
            Self::IpAddress => "IP_ADDRESS",
            Self::CreditCard => "CREDIT_CARD",
            Self::UsSsn => "US_SSN",
            Self::DateTime => "DATE_TIME",
            Self::Number => "PHONE_NUMBER",
        }
    }

    /// What stands in its place.
    fn mask(self) -> &'static str {
        match self {
            Self::Secret => "[SECRET]",
            Self::EmailAddress => "[EMAIL]",
            Self::Url => "[URL]",
            Self::IbanCode => "[IBAN]",
            Self::IpAddress => "[IP]",
            Self::CreditCard => "[CARD]",
            Self::UsSsn => "[SSN]",
            Self::DateTime => "[DATE]",
            Self::Number => "[NUMBER]",
        }
    }
}

/// Whether the rules can be used at all: a program whose rules do not compile would withhold every text, and should not begin.
#[must_use]
pub(crate) fn is_ready() -> bool {
    PATTERN.is_some()
}

/// Finds personal data by rules, in order, none overlapping another. Names and addresses of people are not among it: no rule knows
/// them. None where the text cannot be searched.
#[must_use]
pub fn find(text: &str) -> Option<Vec<(Range<usize>, PersonalData)>> {
    let pattern = PATTERN.as_ref()?;
    let kinds: [(&str, PersonalData); 8] = [
        ("secret", PersonalData::Secret),
        ("email", PersonalData::EmailAddress),
        ("url", PersonalData::Url),
        ("iban", PersonalData::IbanCode),
        ("ip", PersonalData::IpAddress),
        ("ssn", PersonalData::UsSsn),
        ("date", PersonalData::DateTime),
        ("number", PersonalData::Number),
    ];
    let found = pattern.captures_iter(text).filter_map(|captures| {
        let whole = captures.get(0)?;
        let kind = kinds.iter().find(|(name, _)| captures.name(name).is_some()).map(|(_, kind)| *kind);
        // A checksum tells what a number is; one that does not hold leaves it a number.
        let kind = match kind.unwrap_or(PersonalData::Number) {
            PersonalData::IbanCode if !is_iban(whole.as_str()) => PersonalData::Number,
            PersonalData::Number if is_card(whole.as_str()) => PersonalData::CreditCard,
            PersonalData::IpAddress if !is_ip(whole.as_str()) => {
                let digits = whole.as_str().bytes().filter(u8::is_ascii_digit).count();
                // A time of day, or a version.
                return (digits >= 7).then(|| (whole.range(), PersonalData::Number));
            }
            kind => kind,
        };
        Some((whole.range(), kind))
    });
    Some(found.collect())
}

/// Replaces secrets, e-mail addresses, links, account and card numbers, addresses of machines, dates in digits, and any run of seven
/// or more digits.
///
/// What cannot be searched is replaced as a whole: nothing is kept by mistake.
#[must_use]
pub fn redact(text: &str) -> String {
    let Some(found) = find(text) else { return "[WITHHELD]".to_owned() };
    let mut out = String::with_capacity(text.len());
    let mut after = 0;
    for (range, kind) in found {
        out.push_str(text.get(after..range.start).unwrap_or_default());
        out.push_str(kind.mask());
        after = range.end;
    }
    out.push_str(text.get(after..).unwrap_or_default());
    out
}

/// Whether the check digits hold (ISO 13616: the remainder modulo 97 is 1).
fn is_iban(text: &str) -> bool {
    let plain: Vec<u8> = text.bytes().filter(u8::is_ascii_alphanumeric).collect();
    if !(15..=34).contains(&plain.len()) {
        return false;
    }
    let (head, tail) = plain.split_at(4);
    let digits = tail.iter().chain(head).flat_map(|byte| match byte {
        b'0'..=b'9' => vec![u32::from(byte - b'0')],
        letter => {
            let value = u32::from(letter.to_ascii_uppercase() - b'A') + 10;
            vec![value / 10, value % 10]
        }
    });
    digits.fold(0, |rest, digit| (rest * 10 + digit) % 97) == 1
}

/// Whether the check digit holds (ISO/IEC 7812-1, Luhn's sum).
fn is_card(text: &str) -> bool {
    let digits: Vec<u32> =
        text.bytes().filter(u8::is_ascii_digit).map(|byte| u32::from(byte - b'0')).collect();
    let doubled = |(place, digit): (usize, &u32)| match place % 2 {
        1 => digit * 2 - if *digit > 4 { 9 } else { 0 },
        _ => *digit,
    };
    (12..=19).contains(&digits.len()) && digits.iter().rev().enumerate().map(doubled).sum::<u32>() % 10 == 0
}

fn is_ip(text: &str) -> bool {
    // Two colons between letters are no address, though they could be one.
    let digits = text.bytes().any(|byte| byte.is_ascii_digit());
    text.parse::<Ipv4Addr>().is_ok() || (digits && text.parse::<Ipv6Addr>().is_ok())
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
            ("my card 4111 1111 1111 1111 was charged 49.90", "my card [CARD] was charged 49.90"),
            ("my card 4111 1111 1111 1112 was charged", "my card [NUMBER] was charged"),
            ("it runs on 10.0.0.1 and fe80::1, since 12:30:45", "it runs on [IP] and [IP], since 12:30:45"),
            ("born 3/23/1940, number 308-63-0237", "born [DATE], number [SSN]"),
            ("my api key is sk-abcdEFGH1234567890, token: hunter22", "my [SECRET] [SECRET]"),
            ("version 1.2.3 of the app, 2 of 3 pieces", "version 1.2.3 of the app, 2 of 3 pieces"),
            ("it says std::vec", "it says std::vec"),
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
