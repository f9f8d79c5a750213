//! Which words and pieces of words does a text have?
//!
//! Words, pairs of neighbouring words, and runs of three to five characters inside a word, each as a 64-bit hash, so that
//! a model keeps no texts. Works for every script: combining marks belong to their word, and scripts that write no
//! spaces (Han, Kana, Thai, Khmer …) are taken character by character.

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// Lengths of the character runs.
const RUNS: std::ops::RangeInclusive<usize> = 3..=5;
/// Longest word that is taken apart, in characters; of a longer one the beginning counts.
const WORD_CHARS: usize = 64;
/// Words that are read of one text; a longer text is known by its beginning and end.
const WORDS: usize = 4_096;

/// Which of the two blocks of features a hash belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// Words and pairs of words.
    Word,
    /// Runs of characters.
    Run,
}

/// The hashes of one text. Reused from text to text.
#[derive(Debug, Default, Clone)]
pub struct Ngrams {
    /// Hashes of words and pairs of words, repeated as often as they occur.
    pub words: Vec<u64>,
    /// Hashes of character runs, repeated as often as they occur.
    pub runs: Vec<u64>,
    /// How many words were read.
    pub word_count: usize,
    word: Vec<u8>,
    /// Where each character of `word` begins, and its end.
    starts: Vec<u32>,
    previous: Option<u64>,
}

impl Ngrams {
    /// Replaces the hashes by those of `text`.
    ///
    /// **Determinism.** The same on every machine: the hash is defined here and nowhere else.
    pub fn read(&mut self, text: &str) {
        self.words.clear();
        self.runs.clear();
        self.word_count = 0;
        self.previous = None;
        if text.is_ascii() {
            self.read_ascii(text.as_bytes());
        } else if is_nfc_quick(text.chars()) == IsNormalized::Yes {
            self.read_chars(text.chars());
        } else {
            self.read_chars(text.nfc());
        }
        if let Some(last) = self.previous.take() {
            self.words.push(pair(last, EDGE));
        }
    }

    fn read_ascii(&mut self, text: &[u8]) {
        let mut word = [b' '; ROOM];
        let mut length = 0;
        for byte in text {
            match LETTERS.get(usize::from(*byte)) {
                Some(0) | None => {
                    if length > 0 {
                        self.end_ascii_word(&mut word, length);
                        length = 0;
                        if self.word_count >= WORDS {
                            return;
                        }
                    }
                }
                Some(letter) => {
                    if let Some(slot) = word.get_mut(length + 1)
                        && length < WORD_CHARS - 1
                    {
                        *slot = *letter;
                        length += 1;
                    }
                }
            }
        }
        if length > 0 {
            self.end_ascii_word(&mut word, length);
        }
    }

    /// [`Self::end_word`] for a word of so many bytes after the space in front.
    fn end_ascii_word(&mut self, word: &mut [u8; ROOM], length: usize) {
        if let Some(end) = word.get_mut(length + 1) {
            *end = b' ';
        }
        self.push_word(hash(word.get(1..=length).unwrap_or_default()));
        // One loop over where runs begin, with nothing in it to be guessed: a run that would go beyond the word is written over. No run
        // fills eight bytes, so its hash is one step.
        let bytes = length + 2;
        let mut end = self.runs.len();
        self.runs.resize(end + RUNS.count() * bytes, 0);
        for (first, eight) in word.windows(8).take(bytes).enumerate() {
            let eight = eight.first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight));
            for run in RUNS {
                if let Some(slot) = self.runs.get_mut(end) {
                    *slot = fold(SEED ^ run as u64 ^ (eight & ((1 << (8 * run)) - 1)), LAST) ^ RUN_SALT;
                }
                end += usize::from(first + run <= bytes);
            }
        }
        self.runs.truncate(end);
    }

    fn push_word(&mut self, word: u64) {
        self.word_count += 1;
        self.words.push(word);
        self.words.push(pair(self.previous.unwrap_or(EDGE), word));
        self.previous = Some(word);
    }

    fn read_chars(&mut self, chars: impl Iterator<Item = char>) {
        self.begin_word();
        for c in chars {
            match class_of(c) {
                Class::Letter => {
                    if self.starts.len() <= WORD_CHARS {
                        c.to_lowercase().for_each(|c| self.push(c));
                    }
                }
                Class::Alone => {
                    if self.word.len() > 1 {
                        self.end_word();
                    }
                    self.push(c);
                    self.end_word();
                }
                Class::Between if self.word.len() > 1 => self.end_word(),
                Class::Between => {}
            }
            if self.word_count >= WORDS {
                return;
            }
        }
        if self.word.len() > 1 {
            self.end_word();
        }
    }

    fn begin_word(&mut self) {
        self.word.clear();
        self.word.push(b' ');
        self.starts.clear();
        self.starts.extend([0, 1]);
    }

    fn push(&mut self, c: char) {
        let mut buffer = [0; 4];
        self.word.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
        self.starts.push(self.word.len() as u32);
    }

    /// Takes the current word apart and begins the next.
    fn end_word(&mut self) {
        self.push_word(hash(self.word.get(1..).unwrap_or_default()));
        self.word.push(b' ');
        self.starts.push(self.word.len() as u32);
        let chars = self.starts.len() - 1;
        for first in 0..chars {
            let from = self.starts.get(first).copied().unwrap_or(0) as usize;
            for to in RUNS.filter_map(|run| self.starts.get(first + run)) {
                self.runs.push(hash(self.word.get(from..*to as usize).unwrap_or_default()) ^ RUN_SALT);
            }
        }
        self.begin_word();
    }
}

/// Bytes for a word with a space around it, and for reading eight at a time from any of them on.
const ROOM: usize = WORD_CHARS + 1 + 8;

/// What each byte of a text in ASCII is in a word; 0 where it is in none.
const LETTERS: [u8; 256] = {
    let mut letters = [0; 256];
    let mut byte = 0u8;
    while byte < 128 {
        if byte.is_ascii_alphanumeric() || byte == b'_' {
            letters[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    letters
};

/// Where a hash begins, before the length is mixed in.
const SEED: u64 = 0xa076_1d64_78bd_642f;
/// What the last step of a hash multiplies with.
const LAST: u64 = 0x8ebc_6af0_9c88_c6e3;
/// Stands for the edge of the text in a pair of words.
const EDGE: u64 = 0x9e37_79b9_7f4a_7c15;
/// Keeps a run apart from the word that reads the same.
const RUN_SALT: u64 = 0x2545_f491_4f6c_dd1d;

/// How a character stands to its neighbours.
enum Class {
    Letter,
    /// A word of its own.
    Alone,
    Between,
}

fn class_of(c: char) -> Class {
    match u32::from(c) {
        // Scripts without spaces, and pictures.
        0x0E00..=0x0EFF
        | 0x1000..=0x109F
        | 0x1780..=0x17DD
        | 0x3041..=0x30FF
        | 0x3400..=0x4DBF
        | 0x4E00..=0x9FFF
        | 0xF900..=0xFAFF
        | 0x20000..=0x3FFFF
        | 0x2600..=0x27BF
        | 0x1F300..=0x1FAFF => Class::Alone,
        // Combining marks, which `is_alphanumeric` leaves out: they belong to the letter before.
        0x0300..=0x036F
        | 0x0591..=0x05BD
        | 0x0610..=0x061A
        | 0x064B..=0x065F
        | 0x0900..=0x0963
        | 0x0966..=0x0DFF
        | 0x0F18..=0x0FBC
        | 0x200C..=0x200D => Class::Letter,
        _ if c.is_alphanumeric() || c == '_' => Class::Letter,
        _ => Class::Between,
    }
}

/// Hashes a few bytes: eight at a time, multiplied and folded (after wyhash, Wang Yi 2019).
#[inline]
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut state = SEED ^ bytes.len() as u64;
    let mut rest = bytes;
    while let Some((eight, after)) = rest.split_first_chunk::<8>() {
        state = fold(state ^ u64::from_le_bytes(*eight), 0xe703_7ed1_a0b4_28db);
        rest = after;
    }
    fold(state ^ fewer_than_eight(rest), LAST)
}

/// Up to seven bytes as a number, the first of them lowest. What is read twice is the same twice.
#[inline]
pub(crate) fn fewer_than_eight(bytes: &[u8]) -> u64 {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let begin = 8 * (bytes.len() - 4) as u32;
        return u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << begin;
    }
    let byte = |at: usize| bytes.get(at).map_or(0, |byte| u64::from(*byte) << (8 * at));
    byte(0) | byte(1) | byte(2)
}

#[inline]
fn pair(first: u64, second: u64) -> u64 {
    fold(first.rotate_left(23) ^ 0x5896_5089_7c39_9263, second ^ 0x1d8e_4e27_c47d_124f)
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64) ^ a
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn read(text: &str) -> Ngrams {
        let mut ngrams = Ngrams::default();
        ngrams.read(text);
        ngrams
    }

    #[test]
    fn a_word_gives_itself_its_pairs_and_its_runs() {
        let ngrams = read("Lost card");
        // lost, card, ^lost, lost-card, card$
        assert_eq!((ngrams.word_count, ngrams.words.len()), (2, 5));
        // " lost " has four runs of three, three of four, two of five; so has " card ".
        assert_eq!(ngrams.runs.len(), 18);
        assert_eq!(read("a").runs.len(), 1);
    }

    #[test]
    fn case_and_punctuation_do_not_matter() {
        assert_eq!(read("LOST, card!").words, read("lost card").words);
        assert_eq!(read("Ärger über Öl").words, read("ÄRGER ÜBER ÖL").words);
    }

    #[test]
    fn composed_and_decomposed_letters_are_the_same() {
        assert_eq!(read("caf\u{e9}").runs, read("cafe\u{301}").runs);
    }

    #[test]
    fn every_script_gives_words() {
        for (text, words) in [
            ("我的卡丢了", 5),
            ("मेरा कार्ड खो गया", 4),
            ("บัตรหาย", 7),
            ("карта потеряна", 2),
            ("بطاقتي ضاعت", 2),
            ("카드를 잃어버렸어요", 2),
            ("ok 👍", 2),
        ] {
            assert_eq!(read(text).word_count, words, "{text}");
        }
    }

    #[test]
    fn the_hash_never_changes_because_stored_models_depend_on_it() {
        assert_eq!(hash(b"card"), 0x3458_35b6_9dac_ef80);
        assert_eq!(hash(b"registration"), 0xbe5f_e083_6d37_fa79);
    }

    #[test]
    fn different_short_strings_have_different_hashes() {
        let words: Vec<String> = (0..200_000).map(|i| format!("{:x}", i * 7919)).collect();
        assert_eq!(
            words.iter().map(|word| hash(word.as_bytes())).collect::<BTreeSet<_>>().len(),
            words.len()
        );
    }

    #[test]
    fn a_huge_text_gives_a_bounded_number_of_hashes() {
        let ngrams = read(&"many words ".repeat(200_000));
        assert!(ngrams.words.len() <= 2 * WORDS + 1);
        assert!(read(&"x".repeat(1 << 20)).runs.len() < 4 * WORD_CHARS);
    }

    proptest! {
        #[test]
        fn ascii_and_unicode_paths_agree(text in "[ -~]{0,60}") {
            let mut unicode = Ngrams::default();
            unicode.read_chars(text.chars());
            if let Some(last) = unicode.previous.take() {
                unicode.words.push(pair(last, EDGE));
            }
            let ascii = read(&text);
            prop_assert_eq!(ascii.words, unicode.words);
            prop_assert_eq!(ascii.runs, unicode.runs);
        }

        #[test]
        fn any_text_can_be_read(text in "\\PC{0,80}") {
            read(&text);
        }
    }
}
