//! Moments as people type them for `--since`, `--until` and filters: a span of time ago, a date, seconds since 1970.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::input;

/// "24h" ago, a moment as RFC 3339, a date with or without a time (of UTC), or seconds since 1970 with a fraction.
pub fn parse(text: &str) -> Option<Timestamp> {
    if let Some(age) = input::duration(text) {
        return Timestamp::now().checked_sub(age).ok();
    }
    if let Ok(at) = text.parse() {
        return Some(at);
    }
    if let Some(at) = unix(text) {
        return Some(at);
    }
    text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp())
}

/// Seconds since 1970, with up to nine digits of a fraction.
fn unix(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    Timestamp::new(seconds.parse().ok()?, nanos).ok()
}

/// As the wire has it.
pub fn to_wire(at: Timestamp) -> prost_types::Timestamp {
    let nanos = at.as_nanosecond().rem_euclid(1_000_000_000);
    let seconds = at.as_nanosecond().div_euclid(1_000_000_000);
    // A timestamp has fewer seconds than fit, and a remainder is smaller than a second.
    prost_types::Timestamp { seconds: seconds as i64, nanos: nanos as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_spans_or_times() {
        assert!(parse("24h").is_some_and(|at| at < Timestamp::now()));
        for (text, expected) in [
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("2026-01-01T02:00:00+02:00", "2026-01-01T00:00:00Z"),
            ("2026-01-01T02:03:04", "2026-01-01T02:03:04Z"),
            ("2026-01-01", "2026-01-01T00:00:00Z"),
            ("7", "1970-01-01T00:00:07Z"),
            ("7.5", "1970-01-01T00:00:07.5Z"),
            ("1136073600.000000001", "2006-01-01T00:00:00.000000001Z"),
        ] {
            assert_eq!(parse(text), expected.parse().ok(), "{text}");
        }
        for text in ["soon", "", "7.x", "7.0123456789", "2026-13-01"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn moments_before_1970_keep_their_fraction_positive() {
        let at: Timestamp = "1969-12-31T23:59:59.25Z".parse().unwrap();
        assert_eq!(to_wire(at), prost_types::Timestamp { seconds: -1, nanos: 250_000_000 });
    }
}
