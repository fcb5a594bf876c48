//! Rules for CI: how much an image may waste. The names and defaults are those of `dive --ci`.

use super::Image;
use crate::render::size;

/// Limits to check; none: the rule is off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Least share of the bytes that can be seen, 0 to 1.
    pub lowest_efficiency: Option<f64>,
    /// Most bytes that nobody can see.
    pub highest_wasted_bytes: Option<u64>,
    /// Most wasted bytes as a share of what was put on the bottom layer, 0 to 1.
    pub highest_user_wasted_percent: Option<f64>,
}

/// What came of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The rule, as its flag is called.
    pub rule: &'static str,
    /// What the image has.
    pub value: f64,
    /// What it may have; none: the rule is off.
    pub limit: Option<f64>,
    /// The image keeps the rule. A rule that is off is kept.
    pub is_kept: bool,
    /// Both for people.
    pub text: String,
}

/// Checks an image.
pub fn check(image: &Image, limits: &Limits) -> Vec<Verdict> {
    let (efficiency, wasted, share) = (image.stack.efficiency(), image.stack.wasted(), image.user_wasted_share());
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let compared = |value: String, word: &str, limit: Option<String>| match limit {
        Some(limit) => format!("{value}, {word} {limit}"),
        None => format!("{value}, no limit"),
    };
    vec![
        Verdict {
            rule: "lowest-efficiency",
            value: efficiency,
            limit: limits.lowest_efficiency,
            is_kept: limits.lowest_efficiency.is_none_or(|limit| efficiency >= limit),
            text: compared(percent(efficiency), "at least", limits.lowest_efficiency.map(percent)),
        },
        Verdict {
            rule: "highest-wasted-bytes",
            value: wasted as f64,
            limit: limits.highest_wasted_bytes.map(|limit| limit as f64),
            is_kept: limits.highest_wasted_bytes.is_none_or(|limit| wasted <= limit),
            text: compared(size::human(wasted), "at most", limits.highest_wasted_bytes.map(size::human)),
        },
        Verdict {
            rule: "highest-user-wasted-percent",
            value: share,
            limit: limits.highest_user_wasted_percent,
            is_kept: limits.highest_user_wasted_percent.is_none_or(|limit| share <= limit),
            text: compared(percent(share), "at most", limits.highest_user_wasted_percent.map(percent)),
        },
    ]
}

/// Reads a share, "0.9" or "90%".
pub fn parse_share(text: &str) -> Result<f64, String> {
    let (number, factor) = text.strip_suffix('%').map_or((text, 1.0), |number| (number.trim_end(), 0.01));
    match number.parse::<f64>() {
        Ok(number) if (0.0..=1.0).contains(&(number * factor)) => Ok(number * factor),
        _ => Err("it must be between 0 and 1, or a percentage".to_owned()),
    }
}

/// Reads bytes as images are shown: "20MB" is 20,000,000, "20MiB" 20,971,520.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let at = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let unit = unit.trim_start().to_ascii_lowercase();
    let (letters, base) = match unit.strip_suffix("ib") {
        Some(letters) => (letters, 1024_u64),
        None => (unit.strip_suffix('b').unwrap_or(&unit), 1000),
    };
    let power = ["", "k", "m", "g", "t", "p"].iter().position(|known| *known == letters);
    let number = number.parse::<f64>().ok().filter(|number| number.is_finite());
    match (number, power) {
        (Some(number), Some(power)) => Ok((number * base.pow(power as u32) as f64) as u64),
        _ => Err("it must be a number with an optional unit: 4096, 20MB, 1.5GiB".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explore::report::tests::example;

    fn kept(limits: Limits) -> Vec<bool> {
        check(&example(), &limits).into_iter().map(|verdict| verdict.is_kept).collect()
    }

    #[test]
    fn limits_are_kept_up_to_themselves() {
        // 200 bytes, 120 of them on the base; 50 wasted.
        let off = Limits { lowest_efficiency: None, highest_wasted_bytes: None, highest_user_wasted_percent: None };

        assert_eq!(kept(off), [true; 3]);
        assert_eq!(kept(Limits { lowest_efficiency: Some(0.75), ..off }), [true; 3]);
        assert_eq!(kept(Limits { lowest_efficiency: Some(0.76), ..off }), [false, true, true]);
        assert_eq!(kept(Limits { highest_wasted_bytes: Some(50), ..off }), [true; 3]);
        assert_eq!(kept(Limits { highest_wasted_bytes: Some(49), ..off }), [true, false, true]);
        assert_eq!(kept(Limits { highest_user_wasted_percent: Some(0.42), ..off }), [true; 3]);
        assert_eq!(kept(Limits { highest_user_wasted_percent: Some(0.41), ..off }), [true, true, false]);
    }

    #[test]
    fn bytes_and_shares_are_read_as_people_write_them() {
        for (text, expected) in
            [("0", 0), ("4096", 4096), ("45kB", 45_000), ("20 MB", 20_000_000), ("1.5KiB", 1536), ("1g", 1_000_000_000)]
        {
            assert_eq!(parse_bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "MB", "1xB", "-1", "1.2.3"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        assert_eq!(parse_share("0.9"), Ok(0.9));
        assert_eq!(parse_share("10%"), Ok(0.1));
        for text in ["", "1.1", "-0.1", "90", "nan", "x"] {
            assert!(parse_share(text).is_err(), "{text}");
        }
    }
}
