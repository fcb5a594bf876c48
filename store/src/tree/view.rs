//! A merged view: layers stacked by the kernel in a mount that no namespace sees.
//!
//! The mount lives exactly as long as the descriptor. `lowerdir+` takes one directory at a time, so there is
//! no page of options to overflow; the kernel's limit is 500 layers. Linux has it from 6.8 on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use strata_archive::owner;

use super::{Error, Result, legacy};

/// Options of every overlay.
const OPTIONS: [(&str, &str); 3] = [("index", "off"), ("redirect_dir", "nofollow"), ("metacopy", "off")];

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
        match Self::modern(lowers, writable) {
            Err(Error::Io { attempt, path, source }) if source.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                Self::legacy(lowers, writable).map_err(|second| {
                    let count = lowers.len();
                    let text = format!(
                        "{source}; mount(2), used where Linux is older than 6.8 and at least 5.12, says for {count} \
                         layers: {second}"
                    );
                    Error::io(attempt, path, std::io::Error::new(source.kind(), text))
                })
            }
            done => done,
        }
    }

    fn legacy(lowers: &[&Path], writable: Option<(&Path, &Path)>) -> Result<Self, Errno> {
        let flags = MountFlags::NOATIME | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOSUID;
        let flags = if writable.is_some() { flags } else { flags | MountFlags::RDONLY };
        legacy::stack(lowers, writable, &OPTIONS, flags).map(|root| Self { root })
    }

    fn modern(lowers: &[&Path], writable: Option<(&Path, &Path)>) -> Result<Self> {
        let top = lowers[0];
        let failed = |source: Errno| Error::io("stack layers below", top, source);
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed)?;
        // Before 6.5 an overlay takes any option, and refuses unknown ones, in the kernel's log, when it is made.
        if fsconfig_set_flag(context.as_fd(), "strata-probe").is_ok() {
            return Err(failed(Errno::INVAL));
        }
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
        if owner::is_restricted() {
            fsconfig_set_flag(context.as_fd(), "userxattr").map_err(failed)?;
        }
        for (key, value) in OPTIONS {
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
    use rustix::fs::{CWD, FileType, StatVfsMountFlags};

    use super::*;

    type Way = fn(&[&Path], Option<(&Path, &Path)>) -> View;

    /// The way of this kernel, which is the other one from 6.8 on, and mount(2).
    const WAYS: [Way; 2] = [
        |lowers, writable| View::mount(lowers, writable).unwrap(),
        |lowers, writable| View::legacy(lowers, writable).unwrap(),
    ];

    /// A directory whose name would need an escape in options.
    fn base() -> tempfile::TempDir {
        tempfile::Builder::new().prefix("view:a,b ").tempdir_in("/var/tmp").unwrap()
    }

    fn directories<const N: usize>(base: &Path, names: [&str; N]) -> [PathBuf; N] {
        names.map(|name| {
            let path = base.join(name);
            std::fs::create_dir(&path).unwrap();
            path
        })
    }

    fn read(view: &View, path: &str) -> String {
        let file = view.lookup(Path::new(path), OFlags::RDONLY).unwrap();
        std::io::read_to_string(std::fs::File::from(file)).unwrap()
    }

    fn whiteout(path: &Path) {
        let device = rustix::fs::makedev(0, 0);
        rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), device).unwrap();
    }

    #[test]
    fn a_view_hides_what_a_whiteout_names_and_stays_inside_its_root() {
        for way in WAYS {
            let base = base();
            let [low, top] = directories(base.path(), ["low", "top"]);
            std::fs::write(low.join("gone"), "x").unwrap();
            std::fs::write(low.join("kept"), "inside").unwrap();
            std::os::unix::fs::symlink("../../../kept", top.join("link")).unwrap();
            whiteout(&top.join("gone"));

            let view = way(&[&top, &low], None);

            assert_eq!(view.lookup(Path::new("/gone"), OFlags::RDONLY).unwrap_err(), Errno::NOENT);
            assert_eq!(read(&view, "/link"), "inside");
            let flags = rustix::fs::fstatvfs(view.root()).unwrap().f_flag;
            let wanted = StatVfsMountFlags::RDONLY
                | StatVfsMountFlags::NODEV
                | StatVfsMountFlags::NOEXEC
                | StatVfsMountFlags::NOSUID
                | StatVfsMountFlags::NOATIME;
            assert!(flags.contains(wanted), "{flags:?}");
        }
    }

    #[test]
    fn what_is_written_to_a_writable_view_is_in_the_upper() {
        for way in WAYS {
            let base = base();
            let [low, upper, work] = directories(base.path(), ["low", "upper", "work"]);
            std::fs::write(low.join("file"), "below").unwrap();

            let view = way(&[&low], Some((&upper, &work)));
            let flags = OFlags::WRONLY | OFlags::TRUNC;
            let file = view.lookup(Path::new("/file"), flags).unwrap();
            rustix::io::write(&file, b"changed").unwrap();

            assert_eq!(std::fs::read_to_string(upper.join("file")).unwrap(), "changed");
            assert_eq!(std::fs::read_to_string(low.join("file")).unwrap(), "below");
            assert!(work.join("work/incompat/volatile").exists());
        }
    }

    #[test]
    fn a_view_has_as_many_layers_as_the_kernel_allows_and_the_host_sees_no_mount() {
        for way in WAYS {
            let base = base();
            let names: Vec<PathBuf> = (0..500).map(|number| base.path().join(number.to_string())).collect();
            names.iter().for_each(|path| std::fs::create_dir(path).unwrap());
            std::fs::write(names[499].join("deepest"), "found").unwrap();
            let lowers: Vec<&Path> = names.iter().map(PathBuf::as_path).collect();

            let view = way(&lowers, None);

            assert_eq!(read(&view, "/deepest"), "found");
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
            let unique = base.path().to_str().unwrap().rsplit_once(' ').unwrap().1;
            assert!(!mounts.contains(unique));
        }
    }

    #[test]
    fn too_many_layers_are_refused_by_either_way_in_one_error() {
        let base = base();
        let names: Vec<PathBuf> = (0..501).map(|number| base.path().join(number.to_string())).collect();
        names.iter().for_each(|path| std::fs::create_dir(path).unwrap());

        let error = View::open(&names, base.path()).unwrap_err();

        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("older than 6.8") && cause.contains("501 layers"), "{cause}");
    }

    #[test]
    fn a_view_of_no_layers_is_empty() {
        let base = tempfile::tempdir().unwrap();

        let view = View::open(&[], base.path()).unwrap();

        assert_eq!(view.lookup(Path::new("/etc"), OFlags::RDONLY).unwrap_err(), Errno::NOENT);
    }
}
