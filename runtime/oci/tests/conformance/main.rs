//! The OCI runtime specification, claim by claim, against the command line and the kernel. Needs root and a cgroup
//! hierarchy. A test whose first line of documentation is `Spec: DOCUMENT, SECTION: CLAIM` is a row of the table in
//! the engine's README, which `table` keeps true.

#[allow(dead_code, reason = "for the areas that are to come")]
mod bundle;
mod cgroups;
mod config;
mod devices;
mod features;
mod further;
mod hooks;
mod hostile;
mod hybrid;
mod joins;
mod kills;
mod leaks;
mod mounts;
mod namespaces;
mod notify;
mod operations;
mod process;
mod races;
mod rootfs;
mod rootless;
mod scopes;
mod sealed;
mod seccomp;
mod sysctl;
mod systemd;
mod table;
mod terminals;
