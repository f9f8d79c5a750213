//! What do the inputs that a task knows look like, and where does a new kind of them end?
//!
//! Centres of classes and one covariance (linear discriminants), with reference rows that nothing here was fitted to: they alone say
//! how much of what is known a region holds.

use super::{
    REFERENCES, SHRINKAGE,
    packed::{Rows, Symmetric},
};
use crate::random::Random;
use std::sync::OnceLock;

/// What the training rows look like.
#[derive(Debug, Clone)]
pub struct Known {
    pub(super) width: usize,
    /// Inverse of the covariance within classes. `[width, width]`
    precision: Symmetric,
    pub(super) classes: Forms,
    /// Rows that nothing here was fitted to. `[references, width]`
    pub(super) references: Rows,
    /// How well each fits the class it fits best; not known before somebody asks, as most tasks never see anything new. `[references]`
    fits: OnceLock<Vec<f32>>,
    /// How near the nearest other reference rows are to each; not known before somebody asks. `[references]`
    crowds: OnceLock<Vec<f32>>,
}

/// The numbers that [`Known`] is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownParts {
    /// Length of the vectors.
    pub width: usize,
    /// Inverse of the covariance within classes. `[width, width]`
    pub precision: Vec<f32>,
    /// `[classes, width]`
    pub directions: Vec<f32>,
    /// `[classes]`
    pub offsets: Vec<f32>,
    /// `[references, width]`
    pub references: Vec<f32>,
}

/// Linear discriminants, one after the other.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Forms {
    /// `[forms, width]`
    directions: Vec<f32>,
    /// `[forms]`
    offsets: Vec<f32>,
}

pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0f32; LANES];
    let (left, right) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = left.remainder().iter().zip(right.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in left.zip(right) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + rest
}

impl Forms {
    fn push(&mut self, precision: &Symmetric, centre: &[f32], rows: f64) {
        let direction = precision.times(centre);
        // A centre of few rows lies too far out by its own noise, half a square for each dimension and row.
        let offset = 0.5 * (dot(&direction, centre) - direction.len() as f32 / rows.max(1.0) as f32);
        self.directions.extend(direction);
        self.offsets.push(offset);
    }

    /// The best value, with its place.
    pub(super) fn best(&self, vector: &[f32]) -> (usize, f32) {
        let values = self.directions.chunks_exact(vector.len().max(1)).zip(&self.offsets);
        values.map(|(direction, offset)| dot(direction, vector) - offset).enumerate().fold(
            (0, f32::NEG_INFINITY),
            |best, (place, value)| if value > best.1 { (place, value) } else { best },
        )
    }
}

impl Known {
    /// Fits centres and covariance to three quarters of the training rows, and keeps the rest, at most [`REFERENCES`], as reference.
    /// None where there are too few rows for either.
    ///
    /// **Shapes.** `vectors` is `[rows, width]`, `classes` is `[rows]`; a row without a class (`u16::MAX`) is reference alone.
    /// **Bounds.** Time is rows × width², once a release.
    #[must_use]
    pub fn fit(vectors: &[f32], width: usize, classes: &[u16]) -> Option<Self> {
        let rows = vectors.len() / width.max(1);
        // By chance, as tables are often sorted or dealt out by class.
        let mut random = Random::new(0x4ef);
        let drawn: Vec<bool> = (0..rows).map(|_| random.below(4) == 0).collect();
        let kept = |row: usize| drawn.get(row).copied().unwrap_or(false);
        let fitted = || {
            let rows = vectors.chunks_exact(width.max(1)).zip(classes).enumerate();
            rows.filter(|(row, (_, class))| !kept(*row) && **class != u16::MAX).map(|(_, row)| row)
        };
        let count = usize::from(classes.iter().copied().filter(|class| *class != u16::MAX).max()?) + 1;
        let mut centres = vec![0.0f32; count * width];
        let mut sizes = vec![0.0f64; count];
        for (vector, class) in fitted() {
            let class = usize::from(*class);
            *sizes.get_mut(class)? += 1.0;
            centres
                .get_mut(class * width..(class + 1) * width)?
                .iter_mut()
                .zip(vector)
                .for_each(|(c, v)| *c += v);
        }
        for (centre, size) in centres.chunks_exact_mut(width).zip(&sizes) {
            centre.iter_mut().for_each(|value| *value /= size.max(1.0) as f32);
        }
        let total: f64 = sizes.iter().sum();
        let references: Vec<&[f32]> = vectors
            .chunks_exact(width)
            .enumerate()
            .filter(|(row, _)| kept(*row))
            .map(|(_, vector)| vector)
            .collect();
        if total < 50.0 || references.len() < 50 || rows != classes.len() {
            return None;
        }
        let mut covariance = vec![0.0f32; width * width];
        let mut off = vec![0.0f32; width];
        for (vector, class) in fitted() {
            let centre = centres.get(usize::from(*class) * width..(usize::from(*class) + 1) * width)?;
            off.iter_mut().zip(vector.iter().zip(centre)).for_each(|(off, (v, c))| *off = v - c);
            for (at, row) in off.iter().zip(covariance.chunks_exact_mut(width)) {
                row.iter_mut().zip(&off).for_each(|(sum, other)| *sum += at * other);
            }
        }
        let free = (total - sizes.iter().filter(|size| **size > 0.0).count() as f64).max(1.0);
        let mut covariance: Vec<f64> = covariance.iter().map(|value| f64::from(*value) / free).collect();
        let mean = (0..width).filter_map(|d| covariance.get(d * width + d)).sum::<f64>() / width as f64;
        covariance.iter_mut().for_each(|value| *value *= 1.0 - SHRINKAGE);
        (0..width).for_each(|d| {
            if let Some(value) = covariance.get_mut(d * width + d) {
                *value += SHRINKAGE * mean + 1e-9;
            }
        });
        let precision: Vec<f32> = inverse(covariance, width)?.into_iter().map(|value| value as f32).collect();
        let precision = Symmetric::new(&precision, width);
        let mut forms = Forms::default();
        for (centre, size) in centres.chunks_exact(width).zip(&sizes).filter(|(_, size)| **size > 0.0) {
            forms.push(&precision, centre, *size);
        }
        let step = references.len().div_ceil(REFERENCES).max(1);
        let references: Vec<f32> = references.into_iter().step_by(step).flatten().copied().collect();
        Some(Self {
            width,
            precision,
            classes: forms,
            references: Rows::new(&references, width),
            fits: OnceLock::new(),
            crowds: OnceLock::new(),
        })
    }

    /// Puts together what [`Self::parts`] took apart; none where the lengths do not fit.
    #[must_use]
    pub fn of_parts(parts: KnownParts) -> Option<Self> {
        let KnownParts { width, precision, directions, offsets, references } = parts;
        let fits = width > 0
            && precision.len() == width * width
            && !offsets.is_empty()
            && directions.len() == offsets.len() * width
            && !references.is_empty()
            && references.len().is_multiple_of(width);
        if !fits {
            return None;
        }
        Some(Self {
            width,
            precision: Symmetric::new(&precision, width),
            classes: Forms { directions, offsets },
            references: Rows::new(&references, width),
            fits: OnceLock::new(),
            crowds: OnceLock::new(),
        })
    }

    /// Takes it apart into plain numbers.
    #[must_use]
    pub fn parts(&self) -> KnownParts {
        KnownParts {
            width: self.width,
            precision: self.precision.whole(),
            directions: self.classes.directions.clone(),
            offsets: self.classes.offsets.clone(),
            references: self.references.whole(),
        }
    }

    /// Length of the vectors.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The discriminant of a centre.
    pub(super) fn form(&self, centre: &[f32], rows: f64) -> Form {
        let mut forms = Forms::default();
        forms.push(&self.precision, centre, rows);
        Form { direction: forms.directions, offset: forms.offsets.first().copied().unwrap_or(0.0) }
    }

    /// By how much each reference row fits a form better than every class, least first.
    pub(super) fn reference_margins(&self, form: &Form) -> Vec<f32> {
        let fits = self
            .fits
            .get_or_init(|| self.references.iter().map(|vector| self.classes.best(&vector).1).collect());
        let values = self.references.products(&form.direction);
        values.zip(fits).map(|(value, fit)| value - form.offset - fit).collect()
    }

    /// A border around some vectors of one kind, with so wide a reach that at most `lost` of the reference rows are within.
    /// Fits the same kind in another space: that of the static tier, whose answers have no other vector.
    #[must_use]
    pub fn border(&self, members: &[f32], lost: f64) -> Border {
        let (centre, rows) = middle(members, self.width);
        self.border_around(&centre, rows, lost)
    }

    /// The same around the middle of so many vectors.
    #[must_use]
    pub fn border_around(&self, centre: &[f32], rows: f64, lost: f64) -> Border {
        let form = self.form(centre, rows);
        let least = reached(self.reference_margins(&form), lost);
        Border { shape: Shape::Form(form), least }
    }

    /// A border by the nearest of some vectors of unit length of one kind, against the nearest reference rows, with the same reach: where
    /// there are vectors enough it follows the kind's own shape, which no covariance of the known classes tells.
    ///
    /// **Bounds.** Time is references × (members + references) × width the first time, references × members × width from then on.
    #[must_use]
    pub fn border_near(&self, members: &[f32], lost: f64) -> Border {
        if members.len() < NEAREST * self.width {
            return self.border(members, lost);
        }
        let rows = || self.references.iter();
        let crowds = self
            .crowds
            .get_or_init(|| rows().enumerate().map(|(row, vector)| self.crowd(&vector, Some(row))).collect());
        let margins = rows().zip(crowds).map(|(vector, crowd)| nearness_to(members, &vector) - crowd);
        Border { least: reached(margins.collect(), lost), shape: Shape::Members(members.to_vec()) }
    }

    /// How far a point is from the class that it is nearest to, in squares of the deviation within classes; none where it is no point
    /// of this space.
    #[must_use]
    pub fn distance(&self, point: &[f32]) -> Option<f64> {
        if point.len() != self.width || point.iter().any(|value| !value.is_finite()) {
            return None;
        }
        // Of endless many rows: without what is taken off for noise.
        let own = self.form(point, f64::INFINITY);
        Some((2.0 * f64::from(own.value(point) - self.classes.best(point).1)).max(0.0))
    }

    /// Whether a vector is within a border.
    #[must_use]
    pub fn within(&self, border: &Border, vector: &[f32]) -> bool {
        self.within_any(std::iter::once(border), vector)
    }

    /// Whether a vector is within one of some borders.
    #[must_use]
    pub fn within_any<'b>(&self, borders: impl Iterator<Item = &'b Border>, vector: &[f32]) -> bool {
        let mut borders = borders.peekable();
        if vector.len() != self.width || borders.peek().is_none() {
            return false;
        }
        // Once for all borders, and not where none asks.
        let (mut fit, mut crowd) = (None, None);
        borders.any(|border| {
            let margin = match &border.shape {
                Shape::Form(form) => {
                    form.value(vector) - *fit.get_or_insert_with(|| self.classes.best(vector).1)
                }
                Shape::Members(members) => {
                    let crowd = crowd.get_or_insert_with(|| self.crowd(vector, None));
                    nearness_to(members, vector) - *crowd
                }
            };
            margin > border.least
        })
    }

    /// How near a vector is to the reference rows, of which one may be left out.
    fn crowd(&self, vector: &[f32], except: Option<usize>) -> f32 {
        nearness(self.references.products(vector), except)
    }
}

/// The middle of some vectors, and of how many. `[width]`
#[must_use]
pub fn middle(members: &[f32], width: usize) -> (Vec<f32>, f64) {
    let rows = members.len() / width.max(1);
    let mut centre = vec![0.0f32; width];
    for vector in members.chunks_exact(width.max(1)) {
        centre.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value / rows.max(1) as f32);
    }
    (centre, rows as f64)
}

/// One linear discriminant.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Form {
    direction: Vec<f32>,
    offset: f32,
}

impl Form {
    pub(super) fn value(&self, vector: &[f32]) -> f32 {
        dot(&self.direction, vector) - self.offset
    }
}

/// Where a kind ends: how much better than everything known a vector must fit it.
#[derive(Debug, Clone, PartialEq)]
pub struct Border {
    shape: Shape,
    least: f32,
}

#[derive(Debug, Clone, PartialEq)]
enum Shape {
    /// Better than every class.
    Form(Form),
    /// Nearer to these than to reference rows. `[members, width]`
    Members(Vec<f32>),
}

/// Rows that tell how near some rows are.
const NEAREST: usize = 5;

/// The mean cosine of a vector to the nearest of some rows; all of unit length.
fn nearness_to(rows: &[f32], vector: &[f32]) -> f32 {
    nearness(rows.chunks_exact(vector.len().max(1)).map(|row| dot(vector, row)), None)
}

/// The mean of the largest of some rows' cosines, of which one may be left out.
fn nearness(cosines: impl Iterator<Item = f32>, except: Option<usize>) -> f32 {
    let mut nearest = [f32::NEG_INFINITY; NEAREST];
    for (row, cosine) in cosines.enumerate() {
        if Some(row) == except || nearest.last().is_none_or(|last| cosine <= *last) {
            continue;
        }
        let at = nearest.partition_point(|known| *known >= cosine);
        if let Some(rest) = nearest.get_mut(at..) {
            rest.rotate_right(1);
            if let Some(first) = rest.first_mut() {
                *first = cosine;
            }
        }
    }
    let found = nearest.iter().filter(|cosine| cosine.is_finite());
    found.clone().sum::<f32>() / found.count().max(1) as f32
}

/// The margin beyond which so large a share of the reference rows lies.
fn reached(mut margins: Vec<f32>, lost: f64) -> f32 {
    margins.sort_by(|a, b| b.total_cmp(a));
    margins.get((margins.len() as f64 * lost) as usize).copied().unwrap_or(0.0)
}

/// The inverse of a symmetric positive matrix, by its Cholesky factor.
pub(super) fn inverse(mut matrix: Vec<f64>, width: usize) -> Option<Vec<f64>> {
    // The factor replaces the lower triangle.
    for column in 0..width {
        for row in column..width {
            let (a, b) = (
                matrix.get(row * width..row * width + column)?,
                matrix.get(column * width..column * width + column)?,
            );
            let sum: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
            let value = matrix.get(row * width + column)? - sum;
            let entry = if row == column {
                if value <= 0.0 {
                    return None;
                }
                value.sqrt()
            } else {
                value / matrix.get(column * width + column)?
            };
            *matrix.get_mut(row * width + column)? = entry;
        }
    }
    // The inverse of the factor, then its square. `[row of the factor's inverse][column]`
    let mut factor = vec![0.0f64; width * width];
    for column in 0..width {
        *factor.get_mut(column * width + column)? = 1.0 / matrix.get(column * width + column)?;
        for row in column + 1..width {
            let sum: f64 = (column..row)
                .map(|k| {
                    matrix
                        .get(row * width + k)
                        .zip(factor.get(k * width + column))
                        .map_or(0.0, |(a, b)| a * b)
                })
                .sum();
            *factor.get_mut(row * width + column)? = -sum / matrix.get(row * width + row)?;
        }
    }
    let mut inverse = vec![0.0f64; width * width];
    for row in factor.chunks_exact(width) {
        for (at, out) in row.iter().zip(inverse.chunks_exact_mut(width)).filter(|(at, _)| **at != 0.0) {
            out.iter_mut().zip(row).for_each(|(sum, value)| *sum += at * value);
        }
    }
    Some(inverse)
}
