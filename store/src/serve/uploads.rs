//! Uploads under way: a partial blob each, which survives the service and is continued where it ended. Their number,
//! their size and their patience have an end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt;
use sha2::{Digest as _, Sha512};
use strata_types::Digest;
use tokio::sync::Mutex as Turn;

use super::Fault;
use super::config::Limits;
use super::name::{Name, Repository};
use crate::blob::{self, Partial, PartialName};
use crate::catalog::{Durability, blocking};
use crate::lease::{GRACE, Session};
use crate::{Error, Store};

/// Bytes that are written and hashed in one go.
const PIECE: usize = 1 << 20;
/// How long a client may send nothing in the middle of a body.
const SILENCE: Duration = Duration::from_secs(60);

/// All uploads of a registry.
#[derive(Debug)]
pub(super) struct Uploads {
    limits: Limits,
    under_way: Mutex<HashMap<String, Arc<Upload>>>,
}

/// One upload.
#[derive(Debug)]
pub(super) struct Upload {
    id: String,
    written: AtomicU64,
    used: Mutex<Instant>,
    // None: it is finished, cancelled or broken. Held by the one request that writes.
    partial: Turn<Option<Partial>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What ends the ids of uploads to a repository: an id is of no use in another.
fn mark(repository: &Repository) -> String {
    blob::digest(repository.store_name().as_bytes()).as_hex()[..24].to_owned()
}

impl Uploads {
    /// None yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, under_way: Mutex::default() }
    }

    /// Begins an upload to a repository.
    pub async fn begin(&self, store: &Arc<Store>, repository: &Repository) -> Result<Arc<Upload>, Fault> {
        if lock(&self.under_way).len() >= self.limits.uploads {
            return Err(Fault::TooManyUploads);
        }
        let id = format!("{}-{}", crate::lease::random_text(26), mark(repository));
        self.open(store, id).await
    }

    async fn open(&self, store: &Arc<Store>, id: String) -> Result<Arc<Upload>, Fault> {
        let partial = match Partial::open(store, &PartialName::upload(&id)?).await {
            // Another request opens it right now.
            Err(Error::PartialBusy { .. }) => return Err(Fault::UploadBusy),
            other => other?,
        };
        let upload = Arc::new(Upload {
            id: id.clone(),
            written: AtomicU64::new(partial.offset()),
            used: Mutex::new(Instant::now()),
            partial: Turn::new(Some(partial)),
        });
        lock(&self.under_way).insert(id, Arc::clone(&upload));
        Ok(upload)
    }

    /// Finds an upload to this repository, also one that a former life of the service began.
    pub async fn find(&self, store: &Arc<Store>, repository: &Repository, id: &str) -> Result<Arc<Upload>, Fault> {
        let is_of_repository = id.split_once('-').is_some_and(|(_, end)| end == mark(repository));
        let Some(name) = PartialName::upload(id).ok().filter(|_| is_of_repository) else {
            return Err(Fault::UploadUnknown);
        };
        if let Some(upload) = lock(&self.under_way).get(id).cloned() {
            *lock(&upload.used) = Instant::now();
            return Ok(upload);
        }
        match blob::partial_size(store, &name).await? {
            Some(_) => self.open(store, id.to_owned()).await,
            None => Err(Fault::UploadUnknown),
        }
    }

    /// Ends an upload: what it wrote goes.
    pub async fn end(&self, upload: &Upload) -> Result<(), Fault> {
        lock(&self.under_way).remove(&upload.id);
        // A request that writes has the bytes; it sees the end when it is done, and throws them away.
        let partial = upload.partial.try_lock().ok().and_then(|mut partial| partial.take());
        match partial {
            Some(partial) => Ok(partial.discard().await?),
            None => Ok(()),
        }
    }

    /// Ends uploads that nobody touched for too long.
    pub async fn expire(&self) -> Result<(), Fault> {
        let is_stale = |upload: &Arc<Upload>| {
            upload.partial.try_lock().is_ok() && lock(&upload.used).elapsed() > self.limits.upload_idle
        };
        let stale: Vec<_> = lock(&self.under_way).values().filter(|upload| is_stale(upload)).cloned().collect();
        for upload in stale {
            tracing::info!("upload {} was idle for too long and is forgotten", upload.id);
            self.end(&upload).await?;
        }
        Ok(())
    }

    fn is_under_way(&self, upload: &Upload) -> bool {
        lock(&self.under_way).contains_key(&upload.id)
    }

    /// Appends a body, which the client expects to begin and to be so long. What came before it broke off is kept.
    pub async fn append(&self, upload: &Upload, expected: Option<(u64, u64)>, body: Body) -> Result<(), Fault> {
        let mut partial = upload.partial.try_lock().map_err(|_| Fault::UploadBusy)?;
        let before = upload.written();
        if expected.is_some_and(|(start, _)| start != before) {
            return Err(Fault::OutOfOrder { location: String::new(), written: before });
        }
        let taken = self.take(upload, &mut partial, body).await;
        *lock(&upload.used) = Instant::now();
        let is_too_large = matches!(taken, Err(Fault::BlobTooLarge { .. }));
        if is_too_large || !self.is_under_way(upload) {
            lock(&self.under_way).remove(&upload.id);
            if let Some(partial) = partial.take() {
                partial.discard().await?;
            }
            return taken.and(Err(Fault::UploadUnknown));
        }
        let length = upload.written() - before;
        match expected {
            Some((_, size)) if taken.is_ok() && size != length => {
                Err(Fault::SizeInvalid { problem: format!("the chunk has {length} bytes, not {size}") })
            }
            _ => taken,
        }
    }

    async fn take(&self, upload: &Upload, partial: &mut Option<Partial>, body: Body) -> Result<(), Fault> {
        let mut stream = body.into_data_stream();
        let (mut pieces, mut size) = (Vec::new(), 0);
        let ended = loop {
            let bytes: Bytes = match tokio::time::timeout(SILENCE, stream.next()).await {
                Err(_) => break Err(Fault::BodyLost { problem: "nothing came for a minute".to_owned() }),
                Ok(None) => break Ok(()),
                Ok(Some(Err(error))) => break Err(Fault::BodyLost { problem: error.to_string() }),
                Ok(Some(Ok(bytes))) => bytes,
            };
            size += bytes.len();
            if upload.written() + size as u64 > self.limits.blob_bytes {
                return Err(Fault::BlobTooLarge { limit: self.limits.blob_bytes });
            }
            pieces.push(bytes);
            if size >= PIECE {
                upload.write(partial, std::mem::take(&mut pieces)).await?;
                size = 0;
            }
        };
        upload.write(partial, pieces).await?;
        ended
    }

    /// Ends an upload with its digest: the blob is the repository's afterwards. Bytes that have another digest are
    /// gone, and the upload with them.
    pub async fn finish(
        &self,
        store: &Arc<Store>,
        upload: &Upload,
        repository: &Repository,
        expected: &Name,
    ) -> Result<(), Fault> {
        let partial = upload.partial.try_lock().map_err(|_| Fault::UploadBusy)?.take();
        lock(&self.under_way).remove(&upload.id);
        let partial = partial.ok_or(Fault::UploadUnknown)?;
        let size = partial.offset();
        let digest = partial.digest()?;
        let (partial, actual) = match expected.sha256() {
            Some(_) => (partial, Name::from(digest)),
            None => blocking(move || sha512(&partial).map(|name| (partial, name))).await?,
        };
        if actual != *expected {
            partial.discard().await?;
            return Err(Fault::DigestMismatch { expected: expected.to_string(), actual: actual.to_string() });
        }
        let session = Session::begin(store, "a push to the registry", GRACE).await?;
        let kept = keep(store, partial, &session, repository, expected, &digest, size).await;
        session.end().await?;
        kept
    }
}

async fn keep(
    store: &Arc<Store>,
    partial: Partial,
    session: &Session,
    repository: &Repository,
    name: &Name,
    digest: &Digest,
    size: u64,
) -> Result<(), Fault> {
    partial.finish(digest, &session.lease().id, Durability::Full).await?;
    store.catalog.put_repository_blob(repository.store_name(), name.as_str(), digest, size).await?;
    Ok(())
}

impl Upload {
    /// Its id, which is in its place.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Bytes that were taken.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Writes pieces in order. An error of the disk ends the upload for this life of the service.
    async fn write(&self, partial: &mut Option<Partial>, pieces: Vec<Bytes>) -> Result<(), Fault> {
        let mut taken = partial.take().ok_or(Fault::UploadUnknown)?;
        let taken = blocking(move || {
            pieces.iter().try_for_each(|piece| taken.write(piece))?;
            Ok::<_, Error>(taken)
        })
        .await?;
        self.written.store(taken.offset(), Ordering::Release);
        *partial = Some(taken);
        Ok(())
    }
}

fn sha512(partial: &Partial) -> Result<Name, Error> {
    use std::io::Read;

    let mut prefix = partial.prefix()?;
    let (mut hasher, mut piece) = (Sha512::new(), vec![0; PIECE]);
    loop {
        match prefix.read(&mut piece).map_err(|source| Error::io("read", "an upload", source))? {
            0 => return Ok(Name::from_sha512(&hasher.finalize())),
            count => hasher.update(&piece[..count]),
        }
    }
}
