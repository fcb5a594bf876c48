//! The role `once`, for an OCI runtime: make the process, hand it over, end. Its standard streams are
//! the caller's (or its terminal goes to the console socket); the caller's subreaper inherits it.

use crate::channel::{GO, send_with_fd};
use crate::failure::{Attempt, Failure};
use crate::monitor::receive_plan;
use crate::plan::Plan;
use crate::spawn::{Placer, Spawned, spawn};
use crate::sys;
use crate::wire::{self, Created, Frame};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Makes the process of a plan; it executes at once, or when somebody reads `exec_fifo`. Returns the
/// frame [`Frame::Ready`]. The calling process must be single-threaded.
pub fn make_once(plan: &Plan) -> Result<Frame, Failure> {
    let mut made = Made::new(plan)?;
    if made.take_terminal().is_some() {
        return Err(Failure::new("hand over the terminal", "there is no console socket"));
    }
    let created = made.take_created();
    let pid = made.pid();
    made.go()?;
    Ok(Frame::Ready { pid, created })
}

/// A process that stands before its last gate, a child of the caller. Dropped before [`Made::go`] or
/// [`Made::execute`], it is killed and reaped.
pub struct Made {
    spawned: Spawned,
    is_released: bool,
}

impl Made {
    /// Makes the process of a plan; the terminal, if it has one, goes to the plan's console socket or stays here.
    /// The calling process must be single-threaded.
    pub fn new(plan: &Plan) -> Result<Self, Failure> {
        Self::placed(plan, &mut |_| Ok(()))
    }

    /// As [`Made::new`]; `place` puts the process, by its id, into cgroups, before it makes anything of its own.
    pub fn placed(plan: &Plan, place: Placer<'_>) -> Result<Self, Failure> {
        let mut made = Self { spawned: spawn(plan, None, place)?, is_released: false };
        if let Some(path) = &plan.console_socket
            && let Some(master) = made.spawned.master.take()
        {
            hand_over_terminal(path, &master)?;
        }
        Ok(made)
    }

    /// Returns its id as the caller sees it.
    pub fn pid(&self) -> u32 {
        self.spawned.pid
    }

    /// Returns the mount points that had to be made.
    pub fn take_created(&mut self) -> Vec<Created> {
        std::mem::take(&mut self.spawned.created)
    }

    /// Returns the master of its terminal, if no console socket got it.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.spawned.master.take()
    }

    /// Lets it go on, to `exec_fifo` if the plan has one, and returns at once.
    pub fn go(mut self) -> Result<(), Failure> {
        self.open_gate()
    }

    /// Lets it go on and waits until its program is executed: the end of the channel says so.
    pub fn execute(mut self) -> Result<(), Failure> {
        self.open_gate()?;
        match self.spawned.channel.receive().attempt(|| "hear from the process".into())? {
            None => Ok(()),
            Some((frame, _)) => {
                self.reap();
                Err(Failure::from_frame(frame)
                    .unwrap_or_else(|| Failure::new("hear from the process", "it sent an unexpected frame")))
            }
        }
    }

    fn open_gate(&mut self) -> Result<(), Failure> {
        self.spawned.channel.open_gate(GO, self.spawned.pid).attempt(|| "let the process go on".into())?;
        self.is_released = true;
        Ok(())
    }

    fn reap(&self) {
        let _ = waitid(WaitId::PidFd(self.spawned.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if !self.is_released {
            let _ = pidfd_send_signal(&self.spawned.pidfd, Signal::KILL);
            self.reap();
        }
    }
}

/// Closes every inherited descriptor beyond `kept`, which must be open and count from 3; the others are closed by
/// execve. For the beginning of a program, before it opens anything: what is inherited would be held by the
/// process until it executes its program (CVE-2024-21626).
pub fn close_inherited(kept: &[i32]) -> Result<(), Failure> {
    for fd in kept {
        if !sys::is_open(*fd) {
            return Err(Failure::new(format!("keep descriptor {fd}"), "it is not open"));
        }
    }
    let first = kept.iter().max().map_or(3, |last| last + 1);
    sys::close_on_exec_all().and_then(|()| sys::close_from(first)).attempt(|| "close inherited descriptors".into())
}

/// Sends a signal of any number, real-time ones too, to the process that `process` refers to.
pub fn send_signal(process: BorrowedFd<'_>, number: i32) -> rustix::io::Result<()> {
    sys::pidfd_send_signal(process, number)
}

/// Runs the role: one Plan frame in, one Ready or Failed frame out.
pub fn once(socket: OwnedFd) -> Result<(), Failure> {
    let mut runtime = UnixStream::from(socket);
    let outcome = receive_plan(&mut runtime).and_then(|plan| make_once(&plan));
    let frame = outcome.as_ref().map_or_else(Failure::to_frame, Frame::clone);
    let _ = wire::send(&mut runtime, &frame);
    outcome.map(drop)
}

fn hand_over_terminal(path: &Path, master: &OwnedFd) -> Result<(), Failure> {
    let step = || format!("hand over the terminal to {}", path.display());
    let socket = UnixStream::connect(path).attempt(step)?;
    send_with_fd(socket.as_fd(), b"/dev/ptmx", Some(master.as_fd())).attempt(step)
}
