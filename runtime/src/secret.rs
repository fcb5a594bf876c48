//! Secrets: each is one file below `secrets/` of the root, for this service's user alone: a line of JSON that says what it is,
//! and the value behind it. A value is read when a container needs it and kept nowhere else; nothing here prints one.
//! A secret is there as a whole or not at all, and so is a new value: it gets its name by one rename.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    ops::Bound,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strata_rpc::events::{Kind, Log};
use strata_types::{SecretId, SecretName};

use crate::{
    disk,
    error::{Error, SecretError},
    names,
    record::Durability,
};

/// The most bytes of a value, Docker's.
pub const MOST: usize = 500 << 10;

/// The version that this program writes.
pub const VERSION: u32 = 1;

/// The name of a file that is being written. No secret has it.
const NEW: &str = ".new";

/// What may be known of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of the format.
    pub version: u32,
    /// Id, which stays when the value is replaced.
    pub id: SecretId,
    /// Name.
    pub name: SecretName,
    /// Labels: inert.
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it got its value.
    pub updated_at: Timestamp,
}

/// The value of a secret. It is in no log: it cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Value(Vec<u8>);

impl Value {
    /// A value of 1 to [`MOST`] bytes.
    pub fn new(bytes: Vec<u8>) -> Result<Self, Error> {
        match bytes.len() {
            0 => Err(Error::argument("value", "it is empty")),
            length if length > MOST => Err(Error::argument("value", format!("it has more than {MOST} bytes"))),
            _ => Ok(Self(bytes)),
        }
    }

    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The value as text that can be a variable; the error says why it cannot, and nothing of it.
    pub fn into_text(self) -> Result<String, &'static str> {
        match String::from_utf8(self.0) {
            Ok(text) if text.contains('\0') => Err("its value has a NUL"),
            Ok(text) => Ok(text),
            // The error would hold the bytes.
            Err(_) => Err("its value is not text"),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A secret to keep.
#[derive(Debug, Clone)]
pub struct New {
    /// Name.
    pub name: SecretName,
    /// Value.
    pub value: Value,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it may take the place of one of its name.
    pub replace: Replace,
}

/// Whether a secret that is there gets another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// It does.
    Yes,
    /// That is an error.
    No,
}

/// All secrets.
#[derive(Debug)]
pub struct Secrets {
    root: PathBuf,
    events: Log,
    /// Who reads, writes or removes one has it: a value that is read is not removed meanwhile.
    door: Mutex<()>,
    known: Mutex<BTreeMap<SecretName, Record>>,
}

impl Secrets {
    /// Reads what is there; what is half written goes, what is damaged is set aside.
    pub fn open(root: &Path, events: Log) -> Result<Self, Error> {
        let (secrets, quarantine) = (root.join("secrets"), root.join("quarantine"));
        for directory in [&secrets, &quarantine] {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(|e| Error::io("create", directory, e))?;
        }
        // Whoever made it, and whatever the mask was.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&secrets, mode).map_err(|e| Error::io("restrict", &secrets, e))?;
        let this = Self { root: secrets, events, door: Mutex::default(), known: Mutex::default() };
        for entry in fs::read_dir(&this.root).map_err(|e| Error::io("read", &this.root, e))? {
            let path = entry.map_err(|e| Error::io("read", &this.root, e))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name == NEW {
                fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
                continue;
            }
            match read(&path, &name) {
                Ok((record, _)) => drop(this.known().insert(record.name.clone(), record)),
                Err(error) => {
                    tracing::error!(%name, %error, "a secret is damaged: it was moved to quarantine");
                    let aside = quarantine.join(format!("secret-{name}"));
                    fs::rename(&path, aside).map_err(|e| Error::io("move", path, e))?;
                }
            }
        }
        Ok(this)
    }

    /// Finds a secret by its name, its id, or the start of its id that no other has.
    pub fn find(&self, text: &str) -> Result<Record, Error> {
        let known = self.known();
        let named = SecretName::parse(text).ok().and_then(|name| known.get(&name).cloned());
        if let Some(record) = named {
            return Ok(record);
        }
        let mut found = known.values().filter(|record| !text.is_empty() && record.id.as_str().starts_with(text));
        match (found.next(), found.next()) {
            (Some(record), None) => Ok(record.clone()),
            (None, _) => {
                // What cannot be a name is told in quotes, since it may be anything.
                let is_name = SecretName::parse(text).is_ok();
                let name = if is_name { text.to_owned() } else { format!("{text:?}") };
                Err(SecretError::NotFound { name }.into())
            }
            (Some(_), Some(_)) => Err(SecretError::Ambiguous { prefix: text.to_owned() }.into()),
        }
    }

    /// A page of secrets with names above `after`.
    pub fn page(&self, after: &str, size: usize) -> Vec<Record> {
        let from = match SecretName::parse(after) {
            Ok(name) => Bound::Excluded(name),
            Err(_) => Bound::Unbounded,
        };
        self.known().range((from, Bound::Unbounded)).take(size).map(|(_, record)| record.clone()).collect()
    }

    /// Reads the value of a secret. Blocking.
    pub fn value(&self, name: &SecretName) -> Result<Value, Error> {
        let _door = self.door();
        self.find(name.as_str())?;
        let path = self.root.join(name.as_str());
        read(&path, name.as_str()).map(|(_, value)| value)
    }

    /// Keeps a secret: it survives a crash of the host when this returns. Blocking.
    pub fn create(&self, new: New) -> Result<Record, Error> {
        let New { name, value, labels, replace } = new;
        let _door = self.door();
        let before = self.known().get(&name).cloned();
        if before.is_some() && replace == Replace::No {
            return Err(SecretError::Exists { name: name.to_string() }.into());
        }
        let updated_at = Timestamp::now();
        let action = if before.is_some() { "update" } else { "create" };
        let (id, created_at) = match before {
            Some(before) => (before.id, before.created_at),
            None => (names::new_secret_id()?, updated_at),
        };
        let record = Record { version: VERSION, id, name, labels, created_at, updated_at };
        let temp = self.root.join(NEW);
        if let Err(error) = self.write(&temp, &record, &value) {
            // The first error is the one to tell; what is left goes at the next start, or is written over.
            let _ = fs::remove_file(temp);
            return Err(error);
        }
        self.known().insert(record.name.clone(), record.clone());
        self.tell(action, &record);
        Ok(record)
    }

    fn write(&self, temp: &Path, record: &Record, value: &Value) -> Result<(), Error> {
        let mut bytes = serde_json::to_vec(record).expect("every key of a record is a string");
        bytes.push(b'\n');
        bytes.extend_from_slice(&value.0);
        disk::replace(&self.root.join(record.name.as_str()), temp, &bytes, Durability::Synced)
    }

    /// Removes a secret, if `may` says so: nobody reads, makes or removes one meanwhile. Blocking.
    pub fn remove(&self, name: &SecretName, may: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let _door = self.door();
        let record = self.find(name.as_str())?;
        may()?;
        let path = self.root.join(record.name.as_str());
        match fs::remove_file(&path) {
            // Somebody removed it by hand: then that is done.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(|e| Error::io("remove", path, e))?,
        }
        disk::sync_dir(&self.root)?;
        self.known().remove(&record.name);
        self.tell("remove", &record);
        Ok(())
    }

    fn tell(&self, action: &str, record: &Record) {
        let attributes = BTreeMap::from([("name".to_owned(), record.name.to_string())]);
        self.events.tell(Kind::Secret, action, record.id.to_string(), attributes);
    }

    fn door(&self) -> MutexGuard<'_, ()> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<SecretName, Record>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a file of a secret. An error of it shows the line about the secret at most, never the value.
fn read(path: &Path, name: &str) -> Result<(Record, Value), Error> {
    let mut bytes = fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let damaged = |source| Error::Record { path: path.to_owned(), source };
    let wrong = |problem: &str| damaged(serde::de::Error::custom(problem));
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| wrong("it has no value"))?;
    let value = Value(bytes.split_off(end + 1));
    let record: Record = serde_json::from_slice(&bytes[..end]).map_err(damaged)?;
    if record.version != VERSION || record.name.as_str() != name {
        return Err(wrong(&format!("version {} of secret {}", record.version, record.name)));
    }
    Ok((record, value))
}

#[cfg(test)]
mod tests;
