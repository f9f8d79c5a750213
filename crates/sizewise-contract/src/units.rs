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

/// What a million tokens cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prices {
    /// That are read.
    pub read: MicroUsd,
    /// That are written.
    pub written: MicroUsd,
}

impl Prices {
    /// The price of a call, rounded up.
    #[must_use]
    pub fn of(self, read: u64, written: u64) -> MicroUsd {
        let part = |tokens: u64, price: MicroUsd| u128::from(tokens) * u128::from(price.0);
        let total = part(read, self.read).saturating_add(part(written, self.written)).div_ceil(1_000_000);
        MicroUsd(u64::try_from(total).unwrap_or(u64::MAX))
    }

    /// Whether calls cost nothing.
    #[must_use]
    pub fn is_free(self) -> bool {
        self == Self::default()
    }
}

/// An amount in dollars with at most six decimals, exactly.
#[must_use]
pub fn dollars(text: &str) -> Option<MicroUsd> {
    let (whole, part) = text
        .trim()
        .trim_start_matches('$')
        .split_once('.')
        .unwrap_or((text.trim().trim_start_matches('$'), ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 6 || (whole.is_empty() && part.is_empty()) {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: u64 = format!("{part:0<6}").parse().ok()?;
    Some(MicroUsd(whole.checked_mul(1_000_000)?.checked_add(part)?))
}

/// An amount in dollars as people write it: a number or a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dollars(pub MicroUsd);

impl std::str::FromStr for Dollars {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let help = "an amount is written in dollars with at most six decimals, as 0.15";
        dollars(text).map(Self).ok_or_else(|| help.to_owned())
    }
}

impl Serialize for Dollars {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}.{:06}", self.0.0 / 1_000_000, self.0.0 % 1_000_000))
    }
}

impl<'de> Deserialize<'de> for Dollars {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Whole(u64),
            Number(f64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Whole(number) => number.to_string(),
            // The shortest form that reads back as the same number: what was written.
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A moment in milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

impl UnixMillis {
    /// Days since 1970-01-01.
    #[must_use]
    pub fn day_number(self) -> i64 {
        self.0.div_euclid(DAY_MS)
    }

    /// The beginning of a day.
    #[must_use]
    pub fn of_day(number: i64) -> Self {
        Self(number.saturating_mul(DAY_MS))
    }

    /// The day of UTC as `2026-01-31`, after Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
    #[must_use]
    pub fn day(self) -> String {
        let days = self.day_number() + 719_468;
        let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let part = (5 * of_year + 2) / 153;
        let day = of_year - (153 * part + 2) / 5 + 1;
        let month = if part < 10 { part + 3 } else { part - 9 };
        format!("{:04}-{month:02}-{day:02}", era * 400 + year_of_era + i64::from(month <= 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_utc() {
        // Golden values from `date -u -d @SECONDS +%F`.
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_790_726_399, "2026-09-29"),
            (1_798_761_599, "2026-12-31"),
            (4_107_542_400, "2100-03-01"),
            (-1, "1969-12-31"),
        ] {
            let moment = UnixMillis(seconds * 1_000);
            assert_eq!(moment.day(), expected);
            assert_eq!(UnixMillis::of_day(moment.day_number()).day(), expected);
        }
    }

    #[test]
    fn money_prints_in_dollars_with_all_six_decimals() {
        assert_eq!(MicroUsd(1_000_042).to_string(), "$1.000042");
    }

    #[test]
    fn money_never_wraps_around() {
        assert_eq!(MicroUsd(u64::MAX).saturating_add(MicroUsd(1)), MicroUsd(u64::MAX));
    }
}
