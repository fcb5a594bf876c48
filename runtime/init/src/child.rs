//! The new process, from clone to "go": it joins, runs the steps, enters the root; `execute` does the rest.
//! It decides nothing, logs nothing, and leaves only by execve or `_exit`.

use crate::channel::{Channel, GO, HOOKED, MAPPED};
use crate::execute::{execute_when_started, make_ready};
use crate::failure::{Attempt, Failure};
use crate::hook::{Occasion, run_all, state_document};
use crate::join;
use crate::place::{Place, Want};
use crate::plan::{Namespace, Plan, Propagation, TerminalSize, attribute};
use crate::prepare::{Prepared, Tasks};
use crate::steps::{self, Masks, attach, clone_mount};
use crate::sys;
use crate::wire::Frame;
use rustix::fs::{Mode, OFlags, ResolveFlags, Uid, fchown, fstatfs};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, OpenTreeFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const DEVPTS_MAGIC: u64 = 0x1cd1;
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Becomes the process of the plan, or reports why not and ends.
pub(crate) fn run(plan: &Plan, prepared: &mut Prepared, channel: &Channel, stdio: &mut Option<[OwnedFd; 3]>) -> ! {
    let Err(failure) = become_process(plan, prepared, channel, stdio);
    end(&failure, channel)
}

/// Reports a failure and ends the process.
pub(crate) fn end(failure: &Failure, channel: &Channel) -> ! {
    if channel.report(&failure.to_frame(), None).is_err() {
        // Role `once`: whoever made us is gone, standard error is the caller's.
        let _ = rustix::io::write(rustix::stdio::stderr(), format!("strata-init: {failure}\n").as_bytes());
    }
    sys::exit(failure.code)
}

fn become_process(
    plan: &Plan,
    prepared: &mut Prepared,
    channel: &Channel,
    stdio: &mut Option<[OwnedFd; 3]>,
) -> Result<Infallible, Failure> {
    drop(prepared.cgroup.take());
    let Some(pid) = channel.wait_for_gate(MAPPED) else { sys::exit(125) };
    if plan.target.is_none() && !matches!(plan.namespaces.user, Namespace::New) {
        // CVE-2016-9962, as in spawn; not before the maps are written, and not where they are the caller's own.
        set_dumpable_behavior(DumpableBehavior::NotDumpable).attempt(|| "become non-dumpable".into())?;
    }
    join_cgroups(std::mem::take(&mut prepared.tasks))?;
    rustix::process::umask(Mode::empty());
    join::inside(plan, prepared)?;
    if let Some(name) = &plan.process.keyring {
        join_keyring(plan, name).attempt(|| format!("join the session keyring {name}"))?;
    }
    rustix::process::setsid().attempt(|| "make a session".into())?;
    if let Some(stdio) = stdio.take() {
        take_stdio(plan, stdio).attempt(|| "take the standard streams".into())?;
    }
    let mut place = attach_root(plan, prepared)?;
    let mut masks = Masks::default();
    for (index, step) in plan.steps.iter().enumerate() {
        steps::run(step, index, &mut place, prepared, &mut masks)?;
    }
    let master = match &plan.streams.terminal {
        Some(size) => Some(terminal(plan, &mut place, size).attempt(|| "make the terminal".into())?),
        None => None,
    };
    run_create_hooks(plan, channel)?;
    enter_root(plan, &place)?;
    let cwd = if plan.process.cwd.as_os_str().is_empty() { Path::new("/") } else { &plan.process.cwd };
    let directory = place.directory(cwd, 0o755).attempt(|| format!("open working directory {}", cwd.display()))?;
    rustix::process::fchdir(&directory).attempt(|| format!("enter {}", cwd.display()))?;
    check_cwd(cwd)?;
    let program = find_program(plan)?;
    make_ready(&plan.process, prepared)?;
    let created = std::mem::take(&mut place.created);
    let ready = Frame::Ready { pid: 0, created };
    channel
        .report(&ready, master.as_ref().map(AsFd::as_fd))
        .attempt(|| "report the mount points that were made".into())?;
    drop((master, place, directory, masks));
    if channel.wait_for_gate(GO).is_none() {
        sys::exit(125);
    }
    execute_when_started(plan, prepared, &program, channel, pid)
}

/// Lets the hooks of the host's paths run: those outside by who made us, then those inside.
fn run_create_hooks(plan: &Plan, channel: &Channel) -> Result<(), Failure> {
    let hooks = &plan.hooks;
    if hooks.run_outside() {
        channel.report(&Frame::Mounted, None).attempt(|| "report that the mounts are made".into())?;
        if channel.wait_for_gate(HOOKED).is_none() {
            sys::exit(125);
        }
    }
    if hooks.create_container.is_empty() {
        return Ok(());
    }
    let state = state_document(&hooks.state, "creating", std::process::id());
    let (field, orderer) = ("hooks.createContainer", Some(channel.as_fd()));
    run_all(&hooks.create_container, &Occasion { field, state: &state, orderer, before: &|| Ok(()) })
}

/// CVE-2024-21626: a directory that was moved out of the root after it was opened is "(unreachable)".
fn check_cwd(cwd: &Path) -> Result<(), Failure> {
    let step = || format!("enter {}", cwd.display());
    let found = rustix::process::getcwd(Vec::new()).attempt(step)?;
    if found.as_bytes().starts_with(b"/") { Ok(()) } else { Err(Failure::new(step(), "it is outside the root")) }
}

/// Joins a session keyring of the container's own, which further processes of the container can find.
fn join_keyring(plan: &Plan, name: &str) -> Result<(), Errno> {
    // linux/key.h: all for the possessor; view, read and link for the owner.
    const USUAL: u32 = 0x3f13_0000;
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    let serial = match sys::join_session_keyring(&name) {
        // A kernel without keyrings has none to share either.
        Err(Errno::NOSYS) => return Ok(()),
        result => result?,
    };
    if plan.target.is_some() {
        return Ok(());
    }
    // A keyring is found by name only with search permission; ids of another user namespace are "others".
    let search = if matches!(plan.namespaces.user, Namespace::Host) { 0x8_0000 } else { 0x8 };
    sys::set_key_permissions(serial, USUAL | search)
}

/// Joins cgroups of v1 and closes their files, which the container must not have.
fn join_cgroups(cgroups: Vec<Tasks>) -> Result<(), Failure> {
    cgroups.into_iter().try_for_each(|Tasks { file, path }| {
        rustix::io::write(&file, b"0").map(drop).attempt(|| format!("join cgroup {}", path.display()))
    })
}

fn take_stdio(plan: &Plan, [stdin, stdout, stderr]: [OwnedFd; 3]) -> Result<(), Errno> {
    let owner = Some(Uid::from_raw(plan.process.uid));
    let pipes: &[&OwnedFd] = if plan.streams.stdin { &[&stdin, &stdout, &stderr] } else { &[&stdout, &stderr] };
    for pipe in pipes {
        // So that /dev/stdout can be opened by the user; not possible for pipes from outside a user namespace.
        let _ = fchown(pipe, owner, None);
    }
    dup2_stdin(&stdin)?;
    dup2_stdout(&stdout)?;
    dup2_stderr(&stderr)
}

fn attach_root(plan: &Plan, prepared: &mut Prepared) -> Result<Place, Failure> {
    let namespace = &plan.namespaces.mount;
    match namespace {
        // With the old root out of reach but still there, what the host unmounts must go from here too.
        Namespace::New if plan.no_pivot => change_all(MountPropagationFlags::DOWNSTREAM),
        Namespace::New => change_all(MountPropagationFlags::PRIVATE),
        // Of a namespace of others only the place of our root is touched; it must not show elsewhere.
        Namespace::Path { .. } => mount_change("/", MountPropagationFlags::DOWNSTREAM),
        Namespace::Host => Ok(()),
    }
    .attempt(|| "separate the mounts".into())?;
    let host_root = || crate::prepare::path_fd(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY);
    let root = match prepared.root.take() {
        None => host_root()?,
        Some(_) if *namespace == Namespace::Host && plan.hooks.root_at.is_none() => {
            return Err(Failure::new("attach the root", "it needs a new mount namespace"));
        }
        Some(root) => {
            let point = match &plan.hooks.root_at {
                Some(path) => crate::prepare::path_fd(path, OFlags::PATH | OFlags::DIRECTORY)?,
                None => host_root()?,
            };
            attach(root.as_fd(), point.as_fd()).attempt(|| "attach the root".into())?;
            if *namespace == Namespace::Host {
                // The host's mount there may be shared: what is mounted below the root is to show nowhere else.
                sys::mount_setattr(root.as_fd(), true, 0, 0, libc::MS_PRIVATE)
                    .attempt(|| "separate the root from the host's mounts".into())?;
            }
            root
        }
    };
    Place::new(root).attempt(|| "inspect the root".into())
}

fn change_all(kind: MountPropagationFlags) -> Result<(), Errno> {
    mount_change("/", MountPropagationFlags::REC | kind)
}

/// Makes a pty of the container's devpts, puts it on standard streams and /dev/console, and returns the master.
fn terminal(plan: &Plan, place: &mut Place, size: &TerminalSize) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let master = place.open(Path::new("/dev/pts/ptmx"), flags, ResolveFlags::NO_SYMLINKS)?;
    // CVE-2025-52565: it must be a devpts, whatever the image put there.
    if fstatfs(&master)?.f_type as u64 != DEVPTS_MAGIC {
        return Err(Errno::NOTTY);
    }
    unlockpt(&master)?;
    let winsize = rustix::termios::Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&master, winsize)?;
    let peer = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    fchown(&peer, Some(Uid::from_raw(plan.process.uid)), None)?;
    if plan.target.is_none() {
        let console = place.mount_point(Path::new("/dev/console"), Want::File)?;
        let mount = clone_mount(peer.as_fd(), OpenTreeFlags::empty())?;
        attach(mount.as_fd(), console.as_fd())?;
    }
    rustix::process::ioctl_tiocsctty(&peer)?;
    dup2_stdin(&peer)?;
    dup2_stdout(&peer)?;
    dup2_stderr(&peer)?;
    Ok(master)
}

fn enter_root(plan: &Plan, place: &Place) -> Result<(), Failure> {
    if plan.readonly_root {
        sys::mount_setattr(place.root(), false, attribute::RDONLY, 0, 0)
            .attempt(|| "make the root read-only".into())?;
    }
    if plan.root == crate::plan::Root::None {
        return Ok(());
    }
    let step = || "enter the root".into();
    rustix::process::fchdir(place.root()).attempt(step)?;
    if plan.no_pivot && plan.namespaces.mount != Namespace::Host {
        hide_kernel_file_systems().attempt(|| "hide the host's kernel file systems".into())?;
    }
    if plan.no_pivot || plan.namespaces.mount != Namespace::New {
        // The root is already on top of the old one; other processes of a joined namespace keep theirs.
        rustix::process::chroot(".").attempt(step)?;
    } else {
        // pivot_root(2): with "." twice the old root ends up over the new one, and is detached from there.
        rustix::process::pivot_root(".", ".").attempt(step)?;
        unmount(".", UnmountFlags::DETACH).attempt(|| "detach the old root".into())?;
    }
    rustix::process::chdir("/").attempt(step)?;
    let kind = match plan.propagation {
        // It is already; what is mounted in it may have been asked to be otherwise.
        Propagation::Private | Propagation::Slave => return Ok(()),
        Propagation::Shared => MountPropagationFlags::SHARED,
        Propagation::Unbindable => MountPropagationFlags::UNBINDABLE,
    };
    change_all(kind).attempt(|| "set the propagation of the root".into())
}

/// Unmounts the whole views of the host that chroot(2) leaves in the namespace, or covers them where they are locked.
fn hide_kernel_file_systems() -> Result<(), Errno> {
    for path in ["/proc", "/sys"] {
        match unmount(path, UnmountFlags::DETACH) {
            // Not mounted, or not there.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(Errno::PERM) => {
                let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
                attach(steps::empty_directory()?.as_fd(), place.as_fd())?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Returns the path to execute: the first file of PATH that may be executed, or the name as it is if it has a slash.
fn find_program(plan: &Plan) -> Result<CString, Failure> {
    // Nothing to start, which the start says: a container may be made for its mounts alone.
    let Some(name) = plan.process.args.first() else { return Ok(CString::default()) };
    let failure = |errno: Errno| Failure::execute(&name.to_string_lossy(), errno);
    let to_c = |path: &[u8]| CString::new(path).map_err(|_| failure(Errno::INVAL));
    let may_execute = |path: &Path| match std::fs::metadata(path) {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => Ok(()),
        Ok(_) => Err(Errno::ACCESS),
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
    };
    if name.as_bytes().contains(&b'/') {
        return may_execute(Path::new(name)).map_err(failure).and_then(|()| to_c(name.as_bytes()));
    }
    let path = plan.process.env.iter().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="));
    let mut errno = Errno::NOENT;
    for directory in path.unwrap_or(DEFAULT_PATH.as_bytes()).split(|&byte| byte == b':') {
        if name.is_empty() {
            break;
        }
        let directory = if directory.is_empty() { b"." } else { directory };
        let candidate = Path::new(OsStr::from_bytes(directory)).join(name);
        match may_execute(&candidate) {
            Ok(()) => return to_c(candidate.as_os_str().as_bytes()),
            Err(Errno::ACCESS) => errno = Errno::ACCESS,
            Err(_) => {}
        }
    }
    Err(failure(errno))
}
