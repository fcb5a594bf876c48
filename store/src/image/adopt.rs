//! Adoption: what came in becomes images with names. Everything is there and right, but nothing is on disk for sure:
//! one `syncfs` for all of it, then the rows, the names last. Meanwhile the images are [`Arriving`](super::Arriving).

use std::sync::Arc;

use strata_types::{Digest, ImageConfig, LeaseId, Reference};

use super::arriving::Announced;
use super::{Image, made_at};
use crate::catalog::{ImageRow, LayerRow, LayerState, NewImage};
use crate::{Error, Result, Store, blob};

/// Images that came together.
#[derive(Clone, Debug)]
pub struct Adoption {
    /// What the names shall point at: a document that is stored.
    pub target: Digest,
    /// Images whose layers are unpacked.
    pub images: Vec<strata_image::Image>,
    /// All blobs that came, documents included. Those that are not here are passed over.
    pub blobs: Vec<Digest>,
    /// Names to set.
    pub names: Vec<Reference>,
    /// Lease that holds all of it, and the images afterwards.
    pub lease: LeaseId,
}

/// Makes images durable and names them; returns their rows. None of them is named unless all are.
pub async fn adopt(store: &Arc<Store>, adoption: Adoption) -> Result<Vec<ImageRow>> {
    adopt_telling(store, adoption, || ()).await
}

/// As [`adopt`]; tells when containers can start from the images, before they are durable.
pub async fn adopt_telling(
    store: &Arc<Store>,
    adoption: Adoption,
    usable: impl FnOnce() + Send,
) -> Result<Vec<ImageRow>> {
    let Adoption { target, images, blobs, names, lease } = adoption;
    let mut arriving = Vec::with_capacity(images.len());
    let mut is_unsynced = false;
    for image in &images {
        let layers = layers(store, image, &lease).await?;
        is_unsynced |= layers.iter().any(|layer| layer.state == LayerState::Unsynced);
        arriving.push(Image { row: row(store, image, &layers).await?, layers });
    }
    let rows: Vec<ImageRow> = arriving.iter().map(|image| image.row.clone()).collect();
    let _announced = Announced::new(store, arriving, &names, target);
    usable();
    for digest in &blobs {
        is_unsynced = is_unsynced || matches!(store.catalog.blob(digest).await, Ok(row) if !row.is_durable);
    }
    if is_unsynced {
        store.flusher.sync().await?;
        store.catalog.mark_blobs_synced(&blobs).await?;
    }
    let mut made = Vec::with_capacity(rows.len());
    for image in rows {
        let new = NewImage { image, blobs: vec![], documents: vec![], target, lease: Some(lease.clone()) };
        made.push(store.catalog.create_image(new).await?);
    }
    for name in &names {
        store.catalog.set_name(name, &target).await?;
    }
    // With the names that were just set.
    for row in &mut made {
        row.names = store.catalog.names_of_image(&row.id).await?;
    }
    store.collector.wake();
    Ok(made)
}

/// The layers of an image, bottom first.
async fn layers(store: &Arc<Store>, image: &strata_image::Image, lease: &LeaseId) -> Result<Vec<LayerRow>> {
    let mut rows = Vec::with_capacity(image.diff_ids.len());
    for (diff_id, entry) in image.diff_ids.iter().zip(&image.layers) {
        let found = store.catalog.hold_layer_by_diff_id(diff_id, lease).await?;
        rows.push(found.ok_or(Error::BlobNotFound { digest: entry.descriptor.digest })?);
    }
    Ok(rows)
}

async fn row(store: &Arc<Store>, image: &strata_image::Image, layers: &[LayerRow]) -> Result<ImageRow> {
    let id = image.config.digest;
    let config = blob::read(store, &id).await?;
    let config: ImageConfig =
        serde_json::from_slice(&config).map_err(|source| Error::Document { what: "config", digest: id, source })?;
    Ok(ImageRow {
        id,
        manifest: image.manifest.digest,
        manifest_size: image.manifest.size,
        made: config.created.as_deref().and_then(made_at),
        size: layers.iter().map(|layer| layer.size).sum(),
        platform: image.platform.clone(),
        names: Vec::new(),
        layers: layers.iter().map(|layer| layer.id.clone()).collect(),
    })
}
