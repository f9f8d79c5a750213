//! How is personal data taken out of a text, and put back into what is said about it?
//!
//! Every distinct value gets a name of its own, `<PERSON_1>`: whoever reads the text can still tell who is who. What stood there is
//! kept in memory only, by whoever asked.

use super::{find::Finding, kinds::PersonalData};
use std::collections::{BTreeMap, HashMap, HashSet};

/// What stands where a text could not be searched.
const WITHHELD: &str = "<WITHHELD>";

/// A text without what is personal in it, and how to put that back.
#[derive(Clone, PartialEq, Eq)]
pub struct Redacted {
    text: String,
    /// What stood in the place of each placeholder.
    values: BTreeMap<String, String>,
}

impl std::fmt::Debug for Redacted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What was taken out belongs into no log.
        f.debug_struct("Redacted").field("text", &self.text).finish_non_exhaustive()
    }
}

impl Redacted {
    /// Replaces findings, which are in order and do not overlap; all of the text where there are none to be had.
    pub(super) fn new(text: &str, found: Option<&[Finding]>) -> Self {
        let Some(found) = found else {
            return Self { text: WITHHELD.to_owned(), values: BTreeMap::new() };
        };
        let mut out = String::with_capacity(text.len() + found.len() * 8);
        let mut names: HashMap<(PersonalData, &str), String> = HashMap::new();
        let mut counts: HashMap<PersonalData, usize> = HashMap::new();
        let held: HashSet<&str> =
            text.match_indices('<').filter_map(|(at, _)| bracketed(text.get(at..)?)).collect();
        let mut after = 0;
        for finding in found {
            let value = text.get(finding.span.clone()).unwrap_or_default();
            let name = names.entry((finding.kind, value)).or_insert_with(|| {
                let count = counts.entry(finding.kind).or_insert(0);
                loop {
                    *count += 1;
                    let name = format!("<{}_{count}>", finding.kind.placeholder());
                    // Not one that the text holds already, nor one whose number gives away the value.
                    let tells = (1..=8).contains(&value.len()) && count.to_string().contains(value);
                    if !tells && !held.contains(name.as_str()) {
                        return name;
                    }
                }
            });
            out.push_str(text.get(after..finding.span.start).unwrap_or_default());
            out.push_str(name);
            after = finding.span.end;
        }
        out.push_str(text.get(after..).unwrap_or_default());
        let values = names.into_iter().map(|((_, value), name)| (name, value.to_owned())).collect();
        Self { text: out, values }
    }

    /// From a text that was redacted before and the values that were kept of it.
    #[must_use]
    pub fn from_parts(text: String, values: BTreeMap<String, String>) -> Self {
        Self { text, values }
    }

    /// What may be shown.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What stood in the place of each placeholder.
    #[must_use]
    pub fn values(&self) -> &BTreeMap<String, String> {
        &self.values
    }

    /// The text alone; what was taken out is forgotten.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }

    /// Puts the values back into a text that speaks of the placeholders: an answer, or the redacted text itself.
    #[must_use]
    pub fn restore(&self, answer: &str) -> String {
        let mut out = String::with_capacity(answer.len());
        let mut rest = answer;
        while let Some(at) = rest.find('<') {
            let (before, from) = rest.split_at(at);
            out.push_str(before);
            let name = bracketed(from).unwrap_or("<");
            let taken = match self.values.get(name) {
                Some(value) => {
                    out.push_str(value);
                    name.len()
                }
                None => {
                    out.push('<');
                    1
                }
            };
            rest = from.get(taken..).unwrap_or_default();
        }
        out.push_str(rest);
        out
    }
}

/// From a bracket to the one that closes it, where they lie as near as those of a placeholder.
fn bracketed(text: &str) -> Option<&str> {
    let end = text.bytes().take(48).position(|byte| byte == b'>')?;
    text.get(..=end)
}
