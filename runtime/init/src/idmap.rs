//! User namespaces that nobody lives in: the kernel takes the id map of a mount from one.

use crate::channel::{Channel, GO};
use crate::failure::{Attempt, Failure};
use crate::plan::{IdMap, MountIds, Namespace, Plan};
use crate::prepare::path_fd;
use crate::spawn::write_map;
use crate::sys::{self, Cloned};
use rustix::fs::OFlags;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// One namespace per pair of maps.
#[derive(Default)]
pub(crate) struct Maps<'a>(Vec<(&'a MountIds, OwnedFd)>);

impl<'a> Maps<'a> {
    /// Maps the ids of a detached mount.
    pub(crate) fn apply(&mut self, plan: &Plan, mount: BorrowedFd<'_>, ids: &'a MountIds) -> Result<(), Failure> {
        let is_same = |have: &&(&MountIds, OwnedFd)| have.0.uids == ids.uids && have.0.gids == ids.gids;
        if let Some((_, namespace)) = self.0.iter().find(is_same) {
            return map(mount, ids, namespace.as_fd());
        }
        let namespace = match &plan.namespaces.user {
            Namespace::Path { path } if ids.uids.is_empty() => path_fd(path, OFlags::RDONLY)?,
            _ => make(&ids.uids, &ids.gids)?,
        };
        map(mount, ids, namespace.as_fd())?;
        self.0.push((ids, namespace));
        Ok(())
    }
}

fn map(mount: BorrowedFd<'_>, ids: &MountIds, namespace: BorrowedFd<'_>) -> Result<(), Failure> {
    sys::map_ids(mount, ids.recursive, namespace).attempt(|| "map the ids of the mount".into())
}

/// Makes a user namespace with a process that ends as soon as the namespace is open.
fn make(uids: &[IdMap], gids: &[IdMap]) -> Result<OwnedFd, Failure> {
    let (ours, theirs) = Channel::pair().attempt(|| "make a socket pair".into())?;
    let made = sys::clone3(libc::CLONE_NEWUSER as u64, None).attempt(|| "make a user namespace for a mount".into())?;
    let Cloned::Parent { pid, pidfd } = made else {
        drop(ours);
        theirs.wait_for_gate(GO);
        sys::exit(0)
    };
    drop(theirs);
    let namespace = write_map(pid, "uid_map", uids)
        .and_then(|()| write_map(pid, "gid_map", gids))
        .and_then(|()| path_fd(format!("/proc/{pid}/ns/user").as_ref(), OFlags::RDONLY));
    drop(ours);
    let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    namespace
}
