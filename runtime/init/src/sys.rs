//! The only `unsafe` of the workspace: system calls that have no safe wrapper in nix or rustix.
//! Every function is safe to call from the single thread that `main` asserted; nothing here decides.

#![expect(unsafe_code, reason = "raw system calls, each with the invariant it relies on")]

use crate::plan::Scheduler;
use rustix::io::Errno;
use std::ffi::{CStr, c_long};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The constant of the libc crate is too narrow for its value.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// linux/mount.h; the libc crate has it for some C libraries only.
const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;

/// linux/keyctl.h; the libc crate has none.
const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
const KEYCTL_SETPERM: i32 = 5;

/// What `clone3` returned.
pub(crate) enum Cloned {
    /// This is the new process.
    Child,
    /// This is the old one.
    Parent { pid: u32, pidfd: OwnedFd },
}

fn check(result: c_long) -> Result<c_long, Errno> {
    if result < 0 {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        return Err(Errno::from_raw_os_error(errno));
    }
    Ok(result)
}

/// Forks with new namespaces, into a cgroup directory if one is given.
pub(crate) fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned, Errno> {
    let mut pidfd: i32 = -1;
    // SAFETY: clone_args is plain integers; all zero is its documented empty value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    if flags & libc::CLONE_PARENT as u64 == 0 {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: no stack and no CLONE_VM, so the child gets a copy of this address space; the process is
    // single-threaded (main checked /proc/self/task), so no lock is left held in the copy.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: with CLONE_PIDFD a successful clone3 stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent { pid: pid as u32, pidfd })
}

/// The stack of a helper and of the process that it clones; pages are there once they are touched.
const HELPER_STACK_BYTES: usize = 1 << 20;

/// Runs `work` in a process of its own that shares this one's memory, while this one waits for its end. Descriptors,
/// directories and namespaces are copies that `work` may change. What it clones goes on with a copy of the memory.
pub(crate) fn in_helper(mut work: &mut dyn FnMut()) -> Result<(), Errno> {
    extern "C" fn enter(work: *mut libc::c_void) -> i32 {
        // SAFETY: it points to the variable of in_helper, whose only user waits (CLONE_VFORK) until this has ended.
        let work = unsafe { &mut *work.cast::<&mut dyn FnMut()>() };
        work();
        0
    }
    const PROTECTION: i32 = libc::PROT_READ | libc::PROT_WRITE;
    const FLAGS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
    // SAFETY: a new mapping, which nobody else knows.
    let stack = unsafe { libc::mmap(std::ptr::null_mut(), HELPER_STACK_BYTES, PROTECTION, FLAGS, -1, 0) };
    if stack == libc::MAP_FAILED {
        return check(-1).map(drop);
    }
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the lowest page of that mapping, which nothing uses, is to end what overruns the stack. Then: the stack is
    // aligned and the helper's alone; this process is single-threaded (main checked /proc/self/task) and stands still
    // as long as the helper runs, so that to the memory they are one thread.
    let pid = unsafe {
        libc::mprotect(stack, 4096, libc::PROT_NONE);
        check(libc::clone(enter, stack.byte_add(HELPER_STACK_BYTES), flags, (&raw mut work).cast()).into())
    };
    // SAFETY: the helper has ended, and what it cloned has a copy.
    unsafe { libc::munmap(stack, HELPER_STACK_BYTES) };
    let pid = rustix::process::Pid::from_raw(pid? as i32);
    let _ = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
    Ok(())
}

/// Closes every descriptor that is not among `kept`, which is sorted, in a helper, or in a process that is about to
/// execute or end: owners of what is closed are not dropped in it.
pub(crate) fn close_others(kept: &[i32]) -> Result<(), Errno> {
    let mut first = 0;
    for end in kept.iter().map(|&fd| fd as u32).chain([u32::MAX]) {
        if first < end {
            // SAFETY: it is the table of a process in which nobody uses or drops the owners of what is closed.
            check(unsafe {
                libc::syscall(libc::SYS_close_range, first, if end == u32::MAX { end } else { end - 1 }, 0)
            })?;
        }
        first = end.saturating_add(1);
    }
    Ok(())
}

/// Changes attributes and propagation (`MS_*`, 0: as it is) of the mount that `mount` refers to.
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    recursive: bool,
    set: u64,
    clear: u64,
    propagation: u64,
) -> Result<(), Errno> {
    set_attributes(mount, recursive, libc::mount_attr { attr_set: set, attr_clr: clear, propagation, userns_fd: 0 })
}

/// Maps the ids of a detached mount as a user namespace does.
pub(crate) fn map_ids(mount: BorrowedFd<'_>, recursive: bool, user_namespace: BorrowedFd<'_>) -> Result<(), Errno> {
    let userns_fd = user_namespace.as_raw_fd() as u64;
    let attributes = libc::mount_attr { attr_set: MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd };
    set_attributes(mount, recursive, attributes)
}

fn set_attributes(mount: BorrowedFd<'_>, recursive: bool, attributes: libc::mount_attr) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated literal and the struct outlives the call, with its size.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of_val(&attributes),
        )
    })
    .map(drop)
}

/// Marks every descriptor from 3 on close-on-exec.
pub(crate) fn close_on_exec_all() -> Result<(), Errno> {
    // SAFETY: changes only a flag of descriptors; none is closed while it is owned.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Whether a descriptor of this number is open.
pub(crate) fn is_open(fd: i32) -> bool {
    // SAFETY: F_GETFD only reads a flag; it fails for a number that is not open.
    check(unsafe { libc::fcntl(fd, libc::F_GETFD) }.into()).is_ok()
}

/// Sends a signal by number; rustix knows no real-time ones.
pub(crate) fn pidfd_send_signal(process: BorrowedFd<'_>, number: i32) -> Result<(), Errno> {
    // SAFETY: the kernel checks the number; a null siginfo means that of kill(2), and flags must be 0.
    check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), number, std::ptr::null::<libc::siginfo_t>(), 0)
    })
    .map(drop)
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: i32) -> Result<(), Errno> {
    // SAFETY: the callers do this before they open anything, so nothing owns what is closed.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// Takes ownership of a descriptor that was inherited at exec.
pub(crate) fn inherited(fd: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: F_GETFD only reads a flag; it fails for a number that is not open.
    check(unsafe { libc::fcntl(fd, libc::F_GETFD) }.into())?;
    // SAFETY: it is open, and main calls this once per number, before it opens anything itself.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets an inherited descriptor stay open across execve.
pub(crate) fn keep_open(fd: i32) -> Result<(), Errno> {
    // SAFETY: changes a flag of a descriptor number; a closed one is an error.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }.into()).map(drop)
}

/// Loads a seccomp filter of 8-byte instructions; returns the listener if the flags ask for one.
pub(crate) fn seccomp(flags: u32, program: &[u8]) -> Result<Option<OwnedFd>, Errno> {
    if program.is_empty() || !program.len().is_multiple_of(8) || program.len() / 8 > usize::from(u16::MAX) {
        return Err(Errno::INVAL);
    }
    let filter: Vec<libc::sock_filter> = program
        .chunks_exact(8)
        .map(|code| libc::sock_filter {
            code: u16::from_ne_bytes([code[0], code[1]]),
            jt: code[2],
            jf: code[3],
            k: u32::from_ne_bytes([code[4], code[5], code[6], code[7]]),
        })
        .collect();
    let header = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: header and filter outlive the call; the kernel copies and verifies the program.
    let result =
        check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const header) })?;
    let has_listener = u64::from(flags) & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0;
    // SAFETY: with this flag the result is a new descriptor that nobody else owns.
    Ok(has_listener.then(|| unsafe { OwnedFd::from_raw_fd(result as i32) }))
}

/// `struct sched_attr` in its first form. linux/sched/types.h
#[repr(C)]
struct SchedulerAttributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets the scheduling of this thread.
pub(crate) fn set_scheduler(scheduler: &Scheduler) -> Result<(), Errno> {
    let attributes = SchedulerAttributes {
        size: size_of::<SchedulerAttributes>() as u32,
        policy: scheduler.policy,
        flags: scheduler.flags,
        nice: scheduler.nice,
        priority: scheduler.priority,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
    };
    // SAFETY: the struct outlives the call and says its own size.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) }).map(drop)
}

/// Sets the I/O priority of this process.
pub(crate) fn set_io_priority(priority: u16) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, i32::from(priority)) }).map(drop)
}

/// Sets the memory policy of this thread.
pub(crate) fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<(), Errno> {
    // The kernel takes one bit less than it is told: get_nodes() in mm/mempolicy.c.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let mask = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the mask has the bits that are read, and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) }).map(drop)
}

/// Sets the execution domain.
pub(crate) fn set_personality(personality: u32) -> Result<(), Errno> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_personality, personality) }).map(drop)
}

/// Joins the session keyring of that name, made if there is none, and returns its serial number.
pub(crate) fn join_session_keyring(name: &CStr) -> Result<i32, Errno> {
    // SAFETY: the name ends with NUL and outlives the call.
    let serial = check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) })?;
    Ok(serial as i32)
}

/// Sets the permissions of a key.
pub(crate) fn set_key_permissions(serial: i32, permissions: u32) -> Result<(), Errno> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, serial, permissions) }).map(drop)
}

/// Sets one resource limit of this process.
pub(crate) fn setrlimit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the struct outlives the call, and no old value is asked for.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, std::ptr::null_mut::<libc::rlimit64>())
    })
    .map(drop)
}

/// Returns the soft and the hard value of one resource limit of this process.
pub(crate) fn getrlimit(resource: u32) -> Result<(u64, u64), Errno> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is written and outlives the call, and no new value is given.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, std::ptr::null::<libc::rlimit64>(), &raw mut limit)
    })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Gives every signal its default action and unblocks all of them.
pub(crate) fn reset_signals() {
    // The kernel's struct sigaction; glibc refuses to touch signals 32 and 33, which may be inherited as ignored.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // SAFETY: all zero is SIG_DFL with no flags, so none of our code is named; the struct outlives the
        // call. For SIGKILL and SIGSTOP the call fails without effect.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null_mut::<u64>(), 8);
        }
    }
    // SAFETY: sigset_t is plain integers, and sigemptyset initialises it before use.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Brings the interface `lo` of this network namespace up.
pub(crate) fn loopback_up(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: ifreq is plain integers and a union of them; all zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which outlives the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into()).map(drop)
}

/// `struct fsxattr`: what a file system keeps of a file beside mode and owner. linux/fs.h
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct FileAttributes {
    pub(crate) flags: u32,
    pub(crate) extent_size: u32,
    pub(crate) extents: u32,
    pub(crate) project: u32,
    pub(crate) copy_extent_size: u32,
    pub(crate) padding: [u8; 8],
}

/// Reads those of an open file or directory.
pub(crate) fn file_attributes(file: BorrowedFd<'_>) -> Result<FileAttributes, Errno> {
    const GET: u32 = rustix::ioctl::opcode::read::<FileAttributes>(b'X', 31);
    let mut attributes = FileAttributes::default();
    // SAFETY: FS_IOC_FSGETXATTR writes one such struct, which outlives the call.
    check(unsafe { libc::ioctl(file.as_raw_fd(), GET.into(), &raw mut attributes) }.into())?;
    Ok(attributes)
}

/// Writes those of an open file or directory.
pub(crate) fn set_file_attributes(file: BorrowedFd<'_>, attributes: &FileAttributes) -> Result<(), Errno> {
    const SET: u32 = rustix::ioctl::opcode::write::<FileAttributes>(b'X', 32);
    // SAFETY: FS_IOC_FSSETXATTR reads one such struct, which outlives the call.
    check(unsafe { libc::ioctl(file.as_raw_fd(), SET.into(), std::ptr::from_ref(attributes)) }.into()).map(drop)
}

/// What a project has of a file system, and may have. quotactl(2), `struct dqblk`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ProjectQuota {
    /// Bytes that it may have; 0: no limit.
    pub(crate) limit: u64,
    /// Bytes that it has.
    pub(crate) bytes: u64,
    /// Files and directories that it has.
    pub(crate) files: u64,
}

/// Calls `quotactl_fd` for project quotas of the file system of an open file, with the struct that the command is for.
fn project_quota<T>(file: BorrowedFd<'_>, command: i32, project: u32, argument: &mut T) -> Result<(), Errno> {
    const PROJECTS: u32 = 2;
    let command = (command as u32) << 8 | PROJECTS;
    // SAFETY: the callers below give the struct that their command reads or writes; it outlives the call.
    check(unsafe {
        libc::syscall(libc::SYS_quotactl_fd, file.as_raw_fd(), command, project, std::ptr::from_mut(argument))
    })
    .map(drop)
}

/// An empty `struct dqblk`.
fn quota_block() -> libc::dqblk {
    // SAFETY: the struct is plain integers; all zero is valid.
    unsafe { std::mem::zeroed() }
}

/// The unit of limits in `struct dqblk`, in bytes. linux/quota.h, QIF_DQBLKSIZE
const QUOTA_BLOCK: u64 = 1024;

/// Reads what a project has and may have.
pub(crate) fn quota_of(file: BorrowedFd<'_>, project: u32) -> Result<ProjectQuota, Errno> {
    let mut block = quota_block();
    project_quota(file, libc::Q_GETQUOTA, project, &mut block)?;
    let limit = block.dqb_bhardlimit.saturating_mul(QUOTA_BLOCK);
    Ok(ProjectQuota { limit, bytes: block.dqb_curspace, files: block.dqb_curinodes })
}

/// Limits the bytes of a project, rounded up to 1024; 0: no limit.
pub(crate) fn set_quota(file: BorrowedFd<'_>, project: u32, bytes: u64) -> Result<(), Errno> {
    let mut block = quota_block();
    let blocks = bytes.div_ceil(QUOTA_BLOCK);
    (block.dqb_bhardlimit, block.dqb_bsoftlimit, block.dqb_valid) = (blocks, blocks, libc::QIF_BLIMITS);
    project_quota(file, libc::Q_SETQUOTA, project, &mut block)
}

/// `struct fs_quota_statv`. linux/dqblk_xfs.h
#[derive(Default)]
#[repr(C)]
struct QuotaState {
    version: i8,
    padding: u8,
    flags: u16,
    in_core: u32,
    files: [[u64; 3]; 3],
    limits: [i32; 3],
    warnings: [u16; 4],
    more: u32,
    rest: [u64; 7],
}

/// Whether limits of projects are in force on the file system of an open file.
pub(crate) fn has_project_limits(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    /// Q_XGETQSTATV and FS_QUOTA_PDQ_ENFD.
    const GET_STATE: i32 = (b'X' as i32) << 8 | 8;
    const IN_FORCE: u16 = 1 << 5;
    let mut state = QuotaState { version: 1, ..QuotaState::default() };
    project_quota(file, GET_STATE, 0, &mut state)?;
    Ok(state.flags & IN_FORCE != 0)
}

/// Commands and constants of bpf(2), from linux/bpf.h.
mod bpf {
    pub(super) const PROG_LOAD: i32 = 5;
    pub(super) const PROG_ATTACH: i32 = 8;
    pub(super) const PROG_DETACH: i32 = 9;
    pub(super) const PROG_GET_FD_BY_ID: i32 = 13;
    pub(super) const PROG_QUERY: i32 = 16;
    pub(super) const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
    pub(super) const CGROUP_DEVICE: u32 = 6;
    pub(super) const F_ALLOW_MULTI: u32 = 2;
    pub(super) const F_REPLACE: u32 = 4;
    /// The kernel allows no more per cgroup.
    pub(super) const MAX_PROGRAMS: usize = 64;

    /// The part of `union bpf_attr` for attaching and detaching.
    #[derive(Default)]
    #[repr(C)]
    pub(super) struct Attach {
        pub(super) target_fd: i32,
        pub(super) program_fd: i32,
        pub(super) kind: u32,
        pub(super) flags: u32,
        pub(super) replace_fd: i32,
    }

    /// The part for loading.
    #[derive(Default)]
    #[repr(C)]
    pub(super) struct Load {
        pub(super) kind: u32,
        pub(super) count: u32,
        pub(super) instructions: u64,
        pub(super) license: u64,
        pub(super) log: [u64; 2],
        pub(super) kernel_version: u32,
        pub(super) flags: u32,
    }

    /// The part for asking what is attached.
    #[derive(Default)]
    #[repr(C)]
    pub(super) struct Query {
        pub(super) target_fd: i32,
        pub(super) kind: u32,
        pub(super) flags: [u32; 2],
        pub(super) ids: u64,
        pub(super) count: u32,
        pub(super) padding: u32,
    }
}

/// Calls bpf(2) with one of the structs above, which are plain integers.
fn bpf<T>(command: i32, attributes: &mut T) -> Result<c_long, Errno> {
    // SAFETY: the struct outlives the call and goes with its size; the kernel checks every field. What its addresses
    // point to is alive and of the stated length: each caller below holds it across the call.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) })
}

/// Loads an eBPF program that decides on accesses to devices.
pub(crate) fn bpf_load_device_filter(program: &[u64]) -> Result<OwnedFd, Errno> {
    let mut load = bpf::Load {
        kind: bpf::PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).map_err(|_| Errno::INVAL)?,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..bpf::Load::default()
    };
    let fd = bpf(bpf::PROG_LOAD, &mut load)?;
    // SAFETY: BPF_PROG_LOAD returned a new descriptor (close-on-exec) that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches a device filter beside others, or in place of `replaced`.
pub(crate) fn bpf_attach(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let mut attach = bpf::Attach {
        target_fd: cgroup.as_raw_fd(),
        program_fd: program.as_raw_fd(),
        kind: bpf::CGROUP_DEVICE,
        flags: bpf::F_ALLOW_MULTI | replaced.map_or(0, |_| bpf::F_REPLACE),
        replace_fd: replaced.map_or(0, |replaced| replaced.as_raw_fd()),
    };
    bpf(bpf::PROG_ATTACH, &mut attach).map(drop)
}

/// Detaches a device filter.
pub(crate) fn bpf_detach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut attach = bpf::Attach {
        target_fd: cgroup.as_raw_fd(),
        program_fd: program.as_raw_fd(),
        kind: bpf::CGROUP_DEVICE,
        ..bpf::Attach::default()
    };
    bpf(bpf::PROG_DETACH, &mut attach).map(drop)
}

/// Returns the ids of the device filters of a cgroup.
pub(crate) fn bpf_query(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    let mut ids = vec![0_u32; bpf::MAX_PROGRAMS];
    let mut query = bpf::Query {
        target_fd: cgroup.as_raw_fd(),
        kind: bpf::CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: bpf::MAX_PROGRAMS as u32,
        ..bpf::Query::default()
    };
    bpf(bpf::PROG_QUERY, &mut query)?;
    ids.truncate(query.count as usize);
    Ok(ids)
}

/// Opens a program by its id.
pub(crate) fn bpf_program(id: u32) -> Result<OwnedFd, Errno> {
    let mut attributes = [id, 0, 0];
    let fd = bpf(bpf::PROG_GET_FD_BY_ID, &mut attributes)?;
    // SAFETY: BPF_PROG_GET_FD_BY_ID returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Ends this process at once: no destructors, no handlers, no flushing.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: always allowed; the kernel releases everything.
    unsafe { libc::_exit(code) }
}
