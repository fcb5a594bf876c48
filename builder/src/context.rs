//! The build context as the builder sees it: a tree of digests, fetched where a step looks.
//! Nothing of it is copied; what a COPY selects is a list of entries with the digests of their contents.

mod select;

use std::sync::Arc;

use prost::Message;
use strata_proto::builder::v1 as pb;

use crate::error::Error;
use crate::session::Session;

pub use select::{Item, Selected, Walk, modified, select};

/// A blake3 digest.
pub type Blake3 = [u8; 32];

/// A directory of the context.
#[derive(Debug, Default)]
pub struct Directory {
    /// Ordered by name.
    pub entries: Vec<Entry>,
}

/// One name in a directory.
#[derive(Debug, Clone)]
pub struct Entry {
    /// File name, never empty, "." or "..", without "/".
    pub name: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub node: Node,
    /// Extended attributes.
    pub attributes: Attributes,
}

/// Extended attributes: names and values, ordered by name.
pub type Attributes = Vec<(String, Vec<u8>)>;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File {
        /// Digest of its content.
        blake3: Blake3,
        /// Size in bytes.
        size: u64,
    },
    /// A directory, by digest.
    Directory(Blake3),
    /// A symbolic link.
    Symlink(Vec<u8>),
    /// A device or a FIFO.
    Special(Special),
}

/// A device or a FIFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Special {
    /// Type bits of `st_mode`.
    pub kind: u32,
    /// Major number of a device.
    pub major: u32,
    /// Minor number of a device.
    pub minor: u32,
}

/// What decides about no cache, but belongs to a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Time of last change of the directory, in nanoseconds since 1970.
    pub modified: i64,
    /// Those of its entries, in their order, and which of them are names of one file: equal numbers, but 0.
    pub entries: Vec<(i64, u64)>,
}

impl Directory {
    /// Reads an encoded directory and refuses what could mean something outside it.
    pub fn decode(encoding: &[u8]) -> Result<Self, Error> {
        let wrong = |problem: &str| Error::Context { problem: problem.to_owned() };
        let message = pb::ContextDirectory::decode(encoding).map_err(|_| wrong("a directory that cannot be read"))?;
        let mut entries: Vec<Entry> = Vec::with_capacity(message.entries.len());
        for entry in message.entries {
            let name = entry.name.to_vec();
            if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
                return Err(wrong("a directory with a name that is none"));
            }
            if entries.last().is_some_and(|last| last.name >= name) {
                return Err(wrong("a directory whose names are not in order"));
            }
            let node = match entry.node {
                Some(pb::context_entry::Node::File(file)) => {
                    Node::File { blake3: digest(&file.blake3)?, size: file.size_bytes }
                }
                Some(pb::context_entry::Node::Directory(directory)) => Node::Directory(digest(&directory)?),
                Some(pb::context_entry::Node::Symlink(target)) => Node::Symlink(target.to_vec()),
                Some(pb::context_entry::Node::Special(special)) => {
                    let pb::ContextSpecial { r#type: kind, major, minor } = special;
                    // Character device, block device, FIFO.
                    if !matches!(kind, 0o020_000 | 0o060_000 | 0o010_000) {
                        return Err(wrong("a directory with an entry of an unknown type"));
                    }
                    Node::Special(Special { kind, major, minor })
                }
                None => return Err(wrong("a directory with an entry that is nothing")),
            };
            let attributes = entry.attributes.into_iter().map(|one| (one.name, one.value.to_vec())).collect();
            entries.push(Entry { name, mode: entry.mode & 0o7777, node, attributes });
        }
        Ok(Self { entries })
    }

    /// The entry of this name.
    pub fn get(&self, name: &[u8]) -> Option<&Entry> {
        self.entries.binary_search_by(|entry| entry.name.as_slice().cmp(name)).ok().map(|at| &self.entries[at])
    }
}

/// Reads a digest of 32 bytes.
pub fn digest(bytes: &[u8]) -> Result<Blake3, Error> {
    bytes.try_into().map_err(|_| Error::Context { problem: "a digest that is not 32 bytes long".to_owned() })
}

/// Whoever can fetch directories: the session, or a test.
pub trait Directories: Sync {
    /// Several directories in one round trip.
    fn fetch(&self, digests: &[Blake3])
    -> impl std::future::Future<Output = Result<Vec<Arc<Directory>>, Error>> + Send;
}

/// Whoever knows the details of directories: the session, or a test.
pub trait Describes: Directories {
    /// Details of the directories at these paths of a context, in one round trip.
    fn details(
        &self,
        context: &str,
        paths: Vec<Vec<u8>>,
    ) -> impl std::future::Future<Output = Result<Vec<Details>, Error>> + Send;
}

impl Describes for Arc<Session> {
    async fn details(&self, context: &str, paths: Vec<Vec<u8>>) -> Result<Vec<Details>, Error> {
        Session::details(self, context, paths).await
    }
}

impl Directories for Arc<Session> {
    async fn fetch(&self, digests: &[Blake3]) -> Result<Vec<Arc<Directory>>, Error> {
        self.directories(digests).await
    }
}
