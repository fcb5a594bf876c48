//! The record of a container on disk: `<root>/<id>/state.json`, beside it `config.json` as the bundle had it, and
//! `exec.fifo` until it starts. A record without a process is that of a container whose maker is, or was, at work.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use strata_oci::{
    cgroup::{Cgroup, Record},
    default_spec::OCI_VERSION,
};

use crate::attached::Attached;

/// What is known of a container.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    pub id: String,
    /// Its first process; 0 before there is one.
    pub pid: u32,
    /// Field 22 of `/proc/<pid>/stat`, so that a reused pid is not taken for the container.
    pub start_time: u64,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub cgroup: Record,
    /// When it was made, RFC 3339.
    pub created: String,
    /// The user that made it.
    pub uid: u32,
    /// The process that makes it, and its start time.
    pub maker: (u32, u64),
    pub annotations: std::collections::BTreeMap<String, String>,
    /// Groups of Intel's resource director, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resctrl: Option<strata_oci::rdt::Groups>,
    /// Its root on the host, if it has no mount namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached: Option<Attached>,
    #[serde(skip)]
    pub directory: PathBuf,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    /// The word of the runtime spec; `paused` is runc's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
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
    /// Returns the record of a container that this process begins to make.
    pub fn new(id: &str, bundle: &Path, cgroup: Record, spec: &Spec, directory: &Path) -> Self {
        let maker = std::process::id();
        Self {
            id: id.to_owned(),
            pid: 0,
            start_time: 0,
            bundle: bundle.to_owned(),
            rootfs: spec.root().as_ref().map(|root| bundle.join(root.path())).unwrap_or_default(),
            cgroup,
            created: strata_init::rfc3339(strata_init::now_nanos()),
            uid: rustix::process::geteuid().as_raw(),
            maker: (maker, process(maker).unwrap_or_default().0),
            annotations: spec.annotations().clone().unwrap_or_default().into_iter().collect(),
            resctrl: None,
            attached: None,
            directory: directory.to_owned(),
        }
    }

    /// Returns the name of the session keyring that all its processes share.
    pub fn keyring(&self) -> String {
        format!("_ses.{}", self.id)
    }

    /// Returns its processes: those of its cgroup, or of its pid namespace if it has no cgroup.
    pub fn pids(&self) -> Result<Vec<i32>, String> {
        match self.has_cgroup() {
            true => self.cgroup()?.pids().map_err(|error| describe(&error)),
            false => crate::rootless::pids_of_namespace(self.pid),
        }
    }

    /// Takes the process that was just made.
    pub fn set_process(&mut self, pid: u32) {
        self.pid = pid;
        self.start_time = process(pid).unwrap_or_default().0;
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
        let text = serde_json::to_string(self).map_err(|error| error.to_string())?;
        self.replace("state.json", text.as_bytes())
    }

    /// Loads the spec the container was made from, with the changes of `update`.
    pub fn spec(&self) -> Result<Spec, String> {
        let path = self.config_path();
        let bytes = fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        // What there was to warn of was said when it was made.
        let spec = strata_oci::extra::spec(&bytes).map(|(spec, _)| spec);
        spec.map_err(|error| format!("{} is damaged: {error}", path.display()))
    }

    /// Replaces a file beside the record.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let new = self.directory.join(format!("{name}.new"));
        fs::write(&new, bytes)
            .and_then(|()| fs::rename(&new, self.directory.join(name)))
            .map_err(|error| format!("cannot write the state of container {}: {error}", self.id))
    }

    pub fn config_path(&self) -> PathBuf {
        self.directory.join("config.json")
    }

    pub fn fifo(&self) -> PathBuf {
        self.directory.join("exec.fifo")
    }

    /// Whether it has a cgroup: a user's container has none where none is delegated.
    pub fn has_cgroup(&self) -> bool {
        self.cgroup.is_some()
    }

    /// Finds its cgroup; there may be no directory of it left, and another's of the name is none.
    pub fn cgroup(&self) -> Result<Cgroup, String> {
        if !self.has_cgroup() {
            return Err(format!("container {} has no cgroup: none is delegated to its user", self.id));
        }
        self.cgroup.open().map_err(|error| describe(&error))
    }

    /// Looks at the process, the FIFO and the freezer.
    pub fn status(&self) -> Status {
        if self.pid == 0 {
            let is_alive = is_alive(self.maker.0, self.maker.1);
            return if is_alive { Status::Creating } else { Status::Stopped };
        }
        if !is_alive(self.pid, self.start_time) {
            return Status::Stopped;
        }
        match (self.is_frozen(), self.fifo().exists()) {
            (true, _) => Status::Paused,
            (false, true) => Status::Created,
            (false, false) => Status::Running,
        }
    }

    fn is_frozen(&self) -> bool {
        self.cgroup().is_ok_and(|cgroup| cgroup.is_frozen().unwrap_or(false))
    }

    /// Returns the name of the user that made it, or the number.
    pub fn owner(&self) -> String {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let of = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            (fields.nth(1)?.parse() == Ok(self.uid)).then_some(name)
        };
        passwd.lines().find_map(of).unwrap_or_else(|| self.uid.to_string())
    }

    /// Returns the document of the runtime spec's "State", and what runc adds.
    pub fn document(&self) -> Value {
        let status = self.status();
        let pid = if status == Status::Stopped { 0 } else { self.pid };
        json!({
            "ociVersion": OCI_VERSION,
            "id": self.id,
            "status": status.name(),
            "pid": pid,
            "bundle": self.bundle,
            "rootfs": self.rootfs,
            "created": self.created,
            "owner": "",
            "annotations": self.annotations,
        })
    }
}

/// Whether a process of this id and start time is there, and more than a zombie.
pub fn is_alive(pid: u32, start_time: u64) -> bool {
    process(pid).is_some_and(|(begun, letter)| begun == start_time && !['Z', 'X'].contains(&letter))
}

/// Returns start time and state letter of a process. proc_pid_stat(5)
fn process(pid: u32) -> Option<(u64, char)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let letter = fields.next()?.chars().next()?;
    Some((fields.nth(18)?.parse().ok()?, letter))
}

/// Joins an error with its causes.
pub fn describe(error: &dyn Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
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

    fn state(directory: &Path) -> State {
        State::new("x", Path::new("/b"), Record::default(), &Spec::default(), directory)
    }

    #[test]
    fn a_pid_of_another_start_time_is_not_the_container() {
        let directory = tempfile::tempdir().unwrap();
        let mut own = state(directory.path());
        own.set_process(std::process::id());
        let reused = State { pid: own.pid, start_time: own.start_time + 1, ..state(directory.path()) };

        assert_eq!(own.status(), Status::Running);
        assert_eq!(reused.status(), Status::Stopped);
        assert_eq!(reused.document()["pid"], 0);
    }

    #[test]
    fn a_container_without_a_process_is_creating_as_long_as_its_maker_lives() {
        let directory = tempfile::tempdir().unwrap();
        let made = state(directory.path());
        let left = State { maker: (made.maker.0, made.maker.1 + 1), ..state(directory.path()) };

        assert_eq!(made.status(), Status::Creating);
        assert_eq!(left.status(), Status::Stopped);
    }
}
