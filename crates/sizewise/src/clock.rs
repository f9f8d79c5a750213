//! How is a moment written?

use sizewise_contract::units::UnixMillis;
use std::time::{SystemTime, UNIX_EPOCH};

/// Now.
pub(crate) fn now() -> UnixMillis {
    UnixMillis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64)
}

/// The day as YYYY-MM-DD.
pub(crate) fn date(seconds: u64) -> String {
    UnixMillis(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000)).day()
}

/// The moment as `YYYY-MM-DD HH:MM UTC`.
pub(crate) fn minute(at: UnixMillis) -> String {
    let seconds = u64::try_from(at.0 / 1_000).unwrap_or(0);
    format!("{} {:02}:{:02} UTC", at.day(), seconds / 3_600 % 24, seconds / 60 % 60)
}

/// A duration in the unit that people would use.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 90.0 => format!("{s:.1} s"),
        s => format!("{:.0} min", s / 60.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_to_the_minute() {
        assert_eq!(minute(UnixMillis(951_786_061_000)), "2000-02-29 01:01 UTC");
    }
}
