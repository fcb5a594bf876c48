//! Where everything behind the archive goes: inodes in the order in which they are given, the root first, then
//! directories and long links, then what had to be copied out of the archive. Nothing depends on anything but the nodes,
//! so equal archives make equal images.

use crate::data::Chunks;
use crate::error::Error;
use crate::format::{self, BLOCK, Entry, INODE, Layout, SLOT};
use std::borrow::Cow;
use std::collections::HashMap;
use strata_archive::{Listed, ListedKind, Stored, Toc};

/// Type bits of a directory.
pub(crate) const DIRECTORY: u16 = 0o040_000;
/// Mode of a root that the archive says nothing about.
const ROOT_MODE: u16 = DIRECTORY | 0o755;
/// What marks a directory that hides what is below it.
pub(crate) const OPAQUE: (&[u8], &[u8]) = (b"trusted.overlay.opaque", b"y");
/// The first block of the metadata is empty, so that no inode has the number 0.
const FIRST: u64 = BLOCK;

/// One inode and where its parts are, in bytes from the start of the metadata.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    /// Type and permission bits.
    pub(crate) mode: u16,
    pub(crate) owner: (u32, u32),
    /// Seconds and nanoseconds.
    pub(crate) modified: (i64, u32),
    pub(crate) names: u32,
    /// Where the inode is.
    pub(crate) at: u64,
    /// The attributes behind it, as they are written.
    pub(crate) attributes: Vec<u8>,
    pub(crate) content: Content<'a>,
}

/// What is in a node.
#[derive(Debug)]
pub(crate) enum Content<'a> {
    /// Nothing.
    None,
    /// A device, as its number is written.
    Device(u32),
    /// A range of the archive.
    Archived { offset: u64, size: u64 },
    /// Pieces copied to where `at` says.
    Sparse { chunks: Chunks, stored: Option<Stored<'a>>, size: u64, at: u64 },
    /// Blocks of another image.
    Elsewhere { first: u32, size: u64 },
    /// Chunks of another image, by a list behind the inode.
    ElsewhereInChunks { format: u32, list: Vec<u8>, size: u64 },
    /// A link's target, behind the inode.
    ShortLink(Cow<'a, [u8]>),
    /// A link's target, in blocks of its own.
    LongLink { target: Cow<'a, [u8]>, at: u64 },
    /// Names with the indices of their nodes; when planned in order, split into blocks of so many.
    Directory { entries: Vec<(Cow<'a, [u8]>, usize)>, parent: usize, blocks: Vec<usize>, size: u64, at: u64 },
}

/// The whole tree.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) nodes: Vec<Node<'a>>,
    /// Bytes of metadata: inodes, directories and links.
    pub(crate) metadata: u64,
    /// Bytes of metadata and of what is copied behind them.
    pub(crate) end: u64,
    pub(crate) has_chunks: bool,
}

impl<'a> Plan<'a> {
    /// Plans the image of nodes that are linked by name, the root first.
    pub(crate) fn new(nodes: Vec<Node<'a>>) -> Result<Self, Error> {
        let mut plan = Self { nodes, metadata: 0, end: 0, has_chunks: false };
        plan.finish_directories();
        plan.place_inodes();
        plan.place_blocks();
        plan.place_copies()?;
        Ok(plan)
    }

    fn finish_directories(&mut self) {
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if let Content::Directory { entries, parent, blocks, size, .. } = &mut node.content {
                entries.extend([(Cow::Borrowed(&b"."[..]), index), (Cow::Borrowed(&b".."[..]), *parent)]);
                // By name alone; the paths were sorted with their slashes in them.
                entries.sort_unstable();
                (*blocks, *size) = format::split(entries.iter().map(|(name, _)| &name[..]));
                // Its name above, the one inside, and one in each directory below.
                node.names += 1;
            }
        }
    }

    fn place_inodes(&mut self) {
        let mut at = FIRST;
        for node in &mut self.nodes {
            let behind = match &node.content {
                Content::ShortLink(target) => target.len() as u64,
                Content::Sparse { chunks, .. } => 4 * chunks.count,
                Content::ElsewhereInChunks { list, .. } => list.len() as u64,
                _ => 0,
            };
            let size = INODE + node.attributes.len() as u64 + behind;
            if matches!(node.content, Content::ShortLink(_)) && at % BLOCK + size > BLOCK {
                // The kernel looks for a short link in the block of its inode.
                at = at.next_multiple_of(BLOCK);
            }
            node.at = at;
            at = (at + size).next_multiple_of(SLOT);
        }
        self.metadata = at;
    }

    fn place_blocks(&mut self) {
        let mut next = self.metadata.next_multiple_of(BLOCK);
        for node in &mut self.nodes {
            match &mut node.content {
                Content::Directory { at, size, .. } => {
                    *at = next;
                    next += size.next_multiple_of(BLOCK);
                }
                Content::LongLink { target, at } => {
                    *at = next;
                    next += (target.len() as u64).next_multiple_of(BLOCK);
                }
                _ => {}
            }
        }
        self.metadata = next;
    }

    fn place_copies(&mut self) -> Result<(), Error> {
        let mut next = self.metadata;
        for node in &mut self.nodes {
            self.has_chunks |= matches!(node.content, Content::Sparse { .. } | Content::ElsewhereInChunks { .. });
            if let Content::Sparse { chunks, at, .. } = &mut node.content {
                // So that the holes of the chunks are holes of the disk.
                next = next.next_multiple_of(4096);
                *at = next;
                next = next.checked_add(chunks.room()).ok_or(Error::TooLarge { what: "its sparse files" })?;
            }
        }
        self.end = next;
        Ok(())
    }

    /// Returns the number of a node's inode.
    pub(crate) fn number(&self, index: usize) -> u64 {
        self.nodes[index].at / SLOT
    }

    /// Lists a directory as the kernel wants it, with itself and its parent among its names.
    pub(crate) fn entries(&self, directory: usize) -> impl Iterator<Item = Entry<'_>> {
        let entries: &[(Cow<'_, [u8]>, usize)] = match &self.nodes[directory].content {
            Content::Directory { entries, .. } => entries,
            _ => &[],
        };
        entries.iter().map(|(name, index)| Entry {
            name,
            inode: self.number(*index),
            kind: format::kind(self.nodes[*index].mode),
        })
    }
}

impl<'a> Node<'a> {
    /// Returns a node that nobody described.
    pub(crate) fn new(mode: u16, content: Content<'a>) -> Self {
        Self { mode, owner: (0, 0), modified: (0, 0), names: 1, at: 0, attributes: Vec::new(), content }
    }

    /// Returns an empty directory with the attributes of a root.
    pub(crate) fn directory() -> Self {
        let content = Content::Directory { entries: Vec::new(), parent: 0, blocks: Vec::new(), size: 0, at: 0 };
        Self::new(ROOT_MODE, content)
    }

    /// Returns the content of a symbolic link to `target` with these attributes.
    pub(crate) fn target(target: impl Into<Cow<'a, [u8]>>, attributes: &[u8]) -> Content<'a> {
        let target = target.into();
        match attributes.is_empty() && INODE + target.len() as u64 <= BLOCK {
            true => Content::ShortLink(target),
            false => Content::LongLink { target, at: 0 },
        }
    }

    fn listed(listed: &Listed<'a>) -> Result<Self, Error> {
        let xattrs = listed.xattrs.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
        let attributes = format::attributes(xattrs.chain(listed.is_opaque.then_some(OPAQUE)));
        let attributes = attributes.ok_or(Error::TooLarge { what: "extended attributes of this size" })?;
        let (kind, content) = match listed.kind {
            ListedKind::Regular => (0o100_000, file(listed)?),
            ListedKind::Directory => (DIRECTORY, Self::directory().content),
            ListedKind::Symlink => (0o120_000, Self::target(listed.target, &attributes)),
            ListedKind::CharacterDevice => (0o020_000, Content::Device(format::device(listed.device))),
            ListedKind::Whiteout => (format::MARK, Content::None),
            ListedKind::BlockDevice => (0o060_000, Content::Device(format::device(listed.device))),
            ListedKind::Fifo => (0o010_000, Content::None),
        };
        let (seconds, nanoseconds) = listed.modified.unwrap_or_default();
        Ok(Self {
            owner: (listed.uid, listed.gid),
            modified: (seconds, nanoseconds as u32),
            attributes,
            ..Self::new(kind | (listed.mode & 0o7777) as u16, content)
        })
    }

    /// Returns how the content is found.
    pub(crate) fn layout(&self) -> Layout {
        match self.content {
            Content::ShortLink(_) => Layout::Inline,
            Content::Sparse { .. } | Content::ElsewhereInChunks { .. } => Layout::Chunks,
            _ => Layout::Plain,
        }
    }
}

fn file<'a>(listed: &Listed<'a>) -> Result<Content<'a>, Error> {
    let (size, stored) = (listed.size, listed.stored);
    let pieces = stored.map_or(&[][..], |stored| stored.pieces);
    Ok(match stored {
        _ if size == 0 => Content::None,
        Some(stored) if pieces.is_empty() => Content::Archived { offset: stored.offset, size },
        stored => Content::Sparse { chunks: Chunks::plan(size, pieces)?, stored, size, at: 0 },
    })
}

/// Gives the node `index` a name in the directory `above`.
pub(crate) fn link<'a>(nodes: &mut [Node<'a>], above: usize, name: impl Into<Cow<'a, [u8]>>, index: usize) {
    if let Content::Directory { parent, .. } = &mut nodes[index].content {
        *parent = above;
        nodes[above].names += 1;
    }
    if let Content::Directory { entries, .. } = &mut nodes[above].content {
        entries.push((name.into(), index));
    }
}

/// Makes a node of every inode of a layer, the root first, and links them by name.
pub(crate) fn collect(toc: &Toc) -> Result<Vec<Node<'_>>, Error> {
    let mut nodes: Vec<Node<'_>> = Vec::new();
    let mut by_path: HashMap<&[u8], usize> = HashMap::new();
    for listed in toc.entries() {
        let (path, first) = (listed.path, listed.hard_link);
        if nodes.is_empty() && !path.is_empty() {
            nodes.push(Node::directory());
            by_path.insert(&[], 0);
        }
        let index = match first.and_then(|first| by_path.get(first)) {
            Some(index) => {
                nodes[*index].names += 1;
                *index
            }
            None => {
                nodes.push(Node::listed(&listed)?);
                nodes.len() - 1
            }
        };
        by_path.insert(path, index);
        if path.is_empty() {
            continue;
        }
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let (above, name) = slash.map_or((&path[..0], path), |slash| (&path[..slash], &path[slash + 1..]));
        let above = by_path.get(above).copied().ok_or(Error::TooLarge { what: "a name without a directory" })?;
        link(&mut nodes, above, name, index);
    }
    if nodes.is_empty() {
        nodes.push(Node::directory());
    }
    Ok(nodes)
}
