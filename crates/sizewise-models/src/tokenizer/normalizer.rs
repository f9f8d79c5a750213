//! Which form do characters get before a text is cut?
//!
//! The steps that files of encoders hold: Unicode's normal forms (Standard Annex 15), case, accents, replacements,
//! SentencePiece's table. Steps that a file could use to make texts grow are bounded when it is read.

use super::{
    charsmap::{Charsmap, REPLACEMENT_BYTES},
    section::Section,
};
use crate::{
    error::Result,
    memory::{InMemory, each},
};
use serde_json::Value;
use std::borrow::Cow;
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// Most steps of one file.
const STEPS: usize = 16;
/// How many times as long a file's own replacements may make a text, all steps together: a table of characters and a
/// replacement or two.
const GROWTH: usize = 4 * REPLACEMENT_BYTES;
/// Longest text that is put in front, in bytes.
const PREPENDED_BYTES: usize = 64;

/// The steps, in order.
#[derive(Debug, Default)]
pub(super) struct Normalizer {
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    Lowercase,
    StripAccents,
    /// At the left, at the right.
    Strip(bool, bool),
    Replace {
        from: String,
        to: String,
    },
    /// Two spaces or more.
    ReplaceSpaces {
        to: String,
    },
    Prepend(String),
    Precompiled(Charsmap),
}

impl Normalizer {
    /// Reads the `normalizer` section.
    ///
    /// # Errors
    /// Fails when it is damaged or holds a step that this build cannot run.
    pub(super) fn parse(section: Option<&Section<'_>>) -> Result<Self> {
        let mut normalizer = Self::default();
        if let Some(section) = section {
            normalizer.add(section)?;
            if normalizer.steps.len() > STEPS {
                return Err(section.unsupported("normalizers", &format!("has more than {STEPS} steps")));
            }
            let grown =
                normalizer.steps.iter().fold(1usize, |grown, step| grown.saturating_mul(step.growth()));
            if grown > GROWTH {
                let problem = format!("makes texts up to {grown} times as long; at most {GROWTH}");
                return Err(section.unsupported("type", &problem));
            }
        }
        Ok(normalizer)
    }

    fn add(&mut self, section: &Section<'_>) -> Result<()> {
        let step = match section.kind()? {
            "Sequence" => {
                section.only(&["normalizers"])?;
                return section.parts("normalizers")?.iter().try_for_each(|part| self.add(part));
            }
            "NFC" => Step::Nfc,
            "NFD" => Step::Nfd,
            "NFKC" => Step::Nfkc,
            "NFKD" => Step::Nfkd,
            "Lowercase" => Step::Lowercase,
            "StripAccents" => Step::StripAccents,
            "Strip" => {
                section.only(&["strip_left", "strip_right"])?;
                self.steps
                    .push(Step::Strip(section.flag("strip_left", true)?, section.flag("strip_right", true)?));
                return Ok(());
            }
            "Replace" => {
                self.steps.push(replace(section)?);
                return Ok(());
            }
            "Prepend" => {
                section.only(&["prepend"])?;
                let begin = section.text("prepend")?;
                if begin.len() > PREPENDED_BYTES {
                    return Err(
                        section.unsupported("prepend", &format!("has more than {PREPENDED_BYTES} bytes"))
                    );
                }
                self.steps.push(Step::Prepend(begin.to_owned()));
                return Ok(());
            }
            "Precompiled" => {
                section.only(&["precompiled_charsmap"])?;
                self.steps.push(Step::Precompiled(Charsmap::parse(section)?));
                return Ok(());
            }
            _ => {
                return Err(section.unknown_kind(
                    "NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, Replace, Prepend, Precompiled and Sequence",
                ));
            }
        };
        section.only(&[])?;
        self.steps.push(step);
        Ok(())
    }

    /// The text in its normal form.
    pub(super) fn apply<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for step in &self.steps {
            if let Some(changed) = step.apply(&text) {
                text = Cow::Owned(changed);
            }
        }
        text
    }
}

impl Step {
    /// The changed text; none where nothing changes.
    fn apply(&self, text: &str) -> Option<String> {
        match self {
            Self::Nfc | Self::Nfd | Self::Nfkc | Self::Nfkd if text.is_ascii() => None,
            Self::Nfc => Some(text.nfc().collect()),
            Self::Nfd => Some(text.nfd().collect()),
            Self::Nfkc => Some(text.nfkc().collect()),
            Self::Nfkd => Some(text.nfkd().collect()),
            // By characters: a final sigma is like any other.
            Self::Lowercase => Some(text.chars().flat_map(char::to_lowercase).collect()),
            Self::StripAccents => Some(text.chars().filter(|c| !is_combining_mark(*c)).collect()),
            Self::Strip(left, right) => {
                let text = if *left { text.trim_start() } else { text };
                Some(if *right { text.trim_end() } else { text }.to_owned())
            }
            Self::Replace { from, to } => {
                text.contains(from.as_str()).then(|| text.replace(from.as_str(), to))
            }
            Self::ReplaceSpaces { to } => text.contains("  ").then(|| replace_spaces(text, to)),
            Self::Prepend(begin) => (!text.is_empty()).then(|| format!("{begin}{text}")),
            Self::Precompiled(charsmap) => Some(charsmap.apply(text)),
        }
    }

    /// How many times as long it can make a text, by what the file says.
    fn growth(&self) -> usize {
        match self {
            Self::Replace { from, to } => to.len().div_ceil(from.len().max(1)).max(1),
            Self::ReplaceSpaces { to } => to.len().div_ceil(2).max(1),
            // A replacement may stand for a single byte.
            Self::Precompiled(_) => REPLACEMENT_BYTES,
            // Unicode's forms grow a text at most elevenfold, and only the first time.
            _ => 1,
        }
    }
}

fn replace(section: &Section<'_>) -> Result<Step> {
    section.only(&["pattern", "content"])?;
    let to = section.text("content")?.to_owned();
    let pattern =
        |kind: &str| section.value("pattern").and_then(|pattern| pattern.get(kind)).and_then(Value::as_str);
    match (pattern("String"), pattern("Regex")) {
        (Some(""), _) => Err(section.unsupported("pattern", "is empty")),
        (Some(from), _) => Ok(Step::Replace { from: from.to_owned(), to }),
        (None, Some(" {2,}")) => Ok(Step::ReplaceSpaces { to }),
        (None, Some(regex)) => {
            let regex: String = regex.chars().take(64).collect();
            let problem = format!("is the regular expression `{regex}`; this build runs text and ` {{2,}}`");
            Err(section.unsupported("pattern", &problem))
        }
        (None, None) => Err(section.damaged("pattern", "is neither a String nor a Regex")),
    }
}

fn replace_spaces(text: &str, to: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("  ") {
        out.push_str(before);
        out.push_str(to);
        rest = after.trim_start_matches(' ');
    }
    out.push_str(rest);
    out
}

impl InMemory for Normalizer {
    fn held_bytes(&self) -> usize {
        each(&self.steps, self.steps.capacity(), |step| match step {
            Step::Precompiled(charsmap) => charsmap.held_bytes(),
            // Words of a few letters at most.
            Step::Replace { from, to } => from.held_bytes() + to.held_bytes(),
            Step::ReplaceSpaces { to } | Step::Prepend(to) => to.held_bytes(),
            Step::Nfc
            | Step::Nfd
            | Step::Nfkc
            | Step::Nfkd
            | Step::Lowercase
            | Step::StripAccents
            | Step::Strip(..) => 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: &Value) -> Result<Normalizer> {
        Normalizer::parse(Some(&Section::of("t", "normalizer", value).unwrap().unwrap()))
    }

    #[test]
    fn steps_are_taken_in_order() {
        let steps = json!({"type":"Sequence","normalizers":[
            {"type":"Strip","strip_left":true,"strip_right":false},
            {"type":"NFKD"}, {"type":"StripAccents"}, {"type":"Lowercase"},
            {"type":"Replace","pattern":{"String":"``"},"content":"\""},
            {"type":"Replace","pattern":{"Regex":" {2,}"},"content":" "},
            {"type":"Prepend","prepend":"▁"}]});
        let normalizer = parse(&steps).unwrap();
        assert_eq!(normalizer.apply("  Ça   ``ﬁn``  "), "▁ca \"fin\" ");
        assert_eq!(normalizer.apply(" "), "");
        assert_eq!(Normalizer::parse(None).unwrap().apply("Ç"), "Ç");
    }

    #[test]
    fn what_cannot_run_is_named() {
        let replace = |from: &str, to: &str| json!({"type":"Replace","pattern":{"String":from},"content":to});
        let doubled = json!({"type":"Sequence","normalizers":vec![replace("a", "aa"); 9]});
        let mut deep = json!({"type":"NFC"});
        (0..20).for_each(|_| deep = json!({"type":"Sequence","normalizers":[deep]}));
        for (value, expected) in [
            (json!({"type":"Nmt"}), "normalizer.type is `Nmt`"),
            (
                json!({"type":"Sequence","normalizers":[{"type":"NFC","form":1}]}),
                "normalizers[0].form is not known",
            ),
            (
                json!({"type":"Replace","pattern":{"Regex":"(a+)+$"},"content":""}),
                "regular expression `(a+)+$`",
            ),
            (replace("", "x"), "normalizer.pattern is empty"),
            (doubled, "512 times as long"),
            (deep, "nests too deeply"),
            (json!({"type":"Sequence","normalizers":vec![json!({"type":"NFC"}); 20]}), "more than 16 steps"),
            (json!({"type":"Strip","strip_left":3}), "strip_left is neither true nor false"),
        ] {
            let error = parse(&value).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
