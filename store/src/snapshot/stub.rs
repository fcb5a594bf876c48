//! Mount stubs: files and directories that a runtime had to make so that something could be mounted on them.
//!
//! They are removed from a writable layer before it becomes a layer, where nobody has changed them since, and so are
//! directories that are in it only because a stub was made in them. Nothing follows a link here.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use crate::tree::{self, Metadata, View};

/// A directory's time may be this much newer than the stub made in it and still come from making it.
const SAME_MOMENT: i128 = 20_000_000;

/// One stub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stub {
    /// Absolute path in the root file system.
    pub path: PathBuf,
    /// Inode number that it was made with.
    pub inode: u64,
}

/// Removes stubs from the writable layer `upper` over the view `below`.
pub(super) fn remove(upper: &Path, below: &View, stubs: &[Stub]) -> tree::Result<()> {
    let root = root(upper)?;
    // Of each directory that had a stub: its time before, and when its newest stub was made.
    let mut parents: BTreeMap<PathBuf, (i128, i128)> = BTreeMap::new();
    let mut stubs = stubs.to_vec();
    // What is in a directory goes before it.
    stubs.sort_by(|a, b| b.path.cmp(&a.path));
    for stub in &stubs {
        let Some(relative) = relative(&stub.path) else { continue };
        let parent = relative.parent().map(Path::to_path_buf).unwrap_or_default();
        let Some(directory) = open(root.as_fd(), &parent)? else { continue };
        let before = nanoseconds(&directory, &parent)?;
        let Some(made) = remove_one(&directory, &relative, stub.inode)? else { continue };
        let entry = parents.entry(parent).or_insert((before, made));
        entry.1 = entry.1.max(made);
    }
    // Deepest first, so that a directory is empty when its turn comes.
    for (path, (before, made)) in parents.iter().rev() {
        restore(root.as_fd(), below, path, *before, *made)?;
    }
    Ok(())
}

/// Opens a writable layer.
pub(super) fn root(upper: &Path) -> tree::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(upper, flags, Mode::empty()).map_err(|e| tree::Error::io("open", upper, e))
}

/// Stubs of a writable layer that are as they were made.
#[derive(Debug, Default)]
pub(super) struct Stubs {
    /// Relative paths of them.
    untouched: BTreeSet<PathBuf>,
    /// When the newest stub in each directory was made.
    parents: BTreeMap<PathBuf, i128>,
}

impl Stubs {
    /// Whether this is one.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.untouched.contains(path)
    }

    /// Whether the time of a directory is that of a stub made in it.
    pub(super) fn explain(&self, path: &Path, modified: (i64, u32)) -> bool {
        let modified = i128::from(modified.0) * 1_000_000_000 + i128::from(modified.1);
        self.parents.get(path).is_some_and(|made| modified - made <= SAME_MOMENT)
    }
}

/// Finds the stubs of a writable layer that nobody has changed, and that have nothing in them but such; and the directories that
/// are in it only because a stub was made in them.
pub(super) fn untouched(root: BorrowedFd<'_>, below: &View, stubs: &[Stub]) -> tree::Result<Stubs> {
    let mut found = Stubs::default();
    let mut stubs = stubs.to_vec();
    // What is in a directory before it.
    stubs.sort_by(|a, b| b.path.cmp(&a.path));
    for stub in &stubs {
        let Some(path) = relative(&stub.path) else { continue };
        let parent = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let Some(directory) = open(root, &parent)? else { continue };
        let name = path.file_name().unwrap_or(OsStr::new("."));
        let failed = |source: Errno| tree::Error::io("read", &path, source);
        let metadata = match Metadata::at(directory.as_fd(), Path::new(name)) {
            Err(Errno::NOENT) => continue,
            other => other.map_err(failed)?,
        };
        let is_untouched = metadata.inode == stub.inode
            && match metadata.kind() {
                FileType::Directory => has_only(root, &path, &found)?,
                FileType::RegularFile => metadata.size == 0,
                _ => false,
            };
        if is_untouched {
            let made = born(&directory, name).map_err(failed)?;
            let newest = found.parents.entry(parent).or_insert(made);
            *newest = made.max(*newest);
            found.untouched.insert(path);
        }
    }
    // Deepest first, up to what has more in it.
    let parents: Vec<PathBuf> = found.parents.keys().rev().cloned().collect();
    for parent in parents {
        let mut path = parent;
        while !path.as_os_str().is_empty() && is_way(root, below, &path, &found)? {
            found.untouched.insert(path.clone());
            path = path.parent().map(Path::to_path_buf).unwrap_or_default();
        }
    }
    Ok(found)
}

/// Whether a directory was copied up only on the way to a stub.
fn is_way(root: BorrowedFd<'_>, below: &View, path: &Path, stubs: &Stubs) -> tree::Result<bool> {
    if !has_only(root, path, stubs)? {
        return Ok(false);
    }
    let Some(directory) = open(root, path)? else { return Ok(false) };
    let original = original(below, path)?;
    let Some((_, metadata)) = &original else { return Ok(false) };
    let now = Metadata::of(&directory).map_err(|source| tree::Error::io("read", path, source))?;
    let is_of_then = now.modified == metadata.modified || stubs.explain(path, now.modified);
    Ok(is_of_then && is_copied_up(&directory, original.as_ref(), path)?)
}

/// Whether nothing but untouched stubs is in a directory.
fn has_only(root: BorrowedFd<'_>, path: &Path, stubs: &Stubs) -> tree::Result<bool> {
    let Some(directory) = open(root, path)? else { return Ok(false) };
    let failed = |source| tree::Error::io("list", path, source);
    for entry in rustix::fs::Dir::read_from(&directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." && !stubs.has(&path.join(name)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// When something was made, in nanoseconds.
fn born(directory: &OwnedFd, name: &OsStr) -> Result<i128, Errno> {
    let born = rustix::fs::statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME)?;
    Ok(i128::from(born.stx_btime.tv_sec) * 1_000_000_000 + i128::from(born.stx_btime.tv_nsec))
}

/// Makes a path relative; `None` for one that cannot name a stub.
fn relative(path: &Path) -> Option<PathBuf> {
    let mut relative = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => relative.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(relative).filter(|relative| !relative.as_os_str().is_empty())
}

/// Opens a directory below a root; `None` when there is none, or a link is in the way.
pub(super) fn open(root: BorrowedFd<'_>, path: &Path) -> tree::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(source) => Err(tree::Error::io("open", path, source)),
    }
}

/// Removes one stub if it is as it was made; returns when that was.
fn remove_one(directory: &OwnedFd, path: &Path, inode: u64) -> tree::Result<Option<i128>> {
    let name = path.file_name().unwrap_or(OsStr::new("."));
    let failed = |source: Errno| tree::Error::io("remove mount stub", path, source);
    let metadata = match Metadata::at(directory.as_fd(), Path::new(name)) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.map_err(failed)?,
    };
    if metadata.inode != inode {
        return Ok(None);
    }
    let flags = match metadata.kind() {
        FileType::Directory => AtFlags::REMOVEDIR,
        FileType::RegularFile if metadata.size == 0 => AtFlags::empty(),
        _ => return Ok(None),
    };
    let born = born(directory, name).map_err(failed)?;
    match rustix::fs::unlinkat(directory, name, flags) {
        Ok(()) => Ok(Some(born)),
        Err(Errno::NOTEMPTY | Errno::NOENT) => Ok(None),
        Err(source) => Err(failed(source)),
    }
}

fn nanoseconds(directory: &OwnedFd, path: &Path) -> tree::Result<i128> {
    let metadata = Metadata::of(directory).map_err(|source| tree::Error::io("read", path, source))?;
    Ok(i128::from(metadata.modified.0) * 1_000_000_000 + i128::from(metadata.modified.1))
}

/// Undoes what making and removing stubs did to a directory and those above it.
fn restore(root: BorrowedFd<'_>, below: &View, path: &Path, before: i128, made: i128) -> tree::Result<()> {
    let Some(directory) = open(root, path)? else { return Ok(()) };
    let original = original(below, path)?;
    let time = match original {
        Some((_, metadata)) if before - made <= SAME_MOMENT => metadata.modified,
        _ => ((before.div_euclid(1_000_000_000)) as i64, before.rem_euclid(1_000_000_000) as u32),
    };
    set_time(&directory, time, path)?;
    drop(directory);
    prune(root, below, path)
}

/// Removes directories that were copied up only on the way to a stub, from `path` upwards.
fn prune(root: BorrowedFd<'_>, below: &View, path: &Path) -> tree::Result<()> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let Some(directory) = open(root, path)? else { return Ok(()) };
    let original = original(below, path)?;
    let unchanged = match &original {
        Some((_, metadata)) => {
            let now = Metadata::of(&directory).map_err(|source| tree::Error::io("read", path, source))?;
            // A copied-up parent that nothing was made in keeps its time.
            now.modified == metadata.modified && is_copied_up(&directory, original.as_ref(), path)?
        }
        None => false,
    };
    if !unchanged {
        return Ok(());
    }
    let parent_path = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let Some(parent) = open(root, &parent_path)? else { return Ok(()) };
    let metadata = Metadata::of(&parent).map_err(|source| tree::Error::io("read", &parent_path, source))?;
    match rustix::fs::unlinkat(&parent, path.file_name().unwrap_or(OsStr::new(".")), AtFlags::REMOVEDIR) {
        Ok(()) => {
            set_time(&parent, metadata.modified, &parent_path)?;
            prune(root, below, &parent_path)
        }
        Err(Errno::NOTEMPTY) => Ok(()),
        Err(source) => Err(tree::Error::io("remove", path, source)),
    }
}

/// Opens the same directory below, if there is one.
fn original(below: &View, path: &Path) -> tree::Result<Option<(OwnedFd, Metadata)>> {
    let found = match open(below.root(), path)? {
        Some(found) => found,
        None => return Ok(None),
    };
    let metadata = Metadata::of(&found).map_err(|source| tree::Error::io("read", path, source))?;
    Ok(Some((found, metadata)))
}

/// Says whether a directory of the layer has the attributes of the one below, and hides nothing of it.
fn is_copied_up(directory: &OwnedFd, original: Option<&(OwnedFd, Metadata)>, path: &Path) -> tree::Result<bool> {
    let Some((original, metadata)) = original else { return Ok(false) };
    let failed = |source: io::Error| tree::Error::io("read", path, source);
    let now = Metadata::of(directory).map_err(|source| failed(source.into()))?;
    let same = (now.mode, now.uid, now.gid) == (metadata.mode, metadata.uid, metadata.gid);
    Ok(same
        && !tree::is_opaque(directory.as_fd())
        && tree::xattrs(directory.as_fd()).map_err(failed)? == tree::xattrs(original.as_fd()).map_err(failed)?)
}

fn set_time(directory: &OwnedFd, modified: (i64, u32), path: &Path) -> tree::Result<()> {
    rustix::fs::futimens(directory, &tree::timestamps(modified.into()))
        .map_err(|source| tree::Error::io("set the time of", path, source))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    /// A base with an old /etc/sub, and a layer with copies of both directories.
    fn trees() -> (tempfile::TempDir, View, PathBuf) {
        let base = tempfile::tempdir_in("/var/tmp").unwrap();
        let (low, upper) = (base.path().join("low"), base.path().join("upper"));
        for tree in [&low, &upper] {
            fs::create_dir_all(tree.join("etc/sub")).unwrap();
            for directory in ["etc/sub", "etc"] {
                age(&tree.join(directory));
            }
        }
        let view = View::open(&[low], &{
            let empty = base.path().join("empty");
            fs::create_dir(&empty).unwrap();
            empty
        })
        .unwrap();
        (base, view, upper)
    }

    fn age(path: &Path) {
        fs::File::open(path).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(1000)).unwrap();
    }

    fn stub(upper: &Path, path: &str) -> Stub {
        let inode = fs::symlink_metadata(upper.join(path.trim_start_matches('/'))).unwrap().ino();
        Stub { path: path.into(), inode }
    }

    #[test]
    fn a_stub_goes_with_the_directories_that_were_copied_up_for_it() {
        let (_base, view, upper) = trees();
        fs::write(upper.join("etc/sub/hosts"), "").unwrap();
        fs::create_dir(upper.join("proc")).unwrap();

        remove(&upper, &view, &[stub(&upper, "/etc/sub/hosts"), stub(&upper, "/proc")]).unwrap();

        assert_eq!(fs::read_dir(&upper).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_with_other_changes_stays_with_its_old_time() {
        let (_base, view, upper) = trees();
        fs::write(upper.join("etc/passwd"), "changed in place").unwrap();
        age(&upper.join("etc"));
        fs::write(upper.join("etc/hosts"), "").unwrap();

        remove(&upper, &view, &[stub(&upper, "/etc/hosts")]).unwrap();

        assert!(upper.join("etc/passwd").exists() && !upper.join("etc/hosts").exists());
        assert_eq!(fs::metadata(upper.join("etc")).unwrap().mtime(), 1000);
    }

    #[test]
    fn what_was_written_to_replaced_or_filled_stays() {
        let (base, view, upper) = trees();
        let outside = base.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "").unwrap();
        fs::write(upper.join("etc/written"), "x").unwrap();
        fs::create_dir_all(upper.join("full/child")).unwrap();
        std::os::unix::fs::symlink(&outside, upper.join("link")).unwrap();
        let inode = fs::metadata(outside.join("file")).unwrap().ino();
        let replaced = Stub { path: "/etc/sub".into(), inode: 1 };
        let through_link = Stub { path: "/link/file".into(), inode };
        let up = Stub { path: "/../outside/file".into(), inode };

        let stubs = [stub(&upper, "/etc/written"), stub(&upper, "/full"), replaced, through_link, up];
        remove(&upper, &view, &stubs).unwrap();

        assert!(upper.join("etc/written").exists() && upper.join("full/child").exists());
        assert!(upper.join("etc/sub").exists() && outside.join("file").exists());
    }
}
