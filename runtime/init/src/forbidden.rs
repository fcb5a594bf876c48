//! What a user namespace may not mount anew: the host's own takes its place where it shows no more than
//! what this process sees anyway, read-only wherever the container could write to it.

use crate::failure::{Attempt, Failure};
use crate::plan::attribute;
use crate::prepare::Prepared;
use crate::sys;
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use std::os::fd::{AsFd, OwnedFd};

/// Returns a detached copy of the host's mounts of this kind, or `failure` with its reason.
pub(crate) fn instead(kind: &str, attributes: u64, prepared: &Prepared, failure: Failure) -> Result<OwnedFd, Failure> {
    let has_own_pids = prepared.clone_flags & libc::CLONE_NEWPID as u64 != 0;
    let (path, attributes) = match kind {
        // CVE-2023-25809: the host's cgroups are below, and some of them may be the user's.
        "sysfs" => ("/sys", attributes | attribute::RDONLY),
        "cgroup" | "cgroup2" => ("/sys/fs/cgroup", attributes | attribute::RDONLY),
        "mqueue" => ("/dev/mqueue", attributes),
        "proc" if !has_own_pids => ("/proc", attributes),
        // The container would see the processes of the host.
        "proc" => {
            let text = "parts of the /proc outside are hidden, as in a container, so a user namespace gets no new one";
            return Err(Failure { text: format!("{}: {text}", failure.text), ..failure });
        }
        _ => return Err(failure),
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let step = || format!("bind {path} in place of a new {kind}");
    let mount = open_tree(CWD, path, flags).attempt(step)?;
    sys::mount_setattr(mount.as_fd(), true, attributes, 0, libc::MS_PRIVATE).attempt(step)?;
    Ok(mount)
}
