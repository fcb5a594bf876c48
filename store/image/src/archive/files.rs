//! The files of an archive by name. Names are looked up, never created; a link that leads out of the archive leads
//! nowhere.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use strata_archive::{Compression, MemberKind, members};

use crate::{Error, Limits, Result};

/// Docker's own links are one step long.
const MAX_LINKS: usize = 8;

/// All files of an archive: members of a tar by normalised name.
#[derive(Debug)]
pub(crate) struct Files {
    file: Arc<File>,
    members: BTreeMap<Vec<u8>, Member>,
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

/// One file: a range of an open file.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    file: Arc<File>,
    offset: u64,
    size: u64,
}

/// Reads a part without moving the offset of the file, so that several can be read at once.
#[derive(Debug)]
pub(crate) struct PartReader {
    part: Part,
    done: u64,
}

impl Files {
    /// Lists an uncompressed tar. Two members of one name are refused, as readers differ about which one counts, and
    /// so are names that lead out.
    pub(crate) fn tar(file: File, limits: &Limits) -> Result<Self> {
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
        Ok(Self { file: Arc::new(file), members: found })
    }

    /// Says whether there is a file of this name.
    pub(crate) fn has(&self, path: &str) -> Result<bool> {
        self.part(path).map(|part| part.is_some())
    }

    /// Finds a file; none if there is none of this name.
    pub(crate) fn part(&self, path: &str) -> Result<Option<Part>> {
        let path = normalise(path.as_bytes()).map_err(|reason| Error::member(path.as_bytes(), reason))?;
        find(&self.file, &self.members, path)
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
}

fn find(file: &Arc<File>, members: &BTreeMap<Vec<u8>, Member>, mut path: Vec<u8>) -> Result<Option<Part>> {
    for _ in 0..=MAX_LINKS {
        path = match members.get(&path) {
            None | Some(Member::Directory) => return Ok(None),
            Some(Member::File { offset, size }) => {
                return Ok(Some(Part { file: Arc::clone(file), offset: *offset, size: *size }));
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
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Reads it from its start.
    pub(crate) fn reader(&self) -> PartReader {
        PartReader { part: self.clone(), done: 0 }
    }

    /// How its bytes are compressed.
    pub(crate) fn compression(&self) -> io::Result<Compression> {
        let mut start = Vec::new();
        self.reader().take(6).read_to_end(&mut start)?;
        Ok(Compression::detect(&start))
    }
}

impl Read for PartReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
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
