//! Cgroups are the one thing of a peer that a mount namespace does not take with it: some leave empty parents.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const HIERARCHIES: &str = "/sys/fs/cgroup";
/// What peers call theirs, and what this benchmark calls those of bundles.
const PEERS: [&str; 6] = ["libpod_parent", "libpod-", "docker", "buildah-", "machine.slice", "strata-bench"];

/// The cgroups that were there before.
pub(crate) struct Before(BTreeSet<PathBuf>);

impl Before {
    /// Looks.
    pub(crate) fn look() -> Self {
        Self(tops().into_iter().flat_map(|top| tree(&top)).collect())
    }

    /// Removes the empty ones that peers left since; returns those that are in use.
    pub(crate) fn sweep(&self) -> Vec<String> {
        let mut kept = vec![];
        for path in tops().into_iter().flat_map(|top| tree(&top)).filter(|path| !self.0.contains(path)) {
            if let Err(err) = fs::remove_dir(&path) {
                kept.push(format!("cgroup {}: {err}", path.display()));
            }
        }
        kept
    }
}

/// Peers' directories at the top of each hierarchy; in v2 the top is the one hierarchy.
fn tops() -> Vec<PathBuf> {
    let hierarchies = directories(Path::new(HIERARCHIES));
    let all = hierarchies.iter().flat_map(|path| directories(path)).chain(hierarchies.iter().cloned());
    let is_of_peer = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        PEERS.iter().any(|prefix| name.starts_with(prefix))
    };
    all.filter(is_of_peer).collect()
}

/// The directories below, each after what it contains, then the top itself.
fn tree(top: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = directories(top).iter().flat_map(|path| tree(path)).collect();
    found.push(top.to_owned());
    found
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}
