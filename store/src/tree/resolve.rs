//! The tree that is being written: a fresh layer directory over a view, resolved together.
//!
//! The kernel resolves what exists below; this file resolves paths that may also lead through entries placed a
//! moment ago, without mounting. A directory gets into the new layer only when something is placed in it, with the
//! attributes that it has below; times are set at the end, because placing changes them.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use strata_archive::{OverlayXattrs, owner};

use super::write::{Made, Owner, Time};
use super::{Error, Metadata, Result, View, entry};

/// As many links as the kernel follows in one lookup.
const LONGEST_CHAIN_OF_LINKS: usize = 40;

/// A directory of the new layer, and what is merged below it.
#[derive(Debug)]
pub(super) struct Directory {
    /// Its path from the root, without links; empty for the root.
    pub path: PathBuf,
    /// The directory in the new layer.
    pub upper: OwnedFd,
    /// The same directory in the view, unless it is new or opaque.
    pub below: Option<OwnedFd>,
}

/// What a name stands for.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing.
    Absent,
    /// A directory.
    Directory {
        /// It is already in the new layer.
        in_upper: bool,
    },
    /// A symbolic link and its target.
    Symlink(OsString),
    /// Anything else.
    Other,
}

/// The new layer over its parents.
pub(super) struct Canvas {
    root: Rc<Directory>,
    /// Directories by their path without links.
    open: HashMap<PathBuf, Rc<Directory>>,
    /// Directories by the path that was asked for.
    resolved: HashMap<PathBuf, Rc<Directory>>,
    /// Times to set at the end, by path.
    times: HashMap<PathBuf, Time>,
    /// What directories become that have to be made.
    made: Made,
    made_at: Time,
}

impl Canvas {
    /// Starts to write to `upper`, over `view`.
    pub fn new(view: &View, upper: OwnedFd, made: Made, made_at: Time) -> Result<Self> {
        let below = view.lookup(Path::new("/"), OFlags::PATH).map_err(|source| Error::lookup("/", source))?;
        let root = Rc::new(Directory { path: PathBuf::new(), upper, below: Some(below) });
        let metadata = Metadata::of(root.below.as_ref().expect("set above")).map_err(|e| Error::lookup("/", e))?;
        let mut times = HashMap::new();
        times.insert(PathBuf::new(), Time::from(metadata.modified));
        Ok(Self { root, open: HashMap::new(), resolved: HashMap::new(), times, made, made_at })
    }

    /// Says what a name in a directory stands for.
    pub fn look(&self, directory: &Directory, name: &OsStr) -> Result<Found> {
        let failed = |source| Error::lookup(Path::new("/").join(&directory.path).join(name), source);
        match Metadata::at(directory.upper.as_fd(), Path::new(name)) {
            Err(Errno::NOENT) => {}
            Err(source) => return Err(failed(source)),
            Ok(metadata) if metadata.is_whiteout() => return Ok(Found::Absent),
            Ok(metadata) => return classify(directory.upper.as_fd(), name, &metadata, true).map_err(failed),
        }
        let Some(below) = &directory.below else { return Ok(Found::Absent) };
        match Metadata::at(below.as_fd(), Path::new(name)) {
            Err(Errno::NOENT) => Ok(Found::Absent),
            Err(source) => Err(failed(source)),
            Ok(metadata) => classify(below.as_fd(), name, &metadata, false).map_err(failed),
        }
    }

    /// Resolves a directory inside the root, following links, making what is missing.
    pub fn directory(&mut self, path: &Path) -> Result<Rc<Directory>> {
        if let Some(known) = self.resolved.get(path) {
            return Ok(Rc::clone(known));
        }
        let found = self.directory_from(&Rc::clone(&self.root), path)?;
        self.resolved.insert(path.to_path_buf(), Rc::clone(&found));
        Ok(found)
    }

    /// Resolves a path that starts in `start`, which is the root for an absolute one.
    pub fn directory_from(&mut self, start: &Rc<Directory>, path: &Path) -> Result<Rc<Directory>> {
        let mut current = if path.has_root() { Rc::clone(&self.root) } else { Rc::clone(start) };
        let mut pending: Vec<OsString> = Vec::new();
        queue(&mut pending, path);
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == ".." {
                let parent = current.path.parent().map(Path::to_path_buf).unwrap_or_default();
                current = self.known(&parent)?;
                continue;
            }
            match self.look(&current, &name)? {
                Found::Directory { .. } | Found::Absent => current = self.enter(&current, &name)?,
                Found::Other => {
                    return Err(Error::NotADirectory { path: Path::new("/").join(&current.path).join(&name) });
                }
                Found::Symlink(target) => {
                    links += 1;
                    if links > LONGEST_CHAIN_OF_LINKS {
                        return Err(Error::io("follow", path, Errno::LOOP));
                    }
                    let target = Path::new(&target);
                    if target.has_root() {
                        current = Rc::clone(&self.root);
                    }
                    queue(&mut pending, target);
                }
            }
        }
        Ok(current)
    }

    /// Resolves a path whose last name need not be there, following it too if it is a link: the directory that holds
    /// it, and the name in that; no name where the path is a directory itself.
    pub fn target(&mut self, path: &Path) -> Result<(Rc<Directory>, Option<OsString>)> {
        let (mut start, mut next) = (Rc::clone(&self.root), path.to_path_buf());
        for _ in 0..LONGEST_CHAIN_OF_LINKS {
            let name = match next.file_name() {
                Some(name) if !next.as_os_str().as_bytes().ends_with(b"/") => name.to_owned(),
                _ => return Ok((self.directory_from(&start, &next)?, None)),
            };
            let parent = self.directory_from(&start, next.parent().unwrap_or(Path::new("")))?;
            match self.look(&parent, &name)? {
                Found::Absent | Found::Other => return Ok((parent, Some(name))),
                Found::Directory { .. } => return Ok((self.enter(&parent, &name)?, None)),
                Found::Symlink(target) => (start, next) = (parent, target.into()),
            }
        }
        Err(Error::io("follow", path, Errno::LOOP))
    }

    /// Enters directories below `base` by their names, making what is missing. No link is followed: what is copied goes
    /// where its own path says.
    pub fn below(&mut self, base: &Rc<Directory>, path: &Path) -> Result<Rc<Directory>> {
        if let Some(known) = self.open.get(&base.path.join(path)) {
            return Ok(Rc::clone(known));
        }
        let mut current = Rc::clone(base);
        for name in path {
            current = self.enter_plain(&current, name)?;
        }
        Ok(current)
    }

    /// Enters a directory by its name, not following a link.
    pub fn enter_plain(&mut self, parent: &Rc<Directory>, name: &OsStr) -> Result<Rc<Directory>> {
        let shown = || Path::new("/").join(&parent.path).join(name);
        match self.look(parent, name)? {
            Found::Absent | Found::Directory { .. } => self.enter(parent, name),
            Found::Symlink(_) => Err(Error::LinkInTheWay { path: shown() }),
            Found::Other => Err(Error::NotADirectory { path: shown() }),
        }
    }

    /// Returns a directory whose path without links is known to be entered.
    fn known(&self, path: &Path) -> Result<Rc<Directory>> {
        if path.as_os_str().is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        self.open.get(path).cloned().ok_or_else(|| Error::PathNotFound { path: Path::new("/").join(path) })
    }

    /// Enters a directory, copying it up or making it.
    pub fn enter(&mut self, parent: &Rc<Directory>, name: &OsStr) -> Result<Rc<Directory>> {
        let path = parent.path.join(name);
        if let Some(known) = self.open.get(&path) {
            return Ok(Rc::clone(known));
        }
        let shown = Path::new("/").join(&path);
        let below = match &parent.below {
            None => None,
            Some(below) => open_directory(below.as_fd(), name).map_err(|source| Error::lookup(&shown, source))?,
        };
        let existing = self.look(parent, name)?;
        if matches!(existing, Found::Absent | Found::Directory { in_upper: false }) {
            self.make(parent, name, below.as_ref(), &path)?;
        }
        let upper = open_directory(parent.upper.as_fd(), name)
            .map_err(|source| Error::lookup(&shown, source))?
            .ok_or_else(|| Error::NotADirectory { path: shown.clone() })?;
        let below = if is_opaque(upper.as_fd()) { None } else { below };
        let directory = Rc::new(Directory { path: path.clone(), upper, below });
        self.open.insert(path, Rc::clone(&directory));
        Ok(directory)
    }

    /// Makes a directory in the layer, as it is below or as missing parents are made.
    fn make(&mut self, parent: &Directory, name: &OsStr, below: Option<&OwnedFd>, path: &Path) -> Result<()> {
        let shown = Path::new("/").join(path);
        let failed = |source: Errno| Error::io("make directory", &shown, source);
        let replaced = rustix::fs::unlinkat(&parent.upper, name, AtFlags::empty());
        rustix::fs::mkdirat(&parent.upper, name, Mode::from_raw_mode(0o755)).map_err(failed)?;
        let made = open_directory(parent.upper.as_fd(), name).map_err(failed)?.expect("just made");
        match below {
            Some(below) if replaced.is_err() => {
                let metadata = Metadata::of(below).map_err(failed)?;
                copy_attributes(below.as_fd(), made.as_fd(), &metadata, &shown)?;
                self.times.insert(path.to_path_buf(), Time::from(metadata.modified));
            }
            _ => {
                if replaced.is_ok() {
                    // A whiteout stood here: what is below must stay hidden.
                    rustix::fs::fsetxattr(
                        &made,
                        OverlayXattrs::default().opaque(),
                        b"y",
                        rustix::fs::XattrFlags::empty(),
                    )
                    .map_err(failed)?;
                }
                set_owner_and_mode(made.as_fd(), self.made.owner()).map_err(failed)?;
                self.times.insert(path.to_path_buf(), self.made_at);
            }
        }
        Ok(())
    }

    /// Gives a directory of the layer attributes; its time is set at the end.
    pub fn set_directory(&mut self, directory: &Directory, owner: Owner, time: Option<Time>) -> Result<()> {
        let shown = Path::new("/").join(&directory.path);
        set_owner_and_mode(directory.upper.as_fd(), owner)
            .map_err(|e| Error::io("change owner or mode of", shown, e))?;
        if let Some(time) = time {
            self.times.insert(directory.path.clone(), time);
        }
        Ok(())
    }

    /// Makes room for something that is not a directory.
    pub fn clear(&mut self, directory: &Directory, name: &OsStr) -> Result<()> {
        let path = || Path::new("/").join(&directory.path).join(name);
        match rustix::fs::unlinkat(&directory.upper, name, AtFlags::empty()) {
            Ok(()) => {
                // It may have been a link that some path was resolved through.
                self.resolved.clear();
            }
            Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => return Err(Error::NotAFile { path: path() }),
            Err(source) => return Err(Error::io("replace", path(), source)),
        }
        let Some(below) = &directory.below else { return Ok(()) };
        match Metadata::at(below.as_fd(), Path::new(name)) {
            Ok(metadata) if metadata.kind() == FileType::Directory => Err(Error::NotAFile { path: path() }),
            Ok(metadata) if metadata.kind() == FileType::Symlink => {
                self.resolved.clear();
                Ok(())
            }
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(source) => Err(Error::lookup(path(), source)),
        }
    }

    /// Sets the times of directories and forgets all that is open; the canvas can be written to further.
    pub fn settle(&mut self) -> Result<()> {
        self.resolved.clear();
        self.open.clear();
        for (path, time) in self.times.drain() {
            let upper = self.root.upper.as_fd();
            let directory = if path.as_os_str().is_empty() {
                set_times(upper, Path::new("."), time)
            } else {
                set_times(upper, &path, time)
            };
            match directory {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(source) => return Err(Error::io("set the time of", path, source)),
            }
        }
        Ok(())
    }
}

/// Puts the components of a path on a stack, first one on top.
fn queue(pending: &mut Vec<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => pending.push(name.to_owned()),
            Component::ParentDir => pending.push("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

fn classify(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    metadata: &Metadata,
    in_upper: bool,
) -> std::result::Result<Found, Errno> {
    match metadata.kind() {
        FileType::Directory => Ok(Found::Directory { in_upper }),
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
            Ok(Found::Symlink(OsStr::from_bytes(target.as_bytes()).to_owned()))
        }
        _ => Ok(Found::Other),
    }
}

/// Opens a directory by name, not following a link; `None` when there is none.
pub(super) fn open_directory(parent: BorrowedFd<'_>, name: &OsStr) -> std::result::Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(source) => Err(source),
    }
}

/// Says whether a directory of a layer hides what is below it.
pub(crate) fn is_opaque(directory: BorrowedFd<'_>) -> bool {
    let mut value = [0; 1];
    matches!(rustix::fs::fgetxattr(directory, OverlayXattrs::default().opaque(), &mut value[..]), Ok(1) if value[0] == b'y')
}

/// Copies owner, mode and extended attributes of one open file or directory to another.
pub(crate) fn copy_attributes(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    metadata: &Metadata,
    path: &Path,
) -> Result<()> {
    let mut metadata = metadata.clone();
    metadata.take_kept_owner(from);
    let owner = Owner { mode: Some(metadata.permissions()), uid: Some(metadata.uid), gid: Some(metadata.gid) };
    set_owner_and_mode(to, owner).map_err(|source| Error::io("change owner or mode of", path, source))?;
    let attributes = entry::xattrs(from).map_err(|source| Error::io("read extended attributes of", path, source))?;
    entry::set_xattrs(to, &attributes, path)
}

/// Changes owner and mode of an open file, in the order that keeps set-uid bits.
pub(super) fn set_owner_and_mode(file: BorrowedFd<'_>, owner: Owner) -> std::result::Result<(), Errno> {
    if owner.uid.is_some() || owner.gid.is_some() {
        let mode = rustix::fs::fstat(file)?.st_mode & 0o7777;
        set_owner(file, owner)?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(owner.mode.unwrap_or(mode)))?;
    } else if let Some(mode) = owner.mode {
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?;
    }
    Ok(())
}

/// Changes the owner of an open file; what is not said stays as it is, also where it is only kept in mind.
fn set_owner(file: BorrowedFd<'_>, owner: Owner) -> std::result::Result<(), Errno> {
    let (uid, gid) = match (owner.uid, owner.gid) {
        (Some(uid), Some(gid)) => (uid, gid),
        (uid, gid) => {
            let mut now = Metadata::of(file)?;
            now.take_kept_owner(file);
            (uid.unwrap_or(now.uid), gid.unwrap_or(now.gid))
        }
    };
    owner::forget(file);
    owner::set(file, uid, gid)
}

/// Sets the time of last change, leaving the access time and not following a link.
pub(super) fn set_times(directory: BorrowedFd<'_>, name: &Path, time: Time) -> std::result::Result<(), Errno> {
    rustix::fs::utimensat(directory, name, &timestamps(time), AtFlags::SYMLINK_NOFOLLOW)
}

/// Times of utimensat(2) that change only the time of last change.
pub(crate) fn timestamps(time: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
        last_modification: Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds as _ },
    }
}
