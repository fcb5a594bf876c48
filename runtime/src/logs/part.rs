//! One file of a log, held open. Where something is in it is found without reading the rest: entries come in the order of
//! their times, so a time is looked for by halves, and the last lines are looked for from the end.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, memfd_create, openat};

use super::entry;

/// How much is read at a time where something is looked for.
const BLOCK: usize = 32 << 10;

/// What no other file has, as long as this one is open. One that was compressed has that of what it was before.
pub type Identity = (u64, u64);

/// One file.
pub struct Part {
    pub identity: Identity,
    path: PathBuf,
    content: Content,
    /// The start of an entry whose end is not written yet.
    rest: Vec<u8>,
    /// Where the next entry begins.
    at: u64,
    /// Where reading ends. Unset: where the file does.
    end: Option<u64>,
}

enum Content {
    Plain(BufReader<File>),
    /// Compressed, and not looked at yet.
    Packed(File),
}

/// How many of the last lines are wanted, while they are looked for from the end.
#[derive(Debug)]
pub struct Tail {
    wanted: u64,
    ends: u64,
    has_any: bool,
}

impl Tail {
    pub fn new(wanted: u64) -> Self {
        Self { wanted, ends: 0, has_any: false }
    }

    /// Whether an entry belongs to them: a part of a long line does with the end that follows it, and a last line without
    /// its end is one too.
    fn takes(&mut self, raw: &[u8]) -> bool {
        let Some(is_end) = entry::ends_line(raw) else { return true };
        if self.wanted == 0 || (self.ends == self.wanted && is_end) {
            return false;
        }
        self.ends += u64::from(is_end || !self.has_any);
        self.has_any = true;
        true
    }
}

impl Part {
    /// Opens a file that is there.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let Some((file, identity)) = open(path)? else { return Ok(None) };
        let content = Content::Plain(BufReader::with_capacity(BLOCK, file));
        Ok(Some(Self { identity, path: path.to_owned(), content, rest: Vec::new(), at: 0, end: None }))
    }

    /// Opens a compressed file that is there.
    pub fn open_packed(path: &Path) -> io::Result<Option<Self>> {
        let Some((mut file, own)) = open(path)? else { return Ok(None) };
        let identity = packed_identity(&file).unwrap_or(own);
        file.rewind()?;
        let content = Content::Packed(file);
        Ok(Some(Self { identity, path: path.to_owned(), content, rest: Vec::new(), at: 0, end: None }))
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next entry that is whole; `None`: there is none, or none yet.
    pub fn next(&mut self) -> io::Result<Option<entry::Line>> {
        loop {
            if self.end.is_some_and(|end| self.at >= end) {
                return Ok(None);
            }
            self.unpack()?;
            let Content::Plain(reader) = &mut self.content else { return Ok(None) };
            reader.read_until(b'\n', &mut self.rest)?;
            if !self.rest.ends_with(b"\n") {
                return Ok(None);
            }
            self.at += self.rest.len() as u64;
            let line = entry::parse(&self.rest);
            self.rest.clear();
            if line.is_some() {
                return Ok(line);
            }
        }
    }

    /// Ends it where the last whole entry ends now.
    pub fn freeze(&mut self) -> io::Result<()> {
        let file = self.unpacked()?;
        let end = last_end(file, file.metadata()?.len())?;
        self.end = Some(end);
        Ok(())
    }

    /// Ends it behind what was written at a time.
    pub fn end_after(&mut self, until: Timestamp) -> io::Result<()> {
        let to = self.limit()?;
        let end = first_not(self.unpacked()?, to, |at| at <= until)?;
        self.end = Some(end);
        Ok(())
    }

    /// Begins it with what was written at a time or later; says whether that leaves anything out.
    pub fn begin_at(&mut self, since: Timestamp) -> io::Result<bool> {
        let to = self.limit()?;
        let start = first_not(self.unpacked()?, to, |at| at < since)?;
        self.seek(start)?;
        Ok(start > 0)
    }

    /// Begins it with the first of the last lines; says whether they are all in it.
    pub fn begin_with(&mut self, tail: &mut Tail) -> io::Result<bool> {
        let (from, to) = (self.at, self.limit()?);
        let found = walk_back(self.unpacked()?, from, to, |raw| tail.takes(raw))?;
        match found {
            Some(start) => self.seek(start).map(|()| true),
            None => Ok(false),
        }
    }

    /// Where the last entry that is wanted ends.
    fn limit(&mut self) -> io::Result<u64> {
        match self.end {
            Some(end) => Ok(end),
            None => {
                let file = self.unpacked()?;
                last_end(file, file.metadata()?.len())
            }
        }
    }

    fn seek(&mut self, to: u64) -> io::Result<()> {
        self.unpack()?;
        if let Content::Plain(reader) = &mut self.content {
            reader.seek(SeekFrom::Start(to))?;
        }
        self.at = to;
        self.rest.clear();
        Ok(())
    }

    fn unpacked(&mut self) -> io::Result<&File> {
        self.unpack()?;
        match &self.content {
            Content::Plain(reader) => Ok(reader.get_ref()),
            Content::Packed(file) => Ok(file),
        }
    }

    fn unpack(&mut self) -> io::Result<()> {
        if let Content::Packed(file) = &self.content {
            let plain = unpack(file, &self.path)?;
            self.content = Content::Plain(BufReader::with_capacity(BLOCK, plain));
        }
        Ok(())
    }
}

/// Opens a regular file; nothing else is followed.
fn open(path: &Path) -> io::Result<Option<(File, Identity)>> {
    let no_follow = OFlags::NOFOLLOW.bits() as i32;
    let file = match File::options().read(true).custom_flags(no_follow).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    Ok(Some((file, (metadata.dev(), metadata.ino()))))
}

/// What was noted when it was compressed.
fn packed_identity(file: &File) -> Option<Identity> {
    let decoder = flate2::read::GzDecoder::new(file);
    let comment = std::str::from_utf8(decoder.header()?.comment()?).ok()?;
    let (device, inode) = comment.split_once(':')?;
    Some((device.parse().ok()?, inode.parse().ok()?))
}

/// A copy without a name, which goes with its last user.
fn unpack(packed: &File, path: &Path) -> io::Result<File> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let plain = openat(CWD, dir, flags, Mode::RUSR | Mode::WUSR);
    // A file system that has no such files.
    let plain = plain.or_else(|_| memfd_create("strata-log", MemfdFlags::CLOEXEC))?;
    let mut plain = File::from(plain);
    io::copy(&mut MultiGzDecoder::new(packed), &mut plain)?;
    plain.rewind()?;
    Ok(plain)
}

/// The end of the last whole entry before `to`.
fn last_end(file: &File, to: u64) -> io::Result<u64> {
    let (mut at, mut block) = (to, Vec::new());
    while at > 0 {
        let start = at.saturating_sub(BLOCK as u64);
        read_into(file, start, at, &mut block)?;
        if let Some(index) = block.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + index as u64 + 1);
        }
        at = start;
    }
    Ok(0)
}

/// Where the first entry begins of whose time the condition does not hold; it holds of times before.
fn first_not(file: &File, to: u64, holds: impl Fn(Timestamp) -> bool) -> io::Result<u64> {
    // What begins before `low` is before; what is found from `high` on is not.
    let (mut low, mut high) = (0, to);
    while low < high {
        let middle = low + (high - low) / 2;
        match dated_from(file, middle, to)? {
            Some((end, at)) if holds(at) => low = end,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The first entry with a time that begins at `from` or later: its end, and when it was written.
fn dated_from(file: &File, from: u64, to: u64) -> io::Result<Option<(u64, Timestamp)>> {
    // The end of an entry just before `from` is a begin.
    let mut reader = BufReader::with_capacity(BLOCK, At { file, at: from.saturating_sub(1), to });
    let mut at = from.saturating_sub(1);
    let mut raw = Vec::new();
    if from > 0 {
        at += reader.read_until(b'\n', &mut raw)? as u64;
    }
    loop {
        raw.clear();
        at += reader.read_until(b'\n', &mut raw)? as u64;
        if !raw.ends_with(b"\n") {
            return Ok(None);
        }
        if let Some(time) = entry::time(&raw) {
            return Ok(Some((at, time)));
        }
    }
}

/// Shows entries between two of their borders, the last first, until one is refused; returns where that ends.
fn walk_back(file: &File, from: u64, to: u64, mut takes: impl FnMut(&[u8]) -> bool) -> io::Result<Option<u64>> {
    // What is known of the entry that ends at `end`: all from `at` on, without its last byte.
    let (mut end, mut at, mut known) = (to, to.saturating_sub(1).max(from), Vec::new());
    let mut block = Vec::new();
    while at > from {
        let start = at.saturating_sub(BLOCK as u64).max(from);
        read_into(file, start, at, &mut block)?;
        let mut rest = block.as_slice();
        while let Some(index) = rest.iter().rposition(|&byte| byte == b'\n') {
            let mut raw = rest[index + 1..].to_vec();
            raw.append(&mut known);
            if !takes(&raw) {
                return Ok(Some(end));
            }
            end = start + index as u64 + 1;
            rest = &rest[..index];
        }
        let mut before = rest.to_vec();
        before.append(&mut known);
        (known, at) = (before, start);
    }
    Ok((end > from && !takes(&known)).then_some(end))
}

/// Reads what is between two places; less where the file has become shorter.
fn read_into(file: &File, from: u64, to: u64, block: &mut Vec<u8>) -> io::Result<()> {
    block.clear();
    At { file, at: from, to }.read_to_end(block)?;
    Ok(())
}

/// A piece of a file, read without moving where the file is.
struct At<'a> {
    file: &'a File,
    at: u64,
    to: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.to.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let count = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
