//! Why a cgroup operation failed.

use std::{io, path::PathBuf};

/// Why a cgroup operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is absolute nonsense: empty, `..`, a NUL (GHSA-5g49-rx9x-qfc6).
    #[error("cgroup name {name:?} is not a plain path below a hierarchy")]
    Name {
        /// The name as given.
        name: String,
    },
    /// `/proc/self/mountinfo` shows no cgroup hierarchy.
    #[error("no cgroup hierarchy is mounted")]
    NoHierarchy,
    /// A cgroup of this name exists already.
    #[error("cgroup {path} exists already", path = path.display())]
    Exists {
        /// Its directory.
        path: PathBuf,
    },
    /// A cgroup of this name exists, and is no place for a new container.
    #[error("cgroup {path} cannot be used: {reason}", path = path.display())]
    Occupied {
        /// Its directory.
        path: PathBuf,
        /// What is in the way.
        reason: &'static str,
    },
    /// The field asks for a controller that this host does not offer.
    #[error("cannot apply {field}: the cgroup controller {controller} is not available")]
    NoController {
        /// Field of the OCI spec.
        field: String,
        /// Name of the controller.
        controller: String,
    },
    /// The field asks for what this user was not given.
    #[error("cannot apply {field}: {missing}")]
    NotDelegated {
        /// Field of the OCI spec.
        field: String,
        /// What is missing.
        missing: String,
    },
    /// The field has no meaning on this host's cgroup version, or its value none at all.
    #[error("cannot apply {field}: {reason}")]
    Unsupported {
        /// Field of the OCI spec.
        field: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// More memory is in use than the new limit allows, and `checkBeforeUpdate` is set.
    #[error("cannot apply linux.resources.memory.limit: {usage} bytes are in use, more than {limit}")]
    InUse {
        /// Bytes in use.
        usage: u64,
        /// The limit asked for.
        limit: i64,
    },
    /// The kernel refused a limit.
    #[error("cannot apply {field}: writing {value:?} to {path} failed", path = path.display())]
    Limit {
        /// Field of the OCI spec.
        field: String,
        /// The file written to.
        path: PathBuf,
        /// What was written.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused the eBPF program of the device rules.
    #[error("cannot apply linux.resources.devices: the device filter of cgroup {path} was refused", path = path.display())]
    Filter {
        /// The cgroup's directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Controllers cannot be handed to the children of a cgroup of v2.
    #[error("cannot enable the controllers {controllers} below cgroup {path}: {reason}", path = path.display())]
    Enable {
        /// The directory whose `cgroup.subtree_control` refused.
        path: PathBuf,
        /// The controllers.
        controllers: String,
        /// What this error means here.
        reason: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file or directory of the hierarchy could not be used.
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        /// The verb: "create", "read", "write", "remove".
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// systemd did not do its part.
    #[error(transparent)]
    Systemd(#[from] crate::systemd::Error),
    /// Processes survived repeated SIGKILLs.
    #[error("processes are left in cgroup {path} after killing it", path = path.display())]
    Unkillable {
        /// The directory that still lists them.
        path: PathBuf,
    },
}
