//! The stored form of a table of contents: magic, the metadata frame, and a zstd frame of varints and byte strings.
//! Decoding trusts nothing: counts are checked against what is left, indices against what was read.

use super::{Content, Toc};
use crate::error::Error;
use crate::recipe::decoder;
use crate::tree::{Inode, Kind, Time, Tree, Xattrs};
use std::io::Read;

const MAGIC: &[u8] = b"STRATOC1";
/// An index that unpacks to more than this is damaged or hostile.
const MAX_INDEX: u64 = 2 << 30;
const KINDS: [Kind; 7] =
    [Kind::Regular, Kind::Directory, Kind::Symlink, Kind::Char, Kind::Block, Kind::Fifo, Kind::Whiteout];

impl Toc {
    /// Returns the stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut index = Vec::new();
        index.extend_from_slice(&self.digest);
        put(&mut index, self.tar_size);
        index.push(u8::from(self.is_truncated_to_seconds));
        put(&mut index, self.contents.len() as u64);
        self.contents.iter().for_each(|content| put_content(&mut index, content));
        put_tree(&mut index, &self.tree);
        pack(MAGIC, &self.literal, &index)
    }

    /// Reads a stored form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let decoded = unpack(MAGIC, bytes, MAX_INDEX);
        let decoded = decoded.and_then(|(literal, index)| decode_index(&mut Cursor(&index), literal.to_vec()));
        decoded.map_err(|reason| Error::Toc { reason })
    }
}

/// Puts metadata and an index into one form: magic, length and bytes of the metadata, and a zstd frame of the index.
pub(crate) fn pack(magic: &[u8], literal: &[u8], index: &[u8]) -> Vec<u8> {
    let index = zstd::bulk::compress(index, 3).expect("compressing into memory does not fail");
    [magic, &(literal.len() as u64).to_le_bytes(), literal, &index].concat()
}

/// Reads what [`pack`] made: the metadata, and the index, of at most so many bytes.
pub(crate) fn unpack<'a>(magic: &[u8], bytes: &'a [u8], max_index: u64) -> Result<(&'a [u8], Vec<u8>), &'static str> {
    let rest = bytes.strip_prefix(magic).ok_or("it does not start with its magic")?;
    let (length, rest) = rest.split_first_chunk::<8>().ok_or("it is truncated")?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| "it is truncated")?;
    let (literal, frame) = rest.split_at_checked(length).ok_or("it is truncated")?;
    let mut index = Vec::new();
    decoder(frame)
        .and_then(|decoder| decoder.take(max_index + 1).read_to_end(&mut index))
        .map_err(|_| "its index is damaged")?;
    if index.len() as u64 > max_index { Err("its index is too large") } else { Ok((literal, index)) }
}

fn decode_index(cursor: &mut Cursor<'_>, literal: Vec<u8>) -> Result<Toc, &'static str> {
    let digest = cursor.array()?;
    let tar_size = cursor.number()?;
    let is_truncated_to_seconds = cursor.byte()? != 0;
    let mut position = 0;
    let contents = (0..cursor.count()?).map(|_| content(cursor, &mut position)).collect::<Result<Vec<_>, _>>()?;
    let tree = tree(cursor, contents.len())?;
    if !cursor.0.is_empty() {
        return Err("something follows its end");
    }
    Ok(Toc { literal, contents, tree, digest, tar_size, is_truncated_to_seconds })
}

fn put_content(out: &mut Vec<u8>, content: &Content) {
    put(out, content.before);
    put_bytes(out, &content.path);
    put(out, content.size);
    out.extend_from_slice(&content.blake3);
    out.push(u8::from(content.inline.is_some()));
    if let Some(bytes) = &content.inline {
        put_bytes(out, bytes);
    }
    put(out, content.pieces.len() as u64);
    for (offset, length) in &content.pieces {
        put(out, *offset);
        put(out, *length);
    }
}

/// Reads a content that comes after `position` bytes of the archive.
fn content(cursor: &mut Cursor<'_>, position: &mut u64) -> Result<Content, &'static str> {
    let (before, path, size, blake3) = (cursor.number()?, cursor.bytes()?, cursor.number()?, cursor.array()?);
    let offset = position.checked_add(before).ok_or("sizes do not add up")?;
    *position = offset.checked_add(size).ok_or("sizes do not add up")?;
    let inline = match cursor.byte()? {
        0 => None,
        _ => Some(cursor.bytes()?),
    };
    if inline.as_ref().is_some_and(|bytes| bytes.len() as u64 != size) {
        return Err("a kept content has another size");
    }
    let pieces = (0..cursor.count()?).map(|_| Ok((cursor.number()?, cursor.number()?)));
    Ok(Content { before, offset, path, size, blake3, inline, pieces: pieces.collect::<Result<_, &'static str>>()? })
}

fn put_tree(out: &mut Vec<u8>, tree: &Tree) {
    let mut numbers = vec![None; tree.inodes.len()];
    let mut next = 0_u64;
    put(out, tree.names.len() as u64);
    for (path, index) in &tree.names {
        put_bytes(out, path);
        match numbers[*index] {
            Some(number) => put(out, number),
            None => {
                next += 1;
                numbers[*index] = Some(next);
                put(out, 0);
                put_inode(out, &tree.inodes[*index]);
            }
        }
    }
}

fn tree(cursor: &mut Cursor<'_>, contents: usize) -> Result<Tree, &'static str> {
    let mut tree = Tree::default();
    for _ in 0..cursor.count()? {
        let path = cursor.bytes()?;
        match usize::try_from(cursor.number()?).map_err(|_| "a link is out of range")? {
            0 => {
                let inode = inode(cursor)?;
                if inode.content.is_some_and(|content| content >= contents) {
                    return Err("a content is out of range");
                }
                tree.insert(path, inode);
            }
            number => {
                tree.inodes.get_mut(number - 1).ok_or("a link is out of range")?.names += 1;
                tree.names.insert(path, number - 1);
            }
        }
    }
    Ok(tree)
}

fn put_inode(out: &mut Vec<u8>, inode: &Inode) {
    let kind = KINDS.iter().position(|kind| *kind == inode.kind).expect("KINDS lists every kind");
    out.push(kind as u8 | u8::from(inode.is_implied) << 4 | u8::from(inode.is_opaque) << 5);
    for number in [inode.mode, inode.uid, inode.gid, inode.device.0, inode.device.1] {
        put(out, u64::from(number));
    }
    put(out, inode.mtime.seconds.cast_unsigned());
    put(out, inode.mtime.nanoseconds.cast_unsigned());
    put(out, inode.size);
    put_bytes(out, &inode.link);
    put(out, inode.content.map_or(0, |content| content as u64 + 1));
    put(out, inode.xattrs.len() as u64);
    for (name, value) in &inode.xattrs {
        put_bytes(out, name);
        put_bytes(out, value);
    }
}

fn inode(cursor: &mut Cursor<'_>) -> Result<Inode, &'static str> {
    let flags = cursor.byte()?;
    let kind = *KINDS.get(usize::from(flags & 15)).ok_or("a kind is unknown")?;
    let mut inode = Inode { is_implied: flags & 16 != 0, is_opaque: flags & 32 != 0, ..Inode::new(kind) };
    (inode.mode, inode.uid, inode.gid) = (cursor.small()?, cursor.small()?, cursor.small()?);
    inode.device = (cursor.small()?, cursor.small()?);
    inode.mtime = Time { seconds: cursor.number()?.cast_signed(), nanoseconds: cursor.number()?.cast_signed() };
    inode.size = cursor.number()?;
    inode.link = cursor.bytes()?;
    inode.content = match cursor.number()? {
        0 => None,
        number => Some(usize::try_from(number - 1).map_err(|_| "a content is out of range")?),
    };
    let xattrs = (0..cursor.count()?).map(|_| Ok((cursor.bytes()?, cursor.bytes()?)));
    inode.xattrs = xattrs.collect::<Result<Xattrs, &'static str>>()?;
    Ok(inode)
}

pub(crate) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl Cursor<'_> {
    fn byte(&mut self) -> Result<u8, &'static str> {
        let (byte, rest) = self.0.split_first().ok_or("it is truncated")?;
        self.0 = rest;
        Ok(*byte)
    }

    pub(crate) fn array(&mut self) -> Result<[u8; 32], &'static str> {
        let (array, rest) = self.0.split_first_chunk().ok_or("it is truncated")?;
        self.0 = rest;
        Ok(*array)
    }

    pub(crate) fn number(&mut self) -> Result<u64, &'static str> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return Err("a number is too large");
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number is too large")
    }

    fn small(&mut self) -> Result<u32, &'static str> {
        u32::try_from(self.number()?).map_err(|_| "a number is too large")
    }

    /// Reads a count of things that take at least a byte each.
    pub(crate) fn count(&mut self) -> Result<usize, &'static str> {
        let count = usize::try_from(self.number()?).map_err(|_| "a count is too large")?;
        if count > self.0.len() { Err("a count is too large") } else { Ok(count) }
    }

    fn bytes(&mut self) -> Result<Vec<u8>, &'static str> {
        let length = self.count()?;
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(bytes.to_vec())
    }
}
