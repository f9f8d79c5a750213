//! How do rows that people answered since become rows to learn from and rows that prove?
//!
//! What was drawn at random from the traffic proves: a quarter of it becomes development rows, the rest is locked, never seen by any model.
//! Everything else (what people answered because nobody was sure, what callers reported) teaches, as do the rows that proved before: they were
//! opened, and prove nothing any more. The new files are written beside the old ones first and take their places together, so an
//! interrupted renewal is finished by the next call and loses no row.

use crate::{
    error::{Error, Result, at},
    opened::Texts,
    prepare::{SEAL_FILE, Seal, SplitSizes, hash_file, text_key},
    table::{TableReader, TableWriter, TableWriterOptions},
};
use serde::Serialize;
use sizewise_contract::Task;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

/// Folder of the files that are to take their places.
const NEXT: &str = "data/next";
/// Written last: from then on they must.
const READY: &str = "data/next/ready";
/// Fewest rows that it makes sense to lock.
const LEAST_LOCKED: usize = 60;

/// A text that a person gave labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The rendered input.
    pub text: String,
    /// A label for each question of the task; none where nobody said.
    pub labels: Vec<Option<String>>,
    /// Whether it was drawn at random from the traffic that the next certificate is to be about.
    pub proves: bool,
}

/// How the rows of a task come to lie.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Renewal {
    /// Answered rows that are new.
    pub new: usize,
    /// Answered rows whose texts the task had already.
    pub known: usize,
    /// Rows to learn from, the earlier development and locked rows among them.
    pub train: usize,
    /// Rows for development.
    pub dev: usize,
    /// Locked rows.
    pub locked: usize,
    /// Fewest rows that are locked.
    pub least_locked: usize,
}

impl Renewal {
    /// Whether there are enough rows to prove something with.
    #[must_use]
    pub fn suffices(&self) -> bool {
        self.locked >= self.least_locked
    }
}

/// Finishes a renewal that was interrupted once its files were whole. Says whether there was one.
///
/// # Errors
/// Fails when the files cannot be moved; the next call goes on.
pub fn finish(task: &Task, folder: &Path) -> Result<bool> {
    let ready = folder.join(READY);
    if !ready.exists() {
        return Ok(false);
    }
    for name in [&task.data.locked, SEAL_FILE, &task.data.dev, &task.data.train] {
        let (from, to) = (next(folder, name), folder.join(name));
        match std::fs::rename(&from, &to) {
            Ok(()) => {}
            // It took its place before the interruption.
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound && to.exists() => {}
            Err(cause) => return Err(at(&from)(cause)),
        }
    }
    std::fs::remove_file(&ready).map_err(at(&ready))?;
    Ok(true)
}

/// Divides the rows of a task and what people answered since; with `write` lays them down.
///
/// # Errors
/// Fails when the locked rows were not all opened before, a table cannot be read, or the files cannot be written.
pub fn renew(task: &Task, folder: &Path, answered: &[Answered], write: bool) -> Result<Renewal> {
    let opened = Texts::opened(&[folder.to_owned()])?;
    let train = folder.join(&task.data.train);
    let columns = TableReader::open(&train)?.columns().to_vec();
    let old = [train, folder.join(&task.data.dev), folder.join(&task.data.locked)];
    let mut known = HashSet::new();
    let mut kept: Vec<Vec<String>> = Vec::new();
    for (place, path) in old.iter().enumerate() {
        each(task, path, &columns, |key, row| {
            if place == 2 && !opened.has_key(key) {
                return Err(Error::Unusable {
                    path: path.clone(),
                    problem: "its rows were not opened yet".into(),
                    hint: Some(format!("they still prove: run `sizewise certify {}` first", task.name)),
                });
            }
            known.insert(key);
            kept.push(row);
            Ok(())
        })?;
    }
    let mut renewal = Renewal { least_locked: LEAST_LOCKED, ..Renewal::default() };
    let (mut dev, mut locked) = (Vec::new(), Vec::new());
    for one in answered {
        let key = text_key(&one.text);
        if !known.insert(key) {
            renewal.known += 1;
            continue;
        }
        renewal.new += 1;
        let row = row(task, &columns, one);
        match (one.proves && !opened.has_key(key), key % 4) {
            (true, 0) => dev.push(row),
            (true, _) => locked.push(row),
            (false, _) => kept.push(row),
        }
    }
    (renewal.train, renewal.dev, renewal.locked) = (kept.len(), dev.len(), locked.len());
    if write {
        lay_down(task, folder, &columns, [&kept, &dev, &locked])?;
        finish(task, folder)?;
    }
    Ok(renewal)
}

/// The rows of a table with the columns in another order, and the key of each one's text.
fn each(
    task: &Task,
    path: &Path,
    columns: &[String],
    mut see: impl FnMut(u64, Vec<String>) -> Result<()>,
) -> Result<()> {
    let mut table = TableReader::open(path)?;
    let place = |name: &String| table.columns().iter().position(|column| column == name);
    let places: Vec<Option<usize>> = columns.iter().map(place).collect();
    let inputs: Vec<Option<usize>> = task.input.fields.iter().map(place).collect();
    let mut row = Vec::new();
    while table.next_row(&mut row)?.is_some() {
        let cell = |place: &Option<usize>| place.and_then(|place| row.get(place)).map_or("", String::as_str);
        let text = inputs.iter().map(cell).collect::<Vec<_>>().join("\n");
        see(text_key(&text), places.iter().map(|place| cell(place).to_owned()).collect())?;
    }
    Ok(())
}

/// The texts of several fields were put together when they were asked; they come to lie under the first one's name.
fn row(task: &Task, columns: &[String], answered: &Answered) -> Vec<String> {
    let cell = |column: &String| {
        if task.input.fields.first() == Some(column) {
            return answered.text.clone();
        }
        let question = task.questions.iter().position(|question| question.label_column() == column);
        question.and_then(|at| answered.labels.get(at).cloned().flatten()).unwrap_or_default()
    };
    columns.iter().map(cell).collect()
}

fn next(folder: &Path, name: &str) -> PathBuf {
    let name = Path::new(name).file_name().unwrap_or_default();
    folder.join(NEXT).join(name)
}

fn lay_down(
    task: &Task,
    folder: &Path,
    columns: &[String],
    [train, dev, locked]: [&[Vec<String>]; 3],
) -> Result<()> {
    let beside = folder.join(NEXT);
    std::fs::create_dir_all(&beside).map_err(at(&beside))?;
    for (name, rows) in [(&task.data.train, train), (&task.data.dev, dev), (&task.data.locked, locked)] {
        let mut table = TableWriter::create(&next(folder, name), columns, &TableWriterOptions::default())?;
        rows.iter().try_for_each(|row| table.write(row))?;
        table.finish()?;
    }
    let seed = std::fs::read(folder.join(SEAL_FILE))
        .ok()
        .and_then(|text| serde_json::from_slice::<Seal>(&text).ok())
        .map_or(0, |seal| seal.seed);
    let splits = SplitSizes {
        train: train.len() as u64,
        dev: dev.len() as u64,
        locked: locked.len() as u64,
        ..SplitSizes::default()
    };
    let seal = Seal { locked: hash_file(&next(folder, &task.data.locked))?, seed, splits };
    let text = serde_json::to_vec_pretty(&seal).map_err(|_| Error::Internal("a seal has a JSON form"))?;
    let path = next(folder, SEAL_FILE);
    std::fs::write(&path, text).map_err(at(&path))?;
    let ready = folder.join(READY);
    let file = std::fs::File::create(&ready).map_err(at(&ready))?;
    file.sync_all().map_err(at(&ready))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    const TASK: &str = "schema = 1\nname = \"desk\"\n[[question]]\nname = \"team\"\ntype = \"choice\"\nchoices = [{ value = \"a\" }, { value = \"b\" }]\n";

    fn project() -> (tempfile::TempDir, Task) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        for (name, text) in [("train", "one"), ("dev", "two"), ("locked", "three")] {
            std::fs::write(folder.path().join(format!("data/{name}.csv")), format!("text,team\n{text},a\n"))
                .unwrap();
        }
        (folder, Task::parse(TASK).unwrap())
    }

    fn answered(count: usize, proves: bool) -> Vec<Answered> {
        (0..count)
            .map(|at| Answered { text: format!("new {proves} {at}"), labels: vec![Some("b".into())], proves })
            .collect()
    }

    fn rows(folder: &Path, name: &str) -> usize {
        std::fs::read_to_string(folder.join(format!("data/{name}.csv"))).unwrap().lines().count() - 1
    }

    #[test]
    fn locked_rows_that_nobody_opened_stay_locked() {
        let (folder, task) = project();
        let error = renew(&task, folder.path(), &answered(100, true), true).unwrap_err();
        assert!(error.to_string().contains("not opened yet"), "{error}");
        assert_eq!(rows(folder.path(), "locked"), 1);
    }

    #[test]
    fn what_was_drawn_proves_and_all_the_rest_teaches() {
        let (folder, task) = project();
        let mut texts = Texts::default();
        texts.insert("three");
        texts.remember(folder.path()).unwrap();
        let mut all = answered(200, true);
        all.extend(answered(50, false));
        all.push(Answered { text: "Two!".into(), labels: vec![Some("b".into())], proves: true });
        let planned = renew(&task, folder.path(), &all, false).unwrap();
        assert_eq!((planned.new, planned.known, planned.train), (250, 1, 53));
        assert_eq!(planned.dev + planned.locked, 200);
        assert!(planned.suffices() && (30..70).contains(&planned.dev));
        assert_eq!(rows(folder.path(), "train"), 1);
        assert_eq!(renew(&task, folder.path(), &all, true).unwrap(), planned);
        assert_eq!((rows(folder.path(), "train"), rows(folder.path(), "locked")), (53, planned.locked));
        crate::dataset::Locked::find(&task, folder.path()).unwrap();
        // The same answers again change nothing, and the locked rows wait to be opened.
        assert!(renew(&task, folder.path(), &all, true).is_err());
    }

    #[test]
    fn an_interrupted_renewal_is_finished() {
        let (folder, task) = project();
        let columns = ["text".to_owned(), "team".to_owned()];
        let some = |text: &str| vec![vec![text.to_owned(), "a".to_owned()]];
        lay_down(&task, folder.path(), &columns, [&some("x"), &some("y"), &some("z")]).unwrap();
        std::fs::rename(next(folder.path(), &task.data.locked), folder.path().join(&task.data.locked))
            .unwrap();
        assert!(finish(&task, folder.path()).unwrap());
        assert!(!finish(&task, folder.path()).unwrap());
        let train = std::fs::read_to_string(folder.path().join("data/train.csv")).unwrap();
        assert!(train.contains("x,a"), "{train}");
        crate::dataset::Locked::find(&task, folder.path()).unwrap();
    }
}
