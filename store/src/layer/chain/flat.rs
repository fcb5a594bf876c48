//! A long chain as few lowers: each name is looked for in one place instead of one for each layer.
//!
//! Layers of one form next to each other are a run, and a run becomes one lower of its form without a byte of contents
//! being copied: directories become a directory of hard links (`links`), images an index of them (`index`). Most chains
//! are one run; where a build has put directories on a base of images, they are two, and the upper one keeps those marks
//! that hide something below it. Others must go: overlay lists them in a directory that is in one lower alone.
//!
//! The trees are merged and not their tables of contents: a built layer has none yet, and what a chain repaired is in
//! no table at all.

mod index;
mod links;

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::repair::FIX;
use super::{Images, Result};
use crate::tree::{self, Metadata, View};
use index::Indexed;
use links::Linked;

/// Names that are merged between two looks at whether to go on.
const BATCH: usize = 256;

/// Layers next to each other that can become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run<'a> {
    form: Form,
    /// The layers, topmost first.
    pub(super) lowers: &'a [PathBuf],
}

/// What layers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Directories,
    Images,
}

/// Finds the runs of a chain, topmost first.
pub(super) fn runs<'a>(lowers: &'a [PathBuf], images: &Images) -> Vec<Run<'a>> {
    let mut forms: Vec<Form> = Vec::with_capacity(lowers.len());
    for lower in lowers.iter().rev() {
        forms.push(match forms.last() {
            _ if images.image_at(lower).is_some() => Form::Images,
            // It has attributes alone, and goes with the layer that it was made for, which is the one below it.
            Some(below) if lower.ends_with(FIX) => *below,
            _ => Form::Directories,
        });
    }
    forms.reverse();
    let mut rest = lowers;
    let runs = forms.chunk_by(|one, other| one == other).map(|forms| {
        let (lowers, others) = rest.split_at(forms.len());
        rest = others;
        Run { form: forms[0], lowers }
    });
    runs.collect()
}

/// Why a merge did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It is whole.
    Whole,
    /// It was given up.
    GivenUp,
}

/// Where and how a run is merged.
pub(super) struct Place<'a> {
    /// What is made.
    pub(super) target: &'a Path,
    /// Directory that has the attributes of the root.
    pub(super) root: &'a Path,
    /// What is seen of the layers below the run, if there are any.
    pub(super) below: Option<&'a View>,
    /// The name of an image for the kernel.
    pub(super) uuid: [u8; 16],
}

/// Merges a run. `goes_on` says now and then whether it shall.
pub(super) fn merge(run: &Run<'_>, place: &Place<'_>, images: &Images, goes_on: &dyn Fn() -> bool) -> Result<End> {
    match run.form {
        Form::Directories => {
            let (mut linked, root) = Linked::make(place.target)?;
            Merge { to: &mut linked, goes_on, names: 0 }.run(run.lowers, root, place)
        }
        Form::Images => {
            let mut indexed = Indexed::open(run.lowers, images)?;
            let root = indexed.root();
            let end = Merge { to: &mut indexed, goes_on, names: 0 }.run(run.lowers, root, place)?;
            if end == End::Whole {
                indexed.write(place.target, place.uuid)?;
            }
            Ok(end)
        }
    }
}

/// What a directory says of the one of its name below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hides {
    Nothing,
    Below,
}

/// What layers are merged to.
trait Merged {
    /// A directory that is being filled.
    type Directory;

    /// Makes a directory in another.
    fn directory(&mut self, parent: &Self::Directory, name: &CStr, shown: &Path) -> Result<Self::Directory>;

    /// Takes over what is no directory.
    fn take(&mut self, from: &Layer, name: &CStr, found: &Metadata, to: &Self::Directory, shown: &Path) -> Result<()>;

    /// Marks a name as one that hides what is below it.
    fn mark(&mut self, name: &CStr, to: &Self::Directory, shown: &Path) -> Result<()>;

    /// Gives a directory the attributes of another, when all is in it.
    fn finish(&mut self, from: &OwnedFd, hides: Hides, to: &Self::Directory, shown: &Path) -> Result<()>;
}

/// A directory in one of the merged layers.
struct Layer {
    directory: OwnedFd,
    /// Index of the layer among those merged.
    lower: usize,
}

/// A merge that may be given up.
struct Merge<'a, M> {
    to: &'a mut M,
    goes_on: &'a dyn Fn() -> bool,
    names: usize,
}

impl<M: Merged> Merge<'_, M> {
    /// Merges layers, topmost first, into the empty directory `made`.
    fn run(mut self, lowers: &[PathBuf], made: M::Directory, place: &Place<'_>) -> Result<End> {
        let opened = lowers.iter().enumerate();
        let opened = opened.map(|(lower, path)| Ok(Layer { directory: super::open(path)?, lower }));
        let opened = opened.collect::<Result<Vec<_>>>()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let below = place.below.map(|view| view.lookup(Path::new("/"), flags)).transpose();
        let below = below.map_err(|source| tree::Error::lookup("/", source))?;
        // Overlay does not look at the mark of a root: what it hides is not in the chain.
        if !self.directory(&opened, below.as_ref(), &made, place.target)? {
            return Ok(End::GivenUp);
        }
        self.to.finish(&super::open(place.root)?, Hides::Nothing, &made, place.target)?;
        Ok(End::Whole)
    }

    /// Merges what is in a directory of several layers, of which what is opaque is the last. `below` is what is seen
    /// through it of layers that are not merged. Says whether to go on.
    fn directory(&mut self, stack: &[Layer], below: Option<&OwnedFd>, to: &M::Directory, shown: &Path) -> Result<bool> {
        let failed = |source: Errno| super::Error::from(tree::Error::io("merge layers in", shown, source));
        let mut seen: HashSet<CString> = HashSet::new();
        for (depth, from) in stack.iter().enumerate() {
            for entry in Dir::read_from(&from.directory).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") || seen.contains(name) {
                    continue;
                }
                self.names += 1;
                if self.names.is_multiple_of(BATCH) && !(self.goes_on)() {
                    return Ok(false);
                }
                let path = Path::new(OsStr::from_bytes(name.to_bytes()));
                let found = Metadata::at(from.directory.as_fd(), path).map_err(failed)?;
                match found.kind() {
                    _ if found.is_whiteout() => {
                        if has(below, path).map_err(failed)? {
                            self.to.mark(name, to, shown)?;
                        }
                    }
                    FileType::Directory => {
                        if !self.in_directory(&stack[depth..], below, name, (to, shown))? {
                            return Ok(false);
                        }
                    }
                    _ => self.to.take(from, name, &found, to, shown)?,
                }
                // The last layer hides nothing.
                if depth + 1 < stack.len() {
                    seen.insert(name.to_owned());
                }
            }
        }
        Ok(true)
    }

    /// Merges a directory of these layers, which the first of them has.
    fn in_directory(
        &mut self,
        layers: &[Layer],
        below: Option<&OwnedFd>,
        name: &CStr,
        (to, shown): (&M::Directory, &Path),
    ) -> Result<bool> {
        let path = shown.join(OsStr::from_bytes(name.to_bytes()));
        let failed = |source: Errno| super::Error::from(tree::Error::io("merge layers in", &path, source));
        let (mut stack, mut hides) = (Vec::new(), Hides::Nothing);
        let mut below = match below.map(|below| open_directory(below.as_fd(), name)).transpose() {
            Ok(below) => below,
            // What is no directory is not seen through one.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
            Err(source) => return Err(failed(source)),
        };
        for layer in layers {
            match open_directory(layer.directory.as_fd(), name) {
                Ok(directory) => {
                    let is_last = tree::is_opaque(directory.as_fd());
                    stack.push(Layer { directory, lower: layer.lower });
                    if is_last {
                        hides = Hides::Below;
                        break;
                    }
                }
                Err(Errno::NOENT) => {}
                // Something else of that name hides what is below it.
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    hides = Hides::Below;
                    break;
                }
                Err(source) => return Err(failed(source)),
            }
        }
        // Where nothing is below there is nothing to hide.
        match (hides, &below) {
            (Hides::Below, Some(_)) => below = None,
            _ => hides = Hides::Nothing,
        }
        let made = self.to.directory(to, name, &path)?;
        if !self.directory(&stack, below.as_ref(), &made, &path)? {
            return Ok(false);
        }
        self.to.finish(&stack[0].directory, hides, &made, &path)?;
        Ok(true)
    }
}

/// Says whether a name is there.
fn has(directory: Option<&OwnedFd>, name: &Path) -> Result<bool, Errno> {
    match directory.map(|directory| Metadata::at(directory.as_fd(), name)).transpose() {
        Ok(found) => Ok(found.is_some()),
        Err(Errno::NOENT) => Ok(false),
        Err(source) => Err(source),
    }
}

fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}
