//! Which of a teacher's labels are probably wrong?
//!
//! Every row is judged by a head that was not fitted to it (confident learning, Northcutt et al. 2021). Labels that another class
//! leads are doubted, the clearest first, and no more of them than the teacher is known to get wrong: rows that were chosen
//! because they are hard are doubted often and rightly labelled mostly, and to lose them cost BANKING77 more than a point. Gold
//! rows help to judge and are never doubted.

use super::quick::{Quick, Vectors, best};
use sizewise_measure::random::Random;
use std::sync::atomic::AtomicBool;

/// Parts that take turns in being judged.
const FOLDS: usize = 5;
/// From which lead of another class on a label is doubted.
const LEAD: f32 = 0.3;

/// A label that is doubted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Doubt {
    /// Position among the labelled rows.
    pub place: usize,
    /// The class that seems right.
    pub instead: usize,
    /// How far it is ahead of the label.
    pub lead: f32,
}

/// Doubts labels of rows, the most doubtful first; `is_gold` are those that a person checked, and `wrong` is the share of the
/// others that is expected to be wrong. None when `stop` was raised.
#[must_use]
pub fn doubts(
    vectors: &Vectors,
    labelled: &[(usize, u16)],
    is_gold: &dyn Fn(usize) -> bool,
    (classes, wrong): (usize, f64),
    stop: &AtomicBool,
) -> Option<Vec<Doubt>> {
    let teachers = (0..labelled.len()).filter(|place| !is_gold(*place)).count();
    let most = (wrong.clamp(0.0, 1.0) * teachers as f64).round() as usize;
    if most == 0 {
        return Some(Vec::new());
    }
    let mut order: Vec<usize> = (0..labelled.len()).collect();
    Random::new(0xd0b7).shuffle(&mut order);
    let mut found = Vec::new();
    for fold in 0..FOLDS {
        let held = |turn: usize| turn % FOLDS == fold;
        let part = |wanted: bool| {
            let places = order.iter().enumerate().filter(move |(turn, _)| held(*turn) == wanted);
            places.map(|(_, place)| *place).collect::<Vec<_>>()
        };
        let (fitted, judged) = (part(false), part(true));
        let fitted: Vec<(usize, u16)> =
            fitted.iter().filter_map(|place| labelled.get(*place).copied()).collect();
        if fitted.is_empty() {
            continue;
        }
        let judged: Vec<usize> = judged.into_iter().filter(|place| !is_gold(*place)).collect();
        let rows: Vec<usize> = judged.iter().filter_map(|place| labelled.get(*place)).map(|l| l.0).collect();
        let head = Quick::fit(vectors, &fitted, classes, stop)?;
        let all = head.probabilities(vectors, &rows);
        for (place, probabilities) in judged.into_iter().zip(all.chunks_exact(classes.max(1))) {
            let given = labelled.get(place).and_then(|(_, class)| probabilities.get(usize::from(*class)));
            let (instead, highest) = best(probabilities);
            let ahead = highest - given.copied().unwrap_or(0.0);
            if ahead >= LEAD {
                found.push(Doubt { place, instead, lead: ahead });
            }
        }
    }
    found.sort_by(|a: &Doubt, b| b.lead.total_cmp(&a.lead).then(a.place.cmp(&b.place)));
    found.truncate(most);
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::{super::quick::tests::clouds, *};

    #[test]
    fn wrong_labels_are_doubted_and_gold_is_not() {
        let (vectors, truth) = clouds(400, 4, 0.4);
        let mut labelled: Vec<(usize, u16)> = truth.iter().copied().enumerate().collect();
        for (_, class) in labelled.iter_mut().step_by(10) {
            *class = (*class + 1) % 4;
        }
        let stop = AtomicBool::new(false);
        let is_wrong = |place: usize| place.is_multiple_of(10);
        let found = doubts(&vectors, &labelled, &|place| place == 0, (4, 0.1), &stop).unwrap();
        let really: Vec<&Doubt> = found.iter().filter(|doubt| is_wrong(doubt.place)).collect();
        assert!(
            really.len() >= 28 && really.len() * 10 >= found.len() * 8,
            "{} of {}",
            really.len(),
            found.len()
        );
        assert!(really.iter().all(|doubt| doubt.instead == usize::from(truth[doubt.place])));
        assert!(found.iter().all(|doubt| doubt.place != 0), "a person checked it");
        assert_eq!(
            doubts(&vectors, &labelled, &|_| false, (4, 0.05), &stop).unwrap().len(),
            20,
            "no more than expected"
        );
        assert!(doubts(&vectors, &labelled, &|_| false, (4, 0.0), &stop).unwrap().is_empty());
    }
}
