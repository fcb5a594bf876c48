//! Values of instructions after expansion: ports, signals, durations, modes.
//! Each function parses one word; the caller knows where the word was written.

mod mode;
mod port;
mod signal;

use std::time::Duration;
use thiserror::Error;

pub use mode::{Mode, parse_chmod};
pub use port::{PortRange, parse_port};
pub use signal::parse_signal;

/// Why a value is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MetaError {
    /// Not a Go duration.
    #[error("invalid duration {text:?}: write it like 30s, 1m30s or 500ms")]
    Duration {
        /// The value.
        text: String,
    },
    /// Between zero and a millisecond, or negative.
    #[error("duration {text:?} is too short: it must be 0 or at least 1ms")]
    TooShort {
        /// The value.
        text: String,
    },
    /// Not a count.
    #[error("invalid number of retries {text:?}: it must be 0 to 2147483647")]
    Retries {
        /// The value.
        text: String,
    },
    /// Not a port.
    #[error("invalid port {text:?}: write it like 80, 443/tcp or 8000-8010/udp")]
    Port {
        /// The value.
        text: String,
    },
    /// A range that ends before it starts.
    #[error("invalid port range {text:?}: it ends before it starts")]
    PortRange {
        /// The value.
        text: String,
    },
    /// What stands before the first colon is no address.
    #[error("invalid address {address:?} of port {text:?}: it must be an IP address")]
    Address {
        /// The value.
        text: String,
        /// What should be an address.
        address: String,
    },
    /// A range of ports on the host that is not as long as that of the container.
    #[error("invalid port {text:?}: its two ranges differ in length")]
    Ranges {
        /// The value.
        text: String,
    },
    /// Not tcp, udp or sctp.
    #[error("invalid protocol {protocol:?} of port {text:?}: it must be tcp, udp or sctp")]
    Protocol {
        /// The value.
        text: String,
        /// What follows the slash.
        protocol: String,
    },
    /// Not a signal.
    #[error("invalid signal {text:?}: write a name like SIGTERM or a number from 1 to 64")]
    Signal {
        /// The value.
        text: String,
    },
    /// Neither octal nor symbolic.
    #[error("invalid mode {text:?}: write octal digits up to 7777, or changes like u=rwX,go=rX")]
    Mode {
        /// The value.
        text: String,
    },
}

/// Parses a duration as Go writes them: `1h2m3.5s`, `300ms`, `0`. Negative ones are refused.
pub fn parse_duration(text: &str) -> Result<Duration, MetaError> {
    let error = || MetaError::Duration { text: text.to_owned() };
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(error());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (nanos, left) = duration_part(rest).ok_or_else(error)?;
        total = total.checked_add(nanos).filter(|total| *total <= i64::MAX as u128).ok_or_else(error)?;
        rest = left;
    }
    if is_negative && total > 0 {
        return Err(MetaError::TooShort { text: text.to_owned() });
    }
    // Bounded by i64::MAX above.
    Ok(Duration::from_nanos(total as u64))
}

/// One number and its unit, in nanoseconds, and what follows.
fn duration_part(text: &str) -> Option<(u128, &str)> {
    const UNITS: [(&str, u128); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let number = text.find(|c: char| !c.is_ascii_digit() && c != '.').map(|at| &text[..at])?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let rest = &text[number.len()..];
    let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let &(_, unit) = UNITS.iter().find(|(name, _)| *name == &rest[..unit_end])?;
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.into() };
    // Digits after the eighteenth are below a nanosecond even for hours.
    let digits = &fraction[..fraction.len().min(18)];
    let part =
        if digits.is_empty() { 0 } else { digits.parse::<u128>().ok()? * unit / 10u128.pow(digits.len() as u32) };
    Some((whole.checked_mul(unit)? + part, &rest[unit_end..]))
}

/// Parses a duration of `HEALTHCHECK`: 0, or at least a millisecond.
pub fn parse_interval(text: &str) -> Result<Duration, MetaError> {
    let duration = parse_duration(text)?;
    if !duration.is_zero() && duration < Duration::from_millis(1) {
        return Err(MetaError::TooShort { text: text.to_owned() });
    }
    Ok(duration)
}

/// Parses `HEALTHCHECK --retries`.
pub fn parse_retries(text: &str) -> Result<u32, MetaError> {
    let count = text.parse::<i32>().ok().and_then(|count| u32::try_from(count).ok());
    count.ok_or_else(|| MetaError::Retries { text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let cases = [
            ("0", Some(0)),
            ("30s", Some(30_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(1_000_000_000)),
            ("300ms", Some(300_000_000)),
            ("2us3ns", Some(2_003)),
            ("2µs", Some(2_000)),
            ("+1s", Some(1_000_000_000)),
            ("30", None),
            ("s", None),
            ("", None),
            (".s", None),
            ("1d", None),
            ("1 s", None),
            ("1.2.3s", None),
            ("99999999999h", None),
        ];
        for (text, expected) in cases {
            let nanos = parse_duration(text).ok().map(|duration| duration.as_nanos());
            assert_eq!(nanos, expected, "{text}");
        }
    }

    #[test]
    fn intervals_below_a_millisecond_are_refused() {
        assert_eq!(parse_interval("999us"), Err(MetaError::TooShort { text: "999us".into() }));
        assert_eq!(parse_interval("-1s"), Err(MetaError::TooShort { text: "-1s".into() }));
        assert_eq!(parse_interval("1ms"), Ok(Duration::from_millis(1)));
        assert_eq!(parse_interval("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn retries_are_counts() {
        assert_eq!(parse_retries("3"), Ok(3));
        for text in ["-1", "x", "2147483648", ""] {
            assert!(parse_retries(text).is_err(), "{text}");
        }
    }
}
