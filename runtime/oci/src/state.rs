//! The record of a container on disk: `<root>/<id>/state.json`, and `exec.fifo` beside it until it starts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use strata_oci::default_spec::OCI_VERSION;

/// What is known of a container.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    pub id: String,
    pub pid: u32,
    /// Field 22 of `/proc/<pid>/stat`, so that a reused pid is not taken for the container.
    pub start_time: u64,
    pub bundle: PathBuf,
    pub cgroup: String,
    pub annotations: std::collections::BTreeMap<String, String>,
    #[serde(skip)]
    pub directory: PathBuf,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Created,
    Running,
    Stopped,
}

/// Returns the directory of a container, refusing names that are paths.
pub fn directory(root: &Path, id: &str) -> Result<PathBuf, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.+-".contains(&byte);
    if id.is_empty() || id.len() > 200 || id.starts_with(['.', '-']) || !id.bytes().all(plain) {
        return Err(format!("{id:?} is not a container name"));
    }
    Ok(root.join(id))
}

impl State {
    /// Returns the record of a process that was just made.
    pub fn new(id: &str, pid: u32, bundle: &Path, cgroup: &str, spec: &Spec, directory: &Path) -> Self {
        let annotations = spec.annotations().clone().unwrap_or_default().into_iter().collect();
        let (start_time, _) = process(pid).unwrap_or_default();
        Self {
            id: id.to_owned(),
            pid,
            start_time,
            bundle: bundle.to_owned(),
            cgroup: cgroup.to_owned(),
            annotations,
            directory: directory.to_owned(),
        }
    }

    pub fn load(root: &Path, id: &str) -> Result<Self, String> {
        let directory = directory(root, id)?;
        let bytes = fs::read(directory.join("state.json")).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => format!("container {id} does not exist"),
            _ => format!("cannot read the state of container {id}: {error}"),
        })?;
        let state: Self = serde_json::from_slice(&bytes)
            .map_err(|error| format!("the state of container {id} is damaged: {error}"))?;
        Ok(Self { directory, ..state })
    }

    /// Writes the record; a reader sees all of it or nothing.
    pub fn save(&self) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("cannot write the state of container {}: {error}", self.id);
        let text = serde_json::to_string(self).map_err(|error| failed(error.into()))?;
        let new = self.directory.join("state.json.new");
        fs::write(&new, text).map_err(failed)?;
        fs::rename(new, self.directory.join("state.json")).map_err(failed)
    }

    pub fn fifo(&self) -> PathBuf {
        self.directory.join("exec.fifo")
    }

    pub fn status(&self) -> Status {
        match process(self.pid) {
            Some((start_time, letter)) if start_time == self.start_time && !['Z', 'X'].contains(&letter) => {
                if self.fifo().exists() { Status::Created } else { Status::Running }
            }
            _ => Status::Stopped,
        }
    }

    /// Returns the document of the runtime spec's "State".
    pub fn document(&self) -> Value {
        let status = self.status();
        let pid = if status == Status::Stopped { 0 } else { self.pid };
        json!({
            "ociVersion": OCI_VERSION,
            "id": self.id,
            "status": match status {
                Status::Created => "created",
                Status::Running => "running",
                Status::Stopped => "stopped",
            },
            "pid": pid,
            "bundle": self.bundle,
            "annotations": self.annotations,
        })
    }
}

/// Returns start time and state letter of a process. proc_pid_stat(5)
fn process(pid: u32) -> Option<(u64, char)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let letter = fields.next()?.chars().next()?;
    Some((fields.nth(18)?.parse().ok()?, letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_paths_are_refused() {
        for bad in ["", ".", "..", "../x", "a/b", "/x", ".x", "-x", "a b", "a\n", &"x".repeat(201)] {
            assert!(directory(Path::new("/r"), bad).is_err(), "{bad:?}");
        }
        assert_eq!(directory(Path::new("/r"), "web-1.a_b+c").unwrap(), Path::new("/r/web-1.a_b+c"));
    }

    #[test]
    fn a_pid_of_another_start_time_is_not_the_container() {
        let directory = tempfile::tempdir().unwrap();
        let state =
            State::new("x", std::process::id(), Path::new("/b"), "/strata/x", &Spec::default(), directory.path());
        let reused = State {
            start_time: state.start_time + 1,
            ..State::new("x", std::process::id(), Path::new("/b"), "", &Spec::default(), directory.path())
        };

        assert_eq!(state.status(), Status::Running);
        assert_eq!(reused.status(), Status::Stopped);
        assert_eq!(reused.document()["pid"], 0);
    }
}
