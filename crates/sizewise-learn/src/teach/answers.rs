//! What has the teacher said, so that nothing is paid for twice?
//!
//! One line of JSON an answer, written the moment it comes. A text that it could not answer is a line too: it is not asked
//! again.

use crate::{
    error::{Error, Result, at},
    opened::Texts,
};
use serde::{Deserialize, Serialize};
use sizewise_contract::Task;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Where the answers of a task's teacher are, beside the splits.
pub const ANSWERS_FILE: &str = "data/teacher.jsonl";
/// Where its answers to development rows are: they tell how good it is and are never learnt from.
pub const CHECK_FILE: &str = "data/teacher-check.jsonl";
/// Where its money went.
pub const SPENT_FILE: &str = "data/teacher-spent.jsonl";

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeacherAnswer {
    /// The text, as the task puts it together.
    pub text: String,
    /// The label of each question by name, as the task's tables spell it; empty where it was not answered.
    pub labels: BTreeMap<String, String>,
    /// Why it was not answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The model, as it was asked for.
    pub asked: String,
    /// The model, as its server calls it.
    pub model: String,
    /// The day, as YYYY-MM-DD.
    pub date: String,
    /// The provider's name for the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// The answers there are, and the file that more go to.
#[derive(Debug)]
pub struct Answers {
    path: PathBuf,
    file: Mutex<File>,
}

impl Answers {
    /// Opens the file, and reads what is there. What a stop cut off in the middle is left out.
    ///
    /// # Errors
    /// Fails when the file cannot be read or written.
    pub fn open(path: &Path) -> Result<(Self, Vec<TeacherAnswer>)> {
        let answers = Self::lines(path)?;
        let known = read_answers(path)?;
        Ok((answers, known))
    }

    /// Opens a file of other lines.
    ///
    /// # Errors
    /// Fails when it cannot be read or written.
    pub fn lines(path: &Path) -> Result<Self> {
        let mut file = File::options().create(true).read(true).append(true).open(path).map_err(at(path))?;
        let bytes = std::fs::read(path).map_err(at(path))?;
        if bytes.last().is_some_and(|end| *end != b'\n') {
            file.write_all(b"\n").map_err(at(path))?;
        }
        Ok(Self { path: path.to_owned(), file: Mutex::new(file) })
    }

    /// Keeps an answer, or another line.
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub fn keep<T: Serialize>(&self, answer: &T) -> Result<()> {
        let mut line =
            serde_json::to_vec(answer).map_err(|_| Error::Internal("an answer has a JSON form"))?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line).and_then(|()| file.sync_data()).map_err(at(&self.path))
    }
}

/// Reads answers, the first one of each model to every text; none where there is no file.
///
/// # Errors
/// Fails when the file is there and cannot be read.
pub fn read_answers(path: &Path) -> Result<Vec<TeacherAnswer>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(at(path)(cause)),
    };
    let (mut answers, mut seen) = (Vec::new(), Texts::default());
    for line in BufReader::new(file).split(b'\n') {
        let line = line.map_err(at(path))?;
        let Ok(answer) = serde_json::from_slice::<TeacherAnswer>(&line) else { continue };
        let key = format!("{} {}", answer.asked, answer.text);
        if !seen.contains(&key) {
            seen.insert(&key);
            answers.push(answer);
        }
    }
    Ok(answers)
}

impl TeacherAnswer {
    /// What it says on each question of a task; none where it says nothing that the task knows. `[questions]`
    #[must_use]
    pub fn class_labels(&self, task: &Task) -> Vec<Option<sizewise_contract::ClassLabel>> {
        let label = |question: &sizewise_contract::Question| {
            self.labels.get(&question.name).and_then(|written| question.class_label(written))
        };
        task.questions.iter().map(label).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> TeacherAnswer {
        TeacherAnswer {
            text: text.into(),
            labels: BTreeMap::from([("team".into(), "billing".into())]),
            problem: None,
            asked: "m".into(),
            model: "m-1".into(),
            date: "2026-01-02".into(),
            request: Some("r".into()),
        }
    }

    #[test]
    fn what_was_kept_is_there_again_after_a_stop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("teacher.jsonl");
        let (answers, known) = Answers::open(&path).unwrap();
        assert!(known.is_empty());
        answers.keep(&answer("one")).unwrap();
        answers.keep(&answer("One!")).unwrap();
        drop(answers);
        let mut cut = std::fs::read(&path).unwrap();
        cut.extend_from_slice(b"{\"text\":\"half");
        std::fs::write(&path, cut).unwrap();
        let (answers, known) = Answers::open(&path).unwrap();
        assert_eq!(known, [answer("one")], "the same text is one answer");
        answers.keep(&answer("two")).unwrap();
        assert_eq!(read_answers(&path).unwrap(), [answer("one"), answer("two")]);
        assert!(read_answers(&folder.path().join("none")).unwrap().is_empty());
    }
}
