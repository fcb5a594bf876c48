//! Images: made from layers that are described and on disk, found by name or id, removed by Docker's rules.

mod adopt;
mod arriving;
mod import;
mod load;
mod save;
mod source;
mod unpack;
mod wanted;

use std::sync::Arc;

use strata_image::{Document, Error as ImageError, Limits, Platforms};
use strata_types::{Descriptor, Digest, ImageConfig, LayerId, LeaseId, Manifest, Platform, Reference, media_type};

use crate::catalog::{ImageRow, LayerRow, LayerState, NewDocument, NewImage, Removed, millis};
use crate::disk::{self, Sync};
use crate::{Error, Result, Store, blob, layer};

pub use adopt::{Adoption, adopt, adopt_telling};
pub use arriving::Arriving;
pub use import::{Import, import};
pub use load::{Loaded, load, load_file};
pub(crate) use save::portable;
pub use save::{Save, Saved, save};
pub use source::Source;
pub use unpack::unpack;
pub(crate) use wanted::Wanted;

/// What an image is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Config as OCI JSON; its diff-ids are filled in.
    pub config_json: Vec<u8>,
    /// Layers, bottom first.
    pub layers: Vec<LayerId>,
    /// Names to set.
    pub names: Vec<Reference>,
    /// Lease that holds the layers, and the image afterwards.
    pub lease: LeaseId,
}

/// An image with its layers.
#[derive(Clone, Debug)]
pub struct Image {
    /// The image.
    pub row: ImageRow,
    /// Its layers, bottom first.
    pub layers: Vec<LayerRow>,
}

/// A name in full form, which must have a tag and no digest.
pub fn tag_name(field: &'static str, text: &str) -> Result<Reference> {
    let reference = Reference::parse(text).map_err(Error::field(field))?;
    match (reference.tag(), reference.digest()) {
        (Some(_), None) => Ok(reference),
        _ => Err(Error::invalid(field, format!("{text} is no name with a tag"))),
    }
}

/// Makes an image. Waits for the description of its layers, syncs what is not on disk, then names it in one step.
pub async fn create(store: &Arc<Store>, parts: Parts) -> Result<Image> {
    let mut config: ImageConfig =
        serde_json::from_slice(&parts.config_json).map_err(|error| Error::invalid("config_json", error.to_string()))?;
    store.catalog.hold_layers(&parts.layers, &parts.lease).await?;
    let mut layers = Vec::with_capacity(parts.layers.len());
    for id in &parts.layers {
        layers.push(layer::describe(store, id).await?);
    }
    // All layers are described: what was done to them is known, too.
    store.write_cache_deeds().await?;
    let mut diff_ids = Vec::with_capacity(layers.len());
    let mut descriptors = Vec::with_capacity(layers.len());
    for layer in &layers {
        let problem = || "it has no diff-id".to_owned();
        let diff_id = layer.diff_id.ok_or_else(|| Error::LayerDamaged { id: layer.id.clone(), problem: problem() })?;
        diff_ids.push(diff_id);
        descriptors.push(Descriptor::new(media_type::OCI_LAYER, diff_id, layer.tar_size));
    }
    config.rootfs.diff_ids = diff_ids;
    let config_bytes = to_json(&config)?;
    let id = blob::digest(&config_bytes);
    let config_descriptor = Descriptor::new(media_type::OCI_CONFIG, id, config_bytes.len() as u64);
    let manifest_bytes = to_json(&Manifest::new(config_descriptor, descriptors))?;
    let document = Document::parse(manifest_bytes, media_type::OCI_MANIFEST, &Limits::default())?;
    let manifest = document.descriptor.digest;

    let row = ImageRow {
        id,
        manifest,
        manifest_size: document.descriptor.size,
        made: config.created.as_deref().and_then(made_at),
        size: layers.iter().map(|layer| layer.size).sum(),
        platform: config.platform(),
        names: parts.names.iter().map(Reference::to_string).collect(),
        layers: parts.layers.clone(),
    };
    let sizes = vec![(id, config_bytes.len() as u64), (manifest, row.manifest_size)];
    let is_unsynced = layers.iter().any(|layer| layer.state == LayerState::Unsynced);
    // The guard keeps the collector from taking a file whose row is about to come.
    let _guard = store.placing.read().await;
    place(store, id, config_bytes, is_unsynced).await?;
    let documents = vec![NewDocument::made_here(&document)];
    place(store, manifest, document.bytes, is_unsynced).await?;
    if is_unsynced {
        store.flusher.sync().await?;
    }
    let lease = Some(parts.lease);
    let names = parts.names;
    let new = NewImage { image: row, blobs: sizes, documents, target: manifest, lease };
    let row = store.catalog.create_image(new).await?;
    store.named(&id, &names);
    store.collector.wake();
    let layers = layers.into_iter().map(|layer| LayerRow { state: LayerState::Ready, ..layer }).collect();
    Ok(Image { row, layers })
}

/// Puts a document in its place unless it is there; synced now, or by the `syncfs` that is needed anyway.
async fn place(store: &Arc<Store>, digest: Digest, bytes: Vec<u8>, is_sync_coming: bool) -> Result<()> {
    match store.catalog.blob(&digest).await {
        Ok(row) if row.is_durable && disk::exists(&store.paths.blob(&digest)) => Ok(()),
        Ok(_) | Err(Error::BlobNotFound { .. }) => {
            blob::place(store, bytes, digest, if is_sync_coming { Sync::Later } else { Sync::Now }).await
        }
        Err(error) => Err(error),
    }
}

fn to_json(document: &impl serde::Serialize) -> Result<Vec<u8>> {
    // Documents of this store are maps with text keys, which JSON can always express.
    serde_json::to_vec(document).map_err(|error| Error::invalid("config_json", error.to_string()))
}

/// The time of a config in milliseconds; a malformed one is none.
pub(crate) fn made_at(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(|time| time.as_millisecond())
}

/// Now, as configs say it.
pub(crate) fn now_text() -> String {
    jiff::Timestamp::from_millisecond(millis(std::time::SystemTime::now())).unwrap_or_default().to_string()
}

/// Reads what names an image, and waits for what it names if that arrives now.
pub(crate) async fn wanted(store: &Store, text: &str) -> Result<Wanted> {
    let wanted = Wanted::parse(text)?;
    store.arriving.settled(&wanted).await;
    Ok(wanted)
}

/// Finds an image by name, digest, id or unique prefix of an id; with a lease it is held from this call on. Of several
/// platforms it is the best for this host. One that is here but not unpacked is unpacked first.
pub async fn get(store: &Arc<Store>, reference: &str, lease: Option<LeaseId>) -> Result<Image> {
    get_on(store, reference, Platforms::Host, lease).await
}

/// As [`get`], for other platforms.
pub async fn get_on(
    store: &Arc<Store>,
    reference: &str,
    platforms: Platforms,
    lease: Option<LeaseId>,
) -> Result<Image> {
    let wanted = wanted(store, reference).await?.on(platforms.clone());
    let found = match store.catalog.image(wanted.clone(), lease.clone()).await {
        Err(Error::ImageNotUnpacked { target, reference }) => match unpack(store, &target, platforms.clone()).await {
            Ok(_) => store.catalog.image(wanted, lease).await,
            Err(error) if error.is_missing_blob() => match platforms {
                Platforms::Only(wanted) => {
                    let available = store.catalog.platforms_below(&target).await?;
                    Err(Error::PlatformNotHere { reference, wanted, available })
                }
                Platforms::All | Platforms::Host => Err(Error::ImageNotUnpacked { target, reference }),
            },
            Err(Error::Image(ImageError::NoPlatform { wanted, available, .. })) => {
                Err(ImageError::NoPlatform { what: reference, wanted, available }.into())
            }
            Err(error) => Err(error),
        },
        found => found,
    };
    let (row, layers) = found?;
    Ok(Image { row, layers })
}

/// As [`get_on`], for a container. One that the host takes with it when it goes down starts from an image that is not on
/// disk yet; any other waits for that.
pub async fn get_for_container(
    store: &Arc<Store>,
    reference: &str,
    platforms: Platforms,
    lease: Option<LeaseId>,
    is_volatile: bool,
) -> Result<Image> {
    let wanted = Wanted::parse(reference)?.on(platforms.clone());
    let arriving = if is_volatile { store.arriving.image(&wanted) } else { None };
    match (arriving, &lease) {
        (Some(image), None) => Ok(image),
        // What a lease shall hold has to be in the catalog.
        _ => get_on(store, reference, platforms, lease).await,
    }
}

/// Reads the config of an image: the exact bytes.
pub async fn config_json(store: &Arc<Store>, image: &ImageRow) -> Result<Vec<u8>> {
    blob::read(store, &image.id).await
}

/// Gives an image a further name; returns it, and the id of the image that had the name.
pub async fn tag(store: &Arc<Store>, source: &str, target: &str) -> Result<(ImageRow, Option<Digest>)> {
    let target = tag_name("target", target)?;
    let tagged = store.catalog.tag_image(wanted(store, source).await?, target.to_string()).await?;
    store.named(&tagged.0.id, &[target]);
    Ok(tagged)
}

/// Removes a name, or an image with all its names.
pub async fn remove(store: &Arc<Store>, reference: &str, force: bool) -> Result<Removed> {
    let removed = store.catalog.remove_image(wanted(store, reference).await?, force).await?;
    Ok(told(store, removed))
}

/// Removes what an image has for some platforms, and leaves its names and the rest as they are.
pub async fn remove_platforms(
    store: &Arc<Store>,
    reference: &str,
    platforms: &[Platform],
    force: bool,
) -> Result<Removed> {
    let (wanted, this) = (wanted(store, reference).await?, Arc::clone(store));
    let discard = move |digest: &Digest| this.trash.discard(&this.paths.blob(digest)).map(drop);
    // Nobody may store the same bytes between the end of the rows and the end of the files.
    let guard = store.placing.write().await;
    let removed = store.catalog.remove_variants(wanted, platforms.to_vec(), force, discard).await?;
    drop(guard);
    Ok(told(store, removed))
}

/// Tells of what was removed whoever has to know.
fn told(store: &Store, removed: Removed) -> Removed {
    store.removed(&removed);
    store.build_cache_changed();
    store.collector.wake();
    removed
}

#[cfg(test)]
mod tests;
