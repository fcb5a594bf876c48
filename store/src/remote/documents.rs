//! The documents of an image where it comes from, a registry or another store, as a plan reads them: one after the other,
//! and only those it needs.
//!
//! A plan is synchronous: it runs on a thread of its own, and waits there for the origin. Layers are taken to be where
//! their manifest says they are; whether they are shows when they are fetched.

use std::collections::HashMap;
use std::io::{self, Cursor};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use strata_image::{Blob, BlobKind, BlobSource, Image, Kind, Limits, Plan, Platforms, Root};
use strata_registry::{Progress, Repository, Target};
use strata_types::{Descriptor, Digest, LeaseId, media_type};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::catalog::Durability;
use crate::{Error, Result, Store, blob, document};

/// Where images come from.
pub(crate) trait Origin: Send + Sync + 'static {
    /// A manifest, an index or a config, whose size was compared with a limit. None: it is not there.
    fn document<'a>(&'a self, descriptor: &'a Descriptor) -> BoxFuture<'a, Result<Option<Bytes>>>;

    /// Says whether a document was made where it comes from, and is known to nobody else by its digest.
    fn is_own(&self, _digest: &Digest) -> bool {
        false
    }
}

/// No origin: what is needed is here, or missing.
pub(crate) struct Nowhere;

impl Origin for Nowhere {
    fn document<'a>(&'a self, _descriptor: &'a Descriptor) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async { Ok(None) })
    }
}

impl Origin for Repository {
    fn document<'a>(&'a self, descriptor: &'a Descriptor) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            let media_type = descriptor.media_type.as_str();
            let fetched = match media_type::is_index(media_type) || media_type::is_manifest(media_type) {
                true => self.manifest(&Target::Digest(descriptor.digest)).await.map(|document| document.bytes),
                false => fetch_blob(self, descriptor).await,
            };
            match fetched {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == strata_registry::Kind::NotFound => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
    }
}

/// Reads a small blob whole.
async fn fetch_blob(repository: &Repository, descriptor: &Descriptor) -> strata_registry::Result<Bytes> {
    let mut reader = repository.blob(descriptor, Progress::new());
    let mut bytes = Vec::new();
    while let Some(more) = reader.next().await? {
        bytes.extend_from_slice(&more);
    }
    Ok(bytes.into())
}

/// A plan, and the bytes of the documents that it was made from.
#[derive(Debug)]
pub(crate) struct Planned {
    /// The plan.
    pub(crate) plan: Plan,
    /// Documents by digest: all indexes, manifests and configs of the plan, and what it was chosen from.
    pub(crate) documents: HashMap<Digest, Bytes>,
}

/// Plans what an image needs, beginning with the manifest or index that its reference names.
pub(crate) async fn plan(
    store: &Arc<Store>,
    origin: Arc<dyn Origin>,
    root: Root,
    bytes: Bytes,
    platforms: Platforms,
) -> Result<Planned> {
    let documents = Documents::new(store.clone(), origin);
    documents.keep(&root.descriptor, bytes);
    // Whoever no longer waits for the plan ends it.
    let stop = documents.stop.clone().drop_guard();
    let planning = tokio::task::spawn_blocking(move || {
        let plan = Plan::new(&documents, &[root], &platforms, &Limits::default());
        documents.end(plan)
    });
    let planned = planning.await.map_err(|_| Error::Interrupted)?;
    drop(stop);
    planned
}

impl Planned {
    /// All images of the plan.
    pub(crate) fn images(&self) -> Vec<Image> {
        self.plan.roots().iter().flat_map(|root| root.images.clone()).collect()
    }

    /// Stores indexes, manifests and configs, what they refer to before them.
    pub(crate) async fn keep(
        &self,
        store: &Arc<Store>,
        origin: &dyn Origin,
        target: &Descriptor,
        lease: &LeaseId,
    ) -> Result<()> {
        let mut is_root_kept = false;
        for blob in self.plan.blobs().iter().rev() {
            let digest = &blob.descriptor.digest;
            match (blob.kind, self.documents.get(digest)) {
                (BlobKind::Index | BlobKind::Manifest, _) => {
                    self.keep_document(store, origin, &blob.descriptor, lease).await?;
                    is_root_kept |= *digest == target.digest;
                }
                (BlobKind::Config, Some(bytes)) => {
                    blob::put(store, bytes.to_vec(), lease, Durability::Relaxed).await?;
                }
                // Fetched with the layers.
                (BlobKind::Config | BlobKind::Layer, _) => {}
            }
        }
        if !is_root_kept {
            // Of an index one image was chosen: the index is kept as it is, and says what else there would be.
            self.keep_document(store, origin, target, lease).await?;
        }
        Ok(())
    }

    async fn keep_document(
        &self,
        store: &Arc<Store>,
        origin: &dyn Origin,
        descriptor: &Descriptor,
        lease: &LeaseId,
    ) -> Result<()> {
        let Descriptor { media_type, digest, .. } = descriptor;
        let bytes = self.documents.get(digest).ok_or(Error::BlobNotFound { digest: *digest })?.to_vec();
        match origin.is_own(digest) {
            true => document::put_own(store, bytes, media_type, lease, Durability::Relaxed).await?,
            false => document::put(store, bytes, media_type, lease, Durability::Relaxed).await?,
        };
        Ok(())
    }
}

/// The image of several whose layers are unpacked: of all platforms the one for this machine.
pub(crate) fn unpacked<'i>(platforms: &Platforms, images: &'i [Image]) -> Option<&'i Image> {
    match platforms {
        Platforms::All => {
            let platforms: Vec<_> = images.iter().map(|image| &image.platform).collect();
            Platforms::Host.best(&platforms).map(|best| &images[best])
        }
        Platforms::Host | Platforms::Only(_) => images.first(),
    }
}

/// A source of documents.
struct Documents {
    store: Arc<Store>,
    origin: Arc<dyn Origin>,
    limits: Limits,
    runtime: Handle,
    stop: CancellationToken,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the documents so far refer to.
    known: HashMap<Digest, Descriptor>,
    /// Their bytes.
    read: HashMap<Digest, Bytes>,
    /// Why the origin was of no use, with all that its error says.
    failure: Option<Error>,
}

impl Documents {
    fn new(store: Arc<Store>, origin: Arc<dyn Origin>) -> Self {
        Self {
            store,
            origin,
            limits: Limits::default(),
            runtime: Handle::current(),
            stop: CancellationToken::new(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a document and what it refers to.
    fn keep(&self, descriptor: &Descriptor, bytes: Bytes) {
        let mut state = self.state();
        state.known.entry(descriptor.digest).or_insert_with(|| descriptor.clone());
        let is_document =
            media_type::is_index(&descriptor.media_type) || media_type::is_manifest(&descriptor.media_type);
        // What cannot be parsed refers to nothing; the plan says what is wrong with it.
        let parsed = is_document
            .then(|| strata_image::Document::parse(bytes.to_vec(), &descriptor.media_type, &self.limits).ok())
            .flatten();
        let entries = match parsed.map(|document| document.kind) {
            Some(Kind::Index(index)) => index.manifests,
            Some(Kind::Manifest(manifest)) => {
                // A foreign layer is not at the registry.
                let layers = manifest.layers.into_iter().filter(|layer| !layer.is_foreign());
                layers.chain([manifest.config]).collect()
            }
            None => Vec::new(),
        };
        for entry in entries {
            state.known.entry(entry.descriptor.digest).or_insert(entry.descriptor);
        }
        state.read.insert(descriptor.digest, bytes);
    }

    /// Reads a document, from the store if it is there. None: the origin does not have it.
    async fn fetch(&self, descriptor: &Descriptor) -> Result<Option<Bytes>> {
        match blob::read(&self.store, &descriptor.digest).await {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(_) => self.origin.document(descriptor).await,
        }
    }

    /// The plan with its documents; or why there is none, in the words of the origin if it was that.
    fn end(self, plan: strata_image::Result<Plan>) -> Result<Planned> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (plan, state.failure) {
            (Ok(plan), _) => Ok(Planned { plan, documents: state.read }),
            (Err(_), Some(failure)) => Err(failure),
            (Err(error), None) => Err(error.into()),
        }
    }
}

impl BlobSource for Documents {
    fn size(&self, digest: &Digest) -> io::Result<Option<u64>> {
        Ok(self.state().known.get(digest).map(|descriptor| descriptor.size))
    }

    fn open(&self, digest: &Digest) -> io::Result<Option<Blob<'_>>> {
        let (descriptor, read) = {
            let state = self.state();
            let Some(descriptor) = state.known.get(digest).cloned() else { return Ok(None) };
            (descriptor, state.read.get(digest).cloned())
        };
        let bytes = match read {
            Some(bytes) => Some(bytes),
            None => {
                let fetched = self.runtime.block_on(async {
                    tokio::select! {
                        biased;
                        () = self.stop.cancelled() => Err(Error::Interrupted),
                        fetched = self.fetch(&descriptor) => fetched,
                    }
                });
                match fetched {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        self.state().failure = Some(error);
                        return Err(io::Error::other("the origin was of no use"));
                    }
                }
            }
        };
        let Some(bytes) = bytes else { return Ok(None) };
        self.keep(&descriptor, bytes.clone());
        Ok(Some(Blob::new(bytes.len() as u64, Cursor::new(bytes))))
    }
}
