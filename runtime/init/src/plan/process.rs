//! The process of a plan: what it executes, as whom, and what it may do.

use crate::codec::records;
use std::ffi::OsString;
use std::path::PathBuf;

records! {
    /// The process to execute.
    #[derive(Default)]
    pub struct Process {
        /// Its arguments; the first names the program, looked up in the PATH of `env` when it has no slash.
        pub args: Vec<OsString>,
        /// Its whole environment, as `KEY=value`.
        pub env: Vec<OsString>,
        /// Its working directory, made when missing.
        pub cwd: PathBuf,
        /// User id inside.
        pub uid: u32,
        /// Group id inside.
        pub gid: u32,
        /// Supplementary groups inside.
        pub groups: Vec<u32>,
        /// File mode mask; unset: 0022.
        pub umask: Option<u32>,
        /// The five capability sets.
        pub capabilities: Capabilities,
        /// Whether execve grants no privileges.
        pub no_new_privileges: bool,
        /// System call filter.
        pub seccomp: Option<Seccomp>,
        /// Resource limits.
        pub rlimits: Vec<Rlimit>,
        /// The out-of-memory score adjustment.
        pub oom_score_adj: Option<i32>,
        /// How it is scheduled; unset: as who makes it.
        pub scheduler: Option<Scheduler>,
        /// I/O priority as ioprio_set(2) takes it: the class from bit 13 on, the level below.
        pub io_priority: Option<u16>,
        /// CPUs it runs on before it joins its cgroups; empty: those of who makes it.
        pub initial_cpus: Vec<u32>,
        /// CPUs it runs on once it has joined them; empty: what the kernel makes of it.
        pub final_cpus: Vec<u32>,
        /// NUMA memory policy.
        pub memory_policy: Option<MemoryPolicy>,
        /// Execution domain, see personality(2).
        pub personality: Option<u32>,
        /// Name of the session keyring to join, made if there is none; unset: that of who makes it.
        pub keyring: Option<String>,
        /// AppArmor profile to change to at execve.
        pub apparmor_profile: Option<String>,
        /// SELinux label to change to at execve.
        pub selinux_label: Option<String>,
        /// Whether the first process is an init, and the program the second.
        pub has_init: bool,
        /// Inherited descriptors (3 and above) that stay open across execve.
        pub keep_fds: Vec<i32>,
    }

    /// Capability sets as bit masks (bit n is capability n).
    #[derive(Default)]
    pub struct Capabilities {
        /// What execve can ever grant.
        pub bounding: u64,
        /// What is in effect.
        pub effective: u64,
        /// What can be put in effect.
        pub permitted: u64,
        /// What survives execve of files with inheritable bits.
        pub inheritable: u64,
        /// What survives execve of ordinary files.
        pub ambient: u64,
    }

    /// A seccomp filter.
    pub struct Seccomp {
        /// `SECCOMP_FILTER_FLAG_*` bits.
        pub flags: u32,
        /// The BPF program: `struct sock_filter` elements of 8 bytes, native byte order.
        pub program: Vec<u8>,
        /// Who gets the notification descriptor; then `flags` has `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
        pub listener: Option<Listener>,
    }

    /// An agent that answers system calls.
    pub struct Listener {
        /// The Unix stream socket on the host that it listens on.
        pub path: PathBuf,
        /// The message that goes with the descriptor, in pieces: the process id stands between each two.
        pub message: Vec<String>,
    }

    /// Scheduling attributes, see sched_setattr(2).
    #[derive(Default)]
    pub struct Scheduler {
        /// `SCHED_*` number.
        pub policy: u32,
        /// `SCHED_FLAG_*` bits.
        pub flags: u64,
        /// Nice value.
        pub nice: i32,
        /// Static priority of real-time policies.
        pub priority: u32,
        /// Nanoseconds of the deadline policy.
        pub runtime: u64,
        /// Nanoseconds of the deadline policy.
        pub deadline: u64,
        /// Nanoseconds of the deadline policy.
        pub period: u64,
    }

    /// Memory policy, see set_mempolicy(2).
    #[derive(Default)]
    pub struct MemoryPolicy {
        /// `MPOL_*` number and `MPOL_F_*` bits.
        pub mode: u32,
        /// Bit mask of the nodes.
        pub nodes: Vec<u64>,
    }

    /// One resource limit.
    pub struct Rlimit {
        /// `RLIMIT_*` number.
        pub resource: u32,
        /// Soft limit; `u64::MAX` is infinity.
        pub soft: u64,
        /// Hard limit; `u64::MAX` is infinity.
        pub hard: u64,
        /// Whether EPERM is an error; a default that cannot be raised is not.
        pub required: bool,
    }
}
