//! Which tags fit a text best, taken together?
//!
//! Viterbi's algorithm over tags "outside", "begins X" and "goes on with X"; nothing goes on that was not begun.

use super::TAGS;

/// What is said for one tag after another.
#[derive(Debug, Clone)]
pub struct Links {
    /// `[tag, tag before]`, so that what is compared lies together.
    after: Vec<[f32; TAGS]>,
    first: [f32; TAGS],
}

impl Links {
    /// From `[TAGS + 1, TAGS]`: a row for every tag before, the last row for the beginning. None for another length.
    #[must_use]
    pub fn new(links: Vec<f32>) -> Option<Self> {
        if links.len() != (TAGS + 1) * TAGS {
            return None;
        }
        let mut after = vec![[f32::NEG_INFINITY; TAGS]; TAGS];
        let mut first = [f32::NEG_INFINITY; TAGS];
        for (place, link) in links.into_iter().enumerate() {
            let (before, tag) = (place / TAGS, place % TAGS);
            if before == TAGS {
                if !goes_on(tag)
                    && let Some(first) = first.get_mut(tag)
                {
                    *first = link;
                }
            } else if let Some(slot) = after.get_mut(tag).and_then(|row| row.get_mut(before))
                && (!goes_on(tag) || before == tag || before + 1 == tag)
            {
                *slot = link;
            }
        }
        Some(Self { after, first })
    }
}

fn goes_on(tag: usize) -> bool {
    tag > 0 && tag.is_multiple_of(2)
}

/// The best tags for words with these scores, `[words, TAGS]`.
#[must_use]
pub fn best_path(scores: &[[f32; TAGS]], links: &Links) -> Vec<u8> {
    let Some((head, rest)) = scores.split_first() else { return Vec::new() };
    let mut best = [0.0f32; TAGS];
    for ((best, score), link) in best.iter_mut().zip(head).zip(&links.first) {
        *best = score + link;
    }
    let mut came_from: Vec<[u8; TAGS]> = Vec::with_capacity(rest.len());
    for scores in rest {
        let (mut next, mut from) = ([f32::NEG_INFINITY; TAGS], [0u8; TAGS]);
        for (tag, (((next, from), score), links)) in
            next.iter_mut().zip(&mut from).zip(scores).zip(&links.after).enumerate()
        {
            // What goes on has two tags that it may follow; anything else has all of them.
            let possible = if goes_on(tag) { tag - 1..tag + 1 } else { 0..TAGS };
            for before in possible {
                let (Some(best), Some(link)) = (best.get(before), links.get(before)) else { continue };
                if best + link > *next {
                    (*next, *from) = (best + link, before as u8);
                }
            }
            *next += score;
        }
        best = next;
        came_from.push(from);
    }
    let last = best
        .iter()
        .enumerate()
        .fold((0, f32::NEG_INFINITY), |top, (tag, score)| if *score > top.1 { (tag, *score) } else { top });
    let mut path = vec![last.0 as u8];
    for from in came_from.iter().rev() {
        let tag = path.last().copied().unwrap_or(0);
        path.push(from.get(usize::from(tag)).copied().unwrap_or(0));
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(path: &[u8], scores: &[[f32; TAGS]], flat: &[f32]) -> f32 {
        let mut before = TAGS;
        path.iter().zip(scores).fold(0.0, |sum, (tag, scores)| {
            let tag = usize::from(*tag);
            let sum = sum + scores[tag] + flat[before * TAGS + tag];
            before = tag;
            sum
        })
    }

    proptest::proptest! {
        #[test]
        fn no_allowed_path_is_better(seed in 0u64..5_000, other in proptest::collection::vec(0usize..TAGS, 6)) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / 1e6
            };
            let flat: Vec<f32> = (0..(TAGS + 1) * TAGS).map(|_| next()).collect();
            let scores: Vec<[f32; TAGS]> = (0..6).map(|_| [(); TAGS].map(|()| next())).collect();
            let path = best_path(&scores, &Links::new(flat.clone()).unwrap());
            let allowed = |path: &[u8]| {
                let before = std::iter::once(0).chain(path.iter().copied());
                before.zip(path).all(|(before, tag)| {
                    tag % 2 == 1 || *tag == 0 || before == *tag || before + 1 == *tag
                })
            };
            proptest::prop_assert!(allowed(&path));
            let other: Vec<u8> = other.into_iter().map(|tag| tag as u8).collect();
            if allowed(&other) {
                proptest::prop_assert!(score(&path, &scores, &flat) >= score(&other, &scores, &flat) - 1e-3);
            }
        }
    }
}
