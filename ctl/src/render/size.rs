//! Sizes as Docker says them: three digits, powers of a thousand.

/// "1.24GB".
pub fn human(bytes: u64) -> String {
    let (value, unit) = scaled(bytes, 1000.0, ["B", "kB", "MB", "GB", "TB", "PB", "EB"]);
    let text = match value {
        0.0..10.0 => trimmed(&format!("{value:.2}")),
        10.0..100.0 => trimmed(&format!("{value:.1}")),
        _ => format!("{value:.0}"),
    };
    format!("{text}{unit}")
}

/// "7.188MiB": four digits, powers of 1024.
pub fn binary(bytes: u64) -> String {
    let (value, unit) = scaled(bytes, 1024.0, ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]);
    let decimals = match value {
        0.0..10.0 => 3,
        10.0..100.0 => 2,
        100.0..1000.0 => 1,
        _ => 0,
    };
    let text = if decimals == 0 { format!("{value:.0}") } else { trimmed(&format!("{value:.decimals$}")) };
    format!("{text}{unit}")
}

/// The size in the largest unit that it fills.
fn scaled(bytes: u64, step: f64, units: [&'static str; 7]) -> (f64, &'static str) {
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    (value, units[unit])
}

fn trimmed(text: &str) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_sizes_have_four_digits() {
        for (bytes, expected) in [
            (0, "0B"),
            (796 << 10, "796KiB"),
            (1023, "1023B"),
            (7_536_640, "7.188MiB"),
            (64 << 20, "64MiB"),
            (33_608_728_576, "31.3GiB"),
            (1 << 30, "1GiB"),
        ] {
            assert_eq!(binary(bytes), expected);
        }
    }

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (7_800, "7.8kB"),
            (124_400_000, "124MB"),
            (12_340_000, "12.3MB"),
            (1_239_000_000, "1.24GB"),
        ] {
            assert_eq!(human(bytes), expected);
        }
    }
}
