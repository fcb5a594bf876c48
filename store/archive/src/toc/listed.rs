//! What a table of contents says of each name, for those who want to look and not to unpack.

use super::Toc;
use crate::tree::{Inode, Kind, Xattrs};
use std::collections::BTreeMap;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListedKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A FIFO.
    Fifo,
    /// Nothing: what lower layers have under this name is hidden.
    Whiteout,
}

/// One name of a layer. Everything is as the archive says it, the bytes of files excepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    /// Path below the root, without a slash in front; the root itself is empty.
    pub path: &'a [u8],
    /// What it stands for.
    pub kind: ListedKind,
    /// Permission bits with set-uid, set-gid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds and nanoseconds of the last change; none where the archive does not say.
    pub modified: Option<(i64, i64)>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Bytes of a regular file.
    pub size: u64,
    /// Target of a symbolic link.
    pub target: &'a [u8],
    /// Digest of the content; none for empty and sparse files, and for what is no file.
    pub blake3: Option<[u8; 32]>,
    /// Digest over the extended attributes, if there are any.
    pub attributes: Option<[u8; 32]>,
    /// The extended attributes by name, sorted.
    pub xattrs: &'a BTreeMap<Vec<u8>, Vec<u8>>,
    /// The bytes of a file, unless there are none.
    pub stored: Option<Stored<'a>>,
    /// First name of the same file, when this is a further one.
    pub hard_link: Option<&'a [u8]>,
    /// A directory that is there only because something below it is named.
    pub is_implied: bool,
    /// A directory that hides what lower layers have in it.
    pub is_opaque: bool,
}

/// Where in its archive the bytes of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored<'a> {
    /// Bytes of the archive before them.
    pub offset: u64,
    /// How many there are.
    pub size: u64,
    /// Offset in the file and length of each piece of a sparse one, in the order in which they are stored; empty: the
    /// file is one piece.
    pub pieces: &'a [(u64, u64)],
}

impl Toc {
    /// Lists every name of the layer in byte order of the paths: a directory comes before what is in it.
    pub fn entries(&self) -> impl Iterator<Item = Listed<'_>> {
        let mut first: Vec<Option<&[u8]>> = vec![None; self.tree.inodes.len()];
        self.tree.names.iter().map(move |(path, index)| {
            let hard_link = first[*index];
            first[*index].get_or_insert(path);
            self.listed(path, &self.tree.inodes[*index], hard_link)
        })
    }

    /// A digest of all names and what they stand for, but for times: equal for trees that were made at different times.
    pub fn digest_without_times(&self) -> [u8; 32] {
        let mut hash = blake3::Hasher::new();
        for entry in self.entries() {
            for text in [entry.path, entry.target, entry.hard_link.unwrap_or_default()] {
                hash.update(&(text.len() as u64).to_le_bytes()).update(text);
            }
            hash.update(&[entry.kind as u8, u8::from(entry.hard_link.is_some())]);
            hash.update(&[u8::from(entry.is_implied), u8::from(entry.is_opaque)]);
            for number in [entry.mode, entry.uid, entry.gid, entry.device.0, entry.device.1] {
                hash.update(&number.to_le_bytes());
            }
            hash.update(&entry.size.to_le_bytes()).update(&entry.attributes.unwrap_or_default());
            let stored = entry.stored.map_or(&[][..], |stored| stored.pieces);
            hash.update(&(stored.len() as u64).to_le_bytes());
            for (offset, length) in stored {
                hash.update(&offset.to_le_bytes()).update(&length.to_le_bytes());
            }
            let inode = self.tree.get(entry.path);
            let content = inode.and_then(|inode| self.contents.get(inode.content?));
            hash.update(&content.map_or([0; 32], |content| content.blake3));
        }
        *hash.finalize().as_bytes()
    }

    fn listed<'a>(&'a self, path: &'a [u8], inode: &'a Inode, hard_link: Option<&'a [u8]>) -> Listed<'a> {
        let content = inode.content.and_then(|index| self.contents.get(index));
        let is_timed = inode.kind != Kind::Whiteout && !inode.is_implied;
        Listed {
            path,
            kind: inode.kind.into(),
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            modified: is_timed.then_some((inode.mtime.seconds, inode.mtime.nanoseconds)),
            device: inode.device,
            size: inode.size,
            target: &inode.link,
            blake3: content.filter(|content| content.pieces.is_empty()).map(|content| content.blake3),
            attributes: attributes(&inode.xattrs),
            xattrs: &inode.xattrs,
            stored: content.map(|content| Stored {
                offset: content.offset,
                size: content.size,
                pieces: &content.pieces,
            }),
            hard_link,
            is_implied: inode.is_implied,
            is_opaque: inode.is_opaque,
        }
    }
}

/// Digests names and values, each with its length, so that no two sets meet.
fn attributes(xattrs: &Xattrs) -> Option<[u8; 32]> {
    if xattrs.is_empty() {
        return None;
    }
    let mut hash = blake3::Hasher::new();
    for part in xattrs.iter().flat_map(|(name, value)| [name, value]) {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    Some(*hash.finalize().as_bytes())
}

impl From<Kind> for ListedKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Regular => Self::Regular,
            Kind::Directory => Self::Directory,
            Kind::Symlink => Self::Symlink,
            Kind::Char => Self::CharacterDevice,
            Kind::Block => Self::BlockDevice,
            Kind::Fifo => Self::Fifo,
            Kind::Whiteout => Self::Whiteout,
        }
    }
}
