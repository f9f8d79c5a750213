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

/// The moment as letters have it (RFC 5322).
pub(crate) fn letter_date(at: UnixMillis) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = u64::try_from(at.0 / 1_000).unwrap_or(0);
    let day = at.day();
    let mut parts = day.splitn(3, '-');
    let year = parts.next().unwrap_or_default();
    let month = parts.next().and_then(|month| month.parse::<usize>().ok()).unwrap_or(1);
    let of_month = parts.next().unwrap_or_default();
    let weekday = DAYS.get((seconds / 86_400 % 7) as usize).copied().unwrap_or_default();
    let month = MONTHS.get(month.saturating_sub(1)).copied().unwrap_or_default();
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{weekday}, {of_month} {month} {year} {hour:02}:{minute:02}:{second:02} +0000")
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

    #[test]
    fn a_letter_has_its_day_of_the_week() {
        assert_eq!(letter_date(UnixMillis(951_786_061_000)), "Tue, 29 Feb 2000 01:01:01 +0000");
        assert_eq!(letter_date(UnixMillis(0)), "Thu, 01 Jan 1970 00:00:00 +0000");
    }
}
