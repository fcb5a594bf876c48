//! Layers of an archive that streams by: they are unpacked as they come, before it is known what they are for, and held
//! by the lease of the load. What nothing names in the end goes with that.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use strata_archive::{Applied, Compression};
use strata_image::{Passing, Taker};
use strata_rpc::chunks::ChunkReader;
use strata_types::{Descriptor, Digest, LayerId, LeaseId, media_type};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::catalog::Durability;
use crate::disk::{Sync, Temporary};
use crate::ingest::is_about_bytes;
use crate::{Error, Result, Store, layer};

/// Pieces that wait to be unpacked.
const DEPTH: usize = 8;
/// Bytes of a piece.
const PIECE: usize = 256 * 1024;

/// Why contents could not be unpacked that are not kept otherwise, by their number.
pub(super) type Failures = Arc<Mutex<Vec<Option<Error>>>>;

/// Takes layers into a store.
pub(super) struct Taking {
    store: Arc<Store>,
    lease: LeaseId,
    runtime: Handle,
    failures: Failures,
}

impl Taker for Taking {
    fn take(&mut self, passing: Passing<'_>) -> io::Result<Option<Digest>> {
        let Passing { compression, named, content, .. } = passing;
        let is_here = match named {
            Some(named) => self.runtime.block_on(self.has(&named, compression)).map_err(io::Error::other)?,
            None => false,
        };
        let (digest, failure) = match compression {
            _ if is_here => (Some(self.hash(content)?), None),
            Compression::None => self.plain(content)?,
            _ => (Some(self.compressed(compression, content)?), None),
        };
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
        Ok(digest)
    }
}

impl Taking {
    /// Takes for a load with this lease. Made inside the runtime, used outside of its own threads.
    pub(super) fn new(store: &Arc<Store>, lease: &LeaseId, failures: &Failures) -> Self {
        let runtime = Handle::current();
        Self { store: Arc::clone(store), lease: lease.clone(), runtime, failures: Arc::clone(failures) }
    }

    async fn has(&self, named: &Digest, compression: Compression) -> Result<bool> {
        Ok(match compression {
            Compression::None => self.store.catalog.hold_layer_by_diff_id(named, &self.lease).await?.is_some(),
            _ => self.store.catalog.hold_blob(named, &self.lease).await?.is_some(),
        })
    }

    fn hash(&self, content: &mut dyn Read) -> io::Result<Digest> {
        let mut hasher = Sha256::new();
        self.each_piece(content, |piece| {
            hasher.update(&piece);
            Ok(())
        })?;
        Ok(Digest::from_sha256_bytes(hasher.finalize().into()))
    }

    /// An uncompressed layer is kept as its tree alone. What is no layer at all is lost: nobody may want it.
    fn plain(&self, content: &mut dyn Read) -> io::Result<(Option<Digest>, Option<Error>)> {
        match self.unpack(content, |_| Ok(()))? {
            (id, Ok(applied)) => {
                let digest = self.runtime.block_on(self.adopt(&id, applied)).map_err(io::Error::other)?;
                Ok((Some(digest), None))
            }
            (_, Err(error)) => Ok((None, Some(error))),
        }
    }

    /// A compressed layer is kept as a blob too, whether it can be unpacked or not.
    fn compressed(&self, compression: Compression, content: &mut dyn Read) -> io::Result<Digest> {
        let path = self.store.paths.ingest().join(crate::lease::random_text(16));
        let mut temporary = Temporary::create(path).map_err(io::Error::other)?;
        let (mut hasher, mut size) = (Sha256::new(), 0);
        let unpacked = self.unpack(content, |piece| {
            temporary.write(piece)?;
            hasher.update(piece);
            size += piece.len() as u64;
            Ok(())
        })?;
        let digest = Digest::from_sha256_bytes(hasher.finalize().into());
        let media_type = match compression {
            Compression::Zstd => media_type::OCI_LAYER_ZSTD,
            _ => media_type::OCI_LAYER_GZIP,
        };
        let blob = Descriptor::new(media_type, digest, size);
        let kept = self.runtime.block_on(async {
            {
                // Nobody may collect the same digest between rename and row.
                let _guard = self.store.placing.read().await;
                temporary.place(&self.store.paths.blob(&digest), Sync::Later)?;
                self.store.catalog.put_blob(&digest, size, &self.lease, Durability::Relaxed).await?;
            }
            match unpacked {
                (id, Ok(applied)) => {
                    let diff_id = self.adopt(&id, applied).await?;
                    self.store.catalog.put_layer_blob(&blob, &diff_id, "").await
                }
                // It may be no layer; who needs it as one finds out again.
                (_, Err(_)) => Ok(()),
            }
        });
        kept.map_err(io::Error::other)?;
        Ok(digest)
    }

    /// Unpacks a content to its end under a new name. The outer error is one of the stream or the disk; the inner one
    /// says why the content is no layer. After both nothing is left under the name.
    fn unpack(
        &self,
        content: &mut dyn Read,
        mut keep: impl FnMut(&[u8]) -> Result<()>,
    ) -> io::Result<(LayerId, Result<Applied>)> {
        let created = self.runtime.block_on(self.store.catalog.create_layer(&self.lease));
        let id = created.map_err(io::Error::other)?;
        let (path, backend) = (self.store.paths.layer(&id), self.store.config.layer_backend);
        let (sender, receiver) = mpsc::channel(DEPTH);
        let unpacking = self.runtime.spawn_blocking(move || layer::apply(backend, &path, ChunkReader::from(receiver)));
        let mut fed = self.each_piece(content, |piece| {
            keep(&piece).map_err(io::Error::other)?;
            // One that has ended early has seen what it needs, or says why below.
            let _ = sender.blocking_send(Ok(piece));
            Ok(())
        });
        if fed.is_ok() {
            // An empty piece is the end.
            let _ = sender.blocking_send(Ok(Bytes::new()));
        }
        drop(sender);
        let unpacked = match self.runtime.block_on(unpacking) {
            Ok(unpacked) => unpacked,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Error::Interrupted),
        };
        let unpacked = match unpacked {
            Err(error) if fed.is_ok() && !is_about_bytes(&error) => {
                fed = Err(io::Error::other(error));
                Err(Error::Interrupted)
            }
            unpacked => unpacked,
        };
        if fed.is_err() || unpacked.is_err() {
            self.runtime.block_on(layer::give_up(&self.store, &id));
        }
        fed.map(|()| (id, unpacked))
    }

    /// Makes a layer of what was unpacked, unless there is the same; returns its diff-id.
    async fn adopt(&self, id: &LayerId, applied: Applied) -> Result<Digest> {
        let adopted = layer::adopt(&self.store, id, applied, &self.lease).await;
        if !adopted.as_ref().is_ok_and(|row| row.id == *id) {
            layer::give_up(&self.store, id).await;
        }
        adopted?.diff_id.ok_or(Error::Interrupted)
    }

    fn each_piece(&self, content: &mut dyn Read, mut take: impl FnMut(Bytes) -> io::Result<()>) -> io::Result<()> {
        loop {
            if self.store.drain.is_draining() {
                return Err(io::Error::other(Error::Interrupted));
            }
            let mut piece = Vec::with_capacity(PIECE);
            content.take(PIECE as u64).read_to_end(&mut piece)?;
            if piece.is_empty() {
                return Ok(());
            }
            self.store.flusher.came(piece.len() as u64);
            take(piece.into())?;
        }
    }
}
