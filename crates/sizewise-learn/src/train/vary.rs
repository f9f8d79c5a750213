//! Which texts beside the rows does the encoder judge for the static tier?
//!
//! The static tier learns from them what words mean in company that no row has. So words are left out, or others stand in their places
//! that the static embeddings hold for alike; the beginning of one row goes on as another of the same label does, or as
//! any other; and a stretch of a row stands alone or is missing. Whether such a text makes sense matters little: the encoder says what it is
//! nearest to, and by how much.

use super::jobs;
use crate::fit::Random;
use sizewise_models::static_embeddings::StaticEmbeddings;
use std::collections::HashMap;

/// The kinds of variations, as they follow one another.
const KINDS: [Kind; 8] = [
    Kind::LeftOut,
    Kind::OfItsLabel,
    Kind::Synonyms,
    Kind::OfAny,
    Kind::LeftOut,
    Kind::OfItsLabel,
    Kind::Synonyms,
    Kind::Stretch,
];
/// Words of all variations together, so that the encoder reads them in about a minute on two cores.
const MOST_WORDS: usize = 1_200_000;
/// Most words that others are sought for, the most frequent ones.
const MOST_SOUGHT: usize = 8_000;
/// Words that may stand in the place of one.
const ALIKE: usize = 6;
/// How much alike they must be, as a cosine.
const LEAST_ALIKE: f32 = 0.5;
/// Of a hundred words that have others, so many are exchanged.
const EXCHANGED: usize = 30;
/// Words of two texts that are looked at for one that both have.
const MEETING: usize = 64;
/// Words of which every combination is compared at once.
const BLOCK: usize = 64;

#[derive(Debug, Clone, Copy)]
enum Kind {
    LeftOut,
    OfItsLabel,
    OfAny,
    Synonyms,
    Stretch,
}

/// A row as it is varied.
#[derive(Debug)]
pub(super) struct Varied<'a> {
    words: Vec<&'a str>,
    pub(super) fold: u8,
    /// Its class for each question, where it has one.
    labels: Vec<Option<u16>>,
}

impl<'a> Varied<'a> {
    pub(super) fn new(text: &'a str, fold: u8, labels: Vec<Option<u16>>) -> Self {
        Self { words: text.split_whitespace().collect(), fold, labels }
    }
}

/// The words that may stand in the place of others.
#[derive(Debug, Default)]
pub(super) struct Synonyms<'a> {
    /// By a word in lower case without the marks behind it.
    of: HashMap<String, Vec<&'a str>>,
}

/// A word in lower case without the marks behind it.
fn plain(word: &str) -> String {
    word.trim_end_matches(|c: char| !c.is_alphanumeric()).to_lowercase()
}

impl<'a> Synonyms<'a> {
    /// Finds for the words of texts those of the same texts that the embeddings hold for alike. They come from all folds: a word
    /// alone tells nothing of a label.
    pub(super) fn among(texts: &[&'a str], embeddings: &StaticEmbeddings, threads: usize) -> Self {
        let mut counts: HashMap<String, (usize, &'a str)> = HashMap::new();
        for word in texts.iter().flat_map(|text| text.split_whitespace()) {
            let shown = word.trim_end_matches(|c: char| !c.is_alphanumeric());
            if !shown.is_empty() {
                counts.entry(plain(word)).or_insert((0, shown)).0 += 1;
            }
        }
        let mut words: Vec<(String, (usize, &'a str))> =
            counts.into_iter().filter(|(_, (count, _))| *count > 2).collect();
        words.sort_unstable_by(|(a, (more, _)), (b, (less, _))| less.cmp(more).then_with(|| a.cmp(b)));
        words.truncate(MOST_SOUGHT);
        let (mut ids, mut mean, mut vectors) = (Vec::new(), Vec::new(), Vec::new());
        for (word, _) in &words {
            embeddings.embed_into(word, &mut ids, &mut mean);
            vectors.extend_from_slice(&mean);
        }
        let (vectors, dimensions) = (vectors.as_slice(), embeddings.dimensions().max(1));
        let found = jobs::run(words.len().div_ceil(BLOCK), threads, |block| {
            Some(
                (block * BLOCK..words.len().min((block + 1) * BLOCK))
                    .map(|word| alike(vectors, dimensions, word))
                    .collect::<Vec<_>>(),
            )
        });
        let found = found.unwrap_or_default().into_iter().flatten();
        let shown = |place: &usize| words.get(*place).map(|(_, (_, shown))| *shown);
        let of = words.iter().zip(found).filter(|(_, alike)| !alike.is_empty());
        Self {
            of: of
                .map(|((word, _), alike)| (word.clone(), alike.iter().filter_map(shown).collect()))
                .collect(),
        }
    }
}

/// The places of the vectors nearest to one of them, as far as they are near.
fn alike(vectors: &[f32], dimensions: usize, word: usize) -> Vec<usize> {
    let own = vectors.get(word * dimensions..(word + 1) * dimensions).unwrap_or_default();
    let mut near: Vec<(f32, usize)> = Vec::new();
    sizewise_models::widest(
        #[inline(always)]
        || {
            for (place, other) in vectors.chunks_exact(dimensions).enumerate() {
                let mut sums = [0.0f32; 16];
                for (a, b) in own.chunks_exact(16).zip(other.chunks_exact(16)) {
                    for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
                        *sum += a * b;
                    }
                }
                let cosine: f32 = sums.iter().sum();
                if cosine > LEAST_ALIKE && place != word {
                    near.push((cosine, place));
                }
            }
        },
    );
    near.sort_unstable_by(|(a, at), (b, other)| b.total_cmp(a).then(at.cmp(other)));
    near.truncate(ALIKE);
    near.into_iter().map(|(_, place)| place).collect()
}

/// Variations of rows, each with the fold that its words come from.
///
/// **Determinism.** By the seed and the order of the rows alone.
pub(super) fn vary(rows: &[Varied<'_>], synonyms: &Synonyms<'_>, seed: u64) -> Vec<(String, u8)> {
    let mut random = Random(seed ^ 0xd15_7111);
    let fellows = Fellows::of(rows);
    let words: usize = rows.iter().map(|row| row.words.len()).sum();
    let copies = KINDS.len().min(MOST_WORDS / words.max(1));
    let mut varied = Vec::with_capacity(rows.len() * copies);
    for row in rows {
        for kind in KINDS.iter().take(copies) {
            let words = row.words.as_slice();
            let text = match kind {
                Kind::LeftOut => left_out(words, &mut random),
                Kind::OfItsLabel => crossed(words, fellows.of_its_label(row, &mut random), &mut random),
                Kind::OfAny => crossed(words, fellows.any(row, &mut random), &mut random),
                Kind::Synonyms => synonyms.exchange(words, &mut random),
                Kind::Stretch => stretch(words, &mut random),
            };
            varied.push((text.join(" "), row.fold));
        }
    }
    varied
}

/// The rows that may lend their words to one: those of its fold, for a head that must not know the fold may know none of it.
struct Fellows<'a> {
    rows: &'a [Varied<'a>],
    of_fold: HashMap<u8, Vec<usize>>,
    /// By fold, question and class.
    of_label: HashMap<(u8, usize, u16), Vec<usize>>,
}

impl<'a> Fellows<'a> {
    fn of(rows: &'a [Varied<'a>]) -> Self {
        let mut fellows = Self { rows, of_fold: HashMap::new(), of_label: HashMap::new() };
        for (position, row) in rows.iter().enumerate() {
            fellows.of_fold.entry(row.fold).or_default().push(position);
            for (question, class) in row.labels.iter().enumerate() {
                if let Some(class) = class {
                    fellows.of_label.entry((row.fold, question, *class)).or_default().push(position);
                }
            }
        }
        fellows
    }

    fn any(&self, row: &Varied<'_>, random: &mut Random) -> &'a [&'a str] {
        self.one_of(self.of_fold.get(&row.fold), random)
    }

    /// A row with the same class of one of the questions.
    fn of_its_label(&self, row: &Varied<'_>, random: &mut Random) -> &'a [&'a str] {
        let question = random.below(row.labels.len().max(1));
        let class = row.labels.get(question).copied().flatten();
        self.one_of(class.and_then(|class| self.of_label.get(&(row.fold, question, class))), random)
    }

    fn one_of(&self, positions: Option<&Vec<usize>>, random: &mut Random) -> &'a [&'a str] {
        let positions = positions.map_or(&[][..], Vec::as_slice);
        let row = positions.get(random.below(positions.len().max(1))).and_then(|row| self.rows.get(*row));
        row.map_or(&[], |row| row.words.as_slice())
    }
}

/// The words without some.
fn left_out<'a>(words: &[&'a str], random: &mut Random) -> Vec<&'a str> {
    let share = [10, 20, 35][random.below(3)];
    let kept: Vec<&str> = words.iter().copied().filter(|_| random.below(100) >= share).collect();
    if kept.is_empty() { words.to_vec() } else { kept }
}

/// The beginning of one text and the end of another, from a word that both have where there is one.
fn crossed<'a>(words: &[&'a str], other: &[&'a str], random: &mut Random) -> Vec<&'a str> {
    if words.is_empty() || other.is_empty() {
        return words.to_vec();
    }
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    let mut shared = Vec::new();
    for (at, word) in words.iter().enumerate().take(MEETING).skip(1) {
        let behind = other
            .iter()
            .enumerate()
            .take(MEETING.min(other.len() - 1))
            .filter(|(_, other)| same(word, other));
        shared.extend(behind.map(|(place, _)| (at, place)));
    }
    let (head, tail) = match shared.get(random.below(shared.len().max(1))) {
        Some(cut) => *cut,
        None => (1 + random.below(words.len()), random.below(other.len())),
    };
    let parts = [words.get(..head).unwrap_or_default(), other.get(tail..).unwrap_or_default()];
    parts.concat()
}

impl Synonyms<'_> {
    /// The words with others in the places of some; of every second text words are left out too.
    fn exchange<'a>(&'a self, words: &[&'a str], random: &mut Random) -> Vec<&'a str> {
        let exchanged: Vec<&str> = words
            .iter()
            .map(|word| match self.of.get(&plain(word)) {
                Some(alike) if random.below(100) < EXCHANGED => {
                    alike.get(random.below(alike.len())).copied().unwrap_or(word)
                }
                _ => word,
            })
            .collect();
        if random.below(2) == 0 {
            return exchanged;
        }
        let kept: Vec<&str> = exchanged.iter().copied().filter(|_| random.below(10) > 0).collect();
        if kept.is_empty() { exchanged } else { kept }
    }
}

/// The words without a stretch, or with what stood behind a place before what stood in front of it.
fn stretch<'a>(words: &[&'a str], random: &mut Random) -> Vec<&'a str> {
    let (a, b) = (random.below(words.len() + 1), random.below(words.len() + 1));
    let (begin, end) = (a.min(b), a.max(b));
    let (front, behind) = (words.get(..begin).unwrap_or_default(), words.get(end..).unwrap_or_default());
    let found = match random.below(2) {
        0 => [front, behind].concat(),
        _ => [behind, words.get(..end).unwrap_or_default()].concat(),
    };
    if found.is_empty() { words.to_vec() } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sizewise_models::builtin;

    fn rows<'a>(texts: &[&'a str]) -> Vec<Varied<'a>> {
        let row = |(at, text): (usize, &&'a str)| {
            Varied::new(text, (at % 2) as u8, vec![Some((at / 2) as u16), None])
        };
        texts.iter().enumerate().map(row).collect()
    }

    #[test]
    fn a_variation_is_never_empty_and_holds_only_words_of_its_fold() {
        let texts = ["card was charged twice", "where is it", "the card is lost", "one", "a b c", "d e f"];
        let rows = rows(&texts);
        for seed in 0..50 {
            let varied = vary(&rows, &Synonyms::default(), seed);
            assert_eq!(varied.len(), rows.len() * KINDS.len());
            for (text, fold) in varied {
                assert!(!text.is_empty());
                let of_fold =
                    |word: &str| rows.iter().any(|row| row.fold == fold && row.words.contains(&word));
                assert!(text.split(' ').all(of_fold), "{text}");
            }
        }
        assert_eq!(vary(&rows, &Synonyms::default(), 3), vary(&rows, &Synonyms::default(), 3));
    }

    #[test]
    fn two_rows_meet_at_a_word_that_both_have() {
        let (a, b) = (["my", "card", "was", "lost"], ["the", "card", "is", "here"]);
        let mut random = Random(1);
        for _ in 0..20 {
            assert_eq!(crossed(&a, &b, &mut random), ["my", "card", "is", "here"]);
        }
        assert_eq!(crossed(&a, &[], &mut random), a);
        assert!(!crossed(&["one"], &["two"], &mut random).is_empty());
    }

    #[test]
    fn words_give_way_to_words_that_mean_the_same() {
        let embeddings = builtin::static_embeddings().unwrap();
        let text = "buy purchase Buy, purchase buy purchase zebra zebra zebra";
        let synonyms = Synonyms::among(&[text], &embeddings, 1);
        assert_eq!(synonyms.of.get("buy").map(Vec::as_slice), Some(&["purchase"][..]));
        assert!(!synonyms.of.contains_key("zebra"));
        let mut random = Random(5);
        let found: Vec<Vec<&str>> =
            (0..40).map(|_| synonyms.exchange(&["Buy!", "zebra"], &mut random)).collect();
        assert!(found.iter().any(|words| words.contains(&"purchase")));
        assert!(found.iter().all(|words| !words.is_empty()));
    }

    #[test]
    fn long_tables_have_fewer_variations_and_empty_rows_none_that_break() {
        let long = "word ".repeat(400_000);
        assert_eq!(vary(&rows(&[&long]), &Synonyms::default(), 1).len(), 3);
        assert!(vary(&rows(&[""]), &Synonyms::default(), 1).iter().all(|(text, _)| text.is_empty()));
    }
}
