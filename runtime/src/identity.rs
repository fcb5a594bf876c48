//! Processes that cannot be mistaken: by pidfd while this service knows them, by start time and boot after a restart.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::OnceLock,
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{error::Error, record::Identity};

/// A process held by its pidfd.
#[derive(Debug)]
pub struct Process {
    /// Who it is.
    pub identity: Identity,
    fd: AsyncFd<OwnedFd>,
}

impl Process {
    /// Takes hold of a process that cannot have ended unseen: a child, or one that waits at a gate.
    pub fn of(pid: u32) -> Result<Self, Error> {
        let path = format!("/proc/{pid}");
        let no_such = |errno: Errno| Error::io("take hold of", path.clone(), errno);
        let number = Pid::from_raw(pid as i32).ok_or_else(|| no_such(Errno::SRCH))?;
        let fd = pidfd_open(number, PidfdFlags::empty()).map_err(no_such)?;
        #[expect(deprecated, reason = "the new form is unsafe to call; an OwnedFd never changes its descriptor")]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE).map_err(|e| Error::io("watch", &path, e))?;
        let started = start_time(pid).ok_or_else(|| no_such(Errno::SRCH))?;
        Ok(Self { identity: Identity { pid, started, boot_id: boot_id().to_owned() }, fd })
    }

    /// Takes hold of a process that was known before; `None`: it has ended.
    pub fn find(identity: &Identity) -> Option<Self> {
        if identity.boot_id != boot_id() {
            return None;
        }
        // The start time is read after the pidfd was opened: then both are of one process.
        Self::of(identity.pid).ok().filter(|process| process.identity == *identity)
    }

    /// Waits for its end.
    pub async fn ended(&self) {
        // A pidfd is readable from the process's end on and for ever: pidfd_open(2).
        let _ready = self.fd.readable().await;
    }

    /// Sends a signal; false: it has ended, or the signal has no name (a real-time one).
    pub fn signal(&self, number: i32) -> bool {
        Signal::from_named_raw(number).is_some_and(|signal| pidfd_send_signal(self.fd.get_ref(), signal).is_ok())
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The boot of this host.
pub fn boot_id() -> &'static str {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    BOOT_ID.get_or_init(|| {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        text.trim().to_owned()
    })
}

/// Field 22 of /proc/pid/stat; the name in field 2 may hold spaces and parentheses.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn a_process_is_found_again_until_it_has_ended() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(Process::find(&process.identity).is_some());

        assert!(process.signal(9));
        process.ended().await;
        child.wait().unwrap();

        assert!(Process::find(&process.identity).is_none());
        assert!(!process.signal(9));
    }

    #[tokio::test]
    async fn the_same_number_at_another_time_is_another_process() {
        let own = Process::of(std::process::id()).unwrap().identity;
        assert!(Process::find(&own).is_some());
        assert!(Process::find(&Identity { started: own.started + 1, ..own.clone() }).is_none());
        assert!(Process::find(&Identity { boot_id: "another".into(), ..own }).is_none());
    }
}
