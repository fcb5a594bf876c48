//! Where our default profile differs from docker's on purpose. `runtime/oci/README.md` has a line for each.

use super::Places;

/// What a place depends on, beside the version of docker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Everywhere,
    /// Where the host has what it is about.
    OnSomeHosts,
}

/// Where ours may do less: what, with a `*` for the rest of the name, and the line that tells it.
const STRICTER: [(&str, &str, Seen); 14] = [
    ("cgroup namespace of others", "cgroup namespace", Seen::OnSomeHosts),
    ("device c 10:200 r", "/dev/net/tun", Seen::Everywhere),
    ("device c 10:200 w", "/dev/net/tun", Seen::Everywhere),
    ("reading /proc/interrupts", "/proc/interrupts, thermal counters", Seen::Everywhere),
    ("reading /sys/devices/system/cpu/*", "/proc/interrupts, thermal counters", Seen::OnSomeHosts),
    ("reading /sys/devices/virtual/powercap", "/sys/devices/virtual/powercap", Seen::Everywhere),
    ("reading /sys/fs/selinux", "/sys/fs/selinux", Seen::Everywhere),
    ("system call io_uring_enter", "io_uring", Seen::Everywhere),
    ("system call io_uring_register", "io_uring", Seen::Everywhere),
    ("system call io_uring_setup", "io_uring", Seen::Everywhere),
    ("system call socket of 0x26", "sockets of AF_ALG", Seen::Everywhere),
    ("system call socket of 0x100000026", "sockets of AF_ALG", Seen::Everywhere),
    ("system call socket of 0x28", "sockets of AF_VSOCK", Seen::Everywhere),
    ("system call socket of 0x100000028", "sockets of AF_VSOCK", Seen::Everywhere),
];

/// System calls that Debian's docker refuses and a later moby lets through: since when.
const LATER: [(&str, &str); 20] = [
    ("cachestat", "February 2024, Linux 6.5"),
    ("fchmodat2", "February 2024, Linux 6.6"),
    ("futex_requeue", "February 2024, Linux 6.7"),
    ("futex_wait", "February 2024, Linux 6.7"),
    ("futex_wake", "February 2024, Linux 6.7"),
    ("getxattrat", "May 2025, Linux 6.13"),
    ("listmount", "May 2025, Linux 6.8"),
    ("listxattrat", "May 2025, Linux 6.13"),
    ("map_shadow_stack", "February 2024, Linux 6.6"),
    ("mseal", "May 2025, Linux 6.10"),
    ("name_to_handle_at", "June 2023: what opens a handle takes CAP_DAC_READ_SEARCH"),
    ("pkey_alloc", "April 2022"),
    ("pkey_free", "April 2022"),
    ("pkey_mprotect", "April 2022"),
    ("process_vm_readv", "March 2021, as ptrace, whose checks it has"),
    ("process_vm_writev", "March 2021, as ptrace, whose checks it has"),
    ("removexattrat", "May 2025, Linux 6.13"),
    ("setxattrat", "May 2025, Linux 6.13"),
    ("statmount", "May 2025, Linux 6.8"),
    ("uretprobe", "May 2025, Linux 6.11"),
];

/// Calls that later mobys refuse, and those that depend on arguments: the first of them, and why.
pub const REFUSED: [(&str, &[u64], &str); 12] = [
    ("io_uring_enter", &[], "moby of November 2023"),
    ("io_uring_register", &[], "moby of November 2023"),
    ("io_uring_setup", &[], "moby of November 2023"),
    ("socket", &[38], "AF_ALG: moby of May 2026, CVE-2026-31431"),
    ("socket", &[38 | 1 << 32], "AF_ALG, in what the kernel takes of the register"),
    ("socket", &[40], "AF_VSOCK: moby of December 2022"),
    ("socket", &[40 | 1 << 32], "AF_VSOCK, in what the kernel takes of the register"),
    ("clone", &[0x1000_0000], "CLONE_NEWUSER"),
    ("clone", &[0x0002_0000], "CLONE_NEWNS"),
    ("clone", &[0x4000_0011], "CLONE_NEWNET with a signal"),
    ("clone3", &[], "its flags are behind a pointer"),
    ("personality", &[0x0040_0000], "READ_IMPLIES_EXEC"),
];

/// Calls that every moby refuses where no capability was added.
pub const NEVER: [&str; 34] = [
    "acct",
    "add_key",
    "bpf",
    "clock_settime",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "init_module",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "pidfd_getfd",
    "pivot_root",
    "quotactl",
    "reboot",
    "request_key",
    "setns",
    "swapon",
    "syslog",
    "umount2",
    "unshare",
    "userfaultfd",
];

/// What is masked by later mobys.
pub const MASKED: [(&str, &str); 2] = [
    ("/proc/interrupts", "moby of January 2025, GHSA-6fw5-f8r9-fgfm"),
    ("/sys/devices/virtual/powercap", "moby of October 2023, GHSA-jq35-85cj-fj4p"),
];

/// Six arguments: these, and 0.
pub fn arguments(first: &[u64]) -> [u64; 6] {
    let mut all = [0; 6];
    all[..first.len()].copy_from_slice(first);
    all
}

/// The lines that tell where ours is stricter.
pub fn told() -> impl Iterator<Item = &'static str> {
    STRICTER.iter().map(|(_, told, _)| *told)
}

fn fits(pattern: &str, place: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => place.starts_with(start),
        None => place == pattern,
    }
}

/// What is not known. Of Debian 12's docker, which the lists were written beside, also what is known and not there.
pub fn complaints(places: &Places, version: &str) -> Vec<String> {
    let is_later = |place: &String| LATER.iter().any(|(call, _)| *place == format!("system call {call}"));
    let is_stricter = |place: &String| STRICTER.iter().any(|(pattern, ..)| fits(pattern, place));
    let looser =
        places.looser.iter().filter(|place| !is_later(place)).map(|place| format!("ours allows, docker not: {place}"));
    let stricter = places.stricter.iter().filter(|place| !is_stricter(place));
    let mut complaints: Vec<String> =
        looser.chain(stricter.map(|place| format!("docker allows, ours not, and no list says so: {place}"))).collect();
    if version.starts_with("20.10.") {
        let gone = STRICTER.iter().filter(|(.., seen)| *seen == Seen::Everywhere).map(|(pattern, ..)| *pattern);
        let gone = gone.filter(|pattern| !places.stricter.iter().any(|place| fits(pattern, place)));
        complaints.extend(gone.map(|pattern| format!("docker does not allow what the list says: {pattern}")));
        let alike = LATER.iter().filter(|(call, _)| !places.looser.contains(&format!("system call {call}")));
        complaints.extend(alike.map(|(call, since)| format!("ours does not allow {call}, or docker does; {since}")));
    }
    complaints
}
