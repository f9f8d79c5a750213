//! In which units does the product count?
//!
//! Money is integer micro-dollars so that sums are exact; time is integer microseconds or milliseconds, and the name of
//! a field says which.

use serde::{Deserialize, Serialize};

/// An amount of money in millionths of a US dollar.
///
/// **Units.** `MicroUsd(1_000_000)` is one dollar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroUsd(pub u64);

impl MicroUsd {
    /// Adds two amounts, staying at the largest amount instead of wrapping around.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::fmt::Display for MicroUsd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "${}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// A moment in milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_prints_in_dollars_with_all_six_decimals() {
        assert_eq!(MicroUsd(1_000_042).to_string(), "$1.000042");
    }

    #[test]
    fn money_never_wraps_around() {
        assert_eq!(MicroUsd(u64::MAX).saturating_add(MicroUsd(1)), MicroUsd(u64::MAX));
    }
}
