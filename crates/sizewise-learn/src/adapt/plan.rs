//! Which rows does an encoder learn from, and which tell how good it is?
//!
//! Of a large table some rows are never seen: a fifth; of five to twenty thousand some thousand; of more a twentieth. A small table
//! cannot spare that: three encoders are trained, each without a third of the rows, which it then judges, and a fourth on all of them
//! serves. Trainings are short there.

use super::Adapted;
use crate::{dataset::TrainingRows, train::folds::Folds};
use sizewise_contract::{Example, Label};

/// With fewer rows than that every row is learnt from.
const FEW_ROWS: usize = 2_000;
/// Folds of such a table.
const FOLDS: usize = 3;
/// Of very small tables up to a third of the rows is unseen, so that a calibrator has a few hundred; of others a fifth.
const UNSEEN_PARTS: (usize, usize) = (3, 5);
/// Unseen rows that are wanted of such tables at least.
const UNSEEN_WANTED: usize = 200;
/// So many calibrate well enough: a large table keeps no more from its encoder.
const UNSEEN_ENOUGH: usize = 1_000;
/// But one row of so many at least: what a very large table can spare makes its certificate's plan surer.
const MOST_PARTS: usize = 20;

/// Which rule says what is unseen; a release that was adapted under another one has seen rows that this one calls unseen.
pub const SPLIT_RULE: u8 = 1;

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
    /// Rows that the encoder never learns from; they are judged after an epoch. `[rows]`
    pub unseen: Vec<bool>,
    /// Rows to learn from.
    pub train: Vec<usize>,
    /// Whether the unseen rows say which epoch is best.
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
        let without = |fold: usize| Split::without(&folds, fold, false);
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
        let few = (examples.len() / UNSEEN_WANTED).clamp(UNSEEN_PARTS.0, UNSEEN_PARTS.1);
        let parts = few.max((examples.len() / UNSEEN_ENOUGH).min(MOST_PARTS));
        Self::without(&Folds::spread(examples, seed ^ 0x0b5e_55ed, parts), 0, true)
    }

    /// All rows but those of a fold.
    fn without(folds: &Folds, fold: usize, choose: bool) -> Self {
        let unseen: Vec<bool> = (0..folds.of.len()).map(|row| folds.holds(fold, row)).collect();
        let train = (0..unseen.len()).filter(|row| !folds.holds(fold, *row)).collect();
        Self { unseen, train, choose }
    }

    /// The rows that are judged after an epoch.
    pub(super) fn judged(&self) -> Vec<usize> {
        self.unseen.iter().enumerate().filter(|(_, unseen)| **unseen).map(|(row, _)| row).collect()
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
    fn a_large_table_sets_enough_rows_aside_and_not_more() {
        for (rows, parts) in [(FEW_ROWS, 5), (6_000, 6), (15_500, 15), (50_000, 20)] {
            let plan = Plan::new(&examples(rows), 1);
            assert_eq!((plan.splits.len(), plan.folds.len()), (1, 0));
            let split = &plan.splits[0];
            let judged = split.judged();
            assert!(judged.len().abs_diff(rows / parts) <= 4, "{} of {rows}", judged.len());
            assert_eq!(judged.len() + split.train.len(), rows);
            assert!(split.train.iter().all(|row| !split.unseen[*row]));
        }
    }
}
