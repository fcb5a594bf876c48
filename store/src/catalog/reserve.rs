//! Space put aside for the catalog: on a full disk what removes things must still be able to say so.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, ftruncate, statvfs};

/// Bytes put aside: many times what one operation adds to the write-ahead log.
const SIZE: u64 = 1 << 20;

/// A file that is only there to be given back.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    /// None: it could not be made. Then a full disk is a full disk.
    file: Option<File>,
    is_held: bool,
}

impl Reserve {
    /// Puts space aside next to the catalog.
    pub fn open(catalog: &Path) -> Self {
        let mut name = catalog.as_os_str().to_owned();
        name.push("-reserve");
        let path = PathBuf::from(name);
        let file = File::options().create(true).truncate(false).write(true).open(&path).ok();
        let mut reserve = Self { path, file, is_held: false };
        reserve.restore();
        reserve
    }

    /// Gives the space back when there is hardly any left. For operations that free more than they take.
    pub fn lend(&mut self) {
        let Some(file) = &self.file else { return };
        if self.is_held && self.is_short(SIZE) && ftruncate(file, 0).is_ok() {
            self.is_held = false;
        }
    }

    /// Puts it aside again when there is enough.
    pub fn restore(&mut self) {
        let Some(file) = &self.file else { return };
        if !self.is_held && !self.is_short(4 * SIZE) {
            self.is_held = fallocate(file, FallocateFlags::empty(), 0, SIZE).is_ok();
        }
    }

    fn is_short(&self, of: u64) -> bool {
        statvfs(&self.path).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < of)
    }
}
