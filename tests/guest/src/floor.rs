//! The least that a container can cost, for the benchmark: cgroups, namespaces, the mounts of a default container, one new
//! process, exec, and everything put away. No errors undone, no filter, no capabilities dropped, no state: not a runtime.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::stat::{Mode, SFlag, makedev, mknod, umask},
    unistd::{chdir, pivot_root, sethostname},
};
use rustix::fs::{AtFlags, OFlags, open, openat, unlinkat};

use crate::Outcome;

const CGROUPS: &str = "/sys/fs/cgroup";
/// What limits are written to, in the names of either version; the others are joined as the runtime joins them.
const LIMITS: [(&str, &str, &str, &str); 6] = [
    ("memory", "memory.limit_in_bytes", "memory.max", "268435456"),
    ("pids", "pids.max", "pids.max", "32"),
    ("blkio", "", "", ""),
    ("cpuacct", "", "", ""),
    ("devices", "", "", ""),
    ("freezer", "", "", ""),
];
const DEVICES: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];
const MASKED: [&str; 13] = [
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
    "sys/devices/virtual/powercap",
    "sys/firmware",
    "sys/fs/selinux",
];
const READ_ONLY: [&str; 5] = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

/// `floor ROOTFS NAME PROGRAM...`: the program in a container whose cgroup is NAME of the benchmark's.
pub fn run(root: &Path, name: &str, program: &str, words: &[&str]) -> Outcome {
    let hierarchies = hierarchies()?;
    let groups: Vec<Group> =
        LIMITS.iter().filter_map(|limit| Group::join(&hierarchies, name, limit)).collect::<Result<_, _>>()?;
    umask(Mode::empty());
    let all = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWNET;
    unshare(all | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWCGROUP)?;
    sethostname("floor")?;
    furnish(root, &hierarchies)?;
    let status = Command::new(program).args(words).env_clear().spawn()?.wait()?;
    groups.into_iter().try_for_each(Group::leave)?;
    Ok(status.code().unwrap_or(98))
}

/// The hierarchies of v1; none: there is v2 alone.
fn hierarchies() -> io::Result<Vec<String>> {
    let text = fs::read_to_string("/proc/self/mounts")?;
    let mounts = text.lines().filter_map(|line| line.split(' ').nth(1)?.strip_prefix(CGROUPS)?.strip_prefix('/'));
    Ok(mounts.filter(|name| !["systemd", "unified"].contains(name)).map(str::to_owned).collect())
}

/// A cgroup that this process is in. Its path is of no use after the root has changed.
struct Group {
    hierarchy: rustix::fd::OwnedFd,
    name: PathBuf,
}

impl Group {
    fn join(hierarchies: &[String], name: &str, limit: &(&str, &str, &str, &str)) -> Option<io::Result<Self>> {
        let (controller, v1, v2, value) = *limit;
        let found = hierarchies.iter().find(|one| one.split(',').any(|part| part == controller));
        let (top, file) = match found {
            Some(hierarchy) => (Path::new(CGROUPS).join(hierarchy), v1),
            // One directory serves all controllers; the first of them makes it.
            None if hierarchies.is_empty() && controller == "memory" => (PathBuf::from(CGROUPS), v2),
            None => return None,
        };
        Some(Self::make(&top, name, file, value))
    }

    fn make(top: &Path, name: &str, file: &str, value: &str) -> io::Result<Self> {
        let name = Path::new("strata-bench").join(name);
        let path = top.join(&name);
        match fs::create_dir(&path) {
            Err(err) if err.kind() == ErrorKind::NotFound => fs::create_dir_all(&path)?,
            made => made?,
        }
        if !file.is_empty() {
            fs::write(path.join(file), value)?;
        }
        fs::write(path.join("cgroup.procs"), "0")?;
        Ok(Self { hierarchy: open(top, OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty())?, name })
    }

    fn leave(self) -> io::Result<()> {
        let procs =
            openat(&self.hierarchy, "cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, rustix::fs::Mode::empty())?;
        rustix::io::write(&procs, b"0")?;
        Ok(unlinkat(&self.hierarchy, &self.name, AtFlags::REMOVEDIR)?)
    }
}

fn furnish(root: &Path, hierarchies: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    mount(Some(root), root, nothing, MsFlags::MS_BIND, nothing)?;
    chdir(root)?;
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let place = |kind: &str, target: &str, flags: MsFlags, data: &str| -> Result<(), Box<dyn std::error::Error>> {
        fs::create_dir_all(target)?;
        Ok(mount(Some(kind), target, Some(kind), flags, Some(data))?)
    };
    place("proc", "proc", safe, "")?;
    place("tmpfs", "dev", MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME, "mode=755,size=65536k")?;
    place("devpts", "dev/pts", MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5")?;
    place("sysfs", "sys", safe | MsFlags::MS_RDONLY, "")?;
    if hierarchies.is_empty() {
        mount(Some("cgroup2"), "sys/fs/cgroup", Some("cgroup2"), safe | MsFlags::MS_RDONLY, nothing)?;
    } else {
        mount(Some("tmpfs"), "sys/fs/cgroup", Some("tmpfs"), safe, Some("mode=755,size=64k"))?;
        for hierarchy in hierarchies {
            place("cgroup", &format!("sys/fs/cgroup/{hierarchy}"), safe | MsFlags::MS_RDONLY, hierarchy)?;
        }
    }
    place("mqueue", "dev/mqueue", safe, "")?;
    place("tmpfs", "dev/shm", safe, "mode=1777,size=67108864")?;
    for (name, major, minor) in DEVICES {
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&Path::new("dev").join(name), SFlag::S_IFCHR, mode, makedev(major, minor))?;
    }
    LINKS.iter().try_for_each(|(target, name)| symlink(target, Path::new("dev").join(name)))?;
    READ_ONLY.iter().filter(|path| Path::new(path).exists()).try_for_each(|path| read_only(path))?;
    MASKED.iter().filter(|path| Path::new(path).exists()).try_for_each(|path| mask(path))?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    Ok(chdir("/")?)
}

fn read_only(path: &str) -> nix::Result<()> {
    let nothing = None::<&str>;
    mount(Some(path), path, nothing, MsFlags::MS_BIND | MsFlags::MS_REC, nothing)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(nothing, path, nothing, flags | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC, nothing)
}

fn mask(path: &str) -> nix::Result<()> {
    let nothing = None::<&str>;
    match Path::new(path).is_dir() {
        true => mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_RDONLY, Some("size=0k")),
        false => mount(Some("dev/null"), path, nothing, MsFlags::MS_BIND, nothing),
    }
}
