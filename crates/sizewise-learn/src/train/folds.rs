//! Which rows stand aside while a tier is fitted?
//!
//! Rows with the same text or group are in the same fold; within that, rows are spread evenly over the folds by label, in
//! an order that the seed decides.

use crate::fit::Random;
use sizewise_contract::{Example, Label};
use std::collections::{BTreeMap, HashMap};

/// How many folds: each row is answered by a tier that saw four fifths of the others.
pub(crate) const FOLDS: usize = 5;
/// From so many rows on two folds are enough: half of the rows then teach nearly as much as all.
const MANY_ROWS: usize = 60_000;

/// The fold of every row.
#[derive(Debug)]
pub(crate) struct Folds {
    /// `[rows]`
    pub(crate) of: Vec<u8>,
    /// How many there are.
    pub(crate) count: usize,
    /// The rows that each text behind the rows was written after: it stands in the folds of all of them. `[written]`
    pub(crate) sources: Vec<Vec<usize>>,
}

impl Folds {
    pub(crate) fn assign<L: Label>(examples: &[Example<L>], seed: u64) -> Self {
        let count = if examples.len() >= MANY_ROWS { 2 } else { FOLDS };
        Self::spread(examples, seed, count)
    }

    /// Spreads rows over so many folds.
    pub(crate) fn spread<L: Label>(examples: &[Example<L>], seed: u64, count: usize) -> Self {
        let mut units: HashMap<&str, usize> = HashMap::new();
        let mut members: Vec<Vec<usize>> = Vec::new();
        for (row, example) in examples.iter().enumerate() {
            let key = example.group.as_deref().filter(|group| !group.is_empty()).unwrap_or(&example.text);
            let unit = *units.entry(key).or_insert_with(|| {
                members.push(Vec::new());
                members.len() - 1
            });
            if let Some(rows) = members.get_mut(unit) {
                rows.push(row);
            }
        }
        let mut strata: BTreeMap<Vec<Option<usize>>, Vec<usize>> = BTreeMap::new();
        for (unit, rows) in members.iter().enumerate() {
            let first = rows.first().and_then(|row| examples.get(*row));
            let key = first.map_or_else(Vec::new, |e| {
                e.labels.iter().map(|l| l.as_ref().and_then(|l| l.class_label().class())).collect()
            });
            strata.entry(key).or_default().push(unit);
        }
        let mut random = Random(seed ^ 0xf01d);
        let mut of = vec![0u8; examples.len()];
        let mut next = 0;
        for units in strata.values_mut() {
            random.shuffle(units);
            for unit in units {
                for row in members.get(*unit).into_iter().flatten() {
                    if let Some(slot) = of.get_mut(*row) {
                        *slot = (next % count) as u8;
                    }
                }
                next += 1;
            }
        }
        Self { of, count, sources: Vec::new() }
    }

    /// Whether a row is in a fold.
    pub(crate) fn holds(&self, fold: usize, row: usize) -> bool {
        self.holds_as(&self.of, fold, row)
    }

    /// The same where rows are spread otherwise.
    pub(crate) fn holds_as(&self, of: &[u8], fold: usize, row: usize) -> bool {
        let is_in = |row: usize| of.get(row).is_some_and(|of| usize::from(*of) == fold);
        match row.checked_sub(self.of.len()).and_then(|written| self.sources.get(written)) {
            Some(sources) => sources.iter().any(|row| is_in(*row)),
            None => is_in(row),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sizewise_contract::{ClassLabel, Gold};

    #[test]
    fn a_written_text_stands_in_the_folds_of_all_rows_that_it_was_written_after() {
        let folds = Folds { of: vec![0, 1, 2], count: 3, sources: vec![vec![0, 2], vec![]] };
        assert_eq!([0, 1, 2].map(|fold| folds.holds(fold, 3)), [true, false, true]);
        assert_eq!([0, 1, 2].map(|fold| folds.holds(fold, 4)), [false; 3]);
        assert_eq!([0, 1, 2].map(|fold| folds.holds_as(&[1, 1, 1], fold, 3)), [false, true, false]);
        assert_eq!([0, 1, 2].map(|fold| folds.holds(fold, 1)), [false, true, false]);
    }

    #[test]
    fn equal_texts_share_a_fold_and_labels_are_spread() {
        let examples: Vec<Example<Gold>> = (0..200)
            .map(|i| Example {
                row: i,
                text: format!("text {}", i / 2),
                labels: vec![Some(Gold(ClassLabel::Class((i / 100) as u16)))],
                group: None,
                time: None,
            })
            .collect();
        let folds = Folds::assign(&examples, 1);
        assert!(folds.of.chunks(2).all(|pair| pair[0] == pair[1]));
        for fold in 0..FOLDS {
            for half in [0..100, 100..200] {
                assert_eq!(half.filter(|row| folds.holds(fold, *row)).count(), 20);
            }
        }
    }
}
