//! Control groups of one container on v1, hybrid and v2 hosts: create with limits, join, kill, remove.
//! A limit that cannot be applied is an error that names its field, and nothing is left behind.
//! `layout` finds the hierarchies, `settings` turns resources into file contents (pure).

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::Duration,
};

use oci_spec::runtime::LinuxResources;
use rustix::process::{Pid, Signal, kill_process};
use strata_init::plan::Cgroups;

use crate::plan::CgroupView;

mod layout;
mod settings;

pub use layout::{Layout, Version};

/// Why a cgroup operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is absolute nonsense: empty, `..`, a NUL, or not below a parent (GHSA-5g49-rx9x-qfc6).
    #[error("cgroup name {name:?} is not a plain path of at least two components")]
    Name {
        /// The name as given.
        name: String,
    },
    /// `/proc/self/mountinfo` shows no cgroup hierarchy.
    #[error("no cgroup hierarchy is mounted")]
    NoHierarchy,
    /// A cgroup of this name exists already.
    #[error("cgroup {path} exists already", path = path.display())]
    Exists {
        /// Its directory.
        path: PathBuf,
    },
    /// The field asks for a controller that this host does not offer.
    #[error("cannot apply {field}: the cgroup controller {controller} is not available")]
    NoController {
        /// Field of the OCI spec.
        field: String,
        /// Name of the controller.
        controller: &'static str,
    },
    /// The field has no meaning on this host's cgroup version, or its value none at all.
    #[error("cannot apply {field}: {reason}")]
    Unsupported {
        /// Field of the OCI spec.
        field: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The kernel refused a limit.
    #[error("cannot apply {field}: writing {value:?} to {path} failed", path = path.display())]
    Limit {
        /// Field of the OCI spec.
        field: String,
        /// The file written to.
        path: PathBuf,
        /// What was written.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file or directory of the hierarchy could not be used.
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        /// The verb: "create", "read", "write", "remove".
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Processes survived repeated SIGKILLs.
    #[error("processes are left in cgroup {path} after killing it", path = path.display())]
    Unkillable {
        /// The directory that still lists them.
        path: PathBuf,
    },
}

/// Whether usage is counted in controllers that no limit needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accounting {
    /// Memory, CPU and pids are counted, so `stats` has numbers.
    Yes,
    /// Only what the limits need is joined.
    No,
}

/// What a memory cgroup has seen of the out-of-memory killer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryEvents {
    /// Processes killed for want of memory.
    pub oom_kill: u64,
}

/// Usage at one moment; a figure whose controller is not joined is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time used by all processes so far.
    pub cpu_nanoseconds: Option<u64>,
    /// Memory charged now.
    pub memory_bytes: Option<u64>,
    /// The memory limit, absent if there is none.
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads now.
    pub pids: Option<u64>,
}

/// One directory of a cgroup, and the controllers it stands for.
#[derive(Debug, Clone)]
struct Directory {
    controllers: Vec<String>,
    path: PathBuf,
}

/// A container's cgroup: one directory on v2, one per joined hierarchy on v1.
///
/// Dropping it changes nothing on the system; [`Cgroup::remove`] does.
#[derive(Debug, Clone)]
pub struct Cgroup {
    directories: Vec<Directory>,
    join_files: Vec<PathBuf>,
    version: Version,
}

impl Cgroup {
    /// Creates the cgroup `name`, as `/strata/<id>`, and applies `resources`.
    ///
    /// On failure every directory made for it is removed again; the parent stays.
    pub fn create(
        layout: &Layout,
        name: &str,
        resources: &LinuxResources,
        accounting: Accounting,
    ) -> Result<Self, Error> {
        let name = checked_name(name)?;
        let settings = settings::of(resources, layout.version())?;
        let mut needed: Vec<(&str, &str)> =
            settings.iter().map(|setting| (setting.controller, setting.field.as_str())).collect();
        needed.dedup_by_key(|(controller, _)| *controller);
        let directories = layout.directories(name, &needed, accounting)?;

        let mut made = Vec::new();
        let result = directories
            .iter()
            .try_for_each(|directory| {
                layout.make(directory)?;
                made.push(directory.path.clone());
                Ok(())
            })
            .and_then(|()| apply(&directories, &settings));
        if let Err(error) = result {
            // The first error matters; a directory left over is found and removed under the same name.
            made.iter().for_each(|path| drop(fs::remove_dir(path)));
            return Err(error);
        }
        Ok(Self::of(directories, layout.version()))
    }

    /// Finds the existing directories of `name`, say after a restart; there may be none.
    pub fn open(layout: &Layout, name: &str) -> Result<Self, Error> {
        let directories = layout.existing(checked_name(name)?);
        Ok(Self::of(directories, layout.version()))
    }

    fn of(directories: Vec<Directory>, version: Version) -> Self {
        let join_files = directories.iter().map(|directory| directory.path.join("cgroup.procs")).collect();
        Self { directories, join_files, version }
    }

    /// Returns the `cgroup.procs` files a process writes itself into to join.
    pub fn join_files(&self) -> &[PathBuf] {
        &self.join_files
    }

    /// Returns the directories, the one for `CLONE_INTO_CGROUP` (v2) being the only one there.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.directories.iter().map(|directory| directory.path.as_path())
    }

    /// Changes limits of a living cgroup; controllers it has not joined are an error.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        apply(&self.directories, &settings::of(resources, self.version)?)
    }

    /// Returns every process in the cgroup and below it, ascending.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        let mut pids = Vec::new();
        for directory in &self.directories {
            collect_pids(&directory.path, &mut pids)?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Says whether no process is left in the cgroup or below it.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.pids()?.is_empty())
    }

    /// Kills every process in the cgroup and below it, and waits until none is left.
    ///
    /// Zombies nobody reaps count as gone on v2 only; the monitor reaps its own.
    pub fn kill_all(&self) -> Result<(), Error> {
        let mut wait = Duration::from_micros(200);
        for _ in 0..16 {
            if self.kill_once()? {
                return Ok(());
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(Duration::from_millis(250));
        }
        let path = self.directories.first().map(|directory| directory.path.clone()).unwrap_or_default();
        if self.is_empty()? { Ok(()) } else { Err(Error::Unkillable { path }) }
    }

    /// Sends one round of SIGKILL; true if there was nobody to send it to.
    fn kill_once(&self) -> Result<bool, Error> {
        if self.is_empty()? {
            return Ok(true);
        }
        if self.version == Version::V2 {
            let kill = self.directories[0].path.join("cgroup.kill");
            match fs::write(&kill, "1") {
                Ok(()) => return self.is_empty(),
                // cgroup.kill came with Linux 5.14
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Io { action: "write", path: kill, source }),
            }
        }
        // Frozen processes cannot fork, so one pass reaches them all; they die when thawed.
        let frozen = self.freeze().is_ok();
        let pids = self.pids();
        for pid in pids.iter().flatten().filter_map(|pid| Pid::from_raw(*pid)) {
            // ESRCH: it ended by itself in the meantime.
            let _ = kill_process(pid, Signal::KILL);
        }
        if frozen {
            self.thaw()?;
        }
        pids.map(|pids| pids.is_empty())
    }

    /// Stops every process of the cgroup until [`Cgroup::thaw`], and waits until they stand still.
    pub fn freeze(&self) -> Result<(), Error> {
        self.set_frozen("1", "FROZEN")
    }

    /// Lets frozen processes go on.
    pub fn thaw(&self) -> Result<(), Error> {
        self.set_frozen("0", "THAWED")
    }

    fn set_frozen(&self, v2: &str, v1: &str) -> Result<(), Error> {
        let directory = self.directory("freezer", "the state of the container")?;
        let is_v2 = self.version == Version::V2;
        let (file, value) = if is_v2 { ("cgroup.freeze", v2) } else { ("freezer.state", v1) };
        let path = directory.path.join(file);
        let done = || -> Result<bool, Error> {
            if !is_v2 {
                return Ok(read(&path)?.trim() == v1);
            }
            let events = read(&directory.path.join("cgroup.events"))?;
            Ok(keyed(&events, "frozen") == v2.parse().ok())
        };
        let mut wait = Duration::from_micros(100);
        for _ in 0..14 {
            // v1 must be told again while FREEZING: a process that forked meanwhile is only caught then.
            write(&path, value)?;
            if done()? {
                return Ok(());
            }
            std::thread::sleep(wait);
            wait *= 2;
        }
        Err(Error::Io { action: "freeze or thaw by", path, source: io::Error::from(ErrorKind::TimedOut) })
    }

    /// Removes the cgroup and what its processes made below it; absent is fine.
    ///
    /// The kernel says EBUSY for a moment after the last process ended, so this waits up to a second.
    pub fn remove(&self) -> Result<(), Error> {
        self.directories.iter().try_for_each(|directory| remove_tree(&directory.path))
    }

    /// Reads how often the out-of-memory killer struck; `None` without a memory controller.
    pub fn memory_events(&self) -> Result<Option<MemoryEvents>, Error> {
        let Ok(directory) = self.directory("memory", "") else { return Ok(None) };
        let file = if self.version == Version::V2 { "memory.events" } else { "memory.oom_control" };
        let text = read(&directory.path.join(file))?;
        Ok(Some(MemoryEvents { oom_kill: keyed(&text, "oom_kill").unwrap_or(0) }))
    }

    /// Reads the usage of the joined controllers.
    pub fn stats(&self) -> Stats {
        let is_v2 = self.version == Version::V2;
        let text = |controller: &str, v1: &str, v2: &str| {
            let directory = self.directory(controller, "").ok()?;
            read(&directory.path.join(if is_v2 { v2 } else { v1 })).ok()
        };
        let value = |controller, v1, v2| text(controller, v1, v2)?.trim().parse::<u64>().ok();
        let cpu_nanoseconds = match is_v2 {
            false => value("cpuacct", "cpuacct.usage", ""),
            true => text("cpu", "", "cpu.stat").and_then(|stat| keyed(&stat, "usage_usec")).map(|time| time * 1000),
        };
        Stats {
            cpu_nanoseconds,
            memory_bytes: value("memory", "memory.usage_in_bytes", "memory.current"),
            // v1 says "no limit" as the largest page-aligned i64.
            memory_limit_bytes: value("memory", "memory.limit_in_bytes", "memory.max").filter(|limit| *limit < 1 << 62),
            pids: value("pids", "pids.current", "pids.current"),
        }
    }

    /// Returns what a container in this cgroup should see under `/sys/fs/cgroup`: the joined hierarchies.
    pub fn view(&self) -> CgroupView {
        match self.version {
            Version::V2 => CgroupView::Unified,
            Version::V1 => {
                CgroupView::Hierarchies(self.directories.iter().map(|one| one.controllers.clone()).collect())
            }
        }
    }

    /// Returns the cgroups in the form a plan takes them: files to join, and the file that counts kills.
    pub fn to_plan(&self) -> Cgroups {
        let is_v2 = self.version == Version::V2;
        let events = if is_v2 { "memory.events" } else { "memory.oom_control" };
        Cgroups {
            procs: if is_v2 { Vec::new() } else { self.join_files.clone() },
            unified: self.directories.first().filter(|_| is_v2).map(|directory| directory.path.clone()),
            oom_events: self.directory("memory", "").ok().map(|directory| directory.path.join(events)),
        }
    }

    /// Says whether device rules are enforced; v2 needs an eBPF program, which is not there yet.
    pub fn filters_devices(&self) -> bool {
        self.version == Version::V1 && self.directory("devices", "").is_ok()
    }

    fn directory(&self, controller: &str, field: &str) -> Result<&Directory, Error> {
        find(&self.directories, controller, field)
    }
}

/// Refuses names that could leave their parent, before any path is touched (security row 20).
fn checked_name(name: &str) -> Result<&str, Error> {
    let refuse = || Error::Name { name: name.to_owned() };
    let relative = name.strip_prefix('/').unwrap_or(name);
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && part.len() <= 255;
    let characters = name.bytes().all(|byte| byte > b' ' && byte != 0x7f);
    // Names with a dot after a controller would be files of the parent: "memory.max", "cgroup.procs".
    let is_file = |part: &str| part.starts_with("cgroup.");
    if characters && relative.contains('/') && relative.split('/').all(|part| plain(part) && !is_file(part)) {
        Ok(relative)
    } else {
        Err(refuse())
    }
}

fn find<'a>(directories: &'a [Directory], controller: &str, field: &str) -> Result<&'a Directory, Error> {
    let has = |directory: &&Directory| directory.controllers.iter().any(|one| one == controller);
    let known = settings::CONTROLLERS.iter().find(|one| **one == controller).copied().unwrap_or("");
    let missing = || Error::NoController { field: field.to_owned(), controller: known };
    directories.iter().find(has).ok_or_else(missing)
}

fn apply(directories: &[Directory], settings: &[settings::Setting]) -> Result<(), Error> {
    for setting in settings {
        let directory = find(directories, setting.controller, &setting.field)?;
        let path = directory.path.join(&setting.file);
        if let Err(source) = fs::OpenOptions::new().write(true).open(&path).and_then(|mut file| {
            // One write(2): the kernel takes each as a whole command.
            io::Write::write_all(&mut file, setting.value.as_bytes())
        }) {
            let (field, value) = (setting.field.clone(), setting.value.clone());
            return Err(Error::Limit { field, path, value, source });
        }
    }
    Ok(())
}

fn collect_pids(directory: &Path, pids: &mut Vec<i32>) -> Result<(), Error> {
    let path = directory.join("cgroup.procs");
    match fs::read_to_string(&path) {
        Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0)),
        // ENODEV: removed while it was open.
        Err(error) if is_gone(&error) => return Ok(()),
        Err(source) => return Err(Error::Io { action: "read", path, source }),
    }
    children(directory)?.iter().try_for_each(|child| collect_pids(child, pids))
}

fn children(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        Err(source) => return Err(Error::Io { action: "read", path: directory.to_owned(), source }),
    };
    let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(directories.map(|entry| entry.path()).collect())
}

fn remove_tree(directory: &Path) -> Result<(), Error> {
    let mut wait = Duration::from_micros(200);
    for attempt in 0.. {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ResourceBusy && attempt < 13 => {
                children(directory)?.iter().try_for_each(|child| remove_tree(child))?;
                std::thread::sleep(wait);
                wait = (wait * 2).min(Duration::from_millis(200));
            }
            Err(source) => return Err(Error::Io { action: "remove", path: directory.to_owned(), source }),
        }
    }
    Ok(())
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

/// Returns the number after `key` in a file of `key value` lines.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Io { action: "read", path: path.to_owned(), source })
}

fn write(path: &Path, value: &str) -> Result<(), Error> {
    fs::write(path, value).map_err(|source| Error::Io { action: "write", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
