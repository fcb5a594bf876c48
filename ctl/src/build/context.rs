//! The build context on this side: one walk gives a Merkle tree; directories and contents are sent when asked for.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;

use prost::Message;
use strata_dockerfile::ignore::IgnoreFile;
use strata_proto::builder::v1 as pb;

use super::attributes::{self, Attributes};
use super::index::{Index, Stamp};
use super::walk::{self, Directory, Entry, walk};

/// Cannot read the context.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {} of the build context", path.display())]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

/// A scanned context.
#[derive(Debug, Default)]
pub struct Context {
    /// Digest of the top directory.
    pub root: [u8; 32],
    top: PathBuf,
    directories: HashMap<[u8; 32], pb::ContextDirectory>,
    files: HashMap<[u8; 32], PathBuf>,
    /// What is in no digest, by the path of the directory.
    details: HashMap<Vec<u8>, pb::DirectoryDetails>,
    /// Numbers of files with several names, by device and inode.
    same: HashMap<(u64, u64), u64>,
}

/// An entry, its time of last change in nanoseconds, and its number if it has several names.
type Found = (pb::ContextEntry, i64, u64);

impl Context {
    /// Walks the directory `top`, leaving out what `ignore` excludes. What is known of it is read meanwhile; what is not is
    /// read then, on all cores.
    pub fn scan(top: &Path, ignore: &IgnoreFile) -> Result<Self, Error> {
        let (index, found) = thread::scope(|scope| {
            let index = scope.spawn(|| Index::open(top));
            let found = walk(top, ignore);
            (index.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), found)
        });
        let (mut index, found) = (index, found?);
        let files = found.iter().flat_map(|directory| {
            let files = directory.entries.iter().filter(|entry| entry.metadata.is_file());
            files.map(|entry| (directory.below(&entry.name), stamp(&entry.metadata), directory.path.join(&entry.name)))
        });
        index.learn(files);
        let mut context = Self { top: top.to_owned(), ..Self::default() };
        let (root, _) = context.directory(&found, 0, &mut index)?;
        context.root = root;
        index.save();
        Ok(context)
    }

    /// A directory by digest.
    pub fn get(&self, digest: &[u8]) -> Option<&pb::ContextDirectory> {
        self.directories.get(digest)
    }

    /// The details of the directory at this path.
    pub fn details(&self, path: &[u8]) -> Option<&pb::DirectoryDetails> {
        self.details.get(path)
    }

    /// A file with this content.
    pub fn file(&self, blake3: &[u8]) -> Option<&Path> {
        self.files.get(blake3).map(PathBuf::as_path)
    }

    /// Adds a directory and all below it. Returns its digest, and whether anything is in it.
    fn directory(&mut self, all: &[Directory], number: usize, index: &mut Index) -> Result<([u8; 32], bool), Error> {
        let found = &all[number];
        let mut entries = Vec::with_capacity(found.entries.len());
        let mut details = pb::DirectoryDetails { modified_ns: modified(&found.metadata), ..Default::default() };
        for one in &found.entries {
            if let Some((entry, modified, same)) = self.entry(all, found, one, index)? {
                entries.push(entry);
                details.entries_modified_ns.push(modified);
                details.same_file.push(same);
            }
        }
        if details.same_file.iter().all(|same| *same == 0) {
            details.same_file.clear();
        }
        let is_empty = entries.is_empty();
        let directory = pb::ContextDirectory { entries };
        let digest = *blake3::hash(&directory.encode_to_vec()).as_bytes();
        self.directories.insert(digest, directory);
        let inside = found.path.strip_prefix(&self.top).unwrap_or(&found.path);
        self.details.insert(inside.as_os_str().as_bytes().to_vec(), details);
        Ok((digest, !is_empty))
    }

    fn entry(
        &mut self,
        all: &[Directory],
        parent: &Directory,
        found: &Entry,
        index: &mut Index,
    ) -> Result<Option<Found>, Error> {
        let path = parent.path.join(&found.name);
        let failed = |source| Error { path: path.clone(), source };
        let metadata = &found.metadata;
        let kind = metadata.file_type();
        let mut attributes = Attributes::new();
        let node = if let Some(number) = found.directory {
            let (digest, has_entries) = self.directory(all, number, index)?;
            if found.is_excluded && !has_entries {
                return Ok(None);
            }
            attributes = attributes::of_path(&path).map_err(failed)?;
            pb::context_entry::Node::Directory(digest.to_vec().into())
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(failed)?;
            pb::context_entry::Node::Symlink(target.as_os_str().as_bytes().to_vec().into())
        } else if kind.is_file() {
            let stamp = stamp(metadata);
            let known = index.look(parent.below(&found.name), stamp, || fs::File::open(&path)).map_err(failed)?;
            let file = pb::ContextFile { blake3: known.digest.to_vec().into(), size_bytes: stamp.size };
            self.files.insert(known.digest, path);
            attributes = known.attributes;
            pb::context_entry::Node::File(file)
        } else if kind.is_socket() {
            // Nobody would listen on it: an empty file takes its place.
            let empty = *blake3::hash(b"").as_bytes();
            pb::context_entry::Node::File(pb::ContextFile { blake3: empty.to_vec().into(), size_bytes: 0 })
        } else {
            let (device, kind) = (metadata.rdev(), metadata.mode() & !0o7777);
            let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
            pb::context_entry::Node::Special(pb::ContextSpecial { r#type: kind, major, minor })
        };
        let same = match found.directory.is_none() && metadata.nlink() > 1 {
            true => {
                let next = self.same.len() as u64 + 1;
                *self.same.entry((metadata.dev(), metadata.ino())).or_insert(next)
            }
            false => 0,
        };
        let name = found.name.as_bytes().to_vec().into();
        let attributes = attributes.into_iter().map(|(name, value)| pb::ContextAttribute { name, value: value.into() });
        let entry = pb::ContextEntry {
            name,
            mode: metadata.mode() & 0o7777,
            node: Some(node),
            attributes: attributes.collect(),
        };
        Ok(Some((entry, modified(metadata), same)))
    }
}

impl From<walk::Failure> for Error {
    fn from(walk::Failure { path, source }: walk::Failure) -> Self {
        Self { path, source }
    }
}

/// Time of last change, in nanoseconds since 1970.
fn modified(metadata: &fs::Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec())
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    Stamp {
        size: metadata.len(),
        changed: metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec()),
        modified: modified(metadata),
        inode: metadata.ino(),
    }
}
