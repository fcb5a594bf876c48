//! The plan of one process in its container: plain data, every decision made by who wrote it.
//! `strata-init` only acts on it. Nothing here touches the system; the binary form is in codec.rs.

use crate::codec::{DecodeError, Reader, Wire, choice, records};
use std::ffi::OsString;
use std::path::PathBuf;

mod log;
mod process;
mod step;

pub use log::*;
pub use process::*;
pub use step::*;

/// The largest encoded plan that is read.
pub const MAX_PLAN_BYTES: usize = 32 << 20;

records! {
    /// All that `strata-init` has to do for one process. [`Plan::default`] is the empty plan: every
    /// namespace the host's, no steps, no process.
    #[derive(Default)]
    pub struct Plan {
        /// The namespaces to make or join.
        pub namespaces: Namespaces,
        /// The running process whose namespaces an `exec` joins, or whose mounts a `change` changes; `namespaces` is
        /// then all [`Namespace::Host`], `root` is [`Root::None`], and only a `change` has `steps`.
        pub target: Option<Target>,
        /// User id map of a new user namespace.
        pub uid_map: Vec<IdMap>,
        /// Group id map of a new user namespace.
        pub gid_map: Vec<IdMap>,
        /// The root file system.
        pub root: Root,
        /// Whether the root mount is read-only in the end (after the steps).
        pub readonly_root: bool,
        /// Propagation of the whole tree in the new mount namespace.
        pub propagation: Propagation,
        /// What to do inside, in this order, before the process is ready.
        pub steps: Vec<Step>,
        /// The process.
        pub process: Process,
        /// Programs of others that run on the way.
        pub hooks: Hooks,
        /// The cgroups, made and limited beforehand by the caller.
        pub cgroups: Cgroups,
        /// Standard streams.
        pub streams: Streams,
        /// Log file; unset: there is none.
        pub log: Option<Log>,
        /// Who is sent each line of output, beside that.
        pub log_receiver: Option<LogReceiver>,
        /// File that gets the exit record (JSON) before anyone is told of the exit.
        pub exit_record: Option<PathBuf>,
        /// Whether the exit record survives a crash of the host too: it is synced, which costs up to milliseconds.
        pub is_exit_record_durable: bool,
        /// Unix socket that the monitor listens on (see [`crate::wire`]); at most 100 bytes.
        pub control_socket: Option<PathBuf>,
        /// Role `once`: a FIFO that the process opens for writing, and writes one byte to, just before it executes.
        pub exec_fifo: Option<PathBuf>,
        /// Role `once` with a terminal: the Unix socket that gets the pty master by SCM_RIGHTS.
        pub console_socket: Option<PathBuf>,
        /// Whether the root is entered by chroot(2), for a host whose own root pivot_root(2) refuses (an initramfs).
        pub no_pivot: bool,
        /// Offsets of the clocks of a new time namespace.
        pub time_offsets: Vec<TimeOffset>,
        /// How a runtime that is gone by the end of the process is started again; unset: it is not.
        pub waker: Option<Waker>,
    }

    /// What starts the runtime again.
    pub struct Waker {
        /// Absolute path of a program that starts it, and ends.
        pub program: PathBuf,
        /// Its arguments.
        pub args: Vec<OsString>,
        /// Its whole environment, as `KEY=value`.
        pub env: Vec<OsString>,
        /// Whether an end with exit code 0 needs nobody.
        pub only_after_failure: bool,
    }

    /// How far a clock inside is ahead of the host's.
    pub struct TimeOffset {
        /// `monotonic` or `boottime`.
        pub clock: String,
        /// Seconds; negative: behind.
        pub seconds: i64,
        /// Nanoseconds on top of them.
        pub nanoseconds: u32,
    }

    /// Where each namespace comes from.
    #[derive(Default)]
    pub struct Namespaces {
        /// User ids and capabilities.
        pub user: Namespace,
        /// Mounts.
        pub mount: Namespace,
        /// Process ids.
        pub pid: Namespace,
        /// Network.
        pub network: Namespace,
        /// System V IPC and POSIX message queues.
        pub ipc: Namespace,
        /// Host name.
        pub uts: Namespace,
        /// Cgroup root; always made after the process has joined its cgroups.
        pub cgroup: Namespace,
        /// Monotonic and boot clocks.
        pub time: Namespace,
    }

    /// A process whose namespaces are joined.
    pub struct Target {
        /// Its process id as the monitor sees it.
        pub pid: u32,
        /// Its start time, field 22 of `/proc/<pid>/stat`; 0: not checked.
        pub start_time: u64,
        /// The namespaces to join, as `CLONE_NEW*` bits.
        pub namespaces: u32,
    }

    /// One line of a uid_map or gid_map.
    pub struct IdMap {
        /// First id inside.
        pub inside: u32,
        /// First id outside.
        pub outside: u32,
        /// How many.
        pub count: u32,
    }

    /// Programs of others that run at points of the container's life, in this order; see [`crate::run_hooks`] for
    /// those after it started or ended.
    #[derive(Default)]
    pub struct Hooks {
        /// What each gets on standard input: a JSON object, to which status and process id are added.
        pub state: String,
        /// Directory of the host that the root is attached to while hooks run, so that they find it where the bundle
        /// has it; unset: `/`.
        pub root_at: Option<PathBuf>,
        /// Run outside once namespaces and mounts exist, before the root is entered.
        pub prestart: Vec<Hook>,
        /// Run outside next.
        pub create_runtime: Vec<Hook>,
        /// Run inside next, from paths of the host.
        pub create_container: Vec<Hook>,
        /// Run inside, from paths inside and with what the process may do, just before the process executes.
        pub start_container: Vec<Hook>,
    }

    /// A program of others.
    pub struct Hook {
        /// Its absolute path.
        pub path: PathBuf,
        /// Its arguments, the name included; none: the path alone.
        pub args: Vec<OsString>,
        /// Its whole environment, as `KEY=value`.
        pub env: Vec<OsString>,
        /// Seconds after which it is killed.
        pub timeout_seconds: Option<u32>,
    }

    /// The cgroups of the process.
    #[derive(Default)]
    pub struct Cgroups {
        /// `cgroup.procs` files of the cgroups that the process joins before any of the steps (v1, hybrid, or v2 too).
        /// On v1 it joins by the `tasks` file beside them.
        pub procs: Vec<PathBuf>,
        /// v2: directory that the process is cloned into.
        pub unified: Option<PathBuf>,
        /// `memory.events` (v2) or `memory.oom_control` (v1), read at exit for the `oom_killed` of the record.
        pub oom_events: Option<PathBuf>,
        /// Whether the caller makes them only once the process is there, and puts it into them: nothing of them is
        /// opened before, and nothing joined by this crate.
        pub late: bool,
    }

    /// Standard streams of roles `monitor` and `exec`; role `once` passes its own 0, 1 and 2.
    #[derive(Default)]
    pub struct Streams {
        /// A terminal of this size; unset: pipes.
        pub terminal: Option<TerminalSize>,
        /// Whether standard input comes from attached clients; otherwise it is `/dev/null` (without terminal).
        pub stdin: bool,
        /// Whether standard input ends when the first client that attached to it goes away.
        pub stdin_once: bool,
    }

    /// Size of a terminal in characters.
    #[derive(Default)]
    pub struct TerminalSize {
        /// Rows.
        pub rows: u16,
        /// Columns.
        pub columns: u16,
    }
}

choice! {
    /// Where a namespace comes from.
    #[derive(Default)]
    pub enum Namespace {
        /// The one of the monitor.
        #[default]
        0 = Host,
        /// A new one.
        1 = New,
        /// That of a namespace file.
        2 = Path {
            /// For example `/proc/42/ns/net`.
            path: PathBuf,
        },
    }
}

choice! {
    /// The root file system of the container.
    #[derive(Default)]
    pub enum Root {
        /// That of the mount namespace as it is.
        #[default]
        0 = None,
        /// An overlay, made detached by the monitor.
        1 = Overlay {
            /// Read-only layers, the topmost first.
            lowers: Vec<PathBuf>,
            /// The writable layer.
            upper: PathBuf,
            /// The empty work directory beside it.
            work: PathBuf,
            /// Further options, as `key=value` or `flag` (`index=off`, `volatile`, ...).
            options: Vec<String>,
        },
        /// A directory of the host, bind-mounted recursively.
        2 = Bind {
            /// The directory.
            path: PathBuf,
        },
        /// What is mounted at a path in the mount namespace of another process.
        3 = Inside {
            /// Its process id as the monitor sees it.
            pid: u32,
            /// Its start time, field 22 of `/proc/<pid>/stat`.
            start_time: u64,
            /// The path.
            path: PathBuf,
        },
    }
}

choice! {
    /// How mount events travel.
    #[derive(Default)]
    pub enum Propagation {
        /// Not at all.
        #[default]
        0 = Private,
        /// From outside to inside.
        1 = Slave,
        /// Both ways.
        2 = Shared,
        /// Not at all, and the mount cannot be bound elsewhere.
        3 = Unbindable,
    }
}

impl Hooks {
    /// Whether the process waits for hooks outside before it enters its root.
    pub(crate) fn run_outside(&self) -> bool {
        !self.prestart.is_empty() || !self.create_runtime.is_empty()
    }
}

impl Plan {
    /// Returns the binary form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 << 10);
        self.put(&mut out);
        out
    }

    /// Reads the binary form; all of `bytes` must be used.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_PLAN_BYTES {
            return Err(DecodeError::TooLarge);
        }
        let mut input = Reader(bytes);
        let plan = Self::take(&mut input)?;
        input.end()?;
        Ok(plan)
    }
}

#[cfg(test)]
mod tests;
