//! An index: an image of metadata alone, whose contents stay in the images of layers. The kernel is given those as
//! further devices, and finds their blocks behind each other in one row of numbers (erofs_fs.h, erofs_deviceslot).
//!
//! What is no directory is taken over as its image has it, attributes included; only where its contents are is told
//! anew. Directories are made, since a merged one has names of several images.

use crate::error::Error;
use crate::format::{self, BLOCK, BLOCK_BITS, DEVICES, Device, HOLE, Layout};
use crate::layout::{self, Content, DIRECTORY, Node, OPAQUE, Plan};
use crate::read::{Found, Reader};
use crate::write;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The number of the first block of the first device: metadata have the numbers below, which are those of 128 GiB.
const FIRST_DEVICE: u32 = 1 << 28;

/// An index in the making.
#[derive(Debug)]
pub struct Index {
    sources: Vec<Source>,
    devices: Vec<Device>,
    nodes: Vec<Node<'static>>,
    /// Nodes by image and number of the inode there: further names of one file.
    taken: HashMap<(usize, u64), usize>,
}

/// An image that names are taken from.
#[derive(Debug)]
struct Source {
    reader: Reader<File>,
    /// Ranges of its numbers of blocks, and where each begins in the index.
    ranges: Vec<(u32, u32, u32)>,
}

/// A directory of an index.
#[derive(Clone, Copy, Debug)]
pub struct Directory(usize);

/// What a directory has besides names.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    /// Permission bits with set-uid, set-gid and sticky.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Seconds and nanoseconds of the last change.
    pub modified: (i64, u32),
    /// Extended attributes by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// It hides what lower layers have in it.
    pub is_opaque: bool,
}

/// What a mounted image shows of an inode.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Its number.
    pub inode: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Bytes of content.
    pub size: u64,
}

impl Default for Index {
    fn default() -> Self {
        Self { sources: Vec::new(), devices: Vec::new(), nodes: vec![Node::directory()], taken: HashMap::new() }
    }
}

impl Index {
    /// Adds an image that names will be taken from, and returns its number. `name` is how [`devices`](fn@crate::devices)
    /// will call it; an index stands for the images that it has its contents in.
    pub fn image(&mut self, name: &str, image: File) -> Result<usize, Error> {
        let reader = Reader::open(image)?;
        let ranges = if reader.devices.is_empty() {
            vec![(0, reader.blocks, self.device(name, reader.blocks)?)]
        } else {
            let ranges = reader.devices.iter().map(|device| {
                let first = self.device(&device.name, device.blocks)?;
                Ok((device.first, device.blocks, first))
            });
            ranges.collect::<Result<_, Error>>()?
        };
        self.sources.push(Source { reader, ranges });
        Ok(self.sources.len() - 1)
    }

    /// The number that the first block of an image has.
    fn device(&mut self, name: &str, blocks: u32) -> Result<u32, Error> {
        if let Some(known) = self.devices.iter().find(|device| device.name == name) {
            return Ok(known.first);
        }
        let first = self.devices.last().map_or(FIRST_DEVICE, |last| last.first + last.blocks);
        if first.checked_add(blocks).is_none_or(|end| end == HOLE) {
            return Err(Error::TooLarge { what: "layers that are as large as these together" });
        }
        self.devices.push(Device { name: name.to_owned(), blocks, first });
        Ok(first)
    }

    /// Returns the root.
    pub fn root(&self) -> Directory {
        Directory(0)
    }

    /// Makes a directory.
    pub fn directory(&mut self, parent: Directory, name: &[u8]) -> Directory {
        Directory(self.add(parent, name, Node::directory()))
    }

    /// Gives a directory its attributes.
    pub fn describe(&mut self, directory: Directory, attributes: &Attributes) -> Result<(), Error> {
        let xattrs = attributes.xattrs.iter().map(|(name, value)| (&name[..], &value[..]));
        let encoded = format::attributes(xattrs.chain(attributes.is_opaque.then_some(OPAQUE)));
        let node = &mut self.nodes[directory.0];
        node.attributes = encoded.ok_or(Error::TooLarge { what: "extended attributes of this size" })?;
        node.mode = DIRECTORY | (attributes.mode & 0o7777) as u16;
        (node.owner, node.modified) = (attributes.owner, attributes.modified);
        Ok(())
    }

    /// Takes over what is no directory from an image: what is seen of it in a mount says which inode it is.
    pub fn take(&mut self, parent: Directory, name: &[u8], image: usize, seen: Seen) -> Result<(), Error> {
        if let Some(known) = self.taken.get(&(image, seen.inode)).copied() {
            self.nodes[known].names += 1;
            layout::link(&mut self.nodes, parent.0, name.to_vec(), known);
            return Ok(());
        }
        let source = &self.sources[image];
        let found = source.reader.inode(seen.inode)?;
        let mode = u32::from(found.inode.mode);
        if (mode, found.inode.size) != (seen.mode, seen.size) || found.inode.mode & 0o170_000 == DIRECTORY {
            return Err(Error::Damaged { problem: "an inode is not what is seen of it" });
        }
        let node = source.node(found)?;
        let index = self.add(parent, name, node);
        self.taken.insert((image, seen.inode), index);
        Ok(())
    }

    /// Marks a name as one that hides what is below it.
    pub fn mark(&mut self, parent: Directory, name: &[u8]) {
        self.add(parent, name, Node::new(format::MARK, Content::None));
    }

    fn add(&mut self, parent: Directory, name: &[u8], node: Node<'static>) -> usize {
        self.nodes.push(node);
        let index = self.nodes.len() - 1;
        layout::link(&mut self.nodes, parent.0, name.to_vec(), index);
        index
    }

    /// Writes the index to an empty file. `uuid` is its name for the kernel, which no other image may have.
    pub fn write(self, image: &File, uuid: [u8; 16]) -> Result<(), Error> {
        let plan = Plan::new(self.nodes)?;
        let count = u16::try_from(self.devices.len()).map_err(|_| Error::TooLarge { what: "so many layers" })?;
        let mut table = Vec::new();
        for device in &self.devices {
            table.extend(device.encode().ok_or(Error::TooLarge { what: "the name of a layer" })?);
        }
        image.write_all_at(&table, DEVICES).map_err(Error::io("write"))?;
        let start = (DEVICES + table.len() as u64).next_multiple_of(write::ALIGNMENT);
        let end = write::metadata(&plan, image, start)?;
        if end >> BLOCK_BITS > u64::from(FIRST_DEVICE) {
            return Err(Error::TooLarge { what: "a tree of this size" });
        }
        write::superblock(&plan, image, (start, end), uuid, count)
    }
}

impl Source {
    /// Makes a node of the index of an inode.
    fn node(&self, Found { inode, attributes, behind }: Found) -> Result<Node<'static>, Error> {
        let content = match inode.mode & 0o170_000 {
            0o120_000 => Node::target(behind, &attributes),
            0o100_000 if inode.size == 0 => Content::None,
            0o100_000 if inode.layout == Layout::Chunks => {
                Content::ElsewhereInChunks { format: inode.place, list: self.chunks(&behind)?, size: inode.size }
            }
            0o100_000 => {
                let first = self.moved(inode.place, inode.size.div_ceil(BLOCK))?;
                Content::Elsewhere { first, size: inode.size }
            }
            0o020_000 | 0o060_000 => Content::Device(inode.place),
            _ => Content::None,
        };
        let (owner, modified) = (inode.owner, inode.modified);
        Ok(Node { owner, modified, attributes, ..Node::new(inode.mode, content) })
    }

    /// Tells a list of chunks anew.
    fn chunks(&self, list: &[u8]) -> Result<Vec<u8>, Error> {
        let mut moved = Vec::with_capacity(list.len());
        for place in list.chunks_exact(4) {
            let place = u32::from_le_bytes(place.try_into().expect("four bytes"));
            let place = if place == HOLE { HOLE } else { self.moved(place, 1)? };
            moved.extend(place.to_le_bytes());
        }
        Ok(moved)
    }

    /// The number in the index of the first of so many blocks.
    fn moved(&self, block: u32, count: u64) -> Result<u32, Error> {
        let found = self.ranges.iter().find(|(from, blocks, _)| {
            let offset = block.checked_sub(*from).map(u64::from);
            offset.is_some_and(|offset| offset + count <= u64::from(*blocks))
        });
        let (from, _, to) = found.ok_or(Error::Damaged { problem: "contents are outside of it" })?;
        Ok(block - from + to)
    }
}
