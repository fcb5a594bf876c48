//! Load: the images of an archive, with all that belongs to them. The one that suits this host is unpacked, of the
//! others what is needed to save, push or unpack them. A file is read where it stands; of a stream layers are unpacked as
//! they come, and the rest is written down first.

mod take;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use strata_image::{Archive, BlobKind, BlobSource, Format, Limits, Plan, PlannedRoot, Platforms, Taken};
use strata_types::{Descriptor, Digest, LeaseId, Reference};
use tokio_util::sync::CancellationToken;

use self::take::{Failures, Taking};
use super::adopt::{Adoption, adopt};
use super::source::Source;
use crate::catalog::{Durability, ImageRow, blocking};
use crate::ingest::{self, Fetch, Order, Prefix, Report, Writeback};
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
    let open =
        move |spool: &Path, limits: &Limits, taking: &mut Taking| Archive::from_stream(archive, spool, limits, taking);
    // Who leaves cuts the stream.
    run(store, open, platforms, report, CancellationToken::new()).await
}

/// Loads an archive from a file, without writing it down first; given up when that is cancelled.
pub async fn load_file(
    store: &Arc<Store>,
    archive: File,
    platforms: Platforms,
    report: Report,
    given_up: CancellationToken,
) -> Result<Vec<Loaded>> {
    let open =
        move |spool: &Path, limits: &Limits, taking: &mut Taking| Archive::from_file(archive, spool, limits, taking);
    run(store, open, platforms, report, given_up).await
}

async fn run(
    store: &Arc<Store>,
    open: impl FnOnce(&Path, &Limits, &mut Taking) -> strata_image::Result<Archive> + Send + 'static,
    platforms: Platforms,
    report: Report,
    given_up: CancellationToken,
) -> Result<Vec<Loaded>> {
    let session = Session::begin(store, "load", GRACE).await?;
    let lease = session.lease().id.clone();
    let spool = store.paths.ingest();
    let failures = Failures::default();
    let mut taking = Taking::new(store, &lease, &failures);
    let result = async {
        let (archive, plan) = blocking(move || {
            let limits = Limits::default();
            let archive = open(&spool, &limits, &mut taking)?;
            let plan = Plan::new(&archive, archive.roots(), &platforms, &limits)?;
            Ok::<_, Error>((Arc::new(archive), plan))
        })
        .await?;
        Load { store: Arc::clone(store), archive, lease, failures, report, given_up }.run(&plan).await
    }
    .await;
    let ended = session.end().await;
    let loaded = result.map_err(of_the_stream)?;
    ended?;
    for one in &loaded {
        let id = one.image.as_ref().map_or(one.target.digest, |image| image.id).to_string();
        store.happened("load", id.clone(), id);
    }
    Ok(loaded)
}

/// What ended the stream of an archive early, where that is why the archive could not be read.
fn of_the_stream(error: Error) -> Error {
    use strata_archive::Error as Archive;
    use strata_image::Error as Image;
    match error {
        Error::Image(Image::Tar { source: Archive::Read { source } }) => match source.downcast::<Error>() {
            Ok(error) => error,
            Err(source) => Image::Tar { source: Archive::Read { source } }.into(),
        },
        error => error,
    }
}

struct Load {
    store: Arc<Store>,
    archive: Arc<Archive>,
    lease: LeaseId,
    failures: Failures,
    report: Report,
    given_up: CancellationToken,
}

impl Load {
    async fn run(&self, plan: &Plan) -> Result<Vec<Loaded>> {
        self.layers(plan).await?;
        if self.given_up.is_cancelled() {
            return Err(Error::Interrupted);
        }
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
        let fetch: Arc<dyn Fetch> = Arc::new(Member {
            store: Arc::clone(&self.store),
            archive: Arc::clone(&self.archive),
            failures: Arc::clone(&self.failures),
            given_up: self.given_up.clone(),
        });
        Order {
            fetch,
            lease: self.lease.clone(),
            report: Arc::clone(&self.report),
            blob: blob.clone(),
            writeback: Writeback::Ahead,
        }
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
struct Member {
    store: Arc<Store>,
    archive: Arc<Archive>,
    failures: Failures,
    given_up: CancellationToken,
}

impl Member {
    /// The bytes of a blob that was taken while the archive streamed by, from where they went.
    fn taken(&self, taken: Taken, expected: Digest, prefix: u64) -> BoxStream<'static, Result<Bytes>> {
        let failure = match taken.digest {
            Some(actual) if actual == expected => {
                return again(&self.store, expected, prefix);
            }
            Some(actual) => {
                let what = format!("blob {expected} of the archive");
                strata_image::Error::DigestMismatch { what, expected, actual }.into()
            }
            None => {
                let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
                let failure = failures.get_mut(taken.number).and_then(Option::take);
                failure.unwrap_or(Error::BlobNotFound { digest: expected })
            }
        };
        stream::iter([Err(failure)]).boxed()
    }
}

/// The bytes of a blob that the store has in whatever form.
fn again(store: &Arc<Store>, digest: Digest, prefix: u64) -> BoxStream<'static, Result<Bytes>> {
    let source = Source::new(store);
    let chunks = strata_rpc::chunks::from_write(move |out| {
        let missing = || io::Error::other(Error::BlobNotFound { digest });
        let mut reader = source.open(&digest)?.ok_or_else(missing)?.reader;
        io::copy(&mut reader.by_ref().take(prefix), &mut io::sink())?;
        io::copy(&mut reader, out).map(drop)
    });
    let failed = move |error: io::Error| match error.downcast::<Error>() {
        Ok(error) => error,
        Err(source) => Error::Image(strata_image::Error::Source { digest, source }),
    };
    chunks.map(move |chunk| chunk.map_err(failed)).boxed()
}

impl Fetch for Member {
    fn fetch(&self, blob: &Descriptor, prefix: Prefix) -> BoxStream<'static, Result<Bytes>> {
        let digest = blob.digest;
        let failed = move |source| Error::Image(strata_image::Error::Source { digest, source });
        let part = match self.archive.part(&digest) {
            Ok(Some(part)) => part,
            Ok(None) => return stream::iter([Err(Error::BlobNotFound { digest })]).boxed(),
            Err(source) => return stream::iter([Err(failed(source))]).boxed(),
        };
        if let Some(taken) = part.taken() {
            return self.taken(taken, digest, prefix.bytes);
        }
        let given_up = self.given_up.clone();
        let chunks = strata_rpc::chunks::from_read(part.reader_at(prefix.bytes));
        let chunks = chunks.map(move |chunk| match given_up.is_cancelled() {
            true => Err(Error::Interrupted),
            false => chunk.map_err(failed),
        });
        chunks.boxed()
    }

    fn is_local(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
