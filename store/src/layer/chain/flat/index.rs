//! Images merged to an index of them: an image of names and attributes, whose contents stay where they are, so that it
//! costs no contents either. Its inodes have numbers of their own, and pages in memory that only those share who stand on
//! the same index: a single image is therefore left alone.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use strata_erofs::{Attributes, Directory, Index, Seen};

use super::super::{Error, Images, Result};
use super::{Hides, Layer, Merged};
use crate::tree::{self, Metadata};

/// An index in the making.
pub(super) struct Indexed {
    index: Index,
    /// What each lower is: an image with its number in the index, or a directory of attributes.
    lowers: Vec<Option<(PathBuf, usize)>>,
}

impl Indexed {
    /// Opens the images among `lowers`.
    pub(super) fn open(lowers: &[PathBuf], images: &Images) -> Result<Self> {
        let mut this = Self { index: Index::default(), lowers: Vec::with_capacity(lowers.len()) };
        for lower in lowers {
            let added = images.image_at(lower).map(|path| this.add(path)).transpose()?;
            this.lowers.push(added);
        }
        Ok(this)
    }

    fn add(&mut self, path: PathBuf) -> Result<(PathBuf, usize)> {
        let image = File::open(&path).map_err(|source| tree::Error::io("open", &path, source))?;
        // A layer's image is named after it.
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let number = self.index.image(name, image).map_err(|source| failed(&path, source))?;
        Ok((path, number))
    }

    /// Returns the root.
    pub(super) fn root(&self) -> Directory {
        self.index.root()
    }

    /// Writes the image.
    pub(super) fn write(self, target: &Path, uuid: [u8; 16]) -> Result<()> {
        let image = File::options().read(true).write(true).create_new(true).open(target);
        let image = image.map_err(|source| tree::Error::io("make", target, source))?;
        self.index.write(&image, uuid).map_err(|source| failed(target, source))
    }
}

impl Merged for Indexed {
    type Directory = Directory;

    fn directory(&mut self, parent: &Directory, name: &CStr, _: &Path) -> Result<Directory> {
        Ok(self.index.directory(*parent, name.to_bytes()))
    }

    fn take(&mut self, from: &Layer, name: &CStr, found: &Metadata, to: &Directory, shown: &Path) -> Result<()> {
        let Some((path, number)) = &self.lowers[from.lower] else {
            let path = shown.join(OsStr::from_bytes(name.to_bytes()));
            return Err(tree::Error::io("find the image of", path, Errno::NXIO).into());
        };
        let seen = Seen { inode: found.inode, mode: found.mode, size: found.size };
        self.index.take(*to, name.to_bytes(), *number, seen).map_err(|source| failed(path, source))
    }

    fn mark(&mut self, name: &CStr, to: &Directory, _: &Path) -> Result<()> {
        self.index.mark(*to, name.to_bytes());
        Ok(())
    }

    fn finish(&mut self, from: &OwnedFd, hides: Hides, to: &Directory, shown: &Path) -> Result<()> {
        let metadata = Metadata::of(from).map_err(|source| tree::Error::io("look at", shown, source))?;
        let xattrs = tree::xattrs(from.as_fd()).map_err(|source| tree::Error::io("look at", shown, source))?;
        let attributes = Attributes {
            mode: metadata.permissions(),
            owner: (metadata.uid, metadata.gid),
            modified: metadata.modified,
            xattrs: xattrs.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect(),
            is_opaque: hides == Hides::Below,
        };
        self.index.describe(*to, &attributes).map_err(|source| failed(shown, source))
    }
}

fn failed(path: &Path, source: strata_erofs::Error) -> Error {
    Box::new(crate::Error::LayerImage { path: path.to_path_buf(), source }).into()
}
