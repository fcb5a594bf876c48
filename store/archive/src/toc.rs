//! The table of contents of a layer: everything of its tar stream that is not file content, what each content is,
//! and the tree that came out. With the tree on disk it gives back the exact archive; alone it says what should be there.

mod codec;
mod listed;

use crate::digest::sha256_text;
use crate::error::{Error, Name};
use crate::place;
use crate::tree::Tree;
use rustix::fd::BorrowedFd;
use std::io::{Read, Seek, SeekFrom, Write};

pub(crate) use codec::{Cursor, pack, put, unpack};
pub use listed::{Listed, ListedKind, Stored};

/// Bytes of one file content, and of the metadata that precede it in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// Metadata bytes since the previous content.
    pub(crate) before: u64,
    /// Where the bytes are in the archive.
    pub(crate) offset: u64,
    /// Where the bytes are below the root.
    pub(crate) path: Vec<u8>,
    pub(crate) size: u64,
    pub(crate) blake3: [u8; 32],
    /// The bytes themselves, when a later entry took their place in the tree.
    pub(crate) inline: Option<Vec<u8>>,
    /// Pieces of a sparse file; empty for a plain one.
    pub(crate) pieces: Vec<(u64, u64)>,
}

/// A layer's archive without the contents of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toc {
    /// A zstd frame of all metadata bytes in stream order.
    pub(crate) literal: Vec<u8>,
    pub(crate) contents: Vec<Content>,
    pub(crate) tree: Tree,
    pub(crate) digest: [u8; 32],
    pub(crate) tar_size: u64,
    /// The archive holds whole seconds of finer times on disk.
    pub(crate) is_truncated_to_seconds: bool,
}

impl Toc {
    /// Returns the digest of the uncompressed archive, `sha256:<hex>`.
    pub fn diff_id(&self) -> String {
        sha256_text(&self.digest)
    }

    /// Returns the size of the uncompressed archive.
    pub fn tar_size(&self) -> u64 {
        self.tar_size
    }

    /// Lists each whole file content in the tree: path below the root, size, blake3.
    ///
    /// Empty files are not listed, nor sparse ones, whose digest is of their pieces.
    pub fn contents(&self) -> impl Iterator<Item = (&[u8], u64, [u8; 32])> {
        let whole = self.contents.iter().filter(|content| content.inline.is_none() && content.pieces.is_empty());
        whole.map(|content| (content.path.as_slice(), content.size, content.blake3))
    }

    /// Writes the exact archive, taking contents from the tree at `layer_root`.
    ///
    /// A content that is not what it was stops the writing with [`Error::Damaged`].
    pub fn rebuild(&self, layer_root: BorrowedFd<'_>, mut out: impl Write) -> Result<(), Error> {
        let frame = zstd::stream::Decoder::with_buffer(&self.literal[..]);
        let mut literal = frame.map_err(|source| Error::Read { source })?;
        let mut written = 0;
        for content in &self.contents {
            written += copy(&mut literal, content.before, &mut out)?;
            content.write(layer_root, &mut out)?;
            written += content.size;
        }
        let tail = self.tar_size.checked_sub(written).ok_or(Error::Toc { reason: "sizes do not add up" })?;
        copy(&mut literal, tail, &mut out)?;
        out.flush().map_err(|source| Error::Write { source })
    }
}

impl Content {
    /// Writes the bytes: those kept beside the tree, or those in it, which are checked.
    pub(crate) fn write(&self, root: BorrowedFd<'_>, out: &mut impl Write) -> Result<(), Error> {
        let mut write = |bytes: &[u8]| out.write_all(bytes).map_err(|source| Error::Write { source });
        match &self.inline {
            Some(bytes) => write(bytes),
            None => self.read(root, write),
        }
    }

    /// Reads the bytes from the tree, and checks them.
    pub(crate) fn read(
        &self,
        root: BorrowedFd<'_>,
        mut sink: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let damaged = |reason| Error::Damaged { path: Name(self.path.clone()), reason };
        let mut file = place::open_file(root, &self.path)?;
        let length = file.metadata().map_err(|source| Error::disk("read", &self.path, source))?.len();
        if self.pieces.is_empty() && length != self.size {
            return Err(damaged("its size differs"));
        }
        let mut hash = blake3::Hasher::new();
        let mut buffer = vec![0; usize::try_from(self.size).unwrap_or(usize::MAX).min(256 * 1024)];
        let whole = [(0, self.size)];
        for (offset, length) in if self.pieces.is_empty() { &whole[..] } else { &self.pieces } {
            if *offset > 0 {
                file.seek(SeekFrom::Start(*offset)).map_err(|source| Error::disk("read", &self.path, source))?;
            }
            let mut left = *length;
            while left > 0 {
                let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let count =
                    file.read(&mut buffer[..wanted]).map_err(|source| Error::disk("read", &self.path, source))?;
                if count == 0 {
                    return Err(damaged("its size differs"));
                }
                hash.update(&buffer[..count]);
                sink(&buffer[..count])?;
                left -= count as u64;
            }
        }
        if hash.finalize().as_bytes() != &self.blake3 { Err(damaged("its content differs")) } else { Ok(()) }
    }
}

/// Copies so many bytes of metadata.
pub(crate) fn copy(literal: &mut impl Read, size: u64, out: &mut impl Write) -> Result<u64, Error> {
    let mut buffer = [0; 16 * 1024];
    let mut left = size;
    while left > 0 {
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        literal.read_exact(&mut buffer[..wanted]).map_err(|_| Error::Toc { reason: "metadata are damaged" })?;
        out.write_all(&buffer[..wanted]).map_err(|source| Error::Write { source })?;
        left -= wanted as u64;
    }
    Ok(size)
}

/// Builds a table of contents while a stream passes.
pub(crate) struct Recorder {
    literal: zstd::stream::Encoder<'static, Vec<u8>>,
    before: u64,
    /// Bytes recorded, of either sort.
    position: u64,
    pub(crate) contents: Vec<Content>,
    inlined: u64,
    max_bytes: u64,
}

impl Recorder {
    /// Starts a record that may take up to `max_bytes` in memory.
    pub(crate) fn new(max_bytes: u64) -> Result<Self, Error> {
        let mut literal = zstd::stream::Encoder::new(Vec::new(), 1).map_err(|source| Error::Write { source })?;
        literal.include_checksum(true).map_err(|source| Error::Write { source })?;
        Ok(Self { literal, before: 0, position: 0, contents: Vec::new(), inlined: 0, max_bytes })
    }

    /// Records bytes that are not file content.
    pub(crate) fn literal(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.before += bytes.len() as u64;
        self.position += bytes.len() as u64;
        self.literal.write_all(bytes).map_err(|source| Error::Write { source })?;
        self.check_size()
    }

    /// Records the content that follows what was recorded so far; returns its index.
    pub(crate) fn content(&mut self, path: Vec<u8>, size: u64, blake3: [u8; 32], pieces: Vec<(u64, u64)>) -> usize {
        let (before, offset) = (std::mem::take(&mut self.before), self.position);
        self.position += size;
        self.contents.push(Content { before, offset, path, size, blake3, inline: None, pieces });
        self.contents.len() - 1
    }

    /// Counts bytes that are going to be kept.
    pub(crate) fn reserve(&mut self, size: u64) -> Result<(), Error> {
        self.inlined = self.inlined.saturating_add(size);
        self.check_size()
    }

    fn check_size(&self) -> Result<(), Error> {
        if self.literal.get_ref().len() as u64 + self.inlined > self.max_bytes {
            return Err(Error::Limit { what: "bytes kept beside the tree", limit: self.max_bytes });
        }
        Ok(())
    }

    pub(crate) fn finish(self, tree: Tree, digest: [u8; 32], tar_size: u64) -> Result<Toc, Error> {
        let literal = self.literal.finish().map_err(|source| Error::Write { source })?;
        Ok(Toc { literal, contents: self.contents, tree, digest, tar_size, is_truncated_to_seconds: false })
    }
}
