//! Which texts are worth a label first?
//!
//! Nothing is known at first, so the first round covers the pool: texts are drawn far from each other and from what has a
//! label (k-means++, Arthur and Vassilvitskii 2007), the centres settle, and the text nearest to each is taken: k-centre
//! alone would take the oddest ones. Every later round looks at the texts whose two likeliest classes are closest (margin,
//! Scheffer et al. 2001), groups those that say the same, and takes the least certain of each group.

use super::quick::Vectors;
use ndarray::{ArrayView2, ArrayViewMut2, linalg::general_mat_mul};
use sizewise_measure::random::Random;

/// Uncertain texts that are looked at for one that is taken.
const CANDIDATES: usize = 4;
/// How often centres are moved to the middle of their texts.
const MOVES: usize = 4;
/// Most texts that are clustered together; of more, a random sample.
const CLUSTERED: usize = 20_000;

/// Texts that cover the pool and what is labelled leaves open. `pool` are rows of the vectors.
#[must_use]
pub fn coverage(
    vectors: &Vectors,
    pool: &[usize],
    labelled: &[usize],
    count: usize,
    seed: u64,
) -> Vec<usize> {
    let mut pool = pool.to_vec();
    let mut random = Random::new(seed ^ 0xc0fe);
    random.shuffle(&mut pool);
    pool.truncate(CLUSTERED.max(count));
    let points = Points { values: &vectors.near_of(&pool), width: vectors.near_dimensions() };
    let clusters = Clusters::of(points, &vectors.near_of(labelled), count, &mut random);
    clusters.take(|place| -clusters.nearness(place), &pool)
}

/// The texts with the smallest margins, no two alike. `margins` are those of the pool, in its order.
#[must_use]
pub fn uncertain(vectors: &Vectors, pool: &[usize], margins: &[f32], count: usize, seed: u64) -> Vec<usize> {
    let mut margins: Vec<(f32, usize)> = margins.iter().copied().zip(pool.iter().copied()).collect();
    margins.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    margins.truncate((count * CANDIDATES).min(CLUSTERED.max(count)));
    let rows: Vec<usize> = margins.iter().map(|(_, row)| *row).collect();
    if rows.len() <= count {
        return rows;
    }
    let mut random = Random::new(seed ^ 0x3a9);
    let points = Points { values: &vectors.near_of(&rows), width: vectors.near_dimensions() };
    let clusters = Clusters::of(points, &[], count, &mut random);
    clusters.take(|place| margins.get(place).map_or(f32::INFINITY, |(margin, _)| *margin), &rows)
}

/// Unit vectors, one after the other. `[rows, width]`
#[derive(Clone, Copy)]
pub(crate) struct Points<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) width: usize,
}

/// Rows with the centre that each is nearest to.
pub(crate) struct Clusters {
    of: Vec<usize>,
    /// How near each row is to its centre. `[rows]`
    nearness: Vec<f32>,
    count: usize,
}

impl Clusters {
    /// Groups points around `count` centres that are far from each other and from what is `known`.
    pub(crate) fn of(points: Points<'_>, known: &[f32], count: usize, random: &mut Random) -> Self {
        let Points { values: points, width } = points;
        let rows = points.len() / width.max(1);
        let mut centres = spread(points, width, known, count.min(rows), random);
        let mut clusters = Self { of: Vec::new(), nearness: Vec::new(), count: centres.len() / width.max(1) };
        for _ in 0..MOVES {
            (clusters.of, clusters.nearness) = nearest(points, &centres, width);
            let mut sums = vec![0.0f32; centres.len()];
            for (point, cluster) in points.chunks_exact(width).zip(&clusters.of) {
                if let Some(sum) = sums.get_mut(cluster * width..(cluster + 1) * width) {
                    sum.iter_mut().zip(point).for_each(|(sum, value)| *sum += value);
                }
            }
            for (centre, sum) in centres.chunks_exact_mut(width).zip(sums.chunks_exact(width)) {
                let length = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
                if length > 1e-6 {
                    centre.iter_mut().zip(sum).for_each(|(centre, value)| *centre = value / length);
                }
            }
        }
        (clusters.of, clusters.nearness) = nearest(points, &centres, width);
        clusters
    }

    fn nearness(&self, place: usize) -> f32 {
        self.nearness.get(place).copied().unwrap_or(0.0)
    }

    /// The row with the least cost of every cluster; then, where clusters are empty, the cheapest of the others.
    pub(crate) fn take(&self, cost: impl Fn(usize) -> f32, rows: &[usize]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by(|a, b| cost(*a).total_cmp(&cost(*b)).then(a.cmp(b)));
        let mut full = vec![false; self.count];
        let (first, rest): (Vec<usize>, Vec<usize>) = order.into_iter().partition(|place| {
            let slot = self.of.get(*place).and_then(|cluster| full.get_mut(*cluster));
            slot.is_some_and(|full| !std::mem::replace(full, true))
        });
        let chosen = first.into_iter().chain(rest).take(self.count);
        chosen.filter_map(|place| rows.get(place).copied()).collect()
    }
}

/// Draws centres among the points, each with a chance that grows with its distance to those drawn and to `known`.
fn spread(points: &[f32], width: usize, known: &[f32], count: usize, random: &mut Random) -> Vec<f32> {
    let rows = points.len() / width.max(1);
    let mut distance: Vec<f32> = match known.is_empty() {
        true => vec![2.0; rows],
        false => nearest(points, known, width).1.iter().map(|near| (2.0 - 2.0 * near).max(0.0)).collect(),
    };
    let mut centres = Vec::with_capacity(count * width);
    for _ in 0..count {
        let total: f64 = distance.iter().map(|d| f64::from(*d)).sum();
        let mut at = random.uniform() * total;
        let drawn = distance.iter().position(|d| {
            at -= f64::from(*d);
            at < 0.0
        });
        let drawn = drawn.unwrap_or_else(|| random.below(rows.max(1)));
        let Some(centre) = points.get(drawn * width..(drawn + 1) * width) else { break };
        centres.extend_from_slice(centre);
        for (point, distance) in points.chunks_exact(width).zip(&mut distance) {
            let near: f32 = point.iter().zip(centre).map(|(a, b)| a * b).sum();
            *distance = distance.min((2.0 - 2.0 * near).max(0.0));
        }
    }
    centres
}

/// The nearest centre of every point, and the cosine to it.
fn nearest(points: &[f32], centres: &[f32], width: usize) -> (Vec<usize>, Vec<f32>) {
    const BLOCK: usize = 512;
    let count = centres.len() / width.max(1);
    let (mut of, mut nearness) = (Vec::new(), Vec::new());
    let mut products = vec![0.0f32; BLOCK * count];
    for block in points.chunks(BLOCK * width.max(1)) {
        let rows = block.len() / width.max(1);
        let Some(products) = products.get_mut(..rows * count) else { break };
        let shapes = (
            ArrayView2::from_shape((rows, width), block),
            ArrayView2::from_shape((count, width), centres),
            ArrayViewMut2::from_shape((rows, count), &mut *products),
        );
        if let (Ok(block), Ok(centres), Ok(mut products)) = shapes {
            general_mat_mul(1.0, &block, &centres.t(), 0.0, &mut products);
        }
        for row in products.chunks_exact(count.max(1)) {
            let (cluster, near) = super::quick::best(row);
            of.push(cluster);
            nearness.push(near);
        }
    }
    (of, nearness)
}

#[cfg(test)]
mod tests {
    use super::{
        super::quick::{Quick, tests::clouds},
        *,
    };
    use std::{collections::BTreeSet, sync::atomic::AtomicBool};

    #[test]
    fn the_first_round_covers_every_cloud_and_takes_nothing_twice() {
        let (vectors, truth) = clouds(800, 8, 0.2);
        let pool: Vec<usize> = (0..800).collect();
        let taken = coverage(&vectors, &pool, &[], 16, 1);
        assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 16);
        assert_eq!(taken.iter().map(|row| truth[*row]).collect::<BTreeSet<_>>().len(), 8);
        assert_eq!(taken, coverage(&vectors, &pool, &[], 16, 1));
    }

    #[test]
    fn what_is_labelled_already_is_not_covered_again() {
        let (vectors, truth) = clouds(800, 8, 0.1);
        let known: Vec<usize> = (0..800).filter(|row| truth[*row] < 6).take(60).collect();
        let pool: Vec<usize> = (0..800).filter(|row| !known.contains(row)).collect();
        let taken = coverage(&vectors, &pool, &known, 10, 1);
        let new: BTreeSet<u16> = taken.iter().map(|row| truth[*row]).filter(|class| *class >= 6).collect();
        assert_eq!(new.len(), 2, "both of the unknown clouds");
    }

    #[test]
    fn later_rounds_take_what_lies_between_classes() {
        let (vectors, truth) = clouds(600, 3, 1.2);
        let labelled: Vec<(usize, u16)> = truth.iter().copied().enumerate().take(60).collect();
        let quick = Quick::fit(&vectors, &labelled, 3, &AtomicBool::new(false)).unwrap();
        let pool: Vec<usize> = (60..600).collect();
        let margins = quick.margins(&vectors, &pool);
        let taken = uncertain(&vectors, &pool, &margins, 30, 1);
        assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 30);
        let mean = |rows: &[usize]| quick.margins(&vectors, rows).iter().sum::<f32>() / rows.len() as f32;
        assert!(mean(&taken) < 0.6 * mean(&pool), "{} {}", mean(&taken), mean(&pool));
        assert_eq!(uncertain(&vectors, &pool[..7], &margins[..7], 30, 1).len(), 7);
        assert!(uncertain(&vectors, &[], &[], 30, 1).is_empty());
    }
}
