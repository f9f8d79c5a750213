//! Which names could there be that are on no list?
//!
//! Letters follow each other as in the names of a list (a chain over pairs of letters), so that the tagger meets names it has never
//! seen, as it will outside.

use crate::fit::Random;
use std::collections::BTreeMap;

/// Makes up names like those it was shown.
#[derive(Debug)]
pub(super) struct Inventor {
    after: BTreeMap<(char, char), Vec<char>>,
}

const EDGE: char = '\u{0}';

impl Inventor {
    pub(super) fn like<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut after: BTreeMap<(char, char), Vec<char>> = BTreeMap::new();
        for word in names.flat_map(|name| name.split([' ', '-', '\''])).filter(|word| word.len() > 2) {
            let mut before = (EDGE, EDGE);
            for letter in word.chars().flat_map(char::to_lowercase).chain([EDGE]) {
                after.entry(before).or_default().push(letter);
                before = (before.1, letter);
            }
        }
        Self { after }
    }

    /// A name with a capital, of four to eleven letters.
    pub(super) fn name(&self, random: &mut Random) -> String {
        loop {
            let (mut name, mut before) = (String::new(), (EDGE, EDGE));
            while name.chars().count() < 12 {
                let Some(letters) = self.after.get(&before) else { break };
                let Some(letter) = letters.get(random.below(letters.len())).copied() else { break };
                if letter == EDGE {
                    break;
                }
                name.push(letter);
                before = (before.1, letter);
            }
            if (4..12).contains(&name.chars().count()) {
                return capital(&name);
            }
        }
    }
}

/// With a capital at the beginning.
pub(super) fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
