//! How does SentencePiece replace characters before it cuts?
//!
//! `precompiled_charsmap` is base64 of a little-endian length, a double-array trie (Aoe 1989, in the layout of Darts-clone:
//! one 32-bit unit per node) and replacements that end with a zero byte. Nothing in it is trusted: every step through it
//! is checked, and a path that leads outside ends the search.
//!
//! As in the public package, a grapheme cluster (Unicode Standard Annex 29) of less than six bytes is looked up as a
//! whole and then by characters, and the shortest key that matches decides.

use super::section::Section;
use crate::{error::Result, memory::InMemory};
use unicode_segmentation::UnicodeSegmentation;

/// Clusters from this length on are looked up by characters alone.
const CLUSTER_BYTES: usize = 6;
/// Longest replacement, in bytes, so that no file makes a text grow without bound. NFKC's longest has 33.
pub(super) const REPLACEMENT_BYTES: usize = 64;

/// A table of replacements.
#[derive(Debug)]
pub(super) struct Charsmap {
    units: Vec<u32>,
    /// Replacements, each ended by a zero byte.
    replacements: String,
}

impl Charsmap {
    /// Reads the `precompiled_charsmap` of a section.
    ///
    /// # Errors
    /// Fails when it is damaged, with the key.
    pub(super) fn parse(section: &Section<'_>) -> Result<Self> {
        const KEY: &str = "precompiled_charsmap";
        let damaged = |problem: &str| section.damaged(KEY, problem);
        let bytes = from_base64(section.text(KEY)?).ok_or_else(|| damaged("is no base64"))?;
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| damaged("has no length"))?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > rest.len() || !length.is_multiple_of(4) || length == 0 {
            return Err(damaged(&format!("has a trie of {length} bytes in {}", rest.len())));
        }
        let (units, replacements) = rest.split_at(length);
        let replacements =
            std::str::from_utf8(replacements).map_err(|_| damaged("has replacements that are no UTF-8"))?;
        if let Some(long) = replacements.split('\0').find(|text| text.len() > REPLACEMENT_BYTES) {
            let problem = format!("has a replacement of {} bytes; at most {REPLACEMENT_BYTES}", long.len());
            return Err(damaged(&problem));
        }
        let units = units.as_chunks().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        Ok(Self { units, replacements: replacements.to_owned() })
    }

    /// Replaces what has a replacement.
    pub(super) fn apply(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for cluster in text.graphemes(true) {
            if cluster.len() < CLUSTER_BYTES
                && let Some(replacement) = self.find(cluster)
            {
                out.push_str(replacement);
                continue;
            }
            for c in cluster.chars() {
                match self.find(c.encode_utf8(&mut [0; 4])) {
                    Some(replacement) => out.push_str(replacement),
                    None => out.push(c),
                }
            }
        }
        out
    }

    /// The replacement of the shortest key that `text` begins with.
    fn find(&self, text: &str) -> Option<&str> {
        let mut at = offset(*self.units.first()?);
        for byte in text.bytes().take_while(|byte| *byte != 0) {
            at ^= usize::from(byte);
            let unit = *self.units.get(at)?;
            // The highest bit marks a unit that holds a value and leads nowhere.
            if unit & 0x8000_00ff != u32::from(byte) {
                return None;
            }
            at ^= offset(unit);
            if unit & 0x100 != 0 {
                let begin = (*self.units.get(at)? & 0x7fff_ffff) as usize;
                let rest = self.replacements.get(begin..)?;
                return rest.split('\0').next();
            }
        }
        None
    }
}

/// How far from a unit its children are.
fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & 0x200) >> 6)) as usize
}

/// The bytes of base64 with padding (RFC 4648, section 4).
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let (groups, rest) = text.as_bytes().as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    let mut bytes = Vec::with_capacity(groups.len() * 3);
    for (at, group) in groups.iter().enumerate() {
        let padding = group.iter().rev().take_while(|c| **c == b'=').count();
        if padding > 2 || (padding > 0 && at + 1 < groups.len()) {
            return None;
        }
        let mut bits = 0u32;
        for c in group.iter().take(4 - padding) {
            let value = match c {
                b'A'..=b'Z' => c - b'A',
                b'a'..=b'z' => c - b'a' + 26,
                b'0'..=b'9' => c - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = (bits << 6) | u32::from(value);
        }
        let [_, group @ ..] = (bits << (6 * padding)).to_be_bytes();
        bytes.extend(group.iter().take(3 - padding));
    }
    Some(bytes)
}

impl InMemory for Charsmap {
    fn held_bytes(&self) -> usize {
        self.units.held_bytes() + self.replacements.held_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn charsmap(value: &Value) -> Result<Charsmap> {
        let json = json!({ "type": "Precompiled", "precompiled_charsmap": value });
        Charsmap::parse(&Section::of("t", "normalizer", &json).unwrap().unwrap())
    }

    #[test]
    fn base64_is_read_strictly() {
        // The test vectors of RFC 4648, section 10.
        for (text, expected) in
            [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmE=", "fooba")]
        {
            assert_eq!(from_base64(text).as_deref(), Some(expected.as_bytes()));
        }
        for text in ["Z", "Zg=", "Zg==Zg==", "Z===", "====", "Zm9\n", "Zm-v"] {
            assert_eq!(from_base64(text), None, "{text}");
        }
    }

    #[test]
    fn a_damaged_table_is_refused_by_name() {
        for (value, expected) in [
            (json!("?"), "is no base64"),
            (json!(7), "normalizer.precompiled_charsmap is no text"),
            (json!(""), "has no length"),
            (json!("/////w=="), "a trie of 4294967295 bytes"),
            (json!("AAAAAA=="), "a trie of 0 bytes"),
            (json!("BAAAAAAAAAD/"), "no UTF-8"),
        ] {
            let error = charsmap(&value).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_units_lead_outside(units in prop::collection::vec(any::<u32>(), 1..64), text: String) {
            let map = Charsmap { units, replacements: "é\0b\0".into() };
            let _ = map.apply(&text);
        }
    }
}
