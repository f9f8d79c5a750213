//! How does a linear layer learn from rows?
//!
//! Two ways. [`softmax`] goes through sparse and dense rows in small batches, for the static tier: it never holds more
//! than one batch of features, so a million rows cost no more than ten thousand. [`lbfgs`] goes through all rows at
//! once, for heads over an encoder's embeddings, where the problem is small, dense and worth solving exactly.

pub mod lbfgs;
pub mod softmax;

/// What a row teaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The class of this index.
    Class(u16),
    /// No class: every class alike. Teaches a model to be unsure where it should be (outlier exposure, Hendrycks et
    /// al. 2019).
    NoClass,
}

impl Target {
    /// The wanted probability of a class.
    #[inline]
    pub(crate) fn probability(self, class: usize, classes: usize) -> f32 {
        match self {
            Self::Class(index) => f32::from(u8::from(usize::from(index) == class)),
            Self::NoClass => 1.0 / classes as f32,
        }
    }
}

/// Turns logits into probabilities in place and returns the logarithm of their normaliser.
#[inline(always)]
pub(crate) fn softmax_in_place(logits: &mut [f32]) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for logit in logits.iter_mut() {
        *logit = (*logit - largest).exp();
        total += *logit;
    }
    let scale = 1.0 / total;
    logits.iter_mut().for_each(|probability| *probability *= scale);
    largest + total.ln()
}

/// A small deterministic generator (SplitMix64, Steele et al. 2014): the same on every machine and in every version.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (Lemire 2019, without the rejection step: the bias is below 2⁻³² here).
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// Puts items into random order (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }
}
