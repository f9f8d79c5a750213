//! Which rows does an encoder learn from, and which tell how good it is?
//!
//! Of a large table a fifth is never seen. A small one cannot spare that: three encoders are trained, each without a third of
//! the rows, which it then judges, and a fourth on all of them serves. Trainings are short there.

use super::Adapted;
use crate::{dataset::TrainingRows, train::folds::Folds};
use sizewise_contract::{Example, Label};

/// With fewer rows than that every row is learnt from.
const FEW_ROWS: usize = 2_000;
/// Folds of such a table.
const FOLDS: usize = 3;
/// A fifth of the rows is never seen by the encoder; of small tables up to a third, so that a calibrator has a few hundred.
const UNSEEN_PARTS: (usize, usize) = (3, 5);
/// Unseen rows that are wanted at least.
const UNSEEN_WANTED: usize = 200;
/// One of so many of the other rows says which epoch is best.
const HELD_OUT_PART: usize = 10;
/// From so many held-out rows on, their accuracy tells epochs apart.
const FEWEST_HELD_OUT: usize = 100;

/// The trainings that a table needs; the last is that of the encoder that serves.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The rows of each training.
    pub splits: Vec<Split>,
    /// The training that does not see a row, where there is one for every row. `[rows]`
    pub folds: Vec<u8>,
}

/// What became of the rows of a table.
#[derive(Debug, Clone)]
pub struct Split {
    /// Rows that the encoder never sees. `[rows]`
    pub unseen: Vec<bool>,
    /// Rows to learn from.
    pub train: Vec<usize>,
    /// Rows that are judged after an epoch.
    pub held_out: Vec<usize>,
    /// Whether they say which epoch is best.
    pub choose: bool,
}

impl Plan {
    /// Plans by the number of rows and a seed.
    #[must_use]
    pub fn of(rows: &TrainingRows, seed: u64) -> Self {
        match rows {
            TrainingRows::Gold(rows) => Self::new(&rows.examples, seed),
            TrainingRows::Teacher(rows) => Self::new(&rows.examples, seed),
            TrainingRows::Mixed(rows) => Self::new(&rows.examples, seed),
        }
    }

    fn new<L: Label>(examples: &[Example<L>], seed: u64) -> Self {
        match examples.len() {
            0..FEW_ROWS => Self::crossed(examples, seed),
            _ => Self { splits: vec![Split::new(examples, seed)], folds: Vec::new() },
        }
    }

    fn crossed<L: Label>(examples: &[Example<L>], seed: u64) -> Self {
        let folds = Folds::spread(examples, seed ^ 0x0b5e_55ed, FOLDS);
        let without = |fold: usize| {
            let (held_out, train): (Vec<usize>, Vec<usize>) =
                (0..examples.len()).partition(|row| folds.holds(fold, *row));
            let unseen = (0..examples.len()).map(|row| folds.holds(fold, row)).collect();
            Split { unseen, train, held_out, choose: false }
        };
        // No row is in the fold behind the last.
        let splits = (0..=FOLDS).map(without).collect();
        Self { splits, folds: folds.of }
    }
}

/// Whether trainings without a fold answered that fold at least as well as the encoder as it was.
pub(super) fn pays(folds: &[Adapted]) -> bool {
    let right = |epoch: fn(&[super::EpochSummary]) -> Option<&super::EpochSummary>| -> usize {
        folds.iter().filter_map(|fold| epoch(&fold.epochs)).map(|epoch| epoch.right).sum()
    };
    right(<[_]>::last) >= right(<[_]>::first)
}

impl Split {
    /// Splits a table of any size into rows that teach and rows that judge.
    #[must_use]
    pub fn of(rows: &TrainingRows, seed: u64) -> Self {
        match rows {
            TrainingRows::Gold(rows) => Self::new(&rows.examples, seed),
            TrainingRows::Teacher(rows) => Self::new(&rows.examples, seed),
            TrainingRows::Mixed(rows) => Self::new(&rows.examples, seed),
        }
    }

    /// Splits rows by seed, so that equal texts and groups stay together.
    pub(super) fn new<L: Label>(examples: &[Example<L>], seed: u64) -> Self {
        let parts = (examples.len() / UNSEEN_WANTED).clamp(UNSEEN_PARTS.0, UNSEEN_PARTS.1);
        let folds = Folds::spread(examples, seed ^ 0x0b5e_55ed, parts);
        let unseen: Vec<bool> = (0..examples.len()).map(|row| folds.holds(0, row)).collect();
        let folds = Folds::spread(examples, seed ^ 0x57_0b, HELD_OUT_PART);
        let seen = |row: &usize| !unseen.get(*row).copied().unwrap_or(false);
        let (mut held_out, mut train): (Vec<usize>, Vec<usize>) =
            (0..examples.len()).filter(seen).partition(|row| folds.holds(0, *row));
        if held_out.len() < FEWEST_HELD_OUT {
            train.append(&mut held_out);
            train.sort_unstable();
        }
        Self { unseen, train, held_out, choose: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sizewise_contract::{ClassLabel, Gold};

    fn examples(count: usize) -> Vec<Example<Gold>> {
        let example = |row: usize| Example {
            row: row as u64,
            text: format!("text {}", row / 2),
            labels: vec![Some(Gold(ClassLabel::Class((row % 4 / 2) as u16)))],
            group: None,
            time: None,
        };
        (0..count).map(example).collect()
    }

    #[test]
    fn every_row_of_a_small_table_is_judged_by_an_encoder_that_has_not_seen_it_and_teaches_the_one_that_serves()
     {
        let plan = Plan::new(&examples(600), 1);
        let (serving, folds) = plan.splits.split_last().unwrap();
        assert_eq!((serving.train.len(), serving.unseen.contains(&true), folds.len()), (600, false, FOLDS));
        for (row, fold) in plan.folds.iter().enumerate() {
            for (number, split) in folds.iter().enumerate() {
                let out = number == usize::from(*fold);
                assert_eq!((split.unseen[row], split.train.contains(&row)), (out, !out));
            }
            assert_eq!(*fold, plan.folds[row ^ 1], "equal texts share a fold");
        }
    }

    #[test]
    fn a_large_table_sets_rows_aside() {
        let plan = Plan::new(&examples(FEW_ROWS), 1);
        assert_eq!((plan.splits.len(), plan.folds.len()), (1, 0));
        let split = &plan.splits[0];
        assert!(split.train.iter().chain(&split.held_out).all(|row| !split.unseen[*row]));
        assert!(split.unseen.iter().filter(|unseen| **unseen).count() >= FEW_ROWS / 6);
    }
}
