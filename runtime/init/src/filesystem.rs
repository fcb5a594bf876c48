//! Steps that mount new file systems, and that change mounts which are there.

use crate::copy;
use crate::failure::{Attempt, Failure};
use crate::forbidden;
use crate::place::{Place, Want};
use crate::plan::{Attributes, attribute};
use crate::prepare::{Prepared, configure};
use crate::steps::{attach, set_attributes};
use crate::sys;
use rustix::fs::{Gid, OFlags, ResolveFlags, Uid, fchown, fstat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, fsconfig_create, fsconfig_reconfigure, fsconfig_set_string,
    fsmount, fsopen, fspick,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// fsconfig(2) takes values of up to 255 bytes.
const MAX_VALUE_BYTES: usize = 255;

/// A file system to mount.
pub(crate) struct Filesystem<'a> {
    pub(crate) kind: &'a str,
    pub(crate) source: &'a str,
    pub(crate) target: &'a Path,
    pub(crate) attributes: u64,
    pub(crate) options: &'a [String],
}

/// Makes a file system and mounts it; with `copy_up` it begins as a copy of what it covers.
pub(crate) fn mount(
    place: &mut Place,
    new: &Filesystem<'_>,
    copy_up: bool,
    prepared: &Prepared,
) -> Result<(), Failure> {
    let step = || format!("mount {} on {}", new.kind, new.target.display());
    // A tmpfs looks like the directory that it covers, unless it is told otherwise.
    let covered = if new.kind == "tmpfs" && !new.has("mode=") { place.find(new.target).attempt(step)? } else { None };
    let mut point = place.mount_point(new.target, Want::Directory).attempt(step)?;
    let is_kernel = matches!(new.kind, "proc" | "sysfs");
    if is_kernel {
        // CVE-2023-27561: a link would put it where nothing is masked.
        point = place
            .open(new.target, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS)
            .map_err(|_| Failure::new(step(), "the target must be an ordinary directory"))?;
    }
    let at_first = if copy_up { new.attributes & !attribute::RDONLY } else { new.attributes };
    let mount = match new.make(covered, at_first, step) {
        Err(failure) if failure.errno == libc::EPERM => {
            forbidden::instead(new.kind, new.attributes, prepared, failure)?
        }
        result => result?,
    };
    if copy_up {
        new.fill(&mount, point.as_fd()).attempt(|| format!("copy {} into a tmpfs", new.target.display()))?;
        sys::mount_setattr(mount.as_fd(), false, new.attributes & attribute::RDONLY, 0, 0).attempt(step)?;
    }
    attach(mount.as_fd(), point.as_fd()).attempt(step)?;
    place.mounted(new.target, is_kernel.then_some(mount));
    Ok(())
}

impl Filesystem<'_> {
    fn make(&self, covered: Option<OwnedFd>, attributes: u64, step: impl Fn() -> String) -> Result<OwnedFd, Failure> {
        let filesystem = fsopen(self.kind, FsOpenFlags::FSOPEN_CLOEXEC).attempt(&step)?;
        fsconfig_set_string(&filesystem, "source", self.source).attempt(&step)?;
        if let Some(covered) = covered {
            let mode = format!("{:o}", fstat(&covered).attempt(&step)?.st_mode & 0o7777);
            fsconfig_set_string(&filesystem, "mode", mode).attempt(&step)?;
        }
        for option in self.options {
            self.configure(&filesystem, option).attempt(|| format!("{} with {option}", step()))?;
        }
        fsconfig_create(&filesystem).attempt(&step)?;
        let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
        fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, attributes).attempt(&step)
    }

    fn has(&self, prefix: &str) -> bool {
        self.options.iter().any(|option| option.starts_with(prefix))
    }

    fn configure(&self, filesystem: &OwnedFd, option: &str) -> Result<(), Errno> {
        let lowers = option.strip_prefix("lowerdir=").filter(|lowers| lowers.len() > MAX_VALUE_BYTES);
        match lowers.filter(|_| self.kind == "overlay") {
            // One by one; a value this long is refused as a whole.
            Some(lowers) => split_lowers(lowers)
                .iter()
                .try_for_each(|lower| fsconfig_set_string(filesystem, "lowerdir+", lower.as_str())),
            None => configure(filesystem, option),
        }
    }

    fn fill(&self, mount: &OwnedFd, covered: BorrowedFd<'_>) -> Result<(), std::io::Error> {
        let stat = fstat(covered)?;
        if !self.has("uid=") && !self.has("gid=") {
            fchown_path(mount, stat.st_uid, stat.st_gid)?;
        }
        copy::content(covered, mount.as_fd())
    }
}

/// `mount` refers to the root of a mount as O_PATH does, which fchown(2) does not take.
fn fchown_path(mount: &OwnedFd, uid: u32, gid: u32) -> Result<(), Errno> {
    let directory = rustix::fs::openat(mount, ".", OFlags::RDONLY | OFlags::CLOEXEC, rustix::fs::Mode::empty())?;
    fchown(&directory, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

/// Splits at colons that have no backslash before them.
fn split_lowers(text: &str) -> Vec<String> {
    let (mut lowers, mut characters) = (vec![String::new()], text.chars());
    while let Some(character) = characters.next() {
        match character {
            ':' => lowers.push(String::new()),
            '\\' => lowers.last_mut().expect("there is one from the start").extend(characters.next()),
            _ => lowers.last_mut().expect("there is one from the start").push(character),
        }
    }
    lowers
}

/// Changes attributes and options of what is mounted at a mount point.
pub(crate) fn remount(
    place: &Place,
    target: &Path,
    attributes: &Attributes,
    options: &[String],
) -> Result<(), Failure> {
    let step = || format!("remount {}", target.display());
    let point = place.open(target, OFlags::PATH, ResolveFlags::empty()).attempt(step)?;
    if !options.is_empty() {
        let flags = FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC;
        let filesystem = fspick(&point, "", flags).attempt(step)?;
        for option in options {
            configure(&filesystem, option).attempt(|| format!("{} with {option}", step()))?;
        }
        fsconfig_reconfigure(&filesystem).attempt(step)?;
    }
    set_attributes(point.as_fd(), attributes).attempt(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_directories_are_split_at_plain_colons() {
        assert_eq!(split_lowers("/a:/b\\:c:/d\\\\"), ["/a", "/b:c", "/d\\"]);
    }
}
