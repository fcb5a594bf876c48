//! Ingest: bytes come once (from a registry, a stream, an archive) and in one pass are hashed, kept as a blob, inflated,
//! hashed again and written as a layer. Nothing is visible before both digests are right. What was cut off stays as a
//! partial blob, and is continued. Everything is written without a sync: see [`crate::image::adopt`].
//!
//! A blob, and a diff-id, are worked on by one request at a time. Others wait, and find it done, or take it over where
//! the first gave up.

mod flow;
mod locks;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use sha2::Sha256;
use strata_archive::Compression;
use strata_types::{Descriptor, Digest, LayerId, LeaseId};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::blob::{self, Partial, PartialName};
use crate::catalog::{BlobRow, Durability, LayerRow, blocking};
use crate::config::Keep;
use crate::{Error, Result, Store, disk, layer, remote};
use flow::Flow;
pub(crate) use flow::is_about_bytes;
pub(crate) use locks::{Ingests, Key};

/// What is there of a blob that is to be continued.
#[derive(Clone, Debug, Default)]
pub struct Prefix {
    /// The hash over it.
    pub hasher: Sha256,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Where blobs come from.
pub trait Fetch: Send + Sync + 'static {
    /// Gives the bytes of a blob that follow `prefix`. They need not be checked, unless [`Self::checks`] says so. What came
    /// before an error is kept.
    fn fetch(&self, blob: &Descriptor, prefix: Prefix) -> BoxStream<'static, Result<Bytes>>;

    /// The repository that blobs can be fetched from again; none if there is none.
    fn repository(&self) -> Option<&str> {
        None
    }

    /// Says whether bytes that came to their end without an error are those of the digest, prefix included: once is enough.
    fn checks(&self) -> bool {
        false
    }

    /// Says whether bytes are so near that they need not be kept for a second try.
    fn is_local(&self) -> bool {
        false
    }
}

/// How far a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Others are before it.
    Waiting,
    /// Bytes come.
    Fetching {
        /// How many are here, those of earlier tries included.
        bytes: u64,
        /// How many there will be.
        of: u64,
    },
    /// So many bytes are in the partial blob, where they can be read.
    Kept {
        /// How many, those of earlier tries included.
        bytes: u64,
    },
    /// All bytes are here, not all are written.
    Unpacking,
    /// It was here before.
    Exists,
    /// It is here.
    Done,
}

/// Takes the steps of blobs.
pub type Report = Arc<dyn Fn(&Digest, Step) + Send + Sync>;

/// Takes steps and does nothing with them.
pub fn silent() -> Report {
    Arc::new(|_, _| {})
}

/// When what comes goes to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writeback {
    /// While it comes: somebody waits until it is on disk.
    Ahead,
    /// When it is all here: somebody goes on at that moment, and until then the processors are for unpacking.
    Behind,
}

/// One blob of an image.
#[derive(Clone)]
pub struct Order {
    /// Where it comes from.
    pub fetch: Arc<dyn Fetch>,
    /// Lease that shall hold what is made.
    pub lease: LeaseId,
    /// Takes the steps.
    pub report: Report,
    /// Whether somebody waits until it is on disk.
    pub writeback: Writeback,
    /// Media type, digest and size.
    pub blob: Descriptor,
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order").field("lease", &self.lease).field("blob", &self.blob).finish_non_exhaustive()
    }
}

/// Brings a blob here, unless it is.
///
/// Dropped, it stops soon; what has come is kept for the next try.
pub async fn blob(store: &Arc<Store>, order: Order) -> Result<BlobRow> {
    let work = Work::new(store, order);
    work.spawn(|work| async move { work.blob().await }).await
}

/// Brings a layer here, unless it is: its tree, and the compressed blob. An uncompressed one is its diff-id, and is kept
/// as a tree alone.
///
/// Dropped, it stops soon; what has come is kept for the next try.
pub async fn layer(store: &Arc<Store>, order: Order, diff_id: Digest) -> Result<LayerRow> {
    let work = Work::new(store, order);
    work.spawn(move |work| async move { work.layer(diff_id).await }).await
}

/// An order that is being carried out.
struct Work {
    store: Arc<Store>,
    order: Order,
    cancelled: CancellationToken,
}

impl Work {
    fn new(store: &Arc<Store>, order: Order) -> Self {
        Self { store: Arc::clone(store), order, cancelled: CancellationToken::new() }
    }

    /// Works in a task of its own: whoever waits may leave, and what was begun is still put in order.
    async fn spawn<T, F>(self, work: impl FnOnce(Self) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let _cancel = self.cancelled.clone().drop_guard();
        let (drain, busy) = (self.store.drain.clone(), self.store.idle.busy());
        let work = work(self);
        let task = drain.spawn(async move {
            let result = work.await;
            drop(busy);
            result
        });
        match task.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Error::Interrupted),
        }
    }

    fn report(&self, step: Step) {
        (self.order.report)(&self.order.blob.digest, step);
    }

    async fn held_blob(&self) -> Result<Option<BlobRow>> {
        self.store.catalog.hold_blob(&self.order.blob.digest, &self.order.lease).await
    }

    async fn held_layer(&self, diff_id: &Digest) -> Result<Option<LayerRow>> {
        self.store.catalog.hold_layer_by_diff_id(diff_id, &self.order.lease).await
    }

    async fn blob(self) -> Result<BlobRow> {
        self.report(Step::Waiting);
        let _turn = self.store.ingests.turn(Key::Blob(self.order.blob.digest)).await;
        if let Some(row) = self.held_blob().await? {
            self.report(Step::Exists);
            return Ok(row);
        }
        let row = self.keep().await?;
        self.report(Step::Done);
        Ok(row)
    }

    /// Brings the blob here without looking into it.
    async fn keep(&self) -> Result<BlobRow> {
        let _permit = self.store.ingests.permit().await;
        let (partial, _) = self.flow(Some(self.partial().await?), None).await?;
        let partial = partial.ok_or(Error::Interrupted)?;
        partial.finish(&self.order.blob.digest, &self.order.lease, Durability::Relaxed).await
    }

    async fn layer(self, diff_id: Digest) -> Result<LayerRow> {
        self.report(Step::Waiting);
        // Always in this order, so that two requests never wait for each other.
        let _blob_turn = self.store.ingests.turn(Key::Blob(self.order.blob.digest)).await;
        let _layer_turn = self.store.ingests.turn(Key::Layer(diff_id)).await;
        let is_compressed = self.is_compressed();
        let digest = self.order.blob.digest;
        if !is_compressed && digest != diff_id {
            return Err(Error::DiffIdMismatch { blob: digest, expected: diff_id, actual: digest.to_string() });
        }
        let layer = self.held_layer(&diff_id).await?;
        let is_kept = self.held_blob().await?.is_some();
        let row = match layer {
            Some(row) if is_kept || !is_compressed || self.is_let_go(&diff_id).await? => {
                self.report(Step::Exists);
                return Ok(row);
            }
            // The same tree came in another form before. Whether this one is the same is not known until it is needed.
            Some(row) => {
                self.keep().await?;
                row
            }
            None => self.unpack(&diff_id, is_kept).await?,
        };
        self.report(Step::Done);
        Ok(row)
    }

    /// The blob is not to be kept: it was this tree once, and a registry has it.
    async fn is_let_go(&self, diff_id: &Digest) -> Result<bool> {
        if self.store.config.blobs.keep == Keep::Always {
            return Ok(false);
        }
        let form = remote::elsewhere(&self.store, &self.order.blob.digest).await?;
        Ok(form.is_some_and(|form| form.diff_id == *diff_id))
    }

    fn is_compressed(&self) -> bool {
        strata_image::layer_type(&self.order.blob.media_type).is_none_or(|found| found.compression != Compression::None)
    }

    async fn unpack(&self, diff_id: &Digest, is_kept: bool) -> Result<LayerRow> {
        let permit = self.store.ingests.permit().await;
        let id = self.store.catalog.create_layer(&self.order.lease).await?;
        let result = self.unpack_to(&id, diff_id, is_kept, permit).await;
        if !result.as_ref().is_ok_and(|row| row.id == id) {
            layer::give_up(&self.store, &id).await;
        }
        result
    }

    async fn unpack_to(
        &self,
        id: &LayerId,
        diff_id: &Digest,
        is_kept: bool,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<LayerRow> {
        let blob = &self.order.blob;
        // Without a blob to keep, the partial one is only for a second try.
        let needs_partial = !is_kept && (self.is_compressed() || !self.order.fetch.is_local());
        let partial = if needs_partial { Some(self.partial().await?) } else { None };
        let (partial, applied) = match is_kept {
            true => self.flow_from_here(id).await?,
            false => self.flow(partial, Some(id)).await?,
        };
        // What is left is bookkeeping, which keeps no processor busy: the next layer may begin.
        drop(permit);
        match partial {
            Some(partial) if self.is_compressed() => {
                partial.finish(&blob.digest, &self.order.lease, Durability::Relaxed).await?;
            }
            Some(partial) => partial.discard().await?,
            None => {}
        }
        let applied = applied.ok_or(Error::Interrupted)?;
        if applied.diff_id != diff_id.to_string() {
            return Err(Error::DiffIdMismatch { blob: blob.digest, expected: *diff_id, actual: applied.diff_id });
        }
        if self.is_compressed() {
            let repository = self.order.fetch.repository().unwrap_or_default();
            self.store.catalog.put_layer_blob(blob, diff_id, repository).await?;
        }
        layer::adopt(&self.store, id, applied, &self.order.lease).await
    }

    /// What is there of the blob. More than all of it is worth nothing.
    async fn partial(&self) -> Result<Partial> {
        let Descriptor { digest, size, .. } = self.order.blob;
        let name = PartialName::Blob(digest);
        let mut partial = Partial::open(&self.store, &name).await?;
        if partial.offset() > size {
            partial.discard().await?;
            partial = Partial::open(&self.store, &name).await?;
        }
        partial.reserve(size)?;
        Ok(partial)
    }

    async fn flow(&self, partial: Option<Partial>, layer: Option<&LayerId>) -> Result<flow::Outcome> {
        let prefix = match &partial {
            Some(partial) => Prefix { hasher: partial.hasher()?, bytes: partial.offset() },
            None => Prefix::default(),
        };
        let is_whole = prefix.bytes == self.order.blob.size;
        // A blob that is here but for its last check needs no source.
        let rest = if is_whole { None } else { Some(self.order.fetch.fetch(&self.order.blob, prefix)) };
        let outcome = Flow { work: self, rest }.run(partial, layer).await;
        if outcome.is_err() && self.order.fetch.is_local() {
            // Nobody needs it for a second try.
            let path = blob::partial_path(&self.store, &self.order.blob.digest);
            blocking(move || disk::remove(&path)).await?;
        }
        outcome
    }

    /// Unpacks a blob that is here.
    async fn flow_from_here(&self, id: &LayerId) -> Result<flow::Outcome> {
        let (file, _) = blob::open(&self.store, &self.order.blob.digest).await?;
        let rest = flow::chunks(file, self.store.paths.blob(&self.order.blob.digest));
        Flow { work: self, rest: Some(rest) }.run(None, Some(id)).await
    }
}

#[cfg(test)]
mod tests;
