//! A merged view: layers stacked by the kernel in a mount that no namespace sees.
//!
//! The mount lives exactly as long as the descriptor. `lowerdir+` takes one directory at a time, so there is
//! no page of options to overflow; the kernel's limit is 500 layers.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use super::{Error, Result};

/// The kernel copies a string option of at most this many bytes: fsconfig(2).
const LONGEST_OPTION: usize = 255;

/// How often a lookup is repeated that lost a race with a rename: openat2(2), EAGAIN.
const LOOKUP_ATTEMPTS: usize = 64;

/// A stack of layers as one tree.
#[derive(Debug)]
pub struct View {
    root: OwnedFd,
}

impl View {
    /// Stacks `lowers`, topmost first, read-only. `empty` is an empty directory: overlay wants two lowers.
    pub fn open(lowers: &[PathBuf], empty: &Path) -> Result<Self> {
        let mut all: Vec<&Path> = lowers.iter().map(PathBuf::as_path).collect();
        while all.len() < 2 {
            all.push(empty);
            if all.len() < 2 {
                // Two equal lowers would be a loop (ELOOP): no layers at all is the empty directory itself.
                return Self::plain(empty);
            }
        }
        Self::mount(&all, None)
    }

    /// Stacks `lowers`, topmost first, below the writable `upper`.
    pub fn open_writable(lowers: &[PathBuf], upper: &Path, work: &Path) -> Result<Self> {
        if lowers.is_empty() {
            return Self::plain(upper);
        }
        let all: Vec<&Path> = lowers.iter().map(PathBuf::as_path).collect();
        Self::mount(&all, Some((upper, work)))
    }

    /// Uses a directory as it is.
    fn plain(directory: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::open(directory, flags, Mode::empty()).map_err(|source| Error::io("open", directory, source))?;
        Ok(Self { root })
    }

    fn mount(lowers: &[&Path], writable: Option<(&Path, &Path)>) -> Result<Self> {
        let top = lowers[0];
        let failed = |source: Errno| Error::io("stack layers below", top, source);
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed)?;
        // Long paths go in by descriptor, which must stay open until the mount exists.
        let mut held = Vec::new();
        let mut set = |key: &str, path: &Path| -> Result<()> {
            if path.as_os_str().len() <= LONGEST_OPTION {
                return fsconfig_set_string(context.as_fd(), key, path)
                    .map_err(|source| Error::io("stack layer", path, source));
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory =
                rustix::fs::open(path, flags, Mode::empty()).map_err(|source| Error::io("open", path, source))?;
            let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&directory));
            held.push(directory);
            fsconfig_set_string(context.as_fd(), key, link).map_err(|source| Error::io("stack layer", path, source))
        };
        for lower in lowers {
            set("lowerdir+", lower)?;
        }
        if let Some((upper, work)) = writable {
            set("upperdir", upper)?;
            set("workdir", work)?;
            fsconfig_set_flag(context.as_fd(), "volatile").map_err(failed)?;
        }
        for (key, value) in [("index", "off"), ("redirect_dir", "nofollow"), ("metacopy", "off")] {
            fsconfig_set_string(context.as_fd(), key, value).map_err(failed)?;
        }
        fsconfig_create(context.as_fd()).map_err(failed)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOATIME
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC
            | MountAttrFlags::MOUNT_ATTR_NOSUID;
        let attributes = if writable.is_some() { attributes } else { attributes | MountAttrFlags::MOUNT_ATTR_RDONLY };
        let root = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(failed)?;
        Ok(Self { root })
    }

    /// Borrows the root directory.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens a path inside the root, following symbolic links inside it.
    pub fn lookup(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        open_inside(self.root(), path, flags)
    }
}

/// Opens `path` with `root` as its root directory.
pub(crate) fn open_inside(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..LOOKUP_ATTEMPTS {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_hides_what_a_whiteout_names_and_stays_inside_its_root() {
        let base = tempfile::tempdir().unwrap();
        let [low, top, empty] = ["low", "top", "empty"].map(|name| {
            let path = base.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        });
        std::fs::write(low.join("gone"), "x").unwrap();
        std::fs::write(low.join("kept"), "inside").unwrap();
        std::os::unix::fs::symlink("../../../kept", top.join("link")).unwrap();
        let device = rustix::fs::makedev(0, 0);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            top.join("gone"),
            rustix::fs::FileType::CharacterDevice,
            Mode::empty(),
            device,
        )
        .unwrap();

        let view = View::open(&[top, low], &empty).unwrap();

        assert_eq!(view.lookup(Path::new("/gone"), OFlags::RDONLY).unwrap_err(), Errno::NOENT);
        let file = view.lookup(Path::new("/link"), OFlags::RDONLY).unwrap();
        assert_eq!(std::io::read_to_string(std::fs::File::from(file)).unwrap(), "inside");
    }

    #[test]
    fn a_view_of_no_layers_is_empty() {
        let base = tempfile::tempdir().unwrap();

        let view = View::open(&[], base.path()).unwrap();

        assert_eq!(view.lookup(Path::new("/etc"), OFlags::RDONLY).unwrap_err(), Errno::NOENT);
    }
}
