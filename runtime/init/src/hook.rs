//! Runs hooks: programs of others at points of a container's life (runtime spec, "POSIX-platform Hooks").
//! A hook gets the state on standard input, its own environment alone (CVE-2025-23266), `/` as working directory and no
//! other descriptor. At its timeout, and when who ordered it goes away, it is killed with its process group.

use crate::channel::set_nonblocking;
use crate::failure::Failure;
use crate::plan::Hook;
use crate::sys::{self, Cloned};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, Mode, SeekFrom, memfd_create, seek};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, pidfd_send_signal,
    set_parent_process_death_signal, setpgid, waitid,
};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

/// How much of a hook's last output is told when it fails.
const TAIL_BYTES: usize = 1024;

/// When and how hooks run.
pub(crate) struct Occasion<'a> {
    /// Their field of the spec: `hooks.createRuntime`.
    pub(crate) field: &'a str,
    /// The state document.
    pub(crate) state: &'a str,
    /// Whose end ends the hook as well.
    pub(crate) orderer: Option<BorrowedFd<'a>>,
    /// What the hook's process does to itself before it executes.
    pub(crate) before: &'a dyn Fn() -> Result<(), Failure>,
}

/// Runs hooks of the runtime's own namespaces one after another; the first failure ends it. `field` is where the
/// spec lists them, `state` the document they get.
///
/// Nothing is allocated between fork and exec, so a process with threads may call it; a hook ends with the thread.
pub fn run_hooks(field: &str, hooks: &[Hook], state: &str) -> Result<(), Failure> {
    run_all(hooks, &Occasion { field, state, orderer: None, before: &|| Ok(()) })
}

/// Adds status and process id (0: none) to a state document without them.
pub fn state_document(state: &str, status: &str, pid: u32) -> String {
    let rest = state.trim_start().strip_prefix('{').unwrap_or("}");
    let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
    let pid = if pid == 0 { String::new() } else { format!(",\"pid\":{pid}") };
    format!("{{\"status\":\"{status}\"{pid}{comma}{rest}")
}

pub(crate) fn run_all(hooks: &[Hook], occasion: &Occasion<'_>) -> Result<(), Failure> {
    hooks.iter().enumerate().try_for_each(|(index, hook)| {
        let step = || format!("run {}[{index}] {}", occasion.field, hook.path.display());
        run(hook, occasion).map_err(|cause| match cause {
            Cause::System(errno) => Failure::of(step(), errno),
            Cause::Text(text) => Failure::new(step(), text),
        })
    })
}

enum Cause {
    System(Errno),
    Text(String),
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

struct Running {
    pid: Pid,
    pidfd: OwnedFd,
    /// What it writes; unset once nobody has the other end any more.
    output: Option<OwnedFd>,
    /// The end of what it wrote.
    tail: Vec<u8>,
}

fn run(hook: &Hook, occasion: &Occasion<'_>) -> Result<(), Cause> {
    let to_c = |text: &OsStr| CString::new(text.as_bytes()).map_err(|_| Errno::INVAL);
    let program = to_c(hook.path.as_os_str())?;
    let mut args = hook.args.iter().map(|text| to_c(text)).collect::<Result<Vec<_>, _>>()?;
    if args.is_empty() {
        args.push(program.clone());
    }
    let env = hook.env.iter().map(|text| to_c(text)).collect::<Result<Vec<_>, _>>()?;
    // A file rather than a pipe: a hook that does not read it blocks nobody.
    let mut state = File::from(memfd_create("state", MemfdFlags::CLOEXEC)?);
    state.write_all(occasion.state.as_bytes()).map_err(|_| Errno::IO)?;
    seek(&state, SeekFrom::Start(0))?;
    let (output, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    set_nonblocking(output.as_fd())?;

    let (pid, pidfd) = match sys::clone3(0, None)? {
        Cloned::Child => execute(&program, &args, &env, (state.as_fd(), theirs.as_fd()), occasion.before),
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop((state, theirs));
    let pid = Pid::from_raw(pid as i32).ok_or(Errno::SRCH)?;
    // Both sides do it, so that the group exists whoever comes first.
    let _ = setpgid(Some(pid), Some(pid));
    let deadline = hook.timeout_seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
    let mut running = Running { pid, pidfd, output: Some(output), tail: Vec::new() };
    match running.wait(deadline, occasion.orderer) {
        Ok(()) => running.outcome(),
        Err(cause) => {
            running.kill();
            Err(cause)
        }
    }
}

impl Running {
    /// Waits until it ended; what it writes meanwhile is read, so that it never waits for us.
    fn wait(&mut self, deadline: Option<Instant>, orderer: Option<BorrowedFd<'_>>) -> Result<(), Cause> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(Cause::Text("it did not end in time, and was killed".into()));
            }
            let left =
                left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) });
            // The end of a channel is told whether asked for or not: poll(2), POLLHUP.
            let watched = [
                (Some(self.pidfd.as_fd()), PollFlags::IN),
                (self.output.as_ref().map(AsFd::as_fd), PollFlags::IN),
                (orderer, PollFlags::empty()),
            ];
            let mut fds: Vec<PollFd<'_>> =
                watched.iter().filter_map(|(fd, flags)| Some(PollFd::from_borrowed_fd((*fd)?, *flags))).collect();
            match poll(&mut fds, left.as_ref()) {
                Err(Errno::INTR) => continue,
                result => result?,
            };
            let told: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            let orderer_gone = orderer.is_some() && told.last() == Some(&true);
            self.read();
            if told[0] {
                return Ok(());
            }
            if orderer_gone {
                return Err(Cause::Text("who ordered it went away".into()));
            }
        }
    }

    /// Reads what there is now, though not for ever: somebody else may have the other end as well.
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        for _ in 0..32 {
            let Some(output) = &self.output else { return };
            match rustix::io::read(output, &mut buffer) {
                Ok(count) if count > 0 => {
                    self.tail.extend_from_slice(&buffer[..count]);
                    self.tail.drain(..self.tail.len().saturating_sub(TAIL_BYTES));
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                _ => self.output = None,
            }
        }
    }

    fn outcome(&self) -> Result<(), Cause> {
        let end = self.reap()?;
        let end = match (end.exit_status(), end.terminating_signal()) {
            (Some(0), _) => return Ok(()),
            (Some(status), _) => format!("it ended with status {status}"),
            (None, signal) => format!("signal {} ended it", signal.unwrap_or(0)),
        };
        let tail = String::from_utf8_lossy(&self.tail);
        let tail = tail.trim();
        Err(Cause::Text(if tail.is_empty() { end } else { format!("{end}: {tail}") }))
    }

    fn reap(&self) -> Result<WaitIdStatus, Errno> {
        loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Err(Errno::INTR) => {}
                result => return result?.ok_or(Errno::CHILD),
            }
        }
    }

    /// Ends it with its group. It is not reaped before, so its id is not another's yet.
    fn kill(&self) {
        let _ = kill_process_group(self.pid, Signal::KILL);
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = self.reap();
    }
}

/// The hook's own process, from fork to execve.
fn execute(
    program: &CString,
    args: &[CString],
    env: &[CString],
    (state, output): (BorrowedFd<'_>, BorrowedFd<'_>),
    before: &dyn Fn() -> Result<(), Failure>,
) -> ! {
    let prepare = || -> Result<(), Errno> {
        setpgid(None, None)?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        dup2_stdin(state)?;
        dup2_stdout(output)?;
        dup2_stderr(output)?;
        // Descriptors that were passed on for the container's process are not for hooks.
        sys::close_on_exec_all()?;
        rustix::process::chdir("/")
    };
    if prepare().is_err() {
        sys::exit(125);
    }
    if let Err(failure) = before() {
        let _ = rustix::io::write(rustix::stdio::stderr(), failure.to_string().as_bytes());
        sys::exit(125);
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    sys::reset_signals();
    let Err(errno) = nix::unistd::execve(program, args, env);
    let (text, code): (&[u8], i32) = match errno {
        nix::Error::ENOENT => (b"no such file or directory", 127),
        nix::Error::EACCES => (b"permission denied", 126),
        nix::Error::ENOEXEC => (b"exec format error", 126),
        _ => (b"it cannot be executed", 126),
    };
    let _ = rustix::io::write(rustix::stdio::stderr(), text);
    sys::exit(code)
}

#[cfg(test)]
mod tests;
