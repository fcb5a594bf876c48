//! What is different for a caller without privileges: where its state lives, that its containers need a user
//! namespace; `limits` has that limits need a cgroup somebody handed over to it.
//! A limit that is asked for and cannot be applied is an error; what only comes along is dropped with a note.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
    thread::{CapabilitySet, capabilities},
};
use strata_oci::unprivileged::is_in_user_namespace;
pub use strata_oci::unprivileged::{device_nodes, fit};

use crate::state::is_alive;

/// Says whether this process may mount and make namespaces where it is.
pub fn is_privileged() -> bool {
    may(CapabilitySet::SYS_ADMIN)
}

fn may(capability: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

/// Returns the directory of the containers' state where none is named: a user's is below one that is the user's alone.
pub fn default_root() -> Result<PathBuf, String> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let uid = rustix::process::geteuid();
    if uid.is_root() && !(runtime.is_some() && is_in_user_namespace()) {
        return Ok(PathBuf::from("/run/strata-oci"));
    }
    let uid = uid.as_raw();
    let candidates = runtime.into_iter().chain([PathBuf::from(format!("/run/user/{uid}"))]);
    match candidates.into_iter().find(|path| fs::metadata(path).is_ok_and(|one| one.is_dir() && one.uid() == uid)) {
        Some(directory) => Ok(directory.join("strata-oci")),
        None => private(&std::env::temp_dir().join(format!("strata-oci-{uid}")), uid),
    }
}

/// Makes or verifies a directory in a place where others may have been first.
fn private(path: &Path, uid: u32) -> Result<PathBuf, String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot use {} for state: {error}", path.display());
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(&error)),
        _ => {}
    }
    // Not through a link: it could be anybody's.
    let found = fs::symlink_metadata(path).map_err(|error| failed(&error))?;
    if !found.is_dir() || found.uid() != uid || found.mode() & 0o077 != 0 {
        return Err(failed(&"it is not a directory of this user alone (XDG_RUNTIME_DIR or --root names another)"));
    }
    Ok(path.to_owned())
}

/// Refuses what the kernel would refuse later with fewer words.
pub fn check(spec: &Spec) -> Result<(), String> {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let has_user = namespaces.into_iter().flatten().any(|one| one.typ() == LinuxNamespaceType::User);
    if has_user || is_privileged() {
        return check_groups(spec);
    }
    let uid = rustix::process::geteuid().as_raw();
    Err(format!(
        "linux.namespaces: user {uid} has no privileges, so the container needs a user namespace \
         (`strata-oci spec --rootless` writes one)"
    ))
}

/// user_namespaces(7): a map of the own group alone, which needs no helper, forbids setgroups(2).
fn check_groups(spec: &Spec) -> Result<(), String> {
    let groups = spec.process().as_ref().and_then(|process| process.user().additional_gids().as_ref());
    let mappings = spec.linux().as_ref().and_then(|linux| linux.gid_mappings().as_deref()).unwrap_or_default();
    let is_single = matches!(mappings, [one] if one.size() == 1);
    if is_single && groups.is_some_and(|groups| !groups.is_empty()) && !may(CapabilitySet::SETGID) {
        let text = "none can be set where linux.gidMappings has but the own group";
        return Err(format!("process.user.additionalGids: {text}"));
    }
    Ok(())
}

/// Returns the processes in the pid namespace of this one, which must not be our own.
pub fn pids_of_namespace(pid: u32) -> Result<Vec<i32>, String> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid"));
    let theirs = namespace(&pid.to_string()).map_err(|error| format!("cannot look at process {pid}: {error}"))?;
    if namespace("self").is_ok_and(|ours| ours == theirs) {
        return Err("it has neither a cgroup nor a pid namespace, so its processes are not known".to_owned());
    }
    let entries = fs::read_dir("/proc").map_err(|error| format!("cannot list /proc: {error}"))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_theirs = |name: &String| namespace(name).is_ok_and(|one| one == theirs);
    let mut pids: Vec<i32> = names.filter(is_theirs).filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    Ok(pids)
}

/// Kills the first process of a container that has no cgroup, and waits until it is gone.
pub fn kill_process(pid: u32, start_time: u64) -> Result<(), String> {
    let Some(id) = Pid::from_raw(pid as i32) else { return Ok(()) };
    // The descriptor first, then the check: the pid cannot be reused in between.
    let Ok(descriptor) = pidfd_open(id, PidfdFlags::empty()) else { return Ok(()) };
    if !is_alive(pid, start_time) {
        return Ok(());
    }
    let failed = |error| format!("cannot kill process {pid}: {error}");
    match pidfd_send_signal(&descriptor, Signal::KILL) {
        Err(Errno::SRCH) => return Ok(()),
        result => result.map_err(failed)?,
    }
    loop {
        match poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], None) {
            Err(Errno::INTR) => {}
            result => return result.map(drop).map_err(failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_directory_in_a_shared_place_is_used_only_if_it_is_the_users_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let uid = rustix::process::geteuid().as_raw();

        assert_eq!(private(&path, uid).as_deref(), Ok(path.as_path()));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        assert_eq!(private(&path, uid).as_deref(), Ok(path.as_path()));

        assert!(private(&path, uid + 1).is_err(), "another's");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(private(&path, uid).is_err(), "open to others");
        let link = directory.path().join("link");
        symlink(directory.path(), &link).unwrap();
        assert!(private(&link, uid).is_err(), "a link");
    }
}
