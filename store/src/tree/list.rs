//! Listing a part of a view, with a digest for each entry: the raw material of cache keys for COPY --from.
//!
//! Hashes of file contents are remembered by inode, size and times: layers do not change under a running store.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::write::Time;
use super::{Error, Metadata, Result, View, entry, pattern};

/// How many contents are remembered; about 100 bytes each.
const REMEMBERED: usize = 200_000;

/// One entry of a view.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Absolute path in the view, as it was asked for.
    pub path: PathBuf,
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size of a regular file, else 0.
    pub size: u64,
    /// Time of last change.
    pub modified: Time,
    /// Digest of content and attributes, not times.
    pub digest: blake3::Hash,
    /// Target of a symbolic link.
    pub target: Vec<u8>,
}

/// Contents hashed before.
#[derive(Debug, Default)]
pub struct Hashes {
    known: Mutex<HashMap<Identity, blake3::Hash>>,
}

/// What does not change as long as a content does not.
type Identity = (u64, u64, (i64, u32), (i64, u32));

impl Hashes {
    /// Hashes an open regular file.
    fn hash(&self, file: BorrowedFd<'_>, metadata: &Metadata) -> std::io::Result<blake3::Hash> {
        let identity = (metadata.inode, metadata.size, metadata.modified, metadata.changed);
        if let Some(hash) = self.known.lock().unwrap_or_else(|poison| poison.into_inner()).get(&identity) {
            return Ok(*hash);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(std::fs::File::from(file.try_clone_to_owned()?))?;
        let hash = hasher.finalize();
        let mut known = self.known.lock().unwrap_or_else(|poison| poison.into_inner());
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(identity, hash);
        Ok(hash)
    }
}

/// Lists what matches an absolute pattern, ordered by path; with all below matching directories if `recursive`.
///
/// A symbolic link that matches stands for what it points to, as in COPY; links found below stay links.
pub fn list(view: &View, pattern: &Path, recursive: bool, hashes: &Hashes) -> Result<Vec<Listed>> {
    let mut listed = Vec::new();
    for path in expand(view, pattern)? {
        let Some(found) = open_top(view, &path)? else { continue };
        let metadata = Metadata::of(&found).map_err(|source| Error::lookup(&path, source))?;
        let readable = match metadata.kind() {
            FileType::RegularFile | FileType::Directory => view
                .lookup(&path, OFlags::RDONLY | OFlags::NONBLOCK)
                .map_err(|source| Error::io("open", &path, source))?,
            _ => found,
        };
        listed.push(describe(&readable, Path::new(""), path.clone(), &metadata, hashes)?);
        if recursive && metadata.kind() == FileType::Directory {
            walk(&readable, &path, hashes, &mut listed)?;
        }
    }
    if listed.is_empty() {
        return Err(Error::PathNotFound { path: pattern.to_path_buf() });
    }
    listed.sort_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
    listed.dedup_by(|a, b| a.path == b.path);
    Ok(listed)
}

/// Opens a match, following a link unless it dangles.
pub(super) fn open_top(view: &View, path: &Path) -> Result<Option<OwnedFd>> {
    match view.lookup(path, OFlags::PATH) {
        Err(Errno::NOENT) => {}
        other => return other.map(Some).map_err(|source| Error::lookup(path, source)),
    }
    match view.lookup(path, OFlags::PATH | OFlags::NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        other => other.map(Some).map_err(|source| Error::lookup(path, source)),
    }
}

/// Turns a pattern into the paths that it matches; a path without wildcards comes back as it is.
fn expand(view: &View, wanted: &Path) -> Result<Vec<PathBuf>> {
    let invalid = |reason| Error::InvalidPath { path: wanted.to_path_buf(), reason };
    if wanted.as_os_str().as_bytes().contains(&0) {
        return Err(invalid("it holds a NUL"));
    }
    let mut paths = vec![PathBuf::from("/")];
    for component in wanted.components() {
        match component {
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => paths.iter_mut().for_each(|path| {
                path.pop();
            }),
            Component::Normal(name) if !pattern::is_pattern(name.as_bytes()) => {
                paths.iter_mut().for_each(|path| path.push(name));
            }
            Component::Normal(name) => {
                pattern::matches(name.as_bytes(), b"").ok_or_else(|| invalid("malformed pattern"))?;
                let mut matching = Vec::new();
                for path in paths {
                    matching.extend(match_names(view, &path, name.as_bytes()).map_err(|error| match error {
                        None => invalid("malformed pattern"),
                        Some(error) => error,
                    })?);
                }
                paths = matching;
            }
        }
    }
    Ok(paths)
}

/// Lists the names in one directory that match; `None` as error for a malformed pattern.
fn match_names(view: &View, directory: &Path, wanted: &[u8]) -> Result<Vec<PathBuf>, Option<Error>> {
    let opened = match view.lookup(directory, OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        other => other.map_err(|source| Error::lookup(directory, source))?,
    };
    let mut matching = Vec::new();
    for name in names(opened.as_fd(), directory)? {
        if pattern::matches(wanted, name.as_bytes()).ok_or(None)? {
            matching.push(directory.join(name));
        }
    }
    Ok(matching)
}

/// Reads the names in a directory, ordered.
pub(crate) fn names(directory: BorrowedFd<'_>, path: &Path) -> Result<Vec<OsString>> {
    let failed = |source: Errno| Error::io("read directory", path, source);
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    names.sort();
    Ok(names)
}

fn walk(directory: &OwnedFd, path: &Path, hashes: &Hashes, listed: &mut Vec<Listed>) -> Result<()> {
    for name in names(directory.as_fd(), path)? {
        let name = Path::new(&name);
        let below = path.join(name);
        let metadata = match Metadata::at(directory.as_fd(), name) {
            // Overlay lists a whiteout that has nothing below it, but does not find it.
            Err(Errno::NOENT) => continue,
            other => other.map_err(|source| Error::lookup(&below, source))?,
        };
        let flags = match metadata.kind() {
            FileType::RegularFile => OFlags::RDONLY | OFlags::NONBLOCK,
            FileType::Directory => OFlags::RDONLY | OFlags::DIRECTORY,
            _ => {
                listed.push(describe(directory, name, below, &metadata, hashes)?);
                continue;
            }
        };
        let opened = rustix::fs::openat(directory, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .map_err(|source| Error::io("open", &below, source))?;
        listed.push(describe(&opened, Path::new(""), below.clone(), &metadata, hashes)?);
        if metadata.kind() == FileType::Directory {
            walk(&opened, &below, hashes, listed)?;
        }
    }
    Ok(())
}

/// Describes one entry: `file` itself when `name` is empty, else what it holds under that name.
fn describe(file: &OwnedFd, name: &Path, path: PathBuf, metadata: &Metadata, hashes: &Hashes) -> Result<Listed> {
    let failed = |source: std::io::Error| Error::io("read", &path, source);
    let mut metadata = metadata.clone();
    if matches!(metadata.kind(), FileType::RegularFile | FileType::Directory) {
        metadata.take_kept_owner(file.as_fd());
    }
    let (mut attributes, mut content, mut target) = (Vec::new(), Vec::new(), Vec::new());
    match metadata.kind() {
        FileType::RegularFile => {
            attributes = entry::xattrs(file.as_fd()).map_err(failed)?;
            content = hashes.hash(file.as_fd(), &metadata).map_err(failed)?.as_bytes().to_vec();
        }
        FileType::Directory => attributes = entry::xattrs(file.as_fd()).map_err(failed)?,
        FileType::Symlink => {
            target = rustix::fs::readlinkat(file, name, Vec::new()).map_err(|errno| failed(errno.into()))?.into_bytes();
            content = target.clone();
        }
        _ => {}
    }
    Ok(Listed {
        digest: entry::digest(&metadata, &attributes, &content),
        mode: metadata.mode,
        uid: metadata.uid,
        gid: metadata.gid,
        modified: metadata.modified.into(),
        size: if metadata.kind() == FileType::RegularFile { metadata.size } else { 0 },
        target,
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let base = tempfile::tempdir().unwrap();
        for directory in ["usr/lib/x", "usr/lib-y"] {
            std::fs::create_dir_all(base.path().join(directory)).unwrap();
        }
        std::fs::write(base.path().join("usr/lib/x/one.txt"), "1").unwrap();
        std::fs::write(base.path().join("usr/lib/two.txt"), "2").unwrap();
        std::os::unix::fs::symlink("usr/lib", base.path().join("lib")).unwrap();
        base
    }

    fn paths(base: &Path, pattern: &str, recursive: bool) -> Vec<String> {
        let view = View::open(&[], base).unwrap();
        let listed = list(&view, Path::new(pattern), recursive, &Hashes::default()).unwrap();
        listed.into_iter().map(|entry| entry.path.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_listing_is_ordered_by_path_and_follows_only_the_link_asked_for() {
        let base = tree();

        assert_eq!(paths(base.path(), "/lib", true), ["/lib", "/lib/two.txt", "/lib/x", "/lib/x/one.txt"]);
        assert_eq!(paths(base.path(), "/usr/l*", false), ["/usr/lib", "/usr/lib-y"]);
        assert_eq!(paths(base.path(), "/*/*/*.txt", false), ["/lib/x/one.txt", "/usr/lib/two.txt"]);
        assert_eq!(paths(base.path(), "/", false), ["/"]);
    }

    #[test]
    fn what_matches_nothing_is_not_found() {
        let base = tree();
        let view = View::open(&[], base.path()).unwrap();
        let listed = |pattern: &str| list(&view, Path::new(pattern), false, &Hashes::default());

        assert!(matches!(listed("/none"), Err(Error::PathNotFound { .. })));
        assert!(matches!(listed("/usr/z*"), Err(Error::PathNotFound { .. })));
        assert!(matches!(listed("/usr/[]"), Err(Error::InvalidPath { .. })));
    }

    #[test]
    fn a_digest_changes_with_the_content_but_not_with_the_time() {
        let base = tree();
        let view = View::open(&[], base.path()).unwrap();
        let hashes = Hashes::default();
        let digest = || list(&view, Path::new("/usr/lib/two.txt"), false, &hashes).unwrap()[0].digest;
        let before = digest();
        let file = std::fs::File::options().write(true).open(base.path().join("usr/lib/two.txt")).unwrap();

        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(before, digest());
        std::fs::write(base.path().join("usr/lib/two.txt"), "3").unwrap();
        assert_ne!(before, digest());
    }
}
