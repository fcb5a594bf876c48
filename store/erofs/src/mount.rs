//! Mounting an image: by the new mount API, from the file, without a loop device, and attached nowhere.

use crate::error::Error;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};
use std::fs::File;

/// More of what the kernel says about a mount is not told.
const LONGEST_LOG: usize = 400;

/// Mounts an image read-only, for as long as the descriptor or anything that was opened through it lives. Needs
/// privileges in the first user namespace, and Linux 6.12. An index has its contents in the images `devices`, which are
/// given in the order of [`devices`](fn@crate::devices).
pub fn mount(image: &File, devices: &[File]) -> Result<OwnedFd, Error> {
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| refused("open EROFS", "", errno))?;
    let context = context.as_fd();
    let failed = |attempt| move |errno| refused(attempt, &said(context), errno);
    // Not by its name, which may be another file's by now.
    let link = |file: &File| format!("/proc/self/fd/{}", file.as_raw_fd());
    fsconfig_set_string(context, "source", link(image)).map_err(failed("name its file"))?;
    for device in devices {
        fsconfig_set_string(context, "device", link(device)).map_err(failed("name an image it refers to"))?;
    }
    fsconfig_create(context).map_err(failed("read it"))?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOATIME
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(failed("make the mount"))
}

fn refused(attempt: &'static str, log: &str, errno: Errno) -> Error {
    Error::Mount { attempt, log: log.to_owned(), source: errno.into() }
}

/// Reads what the kernel said last about a mount in the making.
fn said(context: BorrowedFd<'_>) -> String {
    let mut text = [0; LONGEST_LOG];
    // Nothing said is no error.
    let count = rustix::io::read(context, &mut text).unwrap_or(0);
    String::from_utf8_lossy(&text[..count]).trim().to_owned()
}
