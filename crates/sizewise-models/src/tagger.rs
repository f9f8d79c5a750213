//! Which words of a text name people, places, organisations and the like?
//!
//! ```text
//!   text ─► words ─► features (lists, groups, shapes; hashed) ─► rows of weights ─► decode ─► entities
//! ```
//!
//! A linear model over hashed features with one score for every pair of neighbouring tags (a structured perceptron, Collins 2002). It
//! learns in `sizewise-learn` from texts made up for this project; here it runs, in some ten microseconds for a short text. Rules with
//! checksums know numbers better: what they found is handed in as known.

mod close;
mod decode;
mod features;
mod lists;
mod tidy;
mod words;

pub use close::{CloseReader, UNIT, WIDTH, word_vectors};
pub use decode::{Links, best_path};
pub use features::{Knowledge, ROWS, Reading, word_hash};
pub use lists::{LISTS, entries};

use crate::{
    error::{Error, Result},
    tensors::{self, Output, Tensors},
};
use std::{collections::HashMap, ops::Range, sync::LazyLock};

const FORMAT: &str = "sizewise.tagger.v1";
const FILE: &str = "tagger.safetensors";
/// Words that are tagged together: bounds what a long text costs.
const BLOCK: usize = 2_048;
/// Words around a block that are read with it.
const AROUND: usize = 32;

static BUILT_IN: LazyLock<Option<Tagger>> =
    LazyLock::new(|| Tagger::from_bytes(include_bytes!("../weights/tagger/tagger.safetensors")).ok());

/// Spans that somebody has found, with the name of what they are.
type Known<'a> = &'a [(Range<usize>, &'a str)];

/// Puts down what speaks for every tag of every word; none where nothing can be said.
type Score<'a> = &'a dyn Fn(&Reading, &mut Vec<[f32; TAGS]>) -> Option<()>;

/// What a word can be part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entity {
    /// A name of a person, without title.
    Person,
    /// A country, a region, a city, an island.
    Location,
    /// Street, house, box, and the code that stands with them.
    Address,
    /// A company, an authority, a school, a club.
    Organization,
    /// Nationality, religion or political group.
    Nationality,
    /// A date, a year or a time that is somebody's.
    DateTime,
    /// How old somebody is.
    Age,
    /// A form of address or a profession.
    Title,
    /// A postal code outside of an address.
    ZipCode,
    /// A number to be called.
    Phone,
    /// A driver's licence.
    DriverLicense,
}

impl Entity {
    /// All of them, in the order of their tags.
    pub const ALL: [Self; 11] = [
        Self::Person,
        Self::Location,
        Self::Address,
        Self::Organization,
        Self::Nationality,
        Self::DateTime,
        Self::Age,
        Self::Title,
        Self::ZipCode,
        Self::Phone,
        Self::DriverLicense,
    ];

    /// The tag of a word that begins one, and of one that goes on.
    #[must_use]
    pub fn tags(self) -> (u8, u8) {
        let place = Self::ALL.iter().position(|entity| *entity == self).unwrap_or(0) as u8;
        (1 + 2 * place, 2 + 2 * place)
    }
}

/// Tags: outside, then the beginning and the inside of every entity.
pub const TAGS: usize = 1 + 2 * Entity::ALL.len();

/// A tagger as it runs.
#[derive(Debug)]
pub struct Tagger {
    knowledge: Knowledge,
    /// `[ROWS, TAGS]`
    weights: Vec<i8>,
    links: Links,
}

impl Tagger {
    /// The one that comes with the program; none where the program was built from damaged files.
    #[must_use]
    pub fn built_in() -> Option<&'static Self> {
        BUILT_IN.as_ref()
    }

    /// Reads a tagger from its file.
    ///
    /// # Errors
    /// Fails when the bytes are damaged or of another format.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let file = Tensors::parse(FILE, bytes)?;
        file.expect_format(FORMAT)?;
        let count = file.shape("group_words")?.first().copied().unwrap_or(0);
        let words = file.integers("group_words", &[count])?;
        let groups = file.integers("groups", &[count])?;
        let groups: HashMap<u32, u16> =
            words.into_iter().zip(groups.into_iter().map(|group| group as u16)).collect();
        let weights = file.bytes("weights", &[ROWS, TAGS])?;
        let links = Links::new(file.floats("links", &[TAGS + 1, TAGS])?)
            .ok_or(Error::Internal("links have a fixed shape"))?;
        Ok(Self { knowledge: Knowledge::new(groups), weights, links })
    }

    /// Writes a tagger. `groups` are words by hash in order of the hash; `weights` is `[ROWS, TAGS]`; `links` is `[TAGS + 1, TAGS]`.
    ///
    /// # Errors
    /// Fails when shapes do not fit.
    pub fn to_bytes(groups: &[(u32, u16)], weights: &[i8], links: &[f32]) -> Result<Vec<u8>> {
        let (words, groups): (Vec<u32>, Vec<u32>) =
            groups.iter().map(|(word, group)| (*word, u32::from(*group))).unzip();
        tensors::write(
            FORMAT,
            &[
                Output::integers("group_words", &[words.len()], &words),
                Output::integers("groups", &[groups.len()], &groups),
                Output::bytes("weights", &[ROWS, TAGS], weights),
                Output::floats("links", &[TAGS + 1, TAGS], links),
            ],
        )
    }

    /// Tags a text. `known` are spans that somebody has found already, in order and none overlapping another, with what they are; they
    /// are read as one word each.
    ///
    /// **Units**: ranges are bytes of the text, on boundaries of characters, in order; none overlaps another or a known span.
    /// **Bounds**: time is linear in the text; memory too.
    #[must_use]
    pub fn tag(&self, text: &str, known: Known<'_>) -> Vec<(Range<usize>, Entity)> {
        let score = |reading: &Reading, scores: &mut Vec<[f32; TAGS]>| {
            self.score(reading, scores);
            Some(())
        };
        self.tag_by(text, known, (&self.links, &score)).unwrap_or_default()
    }

    /// The same, more slowly and more surely: the encoder reads the text as well. None where it cannot.
    #[must_use]
    pub fn tag_closely(
        &self,
        text: &str,
        known: Known<'_>,
        reader: &CloseReader,
    ) -> Option<Vec<(Range<usize>, Entity)>> {
        let score =
            |reading: &Reading, scores: &mut Vec<[f32; TAGS]>| reader.score(text, reading, known, scores);
        self.tag_by(text, known, (&reader.links, &score))
    }

    fn tag_by(
        &self,
        text: &str,
        known: Known<'_>,
        (links, score): (&Links, Score<'_>),
    ) -> Option<Vec<(Range<usize>, Entity)>> {
        let spans: Vec<Range<usize>> = known.iter().map(|(span, _)| span.clone()).collect();
        let words = words::words(text, &spans);
        let case = features::case_of(text);
        let mut found: Vec<(Range<usize>, Entity)> = Vec::new();
        let (mut scores, mut open) = (Vec::new(), None);
        for start in (0..words.len()).step_by(BLOCK) {
            let end = words.len().min(start + BLOCK);
            let (from, to) = (start.saturating_sub(AROUND), words.len().min(end + AROUND));
            let block = words.get(from..to).unwrap_or_default();
            let reading = self.knowledge.described(text, block, (known, &[]), case);
            score(&reading, &mut scores)?;
            let tags = best_path(&scores, links);
            for (word, tag) in block.iter().zip(tags).take(end - from).skip(start - from) {
                let entity = Entity::ALL.get(usize::from(tag).div_ceil(2) - usize::from(tag > 0)).copied();
                let entity = entity.filter(|_| tag > 0 && word.known.is_none());
                match (entity, found.last_mut()) {
                    // Goes on with what was begun before.
                    (Some(entity), Some(last)) if tag.is_multiple_of(2) && open == Some(entity) => {
                        last.0.end = word.range.end;
                    }
                    (Some(entity), _) => found.push((word.range.clone(), entity)),
                    (None, _) => (),
                }
                open = entity;
            }
        }
        tidy::organizations(text, case, &mut found);
        tidy::again(text, &words, &mut found);
        Some(found)
    }

    /// What every word's rows say, `[words, TAGS]`.
    fn score(&self, reading: &Reading, scores: &mut Vec<[f32; TAGS]>) {
        scores.clear();
        for word in 0..reading.words.len() {
            let mut sums = [0i32; TAGS];
            for row in reading.rows(word) {
                let start = *row as usize * TAGS;
                let row = self.weights.get(start..start + TAGS).unwrap_or_default();
                sums.iter_mut().zip(row).for_each(|(sum, weight)| *sum += i32::from(*weight));
            }
            scores.push(sums.map(|sum| sum as f32));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged_closely(text: &str) -> Vec<(&str, Entity)> {
        let reader = CloseReader::built_in().unwrap();
        let found = Tagger::built_in().unwrap().tag_closely(text, &[], reader).unwrap();
        found.into_iter().map(|(span, entity)| (&text[span], entity)).collect()
    }

    fn tagged(text: &str) -> Vec<(&str, Entity)> {
        let found = Tagger::built_in().unwrap().tag(text, &[]);
        found.into_iter().map(|(span, entity)| (&text[span], entity)).collect()
    }

    #[test]
    fn the_files_are_those_that_their_note_speaks_of() {
        let files: [&[u8]; 2] = [
            include_bytes!("../weights/tagger/tagger.safetensors"),
            include_bytes!("../weights/tagger/close.safetensors"),
        ];
        for bytes in files {
            let hash = sizewise_contract::ContentHash::of(bytes).to_string();
            assert!(include_str!("../weights/tagger/NOTICE").contains(&hash), "{hash}");
        }
    }

    #[test]
    fn names_and_places_are_told_from_other_words() {
        let found = tagged("My name is Karla Ostrowski and I live in Lisbon.");
        assert_eq!(found, [("Karla Ostrowski", Entity::Person), ("Lisbon", Entity::Location)]);
        assert_eq!(tagged("How do I reset my password?"), []);
    }

    #[test]
    fn a_name_is_found_again_wherever_it_stands() {
        let text = "Dear Mrs. Ostrowski,\n\nthank you for your letter.\n\nOstrowski is how we spell it.";
        let people = tagged(text).into_iter().filter(|found| *found == ("Ostrowski", Entity::Person));
        assert_eq!(people.count(), 2);
    }

    #[test]
    fn a_long_text_is_tagged_as_its_parts_are() {
        let sentence = "My name is Karla Ostrowski and I live in Lisbon. ";
        let count = 3 * BLOCK / 11;
        let found = Tagger::built_in().unwrap().tag(&sentence.repeat(count), &[]);
        assert_eq!(found.len(), 2 * count);
    }

    #[test]
    fn a_close_reader_knows_names_by_where_they_stand() {
        let found = tagged_closely("My name is Karla Ostrowski and I live in Lisbon.");
        assert_eq!(found, [("Karla Ostrowski", Entity::Person), ("Lisbon", Entity::Location)]);
        assert_eq!(tagged_closely("How do I reset my password?"), []);
        assert_eq!(tagged_closely(""), []);
    }

    #[test]
    fn a_long_text_is_read_closely_in_parts() {
        let sentence = "My name is Karla Ostrowski and I live in Lisbon. ";
        let text = sentence.repeat(120);
        assert_eq!(tagged_closely(&text).len(), 240);
        // Words of letters that no piece is known for, and one word that is longer than what is read at once.
        let text = format!("{} {}", "𐍈𐍉".repeat(3), "ab".repeat(3_000));
        assert!(tagged_closely(&text).len() <= 2);
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let bytes = include_bytes!("../weights/tagger/tagger.safetensors");
        assert!(Tagger::from_bytes(&bytes[..bytes.len() / 2]).is_err());
        assert!(Tagger::from_bytes(include_bytes!("../weights/static-256/embeddings.safetensors")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn entities_lie_in_order_on_boundaries(text in "\\PC{0,60}|([A-Z][a-zéß]{1,9}|[0-9]{1,5}|\u{301}|İ|\n| |, ){0,30}") {
            let mut after = 0;
            for (span, _) in Tagger::built_in().unwrap().tag(&text, &[]) {
                proptest::prop_assert!(span.start >= after && span.start < span.end && text.get(span.clone()).is_some());
                after = span.end;
            }
        }
    }
}
