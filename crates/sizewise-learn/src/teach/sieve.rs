//! Is a written text new, or a copy of what proves, tells or teaches already?
//!
//! A text that copies a locked row would prove what it was taught; one that copies a development row would choose by what it was
//! taught. So both are thrown away, and those that nearly copy one, too. Nothing that is found is ever named: a count is all that is
//! told of locked rows.

use super::pool::proving;
use crate::{
    dataset::{each_text, texts},
    error::Result,
    opened::Texts,
    prepare::near::{NEARLY, Quotes, Sketches},
};
use serde::Serialize;
use sizewise_contract::Task;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// How alike a text may be to a row that proves. Stricter than elsewhere: the estimate errs by a tenth, and a miss costs more than a text.
const NEAR_GOLD: f64 = 0.6;

/// Which rows a text copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyOf {
    /// A locked row, or one that a certificate opened.
    Locked,
    /// A development row.
    Dev,
    /// One that a person answered, and that is in no table yet.
    Answered,
    /// A row to learn from.
    Training,
    /// One that was written before.
    Written,
}

/// Texts that a new one must not copy.
#[derive(Debug, Default)]
pub struct Sieve {
    opened: Texts,
    shelves: Vec<(CopyOf, Texts, Sketches)>,
    /// Texts that prove or tell, with the first shelf that they are on: another may not hold one, whatever stands around it.
    quotes: BTreeMap<CopyOf, Quotes>,
}

impl Sieve {
    /// What a written text must not copy if anything is to be proved or chosen beside it: locked rows and development rows, and exactly what was opened.
    ///
    /// # Errors
    /// Fails when a table or a list of opened texts cannot be read.
    pub fn of_gold(task: &Task, folder: &Path, all_folders: &[PathBuf]) -> Result<Self> {
        let (_, opened) = proving(task, folder, all_folders)?;
        let mut sieve = Self { opened, ..Self::default() };
        sieve.add_table(CopyOf::Locked, task, &folder.join(&task.data.locked))?;
        sieve.add_table(CopyOf::Dev, task, &folder.join(&task.data.dev))?;
        Ok(sieve)
    }

    /// The same, with all rows to learn from.
    ///
    /// # Errors
    /// Fails when a table cannot be read.
    pub fn of_all(task: &Task, folder: &Path, all_folders: &[PathBuf]) -> Result<Self> {
        let mut sieve = Self::of_gold(task, folder, all_folders)?;
        sieve.add_table(CopyOf::Training, task, &folder.join(&task.data.train))?;
        let bought = super::answers::read_answers(&folder.join(super::answers::ANSWERS_FILE))?;
        bought.iter().for_each(|answer| sieve.add(CopyOf::Training, &answer.text));
        Ok(sieve)
    }

    fn add_table(&mut self, shelf: CopyOf, task: &Task, path: &Path) -> Result<()> {
        each_text(task, path, &mut |text| self.add(shelf, text))
    }

    /// Adds a text that later ones must not copy.
    pub fn add(&mut self, shelf: CopyOf, text: &str) {
        let place = self.shelves.iter().position(|(of, ..)| *of == shelf).unwrap_or_else(|| {
            self.shelves.push((shelf, Texts::default(), Sketches::default()));
            self.shelves.len() - 1
        });
        if let Some((_, texts, sketches)) = self.shelves.get_mut(place) {
            texts.insert(text);
            sketches.insert(text);
        }
        if shelf <= CopyOf::Answered {
            self.quotes.entry(shelf).or_default().insert(text);
        }
    }

    /// What a text copies, or nearly copies: what proves is looked at first.
    #[must_use]
    pub fn copied(&self, text: &str) -> Option<CopyOf> {
        if self.opened.contains(text) {
            return Some(CopyOf::Locked);
        }
        let copies = |(of, texts, sketches): &&(CopyOf, Texts, Sketches)| {
            let alike = if *of <= CopyOf::Answered { NEAR_GOLD } else { NEARLY };
            texts.contains(text) || sketches.nearest(text) >= alike
        };
        let quoted = self.quotes.iter().filter(|(_, quotes)| quotes.any_in(text)).map(|(of, _)| *of);
        self.shelves.iter().filter(copies).map(|(of, ..)| *of).chain(quoted).min()
    }

    /// Whether a row must not be shown to anybody: its text proves, or tells how good a model is.
    #[must_use]
    pub fn keeps_back(&self, text: &str) -> bool {
        let of_gold = |shelf: &&(CopyOf, Texts, Sketches)| shelf.0 <= CopyOf::Answered;
        self.shelves.iter().filter(of_gold).any(|(_, texts, _)| texts.contains(text))
    }
}

/// The texts of a task's locked and development rows.
pub(super) fn gold_texts(task: &Task, folder: &Path) -> Result<[Texts; 2]> {
    Ok([texts(task, &folder.join(&task.data.locked))?, texts(task, &folder.join(&task.data.dev))?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_and_near_copies_are_found_what_proves_first() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        let write = |name: &str, rows: &str| std::fs::write(folder.path().join(name), rows).unwrap();
        write("data/train.csv", "text,team\nthe parcel of last week has not come,a\n");
        write("data/dev.csv", "text,team\nwhere do I find the invoice of march,b\n");
        write("data/locked.csv", "text,team\nI was charged twice for the very same tent,b\n");
        let mut opened = Texts::default();
        opened.insert("opened long ago");
        opened.remember(folder.path()).unwrap();
        let task = Task::parse("schema = 1\nname = \"t\"\n[[question]]\nname = \"team\"\ntype = \"choice\"\nchoices = [{ value = \"a\" }, { value = \"b\" }]\n").unwrap();
        let folders = [folder.path().to_owned()];
        let mut sieve = Sieve::of_all(&task, folder.path(), &folders).unwrap();
        sieve.add(CopyOf::Answered, "can you send me another catalogue please");
        sieve.add(CopyOf::Written, "somebody stole the package from my porch");
        for (text, expected) in [
            ("I was charged TWICE for the very same tent!", Some(CopyOf::Locked)),
            ("Hello, I was charged twice for the very same tent", Some(CopyOf::Locked)),
            (
                "My flatmate and I both read our statements and found that I was charged twice for the very same tent, while she was not charged at all",
                Some(CopyOf::Locked),
            ),
            ("Opened long ago.", Some(CopyOf::Locked)),
            ("where do i find the invoice of march??", Some(CopyOf::Dev)),
            ("Can you send me another catalogue, please?", Some(CopyOf::Answered)),
            ("The parcel of last week has not come", Some(CopyOf::Training)),
            ("Somebody stole the package from my porch.", Some(CopyOf::Written)),
            ("how long do refunds take after I send the shoes back", None),
        ] {
            assert_eq!(sieve.copied(text), expected, "{text}");
        }
        assert!(sieve.keeps_back("where do I find the invoice of march"));
        assert!(!sieve.keeps_back("the parcel of last week has not come"));
    }
}
