//! Options of log drivers: which there are, and the forms of their values, which are Docker's.

use std::collections::BTreeMap;

use crate::spec::Driver;

/// Of all drivers: what the container does when its log does not keep up.
const QUEUE: &[&str] = &["max-buffer-size", "mode"];
/// Of files.
const FILES: &[&str] = &["compress", "max-file", "max-size"];
/// Of the files beside what is sent elsewhere.
const CACHE: &[&str] = &["cache-compress", "cache-disabled", "cache-max-file", "cache-max-size"];
/// What is said of each line.
const ATTRIBUTES: &[&str] = &["env", "env-regex", "labels", "labels-regex", "tag"];
const SYSLOG: &[&str] = &["syslog-address", "syslog-facility", "syslog-format"];

/// Options of one driver.
pub struct Options<'a> {
    all: &'a BTreeMap<String, String>,
}

impl<'a> Options<'a> {
    /// Refuses what the driver does not have.
    pub fn new(driver: Driver, all: &'a BTreeMap<String, String>) -> Result<Self, String> {
        let known = known(driver);
        match all.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(Self { all }),
            Some(name) if name.starts_with("syslog-tls-") => Err(format!(
                "{name}: logs are not sent over TLS. Send them to a server of syslog on this host, which can pass them on"
            )),
            Some(name) => Err(format!("the log driver {driver} has no option {name:?}: it has {}", known.join(", "))),
        }
    }

    /// A value; an empty one is none.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.all.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Parses "true" and its like, as Go does.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, String> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
            _ => Err(format!("{name}={text:?} is neither \"true\" nor \"false\"")),
        }
    }

    /// Parses a number that is not 0.
    pub fn count(&self, name: &str) -> Result<Option<u32>, String> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse() {
            Ok(number @ 1..) => Ok(Some(number)),
            _ => Err(format!("{name}={text:?} is no number of files, which is 1 or more")),
        }
    }

    /// Parses "10m", in powers of 1000; -1 is 0: no limit.
    pub fn size(&self, name: &str) -> Result<Option<u64>, String> {
        let Some(text) = self.get(name) else { return Ok(None) };
        if text == "-1" {
            return Ok(Some(0));
        }
        match decimal(text) {
            Some(bytes @ 1..) => Ok(Some(bytes)),
            _ => Err(format!("{name}={text:?} is no size: 10m, 500k, or -1 for any")),
        }
    }
}

/// Docker's `FromHumanSize`: units are powers of 1000, in either case, whether an "i" follows or not.
fn decimal(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let end = lower.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let unit = unit.strip_suffix('b').unwrap_or(unit);
    let factor = match unit.strip_suffix('i').unwrap_or(unit) {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "t" => 1e12,
        "p" => 1e15,
        _ => return None,
    };
    let bytes = number.parse::<f64>().ok()? * factor;
    (bytes < i64::MAX as f64).then_some(bytes as u64)
}

/// The options of a driver, sorted.
fn known(driver: Driver) -> Vec<&'static str> {
    let groups: &[&[&str]] = match driver {
        Driver::JsonFile | Driver::Local => &[QUEUE, FILES, ATTRIBUTES],
        Driver::Journald => &[QUEUE, CACHE, ATTRIBUTES],
        Driver::Syslog => &[QUEUE, CACHE, ATTRIBUTES, SYSLOG],
        Driver::None => &[QUEUE],
    };
    let mut known = groups.concat();
    known.sort_unstable();
    known
}
