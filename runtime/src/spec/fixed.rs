//! What a container may use of its host, beyond the limits that can be changed while it runs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Limits that are fixed when a container is made. Absent or empty: none.
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

/// A limit for one block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceLimit {
    /// Path of its node on the host.
    pub path: PathBuf,
    /// The limit.
    pub value: u64,
}
