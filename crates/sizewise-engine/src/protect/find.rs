//! Which personal data is in a text?
//!
//! Rules that are certain come first; the tagger reads the text with what they found as one word each; where it and a rule that knows
//! no more than a form speak of the same place, the place is what both cover and the kind is the tagger's.

use super::{
    kinds::PersonalData,
    rules::{Strength, by_rules},
};
use sizewise_models::tagger::{CloseReader, Entity, Tagger};
use std::ops::Range;

/// Longest text that the encoder reads as well.
const CLOSELY_BYTES: usize = 16 << 10;

/// Who found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundBy {
    /// A rule.
    Rule,
    /// The tagger.
    Tagger,
}

/// Something personal in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: PersonalData,
    /// Where it is, in bytes, on boundaries of characters.
    pub span: Range<usize>,
    /// Who found it.
    pub by: FoundBy,
}

/// What is searched for by tags: where in the text, and what rules have found.
type Tag<'a> = &'a dyn Fn(&[(Range<usize>, &str)]) -> Option<Vec<(Range<usize>, Entity)>>;

/// Finds personal data, in order, none overlapping another. None where the text cannot be searched: then all of it is personal.
///
/// **Bounds**: about a millisecond for a short text, and time linear in its length; texts above 16 KiB are read without the encoder, so that
/// nobody keeps a core busy for seconds. The first call loads the encoder.
#[must_use]
pub fn find(text: &str) -> Option<Vec<Finding>> {
    if text.len() > CLOSELY_BYTES {
        return find_quickly(text);
    }
    find_by(text, &|certain| Tagger::built_in()?.tag_closely(text, certain, CloseReader::built_in()?))
}

/// The same without the encoder, in some ten microseconds: more names stay unfound.
#[must_use]
pub fn find_quickly(text: &str) -> Option<Vec<Finding>> {
    find_by(text, &|certain| Some(Tagger::built_in()?.tag(text, certain)))
}

fn find_by(text: &str, tag: Tag<'_>) -> Option<Vec<Finding>> {
    let rules = by_rules(text)?;
    let certain: Vec<(Range<usize>, &str)> = rules
        .iter()
        .filter(|(_, _, strength)| *strength == Strength::Certain)
        .map(|(span, kind, _)| (span.clone(), kind.name()))
        .collect();
    let tagged = tag(&certain)?;
    let mut found: Vec<Finding> = Vec::with_capacity(rules.len() + tagged.len());
    let mut rules = rules.into_iter().peekable();
    for (span, entity) in tagged {
        let mut tagged = Some(Finding { kind: entity.into(), span, by: FoundBy::Tagger });
        while let Some((span, kind, strength)) =
            rules.next_if(|(span, _, _)| tagged.as_ref().is_some_and(|tagged| span.start < tagged.span.end))
        {
            let rule = Finding { kind, span, by: FoundBy::Rule };
            match tagged.as_mut().filter(|tagged| tagged.span.start < rule.span.end) {
                Some(tagged) if strength == Strength::Form => {
                    tagged.span = tagged.span.start.min(rule.span.start)..tagged.span.end.max(rule.span.end);
                }
                Some(tagged) if tagged.span == rule.span => tagged.kind = rule.kind,
                // Inside of something larger: the larger one stays.
                Some(tagged) if tagged.span.start <= rule.span.start && tagged.span.end >= rule.span.end => {}
                // Either covers what the other does not: all of it is personal.
                Some(tagged) => {
                    tagged.span = tagged.span.start.min(rule.span.start)..tagged.span.end.max(rule.span.end);
                    tagged.kind = rule.kind;
                }
                None => put(&mut found, rule),
            }
        }
        if let Some(tagged) = tagged {
            put(&mut found, tagged);
        }
    }
    rules.for_each(|(span, kind, _)| put(&mut found, Finding { kind, span, by: FoundBy::Rule }));
    Some(found)
}

/// What rules alone find.
pub(super) fn find_by_rules(text: &str) -> Option<Vec<Finding>> {
    let found = by_rules(text)?;
    Some(found.into_iter().map(|(span, kind, _)| Finding { kind, span, by: FoundBy::Rule }).collect())
}

/// Puts a finding behind the others; what it shares with the last becomes part of the last.
fn put(found: &mut Vec<Finding>, finding: Finding) {
    match found.last_mut().filter(|last| last.span.end > finding.span.start) {
        Some(last) => last.span.end = last.span.end.max(finding.span.end),
        None => found.push(finding),
    }
}
