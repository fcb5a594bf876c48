//! `kill`: a signal for the first process of a container, or for all of them.

use std::{os::fd::AsFd, path::Path};

use oci_spec::runtime::LinuxNamespaceType;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::state::{State, Status};

const KILL: i32 = 9;

/// Sends a signal to the process of a container.
#[derive(clap::Args)]
pub struct Kill {
    /// Sends it to every process of the container.
    #[arg(short, long)]
    all: bool,
    /// Name of the container.
    id: String,
    /// Number or name of the signal.
    #[arg(default_value = "TERM")]
    signal: String,
}

impl Kill {
    pub fn run(&self, root: &Path) -> Result<(), String> {
        let state = State::load(root, &self.id)?;
        let signal = parse_signal(&self.signal)?;
        if self.all {
            return everyone(&state, signal);
        }
        // The descriptor first, then the check: the pid cannot be reused in between.
        let pid = Pid::from_raw(state.pid as i32).ok_or_else(|| not_running(&state));
        let process = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).map_err(|_| not_running(&state)));
        if state.status() == Status::Stopped {
            return Err(not_running(&state));
        }
        strata_init::send_signal(process?.as_fd(), signal)
            .map_err(|error| format!("cannot signal container {}: {error}", self.id))?;
        // Without a pid namespace of its own the others would survive their first process.
        if signal == KILL && !has_own_pids(&state) { everyone(&state, signal) } else { Ok(()) }
    }
}

fn everyone(state: &State, signal: i32) -> Result<(), String> {
    let pids = state.pids()?;
    for pid in pids.into_iter().filter_map(Pid::from_raw) {
        // ESRCH: it ended by itself in the meantime.
        if let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) {
            let _ = strata_init::send_signal(process.as_fd(), signal);
        }
    }
    Ok(())
}

/// containerd looks for the first three words.
fn not_running(state: &State) -> String {
    format!("container not running: {} is not running", state.id)
}

fn has_own_pids(state: &State) -> bool {
    let Ok(spec) = state.spec() else { return true };
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let own = |one: &oci_spec::runtime::LinuxNamespace| one.typ() == LinuxNamespaceType::Pid && one.path().is_none();
    namespaces.into_iter().flatten().any(own)
}

/// Returns the number of `KILL`, `SIGKILL`, `sigkill`, `9`, `RTMIN+3`, `34`.
fn parse_signal(text: &str) -> Result<i32, String> {
    let upper = text.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset =
        |text: &str, sign| if text.is_empty() { Some(0) } else { text.strip_prefix(sign)?.parse::<i32>().ok() };
    // signal(7): as glibc and musl count, whose threads use the first two.
    let real_time = short.strip_prefix("RTMIN").and_then(|rest| Some(34 + offset(rest, '+')?));
    let real_time = real_time.or(short.strip_prefix("RTMAX").and_then(|rest| Some(64 - offset(rest, '-')?)));
    let named = || format!("SIG{short}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32);
    let number = upper.parse::<i32>().ok().or(real_time).or_else(named);
    number.filter(|number| (1..=64).contains(number)).ok_or_else(|| format!("{text:?} is not a signal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_numbers_or_names_in_any_case() {
        for text in ["9", "KILL", "SIGKILL", "sigkill", "kill"] {
            assert_eq!(parse_signal(text), Ok(KILL), "{text}");
        }
        for (text, number) in [("37", 37), ("SIGRTMIN+3", 37), ("rtmax-1", 63), ("RTMIN", 34)] {
            assert_eq!(parse_signal(text), Ok(number), "{text}");
        }
        for text in ["", "0", "-9", "999", "SIG", "NOPE", "9x", "RTMIN-1", "RTMIN+99"] {
            assert!(parse_signal(text).is_err(), "{text}");
        }
    }
}
