//! The files of an archive by name. Names are looked up, never created; a link that leads out of the archive leads
//! nowhere.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use strata_archive::{Compression, MemberKind, members};

use super::stream::Taken;
use crate::{Error, Limits, Result};

/// Docker's own links are one step long.
const MAX_LINKS: usize = 8;

/// All files of an archive: members of a tar by normalised name.
#[derive(Debug)]
pub(crate) struct Files {
    file: Arc<File>,
    members: BTreeMap<Vec<u8>, Member>,
    /// Contents that are not in the file, by their place in it.
    taken: BTreeMap<u64, Taken>,
}

#[derive(Debug)]
pub(crate) enum Member {
    File {
        offset: u64,
        size: u64,
    },
    Directory,
    /// As the archive has it, relative to the directory of the link.
    Symlink(Vec<u8>),
    /// As the archive has it, relative to the root.
    Link(Vec<u8>),
    Special,
}

/// One file of an archive: a range of an open file.
#[derive(Clone, Debug)]
pub struct Part {
    file: Arc<File>,
    offset: u64,
    size: u64,
    taken: Option<Taken>,
}

/// Reads a part without moving the offset of the file, so that several can be read at once.
#[derive(Debug)]
pub struct PartReader {
    part: Part,
    done: u64,
}

impl Files {
    /// Lists an uncompressed tar. Two members of one name are refused, as readers differ about which one counts, and
    /// so are names that lead out. `taken` says which contents are not in the file.
    pub(crate) fn tar(file: File, taken: BTreeMap<u64, Taken>, limits: &Limits) -> Result<Self> {
        let mut found = BTreeMap::new();
        for member in members(&file, limits.max_members)? {
            let path = normalise(&member.path).map_err(|reason| Error::member(&member.path, reason))?;
            let kind = match member.kind {
                MemberKind::File => Member::File { offset: member.offset, size: member.size },
                MemberKind::Directory => Member::Directory,
                MemberKind::Symlink(target) => Member::Symlink(target),
                MemberKind::Link(target) => Member::Link(target),
                MemberKind::Special => Member::Special,
            };
            let is_directory = matches!(kind, Member::Directory);
            match found.insert(path, kind) {
                Some(Member::Directory) if is_directory => {}
                Some(_) => return Err(Error::member(&member.path, "the archive has its name twice")),
                None => {}
            }
        }
        Ok(Self { file: Arc::new(file), members: found, taken })
    }

    /// Says whether there is a file of this name.
    pub(crate) fn has(&self, path: &str) -> Result<bool> {
        self.part(path).map(|part| part.is_some())
    }

    /// Finds a file; none if there is none of this name.
    pub(crate) fn part(&self, path: &str) -> Result<Option<Part>> {
        let path = normalise(path.as_bytes()).map_err(|reason| Error::member(path.as_bytes(), reason))?;
        self.find(path)
    }

    /// Reads a small file; none if there is none of this name.
    pub(crate) fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(part) = self.part(path)? else { return Ok(None) };
        if part.size > limit {
            return Err(Error::limit(format!("archive member {path:?}"), "bytes", limit));
        }
        let mut bytes = Vec::new();
        part.reader().read_to_end(&mut bytes).map_err(|source| Error::io("read", path, source))?;
        Ok(Some(bytes))
    }

    fn find(&self, mut path: Vec<u8>) -> Result<Option<Part>> {
        for _ in 0..=MAX_LINKS {
            path = match self.members.get(&path) {
                None | Some(Member::Directory) => return Ok(None),
                Some(&Member::File { offset, size }) => {
                    let taken = self.taken.get(&offset).copied();
                    return Ok(Some(Part { file: Arc::clone(&self.file), offset, size, taken }));
                }
                Some(Member::Special) => return Err(Error::member(&path, "it is a device or a pipe")),
                Some(Member::Link(target)) => normalise(target).map_err(|reason| Error::member(&path, reason))?,
                Some(Member::Symlink(target)) => {
                    follow(&path, target).ok_or_else(|| Error::member(&path, "its link leads out of the archive"))?
                }
            };
        }
        Err(Error::member(&path, "its link leads to a link, and so on"))
    }
}

/// A name without ".", doubled and final slashes; absolute ones and ".." are refused.
fn normalise(path: &[u8]) -> Result<Vec<u8>, &'static str> {
    if path.starts_with(b"/") {
        return Err("its name is absolute");
    }
    let mut parts = vec![];
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err("its name leads out of the archive"),
            part => parts.push(part),
        }
    }
    Ok(parts.join(&b'/'))
}

/// The name that a symbolic link leads to; none if that is outside.
fn follow(link: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    if target.starts_with(b"/") {
        return None;
    }
    let mut parts: Vec<&[u8]> = link.split(|byte| *byte == b'/').collect();
    parts.pop();
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

impl Part {
    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads it from its start.
    pub(crate) fn reader(&self) -> PartReader {
        self.reader_at(0)
    }

    /// Reads it from this offset, or finds its end there.
    pub fn reader_at(&self, offset: u64) -> PartReader {
        PartReader { part: self.clone(), done: offset.min(self.size) }
    }

    /// What became of it, if it was taken while the archive streamed by: it cannot be read any more.
    pub fn taken(&self) -> Option<Taken> {
        self.taken
    }

    /// How its bytes are compressed.
    pub(crate) fn compression(&self) -> io::Result<Compression> {
        let mut start = Vec::new();
        // The start is there of what was taken, too.
        let start_alone = Self { taken: None, size: self.size.min(6), ..self.clone() };
        start_alone.reader().read_to_end(&mut start)?;
        Ok(Compression::detect(&start))
    }
}

impl Read for PartReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.part.taken.is_some() {
            return Err(io::Error::other("it was taken for a layer while the archive streamed by"));
        }
        let left = self.part.size - self.done;
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = self.part.file.read_at(&mut buffer[..wanted], self.part.offset + self.done)?;
        self.done += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_or_refused() {
        for (name, wanted) in [
            ("a/b", Some("a/b")),
            ("./a//b/./", Some("a/b")),
            (".", Some("")),
            ("..a/b..", Some("..a/b..")),
            ("/a", None),
            ("../a", None),
            ("a/../b", None),
            ("a/..", None),
        ] {
            let found = normalise(name.as_bytes()).ok().map(|name| String::from_utf8(name).unwrap());
            assert_eq!(found.as_deref(), wanted, "{name}");
        }
    }

    #[test]
    fn links_stay_inside() {
        for (link, target, wanted) in [
            ("a/layer.tar", "../b/layer.tar", Some("b/layer.tar")),
            ("a/b/c", "./d", Some("a/b/d")),
            ("a", "b", Some("b")),
            ("a/b", "../../etc/passwd", None),
            ("a", "../a", None),
            ("a/b", "/etc/passwd", None),
            ("a/b", "../../a/b", None),
        ] {
            let found = follow(link.as_bytes(), target.as_bytes()).map(|name| String::from_utf8(name).unwrap());
            assert_eq!(found.as_deref(), wanted, "{link} -> {target}");
        }
    }
}
