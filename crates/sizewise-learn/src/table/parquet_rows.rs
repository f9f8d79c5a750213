//! How is a Parquet file read?
//!
//! Through the record reader of the `parquet` crate, which needs none of the Arrow crates: tables of texts and labels
//! are flat, and reading them is never what takes the time.

use super::{Problem, Rows};
use parquet::{
    basic::{LogicalType, Type as PhysicalType},
    file::reader::{FileReader, SerializedFileReader},
    record::{Field, reader::RowIter},
};
use std::{fs::File, panic::AssertUnwindSafe};

pub(super) fn open(file: File) -> Result<(Vec<String>, Box<dyn Rows>), Problem> {
    guarded(|| {
        let reader = SerializedFileReader::new(file).map_err(|error| {
            Problem::with_hint(
                format!("not a Parquet file: {error}"),
                "write the file anew; it may be cut off",
            )
        })?;
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let mut columns = Vec::new();
        for field in schema.root_schema().get_fields() {
            if !field.is_primitive() {
                return Err(Problem::with_hint(
                    format!("column `{}` is nested", field.name()),
                    "flatten it, or drop the column",
                ));
            }
            columns.push(field.name().to_owned());
        }
        let texts = schema
            .columns()
            .iter()
            .map(|c| {
                c.physical_type() == PhysicalType::BYTE_ARRAY
                    && !matches!(c.logical_type_ref(), Some(LogicalType::Decimal { .. }))
            })
            .collect();
        let rows = RowIter::from_file_into(Box::new(reader));
        Ok((columns, Box::new(ParquetRows { rows, texts, number: 0 }) as Box<dyn Rows>))
    })
}

/// The reader panics on some damaged files; that must not take the program down.
fn guarded<T>(read: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    std::panic::catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        Err(Problem::with_hint(
            "not a Parquet file: its inside is damaged",
            "write the file anew; it may be cut off",
        ))
    })
}

struct ParquetRows {
    rows: RowIter<'static>,
    /// Whether a column's bytes are text. `[columns]`
    texts: Vec<bool>,
    number: u64,
}

impl Rows for ParquetRows {
    fn next(&mut self, row: &mut Vec<String>) -> Result<bool, Problem> {
        row.clear();
        let Some(record) = guarded(|| Ok(self.rows.next()))? else { return Ok(false) };
        self.number += 1;
        let record = record.map_err(|error| Problem::new(format!("row {}: {error}", self.number)))?;
        for ((name, field), is_text) in record.get_column_iter().zip(&self.texts) {
            row.push(cell(field, *is_text).ok_or_else(|| {
                Problem::with_hint(
                    format!("row {}, column `{name}` is not UTF-8", self.number),
                    "write the column as text",
                )
            })?);
        }
        Ok(true)
    }
}

fn cell(field: &Field, is_text: bool) -> Option<String> {
    match field {
        Field::Null => Some(String::new()),
        Field::Str(text) => Some(text.clone()),
        Field::Bytes(bytes) if is_text => String::from_utf8(bytes.data().to_vec()).ok(),
        other => Some(other.to_string()),
    }
}
