//! Limits of a container, and changes of them.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The least memory that a container may be limited to, as in Docker.
pub const MIN_MEMORY_BYTES: u64 = 6 << 20;

/// The kernel's period of processor time where nobody says otherwise, in microseconds.
pub const PERIOD: u64 = 100_000;

/// Limits of a container. Absent: no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory and swap together in bytes; -1 is any amount of swap. Absent: twice the memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swap_bytes: Option<i64>,
    /// Memory in bytes that is not taken for others as long as there is some elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_reservation_bytes: Option<u64>,
    /// Processor time in billionths of a core.
    pub nano_cpus: Option<u64>,
    /// Microseconds that the quota is of. Absent: 100 ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_period: Option<u64>,
    /// Microseconds of processor time in each period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<u64>,
    /// Share of the processors where others want them too; absent: 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<u64>,
    /// Processors that it runs on, "0-3,7".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_cpus: Option<String>,
    /// Nodes of memory that it has, "0,1".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_mems: Option<String>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Share of block devices where others want them too, 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blkio_weight: Option<u64>,
}

/// What is to be other limits. Absent: it stays. 0 or nothing: there is no such limit any more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// As in [`Limits`], and so are the others.
    pub memory_bytes: Option<u64>,
    /// -1 is any amount of swap.
    pub memory_swap_bytes: Option<i64>,
    /// Memory that is kept.
    pub memory_reservation_bytes: Option<u64>,
    /// Processor time.
    pub nano_cpus: Option<u64>,
    /// What the quota is of.
    pub cpu_period: Option<u64>,
    /// Processor time in each period.
    pub cpu_quota: Option<u64>,
    /// Share of the processors.
    pub cpu_shares: Option<u64>,
    /// Processors.
    pub cpuset_cpus: Option<String>,
    /// Nodes of memory.
    pub cpuset_mems: Option<String>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Share of block devices.
    pub blkio_weight: Option<u64>,
}

impl Limits {
    /// These limits with a change, if that makes sense. A refusal names the field below `place`.
    pub fn with(&self, change: Change, place: &str) -> Result<Self, Error> {
        let number = |new: Option<u64>, old: Option<u64>| new.map_or(old, |new| Some(new).filter(|new| *new != 0));
        let text = |new: Option<String>, old: &Option<String>| match new {
            None => old.clone(),
            Some(new) => Some(new).filter(|new| !new.is_empty()),
        };
        let limits = Self {
            memory_bytes: number(change.memory_bytes, self.memory_bytes),
            memory_swap_bytes: change
                .memory_swap_bytes
                .map_or(self.memory_swap_bytes, |new| Some(new).filter(|new| *new != 0)),
            memory_reservation_bytes: number(change.memory_reservation_bytes, self.memory_reservation_bytes),
            nano_cpus: number(change.nano_cpus, self.nano_cpus),
            cpu_period: number(change.cpu_period, self.cpu_period),
            cpu_quota: number(change.cpu_quota, self.cpu_quota),
            cpu_shares: number(change.cpu_shares, self.cpu_shares),
            cpuset_cpus: text(change.cpuset_cpus, &self.cpuset_cpus),
            cpuset_mems: text(change.cpuset_mems, &self.cpuset_mems),
            pids: number(change.pids, self.pids),
            blkio_weight: number(change.blkio_weight, self.blkio_weight),
        };
        match limits.fault() {
            None => Ok(limits),
            Some((field, problem)) => Err(Error::argument(format!("{place}.{field}"), problem)),
        }
    }

    /// The first field that makes no sense, and why.
    fn fault(&self) -> Option<(&'static str, &'static str)> {
        let largest = i64::MAX as u64 / 2;
        let is_outside =
            |value: Option<u64>, least: u64, most: u64| value.is_some_and(|value| !(least..=most).contains(&value));
        let memory = self.memory_bytes.unwrap_or(u64::MAX);
        let swap = self.memory_swap_bytes.map(|swap| u64::try_from(swap).unwrap_or(u64::MAX));
        let has_quota = self.cpu_quota.is_some() || self.cpu_period.is_some();
        let has_set = |set: &Option<String>| set.as_deref().is_none_or(is_set);
        let rules = [
            (
                is_outside(self.memory_bytes, MIN_MEMORY_BYTES, largest),
                "memory_bytes",
                "the minimum memory limit is 6 MiB",
            ),
            (
                self.memory_swap_bytes.is_some_and(|swap| swap < -1 || swap > largest as i64),
                "memory_swap_bytes",
                "it is neither a size nor -1",
            ),
            (swap.is_some() && self.memory_bytes.is_none(), "memory_swap_bytes", "a limit of memory is needed with it"),
            (
                swap.is_some_and(|swap| swap < memory) && self.memory_bytes.is_some(),
                "memory_swap_bytes",
                "it is for memory and swap together: less than the memory limit cannot be",
            ),
            (
                is_outside(self.memory_reservation_bytes, MIN_MEMORY_BYTES, largest.min(memory)),
                "memory_reservation_bytes",
                "it is between 6 MiB and the memory limit",
            ),
            // The kernel's least quota is 1 ms of a 100 ms period.
            (
                is_outside(self.nano_cpus, 10_000_000, 1_000_000_000_000_000),
                "nano_cpus",
                "it must be at least a hundredth of a core",
            ),
            (
                has_quota && self.nano_cpus.is_some(),
                if self.cpu_quota.is_some() { "cpu_quota_us" } else { "cpu_period_us" },
                "conflicting options: the number of processors says the same",
            ),
            (is_outside(self.cpu_period, 1_000, 1_000_000), "cpu_period_us", "it is between 1 ms and 1 s"),
            (is_outside(self.cpu_quota, 1_000, largest), "cpu_quota_us", "it must be at least 1 ms"),
            (is_outside(self.cpu_shares, 2, 262_144), "cpu_shares", "it is between 2 and 262144"),
            (!has_set(&self.cpuset_cpus), "cpuset_cpus", "numbers and ranges with commas between are expected: 0-3,7"),
            (!has_set(&self.cpuset_mems), "cpuset_mems", "numbers and ranges with commas between are expected: 0,1"),
            (is_outside(self.pids, 1, i64::MAX as u64), "pids", "it is too large"),
            (is_outside(self.blkio_weight, 10, 1000), "blkio_weight", "it is between 10 and 1000"),
        ];
        rules.into_iter().find(|(is_wrong, ..)| *is_wrong).map(|(_, field, problem)| (field, problem))
    }

    /// Memory and swap together in bytes, where there is a limit; -1 is any amount.
    pub fn swap(&self) -> Option<i64> {
        self.memory_swap_bytes.or_else(|| self.memory_bytes.map(|bytes| bytes as i64 * 2))
    }

    /// Microseconds of processor time in each period, and the period.
    pub fn quota(&self) -> (Option<i64>, Option<u64>) {
        match self.nano_cpus {
            Some(nano) => (Some((u128::from(nano) * u128::from(PERIOD) / 1_000_000_000) as i64), Some(PERIOD)),
            None => (self.cpu_quota.map(|quota| quota as i64), self.cpu_period),
        }
    }
}

/// "0-3,7".
fn is_set(text: &str) -> bool {
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    text.len() <= 4096
        && text.split(',').all(|range| match range.split_once('-') {
            None => number(range).is_some(),
            Some((first, last)) => number(first).zip(number(last)).is_some_and(|(first, last)| first <= last),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: Change) -> Result<Limits, Error> {
        Limits::default().with(change, "limits")
    }

    #[test]
    fn what_is_not_named_stays_and_zero_takes_a_limit_away() {
        let before =
            Limits { memory_bytes: Some(64 << 20), pids: Some(9), cpuset_cpus: Some("0".into()), ..Limits::default() };
        let change = Change { memory_bytes: Some(128 << 20), cpuset_cpus: Some(String::new()), ..Change::default() };

        let after = before.with(change, "limits").unwrap();

        assert_eq!(after, Limits { memory_bytes: Some(128 << 20), pids: Some(9), ..Limits::default() });
        let none = after.with(Change { memory_bytes: Some(0), pids: Some(0), ..Change::default() }, "limits").unwrap();
        assert_eq!(none, Limits::default());
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_name() {
        let change = Change::default;
        let memory = Some(64 << 20);
        for (field, wrong) in [
            ("memory_bytes", Change { memory_bytes: Some(4096), ..change() }),
            ("memory_swap_bytes", Change { memory_swap_bytes: Some(1 << 30), ..change() }),
            ("memory_swap_bytes", Change { memory_bytes: memory, memory_swap_bytes: Some(1 << 20), ..change() }),
            ("memory_swap_bytes", Change { memory_bytes: memory, memory_swap_bytes: Some(-2), ..change() }),
            ("memory_reservation_bytes", Change { memory_reservation_bytes: Some(1), ..change() }),
            (
                "memory_reservation_bytes",
                Change { memory_bytes: memory, memory_reservation_bytes: Some(65 << 20), ..change() },
            ),
            ("nano_cpus", Change { nano_cpus: Some(1), ..change() }),
            ("cpu_quota_us", Change { nano_cpus: Some(1_000_000_000), cpu_quota: Some(5000), ..change() }),
            ("cpu_period_us", Change { nano_cpus: Some(1_000_000_000), cpu_period: Some(5000), ..change() }),
            ("cpu_period_us", Change { cpu_period: Some(999), ..change() }),
            ("cpu_quota_us", Change { cpu_quota: Some(999), ..change() }),
            ("cpu_shares", Change { cpu_shares: Some(1), ..change() }),
            ("cpuset_cpus", Change { cpuset_cpus: Some("0-".into()), ..change() }),
            ("cpuset_cpus", Change { cpuset_cpus: Some("3-1".into()), ..change() }),
            ("cpuset_mems", Change { cpuset_mems: Some("+1".into()), ..change() }),
            ("pids", Change { pids: Some(u64::MAX), ..change() }),
            ("blkio_weight", Change { blkio_weight: Some(9), ..change() }),
        ] {
            match with(wrong.clone()) {
                Err(Error::Argument { field: named, .. }) => assert_eq!(named, format!("limits.{field}"), "{wrong:?}"),
                other => panic!("{wrong:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_change_is_judged_with_what_stays() {
        let before =
            with(Change { memory_bytes: Some(64 << 20), memory_swap_bytes: Some(64 << 20), ..Change::default() });
        let more = Change { memory_bytes: Some(128 << 20), ..Change::default() };

        assert!(before.unwrap().with(more.clone(), "limits").is_err(), "memory and swap together would be less");
        let any =
            with(Change { memory_bytes: Some(64 << 20), memory_swap_bytes: Some(-1), ..Change::default() }).unwrap();
        assert_eq!(any.with(more, "limits").unwrap().swap(), Some(-1));
    }

    #[test]
    fn processors_are_a_quota_of_the_usual_period() {
        let of = |change| with(change).unwrap().quota();
        assert_eq!(of(Change { nano_cpus: Some(1_500_000_000), ..Change::default() }), (Some(150_000), Some(100_000)));
        let own = Change { cpu_quota: Some(5_000), cpu_period: Some(10_000), ..Change::default() };
        assert_eq!(of(own), (Some(5_000), Some(10_000)));
        assert_eq!(of(Change::default()), (None, None));
    }
}
