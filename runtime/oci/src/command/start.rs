//! `start`: lets the process of a created container execute.

use std::{fs, io::Read, os::unix::fs::OpenOptionsExt, path::Path};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
};

use strata_oci::hooks::Later;

use super::delete::delete;
use crate::{
    notify::Notify,
    state::{State, Status, is_alive},
};

/// How often a process that does not come to the FIFO is looked at: it may be gone, or frozen.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Opens the FIFO, which is what the process waits for, and waits until it has executed its program.
pub fn start(root: &Path, id: &str) -> Result<(), String> {
    let state = State::load(root, id)?;
    let status = state.status();
    if status != Status::Created {
        return Err(format!("cannot start container {id}: it is {}, not in state created", status.name()));
    }
    if state.spec()?.process().is_none() {
        return Err(format!("cannot start container {id}: process: its spec has none"));
    }
    let notify = Notify::listen(&state.directory, Some(state.pid))?;
    let fifo = state.fifo();
    let failed = |error: std::io::Error| format!("cannot start container {id}: {error}");
    let nonblocking = OFlags::NONBLOCK.bits() as i32;
    let mut file = fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(&fifo).map_err(failed)?;
    // POLLHUP without a byte: it has not opened the FIFO for writing yet, or never will. After the byte the end of
    // file says that its program is executed, and text why not.
    let (mut begun, mut words) = (false, Vec::new());
    loop {
        let mut fds = [PollFd::new(&file, PollFlags::IN)];
        let _ = poll(&mut fds, Some(&LOOK));
        let mut buffer = [0; 1024];
        match file.read(&mut buffer) {
            Ok(0) if begun => break,
            Ok(0) => std::thread::sleep(std::time::Duration::from_micros(200)),
            Ok(count) => {
                words.extend_from_slice(&buffer[usize::from(!begun)..count]);
                begun = true;
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(failed(error)),
        }
        if !begun && state.status() == Status::Stopped {
            return Err(format!("cannot start container {id}: its process has ended"));
        }
    }
    if !words.is_empty() {
        let words = String::from_utf8_lossy(&words);
        if words.starts_with("cannot run hooks.") {
            // runtime.md, "Lifecycle": the container is destroyed. The hook's failure counts, not a second one.
            let _ = delete(root, id, true);
        }
        return Err(format!("cannot start container {id}: {words}"));
    }
    fs::remove_file(&fifo).map_err(failed)?;
    let later = Later::load(&state.directory).map_err(failed)?;
    if later.has_poststart() {
        later.run_poststart(state.pid).map_err(|failure| {
            let _ = delete(root, id, true);
            format!("cannot start container {id}: {failure}")
        })?;
    }
    notify.map_or(Ok(()), |notify| notify.wait(|| is_alive(state.pid, state.start_time)))
}
