//! System call filters: the OCI spec's rules compiled to classic BPF, and a default container's rules.
//! `tables` knows names and numbers, `bpf` puts instructions together, `profile` is Docker's default.

use std::path::PathBuf;

use oci_spec::runtime::{Arch, LinuxSeccompAction};

mod bpf;
mod compile;
mod document;
mod profile;
mod tables;

pub use compile::compile;
pub use document::{DocumentError, read as read_document};
pub use profile::default_profile;

/// Why a filter was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// This machine runs its programs, and there is no table of system calls for it.
    #[error("linux.seccomp.architectures: {architecture} is not supported")]
    Architecture {
        /// The architecture.
        architecture: Arch,
    },
    /// A comparison names an argument beyond the sixth.
    #[error("linux.seccomp.syscalls[{rule}].args: a system call has no argument {index}")]
    Argument {
        /// Index of the rule.
        rule: usize,
        /// Index of the argument.
        index: usize,
    },
    /// The kernel takes errno values up to 4095.
    #[error("linux.seccomp{place}: {errno} is not an errno")]
    Errno {
        /// Path of the field below `linux.seccomp`.
        place: String,
        /// The value.
        errno: u32,
    },
    /// Only some actions carry a number.
    #[error("linux.seccomp{place}: {action} takes no errno")]
    ErrnoUnused {
        /// Path of the field below `linux.seccomp`.
        place: String,
        /// The action.
        action: LinuxSeccompAction,
    },
    /// Metadata is for a listener.
    #[error("linux.seccomp.listenerMetadata: there is no listenerPath")]
    MetadataUnused,
    /// A rule is for some system call.
    #[error("linux.seccomp.syscalls[{rule}].names: there is none")]
    NoNames {
        /// Index of the rule.
        rule: usize,
    },
    /// Notify needs somebody to notify.
    #[error("linux.seccomp.listenerPath: a rule notifies, but there is no listener")]
    NoListener,
    /// The kernel takes 4096 instructions at most.
    #[error("linux.seccomp.syscalls: the filter has {instructions} instructions, the kernel takes 4096")]
    TooLong {
        /// How many it came to.
        instructions: usize,
    },
}

/// A compiled filter, ready for seccomp(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// `struct sock_filter` records of eight bytes in the machine's byte order.
    pub program: Vec<u8>,
    /// Flags of `SECCOMP_SET_MODE_FILTER`; with `SECCOMP_FILTER_FLAG_NEW_LISTENER` if a rule notifies.
    pub flags: u32,
    /// The socket of who gets the listener, if a rule notifies.
    pub listener: Option<PathBuf>,
}

#[cfg(test)]
mod tests;
