//! Overlays for kernels before 6.8, which have no `lowerdir+`: by mount(2), in a mount namespace of its own.
//! That call takes a page of options, so it is given links as names: 500 layers, the kernel's limit, fit.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use rustix::fs::{CWD, symlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsmount, fsopen, mount, mount_change, open_tree, unmount,
};
use strata_archive::owner;

/// Stacks `lowers`, topmost first, below the writable upper and its work directory, and returns the detached mount.
pub(super) fn stack(
    lowers: &[&Path],
    writable: Option<(&Path, &Path)>,
    options: &[(&str, &str)],
    flags: MountFlags,
) -> Result<OwnedFd, Errno> {
    // The thread's namespace, root and working directory end with it.
    let made = std::thread::scope(|scope| scope.spawn(|| privately(lowers, writable, options, flags)).join());
    made.unwrap_or(Err(Errno::NOMEM))
}

fn privately(
    lowers: &[&Path],
    writable: Option<(&Path, &Path)>,
    options: &[(&str, &str)],
    flags: MountFlags,
) -> Result<OwnedFd, Errno> {
    let absolute = |path: &Path| -> Result<PathBuf, Errno> { std::path::absolute(path).map_err(|_| Errno::INVAL) };
    let target = absolute(lowers.first().ok_or(Errno::INVAL)?)?;
    let mut links = Vec::new();
    for (index, lower) in lowers.iter().enumerate() {
        links.push((index.to_string(), absolute(lower)?));
    }
    let names: Vec<&str> = links.iter().map(|(name, _)| name.as_str()).collect();
    let mut data = format!("lowerdir={}", names.join(":"));
    if let Some((upper, work)) = writable {
        links.extend([("u".to_owned(), absolute(upper)?), ("w".to_owned(), absolute(work)?)]);
        data += ",upperdir=u,workdir=w,volatile";
    }
    if owner::is_restricted() {
        data += ",userxattr";
    }
    for (key, value) in options {
        data += &format!(",{key}={value}");
    }
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;

    let unshared = nix::sched::unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS);
    unshared.map_err(|errno| Errno::from_raw_os_error(errno as i32))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let directory = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&directory)?;
    let directory = fsmount(&directory, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    for (name, path) in &links {
        symlinkat(path, &directory, name)?;
    }
    rustix::process::fchdir(&directory)?;
    mount("overlay", &target, "overlay", flags, data.as_c_str())?;
    let tree = open_tree(CWD, &target, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    // Now, not when the namespace ends: then the descriptor alone keeps the layers in use.
    unmount(&target, UnmountFlags::DETACH)?;
    Ok(tree)
}
