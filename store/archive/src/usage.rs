//! What a directory takes of the disk.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// Bytes of the disk that are below a directory; what cannot be seen is not counted.
pub fn disk_usage(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => found.blocks() * 512 + disk_usage(&entry.path()),
        Ok(found) => found.blocks() * 512 / found.nlink().max(1),
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}
