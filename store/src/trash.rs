//! The trash: what is deleted is renamed into it, which is all that anybody waits for. Unlinking comes behind, some names
//! at a time with rests between them, so that whoever reads and writes is not slowed down; a start takes up what the
//! last process left. Where room is short, or somebody waits for it, there are no rests.

use std::fs;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use strata_rpc::{Drain, fault::chain};
use tokio::sync::Notify;

use crate::catalog::blocking;
use crate::{Error, Result, Store};

/// Names that are unlinked between two rests.
const BATCH: usize = 128;
/// A rest is so many times as long as the work before it.
const REST: u32 = 3;
/// The longest rest: the end of the service waits for it.
const LONGEST_REST: Duration = Duration::from_millis(50);
/// Directories below each other that are open at a time; what is deeper is emptied later, from the trash itself.
const DEPTH: usize = 32;
/// One part in so many of the room is little.
const LITTLE_ROOM: u64 = 10;
/// Attempts at a directory that others still write to.
const ATTEMPTS: usize = 4;

/// What was deleted and is not unlinked yet.
#[derive(Clone, Debug)]
pub struct Trash {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    woken: Notify,
    sweeping: tokio::sync::Mutex<()>,
    /// How many wait until all is gone.
    waiting: AtomicUsize,
}

/// How a sweep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// Nothing is left of what was there when it began.
    All,
    /// It was stopped, or something cannot be unlinked.
    Part,
}

impl Trash {
    /// The trash in this directory, which exists on the file system of all that is discarded.
    pub fn new(directory: PathBuf) -> Self {
        let (woken, sweeping, waiting) = (Notify::new(), tokio::sync::Mutex::new(()), AtomicUsize::new(0));
        Self { inner: Arc::new(Inner { directory, woken, sweeping, waiting }) }
    }

    /// Moves a file or directory away, so that its name is free at once; says whether there was one.
    pub fn discard(&self, path: &Path) -> Result<bool> {
        let target = self.inner.directory.join(crate::lease::random_text(16));
        match fs::rename(path, &target) {
            Ok(()) => {
                self.inner.woken.notify_one();
                Ok(true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Error::io("move to the trash", path, source)),
        }
    }

    /// Unlinks everything now, for those who want the room.
    pub async fn empty(&self) -> Result<Swept> {
        self.inner.waiting.fetch_add(1, Ordering::Relaxed);
        let swept = self.sweep(|_| ControlFlow::Continue(())).await;
        self.inner.waiting.fetch_sub(1, Ordering::Relaxed);
        swept
    }

    /// Unlinks what is there, one sweep at a time. `rest` is called after every [`BATCH`] names, with the time that
    /// they took, and may end it.
    async fn sweep(&self, rest: impl FnMut(Duration) -> ControlFlow<()> + Send + 'static) -> Result<Swept> {
        let _turn = self.inner.sweeping.lock().await;
        let directory = self.inner.directory.clone();
        blocking(move || Sweep::new(&directory, rest)?.run()).await
    }

    /// How long to rest after so much work.
    fn rest(&self, worked: Duration) -> Duration {
        let is_urgent = self.inner.waiting.load(Ordering::Relaxed) > 0 || self.has_little_room();
        if is_urgent { Duration::ZERO } else { (worked * REST).min(LONGEST_REST) }
    }

    fn has_little_room(&self) -> bool {
        // Where it is not known, there is enough.
        rustix::fs::statvfs(&self.inner.directory).is_ok_and(|found| {
            found.f_bavail < found.f_blocks / LITTLE_ROOM
                || (found.f_files > 0 && found.f_favail < found.f_files / LITTLE_ROOM)
        })
    }
}

/// Empties the trash in the background, until the service stops: first of what the last process left.
pub async fn run(store: Arc<Store>, drain: Drain) {
    let trash = store.trash.clone();
    loop {
        let busy = store.idle.busy();
        let (paced, token) = (trash.clone(), drain.token().clone());
        let swept = trash.sweep(move |worked| {
            std::thread::sleep(paced.rest(worked));
            if token.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if let Err(error) = swept.await {
            // What is left is tried again with whatever comes next, and at the next start.
            tracing::warn!("cannot empty the trash: {}", chain(&error));
        }
        drop(busy);
        tokio::select! {
            () = drain.cancelled() => return,
            () = trash.inner.woken.notified() => {}
        }
    }
}

/// One walk through the trash.
struct Sweep<'a, R> {
    path: &'a Path,
    trash: OwnedFd,
    rest: R,
    unlinked: usize,
    since: Instant,
    is_stopped: bool,
    failures: usize,
    /// Why the first thing could not be unlinked.
    failure: Option<Error>,
}

impl<'a, R: FnMut(Duration) -> ControlFlow<()>> Sweep<'a, R> {
    fn new(path: &'a Path, rest: R) -> Result<Self> {
        let trash = open(CWD, path).map_err(|source| Error::io("open", path, source))?;
        Ok(Self {
            path,
            trash,
            rest,
            unlinked: 0,
            since: Instant::now(),
            is_stopped: false,
            failures: 0,
            failure: None,
        })
    }

    fn run(mut self) -> Result<Swept> {
        let trash = self.trash.try_clone().map_err(|source| Error::io("open", self.path, source))?;
        // What was too deep comes up into the trash, and is met in the next round.
        let mut before = usize::MAX;
        loop {
            self.empty(&trash, 0);
            let left = crate::disk::names(self.path)?.len();
            if left == 0 || self.is_stopped || (left >= before && self.failure.is_some()) {
                break match (left, self.failure) {
                    (0, _) => Ok(Swept::All),
                    (_, Some(error)) if !self.is_stopped => Err(error),
                    _ => Ok(Swept::Part),
                };
            }
            before = left;
        }
    }

    /// Unlinks what is in a directory. What cannot be is left, with the reason.
    fn empty(&mut self, directory: &OwnedFd, depth: usize) {
        let entries = match Dir::read_from(directory) {
            Ok(entries) => entries,
            Err(source) => return self.fail(source),
        };
        for entry in entries {
            if self.is_stopped {
                return;
            }
            let entry = match entry {
                Ok(entry) => entry,
                Err(source) => return self.fail(source),
            };
            let name = entry.file_name();
            if name.to_bytes() != b"." && name.to_bytes() != b".." {
                self.unlink(directory.as_fd(), name, entry.file_type(), depth);
            }
        }
    }

    fn unlink(&mut self, parent: BorrowedFd<'_>, name: &std::ffi::CStr, kind: FileType, depth: usize) {
        if kind != FileType::Directory {
            match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
                // Some file systems do not say what is a directory.
                Err(Errno::ISDIR) => {}
                done => return self.count(done),
            }
        }
        for _ in 0..ATTEMPTS {
            match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                done => return self.count(done),
            }
            if depth >= DEPTH {
                let up = crate::lease::random_text(16);
                return self.count(rustix::fs::renameat(parent, name, &self.trash, up));
            }
            let failures = self.failures;
            match open(parent, name) {
                Ok(directory) => self.empty(&directory, depth + 1),
                Err(source) => return self.count(Err(source)),
            }
            if self.is_stopped || self.failures > failures {
                return;
            }
        }
        self.count(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR));
    }

    fn count(&mut self, done: rustix::io::Result<()>) {
        match done {
            Ok(()) | Err(Errno::NOENT) => self.unlinked += 1,
            Err(source) => return self.fail(source),
        }
        if self.unlinked.is_multiple_of(BATCH) {
            self.is_stopped = (self.rest)(self.since.elapsed()).is_break();
            self.since = Instant::now();
        }
    }

    fn fail(&mut self, source: Errno) {
        self.failures += 1;
        self.failure.get_or_insert_with(|| Error::io("unlink what is in", self.path, source));
    }
}

fn open(parent: BorrowedFd<'_>, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests;
