//! Copying from another tree: COPY --from.
//!
//! The source is walked in its merged view, so that what its layers hide stays hidden; the bytes come from the layer
//! that holds them, by a hard link where nothing about the file changes.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::resolve::{self, Directory, Found};
use super::write::{Entry, Owner, Time, Writer};
use super::{Error, Metadata, Result, View, entry as attributes, list, place};

/// The tree copied from.
struct Origin {
    view: View,
    /// Layer directories, topmost first.
    lowers: Vec<OwnedFd>,
}

/// A directory of the source: merged, and in each layer that adds to it, topmost first.
struct SourceDirectory {
    merged: OwnedFd,
    layers: Vec<(usize, OwnedFd)>,
}

/// One copy under way.
struct Copy<'w, 'a, 'e> {
    writer: &'w mut Writer<'a>,
    entry: &'e Entry,
    /// Where files went that have several names, by layer and inode.
    links: HashMap<(usize, u64), (PathBuf, OsString)>,
}

/// Copies `path` of the tree made of `lowers` to `destination`.
pub(super) fn tree(
    writer: &mut Writer<'_>,
    lowers: &[PathBuf],
    path: &Path,
    contents_only: bool,
    destination: &Path,
    entry: &Entry,
) -> Result<()> {
    let origin = Origin::open(lowers, &writer.plan.empty)?;
    let path = Path::new("/").join(path);
    let top = list::open_top(&origin.view, &path)?.ok_or_else(|| Error::PathNotFound { path: path.clone() })?;
    let metadata = Metadata::of(&top).map_err(|source| Error::lookup(&path, source))?;
    let real = canonical(&top, &path)?;
    let mut copy = Copy { writer, entry, links: HashMap::new() };
    if metadata.kind() == FileType::Directory {
        let source = origin.directory(&real)?;
        let existed = copy.writer.canvas_has(destination)?;
        let target = copy.writer.canvas.directory(destination)?;
        if !contents_only || !existed {
            copy.directory_attributes(&source, &target, &metadata)?;
        }
        return copy.contents(&source, &target, &path);
    }
    let name = real.file_name().ok_or_else(|| Error::PathNotFound { path: path.clone() })?;
    let source = origin.directory(real.parent().unwrap_or(Path::new("/")))?;
    let wanted_name = path.file_name().unwrap_or(name);
    let (parent, target_name) = copy.writer.file_target(destination, wanted_name)?;
    copy.leaf(&source, name, &metadata, &parent, &target_name, &path)
}

/// Returns where an open file is in its view, links resolved.
fn canonical(file: &OwnedFd, path: &Path) -> Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
    let target = rustix::fs::readlink(link, Vec::new()).map_err(|source| Error::io("resolve", path, source))?;
    Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
}

impl Origin {
    fn open(lowers: &[PathBuf], empty: &Path) -> Result<Self> {
        let view = View::open(lowers, empty)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path: &PathBuf| {
            rustix::fs::open(path, flags, Mode::empty()).map_err(|source| Error::io("open", path, source))
        };
        Ok(Self { view, lowers: lowers.iter().map(open).collect::<Result<_>>()? })
    }

    /// Opens a directory by its path without links.
    fn directory(&self, path: &Path) -> Result<SourceDirectory> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let merged = self.view.lookup(Path::new("/"), flags).map_err(|source| Error::lookup("/", source))?;
        let mut layers = Vec::new();
        for (index, layer) in self.lowers.iter().enumerate() {
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
            let into = match self.writer.canvas.look(target, &name)? {
                Found::Symlink(_) => self.writer.canvas.directory_from(target, Path::new(&name))?,
                Found::Other => {
                    return Err(Error::NotADirectory { path: Path::new("/").join(&target.path).join(&name) });
                }
                Found::Absent | Found::Directory { .. } => self.writer.canvas.enter(target, &name)?,
            };
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
            kind => {
                self.writer.canvas.clear(target, target_name)?;
                let mode = owner.mode.unwrap_or(0);
                let make = || {
                    rustix::fs::mknodat(&target.upper, target_name, kind, Mode::from_raw_mode(mode), metadata.device)?;
                    let (uid, gid) = (owner.uid.unwrap_or(0), owner.gid.unwrap_or(0));
                    strata_archive::owner::set_at(target.upper.as_fd(), target_name, uid, gid)?;
                    rustix::fs::chmodat(&target.upper, target_name, Mode::from_raw_mode(mode), AtFlags::empty())?;
                    super::write::set_times(target.upper.as_fd(), Path::new(target_name), time)
                };
                make().map_err(|source| Error::io("make device", path, source))
            }
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
        if real.links > 1 {
            if let Some((directory, other)) = self.links.get(&(index, real.inode)) {
                let from = self.writer.canvas.directory(&Path::new("/").join(directory))?;
                return rustix::fs::linkat(&from.upper, other, &target.upper, target_name, AtFlags::empty())
                    .map_err(|errno| Error::io("link", path, errno));
            }
            self.links.insert((index, real.inode), (target.path.clone(), target_name.to_owned()));
        }
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
    /// Says whether a directory of the destination exists before the copy.
    pub(super) fn canvas_has(&mut self, destination: &Path) -> Result<bool> {
        let (Some(parent), Some(name)) = (destination.parent(), destination.file_name()) else { return Ok(true) };
        let parent = self.canvas.directory(parent)?;
        Ok(!matches!(self.canvas.look(&parent, name)?, Found::Absent))
    }

    /// Finds where a single file goes: below the destination when that is a directory, else in its place.
    fn file_target(&mut self, destination: &Path, name: &OsStr) -> Result<(Rc<Directory>, OsString)> {
        let slash = destination.as_os_str().as_bytes().ends_with(b"/");
        match destination.file_name() {
            Some(last) if !slash && !self.leads_to_directory(destination)? => {
                let parent = self.canvas.directory(destination.parent().unwrap_or(Path::new("/")))?;
                Ok((parent, last.to_owned()))
            }
            _ => Ok((self.canvas.directory(destination)?, name.to_owned())),
        }
    }

    /// Says whether a path is a directory, or a link of the view below to one.
    pub(super) fn leads_to_directory(&mut self, path: &Path) -> Result<bool> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        if self.canvas.view().is_some_and(|view| view.lookup(path, flags).is_ok()) {
            return Ok(true);
        }
        let Some(name) = path.file_name() else { return Ok(true) };
        // A parent that is missing is going to be made in any case.
        let parent = self.canvas.directory(path.parent().unwrap_or(Path::new("/")))?;
        Ok(matches!(self.canvas.look(&parent, name)?, Found::Directory { .. }))
    }
}
