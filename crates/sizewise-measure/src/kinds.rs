//! Has a new kind of input come, which one, and which requests belong to it?
//!
//! ```text
//!   training rows ─► Known: centres of classes, one covariance, reference rows kept aside
//!   a request looked at ─► Watch: window ─► candidate ─► bets on later requests ─► Cluster ─► is this one of its kind?
//! ```
//!
//! A new kind need not be far from everything: it often lies between two classes that look like it. What shows it is that many
//! recent inputs lie together where few training rows do. So every hundred looks the recent inputs with the most recent neighbours for
//! each neighbour among the training rows begin a candidate: one more class beside the known ones, in a model of classes with one
//! covariance (linear discriminants), whose centre is moved to its inputs (expectation maximisation, the known classes fixed).
//!
//! **False proposals.** A candidate found by looking is no evidence. Its region is fixed, the share of the training rows in it is
//! bounded by reference rows that no fit has seen (Clopper and Pearson), and then *later* requests bet: the likelihood ratio of "as many
//! as in the window" against "at most [`GROWTH`] times as many as in training" must reach 2/α_j, for α_j = 0.05 · 6 / (π² j²) of the j-th
//! candidate, of which the bound spends half. The α_j sum to 5 %: where requests are independent draws of what the training rows are drawn
//! from, or of any mix in which no region grew more than twofold, at most 5 % of tasks ever see a false proposal, however
//! long they run (Ville's inequality).
//!
//! **Repeats.** A program that asks the same over and over (a monitor, a stuck client) brings nothing new, however often it asks. What stands
//! in the window [`REPEATS`] times counts as outside of every candidate from then on: fewer wins than there were keep the bound.
//!
//! **Looks.** Requests are looked at by chance, all alike, or the shares compared would not be of the same thing: those that a
//! cheaper tier answers have no vector until somebody reads them.

mod known;
mod packed;

pub use known::{Border, Known, KnownParts, middle};

use crate::binomial;
use known::{Form, dot};
use std::collections::VecDeque;

/// Most recent inputs that are remembered.
pub const WINDOW: usize = 1_000;
/// Most reference rows that are kept.
pub const REFERENCES: usize = 2_000;
/// How many times as frequent as in training a region may be before it counts as new.
pub const GROWTH: f64 = 2.0;
/// How often one and the same input may stand in the window: alone it makes no candidate.
pub const REPEATS: usize = FEWEST as usize - 1;
/// Coordinates of one and the same input differ by less, whatever it was read together with.
const SAME: f32 = 1e-4;
/// Chance of a false proposal, ever.
pub const FALSE_PROPOSALS: f64 = 0.05;
/// Looks between two searches.
const PACE: usize = 50;
/// Recent neighbours that tell how dense it is around an input.
const NEIGHBOURS: usize = 6;
/// Inputs that begin a candidate in one search.
const SEEDS: usize = 4;
/// Steps of a centre to its inputs.
const STEPS: usize = 8;
/// Fewest inputs of a candidate.
const FEWEST: f64 = 5.0;
/// Candidates that are tested at the same time, and how many looks a test may take.
const TESTED: usize = 6;
const PATIENCE: usize = 1_200;
/// Share of the reference rows that a candidate's region may hold.
const HELD: f64 = 0.006;
/// How much of the covariance is that of a ball.
const SHRINKAGE: f64 = 0.15;
/// Margins are divided by this before they become shares of belonging: the model is surer than it may be.
const TEMPERATURE: f32 = 4.0;

/// An input that was looked at.
#[derive(Debug, Clone)]
struct Look {
    /// What the caller calls it.
    id: u64,
    vector: Vec<f32>,
    fit: f32,
}

/// A region that may be a new kind, and what later requests bet on it.
#[derive(Debug, Clone)]
struct Candidate {
    form: Form,
    centre: Vec<f32>,
    least: f32,
    /// Share of the training rows, bounded, times the growth that is no news; share in the window.
    shares: (f64, f64),
    log_worth: f64,
    needed: f64,
    looks: usize,
}

/// A new kind of input that is proposed to people.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// After how many looks it was proposed.
    pub looks: u64,
    /// The inputs of the window that belong to it, by the caller's ids, the most typical first.
    pub members: Vec<u64>,
    /// Share of the window that belongs to it.
    pub share: f64,
    /// The share of the training rows that it has at most.
    pub known_share: f64,
    /// Its middle. `[width]`
    pub centre: Vec<f32>,
    form: Form,
}

/// Looks for new kinds in what comes.
///
/// **Bounds.** Keeps at most [`WINDOW`] vectors and six candidates. A look costs classes × width; a search, every fifty looks, fifty × (window + references) × width.
/// **Determinism.** The same looks give the same proposals.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    window: VecDeque<Look>,
    candidates: Vec<Candidate>,
    opened: u64,
    looks: u64,
    clusters: Vec<Cluster>,
}

impl Watch {
    /// Takes in one input that was drawn by chance, its vector of unit length; returns whether a cluster was proposed by it.
    pub fn look(&mut self, known: &Known, id: u64, vector: &[f32]) -> bool {
        if vector.len() != known.width || vector.iter().any(|value| !value.is_finite()) {
            return false;
        }
        self.looks += 1;
        let fit = known.classes.best(vector).1;
        let repeated = self.stands(vector) >= REPEATS;
        let taken = repeated || self.clusters.iter().any(|cluster| cluster.form.value(vector) > fit);
        let mut proposed = None;
        for (place, candidate) in self.candidates.iter_mut().enumerate() {
            let inside = !taken && candidate.form.value(vector) - fit > candidate.least;
            let (known, new) = candidate.shares;
            candidate.log_worth +=
                if inside { (new / known).ln() } else { ((1.0 - new) / (1.0 - known)).ln() };
            candidate.looks += 1;
            if candidate.log_worth >= candidate.needed {
                proposed = proposed.or(Some(place));
            }
        }
        if !repeated {
            self.window.push_back(Look { id, vector: vector.to_vec(), fit });
            if self.window.len() > WINDOW {
                self.window.pop_front();
            }
        }
        if let Some(place) = proposed {
            let candidate = self.candidates.swap_remove(place);
            let cluster = self.cluster(known, &candidate.centre, candidate.shares.0 / GROWTH);
            self.clusters.push(cluster);
            // Others that found the same would propose it again.
            let found = self.clusters.last().map(|cluster| cluster.centre.clone()).unwrap_or_default();
            self.candidates.retain(|other| alike(&other.centre, &found) < 0.9);
        }
        self.candidates.retain(|candidate| candidate.looks < PATIENCE && candidate.log_worth > -4.0);
        if self.looks.is_multiple_of(PACE as u64) {
            self.refine(known);
            self.search(known);
        }
        proposed.is_some()
    }

    /// How often an input stands in the window.
    fn stands(&self, vector: &[f32]) -> usize {
        let is_same = |look: &&Look| look.vector.iter().zip(vector).all(|(a, b)| (a - b).abs() < SAME);
        self.window.iter().filter(is_same).take(REPEATS).count()
    }

    /// The input that came into the window last, by the caller's id.
    #[must_use]
    pub fn latest(&self) -> Option<u64> {
        self.window.back().map(|look| look.id)
    }

    /// Takes up a kind that was proposed before: its inputs are not proposed again. It is the last of [`Self::clusters`] then.
    pub fn resume(&mut self, known: &Known, centre: &[f32], rows: f64, share: f64) {
        if centre.len() == known.width {
            let form = known.form(centre, rows);
            let centre = centre.to_vec();
            let (looks, members) = (self.looks, Vec::new());
            self.clusters.push(Cluster { looks, members, share, known_share: 0.0, centre, form });
        }
    }

    /// Forgets every input and what was made of single ones. What was proposed stays.
    pub fn forget(&mut self) {
        self.window.clear();
        self.candidates.clear();
        self.clusters.iter_mut().for_each(|cluster| cluster.members.clear());
    }

    /// How many inputs were looked at.
    #[must_use]
    pub fn looks(&self) -> u64 {
        self.looks
    }

    /// What was proposed so far.
    #[must_use]
    pub fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }

    /// The vectors of a cluster's members that are still in the window. `[members, width]`
    #[must_use]
    pub fn vectors(&self, cluster: &Cluster) -> Vec<f32> {
        let members: std::collections::HashSet<u64> = cluster.members.iter().copied().collect();
        self.window
            .iter()
            .filter(|look| members.contains(&look.id))
            .flat_map(|look| look.vector.iter().copied())
            .collect()
    }

    /// Moves clusters to what has come since.
    fn refine(&mut self, known: &Known) {
        for place in 0..self.clusters.len() {
            let Some(old) = self.clusters.get(place).cloned() else { continue };
            let new = self.cluster(known, &old.centre, old.known_share);
            // Where its inputs have left the window it stays as it was.
            if new.members.len() >= old.members.len().clamp(FEWEST as usize, 30)
                && let Some(slot) = self.clusters.get_mut(place)
            {
                *slot = Cluster { looks: old.looks, ..new };
            }
        }
    }

    fn cluster(&self, known: &Known, centre: &[f32], known_share: f64) -> Cluster {
        let (centre, form, belong) = self.settle(known, centre);
        let mut members: Vec<(f32, u64)> = self
            .window
            .iter()
            .zip(&belong)
            .filter(|(_, r)| **r > 0.5)
            .map(|(look, r)| (*r, look.id))
            .collect();
        members.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let share = members.len() as f64 / self.window.len().max(1) as f64;
        let members = members.into_iter().map(|(_, id)| id).collect();
        Cluster { looks: self.looks, members, share, known_share, centre, form }
    }

    /// Moves a centre to the inputs that fit it better than every class: the centre, its form, and how much each belongs. `[window]`
    fn settle(&self, known: &Known, centre: &[f32]) -> (Vec<f32>, Form, Vec<f32>) {
        let (mut centre, mut rows) = (centre.to_vec(), NEIGHBOURS as f64);
        let mut form = known.form(&centre, rows);
        let mut belong = vec![0.0f32; self.window.len()];
        for _ in 0..STEPS {
            // An input's own part in the centre draws it in by about one square for each dimension and row.
            let own = known.width as f32 / rows.max(1.0) as f32;
            for (look, belong) in self.window.iter().zip(&mut belong) {
                let margin = form.value(&look.vector) - look.fit - own * *belong;
                // Only what fits it better than every class: many that hardly belong would draw it to the middle of all.
                *belong = if margin > 0.0 { 1.0 / (1.0 + (-margin / TEMPERATURE).exp()) } else { 0.0 };
            }
            rows = belong.iter().map(|r| f64::from(*r)).sum();
            if rows < 1.0 {
                break;
            }
            centre.iter_mut().for_each(|value| *value = 0.0);
            for (look, belong) in self.window.iter().zip(&belong) {
                let part = belong / rows as f32;
                centre.iter_mut().zip(&look.vector).for_each(|(sum, value)| *sum += part * value);
            }
            form = known.form(&centre, rows);
        }
        (centre, form, belong)
    }

    /// Opens a candidate where recent inputs lie together and training rows do not.
    fn search(&mut self, known: &Known) {
        if self.window.len() < 3 * PACE || self.candidates.len() >= TESTED {
            return;
        }
        let total = self.window.len();
        let open =
            |look: &Look| self.clusters.iter().all(|cluster| cluster.form.value(&look.vector) <= look.fit);
        let mut dense: Vec<(f64, usize)> = Vec::with_capacity(PACE);
        for (place, look) in self.window.iter().enumerate().skip(total - PACE).filter(|(_, look)| open(look))
        {
            let mut near: Vec<f32> = self
                .window
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != place)
                .map(|(_, other)| dot(&look.vector, &other.vector))
                .collect();
            near.sort_by(|a, b| b.total_cmp(a));
            let Some(reach) = near.get(NEIGHBOURS - 1) else { continue };
            let cosines = known.references.products(&look.vector);
            let known_near = cosines.filter(|cosine| cosine >= reach).count();
            dense.push((1.0 / (known_near as f64 + 1.0), place));
        }
        dense.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut best: Option<(f64, Candidate)> = None;
        for (_, place) in dense.into_iter().take(SEEDS) {
            let Some(candidate) = self.candidate(known, place) else { continue };
            let worth = candidate.0;
            if best.as_ref().is_none_or(|(most, _)| worth > *most) {
                best = Some(candidate);
            }
        }
        if let Some((_, candidate)) = best {
            self.opened += 1;
            let risk = self.risk();
            self.candidates.push(Candidate { needed: (2.0 / risk).ln(), ..candidate });
        }
    }

    /// The part of the risk that the last opened candidate may spend.
    fn risk(&self) -> f64 {
        let j = self.opened.max(1) as f64;
        FALSE_PROPOSALS * 6.0 / (std::f64::consts::PI * j).powi(2)
    }

    /// A candidate around one input, with how much its looks may be expected to bring.
    fn candidate(&self, known: &Known, place: usize) -> Option<(f64, Candidate)> {
        let seed = self.window.get(place)?;
        let mut near: Vec<(f32, usize)> = self
            .window
            .iter()
            .enumerate()
            .map(|(other, look)| (dot(&seed.vector, &look.vector), other))
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut centre = vec![0.0f32; known.width];
        for look in near.iter().take(NEIGHBOURS + 1).filter_map(|(_, other)| self.window.get(*other)) {
            centre
                .iter_mut()
                .zip(&look.vector)
                .for_each(|(sum, value)| *sum += value / (NEIGHBOURS + 1) as f32);
        }
        let (centre, form, belong) = self.settle(known, &centre);
        let rows: f32 = belong.iter().sum();
        if f64::from(rows) < FEWEST
            || self.candidates.iter().any(|other| alike(&other.centre, &centre) > 0.95)
        {
            return None;
        }
        let margins = known.reference_margins(&form);
        // Half of the reference rows choose the region, the other half say what it holds.
        let mut chosen: Vec<f32> = margins.iter().step_by(2).copied().collect();
        chosen.sort_by(|a, b| b.total_cmp(a));
        let least = chosen.get((chosen.len() as f64 * HELD) as usize).copied()?.max(0.0);
        let judged: Vec<f32> = margins.iter().skip(1).step_by(2).copied().collect();
        let inside = judged.iter().filter(|margin| **margin > least).count() as u64;
        let j = (self.opened + 1) as f64;
        let risk = FALSE_PROPOSALS * 6.0 / (std::f64::consts::PI * j).powi(2);
        let bound = binomial::upper_bound(inside, judged.len() as u64, 1.0 - risk / 2.0);
        let own = known.width as f32 / rows.max(1.0);
        let seen = self
            .window
            .iter()
            .zip(&belong)
            .filter(|(look, r)| form.value(&look.vector) - look.fit - own * **r > least);
        let share = 0.8 * seen.count() as f64 / self.window.len() as f64;
        let old = (GROWTH * bound).min(0.5);
        if share <= 1.3 * old {
            return None;
        }
        let gain = share * (share / old).ln() + (1.0 - share) * ((1.0 - share) / (1.0 - old)).ln();
        let shares = (old, share.min(0.9));
        Some((
            gain,
            Candidate { form, centre, least, shares, log_worth: 0.0, needed: f64::INFINITY, looks: 0 },
        ))
    }
}

/// The cosine of two vectors.
fn alike(a: &[f32], b: &[f32]) -> f32 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::{known::inverse, *};
    use crate::random::Random;
    use proptest::prelude::*;

    const WIDTH: usize = 12;

    /// A point of a class: the classes lie in pairs, whose members are near each other.
    fn point(class: usize, random: &mut Random) -> Vec<f32> {
        let mut noise = || (0..6).map(|_| random.uniform() as f32 - 0.5).sum::<f32>() * 0.35;
        let at = |d: usize| {
            if d == class / 2 {
                2.0
            } else if d == 6 + class / 2 && class % 2 == 1 {
                1.0
            } else {
                0.0
            }
        };
        (0..WIDTH).map(|d| at(d) + noise()).collect()
    }

    fn known(classes: usize, random: &mut Random) -> Known {
        let labels: Vec<u16> = (0..2_400).map(|_| random.below(classes) as u16).collect();
        let vectors: Vec<f32> = labels.iter().flat_map(|class| point(usize::from(*class), random)).collect();
        Known::fit(&vectors, WIDTH, &labels).unwrap()
    }

    #[test]
    fn a_class_beside_a_known_one_is_proposed_and_told_from_it() {
        let mut random = Random::new(2);
        let known = known(7, &mut random);
        let mut watch = Watch::default();
        let mut truth = Vec::new();
        let mut when = None;
        for at in 0..1_000u64 {
            // The eighth class is the neighbour of the seventh.
            let class = if random.uniform() < 0.1 { 7 } else { random.below(7) };
            truth.push(class);
            if watch.look(&known, at, &point(class, &mut random)) {
                when = when.or(Some(at));
            }
        }
        assert!(when.is_some_and(|when| when < 900), "{when:?}");
        let cluster = &watch.clusters()[0];
        let pure = cluster.members.iter().filter(|id| truth[**id as usize] == 7).count();
        assert!(pure as f64 > 0.85 * cluster.members.len() as f64, "{pure} of {}", cluster.members.len());
        assert!((0.05..0.2).contains(&cluster.share), "{}", cluster.share);
        let border = known.border(&watch.vectors(cluster), 0.02);
        let mut within =
            |class| (0..500).filter(|_| known.within(&border, &point(class, &mut random))).count();
        let (new, neighbour, other) = (within(7), within(6), within(0));
        assert!(new > 450 && neighbour < 120 && other < 5, "{new} {neighbour} {other}");
        // By their directions alone, as vectors of encoders are told apart.
        let unit = |vector: Vec<f32>| {
            let length = dot(&vector, &vector).sqrt();
            vector.into_iter().map(|value| value / length).collect::<Vec<f32>>()
        };
        let labels: Vec<u16> = (0..2_400).map(|_| random.below(7) as u16).collect();
        let rows: Vec<f32> =
            labels.iter().flat_map(|class| unit(point(usize::from(*class), &mut random))).collect();
        let known = Known::fit(&rows, WIDTH, &labels).unwrap();
        let members: Vec<f32> = (0..60).flat_map(|_| unit(point(7, &mut random))).collect();
        let border = known.border_near(&members, 0.05);
        let mut within =
            |class| (0..500).filter(|_| known.within(&border, &unit(point(class, &mut random)))).count();
        let (new, other) = (within(7), within(0));
        assert!(new > 300 && other < 15, "{new} {other}");
        assert_eq!(known.border_near(&members[..WIDTH], 0.05), known.border(&members[..WIDTH], 0.05));
    }

    #[test]
    fn nothing_is_proposed_where_nothing_is_new_even_as_the_mix_moves() {
        let mut random = Random::new(3);
        let known = known(8, &mut random);
        let mut proposals = 0;
        for run in 0..20 {
            let mut watch = Watch::default();
            for at in 0..1_500 {
                // Every second run one class is twice as frequent.
                let class =
                    if run % 2 == 1 && random.uniform() < 0.125 { run / 2 % 8 } else { random.below(8) };
                watch.look(&known, at, &point(class, &mut random));
            }
            proposals += usize::from(!watch.clusters().is_empty());
        }
        assert!(proposals <= 1, "{proposals} of 20");
    }

    #[test]
    fn what_is_asked_over_and_over_is_no_new_kind() {
        let mut random = Random::new(6);
        let known = known(7, &mut random);
        let same: Vec<Vec<f32>> = (0..3).map(|_| point(7, &mut random)).collect();
        let mut watch = Watch::default();
        for at in 0..3_000u64 {
            let is_same = at % 3 == 0;
            let mut vector =
                if is_same { same[random.below(3)].clone() } else { point(random.below(7), &mut random) };
            // As it was read together with something else.
            vector[0] += 1e-6 * (at % 5) as f32;
            watch.look(&known, at, &vector);
            assert!(is_same || watch.latest() == Some(at));
        }
        assert_eq!((watch.looks(), watch.clusters().len()), (3_000, 0));
    }

    #[test]
    fn vectors_of_another_length_and_without_numbers_are_passed_over() {
        let known = known(4, &mut Random::new(1));
        let mut watch = Watch::default();
        assert!(!watch.look(&known, 1, &[1.0; 3]) && !watch.look(&known, 2, &[f32::NAN; WIDTH]));
        assert_eq!(watch.window.len(), 0);
        assert!(Known::fit(&[1.0; 40], 4, &[0; 10]).is_none() && Known::fit(&[], 4, &[]).is_none());
        assert!(!known.within(&known.border(&[], 0.02), &[0.0; 3]));
    }

    #[test]
    fn what_was_taken_apart_tells_the_same_and_what_does_not_fit_is_refused() {
        let mut random = Random::new(9);
        let known = known(4, &mut random);
        let again = Known::of_parts(known.parts()).unwrap();
        let point = point(2, &mut random);
        assert_eq!(again.distance(&point), known.distance(&point));
        assert!(known.distance(&point) < known.distance(&[3.0; WIDTH]));
        let parts = known.parts();
        assert!(Known::of_parts(KnownParts { offsets: Vec::new(), ..parts.clone() }).is_none());
        assert!(Known::of_parts(KnownParts { width: 0, ..parts.clone() }).is_none());
        assert!(Known::of_parts(KnownParts { references: vec![0.0; 5], ..parts }).is_none());
    }

    #[test]
    fn a_kind_that_was_proposed_before_is_not_proposed_again() {
        let mut random = Random::new(2);
        let known = known(7, &mut random);
        let centre = {
            let vectors: Vec<f32> = (0..200).flat_map(|_| point(7, &mut random)).collect();
            middle(&vectors, WIDTH).0
        };
        let mut watch = Watch::default();
        watch.resume(&known, &centre, 200.0, 0.1);
        for at in 0..1_000u64 {
            let class = if random.uniform() < 0.1 { 7 } else { random.below(7) };
            watch.look(&known, at, &point(class, &mut random));
        }
        assert_eq!(watch.clusters().len(), 1);
        assert!(watch.clusters()[0].members.len() > 40);
        watch.forget();
        assert!(watch.vectors(&watch.clusters()[0]).is_empty() && watch.looks() == 1_000);
    }

    proptest! {
        #[test]
        fn the_inverse_of_a_covariance_is_its_inverse(values in prop::collection::vec(-1.0f64..1.0, 6 * 9)) {
            let width = 6;
            let mut matrix = vec![0.0; width * width];
            for row in values.chunks_exact(width) {
                (0..width * width).for_each(|at| matrix[at] += row[at / width] * row[at % width]);
            }
            (0..width).for_each(|d| matrix[d * width + d] += 0.1);
            let found = inverse(matrix.clone(), width).unwrap();
            for row in 0..width {
                for column in 0..width {
                    let sum: f64 = (0..width).map(|k| matrix[row * width + k] * found[k * width + column]).sum();
                    prop_assert!((sum - f64::from(u8::from(row == column))).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let mut random = Random::new(5);
        let known = known(4, &mut random);
        let mut watch = Watch::default();
        for at in 0..1_300 {
            watch.look(&known, at, &point(at as usize % 6, &mut random));
            assert!(watch.window.len() <= WINDOW && watch.candidates.len() <= TESTED);
        }
    }
}
