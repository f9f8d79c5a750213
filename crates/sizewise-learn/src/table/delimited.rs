//! How is a CSV file read?
//!
//! RFC 4180 through the `csv` crate; the separator is told by the header line. The rows must be as wide as the header.

use super::{
    Problem, Rows,
    bounded::{Bounded, RowMeter},
};
use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
};

const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// How much of the file is looked at to tell what it is.
const SNIFFED_BYTES: u64 = 64 << 10;

pub(super) fn open(mut file: File) -> Result<(Vec<String>, Box<dyn Rows>), Problem> {
    let mut start = Vec::new();
    (&mut file).take(SNIFFED_BYTES).read_to_end(&mut start).map_err(io)?;
    refuse_other_formats(&start)?;
    let byte_order_mark = if start.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    file.seek(SeekFrom::Start(byte_order_mark)).map_err(io)?;
    let (bounded, meter) = Bounded::new(BufReader::new(file));
    let reader = csv::ReaderBuilder::new()
        .delimiter(separator(start.get(byte_order_mark as usize..).unwrap_or_default()))
        .flexible(true)
        .has_headers(false)
        .from_reader(bounded);
    let mut rows = DelimitedRows { reader, meter, record: csv::ByteRecord::new(), width: None };
    let mut columns = Vec::new();
    rows.next(&mut columns)?;
    columns.iter_mut().for_each(|column| *column = column.trim().to_owned());
    Ok((columns, Box::new(rows)))
}

fn io(error: std::io::Error) -> Problem {
    Problem::new(error.to_string())
}

/// Recognises what people send instead of a CSV file.
fn refuse_other_formats(start: &[u8]) -> Result<(), Problem> {
    let looks_like = [
        (&b"PK\x03\x04"[..], "a zip archive or spreadsheet", "export it as CSV (UTF-8)"),
        (b"\xd0\xcf\x11\xe0", "an old spreadsheet or document", "export it as CSV (UTF-8)"),
        (b"\x1f\x8b", "compressed with gzip", "unpack it first"),
        (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it first"),
        (b"PAR1", "a Parquet file", "name it .parquet"),
        (b"%PDF", "a PDF document", "export the table as CSV (UTF-8)"),
        (b"\xff\xfe", "encoded in UTF-16", "convert it: iconv -f UTF-16 -t UTF-8"),
        (b"\xfe\xff", "encoded in UTF-16", "convert it: iconv -f UTF-16 -t UTF-8"),
    ];
    match looks_like.iter().find(|(magic, ..)| start.starts_with(magic)) {
        Some((_, what, way_out)) => {
            Err(Problem::with_hint(format!("it is {what}, not a CSV file"), *way_out))
        }
        None => Ok(()),
    }
}

/// The separator that stands most often in the header line outside quotation marks; a comma where none does, as then there is
/// one column.
fn separator(start: &[u8]) -> u8 {
    let mut counts = [0usize; SEPARATORS.len()];
    let mut quoted = false;
    let begin = start.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(0);
    for &byte in start.get(begin..).unwrap_or_default() {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' if !quoted => break,
            _ if !quoted => {
                if let Some(count) =
                    SEPARATORS.iter().position(|&s| s == byte).and_then(|i| counts.get_mut(i))
                {
                    *count += 1;
                }
            }
            _ => {}
        }
    }
    // Ties go to the earlier separator of the list.
    let best = counts.iter().zip(SEPARATORS).rev().max_by_key(|(count, _)| **count);
    best.map_or(b',', |(_, separator)| separator)
}

struct DelimitedRows {
    reader: csv::Reader<Bounded<BufReader<File>>>,
    meter: RowMeter,
    record: csv::ByteRecord,
    width: Option<usize>,
}

impl Rows for DelimitedRows {
    fn next(&mut self, row: &mut Vec<String>) -> Result<bool, Problem> {
        let more = self.reader.read_byte_record(&mut self.record).map_err(unclosed)?;
        self.meter.row_done();
        if !more {
            row.clear();
            return Ok(false);
        }
        let line = self.record.position().map_or(0, csv::Position::line);
        let width = *self.width.get_or_insert(self.record.len());
        if self.record.len() != width {
            let cells = if self.record.len() == 1 { "cell" } else { "cells" };
            return Err(Problem::with_hint(
                format!("line {line} has {} {cells}, the header has {width}", self.record.len()),
                "put quotation marks around cells that hold a separator or a line break",
            ));
        }
        row.resize(width, String::new());
        for (cell, bytes) in row.iter_mut().zip(&self.record) {
            let text = std::str::from_utf8(bytes).map_err(|_| {
                Problem::with_hint(
                    format!("line {line} is not UTF-8"),
                    "convert the file, for example: iconv -f WINDOWS-1252 -t UTF-8",
                )
            })?;
            if text.contains('\0') {
                return Err(Problem::with_hint(
                    format!("line {line} holds a zero byte"),
                    "this looks like a binary file",
                ));
            }
            cell.clear();
            cell.push_str(text);
        }
        Ok(true)
    }
}

fn unclosed(error: csv::Error) -> Problem {
    Problem::with_hint(error.to_string(), "look for a quotation mark that is never closed")
}
