//! What follows for a text from what was tagged in it?

use super::{Entity, words::Word};
use std::{collections::HashSet, ops::Range};

type Found = Vec<(Range<usize>, Entity)>;

/// Where people write capitals, an organisation neither begins nor ends with a word that has none.
pub(super) fn organizations(text: &str, case: u64, found: &mut Found) {
    if case != 0 {
        return;
    }
    found.retain_mut(|(span, entity)| {
        if *entity != Entity::Organization {
            return true;
        }
        let small = |word: &str| !word.chars().any(|letter| letter.is_uppercase() || letter.is_numeric());
        while let Some(inside) = text.get(span.clone()).filter(|inside| !inside.is_empty()) {
            let (first, last) = (inside.split_whitespace().next(), inside.split_whitespace().next_back());
            let begins = first
                .filter(|word| small(word))
                .map(|word| inside.len() - inside.trim_start_matches(word).trim_start().len());
            let ends =
                last.filter(|word| small(word)).map(|word| inside.trim_end_matches(word).trim_end().len());
            match (begins, ends) {
                (Some(cut), _) => span.start += cut,
                (None, Some(kept)) => span.end = span.start + kept,
                (None, None) => break,
            }
        }
        span.start < span.end
    });
}

/// A name that is one in one place is one in every place: what is hidden here must not be read there.
pub(super) fn again(text: &str, words: &[Word], found: &mut Found) {
    let spelt = |word: &Word| text.get(word.range.clone()).unwrap_or_default();
    let is_name = |word: &str| word.chars().nth(2).is_some() && word.starts_with(char::is_uppercase);
    let mut names: HashSet<&str> = HashSet::new();
    let mut spans = found.iter().peekable();
    let mut free = Vec::new();
    for word in words.iter().filter(|word| word.known.is_none()) {
        while spans.next_if(|(span, _)| span.end <= word.range.start).is_some() {}
        match spans.peek().filter(|(span, _)| span.start < word.range.end) {
            Some((_, Entity::Person)) if is_name(spelt(word)) => {
                names.insert(spelt(word));
            }
            Some(_) => (),
            None if is_name(spelt(word)) => free.push(word),
            None => (),
        }
    }
    let before = found.len();
    if !names.is_empty() {
        let named = free.into_iter().filter(|word| names.contains(spelt(word)));
        found.extend(named.map(|word| (word.range.clone(), Entity::Person)));
    }
    if found.len() > before {
        found.sort_by_key(|(span, _)| span.start);
    }
}
