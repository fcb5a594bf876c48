//! The container's standard streams as the monitor holds them: two outputs, one input, perhaps a pty.

use crate::channel::set_nonblocking;
use crate::failure::{Attempt, Failure};
use crate::log::Stream;
use crate::plan::{Streams as Wanted, TerminalSize};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::{AsFd, OwnedFd};

/// Input beyond this waits in the client's socket.
const MAX_INPUT_BYTES: usize = 256 << 10;

/// Ends of pipes for the child: 0, 1 and 2.
pub(crate) type ChildEnds = [OwnedFd; 3];

#[derive(Default)]
pub(crate) struct Streams {
    /// Standard output and error output; a terminal has only the first.
    pub(crate) outputs: [Option<OwnedFd>; 2],
    pub(crate) input: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    pending: Vec<u8>,
    is_input_closing: bool,
}

impl Streams {
    /// Makes pipes; with a terminal there are none until [`Streams::take_terminal`].
    pub(crate) fn new(wanted: &Wanted) -> Result<(Self, Option<ChildEnds>), Failure> {
        if wanted.terminal.is_some() {
            return Ok((Self::default(), None));
        }
        let pipes = || -> Result<(Self, ChildEnds), Errno> {
            let (stdout, child_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
            let (stderr, child_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
            let (child_stdin, input) = if wanted.stdin {
                let (child, ours) = pipe_with(PipeFlags::CLOEXEC)?;
                set_nonblocking(ours.as_fd())?;
                (child, Some(ours))
            } else {
                (openat(CWD, "/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?, None)
            };
            let streams = Self { outputs: [Some(stdout), Some(stderr)], input, ..Self::default() };
            Ok((streams, [child_stdin, child_stdout, child_stderr]))
        };
        let (streams, ends) = pipes().attempt(|| "make the standard streams".into())?;
        Ok((streams, Some(ends)))
    }

    /// Takes the master of the container's pty.
    pub(crate) fn take_terminal(&mut self, master: OwnedFd) -> Result<(), Failure> {
        let take = |streams: &mut Self| -> Result<(), Errno> {
            set_nonblocking(master.as_fd())?;
            streams.input = Some(rustix::io::fcntl_dupfd_cloexec(&master, 3)?);
            streams.terminal = Some(rustix::io::fcntl_dupfd_cloexec(&master, 3)?);
            streams.outputs[0] = Some(master);
            Ok(())
        };
        take(self).attempt(|| "take the terminal".into())
    }

    pub(crate) fn resize(&self, size: &TerminalSize) {
        if let Some(terminal) = &self.terminal {
            let (ws_row, ws_col) = (size.rows, size.columns);
            let size = rustix::termios::Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
            let _ = rustix::termios::tcsetwinsize(terminal, size);
        }
    }

    /// Reads once; `None` when there is nothing now. At its end the output is closed.
    pub(crate) fn read(&mut self, stream: Stream, buffer: &mut [u8]) -> Option<usize> {
        let output = &mut self.outputs[stream as usize];
        match rustix::io::read(output.as_ref()?, buffer) {
            Ok(count) if count > 0 => Some(count),
            Err(Errno::AGAIN | Errno::INTR) => None,
            // EIO of a pty: nobody has the other side open any more.
            _ => {
                *output = None;
                None
            }
        }
    }

    pub(crate) fn has_pending_input(&self) -> bool {
        self.input.is_some() && !self.pending.is_empty()
    }

    pub(crate) fn is_input_full(&self) -> bool {
        self.input.is_some() && self.pending.len() > MAX_INPUT_BYTES
    }

    pub(crate) fn add_input(&mut self, bytes: &[u8]) {
        if self.input.is_some() && !self.is_input_closing {
            self.pending.extend_from_slice(bytes);
            self.write_input();
        }
    }

    /// Ends the input once what is pending has been written. A terminal has no end of input of its own.
    pub(crate) fn close_input(&mut self) {
        if self.terminal.is_none() {
            self.is_input_closing = true;
            self.write_input();
        }
    }

    pub(crate) fn write_input(&mut self) {
        let Some(input) = &self.input else { return };
        while !self.pending.is_empty() {
            match rustix::io::write(input, &self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // Nobody reads any more.
                Err(_) => {
                    self.pending.clear();
                    self.is_input_closing = true;
                }
            }
        }
        if self.is_input_closing {
            self.input = None;
        }
    }
}
