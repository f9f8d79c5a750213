//! Which texts are nearly the same?
//!
//! By how many runs of five characters they share, estimated by min-hashes (Broder 1997): a text is 128 bytes, whatever its length.

use super::findings::{fnv, normalise};

/// Min-hashes of a text.
pub(super) const HASHES: usize = 32;
/// Estimated Jaccard similarity of character 5-grams from which two texts count as nearly the same.
pub(crate) const NEARLY: f64 = 0.72;

/// The smallest of each of 32 hashes over all character 5-grams.
pub(super) type Sketch = [u32; HASHES];

/// Texts that others are compared with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sketches(Vec<Sketch>);

impl Sketches {
    /// Adds a text.
    pub(crate) fn insert(&mut self, text: &str) {
        self.0.push(sketch(&normalise(text)));
    }

    /// How alike the nearest of them is to a text, from 0 to 1. All are looked at: bands would miss one pair in twelve.
    pub(crate) fn nearest(&self, text: &str) -> f64 {
        let sketch = sketch(&normalise(text));
        self.0.iter().map(|other| similarity(other, &sketch)).fold(0.0, f64::max)
    }
}

/// The sketch of a text that was normalised.
pub(super) fn sketch(normal: &str) -> Sketch {
    let mut smallest = [u32::MAX; HASHES];
    let bytes = normal.as_bytes();
    let grams = bytes.windows(5.min(bytes.len().max(1))).take(4_096);
    for gram in grams {
        let mut hash = fnv(gram, 0);
        for slot in &mut smallest {
            // One step of a linear congruential generator gives the next independent-enough hash.
            hash = hash.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *slot = (*slot).min((hash >> 32) as u32);
        }
    }
    smallest
}

/// The estimated share of 5-grams that two texts have in common.
pub(super) fn similarity(a: &Sketch, b: &Sketch) -> f64 {
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / HASHES as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sketches_tell_near_from_far() {
        let a = sketch("please send me the invoice for march again");
        let b = sketch("please send me the invoice for april again");
        let c = sketch("my parcel has not arrived although it was promised");
        assert!(similarity(&a, &b) > 0.5 && similarity(&a, &c) < 0.2);
    }

    #[test]
    fn the_nearest_of_many_is_found() {
        let mut texts = Sketches::default();
        assert_eq!(texts.nearest("anything"), 0.0);
        texts.insert("My parcel has not arrived, although it was promised.");
        texts.insert("Please send me the invoice for March again!");
        assert!(texts.nearest("please send me the invoice for march again, thanks") > NEARLY);
        assert!(texts.nearest("how do I return the shoes") < 0.3);
    }
}
