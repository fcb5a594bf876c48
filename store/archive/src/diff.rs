//! From tree to tar: an overlay upper directory, or any tree, in one fixed order, with overlay's marks as whiteouts.
//! [`diff`](fn@diff) only digests and records; [`pack`] writes as well.

use crate::apply::{Applied, is_overlay};
use crate::error::{Error, Name};
use crate::owner;
use crate::place;
use crate::toc::Recorder;
use crate::tree::{Inode, Kind, Time, Tree, Xattrs, join};
use crate::write::{Output, headers_of};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;

/// How exactly times are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Times {
    /// Whole seconds, as Docker's builders do; saves a kibibyte per entry.
    #[default]
    Seconds,
    /// Nanoseconds, in PAX records where they are not zero.
    Nanoseconds,
}

/// How to turn a tree into an archive.
#[derive(Clone, Copy, Debug)]
pub struct DiffOptions {
    /// How exactly times are written.
    pub times: Times,
    /// Whether the root itself becomes an entry (`./`).
    pub root: bool,
    /// Bytes of metadata that may be kept in memory, compressed.
    pub max_kept: u64,
}

impl Default for DiffOptions {
    fn default() -> Self {
        Self { times: Times::Seconds, root: false, max_kept: 256 << 20 }
    }
}

/// Describes the archive of a tree without writing it.
pub fn diff(upper: BorrowedFd<'_>, options: &DiffOptions) -> Result<Applied, Error> {
    pack(upper, options, std::io::sink())
}

/// Writes the archive of a tree.
pub fn pack(root: BorrowedFd<'_>, options: &DiffOptions, out: impl Write) -> Result<Applied, Error> {
    pack_some(root, options, &|_| true, out)
}

/// Writes the archive of what of a tree is wanted; nothing below what is not wanted is looked at.
pub fn pack_some(
    root: BorrowedFd<'_>,
    options: &DiffOptions,
    is_wanted: &dyn Fn(&[u8]) -> bool,
    out: impl Write,
) -> Result<Applied, Error> {
    let output = Output::new(out, Recorder::new(options.max_kept)?);
    let buffer = vec![0; 256 * 1024];
    let mut packer =
        Packer { root, options, is_wanted, output, tree: Tree::default(), seen: HashMap::new(), buffer, entries: 0 };
    packer.tree()?;
    let (digest, tar_size, recorder) = packer.output.finish()?;
    let mut toc = recorder.finish(packer.tree, digest, tar_size)?;
    toc.is_truncated_to_seconds = options.times == Times::Seconds;
    Applied::new(toc, packer.entries)
}

struct Packer<'a, W> {
    root: BorrowedFd<'a>,
    options: &'a DiffOptions,
    is_wanted: &'a dyn Fn(&[u8]) -> bool,
    output: Output<W>,
    tree: Tree,
    /// First name of each inode with several names.
    seen: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    entries: u64,
}

/// A directory's path, and a name in it.
type Pending = (Vec<u8>, Vec<u8>);

/// A node of the tree on disk, its extended attributes as they are there.
pub(crate) struct Node {
    pub(crate) stat: Stat,
    pub(crate) path: Vec<u8>,
    pub(crate) inode: Inode,
    pub(crate) file: Option<File>,
}

impl Node {
    /// With the attributes that an archive of a layer has.
    fn archived(mut self) -> Result<Self, Error> {
        let found = std::mem::take(&mut self.inode.xattrs);
        (self.inode.xattrs, self.inode.is_opaque) = archived_xattrs(found, &self.path)?;
        Ok(self)
    }
}

impl<W: Write> Packer<'_, W> {
    /// Walks depth first, names in byte order.
    fn tree(&mut self) -> Result<(), Error> {
        let root = place::open(self.root, b"", OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|error| Error::disk("open", b"", error))?;
        let top = self::root(&root)?.archived()?;
        if self.options.root || top.inode.is_opaque {
            self.directory(top)?;
        }
        let mut pending = self.children(&root, b"")?;
        let mut parent: (Vec<u8>, OwnedFd) = (Vec::new(), root);
        while let Some((directory, name)) = pending.pop() {
            if directory != parent.0 {
                let opened = place::open(self.root, &directory, OFlags::RDONLY | OFlags::DIRECTORY)
                    .map_err(|error| Error::disk("open", &directory, error))?;
                parent = (directory, opened);
            }
            let path = join(&parent.0, &name);
            if path.len() >= place::PATH_MAX {
                return Err(Error::Unarchivable { path: Name(path), reason: "its path is too long".into() });
            }
            if !(self.is_wanted)(&path) {
                continue;
            }
            let Some(node) = node(&parent.1, &name, path)? else { continue };
            let node = node.archived()?;
            if node.inode.kind == Kind::Directory {
                let path = node.path.clone();
                self.directory(node)?;
                let opened = place::open(self.root, &path, OFlags::RDONLY | OFlags::DIRECTORY)
                    .map_err(|error| Error::disk("open", &path, error))?;
                pending.extend(self.children(&opened, &path)?);
                parent = (path, opened);
            } else {
                self.entry(node)?;
            }
        }
        Ok(())
    }

    /// Lists what is in a directory, last first.
    fn children(&self, directory: &OwnedFd, path: &[u8]) -> Result<Vec<Pending>, Error> {
        let names = place::list(directory).map_err(|error| Error::disk("list", path, error))?;
        Ok(names.into_iter().rev().map(|name| (path.to_vec(), name)).collect())
    }

    fn directory(&mut self, node: Node) -> Result<(), Error> {
        let is_opaque = node.inode.is_opaque;
        let path = node.path.clone();
        if self.options.root || !path.is_empty() {
            self.entry(node)?;
        } else {
            // The mark alone; the root's metadata are not part of the archive.
            self.tree.insert(Vec::new(), Inode { is_implied: true, ..node.inode });
        }
        if is_opaque { self.whiteout(&join(&path, b".wh..wh..opq")) } else { Ok(()) }
    }

    fn entry(&mut self, node: Node) -> Result<(), Error> {
        let Node { stat, path, mut inode, file } = node;
        if path.rsplit(|byte| *byte == b'/').next().is_some_and(|name| name.starts_with(b".wh.")) {
            return Err(Error::Unarchivable {
                path: Name(path),
                reason: "its name would be read as a whiteout".into(),
            });
        }
        if inode.kind == Kind::Whiteout {
            let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
            self.whiteout(&[&path[..at], b".wh.", &path[at..]].concat())?;
            self.tree.insert(path, Inode::new(Kind::Whiteout));
            return Ok(());
        }
        self.adjust_time(&mut inode.mtime);
        if stat.st_nlink > 1 && inode.kind != Kind::Directory {
            let id = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.seen.get(&id).cloned() {
                self.header(&path, &inode, Some(&first))?;
                self.tree.link(path, &first);
                return Ok(());
            }
            self.seen.insert(id, path.clone());
        }
        self.header(&path, &inode, None)?;
        if let Some(file) = file.filter(|_| inode.size > 0) {
            inode.content = Some(self.content(file, &path, inode.size)?);
        }
        self.tree.insert(path, inode);
        Ok(())
    }

    fn adjust_time(&self, time: &mut Time) {
        if self.options.times == Times::Seconds {
            time.nanoseconds = 0;
        }
    }

    fn header(&mut self, path: &[u8], inode: &Inode, linked: Option<&[u8]>) -> Result<(), Error> {
        let blocks = headers_of(path, inode, linked)?;
        self.entries += 1;
        self.output.literal(&blocks)
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<(), Error> {
        self.header(path, &Inode::new(Kind::Whiteout), None)
    }

    /// Writes exactly `size` bytes, which the header has promised.
    fn content(&mut self, mut file: File, path: &[u8], size: u64) -> Result<usize, Error> {
        let mut hash = blake3::Hasher::new();
        let mut left = size;
        while left > 0 {
            let wanted = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = file.read(&mut self.buffer[..wanted]).map_err(|source| Error::disk("read", path, source))?;
            if count == 0 {
                return Err(Error::Damaged {
                    path: Name(path.to_vec()),
                    reason: "it became shorter while it was read",
                });
            }
            hash.update(&self.buffer[..count]);
            self.output.content(&self.buffer[..count])?;
            left -= count as u64;
        }
        let index = self.output.recorder.content(path.to_vec(), size, *hash.finalize().as_bytes(), Vec::new());
        self.output.padding(size)?;
        Ok(index)
    }
}

/// Reads the root of a tree.
pub(crate) fn root(opened: &OwnedFd) -> Result<Node, Error> {
    let stat = rustix::fs::fstat(opened).map_err(|error| Error::disk("read", b"", error))?;
    let mut inode = inode(&stat, b"")?;
    inode.xattrs = read_xattrs(opened, b"")?;
    (inode.uid, inode.gid) = owner::take(&mut inode.xattrs, (inode.uid, inode.gid));
    Ok(Node { stat, path: Vec::new(), inode, file: None })
}

/// Reads a node; none if it has no place in an archive (a socket).
pub(crate) fn node(parent: &OwnedFd, name: &[u8], path: Vec<u8>) -> Result<Option<Node>, Error> {
    let failed = |error| Error::disk("read", &path, error);
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Socket {
        return Ok(None);
    }
    let mut inode = inode(&stat, &path)?;
    let mut file = None;
    let (mut xattrs, mut stat) = (Xattrs::new(), stat);
    match inode.kind {
        Kind::Whiteout => {}
        Kind::Regular | Kind::Directory => {
            let opened = File::from(open_quietly(parent, name).map_err(failed)?);
            // What was opened counts, not what was there a moment before.
            stat = rustix::fs::fstat(&opened).map_err(failed)?;
            if self::inode(&stat, &path)?.kind != inode.kind {
                return Err(Error::Damaged { path: Name(path), reason: "it was replaced while it was read" });
            }
            inode = self::inode(&stat, &path)?;
            xattrs = read_xattrs(&opened, &path)?;
            file = Some(opened);
        }
        Kind::Symlink => {
            inode.link = place::read_link(parent, name).map_err(failed)?;
            xattrs = unopenable_xattrs(parent, name, &path)?;
        }
        Kind::Char | Kind::Block | Kind::Fifo => xattrs = unopenable_xattrs(parent, name, &path)?,
    }
    (inode.uid, inode.gid) = owner::take(&mut xattrs, (inode.uid, inode.gid));
    inode.xattrs = xattrs;
    Ok(Some(Node { stat, path, inode, file }))
}

/// Opens a file or directory to read, without a change of its time of access where that is allowed: files that were linked or
/// written a moment ago would each be written for it.
fn open_quietly(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags | OFlags::NOATIME, Mode::empty()) {
        // It is somebody else's, and this is not root.
        Err(Errno::PERM) => rustix::fs::openat(parent, name, flags, Mode::empty()),
        opened => opened,
    }
}

/// Translates a stat; everything but link target and extended attributes.
pub(crate) fn inode(stat: &Stat, path: &[u8]) -> Result<Inode, Error> {
    let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::Regular,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice if device == (0, 0) => Kind::Whiteout,
        FileType::CharacterDevice => Kind::Char,
        FileType::BlockDevice => Kind::Block,
        FileType::Fifo => Kind::Fifo,
        _ => return Err(Error::Unarchivable { path: Name(path.to_vec()), reason: "its type is unknown".into() }),
    };
    Ok(Inode {
        mode: if kind == Kind::Symlink { 0o777 } else { stat.st_mode & 0o7777 },
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as i64 },
        device: if matches!(kind, Kind::Char | Kind::Block) { device } else { (0, 0) },
        size: if kind == Kind::Regular { stat.st_size as u64 } else { 0 },
        ..Inode::new(kind)
    })
}

/// Drops overlay's bookkeeping, takes its opaque mark, and refuses what would change the meaning of the tree.
pub(crate) fn archived_xattrs(xattrs: Xattrs, path: &[u8]) -> Result<(Xattrs, bool), Error> {
    let mut kept = Xattrs::new();
    let mut is_opaque = false;
    for (name, value) in xattrs {
        let overlay = [&b"trusted.overlay."[..], b"user.overlay."].iter().find_map(|space| name.strip_prefix(*space));
        match overlay {
            None => {
                kept.insert(name, value);
            }
            Some(b"origin" | b"impure" | b"uuid") => {}
            Some(b"opaque") if value == b"y" => is_opaque = true,
            Some(_) => {
                let reason = format!("it carries the overlay attribute {}", Name(name));
                return Err(Error::Unarchivable { path: Name(path.to_vec()), reason });
            }
        }
    }
    debug_assert!(kept.keys().all(|name| !is_overlay(name)));
    Ok((kept, is_opaque))
}

/// Reads the extended attributes of an open file.
pub(crate) fn read_xattrs(file: impl AsFd, path: &[u8]) -> Result<Xattrs, Error> {
    let file = file.as_fd();
    let failed = |error| Error::disk("read the extended attributes of", path, error);
    let list = sized(|buffer| rustix::fs::flistxattr(file, buffer)).map_err(failed)?;
    let get = |name: &[u8]| sized(|buffer| rustix::fs::fgetxattr(file, name, buffer)).map_err(failed);
    names(&list).map(|name| Ok((name.to_vec(), get(name)?))).collect()
}

/// Reads the extended attributes of what cannot be opened: through the descriptor's link, which leads to the node itself.
pub(crate) fn unopenable_xattrs(parent: impl AsFd, name: &[u8], path: &[u8]) -> Result<Xattrs, Error> {
    let failed = |error| Error::disk("read the extended attributes of", path, error);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(failed)?;
    let link = format!("/proc/self/fd/{}", node.as_raw_fd());
    let list = sized(|buffer| rustix::fs::listxattr(&*link, buffer)).map_err(failed)?;
    let get = |name: &[u8]| sized(|buffer| rustix::fs::getxattr(&*link, name, buffer)).map_err(failed);
    names(&list).map(|name| Ok((name.to_vec(), get(name)?))).collect()
}

fn names(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == 0).filter(|name| !name.is_empty())
}

/// Calls with a small buffer first, and with the largest that the kernel fills when that was too small.
fn sized(mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; 512];
    match call(&mut small) {
        Ok(count) => Ok(small[..count].to_vec()),
        Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; 65_536];
            let count = call(&mut large)?;
            large.truncate(count);
            Ok(large)
        }
        Err(error) => Err(error),
    }
}
