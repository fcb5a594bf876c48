//! Nodes on a disk, below a directory descriptor.
//! Nothing is ever opened that was not just made, except directories; nothing is followed.

use super::OverlayXattrs;
use super::ground::{Ground, Place};
use crate::error::Error;
use crate::owner;
use crate::pax::Record;
use crate::place;
use crate::toc::Content;
use crate::tree::{Inode, Kind, Time, Tree, Xattrs};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;

const TO_LOOK: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const TO_CHANGE: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A tree below a directory.
pub(super) struct Disk<'a> {
    pub(super) root: BorrowedFd<'a>,
    pub(super) overlay_xattrs: OverlayXattrs,
}

/// A file, and where its next byte goes by itself.
pub(super) struct Written {
    file: File,
    position: u64,
}

impl Ground for Disk<'_> {
    type Directory = OwnedFd;
    type File = Written;

    fn open(&self, _tree: &Tree, path: &[u8]) -> Result<OwnedFd, Errno> {
        place::open(self.root, path, OFlags::PATH | OFlags::DIRECTORY)
    }

    fn enter(&self, _tree: &Tree, directory: &OwnedFd, name: &[u8], _path: &[u8]) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(directory, name, TO_LOOK, Mode::empty())
    }

    fn read_link(&self, _tree: &Tree, (directory, name): (&OwnedFd, &[u8]), _path: &[u8]) -> Result<Vec<u8>, Errno> {
        place::read_link(directory, name)
    }

    fn open_to_change(&self, directory: &OwnedFd, name: &[u8], path: &[u8]) -> Result<OwnedFd, Error> {
        let opened = rustix::fs::openat(directory, name, OFlags::RDONLY | TO_CHANGE, Mode::empty());
        opened.map_err(|error| Error::disk("open", path, error))
    }

    fn names(&self, _tree: &Tree, directory: &OwnedFd, _path: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
        place::list(directory)
    }

    fn kind(&self, _tree: &Tree, place: &Place<OwnedFd>) -> Result<Kind, Errno> {
        let found = stat(place)?;
        Ok(match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice if found.st_rdev == 0 => Kind::Whiteout,
            FileType::CharacterDevice => Kind::Char,
            FileType::BlockDevice => Kind::Block,
            FileType::Fifo => Kind::Fifo,
            _ => Kind::Regular,
        })
    }

    fn make_file(&self, _tree: &Tree, place: &Place<OwnedFd>, mode: u32) -> Result<Written, Errno> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&*place.directory, place.name.as_slice(), flags, Mode::from_raw_mode(mode))?;
        Ok(Written { file: File::from(file), position: 0 })
    }

    fn write(&self, written: &mut Written, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        if offset != written.position {
            written.file.seek(SeekFrom::Start(offset))?;
        }
        written.position = offset + bytes.len() as u64;
        written.file.write_all(bytes)
    }

    fn set_length(&self, written: &mut Written, length: u64) -> std::io::Result<()> {
        written.file.set_len(length)
    }

    /// Metadata come after the content, since writing clears set-id bits and capabilities.
    fn finish_file(&self, written: &Written, path: &[u8], inode: &mut Inode) -> Result<(), Error> {
        let file = written.file.as_fd();
        set_owner_and_mode(file, path, inode)?;
        inode.xattrs = set_xattrs(file, path, std::mem::take(&mut inode.xattrs))?;
        rustix::fs::futimens(file, &timestamps(inode.mtime))
            .map_err(|error| Error::disk("set the times of", path, error))
    }

    fn make_directory(&self, _tree: &Tree, place: &Place<OwnedFd>) -> Result<(), Errno> {
        rustix::fs::mkdirat(&*place.directory, place.name.as_slice(), Mode::RWXU)
    }

    fn make_implied(
        &self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
        whiteout: bool,
        inode: &Inode,
    ) -> Result<OwnedFd, Error> {
        let failed = |error| Error::disk("make", path, error);
        if whiteout {
            rustix::fs::unlinkat(parent, name, AtFlags::empty()).map_err(failed)?;
        }
        rustix::fs::mkdirat(parent, name, Mode::RWXU).map_err(failed)?;
        let directory = self.open_to_change(parent, name, path)?;
        set_owner_and_mode(directory.as_fd(), path, inode)?;
        Ok(directory)
    }

    fn update_directory(
        &self,
        directory: &OwnedFd,
        path: &[u8],
        inode: &mut Inode,
        dropped: &[&[u8]],
    ) -> Result<(), Error> {
        for name in dropped {
            rustix::fs::fremovexattr(directory, *name)
                .map_err(|error| Error::disk("remove an extended attribute of", path, error))?;
        }
        owner::forget(directory.as_fd());
        set_owner_and_mode(directory.as_fd(), path, inode)?;
        // A default ACL would be inherited by what is still to come: finish_directory sets it, and the time.
        let (late, now): (Xattrs, Xattrs) = std::mem::take(&mut inode.xattrs).into_iter().partition(is_late);
        inode.xattrs = set_xattrs(directory.as_fd(), path, now)?;
        inode.xattrs.extend(late);
        Ok(())
    }

    fn mark_opaque(&self, path: &[u8]) -> Result<(), Error> {
        let directory = self.directory(path)?;
        rustix::fs::fsetxattr(directory, self.overlay_xattrs.opaque(), b"y", XattrFlags::empty())
            .map_err(|error| Error::disk("mark as opaque", path, error))
    }

    fn finish_directory(&self, path: &[u8], inode: &mut Inode) -> Result<(), Error> {
        let directory = self.directory(path)?;
        let (late, now): (Xattrs, Xattrs) = std::mem::take(&mut inode.xattrs).into_iter().partition(is_late);
        inode.xattrs = now;
        inode.xattrs.extend(set_xattrs(directory.as_fd(), path, late)?);
        rustix::fs::futimens(&directory, &timestamps(inode.mtime))
            .map_err(|error| Error::disk("set the times of", path, error))
    }

    fn link(&self, _tree: &Tree, target: &Place<OwnedFd>, place: &Place<OwnedFd>) -> Result<(), Errno> {
        let (from, to) = (target.name.as_slice(), place.name.as_slice());
        rustix::fs::linkat(&*target.directory, from, &*place.directory, to, AtFlags::empty())
    }

    fn make_symlink(&self, _tree: &Tree, place: &Place<OwnedFd>, target: &[u8]) -> Result<(), Errno> {
        rustix::fs::symlinkat(target, &*place.directory, place.name.as_slice())
    }

    fn make_special(&self, _tree: &Tree, place: &Place<OwnedFd>, inode: &Inode) -> Result<bool, Errno> {
        let file_type = match inode.kind {
            Kind::Block => FileType::BlockDevice,
            Kind::Fifo => FileType::Fifo,
            _ => FileType::CharacterDevice,
        };
        let device = rustix::fs::makedev(inode.device.0, inode.device.1);
        let mode = Mode::from_raw_mode(inode.mode & 0o777);
        match rustix::fs::mknodat(&*place.directory, place.name.as_slice(), file_type, mode, device) {
            // A user namespace has no devices of its own: the name stays free, the table of contents has it.
            Err(error) if inode.kind.is_device() && owner::explains(error) => Ok(false),
            made => made.map(|()| true),
        }
    }

    fn finish_unopenable(&self, place: &Place<OwnedFd>, inode: &mut Inode) -> Result<(), Error> {
        let failed = |action| move |error| Error::disk(action, &place.path, error);
        let (directory, name, nofollow) = (&*place.directory, place.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW);
        let found = stat(place).map_err(failed("read"))?;
        if (found.st_uid, found.st_gid) != (inode.uid, inode.gid) {
            owner::set_at(directory.as_fd(), name, inode.uid, inode.gid).map_err(failed("set the owner of"))?;
        }
        let has_other_mode = inode.kind != Kind::Symlink && found.st_mode & 0o7777 != inode.mode;
        if has_other_mode || !inode.xattrs.is_empty() {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let node = rustix::fs::openat(directory, name, flags, Mode::empty()).map_err(failed("open"))?;
            // The descriptor's own link leads to the node itself, even to a symlink that somebody put in its place:
            // chmod(2) by name would follow that.
            let link = format!("/proc/self/fd/{}", node.as_raw_fd());
            if has_other_mode {
                rustix::fs::chmod(&*link, Mode::from_raw_mode(inode.mode)).map_err(failed("set the mode of"))?;
            }
            inode.xattrs = std::mem::take(&mut inode.xattrs)
                .into_iter()
                .filter_map(|(name, value)| {
                    let result = rustix::fs::setxattr(&*link, name.as_slice(), &value, XattrFlags::empty());
                    xattr_outcome(&place.path, name, value, result).transpose()
                })
                .collect::<Result<_, _>>()?;
        }
        rustix::fs::utimensat(directory, name, &timestamps(inode.mtime), nofollow).map_err(failed("set the times of"))
    }

    fn unlink(&self, _tree: &Tree, directory: &OwnedFd, name: &[u8], _path: &[u8]) -> Result<(), Errno> {
        rustix::fs::unlinkat(directory, name, AtFlags::empty())
    }

    fn remove_directory(&self, directory: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)
    }

    fn read(&self, content: &Content, sink: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        content.read(self.root, |bytes| {
            sink(bytes);
            Ok(())
        })
    }
}

impl Disk<'_> {
    /// Opens a directory by its real path, to change it.
    fn directory(&self, path: &[u8]) -> Result<OwnedFd, Error> {
        place::open(self.root, path, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|error| Error::disk("open", path, error))
    }
}

fn stat(place: &Place<OwnedFd>) -> Result<rustix::fs::Stat, Errno> {
    rustix::fs::statat(&*place.directory, place.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
}

fn is_late((name, _): &Record) -> bool {
    name == b"system.posix_acl_default"
}

fn timestamps(mtime: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds },
    }
}

fn set_owner_and_mode(file: BorrowedFd<'_>, path: &[u8], inode: &Inode) -> Result<(), Error> {
    let found = rustix::fs::fstat(file).map_err(|error| Error::disk("read", path, error))?;
    let is_chowned = (found.st_uid, found.st_gid) != (inode.uid, inode.gid);
    if is_chowned {
        owner::set(file, inode.uid, inode.gid).map_err(|error| Error::disk("set the owner of", path, error))?;
    }
    // chown(2) clears set-id bits, also those that were inherited.
    if found.st_mode & 0o7777 != inode.mode || (is_chowned && inode.mode & 0o6000 != 0) {
        rustix::fs::fchmod(file, Mode::from_raw_mode(inode.mode))
            .map_err(|error| Error::disk("set the mode of", path, error))?;
    }
    Ok(())
}

/// Sets extended attributes; returns those that the file system took.
fn set_xattrs(file: BorrowedFd<'_>, path: &[u8], xattrs: Xattrs) -> Result<Xattrs, Error> {
    let set = xattrs.into_iter().filter_map(|(name, value)| {
        let result = rustix::fs::fsetxattr(file, name.as_slice(), &value, XattrFlags::empty());
        xattr_outcome(path, name, value, result).transpose()
    });
    set.collect()
}

/// A host without the feature behind an attribute cannot keep it; anything else is an error.
fn xattr_outcome(
    path: &[u8],
    name: Vec<u8>,
    value: Vec<u8>,
    result: Result<(), Errno>,
) -> Result<Option<Record>, Error> {
    match result {
        Ok(()) => Ok(Some((name, value))),
        Err(Errno::OPNOTSUPP) => Ok(None),
        Err(error) if owner::explains(error) => Ok(None),
        Err(error) => Err(Error::disk("set an extended attribute of", path, error)),
    }
}
