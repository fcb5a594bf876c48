//! Gives the listener of a seccomp filter to its agent. The process itself may do nothing once the filter is in
//! place: the first call could wait for the agent, who has no listener yet. So a thread does it, begun before and
//! not filtered; execve ends it. The only thread there ever is, and only for plans with a listener.

use crate::channel::{Channel, send_with_fd};
use crate::child;
use crate::failure::{Attempt, Failure};
use crate::plan::Listener;
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The thread that waits for the listener.
pub(crate) struct Teller(Arc<Shared>);

/// What the threads share; neither ever waits in the kernel for the other.
#[derive(Default)]
struct Shared {
    listener: OnceLock<OwnedFd>,
    is_told: AtomicBool,
}

impl Teller {
    /// Begins the thread.
    pub(crate) fn begin(listener: &Listener, agent: UnixStream, channel: &Channel, pid: u32) -> Result<Self, Failure> {
        let step = || "make the thread for linux.seccomp.listenerPath".to_owned();
        let shared = Arc::new(Shared::default());
        let message = listener.message.join(&pid.to_string());
        let path = listener.path.clone();
        let (theirs, channel) = (Arc::clone(&shared), channel.try_clone().attempt(step)?);
        let thread = std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
            while theirs.listener.get().is_none() {
                std::thread::sleep(Duration::from_micros(20));
            }
            let listener = theirs.listener.get().expect("the loop waited for it");
            if let Err(errno) = send(&agent, message.as_bytes(), listener) {
                let step = format!("send the listener to linux.seccomp.listenerPath {}", path.display());
                child::end(&Failure::of(step, errno), &channel);
            }
            drop(agent);
            theirs.is_told.store(true, Ordering::Release);
        });
        // Never joined nor freed: under the filter both could wait for the agent.
        std::mem::forget(thread.attempt(step)?);
        Ok(Self(shared))
    }

    /// Has the listener sent, and waits for it without a system call.
    pub(crate) fn tell(self, listener: OwnedFd) {
        let _ = self.0.listener.set(listener);
        while !self.0.is_told.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
        // Closed by execve, like all others.
        std::mem::forget(self.0);
    }
}

/// Sends the descriptor with the first bytes, then the rest.
fn send(agent: &UnixStream, message: &[u8], listener: &OwnedFd) -> Result<(), Errno> {
    let (first, mut rest) = message.split_at(message.len().min(1024));
    send_with_fd(agent.as_fd(), first, Some(listener.as_fd()))?;
    while !rest.is_empty() {
        let sent = rustix::net::send(agent, rest, rustix::net::SendFlags::NOSIGNAL)?;
        rest = &rest[sent..];
    }
    Ok(())
}
