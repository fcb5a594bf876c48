//! Load: the images of an archive, with all that belongs to them. The one that suits this host is unpacked, of the
//! others what is needed to save, push or unpack them.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use strata_image::{Archive, BlobKind, BlobSource, Format, Limits, Plan, PlannedRoot, Platforms};
use strata_types::{Descriptor, Digest, LeaseId, Reference};

use super::adopt::{Adoption, adopt};
use crate::catalog::{Durability, ImageRow, blocking};
use crate::ingest::{self, Fetch, Order, Prefix, Report};
use crate::lease::{GRACE, Session};
use crate::remote::documents::unpacked;
use crate::{Error, Result, Store, blob, document};

/// Blobs that are asked for at a time; how many are worked on is up to the ingest.
const AT_ONCE: usize = 16;

/// What was loaded under one digest.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The manifest or index.
    pub target: Descriptor,
    /// Names that point at it now.
    pub names: Vec<Reference>,
    /// Its image that is unpacked; none if there is nothing to unpack, as in an artifact.
    pub image: Option<ImageRow>,
}

/// Loads an archive: OCI layout or docker-archive, compressed as a whole or not. What is there of an index is loaded,
/// or its image for one platform.
pub async fn load(
    store: &Arc<Store>,
    archive: impl Read + Send + 'static,
    platforms: Platforms,
    report: Report,
) -> Result<Vec<Loaded>> {
    let session = Session::begin(store, "load", GRACE).await?;
    let result = load_under(store, archive, platforms, session.lease().id.clone(), report).await;
    let ended = session.end().await;
    let loaded = result?;
    ended?;
    Ok(loaded)
}

async fn load_under(
    store: &Arc<Store>,
    archive: impl Read + Send + 'static,
    platforms: Platforms,
    lease: LeaseId,
    report: Report,
) -> Result<Vec<Loaded>> {
    let spool = store.paths.ingest();
    let (archive, plan) = blocking(move || {
        let limits = Limits::default();
        let archive = Archive::from_stream(archive, &spool, &limits)?;
        let plan = Plan::new(&archive, archive.roots(), &platforms, &limits)?;
        Ok::<_, Error>((Arc::new(archive), plan))
    })
    .await?;
    Load { store: Arc::clone(store), archive, lease, report }.run(&plan).await
}

struct Load {
    store: Arc<Store>,
    archive: Arc<Archive>,
    lease: LeaseId,
    report: Report,
}

impl Load {
    async fn run(&self, plan: &Plan) -> Result<Vec<Loaded>> {
        self.layers(plan).await?;
        // What refers to a document comes after it.
        for planned in plan.blobs().iter().rev().filter(|planned| planned.kind != BlobKind::Layer) {
            self.document(&planned.descriptor, planned.kind).await?;
        }
        // Those of all roots are on disk after the first one.
        let mut blobs: Vec<Digest> = plan.blobs().iter().map(|planned| planned.descriptor.digest).collect();
        let mut loaded = Vec::with_capacity(plan.roots().len());
        for root in plan.roots() {
            let adoption = Adoption {
                target: root.descriptor.digest,
                images: chosen(root).into_iter().cloned().collect(),
                blobs: std::mem::take(&mut blobs),
                names: root.names.clone(),
                lease: self.lease.clone(),
            };
            let image = adopt(&self.store, adoption).await?.pop();
            loaded.push(Loaded { target: root.descriptor.clone(), names: root.names.clone(), image });
        }
        Ok(loaded)
    }

    /// Takes all layers in, side by side.
    async fn layers(&self, plan: &Plan) -> Result<()> {
        let mut diff_ids: HashMap<Digest, Digest> = HashMap::new();
        for image in plan.roots().iter().filter_map(chosen) {
            diff_ids.extend(image.layers.iter().map(|layer| layer.descriptor.digest).zip(image.diff_ids.clone()));
        }
        let layers = plan.blobs().iter().filter(|planned| planned.kind == BlobKind::Layer);
        let orders: Vec<_> = layers
            .map(|planned| (self.order(&planned.descriptor), diff_ids.get(&planned.descriptor.digest).copied()))
            .collect();
        let taken = stream::iter(orders).map(|(order, diff_id)| async move {
            match diff_id {
                Some(diff_id) => ingest::layer(&self.store, order, diff_id).await.map(drop),
                None => ingest::blob(&self.store, order).await.map(drop),
            }
        });
        taken.buffer_unordered(AT_ONCE).try_collect().await
    }

    fn order(&self, blob: &Descriptor) -> Order {
        let fetch: Arc<dyn Fetch> = Arc::new(Member(Arc::clone(&self.archive)));
        Order { fetch, lease: self.lease.clone(), report: Arc::clone(&self.report), blob: blob.clone() }
    }

    async fn document(&self, descriptor: &Descriptor, kind: BlobKind) -> Result<()> {
        let (archive, wanted) = (Arc::clone(&self.archive), descriptor.clone());
        let bytes = blocking(move || read(&archive, &wanted)).await?;
        match kind {
            BlobKind::Config | BlobKind::Layer => {
                blob::put(&self.store, bytes, &self.lease, Durability::Relaxed).await?;
            }
            // Its manifests were made while it was opened: nobody knows them.
            BlobKind::Manifest if self.archive.format() == Format::DockerArchive => {
                let media_type = &descriptor.media_type;
                document::put_own(&self.store, bytes, media_type, &self.lease, Durability::Relaxed).await?;
            }
            BlobKind::Manifest | BlobKind::Index => {
                let media_type = &descriptor.media_type;
                document::put(&self.store, bytes, media_type, &self.lease, Durability::Relaxed).await?;
            }
        }
        Ok(())
    }
}

/// The image of a root to unpack: the best for this host, if there is one.
fn chosen(root: &PlannedRoot) -> Option<&strata_image::Image> {
    unpacked(&Platforms::All, &root.images)
}

/// Reads a document, whose size and digest the plan has checked.
fn read(archive: &Archive, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let digest = descriptor.digest;
    let failed = |source| Error::Image(strata_image::Error::Source { digest, source });
    let blob = archive.open(&digest).map_err(failed)?.ok_or(Error::BlobNotFound { digest })?;
    let mut bytes = Vec::new();
    strata_image::Checked::new(blob.reader, descriptor.clone()).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// An archive as a source of layers.
struct Member(Arc<Archive>);

impl Fetch for Member {
    fn fetch(&self, blob: &Descriptor, prefix: Prefix) -> BoxStream<'static, Result<Bytes>> {
        let (archive, digest) = (Arc::clone(&self.0), blob.digest);
        let chunks = strata_rpc::chunks::from_write(move |out| {
            let missing = || io::Error::other(Error::BlobNotFound { digest });
            let mut reader = archive.open(&digest)?.ok_or_else(missing)?.reader;
            io::copy(&mut reader.by_ref().take(prefix.bytes), &mut io::sink())?;
            io::copy(&mut reader, out).map(drop)
        });
        let failed = move |error: io::Error| match error.downcast::<Error>() {
            Ok(error) => error,
            Err(source) => Error::Image(strata_image::Error::Source { digest, source }),
        };
        chunks.map(move |chunk| chunk.map_err(failed)).boxed()
    }

    fn is_local(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
