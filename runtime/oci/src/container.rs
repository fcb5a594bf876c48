//! Making a container: its directory is claimed, its cgroup made, its process brought to the last gate by the code of
//! strata-init in this very program, which has one thread and runs from a sealed copy.
//! What fails, or is dropped before [`Claim::keep`], leaves nothing.

use std::{
    cell::{Cell, RefCell},
    fs,
    io::{ErrorKind, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use oci_spec::runtime::{LinuxResources, Process, Spec};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use strata_init::{
    Made, has_selinux,
    plan::{Root, Streams},
};
use strata_oci::{
    capabilities::{self, CapabilitySet},
    cgroup::Record,
    config,
    hooks::{self, Later},
    plan::{PlanInputs, ignored_options, links, plan},
    rdt::Groups,
};

use crate::{
    Global,
    attached::Attached,
    console::host_size,
    limits::{Driver, owner},
    notify, report, rootless,
    state::{State, describe, directory},
};

/// What create and run have in common.
#[derive(clap::Args)]
pub struct Make {
    /// Directory of the bundle.
    #[arg(short, long, default_value = ".")]
    bundle: PathBuf,
    /// Unix socket that receives the terminal's master.
    #[arg(long)]
    console_socket: Option<PathBuf>,
    /// File that gets the process id.
    #[arg(long)]
    pid_file: Option<PathBuf>,
    /// How many descriptors from 3 on the process inherits; those of LISTEN_FDS come first and are added.
    #[arg(long, default_value_t = 0)]
    preserve_fds: u32,
    /// Enters the root by chroot, where the host's root is a ramfs that cannot be pivoted.
    #[arg(long)]
    no_pivot: bool,
    /// Leaves the process in the caller's session keyring.
    #[arg(long)]
    no_new_keyring: bool,
    /// Name of the container.
    pub id: String,
}

impl Make {
    /// Writes the pid file, if one is asked for; a reader sees all of it or nothing.
    pub fn write_pid_file(&self, pid: u32) -> Result<(), String> {
        write_pid_file(self.pid_file.as_deref(), pid)
    }
}

/// Who has the other end of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Nobody yet: it waits at the FIFO; a terminal goes to the console socket.
    Created,
    /// Nobody: a terminal goes to the console socket.
    Detached,
    /// This program: a terminal stays here unless there is a console socket.
    Foreground,
}

/// A name that is taken: the directory of a container that is being made.
pub struct Claim {
    directory: PathBuf,
    kept: Vec<i32>,
    cgroup: RefCell<Record>,
    resctrl: RefCell<Option<Groups>>,
    attached: RefCell<Option<Attached>>,
    pid: Cell<u32>,
    later: RefCell<Later>,
    is_kept: Cell<bool>,
}

impl Claim {
    /// Runs the hooks of a process that was executed.
    pub fn run_poststart(&self) -> Result<(), String> {
        let later = self.later.borrow();
        if later.has_poststart() {
            later.run_poststart(self.pid.get()).map_err(|failure| failure.to_string())?;
        }
        Ok(())
    }

    /// The container is there, or has been removed in good order.
    pub fn keep(&self) {
        self.is_kept.set(true);
    }
}

impl Drop for Claim {
    /// The first error counts; what cannot be removed here is found by `delete --force`.
    fn drop(&mut self) {
        if self.is_kept.get() {
            return;
        }
        if let Some(pid) = Pid::from_raw(self.pid.get() as i32) {
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
        let _ = self.cgroup.borrow().remove();
        if let Some(groups) = self.resctrl.borrow().as_ref() {
            let _ = groups.remove();
        }
        if let Some(attached) = self.attached.borrow().as_ref() {
            let _ = attached.detach();
        }
        let _ = fs::remove_dir_all(&self.directory);
        warn(&self.later.borrow().run_poststop());
    }
}

/// A container whose process stands before its last gate.
pub struct Container {
    pub process: Made,
    pub state: State,
}

/// Takes the name.
pub fn claim(global: &Global, options: &Make) -> Result<Claim, String> {
    // Before this program opens anything itself.
    let kept = kept_fds(listen_fds(), options.preserve_fds)?;
    strata_init::close_inherited(&kept).map_err(|failure| failure.to_string())?;
    let root = global.root()?;
    let directory = directory(&root, &options.id)?;
    // Security rows 39 and 40: nobody else looks or gets in, the container's own root included.
    let mut private = fs::DirBuilder::new();
    private.mode(0o700).recursive(true);
    private.create(&root).map_err(|error| format!("cannot create {}: {error}", root.display()))?;
    private.recursive(false).create(&directory).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => format!("container {} exists already", options.id),
        _ => format!("cannot create {}: {error}", directory.display()),
    })?;
    Ok(Claim {
        directory,
        kept,
        cgroup: RefCell::default(),
        resctrl: RefCell::default(),
        attached: RefCell::default(),
        pid: Cell::new(0),
        later: RefCell::default(),
        is_kept: Cell::new(false),
    })
}

/// Makes the process, and records it.
pub fn make(global: &Global, claim: &Claim, options: &Make, ends: Ends) -> Result<Container, String> {
    let bundle = fs::canonicalize(&options.bundle)
        .map_err(|error| format!("cannot open bundle {}: {error}", options.bundle.display()))?;
    let path = bundle.join("config.json");
    let bytes = config::read(&path).map_err(|error| describe(&error))?;
    let (mut spec, mut warnings) = config::parse_with_warnings(&bytes, &bundle).map_err(|error| describe(&error))?;
    let is_privileged = spec.linux().as_ref().and_then(|linux| linux.uid_mappings().as_ref()).is_none();
    // A new user namespace has them all, whatever the caller has.
    warnings.extend(ignored_options(spec.mounts().as_deref().unwrap_or_default()));
    warn_of_process(&warnings, spec.process().as_ref().filter(|_| is_privileged));
    let rootfs = config::rootfs(&spec, &bundle).map_err(|error| describe(&error))?;
    rootless::check(&spec)?;
    check_terminal(&spec, options.console_socket.as_deref(), ends)?;
    add_listen_variables(&mut spec);
    notify::prepare(&mut spec, &claim.directory)?;

    let driver = Driver::new(global.systemd_cgroup, &spec, &options.id)?;
    let mut state = State::new(&options.id, &bundle, driver.claim()?, &spec, &claim.directory);
    state.attached = Attached::look(&spec, &rootfs)?;
    claim.attached.borrow_mut().clone_from(&state.attached);
    // Before anything that has to be removed exists: a maker that is killed leaves a record of it.
    state.save()?;
    let config = state.config_path();
    fs::write(&config, &bytes).map_err(|error| format!("cannot write {}: {error}", config.display()))?;
    if ends == Ends::Created {
        make_fifo(&state.fifo())?;
    }
    let none = LinuxResources::default();
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()).unwrap_or(&none);
    note_dropped(global, resources);
    let mut limits = driver.make(resources, owner(&spec), &mut state.cgroup)?;
    if limits.has_moved {
        // A maker that is killed from here on leaves a record of the right one.
        state.save()?;
    }
    limits.notes.iter().for_each(|note| report::note(global, note));
    claim.cgroup.borrow_mut().clone_from(&state.cgroup);

    if let Some(rdt) = spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref()) {
        state.resctrl = Some(Groups::make(rdt, &options.id).map_err(|error| describe(&error))?);
        claim.resctrl.borrow_mut().clone_from(&state.resctrl);
    }

    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let told = hooks::Container { id: options.id.clone(), bundle: bundle.clone(), root_at: None };
    let later = Later::of(&spec, &told);
    let inputs = PlanInputs {
        cgroups: limits.to_plan(),
        cgroup_view: limits.view(),
        console_socket: options.console_socket.clone(),
        container: Some(told),
        device_nodes: rootless::device_nodes(),
        exec_fifo: (ends == Ends::Created).then(|| state.fifo()),
        has_selinux: spec.linux().as_ref().is_some_and(|linux| linux.mount_label().is_some()) && has_selinux(),
        keep_fds: claim.kept.clone(),
        keyring: (!options.no_new_keyring).then(|| state.keyring()),
        links: links(mounts),
        may_attach_root: true,
        resctrl: state.resctrl.as_ref().map(Groups::tasks).unwrap_or_default(),
        root: Root::Bind { path: rootfs },
        streams: Streams { terminal: host_size(), ..Streams::default() },
        ..PlanInputs::default()
    };
    let mut plan = plan(&spec, &inputs).map_err(|error| describe(&error))?;
    if let Some(note) = rootless::fit(&mut plan) {
        report::note(global, &note);
    }
    plan.no_pivot = options.no_pivot;
    later.save(&claim.directory).map_err(|error| format!("cannot write hooks of container {}: {error}", options.id))?;
    claim.later.replace(later);
    let process = limits.process(&plan, &options.id, &mut state.cgroup);
    claim.cgroup.borrow_mut().clone_from(&state.cgroup);
    let process = process.map_err(|failure| failure.to_string())?;
    claim.pid.set(process.pid());
    state.set_process(process.pid());
    state.save()?;
    Ok(Container { process, state })
}

/// Says what went wrong and stopped nothing.
pub fn warn(failures: &[strata_init::Failure]) {
    for failure in failures {
        let _ = writeln!(std::io::stderr(), "strata-oci: warning: {failure}");
    }
}

/// Writes a pid file by rename.
pub fn write_pid_file(path: Option<&Path>, pid: u32) -> Result<(), String> {
    let Some(path) = path else { return Ok(()) };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    fs::write(&new, pid.to_string())
        .and_then(|()| fs::rename(&new, path))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Returns the inherited descriptors that the process gets: those of socket activation, then as many as asked for.
pub fn kept_fds(listening: u32, preserve: u32) -> Result<Vec<i32>, String> {
    let count = listening.checked_add(preserve).filter(|count| *count <= 4096);
    let count = count.ok_or("--preserve-fds: more than 4096 descriptors")?;
    Ok((3..3 + count as i32).collect())
}

/// sd_listen_fds(3): how many sockets were passed, to this process and no other.
fn listen_fds() -> u32 {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    let is_ours = number("LISTEN_PID") == Some(std::process::id());
    number("LISTEN_FDS").filter(|_| is_ours).unwrap_or(0)
}

/// The container's process is the first in its pid namespace, usually; so other runtimes have it.
fn add_listen_variables(spec: &mut Spec) {
    let count = listen_fds();
    if let (1.., Some(process)) = (count, spec.process_mut()) {
        let mut env = process.env().clone().unwrap_or_default();
        env.extend([format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()]);
        env.extend(std::env::var("LISTEN_FDNAMES").ok().map(|names| format!("LISTEN_FDNAMES={names}")));
        process.set_env(Some(env));
    }
}

fn check_terminal(spec: &Spec, socket: Option<&Path>, ends: Ends) -> Result<(), String> {
    let has_terminal = spec.process().as_ref().is_some_and(|process| process.terminal().unwrap_or(false));
    match (has_terminal, socket) {
        (true, None) if ends != Ends::Foreground => {
            Err("process.terminal: without --console-socket nobody would hold the terminal".to_owned())
        }
        (false, Some(_)) => Err("--console-socket: process.terminal is false".to_owned()),
        _ => Ok(()),
    }
}

fn make_fifo(fifo: &Path) -> Result<(), String> {
    // Writable by others, whatever the umask: the process opens it when it is already the container's user.
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o622);
    nix::unistd::mkfifo(fifo, mode)
        .and_then(|()| {
            nix::sys::stat::fchmodat(nix::fcntl::AT_FDCWD, fifo, mode, nix::sys::stat::FchmodatFlags::FollowSymlink)
        })
        .map_err(|error| format!("cannot create {}: {error}", fifo.display()))
}

/// Tells of what goes on without (runtime spec, "Warnings"): capabilities too that cannot be given.
pub fn warn_of_process(warnings: &[String], process: Option<&Process>) {
    let held = rustix::thread::capabilities(None)
        .map_or(CapabilitySet::ALL, |sets| CapabilitySet::from_bits(sets.permitted.bits()));
    let missing = process.map_or(CapabilitySet::EMPTY, |process| held.missing_for(process));
    let missing = missing.iter().map(capabilities::name);
    let missing = missing.map(|name| format!("process.capabilities: {name} is not held here and cannot be given"));
    for warning in warnings.iter().cloned().chain(missing) {
        let _ = writeln!(std::io::stderr(), "strata-oci: warning: {warning}");
    }
}

/// Tells of a limit that the kernel has no more (runtime spec, "Memory": "deprecated").
fn note_dropped(global: &Global, resources: &LinuxResources) {
    #[allow(deprecated)]
    let kernel = resources.memory().as_ref().and_then(|memory| memory.kernel());
    if kernel.is_some_and(|kernel| kernel > 0) {
        report::note(global, "linux.resources.memory.kernel is ignored: the kernel has no such limit since 5.4");
    }
}
