//! The root overlay: by fsopen from Linux 6.8 on, which has `lowerdir+`, by mount(2) on an older one.
//! The older call takes a page of options, so it is given links as names: 500 layers, the kernel's limit, fit.

use crate::failure::{Attempt, Failure};
use crate::prepare::{configure, finish};
use nix::sched::CloneFlags;
use rustix::fs::{CWD, symlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, mount_change, open_tree, unmount,
};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The layers of an overlay, topmost first, and its options.
pub(crate) struct Overlay<'a> {
    pub(crate) lowers: &'a [PathBuf],
    pub(crate) upper: &'a Path,
    pub(crate) work: &'a Path,
    pub(crate) options: &'a [String],
}

impl Overlay<'_> {
    /// Makes the detached mount.
    pub(crate) fn mount(&self) -> Result<OwnedFd, Failure> {
        match self.modern() {
            Err(mut failure) if failure.errno == libc::EINVAL => self.legacy().map_err(|errno| {
                let second = Failure::of("", errno).text;
                failure.text += &format!(
                    "; mount(2), used where Linux is older than 6.8 and at least 5.12, says for {} layers: {second}",
                    self.lowers.len()
                );
                failure
            }),
            done => done,
        }
    }

    fn modern(&self) -> Result<OwnedFd, Failure> {
        let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).attempt(|| "open an overlay".into())?;
        // Before 6.5 an overlay takes any option, and refuses unknown ones, in the kernel's log, when it is made.
        if fsconfig_set_flag(&overlay, "strata-probe").is_ok() {
            return Err(Failure::of("set lowerdir+ of the root overlay", Errno::INVAL));
        }
        let set = |key: &str, path: &Path| {
            fsconfig_set_string(&overlay, key, path)
                .attempt(|| format!("set {key} {} of the root overlay", path.display()))
        };
        fsconfig_set_string(&overlay, "source", "overlay").attempt(|| "name the root overlay".into())?;
        for lower in self.lowers {
            set("lowerdir+", lower)?;
        }
        set("upperdir", self.upper)?;
        set("workdir", self.work)?;
        for option in self.options {
            configure(&overlay, option).attempt(|| format!("set {option} of the root overlay"))?;
        }
        finish(overlay).attempt(|| "make the root overlay".into())
    }

    /// Mounts in a mount namespace that ends with a thread of its own.
    fn legacy(&self) -> Result<OwnedFd, Errno> {
        let threads = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
        let before = threads();
        let made = std::thread::scope(|scope| scope.spawn(|| self.mount_privately()).join());
        // Callers join namespaces, which the kernel allows a single thread: a joined one is reaped a little later.
        for _ in 0..1000 {
            if threads() <= before {
                break;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        made.unwrap_or(Err(Errno::NOMEM))
    }

    fn mount_privately(&self) -> Result<OwnedFd, Errno> {
        let target = self.lowers.first().ok_or(Errno::INVAL)?;
        nix::sched::unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)
            .map_err(|errno| Errno::from_raw_os_error(errno as i32))?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private)?;
        let links = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&links)?;
        let links = fsmount(&links, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        rustix::process::fchdir(&links)?;
        let mut data = String::from("lowerdir=");
        for (index, lower) in self.lowers.iter().enumerate() {
            let name = index.to_string();
            symlinkat(lower, &links, &name)?;
            data += if index == 0 { "" } else { ":" };
            data += &name;
        }
        symlinkat(self.upper, &links, "u")?;
        symlinkat(self.work, &links, "w")?;
        data += ",upperdir=u,workdir=w";
        for option in self.options {
            data += ",";
            data += option;
        }
        let data = CString::new(data).map_err(|_| Errno::INVAL)?;
        mount("overlay", target, "overlay", MountFlags::empty(), data.as_c_str())?;
        let tree = open_tree(CWD, target, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
        // Now, not when the namespace ends: then the descriptor alone keeps the layers in use.
        unmount(target, UnmountFlags::DETACH)?;
        Ok(tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FileType, Mode, OFlags, StatVfsMountFlags, makedev, mknodat, openat};
    use std::fs;
    use std::io::{Read, Write};

    /// Directories named by their number in a directory whose name needs an escape in options.
    struct Layers {
        _base: tempfile::TempDir,
        lowers: Vec<PathBuf>,
        upper: PathBuf,
        work: PathBuf,
    }

    fn layers(count: usize) -> Layers {
        let base = tempfile::Builder::new().prefix("strata:a,b ").tempdir_in("/var/tmp").unwrap();
        let make = |name: String| {
            let path = base.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let lowers = (0..count).map(|index| make(index.to_string())).collect();
        let (upper, work) = (make("upper".into()), make("work".into()));
        Layers { _base: base, lowers, upper, work }
    }

    fn read(root: &OwnedFd, name: &str) -> Result<String, Errno> {
        let file = openat(root, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut text = String::new();
        fs::File::from(file).read_to_string(&mut text).unwrap();
        Ok(text)
    }

    fn write(root: &OwnedFd, name: &str, text: &str) {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = openat(root, name, flags, Mode::from_raw_mode(0o644)).unwrap();
        fs::File::from(file).write_all(text.as_bytes()).unwrap();
    }

    fn options() -> Vec<String> {
        ["index=off", "redirect_dir=nofollow", "metacopy=off", "volatile"].map(String::from).to_vec()
    }

    #[test]
    fn an_overlay_of_mount_2_is_as_one_of_fsopen() {
        type Way = fn(&Overlay<'_>) -> Result<OwnedFd, Errno>;
        let ways: [Way; 2] = [|overlay| overlay.legacy(), |overlay| Ok(overlay.mount().unwrap())];
        for way in ways {
            let layers = layers(3);
            fs::write(layers.lowers[2].join("gone"), "x").unwrap();
            fs::write(layers.lowers[2].join("kept"), "below").unwrap();
            fs::write(layers.lowers[1].join("kept"), "above").unwrap();
            let whiteout = layers.lowers[0].join("gone");
            mknodat(CWD, whiteout, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)).unwrap();
            let options = options();
            let overlay =
                Overlay { lowers: &layers.lowers, upper: &layers.upper, work: &layers.work, options: &options };

            let root = way(&overlay).unwrap();

            assert_eq!(read(&root, "gone"), Err(Errno::NOENT));
            assert_eq!(read(&root, "kept").unwrap(), "above");
            write(&root, "kept", "changed");
            assert_eq!(fs::read_to_string(layers.upper.join("kept")).unwrap(), "changed");
            assert_eq!(fs::read_to_string(layers.lowers[1].join("kept")).unwrap(), "above");
            let restrictions = StatVfsMountFlags::RDONLY
                | StatVfsMountFlags::NODEV
                | StatVfsMountFlags::NOEXEC
                | StatVfsMountFlags::NOSUID
                | StatVfsMountFlags::NOATIME;
            assert!(!rustix::fs::fstatvfs(&root).unwrap().f_flag.intersects(restrictions));
        }
    }

    #[test]
    fn mount_2_takes_as_many_layers_as_the_kernel() {
        let layers = layers(500);
        fs::write(layers.lowers[499].join("deepest"), "found").unwrap();
        let options = options();
        let overlay = Overlay { lowers: &layers.lowers, upper: &layers.upper, work: &layers.work, options: &options };

        let root = overlay.legacy().unwrap();

        assert_eq!(read(&root, "deepest").unwrap(), "found");
    }

    #[test]
    fn the_host_sees_nothing_of_the_private_mounts() {
        let layers = layers(2);
        let overlay = Overlay { lowers: &layers.lowers, upper: &layers.upper, work: &layers.work, options: &[] };

        let _root = overlay.legacy().unwrap();

        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let unique = layers.upper.parent().unwrap().to_str().unwrap().rsplit_once(' ').unwrap().1;
        assert!(!mounts.contains(unique), "{mounts}");
    }

    #[test]
    fn the_error_of_both_ways_names_the_kernel_that_is_needed() {
        let layers = layers(1);
        let options = ["no_such_option=1".to_owned()];
        let overlay = Overlay { lowers: &layers.lowers, upper: &layers.upper, work: &layers.work, options: &options };

        let failure = overlay.mount().unwrap_err();

        assert_eq!((failure.errno, failure.code), (libc::EINVAL, 125));
        assert!(failure.text.contains("older than 6.8 and at least 5.12"), "{failure}");
    }
}
