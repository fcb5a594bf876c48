//! Calls of the kernel that may wait for somebody else's server: `strata-init` makes them, and is killed when that takes too
//! long. Blocking, on threads for it.

use std::{
    ffi::OsStr,
    io,
    os::fd::AsRawFd,
    path::Path,
    process::{ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::mount::{MountFlags, UnmountFlags};
use tokio::process::{Child, Command};

use super::Launcher;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);
/// How long a process may take to end that was killed.
const DEATH: Duration = Duration::from_secs(5);

impl Launcher {
    /// As mount(2), until a moment.
    pub fn mount(
        &self,
        [kind, device, options]: [&str; 3],
        flags: MountFlags,
        target: &Path,
        end: Instant,
    ) -> io::Result<()> {
        let flags = flags.bits().to_string();
        let words = ["mount", kind, device].map(OsStr::new);
        self.call(&[&words[..], &[target.as_os_str(), flags.as_ref(), options.as_ref()]].concat(), end)
    }

    /// As umount2(2), until a moment.
    pub fn unmount(&self, target: &Path, flags: UnmountFlags, end: Instant) -> io::Result<()> {
        self.call(&["unmount".as_ref(), target.as_os_str(), flags.bits().to_string().as_ref()], end)
    }

    fn call(&self, words: &[&OsStr], end: Instant) -> io::Result<()> {
        let mut child = Command::new(format!("/proc/self/fd/{}", self.0.image.as_raw_fd()))
            .arg0("strata-init")
            .args(words)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let Some(status) = ended(&mut child, end)? else {
            child.start_kill()?;
            // One that does not even end now is waited for by tokio.
            ended(&mut child, Instant::now() + DEATH)?;
            return Err(io::ErrorKind::TimedOut.into());
        };
        match status.code() {
            Some(0) => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Err(io::ErrorKind::Interrupted.into()),
        }
    }
}

/// How a process ended; none: it lives on at that moment.
fn ended(child: &mut Child, end: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        match child.try_wait()? {
            None if Instant::now() < end => thread::sleep(LOOK),
            status => return Ok(status),
        }
    }
}
