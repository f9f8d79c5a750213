//! Which known pieces does a text begin with?
//!
//! A trie over bytes in one row of memory: the children of a node are neighbours, so a node is a number and a label. It
//! serves the pieces of a Unigram vocabulary and the added tokens.

use crate::{
    error::{Error, Result},
    memory::InMemory,
};

/// Longest piece, in bytes; one lookup takes no longer. Known vocabularies stay below 100.
pub(super) const PIECE_BYTES: usize = 256;
/// Most bytes of all pieces together: three times those of the largest known vocabulary, 150 MB of memory at most.
const ALL_BYTES: usize = 1 << 23;

/// Pieces with a number each.
#[derive(Debug)]
pub(super) struct Trie {
    /// The first child of every node, and one past the last node. `[nodes + 1]`
    first: Vec<u32>,
    /// The byte that leads to a node. `[nodes]`
    labels: Vec<u8>,
    /// The number of the piece that ends at a node, plus one; 0 where none does. `[nodes]`
    numbers: Vec<u32>,
}

impl Trie {
    /// Builds a trie. Empty pieces are left out; of equal ones the last counts. `key` names their place in `file`.
    ///
    /// # Errors
    /// Fails when a piece is too long or there are too many.
    pub(super) fn new<'a>(
        (file, key): (&str, &str),
        pieces: impl Iterator<Item = (&'a str, u32)>,
    ) -> Result<Self> {
        let damaged = |problem: String| Error::File { file: file.to_owned(), problem };
        let mut sorted: Vec<(&[u8], u32)> = pieces
            .filter(|(piece, _)| !piece.is_empty())
            .map(|(piece, number)| (piece.as_bytes(), number))
            .collect();
        if let Some((long, _)) = sorted.iter().find(|(piece, _)| piece.len() > PIECE_BYTES) {
            let bytes = long.len();
            return Err(damaged(format!(
                "{key} has a piece of {bytes} bytes; at most {PIECE_BYTES} are read"
            )));
        }
        let bytes: usize = sorted.iter().map(|(piece, _)| piece.len()).sum();
        if bytes > ALL_BYTES {
            return Err(damaged(format!(
                "the pieces of {key} have {bytes} bytes together; at most {ALL_BYTES} are read"
            )));
        }
        sorted.sort_by_key(|(piece, _)| *piece);
        Ok(Self::grow(&sorted))
    }

    /// Level by level: a node is a range of the sorted pieces that agree up to its depth.
    fn grow(sorted: &[(&[u8], u32)]) -> Self {
        let mut trie = Self { first: Vec::new(), labels: vec![0], numbers: Vec::new() };
        let mut level = vec![sorted];
        let mut depth = 0;
        while !level.is_empty() {
            let mut below = Vec::new();
            let known = trie.labels.len();
            for pieces in level {
                let ended = pieces.iter().take_while(|(piece, _)| piece.len() == depth).count();
                let (ended, longer) = pieces.split_at(ended);
                trie.numbers.push(ended.last().map_or(0, |(_, number)| number.saturating_add(1)));
                trie.first.push((known + below.len()) as u32);
                for same in longer.chunk_by(|(a, _), (b, _)| a.get(depth) == b.get(depth)) {
                    trie.labels.extend(same.first().and_then(|(piece, _)| piece.get(depth)));
                    below.push(same);
                }
            }
            level = below;
            depth += 1;
        }
        trie.first.push(trie.labels.len() as u32);
        trie
    }

    /// Length and number of every piece that `text` begins with, shortest first.
    pub(super) fn prefixes<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = (usize, u32)> + 'a {
        let mut node = 0;
        text.iter()
            .zip(1..)
            .map_while(move |(byte, length)| {
                node = self.child(node, *byte)?;
                Some((length, self.numbers.get(node).copied().unwrap_or(0)))
            })
            .filter(|(_, number)| *number > 0)
            .map(|(length, number)| (length, number - 1))
    }

    fn child(&self, node: usize, byte: u8) -> Option<usize> {
        let (begin, end) = (*self.first.get(node)? as usize, *self.first.get(node + 1)? as usize);
        let at = self.labels.get(begin..end)?.binary_search(&byte).ok()?;
        Some(begin + at)
    }
}

impl InMemory for Trie {
    fn held_bytes(&self) -> usize {
        self.first.held_bytes() + self.labels.held_bytes() + self.numbers.held_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trie(pieces: &[&str]) -> Trie {
        Trie::new(("t", "k"), pieces.iter().copied().zip(0..)).unwrap()
    }

    #[test]
    fn every_prefix_is_found_shortest_first() {
        let trie = trie(&["abc", "a", "", "b", "ab", "é", "a"]);
        assert_eq!(trie.prefixes(b"abcd").collect::<Vec<_>>(), [(1, 6), (2, 4), (3, 0)]);
        assert_eq!(trie.prefixes("éa".as_bytes()).collect::<Vec<_>>(), [(2, 5)]);
        assert_eq!(trie.prefixes(b"zab").count() + trie.prefixes(b"").count(), 0);
        assert_eq!(self::trie(&[]).prefixes(b"a").count(), 0);
    }

    #[test]
    fn pieces_without_bound_are_refused() {
        let error = Trie::new(("t", "k"), [("x".repeat(300).as_str(), 0)].into_iter()).unwrap_err();
        assert!(error.to_string().contains("300 bytes"), "{error}");
    }

    proptest! {
        #[test]
        fn a_trie_finds_what_a_search_finds(pieces in prop::collection::vec("[abé]{0,4}", 0..20), text in "[abé]{0,8}") {
            let trie = Trie::new(("t", "k"), pieces.iter().map(String::as_str).zip(0..)).unwrap();
            let expected: Vec<(usize, u32)> = (1..=text.len())
                .filter_map(|length| {
                    let begin = text.get(..length)?;
                    pieces.iter().rposition(|piece| piece == begin).map(|at| (length, at as u32))
                })
                .collect();
            prop_assert_eq!(trie.prefixes(text.as_bytes()).collect::<Vec<_>>(), expected);
        }
    }
}
