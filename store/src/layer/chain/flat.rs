//! A long chain as one directory: each name is looked for in one place instead of one for each layer.
//!
//! Directories are made anew, everything else is a further hard link of what is in the layers, which nobody changes. So
//! a flat chain costs names and no contents, and owners, times, attributes and inode numbers are those of the layers.
//! The trees are merged and not their tables of contents: a built layer has none yet, and what a chain repaired is in
//! no table at all.

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Result;
use crate::tree::{self, Metadata};

/// Names that are merged between two looks at whether to go on.
const BATCH: usize = 256;

/// A merge that may be given up.
pub(super) struct Merge<'a> {
    /// Says whether to go on.
    pub(super) goes_on: &'a dyn Fn() -> bool,
    names: usize,
}

/// Why a merge did not come to its end.
pub(super) enum End {
    /// It is whole.
    Whole,
    /// It was given up.
    GivenUp,
}

/// A directory of several layers, topmost first. What is opaque is the last.
struct Stack(Vec<OwnedFd>);

impl<'a> Merge<'a> {
    pub(super) fn new(goes_on: &'a dyn Fn() -> bool) -> Self {
        Self { goes_on, names: 0 }
    }

    /// Merges directories, topmost first, into the empty directory `target`. The root has the attributes of `root`.
    pub(super) fn run(mut self, lowers: &[PathBuf], root: &Path, target: &Path) -> Result<End> {
        let opened = lowers.iter().map(|lower| super::open(lower)).collect::<Result<Vec<_>>>()?;
        let made = super::open(target)?;
        // Overlay does not look at the mark of a root: what it hides is not in the chain.
        if !self.directory(&Stack(opened), &made, target)? {
            return Ok(End::GivenUp);
        }
        finish(&super::open(root)?, &made, target)?;
        Ok(End::Whole)
    }

    /// Merges what is in a directory; says whether to go on.
    fn directory(&mut self, stack: &Stack, to: &OwnedFd, shown: &Path) -> Result<bool> {
        let failed = |source: Errno| super::Error::from(tree::Error::io("merge layers in", shown, source));
        let mut seen: HashSet<CString> = HashSet::new();
        for (depth, from) in stack.0.iter().enumerate() {
            for entry in Dir::read_from(from).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") || seen.contains(name) {
                    continue;
                }
                self.names += 1;
                if self.names.is_multiple_of(BATCH) && !(self.goes_on)() {
                    return Ok(false);
                }
                let found =
                    Metadata::at(from.as_fd(), Path::new(OsStr::from_bytes(name.to_bytes()))).map_err(failed)?;
                let goes_on = match found.kind() {
                    _ if found.is_whiteout() => true,
                    FileType::Directory => self.below(&stack.0[depth..], name, to, shown)?,
                    _ => {
                        link(from.as_fd(), name, &found, to.as_fd(), shown)?;
                        true
                    }
                };
                if !goes_on {
                    return Ok(false);
                }
                // The last layer hides nothing.
                if depth + 1 < stack.0.len() {
                    seen.insert(name.to_owned());
                }
            }
        }
        Ok(true)
    }

    /// Merges a directory of these layers, which the first of them has.
    fn below(&mut self, layers: &[OwnedFd], name: &CStr, to: &OwnedFd, shown: &Path) -> Result<bool> {
        let path = shown.join(OsStr::from_bytes(name.to_bytes()));
        let failed = |source: Errno| super::Error::from(tree::Error::io("merge layers in", &path, source));
        let mut stack = Stack(Vec::new());
        for layer in layers {
            match open_directory(layer.as_fd(), name) {
                Ok(directory) => {
                    let is_last = tree::is_opaque(directory.as_fd());
                    stack.0.push(directory);
                    if is_last {
                        break;
                    }
                }
                Err(Errno::NOENT) => {}
                // Something else of that name hides what is below it.
                Err(Errno::NOTDIR | Errno::LOOP) => break,
                Err(source) => return Err(failed(source)),
            }
        }
        rustix::fs::mkdirat(to, name, Mode::RWXU).map_err(failed)?;
        let made = open_directory(to.as_fd(), name).map_err(failed)?;
        let goes_on = self.directory(&stack, &made, &path)?;
        if goes_on {
            finish(&stack.0[0], &made, &path)?;
        }
        Ok(goes_on)
    }
}

fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Gives a directory the attributes of the topmost one, when all is in it.
fn finish(from: &OwnedFd, to: &OwnedFd, shown: &Path) -> Result<()> {
    let failed = |source: Errno| super::Error::from(tree::Error::io("set the attributes of", shown, source));
    let metadata = Metadata::of(from).map_err(failed)?;
    tree::copy_attributes(from.as_fd(), to.as_fd(), &metadata, shown)?;
    rustix::fs::futimens(to, &tree::timestamps(metadata.modified.into())).map_err(failed)
}

/// Gives what a layer has a further name. Where the file system does not, a file is copied.
fn link(from: BorrowedFd<'_>, name: &CStr, metadata: &Metadata, to: BorrowedFd<'_>, shown: &Path) -> Result<()> {
    let path = shown.join(OsStr::from_bytes(name.to_bytes()));
    let failed = |source: Errno| super::Error::from(tree::Error::io("link", &path, source));
    match rustix::fs::linkat(from, name, to, name, AtFlags::empty()) {
        Ok(()) => Ok(()),
        // Too many links, another mount, or a mark that forbids it.
        Err(Errno::MLINK | Errno::XDEV | Errno::PERM) if metadata.kind() == FileType::RegularFile => {
            copy(from, name, metadata, to, &path)
        }
        Err(source) => Err(failed(source)),
    }
}

fn copy(from: BorrowedFd<'_>, name: &CStr, metadata: &Metadata, to: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let failed = |source: Errno| super::Error::from(tree::Error::io("copy", path, source));
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from, name, flags, Mode::empty()).map_err(failed)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let target = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
    let (mut reader, mut writer) = (File::from(source), File::from(target));
    std::io::copy(&mut reader, &mut writer).map_err(|source| tree::Error::io("copy", path, source))?;
    tree::copy_attributes(reader.as_fd(), writer.as_fd(), metadata, path)?;
    rustix::fs::futimens(&writer, &tree::timestamps(metadata.modified.into())).map_err(failed)
}
