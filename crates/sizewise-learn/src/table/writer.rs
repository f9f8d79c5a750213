//! How is a table written so that it is never seen half done?
//!
//! Rows go to a file with `.part` at the end of its name, which takes its own name only when the last row is on disk.

use super::Format;
use crate::error::{Error, Result, at};
use parquet::{
    basic::{Compression, ConvertedType, Repetition, Type as PhysicalType},
    data_type::{ByteArray, ByteArrayType},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::types::Type,
};
use std::{
    fs::File,
    io::{BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Rows that are held before a Parquet row group is written.
const ROW_GROUP: usize = 16_384;

/// How a table is written.
#[derive(Debug, Clone, Default)]
pub struct TableWriterOptions {
    /// Bytes of a part file from an interrupted run that are kept and appended to; text formats only.
    pub keep_bytes: Option<u64>,
}

/// Writes a table row by row.
pub struct TableWriter {
    path: PathBuf,
    part: PathBuf,
    sink: Sink,
}

enum Sink {
    Csv(Box<csv::Writer<BufWriter<File>>>),
    JsonLines(BufWriter<File>, Vec<String>),
    Parquet(Box<ParquetSink>),
}

impl std::fmt::Debug for TableWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The name of a table while it is being written.
#[must_use]
pub(crate) fn part_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}

impl TableWriter {
    /// Begins a table; with [`TableWriterOptions::keep_bytes`] goes on with one.
    ///
    /// # Errors
    /// Fails when the format is unknown or the part file cannot be written.
    pub fn create(path: &Path, columns: &[String], options: &TableWriterOptions) -> Result<Self> {
        let format = Format::of(path)?;
        let part = part_path(path);
        let mut file =
            File::options().create(true).truncate(false).write(true).open(&part).map_err(at(&part))?;
        // Held until the file is closed: two programs that write one table would spoil it for both.
        let kept = options.keep_bytes.unwrap_or(0);
        if file.try_lock().is_err() || file.metadata().map_err(at(&part))?.len() < kept {
            return Err(Error::Unusable {
                path: part,
                problem: "another program is writing it".into(),
                hint: Some("wait until that is done, or choose another output".into()),
            });
        }
        file.set_len(kept).and_then(|()| file.seek(SeekFrom::End(0))).map_err(at(&part))?;
        let fresh = kept == 0;
        let sink = match format {
            Format::Csv => {
                let separator = if path.extension().is_some_and(|e| e == "tsv") { b'\t' } else { b',' };
                let mut writer =
                    csv::WriterBuilder::new().delimiter(separator).from_writer(BufWriter::new(file));
                if fresh {
                    writer.write_record(columns).map_err(|e| csv_error(&part, e))?;
                }
                Sink::Csv(Box::new(writer))
            }
            Format::JsonLines => Sink::JsonLines(BufWriter::new(file), columns.to_vec()),
            Format::Parquet => {
                Sink::Parquet(Box::new(ParquetSink::new(file, columns).map_err(|e| parquet_error(&part, e))?))
            }
        };
        Ok(Self { path: path.to_owned(), part, sink })
    }

    /// Writes one row, as wide as the header.
    ///
    /// # Errors
    /// Fails when the disk does, or when the row is not as wide as the header.
    pub fn write(&mut self, row: &[String]) -> Result<()> {
        match &mut self.sink {
            Sink::Csv(writer) => writer.write_record(row).map_err(|e| csv_error(&self.part, e)),
            Sink::JsonLines(writer, columns) => {
                let object: serde_json::Map<String, serde_json::Value> =
                    columns.iter().cloned().zip(row.iter().map(|cell| cell.as_str().into())).collect();
                serde_json::to_writer(&mut *writer, &object)
                    .map_err(std::io::Error::from)
                    .and_then(|()| writer.write_all(b"\n"))
                    .map_err(at(&self.part))
            }
            Sink::Parquet(sink) => sink.write(row).map_err(|e| parquet_error(&self.part, e)),
        }
    }

    /// Writes one row of values, as wide as the header: with their types where the format has types, as text elsewhere.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_values(&mut self, row: &[serde_json::Value]) -> Result<()> {
        let Sink::JsonLines(writer, columns) = &mut self.sink else {
            return self.write(&row.iter().map(super::json_lines::cell).collect::<Vec<_>>());
        };
        let object: serde_json::Map<String, serde_json::Value> =
            columns.iter().cloned().zip(row.iter().cloned()).collect();
        serde_json::to_writer(&mut *writer, &object)
            .map_err(std::io::Error::from)
            .and_then(|()| writer.write_all(b"\n"))
            .map_err(at(&self.part))
    }

    /// Puts everything written so far on disk and returns its length: what an interrupted run may keep.
    ///
    /// A Parquet file cannot be continued, so its length is always 0.
    ///
    /// # Errors
    /// Fails when the disk does.
    pub fn sync(&mut self) -> Result<u64> {
        let file = match &mut self.sink {
            Sink::Csv(writer) => {
                writer.flush().map_err(at(&self.part))?;
                writer.get_ref().get_ref()
            }
            Sink::JsonLines(writer, _) => {
                writer.flush().map_err(at(&self.part))?;
                writer.get_ref()
            }
            Sink::Parquet(_) => return Ok(0),
        };
        file.sync_data().map_err(at(&self.part))?;
        Ok(file.metadata().map_err(at(&self.part))?.len())
    }

    /// Ends the table: everything is put on disk and the file takes its name.
    ///
    /// # Errors
    /// Fails when the disk does; the part file then stays.
    pub fn finish(mut self) -> Result<()> {
        self.sync()?;
        if let Sink::Parquet(sink) = self.sink {
            sink.finish().map_err(|e| parquet_error(&self.part, e))?;
        }
        std::fs::rename(&self.part, &self.path).map_err(at(&self.path))
    }
}

fn csv_error(path: &Path, error: csv::Error) -> Error {
    Error::FileSystem { path: path.to_owned(), cause: std::io::Error::other(error) }
}

fn parquet_error(path: &Path, error: parquet::errors::ParquetError) -> Error {
    Error::FileSystem { path: path.to_owned(), cause: std::io::Error::other(error) }
}

/// Holds one row group, column by column.
struct ParquetSink {
    writer: SerializedFileWriter<File>,
    columns: Vec<Vec<ByteArray>>,
}

impl ParquetSink {
    fn new(file: File, columns: &[String]) -> parquet::errors::Result<Self> {
        let fields = columns
            .iter()
            .map(|name| {
                Type::primitive_type_builder(name, PhysicalType::BYTE_ARRAY)
                    .with_repetition(Repetition::REQUIRED)
                    .with_converted_type(ConvertedType::UTF8)
                    .build()
                    .map(Arc::new)
            })
            .collect::<parquet::errors::Result<_>>()?;
        let schema = Arc::new(Type::group_type_builder("rows").with_fields(fields).build()?);
        let properties = Arc::new(WriterProperties::builder().set_compression(Compression::SNAPPY).build());
        let writer = SerializedFileWriter::new(file, schema, properties)?;
        Ok(Self { writer, columns: vec![Vec::new(); columns.len()] })
    }

    fn write(&mut self, row: &[String]) -> parquet::errors::Result<()> {
        for (column, cell) in self.columns.iter_mut().zip(row) {
            column.push(ByteArray::from(cell.as_str()));
        }
        if self.columns.first().is_some_and(|column| column.len() >= ROW_GROUP) {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> parquet::errors::Result<()> {
        if self.columns.first().is_none_or(Vec::is_empty) {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.columns {
            if let Some(mut writer) = group.next_column()? {
                writer.typed::<ByteArrayType>().write_batch(column, None, None)?;
                writer.close()?;
            }
            column.clear();
        }
        group.close().map(|_| ())
    }

    fn finish(mut self) -> parquet::errors::Result<()> {
        self.flush()?;
        self.writer.close().map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    #[test]
    fn two_writers_never_share_a_part_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        let columns = ["text".to_owned()];
        let begin = |keep_bytes| TableWriter::create(&path, &columns, &TableWriterOptions { keep_bytes });
        let mut first = begin(None).unwrap();
        first.write(&["kept".to_owned()]).unwrap();
        let bytes = first.sync().unwrap();
        assert!(begin(None).is_err(), "the first one still writes");
        assert!(begin(Some(bytes)).is_err(), "the first one still writes");
        drop(first);
        assert!(begin(Some(bytes + 1)).is_err(), "the part file is shorter than what should be kept");
        begin(Some(bytes)).unwrap().finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "text\nkept\n");
    }
}
