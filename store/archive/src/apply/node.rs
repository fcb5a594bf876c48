//! Making nodes: files, directories, links, devices and overlay's marks, each with its metadata.
//! Nothing is ever opened that was not just made, except directories; nothing is followed.

use super::{Applier, Place, Whiteouts};
use crate::entry::{Entry, Type};
use crate::error::{Error, Name};
use crate::owner;
use crate::pax::Record;
use crate::place;
use crate::stream::Stream;
use crate::tree::{Inode, Kind, Time, Xattrs};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;

/// What every file system of interest can store; times outside are clamped, as the kernel does.
const TIMES: std::ops::RangeInclusive<i64> = -0x8000_0000..=0x3_7fff_ffff;

impl Applier<'_> {
    /// Makes what an entry describes.
    pub(super) fn node<R: Read>(&mut self, stream: &mut Stream<R>, place: &Place, entry: Entry) -> Result<(), Error> {
        match entry.kind {
            Type::Regular => self.regular(stream, place, entry),
            Type::Directory => self.directory_entry(stream, place, &entry),
            Type::Link => self.hard_link(stream, place, &entry),
            Type::Symlink => self.symlink(stream, place, entry),
            Type::Char | Type::Block | Type::Fifo => self.special(stream, place, &entry),
        }
    }

    fn regular<R: Read>(&mut self, stream: &mut Stream<R>, place: &Place, entry: Entry) -> Result<(), Error> {
        let failed = |error: std::io::Error| Error::disk("write", &place.path, error);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Set-id bits wait until owner and content are final.
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let file = self.create(stream, place, |directory, name| rustix::fs::openat(directory, name, flags, mode))?;
        let mut file = File::from(file);
        let mut hash = blake3::Hasher::new();
        let pieces = entry.sparse.as_ref().map_or(&[][..], |sparse| &sparse.pieces);
        let whole = [(0, entry.size)];
        for (offset, length) in if entry.sparse.is_none() { &whole[..] } else { pieces } {
            if *offset > 0 {
                file.seek(SeekFrom::Start(*offset)).map_err(failed)?;
            }
            stream.content(*length, |bytes| {
                hash.update(bytes);
                file.write_all(bytes).map_err(failed)
            })?;
        }
        let size = entry.sparse.as_ref().map_or(entry.size, |sparse| sparse.size);
        if entry.sparse.is_some() {
            file.set_len(size).map_err(failed)?;
        }
        let mut inode = inode(Kind::Regular, &entry);
        inode.size = size;
        self.finish(file.as_fd(), &place.path, &mut inode)?;
        if entry.size > 0 {
            let pieces = pieces.to_vec();
            let hash = *hash.finalize().as_bytes();
            inode.content = Some(stream.recorder.content(place.path.clone(), entry.size, hash, pieces));
        }
        self.tree.insert(place.path.clone(), inode);
        stream.padding(entry.size)
    }

    fn directory_entry<R: Read>(&mut self, stream: &mut Stream<R>, place: &Place, entry: &Entry) -> Result<(), Error> {
        let mut is_opaque = false;
        loop {
            match rustix::fs::mkdirat(&*place.directory, place.name.as_slice(), Mode::RWXU) {
                Ok(()) => break,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(Error::disk("make", &place.path, error)),
            }
            let found = self.stat(place)?;
            if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
                break;
            }
            // What stood here had already replaced any directory below; the new one must not bring it back.
            is_opaque = self.tree.get(&place.path).is_some();
            self.remove(&mut stream.recorder, place)?;
        }
        let directory = self.open_directory(&*place.directory, &place.name, &place.path)?;
        self.update_directory(directory.as_fd(), place.path.clone(), entry)?;
        if is_opaque { self.mark_opaque(directory.as_fd(), &place.path) } else { Ok(()) }
    }

    /// Gives the root the metadata of its entry.
    pub(super) fn root_entry(&mut self, entry: &Entry) -> Result<(), Error> {
        let directory = self.open_directory(self.root, b".", b"")?;
        self.update_directory(directory.as_fd(), Vec::new(), entry)
    }

    fn update_directory(&mut self, directory: BorrowedFd<'_>, path: Vec<u8>, entry: &Entry) -> Result<(), Error> {
        let mut inode = inode(Kind::Directory, entry);
        if let Some(known) = self.tree.get(&path) {
            inode.is_opaque = known.is_opaque;
            for name in known.xattrs.keys().filter(|name| !inode.xattrs.contains_key(*name)) {
                rustix::fs::fremovexattr(directory, name.as_slice())
                    .map_err(|error| Error::disk("remove an extended attribute of", &path, error))?;
            }
        }
        owner::forget(directory);
        set_owner_and_mode(directory, &path, &inode)?;
        // A default ACL would be inherited by what is still to come: finish_directories sets it, and the time.
        let (late, now): (Xattrs, Xattrs) = std::mem::take(&mut inode.xattrs).into_iter().partition(is_late);
        inode.xattrs = set_xattrs(directory, &path, now)?;
        inode.xattrs.extend(late);
        match self.tree.get_mut(&path) {
            Some(known) => {
                inode.names = known.names;
                *known = inode;
            }
            None => {
                self.tree.insert(path, inode);
            }
        }
        Ok(())
    }

    fn hard_link<R: Read>(&mut self, stream: &mut Stream<R>, place: &Place, entry: &Entry) -> Result<(), Error> {
        let target = self.target(&place.path, &entry.link)?;
        let absent = || Error::LinkTarget { path: Name(place.path.clone()), target: Name(entry.link.clone()) };
        if target.path == place.path {
            return Err(Error::entry(&place.path, "the hard link names itself"));
        }
        if owner::is_restricted() && self.tree.get(&target.path).is_some_and(|inode| inode.kind.is_device()) {
            // It was not made.
            self.tree.link(place.path.clone(), &target.path);
            return Ok(());
        }
        let found = rustix::fs::statat(&*target.directory, target.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|_| absent())?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => return Err(Error::entry(&place.path, "the hard link names a directory")),
            FileType::CharacterDevice if found.st_rdev == 0 => return Err(absent()),
            _ => {}
        }
        self.create(stream, place, |directory, name| {
            rustix::fs::linkat(&*target.directory, target.name.as_slice(), directory, name, AtFlags::empty())
        })?;
        self.tree.link(place.path.clone(), &target.path);
        Ok(())
    }

    fn symlink<R: Read>(&mut self, stream: &mut Stream<R>, place: &Place, entry: Entry) -> Result<(), Error> {
        if entry.link.is_empty() || entry.link.len() >= place::PATH_MAX {
            return Err(Error::entry(&place.path, "the symlink's target is empty or too long"));
        }
        let target = entry.link.as_slice();
        self.create(stream, place, |directory, name| rustix::fs::symlinkat(target, directory, name))?;
        let mut inode = inode(Kind::Symlink, &entry);
        inode.mode = 0o777;
        inode.link = entry.link;
        self.finish_unopenable(place, &mut inode)?;
        self.tree.insert(place.path.clone(), inode);
        Ok(())
    }

    fn special<R: Read>(&mut self, stream: &mut Stream<R>, place: &Place, entry: &Entry) -> Result<(), Error> {
        let (kind, file_type) = match entry.kind {
            Type::Char => (Kind::Char, FileType::CharacterDevice),
            Type::Block => (Kind::Block, FileType::BlockDevice),
            _ => (Kind::Fifo, FileType::Fifo),
        };
        if kind == Kind::Char && entry.device == (0, 0) {
            return Err(Error::entry(&place.path, "a device 0/0 is overlay's own mark"));
        }
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let mut inode = inode(kind, entry);
        inode.device = entry.device;
        let make = |directory: &OwnedFd, name: &[u8]| rustix::fs::mknodat(directory, name, file_type, mode, device);
        let is_device = kind.is_device();
        let made = self.create(stream, place, |directory, name| match make(directory, name) {
            // A user namespace has no devices of its own: the name stays free, the table of contents has it.
            Err(error) if is_device && owner::explains(error) => Ok(false),
            made => made.map(|()| true),
        })?;
        if !made {
            self.tree.insert(place.path.clone(), inode);
            return Ok(());
        }
        self.finish_unopenable(place, &mut inode)?;
        self.tree.insert(place.path.clone(), inode);
        Ok(())
    }

    /// Makes something new, in place of what may be there.
    fn create<R: Read, T>(
        &mut self,
        stream: &mut Stream<R>,
        place: &Place,
        make: impl Fn(&OwnedFd, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, Error> {
        let failed = |error| Error::disk("make", &place.path, error);
        match make(&place.directory, &place.name) {
            Err(Errno::EXIST) => {
                self.remove(&mut stream.recorder, place)?;
                make(&place.directory, &place.name).map_err(failed)
            }
            result => result.map_err(failed),
        }
    }

    /// Makes a directory that no entry has described yet.
    pub(super) fn make_implied_directory(&mut self, parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<(), Error> {
        let failed = |error| Error::disk("make", path, error);
        let is_whiteout = self.tree.get(path).is_some_and(|inode| inode.kind == Kind::Whiteout);
        if is_whiteout {
            rustix::fs::unlinkat(parent, name, AtFlags::empty()).map_err(failed)?;
            self.tree.remove(path);
        }
        rustix::fs::mkdirat(parent, name, Mode::RWXU).map_err(failed)?;
        let directory = self.open_directory(parent, name, path)?;
        let inode = Inode::implied_directory(self.options.owner.unwrap_or((0, 0)));
        set_owner_and_mode(directory.as_fd(), path, &inode)?;
        self.tree.insert(path.to_vec(), inode);
        if is_whiteout { self.mark_opaque(directory.as_fd(), path) } else { Ok(()) }
    }

    /// Hides a name of lower layers. What this archive itself has of that name stays.
    pub(super) fn hide<R: Read>(&mut self, stream: &mut Stream<R>, place: &Place) -> Result<(), Error> {
        match self.tree.get(&place.path).map(|inode| inode.kind) {
            Some(Kind::Directory) => {
                let directory = self.open_directory(&*place.directory, &place.name, &place.path)?;
                self.mark_opaque(directory.as_fd(), &place.path)
            }
            // Being there, it hides what is below already.
            Some(_) => Ok(()),
            None => {
                self.create(stream, place, |directory, name| {
                    rustix::fs::mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), 0)
                })?;
                self.tree.insert(place.path.clone(), Inode::new(Kind::Whiteout));
                Ok(())
            }
        }
    }

    /// Hides everything that lower layers have in a directory.
    pub(super) fn make_opaque_directory(&mut self, names: &[&[u8]]) -> Result<(), Error> {
        let (_, path) = self.directory(names)?;
        let directory = place::open(self.root, &path, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|error| Error::disk("open", &path, error))?;
        self.mark_opaque(directory.as_fd(), &path)
    }

    fn mark_opaque(&mut self, directory: BorrowedFd<'_>, path: &[u8]) -> Result<(), Error> {
        if self.options.whiteouts != Whiteouts::Oci {
            return Ok(());
        }
        let name = self.options.overlay_xattrs.opaque();
        rustix::fs::fsetxattr(directory, name, b"y", XattrFlags::empty())
            .map_err(|error| Error::disk("mark as opaque", path, error))?;
        let owner = self.options.owner.unwrap_or((0, 0));
        if self.tree.get(path).is_none() {
            self.tree.insert(path.to_vec(), Inode::implied_directory(owner));
        }
        if let Some(inode) = self.tree.get_mut(path) {
            inode.is_opaque = true;
        }
        Ok(())
    }

    /// Sets what making entries would have changed: times of directories, and default ACLs. Deepest first.
    pub(super) fn finish_directories(&mut self) -> Result<(), Error> {
        let Self { root, tree, .. } = self;
        for (path, index) in tree.names.iter().rev() {
            let inode = &mut tree.inodes[*index];
            if inode.kind != Kind::Directory || (path.is_empty() && inode.is_implied) {
                continue;
            }
            let directory = place::open(*root, path, OFlags::RDONLY | OFlags::DIRECTORY)
                .map_err(|error| Error::disk("open", path, error))?;
            let (late, now): (Xattrs, Xattrs) = std::mem::take(&mut inode.xattrs).into_iter().partition(is_late);
            inode.xattrs = now;
            inode.xattrs.extend(set_xattrs(directory.as_fd(), path, late)?);
            rustix::fs::futimens(&directory, &timestamps(inode.mtime))
                .map_err(|error| Error::disk("set the times of", path, error))?;
        }
        Ok(())
    }

    /// Sets the metadata of an open file; content first, since writing clears set-id bits and capabilities.
    fn finish(&self, file: BorrowedFd<'_>, path: &[u8], inode: &mut Inode) -> Result<(), Error> {
        set_owner_and_mode(file, path, inode)?;
        inode.xattrs = set_xattrs(file, path, std::mem::take(&mut inode.xattrs))?;
        rustix::fs::futimens(file, &timestamps(inode.mtime))
            .map_err(|error| Error::disk("set the times of", path, error))
    }

    /// Sets the metadata of what cannot or must not be opened: symlinks, devices, FIFOs.
    fn finish_unopenable(&self, place: &Place, inode: &mut Inode) -> Result<(), Error> {
        let failed = |action| move |error| Error::disk(action, &place.path, error);
        let (directory, name, nofollow) = (&*place.directory, place.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW);
        let found = self.stat(place)?;
        if (found.st_uid, found.st_gid) != (inode.uid, inode.gid) {
            owner::set_at(directory.as_fd(), name, inode.uid, inode.gid).map_err(failed("set the owner of"))?;
        }
        if inode.kind != Kind::Symlink && found.st_mode & 0o7777 != inode.mode {
            // Just made under a name that was free, and seen not to be a symlink.
            rustix::fs::chmodat(directory, name, Mode::from_raw_mode(inode.mode), AtFlags::empty())
                .map_err(failed("set the mode of"))?;
        }
        if !inode.xattrs.is_empty() {
            let node =
                rustix::fs::openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
                    .map_err(failed("open"))?;
            // The descriptor's own link leads to the node itself, even to a symlink.
            let link = format!("/proc/self/fd/{}", node.as_raw_fd());
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

    fn stat(&self, place: &Place) -> Result<rustix::fs::Stat, Error> {
        rustix::fs::statat(&*place.directory, place.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| Error::disk("read", &place.path, error))
    }

    fn open_directory(&self, parent: impl AsFd, name: &[u8], path: &[u8]) -> Result<OwnedFd, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(|error| Error::disk("open", path, error))
    }
}

fn inode(kind: Kind, entry: &Entry) -> Inode {
    let seconds = entry.mtime.seconds.clamp(*TIMES.start(), *TIMES.end());
    Inode {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: Time { seconds, ..entry.mtime },
        xattrs: entry.xattrs.clone(),
        ..Inode::new(kind)
    }
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
