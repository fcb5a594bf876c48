//! What the monitor opens before the process exists, while host paths still mean what the plan's
//! author meant: the detached root, the sources of binds, namespaces to join, a private procfs.

use crate::failure::{Attempt, Failure};
use crate::idmap::Maps;
use crate::join::{self, Join, Joined};
use crate::netlink::Interface;
use crate::overlay::Overlay;
use crate::plan::{Namespace, Plan, Propagation, Root, Step, attribute};
use crate::sys;
use crate::userns::is_privileged;
use nix::sched::CloneFlags;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, fstatfs, open};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, open_tree,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
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
    /// Namespaces that are joined before the process is cloned.
    pub(crate) joins: Vec<Join>,
    /// Namespaces that the child joins once it is in its cgroups.
    pub(crate) late_joins: Vec<Join>,
    /// The interface of each such step, at the index of the step.
    pub(crate) interfaces: Vec<(usize, Interface)>,
    /// The process whose namespaces are joined.
    pub(crate) target: Option<Joined>,
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

impl Prepared {
    /// What a child that only joins uses.
    pub(crate) fn for_child(&self) -> Vec<BorrowedFd<'_>> {
        let tasks = self.tasks.iter().map(|tasks| tasks.file.as_fd());
        let others = [
            self.target.as_ref().map(Joined::as_fd),
            self.agent.as_ref().map(AsFd::as_fd),
            self.cgroup.as_ref().map(AsFd::as_fd),
        ];
        tasks.chain(others.into_iter().flatten()).collect()
    }
}

/// The `tasks` file of a cgroup. A single thread that moves itself ("0") waits for nobody; an id written to
/// `cgroup.procs` locks all threads of the host out of fork and exit first, and that takes an RCU grace period:
/// 5 to 20 ms measured against 0.05. `cgroup_procs_write_start` of the kernel. Permission is the opener's.
pub(crate) struct Tasks {
    pub(crate) file: OwnedFd,
    pub(crate) path: PathBuf,
}

pub(crate) fn prepare(plan: &Plan) -> Result<Prepared, Failure> {
    let has_user = plan.namespaces.user != Namespace::Host;
    let mut prepared = Prepared { is_deferred: has_user && !is_privileged(), ..Prepared::default() };
    if !prepared.is_deferred {
        clone_mounts(plan, &mut prepared)?;
    }
    for (index, step) in plan.steps.iter().enumerate() {
        if let Step::NetDevice { host, name } = step {
            let found = Interface::find(host, name).attempt(|| format!("find network device {host}"))?;
            prepared.interfaces.push((index, found));
        }
    }
    if needs_procfs(plan) && !join::is_by_helper(plan) {
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
    if let (Some(path), false) = (&plan.cgroups.unified, plan.cgroups.late) {
        let plain = || path_fd(path, OFlags::PATH | OFlags::DIRECTORY);
        // Root of a user namespace alone, in a mount namespace of others, may join but not mount.
        prepared.cgroup = Some(if join::is_by_helper(plan) { alone(path).or_else(|_| plain())? } else { plain()? });
    }
    for procs in plan.cgroups.procs.iter().filter(|_| !plan.cgroups.late) {
        let path = procs.with_file_name("tasks");
        match open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => prepared.tasks.push(Tasks { file, path }),
            // v2 has none.
            Err(Errno::NOENT) => prepared.procs.push(procs.clone()),
            Err(errno) => return Err(Failure::of(format!("open {}", path.display()), errno)),
        }
    }
    match &plan.target {
        Some(target) => join::target(target, &mut prepared)?,
        None => join::namespaces(plan, &mut prepared)?,
    }
    Ok(prepared)
}

/// Clones the root, the sources of binds, the host's devices and /dev/null.
pub(crate) fn clone_mounts(plan: &Plan, prepared: &mut Prepared) -> Result<(), Failure> {
    prepared.root = root(&plan.root, plan.propagation == Propagation::Slave)?;
    let mut maps = Maps::default();
    for step in &plan.steps {
        prepared.trees.push(match step {
            Step::Bind { source, .. } if !prepared.is_deferred && is_late(plan, source) => None,
            Step::Bind { source, target, recursive, ids, .. } => {
                let tree = tree(source, *recursive).map_err(|failure| for_target(failure, target))?;
                if let Some(ids) = ids {
                    maps.apply(plan, tree.as_fd(), ids).map_err(|failure| for_target(failure, target))?;
                }
                Some(tree)
            }
            Step::HostDevice { path, block, major, minor } => Some(host_device(path, *block, *major, *minor)?),
            Step::Overlay { tree, target, .. } => {
                root(tree, plan.propagation == Propagation::Slave).map_err(|failure| for_target(failure, target))?
            }
            _ => None,
        });
    }
    if plan.steps.iter().any(|step| matches!(step, Step::Mask { .. })) {
        prepared.null = Some(null()?);
    }
    Ok(())
}

/// Whether the child writes files of a procfs.
pub(crate) fn needs_procfs(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| matches!(step, Step::Sysctl { .. }))
        || plan.process.apparmor_profile.is_some()
        || plan.process.selinux_label.is_some()
        || plan.exec_fifo.is_some()
        || !plan.time_offsets.is_empty()
}

/// Mounts a procfs of the process's own pid namespace where nobody else finds it.
pub(crate) fn private_procfs() -> Result<OwnedFd, Errno> {
    fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC).and_then(finish)
}

/// Clones the cgroups that a container without a cgroup namespace sees, once they are there.
pub(crate) fn clone_late(plan: &Plan, prepared: &mut Prepared) -> Result<(), Failure> {
    for (index, step) in plan.steps.iter().enumerate() {
        if let Step::Bind { source, target, .. } = step
            && prepared.trees[index].is_none()
        {
            prepared.trees[index] = Some(tree(source, false).map_err(|failure| for_target(failure, target))?);
        }
    }
    Ok(())
}

/// Says whether a source is a cgroup that is not there yet.
fn is_late(plan: &Plan, source: &Path) -> bool {
    let cgroups = &plan.cgroups;
    let mut procs = cgroups.procs.iter().filter_map(|procs| procs.parent());
    cgroups.late && (cgroups.unified.as_deref() == Some(source) || procs.any(|directory| directory == source))
}

fn procfs() -> Result<OwnedFd, Failure> {
    match private_procfs() {
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

fn root(root: &Root, is_slave: bool) -> Result<Option<OwnedFd>, Failure> {
    match root {
        Root::None => Ok(None),
        Root::Bind { path } => {
            let mount = tree(path, true)?;
            // A slave gets what is mounted on the host's, if that is shared; whatever else it becomes it becomes inside.
            let kind = if is_slave { libc::MS_SLAVE } else { libc::MS_PRIVATE };
            sys::mount_setattr(mount.as_fd(), true, 0, 0, kind)
                .attempt(|| format!("separate {} from the host's mounts", path.display()))?;
            Ok(Some(mount))
        }
        Root::Overlay { lowers, upper, work, options } => Overlay { lowers, upper, work, options }.mount().map(Some),
        Root::Inside { pid, start_time, path } => inside(*pid, *start_time, path).map(Some),
    }
}

/// Clones what is mounted at a path of another mount namespace: only who is in it may.
fn inside(pid: u32, start_time: u64, path: &Path) -> Result<OwnedFd, Failure> {
    let step = || format!("join the mounts of process {pid}");
    let own = path_fd(Path::new("/proc/self/ns/mnt"), OFlags::RDONLY)?;
    let theirs = join::process(pid, start_time)?;
    nix::sched::setns(&theirs, CloneFlags::CLONE_NEWNS).attempt(step)?;
    let cloned = tree(path, false);
    // From here on paths are the host's again.
    nix::sched::setns(&own, CloneFlags::CLONE_NEWNS).attempt(step)?;
    cloned
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

/// Clones a directory as a read-only mount: a child has it when it is cloned into this cgroup, and is to reach nothing
/// from there, nor to write.
fn alone(path: &Path) -> Result<OwnedFd, Failure> {
    let mount = tree(path, false)?;
    sys::mount_setattr(mount.as_fd(), false, attribute::RDONLY, 0, 0).attempt(|| format!("open {}", path.display()))?;
    Ok(mount)
}

/// Says which mount could not be had.
fn for_target(failure: Failure, target: &Path) -> Failure {
    Failure { step: format!("{} for {}", failure.step, target.display()), ..failure }
}

/// Clones the host's /dev/null, and checks that it is what it should be (CVE-2025-31133).
fn null() -> Result<OwnedFd, Failure> {
    host_device(Path::new("/dev/null"), false, 1, 3)
}

/// Clones a device node of the host, and checks that it is this device.
fn host_device(path: &Path, block: bool, major: u32, minor: u32) -> Result<OwnedFd, Failure> {
    let node = tree(path, false)?;
    let stat = fstat(&node).attempt(|| format!("inspect {}", path.display()))?;
    let kind = if block { FileType::BlockDevice } else { FileType::CharacterDevice };
    let is_it = FileType::from_raw_mode(stat.st_mode) == kind && stat.st_rdev == rustix::fs::makedev(major, minor);
    let wrong = || Failure::new(format!("use {}", path.display()), format!("it is not device {major}:{minor}"));
    is_it.then_some(node).ok_or_else(wrong)
}

/// Says whether there is a file system of SELinux: the kernel registers it only when SELinux is on. Without, the
/// file that takes the label is another security module's.
pub fn has_selinux() -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.ends_with("\tselinuxfs"))
}
