//! Blobs: bytes under their SHA-256. The file is complete before its row is, and gone after its row is.
//! Those that come in pieces, and may be continued, are in `partial`.

mod partial;

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use strata_types::{Digest, LeaseId};

use crate::catalog::{BlobRow, Durability, blocking};
use crate::disk::{Sync, Temporary};
use crate::{Error, Result, Store};

pub(crate) use partial::{
    Claim, Claims, claim as claim_partial, partial_path, recover as recover_partials, sweep as sweep_partials,
};
pub use partial::{Partial, PartialName, partial_size};

/// Bytes between two looks at the clock of others.
const PIECE: usize = 256 * 1024;

/// The digest of some bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256_bytes(Sha256::digest(bytes).into())
}

/// An upload under way. Dropped before [`Upload::finish`], nothing is left of it.
#[derive(Debug)]
pub struct Upload {
    store: Arc<Store>,
    id: String,
    lease: LeaseId,
    expected: Option<Digest>,
    written: u64,
    // Taken while a blocking thread writes.
    parts: Option<(Temporary, Sha256)>,
}

impl Upload {
    /// Begins an upload whose blob the lease shall hold.
    pub async fn begin(store: &Arc<Store>, lease: &LeaseId, expected: Option<Digest>) -> Result<Self> {
        let id = crate::lease::random_text(16);
        store.catalog.begin_ingest(&id, lease, expected.as_ref()).await?;
        let temporary = Temporary::create(store.paths.ingest().join(&id))?;
        let parts = Some((temporary, Sha256::new()));
        Ok(Self { store: Arc::clone(store), id, lease: lease.clone(), expected, written: 0, parts })
    }

    /// Appends bytes.
    pub async fn write(&mut self, bytes: bytes::Bytes) -> Result<()> {
        let Some((mut temporary, mut hasher)) = self.parts.take() else {
            return Err(Error::invalid("chunk", "the upload has failed before"));
        };
        self.written += bytes.len() as u64;
        self.parts = blocking(move || {
            temporary.write(&bytes)?;
            hasher.update(&bytes);
            Ok::<_, Error>(Some((temporary, hasher)))
        })
        .await?;
        Ok(())
    }

    /// Checks the bytes and makes the blob visible.
    pub async fn finish(mut self) -> Result<BlobRow> {
        let Some((temporary, hasher)) = self.parts.take() else {
            return Err(Error::invalid("chunk", "the upload has failed before"));
        };
        let actual = Digest::from_sha256_bytes(hasher.finalize().into());
        if let Some(expected) = self.expected.filter(|expected| *expected != actual) {
            return Err(Error::DigestMismatch { expected: expected.to_string(), actual: actual.to_string() });
        }
        if self.store.catalog.hold_blob(&actual, &self.lease).await?.is_none_or(|row| !row.is_durable) {
            let target = self.store.paths.blob(&actual);
            // Nobody may collect the same digest between rename and row.
            let _guard = self.store.placing.read().await;
            blocking(move || temporary.place(&target, Sync::Now)).await?;
            self.store.catalog.put_blob(&actual, self.written, &self.lease, Durability::Full).await?;
        }
        Ok(BlobRow { digest: actual, size: self.written, is_durable: true })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let (catalog, id) = (self.store.catalog.clone(), std::mem::take(&mut self.id));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = catalog.end_ingest(&id).await {
                    tracing::warn!("cannot forget upload {id}: {}", strata_rpc::fault::chain(&error));
                }
            });
        }
    }
}

/// Stores bytes that are at hand, held by the lease. `Durability::Relaxed` leaves the sync to the image that will
/// need them: [`crate::catalog::Catalog::mark_layers_synced`] or `create_image` after a `syncfs`.
pub async fn put(store: &Arc<Store>, bytes: Vec<u8>, lease: &LeaseId, durability: Durability) -> Result<Digest> {
    let (digest, size) = (digest(&bytes), bytes.len() as u64);
    if store
        .catalog
        .hold_blob(&digest, lease)
        .await?
        .is_some_and(|row| row.is_durable || durability == Durability::Relaxed)
    {
        return Ok(digest);
    }
    let sync = if durability == Durability::Full { Sync::Now } else { Sync::Later };
    let _guard = store.placing.read().await;
    place(store, bytes, digest, sync).await?;
    store.catalog.put_blob(&digest, size, lease, durability).await?;
    Ok(digest)
}

/// Puts the file of a blob in its place; the row follows. The caller holds `store.placing`.
pub(crate) async fn place(store: &Arc<Store>, bytes: Vec<u8>, digest: Digest, sync: Sync) -> Result<()> {
    let temporary = store.paths.ingest().join(crate::lease::random_text(16));
    let target = store.paths.blob(&digest);
    blocking(move || {
        let mut temporary = Temporary::create(temporary)?;
        temporary.reserve(bytes.len() as u64)?;
        temporary.write(&bytes)?;
        temporary.place(&target, sync)
    })
    .await
}

/// Opens the file of a blob, with its size checked.
pub async fn open(store: &Store, digest: &Digest) -> Result<(File, BlobRow)> {
    let row = store.catalog.blob(digest).await?;
    let (path, size, digest) = (store.paths.blob(digest), row.size, *digest);
    let file = blocking(move || open_file(path, digest, size)).await?;
    Ok((file, row))
}

fn open_file(path: PathBuf, digest: Digest, size: u64) -> Result<File> {
    let damaged = |problem: String| Error::BlobDamaged { digest, problem };
    let file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(damaged("its file is missing".to_owned()));
        }
        other => other.map_err(|source| Error::io("open", &path, source))?,
    };
    let found = file.metadata().map_err(|source| Error::io("look at", &path, source))?.len();
    if found != size {
        return Err(damaged(format!("its file has {found} bytes, not {size}")));
    }
    Ok(file)
}

/// Reads a whole blob and checks its digest: configs, manifests, tables of contents.
pub async fn read(store: &Store, digest: &Digest) -> Result<Vec<u8>> {
    let (mut file, row) = open(store, digest).await?;
    let (path, wanted) = (store.paths.blob(digest), *digest);
    blocking(move || {
        let mut bytes = Vec::with_capacity(usize::try_from(row.size).unwrap_or(0));
        file.read_to_end(&mut bytes).map_err(|source| Error::io("read", &path, source))?;
        match self::digest(&bytes) {
            actual if actual == wanted => Ok(bytes),
            actual => Err(Error::BlobDamaged { digest: wanted, problem: format!("its bytes have digest {actual}") }),
        }
    })
    .await
}

/// Hashes the file of a blob again; says what is wrong, if anything.
pub(crate) fn check(path: PathBuf, digest: Digest, size: u64) -> Result<Option<String>> {
    let mut file = match open_file(path.clone(), digest, size) {
        Err(Error::BlobDamaged { problem, .. }) => return Ok(Some(problem)),
        other => other?,
    };
    let (mut hasher, mut piece) = (Sha256::new(), vec![0; PIECE]);
    loop {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => hasher.update(&piece[..count]),
            Err(error) => return Ok(Some(format!("it cannot be read: {error}"))),
        }
    }
    let actual = Digest::from_sha256_bytes(hasher.finalize().into());
    Ok((actual != digest).then(|| format!("its bytes have digest {actual}")))
}

#[cfg(test)]
mod tests;
