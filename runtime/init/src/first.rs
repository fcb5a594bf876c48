//! The first process of a container that has its program as the second one: it hands signals on to it, reaps who is left
//! to it, and ends as the program does. No executable of ours is in the container for it.

use crate::channel::Channel;
use crate::execute::confine;
use crate::failure::{Attempt, Failure};
use crate::plan::Process;
use crate::sys::{self, Cloned};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, wait};
use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd};

/// Returns in the second process, which is to execute the program; the first one never returns.
pub(crate) fn split(process: &Process, has_terminal: bool, channel: &Channel) -> Result<(), Failure> {
    // Before there is somebody to hand them on to, signals wait; the second process unblocks them.
    SigSet::all().thread_block().attempt(|| "block signals".into())?;
    match sys::clone3(0, None).attempt(|| "make the process beside the init".into())? {
        Cloned::Child => take_terminal(has_terminal).attempt(|| "make a process group".into()),
        Cloned::Parent { pid, pidfd } => {
            let Err(failure) = keep(process, pid, &pidfd);
            let _ = channel.report(&failure.to_frame(), None);
            sys::exit(failure.code)
        }
    }
}

/// A group of its own, which the keys of the terminal are for.
fn take_terminal(has_terminal: bool) -> Result<(), rustix::io::Errno> {
    rustix::process::setpgid(None, None)?;
    if has_terminal {
        rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid())?;
    }
    Ok(())
}

fn keep(process: &Process, pid: u32, pidfd: &impl AsFd) -> Result<Infallible, Failure> {
    // The end of the channel says that the program was executed: it must be the other process's alone.
    let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC).attempt(|| "watch signals".into())?;
    let mut kept = [0, 1, 2, signals.as_raw_fd(), pidfd.as_fd().as_raw_fd()];
    kept.sort_unstable();
    confine(process)?;
    sys::close_others(&kept).attempt(|| "close what is not the init's".into())?;
    loop {
        let Ok(Some(signal)) = signals.read_signal() else { continue };
        match i32::try_from(signal.ssi_signo).unwrap_or(0) {
            number if number == Signal::CHILD.as_raw() => reap(pid),
            number => {
                let _ = sys::pidfd_send_signal(pidfd.as_fd(), number);
            }
        }
    }
}

/// Reaps whoever has ended; with the program everything ends.
fn reap(program: u32) {
    let mut end = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if Pid::from_raw(program.cast_signed()) == Some(pid) {
            end = Some(code(status));
        }
    }
    if let Some(code) = end {
        sys::exit(code);
    }
}

/// As a shell counts it.
fn code(status: WaitStatus) -> i32 {
    status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0))
}
