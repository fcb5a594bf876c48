//! Images read back, as far as an index of them needs it: the inodes of what is no directory, by their numbers.

use crate::error::Error;
use crate::format::{
    BLOCK, BLOCK_BITS, DEVICE, DEVICES, Device, INODE, Inode, Layout, SLOT, SUPERBLOCK, SUPERBLOCK_SIZE, Superblock,
};
use std::borrow::Borrow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Most bytes of a link's target: PATH_MAX.
const LONGEST_TARGET: u64 = 4096;

/// Returns the names of the images that an image has its contents in, in the order in which the kernel wants them.
pub fn devices(image: &File) -> Result<Vec<String>, Error> {
    Ok(Reader::open(image)?.devices.into_iter().map(|device| device.name).collect())
}

/// An image that is read.
#[derive(Debug)]
pub(crate) struct Reader<F> {
    image: F,
    /// First byte of the metadata, and first byte behind the image.
    metadata: u64,
    end: u64,
    pub(crate) blocks: u32,
    pub(crate) devices: Vec<Device>,
}

/// An inode and what is behind it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) inode: Inode,
    pub(crate) attributes: Vec<u8>,
    /// The target of a link, or a list of chunks.
    pub(crate) behind: Vec<u8>,
}

impl<F: Borrow<File>> Reader<F> {
    /// Reads what an image says of itself.
    pub(crate) fn open(image: F) -> Result<Self, Error> {
        let mut bytes = [0; SUPERBLOCK_SIZE];
        image.borrow().read_exact_at(&mut bytes, SUPERBLOCK).map_err(failed)?;
        let superblock =
            Superblock::decode(&bytes).ok_or(Error::Damaged { problem: "its superblock is none of this store" })?;
        let mut devices = Vec::new();
        for number in 0..u64::from(superblock.devices) {
            let mut bytes = [0; DEVICE];
            image.borrow().read_exact_at(&mut bytes, DEVICES + number * DEVICE as u64).map_err(failed)?;
            devices.push(Device::decode(&bytes).ok_or(Error::Damaged { problem: "its table of devices is none" })?);
        }
        let (metadata, end) = (u64::from(superblock.metadata) * BLOCK, u64::from(superblock.blocks) * BLOCK);
        Ok(Self { image, metadata, end, blocks: superblock.blocks, devices })
    }

    /// Reads an inode by its number, which is the one that is seen of it in a mount.
    pub(crate) fn inode(&self, number: u64) -> Result<Found, Error> {
        let at = number.checked_mul(SLOT).and_then(|at| at.checked_add(self.metadata));
        let at = at.filter(|at| *at < self.end).ok_or(Error::Damaged { problem: "an inode is outside of it" })?;
        let mut bytes = [0; INODE as usize];
        self.image.borrow().read_exact_at(&mut bytes, at).map_err(failed)?;
        let inode = Inode::decode(&bytes).ok_or(Error::Damaged { problem: "an inode is of no kind that is known" })?;
        let attributes = self.bytes(at + INODE, inode.attributes)?;
        let next = at + INODE + inode.attributes;
        let behind = match (inode.layout, inode.mode & 0o170_000) {
            (layout, 0o120_000) if inode.size <= LONGEST_TARGET => {
                let start = if layout == Layout::Inline { next } else { u64::from(inode.place) * BLOCK };
                self.bytes(start, inode.size)?
            }
            (_, 0o120_000) => return Err(Error::Damaged { problem: "a symbolic link is too long" }),
            (Layout::Chunks, _) => {
                let bits = BLOCK_BITS.checked_add(inode.place).filter(|bits| *bits < u64::BITS);
                let bits = bits.ok_or(Error::Damaged { problem: "a chunk is too large" })?;
                self.bytes(next, inode.size.div_ceil(1 << bits).saturating_mul(4))?
            }
            _ => Vec::new(),
        };
        Ok(Found { inode, attributes, behind })
    }

    fn bytes(&self, at: u64, count: u64) -> Result<Vec<u8>, Error> {
        let is_inside = at.checked_add(count).is_some_and(|end| end <= self.end);
        let count = usize::try_from(count).ok().filter(|_| is_inside);
        let mut bytes = vec![0; count.ok_or(Error::Damaged { problem: "an inode reaches beyond its end" })?];
        self.image.borrow().read_exact_at(&mut bytes, at).map_err(failed)?;
        Ok(bytes)
    }
}

fn failed(source: io::Error) -> Error {
    Error::io("read")(source)
}
