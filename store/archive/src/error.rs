//! What can go wrong with an archive, with the place where it did.
//! Names from archives are bytes; [`Name`] shows them safely on a terminal.

use std::fmt;
use std::io;

/// A path out of an archive or a tree: bytes, relative to the root.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub Vec<u8>);

/// Why an archive could not be read, applied, made or verified.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source of the archive failed, or its compressed form is damaged.
    #[error("cannot read the archive")]
    Read {
        /// The cause.
        source: io::Error,
    },
    /// The destination of the archive failed.
    #[error("cannot write the archive")]
    Write {
        /// The cause.
        source: io::Error,
    },
    /// The archive ends in the middle of an entry.
    #[error("the archive is truncated at byte {offset}")]
    Truncated {
        /// Bytes read until then.
        offset: u64,
    },
    /// A header block or one of its extensions is malformed.
    #[error("bad tar header at byte {offset}: {reason}")]
    Header {
        /// Where the header starts.
        offset: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A well-formed entry asks for something that is refused.
    #[error("archive entry {path}: {reason}")]
    Entry {
        /// The entry.
        path: Name,
        /// Why it is refused.
        reason: &'static str,
    },
    /// A directory would have to go for something else, or something else for a directory.
    #[error("cannot overwrite {} {path} with {}", kind_of(!is_directory), kind_of(*is_directory))]
    Overwrite {
        /// What is there.
        path: Name,
        /// The entry is a directory.
        is_directory: bool,
    },
    /// A hard link names something that this layer does not hold.
    #[error("archive entry {path}: hard link target {target} is not in this archive")]
    LinkTarget {
        /// The link.
        path: Name,
        /// What it should link to.
        target: Name,
    },
    /// The archive is larger than allowed.
    #[error("the archive exceeds the limit of {limit} {what}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The tree cannot be read or written.
    #[error("cannot {action} {path}")]
    Disk {
        /// What was attempted.
        action: &'static str,
        /// On what, relative to the root of the tree.
        path: Name,
        /// The cause.
        source: io::Error,
    },
    /// A node of the tree has no form in an archive.
    #[error("{path} cannot be archived: {reason}")]
    Unarchivable {
        /// The node.
        path: Name,
        /// Why.
        reason: String,
    },
    /// A file is not what the table of contents says.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: Name,
        /// What differs.
        reason: &'static str,
    },
    /// A stored table of contents cannot be decoded.
    #[error("bad table of contents: {reason}")]
    Toc {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// What another store says an archive is made of makes no sense.
    #[error("bad recipe of an archive: {reason}")]
    Recipe {
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Error {
    pub(crate) fn disk(action: &'static str, path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Disk { action, path: Name(path.to_vec()), source: source.into() }
    }

    pub(crate) fn entry(path: &[u8], reason: &'static str) -> Self {
        Self::Entry { path: Name(path.to_vec()), reason }
    }
}

fn kind_of(is_directory: bool) -> &'static str {
    if is_directory { "directory" } else { "non-directory" }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("/");
        }
        // A hostile name may be a mebibyte long.
        let shown = &self.0[..self.0.len().min(300)];
        for character in String::from_utf8_lossy(shown).chars() {
            match character.is_control() {
                true => write!(f, "{}", character.escape_default())?,
                false => write!(f, "{character}")?,
            }
        }
        if shown.len() < self.0.len() { f.write_str("...") } else { Ok(()) }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}
