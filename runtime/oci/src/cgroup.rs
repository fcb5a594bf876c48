//! Control groups of one container on v1, hybrid and v2 hosts: create with limits, join, kill, remove.
//! A limit that cannot be applied is an error that names its field, and nothing is left behind.
//! `layout` finds the hierarchies, `settings` and `devices` turn resources into file contents and a program (pure),
//! `processes` freezes and kills, `join` enters controllers later, `usage` and `oom` observe, `delegation` serves users without privileges, `scope` has
//! systemd make the cgroup, `record` remembers which one it is.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use oci_spec::runtime::{LinuxResources, Spec};
use rustix::io::Errno;
use strata_init::plan::Cgroups;

use crate::plan::CgroupView;

mod delegation;
mod devices;
mod error;
mod join;
mod layout;
mod oom;
mod processes;
mod record;
mod scope;
mod settings;
mod usage;

pub use delegation::Delegated;
pub use error::Error;
pub use layout::{Layout, Version};
pub use oom::{OomNotice, OomWatch};
pub use record::{Record, Unit};
pub use scope::Scope;
pub use usage::{MemoryEvents, Stats};

use settings::{Context, Moment, Otherwise, Setting, Settings};

/// Whether usage is counted in controllers that no limit needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Accounting {
    /// Memory, CPU, block devices and pids are counted, so `stats` has numbers.
    Yes,
    /// Only what the limits need is joined.
    #[default]
    No,
}

/// What happens if the cgroup is there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Existing {
    /// It is an error.
    #[default]
    Refuse,
    /// It becomes the container's if no process is in it or below it: an engine may have made it.
    Adopt,
    /// It is the container's: systemd has just made it, and put the process there.
    Started,
}

/// What devices a container may use beyond what its rules say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DefaultDevices {
    /// None: the rules are complete.
    #[default]
    No,
    /// Those of the runtime spec's "Default Devices", and making nodes; all else is forbidden before the first rule.
    Yes,
}

/// How a cgroup is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether usage is counted.
    pub accounting: Accounting,
    /// Devices beyond the rules.
    pub default_devices: DefaultDevices,
    /// What to do with a cgroup of this name.
    pub existing: Existing,
}

/// One directory of a cgroup, and the controllers it stands for.
#[derive(Debug, Clone)]
struct Directory {
    controllers: Vec<String>,
    path: PathBuf,
    version: Version,
}

/// A container's cgroup: one directory on v2, one per joined hierarchy on v1.
///
/// Dropping it changes nothing on the system; [`Cgroup::remove`] does.
#[derive(Debug, Clone)]
pub struct Cgroup {
    directories: Vec<Directory>,
    join_files: Vec<PathBuf>,
    version: Version,
    name: String,
}

impl Cgroup {
    /// Creates the cgroup `name`, as `/strata/<id>`, which must be new, and applies `resources`.
    ///
    /// On failure every directory made for it is removed again.
    pub fn create(
        layout: &Layout,
        name: &str,
        resources: &LinuxResources,
        accounting: Accounting,
    ) -> Result<Self, Error> {
        Self::create_with(layout, name, resources, &Options { accounting, ..Options::default() })
    }

    /// Creates the cgroup `name` in a certain way; otherwise as [`Cgroup::create`].
    pub fn create_with(
        layout: &Layout,
        name: &str,
        resources: &LinuxResources,
        options: &Options,
    ) -> Result<Self, Error> {
        let (settings, directories) = prepared(layout, checked_name(name)?, resources, options)?;
        let cgroup = Self::of(directories, layout.version(), name);

        let mut made = Vec::new();
        let result = cgroup
            .directories
            .iter()
            .try_for_each(|directory| layout.make(directory, options.existing, &mut made))
            .and_then(|()| cgroup.apply(&settings));
        if let Err(error) = result {
            // The first error matters; a directory left over is found and removed under the same name.
            made.iter().rev().for_each(|path| drop(fs::remove_dir(path)));
            return Err(error);
        }
        Ok(cgroup)
    }

    /// Finds the existing directories of `name`, say after a restart; there may be none.
    pub fn open(layout: &Layout, name: &str) -> Result<Self, Error> {
        let directories = layout.existing(checked_name(name)?);
        Ok(Self::of(directories, layout.version(), name))
    }

    fn of(directories: Vec<Directory>, version: Version, name: &str) -> Self {
        let join_files = directories.iter().map(|directory| directory.path.join("cgroup.procs")).collect();
        Self { directories, join_files, version, name: name.to_owned() }
    }

    /// Returns the name that [`Cgroup::open`] finds it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the `cgroup.procs` files a process writes itself into to join.
    pub fn join_files(&self) -> &[PathBuf] {
        &self.join_files
    }

    /// Returns the directories, the one for `CLONE_INTO_CGROUP` (v2) being the only one there.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.directories.iter().map(|directory| directory.path.as_path())
    }

    /// Changes limits of a living cgroup, those that are named only; controllers it has not joined are an error.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        self.apply(&self.changed(resources)?)
    }

    /// Returns what an update writes.
    fn changed(&self, resources: &LinuxResources) -> Result<Settings, Error> {
        let mut resources = resources.clone();
        let version_of = |controller: &str| self.version_of(controller);
        let mut context = Context {
            version_of: &version_of,
            moment: Moment::Update,
            has_default_devices: false,
            memory_limit: None,
            quota: None,
        };
        let value = |controller: &str, file: &str| {
            let directory = self.directory(controller, "").ok().filter(|one| one.version == Version::V2)?;
            read(&directory.path.join(file)).ok()
        };
        if let Some(memory) = resources.memory_mut() {
            context.memory_limit = value("memory", "memory.max").and_then(|text| text.trim().parse().ok());
            self.check_usage(memory)?;
            // Without a limit of memory there can be none of memory and swap: it would be the smaller one.
            if memory.limit().is_some_and(|limit| limit < 0) && memory.swap().is_none() && self.counts_swap() {
                memory.set_swap(Some(-1));
            }
        }
        context.quota =
            value("cpu", "cpu.max").and_then(|text| text.split_whitespace().next().map(|quota| quota.to_owned()));
        settings::of(&resources, &context)
    }

    /// Returns the period in force that a quota of processor time is of.
    fn period(&self) -> u64 {
        let (file, place) = match self.version_of("cpu") {
            Version::V1 => ("cpu.cfs_period_us", 0),
            Version::V2 => ("cpu.max", 1),
        };
        let text = self.directory("cpu", "").and_then(|directory| read(&directory.path.join(file)));
        let period = text.ok().and_then(|text| text.split_whitespace().nth(place)?.parse().ok());
        period.unwrap_or(scope::USUAL_PERIOD)
    }

    /// v1 refuses a limit below what is in use by itself; v2 would start to kill.
    fn check_usage(&self, memory: &oci_spec::runtime::LinuxMemory) -> Result<(), Error> {
        let (Some(true), Some(limit @ 1..)) = (memory.check_before_update(), memory.limit()) else { return Ok(()) };
        match self.stats().memory_bytes {
            Some(usage) if usage > limit as u64 => Err(Error::InUse { usage, limit }),
            _ => Ok(()),
        }
    }

    fn counts_swap(&self) -> bool {
        let file = match self.version_of("memory") {
            Version::V1 => "memory.memsw.limit_in_bytes",
            Version::V2 => "memory.swap.max",
        };
        self.directory("memory", "").is_ok_and(|directory| directory.path.join(file).exists())
    }

    /// Returns what a container in this cgroup should see under `/sys/fs/cgroup`: the joined hierarchies.
    pub fn view(&self) -> CgroupView {
        match self.version {
            Version::V2 => CgroupView::Unified,
            Version::V1 => {
                let v1 = self.directories.iter().filter(|one| one.version == Version::V1);
                CgroupView::Hierarchies(v1.map(|one| one.controllers.clone()).collect())
            }
        }
    }

    /// Returns the cgroups in the form a plan takes them: files to join, and the file that counts kills.
    pub fn to_plan(&self) -> Cgroups {
        let v1 = self.directories.iter().filter(|one| one.version == Version::V1);
        let unified = self.directories.iter().find(|one| one.version == Version::V2);
        let events = |one: &Directory| match one.version {
            Version::V1 => one.path.join("memory.oom_control"),
            Version::V2 => one.path.join("memory.events"),
        };
        Cgroups {
            procs: v1.map(|directory| directory.path.join("cgroup.procs")).collect(),
            unified: unified.map(|directory| directory.path.clone()),
            oom_events: self.directory("memory", "").ok().map(events),
            late: false,
        }
    }

    /// As [`Cgroup::to_plan`] for a further process beside `pid`: where the container has moved its processes into
    /// cgroups of its own and handed them controllers (v2), no process may be in ours any more.
    pub fn to_plan_beside(&self, pid: u32) -> Cgroups {
        let mut plan = self.to_plan();
        let Some(unified) = &plan.unified else { return plan };
        let hands_out = fs::read(unified.join("cgroup.subtree_control")).is_ok_and(|text| text.len() > 1);
        let text = if hands_out {
            fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default()
        } else {
            String::new()
        };
        let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
        let mount = unified.ancestors().nth(self.name.trim_matches('/').split('/').count());
        if let (Some(path), Some(mount)) = (path, mount) {
            let beside = mount.join(path);
            plan.unified = if beside.starts_with(unified) { Some(beside) } else { plan.unified };
        }
        plan
    }

    /// Says whether device rules are enforced: by the device cgroup on v1, by an eBPF program on v2.
    pub fn filters_devices(&self) -> bool {
        let Ok(directory) = self.directory("devices", "") else { return false };
        match directory.version {
            Version::V1 => true,
            Version::V2 => File::open(&directory.path)
                .is_ok_and(|file| strata_init::device_filters(file.as_fd()).is_ok_and(|count| count > 0)),
        }
    }

    /// Hands the cgroup to a user, as the root of a container's user namespace: the directory and the files that
    /// the kernel lists for it. Only for v2 (runtime spec, "Cgroup ownership").
    pub fn give_to(&self, uid: u32) -> Result<(), Error> {
        let Some(directory) = self.directories.iter().find(|one| one.version == Version::V2) else { return Ok(()) };
        let list = fs::read_to_string("/sys/kernel/cgroup/delegate");
        let list = list.unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned());
        // Names of files only, whatever it says.
        let names = list.lines().filter(|name| !name.contains('/') && !name.is_empty());
        for path in std::iter::once(directory.path.clone()).chain(names.map(|name| directory.path.join(name))) {
            match std::os::unix::fs::lchown(&path, Some(uid), None) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Io { action: "change the owner of", path, source }),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn version_of(&self, controller: &str) -> Version {
        let aliases: &[&str] = if controller == "blkio" { &["blkio", "io"] } else { &[controller] };
        let found = self.directories.iter().find(|one| one.has(aliases));
        found.map_or(self.version, |directory| directory.version)
    }

    fn directory(&self, controller: &str, field: &str) -> Result<&Directory, Error> {
        let missing = || Error::NoController { field: field.to_owned(), controller: controller.to_owned() };
        self.directories.iter().find(|one| one.has(&[controller])).ok_or_else(missing)
    }

    fn apply(&self, settings: &Settings) -> Result<(), Error> {
        self.write_settings(&settings.list)?;
        let Some(rules) = &settings.filter else { return Ok(()) };
        let path = &self.directory("devices", "linux.resources.devices")?.path;
        let program = devices::compile(&devices::Policy::of(rules));
        let failed = |source: io::Error| Error::Filter { path: path.clone(), source };
        let file = File::open(path).map_err(failed)?;
        strata_init::attach_device_filter(file.as_fd(), &program).map_err(|errno| failed(errno.into()))
    }

    /// Writes in order. What the kernel refuses because it looks at two values of a controller together (memory and
    /// swap, period and quota) is tried once more after the rest of that controller.
    fn write_settings(&self, list: &[Setting]) -> Result<(), Error> {
        for group in list.chunk_by(|one, other| one.controller == other.controller) {
            let is_paired = ["cpu", "memory"].contains(&group[0].controller.as_str()) && group.len() > 1;
            let directory = self.directory(&group[0].controller, &group[0].field)?;
            let mut again = Vec::new();
            let mut open = None;
            for setting in group {
                match write_setting(directory, setting, &mut open) {
                    Err(Error::Limit { source, .. }) if is_paired && is_order(&source) => again.push(setting),
                    result => result?,
                }
            }
            again.into_iter().try_for_each(|setting| write_setting(directory, setting, &mut None))?;
        }
        Ok(())
    }
}

impl Directory {
    fn has(&self, names: &[&str]) -> bool {
        self.controllers.iter().any(|one| names.contains(&one.as_str()))
    }
}

/// Returns what a new cgroup needs: what is written, and where.
fn prepared(
    layout: &Layout,
    relative: &str,
    resources: &LinuxResources,
    options: &Options,
) -> Result<(Settings, Vec<Directory>), Error> {
    let version_of = |controller: &str| layout.version_of(controller);
    let context = Context {
        version_of: &version_of,
        moment: Moment::Create,
        has_default_devices: options.default_devices == DefaultDevices::Yes,
        memory_limit: None,
        quota: None,
    };
    let settings = settings::of(resources, &context)?;
    let mut needed: Vec<(&str, &str)> =
        settings.list.iter().map(|setting| (setting.controller.as_str(), setting.field.as_str())).collect();
    needed.dedup_by_key(|(controller, _)| *controller);
    if settings.filter.is_some() {
        needed.push(("devices", "linux.resources.devices"));
    }
    let directories = layout.directories(relative, &needed, options.accounting)?;
    Ok((settings, directories))
}

/// Refuses names that could leave the hierarchy, before any path is touched (security row 20).
fn checked_name(name: &str) -> Result<&str, Error> {
    let relative = name.strip_prefix('/').unwrap_or(name);
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && part.len() <= 255;
    let characters = name.bytes().all(|byte| byte > b' ' && byte != 0x7f);
    // Such a name would be a file of the parent.
    let is_file = |part: &str| part.starts_with("cgroup.");
    if characters && relative.len() <= 3072 && relative.split('/').all(|part| plain(part) && !is_file(part)) {
        Ok(relative)
    } else {
        Err(Error::Name { name: name.to_owned() })
    }
}

/// Returns the name of a container's cgroup: an absolute `linux.cgroupsPath` as it is, a relative one and none below
/// `/strata`, the same for the same path (runtime spec, "Cgroups Path").
pub fn name_of(cgroups_path: Option<&Path>, id: &str) -> Result<String, Error> {
    let Some(path) = cgroups_path.filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(format!("/strata/{id}"));
    };
    let text = path.to_str().ok_or_else(|| Error::Name { name: path.display().to_string() })?;
    let name = if path.is_absolute() { text.to_owned() } else { format!("/strata/{text}") };
    checked_name(&name).map(|_| name.clone())
}

/// Drops `linux.resources.pids` from a spec if it has no limit in its text: the types have 0 for that, which is one.
pub(crate) fn drop_absent_limits(spec: &mut Spec, text: &[u8]) {
    let resources = spec.linux_mut().as_mut().and_then(|linux| linux.resources_mut().as_mut());
    let Some(resources) = resources.filter(|one| one.pids().as_ref().is_some_and(|pids| pids.limit() == 0)) else {
        return;
    };
    let raw: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
    if raw.pointer("/linux/resources/pids/limit").is_none_or(serde_json::Value::is_null) {
        resources.set_pids(None);
    }
}

/// Whether another order of writing could help: EINVAL of most, EBUSY of a memory limit above memory and swap.
fn is_order(error: &io::Error) -> bool {
    [Errno::INVAL, Errno::BUSY].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// One write(2): the kernel takes each as a whole command. The file stays open for the next, as of device rules.
fn write_setting(directory: &Directory, setting: &Setting, open: &mut Option<(PathBuf, File)>) -> Result<(), Error> {
    let path = directory.path.join(&setting.file);
    let result = write_command(&path, &setting.value, open);
    let is_missing = result.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound);
    let failed = |path: PathBuf, value: &str, source| {
        Err(Error::Limit { field: setting.field.clone(), path, value: value.to_owned(), source })
    };
    match (result, &setting.otherwise) {
        (Ok(()), _) => Ok(()),
        (Err(_), Otherwise::Skip) if is_missing => Ok(()),
        (Err(_), Otherwise::Lacks(reason)) if is_missing => {
            Err(Error::Unsupported { field: setting.field.clone(), reason })
        }
        (Err(_), Otherwise::Write { file, value }) if is_missing => {
            let path = directory.path.join(file);
            write_command(&path, value, open).or_else(|source| failed(path, value, source))
        }
        (Err(source), _) => failed(path, &setting.value, source),
    }
}

fn write_command(path: &Path, value: &str, open: &mut Option<(PathBuf, File)>) -> io::Result<()> {
    if open.as_ref().is_none_or(|(have, _)| have != path) {
        *open = Some((path.to_owned(), fs::OpenOptions::new().write(true).open(path)?));
    }
    let (_, file) = open.as_mut().expect("it was just opened");
    io::Write::write_all(file, value.as_bytes())
}

/// Returns the number after `key` in a file of `key value` lines.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Io { action: "read", path: path.to_owned(), source })
}

fn write(path: &Path, value: &str) -> Result<(), Error> {
    fs::write(path, value).map_err(|source| Error::Io { action: "write", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
