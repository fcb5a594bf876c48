//! What an image is at its registry, before any of its layers is needed.

use std::sync::Arc;

use bytes::Bytes;
use strata_image::{Image, Platforms, Root};
use strata_types::{Descriptor, Reference};

use super::{Identity, documents, target};
use crate::{Error, Result, Store};

/// An image at its registry.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The manifest or index that the reference stands for.
    pub target: Descriptor,
    /// The image that was chosen of it.
    pub image: Image,
    /// Its config, as the registry has it.
    pub config: Bytes,
}

/// Fetches the documents of an image; nothing is kept.
///
/// # Errors
///
/// Those of the registry; [`strata_image::Error::NoPlatform`]; what is malformed about the documents.
pub async fn resolve(
    store: &Arc<Store>,
    reference: &Reference,
    platforms: Platforms,
    identity: &Identity,
) -> Result<Resolved> {
    let repository = store.remotes.repository(reference, identity)?;
    let root = repository.manifest(&target(reference)).await?;
    let target = Descriptor::new(&*root.media_type, root.digest, root.bytes.len() as u64);
    let named = Root::new(target.clone(), vec![reference.clone()]);
    let mut planned = documents::plan(store, Arc::new(repository), named, root.bytes, platforms).await?;
    let no_image = || Error::ImageNotFound { reference: reference.to_string() };
    let image = planned.images().into_iter().next().ok_or_else(no_image)?;
    let digest = image.config.digest;
    let config = planned.documents.remove(&digest).ok_or(Error::BlobNotFound { digest })?;
    Ok(Resolved { target, image, config })
}
