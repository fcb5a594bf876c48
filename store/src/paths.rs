//! Where things are below the root of a store, and the lock that keeps a second service out.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use strata_types::{Digest, LayerId};

use crate::disk::{self, Sync};
use crate::{Error, Result};

/// Paths of a store.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// Makes the directories of a store below `root`, those that are missing.
    pub fn create(root: &Path) -> Result<Self> {
        let paths = Self { root: root.to_path_buf() };
        std::fs::create_dir_all(root).map_err(|source| Error::io("make directory", root, source))?;
        std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o700))
            .map_err(|source| Error::io("restrict", root, source))?;
        let blobs = paths.root.join("blobs");
        for directory in [
            blobs.clone(),
            blobs.join("sha256"),
            paths.ingest(),
            paths.partials(),
            paths.layers(),
            paths.snapshots(),
            paths.cache_mounts(),
            paths.trash(),
            paths.quarantine(),
        ] {
            disk::make_directory(&directory, Sync::Now)?;
        }
        disk::spread_directories(&paths.layers());
        Ok(paths)
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The catalog.
    pub fn catalog(&self) -> PathBuf {
        self.root.join("catalog.db")
    }

    /// Directory of blobs, by the first byte of their digests.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    /// File of a blob.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.as_hex();
        self.blobs().join(&hex[..2]).join(hex)
    }

    /// Directory of uploads under way.
    pub fn ingest(&self) -> PathBuf {
        self.root.join("ingest")
    }

    /// Directory of blobs that are not whole yet, by boots of the host.
    pub fn partials(&self) -> PathBuf {
        self.root.join("partials")
    }

    /// Directory of layers.
    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// Directory of a layer.
    pub fn layer(&self, id: &LayerId) -> PathBuf {
        self.layers().join(id.as_str())
    }

    /// Directory of snapshots.
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// Directory of a snapshot: `upper`, and a `work` directory for every time it was acquired.
    pub fn snapshot(&self, directory: u64) -> PathBuf {
        self.snapshots().join(directory.to_string())
    }

    /// Directory of cache mounts.
    pub fn cache_mounts(&self) -> PathBuf {
        self.root.join("cache-mounts")
    }

    /// Directory of a cache mount: what is mounted is in `data`.
    pub fn cache_mount(&self, directory: u64) -> PathBuf {
        self.cache_mounts().join(directory.to_string())
    }

    /// What waits to be deleted.
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// Damaged blobs.
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }
}

/// Keeps a second service off the root for as long as it lives.
#[derive(Debug)]
pub struct Fence {
    _file: File,
}

impl Fence {
    /// Takes the lock, or says who has it.
    pub fn take(root: &Path) -> Result<Self> {
        let path = root.join("lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| Error::io("open", &path, source))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // Who it is only helps people; that somebody is there is known.
                let _ = file.read_to_string(&mut pid);
                let pid = Some(pid.trim().to_owned()).filter(|pid| !pid.is_empty());
                return Err(Error::RootLocked {
                    root: root.to_path_buf(),
                    pid: pid.unwrap_or_else(|| "unknown".to_owned()),
                });
            }
            Err(source) => return Err(Error::io("lock", &path, source)),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
        written.map_err(|source| Error::io("write", &path, source))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::IFlags;

    use super::*;

    /// The flags of the directory of layers below `base`, and the kind of its file system.
    fn flags(base: &str) -> (Option<IFlags>, i64) {
        let root = tempfile::tempdir_in(base).unwrap();
        let paths = Paths::create(&root.path().join("store")).unwrap();
        let layers = File::open(paths.layers()).unwrap();
        let kind = rustix::fs::fstatfs(&layers).unwrap().f_type;
        (rustix::fs::ioctl_getflags(&layers).ok(), kind)
    }

    /// EXT4_SUPER_MAGIC: statfs(2).
    const EXT4: i64 = 0xef53;

    #[test]
    fn layers_are_spread_over_the_groups_of_ext4_and_elsewhere_the_flag_is_no_matter() {
        let mut is_shown = false;
        for base in ["/var/tmp", "/tmp", "/dev/shm"] {
            let (flags, kind) = flags(base);
            if kind == EXT4 {
                assert!(flags.is_some_and(|flags| flags.contains(IFlags::TOPDIR)), "{base} has {flags:?}");
                is_shown = true;
            } else {
                assert!(flags.is_none_or(|flags| !flags.contains(IFlags::TOPDIR)), "{base} has {flags:?}");
            }
        }
        if !is_shown {
            eprintln!("skipped: none of the directories for tests is on ext4");
        }
    }

    #[test]
    fn the_flag_is_kept_by_the_next_start() {
        let root = tempfile::tempdir_in("/var/tmp").unwrap();
        let read = |paths: Paths| rustix::fs::ioctl_getflags(File::open(paths.layers()).unwrap()).ok();

        let first = read(Paths::create(root.path()).unwrap());

        assert_eq!(read(Paths::create(root.path()).unwrap()), first);
    }
}
