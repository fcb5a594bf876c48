//! Turns paths inside the container into descriptors beneath its root, making what is missing.
//! Nothing here can leave the root: openat2 with RESOLVE_IN_ROOT, single components otherwise.

use crate::wire::Created;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, fstat, fstatfs, mkdirat, openat,
    openat2, readlinkat, statx,
};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{chdir, fchdir};
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What fstatfs(2) says of a proc.
pub(crate) const PROC_MAGIC: u64 = 0x9fa0;
/// As many symbolic links as the kernel follows.
const MAX_LINKS: usize = 40;
/// Somebody who renames without end must not hold us up without end.
const MAX_ATTEMPTS: usize = 10_000;

/// What a missing path becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Directory,
    File,
}

/// The root of the container, and what had to be made in it.
pub(crate) struct Place {
    root: OwnedFd,
    mount: u64,
    /// The file systems of the kernel that were mounted, by their own descriptors: what is masked in them is found
    /// there, whoever moves or links the directory that they are on (CVE-2019-19921).
    kernel: Vec<(PathBuf, OwnedFd)>,
    pub(crate) created: Vec<Created>,
}

impl Place {
    pub(crate) fn new(root: OwnedFd) -> Result<Self, Errno> {
        let mount = mount_id(root.as_fd())?;
        Ok(Self { root, mount, kernel: Vec::new(), created: Vec::new() })
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Notes that something was mounted; `kernel` is the mount itself if it is a file system of the kernel.
    pub(crate) fn mounted(&mut self, target: &Path, kernel: Option<OwnedFd>) {
        self.kernel.retain(|(path, _)| !path.starts_with(target));
        self.kernel.extend(kernel.map(|mount| (target.to_path_buf(), mount)));
    }

    /// Opens what is there.
    pub(crate) fn open(&self, path: &Path, flags: OFlags, further: ResolveFlags) -> Result<OwnedFd, Errno> {
        open_beneath(self.root.as_fd(), path, flags, further)
    }

    /// Opens a path as O_PATH, or returns `None` if it does not exist.
    pub(crate) fn find(&self, path: &Path) -> Result<Option<OwnedFd>, Errno> {
        let below = self.kernel.iter().rev().find_map(|(mount, fd)| Some((fd, path.strip_prefix(mount).ok()?)));
        let (root, path) = match below {
            Some((fd, rest)) if rest.as_os_str().is_empty() => (fd, Path::new(".")),
            Some(below) => below,
            None => (&self.root, path),
        };
        match open_beneath(root.as_fd(), path, OFlags::PATH, ResolveFlags::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a mount point as O_PATH, making it and its parents when missing; what it makes is recorded.
    pub(crate) fn mount_point(&mut self, path: &Path, want: Want) -> Result<OwnedFd, Errno> {
        let mut created = Vec::new();
        let fd = self.ensure(path, want, 0o755, &mut created, 0)?;
        // CVE-2019-16884: what is by name in proc was judged by name; nothing else may get there by a link.
        if !path.starts_with("/proc") && fstatfs(&fd)?.f_type as u64 == PROC_MAGIC {
            return Err(Errno::PERM);
        }
        self.created.append(&mut created);
        Ok(fd)
    }

    /// Opens a directory as O_PATH, making it and its parents when missing.
    pub(crate) fn directory(&self, path: &Path, mode: u32) -> Result<OwnedFd, Errno> {
        self.ensure(path, Want::Directory, mode, &mut Vec::new(), 0)
    }

    /// Opens the directory that holds `path`, and returns the last component.
    pub(crate) fn parent<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a OsStr), Errno> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = path.parent().ok_or(Errno::INVAL)?;
        Ok((self.directory(parent, 0o755)?, name))
    }

    /// Takes away what is mounted at a path; EINVAL: nothing is. A path cannot be unmounted by descriptor, so the working
    /// directory of this process is changed.
    pub(crate) fn unmount(&self, path: &Path) -> Result<(), Errno> {
        let point = self.open(path, OFlags::PATH, ResolveFlags::empty())?;
        if !is_mount(point.as_fd())? {
            return Err(Errno::INVAL);
        }
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        if FileType::from_raw_mode(fstat(&point)?.st_mode) == FileType::Directory {
            fchdir(&point)?;
            unmount(".", flags)?;
        } else {
            let name = path.file_name().ok_or(Errno::INVAL)?;
            let parent = path.parent().ok_or(Errno::INVAL)?;
            fchdir(self.open(parent, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::empty())?)?;
            // A link would have led elsewhere than it does now.
            let found = openat(CWD, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            if mount_id(found.as_fd())? != mount_id(point.as_fd())? {
                return Err(Errno::LOOP);
            }
            unmount(name, flags)?;
        }
        chdir("/")
    }

    fn ensure(
        &self,
        path: &Path,
        want: Want,
        mode: u32,
        created: &mut Vec<Created>,
        links: usize,
    ) -> Result<OwnedFd, Errno> {
        match self.open(path, OFlags::PATH, ResolveFlags::empty()) {
            Err(Errno::NOENT) => {}
            Ok(fd) => return of_type(fd, want),
            Err(error) => return Err(error),
        }
        if links > MAX_LINKS {
            return Err(Errno::LOOP);
        }
        let name = path.file_name().ok_or(Errno::NOENT)?;
        let parent_path = path.parent().ok_or(Errno::NOENT)?;
        let parent = self.ensure(parent_path, Want::Directory, 0o755, created, links + 1)?;
        match make(parent.as_fd(), name, want, mode) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let Ok(link) = readlinkat(&parent, name, Vec::new()) else {
                    // Somebody made it in between.
                    return self.open(path, OFlags::PATH, ResolveFlags::empty());
                };
                match self.open(path, OFlags::PATH, ResolveFlags::empty()) {
                    Err(Errno::NOENT) => {}
                    // It is there by now, or it is a link of proc that nobody is to follow.
                    Ok(fd) => return of_type(fd, want),
                    Err(error) => return Err(error),
                }
                // A dangling link: what it points to is made, inside.
                let target = parent_path.join(OsStr::from_bytes(link.as_bytes()));
                return self.ensure(&target, want, mode, created, links + 1);
            }
            Err(error) => return Err(error),
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = of_type(openat(&parent, name, flags, Mode::empty())?, want)?;
        if mount_id(parent.as_fd())? == self.mount {
            created.push(Created { path: self.real_path(fd.as_fd(), path), inode: fstat(&fd)?.st_ino });
        }
        Ok(fd)
    }

    /// Returns the path beneath the root without symbolic links. The host's /proc is still what "/proc" means: the
    /// root is attached, over "/" or elsewhere, but this process is not in it before pivot_root.
    fn real_path(&self, fd: BorrowedFd<'_>, asked: &Path) -> PathBuf {
        let link = |fd: BorrowedFd<'_>| {
            let link = readlinkat(CWD, format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new()).ok()?;
            Some(PathBuf::from(OsStr::from_bytes(link.as_bytes())))
        };
        let below = link(self.root()).and_then(|root| Some(link(fd)?.strip_prefix(root).ok()?.to_path_buf()));
        below.map_or_else(|| asked.to_path_buf(), |below| Path::new("/").join(below))
    }
}

/// Opens a path beneath a directory as chroot(2) would find it, and no link of proc.
pub(crate) fn open_beneath(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    further: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | further;
    for _ in 0..MAX_ATTEMPTS {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // A rename elsewhere raced with the walk: openat2(2), EAGAIN.
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

fn make(parent: BorrowedFd<'_>, name: &OsStr, want: Want, mode: u32) -> Result<(), Errno> {
    if want == Want::Directory {
        return mkdirat(parent, name, Mode::from_raw_mode(mode));
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
    openat(parent, name, flags, Mode::from_raw_mode(mode & 0o666)).map(drop)
}

fn of_type(fd: OwnedFd, want: Want) -> Result<OwnedFd, Errno> {
    let is_directory = FileType::from_raw_mode(fstat(&fd)?.st_mode) == FileType::Directory;
    match (want, is_directory) {
        (Want::Directory, false) => Err(Errno::NOTDIR),
        (Want::File, true) => Err(Errno::ISDIR),
        _ => Ok(fd),
    }
}

/// Whether a descriptor refers to the root of a mount: statx(2), STATX_ATTR_MOUNT_ROOT, Linux 5.8.
fn is_mount(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    let found = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE)?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn mount_id(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    Ok(statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id)
}
