//! Signals by name or number, with the numbers of Linux on x86-64 and arm64.

use super::MetaError;

const NAMES: [(&str, u32); 36] = [
    ("ABRT", 6),
    ("ALRM", 14),
    ("BUS", 7),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("FPE", 8),
    ("HUP", 1),
    ("ILL", 4),
    ("INT", 2),
    ("IO", 29),
    ("IOT", 6),
    ("KILL", 9),
    ("PIPE", 13),
    ("POLL", 29),
    ("PROF", 27),
    ("PWR", 30),
    ("QUIT", 3),
    ("SEGV", 11),
    ("STKFLT", 16),
    ("STOP", 19),
    ("SYS", 31),
    ("TERM", 15),
    ("TRAP", 5),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("USR1", 10),
    ("USR2", 12),
    ("VTALRM", 26),
    ("WINCH", 28),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("RTMIN", 34),
    ("RTMAX", 64),
];

/// Parses `SIGTERM`, `term`, `15`, `RTMIN+3` or `SIGRTMAX-1` to the number.
pub fn parse_signal(text: &str) -> Result<u32, MetaError> {
    signal(text).ok_or_else(|| MetaError::Signal { text: text.to_owned() })
}

fn signal(text: &str) -> Option<u32> {
    let in_range = |number: u32| (1..=64).contains(&number).then_some(number);
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return in_range(text.parse().ok()?);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    // The halves of the range that the reference frontend knows by either end.
    let offset = |digits: &str, last: u32| (1..=last).find(|n| n.to_string() == digits);
    if let Some(digits) = name.strip_prefix("RTMIN+") {
        return in_range(34 + offset(digits, 15)?);
    }
    if let Some(digits) = name.strip_prefix("RTMAX-") {
        return in_range(64 - offset(digits, 14)?);
    }
    NAMES.iter().find(|(known, _)| *known == name).map(|&(_, number)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        let cases = [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("RTMIN", Some(34)),
            ("0", None),
            ("65", None),
            ("SIG", None),
            ("", None),
            ("SIGFOO", None),
            ("-1", None),
            ("RTMIN+15", Some(49)),
            ("RTMIN+16", None),
            ("RTMIN+01", None),
            ("RTMAX-14", Some(50)),
            ("RTMAX-15", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_signal(text).ok(), expected, "{text}");
        }
    }
}
