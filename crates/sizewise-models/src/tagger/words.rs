//! Where do the words of a text begin and end, for one that tags them?
//!
//! A word is a run of letters and digits; every other character that is no white space is a word of its own. What somebody else has
//! found already (an e-mail address, a link) is one word, whatever it holds.

use std::ops::Range;

/// What stands before a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gap {
    Nothing,
    Space,
    Line,
    Paragraph,
}

/// A word and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// In bytes of the text, on boundaries of characters.
    pub(crate) range: Range<usize>,
    pub(crate) gap: Gap,
    /// Which of the known spans it is.
    pub(crate) known: Option<usize>,
}

/// The words of a text, in order. `known` are spans in order that do not overlap.
pub(crate) fn words(text: &str, known: &[Range<usize>]) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::with_capacity(text.len() / 5 + 4);
    let mut known = known.iter().enumerate().peekable();
    let (mut gap, mut open, mut until) = (Gap::Paragraph, false, 0);
    for (at, letter) in text.char_indices() {
        if at < until {
            continue;
        }
        while known.peek().is_some_and(|(_, span)| span.start < at) {
            known.next();
        }
        if let Some((which, span)) = known.next_if(|(_, span)| span.start == at && span.end > at) {
            words.push(Word { range: span.clone(), gap, known: Some(which) });
            (gap, open, until) = (Gap::Nothing, false, span.end);
        } else if letter.is_whitespace() {
            gap = match (gap, letter) {
                (Gap::Line | Gap::Paragraph, '\n') => Gap::Paragraph,
                (_, '\n') => Gap::Line,
                (Gap::Nothing, _) => Gap::Space,
                (gap, _) => gap,
            };
            open = false;
        } else {
            let end = at + letter.len_utf8();
            let part = letter.is_alphanumeric() || is_mark(letter);
            match words.last_mut() {
                Some(word) if open && part => word.range.end = end,
                _ => words.push(Word { range: at..end, gap, known: None }),
            }
            (gap, open) = (Gap::Nothing, part);
        }
    }
    words
}

/// Accents that follow their letter.
fn is_mark(letter: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters_and_what_is_known_is_one_word() {
        let text = "Dear O'Neill,\n\nwrite to a.b@c.de at 5pm";
        let at = text.find("a.b").unwrap();
        let known = at..at + 8;
        let found = words(text, std::slice::from_ref(&known));
        let shown: Vec<&str> = found.iter().map(|word| &text[word.range.clone()]).collect();
        assert_eq!(shown, ["Dear", "O", "'", "Neill", ",", "write", "to", "a.b@c.de", "at", "5pm"]);
        assert_eq!(found[5].gap, Gap::Paragraph);
        assert_eq!(found[7].known, Some(0));
        assert_eq!((found[2].gap, found[1].gap), (Gap::Nothing, Gap::Space));
    }

    proptest::proptest! {
        #[test]
        fn words_lie_in_order_on_boundaries_and_leave_out_only_white_space(text in "\\PC{0,60}|[a-z\\n \u{301}é.]{0,60}") {
            let mut after = 0;
            for word in words(&text, &[]) {
                proptest::prop_assert!(text.get(word.range.clone()).is_some_and(|word| !word.is_empty()));
                proptest::prop_assert!(text[after..word.range.start].chars().all(char::is_whitespace));
                after = word.range.end;
            }
            proptest::prop_assert!(text[after..].chars().all(char::is_whitespace));
        }
    }
}
