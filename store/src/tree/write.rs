//! Writing a layer: what COPY and ADD do.
//!
//! Entries are placed in the order given. Nothing is visible to others until the caller makes the directory a
//! layer, so a failure half-way leaves only a directory to remove.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, Mode, OFlags};
use strata_types::LayerId;

use super::copy::Origin;
use super::links::{FileId, Links};
use super::resolve::{Canvas, Directory, Found};
use super::{Error, Result, View, Xattrs, copy, entry as attributes, place};
use crate::content::{self, Contents};

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Whole seconds; negative before 1970.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanoseconds: u32,
}

impl Time {
    /// Reads the clock.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { seconds: since.as_secs() as i64, nanoseconds: since.subsec_nanos() }
    }
}

impl From<(i64, u32)> for Time {
    fn from((seconds, nanoseconds): (i64, u32)) -> Self {
        Self { seconds, nanoseconds }
    }
}

/// Owner and mode, where they are not to be as the source has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Permission bits with set-uid, set-gid and sticky.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

/// What directories become that have to be made on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Default for Made {
    fn default() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0 }
    }
}

impl Made {
    /// Returns it as attributes to be set; what is new is root's already.
    pub(super) fn owner(self) -> Owner {
        let (uid, gid) = if (self.uid, self.gid) == (0, 0) { (None, None) } else { (Some(self.uid), Some(self.gid)) };
        Owner { mode: Some(self.mode), uid, gid }
    }
}

/// What to place.
#[derive(Clone, Debug)]
pub enum Source {
    /// A directory.
    Directory {
        /// It is wanted for itself. Otherwise one that is there keeps its owner and attributes, and its mode and time
        /// unless they are given.
        explicit: bool,
    },
    /// A regular file with this content.
    File {
        /// Digest of the content.
        blake3: blake3::Hash,
        /// Files with equal numbers, but 0, are names of one file.
        same_file: u64,
    },
    /// A symbolic link to this target.
    Symlink {
        /// The target, byte for byte.
        target: Vec<u8>,
    },
    /// A device or a FIFO.
    Special {
        /// Which of them.
        kind: FileType,
        /// Device number.
        device: u64,
    },
    /// Something of another tree.
    Copy(TreeCopy),
    /// The entries of an archive, below a directory.
    Archive {
        /// Digest of the archive.
        blake3: blake3::Hash,
    },
}

/// What is copied from another tree.
#[derive(Clone, Debug, Default)]
pub struct TreeCopy {
    /// Layer directories of that tree, topmost first.
    pub lowers: Vec<PathBuf>,
    /// Path in its merged view.
    pub path: PathBuf,
    /// Place what a directory holds, not the directory.
    pub contents_only: bool,
    /// Nothing below a directory, and no link followed at the end of the path.
    pub alone: bool,
    /// Of a directory alone: only a place for others.
    pub implied: bool,
}

/// One thing to place.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where, absolute or relative to the working directory; links are followed.
    pub destination: PathBuf,
    /// Path below the destination, without links; empty: the destination itself.
    pub below: PathBuf,
    /// Name below the destination when that is a directory already; empty: the destination is taken as it is.
    pub name_in_directory: Vec<u8>,
    /// What.
    pub source: Source,
    /// Whose, where not as the source has it.
    pub owner: Owner,
    /// Time of last change, where not as the source has it.
    pub modified: Option<Time>,
    /// Extended attributes; those of a tree that is copied come with it.
    pub attributes: Xattrs,
}

impl Entry {
    /// The content of a file.
    fn content(&self) -> Option<blake3::Hash> {
        match self.source {
            Source::File { blake3, .. } => Some(blake3),
            _ => None,
        }
    }

    /// Something at this destination, with what its source says of the rest.
    #[cfg(test)]
    pub fn new(destination: impl Into<PathBuf>, source: Source) -> Self {
        Self {
            destination: destination.into(),
            below: PathBuf::new(),
            name_in_directory: Vec::new(),
            source,
            owner: Owner::default(),
            modified: None,
            attributes: Vec::new(),
        }
    }
}

/// Where a layer is written.
#[derive(Debug)]
pub struct Plan {
    /// Layer directories below, topmost first.
    pub lowers: Vec<PathBuf>,
    /// The fresh layer directory, with the attributes of the merged root.
    pub upper: PathBuf,
    /// An empty directory beside it, for unpacking archives.
    pub work: PathBuf,
    /// An empty directory.
    pub empty: PathBuf,
    /// Directory in the view that relative destinations start from.
    pub working_directory: PathBuf,
    /// An earlier layer of the same step: its files are looked at first.
    pub previous: Option<LayerId>,
    /// Time of directories that have to be made, and of files without one. Unset: now.
    pub modified: Option<Time>,
    /// What else directories become that have to be made.
    pub made: Made,
}

/// What writing needs while it goes on.
pub(super) struct Writer<'a> {
    pub plan: &'a Plan,
    pub contents: &'a Contents,
    pub canvas: Canvas,
    pub modified: Time,
    /// Inodes that this layer shares with another one already: a second name would be a hard link.
    pub linked: HashSet<u64>,
    /// Where files went that have several names.
    pub links: Links,
    /// Trees that entries copy from.
    pub origins: Vec<Rc<Origin>>,
}

/// Places entries in a fresh layer directory, as they come; the contents of those that come together are looked for at once.
pub fn write(plan: &Plan, contents: &Contents, lots: impl IntoIterator<Item = Result<Vec<Entry>>>) -> Result<()> {
    let view = View::open(&plan.lowers, &plan.empty)?;
    let upper = open(&plan.upper)?;
    let modified = plan.modified.unwrap_or_else(Time::now);
    let canvas = Canvas::new(&view, upper, plan.made, modified)?;
    let (linked, links, origins) = (HashSet::new(), Links::default(), Vec::new());
    let mut writer = Writer { plan, contents, canvas, modified, linked, links, origins };
    for lot in lots {
        let lot = lot?;
        let hashes: Vec<_> = lot.iter().filter_map(Entry::content).collect();
        let mut found = contents.find_all(&hashes, plan.previous.as_ref()).into_iter();
        for entry in &lot {
            let found = entry.content().and_then(|_| found.next()).flatten();
            writer.place(entry, found.as_ref())?;
        }
    }
    writer.canvas.settle()
}

fn open(directory: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(directory, flags, Mode::empty()).map_err(|source| Error::io("open", directory, source))
}

impl Writer<'_> {
    /// Places an entry; `found` says where its content is.
    fn place(&mut self, entry: &Entry, found: Option<&content::Found>) -> Result<()> {
        check(entry)?;
        match &entry.source {
            Source::Directory { explicit } => {
                let (directory, existed) = self.directory(entry)?;
                self.directory_attributes(&directory, entry, *explicit || !existed)
            }
            Source::File { blake3, same_file } => {
                let (parent, name) = self.leaf(entry, OsStr::new(""))?;
                if *same_file == 0 {
                    return place::file(self, &parent, &name, blake3, entry, found);
                }
                let file = FileId::Number(*same_file);
                if self.links.take(&mut self.canvas, file, &parent, &name)? {
                    return Ok(());
                }
                place::file(self, &parent, &name, blake3, entry, found)?;
                self.links.remember(file, &parent, &name);
                Ok(())
            }
            Source::Symlink { target } => {
                let (parent, name) = self.leaf(entry, OsStr::new(""))?;
                place::symlink(self, &parent, &name, target, entry.owner, entry.modified.unwrap_or(self.modified))
            }
            Source::Special { kind, device } => {
                let (parent, name) = self.leaf(entry, OsStr::new(""))?;
                let time = entry.modified.unwrap_or(self.modified);
                place::special(self, &parent, &name, (*kind, *device), entry.owner, time)
            }
            Source::Copy(what) => copy::copy(self, what, entry),
            Source::Archive { blake3 } => place::archive(self, blake3, entry),
        }
    }

    /// Where an entry starts from.
    pub fn destination(&self, entry: &Entry) -> PathBuf {
        Path::new("/").join(&self.plan.working_directory).join(&entry.destination)
    }

    /// The directory that an entry stands for, made where it is missing, and whether it was there.
    pub fn directory(&mut self, entry: &Entry) -> Result<(Rc<Directory>, bool)> {
        let destination = self.destination(entry);
        let Some(name) = entry.below.file_name() else {
            // A slash at its end would have it made.
            let bare: PathBuf = destination.components().collect();
            let existed = self.canvas.target(&bare)?.1.is_none();
            return Ok((self.canvas.directory(&destination)?, existed));
        };
        let parent = self.parent_below(entry, &destination)?;
        let existed = matches!(self.canvas.look(&parent, name)?, Found::Directory { .. });
        Ok((self.canvas.enter_plain(&parent, name)?, existed))
    }

    /// The directory that an entry goes to, made where it is missing, and its name in it: `own`, if the entry does not
    /// say, where its destination is a directory.
    pub fn leaf(&mut self, entry: &Entry, own: &OsStr) -> Result<(Rc<Directory>, OsString)> {
        let destination = self.destination(entry);
        if let Some(name) = entry.below.file_name() {
            return Ok((self.parent_below(entry, &destination)?, name.to_owned()));
        }
        match self.canvas.target(&destination)? {
            (parent, Some(name)) => Ok((parent, name)),
            (directory, None) => match OsStr::from_bytes(&entry.name_in_directory) {
                name if !name.is_empty() => Ok((directory, name.to_owned())),
                _ if !own.is_empty() => Ok((directory, own.to_owned())),
                _ => Err(Error::NotAFile { path: destination }),
            },
        }
    }

    fn parent_below(&mut self, entry: &Entry, destination: &Path) -> Result<Rc<Directory>> {
        let base = self.canvas.directory(destination)?;
        self.canvas.below(&base, entry.below.parent().unwrap_or(Path::new("")))
    }

    fn directory_attributes(&mut self, directory: &Directory, entry: &Entry, is_whole: bool) -> Result<()> {
        if !is_whole {
            let owner = Owner { mode: entry.owner.mode, ..Owner::default() };
            return self.canvas.set_directory(directory, owner, entry.modified);
        }
        self.canvas.set_directory(directory, entry.owner, entry.modified)?;
        let shown = Path::new("/").join(&directory.path);
        attributes::set_given(directory.upper.as_fd(), &entry.attributes, &shown)
    }

    /// Unpacks through the kernel: an archive may go through links that are below.
    pub fn mount(&mut self) -> Result<View> {
        self.canvas.settle()?;
        View::open_writable(&self.plan.lowers, &self.plan.upper, &self.plan.work)
    }
}

/// Refuses paths that name nothing.
fn check(entry: &Entry) -> Result<()> {
    for path in [&entry.destination, &entry.below] {
        if path.as_os_str().as_bytes().contains(&0) {
            return Err(Error::InvalidPath { path: path.clone(), reason: "it holds a NUL" });
        }
    }
    match entry.below.components().all(|component| matches!(component, Component::Normal(_))) {
        true => Ok(()),
        false => Err(Error::InvalidPath { path: entry.below.clone(), reason: "it does not go below a directory" }),
    }
}

#[cfg(test)]
mod tests;
