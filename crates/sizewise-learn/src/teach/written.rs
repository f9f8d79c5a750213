//! Which texts did a teacher write, and which of them may be learnt from?
//!
//! One line of JSON a text, with the label that it was written for, who wrote it when, and which training rows the teacher was
//! shown. Such a text is never gold: it stands in no table, so nothing chooses, proves or is told by it. Tables change, so every
//! reading looks again: what copies a locked or development row by now, or was written after one, teaches nothing.

use super::{
    answers::{ANSWERS_FILE, read_answers},
    sieve::{Sieve, gold_texts},
};
use crate::{
    dataset::{Given, check_text, texts},
    error::{Error, Result, at},
};
use serde::{Deserialize, Serialize};
use sizewise_contract::{Example, Label, Task, Teacher};
use std::{collections::BTreeMap, io::Write, path::Path, sync::Arc};

/// Where the texts are, beside the splits.
pub const WRITTEN_FILE: &str = "data/written.jsonl";
/// The group of rows that were written, which no table has.
pub(crate) const GROUP: &str = "\u{0}written";

/// How a text came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Manner {
    /// A message of its own, after a few examples.
    New,
    /// What one example says, in other words.
    Paraphrase,
}

/// A text that a teacher wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenRow {
    /// The text, as the task puts it together.
    pub text: String,
    /// The label of each question by name, as the task's tables spell it.
    pub labels: BTreeMap<String, String>,
    /// How it came to be: the mark of what nobody sent.
    pub written: Manner,
    /// Always `teacher`.
    pub source: String,
    /// The model, as its server calls it.
    pub model: String,
    /// The day, as YYYY-MM-DD.
    pub date: String,
    /// The training rows that the teacher was shown: hashes of their texts, in hexadecimal.
    pub shown: Vec<String>,
}

/// Reads written texts; none where there is no file.
///
/// # Errors
/// Fails when the file is there and cannot be read, or a line is none of ours.
pub fn read_written(path: &Path) -> Result<Vec<WrittenRow>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(at(path)(cause)),
    };
    let line = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| Error::Unusable {
            path: path.to_owned(),
            problem: format!("line {}: {error}", number + 1),
            hint: Some(
                "remove the line, or run `sizewise write` again: it puts the file together anew".into(),
            ),
        })
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(line).collect()
}

/// Replaces the file: a stop leaves the earlier one or the new one.
///
/// # Errors
/// Fails when it cannot be written.
pub fn keep_written(path: &Path, rows: &[WrittenRow]) -> Result<()> {
    let mut text = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut text, row).map_err(|_| Error::Internal("a row has a JSON form"))?;
        text.push(b'\n');
    }
    let next = path.with_extension("jsonl.next");
    let mut file = std::fs::File::create(&next).map_err(at(&next))?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(at(&next))?;
    std::fs::rename(&next, path).map_err(at(path))
}

/// The key of a text, as `shown` names it.
#[must_use]
pub fn key(text: &str) -> String {
    format!("{:016x}", crate::prepare::text_key(text))
}

/// The texts that may be learnt from as the tables are now.
///
/// # Errors
/// Fails when a table or the file cannot be read.
pub(crate) fn learnable(task: &Task, folder: &Path) -> Result<Vec<Example<Given>>> {
    let rows = read_written(&folder.join(WRITTEN_FILE))?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let sieve = Sieve::of_gold(task, folder, &[folder.to_owned()])?;
    let gold = gold_texts(task, folder)?;
    let mut taught = texts(task, &folder.join(&task.data.train))?;
    read_answers(&folder.join(ANSWERS_FILE))?.iter().for_each(|answer| taught.insert(&answer.text));
    let mut learnt = Vec::new();
    for (position, row) in rows.into_iter().enumerate() {
        let shown: Vec<u64> = row.shown.iter().filter_map(|key| u64::from_str_radix(key, 16).ok()).collect();
        let after_gold = shown.iter().any(|key| gold.iter().any(|texts| texts.has_key(*key)));
        let labels = labels(task, &row, &shown.into());
        if after_gold
            || labels.iter().all(Option::is_none)
            || check_text(folder, 0, &row.text).is_err()
            || taught.contains(&row.text)
            || sieve.copied(&row.text).is_some()
        {
            continue;
        }
        taught.insert(&row.text);
        let row = Example {
            row: position as u64 + 1,
            text: row.text,
            labels,
            group: Some(GROUP.to_owned()),
            time: None,
        };
        learnt.push(row);
    }
    Ok(learnt)
}

fn labels(task: &Task, row: &WrittenRow, shown: &Arc<[u64]>) -> Vec<Option<Given>> {
    let source: Arc<str> = format!("{} {}", row.model, row.date).into();
    let label = |question: &sizewise_contract::Question| {
        let label = question.class_label(row.labels.get(&question.name)?)?;
        let label = Teacher { label, source: Arc::clone(&source) };
        // What is outside of the classes is what people send, not what somebody makes up.
        label.class_label().class()?;
        Some(Given::Written { label, shown: Arc::clone(shown) })
    };
    task.questions.iter().map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::TrainingRows;

    const TASK: &str = "schema = 1\nname = \"t\"\n[[question]]\nname = \"team\"\ntype = \"choice\"\nchoices = [{ value = \"billing\" }, { value = \"delivery\" }]\nout_of_scope_label = \"none\"\n";

    fn row(text: &str, label: &str, shown: &[&str]) -> WrittenRow {
        WrittenRow {
            text: text.into(),
            labels: BTreeMap::from([("team".into(), label.into())]),
            written: Manner::New,
            source: "teacher".into(),
            model: "m-1".into(),
            date: "2026-01-02".into(),
            shown: shown.iter().map(|text| key(text)).collect(),
        }
    }

    #[test]
    fn what_copies_or_comes_from_a_gold_row_teaches_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        let write = |name: &str, rows: &str| std::fs::write(folder.path().join(name), rows).unwrap();
        let (train, dev) = ("where is my invoice", "what became of the refund");
        write("data/train.csv", &format!("text,team\n{train},billing\n"));
        write("data/dev.csv", &format!("text,team\n{dev},billing\n"));
        write("data/locked.csv", "text,team\nthe courier left it with a stranger,delivery\n");
        let task = Task::parse(TASK).unwrap();
        let path = folder.path().join(WRITTEN_FILE);
        let good = row("I was billed for two tents and bought one", "billing", &[train]);
        keep_written(
            &path,
            &[
                row("Where is my invoice?", "billing", &[train]),
                row("the courier left it with some stranger", "delivery", &[train]),
                row("what became of the refund, please", "billing", &[train]),
                row("my money was to come back last week", "billing", &[dev]),
                row("tell me a joke", "none", &[train]),
                row("of a label that is gone", "sales", &[train]),
                good.clone(),
                good,
            ],
        )
        .unwrap();
        let TrainingRows::Mixed(rows) = TrainingRows::read(&task, folder.path()).unwrap() else {
            panic!("both kinds")
        };
        let texts: Vec<&str> = rows.examples.iter().map(|row| row.text.as_str()).collect();
        assert_eq!(texts, [train, "I was billed for two tents and bought one"]);
        assert!(matches!(&rows.examples[0].labels[0], Some(Given::Gold(_))));
        let Some(Given::Written { label, shown }) = &rows.examples[1].labels[0] else { panic!("written") };
        assert_eq!((&*label.source, shown.len()), ("m-1 2026-01-02", 1));
        let all = TrainingRows::Mixed(rows);
        let plain = all.without_written();
        assert_eq!((all.len(), plain.len()), (2, 1));
        std::fs::write(&path, "no json\n").unwrap();
        assert!(TrainingRows::read(&task, folder.path()).unwrap_err().to_string().contains("line 1"));
    }
}
