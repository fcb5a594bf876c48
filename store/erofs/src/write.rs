//! From tar to image: the archive goes into the file as it comes, the metadata behind it, the superblock last, so that
//! a file that was cut off is no image. What is behind an archive is written here for images without one, too.

use crate::error::Error;
use crate::format::{self, BLOCK, BLOCK_BITS, HOLE, Inode, SUPERBLOCK, Superblock};
use crate::layout::{self, Content, Plan};
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use strata_archive::{Applied, ApplyOptions};

/// Where the archive starts: the superblock has the first page.
const ARCHIVE: u64 = 4096;
/// Metadata start at a page.
pub(crate) const ALIGNMENT: u64 = 4096;

/// Writes the image of an uncompressed tar stream to an empty file, and says what was in it.
///
/// What the kernel shows of the image is what [`strata_archive::apply`] makes of the same archive; what that refuses is
/// refused. On an error the file is worth nothing.
pub fn write(tar: impl Read, mut image: &File, options: &ApplyOptions) -> Result<Applied, Error> {
    image.seek(SeekFrom::Start(ARCHIVE)).map_err(Error::io("write"))?;
    let applied = strata_archive::index(tar, image, options)?;
    let plan = Plan::new(layout::collect(&applied.toc)?)?;
    let start = (ARCHIVE + applied.tar_size).next_multiple_of(ALIGNMENT);
    let end = metadata(&plan, image, start)?;
    for node in &plan.nodes {
        if let Content::Sparse { chunks, stored: Some(stored), at, .. } = &node.content {
            chunks.copy(image, stored.pieces, ARCHIVE + stored.offset, start + at)?;
        }
    }
    superblock(&plan, image, (start, end), uuid(&applied.diff_id), 0)?;
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

/// Writes what makes an image of a file, when everything else is in it.
pub(crate) fn superblock(
    plan: &Plan<'_>,
    image: &File,
    (start, end): (u64, u64),
    uuid: [u8; 16],
    devices: u16,
) -> Result<(), Error> {
    let superblock = Superblock {
        root: u16::try_from(plan.number(0)).expect("the root comes first"),
        inodes: plan.nodes.len() as u64,
        blocks: block(end),
        metadata: block(start),
        uuid,
        has_chunks: plan.has_chunks,
        devices,
    };
    image.write_all_at(&superblock.encode(), SUPERBLOCK).map_err(Error::io("write"))
}

/// Writes inodes, directories and links, from the byte `start` on, and makes room for what is copied behind them;
/// returns where that ends.
pub(crate) fn metadata(plan: &Plan<'_>, mut image: &File, start: u64) -> Result<u64, Error> {
    let end = start.checked_add(plan.end).map(|end| end.next_multiple_of(BLOCK));
    let end = end
        .filter(|end| end >> BLOCK_BITS < u64::from(u32::MAX))
        .ok_or(Error::TooLarge { what: "a tree of this size" })?;
    image.set_len(end).map_err(Error::io("write"))?;
    image.seek(SeekFrom::Start(start)).map_err(Error::io("write"))?;
    let mut out = Out { file: BufWriter::with_capacity(256 * 1024, image), at: 0 };
    let write = |out: &mut Out<'_>| -> std::io::Result<()> {
        for index in 0..plan.nodes.len() {
            inode(plan, index, start, out)?;
        }
        for (index, node) in plan.nodes.iter().enumerate() {
            match &node.content {
                Content::LongLink { target, at } => {
                    out.pad_to(*at)?;
                    out.put(target)?;
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
    write(&mut out).map_err(Error::io("write"))?;
    Ok(end)
}

fn inode(plan: &Plan<'_>, index: usize, start: u64, out: &mut Out<'_>) -> std::io::Result<()> {
    let node = &plan.nodes[index];
    out.pad_to(node.at)?;
    let (size, place) = match &node.content {
        Content::None => (0, 0),
        Content::Device(number) => (0, *number),
        Content::Archived { offset, size } => (*size, block(ARCHIVE + offset)),
        Content::Sparse { chunks, size, .. } => (*size, chunks.format()),
        Content::Elsewhere { first, size } => (*size, *first),
        Content::ElsewhereInChunks { format, size, .. } => (*size, *format),
        Content::ShortLink(target) => (target.len() as u64, 0),
        Content::LongLink { target, at } => (target.len() as u64, block(start + at)),
        Content::Directory { size, at, .. } => (*size, block(start + at)),
    };
    let inode = Inode {
        layout: node.layout(),
        attributes: node.attributes.len() as u64,
        mode: node.mode,
        size,
        place,
        number: index as u32 + 1,
        owner: node.owner,
        modified: node.modified,
        names: node.names,
    };
    out.put(&inode.encode())?;
    out.put(&node.attributes)?;
    match &node.content {
        Content::ShortLink(target) => out.put(target),
        Content::ElsewhereInChunks { list, .. } => out.put(list),
        Content::Sparse { chunks, at, .. } => chunks.blocks(start + at).try_for_each(|place| {
            let place = place.map_or(HOLE, |place| u32::try_from(place).expect("the end of the image was checked"));
            out.put(&place.to_le_bytes())
        }),
        _ => Ok(()),
    }
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
