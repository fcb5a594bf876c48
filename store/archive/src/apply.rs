//! From tar to tree, in one pass: what an archive describes appears below a directory, and nowhere else.
//! The pass also yields diff-id and table of contents. `apply/node.rs` says what the nodes are, `place.rs` finds their
//! places; `apply/disk.rs` makes them, and `apply/listing.rs` only writes down that they would be there.

mod attributes;
mod disk;
mod ground;
mod listing;
mod node;
mod remove;

use crate::digest::sha256_text;
use crate::entry::{Entries, Entry, Type};
use crate::error::{Error, Name};
use crate::owner;
use crate::place::{self, Walk};
use crate::stream::Stream;
use crate::toc::{Recorder, Toc};
use crate::tree::{Kind, Tree, join};
use disk::Disk;
use ground::{Ground, Place};
use listing::Listing;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek};
use std::rc::Rc;

/// Directories kept open between entries.
const CACHED_DIRECTORIES: usize = 128;

/// What `.wh.` names mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Whiteouts {
    /// Hide names of lower layers: they become overlay's marks. For layers.
    #[default]
    Oci,
    /// Are names like others. For plain archives.
    Literal,
    /// Are an error. For archives that claim to be whole trees.
    Refuse,
}

/// Which extended attribute carries overlay's opaque mark. The default is that of mounts which this process can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlayXattrs {
    /// `trusted.overlay.*`: mounts made by root.
    Trusted,
    /// `user.overlay.*`: mounts with `userxattr`, in a user namespace.
    User,
}

/// How large an archive may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the uncompressed stream.
    pub max_bytes: u64,
    /// Header blocks.
    pub max_entries: u64,
    /// Bytes in one extension (long name, PAX records) of one entry.
    pub max_metadata: u64,
    /// Bytes kept in memory beside the tree: compressed metadata, and contents that later entries overwrote.
    pub max_kept: u64,
}

/// What an entry may take the place of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replaces {
    /// Whatever is there: layers.
    #[default]
    Anything,
    /// A directory takes no file's place, and nothing else a directory's: copies into trees that are somebody's.
    SameKind,
}

/// What entries may bring that gives rights away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Privileges {
    /// All of it.
    #[default]
    Kept,
    /// No set-id bits, and no extended attributes but `user.*`. Devices are left out.
    Dropped,
}

/// How to apply an archive.
#[derive(Clone, Debug, Default)]
pub struct ApplyOptions {
    /// What `.wh.` names mean.
    pub whiteouts: Whiteouts,
    /// How large the archive may be.
    pub limits: Limits,
    /// Owner of everything, instead of what the archive says.
    pub owner: Option<(u32, u32)>,
    /// Permission bits of everything but symlinks, instead of what the archive says.
    pub mode: Option<u32>,
    /// Which attribute marks opaque directories.
    pub overlay_xattrs: OverlayXattrs,
    /// Directory that everything goes below, from the root; links on the way to it stay inside. It must be there, and keeps
    /// its attributes whatever an entry for the root says. Empty: the root itself.
    pub below: Vec<u8>,
    /// What an entry may take the place of.
    pub replaces: Replaces,
    /// What entries may bring that gives rights away.
    pub privileges: Privileges,
    /// Symlinks of the layers below by full path, followed where this archive has nothing of that name.
    pub links_below: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What came out of an archive, or went into one.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Digest of the uncompressed archive, `sha256:<hex>`.
    pub diff_id: String,
    /// Bytes of file content on disk.
    pub size: u64,
    /// Bytes of the uncompressed archive.
    pub tar_size: u64,
    /// Entries in the archive.
    pub entries: u64,
    /// Directories that exist only because something below them was named, sorted; a parent without an entry.
    /// Those below an opaque directory are not listed (nothing shows through), nor is the root.
    pub implied: Vec<Vec<u8>>,
    /// The archive has an entry for the root, so the root's metadata are its own.
    pub has_root: bool,
    /// The archive hides all layers below (an opaque mark on the root, which overlay itself ignores).
    pub is_root_opaque: bool,
    /// Everything of the archive but the contents.
    pub toc: Toc,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 128 << 30, max_entries: 4_000_000, max_metadata: 1 << 20, max_kept: 256 << 20 }
    }
}

/// Applies an uncompressed tar stream below `root`.
///
/// On an error the tree is left half made; the caller discards it.
pub fn apply(tar: impl Read, root: BorrowedFd<'_>, options: &ApplyOptions) -> Result<Applied, Error> {
    let limits = options.limits;
    let stream = Stream::new(tar, Recorder::new(limits.max_kept)?, limits.max_bytes);
    run(stream, &Disk { root, overlay_xattrs: options.overlay_xattrs }, options)
}

/// Reads an uncompressed tar stream as [`apply`](fn@apply) does, and makes no tree of it: the archive itself is written
/// to `copy` as it comes, from where that stands, and the table of contents says what the tree would be and where in
/// the archive its contents are.
///
/// Refused is what `apply` refuses, and what a file system of Linux would. Owners are kept as they are.
pub fn index(tar: impl Read, copy: &File, options: &ApplyOptions) -> Result<Applied, Error> {
    let limits = options.limits;
    let start = { copy }.stream_position().map_err(|source| Error::Write { source })?;
    let stream = Stream::new(tar, Recorder::new(limits.max_kept)?, limits.max_bytes).copied_to(copy);
    run(stream, &Listing { copy, start }, options)
}

fn run<R: Read, G: Ground>(mut stream: Stream<'_, R>, ground: &G, options: &ApplyOptions) -> Result<Applied, Error> {
    let mut entries = Entries::new(options.limits.max_entries, options.limits.max_metadata);
    let mut applier = Applier { ground, options, tree: Tree::default(), parents: HashMap::new() };
    while let Some(entry) = entries.next(&mut stream)? {
        applier.entry(&mut stream, entry)?;
    }
    applier.finish_directories()?;
    let (digest, tar_size, recorder) = stream.finish()?;
    Applied::new(recorder.finish(applier.tree, digest, tar_size)?, entries.count)
}

impl Applied {
    pub(crate) fn new(toc: Toc, entries: u64) -> Result<Self, Error> {
        let root = toc.tree.get(b"");
        let mut counted = vec![false; toc.tree.inodes.len()];
        let sizes = toc.tree.names.values().filter(|index| !std::mem::replace(&mut counted[**index], true));
        Ok(Self {
            diff_id: sha256_text(&toc.digest),
            size: sizes.map(|index| toc.tree.inodes[*index].size).sum(),
            tar_size: toc.tar_size,
            entries,
            implied: toc.tree.implied().into_iter().filter(|path| !path.is_empty()).collect(),
            has_root: root.is_some_and(|root| !root.is_implied),
            is_root_opaque: root.is_some_and(|root| root.is_opaque),
            toc,
        })
    }
}

/// A directory that was found by its path in the archive, and its real path.
type Parent<D> = (Rc<D>, Vec<u8>);

/// An archive on its way into a tree.
struct Applier<'a, G: Ground> {
    ground: &'a G,
    options: &'a ApplyOptions,
    tree: Tree,
    /// By the path in the archive. Emptied when something was removed.
    parents: HashMap<Vec<u8>, Parent<G::Directory>>,
}

/// What a name in an archive asks for.
enum Meaning<'a> {
    Node(Vec<&'a [u8]>),
    Root,
    Hide(Vec<&'a [u8]>),
    Opaque(Vec<&'a [u8]>),
    Nothing,
}

impl<G: Ground> Applier<'_, G> {
    fn entry<R: Read>(&mut self, stream: &mut Stream<'_, R>, mut entry: Entry) -> Result<(), Error> {
        if let Some((uid, gid)) = self.options.owner {
            (entry.uid, entry.gid) = (uid, gid);
        }
        if self.options.privileges == Privileges::Dropped {
            entry.mode &= 0o1777;
            entry.xattrs.retain(|name, _| name.starts_with(b"user."));
            if matches!(entry.kind, Type::Char | Type::Block) {
                return skip(stream, &entry);
            }
        }
        if let Some(mode) = self.options.mode {
            entry.mode = mode & 0o7777;
        }
        // Marks of overlay itself, and our own, are never a layer's to make.
        entry.xattrs.retain(|name, _| !is_overlay(name) && name != owner::ATTRIBUTE.as_bytes());
        let path = std::mem::take(&mut entry.path);
        match self.meaning(&path)? {
            Meaning::Root if entry.kind == Type::Directory && self.options.below.is_empty() => self.root_entry(&entry),
            // A root that is something else is not possible; Docker ignores such entries.
            Meaning::Root | Meaning::Nothing => skip(stream, &entry),
            Meaning::Hide(names) => {
                let place = self.place(&names)?;
                self.hide(stream, &place)?;
                skip(stream, &entry)
            }
            Meaning::Opaque(names) => {
                self.make_opaque_directory(&names)?;
                skip(stream, &entry)
            }
            Meaning::Node(names) => {
                let place = self.place(&names)?;
                self.node(stream, &place, entry)
            }
        }
    }

    fn meaning<'p>(&self, path: &'p [u8]) -> Result<Meaning<'p>, Error> {
        let mut names = place::components(path)?;
        let Some(last) = names.last().copied() else { return Ok(Meaning::Root) };
        if self.options.whiteouts == Whiteouts::Literal {
            return Ok(Meaning::Node(names));
        }
        let is_aufs = |name: &&[u8]| name.starts_with(b".wh..wh.") && **name != *b".wh..wh..opq";
        match last.strip_prefix(b".wh.") {
            None if names.iter().any(is_aufs) => Ok(Meaning::Nothing),
            None => Ok(Meaning::Node(names)),
            Some(_) if self.options.whiteouts == Whiteouts::Refuse => {
                Err(Error::entry(path, "whiteouts have no place in this archive"))
            }
            Some(b"" | b"." | b"..") => Err(Error::entry(path, "the whiteout hides no name")),
            Some(b".wh..opq") => {
                names.pop();
                Ok(Meaning::Opaque(names))
            }
            // Bookkeeping of AUFS, which old layers carry.
            Some(_) if names.iter().any(is_aufs) => Ok(Meaning::Nothing),
            Some(hidden) => {
                names.pop();
                names.push(hidden);
                Ok(Meaning::Hide(names))
            }
        }
    }

    /// Finds the place of a node, making parents that are missing.
    fn place(&mut self, names: &[&[u8]]) -> Result<Place<G::Directory>, Error> {
        let below = place::components(&self.options.below)?;
        let names = [&below, names].concat();
        let (name, parent) = names.split_last().expect("the root is not a place");
        let (directory, path) = self.directory(parent)?;
        let path = join(&path, name);
        if path.len() >= place::PATH_MAX {
            return Err(Error::entry(&path, "the path is too long"));
        }
        Ok(Place { directory, name: name.to_vec(), path })
    }

    fn directory(&mut self, names: &[&[u8]]) -> Result<Parent<G::Directory>, Error> {
        let key = names.join(&b'/');
        if let Some(known) = self.parents.get(&key) {
            return Ok(known.clone());
        }
        let found = match self.ground.open(&self.tree, &key) {
            Ok(directory) => (directory, key.clone()),
            Err(_) => {
                place::walk(names, &mut Walking { applier: self, makes: true })?.expect("missing directories are made")
            }
        };
        if self.parents.len() >= CACHED_DIRECTORIES {
            self.parents.clear();
        }
        let found = (Rc::new(found.0), found.1);
        self.parents.insert(key, found.clone());
        Ok(found)
    }

    /// Finds the target of a hard link; nothing is made on the way.
    fn target(&mut self, path: &[u8], link: &[u8]) -> Result<Place<G::Directory>, Error> {
        let absent = || Error::LinkTarget { path: Name(path.to_vec()), target: Name(link.to_vec()) };
        let below = place::components(&self.options.below)?;
        let names = [below, place::components(link)?].concat();
        let (name, parent) = names.split_last().ok_or_else(absent)?;
        let (directory, parent) =
            place::walk(parent, &mut Walking { applier: self, makes: false })?.ok_or_else(absent)?;
        let target = Place { directory: Rc::new(directory), name: name.to_vec(), path: join(&parent, name) };
        match self.tree.get(&target.path) {
            Some(inode) if inode.kind == Kind::Whiteout => Err(absent()),
            _ => Ok(target),
        }
    }
}

/// A walk through what is there.
struct Walking<'a, 'b, G: Ground> {
    applier: &'a mut Applier<'b, G>,
    /// Missing directories are made; otherwise nothing is changed.
    makes: bool,
}

impl<G: Ground> Walk for Walking<'_, '_, G> {
    type Directory = G::Directory;

    fn open(&self, path: &[u8]) -> Result<G::Directory, Errno> {
        self.applier.ground.open(&self.applier.tree, path)
    }

    fn enter(&self, directory: &G::Directory, name: &[u8], path: &[u8]) -> Result<G::Directory, Errno> {
        self.applier.ground.enter(&self.applier.tree, directory, name, path)
    }

    fn read_link(&self, directory: &G::Directory, name: &[u8], path: &[u8]) -> Result<Vec<u8>, Errno> {
        self.applier.ground.read_link(&self.applier.tree, (directory, name), path)
    }

    fn link_below(&self, path: &[u8]) -> Option<&[u8]> {
        self.applier.options.links_below.get(path).map(Vec::as_slice)
    }

    fn make(&mut self, parent: &G::Directory, name: &[u8], path: &[u8]) -> Result<bool, Error> {
        if self.makes {
            self.applier.make_implied_directory(parent, name, path)?;
        }
        Ok(self.makes)
    }

    fn is_replaceable(&self, path: &[u8]) -> bool {
        self.makes && self.applier.tree.get(path).is_some_and(|inode| inode.kind == Kind::Whiteout)
    }
}

/// Passes over an entry that makes no node of its own; its content is kept in the table of contents.
fn skip<R: Read>(stream: &mut Stream<'_, R>, entry: &Entry) -> Result<(), Error> {
    if entry.size == 0 {
        return Ok(());
    }
    stream.recorder.reserve(entry.size)?;
    let mut bytes = Vec::new();
    stream.content(entry.size, |part| {
        bytes.extend_from_slice(part);
        Ok(())
    })?;
    let blake3 = *blake3::hash(&bytes).as_bytes();
    let index = stream.recorder.content(Vec::new(), entry.size, blake3, Vec::new());
    stream.recorder.contents[index].inline = Some(bytes);
    stream.padding(entry.size)
}

/// Says whether an extended attribute belongs to overlay.
pub(crate) fn is_overlay(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

impl Default for OverlayXattrs {
    fn default() -> Self {
        if owner::is_restricted() { Self::User } else { Self::Trusted }
    }
}

impl OverlayXattrs {
    /// The name of the mark.
    pub fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }
}
