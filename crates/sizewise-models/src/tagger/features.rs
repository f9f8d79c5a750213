//! What does the tagger look at?
//!
//! Every word is described by hashed facts about itself and its neighbours: spelling, shape, lists, the group of words that it is used
//! like, and where in its line it stands. A fact is a row of the weights; rows are shared by facts whose hashes collide.

use super::{
    lists::{Lists, lower},
    words::{Gap, Word, words},
};
use std::{collections::HashMap, ops::Range};

/// Spans that somebody has found, with the name of what they are.
type Known<'a> = &'a [(Range<usize>, &'a str)];

/// Rows of the weights.
pub const ROWS: usize = 1 << ROW_BITS;
const ROW_BITS: u32 = 16;

/// What the tagger knows of words before it looks at a text.
#[derive(Debug)]
pub struct Knowledge {
    lists: Lists,
    groups: HashMap<u32, u16>,
}

/// A text as the tagger sees it.
#[derive(Debug, Default)]
pub struct Reading {
    /// Where the words stand, in bytes.
    pub words: Vec<Range<usize>>,
    rows: Vec<u32>,
    ends: Vec<usize>,
}

impl Reading {
    /// The rows of weights that speak about a word.
    #[must_use]
    pub fn rows(&self, word: usize) -> &[u32] {
        let start = word.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(word).copied().unwrap_or(start);
        self.rows.get(start..end).unwrap_or_default()
    }
}

/// A word as its own features and those of its neighbours need it.
#[derive(Debug, Clone, Copy, Default)]
struct Traits {
    lower: u64,
    shape: u64,
    short: u64,
    starts: [u64; 3],
    ends: [u64; 3],
    lists: u64,
    group: u64,
    gap: u64,
}

impl Knowledge {
    /// `groups` are words by their hash ([`word_hash`]) with the group that they are used like.
    #[must_use]
    pub fn new(groups: HashMap<u32, u16>) -> Self {
        Self { lists: Lists::new(), groups }
    }

    /// Reads a text. `known` are spans that somebody has found, with the name of what they are; of the words in `strange` nothing is
    /// known but how they are spelt (for learning, where every name would else be a known one).
    #[must_use]
    pub fn read(&self, text: &str, known: &[(Range<usize>, &str)], strange: &[Range<usize>]) -> Reading {
        let spans: Vec<Range<usize>> = known.iter().map(|(span, _)| span.clone()).collect();
        let words = words(text, &spans);
        self.described(text, &words, (known, strange), case_of(text))
    }

    pub(super) fn described(
        &self,
        text: &str,
        words: &[Word],
        (known, strange): (Known<'_>, &[Range<usize>]),
        case: u64,
    ) -> Reading {
        let hashes: Vec<u64> = words
            .iter()
            .map(|word| match word.known.and_then(|which| known.get(which)) {
                Some((_, name)) => lower(name) ^ 0x5bd1_e995,
                None => lower(text.get(word.range.clone()).unwrap_or_default()),
            })
            .collect();
        let spelt =
            |at: usize| words.get(at).and_then(|word| text.get(word.range.clone())).unwrap_or_default();
        let lists = self.lists.of(&hashes, |at| spelt(at).chars().all(|letter| letter.is_ascii_uppercase()));
        let is_strange = |word: &Word| {
            let next = strange.partition_point(|span| span.end <= word.range.start);
            strange.get(next).is_some_and(|span| span.start <= word.range.start)
        };
        let traits: Vec<Traits> = words
            .iter()
            .zip(hashes)
            .zip(lists)
            .map(|((word, hash), lists)| {
                let group = self.groups.get(&(hash as u32)).map_or(0, |group| u64::from(*group) + 1);
                let mut traits = Traits { lower: hash, gap: word.gap as u64, ..Traits::default() };
                if word.known.is_none() {
                    spell(&mut traits, text.get(word.range.clone()).unwrap_or_default());
                    if !is_strange(word) {
                        (traits.lists, traits.group) = (u64::from(lists), group);
                    }
                }
                traits
            })
            .collect();
        let mut reading =
            Reading { words: words.iter().map(|word| word.range.clone()).collect(), ..Reading::default() };
        reading.rows.reserve(traits.len() * 72);
        let mut line_start = 0;
        for at in 0..traits.len() {
            if words.get(at).is_some_and(|word| matches!(word.gap, Gap::Line | Gap::Paragraph)) {
                line_start = at;
            }
            describe(&traits, at, (line_start, case), &mut reading.rows);
            reading.ends.push(reading.rows.len());
        }
        reading
    }
}

/// Whether a text has no capitals (1), little else (2) or both (0): where nobody writes capitals they say nothing.
pub(super) fn case_of(text: &str) -> u64 {
    let letters = text.chars().filter(|letter| letter.is_alphabetic()).take(4_096);
    let (upper, all) =
        letters.fold((0, 0), |(upper, all), letter| (upper + u32::from(letter.is_uppercase()), all + 1));
    if upper == 0 { 1 } else { 2 * u64::from(upper * 10 > all * 7 && all > 8) }
}

/// The hash by which groups know a word.
#[must_use]
pub fn word_hash(word: &str) -> u32 {
    lower(word) as u32
}

/// Beginnings, endings and shape of a word: `Xxxx`, `99`; the short form leaves out repetitions.
fn spell(traits: &mut Traits, word: &str) {
    let kind = |letter: char| match letter {
        letter if letter.is_numeric() => 1u64,
        letter if letter.is_uppercase() => 2,
        letter if letter.is_alphabetic() => 3,
        letter => u64::from(u32::from(letter)) + 8,
    };
    let mut last = 0;
    for (at, letter) in word.chars().take(64).enumerate() {
        let kind = kind(letter);
        if at < 10 && (kind < 3 || at < 3) {
            traits.shape = hashed(traits.shape, kind);
        }
        if kind != last {
            traits.short = hashed(traits.short, kind);
        }
        last = kind;
    }
    let folded = |letter: char| letter.to_lowercase().next().unwrap_or(letter);
    let mut hash = 1;
    for (at, letter) in word.chars().take(4).enumerate() {
        hash = hashed(hash, u64::from(u32::from(folded(letter))));
        if let Some(start) = at.checked_sub(1).and_then(|at| traits.starts.get_mut(at)) {
            *start = hash;
        }
    }
    hash = 2;
    for (at, letter) in word.chars().rev().take(4).enumerate() {
        hash = hashed(hash, u64::from(u32::from(folded(letter))));
        if let Some(end) = at.checked_sub(1).and_then(|at| traits.ends.get_mut(at)) {
            *end = hash;
        }
    }
}

fn hashed(hash: u64, next: u64) -> u64 {
    (hash ^ next.wrapping_mul(0xff51_afd7_ed55_8ccd)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// Puts down the rows for one word. The order of the features is part of the weights' format.
fn describe(all: &[Traits], at: usize, (line_start, case): (usize, u64), rows: &mut Vec<u32>) {
    let edge = Traits { lower: 7, ..Traits::default() };
    let near = |offset: isize| {
        let place = at.checked_add_signed(offset);
        place.and_then(|at| all.get(at)).copied().unwrap_or(edge)
    };
    let (here, left, right, far_left, far_right) = (near(0), near(-1), near(1), near(-2), near(2));
    let mut template = 0;
    let mut put = |a: u64, b: u64| {
        template += 1;
        let hash = hashed(hashed(hashed(template, a), b), 0x51).wrapping_mul(0xd6e8_feb8_6659_fd93);
        rows.push((hash >> (64 - ROW_BITS)) as u32);
    };
    put(case, 0);
    // Words.
    put(here.lower, 0);
    put(left.lower, 0);
    put(right.lower, 0);
    put(far_left.lower, 0);
    put(far_right.lower, 0);
    put(left.lower, here.lower);
    put(here.lower, right.lower);
    put(far_left.lower, left.lower);
    put(right.lower, far_right.lower);
    // Shapes.
    put(here.shape, 0);
    put(left.shape, here.shape);
    put(here.shape, right.shape);
    put(hashed(left.shape, here.shape), right.shape);
    put(hashed(far_left.short, left.short), hashed(hashed(here.short, right.short), far_right.short));
    put(here.short, case);
    put(left.lower, here.short);
    put(right.lower, here.short);
    put(hashed(far_left.lower, left.lower), here.short);
    put(far_left.lower, here.short);
    put(far_right.lower, here.short);
    put(hashed(left.lower, here.shape), right.lower);
    // Spelling.
    for (start, end) in here.starts.iter().zip(here.ends) {
        put(*start, 0);
        put(end, 0);
    }
    put(here.ends[1], here.short);
    put(left.ends[1], 0);
    put(right.ends[1], 0);
    // Groups.
    put(here.group, 0);
    put(left.group, 0);
    put(right.group, 0);
    put(far_left.group, 0);
    put(far_right.group, 0);
    put(left.group, here.group);
    put(here.group, right.group);
    put(here.group, here.short);
    put(left.group, here.short);
    put(right.group, here.short);
    put(far_left.group, hashed(left.group, here.short));
    put(here.group >> 4, here.short);
    put(left.group >> 4, hashed(here.lists, here.short));
    put(right.group >> 4, hashed(here.lists, here.short));
    // Lists.
    put(here.lists, case);
    put(here.lists, here.short);
    put(left.lists, here.lists);
    put(here.lists, right.lists);
    put(hashed(left.lists, here.lists), hashed(right.lists, here.short));
    put(left.lists, 0);
    put(right.lists, 0);
    put(far_left.lists, here.short);
    put(far_right.lists, here.short);
    put(left.lower, here.lists);
    put(right.lower, here.lists);
    put(far_left.lower, here.lists);
    // Lines.
    put(here.gap, here.short);
    put(right.gap, here.short);
    put(hashed(here.gap, left.lower), here.short);
    put(hashed(right.gap, right.lower), here.short);
    put(hashed(here.gap, here.lists), hashed(right.gap, right.lists));
    let place = at - line_start;
    put(place.min(4) as u64, here.short);
    put(all.get(line_start).map_or(0, |word| word.lower), (place.min(6)) as u64);
    // What was said a little earlier, wherever.
    put(near(-3).lower, here.short);
    put(near(3).lower, here.short);
    for offset in 2..=6 {
        let word = near(-offset);
        let hash = hashed(hashed(hashed(97, word.lower), here.short), 0).wrapping_mul(0xd6e8_feb8_6659_fd93);
        rows.push((hash >> (64 - ROW_BITS)) as u32);
    }
}
