//! Which lists of names, places and telling words is a word on?
//!
//! The lists are facts written down for this project (`weights/tagger/lists`); a word may be on several. An entry of several words is
//! found only as a whole. Entries of at most three capitals ("OR", "US") count in capitals only, as most of them are words as well.

use super::words::words;
use std::collections::HashMap;

/// Every list with its name.
pub const LISTS: [(&str, &str); 15] = [
    ("given", include_str!("../../weights/tagger/lists/given.txt")),
    ("surnames", include_str!("../../weights/tagger/lists/surnames.txt")),
    ("cities", include_str!("../../weights/tagger/lists/cities.txt")),
    ("countries", include_str!("../../weights/tagger/lists/countries.txt")),
    ("regions", include_str!("../../weights/tagger/lists/regions.txt")),
    ("nationalities", include_str!("../../weights/tagger/lists/nationalities.txt")),
    ("titles", include_str!("../../weights/tagger/lists/titles.txt")),
    ("jobs", include_str!("../../weights/tagger/lists/jobs.txt")),
    ("job_words", include_str!("../../weights/tagger/lists/job_words.txt")),
    ("street_words", include_str!("../../weights/tagger/lists/street_words.txt")),
    ("address_words", include_str!("../../weights/tagger/lists/address_words.txt")),
    ("company_endings", include_str!("../../weights/tagger/lists/company_endings.txt")),
    ("company_words", include_str!("../../weights/tagger/lists/company_words.txt")),
    ("companies", include_str!("../../weights/tagger/lists/companies.txt")),
    ("calendar", include_str!("../../weights/tagger/lists/calendar.txt")),
];

/// The longest entry, in words.
const LONGEST: usize = 8;

/// The entries of a list, by its name.
pub fn entries(list: &str) -> impl Iterator<Item = &'static str> {
    let text = LISTS.iter().find(|(name, _)| *name == list).map_or("", |(_, text)| *text);
    text.split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty())
}

/// Entries by the hash of their words, and the beginnings of entries with no list.
#[derive(Debug)]
pub(crate) struct Lists(HashMap<u64, Entry>);

#[derive(Debug, Default, Clone, Copy)]
struct Entry {
    lists: u16,
    /// The lists where it counts in capitals only.
    capitals: u16,
}

impl Lists {
    pub(crate) fn new() -> Self {
        let mut found: HashMap<u64, Entry> = HashMap::new();
        for (place, (name, _)) in LISTS.iter().enumerate() {
            for entry in entries(name) {
                let mut hash = 0;
                for word in words(entry, &[]) {
                    hash = joined(hash, lower(entry.get(word.range).unwrap_or_default()));
                    found.entry(hash).or_default();
                }
                let short = entry.len() <= 3 && entry.chars().all(|letter| letter.is_ascii_uppercase());
                let entry = found.entry(hash).or_default();
                if short {
                    entry.capitals |= 1 << place;
                } else {
                    entry.lists |= 1 << place;
                }
            }
        }
        Self(found)
    }

    /// For every word the lists that it is on, alone or as part of an entry. `lower` are the words' hashes; `capitals` says which are
    /// in capitals alone.
    pub(crate) fn of(&self, lower: &[u64], capitals: impl Fn(usize) -> bool) -> Vec<u16> {
        let mut lists = vec![0u16; lower.len()];
        for start in 0..lower.len() {
            let mut hash = 0;
            for (count, word) in lower.iter().skip(start).take(LONGEST).enumerate() {
                hash = joined(hash, *word);
                let Some(entry) = self.0.get(&hash) else { break };
                let mut on = entry.lists;
                if entry.capitals != 0 && capitals(start) {
                    on |= entry.capitals;
                }
                if on != 0 {
                    lists.iter_mut().skip(start).take(count + 1).for_each(|word| *word |= on);
                }
            }
        }
        lists
    }
}

fn joined(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(17) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The hash of a word in lower case (FNV-1a over its first 64 characters).
pub(crate) fn lower(word: &str) -> u64 {
    word.chars().take(64).flat_map(char::to_lowercase).fold(0xcbf2_9ce4_8422_2325, |hash, letter| {
        (hash ^ u64::from(u32::from(letter))).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(text: &str) -> Vec<Vec<&'static str>> {
        let found = words(text, &[]);
        let hashes: Vec<u64> = found.iter().map(|word| lower(&text[word.range.clone()])).collect();
        let capital = |at: usize| text[found[at].range.clone()].chars().all(char::is_uppercase);
        let named = |lists: &u16| {
            LISTS
                .iter()
                .enumerate()
                .filter(|(at, _)| lists & (1 << at) != 0)
                .map(|(_, (name, _))| *name)
                .collect()
        };
        Lists::new().of(&hashes, capital).iter().map(named).collect()
    }

    #[test]
    fn entries_of_several_words_are_found_whole_and_abbreviations_in_capitals() {
        assert_eq!(on("to sri lanka"), [vec![], vec!["countries"], vec!["countries"]]);
        assert_eq!(on("lanka"), [Vec::<&str>::new()]);
        assert_eq!(on("in or IN")[..2], [Vec::<&str>::new(), vec![]]);
        assert!(on("IN")[0].contains(&"regions"));
    }
}
