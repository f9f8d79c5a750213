//! What is kept of the rows that a certificate rests on?
//!
//! Numbers that its maker wrote, one line for each question of a release: never a text.

use crate::{
    Store,
    error::{Error, Result},
};
use rusqlite::{OptionalExtension, params};
use serde::{Serialize, de::DeserializeOwned};
use sizewise_contract::ContentHash;

/// What the database has for them.
pub(crate) const TABLES: &str = "
CREATE TABLE mix_rows (
    release  TEXT NOT NULL,
    question TEXT NOT NULL,
    rows     TEXT NOT NULL,                  -- JSON, numbers alone
    PRIMARY KEY (release, question)
) STRICT, WITHOUT ROWID;
";

impl Store {
    /// Keeps the numbers of a release's question.
    ///
    /// # Errors
    /// Fails when the database cannot be written.
    pub fn keep_mix_rows<T: Serialize>(&self, release: &ContentHash, question: &str, rows: &T) -> Result<()> {
        let text = serde_json::to_string(rows).map_err(|_| Error::Internal("numbers have a JSON form"))?;
        self.connection().execute(
            "INSERT INTO mix_rows (release, question, rows) VALUES (?1, ?2, ?3)
             ON CONFLICT (release, question) DO UPDATE SET rows = excluded.rows",
            params![release.to_string(), question, text],
        )?;
        Ok(())
    }

    /// The numbers of a release's question; none where none were kept, or in a form that this build does not know.
    ///
    /// # Errors
    /// Fails when the database cannot be read.
    pub fn mix_rows<T: DeserializeOwned>(&self, release: &ContentHash, question: &str) -> Result<Option<T>> {
        let text: Option<String> = self
            .connection()
            .query_row(
                "SELECT rows FROM mix_rows WHERE release = ?1 AND question = ?2",
                params![release.to_string(), question],
                |row| row.get(0),
            )
            .optional()?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_kept_by_release_and_question() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let release = ContentHash::of(b"release");
        store.keep_mix_rows(&release, "team", &[1, 2]).unwrap();
        store.keep_mix_rows(&release, "team", &[3, 4]).unwrap();
        assert_eq!(store.mix_rows::<Vec<u32>>(&release, "team").unwrap(), Some(vec![3, 4]));
        assert_eq!(store.mix_rows::<Vec<u32>>(&release, "urgent").unwrap(), None);
        assert_eq!(store.mix_rows::<String>(&release, "team").unwrap(), None);
    }
}
