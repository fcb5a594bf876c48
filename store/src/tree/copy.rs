//! Copying from another tree: COPY --from.
//!
//! The source is walked in its merged view, so that what its layers hide stays hidden; the bytes come from the layer
//! that holds them, by a hard link where nothing about the file changes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::links::FileId;
use super::resolve::{self, Directory};
use super::write::{Entry, Owner, Time, TreeCopy, Writer};
use super::{Error, Metadata, Result, View, entry as attributes, list, place};

/// Directories of a source that are kept open, at most: entries of one directory come one after the other.
const KEPT_OPEN: usize = 64;

/// The tree copied from.
pub(super) struct Origin {
    /// Its place among the origins of the writer.
    number: usize,
    lowers: Vec<PathBuf>,
    view: View,
    /// Layer directories, topmost first.
    layers: Vec<OwnedFd>,
    /// Directories by the path that was asked for.
    open: RefCell<HashMap<PathBuf, Rc<SourceDirectory>>>,
}

/// A directory of the source: merged, and in each layer that adds to it, topmost first.
struct SourceDirectory {
    merged: OwnedFd,
    layers: Vec<(usize, OwnedFd)>,
}

/// One copy under way.
struct Copy<'w, 'a, 'e> {
    writer: &'w mut Writer<'a>,
    origin: usize,
    entry: &'e Entry,
}

/// Copies something of another tree.
pub(super) fn copy(writer: &mut Writer<'_>, what: &TreeCopy, entry: &Entry) -> Result<()> {
    let origin = writer.origin(&what.lowers)?;
    let path = Path::new("/").join(&what.path);
    let copy = Copy { writer, origin: origin.number, entry };
    if what.alone { copy.alone(&origin, &path, what.implied) } else { copy.tree(&origin, &path, what.contents_only) }
}

/// Returns where an open file is in its view, links resolved.
fn canonical(file: &OwnedFd, path: &Path) -> Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
    let target = rustix::fs::readlink(link, Vec::new()).map_err(|source| Error::io("resolve", path, source))?;
    Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
}

impl Origin {
    fn open(number: usize, lowers: &[PathBuf], empty: &Path) -> Result<Self> {
        let view = View::open(lowers, empty)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path: &PathBuf| {
            rustix::fs::open(path, flags, Mode::empty()).map_err(|source| Error::io("open", path, source))
        };
        let layers = lowers.iter().map(open).collect::<Result<_>>()?;
        Ok(Self { number, lowers: lowers.to_vec(), view, layers, open: RefCell::default() })
    }

    /// Opens a directory by a path that may lead through links.
    fn known(&self, path: &Path) -> Result<Rc<SourceDirectory>> {
        if let Some(known) = self.open.borrow().get(path) {
            return Ok(Rc::clone(known));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let found = self.view.lookup(path, flags).map_err(|source| Error::lookup(path, source))?;
        let directory = Rc::new(self.directory(&canonical(&found, path)?)?);
        let mut open = self.open.borrow_mut();
        if open.len() >= KEPT_OPEN {
            open.clear();
        }
        open.insert(path.to_path_buf(), Rc::clone(&directory));
        Ok(directory)
    }

    /// Opens a directory by its path without links.
    fn directory(&self, path: &Path) -> Result<SourceDirectory> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let merged = self.view.lookup(Path::new("/"), flags).map_err(|source| Error::lookup("/", source))?;
        let mut layers = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let layer = layer.try_clone().map_err(|source| Error::io("open", path, source))?;
            layers.push((index, layer));
        }
        let mut current = SourceDirectory { merged, layers };
        for name in path.iter().filter(|name| *name != "/") {
            current = current.enter(name, path)?;
        }
        Ok(current)
    }
}

impl SourceDirectory {
    fn enter(&self, name: &OsStr, path: &Path) -> Result<Self> {
        let failed = |source| Error::lookup(path, source);
        let merged = resolve::open_directory(self.merged.as_fd(), name).map_err(failed)?;
        let merged = merged.ok_or_else(|| Error::NotADirectory { path: path.to_path_buf() })?;
        let mut layers = Vec::new();
        for (index, layer) in &self.layers {
            match resolve::open_directory(layer.as_fd(), name).map_err(failed)? {
                Some(directory) => {
                    let opaque = resolve::is_opaque(directory.as_fd());
                    layers.push((*index, directory));
                    if opaque {
                        break;
                    }
                }
                // A whiteout or a file ends what is merged.
                None if Metadata::at(layer.as_fd(), Path::new(name)).is_ok() => break,
                None => {}
            }
        }
        Ok(Self { merged, layers })
    }

    /// Finds the layer that a file of the merged directory comes from.
    fn layer_of(&self, name: &OsStr) -> Option<(usize, BorrowedFd<'_>, Metadata)> {
        self.layers.iter().find_map(|(index, layer)| {
            let metadata = Metadata::at(layer.as_fd(), Path::new(name)).ok()?;
            Some((*index, layer.as_fd(), metadata))
        })
    }
}

impl Copy<'_, '_, '_> {
    /// Copies what a path leads to, with all below it.
    fn tree(mut self, origin: &Origin, path: &Path, contents_only: bool) -> Result<()> {
        let top =
            list::open_top(&origin.view, path)?.ok_or_else(|| Error::PathNotFound { path: path.to_path_buf() })?;
        let metadata = Metadata::of(&top).map_err(|source| Error::lookup(path, source))?;
        let real = canonical(&top, path)?;
        if metadata.kind() == FileType::Directory {
            let source = origin.directory(&real)?;
            let (target, _) = self.writer.directory(self.entry)?;
            if contents_only {
                // It was there, or was made on the way.
                let time = self.time(&metadata);
                self.writer.canvas.set_directory(&target, Owner::default(), Some(time))?;
            } else {
                self.directory_attributes(&source, &target, &metadata)?;
            }
            return self.contents(&source, &target, path);
        }
        let name = real.file_name().ok_or_else(|| Error::PathNotFound { path: path.to_path_buf() })?;
        let source = origin.directory(real.parent().unwrap_or(Path::new("/")))?;
        let own = path.file_name().unwrap_or(name);
        let (parent, target_name) = self.writer.leaf(self.entry, own)?;
        self.leaf(&source, name, &metadata, &parent, &target_name, path)
    }

    /// Copies only what a path names.
    fn alone(mut self, origin: &Origin, path: &Path, implied: bool) -> Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::InvalidPath { path: path.to_path_buf(), reason: "it names nothing below the root" });
        };
        let source = origin.known(parent)?;
        let metadata = Metadata::at(source.merged.as_fd(), Path::new(name));
        let metadata = metadata.map_err(|errno| Error::lookup(path, errno))?;
        if metadata.kind() != FileType::Directory {
            let (target, target_name) = self.writer.leaf(self.entry, name)?;
            return self.leaf(&source, name, &metadata, &target, &target_name, path);
        }
        let below = source.enter(name, path)?;
        let (target, existed) = self.writer.directory(self.entry)?;
        if implied && existed {
            let owner = Owner { mode: self.owner(&metadata).mode, ..Owner::default() };
            return self.writer.canvas.set_directory(&target, owner, None);
        }
        self.directory_attributes(&below, &target, &metadata)
    }

    fn owner(&self, metadata: &Metadata) -> Owner {
        let Owner { mode, uid, gid } = self.entry.owner;
        Owner {
            mode: Some(mode.unwrap_or(metadata.permissions())),
            uid: Some(uid.unwrap_or(metadata.uid)),
            gid: Some(gid.unwrap_or(metadata.gid)),
        }
    }

    fn time(&self, metadata: &Metadata) -> Time {
        self.entry.modified.unwrap_or(metadata.modified.into())
    }

    fn directory_attributes(&mut self, from: &SourceDirectory, to: &Directory, metadata: &Metadata) -> Result<()> {
        let shown = Path::new("/").join(&to.path);
        resolve::copy_attributes(from.merged.as_fd(), to.upper.as_fd(), metadata, &shown)?;
        self.writer.canvas.set_directory(to, self.owner(metadata), Some(self.time(metadata)))
    }

    fn contents(&mut self, source: &SourceDirectory, target: &Rc<Directory>, path: &Path) -> Result<()> {
        for name in list::names(source.merged.as_fd(), path)? {
            let shown = path.join(&name);
            let metadata = match Metadata::at(source.merged.as_fd(), Path::new(&name)) {
                // Overlay lists a whiteout that has nothing below it, but does not find it.
                Err(rustix::io::Errno::NOENT) => continue,
                other => other.map_err(|errno| Error::lookup(&shown, errno))?,
            };
            if metadata.kind() != FileType::Directory {
                self.leaf(source, &name, &metadata, target, &name, &shown)?;
                continue;
            }
            let below = source.enter(&name, &shown)?;
            let into = self.writer.canvas.enter_plain(target, &name)?;
            self.directory_attributes(&below, &into, &metadata)?;
            self.contents(&below, &into, &shown)?;
        }
        Ok(())
    }

    /// Copies one entry that is not a directory.
    fn leaf(
        &mut self,
        source: &SourceDirectory,
        name: &OsStr,
        metadata: &Metadata,
        target: &Directory,
        target_name: &OsStr,
        path: &Path,
    ) -> Result<()> {
        let metadata = &with_kept_owner(source, name, metadata);
        let (owner, time) = (self.owner(metadata), self.time(metadata));
        match metadata.kind() {
            FileType::RegularFile => self.file(source, name, metadata, target, target_name, path),
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(&source.merged, name, Vec::new());
                let link = link.map_err(|errno| Error::lookup(path, errno))?;
                place::symlink(self.writer, target, target_name, link.as_bytes(), owner, time)
            }
            kind => place::special(self.writer, target, target_name, (kind, metadata.device), owner, time),
        }
    }

    fn file(
        &mut self,
        source: &SourceDirectory,
        name: &OsStr,
        metadata: &Metadata,
        target: &Directory,
        target_name: &OsStr,
        path: &Path,
    ) -> Result<()> {
        self.writer.canvas.clear(target, target_name)?;
        let found = source.layer_of(name);
        let (index, layer, real) = match &found {
            Some((index, layer, real)) if real.kind() == FileType::RegularFile => (*index, *layer, real),
            _ => return Err(Error::PathNotFound { path: path.to_path_buf() }),
        };
        let id = FileId::Inode(self.origin, index, real.inode);
        if real.links > 1 && self.writer.links.take(&mut self.writer.canvas, id, target, target_name)? {
            return Ok(());
        }
        self.bytes((layer, name), metadata, real, (target, target_name), path)?;
        if real.links > 1 {
            self.writer.links.remember(id, target, target_name);
        }
        Ok(())
    }

    /// Links a file of a layer where nothing about it changes, or copies it.
    fn bytes(
        &mut self,
        (layer, name): (BorrowedFd<'_>, &OsStr),
        metadata: &Metadata,
        real: &Metadata,
        (target, target_name): (&Directory, &OsStr),
        path: &Path,
    ) -> Result<()> {
        let (owner, time) = (self.owner(metadata), self.time(metadata));
        let unchanged = owner == plain_owner(metadata) && time == metadata.modified.into();
        if unchanged
            && self.writer.linked.insert(real.inode)
            && rustix::fs::linkat(layer, name, &target.upper, target_name, AtFlags::empty()).is_ok()
        {
            return Ok(());
        }
        let from = rustix::fs::openat(layer, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Error::io("open", path, errno))?;
        let xattrs = attributes::xattrs(from.as_fd()).map_err(|error| Error::io("read", path, error))?;
        let wanted = Metadata {
            mode: owner.mode.unwrap_or(0),
            uid: owner.uid.unwrap_or(0),
            gid: owner.gid.unwrap_or(0),
            ..Metadata::default()
        };
        place::copy_file(&File::from(from), target, target_name, &wanted, time)?;
        if xattrs.is_empty() {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = rustix::fs::openat(&target.upper, target_name, flags, Mode::empty())
            .map_err(|errno| Error::io("open", path, errno))?;
        attributes::set_xattrs(to.as_fd(), &xattrs, path)
    }
}

/// The attributes of a file with the owner that it has but for ids which this user namespace lacks.
fn with_kept_owner(source: &SourceDirectory, name: &OsStr, metadata: &Metadata) -> Metadata {
    let mut metadata = metadata.clone();
    if strata_archive::owner::is_restricted() && metadata.kind() == FileType::RegularFile {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // Should it have gone, copying it says so.
        if let Ok(file) = rustix::fs::openat(&source.merged, name, flags, Mode::empty()) {
            metadata.take_kept_owner(file.as_fd());
        }
    }
    metadata
}

/// Owner and mode as a file has them.
fn plain_owner(metadata: &Metadata) -> Owner {
    Owner { mode: Some(metadata.permissions()), uid: Some(metadata.uid), gid: Some(metadata.gid) }
}

impl Writer<'_> {
    /// Opens a tree to copy from, once.
    fn origin(&mut self, lowers: &[PathBuf]) -> Result<Rc<Origin>> {
        if let Some(known) = self.origins.iter().find(|origin| origin.lowers == lowers) {
            return Ok(Rc::clone(known));
        }
        let origin = Rc::new(Origin::open(self.origins.len(), lowers, &self.plan.empty)?);
        self.origins.push(Rc::clone(&origin));
        Ok(origin)
    }
}
