//! Garbage collection: the catalog says what nothing references, one object at a time loses its row, and its files go to
//! the trash in the same transaction.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use strata_rpc::{Drain, fault::chain};
use strata_types::{Digest, ImageConfig, LabelCondition};
use tokio::sync::{Mutex, Notify};

use crate::catalog::{Pruned, Reclaim, blocking};
use crate::config::Keep;
use crate::{Result, Store};

/// Wakes the collector, and keeps two collections apart.
#[derive(Debug, Default)]
pub struct Collector {
    woken: Notify,
    running: Mutex<()>,
}

impl Collector {
    /// Something may have become garbage. Many calls are one collection.
    pub fn wake(&self) {
        self.woken.notify_one();
    }
}

/// What a prune shall take.
#[derive(Clone, Debug, Default)]
pub struct Prune {
    /// Every image that no container uses, not only those without a name.
    pub all_images: bool,
    /// Build cache records too.
    pub cache: bool,
    /// Images without a name, and nothing else.
    pub images_only: bool,
    /// Only images made before this, in milliseconds since 1970.
    pub before: Option<i64>,
    /// What the labels of images must be.
    pub labels: Vec<LabelCondition>,
}

/// Collects in the background until the service stops.
pub async fn run(store: Arc<Store>, drain: Drain) {
    // Set when some garbage was too young for the last collection.
    let mut again = None;
    loop {
        let next = match expire(&store).await {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!("cannot expire leases: {}", chain(&error));
                Duration::from_secs(60)
            }
        };
        let woken = async {
            tokio::select! {
                () = tokio::time::sleep(again.map_or(next, |again| next.min(again))) => {}
                () = store.collector.woken.notified() => {}
            }
            tokio::time::sleep(store.config.garbage_delay()).await;
        };
        tokio::select! {
            () = drain.cancelled() => {
                // What was found since is worth little more than this attempt.
                if let Err(error) = store.write_cache_finds().await {
                    tracing::warn!("cannot write down what the build cache gave: {}", chain(&error));
                }
                return;
            }
            () = woken => {}
        }
        match expire(&store).await {
            Ok(_) => {}
            Err(error) => tracing::warn!("cannot expire leases: {}", chain(&error)),
        }
        if let Err(error) = store.write_cache_deeds().await {
            tracing::warn!("cannot write down what build steps did: {}", chain(&error));
        }
        if let Err(error) = store.apply_cache_policies().await {
            tracing::warn!("cannot apply the policies of the build cache: {}", chain(&error));
        }
        match collect(&store, store.config.garbage_grace()).await {
            Ok((_, is_young_left)) => {
                again = is_young_left.then(|| store.config.garbage_grace() + Duration::from_secs(1));
            }
            Err(error) => tracing::warn!("cannot collect garbage: {}", chain(&error)),
        }
    }
}

/// Ends leases whose time is over, with the snapshots that belong to them; returns how long to wait for the next.
async fn expire(store: &Arc<Store>) -> Result<Duration> {
    let (expired, next) = store.catalog.expire_leases().await?;
    if expired > 0 {
        store.collector.wake();
    }
    let wait = next.map_or(3_600_000, |at| at.saturating_sub(crate::catalog::now()).clamp(100, 3_600_000));
    Ok(Duration::from_millis(u64::try_from(wait).unwrap_or(100)))
}

/// Removes snapshots of ended leases, layers and blobs that nothing references, and contents of ended leases.
/// Returns the bytes freed, and whether some objects were too young.
pub async fn collect(store: &Arc<Store>, grace: Duration) -> Result<(u64, bool)> {
    let _running = store.collector.running.lock().await;
    let mut freed = 0;
    end_snapshots(store).await?;
    store.catalog.sweep_documents(millis(grace)).await?;
    let garbage = store.catalog.garbage(millis(grace)).await?;
    for id in &garbage.layers {
        let (path, trash) = (store.paths.layer(id), store.trash.clone());
        let reclaimed = store.catalog.reclaim_layer(id, move || trash.discard(&path).map(drop)).await?;
        if let Reclaim::Freed(bytes) = reclaimed {
            freed += bytes;
        }
    }
    if !garbage.layers.is_empty() {
        store.forget_gone_layers().await?;
    }
    // Tables of contents of the layers that just went are garbage now.
    let garbage_now =
        if garbage.layers.is_empty() { garbage.clone() } else { store.catalog.garbage(millis(grace)).await? };
    for digest in &garbage_now.blobs {
        let (path, trash) = (store.paths.blob(digest), store.trash.clone());
        // Nobody may store the same bytes between the end of the row and the end of the file.
        let _guard = store.placing.write().await;
        let reclaimed = store.catalog.reclaim_blob(digest, move || trash.discard(&path).map(drop)).await?;
        if let Reclaim::Freed(bytes) = reclaimed {
            freed += bytes;
        }
    }
    let (room, is_blob_left) = let_blobs_go(store, grace).await?;
    freed += room;
    freed += store.sweep_contents().await?;
    let this = Arc::clone(store);
    freed += blocking(move || crate::blob::sweep_partials(&this, this.config.partial_time())).await?;
    Ok((freed, garbage_now.is_young_left || is_blob_left))
}

/// Lets go of the blobs of layers that need not be kept; returns the bytes freed, and whether some were too young.
async fn let_blobs_go(store: &Arc<Store>, grace: Duration) -> Result<(u64, bool)> {
    if store.config.blobs.keep == Keep::Always {
        return Ok((0, false));
    }
    let (blobs, is_young_left) = store.catalog.blobs_elsewhere(millis(grace)).await?;
    let mut freed = 0;
    for digest in &blobs {
        let (path, trash) = (store.paths.blob(digest), store.trash.clone());
        let _guard = store.placing.write().await;
        if let Reclaim::Freed(bytes) = store.catalog.let_blob_go(digest, move || trash.discard(&path).map(drop)).await?
        {
            freed += bytes;
        }
    }
    Ok((freed, is_young_left))
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Snapshots go with the lease that they belong to.
async fn end_snapshots(store: &Arc<Store>) -> Result<()> {
    for row in store.catalog.snapshots_ended().await? {
        store.catalog.end_snapshot(&row.key).await?;
        crate::snapshot::discard(store, &row).await?;
    }
    Ok(())
}

/// The images that conditions let go; none where there are no conditions.
async fn meant(store: &Arc<Store>, what: &Prune) -> Result<Option<HashSet<Digest>>> {
    if what.before.is_none() && what.labels.is_empty() {
        return Ok(None);
    }
    let mut meant = HashSet::new();
    for row in store.catalog.unused_images(what.all_images).await? {
        if what.before.is_some_and(|before| row.made.is_none_or(|made| made >= before)) {
            continue;
        }
        let labels = match what.labels.is_empty() {
            true => BTreeMap::new(),
            // An image whose config cannot be read has none.
            false => serde_json::from_slice::<ImageConfig>(&crate::image::config_json(store, &row).await?)
                .map(|config| config.config.labels)
                .unwrap_or_default(),
        };
        if what.labels.iter().all(|condition| condition.holds(&labels)) {
            meant.insert(row.id);
        }
    }
    Ok(Some(meant))
}

/// Removes what a person asks to be rid of, then collects at once.
pub async fn prune(store: &Arc<Store>, what: Prune) -> Result<Pruned> {
    let removed = store.catalog.prune_images(what.all_images, meant(store, &what).await?).await?;
    store.removed(&removed);
    store.build_cache_changed();
    let mut pruned = Pruned { untagged: removed.untagged, deleted: removed.deleted, ..Pruned::default() };
    if what.cache && !what.images_only {
        pruned.cache_records = store.catalog.remove_all_cache_records().await?;
    }
    store.catalog.expire_leases().await?;
    pruned.reclaimed = collect(store, Duration::ZERO).await?.0;
    // Whoever prunes wants the room.
    store.trash.empty().await?;
    Ok(pruned)
}

#[cfg(test)]
mod tests;
