//! Writing archives: headers in one fixed form (POSIX, with PAX records where a field is too small), so that equal
//! trees give equal bytes; and the output that digests and records what passes.

use crate::digest::Digesting;
use crate::error::{Error, Name};
use crate::header::{self, BLOCK, Block};
use crate::pax;
use crate::toc::Recorder;
use crate::tree::{Inode, Kind, Time};
use std::io::Write;
use std::ops::Range;

/// Where an archive goes while it is digested and recorded.
pub(crate) struct Output<W> {
    out: W,
    digesting: Digesting,
    filled: usize,
    written: u64,
    pub(crate) recorder: Recorder,
}

impl<W: Write> Output<W> {
    pub(crate) fn new(out: W, recorder: Recorder) -> Self {
        let mut digesting = Digesting::new();
        digesting.next();
        Self { out, digesting, filled: 0, written: 0, recorder }
    }

    /// Writes metadata.
    pub(crate) fn literal(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.recorder.literal(bytes)?;
        self.content(bytes)
    }

    /// Writes content; the caller records it.
    pub(crate) fn content(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let space = &mut self.digesting.current_mut()[self.filled..];
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            self.filled += count;
            if self.filled == crate::digest::CHUNK {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes up to the next block after a content of `size` bytes.
    pub(crate) fn padding(&mut self, size: u64) -> Result<(), Error> {
        let rest = (size % BLOCK as u64) as usize;
        if rest == 0 { Ok(()) } else { self.literal(&[0; BLOCK][rest..]) }
    }

    /// Ends the archive; returns its digest, size and record.
    pub(crate) fn finish(mut self) -> Result<([u8; 32], u64, Recorder), Error> {
        self.literal(&[0; 2 * BLOCK])?;
        self.flush()?;
        self.out.flush().map_err(|source| Error::Write { source })?;
        Ok((self.digesting.finish(), self.written, self.recorder))
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.filled == 0 {
            return Ok(());
        }
        self.digesting.submit(self.filled);
        self.out.write_all(&self.digesting.chunk()[..self.filled]).map_err(|source| Error::Write { source })?;
        self.written += self.filled as u64;
        self.filled = 0;
        self.digesting.next();
        Ok(())
    }
}

/// What a header describes.
pub(crate) struct Described<'a> {
    /// The name in the archive; a directory's ends in a slash.
    pub(crate) path: &'a [u8],
    pub(crate) inode: &'a Inode,
    /// The first name of the inode, when this is a further one.
    pub(crate) linked: Option<&'a [u8]>,
}

/// Returns the header blocks of what has this path in a tree; the root is `./`.
pub(crate) fn headers_of(path: &[u8], inode: &Inode, linked: Option<&[u8]>) -> Result<Vec<u8>, Error> {
    let name = match inode.kind {
        Kind::Directory if path.is_empty() => b"./".to_vec(),
        Kind::Directory => [path, b"/"].concat(),
        _ => path.to_vec(),
    };
    headers(&Described { path: &name, inode, linked })
        .map_err(|reason| Error::Unarchivable { path: Name(path.to_vec()), reason: reason.into() })
}

/// Returns the header blocks of an entry, PAX records first if some are needed.
pub(crate) fn headers(entry: &Described<'_>) -> Result<Vec<u8>, &'static str> {
    let Described { path, inode, linked } = *entry;
    let link = linked.unwrap_or(&inode.link);
    let is_link = linked.is_some();
    let size = if inode.kind == Kind::Regular && !is_link { inode.size } else { 0 };
    let mut records: Vec<pax::Record> = Vec::new();
    let mut need = |key: &[u8], value: Vec<u8>| records.push((key.to_vec(), value));
    let mut block = [0; BLOCK];
    put_path(&mut block, path, &mut need);
    if link.len() > header::LINK.len() {
        need(b"linkpath", link.to_vec());
    }
    put_text(&mut block, header::LINK, link);
    put_number(&mut block, header::MODE, u64::from(inode.mode));
    for (key, field, value) in [
        (&b"uid"[..], header::UID, u64::from(inode.uid)),
        (b"gid", header::GID, u64::from(inode.gid)),
        (b"size", header::SIZE, size),
    ] {
        if !put_number(&mut block, field, value) {
            need(key, value.to_string().into_bytes());
        }
    }
    put_time(&mut block, inode.mtime, &mut need);
    if !is_link {
        for (name, value) in &inode.xattrs {
            if name.contains(&b'=') {
                return Err("the name of an extended attribute contains '='");
            }
            need(&[b"SCHILY.xattr.", name.as_slice()].concat(), value.clone());
        }
    }
    block[header::TYPE] = type_flag(inode.kind, is_link);
    if matches!(inode.kind, Kind::Char | Kind::Block) && !is_link {
        put_number(&mut block, header::MAJOR, u64::from(inode.device.0));
        put_number(&mut block, header::MINOR, u64::from(inode.device.1));
    }
    seal(&mut block);
    let mut out = pax_blocks(records);
    out.extend_from_slice(&block);
    Ok(out)
}

fn type_flag(kind: Kind, is_link: bool) -> u8 {
    match kind {
        _ if is_link => b'1',
        Kind::Regular | Kind::Whiteout => b'0',
        Kind::Symlink => b'2',
        Kind::Char => b'3',
        Kind::Block => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

fn pax_blocks(mut records: Vec<pax::Record>) -> Vec<u8> {
    if records.is_empty() {
        return Vec::new();
    }
    records.sort();
    let mut body = Vec::new();
    records.iter().for_each(|(key, value)| pax::push(&mut body, key, value));
    let mut block = [0; BLOCK];
    put_text(&mut block, header::NAME, b"PaxHeaders.0");
    put_number(&mut block, header::MODE, 0o644);
    put_number(&mut block, header::UID, 0);
    put_number(&mut block, header::GID, 0);
    put_number(&mut block, header::SIZE, body.len() as u64);
    put_number(&mut block, header::MTIME, 0);
    block[header::TYPE] = b'x';
    seal(&mut block);
    body.resize(body.len().next_multiple_of(BLOCK), 0);
    let mut out = block.to_vec();
    out.extend_from_slice(&body);
    out
}

fn put_path(block: &mut Block, path: &[u8], need: &mut impl FnMut(&[u8], Vec<u8>)) {
    if path.len() <= header::NAME.len() {
        return put_text(block, header::NAME, path);
    }
    // The prefix is what stands before a slash, and both parts are not empty.
    let slash = (1..path.len() - 1)
        .find(|at| path[*at] == b'/' && *at <= header::PREFIX.len() && path.len() - at - 1 <= header::NAME.len());
    match slash {
        Some(at) => {
            put_text(block, header::PREFIX, &path[..at]);
            put_text(block, header::NAME, &path[at + 1..]);
        }
        None => {
            put_text(block, header::NAME, path);
            need(b"path", path.to_vec());
        }
    }
}

fn put_time(block: &mut Block, time: Time, need: &mut impl FnMut(&[u8], Vec<u8>)) {
    let whole = u64::try_from(time.seconds).ok();
    let fits = put_number(block, header::MTIME, whole.unwrap_or(0)) && whole.is_some();
    if !fits || time.nanoseconds != 0 {
        need(b"mtime", pax::format_time(time).into_bytes());
    }
}

fn put_text(block: &mut Block, field: Range<usize>, text: &[u8]) {
    let length = text.len().min(field.len());
    block[field.start..field.start + length].copy_from_slice(&text[..length]);
}

/// Writes an octal number; what does not fit is left at zero, for a PAX record to say.
fn put_number(block: &mut Block, field: Range<usize>, value: u64) -> bool {
    let digits = field.len() - 1;
    let fits = value >> (3 * digits) == 0;
    let text = format!("{:0digits$o}", if fits { value } else { 0 });
    put_text(block, field, text.as_bytes());
    fits
}

fn seal(block: &mut Block) {
    block[header::MAGIC].copy_from_slice(b"ustar\x0000");
    block[header::CHECKSUM].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[header::CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
