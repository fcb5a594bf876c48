//! Sizes in bytes: read as Docker reads flags (binary units), shown as Docker shows images (decimal units).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Parses "512m", "1g", "64k", "1.5GiB", "4096": units are powers of 1024, in either case.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let bad = |rule| Invalid::new("size", text, rule);
        let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(at);
        let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
        let power = match unit.as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 1,
            "m" | "mb" | "mib" => 2,
            "g" | "gb" | "gib" => 3,
            "t" | "tb" | "tib" => 4,
            "p" | "pb" | "pib" => 5,
            _ => return Err(bad("the unit must be b, k, m, g, t or p")),
        };
        let factor = 1u64 << (10 * power);
        let wrong = || bad("it must be a number with an optional unit: 512m, 1g, 64k");
        let too_large = || bad("it is larger than 16 EiB");
        if number.contains('.') {
            if number.starts_with('.') || number.ends_with('.') {
                return Err(wrong());
            }
            let value: f64 = number.parse().map_err(|_| wrong())?;
            let bytes = value * factor as f64;
            return if bytes < u64::MAX as f64 { Ok(Self(bytes as u64)) } else { Err(too_large()) };
        }
        if number.is_empty() {
            return Err(wrong());
        }
        let value: u64 = number.parse().map_err(|_| too_large())?;
        value.checked_mul(factor).map(Self).ok_or_else(too_large)
    }

    /// The number.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// In binary units with four digits, as `docker stats` shows memory: "1.952GiB".
    pub fn binary(self) -> String {
        render(self.0, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], 4)
    }
}

fn render(bytes: u64, base: f64, units: &[&str], digits: usize) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    loop {
        let whole = if value < 1.0 { 1 } else { value.log10().floor() as usize + 1 };
        let decimals = digits.saturating_sub(whole);
        let text = format!("{value:.decimals$}");
        // Rounding may reach the next unit: 999.9 kB is 1 MB.
        if text.parse::<f64>().is_ok_and(|v| v >= base) && unit + 1 < units.len() {
            value /= base;
            unit += 1;
            continue;
        }
        let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        return format!("{text}{}", units[unit]);
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&render(self.0, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], 3))
    }
}

impl FromStr for ByteSize {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_in_powers_of_1024() {
        for (text, bytes) in [
            ("512m", 512 << 20),
            ("1g", 1 << 30),
            ("64k", 65536),
            ("4096", 4096),
            ("1.5KiB", 1536),
            ("7B", 7),
            ("2 MB", 2 << 20),
        ] {
            assert_eq!(ByteSize::parse(text).unwrap(), ByteSize(bytes), "{text}");
        }
        for bad in ["", "m", "-1", "1x", "1.m", ".5m", "1..2m", "99999999999g", "1e3", "1 2"] {
            assert!(ByteSize::parse(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn images_are_shown_in_powers_of_1000_with_three_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1_234_567, "1.23MB"),
            (12_345_678, "12.3MB"),
            (123_456_789, "123MB"),
            (999_900_000, "1GB"),
            (1_200_000_000, "1.2GB"),
        ] {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
        assert_eq!(ByteSize(1536).binary(), "1.5KiB");
        assert_eq!(ByteSize(2_095_944_040).binary(), "1.952GiB");
    }
}
