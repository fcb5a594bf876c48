//! Tells when something in the directory of a log changes.

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::fs::inotify;
use tokio::io::{Interest, unix::AsyncFd};

use crate::error::Error;

/// An inotify(7) of one directory.
pub struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    /// Begins to watch the directory of a log.
    pub fn new(path: &Path) -> Result<Self, Error> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        let failed = |e: io::Error| Error::io("watch", dir, e);
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let fd = inotify::init(flags).map_err(|e| failed(e.into()))?;
        let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVE;
        inotify::add_watch(&fd, dir, events).map_err(|e| failed(e.into()))?;
        #[expect(deprecated, reason = "the new form is unsafe to call; an OwnedFd never changes its descriptor")]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE).map_err(failed)?;
        Ok(Self(fd))
    }

    /// Waits until something has changed since it was last asked.
    pub async fn changed(&self) -> io::Result<()> {
        let mut ready = self.0.readable().await?;
        let mut events = [0u8; 4096];
        // What changed does not matter, only that the queue is empty afterwards.
        while rustix::io::read(self.0.get_ref(), &mut events[..]).is_ok_and(|count| count > 0) {}
        ready.clear_ready();
        Ok(())
    }
}
