//! The root of a container without a mount namespace of its own: attached at its place on the host, with all mounts of
//! the container below it, until the container is removed.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::{
    fs::{AtFlags, CWD, StatxFlags, statx},
    io::Errno,
    mount::{UnmountFlags, unmount},
};
use serde::{Deserialize, Serialize};

/// A place on the host, and the mount that it was on before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    path: PathBuf,
    before: u64,
}

impl Attached {
    /// Looks at the place of a root that is to be attached; none where the container has a mount namespace.
    pub fn look(spec: &Spec, rootfs: &Path) -> Result<Option<Self>, String> {
        let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
        if namespaces.iter().any(|one| one.typ() == LinuxNamespaceType::Mount) {
            return Ok(None);
        }
        let before = mount_of(rootfs).map_err(|error| format!("cannot look at {}: {error}", rootfs.display()))?;
        Ok(Some(Self { path: rootfs.to_owned(), before }))
    }

    /// Unmounts the root and what is below it, if it is there.
    pub fn detach(&self) -> Result<(), String> {
        let failed = |error: Errno| format!("cannot unmount {}: {error}", self.path.display());
        match mount_of(&self.path) {
            Ok(now) if now != self.before => {
                unmount(&self.path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).map_err(failed)
            }
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }
}

fn mount_of(path: &Path) -> Result<u64, Errno> {
    statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID).map(|found| found.stx_mnt_id)
}
