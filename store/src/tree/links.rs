//! Files with several names in the tree that is written.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rustix::fs::AtFlags;
use std::os::fd::AsFd;

use super::resolve::{Canvas, Directory};
use super::{Error, Metadata, Result};

/// What tells one file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum FileId {
    /// The number that its entries have.
    Number(u64),
    /// An inode of a layer: of which tree, in which of its layers.
    Inode(usize, usize, u64),
}

/// Where the first names of files are.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Directory, name and inode.
    first: HashMap<FileId, (PathBuf, OsString, u64)>,
}

impl Links {
    /// Makes `name` another name of the file, if that was placed and is still there.
    pub fn take(&self, canvas: &mut Canvas, file: FileId, parent: &Directory, name: &OsStr) -> Result<bool> {
        let Some((directory, first, inode)) = self.first.get(&file) else { return Ok(false) };
        let from = canvas.directory(&Path::new("/").join(directory))?;
        let is_there = Metadata::at(from.upper.as_fd(), Path::new(first)).is_ok_and(|found| found.inode == *inode);
        let is_itself = directory == &parent.path && first == name;
        if !is_there || is_itself {
            return Ok(false);
        }
        canvas.clear(parent, name)?;
        rustix::fs::linkat(&from.upper, first, &parent.upper, name, AtFlags::empty())
            .map_err(|source| Error::io("link", Path::new("/").join(&parent.path).join(name), source))?;
        Ok(true)
    }

    /// Notes where the file is now.
    pub fn remember(&mut self, file: FileId, parent: &Directory, name: &OsStr) {
        // Without it the next name is a file of its own.
        if let Ok(found) = Metadata::at(parent.upper.as_fd(), Path::new(name)) {
            self.first.insert(file, (parent.path.clone(), name.to_owned(), found.inode));
        }
    }
}
