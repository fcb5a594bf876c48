//! What keeps a container apart from its host and from others: namespaces, filters, devices.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

/// How far a container is apart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Isolation {
    /// Processes that it sees.
    pub pid: Sight,
    /// Shared memory, semaphores and message queues.
    pub ipc: Ipc,
    /// It has the host's name, and may change it.
    pub has_host_name: bool,
    /// It sees the cgroups of the host.
    pub sees_host_cgroups: bool,
    /// Its system calls.
    pub filter: Filter,
    /// Whether set-user-ID and file capabilities are void. Absent: as this runtime is configured.
    pub no_new_privileges: Option<bool>,
    /// Nothing of proc and sysfs is hidden or read-only.
    pub is_unmasked: bool,
    /// Its cgroups can be written to.
    pub has_writable_cgroups: bool,
    /// Kernel parameters of its own namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Devices of the host.
    pub devices: Vec<Device>,
    /// Further rules for devices.
    pub device_rules: Vec<DeviceRule>,
}

/// Whose processes a container sees.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sight {
    /// Its own.
    #[default]
    Own,
    /// All of the host.
    Host,
    /// Those of another container: its name or id until this one is made, then its id.
    Container(String),
}

/// Whose shared memory, semaphores and message queues a container uses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ipc {
    /// Its own, which nobody shares.
    #[default]
    Private,
    /// Its own, which others may share.
    Shareable,
    /// Its own, without /dev/shm.
    None,
    /// The host's.
    Host,
    /// Those of another container, which is [`Ipc::Shareable`]: its name or id until this one is made, then its id.
    Container(String),
}

/// Which system calls a container may make.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Those of the default profile.
    #[default]
    Default,
    /// All.
    Unconfined,
    /// Those of a profile in Docker's form, as JSON.
    Profile(String),
}

/// A device of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path of its node on the host; of a directory, all nodes in it.
    pub host: PathBuf,
    /// Path of its node in the container.
    pub container: PathBuf,
    /// "r" read, "w" write, "m" make nodes.
    pub access: String,
}

/// A rule for devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// "a" all, "b" block devices, "c" character devices.
    pub kind: char,
    /// Major number. Absent: all.
    pub major: Option<i64>,
    /// Minor number. Absent: all.
    pub minor: Option<i64>,
    /// "r" read, "w" write, "m" make nodes.
    pub access: String,
}
