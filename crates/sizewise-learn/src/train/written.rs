//! What do texts that a teacher wrote teach, and how much do they count?
//!
//! They stand behind the rows: tiers learn from them, and nothing else does. No answer to them is judged, calibrated on or shown as
//! a neighbour, as nobody ever sent them. A head that must not know a fold knows no text that was written after a row of it: a
//! paraphrase of a row that is held back would give it away. How much they count (as a row does, a third of it, or nothing) is
//! decided by the rows that people sent: the cross-fitted ones and those for development.

use super::{
    Attempt,
    summary::{WrittenSummary, WrittenWay, reach},
};
use crate::{
    dataset::{Dataset, Given},
    error::{Error, Result},
    prepare::text_key,
};
use sizewise_contract::{Example, Label, Task};
use sizewise_measure::{cascade::RowOutcome, metrics::Share};
use std::collections::HashMap;

/// Ways to count a row where a written text counts once.
const WAYS: [usize; 2] = [1, 3];
/// From so many rows on they outweigh what is written anyway, and to read each three times takes its time.
const MANY_ROWS: usize = 5_000;

/// A text that a teacher wrote.
pub(super) struct Written {
    pub(super) text: String,
    /// Its class by question. `[questions]`
    pub(super) classes: Vec<Option<u16>>,
    /// The rows that it was written after, by the keys of their texts.
    shown: Vec<u64>,
}

/// The rows, and the written ones behind them.
pub(super) fn apart(rows: &Dataset<Given>) -> (Dataset<Given>, Vec<Written>) {
    let (own, written) = rows.examples.split_at(rows.examples.len() - rows.written());
    let written = written.iter().map(|example| {
        let shown = example.labels.iter().flatten().find_map(|label| match label {
            Given::Written { shown, .. } => Some(shown.to_vec()),
            _ => None,
        });
        let class = |label: &Option<Given>| Some(label.as_ref()?.class_label().class()? as u16);
        let classes = example.labels.iter().map(class).collect();
        Written { text: example.text.clone(), classes, shown: shown.unwrap_or_default() }
    });
    // One whose label was doubted teaches nothing.
    let written = written.filter(|row| row.classes.iter().any(Option::is_some)).collect();
    (Dataset { examples: own.to_vec(), hash: rows.hash }, written)
}

/// The rows that each text was written after. `[written]`
pub(super) fn sources<L>(rows: &[Example<L>], written: &[Written]) -> Vec<Vec<usize>> {
    let mut places: HashMap<u64, Vec<usize>> = HashMap::new();
    for (row, example) in rows.iter().enumerate() {
        places.entry(text_key(&example.text)).or_default().push(row);
    }
    let of = |row: &Written| {
        row.shown.iter().filter_map(|key| places.get(key)).flatten().copied().collect::<Vec<usize>>()
    };
    written.iter().map(of).collect()
}

/// The ways that are tried for so many rows.
pub(super) fn ways(rows: usize) -> &'static [usize] {
    if rows < MANY_ROWS { &WAYS } else { &WAYS[..1] }
}

/// How good an attempt is on rows that people sent: how many its last tier answers rightly, and how many the cascade would answer
/// within the promise.
fn judged(task: &Task, development: &[Vec<RowOutcome>]) -> (Share, f64) {
    let (mut right, mut of, mut within) = (0, 0, 0.0);
    for (question, rows) in task.questions.iter().zip(development) {
        let inside = rows.iter().filter(|row| !row.out_of_scope);
        for last in inside.filter_map(|row| row.tiers.iter().max_by_key(|tier| tier.tier)) {
            of += 1;
            right += u64::from(last.right);
        }
        within += reach(rows, task.promise_of(question).max_served_error);
    }
    (Share::new(right, of), within / task.questions.len().max(1) as f64)
}

/// The best of several ways to count written texts; the first is the one without them, and wins where nothing is better.
pub(super) fn best(
    task: &Task,
    ways: Vec<(usize, Attempt)>,
    texts: usize,
) -> Result<(Attempt, WrittenSummary)> {
    let mut tried = Vec::new();
    let mut best: Option<(f64, usize, Attempt)> = None;
    for (often, attempt) in ways {
        let (right, within) = judged(task, &attempt.development);
        let weight = if often == 0 { 0.0 } else { 1.0 / often as f64 };
        tried.push(WrittenWay { weight, right, answered_within_promise: within });
        // Both count: on few rows either alone is mostly chance.
        let worth = right.value + within;
        if best.as_ref().is_none_or(|(most, ..)| worth > *most) {
            best = Some((worth, tried.len() - 1, attempt));
        }
    }
    let (_, place, attempt) = best.ok_or(Error::Internal("one way is tried at least"))?;
    let weight = tried.get(place).map_or(0.0, |way| way.weight);
    Ok((attempt, WrittenSummary { texts, weight, tried }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sizewise_contract::{ClassLabel, ContentHash, Gold, Teacher};
    use sizewise_measure::cascade::TierOutcome;

    #[test]
    fn written_texts_come_apart_and_know_the_rows_that_they_were_written_after() {
        let row = |text: &str, label: Option<Given>, group: Option<&str>| Example {
            row: 1,
            text: text.into(),
            labels: vec![label],
            group: group.map(str::to_owned),
            time: None,
        };
        let gold = Some(Given::Gold(Gold(ClassLabel::Class(0))));
        let label = Teacher { label: ClassLabel::Class(1), source: "m 2026-01-02".into() };
        let shown = [text_key("two"), text_key("gone"), text_key("One!")].into();
        let written = Some(Given::Written { label, shown });
        let group = Some(crate::teach::written::GROUP);
        let examples = vec![
            row("one", gold.clone(), None),
            row("two", gold, None),
            row("one of a kind", written, group),
            row("doubted by now", None, group),
        ];
        let all = Dataset { examples, hash: ContentHash::of(b"") };
        let (own, written) = apart(&all);
        assert_eq!((own.examples.len(), written.len()), (2, 1));
        assert_eq!((written[0].text.as_str(), &written[0].classes[..]), ("one of a kind", &[Some(1)][..]));
        assert_eq!(sources(&own.examples, &written), [vec![1, 0]]);
    }

    #[test]
    fn what_tells_ways_apart_is_the_last_tier_on_rows_in_scope() {
        let task =
            Task::parse("schema = 1\nname = \"t\"\n[[question]]\nname = \"q\"\ntype = \"predicate\"\n")
                .unwrap();
        let row = |first: bool, last: bool, out_of_scope: bool| RowOutcome {
            tiers: vec![
                TierOutcome { tier: sizewise_contract::Tier::Static, confidence: 0.1, right: first },
                TierOutcome { tier: sizewise_contract::Tier::Encoder, confidence: 0.99, right: last },
            ],
            out_of_scope,
            weight: 1.0,
        };
        let rows = vec![row(false, true, false), row(true, false, false), row(false, false, true)];
        let (right, _) = judged(&task, &[rows]);
        assert_eq!((right.count, right.of), (1, 2));
    }
}
