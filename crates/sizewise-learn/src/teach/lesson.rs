//! How does one round of labels lead to the next?
//!
//! The texts are embedded once. A round is chosen, asked, learnt; what has been learnt is measured on development rows that
//! people checked, and says whether another round is worth its price.

use super::{
    curve::Point,
    quick::{Quick, Vectors},
    select,
};
use crate::error::{Error, Result};
use sizewise_contract::{ClassLabel, Embed as _, Embeddings, Example, Gold, Label, Task, task::Overflow};
use sizewise_models::encoder::Encoder;
use std::sync::atomic::{AtomicBool, Ordering};

/// Most texts of a pool that are looked at; of more, an even sample.
pub const MOST_TEXTS: usize = 40_000;
/// Most gold rows that a quick model is fitted to beside the bought ones.
const MOST_GOLD: usize = 10_000;
/// Fewest and most texts of the first round; between them, four for each label.
const FIRST_ROUND: (usize, usize) = (40, 500);
/// A later round is this part of what is labelled.
const ROUND_PART: usize = 4;

/// What a lesson needs to see of the process around it.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Told what is done: a step's name, how much of it, and of how much.
    pub progress: &'a (dyn Fn(&str, usize, usize) + Sync),
    /// Raised when the user wants to stop.
    pub stop: &'a AtomicBool,
}

/// The texts, what is known of them, and what they look like.
#[derive(Debug)]
pub struct Lesson {
    vectors: Vectors,
    /// The label of each row by question, as the output of a head. `[rows][questions]`
    labels: Vec<Vec<Option<u16>>>,
    /// Gold rows, then pool, then development rows.
    gold: usize,
    pool: usize,
    /// Texts of the pool that were asked about. `[pool]`
    asked: Vec<bool>,
    /// Outputs of each question's head. `[questions]`
    outputs: Vec<usize>,
    heads: Vec<Option<Quick>>,
}

/// Labels as outputs of heads: a row outside of the classes is one more.
fn outputs(task: &Task, labels: &[Option<ClassLabel>]) -> Vec<Option<u16>> {
    let output = |(question, label): (&sizewise_contract::Question, &Option<ClassLabel>)| {
        label.map(|label| label.class().unwrap_or(question.class_values().len()) as u16)
    };
    task.questions.iter().zip(labels).map(output).collect()
}

fn gold_outputs(task: &Task, row: &Example<Gold>) -> Vec<Option<u16>> {
    let labels: Vec<Option<ClassLabel>> =
        row.labels.iter().map(|label| label.as_ref().map(Label::class_label)).collect();
    outputs(task, &labels)
}

/// Embeds texts chunk by chunk, so that a stop is heard. A text that is too long is read at both ends: this is for looking only.
pub(super) fn embed(encoder: &Encoder, texts: &[&str], watch: Watch<'_>) -> Result<Vectors> {
    let mut all = Embeddings { dimensions: encoder.dimensions(), ..Default::default() };
    for chunk in texts.chunks(1_024) {
        if watch.stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let part = encoder.embed(chunk, Overflow::HeadTail)?;
        all.values.extend(part.values);
        all.tokens.extend(part.tokens);
        (watch.progress)("encode", all.tokens.len(), texts.len());
    }
    Ok(Vectors::new(&all, encoder.last_layer_dimensions()))
}

impl Lesson {
    /// Embeds everything: gold rows to learn from, the pool, and development rows.
    ///
    /// # Errors
    /// Fails when a text cannot be read or the user stopped the work.
    pub fn new(
        task: &Task,
        encoder: &Encoder,
        (gold, pool, dev): (&[Example<Gold>], &[&str], &[Example<Gold>]),
        watch: Watch<'_>,
    ) -> Result<Self> {
        let gold = gold.get(..gold.len().min(MOST_GOLD)).unwrap_or_default();
        let text = |row: &'_ Example<Gold>| row.text.clone();
        let known: Vec<String> = gold.iter().map(text).collect();
        let judged: Vec<String> = dev.iter().map(text).collect();
        let texts: Vec<&str> = known
            .iter()
            .map(String::as_str)
            .chain(pool.iter().copied())
            .chain(judged.iter().map(String::as_str))
            .collect();
        let vectors = embed(encoder, &texts, watch)?;
        let unknown = vec![None; task.questions.len()];
        let labels = gold
            .iter()
            .map(|row| gold_outputs(task, row))
            .chain(pool.iter().map(|_| unknown.clone()))
            .chain(dev.iter().map(|row| gold_outputs(task, row)))
            .collect();
        let outputs = task
            .questions
            .iter()
            .map(|question| {
                question.class_values().len() + usize::from(question.out_of_scope_label.is_some())
            })
            .collect();
        Ok(Self {
            vectors,
            labels,
            gold: gold.len(),
            pool: pool.len(),
            asked: vec![false; pool.len()],
            outputs,
            heads: Vec::new(),
        })
    }

    /// Takes in what the teacher said of a text of the pool; nothing, where it could not answer.
    pub fn learn(&mut self, task: &Task, place: usize, labels: &[Option<ClassLabel>]) {
        if let Some(asked) = self.asked.get_mut(place) {
            *asked = true;
        }
        if let Some(row) = self.labels.get_mut(self.gold + place).filter(|_| place < self.pool) {
            *row = outputs(task, labels);
        }
    }

    /// Gold rows that are learnt from beside the bought ones.
    #[must_use]
    pub fn gold(&self) -> usize {
        self.gold
    }

    /// Texts of the pool that have a label.
    #[must_use]
    pub fn labelled(&self) -> usize {
        let rows = self.labels.get(self.gold..self.gold + self.pool).unwrap_or_default();
        rows.iter().filter(|row| row.iter().any(Option::is_some)).count()
    }

    /// Texts of the pool that were asked about.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.iter().filter(|asked| **asked).count()
    }

    /// How many texts the next round has.
    #[must_use]
    pub fn round(&self) -> usize {
        let labels: usize = self.outputs.iter().copied().max().unwrap_or(2);
        match self.asked() {
            0 => (4 * labels).clamp(FIRST_ROUND.0, FIRST_ROUND.1),
            asked => (asked / ROUND_PART).max(FIRST_ROUND.0),
        }
    }

    /// Fits a quick head for each question and counts what they get right on the development rows.
    ///
    /// # Errors
    /// Fails when the user stopped the work.
    pub fn fit(&mut self, stop: &AtomicBool) -> Result<Point> {
        let mut point = Point { labels: self.labelled(), right: 0, of: 0 };
        self.heads.clear();
        for (question, outputs) in self.outputs.iter().copied().enumerate() {
            let labelled = |rows: std::ops::Range<usize>| -> Vec<(usize, u16)> {
                rows.filter_map(|row| Some((row, (*self.labels.get(row)?.get(question)?)?))).collect()
            };
            let (known, judged) =
                (labelled(0..self.gold + self.pool), labelled(self.gold + self.pool..self.labels.len()));
            let head = match known.is_empty() {
                true => None,
                false => Some(Quick::fit(&self.vectors, &known, outputs, stop).ok_or(Error::Interrupted)?),
            };
            point.of += judged.len();
            point.right += head.as_ref().map_or(0, |head| head.right(&self.vectors, &judged));
            self.heads.push(head);
        }
        Ok(point)
    }

    /// Texts of the pool to ask about next: by coverage as long as none was asked, then the least certain ones.
    #[must_use]
    pub fn choose(&self, count: usize, seed: u64) -> Vec<usize> {
        let open: Vec<usize> =
            (0..self.pool).filter(|place| self.asked.get(*place) == Some(&false)).collect();
        let rows: Vec<usize> = open.iter().map(|place| place + self.gold).collect();
        let count = count.min(rows.len());
        let chosen = if self.asked() == 0 || self.heads.iter().all(Option::is_none) {
            let known: Vec<usize> = (0..self.gold)
                .chain(
                    (0..self.pool)
                        .filter(|place| self.asked.get(*place) == Some(&true))
                        .map(|p| p + self.gold),
                )
                .collect();
            select::coverage(&self.vectors, &rows, &known, count, seed)
        } else {
            select::uncertain(&self.vectors, &rows, &self.margins(&rows), count, seed)
        };
        chosen.into_iter().map(|row| row - self.gold).collect()
    }

    /// How clear the least clear question of each row is.
    fn margins(&self, rows: &[usize]) -> Vec<f32> {
        let mut margins = vec![f32::INFINITY; rows.len()];
        for head in self.heads.iter().flatten() {
            for (least, margin) in margins.iter_mut().zip(head.margins(&self.vectors, rows)) {
                *least = least.min(margin);
            }
        }
        margins
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sizewise_models::builtin;

    const TASK: &str = "schema = 1\nname = \"t\"\n[[question]]\nname = \"team\"\ntype = \"choice\"\nchoices = [{ value = \"billing\" }, { value = \"delivery\" }]\nout_of_scope_label = \"none\"\n";

    #[test]
    fn rounds_are_chosen_asked_and_learnt_until_the_pool_is_empty() {
        let task = Task::parse(TASK).unwrap();
        let encoder = builtin::encoder().unwrap();
        let text = |i: usize| match i % 2 {
            0 => format!("my invoice number {i} is wrong"),
            _ => format!("the parcel number {i} has not come"),
        };
        let class = |i: usize| Some(ClassLabel::Class((i % 2) as u16));
        let pool: Vec<String> = (0..120).map(text).collect();
        let pool: Vec<&str> = pool.iter().map(String::as_str).collect();
        let dev: Vec<Example<Gold>> = (500..520)
            .map(|i| Example {
                row: i as u64,
                text: text(i),
                labels: vec![class(i).map(Gold)],
                group: None,
                time: None,
            })
            .collect();
        let stop = AtomicBool::new(false);
        let watch = Watch { progress: &|_, _, _| (), stop: &stop };
        let mut lesson = Lesson::new(&task, &encoder, (&[], &pool, &dev), watch).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        let mut last = 0.0;
        loop {
            let chosen = lesson.choose(lesson.round(), 1);
            if chosen.is_empty() {
                break;
            }
            for place in chosen {
                assert!(seen.insert(place), "{place} is asked twice");
                // One text cannot be answered: it is not asked again.
                lesson.learn(&task, place, &[class(place).filter(|_| place != 7)]);
            }
            last = lesson.fit(&stop).unwrap().accuracy();
        }
        assert_eq!((seen.len(), lesson.asked(), lesson.labelled()), (120, 120, 119));
        assert!(last > 0.9, "{last}");
    }
}
