//! How does the close reader learn from texts?
//!
//! A chain of tags (conditional random field, Lafferty et al. 2001) over hashed features and what the encoder knows of every word, by
//! steps of Adam (Kingma and Ba 2015) on small batches. Features are hidden while learning, for some words all hashed ones: neither
//! side is relied upon alone. Every sum has a fixed order and every function is our own, so the result is the same on every machine.

use super::draft::Made;
use crate::fit::Random;
use sizewise_models::{
    Result,
    encoder::{Encoder, exp},
    tagger::{CloseReader, Entity, Knowledge, ROWS, TAGS, UNIT, WIDTH, word_vectors},
};

/// Texts of a step.
const BATCH: usize = 64;
/// Of a hundred: hashed features that are hidden, words whose hashed features are all hidden, numbers of a vector that are hidden.
const HIDDEN_ROWS: usize = 40;
const HIDDEN_WORDS: usize = 20;
const HIDDEN_NUMBERS: usize = 40;
/// Step widths at the beginning; they go down in a straight line.
const STEP: f32 = 0.002;
const STEP_OF_ROWS: f32 = 0.01;
/// What is taken from every word that is nothing: a false alarm costs less than a name that leaves.
const LEAN: f32 = 1.5;
/// What is taken from organisations and titles: made-up texts have more of them than others do.
const RARER: [Entity; 2] = [Entity::Organization, Entity::Title];
const LEAN_AWAY: f32 = 0.7;

/// Numbers that are learned.
struct Learned {
    values: Vec<f32>,
    slopes: Vec<f32>,
    mean: Vec<f32>,
    square: Vec<f32>,
}

impl Learned {
    fn new(count: usize) -> Self {
        let zeros = || vec![0.0; count];
        Self { values: zeros(), slopes: zeros(), mean: zeros(), square: zeros() }
    }

    /// One step of Adam; `left` are the parts of both averages that are still to come.
    fn step(&mut self, width: f32, left: (f32, f32)) {
        let all =
            self.values.iter_mut().zip(&mut self.slopes).zip(self.mean.iter_mut().zip(&mut self.square));
        for ((value, slope), (mean, square)) in all {
            *mean = 0.9 * *mean + 0.1 * *slope;
            *square = 0.999 * *square + 0.001 * *slope * *slope;
            *value -= width * (*mean / left.0) / ((*square / left.1).sqrt() + 1e-8);
            *slope = 0.0;
        }
    }

    fn row(&self, at: usize) -> &[f32] {
        self.values.get(at * TAGS..(at + 1) * TAGS).unwrap_or_default()
    }

    fn push(&mut self, at: usize, slopes: &[f32; TAGS], by: f32) {
        let row = self.slopes.get_mut(at * TAGS..(at + 1) * TAGS).unwrap_or_default();
        row.iter_mut().zip(slopes).for_each(|(sum, slope)| *sum += by * slope);
    }
}

/// What is not hidden of a word: rows, and numbers of its vector by their place.
type Heard = (Vec<u32>, Vec<(usize, f32)>);

/// What is being learned.
pub(super) struct CloseFit<'a> {
    encoder: &'a Encoder,
    rows: Learned,
    vectors: Learned,
    links: Learned,
    texts: usize,
    seen: usize,
    powers: (f32, f32),
    random: Random,
}

impl<'a> CloseFit<'a> {
    /// `texts` are to come.
    pub(super) fn new(encoder: &'a Encoder, texts: usize) -> Self {
        Self {
            encoder,
            rows: Learned::new(ROWS * TAGS),
            vectors: Learned::new(WIDTH * TAGS),
            links: Learned::new((TAGS + 1) * TAGS),
            texts,
            seen: 0,
            powers: (1.0, 1.0),
            random: Random(11),
        }
    }

    /// Learns from one text.
    pub(super) fn learn(&mut self, knowledge: &Knowledge, made: &Made) -> Result<()> {
        let reading = knowledge.read(&made.text, &made.known, &made.strange);
        let right = super::fit::tags(&reading, made);
        let vectors = word_vectors(self.encoder, &made.text, &reading.words, &made.known)?;
        let mut heard: Vec<Heard> = Vec::with_capacity(right.len());
        let mut scores: Vec<[f32; TAGS]> = Vec::with_capacity(right.len());
        for (word, vector) in vectors.chunks_exact(WIDTH).enumerate() {
            let random = &mut self.random;
            let silent = random.below(100) < HIDDEN_WORDS;
            let rows = reading.rows(word).iter().copied();
            let rows: Vec<u32> = rows.filter(|_| !silent && random.below(100) >= HIDDEN_ROWS).collect();
            let numbers: Vec<(usize, f32)> = vector
                .iter()
                .enumerate()
                .filter(|_| random.below(100) >= HIDDEN_NUMBERS)
                .map(|(at, value)| (at, f32::from(*value) / UNIT * louder(HIDDEN_NUMBERS)))
                .collect();
            let mut sums = [0.0f32; TAGS];
            for row in &rows {
                let row = self.rows.row(*row as usize);
                sums.iter_mut().zip(row).for_each(|(sum, weight)| *sum += louder(HIDDEN_ROWS) * weight);
            }
            for (at, value) in &numbers {
                let row = self.vectors.row(*at);
                sums.iter_mut().zip(row).for_each(|(sum, weight)| *sum += value * weight);
            }
            scores.push(sums);
            heard.push((rows, numbers));
        }
        let slopes = self.chain(&scores, &right);
        for ((rows, numbers), slopes) in heard.iter().zip(&slopes) {
            rows.iter().for_each(|row| self.rows.push(*row as usize, slopes, louder(HIDDEN_ROWS)));
            numbers.iter().for_each(|(at, value)| self.vectors.push(*at, slopes, *value));
        }
        self.seen += 1;
        if self.seen.is_multiple_of(BATCH) {
            self.step();
        }
        Ok(())
    }

    fn step(&mut self) {
        self.powers = (self.powers.0 * 0.9, self.powers.1 * 0.999);
        let left = (1.0 - self.powers.0, 1.0 - self.powers.1);
        let width = (1.0 - self.seen as f32 / self.texts as f32).max(0.02);
        let by = 1.0 / BATCH as f32;
        for learned in [&mut self.rows, &mut self.vectors, &mut self.links] {
            learned.slopes.iter_mut().for_each(|slope| *slope *= by);
        }
        self.rows.step(STEP_OF_ROWS * width, left);
        self.vectors.step(STEP * width, left);
        self.links.step(STEP * width, left);
    }

    /// The slope of the loss by every score, `[words, TAGS]`; what links are to learn is put down.
    fn chain(&mut self, scores: &[[f32; TAGS]], right: &[u8]) -> Vec<[f32; TAGS]> {
        let goes_on = |tag: usize| tag > 0 && tag.is_multiple_of(2);
        let mut links = [[0.0f32; TAGS]; TAGS + 1];
        for (before, row) in links.iter_mut().enumerate() {
            for (tag, (link, value)) in row.iter_mut().zip(self.links.row(before)).enumerate() {
                let allowed = !goes_on(tag) || before < TAGS && (before == tag || before + 1 == tag);
                *link = if allowed { exp(*value) } else { 0.0 };
            }
        }
        let said: Vec<[f32; TAGS]> = scores
            .iter()
            .map(|scores| {
                let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                // Nothing is impossible, so that no sum is nought.
                scores.map(|score| exp((score - top).max(-60.0)).max(1e-26))
            })
            .collect();
        let mut forth: Vec<([f32; TAGS], f32)> = Vec::with_capacity(said.len());
        for said in &said {
            let mut now = [0.0f32; TAGS];
            match forth.last() {
                None => now = links[TAGS],
                Some((last, _)) => {
                    for (part, row) in last.iter().zip(&links) {
                        now.iter_mut().zip(row).for_each(|(sum, link)| *sum += part * link);
                    }
                }
            }
            now.iter_mut().zip(said).for_each(|(now, said)| *now *= said);
            let total = now.iter().sum::<f32>().max(1e-37);
            now.iter_mut().for_each(|now| *now /= total);
            forth.push((now, total));
        }
        let mut slopes = vec![[0.0f32; TAGS]; said.len()];
        let mut back = [1.0f32; TAGS];
        for at in (0..said.len()).rev() {
            let (Some((now, total)), Some(said), Some(slope)) =
                (forth.get(at), said.get(at), slopes.get_mut(at))
            else {
                continue;
            };
            let is = right.get(at).map_or(0, |tag| usize::from(*tag));
            slope.iter_mut().zip(now.iter().zip(&back)).for_each(|(slope, (now, back))| *slope = now * back);
            if let Some(slope) = slope.get_mut(is) {
                *slope -= 1.0;
            }
            let ahead: [f32; TAGS] = std::array::from_fn(|tag| said[tag] * back[tag] / total);
            let last = at.checked_sub(1).and_then(|before| forth.get(before)).map(|(last, _)| last);
            let was = at.checked_sub(1).and_then(|at| right.get(at)).map_or(TAGS, |tag| usize::from(*tag));
            let mut next = [0.0f32; TAGS];
            for (before, row) in links.iter().enumerate() {
                let part = match last {
                    Some(last) => last.get(before).copied().unwrap_or(0.0),
                    None => f32::from(u8::from(before == TAGS)),
                };
                let mut pairs: [f32; TAGS] = std::array::from_fn(|tag| part * row[tag] * ahead[tag]);
                if before == was
                    && let Some(pair) = pairs.get_mut(is)
                {
                    *pair -= 1.0;
                }
                self.links.push(before, &pairs, 1.0);
                if let Some(next) = next.get_mut(before) {
                    *next = row.iter().zip(&ahead).map(|(link, ahead)| link * ahead).sum();
                }
            }
            back = next;
        }
        slopes
    }

    /// The file of what was learned.
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        // One weight in ten thousand is cut: a finer unit for the others is worth more.
        let mut sizes: Vec<f32> = self.rows.values.iter().map(|weight| weight.abs()).collect();
        sizes.sort_by(f32::total_cmp);
        let top = sizes.get(sizes.len() - sizes.len() / 10_000 - 1).copied().unwrap_or(1.0).max(1e-6);
        let unit = top / 127.0;
        let rows: Vec<i8> = self
            .rows
            .values
            .iter()
            .map(|weight| (weight / unit).round().clamp(-127.0, 127.0) as i8)
            .collect();
        let rarer =
            |tag: usize| RARER.iter().any(|entity| [entity.tags().0, entity.tags().1].contains(&(tag as u8)));
        let lean = |place: usize| match place % TAGS {
            0 => LEAN,
            tag if rarer(tag) => LEAN_AWAY,
            _ => 0.0,
        };
        let links: Vec<f32> =
            self.links.values.iter().enumerate().map(|(place, link)| link - lean(place)).collect();
        CloseReader::to_bytes(&rows, unit, &self.vectors.values, &links)
    }
}

/// How much louder the others speak when so many of a hundred are hidden.
fn louder(hidden: usize) -> f32 {
    100.0 / (100 - hidden) as f32
}
