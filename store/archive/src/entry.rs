//! Archive entries: a header together with its GNU and PAX extensions.
//! Where known parsers disagree about what an entry is, it is refused.

use crate::error::Error;
use crate::header::{self, BLOCK, Block, Format};
use crate::pax;
use crate::stream::Blocks;
use crate::tree::{Time, Xattrs};

const XATTR: &[u8] = b"SCHILY.xattr.";
/// More pieces than this in one sparse file are refused.
const SPARSE_PIECES: usize = 100_000;

/// What an entry makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Regular,
    Link,
    Symlink,
    Char,
    Block,
    Directory,
    Fifo,
}

/// One entry; the stream stands at its content.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) kind: Type,
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Xattrs,
    /// Bytes of content in the stream.
    pub(crate) size: u64,
    pub(crate) sparse: Option<Sparse>,
}

/// Where the content of a sparse file goes.
#[derive(Debug)]
pub(crate) struct Sparse {
    /// Offset and length of each piece, ascending.
    pub(crate) pieces: Vec<(u64, u64)>,
    /// Size of the file with its holes.
    pub(crate) size: u64,
}

/// What came before the header that it belongs to.
#[derive(Default)]
struct Extensions {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: Option<Vec<pax::Record>>,
}

impl Extensions {
    fn is_pending(&self) -> bool {
        self.long_name.is_some() || self.long_link.is_some() || self.pax.is_some()
    }
}

/// What PAX records say about an entry.
#[derive(Default)]
struct Overrides {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<Time>,
    xattrs: Xattrs,
    sparse: SparseRecords,
}

/// The `GNU.sparse.*` records of one entry.
#[derive(Default)]
struct SparseRecords {
    major: Option<u64>,
    minor: Option<u64>,
    size: Option<u64>,
    name: Option<Vec<u8>>,
    numbers: Vec<u64>,
    is_present: bool,
}

/// Reads entries, with limits on their number and on the metadata of each.
pub(crate) struct Entries {
    left: u64,
    limit: u64,
    max_metadata: u64,
    pub(crate) count: u64,
}

impl Entries {
    pub(crate) fn new(limit: u64, max_metadata: u64) -> Self {
        Self { left: limit, limit, max_metadata, count: 0 }
    }

    /// Reads the next entry; none at the end of the archive.
    pub(crate) fn next(&mut self, stream: &mut impl Blocks) -> Result<Option<Entry>, Error> {
        let mut extensions = Extensions::default();
        loop {
            let offset = stream.offset();
            let bad = |reason| Error::Header { offset, reason };
            let Some(block) = self.block(stream, &extensions)? else { return Ok(None) };
            let format = header::check(&block).map_err(bad)?;
            header::check_numbers(&block, format).map_err(bad)?;
            let size = header::number(&block[header::SIZE]).map_err(bad)?;
            let size = u64::try_from(size).map_err(|_| bad("the size is negative"))?;
            match block[header::TYPE] {
                b'L' => set(&mut extensions.long_name, self.long(stream, size, offset)?).map_err(bad)?,
                b'K' => set(&mut extensions.long_link, self.long(stream, size, offset)?).map_err(bad)?,
                b'x' => {
                    let body = self.metadata(stream, size)?;
                    set(&mut extensions.pax, pax::parse(&body).map_err(bad)?).map_err(bad)?;
                }
                b'g' => check_global(&self.metadata(stream, size)?).map_err(bad)?,
                b'V' => {
                    if extensions.is_pending() {
                        return Err(bad("a long name or record stands in front of a volume's label"));
                    }
                    self.metadata(stream, size)?;
                }
                _ => {
                    self.count += 1;
                    return entry(stream, &block, format, size, extensions, offset).map(Some);
                }
            }
        }
    }

    /// Reads a header block; none at the end of the archive.
    fn block(&mut self, stream: &mut impl Blocks, pending: &Extensions) -> Result<Option<Block>, Error> {
        let offset = stream.offset();
        let is_pending = pending.is_pending();
        let block = stream.block()?.filter(|block| *block != [0; BLOCK] || is_pending);
        let Some(block) = block else {
            if is_pending {
                return Err(Error::Truncated { offset });
            }
            // One zero block may stand alone at the end, not in front of more entries.
            return match stream.block()? {
                Some(second) if second != [0; BLOCK] => {
                    Err(Error::Header { offset, reason: "a zero block stands between entries" })
                }
                _ => Ok(None),
            };
        };
        self.left = self.left.checked_sub(1).ok_or(Error::Limit { what: "entries", limit: self.limit })?;
        Ok(Some(block))
    }

    fn metadata(&self, stream: &mut impl Blocks, size: u64) -> Result<Vec<u8>, Error> {
        if size > self.max_metadata {
            return Err(Error::Limit { what: "bytes of metadata in one entry", limit: self.max_metadata });
        }
        stream.body(size)
    }

    fn long(&self, stream: &mut impl Blocks, size: u64, offset: u64) -> Result<Vec<u8>, Error> {
        // With its padding: some readers take the whole blocks for the name.
        let body = self.metadata(stream, size.next_multiple_of(BLOCK as u64))?;
        let name = header::text(&body[..usize::try_from(size).unwrap_or(body.len()).min(body.len())]);
        if body[name.len()..].iter().any(|byte| *byte != 0) {
            return Err(Error::Header { offset, reason: "a long name contains a NUL, or goes on behind its end" });
        }
        Ok(name.to_vec())
    }
}

fn set<T>(slot: &mut Option<T>, value: T) -> Result<(), &'static str> {
    match slot.replace(value) {
        Some(_) => Err("an extension header is repeated"),
        None => Ok(()),
    }
}

/// Ignores global records, as Docker does, unless other tools would read another archive.
fn check_global(body: &[u8]) -> Result<(), &'static str> {
    let changes = |key: &[u8]| matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.");
    match pax::parse(body)?.iter().any(|(key, _)| changes(key)) {
        true => Err("a global header sets names or sizes"),
        false => Ok(()),
    }
}

fn overrides(records: Vec<pax::Record>) -> Result<Overrides, &'static str> {
    let mut found = Overrides::default();
    let mut seen = [false; 3];
    for (key, value) in records {
        // Of two records some readers take the first; one without a value is zero to some, and none to others.
        if let Some(index) = [&b"path"[..], b"linkpath", b"size"].iter().position(|known| *known == key)
            && (std::mem::replace(&mut seen[index], true) || value.is_empty())
        {
            return Err("a PAX record of a name or size is repeated, or empty");
        }
        if let Some(name) = key.strip_prefix(XATTR) {
            found.xattrs.insert(name.to_vec(), value);
            continue;
        }
        // An empty value takes a record back.
        if value.is_empty() {
            continue;
        }
        match key.as_slice() {
            b"path" => found.path = Some(without_nul(value)?),
            b"linkpath" => found.link = Some(without_nul(value)?),
            b"size" => found.size = Some(pax::decimal(&value)?),
            b"uid" => found.uid = Some(pax::decimal(&value)?),
            b"gid" => found.gid = Some(pax::decimal(&value)?),
            b"mtime" => found.mtime = Some(pax::time(&value)?),
            _ => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    found.sparse.set(key, value)?;
                }
            }
        }
    }
    Ok(found)
}

fn without_nul(value: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    if value.contains(&0) { Err("a name contains a NUL") } else { Ok(value) }
}

fn entry(
    stream: &mut impl Blocks,
    block: &Block,
    format: Format,
    size: u64,
    extensions: Extensions,
    offset: u64,
) -> Result<Entry, Error> {
    let bad = |reason| Error::Header { offset, reason };
    let number = |field: std::ops::Range<usize>| header::number(&block[field]).map_err(bad);
    header::check_prefix(block, format).map_err(bad)?;
    let pax = overrides(extensions.pax.unwrap_or_default()).map_err(bad)?;
    if (pax.path.is_some() && extensions.long_name.is_some()) || (pax.link.is_some() && extensions.long_link.is_some())
    {
        return Err(bad("a name has both GNU and PAX extensions"));
    }
    let path = pax.path.or(extensions.long_name).unwrap_or_else(|| short_name(block, format));
    let link = pax.link.or(extensions.long_link).unwrap_or_else(|| header::text(&block[header::LINK]).to_vec());
    let id = |value: Option<u64>, field, reason| match value {
        Some(value) => u32::try_from(value).ok().filter(|id| *id != u32::MAX).ok_or(bad(reason)),
        None => number(field)?.try_into().ok().filter(|id| *id != u32::MAX).ok_or(bad(reason)),
    };
    let (kind, is_gnu_sparse) = kind(block[header::TYPE], &path, pax.size.unwrap_or(size)).map_err(bad)?;
    // Some readers find content behind such an entry, and others the next one.
    if kind != Type::Regular && pax.size.unwrap_or(size) != 0 {
        return Err(bad("an entry that has no content has a size"));
    }
    if matches!(kind, Type::Link | Type::Symlink) && link.is_empty() {
        return Err(bad("a link has no target"));
    }
    let mut entry = Entry {
        kind,
        link,
        mode: (number(header::MODE)? & 0o7777) as u32,
        uid: id(pax.uid, header::UID, "the user id is out of range")?,
        gid: id(pax.gid, header::GID, "the group id is out of range")?,
        mtime: match pax.mtime {
            Some(time) => time,
            None => Time { seconds: number(header::MTIME)?, nanoseconds: 0 },
        },
        device: match kind {
            _ if format == Format::V7 => (0, 0),
            Type::Char | Type::Block => {
                let part = |field| number(field)?.try_into().map_err(|_| bad("a device number is out of range"));
                (part(header::MAJOR)?, part(header::MINOR)?)
            }
            _ => (0, 0),
        },
        xattrs: pax.xattrs,
        size: if kind == Type::Regular { pax.size.unwrap_or(size) } else { 0 },
        sparse: None,
        path,
    };
    if is_gnu_sparse {
        entry.sparse = Some(gnu_sparse(stream, block, entry.size, offset)?);
    } else if pax.sparse.is_present {
        if kind != Type::Regular {
            return Err(bad("only files can be sparse"));
        }
        pax_sparse(stream, pax.sparse, &mut entry, offset)?;
    }
    Ok(entry)
}

fn short_name(block: &Block, format: Format) -> Vec<u8> {
    let name = header::text(&block[header::NAME]);
    let prefix = if format == Format::Ustar { header::text(&block[header::PREFIX]) } else { &[] };
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

fn kind(flag: u8, path: &[u8], size: u64) -> Result<(Type, bool), &'static str> {
    let kind = match flag {
        // Before POSIX, a directory was a file whose name ends in a slash.
        0 | b'0' | b'7' if path.ends_with(b"/") => match size {
            0 => Type::Directory,
            _ => return Err("a file's name ends in a slash"),
        },
        0 | b'0' | b'7' => Type::Regular,
        b'1' => Type::Link,
        b'2' => Type::Symlink,
        b'3' => Type::Char,
        b'4' => Type::Block,
        b'5' => Type::Directory,
        b'6' => Type::Fifo,
        b'S' => return Ok((Type::Regular, true)),
        b'M' => return Err("multi-volume archives are not supported"),
        b'D' => return Err("incremental GNU archives are not supported"),
        _ => return Err("the entry type is unknown"),
    };
    Ok((kind, false))
}

impl SparseRecords {
    fn set(&mut self, key: &[u8], value: Vec<u8>) -> Result<(), &'static str> {
        self.is_present = true;
        match key {
            b"major" => self.major = Some(pax::decimal(&value)?),
            b"minor" => self.minor = Some(pax::decimal(&value)?),
            b"size" | b"realsize" => self.size = Some(pax::decimal(&value)?),
            b"name" => self.name = Some(without_nul(value)?),
            b"offset" | b"numbytes" => self.numbers.push(pax::decimal(&value)?),
            b"map" => self.numbers = value.split(|byte| *byte == b',').map(pax::decimal).collect::<Result<_, _>>()?,
            b"numblocks" => {}
            _ => return Err("a sparse file has an unknown record"),
        }
        if self.numbers.len() > 2 * SPARSE_PIECES { Err("a sparse file has too many pieces") } else { Ok(()) }
    }
}

/// The old GNU form: four pieces in the header, more in blocks behind it.
fn gnu_sparse(stream: &mut impl Blocks, block: &Block, size: u64, offset: u64) -> Result<Sparse, Error> {
    let bad = |reason| Error::Header { offset, reason };
    let mut numbers = Vec::new();
    let mut add = |map: &[u8]| {
        for field in map.chunks_exact(12) {
            // Unused fields are NULs, and everything behind them is unused.
            if field[0] != 0 {
                numbers.push(u64::try_from(header::number(field)?).map_err(|_| "a sparse map is negative")?);
            }
        }
        if numbers.len() > 2 * SPARSE_PIECES { Err("a sparse file has too many pieces") } else { Ok(()) }
    };
    add(&block[386..482]).map_err(bad)?;
    let mut is_extended = block[482] != 0;
    while is_extended {
        let more = stream.block()?.ok_or(Error::Truncated { offset })?;
        add(&more[..504]).map_err(bad)?;
        is_extended = more[504] != 0;
    }
    let real =
        u64::try_from(header::number(&block[483..495]).map_err(bad)?).map_err(|_| bad("the size is negative"))?;
    sparse(&numbers, real, size).map_err(bad)
}

/// The PAX forms 0.0 and 0.1 (map in the records) and 1.0 (map in front of the content).
fn pax_sparse(stream: &mut impl Blocks, records: SparseRecords, entry: &mut Entry, offset: u64) -> Result<(), Error> {
    let bad = |reason| Error::Header { offset, reason };
    let mut numbers = records.numbers;
    match (records.major, records.minor) {
        (None | Some(0), _) => {}
        (Some(1), Some(0)) => {
            let (map, used) = sparse_map(stream, entry.size, offset)?;
            numbers = map;
            entry.size -= used;
        }
        _ => return Err(bad("the sparse format is unknown")),
    }
    if let Some(name) = records.name {
        entry.path = name;
    }
    let size = records.size.ok_or(bad("a sparse file has no size"))?;
    entry.sparse = Some(sparse(&numbers, size, entry.size).map_err(bad)?);
    Ok(())
}

/// Reads the decimal lines that stand in front of the content in format 1.0, in whole blocks.
fn sparse_map(stream: &mut impl Blocks, size: u64, offset: u64) -> Result<(Vec<u64>, u64), Error> {
    let bad = |reason| Error::Header { offset, reason };
    let (mut numbers, mut wanted, mut line, mut used) = (Vec::new(), None, Vec::new(), 0);
    loop {
        used += BLOCK as u64;
        if used > size {
            return Err(bad("a sparse map is longer than its file"));
        }
        for byte in stream.block()?.ok_or(Error::Truncated { offset })? {
            if wanted.is_some_and(|wanted| numbers.len() == wanted) {
                break;
            }
            if byte != b'\n' {
                line.push(byte);
                continue;
            }
            let number = pax::decimal(&line).map_err(bad)?;
            line.clear();
            match wanted {
                Some(_) => numbers.push(number),
                None if number > SPARSE_PIECES as u64 => return Err(bad("a sparse file has too many pieces")),
                None => wanted = Some(2 * number as usize),
            }
        }
        if wanted.is_some_and(|wanted| numbers.len() == wanted) {
            return Ok((numbers, used));
        }
    }
}

fn sparse(numbers: &[u64], size: u64, stored: u64) -> Result<Sparse, &'static str> {
    if !numbers.len().is_multiple_of(2) {
        return Err("a sparse map is odd");
    }
    let mut end = 0;
    let mut total = 0_u64;
    for piece in numbers.chunks_exact(2) {
        let next = piece[0].checked_add(piece[1]).ok_or("a sparse map is too large")?;
        if piece[0] < end || next > size {
            return Err("a sparse map is out of order or out of the file");
        }
        end = next;
        total += piece[1];
    }
    if total != stored || i64::try_from(size).is_err() {
        return Err("a sparse map does not match the stored size");
    }
    let pieces = numbers.chunks_exact(2).map(|piece| (piece[0], piece[1])).filter(|(_, length)| *length > 0);
    Ok(Sparse { pieces: pieces.collect(), size })
}
