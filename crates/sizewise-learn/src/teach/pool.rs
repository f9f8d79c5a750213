//! Which texts may the teacher be asked about?
//!
//! Each text once, none that has a label already, and none that a certificate was or will be made with: a locked text that came
//! back as a training row would prove what it was taught.

use crate::{
    dataset::{Locked, check_length, column, read_gold, texts},
    error::Result,
    opened::Texts,
    table::TableReader,
    teach::answers::{ANSWERS_FILE, read_answers},
};
use serde::Serialize;
use sizewise_contract::{Example, Gold, Task, limits};
use sizewise_models::encoder::Encoder;
use std::path::{Path, PathBuf};

/// Texts of a table that may be asked about, and what became of the others.
#[derive(Debug, Default, Serialize)]
pub struct Pool {
    /// The texts, in the order of the table.
    #[serde(skip)]
    pub texts: Vec<String>,
    /// Rows of the table.
    pub rows: usize,
    /// Rows with the text of an earlier one.
    pub copies: usize,
    /// Rows without a text, or with one that is longer than any input may be.
    pub unusable: usize,
    /// Rows with a text that is locked, or was opened by a certificate.
    pub locked: usize,
    /// Rows with the text of a development row.
    pub dev: usize,
    /// Rows with the text of a training row.
    pub trained: usize,
    /// Texts among those above, which stay in the pool, that were asked about earlier.
    pub bought: usize,
}

/// The texts that a certificate was or will be made with: locked now, or opened earlier, by this task or by others.
///
/// # Errors
/// Fails when a table or a list of opened texts cannot be read.
pub fn proving(task: &Task, folder: &Path, all_folders: &[PathBuf]) -> Result<(Texts, Texts)> {
    Ok((Locked::find(task, folder)?.texts(task)?, Texts::opened(all_folders)?))
}

impl Pool {
    /// Reads a table of texts; labels in it are not looked at.
    ///
    /// # Errors
    /// Fails when a table cannot be read, or lacks a column that the task reads.
    pub fn read(
        task: &Task,
        (folder, all_folders): (&Path, &[PathBuf]),
        from: &Path,
        encoder: &Encoder,
    ) -> Result<Self> {
        let (locked, opened) = proving(task, folder, all_folders)?;
        let mut dev = Texts::default();
        for example in read_gold(task, &folder.join(&task.data.dev))?.examples {
            dev.insert(&example.text);
        }
        let trained = texts(task, &folder.join(&task.data.train))?;
        let mut bought = Texts::default();
        read_answers(&folder.join(ANSWERS_FILE))?.iter().for_each(|answer| bought.insert(&answer.text));
        let mut table = TableReader::open(from)?;
        let inputs = task.input.fields.iter().map(|f| column(&table, f)).collect::<Result<Vec<_>>>()?;
        let (mut pool, mut seen, mut row) = (Self::default(), Texts::default(), Vec::new());
        while table.next_row(&mut row)?.is_some() {
            let cell = |place: usize| row.get(place).map_or("", String::as_str);
            let text = inputs.iter().map(|&place| cell(place)).collect::<Vec<_>>().join("\n");
            pool.rows += 1;
            let count = match &text {
                text if text.trim().is_empty() || text.len() > limits::INPUT_BYTES => &mut pool.unusable,
                text if check_length("pool", 0, text, (task, Some(encoder))).is_err() => &mut pool.unusable,
                text if seen.contains(text) => &mut pool.copies,
                text if locked.contains(text) || opened.contains(text) => &mut pool.locked,
                text if dev.contains(text) => &mut pool.dev,
                text if trained.contains(text) => &mut pool.trained,
                _ => {
                    seen.insert(&text);
                    pool.bought += usize::from(bought.contains(&text));
                    pool.texts.push(text);
                    continue;
                }
            };
            *count += 1;
        }
        Ok(pool)
    }
}

/// Development rows that the teacher may be asked about, in a fixed random order: none that is locked or was opened.
///
/// # Errors
/// Fails when a table cannot be read.
pub fn checkable(task: &Task, folder: &Path, all_folders: &[PathBuf]) -> Result<Vec<Example<Gold>>> {
    let (locked, opened) = proving(task, folder, all_folders)?;
    let mut rows = read_gold(task, &folder.join(&task.data.dev))?.examples;
    rows.retain(|row| !locked.contains(&row.text) && !opened.contains(&row.text));
    rows.retain(|row| row.labels.iter().any(Option::is_some));
    sizewise_measure::random::Random::new(0xc4ec).shuffle(&mut rows);
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_texts_that_prove_nothing_and_have_no_label_are_left() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        let write = |name: &str, rows: &str| std::fs::write(folder.path().join(name), rows).unwrap();
        write("data/train.csv", "text,team\ntrained,a\n");
        write("data/dev.csv", "text,team\nfor development,a\nopened before,b\n");
        write("data/locked.csv", "text,team\nLocked text,b\n");
        write(
            "texts.csv",
            "id,text\n1,new one\n2,New one!\n3,locked TEXT.\n4,for development\n5,trained\n6, \n7,Opened before?\n8,another\n",
        );
        let mut opened = Texts::default();
        opened.insert("opened before");
        opened.remember(folder.path()).unwrap();
        let task = Task::parse("schema = 1\nname = \"t\"\n[[question]]\nname = \"team\"\ntype = \"choice\"\nchoices = [{ value = \"a\" }, { value = \"b\" }]\n").unwrap();
        let folders = [folder.path().to_owned()];
        let encoder = sizewise_models::builtin::encoder().unwrap();
        let pool =
            Pool::read(&task, (folder.path(), &folders), &folder.path().join("texts.csv"), &encoder).unwrap();
        assert_eq!(pool.texts, ["new one", "another"]);
        assert_eq!(
            (pool.rows, pool.copies, pool.unusable, pool.locked, pool.dev, pool.trained),
            (8, 1, 1, 2, 1, 1)
        );
        let rows = checkable(&task, folder.path(), &folders).unwrap();
        assert_eq!(rows.iter().map(|row| row.text.as_str()).collect::<Vec<_>>(), ["for development"]);
    }
}
