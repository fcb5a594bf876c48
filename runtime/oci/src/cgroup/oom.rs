//! Notice of the out-of-memory killer: an eventfd registered with v1, inotify on the events of v2.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use rustix::{
    event::{EventfdFlags, eventfd},
    fs::inotify,
    io::Errno,
};

use super::{Cgroup, Error, Version, keyed};

/// What a [`OomWatch`] woke up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomNotice {
    /// The killer struck, or on v1 the limit was hit with the killer disabled.
    OutOfMemory,
    /// Something else happened.
    Nothing,
    /// The cgroup is gone, and nothing will happen any more.
    Gone,
}

/// Becomes readable when the out-of-memory killer strikes or the cgroup goes away.
#[derive(Debug)]
pub struct OomWatch {
    notifier: OwnedFd,
    /// v1: the file that the notifier is registered with must stay open.
    _control: Option<File>,
    path: PathBuf,
    version: Version,
    kills: u64,
}

impl Cgroup {
    /// Starts to watch for the out-of-memory killer; strikes before this are not told.
    pub fn watch_oom(&self) -> Result<OomWatch, Error> {
        let directory = self.directory("memory", "the notice of out of memory")?;
        let failed = |path: PathBuf| move |source: io::Error| Error::Io { action: "watch", path, source };
        if directory.version == Version::V1 {
            let path = directory.path.join("memory.oom_control");
            let control = File::open(&path).map_err(failed(path.clone()))?;
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            let notifier = eventfd(0, flags).map_err(|errno| failed(path.clone())(errno.into()))?;
            // memory.rst of cgroup-v1, "OOM Control"
            let registration = format!("{} {}", notifier.as_raw_fd(), control.as_raw_fd());
            let register = directory.path.join("cgroup.event_control");
            fs::write(&register, registration).map_err(failed(register))?;
            return Ok(OomWatch { notifier, _control: Some(control), path, version: Version::V1, kills: 0 });
        }
        let path = directory.path.join("memory.events");
        let notifier = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .and_then(|notifier| {
                let wanted = inotify::WatchFlags::MODIFY | inotify::WatchFlags::DELETE_SELF;
                inotify::add_watch(&notifier, &path, wanted).map(|_| notifier)
            })
            .map_err(|errno| failed(path.clone())(errno.into()))?;
        let kills = fs::read_to_string(&path).ok().and_then(|text| keyed(&text, "oom_kill")).unwrap_or(0);
        Ok(OomWatch { notifier, _control: None, path, version: Version::V2, kills })
    }
}

impl OomWatch {
    /// Says what happened since the last call; never waits. Poll the descriptor for reading before.
    pub fn take(&mut self) -> OomNotice {
        let mut buffer = [0_u8; 4096];
        let count = loop {
            match rustix::io::read(&self.notifier, &mut buffer) {
                Err(Errno::INTR) => {}
                result => break result.unwrap_or(0),
            }
        };
        // The eventfd of v1 is also written when the cgroup is removed.
        let Ok(text) = fs::read_to_string(&self.path) else { return OomNotice::Gone };
        if self.version == Version::V1 {
            return if count > 0 { OomNotice::OutOfMemory } else { OomNotice::Nothing };
        }
        let kills = keyed(&text, "oom_kill").unwrap_or(0);
        let is_new = kills > std::mem::replace(&mut self.kills, kills);
        if is_new { OomNotice::OutOfMemory } else { OomNotice::Nothing }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notifier.as_fd()
    }
}
