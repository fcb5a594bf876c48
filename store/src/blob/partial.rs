//! Blobs that come in pieces, over several calls, connections and lives of the service: what is there of one is a file
//! that is hashed again when it is continued. Another boot of the host starts anew: what it finds may be holes.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use strata_types::{Digest, LeaseId};

use super::PIECE;
use crate::catalog::{BlobRow, Durability, blocking};
use crate::disk::{self, Sync, Temporary};
use crate::{Error, Result, Store};

/// Which blob in pieces is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PartialName {
    /// A blob of known digest, wherever its pieces come from.
    Blob(Digest),
    /// An upload, by its id: 1 to 64 letters, digits and dashes.
    Upload(String),
}

impl PartialName {
    /// The upload of this id; an error if it is none.
    pub fn upload(id: &str) -> Result<Self> {
        let is_id = (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if is_id { Ok(Self::Upload(id.to_owned())) } else { Err(Error::invalid("upload", "it is no id of an upload")) }
    }

    fn file_name(&self) -> String {
        match self {
            Self::Blob(digest) => format!("blob-{}", digest.as_hex()),
            Self::Upload(id) => format!("upload-{id}"),
        }
    }
}

/// Which partial blobs somebody works on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims(Arc<Mutex<HashSet<String>>>);

/// The right to work on one of them.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Claims,
    name: String,
}

impl Claims {
    fn set(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, name: String) -> Result<Claim> {
        if self.set().insert(name.clone()) {
            return Ok(Claim { claims: self.clone(), name });
        }
        Err(Error::PartialBusy { name })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.set().remove(&self.name);
    }
}

/// The hash over what is there of a blob.
#[derive(Debug)]
enum Sum {
    /// Kept here.
    Own(Sha256),
    /// The source of the bytes keeps it, and checks it at their end.
    Sources,
    /// The source has checked it.
    Checked(Digest),
}

/// What is there of a blob, for one writer. Dropped, it stays and can be continued.
#[derive(Debug)]
pub struct Partial {
    store: Arc<Store>,
    path: PathBuf,
    bytes: u64,
    // Taken while a blocking thread writes, and lost when that failed.
    parts: Option<(File, Sum)>,
    // Given up after the file is closed.
    _claim: Claim,
}

impl Partial {
    /// Opens what is there, reading it once, or begins with nothing. Nobody else may have it open.
    pub async fn open(store: &Arc<Store>, name: &PartialName) -> Result<Self> {
        let claim = store.partials.take(name.file_name())?;
        let path = directory(store).join(name.file_name());
        let target = path.clone();
        let (file, hasher, bytes) = blocking(move || open_file(&target)).await?;
        let parts = Some((file, Sum::Own(hasher)));
        Ok(Self { store: Arc::clone(store), path, bytes, parts, _claim: claim })
    }

    /// How many bytes there are: the offset of the next.
    pub fn offset(&self) -> u64 {
        self.bytes
    }

    /// The state of the hash over all bytes so far, for a source that checks what it gives.
    pub fn hasher(&self) -> Result<Sha256> {
        match &self.parts {
            Some((_, Sum::Own(hasher))) => Ok(hasher.clone()),
            _ => Err(failed_before()),
        }
    }

    /// Leaves the hash to the source of what follows, which checks all bytes, those that are there included.
    pub(crate) fn rely_on_source(&mut self) {
        if let Some((_, sum)) = &mut self.parts {
            *sum = Sum::Sources;
        }
    }

    /// The source relied on has come to its end: the bytes are those of this digest.
    pub(crate) fn checked(&mut self, digest: Digest) {
        if let Some((_, sum @ Sum::Sources)) = &mut self.parts {
            *sum = Sum::Checked(digest);
        }
    }

    /// Takes room for a blob of this size.
    pub fn reserve(&self, size: u64) -> Result<()> {
        let (file, _) = self.parts.as_ref().ok_or_else(failed_before)?;
        disk::reserve(file, &self.path, size)
    }

    /// Appends bytes. When this failed, the blob must be opened again.
    pub async fn append(&mut self, bytes: bytes::Bytes) -> Result<()> {
        let (mut file, mut sum) = self.parts.take().ok_or_else(failed_before)?;
        let path = self.path.clone();
        let count = bytes.len() as u64;
        let parts = blocking(move || {
            write(&mut file, &mut sum, &path, &bytes)?;
            Ok::<_, Error>((file, sum))
        })
        .await?;
        self.parts = Some(parts);
        self.bytes += count;
        Ok(())
    }

    /// As [`Partial::append`], on a thread that may block.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let (mut file, mut sum) = self.parts.take().ok_or_else(failed_before)?;
        write(&mut file, &mut sum, &self.path, bytes)?;
        self.parts = Some((file, sum));
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// The bytes so far, read from the start; they are appended to while it reads, and it stops where they end now.
    pub(crate) fn prefix(&self) -> Result<std::io::Take<File>> {
        let file = File::open(&self.path).map_err(|source| Error::io("open", &self.path, source))?;
        Ok(file.take(self.bytes))
    }

    /// The digest of the bytes so far.
    pub(crate) fn digest(&self) -> Result<Digest> {
        match &self.parts {
            Some((_, Sum::Own(hasher))) => Ok(Digest::from_sha256_bytes(hasher.clone().finalize().into())),
            Some((_, Sum::Checked(digest))) => Ok(*digest),
            Some((_, Sum::Sources)) | None => Err(failed_before()),
        }
    }

    /// Checks the bytes and makes the blob visible, held by the lease. Wrong bytes are thrown away.
    pub async fn finish(mut self, expected: &Digest, lease: &LeaseId, durability: Durability) -> Result<BlobRow> {
        let actual = self.digest()?;
        let (file, _) = self.parts.take().ok_or_else(failed_before)?;
        let temporary = Temporary::adopt(self.path.clone(), file);
        if actual != *expected {
            return Err(Error::DigestMismatch { expected: expected.to_string(), actual: actual.to_string() });
        }
        let store = &self.store;
        let is_enough = |row: &BlobRow| row.is_durable || durability == Durability::Relaxed;
        if !store.catalog.hold_blob(&actual, lease).await?.is_some_and(|row| is_enough(&row)) {
            let target = store.paths.blob(&actual);
            let sync = if durability == Durability::Full { Sync::Now } else { Sync::Later };
            // Nobody may collect the same digest between rename and row.
            let _guard = store.placing.read().await;
            blocking(move || temporary.place(&target, sync)).await?;
            store.catalog.put_blob(&actual, self.bytes, lease, durability).await?;
        }
        store.catalog.blob(&actual).await
    }

    /// Throws the bytes away.
    pub async fn discard(mut self) -> Result<()> {
        self.parts = None;
        let path = self.path.clone();
        blocking(move || disk::remove(&path)).await
    }
}

fn failed_before() -> Error {
    Error::invalid("chunk", "the upload has failed before; begin it again")
}

/// Takes a file among the partial blobs for something else that comes in pieces. It goes as they do.
pub(crate) fn claim(store: &Store, name: String) -> Result<(Claim, PathBuf)> {
    let path = directory(store).join(&name);
    Ok((store.partials.take(name)?, path))
}

fn directory(store: &Store) -> PathBuf {
    store.paths.partials().join(store.catalog.boot_id())
}

fn write(file: &mut File, sum: &mut Sum, path: &Path, bytes: &[u8]) -> Result<()> {
    file.write_all(bytes).map_err(|source| Error::io("write", path, source))?;
    if let Sum::Own(hasher) = sum {
        hasher.update(bytes);
    }
    Ok(())
}

fn open_file(path: &Path) -> Result<(File, Sha256, u64)> {
    let failed = |attempt| move |source| Error::io(attempt, path, source);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(path).map_err(failed("open"))?;
    let (mut hasher, mut piece, mut bytes) = (Sha256::new(), vec![0; PIECE], 0);
    loop {
        match file.read(&mut piece).map_err(failed("read"))? {
            0 => return Ok((file, hasher, bytes)),
            count => {
                hasher.update(&piece[..count]);
                bytes += count as u64;
            }
        }
    }
}

/// Where the bytes of a blob are while it comes.
pub(crate) fn partial_path(store: &Store, digest: &Digest) -> PathBuf {
    directory(store).join(PartialName::Blob(*digest).file_name())
}

/// How many bytes there are of a blob; none if none has come, or somebody has finished it.
pub async fn partial_size(store: &Arc<Store>, name: &PartialName) -> Result<Option<u64>> {
    let path = directory(store).join(name.file_name());
    blocking(move || match fs::symlink_metadata(&path) {
        Ok(found) => Ok(Some(found.len())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::io("look at", &path, source)),
    })
    .await
}

/// Makes the place of this boot, and throws those of others away.
pub(crate) fn recover(store: &Store) -> Result<()> {
    let own = directory(store);
    for name in disk::names(&store.paths.partials())?.iter().filter(|name| *name != store.catalog.boot_id()) {
        store.trash.discard(&store.paths.partials().join(name))?;
    }
    disk::make_directory(&own, Sync::Later)
}

/// Throws away what nobody has continued for so long; returns the bytes freed.
pub(crate) fn sweep(store: &Store, idle: Duration) -> Result<u64> {
    let (directory, mut freed) = (directory(store), 0);
    let youngest = SystemTime::now().checked_sub(idle);
    for name in disk::names(&directory)? {
        let path = directory.join(&name);
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        let is_old = found.modified().is_ok_and(|time| youngest.is_some_and(|youngest| time <= youngest));
        // Held until the file is gone, so that nobody continues what is about to go.
        let Some(_claim) = is_old.then(|| store.partials.take(name).ok()).flatten() else { continue };
        disk::remove(&path)?;
        freed += found.len();
    }
    Ok(freed)
}
