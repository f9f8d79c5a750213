//! Where do some bytes stand, as they are or in any form in which programs write them down?

use sizewise_contract::ContentHash;
use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
};

/// Sixteen letters and digits that stand nowhere else.
pub(crate) fn random() -> String {
    sixteen(b"abcdefghjkmnpqrstuvwxyz23456789")
}

/// The same without digits: a word that nobody takes for somebody's number, and that stays where texts are redacted.
pub(crate) fn word() -> String {
    sixteen(b"abcdefghjkmnpqrstuvwxyz")
}

fn sixteen(of: &[u8]) -> String {
    let bits = || RandomState::new().hash_one(std::time::Instant::now());
    (0..16).map(|_| char::from(of[(bits() % of.len() as u64) as usize])).collect()
}

/// A number of a card whose checksum holds.
pub(crate) fn card() -> String {
    let random: u64 = RandomState::new().hash_one(std::time::Instant::now());
    let digits = format!("4{:014}", random % 100_000_000_000_000);
    let weighed = digits.bytes().rev().enumerate().map(|(place, digit)| {
        let value = u32::from(digit - b'0') * if place % 2 == 0 { 2 } else { 1 };
        value / 10 + value % 10
    });
    let sum: u32 = weighed.sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}

/// The forms in which a text may have been written down.
pub(crate) fn forms(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = text.as_bytes();
    let each =
        |write: &dyn Fn(u8) -> String| bytes.iter().map(|byte| write(*byte)).collect::<String>().into_bytes();
    let digest = ContentHash::of(bytes);
    let mut forms = vec![
        ("as it is", bytes.to_vec()),
        ("upper case", text.to_uppercase().into_bytes()),
        ("UTF-16", bytes.iter().flat_map(|byte| [*byte, 0]).collect()),
        ("hex", each(&|byte| format!("{byte:02x}"))),
        ("HEX", each(&|byte| format!("{byte:02X}"))),
        ("percent", each(&|byte| format!("%{byte:02X}"))),
        ("percent, lower case", each(&|byte| format!("%{byte:02x}"))),
        ("JSON escapes", each(&|byte| format!("\\u{byte:04x}"))),
        ("SHA-256", digest.as_bytes().to_vec()),
        ("SHA-256 in hex", digest.to_string().into_bytes()),
    ];
    for shift in 0..3 {
        // What stands before moves the six bits by so many bytes; what hangs on neighbours is left aside.
        let moved = base64(&[&vec![0; shift], bytes].concat());
        forms.push(("base64", moved[(shift * 8).div_ceil(6)..(shift + bytes.len()) * 8 / 6].to_vec()));
    }
    forms.dedup_by(|a, b| a.1 == b.1);
    forms
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    for three in bytes.chunks(3) {
        let bits =
            (0..3).fold(0u32, |bits, place| bits << 8 | u32::from(three.get(place).copied().unwrap_or(0)));
        out.extend((0..=three.len()).map(|place| LETTERS[(bits >> (18 - 6 * place)) as usize & 63]));
    }
    out
}

/// Bytes to look for, which form of a text they are, and its number.
type Pattern = (Vec<u8>, &'static str, usize);

/// Looks for many texts at once.
pub(crate) struct Search {
    /// By their first two bytes.
    patterns: HashMap<[u8; 2], Vec<Pattern>>,
}

impl Search {
    pub(crate) fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut patterns = HashMap::<_, Vec<_>>::new();
        for (number, text) in texts.into_iter().enumerate() {
            for (form, bytes) in forms(text) {
                patterns.entry([bytes[0], bytes[1]]).or_default().push((bytes, form, number));
            }
        }
        Self { patterns }
    }

    /// The texts that were found, by number, with the forms they were found in.
    pub(crate) fn find(&self, haystack: &[u8]) -> BTreeMap<usize, &'static str> {
        let mut begins = vec![false; 1 << 16];
        self.patterns.keys().for_each(|pair| begins[usize::from(u16::from_be_bytes(*pair))] = true);
        let mut found = BTreeMap::new();
        for (at, pair) in haystack.windows(2).enumerate() {
            let pair = [pair[0], pair[1]];
            if !begins[usize::from(u16::from_be_bytes(pair))] {
                continue;
            }
            for (bytes, form, number) in &self.patterns[&pair] {
                if haystack[at..].starts_with(bytes) {
                    found.insert(*number, *form);
                }
            }
        }
        found
    }
}

/// Every file below a folder with its bytes.
pub(crate) fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => {
                    found.push((path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(&path).unwrap()))
                }
            }
        }
    }
    found
}

#[test]
fn every_form_of_a_canary_is_found_wherever_it_stands() {
    let (text, other) = (random(), random());
    let search = Search::of([other.as_str(), text.as_str()]);
    for (form, bytes) in forms(&text) {
        for before in 0..4 {
            let around = [&b"\x00{\"x"[..before], &bytes, b"y\"}\xff"].concat();
            assert_eq!(search.find(&around).keys().copied().collect::<Vec<_>>(), [1], "{form}");
        }
    }
    // As a public encoder writes it: RFC 4648, section 10.
    assert_eq!(base64(b"foobar"), b"Zm9vYmFy");
    assert_eq!(search.find(&base64(format!("{{\"prompt\":\"{text}\"}}").as_bytes())).len(), 1);
    assert_eq!(search.find(random().as_bytes()).len(), 0);
    assert_eq!(card().len(), 16);
}
