//! The default filter: Docker's decisions as a table. Security research, section 5.1.
//! Everything not listed fails with EPERM; `clone3` fails with ENOSYS, since its flags are behind a
//! pointer that a filter cannot follow and libc then falls back to `clone`.

use oci_spec::runtime::{
    Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder, LinuxSeccompOperator, LinuxSyscall,
};

use crate::capabilities::CapabilitySet;
use Capability::*;

/// Allowed in every container, whatever its capabilities: 361 names, some only on other machines.
const ALWAYS: &str = "\
    _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown
    chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
    eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark
    fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock
    fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex
    futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu
    getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer
    getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32
    getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents
    io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule
    landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr
    listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier
    memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect
    mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
    mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep
    newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect
    poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64
    pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64
    recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir
    rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity
    sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop
    semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area
    set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid
    setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid
    setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4
    sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat
    sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
    timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime
    utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev";

/// Allowed in addition from Linux 4.8 on, which every kernel we run on is: ptrace checks the filter there.
const TRACING: &str = "process_vm_readv process_vm_writev ptrace";

/// Allowed for containers whose bounding set has the capability.
const GATED: [(Capability, &str); 14] = [
    (DacReadSearch, "open_by_handle_at"),
    (
        SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
        lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
        quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    (SysBoot, "reboot"),
    (SysChroot, "chroot"),
    (SysModule, "delete_module init_module finit_module"),
    (SysPacct, "acct"),
    (SysPtrace, "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    (SysRawio, "iopl ioperm"),
    (SysTime, "settimeofday stime clock_settime clock_settime64"),
    (SysTtyConfig, "vhangup"),
    (SysNice, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (Syslog, "syslog"),
    (Bpf, "bpf"),
    (Perfmon, "perf_event_open"),
];

/// The flags of clone(2) that make namespaces, 0x7e020000.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Values of personality(2): Linux, 32 bit, no address randomisation with each, and "only ask".
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Returns the filter for a container whose bounding set is `capabilities`.
///
/// Sockets of the families AF_ALG (38) and AF_VSOCK (40) are refused: the first reaches kernel code that has
/// let containers out (CVE-2026-31431), the second the hypervisor.
pub fn default_profile(capabilities: CapabilitySet) -> LinuxSeccomp {
    use LinuxSeccompOperator::{ScmpCmpEq, ScmpCmpMaskedEq};
    let mut rules = vec![allow(ALWAYS), allow(TRACING), allow(machine())];
    rules.extend(socket_families().map(|(mask, family)| allow_if("socket", ScmpCmpMaskedEq, mask, Some(family))));
    rules.extend(PERSONALITIES.map(|value| allow_if("personality", ScmpCmpEq, value, None)));
    let gated = GATED.iter().filter(|(capability, _)| capabilities.contains(*capability));
    rules.extend(gated.map(|(_, names)| allow(names)));
    if !capabilities.contains(SysAdmin) {
        // The mask is `value`, the expected result `value_two`.
        rules.push(allow_if("clone", ScmpCmpMaskedEq, CLONE_NAMESPACES, Some(0)));
        let mut clone3 = rule("clone3", LinuxSeccompAction::ScmpActErrno);
        clone3.set_errno_ret(Some(ENOSYS));
        rules.push(clone3);
    }
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(EPERM))
        .set_architectures(Some(architectures()))
        .set_syscalls(Some(rules));
    profile
}

/// Every family but 38 and 40, as masks and values over the low 32 bits.
///
/// The kernel takes an `int` and drops the upper half of the register; a rule "greater than 40" over all 64
/// bits, as in Docker's profile, is passed by `38 | 1 << 32`.
fn socket_families() -> impl Iterator<Item = (u64, u64)> {
    let low = |mask: u64| mask & 0xffff_ffff;
    let blocks = [(0, 32), (32, 4), (36, 2), (39, 1), (41, 1), (42, 2), (44, 4), (48, 16)];
    let blocks = blocks.into_iter().map(move |(start, size): (u64, u64)| (low(!(size - 1)), start));
    blocks.chain((6..32).map(move |power| (low(!((1 << power) - 1)), 1 << power)))
}

/// The architectures this machine runs programs of.
fn architectures() -> Vec<Arch> {
    if cfg!(target_arch = "aarch64") {
        vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm]
    } else {
        vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]
    }
}

/// Names that are harmless where they exist.
fn machine() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls"
    } else {
        "arch_prctl modify_ldt"
    }
}

fn allow(names: &str) -> LinuxSyscall {
    rule(names, LinuxSeccompAction::ScmpActAllow)
}

fn allow_if(name: &str, operator: LinuxSeccompOperator, value: u64, value_two: Option<u64>) -> LinuxSyscall {
    let argument = LinuxSeccompArgBuilder::default().index(0_usize).op(operator).value(value);
    let argument = value_two.into_iter().fold(argument, LinuxSeccompArgBuilder::value_two);
    let mut rule = allow(name);
    rule.set_args(Some(vec![argument.build().expect("every field has a default")]));
    rule
}

fn rule(names: &str, action: LinuxSeccompAction) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.split_whitespace().map(str::to_owned).collect()).set_action(action);
    rule
}
