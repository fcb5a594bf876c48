//! From tar to image: the archive goes into the file as it comes, the metadata behind it, the superblock last, so that
//! a file that was cut off is no image.

use crate::error::Error;
use crate::format::{self, BLOCK, BLOCK_BITS, HOLE, Inode, SUPERBLOCK, Superblock};
use crate::layout::{Content, Node, Plan};
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use strata_archive::{Applied, ApplyOptions};

/// Where the archive starts: the superblock has the first page.
const ARCHIVE: u64 = 4096;
/// Metadata start at a page.
const ALIGNMENT: u64 = 4096;

/// Writes the image of an uncompressed tar stream to an empty file, and says what was in it.
///
/// What the kernel shows of the image is what [`strata_archive::apply`] makes of the same archive; what that refuses is
/// refused. On an error the file is worth nothing.
pub fn write(tar: impl Read, mut image: &File, options: &ApplyOptions) -> Result<Applied, Error> {
    image.seek(SeekFrom::Start(ARCHIVE)).map_err(Error::io("write"))?;
    let applied = strata_archive::index(tar, image, options)?;
    let plan = Plan::new(&applied.toc)?;
    let start = (ARCHIVE + applied.tar_size).next_multiple_of(ALIGNMENT);
    let end = start.checked_add(plan.end).map(|end| end.next_multiple_of(BLOCK));
    let end = end
        .filter(|end| end >> BLOCK_BITS < u64::from(u32::MAX))
        .ok_or(Error::TooLarge { what: "a tree of this size" })?;
    image.set_len(end).map_err(Error::io("write"))?;
    metadata(&plan, image, start)?;
    for node in &plan.nodes {
        if let (Content::Sparse { chunks, at, .. }, Some(stored)) =
            (&node.content, node.listed.as_ref().and_then(|listed| listed.stored))
        {
            chunks.copy(image, stored.pieces, ARCHIVE + stored.offset, start + at)?;
        }
    }
    let superblock = Superblock {
        root: u16::try_from(plan.number(0)).expect("the root comes first"),
        inodes: plan.nodes.len() as u64,
        blocks: block(end),
        metadata: block(start),
        uuid: uuid(&applied.diff_id),
        has_chunks: plan.has_chunks,
    };
    image.write_all_at(&superblock.encode(), SUPERBLOCK).map_err(Error::io("write"))?;
    Ok(applied)
}

/// Returns the archive of `size` bytes that an image was made from.
pub fn archive(image: File, size: u64) -> Result<impl Read + Send + 'static, Error> {
    let mut image = image;
    image.seek(SeekFrom::Start(ARCHIVE)).map_err(Error::io("read"))?;
    Ok(image.take(size))
}

/// The number of the block at a byte of an image, all of which have numbers of 32 bits.
fn block(byte: u64) -> u32 {
    u32::try_from(byte >> BLOCK_BITS).expect("the end of the image was checked")
}

/// Equal archives make equal images, with equal names for the kernel.
fn uuid(diff_id: &str) -> [u8; 16] {
    let digits = diff_id.rsplit(':').next().unwrap_or_default().as_bytes();
    let mut uuid = [0; 16];
    for (byte, pair) in uuid.iter_mut().zip(digits.chunks(2)) {
        *byte = std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()).unwrap_or(0);
    }
    uuid
}

/// Writes inodes, directories and links, from the byte `start` on.
fn metadata(plan: &Plan<'_>, mut image: &File, start: u64) -> Result<(), Error> {
    image.seek(SeekFrom::Start(start)).map_err(Error::io("write"))?;
    let mut out = Out { file: BufWriter::with_capacity(256 * 1024, image), at: 0 };
    let write = |out: &mut Out<'_>| -> std::io::Result<()> {
        for index in 0..plan.nodes.len() {
            inode(plan, index, start, out)?;
        }
        for (index, node) in plan.nodes.iter().enumerate() {
            match &node.content {
                Content::LongLink { at } => {
                    out.pad_to(*at)?;
                    out.put(node.target())?;
                }
                Content::Directory { blocks, size, at, .. } => {
                    out.pad_to(*at)?;
                    let mut entries = plan.entries(index);
                    for count in blocks {
                        let names: Vec<_> = entries.by_ref().take(*count).collect();
                        let used = (at + size - out.at).min(BLOCK) as usize;
                        out.put(&format::directory_block(&names)[..used])?;
                    }
                }
                _ => {}
            }
        }
        out.file.flush()
    };
    write(&mut out).map_err(Error::io("write"))
}

fn inode(plan: &Plan<'_>, index: usize, start: u64, out: &mut Out<'_>) -> std::io::Result<()> {
    let node = &plan.nodes[index];
    out.pad_to(node.at)?;
    let (size, place) = match &node.content {
        Content::None => (0, device(node)),
        Content::Archived { offset, size } => (*size, block(ARCHIVE + offset)),
        Content::Sparse { chunks, size, .. } => (*size, chunks.format()),
        Content::ShortLink => (node.target().len() as u64, 0),
        Content::LongLink { at } => (node.target().len() as u64, block(start + at)),
        Content::Directory { size, at, .. } => (*size, block(start + at)),
    };
    let listed = node.listed.as_ref();
    let (seconds, nanoseconds) = listed.and_then(|listed| listed.modified).unwrap_or_default();
    let inode = Inode {
        layout: node.layout(),
        attributes: node.attributes,
        mode: node.mode(),
        size,
        place,
        number: index as u32 + 1,
        owner: listed.map_or((0, 0), |listed| (listed.uid, listed.gid)),
        modified: (seconds, nanoseconds as u32),
        names: node.names,
    };
    out.put(&inode.encode())?;
    out.put(&node.encoded())?;
    match &node.content {
        Content::ShortLink => out.put(node.target()),
        Content::Sparse { chunks, at, .. } => chunks.blocks(start + at).try_for_each(|place| {
            let place = place.map_or(HOLE, |place| u32::try_from(place).expect("the end of the image was checked"));
            out.put(&place.to_le_bytes())
        }),
        _ => Ok(()),
    }
}

fn device(node: &Node<'_>) -> u32 {
    node.listed.as_ref().map_or(0, |listed| format::device(listed.device))
}

/// Bytes written one after the other, counted from the start of the metadata.
struct Out<'a> {
    file: BufWriter<&'a File>,
    at: u64,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.at += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn pad_to(&mut self, at: u64) -> std::io::Result<()> {
        const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
        while self.at < at {
            let count = ((at - self.at) as usize).min(ZEROS.len());
            self.put(&ZEROS[..count])?;
        }
        Ok(())
    }
}
