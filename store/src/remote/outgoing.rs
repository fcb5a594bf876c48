//! A blob of the store on its way out: read from its file as often as the registry wants it, with progress, or while it
//! is being made.

use std::io::{self, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use strata_registry::{BlobSource, GrowingSource};
use strata_types::{Descriptor, Digest, LeaseId};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::{Event, Events, Identity, Stage};
use crate::layer::Growing;
use crate::{Error, Result, Store, blob};

/// Bytes that are read at a time.
const PIECE: usize = 256 * 1024;
/// Progress is told no more often.
const PAUSE: Duration = Duration::from_millis(100);

/// A blob of the store.
#[derive(Debug)]
pub(crate) struct Outgoing {
    store: Arc<Store>,
    blob: Descriptor,
    /// What events call it, and where they go.
    told: Option<(Digest, Events)>,
    /// Who fetches it where it is not here, and for whom.
    again: Option<(LeaseId, Identity)>,
    /// Why it could not be read.
    failure: Mutex<Option<Error>>,
}

impl Outgoing {
    /// A blob that should be here.
    pub(crate) fn of_blob(store: &Arc<Store>, blob: &Descriptor, told: Option<(Digest, Events)>) -> Self {
        Self { store: Arc::clone(store), blob: blob.clone(), told, again: None, failure: Mutex::default() }
    }

    /// If it is not here, it is fetched from where it came from, for this lease, by whoever this is.
    pub(crate) fn or_from_elsewhere(self, lease: &LeaseId, identity: &Identity) -> Self {
        Self { again: Some((lease.clone(), identity.clone())), ..self }
    }

    async fn file(&self) -> Result<std::fs::File> {
        match (blob::open(&self.store, &self.blob.digest).await, &self.again) {
            (Err(Error::BlobNotFound { digest }), Some((lease, identity))) => {
                super::again(&self.store, &digest, lease, identity).await?;
                Ok(blob::open(&self.store, &digest).await?.0)
            }
            (opened, _) => Ok(opened?.0),
        }
    }

    /// What went wrong with the blob itself is the cause, not what became of the request.
    pub(crate) fn explain(&self, error: strata_registry::Error) -> Error {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.unwrap_or(Error::Registry(error))
    }

    async fn read(&self, offset: u64) -> io::Result<BoxStream<'static, io::Result<Bytes>>> {
        let file = match self.file().await {
            Ok(file) => file,
            Err(error) => {
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                return Err(io::ErrorKind::NotFound.into());
            }
        };
        let mut file = tokio::fs::File::from_std(file);
        file.set_max_buf_size(PIECE);
        file.seek(SeekFrom::Start(offset)).await?;
        let progress = Progress { told: self.told.clone(), last: None };
        let state = Reading { file, offset, size: self.blob.size, progress };
        Ok(stream::unfold(state, Reading::next).boxed())
    }
}

impl BlobSource for Outgoing {
    fn open(&self, offset: u64) -> BoxFuture<'_, io::Result<BoxStream<'static, io::Result<Bytes>>>> {
        Box::pin(self.read(offset))
    }
}

struct Reading {
    file: tokio::fs::File,
    offset: u64,
    size: u64,
    progress: Progress,
}

impl Reading {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        let mut bytes = Vec::with_capacity(PIECE);
        match (&mut self.file).take(PIECE as u64).read_to_end(&mut bytes).await {
            Ok(0) => None,
            Ok(count) => {
                self.offset += count as u64;
                self.progress.tell(self.offset, self.size);
                Some((Ok(bytes.into()), self))
            }
            Err(error) => Some((Err(error), self)),
        }
    }
}

/// Tells now and then how far a blob is.
struct Progress {
    told: Option<(Digest, Events)>,
    last: Option<Instant>,
}

impl Progress {
    fn tell(&mut self, offset: u64, size: u64) {
        let Some((digest, events)) = &self.told else { return };
        if self.last.is_none_or(|last| last.elapsed() >= PAUSE) {
            self.last = Some(Instant::now());
            events.hint(Event::Transfer { digest: *digest, stage: Stage::Moving, offset, size });
        }
    }
}

/// A layer that is being compressed.
#[derive(Debug)]
pub(crate) struct OutgoingGrowth {
    pub(crate) growing: Growing,
    /// What events call it, and where they go.
    pub(crate) told: (Digest, Events),
}

impl BlobSource for OutgoingGrowth {
    fn open(&self, offset: u64) -> BoxFuture<'_, io::Result<BoxStream<'static, io::Result<Bytes>>>> {
        let last = Some(Instant::now());
        let told = Progress { told: Some(self.told.clone()), last };
        let next = |(mut growing, offset, mut told): (Growing, u64, Progress)| async move {
            let bytes = growing.read(offset, PIECE).await?;
            Ok(bytes.map(|bytes| {
                let offset = offset + bytes.len() as u64;
                // While its size is not known, it is still being compressed, which was told.
                if let Some(whole) = growing.known() {
                    told.tell(offset, whole.size);
                }
                (bytes, (growing, offset, told))
            }))
        };
        let bytes = stream::try_unfold((self.growing.clone(), offset, told), next);
        Box::pin(async move { Ok(bytes.boxed()) })
    }
}

impl GrowingSource for OutgoingGrowth {
    fn whole(&self) -> BoxFuture<'_, io::Result<Descriptor>> {
        let mut growing = self.growing.clone();
        Box::pin(async move { growing.whole().await })
    }
}
