//! How does one hash stand for a whole list, so that none of it can change unseen?
//!
//! **Source.** RFC 9162, section 2.1: leaves are hashed after a zero byte and nodes after a one, so neither passes for the other; a
//! list is split at the largest power of two that is smaller than it.

use sizewise_contract::ContentHash;

/// Hash of one entry.
pub(crate) fn leaf(bytes: &[u8]) -> ContentHash {
    let mut hash = ContentHash::builder();
    hash.update(&[0]);
    hash.update(bytes);
    hash.finish()
}

fn node(left: &ContentHash, right: &ContentHash) -> ContentHash {
    let mut hash = ContentHash::builder();
    hash.update(&[1]);
    hash.update(left.as_bytes());
    hash.update(right.as_bytes());
    hash.finish()
}

/// Hash of a list of leaves; of an empty one, the hash of nothing.
pub(crate) fn root(leaves: &[ContentHash]) -> ContentHash {
    match leaves {
        [] => ContentHash::of(b""),
        [only] => *only,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node(&root(left), &root(right))
        }
    }
}

/// The hashes beside the way from a leaf up to the root, the lowest first; none where there is no such leaf.
pub(crate) fn path(leaves: &[ContentHash], index: usize) -> Option<Vec<ContentHash>> {
    if index >= leaves.len() {
        return None;
    }
    let mut path = Vec::new();
    climb(leaves, index, &mut path);
    Some(path)
}

fn climb(leaves: &[ContentHash], index: usize, path: &mut Vec<ContentHash>) {
    if leaves.len() < 2 {
        return;
    }
    let middle = split(leaves.len());
    let (left, right) = leaves.split_at(middle);
    if index < middle {
        climb(left, index, path);
        path.push(root(right));
    } else {
        climb(right, index - middle, path);
        path.push(root(left));
    }
}

/// The root that a leaf and its path lead to, in a list of `size`; none where the path does not have that list's length.
pub(crate) fn climbed(
    leaf: &ContentHash,
    index: usize,
    size: usize,
    path: &[ContentHash],
) -> Option<ContentHash> {
    match (size, path.split_last()) {
        (1, None) if index == 0 => Some(*leaf),
        (2.., Some((beside, below))) if index < size => {
            let middle = split(size);
            Some(if index < middle {
                node(&climbed(leaf, index, middle, below)?, beside)
            } else {
                node(beside, &climbed(leaf, index - middle, size - middle, below)?)
            })
        }
        _ => None,
    }
}

/// The largest power of two below a length of two or more.
fn split(length: usize) -> usize {
    length.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;
    use proptest::prelude::*;

    /// The leaves with which the reference implementation of Certificate Transparency is tested.
    fn leaves() -> Vec<ContentHash> {
        let bytes: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        bytes.map(leaf).into()
    }

    #[test]
    fn roots_are_those_of_the_published_vectors() {
        // Roots of the first n leaves, as that implementation's tests have them; recomputed with a few lines of Python.
        for (count, expected) in [
            (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
            (6, "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"),
            (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
        ] {
            assert_eq!(root(&leaves()[..count]).to_string(), expected, "{count}");
        }
    }

    proptest! {
        #[test]
        fn a_path_leads_to_the_root_from_its_own_leaf_and_place_alone(size in 1usize..70, at in 0usize..70, other in 0usize..70) {
            let at = at % size;
            let leaves: Vec<ContentHash> = (0..size).map(|i| leaf(&i.to_le_bytes())).collect();
            let path = path(&leaves, at).unwrap();
            let found = climbed(&leaves[at], at, size, &path);
            prop_assert_eq!(found, Some(root(&leaves)));
            if other % size != at {
                prop_assert_ne!(climbed(&leaves[other % size], at, size, &path), found);
                prop_assert_ne!(climbed(&leaves[at], other % size, size, &path), found);
            }
        }
    }
}
