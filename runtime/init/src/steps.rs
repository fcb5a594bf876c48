//! Acts on the steps of a plan, inside the new namespaces, before the root is entered.
//! Mounts are made detached and attached by descriptor; a path is used once, to get a descriptor.

use crate::failure::{Attempt, Failure};
use crate::filesystem::{self, Filesystem};
use crate::part;
use crate::place::{PROC_MAGIC, Place, Want};
use crate::plan::{Attributes, Propagation, Step, attribute};
use crate::prepare::Prepared;
use crate::sys;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, fchmod, fchown, fstat, fstatfs, makedev, mknodat, openat,
    readlinkat, statat, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string,
    fsmount, fsopen, move_mount, open_tree,
};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
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
        Step::Filesystem { kind, source, target, attributes, options, copy_up } => {
            let new = Filesystem { kind, source, target, attributes: *attributes, options };
            filesystem::mount(place, &new, *copy_up, prepared)
        }
        Step::Bind { target, recursive, attributes, propagation, .. } => {
            let tree = prepared.trees[index].take().expect("prepare opened the source of every bind");
            bind(place, tree, target, *recursive, attributes, propagation)
                .attempt(|| format!("bind {}", target.display()))
        }
        Step::HostDevice { path, .. } => {
            let tree = prepared.trees[index].take().expect("prepare opened every device");
            bind(place, tree, path, false, &Attributes::default(), &Propagation::Private)
                .attempt(|| format!("bind device {}", path.display()))
        }
        Step::Remount { target, attributes, options } => filesystem::remount(place, target, attributes, options),
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
        Step::Link { path, target } => link(place, path, target).attempt(|| format!("make link {}", path.display())),
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
        Step::Fifo { path, mode, uid, gid } => device(place, path, FileType::Fifo, 0, *mode, (*uid, *gid))
            .attempt(|| format!("make fifo {}", path.display())),
        Step::NetDevice { name, .. } => {
            let interface = prepared.interfaces.iter().find(|(of, _)| *of == index).map(|(_, interface)| interface);
            let interface = interface.expect("prepare found every interface");
            interface.settle().attempt(|| format!("set network device {name} up"))
        }
        Step::MemoryFile { target, bytes, mode, uid, gid, attributes } => {
            let file = part::File { bytes, mode: *mode, owner: (*uid, *gid) };
            let tree = file.make(place).attempt(|| format!("make a file in memory for {}", target.display()))?;
            bind_part(place, tree, target, *attributes)
        }
        Step::Overlay { path, target, attributes, .. } => {
            let tree = prepared.trees[index].take().expect("prepare mounted every overlay");
            let step = || format!("find {} for {}", path.display(), target.display());
            let tree = part::of(place, tree, path).attempt(step)?;
            bind_part(place, tree, target, *attributes)
        }
        Step::Unmount { target } => place.unmount(target).attempt(|| format!("unmount {}", target.display())),
        Step::LoopbackUp => loopback_up().attempt(|| "bring the loopback interface up".into()),
    }
}

/// Binds a part of a file system that nothing else is bound of.
pub(crate) fn bind_part(place: &mut Place, tree: OwnedFd, target: &Path, attributes: u64) -> Result<(), Failure> {
    let attributes = Attributes { set: attributes, ..Attributes::default() };
    bind(place, tree, target, false, &attributes, &Propagation::Private)
        .attempt(|| format!("bind {}", target.display()))
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

fn bind(
    place: &mut Place,
    tree: OwnedFd,
    target: &Path,
    recursive: bool,
    attributes: &Attributes,
    propagation: &Propagation,
) -> Result<(), Errno> {
    if target == Path::new("/proc") && fstatfs(&tree)?.f_type as u64 != PROC_MAGIC {
        // CVE-2019-16884: labels and masks go where the kernel's proc is.
        return Err(Errno::INVAL);
    }
    let is_directory = FileType::from_raw_mode(fstat(&tree)?.st_mode) == FileType::Directory;
    let want = if is_directory { Want::Directory } else { Want::File };
    let point = place.mount_point(target, want)?;
    sys::mount_setattr(tree.as_fd(), recursive, 0, 0, propagation_flag(propagation))?;
    set_attributes(tree.as_fd(), attributes)?;
    attach(tree.as_fd(), point.as_fd())?;
    place.mounted(target, None);
    Ok(())
}

/// Changes the attributes of a mount, and of those below it.
pub(crate) fn set_attributes(mount: BorrowedFd<'_>, attributes: &Attributes) -> Result<(), Errno> {
    let Attributes { set, clear, set_all, clear_all } = *attributes;
    for (recursive, set, clear) in [(true, set_all, clear_all), (false, set, clear)] {
        if set | clear == 0 {
            continue;
        }
        match sys::mount_setattr(mount, recursive, set, clear, 0) {
            // mount_namespaces(7): how access times are kept is locked in a user namespace, and stays as it is.
            Err(Errno::PERM) if clear & attribute::ATIME_MASK != 0 => {
                sys::mount_setattr(mount, recursive, set & !attribute::ATIME_MASK, clear & !attribute::ATIME_MASK, 0)?;
            }
            result => result?,
        }
    }
    Ok(())
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

pub(crate) fn empty_directory() -> Result<OwnedFd, Errno> {
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

/// Unlike [`symlink`], does not leave another file where the link is to be.
fn link(place: &Place, path: &Path, target: &Path) -> Result<(), Errno> {
    let (parent, name) = place.parent(path)?;
    match symlinkat(target, &parent, name) {
        Err(Errno::EXIST) => {
            let is_equal = readlinkat(&parent, name, Vec::new())
                .is_ok_and(|found| found.as_bytes() == target.as_os_str().as_bytes());
            if is_equal { Ok(()) } else { Err(Errno::EXIST) }
        }
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
