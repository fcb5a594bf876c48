//! Archives that come as a stream: written down once, uncompressed, in a file without a name. Contents that look like
//! layers can be taken while they pass: a hole stays where they would be.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use strata_archive::{Compression, Member, MemberKind, each_member};
use strata_types::Digest;

use super::docker::named_digest;
use crate::{Error, Limits, Result};

/// Contents of less are written down whatever they are: a document may come before or after what it is about.
const LEAST: u64 = 1 << 20;
/// What of a content is looked at: the first header of a tar.
const START: usize = 512;
/// Bytes that are read at a time.
const PIECE: usize = 256 * 1024;

/// A content that looks like a layer and passes by once.
pub struct Passing<'a> {
    /// How it is compressed: not at all, with gzip or with zstd.
    pub compression: Compression,
    /// Its bytes.
    pub size: u64,
    /// The digest that its name is made of. Nothing is known about whether that is right.
    pub named: Option<Digest>,
    /// The content from its start.
    pub content: &'a mut dyn Read,
}

/// Takes contents while an archive streams by, before it is known what they are for.
pub trait Taker {
    /// Is anything taken at all?
    fn wants(&self) -> bool {
        true
    }

    /// Reads a content to its end and returns its digest, which may be unknown for an uncompressed one. An error ends
    /// the archive; one of the content itself must be returned as it is.
    fn take(&mut self, passing: Passing<'_>) -> io::Result<Option<Digest>>;
}

/// Takes nothing.
impl Taker for () {
    fn wants(&self) -> bool {
        false
    }

    fn take(&mut self, _: Passing<'_>) -> io::Result<Option<Digest>> {
        Ok(None)
    }
}

/// What became of a content that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which one it was, in the order of the archive, from 0.
    pub number: usize,
    /// Its digest, if that is known.
    pub digest: Option<Digest>,
}

/// Reads an uncompressed archive; returns it as a file that nobody else can open and that is gone when it is closed, and
/// what is not in that, by its place.
pub(super) fn read(
    stream: &mut dyn Read,
    directory: &Path,
    limits: &Limits,
    taker: &mut dyn Taker,
) -> Result<(File, BTreeMap<u64, Taken>)> {
    let file = nameless(directory)?;
    let is_passing = Cell::new(false);
    let limit = limits.max_archive;
    let mut spool = Spool { stream, file: &file, directory, is_passing: &is_passing, offset: 0, limit };
    let mut taken = BTreeMap::new();
    let walked = each_member(&mut spool, limits.max_members, |member, content| {
        let digest = match take(member, content, &is_passing, taker) {
            Ok(digest) => digest,
            Err(source) => return Err(strata_archive::Error::Read { source }),
        };
        if let Some(digest) = digest {
            taken.insert(member.offset, Taken { number: taken.len(), digest });
        }
        Ok(())
    });
    walked.map_err(cause)?;
    let end = spool.offset;
    // A decompressor checks its stream at the end.
    is_passing.set(true);
    pass(&mut spool).map_err(|source| cause(strata_archive::Error::Read { source }))?;
    file.set_len(end).map_err(|source| Error::io("write the archive to", directory.display(), source))?;
    Ok((file, taken))
}

/// Has a content taken, if it looks like a layer.
fn take(
    member: &Member,
    content: &mut dyn Read,
    is_passing: &Cell<bool>,
    taker: &mut dyn Taker,
) -> io::Result<Option<Option<Digest>>> {
    if member.kind != MemberKind::File || member.size < LEAST || !taker.wants() {
        return Ok(None);
    }
    let mut start = [0; START];
    content.read_exact(&mut start)?;
    let Some(compression) = layer(&start) else { return Ok(None) };
    let named = str::from_utf8(&member.path).ok().and_then(named_digest);
    is_passing.set(true);
    let mut whole = Cursor::new(start).chain(&mut *content);
    let digest = taker.take(Passing { compression, size: member.size, named, content: &mut whole })?;
    pass(content)?;
    is_passing.set(false);
    Ok(Some(digest))
}

/// How a layer that starts so is compressed; none if it is no layer.
fn layer(start: &[u8; START]) -> Option<Compression> {
    match Compression::detect(start) {
        Compression::None if start[257..262] == *b"ustar" => Some(Compression::None),
        found @ (Compression::Gzip | Compression::Zstd) => Some(found),
        _ => None,
    }
}

/// Reads to the end.
fn pass(stream: &mut dyn Read) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What a failed read was about: it may be ours, or the taker's.
fn cause(error: strata_archive::Error) -> Error {
    let strata_archive::Error::Read { source } = error else { return error.into() };
    match source.downcast::<Error>() {
        Ok(error) => error,
        Err(source) => match source.downcast::<strata_archive::Error>() {
            Ok(error) => error.into(),
            Err(source) => strata_archive::Error::Read { source }.into(),
        },
    }
}

/// A stream whose bytes go to a file, each to its place, but for those that pass.
struct Spool<'a> {
    stream: &'a mut dyn Read,
    file: &'a File,
    directory: &'a Path,
    is_passing: &'a Cell<bool>,
    offset: u64,
    limit: u64,
}

impl Read for Spool<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        if self.offset + count as u64 > self.limit {
            return Err(io::Error::other(Error::limit("the archive, decompressed,", "bytes", self.limit)));
        }
        if !self.is_passing.get() {
            let failed = |source| Error::io("write the archive to", self.directory.display(), source);
            let written = self.file.write_all_at(&buffer[..count], self.offset);
            written.map_err(|source| io::Error::other(failed(source)))?;
        }
        self.offset += count as u64;
        Ok(count)
    }
}

fn nameless(directory: &Path) -> Result<File> {
    let failed = |source: Errno| Error::io("make a file in", directory.display(), source);
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::openat(CWD, directory, flags | OFlags::TMPFILE, mode) {
        Ok(file) => return Ok(file.into()),
        // open(2): file systems without O_TMPFILE say so in one of these ways.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => {}
        Err(error) => return Err(failed(error)),
    }
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).map_err(failed)?;
    let path = directory.join(format!("archive-{:016x}", u64::from_ne_bytes(random)));
    let file = rustix::fs::openat(CWD, &path, flags | OFlags::CREATE | OFlags::EXCL, mode).map_err(failed)?;
    rustix::fs::unlinkat(CWD, &path, rustix::fs::AtFlags::empty()).map_err(failed)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use strata_archive::MemberWriter;

    use super::*;
    use crate::digest;

    /// Takes all, in pieces of odd lengths, or fails.
    #[derive(Default)]
    struct All {
        found: Vec<(Compression, Option<Digest>, Vec<u8>)>,
        fails: bool,
    }

    impl Taker for All {
        fn take(&mut self, passing: Passing<'_>) -> io::Result<Option<Digest>> {
            let mut bytes = Vec::new();
            if self.fails {
                passing.content.take(10).read_to_end(&mut bytes)?;
                return Err(io::Error::other("no more"));
            }
            passing.content.read_to_end(&mut bytes)?;
            assert_eq!(bytes.len() as u64, passing.size);
            let own = digest(&bytes);
            self.found.push((passing.compression, passing.named, bytes));
            Ok(Some(own))
        }
    }

    fn layers() -> [(&'static str, Vec<u8>); 4] {
        let mut tar = vec![1; (1 << 20) + 77];
        tar[257..262].copy_from_slice(b"ustar");
        let (mut gzip, mut xz) = (tar.clone(), tar.clone());
        gzip[..2].copy_from_slice(&[0x1f, 0x8b]);
        xz[..6].copy_from_slice(b"\xfd7zXZ\0");
        [("a.tar", tar), ("b", gzip), ("c", xz), ("d", vec![b' '; 1 << 20])]
    }

    fn archive() -> Vec<u8> {
        let mut writer = MemberWriter::new(Vec::new());
        writer.file("first", 5, &mut &b"hello"[..]).unwrap();
        for (name, bytes) in layers() {
            writer.file(name, bytes.len() as u64, &mut &bytes[..]).unwrap();
        }
        writer.file("last", 3, &mut &b"bye"[..]).unwrap();
        writer.finish().unwrap()
    }

    fn run(bytes: &[u8], limits: &Limits, taker: &mut dyn Taker) -> Result<(File, BTreeMap<u64, Taken>)> {
        let directory = tempfile::tempdir().unwrap();
        let read = read(&mut &bytes[..], directory.path(), limits, taker);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "it leaves no name");
        read
    }

    #[test]
    fn what_looks_like_a_layer_is_taken_and_all_else_is_at_its_place() {
        let bytes = archive();
        let mut taker = All::default();

        let (file, taken) = run(&bytes, &Limits::default(), &mut taker).unwrap();

        let [(_, tar), (_, gzip), ..] = layers();
        assert!(taker.found == [(Compression::None, None, tar), (Compression::Gzip, None, gzip)]);
        let members = strata_archive::members(&file, 100).unwrap();
        assert_eq!(members, strata_archive::members(Cursor::new(&bytes), 100).unwrap());
        let own: Vec<Option<Digest>> = taken.values().map(|taken| taken.digest).collect();
        assert_eq!(own, taker.found.iter().map(|(_, _, bytes)| Some(digest(bytes))).collect::<Vec<_>>());
        for member in members {
            let mut found = vec![0; member.size as usize];
            file.read_exact_at(&mut found, member.offset).unwrap();
            let wanted = &bytes[member.offset as usize..][..found.len()];
            match taken.contains_key(&member.offset) {
                true => assert!(found[..START] == wanted[..START] && found[START..].iter().all(|byte| *byte == 0)),
                false => assert!(found == wanted),
            }
        }
    }

    #[test]
    fn who_takes_nothing_has_all_of_it() {
        let bytes = archive();
        let (mut file, taken) = run(&bytes, &Limits::default(), &mut ()).unwrap();
        let mut found = Vec::new();
        io::Seek::seek(&mut file, io::SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut found).unwrap();
        assert!(taken.is_empty() && bytes.starts_with(&found) && found.len() + 512 >= bytes.len());
    }

    #[test]
    fn a_cut_a_limit_and_a_taker_that_fails_are_told_as_such() {
        let bytes = archive();
        let cut = run(&bytes[..600_000], &Limits::default(), &mut All::default());
        assert!(matches!(cut, Err(Error::Tar { source: strata_archive::Error::Truncated { .. } })), "{cut:?}");
        let limits = Limits { max_archive: 1 << 20, ..Limits::default() };
        for taker in [&mut All::default() as &mut dyn Taker, &mut ()] {
            let refused = run(&bytes, &limits, taker);
            assert!(matches!(refused, Err(Error::Limit { limit: 0x10_0000, .. })), "{refused:?}");
        }
        let failed = run(&bytes, &Limits::default(), &mut All { fails: true, ..All::default() });
        let Err(Error::Tar { source: strata_archive::Error::Read { source } }) = failed else { panic!("{failed:?}") };
        assert_eq!(source.to_string(), "no more");
    }
}
