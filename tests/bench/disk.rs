//! The disk that images are loaded to: ext4 with a journal, in a file of its own.
//!
//! The file system of the machine may have none, and then what is unpacked soon after much was deleted takes ten times as
//! long: a figure of that file system, and of the order of the engines, not of what is measured.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nix::mount::umount;

use crate::{Outcome, room};

/// Sparse: it takes what is written to it.
const SIZE: u64 = 24 << 30;

/// A mounted disk; its file is left to the directory that it is in.
pub(crate) struct Disk {
    path: PathBuf,
    is_mounted: bool,
}

impl Disk {
    /// Makes and mounts it in a directory.
    pub(crate) fn new(dir: &Path) -> Outcome<Self> {
        let (file, path) = (dir.join("disk.img"), dir.join("disk"));
        fs::File::create(&file)?.set_len(SIZE)?;
        fs::create_dir(&path)?;
        let mut make = Command::new("mkfs.ext4");
        make.args(["-q", "-F", "-O", "has_journal", "-E", "lazy_itable_init=0,lazy_journal_init=0"]).arg(&file);
        room::finish(make)?;
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(&file).arg(&path);
        room::finish(mount)?;
        Ok(Self { path, is_mounted: true })
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Unmounts it. Its device goes with the last namespace that has it, the peers' one.
    pub(crate) fn close(mut self) -> Outcome<()> {
        self.is_mounted = false;
        umount(&self.path).map_err(|err| format!("cannot unmount {}: {err}", self.path.display()).into())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted {
            // close() would have said why not; this is for the ways that did not get there.
            let _ = umount(&self.path);
        }
    }
}
