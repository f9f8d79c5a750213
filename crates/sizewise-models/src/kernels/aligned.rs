//! How does a buffer begin on a cache line?
//!
//! A vector or a row of a tile that crosses the end of a line costs two reads. The standard library's vectors begin where
//! their numbers may begin, which is not enough; this one is made of whole lines.

#![allow(unsafe_code)]

use crate::memory::InMemory;
use std::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

/// Bytes of a cache line.
const LINE: usize = 64;

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

/// Numbers for which every pattern of bits is a value.
///
/// # Safety
/// The type has no padding, no invalid patterns, and an alignment and size that divide those of a line.
pub(crate) unsafe trait Number: Copy {}
// SAFETY: plain numbers of one, two or four bytes.
unsafe impl Number for i8 {}
// SAFETY: as above.
unsafe impl Number for u8 {}
// SAFETY: as above.
unsafe impl Number for u16 {}
// SAFETY: as above.
unsafe impl Number for i32 {}
// SAFETY: as above.
unsafe impl Number for f32 {}

/// Numbers that begin on a cache line, zero at first.
#[derive(Debug, Clone)]
pub(crate) struct Aligned<T> {
    lines: Vec<Line>,
    length: usize,
    numbers: PhantomData<T>,
}

impl<T: Number> Aligned<T> {
    pub(crate) const fn new() -> Self {
        Self { lines: Vec::new(), length: 0, numbers: PhantomData }
    }

    pub(crate) fn zeros(length: usize) -> Self {
        let mut zeros = Self::new();
        zeros.set_length(length);
        zeros
    }

    /// Makes room for so many numbers. What they are is left open: zeros or what was there before.
    pub(crate) fn set_length(&mut self, length: usize) {
        let lines = (length * size_of::<T>()).div_ceil(LINE);
        if lines > self.lines.len() {
            self.lines.resize(lines, Line([0; LINE]));
        }
        self.length = length;
    }
}

impl<T: Number> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the lines hold at least `length` numbers, as `set_length` saw to, are aligned for them, and every pattern
        // of bits is a number.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }
}

impl<T: Number> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; the lines are borrowed for as long as the numbers.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}

impl<T> InMemory for Aligned<T> {
    fn held_bytes(&self) -> usize {
        self.lines.held_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_begin_on_a_line_whatever_their_count() {
        let mut numbers = Aligned::<i32>::zeros(3);
        assert_eq!(*numbers, [0, 0, 0]);
        for length in [0, 1, 16, 17, 1000] {
            numbers.set_length(length);
            assert_eq!(numbers.len(), length);
            assert_eq!(numbers.as_ptr().addr() % LINE, 0);
            numbers.fill(7);
        }
        assert!(numbers.clone().iter().all(|number| *number == 7));
    }
}
