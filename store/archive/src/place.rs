//! Finding places below a root: a directory descriptor and one name, never a path string of somebody else's making.
//! Symlinked parents resolve inside the root, as after chroot(2); the last name is never followed.

use crate::error::Error;
use crate::tree::join;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;

/// The kernel takes no path of this many bytes.
pub(crate) const PATH_MAX: usize = 4096;
/// As many as the kernel follows in one path.
const MAX_LINKS: usize = 40;

/// Opens what is at a path that contains no symlink.
pub(crate) fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(root, path, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Opens a regular file for reading.
pub(crate) fn open_file(root: BorrowedFd<'_>, path: &[u8]) -> Result<File, Error> {
    // A FIFO in its place must not block.
    let file = open(root, path, OFlags::RDONLY | OFlags::NONBLOCK).map_err(|error| Error::disk("open", path, error))?;
    let stat = rustix::fs::fstat(&file).map_err(|error| Error::disk("read", path, error))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(File::from(file)),
        _ => Err(Error::Damaged { path: crate::Name(path.to_vec()), reason: "it is not a regular file" }),
    }
}

/// Splits an archive's path into names; `..` stops at the root, as Docker has it.
pub(crate) fn components(path: &[u8]) -> Result<Vec<&[u8]>, Error> {
    if path.len() >= PATH_MAX {
        return Err(Error::entry(path, "the path is too long"));
    }
    let mut names = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop();
            }
            _ if name.contains(&0) => return Err(Error::entry(path, "the path contains a NUL")),
            _ => names.push(name),
        }
    }
    Ok(names)
}

/// Where a walk goes, and what it does where there is no directory yet. Paths are real ones below the root.
pub(crate) trait Walk {
    /// A directory that was found.
    type Directory;
    /// Finds a directory by its path.
    fn open(&self, path: &[u8]) -> Result<Self::Directory, Errno>;
    /// Finds a directory in another one; `NOTDIR` or `LOOP` where something else is.
    fn enter(&self, directory: &Self::Directory, name: &[u8], path: &[u8]) -> Result<Self::Directory, Errno>;
    /// Reads a symlink; `INVAL` where something else is.
    fn read_link(&self, directory: &Self::Directory, name: &[u8], path: &[u8]) -> Result<Vec<u8>, Errno>;
    /// Where the symlinks of lower layers lead, if there is one at `path`.
    fn link_below(&self, path: &[u8]) -> Option<&[u8]>;
    /// Makes the directory; false ends the walk without a result.
    fn make(&mut self, parent: &Self::Directory, name: &[u8], path: &[u8]) -> Result<bool, Error>;
    /// Says whether what is there instead of a directory may be replaced by one.
    fn is_replaceable(&self, path: &[u8]) -> bool;
}

/// A directory and its real path.
pub(crate) type Found<D> = (D, Vec<u8>);

/// Walks to a directory inside the root, following symlinks; returns it and its real path.
pub(crate) fn walk<W: Walk>(names: &[&[u8]], ground: &mut W) -> Result<Option<Found<W::Directory>>, Error> {
    fn at<W: Walk>(ground: &W, path: &[u8]) -> Result<W::Directory, Error> {
        ground.open(path).map_err(|error| Error::disk("open", path, error))
    }
    let mut rest: VecDeque<Vec<u8>> = names.iter().map(|name| name.to_vec()).collect();
    let (mut here, mut directory, mut links) = (Vec::new(), at(ground, b"")?, 0);
    while let Some(name) = rest.pop_front() {
        if name.is_empty() || name == b"." {
            continue;
        }
        if name == b".." {
            here.truncate(here.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
            directory = at(ground, &here)?;
            continue;
        }
        let path = join(&here, &name);
        if path.len() >= PATH_MAX {
            return Err(Error::entry(&path, "the path is too long"));
        }
        let target = match ground.enter(&directory, &name, &path) {
            Ok(next) => {
                (directory, here) = (next, path);
                continue;
            }
            Err(Errno::NOENT) => ground.link_below(&path).map(<[u8]>::to_vec),
            Err(Errno::NOTDIR | Errno::LOOP) => match ground.read_link(&directory, &name, &path) {
                Ok(target) => Some(target),
                Err(Errno::INVAL) if ground.is_replaceable(&path) => None,
                Err(Errno::INVAL) => return Err(Error::disk("enter", &path, Errno::NOTDIR)),
                Err(error) => return Err(Error::disk("read", &path, error)),
            },
            Err(error) => return Err(Error::disk("open", &path, error)),
        };
        let Some(target) = target else {
            if leave(&mut rest) {
                continue;
            }
            if !ground.make(&directory, &name, &path)? {
                return Ok(None);
            }
            directory = ground.enter(&directory, &name, &path).map_err(|error| Error::disk("open", &path, error))?;
            here = path;
            continue;
        };
        links += 1;
        if links > MAX_LINKS {
            return Err(Error::disk("follow", &path, Errno::LOOP));
        }
        if target.starts_with(b"/") {
            here.clear();
            directory = at(ground, b"")?;
        }
        for name in target.split(|byte| *byte == b'/').rev() {
            rest.push_front(name.to_vec());
        }
    }
    Ok(Some((directory, here)))
}

/// Drops a missing name together with the `..` that leaves it again, if there is one: it is never entered.
fn leave(rest: &mut VecDeque<Vec<u8>>) -> bool {
    let mut depth = 1;
    for (index, name) in rest.iter().enumerate() {
        match name.as_slice() {
            b"" | b"." => {}
            b".." => depth -= 1,
            _ => depth += 1,
        }
        if depth == 0 {
            rest.drain(..=index);
            return true;
        }
    }
    false
}

/// Reads a symlink.
pub(crate) fn read_link(directory: impl AsFd, name: &[u8]) -> Result<Vec<u8>, Errno> {
    rustix::fs::readlinkat(directory, name, Vec::new()).map(std::ffi::CString::into_bytes)
}

/// Lists the names in a directory, sorted.
pub(crate) fn list(directory: impl AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_resolved_and_stop_at_the_root() {
        let cases: [(&[u8], &[u8]); 8] = [
            (b"a/b", b"a/b"),
            (b"/a//b/", b"a/b"),
            (b"./a/./b", b"a/b"),
            (b"a/../../b", b"b"),
            (b"../../..", b""),
            (b"", b""),
            (b"/", b""),
            (b"...", b"..."),
        ];
        for (path, wanted) in cases {
            let names = components(path).expect("the case is valid");
            assert_eq!(names.join(&b'/'), wanted, "{}", path.escape_ascii());
        }
    }
}
