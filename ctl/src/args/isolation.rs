//! Flags of what keeps a container apart: namespaces, filters, devices, groups.

use clap::{Args, ValueEnum};

// What keeps a container apart from its host and from others.
#[derive(Debug, Args)]
pub struct IsolationFlags {
    /// Whose processes it sees: "host", "container:NAME" [default: its own]
    #[arg(long, value_name = "MODE")]
    pub pid: Option<String>,
    /// Whose shared memory it uses: "private", "shareable", "none", "host", "container:NAME" [default: private]
    #[arg(long, value_name = "MODE")]
    pub ipc: Option<String>,
    /// Whose name it has: "host" [default: its own]
    #[arg(long, value_name = "MODE")]
    pub uts: Option<String>,
    /// Whose users it has: "host", which all have
    #[arg(long, value_name = "MODE")]
    pub userns: Option<String>,
    /// Whose cgroups it sees
    #[arg(long, value_enum, value_name = "MODE")]
    pub cgroupns: Option<CgroupNamespace>,
    /// Add a device of the host, "/dev/fuse[:/dev/x[:rwm]]", or one by its CDI name
    #[arg(long, value_name = "PATH[:PATH[:ACCESS]]|VENDOR/CLASS=NAME")]
    pub device: Vec<String>,
    /// Let it use devices of these numbers, "c 42:* rmw"
    #[arg(long, value_name = "RULE")]
    pub device_cgroup_rule: Vec<String>,
    /// Add graphics processors: "all", a number, or "device=0,1" and their like
    #[arg(long, value_name = "WHICH")]
    pub gpus: Option<String>,
    /// Set a kernel parameter of its own namespaces
    #[arg(long, value_name = "NAME=VALUE")]
    pub sysctl: Vec<String>,
    /// "seccomp=FILE|builtin|unconfined", "no-new-privileges[=BOOL]", "systempaths=unconfined", "writable-cgroups=BOOL"
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// Add a group to those of its user
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// Run an init as its first process, which hands signals on and reaps
    #[arg(long)]
    pub init: bool,
}

/// Whose cgroups a container sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CgroupNamespace {
    /// Those of the host
    Host,
    /// Its own
    Private,
}
