//! Volumes: directories that outlive containers, each below `volumes/<name>/` of the root, its record beside its content.
//! A volume is there as a whole or not at all: it is made under another name, and gets its own by one rename; it goes by
//! one as well. `options` says what a driver's options mean, `content` reads and replaces what is in a volume, `attached` mounts those that
//! are file systems.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    ops::Bound,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strata_init::quota;
use strata_rpc::events::{Kind, Log};
use strata_types::VolumeName;
use tokio::sync::RwLock;

use crate::{
    disk::sync_dir,
    error::{Error, VolumeError},
    names,
    record::Durability,
    spec::VolumePlace,
};

pub mod attached;
pub mod content;
pub mod options;

use options::Backing;

/// The label of volumes that were made without a name, Docker's.
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// The version that this program writes.
pub const VERSION: u32 = 1;

/// Name of what is mounted, in the directory of a volume.
const DATA: &str = "_data";

/// Name of what is to be mounted instead, until it is whole.
const NEW: &str = "new";

/// What is known of a volume; it never changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Version of the format.
    pub version: u32,
    /// Name.
    pub name: VolumeName,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A volume to make.
#[derive(Debug, Clone)]
pub struct New {
    /// Name.
    pub name: VolumeName,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it must survive a crash of the host.
    pub durability: Durability,
}

/// A volume.
#[derive(Debug)]
pub struct Volume {
    /// What is known of it.
    pub record: Record,
    /// What is mounted.
    backing: Backing,
    /// Its directory.
    directory: PathBuf,
    /// Held with others by who is about to mount it, and alone by who puts other content in place of what is there.
    pub content: Arc<RwLock<()>>,
    /// Held by who mounts or unmounts the file system that it is.
    mounting: Mutex<()>,
}

impl Volume {
    fn new(record: Record, directory: PathBuf) -> Result<Arc<Self>, Error> {
        let backing = Backing::parse(&record.options)?;
        Ok(Arc::new(Self { record, backing, directory, content: Arc::default(), mounting: Mutex::default() }))
    }

    /// It was made without a name.
    pub fn is_anonymous(&self) -> bool {
        self.record.labels.contains_key(ANONYMOUS)
    }

    /// What is mounted.
    pub fn place(&self) -> VolumePlace {
        let (device, is_read_only) = match &self.backing {
            Backing::Own { .. } | Backing::FileSystem(_) => (None, false),
            Backing::Directory { path, is_read_only } => (Some(path.clone()), *is_read_only),
        };
        VolumePlace { directory: self.data(), device, is_read_only }
    }

    /// Bytes that it may have; `None`: as many as there are.
    pub fn size_limit(&self) -> Option<u64> {
        match self.backing {
            Backing::Own { limit } => limit,
            Backing::Directory { .. } | Backing::FileSystem(_) => None,
        }
    }

    /// Its own directory, whether or not that is what is mounted.
    pub fn data(&self) -> PathBuf {
        self.directory.join(DATA)
    }
}

/// A volume that nobody knows any more; its content is still to go.
#[derive(Debug)]
pub struct Discarded(PathBuf);

impl Discarded {
    /// Bytes of the disk that it has.
    pub fn size(&self) -> u64 {
        strata_archive::disk_usage(&self.0)
    }

    /// Removes the content. What is left after a crash goes at the next start.
    pub fn remove(self) -> Result<(), Error> {
        if let Err(refusal) = quota::lift(&self.0) {
            // A number that nobody gets again is no reason to keep what is to go.
            tracing::warn!(error = strata_rpc::fault::chain(&refusal), "cannot lift the limit of a volume");
        }
        remove_tree(&self.0)
    }
}

/// All volumes.
#[derive(Debug)]
pub struct Volumes {
    root: PathBuf,
    quarantine: PathBuf,
    events: Log,
    /// Who makes or removes one has it; those who look for one do not wait for a disk.
    door: Mutex<()>,
    known: Mutex<BTreeMap<VolumeName, Arc<Volume>>>,
}

impl Volumes {
    /// Reads what is there. The second are things half made or half removed, to be removed when there is time.
    pub fn open(root: &Path, events: Log) -> Result<(Self, Vec<Discarded>), Error> {
        let (volumes, quarantine) = (root.join("volumes"), root.join("quarantine"));
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&volumes);
        made.map_err(|e| Error::io("create", &volumes, e))?;
        let this = Self { root: volumes, quarantine, events, door: Mutex::default(), known: Mutex::default() };
        let mut left = Vec::new();
        for entry in fs::read_dir(&this.root).map_err(|e| Error::io("read", &this.root, e))? {
            let path = entry.map_err(|e| Error::io("read", &this.root, e))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // No name of a volume begins so.
            if name.starts_with('.') {
                left.push(Discarded(path));
                continue;
            }
            match read(&path, &name) {
                Ok(volume) => {
                    left.extend(this.set_aside(&path.join(NEW))?);
                    this.known().insert(volume.record.name.clone(), volume);
                }
                Err(error) => {
                    tracing::error!(%name, %error, "the record of a volume is damaged: it was moved to quarantine");
                    let aside = this.quarantine.join(format!("volume-{name}"));
                    fs::rename(&path, aside).map_err(|e| Error::io("move", path, e))?;
                }
            }
        }
        Ok((this, left))
    }

    /// Finds a volume.
    pub fn find(&self, name: &VolumeName) -> Result<Arc<Volume>, Error> {
        self.known().get(name).cloned().ok_or_else(|| VolumeError::NotFound { name: name.to_string() }.into())
    }

    /// A page of volumes with names above `after`.
    pub fn page(&self, after: &str, size: usize) -> Vec<Arc<Volume>> {
        let known = self.known();
        let from = match VolumeName::parse(after) {
            Ok(name) => Bound::Excluded(name),
            Err(_) => Bound::Unbounded,
        };
        known.range((from, Bound::Unbounded)).take(size).map(|(_, volume)| volume.clone()).collect()
    }

    /// Makes a volume, unless there is one of its name; one with other options is an error. Blocking.
    pub fn ensure(&self, new: New) -> Result<Arc<Volume>, Error> {
        let _door = self.door();
        if let Ok(found) = self.find(&new.name) {
            return match new.options.is_empty() || new.options == found.record.options {
                true => Ok(found),
                false => Err(VolumeError::Exists { name: new.name.to_string() }.into()),
            };
        }
        let New { name, options, labels, durability } = new;
        let record = Record { version: VERSION, name, options, labels, created_at: Timestamp::now() };
        let directory = self.root.join(record.name.as_str());
        let volume = Volume::new(record, directory)?;
        let new = self.hidden("new")?;
        let made = make(&new, &volume, durability)
            .and_then(|()| fs::rename(&new, &volume.directory).map_err(|e| Error::io("rename", &new, e)))
            .and_then(|()| if durability == Durability::Synced { sync_dir(&self.root) } else { Ok(()) });
        if let Err(error) = made {
            // The first error is the one to tell; what is left goes at the next start.
            let _ = Discarded(new).remove();
            return Err(error);
        }
        self.known().insert(volume.record.name.clone(), volume.clone());
        self.tell("create", &volume.record.name);
        Ok(volume)
    }

    /// Takes a volume away, if `may` says so, who also unmounts it: its files may be a server's, and are not to go with it.
    /// Nobody makes or takes one meanwhile. Blocking.
    pub fn discard(
        &self,
        name: &VolumeName,
        may: impl FnOnce(&Volume) -> Result<(), Error>,
    ) -> Result<Discarded, Error> {
        let _door = self.door();
        let volume = self.find(name)?;
        may(&volume)?;
        let gone = self.hidden("gone")?;
        match fs::rename(&volume.directory, &gone) {
            // Somebody removed it by hand: then that is done.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed.map_err(|e| Error::io("rename", &volume.directory, e))?,
        }
        self.known().remove(name);
        self.tell("destroy", name);
        Ok(Discarded(gone))
    }

    /// Moves what a crash left half made out of the way of the next one.
    fn set_aside(&self, half: &Path) -> Result<Option<Discarded>, Error> {
        let gone = self.hidden("gone")?;
        match fs::rename(half, &gone) {
            Ok(()) => Ok(Some(Discarded(gone))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("rename", half, error)),
        }
    }

    fn tell(&self, action: &str, name: &VolumeName) {
        let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
        self.events.tell(Kind::Volume, action, name.to_string(), attributes);
    }

    /// A name that no volume can have.
    fn hidden(&self, what: &str) -> Result<PathBuf, Error> {
        Ok(self.root.join(format!(".{what}-{}", names::new_volume_name()?)))
    }

    fn door(&self) -> MutexGuard<'_, ()> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<VolumeName, Arc<Volume>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the directory of a volume: record and empty content, both within its limit.
fn make(directory: &Path, volume: &Volume, durability: Durability) -> Result<(), Error> {
    let create = |path: &Path, mode| {
        fs::DirBuilder::new().mode(mode).create(path).map_err(|e| Error::io("create", path, e))?;
        // Whatever the mask of this process is.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(path, mode).map_err(|e| Error::io("restrict", path, e))
    };
    create(directory, 0o700)?;
    limit(directory, volume.size_limit())?;
    create(&directory.join(DATA), 0o755)?;
    let path = directory.join("record.json");
    let failed = |e: io::Error| Error::io("write", &path, e);
    let mut file = File::options().create_new(true).write(true).mode(0o600).open(&path).map_err(failed)?;
    let bytes = serde_json::to_vec(&volume.record).expect("every key of a record is a string");
    file.write_all(&bytes).map_err(failed)?;
    if durability == Durability::Synced {
        file.sync_data().map_err(failed)?;
        sync_dir(directory)?;
    }
    Ok(())
}

/// Limits what is below a directory.
fn limit(directory: &Path, bytes: Option<u64>) -> Result<(), Error> {
    let Some(bytes) = bytes else { return Ok(()) };
    quota::limit(directory, bytes)
        .map_err(|refusal| Error::Limit { field: "size".to_owned(), source: Box::new(refusal) })
}

fn read(directory: &Path, name: &str) -> Result<Arc<Volume>, Error> {
    let path = directory.join("record.json");
    let bytes = fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
    let damaged = |source| Error::Record { path: path.clone(), source };
    let record: Record = serde_json::from_slice(&bytes).map_err(damaged)?;
    if record.version != VERSION || record.name.as_str() != name {
        let problem = format!("version {} of volume {}", record.version, record.name);
        return Err(damaged(serde::de::Error::custom(problem)));
    }
    Volume::new(record, directory.to_owned())
}

fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
