//! Everything that a house has on its host while its services run: one look before a test and one after it show what its
//! containers left. Numbers of processes, descriptors and containers are another's each time, so a look counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{House, Trace, leaks};

/// What the kernel and the sweepers of services need to take things away.
const SETTLE: Duration = Duration::from_secs(40);

/// One look: how many there are of each thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World(BTreeMap<String, usize>);

impl World {
    /// What there is now.
    pub fn of(house: &House) -> Self {
        let services = house.services();
        let mut all = Vec::new();
        all.extend(house.left().into_iter().map(|line| plain(&line)));
        for service in &services {
            all.extend(descriptors(service));
            all.extend(mounts(service, house.root()));
        }
        all.extend(zombies(&services).into_iter().map(|name| format!("zombie {name}")));
        all.extend(namespaces(house));
        for dir in [house.root().to_owned(), house.run_dir()] {
            files(&dir, &mut all);
        }
        let mut counts = BTreeMap::new();
        all.into_iter().for_each(|thing| *counts.entry(thing).or_default() += 1);
        Self(counts)
    }

    /// What there is once nothing changes any more.
    pub fn settled(house: &House) -> Self {
        let start = Instant::now();
        let mut last = Self::of(house);
        loop {
            thread::sleep(Duration::from_millis(500));
            let next = Self::of(house);
            if next == last {
                return next;
            }
            assert!(start.elapsed() < SETTLE, "it never stands still: {:#?}", next.more_than(&last));
            last = next;
        }
    }

    /// Insists that there is no more than before, once what is dying is dead.
    #[track_caller]
    pub fn has_not_grown(&self, house: &House) {
        let start = Instant::now();
        loop {
            let more = Self::of(house).more_than(self);
            if more.is_empty() {
                return;
            }
            assert!(start.elapsed() < SETTLE, "left behind: {more:#?}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// What this has more of than the other, and how many of it.
    fn more_than(&self, other: &Self) -> Vec<String> {
        let before = |thing: &String| other.0.get(thing).copied().unwrap_or(0);
        let grown = self.0.iter().filter(|(thing, count)| **count > before(thing));
        grown.map(|(thing, count)| format!("{} of {thing}, where {} were", count, before(thing))).collect()
    }
}

/// Anonymous memory of each service, in KiB: what it allocated, not what is mapped from its program.
pub fn anonymous_memory(house: &House) -> BTreeMap<String, (i32, u64)> {
    let of = |service: Trace| {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", service.pid)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).expect("Linux has it");
        (service.program().to_owned(), (service.pid, kib))
    };
    house.services().into_iter().map(of).collect()
}

/// A text without the numbers that are others each time: ids and whatever else is of hexadecimal digits, and decimal ones.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for word in text.split_inclusive(|letter: char| !letter.is_ascii_alphanumeric()) {
        let (body, end) = match word.char_indices().last() {
            Some((at, last)) if !last.is_ascii_alphanumeric() => word.split_at(at),
            _ => (word, ""),
        };
        let is_id = body.len() >= 12 && body.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_number = !body.is_empty() && body.bytes().all(|byte| byte.is_ascii_digit());
        plain += if is_id || is_number { "N" } else { body };
        plain += end;
    }
    plain
}

/// The open descriptors of a service, by what they are.
fn descriptors(service: &Trace) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{}/fd", service.pid)).into_iter().flatten().flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.map(|link| format!("descriptor of {}: {}", service.program(), plain(&link.to_string_lossy()))).collect()
}

/// Mounts that a service sees below a directory, where it has a mount namespace of its own.
fn mounts(service: &Trace, root: &Path) -> Vec<String> {
    let own = fs::read_link("/proc/self/ns/mnt").ok();
    if fs::read_link(format!("/proc/{}/ns/mnt", service.pid)).ok() == own {
        return Vec::new();
    }
    let table = fs::read_to_string(format!("/proc/{}/mountinfo", service.pid)).unwrap_or_default();
    let root = root.to_string_lossy();
    let below = table.lines().filter(|line| line.contains(&*root));
    below.map(|line| format!("mount of {}: {}", service.program(), plain(line))).collect()
}

/// Children of services that nobody buried. proc_pid_stat(5): name, state, parent.
fn zombies(services: &[Trace]) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let is_ours = |parent: &str| services.iter().any(|service| service.pid.to_string() == parent);
    let dead = stats.filter_map(|stat| {
        let (name, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let is_dead = fields.next()? == "Z" && is_ours(fields.next()?);
        is_dead.then(|| name.split_once('(').map_or(name, |(_, name)| name).to_owned())
    });
    dead.collect()
}

/// The namespaces that the house's processes are in, a line for each: their numbers tell them apart and are not kept.
fn namespaces(house: &House) -> Vec<String> {
    let living = leaks::living(house.path("").as_path());
    let mut found = BTreeSet::new();
    for process in living {
        for kind in ["mnt", "net", "ipc", "uts", "cgroup", "pid", "user"] {
            found.extend(fs::read_link(format!("/proc/{}/ns/{kind}", process.pid)));
        }
    }
    found.into_iter().map(|link| format!("namespace {}", plain(&link.to_string_lossy()))).collect()
}

/// The files below a directory. Logs of services and what a database keeps beside itself come and go.
fn files(dir: &Path, found: &mut Vec<String>) {
    let is_passing = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("service.log") || name.ends_with("-wal") || name.ends_with("-shm")
    };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if is_passing(&path) {
            continue;
        }
        let Ok(kind) = entry.file_type() else { continue };
        let word = if kind.is_socket() { "socket" } else { "file" };
        found.push(format!("{word} {}", plain(&path.to_string_lossy())));
        if kind.is_dir() {
            files(&path, found);
        }
    }
}
