//! The order in which things reach the disk: temporary file, data, rename, directory. Nowhere else in the store.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::{Error, Result};

/// A file that is being written; dropped, it is gone.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
    file: File,
    is_placed: bool,
}

/// Whether data must be on disk before the file gets its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Yes, and the name before the call returns.
    Now,
    /// A `syncfs` follows before anything durable refers to it.
    Later,
}

impl Temporary {
    /// Makes a new file.
    pub fn create(path: PathBuf) -> Result<Self> {
        let file = File::create_new(&path).map_err(|source| Error::io("make", &path, source))?;
        Ok(Self { path, file, is_placed: false })
    }

    /// Takes over a file that is there.
    pub fn adopt(path: PathBuf, file: File) -> Self {
        Self { path, file, is_placed: false }
    }

    /// Takes the room for `size` bytes now, so that a full disk shows at the start.
    pub fn reserve(&self, size: u64) -> Result<()> {
        reserve(&self.file, &self.path, size)
    }

    /// Opens it once more, for whoever reads what is there already.
    pub fn reader(&self) -> Result<File> {
        File::open(&self.path).map_err(|source| Error::io("open", &self.path, source))
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|source| Error::io("write", &self.path, source))
    }

    /// Gives the file its name. A file that has it already is kept: names here are digests.
    pub fn place(mut self, target: &Path, sync: Sync) -> Result<()> {
        if sync == Sync::Now {
            // A failed fsync loses the file: the kernel may have dropped the pages, and a second one would say OK.
            self.file.sync_data().map_err(|source| Error::io("sync", &self.path, source))?;
        }
        let parent = target.parent().unwrap_or(Path::new("/"));
        let placed = match rename_new(&self.path, target) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                make_directory(parent, sync)?;
                rename_new(&self.path, target)
            }
            result => result,
        };
        match placed {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
                // Replaced, not trusted: whose bytes are there is unknown, ours were just checked.
                fs::rename(&self.path, target).map_err(|source| Error::io("rename to", target, source))?;
            }
            result => result?,
        }
        self.is_placed = true;
        if sync == Sync::Now { sync_directory(parent) } else { Ok(()) }
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Self::write(self, bytes).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_placed {
            // What cannot be unlinked here goes at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Takes the room for the first `size` bytes of a file, whose length stays.
pub fn reserve(file: &File, path: &Path, size: u64) -> Result<()> {
    if size == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, size) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(source) => Err(Error::io("reserve room for", path, source)),
    }
}

fn rename_new(from: &Path, to: &Path) -> Result<()> {
    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
        .map_err(|source| Error::io("rename to", to, source))
}

/// Makes one directory, mode 0700, unless it is there.
pub fn make_directory(path: &Path, sync: Sync) -> Result<()> {
    match rustix::fs::mkdirat(CWD, path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(source) => return Err(Error::io("make directory", path, source)),
    }
    match (sync, path.parent()) {
        (Sync::Now, Some(parent)) => sync_directory(parent),
        _ => Ok(()),
    }
}

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|source| Error::io("sync directory", path, source))
}

/// Deletes a file, or a directory with all below it; that it is gone already is no error.
pub fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("delete", path, error)),
        _ => Ok(()),
    }
}

/// Names in a directory, as text; others than text were not made here and come lossy.
pub fn names(directory: &Path) -> Result<Vec<String>> {
    let failed = |source| Error::io("list", directory, source);
    fs::read_dir(directory)
        .map_err(failed)?
        .map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Tells ext4 that the directories below `path` are unrelated, so that it spreads them. Best effort.
pub fn spread_directories(path: &Path) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(directory) = rustix::fs::openat(CWD, path, flags, Mode::empty()) else { return };
    if let Ok(flags) = rustix::fs::ioctl_getflags(&directory) {
        // Other file systems refuse the flag; it only places blocks.
        let _ = rustix::fs::ioctl_setflags(&directory, flags | rustix::fs::IFlags::TOPDIR);
    }
}

/// Says whether there is anything at a path.
pub fn exists(path: &Path) -> bool {
    rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}
