//! How much may be read before a row ends?

use std::{
    io::{BufRead, Error, Read, Result},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Most bytes between the beginning of a row and its end.
pub(super) const ROW_BYTES: u64 = 64 << 20;

/// Counts the bytes since the last completed row.
#[derive(Debug, Clone, Default)]
pub(super) struct RowMeter(Arc<AtomicU64>);

impl RowMeter {
    /// A row is complete: the count begins anew.
    pub(super) fn row_done(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Stops reading when one row grows past [`ROW_BYTES`]: a quotation mark that is never closed must not eat the memory.
pub(super) struct Bounded<R> {
    inner: R,
    meter: RowMeter,
}

impl<R> Bounded<R> {
    pub(super) fn new(inner: R) -> (Self, RowMeter) {
        let meter = RowMeter::default();
        (Self { inner, meter: meter.clone() }, meter)
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = self.inner.read(buffer)?;
        if self.meter.0.fetch_add(read as u64, Ordering::Relaxed) > ROW_BYTES {
            return Err(Error::other(format!("one row has more than {} MiB", ROW_BYTES >> 20)));
        }
        Ok(read)
    }
}

/// Reads one line without its end; false at the end of the file. A longer line than [`ROW_BYTES`] is an error.
pub(super) fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool> {
    line.clear();
    let read = reader.by_ref().take(ROW_BYTES).read_until(b'\n', line)?;
    if read as u64 == ROW_BYTES && line.last() != Some(&b'\n') {
        return Err(Error::other(format!("one line has more than {} MiB", ROW_BYTES >> 20)));
    }
    while matches!(line.last(), Some(b'\n' | b'\r')) {
        line.pop();
    }
    Ok(read > 0)
}
