//! Uploads under way: a temporary file each, hashed while it grows. They live in this process; a start of the service
//! forgets them, and what they had written. Their number, their size and their patience have an end.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt;
use sha2::{Digest as _, Sha256, Sha512};
use strata_types::Digest;
use tokio::sync::Mutex as Turn;

use super::name::{Name, Repository};
use super::{Fault, Limits};
use crate::catalog::{HeldBlob, blocking};
use crate::disk::{Sync, Temporary};
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
    repository: String,
    path: PathBuf,
    written: AtomicU64,
    used: Mutex<Instant>,
    // None: it is finished, cancelled or broken. Held by the one request that writes.
    file: Turn<Option<Growing>>,
}

#[derive(Debug)]
struct Growing {
    temporary: Temporary,
    hasher: Sha256,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Uploads {
    /// None yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, under_way: Mutex::default() }
    }

    /// Begins an upload to a repository.
    pub async fn begin(&self, store: &Store, repository: &Repository) -> Result<Arc<Upload>, Fault> {
        let id = crate::lease::random_text(26);
        let path = store.paths.ingest().join(format!("upload-{id}"));
        let made = path.clone();
        let temporary = blocking(move || Temporary::create(made)).await?;
        let upload = Arc::new(Upload {
            id: id.clone(),
            repository: repository.store_name().to_owned(),
            path,
            written: AtomicU64::new(0),
            used: Mutex::new(Instant::now()),
            file: Turn::new(Some(Growing { temporary, hasher: Sha256::new() })),
        });
        let mut under_way = lock(&self.under_way);
        if under_way.len() >= self.limits.uploads {
            return Err(Fault::TooManyUploads);
        }
        under_way.insert(id, Arc::clone(&upload));
        Ok(upload)
    }

    /// Finds an upload to this repository.
    pub fn find(&self, repository: &Repository, id: &str) -> Result<Arc<Upload>, Fault> {
        let found = lock(&self.under_way).get(id).cloned();
        let upload = found.filter(|upload| upload.repository == repository.store_name());
        let upload = upload.ok_or(Fault::UploadUnknown)?;
        *lock(&upload.used) = Instant::now();
        Ok(upload)
    }

    /// Ends an upload: what it wrote goes, unless it was finished.
    pub fn end(&self, upload: &Upload) {
        lock(&self.under_way).remove(&upload.id);
        // A request that writes holds the file; it sees the end when it is done, and the file goes with it.
        if let Ok(mut file) = upload.file.try_lock() {
            *file = None;
        }
    }

    /// Ends uploads that nobody touched for too long.
    pub fn expire(&self) {
        let is_stale = |upload: &Arc<Upload>| {
            upload.file.try_lock().is_ok() && lock(&upload.used).elapsed() > self.limits.upload_idle
        };
        let stale: Vec<_> = lock(&self.under_way).values().filter(|upload| is_stale(upload)).cloned().collect();
        for upload in stale {
            tracing::info!("an upload to {} was idle for too long and is forgotten", upload.repository);
            self.end(&upload);
        }
    }

    /// Says whether this upload is still one.
    fn is_under_way(&self, upload: &Upload) -> bool {
        lock(&self.under_way).contains_key(&upload.id)
    }

    /// Appends a body, which the client expects to begin and to be so long. What came before it broke off is kept.
    pub async fn append(&self, upload: &Upload, expected: Option<(u64, u64)>, body: Body) -> Result<(), Fault> {
        let mut file = upload.file.try_lock().map_err(|_| Fault::UploadBusy)?;
        let before = upload.written();
        if expected.is_some_and(|(start, _)| start != before) {
            return Err(Fault::OutOfOrder { location: String::new(), written: before });
        }
        let mut stream = body.into_data_stream();
        let mut piece = Vec::new();
        let result = loop {
            let next = tokio::time::timeout(SILENCE, stream.next()).await;
            let bytes: Bytes = match next {
                Err(_) => break Err(Fault::BodyLost { problem: "nothing came for a minute".to_owned() }),
                Ok(None) => break Ok(()),
                Ok(Some(Err(error))) => break Err(Fault::BodyLost { problem: error.to_string() }),
                Ok(Some(Ok(bytes))) => bytes,
            };
            let size = piece.iter().map(Bytes::len).sum::<usize>() + bytes.len();
            if upload.written() + size as u64 > self.limits.blob_bytes {
                *file = None;
                self.end(upload);
                return Err(Fault::BlobTooLarge { limit: self.limits.blob_bytes });
            }
            piece.push(bytes);
            if size >= PIECE {
                upload.write(&mut file, std::mem::take(&mut piece)).await?;
            }
        };
        upload.write(&mut file, piece).await?;
        *lock(&upload.used) = Instant::now();
        if !self.is_under_way(upload) {
            *file = None;
            return Err(Fault::UploadUnknown);
        }
        let length = upload.written() - before;
        match expected {
            Some((_, size)) if result.is_ok() && size != length => {
                Err(Fault::SizeInvalid { problem: format!("the chunk has {length} bytes, not {size}") })
            }
            _ => result,
        }
    }

    /// Ends an upload with its digest: the blob is the repository's afterwards. Bytes that have another digest are
    /// gone, and the upload with them.
    pub async fn finish(
        &self,
        store: &Arc<Store>,
        upload: &Upload,
        repository: &Repository,
        expected: &Name,
    ) -> Result<HeldBlob, Fault> {
        let growing = upload.file.try_lock().map_err(|_| Fault::UploadBusy)?.take();
        self.end(upload);
        let Growing { temporary, hasher } = growing.ok_or(Fault::UploadUnknown)?;
        let size = upload.written();
        let digest = Digest::from_sha256_bytes(hasher.finalize().into());
        let actual = match expected.sha256() {
            Some(_) => Name::from(digest),
            None => {
                let path = upload.path.clone();
                blocking(move || sha512(path)).await?
            }
        };
        if actual != *expected {
            return Err(Fault::DigestMismatch { expected: expected.to_string(), actual: actual.to_string() });
        }
        let target = store.paths.blob(&digest);
        // Nobody may collect the same digest between rename and row.
        let _guard = store.placing.read().await;
        blocking(move || temporary.place(&target, Sync::Now)).await?;
        let name = repository.store_name();
        store.catalog.put_repository_blob(name, expected.as_str(), &digest, size).await?;
        Ok(HeldBlob { digest, size })
    }
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

    /// Writes and hashes pieces in order. An error of the disk ends the upload.
    async fn write(&self, file: &mut Option<Growing>, pieces: Vec<Bytes>) -> Result<(), Fault> {
        let Some(mut growing) = file.take() else { return Err(Fault::UploadUnknown) };
        let size: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let growing = blocking(move || {
            for piece in pieces {
                growing.temporary.write(&piece)?;
                growing.hasher.update(&piece);
            }
            Ok::<_, Error>(growing)
        })
        .await?;
        *file = Some(growing);
        self.written.fetch_add(size, Ordering::AcqRel);
        Ok(())
    }
}

fn sha512(path: PathBuf) -> Result<Name, Error> {
    let failed = |source| Error::io("read", &path, source);
    let mut file = File::open(&path).map_err(failed)?;
    let (mut hasher, mut piece) = (Sha512::new(), vec![0; PIECE]);
    loop {
        match file.read(&mut piece).map_err(failed)? {
            0 => return Ok(Name::from_sha512(&hasher.finalize())),
            count => hasher.update(&piece[..count]),
        }
    }
}
