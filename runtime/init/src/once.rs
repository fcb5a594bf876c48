//! The role `once`, for an OCI runtime: make the process, hand it over, end. Its standard streams are
//! the caller's (or its terminal goes to the console socket); the caller's subreaper inherits it.

use crate::channel::{GO, send_with_fd};
use crate::failure::{Attempt, Failure};
use crate::monitor::receive_plan;
use crate::plan::Plan;
use crate::spawn::spawn;
use crate::wire::{self, Frame};
use rustix::process::{Signal, pidfd_send_signal};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Makes the process of a plan; it executes at once, or when somebody reads `exec_fifo`. Returns the
/// frame [`Frame::Ready`]. The calling process must be single-threaded.
pub fn make_once(plan: &Plan) -> Result<Frame, Failure> {
    let mut spawned = spawn(plan, None)?;
    if let Err(failure) = hand_over_terminal(plan, spawned.master.take()) {
        let _ = pidfd_send_signal(&spawned.pidfd, Signal::KILL);
        return Err(failure);
    }
    spawned.channel.open_gate(GO).attempt(|| "let the process go on".into())?;
    Ok(Frame::Ready { pid: spawned.pid, created: spawned.created })
}

/// Runs the role: one Plan frame in, one Ready or Failed frame out.
pub fn once(socket: OwnedFd) -> Result<(), Failure> {
    let mut runtime = UnixStream::from(socket);
    let outcome = receive_plan(&mut runtime).and_then(|plan| make_once(&plan));
    let frame = outcome.as_ref().map_or_else(Failure::to_frame, Frame::clone);
    let _ = wire::send(&mut runtime, &frame);
    outcome.map(drop)
}

fn hand_over_terminal(plan: &Plan, master: Option<OwnedFd>) -> Result<(), Failure> {
    let Some(master) = master else { return Ok(()) };
    let Some(path) = &plan.console_socket else {
        return Err(Failure::new("hand over the terminal", "there is no console socket"));
    };
    let step = || format!("hand over the terminal to {}", path.display());
    let socket = UnixStream::connect(path).attempt(step)?;
    send_with_fd(socket.as_fd(), b"/dev/ptmx", Some(master.as_fd())).attempt(step)
}
