//! Staying with a process: signals go to it, its terminal is copied, its end is this program's.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, WaitOptions, WaitStatus, pidfd_open},
};

use crate::{console::Console, notify::Notify};

/// Signals that are read instead of delivered.
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks every signal but those that say this program is broken; before the process is made, so none is lost.
    pub fn block() -> Result<Self, String> {
        let failed = |error| format!("cannot watch signals: {error}");
        let mut mask = SigSet::all();
        for signal in
            [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGTRAP, Signal::SIGABRT]
        {
            mask.remove(signal);
        }
        mask.thread_block().map_err(failed)?;
        SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map(Self).map_err(failed)
    }
}

/// Waits for the end of a child; returns its status as a shell counts.
///
/// That the process is ready is passed on when it says so.
pub fn wait(
    pid: u32,
    signals: &Signals,
    mut console: Option<&mut Console>,
    mut notify: Option<Notify>,
) -> Result<u8, String> {
    let failed = |error: rustix::io::Errno| format!("cannot wait for process {pid}: {error}");
    let child = Pid::from_raw(pid as i32).ok_or("the process has no id")?;
    let process = pidfd_open(child, PidfdFlags::empty()).map_err(failed)?;
    loop {
        let mut fds = vec![PollFd::new(&signals.0, PollFlags::IN), PollFd::new(&process, PollFlags::IN)];
        let copied = console.as_ref().map(|console| console.interests()).unwrap_or_default();
        fds.extend(copied.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)));
        fds.extend(notify.iter().map(|notify| PollFd::new(notify, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(error)),
        }
        let is_ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let ready = copied.iter().zip(&is_ready[2..]).filter(|(_, is_ready)| **is_ready);
        let ends: Vec<_> = ready.map(|((end, ..), _)| *end).collect();
        drop(copied);
        if let Some(console) = &mut console {
            ends.into_iter().for_each(|end| console.copy(end));
        }
        // The process matters more than who is told of it.
        if notify.as_ref().is_some_and(|notify| notify.pass_on().unwrap_or(true)) {
            notify = None;
        }
        if is_ready[0] {
            forward(signals, &process, console.as_deref());
        }
        if let Some(status) = reap(child).map_err(failed)? {
            if let Some(console) = &mut console {
                console.drain();
            }
            return Ok(code(status));
        }
    }
}

/// Signals of the terminal's size are for the terminal, those about children for nobody, the rest for the process.
fn forward(signals: &Signals, process: &OwnedFd, console: Option<&Console>) {
    while let Ok(Some(info)) = signals.0.read_signal() {
        match (Signal::try_from(info.ssi_signo as i32), console) {
            (Ok(Signal::SIGCHLD | Signal::SIGURG | Signal::SIGPIPE), _) => {}
            (Ok(Signal::SIGWINCH), Some(console)) => console.resize(),
            // It has ended: the next look finds it.
            _ => drop(strata_init::send_signal(process.as_fd(), info.ssi_signo as i32)),
        }
    }
}

/// Reaps every child that has ended, orphans of the container too.
fn reap(child: Pid) -> rustix::io::Result<Option<WaitStatus>> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == child => return Ok(Some(status)),
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

fn code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal));
    code.unwrap_or(255) as u8
}
