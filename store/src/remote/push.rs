//! Pushes: layers first, side by side, then configs and documents from the inside out, the tag last.
//!
//! Layers of images made here have no compressed form: it is made on the way, the largest first, and sent while it is
//! made; the manifest says so. What came from a registry goes as it came, byte for byte.

mod blob;
mod document;
mod form;

use std::sync::Arc;
use std::time::Duration;

use strata_archive::Compression;
use strata_registry::{Host, Repository, Target};
use strata_types::{Descriptor, LeaseId, Platform, Reference};
use tokio::sync::Semaphore;

use super::{Events, Identity};
use crate::lease::Session;
use crate::{Error, Result, Store};

pub use form::Form;
pub(crate) use form::rewritten;

/// What a push still holds for a moment after its end.
const GRACE: Duration = Duration::from_secs(10);
/// Layers that are compressed at a time; each takes all processors.
const COMPRESSING: usize = 2;

/// What to push.
#[derive(Clone, Debug)]
pub struct Push {
    /// The name; it says where to.
    pub reference: Reference,
    /// The name that it has here, where that is another.
    pub source: Option<Reference>,
    /// Only the image of this platform.
    pub platform: Option<Platform>,
    /// Compression of layers that have no compressed form; none: the registry's setting, else gzip.
    pub compression: Option<Compression>,
    /// Compress those that are compressed in another way too.
    pub force: bool,
    /// Form of images and indexes there, where it shall not be their own.
    pub form: Option<Form>,
    /// Who we are.
    pub identity: Identity,
}

/// What was pushed.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// What the tag points at now.
    pub target: Descriptor,
    /// One image of an index was pushed: the others are not all here.
    pub is_partial: bool,
}

/// Pushes an image.
pub async fn push(store: &Arc<Store>, push: Push, events: &Events) -> Result<Pushed> {
    let session = Session::begin(store, "a push", GRACE).await?;
    let lease = session.lease().id.clone();
    let (id, name) = (push.reference.familiar(), push.reference.familiar_name());
    let result = run(store, push, &lease, events).await;
    // What was compressed for it stays only if something else wants it.
    let ended = session.end().await;
    let pushed = result?;
    ended?;
    store.happened("push", id, name);
    Ok(pushed)
}

async fn run(store: &Arc<Store>, push: Push, lease: &LeaseId, events: &Events) -> Result<Pushed> {
    let repository = store.remotes.repository(&push.reference, &push.identity)?;
    let source = push.source.as_ref().unwrap_or(&push.reference);
    let root = store.catalog.target(source).await?;
    let root = root.ok_or_else(|| Error::ImageNotFound { reference: source.familiar() })?;
    store.catalog.hold_document(&root.digest, lease).await?;
    let setting = store.remotes.settings().settings(&Host::of(&push.reference)).compression;
    let work = Work {
        store: Arc::clone(store),
        registry: Host::of(&push.reference),
        repository,
        path: push.reference.path().to_owned(),
        lease: lease.clone(),
        identity: push.identity.clone(),
        compression: match push.compression.or(setting.map(super::compression)).unwrap_or(Compression::Gzip) {
            Compression::Zstd if push.form == Some(Form::Docker) => Compression::Gzip,
            compression => compression,
        },
        force: push.force,
        form: push.form,
        events: events.clone(),
        compressing: Semaphore::new(COMPRESSING),
    };
    let chosen = work.choose(&root, source, push.platform.clone()).await?;
    let tag = Target::Tag(push.reference.tag().unwrap_or("latest").to_owned());
    let target = work.document(chosen.clone(), Some(tag)).await?;
    Ok(Pushed { target, is_partial: chosen.digest != root.digest && push.platform.is_none() })
}

struct Work {
    store: Arc<Store>,
    registry: Host,
    repository: Repository,
    path: String,
    lease: LeaseId,
    identity: Identity,
    compression: Compression,
    force: bool,
    form: Option<Form>,
    events: Events,
    compressing: Semaphore,
}
