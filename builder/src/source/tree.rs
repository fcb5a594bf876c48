//! A tree that was checked out, on its way to the store.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use super::Failure;
use crate::context::Blake3;
use crate::error::Error;
use crate::peers::{Entry, Placement, Store};
use crate::session::Content;

/// How a file of Git LFS starts where only its pointer is in the repository.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";
/// Largest pointer, in bytes.
const LARGEST_POINTER: u64 = 1024;
/// Bytes per message of contents.
const CHUNK: usize = 256 << 10;

/// Files and links of a directory.
#[derive(Debug, Default)]
pub struct Tree {
    entries: Vec<Entry>,
    files: HashMap<Blake3, (PathBuf, u64)>,
    /// Paths of files that are pointers of Git LFS.
    pub pointers: Vec<String>,
}

impl Tree {
    /// Reads `directory` below `top`. Directories are 0755, files 0644, and 0755 where they can be executed.
    pub async fn read(top: PathBuf, directory: &str, keeps_git_dir: bool) -> Result<Self, Failure> {
        let place = inside(&top, directory)?;
        let read = move || {
            let mut tree = Self::default();
            tree.directory(&place, b"", keeps_git_dir)?;
            Ok(tree)
        };
        tokio::task::spawn_blocking(read).await.map_err(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Failure::Build(Error::Cancelled),
        })?
    }

    fn directory(&mut self, path: &Path, below: &[u8], keeps_git_dir: bool) -> Result<(), Failure> {
        let failed = |source| local("read", path, source);
        let mut names: Vec<fs::DirEntry> =
            fs::read_dir(path).map_err(failed)?.collect::<io::Result<_>>().map_err(failed)?;
        names.sort_by_key(fs::DirEntry::file_name);
        for found in names {
            // No tree of git holds this name: it is the repository's own, or a submodule's.
            if found.file_name() == ".git" && !keeps_git_dir {
                continue;
            }
            let mut below = below.to_vec();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(found.file_name().as_bytes());
            let path = found.path();
            let metadata = path.symlink_metadata().map_err(|source| local("look at", &path, source))?;
            let (placement, mode) = if metadata.is_dir() {
                (Placement::Directory { explicit: true }, Some(0o755))
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path).map_err(|source| local("read", &path, source))?;
                (Placement::Symlink(target.as_os_str().as_bytes().to_vec()), None)
            } else {
                let mode = if metadata.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
                (self.file(&path, &below, metadata.len())?, Some(mode))
            };
            self.entries.push(Entry {
                below: below.clone(),
                mode,
                owner: Some((0, 0)),
                ..Entry::new(b"/".to_vec(), placement)
            });
            if metadata.is_dir() {
                self.directory(&path, &below, keeps_git_dir)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, below: &[u8], size: u64) -> Result<Placement, Failure> {
        let read = || -> io::Result<(Blake3, bool)> {
            let mut file = fs::File::open(path)?;
            if size <= LARGEST_POINTER {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                return Ok((*blake3::hash(&bytes).as_bytes(), bytes.starts_with(POINTER)));
            }
            let mut hasher = blake3::Hasher::new();
            let mut buffer = vec![0; CHUNK];
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok((*hasher.finalize().as_bytes(), false)),
                    count => hasher.update(&buffer[..count]),
                };
            }
        };
        let (blake3, is_pointer) = read().map_err(|source| local("read", path, source))?;
        if is_pointer {
            self.pointers.push(String::from_utf8_lossy(below).into_owned());
        }
        self.files.insert(blake3, (path.to_owned(), size));
        Ok(Placement::File { blake3, size, same_file: 0 })
    }

    /// Brings the contents to the store, and gives what is to be written as a layer with nothing below it. `modified`: the time
    /// of everything in it.
    pub async fn store(
        mut self,
        modified: Option<Timestamp>,
        store: &Store,
        lease: &str,
    ) -> Result<Vec<Entry>, Failure> {
        for entry in &mut self.entries {
            entry.modified = modified.and_then(|at| at.as_nanosecond().try_into().ok());
        }
        let all: Vec<Blake3> = self.files.keys().copied().collect();
        let missing = store.missing(&all, lease).await?;
        if !missing.is_empty() {
            let (sender, receiver) = mpsc::channel(16);
            let sizes = self.files.iter().map(|(blake3, (_, size))| (*blake3, *size)).collect();
            let put = store.put_contents(receiver, sizes, lease);
            let (sent, stored) = tokio::join!(send(&self.files, missing, sender), put);
            sent?;
            stored?;
        }
        Ok(self.entries)
    }
}

async fn send(
    files: &HashMap<Blake3, (PathBuf, u64)>,
    missing: Vec<Blake3>,
    sender: mpsc::Sender<Content>,
) -> Result<(), Failure> {
    for digest in missing {
        let Some((path, _)) = files.get(&digest) else { continue };
        let failed = |source| local("read", path, source);
        let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
        let mut blake3 = Some(digest);
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            (&mut file).take(CHUNK as u64).read_to_end(&mut chunk).await.map_err(failed)?;
            let is_last = chunk.len() < CHUNK;
            let part = Content { blake3: blake3.take(), chunk: chunk.into(), is_last };
            // The store has failed, and says why.
            if sender.send(part).await.is_err() {
                return Ok(());
            }
            if is_last {
                break;
            }
        }
    }
    Ok(())
}

/// A directory below `top`, through directories only.
fn inside(top: &Path, directory: &str) -> Result<PathBuf, Failure> {
    let mut path = top.to_owned();
    for part in directory.split('/').filter(|part| !part.is_empty()) {
        path.push(part);
        let missing = || Failure::NoDirectory { path: directory.to_owned() };
        let metadata = path.symlink_metadata().map_err(|_| missing())?;
        // The repository's own directory is no part of the tree.
        if part == ".git" || part == ".." {
            return Err(missing());
        }
        if !metadata.is_dir() {
            return Err(Failure::NotADirectory { path: directory.to_owned(), part: part.to_owned() });
        }
    }
    Ok(path)
}

fn local(attempt: &'static str, path: &Path, source: io::Error) -> Failure {
    Failure::Local { attempt, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
