//! What is constant in the text of some calls, and what varies?
//!
//! Programs put a text between words that are always the same: "Classify this ticket: …", "Answer with one of …". The beginning and
//! the end that nearly all calls share are the template. A few calls that are otherwise (a test, a health check) change nothing.

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Fewest different texts from which a template is read.
const FEWEST: usize = 8;
/// Share of the texts that must have it.
const NEARLY_ALL: f64 = 0.95;
/// Share of the texts of a place that its templates must explain together, where there are several.
const EXPLAINED: f64 = 0.9;
/// Fewest texts of a template beside others, as a share.
const LEAST_SHARE: f64 = 0.05;
/// Words by which templates are told apart, as few as will do.
const KEY_WORDS: [usize; 5] = [3, 4, 6, 8, 12];
/// Answers that two templates share make them one site from this share of the fewer on.
const SAME_ANSWERS: f64 = 0.5;
/// Most texts that are looked at; of more an even sample.
const SAMPLE: usize = 4_000;

/// A beginning and an end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Template {
    /// Before the text.
    pub before: String,
    /// After it.
    pub after: String,
}

impl Template {
    /// The template that nearly all of these texts have; an empty one where there is none.
    #[must_use]
    pub fn of(texts: &[&str]) -> Self {
        let distinct: Vec<&str> =
            sample(&texts.iter().copied().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>());
        if distinct.len() < FEWEST {
            return Self::default();
        }
        let tokens: Vec<Vec<&str>> = distinct.iter().map(|text| tokens(text)).collect();
        let before = shared(tokens.iter().map(|row| row.iter().copied()));
        let with: Vec<&Vec<&str>> = tokens.iter().filter(|row| row.starts_with(&before)).collect();
        // At least one token stays for what varies.
        let rests = with.iter().map(|row| row.get(before.len() + 1..).unwrap_or_default());
        let after = shared(rests.map(|row| row.iter().rev().copied()));
        let after: Vec<&str> = after.into_iter().rev().collect();
        Self { before: meant(before.concat()), after: meant(after.concat()) }
    }

    /// What stands between beginning and end; none where a text has not both, or nothing between them.
    #[must_use]
    pub fn inner<'t>(&self, text: &'t str) -> Option<&'t str> {
        let inner = text.strip_prefix(self.before.as_str())?.strip_suffix(self.after.as_str())?;
        (!inner.trim().is_empty()).then_some(inner)
    }

    /// Tells templates of one place apart, however much of them is known by now: its first words, else its last.
    pub(super) fn key(&self) -> Option<String> {
        let [fewest, ..] = KEY_WORDS;
        head(&self.before, fewest).or_else(|| tail(&self.after, fewest))
    }
}

/// Rows of texts by template, each with the words that it is told apart by. One group, unless a few beginnings (or ends) explain nearly
/// all texts and are answered differently.
pub(super) fn groups(texts: &[&str], answers: &[String]) -> Vec<Group> {
    let [heads, tails]: [Ends; 2] = [head, tail];
    let ways = [heads, tails].into_iter().flat_map(|ends| KEY_WORDS.map(|count| (ends, count)));
    let mut splits = ways.filter_map(|(ends, count)| split(texts, answers, |text| ends(text, count)));
    splits.next().unwrap_or_else(|| vec![Group { key: None, rows: (0..texts.len()).collect() }])
}

/// Some words at the beginning or the end of a text; none where it has fewer.
type Ends = fn(&str, usize) -> Option<String>;

/// Texts of one template.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// What tells it apart from others of its place; none where there are none.
    pub(super) key: Option<String>,
    /// The rows, in order.
    pub(super) rows: Vec<usize>,
}

fn split(texts: &[&str], answers: &[String], ends: impl Fn(&str) -> Option<String>) -> Option<Vec<Group>> {
    let mut found: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (row, text) in texts.iter().enumerate() {
        if let Some(words) = ends(text) {
            found.entry(words).or_default().push(row);
        }
    }
    let distinct =
        |rows: &[usize]| rows.iter().filter_map(|row| texts.get(*row)).collect::<BTreeSet<_>>().len();
    let all = texts.iter().collect::<BTreeSet<_>>().len() as f64;
    let large = |many: usize| many >= FEWEST && many as f64 >= LEAST_SHARE * all;
    found.retain(|_, rows| large(distinct(rows)));
    let explained: usize = found.values().map(|rows| distinct(rows)).sum();
    if found.len() < 2 || (explained as f64) < EXPLAINED * all {
        return None;
    }
    let mut groups: Vec<(Group, BTreeSet<&str>)> = Vec::new();
    for (key, rows) in found {
        let said: BTreeSet<&str> =
            rows.iter().filter_map(|row| answers.get(*row)).map(String::as_str).collect();
        // A beginning that is always answered the same is no question of its own: it is a kind of text.
        if said.len() < 2 {
            return None;
        }
        match groups.iter_mut().find(|(_, known)| same(known, &said)) {
            Some((group, known)) => {
                group.rows.extend(rows);
                known.extend(said);
            }
            None => groups.push((Group { key: Some(key), rows }, said)),
        }
    }
    for (group, _) in &mut groups {
        group.rows.sort_unstable();
    }
    (groups.len() > 1).then(|| groups.into_iter().map(|(group, _)| group).collect())
}

fn same(one: &BTreeSet<&str>, other: &BTreeSet<&str>) -> bool {
    one.intersection(other).count() as f64 >= SAME_ANSWERS * one.len().min(other.len()) as f64
}

/// The tokens that nearly all rows begin with.
pub(super) fn shared<'t, I: Iterator<Item = &'t str>>(rows: impl Iterator<Item = I>) -> Vec<&'t str> {
    let mut rows: Vec<I> = rows.collect();
    let (needed, mut found) = ((rows.len() as f64 * NEARLY_ALL).ceil() as usize, Vec::new());
    loop {
        let mut next: Vec<(Option<&str>, I)> = rows.into_iter().map(|mut row| (row.next(), row)).collect();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        next.iter().filter_map(|(token, _)| *token).for_each(|token| *counts.entry(token).or_default() += 1);
        let Some((token, count)) = counts.into_iter().max_by_key(|(_, count)| *count) else { return found };
        if count < needed.max(1) {
            return found;
        }
        found.push(token);
        next.retain(|(seen, _)| *seen == Some(token));
        rows = next.into_iter().map(|(_, row)| row).collect();
    }
}

/// What is only the end of a sentence is part of the text.
fn meant(constant: String) -> String {
    let is_more = |c: char| !matches!(c, '.' | '!' | '?' | ',' | ';' | ' ');
    if constant.chars().any(is_more) { constant } else { String::new() }
}

/// Words, runs of blanks, and any other sign alone.
pub(super) fn tokens(text: &str) -> Vec<&str> {
    let class = |c: char| match c {
        c if c.is_alphanumeric() => 1,
        c if c.is_whitespace() => 2,
        _ => 0,
    };
    let (mut found, mut start, mut before) = (Vec::new(), 0, None);
    for (at, c) in text.char_indices() {
        let now = class(c);
        if before.is_some_and(|before| before != now || now == 0) {
            found.push(text.get(start..at).unwrap_or_default());
            start = at;
        }
        before = Some(now);
    }
    if !text.is_empty() {
        found.push(text.get(start..).unwrap_or_default());
    }
    found
}

fn head(text: &str, count: usize) -> Option<String> {
    let words: Vec<&str> = words(text).take(count).collect();
    (words.len() == count).then(|| words.join(" "))
}

fn tail(text: &str, count: usize) -> Option<String> {
    let mut words: Vec<&str> = words(text).rev().take(count).collect();
    words.reverse();
    (words.len() == count).then(|| format!("… {}", words.join(" ")))
}

/// The words of a text; numbers vary where words do not.
pub(super) fn words(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty() && !word.bytes().all(|b| b.is_ascii_digit()))
}

fn sample<'t>(texts: &[&'t str]) -> Vec<&'t str> {
    let kept = texts.len().min(SAMPLE);
    (0..kept).filter_map(|place| texts.get(place * texts.len() / kept.max(1)).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKETS: [&str; 10] = [
        "my card is lost",
        "where is my parcel?",
        "I was charged twice",
        "hello",
        "the app crashes",
        "cancel it",
        "please send the invoice",
        "it came broken",
        "how long does it take?",
        "thanks a lot",
    ];

    fn told(before: &str, after: &str) -> Vec<String> {
        TICKETS.iter().map(|ticket| format!("{before}{ticket}{after}")).collect()
    }

    fn borrowed(texts: &[String]) -> Vec<&str> {
        texts.iter().map(String::as_str).collect()
    }

    #[test]
    fn what_stands_around_the_text_is_found_and_taken_off() {
        let texts = told("Classify this ticket: \"", "\"\nAnswer with one of: a, b.");
        let template = Template::of(&borrowed(&texts));
        assert_eq!(template.before, "Classify this ticket: \"");
        assert_eq!(template.after, "\"\nAnswer with one of: a, b.");
        let inner: Vec<&str> = texts.iter().filter_map(|text| template.inner(text)).collect();
        assert_eq!(inner, TICKETS);
    }

    #[test]
    fn one_call_that_is_otherwise_changes_nothing_and_has_no_template() {
        let mut texts: Vec<String> =
            (0..6).flat_map(|i| told("Ticket: ", &format!(" ({i}) Team?"))).collect();
        texts.push("ping".into());
        let template = Template::of(&borrowed(&texts));
        assert_eq!(template.before, "Ticket: ");
        assert_eq!(template.after, ") Team?");
        assert_eq!(template.inner("ping"), None);
    }

    #[test]
    fn plain_texts_have_no_template_though_many_end_alike() {
        assert_eq!(Template::of(&TICKETS), Template::default());
        let asked: Vec<String> = TICKETS.iter().map(|text| format!("{text}?")).collect();
        assert_eq!(Template::of(&borrowed(&asked)), Template::default());
        assert_eq!(Template::of(&TICKETS[..5]), Template::default(), "too few to say");
    }

    #[test]
    fn two_prompts_with_different_answers_are_two_groups_however_alike_they_begin() {
        for (one, other) in [
            ("Classify this ticket: ", "Is this one urgent? "),
            ("Tell me of this ticket the team: ", "Tell me of this ticket whether it is urgent: "),
        ] {
            let mut texts = told(one, "");
            texts.extend(told(other, ""));
            texts.push("ping".into());
            let mut answers: Vec<String> = (0..20)
                .map(|row| match row {
                    0..10 => format!("team {}", row % 3),
                    _ => ["yes", "no"][row % 2].to_owned(),
                })
                .collect();
            answers.push("pong".into());
            let mut rows: Vec<Vec<usize>> =
                groups(&borrowed(&texts), &answers).into_iter().map(|group| group.rows).collect();
            rows.sort();
            assert_eq!(rows, [(0..10).collect::<Vec<_>>(), (10..20).collect()], "{one}");
            // The same answers: two ways to ask one thing.
            let alike: Vec<String> = (0..21).map(|row| format!("team {}", row % 3)).collect();
            assert_eq!(groups(&borrowed(&texts), &alike).len(), 1);
        }
    }

    #[test]
    fn kinds_of_text_are_no_templates() {
        let texts: Vec<String> = (0..40)
            .map(|row| {
                let what = ["the invoice for", "the parcel with", "the courier lost"][row % 3];
                format!("{what} order {row}")
            })
            .collect();
        let answers: Vec<String> =
            (0..40).map(|row| ["billing", "delivery", "delivery"][row % 3].into()).collect();
        assert_eq!(groups(&borrowed(&texts), &answers).len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn a_template_and_what_it_encloses_make_the_text(
            before in "[a-z ]{0,12}(: )?",
            after in "(\n[a-z ]{0,12})?",
            texts in proptest::collection::vec("[a-zA-Z.?! ]{1,30}", 8..40),
        ) {
            let told: Vec<String> = texts.iter().map(|text| format!("{before}{text}{after}")).collect();
            let template = Template::of(&borrowed(&told));
            for text in &told {
                if let Some(inner) = template.inner(text) {
                    proptest::prop_assert_eq!(&format!("{}{inner}{}", template.before, template.after), text);
                }
            }
        }

        #[test]
        fn tokens_together_are_the_text(text in "\\PC{0,60}") {
            proptest::prop_assert_eq!(tokens(&text).concat(), text);
        }
    }
}
