//! Directories merged to one directory: each directory is made anew, everything else is a further hard link of what is
//! in the layers, which nobody changes. So it costs names and no contents, and owners, times, attributes and inode
//! numbers are those of the layers.

use std::ffi::{CStr, OsStr};
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use strata_archive::OverlayXattrs;

use super::super::{Error, Result, open};
use super::{Hides, Layer, Merged, open_directory};
use crate::tree::{self, Metadata};

/// A directory of links in the making.
pub(super) struct Linked;

impl Linked {
    /// Makes the empty directory.
    pub(super) fn make(target: &Path) -> Result<(Self, OwnedFd)> {
        fs::create_dir(target).map_err(|source| tree::Error::io("make directory", target, source))?;
        Ok((Self, open(target)?))
    }
}

impl Merged for Linked {
    type Directory = OwnedFd;

    fn directory(&mut self, parent: &OwnedFd, name: &CStr, shown: &Path) -> Result<OwnedFd> {
        let made = rustix::fs::mkdirat(parent, name, Mode::RWXU).and_then(|()| open_directory(parent.as_fd(), name));
        made.map_err(|source| tree::Error::io("merge layers in", shown, source).into())
    }

    /// Gives what a layer has a further name. Where the file system does not, a file is copied.
    fn take(&mut self, from: &Layer, name: &CStr, found: &Metadata, to: &OwnedFd, shown: &Path) -> Result<()> {
        let path = shown.join(OsStr::from_bytes(name.to_bytes()));
        match rustix::fs::linkat(&from.directory, name, to, name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            // Too many links, another mount, or a mark that forbids it.
            Err(Errno::MLINK | Errno::XDEV | Errno::PERM) if found.kind() == FileType::RegularFile => {
                copy(from.directory.as_fd(), name, found, to.as_fd(), &path)
            }
            Err(source) => Err(tree::Error::io("link", &path, source).into()),
        }
    }

    fn mark(&mut self, name: &CStr, to: &OwnedFd, shown: &Path) -> Result<()> {
        // Not a link: overlay gives all its marks one inode, which may have as many names as it can.
        let made = rustix::fs::mknodat(to, name, FileType::CharacterDevice, Mode::empty(), 0);
        made.map_err(|source| tree::Error::io("mark a name in", shown, source).into())
    }

    fn finish(&mut self, from: &OwnedFd, hides: Hides, to: &OwnedFd, shown: &Path) -> Result<()> {
        let failed = |source: Errno| Error::from(tree::Error::io("set the attributes of", shown, source));
        let metadata = Metadata::of(from).map_err(failed)?;
        tree::copy_attributes(from.as_fd(), to.as_fd(), &metadata, shown)?;
        if hides == Hides::Below {
            rustix::fs::fsetxattr(to, OverlayXattrs::default().opaque(), b"y", XattrFlags::empty()).map_err(failed)?;
        }
        rustix::fs::futimens(to, &tree::timestamps(metadata.modified.into())).map_err(failed)
    }
}

fn copy(from: BorrowedFd<'_>, name: &CStr, metadata: &Metadata, to: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let failed = |source: Errno| Error::from(tree::Error::io("copy", path, source));
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from, name, flags, Mode::empty()).map_err(failed)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let target = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
    let (mut reader, mut writer) = (File::from(source), File::from(target));
    std::io::copy(&mut reader, &mut writer).map_err(|source| tree::Error::io("copy", path, source))?;
    tree::copy_attributes(reader.as_fd(), writer.as_fd(), metadata, path)?;
    rustix::fs::futimens(&writer, &tree::timestamps(metadata.modified.into())).map_err(failed)
}
