//! Archives as containers of whole files: listed with their places without reading contents, and written in one fixed
//! form. What a member makes on a disk is not decided here; see [`apply`](fn@crate::apply) for that.

use crate::entry::{Entries, Entry, Type};
use crate::error::{Error, Name};
use crate::header::{BLOCK, Block};
use crate::stream::Blocks;
use crate::tree::{Inode, Kind};
use crate::write::{Described, headers};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};

/// A name of this many bytes, or a PAX header, is more than a container of files needs.
const MAX_METADATA: u64 = 64 * 1024;

/// One member of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name as it is written in the archive: any bytes, absolute or with ".." too.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// Where its content starts in the archive, in bytes.
    pub offset: u64,
    /// Length of its content in bytes.
    pub size: u64,
}

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A file with content.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Symlink(Vec<u8>),
    /// A hard link to the member of this name.
    Link(Vec<u8>),
    /// A device or a FIFO.
    Special,
}

/// Lists the members of an uncompressed archive, at most `limit` header blocks of it; contents are passed over.
///
/// A member whose content would lie behind the end is [`Error::Truncated`]; a sparse one is refused, since its bytes do
/// not stand in the archive as they are.
pub fn members(archive: impl Read + Seek, limit: u64) -> Result<Vec<Member>, Error> {
    let mut seeker = Seeker::new(archive)?;
    let mut entries = Entries::new(limit, MAX_METADATA);
    let mut found = Vec::new();
    while let Some(entry) = entries.next(&mut seeker)? {
        let member = member(entry, seeker.offset)?;
        let size = member.size;
        found.push(member);
        seeker.skip(size)?;
    }
    Ok(found)
}

fn member(entry: Entry, offset: u64) -> Result<Member, Error> {
    if entry.sparse.is_some() {
        return Err(Error::entry(&entry.path, "a sparse file has no place in an archive of whole files"));
    }
    let kind = match entry.kind {
        Type::Regular => MemberKind::File,
        Type::Directory => MemberKind::Directory,
        Type::Symlink => MemberKind::Symlink(entry.link),
        Type::Link => MemberKind::Link(entry.link),
        Type::Char | Type::Block | Type::Fifo => MemberKind::Special,
    };
    Ok(Member { path: entry.path, kind, offset, size: entry.size })
}

/// Reads an uncompressed archive once, front to back, at most `limit` header blocks of it, with the rules of
/// [`members`]. `visit` gets each member with its content, and may leave what it does not want of that. Not a byte is
/// read that follows the end marks.
pub fn each_member<R: Read>(
    archive: R,
    limit: u64,
    mut visit: impl FnMut(&Member, &mut dyn Read) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut walker = Walker { archive, offset: 0 };
    let mut entries = Entries::new(limit, MAX_METADATA);
    while let Some(entry) = entries.next(&mut walker)? {
        let member = member(entry, walker.offset)?;
        let mut content = Content { walker: &mut walker, left: member.size };
        visit(&member, &mut content)?;
        content.pass()?;
        walker.pad(member.size)?;
    }
    Ok(())
}

/// Reads headers and contents in their order.
struct Walker<R> {
    archive: R,
    offset: u64,
}

impl<R: Read> Walker<R> {
    /// Reads until the buffer is full or the archive has ended.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.archive.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Read { source }),
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }

    /// Passes over what follows a content up to the next header; of the last member it may be missing.
    fn pad(&mut self, size: u64) -> Result<(), Error> {
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        self.fill(&mut [0; BLOCK][..padding as usize]).map(drop)
    }
}

impl<R: Read> Blocks for Walker<R> {
    fn offset(&self) -> u64 {
        self.offset
    }

    fn block(&mut self) -> Result<Option<Block>, Error> {
        let mut block = [0; BLOCK];
        match self.fill(&mut block)? {
            0 => Ok(None),
            BLOCK => Ok(Some(block)),
            _ => Err(Error::Truncated { offset: self.offset }),
        }
    }

    fn body(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        // The caller bounds the size.
        let mut body = vec![0; size as usize];
        if self.fill(&mut body)? < body.len() {
            return Err(Error::Truncated { offset: self.offset });
        }
        self.pad(size)?;
        Ok(body)
    }
}

/// The content of a member. Its end before its time is an error that carries an [`Error`].
struct Content<'a, R> {
    walker: &'a mut Walker<R>,
    left: u64,
}

impl<R: Read> Content<'_, R> {
    /// Passes over what is left of it.
    fn pass(&mut self) -> Result<(), Error> {
        let mut piece = vec![0; if self.left > 0 { 64 * 1024 } else { 0 }];
        while self.left > 0 {
            self.next(&mut piece)?;
        }
        Ok(())
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.walker.fill(&mut buffer[..wanted])?;
        if count < wanted {
            return Err(Error::Truncated { offset: self.walker.offset });
        }
        self.left -= count as u64;
        Ok(count)
    }
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.next(buffer).map_err(|error| match error {
            Error::Read { source } => source,
            error => std::io::Error::new(ErrorKind::UnexpectedEof, error),
        })
    }
}

/// Reads headers and seeks over the rest.
struct Seeker<R> {
    archive: R,
    offset: u64,
    end: u64,
}

impl<R: Read + Seek> Seeker<R> {
    fn new(mut archive: R) -> Result<Self, Error> {
        let failed = |source| Error::Read { source };
        let end = archive.seek(SeekFrom::End(0)).map_err(failed)?;
        archive.seek(SeekFrom::Start(0)).map_err(failed)?;
        Ok(Self { archive, offset: 0, end })
    }

    /// Passes over a content and its padding. The padding of the last member may be missing, as its content may not.
    fn skip(&mut self, size: u64) -> Result<(), Error> {
        let truncated = Error::Truncated { offset: self.end };
        let after = match self.offset.checked_add(size) {
            Some(after) if after <= self.end => after,
            _ => return Err(truncated),
        };
        self.offset = after.next_multiple_of(BLOCK as u64).min(self.end);
        self.archive.seek(SeekFrom::Start(self.offset)).map_err(|source| Error::Read { source })?;
        Ok(())
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        if self.end - self.offset < bytes.len() as u64 {
            return Err(Error::Truncated { offset: self.end });
        }
        self.archive.read_exact(bytes).map_err(|source| Error::Read { source })?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

impl<R: Read + Seek> Blocks for Seeker<R> {
    fn offset(&self) -> u64 {
        self.offset
    }

    fn block(&mut self) -> Result<Option<Block>, Error> {
        if self.offset == self.end {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        self.take(&mut block)?;
        Ok(Some(block))
    }

    fn body(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        // The caller bounds the size; the archive has at least as much before anything is allocated.
        if self.end - self.offset < size {
            return Err(Error::Truncated { offset: self.end });
        }
        let mut body = vec![0; size as usize];
        self.take(&mut body)?;
        self.skip(0)?;
        Ok(body)
    }
}

/// Writes an archive of whole files: owned by root, of the year 1970, in the order of the calls, so that equal calls
/// give equal bytes.
#[derive(Debug)]
pub struct MemberWriter<W> {
    out: W,
}

impl<W: Write> MemberWriter<W> {
    /// Starts an archive.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Writes a directory, mode 0755.
    pub fn directory(&mut self, path: &str) -> Result<(), Error> {
        let inode = Inode { mode: 0o755, ..Inode::new(Kind::Directory) };
        self.header(format!("{path}/").as_bytes(), &inode)
    }

    /// Writes a file, mode 0644, whose content is exactly `size` bytes of `content`.
    ///
    /// A content that ends early is [`Error::Damaged`], and the archive is then unusable. The content is read on to
    /// its end, so that a reader that checks itself there has its say.
    pub fn file(&mut self, path: &str, size: u64, content: &mut dyn Read) -> Result<(), Error> {
        let inode = Inode { mode: 0o644, size, ..Inode::new(Kind::Regular) };
        self.header(path.as_bytes(), &inode)?;
        let failed = |reason| Error::Damaged { path: Name(path.as_bytes().to_vec()), reason };
        let mut buffer = vec![0; 256 * 1024];
        let mut left = size;
        loop {
            let count = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count as u64,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(Error::Read { source }),
            };
            left = left.checked_sub(count).ok_or_else(|| failed("it is longer than announced"))?;
            self.write(&buffer[..count as usize])?;
        }
        if left > 0 {
            return Err(failed("it is shorter than announced"));
        }
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        self.write(&[0; BLOCK][..padding as usize])
    }

    /// Ends the archive and returns where it went, flushed.
    pub fn finish(mut self) -> Result<W, Error> {
        self.write(&[0; 2 * BLOCK])?;
        self.out.flush().map_err(|source| Error::Write { source })?;
        Ok(self.out)
    }

    fn header(&mut self, path: &[u8], inode: &Inode) -> Result<(), Error> {
        let blocks = headers(&Described { path, inode, linked: None })
            .map_err(|reason| Error::Unarchivable { path: Name(path.to_vec()), reason: reason.into() })?;
        self.write(&blocks)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(|source| Error::Write { source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn archive() -> Vec<u8> {
        let mut writer = MemberWriter::new(Vec::new());
        writer.directory("blobs").unwrap();
        writer.file("blobs/a", 5, &mut &b"hello"[..]).unwrap();
        writer.file("blobs/empty", 0, &mut &b""[..]).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn what_is_written_is_listed_with_its_place() {
        let bytes = archive();

        let found = members(Cursor::new(&bytes), 100).unwrap();

        let names: Vec<_> = found.iter().map(|member| String::from_utf8_lossy(&member.path)).collect();
        assert_eq!(names, ["blobs/", "blobs/a", "blobs/empty"]);
        let at = found[1].offset as usize;
        assert_eq!((&bytes[at..at + 5], found[1].size), (&b"hello"[..], 5));
        assert_eq!(bytes, archive(), "equal calls give equal bytes");
    }

    #[test]
    fn what_is_read_once_has_the_same_members_with_their_contents() {
        let mut bytes = archive();
        let listed = members(Cursor::new(&bytes), 100).unwrap();
        bytes.extend_from_slice(b"what follows");

        for is_read in [true, false] {
            let (mut found, mut stream) = (Vec::new(), &bytes[..]);
            each_member(&mut stream, 100, |member, content| {
                let mut text = String::new();
                if is_read {
                    content.read_to_string(&mut text).unwrap();
                }
                assert_eq!(text.len() as u64, if is_read { member.size } else { 0 });
                found.push(member.clone());
                Ok(())
            })
            .unwrap();
            assert_eq!(found, listed);
            assert!(stream.ends_with(b"what follows"), "what follows the end is not read");
        }
    }

    #[test]
    fn an_archive_cut_in_a_header_or_a_content_is_truncated() {
        let bytes = archive();
        for length in [1, 511, 513, 1000, 1026, 1028] {
            let cut = members(Cursor::new(&bytes[..length]), 100);
            assert!(matches!(cut, Err(Error::Truncated { .. })), "{length}: {cut:?}");
            let cut = each_member(&bytes[..length], 100, |_, _| Ok(()));
            assert!(matches!(cut, Err(Error::Truncated { .. })), "{length}: {cut:?}");
            let cut = each_member(&bytes[..length], 100, |_, content| {
                let read = content.read_to_end(&mut Vec::new());
                read.map(drop).map_err(|error| error.downcast::<Error>().unwrap())
            });
            assert!(matches!(cut, Err(Error::Truncated { .. })), "{length}: {cut:?}");
        }
    }

    #[test]
    fn a_size_that_wraps_around_is_truncated_and_nothing_is_allocated() {
        let mut bytes = archive();
        // 2^63 - 1 in base 256, with a right checksum.
        bytes[512 + 124..512 + 136].copy_from_slice(&[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255]);
        bytes[512 + 148..512 + 156].fill(b' ');
        let sum: u32 = bytes[512..1024].iter().map(|byte| u32::from(*byte)).sum();
        bytes[512 + 148..512 + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());

        let refused = members(Cursor::new(&bytes), 100);
        assert!(matches!(refused, Err(Error::Truncated { .. })), "{refused:?}");
        let refused = each_member(&bytes[..], 100, |_, _| Ok(()));
        assert!(matches!(refused, Err(Error::Truncated { .. })), "{refused:?}");
    }

    #[test]
    fn more_members_than_allowed_are_refused() {
        let refused = members(Cursor::new(archive()), 2);
        assert!(matches!(refused, Err(Error::Limit { limit: 2, .. })), "{refused:?}");
        let refused = each_member(&archive()[..], 2, |_, _| Ok(()));
        assert!(matches!(refused, Err(Error::Limit { limit: 2, .. })), "{refused:?}");
    }

    #[test]
    fn a_content_of_another_length_than_announced_is_refused() {
        for (size, reason) in [(4, "longer"), (6, "shorter")] {
            let mut writer = MemberWriter::new(Vec::new());
            let refused = writer.file("a", size, &mut &b"hello"[..]);
            assert!(matches!(&refused, Err(Error::Damaged { reason: found, .. }) if found.contains(reason)));
        }
    }
}
