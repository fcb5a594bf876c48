//! Trees: what a stack of layers looks like from inside, and new layers written over it.
//!
//! Reading goes through [`View`], a detached read-only overlay that lives as long as its descriptor; no
//! function here leaves a mount in a namespace. Every lookup is confined to the view's root by `openat2`.

mod copy;
mod entry;
#[cfg(test)]
mod laws;
mod legacy;
mod links;
mod list;
mod pattern;
mod place;
mod read;
mod resolve;
mod view;
mod write;

use std::io;
use std::path::{Path, PathBuf};

pub use entry::Metadata;
pub(crate) use entry::{Xattrs, is_portable, xattrs};
#[cfg(test)]
pub(crate) use list::names;
pub use list::{Hashes, Listed, list};
pub use read::open_file;
pub(crate) use resolve::{copy_attributes, is_opaque, timestamps};
pub use view::View;
pub use write::{Entry, Made, Owner, Plan, Source, Time, TreeCopy, write};

/// Why a tree could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error("cannot {attempt} {}", path.display())]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Nothing is there.
    #[error("no such path {}", path.display())]
    PathNotFound {
        /// The path asked for.
        path: PathBuf,
    },
    /// Something else than a directory is there.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// The path asked for.
        path: PathBuf,
    },
    /// A link is where a directory shall go.
    #[error(
        "{} is a symbolic link, and a directory that is copied does not go through links", path.display()
    )]
    LinkInTheWay {
        /// The path of the link.
        path: PathBuf,
    },
    /// Something else than a regular file is there, or a directory would have to go.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The path asked for.
        path: PathBuf,
    },
    /// The file is larger than the caller allows.
    #[error("{} has {size} bytes, more than {limit}", path.display())]
    TooLarge {
        /// The path asked for.
        path: PathBuf,
        /// Size of the file in bytes.
        size: u64,
        /// Largest size allowed.
        limit: u64,
    },
    /// A path or pattern that can name nothing.
    #[error("invalid path {path:?}: {reason}")]
    InvalidPath {
        /// The text given.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No layer and no staged file has this content.
    #[error("no content {blake3}")]
    ContentNotFound {
        /// Digest of the content, in hex.
        blake3: String,
    },
    /// An archive cannot be unpacked.
    #[error("cannot unpack archive {blake3}")]
    Archive {
        /// Digest of the archive, in hex.
        blake3: String,
        /// Why.
        source: Box<strata_archive::Error>,
    },
}

impl Error {
    /// Wraps an error of the kernel.
    pub(crate) fn io(attempt: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self::Io { attempt, path: path.as_ref().to_path_buf(), source: source.into() }
    }

    /// Wraps an error of a lookup: what is absent gets its own variant.
    pub(crate) fn lookup(path: impl AsRef<Path>, source: rustix::io::Errno) -> Self {
        let path = path.as_ref().to_path_buf();
        match source {
            rustix::io::Errno::NOENT => Self::PathNotFound { path },
            rustix::io::Errno::NOTDIR => Self::NotADirectory { path },
            _ => Self::Io { attempt: "look up", path, source: source.into() },
        }
    }
}

/// Result of tree operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;
