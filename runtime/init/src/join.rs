//! Namespaces: which of them the clone makes, which are joined first, and which the new process makes itself.
//! What is joined by path is joined by a helper that ends: neither monitor nor caller ever leaves its own.

use crate::channel::Channel;
use crate::failure::{Attempt, Failure};
use crate::plan::{Namespace, Plan, Step, Target};
use crate::prepare::{Prepared, clone_late, clone_mounts, needs_procfs, path_fd, private_procfs};
use crate::sys::{self, Cloned};
use crate::userns::{explain_clone, is_privileged};
use crate::wire::Frame;
use nix::sched::CloneFlags;
use rustix::fs::{Gid, Mode, OFlags, Uid, fstat, openat};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, pidfd_open, set_dumpable_behavior};
use rustix::thread;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A namespace file to join.
pub(crate) struct Join {
    fd: OwnedFd,
    kind: i32,
    path: PathBuf,
}

/// A running process whose namespaces are joined, as `CLONE_NEW*` bits.
pub(crate) struct Joined {
    pidfd: OwnedFd,
    /// By the helper that clones the child.
    early: i32,
    /// By the child.
    late: i32,
}

impl Joined {
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    fn enter_early(&self) -> Result<(), Failure> {
        self.enter(self.early)
    }

    /// Joins what is left to who acts inside.
    pub(crate) fn enter_late(&self) -> Result<(), Failure> {
        if self.late == 0 { Ok(()) } else { self.enter(self.late) }
    }

    fn enter(&self, kinds: i32) -> Result<(), Failure> {
        nix::sched::setns(&self.pidfd, CloneFlags::from_bits_retain(kinds))
            .attempt(|| "join the namespaces of the container".into())
    }
}

/// Fills in what the clone makes and what is joined before it.
pub(crate) fn namespaces(plan: &Plan, prepared: &mut Prepared) -> Result<(), Failure> {
    let names = &plan.namespaces;
    let kinds = [
        (&names.user, libc::CLONE_NEWUSER),
        (&names.mount, libc::CLONE_NEWNS),
        (&names.network, libc::CLONE_NEWNET),
        (&names.ipc, libc::CLONE_NEWIPC),
        (&names.uts, libc::CLONE_NEWUTS),
        (&names.cgroup, libc::CLONE_NEWCGROUP),
        (&names.pid, libc::CLONE_NEWPID),
        (&names.time, libc::CLONE_NEWTIME),
    ];
    for (namespace, kind) in kinds {
        match namespace {
            Namespace::Host => {}
            // The cgroup namespace shows the cgroups that the process is in when it is made, so the child
            // makes it once it has joined them; CLONE_INTO_CGROUP would still show the parent's.
            Namespace::New if kind == libc::CLONE_NEWCGROUP => {}
            // The offsets are written before anybody is in it: time_namespaces(7).
            Namespace::New if kind == libc::CLONE_NEWTIME && !plan.time_offsets.is_empty() => {}
            Namespace::New => prepared.clone_flags |= kind as u64,
            Namespace::Path { path } => {
                let join = Join { fd: path_fd(path, OFlags::RDONLY)?, kind, path: path.clone() };
                if kind == libc::CLONE_NEWNS && is_ours(&join)? {
                    let text = "it is that of the runtime itself, which a container must not change";
                    return Err(Failure::new(format!("join namespace {}", path.display()), text));
                }
                refuse_parameters_of_ours(plan, &join)?;
                if kind == libc::CLONE_NEWCGROUP { &mut prepared.late_joins } else { &mut prepared.joins }.push(join);
            }
        }
    }
    Ok(())
}

/// Refuses parameters of a namespace that is joined by path and turns out to be the host's.
fn refuse_parameters_of_ours(plan: &Plan, join: &Join) -> Result<(), Failure> {
    let prefixes: &[&str] = match join.kind {
        libc::CLONE_NEWNET => &["net/"],
        libc::CLONE_NEWIPC => &["kernel/", "fs/mqueue/"],
        libc::CLONE_NEWUTS => &["kernel/domainname"],
        libc::CLONE_NEWUSER => &["user/"],
        libc::CLONE_NEWPID => &["kernel/ns_last_pid", "vm/"],
        _ => return Ok(()),
    };
    let concerned = plan.steps.iter().find_map(|step| match step {
        Step::Sysctl { key, .. } => Some(key).filter(|key| prefixes.iter().any(|prefix| key.starts_with(prefix))),
        _ => None,
    });
    match concerned {
        Some(key) if is_ours(join)? => {
            let text = format!("namespace {} is the host's", join.path.display());
            Err(Failure::new(format!("set sysctl {key}"), text))
        }
        _ => Ok(()),
    }
}

/// Says whether a namespace is that of this process.
fn is_ours(join: &Join) -> Result<bool, Failure> {
    let file = match join.kind {
        libc::CLONE_NEWUSER => "user",
        libc::CLONE_NEWNET => "net",
        libc::CLONE_NEWIPC => "ipc",
        libc::CLONE_NEWUTS => "uts",
        libc::CLONE_NEWPID => "pid",
        _ => "mnt",
    };
    let step = || format!("inspect namespace {}", join.path.display());
    let ours = path_fd(Path::new(&format!("/proc/self/ns/{file}")), OFlags::RDONLY)?;
    let (ours, theirs) = (fstat(&ours).attempt(step)?, fstat(&join.fd).attempt(step)?);
    Ok((ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino))
}

/// Takes hold of a process; a start time of 0 is not checked.
pub(crate) fn process(pid: u32, started: u64) -> Result<OwnedFd, Failure> {
    let step = || format!("join process {pid}");
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let number = number.ok_or_else(|| Failure::new(step(), "it has no valid process id"))?;
    let pidfd = pidfd_open(number, PidfdFlags::empty()).attempt(step)?;
    if started != 0 && start_time(pid) != Some(started) {
        return Err(Failure::new(step(), "it has ended and its id is used by another"));
    }
    Ok(pidfd)
}

/// Prepares to join all namespaces of a running process.
pub(crate) fn target(target: &Target, prepared: &mut Prepared) -> Result<(), Failure> {
    let step = || format!("join process {}", target.pid);
    let pidfd = process(target.pid, target.start_time)?;
    let kinds = target.namespaces as i32;
    let (mut ours, mut early) = (0, 0);
    if is_by_helper_of(target) {
        early = kinds & (libc::CLONE_NEWPID | libc::CLONE_NEWNS);
    } else {
        // The pid namespace of this process does not change, only that of its children: setns(2).
        ours = kinds & libc::CLONE_NEWPID;
    }
    if !is_privileged() {
        // A user may join the others only from within the user namespace, so this process enters it too.
        // CVE-2016-9962: its root could else trace this process.
        set_dumpable_behavior(DumpableBehavior::NotDumpable).attempt(|| "become non-dumpable".into())?;
        ours |= kinds & libc::CLONE_NEWUSER;
    }
    if ours != 0 {
        nix::sched::setns(&pidfd, CloneFlags::from_bits_retain(ours)).attempt(step)?;
    }
    prepared.target = Some(Joined { pidfd, early, late: kinds & !ours & !early });
    Ok(())
}

/// Says whether the child of a plan is cloned by a helper that has nothing of the host.
///
/// CVE-2016-9962: whoever has CAP_SYS_PTRACE in the first user namespace looks into non-dumpable processes too. So where
/// the container has no user namespace of its own, the child must have nothing of the host from its first moment on.
pub(crate) fn is_by_helper(plan: &Plan) -> bool {
    plan.target.as_ref().is_some_and(is_by_helper_of)
}

fn is_by_helper_of(target: &Target) -> bool {
    let kinds = target.namespaces as i32;
    kinds & libc::CLONE_NEWPID != 0 && kinds & libc::CLONE_NEWUSER == 0
}

/// Returns field 22 of /proc/<pid>/stat; the name in field 2 may hold anything, so it counts from the last `)`.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let rest = &stat[stat.iter().rposition(|&byte| byte == b')')? + 1..];
    std::str::from_utf8(rest).ok()?.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// What the process does, from its first moment on.
pub(crate) type Life<'a> = &'a mut dyn FnMut(&mut Prepared);

/// Clones the process and returns its id; if namespaces are to be joined, from a helper that has joined them. Beside
/// what `prepared` has for it the process needs the descriptors `kept`.
pub(crate) fn clone(
    plan: &Plan,
    prepared: &mut Prepared,
    kept: &[i32],
    life: Life<'_>,
) -> Result<(u32, OwnedFd), Failure> {
    let step = || "clone the process".to_owned();
    if prepared.target.as_ref().is_some_and(|target| target.early != 0) {
        return clone_inside(plan, prepared, kept, life);
    }
    if prepared.joins.is_empty() {
        return match sys::clone3(prepared.clone_flags, prepared.cgroup.as_ref().map(AsFd::as_fd)) {
            Ok(Cloned::Child) => live(life, prepared),
            Ok(Cloned::Parent { pid, pidfd }) => Ok((pid, pidfd)),
            Err(errno) => Err(explain_clone(plan, errno)),
        };
    }
    let (ours, theirs) = Channel::pair().attempt(|| "make a socket pair".into())?;
    let Cloned::Parent { pidfd, .. } = sys::clone3(0, None).attempt(|| "clone the helper".into())? else {
        drop(ours);
        let told = match join_all(plan, &prepared.joins).and_then(|()| clone_sibling(prepared).attempt(step)) {
            Ok(Cloned::Child) => {
                drop(theirs);
                live(life, prepared)
            }
            Ok(Cloned::Parent { pid, pidfd }) => {
                theirs.report(&Frame::Ready { pid, created: Vec::new() }, Some(pidfd.as_fd()))
            }
            Err(failure) => theirs.report(&failure.to_frame(), None),
        };
        sys::exit(i32::from(told.is_err()));
    };
    drop(theirs);
    let heard = ours.receive();
    let wait = rustix::process::WaitId::PidFd(pidfd.as_fd());
    let _ = rustix::process::waitid(wait, rustix::process::WaitIdOptions::EXITED);
    match heard.attempt(step)? {
        Some((Frame::Ready { pid, .. }, Some(pidfd))) => Ok((pid, pidfd)),
        Some((frame, _)) => {
            Err(Failure::from_frame(frame).unwrap_or_else(|| Failure::new(step(), "the helper sent nonsense")))
        }
        None => Err(Failure::new(step(), "the helper ended")),
    }
}

fn live(life: Life<'_>, prepared: &mut Prepared) -> ! {
    life(prepared);
    sys::exit(125)
}

/// Clones a child of this process's parent.
fn clone_sibling(prepared: &Prepared) -> Result<Cloned, Errno> {
    let flags = prepared.clone_flags | libc::CLONE_PARENT as u64;
    sys::clone3(flags, prepared.cgroup.as_ref().map(AsFd::as_fd))
}

/// Clones the process from a helper that is in the container already, and has closed what the process does not need.
fn clone_inside(plan: &Plan, prepared: &mut Prepared, kept: &[i32], life: Life<'_>) -> Result<(u32, OwnedFd), Failure> {
    let step = || "clone the process".to_owned();
    let prepared_for_it: Vec<i32> = prepared.for_child().iter().map(AsRawFd::as_raw_fd).collect();
    let mut needed = [&prepared_for_it, kept, &plan.process.keep_fds, &[0, 1, 2]].concat();
    needed.sort_unstable();
    let mut made = None;
    sys::in_helper(&mut || {
        let entered = prepared.target.as_ref().map_or(Ok(()), Joined::enter_early);
        let closed = entered.and_then(|()| sys::close_others(&needed).attempt(|| "close what is the host's".into()));
        made = Some(match closed.and_then(|()| clone_sibling(prepared).attempt(step)) {
            Ok(Cloned::Child) => live(life, prepared),
            Ok(Cloned::Parent { pid, .. }) => Ok(pid),
            Err(failure) => Err(failure),
        });
    })
    .attempt(|| "clone the helper".into())?;
    let pid = made.unwrap_or_else(|| Err(Failure::new(step(), "the helper ended")))?;
    // It is our child, and has its id until we wait for it.
    let process = Pid::from_raw(pid as i32).ok_or(Errno::SRCH).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
    Ok((pid, process.attempt(step)?))
}

/// Joins what the rights of the host allow, then the user namespace, then what only its rights allow.
fn join_all(plan: &Plan, joins: &[Join]) -> Result<(), Failure> {
    let joins_user = matches!(plan.namespaces.user, Namespace::Path { .. });
    if joins_user || (matches!(plan.namespaces.pid, Namespace::Path { .. }) && plan.namespaces.user == Namespace::Host)
    {
        // CVE-2016-9962: those who are there must not reach our descriptors.
        set_dumpable_behavior(DumpableBehavior::NotDumpable).attempt(|| "become non-dumpable".into())?;
    }
    let mut later = Vec::new();
    for join in joins.iter().filter(|join| join.kind != libc::CLONE_NEWUSER) {
        match setns(join) {
            Err(Errno::PERM) if joins_user => later.push(join),
            result => result.attempt(|| named(join))?,
        }
    }
    let user = joins.iter().filter(|join| join.kind == libc::CLONE_NEWUSER);
    user.chain(later).try_for_each(|join| setns(join).attempt(|| named(join)))
}

fn setns(join: &Join) -> Result<(), Errno> {
    let flags = CloneFlags::from_bits_retain(join.kind);
    nix::sched::setns(&join.fd, flags).map_err(|errno| Errno::from_raw_os_error(errno as i32))
}

fn named(join: &Join) -> String {
    format!("join namespace {}", join.path.display())
}

/// The child's part, once it is in its cgroups.
pub(crate) fn inside(plan: &Plan, prepared: &mut Prepared) -> Result<(), Failure> {
    let names = &plan.namespaces;
    let is_mapped = |target: &Target| target.namespaces as i32 & libc::CLONE_NEWUSER != 0;
    let in_user_namespace = names.user != Namespace::Host || plan.target.as_ref().is_some_and(is_mapped);
    if let Some(target) = prepared.target.take() {
        target.enter_late()?;
    }
    if is_by_helper(plan) && needs_procfs(plan) {
        prepared.procfs = Some(private_procfs().attempt(|| "open a private procfs".into())?);
    }
    prepared.late_joins.iter().try_for_each(|join| setns(join).attempt(|| named(join)))?;
    if names.cgroup == Namespace::New {
        nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP).attempt(|| "make the cgroup namespace".into())?;
    }
    if !plan.time_offsets.is_empty() {
        time_namespace(plan, prepared)?;
    }
    if prepared.is_deferred {
        // While it is still the caller to those who own the files.
        clone_mounts(plan, prepared)?;
    } else if plan.cgroups.late {
        clone_late(plan, prepared)?;
    }
    if in_user_namespace {
        let (uid, gid) = (Uid::ROOT, Gid::ROOT);
        thread::set_thread_res_gid(gid, gid, gid).attempt(|| "become group 0 of the user namespace".into())?;
        thread::set_thread_res_uid(uid, uid, uid).attempt(|| "become user 0 of the user namespace".into())?;
    }
    Ok(())
}

/// Makes a time namespace, sets its clocks while nobody is in it, and enters it.
fn time_namespace(plan: &Plan, prepared: &Prepared) -> Result<(), Failure> {
    let kind = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);
    nix::sched::unshare(kind).attempt(|| "make the time namespace".into())?;
    for offset in &plan.time_offsets {
        let line = format!("{} {} {}", offset.clock, offset.seconds, offset.nanoseconds);
        crate::steps::write_proc(prepared, "self/timens_offsets", line.as_bytes())
            .attempt(|| format!("set the clock offset {line}"))?;
    }
    let step = || "enter the time namespace".into();
    let procfs = prepared.procfs.as_ref().ok_or(Errno::NOSYS).attempt(step)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let made = openat(procfs, "self/ns/time_for_children", flags, Mode::empty()).attempt(step)?;
    nix::sched::setns(made, kind).attempt(step)
}
