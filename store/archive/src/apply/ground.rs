//! What an applier stands on: a directory of a disk, or nothing but the list of what would be there. What an archive
//! means is decided above this, once for both.

use crate::error::Error;
use crate::toc::Content;
use crate::tree::{Inode, Kind, Tree};
use rustix::io::Errno;
use std::rc::Rc;

/// A name in a directory below the root.
pub(crate) struct Place<D> {
    pub(super) directory: Rc<D>,
    pub(super) name: Vec<u8>,
    /// The full real path.
    pub(super) path: Vec<u8>,
}

/// Where nodes are made and looked up. Paths are real ones, without a symlink in them, and agree with directory and
/// name where those are given too; `tree` is what was made so far. Errors are those of the system calls.
pub(crate) trait Ground {
    /// A directory that was found.
    type Directory;
    /// A regular file that is being written.
    type File;

    /// Finds a directory for looking things up in it.
    fn open(&self, tree: &Tree, path: &[u8]) -> Result<Self::Directory, Errno>;

    /// Finds a directory in another one. `NOTDIR` or `LOOP`: something else is there.
    fn enter(
        &self,
        tree: &Tree,
        directory: &Self::Directory,
        name: &[u8],
        path: &[u8],
    ) -> Result<Self::Directory, Errno>;

    /// Reads a symlink. `INVAL`: something else is there.
    fn read_link(&self, tree: &Tree, place: (&Self::Directory, &[u8]), path: &[u8]) -> Result<Vec<u8>, Errno>;

    /// Opens a directory to change it.
    fn open_to_change(&self, directory: &Self::Directory, name: &[u8], path: &[u8]) -> Result<Self::Directory, Error>;

    /// Lists the names in a directory that was opened to change it, sorted.
    fn names(&self, tree: &Tree, directory: &Self::Directory, path: &[u8]) -> Result<Vec<Vec<u8>>, Errno>;

    /// Says what is there.
    fn kind(&self, tree: &Tree, place: &Place<Self::Directory>) -> Result<Kind, Errno>;

    /// Makes an empty file under a free name.
    fn make_file(&self, tree: &Tree, place: &Place<Self::Directory>, mode: u32) -> Result<Self::File, Errno>;

    /// Writes at an offset that is never behind what was written.
    fn write(&self, file: &mut Self::File, offset: u64, bytes: &[u8]) -> std::io::Result<()>;

    /// Gives a file its length, with holes where nothing was written.
    fn set_length(&self, file: &mut Self::File, length: u64) -> std::io::Result<()>;

    /// Sets all metadata of a file that is written; leaves in `inode` the attributes that could be kept.
    fn finish_file(&self, file: &Self::File, path: &[u8], inode: &mut Inode) -> Result<(), Error>;

    /// Makes a directory under a free name.
    fn make_directory(&self, tree: &Tree, place: &Place<Self::Directory>) -> Result<(), Errno>;

    /// Makes a directory in place of nothing, or of a whiteout, and opens it to change it.
    fn make_implied(
        &self,
        parent: &Self::Directory,
        name: &[u8],
        path: &[u8],
        whiteout: bool,
        inode: &Inode,
    ) -> Result<Self::Directory, Error>;

    /// Gives a directory new metadata, but for its time and what is inherited. `dropped`: attributes that it no longer
    /// has.
    fn update_directory(
        &self,
        directory: &Self::Directory,
        path: &[u8],
        inode: &mut Inode,
        dropped: &[&[u8]],
    ) -> Result<(), Error>;

    /// Makes a directory hide what is below it.
    fn mark_opaque(&self, path: &[u8]) -> Result<(), Error>;

    /// Sets the time of a directory, and the attributes that would have been inherited.
    fn finish_directory(&self, path: &[u8], inode: &mut Inode) -> Result<(), Error>;

    /// Gives what is at `target` a second name.
    fn link(&self, tree: &Tree, target: &Place<Self::Directory>, place: &Place<Self::Directory>) -> Result<(), Errno>;

    /// Makes a symlink under a free name.
    fn make_symlink(&self, tree: &Tree, place: &Place<Self::Directory>, target: &[u8]) -> Result<(), Errno>;

    /// Makes a device, FIFO or whiteout under a free name; false: this process may not, and it is left out.
    fn make_special(&self, tree: &Tree, place: &Place<Self::Directory>, inode: &Inode) -> Result<bool, Errno>;

    /// Sets all metadata of what must not be opened.
    fn finish_unopenable(&self, place: &Place<Self::Directory>, inode: &mut Inode) -> Result<(), Error>;

    /// Removes a name. `ISDIR`: it is a directory with something in it, or of any kind.
    fn unlink(&self, tree: &Tree, directory: &Self::Directory, name: &[u8], path: &[u8]) -> Result<(), Errno>;

    /// Removes an empty directory.
    fn remove_directory(&self, directory: &Self::Directory, name: &[u8]) -> Result<(), Errno>;

    /// Reads a content again.
    fn read(&self, content: &Content, sink: &mut dyn FnMut(&[u8])) -> Result<(), Error>;
}
