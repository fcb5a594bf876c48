//! Where everything behind the archive goes: inodes in the order of their paths, the root first, then directories and
//! long links, then what had to be copied out of the archive. Nothing depends on anything but the table of contents, so
//! equal archives make equal images.

use crate::data::Chunks;
use crate::error::Error;
use crate::format::{self, BLOCK, Entry, INODE, Layout, SLOT};
use std::collections::HashMap;
use strata_archive::{Listed, ListedKind, Toc};

/// Mode of a root that the archive says nothing about.
const ROOT_MODE: u32 = 0o755;
/// What marks a directory that hides what is below it.
const OPAQUE: (&[u8], &[u8]) = (b"trusted.overlay.opaque", b"y");
/// The first block of the metadata is empty, so that no inode has the number 0.
const FIRST: u64 = BLOCK;

/// One inode and where its parts are, in bytes from the start of the metadata.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    /// None: a root that the archive does not describe.
    pub(crate) listed: Option<Listed<'a>>,
    pub(crate) names: u32,
    /// Where the inode is.
    pub(crate) at: u64,
    /// Bytes of attributes behind it.
    pub(crate) attributes: u64,
    pub(crate) content: Content<'a>,
}

/// What is in a node.
#[derive(Debug)]
pub(crate) enum Content<'a> {
    /// Nothing, or a device.
    None,
    /// A range of the archive.
    Archived { offset: u64, size: u64 },
    /// Pieces copied to where `at` says.
    Sparse { chunks: Chunks, size: u64, at: u64 },
    /// A link's target, behind the inode.
    ShortLink,
    /// A link's target, in blocks of its own.
    LongLink { at: u64 },
    /// Names in order, with the indices of their nodes, split into blocks of so many.
    Directory { entries: Vec<(&'a [u8], usize)>, parent: usize, blocks: Vec<usize>, size: u64, at: u64 },
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
    /// Plans the image of what a table of contents describes.
    pub(crate) fn new(toc: &'a Toc) -> Result<Self, Error> {
        let mut plan = Self { nodes: collect(toc)?, metadata: 0, end: 0, has_chunks: false };
        plan.place_inodes();
        plan.place_blocks();
        plan.place_copies()?;
        Ok(plan)
    }

    fn place_inodes(&mut self) {
        let mut at = FIRST;
        for node in &mut self.nodes {
            let behind = match &node.content {
                Content::ShortLink => node.target().len() as u64,
                Content::Sparse { chunks, .. } => 4 * chunks.count,
                _ => 0,
            };
            let size = INODE + node.attributes + behind;
            if matches!(node.content, Content::ShortLink) && at % BLOCK + size > BLOCK {
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
            let target = node.target().len() as u64;
            match &mut node.content {
                Content::Directory { at, size, .. } => {
                    *at = next;
                    next += size.next_multiple_of(BLOCK);
                }
                Content::LongLink { at } => {
                    *at = next;
                    next += target.next_multiple_of(BLOCK);
                }
                _ => {}
            }
        }
        self.metadata = next;
    }

    fn place_copies(&mut self) -> Result<(), Error> {
        let mut next = self.metadata;
        for node in &mut self.nodes {
            if let Content::Sparse { chunks, at, .. } = &mut node.content {
                self.has_chunks = true;
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
        let entries: &[(&[u8], usize)] = match &self.nodes[directory].content {
            Content::Directory { entries, .. } => entries,
            _ => &[],
        };
        entries.iter().map(|(name, index)| Entry {
            name,
            inode: self.number(*index),
            kind: match self.nodes[*index].kind() {
                ListedKind::Regular => 1,
                ListedKind::Directory => 2,
                ListedKind::CharacterDevice | ListedKind::Whiteout => 3,
                ListedKind::BlockDevice => 4,
                ListedKind::Fifo => 5,
                ListedKind::Symlink => 7,
            },
        })
    }
}

impl<'a> Node<'a> {
    fn new(listed: Option<Listed<'a>>) -> Result<Self, Error> {
        let attributes = listed.as_ref().map_or(Some(Vec::new()), encoded);
        let attributes = attributes.ok_or(Error::TooLarge { what: "extended attributes of this size" })?.len() as u64;
        let mut node = Self { listed, names: 1, at: 0, attributes, content: Content::None };
        node.content = match (node.kind(), node.listed.as_ref().and_then(|listed| listed.stored)) {
            (ListedKind::Regular, stored) => {
                let size = node.listed.as_ref().map_or(0, |listed| listed.size);
                let pieces = stored.map_or(&[][..], |stored| stored.pieces);
                match stored {
                    _ if size == 0 => Content::None,
                    Some(stored) if pieces.is_empty() => Content::Archived { offset: stored.offset, size },
                    _ => Content::Sparse { chunks: Chunks::plan(size, pieces)?, size, at: 0 },
                }
            }
            (ListedKind::Symlink, _) if attributes == 0 && INODE + node.target().len() as u64 <= BLOCK => {
                Content::ShortLink
            }
            (ListedKind::Symlink, _) => Content::LongLink { at: 0 },
            (ListedKind::Directory, _) => {
                Content::Directory { entries: Vec::new(), parent: 0, blocks: Vec::new(), size: 0, at: 0 }
            }
            _ => Content::None,
        };
        Ok(node)
    }

    pub(crate) fn kind(&self) -> ListedKind {
        self.listed.as_ref().map_or(ListedKind::Directory, |listed| listed.kind)
    }

    pub(crate) fn target(&self) -> &'a [u8] {
        self.listed.as_ref().map_or(&[], |listed| listed.target)
    }

    /// Returns type and permission bits.
    pub(crate) fn mode(&self) -> u16 {
        let kind: u32 = match self.kind() {
            ListedKind::Regular => 0o100_000,
            ListedKind::Directory => 0o040_000,
            ListedKind::Symlink => 0o120_000,
            ListedKind::CharacterDevice | ListedKind::Whiteout => 0o020_000,
            ListedKind::BlockDevice => 0o060_000,
            ListedKind::Fifo => 0o010_000,
        };
        let permissions = self.listed.as_ref().map_or(ROOT_MODE, |listed| listed.mode & 0o7777);
        (kind | permissions) as u16
    }

    /// Encodes the attributes; the plan made sure that they fit.
    pub(crate) fn encoded(&self) -> Vec<u8> {
        self.listed.as_ref().and_then(encoded).unwrap_or_default()
    }

    pub(crate) fn layout(&self) -> Layout {
        match self.content {
            Content::ShortLink => Layout::Inline,
            Content::Sparse { .. } => Layout::Chunks,
            _ => Layout::Plain,
        }
    }
}

fn encoded(listed: &Listed<'_>) -> Option<Vec<u8>> {
    let xattrs = listed.xattrs.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    format::attributes(xattrs.chain(listed.is_opaque.then_some(OPAQUE)))
}

/// Makes a node of every inode, the root first, and links them by name.
fn collect(toc: &Toc) -> Result<Vec<Node<'_>>, Error> {
    let mut nodes: Vec<Node<'_>> = Vec::new();
    let mut by_path: HashMap<&[u8], usize> = HashMap::new();
    for listed in toc.entries() {
        let (path, first) = (listed.path, listed.hard_link);
        if nodes.is_empty() && !path.is_empty() {
            nodes.push(Node::new(None)?);
            by_path.insert(&[], 0);
        }
        let index = match first.and_then(|first| by_path.get(first)) {
            Some(index) => {
                nodes[*index].names += 1;
                *index
            }
            None => {
                nodes.push(Node::new(Some(listed))?);
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
        if let Content::Directory { parent, .. } = &mut nodes[index].content {
            *parent = above;
            nodes[above].names += 1;
        }
        if let Content::Directory { entries, .. } = &mut nodes[above].content {
            entries.push((name, index));
        }
    }
    if nodes.is_empty() {
        nodes.push(Node::new(None)?);
    }
    for (index, node) in nodes.iter_mut().enumerate() {
        if let Content::Directory { entries, parent, blocks, size, .. } = &mut node.content {
            entries.extend([(&b"."[..], index), (&b".."[..], *parent)]);
            // By name alone; the paths were sorted with their slashes in them.
            entries.sort_unstable();
            (*blocks, *size) = format::split(entries.iter().map(|(name, _)| *name));
            // Its name above, the one inside, and one in each directory below.
            node.names += 1;
        }
    }
    Ok(nodes)
}
