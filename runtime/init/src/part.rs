//! Parts of file systems that nobody else sees: a path of an overlay, a file of a tmpfs.
//! Before Linux 6.15 only what is attached can be cloned, so the whole is attached for a moment, over the root, and what
//! starts at a descriptor below it does not meet it.

use crate::place::{Place, open_beneath};
use crate::plan::attribute;
use crate::steps::{attach, clone_mount};
use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid, fchmod, fchown, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string,
    fsmount, fsopen, unmount,
};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// A file to make in memory.
pub(crate) struct File<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
}

impl File<'_> {
    /// Makes the file alone in a tmpfs of its own, as a detached mount.
    pub(crate) fn make(&self, place: &Place) -> Result<OwnedFd, std::io::Error> {
        let filesystem = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&filesystem, "mode", "700")?;
        fsconfig_create(&filesystem)?;
        let attributes = MountAttrFlags::from_bits_retain((attribute::NOSUID | attribute::NODEV) as u32);
        let whole = fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut file = std::fs::File::from(openat(&whole, "file", flags, Mode::from_raw_mode(0o600))?);
        file.write_all(self.bytes)?;
        fchown(&file, Some(Uid::from_raw(self.owner.0)), Some(Gid::from_raw(self.owner.1)))?;
        fchmod(&file, Mode::from_raw_mode(self.mode & 0o7777))?;
        // A mount that is written to cannot become read-only.
        drop(file);
        Ok(of(place, whole, Path::new("file"))?)
    }
}

/// Clones what is at a path of a detached mount; links on the way stay inside it.
pub(crate) fn of(place: &Place, whole: OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() || path == Path::new("/") { Path::new(".") } else { path };
    let point = open_beneath(whole.as_fd(), path, OFlags::PATH, ResolveFlags::empty())?;
    attach(whole.as_fd(), place.root())?;
    let part = clone_mount(point.as_fd(), OpenTreeFlags::empty());
    // Its own root is what the link leads to, whatever is there by name.
    unmount(format!("/proc/self/fd/{}", whole.as_raw_fd()), UnmountFlags::DETACH)?;
    part
}
