//! Writing a layer: what COPY and ADD do.
//!
//! Entries are placed in the order given. Nothing is visible to others until the caller makes the directory a
//! layer, so a failure half-way leaves only a directory to remove.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags};

use super::resolve::{Canvas, Directory};
use super::{Error, Result, View, copy, place, resolve};
use crate::content::Contents;

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

/// What to place.
#[derive(Clone, Debug)]
pub enum Source {
    /// A directory; an existing one keeps its attributes where none are given.
    Directory,
    /// A regular file with this content.
    File {
        /// Digest of the content.
        blake3: blake3::Hash,
    },
    /// A symbolic link to this target.
    Symlink {
        /// The target, byte for byte.
        target: Vec<u8>,
    },
    /// A path of another tree, with all below it.
    Copy {
        /// Layer directories of that tree, topmost first.
        lowers: Vec<PathBuf>,
        /// Path in its merged view.
        path: PathBuf,
        /// Place what a directory holds, not the directory.
        contents_only: bool,
    },
    /// The entries of an archive, below a directory.
    Archive {
        /// Digest of the archive.
        blake3: blake3::Hash,
    },
}

/// One thing to place.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where, absolute or relative to the working directory.
    pub destination: PathBuf,
    /// Name below the destination when that is a directory already; empty: the destination is taken as it is.
    pub name_in_directory: Vec<u8>,
    /// What.
    pub source: Source,
    /// Whose, where not as the source has it.
    pub owner: Owner,
    /// Time of last change, where not as the source has it.
    pub modified: Option<Time>,
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
    /// Directory of an earlier layer of the same step: its files are looked at first.
    pub previous: Option<PathBuf>,
    /// Time of directories that have to be made, and of files without one. Unset: now.
    pub modified: Option<Time>,
}

/// What writing needs while it goes on.
pub(super) struct Writer<'a> {
    pub plan: &'a Plan,
    pub contents: &'a Contents,
    pub canvas: Canvas<'a>,
    pub modified: Time,
    /// Inodes that this layer shares with another one already: a second name would be a hard link.
    pub linked: HashSet<u64>,
}

/// Places entries in a fresh layer directory.
pub fn write(plan: &Plan, contents: &Contents, entries: impl IntoIterator<Item = Result<Entry>>) -> Result<()> {
    let view = View::open(&plan.lowers, &plan.empty)?;
    let upper = open(&plan.upper)?;
    let modified = plan.modified.unwrap_or_else(Time::now);
    let canvas = Canvas::new(&view, upper, modified)?;
    let mut writer = Writer { plan, contents, canvas, modified, linked: HashSet::new() };
    for entry in entries {
        writer.place(&entry?)?;
    }
    writer.canvas.settle()
}

fn open(directory: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(directory, flags, Mode::empty()).map_err(|source| Error::io("open", directory, source))
}

impl Writer<'_> {
    fn place(&mut self, entry: &Entry) -> Result<()> {
        if entry.destination.as_os_str().as_bytes().contains(&0) {
            return Err(Error::InvalidPath { path: entry.destination.clone(), reason: "it holds a NUL" });
        }
        let mut destination = Path::new("/").join(&self.plan.working_directory).join(&entry.destination);
        if !entry.name_in_directory.is_empty() && self.leads_to_directory(&destination)? {
            destination.push(OsStr::from_bytes(&entry.name_in_directory));
        }
        match &entry.source {
            Source::Directory => {
                let existed = self.canvas_has(&destination)?;
                let directory = self.canvas.directory(&destination)?;
                self.directory_attributes(&directory, entry, existed)
            }
            Source::File { blake3 } => {
                let (parent, name) = self.parent(&destination)?;
                place::file(self, &parent, &name, blake3, entry)
            }
            Source::Symlink { target } => {
                let (parent, name) = self.parent(&destination)?;
                place::symlink(self, &parent, &name, target, entry.owner, entry.modified.unwrap_or(self.modified))
            }
            Source::Copy { lowers, path, contents_only } => {
                copy::tree(self, lowers, path, *contents_only, &destination, entry)
            }
            Source::Archive { blake3 } => place::archive(self, &destination, blake3, entry),
        }
    }

    fn directory_attributes(&mut self, directory: &Directory, entry: &Entry, existed: bool) -> Result<()> {
        let time = entry.modified.filter(|_| !existed);
        self.canvas.set_directory(directory, entry.owner, time)
    }

    /// Resolves the directory that a file goes to, making it where missing, and splits off the name.
    pub fn parent(&mut self, destination: &Path) -> Result<(Rc<Directory>, std::ffi::OsString)> {
        let slash = destination.as_os_str().as_bytes().ends_with(b"/");
        let name = match destination.components().next_back() {
            Some(Component::Normal(name)) if !slash => name.to_owned(),
            _ => return Err(Error::NotAFile { path: destination.to_path_buf() }),
        };
        let parent = destination.parent().unwrap_or(Path::new("/"));
        Ok((self.canvas.directory(parent)?, name))
    }

    /// Unpacks through the kernel: an archive may go through links that are below.
    pub fn mount(&mut self) -> Result<View> {
        self.canvas.settle()?;
        View::open_writable(&self.plan.lowers, &self.plan.upper, &self.plan.work)
    }
}

pub(super) use resolve::set_times;

#[cfg(test)]
mod tests;
