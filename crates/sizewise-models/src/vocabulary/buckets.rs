//! Which row has an n-gram's hash?
//!
//! Buckets of eight, each one cache line: a look-up reads one line and compares eight tags at once, without a branch that the
//! processor would have to guess, as every third n-gram of a text is unknown. What does not fit into its bucket stands in the next.

use crate::memory::InMemory;

/// Rows in a bucket.
const WIDTH: usize = 8;
/// Rows per bucket on the average: of those so full that a look-up goes on to the next there are few.
const FILLED: usize = 4;
/// The same of a small table. It stays in the processor's near memory, where going on costs little, and a server has many of them.
const FILLED_WHEN_SMALL: usize = 6;
/// Rows up to which a table is small.
const SMALL: usize = 16_384;
/// Marks a row whose tag belongs to several hashes; the rest of the bits are no row then.
const TWINS: u32 = 1 << 31;

/// Rows by their hashes.
#[derive(Debug, Clone)]
pub(super) struct Buckets {
    buckets: Vec<Bucket>,
    /// Hashes that share a tag with another, and their rows, sorted.
    twins: Vec<(u64, u32)>,
    /// The lower half of every row's hash; the tag is the upper one. `[rows]`
    lower: Vec<u32>,
}

#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Bucket {
    /// The upper halves of the hashes.
    tags: [u32; WIDTH],
    /// Rows plus one; 0 where free, from the front on.
    rows: [u32; WIDTH],
}

impl Bucket {
    /// What stands beside a tag; 0 when it is not here. No tag is here twice.
    #[inline(always)]
    fn find(&self, tag: u32) -> u32 {
        let pairs = self.tags.iter().zip(&self.rows);
        pairs.fold(0, |found, (other, row)| found | if *other == tag { *row } else { 0 })
    }

    #[inline(always)]
    fn is_full(&self) -> bool {
        self.rows.last().is_some_and(|row| *row != 0)
    }
}

impl Buckets {
    /// Arranges the rows of hashes; of a hash that is there twice the first.
    pub(super) fn new(hashes: &[u64]) -> Self {
        let filled = if hashes.len() > SMALL { FILLED } else { FILLED_WHEN_SMALL };
        let mut table = Self {
            buckets: vec![Bucket::default(); hashes.len() / filled + 1],
            twins: Vec::new(),
            lower: hashes.iter().map(|hash| *hash as u32).collect(),
        };
        for (row, hash) in hashes.iter().enumerate().take(TWINS as usize - 1) {
            table.insert(*hash, row as u32, hashes);
        }
        table.twins.sort_unstable();
        table.twins.shrink_to_fit();
        table
    }

    /// The hash of every row, put together again. `[rows]`
    pub(super) fn hashes(&self) -> Vec<u64> {
        let mut hashes: Vec<u64> = self.lower.iter().map(|lower| u64::from(*lower)).collect();
        for bucket in &self.buckets {
            for (tag, row) in bucket.tags.iter().zip(&bucket.rows).filter(|(_, row)| **row & TWINS == 0) {
                if let Some(hash) = row.checked_sub(1).and_then(|row| hashes.get_mut(row as usize)) {
                    *hash |= u64::from(*tag) << 32;
                }
            }
        }
        for (twin, row) in &self.twins {
            if let Some(hash) = hashes.get_mut(*row as usize) {
                *hash = *twin;
            }
        }
        hashes
    }

    fn insert(&mut self, hash: u64, row: u32, hashes: &[u64]) {
        let tag = tag_of(hash);
        let mut at = self.home(hash);
        while let Some(bucket) = self.buckets.get_mut(at) {
            let slots = bucket.tags.iter_mut().zip(&mut bucket.rows);
            for (other, found) in slots {
                if *found == 0 {
                    (*other, *found) = (tag, row + 1);
                    return;
                }
                if *other == tag {
                    if *found & TWINS == 0 {
                        let first = *found - 1;
                        self.twins.extend(hashes.get(first as usize).map(|hash| (*hash, first)));
                        *found = TWINS;
                    }
                    self.twins.push((hash, row));
                    return;
                }
            }
            at = if at + 1 < self.buckets.len() { at + 1 } else { 0 };
        }
    }

    /// Replaces the beginning of `rows`, which are no fewer, by those of the hashes that are here, and returns how many they are.
    #[inline(always)]
    pub(super) fn find_all(&self, hashes: &[u64], rows: &mut [u32]) -> usize {
        let mut known = 0;
        for hash in hashes {
            let found = self.find(*hash);
            if let Some(slot) = rows.get_mut(known) {
                *slot = found.wrapping_sub(1);
            }
            known += usize::from(found != 0);
        }
        known
    }

    /// The row of a hash plus one; 0 when it is not here.
    #[inline(always)]
    fn find(&self, hash: u64) -> u32 {
        let (tag, mut at) = (tag_of(hash), self.home(hash));
        // There is more room than is taken, so the search ends.
        while let Some(bucket) = self.buckets.get(at) {
            let found = bucket.find(tag);
            if found == 0 && bucket.is_full() {
                at = if at + 1 < self.buckets.len() { at + 1 } else { 0 };
                continue;
            }
            return if found == TWINS { self.find_twin(hash) } else { found };
        }
        0
    }

    #[cold]
    fn find_twin(&self, hash: u64) -> u32 {
        let first = self.twins.partition_point(|(other, _)| *other < hash);
        self.twins.get(first).filter(|(other, _)| *other == hash).map_or(0, |(_, row)| row + 1)
    }

    /// The bucket in which a search begins, by the lower half of the hash.
    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        ((u64::from(hash as u32) * self.buckets.len() as u64) >> 32) as usize
    }
}

#[inline(always)]
fn tag_of(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl InMemory for Buckets {
    fn held_bytes(&self) -> usize {
        self.buckets.held_bytes() + self.twins.held_bytes() + self.lower.held_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn check(hashes: &[u64], others: &[u64]) {
        let table = Buckets::new(hashes);
        assert_eq!(table.hashes(), hashes);
        let mut first = HashMap::new();
        hashes.iter().enumerate().for_each(|(row, hash)| _ = first.entry(*hash).or_insert(row as u32 + 1));
        let mut rows = vec![0; hashes.len()];
        assert_eq!(table.find_all(hashes, &mut rows), hashes.len());
        for (hash, row) in hashes.iter().zip(rows) {
            assert_eq!(first.get(hash), Some(&(row + 1)), "{hash:x}");
        }
        for hash in others.iter().filter(|hash| !first.contains_key(hash)) {
            assert_eq!(table.find(*hash), 0, "{hash:x}");
        }
    }

    #[test]
    fn every_hash_is_found_again() {
        let number = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hashes: Vec<u64> = (0..50_000).map(number).collect();
        let others: Vec<u64> = (50_000..100_000).map(number).collect();
        for rows in [1, 6, 7, 8, SMALL, SMALL + 1, 50_000] {
            check(&hashes[..rows], &others);
        }
        check(&[], &[0, 1, u64::MAX]);
    }

    #[test]
    fn hashes_of_one_bucket_and_of_one_tag_are_kept_apart() {
        // All of one bucket, all of one tag, and both with several of each.
        check(&(0..100).map(|i| i << 32).collect::<Vec<_>>(), &[100 << 32]);
        check(&(0..100).map(|i| (7 << 32) + i).collect::<Vec<_>>(), &[1, (7 << 32) + 100]);
        check(&(0..100).map(|i| ((i % 7) << 32) + i / 7).collect::<Vec<_>>(), &[1 << 20]);
    }

    proptest! {
        #[test]
        fn any_hashes_are_found_and_no_others_of_their_tags(
            parts in proptest::collection::vec((0u64..9, 0u64..40), 0..200),
            spread in 0u32..32,
        ) {
            let hashes: Vec<u64> = parts.iter().map(|(tag, low)| tag << 32 | low << spread & 0xffff_ffff).collect();
            let table = Buckets::new(&hashes);
            prop_assert_eq!(&table.hashes(), &hashes);
            for (row, hash) in hashes.iter().enumerate() {
                let first = hashes.iter().position(|other| other == hash).unwrap_or(row) as u32;
                prop_assert_eq!(table.find(*hash), first + 1);
            }
        }
    }
}
