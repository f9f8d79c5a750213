//! What does one section of a `tokenizer.json` hold, and what of it can this build not run?
//!
//! Sections are read key by key: a key that nobody asks for is one whose effect this build would leave out, so it is
//! refused by name.

use crate::error::{Error, Result};
use serde_json::{Map, Value};

/// Deepest nesting of sequences.
const DEPTH: usize = 8;

/// One section: a JSON object with a `type`, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Section<'a> {
    file: &'a str,
    path: String,
    entries: &'a Map<String, Value>,
    depth: usize,
}

impl<'a> Section<'a> {
    /// A section of the file; none where it is missing or null.
    ///
    /// # Errors
    /// Fails when it is no object.
    pub(super) fn of(file: &'a str, path: &str, value: &'a Value) -> Result<Option<Self>> {
        match value {
            Value::Null => Ok(None),
            Value::Object(entries) => Ok(Some(Self { file, path: path.to_owned(), entries, depth: 0 })),
            _ => Err(Error::File { file: file.to_owned(), problem: format!("{path} is no object") }),
        }
    }

    /// The parts of a sequence under `key`.
    ///
    /// # Errors
    /// Fails when they are no list of objects, or nest deeper than any real file.
    pub(super) fn parts(&self, key: &str) -> Result<Vec<Self>> {
        let Some(Value::Array(parts)) = self.entries.get(key) else {
            return Err(self.damaged(key, "is no list"));
        };
        if self.depth >= DEPTH {
            return Err(self.damaged(key, "nests too deeply"));
        }
        let part = |(at, part): (usize, &'a Value)| match part {
            Value::Object(entries) => Ok(Self {
                file: self.file,
                path: format!("{}.{key}[{at}]", self.path),
                entries,
                depth: self.depth + 1,
            }),
            _ => Err(self.damaged(key, "holds something that is no object")),
        };
        parts.iter().enumerate().map(part).collect()
    }

    /// Its `type`.
    ///
    /// # Errors
    /// Fails when it has none.
    pub(super) fn kind(&self) -> Result<&'a str> {
        self.text("type")
    }

    /// Refuses a section that has a key beyond `type` and these.
    ///
    /// # Errors
    /// Fails with the key.
    pub(super) fn only(&self, keys: &[&str]) -> Result<()> {
        match self.entries.keys().find(|key| *key != "type" && !keys.contains(&key.as_str())) {
            Some(key) => Err(self.unsupported(key, "is not known to this build")),
            None => Ok(()),
        }
    }

    /// An entry of any kind.
    pub(super) fn value(&self, key: &str) -> Option<&'a Value> {
        self.entries.get(key)
    }

    /// An entry that is text.
    ///
    /// # Errors
    /// Fails when it is missing or something else.
    pub(super) fn text(&self, key: &str) -> Result<&'a str> {
        self.entries.get(key).and_then(Value::as_str).ok_or_else(|| self.damaged(key, "is no text"))
    }

    /// An entry that is true or false.
    ///
    /// # Errors
    /// Fails when it is something else.
    pub(super) fn flag(&self, key: &str, otherwise: bool) -> Result<bool> {
        match self.entries.get(key) {
            None | Some(Value::Null) => Ok(otherwise),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.damaged(key, "is neither true nor false")),
        }
    }

    /// An entry that is an id.
    ///
    /// # Errors
    /// Fails when it is missing or something else.
    pub(super) fn id(&self, value: Option<&Value>, key: &str) -> Result<u32> {
        let id = value.and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| self.damaged(key, "is no id"))
    }

    /// An error for an entry that is damaged.
    pub(super) fn damaged(&self, key: &str, problem: &str) -> Error {
        Error::File { file: self.file.to_owned(), problem: format!("{}.{key} {problem}", self.path) }
    }

    /// An error for an entry that this build cannot run.
    pub(super) fn unsupported(&self, key: &str, problem: &str) -> Error {
        Error::Unsupported { file: self.file.to_owned(), problem: format!("{}.{key} {problem}", self.path) }
    }

    /// An error for a section of a kind that this build cannot run.
    pub(super) fn unknown_kind(&self, expected: &str) -> Error {
        match self.kind() {
            Ok(kind) => {
                let kind: String = kind.chars().take(64).collect();
                self.unsupported("type", &format!("is `{kind}`; this build runs {expected}"))
            }
            Err(error) => error,
        }
    }
}
