//! The terminal of a process in the foreground: the caller's own is made raw, and both are copied to each other.

use std::{
    io::Write,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::{Errno, read, write},
    stdio::{stdin, stdout},
    termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize},
};
use strata_init::plan::TerminalSize;

/// Input beyond this waits in the caller's terminal.
const MAX_INPUT_BYTES: usize = 64 << 10;
/// How long output may be silent, and may last in all, while somebody else still holds the terminal at the end.
const DRAIN_SILENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// What can be copied from or to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Standard input can be read.
    Input,
    /// The container wrote.
    Output,
    /// The container reads again.
    Pending,
}

/// Returns the size of the caller's terminal, if it has one.
pub fn host_size() -> Option<TerminalSize> {
    let size = tcgetwinsize(stdin()).or_else(|_| tcgetwinsize(stdout())).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some(TerminalSize { rows: size.ws_row, columns: size.ws_col })
}

/// The master of the process's terminal; dropped, the caller's is as it was.
pub struct Console {
    master: OwnedFd,
    before: Option<Termios>,
    has_input: bool,
    has_output: bool,
    pending: Vec<u8>,
}

impl Console {
    pub fn new(master: OwnedFd) -> Result<Self, String> {
        let failed = |error: Errno| format!("cannot use the terminal: {error}");
        let flags = fcntl_getfl(&master).map_err(failed)?;
        fcntl_setfl(&master, flags | OFlags::NONBLOCK).map_err(failed)?;
        let mut console = Self { master, before: None, has_input: true, has_output: true, pending: Vec::new() };
        if isatty(stdin()) {
            let before = tcgetattr(stdin()).map_err(failed)?;
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(stdin(), OptionalActions::Now, &raw).map_err(failed)?;
            console.before = Some(before);
            console.resize();
        }
        Ok(console)
    }

    /// Gives the process's terminal the size of the caller's.
    pub fn resize(&self) {
        if let Ok(size) = tcgetwinsize(stdin()) {
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    /// What to poll for.
    pub fn interests(&self) -> Vec<(End, BorrowedFd<'_>, PollFlags)> {
        let mut interests = Vec::with_capacity(3);
        if self.has_input && self.pending.len() < MAX_INPUT_BYTES {
            interests.push((End::Input, stdin(), PollFlags::IN));
        }
        if self.has_output {
            interests.push((End::Output, self.master.as_fd(), PollFlags::IN));
        }
        if self.has_output && !self.pending.is_empty() {
            interests.push((End::Pending, self.master.as_fd(), PollFlags::OUT));
        }
        interests
    }

    /// Copies what is there.
    pub fn copy(&mut self, end: End) {
        match end {
            End::Input => self.take_input(),
            End::Output => drop(self.copy_output()),
            End::Pending => self.give_input(),
        }
    }

    /// Copies what the process has left behind: to the end, or as long as its heirs go on talking.
    pub fn drain(&mut self) {
        let begun = Instant::now();
        while self.has_output && begun.elapsed() < DRAIN_LIMIT {
            if self.copy_output() {
                continue;
            }
            let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
            if !matches!(poll(&mut fds, Some(&DRAIN_SILENCE)), Ok(1)) {
                return;
            }
        }
    }

    fn take_input(&mut self) {
        let mut buffer = [0; 4096];
        match read(stdin(), &mut buffer) {
            Ok(count @ 1..) => {
                self.pending.extend_from_slice(&buffer[..count]);
                self.give_input();
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            // A terminal has no end of input of its own: the process goes on.
            _ => self.has_input = false,
        }
    }

    fn give_input(&mut self) {
        while !self.pending.is_empty() {
            match write(&self.master, &self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.pending.clear(),
            }
        }
    }

    /// Copies once; false if there was nothing.
    fn copy_output(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        match read(&self.master, &mut buffer) {
            Ok(count @ 1..) => {
                let mut output = std::io::stdout();
                // A reader that is gone must not end the container.
                let _ = output.write_all(&buffer[..count]).and_then(|()| output.flush());
                true
            }
            Err(Errno::INTR) => true,
            Err(Errno::AGAIN) => false,
            // EIO: nobody has the other side open any more.
            _ => {
                self.has_output = false;
                false
            }
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}
