//! Acts on the steps of a plan, inside the new namespaces, before the root is entered.
//! Mounts are made detached and attached by descriptor; a path is used once, to get a descriptor.

use crate::failure::{Attempt, Failure};
use crate::forbidden;
use crate::place::{Place, Want};
use crate::plan::{Propagation, Step, attribute};
use crate::prepare::{Prepared, configure};
use crate::sys;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fchmod, fchown, fstat, makedev, mknodat, openat,
    statat, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string,
    fsmount, fsopen, move_mount, open_tree,
};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The masks that later masks are cloned from: a detached mount cannot be cloned before Linux 6.15,
/// an attached one always can.
#[derive(Default)]
pub(crate) struct Masks {
    file: Option<OwnedFd>,
    directory: Option<OwnedFd>,
}

/// Runs the step at `index`.
pub(crate) fn run(
    step: &Step,
    index: usize,
    place: &mut Place,
    prepared: &mut Prepared,
    masks: &mut Masks,
) -> Result<(), Failure> {
    match step {
        Step::Filesystem { kind, source, target, attributes, options } => {
            filesystem(place, kind, source, target, *attributes, options, prepared)
        }
        Step::Bind { target, recursive, set, clear, recursive_attributes, propagation, .. } => {
            let tree = prepared.trees[index].take().expect("prepare opened the source of every bind");
            bind(place, tree, target, *recursive, (*set, *clear, *recursive_attributes), propagation)
                .attempt(|| format!("bind {}", target.display()))
        }
        Step::Mask { path } => mask(place, path, prepared, masks).attempt(|| format!("mask {}", path.display())),
        Step::ReadOnly { path } => read_only(place, path).attempt(|| format!("make {} read-only", path.display())),
        Step::Device { path, block, major, minor, mode, uid, gid } => {
            let kind = if *block { FileType::BlockDevice } else { FileType::CharacterDevice };
            device(place, path, kind, makedev(*major, *minor), *mode, (*uid, *gid))
                .attempt(|| format!("make device {}", path.display()))
        }
        Step::Symlink { path, target } => {
            symlink(place, path, target).attempt(|| format!("make link {}", path.display()))
        }
        Step::Directory { path, mode } => {
            place.directory(path, *mode).map(drop).attempt(|| format!("make directory {}", path.display()))
        }
        Step::WriteFile { path, bytes, mode, uid, gid } => {
            write_file(place, path, bytes, *mode, (*uid, *gid)).attempt(|| format!("write {}", path.display()))
        }
        Step::Hostname { name } => {
            nix::unistd::sethostname(name).attempt(|| format!("set the host name {}", name.display()))
        }
        Step::Domainname { name } => rustix::system::setdomainname(name.as_encoded_bytes())
            .attempt(|| format!("set the domain name {}", name.display())),
        Step::Sysctl { key, value } => sysctl(prepared, key, value),
        Step::LoopbackUp => loopback_up().attempt(|| "bring the loopback interface up".into()),
    }
}

/// Attaches a detached mount onto a descriptor.
pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}

/// Clones the mount (from this point of it on) that a descriptor refers to.
pub(crate) fn clone_mount(of: BorrowedFd<'_>, further: OpenTreeFlags) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(of, "", flags | further)
}

fn filesystem(
    place: &mut Place,
    kind: &str,
    source: &str,
    target: &Path,
    attributes: u64,
    options: &[String],
    prepared: &Prepared,
) -> Result<(), Failure> {
    let step = || format!("mount {kind} on {}", target.display());
    let point = place.mount_point(target, Want::Directory).attempt(step)?;
    if matches!(kind, "proc" | "sysfs") {
        // CVE-2023-27561: a link would put it where nothing is masked.
        place
            .open(target, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS)
            .map_err(|_| Failure::new(step(), "the target must be an ordinary directory"))?;
    }
    let mount = match new_filesystem(kind, source, attributes, options, step) {
        Err(failure) if failure.errno == libc::EPERM => forbidden::instead(kind, attributes, prepared, failure)?,
        result => result?,
    };
    attach(mount.as_fd(), point.as_fd()).attempt(step)
}

fn new_filesystem(
    kind: &str,
    source: &str,
    attributes: u64,
    options: &[String],
    step: impl Fn() -> String,
) -> Result<OwnedFd, Failure> {
    let filesystem = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).attempt(&step)?;
    fsconfig_set_string(&filesystem, "source", source).attempt(&step)?;
    for option in options {
        configure(&filesystem, option).attempt(|| format!("{} with {option}", step()))?;
    }
    fsconfig_create(&filesystem).attempt(&step)?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, attributes).attempt(&step)
}

fn bind(
    place: &mut Place,
    tree: OwnedFd,
    target: &Path,
    recursive: bool,
    (set, clear, recursive_attributes): (u64, u64, bool),
    propagation: &Propagation,
) -> Result<(), Errno> {
    let is_directory = FileType::from_raw_mode(fstat(&tree)?.st_mode) == FileType::Directory;
    let want = if is_directory { Want::Directory } else { Want::File };
    let point = place.mount_point(target, want)?;
    sys::mount_setattr(tree.as_fd(), recursive, 0, 0, propagation_flag(propagation))?;
    if set | clear != 0 {
        let change = |set, clear| sys::mount_setattr(tree.as_fd(), recursive_attributes, set, clear, 0);
        match change(set, clear) {
            // mount_namespaces(7): how access times are kept is locked in a user namespace, and stays as it is.
            Err(Errno::PERM) if clear & attribute::ATIME_MASK != 0 => {
                change(set & !attribute::ATIME_MASK, clear & !attribute::ATIME_MASK)?;
            }
            result => result?,
        }
    }
    attach(tree.as_fd(), point.as_fd())
}

pub(crate) fn propagation_flag(propagation: &Propagation) -> u64 {
    match propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::Slave => libc::MS_SLAVE,
        Propagation::Shared => libc::MS_SHARED,
        Propagation::Unbindable => libc::MS_UNBINDABLE,
    }
}

fn mask(place: &Place, path: &Path, prepared: &mut Prepared, masks: &mut Masks) -> Result<(), Errno> {
    let Some(point) = place.find(path)? else { return Ok(()) };
    let is_directory = FileType::from_raw_mode(fstat(&point)?.st_mode) == FileType::Directory;
    let slot = if is_directory { &mut masks.directory } else { &mut masks.file };
    if let Some(first) = slot {
        let mount = clone_mount(first.as_fd(), OpenTreeFlags::empty())?;
        return attach(mount.as_fd(), point.as_fd());
    }
    let mount = if is_directory {
        empty_directory()?
    } else {
        prepared.null.take().expect("prepare opened /dev/null for the first mask")
    };
    attach(mount.as_fd(), point.as_fd())?;
    *slot = Some(mount);
    Ok(())
}

fn empty_directory() -> Result<OwnedFd, Errno> {
    let filesystem = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&filesystem, "mode", "755")?;
    fsconfig_create(&filesystem)?;
    let attributes = attribute::RDONLY | attribute::NOSUID | attribute::NODEV | attribute::NOEXEC;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn read_only(place: &Place, path: &Path) -> Result<(), Errno> {
    let Some(point) = place.find(path)? else { return Ok(()) };
    let mount = clone_mount(point.as_fd(), OpenTreeFlags::AT_RECURSIVE)?;
    sys::mount_setattr(mount.as_fd(), true, attribute::RDONLY, 0, libc::MS_PRIVATE)?;
    attach(mount.as_fd(), point.as_fd())
}

fn device(
    place: &Place,
    path: &Path,
    kind: FileType,
    number: u64,
    mode: u32,
    (uid, gid): (u32, u32),
) -> Result<(), Errno> {
    let (parent, name) = place.parent(path)?;
    let mode = Mode::from_raw_mode(mode & 0o7777);
    match mknodat(&parent, name, kind, mode, number) {
        Err(Errno::EXIST) => {
            let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let is_equal = FileType::from_raw_mode(stat.st_mode) == kind && stat.st_rdev == number;
            return if is_equal { Ok(()) } else { Err(Errno::EXIST) };
        }
        result => result?,
    }
    // mknod applied the umask of 0, so the mode is as asked.
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    chownat(&parent, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
}

fn symlink(place: &Place, path: &Path, target: &Path) -> Result<(), Errno> {
    let (parent, name) = place.parent(path)?;
    match symlinkat(target, &parent, name) {
        Err(Errno::EXIST) => Ok(()),
        result => result,
    }
}

fn write_file(
    place: &Place,
    path: &Path,
    bytes: &[u8],
    mode: u32,
    (uid, gid): (u32, u32),
) -> Result<(), std::io::Error> {
    let (parent, name) = place.parent(path)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(&parent, name, flags, Mode::from_raw_mode(0o600))?;
    if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::RegularFile {
        return Err(Errno::EXIST.into());
    }
    fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    fchmod(&fd, Mode::from_raw_mode(mode & 0o7777))?;
    File::from(fd).write_all(bytes)
}

fn sysctl(prepared: &Prepared, key: &str, value: &str) -> Result<(), Failure> {
    let step = || format!("set sysctl {key}");
    let is_plain = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':' | b'@');
        !part.is_empty() && part != "." && part != ".." && part.bytes().all(plain)
    };
    if !key.split('/').all(is_plain) || value.contains('\0') {
        return Err(Failure::new(step(), "the key or value is not valid"));
    }
    write_proc(prepared, &format!("sys/{key}"), value.as_bytes()).attempt(step)
}

/// Writes a file of the private procfs, in one write.
pub(crate) fn write_proc(prepared: &Prepared, path: &str, value: &[u8]) -> Result<(), Errno> {
    let procfs = prepared.procfs.as_ref().ok_or(Errno::NOSYS)?;
    let fd = openat(procfs, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&fd, value).map(drop)
}

fn loopback_up() -> Result<(), Errno> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sys::loopback_up(socket.as_fd())
}
