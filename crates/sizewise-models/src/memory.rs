//! How much memory do loaded models take?
//!
//! Counted, not estimated: what each table has asked the allocator for. What an answer needs while it is computed comes on top, as
//! does what the allocator keeps for itself.

use std::{collections::HashMap, sync::Arc};

/// Something that is in memory.
pub trait InMemory {
    /// Bytes that it has on the heap.
    fn held_bytes(&self) -> usize;
}

impl<T: Copy> InMemory for Vec<T> {
    fn held_bytes(&self) -> usize {
        self.capacity() * size_of::<T>()
    }
}

impl<T: Copy> InMemory for Arc<[T]> {
    fn held_bytes(&self) -> usize {
        size_of_val::<[T]>(self)
    }
}

impl InMemory for String {
    fn held_bytes(&self) -> usize {
        self.capacity()
    }
}

impl<T: InMemory> InMemory for Option<T> {
    fn held_bytes(&self) -> usize {
        self.as_ref().map_or(0, InMemory::held_bytes)
    }
}

/// The table of a map, without what its keys and values have on the heap: the standard library keeps an eighth of the places free, and
/// one byte more for each.
pub(crate) fn table_of<K, V>(map: &HashMap<K, V>) -> usize {
    let places = (map.capacity() * 8).div_ceil(7).next_power_of_two();
    if map.capacity() == 0 { 0 } else { places * (size_of::<(K, V)>() + 1) }
}

/// The sum over several things, and the room of their list.
pub(crate) fn each<T>(list: &[T], room: usize, of: impl Fn(&T) -> usize) -> usize {
    room * size_of::<T>() + list.iter().map(of).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;

    #[test]
    fn tables_are_counted_by_what_they_asked_for() {
        assert_eq!(Vec::<u32>::with_capacity(10).held_bytes(), 40);
        assert_eq!(Some(Arc::<[u16]>::from([1, 2, 3])).held_bytes(), 6);
        let mut map = HashMap::new();
        assert_eq!(table_of::<u32, u32>(&map), 0);
        map.extend((0..100u32).map(|i| (i, i)));
        assert_eq!(table_of(&map), 128 * 9);
    }

    #[test]
    fn the_built_in_encoder_takes_about_what_its_weights_do() {
        let files = builtin::encoder_files();
        let weights: usize = files.weights.iter().map(|(_, bytes)| bytes.len()).sum();
        let held = builtin::encoder().unwrap().held_bytes();
        assert!(held > weights && held < weights + weights / 4, "{held} {weights}");
        let held = builtin::static_embeddings().unwrap().held_bytes();
        assert!(held > builtin::static_embeddings_size(), "{held}");
    }
}
