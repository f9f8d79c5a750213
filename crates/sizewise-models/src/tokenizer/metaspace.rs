//! Where does SentencePiece split a text into words?
//!
//! Spaces become a visible character, and every word begins with one.

use super::section::Section;
use crate::error::{Error, Result};

/// How words are told apart.
#[derive(Debug)]
pub(super) struct Metaspace {
    /// Whether space of every kind parts words first and is lost.
    splits_at_space: bool,
    /// What stands for a space.
    replacement: char,
    /// Whether one is put before what has none.
    prepends: bool,
    /// Whether each begins a word, or the text is one word.
    splits: bool,
}

impl Metaspace {
    /// Reads the `pre_tokenizer` section: `Metaspace`, with or without a `WhitespaceSplit` before it.
    ///
    /// # Errors
    /// Fails when it is damaged or of another kind.
    pub(super) fn parse(file: &str, section: Option<&Section<'_>>) -> Result<Self> {
        const EXPECTED: &str = "Unigram with Metaspace, with or without WhitespaceSplit before it";
        let Some(section) = section else {
            let problem = format!("pre_tokenizer is missing; this build runs {EXPECTED}");
            return Err(Error::Unsupported { file: file.to_owned(), problem });
        };
        match section.kind()? {
            "Metaspace" => Self::one(section, false),
            "Sequence" => {
                section.only(&["pretokenizers"])?;
                match section.parts("pretokenizers")?.as_slice() {
                    [one] if one.kind()? == "Metaspace" => Self::one(one, false),
                    [space, one] if space.kind()? == "WhitespaceSplit" && one.kind()? == "Metaspace" => {
                        space.only(&[])?;
                        Self::one(one, true)
                    }
                    _ => Err(section
                        .unsupported("pretokenizers", &format!("are others; this build runs {EXPECTED}"))),
                }
            }
            _ => Err(section.unknown_kind(EXPECTED)),
        }
    }

    fn one(section: &Section<'_>, splits_at_space: bool) -> Result<Self> {
        section.only(&["replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep"])?;
        let mut replacement = section.text("replacement")?.chars();
        let (Some(replacement), None) = (replacement.next(), replacement.next()) else {
            return Err(section.damaged("replacement", "is not one character"));
        };
        // Older files have `add_prefix_space`, newer ones `prepend_scheme`.
        let prepends = match section.value("prepend_scheme") {
            None => section.flag("add_prefix_space", true)?,
            Some(_) => match section.text("prepend_scheme")? {
                "always" => true,
                "never" => false,
                _ => return Err(section.unsupported("prepend_scheme", "is neither `always` nor `never`")),
            },
        };
        Ok(Self { splits_at_space, replacement, prepends, splits: section.flag("split", true)? })
    }

    /// Hands every word over.
    pub(super) fn for_each_word(&self, text: &str, mut word: impl FnMut(&str)) {
        let mut buffer = String::new();
        let mut part = |part: &str| {
            if part.is_empty() {
                return;
            }
            buffer.clear();
            if self.prepends && !part.starts_with([' ', self.replacement]) {
                buffer.push(self.replacement);
            }
            buffer.extend(part.chars().map(|c| if c == ' ' { self.replacement } else { c }));
            if !self.splits {
                return word(&buffer);
            }
            let mut begin = 0;
            for (at, _) in buffer.match_indices(self.replacement).filter(|(at, _)| *at > 0) {
                word(buffer.get(begin..at).unwrap_or_default());
                begin = at;
            }
            word(buffer.get(begin..).unwrap_or_default());
        };
        if self.splits_at_space {
            text.split_whitespace().for_each(part);
        } else {
            part(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn words(section: &Value, text: &str) -> Vec<String> {
        let section = Section::of("t", "pre_tokenizer", section).unwrap();
        let mut words = Vec::new();
        Metaspace::parse("t", section.as_ref())
            .unwrap()
            .for_each_word(text, |word| words.push(word.to_owned()));
        words
    }

    #[test]
    fn words_begin_with_the_visible_space() {
        let always = json!({"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true});
        assert_eq!(words(&always, "a b  c\td▁e"), ["▁a", "▁b", "▁", "▁c\td", "▁e"]);
        assert_eq!(words(&always, "▁a "), ["▁a", "▁"]);
        assert!(words(&always, "").is_empty());
        let old = json!({"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},
            {"type":"Metaspace","replacement":"▁","add_prefix_space":true}]});
        assert_eq!(words(&old, " a b \u{3000} c\td "), ["▁a", "▁b", "▁c", "▁d"]);
        let whole = json!({"type":"Metaspace","replacement":"_","prepend_scheme":"never","split":false});
        assert_eq!(words(&whole, "a b"), ["a_b"]);
    }

    #[test]
    fn what_cannot_run_is_named() {
        for (section, expected) in [
            (
                json!({"type":"Metaspace","replacement":"▁","prepend_scheme":"first"}),
                "pre_tokenizer.prepend_scheme",
            ),
            (
                json!({"type":"Metaspace","replacement":"ab"}),
                "pre_tokenizer.replacement is not one character",
            ),
            (json!({"type":"Whitespace"}), "pre_tokenizer.type is `Whitespace`"),
            (
                json!({"type":"Sequence","pretokenizers":[{"type":"Digits"}]}),
                "pre_tokenizer.pretokenizers are others",
            ),
        ] {
            let section = Section::of("t", "pre_tokenizer", &section).unwrap();
            let error = Metaspace::parse("t", section.as_ref()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
