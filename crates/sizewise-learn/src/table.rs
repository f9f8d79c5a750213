//! What stands in this table, row by row?
//!
//! CSV (any usual separator), JSON lines and Parquet behind one reader that holds one row at a time, so that a million
//! rows cost no more memory than one. Every problem names the line; nothing is repaired in silence.

mod bounded;
mod delimited;
mod json_lines;
mod parquet_rows;
mod writer;

pub(crate) use writer::part_path;
pub use writer::{TableWriter, TableWriterOptions};

use crate::error::{Error, Result, at};
use sizewise_contract::limits;
use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
};

/// A table format, told by the file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Separated by commas, semicolons, tabs or bars; the first row names the columns.
    Csv,
    /// One JSON object a line.
    JsonLines,
    /// Apache Parquet with flat columns.
    Parquet,
}

impl Format {
    /// Tells the format by the file's name.
    ///
    /// # Errors
    /// Fails for a name that ends in none of the known ways.
    pub fn of(path: &Path) -> Result<Self> {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        match ending.as_str() {
            "csv" | "tsv" | "txt" => Ok(Self::Csv),
            "jsonl" | "ndjson" => Ok(Self::JsonLines),
            "parquet" | "pq" => Ok(Self::Parquet),
            _ => Err(Error::Unreadable {
                path: path.to_owned(),
                problem: format!("the ending `.{ending}` names no table format"),
                hint: Some("name it .csv, .tsv, .jsonl or .parquet".into()),
            }),
        }
    }
}

/// Reads the rows of one format.
trait Rows: Send {
    /// Replaces `row` by the next row; false at the end.
    fn next(&mut self, row: &mut Vec<String>) -> std::result::Result<bool, Problem>;

    /// The row that was read last, where the format has types.
    fn object(&self) -> Option<&serde_json::Map<String, serde_json::Value>> {
        None
    }
}

/// What is wrong in a table, before the file's name is added.
#[derive(Debug)]
struct Problem {
    text: String,
    hint: Option<String>,
}

impl Problem {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), hint: None }
    }

    fn with_hint(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { text: text.into(), hint: Some(hint.into()) }
    }

    fn of(self, path: &Path) -> Error {
        Error::Unreadable { path: path.to_owned(), problem: self.text, hint: self.hint }
    }
}

/// A table that is read row by row.
pub struct TableReader {
    path: PathBuf,
    columns: Vec<String>,
    rows: Box<dyn Rows>,
    read: u64,
}

impl std::fmt::Debug for TableReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableReader")
            .field("path", &self.path)
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}

impl TableReader {
    /// Opens a table and reads the names of its columns.
    ///
    /// # Errors
    /// Fails when the file cannot be opened, is empty, is not text in UTF-8 (for the text formats), names a column
    /// twice, or has more columns than the limit.
    pub fn open(path: &Path) -> Result<Self> {
        let format = Format::of(path)?;
        let file = File::open(path).map_err(at(path))?;
        if !file.metadata().map_err(at(path))?.is_file() {
            return Err(
                Problem::with_hint("it is not a file", "name a .csv, .tsv, .jsonl or .parquet file").of(path)
            );
        }
        let (columns, rows): (Vec<String>, Box<dyn Rows>) = match format {
            Format::Csv => delimited::open(file).map_err(|p| p.of(path))?,
            Format::JsonLines => json_lines::open(file, path)?,
            Format::Parquet => parquet_rows::open(file).map_err(|p| p.of(path))?,
        };
        check_columns(&columns).map_err(|p| p.of(path))?;
        Ok(Self { path: path.to_owned(), columns, rows, read: 0 })
    }

    /// The names of the columns, in order.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The row that was read last as the file has it, where its format knows more than text.
    #[must_use]
    pub fn last_object(&self) -> Option<&serde_json::Map<String, serde_json::Value>> {
        self.rows.object()
    }

    /// The table's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces `row` by the next row and returns its number, from 1; none at the end.
    ///
    /// **Bounds.** A cell has at most [`limits::CELL_BYTES`], a table at most [`limits::ROWS`] rows.
    ///
    /// # Errors
    /// Fails at the first row that is not as the header says, naming its line.
    pub fn next_row(&mut self, row: &mut Vec<String>) -> Result<Option<u64>> {
        if !self.rows.next(row).map_err(|p| p.of(&self.path))? {
            return Ok(None);
        }
        self.read += 1;
        if self.read > limits::ROWS as u64 {
            let problem = format!("more than {} rows", limits::ROWS);
            return Err(Problem::with_hint(problem, "split the table").of(&self.path));
        }
        if let Some(long) = row.iter().position(|cell| cell.len() > limits::CELL_BYTES) {
            let column = self.columns.get(long).map_or("?", String::as_str);
            let problem = format!(
                "row {}, column `{column}`: a cell of more than {} bytes",
                self.read,
                limits::CELL_BYTES
            );
            return Err(
                Problem::with_hint(problem, "look for a quotation mark that is never closed").of(&self.path)
            );
        }
        Ok(Some(self.read))
    }
}

fn check_columns(columns: &[String]) -> std::result::Result<(), Problem> {
    if columns.is_empty() || columns.iter().all(String::is_empty) {
        return Err(Problem::with_hint("the file is empty", "the first row must name the columns"));
    }
    if columns.len() > limits::COLUMNS {
        return Err(Problem::new(format!("{} columns; at most {} are read", columns.len(), limits::COLUMNS)));
    }
    let mut seen = BTreeSet::new();
    for (position, column) in columns.iter().enumerate() {
        if column.is_empty() {
            return Err(Problem::with_hint(
                format!("column {} has no name", position + 1),
                "name every column in the first row",
            ));
        }
        if !seen.insert(column) {
            return Err(Problem::with_hint(
                format!("two columns are called `{column}`"),
                "rename one of them",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sizewise_contract::Diagnose;

    fn read(name: &str, bytes: &[u8]) -> Result<(Vec<String>, Vec<Vec<String>>)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut table = TableReader::open(&path)?;
        let (mut rows, mut row) = (Vec::new(), Vec::new());
        while table.next_row(&mut row)?.is_some() {
            rows.push(row.clone());
        }
        Ok((table.columns().to_vec(), rows))
    }

    fn problem(name: &str, bytes: &[u8]) -> String {
        let error = read(name, bytes).unwrap_err();
        let message = error.to_string();
        let text = message.split_once(": ").map_or("", |(_, text)| text).to_owned();
        format!("{text}{}", error.hint().map(|hint| format!(" — {hint}")).unwrap_or_default())
    }

    #[test]
    fn quoted_cells_may_hold_separators_quotes_and_line_breaks() {
        let (columns, rows) = read("t.csv", b"text,label\r\n\"a, \"\"b\"\"\nc\",x\r\n").unwrap();
        assert_eq!(columns, ["text", "label"]);
        assert_eq!(rows, [["a, \"b\"\nc", "x"]]);
    }

    #[test]
    fn one_column_stays_one_whatever_its_texts_hold() {
        let (columns, rows) = read("t.csv", b"\ntext\nfirst; then | that\n\"one, two\"\nplain\n").unwrap();
        assert_eq!(columns, ["text"]);
        assert_eq!(rows, [["first; then | that"], ["one, two"], ["plain"]]);
    }

    #[test]
    fn the_separator_and_a_byte_order_mark_are_recognised() {
        for text in [
            "\u{feff}text;label\nhello, you;x\n",
            "text\tlabel\nhello, you\tx\n",
            "text|label\nhello, you|x\n",
        ] {
            assert_eq!(read("t.csv", text.as_bytes()).unwrap().1, [["hello, you", "x"]], "{text:?}");
        }
    }

    #[test]
    fn what_is_no_table_is_refused_with_its_place_and_a_way_out() {
        for (name, bytes, expected) in [
            ("t.csv", &b""[..], "the file is empty"),
            ("t.csv", b"\n\n", "the file is empty"),
            ("t.csv", b"text,text\na,b\n", "two columns are called `text`"),
            ("t.csv", b"text,\na,b\n", "column 2 has no name"),
            ("t.csv", b"text,label\na\n", "line 2 has 1 cell, the header has 2"),
            ("t.csv", b"text,label\na,b\nc,d,e\n", "line 3 has 3 cells"),
            ("t.csv", b"text,label\ncaf\xe9,b\n", "line 2 is not UTF-8"),
            ("t.csv", b"\xff\xfet\0e\0x\0t\0", "UTF-16"),
            ("t.csv", b"text,label\na\0b,c\n", "line 2 holds a zero byte"),
            ("t.csv", b"PK\x03\x04rest", "a zip archive"),
            ("t.jsonl", b"{\"text\": 1}\n[1]\n", "line 2 is not a JSON object"),
            ("t.jsonl", b"{\"text\": \n", "line 1 is not a JSON object"),
            ("t.jsonl", b"", "the file is empty"),
            ("t.parquet", b"PAR1", "not a Parquet file"),
            ("t.xlsx", b"", "names no table format"),
        ] {
            let message = problem(name, bytes);
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn a_quotation_mark_that_is_never_closed_is_found_before_it_eats_the_memory() {
        let mut bytes = b"text,label\n\"open".to_vec();
        bytes.resize(80 << 20, b'x');
        assert!(problem("t.csv", &bytes).contains("never closed"));
    }

    #[test]
    fn json_lines_give_missing_and_null_cells_as_empty() {
        let (columns, rows) =
            read("t.jsonl", b"{\"a\":\"x\",\"b\":null}\n\n{\"b\":true,\"c\":[1,2]}\n{\"a\":2.50}\n").unwrap();
        assert_eq!(columns, ["a", "b", "c"]);
        assert_eq!(rows, [["x", "", ""], ["", "true", "[1,2]"], ["2.5", "", ""]]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(rows in prop::collection::vec(prop::collection::vec("[^\0]{0,20}", 3), 1..20)) {
            for format in ["t.csv", "t.jsonl", "t.parquet"] {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join(format);
                let columns = ["a", "b", "c"].map(String::from);
                let mut writer = TableWriter::create(&path, &columns, &TableWriterOptions::default()).unwrap();
                rows.iter().for_each(|row| writer.write(row).unwrap());
                writer.finish().unwrap();
                let mut table = TableReader::open(&path).unwrap();
                let (mut found, mut row) = (Vec::new(), Vec::new());
                while table.next_row(&mut row).unwrap().is_some() {
                    found.push(row.clone());
                }
                prop_assert_eq!(&found, &rows, "{}", format);
            }
        }

        #[test]
        fn no_bytes_make_the_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for name in ["t.csv", "t.jsonl", "t.parquet"] {
                let _ = read(name, &bytes);
            }
        }
    }
}
