//! The build context on this side: one walk gives a Merkle tree; directories and contents are sent when asked for.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use prost::Message;
use strata_dockerfile::ignore::{IgnoreFile, Match};
use strata_proto::builder::v1 as pb;

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
    directories: HashMap<[u8; 32], pb::ContextDirectory>,
    files: HashMap<[u8; 32], PathBuf>,
}

impl Context {
    /// Walks the directory `top`, leaving out what `ignore` excludes.
    pub fn scan(top: &Path, ignore: &IgnoreFile) -> Result<Self, Error> {
        let mut index = Index::open(top);
        let mut context = Self::default();
        let (root, _) = context.directory(top, &mut String::new(), ignore, &mut index)?;
        context.root = root;
        index.save();
        Ok(context)
    }

    /// A directory by digest.
    pub fn get(&self, digest: &[u8]) -> Option<&pb::ContextDirectory> {
        self.directories.get(digest)
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
        for found in names {
            let before = relative.len();
            if before > 0 {
                relative.push('/');
            }
            relative.push_str(&found.file_name().to_string_lossy());
            if let Some(entry) = self.entry(&found, relative, ignore, index)? {
                entries.push(entry);
            }
            relative.truncate(before);
        }
        let is_empty = entries.is_empty();
        let directory = pb::ContextDirectory { entries };
        let digest = *blake3::hash(&directory.encode_to_vec()).as_bytes();
        self.directories.insert(digest, directory);
        Ok((digest, !is_empty))
    }

    fn entry(
        &mut self,
        found: &fs::DirEntry,
        relative: &mut String,
        ignore: &IgnoreFile,
        index: &mut Index,
    ) -> Result<Option<pb::ContextEntry>, Error> {
        let path = found.path();
        let failed = |source| Error { path: path.clone(), source };
        let kind = found.file_type().map_err(failed)?;
        let is_excluded = match ignore.matches(relative) {
            Match::Included => false,
            Match::Excluded { whole } if whole || !kind.is_dir() => return Ok(None),
            Match::Excluded { .. } => true,
        };
        let metadata = found.metadata().map_err(failed)?;
        let node = if kind.is_dir() {
            let (digest, has_entries) = self.directory(&path, relative, ignore, index)?;
            if is_excluded && !has_entries {
                return Ok(None);
            }
            pb::context_entry::Node::Directory(digest.to_vec().into())
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(failed)?;
            pb::context_entry::Node::Symlink(target.as_os_str().as_bytes().to_vec().into())
        } else if kind.is_file() {
            let stamp = stamp(&metadata);
            let digest = index.digest(relative.as_bytes(), stamp, || fs::File::open(&path)).map_err(failed)?;
            self.files.insert(digest, path.clone());
            let file = pb::ContextFile { blake3: digest.to_vec().into(), size_bytes: stamp.size };
            pb::context_entry::Node::File(file)
        } else {
            // Sockets, pipes and devices cannot be copied into an image.
            return Ok(None);
        };
        let name = found.file_name().as_bytes().to_vec().into();
        Ok(Some(pb::ContextEntry { name, mode: metadata.mode() & 0o7777, node: Some(node) }))
    }
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    Stamp {
        size: metadata.len(),
        changed: metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec()),
        modified: metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()),
        inode: metadata.ino(),
    }
}
