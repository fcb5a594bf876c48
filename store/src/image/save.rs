//! Save: images as one archive. Equal images give equal bytes. What came from elsewhere goes as it came; of images made
//! here the layers are compressed first, and the manifest says so.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use strata_archive::Compression;
use strata_image::{Document, Format, Limits, Plan, Platforms, Root};
use strata_types::{Descriptor, LeaseId, Manifest, Reference, media_type};

use super::source::Source;
use super::to_json;
use crate::catalog::{DocumentKind, DocumentRow, Durability, blocking};
use crate::lease::Session;
use crate::{Error, Result, Store, document, layer, remote};

/// What to save.
#[derive(Clone, Debug)]
pub struct Save {
    /// Names, digests or ids; names become names in the archive.
    pub references: Vec<String>,
    /// All that is here of an index, or one platform of each.
    pub platforms: Platforms,
    /// The form of the archive.
    pub format: Format,
    /// What becomes of layers that have no compressed form.
    pub compression: Compression,
}

/// An archive that can be written: everything for it is here, and held.
#[derive(Debug)]
pub struct Saved {
    plan: Plan,
    source: Source,
    format: Format,
    // Held until the archive is written.
    session: Session,
}

/// Prepares an archive: finds the images, checks that all they need is here, compresses what must be.
pub async fn save(store: &Arc<Store>, what: Save) -> Result<Saved> {
    if what.references.is_empty() {
        return Err(Error::invalid("references", "there must be at least one"));
    }
    // Nobody continues an archive that was given up.
    let session = Session::begin(store, "save", Duration::ZERO).await?;
    let lease = &session.lease().id;
    let mut roots: Vec<Root> = Vec::new();
    for reference in &what.references {
        let (row, name) = locate(store, reference, lease).await?;
        let descriptor = portable(store, &row, what.compression, lease).await?;
        match roots.iter_mut().find(|root| root.descriptor.digest == descriptor.digest) {
            Some(root) => root.names.extend(name.filter(|name| !root.names.contains(name))),
            None => roots.push(Root::new(descriptor, name.into_iter().collect())),
        }
    }
    let source = Source::new(store);
    let (platforms, format) = (what.platforms, what.format);
    let (plan, source) = blocking(move || {
        let plan = Plan::new(&source, &roots, &platforms, &Limits::default())?;
        Ok::<_, Error>((plan, source))
    })
    .await?;
    source.bring(&plan, &session.lease().id).await?;
    what.references.iter().for_each(|reference| store.happened("save", reference, reference));
    Ok(Saved { plan, source, format, session })
}

impl Saved {
    /// Writes the archive, on a thread that may block.
    pub fn write(&self, out: impl Write) -> Result<()> {
        strata_image::save::tar(&self.plan, &self.source, self.format, out)?;
        Ok(())
    }

    /// The archive is written: what was made for it alone may go. Without this call it goes as soon.
    pub async fn end(self) -> Result<()> {
        self.session.end().await
    }
}

/// The document that a text leads to, held by the lease, and its name if the text is one.
async fn locate(store: &Arc<Store>, text: &str, lease: &LeaseId) -> Result<(DocumentRow, Option<Reference>)> {
    let (digest, name) = store.catalog.locate_document(super::wanted(store, text).await?).await?;
    let row = store.catalog.hold_document(&digest, lease).await?;
    let row = row.ok_or_else(|| Error::ImageNotFound { reference: text.to_owned() })?;
    let name = name.map(|name| Reference::parse(&name).map_err(Error::field("references"))).transpose()?;
    Ok((row, name))
}

/// A document in the form in which it leaves. Only what was made here changes, as nobody knows it by its digest: the
/// uncompressed layers of images become compressed ones, and indexes point at those images.
pub(crate) fn portable<'a>(
    store: &'a Arc<Store>,
    row: &'a DocumentRow,
    compression: Compression,
    lease: &'a LeaseId,
) -> BoxFuture<'a, Result<Descriptor>> {
    Box::pin(async move {
        match (row.is_made_here && compression != Compression::None, row.kind) {
            (false, _) => Ok(row.descriptor()),
            (true, DocumentKind::Manifest) => portable_manifest(store, row, compression, lease).await,
            (true, DocumentKind::Index) => portable_index(store, row, compression, lease).await,
        }
    })
}

async fn portable_index(
    store: &Arc<Store>,
    row: &DocumentRow,
    compression: Compression,
    lease: &LeaseId,
) -> Result<Descriptor> {
    let mut changed = BTreeMap::new();
    for child in store.catalog.document_children(&row.digest).await? {
        match store.catalog.document(&child.descriptor.digest).await {
            Ok(below) if below.is_made_here => {
                changed.insert(below.digest, portable(store, &below, compression, lease).await?);
            }
            // What is no document, or is not here, stays as it is.
            Ok(_) | Err(Error::DocumentNotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    if changed.iter().all(|(before, after)| *before == after.digest) {
        return Ok(row.descriptor());
    }
    let (_, bytes) = document::read(store, &row.digest).await?;
    let parsed = Document::parse(bytes, &row.media_type, &Limits::default())?;
    let (media_type, bytes) = remote::rewritten(&parsed, &changed, remote::Form::Oci)?;
    Ok(document::put(store, bytes, &media_type, lease, Durability::Relaxed).await?.descriptor())
}

async fn portable_manifest(
    store: &Arc<Store>,
    row: &DocumentRow,
    compression: Compression,
    lease: &LeaseId,
) -> Result<Descriptor> {
    let (_, bytes) = document::read(store, &row.digest).await?;
    let failed = |source| Error::Document { what: "manifest", digest: row.digest, source };
    let mut manifest: Manifest = serde_json::from_slice(&bytes).map_err(failed)?;
    for descriptor in manifest.layers.iter_mut().filter(|layer| layer.media_type == media_type::OCI_LAYER) {
        // An uncompressed layer's digest is its diff-id.
        let diff_id = descriptor.digest;
        let compressed = layer::archive(store, &diff_id, compression, lease).await?;
        *descriptor = compressed.ok_or(Error::BlobNotFound { digest: diff_id })?;
    }
    let bytes = to_json(&manifest)?;
    let new = document::put(store, bytes, media_type::OCI_MANIFEST, lease, Durability::Relaxed).await?;
    Ok(new.descriptor())
}
