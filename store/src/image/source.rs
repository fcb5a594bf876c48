//! The store as a source of blobs for plans and archives: documents and compressed layers from their files,
//! uncompressed layers, which are kept as trees, made again from those.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use strata_image::{Blob, BlobKind, BlobSource, Plan};
use strata_types::{Digest, LeaseId};
use tokio::runtime::Handle;

use crate::remote::{self, Identity};
use crate::{Error, Result, Store, blob, layer};

/// Blobs that are fetched again at a time.
const AT_ONCE: usize = 4;

/// A store as a source, for a thread that may block. Whoever reads holds a lease on what it reads.
#[derive(Debug)]
pub struct Source {
    store: Arc<Store>,
    runtime: Handle,
}

/// Where the bytes of a blob are.
enum Place {
    File(PathBuf, u64),
    /// Path and table of contents of a layer.
    Tree(PathBuf, Vec<u8>, u64),
}

impl Source {
    /// The store as a source. Called inside the runtime; read outside of its own threads.
    pub fn new(store: &Arc<Store>) -> Self {
        Self { store: Arc::clone(store), runtime: Handle::current() }
    }

    /// Brings the layers of a plan here that are only where they came from, held by the lease.
    pub async fn bring(&self, plan: &Plan, lease: &LeaseId) -> Result<()> {
        let layers = plan.blobs().iter().filter(|planned| planned.kind == BlobKind::Layer);
        let digests: Vec<Digest> = layers.map(|planned| planned.descriptor.digest).collect();
        let brought = stream::iter(digests).map(|digest| async move {
            if remote::elsewhere(&self.store, &digest).await?.is_some() {
                remote::again(&self.store, &digest, lease, &Identity::default()).await?;
            }
            Ok::<_, Error>(())
        });
        brought.buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn size_of(&self, digest: &Digest) -> Result<Option<u64>> {
        match self.store.catalog.blob(digest).await {
            Ok(row) => return Ok(Some(row.size)),
            Err(Error::BlobNotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        if let Some(layer) = self.store.catalog.layer_by_diff_id(digest).await?.filter(|layer| layer.toc.is_some()) {
            return Ok(Some(layer.tar_size));
        }
        // Whoever wants its bytes brings it here first: see [`Source::bring`].
        Ok(remote::elsewhere(&self.store, digest).await?.map(|form| form.descriptor.size))
    }

    async fn place(&self, digest: &Digest) -> Result<Option<Place>> {
        match blob::open(&self.store, digest).await {
            Ok((_, row)) => return Ok(Some(Place::File(self.store.paths.blob(digest), row.size))),
            Err(Error::BlobNotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let Some(row) = self.store.catalog.layer_by_diff_id(digest).await? else { return Ok(None) };
        let Some(toc) = row.toc else { return Ok(None) };
        let toc = blob::read(&self.store, &toc).await?;
        Ok(Some(Place::Tree(self.store.paths.layer(&row.id), toc, row.tar_size)))
    }
}

impl BlobSource for Source {
    fn size(&self, digest: &Digest) -> io::Result<Option<u64>> {
        self.runtime.block_on(self.size_of(digest)).map_err(io::Error::other)
    }

    fn open(&self, digest: &Digest) -> io::Result<Option<Blob<'_>>> {
        let place = self.runtime.block_on(self.place(digest)).map_err(io::Error::other)?;
        Ok(match place {
            None => None,
            Some(Place::File(path, size)) => Some(Blob::new(size, std::fs::File::open(path)?)),
            Some(Place::Tree(path, toc, size)) => {
                let _inside = self.runtime.enter();
                let digest = *digest;
                let reader = strata_rpc::chunks::pipe(move |out| rebuild(&path, &toc, &digest, out));
                Some(Blob::verified(size, reader))
            }
        })
    }
}

/// Writes the tar of the layer at this path by its encoded table of contents.
fn rebuild(layer: &Path, toc: &[u8], diff_id: &Digest, out: &mut impl Write) -> io::Result<()> {
    let toc = layer::table_of(toc, diff_id).map_err(io::Error::other)?;
    layer::write_archive(layer, &toc, out).map_err(io::Error::other)
}
