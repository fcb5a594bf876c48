//! The spec of an ordinary container: what Docker gives one, as an OCI runtime spec.
//! `Defaults` holds everything a caller may vary; `Defaults::build` is pure. What must be read from the
//! host (device nodes, thermal paths) comes from the two functions of `host`, at the caller's wish.

use std::{collections::HashMap, path::PathBuf};

use oci_spec::{
    OciSpecError,
    runtime::{
        BoxBuilder, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxDevice, LinuxIdMapping, LinuxNamespace,
        LinuxNamespaceBuilder, LinuxNamespaceType, LinuxResources, LinuxSeccomp, Mount, PosixRlimit, Process,
        ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
    },
};

use crate::{
    capabilities::{self, CapabilitySet},
    seccomp,
    user::Identity,
};

mod devices;
mod host;
mod mounts;

pub use host::{devices_at, host_devices, thermal_paths};

/// The version of the runtime spec the result conforms to.
pub const OCI_VERSION: &str = "1.3.0";

/// The `PATH` of a container whose image names none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Files of proc and sysfs that are hidden: moby's twelve and SELinux's directory. Security row 38.
pub const MASKED_PATHS: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Files of proc that are read-only. Security row 3.
pub const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Why no spec could be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A capability to add or drop was refused.
    #[error("cannot settle the capabilities")]
    Capabilities(#[from] capabilities::Error),
    /// The spec's own types refused a value.
    #[error("cannot assemble the runtime spec")]
    Spec(#[from] OciSpecError),
    /// A path of the host could not be looked at.
    #[error("cannot look at device {path}", path = path.display())]
    Look {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A directory of the host could not be listed.
    #[error("cannot list {path}", path = path.display())]
    List {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// How much a container gets when nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Profile {
    /// Docker's 14 capabilities; set-user-ID programs gain rights.
    #[default]
    Docker,
    /// 11 capabilities and `no_new_privileges`.
    Strict,
}

/// Where a namespace comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Namespace {
    /// A new one.
    #[default]
    New,
    /// The host's.
    Host,
    /// The one this path names, as `/proc/PID/ns/net`.
    Join(PathBuf),
}

/// The network of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Network {
    /// A new namespace with nothing but `lo`.
    #[default]
    None,
    /// The host's.
    Host,
    /// The namespace this path names.
    Join(PathBuf),
}

/// The system call filter.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Filter {
    /// Docker's default profile, fitted to the capabilities. A privileged container has none.
    #[default]
    Default,
    /// No filter.
    Unconfined,
    /// This one.
    Custom(LinuxSeccomp),
}

/// Whether the host enforces device rules: [`crate::cgroup::Layout::filters_devices`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceFilter {
    /// It does: with cgroup v1, or with a program of v2 if it may be loaded.
    #[default]
    Enforced,
    /// It does not: a default container loses CAP_MKNOD, so that it cannot make nodes of host devices.
    Absent,
}

/// A user namespace for the container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UserNamespace {
    /// Group ids.
    pub gid_mappings: Vec<LinuxIdMapping>,
    /// User ids.
    pub uid_mappings: Vec<LinuxIdMapping>,
}

/// Everything a caller may vary. `Defaults::default()` is `docker run` without a flag and a command `sh`.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// Annotations, copied as they are.
    pub annotations: HashMap<String, String>,
    /// Program and arguments.
    pub args: Vec<String>,
    /// What this runtime may hand out, see [`CapabilitySet::of_this_process`].
    pub available: CapabilitySet,
    /// Capabilities to add, by name, or `ALL`.
    pub cap_add: Vec<String>,
    /// Capabilities to drop, by name, or `ALL`; this goes for privileged containers too.
    pub cap_drop: Vec<String>,
    /// Cgroup namespace.
    pub cgroup: Namespace,
    /// Path of the cgroup, as `/strata/<id>`.
    pub cgroups_path: PathBuf,
    /// Columns and rows of the terminal.
    pub console_size: Option<(u16, u16)>,
    /// Working directory.
    pub cwd: PathBuf,
    /// Whether device rules are enforced.
    pub device_filter: DeviceFilter,
    /// Device nodes beyond the usual six; see [`host_devices`].
    pub devices: Vec<LinuxDevice>,
    /// Environment as `NAME=value`; `PATH`, `HOME`, `HOSTNAME` and `TERM` are added if absent.
    pub env: Vec<String>,
    /// Whether there is a /dev/shm.
    pub has_shm: bool,
    /// Whether its cgroups can be written to; those of a privileged container can in any case.
    pub has_writable_cgroups: bool,
    /// Host name inside.
    pub hostname: Option<String>,
    /// Ids and home of the process.
    pub identity: Identity,
    /// Whether nothing of proc and sysfs is hidden or read-only.
    pub is_unmasked: bool,
    /// IPC namespace.
    pub ipc: Namespace,
    /// Masked paths beyond [`MASKED_PATHS`]; see [`thermal_paths`].
    pub masked_paths: Vec<String>,
    /// Mounts after the default ones; one with the same destination replaces the default.
    pub mounts: Vec<Mount>,
    /// Network.
    pub network: Network,
    /// Whether set-user-ID and file capabilities are void; `None` leaves it to the profile.
    pub no_new_privileges: Option<bool>,
    /// Adjustment of the out-of-memory score.
    pub oom_score_adj: Option<i32>,
    /// The user namespace that the runtime itself is in and the container stays in, unless it is the first one.
    pub outer_namespace: Option<UserNamespace>,
    /// Process namespace.
    pub pid: Namespace,
    /// All capabilities, no filter, no masks, writable sysfs and cgroup, all devices allowed.
    pub privileged: bool,
    /// How much is given when nothing is said.
    pub profile: Profile,
    /// Whether the root file system is read-only.
    pub readonly: bool,
    /// Limits; the device rules come first, these after them.
    pub resources: LinuxResources,
    /// Resource limits; empty leaves the runtime's own.
    pub rlimits: Vec<PosixRlimit>,
    /// System call filter.
    pub seccomp: Filter,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: u64,
    /// Kernel parameters of the container's own namespaces.
    pub sysctl: HashMap<String, String>,
    /// Whether standard streams are a terminal.
    pub terminal: bool,
    /// Host name namespace.
    pub uts: Namespace,
    /// A user namespace; none by default.
    pub user_namespace: Option<UserNamespace>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            annotations: HashMap::new(),
            args: vec!["sh".to_owned()],
            available: CapabilitySet::ALL,
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            cgroup: Namespace::New,
            cgroups_path: PathBuf::from("/strata/default"),
            console_size: None,
            cwd: PathBuf::from("/"),
            device_filter: DeviceFilter::Enforced,
            devices: Vec::new(),
            env: Vec::new(),
            has_shm: true,
            has_writable_cgroups: false,
            hostname: None,
            is_unmasked: false,
            identity: Identity::default(),
            ipc: Namespace::New,
            masked_paths: Vec::new(),
            mounts: Vec::new(),
            network: Network::None,
            no_new_privileges: None,
            oom_score_adj: None,
            outer_namespace: None,
            pid: Namespace::New,
            privileged: false,
            profile: Profile::Docker,
            readonly: false,
            resources: LinuxResources::default(),
            rlimits: Vec::new(),
            seccomp: Filter::Default,
            shm_size: 64 << 20,
            sysctl: HashMap::new(),
            terminal: false,
            uts: Namespace::New,
            user_namespace: None,
        }
    }
}

impl Defaults {
    /// Builds the spec. The root path is `rootfs`; the runtime service replaces it by a snapshot.
    pub fn build(self) -> Result<Spec, Error> {
        let capabilities = self.capabilities()?;
        let mut spec = SpecBuilder::default()
            .version(OCI_VERSION)
            .root(RootBuilder::default().path("rootfs").readonly(self.readonly).build()?)
            .process(self.process(capabilities)?)
            .mounts(self.all_mounts()?)
            .linux(self.linux(capabilities)?)
            .build()?;
        spec.set_hostname(self.hostname);
        if !self.annotations.is_empty() {
            spec.set_annotations(Some(self.annotations));
        }
        Ok(spec)
    }

    /// Settles the capability set of the container's bounding set.
    pub fn capabilities(&self) -> Result<CapabilitySet, Error> {
        let mut base = match (self.privileged, self.profile) {
            (true, _) => self.available,
            (false, Profile::Docker) => CapabilitySet::docker(),
            (false, Profile::Strict) => CapabilitySet::strict(),
        };
        if !self.privileged && self.device_filter == DeviceFilter::Absent {
            base = base.difference(CapabilitySet::from_iter([oci_spec::runtime::Capability::Mknod]));
        }
        Ok(capabilities::resolve(base, &self.cap_add, &self.cap_drop, self.available)?)
    }

    fn process(&self, capabilities: CapabilitySet) -> Result<Process, Error> {
        let identity = &self.identity;
        let user = UserBuilder::default()
            .uid(identity.uid)
            .gid(identity.gid)
            .additional_gids(
                identity.additional_gids.iter().copied().filter(|gid| self.maps_gid(*gid)).collect::<Vec<_>>(),
            )
            .build()?;
        // Ambient and inheritable stay empty: CVE-2016-8867, CVE-2022-24769. A user other than root starts
        // with no capability in effect, and execve(2) would take them away anyway.
        let active = if identity.uid == 0 { capabilities } else { CapabilitySet::EMPTY };
        let sets = LinuxCapabilitiesBuilder::default()
            .bounding(capabilities.to_spec())
            .effective(active.to_spec())
            .permitted(active.to_spec())
            .inheritable(CapabilitySet::EMPTY.to_spec())
            .ambient(CapabilitySet::EMPTY.to_spec())
            .build()?;
        let no_new_privileges = self.no_new_privileges.unwrap_or(self.profile == Profile::Strict && !self.privileged);
        let mut process = ProcessBuilder::default()
            .terminal(self.terminal)
            .user(user)
            .args(self.args.clone())
            .env(self.environment())
            .cwd(self.cwd.clone())
            .capabilities(sets)
            .no_new_privileges(no_new_privileges)
            .build()?;
        process.set_rlimits(Some(self.rlimits.clone()).filter(|rlimits| !rlimits.is_empty()));
        process.set_oom_score_adj(self.oom_score_adj);
        if let (true, Some((columns, rows))) = (self.terminal, self.console_size) {
            let size = BoxBuilder::default().width(u64::from(columns)).height(u64::from(rows)).build()?;
            process.set_console_size(Some(size));
        }
        Ok(process)
    }

    /// Says whether a group exists in the container; a namespace of one id has none beside the primary.
    fn maps_gid(&self, gid: u32) -> bool {
        let Some(namespace) = self.user_namespace.as_ref().or(self.outer_namespace.as_ref()) else { return true };
        let mappings = &namespace.gid_mappings;
        let total: u64 = mappings.iter().map(|mapping| u64::from(mapping.size())).sum();
        let has = |mapping: &LinuxIdMapping| {
            gid.checked_sub(mapping.container_id()).is_some_and(|offset| offset < mapping.size())
        };
        total > 1 && mappings.iter().any(has)
    }

    fn environment(&self) -> Vec<String> {
        let mut env = self.env.clone();
        let mut add = |name: &str, value: &str| {
            let has = |entry: &String| entry.strip_prefix(name).is_some_and(|rest| rest.starts_with('='));
            if !env.iter().any(has) {
                env.push(format!("{name}={value}"));
            }
        };
        add("PATH", DEFAULT_PATH);
        add("HOME", &self.identity.home);
        if let Some(hostname) = &self.hostname {
            add("HOSTNAME", hostname);
        }
        if self.terminal {
            add("TERM", "xterm");
        }
        env
    }

    fn linux(&self, capabilities: CapabilitySet) -> Result<oci_spec::runtime::Linux, Error> {
        let mut linux = LinuxBuilder::default()
            .namespaces(self.namespaces()?)
            .resources(self.all_resources()?)
            .cgroups_path(self.cgroups_path.clone())
            .masked_paths(Vec::new())
            .readonly_paths(Vec::new())
            .build()?;
        if !self.privileged && !self.is_unmasked {
            let own = |paths: &[&str]| paths.iter().map(|path| path.to_string()).collect::<Vec<_>>();
            let masked = own(&MASKED_PATHS).into_iter().chain(self.masked_paths.iter().cloned());
            linux.set_masked_paths(Some(masked.collect())).set_readonly_paths(Some(own(&READONLY_PATHS)));
        }
        if let Some(mappings) = &self.user_namespace {
            linux.set_uid_mappings(Some(mappings.uid_mappings.clone()));
            linux.set_gid_mappings(Some(mappings.gid_mappings.clone()));
        }
        linux.set_devices(Some(self.devices.clone()).filter(|devices| !devices.is_empty()));
        linux.set_sysctl(Some(self.all_sysctl()).filter(|sysctl| !sysctl.is_empty()));
        linux.set_seccomp(match &self.seccomp {
            Filter::Default if self.privileged => None,
            Filter::Default => Some(seccomp::default_profile(capabilities)),
            Filter::Unconfined => None,
            Filter::Custom(filter) => Some(filter.clone()),
        });
        Ok(linux)
    }

    /// In a network of its own, every user may ping and bind low ports, as in moby since 2020.
    fn all_sysctl(&self) -> HashMap<String, String> {
        let mut sysctl = self.sysctl.clone();
        if self.network == Network::None {
            sysctl.entry("net.ipv4.ip_unprivileged_port_start".to_owned()).or_insert_with(|| "0".to_owned());
            // The range must be mapped: EINVAL in a user namespace.
            if self.user_namespace.is_none() && self.outer_namespace.is_none() {
                sysctl.entry("net.ipv4.ping_group_range".to_owned()).or_insert_with(|| "0 2147483647".to_owned());
            }
        }
        sysctl
    }

    fn namespaces(&self) -> Result<Vec<LinuxNamespace>, Error> {
        let network = match &self.network {
            Network::None => &Namespace::New,
            Network::Host => &Namespace::Host,
            Network::Join(path) => &Namespace::Join(path.clone()),
        };
        let user = if self.user_namespace.is_some() { &Namespace::New } else { &Namespace::Host };
        let mut namespaces = Vec::new();
        for (kind, namespace) in [
            (LinuxNamespaceType::Pid, &self.pid),
            (LinuxNamespaceType::Network, network),
            (LinuxNamespaceType::Ipc, &self.ipc),
            (LinuxNamespaceType::Uts, &self.uts),
            (LinuxNamespaceType::Mount, &Namespace::New),
            (LinuxNamespaceType::Cgroup, &self.cgroup),
            (LinuxNamespaceType::User, user),
        ] {
            let builder = LinuxNamespaceBuilder::default().typ(kind);
            match namespace {
                Namespace::New => namespaces.push(builder.build()?),
                Namespace::Join(path) => namespaces.push(builder.path(path.clone()).build()?),
                Namespace::Host => {}
            }
        }
        Ok(namespaces)
    }
}

#[cfg(test)]
mod tests;
