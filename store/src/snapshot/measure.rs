//! How much of the disk a snapshot's writable layer has. Its holder may be writing to it: names are looked up by descriptor, and
//! what cannot be seen is not counted.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use strata_types::SnapshotKey;

use super::{export::found, stub};
use crate::catalog::blocking;
use crate::{Error, Result, Store};

/// Directories below each other that are looked into: each is open while those below it are.
const DEPTH: usize = 128;

/// Bytes of the disk that what was written to each of some snapshots has. Those that are gone are left out.
pub async fn measure(store: &Arc<Store>, keys: Vec<SnapshotKey>) -> Result<Vec<(SnapshotKey, u64)>> {
    let mut measured = Vec::with_capacity(keys.len());
    for key in keys {
        let row = match found(store, &key).await {
            Err(Error::SnapshotNotFound { .. } | Error::SnapshotCommitted { .. }) => continue,
            row => row?,
        };
        let upper = store.paths.snapshot(row.directory).join("upper");
        let bytes = blocking(move || {
            // Made when it is first needed.
            let Ok(root) = stub::root(&upper) else { return Ok::<_, Error>(0) };
            let mut seen = HashSet::new();
            Ok(below(root.as_fd(), DEPTH, &mut seen))
        })
        .await?;
        measured.push((key, bytes));
    }
    Ok(measured)
}

/// Bytes below a directory, each file once however many names it has.
fn below(directory: BorrowedFd<'_>, depth: usize, seen: &mut HashSet<u64>) -> u64 {
    let Ok(entries) = Dir::read_from(directory) else { return 0 };
    let mut bytes = 0;
    for entry in entries.flatten() {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(found) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let is_directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        if found.st_nlink > 1 && !is_directory && !seen.insert(found.st_ino) {
            continue;
        }
        bytes += u64::try_from(found.st_blocks).unwrap_or(0) * 512;
        if !is_directory || depth == 0 {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(child) = rustix::fs::openat(directory, name, flags, Mode::empty()) {
            bytes += below(child.as_fd(), depth - 1, seen);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_once_and_links_are_not_followed() {
        let base = tempfile::tempdir_in("/var/tmp").unwrap();
        let (tree, other) = (base.path().join("tree"), base.path().join("other"));
        std::fs::create_dir_all(tree.join("sub")).unwrap();
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("large"), vec![1; 1 << 20]).unwrap();
        std::fs::write(tree.join("sub/file"), vec![1; 100_000]).unwrap();
        std::fs::hard_link(tree.join("sub/file"), tree.join("twin")).unwrap();
        std::os::unix::fs::symlink(&other, tree.join("link")).unwrap();

        let root = stub::root(&tree).unwrap();
        let bytes = below(root.as_fd(), DEPTH, &mut HashSet::new());

        assert!((100_000..200_000).contains(&bytes), "{bytes}");
        assert!(below(root.as_fd(), 0, &mut HashSet::new()) < bytes + 1);
    }
}
