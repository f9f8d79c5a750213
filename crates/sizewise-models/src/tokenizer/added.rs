//! Which parts of a text are tokens that were added beside the model?
//!
//! Tokens that were added as plain text (ModernBERT's runs of spaces) are cut out before the model sees a text, the longest
//! at the leftmost place. Special tokens are not: what a user writes is data and never steers the model.

use super::{normalizer::Normalizer, trie::Trie};
use crate::{
    error::{Error, Result},
    memory::InMemory,
};
use serde::Deserialize;
use sizewise_contract::limits;
use std::collections::HashSet;

/// One entry of `added_tokens`.
#[derive(Debug, Deserialize)]
pub(super) struct AddedJson {
    id: u32,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    special: bool,
}

/// The added tokens of a file.
#[derive(Debug)]
pub(super) struct AddedTokens {
    /// Looked for in the text as it is.
    raw: Matcher,
    /// Looked for in its normal form.
    normalized: Matcher,
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Token(u32),
}

/// The contents of special tokens.
pub(super) fn special(tokens: &[AddedJson]) -> HashSet<&str> {
    tokens.iter().filter(|token| token.special).map(|token| token.content.as_str()).collect()
}

/// One past the largest id.
pub(super) fn ids(tokens: &[AddedJson]) -> usize {
    tokens.iter().map(|token| token.id as usize + 1).max().unwrap_or(0)
}

impl AddedTokens {
    /// Sorts the tokens by where they are looked for.
    ///
    /// # Errors
    /// Fails when one is out of bounds or asks for what this build does not run.
    pub(super) fn new(file: &str, tokens: &[AddedJson], normalizer: &Normalizer) -> Result<Self> {
        if ids(tokens) > limits::VOCABULARY {
            let problem = format!("added_tokens has an id of {} or more", limits::VOCABULARY);
            return Err(Error::File { file: file.to_owned(), problem });
        }
        let plain = || tokens.iter().filter(|token| !token.special);
        for (key, at) in [
            ("single_word", plain().find(|token| token.single_word)),
            ("lstrip", plain().find(|token| token.lstrip)),
            ("rstrip", plain().find(|token| token.rstrip)),
        ] {
            if let Some(token) = at {
                let problem =
                    format!("added_tokens.{key} is true for the id {}, which is not special", token.id);
                return Err(Error::Unsupported { file: file.to_owned(), problem });
            }
        }
        let of = |normalized: bool| tokens.iter().filter(move |token| token.normalized == normalized);
        Ok(Self {
            raw: Matcher::new(file, of(false).map(|token| (token.content.clone(), token)))?,
            normalized: Matcher::new(
                file,
                of(true).map(|token| (normalizer.apply(&token.content).into_owned(), token)),
            )?,
        })
    }

    /// The parts of a text as it is.
    pub(super) fn parts_raw<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Part<'a>> {
        self.raw.parts(text)
    }

    /// The parts of a text in its normal form.
    pub(super) fn parts_normalized<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Part<'a>> {
        self.normalized.parts(text)
    }
}

/// Finds tokens.
#[derive(Debug)]
struct Matcher {
    /// Contents, numbered by `tokens`.
    contents: Trie,
    /// Ids; none for special tokens, which hide what they overlap and are then read as text.
    tokens: Vec<Option<u32>>,
}

impl Matcher {
    fn new<'a>(file: &str, tokens: impl Iterator<Item = (String, &'a AddedJson)>) -> Result<Self> {
        let (contents, tokens): (Vec<String>, Vec<Option<u32>>) =
            tokens.map(|(content, token)| (content, (!token.special).then_some(token.id))).unzip();
        let numbered = contents.iter().map(String::as_str).zip(0..);
        Ok(Self { contents: Trie::new((file, "added_tokens"), numbered)?, tokens })
    }

    fn parts<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Part<'a>> {
        let mut rest = text;
        let mut found = None;
        std::iter::from_fn(move || {
            if let Some(id) = found.take() {
                return Some(Part::Token(id));
            }
            if rest.is_empty() {
                return None;
            }
            let (begin, end, token) = self.next(rest).unwrap_or((rest.len(), rest.len(), None));
            let before = rest.get(..begin).unwrap_or(rest);
            rest = rest.get(end..).unwrap_or_default();
            match token {
                Some(id) if before.is_empty() => Some(Part::Token(id)),
                token => {
                    found = token;
                    Some(Part::Text(before))
                }
            }
        })
    }

    /// Where the next token that is no special one begins and ends.
    fn next(&self, text: &str) -> Option<(usize, usize, Option<u32>)> {
        let mut at = 0;
        while let Some(rest) = text.as_bytes().get(at..).filter(|rest| !rest.is_empty()) {
            match self.contents.prefixes(rest).last() {
                Some((length, number)) => {
                    if let Some(id) = self.tokens.get(number as usize).copied().flatten() {
                        return Some((at, at + length, Some(id)));
                    }
                    at += length;
                }
                None => at += 1,
            }
        }
        None
    }
}

impl InMemory for AddedTokens {
    fn held_bytes(&self) -> usize {
        let matchers = [&self.raw, &self.normalized];
        matchers.iter().map(|matcher| matcher.contents.held_bytes() + matcher.tokens.held_bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tokens() -> Vec<AddedJson> {
        let token = |id: u32, content: &str, normalized: bool, special: bool| json!({"id":id,"content":content,"normalized":normalized,"special":special,"lstrip":special});
        let all = json!([
            token(0, "<s>", false, true),
            token(1, "  ", false, false),
            token(2, "    ", false, false),
            token(3, "é|", true, false),
            token(4, "s>!", false, false),
            token(5, "", false, false)
        ]);
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn the_longest_at_the_leftmost_place_is_cut_out() {
        let added = AddedTokens::new("t", &tokens(), &Normalizer::default()).unwrap();
        let parts: Vec<Part<'_>> = added.parts_raw("a     b<s>!s>!").collect();
        let expected = [Part::Text("a"), Part::Token(2), Part::Text(" b<s>!"), Part::Token(4)];
        assert_eq!(parts, expected);
        let parts: Vec<Part<'_>> = added.parts_normalized("é|é").collect();
        assert_eq!(parts, [Part::Token(3), Part::Text("é")]);
        assert_eq!(added.parts_raw("").count(), 0);
    }

    #[test]
    fn what_cannot_run_is_named() {
        let mut tokens = tokens();
        tokens[1].lstrip = true;
        let error = AddedTokens::new("t", &tokens, &Normalizer::default()).unwrap_err();
        assert!(error.to_string().contains("added_tokens.lstrip is true for the id 1"), "{error}");
    }
}
