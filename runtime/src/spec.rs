//! What a container shall be, as decided when it is created: the domain's form of the wire's `ContainerSpec`.
//! Parsed once in `grpc`; everything below trusts it. It is also part of the record on disk.

use std::{collections::BTreeMap, net::IpAddr};

use oci_spec::runtime::PosixRlimit;
use serde::{Deserialize, Serialize};
use strata_net::Attachment;
use strata_types::{Platform, SnapshotKey};

use crate::{cdi::DeviceName, health, restart};

mod fixed;
mod isolation;
pub mod limits;
mod log;
mod mount;
mod ports;
mod secret;

pub use fixed::{DeviceLimit, FixedLimits, RealTime};
pub use isolation::{Device, DeviceRule, Filter, Ipc, Isolation, Sight};
pub use limits::Limits;
pub use log::{Driver, Log};
pub use mount::{
    Bind, IdMap, Ids, ImageMount, Mount, Propagation, Recursion, Source, Tmpfs, VolumeMount, VolumePlace, VolumesFrom,
};
pub use ports::Ports;
pub use secret::{DIRECTORY, MAX_SECRETS, SecretFile, SecretForm, SecretUse};

/// Everything that is decided when a container is created.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// Where its root file system comes from.
    pub root: Root,
    /// Program and arguments after the entry point. Empty: the image's.
    pub command: Vec<String>,
    /// Entry point. Absent: the image's; empty: none.
    pub entry_point: Option<Vec<String>>,
    /// Environment on top of the image's: KEY=VALUE, or KEY to remove.
    pub env: Vec<String>,
    /// Working directory. Empty: the image's, else "/".
    pub working_directory: String,
    /// User. Empty: the image's, else root.
    pub user: String,
    /// It has a terminal.
    pub has_terminal: bool,
    /// Standard input stays open for an attached client.
    pub has_stdin: bool,
    /// Host name. Empty: the first 12 digits of the id.
    pub hostname: String,
    /// Network.
    pub network: Network,
    /// How names lead to addresses.
    #[serde(default)]
    pub resolution: Resolution,
    /// Ports of the host that lead to it.
    #[serde(default)]
    pub ports: Ports,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// The root file system is read-only.
    pub is_root_read_only: bool,
    /// Limits.
    pub limits: Limits,
    /// Limits that are fixed.
    #[serde(default)]
    pub fixed_limits: FixedLimits,
    /// How far it is apart.
    #[serde(default)]
    pub isolation: Isolation,
    /// Groups of its user beside those of its image, by name or number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group_add: Vec<String>,
    /// How readily it is killed when memory runs out, -1000 to 1000. Absent: as this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// Its first process is an init, its program the second.
    #[serde(default)]
    pub has_init: bool,
    /// The cgroup that its own is below. Empty: as this service is configured.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cgroup_parent: String,
    /// Capabilities on top of the default ones.
    pub cap_add: Vec<String>,
    /// Capabilities to take away.
    pub cap_drop: Vec<String>,
    /// All capabilities and devices, no seccomp filter, nothing masked.
    pub is_privileged: bool,
    /// It is removed when it has stopped.
    pub auto_remove: bool,
    /// What follows its end.
    #[serde(default)]
    pub restart: restart::Policy,
    /// How its health is checked, beside what its image says.
    #[serde(default)]
    pub health: health::Wish,
    /// What must run when it is started, and what is started before it with the host: names or ids until it is made,
    /// then ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<Dependency>,
    /// Labels: inert.
    pub labels: BTreeMap<String, String>,
    /// Annotations of its OCI spec, which hooks of its devices find there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Signal that Stop sends first. Empty: the image's, else TERM.
    pub stop_signal: String,
    /// Seconds between that and the kill, where who stops it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout_seconds: Option<u32>,
    /// The writable layer need not survive a crash of the host.
    pub is_volatile: bool,
    /// No log is kept.
    pub has_no_log: bool,
    /// What becomes of its output, if one is.
    #[serde(default)]
    pub log: Log,
    /// Platform that the image must be for. Absent: what suits this machine best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Names in /etc/hosts beyond the usual ones, with their addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// Size of /dev/shm. Absent: 64 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm_size_bytes: Option<u64>,
    /// Bytes that what it writes to its root file system may have. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writable_size_bytes: Option<u64>,
    /// Limits of each process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ulimits: Vec<PosixRlimit>,
    /// Devices by their CDI names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cdi_devices: Vec<DeviceName>,
    /// Secrets that it has. Their values are read when it starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretUse>,
    /// Containers whose mounts it gets too, until it is made: then they are among its own.
    #[serde(skip)]
    pub volumes_from: Vec<VolumesFrom>,
    /// Environment that only the process knows.
    #[serde(skip)]
    pub secret_env: SecretEnv,
}

/// KEY=VALUE pairs that are in no record and in no log.
#[derive(Clone, Default)]
pub struct SecretEnv(pub Vec<String>);

impl std::fmt::Debug for SecretEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} pairs", self.0.len())
    }
}

/// Where a root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Root {
    /// An image of the node's store: name, id or unique id prefix.
    Image(String),
    /// A snapshot that exists and belongs to the caller: build steps.
    Snapshot(SnapshotKey),
}

/// Another container that one depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// Its name or id until the one that depends on it is made, then its id.
    pub container: String,
    /// It must run when the other is started. Otherwise it is only started before it, where both are.
    pub is_required: bool,
}

/// Network of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// As this runtime is configured: what stands in no record.
    Default,
    /// Only a loopback device.
    None,
    /// The host's.
    Host,
    /// Networks of this runtime, beside the loopback device.
    Networks(Vec<Attachment>),
    /// That of another container: its name or id until this one is made, then its id.
    Container(String),
}

impl Network {
    /// What it wants of networks.
    pub fn attachments(&self) -> &[Attachment] {
        match self {
            Self::Networks(attachments) => attachments,
            Self::Default | Self::None | Self::Host | Self::Container(_) => &[],
        }
    }
}

/// How names lead to addresses, where a container says so.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resolution {
    /// NIS domain name, and the rest of the host's full name. Empty: none.
    pub domainname: String,
    /// Servers that are asked. Empty: the host's.
    pub servers: Vec<IpAddr>,
    /// Domains that names without a dot are looked for in. Empty: the host's; "." alone: none.
    pub searches: Vec<String>,
    /// Options of resolv.conf(5). Empty: the host's.
    pub options: Vec<String>,
    /// Names that lead to the host, as it is reached from the container.
    pub host_gateway_names: Vec<String>,
}

/// The most bytes of one bytes mount.
pub const MAX_BYTES_MOUNT: usize = 1 << 20;

/// The process as it runs, after image and request were put together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Process {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Environment, KEY=VALUE.
    pub env: Vec<String>,
    /// Working directory.
    pub working_directory: String,
    /// User as asked for.
    pub user: String,
    /// Signal that Stop sends first.
    pub stop_signal: String,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Which way.
    pub kind: ExitKind,
    /// The kernel's out-of-memory killer struck in its cgroup.
    #[serde(default)]
    pub is_oom_killed: bool,
}

/// The three ways to end; what nobody knows never becomes 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitKind {
    /// It called exit with this code.
    Code(u32),
    /// This signal ended it.
    Signal(u32),
    /// Nobody knows, and why.
    Unknown(String),
}

impl Exit {
    /// An exit with a code.
    pub fn code(code: u32) -> Self {
        Self { kind: ExitKind::Code(code), is_oom_killed: false }
    }

    /// The code as shells tell it: 128 and the number of a signal.
    pub fn shell_code(&self) -> String {
        match self.kind {
            ExitKind::Code(code) => code.to_string(),
            ExitKind::Signal(number) => (128 + number).to_string(),
            ExitKind::Unknown(_) => "unknown".to_owned(),
        }
    }

    /// An end that nobody saw.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self { kind: ExitKind::Unknown(reason.into()), is_oom_killed: false }
    }
}

/// Size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

impl Default for TerminalSize {
    fn default() -> Self {
        Self { columns: 80, rows: 24 }
    }
}

/// A mount point that had to be made in the root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// Absolute path in the root file system.
    pub path: String,
    /// Inode number.
    pub inode: u64,
}
