//! What the monitor opens before the process exists, while host paths still mean what the plan's
//! author meant: the detached root, the sources of binds, namespaces to join, a private procfs.

use crate::failure::{Attempt, Failure};
use crate::idmap::is_privileged;
use crate::overlay::Overlay;
use crate::plan::{Namespace, Plan, Root, Step, Target};
use crate::sys;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, fstatfs, open};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, open_tree,
};
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, pidfd_open, set_dumpable_behavior};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

const PROC_MAGIC: u64 = 0x9fa0;

/// Descriptors for the child; all close-on-exec.
#[derive(Default)]
pub(crate) struct Prepared {
    /// Whether the mounts among these are left to the child, which may clone them once it is in its user
    /// namespace: the monitor has no privileges. Host paths still mean the same there, before the first mount.
    pub(crate) is_deferred: bool,
    /// The detached root mount.
    pub(crate) root: Option<OwnedFd>,
    /// The detached source of each bind step, at the index of the step.
    pub(crate) trees: Vec<Option<OwnedFd>>,
    /// A detached mount of the host's /dev/null, verified.
    pub(crate) null: Option<OwnedFd>,
    /// A private procfs; the host's, where this process may not mount one.
    pub(crate) procfs: Option<OwnedFd>,
    /// Namespaces that the child joins, the user namespace first.
    pub(crate) joins: Vec<(OwnedFd, i32)>,
    /// The process whose namespaces the child joins.
    pub(crate) target: Option<(OwnedFd, i32)>,
    /// The exec FIFO as O_PATH.
    pub(crate) fifo: Option<OwnedFd>,
    /// The agent that gets the listener of the filter.
    pub(crate) agent: Option<UnixStream>,
    /// Flags of clone3.
    pub(crate) clone_flags: u64,
    /// The cgroup directory of clone3.
    pub(crate) cgroup: Option<OwnedFd>,
    /// Cgroups of v1 that the child joins.
    pub(crate) tasks: Vec<Tasks>,
    /// `cgroup.procs` files of v2 that the parent writes the child's id to.
    pub(crate) procs: Vec<PathBuf>,
}

/// The `tasks` file of a cgroup. A single thread that moves itself ("0") waits for nobody; an id written to
/// `cgroup.procs` locks all threads of the host out of fork and exit first, and that takes an RCU grace period:
/// 5 to 20 ms measured against 0.05. `cgroup_procs_write_start` of the kernel. Permission is the opener's.
pub(crate) struct Tasks {
    pub(crate) file: OwnedFd,
    pub(crate) path: PathBuf,
}

pub(crate) fn prepare(plan: &Plan) -> Result<Prepared, Failure> {
    let has_new_user = !matches!(plan.namespaces.user, Namespace::Host);
    let mut prepared = Prepared { is_deferred: has_new_user && !is_privileged(), ..Prepared::default() };
    if !prepared.is_deferred {
        clone_mounts(plan, &mut prepared)?;
    }
    let needs_procfs = plan.steps.iter().any(|step| matches!(step, Step::Sysctl { .. }))
        || plan.process.apparmor_profile.is_some()
        || plan.process.selinux_label.is_some()
        || plan.exec_fifo.is_some();
    if needs_procfs {
        prepared.procfs = Some(procfs()?);
    }
    if plan.process.selinux_label.is_some() && !has_selinux() {
        return Err(Failure::new("use process.selinuxLabel", "the kernel has no SELinux, or it is off"));
    }
    if let Some(listener) = plan.process.seccomp.as_ref().and_then(|seccomp| seccomp.listener.as_ref()) {
        let agent = UnixStream::connect(&listener.path);
        let step = || format!("connect to linux.seccomp.listenerPath {}", listener.path.display());
        prepared.agent = Some(agent.attempt(step)?);
    }
    if let Some(path) = &plan.exec_fifo {
        prepared.fifo = Some(path_fd(path, OFlags::PATH | OFlags::NOFOLLOW)?);
    }
    if let Some(path) = &plan.cgroups.unified {
        prepared.cgroup = Some(path_fd(path, OFlags::PATH | OFlags::DIRECTORY)?);
    }
    for procs in &plan.cgroups.procs {
        let path = procs.with_file_name("tasks");
        match open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => prepared.tasks.push(Tasks { file, path }),
            // v2 has none.
            Err(Errno::NOENT) => prepared.procs.push(procs.clone()),
            Err(errno) => return Err(Failure::of(format!("open {}", path.display()), errno)),
        }
    }
    match &plan.target {
        Some(target) => join_target(target, &mut prepared)?,
        None => namespaces(plan, &mut prepared)?,
    }
    Ok(prepared)
}

/// Clones the root, the sources of binds and /dev/null.
pub(crate) fn clone_mounts(plan: &Plan, prepared: &mut Prepared) -> Result<(), Failure> {
    prepared.root = root(&plan.root)?;
    for step in &plan.steps {
        prepared.trees.push(match step {
            Step::Bind { source, recursive, .. } => Some(tree(source, *recursive)?),
            _ => None,
        });
    }
    if plan.steps.iter().any(|step| matches!(step, Step::Mask { .. })) {
        prepared.null = Some(null()?);
    }
    Ok(())
}

fn procfs() -> Result<OwnedFd, Failure> {
    match fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC).and_then(finish) {
        Err(Errno::PERM) => {}
        result => return result.attempt(|| "open a private procfs".into()),
    }
    let procfs = path_fd(Path::new("/proc"), OFlags::PATH | OFlags::DIRECTORY)?;
    let magic = fstatfs(&procfs).attempt(|| "inspect /proc".into())?.f_type as u64;
    if magic == PROC_MAGIC { Ok(procfs) } else { Err(Failure::new("use /proc", "it is no procfs")) }
}

pub(crate) fn path_fd(path: &Path, flags: OFlags) -> Result<OwnedFd, Failure> {
    open(path, flags | OFlags::CLOEXEC, Mode::empty()).attempt(|| format!("open {}", path.display()))
}

/// Makes the superblock of a configured file system and its detached mount.
pub(crate) fn finish(filesystem: OwnedFd) -> rustix::io::Result<OwnedFd> {
    fsconfig_create(&filesystem)?;
    fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// Sets one option of a file system, `key=value` or `flag`.
pub(crate) fn configure(filesystem: &OwnedFd, option: &str) -> rustix::io::Result<()> {
    match option.split_once('=') {
        Some((key, value)) => fsconfig_set_string(filesystem, key, value),
        None => fsconfig_set_flag(filesystem, option),
    }
}

fn root(root: &Root) -> Result<Option<OwnedFd>, Failure> {
    match root {
        Root::None => Ok(None),
        Root::Bind { path } => {
            let mount = tree(path, true)?;
            sys::mount_setattr(mount.as_fd(), true, 0, 0, libc::MS_PRIVATE)
                .attempt(|| format!("make {} private", path.display()))?;
            Ok(Some(mount))
        }
        Root::Overlay { lowers, upper, work, options } => Overlay { lowers, upper, work, options }.mount().map(Some),
    }
}

/// Clones a host path into a detached mount.
fn tree(path: &Path, recursive: bool) -> Result<OwnedFd, Failure> {
    let recursive_flag = if recursive { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | recursive_flag;
    open_tree(CWD, path, flags).map_err(|errno| {
        let failure = Failure::of(format!("open {}", path.display()), errno);
        match errno {
            // mount_namespaces(7): mounts from a more privileged namespace may not be uncovered.
            Errno::INVAL if !recursive => Failure {
                text: format!("{}: are there mounts below it, which only rbind takes along?", failure.text),
                ..failure
            },
            Errno::PERM => {
                Failure { text: format!("{}: it takes CAP_SYS_ADMIN or a user namespace", failure.text), ..failure }
            }
            _ => failure,
        }
    })
}

/// Clones the host's /dev/null, and checks that it is what it should be (CVE-2025-31133).
fn null() -> Result<OwnedFd, Failure> {
    let null = tree(Path::new("/dev/null"), false)?;
    let stat = fstat(&null).attempt(|| "inspect /dev/null".into())?;
    let is_null =
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == rustix::fs::makedev(1, 3);
    if is_null { Ok(null) } else { Err(Failure::new("use /dev/null", "it is not device 1:3")) }
}

/// Says whether there is a file system of SELinux: the kernel registers it only when SELinux is on. Without, the
/// file that takes the label is another security module's.
fn has_selinux() -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.ends_with("\tselinuxfs"))
}

fn join_target(target: &Target, prepared: &mut Prepared) -> Result<(), Failure> {
    let step = || format!("join process {}", target.pid);
    let pid = i32::try_from(target.pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failure::new(step(), "it has no valid process id"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).attempt(step)?;
    if target.start_time != 0 && start_time(target.pid) != Some(target.start_time) {
        return Err(Failure::new(step(), "it has ended and its id is used by another"));
    }
    // The pid and time namespaces of this process do not change, only those of its children: setns(2).
    let mut ours = libc::CLONE_NEWPID | libc::CLONE_NEWTIME;
    if !is_privileged() {
        // A user may join the others only from within the user namespace, so this process enters it too.
        // CVE-2016-9962: its root could else trace this process.
        set_dumpable_behavior(DumpableBehavior::NotDumpable).attempt(|| "become non-dumpable".into())?;
        ours |= libc::CLONE_NEWUSER;
    }
    let ours = target.namespaces as i32 & ours;
    if ours != 0 {
        nix::sched::setns(&pidfd, nix::sched::CloneFlags::from_bits_retain(ours)).attempt(step)?;
    }
    let theirs = target.namespaces as i32 & !ours;
    if theirs != 0 {
        prepared.target = Some((pidfd, theirs));
    }
    Ok(())
}

/// Returns field 22 of /proc/<pid>/stat; the name in field 2 may hold anything, so it counts from the last `)`.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let rest = &stat[stat.iter().rposition(|&byte| byte == b')')? + 1..];
    std::str::from_utf8(rest).ok()?.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn namespaces(plan: &Plan, prepared: &mut Prepared) -> Result<(), Failure> {
    let names = &plan.namespaces;
    let joins_user = matches!(names.user, Namespace::Path { .. });
    if joins_user && matches!(names.pid, Namespace::New) {
        let text = "it would not belong to the user namespace that is joined";
        return Err(Failure::new("make a new pid namespace", text));
    }
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
            Namespace::New if joins_user && kind != libc::CLONE_NEWTIME => {}
            Namespace::New => prepared.clone_flags |= kind as u64,
            Namespace::Path { path } => {
                let fd = path_fd(path, OFlags::RDONLY)?;
                refuse_parameters_of_ours(plan, path, &fd, kind)?;
                if kind & (libc::CLONE_NEWPID | libc::CLONE_NEWTIME) == 0 {
                    prepared.joins.push((fd, kind));
                    continue;
                }
                nix::sched::setns(fd, nix::sched::CloneFlags::from_bits_retain(kind))
                    .attempt(|| format!("join namespace {}", path.display()))?;
            }
        }
    }
    Ok(())
}

/// Refuses parameters of a namespace that is joined by path and turns out to be the host's.
fn refuse_parameters_of_ours(plan: &Plan, path: &Path, namespace: &OwnedFd, kind: i32) -> Result<(), Failure> {
    let (file, prefixes): (_, &[&str]) = match kind {
        libc::CLONE_NEWNET => ("net", &["net/"]),
        libc::CLONE_NEWIPC => ("ipc", &["kernel/", "fs/mqueue/"]),
        libc::CLONE_NEWUTS => ("uts", &["kernel/domainname"]),
        libc::CLONE_NEWUSER => ("user", &["user/"]),
        libc::CLONE_NEWPID => ("pid", &["kernel/ns_last_pid", "vm/"]),
        _ => return Ok(()),
    };
    let concerned = plan.steps.iter().find_map(|step| match step {
        Step::Sysctl { key, .. } => Some(key).filter(|key| prefixes.iter().any(|prefix| key.starts_with(prefix))),
        _ => None,
    });
    let Some(key) = concerned else { return Ok(()) };
    let ours = path_fd(Path::new(&format!("/proc/self/ns/{file}")), OFlags::RDONLY)?;
    let inode = |fd: &OwnedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    let is_ours = inode(namespace).and_then(|theirs| Ok(inode(&ours)? == theirs));
    match is_ours.attempt(|| format!("inspect namespace {}", path.display()))? {
        true => Err(Failure::new(format!("set sysctl {key}"), format!("namespace {} is the host's", path.display()))),
        false => Ok(()),
    }
}

/// Returns the namespaces that the child makes itself: those that come after a join or after its cgroups.
pub(crate) fn late_namespaces(plan: &Plan) -> i32 {
    let names = &plan.namespaces;
    let joins_user = matches!(names.user, Namespace::Path { .. });
    let late = |namespace: &Namespace, kind| {
        if matches!(namespace, Namespace::New) && (joins_user || kind == libc::CLONE_NEWCGROUP) { kind } else { 0 }
    };
    late(&names.mount, libc::CLONE_NEWNS)
        | late(&names.network, libc::CLONE_NEWNET)
        | late(&names.ipc, libc::CLONE_NEWIPC)
        | late(&names.uts, libc::CLONE_NEWUTS)
        | late(&names.cgroup, libc::CLONE_NEWCGROUP)
}
