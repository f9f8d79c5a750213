//! What happens to a task while a new kind of input comes?

use sizewise_measure::{
    kinds::{Known, Watch},
    random::Random,
};

/// How a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    /// Nobody is sure.
    Not,
    Static {
        right: bool,
    },
    Encoder {
        right: bool,
    },
}

/// A trained and certified task, and everything that may come.
pub(crate) struct Study {
    pub(crate) width: usize,
    /// The encoder's last layer for every text. `[texts, width]`
    pub(crate) vectors: Vec<f32>,
    pub(crate) static_width: usize,
    /// `[texts, static_width]`
    pub(crate) fixed: Vec<f32>,
    /// What the certified cascade answers. `[texts]`
    pub(crate) answered: Vec<Answered>,
    /// Training rows with their classes.
    pub(crate) train: Vec<(usize, u16)>,
    /// Texts of the known classes that come.
    pub(crate) old: Vec<usize>,
    /// Texts of each class that was left out.
    pub(crate) new: Vec<Vec<usize>>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Share of the requests that are looked at.
    pub(crate) looked: f64,
    /// Share of known inputs that the border may cost.
    pub(crate) lost: f64,
    /// Share of known inputs that the border in the static tier's space may send to the encoder.
    pub(crate) sent: f64,
}

/// Requests until a cluster must have been proposed, and all.
pub(crate) const BEFORE: usize = 1_000;
pub(crate) const ALL: usize = 3_000;

#[derive(Debug, Default, Clone)]
pub(crate) struct Played {
    /// After how many requests the first cluster was proposed.
    pub(crate) proposed: Option<usize>,
    /// Share of the first cluster's members that are of the new class.
    pub(crate) purity: f64,
    pub(crate) clusters: usize,
    /// New ones after [`BEFORE`]: all, answered without a watch, answered with one.
    pub(crate) new: [usize; 3],
    /// Known ones after [`BEFORE`], the same.
    pub(crate) old: [usize; 3],
    /// Requests after [`BEFORE`] that the encoder read because of the static border.
    pub(crate) sent: usize,
    pub(crate) look_us: f64,
    pub(crate) examples: Vec<usize>,
}

pub(crate) struct Both {
    pub(crate) encoder: Known,
    pub(crate) fixed: Known,
}

impl Study {
    pub(crate) fn known(&self) -> Option<Both> {
        let mut rows = self.train.clone();
        Random::new(9).shuffle(&mut rows);
        let classes: Vec<u16> = rows.iter().map(|(_, class)| *class).collect();
        let gather = |values: &[f32], width: usize| -> Vec<f32> {
            rows.iter().flat_map(|(row, _)| values[row * width..(row + 1) * width].iter().copied()).collect()
        };
        Some(Both {
            encoder: Known::fit(&gather(&self.vectors, self.width), self.width, &classes)?,
            fixed: Known::fit(&gather(&self.fixed, self.static_width), self.static_width, &classes)?,
        })
    }

    fn vector(&self, row: usize) -> &[f32] {
        &self.vectors[row * self.width..(row + 1) * self.width]
    }

    fn fixed(&self, row: usize) -> &[f32] {
        &self.fixed[row * self.static_width..(row + 1) * self.static_width]
    }

    /// Three thousand requests, a tenth of them of a class that was left out; its texts before and after [`BEFORE`] are not the same ones.
    pub(crate) fn traffic(&self, class: usize, seed: u64) -> Vec<(usize, bool)> {
        let mut random = Random::new(seed);
        let (mut old, mut new) = (self.old.clone(), self.new[class].clone());
        random.shuffle(&mut old);
        random.shuffle(&mut new);
        let (early, late) = new.split_at(new.len() / 2);
        let mut old = old.into_iter();
        (0..ALL)
            .map(|at| {
                let texts = if at < BEFORE { early } else { late };
                if random.uniform() < 0.1 {
                    return (texts[random.below(texts.len())], true);
                }
                // Each text once; a few of those that come again are drawn.
                (old.next().unwrap_or_else(|| self.old[random.below(self.old.len())]), false)
            })
            .collect()
    }

    pub(crate) fn play(
        &self,
        both: &Both,
        traffic: &[(usize, bool)],
        settings: Settings,
        seed: u64,
    ) -> Played {
        let mut random = Random::new(seed ^ 0x100c);
        let mut watch = Watch::default();
        let mut played = Played::default();
        let mut borders = Vec::new();
        let mut spent = 0.0;
        let mut looks = 0;
        for (at, (row, is_new)) in traffic.iter().enumerate() {
            let answered = self.answered[*row];
            if at >= BEFORE {
                let counts = if *is_new { &mut played.new } else { &mut played.old };
                counts[0] += 1;
                counts[1] += usize::from(answered != Answered::Not);
                let reached = match answered {
                    Answered::Not => false,
                    Answered::Encoder { .. } => true,
                    Answered::Static { .. } => {
                        let near =
                            borders.iter().any(|(_, fixed)| both.fixed.within(fixed, self.fixed(*row)));
                        played.sent += usize::from(near);
                        near
                    }
                };
                let stopped = reached
                    && borders.iter().any(|(border, _)| both.encoder.within(border, self.vector(*row)));
                counts[2] += usize::from(answered != Answered::Not && !stopped);
            }
            if random.uniform() >= settings.looked {
                continue;
            }
            let began = std::time::Instant::now();
            let proposed = watch.look(&both.encoder, at as u64, self.vector(*row));
            looks += 1;
            spent += began.elapsed().as_secs_f64();
            if proposed && played.proposed.is_none() {
                played.proposed = Some(at + 1);
                if let Some(cluster) = watch.clusters().first() {
                    let of = cluster.members.iter().filter(|id| traffic[**id as usize].1).count();
                    played.purity = of as f64 / cluster.members.len().max(1) as f64;
                    played.examples =
                        cluster.members.iter().take(5).map(|id| traffic[*id as usize].0).collect();
                }
            }
            if proposed || (looks % 50 == 0 && !watch.clusters().is_empty()) {
                borders = watch
                    .clusters()
                    .iter()
                    .map(|cluster| {
                        let rows = cluster.members.iter().map(|id| traffic[*id as usize].0);
                        let (mut vectors, mut fixed) = (Vec::new(), Vec::new());
                        for row in rows {
                            vectors.extend_from_slice(self.vector(row));
                            fixed.extend_from_slice(self.fixed(row));
                        }
                        (
                            both.encoder.border_near(&vectors, settings.lost),
                            both.fixed.border(&fixed, settings.sent),
                        )
                    })
                    .collect();
            }
        }
        played.clusters = watch.clusters().len();
        played.look_us = spent * 1e6 / looks.max(1) as f64;
        played
    }
}
