//! Which texts are nearly the same?
//!
//! By how many runs of five characters they share, estimated by min-hashes (Broder 1997): a text is 128 bytes, whatever its length.

use super::findings::{fnv, normalise};
use std::collections::{BTreeMap, HashSet};

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

/// Fewest words of a text that another can be said to quote: shorter ones are phrases that everybody uses.
const QUOTED: usize = 6;
/// Of a longer text its first words stand for it: whoever quotes the whole quotes those, and long documents are soon looked through.
const QUOTED_BEGINNING: usize = 48;

/// Texts that others may quote whole, by the number of words that stand for them and the hash of those.
#[derive(Debug, Clone, Default)]
pub(crate) struct Quotes(BTreeMap<usize, HashSet<u64>>);

impl Quotes {
    /// Adds a text.
    pub(crate) fn insert(&mut self, text: &str) {
        let normal = normalise(text);
        let words: Vec<&str> = normal.split_whitespace().take(QUOTED_BEGINNING).collect();
        if words.len() >= QUOTED {
            self.0.entry(words.len()).or_default().insert(fnv(words.join(" ").as_bytes(), 0));
        }
    }

    /// Whether one of them stands in a text word for word, with whatever around it.
    pub(crate) fn any_in(&self, text: &str) -> bool {
        let normal = normalise(text);
        let words: Vec<&str> = normal.split_whitespace().take(4_096).collect();
        let stands = |(count, hashes): (&usize, &HashSet<u64>)| {
            words.windows(*count).any(|run| hashes.contains(&fnv(run.join(" ").as_bytes(), 0)))
        };
        self.0.iter().any(stands)
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
    fn a_text_is_found_in_one_that_quotes_it_whole() {
        let mut quotes = Quotes::default();
        quotes.insert("Where is the parcel of last week?");
        quotes.insert("thank you");
        assert!(quotes.any_in(
            "Hi! My neighbour asked: where is the PARCEL of last week? I said I do not know, thank you."
        ));
        assert!(!quotes.any_in("where is the parcel of last month, thank you"));
        assert!(!quotes.any_in(""));
        let document: String = (0..3_000).map(|number| format!("word{number} ")).collect();
        quotes.insert(&document);
        assert!(quotes.any_in(&format!("As I wrote before: {document} Please answer.")));
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
