//! What the archive of a layer is: its diff-id and its table of contents, computed behind.

mod batch;

use std::os::fd::AsFd;
use std::sync::Arc;

use strata_archive::{Applied, DiffOptions, Toc};
use strata_types::{Digest, LayerId};
use tokio::sync::{oneshot, watch};

use batch::Described;

pub(super) use batch::Batch;

use super::open_directory;
use crate::catalog::{Description, LayerRow, blocking};
use crate::{Error, Result, Store};

/// How far a description is: under way, done, or failed for a reason that is kept.
pub(super) type Progress = Option<Result<(), String>>;

/// Waits until a layer has its diff-id.
///
/// A layer whose tree cannot become an archive says so to everybody who asks.
pub async fn describe(store: &Arc<Store>, id: &LayerId) -> Result<LayerRow> {
    let row = store.catalog.layers_usable(std::slice::from_ref(id)).await?.remove(0);
    if row.diff_id.is_some() {
        return Ok(row);
    }
    let _waiting = store.layers.batch.wait();
    let mut progress = start(store, id);
    let ended = progress.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
    match ended {
        Ok(Some(Err(problem))) => Err(Error::LayerDamaged { id: id.clone(), problem }),
        Ok(_) => store.catalog.layer(id).await,
        Err(_) => Err(Error::LayerDamaged { id: id.clone(), problem: "its description was cut off".to_owned() }),
    }
}

/// Reads the table of contents of a layer; waits until there is one.
pub async fn table_of_contents(store: &Arc<Store>, id: &LayerId) -> Result<Toc> {
    let row = describe(store, id).await?;
    let problem = || "it has no table of contents".to_owned();
    let digest = row.toc.ok_or_else(|| Error::LayerDamaged { id: id.clone(), problem: problem() })?;
    let bytes = match crate::blob::read(store, &digest).await {
        // The layer went meanwhile, and what belonged to it.
        Err(Error::BlobNotFound { .. }) => return Err(Error::LayerNotFound { id: id.clone() }),
        read => read?,
    };
    blocking(move || Toc::decode(&bytes).map_err(|source| Error::Archive { source })).await
}

/// Starts to describe the layers whose description a restart cut off.
pub async fn resume(store: &Arc<Store>) -> Result<()> {
    for id in store.catalog.layers_undescribed().await? {
        start(store, &id);
    }
    Ok(())
}

/// Starts to describe a layer unless that has begun. Descriptions start in the order of these calls.
pub(crate) fn start(store: &Arc<Store>, id: &LayerId) -> watch::Receiver<Progress> {
    let mut describing = store.layers.describing.lock().unwrap_or_else(|poison| poison.into_inner());
    if let Some(progress) = describing.get(id) {
        return progress.clone();
    }
    let (sender, receiver) = watch::channel(None);
    describing.insert(id.clone(), receiver.clone());
    drop(describing);
    let (store, id, busy) = (Arc::clone(store), id.clone(), store.idle.busy());
    let drain = store.drain.clone();
    drain.spawn(async move {
        let outcome = compute(&store, &id).await;
        let outcome = outcome.map_err(|error| {
            let problem = strata_rpc::fault::chain(&error);
            tracing::warn!(layer = id.as_str(), "cannot describe layer: {problem}");
            problem
        });
        if outcome.is_ok() {
            store.layers.describing.lock().unwrap_or_else(|poison| poison.into_inner()).remove(&id);
        }
        sender.send_replace(Some(outcome));
        drop(busy);
    });
    receiver
}

async fn compute(store: &Arc<Store>, id: &LayerId) -> Result<()> {
    let permits = Arc::clone(&store.layers.permits);
    // Fair: permits are given in the order in which they are asked for. It is never closed.
    let permit = permits.acquire_owned().await;
    let path = store.paths.layer(id);
    let applied = blocking(move || {
        let directory = open_directory(&path)?;
        strata_archive::diff(directory.as_fd(), &DiffOptions::default()).map_err(|source| Error::Archive { source })
    })
    .await?;
    drop(permit);
    let diff_id = diff_id(id, &applied)?;
    let (description, bytes, toc) = described(id, diff_id, applied).await;
    let (written, is_written) = oneshot::channel();
    store.layers.batch.push(store, Described { description, bytes, toc, written });
    match is_written.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(problem)) => Err(Error::LayerDamaged { id: id.clone(), problem }),
        Err(_) => Err(Error::Interrupted),
    }
}

/// Reads the diff-id of an archive.
pub(super) fn diff_id(id: &LayerId, applied: &Applied) -> Result<Digest> {
    Digest::parse(&applied.diff_id)
        .map_err(|invalid| Error::LayerDamaged { id: id.clone(), problem: format!("its diff-id is {invalid}") })
}

/// Stores what the archive of a layer is, and which contents are in it.
pub(super) async fn record(store: &Arc<Store>, id: &LayerId, diff_id: Digest, applied: Applied) -> Result<()> {
    let (description, bytes, toc) = described(id, diff_id, applied).await;
    batch::record(store, vec![(description, bytes)]).await?;
    batch::index(store, vec![(id.clone(), toc)]);
    Ok(())
}

async fn described(id: &LayerId, diff_id: Digest, applied: Applied) -> (Description, Vec<u8>, Toc) {
    let Applied { size, tar_size, toc, .. } = applied;
    let id = id.clone();
    blocking(move || {
        let (bytes, content) = (toc.encode(), hex::encode(toc.digest_without_times()));
        let (digest, toc_size) = (crate::blob::digest(&bytes), bytes.len() as u64);
        (Description { id, diff_id, toc: digest, toc_size, size, tar_size, content }, bytes, toc)
    })
    .await
}
