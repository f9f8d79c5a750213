//! Which known piece is the longest that a word begins with?
//!
//! Most pieces have at most eight bytes. Those are compared as one number and stand in their slots themselves, so a look-up reads one
//! cache line; longer ones are found by a hash and compared byte by byte.

use crate::{
    memory::InMemory,
    ngrams::{fewer_than_eight, hash},
};

/// Bytes of a piece that stands in its slot.
const SHORT: usize = 8;

/// Known pieces by open addressing; at most half of the slots are taken.
#[derive(Debug)]
pub(super) struct Pieces {
    /// Pieces of at most eight bytes.
    short: Vec<ShortSlot>,
    /// Longer ones.
    long: Vec<LongSlot>,
    /// The bytes of the longer ones.
    bytes: Vec<u8>,
    longest: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct ShortSlot {
    /// The bytes, filled up with zeros, which are in no piece.
    key: u64,
    /// 0 where free.
    id_plus_one: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct LongSlot {
    tag: u32,
    /// Where the piece begins in `bytes`.
    begin: u32,
    length: u32,
    /// 0 where free.
    id_plus_one: u32,
}

impl Pieces {
    /// Arranges pieces with their ids. One with a zero byte is left out: no cleaned text has such a byte.
    pub(super) fn new<'a>(pieces: impl Iterator<Item = (&'a [u8], u32)>) -> Self {
        let (short, long): (Vec<_>, Vec<_>) = pieces
            .filter(|(piece, _)| !piece.is_empty() && !piece.contains(&0))
            .partition(|(piece, _)| piece.len() <= SHORT);
        let room = |pieces: usize| (pieces * 2).next_power_of_two().max(2);
        let mut table = Self {
            short: vec![ShortSlot::default(); room(short.len())],
            long: vec![LongSlot::default(); room(long.len())],
            bytes: Vec::new(),
            longest: short.iter().chain(&long).map(|(piece, _)| piece.len()).max().unwrap_or(0),
        };
        for (piece, id) in short {
            let key = key(piece);
            let (mut at, mask) = (home(key, table.short.len()), table.short.len() - 1);
            while table.short.get(at).is_some_and(|slot| slot.id_plus_one != 0) {
                at = (at + 1) & mask;
            }
            if let Some(slot) = table.short.get_mut(at) {
                *slot = ShortSlot { key, id_plus_one: id + 1 };
            }
        }
        for (piece, id) in long {
            let hashed = hash(piece);
            let mask = table.long.len() - 1;
            let mut at = hashed as usize & mask;
            while table.long.get(at).is_some_and(|slot| slot.id_plus_one != 0) {
                at = (at + 1) & mask;
            }
            if let Some(slot) = table.long.get_mut(at) {
                *slot = LongSlot {
                    tag: (hashed >> 32) as u32,
                    begin: table.bytes.len() as u32,
                    length: piece.len() as u32,
                    id_plus_one: id + 1,
                };
            }
            table.bytes.extend_from_slice(piece);
        }
        table
    }

    /// The longest known piece that `text` begins with, and its length.
    #[inline]
    pub(super) fn longest(&self, text: &[u8]) -> Option<(u32, usize)> {
        let mut length = text.len().min(self.longest);
        while length > SHORT {
            // A cut within a character matches no piece, so only whole characters need be tried.
            if text.get(length).is_none_or(|next| next & 0xC0 != 0x80)
                && let Some(id) = self.find_long(text.get(..length).unwrap_or_default())
            {
                return Some((id, length));
            }
            length -= 1;
        }
        let mut key = key(text.get(..length).unwrap_or_default());
        while length > 0 {
            if let Some(id) = self.find_short(key) {
                return Some((id, length));
            }
            length -= 1;
            key &= (1 << (8 * length)) - 1;
        }
        None
    }

    #[inline]
    fn find_short(&self, key: u64) -> Option<u32> {
        let (mut at, mask) = (home(key, self.short.len()), self.short.len() - 1);
        loop {
            let slot = self.short.get(at)?;
            if slot.id_plus_one == 0 {
                return None;
            }
            if slot.key == key {
                return Some(slot.id_plus_one - 1);
            }
            at = (at + 1) & mask;
        }
    }

    fn find_long(&self, piece: &[u8]) -> Option<u32> {
        let hashed = hash(piece);
        let mask = self.long.len() - 1;
        let mut at = hashed as usize & mask;
        loop {
            let slot = self.long.get(at)?;
            if slot.id_plus_one == 0 {
                return None;
            }
            let stored = || self.bytes.get(slot.begin as usize..(slot.begin + slot.length) as usize);
            if slot.tag == (hashed >> 32) as u32 && stored() == Some(piece) {
                return Some(slot.id_plus_one - 1);
            }
            at = (at + 1) & mask;
        }
    }
}

/// At most eight bytes as one number.
#[inline]
fn key(piece: &[u8]) -> u64 {
    piece.first_chunk().map_or_else(|| fewer_than_eight(piece), |eight| u64::from_le_bytes(*eight))
}

/// Where the search for a short piece begins.
#[inline]
fn home(key: u64, slots: usize) -> usize {
    // Multiplied both ways, so that every byte of the key moves every bit of the place.
    let mixed = (key ^ key >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as usize & (slots - 1)
}

impl InMemory for Pieces {
    fn held_bytes(&self) -> usize {
        self.short.held_bytes() + self.long.held_bytes() + self.bytes.held_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_longest_piece_is_the_one_that_plain_comparison_finds(
            pieces in proptest::collection::btree_set("[abé]{1,12}", 0..60),
            text in "[abé]{1,20}",
        ) {
            let table = Pieces::new(pieces.iter().enumerate().map(|(id, piece)| (piece.as_bytes(), id as u32)));
            let plain = pieces.iter().enumerate().filter(|(_, piece)| text.starts_with(piece.as_str()));
            let plain = plain.map(|(id, piece)| (id as u32, piece.len())).max_by_key(|(_, length)| *length);
            prop_assert_eq!(table.longest(text.as_bytes()), plain);
        }
    }
}
