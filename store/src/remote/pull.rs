//! Pulls: documents first, then layers side by side from the wire into their trees, the name last.
//!
//! What a pull that was stopped has brought stays for an hour, whole layers as such and others as partial blobs: the next
//! pull of anything that needs them goes on from there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, future::try_join_all, stream, stream::BoxStream};
use strata_image::{Image as PlannedImage, Platforms};
use strata_registry::{Host, Kind, Progress, Repository, Target};
use strata_types::{Descriptor, Digest, LeaseId, Reference};

use super::documents::{self, Planned};
use super::{Event, Events, Identity, Stage, target};
use crate::blob::{Partial, PartialName};
use crate::image::{Adoption, Image, adopt_telling};
use crate::ingest::{self, Fetch, Order, Prefix, Report, Step, Writeback};
use crate::lease::{LONGEST_GRACE, Session};
use crate::{Error, Result, Store, document, image};

/// Progress of a layer is told no more often.
const PAUSE: Duration = Duration::from_millis(100);

/// What to pull.
#[derive(Clone, Debug)]
pub struct Pull {
    /// The image; a digest counts before a tag.
    pub reference: Reference,
    /// Which of its images.
    pub platforms: Platforms,
    /// Who we are.
    pub identity: Identity,
    /// Lease to hold the image afterwards.
    pub lease: Option<LeaseId>,
    /// What the tag is known to stand for. `None`: what it stands for now.
    pub known: Option<Digest>,
    /// When it goes to the disk.
    pub writeback: Writeback,
}

impl Pull {
    fn target(&self) -> Target {
        self.known.map_or_else(|| target(&self.reference), Target::Digest)
    }
}

/// What was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// What the reference stands for.
    pub target: Descriptor,
    /// The name that was set; none for a digest.
    pub name: Option<Reference>,
    /// All of it was here before, and the name pointed there.
    pub was_current: bool,
    /// The image; none where nothing of an index is for this machine.
    pub image: Option<Image>,
}

/// Pulls an image.
pub async fn pull(store: &Arc<Store>, pull: Pull, events: &Events) -> Result<Pulled> {
    let (id, name) = (pull.reference.familiar(), pull.reference.familiar_name());
    let pulled = bring(store, pull, events).await?;
    store.happened("pull", id, name);
    Ok(pulled)
}

async fn bring(store: &Arc<Store>, pull: Pull, events: &Events) -> Result<Pulled> {
    let repository = store.remotes.repository(&pull.reference, &pull.identity)?;
    if let Some(current) = current(store, &pull, &repository).await? {
        return Ok(current);
    }
    let session = Session::begin(store, "a pull", LONGEST_GRACE).await?;
    let lease = session.lease().id.clone();
    let root = repository.manifest(&pull.target()).await?;
    let target = Descriptor::new(&*root.media_type, root.digest, root.bytes.len() as u64);
    let named = strata_image::Root::new(target.clone(), vec![pull.reference.clone()]);
    let origin = Arc::new(repository.clone());
    let planned = documents::plan(store, origin, named, root.bytes, pull.platforms.clone()).await?;
    let adoption = Work { store, pull: &pull, repository, lease, events }.bring(&target, &planned).await?;
    let ending = Ending { store: Arc::clone(store), session, pull, target, events: events.clone() };
    // What is all here is brought to its end, whoever leaves.
    let busy = store.idle.busy();
    let ended = store.drain.spawn(async move {
        let pulled = ending.run(adoption).await;
        drop(busy);
        if let Err(error) = &pulled {
            // Who has left already would never hear of it.
            tracing::warn!("a pull could not be ended: {}", strata_rpc::fault::chain(error));
        }
        pulled
    });
    match ended.await {
        Ok(pulled) => pulled,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::Interrupted),
    }
}

/// A pull whose image is all here.
struct Ending {
    store: Arc<Store>,
    session: Session,
    pull: Pull,
    target: Descriptor,
    events: Events,
}

impl Ending {
    /// Makes the image and names it, after all of it is on disk.
    async fn run(self, adoption: Adoption) -> Result<Pulled> {
        let reference = &self.pull.reference;
        let manifest = adoption.images.first().map(|image| image.manifest.digest);
        let events = &self.events;
        adopt_telling(&self.store, adoption, || events.note(Event::Usable)).await?;
        let image = match manifest {
            // Held by whoever asked before this pull lets go.
            Some(manifest) => {
                let text = reference.with_digest(manifest).to_string();
                Some(image::get(&self.store, &text, self.pull.lease.clone()).await?)
            }
            None => None,
        };
        // Only now: what a pull brought that fails, or is stopped, is of use to the next one.
        self.session.end().await?;
        let name = reference.digest().is_none().then(|| reference.clone());
        Ok(Pulled { target: self.target, name, was_current: false, image })
    }
}

/// The image, if it is here and what its name points at is still what the registry has. Costs one small request, and
/// none for a digest.
async fn current(store: &Arc<Store>, pull: &Pull, repository: &Repository) -> Result<Option<Pulled>> {
    let reference = &pull.reference;
    let text = match reference.digest() {
        Some(digest) => reference.with_digest(*digest).to_string(),
        None => reference.to_string(),
    };
    let found = image::get_on(store, &text, pull.platforms.clone(), pull.lease.clone()).await;
    let image = match found {
        Ok(image) => image,
        Err(
            Error::ImageNotFound { .. }
            | Error::ImageNotUnpacked { .. }
            | Error::PlatformNotHere { .. }
            | Error::DocumentNotFound { .. },
        ) => return Ok(None),
        // Another platform of it may be here.
        Err(Error::Image(strata_image::Error::NoPlatform { .. })) => return Ok(None),
        Err(error) => return Err(error),
    };
    let here = match reference.digest() {
        Some(digest) => store.catalog.document(digest).await?,
        None => match store.catalog.target(reference).await? {
            Some(row) => row,
            None => return Ok(None),
        },
    };
    if pull.platforms == Platforms::All && !document::missing(store, &here.digest).await?.is_empty() {
        return Ok(None);
    }
    if let (None, Some(tag)) = (reference.digest(), reference.tag()) {
        let there = match pull.known {
            Some(known) => Some(known),
            None => repository.resolve(tag).await?.map(|there| there.digest),
        };
        if there.is_none_or(|there| there != here.digest) {
            return Ok(None);
        }
    }
    let name = reference.digest().is_none().then(|| reference.clone());
    Ok(Some(Pulled { target: here.descriptor(), name, was_current: true, image: Some(image) }))
}

struct Work<'a> {
    store: &'a Arc<Store>,
    pull: &'a Pull,
    repository: Repository,
    lease: LeaseId,
    events: &'a Events,
}

impl Work<'_> {
    /// Brings all of it here; returns what is to be made of it.
    async fn bring(&self, target: &Descriptor, planned: &Planned) -> Result<Adoption> {
        let images = planned.images();
        let unpacked = documents::unpacked(&self.pull.platforms, &images);
        let mut layers: Vec<Descriptor> =
            images.iter().flat_map(|image| &image.layers).map(|layer| layer.descriptor.clone()).collect();
        let mut seen = BTreeSet::new();
        layers.retain(|layer| seen.insert(layer.digest));
        self.events.tell(Event::Resolved { target: target.clone(), layers }).await;

        planned.keep(self.store, &self.repository, target, &self.lease).await?;
        self.fetch(planned, unpacked).await?;
        let reference = &self.pull.reference;
        let blobs = planned.plan.blobs().iter().map(|blob| blob.descriptor.digest).chain([target.digest]);
        Ok(Adoption {
            target: target.digest,
            images: unpacked.into_iter().cloned().collect(),
            blobs: blobs.collect(),
            names: reference.digest().is_none().then(|| reference.clone()).into_iter().collect(),
            lease: self.lease.clone(),
        })
    }

    /// Fetches what is no document, side by side: layers that are unpacked, and other blobs as they are.
    async fn fetch(&self, planned: &Planned, unpacked: Option<&PlannedImage>) -> Result<()> {
        let mut diff_ids: BTreeMap<Digest, Digest> = BTreeMap::new();
        if let Some(image) = unpacked {
            let digests = image.layers.iter().map(|layer| layer.descriptor.digest);
            diff_ids.extend(digests.zip(image.diff_ids.iter().copied()));
        }
        let source = Arc::new(Source {
            repository: self.repository.clone(),
            name: format!("{}/{}", Host::of(&self.pull.reference), self.pull.reference.path()),
        });
        let report = reporter(self.events.clone());
        let sources = self.store.remotes.settings().hosts(&Host::of(&self.pull.reference)).len();
        let blobs = planned.plan.blobs().iter().filter(|blob| !planned.documents.contains_key(&blob.descriptor.digest));
        let fetches = blobs.map(|blob| {
            let order = Order {
                fetch: source.clone(),
                lease: self.lease.clone(),
                report: report.clone(),
                writeback: self.pull.writeback,
                blob: blob.descriptor.clone(),
            };
            let diff_id = diff_ids.get(&blob.descriptor.digest).copied();
            async move {
                match diff_id {
                    Some(diff_id) => layer(self.store, order, diff_id, sources).await,
                    None => ingest::blob(self.store, order).await.map(|_| ()),
                }
            }
        });
        try_join_all(fetches.collect::<Vec<_>>()).await?;
        Ok(())
    }
}

/// A repository as a source of layers.
pub(crate) struct Source {
    pub(crate) repository: Repository,
    pub(crate) name: String,
}

impl Fetch for Source {
    fn fetch(&self, blob: &Descriptor, prefix: Prefix) -> BoxStream<'static, Result<Bytes>> {
        let reader = self.repository.blob(blob, Progress::resumed(prefix.hasher, prefix.bytes));
        let next = |mut reader: strata_registry::BlobReader| async move {
            Ok(reader.next().await?.map(|bytes| (bytes, reader)))
        };
        stream::try_unfold(reader, next).boxed()
    }

    fn repository(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn checks(&self) -> bool {
        true
    }
}

/// Brings a layer here. Where its bytes were wrong, or looked like no archive before they were all there, what came is
/// thrown away and fetched anew, and checked before it is unpacked; a source that lied is not asked again, so that in
/// at most `sources` more tries every mirror had its turn.
async fn layer(store: &Arc<Store>, order: Order, diff_id: Digest, sources: usize) -> Result<()> {
    let mut failure = match ingest::layer(store, order.clone(), diff_id).await {
        Ok(_) => return Ok(()),
        Err(error) if is_suspect(&error) => error,
        Err(error) => return Err(error),
    };
    for _ in 0..sources {
        let Ok(partial) = Partial::open(store, &PartialName::Blob(order.blob.digest)).await else {
            // Another pull has it already, and will find out for itself.
            return Err(failure);
        };
        if partial.offset() == 0 && store.catalog.blob(&order.blob.digest).await.is_ok() {
            // The whole blob is here and right: its archive is what is wrong.
            return Err(failure);
        }
        partial.discard().await?;
        match ingest::blob(store, order.clone()).await {
            Ok(_) => return ingest::layer(store, order, diff_id).await.map(drop),
            Err(error) if is_suspect(&error) => failure = error,
            Err(error) => return Err(error),
        }
    }
    Err(failure)
}

/// May the bytes that came be to blame, which are kept for the next try?
pub(super) fn is_suspect(error: &Error) -> bool {
    match error {
        Error::Registry(error) => error.kind() == Kind::Corrupt,
        Error::Archive { .. } | Error::DigestMismatch { .. } => true,
        _ => false,
    }
}

/// Tells of the steps of blobs: of bytes now and then, of all else each time.
pub(crate) fn reporter(events: Events) -> Report {
    let told: Mutex<HashMap<Digest, Instant>> = Mutex::default();
    Arc::new(move |digest, step| {
        let (stage, offset, size) = match step {
            Step::Waiting => (Stage::Waiting, 0, 0),
            Step::Kept { .. } => return,
            Step::Fetching { bytes, of } => {
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                let now = Instant::now();
                if told.get(digest).is_some_and(|last| now.duration_since(*last) < PAUSE) {
                    return;
                }
                told.insert(*digest, now);
                let event = Event::Transfer { digest: *digest, stage: Stage::Moving, offset: bytes, size: of };
                return events.hint(event);
            }
            Step::Unpacking => (Stage::Unpacking, 0, 0),
            Step::Exists => (Stage::Exists, 0, 0),
            Step::Done => (Stage::Done, 0, 0),
        };
        events.note(Event::Transfer { digest: *digest, stage, offset, size });
    })
}
