//! How good is the teacher on rows that people checked?
//!
//! Asked before the money goes: what learns from a teacher can hardly be better than it. What it said is kept, never learnt from, and
//! tells `train` how many of its labels to doubt.

use super::{leave::Sent, told};
use crate::{error::Result, screen::Screen};
use serde::Serialize;
use sizewise_learn::teach::{
    answers::{Answers, CHECK_FILE, TeacherAnswer},
    ask::{Ended, Teacher},
    pool::checkable,
};
use sizewise_measure::metrics::Share;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// How good the teacher is on one question.
#[derive(Debug, Serialize)]
pub(in crate::commands) struct Checked {
    pub(super) question: String,
    pub(super) right: Share,
    /// What the task promises at most.
    pub(super) max_served_error: f64,
}

/// How good the teacher is.
#[derive(Debug, Default, Serialize)]
pub(in crate::commands) struct GoldCheck {
    pub(super) check: Vec<Checked>,
    pub(super) check_unanswered: usize,
}

/// Asks about development rows, and says how often the teacher is right.
pub(in crate::commands) fn check(
    asking: &Teacher<'_>,
    (folder, folders): (&Path, &[PathBuf]),
    (count, sent): (usize, Sent),
    screen: &Screen,
) -> Result<(GoldCheck, Ended)> {
    let mut found = GoldCheck::default();
    let mut rows = checkable(asking.task, folder, folders)?;
    rows.truncate(count);
    if rows.is_empty() {
        return Ok((found, Ended::Done));
    }
    let (answers, known) = Answers::open(&folder.join(CHECK_FILE))?;
    // What another model said tells nothing of this one; its answers stay in the file.
    let known: HashMap<String, TeacherAnswer> = known
        .into_iter()
        .filter(|answer| answer.asked == asking.model)
        .map(|answer| (answer.text.clone(), answer))
        .collect();
    let open: Vec<&str> =
        rows.iter().map(|row| row.text.as_str()).filter(|text| !known.contains_key(*text)).collect();
    let known = Mutex::new(known);
    let progress = screen.progress();
    let keep = |answer: TeacherAnswer| -> sizewise_learn::Result<()> {
        answers.keep(&answer)?;
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(answer.text.clone(), answer);
        progress.at("check", known.len(), rows.len());
        Ok(())
    };
    let ended = asking.ask(&open, &sent, &keep)?;
    progress.end();
    let known = known.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (position, question) in asking.task.questions.iter().enumerate() {
        let (mut right, mut of) = (0, 0);
        for row in &rows {
            let (Some(truth), Some(answer)) = (row.class_label(position), known.get(&row.text)) else {
                continue;
            };
            of += 1;
            right += u64::from(answer.class_labels(asking.task).get(position) == Some(&Some(truth)));
        }
        let max_served_error = asking.task.promise_of(question).max_served_error;
        let question = question.name.clone();
        found.check.push(Checked { question, right: Share::new(right, of), max_served_error });
    }
    found.check_unanswered = known.values().filter(|answer| answer.labels.is_empty()).count();
    let above = |check: &Checked| check.right.of > 0 && 1.0 - check.right.value > check.max_served_error;
    if !screen.is_json() && found.check.iter().any(above) {
        // Before the money goes: Ctrl-C keeps what is left of it.
        screen.remark(told::check(&found, screen).trim());
    }
    Ok((found, ended))
}
