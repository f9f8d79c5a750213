//! How is a JSON-lines file read?
//!
//! Twice: once for the names of all columns, once for the rows, so that a key that first appears in the last line is
//! still a column and the rows need not be held.

use super::{Problem, Rows, bounded::read_line};
use crate::error::{Result, at};
use serde_json::{Map, Value};
use sizewise_contract::limits;
use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufReader, Seek},
    path::Path,
};

pub(super) fn open(mut file: File, path: &Path) -> Result<(Vec<String>, Box<dyn Rows>)> {
    let columns = columns(&mut file).map_err(|p| p.of(path))?;
    file.rewind().map_err(at(path))?;
    let rows = JsonLines { lines: Lines::new(file), last: Map::new(), columns: columns.clone() };
    Ok((columns, Box::new(rows)))
}

fn columns(file: &mut File) -> std::result::Result<Vec<String>, Problem> {
    let mut lines = Lines::new(file);
    let (mut columns, mut seen) = (Vec::new(), BTreeSet::new());
    while let Some(object) = lines.next_object()? {
        for (key, _) in object {
            if !seen.contains(&key) {
                seen.insert(key.clone());
                columns.push(key);
            }
        }
        if columns.len() > limits::COLUMNS {
            return Err(Problem::new(format!("more than {} different keys", limits::COLUMNS)));
        }
    }
    Ok(columns)
}

struct Lines<R> {
    reader: BufReader<R>,
    buffer: Vec<u8>,
    number: u64,
}

impl<R: std::io::Read> Lines<R> {
    fn new(inner: R) -> Self {
        Self { reader: BufReader::new(inner), buffer: Vec::new(), number: 0 }
    }

    /// The object of the next line that is not blank.
    fn next_object(&mut self) -> std::result::Result<Option<Map<String, Value>>, Problem> {
        loop {
            let more = read_line(&mut self.reader, &mut self.buffer)
                .map_err(|error| Problem::new(format!("after line {}: {error}", self.number)))?;
            if !more {
                return Ok(None);
            }
            self.number += 1;
            let line = self.buffer.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.buffer);
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return serde_json::from_slice(line).map(Some).map_err(|error| {
                Problem::with_hint(
                    format!("line {} is not a JSON object: {error}", self.number),
                    "write one object in UTF-8 on each line",
                )
            });
        }
    }
}

struct JsonLines {
    lines: Lines<File>,
    last: Map<String, Value>,
    columns: Vec<String>,
}

impl Rows for JsonLines {
    fn next(&mut self, row: &mut Vec<String>) -> std::result::Result<bool, Problem> {
        row.clear();
        let Some(object) = self.lines.next_object()? else { return Ok(false) };
        row.extend(self.columns.iter().map(|column| object.get(column).map_or_else(String::new, cell)));
        self.last = object;
        Ok(true)
    }

    fn object(&self) -> Option<&Map<String, Value>> {
        Some(&self.last)
    }
}

/// A value as the cell of a table.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
