//! From a spec to a plan: everything is checked and decided here, `strata-init` only acts. Pure.
//! A field that cannot be honoured is an error that names it; nothing is left out in silence.
//! `process` does the process, `mounts` the file systems, `devices` the nodes, `network` the interfaces, `sysctl` the
//! kernel parameters, `exec` a second process.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType, Mount, Spec};
use strata_init::plan::{
    Cgroups, IdMap, Log, Namespace, Namespaces, Plan, Process, Propagation, Root, Step, Streams, TerminalSize,
    TimeOffset,
};

use crate::{default_spec::OCI_VERSION, hooks, seccomp};

mod devices;
mod exec;
mod ids;
mod mounts;
mod network;
mod process;
mod scheduling;
mod sysctl;

pub use mounts::{ignored_options, links};

pub use exec::{ExecInputs, ExecOptions, plan_exec};

/// Why a spec gave no plan.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field has a value that makes no sense or is not allowed.
    #[error("{field}: {reason}")]
    Invalid {
        /// Path of the field, as `process.env[3]`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A field asks for something that is not implemented.
    #[error("{field} is not supported")]
    Unsupported {
        /// Path of the field.
        field: String,
    },
    /// The system call filter was refused; the text names the field.
    #[error(transparent)]
    Seccomp(#[from] seccomp::Error),
}

/// How device nodes come into the container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceNodes {
    /// By mknod(2).
    #[default]
    Make,
    /// By binding the host's, where mknod is not permitted: in a user namespace.
    Bind,
}

/// What `/sys/fs/cgroup` shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CgroupView {
    /// Nothing: a mount of type `cgroup` is left out. For hosts without the permission.
    #[default]
    Nothing,
    /// The unified hierarchy (v2).
    Unified,
    /// These v1 hierarchies, each a list of controllers.
    Hierarchies(Vec<Vec<String>>),
}

/// What the caller adds to the spec: everything that is about this host and not about the container.
#[derive(Debug, Clone, Default)]
pub struct PlanInputs {
    /// The cgroups to join, made beforehand.
    pub cgroups: Cgroups,
    /// What the container sees of them, see [`crate::cgroup::Cgroup::view`].
    pub cgroup_view: CgroupView,
    /// Unix socket that gets the terminal's master (role `once`).
    pub console_socket: Option<PathBuf>,
    /// What hooks and the agent of a system call filter are told of the container; unset: a spec with hooks is refused.
    pub container: Option<hooks::Container>,
    /// Unix socket that the monitor listens on.
    pub control_socket: Option<PathBuf>,
    /// How device nodes are made; a new user namespace always binds them.
    pub device_nodes: DeviceNodes,
    /// FIFO that holds the process until it is started (role `once`).
    pub exec_fifo: Option<PathBuf>,
    /// File for the exit record.
    pub exit_record: Option<PathBuf>,
    /// Descriptors that stay open across execve.
    pub keep_fds: Vec<i32>,
    /// Name of the session keyring that the container gets; unset: the caller's is kept.
    pub keyring: Option<String>,
    /// The links that mounts with the option `copy-symlink` have as sources, see [`links`].
    pub links: BTreeMap<usize, PathBuf>,
    /// Log file.
    pub log: Option<Log>,
    /// Whether the root may be attached at its place on the host, as without a mount namespace it must be: the caller
    /// unmounts it when the container has ended.
    pub may_attach_root: bool,
    /// Whether the root is entered without pivot_root(2): on an initramfs.
    pub no_pivot: bool,
    /// The `tasks` files of the groups that `linux.intelRdt` asks for, made beforehand, see [`crate::rdt`].
    pub resctrl: Vec<PathBuf>,
    /// Whether the kernel labels files, as `linux.mountLabel` asks.
    pub has_selinux: bool,
    /// The root file system; the spec's `root.path` is not looked at.
    pub root: Root,
    /// Steps of the caller after the mounts and before the masks: secrets, links.
    pub steps: Vec<Step>,
    /// Standard streams; the terminal is the spec's, its size this one if the spec has none.
    pub streams: Streams,
}

/// Turns a spec into a plan.
pub fn plan(spec: &Spec, inputs: &PlanInputs) -> Result<Plan, Error> {
    check_version(spec.version())?;
    refuse_unsupported(spec)?;
    let none = Linux::default();
    let linux = spec.linux().as_ref().unwrap_or(&none);

    let namespaces = namespaces(linux)?;
    let mut hooks = hooks::plan(spec, inputs)?;
    match &inputs.root {
        _ if namespaces.mount != (Namespace::Host {}) => {}
        Root::Bind { path } if inputs.may_attach_root => hooks.root_at = Some(path.clone()),
        _ => return Err(invalid("linux.namespaces", "a container needs a mount namespace of its own")),
    }
    let (uid_map, gid_map) = id_maps(linux, &namespaces)?;
    let told = inputs.container.as_ref();
    let container = process::Container {
        bundle: told.map_or(Path::new(""), |told| &told.bundle),
        id: told.map_or("", |told| &told.id),
        keyring: inputs.keyring.as_deref(),
        pid: None,
        spec,
    };
    let mut process = match spec.process() {
        Some(process) => process::process(process, &container)?,
        // runtime.md, "Start": what has no process can be made, and not be started.
        None if inputs.exec_fifo.is_some() => Process { cwd: "/".into(), ..Process::default() },
        None => return Err(invalid("process", "a container needs one")),
    };
    process.keep_fds = inputs.keep_fds.clone();
    ids::check(&process, &uid_map, &gid_map)?;
    let mut cgroups = inputs.cgroups.clone();
    if linux.intel_rdt().is_some() && inputs.resctrl.is_empty() {
        return Err(unsupported("linux.intelRdt"));
    }
    // A task joins them as it joins a cgroup of v1: by its `tasks` file.
    cgroups.procs.extend(inputs.resctrl.iter().cloned());

    Ok(Plan {
        steps: steps(spec, linux, &namespaces, inputs)?,
        target: None,
        uid_map,
        gid_map,
        root: inputs.root.clone(),
        readonly_root: spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false),
        propagation: root_propagation(linux)?,
        process,
        hooks,
        cgroups,
        streams: match spec.process() {
            Some(process) => streams(process, &inputs.streams)?,
            None => Streams { terminal: None, ..inputs.streams.clone() },
        },
        log: inputs.log.clone(),
        exit_record: inputs.exit_record.clone(),
        control_socket: inputs.control_socket.clone(),
        exec_fifo: inputs.exec_fifo.clone(),
        console_socket: inputs.console_socket.clone(),
        no_pivot: inputs.no_pivot,
        time_offsets: time_offsets(linux, &namespaces)?,
        namespaces,
        ..Plan::default()
    })
}

/// The steps of mounts alone, as of a container without a user namespace of its own: for one that runs already.
pub fn mount_steps(mounts: &[Mount]) -> Result<Vec<Step>, Error> {
    let around = mounts::Around {
        linux: &Linux::default(),
        namespaces: &Namespaces::default(),
        view: &CgroupView::default(),
        cgroups: &Cgroups::default(),
        links: &BTreeMap::new(),
        label: None,
    };
    let mut steps = Vec::with_capacity(mounts.len());
    for (index, mount) in mounts.iter().enumerate() {
        mounts::push(&mut steps, mount, index, &around)?;
    }
    Ok(steps)
}

fn steps(spec: &Spec, linux: &Linux, namespaces: &Namespaces, inputs: &PlanInputs) -> Result<Vec<Step>, Error> {
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let mut steps = Vec::with_capacity(mounts.len() + 48);
    let label = linux.mount_label().as_deref().filter(|label| !label.is_empty());
    if label.is_some() && !inputs.has_selinux {
        return Err(invalid("linux.mountLabel", "the kernel has no SELinux, or it is off"));
    }
    let around = mounts::Around {
        linux,
        namespaces,
        view: &inputs.cgroup_view,
        cgroups: &inputs.cgroups,
        links: &inputs.links,
        label,
    };
    for (index, mount) in mounts.iter().enumerate() {
        mounts::push(&mut steps, mount, index, &around)?;
    }
    // A /dev of the host must not get our nodes.
    if !mounts.iter().any(|mount| clean(mount.destination()) == Path::new("/dev") && mounts::is_bind(mount)) {
        let nodes = if namespaces.user == (Namespace::Host {}) { inputs.device_nodes } else { DeviceNodes::Bind };
        devices::push(&mut steps, linux.devices().as_deref().unwrap_or_default(), nodes)?;
    }
    steps.extend(inputs.steps.iter().cloned());
    names(&mut steps, spec, namespaces)?;
    steps.extend(sysctl::steps(linux, namespaces)?);
    if namespaces.network == (Namespace::New {}) {
        steps.push(Step::LoopbackUp {});
    }
    network::push(&mut steps, linux, namespaces)?;
    for (field, paths) in [("linux.readonlyPaths", linux.readonly_paths()), ("linux.maskedPaths", linux.masked_paths())]
    {
        for (index, path) in paths.iter().flatten().enumerate() {
            let path = absolute(Path::new(path), || format!("{field}[{index}]"))?;
            let is_mask = field == "linux.maskedPaths";
            steps.push(if is_mask { Step::Mask { path } } else { Step::ReadOnly { path } });
        }
    }
    Ok(steps)
}

fn names(steps: &mut Vec<Step>, spec: &Spec, namespaces: &Namespaces) -> Result<(), Error> {
    for (field, name) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
        let Some(name) = name.as_ref().filter(|name| !name.is_empty()) else { continue };
        if namespaces.uts == (Namespace::Host {}) {
            return Err(invalid(field, "it needs a uts namespace of the container's own"));
        }
        // sethostname(2): 64 bytes without the end.
        if name.len() > 64 || name.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(invalid(field, format!("{name:?} is not a name of at most 64 characters")));
        }
        let name = name.into();
        steps.push(if field == "hostname" { Step::Hostname { name } } else { Step::Domainname { name } });
    }
    Ok(())
}

fn namespaces(linux: &Linux) -> Result<Namespaces, Error> {
    let mut namespaces = Namespaces::default();
    for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
        let field = || format!("linux.namespaces[{index}]");
        let slot = match namespace.typ() {
            LinuxNamespaceType::Mount => &mut namespaces.mount,
            LinuxNamespaceType::Cgroup => &mut namespaces.cgroup,
            LinuxNamespaceType::Uts => &mut namespaces.uts,
            LinuxNamespaceType::Ipc => &mut namespaces.ipc,
            LinuxNamespaceType::User => &mut namespaces.user,
            LinuxNamespaceType::Pid => &mut namespaces.pid,
            LinuxNamespaceType::Network => &mut namespaces.network,
            LinuxNamespaceType::Time => &mut namespaces.time,
        };
        if *slot != (Namespace::Host {}) {
            return Err(invalid(field(), "this type is listed twice"));
        }
        *slot = match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => Namespace::Path { path: absolute(path, || format!("{}.path", field()))? },
            None => Namespace::New {},
        };
    }
    Ok(namespaces)
}

fn id_maps(linux: &Linux, namespaces: &Namespaces) -> Result<(Vec<IdMap>, Vec<IdMap>), Error> {
    let map = |field: &str, mappings: &Option<Vec<LinuxIdMapping>>| {
        let maps = mappings.iter().flatten().map(|mapping| IdMap {
            inside: mapping.container_id(),
            outside: mapping.host_id(),
            count: mapping.size(),
        });
        let maps: Vec<IdMap> = maps.collect();
        let is_new = namespaces.user == (Namespace::New {});
        let is_host = namespaces.user == (Namespace::Host {});
        match (is_new, maps.is_empty()) {
            // Those of a joined namespace are what they are; mounts may refer to them.
            (false, _) if !is_host => Ok(Vec::new()),
            (true, true) => Err(invalid(field, "a new user namespace needs at least one mapping")),
            (false, false) => Err(invalid(field, "it needs a new user namespace")),
            _ if maps.iter().any(overflows) => Err(invalid(field, "a mapping is empty or goes beyond the last id")),
            _ => Ok(maps),
        }
    };
    Ok((map("linux.uidMappings", linux.uid_mappings())?, map("linux.gidMappings", linux.gid_mappings())?))
}

fn overflows(map: &IdMap) -> bool {
    map.count == 0 || map.inside.checked_add(map.count).and(map.outside.checked_add(map.count)).is_none()
}

fn time_offsets(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<TimeOffset>, Error> {
    let mut offsets: Vec<_> = linux.time_offsets().iter().flatten().collect();
    offsets.sort_by_key(|(clock, _)| clock.as_str());
    if !offsets.is_empty() && namespaces.time != (Namespace::New {}) {
        return Err(invalid("linux.timeOffsets", "it needs a new time namespace"));
    }
    let offset = |(clock, offset): (&String, &oci_spec::runtime::LinuxTimeOffset)| {
        let field = format!("linux.timeOffsets.{clock}");
        if !matches!(clock.as_str(), "boottime" | "monotonic") {
            return Err(invalid(field, "the clocks are boottime and monotonic"));
        }
        let nanoseconds = offset.nanosecs().unwrap_or(0);
        if nanoseconds >= 1_000_000_000 {
            return Err(invalid(format!("{field}.nanosecs"), "it is a second or more"));
        }
        Ok(TimeOffset { clock: clock.clone(), seconds: offset.secs().unwrap_or(0), nanoseconds })
    };
    offsets.into_iter().map(offset).collect()
}

fn root_propagation(linux: &Linux) -> Result<Propagation, Error> {
    let Some(text) = linux.rootfs_propagation().as_deref().filter(|text| !text.is_empty()) else {
        return Ok(Propagation::default());
    };
    let found = mounts::propagation(text);
    found.ok_or_else(|| invalid("linux.rootfsPropagation", format!("{text:?} is not a propagation")))
}

fn streams(process: &oci_spec::runtime::Process, streams: &Streams) -> Result<Streams, Error> {
    let side = |value: u64| u16::try_from(value).map_err(|_| invalid("process.consoleSize", "a side is over 65535"));
    let terminal = match (process.terminal().unwrap_or(false), process.console_size()) {
        (false, _) => None,
        (true, Some(size)) => Some(TerminalSize { rows: side(size.height())?, columns: side(size.width())? }),
        (true, None) => Some(streams.terminal.clone().unwrap_or(TerminalSize { rows: 24, columns: 80 })),
    };
    Ok(Streams { terminal, stdin: streams.stdin, stdin_once: streams.stdin_once })
}

/// A semantic version, from 1.0 to that of [`OCI_VERSION`]; what follows the three numbers does not matter.
fn check_version(version: &str) -> Result<(), Error> {
    let refuse = |reason: String| Err(invalid("ociVersion", reason));
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let number = |text: &str| {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        text.parse::<u32>().ok().filter(|_| is_plain)
    };
    let numbers: Option<Vec<u32>> = core.split('.').map(number).collect();
    let is_suffix = |byte: u8| byte.is_ascii_alphanumeric() || b"-.+".contains(&byte);
    let is_plain = version[core.len()..].bytes().all(is_suffix) && !version.ends_with(['-', '+', '.']);
    match numbers.as_deref() {
        Some([1, 0..=3, _]) if is_plain => Ok(()),
        Some([_, _, _]) if is_plain => {
            refuse(format!("{version} is not supported, only 1.0.0 to {OCI_VERSION} and what fixes them"))
        }
        _ => refuse(format!("{version:?} is not a semantic version")),
    }
}

/// Refuses what a spec may say and this runtime cannot do, before anything else.
fn refuse_unsupported(spec: &Spec) -> Result<(), Error> {
    for (field, is_set) in
        [("solaris", spec.solaris().is_some()), ("vm", spec.vm().is_some()), ("windows", spec.windows().is_some())]
    {
        if is_set {
            return Err(unsupported(field));
        }
    }
    Ok(())
}

fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Error {
    Error::Invalid { field: field.into(), reason: reason.into() }
}

fn unsupported(field: impl Into<String>) -> Error {
    Error::Unsupported { field: field.into() }
}

/// Returns `path` in its shortest form if it is absolute and the kernel could take it.
fn absolute(path: &Path, field: impl Fn() -> String) -> Result<PathBuf, Error> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if !path.is_absolute() {
        return Err(invalid(field(), format!("{} is not an absolute path", path.display())));
    }
    // PATH_MAX of limits.h, its NUL included.
    if bytes.contains(&0) || bytes.len() > 4095 {
        return Err(invalid(field(), "the path has a NUL byte or is over 4095 bytes"));
    }
    Ok(clean(path))
}

/// Removes `.`, `..` and doubled slashes by text alone; what links do to the rest, init decides beneath the root.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => drop(cleaned.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}

#[cfg(test)]
mod tests;
