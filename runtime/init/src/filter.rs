//! Device filters of cgroup v2: eBPF programs loaded and attached by bpf(2). Who makes the program decides, this
//! only acts. Safe from threads too: nothing here forks.

use crate::sys;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Attaches a program of 8-byte instructions to a cgroup v2 directory, in place of those that are there.
///
/// The old filter stays in force until the new one is: a failure changes nothing.
pub fn attach_device_filter(cgroup: BorrowedFd<'_>, program: &[u64]) -> Result<(), Errno> {
    let old = attached(cgroup)?;
    let new = load(program)?;
    match old.as_slice() {
        [only] => match sys::bpf_attach(cgroup, new.as_fd(), Some(only.as_fd())) {
            // Linux before 5.6 knows no replacement.
            Err(Errno::INVAL) => sys::bpf_attach(cgroup, new.as_fd(), None)?,
            result => return result,
        },
        _ => sys::bpf_attach(cgroup, new.as_fd(), None)?,
    }
    // All must agree for an access, so that in between there is too little, never too much.
    old.iter().try_for_each(|old| sys::bpf_detach(cgroup, old.as_fd()))
}

/// Counts the device filters of a cgroup v2 directory itself.
pub fn device_filters(cgroup: BorrowedFd<'_>) -> Result<usize, Errno> {
    sys::bpf_query(cgroup).map(|ids| ids.len())
}

/// Says whether this process may load device filters: it loads one that allows everything, and forgets it.
pub fn can_filter_devices() -> bool {
    // r0 = 1; exit
    load(&[0x0000_0001_0000_00b7, 0x0000_0000_0000_0095]).is_ok()
}

fn attached(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Errno> {
    let mut programs = Vec::new();
    for id in sys::bpf_query(cgroup)? {
        match sys::bpf_program(id) {
            Ok(program) => programs.push(program),
            // Detached in between, or a security module hides it: it can only forbid more.
            Err(Errno::NOENT | Errno::PERM | Errno::ACCESS) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(programs)
}

/// Before Linux 5.11 a program counts as locked memory; the limit is raised for the moment of loading only.
fn load(program: &[u64]) -> Result<OwnedFd, Errno> {
    let result = sys::bpf_load_device_filter(program);
    if result.as_ref().err() != Some(&Errno::PERM) {
        return result;
    }
    let limit = getrlimit(Resource::Memlock);
    setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }).map_err(|_| Errno::PERM)?;
    let result = sys::bpf_load_device_filter(program);
    setrlimit(Resource::Memlock, limit)?;
    result
}
