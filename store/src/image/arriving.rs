//! Images on their way to the disk: all of them is here and checked, and nobody knows yet whether it would survive the
//! host. A container that need not survive it either starts from one; everything else waits for the end, which is not far.
//! All of this is in memory: what a crash leaves of an image that was still arriving are layers without a name.

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

    /// The newest that a text means.
    fn find(&self, wanted: &Wanted) -> Option<Arc<Arrival>> {
        let is_meant = |arrival: &&Arc<Arrival>| match (&wanted.manifest, &wanted.name) {
            (Some(digest), _) => {
                arrival.target == *digest || arrival.images.iter().any(|image| image.row.manifest == *digest)
            }
            (None, Some(name)) => arrival.names.contains(name),
            (None, None) => false,
        };
        self.all().iter().rev().find(is_meant).cloned()
    }

    /// The image that a text and its platforms mean, if it arrives now.
    pub(crate) fn image(&self, wanted: &Wanted) -> Option<Image> {
        let arrival = self.find(wanted)?;
        let platforms: Vec<_> = arrival.images.iter().map(|image| &image.row.platform).collect();
        let best = wanted.platforms.best(&platforms)?;
        Some(arrival.images[best].clone())
    }

    /// Waits until nothing arrives that a text means.
    pub(crate) async fn settled(&self, wanted: &Wanted) {
        while let Some(arrival) = self.find(wanted) {
            arrival.ended.cancelled().await;
        }
    }
}

impl Announced {
    /// Lets everybody know what arrives.
    pub(super) fn new(store: &Arc<Store>, images: Vec<Image>, names: &[Reference], target: Digest) -> Self {
        let names = names.iter().map(Reference::to_string).collect();
        let arrival = Arc::new(Arrival { images, names, target, ended: CancellationToken::new() });
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
