//! The role `tether`: a program that lives as long as somebody has the other end of standard input open, and no longer.
//! It ends with this process too, however that ends.

use crate::failure::{Attempt, Failure};
use crate::sys::{self, Cloned};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, set_parent_process_death_signal, waitid};
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Runs `tether <program> [argument ...]`. That the program ended is a failure: it was to stay.
pub(crate) fn run(args: &[OsString]) -> Result<(), Failure> {
    let [program, rest @ ..] = args else {
        return Err(Failure::new("read the arguments", "tether takes a program"));
    };
    sys::close_on_exec_all().attempt(|| "close inherited descriptors".into())?;
    rustix::process::chdir("/").attempt(|| "leave the working directory".into())?;
    // What a terminal says to those who started this is not for it. Who leads a group is alone already.
    let _ = rustix::process::setsid();
    match sys::clone3(0, None).attempt(|| "clone the process".into())? {
        Cloned::Child => sys::exit(execute(program, rest).code),
        Cloned::Parent { pidfd, .. } => keep(program, pidfd.as_fd()),
    }
}

fn execute(program: &OsString, args: &[OsString]) -> Failure {
    if let Err(errno) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return Failure::of("ask for a signal at the end of the parent", errno);
    }
    let error = Command::new(program).args(args).stdin(Stdio::null()).exec();
    let failure = Failure::execute(&program.to_string_lossy(), error);
    let _ = rustix::io::write(rustix::stdio::stderr(), format!("strata-init: {failure}\n").as_bytes());
    failure
}

fn keep(program: &OsString, process: BorrowedFd<'_>) -> Result<(), Failure> {
    let input = rustix::stdio::stdin();
    loop {
        // The end of the input is told without being asked for.
        let mut ends = [PollFd::new(&input, PollFlags::empty()), PollFd::new(&process, PollFlags::IN)];
        match poll(&mut ends, None) {
            Err(Errno::INTR) => continue,
            polled => polled.attempt(|| "wait".into())?,
        };
        if !ends[1].revents().is_empty() {
            let status = waitid(WaitId::PidFd(process), WaitIdOptions::EXITED).attempt(|| "wait".into())?;
            let code =
                status.and_then(|status| status.exit_status()).map_or("a signal".to_owned(), |code| code.to_string());
            return Err(Failure::new(format!("keep {}", program.to_string_lossy()), format!("it ended with {code}")));
        }
        if !ends[0].revents().is_empty() {
            let _ = pidfd_send_signal(process, Signal::KILL);
            let _ = waitid(WaitId::PidFd(process), WaitIdOptions::EXITED);
            return Ok(());
        }
    }
}
