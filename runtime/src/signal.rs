//! Signal names and numbers, as `docker kill` takes them.

use nix::sys::signal::Signal;

use crate::error::Error;

/// The signal that nobody survives.
pub const KILL: i32 = 9;

/// The signal that asks a process to end.
pub const TERM: i32 = 15;

/// The signal that lets a process go on that stands still.
pub const CONTINUE: i32 = 18;

/// Signals that ask a process to end, whatever its stop signal is: INT, QUIT, KILL, TERM.
pub const ASKS_TO_END: [i32; 4] = [2, 3, KILL, TERM];

/// Parses "TERM", "SIGTERM", "sigterm", "15", "RTMIN+3"; 1 to 64.
pub fn parse(field: &'static str, text: &str) -> Result<i32, Error> {
    let wrong = || Error::argument(field, format!("invalid signal {text:?}"));
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().filter(|number| (1..=64).contains(number)).ok_or_else(wrong);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(number) = real_time(name) {
        return Ok(number);
    }
    let alias = match name {
        "CLD" => "CHLD",
        "IOT" => "ABRT",
        "POLL" => "IO",
        other => other,
    };
    format!("SIG{alias}").parse::<Signal>().map(|signal| signal as i32).map_err(|_| wrong())
}

/// RTMIN is 34 and RTMAX 64: glibc keeps 32 and 33.
fn real_time(name: &str) -> Option<i32> {
    let offset = |text: &str| match text {
        "" => Some(0),
        text => text.parse::<i32>().ok(),
    };
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        34 + offset(rest).filter(|n| *n >= 0)?
    } else {
        64 + offset(name.strip_prefix("RTMAX")?).filter(|n| *n <= 0)?
    };
    (34..=64).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_those_of_docker() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigkill", 9),
            ("9", 9),
            ("64", 64),
            ("WINCH", 28),
            ("CLD", 17),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(parse("signal", text).unwrap(), number, "{text}");
        }
        for bad in ["", "0", "65", "-9", "SIG", "NOPE", "RTMIN+31", "RTMAX+1", "1 ", "99999999999"] {
            assert!(parse("signal", bad).is_err(), "{bad:?} was taken");
        }
    }
}
