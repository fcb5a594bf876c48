//! The store that receives: what the image is, its documents, its layers side by side, the name last.
//!
//! What was brought by a transfer that was cut off stays for an hour: whole layers as such, blobs and contents in part.
//! Whoever tries again asks only for the rest.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use strata_image::{Limits, Platforms, Root};
use strata_types::{Descriptor, Digest, Reference, media_type};
use tokio::sync::mpsc;

use super::layers::Layers;
use super::peer::{Peer, Reply, wrong};
use super::{Question, Spared};
use crate::image::{Adoption, adopt};
use crate::lease::{LONGEST_GRACE, Session};
use crate::remote::documents::{self, Origin, Planned};
use crate::remote::{Event, Events, reporter};
use crate::{Error, Result, Store};

/// Layers that come at a time: while one waits for its recipe, others use the wire.
const AT_ONCE: usize = 4;

/// What to receive.
#[derive(Clone, Debug)]
pub struct Receive {
    /// Name to set.
    pub name: Reference,
    /// Which images of an index.
    pub platforms: Platforms,
    /// Compressed layers come as they are.
    pub keep_compressed: bool,
}

/// What was received.
#[derive(Clone, Debug)]
pub struct Received {
    /// What the name points at.
    pub target: Descriptor,
    /// The image that is unpacked, if there is one.
    pub image: Option<Digest>,
    /// Bytes of answers.
    pub moved: u64,
    /// Bytes that were here.
    pub spared: u64,
}

/// Receives an image.
pub async fn receive(
    store: &Arc<Store>,
    what: Receive,
    peer: &Arc<Peer>,
    events: &Events,
    told: mpsc::Sender<Spared>,
) -> Result<Received> {
    let session = Session::begin(store, "receiving an image", LONGEST_GRACE).await?;
    let origin = Arc::new(Documents { peer: Arc::clone(peer), foreign: Mutex::default() });
    let (target, bytes) = origin.root(store).await?;
    let root = Root::new(target.clone(), vec![what.name.clone()]);
    let planned = documents::plan(store, origin.clone(), root, bytes, what.platforms.clone()).await?;
    planned.keep(store, &*origin, &target, &session.lease().id).await?;
    let layers = Layers {
        store: Arc::clone(store),
        peer: Arc::clone(peer),
        lease: session.lease().id.clone(),
        report: reporter(events.clone()),
        told,
        keep_compressed: what.keep_compressed,
        spared: AtomicU64::new(0),
    };
    let image = Work { what: &what, planned: &planned, target: &target, layers: &layers, events }.carry_out().await?;
    // Only now: what a transfer brought that fails, or is cut off, is of use to the next one.
    session.end().await?;
    Ok(Received { target, image, moved: peer.moved(), spared: layers.spared.into_inner() })
}

struct Work<'a> {
    what: &'a Receive,
    planned: &'a Planned,
    target: &'a Descriptor,
    layers: &'a Layers,
    events: &'a Events,
}

impl Work<'_> {
    async fn carry_out(&self) -> Result<Option<Digest>> {
        let images = self.planned.images();
        let unpacked = documents::unpacked(&self.what.platforms, &images);
        let mut seen = BTreeSet::new();
        let entries = images.iter().flat_map(|image| &image.layers).map(|layer| layer.descriptor.clone());
        let layers = entries.filter(|layer| seen.insert(layer.digest)).collect();
        self.events.tell(Event::Resolved { target: self.target.clone(), layers }).await;

        let mut diff_ids: BTreeMap<Digest, Digest> = BTreeMap::new();
        if let Some(image) = unpacked {
            let digests = image.layers.iter().map(|layer| layer.descriptor.digest);
            diff_ids.extend(digests.zip(image.diff_ids.iter().copied()));
        }
        let blobs = self.planned.plan.blobs().iter();
        let blobs = blobs.filter(|blob| !self.planned.documents.contains_key(&blob.descriptor.digest));
        let coming = blobs.map(|blob| (blob.descriptor.clone(), diff_ids.get(&blob.descriptor.digest).copied()));
        stream::iter(coming.collect::<Vec<_>>())
            .map(|(blob, diff_id)| async move {
                match diff_id {
                    Some(diff_id) => self.layers.layer(&blob, &diff_id).await,
                    None => self.layers.blob(&blob).await,
                }
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;

        let blobs = self.planned.plan.blobs().iter().map(|blob| blob.descriptor.digest).chain([self.target.digest]);
        let adoption = Adoption {
            target: self.target.digest,
            images: unpacked.into_iter().cloned().collect(),
            blobs: blobs.collect(),
            names: vec![self.what.name.clone()],
            lease: self.layers.lease.clone(),
        };
        adopt(&self.layers.store, adoption).await?;
        Ok(unpacked.map(|image| image.config.digest))
    }
}

/// The other store as an origin of documents.
struct Documents {
    peer: Arc<Peer>,
    /// Those that came, and that others know as well.
    foreign: Mutex<HashSet<Digest>>,
}

impl Documents {
    /// What the name stands for.
    async fn root(&self, store: &Store) -> Result<(Descriptor, Bytes)> {
        let reply = self.peer.ask(Question::Image).await?;
        if reply.head.store_id == store.instance {
            return Err(Error::SameStore);
        }
        let descriptor = reply.head.descriptor.clone().ok_or_else(|| wrong("the image has no descriptor"))?;
        let bytes = self.read(reply, &descriptor).await?;
        Ok((descriptor, bytes))
    }

    async fn read(&self, reply: Reply, descriptor: &Descriptor) -> Result<Bytes> {
        let (digest, size) = (descriptor.digest, descriptor.size);
        if size > Limits::default().max_manifest {
            return Err(wrong(format!("document {digest} has {size} bytes")));
        }
        let is_foreign = !reply.head.is_made_here;
        let bytes = reply.whole(size).await?;
        let actual = crate::blob::digest(&bytes);
        if actual != digest || bytes.len() as u64 != size {
            return Err(Error::DigestMismatch { expected: digest.to_string(), actual: actual.to_string() });
        }
        if is_foreign {
            self.foreign.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
        }
        Ok(bytes.into())
    }
}

impl Origin for Documents {
    fn document<'a>(&'a self, descriptor: &'a Descriptor) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            let media_type = descriptor.media_type.as_str();
            let is_document = media_type::is_index(media_type) || media_type::is_manifest(media_type);
            let digest = descriptor.digest;
            let question = if is_document { Question::Document(digest) } else { Question::Blob { digest, offset: 0 } };
            let reply = self.peer.ask(question).await?;
            match (reply.head.is_absent, is_document) {
                (true, _) => Ok(None),
                (false, true) => self.read(reply, descriptor).await.map(Some),
                // The plan looks at the digest.
                (false, false) => Ok(Some(reply.whole(descriptor.size).await?.into())),
            }
        })
    }

    fn is_own(&self, digest: &Digest) -> bool {
        // One that did not come was here before, and stays what it is.
        !self.foreign.lock().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }
}
