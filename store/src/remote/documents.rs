//! The documents of an image at its registry, as a plan reads them: one after the other, and only those it needs.
//!
//! A plan is synchronous: it runs on a thread of its own, and waits there for the registry. Layers are taken to be where
//! their manifest says they are; whether they are shows when they are fetched.

use std::collections::HashMap;
use std::io::{self, Cursor};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use strata_image::{Blob, BlobSource, Kind, Limits, Plan, Platforms, Root};
use strata_registry::{Progress, Repository, Target};
use strata_types::{Descriptor, Digest, Reference, media_type};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::{Error, Result, Store, blob};

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
    repository: &Repository,
    reference: &Reference,
    root: &strata_registry::Document,
    platforms: Platforms,
) -> Result<Planned> {
    let descriptor = Descriptor::new(&*root.media_type, root.digest, root.bytes.len() as u64);
    let documents = Documents::new(store.clone(), repository.clone());
    documents.keep(&descriptor, root.bytes.clone());
    let root = Root::new(descriptor, vec![reference.clone()]);
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

/// A source of documents.
struct Documents {
    store: Arc<Store>,
    repository: Repository,
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
    /// Why the registry was of no use, with all that its error says.
    failure: Option<Error>,
}

impl Documents {
    fn new(store: Arc<Store>, repository: Repository) -> Self {
        Self {
            store,
            repository,
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

    /// Reads a document, from the store if it is there. None: the registry does not have it.
    async fn fetch(&self, descriptor: &Descriptor) -> Result<Option<Bytes>> {
        if let Ok(bytes) = blob::read(&self.store, &descriptor.digest).await {
            return Ok(Some(bytes.into()));
        }
        let is_document =
            media_type::is_index(&descriptor.media_type) || media_type::is_manifest(&descriptor.media_type);
        let fetched = match is_document {
            true => {
                let target = Target::Digest(descriptor.digest);
                self.repository.manifest(&target).await.map(|document| document.bytes)
            }
            false => self.fetch_blob(descriptor).await,
        };
        match fetched {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == strata_registry::Kind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a small blob whole. The plan has compared its size with a limit.
    async fn fetch_blob(&self, descriptor: &Descriptor) -> strata_registry::Result<Bytes> {
        let mut reader = self.repository.blob(descriptor, Progress::new());
        let mut bytes = Vec::new();
        while let Some(more) = reader.next().await? {
            bytes.extend_from_slice(&more);
        }
        Ok(bytes.into())
    }

    /// The plan with its documents; or why there is none, in the words of the registry if it was that.
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
                        return Err(io::Error::other("the registry was of no use"));
                    }
                }
            }
        };
        let Some(bytes) = bytes else { return Ok(None) };
        self.keep(&descriptor, bytes.clone());
        Ok(Some(Blob { size: bytes.len() as u64, reader: Box::new(Cursor::new(bytes)) }))
    }
}
