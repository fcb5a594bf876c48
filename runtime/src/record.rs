//! Records: what the runtime knows about a container, as one JSON file each below `containers/<id>/`.
//! Written temp, fsync, rename, fsync of the directory, unless the container dies with the host anyway.
//! A record exists before any side effect and disappears after the last.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use strata_net::{Endpoint, Published};
use strata_types::{ContainerId, ContainerName};

use crate::{
    disk,
    error::Error,
    health::{Check, Health},
    identity,
    restart::End,
    spec::{Exit, MountPoint, Process, Source, Spec},
};

mod turns;
mod version;

use turns::{Last, Turns};
use version::VERSION;

/// The record of a container, in its directory.
const RECORD: &str = "record.json";
/// One that is being written.
const UNFINISHED: &str = "record.json.new";
/// The note of a service that went to sleep.
const NAP: &str = "nap";

/// What the runtime knows about a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Version of the format: the first that knows all of the record, found when it is written.
    pub version: u32,
    /// How many changes it has seen in this process: of two copies the later one has all that the other says.
    #[serde(skip)]
    pub revision: u64,
    /// Id.
    pub id: ContainerId,
    /// Name.
    pub name: ContainerName,
    /// What it was created from.
    pub spec: Spec,
    /// What it is doing.
    pub state: State,
    /// Id of its image. Empty: made from a snapshot.
    pub image_id: String,
    /// The process after the merge. Before that: empty.
    pub process: Process,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last started.
    pub started_at: Option<Timestamp>,
    /// When its last run ended.
    pub finished_at: Option<Timestamp>,
    /// How its last run, or its last attempt to run, ended.
    pub exit: Option<Exit>,
    /// It lives as long as the stream of a `Run` call.
    pub is_run: bool,
    /// What it has of its networks while it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// Ports of the host that lead to it while it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
    /// Mount points that had to be made in its root file system.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mount_points: Vec<MountPoint>,
    /// How its health is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// How it is, or was in its last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// The kernel has killed in it for want of memory, in its last run.
    #[serde(default)]
    pub is_out_of_memory: bool,
    /// Somebody stopped it: its restart policy does not apply until it is started by hand.
    #[serde(default)]
    pub is_stopped_by_hand: bool,
    /// How often its restart policy has started it since it was started by hand.
    #[serde(default)]
    pub restart_count: u32,
    /// Being removed, it takes its anonymous volumes along.
    #[serde(default)]
    pub removes_volumes: bool,
}

/// What a container is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its snapshot is being prepared: undone after a crash.
    Creating,
    /// Made, never started.
    Created,
    /// Its process runs, or a monitor is about to make it.
    Running(Running),
    /// Its process has ended.
    Exited,
    /// Its process has ended, and its restart policy starts it again after a pause.
    Restarting,
    /// Being removed: finished after a crash.
    Removing,
}

/// The processes of a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The container's first process.
    pub init: Identity,
    /// Its monitor.
    pub monitor: Identity,
    /// They stand still.
    #[serde(default)]
    pub is_paused: bool,
    /// Version of what the monitor speaks: [`strata_init::wire::VERSION`] of the runtime that made it.
    #[serde(default = "version::first_conversation")]
    pub conversation: u32,
}

impl Running {
    /// What has just been made by this version.
    pub fn new(init: Identity, monitor: Identity) -> Self {
        Self { init, monitor, is_paused: false, conversation: strata_init::wire::VERSION }
    }
}

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot: proc(5), /proc/pid/stat field 22.
    pub started: u64,
    /// Boot of the host that it belongs to.
    pub boot_id: String,
}

/// Whether a record must survive a crash of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Synced before the call returns.
    Synced,
    /// Visible at once, written back when the kernel likes.
    Unsynced,
}

impl Record {
    /// A record of a container about to be created.
    pub fn creating(id: ContainerId, name: ContainerName, spec: Spec) -> Self {
        Self {
            version: VERSION,
            revision: 0,
            id,
            name,
            spec,
            state: State::Creating,
            image_id: String::new(),
            process: Process::default(),
            created_at: Timestamp::now(),
            started_at: None,
            finished_at: None,
            exit: None,
            is_run: false,
            endpoints: Vec::new(),
            published: Vec::new(),
            mount_points: Vec::new(),
            check: None,
            health: None,
            is_out_of_memory: false,
            is_stopped_by_hand: false,
            restart_count: 0,
            removes_volumes: false,
        }
    }

    /// Adds mount points that had to be made; one that was made again counts for the one before.
    pub fn add_mount_points(&mut self, made: Vec<MountPoint>) {
        self.mount_points.retain(|old| made.iter().all(|new| new.path != old.path));
        self.mount_points.extend(made);
    }

    /// It has ended, and rests or is started again: as its restart policy says.
    pub fn end(&mut self, exit: Exit) {
        let end = End { exit: &exit, is_by_hand: self.is_stopped_by_hand, count: self.restart_count };
        let is_due = self.spec.restart.is_due(end);
        self.state = if is_due { State::Restarting } else { State::Exited };
        self.restart_count += u32::from(is_due);
        self.exit = Some(exit);
    }

    /// Lets it rest if it waits for a start that its restart policy, which has changed, has no more.
    pub fn rest(&mut self) {
        // The start that it waits for is counted already.
        let (is_by_hand, count) = (self.is_stopped_by_hand, self.restart_count.saturating_sub(1));
        let is_due = |exit| self.spec.restart.is_due(End { exit, is_by_hand, count });
        if self.state == State::Restarting && !self.exit.as_ref().is_some_and(is_due) {
            self.state = State::Exited;
        }
    }

    /// Whether it has run and does not, and is to run when this service, or the host, starts anew.
    pub fn is_due_anew(&self) -> bool {
        let (is_by_hand, count) = (self.is_stopped_by_hand, self.restart_count);
        let has_run = self.state == State::Exited && self.started_at.is_some();
        let is_due = |exit| self.spec.restart.is_due_anew(End { exit, is_by_hand, count });
        has_run && self.exit.as_ref().is_some_and(is_due)
    }

    /// How long its last run took.
    pub fn last_run(&self) -> Duration {
        let run = self.started_at.zip(self.finished_at).map(|(start, end)| end.duration_since(start));
        run.and_then(|run| Duration::try_from(run).ok()).unwrap_or_default()
    }

    /// How durable its record has to be: one that is removed at its end need not survive the host.
    pub fn durability(&self) -> Durability {
        if self.spec.auto_remove { Durability::Unsynced } else { Durability::Synced }
    }
}

/// The directory of all records, held by this process alone.
#[derive(Debug)]
pub struct Records {
    root: PathBuf,
    turns: Turns,
    _lock: File,
}

/// What `load` found.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Records that are whole.
    pub records: Vec<Record>,
    /// Ids whose records are damaged: moved to `quarantine/`, their snapshots are not to be touched.
    pub damaged: Vec<String>,
}

impl Records {
    /// Takes the root; refused when another process holds it.
    pub fn open(root: &Path) -> Result<Self, Error> {
        for dir in [root.to_owned(), root.join("containers"), root.join("quarantine")] {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            made.map_err(|e| Error::io("create", &dir, e))?;
        }
        let path = root.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let lock = lock.map_err(|e| Error::io("open", &path, e))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { root: root.to_owned(), turns: Turns::default(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::RootLocked { root: root.to_owned() }),
            Err(errno) => Err(Error::io("lock", path, errno)),
        }
    }

    /// Notes that this service goes to sleep, since nothing is left to do: that it is back says nothing to containers.
    pub fn note_nap(&self) -> Result<(), Error> {
        let path = self.root.join(NAP);
        fs::write(&path, identity::boot_id()).map_err(|e| Error::io("write", path, e))
    }

    /// Whether the service before this one went to sleep, while the host went on.
    pub fn take_nap(&self) -> Result<bool, Error> {
        let path = self.root.join(NAP);
        let noted = match fs::read_to_string(&path) {
            Ok(noted) => noted,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(Error::io("read", path, e)),
        };
        fs::remove_file(&path).map_err(|e| Error::io("remove", path, e))?;
        Ok(noted == identity::boot_id())
    }

    /// The directory of one container: record, log, exit record.
    pub fn dir(&self, id: &ContainerId) -> PathBuf {
        self.root.join("containers").join(id.as_str())
    }

    /// Writes a record, in place of the one before. A copy that is older than what was written changes nothing, nor does one
    /// of a container that was removed meanwhile.
    pub fn write(&self, record: &Record, durability: Durability) -> Result<(), Error> {
        let is_known = self.turns.take(&record.id, |last| {
            if record.revision < last.written {
                return self.catch_up(record, durability, last).map(|()| true);
            }
            self.write_next(record, durability, last)
        })?;
        if !is_known {
            self.turns.end(&record.id);
        }
        Ok(())
    }

    /// Does for a copy that came too late what is left to do: what was written in its place is as durable as it had to be.
    fn catch_up(&self, record: &Record, durability: Durability, last: &mut Last) -> Result<(), Error> {
        if durability == Durability::Synced && last.synced < record.revision {
            disk::sync(&self.dir(&record.id).join(RECORD))?;
            last.synced = last.written;
        }
        Ok(())
    }

    /// Writes a record that is newer than what was written. False: the container was removed meanwhile.
    fn write_next(&self, record: &Record, durability: Durability, last: &mut Last) -> Result<bool, Error> {
        let dir = self.dir(&record.id);
        let is_new = record.revision == 0 && make_dir(&dir)?;
        if record.revision > 0 && !dir.exists() {
            return Ok(false);
        }
        disk::replace(&dir.join(RECORD), &dir.join(UNFINISHED), &serialize(record), durability)?;
        last.written = record.revision;
        if durability == Durability::Synced {
            last.synced = record.revision;
            if is_new {
                disk::sync_dir(&self.root.join("containers"))?;
            }
        }
        Ok(true)
    }

    /// Removes a container's directory, the record last.
    pub fn remove(&self, id: &ContainerId) -> Result<(), Error> {
        let removed = self.turns.take(id, |_| self.remove_dir(id));
        self.turns.end(id);
        removed
    }

    fn remove_dir(&self, id: &ContainerId) -> Result<(), Error> {
        let dir = self.dir(id);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Error::io("read", dir, e)),
        };
        for entry in entries.flatten().filter(|entry| entry.file_name() != RECORD) {
            let path = entry.path();
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|e| Error::io("remove", path, e))?;
        }
        fs::remove_dir_all(&dir).map_err(|e| Error::io("remove", dir, e))
    }

    /// Reads every record. Damaged ones are set aside, never a reason not to start; those of an older version are brought up
    /// to date. A later version has written what this one would ruin: then nothing is changed, and the error says so.
    pub fn load(&self) -> Result<Loaded, Error> {
        version::check(&self.root)?;
        let mut loaded = Loaded::default();
        let containers = self.root.join("containers");
        for entry in fs::read_dir(&containers).map_err(|e| Error::io("read", &containers, e))? {
            let entry = entry.map_err(|e| Error::io("read", &containers, e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            match read(&entry.path().join(RECORD), &name) {
                Ok(Some((record, older))) => {
                    if let Some(older) = older {
                        older.keep(&entry.path())?;
                        self.write(&record, Durability::Synced)?;
                    }
                    loaded.records.push(record);
                }
                // A directory without a record: the crash came before the first rename, or amid removal.
                Ok(None) => fs::remove_dir_all(entry.path()).map_err(|e| Error::io("remove", entry.path(), e))?,
                Err(error) => {
                    tracing::error!(%name, %error, "a container record is damaged and was moved to quarantine");
                    let aside = self.root.join("quarantine").join(&name);
                    fs::rename(entry.path(), &aside).map_err(|e| Error::io("move", entry.path(), e))?;
                }
            }
        }
        let quarantine = self.root.join("quarantine");
        let aside = fs::read_dir(&quarantine).map_err(|e| Error::io("read", &quarantine, e))?;
        loaded.damaged = aside.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        Ok(loaded)
    }
}

/// Makes the directory of a container. False: it is there.
fn make_dir(dir: &Path) -> Result<bool, Error> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(Error::io("create", dir, e)),
    }
}

/// Reads a record; with it comes what it was, if it is of an older version.
fn read(path: &Path, name: &str) -> Result<Option<(Record, Option<version::Older>)>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("read", path, e)),
    };
    let wrong = |source| Error::Record { path: path.into(), source };
    let (value, older) = version::up_to_date(bytes).map_err(wrong)?;
    let record: Record = serde_json::from_value(value).map_err(wrong)?;
    if !version::is_known(record.version) || record.id.as_str() != name {
        let problem = format!("version {} of container {}", record.version, record.id);
        return Err(wrong(serde::de::Error::custom(problem)));
    }
    Ok(Some((record, older)))
}

/// Bytes mounts are secrets: those of a container that cannot be started again stay in memory.
fn serialize(record: &Record) -> Vec<u8> {
    let mut record = record.clone();
    record.version = version::needed(&record);
    if record.spec.auto_remove {
        record.spec.mounts.retain(|mount| !matches!(mount.source, Source::Bytes { .. }));
    }
    serde_json::to_vec(&record).expect("every key of a record is a string")
}

#[cfg(test)]
pub mod tests;
