//! What a container may use of its host, beyond the limits that can be changed while it runs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Limits that are fixed when a container is made, but for those of real time. Absent or empty: none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FixedLimits {
    /// How readily its memory is swapped out, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swappiness: Option<u8>,
    /// Nobody is killed when memory runs out: it waits.
    pub is_oom_kill_disabled: bool,
    /// Period of the real-time scheduler in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_realtime_period: Option<u64>,
    /// Real-time processor time in that period, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_realtime_runtime: Option<i64>,
    /// Its share of the transfers of single block devices among others, 10 to 1000.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub block_io_weights: Vec<DeviceLimit>,
    /// Bytes read in a second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read_bytes: Vec<DeviceLimit>,
    /// Bytes written in a second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub write_bytes: Vec<DeviceLimit>,
    /// Reads in a second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read_operations: Vec<DeviceLimit>,
    /// Writes in a second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub write_operations: Vec<DeviceLimit>,
}

/// What is to be other limits of real time. Absent: it stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RealTime {
    /// Period of the real-time scheduler in microseconds.
    pub period: Option<u64>,
    /// Real-time processor time in that period, in microseconds.
    pub runtime: Option<i64>,
}

impl FixedLimits {
    /// These limits with others of real time, if that makes sense.
    pub fn with(&self, change: RealTime) -> Result<Self, Error> {
        let limits = Self {
            cpu_realtime_period: change.period.or(self.cpu_realtime_period),
            cpu_realtime_runtime: change.runtime.or(self.cpu_realtime_runtime),
            ..self.clone()
        };
        match limits.fits_period() {
            true => Ok(limits),
            false => Err(Error::argument("cpu_realtime_runtime_us", "it is more than its period")),
        }
    }

    /// Whether the real-time processor time is no more than its period.
    pub fn fits_period(&self) -> bool {
        let period = self.cpu_realtime_period.and_then(|period| i64::try_from(period).ok());
        period.zip(self.cpu_realtime_runtime).is_none_or(|(period, runtime)| runtime <= period)
    }
}

/// A limit for one block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceLimit {
    /// Path of its node on the host.
    pub path: PathBuf,
    /// The limit.
    pub value: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_real_time_change_one_by_one_and_fit_each_other() {
        let before = FixedLimits { memory_swappiness: Some(7), cpu_realtime_period: Some(100), ..Default::default() };

        let after = before.with(RealTime { period: None, runtime: Some(90) }).unwrap();

        let expected = FixedLimits { cpu_realtime_runtime: Some(90), ..before.clone() };
        assert_eq!(after, expected);
        assert_eq!(after.with(RealTime::default()).unwrap(), after);
        assert!(after.with(RealTime { period: Some(80), runtime: None }).is_err());
        assert!(before.with(RealTime { period: None, runtime: Some(101) }).is_err());
    }
}
