//! `[build_cache]` of the configuration: when the store removes build cache records by itself.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::{Filter, Pruning};

/// The `[build_cache]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BuildCache {
    /// Records go by themselves, by the policies.
    pub automatic: bool,
    /// So much of the cache stays in any case. Of the usual policies, as the next two.
    pub reserved_space: Space,
    /// More than this is too much.
    pub max_used_space: Space,
    /// So much of the disk is to be free.
    pub min_free_space: Space,
    /// Policies instead of the usual ones, applied one after the other.
    pub policies: Vec<Policy>,
}

/// One policy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Records that images share too.
    pub all: bool,
    /// Only records whose description contains this.
    pub description: String,
    /// Nothing that was used since: "48h", "60d".
    #[serde(deserialize_with = "duration")]
    pub keep_duration: Duration,
    /// So much stays in any case.
    pub reserved_space: Space,
    /// More than this is too much.
    pub max_used_space: Space,
    /// So much of the disk is to be free.
    pub min_free_space: Space,
}

/// Room on a disk: "10GB", "20%", or bytes as a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes; of several limits the lowest counts. 0: none.
    bytes: u64,
    /// Hundredths of the disk. 0: none.
    percent: u64,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for BuildCache {
    fn default() -> Self {
        Self {
            automatic: true,
            reserved_space: Space { bytes: 10_000_000_000, percent: 10 },
            max_used_space: Space { bytes: 100_000_000_000, percent: 80 },
            min_free_space: Space { bytes: 0, percent: 20 },
            policies: Vec::new(),
        }
    }
}

impl BuildCache {
    /// The policies, on a disk of this size.
    pub fn policies(&self, disk: u64) -> Vec<Pruning> {
        if !self.policies.is_empty() {
            return self.policies.iter().map(|policy| policy.pruning(disk)).collect();
        }
        let usual = Policy {
            reserved_space: self.reserved_space,
            max_used_space: self.max_used_space,
            min_free_space: self.min_free_space,
            ..Policy::default()
        };
        let old = Policy { keep_duration: 60 * DAY, ..usual.clone() };
        let shared = Policy { all: true, ..usual.clone() };
        [old, usual, shared].iter().map(|policy| policy.pruning(disk)).collect()
    }
}

impl Policy {
    fn pruning(&self, disk: u64) -> Pruning {
        Pruning {
            all: self.all,
            filter: Filter { description: self.description.clone(), ..Filter::default() },
            keep: self.keep_duration,
            reserved: self.reserved_space.of(disk),
            max_used: self.max_used_space.of(disk),
            min_free: self.min_free_space.of(disk),
        }
    }
}

impl Space {
    /// Bytes on a disk of this size.
    fn of(self, disk: u64) -> u64 {
        let share = (u128::from(disk) * u128::from(self.percent) / 100) as u64;
        match (self.bytes, share) {
            (0, share) => share,
            (bytes, 0) => bytes,
            (bytes, share) => bytes.min(share),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if let Some(number) = text.strip_suffix('%') {
            let percent = number.trim().parse().ok().filter(|percent| *percent <= 100)?;
            return Some(Self { bytes: 0, percent });
        }
        let digits = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
        let number: f64 = text[..digits].parse().ok()?;
        let unit: f64 = match text[digits..].trim().to_lowercase().as_str() {
            "" | "b" => 1.0,
            "k" | "kb" => 1e3,
            "m" | "mb" => 1e6,
            "g" | "gb" => 1e9,
            "t" | "tb" => 1e12,
            "kib" => 1024.0,
            "mib" => 1_048_576.0,
            "gib" => 1_073_741_824.0,
            "tib" => 1_099_511_627_776.0,
            _ => return None,
        };
        Some(Self { bytes: (number * unit) as u64, percent: 0 })
    }
}

impl<'de> Deserialize<'de> for Space {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Bytes(u64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Bytes(bytes) => Ok(Self { bytes, percent: 0 }),
            Either::Text(text) => Self::parse(text.trim())
                .ok_or_else(|| D::Error::custom(format!("{text:?} is no room on a disk: \"10GB\" or \"20%\" is"))),
        }
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let unit = match &text[digits..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => 0,
    };
    let seconds = text[..digits].parse::<u64>().ok().filter(|_| unit > 0).and_then(|number| number.checked_mul(unit));
    let problem = || D::Error::custom(format!("{text:?} is no time: \"90m\", \"48h\" or \"60d\" is"));
    seconds.map(Duration::from_secs).ok_or_else(problem)
}
