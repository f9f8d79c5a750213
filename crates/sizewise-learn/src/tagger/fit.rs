//! How does the tagger learn from texts?
//!
//! The averaged structured perceptron (Collins 2002): the best tags under the weights so far are compared with the right ones, and what
//! speaks for the wrong ones is taken down by one. Wrong tags get a start while learning, so that right ones win by a margin; a missed
//! entity gets the largest, as what is missed leaves the house. All sums are whole numbers: the result is the same on every machine.

use super::draft::Made;
use crate::fit::Random;
use sizewise_models::tagger::{Knowledge, Links, ROWS, Reading, TAGS, best_path};

/// The start of a wrong tag, of a word called by the wrong name, and of an entity that is taken for nothing.
const FALSE_ALARM: i32 = 13;
const WRONG_KIND: i32 = 14;
const MISSED: i32 = 22;

/// One feature in so many is hidden while learning.
const HIDDEN: usize = 5;

/// What is taken from every word that is nothing, in units of the weights as bytes: a false alarm costs less than a name that leaves.
const LEAN: f64 = 120.0;

/// What is being learned.
pub(super) struct Fit {
    weights: Vec<i32>,
    summed: Vec<i64>,
    links: Vec<i32>,
    links_summed: Vec<i64>,
    seen: i64,
    random: Random,
}

impl Fit {
    pub(super) fn new() -> Self {
        let links = (TAGS + 1) * TAGS;
        Self {
            weights: vec![0; ROWS * TAGS],
            summed: vec![0; ROWS * TAGS],
            links: vec![0; links],
            links_summed: vec![0; links],
            seen: 1,
            random: Random(7),
        }
    }

    /// Learns from one text.
    pub(super) fn learn(&mut self, knowledge: &Knowledge, made: &Made) {
        let reading = knowledge.read(&made.text, &made.known, &made.strange);
        let right = tags(&reading, made);
        // A fifth of the features is not looked at, another one each time: none is relied upon alone.
        let rows: Vec<Vec<u32>> = (0..right.len())
            .map(|word| {
                reading.rows(word).iter().copied().filter(|_| self.random.below(HIDDEN) > 0).collect()
            })
            .collect();
        let mut scores: Vec<[f32; TAGS]> = Vec::with_capacity(right.len());
        for (rows, right) in rows.iter().zip(&right) {
            let mut sums = [0i32; TAGS];
            for row in rows {
                let start = *row as usize * TAGS;
                let row = self.weights.get(start..start + TAGS).unwrap_or_default();
                sums.iter_mut().zip(row).for_each(|(sum, weight)| *sum += weight);
            }
            let entity = |tag: usize| tag.div_ceil(2);
            for (tag, sum) in sums.iter_mut().enumerate().filter(|(tag, _)| *tag != usize::from(*right)) {
                *sum += match (tag, *right) {
                    (0, _) => MISSED,
                    (_, 0) => FALSE_ALARM,
                    (tag, right) if entity(tag) == entity(usize::from(right)) => WRONG_KIND / 2,
                    _ => WRONG_KIND,
                };
            }
            scores.push(sums.map(|sum| sum as f32));
        }
        let links = self.links.iter().map(|link| *link as f32).collect();
        let said = Links::new(links).map(|links| best_path(&scores, &links)).unwrap_or_default();
        let mut before = (TAGS, TAGS);
        for (rows, (right, said)) in rows.iter().zip(right.iter().zip(&said)) {
            let (right, said) = (usize::from(*right), usize::from(*said));
            if right != said {
                for row in rows {
                    self.change(*row as usize * TAGS + right, 1);
                    self.change(*row as usize * TAGS + said, -1);
                }
            }
            if (before.0, right) != (before.1, said) {
                self.change_link(before.0 * TAGS + right, 1);
                self.change_link(before.1 * TAGS + said, -1);
            }
            before = (right, said);
        }
        self.seen += 1;
    }

    fn change(&mut self, place: usize, by: i32) {
        if let (Some(weight), Some(sum)) = (self.weights.get_mut(place), self.summed.get_mut(place)) {
            *weight += by;
            *sum += self.seen * i64::from(by);
        }
    }

    fn change_link(&mut self, place: usize, by: i32) {
        if let (Some(link), Some(sum)) = (self.links.get_mut(place), self.links_summed.get_mut(place)) {
            *link += by;
            *sum += self.seen * i64::from(by);
        }
    }

    /// The average over all texts so far: weights as bytes, links in the same unit.
    pub(super) fn averaged(&self) -> (Vec<i8>, Vec<f32>) {
        let average = |now: i32, sum: i64| f64::from(now) - sum as f64 / self.seen as f64;
        let weights: Vec<f64> =
            self.weights.iter().zip(&self.summed).map(|(now, sum)| average(*now, *sum)).collect();
        // One weight in ten thousand is cut: a finer unit for the others is worth more.
        let mut sizes: Vec<f64> = weights.iter().map(|weight| weight.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        let top = sizes.get(sizes.len() - sizes.len() / 10_000 - 1).copied().unwrap_or(1.0).max(1.0);
        let scale = 127.0 / top;
        let bytes =
            weights.iter().map(|weight| (weight * scale).round().clamp(-127.0, 127.0) as i8).collect();
        let links = self.links.iter().zip(&self.links_summed);
        // As many features more speak when none is hidden.
        let more = HIDDEN as f64 / (HIDDEN - 1) as f64;
        let lean = |place: usize| if place.is_multiple_of(TAGS) { LEAN } else { 0.0 };
        let links = links
            .enumerate()
            .map(|(place, (now, sum))| (average(*now, *sum) * scale * more - lean(place)) as f32)
            .collect();
        (bytes, links)
    }
}

/// The right tag of every word.
pub(super) fn tags(reading: &Reading, made: &Made) -> Vec<u8> {
    let mut entities = made.entities.iter().peekable();
    let mut begun = false;
    let mut tag = |word: &std::ops::Range<usize>| {
        while entities.next_if(|(span, _)| span.end <= word.start).is_some() {
            begun = false;
        }
        let inside = entities.peek().filter(|(span, _)| span.start < word.end)?;
        let (first, next) = inside.1.tags();
        let tag = if begun { next } else { first };
        begun = true;
        Some(tag)
    };
    reading.words.iter().map(|word| tag(word).unwrap_or(0)).collect()
}
