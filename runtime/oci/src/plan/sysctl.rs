//! Kernel parameters: only those of a namespace that is the container's own (CVE-2022-0811, row 16).

use oci_spec::runtime::Linux;
use strata_init::plan::{Namespace, Namespaces, Step};

use super::{Error, invalid};

/// Parameters of the IPC namespace, besides those below `fs/mqueue`. ipc/ipc_sysctl.c
const IPC: [&str; 12] = [
    "kernel/auto_msgmni",
    "kernel/msg_next_id",
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/sem_next_id",
    "kernel/shm_next_id",
    "kernel/shm_rmid_forced",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
];

/// Parameters of the pid namespace in every kernel that has them; `kernel/pid_max` is one since Linux 6.14 only.
const PID: [&str; 2] = ["kernel/ns_last_pid", "vm/memfd_noexec"];

/// Returns one step per parameter, ordered by key.
pub(super) fn steps(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<Step>, Error> {
    let mut parameters: Vec<_> = linux.sysctl().iter().flatten().collect();
    parameters.sort();
    parameters.into_iter().map(|(key, value)| step(key, value, namespaces)).collect()
}

fn step(name: &str, value: &str, namespaces: &Namespaces) -> Result<Step, Error> {
    let refuse = |reason: &str| Err(invalid(format!("linux.sysctl[{name:?}]"), reason));
    // sysctl(8): the first separator is the one between names; the other then stands for a dot or slash in a name,
    // such as that of a VLAN interface.
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let begins_with_dot = name.find(['.', '/']).is_some_and(|place| name[place..].starts_with('.'));
    let key: String = if begins_with_dot { name.chars().map(swap).collect() } else { name.to_owned() };
    let plain = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    };
    if !key.split('/').all(plain) {
        return refuse("it is not the name of a kernel parameter");
    }
    if value.is_empty()
        || value.len() > 4096
        || value.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f)
    {
        return refuse("the value is empty, over 4096 bytes, or has a control character");
    }
    let namespace = if IPC.contains(&key.as_str()) || key.starts_with("fs/mqueue/") {
        &namespaces.ipc
    } else if key.starts_with("net/") {
        &namespaces.network
    } else if PID.contains(&key.as_str()) {
        &namespaces.pid
    } else if key.starts_with("user/") {
        &namespaces.user
    } else if key == "kernel/domainname" {
        &namespaces.uts
    } else if key == "kernel/hostname" {
        return refuse("the name of the host is that of the field hostname");
    } else {
        return refuse("it belongs to the host, not to a namespace");
    };
    if *namespace == (Namespace::Host {}) {
        return refuse("its namespace is the host's");
    }
    Ok(Step::Sysctl { key, value: value.to_owned() })
}
