//! Writing ahead: while layers come in, what has come is on its way to the disk already, so that the one `syncfs` at the
//! end finds little to do. Without, half of the time of a large image is a disk that everybody waits for.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use crate::catalog::blocking;
use crate::{Error, Result};

/// After so many bytes that came, compressed or not, the disk is told to begin.
const STEP: u64 = 16 << 20;

/// The way to the disk of a store.
#[derive(Debug)]
pub struct Flusher {
    root: PathBuf,
    directory: File,
    came: AtomicU64,
    is_running: AtomicBool,
    /// The error number of a failure. It stays: the kernel tells of lost pages once, and nobody knows whose they were.
    failure: AtomicI32,
}

impl Flusher {
    /// The one of the file system that `root` is on.
    pub fn open(root: &Path) -> Result<Arc<Self>> {
        let directory = File::open(root).map_err(|source| Error::io("open", root, source))?;
        Ok(Arc::new(Self::new(root, directory)))
    }

    fn new(root: &Path, directory: File) -> Self {
        let (came, is_running, failure) = Default::default();
        Self { root: root.to_path_buf(), directory, came, is_running, failure }
    }

    /// Counts bytes of a blob that came, and has the disk begin now and then. Does not wait.
    pub(crate) fn came(self: &Arc<Self>, bytes: u64) {
        let came = self.came.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if came < STEP || self.is_running.swap(true, Ordering::AcqRel) {
            return;
        }
        self.came.store(0, Ordering::Relaxed);
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            // Kept for those who ask for the sync that counts.
            let _ = this.write();
            this.is_running.store(false, Ordering::Release);
        });
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    ///
    /// The disk did not take it, now or on any earlier occasion since the store was opened: then nothing that is not
    /// durable yet can be trusted, until a restart has thrown it away.
    pub async fn sync(self: &Arc<Self>) -> Result<()> {
        let this = Arc::clone(self);
        blocking(move || {
            this.write()?;
            // One that ran beside this one may have been told instead.
            this.outcome()
        })
        .await
    }

    /// Bytes that came since the disk was told to begin.
    #[cfg(test)]
    pub(crate) fn unwritten(&self) -> u64 {
        self.came.load(Ordering::Relaxed)
    }

    fn write(&self) -> Result<()> {
        self.outcome()?;
        rustix::fs::syncfs(&self.directory).map_err(|errno| {
            self.failure.store(errno.raw_os_error(), Ordering::Release);
            Error::io("sync the file system of", &self.root, errno)
        })
    }

    fn outcome(&self) -> Result<()> {
        match self.failure.load(Ordering::Acquire) {
            0 => Ok(()),
            number => Err(Error::io(
                "write what was stored earlier (check the disk, then restart the store) to the file system of",
                &self.root,
                std::io::Error::from_raw_os_error(number),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags};

    use super::*;

    #[tokio::test]
    async fn a_failure_is_told_to_all_who_come_after_it() {
        let base = tempfile::tempdir().unwrap();
        // Not open for anything, so that syncing fails.
        let nothing = rustix::fs::open(base.path(), OFlags::PATH, Mode::empty()).unwrap();
        let flusher = Arc::new(Flusher::new(base.path(), nothing.into()));

        flusher.came(STEP);
        while flusher.is_running.load(Ordering::Acquire) {
            tokio::task::yield_now().await;
        }

        for _ in 0..2 {
            let error = flusher.sync().await.unwrap_err();
            assert!(error.to_string().contains("restart the store"), "{error}");
        }
    }

    #[tokio::test]
    async fn the_disk_begins_when_enough_has_come() {
        let base = tempfile::tempdir().unwrap();
        let flusher = Flusher::open(base.path()).unwrap();

        flusher.came(STEP - 1);
        assert_eq!(flusher.unwritten(), STEP - 1);
        flusher.came(1);

        assert_eq!(flusher.unwritten(), 0);
        flusher.sync().await.unwrap();
    }
}
