//! What is in a volume: looked at, written as an archive, and replaced as a whole. All of it is blocking.

use std::{
    fs,
    io::{Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use strata_archive::{ApplyOptions, Whiteouts, disk_usage};
use strata_init::quota;

use super::{NEW, Volume, remove_tree};
use crate::{
    error::{Error, VolumeError},
    record::Durability,
};

/// Whether somebody has what is in a volume mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounted {
    /// Somebody has: the directory must stay the same one.
    Yes,
    /// Nobody has.
    No,
}

impl Volume {
    /// The directory that has the content.
    fn root(&self) -> PathBuf {
        let place = self.place();
        place.device.unwrap_or(place.directory)
    }

    /// Refused where the files are not the directory's.
    fn check_here(&self) -> Result<(), Error> {
        match self.file_system() {
            None => Ok(()),
            Some(found) => {
                Err(VolumeError::Away { name: self.record.name.to_string(), kind: found.kind.clone() }.into())
            }
        }
    }

    /// Nothing is in it.
    pub fn is_empty(&self) -> Result<bool, Error> {
        self.check_here()?;
        let root = self.root();
        let mut entries = fs::read_dir(&root).map_err(|e| Error::io("read", root, e))?;
        Ok(entries.next().is_none())
    }

    /// Bytes of the disk that it has; none where its files are elsewhere.
    pub fn size(&self) -> Option<u64> {
        let is_here = self.file_system().is_none() && self.place().device.is_none();
        is_here.then(|| disk_usage(&self.data()))
    }

    /// Writes all of it as one tar. Containers may go on writing to it.
    pub fn export(&self, out: impl Write) -> Result<(), Error> {
        self.check_here()?;
        let root = open(&self.root())?;
        strata_archive::export(root.as_fd(), out).map(drop).map_err(failed)
    }

    /// Puts what is in an archive in place of all that is there: at once or, on an error, not at all. Where somebody has it
    /// mounted, or it is a directory of the host, it is added to what is there, which should be nothing.
    pub fn replace(&self, archive: impl Read + Send, mounted: Mounted, durability: Durability) -> Result<(), Error> {
        let apply = |target: &Path| match self.size_limit() {
            None => apply(archive, target, durability),
            Some(_) => {
                let within = quota::within_limits(|| apply(archive, target, durability));
                within.map_err(|e| Error::io("fill within its limit", target, e))?
            }
        };
        if mounted == Mounted::Yes || self.place().device.is_some() {
            return apply(&self.root());
        }
        let (new, data) = (self.directory.join(NEW), self.data());
        fs::create_dir(&new).map_err(|e| Error::io("create", &new, e))?;
        let replaced = keep_root(&data, &new).and_then(|()| apply(&new)).and_then(|()| {
            let exchanged = rustix::fs::renameat_with(CWD, &new, CWD, &data, RenameFlags::EXCHANGE);
            exchanged.map_err(|e| Error::io("exchange", &data, e))
        });
        // It is what was there before, or what could not be made.
        let removed = remove_tree(&new);
        replaced.and(removed)
    }
}

/// Gives a new root the owner and the permissions of the old one: an archive need not say what they are.
fn keep_root(old: &Path, new: &Path) -> Result<(), Error> {
    let found = fs::metadata(old).map_err(|e| Error::io("look at", old, e))?;
    std::os::unix::fs::chown(new, Some(found.uid()), Some(found.gid())).map_err(|e| Error::io("own", new, e))?;
    fs::set_permissions(new, found.permissions()).map_err(|e| Error::io("restrict", new, e))
}

/// Puts the entries of an archive, which may be compressed, into a directory.
fn apply(archive: impl Read, target: &Path, durability: Durability) -> Result<(), Error> {
    let root = open(target)?;
    let options = ApplyOptions { whiteouts: Whiteouts::Literal, ..ApplyOptions::default() };
    let (_, plain) = strata_archive::decompress(archive).map_err(failed)?;
    strata_archive::apply(plain, root.as_fd(), &options).map_err(failed)?;
    match durability {
        // A volume that is not empty is never filled again: half of it must not be all that a power cut leaves.
        Durability::Synced => rustix::fs::syncfs(&root).map_err(|e| Error::io("sync", target, e)),
        Durability::Unsynced => Ok(()),
    }
}

fn open(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|e| match e {
        rustix::io::Errno::NOENT => Error::SourceNotFound { path: path.to_owned() },
        e => Error::io("open", path, e),
    })
}

/// What went wrong with an archive: what its source says of itself, where that is known.
fn failed(error: strata_archive::Error) -> Error {
    match error {
        strata_archive::Error::Read { source } => match source.downcast::<Error>() {
            Ok(error) => error,
            Err(source) => Error::Archive { source: strata_archive::Error::Read { source } },
        },
        source => Error::Archive { source },
    }
}
