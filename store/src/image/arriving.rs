//! Images on their way to the disk: all of them is here and checked, and nobody knows yet whether it would survive the
//! host. A container that need not survive it either starts from one; everything else waits for the end, which is not far.
//! A list waits only for those that a container started from: whoever ran one finds it in the list.
//! All of this is in memory: what a crash leaves of an image that was still arriving are layers without a name.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use strata_types::{Digest, Reference};
use tokio_util::sync::CancellationToken;

use super::{Image, Wanted};
use crate::Store;

/// The images that arrive now.
#[derive(Debug, Default)]
pub struct Arriving(Mutex<Vec<Arc<Arrival>>>);

/// What arrives together.
#[derive(Debug)]
struct Arrival {
    images: Vec<Image>,
    names: Vec<String>,
    target: Digest,
    /// A container started from it.
    is_used: AtomicBool,
    /// Cancelled when it has come to its end, good or bad.
    ended: CancellationToken,
}

/// Dropped, what was announced arrives no longer.
#[derive(Debug)]
pub(super) struct Announced {
    store: Arc<Store>,
    arrival: Arc<Arrival>,
}

impl Arriving {
    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Arrival>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest that answers to a condition.
    fn find(&self, is_meant: impl Fn(&Arrival) -> bool) -> Option<Arc<Arrival>> {
        self.all().iter().rev().find(|arrival| is_meant(arrival)).cloned()
    }

    /// The image that a text and its platforms mean, if it arrives now.
    pub(crate) fn image(&self, wanted: &Wanted) -> Option<Image> {
        let arrival = self.find(|arrival| arrival.is(wanted))?;
        let platforms: Vec<_> = arrival.images.iter().map(|image| &image.row.platform).collect();
        let best = wanted.platforms.best(&platforms)?;
        arrival.is_used.store(true, Ordering::Relaxed);
        Some(arrival.images[best].clone())
    }

    /// Waits until nothing arrives that a text means.
    pub(crate) async fn settled(&self, wanted: &Wanted) {
        while let Some(arrival) = self.find(|arrival| arrival.is(wanted) || arrival.has_id(wanted)) {
            arrival.ended.cancelled().await;
        }
    }

    /// Waits until nothing arrives that a container started from.
    pub(crate) async fn used_settled(&self) {
        while let Some(arrival) = self.find(|arrival| arrival.is_used.load(Ordering::Relaxed)) {
            arrival.ended.cancelled().await;
        }
    }
}

impl Arrival {
    /// By name or digest.
    fn is(&self, wanted: &Wanted) -> bool {
        match (&wanted.manifest, &wanted.name) {
            (Some(digest), _) => {
                self.target == *digest || self.images.iter().any(|image| image.row.manifest == *digest)
            }
            (None, Some(name)) => self.names.contains(name),
            (None, None) => false,
        }
    }

    /// By the start of an id.
    fn has_id(&self, wanted: &Wanted) -> bool {
        let Some(prefix) = &wanted.prefix else { return false };
        self.images.iter().any(|image| image.row.id.as_hex().starts_with(prefix))
    }
}

impl Announced {
    /// Lets everybody know what arrives.
    pub(super) fn new(store: &Arc<Store>, images: Vec<Image>, names: &[Reference], target: Digest) -> Self {
        let names = names.iter().map(Reference::to_string).collect();
        let arrival = Arc::new(Arrival {
            images,
            names,
            target,
            is_used: AtomicBool::new(false),
            ended: CancellationToken::new(),
        });
        store.arriving.all().push(Arc::clone(&arrival));
        Self { store: Arc::clone(store), arrival }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        self.store.arriving.all().retain(|other| !Arc::ptr_eq(other, &self.arrival));
        self.arrival.ended.cancel();
    }
}
