//! The build context on this side: one walk gives a Merkle tree; directories and contents are sent when asked for.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use prost::Message;
use strata_dockerfile::ignore::{IgnoreFile, Match};
use strata_proto::builder::v1 as pb;

use super::attributes::{self, Attributes};
use super::index::{Index, Stamp};

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
    /// Walks the directory `top`, leaving out what `ignore` excludes.
    pub fn scan(top: &Path, ignore: &IgnoreFile) -> Result<Self, Error> {
        let mut index = Index::open(top);
        let mut context = Self { top: top.to_owned(), ..Self::default() };
        let (root, _) = context.directory(top, &mut String::new(), ignore, &mut index)?;
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
    fn directory(
        &mut self,
        path: &Path,
        relative: &mut String,
        ignore: &IgnoreFile,
        index: &mut Index,
    ) -> Result<([u8; 32], bool), Error> {
        let failed = |source| Error { path: path.to_owned(), source };
        let mut names: Vec<fs::DirEntry> =
            fs::read_dir(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
        names.sort_by_key(fs::DirEntry::file_name);
        let mut entries = Vec::with_capacity(names.len());
        let modified_ns = fs::symlink_metadata(path).map(|metadata| modified(&metadata)).map_err(failed)?;
        let mut details = pb::DirectoryDetails { modified_ns, ..Default::default() };
        for found in names {
            let before = relative.len();
            if before > 0 {
                relative.push('/');
            }
            relative.push_str(&found.file_name().to_string_lossy());
            if let Some((entry, modified, same)) = self.entry(&found, relative, ignore, index)? {
                entries.push(entry);
                details.entries_modified_ns.push(modified);
                details.same_file.push(same);
            }
            relative.truncate(before);
        }
        if details.same_file.iter().all(|same| *same == 0) {
            details.same_file.clear();
        }
        let is_empty = entries.is_empty();
        let directory = pb::ContextDirectory { entries };
        let digest = *blake3::hash(&directory.encode_to_vec()).as_bytes();
        self.directories.insert(digest, directory);
        let inside = path.strip_prefix(&self.top).unwrap_or(path);
        self.details.insert(inside.as_os_str().as_bytes().to_vec(), details);
        Ok((digest, !is_empty))
    }

    fn entry(
        &mut self,
        found: &fs::DirEntry,
        relative: &mut String,
        ignore: &IgnoreFile,
        index: &mut Index,
    ) -> Result<Option<Found>, Error> {
        let path = found.path();
        let failed = |source| Error { path: path.clone(), source };
        let kind = found.file_type().map_err(failed)?;
        let is_excluded = match ignore.matches(relative) {
            Match::Included => false,
            Match::Excluded { whole } if whole || !kind.is_dir() => return Ok(None),
            Match::Excluded { .. } => true,
        };
        let metadata = found.metadata().map_err(failed)?;
        let mut attributes = Attributes::new();
        let node = if kind.is_dir() {
            let (digest, has_entries) = self.directory(&path, relative, ignore, index)?;
            if is_excluded && !has_entries {
                return Ok(None);
            }
            attributes = attributes::of_path(&path).map_err(failed)?;
            pb::context_entry::Node::Directory(digest.to_vec().into())
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(failed)?;
            pb::context_entry::Node::Symlink(target.as_os_str().as_bytes().to_vec().into())
        } else if kind.is_file() {
            let stamp = stamp(&metadata);
            let known = index.look(relative.as_bytes(), stamp, || fs::File::open(&path)).map_err(failed)?;
            self.files.insert(known.digest, path.clone());
            attributes = known.attributes;
            let file = pb::ContextFile { blake3: known.digest.to_vec().into(), size_bytes: stamp.size };
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
        let same = match !kind.is_dir() && metadata.nlink() > 1 {
            true => {
                let next = self.same.len() as u64 + 1;
                *self.same.entry((metadata.dev(), metadata.ino())).or_insert(next)
            }
            false => 0,
        };
        let name = found.file_name().as_bytes().to_vec().into();
        let attributes = attributes.into_iter().map(|(name, value)| pb::ContextAttribute { name, value: value.into() });
        let entry = pb::ContextEntry {
            name,
            mode: metadata.mode() & 0o7777,
            node: Some(node),
            attributes: attributes.collect(),
        };
        Ok(Some((entry, modified(&metadata), same)))
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
