//! What the exact archive of a layer is made of beside the contents of its files: a table of contents without its tree.
//! It travels between stores: whoever has the contents, from wherever, makes the archive from it, and the archive's
//! digest says whether all of it was right. Nothing in a recipe is trusted, only counted.

use crate::error::Error;
use crate::toc::{Cursor, Toc, copy, pack, put, unpack};
use rustix::fd::BorrowedFd;
use std::io::{BufReader, Read, Write};

const MAGIC: &[u8] = b"STRARCP1";
/// The metadata of archives are much alike; they are compressed once and sent over a slow wire.
const LEVEL: i32 = 9;
/// Contents are compressed for one reader: fast, and small enough for a network of a gigabit.
const CONTENTS_LEVEL: i32 = 3;
/// Window of a recipe's frames: 2^24 bytes. A larger one is somebody else's idea.
const WINDOW_LOG: u32 = 24;
/// An index that unpacks to more than this is refused: more than a million contents.
const MAX_INDEX: u64 = 64 << 20;

/// One content of an archive: where it is used, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Metadata bytes since the previous content.
    before: u64,
    /// Bytes of the content.
    pub size: u64,
    /// What they are.
    pub blake3: [u8; 32],
}

/// An archive without the contents of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// A zstd frame of all metadata bytes in stream order.
    literal: Vec<u8>,
    parts: Vec<Part>,
    tar_size: u64,
}

impl Part {
    /// A content of so many bytes that follows so many bytes of metadata.
    pub fn new(before: u64, size: u64, blake3: [u8; 32]) -> Self {
        Self { before, size, blake3 }
    }
}

impl Toc {
    /// Returns what is needed beside the contents to make the archive elsewhere.
    pub fn recipe(&self) -> Result<Recipe, Error> {
        let damaged = |_| Error::Toc { reason: "metadata are damaged" };
        let mut literal = zstd::stream::Decoder::with_buffer(&self.literal[..]).map_err(damaged)?;
        let mut packed = zstd::stream::Encoder::new(Vec::new(), LEVEL).map_err(|source| Error::Write { source })?;
        std::io::copy(&mut literal, &mut packed).map_err(damaged)?;
        let literal = packed.finish().map_err(|source| Error::Write { source })?;
        let part =
            |content: &crate::toc::Content| Part { before: content.before, size: content.size, blake3: content.blake3 };
        Ok(Recipe { literal, parts: self.contents.iter().map(part).collect(), tar_size: self.tar_size })
    }

    /// Writes contents one after the other, those whose place in [`Recipe::parts`] is wanted, taken from the tree.
    ///
    /// A content that is not what it was stops the writing with [`Error::Damaged`].
    pub fn write_contents(
        &self,
        layer_root: BorrowedFd<'_>,
        is_wanted: impl Fn(usize) -> bool,
        mut out: impl Write,
    ) -> Result<(), Error> {
        for (_, content) in self.contents.iter().enumerate().filter(|(place, _)| is_wanted(*place)) {
            content.write(layer_root, &mut out)?;
        }
        Ok(())
    }
}

impl Recipe {
    /// Contents in the order of the archive. The same content may come several times.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Bytes of the uncompressed archive.
    pub fn tar_size(&self) -> u64 {
        self.tar_size
    }

    /// Returns the form that travels.
    pub fn encode(&self) -> Vec<u8> {
        let mut index = Vec::with_capacity(self.parts.len() * 40);
        put(&mut index, self.tar_size);
        put(&mut index, self.parts.len() as u64);
        for part in &self.parts {
            put(&mut index, part.before);
            put(&mut index, part.size);
        }
        // Apart from the numbers: digests cannot be compressed.
        self.parts.iter().for_each(|part| index.extend_from_slice(&part.blake3));
        pack(MAGIC, &self.literal, &index)
    }

    /// Reads what travelled. It describes an archive of at most `max_bytes`, or is refused.
    pub fn decode(bytes: &[u8], max_bytes: u64) -> Result<Self, Error> {
        let decoded = unpack(MAGIC, bytes, MAX_INDEX);
        let decoded = decoded.and_then(|(literal, index)| decode_index(&mut Cursor(&index), literal.to_vec()));
        let recipe = decoded.map_err(|reason| Error::Recipe { reason })?;
        if recipe.tar_size > max_bytes {
            return Err(Error::Limit { what: "bytes", limit: max_bytes });
        }
        Ok(recipe)
    }

    /// Writes the archive. `content` is called for each of [`Recipe::parts`] in order, and writes its bytes.
    ///
    /// What is written is the archive only if its digest says so: neither recipe nor contents are checked here, but for
    /// their sizes.
    pub fn rebuild<E: From<Error>>(
        &self,
        mut content: impl FnMut(&Part, &mut dyn Write) -> Result<(), E>,
        out: &mut dyn Write,
    ) -> Result<(), E> {
        let mut literal =
            decoder(&self.literal[..]).map_err(|_| Error::Recipe { reason: "its metadata are damaged" })?;
        let mut written = 0;
        for part in &self.parts {
            written += copy(&mut literal, part.before, &mut &mut *out)?;
            let mut counted = Counted { out: &mut *out, left: part.size };
            content(part, &mut counted)?;
            if counted.left > 0 {
                return Err(Error::Recipe { reason: "a content is shorter than it says" }.into());
            }
            written += part.size;
        }
        copy(&mut literal, self.tar_size - written, &mut &mut *out)?;
        Ok(out.flush().map_err(|source| Error::Write { source })?)
    }
}

/// A stream of zstd for another store; finished with [`zstd::stream::Encoder::finish`].
pub fn encoder<W: Write>(out: W) -> std::io::Result<zstd::stream::Encoder<'static, W>> {
    zstd::stream::Encoder::new(out, CONTENTS_LEVEL)
}

/// A stream of zstd from another store, with bounded memory.
pub fn decoder<R: Read>(reader: R) -> std::io::Result<zstd::stream::Decoder<'static, BufReader<R>>> {
    let mut decoder = zstd::stream::Decoder::new(reader)?;
    decoder.window_log_max(WINDOW_LOG)?;
    Ok(decoder)
}

fn decode_index(cursor: &mut Cursor<'_>, literal: Vec<u8>) -> Result<Recipe, &'static str> {
    let tar_size = cursor.number()?;
    let count = cursor.count()?;
    // Two numbers and a digest each: memory is taken for what can be there.
    if count > cursor.0.len() / 34 {
        return Err("a count is too large");
    }
    let mut parts = Vec::with_capacity(count);
    let mut sum: u64 = 0;
    for _ in 0..count {
        let (before, size) = (cursor.number()?, cursor.number()?);
        sum = sum.checked_add(before).and_then(|sum| sum.checked_add(size)).ok_or("its sizes do not add up")?;
        parts.push(Part { before, size, blake3: [0; 32] });
    }
    if sum > tar_size {
        return Err("its sizes do not add up");
    }
    for part in &mut parts {
        part.blake3 = cursor.array()?;
    }
    if cursor.0.is_empty() { Ok(Recipe { literal, parts, tar_size }) } else { Err("something follows its end") }
}

/// Takes as many bytes as a content has, and no more.
struct Counted<'a> {
    out: &'a mut dyn Write,
    left: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| std::io::Error::other("a content is longer than it says"))?;
        self.out.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
