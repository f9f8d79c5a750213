//! Where does byte-level BPE split a text into words, and how is a byte written in its vocabulary?
//!
//! The rule of GPT-2 (Radford et al. 2019) is a regular expression,
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`. Its look-ahead is beyond engines of linear
//! time, and by hand it takes one pass.

use unicode_normalization::char::is_combining_mark;

const CONTRACTIONS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];

/// What the rule tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

impl Class {
    fn of(c: char) -> Self {
        if c.is_ascii() {
            return match c {
                'a'..='z' | 'A'..='Z' => Self::Letter,
                '0'..='9' => Self::Number,
                '\t'..='\r' | ' ' => Self::Space,
                _ => Self::Other,
            };
        }
        if is_letter(c) {
            Self::Letter
        } else if c.is_numeric() {
            Self::Number
        } else if c.is_whitespace() {
            Self::Space
        } else {
            Self::Other
        }
    }
}

/// The general category L. Unicode's alphabetic characters are letters, numbers like `Ⅷ`, some combining marks and the
/// circled and squared Latin letters among the symbols (Standard Annex 44, Other_Alphabetic).
fn is_letter(c: char) -> bool {
    let circled = matches!(u32::from(c),
        0x24B6..=0x24E9 | 0x1F130..=0x1F149 | 0x1F150..=0x1F169 | 0x1F170..=0x1F189);
    c.is_alphabetic() && !c.is_numeric() && !circled && !is_combining_mark(c)
}

/// The words of a text; together they are the whole text.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (word, after) = rest.split_at_checked(word_length(rest)).unwrap_or((rest, ""));
        rest = after;
        (!word.is_empty()).then_some(word)
    })
}

/// Bytes of the first word.
fn word_length(text: &str) -> usize {
    if let Some(contraction) = CONTRACTIONS.iter().find(|contraction| text.starts_with(**contraction)) {
        return contraction.len();
    }
    // One space belongs to the word that follows.
    let after_space =
        text.strip_prefix(' ').filter(|rest| rest.starts_with(|c| Class::of(c) != Class::Space));
    let word = after_space.unwrap_or(text);
    let Some(class) = word.chars().next().map(Class::of) else { return 0 };
    let run = word.find(|c| Class::of(c) != class).unwrap_or(word.len());
    if class != Class::Space || run == word.len() {
        return text.len() - word.len() + run;
    }
    // Of a run of spaces the last is left to what follows, unless it is the only one.
    let last = word.get(..run).and_then(|run| run.chars().next_back()).map_or(0, char::len_utf8);
    if run > last { run - last } else { run }
}

/// The character that stands for a byte: printable ones for themselves, the others from U+0100 on.
pub(super) fn written(byte: u8) -> char {
    let is_printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if is_printable(byte) {
        return char::from(byte);
    }
    let number = (0..byte).filter(|before| !is_printable(*before)).count() as u32;
    char::from_u32(256 + number).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_those_of_the_rule() {
        for (text, expected) in [
            ("", vec![]),
            ("Hello  world", vec!["Hello", " ", " world"]),
            (" I've  got 42!!\n", vec![" I", "'ve", " ", " got", " 42", "!!", "\n"]),
            ("a\tb\u{a0}c", vec!["a", "\t", "b", "\u{a0}", "c"]),
            ("x \n y  ", vec!["x", " \n", " y", "  "]),
            (" 's don'T", vec![" '", "s", " don", "'", "T"]),
            ("e\u{301}x", vec!["e", "\u{301}", "x"]),
            ("Ⅷ٣½ⓐ", vec!["Ⅷ٣½", "ⓐ"]),
        ] {
            assert_eq!(words(text).collect::<Vec<_>>(), expected, "{text:?}");
        }
    }

    #[test]
    fn every_byte_has_a_character_of_its_own() {
        let all: std::collections::BTreeSet<char> = (0..=255).map(written).collect();
        assert_eq!(all.len(), 256);
        assert_eq!([b' ', b'\n', b'a', 0xAD].map(written), ['Ġ', 'Ċ', 'a', 'Ń']);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(text in "([ \t'a1é!\u{a0}]|st|\\PC)*") {
            prop_assert_eq!(words(&text).collect::<String>(), text);
        }
    }
}
