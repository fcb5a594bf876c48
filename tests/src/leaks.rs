//! What must not be left: processes that know a directory, mounts below it, cgroups and processes in them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Where cgroups of containers are: below each hierarchy.
const HIERARCHIES: &str = "/sys/fs/cgroup";
/// The runtime's default parent.
const PARENT: &str = "strata";

/// A living process.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Its id.
    pub pid: i32,
    /// Its program and arguments.
    pub words: Vec<String>,
}

impl Trace {
    /// File name of its program.
    pub fn program(&self) -> &str {
        self.words[0].rsplit('/').next().unwrap_or_default()
    }
}

fn words(bytes: &[u8]) -> Vec<String> {
    bytes
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|w| String::from_utf8_lossy(w).into_owned())
        .collect()
}

fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Processes that name the directory in their arguments, environment or working directory; not zombies, not this one.
pub fn living(dir: &Path) -> Vec<Trace> {
    let needle = dir.as_os_str().as_encoded_bytes();
    let has = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    let mut found = vec![];
    for pid in pids().into_iter().filter(|pid| *pid != std::process::id() as i32) {
        // Unreadable: it has just ended.
        let Ok(command) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        if command.is_empty() {
            continue;
        }
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let is_within = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
        if has(&command) || has(&environment) || is_within {
            found.push(Trace { pid, words: words(&command) });
        }
    }
    found
}

/// Mount points below the directory, or made of it, in this mount namespace.
pub(crate) fn mounts(dir: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let name = dir.to_string_lossy();
    table.lines().filter(|line| line.contains(&*name)).map(str::to_owned).collect()
}

/// Cgroups of containers, as (id, directory), in all hierarchies.
pub(crate) fn cgroups() -> BTreeSet<(String, PathBuf)> {
    let mut found = BTreeSet::new();
    // The hybrid layout has one directory per hierarchy; in v2 the top is the one hierarchy.
    let hierarchies = fs::read_dir(HIERARCHIES).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([PathBuf::from(HIERARCHIES)]) {
        for entry in fs::read_dir(hierarchy.join(PARENT)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.len() == 64 && entry.path().is_dir() {
                found.insert((name, entry.path()));
            }
        }
    }
    found
}

/// Bridges of this host that belong to networks whose records are in a directory.
pub(crate) fn bridges(records: &Path) -> Vec<String> {
    let entries = fs::read_dir(records).into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| Some(entry.file_name().to_str()?.get(..12)?.to_owned()));
    let links = ids.map(|id| format!("st-{id}"));
    links.filter(|link| Path::new("/sys/class/net").join(link).exists()).collect()
}

/// Names of 64 hex digits below a directory, as containers' state has them.
pub(crate) fn ids(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let stem = name.split('.').next().unwrap_or_default();
        if stem.len() == 64 && stem.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            found.insert(stem.to_owned());
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !name.starts_with("layers") {
            ids(&entry.path(), found);
        }
    }
}
