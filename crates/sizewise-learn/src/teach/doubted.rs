//! Which of a task's teacher rows are set aside before training?
//!
//! As many as the check on development rows says are wrong; none where the teacher was not checked. A label that is doubted is
//! taken off its row; the row stays where it is, so that positions mean what they meant. Gold labels are never touched, and no
//! class is left with too few rows to be learnt.

use super::{
    answers::{CHECK_FILE, read_answers},
    lesson::{MOST_TEXTS, Watch, embed},
    noise,
    quick::Vectors,
};
use crate::{
    dataset::{Dataset, Given, TrainingRows, read_gold},
    error::{Error, Result},
    train::LEAST_ROWS_PER_CLASS,
};
use serde::Serialize;
use sizewise_contract::{ClassLabel, Label, Question, Task, Teacher};
use sizewise_models::encoder::Encoder;
use std::{collections::HashMap, path::Path};

/// Fewest development rows that tell how often a teacher is wrong.
const FEWEST_CHECKED: usize = 20;

/// A label that was set aside.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SetAside {
    /// The row, as its table counts it.
    pub row: u64,
    /// The question.
    pub question: String,
    /// What the teacher said.
    pub label: String,
    /// What seems right.
    pub instead: String,
    /// How far that is ahead, from 0 to 1.
    pub lead: f32,
    /// The text.
    pub text: String,
}

/// How often the teacher was wrong on development rows, by question; none where it was asked about too few.
///
/// # Errors
/// Fails when the answers or the development rows cannot be read.
pub fn error_rates(task: &Task, folder: &Path) -> Result<Vec<Option<f64>>> {
    let answers = read_answers(&folder.join(CHECK_FILE))?;
    if answers.is_empty() {
        return Ok(vec![None; task.questions.len()]);
    }
    let dev = read_gold(task, &folder.join(&task.data.dev))?.examples;
    let truth: HashMap<&str, _> = dev.iter().map(|row| (row.text.as_str(), row)).collect();
    let rate = |position: usize| {
        let pairs = answers.iter().filter_map(|answer| {
            let said = (*answer.class_labels(task).get(position)?)?;
            Some(truth.get(answer.text.as_str())?.class_label(position)? == said)
        });
        let (of, right) =
            pairs.fold((0usize, 0usize), |(of, right), same| (of + 1, right + usize::from(same)));
        (of >= FEWEST_CHECKED).then(|| (of - right) as f64 / of as f64)
    };
    Ok((0..task.questions.len()).map(rate).collect())
}

/// Takes labels off teacher rows that the other rows contradict: of each question the share that `wrong` says.
///
/// # Errors
/// Fails when a text cannot be read or the user stopped the work.
pub fn set_aside(
    task: &Task,
    rows: &mut TrainingRows,
    wrong: &[Option<f64>],
    (encoder, watch): (&Encoder, Watch<'_>),
) -> Result<Vec<SetAside>> {
    if wrong.iter().all(|rate| rate.unwrap_or(0.0) == 0.0) {
        return Ok(Vec::new());
    }
    match rows {
        TrainingRows::Gold(_) => Ok(Vec::new()),
        TrainingRows::Teacher(rows) => of(task, rows, |_: &Teacher| false, (wrong, encoder, watch)),
        TrainingRows::Mixed(rows) => {
            of(task, rows, |given| matches!(given, Given::Gold(_)), (wrong, encoder, watch))
        }
    }
}

fn of<L: Label>(
    task: &Task,
    rows: &mut Dataset<L>,
    is_gold: impl Fn(&L) -> bool,
    (wrong, encoder, watch): (&[Option<f64>], &Encoder, Watch<'_>),
) -> Result<Vec<SetAside>> {
    let kept = rows.examples.len().min(MOST_TEXTS);
    let sampled: Vec<usize> = (0..kept).map(|place| place * rows.examples.len() / kept.max(1)).collect();
    let texts: Vec<&str> = sampled
        .iter()
        .filter_map(|row| rows.examples.get(*row))
        .map(|example| example.text.as_str())
        .collect();
    let vectors = embed(encoder, &texts, watch)?;
    let mut found = Vec::new();
    for (position, question) in task.questions.iter().enumerate() {
        let Some(wrong) = wrong.get(position).copied().flatten() else { continue };
        found.extend(of_question((position, question, wrong), rows, &is_gold, (&sampled, &vectors), watch)?);
    }
    Ok(found)
}

fn of_question<L: Label>(
    (position, question, wrong): (usize, &Question, f64),
    rows: &mut Dataset<L>,
    is_gold: &impl Fn(&L) -> bool,
    (sampled, vectors): (&[usize], &Vectors),
    watch: Watch<'_>,
) -> Result<Vec<SetAside>> {
    let values = question.class_values();
    let output = |label: ClassLabel| label.class().unwrap_or(values.len());
    let name = |output: usize| {
        let outside = question.out_of_scope_label.as_deref().unwrap_or("(out of scope)");
        values.get(output).copied().unwrap_or(outside).to_owned()
    };
    let (mut labelled, mut gold, mut counts) = (Vec::new(), Vec::new(), vec![0usize; values.len() + 1]);
    for (place, row) in sampled.iter().enumerate() {
        let Some(label) = rows.examples.get(*row).and_then(|row| row.labels.get(position)?.as_ref()) else {
            continue;
        };
        let output = output(label.class_label());
        labelled.push((place, output as u16));
        gold.push(is_gold(label));
        if let Some(count) = counts.get_mut(output) {
            *count += 1;
        }
    }
    let outputs = values.len() + usize::from(counts.last().is_some_and(|outside| *outside > 0));
    let is_gold = |place: usize| gold.get(place).copied().unwrap_or(false);
    let doubts = noise::doubts(vectors, &labelled, &is_gold, (outputs, wrong), watch.stop)
        .ok_or(Error::Interrupted)?;
    let mut found = Vec::new();
    for doubt in doubts {
        let Some((place, given)) = labelled.get(doubt.place).copied() else { continue };
        let given = usize::from(given);
        let (Some(count), Some(row)) = (counts.get_mut(given), sampled.get(place)) else { continue };
        if *count <= LEAST_ROWS_PER_CLASS && given < values.len() {
            continue;
        }
        let Some(example) = rows.examples.get_mut(*row) else { continue };
        if let Some(label) = example.labels.get_mut(position) {
            *label = None;
            *count -= 1;
        }
        found.push(SetAside {
            row: example.row,
            question: question.name.clone(),
            label: name(given),
            instead: name(doubt.instead),
            lead: doubt.lead,
            text: example.text.clone(),
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sizewise_contract::{ContentHash, Example, Gold};
    use sizewise_models::builtin;
    use std::sync::atomic::AtomicBool;

    const TASK: &str = "schema = 1\nname = \"t\"\n[[question]]\nname = \"team\"\ntype = \"choice\"\nchoices = [{ value = \"billing\" }, { value = \"delivery\" }]\n";

    #[test]
    fn a_wrong_teacher_label_goes_and_a_gold_one_stays() {
        let task = Task::parse(TASK).unwrap();
        let example = |i: usize| {
            let text = match i % 2 {
                0 => format!("my invoice number {i} is wrong"),
                _ => format!("the parcel number {i} has not come"),
            };
            let wrong = i == 10 || i == 21;
            let label = ClassLabel::Class(((i + usize::from(wrong)) % 2) as u16);
            let given = match i {
                10 => Given::Gold(Gold(label)),
                _ => Given::Teacher(Teacher { label, source: "m".into() }),
            };
            Example { row: i as u64, text, labels: vec![Some(given)], group: None, time: None }
        };
        let examples = (0..80).map(example).collect();
        let mut rows = TrainingRows::Mixed(Dataset { examples, hash: ContentHash::of(b"") });
        let stop = AtomicBool::new(false);
        let watch = Watch { progress: &|_, _, _| (), stop: &stop };
        let found =
            set_aside(&task, &mut rows, &[Some(0.02)], (&builtin::encoder().unwrap(), watch)).unwrap();
        assert_eq!(found.iter().map(|row| row.row).collect::<Vec<_>>(), [21]);
        assert_eq!((found[0].label.as_str(), found[0].instead.as_str()), ("billing", "delivery"));
        let TrainingRows::Mixed(rows) = rows else { panic!("still mixed") };
        assert!(rows.examples[21].labels[0].is_none() && rows.examples[10].labels[0].is_some());
    }
}
